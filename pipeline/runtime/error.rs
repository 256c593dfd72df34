//! The result of a run that did not complete.

use stage::BoxError;

/// Why a run did not complete.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The first failure of the run.
    #[error("stage `{stage}` failed")]
    Failed {
        /// The stage's name, given when the pipeline was built.
        stage: &'static str,
        /// The error of the stage; for a panic, [`schemas::Error::Bug`] with its message.
        #[source]
        cause: BoxError,
    },
    /// The run was stopped on request.
    #[error("stopped on request")]
    Stopped,
}

impl RunError {
    /// A failure of `stage`; or a stop, if its cause is one: if an inner pipeline was stopped, this stops the
    /// outer one.
    pub(super) fn at(stage: &'static str, cause: BoxError) -> Self {
        let mut beneath: Option<&(dyn std::error::Error + 'static)> = Some(&*cause);
        while let Some(error) = beneath {
            if let Some(Self::Stopped) = error.downcast_ref() {
                return Self::Stopped;
            }
            beneath = error.source();
        }
        Self::Failed { stage, cause }
    }

    /// The stage that failed.
    #[must_use]
    pub fn stage(&self) -> Option<&'static str> {
        match self {
            Self::Failed { stage, .. } => Some(stage),
            Self::Stopped => None,
        }
    }
}
