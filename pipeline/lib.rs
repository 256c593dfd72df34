//! Perturbine: out-of-core training of the Compositional Perturbation Autoencoder, and its predictions as a stream.
//!
//! An atlas on disk flows through stages joined by bounded channels into a CPA network, and its predictions flow
//! into Parquet, or to you:
//!
//! ```no_run
//! # #[cfg(feature = "torch")]
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use perturbine::{Atlas, Query, Request, Settings};
//!
//! let atlas = Atlas::open("kang.atlas")?;
//! let model = perturbine::train(&atlas, &Settings::default())?;
//! let query = Query { to: Request::parse("condition=stim")?, ..Query::default() };
//! for batch in perturbine::predict(&atlas, &model, &query)?.stream() {
//!     println!("{} predictions", batch?.num_rows());
//! }
//! # Ok(())
//! # }
//! # #[cfg(not(feature = "torch"))]
//! # fn main() {}
//! ```
//!
//! `schemas` are the nouns, `stages` are the verbs, and this crate is the sentence: [`flows`] defines the order of
//! stages, [`runtime`] their threads and memory. The command line does nothing that is not public here.

#[cfg(feature = "torch")]
pub mod devices;
#[cfg(feature = "torch")]
mod models;

/// The order of stages: pipelines of data, and of a model.
pub mod flows {
    pub use ::flows::*;

    #[cfg(feature = "torch")]
    pub use crate::models::{
        crossvalidating, data_overview, dose_response, embedding, evaluation, figures, gene_choice, predicting,
        profiling, publishing, training,
    };
}

pub use schemas::{self, Error, Result, config::Settings};
pub use stages::{self, reader::atlas::Atlas};

pub use ::flows::{Resources, memory, trace};
#[cfg(feature = "torch")]
pub use models::{
    crossvalidating::CrossValidation,
    evaluation::evaluate,
    predicting::{Prediction, predict},
    training::{Training, train},
};
pub use runtime::{self, Capacity, Outcome, Pipeline, Report, Run, RunError, Stop, Stream};
#[cfg(feature = "torch")]
pub use stages::{
    model::saved::Model,
    predictor::query::{Query, Request},
};
