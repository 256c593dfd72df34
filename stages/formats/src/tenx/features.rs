//! The features of a 10x file: their annotations, and which of them are kept.

use std::{collections::BTreeMap, sync::Arc};

use arrays::place::ObjectPlace;
use arrow::{
    array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch},
    compute,
    datatypes::{DataType, Field, Schema},
};
use hdf5_metno::Group;
use schemas::{
    Error, Result,
    chunk::CsrRows,
    numbers::{checked, to_usize},
};

use crate::{h5ad::values::DatasetValues, source::MOST_GENES};

/// The kind of feature that is kept.
const GENE_EXPRESSION: &str = "Gene Expression";
/// The index of a feature that is left out.
const LEFT_OUT: u32 = u32::MAX;

/// Features, some of which are kept.
#[derive(Debug)]
pub(super) struct Features {
    var: RecordBatch,
    /// The new index of each feature; `None` if all are kept.
    genes: Option<Vec<u32>>,
}

impl Features {
    /// The features since version 3: those of gene expression, restricted to a genome if one is given.
    pub(super) fn open(group: &Group, place: &ObjectPlace, genome: Option<&str>, count: u32) -> Result<Self> {
        let is_probe_set = group.link_exists("gene_id");
        let known: &[(&str, &str)] = match is_probe_set {
            false => &[("gene", "name"), ("gene_id", "id"), ("feature_types", "feature_type"), ("genome", "genome")],
            true => &[
                ("gene", "name"),
                ("gene_id", "gene_id"),
                ("probe_id", "id"),
                ("feature_types", "feature_type"),
                ("genome", "genome"),
            ],
        };
        let mut columns = Columns::new(group, place, count)?;
        for (name, member) in known {
            if *name == "gene" || group.link_exists(member) {
                columns.add(name, member)?;
            }
        }
        let members = group.member_names().map_err(|error| place.unreadable(error))?;
        let others = members.iter().filter(|member| known.iter().all(|(_, used)| used != *member));
        for member in others.filter(|member| *member != "_all_tag_keys") {
            columns.add_if_known(member)?;
        }
        let var = columns.finish()?;
        let mut kept = BooleanArray::from(vec![true; var.num_rows()]);
        if let Some(types) = var.column_by_name("feature_types") {
            kept = only(types, GENE_EXPRESSION);
            warn_of_left_out(types, &kept, place)?;
        }
        if let Some(genome) = genome {
            let genomes = var.column_by_name("genome").cloned();
            let genomes =
                genomes.ok_or_else(|| place.error("gives no genomes for its features", "leave out --genome"))?;
            let of_genome = only(&genomes, genome);
            if of_genome.true_count() == 0 {
                let counts = counts(&genomes);
                return Err(Error::unknown("genome", genome, counts.keys().copied()));
            }
            kept = compute::and(&kept, &of_genome).map_err(bug)?;
        }
        Self::keeping(&var, &kept)
    }

    /// The features of version 2, all of which are gene expression.
    pub(super) fn of_version_2(group: &Group, place: &ObjectPlace, count: u32) -> Result<Self> {
        let mut columns = Columns::new(group, place, count)?;
        columns.add("gene", "gene_names")?;
        columns.add("gene_id", "genes")?;
        Ok(Self { var: columns.finish()?, genes: None })
    }

    fn keeping(var: &RecordBatch, kept: &BooleanArray) -> Result<Self> {
        if kept.true_count() == kept.len() {
            return Ok(Self { var: var.clone(), genes: None });
        }
        let mut next = 0;
        let genes = kept.values().iter().map(|kept| match kept {
            true => {
                next += 1;
                next - 1
            }
            false => LEFT_OUT,
        });
        let genes = Some(genes.collect());
        Ok(Self { var: compute::filter_record_batch(var, kept).map_err(bug)?, genes })
    }

    pub(super) fn var(&self) -> &RecordBatch {
        &self.var
    }

    pub(super) fn are_all_kept(&self) -> bool {
        self.genes.is_none()
    }

    /// Removes features that are not kept from some rows.
    pub(super) fn keep(&self, rows: CsrRows) -> Result<CsrRows> {
        let Some(becomes) = &self.genes else { return Ok(rows) };
        let (mut pointers, mut genes, mut values) = (vec![0], Vec::new(), Vec::new());
        for row in 0..rows.rows() {
            let (row_genes, row_values) = rows.row(row);
            for (gene, value) in row_genes.iter().zip(row_values) {
                let gene = becomes[*gene as usize];
                if gene != LEFT_OUT {
                    genes.push(gene);
                    values.push(*value);
                }
            }
            pointers.push(checked(genes.len(), "entries of a piece")?);
        }
        let count = checked(self.var.num_rows(), "genes")?;
        CsrRows::canonical(pointers, genes, values, count).map_err(|error| Error::Bug(error.to_string()))
    }
}

