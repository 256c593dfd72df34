//! Atlases that earlier versions wrote are read as they always were.
//!
//! `tests/kept/format-N` holds the same cells as atlases of format N: raw, compressed (`packed` in format 1) and read in place,
//! and packed in format 2; `cells.tsv` says what is in them, as anndata read it from `cells.h5ad`. They are never rewritten: a new
//! format gets its own folder.

use std::{path::PathBuf, sync::Arc};

use arrow::array::AsArray;
use perturbine::{Atlas, Resources, flows};
use schemas::ids::CellIndex;
use stages::{
    batcher::order::{Order, OrderSettings},
    reader::split::SplitPart,
};

fn kept(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/kept").join(name)
}

/// One line per cell, as `cells.tsv` has them.
fn lines(atlas: &Atlas) -> Vec<String> {
    let mut names = Vec::new();
    for batch in atlas.obs(&["cell", "dose"]).unwrap() {
        let batch = batch.unwrap();
        let text =
            |column: usize| arrow::compute::cast(batch.column(column), &arrow::datatypes::DataType::Utf8).unwrap();
        let (cells, doses) = (text(0), text(1));
        let pairs = cells.as_string::<i32>().iter().zip(doses.as_string::<i32>().iter());
        names.extend(pairs.map(|(cell, dose)| (cell.unwrap().to_owned(), dose.unwrap().to_owned())));
    }
    let mut lines = vec![String::new(); names.len()];
    let order = Arc::new(Order::of_cells(atlas, SplitPart::Train, OrderSettings::new(0, 16, 64), Arc::new(|_| true)));
    for rows in flows::rows(atlas, order.epoch(0, 0), &Resources::default()).stream() {
        let rows = rows.unwrap();
        let mut values = vec![Vec::new(); rows.plan.cells.len()];
        rows.expression.for_each(|row, gene, value| values[row].push(format!("{gene}:{value}")));
        for (cell, values) in rows.plan.cells.iter().zip(values) {
            let (name, dose) = &names[cell.index()];
            let condition = atlas.manifest().conditions.name(atlas.condition(*cell));
            let covariates = atlas.covariate_values(atlas.covariates(*cell)).join("\t");
            lines[cell.index()] = format!("{name}\t{condition}\t{dose}\t{covariates}\t{}", values.join(" "));
        }
    }
    lines
}

fn is_read_as_ever(name: &str) {
    let expected = std::fs::read_to_string(kept("format-1/cells.tsv")).unwrap();
    let atlas = Atlas::open(kept(name)).unwrap();
    assert_eq!(atlas.verify().unwrap(), []);
    let found = lines(&atlas);
    assert_eq!(found.len(), 90);
    assert!(found.iter().map(String::as_str).eq(expected.lines().skip(1)), "{name}: {found:#?}");
    assert!(atlas.cell(atlas.row(CellIndex(89))) == CellIndex(89));
}

#[test]
fn a_shuffled_atlas_is_read_as_ever() {
    is_read_as_ever("format-1/shuffled.atlas");
}

#[test]
fn a_compressed_atlas_is_read_as_ever() {
    is_read_as_ever("format-1/packed.atlas");
}

#[test]
fn an_atlas_in_place_is_read_as_ever() {
    is_read_as_ever("format-1/in-place.atlas");
}

#[test]
fn a_packed_atlas_is_read_as_ever() {
    is_read_as_ever("format-2/packed.atlas");
}
