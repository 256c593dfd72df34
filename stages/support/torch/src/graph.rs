//! CUDA graphs: work that is captured once and replayed as a whole.
#![expect(unsafe_code, reason = "functions of C are called; each call says why it is sound")]

use schemas::{Error, Result};

use stage::device_failure::of_panic;

use crate::{cuda_library::CudaFunctions, shim::Opaque};

/// Why steps can't be captured as graphs, if they can't.
#[must_use]
pub fn lacks_graphs() -> Option<String> {
    CudaFunctions::get().err()
}

/// Work of a CUDA device, captured once and replayed as a whole.
#[derive(Debug)]
pub struct CudaGraph {
    graph: *mut Opaque,
    functions: &'static CudaFunctions,
}

impl CudaGraph {
    /// Captures the work that `f` submits to this thread's stream, which must not be the default one; none of it
    /// runs. Each replay overwrites the tensors that the work creates. Graphs that are never in use at the same
    /// time may share memory: `like` is one of them.
    ///
    /// # Errors
    /// Work that can't be captured because it waits for the device, or reads from it.
    pub fn note<T>(like: Option<&Self>, f: impl FnOnce() -> Result<T>) -> Result<(Self, T)> {
        let functions = CudaFunctions::get().map_err(|why| Error::usage(why, "use --set train.engine=plain"))?;
        let mut graph = std::ptr::null_mut();
        // SAFETY: a fresh graph is returned, which `Drop` frees.
        functions.done(unsafe { (functions.new)(&mut graph) })?;
        let graph = Self { graph, functions };
        let like = like.map_or(std::ptr::null_mut(), |like| like.graph);
        // SAFETY: both graphs are valid for the call, or the second is null.
        functions.done(unsafe { (functions.begin)(graph.graph, like) })?;
        // A panic in `f` must not leave the stream capturing.
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(f));
        // SAFETY: the graph is valid, and capturing.
        let ended = functions.done(unsafe { (functions.end)(graph.graph) });
        let result = result.map_err(|panic| {
            let text = panic.downcast_ref::<String>().map_or("an operation failed", String::as_str);
            let text = text.lines().next().unwrap_or_default();
            of_panic(&*panic).unwrap_or_else(|| Error::Bug(format!("a step can't be captured as a graph: {text}")))
        })??;
        ended.map(|()| (graph, result))
    }

    /// Runs the work again on this thread's stream.
    ///
    /// # Errors
    /// A lost device.
    pub fn replay(&self) -> Result<()> {
        // SAFETY: the graph is valid, and complete.
        self.functions.done(unsafe { (self.functions.replay)(self.graph) })
    }
}

impl Drop for CudaGraph {
    fn drop(&mut self) {
        // SAFETY: C++ created it, and it is freed once.
        unsafe { (self.functions.free)(self.graph) }
    }
}
