//! The promises that the runtime makes, one section each.

#![allow(clippy::unwrap_used, reason = "a test fails where it panics")]

use std::{
    convert::Infallible,
    error::Error as _,
    num::NonZeroUsize,
    ops::ControlFlow,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use perturbine::{
    Outcome, Pipeline, RunError, Stop, Stream,
    runtime::{Capacity, End},
};
use proptest::prelude::*;
use schemas::ByteSize;
use stages::{BoxError, Sink, Stage};

const SMALL: Capacity = Capacity { items: 4, bytes: 64 };

/// A number that claims to weigh something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Item {
    number: usize,
    bytes: usize,
}

impl ByteSize for Item {
    fn byte_size(&self) -> usize {
        self.bytes
    }
}

fn numbers(range: impl Iterator<Item = usize>) -> impl Iterator<Item = Result<Item, Infallible>> {
    range.map(|number| Ok(Item { number, bytes: 1 }))
}

fn workers(count: usize) -> NonZeroUsize {
    NonZeroUsize::new(count).unwrap()
}

fn read(count: usize) -> Pipeline<Item> {
    Pipeline::from_source("read", SMALL, numbers(0..count))
}

/// A source that never ends by itself.
fn read_for_ever() -> Pipeline<Item> {
    Pipeline::from_source("read", SMALL, numbers(0..))
}

/// What has been done to a sink, as its test sees it.
#[derive(Clone, Default)]
struct Diary(Arc<Mutex<Vec<&'static str>>>);

impl Diary {
    fn note(&self, event: &'static str) {
        self.0.lock().unwrap().push(event);
    }

    /// What came after the last push.
    fn last(&self) -> Option<&'static str> {
        self.0.lock().unwrap().last().copied()
    }

    fn pushes(&self) -> usize {
        self.0.lock().unwrap().iter().filter(|event| **event == "push").count()
    }
}

/// A sink that keeps the numbers, doing something with each.
struct Collect<F> {
    numbers: Vec<usize>,
    diary: Diary,
    each: F,
}

fn collect<F: FnMut(usize) -> Result<ControlFlow<()>, BoxError>>(diary: &Diary, each: F) -> Collect<F> {
    Collect { numbers: Vec::new(), diary: diary.clone(), each }
}

fn go_on(_: usize) -> Result<ControlFlow<()>, BoxError> {
    Ok(ControlFlow::Continue(()))
}

impl<F: FnMut(usize) -> Result<ControlFlow<()>, BoxError>> Sink for Collect<F> {
    type In = Item;
    type Summary = Vec<usize>;

    fn push(&mut self, item: Item) -> Result<ControlFlow<()>, BoxError> {
        self.diary.note("push");
        self.numbers.push(item.number);
        (self.each)(item.number)
    }

    fn finish(self) -> Result<Vec<usize>, BoxError> {
        self.diary.note("finish");
        Ok(self.numbers)
    }

    fn suspend(self) -> Result<(), BoxError> {
        self.diary.note("suspend");
        Ok(())
    }
}

/// A stage that sums pairs, and keeps an odd one until the end.
#[derive(Default)]
struct Pairs {
    kept: Option<Item>,
}

impl Stage for Pairs {
    type In = Item;
    type Out = Item;

    fn push(&mut self, item: Item, emit: &mut dyn FnMut(Item)) -> Result<(), BoxError> {
        match self.kept.take() {
            None => self.kept = Some(item),
            Some(kept) => emit(Item { number: kept.number + item.number, bytes: kept.bytes + item.bytes }),
        }
        Ok(())
    }

    fn finish(&mut self, emit: &mut dyn FnMut(Item)) -> Result<(), BoxError> {
        self.kept.take().into_iter().for_each(emit);
        Ok(())
    }
}

/// A stage that swallows everything.
struct Swallow;

impl Stage for Swallow {
    type In = Item;
    type Out = Item;

    fn push(&mut self, _: Item, _: &mut dyn FnMut(Item)) -> Result<(), BoxError> {
        Ok(())
    }
}

/// The failure of a run: its stage, and its cause in words.
fn failure<T>(outcome: Result<T, RunError>) -> (&'static str, String) {
    let error = outcome.err().expect("the run fails");
    (error.stage().expect("a stage failed"), error.source().expect("there is a cause").to_string())
}

