//! Properties of `judge`: predictions of any model, in any notation, are compared with real cells as `evaluate` compares them.

use std::fs;

use arrow::{
    array::{AsArray, UInt64Array},
    compute::take_record_batch,
};
use schemas::{
    chunk::{Chunk, CsrRows},
    ids::CellIndex,
};
use serde_json::Value;
use stages::reader::{
    atlas::Atlas,
    split::{Split, SplitPart},
};

use super::{CELLS, number, screen};
use crate::support::{
    Home, TINY,
    h5ad::{set_column, write_h5ad},
    python::{python_with, run},
    says,
};

const GENES: u32 = 200;

/// The atlas `a.atlas` with a split `s` that holds out two conditions in one cell type, and the held-out cells.
struct Screen {
    home: Home,
    genes: Vec<String>,
    all: Chunk,
    held_out: Vec<usize>,
}

impl Screen {
    fn new() -> Self {
        let simulator = screen(GENES);
        let screen = Self {
            home: Home::new(),
            genes: simulator.genes().to_vec(),
            all: simulator.chunk(0..CELLS).unwrap(),
            held_out: Vec::new(),
        };
        screen.write("a.h5ad", &screen.all);
        screen.home.json("ingest a.h5ad --out a.atlas --dose=");
        let perturbations: Vec<String> = screen.singles();
        let held_out = perturbations[..2].iter().map(|name| format!("--hold-out condition={name},cell_type=type_0"));
        screen.home.json(&format!("split a.atlas --name s {}", held_out.collect::<Vec<_>>().join(" ")));
        let (conditions, types) = (screen.column("condition"), screen.column("cell_type"));
        let is_held_out = |row: &usize| perturbations[..2].contains(&conditions[*row]) && types[*row] == "type_0";
        Self { held_out: (0..conditions.len()).filter(is_held_out).collect(), ..screen }
    }

    fn column(&self, name: &str) -> Vec<String> {
        let column = self.all.obs.column_by_name(name).unwrap();
        column.as_string::<i32>().iter().map(|value| value.unwrap().to_owned()).collect()
    }

    fn singles(&self) -> Vec<String> {
        let mut names = self.column("condition");
        names.retain(|name| name != "ctrl" && !name.contains('+'));
        names.sort();
        names.dedup();
        names
    }

    fn write(&self, name: &str, chunk: &Chunk) {
        write_h5ad(&self.home.path(name), &self.genes, chunk);
    }

    /// These rows, each with the values of another one.
    fn rows(&self, rows: &[usize], values_of: &[usize]) -> Chunk {
        let indices = UInt64Array::from_iter_values(rows.iter().map(|row| *row as u64));
        let obs = take_record_batch(&self.all.obs, &indices).unwrap();
        let (mut pointers, mut genes, mut values) = (vec![0], Vec::new(), Vec::new());
        for row in values_of {
            let (of_row, numbers) = self.all.expression.row(*row);
            genes.extend_from_slice(of_row);
            values.extend_from_slice(numbers);
            pointers.push(u32::try_from(genes.len()).unwrap());
        }
        let expression = CsrRows::canonical(pointers, genes, values, GENES).unwrap();
        Chunk { first: self.all.first, expression, obs }
    }

    /// The held-out cells themselves, with other numbers.
    fn truth(&self, convert: impl Fn(f32, f32) -> f32) -> Chunk {
        let mut chunk = self.rows(&self.held_out, &self.held_out);
        let rows = &chunk.expression;
        let mut values = Vec::new();
        for row in 0..rows.rows() {
            let numbers = rows.row(row).1;
            let sum: f32 = numbers.iter().sum();
            values.extend(numbers.iter().map(|value| convert(*value, sum)));
        }
        chunk.expression =
            CsrRows::canonical(rows.row_pointers().to_vec(), rows.genes().to_vec(), values, GENES).unwrap();
        chunk
    }

    fn judged(&self, line: &str) -> Value {
        self.home.json(&format!("judge {line} --truth a.atlas"))
    }
}

