//! Properties of `evaluate`: every score of every condition, the same in every run, for a model or for written predictions.

use std::collections::BTreeSet;

use serde_json::Value;
use stages::evaluate::{Baseline, PredictionScores};

use super::number;
use crate::support::{
    Home, TINY,
    h5ad::{h5ad, set_column},
    says,
};

/// A model that has not seen one cell type under the last perturbations, which makes several evaluated conditions.
fn home() -> Home {
    Home::with_model("cell_type=type_1,dose=0.5")
}

fn conditions(evaluation: &Value) -> &Vec<Value> {
    evaluation["conditions"].as_array().unwrap()
}

#[test]
fn every_score_is_there_and_where_it_can_be_it_is_defined() {
    let home = home();
    for line in [
        "evaluate m s.atlas",
        "evaluate m s.atlas --scale log1p",
        "evaluate m s.atlas --scale pseudobulk",
        "evaluate m s.atlas --readout raw",
    ] {
        let evaluation = home.json(line);
        assert!(conditions(&evaluation).len() > 2, "{line}");
        for condition in conditions(&evaluation) {
            let sides = Baseline::ALL.map(|baseline| &condition["baselines"][baseline.name()]);
            for name in PredictionScores::NAMES {
                assert!(sides.iter().all(|scores| scores.get(name).is_some()), "{line}: {name}");
                let model = condition.get(name).unwrap_or_else(|| panic!("{line}: the model lacks {name}"));
                // A few cells may leave no differential gene to look at, and be alike in the genes that changed most. Tests of cells
                // are `judge`'s.
                let by_cells = ["overlap_at_", "precision_at_", "pr_auc", "roc_auc", "gene_dependence"];
                let may_lack = name.starts_with("de_") || name.ends_with("top10");
                if !may_lack && !by_cells.iter().any(|start| name.starts_with(start)) {
                    number(model);
                }
            }
            assert!(number(&condition["e_distance"]) > 0.0 && number(&condition["mmd"]) > 0.0, "{line}");
            let rank = number(&condition["rank"]);
            assert!((0.0..=1.0).contains(&rank), "{line}: {rank}");
            for score in ["e_distance", "mmd", "rank"] {
                number(&condition["ceiling"][score]);
                number(&condition["baselines"]["control"][score]);
            }
            number(&condition["baselines"]["control"]["r2_var_top20"]);
        }
    }
}

#[test]
fn a_held_out_condition_is_scored_or_named_as_skipped() {
    let home = Home::new();
    h5ad(&home, "s.h5ad", |chunk| {
        set_column(chunk, "cell_type", "cell_type", |row, _| format!("t{}", row % 10));
        // Two controls in each cell type, which may be in one half.
        set_column(chunk, "condition", "condition", |row, _| ["ctrl", "A", "A", "B", "B"][row / 20].into());
        set_column(chunk, "dose", "dose", |_, _| "1".into());
    });
    home.json("ingest s.h5ad --out s.atlas --covariates cell_type");
    let held_out: String = (0..9).map(|at| format!(" --hold-out condition=B,cell_type=t{at}")).collect();
    home.json(&format!("split s.atlas --name s --valid 0 --reference 0{held_out}"));
    home.json(&format!("train s.atlas --split s --out m --epochs 1 {TINY}"));
    let evaluation = home.json("evaluate m s.atlas");
    let skipped = evaluation["skipped"].as_array().unwrap();
    let type_of = |condition: &Value| condition["covariates"]["cell_type"].as_str().unwrap().to_owned();
    let mut types: Vec<String> = conditions(&evaluation).iter().chain(skipped).map(type_of).collect();
    types.sort();
    assert_eq!(types, (0..9).map(|at| format!("t{at}")).collect::<Vec<_>>());
    let whys: BTreeSet<&str> = skipped.iter().map(|condition| condition["why"].as_str().unwrap()).collect();
    assert!(whys.iter().any(|why| why.contains("real changes are measured from")), "{whys:?}");
    assert!(whys.iter().any(|why| why.contains("predictions start from")), "{whys:?}");
}

#[test]
fn an_evaluation_names_its_scale_and_its_readout() {
    let home = home();
    let scale_and_readout = |line: &str| {
        let evaluation = home.json(line);
        (evaluation["scale"].as_str().unwrap().to_owned(), evaluation["readout"].as_str().unwrap().to_owned())
    };
    let is = |scale: &str, readout: &str| (scale.to_owned(), readout.to_owned());
    assert_eq!(scale_and_readout("evaluate m s.atlas"), is("log1p_cp10k", "anchored"));
    assert_eq!(scale_and_readout("evaluate m s.atlas --scale pseudobulk --readout raw"), is("pseudobulk", "raw"));
}

#[test]
fn what_the_offset_says_alone_is_a_row_of_every_table() {
    let home = home();
    home.json("train s.atlas --out r --hold-out cell_type=type_1,dose=0.5 --epochs 1 --device cpu --batch-size 64");
    let evaluation = home.json("evaluate r s.atlas");
    for condition in conditions(&evaluation) {
        number(&condition["baselines"]["offset"]["mse_delta"]);
    }
    number(&evaluation["baselines"]["offset"]["pearson_delta"]);
    let table = home.run("evaluate r s.atlas").stdout;
    assert!(table.lines().any(|line| line.starts_with("offset ")), "{table}");
    assert_eq!(home.json("evaluate m s.atlas")["baselines"].get("offset"), None, "this model has no offset");
}

