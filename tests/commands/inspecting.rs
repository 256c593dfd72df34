//! `inspect` and `explain train`: what is in a file, a model or predictions, for people and for programs.

use serde_json::json;

use crate::support::{Home, says};

const HOLD_OUT: &str = "cell_type=type_1,dose=0.5";

#[test]
fn a_data_file_is_shown_with_its_columns_values_and_guesses() {
    let home = Home::with_atlas();
    let file = home.json("inspect s.h5ad");
    let columns = file["obs_columns"].as_array().unwrap();
    let condition = columns.iter().find(|column| column["name"] == "condition").unwrap();
    assert_eq!((&condition["dtype"], &condition["missing"]), (&json!("category"), &json!(0)));
    let frequent = condition["frequent"].as_array().unwrap();
    assert_eq!(condition["distinct"].as_u64(), Some(frequent.len() as u64));
    let cells = |value: &serde_json::Value| value["cells"].as_u64().unwrap();
    assert!(frequent.windows(2).all(|two| cells(&two[0]) >= cells(&two[1])), "{condition}");
    assert_eq!((&file["matrix"]["likely"], &file["matrix"]["min"]), (&json!("counts"), &json!(0.0)));
    assert!(file["guessed"].as_array().unwrap().contains(&json!("--perturbation condition")), "{}", file["guessed"]);

    let text = home.run("inspect s.h5ad").stdout;
    for part in
        ["AnnData object with n_obs × n_vars = 600 × 60", "obs column", "counts: non-negative", "ingest would take:"]
    {
        assert!(text.contains(part), "`{part}` is not in:\n{text}");
    }
    assert!(text.lines().filter(|line| line.contains("  ")).all(|line| line.chars().count() <= 80), "{text}");
}

#[test]
fn conditions_are_sorted_with_control_first_and_doses_as_numbers() {
    let home = Home::new();
    home.json("simulate --cells 900 --genes 30 --conditions 4 --combos 1 --doses 4 --out s.h5ad");
    home.json("ingest s.h5ad --out s.atlas");
    let conditions = home.json("inspect s.atlas")["conditions"].as_array().unwrap().clone();
    assert_eq!(conditions[0]["control"], true);
    let keys: Vec<(String, Vec<f64>)> = conditions[1..]
        .iter()
        .map(|one| {
            let doses = one["doses"].as_array().unwrap().iter().map(|dose| dose.as_f64().unwrap());
            (one["name"].as_str().unwrap().to_owned(), doses.collect())
        })
        .collect();
    assert!(keys.windows(2).all(|two| two[0] <= two[1]), "{keys:?}");
}

#[test]
fn a_model_is_shown_with_its_network_and_its_evaluation() {
    let home = Home::with_model(HOLD_OUT);
    let model = home.json("inspect m");
    let layers = model["network"]["layers"].as_array().unwrap();
    let learned = layers.iter().filter(|layer| layer["trained"] == true);
    let sum: u64 = learned.map(|layer| layer["parameters"].as_u64().unwrap()).sum();
    assert_eq!(model["network"]["parameters"].as_u64(), Some(sum));
    assert!(layers.iter().any(|layer| layer["size"] == "60 → 16"), "{layers:?}");
    assert_eq!((&model["preset"], &model["evaluation"]), (&json!("cpa"), &json!(null)));

    home.json("evaluate m s.atlas");
    let evaluated = home.json("inspect m");
    assert!(evaluated["evaluation"]["summary"].is_string() && evaluated["evaluation"]["mean"]["r2_mean"].is_number());
    let text = home.run("inspect m").stdout;
    for part in ["preset cpa", "best epoch:", "perturbations (", "evaluated: ", "trained parameters", "60 → 16"] {
        assert!(text.contains(part), "`{part}` is not in:\n{text}");
    }
}

#[test]
fn a_flag_that_chooses_a_matrix_is_refused_for_what_has_none_to_choose() {
    let home = Home::with_model(HOLD_OUT);
    home.json("predict m s.atlas --out p");
    for (path, flag) in [("s.atlas", "--raw"), ("s.atlas", "--layer counts"), ("m", "--raw"), ("p", "--genome hg38")] {
        let name = flag.split(' ').next().unwrap();
        says(&home.refused(2, &format!("inspect {path} {flag}")), &[name, &format!("{path} is a"), "data file"]);
    }
}

#[test]
fn predictions_are_shown_in_every_format() {
    let home = Home::with_model(HOLD_OUT);
    let all = home.json("predict m s.atlas --out p")["rows"].as_u64().unwrap();
    home.json("predict m s.atlas --out p.parquet --layout long");
    home.json("predict m s.atlas --out p.h5ad");
    home.json("predict m s.atlas --out hive --to observed --partition-by condition");
    let folder = home.json("inspect p");
    assert_eq!((&folder["kind"], &folder["rows"], &folder["files"]), (&json!("predictions"), &json!(all), &json!(1)));
    assert_eq!((&folder["genes"], &folder["scale"]), (&json!(60), &json!("counts")));
    let rows: u64 = folder["conditions"].as_array().unwrap().iter().map(|one| one["rows"].as_u64().unwrap()).sum();
    assert_eq!(rows, all);
    assert_eq!(home.json("inspect p.parquet")["rows"], all * 60);
    let hive = home.json("inspect hive");
    let names: Vec<&str> =
        hive["conditions"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect();
    assert!(names.len() > 3 && names.is_sorted(), "conditions in folder names: {names:?}");
    home.json("predict m s.atlas --out p.csv --layout long");
    let csv = home.json("inspect p.csv");
    assert_eq!((&csv["rows"], &csv["layout"]), (&json!(all * 60), &home.json("inspect p.parquet")["layout"]));
    let counted = |of: &serde_json::Value| of["conditions"].as_array().unwrap().len();
    assert_eq!(counted(&csv), counted(&folder));
    assert!(csv["columns"].as_array().unwrap().contains(&json!({ "name": "mean", "dtype": "float64" })), "{csv}");
    let ran = home.run("inspect p.h5ad");
    let text = ran.stdout;
    assert!(text.contains("predictions by perturbine") && text.contains("layers: "), "{text}");
    assert_eq!(ran.stderr, "", "predictions need no control");
    let text = home.run("inspect p").stdout;
    assert!(text.contains("means, a row for each condition") && text.contains("model: "), "{text}");
}

#[test]
fn explain_train_shows_network_steps_rates_and_settings() {
    let home = Home::with_atlas();
    let line = "explain train s.atlas --out new --epochs 3 --batch-size 64 --device cpu";
    let explained = home.json(line);
    let batches = explained["batches_per_epoch"].as_u64().unwrap();
    assert_eq!(explained["steps"].as_u64(), Some(3 * batches));
    assert!(explained["network"]["parameters"].as_u64().unwrap() > 1000, "{}", explained["network"]);
    assert!(explained["expected_seconds"].as_f64().unwrap() > 0.0);
    assert_eq!(explained["settings"]["train.epochs"], json!({ "value": 3, "preset": 12 }));
    assert_eq!(explained["learning_rates"]["train.lr"], 5e-4);
    let card = &explained["card"];
    assert_eq!((&card["genes"][0], &card["config"]["train"]["epochs"]), (&json!("G00001"), &json!(3)));
    assert!(explained["config"].as_str().unwrap().contains("batch_size = 64"));
    let text = home.run(line).stdout;
    for part in [
        "trained parameters",
        "at most 3 epochs of",
        "learning rates: train.lr",
        "expected time",
        "train.batch_size = 64",
    ] {
        assert!(text.contains(part), "`{part}` is not in:\n{text}");
    }
}
