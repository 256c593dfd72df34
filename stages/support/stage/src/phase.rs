//! The phases of a run, for measurements.

use std::{fmt, sync::Arc};

/// A part of a run that holds memory of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Data and settings are checked; networks are created.
    Setup,
    /// Cells are read and labelled.
    Reading,
    /// Rows are put in order and stored.
    Storing,
    /// Accumulated sums are turned into tables.
    Statistics,
    /// Training batches of an epoch.
    Epoch,
    /// The model is scored on the `valid` rows.
    Validation,
    /// Cells are predicted, and written as they come.
    Predicting,
    /// Checkpoints, models and other results are written.
    Saving,
}

impl Phase {
    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Setup => "setup",
            Self::Reading => "reading",
            Self::Storing => "storing",
            Self::Statistics => "statistics",
            Self::Epoch => "epoch",
            Self::Validation => "validation",
            Self::Predicting => "predicting",
            Self::Saving => "saving",
        }
    }
}

/// A listener for phases, or none.
#[derive(Clone, Default)]
pub struct Phases(Option<Arc<dyn Fn(Phase) + Send + Sync>>);

impl Phases {
    /// Reports phases to a listener, on the thread that enters them.
    #[must_use]
    pub fn with_listener(listener: impl Fn(Phase) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(listener)))
    }

    /// Reports that a phase begins or continues.
    pub fn enter(&self, phase: Phase) {
        if let Some(listener) = &self.0 {
            listener(phase);
        }
    }
}

impl fmt::Debug for Phases {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Phases(told)" } else { "Phases" })
    }
}
