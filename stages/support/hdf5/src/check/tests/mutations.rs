//! Files that were changed at random: whatever they contain, the check answers quickly and without a panic.

use std::{
    fs::{File, OpenOptions},
    os::unix::fs::FileExt,
    time::{Duration, Instant},
};

use rand::{Rng, RngExt, SeedableRng, seq::IndexedRandom};
use rand_chacha::ChaCha8Rng;

use super::{super::check, Style, file};

/// Changes per file; a debug build checks a few thousand files per second.
const CHANGES: usize = 4000;
/// Checking a file of this size must not take as long.
const SOON: Duration = Duration::from_secs(2);
/// Numbers at which arithmetic tends to go wrong.
const NUMBERS: [u64; 10] = [0, 1, 0x7f, 0xff, 0xffff, 0x7fff_ffff, 0xffff_ffff, 1 << 32, 1 << 63, u64::MAX];

#[test]
fn files_that_were_changed_at_random_are_looked_at_in_no_time() {
    for style in [Style::Old, Style::Middle, Style::New] {
        let (_folder, path) = file(style);
        let sound = std::fs::read(&path).unwrap();
        let on_disk = OpenOptions::new().write(true).open(&path).unwrap();
        let mut random = ChaCha8Rng::seed_from_u64(3);
        let mut refused = 0;
        for change in 0..CHANGES {
            let (at, bytes) = one_change(&mut random, &sound);
            on_disk.write_all_at(&bytes, at as u64).unwrap();
            let start = Instant::now();
            refused += usize::from(check(&path).is_err());
            assert!(start.elapsed() < SOON, "{style:?}, change {change}: {bytes:?} at {at}");
            on_disk.write_all_at(&sound[at..at + bytes.len()], at as u64).unwrap();
        }
        check(&path).unwrap();
        // Most bytes are values or unused space.
        assert!(CHANGES / 20 < refused, "{style:?}: {refused} of {CHANGES} were refused");
    }
}

#[test]
fn files_that_were_cut_short_are_refused() {
    for style in [Style::Old, Style::Middle, Style::New] {
        let (_folder, path) = file(style);
        let sound = std::fs::read(&path).unwrap();
        let mut random = ChaCha8Rng::seed_from_u64(4);
        for _ in 0..200 {
            let length = random.random_range(0..sound.len());
            std::fs::write(&path, &sound[..length]).unwrap();
            assert!(check(&path).is_err(), "{style:?}: {length} of {} bytes", sound.len());
        }
    }
}

/// Changes a byte, flips a bit, or writes a number or an address from elsewhere, in a part that is in use.
fn one_change(random: &mut impl Rng, sound: &[u8]) -> (usize, Vec<u8>) {
    let at = place(random, sound);
    let bytes = match random.random_range(0..4) {
        0 => vec![random.random()],
        1 => vec![sound[at] ^ 1 << random.random_range(0..8)],
        2 => {
            let width = *[1, 2, 4, 8].choose(random).unwrap();
            NUMBERS.choose(random).unwrap().to_le_bytes()[..width].to_vec()
        }
        _ => {
            let from = place(random, sound);
            sound[from..from + 8].to_vec()
        }
    };
    (at, bytes)
}

/// A position in a part that is in use.
fn place(random: &mut impl Rng, sound: &[u8]) -> usize {
    loop {
        let at = random.random_range(0..sound.len() - 8);
        if sound[at] != 0 {
            return at;
        }
    }
}

#[test]
fn a_file_that_ends_where_another_begins_is_read_no_further() {
    let (_folder, path) = file(Style::Old);
    let sound = std::fs::read(&path).unwrap();
    // Bytes after the end given in the superblock are not part of the file.
    File::create(&path).unwrap().write_all_at(&[sound.as_slice(), &[0xff; 4096]].concat(), 0).unwrap();
    check(&path).unwrap();
}
