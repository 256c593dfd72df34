//! The expected logarithm of a scaled count, and its variance, under counting noise.
//!
//! For a count x with mean μ and only counting noise (Poisson), and a scale s, E ln(1 + s x) = ∫ (1 − exp(−μ (1 − exp(−s t))))
//! exp(−t) / t dt over t > 0, which follows from ln(1 + x) = ∫ (1 − exp(−t x)) exp(−t) / t dt.

/// The integral's points, evenly spaced in ln t up to where exp(−t) vanishes.
const LARGEST_LOG: f64 = 4.0;
const POINT_STEP: f64 = 0.2;

/// From this mean on, the variance of the logarithm is that of the count times the square of the slope, to a percent.
pub const LARGE_MEAN: f64 = 100.0;

/// E ln(1 + s x) of a count x with this mean, at the scale s above 0: the integral by the trapezoidal rule in ln t.
///
/// ```
/// // A count that is 0 or, rarely, 1.
/// let expected = statistics::counted_log::expectation(1e-6, 3.0);
/// assert!((expected / (1e-6 * 4.0_f64.ln()) - 1.0).abs() < 1e-3);
/// ```
#[must_use]
pub fn expectation(mean: f64, scale: f64) -> f64 {
    // Where the integrand is μ s t up to a part in ten thousand, the rest of the integral is μ s t.
    let first = (1e-4 / scale.max(mean * scale).max(1.0)).ln();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "some two hundred points")]
    let points = ((LARGEST_LOG - first) / POINT_STEP).ceil() as u32;
    let at = |point: u32| {
        let t = (first + POINT_STEP * f64::from(point)).exp();
        -(mean * (-scale * t).exp_m1()).exp_m1() * (-t).exp()
    };
    let sum = at(0) / 2.0 + (1..=points).map(at).sum::<f64>();
    sum * POINT_STEP + mean * scale * first.exp()
}

/// The variance of ln(1 + s x) of a count x with this mean, at the scale s above 0: the sum over counts up to where they are
/// hardly ever larger, and beyond [`LARGE_MEAN`] to first order.
#[must_use]
pub fn variance(mean: f64, scale: f64) -> f64 {
    if mean > LARGE_MEAN {
        return mean * (scale / (1.0 + mean * scale)).powi(2);
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "some two hundred counts")]
    let last = (mean + 12.0 * mean.sqrt() + 20.0) as u32;
    let (mut chance, mut first, mut second) = ((-mean).exp(), 0.0, 0.0);
    for count in 1..=last {
        chance *= mean / f64::from(count);
        let logarithm = (scale * f64::from(count)).ln_1p();
        first += chance * logarithm;
        second += chance * logarithm * logarithm;
    }
    (second - first * first).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_are_those_of_the_definition() {
        for (mean, scale) in [
            (1e-7_f64, 1.0),
            (1e-3, 0.01),
            (0.05, 40.0),
            (0.4, 1.0),
            (3.7, 5.0),
            (20.0, 0.3),
            (99.0, 2.0),
            (150.0, 33.0),
            (600.0, 0.07),
        ] {
            let (mut chance, mut first, mut second) = ((-mean).exp(), 0.0, 0.0);
            for count in 1..4000_u32 {
                chance *= mean / f64::from(count);
                let logarithm = (scale * f64::from(count)).ln_1p();
                first += chance * logarithm;
                second += chance * logarithm * logarithm;
            }
            let most = if mean > LARGE_MEAN { 2e-2 } else { 1e-4 };
            let close = |found: f64, expected: f64| (found / expected - 1.0).abs() < most;
            assert!(close(expectation(mean, scale), first), "{mean} {scale}");
            assert!(close(variance(mean, scale), second - first * first), "{mean} {scale}");
        }
    }
}
