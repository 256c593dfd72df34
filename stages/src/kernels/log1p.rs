//! log(1 + x) of counts, as the encoder reads them.

use super::real::Real;
use crate::simd::{Kernel, Way};

/// log(1 + x) of numbers from 0 on.
pub(crate) struct Log1p<'a, T> {
    pub(crate) numbers: &'a [T],
    pub(crate) out: &'a mut [T],
}

impl<T: Real> Kernel for Log1p<'_, T> {
    type Out = ();

    #[inline(always)]
    fn run<W: Way>(self) {
        for (out, number) in self.out.iter_mut().zip(self.numbers) {
            *out = number.ln_1p::<W>()[0];
        }
    }
}
