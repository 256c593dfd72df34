//! Scores side by side: for each score, a row for the model, each baseline and the ceiling.

use evaluate::{Baseline, ConditionScores, Evaluation, PredictionScores};

use super::{
    ceiling::CeilingName,
    chart::Chart,
    names::{prediction, score, tooltip},
    svg::{Axis, horizontal_axis, label_at},
};

/// The score of the verdict.
pub(super) const OF_VERDICT: &str = "pearson_delta";
/// The scores that are drawn besides.
const DRAWN: [&str; 3] = ["mse_delta", "de_direction", "rank"];
/// How far an axis reaches beyond the means: a condition farther out is counted at its end.
const REACH: f64 = 3.0;

/// The chart of the score that decides the verdict.
pub(super) fn verdict_chart(evaluation: &Evaluation) -> Option<Chart> {
    dot_chart(evaluation, OF_VERDICT)
}

/// The charts of other scores.
pub(super) fn score_charts(evaluation: &Evaluation) -> Vec<Chart> {
    DRAWN.iter().filter_map(|score| dot_chart(evaluation, score)).collect()
}

struct DotRow {
    /// The name, and a second line.
    name: [String; 2],
    class: &'static str,
    mean: Option<f64>,
    conditions: Vec<f64>,
}

fn dot_chart(evaluation: &Evaluation, technical: &str) -> Option<Chart> {
    let (left, right, top, row_height) = (134.0, 326.0, 4.0, 22.0);
    let rows = dot_rows(evaluation, technical);
    rows.first()?.mean?;
    let is_error = PredictionScores::is_an_error(technical);
    let axis = axis(&rows, is_error, (left, right))?;
    let (mut body, mut y) = (String::new(), top);
    for row in &rows {
        let height = if row.name[1].is_empty() { row_height } else { row_height + 12.0 };
        let middle = y + height / 2.0;
        let first = if row.name[1].is_empty() { middle + 3.5 } else { middle - 3.0 };
        body += &label_at(left - 8.0, first, "end", &row.name[0]);
        if !row.name[1].is_empty() {
            body += &label_at(left - 8.0, middle + 11.0, "end", &row.name[1]);
        }
        for value in row.conditions.iter().filter(|value| axis.has(**value)) {
            body += &format!(
                r#"<circle class="dot faint {}" cx="{:.1}" cy="{middle:.1}" r="2.5"/>"#,
                row.class,
                axis.at(*value)
            );
        }
        if let Some(mean) = row.mean.filter(|mean| axis.has(*mean)) {
            let mark = if row.class == "neutral" { "ring" } else { "dot" };
            body += &format!(
                r#"<circle class="{mark} {}" cx="{:.1}" cy="{middle:.1}" r="4.5"/>"#,
                row.class,
                axis.at(mean)
            );
        }
        let shown = row.mean.map_or("–".into(), |mean| format!("{mean:.3}"));
        body += &label_at(right + 10.0, middle + 3.5, "start", &shown);
        y += height;
    }
    let better = if is_error { "← better" } else { "better →" };
    let beyond = rows.iter().flat_map(|row| &row.conditions).filter(|value| !axis.has(**value)).count();
    let (title, meaning) = score(technical);
    Some(Chart {
        name: format!("score-{}", technical.replace('_', "-")),
        title: title.to_owned(),
        aside: beyond_axis(beyond),
        tooltip: tooltip(technical, meaning),
        size: (384.0, y + 36.0),
        body: horizontal_axis(&axis, (top, y), better) + &body,
        legend: Vec::new(),
    })
}

/// The note about values that are not drawn.
fn beyond_axis(count: usize) -> String {
    match count {
        0 => String::new(),
        1 => "1 value lies beyond the axis".into(),
        several => format!("{several} values lie beyond the axis"),
    }
}

/// An axis that holds the means, and the conditions that are not far beyond them. A mean as far out as a baseline's R² may be
/// is left to the number beside its row.
fn axis(rows: &[DotRow], is_error: bool, pixels: (f64, f64)) -> Option<Axis> {
    let means = || rows.iter().filter_map(|row| row.mean);
    let best = if is_error { 0.0 } else { 1.0 };
    let model = rows.first().and_then(|row| row.mean)?;
    let farthest = (best - model).abs().max(0.1) * REACH;
    let near = |value: &f64| (value - best).abs() <= farthest.max(if is_error { 0.0 } else { 1.0 });
    let values = means().chain(rows.iter().flat_map(|row| row.conditions.iter().copied())).filter(near);
    let least = if is_error { 0.0 } else { 0.2 };
    Axis::spanning(values.chain([best, model]), least, pixels)
}

fn dot_rows(evaluation: &Evaluation, technical: &str) -> Vec<DotRow> {
    let row = |name: [String; 2], class, mean: &PredictionScores, of: &dyn Fn(&ConditionScores) -> PredictionScores| {
        let conditions: Vec<f64> = evaluation.judged().filter_map(|condition| of(condition).named(technical)).collect();
        DotRow {
            name,
            class,
            mean: mean.named(technical),
            conditions: if conditions.len() > 1 { conditions } else { Vec::new() },
        }
    };
    let named = |technical: &str| [prediction(technical).0.to_owned(), String::new()];
    let mut rows = vec![row(named("model"), "model", &evaluation.mean, &|condition| condition.scores)];
    rows.extend(Baseline::ALL.map(|baseline| {
        row(named(baseline.name()), "other", evaluation.baselines.get(baseline), &|condition| {
            *condition.baselines.get(baseline)
        })
    }));
    if let Some(offset) = &evaluation.baselines.offset {
        rows.push(row(named("offset"), "cloud", offset, &|condition| condition.baselines.offset.unwrap_or_default()));
    }
    let CeilingName { name, cells, .. } = CeilingName::of(&[evaluation], technical);
    rows.push(row([name, cells], "neutral", &evaluation.ceiling(), &|condition| condition.ceiling));
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(mean: f64, conditions: &[f64]) -> DotRow {
        DotRow { name: Default::default(), class: "other", mean: Some(mean), conditions: conditions.into() }
    }

    #[test]
    fn a_far_outlier_does_not_decide_an_axis() {
        let axis = axis(&[row(0.8, &[0.7, 0.9]), row(0.5, &[-41.0, 0.9])], false, (0.0, 100.0)).expect("values");
        assert!(axis.has(0.5) && axis.has(1.0) && !axis.has(-41.0) && !axis.has(-1.0));
        let errors = super::axis(&[row(0.07, &[]), row(0.2, &[0.19, 9.0])], true, (0.0, 100.0)).expect("values");
        assert!(errors.has(0.0) && errors.has(0.2) && !errors.has(9.0));
    }
}
