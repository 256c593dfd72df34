//! Memory reports, and choices based on them.

use std::fs;

use serde_json::Value;

use crate::support::{Home, SIMULATE, TINY, says};

/// The lines of the memory log, as JSON.
fn log(home: &Home, line: &str) -> Vec<Value> {
    let ran = home.run(&format!("--json {line} --log-memory"));
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let records = ran.stderr.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    records.filter_map(|line| line.get("memory").cloned()).collect()
}

fn phases(log: &[Value]) -> Vec<&str> {
    log.iter().map(|line| line["phase"].as_str().unwrap()).collect()
}

#[test]
fn memory_is_told_by_phase_where_that_is_asked_for() {
    let home = Home::new();
    home.json(SIMULATE);
    let ingest = log(&home, "ingest s.h5ad --out s.atlas");
    assert_eq!(phases(&ingest), ["setup", "reading", "storing", "statistics", "saving"]);
    let train = log(&home, &format!("train s.atlas --out m --epochs 3 {TINY}"));
    assert_eq!(phases(&train), ["setup", "epoch", "validation", "saving"]);
    assert_eq!(train[2]["times"], 3, "every epoch was validated");
    let predict = log(&home, "predict m s.atlas --to observed --out p");
    assert_eq!(phases(&predict), ["setup", "predicting"]);
    for line in ingest.iter().chain(&train).chain(&predict) {
        let bytes = |name: &str| line[name].as_u64().unwrap();
        assert!(1 << 20 < bytes("host_end_bytes") && bytes("host_end_bytes") <= bytes("host_peak_bytes"), "{line}");
    }
    let quiet = home.run(&format!("train s.atlas --out n --epochs 1 {TINY}"));
    assert!(!quiet.stderr.contains("memory "), "nobody asked: {}", quiet.stderr);
    let failed = home.run(&format!("train s.atlas --out n --epochs 1 {TINY} --log-memory"));
    says(&failed.stderr, &["already exists"]);
    assert!(failed.stderr.contains("memory  setup "), "so is that of a command that fails: {}", failed.stderr);
}

#[test]
fn a_batch_size_that_is_left_to_the_memory_is_the_largest_that_explain_finds_room_for() {
    let home = Home::with_atlas();
    let tiny = TINY.replace("--batch-size 64", "");
    let explain = |memory: &str, size: &str| {
        let result = home.json(&format!("--memory {memory} explain train s.atlas --out m {tiny} --batch-size {size}"));
        result["peak_memory_bytes"].as_u64().unwrap()
    };
    // The memory of a process before it starts work varies a little.
    let slack = 8 << 20;
    let mut sizes = Vec::new();
    for memory in ["160MiB", "2GiB"] {
        let train = format!("--memory {memory} train s.atlas --out m{memory} --epochs 2 {tiny} --batch-size auto");
        let ran = home.run(&format!("--json {train}"));
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        let result: Value = serde_json::from_str(&ran.stdout).unwrap();
        let config = fs::read_to_string(home.path(&format!("m{memory}/config.toml"))).unwrap();
        let size = config.lines().find_map(|line| line.strip_prefix("batch_size = ")).unwrap();
        assert!(ran.stderr.contains(&format!("batches of {size} cells")), "{}", ran.stderr);
        let budget = if memory == "2GiB" { 2 << 30 } else { 160 << 20 };
        assert!(explain(memory, size) <= budget + slack);
        assert!(result["peak_memory_bytes"].as_u64().unwrap() <= budget, "{result}");
        let size: u64 = size.parse().unwrap();
        assert!(size.is_power_of_two() && size <= 8192);
        assert!(size == 8192 || budget < explain(memory, &(2 * size).to_string()) + slack, "{size} is too small");
        sizes.push(size);
        home.json(&format!("{train} --resume"));
    }
    assert!(sizes[0] < sizes[1], "more memory, larger batches: {sizes:?}");
    let refused = home.refused(2, &format!("--memory 16MiB train s.atlas --out no {tiny} --batch-size auto"));
    says(&refused, &["no batch fits into 16 MiB", "--memory"]);
    says(&home.refused(2, &format!("train s.atlas --out no {tiny} --batch-size some")), &["`some`", "auto"]);
}