// 1. Order out is order in; the number of workers changes nothing.

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn order_and_budget_hold_for_any_workers_capacity_and_sizes(
        sizes in prop::collection::vec((0usize..40, 0usize..60), 0..80),
        count in 1usize..7,
        capacity in (0usize..6, 0usize..100).prop_map(|(items, bytes)| Capacity { items, bytes }),
    ) {
        let sent: Vec<Item> =
            sizes.iter().enumerate().map(|(number, &(bytes, _))| Item { number, bytes }).collect();
        let source = sent.clone().into_iter().map(Ok::<_, Infallible>);
        let results: Vec<usize> = sizes.iter().map(|&(_, result)| result).collect();
        let mut stream = Pipeline::from_source("read", capacity, source)
            .map("weigh", workers(count), move |item| Ok(Item { bytes: results[item.number], ..item }))
            .stream();
        let received: Vec<usize> = stream.by_ref().map(|item| item.unwrap().number).collect();

        prop_assert_eq!(received, (0..sizes.len()).collect::<Vec<_>>());
        prop_assert_eq!(stream.end(), Some(End::Complete));
        let report = stream.report();
        let [read, weigh] = report.edges.try_into().unwrap();
        let largest_input = sizes.iter().map(|size| size.0).max().unwrap_or(0);
        let largest_result = sizes.iter().map(|size| size.1).max().unwrap_or(0);
        prop_assert!(read.peak_bytes <= capacity.bytes.max(largest_input));
        prop_assert!(weigh.peak_bytes <= capacity.bytes.max(largest_input) + largest_result);
        prop_assert_eq!(read.bytes, sizes.iter().map(|size| size.0 as u64).sum::<u64>());
        prop_assert_eq!(weigh.bytes, sizes.iter().map(|size| size.1 as u64).sum::<u64>());
    }
}

#[test]
fn a_map_keeps_order_though_its_first_items_take_longest() {
    let received: Vec<usize> = read(40)
        .map("encode", workers(4), |item| {
            thread::sleep(Duration::from_millis(if item.number % 4 == 0 { 4 } else { 0 }));
            Ok(item)
        })
        .stream()
        .map(|item| item.unwrap().number)
        .collect();
    assert_eq!(received, (0..40).collect::<Vec<_>>());
}

#[test]
fn the_workers_of_a_map_work_at_the_same_time() {
    // Each of the first three items waits until all three have met.
    let met = Arc::new(std::sync::Barrier::new(3));
    let received = read(3)
        .map("encode", workers(3), move |item| {
            met.wait();
            Ok(item)
        })
        .stream()
        .count();
    assert_eq!(received, 3);
}

// 2. An edge holds at most its items and bytes; one larger item passes alone.

#[test]
fn a_source_runs_ahead_by_no_more_than_its_edge_holds() {
    let pulled = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&pulled);
    let source = numbers(0..).inspect(move |_| {
        counted.fetch_add(1, Ordering::SeqCst);
    });
    let mut stream = Pipeline::from_source("read", SMALL, source).stream();
    stream.next().unwrap().unwrap();
    thread::sleep(Duration::from_millis(50));
    // One was received, four lie on the edge, one waits to pass.
    assert!(pulled.load(Ordering::SeqCst) <= 6);
}

#[test]
fn a_map_runs_ahead_by_no_more_than_its_edge_holds() {
    let started = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&started);
    let mut stream = read_for_ever()
        .map("encode", workers(2), move |item| {
            counted.fetch_add(1, Ordering::SeqCst);
            Ok(item)
        })
        .stream();
    stream.next().unwrap().unwrap();
    thread::sleep(Duration::from_millis(50));
    assert!(started.load(Ordering::SeqCst) <= 5, "one was received, four are held");
}

#[test]
fn items_larger_than_an_edge_pass_one_by_one() {
    let tight = Capacity { items: 4, bytes: 10 };
    let large = (0..20).map(|number| Ok::<_, Infallible>(Item { number, bytes: 1000 }));
    let mut stream = Pipeline::from_source("read", tight, large).map("encode", workers(3), Ok).stream();
    assert_eq!(stream.by_ref().map(Result::unwrap).count(), 20);
    let report = stream.report();
    assert_eq!(report.edges[0].peak_bytes, 1000);
}

