//! `statistics.parquet`: the statistics of each group of cells, and the genes that distinguish it from its
//! controls.

use std::sync::Arc;

use arrow::{
    array::{
        ArrayRef, BooleanArray, FixedSizeListBuilder, Float32Builder, Float64Array, ListBuilder, RecordBatch,
        StringArray, StringBuilder, UInt64Array,
    },
    datatypes::SchemaRef,
};
use schemas::{
    Error, Result,
    arrow::{list_item, statistics_schema},
    atlas::{FileEntry, ValueKind, files},
    conditions::CONTROL,
    ids::ConditionId,
    numbers::bounded,
};
use stage::cast::{narrow, real};
use statistics::{
    differential::{score, top_genes},
    moments::MeanProfile,
};
use storage::{
    disk::{StagedFolder, checksum_of},
    parquet_file::ParquetFile,
};

use super::{
    annotate::Annotated,
    group_sums::{GeneValueSums, GroupCells, GroupSums},
};

/// Number of differential genes that are stored, those with the largest scores.
const DIFFERENTIAL_GENES: usize = 100;
/// Bytes of lists that are written at once.
const WRITTEN_AT_ONCE: usize = 4 << 20;

/// Writes the statistics; returns `None` if there were too many groups to sum, or no genes.
///
/// Groups are ordered by covariates; control comes first within each combination.
///
/// # Errors
/// A full or broken disk.
pub fn write(
    folder: &StagedFolder,
    sums: &GroupSums,
    genes: &[String],
    annotated: &Annotated,
    values: ValueKind,
) -> Result<Option<FileEntry>> {
    if sums.given_up() || genes.is_empty() {
        return Ok(None);
    }
    let covariates_of_groups = if sums.by_condition() { &[] } else { annotated.covariates.as_slice() };
    let covariates: Vec<String> = covariates_of_groups.iter().map(|covariate| covariate.name.clone()).collect();
    let schema = statistics_schema(&covariates, genes, values);
    let path = folder.file(files::STATISTICS);
    let mut file = ParquetFile::create_of_numbers(&path, Arc::clone(&schema))?;
    let mut order: Vec<usize> = (0..sums.groups().len()).collect();
    let by_context = |group: &usize| {
        let codes = &sums.groups()[*group].codes;
        (codes[1..].to_vec(), codes[0])
    };
    order.sort_by_cached_key(by_context);
    let rows = (WRITTEN_AT_ONCE / (12 * genes.len()).max(1)).max(1);
    let mut control: Option<(&[u32], MeanProfile)> = None;
    for some in order.chunks(rows) {
        let mut table = StatisticsRows::new(genes, values);
        for at in some {
            let known = &sums.groups()[*at];
            let group = profile(known, sums.sums(*at), values);
            let control_of_context = control.as_ref().filter(|(context, _)| *context == &known.codes[1..]);
            table.add(annotated, known, &group, sums.sums(*at), control_of_context.map(|(_, control)| control));
            if known.codes[0] == CONTROL.0 {
                control = Some((&known.codes[1..], group));
            }
        }
        file.write(&table.finish(&schema)?)?;
    }
    file.finish()?;
    checksum_of(&path).map(Some)
}

/// Mean and population variance of each gene: of log(1 + count), or of the values themselves.
fn profile(known: &GroupCells, sums: &[GeneValueSums], values: ValueKind) -> MeanProfile {
    let cells = real(known.cells);
    let of_kind = |sums: &GeneValueSums| match values {
        ValueKind::Counts => (sums[2], sums[3]),
        ValueKind::Continuous => (sums[0], sums[1]),
    };
    let mean: Vec<f64> = sums.iter().map(|sums| of_kind(sums).0 / cells).collect();
    // Rounding may make the variance of a constant gene slightly negative.
    let variance =
        sums.iter().zip(&mean).map(|(sums, mean)| (of_kind(sums).1 / cells - mean * mean).max(0.0)).collect();
    MeanProfile { cells: known.cells, mean, variance }
}

