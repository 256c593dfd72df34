//! Refusals, one kind at a time: valid files in which a few bytes were changed.

use std::path::Path;

use hdf5_metno::File;

use super::{
    super::{check, checksum::lookup3},
    Style, file, refused,
};

/// The first position of a pattern, searching from `from` on.
#[track_caller]
fn find(bytes: &[u8], pattern: &[u8], from: usize) -> usize {
    from + bytes[from..].windows(pattern.len()).position(|window| window == pattern).expect("the bytes are there")
}

/// Changes a valid file and asserts that the refusal contains these words.
#[track_caller]
fn changed(style: Style, change: impl FnOnce(&mut Vec<u8>), words: &[&str]) {
    let (_folder, path) = file(style);
    let mut bytes = std::fs::read(&path).unwrap();
    change(&mut bytes);
    std::fs::write(&path, bytes).unwrap();
    says(&refused(&path), words);
}

#[track_caller]
fn says(message: &str, words: &[&str]) {
    for word in words {
        assert!(message.contains(word), "`{word}` is not in: {message}");
    }
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}

/// Flips a bit `offset` bytes after the first occurrence of a signature.
fn flip(bytes: &mut [u8], signature: &[u8], offset: usize) {
    let at = find(bytes, signature, 0) + offset;
    bytes[at] ^= 8;
}

/// Writes the checksum of `length` bytes, which start at a position, right behind them.
fn sum(bytes: &mut [u8], at: usize, length: usize) {
    let sum = lookup3(&bytes[at..at + length]).to_le_bytes();
    put(bytes, at + length, &sum);
}

#[test]
fn addresses_outside_of_the_file() {
    // The root group's address in the superblock; then a B-tree's address in a symbol table message.
    changed(Style::Old, |bytes| put(bytes, 64, &(1_u64 << 40).to_le_bytes()), &["outside of the file", "is damaged"]);
    changed(
        Style::Old,
        |bytes| {
            let tree = find(bytes, b"TREE", 0) as u64;
            let message = find(bytes, &tree.to_le_bytes(), 96);
            put(bytes, message, &u64::MAX.to_le_bytes()[..7]);
        },
        &["outside of the file", "at byte"],
    );
}

#[test]
fn wrong_signatures_versions_and_checksums() {
    for signature in [b"TREE", b"SNOD", b"HEAP", b"GCOL"] {
        changed(Style::Old, |bytes| flip(bytes, signature, 0), &["is damaged at byte", "is there"]);
    }
    changed(Style::Old, |bytes| bytes[8] = 9, &["version 9 of the superblock"]);
    for signature in [b"OHDR", b"FRHP", b"BTHD", b"BTLF", b"FAHD", b"FADB", b"EAHD", b"EAIB", b"EADB"] {
        // The version follows the signature.
        changed(Style::New, |bytes| flip(bytes, signature, 4), &["is damaged at byte"]);
        changed(Style::New, |bytes| flip(bytes, signature, 6), &["checksum does not match"]);
    }
}

#[test]
fn names_and_free_space_that_leave_their_heap() {
    let heap = |bytes: &[u8]| find(bytes, b"HEAP", 0);
    let number = |bytes: &[u8], at: usize| u64::from_le_bytes(*bytes[at..].first_chunk().unwrap());
    changed(
        Style::Old,
        |bytes| {
            let at = heap(bytes) + 16;
            put(bytes, at, &(1_u64 << 20).to_le_bytes());
        },
        &["free space at 1048576 leaves the local heap"],
    );
    changed(
        Style::Old,
        |bytes| {
            // A free block whose next one is itself.
            let heap = heap(bytes);
            let data = usize::try_from(number(bytes, heap + 24)).unwrap();
            let room = 16_u64;
            put(bytes, heap + 16, &room.to_le_bytes());
            put(bytes, data + 16, &[room.to_le_bytes(), 16_u64.to_le_bytes()].concat());
        },
        &["leads in circles"],
    );
    changed(
        Style::Old,
        |bytes| {
            let entry = find(bytes, b"SNOD", 0) + 8;
            put(bytes, entry, &(1_u64 << 30).to_le_bytes());
        },
        &["the name at 1073741824 leaves its heap"],
    );
    changed(
        Style::Old,
        |bytes| {
            let heap = heap(bytes);
            let [length, data] = [8, 24].map(|at| usize::try_from(number(bytes, heap + at)).unwrap());
            put(bytes, heap + 16, &1_u64.to_le_bytes());
            bytes[data..data + length].fill(b'x');
        },
        &["leaves its heap"],
    );
}

