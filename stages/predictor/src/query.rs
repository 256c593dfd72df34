//! Queries: turns requests by name into jobs that a predictor can run.
//!
//! [`Query`] is a user's request; `names` turns names into a model's codes; `resolve` turns requests into
//! [`jobs`].

mod against_control;
mod extrapolation;
mod fitting_values;
pub mod jobs;
mod names;
mod nearest;
pub mod parts;
mod resolve;
mod source_contexts;
mod target;

use std::{fmt, fs, num::NonZeroU64, path::Path};

use reader::selector::Selector;
use schemas::{Error, Result, numbers::to_usize};

pub use self::{
    extrapolation::Extrapolation,
    fitting_values::check_values,
    jobs::{CellSpan, Jobs},
    target::{IsSource, Job, Target},
};

/// The conditions to predict.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    /// One condition by name, with its dose and covariates if given.
    Named(Selector),
    /// The same, as listed in a file.
    Listed(Selector, LineOfFile),
    /// Every condition and covariate combination of which the atlas has cells.
    Observed,
    /// Every known condition in every covariate combination of which the atlas has no cells.
    Missing,
    /// The conditions held out by the model's split.
    Ood,
    /// Every pair of single perturbations that were trained.
    Pairs,
    /// Observed and missing conditions.
    All,
}

/// A line of a file, as named in errors. It is left out of descriptions of a request, which do not depend on where it is listed.
#[derive(Clone, PartialEq)]
pub struct LineOfFile(String);

impl LineOfFile {
    /// An error about what the line says.
    fn refused(&self, error: Error) -> Error {
        match &error {
            Error::Usage { .. } | Error::Unknown { .. } => {
                Error::data(&self.0, error.to_string(), error.hint().unwrap_or_default())
            }
            _ => error,
        }
    }
}

impl fmt::Debug for LineOfFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a line of a file")
    }
}

impl Request {
    /// Reads `--to`: a word, a CSV file, or `condition=A+B,dose=1+0.5`.
    ///
    /// # Errors
    /// A file that can't be read, or text of another form.
    pub fn parse(text: &str) -> Result<Vec<Self>> {
        Ok(match text {
            "observed" => vec![Self::Observed],
            "missing" => vec![Self::Missing],
            "ood" => vec![Self::Ood],
            "pairs" => vec![Self::Pairs],
            "all" => vec![Self::All],
            file if file.ends_with(".csv") => read_csv(Path::new(file))?,
            named => vec![Self::Named(Selector::parse(named)?)],
        })
    }
}

/// The policy for a perturbation that the model was not trained on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnUnseen {
    /// Refuse the whole query.
    #[default]
    Error,
    /// Skip the request, and report it.
    Skip,
    /// Predict it from its row in the model's table of embeddings; a perturbation without a row is refused.
    Embedding,
}

/// The batch that predictions are made for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum BatchChoice {
    /// The batch of the source cells, or of the requested covariates.
    #[default]
    Source,
    /// The mean of all batches' embeddings.
    Average,
    /// No batch: the batch adds nothing to the latent.
    LeftOut,
    /// One of the batches, by name.
    Value(String),
}

/// The policy for a covariate combination without source cells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnNoControl {
    /// Refuse the whole query.
    #[default]
    Error,
    /// Skip the request, and report it.
    Skip,
    /// Start from the cells of the combinations that share the most covariate values with it.
    Borrow,
}

/// The replacement for a covariate value that the model was not trained on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnUnseenCovariate {
    /// Nothing: refuse the whole query.
    #[default]
    Error,
    /// The trained value whose controls correlate best with those of the new one, by the atlas's statistics.
    Nearest,
    /// The mean of the embeddings of all trained values.
    Mean,
}

/// A request for predictions.
#[derive(Clone, Debug, Default)]
pub struct Query {
    /// The conditions to predict.
    pub to: Vec<Request>,
    /// The cells to start from; by default, the controls of each covariate combination.
    pub from: Option<Selector>,
    /// The policy for names that were not trained.
    pub unseen: OnUnseen,
    /// The batch to predict for.
    pub batch: BatchChoice,
    /// Covariates that source cells must share with the target; by default all.
    pub matching: Option<Vec<String>>,
    /// The policy for covariate combinations without source cells.
    pub no_control: OnNoControl,
    /// The policy for covariate values that were not trained.
    pub unseen_covariate: OnUnseenCovariate,
    /// Maximum number of source cells of a covariate combination, evenly spread; by default all.
    pub cells_per_condition: Option<NonZeroU64>,
}

