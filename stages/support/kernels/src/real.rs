//! The numbers that kernels compute with, and functions of them that a compiler can vectorise.
//!
//! There are no branches or calls: functions take numbers apart by their bits. Tests compare every function
//! with the standard library's in float64.

use std::ops::{Add, AddAssign, Div, Mul, Neg, Sub};

use simd::InstructionSet;
use statrs::function::gamma::{digamma, ln_gamma};

/// float32 or float64.
pub trait Real:
    Copy
    + Default
    + PartialOrd
    + std::fmt::Debug
    + AddAssign
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + 'static
{
    /// The nearest number of this type.
    fn from_f64(number: f64) -> Self;

    /// The same number in float64.
    fn wide(self) -> f64;

    /// `self · a + b`.
    fn mul_add<W: InstructionSet>(self, a: Self, b: Self) -> Self;

    /// Its square root.
    fn root(self) -> Self;

    /// e to the power of a number that is at most 0; 0 where the result would be below the normal numbers.
    fn exp_of_negative<W: InstructionSet>(self) -> Self;

    /// The natural logarithm of a positive normal number.
    fn ln<W: InstructionSet>(self) -> Self;

    /// The natural logarithm of 1 + a number that is at least 0, and its derivative, 1 / (1 + number).
    fn ln_1p<W: InstructionSet>(self) -> [Self; 2];

    /// lnΓ and its derivative ψ of a positive number.
    fn log_gamma_and_slope<W: InstructionSet>(self) -> [Self; 2];
}

/// ln 2 in two parts, the first of which has few bits, so that multiplying it by a whole number is exact.
const LN_2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];
/// 1.5 · 2²³: adding it to a number of moderate size leaves the nearest whole number in the last bits.
const ROUNDING: f32 = 12_582_912.0;
/// The smallest number whose power of e is a normal number.
const LEAST_POWER: f32 = -87.3;
/// The same three in float64.
const LN_2_WIDE: [f64; 2] = [6.931_471_803_691_238e-1, 1.908_214_929_270_587_7e-10];
const ROUNDING_WIDE: f64 = 6_755_399_441_055_744.0;
const LEAST_POWER_WIDE: f64 = -708.39;
/// Taylor's series of the exponential function in float64, the highest power first: 1/13! to 1/0!.
const EXPONENTIAL_WIDE: [f64; 14] = [
    1.0 / 6_227_020_800.0,
    1.0 / 479_001_600.0,
    1.0 / 39_916_800.0,
    1.0 / 3_628_800.0,
    1.0 / 362_880.0,
    1.0 / 40_320.0,
    1.0 / 5_040.0,
    1.0 / 720.0,
    1.0 / 120.0,
    1.0 / 24.0,
    1.0 / 6.0,
    0.5,
    1.0,
    1.0,
];
/// Coefficients of (ln(1 + f) − f + f²/2) / f³ between √½ − 1 and √2 − 1 (S. Moshier's Cephes library, `logf`).
const LOGARITHM: [f32; 9] = [
    7.037_683_6e-2,
    -1.151_461e-1,
    1.167_699_9e-1,
    -1.242_014_1e-1,
    1.424_932_3e-1,
    -1.666_805_8e-1,
    2.000_071_5e-1,
    -2.499_999_4e-1,
    0.333_333_3,
];
/// From here on, the asymptotic series of lnΓ and ψ are accurate to the last bits of float32.
const LARGE: f32 = 6.0;
/// ln √(2π).
const HALF_LN_TWO_PI: f32 = 0.918_938_5;

