//! The verbs of Perturbine: what is done to the data, with one room (a crate) for each step.
//!
//! A stage owns no thread and no channel (see [`Stage`]); `pipeline` decides the order of stages and the
//! threads on which they run. In the order of the data flow:
//!
//! 1. [`ingest`] turns files in any of the supported [`formats`] into an atlas, which [`reader`] opens;
//! 2. [`batcher`] decides which cells form a batch and gathers their expression, and [`encoder`] codes their
//!    labels for a model's vocabulary;
//! 3. `model` is the network; `trainer` trains it, and `predictor` predicts with it;
//! 4. [`sink`] writes predictions, which become visible only when they are complete; [`evaluate`] scores them
//!    and [`report`] draws them.
//!
//! Code that the rooms share is in `support`. `stages/README.md` has a line for each room.
#![forbid(unsafe_code)]

#[cfg(feature = "hdf5")]
pub use hdf5;
pub use {
    arrays, batcher, encoder, evaluate, formats, ingest, model_card, reader, report, simulate, sink,
    stage::{self, BoxError, Sink, Stage},
    statistics, storage,
};
#[cfg(feature = "torch")]
pub use {model, offset, predictor, torch, trainer};
