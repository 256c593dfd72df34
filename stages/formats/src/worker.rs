//! Isolates libhdf5: a source that another process reads.
//!
//! libhdf5 has open memory-safety bugs that a hostile or damaged file can reach. Therefore, if an executable
//! is known (see [`Choice::worker`](super::choice::Choice)), a child process opens the file, within limits,
//! and answers requests on its standard input with frames on its standard output (`wire`). If it dies, that
//! is only an error about the file. Before libhdf5 opens a file, its structure is checked, in that process as
//! well as without a worker ([`hdf5`]). If the child process can report the location of the matrix, rows do
//! not go through it: they are read here, without libhdf5.

mod failure;
pub mod serve;
mod warnings;
mod wire;

use std::{
    fs::File,
    io::{BufReader, BufWriter},
    ops::Range,
    os::unix::{ffi::OsStrExt, fs::FileExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{Mutex, PoisonError},
};

use arrays::rows::RowMatrix;
use arrow::{array::RecordBatch, datatypes::SchemaRef};
use rustix::fs::{MemfdFlags, memfd_create};
use schemas::{
    Error, Result,
    atlas::{InPlace, InPlaceMatrix, Origin, StoredChunk},
    chunk::CsrRows,
    numbers::{checked, to_usize},
};
use stage::interrupt::{ChildGuard, Interrupt};

use self::wire::{Frame, WorkerReply, WorkerRequest, unexpected};
use super::{
    choice::Choice,
    source::{AnnDataMember, Source},
};

/// A source that a child process reads.
#[derive(Debug)]
pub struct RemoteSource {
    path: PathBuf,
    kind: String,
    origin: Origin,
    cells: u64,
    nonzeros: Option<u64>,
    /// The matrix, read here on any number of threads, if libhdf5 is not needed for it.
    matrix: Option<(RowMatrix, InPlace)>,
    var: RecordBatch,
    obs: SchemaRef,
    members: Vec<AnnDataMember>,
    worker: Mutex<Worker>,
}

#[derive(Debug)]
struct Worker {
    child: Child,
    /// Dropped before the process is waited for.
    helper: Option<ChildGuard>,
    interrupt: Interrupt,
    requests: BufWriter<ChildStdin>,
    replies: BufReader<ChildStdout>,
    /// Its standard error: a file in memory, so that it never waits for a reader.
    stderr: File,
}

/// Number of bytes at the end of its standard error that are shown.
const LAST_WORDS: u64 = 2000;

/// The argument of a program that is to read a file for this process.
pub const ARGUMENT: &str = "read-hdf5-for-another-process";

impl RemoteSource {
    /// Starts `executable` with [`ARGUMENT`], upon which it has to call [`serve::serve`], and lets it open a file.
    ///
    /// # Errors
    /// A process that does not start or that dies, and any error about the file.
    pub fn open(executable: &Path, path: &Path, choice: &Choice) -> Result<Self> {
        let mut command = Command::new(executable);
        command.arg(ARGUMENT);
        // The worker gets its own process group, so that Ctrl-C reaches only this process, which ends the worker when
        // it is done.
        let memory = memfd_create("stderr", MemfdFlags::CLOEXEC);
        let stderr = File::from(memory.map_err(|error| Error::io("start", executable)(error.into()))?);
        let its_stderr = stderr.try_clone().map_err(Error::io("start", executable))?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(its_stderr).process_group(0);
        let mut child = command.spawn().map_err(Error::io("start", executable))?;
        let (Some(requests), Some(replies)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(Error::Bug("a process was started without pipes".into()));
        };
        let interrupt = choice.interrupt.clone();
        let helper = Some(ChildGuard::new(&child, &interrupt));
        let (requests, replies) = (BufWriter::new(requests), BufReader::new(replies));
        let worker = Mutex::new(Worker { child, helper, interrupt, requests, replies, stderr });
        // Tables of genes belong to tables of cells, which the worker does not read.
        let choice = Choice { worker: None, genes_table: None, ..choice.clone() };
        let path_bytes = path.as_os_str().as_bytes().to_vec();
        let frame = ask(&worker, path, &WorkerRequest::Open { path: path_bytes, choice })?;
        let WorkerReply::Opened { kind, origin, cells, nonzeros, in_place, members } = frame.reply else {
            return Err(unexpected());
        };
        let [var, obs, chunks] = frame.payloads.as_slice() else { return Err(unexpected()) };
        let (var, obs) = (wire::table(var)?, wire::table(obs)?.schema());
        let matrix = match in_place {
            None => None,
            Some(matrix) => {
                let real = std::fs::canonicalize(path).map_err(Error::io("find", path))?;
                let matrix = InPlaceMatrix { path: real, ..*matrix };
                let found = InPlace { matrix, chunks: StoredChunk::from_bytes(chunks) };
                let genes = checked(var.num_rows(), "genes")?;
                let file = File::open(path).map_err(Error::io("read", path))?;
                let (matrix, _) = RowMatrix::open_in_place(path, file, &found.matrix, &found.chunks, (cells, genes))?;
                Some((matrix, found))
            }
        };
        Ok(Self { path: path.to_path_buf(), kind, origin, cells, nonzeros, matrix, var, obs, members, worker })
    }
}

impl Source for RemoteSource {
    fn kind(&self) -> &str {
        &self.kind
    }

    fn origin(&self) -> &Origin {
        &self.origin
    }

    fn cells(&self) -> u64 {
        self.cells
    }

    fn nonzeros(&self) -> Option<u64> {
        self.nonzeros
    }

    fn in_place(&self) -> Option<InPlace> {
        self.matrix.as_ref().map(|(_, found)| found.clone())
    }

    fn var(&self) -> &RecordBatch {
        &self.var
    }

    fn obs_schema(&self) -> SchemaRef {
        SchemaRef::clone(&self.obs)
    }

    fn members(&self) -> &[AnnDataMember] {
        &self.members
    }

    fn obs(&self, cells: Range<u64>, columns: &[usize]) -> Result<RecordBatch> {
        let rows = cells.end - cells.start;
        let request = WorkerRequest::Obs { cells, columns: columns.to_vec() };
        let Frame { reply: WorkerReply::Obs, payloads, .. } = ask(&self.worker, &self.path, &request)? else {
            return Err(unexpected());
        };
        let table = wire::table(payloads.first().ok_or_else(unexpected)?)?;
        match table.num_rows() as u64 == rows && table.num_columns() == columns.len() {
            true => Ok(table),
            false => Err(unexpected()),
        }
    }

    fn range_end(&self, first: u64) -> Result<u64> {
        if let Some((matrix, _)) = &self.matrix {
            return matrix.range_end(first);
        }
        match ask(&self.worker, &self.path, &WorkerRequest::RangeEnd { first })?.reply {
            WorkerReply::RangeEnd { end } => Ok(end),
            _ => Err(unexpected()),
        }
    }

    fn expression(&self, cells: Range<u64>, spare: CsrRows) -> Result<CsrRows> {
        if let Some((matrix, _)) = &self.matrix {
            return matrix.read(cells, spare);
        }
        let rows = cells.end - cells.start;
        let Frame { reply: WorkerReply::Expression, payloads, .. } =
            ask(&self.worker, &self.path, &WorkerRequest::Expression { cells })?
        else {
            return Err(unexpected());
        };
        let genes = checked(self.var.num_rows(), "genes")?;
        let rows_read = wire::rows(&payloads, spare, genes)?;
        if rows_read.rows() as u64 == rows { Ok(rows_read) } else { Err(unexpected()) }
    }
}

/// Sends a request, and waits for the reply.
fn ask(worker: &Mutex<Worker>, path: &Path, request: &WorkerRequest) -> Result<Frame> {
    let mut worker = worker.lock().unwrap_or_else(PoisonError::into_inner);
    let Worker { requests, replies, .. } = &mut *worker;
    let frame = wire::send(requests, request).and_then(|()| wire::receive(replies));
    for warning in frame.iter().flat_map(|frame| &frame.warnings) {
        tracing::warn!("{warning}");
    }
    match frame {
        Ok(Frame { reply: WorkerReply::Failed(failure), .. }) => Err(failure.into_error()),
        Ok(frame) => Ok(frame),
        Err(_) => {
            worker.interrupt.check()?;
            Err(worker.died(path))
        }
    }
}

impl Worker {
    /// The error about a file that killed the worker.
    fn died(&mut self, path: &Path) -> Error {
        self.helper = None;
        let _ = self.child.kill();
        let how = self.child.wait().map_or_else(|error| error.to_string(), |status| status.to_string());
        let last_line = self.stderr_tail().lines().last().map(|line| format!("; it said: {line}")).unwrap_or_default();
        Error::data(
            path.display().to_string(),
            format!("the process that read it has died ({how}{last_line})"),
            "the file is most likely damaged; restore it from a copy, or write it again",
        )
    }
}

impl Worker {
    /// The end of the worker's standard error; empty if that can't be read.
    fn stderr_tail(&self) -> String {
        let length = self.stderr.metadata().map_or(0, |metadata| metadata.len());
        let mut words = Vec::new();
        let from = length.saturating_sub(LAST_WORDS);
        words.resize(to_usize(length - from), 0);
        match self.stderr.read_exact_at(&mut words, from) {
            Ok(()) => String::from_utf8_lossy(&words).into_owned(),
            Err(_) => String::new(),
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.helper = None;
        // Nothing is lost, because the worker only reads.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
