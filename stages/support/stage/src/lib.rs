//! The interface of all stages, and what they pass to each other.
//!
//! A [`Stage`] turns one stream into another, and a [`Sink`] ends one; neither owns a thread or a channel,
//! nor knows its caller. This crate also has [`batch`]es, the recycled buffers of a [`pool`], the [`phase`]s
//! of a run, threads that share a computation ([`workers`]), a request to stop ([`interrupt`]), and failures of
//! a device as errors ([`device_failure`]).
//!
//! ```
//! use stage::{BoxError, Stage};
//!
//! /// Sums of consecutive pairs.
//! #[derive(Default)]
//! struct Pairs(Option<u64>);
//!
//! impl Stage for Pairs {
//!     type In = u64;
//!     type Out = u64;
//!
//!     fn push(&mut self, number: u64, emit: &mut dyn FnMut(u64)) -> Result<(), BoxError> {
//!         match self.0.take() {
//!             Some(first) => emit(first + number),
//!             None => self.0 = Some(number),
//!         }
//!         Ok(())
//!     }
//!
//!     fn finish(&mut self, emit: &mut dyn FnMut(u64)) -> Result<(), BoxError> {
//!         self.0.take().into_iter().for_each(emit);
//!         Ok(())
//!     }
//! }
//!
//! let (mut pairs, mut sums) = (Pairs::default(), Vec::new());
//! for number in [1, 2, 3] {
//!     pairs.push(number, &mut |sum| sums.push(sum)).unwrap();
//! }
//! pairs.finish(&mut |sum| sums.push(sum)).unwrap();
//! assert_eq!(sums, [3, 3]);
//! ```
#![forbid(unsafe_code)]

pub mod batch;
pub mod cast;
pub mod device_failure;
pub mod interrupt;
pub mod phase;
pub mod pool;
mod stage;
pub mod workers;

pub use stage::{BoxError, Sink, Stage};
