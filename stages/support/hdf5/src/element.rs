//! The number types of datasets, read with and without libhdf5.

use arrays::number::Number;
use hdf5_metno::{
    Dataset, Datatype,
    types::{FloatSize, IntSize, TypeDescriptor},
};
use schemas::atlas::StoredNumber;

/// A type that a dataset can be read as through libhdf5, which converts most numbers itself.
pub trait LibraryNumber: Number {
    /// The type that is read from libhdf5.
    type InLibrary: hdf5_metno::H5Type;

    /// The conversion from libhdf5's type, equal to that of [`Number::append`].
    fn from_library(number: Self::InLibrary) -> Self;
}

macro_rules! read_as_itself {
    ($($number:ty),+) => {$(
        impl LibraryNumber for $number {
            type InLibrary = Self;

            fn from_library(number: Self) -> Self {
                number
            }
        }
    )+};
}

read_as_itself!(f32, f64, i64, u64);

impl LibraryNumber for u32 {
    type InLibrary = i64;

    /// An id; one that is negative or too large becomes `u32::MAX`, which is not a gene.
    fn from_library(number: i64) -> Self {
        number.try_into().unwrap_or(u32::MAX)
    }
}

/// The type of a dataset's numbers, if it can be read without libhdf5; `None` for any other type, even if
/// only the byte order differs.
pub(super) fn element_of(dataset: &Dataset) -> Option<StoredNumber> {
    let stored = dataset.dtype().ok()?;
    let descriptor = stored.to_descriptor().ok()?;
    // Properties missing in a descriptor (byte order, unused bits) are those of this machine, which is
    // little-endian.
    if Datatype::from_descriptor(&descriptor).ok()? != stored {
        return None;
    }
    Some(match descriptor {
        TypeDescriptor::Integer(IntSize::U1) => StoredNumber::I8,
        TypeDescriptor::Integer(IntSize::U2) => StoredNumber::I16,
        TypeDescriptor::Integer(IntSize::U4) => StoredNumber::I32,
        TypeDescriptor::Integer(IntSize::U8) => StoredNumber::I64,
        TypeDescriptor::Unsigned(IntSize::U1) => StoredNumber::U8,
        TypeDescriptor::Unsigned(IntSize::U2) => StoredNumber::U16,
        TypeDescriptor::Unsigned(IntSize::U4) => StoredNumber::U32,
        TypeDescriptor::Unsigned(IntSize::U8) => StoredNumber::U64,
        TypeDescriptor::Float(FloatSize::U4) => StoredNumber::F32,
        TypeDescriptor::Float(FloatSize::U8) => StoredNumber::F64,
        _ => return None,
    })
}
