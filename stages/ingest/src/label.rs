//! Turns columns of `obs` into codes: each distinct label is parsed once, and each cell costs a look-up.

use std::{collections::HashMap, sync::Arc};

use arrays::text::as_text;
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use formats::source::Source;
use schemas::{
    Error, Result,
    conditions::{BadLabel, ConditionTable, Covariate, LabelRules},
    ids::ConditionId,
    numbers::checked,
};

/// The columns of `obs` that are labels.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LabelColumns {
    /// The perturbation column; `None` for an unlabelled atlas.
    pub perturbation: Option<String>,
    /// The dose column.
    pub dose: Option<String>,
    /// The covariates; the batch is last.
    pub covariates: Vec<String>,
}

/// The labels that cells have.
#[derive(Debug)]
pub struct LabelTables {
    /// The conditions.
    pub conditions: ConditionTable,
    /// The number of cells of each condition.
    pub cells_of: Vec<u64>,
    /// The covariates, with their values.
    pub covariates: Vec<Covariate>,
}

/// Assigns codes to cells, in the order in which they arrive.
#[derive(Debug)]
pub struct Labeller {
    source: Arc<dyn Source>,
    columns: LabelColumns,
    conditions: ConditionTable,
    cells_of: Vec<u64>,
    covariates: Vec<Covariate>,
    seen_labels: HashMap<String, HashMap<String, ConditionId>>,
    seen_values: Vec<HashMap<String, u32>>,
}

impl Labeller {
    /// Creates a labeller for a source's columns.
    #[must_use]
    pub fn new(source: Arc<dyn Source>, columns: LabelColumns, rules: LabelRules) -> Self {
        let covariates: Vec<Covariate> =
            columns.covariates.iter().map(|name| Covariate { name: name.clone(), values: Vec::new() }).collect();
        Self {
            source,
            conditions: ConditionTable::new(rules),
            cells_of: vec![0],
            seen_labels: HashMap::new(),
            seen_values: vec![HashMap::new(); covariates.len()],
            columns,
            covariates,
        }
    }

    /// The codes of some cells, one record per cell: its condition id, then its covariate codes. `cells` holds
    /// the position of each cell in the file.
    ///
    /// # Errors
    /// A missing column, a label that is missing or unreadable, or doses that do not match.
    pub fn codes(&mut self, cells: &[u64], obs: &RecordBatch) -> Result<Vec<u32>> {
        let labels = self.columns.perturbation.clone().map(|name| self.column(obs, &name)).transpose()?;
        let doses = self.columns.dose.clone().map(|name| self.column(obs, &name)).transpose()?;
        let covariates: Vec<ArrayRef> =
            self.columns.covariates.clone().iter().map(|name| self.column(obs, name)).collect::<Result<_>>()?;
        let mut codes = Vec::with_capacity(obs.num_rows() * (1 + covariates.len()));
        for (row, cell) in cells.iter().enumerate() {
            let condition = match &labels {
                Some(labels) => self.condition(*cell, row, labels, doses.as_ref())?,
                None => schemas::conditions::CONTROL,
            };
            self.cells_of[condition.index()] += 1;
            codes.push(condition.0);
            for (covariate, values) in covariates.iter().enumerate() {
                codes.push(self.covariate(*cell, row, covariate, values)?);
            }
        }
        Ok(codes)
    }

    /// The conditions and covariates seen, and the number of cells of each condition.
    #[must_use]
    pub fn finish(self) -> LabelTables {
        LabelTables { conditions: self.conditions, cells_of: self.cells_of, covariates: self.covariates }
    }

    fn column(&self, obs: &RecordBatch, name: &str) -> Result<ArrayRef> {
        let Some(column) = obs.column_by_name(name) else {
            let known: Vec<String> = obs.schema().fields().iter().map(|field| field.name().clone()).collect();
            return Err(Error::unknown("obs column", name, known.iter().map(String::as_str)));
        };
        let not_text = |_| {
            Error::data(
                format!("{}, obs column `{name}`", self.source.origin().path),
                format!("its type {} can't be read as labels", column.data_type()),
                "convert it to strings",
            )
        };
        as_text(column).map_err(not_text)
    }

