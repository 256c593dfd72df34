//! The order that the loader of Python yields: `python/tests/test_loader.py` checks the same numbers.

use std::{path::Path, sync::Arc};

use perturbine::flows::ingesting::IngestOptions;
use serde_json::Value;
use stages::{
    batcher::order::{Order, OrderSettings},
    reader::split::{Scheme, Split, SplitPart, SplitShares},
};

use crate::support::{Home, ingest_chunk, simulator};

#[test]
fn training_cells_come_in_the_order_that_python_expects() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("python/tests/order.json");
    let kept: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let number = |name: &str| usize::try_from(kept[name].as_u64().unwrap()).unwrap();
    let home = Home::new();
    let simulator = simulator(kept["simulate"]["cells"].as_u64().unwrap(), true);
    let chunk = simulator.chunk(0..kept["simulate"]["cells"].as_u64().unwrap()).unwrap();
    let atlas = ingest_chunk(&chunk, simulator.genes(), &home.path("a.atlas"), &IngestOptions::default());
    let shares = SplitShares { valid: 0.0, reference: 0.0 };
    let split = Arc::new(Split::make(&atlas, "all", &Scheme::Nothing, shares, 0).unwrap());
    let settings = OrderSettings::new(number("seed") as u64, number("batch_size"), number("window"));
    let order = Arc::new(Order::new(&atlas, split, SplitPart::Train, settings));
    for (epoch, batches) in (0..).zip(kept["first_batches_of_epochs"].as_array().unwrap()) {
        let batches: Vec<Vec<u64>> = serde_json::from_value(batches.clone()).unwrap();
        let found = order.epoch(epoch, 0).take(batches.len());
        let found: Vec<Vec<u64>> = found.map(|plan| plan.cells.iter().map(|cell| cell.0).collect()).collect();
        assert_eq!(found, batches, "epoch {epoch}");
    }
}