impl Real for f32 {
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "the nearest number is asked for")]
    fn from_f64(number: f64) -> Self {
        number as f32
    }

    #[inline(always)]
    fn wide(self) -> f64 {
        f64::from(self)
    }

    #[inline(always)]
    fn mul_add<W: InstructionSet>(self, a: Self, b: Self) -> Self {
        if W::FUSED { f32::mul_add(self, a, b) } else { self * a + b }
    }

    #[inline(always)]
    fn root(self) -> Self {
        self.sqrt()
    }

    #[inline(always)]
    fn exp_of_negative<W: InstructionSet>(self) -> Self {
        let x = if self < LEAST_POWER { LEAST_POWER } else { self };
        let rounded = Real::mul_add::<W>(x, std::f32::consts::LOG2_E, ROUNDING);
        let whole = rounded - ROUNDING;
        let rest = Real::mul_add::<W>(whole, -LN_2[1], Real::mul_add::<W>(whole, -LN_2[0], x));
        // Taylor's series: |rest| is at most half of ln 2, so the error is below 10⁻⁸.
        let mut sum = 1.0 / 5040.0;
        for coefficient in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
            sum = Real::mul_add::<W>(sum, rest, coefficient);
        }
        let exponent = rounded.to_bits().wrapping_sub(ROUNDING.to_bits());
        let scale = f32::from_bits(exponent.wrapping_add(127) << 23);
        if self < LEAST_POWER { 0.0 } else { sum * scale }
    }

    #[inline(always)]
    fn ln<W: InstructionSet>(self) -> Self {
        let bits = self.to_bits().cast_signed();
        let exponent = bits.wrapping_sub(std::f32::consts::FRAC_1_SQRT_2.to_bits().cast_signed()) >> 23;
        let fraction = f32::from_bits(bits.wrapping_sub(exponent << 23).cast_unsigned()) - 1.0;
        // Converts a whole number below 2²³ in magnitude to a float without a rounding instruction.
        let exponent = f32::from_bits(ROUNDING.to_bits().wrapping_add(exponent.cast_unsigned())) - ROUNDING;
        let mut sum = LOGARITHM[0];
        for coefficient in &LOGARITHM[1..] {
            sum = Real::mul_add::<W>(sum, fraction, *coefficient);
        }
        let square = fraction * fraction;
        let tail = Real::mul_add::<W>(sum, fraction, -0.5) * square;
        let low = Real::mul_add::<W>(exponent, LN_2[1], tail);
        Real::mul_add::<W>(exponent, LN_2[0], fraction + low)
    }

    #[inline(always)]
    fn ln_1p<W: InstructionSet>(self) -> [Self; 2] {
        let sum = 1.0 + self;
        let slope = 1.0 / sum;
        // Restores to first order what rounding removed from the sum.
        let lost = self - (sum - 1.0);
        [Real::mul_add::<W>(lost, slope, Real::ln::<W>(sum)), slope]
    }

    #[inline(always)]
    fn log_gamma_and_slope<W: InstructionSet>(self) -> [Self; 2] {
        // Γ(z) = Γ(z + 6) / (z (z+1) ... (z+5)), and ψ is reduced by the sum of reciprocals: the product's derivative
        // over the product.
        let (mut product, mut derivative) = (self, 1.0);
        for step in [1.0, 2.0, 3.0, 4.0, 5.0] {
            let factor = self + step;
            derivative = Real::mul_add::<W>(derivative, factor, product);
            product *= factor;
        }
        let small = self < LARGE;
        let (product, derivative) = if small { (product, derivative) } else { (1.0, 0.0) };
        let z = if small { self + LARGE } else { self };
        let inverse = 1.0 / z;
        let square = inverse * inverse;
        let log = Real::ln::<W>(z);
        let series = Real::mul_add::<W>(square, 1.0 / 1260.0, -1.0 / 360.0);
        let series = Real::mul_add::<W>(square, series, 1.0 / 12.0) * inverse;
        let log_gamma = Real::mul_add::<W>(z - 0.5, log, HALF_LN_TWO_PI - z) + series - Real::ln::<W>(product);
        let slope = Real::mul_add::<W>(square, -1.0 / 252.0, 1.0 / 120.0);
        let slope = Real::mul_add::<W>(square, slope, -1.0 / 12.0) * square;
        let digamma = log - 0.5 * inverse + slope - derivative / product;
        [log_gamma, digamma]
    }
}

impl Real for f64 {
    #[inline(always)]
    fn from_f64(number: f64) -> Self {
        number
    }

    #[inline(always)]
    fn wide(self) -> f64 {
        self
    }

    #[inline(always)]
    fn mul_add<W: InstructionSet>(self, a: Self, b: Self) -> Self {
        if W::FUSED { f64::mul_add(self, a, b) } else { self * a + b }
    }

    #[inline(always)]
    fn root(self) -> Self {
        self.sqrt()
    }

