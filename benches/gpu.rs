//! How many cells a second pass through steps of training, from batches that are packed already, engine by engine.
//!
//! ```sh
//! cargo bench --bench gpu -- [OPTION=VALUE]... [DEVICE] [GENES] [BATCH]...
//! ```
//!
//! The network of the project's figures (hidden 512 × 3, latent 128, adversaries on, `nb`), cells with a tenth of the genes. A step
//! trains the autoencoder or the adversaries, in turn as `adversary.adv_steps` says; every batch counts its cells, whichever of the
//! two it trains. One line of JSON for each run. The options are:
//!
//! - `--engines=plain,pieces,replayed`: `plain` is libtorch's operations with an optimiser step for each tensor, `pieces` has fixed
//!   shapes and one optimiser step for all of them, `replayed` runs the same as graphs, which needs a GPU;
//! - `--precisions=float32,bf16`;
//! - `--seconds=3`: how long the clock runs for each run, at least;
//! - `--rounds=2`: how often each combination is run; the combinations take turns;
//! - `section.key=value`: a setting of the model or the training.
#![expect(clippy::print_stdout, reason = "a bench prints what it measured")]

use std::{collections::BTreeMap, error::Error, time::Instant};

use perturbine::devices::{DeviceChoice, name_of};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use schemas::{
    atlas::ValueKind,
    batch::{BatchPlan, Expression, Genes, Labels, Role, Values},
    conditions::Covariate,
    config::{Preset, Settings, TrainingPlan},
    ids::{CellIndex, RowIndex},
    vocabulary::Vocabulary,
};
use sprs::CsMatI;
use stages::{
    model::{
        draws::StepDraws,
        graph_replay::GraphReplay,
        packed_batch::PackedBatch,
        plain::Plain,
        schedule::{Clock, Schedule},
        step::{Engine, Learner},
        transfer::{BatchPacker, StepExtras},
    },
    stage::{batch::Batch, pool::Pool},
    torch::{device_memory, reset_peak, synchronise},
};
use tch::{Device, Kind, Tensor};

const PERTURBATIONS: u32 = 100;
/// Packed batches, taken in turn; each is transferred again for its step.
const BATCHES: u64 = 8;
/// Steps before the clock starts: on a GPU the first ones capture graphs.
const WARM_UP_ON_GPU: u64 = 48;
const WARM_UP_ON_CPU: u64 = 1;

type Result<T, E = Box<dyn Error>> = std::result::Result<T, E>;

/// The selected work.
struct Options {
    device: Device,
    genes: u32,
    sizes: Vec<usize>,
    engines: Vec<String>,
    precisions: Vec<String>,
    seconds: f64,
    rounds: u32,
    settings: Vec<String>,
}

impl Options {
    fn parse(arguments: impl Iterator<Item = String>) -> Result<Self> {
        let (mut named, mut settings, mut positions) = (BTreeMap::new(), Vec::new(), Vec::new());
        for argument in arguments {
            match (argument.strip_prefix("--"), argument.split_once('=')) {
                (Some(option), _) => {
                    let (name, value) = option.split_once('=').ok_or_else(|| format!("--{option} has no value"))?;
                    named.insert(name.to_owned(), value.to_owned());
                }
                (None, Some(_)) => settings.push(argument),
                (None, None) => positions.push(argument),
            }
        }
        let mut positions = positions.into_iter();
        let device = DeviceChoice::parse(positions.next().as_deref().unwrap_or("auto"))?.find()?;
        let genes = positions.next().map_or(Ok(5000), |text| text.parse())?;
        let mut sizes: Vec<usize> = positions.map(|text| text.parse()).collect::<Result<_, _>>()?;
        if sizes.is_empty() {
            sizes = vec![128, 2048, 8192];
        }
        // On a CPU the bench shows no more than that it runs.
        let (seconds, rounds) = if device == Device::Cpu { ("0.1", "1") } else { ("3", "2") };
        let mut take = |name: &str, default: &str| named.remove(name).unwrap_or_else(|| default.to_owned());
        let list = |text: String| text.split(',').map(str::to_owned).collect();
        let options = Self {
            device,
            genes,
            sizes,
            engines: list(take("engines", "plain,pieces,replayed")),
            precisions: list(take("precisions", "float32,bf16")),
            seconds: take("seconds", seconds).parse()?,
            rounds: take("rounds", rounds).parse()?,
            settings,
        };
        match named.keys().next() {
            Some(unknown) => Err(format!("there is no option --{unknown}").into()),
            None => Ok(options),
        }
    }
}

