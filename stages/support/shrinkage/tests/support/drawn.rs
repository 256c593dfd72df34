//! Sums of groups of cells that are drawn from normal distributions, always the same.

use schemas::Result;
use shrinkage::{CellSums, DosedPart, GeneVariances, MeasuredControls, MeasuredShift, MeasuredShifts};

/// A perturbation at dose 1.
pub(crate) fn single(perturbation: u32) -> Vec<DosedPart> {
    at_dose(perturbation, 1.0)
}

/// A perturbation at a dose.
pub(crate) fn at_dose(perturbation: u32, dose: f64) -> Vec<DosedPart> {
    vec![DosedPart { perturbation, dose }]
}

/// The root of the mean of squares.
pub(crate) fn root_mean_square(numbers: impl Iterator<Item = f64>) -> f64 {
    let squares: Vec<f64> = numbers.map(|number| number * number).collect();
    (squares.iter().sum::<f64>() / squares.len() as f64).sqrt()
}

/// The sums of one group.
#[derive(Clone, Debug)]
pub(crate) struct DrawnGroup {
    /// Its parts; none for controls.
    pub(crate) parts: Vec<DosedPart>,
    /// Its context.
    pub(crate) context: usize,
    /// Its number of cells.
    pub(crate) cells: u64,
    /// Sums of values.
    pub(crate) values: Vec<f64>,
    /// Sums of squared values.
    pub(crate) squares: Vec<f64>,
}

/// All groups.
#[derive(Clone, Debug)]
pub(crate) struct Drawn {
    contexts: usize,
    /// For each gene, the one whose numbers it has.
    order: Vec<usize>,
    state: u64,
    /// The groups, in the order in which they were added.
    pub(crate) groups: Vec<DrawnGroup>,
}

impl Drawn {
    /// No groups yet.
    pub(crate) fn new(genes: usize, contexts: usize) -> Self {
        Self::with_order(genes, contexts, |gene| gene)
    }

    /// No groups yet; gene g will have the numbers that gene `order(g)` has without an order.
    pub(crate) fn with_order(genes: usize, contexts: usize, order: impl Fn(usize) -> usize) -> Self {
        Self { contexts, order: (0..genes).map(order).collect(), state: 1, groups: Vec::new() }
    }

    /// Adds a group with this shift of each gene; its sums are drawn as if from cells of deviation 0.5.
    pub(crate) fn add(&mut self, parts: &[DosedPart], context: usize, cells: u64, shift: impl Fn(usize) -> f64) {
        let count = cells as f64;
        let genes = self.order.len();
        let mut values = vec![0.0; genes];
        let mut squares = vec![0.0; genes];
        for gene in 0..genes {
            let level = 2.0 + 0.1 * ((gene * (context + 3)) % 11) as f64;
            let mean = level + shift(gene) + 0.5 * self.normal() / count.sqrt();
            // A chi-squared number with the degrees of freedom of the cells, to its first two moments.
            let freedom = count - 1.0;
            let scatter = 0.25 * (freedom + (2.0 * freedom).sqrt() * self.normal()).max(0.3 * freedom);
            values[gene] = count * mean;
            squares[gene] = scatter + count * mean * mean;
        }
        let ordered = |numbers: &[f64]| self.order.iter().map(|gene| numbers[*gene]).collect();
        let (values, squares) = (ordered(&values), ordered(&squares));
        self.groups.push(DrawnGroup { parts: parts.to_vec(), context, cells, values, squares });
    }

    /// Multiplies all values.
    pub(crate) fn scale_by(&mut self, factor: f64) {
        for group in &mut self.groups {
            group.values.iter_mut().for_each(|sum| *sum *= factor);
            group.squares.iter_mut().for_each(|sum| *sum *= factor * factor);
        }
    }

    /// The difference of the means of the first perturbed group and the controls of a context.
    pub(crate) fn measured(&self, context: usize) -> Vec<f64> {
        let mean = |controls: bool| {
            let here = |group: &&DrawnGroup| group.context == context && group.parts.is_empty() == controls;
            let group = self.groups.iter().find(here).expect("it was added");
            group.values.iter().map(|sum| sum / group.cells as f64).collect::<Vec<_>>()
        };
        mean(false).into_iter().zip(mean(true)).map(|(perturbed, control)| perturbed - control).collect()
    }

    /// The measured shifts, for the estimator.
    ///
    /// # Errors
    /// Sums that say nothing of the noise.
    pub(crate) fn measurements(&self) -> Result<MeasuredShifts> {
        let groups = self.groups.iter().map(|group| MeasuredGroup {
            parts: &group.parts,
            context: group.context,
            cells: CellSums { cells: group.cells, values: &group.values, squares: &group.squares },
        });
        measured(self.order.len(), self.contexts, &groups.collect::<Vec<_>>())
    }

    /// A standard normal number, by the sum of twelve uniform ones.
    fn normal(&mut self) -> f64 {
        let uniform = |state: &mut u64| {
            *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (*state >> 11) as f64 / (1_u64 << 53) as f64
        };
        (0..12).map(|_| uniform(&mut self.state)).sum::<f64>() - 6.0
    }
}

/// A group of cells; controls have no parts.
pub(crate) struct MeasuredGroup<'a> {
    /// Its parts.
    pub(crate) parts: &'a [DosedPart],
    /// Its context.
    pub(crate) context: usize,
    /// Its sums.
    pub(crate) cells: CellSums<'a>,
}

/// The measured shifts of groups.
///
/// # Errors
/// Sums that say nothing of the noise.
pub(crate) fn measured(genes: usize, contexts: usize, groups: &[MeasuredGroup]) -> Result<MeasuredShifts> {
    let variances = GeneVariances::pooled(genes, groups.iter().map(|group| group.cells))?;
    let mean = |group: &MeasuredGroup| -> Vec<f64> {
        group.cells.values.iter().map(|sum| sum / group.cells.cells as f64).collect()
    };
    let mut controls = vec![None; contexts];
    for group in groups.iter().filter(|group| group.parts.is_empty()) {
        let noise = variances.noise_of_mean(&group.cells);
        controls[group.context] = Some(MeasuredControls { mean: mean(group), noise });
    }
    let perturbed = groups.iter().filter(|group| !group.parts.is_empty());
    let shift = |group: &MeasuredGroup| {
        let own = mean(group);
        let shift = match &controls[group.context] {
            Some(controls) => own.iter().zip(&controls.mean).map(|(own, control)| own - control).collect(),
            None => own,
        };
        let noise = variances.noise_of_mean(&group.cells);
        MeasuredShift { parts: group.parts.to_vec(), context: group.context, shift, noise }
    };
    let shifts = perturbed.map(shift).collect();
    Ok(MeasuredShifts { variances: variances.variances, controls, shifts })
}