#[test]
fn the_real_cells_are_a_perfect_prediction_in_every_notation() {
    let screen = Screen::new();
    screen.write("counts.h5ad", &screen.truth(|value, _| value));
    screen.write("log.h5ad", &screen.truth(|value, sum| (value / sum * 1e4).ln_1p()));
    screen.write("other.h5ad", &screen.truth(|value, sum| (value / sum * 2500.0).ln_1p()));
    let together = screen.judged("counts.h5ad log.h5ad");
    let other = screen.judged("other.h5ad --target-sum 2500");
    let all = [&together["predictions"][0], &together["predictions"][1], &other["predictions"][0]];
    assert_eq!(all.map(|one| one["name"].as_str().unwrap()), ["counts.h5ad", "log.h5ad", "other.h5ad"]);
    for one in all {
        let mean = &one["mean"];
        assert!(
            (number(&mean["r2_mean"]) - 1.0).abs() < 1e-6 && (number(&mean["r2_var"]) - 1.0).abs() < 1e-5,
            "{mean}"
        );
        assert!(number(&mean["e_distance"]).abs() < 1e-6 && number(&mean["rank"]) > 0.99, "{mean}");
        assert!((number(&mean["pearson_delta"]) - number(&all[0]["mean"]["pearson_delta"])).abs() < 1e-5);
    }
    assert_eq!((&together["scale"], &together["strict"]), (&Value::from("log1p_cp10k"), &Value::from(true)));
    let share = &together["predictions"][0]["range"]["pearson_delta"];
    assert!(number(share) > 0.99, "real cells are as good as a duplicate of them: {share}");
    assert_eq!(together["baselines"], other["baselines"], "baselines know nothing of a prediction");
    for scale in ["log1p", "pseudobulk"] {
        let mean = &screen.judged(&format!("counts.h5ad --scale {scale}"))["predictions"][0]["mean"];
        assert!((number(&mean["r2_mean"]) - 1.0).abs() < 1e-6, "{scale}: {mean}");
    }
}

#[test]
fn chosen_scores_are_those_of_all_and_the_others_are_left_out() {
    let screen = Screen::new();
    screen.write("log.h5ad", &screen.truth(|value, sum| (value / sum * 1e4).ln_1p()));
    let all = screen.judged("log.h5ad");
    for (chosen, names) in [
        ("mse_delta,rank", &["mse_delta", "pearson_delta", "rank"][..]),
        ("cells", &["e_distance", "mmd", "pearson_delta"]),
        ("pr_auc", &["pearson_delta", "pr_auc"]),
    ] {
        let some = screen.judged(&format!("log.h5ad --scores {chosen}"));
        let [all, some] = [&all, &some].map(|judged| &judged["predictions"][0]);
        let mut found: Vec<&String> = some["mean"].as_object().unwrap().keys().collect();
        found.sort();
        assert_eq!(found, names);
        for name in names {
            for of in ["mean", "range", "median"] {
                assert_eq!(some[of][name], all[of][name], "{of} of {name}");
            }
            assert_eq!(some["conditions"][0]["ceiling"][name], all["conditions"][0]["ceiling"][name]);
        }
        let verdict = |one: &Value| one["summary"].as_str().unwrap().split(';').next().map(str::to_owned);
        assert_eq!(verdict(some), verdict(all));
    }
    says(&screen.home.refused(2, "judge log.h5ad --truth a.atlas --scores mse"), &["`mse` is not a score", "means"]);
}

