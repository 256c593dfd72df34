//! Doses as numbers in `obs` of an `.h5ad` file, where tables have them as text.
//!
//! If no condition combines perturbations, `dose` itself is a number. Otherwise it stays text, one dose for each perturbation, and
//! `dose_1`, `dose_2`, ... are the numbers, in the order of the condition's name. Control has the dose 0, and a condition of fewer
//! perturbations has NaN in the rest.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, AsArray, Float64Array, RecordBatch},
    datatypes::Schema,
};
use hdf5::h5ad_write::{H5adColumn, H5adKind};
use schemas::{
    Error, Result,
    conditions::{LabelRules, parse},
};

/// The column of tables that has doses as text.
const DOSE: &str = "dose";
const CONDITION: &str = "condition";

/// How doses are read from text.
#[derive(Clone, Debug)]
pub struct DoseReading {
    /// The rules of labels.
    pub rules: LabelRules,
    /// The largest number of perturbations of a condition.
    pub most: usize,
}

/// The columns of numbers of a file.
#[derive(Debug)]
pub(crate) struct NumericDoses {
    rules: LabelRules,
    /// Each column, with the place of its dose among those of a condition.
    columns: Vec<(String, usize)>,
}

impl NumericDoses {
    /// The columns for tables of `schema`; one whose name a covariate has is left out.
    pub(crate) fn new(reading: DoseReading, schema: &Schema) -> Self {
        let columns = match reading.most {
            0 | 1 => vec![(DOSE.to_owned(), 0)],
            most => (0..most).map(|at| (format!("{DOSE}_{}", at + 1), at)).collect(),
        };
        let is_free = |(name, _): &(String, usize)| name == DOSE || schema.index_of(name).is_err();
        Self { rules: reading.rules, columns: columns.into_iter().filter(is_free).collect() }
    }

    /// Puts the columns of numbers in the place of the text that they replace, or behind the text that stays.
    pub(crate) fn describe(&self, columns: &mut Vec<H5adColumn>) {
        let Some(at) = columns.iter().position(|column| column.name == DOSE) else { return };
        let from = if self.replace(DOSE) { at } else { at + 1 };
        let numbers = self.columns.iter().map(|(name, _)| H5adColumn { name: name.clone(), kind: H5adKind::Number });
        columns.splice(from..at + 1, numbers);
    }

    /// Whether a column of text is written as numbers alone.
    pub(crate) fn replace(&self, name: &str) -> bool {
        self.columns.iter().any(|(column, _)| column == name)
    }

    /// The numbers of a table's rows.
    pub(crate) fn of(&self, table: &RecordBatch) -> Result<Vec<(&str, ArrayRef)>> {
        let text = |name: &str| {
            let column = table.column_by_name(name).and_then(|column| column.as_string_opt::<i32>());
            column.ok_or_else(|| Error::Bug(format!("a table has no text in `{name}`")))
        };
        let (conditions, doses) = (text(CONDITION)?, text(DOSE)?);
        let mut numbers = vec![Vec::with_capacity(table.num_rows()); self.columns.len()];
        for row in 0..table.num_rows() {
            let (label, dose) = (conditions.value(row), doses.value(row));
            let parts = parse(label, Some(dose), &self.rules)
                .map_err(|error| Error::Bug(format!("the dose of row {row} of a table: {error}")))?;
            for ((_, at), numbers) in self.columns.iter().zip(&mut numbers) {
                let control = if parts.is_empty() && *at == 0 { 0.0 } else { f64::NAN };
                numbers.push(parts.get(*at).map_or(control, |(_, dose)| *dose));
            }
        }
        let columns = self.columns.iter().zip(numbers);
        Ok(columns.map(|((name, _), numbers)| (name.as_str(), Arc::new(Float64Array::from(numbers)) as _)).collect())
    }
}

#[cfg(test)]
mod tests {
    use arrow::{
        array::StringArray,
        datatypes::{DataType, Field, Float64Type},
    };

    use super::*;

    fn numbers(most: usize, labels: [&str; 3], doses: [&str; 3], others: &[&str]) -> (Vec<String>, Vec<Vec<f64>>) {
        let names = [CONDITION, DOSE].into_iter().chain(others.iter().copied());
        let schema = Schema::new(names.map(|name| Field::new(name, DataType::Utf8, false)).collect::<Vec<_>>());
        let rules = LabelRules { delimiter: "+".into(), controls: vec!["ctrl".into()] };
        let found = NumericDoses::new(DoseReading { rules, most }, &schema);
        let text = |values: [&str; 3]| Arc::new(StringArray::from_iter_values(values)) as ArrayRef;
        let table = RecordBatch::try_from_iter([(CONDITION, text(labels)), (DOSE, text(doses))]).expect("two columns");
        let mut columns: Vec<H5adColumn> = [CONDITION, DOSE, "cell_type"]
            .map(|name| H5adColumn { name: name.into(), kind: H5adKind::Category })
            .into();
        found.describe(&mut columns);
        let columns = columns.into_iter().map(|column| format!("{} {:?}", column.name, column.kind)).collect();
        let of = found.of(&table).expect("readable doses");
        (columns, of.iter().map(|(_, array)| array.as_primitive::<Float64Type>().values().to_vec()).collect())
    }

    #[test]
    fn doses_of_single_perturbations_are_one_column_of_numbers_and_control_has_0() {
        let (columns, doses) = numbers(1, ["A", "ctrl", "B+ctrl"], ["10", "1", "0.5"], &[]);
        assert_eq!(columns, ["condition Category", "dose Number", "cell_type Category"]);
        assert_eq!(doses, [[10.0, 0.0, 0.5]]);
    }

    #[test]
    fn doses_of_combinations_stay_aligned_and_have_numbers_beside_them() {
        let (columns, doses) = numbers(2, ["A+B", "ctrl", "B"], ["0.5+10", "1", "2"], &[]);
        let expected = ["condition Category", "dose Category", "dose_1 Number", "dose_2 Number", "cell_type Category"];
        assert_eq!(columns, expected);
        assert_eq!(doses[0], [0.5, 0.0, 2.0]);
        assert!(doses[1][0] == 10.0 && doses[1][1..].iter().all(|dose| dose.is_nan()), "{doses:?}");
        let (columns, _) = numbers(2, ["A+B", "ctrl", "B"], ["0.5+10", "1", "2"], &["dose_1"]);
        assert_eq!(columns[1..3], ["dose Category", "dose_2 Number"]);
    }
}
