//! The data: cells of each condition and context, and what was held out.

use std::collections::{BTreeMap, BTreeSet};

use schemas::counting::grouped;

use super::{
    CellsByPart, DataOverview,
    names::capitalised,
    svg::escape,
    table::{PageTable, TableCell, TableColumn},
};

/// Rows of the table on the page.
const MOST_ROWS: usize = 200;
/// Held-out conditions that are named in the sentence about them.
const MOST_NAMED: usize = 6;

/// The section's content.
pub(super) fn data_section(data: &DataOverview) -> String {
    let sum = |of: fn(&CellsByPart) -> u64| data.groups.iter().map(of).sum::<u64>();
    let conditions: BTreeSet<(&str, &str)> = data.groups.iter().filter(|one| !one.is_control).map(row_of).collect();
    let contexts: BTreeSet<&str> = data.groups.iter().map(|one| one.context.as_str()).collect();
    let tiles = [
        ("cells", data.cells),
        ("genes", data.genes),
        (if conditions.len() == 1 { "perturbed condition" } else { "perturbed conditions" }, conditions.len() as u64),
        (if contexts.len() == 1 { "context" } else { "contexts" }, contexts.len() as u64),
        ("trained on", sum(|one| one.train)),
        ("for validation", sum(|one| one.valid)),
        ("held out", sum(|one| one.held_out)),
        ("reference controls", sum(|one| one.reference)),
    ];
    let tile = |(name, count): &(&str, u64)| format!("<div><dt>{name}</dt><dd>{}</dd></div>", grouped(*count));
    let tiles: String = tiles.iter().map(tile).collect();
    let from = match &data.sources[..] {
        [] => String::new(),
        [one] => format!(" from {one}"),
        several => format!(" from {} files", several.len()),
    };
    let (table, left_out) = cell_table(data);
    let more = if left_out == 0 {
        String::new()
    } else {
        format!(r#"<p class="note">{left_out} more conditions are in the file of <code>--tables</code>.</p>"#)
    };
    format!(
        r#"<p>{}</p><dl class="tiles">{tiles}</dl>{}<p class="note">Numbers of cells; the columns are contexts. A marked number was held out in whole or in part.</p>{more}"#,
        escape(&format!("{}{from}. {}", capitalised(&data.values), held_out(data))),
        table.html()
    )
}

/// The held-out cells, in a sentence or two.
fn held_out(data: &DataOverview) -> String {
    let held: Vec<&CellsByPart> = data.groups.iter().filter(|one| one.held_out > 0 && !one.is_control).collect();
    if held.is_empty() {
        return format!("The split {} holds nothing out.", data.split);
    }
    let (mut names, mut seen) = (Vec::new(), BTreeSet::new());
    names.extend(held.iter().map(|one| one.condition.as_str()).filter(|name| seen.insert(*name)));
    let named: Vec<String> = names.iter().take(MOST_NAMED).map(|name| named_groups(name, &held)).collect();
    let more =
        if names.len() > MOST_NAMED { format!("; and {} more", names.len() - MOST_NAMED) } else { String::new() };
    let trained: BTreeSet<(&str, &str)> = data.groups.iter().filter(|one| one.train > 0).map(row_of).collect();
    let new: BTreeSet<(&str, &str)> = held.iter().map(|one| row_of(one)).filter(|one| !trained.contains(one)).collect();
    let nowhere = match new.len() {
        0 => " All of these conditions were trained in other contexts, or on other cells.".to_owned(),
        1 => " One of these conditions was trained in no context.".to_owned(),
        count => format!(" {count} of these conditions were trained in no context."),
    };
    format!("The split {} holds out {}{more}.{nowhere}", data.split, named.join("; "))
}

/// A held-out condition with its doses and contexts.
fn named_groups(condition: &str, held: &[&CellsByPart]) -> String {
    let groups = || held.iter().filter(|one| one.condition == condition);
    let doses = distinct(groups().map(|one| one.dose.as_str()));
    let contexts = distinct(groups().map(|one| one.context.as_str()));
    if groups().count() != doses.len().max(1) * contexts.len().max(1) {
        return format!("{condition} in {} combinations of dose and context", groups().count());
    }
    let listed = |before: &str, texts: Vec<&str>| match texts.len() {
        0 => String::new(),
        _ => format!("{before}{}", texts.join(", ")),
    };
    let dose = if doses.len() == 1 { " at dose " } else { " at doses " };
    format!("{condition}{}{}", listed(dose, doses), listed(" in ", contexts))
}

/// Texts that are not empty, each where it comes first.
fn distinct<'a>(texts: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut seen = BTreeSet::new();
    texts.filter(|text| !text.is_empty() && seen.insert(*text)).collect()
}

