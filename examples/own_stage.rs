//! Writes a stage and a sink of one's own, and lets a pipeline drive them.
//!
//! A stage owns no thread: it takes an item and emits any number. The runtime gives it a thread, bounds what waits before
//! and behind it, and says where a failure came from.
//!
//! ```sh
//! cargo run --release --example own_stage
//! ```
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::ops::ControlFlow;

use perturbine::{
    Capacity, Pipeline,
    stages::{BoxError, Sink, Stage},
};

/// Averages over a sliding window of numbers.
struct Smooth {
    window: Vec<f32>,
    width: usize,
}

impl Stage for Smooth {
    type In = Vec<f32>;
    type Out = Vec<f32>;

    fn push(&mut self, numbers: Vec<f32>, emit: &mut dyn FnMut(Vec<f32>)) -> Result<(), BoxError> {
        let mut smoothed = Vec::with_capacity(numbers.len());
        for number in numbers {
            if !number.is_finite() {
                return Err(format!("{number} can't be averaged").into());
            }
            self.window.push(number);
            if self.width < self.window.len() {
                self.window.remove(0);
            }
            smoothed.push(self.window.iter().sum::<f32>() / self.window.len() as f32);
        }
        emit(smoothed);
        Ok(())
    }
}

/// Keeps the largest number.
struct Largest(f32);

impl Sink for Largest {
    type In = Vec<f32>;
    type Summary = f32;

    fn push(&mut self, numbers: Vec<f32>) -> Result<ControlFlow<()>, BoxError> {
        self.0 = numbers.into_iter().fold(self.0, f32::max);
        Ok(ControlFlow::Continue(()))
    }

    fn finish(self) -> Result<f32, BoxError> {
        Ok(self.0)
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let numbers =
        (0..50_u16).map(|batch| Ok::<_, BoxError>((0..64).map(|at| (f32::from(batch) + at as f32).sin()).collect()));
    let pipeline = Pipeline::from_source("read", Capacity { items: 8, bytes: 1 << 20 }, numbers)
        .then("smooth", Smooth { window: Vec::new(), width: 5 });
    println!("{}", pipeline.plan("largest"));
    let run = pipeline.run("largest", Largest(f32::NEG_INFINITY))?;
    println!("{}", run.report);
    let largest = run.outcome.complete()?;
    println!("the largest average is {largest:.3}");
    Ok(())
}