#[test]
fn controls_and_shuffled_cells_are_no_prediction() {
    let screen = Screen::new();
    let (conditions, types) = (screen.column("condition"), screen.column("cell_type"));
    // Controls that real changes are measured from would be a prediction of the opposite of their noise.
    let atlas = Atlas::open(screen.home.path("a.atlas")).unwrap();
    let split = Split::read(&atlas, "s").unwrap();
    let trains = |row: usize| split.part(CellIndex(row as u64)) == SplitPart::Train;
    let is_source = |row: &usize| conditions[*row] == "ctrl" && types[*row] == "type_0" && trains(*row);
    let controls: Vec<usize> = (0..conditions.len()).filter(is_source).collect();
    let count = screen.held_out.len();
    let values_of: Vec<usize> = (0..count).map(|at| controls[at % controls.len()]).collect();
    screen.write("controls.h5ad", &screen.rows(&screen.held_out, &values_of));
    let shuffled: Vec<usize> = (0..count).map(|at| screen.held_out[(at * 7 + 3) % count]).collect();
    screen.write("shuffled.h5ad", &screen.rows(&screen.held_out, &shuffled));
    let judged = screen.judged("controls.h5ad shuffled.h5ad");
    for one in judged["predictions"].as_array().unwrap() {
        assert!(!one["summary"].as_str().unwrap().contains("better than"), "{}", one["summary"]);
    }
    let of_controls = &judged["predictions"][0]["mean"];
    assert!(number(&of_controls["pearson_delta"]).abs() < 0.2, "{of_controls}");
    let no_change = &judged["baselines"]["control"];
    assert!(number(&of_controls["mse_delta"]) > 0.9 * number(&no_change["mse_delta"]), "{of_controls}");
}

#[test]
fn genes_that_are_not_predicted_are_left_out_and_counted() {
    let screen = Screen::new();
    let chunk = screen.truth(|value, sum| (value / sum * 1e4).ln_1p());
    let (mut pointers, mut genes, mut values) = (vec![0], Vec::new(), Vec::new());
    for row in 0..chunk.expression.rows() {
        let (of_row, numbers) = chunk.expression.row(row);
        let kept = of_row.iter().zip(numbers).filter(|(gene, _)| **gene < 120);
        kept.for_each(|(gene, value)| {
            genes.push(*gene);
            values.push(*value);
        });
        pointers.push(u32::try_from(genes.len()).unwrap());
    }
    let fewer = Chunk { expression: CsrRows::canonical(pointers, genes, values, 120).unwrap(), ..chunk };
    screen.write("counts.h5ad", &screen.truth(|value, _| value));
    let screen = Screen { genes: screen.genes[..120].to_vec(), ..screen };
    screen.write("fewer.h5ad", &fewer);
    let ran = screen.home.run("--json judge fewer.h5ad --truth a.atlas");
    assert!(ran.stderr.contains("120 of the atlas's 200 genes are compared"), "{}", ran.stderr);
    let judged: Value = serde_json::from_str(&ran.stdout).unwrap();
    let mean = &judged["predictions"][0]["mean"];
    assert!((number(&mean["r2_mean"]) - 1.0).abs() < 1e-6, "the sums of cells are those over all genes: {mean}");
    assert!(number(&mean["e_distance"]).abs() < 1e-6, "{mean}");
    // Counts of all genes have known sums, whatever the file beside them lacks.
    let both = screen.judged("fewer.h5ad counts.h5ad");
    let [of_fewer, of_counts] = [0, 1].map(|at| number(&both["predictions"][at]["mean"]["mse_delta"]));
    assert!((of_fewer - of_counts).abs() < 1e-9, "{of_fewer} and {of_counts}");
}

#[test]
fn genes_that_the_atlas_lacks_change_no_score() {
    let screen = Screen::new();
    screen.write("p.h5ad", &screen.truth(|value, _| value));
    let mut more = screen.truth(|value, _| value);
    let (mut pointers, mut genes, mut values) = (vec![0], Vec::new(), Vec::new());
    for row in 0..more.expression.rows() {
        let (of_row, numbers) = more.expression.row(row);
        genes.extend(of_row.iter().copied().chain([GENES]));
        values.extend(numbers.iter().copied().chain([500.0]));
        pointers.push(u32::try_from(genes.len()).unwrap());
    }
    more.expression = CsrRows::canonical(pointers, genes, values, GENES + 1).unwrap();
    let names = screen.genes.iter().cloned().chain(["another".to_owned()]).collect();
    let screen = Screen { genes: names, ..screen };
    screen.write("more.h5ad", &more);
    let judged = screen.judged("p.h5ad more.h5ad");
    assert_eq!(judged["predictions"][0]["conditions"], judged["predictions"][1]["conditions"]);
    let twice =
        Screen { genes: screen.genes[..200].iter().cloned().chain([screen.genes[0].clone()]).collect(), ..screen };
    twice.write("twice.h5ad", &more);
    says(&twice.home.refused(65, "judge twice.h5ad --truth a.atlas"), &["more genes called", "than the atlas"]);
}

