//! Rows of predicted values: on the scale of the evaluation, then summed by group.

use std::{
    collections::HashMap,
    ops::{ControlFlow, Range},
    sync::Arc,
};

use schemas::{ByteSize, Error, Result, chunk::CsrRows, ids::CellIndex, numbers::bounded};
use stage::{BoxError, Sink};
use statistics::{
    axes::Axes,
    compared::ComparedGenes,
    moments::Moments,
    point_sets::PointSet,
    scale::{Scale, TARGET_SUM},
};

use super::{PredictedCells, counts::is_count};
use crate::{
    evaluator::ModelProfiles,
    sampled::SampledCells,
    test_rows::{TestRows, TestedPart, place_of},
};

/// The scale of a prediction's numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum PredictionScale {
    /// Counts.
    Counts,
    /// ln(1 + counts scaled to this sum).
    LogNormalised(f64),
    /// The atlas's own values.
    Values,
}

impl std::fmt::Display for PredictionScale {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Counts => f.write_str("counts"),
            Self::LogNormalised(sum) if *sum == TARGET_SUM => f.write_str("log1p_cp10k"),
            Self::LogNormalised(sum) => write!(f, "log1p of counts scaled to {sum} per cell"),
            Self::Values => f.write_str("values of the atlas"),
        }
    }
}

/// Rows on the scale of the evaluation, of compared genes.
#[derive(Clone, Debug, Default)]
pub struct PredictedRows {
    /// The group of each row.
    groups: Vec<usize>,
    /// Where each row's entries end.
    ends: Vec<usize>,
    genes: Vec<u32>,
    values: Vec<f64>,
    /// Points of sampled rows, with their groups.
    points: Vec<(usize, Vec<f32>)>,
}

impl ByteSize for PredictedRows {
    fn byte_size(&self) -> usize {
        let points: usize = self.points.iter().map(|(_, point)| 8 + 4 * point.len()).sum();
        16 * self.groups.len() + 4 * self.genes.len() + 8 * self.values.len() + points
    }
}

/// Reads rows and converts them, on any number of threads.
#[derive(Clone, Debug)]
pub struct RowConverter {
    predicted: Arc<PredictedCells>,
    scale: PredictionScale,
    target: Scale,
    compared: Arc<ComparedGenes>,
    /// The rows that become points, and the axes of their space.
    sampled: Option<(Arc<SampledCells>, Arc<Axes>)>,
    /// Whether numbers other than whole ones show that these are not counts.
    expects_whole: bool,
}

impl RowConverter {
    /// Converts rows from one scale to the other; those of `sampled` also become points.
    ///
    /// # Errors
    /// Scales between which there is no conversion.
    pub fn new(
        predicted: Arc<PredictedCells>,
        scale: PredictionScale,
        target: Scale,
        compared: Arc<ComparedGenes>,
        sampled: Option<(Arc<SampledCells>, Arc<Axes>)>,
    ) -> Result<Self> {
        let is_means = predicted.holds_means();
        let refused = match (scale, target) {
            (PredictionScale::Values, Scale::Values) => None,
            (PredictionScale::Values, _) | (_, Scale::Values) => Some("its numbers are on another scale"),
            (PredictionScale::Counts, Scale::Log1p | Scale::LogNormalised) if is_means => {
                Some("its rows are means, and a mean of counts does not determine the mean of their logarithms")
            }
            (PredictionScale::LogNormalised(_), Scale::Pseudobulk) if is_means => {
                Some("its rows are means, and a mean of logarithms does not determine the mean of counts")
            }
            (PredictionScale::LogNormalised(_), Scale::Log1p) => {
                Some("values that were normalised do not determine counts")
            }
            (PredictionScale::Counts | PredictionScale::LogNormalised(_), _) => None,
        };
        if let Some(why) = refused {
            let path = &predicted.source.origin().path;
            let hint = "choose the scale of the comparison with --scale, or say which numbers these are with --values";
            return Err(Error::data(path, format!("it can't be evaluated on the scale {target}: {why}"), hint));
        }
        Ok(Self { predicted, scale, target, compared, sampled, expects_whole: false })
    }

