//! Curves of training: one small chart per measurement, with training and validation cells together.

use std::collections::BTreeMap;

use super::{
    HistoryRow,
    chart::{Chart, slug},
    names::{measurement, tooltip},
    svg::{Axis, horizontal_axis, short, vertical_axis},
    table::{PageTable, TableCell, TableColumn},
};

/// Curves by their names; points are (epoch, value).
type Curves = BTreeMap<String, Vec<(f64, f64)>>;

/// The least span of a vertical axis, as a share of the largest value.
const LEAST_SHARE: f64 = 0.1;
/// The least span for correlations, R² and shares.
const LEAST_OF_ONE: f64 = 0.1;
/// Beginnings of the names of measurements of which 1 is the most.
const OF_ONE: [&str; 6] = ["r2_", "pearson_", "acc_", "disnt_", "perturbation_share", "wait."];

/// One chart per measurement.
pub(super) fn training_charts(history: &[HistoryRow]) -> Vec<Chart> {
    let mut panels: BTreeMap<String, Curves> = BTreeMap::new();
    for row in history {
        for (key, value) in row.values.iter().filter(|(_, value)| value.is_finite()) {
            let (rows, name) = match key.split_once('.') {
                Some((rows @ ("train" | "valid"), name)) => (rows, name),
                _ => ("all", key.as_str()),
            };
            let curves = panels.entry(name.to_owned()).or_default();
            curves.entry(rows.to_owned()).or_default().push((f64::from(row.epoch), *value));
        }
    }
    let mut panels: Vec<(String, Curves)> = panels.into_iter().collect();
    // Measurements on both training and validation cells are the most informative, so they come first.
    panels.sort_by_key(|(_, curves)| std::cmp::Reverse(curves.len()));
    panels.iter().filter_map(|(name, curves)| chart(name, curves)).collect()
}

fn chart(technical: &str, curves: &Curves) -> Option<Chart> {
    let (left, right, top, bottom) = (56.0, 306.0, 8.0, 138.0);
    let points = || curves.values().flatten();
    let largest = points().map(|(_, value)| value.abs()).fold(0.0, f64::max);
    let is_of_one = OF_ONE.iter().any(|start| technical.starts_with(start));
    let least = (LEAST_SHARE * largest).max(if is_of_one { LEAST_OF_ONE } else { 0.0 });
    let x = Axis::spanning(points().map(|(epoch, _)| *epoch), 5.0, (left, right))?;
    let y = Axis::spanning(points().map(|(_, value)| *value), least, (bottom, top))?;
    let mut body = vertical_axis(&y, (left, right)) + &horizontal_axis(&x, (top, bottom), "epoch");
    let mut legend = Vec::new();
    for (rows, points) in curves {
        let (class, cells) = match rows.as_str() {
            "train" => ("other", "training "),
            "valid" => ("model", "validation "),
            _ => ("other", ""),
        };
        let path: Vec<String> =
            points.iter().map(|(epoch, value)| format!("{:.1} {:.1}", x.at(*epoch), y.at(*value))).collect();
        body += &format!(r#"<path class="line {class}" d="M{}"/>"#, path.join("L"));
        if let Some((epoch, value)) = points.last() {
            let (at_x, at_y) = (x.at(*epoch), y.at(*value));
            body += &format!(r#"<circle class="dot {class}" cx="{at_x:.1}" cy="{at_y:.1}" r="2.5"/>"#);
            legend.push((class.to_owned(), format!("{cells}{}", short(*value))));
        }
    }
    let (title, meaning) = measurement(technical);
    Some(Chart {
        name: format!("training-{}", slug(technical)),
        title: title.to_owned(),
        tooltip: tooltip(technical, meaning),
        size: (320.0, 172.0),
        body,
        legend,
        ..Chart::default()
    })
}

/// The measurements, a row each epoch.
pub(super) fn training_table(history: &[HistoryRow]) -> PageTable {
    let mut keys: Vec<&String> = history.iter().flat_map(|row| row.values.keys()).collect();
    keys.sort_unstable();
    keys.dedup();
    let row = |row: &HistoryRow| {
        let epoch = TableCell::count(row.epoch.into());
        [epoch].into_iter().chain(keys.iter().map(|key| TableCell::number(row.values.get(*key).copied()))).collect()
    };
    PageTable {
        name: "training".into(),
        columns: [TableColumn::numbers("epoch")]
            .into_iter()
            .chain(keys.iter().map(|key| TableColumn::numbers(key)))
            .collect(),
        rows: history.iter().map(row).collect(),
    }
}
