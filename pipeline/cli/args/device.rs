//! Which commands compute on a device.

use super::{Command, model::Explained, writing::PredictCommand};

impl Command {
    /// Where it was asked to compute, if it computes.
    pub(in crate::cli) fn device(&self) -> Option<&str> {
        match self {
            Self::Train(args) => Some(&args.device),
            Self::Predict(PredictCommand::Run(args)) => Some(&args.device),
            Self::Embed(args) => Some(&args.device),
            Self::Response(args) => Some(&args.device),
            Self::Evaluate(args) => Some(&args.device),
            Self::Crossval(args) => Some(&args.device),
            Self::Explain(args) => match &args.what {
                Explained::Train(args) => Some(&args.device),
                Explained::Predict(args) => Some(&args.device),
            },
            _ => None,
        }
    }
}
