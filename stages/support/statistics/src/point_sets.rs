//! Distances between two sets of cells: energy distance and maximum mean discrepancy.

/// Cells as points in a space with few dimensions, one after another.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PointSet {
    dimensions: usize,
    points: Vec<f32>,
}

/// Means over the pairs of cells of two point sets.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Pairs {
    /// Mean Euclidean distance.
    distance: f64,
    /// Mean of exp(−γ · squared distance).
    kernel: f64,
}

/// Real cells that predicted ones are compared with.
#[derive(Clone, Debug)]
pub struct TargetPointSet<'a> {
    point_set: &'a PointSet,
    gamma: f64,
    within: Pairs,
}

impl PointSet {
    /// An empty point set.
    #[must_use]
    pub fn new(dimensions: usize) -> Self {
        Self { dimensions, points: Vec::new() }
    }

    /// Adds cells, each `dimensions` long.
    ///
    /// # Panics
    /// If the last cell is incomplete.
    pub fn extend(&mut self, points: &[f32]) {
        assert!(self.dimensions == 0 || points.len().is_multiple_of(self.dimensions), "cells are whole");
        self.points.extend_from_slice(points);
    }

    /// Number of cells.
    #[must_use]
    pub fn cells(&self) -> usize {
        self.points.len().checked_div(self.dimensions).unwrap_or(0)
    }

    /// The same cells, all shifted by `step`.
    #[must_use]
    pub fn moved(&self, step: &[f32]) -> Self {
        let mut points = self.points.clone();
        for point in points.chunks_exact_mut(self.dimensions.max(1)) {
            point.iter_mut().zip(step).for_each(|(at, step)| *at += step);
        }
        Self { points, ..*self }
    }

    /// The cells of both point sets.
    #[must_use]
    pub fn with(&self, other: &Self) -> Self {
        Self { points: [self.points.as_slice(), other.points.as_slice()].concat(), ..*self }
    }

    fn all(&self) -> std::slice::ChunksExact<'_, f32> {
        self.points.chunks_exact(self.dimensions.max(1))
    }

    /// Means over all pairs of a cell of this point set and a cell of the other.
    fn pairs(&self, other: &Self, gamma: f64) -> Pairs {
        let (mut distance, mut kernel) = (0.0, 0.0);
        for a in self.all() {
            for b in other.all() {
                let squared = f64::from(squared_distance(a, b));
                distance += squared.sqrt();
                kernel += (-gamma * squared).exp();
            }
        }
        let pairs = self.cells() as f64 * other.cells() as f64;
        Pairs { distance: distance / pairs, kernel: kernel / pairs }
    }

    /// Means over all pairs of two cells of this point set, including each cell with itself.
    fn within(&self, gamma: f64) -> Pairs {
        let (mut distance, mut kernel) = (0.0, 0.0);
        for (at, a) in self.all().enumerate() {
            for b in self.all().take(at) {
                let squared = f64::from(squared_distance(a, b));
                distance += squared.sqrt();
                kernel += (-gamma * squared).exp();
            }
        }
        let cells = self.cells() as f64;
        Pairs { distance: 2.0 * distance / (cells * cells), kernel: (2.0 * kernel + cells) / (cells * cells) }
    }

    /// The median squared distance over all pairs of two different cells.
    fn median_squared_distance(&self) -> Option<f64> {
        let pairs = self.all().enumerate().flat_map(|(at, a)| self.all().take(at).map(move |b| squared_distance(a, b)));
        let mut squared: Vec<f32> = pairs.collect();
        if squared.is_empty() {
            return None;
        }
        let middle = squared.len() / 2;
        let even = squared.len().is_multiple_of(2);
        let (below, upper, _) = squared.select_nth_unstable_by(middle, f32::total_cmp);
        let lower = if even { below.iter().copied().max_by(f32::total_cmp)? } else { *upper };
        Some(f64::midpoint(f64::from(lower), f64::from(*upper)))
    }
}

impl<'a> TargetPointSet<'a> {
    /// Cells to compare with; the kernel's γ is 1 / the median squared distance between two of them.
    ///
    /// `None` if this median is zero or not finite, or there are fewer than two cells.
    #[must_use]
    pub fn new(point_set: &'a PointSet) -> Option<Self> {
        let gamma = 1.0 / point_set.median_squared_distance().filter(|median| *median > 0.0 && median.is_finite())?;
        Some(Self { point_set, gamma, within: point_set.within(gamma) })
    }

    /// The γ of the kernel exp(−γ ‖x − y‖²).
    #[must_use]
    pub fn gamma(&self) -> f64 {
        self.gamma
    }

    /// The means over pairs of predicted cells, which do not change if all cells are shifted.
    #[must_use]
    pub fn apart(&self, predicted: &PointSet) -> WithinPairs {
        WithinPairs(predicted.within(self.gamma))
    }

