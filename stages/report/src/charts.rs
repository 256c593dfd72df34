//! The charts of a report: training curves, predicted against real means, and scores side by side.

use std::collections::BTreeMap;

use evaluate::{Baseline, ConditionScores, Evaluation, PredictionScores, Scatter};
use statistics::metrics;

use super::{
    HistoryRow,
    svg::{Axis, escape, horizontal_axis, label_at, picture, short, vertical_axis},
};

/// Curves by their names; points are (epoch, value).
type Curves = BTreeMap<String, Vec<(f64, f64)>>;

/// One small chart per measurement, with training and validation together.
pub(super) fn training_curves(history: &[HistoryRow]) -> String {
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
    panels.iter().filter_map(|(name, curves)| curve_panel(name, curves)).collect()
}

fn curve_panel(name: &str, curves: &Curves) -> Option<String> {
    let (left, right, top, bottom) = (52.0, 306.0, 8.0, 138.0);
    let points = || curves.values().flatten();
    let x = Axis::holding(points().map(|(epoch, _)| *epoch), (left, right))?;
    let y = Axis::holding(points().map(|(_, value)| *value), (bottom, top))?;
    let mut body = vertical_axis(&y, (left, right)) + &horizontal_axis(&x, (top, bottom), "epoch");
    let mut legend = String::new();
    for (rows, points) in curves {
        let path: Vec<String> =
            points.iter().map(|(epoch, value)| format!("{:.1} {:.1}", x.at(*epoch), y.at(*value))).collect();
        body += &format!(r#"<path class="curve {rows}" d="M{}"/>"#, path.join("L"));
        if let Some((epoch, value)) = points.last() {
            body += &format!(r#"<circle class="{rows}" cx="{:.1}" cy="{:.1}" r="2.5"/>"#, x.at(*epoch), y.at(*value));
            let said = if rows == "all" { "" } else { rows };
            legend += &format!(r#"<span class="key {rows}">{said} {}</span>"#, short(*value));
        }
    }
    let svg = picture((320.0, 172.0), &format!("{name} by epoch"), &body);
    Some(format!("<figure><figcaption><b>{}</b>{legend}</figcaption>{svg}</figure>", escape(name)))
}

/// Predicted means against real ones; the most changed genes are labelled and connected to the points that
/// control would predict.
pub(super) fn scatter(scatter: &Scatter) -> Option<String> {
    let (left, right, top, bottom) = (40.0, 366.0, 8.0, 322.0);
    let wide = |values: &[f32]| values.iter().map(|value| f64::from(*value)).collect::<Vec<f64>>();
    let (truth, predicted, control) = (wide(&scatter.truth), wide(&scatter.predicted), wide(&scatter.control));
    let x = Axis::holding(truth.iter().chain(&predicted).copied(), (left, right))?;
    let y = x.on((bottom, top));
    let mut body = vertical_axis(&y, (left, right)) + &horizontal_axis(&x, (top, bottom), "real mean");
    body += &label_at(left + 6.0, top + 12.0, "start", "predicted mean");
    body += &format!(r#"<path class="diagonal" d="M{left} {bottom}L{right} {top}"/>"#);
    // All genes are one path: a circle for each would make a page of tens of megabytes.
    let dots = truth.iter().zip(&predicted).filter(|(truth, predicted)| truth.is_finite() && predicted.is_finite());
    let dots: String =
        dots.map(|(truth, predicted)| format!("M{:.1} {:.1}h0", x.at(*truth), y.at(*predicted))).collect();
    body += &format!(r#"<path class="dots" d="{dots}"/>"#);
    let finite = |values: &[f64], gene: usize| values.get(gene).copied().filter(|value| value.is_finite());
    let mut named: Vec<(&str, (f64, f64))> = Vec::new();
    let mut marks = String::new();
    for gene in scatter.top.iter().copied() {
        let Some(((name, truth), predicted)) =
            scatter.genes.get(gene).zip(finite(&truth, gene)).zip(finite(&predicted, gene))
        else {
            continue;
        };
        let (at_x, at_y) = (x.at(truth), y.at(predicted));
        if let Some(control) = finite(&control, gene) {
            body += &format!(r#"<path class="move" d="M{at_x:.1} {:.1}V{at_y:.1}"/>"#, y.at(control));
        }
        let told = escape(&format!("{name}: real {}, predicted {}", short(truth), short(predicted)));
        marks +=
            &format!(r#"<circle class="model" cx="{at_x:.1}" cy="{at_y:.1}" r="3"><title>{told}</title></circle>"#);
        named.push((name, (at_x, at_y)));
    }
    // Marks are drawn last, so that no name covers them.
    body += &format!(r#"<g class="names">{}</g>{marks}"#, names(&named, right + 4.0));
    let r2 = metrics::r2(&truth, &predicted).map_or("undefined".into(), |r2| format!("{r2:.3}"));
    let svg = picture((380.0, 356.0), &format!("predicted against real means, {}", scatter.title), &body);
    let title = escape(&scatter.title);
    Some(format!(r#"<figure><figcaption><b>{title}</b><span>R² {r2}</span></figcaption>{svg}</figure>"#))
}

/// Places names next to their points, to the right or else to the left, if there is space between points and
/// earlier names.
fn names(named: &[(&str, (f64, f64))], right: f64) -> String {
    /// Left end, right end, and vertical centre.
    type LabelSpan = (f64, f64, f64);
    let mut taken: Vec<LabelSpan> = named.iter().map(|(_, (x, y))| (x - 4.0, x + 4.0, *y)).collect();
    let mut labels = String::new();
    for (name, (x, y)) in named {
        let width = 7.0 * name.chars().count() as f64;
        let fits = |start: f64| {
            let covers =
                |(from, to, middle): &LabelSpan| (middle - y).abs() < 11.0 && *from < start + width && start < *to;
            start >= 0.0 && start + width <= right && !taken.iter().any(covers)
        };
        let sides = [(x + 6.0, x + 6.0, "start"), (x - 6.0 - width, x - 6.0, "end")];
        if let Some((start, at, anchor)) = sides.into_iter().find(|(start, ..)| fits(*start)) {
            taken.push((start, start + width, *y));
            labels += &label_at(at, y + 3.5, anchor, name);
        }
    }
    labels
}

/// For each score, one row for the model, each baseline and the ceiling: the mean as a large dot, every
/// condition faintly.
pub(super) fn score_dots(evaluation: &Evaluation) -> String {
    let shown = [
        (4, "Pearson correlation of the change", Some(1.0)),
        (0, "R² of the means", Some(1.0)),
        (2, "R² of the means, 20 most changed genes", Some(1.0)),
        (5, "Mean squared error of the change", None),
    ];
    shown.into_iter().filter_map(|(score, title, best)| dot_panel(evaluation, score, title, best)).collect()
}

fn dot_panel(evaluation: &Evaluation, score: usize, title: &str, best: Option<f64>) -> Option<String> {
    let (left, right, top, row_height) = (116.0, 322.0, 4.0, 22.0);
    let rows = dot_rows(evaluation);
    let bottom = top + row_height * rows.len() as f64;
    let of = |scores: &PredictionScores| scores.values()[score];
    let values = rows.iter().flat_map(|row| row.conditions.iter().chain([&row.mean])).filter_map(of);
    // A score with maximum 1 has no lower bound: a point at the edge means that the value is far below.
    let axis = match best {
        Some(best) => Axis::holding(values.map(|value| value.max(-1.0)).chain([best]), (left, right))?,
        None => Axis::holding(values.chain([0.0]), (left, right))?,
    };
    let mut body = horizontal_axis(&axis, (top, bottom), if best.is_some() { "better →" } else { "← better" });
    for (index, row) in rows.iter().enumerate() {
        let y = top + row_height * (index as f64 + 0.5);
        body += &label_at(left - 8.0, y + 3.5, "end", row.name);
        for value in row.conditions.iter().filter_map(of) {
            body += &format!(r#"<circle class="faint" cx="{:.1}" cy="{y:.1}" r="2.5"/>"#, axis.at(value));
        }
        let mean = of(&row.mean);
        if let Some(mean) = mean {
            body += &mean_mark(&axis, mean, y, row.class);
        }
        body += &label_at(right + 10.0, y + 3.5, "start", &mean.map_or("–".into(), |mean| format!("{mean:.3}")));
    }
    let svg = picture((380.0, bottom + 36.0), title, &body);
    Some(format!("<figure><figcaption><b>{title}</b></figcaption>{svg}</figure>"))
}

/// A dot, or an arrow head at the edge beyond which the value is.
fn mean_mark(axis: &Axis, mean: f64, y: f64, class: &str) -> String {
    let x = axis.at(mean);
    if axis.low() <= mean && mean <= axis.high() {
        return format!(r#"<circle class="{class}" cx="{x:.1}" cy="{y:.1}" r="4.5"/>"#);
    }
    format!(r#"<path class="{class}" d="M{x:.1} {y:.1}l8 -5v10z"/>"#)
}

struct DotRow {
    name: &'static str,
    class: &'static str,
    mean: PredictionScores,
    conditions: Vec<PredictionScores>,
}

fn dot_rows(evaluation: &Evaluation) -> Vec<DotRow> {
    let row = |name, class, mean, of: &dyn Fn(&ConditionScores) -> PredictionScores| DotRow {
        name,
        class,
        mean,
        conditions: evaluation.judged().map(of).collect(),
    };
    let mut rows = vec![row("model", "model", evaluation.mean, &|condition| condition.scores)];
    rows.extend(Baseline::ALL.map(|baseline| {
        row(baseline.name(), "baseline", *evaluation.baselines.get(baseline), &|condition| {
            *condition.baselines.get(baseline)
        })
    }));
    if let Some(offset) = evaluation.baselines.offset {
        rows.push(row("offset", "baseline", offset, &|condition| condition.baselines.offset.unwrap_or_default()));
    }
    rows.push(row("ceiling", "ceiling", evaluation.ceiling(), &|condition| condition.ceiling));
    rows
}