/// The columns of `var` found so far.
struct Columns<'a> {
    group: &'a Group,
    place: &'a ObjectPlace,
    count: u32,
    fields: Vec<Field>,
    arrays: Vec<ArrayRef>,
}

impl<'a> Columns<'a> {
    fn new(group: &'a Group, place: &'a ObjectPlace, count: u32) -> Result<Self> {
        if u64::from(count) > MOST_GENES {
            let message = format!("{count} features are too many (at most {MOST_GENES})");
            return Err(place.error(message, "download the file again"));
        }
        Ok(Self { group, place, count, fields: Vec::new(), arrays: Vec::new() })
    }

    /// Adds a required member, as text.
    fn add(&mut self, name: &str, member: &str) -> Result<()> {
        let values = vector(self.group, member, self.place, self.count.into())?;
        let text = compute::cast(&values.read(0..to_usize(self.count))?, &DataType::Utf8).map_err(bug)?;
        self.push(name, text);
        Ok(())
    }

    /// Adds a member if it has a value of a known kind for each feature.
    fn add_if_known(&mut self, member: &str) -> Result<()> {
        let Ok(dataset) = self.group.dataset(member) else { return Ok(()) };
        match DatasetValues::open(dataset, self.place.child(member)) {
            Some(values) if values.len() as u64 == u64::from(self.count) => {
                let values = values.read(0..values.len())?;
                let mut name = member.to_owned();
                while self.fields.iter().any(|field| *field.name() == name) {
                    name = format!("var_{name}");
                }
                self.push(&name, values);
            }
            _ => tracing::warn!("{}: `{member}` has an unsupported type and is left out", self.place),
        }
        Ok(())
    }

    fn push(&mut self, name: &str, values: ArrayRef) {
        self.fields.push(Field::new(name, values.data_type().clone(), true));
        self.arrays.push(values);
    }

    fn finish(self) -> Result<RecordBatch> {
        RecordBatch::try_new(Arc::new(Schema::new(self.fields)), self.arrays).map_err(bug)
    }
}

/// Where a column of text has this value.
fn only(column: &ArrayRef, name: &str) -> BooleanArray {
    column.as_string::<i32>().iter().map(|value| Some(value == Some(name))).collect()
}

/// The number of occurrences of each value in a column of text.
fn counts(column: &ArrayRef) -> BTreeMap<&str, usize> {
    let mut counts = BTreeMap::new();
    for value in column.as_string::<i32>().iter().flatten() {
        *counts.entry(value).or_default() += 1;
    }
    counts
}

/// Warns about features that are left out; fails if all are.
fn warn_of_left_out(types: &ArrayRef, kept: &BooleanArray, place: &ObjectPlace) -> Result<()> {
    let mut others = counts(types);
    others.remove(GENE_EXPRESSION);
    if others.is_empty() {
        return Ok(());
    }
    let others: Vec<String> = others.into_iter().map(|(kind, count)| format!("{count} {kind}")).collect();
    let others = others.join(", ");
    if kept.true_count() == 0 {
        let message = format!("has no features of the type {GENE_EXPRESSION}, but {others}");
        return Err(place.error(message, "give the matrix of a gene-expression library"));
    }
    tracing::warn!("{place}: features that are not of the type {GENE_EXPRESSION} are left out: {others}");
    Ok(())
}

fn bug(error: arrow::error::ArrowError) -> Error {
    Error::Bug(error.to_string())
}

/// A member of a group that has one value for each of this many cells or features.
pub(super) fn vector(group: &Group, name: &str, place: &ObjectPlace, length: u64) -> Result<DatasetValues> {
    let place = place.child(name);
    if !group.link_exists(name) {
        return Err(place.error("is missing", "give a feature-barcode matrix from Cell Ranger"));
    }
    let dataset = group.dataset(name).map_err(|error| place.unreadable(error))?;
    let Some(values) = DatasetValues::open(dataset, place.clone()) else {
        return Err(place.error("has an unsupported type", "give a feature-barcode matrix from Cell Ranger"));
    };
    if values.len() as u64 != length {
        let message = format!("has {} values, but the matrix has {length}", values.len());
        return Err(place.error(message, "the file is inconsistent; download it again"));
    }
    Ok(values)
}
