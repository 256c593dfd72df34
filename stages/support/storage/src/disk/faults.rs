//! Injected disk faults, in programs built with the feature `faults`, as tests are: they show what happens to a run that dies, or whose
//! disk fails, at any of its calls.
//!
//! Every call that changes the disk is announced here first. Without an injected fault, that costs one comparison.
//! `PERTURBINE_FAULT=KIND@K` in the environment, or [`inject`], selects the fault of the K-th call, counted from 1:
//!
//! - `kill`: the process ends as with `kill -9`; half of the bytes to be written have been written;
//! - `dead`: the same without ending the process: from now on no call does anything, and each fails;
//! - `full`: the disk has no space left, from now on;
//! - `broken`: the disk fails (EIO), once;
//! - `short`: half of the bytes are written; `interrupted`: a signal arrives first. Neither is an error, and writing continues;
//! - `panic`: the program panics there.
//!
//! `slow@M` makes every write take M milliseconds longer; `unlocked@M` also refuses locks, as some network file systems do.
//! `PERTURBINE_DISK_LOG=FILE` appends one line per call.

use std::{
    env, fmt,
    fs::File,
    io::{self, Write},
    path::Path,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, Once, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use rustix::process::{Signal, getpid, kill_process};

use super::call::Call;

const FAULT: &str = "PERTURBINE_FAULT";
const LOG: &str = "PERTURBINE_DISK_LOG";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Kill,
    Dead,
    Full,
    Broken,
    Short,
    Interrupted,
    Panic,
    Slow,
    Unlocked,
}

impl Fault {
    fn parse(text: &str) -> Option<(Self, u64)> {
        let (kind, at) = text.split_once('@')?;
        let kind = match kind {
            "kill" => Self::Kill,
            "dead" => Self::Dead,
            "full" => Self::Full,
            "broken" => Self::Broken,
            "short" => Self::Short,
            "interrupted" => Self::Interrupted,
            "panic" => Self::Panic,
            "slow" => Self::Slow,
            "unlocked" => Self::Unlocked,
            _ => return None,
        };
        Some((kind, at.parse().ok()?))
    }
}

/// The injected fault.
struct FaultPlan {
    fault: Option<(Fault, u64)>,
    log: Option<Mutex<File>>,
    calls: AtomicU64,
}

impl FaultPlan {
    fn of_the_environment() -> Option<Self> {
        let fault = env::var(FAULT).ok().and_then(|text| Fault::parse(&text));
        let log = env::var_os(LOG).and_then(|path| File::options().create(true).append(true).open(path).ok());
        let plan = Self { fault, log: log.map(Mutex::new), calls: AtomicU64::new(0) };
        (plan.fault.is_some() || plan.log.is_some()).then_some(plan)
    }

    /// Counts a call; returns the fault that is due.
    fn next(&self, call: Call, path: impl fmt::Display) -> Option<Fault> {
        let call_number = 1 + self.calls.fetch_add(1, Ordering::Relaxed);
        if let Some(log) = &self.log {
            let line = format!("{} {call} {path}\n", std::process::id());
            let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
            // Errors of writing the log are ignored.
            let _ = log.write_all(line.as_bytes());
        }
        let (fault, at) = self.fault?;
        let due = match fault {
            Fault::Full => at <= call_number && call.takes_room(),
            Fault::Dead => at <= call_number,
            Fault::Slow | Fault::Unlocked => call == Call::Write,
            _ => at == call_number,
        };
        due.then_some(fault)
    }

    /// Counts a call other than a write; returns an error, if one is due.
    fn due(&self, call: Call, path: impl fmt::Display) -> io::Result<()> {
        match self.next(call, path) {
            Some(Fault::Kill) => kill(),
            Some(Fault::Full) => Err(io::ErrorKind::StorageFull.into()),
            Some(Fault::Broken | Fault::Dead) => Err(broken()),
            Some(Fault::Panic) => panic!("a panic was asked for"),
            _ => Ok(()),
        }
    }

    /// Whether the previous call already failed.
    fn was_dead(&self) -> bool {
        self.fault.is_some_and(|(_, at)| at < self.calls.load(Ordering::Relaxed))
    }