    /// E-distance and MMD of predicted cells; `own` holds the means over their own pairs.
    ///
    /// With x, x′ predicted and y, y′ real cells, and means over all pairs, including each cell with itself, the
    /// former is 2 E‖x − y‖ − E‖x − x′‖ − E‖y − y′‖ and the latter E k(x, x′) + E k(y, y′) − 2 E k(x, y), where
    /// k(x, y) = exp(−γ ‖x − y‖²). Undefined without cells, or if one is not finite.
    #[must_use]
    pub fn distances(&self, predicted: &PointSet, WithinPairs(own): WithinPairs) -> (Option<f64>, Option<f64>) {
        let across = predicted.pairs(self.point_set, self.gamma);
        let defined = |value: f64| Some(value).filter(|value| value.is_finite());
        (
            defined(2.0 * across.distance - own.distance - self.within.distance),
            defined(own.kernel + self.within.kernel - 2.0 * across.kernel),
        )
    }
}

/// The pair means within one point set.
#[derive(Clone, Copy, Debug)]
pub struct WithinPairs(Pairs);

fn squared_distance(a: &[f32], b: &[f32]) -> f32 {
    /// Number of sums computed side by side: a processor adds this many at once.
    const LANES: usize = 8;
    let mut sums = [0.0_f32; LANES];
    let (a_lanes, b_lanes) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest: f32 = a_lanes.remainder().iter().zip(b_lanes.remainder()).map(|(a, b)| (a - b).powi(2)).sum();
    for (a, b) in a_lanes.zip(b_lanes) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += (a - b) * (a - b);
        }
    }
    sums.iter().sum::<f32>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point_set(points: &[f32]) -> PointSet {
        let mut point_set = PointSet::new(2);
        point_set.extend(points);
        point_set
    }

    fn between(predicted: &PointSet, real: &PointSet) -> (f64, f64) {
        let target = TargetPointSet::new(real).expect("its cells lie apart");
        let (e_distance, mmd) = target.distances(predicted, target.apart(predicted));
        (e_distance.expect("finite"), mmd.expect("finite"))
    }

    #[test]
    fn a_small_case_by_hand() {
        let (real, predicted) = (point_set(&[0.0, 0.0, 0.0, 2.0]), point_set(&[3.0, 0.0]));
        // Pairs: real 0, 2, 2, 0; across 3 and √13; γ is 1 / 4.
        let (e_distance, mmd) = between(&predicted, &real);
        assert!((e_distance - (3.0 + 13.0_f64.sqrt() - 1.0)).abs() < 1e-12);
        let expected = 1.0 + (1.0 + (-1.0_f64).exp()) / 2.0 - ((-2.25_f64).exp() + (-3.25_f64).exp());
        assert!((mmd - expected).abs() < 1e-12, "{mmd} is not {expected}");
    }

    #[test]
    fn the_same_cells_are_at_no_distance_and_moved_ones_at_some() {
        let real = point_set(&[0.0, 0.0, 1.0, 2.0, -1.0, 0.5]);
        let (e_distance, mmd) = between(&real, &real);
        assert!(e_distance.abs() < 1e-12 && mmd.abs() < 1e-12);
        let (near, far) = (between(&real.moved(&[0.5, 0.0]), &real), between(&real.moved(&[2.0, 0.0]), &real));
        assert!(0.0 < near.0 && near.0 < far.0 && 0.0 < near.1 && near.1 < far.1);
    }

    #[test]
    fn moving_all_cells_leaves_what_is_between_them() {
        let (real, other) = (point_set(&[0.0, 0.0, 1.0, 2.0]), point_set(&[0.5, 0.0, 1.5, 1.0]));
        let target = TargetPointSet::new(&real).expect("its cells lie apart");
        let moved = other.moved(&[1.0, -2.0]);
        assert_eq!(target.distances(&moved, target.apart(&other)), target.distances(&moved, target.apart(&moved)));
    }

    #[test]
    fn cells_that_do_not_lie_apart_have_no_scale_to_measure_by() {
        assert!(TargetPointSet::new(&point_set(&[1.0, 1.0, 1.0, 1.0])).is_none());
        assert!(TargetPointSet::new(&point_set(&[1.0, 1.0])).is_none());
        let real = point_set(&[0.0, 0.0, 1.0, 2.0]);
        let target = TargetPointSet::new(&real).expect("its cells lie apart");
        assert_eq!(target.distances(&point_set(&[]), target.apart(&point_set(&[]))), (None, None));
        let broken = point_set(&[f32::NAN, 0.0]);
        assert_eq!(target.distances(&broken, target.apart(&broken)), (None, None));
    }

    #[test]
    fn the_median_is_between_the_two_in_the_middle() {
        assert_eq!(point_set(&[0.0, 0.0, 1.0, 0.0]).median_squared_distance(), Some(1.0));
        let line = point_set(&[0.0, 0.0, 1.0, 0.0, 3.0, 0.0, 7.0, 0.0]);
        // 1, 3, 7, 2, 6, 4 squared and sorted: 1, 4, 9, 16, 36, 49.
        assert_eq!(line.median_squared_distance(), Some(12.5));
    }
}
