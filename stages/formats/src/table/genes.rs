//! Genes that lists refer to by number: which gene a number means, and its annotations.

use std::{collections::HashMap, path::Path, sync::Arc};

use arrow::{
    array::{ArrayRef, AsArray, RecordBatch, StringArray},
    compute::{cast, concat_batches},
    datatypes::{DataType, Field, Int64Type, Schema},
};
use schemas::{
    Error, Result,
    numbers::{checked, to_usize},
};

use super::{
    super::source::{MOST_GENES, annotation},
    file::TableFile,
    layout::annotation_type,
};

/// Names of the column of numbers and of the column of names, in the order in which they are tried.
const NUMBERS: [&str; 5] = ["token_id", "token", "soma_joinid", "gene_index", "index"];
const NAMES: [&str; 7] = ["gene_symbol", "gene_name", "symbol", "feature_name", "gene", "name", "gene_id"];

/// Which gene a number means.
#[derive(Clone, Debug)]
pub(super) enum Numbering {
    /// Numbers are indices of genes, below this one.
    Plain(u32),
    /// According to a table of genes.
    Table(HashMap<i64, u32>),
}

impl Numbering {
    /// The gene of a number; `None` if the number is not a gene's.
    pub(super) fn gene(&self, number: i64) -> Option<u32> {
        match self {
            Self::Plain(count) => u32::try_from(number).ok().filter(|gene| gene < count),
            Self::Table(genes) => genes.get(&number).copied(),
        }
    }
}

/// A table with one column of names, `gene`.
pub(super) fn named(names: impl Iterator<Item = String>) -> Result<RecordBatch> {
    let names: ArrayRef = Arc::new(StringArray::from_iter_values(names));
    let schema = Schema::new(vec![Field::new("gene", DataType::Utf8, true)]);
    RecordBatch::try_new(Arc::new(schema), vec![names]).map_err(|error| Error::Bug(error.to_string()))
}

/// Genes `g0`, `g1` and so on, up to the largest number that occurs.
pub(super) fn numbered(largest: i64, place: &str) -> Result<(RecordBatch, Numbering)> {
    let count = u32::try_from(largest.saturating_add(1)).ok().filter(|count| u64::from(*count) <= MOST_GENES);
    let Some(count) = count else {
        let message = format!("the largest number of a gene is {largest}; there can be at most {MOST_GENES} genes");
        return Err(Error::data(place, message, "map the numbers to genes with --genes-table"));
    };
    Ok((named((0..count).map(|gene| format!("g{gene}")))?, Numbering::Plain(count)))
}

/// Reads a table of genes: one column of whole numbers, such as `token_id`, and one of names, such as `gene_symbol`.
pub(super) fn read(path: &Path) -> Result<(RecordBatch, Numbering)> {
    let file = TableFile::open(path)?;
    let schema = file.schema();
    let all: Vec<usize> = (0..schema.fields().len()).collect();
    let mut batches = Vec::new();
    for (at, part) in file.parts(None)?.iter().enumerate() {
        let rows = to_usize(part.rows);
        batches.push(file.read(at, &all, 0..rows)?);
    }
    let table = concat_batches(&schema, &batches).map_err(|error| file.unreadable(&error))?;
    let find = |names: &[&str], fits: &dyn Fn(&DataType) -> bool| {
        let fitting = |at: &usize| fits(schema.field(*at).data_type());
        let named = names.iter().find_map(|name| schema.index_of(name).ok().filter(&fitting));
        named.or_else(|| all.iter().copied().find(&fitting))
    };
    let is_text = |data_type: &DataType| annotation_type(data_type) == Some(DataType::Utf8);
    let (Some(numbers), Some(names)) = (find(&NUMBERS, &DataType::is_integer), find(&NAMES, &is_text)) else {
        let hint = "it needs a column of whole numbers (`token_id`) and one of names (`gene_symbol`)";
        return Err(file.error("is not a table of genes", hint));
    };
    let ids = cast(table.column(numbers), &DataType::Int64).map_err(|error| file.unreadable(&error))?;
    let mut genes = HashMap::new();
    for (gene, id) in ids.as_primitive::<Int64Type>().iter().enumerate() {
        let id = id.ok_or_else(|| file.error(format!("row {gene} has no number"), "give each gene a number"))?;
        let gene = checked(gene, "genes")?;
        if genes.insert(id, gene).is_some() {
            return Err(file.error(format!("the number {id} appears twice"), "give each gene a different number"));
        }
    }
    let (mut fields, mut columns) = (Vec::new(), Vec::new());
    let others: Vec<usize> = all.into_iter().filter(|at| *at != names).collect();
    let other_names: Vec<&str> = others.iter().map(|at| schema.field(*at).name().as_str()).collect();
    for at in std::iter::once(names).chain(others) {
        let field = schema.field(at);
        let Some(data_type) = annotation_type(field.data_type()) else { continue };
        columns.push(cast(table.column(at), &data_type).map_err(|error| file.unreadable(&error))?);
        fields.push(match at == names {
            true => Field::new("gene", data_type, true),
            false => annotation(("var", "gene"), field.name(), &other_names, data_type),
        });
    }
    let var = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns);
    Ok((var.map_err(|error| Error::Bug(error.to_string()))?, Numbering::Table(genes)))
}

/// The largest number in a column of lists.
pub(super) fn largest(lists: &ArrayRef) -> i64 {
    let numbers = lists.as_list::<i64>().values();
    arrow::compute::max(numbers.as_primitive::<Int64Type>()).unwrap_or(-1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_make_no_more_genes_than_there_can_be() {
        let most = i64::try_from(MOST_GENES).expect("a small number");
        let (names, _) = numbered(2, "table.parquet").expect("three genes");
        assert_eq!(names.num_rows(), 3);
        assert!(numbered(most - 1, "table.parquet").is_ok());
        let refused = numbered(most, "table.parquet").expect_err("one too many").to_string();
        assert!(refused.contains("table.parquet") && refused.contains("at most 1048576 genes"), "{refused}");
    }
}
