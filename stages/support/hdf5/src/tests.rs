//! Data read without libhdf5 are equal to those read by libhdf5.
#![allow(clippy::unwrap_used, reason = "a test fails where it panics")]

use std::{fs, ops::Range, path::Path, sync::Arc};

use arrays::{numbers::Numbers as _, place::ObjectPlace, stored_numbers::StoredNumbers};
use hdf5_metno::{Dataset, File, H5Type};
use proptest::prelude::*;
use schemas::atlas::StoredChunk;

use super::{DatasetNumbers, LibraryNumber, numbers::LibraryNumbers};

/// How a dataset is stored.
#[derive(Clone, Debug)]
struct Stored {
    chunk: Option<Vec<usize>>,
    shuffle: bool,
    fletcher: bool,
    compression: Compression,
}

#[derive(Clone, Copy, Debug)]
enum Compression {
    None,
    Deflate,
    Lzf,
}

fn write<T: H5Type + Copy>(file: &File, name: &str, shape: &[usize], values: &[T], stored: &Stored) -> Dataset {
    let mut builder = file.new_dataset::<T>().shape(shape.to_vec());
    if let Some(chunk) = &stored.chunk {
        builder = builder.chunk(chunk.clone());
        if stored.shuffle {
            builder = builder.shuffle();
        }
        builder = match stored.compression {
            Compression::None => builder,
            Compression::Deflate => builder.deflate(4),
            Compression::Lzf => builder.lzf(),
        };
        if stored.fletcher {
            builder = builder.fletcher32();
        }
    }
    let dataset = builder.create(name).unwrap();
    dataset.write_raw(values).unwrap();
    file.flush().unwrap();
    dataset
}

fn read<T: LibraryNumber>(numbers: &DatasetNumbers, rows: Range<u64>) -> Vec<T> {
    let mut out = Vec::new();
    numbers.read(rows, &mut out).unwrap();
    out
}

fn place(dataset: &Dataset) -> ObjectPlace {
    ObjectPlace::root(Path::new(&dataset.filename()))
}

fn reads_as_libhdf5_does<T: LibraryNumber + PartialEq + std::fmt::Debug>(dataset: &Dataset, ranges: &[Range<u64>]) {
    let place = place(dataset);
    let direct = DatasetNumbers::open(dataset.clone(), place.clone()).unwrap();
    let library = DatasetNumbers::Library(LibraryNumbers::open(dataset.clone(), place.clone()).unwrap());
    assert!(matches!(direct, DatasetNumbers::Direct(_)));
    let mut chunks = vec![StoredChunk { address: 0, bytes: 0, left_out: 0 }];
    let reopened = {
        let array = direct.stored(&mut chunks).unwrap();
        let (file, length) =
            (fs::File::open(dataset.filename()).unwrap(), fs::metadata(dataset.filename()).unwrap().len());
        let reopen = |length| {
            StoredNumbers::reopen(&array, &chunks[1..], Arc::new(file.try_clone().unwrap()), length, place.clone())
        };
        assert!(array.rows * array.columns == 0 || reopen(8).is_err(), "a file that is too short is refused");
        DatasetNumbers::Direct(reopen(length).unwrap())
    };
    for range in ranges {
        let expected = read::<T>(&library, range.clone());
        assert_eq!(read::<T>(&direct, range.clone()), expected, "{range:?}");
        assert_eq!(read::<T>(&reopened, range.clone()), expected, "{range:?} reopened");
    }
}

fn stored(dimensions: usize) -> impl Strategy<Value = Stored> {
    let chunk = prop::option::weighted(0.8, prop::collection::vec(1_usize..20, dimensions));
    let compression = prop_oneof![Just(Compression::None), Just(Compression::Deflate), Just(Compression::Lzf)];
    (chunk, any::<bool>(), any::<bool>(), compression).prop_map(|(chunk, shuffle, fletcher, compression)| Stored {
        chunk,
        shuffle,
        fletcher,
        compression,
    })
}

