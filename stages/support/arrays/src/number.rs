//! The number types of arrays on disk, and their conversion to the types used here.

use schemas::atlas::StoredNumber;

/// The types that an array can be read as.
pub trait Number: Copy {
    /// Appends the numbers stored in these bytes.
    fn append(stored: StoredNumber, bytes: &[u8], out: &mut Vec<Self>);
}

/// Implements [`Number`]: for each stored type, a conversion.
macro_rules! number {
    ($number:ty, $($element:ident($stored:ty) => $convert:expr),+ $(,)?) => {
        impl Number for $number {
            fn append(stored: StoredNumber, bytes: &[u8], out: &mut Vec<Self>) {
                match stored {
                    $(StoredNumber::$element => {
                        let stored = bytes.as_chunks::<{ size_of::<$stored>() }>().0;
                        out.extend(stored.iter().map(|bytes| $convert(<$stored>::from_le_bytes(*bytes))));
                    })+
                }
            }
        }
    };
}

mod casts {
    #![expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        clippy::cast_sign_loss,
        reason = "values are worked with as f32, and what no id can be is told apart before it is cast"
    )]

    use schemas::numbers::saturating;

    use super::{Number, StoredNumber};

    number!(f32,
        I8(i8) => |n: i8| f32::from(n), I16(i16) => |n: i16| f32::from(n), I32(i32) => |n| n as f32, I64(i64) => |n| n as f32,
        U8(u8) => |n: u8| f32::from(n), U16(u16) => |n: u16| f32::from(n), U32(u32) => |n| n as f32, U64(u64) => |n| n as f32,
        F32(f32) => |n| n, F64(f64) => |n| n as f32);

    number!(f64,
        I8(i8) => |n: i8| f64::from(n), I16(i16) => |n: i16| f64::from(n), I32(i32) => |n: i32| f64::from(n), I64(i64) => |n| n as f64,
        U8(u8) => |n: u8| f64::from(n), U16(u16) => |n: u16| f64::from(n), U32(u32) => |n: u32| f64::from(n), U64(u64) => |n| n as f64,
        F32(f32) => |n: f32| f64::from(n), F64(f64) => |n| n);

    number!(i64,
        I8(i8) => |n: i8| i64::from(n), I16(i16) => |n: i16| i64::from(n), I32(i32) => |n: i32| i64::from(n), I64(i64) => |n| n,
        U8(u8) => |n: u8| i64::from(n), U16(u16) => |n: u16| i64::from(n), U32(u32) => |n: u32| i64::from(n),
        U64(u64) => |n: u64| saturating::<i64>(n),
        F32(f32) => |n| n as i64, F64(f64) => |n| n as i64);

    /// Only columns of `u64` are read as this type, so no number is negative or has a fraction.
    fn unsigned(number: impl TryInto<u64>) -> u64 {
        number.try_into().unwrap_or(0)
    }

    number!(u64,
        I8(i8) => unsigned, I16(i16) => unsigned, I32(i32) => unsigned, I64(i64) => unsigned,
        U8(u8) => u64::from, U16(u16) => u64::from, U32(u32) => u64::from, U64(u64) => |n| n,
        F32(f32) => |n| n as u64, F64(f64) => |n| n as u64);

    /// An id; one that is negative or too large becomes `u32::MAX`, which is not a gene.
    fn id(number: impl TryInto<u32>) -> u32 {
        number.try_into().unwrap_or(u32::MAX)
    }

    // For i32, every negative number becomes at least 2^31, which is not a gene either; this costs nothing.
    number!(u32,
        I8(i8) => id, I16(i16) => id,
        I32(i32) => |n: i32| n.cast_unsigned(), I64(i64) => id,
        U8(u8) => |n: u8| u32::from(n), U16(u16) => |n: u16| u32::from(n), U32(u32) => |n| n,
        U64(u64) => id,
        F32(f32) => |n: f32| if n >= 0.0 { n as u32 } else { u32::MAX },
        F64(f64) => |n: f64| if n >= 0.0 { n as u32 } else { u32::MAX });
}
