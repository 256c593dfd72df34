//! An edge: a bounded channel behind a [limiter](super::limiter), and the three ways in which a stream ends.
//!
//! All waiting for space, in items and in bytes, happens at the limiter; the channel carries what the limiter
//! admitted, and has a slot for each item, so that sending never blocks. The end of a stream travels as a
//! message after the last item. It is explicit, never implied: a sender dropped without an end message (after
//! an error or a panic) means *cut*.
//!
//! Only two things travel against the stream: the edge is full, and the receiver is gone. A third comes from
//! outside: [`Close`] ends an edge for both sides at once, and queued items are dropped.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use schemas::ByteSize;

use super::{
    end::End,
    halt::Close,
    limiter::{CapacityLimiter, Closed, Permit},
    plan::Capacity,
    primitives::{Inlet, Native, Outlet, Primitives, TimeIsUp},
};

/// The upstream side of an edge; dropping it cuts the stream, unless its end was sent.
pub(super) struct Sender<T: Send + 'static, P: Primitives = Native>(Arc<SharedEdge<T, P>>);

/// The downstream side of an edge; dropping it closes the edge.
pub(super) struct Receiver<T: Send + 'static, P: Primitives = Native> {
    shared: Arc<SharedEdge<T, P>>,
    inlet: P::Inlet<EdgeMessage<T>>,
    end: Option<End>,
}

/// State shared by both sides and by those who may close the edge.
pub(super) struct SharedEdge<T: Send + 'static, P: Primitives> {
    limiter: Arc<CapacityLimiter<P>>,
    outlet: P::Outlet<EdgeMessage<T>>,
}

enum EdgeMessage<T> {
    /// An item, and the bytes that the limiter holds for it.
    Item(T, usize),
    End(End),
}

/// Extra slots: the end sent by a sender, the *cut* when it is dropped, and the end from a close.
const SLOTS_FOR_ENDS: usize = 3;

/// Opens an edge.
pub(super) fn edge<T: Send + 'static, P: Primitives>(capacity: Capacity) -> (Sender<T, P>, Receiver<T, P>) {
    // The limiter lets one item pass, whatever the capacity.
    let (outlet, inlet) = P::channel(capacity.items.max(1) + SLOTS_FOR_ENDS);
    let shared = Arc::new(SharedEdge { limiter: Arc::new(CapacityLimiter::new(capacity)), outlet });
    (Sender(Arc::clone(&shared)), Receiver { shared, inlet, end: None })
}

impl<T: Send + 'static, P: Primitives> Sender<T, P> {
    /// Waits for space, then sends the item.
    pub(super) fn send(&self, item: T) -> Result<(), Closed>
    where
        T: ByteSize,
    {
        let permit = self.0.limiter.admit(item.byte_size())?;
        self.put(item, permit);
        Ok(())
    }

    /// Sends an item that has passed the limiter; permits must arrive in the order of their places.
    pub(super) fn put(&self, item: T, permit: Permit) {
        self.0.outlet.put(EdgeMessage::Item(item, permit.bytes()));
    }

    /// Sends the end of the stream, once; the receiver only uses the first end.
    pub(super) fn end(&self, end: End) {
        self.0.outlet.put(EdgeMessage::End(end));
    }

    pub(super) fn limiter(&self) -> &Arc<CapacityLimiter<P>> {
        &self.0.limiter
    }

    /// A handle that closes the edge from outside.
    pub(super) fn shared(&self) -> &Arc<SharedEdge<T, P>> {
        &self.0
    }
}

impl<T: Send + 'static, P: Primitives> Drop for Sender<T, P> {
    fn drop(&mut self) {
        self.end(End::Cut);
    }
}

impl<T: Send + 'static, P: Primitives> Receiver<T, P> {
    /// Waits for an item, or for the end; after that, always returns that end.
    pub(super) fn recv(&mut self) -> Result<T, End> {
        if let Some(end) = self.end {
            return Err(end);
        }
        let started = Instant::now();
        let message = self.inlet.take();
        self.taken(message, started.elapsed())
    }

    /// The same, but gives up after `longest`; nothing is lost then.
    pub(super) fn recv_within(&mut self, longest: Duration) -> Result<Result<T, End>, TimeIsUp> {
        if let Some(end) = self.end {
            return Ok(Err(end));
        }
        let started = Instant::now();
        let message = self.inlet.take_within(longest)?;
        Ok(self.taken(message, started.elapsed()))
    }

    /// Handles a message on the receiving side; a channel without senders means *cut*.
    fn taken(&mut self, message: Option<EdgeMessage<T>>, waited: Duration) -> Result<T, End> {
        let message = message.unwrap_or(EdgeMessage::End(End::Cut));
        let limiter = &self.shared.limiter;
        let end = match message {
            EdgeMessage::Item(item, bytes) => match limiter.take(Some(bytes), waited) {
                None => return Ok(item),
                Some(closed) => closed,
            },
            EdgeMessage::End(end) => limiter.take(None, waited).unwrap_or(end),
        };
        self.end = Some(end);
        Err(end)
    }
}

impl<T: Send + 'static, P: Primitives> Drop for Receiver<T, P> {
    fn drop(&mut self) {
        self.shared.limiter.close(End::Cut);
    }
}

impl<T: Send + 'static, P: Primitives> Close for SharedEdge<T, P> {
    fn close(&self, end: End) {
        if self.limiter.close(end) {
            // This wakes a waiting receiver; a busy one sees the closed limiter when it returns.
            self.outlet.put(EdgeMessage::End(end));
        }
    }
}
