//! The backward pass of a gradient penalty (down) and its adjoint (up) through a norm, ReLU and dropout, in
//! as few passes as there are reductions.
//!
//! With x̂ the normalised input, 1/s the inverse standard deviation, w the norm's weight, k = w/s, m the mask of ReLU and dropout
//! and ⟨⟩ the mean over the norm's dimension:
//!
//! ```text
//! down:  d = m e,   core = d − ⟨d⟩ − x̂⟨d x̂⟩,   dx = k core
//! up:    onto the norm's input  −(k/s) (v⟨d x̂⟩ + d⟨v x̂⟩ − ⟨v⟩⟨d x̂⟩ − ⟨d⟩⟨v x̂⟩ + x̂ (⟨v core⟩ − 2⟨d x̂⟩⟨v x̂⟩)),
//!        by the norm's weight   Σ v core / s,   v ← m k (v − ⟨v⟩ − x̂⟨v x̂⟩)
//! ```
//!
//! ⟨v core⟩ is ⟨v d⟩ − ⟨v⟩⟨d⟩ − ⟨v x̂⟩⟨d x̂⟩, so one pass computes all sums of a direction.
//! `model::fused::penalty` explains the purpose.

use simd::{InstructionSet, Kernel};

use super::{
    layer::{Dropout, through_dropout},
    real::Real,
    sums::{ColumnSums, sum},
};

/// The result of a norm, ReLU and dropout of `[cells, width]`.
#[derive(Clone, Copy)]
pub struct LayerActivations<'a, T> {
    /// The norm's input.
    pub input: &'a [T],
    /// The activations, `[cells, width]`.
    pub output: &'a [T],
    /// Mean: per feature, or per cell.
    pub mean: &'a [T],
    /// Inverse standard deviation: per feature, or per cell.
    pub inverse: &'a [T],
    /// Which activations were dropped.
    pub dropout: Dropout,
}

/// The downward pass through batch norm, whose weight is `[width]`.
pub struct BatchNormDown<'a, T> {
    /// The result of the forward pass.
    pub passed: LayerActivations<'a, T>,
    /// Factors of the normalised values, `[width]`.
    pub weight: &'a [T],
    /// e, overwritten by d.
    pub gradient: &'a mut [T],
    /// Receives dx.
    pub by_input: &'a mut [T],
}

impl<T: Real> Kernel for BatchNormDown<'_, T> {
    type Out = ();

    #[inline(always)]
    fn run<W: InstructionSet>(self) {
        let Self { passed: LayerActivations { input, output, mean, inverse, dropout }, weight, gradient, by_input } =
            self;
        let width = weight.len();
        #[expect(clippy::cast_precision_loss, reason = "no batch has 2^52 cells")]
        let cells = (input.len() / width) as f64;
        through_dropout(gradient, output, dropout);
        let (mean, inverse) = (&mean[..width], &inverse[..width]);
        let mut sums = ColumnSums::<T, 2>::new(width);
        for (d, x) in gradient.chunks_exact(width).zip(input.chunks_exact(width)) {
            let [levels, tilts] = sums.next_row();
            let (levels, tilts) = (&mut levels[..width], &mut tilts[..width]);
            for at in 0..width {
                levels[at] += d[at];
                tilts[at] = ((x[at] - mean[at]) * inverse[at]).mul_add::<W>(d[at], tilts[at]);
            }
        }
        let [level, tilt] =
            sums.finish().map(|sums| sums.iter().map(|sum| T::from_f64(sum / cells)).collect::<Vec<T>>());
        let slope: Vec<T> = weight.iter().zip(inverse).map(|(weight, inverse)| *weight * *inverse).collect();
        let (level, tilt, slope) = (&level[..width], &tilt[..width], &slope[..width]);
        let rows = gradient.chunks_exact(width).zip(input.chunks_exact(width));
        for ((d, x), dx) in rows.zip(by_input.chunks_exact_mut(width)) {
            for at in 0..width {
                let normal = (x[at] - mean[at]) * inverse[at];
                dx[at] = normal.mul_add::<W>(-tilt[at], d[at] - level[at]) * slope[at];
            }
        }
    }
}

/// The upward pass through the same norm.
pub struct BatchNormUp<'a, T> {
    /// The result of the forward pass.
    pub passed: LayerActivations<'a, T>,
    /// Factors of the normalised values, `[width]`.
    pub weight: &'a [T],
    /// d, from the downward pass.
    pub gradient: &'a [T],
    /// v; overwritten by the new v.
    pub adjoint: &'a mut [T],
    /// Receives the term added to the norm's input.
    pub onto: &'a mut [T],
    /// Receives the gradient with respect to the norm's weight.
    pub of_weight: &'a mut [T],
}