/// The condition and dose of a group.
fn row_of(group: &CellsByPart) -> (&str, &str) {
    (&group.condition, &group.dose)
}

/// A row each condition, a column each context; and the number of conditions that are left out.
fn cell_table(data: &DataOverview) -> (PageTable, usize) {
    let (mut rows, mut seen) = (Vec::new(), BTreeSet::new());
    // Control comes first, then what was held out.
    let is_first = |one: &&CellsByPart| one.is_control || one.held_out > 0;
    let (first, rest): (Vec<_>, Vec<_>) = data.groups.iter().partition(is_first);
    rows.extend(first.into_iter().chain(rest).map(row_of).filter(|row| seen.insert(*row)));
    let contexts: BTreeSet<&str> = data.groups.iter().map(|one| one.context.as_str()).collect();
    let groups: BTreeMap<_, &CellsByPart> =
        data.groups.iter().map(|one| ((row_of(one), one.context.as_str()), one)).collect();
    let left_out = rows.len().saturating_sub(MOST_ROWS);
    rows.truncate(MOST_ROWS);
    let has_doses = data.groups.iter().any(|one| !one.dose.is_empty());
    let mut columns = vec![TableColumn::text("condition")];
    columns.extend(has_doses.then(|| TableColumn::numbers("dose")));
    let tooltip = data.covariates.join(", ");
    columns.extend(contexts.iter().map(|context| {
        TableColumn::numbers(context).shown_as(if context.is_empty() { "cells" } else { context }, &tooltip)
    }));
    let row = |(condition, dose): &(&str, &str)| {
        let mut cells = vec![TableCell::text(condition)];
        cells.extend(has_doses.then(|| TableCell::text(dose)));
        cells.extend(contexts.iter().map(|context| {
            groups.get(&((*condition, *dose), *context)).map_or_else(|| TableCell::number(None), |one| group_cell(one))
        }));
        cells
    };
    (PageTable { name: String::new(), columns, rows: rows.iter().map(row).collect() }, left_out)
}

fn group_cell(group: &CellsByPart) -> TableCell {
    let parts = [
        ("trained on", group.train),
        ("for validation", group.valid),
        ("held out", group.held_out),
        ("reference controls", group.reference),
    ];
    let parts: Vec<String> = parts
        .iter()
        .filter(|(_, count)| *count > 0)
        .map(|(part, count)| format!("{} {part}", grouped(*count)))
        .collect();
    let cell = TableCell::count(group.cells()).tooltip(parts.join(", "));
    if group.held_out > 0 { cell.of_class("held") } else { cell }
}

/// The numbers of cells, a row each condition and context.
pub(super) fn data_table(data: &DataOverview) -> PageTable {
    let row = |one: &CellsByPart| {
        let counts = [one.train, one.valid, one.held_out, one.reference].map(TableCell::count);
        [&one.condition, &one.dose, &one.context].map(|text| TableCell::text(text)).into_iter().chain(counts).collect()
    };
    let texts = ["condition", "dose", "context"].map(TableColumn::text).into_iter();
    PageTable {
        name: "cells".into(),
        columns: texts.chain(["train", "valid", "held_out", "reference"].map(TableColumn::numbers)).collect(),
        rows: data.groups.iter().map(row).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(condition: &str, context: &str, train: u64, held_out: u64) -> CellsByPart {
        let (condition, context) = (condition.to_owned(), context.to_owned());
        CellsByPart { condition, context, train, held_out, ..CellsByPart::default() }
    }

    #[test]
    fn what_was_held_out_is_said() {
        let groups = vec![group("stim", "T", 20, 0), group("stim", "B", 0, 30), group("new", "B", 0, 9)];
        let data = DataOverview { split: "b-cells".into(), groups, ..DataOverview::default() };
        let said =
            "The split b-cells holds out stim in B; new in B. One of these conditions was trained in no context.";
        assert_eq!(held_out(&data), said);
        let html = data_section(&data);
        assert!(html.contains(r#"<td class="number held" title="30 held out" data-key="30">30</td>"#), "{html}");
        assert_eq!(data_table(&data).rows.len(), 3);
        let nothing = DataOverview { groups: vec![group("stim", "T", 20, 0)], ..data };
        assert_eq!(held_out(&nothing), "The split b-cells holds nothing out.");
    }
}
