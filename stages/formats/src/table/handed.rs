//! Cells in a table that another program hands over: the layout of predicted cells, or one column per gene.
//!
//! Nothing is guessed: genes, labels and the kind of values are those of a model.

use std::{collections::HashSet, sync::Arc};

use arrays::text::as_text;
use arrow::{
    array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, StringArray},
    compute::{CastOptions, cast_with_options, filter_record_batch},
    datatypes::{DataType, Float32Type, Schema},
};
use schemas::{
    Error, Result,
    arrow::GENES_KEY,
    atlas::ValueKind,
    chunk::CsrRows,
    counting::{counted, grouped},
    numbers::checked,
};

use super::{casts::lists_of, layout::name_column};
use crate::memory::CellsInMemory;

/// The name of such a table in errors.
pub const HANDED_TABLE: &str = "the table of cells";
/// The column with lists of values.
const EXPRESSION: &str = "expression";
/// Names that an error lists.
const SHOWN: usize = 5;

/// The columns of a table of cells, and the values in it.
#[derive(Clone, Debug)]
pub struct HandedColumns {
    /// Names of the columns that may say which condition a cell is in; the first that is there counts. Without one, all cells are taken.
    pub conditions: Vec<String>,
    /// The covariates.
    pub covariates: Vec<String>,
    /// The genes: of lists in a table that names none, or names of columns.
    pub genes: Vec<String>,
    /// Whether genes may be missing.
    pub may_lack_genes: bool,
    /// The kind of values.
    pub values: ValueKind,
}

impl HandedColumns {
    /// The cells of a table whose condition `is_taken`; `None` if there are none.
    ///
    /// # Errors
    /// Columns, labels or genes that are missing or there twice, lists of another length, or values of another kind.
    pub fn cells(&self, table: &RecordBatch, is_taken: impl Fn(&str) -> bool) -> Result<Option<CellsInMemory>> {
        let schema = table.schema();
        let condition = self.conditions.iter().find(|name| schema.column_with_name(name).is_some());
        refuse_repeated(&schema, condition.into_iter().chain(&self.covariates))?;
        let mut taken = BooleanArray::from(vec![true; table.num_rows()]);
        if let Some(name) = condition {
            let labels = labels(table, name, None)?;
            taken = labels.iter().map(|label| label.map(&is_taken)).collect();
        }
        let table = filter_record_batch(table, &taken).map_err(bug)?;
        if table.num_rows() == 0 {
            return Ok(None);
        }
        let name = name_column(&schema).ok_or_else(|| {
            let message = "it has no column that names its cells";
            Error::data(HANDED_TABLE, message, "add a column `cell` with a name for each cell")
        })?;
        refuse_repeated(&schema, [schema.field(name).name()])?;
        let names = labels(&table, schema.field(name).name(), None)?;
        let mut obs = vec![("cell".to_owned(), Arc::new(names.clone()) as ArrayRef)];
        for covariate in &self.covariates {
            obs.push((covariate.clone(), Arc::new(labels(&table, covariate, Some(&names))?)));
        }
        let (genes, values) = self.values(&table, &names)?;
        let rows = self.rows(&values, &genes, &names)?;
        let var: ArrayRef = Arc::new(StringArray::from_iter_values(&genes));
        let var = RecordBatch::try_from_iter([("gene", var)]).map_err(bug)?;
        let obs = RecordBatch::try_from_iter(obs).map_err(bug)?;
        CellsInMemory::new(HANDED_TABLE, obs, var, rows).map(Some)
    }

    /// The genes and the values of all cells, row by row.
    fn values(&self, table: &RecordBatch, names: &StringArray) -> Result<(Vec<String>, Vec<f32>)> {
        let schema = table.schema();
        if let Some(lists) = table.column_by_name(EXPRESSION).filter(|column| is_list(column.data_type())) {
            refuse_repeated(&schema, [EXPRESSION])?;
            return self.of_lists(lists, &schema, names);
        }
        let genes: Vec<String> =
            self.genes.iter().filter(|gene| schema.column_with_name(gene).is_some()).cloned().collect();
        if genes.is_empty() {
            let message = format!(
                "it has neither a column of lists called `{EXPRESSION}` nor a column for any gene of the model"
            );
            let hint = "give the values of a cell as one list, for the model's genes in their order, or in one column per gene";
            return Err(Error::data(HANDED_TABLE, message, hint));
        }
        self.check_genes(&genes)?;
        refuse_repeated(&schema, &genes)?;
        let mut known = HashSet::new();
        if let Some(gene) = genes.iter().find(|gene| !known.insert(*gene)) {
            let message = format!("column `{gene}` could be any of the model's genes of this name");
            let hint = format!(
                "give the values of a cell as one list called `{EXPRESSION}`, for the model's genes in their order"
            );
            return Err(Error::data(HANDED_TABLE, message, hint));
        }
        let mut values = vec![0.0; names.len() * genes.len()];
        for (at, gene) in genes.iter().enumerate() {
            let column = table.column_by_name(gene).ok_or_else(|| Error::Bug("a column is gone".into()))?;
            let column = numbers(column, &DataType::Float32, gene)?;
            for (row, value) in column.as_primitive::<Float32Type>().iter().enumerate() {
                values[row * genes.len() + at] = value.ok_or_else(|| missing(gene, Some(names.value(row))))?;
            }
        }
        Ok((genes, values))
    }