    /// Refuses numbers that are not whole if they are read as counts because the first ones are whole.
    #[must_use]
    pub fn with_guessed_scale(self, is_guessed: bool) -> Self {
        let expects_whole = is_guessed && self.scale == PredictionScale::Counts;
        Self { expects_whole, ..self }
    }

    /// The rows of evaluated groups in this range.
    ///
    /// # Errors
    /// A file that can't be read, or values that can't be predictions.
    pub fn read(&self, range: Range<u64>) -> Result<PredictedRows> {
        self.read_of(range, |row| self.predicted.evaluated_group(row))
    }

    /// The rows in this range that have a group.
    fn read_of(&self, range: Range<u64>, group_of: impl Fn(u64) -> Option<usize>) -> Result<PredictedRows> {
        let mut converted = PredictedRows::default();
        if range.clone().all(|row| group_of(row).is_none()) {
            return Ok(converted);
        }
        let rows = self.predicted.source.expression(range.clone(), CsrRows::default())?;
        converted.genes.reserve(rows.genes().len());
        converted.values.reserve(rows.genes().len());
        for (at, row) in range.enumerate() {
            if let Some(group) = group_of(row) {
                self.convert(&mut converted, group, row, rows.row(at))?;
            }
        }
        Ok(converted)
    }

    /// The rows of these groups that are among the chosen ones, as tests take them: logarithms.
    ///
    /// # Errors
    /// As for [`RowConverter::read`].
    pub fn read_for_tests(
        &self,
        range: Range<u64>,
        sampled: &SampledCells,
        is_wanted: impl Fn(usize) -> bool,
    ) -> Result<TestRows> {
        let as_logarithms = Self { sampled: None, target: self.target.of_tests(), ..self.clone() };
        let group_of = |row: u64| sampled.group(CellIndex(row)).filter(|group| is_wanted(*group));
        let rows = as_logarithms.read_of(range, group_of)?;
        let (mut tested, mut first) = (TestRows::default(), 0);
        for (group, end) in rows.groups.iter().zip(&rows.ends) {
            tested.push(place_of(*group, TestedPart::First), &rows.genes[first..*end], &rows.values[first..*end]);
            first = *end;
        }
        Ok(tested)
    }

    /// The file whose rows are converted.
    #[must_use]
    pub fn predicted(&self) -> &Arc<PredictedCells> {
        &self.predicted
    }

    fn convert(
        &self,
        converted: &mut PredictedRows,
        group: usize,
        row: u64,
        (file_genes, stored): (&[u32], &[f32]),
    ) -> Result<()> {
        if let Some(at) = stored.iter().position(|value| !self.accepts(*value)) {
            return Err(self.bad_value(row, file_genes[at], stored[at]));
        }
        // Genes that the atlas lacks count towards no sum, as in real cells.
        let first = converted.genes.len();
        for (gene, value) in file_genes.iter().zip(stored) {
            if let Some(gene) = self.predicted.genes[*gene as usize] {
                converted.genes.push(bounded(gene));
                converted.values.push(f64::from(*value));
            }
        }
        let values = &mut converted.values[first..];
        match (self.scale, self.target) {
            (PredictionScale::Counts, target) => target.convert_cell(values),
            (PredictionScale::LogNormalised(sum), Scale::LogNormalised) if sum != TARGET_SUM => {
                values.iter_mut().for_each(|value| *value = (value.exp_m1() * (TARGET_SUM / sum)).ln_1p());
            }
            (PredictionScale::LogNormalised(sum), Scale::Pseudobulk) => {
                values.iter_mut().for_each(|value| *value = value.exp_m1() * (TARGET_SUM / sum));
            }
            (PredictionScale::LogNormalised(_) | PredictionScale::Values, _) => {}
        }
        if let Some((sampled, axes)) = &self.sampled
            && sampled.group(CellIndex(row)).is_some()
        {
            // Cells are compared by logarithms, even if means of scaled counts are.
            let is_logarithm = self.target != Scale::Pseudobulk;
            let logarithms: Option<Vec<f64>> =
                (!is_logarithm).then(|| values.iter().map(|value| value.ln_1p()).collect());
            let at_scale = logarithms.as_deref().unwrap_or(values);
            converted.points.push((group, axes.project_converted(&converted.genes[first..], at_scale)));
        }
        self.compared.keep_from(first, &mut converted.genes, &mut converted.values);
        converted.groups.push(group);
        converted.ends.push(converted.genes.len());
        Ok(())
    }