#[test]
fn what_predict_writes_is_judged_as_evaluate_judges_it() {
    let screen = Screen::new();
    let home = &screen.home;
    home.json(&format!("train a.atlas --split s --out m --epochs 1 {TINY}"));
    home.json("predict m a.atlas --to ood --out means");
    let judged = home.json("judge means --truth a.atlas --split s");
    let evaluated = home.json("evaluate m a.atlas --predictions means");
    assert_eq!(judged["scale"], "pseudobulk");
    assert_eq!(judged["predictions"][0]["conditions"], evaluated["conditions"]);
    home.json("predict m a.atlas --to ood --output cells --format h5ad --out cells.h5ad --output-scale log1p_cp10k");
    let judged = home.json("judge cells.h5ad --truth a.atlas --split s");
    assert_eq!(judged["predictions"][0]["conditions"].as_array().unwrap().len(), 2);
    // The file says that its numbers are expected counts, which are not whole numbers.
    home.json("predict m a.atlas --to ood --output cells --out counts.h5ad");
    let judged =
        |line: &str| home.json(&format!("judge counts.h5ad --truth a.atlas --split s{line}"))["predictions"].clone();
    assert_eq!(judged(""), judged(" --values counts"));
    // So does one in another folder, where a file of its name may hold something else.
    fs::create_dir(home.path("elsewhere")).unwrap();
    fs::copy(home.path("cells.h5ad"), home.path("elsewhere/counts.h5ad")).unwrap();
    let mut command = home.command("--json judge ../counts.h5ad --truth ../a.atlas --split s");
    let ran = command.current_dir(home.path("elsewhere")).output().unwrap();
    let moved: Value = serde_json::from_slice(&ran.stdout).unwrap();
    assert_eq!(moved["predictions"][0]["mean"], judged("")[0]["mean"]);
    // Sums of these cells would be over some of the genes.
    fs::write(home.path("some.txt"), &screen.genes[0]).unwrap();
    home.json("predict m a.atlas --to ood --output cells --genes some.txt --out some");
    says(
        &home.refused(65, "judge some --truth a.atlas --split s"),
        &["some: it holds counts of some of the atlas's genes only"],
    );
    // A file that scanpy has normalised since is no longer of counts.
    let Some(python) = python_with("h5py", &["h5py", "numpy"]) else { return };
    let script = "import sys, h5py, numpy as np\nf = h5py.File(sys.argv[1], 'r+')\nx = f['X'][...]\n\
                  f['X'][...] = np.log1p(1e4 * x / x.sum(axis=1, keepdims=True))\nf.create_group('uns/log1p')\n";
    run(&python, script, &[&home.path("counts.h5ad")]);
    assert_eq!(judged(""), judged(" --values log1p_cp10k"));
}

#[test]
fn a_bad_prediction_is_refused_with_its_place() {
    let screen = Screen::new();
    let home = &screen.home;
    let refused = |file: &str, chunk: &Chunk, parts: &[&str]| {
        screen.write(file, chunk);
        says(&home.refused(65, &format!("judge {file} --truth a.atlas")), parts);
    };
    let log = |value: f32, sum: f32| (value / sum * 1e4).ln_1p();
    let truth = screen.truth(log);

    let half = &screen.held_out[..1];
    refused("lacks.h5ad", &screen.rows(half, half), &["lacks 1 of the 2 conditions", "type_0"]);
    refused(
        "nan.h5ad",
        &screen.truth(|value, sum| if value > 8.0 { f32::NAN } else { log(value, sum) }),
        &["in row", "NaN"],
    );
    refused("scale.h5ad", &screen.truth(|value, sum| 7.3 * log(value, sum)), &["times the real ones", "--values"]);
    let unlogged = screen.truth(|value, sum| value / sum * 1e6);
    refused("unlogged.h5ad", &unlogged, &["more than a million times the real ones", "--values"]);
    let mut unlabelled = truth.clone();
    set_column(&mut unlabelled, "condition", "drug", |_, value| value.into());
    refused("label.h5ad", &unlabelled, &["no column of perturbations", "--perturbation"]);
    home.json("judge label.h5ad --truth a.atlas --perturbation drug");
    says(&home.refused(2, "judge label.h5ad label.h5ad --truth a.atlas"), &["label.h5ad is given twice"]);
    let mut no_type = truth.clone();
    set_column(&mut no_type, "cell_type", "type", |_, value| value.into());
    refused("type.h5ad", &no_type, &["no column `cell_type`"]);

    let renamed = Screen { genes: screen.genes.iter().map(|gene| format!("ENSG{gene}")).collect(), ..screen };
    renamed.write("genes.h5ad", &truth);
    let error = renamed.home.refused(65, "judge genes.h5ad --truth a.atlas");
    says(&error, &["none of the genes", "var"]);
}

