//! Random numbers as a pure function of a key, so that a cell is always the same, whichever thread draws it.
//!
//! `SplitMix64` (Steele, Lea and Flood 2014) is short enough to be implemented here, so that no release of
//! another crate can change what a seed means.

use schemas::numbers::bounded;

/// The purposes of random numbers; different purposes never share numbers.
#[derive(Clone, Copy, Debug)]
pub(super) enum Purpose {
    Genes = 1,
    CellTypes,
    Batches,
    Pathways,
    Singles,
    Specific,
    Combinations,
    Interactions,
    GroupSizes,
    Order,
    OrderWithin,
    Cells,
    PathwayPairs,
}

/// A stream of random numbers.
#[derive(Clone, Debug)]
pub(super) struct Random(u64);

impl Random {
    /// Stream `index` of a purpose, for a seed.
    pub(super) fn new(seed: u64, purpose: Purpose, index: u64) -> Self {
        Self(mix(mix(mix(seed) ^ purpose as u64) ^ index))
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// Uniform in [0, 1), with 53 bits.
    pub(super) fn uniform(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Uniform in [low, high).
    pub(super) fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.uniform()
    }

    /// Normal with mean 0 and this standard deviation (Box and Muller 1958).
    pub(super) fn normal(&mut self, deviation: f64) -> f64 {
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        deviation * radius * (std::f64::consts::TAU * self.uniform()).cos()
    }

    /// Uniform in `0..count`, which is not empty; the bias of less than count / 2⁶⁴ does not matter here.
    pub(super) fn below(&mut self, count: usize) -> usize {
        let scaled = (u128::from(self.next()) * count as u128) >> 64;
        bounded(scaled)
    }
}

fn mix(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

/// A shuffle of `0..size` that is computed position by position and not stored: a Feistel network that is
/// applied until the result is below the size.
#[derive(Clone, Debug)]
pub(super) struct Permutation {
    size: u64,
    half: u32,
    keys: [u64; 4],
}

impl Permutation {
    pub(super) fn new(size: u64, random: &mut Random) -> Self {
        let bits = u64::BITS - size.saturating_sub(1).leading_zeros();
        Self { size, half: bits.div_ceil(2).max(1), keys: std::array::from_fn(|_| random.next()) }
    }

    /// The position that `index` is moved to; it must be below the size.
    pub(super) fn at(&self, index: u64) -> u64 {
        let mut place = self.scramble(index);
        while self.size <= place {
            place = self.scramble(place);
        }
        place
    }

    fn scramble(&self, index: u64) -> u64 {
        let mask = (1_u64 << self.half) - 1;
        let halves = (index >> self.half, index & mask);
        let (left, right) =
            self.keys.iter().fold(halves, |(left, right), key| (right, left ^ (mix(right ^ key) & mask)));
        (left << self.half) | right
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_permutation_meets_every_place_once() {
        for size in [1, 2, 3, 10, 64, 1000] {
            let permutation = Permutation::new(size, &mut Random::new(7, Purpose::Order, 0));
            let mut places: Vec<u64> = (0..size).map(|index| permutation.at(index)).collect();
            if size == 1000 {
                assert!(!places.is_sorted(), "the order is not shuffled");
            }
            places.sort_unstable();
            assert_eq!(places, (0..size).collect::<Vec<_>>());
        }
    }

    #[test]
    fn normal_numbers_have_the_deviation_asked_for() {
        let mut random = Random::new(1, Purpose::Genes, 0);
        let numbers: Vec<f64> = (0..20_000).map(|_| random.normal(2.0)).collect();
        let mean = numbers.iter().sum::<f64>() / 20_000.0;
        let variance = numbers.iter().map(|number| (number - mean).powi(2)).sum::<f64>() / 20_000.0;
        assert!(mean.abs() < 0.06 && (variance - 4.0).abs() < 0.2, "mean {mean}, variance {variance}");
    }
}
