//! Local regression (Cleveland, Devlin and Grosse 1988) as the tools of the field compute it: quadratics
//! fitted at a few places, and cubics between them.
//!
//! The fit at a place uses the `span` share of the points nearest to it, weighted by the tricube of their
//! distance. Places are the ends of the points' range, slightly widened, and the medians that cut it into
//! cells of at most `span · CELL` of the points; between two places, the curve is the cubic with the fitted
//! values and slopes at both.

/// Largest size of a cell, as a share of a neighbourhood.
const CELL: f64 = 0.2;
/// How much the range is widened at each end, as a share of it.
const MARGIN: f64 = 0.005;
/// A column of the regression is left out if its part orthogonal to the previous columns is smaller than
/// this, relative to its length.
const SMALLEST_PART: f64 = 1e-7;

/// A fitted place: its value and slope.
#[derive(Clone, Copy, Debug)]
struct Knot {
    x: f64,
    value: f64,
    slope: f64,
}

/// The smoothed value at each point; empty without points.
pub fn smooth(x: &[f64], y: &[f64], span: f64) -> Vec<f64> {
    let mut order: Vec<usize> = (0..x.len()).collect();
    order.sort_by(|a, b| x[*a].total_cmp(&x[*b]).then(a.cmp(b)));
    let sorted = |values: &[f64]| order.iter().map(|at| values[*at]).collect::<Vec<f64>>();
    let points = Points { x: sorted(x), y: sorted(y) };
    let (Some(first), Some(last)) = (points.x.first(), points.x.last()) else { return Vec::new() };
    let neighbours = share(x.len(), span).clamp(1, x.len());
    let margin = MARGIN * (last - first).max(1e-10 * first.abs().max(last.abs()) + 1e-30);
    let (low, high) = (first - margin, last + margin);
    let mut places = vec![low, high];
    points.cut(0..x.len(), (low, high), share(x.len(), span * CELL), &mut places);
    places.sort_by(f64::total_cmp);
    let knots: Vec<Knot> = places.into_iter().map(|place| points.fit(place, neighbours)).collect();
    x.iter().map(|x| between(&knots, *x)).collect()
}

/// A share of this many points, rounded down; rounding errors just below an integer are corrected first.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a count is a count")]
#[expect(clippy::cast_precision_loss, reason = "fewer than 2^52 points")]
fn share(points: usize, share: f64) -> usize {
    (points as f64 * share + 1e-5).floor() as usize
}

/// Points, sorted by position.
struct Points {
    x: Vec<f64>,
    y: Vec<f64>,
}

impl Points {
    /// Cuts a cell of points at their median, and then its halves, until no cell holds more than `most`.
    fn cut(&self, points: std::ops::Range<usize>, cell: (f64, f64), most: usize, places: &mut Vec<f64>) {
        if points.len() <= most.max(1) {
            return;
        }
        let middle = points.start.midpoint(points.end - 1);
        // Equal points stay together, if moving away from the median by equal steps to both sides finds a place where
        // they differ.
        let steps = (0_isize..).map(|turn| if turn % 2 == 0 { -turn / 2 } else { (turn + 1) / 2 });
        let at = |step| middle.checked_add_signed(step).filter(|at| points.start <= *at && at + 1 < points.end);
        let middle = steps.map_while(at).find(|at| self.x[*at] != self.x[at + 1]).unwrap_or(middle);
        let place = self.x[middle];
        if place == cell.0 || place == cell.1 {
            return;
        }
        places.push(place);
        self.cut(points.start..middle + 1, (cell.0, place), most, places);
        self.cut(middle + 1..points.end, (place, cell.1), most, places);
    }

    /// The weighted quadratic around a place; of a lower degree if there are too few points near it.
    fn fit(&self, place: f64, neighbours: usize) -> Knot {
        let mut near = self.nearest(place, neighbours);
        let away = |at: usize| (self.x[at] - place).abs();
        let reach = |near: &std::ops::Range<usize>| away(near.start).max(away(near.end - 1));
        // Points that are all equally far away would all have weight zero: the neighbourhood grows until one of them
        // is nearer.
        let all_alike = |near: &std::ops::Range<usize>| near.clone().all(|at| away(at) == reach(near));
        while all_alike(&near) && near.len() < self.x.len() {
            near = self.nearest(place, 2 * near.len());
        }
        let (radius, alike) = (reach(&near), all_alike(&near));
        let mut columns: [Vec<f64>; 3] = Default::default();
        let mut target = Vec::with_capacity(near.len());
        for (x, y) in self.x[near.clone()].iter().zip(&self.y[near]) {
            let away = if alike { 0.0 } else { (x - place) / radius };
            let weight = (1.0 - away.abs().min(1.0).powi(3)).powi(3).sqrt();
            for (column, power) in columns.iter_mut().zip([1.0, away, away * away]) {
                column.push(weight * power);
            }
            target.push(weight * y);
        }
        let [value, slope, _] = least_squares(&columns, target);
        Knot { x: place, value, slope: if alike { 0.0 } else { slope / radius } }
    }

