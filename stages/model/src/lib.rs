//! The CPA network, its losses, its adversaries and their optimisers, on libtorch.
//!
//! Lotfollahi et al. 2023 (Molecular Systems Biology 19:e11517), as implemented by the package cpa-tools 0.8.8. A cell's
//! expression is encoded into a *basal* latent that adversaries keep independent of the cell's condition; the embeddings of
//! its perturbations (scaled by dose) and of its covariates are added, and the sum is decoded:
//!
//! ```text
//! z = encoder(x) + Σ f(dose) · E[perturbation] + Σ E[covariate value]        decoder(z) → mean (and spread) of every gene
//! ```
//!
//! [`network`] has the forward pass, [`losses`] the losses, [`loss_term`] their names, [`adversary`] the adversaries, [`optimiser`]
//! and [`schedule`] the optimisation, [`step`](mod@step) one training step, [`plain`] its computation by libtorch, [`fused`] a faster one on the CPU,
//! [`graph_replay`] one that a GPU replays, [`accumulate`] a step over several batches, [`average`] averaged weights, [`offset`] the
//! decoder's offsets, [`input`] the conversion of a batch to tensors, [`packed_batch`] and [`transfer`] its transfer to a device, and
//! [`backpressure`] the limit of how far the host runs ahead. Operations on tensors panic on wrong shapes,
//! which only a bug here can cause.
//!
//! ```no_run
//! use model::saved::Model;
//! use tch::Device;
//!
//! let model = Model::load("kang.model", Device::Cpu)?;
//! println!("{} genes", model.card.genes.len());
//! # Ok::<(), schemas::Error>(())
//! ```
#![forbid(unsafe_code)]

pub mod accumulate;
pub mod adversary;
pub mod average;
pub mod backpressure;
pub mod checkpoint;
mod counts;
pub mod decoder;
pub mod draws;
pub mod encoder;
pub mod expected;
pub mod fused;
mod gradients;
pub mod graph_replay;
pub mod input;
mod launched;
pub mod layers;
pub mod loss_term;
pub mod losses;
pub mod mixing;
pub mod moments;
pub mod neighbours;
pub mod network;
pub mod optimiser;
pub mod packed_batch;
mod perturbations;
pub mod plain;
mod recomputed;
pub mod saved;
pub mod schedule;
pub mod step;
mod step_numbers;
pub mod transfer;
