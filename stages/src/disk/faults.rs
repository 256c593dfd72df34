//! Faults of a disk on request: how the tests see what becomes of a run that dies, or whose disk does, at any of its calls.
//!
//! Every call that changes what is on disk is shown here first. Where the environment names no fault, that is a look at one
//! pointer. `PERTURBINE_FAULT=KIND@K` makes the K-th call of this process, from 1, the one at which
//!
//! - `kill`: the process ends as `kill -9` ends it; of bytes that were to be written, half have been;
//! - `full`: the disk has no room left, now and later;
//! - `broken`: the disk fails (EIO), once;
//! - `short`: half of the bytes are written; `interrupted`: a signal came first. Both are no errors, and are gone on from.
//!
//! `PERTURBINE_FAULT=slow@M` lets every write take M milliseconds longer. `PERTURBINE_DISK_LOG=FILE` appends a line a call.

use std::{
    env, fmt,
    fs::File,
    io::{self, Write},
    path::Path,
    sync::{
        Condvar, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use rustix::process::{Signal, getpid, kill_process};

const FAULT: &str = "PERTURBINE_FAULT";
const LOG: &str = "PERTURBINE_DISK_LOG";

/// What is done to the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    /// A file comes to be, or is emptied.
    Create,
    /// Bytes go into a file.
    Write,
    /// Room is taken for a file.
    Allocate,
    /// A file is brought to the disk.
    Sync,
    /// A folder comes to be.
    CreateFolder,
    /// The names in a folder are brought to the disk.
    SyncFolder,
    /// A file or folder gets its name.
    Rename,
    /// A file, or a folder with all that is in it, goes.
    Remove,
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Create => "create",
            Self::Write => "write",
            Self::Allocate => "allocate",
            Self::Sync => "sync",
            Self::CreateFolder => "create-folder",
            Self::SyncFolder => "sync-folder",
            Self::Rename => "rename",
            Self::Remove => "remove",
        })
    }
}

impl Call {
    /// Whether a full disk is in its way.
    fn takes_room(self) -> bool {
        matches!(self, Self::Create | Self::Write | Self::Allocate | Self::CreateFolder)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Kill,
    Full,
    Broken,
    Short,
    Interrupted,
    Slow,
}

impl Fault {
    fn parse(text: &str) -> Option<(Self, u64)> {
        let (kind, at) = text.split_once('@')?;
        let kind = match kind {
            "kill" => Self::Kill,
            "full" => Self::Full,
            "broken" => Self::Broken,
            "short" => Self::Short,
            "interrupted" => Self::Interrupted,
            "slow" => Self::Slow,
            _ => return None,
        };
        Some((kind, at.parse().ok()?))
    }
}

/// What the environment asks for.
struct Plan {
    fault: Option<(Fault, u64)>,
    log: Option<Mutex<File>>,
    calls: AtomicU64,
}

impl Plan {
    fn of_the_environment() -> Option<Self> {
        let fault = env::var(FAULT).ok().and_then(|text| Fault::parse(&text));
        let log = env::var_os(LOG).and_then(|path| File::options().create(true).append(true).open(path).ok());
        let plan = Self { fault, log: log.map(Mutex::new), calls: AtomicU64::new(0) };
        (plan.fault.is_some() || plan.log.is_some()).then_some(plan)
    }

    /// Counts a call; the fault that is due at it.
    fn next(&self, call: Call, path: &Path) -> Option<Fault> {
        let call_number = 1 + self.calls.fetch_add(1, Ordering::Relaxed);
        if let Some(log) = &self.log {
            let line = format!("{} {call} {}\n", std::process::id(), path.display());
            let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
            // A log that can't be written is missed by whoever reads it.
            let _ = log.write_all(line.as_bytes());
        }
        let (fault, at) = self.fault?;
        let due = match fault {
            Fault::Full => at <= call_number && call.takes_room(),
            Fault::Slow => call == Call::Write,
            _ => at == call_number,
        };
        due.then_some(fault)
    }

    fn linger(&self) {
        let time = Duration::from_millis(self.fault.map_or(0, |(_, milliseconds)| milliseconds));
        let nobody = Mutex::new(());
        let waiting = nobody.lock().unwrap_or_else(PoisonError::into_inner);
        drop(Condvar::new().wait_timeout(waiting, time));
    }
}

fn plan() -> Option<&'static Plan> {
    static PLAN: OnceLock<Option<Plan>> = OnceLock::new();
    PLAN.get_or_init(Plan::of_the_environment).as_ref()
}

/// To be called before every call but a write.
///
/// # Errors
/// The fault that is due.
pub(super) fn before(call: Call, path: &Path) -> io::Result<()> {
    let Some(plan) = plan() else { return Ok(()) };
    match plan.next(call, path) {
        Some(Fault::Kill) => kill(),
        Some(Fault::Full) => Err(io::ErrorKind::StorageFull.into()),
        Some(Fault::Broken) => Err(broken()),
        Some(Fault::Slow) => {
            plan.linger();
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Writes bytes by way of `write`, or as much of them as the fault that is due lets through.
///
/// # Errors
/// Those of `write`, and the fault.
pub(super) fn write(path: &Path, bytes: &[u8], mut write: impl FnMut(&[u8]) -> io::Result<usize>) -> io::Result<usize> {
    let Some(plan) = plan() else { return write(bytes) };
    let half = &bytes[..bytes.len().div_ceil(2)];
    match plan.next(Call::Write, path) {
        Some(Fault::Kill) => {
            write(half)?;
            kill()
        }
        Some(Fault::Full) => Err(io::ErrorKind::StorageFull.into()),
        Some(Fault::Broken) => Err(broken()),
        Some(Fault::Short) => write(half),
        Some(Fault::Interrupted) => Err(io::ErrorKind::Interrupted.into()),
        Some(Fault::Slow) => {
            plan.linger();
            write(bytes)
        }
        None => write(bytes),
    }
}

fn broken() -> io::Error {
    io::Error::from_raw_os_error(rustix::io::Errno::IO.raw_os_error())
}

/// No destructor runs, nothing is flushed.
fn kill() -> ! {
    // The signal can't be refused; should it come late, this ends the process as well.
    let _ = kill_process(getpid(), Signal::KILL);
    std::process::abort()
}