    fn of_lists(&self, lists: &ArrayRef, schema: &Schema, names: &StringArray) -> Result<(Vec<String>, Vec<f32>)> {
        let named = schema.metadata().get(GENES_KEY).map(|genes| serde_json::from_str::<Vec<String>>(genes));
        let named = named.transpose().map_err(|error| {
            let message = format!("`{GENES_KEY}` in the schema's metadata is not a JSON list of names: {error}");
            let hint = "write the names as json.dumps does, or leave them out where the lists are of the model's genes in their order";
            Error::data(HANDED_TABLE, message, hint)
        })?;
        let whose = if named.is_some() { "the table names" } else { "the model has" };
        let genes = named.unwrap_or_else(|| self.genes.clone());
        self.check_genes(&genes)?;
        let lists = numbers(lists, &lists_of(DataType::Float32), EXPRESSION)?;
        let lists = lists.as_list::<i64>();
        let mut values = Vec::with_capacity(names.len() * genes.len());
        for row in 0..lists.len() {
            let list = lists.value(row);
            if lists.is_null(row) || list.null_count() > 0 {
                return Err(missing(EXPRESSION, Some(names.value(row))));
            }
            if list.len() != genes.len() {
                let given = counted(list.len() as u64, "value");
                let wanted = counted(genes.len() as u64, "gene");
                let message = format!("cell `{}`: `{EXPRESSION}` has {given}, but {whose} {wanted}", names.value(row));
                let hint = "give a value for each gene of the model, in its order (`genes` in model.json), or name the genes of the \
                            lists, as a JSON list, in the schema's metadata under `genes`";
                return Err(Error::data(HANDED_TABLE, message, hint));
            }
            values.extend_from_slice(list.as_primitive::<Float32Type>().values());
        }
        Ok((genes, values))
    }

    fn check_genes(&self, here: &[String]) -> Result<()> {
        let here: HashSet<&String> = here.iter().collect();
        let missing: Vec<&str> = self.genes.iter().filter(|gene| !here.contains(gene)).map(String::as_str).collect();
        if missing.is_empty() || (self.may_lack_genes && missing.len() < self.genes.len()) {
            return Ok(());
        }
        let more = if missing.len() > SHOWN { ", ..." } else { "" };
        let shown = missing[..missing.len().min(SHOWN)].join(", ");
        let all = counted(self.genes.len() as u64, "gene");
        let message = format!("it lacks {} of the model's {all}: {shown}{more}", grouped(missing.len() as u64));
        Err(Error::data(
            HANDED_TABLE,
            message,
            "add them, or set those that some tables lack to 0 with --missing-genes zero",
        ))
    }

    /// The values other than 0, checked.
    fn rows(&self, values: &[f32], genes: &[String], names: &StringArray) -> Result<CsrRows> {
        let is_good = |value: f32| match self.values {
            ValueKind::Counts => value.is_finite() && value >= 0.0 && value.fract() == 0.0,
            ValueKind::Continuous => value.is_finite(),
        };
        let (mut pointers, mut places, mut entries) = (vec![0], Vec::new(), Vec::new());
        for (row, of_cell) in values.chunks(genes.len()).enumerate() {
            for (gene, value) in of_cell.iter().copied().enumerate().filter(|(_, value)| *value != 0.0) {
                if !is_good(value) {
                    let what = if self.values == ValueKind::Counts { "a count" } else { "a finite number" };
                    let message = format!("cell `{}`, gene `{}`: {value} is not {what}", names.value(row), genes[gene]);
                    let hint = format!("the model was trained on values that are {}: give such values", self.values);
                    return Err(Error::data(HANDED_TABLE, message, hint));
                }
                places.push(checked(gene, "genes")?);
                entries.push(value);
            }
            pointers.push(checked(entries.len(), "entries of a table")?);
        }
        CsrRows::canonical(pointers, places, entries, checked(genes.len(), "genes")?)
            .map_err(|error| Error::Bug(error.to_string()))
    }
}

