//! Shifts: means of perturbed groups minus those of their context's controls.

use std::collections::BTreeMap;

use schemas::Result;

use crate::{
    Matrix,
    measured::{DosedPart, MeasuredControls, MeasuredShift, MeasuredShifts, refused},
};

/// A group of perturbed cells in a context with controls.
#[derive(Clone, Debug)]
pub(crate) struct ShiftRow {
    /// Its parts, ascending.
    pub(crate) parts: Vec<DosedPart>,
    /// Its context, numbered among those with controls.
    pub(crate) context: usize,
}

impl ShiftRow {
    pub(crate) fn is_combination(&self) -> bool {
        self.parts.len() > 1
    }
}

/// A row as seen by one of its parts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Exposure {
    /// The row.
    pub(crate) row: usize,
    /// The row's context.
    pub(crate) context: usize,
    /// The part's dose there.
    pub(crate) dose: f64,
}

/// The rows that have a perturbation.
#[derive(Debug)]
pub(crate) struct PerturbationRows {
    /// The perturbation.
    pub(crate) perturbation: u32,
    /// All its rows, ascending.
    pub(crate) all: Vec<Exposure>,
    /// Those where nothing else was done.
    pub(crate) alone: Vec<Exposure>,
}

impl PerturbationRows {
    /// Whether the perturbation was given at several doses.
    pub(crate) fn has_doses(&self) -> bool {
        Self::vary(&self.all, |row| row.dose)
    }

    /// The largest dose.
    pub(crate) fn largest_dose(&self) -> f64 {
        self.all.iter().fold(0.0, |top: f64, row| top.max(row.dose))
    }

    /// Whether two of these rows differ in what `key` gives.
    pub(crate) fn vary<K: PartialEq>(rows: &[Exposure], key: impl Fn(&Exposure) -> K) -> bool {
        rows.iter().any(|row| key(row) != key(&rows[0]))
    }
}

/// All shifts, each gene in units of its deviation within groups.
#[derive(Debug)]
pub(crate) struct Shifts {
    /// The groups, in ascending order of parts and context.
    pub(crate) rows: Vec<ShiftRow>,
    /// `genes × rows`.
    pub(crate) values: Matrix,
    /// Noise of each row's mean, without its controls'.
    pub(crate) noise: Vec<f64>,
    /// The number of each context among those with controls, by its index.
    pub(crate) numbers: Vec<Option<usize>>,
    /// Mean of each context's controls, `genes × contexts`, in the unit of the values.
    pub(crate) controls: Matrix,
    /// Noise of each context's control mean, in units of the variances.
    pub(crate) control_noise: Vec<f64>,
    /// The perturbations, ascending.
    pub(crate) perturbations: Vec<PerturbationRows>,
    /// Deviation of each gene within groups, in the unit of the values.
    pub(crate) deviations: Vec<f64>,
}

impl Shifts {
    /// The shifts of the groups whose context has controls; the groups are in order.
    ///
    /// # Errors
    /// No group in a context with controls.
    pub(crate) fn new(measured: &MeasuredShifts) -> Result<Self> {
        let genes = measured.variances.len();
        let mut known = 0..;
        let numbers: Vec<_> = measured.controls.iter().map(|cells| cells.as_ref().and_then(|_| known.next())).collect();
        let controls: Vec<&MeasuredControls> = measured.controls.iter().flatten().collect();
        let shifts = measured.shifts.iter().filter_map(|shift| Some((numbers[shift.context]?, shift)));
        let (contexts, shifts): (Vec<usize>, Vec<&MeasuredShift>) = shifts.unzip();
        if shifts.is_empty() {
            let message = "no context has both controls and perturbed cells";
            return Err(refused(message, "give controls of the same contexts"));
        }
        let deviations: Vec<f64> = measured.variances.iter().map(|variance| variance.sqrt()).collect();
        let parts = shifts.iter().map(|shift| shift.parts.clone());
        let rows: Vec<ShiftRow> = parts.zip(contexts).map(|(parts, context)| ShiftRow { parts, context }).collect();
        Ok(Self {
            values: Matrix::from_fn(genes, rows.len(), |gene, row| shifts[row].shift[gene] / deviations[gene]),
            noise: shifts.iter().map(|shift| shift.noise).collect(),
            controls: Matrix::from_fn(genes, controls.len(), |gene, context| controls[context].mean[gene]),
            control_noise: controls.iter().map(|controls| controls.noise).collect(),
            perturbations: by_perturbation(&rows),
            rows,
            numbers,
            deviations,
        })
    }

    /// Number of genes.
    pub(crate) fn genes(&self) -> usize {
        self.values.nrows()
    }

    /// Number of contexts with controls.
    pub(crate) fn contexts(&self) -> usize {
        self.control_noise.len()
    }

    /// The number of a perturbation among those that have rows.
    pub(crate) fn number_of(&self, perturbation: u32) -> Option<usize> {
        self.perturbations.binary_search_by_key(&perturbation, |of| of.perturbation).ok()
    }

    /// The rows of a context where one thing was done.
    pub(crate) fn alone_in(&self, context: usize) -> Vec<usize> {
        let here = |row: &usize| self.rows[*row].context == context && !self.rows[*row].is_combination();
        (0..self.rows.len()).filter(here).collect()
    }

    /// The rows of combinations.
    pub(crate) fn combinations(&self) -> Vec<usize> {
        (0..self.rows.len()).filter(|row| self.rows[*row].is_combination()).collect()
    }
}

fn by_perturbation(rows: &[ShiftRow]) -> Vec<PerturbationRows> {
    let mut found: BTreeMap<u32, (Vec<Exposure>, Vec<Exposure>)> = BTreeMap::new();
    for (at, row) in rows.iter().enumerate() {
        for part in &row.parts {
            let exposure = Exposure { row: at, context: row.context, dose: part.dose };
            let (all, alone) = found.entry(part.perturbation).or_default();
            all.push(exposure);
            if !row.is_combination() {
                alone.push(exposure);
            }
        }
    }
    found.into_iter().map(|(perturbation, (all, alone))| PerturbationRows { perturbation, all, alone }).collect()
}
