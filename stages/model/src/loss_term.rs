//! The numbers that a step measures, and their names in the history.

use std::fmt;

use super::optimiser::LearnerPart;

/// A number that a step measures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LossTerm {
    /// Negative log-likelihood of the cells.
    Reconstruction,
    /// Divergence of a variational encoder.
    Divergence,
    /// Sum of the adversaries' losses.
    Adversaries,
    /// Sum of their gradient penalties.
    Penalties,
    /// Loss of the adversary of this name.
    Adversary(String),
    /// Share of cells that it predicts correctly.
    Accuracy(String),
    /// Its gradient penalty.
    Penalty(String),
    /// Norm of the gradients of an optimiser, before clipping.
    Norm(LearnerPart),
}

impl LossTerm {
    /// Whether the adversaries report it, in their own update or in the autoencoder's.
    pub(super) fn is_of_adversaries(&self) -> bool {
        matches!(self, Self::Adversaries | Self::Adversary(_) | Self::Accuracy(_))
    }
}

/// The name in `history.jsonl` and in checkpoints.
impl fmt::Display for LossTerm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reconstruction => f.write_str("recon"),
            Self::Divergence => f.write_str("kl"),
            Self::Adversaries => f.write_str("adversary"),
            Self::Penalties => f.write_str("penalty"),
            Self::Adversary(name) => write!(f, "adv_{name}"),
            Self::Accuracy(name) => write!(f, "acc_{name}"),
            Self::Penalty(name) => write!(f, "penalty_{name}"),
            Self::Norm(learned) => write!(f, "norm_{}", learned.name()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn history_has_these_names() {
        let name = || "cell_type".to_owned();
        let terms = [LossTerm::Adversary(name()), LossTerm::Accuracy(name()), LossTerm::Penalty(name())];
        assert_eq!(terms.map(|term| term.to_string()), ["adv_cell_type", "acc_cell_type", "penalty_cell_type"]);
        let sums = [LossTerm::Reconstruction, LossTerm::Divergence, LossTerm::Adversaries, LossTerm::Penalties];
        assert_eq!(sums.map(|term| term.to_string()), ["recon", "kl", "adversary", "penalty"]);
        let norms = [LearnerPart::Autoencoder, LearnerPart::Doser, LearnerPart::Adversary].map(LossTerm::Norm);
        assert_eq!(norms.map(|term| term.to_string()), ["norm_autoencoder", "norm_doser", "norm_adversary"]);
    }
}
