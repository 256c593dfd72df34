//! The main job as a user types it, and what every command says.

use std::fs;

use serde_json::Value;

use crate::support::{Home, SIMULATE, TINY, says};

#[track_caller]
fn has(value: &Value, keys: &[&str]) {
    for key in keys {
        assert!(value.as_object().is_some_and(|object| object.contains_key(*key)), "no `{key}` in {value}");
    }
}

fn sum(values: impl IntoIterator<Item = Value>) -> u64 {
    values.into_iter().map(|value| value.as_u64().unwrap()).sum()
}

fn values(object: &Value) -> Vec<Value> {
    object.as_object().unwrap().values().cloned().collect()
}

#[test]
fn the_main_job_goes_from_a_file_to_a_page() {
    let home = Home::new();
    has(&home.json(SIMULATE), &["cells", "genes", "file", "truth"]);
    assert!(home.path("s.truth.parquet").is_file());

    let atlas = home.json("ingest s.h5ad --out s.atlas");
    assert_eq!((&atlas["kind"], &atlas["format"], &atlas["values"]), (&"atlas".into(), &2.into(), &"counts".into()));
    assert_eq!((&atlas["cells"], &atlas["genes"]), (&600.into(), &60.into()));

    let condition =
        atlas["conditions"].as_array().unwrap().iter().find(|one| one["name"].as_str().unwrap().contains('+'));
    let name = condition.unwrap()["name"].as_str().unwrap();
    let split = home.json(&format!("split s.atlas --name held --hold-out condition={name} --valid 0.2"));
    let of_name = atlas["conditions"].as_array().unwrap().iter().filter(|condition| condition["name"] == name);
    assert_eq!(split["cells"]["ood"].as_u64(), Some(sum(of_name.map(|condition| condition["cells"].clone()))));
    assert_eq!(sum(values(&split["cells"])), 600);

    let trained = home.json(&format!("train s.atlas --out m --split held --epochs 3 {TINY}"));
    has(
        &trained,
        &["epochs", "best_epoch", "cells_per_second", "peak_memory_bytes", "wait_fraction", "selection", "model"],
    );
    has(&trained["wait_fraction"], &["data", "sink"]);
    has(&trained["selection"], &["metric", "value", "split"]);
    assert_eq!((&trained["epochs"], &trained["model"]), (&3.into(), &"m".into()));
    assert_eq!(trained["selection"]["split"], "valid");
    assert!(
        trained["cells_per_second"].as_f64().unwrap() > 0.0 && 1 << 20 < trained["peak_memory_bytes"].as_u64().unwrap()
    );
    for file in ["model.safetensors", "model.json", "config.toml", "history.jsonl", "checkpoint"] {
        assert!(home.path("m").join(file).exists(), "m/{file}");
    }
    let history = fs::read_to_string(home.path("m/history.jsonl")).unwrap();
    let history: Vec<Value> = history.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(history.iter().map(|line| line["epoch"].as_u64().unwrap()).collect::<Vec<_>>(), [0, 1, 2]);
    has(&history[2], &["train.recon", "valid.recon", "valid.r2_mean", "cells_per_second", "seconds", "wait.data"]);

    let predicted = home.json("predict m s.atlas --out p");
    has(&predicted, &["rows", "files", "bytes", "cells_per_second", "peak_memory_bytes", "skipped"]);
    assert_eq!((&predicted["rows"], &predicted["files"]), (&4.into(), &1.into()), "two doses in two cell types");
    assert_eq!(predicted["bytes"].as_u64(), Some(fs::metadata(home.path("p/part-00000.parquet")).unwrap().len()));

    evaluation_tells_model_and_baselines_apart(&home.json("evaluate m s.atlas"), name);

    home.json("report m --out r.html");
    says(&home.refused(2, "report m --out r.html"), &["r.html already exists"]);
    let page = fs::read_to_string(home.path("r.html")).unwrap();
    assert!(page.contains("<svg") && page.contains(name), "a page with charts and the held-out condition");
    assert!(!page.contains("<script src") && !page.contains("<link") && !page.contains("src=\"http"), "self-contained");

    assert_eq!(home.json("verify s.atlas m p"), serde_json::json!({ "damaged": [] }));
    has(&home.json("inspect m"), &["kind", "format", "genes", "config", "vocabulary", "split", "best", "atlas"]);
}