/// Means over the norm's dimension.
struct Means {
    d: f64,
    d_normal: f64,
    v: f64,
    v_normal: f64,
    v_d: f64,
}

/// The upward pass as a linear function of v, d and x̂.
struct UpwardCoefficients<T> {
    /// Coefficients of v, d, x̂ and 1 for the term added to the norm's input.
    onto: [T; 4],
    /// Coefficients of v, x̂ and 1 for the new v.
    adjoint: [T; 3],
}

impl Means {
    #[inline(always)]
    fn core(&self) -> f64 {
        self.v_d - self.v * self.d - self.v_normal * self.d_normal
    }

    #[inline(always)]
    fn lines<T: Real>(&self, slope: f64, inverse: f64) -> UpwardCoefficients<T> {
        let k = -slope * inverse;
        let shift = self.v * self.d_normal + self.d * self.v_normal;
        let of_normal = self.core() - 2.0 * self.d_normal * self.v_normal;
        UpwardCoefficients {
            onto: [k * self.d_normal, k * self.v_normal, k * of_normal, -k * shift].map(T::from_f64),
            adjoint: [slope, -slope * self.v_normal, -slope * self.v].map(T::from_f64),
        }
    }
}

impl<T: Real> Kernel for BatchNormUp<'_, T> {
    type Out = ();

    #[inline(always)]
    fn run<W: InstructionSet>(self) {
        let Self { passed, weight, gradient, adjoint, onto, of_weight } = self;
        let LayerActivations { input, output, mean, inverse, dropout } = passed;
        let width = weight.len();
        #[expect(clippy::cast_precision_loss, reason = "no batch has 2^52 cells")]
        let cells = (input.len() / width) as f64;
        let (mean, inverse) = (&mean[..width], &inverse[..width]);
        let mut sums = ColumnSums::<T, 5>::new(width);
        let rows = gradient.chunks_exact(width).zip(input.chunks_exact(width));
        for ((d, x), v) in rows.zip(adjoint.chunks_exact(width)) {
            let [of_d, of_d_normal, of_v, of_v_normal, of_v_d] = sums.next_row().map(|sums| &mut sums[..width]);
            for at in 0..width {
                let normal = (x[at] - mean[at]) * inverse[at];
                of_d[at] += d[at];
                of_d_normal[at] = normal.mul_add::<W>(d[at], of_d_normal[at]);
                of_v[at] += v[at];
                of_v_normal[at] = normal.mul_add::<W>(v[at], of_v_normal[at]);
                of_v_d[at] = v[at].mul_add::<W>(d[at], of_v_d[at]);
            }
        }
        let sums = sums.finish();
        let mut onto_by: [Vec<T>; 4] = std::array::from_fn(|_| vec![T::default(); width]);
        let mut adjoint_by: [Vec<T>; 3] = std::array::from_fn(|_| vec![T::default(); width]);
        for at in 0..width {
            let [d, d_normal, v, v_normal, v_d] = sums.each_ref().map(|sums| sums[at] / cells);
            let (means, one_over) = (Means { d, d_normal, v, v_normal, v_d }, inverse[at].wide());
            of_weight[at] = T::from_f64(cells * means.core() * one_over);
            let lines = means.lines::<T>(weight[at].wide() * one_over, one_over);
            onto_by.iter_mut().zip(lines.onto).for_each(|(by, number)| by[at] = number);
            adjoint_by.iter_mut().zip(lines.adjoint).for_each(|(by, number)| by[at] = number);
        }
        let [by_v, by_d, by_normal, shift] = onto_by.each_ref().map(|by| &by[..width]);
        let [v_slope, v_normal, v_shift] = adjoint_by.each_ref().map(|by| &by[..width]);
        let rows = gradient.chunks_exact(width).zip(input.chunks_exact(width));
        for (((d, x), v), onto) in rows.zip(adjoint.chunks_exact_mut(width)).zip(onto.chunks_exact_mut(width)) {
            for at in 0..width {
                let normal = (x[at] - mean[at]) * inverse[at];
                onto[at] = by_v[at]
                    .mul_add::<W>(v[at], by_d[at].mul_add::<W>(d[at], normal.mul_add::<W>(by_normal[at], shift[at])));
                v[at] = v_slope[at].mul_add::<W>(v[at], normal.mul_add::<W>(v_normal[at], v_shift[at]));
            }
        }
        through_dropout(adjoint, output, dropout);
    }
}

