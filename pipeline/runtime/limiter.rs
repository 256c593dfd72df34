//! The limiter of an edge: it decides what may pass, so that an edge never holds more than its [`Capacity`].
//!
//! Everything that passes has a *place* in line, counted from 0, and is held from its admission until the
//! receiver takes it. There are two kinds of senders:
//!
//! - one that has an item ready is [admitted](CapacityLimiter::admit) with the item's bytes;
//! - a worker of a parallel map [reserves](CapacityLimiter::reserve) a place before it computes, for its input and for a
//!   result as large as the latest one, and then [settles](CapacityLimiter::settle) for the result's actual size.
//!   Therefore everything that a map has in flight counts against its edge.
//!
//! # Why no thread waits forever
//!
//! One rule admits whatever fits, and **the oldest thing held, whether it fits or not**. The oldest is the
//! one whose place the receiver takes next. It never waits at the limiter: if it waited for space held by
//! younger ones, and the receiver for it, nothing would ever move. Places are given in the order of the
//! inputs, one at a time. So the oldest has its place before any younger one; it is either being computed
//! (which ends) or passes, and is then first in the channel, ready for the receiver. Along a chain of edges,
//! the last receiver is the caller, who waits for nobody; so each receiver returns for the next item, and by
//! induction towards the source, each sender finds space.
//!
//! # Memory that is held
//!
//! Anything but the oldest passes only if the total then fits. The total therefore exceeds the capacity by at
//! most one item: an edge whose capacity is smaller than an item holds only that item, and a map's edge holds
//! at most its capacity and one result that turned out larger than its reservation. Items of threads are not
//! counted: a finished result that waits to settle, the item that a stage works on, and the one that a sender
//! waits to pass.

use std::time::{Duration, Instant};

use super::{
    end::End,
    plan::Capacity,
    primitives::{Monitor, Native, Primitives},
};

/// The edge is closed; nothing sent into it will be received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Closed;

/// A place in line, and the bytes held for it.
#[derive(Debug)]
#[must_use = "a place that is given up blocks everything behind it"]
pub(super) struct Permit {
    place: u64,
    bytes: usize,
}

/// The measurements of an edge so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct EdgeMeasurements {
    /// Items that were received.
    pub(super) items: u64,
    /// Their bytes.
    pub(super) bytes: u64,
    /// Peak of the bytes held.
    pub(super) peak_bytes: usize,
    /// Total time that senders waited at the limiter.
    pub(super) waited_for_room: Duration,
    /// Total time that the receiver waited for an item.
    pub(super) waited_for_items: Duration,
}

/// Lets items onto an edge while there is space.
pub(super) struct CapacityLimiter<P: Primitives = Native> {
    capacity: Capacity,
    state: P::Monitor<LimiterState>,
}

#[derive(Default)]
struct LimiterState {
    /// Number of places given so far: the next one to give.
    admitted: u64,
    /// Number of items received so far, which is the place of the oldest thing held.
    taken: u64,
    held_bytes: usize,
    /// Bytes of the result that settled last, which is the best estimate for the next one.
    latest: usize,
    closed: Option<End>,
    measured: EdgeMeasurements,
}

impl Permit {
    pub(super) fn place(&self) -> u64 {
        self.place
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl<P: Primitives> CapacityLimiter<P> {
    pub(super) fn new(capacity: Capacity) -> Self {
        Self { capacity, state: P::Monitor::new(LimiterState::default()) }
    }

    /// Waits for space for an item that is ready.
    pub(super) fn admit(&self, bytes: usize) -> Result<Permit, Closed> {
        self.enter(|_| bytes)
    }

    /// Waits for space for an input of this many bytes and for its result.
    ///
    /// Only one thread at a time may call this, so that places are given in the order of the inputs.
    pub(super) fn reserve(&self, input_bytes: usize) -> Result<Permit, Closed> {
        self.enter(|state| input_bytes.saturating_add(state.latest))
    }

    fn enter(&self, weigh: impl Fn(&LimiterState) -> usize) -> Result<Permit, Closed> {
        let started = Instant::now();
        self.state.update_when(
            |state| state.closed.is_some() || state.has_room_for(weigh(state), self.capacity),
            |state| {
                state.measured.waited_for_room += started.elapsed();
                if state.closed.is_some() {
                    return Err(Closed);
                }
                let permit = Permit { place: state.admitted, bytes: weigh(state) };
                state.admitted += 1;
                state.hold(permit.bytes);
                Ok(permit)
            },
        )
    }

    /// Exchanges a reservation for the result's size; waits for space if that is larger.
    pub(super) fn settle(&self, reserved: Permit, bytes: usize) -> Result<Permit, Closed> {
        let Permit { place, bytes: reserved } = reserved;
        let fits = |state: &LimiterState| (state.held_bytes - reserved).saturating_add(bytes) <= self.capacity.bytes;
        let started = Instant::now();
        self.state.update_when(
            |state| state.closed.is_some() || bytes <= reserved || state.taken == place || fits(state),
            |state| {
                state.measured.waited_for_room += started.elapsed();
                if state.closed.is_some() {
                    return Err(Closed);
                }
                state.held_bytes -= reserved;
                state.hold(bytes);
                state.latest = bytes;
                Ok(Permit { place, bytes })
            },
        )
    }

    /// Records that the receiver took an item of this many bytes (`None`: the end), after waiting this long.
    /// Returns how the edge was closed, if it was.
    pub(super) fn take(&self, bytes: Option<usize>, waited: Duration) -> Option<End> {
        self.state.update(|state| {
            state.measured.waited_for_items += waited;
            if let Some(bytes) = bytes {
                state.taken += 1;
                state.held_bytes -= bytes;
                state.measured.items += 1;
                state.measured.bytes += bytes as u64;
            }
            state.closed
        })
    }

    /// Stops admitting, and wakes everyone who waits; returns whether the limiter was open.
    pub(super) fn close(&self, end: End) -> bool {
        self.state.update(|state| {
            let was_open = state.closed.is_none();
            state.closed.get_or_insert(end);
            was_open
        })
    }

    /// Number of places given.
    pub(super) fn admitted(&self) -> u64 {
        self.state.update(|state| state.admitted)
    }

    /// The measurements so far.
    pub(super) fn measured(&self) -> EdgeMeasurements {
        self.state.update(|state| state.measured)
    }
}

impl LimiterState {
    /// Whether the next place may be given to something of this size.
    fn has_room_for(&self, bytes: usize, capacity: Capacity) -> bool {
        let held = self.admitted - self.taken;
        // With nothing else held, the next place is the oldest.
        held == 0 || (held < capacity.items as u64 && self.held_bytes.saturating_add(bytes) <= capacity.bytes)
    }

    fn hold(&mut self, bytes: usize) {
        self.held_bytes = self.held_bytes.saturating_add(bytes);
        self.measured.peak_bytes = self.measured.peak_bytes.max(self.held_bytes);
    }
}
