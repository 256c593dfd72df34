#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "a test fails where it panics")]

use proptest::{prelude::*, test_runner::TestRunner};

use super::*;
use crate::directory::HEADER_BYTES;
use crate::{PackedRows, PackedRowsWriter, PackedValues};

/// Every way of decoding that this processor has.
fn every_way<G: GeneId>() -> Vec<Decode<G>> {
    let mut ways: Vec<Decode<G>> = vec![portable::decode::<G>];
    #[cfg(target_arch = "x86_64")]
    {
        if avx2::is_available() {
            ways.push(avx2::decode::<G>);
        }
        if vbmi2::is_available() {
            ways.push(vbmi2::decode::<G>);
        }
    }
    ways
}

/// The ids and values of rows.
type Rows<V> = Vec<(Vec<u32>, Vec<V>)>;

fn packed(rows: usize, genes: u32, push: impl FnOnce(&mut PackedRowsWriter<'_>)) -> (Vec<u8>, usize) {
    let mut bytes = Vec::new();
    let mut writer = PackedRowsWriter::new(&mut bytes, rows, genes);
    push(&mut writer);
    let length = writer.finish().unwrap();
    bytes.resize(length + SLACK, 0xee);
    (bytes, length)
}

fn check_counts<G: GeneId + TryFrom<u32>>(rows: &Rows<u32>, genes: u32) {
    let (bytes, length) = packed(rows.len(), genes, |writer| {
        rows.iter().for_each(|(ids, counts)| writer.push(ids, PackedValues::Counts(counts)).unwrap());
    });
    let block = PackedRows::new(&bytes, length, rows.len(), genes).unwrap();
    for way in every_way::<G>() {
        let (mut ids, mut counts, mut wide) = (Vec::<G>::new(), Vec::new(), Vec::new());
        (0..rows.len())
            .for_each(|row| block.row(row).unwrap().append_counts_by(way, &mut ids, &mut counts, &mut wide).unwrap());
        let ids: Vec<u32> = ids.into_iter().map(Into::into).collect();
        assert_eq!(ids, rows.iter().flat_map(|(ids, _)| ids.clone()).collect::<Vec<_>>());
        let mut found: Vec<u32> = counts.iter().map(|count| u32::from(*count)).collect();
        assert!(wide.iter().all(|wide| found[wide.entry] == WIDE && WIDE <= wide.count));
        wide.iter().for_each(|wide| found[wide.entry] = wide.count);
        assert_eq!(found, rows.iter().flat_map(|(_, counts)| counts.clone()).collect::<Vec<_>>());
    }
    assert_eq!(block.entries(), rows.iter().map(|(ids, _)| ids.len() as u64).sum::<u64>());
}

fn check_floats<G: GeneId>(rows: &Rows<f32>, genes: u32) {
    let (bytes, length) = packed(rows.len(), genes, |writer| {
        rows.iter().for_each(|(ids, values)| writer.push(ids, PackedValues::Floats(values)).unwrap());
    });
    let block = PackedRows::new(&bytes, length, rows.len(), genes).unwrap();
    for way in every_way::<G>() {
        let (mut ids, mut values) = (Vec::<G>::new(), Vec::new());
        (0..rows.len()).for_each(|row| block.row(row).unwrap().append_floats_by(way, &mut ids, &mut values).unwrap());
        assert!(ids.into_iter().map(Into::into).eq(rows.iter().flat_map(|(ids, _)| ids.iter().copied())));
        let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&values), rows.iter().flat_map(|(_, values)| bits(values)).collect::<Vec<_>>());
    }
}

/// Numbers of genes around every border of the format.
const GENES: [u32; 11] = [1, 2, 7, 64, 500, 1267, 5000, 40_000, 65_536, 65_537, 200_000];

