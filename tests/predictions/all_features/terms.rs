//! The terms of predictions: scales, genes, draws, libraries, latents, borrowed and new covariates.

use std::{
    collections::BTreeSet,
    fs,
    sync::{
        LazyLock,
        atomic::{AtomicU32, Ordering},
    },
};

use arrow::{
    array::{Array, AsArray, RecordBatch},
    datatypes::Float32Type,
};

use crate::support::{
    self, Home, TINY,
    parquet::{genes, lists, numbers, read, source_cells, texts},
    says,
};

/// A model of an atlas with two cell types in two batches.
static HOME: LazyLock<Home> = LazyLock::new(|| {
    let home = Home::new();
    home.json(&format!("{} --batches 2", support::SIMULATE));
    home.json("ingest s.h5ad --batch batch --out s.atlas");
    home.json(&format!("train s.atlas --out m --epochs 2 {TINY}"));
    home.json(&format!("train s.atlas --out v --epochs 2 --set model.variational=true {TINY}"));
    home
});

/// A prediction with these options; several tests may ask for the same one at the same time.
fn predicted(model: &str, flags: &str) -> RecordBatch {
    static WRITTEN: AtomicU32 = AtomicU32::new(0);
    let out = HOME.path(&format!("{}.parquet", WRITTEN.fetch_add(1, Ordering::Relaxed)));
    HOME.json(&format!("predict {model} s.atlas {flags} --out {}", out.display()));
    read(&out)
}

/// The error of a refused command; other tests write to the same folder at the same time.
fn refused(code: i32, line: &str) -> String {
    let ran = HOME.run(line);
    assert_eq!((ran.code, ran.stdout.as_str()), (code, ""), "perturbine {line}\n{}", ran.stderr);
    assert!(!HOME.path("x").exists(), "perturbine {line} left something behind");
    ran.stderr
}

fn single() -> String {
    let atlas = stages::reader::atlas::Atlas::open(HOME.path("s.atlas")).unwrap();
    atlas.manifest().conditions.perturbations()[1].clone()
}

fn near(found: &[f32], expected: &[f32]) {
    for (found, expected) in found.iter().zip(expected) {
        assert!((found - expected).abs() <= 1e-4 * expected.abs().max(1e-3), "{found} is not {expected}");
    }
    assert_eq!(found.len(), expected.len());
}

#[test]
fn scaled_predictions_are_the_counts_of_cells_of_one_size() {
    let to = format!("--to condition={},dose=1 --output cells", single());
    let counts = lists(&predicted("m", &to), "expression");
    let table = predicted("m", &format!("{to} --output-scale cp10k"));
    assert_eq!(table.schema().metadata()["scale"], "cp10k");
    let logs = lists(&predicted("m", &format!("{to} --output-scale log1p_cp10k")), "expression");
    for ((counts, scaled), logs) in counts.iter().zip(lists(&table, "expression")).zip(logs) {
        let sum: f32 = counts.iter().sum();
        near(&scaled, &counts.iter().map(|count| count / sum * 1e4).collect::<Vec<_>>());
        near(&logs, &scaled.iter().map(|scaled| scaled.ln_1p()).collect::<Vec<_>>());
    }
    let message = refused(2, "predict m s.atlas --to observed --output-scale values --out x");
    says(&message, &["counts", "values", "--output-scale"]);
}

#[test]
fn means_on_a_scale_are_means_of_cells_on_that_scale() {
    let to = format!("--to condition={},dose=1,cell_type=type_0 --output-scale log1p_cp10k", single());
    let cells = predicted("m", &format!("{to} --output cells"));
    let means = predicted("m", &to);
    let batches = texts(&cells, "batch");
    for (row, batch) in texts(&means, "batch").iter().enumerate() {
        let of_batch: Vec<Vec<f32>> = lists(&cells, "expression")
            .into_iter()
            .zip(&batches)
            .filter(|(_, own)| *own == batch)
            .map(|(x, _)| x)
            .collect();
        let mean: Vec<f32> =
            (0..60).map(|gene| of_batch.iter().map(|cell| cell[gene]).sum::<f32>() / of_batch.len() as f32).collect();
        near(&lists(&means, "mean")[row], &mean);
        assert!(lists(&means, "variance")[row].iter().all(|variance| *variance >= 0.0 && variance.is_finite()));
    }
}

