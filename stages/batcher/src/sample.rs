//! Draws cells by condition: every condition with equal probability, by given weights, or every perturbed
//! cell together with a control that shares, for example, its plate or donor.
//!
//! A draw takes one random number for the condition and one for the cell, and a look-up in the lists of
//! [`members`](reader::members): it costs the same whatever the size of the atlas. Draws are independent;
//! they are a pure function of the given generator.

use std::{collections::BTreeMap, fmt, sync::Arc};

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use reader::{
    atlas::Atlas,
    codes::CodeTable,
    members::{CellKind, Members},
};
use schemas::{Error, Result, conditions::CONTROL, ids::CellIndex};

/// Whether a cell is part of an order.
pub type CellPredicate = Arc<dyn Fn(CellIndex) -> bool + Send + Sync>;

/// How cells are chosen for batches.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Sampling {
    /// Every cell once per epoch.
    #[default]
    Uniform,
    /// Every condition with equal probability.
    Balanced,
    /// Conditions with weights, by name; others have weight 1.
    Weighted(BTreeMap<String, f64>),
    /// Every perturbed cell once per epoch, each followed by a control that shares its values of these
    /// covariates.
    Paired(Vec<String>),
}

/// Kinds of cells from which cells are drawn with equal probability.
#[derive(Debug, Default)]
struct CellPool {
    kinds: Vec<PoolKind>,
}

#[derive(Debug)]
struct PoolKind {
    kind: CellKind,
    /// Number of wanted cells of this kind and of those before it in the pool.
    up_to: u64,
    /// The wanted cells, listed if few cells of the kind are wanted.
    few: Option<Vec<CellIndex>>,
}

/// A kind is listed if fewer than one in this many of its cells are wanted: drawing until a wanted one is
/// found would take too long.
const FEW: u64 = 8;

/// Draws cells of an atlas.
pub struct Sampler {
    members: Members,
    is_chosen: CellPredicate,
    atlas: Atlas,
    pools: Vec<CellPool>,
    how: SamplingRule,
}

enum SamplingRule {
    /// Cumulative weights of the pools.
    Conditions(Vec<f64>),
    /// The covariates that have to be shared, and the pool of controls for each combination of their values.
    Controls(Vec<usize>, CodeTable),
}

impl fmt::Debug for Sampler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sampler").field("pools", &self.pools.len()).finish_non_exhaustive()
    }
}

impl Sampler {
    /// Creates a sampler of the atlas's wanted cells; `None` for uniform sampling.
    ///
    /// # Errors
    /// Conditions or covariates that the atlas does not have, invalid weights, perturbed cells without matching
    /// controls, damaged lists.
    pub fn new(atlas: &Atlas, sampling: &Sampling, is_chosen: CellPredicate) -> Result<Option<Self>> {
        let weights = match sampling {
            Sampling::Uniform => return Ok(None),
            Sampling::Paired(keys) => return Self::paired(atlas, keys, is_chosen).map(Some),
            Sampling::Balanced => &BTreeMap::new(),
            Sampling::Weighted(weights) => weights,
        };
        let members = Members::open(atlas)?;
        let table = &atlas.manifest().conditions;
        let names = || table.combinations().iter().map(|combination| combination.name.as_str());
        for (name, weight) in weights {
            if !names().any(|known| known == name) {
                return Err(Error::unknown("condition", name, names()));
            }
            if !weight.is_finite() || *weight < 0.0 {
                return Err(Error::usage(format!("the weight of `{name}` is {weight}"), "a weight is 0 or more"));
            }
        }
        let (mut pools, mut sums, mut sum) = (Vec::new(), Vec::new(), 0.0);
        for kinds in members.kinds().chunk_by(|a, b| a.condition() == b.condition()) {
            let weight = weights.get(table.name(kinds[0].condition())).copied().unwrap_or(1.0);
            let mut pool = CellPool::default();
            kinds.iter().for_each(|kind| pool.add(kind, &members, &is_chosen));
            if pool.size() > 0 && weight > 0.0 {
                sum += weight;
                sums.push(sum);
                pools.push(pool);
            }
        }
        if pools.is_empty() {
            return Err(Error::usage("no training cell has a condition of any weight", "give one of them more than 0"));
        }
        Ok(Some(Self { members, is_chosen, atlas: atlas.clone(), pools, how: SamplingRule::Conditions(sums) }))
    }

