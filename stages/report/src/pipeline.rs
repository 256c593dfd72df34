//! The measurements of each edge of the pipeline, as a table.

use super::{
    TextTable,
    table::{PageTable, TableCell, TableColumn},
};

/// Columns with their names on the page.
const NAMES: [(&str, &str); 7] = [
    ("from", "from stage"),
    ("to", "to stage"),
    ("items", "items"),
    ("bytes", "bytes"),
    ("peak_bytes", "most bytes at once"),
    ("waited_for_room_seconds", "full for (s)"),
    ("waited_for_items_seconds", "empty for (s)"),
];

/// A row each edge; columns of numbers only are numeric.
pub(super) fn pipeline_table(table: &TextTable) -> PageTable {
    let number = |cell: &String| cell.parse::<f64>().ok();
    let is_numeric =
        |column: usize| table.rows.iter().all(|row| row.get(column).is_some_and(|cell| number(cell).is_some()));
    let numeric: Vec<bool> = (0..table.columns.len()).map(is_numeric).collect();
    let columns = table.columns.iter().zip(&numeric).map(|(name, numeric)| {
        let shown = NAMES.iter().find(|(technical, _)| technical == name).map_or(name.as_str(), |(_, shown)| shown);
        let column = if *numeric { TableColumn::numbers(name) } else { TableColumn::text(name) };
        column.shown_as(shown, name)
    });
    let cell = |(cell, numeric): (&String, &bool)| match number(cell).filter(|_| *numeric) {
        Some(_) if !cell.contains('.') => cell.parse().map_or_else(|_| TableCell::text(cell), TableCell::count),
        Some(value) => TableCell::number(Some(value)),
        None => TableCell::text(cell),
    };
    let rows = table.rows.iter().map(|row| row.iter().zip(&numeric).map(cell).collect());
    PageTable { name: "pipeline".into(), columns: columns.collect(), rows: rows.collect() }
}