#[test]
fn a_library_is_what_predicted_counts_add_up_to() {
    let to = format!("--to condition={},dose=1 --output cells", single());
    let sums =
        |table: &RecordBatch| -> Vec<f32> { lists(table, "expression").iter().map(|cell| cell.iter().sum()).collect() };
    assert!(sums(&predicted("m", &format!("{to} --library 500"))).iter().all(|sum| (sum - 500.0).abs() < 0.05));
    let mut own = sums(&predicted("m", &to));
    own.sort_by(f32::total_cmp);
    let median = sums(&predicted("m", &format!("{to} --library median")));
    assert!((median[0] - own[own.len() / 2]).abs() < 0.01 * median[0], "{} is the median of {own:?}", median[0]);
    says(&refused(2, "predict m s.atlas --to observed --library -3 --out x"), &["-3"]);
    says(&refused(2, "predict m s.atlas --to observed --library 1e300 --out x"), &["float32"]);
}

#[test]
fn a_change_is_between_cells_of_one_size() {
    let to = format!("--to condition={},dose=1", single());
    let (own, large) = (predicted("m", &to), predicted("m", &format!("{to} --library 5000")));
    let sum = |lists: &[Vec<f32>]| lists[0].iter().sum::<f32>();
    assert!((sum(&lists(&large, "mean")) - 5000.0).abs() < 1.0);
    assert!((sum(&lists(&large, "control_mean")) - 5000.0).abs() < 1.0, "so are the controls");
    assert!(sum(&lists(&own, "control_mean")) < 4000.0);
}

#[test]
fn genes_are_those_of_a_file_or_those_that_change() {
    let to = format!("--to condition={},dose=1", single());
    let whole = predicted("m", &to);
    let all = genes(&whole);
    fs::write(HOME.path("genes.txt"), format!("{}\n{}\n", all[7], all[3])).unwrap();
    let some = predicted("m", &format!("{to} --genes genes.txt"));
    assert_eq!(genes(&some), [all[3].clone(), all[7].clone()], "in the model's order");
    for (some, whole) in lists(&some, "mean").iter().zip(lists(&whole, "mean")) {
        assert_eq!(*some, [whole[3], whole[7]]);
    }
    let changed = predicted("m", &format!("{to} --genes deg --top 4"));
    let atlas = stages::reader::atlas::Atlas::open(HOME.path("s.atlas")).unwrap();
    let groups = stages::reader::group_statistics::summaries(&atlas, 4).unwrap().unwrap();
    let of_it = groups.iter().filter(|group| group.condition == single());
    let expected: BTreeSet<&String> = of_it.flat_map(|group| &group.differential).map(|gene| &gene.gene).collect();
    assert!(expected.len() >= 4);
    let in_order: Vec<String> = all.iter().filter(|gene| expected.contains(gene)).cloned().collect();
    assert_eq!(genes(&changed), in_order, "four of each group of that condition");
    fs::write(HOME.path("wrong.txt"), "no-such-gene\n").unwrap();
    says(&refused(65, &format!("predict m s.atlas {to} --genes wrong.txt --out x")), &["no-such-gene", "line 1"]);
}

#[test]
fn long_tables_can_hold_the_genes_that_change_most() {
    let to = format!("--to condition={},dose=1", single());
    let long = predicted("m", &format!("{to} --layout long --top 3"));
    let wide = predicted("m", &to);
    assert_eq!(long.num_rows(), 3 * wide.num_rows());
    let largest = lists(&wide, "delta")[0].iter().map(|delta| delta.abs()).fold(0.0, f32::max);
    let changes: Vec<f32> = numbers(&long, "delta").iter().map(|delta| delta.abs()).collect();
    assert_eq!(changes[0], largest);
    assert!(changes[1] <= changes[0] && changes[2] <= changes[1]);
    says(&refused(2, &format!("predict m s.atlas {to} --top 3 --out x")), &["--layout long"]);
}

#[test]
fn draws_of_a_variational_model_scatter_around_its_mean_and_repeat() {
    let to = format!("--to condition={},dose=1", single());
    let mean = lists(&predicted("v", &to), "mean");
    let drawn = |samples: &str| lists(&predicted("v", &format!("{to} --samples {samples}")), "mean");
    let (once, many) = (drawn("1"), drawn("40"));
    assert_eq!(once, drawn("1"), "draws repeat");
    assert_ne!(once, mean);
    assert_ne!(once, lists(&predicted("v", &format!("{to} --samples 1 --seed 2")), "mean"));
    assert_eq!(source_cells(&predicted("v", &format!("{to} --samples 3"))), source_cells(&predicted("v", &to)));
    let off =
        |of: &[Vec<f32>]| -> f32 { of.concat().iter().zip(mean.concat()).map(|(a, b)| (a - b).powi(2)).sum::<f32>() };
    assert!(off(&many) < off(&once), "many draws lie nearer to the mean than one");
    says(&refused(2, &format!("predict m s.atlas {to} --samples 5 --out x")), &["variational"]);
}

