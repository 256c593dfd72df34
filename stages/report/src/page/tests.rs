//! The required content of a page, parsed like in a browser.

use std::collections::BTreeMap;

use evaluate::{BaselineScores, ConditionScores, GeneChanges, PredictionScores, ScoreRanges};
use statistics::scale::Scale;

use super::*;
use crate::{
    CellsByPart, DataOverview, DosePoint, DoseResponse, HistoryRow, LatentMap, Latents, PerturbationSimilarity,
    ResponseCurve, TextTable, figures, tables,
};

const GENES: usize = 400;

fn condition(index: u32, split: &str) -> ConditionScores {
    let scores = |lead: f64| PredictionScores {
        r2_mean: Some(0.9 + lead / 2.0),
        r2_var: None,
        r2_mean_top20: Some(0.5 + 2.0 * lead - f64::from(index)),
        r2_mean_top20_train: Some(0.3 + lead),
        pearson_delta: Some(0.8 + lead - 0.03 * f64::from(index)),
        mse_delta: Some(0.01 - lead / 10.0 + 0.004 * f64::from(index)),
        ..PredictionScores::default()
    };
    ConditionScores {
        condition: format!("KLF{index}+MAP2K6"),
        dose: "1+0.5".into(),
        covariates: BTreeMap::from([("cell_type".into(), "K562 & <co>".into())]),
        split: split.into(),
        cells: 312,
        scores: scores(0.05),
        n_de: Some(41),
        effect_size: Some(2.5),
        de_nsig_counts: None,
        distance: None,
        beyond_additive: None,
        ceiling: scores(0.09),
        ranges: ScoreRanges::default(),
        baselines: BaselineScores {
            control: PredictionScores {
                r2_mean: Some(0.8),
                r2_mean_top20: Some(-2.7),
                mse_delta: Some(0.03),
                ..PredictionScores::default()
            },
            perturbed_mean: scores(-0.2),
            additive: scores(0.03),
            additive_similar: scores(0.04),
            linear: scores(0.06),
            offset: None,
        },
        versus: BTreeMap::new(),
    }
}

fn epoch(epoch: u32) -> HistoryRow {
    let age = f64::from(epoch);
    let values = [
        ("train.recon", 900.0 + 400.0 * (-age / 6.0).exp()),
        ("valid.recon", 915.0 + 380.0 * (-age / 6.0).exp() + age),
        ("train.adversary", 1.6 - (-age / 4.0).exp()),
        ("valid.r2_mean", 0.93 - 0.8 * (-age / 5.0).exp()),
        ("cells_per_second", 8100.0 + 40.0 * (age * 1.7).sin()),
    ];
    HistoryRow { epoch, values: values.into_iter().map(|(key, value)| (key.to_owned(), value)).collect() }
}

fn changes_of(title: &str) -> GeneChanges {
    let wave = |gene: usize, pace: f32| ((gene * 37 % GENES) as f32 * pace).sin();
    let real = |gene: usize| if gene % 40 == 7 { 2.0 * wave(gene, 0.7) } else { 0.1 * wave(gene, 1.3) };
    GeneChanges {
        title: title.into(),
        cells: 312,
        reference_cells: 200,
        genes: (0..GENES).map(|gene| format!("GENE{gene}")).collect(),
        control: (0..GENES).map(|gene| 3.0 * wave(gene, 0.05).powi(4)).collect(),
        real: (0..GENES).map(real).collect(),
        standard_error: vec![0.05; GENES],
        predicted: (0..GENES).map(|gene| 0.8 * real(gene) + 0.1 * wave(gene, 2.1)).collect(),
        top: (0..10).map(|nth| 40 * nth + 7).collect(),
    }
}

/// Ten conditions of 30 cells each, in two contexts; the conditions are separated in the second map.
fn latents() -> Latents {
    let cells = 0..300_u32;
    let at =
        |cell: u32, apart: f32| [(cell as f32 * 0.7).sin() + apart * (cell % 10) as f32, (cell as f32 * 0.3).cos()];
    let map = |name: &str, apart: f32| LatentMap {
        name: name.into(),
        explained: [0.61, 0.2],
        points: cells.clone().map(|cell| at(cell, apart)).collect(),
    };
    Latents {
        conditions: (0..10).map(|condition| format!("DRUG{condition} <&>")).collect(),
        contexts: vec!["B cells".into(), "T cells".into()],
        condition_of: cells.clone().map(|cell| cell % 10).collect(),
        context_of: cells.clone().map(|cell| cell % 2).collect(),
        maps: vec![map("basal", 0.0), map("after", 1.5)],
    }
}

