//! Files of ours that are not as they were written: found out before a value of them is used.

use std::{
    fs,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use perturbine::{Error, Result};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use schemas::{
    atlas::files,
    ids::{BlockIndex, CellIndex},
};
use stages::{
    model::{checkpoint, saved::Model},
    reader::{
        atlas::{Access, Atlas},
        group_statistics::control_means,
        members::Members,
        row::RowBuffer,
        split::Split,
    },
    sink,
};

use crate::support::{Home, TINY, counted, long_tests};

/// Flips a test makes, of each kind of output: ten thousand in all.
const FLIPS: [(&str, usize); 4] = [("s.atlas", 5000), ("m", 1500), ("m/checkpoint", 1500), ("p", 2000)];

fn home() -> Home {
    let home = Home::new();
    home.json("simulate --cells 200 --genes 30 --conditions 4 --combos 1 --density 0.2 --out s.h5ad");
    home.json("ingest s.h5ad --out s.atlas");
    home.json("split s.atlas --name held --scheme random:0.2");
    home.json(&format!("train s.atlas --out m --epochs 1 {TINY}"));
    home.json("predict m s.atlas --out p --to observed");
    home
}

/// Everything that can be learned from what lies at a path, as text.
fn everything(path: &Path) -> Result<String> {
    let name = path.file_name().unwrap().to_str().unwrap();
    match name {
        "m" => {
            let model = Model::load(path, tch::Device::Cpu)?;
            model.card.split_file(path)?;
            let tensors: Vec<String> = model
                .network
                .parameters
                .snapshot()?
                .iter()
                .map(|(name, tensor)| format!("{name} {:?} {}", tensor.size(), bits(tensor)))
                .collect();
            Ok(format!("{} {tensors:?}", serde_json::to_string(&model.card).unwrap()))
        }
        "checkpoint" => {
            if let Some((_, error)) = checkpoint::verify(path)?.into_iter().next() {
                return Err(error);
            }
            let newest = checkpoint::newest(path)?.unwrap();
            let tensors = newest.state.iter().chain(&newest.best);
            let tensors: Vec<String> = tensors.map(|(name, tensor)| format!("{name} {}", bits(tensor))).collect();
            Ok(format!("{:?} {tensors:?}", newest.progress))
        }
        "p" => match sink::verify(path)?.into_iter().next() {
            Some((name, what)) => Err(Error::damaged(path.join(name), what)),
            None => Ok("whole".into()),
        },
        _ => of_atlas(&Atlas::open(path)?),
    }
}

fn bits(tensor: &tch::Tensor) -> u64 {
    let numbers: Vec<f64> = tensor.to_kind(tch::Kind::Double).flatten(0, -1).try_into().unwrap();
    numbers.iter().fold(17_u64, |sum, number| sum.rotate_left(7) ^ number.to_bits())
}

fn of_atlas(atlas: &Atlas) -> Result<String> {
    if let Some(damage) = atlas.verify()?.into_iter().next() {
        return Err(Error::damaged(atlas.path().join(damage.file), damage.what));
    }
    let manifest = atlas.manifest();
    let blocks = (0..u32::try_from(manifest.blocks()).unwrap()).map(|block| {
        let block = atlas.block(BlockIndex(block))?;
        let view = block.view();
        let mut buffer = RowBuffer::default();
        let mut row = |row| format!("{:?}", view.row(row).unwrap().decoded(&mut buffer).unwrap());
        Ok((0..view.rows()).map(&mut row).collect::<String>())
    });
    let blocks = blocks.collect::<Result<String>>()?;
    let codes: Vec<&[u32]> = (0..atlas.cells()).map(|cell| atlas.codes(CellIndex(cell))).collect();
    let rows: Vec<u64> = (0..atlas.cells()).map(|cell| atlas.row(CellIndex(cell)).0).collect();
    let obs: Vec<_> = atlas.obs(&["cell", "condition"])?.map(|batch| format!("{:?}", batch.unwrap())).collect();
    let members = Members::open(atlas)?.cells().to_vec();
    let split = Split::read(atlas, "held")?;
    let controls: Vec<String> =
        control_means(atlas)?.iter().map(|control| format!("{:?} {:?}", control.covariates, control.mean)).collect();
    Ok(format!(
        "{} {:?} {blocks} {codes:?} {rows:?} {obs:?} {members:?} {split:?} {controls:?}",
        manifest.checked_text().unwrap(),
        atlas.genes()
    ))
}

/// The files below a folder that are read by those that use it, and their lengths.
fn files_of(folder: &Path) -> Vec<(PathBuf, u64)> {
    // Files for people: nothing is computed from them.
    let unread = ["config.toml", "genes.txt", "history.jsonl", "pipeline.json", "checkpoint"];
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        let name = entry.file_name().unwrap().to_str().unwrap().to_owned();
        if entry.is_dir() && name != "checkpoint" {
            found.extend(files_of(&entry));
        } else if !unread.contains(&name.as_str()) {
            let length = fs::metadata(&entry).unwrap().len();
            found.push((entry, length));
        }
    }
    found.sort();
    found
}

fn open(path: &Path) -> fs::File {
    fs::File::options().read(true).write(true).open(path).unwrap()
}

