//! The promises to a program that starts `perturbine`: record batches on standard output, events on standard error, and an end
//! together with its own.

use std::{
    io::{BufRead, BufReader, Cursor, Read, Write},
    process::{Output, Stdio},
    sync::Arc,
};

use arrow::{
    array::{ArrayRef, FixedSizeListArray, Float32Array, RecordBatch},
    compute::concat_batches,
    datatypes::{DataType, Field},
    ipc::{reader::StreamReader, writer::StreamWriter},
};
use rustix::process::{Pid, Signal};
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

/// A command that is given this on standard input.
fn fed(home: &Home, line: &str, input: &[u8]) -> Output {
    let mut command = home.command(line);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // A program that refuses its flags does not read it.
    let _ = stdin.write_all(input);
    drop(stdin);
    child.wait_with_output().unwrap()
}

fn as_stream(table: &RecordBatch) -> Vec<u8> {
    let mut writer = StreamWriter::try_new(Vec::new(), &table.schema()).unwrap();
    writer.write(table).unwrap();
    writer.into_inner().unwrap()
}

#[test]
fn tables_on_standard_input_are_answered_one_by_one() {
    let home = with_model();
    let line = "predict m s.atlas --to condition=ctrl --output cells";
    let all = streamed(&home, &format!("{line} --out -"));
    let DataType::FixedSizeList(_, genes) = *all.column_by_name("expression").unwrap().data_type() else {
        panic!("lists of one length")
    };
    // The controls of the atlas with other counts, which depend on the cell.
    let numbers = all.num_rows() * usize::try_from(genes).unwrap();
    let counts: Float32Array = (0_u8..7).cycle().take(numbers).map(|count| Some(f32::from(count))).collect();
    let item = Arc::new(Field::new("item", DataType::Float32, true));
    let lists: ArrayRef = Arc::new(FixedSizeListArray::try_new(item, genes, Arc::new(counts), None).unwrap());
    let columns = ["cell", "cell_type"].map(|name| (name, Arc::clone(all.column_by_name(name).unwrap())));
    let table = RecordBatch::try_from_iter(columns.into_iter().chain([("expression", lists)])).unwrap();
    let predict = "predict m - --to condition=ctrl --output cells --out - --json --stop-on-eof";
    let tables = [table.slice(0, 3), table.slice(3, 0), table.slice(3, table.num_rows() - 3)];
    let ran = fed(&home, predict, &tables.iter().flat_map(as_stream).collect::<Vec<u8>>());
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let report: Value = serde_json::from_slice(&ran.stderr).unwrap();
    assert_eq!(report, serde_json::json!({ "rows": table.num_rows(), "tables": 3 }));
    let mut answers = Cursor::new(ran.stdout);
    for (table, expected) in tables.iter().zip([3, 0, table.num_rows() - 3]) {
        let reader = StreamReader::try_new(&mut answers, None).unwrap();
        let metadata = reader.schema().metadata.clone();
        assert_eq!(metadata["rows"], expected.to_string());
        assert!(metadata.contains_key("genes") && !metadata.contains_key("atlas"), "{metadata:?}");
        assert_eq!(reader.map(|batch| batch.unwrap().num_rows()).sum::<usize>(), table.num_rows());
    }
    let nothing = fed(&home, predict, b"");
    assert!(nothing.status.success() && nothing.stdout.is_empty());

    for (line, input, code, said) in [
        ("predict m - --to condition=nobody --output cells --out -", &b""[..], 65, "unknown perturbation `nobody`"),
        ("predict m - --output cells --out -", b"cells", 65, "not an Arrow stream"),
        ("predict m - --output cells --out p", b"", 2, "give --out -"),
        ("predict m - --out -", b"", 2, "--output means"),
        ("predict m - --output cells --out - --to all", b"", 2, "--to all"),
        ("predict m - --output cells --out - --match cell_type", b"", 2, "--match"),
        ("predict m - --output cells --out - --precision bf16", b"", 2, "--precision"),
    ] {
        let ran = fed(&home, line, input);
        assert_eq!(ran.status.code(), Some(code), "{line}");
        says(&String::from_utf8_lossy(&ran.stderr), &[said]);
    }
}

#[test]
fn a_program_that_waits_for_the_rest_of_a_table_stops_at_a_signal() {
    let home = with_model();
    let line = "predict m s.atlas --to condition=ctrl --output cells";
    let cells = streamed(&home, &format!("{line} --out -"));
    let mut command = home.command("predict m - --to condition=ctrl --output cells --out -");
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let stream = as_stream(&cells.slice(0, 0));
    input.write_all(&stream).unwrap();
    let answer = StreamReader::try_new(child.stdout.as_mut().unwrap(), None).unwrap();
    assert_eq!(answer.map(|batch| batch.unwrap().num_rows()).sum::<usize>(), 0);
    input.write_all(&stream[..stream.len() / 2]).unwrap();
    rustix::process::kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(75), "{said}");
    says(&said, &["stopped"]);
    // Open until here: the program did not end because its input did.
    drop(input);
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