#[test]
fn the_average_of_the_weights_is_what_is_validated_and_kept() {
    let home = Home::with_atlas();
    let set = "--set train.n_epochs_pretrain_ae=0 --set train.n_epochs_adv_warmup=0 --set train.monitor=recon";
    let train = |name: &str, more: &str| {
        home.json(&format!("train s.atlas --out {name} --epochs 4 {TINY} {set} {more}"));
        let weights = fs::read(home.path(name).join("model.safetensors")).unwrap();
        let text = fs::read_to_string(home.path(name).join("history.jsonl")).unwrap();
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let values_of = |key: &str| lines.iter().map(|line| line[key].as_f64().unwrap()).collect::<Vec<_>>();
        (weights, values_of("train.recon"), values_of("valid.recon"))
    };
    let plain = train("plain", "");
    let ema = train("ema", "--set train.average=ema --set train.average_decay=0.8");
    let swa = train("swa", "--set train.average=swa --set train.average_start=2");
    assert!(ema.1 == plain.1 && swa.1 == plain.1, "training itself does not change");
    assert!(ema.0 != plain.0 && swa.0 != plain.0 && swa.0 != ema.0);
    assert_ne!(ema.2, plain.2);
    assert_eq!(swa.2[..3], plain.2[..3], "the mean of one epoch's weights is them");
    assert_ne!(swa.2[3], plain.2[3]);
    // An average that keeps nothing of itself is the weights.
    assert!(train("none", "--set train.average=ema --set train.average_decay=0") == plain);
}

#[test]
fn what_kernels_can_t_do_is_left_to_libtorch_or_refused() {
    let home = Home::with_atlas();
    for (name, set) in [("a", "--set train.checkpointing=true"), ("b", "--set train.precision=bf16")] {
        home.json(&format!("train s.atlas --out {name} --epochs 1 {TINY} {set}"));
        let message = home.refused(2, &format!("train s.atlas --out no {TINY} {set} --set train.engine=fused"));
        says(&message, &["train.engine = fused is not possible", "auto or plain"]);
    }
    let checkpointing = "--set train.engine=plain --set adversary.dropout_rate_adv=0.2";
    let weights = |name: &str, more: &str| {
        home.json(&format!("train s.atlas --out {name} --epochs 2 {TINY} {checkpointing} {more}"));
        fs::read(home.path(name).join("model.safetensors")).unwrap()
    };
    assert!(weights("held", "") == weights("again", "--set train.checkpointing=true"), "not a bit differs");
}

#[test]
fn eight_times_the_cells_take_no_more_memory() {
    let home = Home::new();
    let mut peaks: Vec<Vec<u64>> = Vec::new();
    for cells in [10_000, 80_000] {
        let simulate = format!("simulate --cells {cells} --genes 200 --conditions 6 --density 0.1 --out s{cells}.h5ad");
        home.json(&simulate);
        let memory = "--memory 8MiB --threads 2";
        let lines = [
            format!("{memory} ingest s{cells}.h5ad --out {cells}.atlas"),
            format!("{memory} train {cells}.atlas --out {cells} --epochs 1 {TINY}"),
            format!("{memory} predict {cells} {cells}.atlas --to observed --out {cells}.p"),
        ];
        let peak = |line: &String| log(&home, line).iter().filter_map(|phase| phase["host_peak_bytes"].as_u64()).max();
        peaks.push(lines.iter().map(|line| peak(line).unwrap()).collect());
    }
    for (few, many) in peaks[0].iter().zip(&peaks[1]) {
        // A tenth is what the goal allows; what the shortest runs leave to the allocator differs by ten MiB from run to run. All of
        // the additional cells would be 53 MiB of dense singles.
        assert!(*many <= few + few / 10 + (16 << 20), "{peaks:?}");
    }
}
