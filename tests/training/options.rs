//! Every option of the model trains, predicts and is kept; what can't be done is refused.

use std::{collections::BTreeSet, fs, path::Path, sync::Arc};

use arrow::array::{ArrayRef, Float32Array, RecordBatch, StringArray};
use parquet::arrow::ArrowWriter;
use serde_json::Value;
use stages::torch::parameters::read_safetensors;

use crate::support::{
    Home, TINY,
    parquet::{lists, read, texts},
    says,
};

fn means(path: &Path) -> Vec<f32> {
    lists(&read(path), "mean").concat()
}

fn history(home: &Home, model: &str) -> Vec<Value> {
    let text = fs::read_to_string(home.path(model).join("history.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn every_option_trains_and_predicts() {
    let home = Home::with_atlas();
    let options = [
        ("--set model.recon_loss=zinb --set model.norm_decoder=batch+layer", "train.recon"),
        ("--set model.recon_loss=gauss --set model.norm_encoder=none", "train.recon"),
        ("--set model.variational=true --set train.n_epochs_kl_warmup=2", "train.kl"),
        ("--set model.doser_type=mlp --set model.n_hidden_doser=4 --set model.norm_encoder=layer", "train.norm_doser"),
        (
            "--set model.doser_type=sigm --set adversary.adv_loss=focal --set adversary.adv_steps=2",
            "train.penalty_perts",
        ),
        ("--set train.mixup_alpha=0.4 --set train.n_epochs_mixup_warmup=1", "train.acc_cell_type"),
        ("--set train.n_steps_pretrain_ae=5 --set train.n_steps_adv_warmup=5", "train.adv_perts"),
        ("--set compat=cpa-tools-0.8.8 --set train.monitor=cpa_metric", "valid.cpa_metric"),
        ("--preset combosciplex --set train.n_epochs_pretrain_ae=1", "valid.disnt_basal"),
        ("--preset residual", "train.recon"),
        ("--preset residual --set model.recon_loss=zinb --set train.average=ema", "train.recon"),
        ("--set model.offset=additive --set model.recon_loss=gauss --set train.mixup_alpha=0.4", "train.acc_perts"),
        ("--set train.objective=paired --set train.sampling=paired --set train.decoupled_decay=true", "train.recon"),
    ];
    for (at, (option, measured)) in options.into_iter().enumerate() {
        let own_preset = if option.contains("--preset") { "--preset cpa " } else { "nothing" };
        let tiny = TINY.replace(own_preset, "");
        home.json(&format!("train s.atlas --out m{at} {option} --epochs 3 {tiny}"));
        let last = history(&home, &format!("m{at}")).pop().unwrap();
        for name in [measured, "valid.r2_mean", "valid.r2_var", "valid.disnt_after"] {
            assert!(last[name].as_f64().is_some_and(f64::is_finite), "{option}: {name} is {}", last[name]);
        }
        home.json(&format!("predict m{at} s.atlas --to observed --out p{at}.parquet"));
        let means = means(&home.path(&format!("p{at}.parquet")));
        assert!(!means.is_empty() && means.iter().all(|mean| mean.is_finite()), "{option}");
        let config = fs::read_to_string(home.path(&format!("m{at}/config.toml"))).unwrap();
        fs::write(home.path("again.toml"), &config).unwrap();
        home.json(&format!("train s.atlas --out again{at} --config again.toml --device cpu"));
        let weights = |model: String| fs::read(home.path(&model).join("model.safetensors")).unwrap();
        assert!(weights(format!("again{at}")) == weights(format!("m{at}")), "config.toml of {option} says all of it");
    }
}

#[test]
fn any_score_may_choose_the_epoch() {
    let home = Home::with_atlas();
    let smaller_is_better = ["recon", "disnt_basal"];
    for score in ["recon", "pearson_delta", "r2_mean", "r2_var", "disnt_basal", "disnt_after", "cpa_metric"] {
        let set =
            format!("--set train.monitor={score} --set train.n_epochs_pretrain_ae=0 --set train.n_epochs_adv_warmup=0");
        let result = home.json(&format!("train s.atlas --out {score} {set} --epochs 4 {TINY}"));
        let values = history(&home, score).into_iter().map(|line| line[format!("valid.{score}")].as_f64().unwrap());
        let best = match smaller_is_better.contains(&score) {
            true => values.fold(f64::INFINITY, f64::min),
            false => values.fold(f64::NEG_INFINITY, f64::max),
        };
        assert_eq!(result["selection"]["metric"], format!("valid.{score}").trim_start_matches("valid."));
        assert_eq!(result["selection"]["value"].as_f64(), Some(best), "{score}");
    }
}

#[test]
fn what_perturbations_add_is_shrunk_to_the_share_that_predicts_valid_cells_best() {
    let home = Home::with_atlas();
    let weights = |model: &str| read_safetensors(&home.path(model).join("model.safetensors")).unwrap();
    for option in ["--preset residual", "--preset residual --set model.perturbation_embeddings=table.parquet"] {
        write_table(&home.path("table.parquet"), &singles(&home.json("inspect s.atlas")));
        for (model, shrink) in [("whole", false), ("shrunk", true)] {
            let tiny = TINY.replace("--preset cpa ", "");
            let set = format!("{option} --set train.shrink_perturbations={shrink} --epochs 1 {tiny}");
            home.json(&format!("train s.atlas --out {model} {set}"));
        }
        assert!(history(&home, "whole")[0].get("valid.perturbation_share").is_none());
        let share = history(&home, "shrunk")[0]["valid.perturbation_share"].as_f64().unwrap();
        assert!((0.01..=1.0).contains(&share), "{share}");
        let (whole, shrunk) = (weights("whole"), weights("shrunk"));
        let mut scaled = 0;
        for (name, whole) in &whole {
            let is_embedding = match option.contains("table") {
                true => name.contains("pert_transformation") || name.contains("control_embedding"),
                false => name.contains("pert_embedding"),
            };
            scaled += usize::from(is_embedding);
            let expected = if is_embedding { whole * share } else { whole.shallow_clone() };
            assert!(expected.allclose(&shrunk[name], 1e-6, 1e-9, false), "{option}: {name}");
        }
        assert!(scaled > 0);
        for model in ["whole", "shrunk"] {
            fs::remove_dir_all(home.path(model)).unwrap();
        }
    }
}

/// A table of embeddings with a row for each name: numbers that its letters give.
fn write_table(path: &Path, names: &[String]) {
    let number = |name: &str, at: u8| {
        let sum: u32 = (u32::from(at) + 1..).zip(name.bytes()).map(|(place, byte)| u32::from(byte) * place).sum();
        f32::from(u8::try_from(sum % 17).unwrap())
    };
    let names_column: ArrayRef = Arc::new(StringArray::from_iter_values(names));
    let mut columns = vec![("name".to_owned(), names_column)];
    for at in 0..5 {
        let numbers: ArrayRef = Arc::new(Float32Array::from_iter_values(names.iter().map(|name| number(name, at))));
        columns.push((format!("x{at}"), numbers));
    }
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let mut writer = ArrowWriter::try_new(fs::File::create(path).unwrap(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

/// The perturbations of an atlas that come alone.
fn singles(result: &Value) -> Vec<String> {
    let conditions = result["conditions"].as_array().unwrap().iter();
    let alone = conditions.filter(|condition| condition["perturbations"].as_array().unwrap().len() == 1);
    let names: BTreeSet<&str> = alone.map(|condition| condition["perturbations"][0].as_str().unwrap()).collect();
    names.into_iter().map(str::to_owned).collect()
}

#[test]
fn a_perturbation_that_was_never_trained_on_is_predicted_from_its_row() {
    let home = Home::with_atlas();
    let result = home.json("inspect s.atlas");
    let singles = singles(&result);
    let held = singles[0].clone();
    let names: Vec<String> = singles.iter().cloned().chain(["elsewhere".to_owned()]).collect();
    write_table(&home.path("table.parquet"), &names);
    let held_out = result["conditions"].as_array().unwrap().iter().map(|condition| &condition["name"]);
    let held_out: Vec<&str> =
        held_out.map(|name| name.as_str().unwrap()).filter(|name| name.split('+').any(|part| part == held)).collect();
    let mut hold = held_out.iter().map(|name| format!("--hold-out condition={name}")).collect::<Vec<_>>();
    hold.sort();
    hold.dedup();
    let set = "--set model.perturbation_embeddings=table.parquet";
    let train = format!("{} --epochs 2 {TINY} {set}", hold.join(" "));
    home.json(&format!("train s.atlas --out m {train}"));

    let ask = |name: &str, more: &str| format!("predict m s.atlas --to condition={name} {more}");
    says(&home.refused(65, &ask(&held, "--out no.parquet")), &[&held]);
    home.json(&ask(&held, "--unseen embedding --out a.parquet"));
    home.json(&ask("elsewhere", "--unseen embedding --out b.parquet"));
    assert!(texts(&read(&home.path("a.parquet")), "extrapolation").iter().all(|how| how == "perturbation"));
    assert_ne!(means(&home.path("a.parquet")), means(&home.path("b.parquet")), "rows that differ predict alike");
    says(&home.refused(65, &ask("nowhere", "--unseen embedding --out no.parquet")), &["nowhere"]);
    let card: Value = serde_json::from_slice(&fs::read(home.path("m/model.json")).unwrap()).unwrap();
    assert_eq!(card["vocabulary"]["embedding_width"], 5);

    write_table(&home.path("table.parquet"), &names[2..]);
    says(&home.refused(65, &format!("train s.atlas --out n {train}")), &["table.parquet", "no row", &names[1]]);
    home.json(&format!("train s.atlas --out plain --epochs 1 {TINY}"));
    says(&home.refused(2, &ask(&held, "--unseen embedding --out no.parquet").replace(" m ", " plain ")), &["no table"]);
}

#[test]
fn a_run_is_resumed_with_the_table_that_it_began_with() {
    let home = Home::with_atlas();
    let names = [singles(&home.json("inspect s.atlas")), vec!["elsewhere".to_owned()]].concat();
    write_table(&home.path("table.parquet"), &names);
    let line = format!("train s.atlas --out m --epochs 1 {TINY} --set model.perturbation_embeddings=table.parquet");
    home.json(&line);
    let before = fs::read(home.path("m/model.json")).unwrap();
    for last in ["elsewhere else", "another"] {
        let mut changed = names.clone();
        *changed.last_mut().unwrap() = last.to_owned();
        write_table(&home.path("table.parquet"), &changed);
        says(&home.refused(2, &format!("{line} --resume")), &["the table of embeddings differs", "m"]);
    }
    assert!(fs::read(home.path("m/model.json")).unwrap() == before);
    write_table(&home.path("table.parquet"), &names);
    home.json(&format!("{line} --resume"));
    assert!(fs::read(home.path("m/model.json")).unwrap() == before);
}

#[test]
fn the_batch_can_be_chosen_averaged_or_left_out() {
    let home = Home::new();
    home.json(crate::support::SIMULATE);
    home.json("ingest s.h5ad --out s.atlas --covariates cell_type --batch batch");
    home.json(&format!("train s.atlas --out m --epochs 2 {TINY}"));
    let predict = |batch: &str| {
        let out = format!("{batch}.parquet");
        home.json(&format!("predict m s.atlas --to observed --batch {batch} --out {out}"));
        (means(&home.path(&out)), texts(&read(&home.path(&out)), "batch"))
    };
    let (source, batches) = predict("source");
    let (average, _) = predict("average");
    let (none, _) = predict("none");
    let (one, ones) = predict("batch_1");
    assert!(source != average && source != none && average != none && source != one);
    assert!(batches.contains(&"batch_0".to_owned()) && ones.iter().all(|batch| batch == "batch_1"));
    says(&home.refused(65, "predict m s.atlas --batch batch_9 --out no.parquet"), &["batch_9", "batch_1"]);
    home.json("ingest s.h5ad --out t.atlas --covariates cell_type");
    home.json(&format!("train t.atlas --out n --epochs 1 {TINY}"));
    says(&home.refused(2, "predict n t.atlas --batch none --out no.parquet"), &["no batch"]);
}

#[test]
fn training_that_leaves_the_numbers_names_the_batch_and_keeps_the_last_good_checkpoint() {
    let home = Home::with_atlas();
    // From the third epoch on the learning rates are beyond all measure.
    let line = format!("train s.atlas --out m --epochs 6 {TINY} --set train.step_size_lr=2 --set train.lr_decay=1e25");
    let ran = home.run(&line);
    assert_eq!(ran.code, 65, "{}", ran.stderr);
    says(&ran.stderr, &["is not finite at epoch 2, batch", "checkpoint"]);
    assert!(!home.path("m/model.json").exists());
    let checkpoints: Vec<_> =
        fs::read_dir(home.path("m/checkpoint")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(!checkpoints.is_empty(), "no checkpoint is kept");
    let result = home.json("verify m");
    assert!(result["damaged"].as_array().is_none_or(Vec::is_empty), "{result}");
}