#[test]
fn ten_thousand_flipped_bits_are_found_or_change_nothing() {
    let home = home();
    let mut random = ChaCha8Rng::seed_from_u64(11);
    for (name, flips) in FLIPS {
        let path = home.path(name);
        let expected = everything(&path).unwrap();
        let files = files_of(&path);
        let (mut found, mut harmless) = (0, 0);
        for _ in 0..flips {
            // Files as often as one another: small ones say more.
            let (file, length) = &files[random.random_range(0..files.len())];
            let (at, bit) = (random.random_range(0..*length), random.random_range(0..8));
            let handle = open(file);
            let mut byte = [0];
            handle.read_exact_at(&mut byte, at).unwrap();
            handle.write_all_at(&[byte[0] ^ (1 << bit)], at).unwrap();
            match everything(&path) {
                Err(error) => {
                    found += 1;
                    assert_eq!(error.exit_code() as u8, 65, "{}, byte {at}: {error}", file.display());
                }
                Ok(read) => {
                    harmless += 1;
                    assert!(read == expected, "{}, byte {at}, bit {bit}: read as if it were right", file.display());
                }
            }
            handle.write_all_at(&byte, at).unwrap();
        }
        counted(&format!("{name}: {found} flips found, {harmless} without effect"));
        assert!(harmless * 20 <= found, "{name}: {found} found, {harmless} harmless");
        assert!(everything(&path).unwrap() == expected, "everything was put back");
    }
}

#[test]
fn a_file_that_is_cut_anywhere_is_found_out() {
    let home = home();
    let mut cuts = 0;
    for (name, _) in FLIPS {
        let path = home.path(name);
        for (file, length) in files_of(&path) {
            let whole = fs::read(&file).unwrap();
            let pieces = if long_tests() { 512 } else { 12 };
            let step = (length / pieces).max(1);
            let boundaries = (0..length).step_by(usize::try_from(step).unwrap());
            let ends = boundaries.flat_map(|end| [end.saturating_sub(1), end, end + 1]).chain([length - 1]);
            for end in ends.filter(|end| *end < length) {
                cuts += 1;
                open(&file).set_len(end).unwrap();
                let error = everything(&path).expect_err("half of a file");
                assert_eq!(error.exit_code() as u8, 65, "{} cut to {end} of {length}: {error}", file.display());
            }
            fs::write(&file, whole).unwrap();
        }
        everything(&path).unwrap();
    }
    counted(&format!("{cuts} cuts"));
}

#[test]
fn a_file_that_is_cut_while_it_is_read_is_an_error_and_the_process_lives() {
    let home = Home::new();
    home.json("simulate --cells 3000 --genes 200 --conditions 4 --combos 1 --out s.h5ad");
    home.json("ingest s.h5ad --out s.atlas");
    home.json("ingest s.h5ad --out z.atlas --compress");
    let cut = [files::MATRIX, files::BLOCKS, files::LABELS, files::ROWS, files::ORDER];
    for (atlas, access) in
        [("s.atlas", Access::Map), ("z.atlas", Access::Map), ("s.atlas", Access::Read), ("z.atlas", Access::Read)]
    {
        for name in cut {
            // Within a page, at its end, and all of it.
            for keep in [0.7, 0.31, 0.0] {
                let folder = home.copy(&home.path(atlas), "cut.atlas");
                let opened = Atlas::open_with(&folder, access).unwrap();
                let blocks = u32::try_from(opened.manifest().blocks()).unwrap();
                let read = |opened: &Atlas| (0..blocks).try_for_each(|block| opened.block(BlockIndex(block)).map(drop));
                read(&opened).unwrap();
                let file = open(&folder.join(name));
                let length = file.metadata().unwrap().len();
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    clippy::cast_precision_loss,
                    reason = "about so much"
                )]
                file.set_len((length as f64 * keep) as u64).unwrap();
                // Everything is copied out of maps first, and then checked.
                let cells = (0..opened.cells()).map(CellIndex);
                let looked: u64 = cells.map(|cell| opened.row(cell).0 + u64::from(opened.condition(cell).0)).sum();
                let result = read(&opened).and_then(|()| opened.check_maps());
                let about = format!("{atlas}, {access:?}, {name} cut to {keep}, {looked}");
                let error = result.expect_err(&about);
                assert!(error.to_string().contains(name), "{about}: {error}");
                fs::remove_dir_all(folder).unwrap();
            }
        }
    }
    // The lost page belongs to another map: a new map is complete.
    Atlas::open(home.path("s.atlas")).unwrap().check_maps().unwrap();
}

#[test]
fn an_atlas_that_is_removed_while_it_is_open_is_read_to_its_end() {
    let home = Home::new();
    home.json("simulate --cells 500 --genes 50 --conditions 4 --combos 1 --out s.h5ad");
    for flags in ["", "--compress"] {
        home.json(&format!("ingest s.h5ad --out s.atlas {flags}"));
        home.json("split s.atlas --name held --scheme random:0.2");
        for access in [Access::Map, Access::Read] {
            let folder = home.copy(&home.path("s.atlas"), "gone.atlas");
            let atlas = Atlas::open_with(&folder, access).unwrap();
            let rows = |atlas: &Atlas| -> Vec<String> {
                atlas.obs(&["cell"]).unwrap().map(|batch| format!("{:?}", batch.unwrap())).collect()
            };
            let before = rows(&atlas);
            fs::remove_dir_all(&folder).unwrap();
            fs::create_dir(&folder).unwrap();
            assert_eq!(rows(&atlas), before);
            assert_eq!(Members::open(&atlas).unwrap().cells().len(), 500);
            assert!(!control_means(&atlas).unwrap().is_empty());
            let blocks = u32::try_from(atlas.manifest().blocks()).unwrap();
            (0..blocks).for_each(|block| drop(atlas.block(BlockIndex(block)).unwrap()));
            fs::remove_dir(&folder).unwrap();
        }
        fs::remove_dir_all(home.path("s.atlas")).unwrap();
    }
}