/// Reads a CSV file with columns `condition`, `dose` and covariates.
fn read_csv(path: &Path) -> Result<Vec<Request>> {
    requests_in(&fs::read(path).map_err(Error::io("read", path))?, path)
}

fn requests_in(bytes: &[u8], path: &Path) -> Result<Vec<Request>> {
    let hint = "write columns condition, dose and covariates, separated by commas, the same number in each row";
    let line = |position: Option<&csv::Position>| {
        format!("{}, line {}", path.display(), position.map_or(1, |position| line_at(bytes, position)))
    };
    let bad = |error: csv::Error| {
        let what = match error.kind() {
            csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
                format!("it has {len} columns, but the header has {expected_len}")
            }
            csv::ErrorKind::Utf8 { err, .. } => err.to_string(),
            _ => error.to_string(),
        };
        Error::data(line(error.position()), what, hint)
    };
    let mut reader = csv::Reader::from_reader(bytes);
    let header = reader.headers().map_err(bad)?.clone();
    let names: Vec<String> = header.iter().map(|name| name.trim().to_owned()).collect();
    if let Some(twice) = (1..names.len()).find(|at| names[..*at].contains(&names[*at])) {
        let message = format!("two columns are called `{}`", names[twice]);
        return Err(Error::data(line(header.position()), message, "leave out one of them"));
    }
    let mut requests = Vec::new();
    for row in reader.records() {
        let row = row.map_err(bad)?;
        let place = LineOfFile(line(row.position()));
        let filled = names.iter().zip(&row).filter(|(_, value)| !value.trim().is_empty());
        let pairs = filled.map(|(name, value)| (name.clone(), value.trim().to_owned())).collect();
        requests.push(Request::Listed(Selector(pairs), place));
    }
    if requests.is_empty() {
        return Err(Error::data(
            path.display().to_string(),
            "it has no rows",
            "write one row per condition below the header",
        ));
    }
    Ok(requests)
}

/// The line of a record, from 1. The reader's own number is that of the line on which the record before ended, if blank lines or
/// the second half of a `\r\n` follow it.
fn line_at(bytes: &[u8], position: &csv::Position) -> usize {
    let is_end = |byte: &u8| matches!(byte, b'\n' | b'\r');
    let from = to_usize(position.byte()).min(bytes.len());
    let start = from + bytes[from..].iter().take_while(|byte| is_end(byte)).count();
    let ends = bytes[..start].iter().filter(|byte| is_end(byte)).count();
    1 + ends - bytes[..start].windows(2).filter(|two| two == b"\r\n").count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_a_csv_is_named_as_an_editor_numbers_it() {
        let read = |text: &[u8]| requests_in(text, Path::new("to.csv"));
        let lines = ["condition,dose", "A,1", "", "B,\"1\"", "C", "D,1"];
        for ending in ["\n", "\r\n", "\r"] {
            let error = read(lines.join(ending).as_bytes()).expect_err("one column").to_string();
            assert!(error.contains("to.csv, line 5: it has 1 columns"), "{ending:?}: {error}");
            let requests = read(lines.join(ending).replace(&format!("C{ending}"), "").as_bytes()).expect("three rows");
            let places = requests.iter().map(|request| match request {
                Request::Listed(_, LineOfFile(place)) => place.as_str(),
                _ => "none",
            });
            assert_eq!(
                places.collect::<Vec<_>>(),
                ["to.csv, line 2", "to.csv, line 4", "to.csv, line 5"],
                "{ending:?}"
            );
        }
        let error = read(b"condition\r\n\r\nA\xff\r\n").expect_err("not UTF-8").to_string();
        assert!(error.contains("to.csv, line 3: invalid utf-8"), "{error}");
    }
}