#[test]
fn a_plan_is_known_before_anything_runs() {
    let wide = Capacity { items: 2, bytes: 1 << 20 };
    let plan = Pipeline::from_source("read", SMALL, numbers(std::iter::from_fn(|| panic!("nothing may run"))))
        .capacity(wide)
        .map("encode", workers(3), Ok)
        .then("pair", Pairs::default())
        .plan("train");
    let nodes: Vec<_> = plan.nodes.iter().map(|node| (node.name, node.workers.get())).collect();
    assert_eq!(nodes, [("read", 1), ("encode", 3), ("pair", 1), ("train", 1)]);
    let edges: Vec<_> = plan.edges.iter().map(|edge| (edge.from, edge.to, edge.capacity)).collect();
    let place_for_each_worker = Capacity { items: 3, ..wide };
    assert_eq!(edges, [("read", "encode", SMALL), ("encode", "pair", place_for_each_worker), ("pair", "train", wide)]);
    assert_eq!(plan.bytes(), 64 + (2 << 20));
}

// 3. The end of a stream is said, never implied; only a complete one reaches `finish`.

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

// 4. The first failure is the one reported, with its stage's name; a panic is a failure.

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

// 5. A sink may end a run early, a caller may stop it; every thread is joined.

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
    let asked = stop.clone();
    let each = move |number| {
        if number == 3 {
            asked.request();
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
    let asked = stop.clone();
    let source = numbers(0..).inspect(move |_| {
        let _dropped_with_the_source = &gone;
    });
    let each = move |number| {
        asked.request();
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
    let asked = stop.clone();
    let source = numbers((0..).inspect(move |number| {
        if *number == 1000 {
            asked.request();
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
    let seen = [Arc::clone(&alive), Arc::clone(&alive), Arc::clone(&alive)];
    let [by_source, by_map, by_stage] = seen;
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

/// A stage that passes everything on.
struct Hold {
    _alive: Arc<()>,
}

impl Stage for Hold {
    type In = Item;
    type Out = Item;

    fn push(&mut self, item: Item, emit: &mut dyn FnMut(Item)) -> Result<(), BoxError> {
        emit(item);
        Ok(())
    }
}

// 6. Pipelines nest.

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
fn dropping_an_outer_stream_ends_the_inner_one() {
    let alive = Arc::new(());
    let inner = read_for_ever().then("hold", Hold { _alive: Arc::clone(&alive) }).stream();
    let mut outer = nested(inner).stream();
    outer.next().unwrap().unwrap();
    drop(outer);
    assert_eq!(Arc::strong_count(&alive), 1);
}

// What a run says of itself.

#[test]
fn a_report_counts_what_crossed_each_edge() {
    let run = read(5).then("pair", Pairs::default()).run("collect", collect(&Diary::default(), go_on)).unwrap();
    let crossed: Vec<_> = run.report.edges.iter().map(|edge| (edge.from, edge.to, edge.items, edge.bytes)).collect();
    assert_eq!(crossed, [("read", "pair", 5, 5), ("pair", "collect", 3, 5)]);
}

#[test]
fn a_report_names_the_stage_that_the_others_wait_for() {
    let run = read(30)
        .map("encode", workers(1), |item| {
            thread::sleep(Duration::from_millis(3));
            Ok(item)
        })
        .run("collect", collect(&Diary::default(), go_on))
        .unwrap();
    assert_eq!(run.report.slow_stage(), Some("encode"));
}

#[test]
fn threads_bear_the_names_of_their_stages() {
    let named = |name: &'static str| {
        move |item| {
            assert_eq!(thread::current().name(), Some(name));
            Ok(item)
        }
    };
    let stream = read(4).map("encode", workers(2), named("encode")).map("batch", workers(1), named("batch")).stream();
    assert_eq!(stream.map(Result::unwrap).count(), 4);
}

/// Notes which stage each span is of, and on which thread it is entered.
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
        read(4).map("encode", workers(1), Ok).run("collect", collect(&Diary::default(), go_on)).unwrap();
    });
    let mut threads = spans.0.lock().unwrap().threads.clone();
    threads.sort();
    let stages: Vec<&str> = threads.iter().map(|(stage, _)| stage.as_str()).collect();
    assert_eq!(stages, ["\"collect\"", "\"encode\"", "\"read\""]);
    assert_eq!(threads[1].1.as_deref(), Some("encode"));
    assert_eq!(threads[2].1.as_deref(), Some("read"));
}
