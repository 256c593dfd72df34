//! The native half of the Python package `perturbine`: atlases, and batches of their cells.
//!
//! Nothing here links libtorch, so the module can be loaded beside any version of torch. Everything that users see is
//! Python (`perturbine/_atlas.py`, `_loader.py`, `_batch.py`); this crate has what has to be fast, and what has to be Rust:
//!
//! 1. `atlas`: an atlas on disk, or an `.h5ad` read in place (`in_place`);
//! 2. `order`: which cells are in which batch, by the same [`batcher`] as in training;
//! 3. `flow`: the pipeline from an order to batches, on threads of its own; `wide` makes 32-bit CSR;
//! 4. `stream`: batches as a Python iterator that waits without the interpreter's lock;
//! 5. `batch`, `buffer` and `dlpack`: a batch, and its arrays without a copy;
//! 6. `columns`: columns of `obs` beside the batches;
//! 7. `arrow_stream` and `spool`: Arrow tables out and in;
//! 8. `wait`: long work during which Ctrl-C is noticed; `process`: what a forked process leaves alone; `error`: the package's
//!    exceptions.

use pyo3::prelude::*;

mod arrow_stream;
mod atlas;
mod batch;
mod buffer;
mod columns;
mod dlpack;
mod error;
mod flow;
mod in_place;
mod order;
mod process;
mod spool;
mod stream;
mod wait;
mod wide;

/// Atlases and their batches; use them through `perturbine`.
#[pymodule]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<atlas::Atlas>()?;
    module.add_class::<arrow_stream::ArrowStream>()?;
    module.add_class::<batch::NativeBatch>()?;
    module.add_class::<buffer::Buffer>()?;
    module.add_class::<columns::Columns>()?;
    module.add_class::<order::BatchOrder>()?;
    module.add_class::<stream::BatchStream>()?;
    module.add_function(wrap_pyfunction!(spool::write_table, module)?)?;
    module.add("__version__", env!("CARGO_PKG_VERSION"))
}
