//! Checks the footer of a Parquet file before decoding: whether it claims to hold more than possible.
//!
//! A footer is a structure in Thrift's compact encoding. A decoder skips unknown fields value by value, and a
//! boolean in a list takes no bytes: a list that claims to have 2^31 of them keeps it busy for half a minute
//! and can't be interrupted. Therefore the footer is first walked here, by the same rules, and refused if it
//! claims more such values than it has bytes.

use std::{
    fs::File,
    io::{self, Read},
    os::unix::fs::FileExt,
};

use schemas::numbers::to_usize;

/// The end of a file: the length of its footer (u32), then this.
const MAGIC: &[u8; 4] = b"PAR1";
/// Number of bytes of length and magic.
const TAIL_BYTES: usize = 8;
/// Maximum nesting of structures; decoders allow no more.
pub(super) const MOST_DEPTH: u8 = 64;

/// Why a footer is refused.
pub(super) type RefusalReason = String;

/// Checks the end of a file. A file that does not end like Parquet, or is cut short, is left to the decoder,
/// which refuses it.
pub(super) fn check(file: &File) -> Result<(), RefusalReason> {
    let Some(footer) = read(file) else { return Ok(()) };
    let mut left = RemainingStructure { rest: footer.as_slice(), free: footer.len(), claims_too_much: false };
    // For any other problem, the decoder has a better message.
    match left.skip_struct(MOST_DEPTH) {
        None if left.claims_too_much => Err("its metadata declare a list that is longer than they are".into()),
        _ => Ok(()),
    }
}

fn read(file: &File) -> Option<Vec<u8>> {
    let end = file.metadata().ok()?.len().checked_sub(TAIL_BYTES as u64)?;
    let mut tail = [0; TAIL_BYTES];
    file.read_exact_at(&mut tail, end).ok()?;
    let [length, magic] = *tail.as_chunks::<4>().0 else { return None };
    if magic != *MAGIC {
        return None;
    }
    let length = u32::from_le_bytes(length);
    let mut footer = vec![0; to_usize(Some(length).filter(|length| u64::from(*length) <= end)?)];
    file.read_exact_at(&mut footer, end - u64::from(length)).ok()?;
    Some(footer)
}

/// The bytes left of a structure: of a footer, or of the header of a page.
pub(super) struct RemainingStructure<R> {
    pub(super) rest: R,
    /// Number of values without bytes that are still allowed.
    pub(super) free: usize,
    /// Whether there were more.
    pub(super) claims_too_much: bool,
}

impl<R: Read> RemainingStructure<R> {
    fn byte(&mut self) -> Option<u8> {
        let mut byte = [0];
        self.rest.read_exact(&mut byte).ok()?;
        Some(byte[0])
    }

    fn skip(&mut self, bytes: u64) -> Option<()> {
        let skipped = io::copy(&mut self.rest.by_ref().take(bytes), &mut io::sink()).ok()?;
        (skipped == bytes).then_some(())
    }

    /// Reads a number in base 128, seven bits per byte.
    fn number(&mut self) -> Option<u64> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    /// Skips a structure; `None` if it can't be decoded, or if it claims too much.
    pub(super) fn skip_struct(&mut self, depth: u8) -> Option<()> {
        loop {
            let header = self.byte()?;
            if header & 0x0f == 0 {
                return Some(());
            }
            // A field number that is not relative to the previous one follows explicitly.
            if header & 0xf0 == 0 {
                self.number()?;
            }
            self.skip_field(header & 0x0f, depth.checked_sub(1)?)?;
        }
    }

    /// Skips a value of a field or of a list.
    fn skip_field(&mut self, kind: u8, depth: u8) -> Option<()> {
        match kind {
            // A boolean is encoded in its type.
            1 | 2 => Some(()),
            3 => self.skip(1),
            4..=6 => self.number().map(drop),
            7 => self.skip(8),
            8 => {
                let length = self.number()?;
                self.skip(length)
            }
            9 | 10 => self.skip_list(depth),
            11 => self.skip_map(depth),
            12 => self.skip_struct(depth),
            13 => self.skip(16),
            _ => None,
        }
    }

    fn skip_list(&mut self, depth: u8) -> Option<()> {
        let header = self.byte()?;
        let size = match header >> 4 {
            15 => self.number()?,
            size => size.into(),
        };
        self.skip_values(size, &[header & 0x0f], depth)
    }

    fn skip_map(&mut self, depth: u8) -> Option<()> {
        let size = self.number()?;
        if size == 0 {
            return Some(());
        }
        let kinds = self.byte()?;
        self.skip_values(size, &[kinds >> 4, kinds & 0x0f], depth)
    }

    /// Skips `count` values of each of these types.
    fn skip_values(&mut self, count: u64, kinds: &[u8], depth: u8) -> Option<()> {
        let depth = depth.checked_sub(1)?;
        if kinds.iter().all(|kind| matches!(kind, 1 | 2)) {
            let left = self.free.checked_sub(to_usize(count));
            self.claims_too_much = left.is_none();
            self.free = left?;
            return Some(());
        }
        // Each takes at least one byte, so this ends in time.
        for _ in 0..count {
            for kind in kinds {
                self.skip_field(*kind, depth)?;
            }
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    /// A file with these bytes as its footer.
    fn file(footer: &[u8]) -> File {
        let mut file = tempfile::tempfile().expect("a file");
        let length = u32::try_from(footer.len()).expect("short").to_le_bytes();
        file.write_all(&[b"PAR1", footer, &length, b"PAR1"].concat()).expect("written");
        file
    }

    #[test]
    fn lists_of_nothing_are_no_longer_than_the_footer() {
        // Field 1 is a list (9) of booleans (1) of a length that follows (15), then the end.
        let claims = |count: &[u8]| check(&file(&[&[0x19, 0xf1], count, &[0]].concat()));
        assert!(claims(&[3]).is_ok());
        let refused = claims(&[0xff, 0xff, 0xff, 0xff, 0x07]).expect_err("2^31 booleans");
        assert!(refused.contains("longer than they are"), "{refused}");
        // In a list (9) of lists (9), and as a map (11) of booleans.
        assert!(check(&file(&[0x19, 0x19, 0xf2, 0xff, 0xff, 0xff, 0xff, 0x07, 0])).is_err());
        assert!(check(&file(&[0x1b, 0xff, 0xff, 0xff, 0xff, 0x07, 0x11, 0])).is_err());
        // Many lists may exceed the limit together, even if each is within it.
        let many: Vec<u8> = std::iter::repeat_n([0x19, 0xf1, 0x20], 100).flatten().chain([0]).collect();
        assert!(check(&file(&many)).is_err());
    }

    #[test]
    fn what_is_no_footer_is_left_to_the_decoder() {
        for footer in [&[][..], &[0x18, 0xff], &[0x0f; 40]] {
            assert!(check(&file(footer)).is_ok(), "{footer:?}");
        }
    }
}
