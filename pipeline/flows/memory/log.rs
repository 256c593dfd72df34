//! Memory of each phase of a run.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use serde::Serialize;
use stage::phase::{Phase, Phases};

use super::{Watch, anonymous_bytes, device};

/// The measurements of a phase, over all its repetitions.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct PhaseMemory {
    /// The phase's name.
    pub phase: &'static str,
    /// Number of times it was entered.
    pub times: u64,
    /// Total duration.
    pub seconds: f64,
    /// Peak anonymous memory of the process; `None` if the system does not report it.
    pub host_peak_bytes: Option<u64>,
    /// Memory at the end of the last repetition.
    pub host_end_bytes: Option<u64>,
    /// Largest growth of GPU memory use by its end; `None` without a GPU.
    pub device_bytes: Option<u64>,
}

/// Watches memory by phase, from its creation to its end.
#[derive(Debug)]
pub struct MemoryLog {
    state: Arc<Mutex<MemoryLogState>>,
    watch: Watch,
}

#[derive(Debug)]
struct MemoryLogState {
    phases: Vec<PhaseMemory>,
    /// Index of the current phase.
    at: usize,
    since: Instant,
    /// GPU memory before anything ran; `None` without a GPU.
    device_before: Option<u64>,
}

impl PhaseMemory {
    fn new(phase: Phase) -> Self {
        Self {
            phase: phase.name(),
            times: 1,
            seconds: 0.0,
            host_peak_bytes: None,
            host_end_bytes: None,
            device_bytes: None,
        }
    }
}

impl MemoryLogState {
    fn look(&mut self) -> Option<u64> {
        let now = anonymous_bytes();
        let peak = &mut self.phases[self.at].host_peak_bytes;
        *peak = (*peak).max(now);
        now
    }

    fn leave(&mut self) {
        let now = self.look();
        let device = self.device_before.and_then(|before| Some(device::used_bytes()?.saturating_sub(before)));
        let phase = &mut self.phases[self.at];
        phase.host_end_bytes = now;
        phase.device_bytes = phase.device_bytes.max(device);
        phase.seconds += self.since.elapsed().as_secs_f64();
        self.since = Instant::now();
    }

    fn enter(&mut self, phase: Phase) {
        if self.phases[self.at].phase == phase.name() {
            return;
        }
        self.leave();
        match self.phases.iter().position(|known| known.phase == phase.name()) {
            Some(at) => {
                self.at = at;
                self.phases[at].times += 1;
            }
            None => {
                self.at = self.phases.len();
                self.phases.push(PhaseMemory::new(phase));
            }
        }
        self.look();
    }
}

impl MemoryLog {
    /// Starts watching, in the set-up phase.
    #[must_use]
    pub fn watch() -> Self {
        let state = MemoryLogState {
            phases: vec![PhaseMemory::new(Phase::Setup)],
            at: 0,
            since: Instant::now(),
            device_before: device::used_bytes(),
        };
        let state = Arc::new(Mutex::new(state));
        let watched_state = Arc::clone(&state);
        let look = move || {
            lock(&watched_state).look();
        };
        Self { state, watch: Watch::start(look) }
    }

    /// A handle for a run to report its phases.
    #[must_use]
    pub fn phases(&self) -> Phases {
        let state = Arc::clone(&self.state);
        Phases::with_listener(move |phase| lock(&state).enter(phase))
    }

    /// The measurements of each phase, in the order of first entry.
    #[must_use]
    pub fn end(mut self) -> Vec<PhaseMemory> {
        self.watch.end();
        let mut state = lock(&self.state);
        state.leave();
        state.phases.clone()
    }
}

fn lock(state: &Mutex<MemoryLogState>) -> MutexGuard<'_, MemoryLogState> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Display for PhaseMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = |bytes: Option<u64>| bytes.map_or("unknown here".to_owned(), mebibytes);
        let (peak, end) = (host(self.host_peak_bytes), host(self.host_end_bytes));
        let (phase, times, seconds) = (self.phase, self.times, self.seconds);
        write!(f, "{phase:<12} {times:>5} × {seconds:>9.2} s  host at most {peak}, at its end {end}")?;
        self.device_bytes.map_or(Ok(()), |bytes| write!(f, "; devices {}", mebibytes(bytes)))
    }
}

#[expect(clippy::cast_precision_loss, reason = "one decimal is shown")]
fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_phase_is_told_once_with_the_times_it_was_entered_and_the_most_it_held() {
        let log = MemoryLog::watch();
        let phases = log.phases();
        phases.enter(Phase::Epoch);
        phases.enter(Phase::Epoch);
        // Other tests of this process take and free some memory meanwhile.
        let held = vec![1_u8; 128 << 20];
        phases.enter(Phase::Saving);
        drop(std::hint::black_box(held));
        phases.enter(Phase::Epoch);
        let measured = log.end();
        let names: Vec<(&str, u64)> = measured.iter().map(|phase| (phase.phase, phase.times)).collect();
        assert_eq!(names, [("setup", 1), ("epoch", 2), ("saving", 1)]);
        if anonymous_bytes().is_some() {
            let peaks: Vec<u64> = measured.iter().map(|phase| phase.host_peak_bytes.expect("it was looked")).collect();
            assert!(peaks[0] + (60 << 20) < peaks[1], "the epoch made what is large: {peaks:?}");
            assert!(peaks[0] + (60 << 20) < peaks[2], "and it was still there while saving: {peaks:?}");
            assert!(measured[1].host_end_bytes.expect("it was looked") + (60 << 20) < peaks[1], "{measured:?}");
        }
    }
}
