//! One step of Adam over the numbers of one parameter.

use simd::{InstructionSet, Kernel};

use super::real::Real;

/// A step, which overwrites parameter and moments.
pub struct AdamStep<'a, T> {
    /// The numbers of the parameter; overwritten.
    pub parameter: &'a mut [T],
    /// Running means of the gradients; overwritten.
    pub first: &'a mut [T],
    /// Running means of their squares; overwritten.
    pub second: &'a mut [T],
    /// The gradients of the loss, one per number.
    pub gradient: &'a [T],
    /// Factor of the gradient, applied first.
    pub scale: T,
    /// L2 penalty, added to the gradient.
    pub weight_decay: T,
    /// 1 − β₁ and 1 − β₂: the newest gradient's share in the moments.
    pub shares: [T; 2],
    /// Learning rate over the bias correction of the first moment.
    pub rate: T,
    /// One over the root of the bias correction of the second moment.
    pub second_scale: T,
    /// Keeps the denominator positive.
    pub epsilon: T,
}

impl<T: Real> Kernel for AdamStep<'_, T> {
    type Out = ();

    #[inline(always)]
    fn run<W: InstructionSet>(self) {
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
