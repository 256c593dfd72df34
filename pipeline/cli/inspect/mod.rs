//! `inspect`: shows the content of an atlas, a data file, a model or predictions, each in a separate file.

pub mod atlas;
mod columns;
mod conditions;
mod file;
pub mod layers;
mod matrix_values;
mod model;
mod predictions;

use std::path::Path;

use polars::prelude::{Column, DataFrame, IntoColumn, NamedFrom, PolarsResult, Series};
use schemas::{atlas::files, counting::counted};
use serde_json::Value;
use sink::written::is_written;

use super::{CommandContext, args::InspectArgs, output::is_written_csv};
use schemas::{Error, Result};

/// Maximum number of rows of a table in the text; JSON and CSV have all.
const SHOWN_ROWS: usize = 40;

/// The findings at a path: for programs, as a table, and as text.
pub struct Inspected {
    /// For programs.
    pub value: Value,
    /// The main table.
    pub table: DataFrame,
    /// For people.
    pub text: String,
}

pub(crate) fn inspect(args: &InspectArgs, context: &CommandContext) -> Result<()> {
    let Inspected { value, table, text } = inspected(args, context)?;
    context.show.result_with_table(&value, &table, || format!("{}: {text}", args.path.display()))
}

fn inspected(args: &InspectArgs, context: &CommandContext) -> Result<Inspected> {
    let path = &args.path;
    if !path.exists() {
        return Err(Error::Missing { path: path.clone(), kind: "file or folder" });
    }
    let is_an_atlas = path.is_dir() && is_atlas(path);
    if args.statistics && !is_an_atlas {
        return Err(Error::usage("only atlases hold statistics", "ingest the file and inspect the atlas"));
    }
    if model_card::is_one(path) {
        refuse_choice(args, "a model")?;
        return model::inspected(path, context);
    }
    if is_an_atlas {
        refuse_choice(args, "an atlas, which holds one matrix")?;
        return atlas::inspected(args, context);
    }
    if is_written(path) || is_written_csv(path) {
        refuse_choice(args, "a prediction")?;
        return predictions::inspected(path, context);
    }
    file::inspected(args, context)
}

/// Refuses flags that choose what is read of a data file.
fn refuse_choice(args: &InspectArgs, kind: &str) -> Result<()> {
    let Some(flag) = args.choice.given() else { return Ok(()) };
    let message = format!("{flag} chooses what to read of a data file, but {} is {kind}", args.path.display());
    Err(Error::usage(message, format!("leave out {flag}, or inspect the data file")))
}

/// Whether a folder is an atlas (even one that has lost its manifest) rather than a folder of data.
pub(crate) fn is_atlas(path: &Path) -> bool {
    [files::MANIFEST, files::MATRIX].iter().any(|name| path.join(name).exists())
        || path.extension().is_some_and(|extension| extension == "atlas")
}

/// The first rows of a table as text, and how many are left out; nothing if the table is empty.
pub fn shown_rows(table: &DataFrame, what: &str, context: &CommandContext) -> String {
    if table.height() == 0 {
        return String::new();
    }
    let mut text = context.show.table(&table.head(Some(SHOWN_ROWS)));
    let left_out = table.height().saturating_sub(SHOWN_ROWS);
    if left_out > 0 {
        let count = counted(left_out as u64, &format!("more {what}"));
        text += &format!("and {count} (--json shows all, --csv prints them)\n");
    }
    text
}

/// A table of columns of one length.
pub fn table_of(columns: Vec<Column>) -> Result<DataFrame> {
    let table: PolarsResult<DataFrame> = DataFrame::new_infer_height(columns);
    table.map_err(|error| Error::Bug(error.to_string()))
}

/// A column of a table.
pub fn column<T>(name: &str, values: Vec<T>) -> Column
where
    Series: NamedFrom<Vec<T>, [T]>,
{
    Series::new(name.into(), values).into_column()
}
