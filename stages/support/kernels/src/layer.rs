//! The rest of a hidden layer after its linear part, forward and backward in one pass: a norm over cells or features, ReLU, dropout.
//!
//! An activation is 0 where ReLU or dropout cut it off and positive elsewhere, so the output itself is the
//! mask that the backward pass needs.

use simd::{InstructionSet, Kernel};

use super::{
    real::Real,
    sums::{ColumnSums, sum},
};

/// Dropout of activations `[cells, width]`: which are dropped depends only on the seed and the position.
#[derive(Clone, Copy, Debug)]
pub struct Dropout {
    seed: u32,
    /// Activations with a draw below this are dropped.
    threshold: u32,
    /// Factor of the remaining activations.
    scale: f64,
}

impl Dropout {
    /// Drops this share, from 0 to 1.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of 2^32, cut off at its ends")]
    pub fn new(share: f64, seed: u32) -> Self {
        let scale = if share < 1.0 { 1.0 / (1.0 - share) } else { 0.0 };
        Self { seed, threshold: (share * 4_294_967_296.0) as u32, scale }
    }

    /// Activations with a draw below this are dropped.
    pub fn threshold(self) -> u32 {
        self.threshold
    }

    /// Factor of the remaining activations.
    pub fn scale(self) -> f64 {
        self.scale
    }

    /// No dropout.
    pub fn none() -> Self {
        Self::new(0.0, 0)
    }

    /// Applies ReLU and this dropout to the activations of one row.
    #[inline(always)]
    fn cut<T: Real>(self, row: usize, activations: &mut [T]) {
        let scale = T::from_f64(self.scale);
        if self.threshold == 0 {
            for activation in activations {
                *activation = if T::default() < *activation { *activation } else { T::default() };
            }
            return;
        }
        // One seed per row; the counter within it is the column.
        let start = mixed(self.seed ^ mixed(low_bits(row)));
        for (column, activation) in (0_u32..).zip(activations) {
            let drawn = mixed(start.wrapping_add(column.wrapping_mul(0x9e37_79b9)));
            let kept = T::default() < *activation && self.threshold <= drawn;
            *activation = if kept { *activation * scale } else { T::default() };
        }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "what is asked for")]
#[inline(always)]
fn low_bits(number: usize) -> u32 {
    number as u32
}

/// Mixes bits so that every bit depends on every other (the multipliers are those of C. Wellons' search,
/// `lowbias32`).
#[inline(always)]
fn mixed(bits: u32) -> u32 {
    let bits = (bits ^ (bits >> 16)).wrapping_mul(0x7feb_352d);
    let bits = (bits ^ (bits >> 15)).wrapping_mul(0x846c_a68b);
    bits ^ (bits >> 16)
}

/// Batch norm, ReLU and dropout of `[cells, width]`. The bias of the linear layer before it is not needed.
pub struct BatchNormForward<'a, T> {
    /// The output of the linear layer, `[cells, width]`.
    pub input: &'a [T],
    /// Factors of the normalised values, `[width]`.
    pub weight: &'a [T],
    /// Added before the ReLU, `[width]`.
    pub bias: &'a [T],
    /// Added to a variance before taking its root.
    pub epsilon: f64,
    /// The dropout of the forward pass.
    pub dropout: Dropout,
    /// The activations, `[cells, width]`.
    pub output: &'a mut [T],
    /// Receives each feature's mean, biased variance, and inverse standard deviation, `[width]` each.
    pub statistics: [&'a mut [T]; 3],
}

impl<T: Real> Kernel for BatchNormForward<'_, T> {
    type Out = ();

    #[inline(always)]
    fn run<W: InstructionSet>(self) {
        let Self { input, weight, bias, epsilon, dropout, output, statistics: [means, variances, inverses] } = self;
        let width = weight.len();
        #[expect(clippy::cast_precision_loss, reason = "no batch has 2^52 cells")]
        let cells = (input.len() / width) as f64;
        let mut sums = ColumnSums::<T, 1>::new(width);
        for row in input.chunks_exact(width) {
            let [sums] = sums.next_row();
            for (sum, x) in sums.iter_mut().zip(row) {
                *sum += *x;
            }
        }
        let [sums] = sums.finish();
        for (mean, sum) in means.iter_mut().zip(&sums) {
            *mean = T::from_f64(sum / cells);
        }
        let mut squares = ColumnSums::<T, 1>::new(width);
        for row in input.chunks_exact(width) {
            let [squares] = squares.next_row();
            for ((square, x), mean) in squares.iter_mut().zip(row).zip(&*means) {
                let off = *x - *mean;
                *square = off.mul_add::<W>(off, *square);
            }
        }
        let [squares] = squares.finish();
        for ((variance, inverse), square) in variances.iter_mut().zip(&mut *inverses).zip(&squares) {
            *variance = T::from_f64(square / cells);
            *inverse = T::from_f64(1.0 / (square / cells + epsilon).sqrt());
        }
        let slopes: Vec<T> = weight.iter().zip(&*inverses).map(|(weight, inverse)| *weight * *inverse).collect();
        let (slopes, means, bias) = (&slopes[..width], &means[..width], &bias[..width]);
        for (at, (row, out)) in input.chunks_exact(width).zip(output.chunks_exact_mut(width)).enumerate() {
            for column in 0..width {
                out[column] = (row[column] - means[column]).mul_add::<W>(slopes[column], bias[column]);
            }
            dropout.cut(at, out);
        }
    }
}

