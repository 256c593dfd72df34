//! Each kernel of the fused step compared with the libtorch operations that it replaces: processor time of one thread, alternating.
//!
//! ```sh
//! cargo bench -p perturbine-model --bench kernels -- [CELLS] [ROUNDS]
//! ```
//!
//! Shapes are those of the preset `norman` on 2,000 genes, 17% of which are non-zero in a cell; 2,048 cells unless said
//! otherwise. *Before* is what the plain engine runs: for ways back, automatic differentiation through the same operations,
//! forward pass included; the kernels' forward pass is then part of *after*. Medians over the rounds, one line of JSON a kernel.
#![expect(clippy::print_stdout, reason = "a bench prints what it measured")]
#![allow(clippy::cast_precision_loss, reason = "sizes of a bench are small")]

#[path = "kernels/data.rs"]
mod data;

use std::{error::Error, hint::black_box, time::Instant};

use kernels::{
    adam::AdamStep,
    dispersion::DispersionTerms,
    layer::{BatchNormBackward, CutBackward, CutForward, Dropout, LayerNormBackward},
    log1p::Log1p,
    negative_binomial::NegativeBinomial,
    penalty::{BatchNormDown, BatchNormUp, LayerActivations, LayerNormDown, LayerNormUp},
    sparse::{BlockedRows, SparseTimesDense, TransposedTimesDense},
};
use model::{
    decoder::DecoderOutput,
    losses::reconstruction,
    optimiser::{Adam, LearnerPart},
};
use simd::widest;
use tch::{Kind, Tensor};

use self::data::{Batch, Room, Side, drawn, layer_normed, normed};

const GENES: usize = 2000;
const WIDTH: usize = 256;
const DENSITY: f64 = 0.17;
const DROPPED: f64 = 0.2;
const EPSILON: f64 = 1e-5;

type Result<T, E = Box<dyn Error>> = std::result::Result<T, E>;

fn main() -> Result<()> {
    // Cargo adds `--bench`.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let cells: usize = arguments.first().map_or(Ok(2048), |text| text.parse())?;
    let rounds: usize = arguments.get(1).map_or(Ok(21), |text| text.parse())?;
    tch::set_num_threads(1);
    tch::manual_seed(1);
    let bench = Bench { cells, rounds, batch: Batch::new(cells)? };
    bench.likelihood()?;
    bench.first_layer()?;
    bench.log1p()?;
    bench.batch_norm()?;
    bench.layer_norm()?;
    bench.cut()?;
    bench.batch_norm_penalty()?;
    bench.layer_norm_penalty()?;
    bench.adam()
}

struct Bench {
    cells: usize,
    rounds: usize,
    batch: Batch,
}

impl Bench {
    /// Runs both in turn, and prints the medians.
    fn compare(&self, kernel: &str, mut before: impl FnMut(), mut after: impl FnMut()) {
        let mut seconds: [Vec<f64>; 2] = Default::default();
        for round in 0..=self.rounds {
            for (seconds, run) in seconds.iter_mut().zip([&mut before as &mut dyn FnMut(), &mut after]) {
                let started = Instant::now();
                run();
                // The first round brings code and memory near.
                if round > 0 {
                    seconds.push(started.elapsed().as_secs_f64());
                }
            }
        }
        let [before, after] = seconds.map(|mut seconds| {
            seconds.sort_by(f64::total_cmp);
            seconds[seconds.len() / 2] * 1e6
        });
        let line = serde_json::json!({
            "kernel": kernel, "cells": self.cells, "before_us": before.round(), "after_us": after.round(),
            "ratio": (before / after * 100.0).round() / 100.0,
        });
        println!("{line}");
    }

    /// Softmax, likelihood and its gradients.
    fn likelihood(&self) -> Result<()> {
        let (logits, numbers) = drawn(self.cells, GENES)?;
        let (bias, bias_numbers) = drawn(1, GENES)?;
        let (dispersion, dispersion_numbers) = drawn(1, GENES)?;
        let library: Vec<f32> = Vec::try_from(self.batch.cells.library.view([-1]))?;
        let (mut room, mut slopes) = (numbers.clone(), vec![0.0; GENES]);
        let before = || {
            let logits = logits.detach().set_requires_grad(true);
            let dispersion = dispersion.view([-1]).detach().set_requires_grad(true);
            let mean = (&logits + &bias).softmax(-1, Kind::Float) * &self.batch.cells.library;
            let loss =
                reconstruction(&DecoderOutput::NegativeBinomial { mean, theta: dispersion.exp() }, &self.batch.cells);
            black_box(Tensor::run_backward(&[loss], &[&logits, &dispersion], false, false));
        };
        let after = || {
            room.copy_from_slice(&numbers);
            let terms = DispersionTerms::new(&dispersion_numbers);
            let found = widest(NegativeBinomial {
                logits: &mut room,
                bias: &bias_numbers,
                cells: self.batch.rows(),
                library: &library,
                dispersion: &terms,
                of_cells: self.cells,
                learns: true,
            });
            terms.slopes(&found.by_theta, &mut slopes);
            black_box(found);
        };
        self.compare("softmax, negative binomial likelihood and gradient", before, after);
        Ok(())
    }

