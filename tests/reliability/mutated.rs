//! Files that others may have damaged, by accident or on purpose: read or refused in a moment, in bounded memory, and no more.

use std::{
    fs,
    os::unix::fs::symlink,
    path::Path,
    time::{Duration, Instant},
};

use rand::{Rng, RngExt, SeedableRng, seq::IndexedRandom};
use rand_chacha::ChaCha8Rng;
use rustix::process::{Resource, Rlimit, setrlimit};
use schemas::atlas::{BLOCK_ENTRY_BYTES, Manifest, files};
use serde_json::{Value, json};

use crate::support::{
    Home, counted, long_tests,
    targets::{Ground, TARGETS, corpus, run, sealed},
};

/// No file of some kilobytes takes as long, in a debug build on a busy machine.
const SOON: Duration = Duration::from_secs(10);
/// The most anonymous memory of the process, so that to ask for as much as a file claims is to fail.
const MEMORY: u64 = 2 << 30;
/// Numbers at which arithmetic goes wrong.
const NUMBERS: [u64; 10] = [0, 1, 0x7f, 0xff, 0xffff, 0x7fff_ffff, 0xffff_ffff, 1 << 32, 1 << 63, u64::MAX];
const WORDS: [&str; 9] = ["-1", "18446744073709551616", "1e999", "nan", "", "[", "\"", "0.5", "\0"];

fn ground() -> (Home, Ground) {
    setrlimit(Resource::Data, Rlimit { current: Some(MEMORY), maximum: Some(MEMORY) }).unwrap();
    let home = Home::new();
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kept/format-1/packed.atlas");
    let (atlas, scratch) = (home.copy(&kept, "s.atlas"), home.path("scratch"));
    fs::create_dir(&scratch).unwrap();
    let packed_rows = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kept/format-2/packed.atlas");
    let ground = Ground { atlas, packed_rows, scratch, worker: Some(env!("CARGO_BIN_EXE_perturbine").into()) };
    (home, ground)
}

/// Some bytes are flipped, replaced, cut out, doubled or put elsewhere.
fn mutated(random: &mut impl Rng, bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..random.random_range(1..4) {
        if bytes.is_empty() {
            break;
        }
        let at = random.random_range(0..bytes.len());
        let end = at + random.random_range(0..=(bytes.len() - at).min(64));
        match random.random_range(0..7) {
            0 => bytes[at] ^= 1 << random.random_range(0..8),
            1 => bytes[at] = random.random(),
            2 => {
                let number = NUMBERS.choose(random).unwrap().to_le_bytes();
                let width = *[1, 2, 4, 8].choose(random).unwrap();
                let width = width.min(bytes.len() - at);
                bytes[at..at + width].copy_from_slice(&number[..width]);
            }
            3 => bytes.truncate(at),
            4 => drop(bytes.drain(at..end)),
            5 => {
                let doubled = bytes[at..end].to_vec();
                bytes.splice(at..at, doubled);
            }
            _ => {
                let word = WORDS.choose(random).unwrap().bytes();
                bytes.splice(at..end, word);
            }
        }
    }
    bytes
}

/// Files that are made of a target's corpus.
fn mutations(target: &str) -> usize {
    let some = match target {
        // A process each.
        "h5ad" => 60,
        "tenx" => 30,
        "settings" | "safetensors" | "embeddings" | "mtx" => 800,
        _ => 300,
    };
    if long_tests() { 80 * some } else { some }
}

#[track_caller]
fn in_a_moment(target: &str, bytes: &[u8], ground: &Ground, about: &str) -> bool {
    let started = Instant::now();
    let kept = ground.scratch.join("last");
    fs::write(&kept, bytes).unwrap();
    let outcome = run(target, bytes, ground);
    assert!(started.elapsed() < SOON, "{target}, {about} took {:?}: {}", started.elapsed(), kept.display());
    outcome.is_err()
}

#[test]
fn files_that_were_changed_at_random_are_read_or_refused() {
    let (_home, ground) = ground();
    for (target, _) in TARGETS {
        let mut random = ChaCha8Rng::seed_from_u64(5);
        let corpus = corpus(target);
        assert!(!corpus.is_empty(), "{target} has no corpus");
        let mut refused = 0;
        let seeds: Vec<&Vec<u8>> = corpus.values().collect();
        for change in 0..mutations(target) {
            let seed = *seeds.choose(&mut random).unwrap();
            let bytes = mutated(&mut random, seed);
            refused += usize::from(in_a_moment(target, &bytes, &ground, &format!("change {change}")));
        }
        counted(&format!("{target}: {} seeds, {} mutations, {refused} refused", seeds.len(), mutations(target)));
        assert!(refused > 0, "{target}: nothing of all that was refused");
    }
}

#[test]
fn what_the_corpora_hold_is_read_or_refused() {
    let (_home, ground) = ground();
    for (target, _) in TARGETS {
        let outcomes: Vec<bool> =
            corpus(target).iter().map(|(name, bytes)| in_a_moment(target, bytes, &ground, name)).collect();
        assert!(outcomes.contains(&false), "{target}: no file of its corpus is a good one");
    }
}

/// Opens an atlas and reads all of it; what was said of it.
#[track_caller]
fn refused(folder: &Path, about: &str) -> String {
    let result = stages::reader::atlas::Atlas::open(folder).and_then(|atlas| {
        let damages = atlas.verify()?;
        match damages.into_iter().next() {
            Some(damage) => Err(schemas::Error::damaged(folder.join(damage.file), damage.what)),
            None => Ok(()),
        }
    });
    let error = result.expect_err(about);
    assert_eq!(error.exit_code() as u8, 65, "{about}: {error}");
    error.to_string()
}

