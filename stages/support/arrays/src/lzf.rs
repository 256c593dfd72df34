//! LZF, the compression that comes with h5py: runs of literal bytes, and copies of earlier ones.
//!
//! ```text
//! 000LLLLL                    L + 1 literal bytes follow
//! LLLooooo oooooooo           copy L + 2 bytes (L from 1 to 6) from o + 1 bytes back
//! 111ooooo LLLLLLLL oooooooo  copy L + 9 bytes from o + 1 bytes back
//! ```

/// Unpacks into all of `out`; `None` if the bytes are not an LZF stream of that length.
pub(super) fn unpack(mut packed: &[u8], out: &mut [u8]) -> Option<()> {
    let mut at = 0;
    while let Some((control, rest)) = packed.split_first() {
        let control = usize::from(*control);
        if control < 32 {
            let (literals, rest) = rest.split_at_checked(control + 1)?;
            out.get_mut(at..at + literals.len())?.copy_from_slice(literals);
            (at, packed) = (at + literals.len(), rest);
            continue;
        }
        let (length, rest) = match control >> 5 {
            7 => {
                let (more, rest) = rest.split_first()?;
                (9 + usize::from(*more), rest)
            }
            short => (2 + short, rest),
        };
        let (low, rest) = rest.split_first()?;
        let back = ((control & 31) << 8 | usize::from(*low)) + 1;
        let (from, end) = (at.checked_sub(back)?, at + length);
        if out.len() < end {
            return None;
        }
        if length <= back {
            out.copy_within(from..from + length, at);
        } else {
            // The copy may read bytes that it has just written.
            for to in at..end {
                out[to] = out[to - back];
            }
        }
        (at, packed) = (end, rest);
    }
    (at == out.len()).then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_and_copies_of_every_length_are_unpacked() {
        let mut out = [0; 24];
        // "abc", then 4 bytes from 3 back, then 9 + 8 bytes from 1 back.
        let packed = [2, b'a', b'b', b'c', 2 << 5, 2, 7 << 5, 8, 0];
        assert_eq!(unpack(&packed, &mut out), Some(()));
        assert_eq!(&out, b"abcabcaaaaaaaaaaaaaaaaaa");
    }

    #[test]
    fn damaged_streams_are_refused() {
        let damaged: [&[u8]; 6] =
            [&[], &[3, 1, 2], &[1 << 5], &[7 << 5, 1], &[0, 1, 1 << 5, 1], &[3, 1, 2, 3, 4, 5, 6]];
        for packed in damaged {
            assert_eq!(unpack(packed, &mut [0; 4]), None, "{packed:?}");
        }
        assert_eq!(unpack(&[3, 1, 2, 3, 4], &mut [0; 3]), None, "too long");
    }
}
