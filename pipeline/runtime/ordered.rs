//! A map on many threads that keeps order.
//!
//! Any idle worker takes the next input and reserves its place on the output edge before the next worker may,
//! so places are in the order of the inputs. A finished result settles for its actual size (see
//! [`limiter`](super::limiter)) and waits in line until all results before it were sent. The end takes the last
//! place: it is sent after every result, and never if one is missing.

use std::collections::BTreeMap;

use schemas::ByteSize;
use stage::BoxError;
use tracing::trace_span;

use super::{
    edge::{Receiver, Sender},
    end::End,
    limiter::Permit,
    primitives::{Monitor, Native, Primitives},
};

/// State shared by the workers of one map.
pub(super) struct OrderedMap<T, U, F, P = Native>
where
    T: Send + 'static,
    U: Send + 'static,
    P: Primitives,
{
    f: F,
    /// `None` after the end.
    input: P::Monitor<Option<Receiver<T, P>>>,
    output: Sender<U, P>,
    line: P::Monitor<ReorderBuffer<U>>,
}

/// Results waiting for earlier ones, by place.
struct ReorderBuffer<U> {
    next: u64,
    waiting: BTreeMap<u64, OrderedResult<U>>,
}

enum OrderedResult<U> {
    Item(U, Permit),
    End(End),
}

impl<T, U, F, P> OrderedMap<T, U, F, P>
where
    T: ByteSize + Send + 'static,
    U: ByteSize + Send + 'static,
    F: Fn(T) -> Result<U, BoxError>,
    P: Primitives,
{
    pub(super) fn new(input: Receiver<T, P>, output: Sender<U, P>, f: F) -> Self {
        Self {
            f,
            input: P::Monitor::new(Some(input)),
            output,
            line: P::Monitor::new(ReorderBuffer { next: 0, waiting: BTreeMap::new() }),
        }
    }

    /// The loop of one worker: until the input ends, the output is closed, or `f` fails.
    pub(super) fn work(&self) -> Result<(), BoxError> {
        while let Some((item, reserved)) = self.next_input() {
            let result = trace_span!("item").in_scope(|| (self.f)(item))?;
            let Ok(permit) = self.output.limiter().settle(reserved, result.byte_size()) else { break };
            self.leave(permit.place(), OrderedResult::Item(result, permit));
        }
        Ok(())
    }

    fn next_input(&self) -> Option<(T, Permit)> {
        self.input.update(|input| match input.as_mut()?.recv() {
            Ok(item) => {
                let reserved = self.output.limiter().reserve(item.byte_size()).ok()?;
                Some((item, reserved))
            }
            Err(end) => {
                *input = None;
                self.leave(self.output.limiter().admitted(), OrderedResult::End(end));
                None
            }
        })
    }

    /// Sends the next results in line, as far as they are available.
    fn leave(&self, place: u64, leaving: OrderedResult<U>) {
        self.line.update(|line| {
            line.waiting.insert(place, leaving);
            while let Some(leaving) = line.waiting.remove(&line.next) {
                line.next += 1;
                match leaving {
                    OrderedResult::Item(item, permit) => self.output.put(item, permit),
                    OrderedResult::End(end) => self.output.end(end),
                }
            }
        });
    }
}