/// Rows of [`statistics_schema`] being built.
struct StatisticsRows<'a> {
    genes: &'a [String],
    labels: Vec<Vec<String>>,
    control: Vec<bool>,
    cells: Vec<u64>,
    /// Mean, deviation, minimum and maximum of libraries, and mean number of detected genes.
    libraries: [Vec<f64>; 5],
    /// Mean, variance and, for counts, mean count.
    lists: Vec<FixedSizeListBuilder<Float32Builder>>,
    differential: ListBuilder<StringBuilder>,
    scores: ListBuilder<Float32Builder>,
    changes: ListBuilder<Float32Builder>,
}

impl<'a> StatisticsRows<'a> {
    fn new(genes: &'a [String], values: ValueKind) -> Self {
        let width = bounded(genes.len());
        let list = || FixedSizeListBuilder::new(Float32Builder::new(), width).with_field(list_item());
        let lists = if values == ValueKind::Counts { 3 } else { 2 };
        let numbers = || ListBuilder::new(Float32Builder::new()).with_field(list_item());
        Self {
            genes,
            labels: Vec::new(),
            control: Vec::new(),
            cells: Vec::new(),
            libraries: Default::default(),
            lists: (0..lists).map(|_| list()).collect(),
            differential: ListBuilder::new(StringBuilder::new()).with_field(schemas::arrow::name_item()),
            scores: numbers(),
            changes: numbers(),
        }
    }

    fn add(
        &mut self,
        annotated: &Annotated,
        known: &GroupCells,
        group: &MeanProfile,
        sums: &[GeneValueSums],
        control: Option<&MeanProfile>,
    ) {
        let condition = ConditionId(known.codes[0]);
        let table = &annotated.conditions;
        let covariates = known.codes[1..].iter().zip(&annotated.covariates);
        let mut labels = vec![table.name(condition).to_owned(), table.dose_label(condition)];
        labels.extend(covariates.map(|(code, covariate)| covariate.values[*code as usize].clone()));
        self.labels.push(labels);
        self.control.push(condition == CONTROL);
        self.cells.push(known.cells);
        let cells = real(known.cells);
        let library = known.library / cells;
        let deviation = (known.library_squares / cells - library * library).max(0.0).sqrt();
        let (smallest, largest) = known.library_range;
        let detected = real(known.detected) / cells;
        let libraries = [library, deviation, smallest, largest, detected];
        self.libraries.iter_mut().zip(libraries).for_each(|(column, value)| column.push(value));

        append(&mut self.lists[0], &group.mean);
        append(&mut self.lists[1], &group.variance);
        if let Some(counts) = self.lists.get_mut(2) {
            sums.iter().for_each(|sums| counts.values().append_value(narrow(sums[0] / cells)));
            counts.append(true);
        }
        if let Some(control) = control.filter(|_| condition != CONTROL) {
            for gene in top_genes(group, control, DIFFERENTIAL_GENES) {
                self.differential.values().append_value(&self.genes[gene]);
                self.scores.values().append_value(narrow(score(group, control, gene)));
                self.changes.values().append_value(narrow(group.mean[gene] - control.mean[gene]));
            }
        }
        self.differential.append(true);
        self.scores.append(true);
        self.changes.append(true);
    }

    fn finish(mut self, schema: &SchemaRef) -> Result<RecordBatch> {
        let labels = self.labels.first().map_or(0, Vec::len);
        let mut columns: Vec<ArrayRef> = (0..labels)
            .map(|at| Arc::new(StringArray::from_iter_values(self.labels.iter().map(|row| &row[at]))) as ArrayRef)
            .collect();
        columns.push(Arc::new(BooleanArray::from(self.control)));
        columns.push(Arc::new(UInt64Array::from(self.cells)));
        columns.extend(self.libraries.map(|column| Arc::new(Float64Array::from(column)) as ArrayRef));
        columns.extend(self.lists.iter_mut().map(|list| Arc::new(list.finish()) as ArrayRef));
        columns.push(Arc::new(self.differential.finish()));
        columns.push(Arc::new(self.scores.finish()));
        columns.push(Arc::new(self.changes.finish()));
        RecordBatch::try_new(Arc::clone(schema), columns).map_err(|error| Error::Bug(error.to_string()))
    }
}

fn append(list: &mut FixedSizeListBuilder<Float32Builder>, values: &[f64]) {
    values.iter().for_each(|value| list.values().append_value(narrow(*value)));
    list.append(true);
}
