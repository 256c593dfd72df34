//! The order in which source cells are read.

use schemas::{
    batch::{BatchPlan, Role},
    ids::CellIndex,
};
use stages::reader::atlas::Atlas;

/// Cells as batch plans, numbered from `first`: draws depend on the number, so no two spans share one.
pub(in crate::models) fn source_plans<I>(
    atlas: &Atlas,
    pass: u32,
    first: u64,
    size: usize,
    cells: I,
) -> impl Iterator<Item = BatchPlan> + Send + use<I>
where
    I: Iterator<Item = CellIndex> + Send,
{
    let (mut cells, mut index, atlas) = (cells.peekable(), first, atlas.clone());
    std::iter::from_fn(move || {
        let taken: Vec<_> = cells.by_ref().take(size).collect();
        let rows = taken.iter().map(|cell| atlas.row(*cell)).collect();
        let plan = BatchPlan { pass, index, role: Role::Source, last: cells.peek().is_none(), cells: taken, rows };
        index += 1;
        (!plan.cells.is_empty()).then_some(plan)
    })
}
