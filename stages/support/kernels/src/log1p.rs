//! log(1 + x) of counts, as the encoder reads them.

use simd::{InstructionSet, Kernel};

use super::real::Real;

/// log(1 + x) of numbers that are not negative.
pub struct Log1p<'a, T> {
    /// The numbers.
    pub numbers: &'a [T],
    /// Receives their logarithms; as long as `numbers`.
    pub out: &'a mut [T],
}

impl<T: Real> Kernel for Log1p<'_, T> {
    type Out = ();

    #[inline(always)]
    fn run<W: InstructionSet>(self) {
        for (out, number) in self.out.iter_mut().zip(self.numbers) {
            *out = number.ln_1p::<W>()[0];
        }
    }
}
