//! Selects cells of a source: by their annotations, by their label, and by the number of cells with their
//! condition.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use arrays::text::as_text;
use arrow::{
    array::{Array, AsArray, BooleanArray, RecordBatch, StringArray},
    compute::filter_record_batch,
};
use formats::source::{Source, column_index, name_in_atlas, obs_column};
use schemas::{
    Error, Result,
    atlas::Selection,
    conditions::CONTROL,
    ids::ConditionId,
    notation::{Meaning, meaning},
    quoting::{length_until, unquoted},
};

use super::{
    keys::{ResolvedKeys, fits},
    label::{LabelColumns, LabelTables, Labeller},
    row_range::CellFilter,
};

/// Number of cells that are read together.
const SLICE: u64 = 1 << 14;
/// The name of a missing label.
const MISSING: &str = "nan";

/// A condition on one column.
#[derive(Clone, Debug, Default)]
struct ColumnFilter {
    any_of: HashSet<String>,
    none_of: HashSet<String>,
}

#[derive(Clone, Debug)]
struct AnnotationFilter {
    columns: BTreeMap<String, ColumnFilter>,
    label: Option<String>,
    drop_labels: HashSet<String>,
    dose: Option<String>,
    /// The spellings of rare conditions: label and dose.
    rare: HashSet<(String, String)>,
}

/// A condition by its name and its dose.
pub type ConditionName = (String, String);

/// Creates the filter of selected cells; `None` if all are selected. With a minimum number of cells, `also_rare` conditions are left
/// out too: those that have lost cells because of their values.
///
/// # Errors
/// Columns, values or labels that do not exist, or labels to drop without a perturbation column.
pub fn cell_filter(
    source: &Arc<dyn Source>,
    options: &Selection,
    keys: &ResolvedKeys,
    also_rare: &[ConditionName],
) -> Result<Option<CellFilter>> {
    if *options == Selection::default() {
        return Ok(None);
    }
    let label = keys.columns.perturbation.clone();
    if label.is_none() && (!options.drop_labels.is_empty() || options.min_cells > 0) {
        let hint = "name the column with --perturbation";
        return Err(Error::usage(
            "cells are to be left out by their condition, but there is no perturbation column",
            hint,
        ));
    }
    let mut filter = AnnotationFilter {
        columns: columns(&**source, &options.filters, keys)?,
        drop_labels: labels_to_drop(&**source, &options.drop_labels, keys)?,
        dose: keys.columns.dose.clone(),
        label,
        rare: HashSet::new(),
    };
    if options.min_cells > 0 {
        filter.rare = rare_conditions(source, &filter, options.min_cells, keys, also_rare)?;
    }
    Ok(Some(Arc::new(move |obs| filter.mask(obs))))
}

fn columns(source: &dyn Source, conditions: &[String], keys: &ResolvedKeys) -> Result<BTreeMap<String, ColumnFilter>> {
    let mut columns: BTreeMap<String, ColumnFilter> = BTreeMap::new();
    for text in conditions {
        let hint = "write it as 'cell_type=B cells' or 'cell_type!=B cells'; put a key with = in double quotes";
        let (key, value) = text.split_at(length_until(text, &['=']));
        let value =
            value.strip_prefix('=').ok_or_else(|| Error::usage(format!("expected key=value, got `{text}`"), hint))?;
        let (key, ruled_out) = key.strip_suffix('!').map_or((key, false), |key| (key, true));
        let values = columns.entry(name_in_atlas(source, &unquoted(key.trim()))?).or_default();
        let list = if ruled_out { &mut values.none_of } else { &mut values.any_of };
        list.insert(unquoted(value.trim()));
    }
    for (key, column_filter) in &mut columns {
        let known = known_values(source, key)?;
        let place = || format!("{}, obs column `{key}`", source.origin().path);
        for values in [&mut column_filter.any_of, &mut column_filter.none_of] {
            let is_label = keys.columns.perturbation.as_ref() == Some(key);
            let mut found = HashSet::new();
            for value in values.iter() {
                let same = |label: &&String| is_label && keys.rules.are_one_condition(value, label);
                let spellings: Vec<String> = known.iter().filter(same).cloned().collect();
                match spellings.is_empty() {
                    true => found.extend([as_it_is_written(value, &known, place)?]),
                    false => found.extend(spellings),
                }
            }
            *values = found;
        }
    }
    Ok(columns)
}

