//! How fast shuffled batches come out of an atlas, without a model behind: one JSON line a run, as `make bench-loaders` puts
//! them beside those of other loaders.
//!
//! ```sh
//! cargo bench --bench loader -- csr [ATLAS] [SECONDS]
//! ```
//!
//! | mode | what is measured |
//! |---|---|
//! | `csr` | batches as they are stored, with labels coded for a model |
//! | `dense` | rows of `f32`, with condition codes |
//! | `cold` | the same, one epoch, after the kernel's page cache was emptied (by root) |
//! | `bare` | a loop that copies the same rows in the same order, on as many threads, and does nothing else |
//!
//! Without an atlas, one of 100,000 simulated cells is made.
#![allow(clippy::disallowed_methods, reason = "a benchmark writes files of its own")]
#![expect(clippy::print_stdout, reason = "a bench prints what it measured")]

#[path = "common/clock.rs"]
mod clock;

use std::{
    collections::BTreeMap,
    error::Error,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use perturbine::{
    Atlas, Resources,
    flows::{
        batches, dense_batches,
        ingesting::{IngestOptions, ingest},
        simulate,
    },
    memory::PeakMemory,
};
use schemas::{
    atlas::Codec,
    batch::BatchPlan,
    config::Compat,
    ids::{CellIndex, ConditionId},
};
use stages::{
    batcher::order::{Order, OrderSettings, default_window},
    encoder::{label_encoder::LabelEncoder, vocabulary::from_training_cells},
    formats::format::{Choice, open},
    reader::{
        block::place,
        groups::Groups,
        row::StoredRow,
        split::{Scheme, Split, SplitPart, SplitShares},
    },
    simulate::{SimulateSettings, Simulator},
    storage::disk::ScratchFolder,
};

use self::clock::processor_seconds;

const BATCH: usize = 512;
/// Batches whose entropy is measured.
const LOOKED_AT: usize = 60;

type Result<T, E = Box<dyn Error>> = std::result::Result<T, E>;

fn main() -> Result<()> {
    // Cargo adds `--bench`.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let mode = arguments.first().map_or("csr", String::as_str);
    let seconds: f64 = arguments.get(2).map_or(Ok(3.0), |text| text.parse())?;
    let scratch = ScratchFolder::create()?;
    let path = match arguments.get(1) {
        Some(path) => PathBuf::from(path),
        None => simulated(scratch.path(), if mode == "bare" { Codec::Raw } else { Codec::Packed })?,
    };
    if mode == "cold" {
        fs::write("/proc/sys/vm/drop_caches", "3")
            .map_err(|error| format!("the page cache can't be emptied: {error}"))?;
    }
    let run = Run::prepare(&path)?;
    let measured = match mode {
        "csr" => run.measure(seconds, |run, epoch| {
            let encoder = LabelEncoder::new(&run.atlas, run.groups.clone(), &run.vocabulary)?;
            Ok(batches(&run.atlas, run.order.epoch(epoch, 0), encoder, &Resources::default())
                .stream()
                .map(|batch| Ok(batch?.plan)))
        })?,
        "dense" | "cold" => run.measure(if mode == "cold" { 0.0 } else { seconds }, |run, epoch| {
            Ok(dense_batches(&run.atlas, run.order.epoch(epoch, 0), &Resources::default())
                .stream()
                .map(|batch| Ok(batch?.plan)))
        })?,
        "bare" => run.bare(seconds)?,
        other => return Err(format!("there is no mode `{other}`").into()),
    };
    println!("{}", run.line(mode, &measured));
    Ok(())
}

/// An atlas of simulated cells.
fn simulated(folder: &Path, codec: Codec) -> Result<PathBuf> {
    let (file, atlas) = (folder.join("bench.h5ad"), folder.join("bench.atlas"));
    let settings = SimulateSettings { cells: 100_000, genes: 5000, ..SimulateSettings::default() };
    simulate(&Simulator::new(settings)?, &file, None, &Resources::default())?;
    let options = IngestOptions { codec, ..IngestOptions::default() };
    ingest(open(&file, &Choice::default())?, &atlas, &options, &Resources::default())?;
    Ok(atlas)
}

/// The measured mode.
struct Run {
    began: Instant,
    opened: Duration,
    peak: PeakMemory,
    atlas: Atlas,
    groups: Groups,
    vocabulary: schemas::vocabulary::Vocabulary,
    order: Arc<Order>,
}

/// The result.
#[derive(Default)]
struct Measured {
    cells: u64,
    seconds: f64,
    processor_seconds: f64,
    /// From the moment before the atlas was opened.
    first_batch: Duration,
    /// Rates of whole epochs.
    epochs: Vec<f64>,
    entropy: f64,
}

impl Run {
    fn prepare(path: &Path) -> Result<Self> {
        let peak = PeakMemory::watch();
        let began = Instant::now();
        let atlas = Atlas::open(path)?;
        let opened = began.elapsed();
        let split =
            Arc::new(Split::make(&atlas, "all", &Scheme::Nothing, SplitShares { valid: 0.0, reference: 0.0 }, 0)?);
        let groups = Groups::from_atlas(&atlas, Some(&split));
        let vocabulary = from_training_cells(&atlas, &groups, Compat::None)?;
        let window = default_window(atlas.manifest().order);
        let order = OrderSettings::new(0, BATCH, usize::try_from(window)?);
        let order = Arc::new(Order::new(&atlas, split, SplitPart::Train, order));
        Ok(Self { began, opened, peak, atlas, groups, vocabulary, order })
    }

    /// Whole epochs until the time is over; no fewer than one.
    fn measure<S>(&self, seconds: f64, stream: impl Fn(&Self, u32) -> Result<S>) -> Result<Measured>
    where
        S: Iterator<Item = Result<BatchPlan>>,
    {
        let mut measured = Measured::default();
        let mut plans = Vec::new();
        let (started, processor) = (Instant::now(), processor_seconds()?);
        while measured.epochs.is_empty() || started.elapsed().as_secs_f64() < seconds {
            let (epoch_started, before) = (Instant::now(), measured.cells);
            for plan in stream(self, u32::try_from(measured.epochs.len())?)? {
                let plan = plan?;
                if measured.cells == 0 {
                    measured.first_batch = self.began.elapsed();
                }
                measured.cells += plan.cells.len() as u64;
                if plans.len() < LOOKED_AT && plan.cells.len() == BATCH {
                    plans.push(plan.cells);
                }
            }
            measured.epochs.push((measured.cells - before) as f64 / epoch_started.elapsed().as_secs_f64());
        }
        measured.seconds = started.elapsed().as_secs_f64();
        measured.processor_seconds = processor_seconds()? - processor;
        measured.entropy = self.entropy(&plans);
        Ok(measured)
    }

    /// Copies genes and values of each row to where its batch's buffer has room: what no loader of these bytes can do without.
    fn bare(&self, seconds: f64) -> Result<Measured> {
        let block_rows = self.atlas.manifest().block_rows;
        let mut rows = Vec::new();
        for plan in self.order.epoch(0, 0) {
            for row in plan.rows {
                let (block, row) = place(row, block_rows);
                let block = self.atlas.mapped_block(block)?.ok_or("only mapped blocks can be copied as they are")?;
                let StoredRow::Raw(genes, values) = block.row(row)? else {
                    return Err("only raw blocks can be copied as they are".into());
                };
                rows.push((genes, values));
            }
        }
        let mut measured = Measured::default();
        let (started, processor) = (Instant::now(), processor_seconds()?);
        let threads = Resources::default().threads.get();
        while measured.epochs.is_empty() || started.elapsed().as_secs_f64() < seconds {
            let epoch_started = Instant::now();
            std::thread::scope(|scope| {
                for thread in 0..threads {
                    let rows = &rows;
                    scope.spawn(move || {
                        let mut ring = vec![(Vec::<u8>::new(), Vec::<u8>::new()); 4];
                        for (at, batch) in rows.chunks(BATCH).enumerate().filter(|(at, _)| at % threads == thread) {
                            let (genes, values) = &mut ring[at / threads % 4];
                            genes.clear();
                            values.clear();
                            for (row_genes, row_values) in batch {
                                genes.extend_from_slice(row_genes.bytes());
                                values.extend_from_slice(row_values.bytes());
                            }
                            std::hint::black_box((genes, values));
                        }
                    });
                }
            });
            measured.cells += rows.len() as u64;
            measured.epochs.push(rows.len() as f64 / epoch_started.elapsed().as_secs_f64());
        }
        measured.seconds = started.elapsed().as_secs_f64();
        measured.processor_seconds = processor_seconds()? - processor;
        Ok(measured)
    }

    /// Mean entropy of the conditions of a batch, in bits.
    fn entropy(&self, batches: &[Vec<CellIndex>]) -> f64 {
        let of = |cells: &Vec<CellIndex>| {
            let mut counts: BTreeMap<ConditionId, f64> = BTreeMap::new();
            cells.iter().for_each(|cell| *counts.entry(self.atlas.condition(*cell)).or_default() += 1.0);
            let shares = counts.values().map(|count| count / cells.len() as f64);
            shares.map(|share| -share * share.log2()).sum::<f64>()
        };
        batches.iter().map(of).sum::<f64>() / batches.len().max(1) as f64
    }

    /// The entropy of batches that are drawn without regard to where their cells lie.
    fn entropy_of_random(&self) -> f64 {
        let cells = self.atlas.cells();
        let mut state = 1_u64;
        let mut draw = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            CellIndex((state >> 32) % cells)
        };
        let batches: Vec<Vec<CellIndex>> = (0..LOOKED_AT).map(|_| (0..BATCH).map(|_| draw()).collect()).collect();
        self.entropy(&batches)
    }

    fn line(self, mode: &str, measured: &Measured) -> serde_json::Value {
        let mut rates = measured.epochs.clone();
        rates.sort_by(f64::total_cmp);
        let store: u64 = self.atlas.manifest().files.values().map(|file| file.bytes).sum();
        let milliseconds = |time: Duration| time.as_secs_f64() * 1e3;
        let random = self.entropy_of_random();
        serde_json::json!({
            "peer": "perturbine",
            "settings": mode,
            "state": if mode == "cold" { "cold" } else { "warm" },
            "cells_s": (measured.cells as f64 / measured.seconds).round(),
            "median_epoch_cells_s": rates[rates.len() / 2].round(),
            "cells_cpu_s": (measured.cells as f64 / measured.processor_seconds).round(),
            "open_ms": milliseconds(self.opened),
            "first_batch_ms": milliseconds(measured.first_batch.saturating_sub(self.opened)),
            "H": measured.entropy,
            "H_iid": random,
            "store_bytes": store,
            "peak_anon_mb": self.peak.bytes() >> 20,
        })
    }
}