/// Ids of a row: each gene with this probability in a thousand.
fn ids(genes: u32, thousandths: u32) -> impl Strategy<Value = Vec<u32>> {
    any::<u64>().prop_map(move |seed| {
        let mut state = seed | 1;
        let mut draw = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 33) as u32 % 1000
        };
        (0..genes).filter(|_| draw() < thousandths).collect()
    })
}

fn rows() -> impl Strategy<Value = (u32, Rows<u32>)> {
    let count = prop_oneof![
        12 => 1_u32..4,
        3 => 0_u32..300,
        1 => prop_oneof![Just(0), Just(254), Just(255), Just(256), Just(u32::MAX), any::<u32>()],
    ];
    let thousandths = prop_oneof![Just(0), Just(1), Just(10), Just(100), Just(300), Just(999), Just(1000)];
    prop::sample::select(&GENES[..]).prop_flat_map(move |genes| {
        let counts = count.clone();
        let row = thousandths.clone().prop_flat_map(move |thousandths| {
            let counts = counts.clone();
            ids(genes, thousandths).prop_flat_map(move |ids| {
                let counts = prop::collection::vec(counts.clone(), ids.len());
                (Just(ids), counts)
            })
        });
        (Just(genes), prop::collection::vec(row, 1..4))
    })
}

#[test]
fn rows_of_any_shape_are_decoded_as_they_were_packed() {
    let mut runner = TestRunner::new(ProptestConfig { cases: 24, max_shrink_iters: 50, ..ProptestConfig::default() });
    let same = |(genes, rows): (u32, Rows<u32>)| {
        let floats: Rows<f32> = rows
            .iter()
            .map(|(ids, counts)| (ids.clone(), counts.iter().map(|count| f32::from_bits(*count)).collect()))
            .collect();
        if genes <= 65_536 {
            check_counts::<u16>(&rows, genes);
            check_floats::<u16>(&floats, genes);
        } else {
            check_counts::<u32>(&rows, genes);
            check_floats::<u32>(&floats, genes);
        }
        Ok(())
    };
    runner.run(&rows(), same).unwrap();
}

#[test]
fn a_typical_row_takes_a_third_of_its_raw_bytes() {
    // 450 of 5,000 genes, nearly all of one to three molecules.
    let ids: Vec<u32> = (0..450).map(|entry| entry * 11 + entry % 7).collect();
    let counts: Vec<u32> = (0..450).map(|entry| if entry % 50 == 0 { 20 } else { 1 + entry % 3 / 2 }).collect();
    let (_, length) = packed(1, 5000, |writer| writer.push(&ids, PackedValues::Counts(&counts)).unwrap());
    assert!(length - 2 * HEADER_BYTES <= 450 * 3 * 36 / 100, "{length} bytes");
}

#[test]
fn ids_beyond_the_genes_are_refused() {
    // One row of the last gene: its id as it is for many genes, else its low bits in the row's second byte.
    for (genes, id_bytes) in [(100, 1..2), (5000, 0..2), (70_000, 0..4)] {
        let (mut bytes, length) =
            packed(1, genes, |writer| writer.push(&[genes - 1], PackedValues::Counts(&[1])).unwrap());
        let is_refused = |bytes: &[u8]| {
            let block = PackedRows::new(bytes, length, 1, genes).unwrap();
            let row = block.row(0).unwrap();
            let decoded = match crate::encode::id_bytes(genes) {
                2 => row.append_counts::<u16>(&mut Vec::new(), &mut Vec::new(), &mut Vec::new()),
                _ => row.append_counts::<u32>(&mut Vec::new(), &mut Vec::new(), &mut Vec::new()),
            };
            decoded == Err(InvalidRow)
        };
        assert!(!is_refused(&bytes), "{genes} genes");
        bytes[2 * HEADER_BYTES..][id_bytes].fill(0xff);
        assert!(is_refused(&bytes), "{genes} genes");
    }
}

