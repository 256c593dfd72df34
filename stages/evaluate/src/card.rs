//! A card: hashes of all that scores were computed from, so that others can check that they have the same.

use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use reader::{
    atlas::Atlas,
    split::{Split, SplitPart},
};
use schemas::{Error, Result, ids::CellIndex};
use serde::{Deserialize, Serialize};
use statistics::scale::Scale;
use storage::sealed::read_strictly_sealed;
use xxhash_rust::xxh3::Xxh3;

use crate::PredictionScores;

/// The version of the definitions in `docs/metrics.md`; it changes when any score would.
const DEFINITIONS: u32 = 2;

/// Hashes of the inputs of scores, and the scores.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Card {
    /// The program that made it.
    pub written_by: String,
    /// The hash of the definitions of all scores.
    pub scores: String,
    /// The scale of the comparison.
    pub scale: Scale,
    /// The atlas's checksum.
    pub data: String,
    /// Where the atlas was.
    pub atlas: PathBuf,
    /// The hash of the part that each cell belongs to.
    pub split: String,
    /// The split's name, if it is one of the atlas's.
    pub split_name: Option<String>,
    /// The evaluated part of the split: `ood`, `valid` or `train`.
    pub part: String,
    /// Flags that say how predictions were read, as on the command line.
    pub flags: Vec<String>,
    /// The predictions.
    pub predictions: Vec<CardEntry>,
}

/// A prediction and its mean scores.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CardEntry {
    /// Where it was.
    pub path: PathBuf,
    /// The hash of its bytes; of a folder, of the names and bytes of all its files.
    pub hash: String,
    /// Its mean scores.
    pub mean: PredictionScores,
}

/// A hash of the version of the definitions and of the names of all scores.
#[must_use]
pub fn definitions() -> String {
    let mut hash = Xxh3::new();
    hash.update(&DEFINITIONS.to_le_bytes());
    PredictionScores::NAMES.iter().for_each(|name| hash.update(format!("{name}\n").as_bytes()));
    format!("{DEFINITIONS}-{:016x}", hash.digest())
}

/// A hash of the part that each cell of an atlas belongs to.
#[must_use]
pub fn split_hash(atlas: &Atlas, split: &Split) -> String {
    let mut hash = Xxh3::new();
    for cell in (0..atlas.cells()).map(CellIndex) {
        hash.update(match split.part(cell) {
            SplitPart::Train => b"t",
            SplitPart::Valid => b"v",
            SplitPart::Ood => b"o",
            SplitPart::Reference => b"r",
        });
    }
    format!("{:016x}", hash.digest())
}

/// A hash of a file's bytes; of a folder, of the names and bytes of all files below it, in the order of their names.
///
/// # Errors
/// A file that can't be read.
pub fn content_hash(path: &Path) -> Result<String> {
    let mut hash = Xxh3::new();
    if path.is_dir() {
        for file in files_below(path)? {
            let name = file.strip_prefix(path).unwrap_or(&file);
            hash.update(format!("{}\n", name.display()).as_bytes());
            add_file(&mut hash, &file)?;
        }
    } else {
        add_file(&mut hash, path)?;
    }
    Ok(format!("{:032x}", hash.digest128()))
}

fn files_below(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(Error::io("read", folder))? {
        let entry = entry.map_err(Error::io("read", folder))?;
        // A link may lead in circles.
        match entry.file_type().map_err(Error::io("read", folder))?.is_dir() {
            true => files.extend(files_below(&entry.path())?),
            false => files.push(entry.path()),
        }
    }
    files.sort();
    Ok(files)
}

fn add_file(hash: &mut Xxh3, path: &Path) -> Result<()> {
    let mut file = File::open(path).map_err(Error::io("read", path))?;
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer).map_err(Error::io("read", path))? {
            0 => return Ok(()),
            read => hash.update(&buffer[..read]),
        }
    }
}

impl Card {
    /// Reads a card.
    ///
    /// # Errors
    /// A file that is not a card, or one that was changed or only formatted in another way: then nobody can say that its
    /// scores are those that were computed.
    pub fn read(path: &Path) -> Result<Self> {
        read_strictly_sealed(path)
    }

    /// The changes since the card was written, each with its file. Files are looked for where they were, and then
    /// beside the card, which may have been moved together with them.
    ///
    /// # Errors
    /// A file that is missing or can't be read.
    pub fn changes(&self, card: &Path) -> Result<Vec<(PathBuf, String)>> {
        let mut changes = Vec::new();
        if self.scores != definitions() {
            let what = format!("scores are defined by {}, this program's by {}", self.scores, definitions());
            changes.push((card.to_path_buf(), what));
        }
        let path = found(&self.atlas, card)?;
        let atlas = Atlas::open(&path)?;
        if atlas.manifest().checksum != self.data {
            changes.push((path, "is another atlas than the card's".into()));
        } else if let Some(name) = &self.split_name
            && split_hash(&atlas, &Split::read(&atlas, name)?) != self.split
        {
            changes.push((path, format!("the split `{name}` is another than the card's")));
        }
        for prediction in &self.predictions {
            let path = found(&prediction.path, card)?;
            if content_hash(&path)? != prediction.hash {
                changes.push((path, "is another prediction than the card's".into()));
            }
        }
        Ok(changes)
    }
}

fn found(path: &Path, card: &Path) -> Result<PathBuf> {
    let beside = path.file_name().map(|name| card.with_file_name(name));
    let places = [Some(path.to_path_buf()), beside];
    let missing = || Error::Missing { path: path.into(), kind: "file that the card names" };
    places.into_iter().flatten().find(|place| place.exists()).ok_or_else(missing)
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "tests write files of their own")]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_hashed_by_names_and_bytes() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(folder.path().join("a")).expect("a folder");
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).expect("a file");
        write("a/one", "1");
        write("two", "2");
        let hash = || content_hash(folder.path()).expect("it can be read");
        let before = hash();
        assert_eq!(before, hash());
        write("two", "3");
        assert_ne!(before, hash(), "other bytes");
        write("two", "2");
        assert_eq!(before, hash());
        std::fs::rename(folder.path().join("two"), folder.path().join("three")).expect("renamed");
        assert_ne!(before, hash(), "another name");
        let file = |name: &str| content_hash(&folder.path().join(name)).expect("it can be read");
        assert_ne!(file("a/one"), file("three"));
    }
}
