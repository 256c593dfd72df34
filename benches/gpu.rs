//! How many cells a second pass through steps of training, from batches that are on the device already, engine by engine.
//!
//! ```sh
//! cargo bench --bench gpu -- [DEVICE] [GENES] [BATCH]...
//! ```
//!
//! The network of the project's figures (hidden 512 × 3, latent 128, adversaries on, `nb`), cells with a tenth of the genes. A step
//! is the autoencoder's or the adversaries', by turns as `adversary.adv_steps` says; every batch counts its cells, whoever learns
//! from it. One line of JSON a run: `plain` is libtorch's operations with an optimiser step for each tensor, `pieces` fixed shapes and
//! one optimiser step for all of them, `replayed` the same as graphs, where there is a GPU. Kinds are taken by turns, twice.
#![expect(clippy::print_stdout, reason = "a bench prints what it measured")]

use std::{error::Error, time::Instant};

use perturbine::devices::{Wanted, name_of};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use schemas::{
    atlas::ValueKind,
    batch::{BatchPlan, Expression, Genes, Labels, Role, Values},
    conditions::Covariate,
    config::{Plan, Preset, Settings},
    ids::{CellIndex, RowIndex},
};
use sprs::CsMatI;
use stages::{
    batch::Batch,
    libtorch::{device_memory, reset_peak, synchronise},
    model::{
        carried::{Beside, Carried, Carrier},
        draws::Draws,
        replayed::Replayed,
        schedule::{Clock, Schedule},
        step::{Engine, Learner, Plain},
    },
    recycle::Pool,
    vocabulary::Vocabulary,
};
use tch::{Device, Kind};

const PERTURBATIONS: u32 = 100;
/// Batches that are on the device, taken by turns.
const BATCHES: u64 = 8;
/// Steps before the clock starts, seconds that it runs for at least, and how often each kind is taken: on a GPU, and on a CPU, which
/// shows no more than that the bench runs.
const ON_GPU: (u64, f64, u32) = (24, 3.0, 2);
const ON_CPU: (u64, f64, u32) = (1, 0.1, 1);

type Result<T, E = Box<dyn Error>> = std::result::Result<T, E>;

fn main() -> Result<()> {
    // Cargo adds `--bench`.
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    let wanted = Wanted::parse(arguments.next().as_deref().unwrap_or("auto"))?;
    let device = wanted.find()?;
    let genes: u32 = arguments.next().map_or(Ok(5000), |text| text.parse())?;
    let mut sizes: Vec<usize> = arguments.map(|text| text.parse()).collect::<Result<_, _>>()?;
    if sizes.is_empty() {
        sizes = vec![128, 2048, 8192];
    }
    for precision in ["float32", "bf16"] {
        for _ in 0..times(device).2 {
            for size in &sizes {
                for engine in ["plain", "pieces", "replayed"] {
                    if engine == "replayed" && device == Device::Cpu {
                        continue;
                    }
                    run(engine, precision, *size, genes, device)?;
                }
            }
        }
    }
    Ok(())
}

fn run(engine: &str, precision: &str, size: usize, genes: u32, device: Device) -> Result<()> {
    let plan = plan(precision)?;
    let index = if let Device::Cuda(index) = device { Some(index) } else { None };
    if let Some(index) = index {
        reset_peak(index)?;
    }
    let mut learner = Learner::new(&plan, genes, &vocabulary(), Kind::Float, device);
    let steps: Box<dyn Engine> = match engine {
        "plain" => Box::new(Plain),
        "pieces" => Box::new(Replayed::new(&mut learner)?.without_graphs()),
        _ => Box::new(Replayed::new(&mut learner)?),
    };
    let carrier = Carrier::new(i64::from(genes), device)?;
    let mut carried =
        (0..BATCHES).map(|seed| Ok(carrier.carry(&batch(seed, size, genes)?)?)).collect::<Result<Vec<Carried>>>()?;
    let mut take = |at: u64| -> Result<()> {
        let schedule = Schedule::at(&plan, Clock { batch: at, step: at, ..Clock::default() });
        let carried = &mut carried[usize::try_from(at % BATCHES)?];
        steps.step_on(&mut learner, (carried, &Beside::default()), &Draws::default(), schedule)?;
        Ok(())
    };
    let (warm_up, at_least, _) = times(device);
    (0..warm_up).try_for_each(&mut take)?;
    let wait = || index.map_or(Ok(()), synchronise);
    wait()?;
    let (started, mut taken) = (Instant::now(), 0_u64);
    // Looked at now and then: the host is ahead of the device.
    while taken == 0 || started.elapsed().as_secs_f64() < at_least {
        for _ in 0..BATCHES {
            take(warm_up + taken)?;
            taken += 1;
        }
        wait()?;
    }
    let seconds = started.elapsed().as_secs_f64();
    let memory = index.map(device_memory).transpose()?;
    #[expect(clippy::cast_precision_loss, reason = "a rate needs no more than 52 bits")]
    let rate = (taken * size as u64) as f64 / seconds;
    let line = serde_json::json!({
        "device": name_of(device),
        "engine": engine,
        "precision": precision,
        "batch": size,
        "genes": genes,
        "steps": taken,
        "adv_steps": plan.adversary.adv_steps,
        "cells_per_second": rate.round(),
        "device_bytes_peak": memory.map(|memory| memory.kept_peak),
    });
    println!("{line}");
    Ok(())
}

