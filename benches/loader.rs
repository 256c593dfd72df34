//! How fast batches come out of a page-cached atlas: `order → read → encode → batch`, without a model behind.
//!
//! ```sh
//! cargo bench --bench loader -- [CELLS] [GENES] [BATCH]
//! ```
#![expect(clippy::print_stdout, reason = "a bench prints what it measured")]

use std::{sync::Arc, time::Instant};

use perturbine::{
    Atlas, Resources,
    flows::{
        batches,
        ingesting::{IngestOptions, ingest},
        simulate,
    },
    stages::{
        disk::ScratchFolder,
        encode::Encoder,
        groups::Groups,
        ingest::format::{Choice, open},
        order::{Order, OrderSettings},
        simulate::{SimulateSettings, Simulator},
        split::{Part, Scheme, Split},
        vocabulary::Vocabulary,
    },
};

const ROUNDS: u32 = 5;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut numbers = std::env::args().skip(1).filter_map(|argument| argument.parse::<u32>().ok());
    let (cells, genes, batch_size) =
        (numbers.next().unwrap_or(100_000), numbers.next().unwrap_or(2000), numbers.next().unwrap_or(512));
    let folder = ScratchFolder::create()?;
    let at = |name: &str| folder.path().join(name);
    let resources = Resources::default();
    let settings = SimulateSettings { cells: u64::from(cells), genes, ..SimulateSettings::default() };
    simulate(&Simulator::new(settings)?, &at("bench.h5ad"), None, &resources)?;
    let started = Instant::now();
    ingest(open(&at("bench.h5ad"), &Choice::default())?, &at("bench.atlas"), &IngestOptions::default(), &resources)?;
    println!("ingest: {:.0} cells/s", f64::from(cells) / started.elapsed().as_secs_f64());

    let atlas = Atlas::open(at("bench.atlas"))?;
    let split = Arc::new(Split::make(&atlas, "all", &Scheme::Nothing, 0.0, 0)?);
    let groups = Groups::of(&atlas, Some(&split));
    let vocabulary = Vocabulary::of(&atlas, &groups)?;
    let order = OrderSettings { seed: 0, batch_size: batch_size as usize, window: 65_536 };
    let order = Arc::new(Order::new(&atlas, split, Part::Train, order));
    for epoch in 0..ROUNDS {
        let encoder = Encoder::new(&atlas, groups.clone(), &vocabulary)?;
        let started = Instant::now();
        let mut entries = 0_u64;
        for batch in batches(&atlas, order.epoch(epoch, 0), encoder, &resources).stream() {
            entries += u64::from(batch?.expression.row_pointers.last().copied().unwrap_or(0));
        }
        let seconds = started.elapsed().as_secs_f64();
        println!("epoch {epoch}: {:.0} cells/s ({} entries)", f64::from(cells) / seconds, entries);
    }
    Ok(())
}