#[test]
fn latents_add_up_from_cell_to_condition_to_batch() {
    let to = format!("--to condition={},dose=1", single());
    let table = predicted("m", &format!("{to} --output latent"));
    let [basal, corrected, after] = ["basal", "corrected", "after"].map(|column| lists(&table, column));
    assert_eq!((basal[0].len(), corrected[0].len(), after[0].len()), (8, 8, 8));
    says(
        &refused(2, &format!("predict m s.atlas {to} --output latent --library 5 --out x")),
        &["latents", "--library"],
    );
    let batches = texts(&table, "batch");
    let difference = |a: &[f32], b: &[f32]| -> Vec<f32> { a.iter().zip(b).map(|(a, b)| a - b).collect() };
    let types = texts(&table, "cell_type");
    for row in 1..table.num_rows() {
        if types[row] == types[0] {
            near_enough(&difference(&corrected[row], &basal[row]), &difference(&corrected[0], &basal[0]));
        }
        if batches[row] == batches[0] {
            near_enough(&difference(&after[row], &corrected[row]), &difference(&after[0], &corrected[0]));
        }
    }
}

fn near_enough(a: &[f32], b: &[f32]) {
    assert!(a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-4), "{a:?} are not {b:?}");
}

#[test]
fn embedded_cells_are_under_their_own_conditions() {
    let out = HOME.path("embedded.parquet");
    HOME.json("embed m s.atlas --out embedded.parquet");
    let table = read(&out);
    assert_eq!(table.num_rows(), 600);
    let labels = ["cell", "condition", "dose", "cell_type", "batch", "basal", "corrected", "after"];
    let schema = table.schema();
    let columns: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    assert_eq!(columns, labels);
    let single = single();
    let predicted =
        predicted("m", &format!("--to condition={single},dose=1 --from condition={single},dose=1 --output latent"));
    let rows_by_name: std::collections::HashMap<String, usize> = texts(&table, "cell").into_iter().zip(0..).collect();
    assert!(predicted.num_rows() > 0);
    for (row, name) in texts(&predicted, "cell").iter().enumerate() {
        let own = rows_by_name[name];
        for column in ["basal", "corrected", "after"] {
            near_enough(&lists(&predicted, column)[row], &lists(&table, column)[own]);
        }
    }
}

#[test]
fn what_a_model_does_not_know_is_null_when_cells_are_embedded() {
    let single = single();
    HOME.json(&format!("train s.atlas --out less --hold-out condition={single} --epochs 1 {TINY}"));
    let singles_of = |table: &RecordBatch| -> Vec<usize> {
        let conditions = texts(table, "condition");
        (0..table.num_rows()).filter(|row| conditions[*row].split('+').any(|part| part == single)).collect()
    };
    // Combinations with it are trained on, so nothing is unknown.
    HOME.json("embed less s.atlas --out less.parquet");
    assert!(lists(&read(&HOME.path("less.parquet")), "after").iter().all(|after| after.len() == 8));
    let all = format!("--drop-label {single} --drop-label {single}+* --drop-label *+{single}");
    HOME.json(&format!("ingest s.h5ad --batch batch {all} --out few.atlas"));
    HOME.json(&format!("train few.atlas --out few --epochs 1 {TINY}"));
    HOME.json("embed few s.atlas --out few.parquet");
    let table = read(&HOME.path("few.parquet"));
    let unknown = singles_of(&table);
    let after = lists(&table, "after");
    assert!(!unknown.is_empty() && unknown.len() < 600);
    assert!((0..600).all(|row| after[row].is_empty() == unknown.contains(&row)));
    assert!(lists(&table, "basal").iter().all(|basal| basal.len() == 8));
}