    /// The encoder's first layer, forward, and the gradient of its weight.
    fn first_layer(&self) -> Result<()> {
        let (weight, numbers) = drawn(GENES, WIDTH)?;
        let (gradient, gradient_numbers) = drawn(self.cells, WIDTH)?;
        let mut out = vec![0.0; self.cells * WIDTH];
        self.compare(
            "sparse × dense",
            || drop(black_box(self.batch.cells.dense().matmul(&weight))),
            || widest(SparseTimesDense { rows: self.batch.rows(), dense: &numbers, width: WIDTH, out: &mut out }),
        );
        let mut out = vec![0.0; GENES * WIDTH];
        self.compare(
            "sparseᵀ × dense",
            || drop(black_box(self.batch.cells.dense().tr().matmul(&gradient))),
            || {
                let (rows, dense) = (&[BlockedRows::new(self.batch.rows(), GENES)], &gradient_numbers);
                widest(TransposedTimesDense { rows, columns: 0..GENES, dense, width: WIDTH, out: &mut out });
            },
        );
        Ok(())
    }

    fn log1p(&self) -> Result<()> {
        let mut out = vec![0.0; self.batch.values.len()];
        let before = || drop(black_box(self.batch.cells.values.log1p()));
        self.compare("log1p of the non-zeros", before, || widest(Log1p { numbers: &self.batch.values, out: &mut out }));
        Ok(())
    }

    fn batch_norm(&self) -> Result<()> {
        let side = Side::new(self.cells)?;
        let mut room = Room::new(self.cells);
        let before = || {
            let [x, weight, bias] = side.leaves();
            let y = normed(&x, &weight, &bias).relu().dropout(DROPPED, true);
            let sum = (y * &side.gradient.0).sum(Kind::Float);
            black_box(Tensor::run_backward(&[sum], &[x, weight, bias], false, false));
        };
        let after = || {
            let dropout = Dropout::new(DROPPED, 7);
            room.batch_norm(&side, dropout);
            room.gradient.copy_from_slice(&side.gradient.1);
            let [mean, _, inverse] = &room.statistics;
            let [of_weight, of_bias] = &mut room.by_weights;
            widest(BatchNormBackward {
                input: &side.input.1,
                output: &room.output,
                weight: &side.weight.1,
                mean,
                inverse,
                dropout,
                gradient: &mut room.gradient,
                of_weight,
                of_bias,
            });
        };
        self.compare("batch norm, ReLU and dropout, forward and back", before, after);
        Ok(())
    }

    fn layer_norm(&self) -> Result<()> {
        let side = Side::new(self.cells)?;
        let mut room = Room::new(self.cells);
        let before = || {
            let [x, _, bias] = side.leaves();
            let y = layer_normed(&(&x + bias)).relu().dropout(DROPPED, true);
            let sum = (y * &side.gradient.0).sum(Kind::Float);
            black_box(Tensor::run_backward(&[sum], &[x], false, false));
        };
        let after = || {
            let dropout = Dropout::new(DROPPED, 7);
            room.layer_norm(&side, dropout);
            room.gradient.copy_from_slice(&side.gradient.1);
            let [mean, inverse] = &room.of_cells;
            widest(LayerNormBackward {
                input: &room.input,
                output: &room.output,
                width: WIDTH,
                mean,
                inverse,
                dropout,
                gradient: &mut room.gradient,
            });
        };
        self.compare("layer norm, ReLU and dropout, forward and back", before, after);
        Ok(())
    }

