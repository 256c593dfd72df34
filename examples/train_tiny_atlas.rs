//! Trains a small model on a small simulated atlas, and compares it with the baselines.
//!
//! ```sh
//! cargo run --release --example train_tiny_atlas
//! ```
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use perturbine::{
    Atlas, Resources, Training,
    flows::{
        evaluation::{EvaluationOptions, evaluate},
        ingesting::{IngestOptions, ingest},
        simulate,
    },
    schemas::config::{Preset, Settings},
    stages::{
        formats::format::{Choice, open},
        model::saved::Model,
        reader::split::{Scheme, Split, SplitShares},
        simulate::{SimulateSettings, Simulator},
        storage::disk::ScratchFolder,
    },
};
use tch::Device;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = ScratchFolder::create()?;
    let at = |name: &str| folder.path().join(name);
    let resources = Resources::default();

    // An atlas of 1,200 cells: a file, then what training reads.
    let settings = SimulateSettings { cells: 1200, genes: 80, conditions: 6, combos: 2, ..SimulateSettings::default() };
    simulate(&Simulator::new(settings)?, &at("tiny.h5ad"), None, &resources)?;
    ingest(open(&at("tiny.h5ad"), &Choice::default())?, &at("tiny.atlas"), &IngestOptions::default(), &resources)?;
    let atlas = Atlas::open(at("tiny.atlas"))?;

    // One of the two combinations is held out: nothing is learned from it, nothing is chosen by it.
    let split = Split::make(&atlas, "combos", &Scheme::Combinations(0.5), SplitShares::default(), 0)?;
    let small = ["model.n_hidden_encoder=32", "model.n_hidden_decoder=32", "model.n_latent=8", "train.epochs=4"];
    let settings = Settings::layered(Preset::Cpa, None, &small.map(String::from))?;
    let training = Training::prepare(&atlas, split.clone(), &settings, &at("model"), Device::Cpu, resources.clone())?;
    println!("{}", training.graph()?);
    let on_epoch = Box::new(|epoch: &perturbine::stages::trainer::train::EpochReport| {
        println!("epoch {}: loss {:.1}", epoch.epoch, epoch.values["train.recon"]);
    });
    let (trained, report) = training.run(false, on_epoch)?;
    println!("{:.0} cells/s; the slow stage was {:?}", trained.cells_per_second, report.slow_stage());

    let model = Model::load(&trained.folder, Device::Cpu)?;
    let judged = evaluate(&atlas, &model, split, &EvaluationOptions::default(), &resources)?;
    println!("{}", judged.judgement.evaluation.summary);
    Ok(())
}
