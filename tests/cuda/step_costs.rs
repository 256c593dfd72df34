//! GPU work of a training step: the table below is a budget that each step stays within.

use crate::gpu::{Gpu, Seen};

/// A network and its loss, and what a step of it may take: with all of the schedule at work, at batches of 64.
struct Budget {
    flags: &'static str,
    /// Nodes of the graph that is replayed; none if steps are launched piece by piece.
    kernels: u64,
    copies: u64,
    fills: u64,
    /// Kernels and products outside graphs.
    launches: f64,
    /// Times that the host waits for the device.
    waits: f64,
    /// Copies of all kinds outside graphs. A replayed step has one; the rest are losses that are read, and a validation.
    transfers: f64,
}

const fn graph(flags: &'static str, kernels: u64, copies: u64, launches: f64) -> Budget {
    Budget { flags, kernels, copies, fills: 0, launches, waits: 1.1, transfers: 1.1 }
}

const fn pieces(flags: &'static str, launches: f64, transfers: f64) -> Budget {
    Budget { flags, kernels: 0, copies: 0, fills: 0, launches, waits: 2.2, transfers }
}

/// The network that figures of a GPU are measured with, where whoever's turn it is learns alone.
const BY_TURNS: &str = "--preset cpa --set model.n_latent=128 --set model.n_hidden_encoder=512 --set model.n_hidden_decoder=512 \
                        --set model.n_layers_encoder=3 --set model.n_layers_decoder=3 --set adversary.adv_steps=3";

const BUDGETS: [Budget; 11] = [
    graph(BY_TURNS, 100, 0, 0.3),
    graph("--preset residual", 60, 0, 0.3),
    graph("--preset cpa", 160, 0, 0.3),
    graph("--preset kang", 160, 0, 0.3),
    graph("--preset norman", 120, 0, 0.3),
    graph("--preset combosciplex", 120, 0, 0.3),
    graph("--preset cpa --set train.precision=bf16", 190, 0, 0.3),
    graph("--preset cpa --set model.recon_loss=zinb", 270, 0, 0.3),
    graph("--preset cpa --set model.recon_loss=gauss", 210, 1, 0.3),
    // Sampling takes two fills of its generator's seed before each replay.
    graph("--preset cpa --set model.variational=true", 215, 2, 2.3),
    pieces("--preset cpa --set train.accumulate=2", 1340.0, 4.7),
];

const ATLAS: &str = "--cells 3840 --genes 60 --conditions 6 --combos 2 --cell-types 2 --doses 2 --density 0.3";
/// 85% of the cells, in batches of 64.
const STEPS_AN_EPOCH: f64 = 51.0;
const EPOCHS: [u32; 2] = [4, 12];

/// Two trainings that differ by some epochs; one validation and one checkpoint each.
fn trainings(gpu: &Gpu, flags: &str) -> [Seen; 2] {
    EPOCHS.map(|epochs| {
        let out = format!("m{epochs}");
        let (_, observed) = gpu.json(&format!(
            "train s.atlas --out {out} --epochs {epochs} --batch-size 64 --seed 1 --device cuda:0 --set train.n_epochs_pretrain_ae=0 \
             --set train.n_epochs_adv_warmup=0 --set train.check_val_every_n_epoch=100 --set train.early_stopping_patience=0 {flags}"
        ));
        std::fs::remove_dir_all(gpu.home().path(&out)).unwrap();
        observed
    })
}

#[test]
fn a_step_stays_within_its_budget() {
    let Some(gpu) = Gpu::with_simulated(ATLAS) else { return };
    let mut over = Vec::new();
    for budget in BUDGETS {
        let [short, long] = trainings(&gpu, budget.flags);
        let steps = f64::from(EPOCHS[1] - EPOCHS[0]) * STEPS_AN_EPOCH;
        let a_step = |names: &[&str]| {
            let count = |observed: &Seen| names.iter().map(|name| observed.counter(name)).sum::<u64>() as f64;
            (count(&long) - count(&short)) / steps
        };
        let nodes = |kind: &str| long.graphs().iter().map(|graph| graph[kind].as_u64().unwrap()).max().unwrap_or(0);
        let found = [
            ("kernels", nodes("kernels") as f64, budget.kernels as f64),
            ("copies", nodes("copies") as f64, budget.copies as f64),
            ("fills", nodes("fills") as f64, budget.fills as f64),
            ("calls", nodes("calls") as f64, 0.0),
            ("launches", a_step(&["launches"]), budget.launches),
            ("waits", a_step(&["waits"]), budget.waits),
            (
                "transfers",
                a_step(&["copies_to_device", "copies_to_host", "copies_on_device", "fills"]),
                budget.transfers,
            ),
            ("allocations", a_step(&["allocations"]), 0.01),
        ];
        assert!(
            budget.kernels > 0 || long.graphs().is_empty(),
            "{}: it has graphs, so give them a budget",
            budget.flags
        );
        let launches = a_step(&["graph_launches"]);
        assert!(budget.kernels == 0 || (0.9..1.1).contains(&launches), "{}: {launches} graphs a step", budget.flags);
        over.extend(
            found
                .iter()
                .filter(|(_, found, most)| most < found)
                .map(|(what, found, most)| format!("{}: {found:.2} {what}, at most {most}", budget.flags)),
        );
    }
    assert!(over.is_empty(), "{}", over.join("\n"));
}
