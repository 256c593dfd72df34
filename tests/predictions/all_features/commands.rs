//! The form of predictions in Parquet, and the properties of their numbers.

use std::fs;

use arrow::array::{AsArray, RecordBatch};
use schemas::conditions::CONTROL;
use serde_json::Value;
use stages::reader::{
    atlas::Atlas,
    groups::{Group, Groups},
};

use crate::support::{
    Home, TINY,
    h5ad::{h5ad, set_column},
    parquet::{lists, numbers, read, source_cells, texts},
    says, simulator,
};

/// A model that has not seen the last combination, and that combination.
fn home() -> (Home, String) {
    let simulator = simulator(600, true);
    let chunk = simulator.chunk(599..600).unwrap();
    let last = chunk.obs.column_by_name("condition").unwrap().as_string::<i32>().value(0).to_owned();
    assert!(last.contains('+'), "the file ends in a combination");
    (Home::with_model(&format!("condition={last}")), last)
}

#[test]
fn means_are_a_row_a_condition() {
    let (home, pair) = home();
    let result = home.json("predict m s.atlas --out p.parquet");
    let table = read(&home.path("p.parquet"));
    let columns: Vec<String> = table.schema().fields().iter().map(|field| field.name().clone()).collect();
    let labels = ["condition", "dose", "cell_type", "extrapolation", "source_cells", "distance"];
    assert_eq!(columns, [&labels[..], &["mean", "variance", "control_mean", "delta"]].concat());
    for column in ["mean", "variance", "control_mean", "delta"] {
        let kind = table.schema().field_with_name(column).unwrap().data_type().to_string();
        assert_eq!(kind, "FixedSizeList(60 x non-null Float32)", "{column}");
    }
    let metadata = table.schema().metadata().clone();
    let genes: Vec<String> = serde_json::from_str(&metadata["genes"]).unwrap();
    assert_eq!(genes, Atlas::open(home.path("s.atlas")).unwrap().genes());
    assert_eq!(metadata["scale"], "counts");

    assert_eq!(result["rows"], table.num_rows());
    assert!(texts(&table, "condition").iter().all(|name| *name == pair));
    assert!(texts(&table, "extrapolation").iter().all(|how| how == "combination"));
    let mut types = texts(&table, "cell_type");
    types.sort();
    assert_eq!(types, ["type_0", "type_0", "type_1", "type_1"], "two doses in each of two cell types");
    let (mean, control, delta) = (lists(&table, "mean"), lists(&table, "control_mean"), lists(&table, "delta"));
    for row in 0..table.num_rows() {
        for gene in 0..60 {
            assert_eq!(delta[row][gene], mean[row][gene] - control[row][gene]);
            assert!(mean[row][gene].is_finite() && mean[row][gene] >= 0.0);
        }
    }
    assert!(lists(&table, "variance").iter().flatten().all(|variance| variance.is_finite() && *variance >= 0.0));
}

#[test]
fn control_means_are_those_of_the_source() {
    let (home, _) = home();
    home.json("predict m s.atlas --out p.parquet");
    let table = read(&home.path("p.parquet"));
    let chunk = simulator(600, true).chunk(0..600).unwrap();
    for (row, cell_type) in texts(&table, "cell_type").iter().enumerate() {
        let is = |column: &str, row: usize, value: &str| {
            chunk.obs.column_by_name(column).unwrap().as_string::<i32>().value(row) == value
        };
        let controls: Vec<usize> =
            (0..600).filter(|cell| is("condition", *cell, "ctrl") && is("cell_type", *cell, cell_type)).collect();
        assert_eq!(source_cells(&table)[row], controls.len() as u64);
        let mut mean = vec![0.0_f64; 60];
        for cell in &controls {
            let (genes, values) = chunk.expression.row(*cell);
            genes.iter().zip(values).for_each(|(gene, value)| mean[*gene as usize] += f64::from(*value));
        }
        for (found, sum) in lists(&table, "control_mean")[row].iter().zip(mean) {
            let expected = sum / controls.len() as f64;
            assert!((f64::from(*found) - expected).abs() <= 1e-5 * expected.max(1.0), "{found} is not {expected}");
        }
    }
}

