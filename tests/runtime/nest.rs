//! Pipelines nest.

use std::{sync::Arc, thread, time::Duration};

use perturbine::{Outcome, Pipeline, RunError, Stream};

use super::support::{Diary, Hold, Item, Pairs, SMALL, collect, failure, go_on, read, read_for_ever, workers};

fn nested(inner: Stream<Item>) -> Pipeline<Item> {
    Pipeline::from_source("inner", SMALL, inner)
}

#[test]
fn a_stream_is_a_source() {
    let inner = read(20).map("encode", workers(2), Ok).stream();
    let run = nested(inner).then("pair", Pairs::default()).run("collect", collect(&Diary::default(), go_on)).unwrap();
    assert_eq!(run.outcome.complete().unwrap().len(), 10);
}

#[test]
fn an_inner_failure_fails_the_outer_run() {
    let inner = read(20).map("encode", workers(2), |_| Err::<Item, _>("bad row".into())).stream();
    let outcome = nested(inner).run("collect", collect(&Diary::default(), go_on));
    assert_eq!(failure(outcome), ("inner", "stage `encode` failed".into()));
}

#[test]
fn an_inner_stop_stops_the_outer_run() {
    let diary = Diary::default();
    let inner = read_for_ever().stream();
    let stop = inner.stop();
    let each = move |number| {
        stop.request();
        go_on(number)
    };
    let run = nested(inner).run("collect", collect(&diary, each)).unwrap();
    assert_eq!(run.outcome, Outcome::Stopped);
    assert_eq!(diary.last(), Some("suspend"));
}

#[test]
fn an_inner_stop_is_no_failure_however_late_it_is_known() {
    /// Reports the cause only after the failed thread has released its edge.
    #[derive(Debug)]
    struct Late(RunError);
    impl std::fmt::Display for Late {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            self.0.fmt(f)
        }
    }
    impl std::error::Error for Late {
        fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
            thread::sleep(Duration::from_millis(30));
            Some(&self.0)
        }
    }
    let diary = Diary::default();
    let source = [Err::<Item, _>(Late(RunError::Stopped))];
    let run = Pipeline::from_source("inner", SMALL, source).run("collect", collect(&diary, go_on)).unwrap();
    assert_eq!(run.outcome, Outcome::Stopped);
    assert_eq!(diary.last(), Some("suspend"));
}

#[test]
fn dropping_an_outer_stream_ends_the_inner_one() {
    let alive = Arc::new(());
    let inner = read_for_ever().then("hold", Hold { _alive: Arc::clone(&alive) }).stream();
    let mut outer = nested(inner).stream();
    outer.next().unwrap().unwrap();
    drop(outer);
    assert_eq!(Arc::strong_count(&alive), 1);
}
