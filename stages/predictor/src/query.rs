//! Queries: requests by name become jobs that a predictor can run.
//!
//! [`Query`] is what a user asks; `names` turns names into a model's codes; `resolve` turns requests into [`jobs`].

mod extrapolation;
pub mod jobs;
mod names;
mod nearest;
pub mod parts;
mod resolve;
mod source_contexts;

use std::{collections::BTreeMap, fmt, num::NonZeroU64, path::Path};

use reader::groups::Selector;
use schemas::{Error, Result};
use serde::Serialize;

pub use self::{
    extrapolation::Extrapolation,
    jobs::{CellSpan, Job, Jobs, Target},
};

/// Which conditions to go to.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    /// One condition by name, with its dose and covariates where they are given.
    Named(Selector),
    /// Every condition and covariate combination that the atlas has cells of.
    Observed,
    /// Every known condition in every covariate combination that the atlas has no cells of.
    Missing,
    /// The conditions held out by the model's split.
    Ood,
    /// Every pair of single perturbations that were trained on.
    Pairs,
    /// Observed and missing ones.
    All,
}

impl Request {
    /// Reads `--to`: a word, a CSV file, or `condition=A+B,dose=1+0.5`.
    ///
    /// # Errors
    /// A file that can't be read, text that is not one of them.
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
    /// Skip the request, and say so.
    Skip,
    /// Predict it from its row in the model's table of embeddings; one without a row is refused.
    Embedding,
}

/// Which batch predictions are made for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum BatchChoice {
    /// That of the source cells, or of the covariates that are requested.
    #[default]
    Source,
    /// The mean of all batches' embeddings.
    Average,
    /// None: nothing is added for the batch.
    LeftOut,
    /// One of them, by name.
    Value(String),
}

/// The policy for a covariate combination without source cells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnNoControl {
    /// Refuse the whole query.
    #[default]
    Error,
    /// Skip the request, and say so.
    Skip,
    /// Start from the cells of the combinations that share most covariate values with it.
    Borrow,
}

/// The replacement for a covariate value that the model was not trained on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnUnseenCovariate {
    /// Nothing: refuse the whole query.
    #[default]
    Error,
    /// The trained value whose controls correlate best with its own, by the atlas's statistics.
    Nearest,
    /// The mean of the embeddings of all trained values.
    Mean,
}

/// A prediction that was requested.
#[derive(Clone, Debug, Default)]
pub struct Query {
    /// Which conditions to go to.
    pub to: Vec<Request>,
    /// Which cells to start from; the controls of each covariate combination by default.
    pub from: Option<Selector>,
    /// Names that were not trained on.
    pub unseen: OnUnseen,
    /// Which batch to predict for.
    pub batch: BatchChoice,
    /// Covariates that source cells must share with what is predicted; all by default.
    pub matching: Option<Vec<String>>,
    /// Covariate combinations without source cells.
    pub no_control: OnNoControl,
    /// Covariate values that were not trained on.
    pub unseen_covariate: OnUnseenCovariate,
    /// Source cells of a covariate combination at most, evenly spread; all by default.
    pub cells_per_condition: Option<NonZeroU64>,
}

/// A request that was not run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Skipped {
    /// The condition.
    pub condition: String,
    /// Its covariates, by name.
    pub covariates: BTreeMap<String, String>,
    /// Why.
    pub why: String,
}

impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "skipped {}", self.condition)?;
        if !self.covariates.is_empty() {
            let pairs: Vec<String> = self.covariates.iter().map(|(name, value)| format!("{name}={value}")).collect();
            write!(f, " ({})", pairs.join(", "))?;
        }
        write!(f, ": {}", self.why)
    }
}

/// A CSV file with columns `condition`, `dose` and covariates.
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
    let mut requests = Vec::new();
    for row in reader.records() {
        let row = row.map_err(bad)?;
        let filled = names.iter().zip(&row).filter(|(_, value)| !value.trim().is_empty());
        requests.push(Request::Named(Selector(
            filled.map(|(name, value)| (name.clone(), value.trim().to_owned())).collect(),
        )));
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
