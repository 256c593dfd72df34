//! An atlas's statistics of its groups agree with a pass over every cell.

use std::fs;

use arrow::{
    array::{AsArray, RecordBatch},
    datatypes::{Float32Type, Float64Type, UInt64Type},
};
use perturbine::flows::ingesting::IngestOptions;
use schemas::{
    chunk::{Chunk, CsrRows},
    ids::CellIndex,
};
use stages::{ingest::census::ValuesAs, reader::atlas::Atlas};

use crate::support::{Home, ingest_chunk, parquet::read, simulator};

fn list(table: &RecordBatch, column: &str, row: usize) -> Vec<f64> {
    let column = table.column_by_name(column).unwrap();
    let values = match column.as_fixed_size_list_opt() {
        Some(lists) => lists.value(row),
        None => column.as_list::<i32>().value(row),
    };
    values.as_primitive::<Float32Type>().values().iter().map(|value| f64::from(*value)).collect()
}

fn names(table: &RecordBatch, row: usize) -> Vec<String> {
    let names = table.column_by_name("differential_genes").unwrap().as_list::<i32>().value(row);
    names.as_string::<i32>().iter().map(|name| name.unwrap().to_owned()).collect()
}

fn number(table: &RecordBatch, column: &str, row: usize) -> f64 {
    table.column_by_name(column).unwrap().as_primitive::<Float64Type>().value(row)
}

fn text(table: &RecordBatch, column: &str, row: usize) -> String {
    table.column_by_name(column).unwrap().as_string::<i32>().value(row).to_owned()
}

/// Every value of the cells of a group, dense.
fn cells_of(atlas: &Atlas, chunk: &Chunk, label: &[String; 3]) -> Vec<Vec<f64>> {
    let conditions = &atlas.manifest().conditions;
    let belongs = |cell: &CellIndex| {
        let condition = atlas.condition(*cell);
        conditions.name(condition) == label[0]
            && conditions.dose_label(condition) == label[1]
            && atlas.covariate_values(atlas.covariates(*cell)) == label[2..]
    };
    let cells = (0..atlas.cells()).map(CellIndex).filter(belongs);
    let dense = cells.map(|cell| {
        let mut row = vec![0.0; atlas.genes().len()];
        let (genes, values) = chunk.expression.row(cell.index());
        genes.iter().zip(values).for_each(|(gene, value)| row[*gene as usize] = f64::from(*value));
        row
    });
    dense.collect()
}

fn mean_and_variance(cells: &[Vec<f64>], gene: usize, of: impl Fn(f64) -> f64) -> (f64, f64) {
    let values: Vec<f64> = cells.iter().map(|cell| of(cell[gene])).collect();
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    (mean, values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / values.len() as f64)
}

#[track_caller]
fn near(found: f64, expected: f64, what: &str) {
    assert!((found - expected).abs() <= 1e-5 * (1.0 + expected.abs()), "{what}: {found}, not {expected}");
}

fn label(table: &RecordBatch, row: usize) -> [String; 3] {
    ["condition", "dose", "cell_type"].map(|column| text(table, column, row))
}

