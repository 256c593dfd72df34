//! Conversions between integer types. None of them silently changes a number.
//!
//! | function | if the number does not fit |
//! |---|---|
//! | [`to_usize`] | it always fits: addresses have 64 bits |
//! | [`to_i64`] | it always fits: a length in memory is below 2^63 |
//! | [`checked`] | an error that names the number: for numbers from data |
//! | [`bounded`] | a panic: for numbers that were already checked |
//! | [`saturating`] | the largest number of the type: for estimates and limits |

use std::{any::type_name, fmt::Display};

use crate::{Error, Result};

const _: () = assert!(usize::BITS == 64, "Perturbine needs a machine with addresses of 64 bits");

/// A number of up to 64 bits as a length or an index.
#[inline]
#[must_use]
#[expect(clippy::cast_possible_truncation, reason = "addresses have 64 bits, which the assertion above checks")]
pub fn to_usize(number: impl Into<u64>) -> usize {
    number.into() as usize
}

/// The length of something in memory, or a position in it, as an i64, which libtorch and HDF5 use.
///
/// # Panics
/// At 2^63 and above, which a length never reaches.
#[inline]
#[must_use]
#[track_caller]
pub fn to_i64(length: usize) -> i64 {
    bounded(length)
}

/// A number from data, in a narrower type.
///
/// # Errors
/// A number that does not fit; `what` says what it counts.
pub fn checked<T>(number: impl Copy + Display + TryInto<T>, what: &str) -> Result<T> {
    number.try_into().map_err(|_| {
        let message = format!("{number} is out of range (it has to fit {})", type_name::<T>());
        Error::data(what, message, "check whether the data is damaged; larger data is not supported")
    })
}

/// A number that is known to fit.
///
/// # Panics
/// If it does not fit, which is a bug.
#[inline]
#[must_use]
#[track_caller]
pub fn bounded<T>(number: impl Copy + Display + TryInto<T>) -> T {
    number.try_into().unwrap_or_else(|_| panic!("{number} does not fit {}", type_name::<T>()))
}

/// Converts a number that is not negative; one that does not fit becomes the largest number of the new type.
#[inline]
#[must_use]
pub fn saturating<T: Largest>(number: impl TryInto<T>) -> T {
    number.try_into().unwrap_or(T::LARGEST)
}

/// A type that has a largest number.
pub trait Largest {
    /// The largest number.
    const LARGEST: Self;
}

macro_rules! largest {
    ($($integer:ty),*) => {
        $(impl Largest for $integer {
            const LARGEST: Self = Self::MAX;
        })*
    };
}

largest!(i32, i64, u32, u64);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ExitCode;

    #[test]
    fn what_fits_keeps_its_value() {
        assert_eq!((to_usize(u32::MAX), to_usize(u64::MAX)), (4_294_967_295, usize::MAX));
        assert_eq!(to_i64(7), 7);
        assert_eq!(checked::<u8>(255_u64, "genes").expect("it fits"), 255);
        assert_eq!((bounded::<u32>(7_i64), saturating::<i32>(7_u64)), (7, 7));
    }

    #[test]
    fn what_does_not_fit_is_an_error_with_the_number_and_what_it_counts() {
        let error = checked::<u32>(1_usize << 32, "genes").expect_err("it does not fit");
        assert_eq!(error.to_string(), "genes: 4294967296 is out of range (it has to fit u32)");
        assert_eq!(error.exit_code(), ExitCode::Data);
        assert!(checked::<u64>(-1_i64, "rows").is_err());
    }

    #[test]
    #[should_panic(expected = "-1 does not fit usize")]
    fn what_was_said_to_be_bounded_and_is_not_ends_in_a_panic() {
        let _: usize = bounded(-1_i64);
    }

    #[test]
    fn an_estimate_stops_at_the_largest_number() {
        assert_eq!((saturating::<i32>(u64::MAX), saturating::<u64>(u128::MAX)), (i32::MAX, u64::MAX));
    }
}