/// Memory that ends where a page begins that can't be accessed.
struct Guarded {
    pages: *mut libc::c_void,
    mapped: usize,
    start: usize,
}

impl Guarded {
    fn new(bytes: usize) -> Self {
        let mapped = bytes.next_multiple_of(4096) + 4096;
        // SAFETY: new pages, the last of which is made inaccessible.
        unsafe {
            let (access, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
            let pages = libc::mmap(std::ptr::null_mut(), mapped, access, flags, -1, 0);
            assert_ne!(pages, libc::MAP_FAILED);
            assert_eq!(libc::mprotect(pages.add(mapped - 4096), 4096, libc::PROT_NONE), 0);
            Self { pages, mapped, start: mapped - 4096 - bytes }
        }
    }

    fn start(&self) -> *mut u8 {
        // SAFETY: within the pages.
        unsafe { self.pages.cast::<u8>().add(self.start) }
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        // SAFETY: they were mapped as a whole.
        unsafe { libc::munmap(self.pages, self.mapped) };
    }
}

fn damage<G: GeneId>(genes: u32, ids: &[u32], counts: &[u32], seed: u64) {
    let (bytes, length) = packed(1, genes, |writer| writer.push(ids, PackedValues::Counts(counts)).unwrap());
    let (header, row) = (RowHeader::from_bytes(bytes[..8].try_into().unwrap()), &bytes[2 * HEADER_BYTES..length]);
    let memory = Guarded::new(row.len() + SLACK);
    // SAFETY: the memory is as long, and nobody else's.
    let damaged = unsafe { std::slice::from_raw_parts_mut(memory.start(), row.len() + SLACK) };
    let mut state = seed | 1;
    let mut draw = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 17) as usize % below
    };
    for way in every_way::<G>() {
        for _ in 0..40 {
            damaged[..row.len()].copy_from_slice(row);
            damaged[row.len()..].fill(draw(256) as u8);
            let mut header = header;
            match draw(6) {
                0 => header.entries = draw(70_000) as u32,
                1 => header.gene_code = draw(16) as u8,
                2 => header.count_bits = draw(8) as u8,
                3 => header.has_wide = !header.has_wide,
                4 => damaged[..row.len()].fill(if draw(2) == 0 { 0 } else { 0xff }),
                _ => {}
            }
            for _ in 0..draw(8) {
                damaged[draw(row.len())] = draw(256) as u8;
            }
            let row = PackedRow::new(damaged, row.len(), header, genes);
            let entries = row.entries();
            let (ids, counts) = (Guarded::new(size_of::<G>() * (entries + SLACK)), Guarded::new(entries + SLACK));
            // SAFETY: there is as much room as is asked for, and what follows it can't be accessed: a write there would end the
            // test.
            let _ = unsafe { way(&row, ids.start().cast(), counts.start(), draw(2) == 0) };
            let (mut ids, mut counts, mut wide) = (vec![], vec![], vec![]);
            let decoded = row.append_counts_by(way, &mut ids, &mut counts, &mut wide);
            let appended = if decoded.is_ok() { entries } else { 0 };
            assert_eq!((ids.len(), counts.len()), (appended, appended));
            assert!(ids.into_iter().all(|id: G| id.into() < genes));
        }
    }
}

#[test]
fn damaged_rows_are_refused_or_name_genes_and_touch_nothing_else() {
    let mut runner = TestRunner::new(ProptestConfig { cases: 12, max_shrink_iters: 20, ..ProptestConfig::default() });
    let keeps = |((genes, rows), seed): ((u32, Rows<u32>), u64)| {
        for (ids, counts) in rows.iter().filter(|(ids, _)| !ids.is_empty()) {
            match id_bytes(genes) {
                2 => damage::<u16>(genes, ids, counts, seed),
                _ => damage::<u32>(genes, ids, counts, seed),
            }
        }
        Ok(())
    };
    runner.run(&(rows(), any::<u64>()), keeps).unwrap();
}
