//! Queries: turns requests by name into jobs that a predictor can run.
//!
//! [`Query`] is a user's request; `names` turns names into a model's codes; `resolve` turns requests into
//! [`jobs`].

mod extrapolation;
pub mod jobs;
mod names;
mod nearest;
pub mod parts;
mod resolve;
mod source_contexts;
mod target;

use std::{fmt, num::NonZeroU64, path::Path};

use reader::selector::Selector;
use schemas::{Error, Result};

pub use self::{
    extrapolation::Extrapolation,
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
    let hint = "write columns condition, dose and covariates, separated by commas, the same number in each row";
    let bad = |error: csv::Error| match error.kind() {
        csv::ErrorKind::Io(_) => match error.into_kind() {
            csv::ErrorKind::Io(source) => Error::io("read", path)(source),
            _ => Error::Bug("an I/O error is no other".into()),
        },
        csv::ErrorKind::UnequalLengths { pos, expected_len, len } => {
            let line = pos.as_ref().map_or(0, csv::Position::line);
            let place = format!("{}, line {line}", path.display());
            Error::data(place, format!("it has {len} columns, but the header has {expected_len}"), hint)
        }
        _ => Error::data(path.display().to_string(), error.to_string(), hint),
    };
    let mut reader = csv::Reader::from_path(path).map_err(bad)?;
    let names: Vec<String> = reader.headers().map_err(bad)?.iter().map(|name| name.trim().to_owned()).collect();
    if let Some(twice) = (1..names.len()).find(|at| names[..*at].contains(&names[*at])) {
        let place = format!("{}, line 1", path.display());
        return Err(Error::data(place, format!("two columns are called `{}`", names[twice]), "leave out one of them"));
    }
    let mut requests = Vec::new();
    for row in reader.records() {
        let row = row.map_err(bad)?;
        let line = row.position().map_or(0, csv::Position::line);
        let place = LineOfFile(format!("{}, line {line}", path.display()));
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
