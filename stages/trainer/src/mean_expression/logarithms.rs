//! Means and variances of the training cells' logarithms by condition, from which an offset by shrinkage is estimated.

use std::collections::{BTreeMap, HashMap};

use offset::{GroupRole, LIBRARIES, OffsetLayout, OffsetProfiles, ShrinkageProfiles};
use reader::profiles::ExpressionRows;
use shrinkage::{CellSums, GeneVariances};
use stage::cast::{narrow, real};
use statistics::{matched::BatchControls, moments::Moments, scale::TARGET_SUM};

/// Bins of library sizes per unit of their logarithm.
const BINS: f64 = 32.0;

/// Sums over the cells of each slot.
pub(super) struct SumLogarithms {
    counts: bool,
    moments: Vec<Moments>,
    /// Number of cells by the bin of their library size.
    libraries: BTreeMap<i32, u64>,
}

impl SumLogarithms {
    /// Empty sums.
    pub(super) fn new(slots: usize, genes: usize, counts: bool) -> Self {
        Self { counts, moments: vec![Moments::new(genes); slots], libraries: BTreeMap::new() }
    }

    /// Adds rows with a slot and, for counts, one over their library size; an empty cell has 0 there and is left out.
    pub(super) fn add(&mut self, rows: &ExpressionRows, slots: &[Option<usize>], scales: &[f64]) {
        for ((_, (genes, mut values)), (slot, scale)) in rows.cells().zip(slots.iter().zip(scales)) {
            let Some(slot) = slot.filter(|_| *scale > 0.0) else { continue };
            if self.counts {
                #[expect(clippy::cast_possible_truncation, reason = "logarithms are small")]
                let bin = (-scale.ln() * BINS).round() as i32;
                *self.libraries.entry(bin).or_default() += 1;
                values.iter_mut().for_each(|value| *value = (TARGET_SUM * *scale * *value).ln_1p());
            }
            self.moments[slot].push_sparse(&genes, values);
        }
    }

    /// Replaces the shifts of profiles and their noise by those of logarithms, and adds all else that shrinkage reads; leaves them
    /// as they are if no gene varies.
    pub(super) fn measure(
        &self,
        layout: &OffsetLayout,
        slots_of: &HashMap<GroupRole, Vec<(usize, u32)>>,
        batches: &[BTreeMap<u32, u64>],
        profiles: &mut OffsetProfiles,
    ) {
        let [contexts, rows] = layout.sizes();
        let Some(variances) = self.variances(profiles.genes) else { return };
        let slots = |role: GroupRole| slots_of.get(&role).into_iter().flatten();
        let controls_of = |context: usize| {
            let stand_ins = layout.stand_ins_of(context).into_iter();
            let slots = stand_ins.flat_map(|context| slots(GroupRole::Control(context)));
            BatchControls::new(slots.map(|(slot, batch)| (*batch, self.moments[*slot].clone())).collect())
        };
        let controls: Vec<Option<BatchControls>> = (0..contexts).map(controls_of).collect();

        let mut measured = ShrinkageProfiles {
            variances: variances.variances.iter().map(|variance| narrow(*variance)).collect(),
            libraries: self.quantiles(),
            ..ShrinkageProfiles::default()
        };
        for (context, controls) in controls.iter().enumerate() {
            let mean = controls.as_ref().map_or_else(|| vec![0.0; profiles.genes], |controls| controls.all().mean);
            measured.controls.extend(mean.into_iter().map(narrow));
            let own = controls.as_ref().filter(|_| layout.has_controls(context));
            measured.control_noises.push(own.map_or(0.0, |own| narrow(variances.noise_of_mean(&sums(own.moments())))));
        }
        profiles.shifts.clear();
        profiles.noises.clear();
        for (row, batches) in (0..rows).zip(batches) {
            let own = slots(GroupRole::Perturbed(row)).map(|(slot, _)| &self.moments[*slot]).next();
            let own = own.filter(|moments| moments.cells() > 0);
            let cells: Vec<(u32, u64)> = batches.iter().map(|(batch, cells)| (*batch, *cells)).collect();
            match (own, &controls[layout.context_of(row)]) {
                (Some(own), Some(controls)) => {
                    let shift = own.mean().into_iter().zip(controls.matched(&cells).mean);
                    profiles.shifts.extend(shift.map(|(own, control)| narrow(own - control)));
                    profiles.noises.push(narrow(variances.noise_of_mean(&sums(own))));
                }
                _ => {
                    profiles.shifts.resize(profiles.shifts.len() + profiles.genes, 0.0);
                    profiles.noises.push(0.0);
                }
            }
        }
        profiles.shrinkage = Some(measured);
    }

    /// The variances within groups or, if every group is a single cell, of all cells.
    fn variances(&self, genes: usize) -> Option<GeneVariances> {
        let groups = || self.moments.iter().filter(|moments| moments.cells() > 0);
        GeneVariances::pooled(genes, groups().map(sums)).ok().or_else(|| {
            let mut all = Moments::new(genes);
            groups().for_each(|moments| all.merge(moments));
            GeneVariances::pooled(genes, std::iter::once(sums(&all))).ok()
        })
    }

    fn quantiles(&self) -> Vec<f32> {
        let cells = real(self.libraries.values().sum());
        let (mut bins, mut below) = (self.libraries.iter().peekable(), 0.0);
        let quantile = |at: usize| {
            let wanted = (at as f64 + 0.5) / LIBRARIES as f64 * cells;
            while let Some((bin, count)) = bins.peek() {
                if below + real(**count) > wanted {
                    return narrow((f64::from(**bin) / BINS).exp());
                }
                below += real(**count);
                bins.next();
            }
            0.0
        };
        (0..LIBRARIES).map(quantile).collect()
    }
}

fn sums(moments: &Moments) -> CellSums<'_> {
    CellSums { cells: moments.cells(), values: moments.sums(), squares: moments.squares() }
}
