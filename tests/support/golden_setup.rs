//! Schedules and the codes of labels are the original's, where its quirks are requested.

use schemas::conditions::{CONTROL, ConditionTable, LabelRules};
use serde_json::Value;
use stages::model::schedule::{Clock, Schedule};

use super::original::{self, beside_the_cases};

#[test]
fn the_schedules_are_the_originals() {
    let Some(schedules) = beside_the_cases("schedules.json") else { return };
    for (name, json) in schedules.as_object().expect("schedules by name") {
        println!("{name}");
        let plan = original::plan("nb", &Value::Null, &json["cfg"]);
        let columns = ["epoch", "adv_on", "adv_lambda", "mixup_alpha", "kl_weight", "lr_ae_during_epoch"];
        assert_eq!(json["columns"], Value::from(columns.to_vec()), "{name}");
        for row in json["rows"].as_array().expect("rows") {
            let epoch = u32::try_from(row[0].as_u64().expect("an epoch")).expect("a small number");
            let schedule = Schedule::at(&plan, Clock { epoch, ..Clock::default() });
            assert_eq!(row[1], schedule.adversarial, "{name}: adversaries in epoch {epoch}");
            let weight = schedule.adversarial.then_some(schedule.adversary_weight);
            let found = [
                weight,
                Some(schedule.mixup_alpha),
                Some(schedule.divergence_weight),
                Some(plan.train.lr * schedule.rate),
            ];
            for ((column, found), expected) in columns[2..].iter().zip(found).zip(&row.as_array().expect("a row")[2..])
            {
                let close = match (found, expected.as_f64()) {
                    (Some(found), Some(expected)) => (found - expected).abs() <= 1e-12 * expected.abs(),
                    (found, expected) => found == expected,
                };
                assert!(close, "{name}: {column} in epoch {epoch} is {found:?}, not {expected}");
            }
        }
    }
}

#[test]
fn labels_become_the_originals_codes() {
    let Some(setup) = beside_the_cases("setup.json") else { return };
    let vocabulary = original::vocabulary(&setup);
    let mut table = ConditionTable::new(LabelRules { delimiter: "+".into(), controls: vec!["ctrl".into()] });
    let rows = setup["rows"].as_array().expect("rows");
    assert!(!rows.is_empty(), "setup.json has no rows");
    for row in rows {
        let obs = |name: &str| row["obs"][name].as_str().expect("a label");
        let id = table.intern(obs("condition"), Some(obs("dose"))).expect("a good label");
        let codes = |name: &str| {
            let numbers =
                row[name].as_array().expect("numbers").iter().map(|number| number.as_f64().expect("a number"));
            numbers.collect::<Vec<_>>()
        };
        let parts = vocabulary.parts_as_the_original(&table, id).expect("a known condition");
        let padded = |numbers: Vec<f64>| {
            let width = codes("perts").len();
            numbers.into_iter().chain(std::iter::repeat(0.0)).take(width).collect::<Vec<_>>()
        };
        assert_eq!(padded(parts.iter().map(|(code, _)| f64::from(*code)).collect()), codes("perts"), "{row}");
        // Minibatches of the original hold doses in single precision, as ours do.
        let single = |numbers: Vec<f64>| numbers.into_iter().map(narrow).collect::<Vec<_>>();
        let doses = padded(parts.iter().map(|(_, dose)| *dose).collect());
        assert_eq!(single(doses), single(codes("doses")), "{row}");
        let class = vocabulary.combinations.iter().position(|name| name == table.name(id)).expect("a class");
        assert_eq!(row["condition_code"], class, "{row}");
        assert_eq!(row["is_control"], u32::from(id == CONTROL), "{row}");
        for covariate in &vocabulary.covariates {
            let code = covariate.code(obs(&covariate.name)).expect("a known value");
            assert_eq!(row[format!("{}_code", covariate.name)], code, "{row}");
        }
    }
}

#[allow(clippy::cast_possible_truncation, reason = "single precision is meant")]
fn narrow(number: f64) -> f32 {
    number as f32
}
