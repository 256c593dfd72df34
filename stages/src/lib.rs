//! The verbs of Perturbine: what is done to the data, one room (a crate) for each step.
//!
//! A stage owns no thread and no channel (see [`Stage`]); `pipeline` decides which stage follows which and on which threads.
//! In the order in which data walks:
//!
//! 1. [`ingest`] turns files of the known [`formats`] into an atlas, which [`reader`] opens;
//! 2. [`batcher`] decides which cells make a batch and gathers their expression, [`encoder`] codes their labels for a model's
//!    vocabulary;
//! 3. `model` is the network; `trainer` teaches it, `predictor` asks it;
//! 4. [`sink`] writes predictions where they are whole or not there; [`evaluate`] judges them and [`report`] draws them.
//!
//! What the rooms share lies in `support`. `stages/README.md` has a line for each room.

#[cfg(feature = "hdf5")]
pub use hdf5;
pub use {
    arrays, batcher, encoder, evaluate, formats, ingest, reader, report, simulate, sink,
    stage::{self, BoxError, Sink, Stage},
    statistics, storage,
};
#[cfg(feature = "torch")]
pub use {model, offset, predictor, torch, trainer};
