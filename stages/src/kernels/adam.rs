//! One step of Adam over the numbers of one parameter.

use super::real::Real;
use crate::simd::{Kernel, Way};

/// Moments and parameter move in place.
pub(crate) struct AdamStep<'a, T> {
    pub(crate) parameter: &'a mut [T],
    pub(crate) first: &'a mut [T],
    pub(crate) second: &'a mut [T],
    pub(crate) gradient: &'a [T],
    /// Factor of the gradient, applied first.
    pub(crate) scale: T,
    pub(crate) weight_decay: T,
    /// 1 − β₁ and 1 − β₂: the newest gradient's share in the moments.
    pub(crate) shares: [T; 2],
    /// Learning rate over what the first moment is short of.
    pub(crate) rate: T,
    /// One over the root of what the second moment is short of.
    pub(crate) second_scale: T,
    pub(crate) epsilon: T,
}

impl<T: Real> Kernel for AdamStep<'_, T> {
    type Out = ();

    #[inline(always)]
    fn run<W: Way>(self) {
        let count = self.parameter.len();
        let (parameter, gradient) = (&mut self.parameter[..count], &self.gradient[..count]);
        let (first, second) = (&mut self.first[..count], &mut self.second[..count]);
        let Self { scale, weight_decay, shares, rate, second_scale, epsilon, .. } = self;
        for at in 0..count {
            let slope = parameter[at].mul_add::<W>(weight_decay, gradient[at] * scale);
            first[at] = (slope - first[at]).mul_add::<W>(shares[0], first[at]);
            second[at] = (slope * slope - second[at]).mul_add::<W>(shares[1], second[at]);
            let step = first[at] * rate / second[at].root().mul_add::<W>(second_scale, epsilon);
            parameter[at] = parameter[at] - step;
        }
    }
}