    #[inline(always)]
    fn exp_of_negative<W: InstructionSet>(self) -> Self {
        let x = if self < LEAST_POWER_WIDE { LEAST_POWER_WIDE } else { self };
        let rounded = Real::mul_add::<W>(x, std::f64::consts::LOG2_E, ROUNDING_WIDE);
        let whole = rounded - ROUNDING_WIDE;
        let rest = Real::mul_add::<W>(whole, -LN_2_WIDE[1], Real::mul_add::<W>(whole, -LN_2_WIDE[0], x));
        // |rest| is at most half of ln 2, so that the rest of the series is below 10⁻¹⁷.
        let mut sum = EXPONENTIAL_WIDE[0];
        for coefficient in &EXPONENTIAL_WIDE[1..] {
            sum = Real::mul_add::<W>(sum, rest, *coefficient);
        }
        let exponent = rounded.to_bits().wrapping_sub(ROUNDING_WIDE.to_bits());
        let scale = f64::from_bits(exponent.wrapping_add(1023) << 52);
        if self < LEAST_POWER_WIDE { 0.0 } else { sum * scale }
    }

    #[inline(always)]
    fn ln<W: InstructionSet>(self) -> Self {
        f64::ln(self)
    }

    #[inline(always)]
    fn ln_1p<W: InstructionSet>(self) -> [Self; 2] {
        [f64::ln_1p(self), 1.0 / (1.0 + self)]
    }

    #[inline(always)]
    fn log_gamma_and_slope<W: InstructionSet>(self) -> [Self; 2] {
        [ln_gamma(self), digamma(self)]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use simd::{Kernel, every_instruction_set};

    use super::*;

    #[derive(Clone, Copy)]
    struct All(f32);

    impl Kernel for All {
        type Out = [f32; 6];

        #[inline(always)]
        fn run<W: InstructionSet>(self) -> [f32; 6] {
            let [log_gamma, digamma] = self.0.log_gamma_and_slope::<W>();
            let [ln_1p, slope] = Real::ln_1p::<W>(self.0);
            [(-self.0).exp_of_negative::<W>(), Real::ln::<W>(self.0), log_gamma, digamma, ln_1p, slope]
        }
    }

    struct Exponential(f64);

    impl Kernel for Exponential {
        type Out = f64;

        #[inline(always)]
        fn run<W: InstructionSet>(self) -> f64 {
            self.0.exp_of_negative::<W>()
        }
    }

    fn far(found: f32, expected: f64, scale: f64) -> f64 {
        (found.wide() - expected).abs() / scale
    }

    proptest! {
        #[test]
        fn the_exponential_of_float64_is_the_standard_librarys(x in prop_oneof![-708.0_f64..0.0, -1.0_f64..0.0]) {
            for found in every_instruction_set(|| Exponential(x)) {
                prop_assert!((found - x.exp()).abs() <= 1e-15 * x.exp(), "exp of {x}: {found}");
            }
        }

        #[test]
        fn functions_are_the_standard_librarys(power in -9.0_f64..9.0) {
            let x = f32::from_f64(power.exp());
            let wide = x.wide();
            for [exp, ln, log_gamma, digamma_found, ln_1p, slope] in every_instruction_set(|| All(x)) {
                prop_assert!(far(exp, (-wide).exp(), (-wide).exp().max(1e-30)) < 3e-7, "exp of {}", -x);
                prop_assert!(far(ln, wide.ln(), wide.ln().abs().max(1e-3)) < 2e-7, "ln of {x}");
                prop_assert!(far(ln_1p, wide.ln_1p(), wide.ln_1p()) < 3e-7, "ln of 1 + {x}");
                prop_assert!(far(slope, 1.0 / (1.0 + wide), 1.0 / (1.0 + wide)) < 2e-7, "1 / (1 + {x})");
                prop_assert!(far(log_gamma, ln_gamma(wide), ln_gamma(wide).abs().max(10.0)) < 4e-7, "lnΓ of {x}");
                prop_assert!(far(digamma_found, digamma(wide), digamma(wide).abs().max(1.0)) < 1e-6, "ψ of {x}");
            }
        }
    }

    #[test]
    fn the_ends_of_the_range_are_whole() {
        for way in every_instruction_set(|| All(1.0)) {
            assert_eq!(way[1], 0.0);
        }
        for way in every_instruction_set(|| All(200.0)) {
            assert_eq!(way[0], 0.0, "below the normal numbers there is nothing");
        }
        for way in every_instruction_set(|| All(0.0)) {
            assert_eq!(way[0], 1.0);
        }
    }
}
