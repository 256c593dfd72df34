//! Tables by which bits and bytes are moved.

/// For each byte, the places of its set bits.
pub(super) static ONES: [[u8; 8]; 256] = ones();

const fn ones() -> [[u8; 8]; 256] {
    let mut table = [[0; 8]; 256];
    let mut byte = 0;
    while byte < 256 {
        let (mut bit, mut found) = (0, 0);
        while bit < 8 {
            if byte >> bit & 1 == 1 {
                table[byte][found] = bit;
                found += 1;
            }
            bit += 1;
        }
        byte += 1;
    }
    table
}

#[cfg(target_arch = "x86_64")]
pub(super) use x86::*;

#[cfg(target_arch = "x86_64")]
mod x86 {
    /// For each byte, the number of unset bits below each of its set bits.
    pub(in super::super) static ZEROS_BELOW: [[u8; 8]; 256] = zeros_below();
    /// For each byte, its number of unset bits.
    pub(in super::super) static ZEROS: [u16; 256] = zeros();
    /// Eight, for each byte.
    pub(in super::super) static EIGHTS: [u16; 256] = [8; 256];
    /// For each byte and place, how many bits are set before it if the bit there is; otherwise a place that a shuffle clears.
    pub(in super::super) static RANKS: [[u8; 8]; 256] = ranks();
    /// For each number of bits, the bytes in which each of eight codes lies, and the next ones.
    pub(in super::super) static CODE_BYTES: [[u8; 16]; 9] = code_bytes();
    /// For each number of bits, the factors that bring each of eight codes to the top of its 16 bits.
    pub(in super::super) static CODE_FACTORS: [[u16; 8]; 9] = code_factors();
    /// For each number of bits, the bytes of which eight words of eight codes consist.
    pub(in super::super) static WORD_BYTES: [[u8; 64]; 9] = word_bytes();
    /// For each number of bits, the first bit of each of eight codes.
    pub(in super::super) static CODE_SHIFTS: [[u8; 8]; 9] = code_shifts();
    /// 0 to 31.
    pub(in super::super) static PLACES: [u8; 32] = places();

    const fn zeros_below() -> [[u8; 8]; 256] {
        let mut table = ONES_HERE;
        let mut byte = 0;
        while byte < 256 {
            let mut one: u8 = 0;
            while one < 8 {
                table[byte][one as usize] = table[byte][one as usize].wrapping_sub(one);
                one += 1;
            }
            byte += 1;
        }
        table
    }

    /// A constant may not read a static.
    const ONES_HERE: [[u8; 8]; 256] = super::ones();

    const fn zeros() -> [u16; 256] {
        let mut table = [0; 256];
        let mut byte = 0;
        while byte < 256 {
            let mut bit = 0;
            while bit < 8 {
                if byte >> bit & 1 == 0 {
                    table[byte] += 1;
                }
                bit += 1;
            }
            byte += 1;
        }
        table
    }

    const fn ranks() -> [[u8; 8]; 256] {
        let mut table = [[0x80; 8]; 256];
        let mut byte = 0;
        while byte < 256 {
            let (mut bit, mut rank) = (0, 0);
            while bit < 8 {
                if byte >> bit & 1 == 1 {
                    table[byte][bit] = rank;
                    rank += 1;
                }
                bit += 1;
            }
            byte += 1;
        }
        table
    }

    const fn code_bytes() -> [[u8; 16]; 9] {
        let mut table = [[0; 16]; 9];
        let mut bits: u8 = 0;
        while bits < 9 {
            let mut code: u8 = 0;
            while code < 8 {
                table[bits as usize][2 * code as usize] = code * bits / 8;
                table[bits as usize][2 * code as usize + 1] = code * bits / 8 + 1;
                code += 1;
            }
            bits += 1;
        }
        table
    }

    const fn code_factors() -> [[u16; 8]; 9] {
        let mut table = [[0; 8]; 9];
        let mut bits = 1;
        while bits < 9 {
            let mut code = 0;
            while code < 8 {
                table[bits][code] = 1 << (16 - bits - (code * bits) % 8);
                code += 1;
            }
            bits += 1;
        }
        table
    }

    const fn word_bytes() -> [[u8; 64]; 9] {
        let mut table = [[0; 64]; 9];
        let mut bits: u8 = 0;
        while bits < 9 {
            let mut byte: u8 = 0;
            while byte < 64 {
                table[bits as usize][byte as usize] = (byte / 8 * bits + byte % 8) & 63;
                byte += 1;
            }
            bits += 1;
        }
        table
    }

    const fn code_shifts() -> [[u8; 8]; 9] {
        let mut table = [[0; 8]; 9];
        let mut bits: u8 = 0;
        while bits < 9 {
            let mut code: u8 = 0;
            while code < 8 {
                table[bits as usize][code as usize] = code * bits;
                code += 1;
            }
            bits += 1;
        }
        table
    }

    const fn places() -> [u8; 32] {
        let mut table = [0; 32];
        let mut place: u8 = 0;
        while place < 32 {
            table[place as usize] = place;
            place += 1;
        }
        table
    }
}
