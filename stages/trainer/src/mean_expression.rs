//! Mean expression of the training cells by condition: offsets and dispersions are computed from it, in one
//! pass.

mod logarithms;

use std::{
    collections::{BTreeMap, HashMap},
    ops::ControlFlow,
    sync::Arc,
};

use offset::{GroupRole, OffsetLayout, OffsetProfiles};
use reader::{
    atlas::Atlas,
    groups::{Group, Groups},
    profiles::ExpressionRows,
    split::{Split, SplitPart},
};
use schemas::{batch::Expression, config::OffsetChoice, vocabulary::Vocabulary};
use stage::{
    BoxError, Sink,
    cast::{narrow, real},
};

use self::logarithms::SumLogarithms;

/// Number of controls in a batch that are enough for a comparison within the batch; with fewer, the controls
/// of all batches are used.
const ENOUGH_CONTROLS: u64 = 20;
/// Inverse dispersions are limited to this range.
const DISPERSIONS: [f64; 2] = [0.1, 100.0];
/// Variances are at least this.
const SMALLEST_VARIANCE: f64 = 1e-3;

/// Sums of the training cells of each group of a layout.
pub struct SumExpression {
    atlas: Atlas,
    split: Arc<Split>,
    groups: Groups,
    layout: OffsetLayout,
    /// The slot of each group of the atlas: controls by context and batch, others by row.
    slots: Vec<Option<usize>>,
    /// The slots of each place, with their batch.
    slots_of: HashMap<GroupRole, Vec<(usize, u32)>>,
    /// Training cells of each row, by batch.
    batches: Vec<BTreeMap<u32, u64>>,
    counts: bool,
    genes: usize,
    /// Sums of shares of the library, or of values, `slots × genes`.
    sums: Vec<f64>,
    cells: Vec<u64>,
    /// Sums of one over the library.
    inverse: Vec<f64>,
    /// Sums of squares over all cells, per gene.
    squares: Vec<f64>,
    logarithms: (f64, u64),
    /// Sums of logarithms, for an offset by shrinkage.
    for_shrinkage: Option<SumLogarithms>,
}

impl std::fmt::Debug for SumExpression {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SumExpression").field("slots", &self.cells.len()).finish_non_exhaustive()
    }
}

impl SumExpression {
    /// Empty sums over the cells of a split that a vocabulary knows, for an offset: of shares of the library if the model reads
    /// `counts`, otherwise of the values themselves.
    #[must_use]
    pub fn new(
        atlas: &Atlas,
        split: Arc<Split>,
        groups: &Groups,
        vocabulary: &Vocabulary,
        counts: bool,
        offset: OffsetChoice,
    ) -> Self {
        let layout = OffsetLayout::from_vocabulary(vocabulary);
        let batch_at = vocabulary.batch_at();
        let (mut slots_of, mut count): (HashMap<GroupRole, Vec<(usize, u32)>>, usize) = (HashMap::new(), 0);
        let mut batches = vec![BTreeMap::new(); layout.sizes()[1]];
        let mut slot_of = |group: &Group| {
            let cells = group.cells_for(SplitPart::Train);
            let codes = group.codes(atlas, vocabulary).filter(|_| cells > 0)?;
            let place = layout.place(&codes.parts, &codes.covariates)?;
            let batch = batch_at.map_or(0, |at| codes.covariates[at]);
            let batch = match place {
                GroupRole::Control(_) => batch,
                GroupRole::Perturbed(row) => {
                    *batches[row].entry(batch).or_default() += cells;
                    0
                }
            };
            let slots = slots_of.entry(place).or_default();
            if let Some((slot, _)) = slots.iter().find(|(_, slot_batch)| *slot_batch == batch) {
                return Some(*slot);
            }
            slots.push((count, batch));
            count += 1;
            Some(count - 1)
        };
        let slots: Vec<Option<usize>> = groups.all().iter().map(&mut slot_of).collect();
        let genes = atlas.genes().len();
        Self {
            atlas: atlas.clone(),
            split,
            groups: groups.clone(),
            layout,
            slots,
            batches,
            counts,
            genes,
            sums: vec![0.0; count * genes],
            cells: vec![0; count],
            inverse: vec![0.0; count],
            squares: vec![0.0; genes],
            logarithms: (0.0, 0),
            for_shrinkage: (offset == OffsetChoice::Shrinkage).then(|| SumLogarithms::new(count, genes, counts)),
            slots_of,
        }
    }