    /// Whether a value can be a prediction on the file's scale.
    fn accepts(&self, value: f32) -> bool {
        value.is_finite()
            && (self.scale != PredictionScale::Counts || value >= 0.0)
            && (!self.expects_whole || is_count(value))
    }

    fn bad_value(&self, row: u64, gene: u32, value: f32) -> Error {
        if self.expects_whole && value.is_finite() {
            return self.predicted.not_a_count(row, gene, value);
        }
        let (file, place) = self.predicted.place_of(row, gene);
        let message = format!("the value of {place} is {value}, which is not a prediction");
        let hint = match value.is_finite() {
            true => "counts are not negative; if these are logarithms, say --values log1p_cp10k",
            false => "predict a number for every gene",
        };
        Error::data(file, message, hint)
    }
}

/// Sums over the rows of a group.
#[derive(Debug)]
struct PredictedGroupSums {
    moments: Moments,
    points: Option<PointSet>,
}

/// Sums rows by group.
#[derive(Debug)]
pub struct SumPredictedRows {
    genes: usize,
    no_points: Option<PointSet>,
    is_means: bool,
    groups: HashMap<usize, PredictedGroupSums>,
}

impl SumPredictedRows {
    /// Empty sums of rows that this converter reads.
    #[must_use]
    pub fn new(converter: &RowConverter) -> Self {
        Self {
            genes: converter.compared.chosen().len(),
            no_points: converter.sampled.as_ref().map(|(_, axes)| axes.empty_point_set()),
            is_means: converter.predicted.holds_means(),
            groups: HashMap::new(),
        }
    }

    fn group(&mut self, group: usize) -> &mut PredictedGroupSums {
        let (genes, no_points) = (self.genes, &self.no_points);
        self.groups
            .entry(group)
            .or_insert_with(|| PredictedGroupSums { moments: Moments::new(genes), points: no_points.clone() })
    }
}

impl Sink for SumPredictedRows {
    type In = PredictedRows;
    type Summary = Vec<ModelProfiles>;

    fn push(&mut self, rows: PredictedRows) -> Result<ControlFlow<()>, BoxError> {
        let mut first = 0;
        for (group, end) in rows.groups.iter().zip(&rows.ends) {
            let (genes, values) = (&rows.genes[first..*end], &rows.values[first..*end]);
            self.group(*group).moments.push_sparse(genes, values.iter().copied());
            first = *end;
        }
        for (group, point) in &rows.points {
            if let Some(points) = &mut self.group(*group).points {
                points.extend(point);
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    fn finish(self) -> Result<Self::Summary, BoxError> {
        let is_means = self.is_means;
        let profile = |(group, sums): (usize, PredictedGroupSums)| ModelProfiles {
            group,
            condition: sums.moments.mean(),
            variance: (!is_means).then(|| sums.moments.variance_unbiased()).filter(|_| sums.moments.cells() > 1),
            points: sums.points.filter(|_| !is_means),
            offset: None,
            control: None,
            distance: None,
            tests: None,
        };
        let mut profiles: Vec<ModelProfiles> = self.groups.into_iter().map(profile).collect();
        profiles.sort_by_key(|profile| profile.group);
        Ok(profiles)
    }
}