/// Refuses columns that are read and have the name of another one: which of them is meant can't be known.
fn refuse_repeated<T: AsRef<str>>(schema: &Schema, read: impl IntoIterator<Item = T>) -> Result<()> {
    let mut known = HashSet::new();
    let names = schema.fields().iter().map(|field| field.name().as_str());
    let repeated: HashSet<&str> = names.filter(|name| !known.insert(*name)).collect();
    match read.into_iter().find(|name| repeated.contains(name.as_ref())) {
        Some(name) => {
            let message = format!("several columns are called `{}`", name.as_ref());
            Err(Error::data(HANDED_TABLE, message, "leave out all of them but one"))
        }
        None => Ok(()),
    }
}

/// A column as text, without missing values; `names` are those of the cells, if they are known.
fn labels(table: &RecordBatch, name: &str, names: Option<&StringArray>) -> Result<StringArray> {
    let schema = table.schema();
    let column = table
        .column_by_name(name)
        .ok_or_else(|| Error::unknown("column", name, schema.fields().iter().map(|field| field.name().as_str())))?;
    let text = as_text(column).map_err(|_| {
        let message = format!("the type of column `{name}`, {}, can't be read as labels", column.data_type());
        Error::data(HANDED_TABLE, message, "convert it to strings")
    })?;
    let text = text.as_string::<i32>();
    match (0..text.len()).find(|row| text.is_null(*row)) {
        Some(row) => Err(missing(name, names.map(|names| names.value(row)))),
        None => Ok(text.clone()),
    }
}

/// A column of numbers in another type.
fn numbers(column: &ArrayRef, to: &DataType, name: &str) -> Result<ArrayRef> {
    let strict = CastOptions { safe: false, ..CastOptions::default() };
    cast_with_options(column, to, &strict).map_err(|error| {
        Error::data(HANDED_TABLE, format!("column `{name}`: {error}"), "give numbers that a float32 can hold")
    })
}

fn is_list(data_type: &DataType) -> bool {
    matches!(data_type, DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(..))
}

fn missing(column: &str, cell: Option<&str>) -> Error {
    let cell = cell.map_or_else(String::new, |cell| format!("cell `{cell}`: "));
    let message = format!("{cell}a value of column `{column}` is missing");
    Error::data(HANDED_TABLE, message, "fill the column, or leave out such cells")
}