fn main() -> Result<()> {
    // Cargo adds `--bench`.
    let options = Options::parse(std::env::args().skip(1).filter(|argument| argument != "--bench"))?;
    // A setting that does not exist ends the bench here, before it has measured anything.
    let plans =
        options.precisions.iter().map(|precision| plan(precision, &options.settings)).collect::<Result<Vec<_>>>()?;
    // The allocator has no statistics to reset before CUDA is initialised, which the first tensor does.
    drop(Tensor::zeros([1], (Kind::Float, options.device)));
    for _ in 0..options.rounds {
        for (precision, plan) in options.precisions.iter().zip(&plans) {
            for size in &options.sizes {
                for engine in &options.engines {
                    if engine == "replayed" && options.device == Device::Cpu {
                        continue;
                    }
                    run((engine, precision, *size), plan, &options)?;
                }
            }
        }
    }
    Ok(())
}

fn run((engine, precision, size): (&str, &str, usize), plan: &TrainingPlan, options: &Options) -> Result<()> {
    let Options { device, genes, .. } = *options;
    let index = if let Device::Cuda(index) = device { Some(index) } else { None };
    if let Some(index) = index {
        reset_peak(index)?;
    }
    let mut learner = Learner::new(plan, genes, &vocabulary(), Kind::Float, device);
    let steps: Box<dyn Engine> = match engine {
        "plain" => Box::new(Plain),
        "pieces" => Box::new(GraphReplay::new(&mut learner)?.without_graphs()),
        "replayed" => Box::new(GraphReplay::new(&mut learner)?),
        unknown => return Err(format!("there is no engine `{unknown}`").into()),
    };
    let packer = BatchPacker::new(i64::from(genes));
    let mut packed =
        (0..BATCHES).map(|seed| Ok(packer.pack(&batch(seed, size, genes)?)?)).collect::<Result<Vec<PackedBatch>>>()?;
    let mut take = |at: u64| -> Result<()> {
        let schedule = Schedule::at(plan, Clock { batch: at, step: at, ..Clock::default() });
        let packed = &mut packed[usize::try_from(at % BATCHES)?];
        steps.step_on(&mut learner, packed, &StepExtras::default(), &StepDraws::default(), schedule)?;
        Ok(())
    };
    let warm_up = if device == Device::Cpu { WARM_UP_ON_CPU } else { WARM_UP_ON_GPU };
    (0..warm_up).try_for_each(&mut take)?;
    let wait = || index.map_or(Ok(()), synchronise);
    wait()?;
    let (started, mut taken) = (Instant::now(), 0_u64);
    // Whole turns of the autoencoder and the adversaries, so that either trains as often as it has to. The clock is read between
    // them, since the host is ahead of the device.
    let turn = BATCHES * u64::from(plan.adversary.adv_steps.max(1));
    while taken == 0 || started.elapsed().as_secs_f64() < options.seconds {
        for _ in 0..turn {
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

fn plan(precision: &str, more: &[String]) -> Result<TrainingPlan> {
    let fixed = [
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
    let assignments: Vec<String> = fixed.into_iter().map(str::to_owned).chain(more.iter().cloned()).collect();
    let settings = Settings::layered(Preset::Cpa, None, &assignments)?;
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
        pass: 0,
        index: seed,
        role: Role::Train,
        last: false,
        cells: (0..size).map(CellIndex::at).collect(),
        rows: (0..size).map(RowIndex::at).collect(),
    };
    let expression = Expression { row_pointers: pointers, genes: Genes::U16(ids), values: Values::U16(values) };
    Ok(Batch { plan, labels, expression: Pool::default().take(|| expression) })
}
