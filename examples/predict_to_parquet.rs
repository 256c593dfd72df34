//! Predicts conditions that were never measured, straight into Parquet files that DuckDB or Polars read.
//!
//! ```sh
//! cargo run --release --example predict_to_parquet
//! ```
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use perturbine::{
    Atlas, Prediction, Query, Request, Resources, Settings,
    flows::{
        ingesting::{IngestOptions, ingest},
        predicting::PredictionForm,
        simulate,
    },
    schemas::config::Preset,
    stages::{
        formats::format::{Choice, open},
        simulate::{SimulateSettings, Simulator},
        storage::disk::ScratchFolder,
    },
};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = ScratchFolder::create()?;
    let at = |name: &str| folder.path().join(name);
    let resources = Resources::default();
    let settings = SimulateSettings { cells: 1200, genes: 80, conditions: 6, combos: 2, ..SimulateSettings::default() };
    simulate(&Simulator::new(settings)?, &at("tiny.h5ad"), None, &resources)?;
    ingest(open(&at("tiny.h5ad"), &Choice::default())?, &at("tiny.atlas"), &IngestOptions::default(), &resources)?;
    let atlas = Atlas::open(at("tiny.atlas"))?;
    let small = ["model.n_hidden_encoder=32", "model.n_hidden_decoder=32", "model.n_latent=8", "train.epochs=2"];
    let model = perturbine::train(&atlas, &Settings::layered(Preset::Cpa, None, &small.map(String::from))?)?;

    // Every pair of the single perturbations, in every cell type, from that cell type's controls.
    let query = Query { to: Request::parse("pairs")?, ..Query::default() };
    let prediction = Prediction::prepare(&atlas, &model, &query, None, resources)?;
    println!("{} conditions from {} predicted cells", prediction.jobs().targets(), prediction.jobs().predicted_cells());

    // The folder is there when it is complete, and not before.
    let written = prediction.write(PredictionForm::WideMeans, &at("predictions"))?;
    let published = written.published;
    println!("{} rows in {} file(s), {} bytes", published.rows, published.files.len(), published.bytes());
    println!("{}", written.report);
    Ok(())
}
