//! The end of the training pipeline: batches become weights, history and checkpoints.
//!
//! [`train::Trainer`] is a sink that takes steps, ends epochs and keeps the best weights; [`validation`] and
//! [`counterfactual`] score them. Before training, [`gene_choice`] and [`variability`] choose the genes of a
//! model, and [`mean_expression`] measures the profiles from which offsets are computed.
//!
//! ```
//! use trainer::variability::largest;
//!
//! assert_eq!(largest(&[0.5, 2.0, 1.0], 2), [1, 2], "the two genes that vary most");
//! ```
#![forbid(unsafe_code)]

pub mod counterfactual;
pub mod gene_choice;
pub mod mean_expression;
pub mod train;
pub mod validation;
pub mod variability;
