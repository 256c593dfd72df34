//! Runs pipelines: stages on threads, joined by bounded edges, whatever flows through them.
//!
//! Nothing here knows what a cell is; values move, and report how many bytes they keep alive. Read the
//! modules in this order:
//!
//! 1. `limiter`: how much an edge may hold, and why a line of edges can't deadlock;
//! 2. `edge`: the channel behind a limiter, and the three ways in which a stream ends;
//! 3. `ordered`: a map on many threads that keeps order;
//! 4. `halt`: how a request to stop, or a failure, reaches every edge at once;
//! 5. `thread_group`: the threads of a run, and its first failure;
//! 6. `builder` and `stream`: describing a pipeline, and running it;
//! 7. `plan` and `report`: the memory that a run will hold, and its measurements;
//! 8. `worker_threads`: threads with which a stage shares a computation of its own.
//!
//! # Promises
//!
//! 1. Order out is order in; the number of workers changes nothing.
//! 2. An edge holds at most its items and bytes; one larger item passes alone; a line of edges can't deadlock.
//! 3. The end of a stream is explicit, never implied ([`End`]); only a complete one reaches `finish`.
//! 4. The first failure is the one reported, with its stage's name; a panic is a failure.
//! 5. A sink may end a run early, a caller may stop it ([`Stop`]); either way every thread is joined.
//! 6. Pipelines nest: a [`Stream`] is a source. One that was stopped or has failed never looks complete to the outer one.
//!
//! ```
//! use runtime::{Capacity, Pipeline};
//! use schemas::ByteSize;
//!
//! struct Number(u64);
//!
//! impl ByteSize for Number {
//!     fn byte_size(&self) -> usize {
//!         size_of::<u64>()
//!     }
//! }
//!
//! let numbers = (1..=4).map(|number| Ok::<_, std::io::Error>(Number(number)));
//! let squares = Pipeline::from_source("count", Capacity { items: 2, bytes: 1 << 10 }, numbers)
//!     .map("square", 2.try_into()?, |Number(number)| Ok(Number(number * number)));
//! let found: Result<Vec<u64>, _> = squares.stream().map(|square| square.map(|Number(square)| square)).collect();
//! assert_eq!(found?, [1, 4, 9, 16]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

mod builder;
mod edge;
mod end;
mod error;
mod halt;
mod limiter;
mod ordered;
mod plan;
mod primitives;
mod report;
mod stream;
mod thread_group;
mod worker_threads;

#[cfg(test)]
mod model;

pub use builder::Pipeline;
pub use end::End;
pub use error::RunError;
pub use halt::Stop;
pub use plan::{Capacity, EdgePlan, PipelinePlan, StagePlan};
pub use report::{EdgeReport, Report};
pub use stream::{Outcome, Run, Stream};
pub use thread_group::panicked;
pub use worker_threads::WorkerThreads;