/// The distinct values of a column.
fn known_values(source: &dyn Source, column: &str) -> Result<BTreeSet<String>> {
    let mut known = BTreeSet::new();
    for slice in obs_column(source, column)? {
        for value in slice?.as_string::<i32>().iter().map(|value| value.unwrap_or(MISSING)) {
            if !known.contains(value) {
                known.insert(value.to_owned());
            }
        }
    }
    Ok(known)
}

/// The labels in the column that are to be dropped: those that a pattern matches, and other spellings of a
/// condition (`B+A` for `A+B`). A label that no cell has is an error; a pattern without a match causes a warning.
fn labels_to_drop(source: &dyn Source, patterns: &[String], keys: &ResolvedKeys) -> Result<HashSet<String>> {
    let Some(column) = keys.columns.perturbation.as_ref().filter(|_| !patterns.is_empty()) else {
        return Ok(HashSet::new());
    };
    let known = known_values(source, column)?;
    let mut dropped = HashSet::new();
    for pattern in patterns {
        let matches = |label: &&String| fits(pattern, label) || keys.rules.are_one_condition(pattern, label);
        let matching: Vec<&String> = known.iter().filter(matches).collect();
        if matching.is_empty() && !pattern.contains('*') {
            return Err(Error::unknown("label", pattern, known.iter().map(String::as_str)));
        }
        if matching.is_empty() {
            tracing::warn!("--drop-label '{pattern}' matches no label of obs column `{column}`");
        }
        dropped.extend(matching.into_iter().cloned());
    }
    Ok(dropped)
}

/// A value in the column's notation: a number or flag may be given in another notation (`1.0` for `1`), if only one
/// value is equal to it.
fn as_it_is_written(value: &str, known: &BTreeSet<String>, place: impl Fn() -> String) -> Result<String> {
    let stored: Vec<&str> = known.iter().map(String::as_str).collect();
    match meaning(value, stored.iter().copied()) {
        Meaning::One(at) => Ok(stored[at].to_owned()),
        Meaning::Unknown => Err(Error::unknown("value", value, stored)),
        Meaning::Several(several) => {
            let several: Vec<String> = several.iter().map(|at| format!("`{}`", stored[*at])).collect();
            let message = format!("{} values are equal to `{value}`: {}", several.len(), several.join(", "));
            Err(Error::data(place(), message, "write the value as it stands in the column; --filter can be repeated"))
        }
    }
}

