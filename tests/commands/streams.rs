//! The promises to a program that starts `perturbine`: record batches on standard output, events on standard error, and an end
//! together with its own.

use std::{
    io::{BufRead, BufReader, Cursor},
    process::Stdio,
};

use arrow::{array::RecordBatch, compute::concat_batches, ipc::reader::StreamReader};
use serde_json::Value;

use crate::support::{Home, TINY, parquet, says};

/// The record batches that a command writes to standard output, as one.
#[track_caller]
fn streamed(home: &Home, line: &str) -> RecordBatch {
    let ran = home.command(line).output().unwrap();
    assert!(ran.status.success(), "{line}: {}", String::from_utf8_lossy(&ran.stderr));
    let reader = StreamReader::try_new(Cursor::new(ran.stdout), None).unwrap();
    let schema = reader.schema();
    let batches: Vec<RecordBatch> = reader.map(Result::unwrap).collect();
    concat_batches(&schema, &batches).unwrap()
}

/// A folder with an atlas and a model that was trained on some cells of each of its groups.
fn with_model() -> Home {
    let home = Home::with_atlas();
    home.json(&format!("train s.atlas --out m --epochs 1 {TINY}"));
    home
}

#[test]
fn a_stream_holds_what_a_file_would() {
    let home = with_model();
    for (at, line) in [
        "predict m s.atlas --to observed",
        "predict m s.atlas --to observed --layout long",
        "predict m s.atlas --to observed --output cells",
        "predict m s.atlas --to observed --output latent",
        "embed m s.atlas",
        "embed m --of perturbations",
    ]
    .into_iter()
    .enumerate()
    {
        home.json(&format!("{line} --out {at}.parquet"));
        let (stream, file) =
            (streamed(&home, &format!("{line} --out -")), parquet::read(&home.path(&format!("{at}.parquet"))));
        assert!(stream.num_rows() > 0, "{line}");
        assert_eq!(stream.num_rows(), file.num_rows(), "{line}");
        for (name, column) in
            stream.schema().fields().iter().zip(stream.columns()).map(|(field, column)| (field.name(), column))
        {
            let stored = arrow::compute::cast(file.column_by_name(name).unwrap(), column.data_type()).unwrap();
            assert_eq!(&stored, column, "{line}: {name}");
        }
    }
    home.refused(2, "predict m s.atlas --to observed --out - --shard 0/2");
    home.refused(2, "predict m s.atlas --to observed --out - --force");
}

#[test]
fn curves_are_streamed_as_they_are_written() {
    let home = with_model();
    let condition = home.json("inspect s.atlas")["conditions"][1]["perturbations"][0].as_str().unwrap().to_owned();
    let line = format!("response m s.atlas --condition {condition} --doses 0:1:0.5");
    home.json(&format!("{line} --out c.parquet"));
    assert_eq!(
        streamed(&home, &format!("{line} --out -")).num_rows(),
        parquet::read(&home.path("c.parquet")).num_rows()
    );
}

#[test]
fn every_line_on_standard_error_is_an_event_where_events_are_asked_for() {
    let home = Home::with_atlas();
    let events = |line: &str| -> (i32, Vec<Value>) {
        let ran = home.command(&format!("--progress json {line}")).output().unwrap();
        let lines = String::from_utf8(ran.stderr).unwrap();
        (ran.status.code().unwrap(), lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
    };
    let (code, of_training) = events(&format!("train s.atlas --out m --epochs 2 {TINY}"));
    assert_eq!(code, 0);
    assert!(of_training.iter().all(|event| event["event"].is_string()), "{of_training:?}");
    assert!(of_training.iter().any(|event| event["event"] == "note"), "{of_training:?}");
    let (_, of_prediction) = events("predict m s.atlas --to observed --out -");
    let last = of_prediction.last().unwrap();
    assert_eq!((last["event"].as_str(), last["result"]["rows"].is_u64()), (Some("result"), true), "{last}");
    for (line, code, kind) in [
        ("predict m s.atlas --to condition=nobody --out p", 65, "data"),
        ("train nothing.atlas --out n", 66, "missing_input"),
        ("train s.atlas --spilt x", 2, "usage"),
    ] {
        let (ended, found) = events(line);
        let error = &found.last().unwrap()["error"];
        assert_eq!(
            (ended, error["kind"].as_str(), error["code"].as_i64()),
            (code, Some(kind), Some(code.into())),
            "{line}: {found:?}"
        );
    }
}

#[test]
fn a_training_whose_standard_input_ends_stops_with_a_checkpoint() {
    let home = Home::with_atlas();
    let line = format!("train s.atlas --out m --epochs 100000 --stop-on-eof --progress json {TINY}");
    let mut child =
        home.command(&line).stdin(Stdio::piped()).stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let mut messages = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    // It has begun once it reports an epoch.
    assert!(messages.any(|line| line.contains("epoch 1")), "it ended before its second epoch");
    drop(child.stdin.take());
    let rest: Vec<String> = messages.collect();
    assert_eq!(child.wait().unwrap().code(), Some(75), "{rest:?}");
    says(rest.last().unwrap(), &["\"kind\":\"stopped\"", "--resume"]);
    assert!(home.path("m/checkpoint").exists());
}
