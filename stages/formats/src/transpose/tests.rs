use std::collections::BTreeMap;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;

fn create(rows: u64, genes: u32, entries: u64) -> Result<Transposer> {
    Transposer::create("m", rows, genes, entries, &Interrupt::default())
}

fn row_ranges(matrix: &Transposed) -> Vec<Range<u64>> {
    let mut starts = vec![0];
    while starts.last() < Some(&matrix.rows()) {
        starts.push(matrix.range_end(starts[starts.len() - 1]).expect("a row of the matrix"));
    }
    starts.windows(2).map(|pair| pair[0]..pair[1]).collect()
}

fn entries_of(rows: &CsrRows, first: u64) -> Vec<(u64, u32, f32)> {
    let row_entries = |row: usize| {
        let (genes, values) = rows.row(row);
        genes.iter().zip(values).map(move |(gene, value)| (first + row as u64, *gene, *value))
    };
    (0..rows.rows()).flat_map(row_entries).collect()
}

/// Pushes random entries, some of them twice, and returns what must be read back.
fn random(rows: u64, genes: u32, entries: u64) -> (Transposed, Vec<(u64, u32, f32)>) {
    let mut random = ChaCha8Rng::seed_from_u64(7);
    let mut matrix = create(rows, genes, entries).expect("a scratch file");
    let mut expected = BTreeMap::new();
    for _ in 0..entries {
        let (row, gene) = (random.random_range(0..rows), random.random_range(0..genes));
        let value = f32::from(random.random_range(1..100_u8));
        matrix.push(row, gene, value).expect("a good entry");
        *expected.entry((row, gene)).or_insert(0.0) += value;
    }
    let matrix = matrix.finish().expect("the disk has room");
    assert_eq!(matrix.entries(), entries);
    (matrix, expected.into_iter().map(|((row, gene), value)| (row, gene, value)).collect())
}

#[test]
fn entries_in_any_order_are_read_back_by_rows_and_add_up() {
    // The second case has keys of 64 bits, the third more than one bucket, the last hardly any entries.
    for (rows, genes, entries) in [(50, 20, 3000), (3000, 2_000_000, 20_000), (20_000, 300, 100_000), (90_000, 9, 5)] {
        let (matrix, expected) = random(rows, genes, entries);
        let mut read = Vec::new();
        let mut spare = CsrRows::default();
        for range in row_ranges(&matrix) {
            spare = matrix.expression(range.clone(), spare).expect("a range of the matrix");
            assert_eq!(spare.rows() as u64, range.end - range.start);
            read.extend(entries_of(&spare, range.start));
        }
        assert!(read == expected, "{rows} rows, {genes} genes");
    }
}

#[test]
fn any_range_of_rows_can_be_read() {
    let (matrix, expected) = random(20_000, 300, 50_000);
    for range in [0..1, 8191..8193, 100..19_999, 0..20_000, 5..5, 20_000..20_000] {
        let read = matrix.expression(range.clone(), CsrRows::default()).expect("a range of the matrix");
        let expected: Vec<_> = expected.iter().copied().filter(|(row, _, _)| range.contains(row)).collect();
        assert!(entries_of(&read, range.start) == expected, "{range:?}");
    }
}

#[test]
fn a_bucket_with_more_entries_than_were_announced_is_read_in_pieces() {
    let mut matrix = create(100, 50_000, 1).expect("a scratch file");
    for gene in 0..30_000 {
        (0..100).for_each(|row| matrix.push(row, gene, 1.0).expect("a good entry"));
    }
    let matrix = matrix.finish().expect("the disk has room");
    let ranges = row_ranges(&matrix);
    assert_eq!(ranges, [0..34, 34..68, 68..100]);
    let read = matrix.expression(34..68, CsrRows::default()).expect("a range");
    assert!((0..34).all(|row| read.row(row).0.len() == 30_000));
}

#[test]
fn sizes_that_a_file_claims_cost_nothing() {
    let matrix = create(MOST_ROWS, u32::MAX, u64::MAX >> 1).expect("a scratch file");
    let matrix = matrix.finish().expect("nothing to write");
    assert_eq!(matrix.range_end(0).expect("the first range"), MOST_RANGE_ROWS);
    assert!(create(MOST_ROWS + 1, 1, 1).is_err());
    let none = create(0, 0, 0).expect("a scratch file").finish().expect("nothing to write");
    assert_eq!((none.rows(), none.entries()), (0, 0));
}

#[test]
fn an_entry_outside_the_matrix_is_no_entry() {
    let mut matrix = create(2, 3, 1).expect("a scratch file");
    assert!(matrix.push(2, 0, 1.0).is_err() && matrix.push(0, 3, 1.0).is_err());
    matrix.push(1, 2, 1.0).expect("the last place");
}

#[test]
fn a_matrix_in_the_making_has_no_name_on_disk() {
    let matrix = create(10, 10, 10).expect("a scratch file");
    assert!(!matrix.scratch.file.path().exists());
    assert!(!matrix.scratch.file.path().parent().expect("a folder").exists());
}
