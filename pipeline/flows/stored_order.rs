//! Cells in the order in which the matrix holds them, for sums over many of them.

use schemas::{
    batch::{BatchPlan, Role},
    ids::{CellIndex, RowIndex},
};
use stages::atlas::Atlas;

/// Rows of the matrix that a batch is drawn from.
const SUMMED_ROWS: u64 = 512;

/// Some cells, as the matrix has them: every block is read once at most.
pub(super) fn rows_as_stored<F>(atlas: &Atlas, wanted: F) -> impl Iterator<Item = BatchPlan> + Send + use<F>
where
    F: Fn(CellIndex) -> bool + Send + 'static,
{
    let (atlas, rows) = (atlas.clone(), atlas.cells());
    (0..rows.div_ceil(SUMMED_ROWS)).map(move |index| {
        let end = rows.min((index + 1) * SUMMED_ROWS);
        let held = (index * SUMMED_ROWS..end).map(RowIndex).map(|row| (row, atlas.cell(row)));
        let (rows_wanted, cells) = held.filter(|(_, cell)| wanted(*cell)).unzip();
        BatchPlan { pass: 0, index, role: Role::Source, last: end == rows, rows: rows_wanted, cells }
    })
}
