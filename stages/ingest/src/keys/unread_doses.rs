//! Columns that seem to hold doses but have no name under which a dose is read. Ingest names them, so that doses are never ignored
//! silently.

use arrow::{
    array::{Array, AsArray},
    datatypes::{DataType, SchemaRef},
};
use formats::source::{Source, obs_column};
use schemas::Result;

/// Ends of words that name doses.
const ENDS: [&str; 6] = ["dose", "doses", "dosage", "conc", "concentration", "concentrations"];

/// One sentence for each column, with the flag that reads it; `--dose` was not given, and no column has one of the usual `habits`.
///
/// # Errors
/// A column that can't be read.
pub(super) fn unread_doses(source: &dyn Source, habits: &[&str]) -> Result<Vec<String>> {
    let schema: SchemaRef = source.obs_schema();
    let columns = schema.fields().iter().skip(1).filter(|field| seems_to_hold_doses(field.name()));
    let notes = columns.map(|field| {
        let name = field.name();
        let is_read_by = match *field.data_type() == DataType::Utf8 && !holds_numbers(source, name)? {
            true => format!(
                "its values are not numbers: add a column of numbers called {}, or name one with --dose",
                habits.join(" or ")
            ),
            false => format!("--dose {name} reads it"),
        };
        Ok(format!("the column `{name}` seems to hold doses, but is not read as such; {is_read_by}, --dose '' means that there are none"))
    });
    notes.collect()
}

fn seems_to_hold_doses(column: &str) -> bool {
    names_doses(column) && !names_units(column)
}

/// Whether a column is named like one of units of doses, such as `dose_unit`.
pub(super) fn names_dose_units(column: &str) -> bool {
    names_doses(column) && names_units(column)
}

fn names_doses(column: &str) -> bool {
    words(column).iter().any(|word| ENDS.iter().any(|end| word.ends_with(end)))
}

fn names_units(column: &str) -> bool {
    words(column).iter().any(|word| word.starts_with("unit"))
}

fn words(column: &str) -> Vec<String> {
    column.to_lowercase().split(|sign: char| !sign.is_alphabetic()).map(str::to_owned).collect()
}

/// Whether all values of a column that are there are finite numbers.
fn holds_numbers(source: &dyn Source, column: &str) -> Result<bool> {
    for values in obs_column(source, column)? {
        let values = values?;
        let is_number = |text: &str| text.trim().parse::<f64>().is_ok_and(f64::is_finite);
        if values.len() > values.null_count() && !values.as_string::<i32>().iter().flatten().all(is_number) {
            return Ok(false);
        }
    }
    Ok(true)
}