#[test]
fn two_runs_say_the_same() {
    let home = home();
    for line in ["evaluate m s.atlas", "evaluate m s.atlas --readout raw"] {
        assert_eq!(home.json(line), home.json(&format!("--threads 1 {line}")), "{line}");
    }
}

#[test]
fn a_lead_is_the_difference_of_two_scores_within_its_interval() {
    let evaluation = home().json("evaluate m s.atlas");
    for condition in conditions(&evaluation) {
        let named = condition["versus"].as_object().unwrap().iter().filter(|(baseline, _)| *baseline != "best");
        for (baseline, scores) in named {
            for (score, interval) in scores.as_object().unwrap() {
                let Some(interval) = interval.as_array() else { continue };
                let [low, mid, high] = [0, 1, 2].map(|at| number(&interval[at]));
                let difference = number(&condition[score]) - number(&condition["baselines"][baseline][score]);
                let lead = if PredictionScores::is_an_error(score) { -difference } else { difference };
                assert!((mid - lead).abs() < 1e-9, "{baseline}, {score}: {mid} is not {lead}");
                assert!(low <= high, "{baseline}, {score}: {low} to {high}");
            }
        }
        assert!(condition["versus"]["additive"]["pearson_delta"].is_array());
        assert_eq!(condition["versus"]["control"]["pearson_delta"], Value::Null, "no change has no correlation");
    }
    let overall = &evaluation["versus"]["additive"];
    for score in ["pearson_delta", "mse_delta", "e_distance", "rank"] {
        let interval = overall[score].as_array().unwrap();
        let [low, mid, high] = [0, 1, 2].map(|at| number(&interval[at]));
        assert!(low <= mid && mid <= high, "{score}: {low} {mid} {high}");
    }
    assert!(evaluation["summary"].as_str().unwrap().contains("95% interval"));
}

#[test]
fn any_part_can_be_judged() {
    let home = home();
    for (flags, part) in [("", "ood"), ("--on ood", "ood"), ("--on valid", "valid"), ("--on train", "train")] {
        let evaluation = home.json(&format!("evaluate m s.atlas {flags}"));
        assert!(conditions(&evaluation).iter().all(|condition| condition["split"] == part), "{flags}");
        let summary = evaluation["summary"].as_str().unwrap();
        assert_eq!(summary.contains("none of the evaluated cells were held out"), part != "ood", "{summary}");
    }
    home.json("split s.atlas --name all --scheme random:0.2 --valid 0");
    let message = home.refused(2, "evaluate m s.atlas --split all --on valid");
    says(&message, &["valid"]);
}

#[test]
fn written_predictions_are_judged_as_what_they_are() {
    let home = home();
    home.json("predict m s.atlas --out wide");
    home.json("predict m s.atlas --out long.parquet --layout long");
    home.json("predict m s.atlas --out cells --output cells");
    home.json("predict m s.atlas --out parted --partition-by condition,cell_type");
    let judged = |name: &str| home.json(&format!("evaluate m s.atlas --predictions {name}"));
    let (wide, long, cells) = (judged("wide"), judged("long.parquet"), judged("cells --scale pseudobulk"));
    assert_eq!((&wide["scale"], &wide["readout"]), (&"pseudobulk".into(), &"raw".into()));
    assert_eq!(wide, long);
    assert_eq!(wide, judged("parted"), "folders show what columns do");
    let model = home.json("evaluate m s.atlas --scale pseudobulk --readout raw");
    assert_eq!(conditions(&wide).len(), conditions(&model).len());
    for ((written, of_cells), run) in conditions(&wide).iter().zip(conditions(&cells)).zip(conditions(&model)) {
        for key in ["condition", "dose", "covariates", "baselines", "ceiling", "n_de"] {
            assert_eq!(written[key], run[key], "{key}: baselines know nothing of the predictions");
        }
        // Written predictions start from all controls, a run from half of them.
        assert!((number(&written["r2_mean"]) - number(&run["r2_mean"])).abs() < 0.1, "{written}\n{run}");
        assert!((number(&of_cells["r2_mean"]) - number(&run["r2_mean"])).abs() < 0.1, "{of_cells}\n{run}");
        assert_eq!((&written["e_distance"], &of_cells["mmd"]), (&Value::Null, &Value::Null));
    }
    let on_log1p = home.json("evaluate m s.atlas --predictions cells --scale log1p");
    assert_eq!(on_log1p["scale"], "log1p");
}

#[test]
fn predictions_that_can_not_be_judged_are_refused() {
    let home = home();
    home.json("predict m s.atlas --out p");
    says(&home.refused(65, "evaluate m s.atlas --predictions p --scale log1p"), &["log1p", "mean of counts"]);
    says(&home.refused(2, "evaluate m s.atlas --predictions p --readout anchored"), &["as they are"]);
    says(&home.refused(65, "evaluate m s.atlas --predictions p --on valid"), &["it lacks", "conditions to evaluate"]);
    says(&home.refused(66, "evaluate m s.atlas --predictions nowhere"), &["nowhere"]);
    says(&home.refused(65, "evaluate m s.atlas --predictions s.atlas/cells.parquet"), &["neither means nor cells"]);
    home.json("train s.atlas --out few --genes 20 --hold-out cell_type=type_1,dose=0.5 --epochs 1 --device cpu --batch-size 64");
    home.json("predict few s.atlas --out of_few");
    says(&home.refused(65, "evaluate m s.atlas --predictions of_few"), &["it lacks 40 of the compared genes"]);
}