#[test]
fn one_bad_value_among_counts_is_named_and_makes_them_no_logarithms() {
    let screen = Screen::new();
    // Rows beyond the first range are read after the scale is decided.
    let many = screen.held_out.repeat(1 + 600 / screen.held_out.len());
    let cases =
        [("low", &screen.held_out, 7, -1.0), ("late", &many, many.len() - 1, 0.5), ("half", &screen.held_out, 7, 0.5)];
    for (name, rows, row, value) in cases {
        let chunk = screen.rows(rows, rows);
        let (pointers, genes) = (chunk.expression.row_pointers().to_vec(), chunk.expression.genes().to_vec());
        let (at, mut values) = (pointers[row] as usize, chunk.expression.values().to_vec());
        values[at] = value;
        let place = format!("gene `{}` in row {row} is {value}", screen.genes[genes[at] as usize]);
        let expression = CsrRows::canonical(pointers, genes, values, GENES).unwrap();
        screen.write(&format!("{name}.h5ad"), &Chunk { expression, ..chunk });
        let message = screen.home.refused(65, &format!("judge {name}.h5ad --truth a.atlas"));
        says(&message, &[name, &place, "mostly counts", "--values"]);
    }
    let judged = screen.judged("half.h5ad --values counts");
    assert_eq!(judged["scale"], "log1p_cp10k", "an expected count may be 0.5");
}

#[test]
fn a_card_shows_what_scores_were_computed_from() {
    let screen = Screen::new();
    let home = &screen.home;
    screen.write("p.h5ad", &screen.truth(|value, _| value));
    let judged = home.json("judge p.h5ad --truth a.atlas --card card.json --out page.html");
    let card: Value = serde_json::from_slice(&std::fs::read(home.path("card.json")).unwrap()).unwrap();
    for key in ["split", "data", "scores"] {
        assert_eq!(judged["card"][key], card[key], "{key}");
    }
    assert_eq!(card["predictions"][0]["mean"], judged["predictions"][0]["mean"]);
    assert_eq!(card["part"], "ood");
    assert_eq!(home.run("verify card.json").code, 0);
    let text = std::fs::read_to_string(home.path("card.json")).unwrap();
    std::fs::write(home.path("better.json"), text.replacen("\"r2_mean\": ", "\"r2_mean\": 1", 1)).unwrap();
    assert_ne!(text, std::fs::read_to_string(home.path("better.json")).unwrap());
    assert_eq!(home.run("verify better.json").code, 65, "a score was changed");
    // Another program writes the same numbers with other blanks, or without the checksum.
    std::fs::write(home.path("again.json"), serde_json::to_string(&card).unwrap()).unwrap();
    let ran = home.run("verify again.json");
    assert!(ran.code == 65 && ran.stdout.contains("does not end with a checksum"), "{}", ran.stdout);
    assert!(std::fs::read_to_string(home.path("page.html")).unwrap().contains("p.h5ad"));
    says(&home.refused(2, "judge p.h5ad --truth a.atlas --out page.html"), &["page.html"]);

    std::fs::remove_file(home.path("p.h5ad")).unwrap();
    assert!(home.run("verify card.json").stdout.contains("p.h5ad"));
    screen.write("p.h5ad", &screen.truth(|value, _| value + 1.0));
    let ran = home.run("verify card.json");
    assert_eq!(ran.code, 65);
    assert!(ran.stdout.contains("p.h5ad: is another prediction"), "{}", ran.stdout);
}