    /// The range of the `count` points nearest to a place.
    fn nearest(&self, place: f64, count: usize) -> std::ops::Range<usize> {
        let count = count.min(self.x.len());
        let mut start = self.x.partition_point(|x| *x < place).saturating_sub(count);
        while start + count < self.x.len() && self.x[start + count] - place < place - self.x[start] {
            start += 1;
        }
        start..start + count
    }
}

/// The coefficients of three columns whose combination is nearest to a target, by modified Gram-Schmidt.
fn least_squares(columns: &[Vec<f64>; 3], mut target: Vec<f64>) -> [f64; 3] {
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let subtract = |from: &mut [f64], column: &[f64], times: f64| {
        from.iter_mut().zip(column).for_each(|(value, column)| *value -= times * column);
    };
    let mut unit: [Vec<f64>; 3] = columns.clone();
    let mut triangle = [[0.0; 3]; 3];
    let mut along = [0.0; 3];
    for at in 0..3 {
        let (before, rest) = unit.split_at_mut(at);
        let column = &mut rest[0];
        let length = dot(column, column).sqrt();
        for (row, earlier) in before.iter().enumerate() {
            triangle[row][at] = dot(earlier, column);
            subtract(column, earlier, triangle[row][at]);
        }
        let part = dot(column, column).sqrt();
        if part <= SMALLEST_PART * length {
            column.fill(0.0);
            continue;
        }
        column.iter_mut().for_each(|value| *value /= part);
        triangle[at][at] = part;
        along[at] = dot(column, &target);
        subtract(&mut target, column, along[at]);
    }
    let mut solved = [0.0; 3];
    for at in (0..3).rev().filter(|at| triangle[*at][*at] > 0.0) {
        let later: f64 = (at + 1..3).map(|other| triangle[at][other] * solved[other]).sum();
        solved[at] = (along[at] - later) / triangle[at][at];
    }
    solved
}

/// The cubic with the values and slopes of the two knots around a place.
fn between(knots: &[Knot], x: f64) -> f64 {
    let next = knots.partition_point(|knot| knot.x < x).clamp(1, knots.len() - 1);
    let (a, b) = (knots[next - 1], knots[next]);
    let width = b.x - a.x;
    let t = (x - a.x) / width;
    let s = 1.0 - t;
    s * s * (1.0 + 2.0 * t) * a.value + t * t * (1.0 + 2.0 * s) * b.value + s * t * width * (s * a.slope - t * b.slope)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quadratic_is_its_own_smooth() {
        let x: Vec<f64> = (0..200).map(|at| f64::from(at * 37 % 200) / 50.0 - 2.0).collect();
        let y: Vec<f64> = x.iter().map(|x| 1.0 - 3.0 * x + 0.5 * x * x).collect();
        let fitted = smooth(&x, &y, 0.3);
        assert!(fitted.iter().zip(&y).all(|(fitted, y)| (fitted - y).abs() < 1e-9));
    }

    #[test]
    fn few_points_and_equal_ones_still_have_a_smooth() {
        assert_eq!(smooth(&[], &[], 0.3), [0.0; 0]);
        assert!((smooth(&[2.0], &[5.0], 0.3)[0] - 5.0).abs() < 1e-9);
        assert!(smooth(&[1.0; 50], &[3.0; 50], 0.3).iter().all(|value| (value - 3.0).abs() < 1e-9));
        let x: Vec<f64> = (0..90).map(|at| f64::from(at / 30)).collect();
        let fitted = smooth(&x, &x, 0.3);
        assert!(fitted.iter().zip(&x).all(|(fitted, x)| (fitted - x).abs() < 0.2), "{fitted:?}");
    }
}
