//! Tests the promises of limiter, edge, map and halt under many thread schedules: a model checker replaces the
//! operating system, chooses the next thread at every lock, wait and channel, and fails a schedule in which
//! no thread can run.

#![allow(clippy::unwrap_used, reason = "a test fails where it panics")]

use std::{
    sync::{Arc, PoisonError, Weak},
    time::Duration,
};

use shuttle::{
    check_random,
    sync::{
        Condvar, Mutex,
        mpsc::{Receiver as ModelReceiver, SyncSender, sync_channel},
    },
    thread,
};

use schemas::ByteSize;

use super::{
    edge::{Receiver, Sender, edge},
    end::End,
    halt::{Close, Halt},
    limiter::Closed,
    ordered::OrderedMap,
    plan::Capacity,
    primitives::{Inlet, Monitor, Outlet, Primitives, TimeIsUp},
};

const SCHEDULES: usize = 2000;

struct ModelChecked;

impl Primitives for ModelChecked {
    type Monitor<S: Send + 'static> = ModelMonitor<S>;
    type Outlet<T: Send + 'static> = SyncSender<T>;
    type Inlet<T: Send + 'static> = ModelReceiver<T>;

    fn channel<T: Send + 'static>(slots: usize) -> (SyncSender<T>, ModelReceiver<T>) {
        sync_channel(slots)
    }
}

struct ModelMonitor<S> {
    state: Mutex<S>,
    changed: Condvar,
}

