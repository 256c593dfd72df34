//! JSON that ends with a checksum of everything before it, so that every change is detected.
//!
//! A document without a checksum was written by an earlier version, and is accepted.

use std::path::Path;

use schemas::{Error, Result};
use serde::{Serialize, de::DeserializeOwned};
use xxhash_rust::xxh3::xxh3_64;

use crate::disk::hex;

const BEFORE: &str = ",\n  \"checksum\": \"";
const AFTER: &str = "\"\n}";
const DIGITS: usize = 16;

/// Serialises a value, which has to become a JSON object with at least one field, as text with a checksum.
pub fn sealed(value: &impl Serialize) -> Result<Vec<u8>> {
    let text = serde_json::to_string_pretty(value).map_err(|error| Error::Bug(error.to_string()))?;
    let body =
        text.strip_suffix("\n}").ok_or_else(|| Error::Bug("only objects that are not empty are sealed".into()))?;
    let checksum = hex(xxh3_64(text.as_bytes()));
    Ok(format!("{body}{BEFORE}{checksum}{AFTER}").into_bytes())
}

/// Reads a file written with [`sealed`].
///
/// # Errors
/// A file that can't be read, or that differs from what was written.
pub fn read_sealed<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let bytes = std::fs::read(path).map_err(Error::io("read", path))?;
    let text = std::str::from_utf8(&bytes).map_err(|error| Error::damaged(path, error.to_string()))?;
    unsealed(text, path)
}

/// Reads a file written with [`sealed`] of a kind that always had a checksum.
///
/// # Errors
/// A file that can't be read, that differs from what was written, or that was written again by another program.
pub fn read_strictly_sealed<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let bytes = std::fs::read(path).map_err(Error::io("read", path))?;
    let text = std::str::from_utf8(&bytes).map_err(|error| Error::damaged(path, error.to_string()))?;
    if parts(text).is_none() {
        let message =
            "it does not end with a checksum: it is another kind of file, or was written again by another program";
        return Err(Error::data(path.display().to_string(), message, "use the file as it was written first"));
    }
    unsealed(text, path)
}

/// Parses text produced by [`sealed`]; `path` names its file in errors.
///
/// # Errors
/// Text that differs from what was written.
pub fn unsealed<T: DeserializeOwned>(text: &str, path: &Path) -> Result<T> {
    let not_json = |error: serde_json::Error| Error::damaged(path, error.to_string());
    let Some((body, checksum)) = parts(text) else { return serde_json::from_str(text).map_err(not_json) };
    let text = format!("{body}\n}}");
    if hex(xxh3_64(text.as_bytes())) != checksum {
        return Err(Error::damaged(path, "its checksum does not match its content"));
    }
    serde_json::from_str(&text).map_err(not_json)
}

fn parts(text: &str) -> Option<(&str, &str)> {
    let text = text.strip_suffix(AFTER)?;
    let (body, checksum) = text.split_at_checked(text.len().checked_sub(DIGITS)?)?;
    Some((body.strip_suffix(BEFORE)?, checksum))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn any_bit_that_changes_is_noticed_or_changes_nothing() {
        let value: BTreeMap<String, Vec<f64>> = [("doses".into(), vec![0.1, 1e-300]), ("ende".into(), vec![])].into();
        let text = sealed(&value).expect("an object");
        let read = |text: &[u8]| -> Option<BTreeMap<String, Vec<f64>>> {
            unsealed(std::str::from_utf8(text).ok()?, Path::new("a.json")).ok()
        };
        assert_eq!(read(&text), Some(value.clone()));
        for bit in 0..8 * text.len() {
            let mut changed = text.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            // If the seal itself is damaged, the value is read with an unknown extra field.
            assert!(read(&changed).is_none_or(|found| found == value), "bit {bit}");
        }
        for end in 0..text.len() {
            assert_eq!(read(&text[..end]), None, "the first {end} bytes");
        }
    }

    #[test]
    fn what_was_written_without_a_checksum_is_read() {
        let read: BTreeMap<String, u32> = unsealed("{\"a\": 1}", Path::new("a.json")).expect("JSON");
        assert_eq!(read["a"], 1);
    }
}
