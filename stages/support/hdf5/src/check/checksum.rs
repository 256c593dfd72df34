//! The checksum of metadata: Bob Jenkins' `lookup3` over bytes, with the initial value 0 (specification, III.A.2 and
//! others).

/// The checksum of some bytes.
pub(super) fn lookup3(bytes: &[u8]) -> u32 {
    // The length is used modulo 2³², as by its type in the original.
    let [l0, l1, l2, l3, ..] = (bytes.len() as u64).to_le_bytes();
    let start = 0xdead_beef_u32.wrapping_add(u32::from_le_bytes([l0, l1, l2, l3]));
    let mut sums = [start; 3];
    let mut rest = bytes;
    // The last twelve bytes, or fewer, are mixed differently.
    while let Some((head, tail)) = rest.split_first_chunk::<12>().filter(|(_, tail)| !tail.is_empty()) {
        add(&mut sums, head);
        mix(&mut sums);
        rest = tail;
    }
    if !rest.is_empty() {
        let mut last = [0; 12];
        last[..rest.len()].copy_from_slice(rest);
        add(&mut sums, &last);
        finish(&mut sums);
    }
    sums[2]
}

fn add(sums: &mut [u32; 3], bytes: &[u8; 12]) {
    for (sum, word) in sums.iter_mut().zip(bytes.as_chunks::<4>().0) {
        *sum = sum.wrapping_add(u32::from_le_bytes(*word));
    }
}

/// Each sum in turn: another is subtracted from it, it is combined with that one, rotated, by XOR, and the
/// third is added to that one.
fn mix(sums: &mut [u32; 3]) {
    for (step, turn) in [4, 6, 8, 16, 19, 4].into_iter().enumerate() {
        let (here, other, third) = (step % 3, (step + 2) % 3, (step + 1) % 3);
        sums[here] = sums[here].wrapping_sub(sums[other]) ^ sums[other].rotate_left(turn);
        sums[other] = sums[other].wrapping_add(sums[third]);
    }
}

/// The last steps: each sum in turn is combined with another by XOR, and then loses that one, rotated.
fn finish(sums: &mut [u32; 3]) {
    for (step, turn) in [14, 11, 25, 16, 4, 14, 24].into_iter().enumerate() {
        let (here, other) = ((step + 2) % 3, (step + 1) % 3);
        sums[here] = (sums[here] ^ sums[other]).wrapping_sub(sums[other].rotate_left(turn));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_those_that_the_function_is_published_with() {
        assert_eq!(lookup3(b""), 0xdead_beef);
        assert_eq!(lookup3(b"Four score and seven years ago"), 0x1777_0551);
    }
}