#[test]
fn nodes_with_more_entries_than_fit_and_trees_in_circles() {
    changed(
        Style::Old,
        |bytes| {
            let node = find(bytes, b"SNOD", 0);
            put(bytes, node + 6, &u16::MAX.to_le_bytes());
        },
        &["65535 entries, where 8 fit"],
    );
    changed(
        Style::Old,
        |bytes| {
            let node = find(bytes, b"TREE", 0);
            put(bytes, node + 6, &1000_u16.to_le_bytes());
        },
        &["1000 children, where 32 fit"],
    );
    changed(
        Style::Old,
        |bytes| {
            // A node that is its own child.
            let node = find(bytes, b"TREE", 0);
            bytes[node + 5] = 1;
            put(bytes, node + 32, &(node as u64).to_le_bytes());
        },
        &["is damaged at byte"],
    );
}

#[test]
fn one_place_that_would_be_two_things() {
    changed(
        Style::Old,
        |bytes| {
            // The names of the root group are moved to where its tree begins.
            let (tree, heap) = (find(bytes, b"TREE", 0) as u64, find(bytes, b"HEAP", 0));
            put(bytes, heap + 16, &[1, tree].map(u64::to_le_bytes).concat());
        },
        &["something else (local heap's names)", "is damaged at byte"],
    );
}

#[test]
fn sizes_that_contradict_one_another() {
    // The first message of the root group, which claims to be longer than the header.
    changed(
        Style::Old,
        |bytes| {
            let root = usize::try_from(u64::from_le_bytes(*bytes[64..].first_chunk().unwrap())).unwrap();
            put(bytes, root + 18, &0xfff8_u16.to_le_bytes());
        },
        &["runs past the end of its block"],
    );
    // A heap with a declared size of 2^200 bytes.
    changed(
        Style::Middle,
        |bytes| {
            let heap = find(bytes, b"FRHP", 0);
            put(bytes, heap + 128, &200_u16.to_le_bytes());
            sum(bytes, heap, 142);
        },
        &["a fractal heap of 2^200 bytes"],
    );
    // A B-tree whose nodes are too small for a record.
    changed(
        Style::Middle,
        |bytes| {
            let tree = find(bytes, b"BTHD", 0);
            put(bytes, tree + 6, &9_u32.to_le_bytes());
            sum(bytes, tree, 34);
        },
        &["where nothing fits"],
    );
    // An array of chunks whose pages have 2^255 elements.
    changed(
        Style::New,
        |bytes| {
            let array = find(bytes, b"FAHD", 0);
            bytes[array + 7] = 255;
            sum(bytes, array, 24);
        },
        &["an array of", "for 13 chunks"],
    );
    // Arrays with fewer elements than there are chunks.
    changed(
        Style::New,
        |bytes| {
            let array = find(bytes, b"FAHD", 0);
            put(bytes, array + 8, &12_u64.to_le_bytes());
            sum(bytes, array, 24);
        },
        &["an array of 12 elements", "for 13 chunks"],
    );
    changed(
        Style::New,
        |bytes| {
            let array = find(bytes, b"EAHD", 0);
            put(bytes, array + 44, &u64::MAX.to_le_bytes());
            sum(bytes, array, 68);
        },
        &["elements of an array that has room for"],
    );
}

/// Writes a file with one dataset, and returns the refusal.
#[track_caller]
fn written(write: impl FnOnce(&File, &Path)) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.h5");
    let file = File::create(&path).unwrap();
    write(&file, folder.path());
    file.close().unwrap();
    refused(&path)
}

#[test]
fn what_leads_to_other_files() {
    let message = written(|file, _| file.link_external("other.h5", "/X", "X").unwrap());
    says(&message, &["`X` is a link to another file"]);
    let message = written(|file, _| {
        let builder = file.new_dataset::<u8>().shape(8).with_dcpl(|create| create.external("values.bin", 0, 8));
        builder.create("X").unwrap();
    });
    says(&message, &["X: holds something that is not supported", "values in other files"]);
}

#[test]
fn filters_whose_decoders_trust_their_parameters() {
    let message = written(|file, _| {
        let builder = file.new_dataset::<i32>().shape(8).chunk(8).nbit();
        builder.create("X").unwrap();
    });
    says(&message, &["X: holds something that is not supported", "values packed with n-bit", "at byte"]);
}

#[test]
fn groups_that_hold_one_another_are_sound() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.h5");
    let file = File::create(&path).unwrap();
    file.create_group("a").unwrap().create_group("b").unwrap();
    file.link_hard("/a", "/a/b/up").unwrap();
    file.close().unwrap();
    check(&path).unwrap();
}