    fn linger(&self) {
        let time = Duration::from_millis(self.fault.map_or(0, |(_, milliseconds)| milliseconds));
        let nobody = Mutex::new(());
        let waiting = nobody.lock().unwrap_or_else(PoisonError::into_inner);
        drop(Condvar::new().wait_timeout(waiting, time));
    }
}

/// Whether a fault is planned.
static ASKED: AtomicBool = AtomicBool::new(false);
static PLAN: Mutex<Option<Arc<FaultPlan>>> = Mutex::new(None);

fn the_plan() -> MutexGuard<'static, Option<Arc<FaultPlan>>> {
    PLAN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn plan() -> Option<Arc<FaultPlan>> {
    static ENVIRONMENT: Once = Once::new();
    ENVIRONMENT.call_once(|| {
        if let Some(plan) = FaultPlan::of_the_environment() {
            *the_plan() = Some(Arc::new(plan));
            ASKED.store(true, Ordering::Release);
        }
    });
    if ASKED.load(Ordering::Relaxed) { the_plan().clone() } else { None }
}

/// Faults of the whole process, while this value exists.
#[derive(Debug)]
pub struct InjectedFaults(());

/// Injects a fault, given as in the environment: `full@7`. Calls are counted from now on. For tests, which
/// ensure that nothing else writes at the same time.
///
/// # Panics
/// Text that is not a fault.
#[must_use]
pub fn inject(fault: &str) -> InjectedFaults {
    // The fault from the environment is applied now, rather than later over this one.
    plan();
    let fault = Fault::parse(fault).expect("KIND@K");
    *the_plan() = Some(Arc::new(FaultPlan { fault: Some(fault), log: None, calls: AtomicU64::new(0) }));
    ASKED.store(true, Ordering::Release);
    InjectedFaults(())
}

impl InjectedFaults {
    /// Calls so far.
    #[must_use]
    pub fn calls(&self) -> u64 {
        the_plan().as_ref().map_or(0, |plan| plan.calls.load(Ordering::Relaxed))
    }
}

impl Drop for InjectedFaults {
    fn drop(&mut self) {
        ASKED.store(false, Ordering::Release);
        *the_plan() = None;
    }
}

/// Whether files can be locked.
pub(super) fn has_locks() -> bool {
    !plan().is_some_and(|plan| matches!(plan.fault, Some((Fault::Unlocked, _))))
}

/// To be called before every call except writes.
///
/// # Errors
/// The fault that is due.
pub(super) fn before(call: Call, path: &Path) -> io::Result<()> {
    plan().map_or(Ok(()), |plan| plan.due(call, path.display()))
}

/// The same for a rename, logged as `rename FROM -> TO`.
///
/// # Errors
/// The fault that is due.
pub(super) fn before_rename(from: &Path, to: &Path) -> io::Result<()> {
    plan().map_or(Ok(()), |plan| plan.due(Call::Rename, format_args!("{} -> {}", from.display(), to.display())))
}

/// Writes bytes with `write`, or as many as the fault that is due allows.
///
/// # Errors
/// Those of `write`, and the fault.
pub(super) fn write(path: &Path, bytes: &[u8], mut write: impl FnMut(&[u8]) -> io::Result<usize>) -> io::Result<usize> {
    let Some(plan) = plan() else { return write(bytes) };
    let half = &bytes[..bytes.len().div_ceil(2)];
    match plan.next(Call::Write, path.display()) {
        Some(Fault::Kill) => {
            write(half)?;
            kill()
        }
        Some(Fault::Full) => Err(io::ErrorKind::StorageFull.into()),
        Some(Fault::Dead) => {
            if !plan.was_dead() {
                write(half)?;
            }
            Err(broken())
        }
        Some(Fault::Broken) => Err(broken()),
        Some(Fault::Panic) => panic!("a panic was asked for"),
        Some(Fault::Short) => write(half),
        Some(Fault::Interrupted) => Err(io::ErrorKind::Interrupted.into()),
        Some(Fault::Slow | Fault::Unlocked) => {
            plan.linger();
            write(bytes)
        }
        None => write(bytes),
    }
}

fn broken() -> io::Error {
    io::Error::from_raw_os_error(rustix::io::Errno::IO.raw_os_error())
}

/// Ends the process: no destructor runs, nothing is flushed.
fn kill() -> ! {
    // The signal can't be blocked; in case it arrives late, this ends the process as well.
    let _ = kill_process(getpid(), Signal::KILL);
    std::process::abort()
}