/// Writes the same small numbers as every number type, and reads each as every type that can be requested.
fn every_type_reads_as_libhdf5_does(shape: &[usize], values: &[i8], stored: &Stored, ranges: &[Range<u64>]) {
    let folder = tempfile::tempdir().unwrap();
    let file = super::create(&folder.path().join("a.h5")).unwrap();
    macro_rules! check {
        ($($stored:ty),+) => {$(
            #[allow(clippy::unnecessary_cast, reason = "one cast for all types")]
            let numbers: Vec<$stored> = values.iter().map(|value| *value as $stored).collect();
            let dataset = write(&file, stringify!($stored), shape, &numbers, stored);
            reads_as_libhdf5_does::<f32>(&dataset, ranges);
            reads_as_libhdf5_does::<f64>(&dataset, ranges);
            reads_as_libhdf5_does::<i64>(&dataset, ranges);
            let ids = DatasetNumbers::open(dataset.clone(), place(&dataset)).unwrap();
            for range in ranges {
                let expected: Vec<i64> = read(&ids, range.clone());
                let found: Vec<u32> = read(&ids, range.clone());
                for (expected, found) in expected.into_iter().zip(found) {
                    assert!(i64::from(found) == expected || (i64::from(i32::MAX) < i64::from(found) && !(0..1 << 31).contains(&expected)));
                }
            }
        )+};
    }
    check!(i8, i16, i32, i64, u8, u16, u32, u64, f32, f64);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn vectors_of_every_type_chunk_and_filter_read_as_libhdf5_reads_them(
        values in prop::collection::vec(any::<i8>(), 1..90),
        stored in stored(1),
        start in 0_u64..90,
        length in 0_u64..90,
    ) {
        let rows = values.len() as u64;
        let start = start.min(rows);
        let ranges = [0..rows, start..rows.min(start + length), rows..rows];
        let stored = Stored { chunk: stored.chunk.map(|chunk| vec![chunk[0].min(values.len())]), ..stored };
        every_type_reads_as_libhdf5_does(&[values.len()], &values, &stored, &ranges);
    }

    #[test]
    fn matrices_of_every_type_chunk_and_filter_read_as_libhdf5_reads_them(
        columns in 1_usize..24,
        values in prop::collection::vec(any::<i8>(), 24..400),
        stored in stored(2),
        start in 0_u64..20,
        length in 0_u64..20,
    ) {
        let rows = values.len() / columns;
        let stored = Stored {
            chunk: stored.chunk.map(|chunk| vec![chunk[0].min(rows), chunk[1].min(columns)]),
            ..stored
        };
        let (start, all) = (start.min(rows as u64), rows as u64);
        let ranges = [0..all, start..all.min(start + length)];
        every_type_reads_as_libhdf5_does(&[rows, columns], &values[..rows * columns], &stored, &ranges);
    }
}

#[test]
fn what_is_unusual_is_left_to_libhdf5() {
    let folder = tempfile::tempdir().unwrap();
    let file = super::create(&folder.path().join("a.h5")).unwrap();
    let unwritten = file.new_dataset::<f32>().shape(100).chunk(10).create("unwritten").unwrap();
    let packed = file.new_dataset::<i32>().shape(100).chunk(10).nbit().create("packed").unwrap();
    packed.write_raw(&(0..100).collect::<Vec<i32>>()).unwrap();
    for (dataset, sum) in [(unwritten, 0), (packed, 4950)] {
        let numbers = DatasetNumbers::open(dataset.clone(), place(&dataset)).unwrap();
        assert!(matches!(numbers, DatasetNumbers::Library(_)));
        assert_eq!(read::<i64>(&numbers, 0..100).iter().sum::<i64>(), sum);
    }
}

#[test]
fn bytes_after_a_user_block_are_found() {
    let folder = tempfile::tempdir().unwrap();
    let file =
        hdf5_metno::FileBuilder::new().with_fcpl(|create| create.userblock(1024)).create(folder.path().join("a.h5"));
    let file = file.unwrap();
    let values: Vec<i8> = (0..100).collect();
    for (name, chunk) in [("whole", None), ("chunked", Some(vec![7]))] {
        let stored = Stored { chunk, shuffle: false, fletcher: false, compression: Compression::Deflate };
        reads_as_libhdf5_does::<f32>(&write(&file, name, &[100], &values, &stored), &[0..100, 3..50]);
    }
}

#[test]
fn a_file_that_is_cut_or_damaged_after_it_was_opened_is_an_error_that_names_the_place() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.h5");
    let values: Vec<i32> = (0..50_000).collect();
    let file = super::create(&path).unwrap();
    for (name, chunk) in [("whole", None), ("chunked", Some(vec![50_000]))] {
        let stored = Stored { chunk, shuffle: true, fletcher: false, compression: Compression::Deflate };
        write(&file, name, &[values.len()], &values, &stored);
    }
    file.close().unwrap();
    let file = super::open(&path).unwrap();
    let numbers = ["whole", "chunked"].map(|name| {
        let place = ObjectPlace::root(&path).child(name);
        DatasetNumbers::open(file.dataset(name).unwrap(), place).unwrap()
    });
    let bytes = std::fs::read(&path).unwrap();
    for (length, name, words) in [(4096, "whole", "can't be read"), (4096, "chunked", "beyond the end of the file")] {
        std::fs::write(&path, &bytes[..length]).unwrap();
        let numbers = numbers.iter().find(|numbers| numbers.place().to_string().ends_with(name)).unwrap();
        let error = numbers.read(0..50_000, &mut Vec::<i64>::new()).unwrap_err();
        assert!(error.to_string().contains(name) && error.to_string().contains(words), "{error}");
    }
    let zeros = vec![0; bytes.len()];
    std::fs::write(&path, zeros).unwrap();
    let error = numbers[1].read(0..50_000, &mut Vec::<i64>::new()).unwrap_err();
    assert!(error.to_string().contains("chunk 0 can't be decompressed"), "{error}");
}
