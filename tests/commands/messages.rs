//! Messages: errors as JSON, counts in words, and what was meant.

use serde_json::Value;

use crate::support::{Home, TINY, says};

#[test]
fn errors_are_json_where_results_are() {
    let home = Home::with_atlas();
    let error = |line: &str, code: i32| -> Value {
        let ran = home.run(line);
        assert_eq!((ran.code, ran.stdout.as_str()), (code, ""), "{}", ran.stderr);
        let object: Value = serde_json::from_str(ran.stderr.lines().last().unwrap()).unwrap();
        assert_eq!(object["error"]["code"], code);
        object["error"].clone()
    };
    let unknown = error("--json split s.atlas --name n --hold-out cell_type=none", 65);
    assert!(unknown["message"].as_str().unwrap().contains("none") && unknown["hint"].is_string(), "{unknown}");
    assert_eq!(unknown["because"], serde_json::json!([]));
    let usage = error("split s.atlas --json --spilt n", 2);
    assert!(usage["message"].as_str().unwrap().contains("'--spilt'"), "{usage}");
    let missing = error("--json inspect nowhere", 66);
    assert!(missing["message"].as_str().unwrap().starts_with("nowhere"), "{missing}");
}

#[test]
fn messages_count_in_words_and_say_what_was_meant() {
    let home = Home::with_model("cell_type=type_1,dose=0.5");
    says(&home.refused(2, "--threads 0 inspect s.atlas"), &["`--threads` must be at least 1"]);
    let meant = "expected key=value, got `stim`; did you mean `condition=stim`?";
    says(&home.refused(2, "predict m s.atlas --to stim --out p"), &[meant]);
    let wrote = home.run("predict m s.atlas --out p").stdout;
    let inspected = home.json("inspect p");
    assert!(wrote.starts_with(&format!("wrote {} rows to p (", inspected["rows"])), "{wrote}");
    let name = inspected["conditions"][0]["name"].clone();
    let name = name.as_str().unwrap();
    let one = home.run(&format!("predict m s.atlas --to condition={name},dose=1,cell_type=type_0 --out one")).stdout;
    assert!(one.starts_with("wrote 1 row to one ("), "{one}");
    let simulated = home.run("simulate --cells 1200 --genes 30 --conditions 3 --out t.h5ad").stdout;
    assert!(simulated.starts_with("1,200 cells × 30 genes in t.h5ad"), "{simulated}");
    home.json("ingest t.h5ad --out t.atlas");
    home.json(&format!("train t.atlas --out tm --epochs 1 {TINY}"));
    says(
        &home.refused(2, "predict tm t.atlas --to missing --out q"),
        &["nothing to predict: no combination is missing"],
    );
}

#[test]
fn choices_are_listed() {
    let home = Home::new();
    let presets = home.json("presets")["presets"].clone();
    let names: Vec<&str> = presets.as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["cpa", "residual", "norman", "kang", "combosciplex"]);
    let rate = home.run("settings train.lr").stdout;
    assert!(rate.starts_with("train.lr = 0.001   (residual: 0.0005)\n    learning rate"), "{rate}");
    let all = home.run("settings").stdout;
    assert!(all.lines().all(|line| line.chars().count() <= 80) && all.contains("model.n_latent = 64"), "{all}");
    says(&home.refused(65, "settings train.rl"), &["unknown setting `train.rl`", "train.lr"]);
    for (shell, part) in [("bash", "complete -F"), ("zsh", "#compdef perturbine"), ("fish", "complete -c perturbine")] {
        let script = home.run(&format!("completions {shell}")).stdout;
        assert!(script.contains(part) && script.contains("hold-out"), "{shell}");
    }
}

#[test]
fn what_is_given_in_the_place_of_something_else_is_named() {
    let home = Home::with_model("condition=G00034,dose=0.5");
    home.json("predict m s.atlas --output changes --out c.parquet");
    for (code, line, parts) in [
        (2, "ingest s.atlas --out i", &["s.atlas is an atlas already"][..]),
        (2, "ingest m --out i", &["m is a model, not a file of cells"]),
        (
            65,
            "ingest s.h5ad --layer log --out i",
            &["has no layers, and --layer log asks for one", "leave out --layer"],
        ),
        (
            2,
            "train s.atlas --set train.lrr=1 --out i",
            &["unknown setting `train.lrr`", "train.lr,", "`perturbine settings`"],
        ),
        (2, "split s.atlas --name x --hold-out type_0", &["got `type_0`; did you mean `cell_type=type_0`?"]),
        (2, "predict m s.atlas --to type_0 --out x", &["did you mean `cell_type=type_0`?"]),
        (65, "evaluate m s.atlas --predictions c.parquet", &["a table of changes", "--output means"]),
    ] {
        says(&home.refused(code, line), parts);
    }
}
