//! The end of a stream is said, never implied; only a complete one reaches `finish`.

use std::{sync::Arc, sync::atomic::AtomicBool, sync::atomic::Ordering};

use perturbine::{Outcome, Pipeline, runtime::End};
use stages::{BoxError, Stage};

use super::support::{Diary, Item, Pairs, SMALL, collect, go_on, numbers, read, workers};

#[test]
fn a_complete_stream_finishes_its_stages_and_its_sink() {
    let diary = Diary::default();
    let run = read(5).then("pair", Pairs::default()).run("collect", collect(&diary, go_on)).unwrap();
    assert_eq!(run.outcome, Outcome::Complete(vec![1, 5, 4]));
    assert_eq!(diary.last(), Some("finish"));
}

#[test]
fn an_empty_source_is_a_complete_stream() {
    let run = read(0).map("encode", workers(2), Ok).run("collect", collect(&Diary::default(), go_on)).unwrap();
    assert_eq!(run.outcome, Outcome::Complete(vec![]));
}

#[test]
fn a_failed_run_neither_finishes_nor_suspends_its_sink() {
    let diary = Diary::default();
    let outcome = read(30)
        .map("encode", workers(3), |item| if item.number == 20 { Err("bad row".into()) } else { Ok(item) })
        .run("collect", collect(&diary, go_on));
    assert!(outcome.is_err());
    assert!(matches!(diary.last(), None | Some("push")));
}

#[test]
fn a_stage_is_not_finished_when_its_stream_is_cut() {
    struct Finished(Arc<AtomicBool>);
    impl Stage for Finished {
        type In = Item;
        type Out = Item;
        fn push(&mut self, item: Item, emit: &mut dyn FnMut(Item)) -> Result<(), BoxError> {
            emit(item);
            Ok(())
        }
        fn finish(&mut self, _: &mut dyn FnMut(Item)) -> Result<(), BoxError> {
            self.0.store(true, Ordering::SeqCst);
            Ok(())
        }
    }
    let finished = Arc::new(AtomicBool::new(false));
    let source = numbers(0..3).map(|item| item.map_err(BoxError::from)).chain([Err("torn file".into())]);
    let mut stream =
        Pipeline::from_source("read", SMALL, source).then("watch", Finished(Arc::clone(&finished))).stream();
    assert!(stream.by_ref().any(|item| item.is_err()));
    assert_eq!(stream.end(), Some(End::Cut));
    assert!(!finished.load(Ordering::SeqCst));
}
