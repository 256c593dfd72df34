//! The order of the cells, and their rows in recycled buffers.
//!
//! [`order`] is a pure function of seed, epoch and position: it yields plans of batches without reading anything. [`sample`] draws
//! cells by condition instead. [`gather`] copies the rows of a plan straight from the blocks into a batch, [`dense`] into rows of
//! `f32`; either [normalises](normalise) the values on the way if asked to.
//!
//! ```no_run
//! use std::sync::Arc;
//!
//! use batcher::order::{Order, OrderSettings};
//! use reader::{atlas::Atlas, split::{Split, SplitPart}};
//!
//! let atlas = Atlas::open("kang.atlas")?;
//! let split = Arc::new(Split::read(&atlas, "default")?);
//! let order = Arc::new(Order::new(&atlas, split, SplitPart::Train, OrderSettings::new(0, 128, 32_768)));
//! for plan in order.epoch(0, 0).take(3) {
//!     println!("{} cells", plan.rows.len());
//! }
//! # Ok::<(), schemas::Error>(())
//! ```
#![forbid(unsafe_code)]

pub mod dense;
pub mod gather;
pub mod normalise;
pub mod order;
pub mod sample;
