//! Tables on stdout: as text no wider than the screen, or as CSV.

use evaluate::frame::{DrawnTable, draw_within};
use polars::prelude::{AnyValue, DataFrame};
use serde::Serialize;

use super::show::{OutputStyle, print};
use schemas::{Error, Result, counting::counted};

/// Columns that are hidden last: what a row is about, and the score to look at first.
const HIDDEN_LAST: [&str; 6] = ["condition", "dose", "covariates", "cells", "pearson_delta", "dose_was"];

impl OutputStyle {
    /// Prints a result that has a table: the table alone as CSV if requested, otherwise as [`OutputStyle::result`] does.
    pub fn result_with_table(
        &self,
        value: &impl Serialize,
        table: &DataFrame,
        text: impl FnOnce() -> String,
    ) -> Result<()> {
        if self.csv { print(csv_text(table)?.trim_end()) } else { self.result(value, text) }
    }

    /// A table as text; if some of its columns don't fit, the last line says so.
    pub fn table(&self, table: &DataFrame) -> String {
        let width = self.width.unwrap_or(usize::MAX);
        let DrawnTable { mut text, hidden, is_cut } = draw_within(table, width, &HIDDEN_LAST);
        if !hidden.is_empty() {
            let count = counted(hidden.len() as u64, "column");
            let of = table.width();
            text += &format!("({count} of {of} hidden; --wide shows all)\n");
        } else if is_cut {
            text += "(long texts are cut; --wide shows them whole)\n";
        }
        text
    }
}

/// A table as CSV, with numbers in full and empty fields for undefined ones.
fn csv_text(table: &DataFrame) -> Result<String> {
    let bug = |error: &dyn std::fmt::Display| Error::Bug(error.to_string());
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(table.get_column_names().iter().map(|name| name.as_str())).map_err(|error| bug(&error))?;
    for row in 0..table.height() {
        let fields = table.columns().iter().map(|column| match column.get(row) {
            Ok(AnyValue::Null) | Err(_) => String::new(),
            Ok(AnyValue::Float64(value)) => value.to_string(),
            Ok(value) => value.str_value().into_owned(),
        });
        writer.write_record(fields).map_err(|error| bug(&error))?;
    }
    let bytes = writer.into_inner().map_err(|error| bug(&error))?;
    String::from_utf8(bytes).map_err(|error| bug(&error))
}

#[cfg(test)]
mod tests {
    use polars::prelude::{IntoColumn, NamedFrom, Series};

    use super::*;

    #[test]
    fn csv_has_all_digits_and_quotes_commas() {
        let columns = vec![
            Series::new("covariates".into(), vec!["a=1, b=2", "c"]).into_column(),
            Series::new("score".into(), vec![Some(0.123_456_789), None]).into_column(),
        ];
        let table = DataFrame::new_infer_height(columns).expect("the columns fit");
        let text = csv_text(&table).expect("CSV takes any text");
        assert_eq!(text, "covariates,score\n\"a=1, b=2\",0.123456789\nc,\n");
    }
}