    fn add(&mut self, rows: &ExpressionRows) {
        let expression: &Expression = &rows.expression;
        let mut scales = vec![1.0; rows.plan.cells.len()];
        if self.counts {
            scales.fill(0.0);
            expression.for_each(|row, _, value| scales[row] += f64::from(value));
        }
        let slots: Vec<Option<usize>> = rows
            .plan
            .cells
            .iter()
            .map(|cell| {
                let group = self.groups.find(self.atlas.codes(*cell));
                group.and_then(|group| self.slots[group]).filter(|_| self.split.part(*cell) == SplitPart::Train)
            })
            .collect();
        for (scale, slot) in scales.iter_mut().zip(&slots) {
            // An empty cell carries no information.
            let Some(slot) = slot.filter(|_| *scale > 0.0) else { continue };
            self.cells[slot] += 1;
            self.logarithms = (self.logarithms.0 + scale.ln(), self.logarithms.1 + 1);
            *scale = 1.0 / *scale;
            self.inverse[slot] += *scale;
        }
        let (genes, sums, squares) = (self.genes, &mut self.sums, &mut self.squares);
        expression.for_each(|row, gene, value| {
            let Some(slot) = slots[row] else { return };
            let share = f64::from(value) * scales[row];
            sums[slot * genes + gene] += share;
            squares[gene] += share * share;
        });
        if let Some(logarithms) = &mut self.for_shrinkage {
            logarithms.add(rows, &slots, &scales);
        }
    }

    /// The mean of each gene over some slots.
    fn means(&self, slots: &[usize]) -> Vec<f64> {
        let cells = real(slots.iter().map(|slot| self.cells[*slot]).sum::<u64>().max(1));
        let of_gene = |gene: usize| slots.iter().map(|slot| self.sums[slot * self.genes + gene]).sum::<f64>() / cells;
        (0..self.genes).map(of_gene).collect()
    }

    fn profiles(&self) -> OffsetProfiles {
        let library = if self.counts { (self.logarithms.0 / real(self.logarithms.1.max(1))).exp() } else { 0.0 };
        let expected = |mean: f64| narrow(if self.counts { (library * mean).ln_1p() } else { mean });
        let [contexts, rows] = self.layout.sizes();
        let slots_of = |place: GroupRole| self.slots_of.get(&place).into_iter().flatten().copied();
        let controls_of = |context: usize| {
            let stand_ins = self.layout.stand_ins_of(context);
            stand_ins.into_iter().flat_map(|context| slots_of(GroupRole::Control(context))).collect::<Vec<_>>()
        };
        let controls: Vec<Vec<(usize, u32)>> = (0..contexts).map(controls_of).collect();
        let pooled: Vec<Vec<f32>> = controls
            .iter()
            .map(|slots| {
                self.means(&slots.iter().map(|(slot, _)| *slot).collect::<Vec<_>>()).into_iter().map(expected).collect()
            })
            .collect();
        let (within, mut noises) = (self.within(), Vec::with_capacity(rows));
        let mut shifts = Vec::with_capacity(rows * self.genes);
        for row in 0..rows {
            let context = self.layout.context_of(row);
            let own: Vec<usize> = slots_of(GroupRole::Perturbed(row)).map(|(slot, _)| slot).collect();
            let means = self.means(&own);
            let cells = real(own.iter().map(|slot| self.cells[*slot]).sum::<u64>().max(1));
            // This is to first order and ignores the noise of the controls, which are many.
            let slope = |mean: f64| if self.counts { library / (1.0 + library * mean) } else { 1.0 };
            let noise: f64 = means.iter().zip(&within).map(|(mean, variance)| variance * slope(*mean).powi(2)).sum();
            noises.push(narrow(noise / cells / real(self.genes.max(1) as u64)));
            let perturbed = means.into_iter().map(expected);
            match self.matched(row, &controls[context]) {
                Some(matched) => shifts.extend(perturbed.zip(matched).map(|(own, control)| own - expected(control))),
                None => shifts.extend(perturbed.zip(&pooled[context]).map(|(own, control)| own - control)),
            }
        }
        let logarithm = |variance: f64| narrow(variance.max(SMALLEST_VARIANCE).ln());
        let dispersion = if self.counts { self.dispersion() } else { within.into_iter().map(logarithm).collect() };
        let mut profiles = OffsetProfiles {
            genes: self.genes,
            library,
            controls: pooled.concat(),
            shifts,
            noises,
            dispersion,
            shrinkage: None,
        };
        if let Some(logarithms) = &self.for_shrinkage {
            logarithms.measure(&self.layout, &self.slots_of, &self.batches, &mut profiles);
        }
        profiles
    }

