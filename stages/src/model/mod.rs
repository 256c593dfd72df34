//! The CPA network, its losses, its adversaries and their optimisers, on libtorch.
//!
//! Lotfollahi et al. 2023 (Molecular Systems Biology 19:e11517), as the package cpa-tools 0.8.8 computes it. A cell's
//! expression is encoded into a *basal* latent that adversaries keep free of what was done to the cell; the embeddings of
//! its perturbations (scaled by dose) and of its covariates are added, and the sum is decoded:
//!
//! ```text
//! z = encoder(x) + Σ f(dose) · E[perturbation] + Σ E[covariate value]        decoder(z) → mean (and spread) of every gene
//! ```
//!
//! [`network`] holds the forward pass, [`losses`] what is compared, [`loss_term`] what is measured, [`adversary`] who works against it, [`optimiser`]
//! and [`schedule`] how it learns, [`step`](mod@step) one step of it, [`fused`] a faster one on the CPU,
//! [`replayed`] one
//! that a GPU replays, [`accumulate`] a step on several batches, [`average`] what weights are on average, [`offset`] what the decoder starts from,
//! [`input`] how a batch becomes tensors, [`parcel`] and [`carried`] how it travels to a device, and [`ahead`] how far ahead of it the host gets. Operations on
//! tensors panic on shapes that don't fit, which only a bug in here can bring about.

pub mod accumulate;
pub mod adversary;
pub mod ahead;
pub mod average;
pub mod carried;
mod counts;
pub mod decoder;
pub mod draws;
pub mod encoder;
pub(crate) mod expected;
pub mod fused;
mod gradients;
pub(crate) mod host_copy;
pub mod input;
mod launched;
pub mod layers;
pub mod loss_term;
pub mod losses;
pub(crate) mod memory;
mod mixing;
pub mod moments;
pub mod neighbours;
pub mod network;
pub mod offset;
pub mod optimiser;
pub mod parameters;
pub mod parcel;
mod perturbations;
mod recomputed;
pub mod replayed;
pub mod schedule;
pub mod step;
