//! Each stage runs in a `tracing` span that bears its name.
//!
//! Alone in its process: `tracing` remembers for all threads whether anybody listens to a span, and asks whichever thread
//! comes upon the span first. Beside tests that listen to nothing, that would often be one of theirs.

#![allow(clippy::disallowed_methods, reason = "tests write files and start threads of their own")]
#![allow(clippy::unwrap_used, reason = "a test fails where it panics")]

use std::{
    convert::Infallible,
    num::NonZeroUsize,
    ops::ControlFlow,
    sync::{Arc, Mutex},
    thread,
};

use perturbine::{Capacity, Pipeline};
use stages::{BoxError, Sink};

const CAPACITY: Capacity = Capacity { items: 4, bytes: 64 };

/// A sink that keeps nothing.
struct Discard;

impl Sink for Discard {
    type In = Vec<u8>;
    type Summary = ();

    fn push(&mut self, _: Vec<u8>) -> Result<ControlFlow<()>, BoxError> {
        Ok(ControlFlow::Continue(()))
    }

    fn finish(self) -> Result<(), BoxError> {
        Ok(())
    }
}

/// Records which stage each span is of, and on which thread it is entered.
#[derive(Clone, Default)]
struct Spans(Arc<Mutex<Entered>>);

#[derive(Default)]
struct Entered {
    stages: Vec<String>,
    threads: Vec<(String, Option<String>)>,
}

impl tracing::Subscriber for Spans {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.name() == "stage"
    }

    fn new_span(&self, span: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        let mut entered = self.0.lock().unwrap();
        span.record(&mut |_: &tracing::field::Field, value: &dyn std::fmt::Debug| {
            entered.stages.push(format!("{value:?}"));
        });
        tracing::span::Id::from_u64(entered.stages.len() as u64)
    }

    fn enter(&self, span: &tracing::span::Id) {
        let mut entered = self.0.lock().unwrap();
        let stage = entered.stages[usize::try_from(span.into_u64()).unwrap() - 1].clone();
        entered.threads.push((stage, thread::current().name().map(str::to_owned)));
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn event(&self, _: &tracing::Event<'_>) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

#[test]
fn each_stage_runs_in_a_span_that_bears_its_name() {
    let spans = Spans::default();
    tracing::subscriber::with_default(spans.clone(), || {
        let source = (0..4u8).map(|number| Ok::<_, Infallible>(vec![number]));
        let pipeline = Pipeline::from_source("read", CAPACITY, source).map("encode", NonZeroUsize::MIN, Ok);
        pipeline.run("collect", Discard).unwrap();
    });
    let mut threads = spans.0.lock().unwrap().threads.clone();
    threads.sort();
    let stages: Vec<&str> = threads.iter().map(|(stage, _)| stage.as_str()).collect();
    assert_eq!(stages, ["\"collect\"", "\"encode\"", "\"read\""]);
    assert_eq!(threads[1].1.as_deref(), Some("encode"));
    assert_eq!(threads[2].1.as_deref(), Some("read"));
}