/// The backward pass of [`BatchNormForward`].
pub struct BatchNormBackward<'a, T> {
    /// The output of the linear layer, `[cells, width]`.
    pub input: &'a [T],
    /// The activations, `[cells, width]`.
    pub output: &'a [T],
    /// Factors of the normalised values, `[width]`.
    pub weight: &'a [T],
    /// Means from the forward pass.
    pub mean: &'a [T],
    /// Inverse standard deviations from the forward pass.
    pub inverse: &'a [T],
    /// The dropout of the forward pass.
    pub dropout: Dropout,
    /// The gradient with respect to the output; overwritten by the one with respect to the input.
    pub gradient: &'a mut [T],
    /// Receives the gradient with respect to the weight.
    pub of_weight: &'a mut [T],
    /// Receives the gradient with respect to the bias, `[width]`.
    pub of_bias: &'a mut [T],
}

impl<T: Real> Kernel for BatchNormBackward<'_, T> {
    type Out = ();

    #[inline(always)]
    fn run<W: InstructionSet>(self) {
        let Self { input, output, weight, mean, inverse, dropout, gradient, of_weight, of_bias } = self;
        let width = weight.len();
        #[expect(clippy::cast_precision_loss, reason = "no batch has 2^52 cells")]
        let cells = (input.len() / width) as f64;
        through_dropout(gradient, output, dropout);
        let (mean, inverse) = (&mean[..width], &inverse[..width]);
        let mut both = ColumnSums::<T, 2>::new(width);
        for (slope, x) in gradient.chunks_exact(width).zip(input.chunks_exact(width)) {
            let [sums, products] = both.next_row();
            let (sums, products) = (&mut sums[..width], &mut products[..width]);
            for at in 0..width {
                sums[at] += slope[at];
                products[at] = (x[at] - mean[at]).mul_add::<W>(slope[at] * inverse[at], products[at]);
            }
        }
        let [sums, products] = both.finish();
        for at in 0..width {
            of_bias[at] = T::from_f64(sums[at]);
            of_weight[at] = T::from_f64(products[at]);
        }
        // dx = w/s (e − Σe/n − x̂ Σ(e x̂)/n): linear in e and x for each feature.
        let scale: Vec<T> = (0..width).map(|at| weight[at] * inverse[at]).collect();
        let tilt: Vec<T> = (0..width).map(|at| T::from_f64(inverse[at].wide() * products[at] / cells)).collect();
        let shift: Vec<T> = sums.iter().map(|sum| T::from_f64(sum / cells)).collect();
        let (scale, tilt, shift) = (&scale[..width], &tilt[..width], &shift[..width]);
        for (slope, x) in gradient.chunks_exact_mut(width).zip(input.chunks_exact(width)) {
            for at in 0..width {
                let level = (x[at] - mean[at]).mul_add::<W>(-tilt[at], slope[at] - shift[at]);
                slope[at] = level * scale[at];
            }
        }
    }
}

/// The linear layer's bias, layer norm without weights, ReLU and dropout of `[cells, width]`.
pub struct LayerNormForward<'a, T> {
    /// The output of the linear layer, `[cells, width]`; the bias is added in place.
    pub input: &'a mut [T],
    /// Added before the ReLU, `[width]`.
    pub bias: &'a [T],
    /// Added to a variance before taking its root.
    pub epsilon: f64,
    /// The dropout of the forward pass.
    pub dropout: Dropout,
    /// The activations, `[cells, width]`.
    pub output: &'a mut [T],
    /// Receives mean and inverse standard deviation of each cell, `[cells]` each.
    pub statistics: [&'a mut [T]; 2],
}

