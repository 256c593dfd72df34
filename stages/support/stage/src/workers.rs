//! Threads that share the pieces of one computation with the thread that asks for it.

use std::{
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread::{self, Thread},
    time::{Duration, Instant},
};

use schemas::numbers::bounded;

/// Threads besides the calling one that compute pieces of its work. Clones refer to the same threads; without any that
/// [serves](Self::serve), the calling thread computes everything.
///
/// The calling thread takes pieces too, and waits for no thread that has not begun one. Where sharing takes longer than computing
/// alone, as beside other programs that hold the cores, it computes alone for a while. Results depend on how work is cut into
/// pieces, but not on who computes them.
///
/// ```
/// use stage::workers::Workers;
///
/// let squares = Workers::default().map(vec![1, 2, 3], |number: u32| number * number);
/// assert_eq!(squares, [1, 4, 9]);
/// ```
#[derive(Clone, Debug, Default)]
pub struct Workers(Arc<Notice>);

/// The newest computation, for threads that look for one.
#[derive(Debug, Default)]
struct Notice {
    state: Mutex<NoticeState>,
    changed: Condvar,
    /// Number of threads that serve.
    serving: AtomicUsize,
}

#[derive(Default)]
struct NoticeState {
    /// Number of computations that were posted.
    posted: u64,
    work: Option<Arc<dyn SharedWork>>,
    closed: bool,
    sharing: Sharing,
}

impl std::fmt::Debug for NoticeState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NoticeState")
            .field("posted", &self.posted)
            .field("closed", &self.closed)
            .finish_non_exhaustive()
    }
}

impl Workers {
    /// Computes a result for each item, in their order; each item is a piece of work of its own.
    ///
    /// # Panics
    /// If a piece does, once all have ended.
    pub fn map<I, R>(&self, items: Vec<I>, compute: impl Fn(I) -> R + Send + Sync + 'static) -> Vec<R>
    where
        I: Send + 'static,
        R: Send + 'static,
    {
        let count = items.len();
        if count < 2 || self.0.serving.load(Ordering::Relaxed) == 0 || !self.0.lock().sharing.is_worthwhile() {
            return items.into_iter().map(compute).collect();
        }
        let began = Instant::now();
        let pieces = Arc::new(Pieces {
            missing: AtomicUsize::new(count),
            pieces: items.into_iter().map(|item| Mutex::new(Piece::Waiting(item))).collect(),
            next: AtomicUsize::new(0),
            asking: thread::current(),
            compute,
        });
        {
            let mut state = self.0.lock();
            state.posted += 1;
            state.work = Some(Arc::clone(&pieces) as Arc<dyn SharedWork>);
        }
        self.0.changed.notify_all();
        pieces.take_part();
        while pieces.missing.load(Ordering::Acquire) > 0 {
            thread::park();
        }
        let finished = pieces.pieces.iter().filter_map(|piece| locked(piece).take_result());
        let (results, mut times): (Vec<thread::Result<R>>, Vec<Duration>) = finished.unzip();
        times.sort_unstable();
        self.0.lock().sharing.took(began.elapsed(), times[(count - 1) / 2] * bounded::<u32>(count));
        results.into_iter().map(|result| result.unwrap_or_else(|panic| resume_unwind(panic))).collect()
    }

    /// Computes pieces of others' work on the calling thread until [`close`](Self::close).
    pub fn serve(&self) {
        self.0.serving.fetch_add(1, Ordering::Relaxed);
        let mut seen = 0;
        while let Some(work) = self.0.newer_than(&mut seen) {
            work.take_part();
        }
        self.0.serving.fetch_sub(1, Ordering::Relaxed);
    }

    /// Lets all serving threads return once they have finished their pieces.
    pub fn close(&self) {
        self.0.lock().closed = true;
        self.0.changed.notify_all();
    }
}

impl Notice {
    fn lock(&self) -> MutexGuard<'_, NoticeState> {
        locked(&self.state)
    }

    /// Waits for a computation that was posted after the one with the number `seen`; `None` once closed.
    fn newer_than(&self, seen: &mut u64) -> Option<Arc<dyn SharedWork>> {
        let is_seen = |state: &mut NoticeState| state.posted == *seen && !state.closed;
        let state = self.changed.wait_while(self.lock(), is_seen).unwrap_or_else(PoisonError::into_inner);
        *seen = state.posted;
        state.work.clone().filter(|_| !state.closed)
    }
}

/// Weight of the past in the time gained by sharing.
const MEMORY: f64 = 0.95;
/// Number of computations alone after sharing has cost time for the first time; it doubles up to the second number.
const ALONE: [u32; 2] = [32, 1024];
/// Number of shared computations after which those before are forgotten.
const SETTLED: u32 = 256;

/// Whether computations are shared: while this gains time over computing alone.
#[derive(Debug)]
struct Sharing {
    /// Seconds gained by the last computations.
    gained: f64,
    /// Number of computations that were shared without a break.
    shared: u32,
    /// Number of computations before sharing is tried again.
    alone: u32,
    /// Number of computations alone after the next loss.
    next_alone: u32,
}

impl Default for Sharing {
    fn default() -> Self {
        Self { gained: 0.0, shared: 0, alone: 0, next_alone: ALONE[0] }
    }
}

impl Sharing {
    /// Whether the next computation is shared.
    fn is_worthwhile(&mut self) -> bool {
        let shares = self.alone == 0;
        self.alone = self.alone.saturating_sub(1);
        shares
    }

