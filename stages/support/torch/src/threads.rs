//! The number of threads of libtorch's operations.

use std::sync::{Mutex, PoisonError};

/// Makes libtorch's operations run on the calling thread alone as long as this lives: their sums then have one order, whatever
/// the number of cores, and results are the same to the last bit. Any number of threads may hold one at once.
///
/// Libtorch keeps a number of threads for the process, from which each thread takes its own when it first uses several. Matrix
/// products don't wait for that: on a thread that never held one of these, they run on as many threads as there are cores.
/// While any of these lives, the number is 1; the number before is set again when the last one is dropped.
#[derive(Debug)]
pub struct OneThread(());

/// The number of living [`OneThread`]s, and libtorch's number of threads before the first of them.
static HOLDERS: Mutex<(usize, i32)> = Mutex::new((0, 0));

impl OneThread {
    /// Sets the number of threads to 1.
    #[must_use]
    pub fn hold() -> Self {
        let mut holders = HOLDERS.lock().unwrap_or_else(PoisonError::into_inner);
        if holders.0 == 0 {
            holders.1 = tch::get_num_threads();
        }
        holders.0 += 1;
        // A part of the setting belongs to the calling thread, so each sets it.
        tch::set_num_threads(1);
        Self(())
    }
}

impl Drop for OneThread {
    fn drop(&mut self) {
        let mut holders = HOLDERS.lock().unwrap_or_else(PoisonError::into_inner);
        holders.0 -= 1;
        if holders.0 == 0 {
            tch::set_num_threads(holders.1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_threads_is_one_until_the_last_holder_is_gone() {
        tch::set_num_threads(3);
        let first = OneThread::hold();
        let second = std::thread::spawn(OneThread::hold).join().expect("a holder on another thread");
        drop(first);
        assert_eq!(tch::get_num_threads(), 1);
        drop(second);
        assert_eq!(tch::get_num_threads(), 3);
    }
}