#[test]
fn wide_long_and_cells_tell_the_same() {
    let (home, _) = home();
    home.json("predict m s.atlas --out wide");
    let wide = read(&home.path("wide"));
    let result = home.json("predict m s.atlas --out long --layout long");
    let long = read(&home.path("long"));
    assert_eq!((long.num_rows(), &result["rows"]), (60 * wide.num_rows(), &long.num_rows().into()));
    for column in ["mean", "variance", "control_mean", "delta"] {
        assert_eq!(numbers(&long, column), lists(&wide, column).concat(), "{column}");
    }
    let genes = Atlas::open(home.path("s.atlas")).unwrap().genes().to_vec();
    assert!(texts(&long, "gene").iter().eq(genes.iter().cycle().take(long.num_rows())));

    let result = home.json("predict m s.atlas --out cells --output cells");
    let cells = read(&home.path("cells"));
    assert_eq!(cells.num_rows() as u64, source_cells(&wide).iter().sum::<u64>());
    assert_eq!(result["rows"], cells.num_rows());
    assert!(texts(&cells, "source_condition").iter().all(|condition| condition == "ctrl"));
    assert!(texts(&cells, "cell").iter().all(|name| name.starts_with("cell_")));
    let keys = |table: &RecordBatch| -> Vec<[String; 3]> {
        let columns = ["condition", "dose", "cell_type"].map(|column| texts(table, column));
        (0..table.num_rows()).map(|row| columns.clone().map(|column| column[row].clone())).collect()
    };
    let (of_cell, expression) = (keys(&cells), lists(&cells, "expression"));
    for (key, mean) in keys(&wide).iter().zip(lists(&wide, "mean")) {
        let rows: Vec<usize> = (0..of_cell.len()).filter(|row| of_cell[*row] == *key).collect();
        for (gene, expected) in mean.iter().enumerate() {
            let found = rows.iter().map(|row| f64::from(expression[*row][gene])).sum::<f64>() / rows.len() as f64;
            assert!((found - f64::from(*expected)).abs() < 1e-4 * found.max(1.0), "{key:?}: {found} is not {expected}");
        }
    }
}

/// The means of one condition at one dose, and the names that they go by.
fn means(home: &Home, to: &str) -> (Vec<String>, Vec<Vec<f32>>) {
    let out = home.path("one.parquet");
    let _ = fs::remove_file(&out);
    home.json(&format!("predict m s.atlas --to {to} --out one.parquet"));
    let table = read(&out);
    (texts(&table, "condition"), lists(&table, "mean"))
}

#[test]
fn a_dose_belongs_to_the_perturbation_at_its_own_place() {
    let (home, pair) = home();
    let (first, second) = pair.split_once('+').unwrap();
    let there = means(&home, &format!("condition={first}+{second},dose=1+0.5"));
    let back = means(&home, &format!("condition={second}+{first},dose=0.5+1"));
    let other = means(&home, &format!("condition={first}+{second},dose=0.5+1"));
    assert_eq!(there.1, back.1, "A+B at 1+0.5 is B+A at 0.5+1");
    assert_ne!(there.1, other.1, "A+B at 1+0.5 is not A+B at 0.5+1");
}

#[test]
fn a_condition_is_printed_as_it_was_first_seen_and_predicted_once() {
    let (home, pair) = home();
    let (first, second) = pair.split_once('+').unwrap();
    let (names, _) = means(&home, &format!("condition={second}+{first},dose=1+1"));
    assert!(names.iter().all(|name| *name == pair), "{names:?} are all {pair}");
    let both = format!("condition={pair},dose=1+1 --to condition={second}+{first},dose=1+1");
    assert_eq!(means(&home, &both).0.len(), 2, "one row a cell type");
}

#[test]
fn combinations_without_controls_are_skipped_aloud_or_borrow_them() {
    let home = Home::new();
    let mut name = String::new();
    h5ad(&home, "s.h5ad", |chunk| {
        let conditions = chunk.obs.column_by_name("condition").unwrap().as_string::<i32>().clone();
        name = conditions.iter().flatten().find(|name| *name != "ctrl" && !name.contains('+')).unwrap().to_owned();
        set_column(chunk, "cell_type", "cell_type", |row, value| {
            if conditions.value(row) == "ctrl" || row % 2 == 0 { value } else { "lone" }.to_owned()
        });
    });
    home.json("ingest s.h5ad --out s.atlas --dose= --covariates cell_type");
    home.json(&format!("train s.atlas --out m --epochs 1 {TINY}"));
    let rows = |flags: &str| {
        let (ran, line) = (format!("condition={name} {flags}"), "--json predict m s.atlas --dry-run --to");
        let ran = home.run(&format!("{line} {ran}"));
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        let result: Value = serde_json::from_str(&ran.stdout).unwrap();
        (result["targets"].as_u64().unwrap(), ran.stderr)
    };
    for flags in ["", "--no-control skip"] {
        let (targets, said) = rows(flags);
        assert_eq!(targets, 2, "{said}");
        let skipped = format!("skipped {name} (cell_type=lone): no source cells with these covariates");
        assert!(said.contains(&skipped), "{said}");
    }
    assert_eq!(rows("--no-control borrow").0, 3);
}