#[test]
fn embedding_tables_say_how_alike_their_rows_are() {
    HOME.json("embed m --of perturbations --out perturbations.parquet");
    let table = read(&HOME.path("perturbations.parquet"));
    assert_eq!(texts(&table, "perturbation").len(), 1 + 4);
    let embedding = lists(&table, "embedding");
    let similarity = table.column_by_name("similarity").unwrap().as_list::<i32>();
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    for row in 0..similarity.len() {
        let row_of = similarity.value(row);
        for (other, found) in row_of.as_primitive::<Float32Type>().values().iter().enumerate() {
            let (a, b) = (&embedding[row], &embedding[other]);
            let expected = dot(a, b) / (dot(a, a) * dot(b, b)).sqrt();
            assert!((found - expected).abs() < 1e-5, "{found} is not {expected}");
        }
    }
    HOME.json("embed m --of covariates --out covariates.parquet");
    let table = read(&HOME.path("covariates.parquet"));
    assert_eq!(texts(&table, "covariate"), ["cell_type", "cell_type", "batch", "batch"]);
    says(&refused(2, "embed m --out x"), &["atlas"]);
}

#[test]
fn source_cells_match_in_as_many_covariates_as_are_asked() {
    let to = format!("--to condition={},dose=1", single());
    let all = predicted("m", &to);
    let some = predicted("m", &format!("{to} --match cell_type"));
    assert_eq!((all.num_rows(), some.num_rows()), (4, 4), "two cell types in two batches");
    let of_type = |table: &RecordBatch, cell_type: &str| -> Vec<u64> {
        texts(table, "cell_type")
            .iter()
            .zip(source_cells(table))
            .filter(|(own, _)| *own == cell_type)
            .map(|(_, cells)| cells)
            .collect()
    };
    for cell_type in ["type_0", "type_1"] {
        let sum: u64 = of_type(&all, cell_type).iter().sum();
        assert_eq!(of_type(&some, cell_type), [sum, sum], "controls of either batch");
    }
    says(&refused(65, &format!("predict m s.atlas {to} --match plate --out x")), &["plate", "cell_type"]);
}

#[test]
fn what_is_predicted_for_one_batch_is_predicted_once_from_the_cells_of_all() {
    let to = format!("--to condition={},dose=1", single());
    let all = predicted("m", &to);
    let value = texts(&all, "batch")[0].clone();
    let one = predicted("m", &format!("{to} --batch {value}"));
    assert_eq!(texts(&one, "batch"), [value.clone(), value.clone()], "once for each of two cell types");
    assert_eq!(source_cells(&one).iter().sum::<u64>(), source_cells(&all).iter().sum::<u64>());
    let from = predicted("m", &format!("{to} --from condition=ctrl --to observed"));
    let mut rows: Vec<[String; 4]> = Vec::new();
    for row in 0..from.num_rows() {
        rows.push(["condition", "dose", "cell_type", "batch"].map(|column| texts(&from, column)[row].clone()));
    }
    let distinct: std::collections::BTreeSet<_> = rows.iter().collect();
    assert_eq!(distinct.len(), rows.len(), "a request by name and one by a word are one request");
}

#[test]
fn a_new_batch_is_no_matter_where_the_batch_is_averaged_or_left_out() {
    HOME.json("ingest s.h5ad --batch batch --filter batch=batch_0 --out batch.atlas");
    HOME.json(&format!("train batch.atlas --out of-batch --epochs 1 {TINY}"));
    let to = format!("predict of-batch s.atlas --to condition={},dose=1", single());
    says(&refused(65, &format!("{to} --out x")), &["batch_1", "batch_0"]);
    for choice in ["average", "none"] {
        HOME.json(&format!("{to} --batch {choice} --out of-{choice}.parquet"));
        let mut batches = texts(&read(&HOME.path(&format!("of-{choice}.parquet"))), "batch");
        batches.sort();
        assert_eq!(batches, ["batch_0", "batch_0", "batch_1", "batch_1"]);
    }
}

#[test]
fn combinations_without_controls_are_refused_skipped_or_borrow() {
    let single = single();
    // In this atlas the controls of one cell type are of one batch only.
    HOME.json("ingest s.h5ad --batch batch --filter cell_type=type_0 --out one.atlas");
    let to = format!("predict m one.atlas --to condition={single},dose=1,cell_type=type_1");
    says(&refused(65, &format!("{to} --out x")), &["no source cells", "cell_type=type_1", "--no-control"]);
    let skipped = HOME.json(&format!("{to} --no-control skip --out skipped.parquet"));
    assert_eq!((skipped["rows"].as_u64(), skipped["skipped"].as_array().map(Vec::len)), (Some(0), Some(2)));
    HOME.json(&format!("{to} --no-control borrow --out borrowed.parquet"));
    let borrowed = read(&HOME.path("borrowed.parquet"));
    assert_eq!(texts(&borrowed, "cell_type"), ["type_1", "type_1"]);
    let mut batches = texts(&borrowed, "batch");
    batches.sort();
    batches.dedup();
    assert_eq!(batches.len(), 2, "each batch borrows from its own cells of the other type");
}