fn response() -> DoseResponse {
    let point = |step: u32| {
        let dose = f64::from(step) / 4.0;
        DosePoint { dose, effect_size: 2.0 * dose.sqrt(), distance: Some(1.0 - dose / 2.0), trained: step == 4 }
    };
    let curve = |context: &str| ResponseCurve { context: context.into(), points: (0..5).map(point).collect() };
    DoseResponse {
        perturbation: "Nutlin <3a>".into(),
        trained: vec![1.0],
        curves: vec![curve("A549"), curve("K562 & <co>")],
    }
}

fn data() -> DataOverview {
    let group = |condition: &str, context: &str, train: u64, held_out: u64| CellsByPart {
        condition: condition.into(),
        dose: "1".into(),
        context: context.into(),
        is_control: condition == "ctrl",
        train,
        held_out,
        ..CellsByPart::default()
    };
    DataOverview {
        sources: vec!["kang.h5ad".into()],
        cells: 1556,
        genes: 1267,
        values: "counts".into(),
        split: "b-cells".into(),
        covariates: vec!["cell_type".into()],
        groups: vec![
            group("ctrl", "B <cells>", 300, 0),
            group("stim", "B <cells>", 0, 154),
            group("stim", "T", 200, 0),
        ],
    }
}

fn similarity() -> PerturbationSimilarity {
    let names: Vec<String> = (0..4).map(|one| format!("DRUG{one} <&>")).collect();
    let cosine = |a: usize, b: usize| if a == b { 1.0 } else { 0.4 - 0.3 * (a + b) as f32 };
    let cosines = (0..16).map(|at| cosine(at / 4, at % 4)).collect();
    PerturbationSimilarity { context: "B cells".into(), names, cosines, left_out: 2 }
}

fn sample() -> ReportInput {
    let row = |cells: [&str; 5]| cells.map(String::from).to_vec();
    let conditions = (0..4).map(|index| condition(index, "ood")).chain([condition(9, "valid")]).collect();
    ReportInput {
        title: "Kang <B cells> held out".into(),
        model_card: vec![("genes".into(), "1,267".into()), ("atlas".into(), "xxh3:71c2…".into())],
        history: (0..25).map(epoch).collect(),
        evaluation: Some(Evaluation::new(Scale::Log1p, true, conditions)),
        data: Some(data()),
        changes: vec![changes_of("stim, B cells"), changes_of("stim, CD14+ Monocytes")],
        similarity: Some(similarity()),
        latents: Some(latents()),
        responses: vec![response()],
        pipeline: TextTable {
            columns: row(["from", "to", "items", "bytes", "waited_for_room_seconds"]),
            rows: vec![
                row(["read", "encode", "2400", "325058", "0.25"]),
                row(["encode", "train", "2400", "67108864", "41.0"]),
            ],
        },
        commands: vec![CommandRun {
            line: "perturbine report 'a <b>' --out r.html".into(),
            program: "perturbine 0.1.0".into(),
        }],
    }
}

