//! The box at the top of a page: how the model compares with the best baseline, and whether the comparison is fair.

use evaluate::{BaselineComparison, Evaluation, Verdict};

use super::{
    names::prediction,
    score_dots::{OF_VERDICT, verdict_chart},
    svg::escape,
};

/// The box of a model's evaluation, or of none yet.
pub(super) fn verdict_box(evaluation: Option<&Evaluation>) -> String {
    let Some(evaluation) = evaluation else {
        return r#"<div class="verdict none"><p class="said">Not evaluated yet.</p><p>Run <code>perturbine evaluate</code>, then <code>perturbine report</code> again.</p></div>"#.into();
    };
    let chart = verdict_chart(evaluation).map(|chart| chart.figure()).unwrap_or_default();
    framed("The model", evaluation, &chart)
}

/// The box of a prediction with this name.
pub(super) fn named_box(name: &str, evaluation: &Evaluation) -> String {
    framed(name, evaluation, "")
}

fn framed(name: &str, evaluation: &Evaluation, chart: &str) -> String {
    let verdict = evaluation.verdict();
    let class = match verdict.overall {
        Some(BaselineComparison::Better) => "ahead",
        Some(BaselineComparison::Level) => "level",
        Some(BaselineComparison::Worse) => "behind",
        None => "none",
    };
    let warnings: String = warnings(evaluation, &verdict)
        .into_iter()
        .map(|warning| format!(r#"<p class="warning"><b>Caution:</b> {}</p>"#, escape(&warning)))
        .collect();
    let sentences: String = sentences(&verdict).into_iter().map(|one| format!("<p>{}</p>", escape(&one))).collect();
    format!(
        r#"<div class="verdict {class}"><div><p class="said">{}</p>{warnings}{sentences}<p class="quiet" title="{OF_VERDICT}">{}</p></div>{chart}</div>"#,
        escape(&headline(name, &verdict)),
        escape(&how(&verdict, evaluation)),
    )
}

fn headline(name: &str, verdict: &Verdict) -> String {
    match verdict.overall {
        Some(BaselineComparison::Better) => format!("{name} is ahead of the best baseline."),
        Some(BaselineComparison::Level) => format!("{name} is level with the best baseline."),
        Some(BaselineComparison::Worse) => format!("{name} is behind the best baseline."),
        None if verdict.conditions() == 0 => "No condition could be evaluated.".into(),
        None => format!("{name} can't be compared with a baseline."),
    }
}

/// The reason why a comparison is unfair.
fn warnings(evaluation: &Evaluation, verdict: &Verdict) -> Vec<String> {
    let mut warnings = Vec::new();
    if verdict.conditions() > 0 && !verdict.held_out {
        let is_of_training = evaluation.conditions.iter().any(|condition| condition.split == "train");
        warnings.push(if is_of_training {
            "nothing was held out: the model was trained on the evaluated cells, so this says nothing about new conditions.".into()
        } else {
            "nothing was held out: the model was trained on other cells of the same conditions, so this says nothing about new conditions.".into()
        });
    }
    if verdict.conditions() > 0 && !verdict.strict {
        warnings.push(
            "not strict: the model was trained on controls that real changes are measured from, so scores are too high. \
             A split made by `perturbine split` sets such controls apart."
                .into(),
        );
    }
    warnings
}

/// The verdict in numbers.
fn sentences(verdict: &Verdict) -> Vec<String> {
    let (Some(lead), Some(model), Some(best)) = (verdict.lead, verdict.model, verdict.best) else { return Vec::new() };
    let conditions = verdict.conditions();
    let held_out = if verdict.held_out { "held-out " } else { "" };
    let plural = if conditions == 1 { "condition" } else { "conditions" };
    let usual = verdict.usual_best.map(|baseline| prediction(baseline.name()).0);
    let usual = match usual {
        Some(name) if conditions == 1 => format!(" ({name})"),
        Some(name) => format!(" of each, most often {name},"),
        None => String::new(),
    };
    let interval = verdict.interval.map(|[low, _, high]| format!(", 95% interval {low:+.3} to {high:+.3}"));
    let mut sentences = vec![format!(
        "On {conditions} {held_out}{plural}, its predicted changes correlate by {model:.3} with the real ones, those of the best baseline{usual} by {best:.3}: \
         a difference of {lead:+.3}{}.",
        interval.unwrap_or_default()
    )];
    if conditions > 1 {
        let parts = [
            ("ahead", verdict.better),
            ("level", verdict.level),
            ("behind", verdict.worse),
            ("not comparable", verdict.not_comparable),
        ];
        let parts: Vec<String> =
            parts.iter().filter(|(_, times)| *times > 0).map(|(word, times)| format!("{word} on {times}")).collect();
        sentences.push(format!("By condition: {}.", parts.join(", ")));
    }
    sentences
}

/// The meaning of level, and the limit that noise sets.
fn how(verdict: &Verdict, evaluation: &Evaluation) -> String {
    let level = format!("Level is a difference within {}, or one that may be chance.", Verdict::LEVEL);
    let ceiling = evaluation.ceiling().pearson_delta;
    match (ceiling, verdict.model) {
        (Some(ceiling), Some(model)) if ceiling >= model => {
            format!("{level} Two halves of the real cells correlate by {ceiling:.3}: noise allows hardly more.")
        }
        _ => level,
    }
}

#[cfg(test)]
mod tests {
    use evaluate::Baseline;

    use super::*;

    fn verdict(overall: BaselineComparison, lead: f64) -> Verdict {
        Verdict {
            overall: Some(overall),
            lead: Some(lead),
            interval: Some([lead - 0.01, lead, lead + 0.01]),
            model: Some(0.8 + lead),
            best: Some(0.8),
            usual_best: Some(Baseline::Linear),
            better: 1,
            level: 2,
            worse: 0,
            not_comparable: 0,
            held_out: true,
            strict: true,
        }
    }

    #[test]
    fn a_verdict_is_short_and_has_its_numbers() {
        let ahead = verdict(BaselineComparison::Better, 0.041);
        assert_eq!(headline("The model", &ahead), "The model is ahead of the best baseline.");
        let sentences = sentences(&ahead);
        assert!(
            sentences[0].starts_with("On 3 held-out conditions, its predicted changes correlate by 0.841"),
            "{sentences:?}"
        );
        assert!(sentences[0].ends_with("a difference of +0.041, 95% interval +0.031 to +0.051."), "{sentences:?}");
        assert_eq!(sentences[1], "By condition: ahead on 1, level on 2.");
    }
}