/// The spellings of the conditions with fewer cells than `min_cells`: `A+B` and `B+A` are the same condition.
/// Control is never rare.
fn rare_conditions(
    source: &Arc<dyn Source>,
    filter: &AnnotationFilter,
    min_cells: u64,
    keys: &ResolvedKeys,
    also_rare: &[ConditionName],
) -> Result<HashSet<(String, String)>> {
    let names = filter.columns.keys().chain(&filter.label).chain(&filter.dose).collect::<HashSet<_>>();
    let columns: Vec<usize> = names.into_iter().map(|name| column_index(&**source, name)).collect::<Result<_>>()?;
    let of_conditions = LabelColumns { covariates: Vec::new(), ..keys.columns.clone() };
    let mut labeller = Labeller::new(Arc::clone(source), of_conditions, keys.rules.clone());
    let mut spellings: HashMap<(String, String), ConditionId> = HashMap::new();
    let mut first = 0;
    while first < source.cells() {
        let end = source.cells().min(first + SLICE);
        let obs = source.obs(first..end, &columns)?;
        let (cells, obs) = match filter.mask(&obs)? {
            None => ((first..end).collect::<Vec<u64>>(), obs),
            Some(selected) => {
                let cells = (first..end).zip(selected.values()).filter_map(|(cell, selected)| selected.then_some(cell));
                (cells.collect(), filter_record_batch(&obs, &selected).map_err(|error| Error::Bug(error.to_string()))?)
            }
        };
        let (labels, doses) = filter.conditions_of(&obs)?;
        for (row, code) in labeller.codes(&cells, &obs)?.into_iter().enumerate() {
            spellings.insert((text(labels.as_ref(), row), text(doses.as_ref(), row)), ConditionId(code));
        }
        first = end;
    }
    let LabelTables { conditions, cells_of, .. } = labeller.finish();
    // These were named after an earlier reading, which may have met another spelling first.
    let also_rare: HashSet<ConditionId> =
        also_rare.iter().filter_map(|(label, dose)| conditions.find(label, Some(dose)).ok().flatten()).collect();
    let is_rare = |id: ConditionId| id != CONTROL && (cells_of[id.index()] < min_cells || also_rare.contains(&id));
    let rare = cells_of.iter().enumerate().skip(1).filter(|(_, cells)| (1..min_cells).contains(*cells)).count();
    if rare > 0 && also_rare.is_empty() {
        tracing::warn!("{rare} conditions of fewer than {min_cells} cells are left out");
    }
    Ok(spellings.into_iter().filter(|(_, id)| is_rare(*id)).map(|(spelling, _)| spelling).collect())
}

impl AnnotationFilter {
    fn mask(&self, obs: &RecordBatch) -> Result<Option<BooleanArray>> {
        let mut selected = vec![true; obs.num_rows()];
        for (key, column_filter) in &self.columns {
            let values = text_column(obs, key)?;
            for (row, selected) in selected.iter_mut().enumerate() {
                let value = value(&values, row);
                *selected &= column_filter.any_of.is_empty() || column_filter.any_of.contains(value);
                *selected &= !column_filter.none_of.contains(value);
            }
        }
        let (labels, doses) = self.conditions_of(obs)?;
        for (row, selected) in selected.iter_mut().enumerate() {
            let label = labels.as_ref().map_or(MISSING, |labels| value(labels, row));
            *selected &= !self.drop_labels.contains(label);
            *selected &=
                self.rare.is_empty() || !self.rare.contains(&(text(labels.as_ref(), row), text(doses.as_ref(), row)));
        }
        Ok(selected.contains(&false).then(|| BooleanArray::from(selected)))
    }

    /// The columns of labels and doses, if they are needed.
    fn conditions_of(&self, obs: &RecordBatch) -> Result<(Option<StringArray>, Option<StringArray>)> {
        let column = |name: &Option<String>| name.as_ref().map(|name| text_column(obs, name)).transpose();
        Ok((column(&self.label)?, column(&self.dose)?))
    }
}

fn text_column(obs: &RecordBatch, name: &str) -> Result<StringArray> {
    let column = obs.column_by_name(name).ok_or_else(|| Error::Bug(format!("obs column `{name}` was not read")))?;
    let text = as_text(column).map_err(|error| Error::Bug(error.to_string()))?;
    Ok(text.as_string::<i32>().clone())
}

fn value(values: &StringArray, row: usize) -> &str {
    if values.is_null(row) { MISSING } else { values.value(row) }
}

