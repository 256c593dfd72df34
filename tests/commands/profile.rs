//! `train --profile` writes what happened when.

use std::{
    collections::BTreeMap,
    fs,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use serde_json::Value;

use crate::support::{Home, TINY};

fn seconds_since_1970() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64()
}

#[test]
fn a_trace_shows_stages_and_libtorch_on_one_time_line() {
    let home = Home::with_atlas();
    let (started_at, started) = (seconds_since_1970(), Instant::now());
    home.json(&format!("train s.atlas --out m --epochs 3 {TINY} --profile trace.json"));
    let again = home.refused(2, &format!("train s.atlas --out n --epochs 1 {TINY} --profile trace.json"));
    assert!(again.contains("trace.json already exists"), "{again}");
    let (ended_at, took) = (seconds_since_1970(), started.elapsed().as_secs_f64());
    let trace: Value = serde_json::from_slice(&fs::read(home.path("trace.json")).unwrap()).unwrap();
    let base = trace["baseTimeNanoseconds"].as_f64().unwrap_or(0.0) / 1e9;
    let events = trace["traceEvents"].as_array().unwrap();
    let number = |event: &Value, name: &str| event[name].as_f64().unwrap();

    let mut busy = BTreeMap::new();
    let mut threads = BTreeMap::new();
    for event in events.iter().filter(|event| event["cat"] == "stage") {
        let (from, lasts) = (base + number(event, "ts") / 1e6, number(event, "dur") / 1e6);
        assert!(lasts >= 0.0, "{event}");
        // The clocks of a trace and of this test differ by less than a tenth of a second.
        assert!(
            started_at - 0.1 <= from && from + lasts <= ended_at + 0.1,
            "{event} is not of {started_at} to {ended_at}"
        );
        let name = event["name"].as_str().unwrap().to_owned();
        *busy.entry((name.clone(), event["tid"].as_u64().unwrap())).or_insert(0.0) += lasts;
        threads.entry(event["tid"].as_u64().unwrap()).or_insert(name);
    }
    let stages: Vec<&str> = busy.keys().map(|(name, _)| name.as_str()).collect();
    for stage in ["read", "batch", "train"] {
        assert!(stages.contains(&stage), "{stage} is not among {stages:?}");
    }
    for ((stage, thread), seconds) in &busy {
        assert!(*seconds <= took, "{stage} was busy for {seconds} s on thread {thread}, the run took {took} s");
    }
    // Every thread bears the name of its stage.
    for (thread, stage) in &threads {
        let named = events.iter().any(|event| {
            event["name"] == "thread_name" && event["tid"] == *thread && event["args"]["name"] == stage.as_str()
        });
        assert!(named, "thread {thread} of {stage} has no name");
    }
    // libtorch's events are inside the training's items.
    let train: Vec<(f64, f64)> = events
        .iter()
        .filter(|event| event["cat"] == "stage" && event["name"] == "train")
        .map(|event| (number(event, "ts"), number(event, "ts") + number(event, "dur")))
        .collect();
    let operations: Vec<&Value> = events.iter().filter(|event| event["cat"] == "cpu_op").collect();
    assert!(!operations.is_empty(), "libtorch's operations are not there");
    let within = operations.iter().filter(|event| {
        let at = number(event, "ts");
        train.iter().any(|(from, to)| from - 1e3 <= at && at <= to + 1e3)
    });
    assert!(
        operations.len() / 2 < within.count(),
        "libtorch's operations lie elsewhere than the steps that asked for them"
    );
}

#[test]
fn a_trace_that_can_not_be_written_is_an_error_of_its_own() {
    let home = Home::with_atlas();
    fs::create_dir(home.path("trace.json")).unwrap();
    let ran = home.run(&format!("train s.atlas --out m --epochs 1 {TINY} --profile trace.json"));
    assert_ne!(ran.code, 0);
    assert!(ran.stderr.contains("trace.json"), "{}", ran.stderr);
}