    /// The mean of the controls of a row's batches, weighted by the row's cells in each batch; `None` if a batch
    /// has too few controls, or there is only one batch.
    fn matched(&self, row: usize, controls: &[(usize, u32)]) -> Option<Vec<f64>> {
        let batches = &self.batches[row];
        let all = real(batches.values().sum::<u64>().max(1));
        if controls.len() < 2 {
            return None;
        }
        let mut mean = vec![0.0; self.genes];
        for (batch, cells) in batches {
            let slots: Vec<usize> =
                controls.iter().filter(|(_, slot_batch)| slot_batch == batch).map(|(slot, _)| *slot).collect();
            if slots.iter().map(|slot| self.cells[*slot]).sum::<u64>() < ENOUGH_CONTROLS {
                return None;
            }
            let share = real(*cells) / all;
            mean.iter_mut().zip(self.means(&slots)).for_each(|(sum, mean)| *sum += share * mean);
        }
        Some(mean)
    }

    /// The variance of each gene's values, or shares, within groups.
    fn within(&self) -> Vec<f64> {
        let all = real(self.cells.iter().sum::<u64>().max(1));
        let of_gene = |gene: usize| {
            let slots = (0..self.cells.len()).filter(|slot| self.cells[*slot] > 0);
            let between: f64 =
                slots.map(|slot| self.sums[slot * self.genes + gene].powi(2) / real(self.cells[slot])).sum();
            ((self.squares[gene] - between) / all).max(0.0)
        };
        (0..self.genes).map(of_gene).collect()
    }

    /// ln θ by the method of moments: within its group, a share of the library has the variance m · mean(1/ℓ) +
    /// m² / θ.
    fn dispersion(&self) -> Vec<f32> {
        let slots: Vec<usize> = (0..self.cells.len()).filter(|slot| self.cells[*slot] > 0).collect();
        let of_gene = |gene: usize| {
            let (mut squares, mut noise) = (0.0, 0.0);
            for slot in &slots {
                let mean = self.sums[slot * self.genes + gene] / real(self.cells[*slot]);
                squares += real(self.cells[*slot]) * mean * mean;
                noise += mean * self.inverse[*slot];
            }
            let excess = self.squares[gene] - squares - noise;
            let theta = if excess > 0.0 { squares / excess } else { DISPERSIONS[1] };
            narrow(theta.clamp(DISPERSIONS[0], DISPERSIONS[1]).ln())
        };
        (0..self.genes).map(of_gene).collect()
    }
}

impl Sink for SumExpression {
    type In = ExpressionRows;
    type Summary = OffsetProfiles;

    fn push(&mut self, rows: ExpressionRows) -> Result<ControlFlow<()>, BoxError> {
        self.add(&rows);
        Ok(ControlFlow::Continue(()))
    }

    fn finish(self) -> Result<OffsetProfiles, BoxError> {
        Ok(self.profiles())
    }
}
