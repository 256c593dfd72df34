//! Perturbine: out-of-core training of the Compositional Perturbation Autoencoder, and its predictions as a stream.

pub mod runtime;

pub use runtime::{Capacity, Error as RunError, Outcome, Pipeline, Report, Run, Stop, Stream};