    fn paired(atlas: &Atlas, keys: &[String], is_chosen: CellPredicate) -> Result<Self> {
        let members = Members::open(atlas)?;
        let covariates = &atlas.manifest().covariates;
        let keys: Vec<usize> = keys.iter().map(|key| atlas.covariate_named(key)).collect::<Result<_>>()?;
        let (mut values, mut pools) = (CodeTable::default(), Vec::new());
        for kind in members.kinds().iter().filter(|kind| kind.condition() == CONTROL) {
            let pool = values.find_or_add(&shared(&kind.codes, &keys));
            if pool == pools.len() {
                pools.push(CellPool::default());
            }
            pools[pool].add(kind, &members, &is_chosen);
        }
        for kind in members.kinds().iter().filter(|kind| kind.condition() != CONTROL) {
            let has_cells = || members.cells()[kind.places.clone()].iter().any(|cell| is_chosen(CellIndex(*cell)));
            let pool = values.find(&shared(&kind.codes, &keys)).filter(|pool| pools[*pool].size() > 0);
            if pool.is_none() && has_cells() {
                let name = atlas.manifest().conditions.name(kind.condition());
                let values: Vec<String> = keys
                    .iter()
                    .map(|key| {
                        format!("{}={}", covariates[*key].name, covariates[*key].values[kind.codes[1 + key] as usize])
                    })
                    .collect();
                return Err(Error::data(
                    atlas.path().display().to_string(),
                    format!("no training control matches the cells of `{name}` at {}", values.join(", ")),
                    "match fewer keys in train.match_keys, or hold these cells out",
                ));
            }
        }
        Ok(Self { members, is_chosen, atlas: atlas.clone(), pools, how: SamplingRule::Controls(keys, values) })
    }

    /// Whether every perturbed cell gets a control, instead of cells being drawn.
    #[must_use]
    pub fn pairs(&self) -> bool {
        matches!(self.how, SamplingRule::Controls(..))
    }

    /// Draws some cells.
    #[must_use]
    pub fn draw(&self, count: usize, random: &mut ChaCha8Rng) -> Vec<CellIndex> {
        let SamplingRule::Conditions(sums) = &self.how else { return Vec::new() };
        let all = sums.last().copied().unwrap_or(0.0);
        let one = |_| {
            let at = random.random::<f64>() * all;
            let pool = sums.partition_point(|sum| *sum <= at).min(sums.len() - 1);
            self.pools[pool].draw(&self.members, &self.is_chosen, random)
        };
        (0..count).map(one).collect()
    }

    /// Each cell, followed by a random matching control.
    #[must_use]
    pub fn with_controls(&self, cells: &[CellIndex], random: &mut ChaCha8Rng) -> Vec<CellIndex> {
        let SamplingRule::Controls(keys, values) = &self.how else { return cells.to_vec() };
        let pair = |cell: &CellIndex| {
            let pool = values.find(&shared(self.atlas.codes(*cell), keys));
            let control = pool.map(|pool| self.pools[pool].draw(&self.members, &self.is_chosen, random));
            [*cell].into_iter().chain(control)
        };
        cells.iter().flat_map(pair).collect()
    }
}

/// The codes of these covariates; without any, all cells share the same.
fn shared(codes: &[u32], keys: &[usize]) -> Vec<u32> {
    [0].into_iter().chain(keys.iter().map(|key| codes[1 + key])).collect()
}

impl CellPool {
    fn size(&self) -> u64 {
        self.kinds.last().map_or(0, |kind| kind.up_to)
    }

    fn add(&mut self, kind: &CellKind, members: &Members, is_chosen: &CellPredicate) {
        let cells = &members.cells()[kind.places.clone()];
        let list = || cells.iter().map(|cell| CellIndex(*cell)).filter(|cell| is_chosen(*cell));
        let count = list().count() as u64;
        if count > 0 {
            let few = (count * FEW < cells.len() as u64).then(|| list().collect());
            self.kinds.push(PoolKind { kind: kind.clone(), up_to: self.size() + count, few });
        }
    }

    fn draw(&self, members: &Members, is_chosen: &CellPredicate, random: &mut ChaCha8Rng) -> CellIndex {
        let at = random.random_range(0..self.size());
        let PoolKind { kind, few, .. } = &self.kinds[self.kinds.partition_point(|kind| kind.up_to <= at)];
        if let Some(few) = few {
            return few[random.random_range(0..few.len())];
        }
        loop {
            let cell = CellIndex(members.cells()[random.random_range(kind.places.clone())]);
            if is_chosen(cell) {
                return cell;
            }
        }
    }
}
