//! Labels of cells as a model's codes.
//!
//! [`label_encoder`] turns the cells of a batch into a sparse matrix of perturbations × doses and covariate codes, for the names of a
//! [`vocabulary`]; an [`embedding_table`] gives perturbations vectors that were learned elsewhere.
//!
//! ```no_run
//! use encoder::vocabulary::from_training_cells;
//! use reader::{atlas::Atlas, groups::Groups, split::Split};
//! use schemas::config::Compat;
//!
//! let atlas = Atlas::open("kang.atlas")?;
//! let split = Split::read(&atlas, "default")?;
//! let vocabulary = from_training_cells(&atlas, &Groups::from_atlas(&atlas, Some(&split)), Compat::default())?;
//! println!("{} perturbations", vocabulary.perturbations.len());
//! # Ok::<(), schemas::Error>(())
//! ```
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests write files and start threads of their own"))]

pub mod embedding_table;
pub mod label_encoder;
pub mod vocabulary;
