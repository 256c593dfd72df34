//! BloscLZ, blosc's own compression: runs of literal bytes, and copies of what came before.
//!
//! ```text
//! 000LLLLL                            L + 1 literal bytes follow; the first control byte always means this
//! LLLooooo oooooooo                   copy L + 2 bytes (L from 1 to 6) from o + 1 bytes back
//! 111ooooo mmmmmmmm.. oooooooo        copy m + 9 bytes; m goes on as long as its bytes are 255
//! LLL11111 mmmmmmmm.. 11111111 O O    as above, from O + 8192 bytes back
//! ```

/// What is far enough back for an offset of its own, of 16 bits.
const FAR: usize = 8191;

/// Unpacks into all of `out`; `None` if the bytes are no BloscLZ stream of that length.
pub(super) fn unpack(packed: &[u8], out: &mut [u8]) -> Option<()> {
    let mut rest = packed;
    let mut control = next(&mut rest)? & 31;
    let mut at = 0;
    loop {
        if control < 32 {
            let (literals, after) = rest.split_at_checked(usize::from(control) + 1)?;
            out.get_mut(at..at + literals.len())?.copy_from_slice(literals);
            (at, rest) = (at + literals.len(), after);
        } else {
            let mut length = usize::from(control >> 5) + 2;
            if control >> 5 == 7 {
                loop {
                    let more = next(&mut rest)?;
                    length = length.checked_add(usize::from(more))?;
                    if more != u8::MAX {
                        break;
                    }
                }
            }
            let offset = (usize::from(control & 31) << 8) + usize::from(next(&mut rest)?);
            let back = match offset {
                FAR => (usize::from(next(&mut rest)?) << 8) + usize::from(next(&mut rest)?) + FAR + 1,
                near => near + 1,
            };
            let (from, end) = (at.checked_sub(back)?, at.checked_add(length)?);
            if out.len() < end {
                return None;
            }
            if length <= back {
                out.copy_within(from..from + length, at);
            } else {
                // The copy reads bytes that it has written itself.
                for to in at..end {
                    out[to] = out[to - back];
                }
            }
            at = end;
        }
        match next(&mut rest) {
            Some(following) => control = following,
            None => return (at == out.len()).then_some(()),
        }
    }
}

fn next(bytes: &mut &[u8]) -> Option<u8> {
    let (first, rest) = bytes.split_first()?;
    *bytes = rest;
    Some(*first)
}