#[test]
fn a_manifest_whose_writer_means_ill_is_refused() {
    let (home, ground) = ground();
    let folder = home.copy(&ground.atlas, "hostile.atlas");
    let path = folder.join(files::MANIFEST);
    let sound: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let mut edits: Vec<(String, Value)> = Vec::new();
    let mut edit = |about: String, change: &dyn Fn(&mut Value)| {
        let mut changed = sound.clone();
        change(&mut changed);
        edits.push((about, changed));
    };
    let entry = json!({ "bytes": 4, "checksum": "0123456789abcdef" });
    for name in ["../s.h5ad", "/etc/passwd", "a/b", "..", ".", "", "a\\b", ".hidden", "a\u{0}b", "a/../../b"] {
        edit(format!("a file called {name:?}"), &|manifest| manifest["files"][name] = entry.clone());
    }
    let numbers = [0_u64, 1, 89, 91, u64::from(u32::MAX), 1 << 32, 1 << 62, u64::MAX - 1, u64::MAX];
    for number in numbers {
        for key in ["cells", "genes", "block_rows", "format"] {
            if sound[key] != json!(number) {
                edit(format!("{key} = {number}"), &|manifest| manifest[key] = json!(number));
            }
        }
        for name in sound["files"].as_object().unwrap().keys() {
            edit(format!("{name} of {number} bytes"), &|manifest| manifest["files"][name]["bytes"] = json!(number));
        }
    }
    for name in sound["files"]
        .as_object()
        .unwrap()
        .keys()
        .filter(|name| ![files::CONDITIONS, files::STATISTICS].contains(&name.as_str()))
    {
        edit(format!("no {name}"), &|manifest| drop(manifest["files"].as_object_mut().unwrap().remove(name)));
    }
    for (key, value) in [
        ("gene_width", json!("u64")),
        ("codec", json!("raw")),
        ("codec", json!("in_place")),
        ("codec", json!("tar")),
        ("order", json!("shuffled")),
        ("covariates", json!([])),
        ("cells", json!(-1)),
        ("cells", json!(1e99)),
        ("files", json!({})),
        ("conditions", json!(null)),
        ("more", json!(1)),
    ] {
        edit(format!("{key} = {value}"), &|manifest| manifest[key] = value.clone());
    }
    assert!(edits.iter().all(|(_, changed)| *changed != sound), "an edit that changes nothing shows nothing");
    counted(&format!("{} manifests", edits.len()));
    assert!(edits.len() > 100);
    for (about, changed) in edits {
        // Whoever means ill knows how checksums are taken.
        let text = match serde_json::from_value::<Manifest>(changed.clone()) {
            Ok(manifest) => sealed(manifest),
            Err(_) => serde_json::to_vec(&changed).unwrap(),
        };
        fs::write(&path, text).unwrap();
        refused(&folder, &about);
    }
}

#[test]
fn files_of_an_atlas_that_are_links_or_devices_are_refused() {
    let (home, ground) = ground();
    for name in [files::MATRIX, files::BLOCKS, files::LABELS, files::CELLS, files::GENES] {
        let folder = home.copy(&ground.atlas, "linked.atlas");
        fs::remove_file(folder.join(name)).unwrap();
        symlink(ground.atlas.join(name), folder.join(name)).unwrap();
        assert!(refused(&folder, name).contains("link"), "{name}");
        fs::remove_file(folder.join(name)).unwrap();
        symlink("/dev/zero", folder.join(name)).unwrap();
        assert!(refused(&folder, name).contains("link"), "{name}");
        fs::remove_dir_all(folder).unwrap();
    }
    // The whole of it may lie elsewhere.
    symlink(&ground.atlas, home.path("there.atlas")).unwrap();
    stages::reader::atlas::Atlas::open(home.path("there.atlas")).unwrap();
}

#[test]
fn blocks_that_overlap_or_claim_too_much_are_refused() {
    let (_home, ground) = ground();
    let entries = fs::read(ground.atlas.join(files::BLOCKS)).unwrap();
    let matrix = fs::read(ground.atlas.join(files::MATRIX)).unwrap();
    assert!(2 * BLOCK_ENTRY_BYTES <= entries.len(), "two blocks that could overlap");
    let with = |at: usize, bytes: &[u8]| {
        let mut entries = entries.clone();
        entries[at..at + bytes.len()].copy_from_slice(bytes);
        run("blocks", &[&entries[..], &matrix].concat(), &ground)
    };
    run("blocks", &[&entries[..], &matrix].concat(), &ground).expect("what was written is read");
    for number in NUMBERS {
        for (field, width) in [(0, 8), (8, 8), (24, 4), (28, 2), (30, 1), (31, 1)] {
            for block in [0, BLOCK_ENTRY_BYTES] {
                let bytes = &number.to_le_bytes()[..width];
                if entries[block + field..block + field + width] != *bytes {
                    let about = format!("{number} at {field} of the entry at {block}");
                    with(block + field, bytes).expect_err(&about);
                }
            }
        }
    }
    let first = entries[..BLOCK_ENTRY_BYTES].to_vec();
    let message = with(BLOCK_ENTRY_BYTES, &first).expect_err("the first block twice");
    assert!(message.contains("before the end of the previous one"), "{message}");
}
