//! An atlas whose matrix stays in its `.h5ad`: the same batches without a copy, and no other file's numbers.

use std::{fs, os::unix::fs::FileExt, path::Path};

use perturbine::{Atlas, Resources, flows};
use schemas::batch::{BatchPlan, Expression};
use serde_json::json;
use stages::{
    batcher::{
        order::{Order, OrderSettings},
        sample::Sampling,
    },
    reader::split::{Scheme, Split, SplitShares},
};

use crate::support::{
    Home, SIMULATE, TINY,
    h5ad::{h5ad, set_value},
    says,
};

/// Every batch of an epoch.
fn batches(path: &Path) -> Vec<(BatchPlan, Expression)> {
    let atlas = Atlas::open(path).unwrap();
    let split =
        Split::make(&atlas, "random", &Scheme::Random(0.1), SplitShares { valid: 0.2, reference: 0.0 }, 3).unwrap();
    let order = Order::sampled(&atlas, split.into(), OrderSettings::new(7, 20, 100), &Sampling::Uniform).unwrap();
    let rows = flows::rows(&atlas, std::sync::Arc::new(order).epoch(0, 0), &Resources::default()).stream();
    rows.map(|rows| rows.map(|rows| (rows.plan, Expression::clone(&rows.expression))).unwrap()).collect()
}

#[test]
fn batches_are_those_of_an_atlas_that_holds_its_matrix() {
    let home = Home::new();
    home.json(SIMULATE);
    // Counts beyond 255, then values that are not counts.
    h5ad(&home, "large.h5ad", |chunk| _ = set_value(chunk, 40, 1, 70_000.0));
    h5ad(&home, "continuous.h5ad", |chunk| _ = set_value(chunk, 40, 1, -0.5));
    for name in ["s", "large", "continuous"] {
        home.json(&format!("ingest {name}.h5ad --out {name}-stored.atlas --no-shuffle --values log1p"));
        let atlas = home.json(&format!("ingest {name}.h5ad --out {name}.atlas --in-place --values log1p"));
        assert_eq!(atlas["codec"], "in-place");
        assert!(!home.path(&format!("{name}.atlas/matrix.bin")).exists());
        assert_eq!(home.json(&format!("verify {name}.atlas"))["damaged"], json!([]));
        let found = batches(&home.path(&format!("{name}.atlas")));
        assert!(found == batches(&home.path(&format!("{name}-stored.atlas"))) && found.len() > 3, "{name}");
    }
}

#[test]
fn to_train_and_predict_on_a_file_without_compression_copies_no_matrix() {
    let home = Home::new();
    home.json(SIMULATE);
    let message = home.run(&format!("train s.h5ad --out m --hold-out cell_type=type_1 --epochs 1 {TINY}")).stderr;
    assert!(message.contains("reading s.h5ad in place; ingesting its labels into s.atlas (once)"), "{message}");
    assert!(!home.path("s.atlas/matrix.bin").exists());
    let message = home.run("predict m s.h5ad --to observed --out p").stderr;
    assert!(message.contains("using s.atlas"), "{message}");
    fs::create_dir(home.path("moved")).unwrap();
    for name in ["s.h5ad", "s.atlas"] {
        fs::rename(home.path(name), home.path("moved").join(name)).unwrap();
    }
    assert_eq!(home.json("verify moved/s.atlas")["damaged"], json!([]), "both can be moved together");
}

#[test]
fn a_file_that_can_not_be_read_in_place_is_refused_or_copied() {
    let home = Home::new();
    home.json(&format!("{SIMULATE} --gzip 1"));
    let message = home.refused(2, "ingest s.h5ad --out s.atlas --in-place");
    says(&message, &["s.h5ad", "can't be read in place", "uncompressed"]);
    let message = home.run(&format!("train s.h5ad --out m --hold-out cell_type=type_1 --epochs 1 {TINY}")).stderr;
    assert!(message.contains("ingesting s.h5ad into s.atlas (once)"), "{message}");
    assert!(home.path("s.atlas/matrix.bin").exists());
}

#[test]
fn a_file_that_has_changed_is_refused_before_a_number_of_it_is_used() {
    let home = Home::new();
    h5ad(&home, "s.h5ad", |_| {});
    home.json("ingest s.h5ad --out s.atlas --in-place");
    // The same structure with one other count.
    h5ad(&home, "other.h5ad", |chunk| _ = set_value(chunk, 40, 1, 123.0));
    let bytes = fs::metadata(home.path("s.h5ad")).unwrap().len();
    assert_eq!(fs::metadata(home.path("other.h5ad")).unwrap().len(), bytes);
    fs::rename(home.path("other.h5ad"), home.path("s.h5ad")).unwrap();
    let message = home.refused(65, &format!("train s.atlas --out m --hold-out cell_type=type_1 --epochs 1 {TINY}"));
    says(&message, &["s.h5ad: X", "has changed since it was ingested"]);
    fs::File::options().write(true).open(home.path("s.h5ad")).unwrap().set_len(bytes - 1).unwrap();
    says(&home.refused(65, "inspect s.atlas"), &["s.h5ad", "has changed since it was ingested"]);
    fs::remove_file(home.path("s.h5ad")).unwrap();
    for command in ["inspect", "verify"] {
        let message = home.refused(66, &format!("{command} s.atlas"));
        says(&message, &["s.h5ad", "no such file", "ingest without --in-place"]);
    }
}

#[test]
fn a_file_that_is_touched_or_rewritten_while_it_is_open_is_compared_again() {
    let home = Home::new();
    h5ad(&home, "s.h5ad", |_| {});
    home.json("ingest s.h5ad --out s.atlas --in-place");
    let path = home.path("s.h5ad");
    let opened = Atlas::open(home.path("s.atlas")).unwrap();
    let rows = |opened: &Atlas| {
        let order = Order::sampled(
            opened,
            Split::make(opened, "random", &Scheme::Random(0.1), SplitShares { valid: 0.2, reference: 0.0 }, 3)
                .unwrap()
                .into(),
            OrderSettings::new(7, 20, 100),
            &Sampling::Uniform,
        );
        let plans = std::sync::Arc::new(order.unwrap()).epoch(0, 0);
        flows::rows(opened, plans, &Resources::default()).stream().try_for_each(|rows| rows.map(drop))
    };
    rows(&opened).unwrap();
    // The same bytes are written again.
    let bytes = fs::read(&path).unwrap();
    fs::File::options().write(true).open(&path).unwrap().write_all_at(&bytes, 0).unwrap();
    rows(&opened).unwrap();
    // Other numbers of the same length, and the time is put back.
    let modified = fs::metadata(&path).unwrap().modified().unwrap();
    h5ad(&home, "other.h5ad", |chunk| _ = set_value(chunk, 40, 1, 123.0));
    let other = fs::read(home.path("other.h5ad")).unwrap();
    let file = fs::File::options().write(true).open(&path).unwrap();
    file.write_all_at(&other, 0).unwrap();
    file.set_modified(modified).unwrap();
    let error = rows(&opened).unwrap_err();
    let reason = std::error::Error::source(&error).unwrap().to_string();
    assert!(reason.contains("s.h5ad") && reason.contains("has changed since it was ingested"), "{reason}");
}
