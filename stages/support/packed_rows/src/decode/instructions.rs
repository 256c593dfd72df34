//! The steps of decoding that differ by processor.

use super::portable::select_eight;

/// The upper bits of a row's ids.
pub struct Bitmap {
    /// Its bytes; up to 8 bytes beyond the last bit can be read.
    pub(super) bytes: *const u8,
    /// Number of its bits.
    pub(super) bits: usize,
    /// Whether each bit stands for a gene.
    pub(super) is_of_all_genes: bool,
    /// Number of entries: as many bits are set.
    pub(super) entries: usize,
    /// Number of low bits of an id.
    pub(super) low_bits: u32,
}

/// The steps of decoding, with some instructions. What they write is up to [`crate::SLACK`] items more than asked for.
pub trait Instructions {
    /// Unpacks `entries` codes of `bits` bits (1 to 8), and adds `BASE`. If `ESCAPES`, each code of ones only is replaced by the
    /// next byte of `escapes`. Returns how many bytes that took; `None` if they lie beyond `end`.
    ///
    /// # Safety
    /// The processor has the instructions. The codes begin and `escapes` and `end` lie in memory that can be read for
    /// [`crate::SLACK`] bytes more, and `out` has room for the entries and as many bytes more.
    unsafe fn unpack<const BASE: u8, const ESCAPES: bool>(
        codes: *const u8,
        entries: usize,
        bits: usize,
        escapes: *const u8,
        end: *const u8,
        out: *mut u8,
    ) -> Option<usize>;

    /// Turns set bits and, if `LOW`, low bits into ids; `false` unless as many bits are set as there are entries.
    ///
    /// # Safety
    /// As above; `low` holds the entries and [`crate::SLACK`] bytes more.
    unsafe fn select<const LOW: bool>(bitmap: &Bitmap, low: *const u8, out: *mut u16) -> bool;
}

/// Types of ids, and how bits become ids of that type.
pub trait Select: Copy + Into<u32> {
    /// As [`Instructions::select`].
    ///
    /// # Safety
    /// As there.
    unsafe fn select<I: Instructions, const LOW: bool>(bitmap: &Bitmap, low: *const u8, out: *mut Self) -> bool;
}

impl Select for u16 {
    #[inline(always)]
    unsafe fn select<I: Instructions, const LOW: bool>(bitmap: &Bitmap, low: *const u8, out: *mut Self) -> bool {
        // SAFETY: the caller keeps it.
        unsafe { I::select::<LOW>(bitmap, low, out) }
    }
}

impl Select for u32 {
    #[inline(always)]
    unsafe fn select<I: Instructions, const LOW: bool>(bitmap: &Bitmap, low: *const u8, out: *mut Self) -> bool {
        // SAFETY: the caller keeps it.
        unsafe { select_eight::<Self, LOW>(bitmap, low, out, |id| id) }
    }
}
