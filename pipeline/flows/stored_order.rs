//! Cells in storage order, for sums over many of them.

use reader::atlas::Atlas;
use schemas::{
    batch::{BatchPlan, Role},
    ids::{CellIndex, RowIndex},
};

/// Rows of the matrix per batch.
const SUMMED_ROWS: u64 = 512;

/// Some cells in storage order: every block is read at most once.
pub fn rows_as_stored<F>(atlas: &Atlas, is_chosen: F) -> impl Iterator<Item = BatchPlan> + Send + use<F>
where
    F: Fn(CellIndex) -> bool + Send + 'static,
{
    let (atlas, rows) = (atlas.clone(), atlas.cells());
    (0..rows.div_ceil(SUMMED_ROWS)).map(move |index| {
        let end = rows.min((index + 1) * SUMMED_ROWS);
        let held = (index * SUMMED_ROWS..end).map(RowIndex).map(|row| (row, atlas.cell(row)));
        let (rows_wanted, cells) = held.filter(|(_, cell)| is_chosen(*cell)).unzip();
        BatchPlan { pass: 0, index, role: Role::Source, last: end == rows, rows: rows_wanted, cells }
    })
}