impl<T: Real> Kernel for LayerNormForward<'_, T> {
    type Out = ();

    #[inline(always)]
    fn run<W: InstructionSet>(self) {
        let Self { input, bias, epsilon, dropout, output, statistics: [means, inverses] } = self;
        let width = bias.len();
        #[expect(clippy::cast_precision_loss, reason = "no layer is 2^52 wide")]
        let features = width as f64;
        let mut squares = vec![T::default(); width];
        for (at, (row, out)) in input.chunks_exact_mut(width).zip(output.chunks_exact_mut(width)).enumerate() {
            add(row, bias);
            let mean = T::from_f64(sum(row) / features);
            for (square, x) in squares.iter_mut().zip(&*row) {
                let off = *x - mean;
                *square = off * off;
            }
            let inverse = T::from_f64(1.0 / (sum(&squares) / features + epsilon).sqrt());
            for (out, x) in out.iter_mut().zip(row) {
                *out = (*x - mean) * inverse;
            }
            dropout.cut(at, out);
            (means[at], inverses[at]) = (mean, inverse);
        }
    }
}

/// The backward pass of [`LayerNormForward`].
pub struct LayerNormBackward<'a, T> {
    /// The output of the linear layer, `[cells, width]`.
    pub input: &'a [T],
    /// The activations, `[cells, width]`.
    pub output: &'a [T],
    /// Number of features of a cell.
    pub width: usize,
    /// Means from the forward pass.
    pub mean: &'a [T],
    /// Inverse standard deviations from the forward pass.
    pub inverse: &'a [T],
    /// The dropout of the forward pass.
    pub dropout: Dropout,
    /// The gradient with respect to the output; overwritten by the one with respect to the input.
    pub gradient: &'a mut [T],
}

impl<T: Real> Kernel for LayerNormBackward<'_, T> {
    type Out = ();

    #[inline(always)]
    fn run<W: InstructionSet>(self) {
        let Self { input, output, width, mean, inverse, dropout, gradient } = self;
        through_dropout(gradient, output, dropout);
        #[expect(clippy::cast_precision_loss, reason = "no layer is 2^52 wide")]
        let features = width as f64;
        let mut products = vec![T::default(); width];
        for (at, (slope, x)) in gradient.chunks_exact_mut(width).zip(input.chunks_exact(width)).enumerate() {
            let (mean, inverse) = (mean[at], inverse[at]);
            for column in 0..width {
                products[column] = slope[column] * (x[column] - mean) * inverse;
            }
            let (shift, tilt) =
                (T::from_f64(sum(slope) / features), T::from_f64(sum(&products) / features * inverse.wide()));
            for column in 0..width {
                let level = (x[column] - mean).mul_add::<W>(-tilt, slope[column] - shift);
                slope[column] = level * inverse;
            }
        }
    }
}

/// The linear layer's bias, ReLU and dropout of `[cells, width]`, in place.
pub struct CutForward<'a, T> {
    /// The output of the linear layer, overwritten by the activations, `[cells, width]`.
    pub activations: &'a mut [T],
    /// Added before the ReLU, `[width]`.
    pub bias: &'a [T],
    /// The dropout of the forward pass.
    pub dropout: Dropout,
}

impl<T: Real> Kernel for CutForward<'_, T> {
    type Out = ();

    #[inline(always)]
    fn run<W: InstructionSet>(self) {
        for (at, row) in self.activations.chunks_exact_mut(self.bias.len()).enumerate() {
            add(row, self.bias);
            self.dropout.cut(at, row);
        }
    }
}

/// The backward pass of [`CutForward`].
pub struct CutBackward<'a, T> {
    /// The activations, `[cells, width]`.
    pub output: &'a [T],
    /// The dropout of the forward pass.
    pub dropout: Dropout,
    /// The gradient with respect to the output, overwritten by the one with respect to the input,
    /// `[cells, width]`.
    pub gradient: &'a mut [T],
}

impl<T: Real> Kernel for CutBackward<'_, T> {
    type Out = ();

    #[inline(always)]
    fn run<W: InstructionSet>(self) {
        through_dropout(self.gradient, self.output, self.dropout);
    }
}

#[inline(always)]
fn add<T: Real>(row: &mut [T], bias: &[T]) {
    for (x, bias) in row.iter_mut().zip(bias) {
        *x += *bias;
    }
}

/// Turns the gradient after ReLU and dropout into the one before them.
#[inline(always)]
pub(super) fn through_dropout<T: Real>(gradient: &mut [T], output: &[T], dropout: Dropout) {
    let scale = T::from_f64(dropout.scale);
    for (slope, output) in gradient.iter_mut().zip(output) {
        *slope = if T::default() < *output { *slope * scale } else { T::default() };
    }
}