fn evaluation_tells_model_and_baselines_apart(evaluation: &Value, held_out: &str) {
    let metrics = ["r2_mean", "r2_var", "r2_mean_top20", "r2_mean_top20_train", "pearson_delta", "mse_delta"];
    let baselines = ["control", "perturbed_mean", "additive", "additive_similar", "linear"];
    has(evaluation, &["scale", "summary", "conditions", "mean", "median", "baselines"]);
    assert_eq!(evaluation["scale"], "log1p_cp10k");
    has(&evaluation["mean"], &metrics);
    has(&evaluation["baselines"], &baselines);
    let conditions = evaluation["conditions"].as_array().unwrap();
    assert_eq!(conditions.len(), 4);
    for condition in conditions {
        has(
            condition,
            &["condition", "dose", "covariates", "split", "cells", "n_de", "effect_size", "ceiling", "versus"],
        );
        has(condition, &metrics);
        has(&condition["baselines"], &baselines);
        for baseline in values(&condition["baselines"]) {
            has(&baseline, &metrics);
        }
        assert_eq!((&condition["condition"], &condition["split"]), (&held_out.into(), &"ood".into()));
        // The baseline that says that nothing changes has no change to correlate.
        assert_eq!(condition["baselines"]["control"]["pearson_delta"], Value::Null);
    }
}

#[test]
fn inspect_says_the_same_of_a_file_and_of_its_atlas() {
    let home = Home::with_atlas();
    let (file, atlas) = (home.json("inspect s.h5ad"), home.json("inspect s.atlas"));
    let keys = ["cells", "genes", "nonzeros", "values", "conditions", "covariates"];
    has(&atlas, &keys);
    has(&atlas, &["kind", "format", "bytes", "splits", "checksum"]);
    for key in keys {
        assert_eq!(file[key], atlas[key], "{key}");
    }
    assert_eq!((&file["kind"], &atlas["kind"]), (&"h5ad".into(), &"atlas".into()));
    let conditions = atlas["conditions"].as_array().unwrap();
    assert_eq!(sum(conditions.iter().map(|condition| condition["cells"].clone())), 600);
    assert_eq!(sum(values(&atlas["covariates"]["cell_type"])), 600);
    for condition in conditions {
        has(condition, &["name", "perturbations", "doses", "cells", "control"]);
        let parts: Vec<&str> = condition["name"].as_str().unwrap().split('+').collect();
        let is_control = parts == ["ctrl"];
        assert_eq!(condition["control"], is_control);
        let expected = if is_control { Vec::new() } else { parts };
        assert_eq!(condition["perturbations"], serde_json::json!(expected));
        assert_eq!(condition["doses"].as_array().unwrap().len(), expected.len(), "a dose a perturbation");
    }
}

#[test]
fn a_split_is_listed_and_leaves_the_data_as_they_were() {
    let home = Home::with_atlas();
    let before = home.json("inspect s.atlas");
    let created = home.json("split s.atlas --name quarter --scheme random:0.25 --seed 4");
    let after = home.json("inspect s.atlas");
    assert_eq!(after["splits"]["quarter"], created["cells"]);
    assert_eq!(after["checksum"], before["checksum"]);
    assert_eq!(home.json("verify s.atlas")["damaged"], serde_json::json!([]));
    let again = home.json("split s.atlas --name again --scheme random:0.25 --seed 4");
    assert_eq!(again["cells"], created["cells"]);
    assert!(home.path("s.atlas/splits/again.parquet").is_file());
}

#[test]
fn a_file_may_be_trained_on_directly() {
    let home = Home::new();
    home.json(SIMULATE);
    home.json(&format!("train s.h5ad --out m --epochs 1 {TINY}"));
    assert_eq!(home.json("inspect s.atlas")["cells"], 600, "the atlas is kept beside the file");
    let message = home.run(&format!("train s.h5ad --out again --epochs 1 {TINY}")).stderr;
    assert!(message.contains("using s.atlas"), "{message}");
    let message = home.run("predict m s.h5ad --out p").stderr;
    assert!(message.contains("using s.atlas"), "{message}");
    let message = home.run(&format!("train s.h5ad --out of_some --epochs 1 --filter cell_type=type_0 {TINY}")).stderr;
    assert!(message.contains("the flags have changed: rebuilding s.atlas"), "{message}");
    let cells = home.json("inspect s.atlas")["cells"].as_u64().unwrap();
    assert!(0 < cells && cells < 600, "{cells} cells");
    std::fs::remove_file(home.path("s.h5ad")).unwrap();
    std::fs::remove_file(home.path("s.truth.parquet")).unwrap();
    home.json(&format!("{SIMULATE} --seed 3"));
    let message = home.run(&format!("train s.h5ad --out of_others --epochs 1 --filter cell_type=type_0 {TINY}")).stderr;
    assert!(message.contains("its source has changed"), "{message}");
    let message = home.run(&format!("train s.h5ad --out of_all --epochs 1 {TINY}")).stderr;
    assert!(message.contains("the flags have changed"), "{message}");
    assert_eq!(home.json("inspect s.atlas")["cells"], 600);
}