impl<S: Send> Monitor<S> for ModelMonitor<S> {
    fn new(state: S) -> Self {
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    fn update_when<R>(&self, ready: impl Fn(&S) -> bool, change: impl FnOnce(&mut S) -> R) -> R {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.changed.wait_while(state, |state| !ready(state));
        let result = change(&mut waited.unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_all();
        result
    }
}

impl<T: Send> Outlet<T> for SyncSender<T> {
    fn put(&self, value: T) {
        use shuttle::sync::mpsc::TrySendError;
        let refused = self.try_send(value);
        assert!(!matches!(refused, Err(TrySendError::Full(_))), "a slot was promised");
    }
}

impl<T: Send> Inlet<T> for ModelReceiver<T> {
    fn take(&self) -> Option<T> {
        self.recv().ok()
    }

    /// The model has no clock: nobody's time is up.
    fn take_within(&self, _: Duration) -> Result<Option<T>, TimeIsUp> {
        Ok(self.take())
    }
}

/// A number with a declared size.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Weighed {
    number: usize,
    bytes: usize,
}

impl ByteSize for Weighed {
    fn byte_size(&self) -> usize {
        self.bytes
    }
}

/// Numbered items of these weights.
fn items<const N: usize>(weights: [usize; N]) -> [Weighed; N] {
    let mut number = 0;
    weights.map(|bytes| {
        number += 1;
        Weighed { number, bytes }
    })
}

fn model_edge(items: usize, bytes: usize) -> (Sender<Weighed, ModelChecked>, Receiver<Weighed, ModelChecked>) {
    edge(Capacity { items, bytes })
}

/// Sends items until the edge closes; completes the stream if it never does.
fn send_all(
    sender: Sender<Weighed, ModelChecked>,
    items: impl IntoIterator<Item = Weighed> + Send + 'static,
) -> thread::JoinHandle<Result<(), Closed>> {
    thread::spawn(move || {
        for item in items {
            sender.send(item)?;
        }
        sender.end(End::Complete);
        Ok(())
    })
}

/// Lets `halt` close the edge.
fn watch(halt: &Arc<Halt<ModelChecked>>, sender: &Sender<Weighed, ModelChecked>) {
    let edge: Weak<dyn Close> = Arc::downgrade(sender.shared()) as _;
    halt.watch(edge);
}

fn receive_all(receiver: &mut Receiver<Weighed, ModelChecked>) -> (Vec<Weighed>, End) {
    let mut received = Vec::new();
    loop {
        match receiver.recv() {
            Ok(item) => received.push(item),
            Err(end) => return (received, end),
        }
    }
}

#[test]
fn every_schedule_delivers_in_order_and_within_the_budget() {
    let sent = items([1, 3, 9, 2, 2, 5, 1, 7]);
    check_random(
        move || {
            let (sender, mut receiver) = model_edge(2, 5);
            let limiter = Arc::clone(sender.limiter());
            let sending = send_all(sender, sent);
            assert_eq!(receive_all(&mut receiver), (sent.to_vec(), End::Complete));
            assert_eq!(sending.join().unwrap(), Ok(()));
            // The largest exceeds the edge's capacity, and passed alone.
            assert_eq!(limiter.measured().peak_bytes, 9);
        },
        SCHEDULES,
    );
}

#[test]
fn an_edge_of_small_items_never_holds_more_than_its_budget() {
    check_random(
        || {
            let (sender, mut receiver) = model_edge(3, 5);
            let limiter = Arc::clone(sender.limiter());
            let sending = send_all(sender, items([2, 3, 1, 4, 5, 2, 2]));
            let (received, end) = receive_all(&mut receiver);
            assert_eq!((received.len(), end), (7, End::Complete));
            sending.join().unwrap().unwrap();
            assert!(limiter.measured().peak_bytes <= 5);
        },
        SCHEDULES,
    );
}

#[test]
fn a_dropped_receiver_frees_a_sender_that_waits() {
    check_random(
        || {
            let (sender, mut receiver) = model_edge(1, 1);
            let sending = send_all(sender, items([1; 6]));
            receiver.recv().unwrap();
            drop(receiver);
            assert_eq!(sending.join().unwrap(), Err(Closed));
        },
        SCHEDULES,
    );
}

#[test]
fn a_dropped_sender_cuts_the_stream_behind_what_it_sent() {
    check_random(
        || {
            let (sender, mut receiver) = model_edge(1, 1);
            let [item] = items([1]);
            let sending = thread::spawn(move || sender.send(item));
            assert_eq!(receive_all(&mut receiver), (vec![item], End::Cut));
            assert_eq!(receiver.recv(), Err(End::Cut), "an end stays");
            sending.join().unwrap().unwrap();
        },
        SCHEDULES,
    );
}

#[test]
fn a_stop_frees_both_sides_of_every_edge() {
    check_random(
        || {
            let stop = Arc::new(Halt::<ModelChecked>::default());
            let (full, kept) = model_edge(1, 1);
            let (idle, mut empty) = model_edge(1, 1);
            watch(&stop, &full);
            watch(&stop, &idle);
            let sending = send_all(full, items([1; 3]));
            let receiving = thread::spawn(move || receive_all(&mut empty));
            let stopping = thread::spawn(move || stop.raise(End::Stopped));
            // Nobody receives from the full edge, and nobody sends into the empty one.
            assert_eq!(sending.join().unwrap(), Err(Closed));
            assert_eq!(receiving.join().unwrap(), (vec![], End::Stopped));
            assert!(stopping.join().unwrap());
            drop((kept, idle));
        },
        SCHEDULES,
    );
}

#[test]
fn a_stop_reaches_an_edge_that_is_being_opened() {
    check_random(
        || {
            let stop = Arc::new(Halt::<ModelChecked>::default());
            let (sender, mut receiver) = model_edge(1, 1);
            let raised = Arc::clone(&stop);
            let stopping = thread::spawn(move || raised.raise(End::Stopped));
            watch(&stop, &sender);
            assert_eq!(receiver.recv(), Err(End::Stopped));
            stopping.join().unwrap();
            drop(sender);
        },
        SCHEDULES,
    );
}

#[test]
fn after_a_stop_nothing_more_is_received() {
    check_random(
        || {
            let (sender, mut receiver) = model_edge(4, 4);
            let edge = Arc::clone(sender.shared());
            let sending = send_all(sender, items([1; 4]));
            edge.close(End::Stopped);
            assert_eq!(receiver.recv(), Err(End::Stopped));
            let _ = sending.join().unwrap();
        },
        SCHEDULES,
    );
}

/// Starts a map on `workers` threads that turns each item into one of the size given by `weigh`.
///
/// As in a group, a worker that fails halts the run.
fn map(
    workers: usize,
    halt: &Arc<Halt<ModelChecked>>,
    input: Receiver<Weighed, ModelChecked>,
    output: Sender<Weighed, ModelChecked>,
    weigh: fn(Weighed) -> Result<usize, &'static str>,
) -> Vec<thread::JoinHandle<()>> {
    watch(halt, &output);
    let f = move |item| {
        thread::yield_now();
        Ok(Weighed { bytes: weigh(item)?, ..item })
    };
    let map = Arc::new(OrderedMap::new(input, output, f));
    let start = |_| {
        let (map, halt) = (Arc::clone(&map), Arc::clone(halt));
        thread::spawn(move || {
            if map.work().is_err() {
                halt.raise(End::Cut);
            }
        })
    };
    (0..workers).map(start).collect()
}

#[test]
fn a_map_keeps_order_and_its_oldest_result_always_passes() {
    let sent = items([1; 7]);
    // Sizes that do not fit together, and differ from the previous one.
    let weigh = |item: Weighed| Ok([1, 8, 2, 6, 1, 9, 3][item.number - 1]);
    check_random(
        move || {
            let (sender, input) = model_edge(2, 2);
            let (output, mut receiver) = model_edge(3, 8);
            let limiter = Arc::clone(output.limiter());
            let sending = send_all(sender, sent);
            let working = map(3, &Arc::default(), input, output, weigh);
            let (received, end) = receive_all(&mut receiver);
            assert_eq!(end, End::Complete);
            assert_eq!(received, sent.map(|item| Weighed { bytes: weigh(item).unwrap(), ..item }));
            sending.join().unwrap().unwrap();
            working.into_iter().for_each(|worker| worker.join().unwrap());
            assert!(limiter.measured().peak_bytes <= 8 + 9, "the budget and one item");
        },
        SCHEDULES,
    );
}

#[test]
fn a_map_that_fails_frees_everyone_and_never_looks_complete() {
    let weigh = |item: Weighed| if item.number == 3 { Err("bad row") } else { Ok(1) };
    check_random(
        move || {
            let halt = Arc::default();
            let (sender, input) = model_edge(2, 2);
            let (output, mut receiver) = model_edge(3, 3);
            watch(&halt, &sender);
            let sending = send_all(sender, items([1; 7]));
            let working = map(2, &halt, input, output, weigh);
            let (received, end) = receive_all(&mut receiver);
            assert!(received.len() <= 2, "nothing passes the item that failed");
            assert_eq!(end, End::Cut);
            working.into_iter().for_each(|worker| worker.join().unwrap());
            let _ = sending.join().unwrap();
        },
        SCHEDULES,
    );
}

#[test]
fn a_stop_frees_the_workers_of_a_map() {
    check_random(
        || {
            let stop = Arc::default();
            let (sender, input) = model_edge(1, 1);
            let (output, receiver) = model_edge(2, 2);
            watch(&stop, &sender);
            let sending = send_all(sender, items([1; 9]));
            let working = map(2, &stop, input, output, |_| Ok(2));
            stop.raise(End::Stopped);
            // Nobody has received anything.
            working.into_iter().for_each(|worker| worker.join().unwrap());
            assert_eq!(sending.join().unwrap(), Err(Closed));
            drop(receiver);
        },
        SCHEDULES,
    );
}
