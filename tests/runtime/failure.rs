//! The first failure is the one reported, with its stage's name; a panic is a failure.

use perturbine::Pipeline;
use stages::BoxError;

use super::support::{Diary, Item, SMALL, collect, failure, go_on, read, workers};

#[test]
fn an_error_names_its_stage() {
    let failing = |item: Item| if item.number == 7 { Err("bad row".into()) } else { Ok(item) };
    let outcome = read(30).map("encode", workers(2), failing).run("collect", collect(&Diary::default(), go_on));
    assert_eq!(failure(outcome), ("encode", "bad row".into()));
}

#[test]
fn a_source_that_fails_names_itself() {
    let source = [Err::<Item, BoxError>("torn file".into())];
    let outcome = Pipeline::from_source("read", SMALL, source).run("collect", collect(&Diary::default(), go_on));
    assert_eq!(failure(outcome), ("read", "torn file".into()));
}

#[test]
fn a_panic_is_a_failure_with_its_message() {
    let outcome = read(30)
        .map("encode", workers(2), |item| {
            assert!(item.number != 7, "gene {} is out of range", item.number);
            Ok(item)
        })
        .run("collect", collect(&Diary::default(), go_on));
    let (stage, cause) = failure(outcome);
    assert_eq!(stage, "encode");
    assert!(cause.contains("gene 7 is out of range"), "{cause}");
}

#[test]
fn a_sink_that_fails_names_itself() {
    let outcome = read(9).run("write", collect(&Diary::default(), |_| Err("disk full".into())));
    assert_eq!(failure(outcome), ("write", "disk full".into()));
}

#[test]
fn a_sink_that_panics_fails_the_run() {
    let outcome = read(9).run("write", collect(&Diary::default(), |_| panic!("no such column")));
    let (stage, cause) = failure(outcome);
    assert_eq!(stage, "write");
    assert!(cause.contains("no such column"), "{cause}");
}
