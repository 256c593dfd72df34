//! Describes a pipeline: nothing runs, and no thread exists, until [`Pipeline::run`] or [`Pipeline::stream`].

use std::{num::NonZeroUsize, sync::Arc};

use schemas::ByteSize;
use stage::{BoxError, Sink, Stage};
use tracing::trace_span;

use super::{
    edge::{Receiver, Sender},
    end::End,
    error::RunError,
    halt::Stop,
    ordered::OrderedMap,
    plan::{Capacity, PipelinePlan, StagePlan},
    stream::{Run, Stream},
    thread_group::ThreadGroup,
};

/// A pipeline whose open end yields `T`.
#[must_use = "a pipeline does nothing until it is run"]
pub struct Pipeline<T: Send + 'static> {
    /// The stages so far, each with the capacity of the edge behind it.
    nodes: Vec<(StagePlan, Capacity)>,
    /// The capacity of edges that are added from here on.
    capacity: Capacity,
    stop: Stop,
    open: Open<T>,
}

/// Starts the threads so far, and returns the receiver of their output.
type Open<T> = Box<dyn FnOnce(&mut ThreadGroup) -> Receiver<T> + Send>;

/// The name of the receiver of a pipeline that is read as an iterator.
const CALLER: &str = "caller";

impl<T: ByteSize + Send + 'static> Pipeline<T> {
    /// Starts with any fallible iterator; a [`Stream`] is one.
    ///
    /// The iterator is driven on its own thread, and its first error ends the run. `capacity` is that of every
    /// edge, until the next call of [`Pipeline::capacity`].
    pub fn from_source<I, E>(name: &'static str, capacity: Capacity, source: I) -> Self
    where
        I: IntoIterator<Item = Result<T, E>> + Send + 'static,
        E: Into<BoxError>,
    {
        let node = StagePlan::single(name);
        let capacity_behind = capacity.behind(node.workers);
        let open = move |threads: &mut ThreadGroup| {
            let (output, receiver) = threads.edge(capacity_behind);
            threads.spawn(name, move || pump(source, &output));
            receiver
        };
        Self { nodes: vec![(node, capacity_behind)], capacity, stop: Stop::default(), open: Box::new(open) }
    }

    /// Sets the capacity of the edges behind all stages that are added from here on.
    pub fn capacity(mut self, capacity: Capacity) -> Self {
        self.capacity = capacity;
        self
    }

    /// Lets `stop` stop the run. Nested pipelines should share one.
    pub fn with_stop(mut self, stop: Stop) -> Self {
        self.stop = stop;
        self
    }

    /// Applies `f` on `workers` threads; results keep the order of their inputs.
    ///
    /// The edge behind it holds at least one item per worker. Inputs that are being processed count against it,
    /// and so do results until they are received.
    pub fn map<U: ByteSize + Send + 'static>(
        self,
        name: &'static str,
        workers: NonZeroUsize,
        f: impl Fn(T) -> Result<U, BoxError> + Send + Sync + 'static,
    ) -> Pipeline<U> {
        self.followed_by(StagePlan { name, workers }, move |threads, input, output| {
            let map = Arc::new(OrderedMap::new(input, output, f));
            for _ in 0..workers.get() {
                let map = Arc::clone(&map);
                threads.spawn(name, move || map.work());
            }
        })
    }

    /// Adds a stage that keeps state, on its own thread.
    pub fn then<S>(self, name: &'static str, stage: S) -> Pipeline<S::Out>
    where
        S: Stage<In = T>,
        S::Out: ByteSize + Send + 'static,
    {
        self.followed_by(StagePlan::single(name), move |threads, input, output| {
            threads.spawn(name, move || drive(stage, input, &output));
        })
    }

    fn followed_by<U: Send + 'static>(
        self,
        node: StagePlan,
        start: impl FnOnce(&mut ThreadGroup, Receiver<T>, Sender<U>) + Send + 'static,
    ) -> Pipeline<U> {
        let Self { mut nodes, capacity, stop, open: upstream } = self;
        let capacity_behind = capacity.behind(node.workers);
        nodes.push((node, capacity_behind));
        let open = move |threads: &mut ThreadGroup| {
            let input = upstream(threads);
            let (output, receiver) = threads.edge(capacity_behind);
            start(threads, input, output);
            receiver
        };
        Pipeline { nodes, capacity, stop, open: Box::new(open) }
    }

    /// The graph of the pipeline with a sink of this name.
    #[must_use]
    pub fn plan(&self, sink: &'static str) -> PipelinePlan {
        let nodes = self.nodes.iter().map(|(node, _)| *node).chain([StagePlan::single(sink)]).collect();
        PipelinePlan::new(nodes, self.nodes.iter().map(|(_, capacity)| *capacity))
    }

    /// Runs to the end, with the sink on the calling thread.
    ///
    /// A sink finishes when the stream is complete or when it needs no more items, is suspended when the run was
    /// stopped, and is dropped when anything failed. Once it needs no more items, failures in what was read ahead
    /// are ignored.
    ///
    /// # Errors
    /// The first failure of the run, of a stage or of the sink.
    pub fn run<S: Sink<In = T>>(self, name: &'static str, sink: S) -> Result<Run<S::Summary>, RunError> {
        self.stream_to(name).into_sink(name, sink)
    }

    /// Runs the pipeline as an iterator; dropping it ends the run.
    pub fn stream(self) -> Stream<T> {
        self.stream_to(CALLER)
    }

    fn stream_to(self, sink: &'static str) -> Stream<T> {
        let plan = self.plan(sink);
        let mut threads = ThreadGroup::new(&self.stop);
        let output = (self.open)(&mut threads);
        Stream::new(output, threads, self.stop, plan)
    }
}

/// The loop of a source.
fn pump<T, E>(source: impl IntoIterator<Item = Result<T, E>>, output: &Sender<T>) -> Result<(), BoxError>
where
    T: ByteSize + Send + 'static,
    E: Into<BoxError>,
{
    let mut source = source.into_iter();
    while let Some(item) = trace_span!("item").in_scope(|| source.next()) {
        if output.send(item.map_err(Into::into)?).is_err() {
            return Ok(());
        }
    }
    output.end(End::Complete);
    Ok(())
}

/// The loop of a stage.
fn drive<S>(mut stage: S, mut input: Receiver<S::In>, output: &Sender<S::Out>) -> Result<(), BoxError>
where
    S: Stage,
    S::In: Send + 'static,
    S::Out: ByteSize + Send + 'static,
{
    let mut emit = |item| {
        // A closed edge means that the run is ending, which the next `recv` reports.
        let _ = output.send(item);
    };
    let end = loop {
        match input.recv() {
            Ok(item) => trace_span!("item").in_scope(|| stage.push(item, &mut emit))?,
            Err(end) => break end,
        }
    };
    if end == End::Complete {
        stage.finish(&mut emit)?;
    }
    output.end(end);
    Ok(())
}
