//! Threads that share the pieces of one computation with the thread that asks for it.

use std::{
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread::{self, Thread},
};

/// Threads besides the calling one that compute pieces of its work. Clones refer to the same threads; without any that
/// [serves](Self::serve), the calling thread computes everything.
///
/// The calling thread takes pieces too, and waits for no thread that has not begun one: beside other programs that hold the cores,
/// it computes alone. Results depend on how work is cut into pieces, but not on who computes them.
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
        if items.len() < 2 || self.0.serving.load(Ordering::Relaxed) == 0 {
            return items.into_iter().map(compute).collect();
        }
        let pieces = Arc::new(Pieces {
            missing: AtomicUsize::new(items.len()),
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
        let results = pieces.pieces.iter().filter_map(|piece| locked(piece).take_result());
        results.map(|result| result.unwrap_or_else(|panic| resume_unwind(panic))).collect()
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
    Finished(thread::Result<R>),
}

impl<I, R> Piece<I, R> {
    fn begin(&mut self) -> Option<I> {
        match std::mem::replace(self, Self::Begun) {
            Self::Waiting(item) => Some(item),
            Self::Begun | Self::Finished(_) => None,
        }
    }

    fn take_result(&mut self) -> Option<thread::Result<R>> {
        match std::mem::replace(self, Self::Begun) {
            Self::Finished(result) => Some(result),
            Self::Waiting(_) | Self::Begun => None,
        }
    }
}

impl<I: Send, R: Send, F: Fn(I) -> R + Send + Sync> SharedWork for Pieces<I, R, F> {
    fn take_part(&self) {
        while let Some(piece) = self.pieces.get(self.next.fetch_add(1, Ordering::Relaxed)) {
            let begun = locked(piece).begin();
            if let Some(item) = begun {
                let result = catch_unwind(AssertUnwindSafe(|| (self.compute)(item)));
                *locked(piece) = Piece::Finished(result);
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