#[test]
fn covariates_that_were_not_trained_on_have_a_stand_in() {
    let single = single();
    HOME.json("ingest s.h5ad --batch batch --filter cell_type=type_0 --out trained.atlas");
    HOME.json(&format!("train trained.atlas --out t --epochs 1 {TINY}"));
    let to = format!("predict t s.atlas --to condition={single},dose=1,cell_type=type_1");
    says(&refused(65, &format!("{to} --out x")), &["type_1", "type_0"]);
    for choice in ["mean", "nearest"] {
        let name = format!("{choice}.parquet");
        HOME.json(&format!("{to} --unseen-covariate {choice} --out {name}"));
        let table = read(&HOME.path(&name));
        assert_eq!(texts(&table, "cell_type"), ["type_1", "type_1"]);
        assert!(texts(&table, "extrapolation").iter().all(|how| how == "covariate"));
    }
    let [mean, nearest] = ["mean", "nearest"].map(|name| lists(&read(&HOME.path(&format!("{name}.parquet"))), "mean"));
    for (mean, nearest) in mean.iter().zip(&nearest) {
        near(mean, nearest);
    }
}

#[test]
fn a_response_is_a_curve_for_each_context() {
    let single = single();
    let result =
        HOME.json(&format!("response m s.atlas --condition {single} --doses 0:1:0.5 --genes 3 --out r.parquet"));
    let curves = result["curves"].as_array().unwrap();
    assert_eq!((curves.len(), result["genes"].as_array().unwrap().len()), (4, 3));
    for curve in curves {
        let points = curve["points"].as_array().unwrap();
        let doses: Vec<&str> = points.iter().map(|point| point["dose"].as_str().unwrap()).collect();
        assert_eq!(doses, ["0", "0.5", "1"]);
        assert_eq!((points[2]["extrapolation"].as_str(), points[2]["distance"].as_f64()), (Some("seen"), Some(0.0)));
        assert!(points[0]["distance"].as_f64().unwrap() > 0.0, "a dose that was not trained is at a distance");
        let change = |at: usize| points[at]["change"][0].as_f64().unwrap();
        let mean = |at: usize| points[at]["mean"][0].as_f64().unwrap() - curve["control"][0].as_f64().unwrap();
        assert!((0..3).all(|at| (change(at) - mean(at)).abs() < 1e-3));
    }
    let table = read(&HOME.path("r.parquet"));
    assert_eq!(table.num_rows(), 4 * 3 * 3);
    let result = HOME.json(&format!("response m s.atlas --condition {single} --doses 0.75,1,9 --genes 1"));
    let points = result["curves"][0]["points"].as_array().unwrap();
    let were: Vec<&str> = points.iter().map(|point| point["dose_was"].as_str().unwrap()).collect();
    assert_eq!(were, ["interpolated", "trained", "extrapolated"]);

    let wide = predicted("m", &format!("--to condition={single},dose=1"));
    let found = curves[0]["covariates"]["cell_type"].as_str().unwrap();
    assert!(texts(&wide, "cell_type").iter().any(|own| own == found));
}

#[test]
fn a_pair_responds_on_a_grid() {
    let atlas = stages::reader::atlas::Atlas::open(HOME.path("s.atlas")).unwrap();
    let names = atlas.manifest().conditions.perturbations();
    let pair = format!("{}+{}", names[1], names[2]);
    let result = HOME.json(&format!("response m s.atlas --condition {pair} --doses 0,1 --doses 0.5,1,2 --genes 1"));
    let points = result["curves"][0]["points"].as_array().unwrap();
    assert_eq!(points.len(), 2 * 3);
    assert_eq!(points[5]["dose"], "1+2");
    let refused = refused(2, &format!("response m s.atlas --condition {pair} --doses 1 --doses 1 --doses 1"));
    says(&refused, &["2 perturbations", "3 lists"]);
}
