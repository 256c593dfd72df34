//! A sink may end a run early, a caller may stop it; either way every thread is joined.

use std::{ops::ControlFlow, sync::Arc, sync::mpsc, thread, time::Duration};

use perturbine::{Outcome, Pipeline, RunError, Stop, runtime::End};
use stages::BoxError;

use super::support::{Diary, Hold, Item, SMALL, Swallow, collect, go_on, numbers, read, read_for_ever, workers};

#[test]
fn a_sink_that_has_enough_commits() {
    let diary = Diary::default();
    let enough = |number| Ok(if number == 9 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) });
    let run = read_for_ever().map("encode", workers(3), Ok).run("collect", collect(&diary, enough)).unwrap();
    assert_eq!(run.outcome, Outcome::Complete((0..10).collect()));
    assert_eq!(diary.last(), Some("finish"));
}

#[test]
fn what_fails_ahead_of_a_sink_that_has_enough_counts_for_nothing() {
    let source = numbers(0..1).map(|item| item.map_err(BoxError::from)).chain(std::iter::from_fn(|| {
        thread::sleep(Duration::from_millis(20));
        Some(Err("beyond what was asked for".into()))
    }));
    let run = Pipeline::from_source("read", SMALL, source)
        .run("collect", collect(&Diary::default(), |_| Ok(ControlFlow::Break(()))))
        .unwrap();
    assert_eq!(run.outcome, Outcome::Complete(vec![0]));
}

#[test]
fn after_a_stop_nothing_more_is_pushed_and_the_sink_suspends() {
    let (stop, diary) = (Stop::default(), Diary::default());
    let stop_handle = stop.clone();
    let each = move |number| {
        if number == 3 {
            stop_handle.request();
        }
        go_on(number)
    };
    let run =
        read_for_ever().map("encode", workers(3), Ok).with_stop(stop).run("collect", collect(&diary, each)).unwrap();
    assert_eq!(run.outcome, Outcome::Stopped);
    assert!(run.outcome.complete().is_err_and(|error| matches!(error, RunError::Stopped)));
    assert_eq!(diary.pushes(), 4);
    assert_eq!(diary.last(), Some("suspend"));
}

#[test]
fn a_stop_frees_a_source_that_waits_for_room_behind_a_sink_that_sleeps() {
    let (stop, diary) = (Stop::default(), Diary::default());
    let (gone, wait) = mpsc::channel::<()>();
    let stop_handle = stop.clone();
    let source = numbers(0..).inspect(move |_| {
        let _dropped_with_the_source = &gone;
    });
    let each = move |number| {
        stop_handle.request();
        // The sink is still at it when the source has already gone.
        assert!(
            wait.recv_timeout(Duration::from_secs(5)).is_err_and(|why| why == mpsc::RecvTimeoutError::Disconnected)
        );
        go_on(number)
    };
    let run =
        Pipeline::from_source("read", SMALL, source).with_stop(stop).run("collect", collect(&diary, each)).unwrap();
    assert_eq!(run.outcome, Outcome::Stopped);
    assert_eq!(diary.pushes(), 1);
}

#[test]
fn a_stop_ends_a_run_that_yields_nothing() {
    let stop = Stop::default();
    let stop_handle = stop.clone();
    let source = numbers((0..).inspect(move |number| {
        if *number == 1000 {
            stop_handle.request();
        }
    }));
    let run = Pipeline::from_source("read", SMALL, source)
        .then("swallow", Swallow)
        .with_stop(stop)
        .run("collect", collect(&Diary::default(), go_on))
        .unwrap();
    assert_eq!(run.outcome, Outcome::Stopped);
}

#[test]
fn a_run_that_is_stopped_before_it_starts_pushes_nothing() {
    let (stop, diary) = (Stop::default(), Diary::default());
    stop.request();
    let run = read(9).with_stop(stop).run("collect", collect(&diary, go_on)).unwrap();
    assert_eq!(run.outcome, Outcome::Stopped);
    assert_eq!(diary.pushes(), 0);
}

#[test]
fn a_stop_stops_every_run_that_was_given_it_and_a_failure_only_its_own() {
    let stop = Stop::default();
    let mut first = read_for_ever().with_stop(stop.clone()).stream();
    let mut second = read_for_ever().with_stop(stop.clone()).stream();
    let failed = Pipeline::from_source("read", SMALL, [Err::<Item, BoxError>("torn file".into())])
        .with_stop(stop.clone())
        .stream()
        .next();
    assert!(failed.unwrap().is_err());
    assert!(first.next().unwrap().is_ok());
    stop.request();
    for stream in [&mut first, &mut second] {
        assert!(matches!(stream.next(), Some(Err(RunError::Stopped))));
        assert!(stream.next().is_none());
        assert_eq!(stream.end(), Some(End::Stopped));
    }
}

#[test]
fn dropping_a_stream_joins_its_threads() {
    let alive = Arc::new(());
    let references = [Arc::clone(&alive), Arc::clone(&alive), Arc::clone(&alive)];
    let [by_source, by_map, by_stage] = references;
    let source = numbers(0..).inspect(move |_| assert!(Arc::strong_count(&by_source) > 0));
    let mut stream = Pipeline::from_source("read", SMALL, source)
        .map("encode", workers(3), move |item| {
            assert!(Arc::strong_count(&by_map) > 0);
            Ok(item)
        })
        .then("hold", Hold { _alive: by_stage })
        .stream();
    stream.next().unwrap().unwrap();
    drop(stream);
    assert_eq!(Arc::strong_count(&alive), 1, "no thread is left that could hold another");
}

#[test]
fn a_stop_interrupts_what_goes_on_before_a_run_and_nothing_of_another() {
    let (stop, other) = (Stop::default(), Stop::default());
    let (own, of_another) = (stop.interrupt(), other.interrupt());
    stop.request();
    assert!(own.requested() && !of_another.requested());
    assert_eq!(
        read(3).with_stop(other).run("collect", collect(&Diary::default(), go_on)).unwrap().outcome,
        Outcome::Complete(vec![0, 1, 2])
    );
}
