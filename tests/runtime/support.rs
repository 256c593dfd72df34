//! Sources, stages and sinks small enough to see what the runtime does with them.

use std::{
    convert::Infallible,
    error::Error as _,
    num::NonZeroUsize,
    ops::ControlFlow,
    sync::{Arc, Mutex},
};

use perturbine::{Capacity, Pipeline, RunError};
use schemas::ByteSize;
use stages::{BoxError, Sink, Stage};

pub const SMALL: Capacity = Capacity { items: 4, bytes: 64 };

/// A number that claims to weigh something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Item {
    pub number: usize,
    pub bytes: usize,
}

impl ByteSize for Item {
    fn byte_size(&self) -> usize {
        self.bytes
    }
}

pub fn numbers(range: impl Iterator<Item = usize>) -> impl Iterator<Item = Result<Item, Infallible>> {
    range.map(|number| Ok(Item { number, bytes: 1 }))
}

pub fn workers(count: usize) -> NonZeroUsize {
    NonZeroUsize::new(count).unwrap()
}

pub fn read(count: usize) -> Pipeline<Item> {
    Pipeline::from_source("read", SMALL, numbers(0..count))
}

/// A source that never ends by itself.
pub fn read_for_ever() -> Pipeline<Item> {
    Pipeline::from_source("read", SMALL, numbers(0..))
}

/// The calls to a sink, as seen by its test.
#[derive(Clone, Default)]
pub struct Diary(Arc<Mutex<Vec<&'static str>>>);

impl Diary {
    pub fn note(&self, event: &'static str) {
        self.0.lock().unwrap().push(event);
    }

    /// The call after the last push.
    pub fn last(&self) -> Option<&'static str> {
        self.0.lock().unwrap().last().copied()
    }

    pub fn pushes(&self) -> usize {
        self.0.lock().unwrap().iter().filter(|event| **event == "push").count()
    }
}

/// A sink that keeps the numbers, doing something with each.
pub struct Collect<F> {
    numbers: Vec<usize>,
    diary: Diary,
    each: F,
}

pub fn collect<F: FnMut(usize) -> Result<ControlFlow<()>, BoxError>>(diary: &Diary, each: F) -> Collect<F> {
    Collect { numbers: Vec::new(), diary: diary.clone(), each }
}

pub fn go_on(_: usize) -> Result<ControlFlow<()>, BoxError> {
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
pub struct Pairs {
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
pub struct Swallow;

impl Stage for Swallow {
    type In = Item;
    type Out = Item;

    fn push(&mut self, _: Item, _: &mut dyn FnMut(Item)) -> Result<(), BoxError> {
        Ok(())
    }
}

/// The failure of a run: its stage, and its cause in words.
pub fn failure<T>(outcome: Result<T, RunError>) -> (&'static str, String) {
    let error = outcome.err().expect("the run fails");
    (error.stage().expect("a stage failed"), error.source().expect("there is a cause").to_string())
}

/// A stage that passes everything on.
pub struct Hold {
    pub _alive: Arc<()>,
}

impl Stage for Hold {
    type In = Item;
    type Out = Item;

    fn push(&mut self, item: Item, emit: &mut dyn FnMut(Item)) -> Result<(), BoxError> {
        emit(item);
        Ok(())
    }
}