/// The downward pass through layer norm, which has no weight.
pub struct LayerNormDown<'a, T> {
    /// The result of the forward pass.
    pub passed: LayerActivations<'a, T>,
    /// Number of features of a cell.
    pub width: usize,
    /// e, overwritten by d.
    pub gradient: &'a mut [T],
    /// Receives dx.
    pub by_input: &'a mut [T],
}

impl<T: Real> Kernel for LayerNormDown<'_, T> {
    type Out = ();

    #[inline(always)]
    fn run<W: InstructionSet>(self) {
        let Self { passed: LayerActivations { input, output, mean, inverse, dropout }, width, gradient, by_input } =
            self;
        through_dropout(gradient, output, dropout);
        let (mut normal, mut room) = (vec![T::default(); width], vec![T::default(); width]);
        let rows = gradient.chunks_exact(width).zip(input.chunks_exact(width)).zip(by_input.chunks_exact_mut(width));
        for (at, ((d, x), dx)) in rows.enumerate() {
            normalise(&mut normal, x, mean[at], inverse[at]);
            let (level, tilt) = (T::from_f64(average(d)), T::from_f64(average_of_products(d, &normal, &mut room)));
            for column in 0..width {
                dx[column] = normal[column].mul_add::<W>(-tilt, d[column] - level) * inverse[at];
            }
        }
    }
}

/// The upward pass through the same norm.
pub struct LayerNormUp<'a, T> {
    /// The result of the forward pass.
    pub passed: LayerActivations<'a, T>,
    /// Number of features of a cell.
    pub width: usize,
    /// d, from the downward pass.
    pub gradient: &'a [T],
    /// v; overwritten by the new v.
    pub adjoint: &'a mut [T],
    /// Receives the term added to the norm's input.
    pub onto: &'a mut [T],
}

impl<T: Real> Kernel for LayerNormUp<'_, T> {
    type Out = ();

    #[inline(always)]
    fn run<W: InstructionSet>(self) {
        let Self { passed: LayerActivations { input, output, mean, inverse, dropout }, width, gradient, adjoint, onto } =
            self;
        let (mut normal, mut room) = (vec![T::default(); width], vec![T::default(); width]);
        let rows = gradient.chunks_exact(width).zip(input.chunks_exact(width));
        let rows = rows.zip(adjoint.chunks_exact_mut(width)).zip(onto.chunks_exact_mut(width));
        for (at, (((d, x), v), onto)) in rows.enumerate() {
            normalise(&mut normal, x, mean[at], inverse[at]);
            let means = Means {
                d: average(d),
                d_normal: average_of_products(d, &normal, &mut room),
                v: average(v),
                v_normal: average_of_products(v, &normal, &mut room),
                v_d: average_of_products(v, d, &mut room),
            };
            let UpwardCoefficients { onto: [by_v, by_d, by_normal, shift], adjoint: [v_slope, v_normal, v_shift] } =
                means.lines::<T>(inverse[at].wide(), inverse[at].wide());
            for column in 0..width {
                let (normal, d) = (normal[column], d[column]);
                onto[column] =
                    by_v.mul_add::<W>(v[column], by_d.mul_add::<W>(d, normal.mul_add::<W>(by_normal, shift)));
                v[column] = v_slope.mul_add::<W>(v[column], normal.mul_add::<W>(v_normal, v_shift));
            }
        }
        through_dropout(adjoint, output, dropout);
    }
}

/// x̂ of one cell.
#[inline(always)]
fn normalise<T: Real>(normal: &mut [T], x: &[T], mean: T, inverse: T) {
    for (normal, x) in normal.iter_mut().zip(x) {
        *normal = (*x - mean) * inverse;
    }
}

#[inline(always)]
#[expect(clippy::cast_precision_loss, reason = "no layer is 2^52 wide")]
fn average<T: Real>(x: &[T]) -> f64 {
    sum(x) / x.len() as f64
}

/// The mean of the products of two cells' numbers; `room` is a buffer of the same length.
#[inline(always)]
fn average_of_products<T: Real>(a: &[T], b: &[T], room: &mut [T]) -> f64 {
    for ((product, a), b) in room.iter_mut().zip(a).zip(b) {
        *product = *a * *b;
    }
    average(room)
}