    /// A shared computation took this time; alone it would have taken the other one.
    fn took(&mut self, time: Duration, alone: Duration) {
        self.gained = self.gained * MEMORY + alone.as_secs_f64() - time.as_secs_f64();
        self.shared += 1;
        if self.gained < 0.0 {
            *self = Self { alone: self.next_alone, next_alone: ALONE[1].min(2 * self.next_alone), ..Self::default() };
        } else if self.shared == SETTLED {
            *self = Self { gained: self.gained, ..Self::default() };
        }
    }
}

/// A computation in which any thread may take part.
trait SharedWork: Send + Sync {
    /// Computes pieces that nobody has begun, until there are none.
    fn take_part(&self);
}

struct Pieces<I, R, F> {
    pieces: Vec<Mutex<Piece<I, R>>>,
    /// The next piece that nobody has begun.
    next: AtomicUsize,
    /// Number of pieces that are not finished.
    missing: AtomicUsize,
    /// The thread that asked for the results.
    asking: Thread,
    compute: F,
}

/// One piece of a computation.
enum Piece<I, R> {
    Waiting(I),
    Begun,
    Finished(thread::Result<R>, Duration),
}

impl<I, R> Piece<I, R> {
    fn begin(&mut self) -> Option<I> {
        match std::mem::replace(self, Self::Begun) {
            Self::Waiting(item) => Some(item),
            Self::Begun | Self::Finished(..) => None,
        }
    }

    /// The result, and how long it took.
    fn take_result(&mut self) -> Option<(thread::Result<R>, Duration)> {
        match std::mem::replace(self, Self::Begun) {
            Self::Finished(result, time) => Some((result, time)),
            Self::Waiting(_) | Self::Begun => None,
        }
    }
}

impl<I: Send, R: Send, F: Fn(I) -> R + Send + Sync> SharedWork for Pieces<I, R, F> {
    fn take_part(&self) {
        while let Some(piece) = self.pieces.get(self.next.fetch_add(1, Ordering::Relaxed)) {
            let begun = locked(piece).begin();
            if let Some(item) = begun {
                let began = Instant::now();
                let result = catch_unwind(AssertUnwindSafe(|| (self.compute)(item)));
                *locked(piece) = Piece::Finished(result, began.elapsed());
            }
            if self.missing.fetch_sub(1, Ordering::AcqRel) == 1 {
                self.asking.unpark();
            }
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;

    /// Runs a test beside this many threads that serve.
    #[expect(clippy::disallowed_methods, reason = "threads of a test, which end with it")]
    fn beside(threads: usize, test: impl FnOnce(&Workers)) {
        let workers = Workers::default();
        thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| workers.serve());
            }
            while workers.0.serving.load(Ordering::Relaxed) < threads {
                thread::yield_now();
            }
            // A failing test must not leave threads that are waited for.
            let outcome = catch_unwind(AssertUnwindSafe(|| test(&workers)));
            workers.close();
            outcome.unwrap_or_else(|panic| resume_unwind(panic));
        });
    }

    #[test]
    fn results_are_in_the_order_of_their_items_for_any_number_of_threads() {
        for threads in 0..4 {
            beside(threads, |workers| {
                for count in [0, 1, 2, 3, 50] {
                    let numbers = (0..count).collect();
                    let expected: Vec<u64> = (0..count).map(|number| number * number).collect();
                    assert_eq!(workers.map(numbers, |number: u64| number * number), expected);
                }
            });
        }
    }

    #[test]
    fn pieces_run_at_the_same_time() {
        beside(2, |workers| {
            // Each piece waits for the two others.
            let meeting = Barrier::new(3);
            assert_eq!(workers.map(vec![(); 3], move |()| meeting.wait().is_leader()).len(), 3);
        });
    }

    #[test]
    fn the_calling_thread_waits_for_nobody_who_has_not_begun() {
        let workers = Workers::default();
        // A thread that counts as serving but never comes.
        workers.0.serving.store(1, Ordering::Relaxed);
        assert_eq!(workers.map(vec![1, 2, 3], |number| number + 1), [2, 3, 4]);
    }

    #[test]
    fn computations_are_shared_again_after_longer_and_longer_times_alone() {
        let mut sharing = Sharing::default();
        let [quick, slow] = [1, 5].map(Duration::from_millis);
        let alone_until_shared = |sharing: &mut Sharing| (0..).find(|_| sharing.is_worthwhile());
        for expected in [32, 64, 128, 256, 512, 1024, 1024] {
            assert_eq!(alone_until_shared(&mut sharing), Some(0));
            sharing.took(slow, quick);
            assert_eq!(alone_until_shared(&mut sharing), Some(expected));
        }
        for _ in 0..SETTLED {
            sharing.took(quick, slow);
        }
        // One loss after many gains changes nothing; a lasting one does, and the first time alone is short again.
        sharing.took(slow, quick);
        assert_eq!(alone_until_shared(&mut sharing), Some(0));
        while sharing.alone == 0 {
            sharing.took(slow, quick);
        }
        assert_eq!(alone_until_shared(&mut sharing), Some(32));
    }

    #[test]
    fn a_piece_that_panics_panics_in_the_calling_thread_and_the_others_go_on() {
        beside(1, |workers| {
            let panicking = |number| assert!(number != 2, "the third piece");
            let panicked = catch_unwind(AssertUnwindSafe(|| workers.map(vec![0, 1, 2, 3], panicking)));
            let message = panicked.expect_err("a panic");
            assert!(message.downcast_ref::<&str>().is_some_and(|message| message.contains("the third piece")));
            assert_eq!(workers.map(vec![0, 1], |number| number), [0, 1]);
        });
    }
}
