//! A checksum of every byte of a Parquet file, in the file's own metadata.
//!
//! It is computed with its own digits taken as zeros, so that it covers everything but them, and file and checksum become
//! visible by one rename. A reader looks for its key among the raw bytes: no damaged footer can hide it.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    path::Path,
};

use schemas::{Error, Result};
use xxhash_rust::xxh3::Xxh3;

use crate::disk::{DiskFile, add_to_hash, hex};

/// The metadata key of the checksum.
pub(crate) const KEY: &str = "perturbine.file_checksum";
/// The digits before the checksum is known.
pub(crate) const BLANK: &str = "0000000000000000";
/// Bytes between key and digits: the type of the next field, and its length.
const BETWEEN: usize = 2;
/// Bytes at a file's end among which the key is looked for: metadata follow the row groups, and those of our tables are short.
const TAIL: u64 = 1 << 16;

/// Replaces the blank digits of a complete file by its checksum.
pub(crate) fn fill_in(file: &mut DiskFile) -> Result<()> {
    let path = file.path().to_path_buf();
    let place = place_of(file.as_file()).map_err(Error::io("read", &path))?;
    let place = place.ok_or_else(|| Error::Bug(format!("{} has no room for its checksum", path.display())))?;
    let digits = checksum_around(file.as_file(), place).map_err(Error::io("read", &path))?;
    file.write_all_at(digits.as_bytes(), place).map_err(Error::io("write", &path))
}

/// Checks a file against its checksum; returns whether it has one.
///
/// # Errors
/// A file that can't be read, or that differs from what was written.
pub fn check(path: &Path) -> Result<bool> {
    let mut file = File::open(path).map_err(Error::io("open", path))?;
    let Some(place) = place_of(&file).map_err(Error::io("read", path))? else { return Ok(false) };
    let mut digits = [0; BLANK.len()];
    file.seek(SeekFrom::Start(place)).and_then(|_| file.read_exact(&mut digits)).map_err(Error::io("read", path))?;
    match checksum_around(&file, place).map_err(Error::io("read", path))?.as_bytes() == digits {
        true => Ok(true),
        false => Err(Error::damaged(path, "its checksum does not match its content")),
    }
}

/// The offset of the digits, in bytes; `None` if the file has no room for them.
fn place_of(mut file: &File) -> io::Result<Option<u64>> {
    let length = file.metadata()?.len();
    let start = length.saturating_sub(TAIL);
    let mut tail = Vec::new();
    file.seek(SeekFrom::Start(start))?;
    file.read_to_end(&mut tail)?;
    let digits = memchr::memmem::rfind(&tail, KEY.as_bytes()).map(|at| at + KEY.len() + BETWEEN);
    let whole = digits.filter(|at| at + BLANK.len() <= tail.len());
    Ok(whole.map(|at| start + at as u64))
}

/// The checksum of a file with blank digits at `place`.
fn checksum_around(mut file: &File, place: u64) -> io::Result<String> {
    let mut hash = Xxh3::new();
    file.seek(SeekFrom::Start(0))?;
    add_to_hash(&mut hash, file.take(place))?;
    hash.update(BLANK.as_bytes());
    file.seek(SeekFrom::Start(place + BLANK.len() as u64))?;
    add_to_hash(&mut hash, file)?;
    Ok(hex(hash.digest()))
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests damage files")]
mod tests {
    use std::{fs, sync::Arc};

    use arrow::{
        array::{RecordBatch, StringArray},
        datatypes::{DataType, Field, Schema},
    };

    use super::*;
    use crate::parquet_file::ParquetFile;

    #[test]
    fn every_bit_of_a_file_is_covered_except_those_of_its_keys_name() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("t.parquet");
        let schema = Arc::new(Schema::new(vec![Field::new("cell", DataType::Utf8, false)]));
        let mut file = ParquetFile::create(&path, Arc::clone(&schema)).expect("a file");
        let names: StringArray = ["a", "b", "c"].map(Some).into_iter().collect();
        file.write(&RecordBatch::try_new(schema, vec![Arc::new(names)]).expect("rows")).expect("written");
        file.finish_with_checksum().expect("a whole file");
        assert!(check(&path).expect("whole"));
        let whole = fs::read(&path).expect("bytes");
        let key = memchr::memmem::rfind(&whole, KEY.as_bytes()).expect("the key");
        for bit in 0..8 * whole.len() {
            let mut changed = whole.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            fs::write(&path, changed).expect("written");
            match (key..key + KEY.len()).contains(&(bit / 8)) {
                true => assert!(!check(&path).expect("no checksum"), "bit {bit}"),
                false => assert!(check(&path).is_err(), "bit {bit}"),
            }
        }
    }
}