    fn condition(&mut self, cell: u64, row: usize, labels: &ArrayRef, doses: Option<&ArrayRef>) -> Result<ConditionId> {
        let label = labels.as_string::<i32>();
        let name = self.columns.perturbation.as_deref().unwrap_or_default();
        if label.is_null(row) {
            return Err(self.missing(name, cell));
        }
        let label = label.value(row);
        let is_control = self.conditions.rules().means_control(label);
        let dose = match doses.map(|doses| doses.as_string::<i32>()) {
            Some(doses) if doses.is_null(row) && !is_control => {
                let place = self.place(self.columns.dose.as_deref().unwrap_or_default(), cell);
                let hint = "fill the column for all cells but controls, which need no dose, or read no doses at all with --dose ''";
                return Err(Error::data(place, "the value is missing", hint));
            }
            Some(doses) if !is_control => Some(doses.value(row)),
            _ => None,
        };
        if let Some(id) = self.seen_labels.get(label).and_then(|by_dose| by_dose.get(dose.unwrap_or_default())) {
            return Ok(*id);
        }
        let id = self.conditions.intern(label, dose).map_err(|error| {
            let place = self.place(name, cell);
            let hint = match error {
                BadLabel::Blank => format!("leave out such cells with --filter '{name}!=', or write the name of their perturbation or control there"),
                BadLabel::Dose { .. } => format!(
                    "doses are numbers without a unit, those of a combination joined by `{}`; write them so, name another dose column with --dose, or read none with --dose ''",
                    self.conditions.rules().delimiter
                ),
                _ => format!("doses are joined by `{}`, in the order of their perturbations; name another dose column with --dose, or another delimiter with --delimiter", self.conditions.rules().delimiter),
            };
            Error::data(place, error.to_string(), hint)
        })?;
        self.cells_of.resize(self.conditions.conditions().len(), 0);
        self.seen_labels.entry(label.to_owned()).or_default().insert(dose.unwrap_or_default().to_owned(), id);
        Ok(id)
    }

    fn covariate(&mut self, cell: u64, row: usize, covariate: usize, values: &ArrayRef) -> Result<u32> {
        let values = values.as_string::<i32>();
        if values.is_null(row) {
            return Err(self.missing(&self.columns.covariates[covariate], cell));
        }
        let value = values.value(row);
        if let Some(code) = self.seen_values[covariate].get(value) {
            return Ok(*code);
        }
        let known = &mut self.covariates[covariate].values;
        let code = checked(known.len(), "values of a covariate")?;
        known.push(value.to_owned());
        self.seen_values[covariate].insert(value.to_owned(), code);
        Ok(code)
    }

    fn place(&self, column: &str, cell: u64) -> String {
        let (file, row) = self.source.locate(cell);
        format!("{file}, obs column `{column}`, row {row}")
    }

    fn missing(&self, column: &str, row: u64) -> Error {
        Error::data(
            self.place(column, row),
            "the value is missing",
            format!("leave out such cells with --filter '{column}!=nan', or fill the column"),
        )
    }
}

#[cfg(test)]
mod tests {
    use arrow::{
        array::{Float64Array, StringArray},
        datatypes::{DataType, Field, Schema},
    };
    use formats::memory::CellsInMemory;

    use super::*;

    fn labeller(covariates: &[&str]) -> Labeller {
        let columns = LabelColumns {
            perturbation: Some("condition".into()),
            dose: Some("dose".into()),
            covariates: covariates.iter().map(|name| (*name).into()).collect(),
        };
        let rules = LabelRules { delimiter: "+".into(), controls: vec!["ctrl".into()] };
        Labeller::new(Arc::new(CellsInMemory::without_genes(&[("cell", Vec::new())])), columns, rules)
    }

    fn obs(conditions: &[Option<&str>], doses: ArrayRef) -> RecordBatch {
        let schema = Schema::new(vec![
            Field::new("condition", DataType::Utf8, true),
            Field::new("dose", doses.data_type().clone(), true),
        ]);
        RecordBatch::try_new(Arc::new(schema), vec![Arc::new(StringArray::from(conditions.to_vec())), doses])
            .expect("a batch")
    }

    #[test]
    fn doses_may_be_numbers_or_strings() {
        let mut labeller = labeller(&[]);
        let numbers = obs(&[Some("A"), Some("ctrl")], Arc::new(Float64Array::from(vec![0.5, 0.0])));
        assert_eq!(labeller.codes(&[0, 1], &numbers).expect("good labels"), [1, 0]);
        let strings = obs(&[Some("A"), Some("A")], Arc::new(StringArray::from(vec!["0.5", "1"])));
        assert_eq!(labeller.codes(&[2, 3], &strings).expect("good labels"), [1, 2]);
    }

    #[test]
    fn what_mends_a_missing_dose_keeps_controls_without_one() {
        let doses = Arc::new(Float64Array::from(vec![None, None]));
        let error = labeller(&[]).codes(&[0, 1], &obs(&[Some("ctrl"), Some("A")], doses)).expect_err("no dose of A");
        assert_eq!(error.to_string(), "a.h5ad, obs column `dose`, row 1: the value is missing");
        assert!(error.hint().is_some_and(|hint| !hint.contains("--filter") && hint.contains("controls")));
    }

    #[test]
    fn a_missing_label_is_named_by_column_and_row() {
        let error = labeller(&[])
            .codes(&[40, 41], &obs(&[Some("A"), None], Arc::new(Float64Array::from(vec![1.0, 1.0]))))
            .expect_err("null");
        assert_eq!(error.to_string(), "a.h5ad, obs column `condition`, row 41: the value is missing");
    }

    #[test]
    fn a_column_that_is_not_there_is_refused_with_the_nearest_ones() {
        let error = labeller(&["dse"])
            .codes(&[0], &obs(&[Some("A")], Arc::new(Float64Array::from(vec![1.0]))))
            .expect_err("unknown");
        assert!(error.to_string().starts_with("unknown obs column `dse`; the nearest known: dose"), "{error}");
    }
}
