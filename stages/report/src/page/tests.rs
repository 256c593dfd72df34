//! The required content of a page, parsed like in a browser.

use std::collections::BTreeMap;

use evaluate::{BaselineScores, Scatter, ScoreRanges};
use statistics::scale::Scale;

use super::*;
use crate::{DosePoint, DoseResponse, HistoryRow, LatentMap, Latents, ResponseCurve};

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

fn picture_of(title: &str) -> Scatter {
    let wave = |gene: usize, pace: f32| ((gene * 37 % GENES) as f32 * pace).sin().abs();
    let control: Vec<f32> = (0..GENES).map(|gene| 3.0 * wave(gene, 0.05).powi(4)).collect();
    let changed = |gene: usize| if gene % 40 == 7 { 1.8 * wave(gene, 0.7) } else { 0.0 };
    Scatter {
        title: title.into(),
        genes: (0..GENES).map(|gene| format!("GENE{gene}")).collect(),
        truth: (0..GENES).map(|gene| control[gene] + changed(gene) + 0.1 * wave(gene, 1.3)).collect(),
        predicted: (0..GENES).map(|gene| control[gene] + 0.8 * changed(gene) + 0.1 * wave(gene, 2.1)).collect(),
        control,
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
        DosePoint { dose, effect_size: 2.0 * dose.sqrt(), distance: Some(if step == 4 { 0.0 } else { 1.0 - dose }) }
    };
    let curve = |context: &str| ResponseCurve { context: context.into(), points: (0..5).map(point).collect() };
    DoseResponse {
        perturbation: "Nutlin <3a>".into(),
        trained: vec![1.0],
        curves: vec![curve("A549"), curve("K562 & <co>")],
    }
}

fn sample() -> ReportInput {
    let row = |cells: [&str; 5]| cells.map(String::from).to_vec();
    let conditions = (0..4).map(|index| condition(index, "ood")).chain([condition(9, "valid")]).collect();
    ReportInput {
        title: "Kang <B cells> held out".into(),
        model_card: vec![("genes".into(), "1,267".into()), ("atlas".into(), "xxh3:71c2…".into())],
        history: (0..25).map(epoch).collect(),
        evaluation: Some(Evaluation::new(Scale::Log1p, true, conditions)),
        scatters: vec![picture_of("stim, B cells"), picture_of("stim, CD14+ Monocytes")],
        latents: Some(latents()),
        responses: vec![response()],
        pipeline: TextTable {
            columns: row(["edge", "items", "peak", "waited for room", "waited for items"]),
            rows: vec![
                row(["read → encode", "2,400", "31 MiB", "0.2 s", "8.1 s"]),
                row(["encode → train", "2,400", "64 MiB", "41.0 s", "0.0 s"]),
            ],
        },
    }
}

#[test]
fn a_page_says_first_what_came_out() {
    let html = page(&sample());
    let summary = sample().evaluation.expect("the sample is evaluated").summary;
    let lead = format!("<p class=\"lead\">{}</p>", escape(&sentence(&summary)));
    assert!(html.contains(&lead), "{summary}");
}

#[test]
fn a_page_needs_nothing_but_itself() {
    let html = page(&sample());
    for outside in ["<script", "http:", "https:", "src=", "@import", "url(", "<link"] {
        assert!(!html.contains(outside), "the page holds {outside}");
    }
    assert!(html.contains("prefers-color-scheme: dark"));
}

#[test]
fn names_from_the_data_can_not_become_markup() {
    let mut input = sample();
    let evil = "<img onerror='x'>";
    input.scatters[0].genes[7] = evil.into();
    input.scatters[0].title = evil.into();
    input.model_card.push((evil.into(), evil.into()));
    input.pipeline.rows[0][0] = evil.into();
    input.history[0].values.insert(evil.into(), 1.0);
    let html = page(&input);
    assert!(!html.contains("<img"), "a name became markup");
    assert!(html.contains("&lt;img"));
    assert!(html.contains("K562 &amp; &lt;co&gt;") && html.contains("Kang &lt;B cells&gt; held out"));
}