#[test]
fn explain_adds_up_and_writes_nothing() {
    let home = Home::with_model("cell_type=type_1,dose=0.5");
    let before = home.listing();
    for line in
        ["explain train s.atlas --out new", "explain predict m s.atlas", "--memory 64MiB explain predict m s.atlas"]
    {
        let explained = home.json(line);
        has(&explained, &["graph", "peak_memory_bytes"]);
        let edges = explained["graph"]["edges"].as_array().unwrap().clone();
        assert_eq!(explained["graph"]["nodes"].as_array().unwrap().len(), edges.len() + 1);
        let budget = sum(edges.iter().map(|edge| edge["capacity"]["bytes"].clone()));
        assert_eq!(explained["edges_bytes"], budget, "{line}");
        assert!(budget < explained["peak_memory_bytes"].as_u64().unwrap(), "{line}");
        let memory = if line.contains("64MiB") { 64 << 20 } else { 256 << 20 };
        assert!(budget <= memory, "{line}: the edges may hold {budget} bytes, but --memory is {memory}");
    }
    assert_eq!(home.listing(), before);
}

#[test]
fn results_go_to_stdout_and_everything_else_to_stderr() {
    let home = Home::with_atlas();
    let output = home.run(&format!("train s.atlas --out told --epochs 2 {TINY}"));
    assert!(output.stdout.starts_with("trained 2 epochs") && output.stdout.lines().count() == 1, "{}", output.stdout);
    assert!(output.stderr.contains("epoch 0"), "plain lines where there is no terminal: {}", output.stderr);
    let quiet = home.run(&format!("--quiet --json train s.atlas --out quiet --epochs 2 {TINY}"));
    assert_eq!((quiet.code, quiet.stderr.as_str()), (0, ""));
    assert_eq!(quiet.stdout.lines().count(), 1, "one JSON object");
    let guessed = home.run("ingest s.h5ad --out again.atlas").stderr;
    for flag in ["--perturbation condition", "--control ctrl", "--dose dose", "--covariates cell_type"] {
        assert!(guessed.contains(flag), "what was guessed is told: {guessed}");
    }
}

/// The commands that `--help` lists.
fn commands(help: &str) -> Vec<String> {
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let names = listed.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    names.map(|line| line.split_whitespace().next().unwrap().to_owned()).filter(|name| name != "help").collect()
}

#[test]
fn help_says_what_it_said() {
    let home = Home::new();
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/snapshots/help");
    let update = std::env::var_os("UPDATE_SNAPSHOTS").is_some();
    let help = |line: &str| {
        let output = home.command(&format!("{line} --help")).env_remove("COLUMNS").output().unwrap();
        assert!(output.status.success(), "perturbine {line} --help");
        String::from_utf8(output.stdout).unwrap()
    };
    let mut lines = vec![String::new()];
    for command in commands(&help("")) {
        let nested =
            commands(&help(&command)).into_iter().map(|nested| format!("{command} {nested}")).collect::<Vec<_>>();
        lines.push(command);
        lines.extend(nested);
    }
    assert!(lines.len() > 11, "{lines:?}");
    for line in lines {
        let name = if line.is_empty() { "perturbine".to_owned() } else { line.replace(' ', "-") };
        let file = folder.join(format!("{name}.txt"));
        if update {
            fs::create_dir_all(&folder).unwrap();
            fs::write(&file, help(&line)).unwrap();
        }
        let before = fs::read_to_string(&file).unwrap_or_default();
        let change = "a deliberate change is taken over by UPDATE_SNAPSHOTS=1 cargo test --test command_line";
        let now = help(&line);
        assert!(now.lines().all(|text| text.chars().count() <= 80), "the help of `{line}` is wider than 80 columns");
        assert_eq!(now, before, "the help of `{line}` has changed; {change}");
    }
}