#[test]
fn a_page_says_first_what_came_out() {
    let html = page(&sample());
    let main = html.split("<main>").nth(1).expect("there is a body");
    assert!(main.trim_start().starts_with(r#"<div class="verdict level">"#), "{main:.400}");
    assert!(main.contains("The model is level with the best baseline.") && !main.contains("Caution"));
}

#[test]
fn an_unfair_evaluation_is_marked() {
    let warned = |strict: bool, split: &str| {
        let evaluation = Some(Evaluation::new(Scale::Log1p, strict, vec![condition(0, split)]));
        let html = page(&ReportInput { evaluation, ..ReportInput::default() });
        html.split(r#"<p class="warning">"#)
            .skip(1)
            .map(|rest| rest.split("</p>").next().unwrap_or_default().to_owned())
            .collect::<Vec<_>>()
    };
    assert!(warned(true, "ood").is_empty());
    assert!(warned(false, "ood").iter().any(|one| one.contains("not strict")));
    assert!(warned(true, "valid").iter().any(|one| one.contains("other cells of the same conditions")));
    assert!(warned(true, "train").iter().any(|one| one.contains("trained on the evaluated cells")));
}

#[test]
fn a_page_needs_nothing_but_itself() {
    let html = page(&sample());
    for outside in ["<script ", "http:", "https:", "src=", "@import", "url(", "<link"] {
        assert!(!html.contains(outside), "the page holds {outside}");
    }
    assert!(html.contains("prefers-color-scheme: dark"));
}

#[test]
fn names_from_the_data_can_not_become_markup() {
    let mut input = sample();
    let evil = "<img onerror='x'>";
    input.changes[0].genes[7] = evil.into();
    input.changes[0].title = evil.into();
    input.model_card.push((evil.into(), evil.into()));
    input.pipeline.rows[0][0] = evil.into();
    input.history[0].values.insert(evil.into(), 1.0);
    let html = page(&input) + &figures(&input).into_iter().map(|(_, text)| text).collect::<String>();
    assert!(!html.contains("<img"), "a name became markup");
    assert!(html.contains("&lt;img"));
    assert!(html.contains("K562 &amp; &lt;co&gt;") && html.contains("Kang &lt;B cells&gt; held out"));
}

#[test]
fn every_element_is_closed_by_its_own_kind() {
    let html = page(&sample());
    let markup = html.split("<script>").next().expect("a page").to_owned() + "</body></html>";
    for text in figures(&sample()).into_iter().map(|(_, text)| text).chain([markup]) {
        let mut open: Vec<&str> = Vec::new();
        for tag in text.split('<').skip(1).filter_map(|piece| piece.split('>').next()) {
            let name = tag.trim_start_matches('/').split([' ', '/']).next().unwrap_or_default();
            let void = tag.ends_with('/') || matches!(name, "!doctype" | "meta" | "?xml");
            match tag.strip_prefix('/') {
                Some(closed) => assert_eq!(open.pop(), Some(closed)),
                None if !void => open.push(name),
                None => {}
            }
        }
        assert!(open.is_empty(), "left open: {open:?}");
    }
}

#[test]
fn cells_are_drawn_before_and_after_by_condition_and_by_context() {
    let html = page(&ReportInput { latents: Some(latents()), ..ReportInput::default() });
    let titles = ["before the perturbation", "with perturbation and context"];
    for title in titles.iter().flat_map(|title| ["condition", "context"].map(|by| format!("{title}, by {by}"))) {
        assert!(html.contains(&format!(">{title}</b>")), "{title} is missing");
    }
    assert!(html.contains("component 1 (61%)") && html.contains("component 2 (20%)"));
    // Eight conditions have their own colour, the other two share one.
    assert_eq!(html.matches("</i>others</span>").count(), 2);
    assert_eq!(html.matches("DRUG").count(), 2 * 8);
}

#[test]
fn a_dose_that_was_trained_on_is_filled_and_others_say_what_they_are() {
    let html = page(&ReportInput { responses: vec![response()], ..ReportInput::default() });
    assert_eq!((html.matches(r#"class="dot hue"#).count(), html.matches(r#"class="ring hue"#).count()), (2, 2 * 4));
    assert!(html.contains("dose 1: change 2.00, trained, expected error 0.500"), "{html}");
    assert!(html.contains("dose 0.25: change 1.00, interpolated between no dose and the smallest trained dose"));
    assert_eq!(html.matches(r#"class="trained""#).count(), 1);
}

#[test]
fn training_and_validation_share_a_picture_of_each_measurement() {
    let html = page(&ReportInput { history: sample().history, ..ReportInput::default() });
    assert_eq!(html.matches("<figure ").count(), 4, "adversary, cells per second, R², loss");
    let recon = html.split("<figure ").find(|figure| figure.contains("loss of reconstruction")).expect("a picture");
    assert!(recon.contains(r#"class="line other""#) && recon.contains(r#"class="line model""#));
}

#[test]
fn changed_genes_have_their_direction_and_interval() {
    let changes = vec![GeneChanges {
        title: "stim".into(),
        cells: 17,
        reference_cells: 30,
        genes: vec!["ISG15".into(), "CD74".into(), "CD3E".into(), "LYZ".into()],
        control: vec![0.11, 4.0, 1.0, 2.0],
        real: vec![2.68, -0.9, 0.0, 1.0],
        standard_error: vec![0.1, 0.2, 0.1, 0.1],
        predicted: vec![2.5, 0.3, 0.0, -0.01],
        top: vec![0, 1, 3],
    }];
    let input = ReportInput { changes, ..ReportInput::default() };
    let html = page(&input);
    assert!(html.contains("ISG15: real change 2.68 ± 0.196, predicted 2.50, same direction"), "{html}");
    assert!(html.contains("CD74: real change -0.900 ± 0.392, predicted 0.300, another direction"), "{html}");
    assert!(html.contains("LYZ: real change 1.00 ± 0.196, predicted -0.010, close to no change"), "{html}");
    assert_eq!(html.matches("ring bad").count(), 1, "{html}");
    assert!(html.contains("direction right for 1 of 3") && html.contains("17 cells against 30 controls"));
    assert!(!html.contains("CD3E"));
    let tables = tables(&input);
    let (_, csv) = tables.iter().find(|(name, _)| name == "gene-changes.csv").expect("all genes");
    assert_eq!(csv.lines().count(), 1 + 4);
}

#[test]
fn a_table_has_every_condition_next_to_every_baseline() {
    let evaluation = sample().evaluation;
    let html = page(&ReportInput { evaluation, ..ReportInput::default() });
    let first = html.split("<table>").nth(1).expect("there is a table");
    let first = first.split("</table>").next().expect("it ends");
    assert_eq!(first.matches("<tr>").count(), 1 + 5);
    for header in
        ["model", "no change", "mean response", "additive", "additive (similar)", "ridge regression", "ceiling"]
    {
        assert!(first.contains(&format!(r#"<button type="button">{header}</button>"#)), "{header} has no column");
    }
}

#[test]
fn a_ceiling_below_the_model_is_called_what_it_is() {
    let mut low = condition(0, "ood");
    (low.cells, low.ceiling.pearson_delta) = (17, Some(0.3));
    let evaluation = Some(Evaluation::new(Scale::Log1p, true, vec![low]));
    let html = page(&ReportInput { evaluation, ..ReportInput::default() });
    assert!(html.contains("replicate agreement (n\u{a0}=\u{a0}17)") && html.contains(">n = 17</text>"), "{html}");
    assert!(!page(&sample()).contains("n = 312"));
}

#[test]
fn charts_and_tables_are_files_with_names_of_their_own() {
    let input = sample();
    let (figures, tables) = (figures(&input), tables(&input));
    let names: std::collections::BTreeSet<&String> = figures.iter().chain(&tables).map(|(name, _)| name).collect();
    assert_eq!(names.len(), figures.len() + tables.len());
    for name in [
        "score-pearson-delta.svg",
        "genes-stim-b-cells.svg",
        "changes-stim-b-cells.svg",
        "similarity.svg",
        "dose-nutlin-3a.svg",
        "cells.csv",
        "scores.csv",
        "mean-scores.csv",
        "dose-responses.csv",
        "training.csv",
        "pipeline.csv",
    ] {
        assert!(names.contains(&name.to_owned()), "{name} is missing: {names:?}");
    }
    assert!(figures.iter().all(|(_, svg)| svg.contains("xmlns=") && !svg.contains("var(")));
}

#[test]
fn a_model_without_anything_to_show_still_makes_a_page() {
    let html = page(&ReportInput { title: "new".into(), ..ReportInput::default() });
    assert!(html.contains("Not evaluated yet.") && !html.contains("<section>"));
}

#[test]
fn numbers_that_are_not_finite_do_not_reach_a_picture() {
    let mut input = sample();
    input.history[3].values.insert("train.recon".into(), f64::NAN);
    input.changes[0].predicted[0] = f32::INFINITY;
    input.changes[1].real.fill(f32::NAN);
    let html = page(&input);
    let html = html.split("<script>").next().expect("a page");
    assert!(
        !html.contains("NaN") && !html.contains("inf,") && !html.contains("inf "),
        "a picture holds a number that is none"
    );
}
