//! Tables of scores: means, ranges and strata, and conditions one by one.

use evaluate::{Baseline, ConditionScores, Evaluation, PredictionScores};

use super::{
    ceiling::CeilingName,
    names::{prediction, score, scores, tooltip},
    score_dots::OF_VERDICT,
    table::{PageTable, TableCell, TableColumn},
};

/// A prediction in a table, by its name.
pub(super) type NamedEvaluation<'a> = (&'a str, &'a Evaluation);

/// One row per score that any prediction has: each prediction, each baseline, the ceiling.
pub(super) fn mean_table(predictions: &[NamedEvaluation<'_>]) -> PageTable {
    let Some((_, first)) = predictions.first() else { return PageTable::default() };
    let ceiling = first.ceiling();
    let mut all: Vec<(&str, &PredictionScores)> = predictions.iter().map(|(name, one)| (*name, &one.mean)).collect();
    all.extend(first.baselines.named().map(|(name, scores)| -> (&str, &PredictionScores) { (name, scores) }));
    all.push(("ceiling", &ceiling));
    let mut columns = vec![TableColumn::text("score")];
    columns.extend(all[..all.len() - 1].iter().map(|(name, _)| prediction_column(name)));
    columns.push(ceiling_column(predictions, OF_VERDICT));
    let is_defined = |technical: &str| all.iter().any(|(_, scores)| scores.named(technical).is_some());
    let rows = scores().filter(|[technical, ..]| is_defined(technical)).map(|[technical, ..]| {
        let mut cells = vec![score_cell(technical)];
        cells.extend(all.iter().enumerate().map(|(at, (_, scores))| {
            let cell = TableCell::number(scores.named(technical));
            if at < predictions.len() { cell.of_class("ours") } else { cell }
        }));
        cells
    });
    PageTable { name: "mean-scores".into(), columns, rows: rows.collect() }
}

/// One row per score: its controls, and the share of each prediction.
pub(super) fn range_table(predictions: &[NamedEvaluation<'_>]) -> PageTable {
    let Some((_, first)) = predictions.first() else { return PageTable::default() };
    let mut columns = vec![
        TableColumn::text("score"),
        TableColumn::numbers("negative").shown_as("knows nothing", "the better of no change and the mean response"),
        TableColumn::numbers("positive").shown_as("duplicate", "an interpolated duplicate of the real cells"),
    ];
    columns.extend(predictions.iter().map(|(name, _)| {
        TableColumn::numbers(&format!("share:{name}")).shown_as(
            &format!("{name}: share"),
            "0 is a prediction that knows nothing, 1 a duplicate of the experiment",
        )
    }));
    let known = scores().filter_map(|[technical, ..]| Some((technical, first.ranges.get(technical)?)));
    let rows = known.map(|(technical, range)| {
        let mut cells = vec![
            score_cell(technical),
            TableCell::number(Some(range.negative)),
            TableCell::number(Some(range.positive)),
        ];
        let share = |one: &Evaluation| one.ranges.get(technical).and_then(|range| range.share);
        cells.extend(predictions.iter().map(|(_, one)| TableCell::number(share(one)).of_class("ours")));
        cells
    });
    PageTable { name: "score-ranges".into(), columns, rows: rows.collect() }
}

/// One row per stratum: the correlation of the change of the model, of the best baselines and of the ceiling.
pub(super) fn strata_table(evaluation: &Evaluation) -> PageTable {
    let columns = vec![
        TableColumn::text("by").shown_as("divided by", "the property that divides conditions"),
        TableColumn::text("stratum").shown_as("group", "which of the conditions"),
        TableColumn::numbers("conditions"),
        prediction_column("model"),
        TableColumn::numbers("best").shown_as("best baseline", "the best baseline of each condition"),
        prediction_column("ceiling"),
    ];
    let by = |technical: &str| match technical {
        "n_de" => "number of changed genes".to_owned(),
        "effect_size" => "size of the change".to_owned(),
        "saturated" => "best baseline within 5% of the ceiling".to_owned(),
        other => other.to_owned(),
    };
    let row = |one: &evaluate::Stratum| {
        vec![
            TableCell::text(&by(&one.by)),
            TableCell::text(&one.name),
            TableCell::count(one.conditions as u64),
            TableCell::number(one.mean.pearson_delta).of_class("ours"),
            TableCell::number(one.best.pearson_delta),
            TableCell::number(one.ceiling.pearson_delta),
        ]
    };
    PageTable { name: "strata".into(), columns, rows: evaluation.strata.iter().map(row).collect() }
}

/// One row per condition: a score of each prediction, each baseline and the ceiling.
pub(super) fn condition_table(predictions: &[NamedEvaluation<'_>], technical: &str) -> PageTable {
    let Some((_, first)) = predictions.first() else { return PageTable::default() };
    let mut columns = description_columns();
    columns.push(
        TableColumn::numbers("n_de")
            .shown_as("changed genes", "n_de: genes that differ between the real cells and their controls"),
    );
    columns.extend(predictions.iter().map(|(name, _)| prediction_column(name)));
    columns.extend(Baseline::ALL.map(|baseline| prediction_column(baseline.name())));
    columns.push(ceiling_column(predictions, technical));
    let rows = first.conditions.iter().enumerate().map(|(at, condition)| {
        let number = |scores: &PredictionScores| TableCell::number(scores.named(technical));
        let mut cells = description(condition);
        cells.push(condition.n_de.map_or(TableCell::number(None), |genes| TableCell::count(genes as u64)));
        let of =
            |one: &Evaluation| one.conditions.get(at).map_or(TableCell::number(None), |found| number(&found.scores));
        cells.extend(predictions.iter().map(|(_, one)| of(one).of_class("ours")));
        cells.extend(Baseline::ALL.map(|baseline| number(condition.baselines.get(baseline))));
        cells.push(number(&condition.ceiling));
        cells
    });
    PageTable { name: format!("conditions-{}", technical.replace('_', "-")), columns, rows: rows.collect() }
}

/// Every score of every prediction for every condition, for a file.
pub(super) fn score_table(evaluation: &Evaluation) -> PageTable {
    let mut columns = description_columns();
    columns.push(TableColumn::text("prediction"));
    columns.extend(PredictionScores::NAMES.map(TableColumn::numbers));
    let mut rows = Vec::new();
    for condition in &evaluation.conditions {
        let predictions = [("model", &condition.scores)].into_iter().chain(condition.baselines.named());
        for (name, scores) in predictions.chain([("ceiling", &condition.ceiling)]) {
            let mut cells = description(condition);
            cells.push(TableCell::text(name));
            cells.extend(scores.values().map(TableCell::number));
            rows.push(cells);
        }
    }
    PageTable { name: "scores".into(), columns, rows }
}

fn description_columns() -> Vec<TableColumn> {
    vec![
        TableColumn::text("condition"),
        TableColumn::text("dose"),
        TableColumn::text("covariates").shown_as("context", "the covariates of the cells"),
        TableColumn::text("split").shown_as("part", "ood: held out; valid: validation; train: training"),
        TableColumn::numbers("cells"),
    ]
}

fn description(condition: &ConditionScores) -> Vec<TableCell> {
    vec![
        TableCell::text(&condition.condition),
        TableCell::text(&condition.dose),
        TableCell::text(&condition.covariates.values().cloned().collect::<Vec<_>>().join(", ")),
        TableCell::text(if condition.split == "ood" { "held out" } else { &condition.split }),
        TableCell::count(condition.cells),
    ]
}

fn prediction_column(technical: &str) -> TableColumn {
    let (shown, meaning) = prediction(technical);
    TableColumn::numbers(technical).shown_as(shown, &tooltip(technical, meaning))
}

/// The column of the ceiling, which is not an upper limit where predictions exceed it by this score.
fn ceiling_column(predictions: &[NamedEvaluation<'_>], technical: &str) -> TableColumn {
    let evaluations: Vec<&Evaluation> = predictions.iter().map(|(_, one)| *one).collect();
    let ceiling = CeilingName::of(&evaluations, technical);
    TableColumn::numbers("ceiling").shown_as(&ceiling.whole(), &tooltip("ceiling", ceiling.tooltip))
}

fn score_cell(technical: &str) -> TableCell {
    let (shown, meaning) = score(technical);
    TableCell::named(shown, technical).tooltip(tooltip(technical, meaning))
}