fn times(device: Device) -> (u64, f64, u32) {
    if device == Device::Cpu { ON_CPU } else { ON_GPU }
}

fn plan(precision: &str) -> Result<Plan> {
    let assignments = [
        "model.n_latent=128",
        "model.n_hidden_encoder=512",
        "model.n_hidden_decoder=512",
        "model.n_layers_encoder=3",
        "model.n_layers_decoder=3",
        "model.recon_loss=nb",
        "adversary.adv_steps=3",
        "train.n_epochs_pretrain_ae=0",
        "train.n_epochs_adv_warmup=0",
        "train.mixup_alpha=0",
        &format!("train.precision={precision}"),
    ];
    let settings = Settings::layered(Preset::Cpa, None, &assignments.map(str::to_owned))?;
    Ok(settings.check(ValueKind::Counts)?)
}

fn vocabulary() -> Vocabulary {
    let names: Vec<String> = (0..PERTURBATIONS).map(|at| format!("P{at}")).collect();
    let fixed = ["<PAD>", "ctrl"].map(str::to_owned);
    Vocabulary {
        perturbations: fixed.into_iter().chain(names.iter().cloned()).collect(),
        combination_cells: vec![100; names.len()],
        combinations: names,
        covariates: vec![Covariate { name: "cell_type".to_owned(), values: ["x", "y", "z"].map(str::to_owned).into() }],
        ..Vocabulary::default()
    }
}

/// Cells with a tenth of the genes each, small counts.
fn batch(seed: u64, size: usize, genes: u32) -> Result<Batch> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let (mut pointers, mut ids, mut values) = (vec![0], Vec::new(), Vec::new());
    for _ in 0..size {
        let mut gene = random.random_range(0..20_u32);
        while gene < genes {
            ids.push(u16::try_from(gene)?);
            values.push(u16::try_from(1 + random.random_range(0..8_u32) * random.random_range(0..8_u32))?);
            gene += 1 + random.random_range(0..19_u32);
        }
        pointers.push(u32::try_from(ids.len())?);
    }
    let rows: Vec<u32> = (0..=u32::try_from(size)?).collect();
    let classes: Vec<u32> = (0..size).map(|_| random.random_range(0..PERTURBATIONS)).collect();
    let codes = classes.iter().map(|class| class + 2).collect();
    let labels = Labels {
        perturbations: CsMatI::new((size, 2 + PERTURBATIONS as usize), rows, codes, vec![1.0; size]),
        combinations: classes,
        covariates: vec![(0..size).map(|_| random.random_range(0..3)).collect()],
        groups: vec![0; size],
    };
    let plan = BatchPlan {
        epoch: 0,
        index: seed,
        role: Role::Train,
        last: false,
        cells: (0..size).map(CellIndex::at).collect(),
        rows: (0..size).map(RowIndex::at).collect(),
    };
    let expression = Expression { row_pointers: pointers, genes: Genes::U16(ids), values: Values::U16(values) };
    Ok(Batch { plan, labels, expression: Pool::default().take(|| expression) })
}
