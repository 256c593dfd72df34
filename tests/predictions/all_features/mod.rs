//! Tests that need the whole program.

mod changes;
mod commands;
mod doses;
mod embed_shards;
mod evaluation;
mod fitting_atlas;
mod honest;
mod judge;
mod portable;
mod publishing;
mod readers;
mod responses;
mod row_groups;
mod source_cells;
mod terms;

use serde_json::Value;
use stages::simulate::{SimulateSettings, Simulator};

/// Cells of a [`screen`].
const CELLS: u64 = 1600;

/// A screen of four single perturbations and two pairs in two cell types.
fn screen(genes: u32) -> Simulator {
    let settings = SimulateSettings {
        cells: CELLS,
        genes,
        conditions: 6,
        combos: 2,
        cell_types: 2,
        density: 0.3,
        ..SimulateSettings::default()
    };
    Simulator::new(settings).unwrap()
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is not a number"))
}