#[test]
fn requests_name_conditions_words_and_files() {
    let (home, pair) = home();
    let single = pair.split_once('+').unwrap().0;
    let rows = |to: &str| home.json(&format!("predict m s.atlas --dry-run --to {to}"))["targets"].as_u64().unwrap();
    assert_eq!(rows(&format!("condition={single}")), 4, "every trained dose in every cell type");
    assert_eq!(rows(&format!("condition={single},dose=0.25")), 2);
    assert_eq!(rows(&format!("condition={single},dose=1,cell_type=type_1")), 1);
    assert_eq!(rows("ood"), 4, "the held-out pair at its two doses");
    let groups = 2 * (4 * 2 + 2 * 2);
    assert_eq!(rows("observed"), groups, "each condition that the atlas has cells of");
    assert_eq!(rows("pairs"), 2 * 6, "four singles make six pairs");
    fs::write(home.path("to.csv"), format!("condition,dose,cell_type\n{single},0.25,type_0\n{pair},1+1,\n")).unwrap();
    assert_eq!(rows("to.csv"), 1 + 2);
}

#[test]
fn numbers_and_flags_in_another_notation_are_the_stored_ones() {
    let home = Home::new();
    h5ad(&home, "s.h5ad", |chunk| {
        set_column(chunk, "condition", "condition", |row, _| ["ctrl", "A"][row / 2 % 2].into());
        set_column(chunk, "cell_type", "treated", |row, _| ["true", "false"][row / 4 % 2].into());
        set_column(chunk, "batch", "plate", |row, _| ["1", "2"][row % 2].into());
    });
    home.json("ingest s.h5ad --out s.atlas --dose= --covariates treated --batch plate");
    home.json(&format!("train s.atlas --out m --epochs 1 {TINY}"));
    let predicted = |flags: &str| {
        let _ = fs::remove_file(home.path("one.parquet"));
        home.json(&format!("predict m s.atlas --out one.parquet {flags}"));
        let table = read(&home.path("one.parquet"));
        let columns = ["treated", "plate", "extrapolation"].map(|name| texts(&table, name));
        (columns.concat(), lists(&table, "mean"))
    };
    let stored = predicted("--to condition=A,treated=true,plate=1");
    assert_eq!(stored.0, ["true", "1", "seen"]);
    for (name, treated, plate) in [("a", "True", "1.0"), ("b", "TRUE", "01"), ("c", "true", "1e0")] {
        let to = format!("--to condition=A,treated={treated}");
        assert_eq!(predicted(&format!("{to},plate={plate}")), stored);
        assert_eq!(predicted(&format!("{to} --batch {plate}")).0, stored.0);
        assert_eq!(predicted(&format!("{to} --from condition=ctrl,treated={treated},plate={plate}")), stored);
        let held_out = home.json(&format!("split s.atlas --name {name} --hold-out condition=A,treated={treated}"));
        assert_eq!(held_out["cells"]["ood"], 26);
    }
    fs::write(home.path("to.csv"), "condition,treated,plate\nA,true,1\nA,True,1.0\n").unwrap();
    assert_eq!(predicted("--to to.csv"), stored);
}

#[test]
fn what_a_file_of_conditions_says_wrongly_is_named_by_its_line() {
    let (home, pair) = home();
    let refused = |text: String| {
        fs::write(home.path("to.csv"), text).unwrap();
        home.refused(65, "predict m s.atlas --dry-run --to to.csv")
    };
    let single = pair.split_once('+').unwrap().0;
    says(&refused(format!("condition,dose\n{single},1\n{single},high\n")), &["to.csv, line 3: ", "`high`"]);
    says(&refused(format!("condition,dose\n{pair},1\n")), &["to.csv, line 2: ", "2 perturbations", "hint: "]);
    says(&refused("condition\nnone\n".into()), &["to.csv, line 2: unknown perturbation `none`"]);
    says(
        &refused(format!("condition,condition\n{single},{single}\n")),
        &["to.csv, line 1: two columns", "`condition`"],
    );
}