fn text(values: Option<&StringArray>, row: usize) -> String {
    values.map(|values| value(values, row).to_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use formats::memory::CellsInMemory;

    use super::*;
    use crate::keys::{RequestedKeys, resolve};

    fn table() -> Arc<dyn Source> {
        Arc::new(CellsInMemory::without_genes(&[
            ("cell", vec!["0", "1", "2", "3", "4", "5"]),
            ("condition", vec!["ctrl", "A", "A", "B", "unassigned", "B"]),
            ("cell_type", vec!["T", "T", "B", "B", "T", "NK"]),
        ]))
    }

    fn kept(options: &Selection) -> Vec<usize> {
        let table = table();
        let keys = resolve(&*table, &RequestedKeys::default()).expect("plain keys");
        let filter = cell_filter(&table, options, &keys, &[]).expect("known names").expect("something is asked");
        let mask = filter(&table.obs(0..6, &[0, 1, 2]).expect("all cells")).expect("text columns");
        (0..6).filter(|row| mask.as_ref().is_none_or(|mask| mask.value(*row))).collect()
    }

    #[test]
    fn values_of_one_key_are_alternatives_and_keys_hold_together() {
        let options = |conditions: &[&str]| Selection {
            filters: conditions.iter().map(|text| (*text).to_owned()).collect(),
            ..Selection::default()
        };
        assert_eq!(kept(&options(&["cell_type=T", "cell_type=NK"])), [0, 1, 4, 5]);
        assert_eq!(kept(&options(&["cell_type=T", "condition!=unassigned"])), [0, 1]);
    }

    #[test]
    fn labels_are_dropped_and_rare_conditions_too_but_never_control() {
        let dropped = Selection { drop_labels: vec!["un*".into(), "fits none*".into()], ..Selection::default() };
        assert_eq!(kept(&dropped), [0, 1, 2, 3, 5]);
        let common = Selection { filters: vec!["cell_type!=NK".into()], min_cells: 2, ..Selection::default() };
        assert_eq!(kept(&common), [0, 1, 2], "B has one cell that is not an NK cell");
    }

    #[test]
    fn conditions_that_lost_cells_are_left_out_in_every_spelling() {
        let labels = ["A+B", "B+A", "C", "C", "ctrl"];
        let table: Arc<dyn Source> = Arc::new(CellsInMemory::without_genes(&[("condition", labels.to_vec())]));
        let keys = resolve(&*table, &RequestedKeys::default()).expect("plain keys");
        let options = Selection { min_cells: 2, ..Selection::default() };
        let lost = [("B+A".to_owned(), "1+1".to_owned())];
        let filter = cell_filter(&table, &options, &keys, &lost).expect("known names").expect("something is asked");
        let mask = filter(&table.obs(0..5, &[0]).expect("all cells")).expect("text").expect("some are left out");
        assert_eq!(mask.iter().flatten().collect::<Vec<_>>(), [false, false, true, true, true]);
    }

    #[test]
    fn what_is_rare_is_the_condition_however_its_label_is_written() {
        let labels = [("A+B", 3), ("B+A", 3), ("C+ctrl", 2), ("ctrl+C", 3), ("D", 4), ("ctrl+ctrl", 1), ("ctrl", 1)];
        let labels: Vec<&str> = labels.iter().flat_map(|(label, cells)| vec![*label; *cells]).collect();
        let cells = labels.len();
        let table: Arc<dyn Source> = Arc::new(CellsInMemory::without_genes(&[("condition", labels.clone())]));
        let keys = resolve(&*table, &RequestedKeys::default()).expect("plain keys");
        let options = Selection { min_cells: 5, ..Selection::default() };
        let filter = cell_filter(&table, &options, &keys, &[]).expect("known names").expect("something is asked");
        let mask = filter(&table.obs(0..cells as u64, &[0]).expect("all cells")).expect("text").expect("D is rare");
        let kept: Vec<&str> = (0..cells).filter(|row| mask.value(*row)).map(|row| labels[row]).collect();
        assert_eq!(kept, labels.iter().copied().filter(|label| *label != "D").collect::<Vec<_>>());
    }

    #[test]
    fn a_condition_is_selected_and_dropped_in_all_its_spellings() {
        let labels = ["A+B", "B+A", "A", "A+ctrl", "ctrl", "ctrl+ctrl"];
        let table: Arc<dyn Source> = Arc::new(CellsInMemory::without_genes(&[("condition", labels.to_vec())]));
        let keys = resolve(&*table, &RequestedKeys::default()).expect("plain keys");
        let kept = |options: Selection| {
            let filter = cell_filter(&table, &options, &keys, &[]).expect("known labels").expect("something is asked");
            let mask = filter(&table.obs(0..6, &[0]).expect("all cells")).expect("text").expect("some are left out");
            labels.into_iter().enumerate().filter(|(row, _)| mask.value(*row)).map(|(_, label)| label).collect()
        };
        let dropped =
            |label: &str| -> Vec<&str> { kept(Selection { drop_labels: vec![label.into()], ..Selection::default() }) };
        let filtered =
            |filter: &str| -> Vec<&str> { kept(Selection { filters: vec![filter.into()], ..Selection::default() }) };
        assert_eq!(dropped("B+A"), ["A", "A+ctrl", "ctrl", "ctrl+ctrl"]);
        assert_eq!(dropped("ctrl+A"), ["A+B", "B+A", "ctrl", "ctrl+ctrl"], "a spelling that no cell has");
        assert_eq!(dropped("ctrl"), ["A+B", "B+A", "A", "A+ctrl", "ctrl+ctrl"], "other names of control stay");
        assert_eq!(filtered("condition=A+B"), ["A+B", "B+A"]);
        assert_eq!(filtered("condition!=A"), ["A+B", "B+A", "ctrl", "ctrl+ctrl"]);
    }

    #[test]
    fn a_value_that_no_cell_has_is_refused_with_the_nearest() {
        let table = table();
        let keys = resolve(&*table, &RequestedKeys::default()).expect("plain keys");
        let options = Selection { filters: vec!["cell_type=NKK".into()], ..Selection::default() };
        let error = cell_filter(&table, &options, &keys, &[]).err().expect("unknown");
        assert!(error.to_string().starts_with("unknown value `NKK`; the nearest known: NK"), "{error}");
        for pattern in ["unasigned", "nan"] {
            let options = Selection { drop_labels: vec!["A".into(), pattern.into()], ..Selection::default() };
            let error = cell_filter(&table, &options, &keys, &[]).err().expect("unknown").to_string();
            assert!(error.starts_with(&format!("unknown label `{pattern}`; the nearest known: ")), "{error}");
        }
    }

    #[test]
    fn a_number_that_several_values_are_equal_to_is_refused_with_them() {
        let doses = vec!["1", "1.0", "01", "2.0", "nan"];
        let table: Arc<dyn Source> =
            Arc::new(CellsInMemory::without_genes(&[("condition", vec!["ctrl"; doses.len()]), ("plate", doses)]));
        let keys = resolve(&*table, &RequestedKeys::default()).expect("plain keys");
        let filtered = |filter: &str| {
            let options = Selection { filters: vec![filter.to_owned()], ..Selection::default() };
            let mask = cell_filter(&table, &options, &keys, &[])?.expect("something is asked");
            Ok::<_, Error>(mask(&table.obs(0..5, &[0, 1])?)?.map_or(5, |mask| mask.true_count()))
        };
        let error = filtered("plate=1.00").expect_err("three are equal").to_string();
        let expected = "a.h5ad, obs column `plate`: 3 values are equal to `1.00`: `01`, `1`, `1.0`";
        assert_eq!(error, expected);
        let counts = ["plate=1.0", "plate=2", "plate!=01"].map(|filter| filtered(filter).ok());
        assert_eq!(counts, [Some(1), Some(1), Some(4)]);
    }

    #[test]
    fn a_flag_is_selected_in_any_capitals() {
        let flags = vec!["true", "false", "true"];
        let table: Arc<dyn Source> =
            Arc::new(CellsInMemory::without_genes(&[("condition", vec!["ctrl"; 3]), ("singlet", flags)]));
        let keys = resolve(&*table, &RequestedKeys::default()).expect("plain keys");
        for filter in ["singlet=True", "singlet=TRUE", "singlet!=False"] {
            let options = Selection { filters: vec![filter.to_owned()], ..Selection::default() };
            let filter = cell_filter(&table, &options, &keys, &[]).expect("a flag").expect("something is asked");
            let mask = filter(&table.obs(0..3, &[0, 1]).expect("all cells")).expect("text").expect("one is left out");
            assert_eq!(mask.true_count(), 2);
        }
    }
}