fn check(atlas: &Atlas, chunk: &Chunk, of: impl Fn(f64) -> f64 + Copy) {
    let table = read(&atlas.path().join("statistics.parquet"));
    let genes: Vec<String> = serde_json::from_str(&table.schema().metadata()["genes"]).unwrap();
    assert_eq!(genes, atlas.genes());
    let mut counted = 0;
    for row in 0..table.num_rows() {
        let label = label(&table, row);
        let cells = cells_of(atlas, chunk, &label);
        let what = format!("{label:?}");
        counted += cells.len() as u64;
        let found = table.column_by_name("cells").unwrap().as_primitive::<UInt64Type>().value(row);
        assert_eq!(found, cells.len() as u64, "{what}");
        let libraries: Vec<f64> = cells.iter().map(|cell| cell.iter().sum()).collect();
        let mean = libraries.iter().sum::<f64>() / libraries.len() as f64;
        let spread = libraries.iter().map(|library| (library - mean).powi(2)).sum::<f64>() / libraries.len() as f64;
        near(number(&table, "library_mean", row), mean, &what);
        near(number(&table, "library_sd", row), spread.sqrt(), &what);
        near(number(&table, "library_min", row), libraries.iter().copied().fold(f64::INFINITY, f64::min), &what);
        near(number(&table, "library_max", row), libraries.iter().copied().fold(f64::NEG_INFINITY, f64::max), &what);
        let detected: usize = cells.iter().flatten().filter(|value| **value != 0.0).count();
        near(number(&table, "detected_genes", row), detected as f64 / cells.len() as f64, &what);

        let is_control = |other: &usize| {
            let control = table.column_by_name("control").unwrap().as_boolean().value(*other);
            control && text(&table, "cell_type", *other) == label[2]
        };
        let control = cells_of(atlas, chunk, &self::label(&table, (0..table.num_rows()).find(is_control).unwrap()));
        let (means, variances) = (list(&table, "mean", row), list(&table, "variance", row));
        let mut scores: Vec<(f64, String)> = Vec::new();
        for gene in 0..genes.len() {
            let (mean, variance) = mean_and_variance(&cells, gene, of);
            near(means[gene], mean, &what);
            near(variances[gene], variance, &what);
            let (start, noise) = mean_and_variance(&control, gene, of);
            let error = variance / cells.len() as f64 + noise / control.len() as f64 + 1e-9;
            scores.push(((mean - start).abs() / error.sqrt(), genes[gene].clone()));
        }
        scores.sort_by(|a, b| b.0.total_cmp(&a.0));
        if label[0] == "ctrl" {
            assert!(names(&table, row).is_empty());
        } else {
            let found = list(&table, "differential_scores", row);
            assert_eq!(found.len(), genes.len().min(100));
            found.iter().zip(&scores).for_each(|(found, (expected, _))| near(*found, *expected, &what));
            let clear = (0..20).take_while(|at| scores[*at].0 - scores[at + 1].0 > 1e-6).count();
            let expected: Vec<&String> = scores[..clear].iter().map(|(_, name)| name).collect();
            assert_eq!(names(&table, row)[..clear].iter().collect::<Vec<_>>(), expected, "{what}");
        }
    }
    assert_eq!(counted, atlas.cells(), "every cell is of one group");
}

#[test]
fn means_variances_libraries_and_differential_genes_are_those_of_the_cells() {
    let home = Home::new();
    let simulator = simulator(600, true);
    let chunk = simulator.chunk(0..600).unwrap();
    let counts = ingest_chunk(&chunk, simulator.genes(), &home.path("counts.atlas"), &IngestOptions::default());
    check(&counts, &chunk, f64::ln_1p);
    let table = read(&counts.path().join("statistics.parquet"));
    let cells = cells_of(&counts, &chunk, &label(&table, 1));
    let mean_counts = list(&table, "mean_count", 1);
    (0..60).for_each(|gene| near(mean_counts[gene], mean_and_variance(&cells, gene, |count| count).0, "mean count"));

    let rows = &chunk.expression;
    let values = rows.values().iter().map(|value| value - 2.25).collect();
    let expression = CsrRows::canonical(rows.row_pointers().to_vec(), rows.genes().to_vec(), values, 60).unwrap();
    let other = Chunk { expression, ..chunk.clone() };
    let options = IngestOptions { values: ValuesAs::Continuous, ..IngestOptions::default() };
    let values = ingest_chunk(&other, simulator.genes(), &home.path("values.atlas"), &options);
    check(&values, &other, |value| value);
}

#[test]
fn statistics_depend_neither_on_threads_nor_on_how_rows_are_kept() {
    let home = Home::with_atlas();
    let first = fs::read(home.path("s.atlas/statistics.parquet")).unwrap();
    for (at, way) in
        ["--threads 1 ingest", "--threads 5 ingest --compress", "ingest --no-shuffle"].into_iter().enumerate()
    {
        home.json(&format!("{way} s.h5ad --out {at}.atlas"));
        assert!(fs::read(home.path(&format!("{at}.atlas/statistics.parquet"))).unwrap() == first, "{way}");
    }
    assert_eq!(home.json("verify s.atlas")["damaged"].as_array().unwrap().len(), 0);
    let left: Vec<_> = home.listing().into_iter().filter(|(path, _)| path.to_string_lossy().contains("tmp")).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn inspect_shows_the_statistics_on_request() {
    let home = Home::with_atlas();
    let result = home.json("inspect s.atlas --statistics");
    let groups = result["statistics"].as_array().unwrap();
    let cells: u64 = groups.iter().map(|group| group["cells"].as_u64().unwrap()).sum();
    assert_eq!(cells, 600);
    assert!(groups[0]["differential"].as_array().unwrap().is_empty() && groups[0]["condition"] == "ctrl");
    assert_eq!(groups[1]["differential"].as_array().unwrap().len(), 20);
    assert!(home.run("inspect s.atlas --statistics").stdout.contains("differential genes"));
    assert!(home.json("inspect s.atlas").get("statistics").is_none());
    assert_eq!(home.run("inspect s.h5ad --statistics").code, 2);
}