#[test]
fn every_element_is_closed_by_its_own_kind() {
    let html = page(&sample());
    let mut open: Vec<&str> = Vec::new();
    for tag in html.split('<').skip(1).filter_map(|piece| piece.split('>').next()) {
        let name = tag.trim_start_matches('/').split([' ', '/']).next().unwrap_or_default();
        let void = tag.ends_with('/') || matches!(name, "!doctype" | "meta");
        match tag.strip_prefix('/') {
            Some(closed) => assert_eq!(open.pop(), Some(closed)),
            None if !void => open.push(name),
            None => {}
        }
    }
    assert!(open.is_empty(), "left open: {open:?}");
}

#[test]
fn cells_are_drawn_before_and_after_by_condition_and_by_covariates() {
    let html = page(&ReportInput { latents: Some(latents()), ..ReportInput::default() });
    for title in ["basal by condition", "basal by covariates", "after by condition", "after by covariates"] {
        assert!(html.contains(&format!("<b>{title}</b>")), "{title} is missing");
    }
    assert!(html.contains("component 1 (61%)") && html.contains("component 2 (20%)"));
    // Eight conditions have their own colour, the other two share one.
    assert_eq!(html.matches(">others</span>").count(), 2);
    assert_eq!(html.matches("DRUG").count(), 2 * 8);
}

#[test]
fn a_dose_that_was_trained_on_looks_surer_than_others() {
    let html = page(&ReportInput { responses: vec![response()], ..ReportInput::default() });
    assert_eq!((html.matches(r#"class="known "#).count(), html.matches(r#"class="open "#).count()), (2, 2 * 4));
    assert!(html.contains("dose 0.25: change 1.00, distance 0.750"));
    assert_eq!(html.matches(r#"class="trained""#).count(), 1);
}

#[test]
fn training_and_validation_share_a_picture_of_each_measurement() {
    let html = page(&ReportInput { history: sample().history, ..ReportInput::default() });
    assert_eq!(html.matches("<figure>").count(), 4, "adversary, cells_per_second, r2_mean, recon");
    let recon = html.split("<figure>").find(|figure| figure.contains("<b>recon</b>")).expect("recon has a picture");
    assert!(recon.contains(r#"class="curve train""#) && recon.contains(r#"class="curve valid""#));
}

#[test]
fn the_most_changed_genes_are_named_with_their_numbers() {
    let scatters = vec![Scatter {
        title: "stim".into(),
        genes: vec!["ISG15".into(), "B2M".into(), "CD3E".into()],
        truth: vec![2.79, 4.0, 1.0],
        predicted: vec![2.5, 4.1, 1.0],
        control: vec![0.11, 4.0, 1.0],
        top: vec![0],
    }];
    let html = page(&ReportInput { scatters, ..ReportInput::default() });
    assert!(html.contains(">ISG15</text>") && html.contains("ISG15: real 2.79, predicted 2.50"));
    assert!(!html.contains("CD3E"));
    // 1 - (0.29² + 0.1²) / Σ (truth - mean)², computed by hand.
    assert!(html.contains("R² 0.979"), "{html}");
}

#[test]
fn a_table_has_every_condition_next_to_every_baseline() {
    let html = page(&sample());
    let first = html.split("<table>").nth(1).expect("there is a table");
    let first = first.split("</table>").next().expect("it ends");
    assert_eq!(first.matches("<tr>").count(), 1 + 5);
    for header in ["model", "control", "perturbed_mean", "additive", "additive_similar", "linear", "ceiling"] {
        assert!(first.contains(&format!(r#"<th class="number">{header}</th>"#)), "{header} has no column");
    }
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
    input.scatters[0].predicted[0] = f32::INFINITY;
    input.scatters[1].truth.fill(f32::NAN);
    let html = page(&input);
    assert!(!html.contains("NaN") && !html.contains("inf"), "a picture holds a number that is none");
}
