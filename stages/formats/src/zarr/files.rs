//! The files of an array, for the library. At most as many bytes are read as a file has.

use std::{fs::File, io::ErrorKind, os::unix::fs::FileExt, path::PathBuf};

use schemas::numbers::to_usize;
use zarrs::storage::{
    MaybeBytesIterator, ReadableStorageTraits, StorageError, StoreKey,
    byte_range::{ByteRange, ByteRangeIterator},
};

/// Maximum number of bytes read at once; no memory is allocated for more.
const MOST_BYTES: u64 = 1 << 31;

/// A folder. The library's own file store remembers every file that was ever read, and trusts claimed
/// lengths.
#[derive(Debug)]
pub(super) struct ZarrFolder(pub(super) PathBuf);

impl ZarrFolder {
    fn open(&self, key: &StoreKey) -> Result<Option<(File, u64)>, StorageError> {
        match File::open(self.0.join(key.as_str())) {
            Ok(file) => {
                let bytes = file.metadata()?.len();
                Ok(Some((file, bytes)))
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

impl ReadableStorageTraits for ZarrFolder {
    fn get_partial_many<'a>(
        &'a self,
        key: &StoreKey,
        ranges: ByteRangeIterator<'a>,
    ) -> Result<MaybeBytesIterator<'a>, StorageError> {
        let Some((file, all)) = self.open(key)? else { return Ok(None) };
        let read = move |range: ByteRange| {
            let (start, bytes) = match range {
                ByteRange::FromStart(start, bytes) => (start, bytes.unwrap_or(all.saturating_sub(start))),
                ByteRange::Suffix(bytes) => (all.saturating_sub(bytes), bytes),
            };
            let is_within =
                start.checked_add(bytes).is_some_and(|end| end <= all.min(start.saturating_add(MOST_BYTES)));
            if !is_within {
                return Err(StorageError::Other(format!("it is beyond the {all} bytes of its file")));
            }
            let mut out = vec![0; to_usize(bytes)];
            file.read_exact_at(&mut out, start)?;
            Ok(out.into())
        };
        Ok(Some(Box::new(ranges.map(read))))
    }

    fn size_key(&self, key: &StoreKey) -> Result<Option<u64>, StorageError> {
        Ok(self.open(key)?.map(|(_, bytes)| bytes))
    }

    fn supports_get_partial(&self) -> bool {
        true
    }
}