    fn cut(&self) -> Result<()> {
        let side = Side::new(self.cells)?;
        let mut room = Room::new(self.cells);
        let before = || {
            let [x, _, bias] = side.leaves();
            let y = (&x + bias).relu().dropout(DROPPED, true);
            let sum = (y * &side.gradient.0).sum(Kind::Float);
            black_box(Tensor::run_backward(&[sum], &[x], false, false));
        };
        let after = || {
            let dropout = Dropout::new(DROPPED, 7);
            room.output.copy_from_slice(&side.input.1);
            widest(CutForward { activations: &mut room.output, bias: &side.bias.1, dropout });
            room.gradient.copy_from_slice(&side.gradient.1);
            widest(CutBackward { output: &room.output, dropout, gradient: &mut room.gradient });
        };
        self.compare("bias, ReLU and dropout, forward and back", before, after);
        Ok(())
    }

    /// The gradient of a gradient's square, through one norm and ReLU.
    fn batch_norm_penalty(&self) -> Result<()> {
        let side = Side::new(self.cells)?;
        let mut room = Room::new(self.cells);
        let before = || {
            let [x, weight, bias] = side.leaves();
            let sum = (normed(&x, &weight, &bias).relu() * &side.gradient.0).sum(Kind::Float);
            let down = Tensor::run_backward(&[sum], &[&x], true, true).remove(0);
            let penalty = down.square().sum(Kind::Float);
            black_box(Tensor::run_backward(&[penalty], &[&x, &weight], false, false));
        };
        let after = || {
            room.batch_norm(&side, Dropout::none());
            room.gradient.copy_from_slice(&side.gradient.1);
            let [mean, _, inverse] = &room.statistics;
            let passed = LayerActivations {
                input: &side.input.1,
                output: &room.output,
                mean,
                inverse,
                dropout: Dropout::none(),
            };
            let (weight, by_input) = (&side.weight.1[..], &mut room.down[..]);
            widest(BatchNormDown { passed, weight, gradient: &mut room.gradient, by_input });
            room.adjoint.iter_mut().zip(&room.down).for_each(|(v, dx)| *v = 2.0 * dx);
            let (adjoint, onto, of_weight) = (&mut room.adjoint[..], &mut room.onto[..], &mut room.by_weights[0][..]);
            widest(BatchNormUp { passed, weight, gradient: &room.gradient, adjoint, onto, of_weight });
        };
        self.compare("penalty through batch norm and ReLU", before, after);
        Ok(())
    }

    fn layer_norm_penalty(&self) -> Result<()> {
        let side = Side::new(self.cells)?;
        let mut room = Room::new(self.cells);
        let before = || {
            let [x, _, bias] = side.leaves();
            let sum = (layer_normed(&(&x + bias)).relu() * &side.gradient.0).sum(Kind::Float);
            let down = Tensor::run_backward(&[sum], &[&x], true, true).remove(0);
            let penalty = down.square().sum(Kind::Float);
            black_box(Tensor::run_backward(&[penalty], &[&x], false, false));
        };
        let after = || {
            room.layer_norm(&side, Dropout::none());
            room.gradient.copy_from_slice(&side.gradient.1);
            let [mean, inverse] = &room.of_cells;
            let passed =
                LayerActivations { input: &room.input, output: &room.output, mean, inverse, dropout: Dropout::none() };
            let by_input = &mut room.down[..];
            widest(LayerNormDown { passed, width: WIDTH, gradient: &mut room.gradient, by_input });
            room.adjoint.iter_mut().zip(&room.down).for_each(|(v, dx)| *v = 2.0 * dx);
            let (adjoint, onto) = (&mut room.adjoint[..], &mut room.onto[..]);
            widest(LayerNormUp { passed, width: WIDTH, gradient: &room.gradient, adjoint, onto });
        };
        self.compare("penalty through layer norm and ReLU", before, after);
        Ok(())
    }

    fn adam(&self) -> Result<()> {
        let (parameter, numbers) = drawn(GENES, WIDTH)?;
        let (gradient, gradient_numbers) = drawn(GENES, WIDTH)?;
        let name = "weight".to_owned();
        let mut plain = Adam::new(LearnerPart::Autoencoder, std::iter::once((&name, &parameter)), 1e-6, 0.0);
        let gradients = [gradient];
        let (mut moved, mut first, mut second) = (numbers, vec![0.0; GENES * WIDTH], vec![0.0; GENES * WIDTH]);
        let before = || drop(black_box(plain.step(&gradients, 1e-3)));
        let after = || {
            widest(AdamStep {
                parameter: &mut moved,
                first: &mut first,
                second: &mut second,
                gradient: &gradient_numbers,
                scale: 1.0,
                weight_decay: 1e-6,
                shares: [0.1, 0.001],
                rate: 1e-3,
                second_scale: 1.0,
                epsilon: 1e-8,
            });
        };
        self.compare("Adam, 2,000 × 256 weights", before, after);
        Ok(())
    }
}