#[test]
fn how_far_a_prediction_goes_is_told() {
    let (home, pair) = home();
    let single = pair.split_once('+').unwrap().0;
    let how = |to: &str| {
        means(&home, to);
        texts(&read(&home.path("one.parquet")), "extrapolation")
    };
    assert_eq!(how(&format!("condition={single},dose=1,cell_type=type_0")), ["seen"]);
    assert_eq!(how(&format!("condition={single},dose=0.25,cell_type=type_0")), ["dose"]);
    assert_eq!(how(&format!("condition={pair},dose=1+1,cell_type=type_0")), ["combination"]);
}

#[test]
fn source_cells_can_be_chosen_and_limited() {
    let (home, pair) = home();
    let line = "predict m s.atlas --out few --cells-per-condition 7 --from condition=ctrl,cell_type=type_1";
    home.json(&format!("{line} --to condition={pair},dose=1+1"));
    let table = read(&home.path("few"));
    assert_eq!((texts(&table, "cell_type"), source_cells(&table)), (vec!["type_1".to_owned()], vec![7]));
}

#[test]
fn source_cells_that_are_not_controls_are_counted_unless_they_were_named() {
    let (home, pair) = home();
    let note = |from: &str| {
        let ran = home.run(&format!("predict m s.atlas --dry-run --to condition={pair},dose=1+1 --from {from}"));
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        ran.stderr.lines().find(|line| line.contains("are not controls")).map(str::to_owned)
    };
    let atlas = Atlas::open(home.path("s.atlas")).unwrap();
    let groups = Groups::from_atlas(&atlas, None);
    let of_type = || groups.all().iter().filter(|group| atlas.covariate_values(&group.covariates) == ["type_1"]);
    let all: u64 = of_type().map(Group::cells).sum();
    let perturbed: u64 = of_type().filter(|group| group.condition != CONTROL).map(Group::cells).sum();
    let message = note("cell_type=type_1").unwrap();
    let counts = format!("{perturbed} of its {all} cells are not controls");
    assert!(message.contains(&counts) && message.contains("--from 'condition=ctrl,cell_type=type_1'"), "{message}");
    assert_eq!(note("condition=ctrl,cell_type=type_1"), None);
    assert_eq!(note(&format!("condition={pair}")), None);
    let curves =
        format!("response m s.atlas --condition {} --doses 1 --from cell_type=type_1", pair.split('+').next().unwrap());
    assert!(home.run(&curves).stderr.contains(&counts));
}

#[test]
fn a_published_set_is_verified_file_by_file() {
    let (home, _) = home();
    home.json("predict m s.atlas --out p");
    assert_eq!(home.json("verify p")["damaged"], serde_json::json!([]));
    let file = home.path("p/part-00000.parquet");
    let mut bytes = fs::read(&file).unwrap();
    bytes[100] ^= 1;
    fs::write(&file, bytes).unwrap();
    let ran = home.run("--json verify p");
    assert_eq!(ran.code, 65);
    assert!(ran.stdout.contains("part-00000.parquet"), "{}", ran.stdout);
}

#[test]
fn a_single_published_file_can_be_verified_too() {
    let (home, _) = home();
    home.json("predict m s.atlas --out p.parquet");
    assert_eq!(home.json("verify p.parquet")["damaged"], serde_json::json!([]));
}

#[test]
fn a_predicted_h5ad_file_is_verified_by_reading_its_values() {
    let (home, _) = home();
    home.json("predict m s.atlas --out p.h5ad");
    assert_eq!(home.json("verify p.h5ad")["damaged"], serde_json::json!([]));
    let bytes = fs::read(home.path("p.h5ad")).unwrap();
    fs::write(home.path("p.h5ad"), &bytes[..bytes.len() / 2]).unwrap();
    let ran = home.run("--json verify p.h5ad");
    assert_eq!(ran.code, 65, "{}", ran.stderr);
    assert!(ran.stdout.contains("p.h5ad") && !ran.stdout.contains("not an atlas"), "{}", ran.stdout);
}

#[test]
fn a_model_is_trained_into_a_folder_whose_name_is_not_utf_8() {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt};
    let home = Home::with_atlas();
    let mut command = home.command(&format!("--json train s.atlas --epochs 1 {TINY} --out"));
    let ran = command.arg(OsStr::from_bytes(b"m\xff")).output().unwrap();
    assert_eq!(ran.status.code(), Some(0), "{}", String::from_utf8_lossy(&ran.stderr));
    let result: Value = serde_json::from_slice(&ran.stdout).unwrap();
    assert_eq!(result["model"], "m\u{fffd}");
}