fn bug(error: arrow::error::ArrowError) -> Error {
    Error::Bug(error.to_string())
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use arrow::array::{Float64Array, Int32Array, ListArray};

    use super::*;
    use crate::source::Source;

    fn columns() -> HandedColumns {
        HandedColumns {
            conditions: vec!["treatment".into(), "condition".into()],
            covariates: vec!["donor".into()],
            genes: vec!["g1".into(), "g2".into()],
            may_lack_genes: false,
            values: ValueKind::Counts,
        }
    }

    fn text(values: [Option<&str>; 3]) -> ArrayRef {
        Arc::new(StringArray::from(values.to_vec()))
    }

    fn wide() -> Vec<(&'static str, ArrayRef)> {
        vec![
            ("cell", text([Some("a"), Some("b"), Some("c")])),
            ("condition", text([Some("ctrl"), Some("A"), Some("ctrl")])),
            ("donor", Arc::new(Float64Array::from(vec![1.0, 2.0, 3.0]))),
            ("g2", Arc::new(Int32Array::from(vec![0, 5, 2]))),
            ("g1", Arc::new(Float64Array::from(vec![1.0, 5.0, 0.0]))),
        ]
    }

    fn read(columns: &HandedColumns, table: Vec<(&str, ArrayRef)>) -> Result<Option<CellsInMemory>> {
        columns.cells(&RecordBatch::try_from_iter(table).expect("columns of one length"), |label| label == "ctrl")
    }

    #[test]
    fn of_two_columns_with_one_name_none_is_taken() {
        let twice = |name: &'static str| {
            let mut table = wide();
            let (_, column) = table.iter().find(|(own, _)| *own == name).expect("a column").clone();
            table.insert(0, (name, column));
            table
        };
        for name in ["cell", "condition", "donor", "g1"] {
            let message = message(&columns(), twice(name));
            assert!(message.contains(&format!("several columns are called `{name}`")), "{message}");
        }
        let unread = wide().into_iter().chain([("note", text([None; 3])), ("note", text([None; 3]))]).collect();
        assert!(read(&columns(), unread).expect("columns that are not read").is_some());
        let model = HandedColumns { genes: ["g1", "g2", "g1"].map(String::from).to_vec(), ..columns() };
        assert!(message(&model, wide()).contains("column `g1` could be any of the model's genes"));
    }

    #[test]
    fn names_of_genes_that_can_not_be_read_are_refused() {
        let lists = |genes: Option<&str>| {
            let lists =
                ListArray::from_iter_primitive::<Float32Type, _, _>([[1.0, 2.0]; 3].map(|list| Some(list.map(Some))));
            let kept = wide().into_iter().filter(|(name, _)| !name.starts_with('g'));
            let table = kept.chain([(EXPRESSION, Arc::new(lists) as ArrayRef)]);
            let table = RecordBatch::try_from_iter(table).expect("columns of one length");
            let metadata: HashMap<_, _> =
                genes.map(|genes| (GENES_KEY.to_owned(), genes.to_owned())).into_iter().collect();
            let schema = Schema::clone(&table.schema()).with_metadata(metadata);
            columns().cells(&table.with_schema(Arc::new(schema)).expect("the same columns"), |label| label == "ctrl")
        };
        for good in [None, Some(r#"["g2", "g1"]"#)] {
            assert!(lists(good).expect("a good table").is_some());
        }
        for bad in ["['g2', 'g1']", "g2,g1", r#"{"g2": 0, "g1": 1}"#] {
            let message = lists(Some(bad)).expect_err("no JSON list").to_string();
            assert!(
                message.contains("`genes` in the schema's metadata is not a JSON list of names"),
                "{bad}: {message}"
            );
        }
    }

    fn message(columns: &HandedColumns, table: Vec<(&str, ArrayRef)>) -> String {
        read(columns, table).expect_err("a bad table").to_string()
    }

    #[test]
    fn chosen_cells_have_their_labels_and_the_models_genes() {
        let cells = read(&columns(), wide()).expect("a good table").expect("two controls");
        let obs = cells.obs(0..2, &[0, 1]).expect("all cells");
        let texts = |at: usize| obs.column(at).as_string::<i32>().iter().flatten().collect::<Vec<_>>();
        assert_eq!((texts(0), texts(1)), (vec!["a", "c"], vec!["1", "3"]));
        let rows = cells.expression(0..2, CsrRows::default()).expect("all rows");
        assert_eq!((rows.row(0), rows.row(1)), ((&[0][..], &[1.0][..]), (&[1][..], &[2.0][..])));
        let perturbed = wide().into_iter().map(|(name, column)| match name {
            "condition" => (name, text([Some("A"); 3])),
            _ => (name, column),
        });
        assert!(read(&columns(), perturbed.collect()).expect("a good table").is_none());
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        let without = |name: &str| wide().into_iter().filter(|(own, _)| *own != name).collect::<Vec<_>>();
        let with = |name: &'static str, column: ArrayRef| {
            let mut table = without(name);
            table.push((name, column));
            table
        };
        assert!(message(&columns(), without("donor")).contains("unknown column `donor`"));
        assert!(message(&columns(), without("cell")).contains("no column that names its cells"));
        assert!(message(&columns(), without("g1")).contains("it lacks 1 of the model's 2 genes: g1"));
        assert!(
            message(&columns(), with("condition", text([Some("ctrl"), None, Some("A")])))
                .contains("column `condition` is missing")
        );
        let donors = message(&columns(), with("donor", text([None, Some("x"), None])));
        assert!(donors.contains("cell `a`: a value of column `donor` is missing"), "{donors}");
        let fraction = message(&columns(), with("g1", Arc::new(Float64Array::from(vec![0.0, 0.5, 2.5]))));
        assert!(fraction.contains("cell `c`, gene `g1`: 2.5 is not a count"), "{fraction}");
        let continuous = HandedColumns { values: ValueKind::Continuous, ..columns() };
        let infinite = with("g1", Arc::new(Float64Array::from(vec![-0.5, 0.5, f64::NAN])));
        assert!(message(&continuous, infinite).contains("cell `c`, gene `g1`: NaN is not a finite number"));
        let some = HandedColumns { may_lack_genes: true, ..columns() };
        assert!(read(&some, without("g1")).expect("one gene").is_some());
        let none = without("g1").into_iter().filter(|(name, _)| *name != "g2").collect();
        assert!(message(&some, none).contains("nor a column for any gene of the model"));
    }
}
