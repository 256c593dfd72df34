//! The other side of the pipe: opens one file, and answers requests until the pipe is closed.

use std::{
    ffi::OsStr,
    io::{BufReader, BufWriter, Read, Write},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use arrow::array::RecordBatch;
use rustix::process::{Resource, Rlimit, Signal, set_parent_process_death_signal, setrlimit};
use schemas::{Error, Result, atlas::InPlaceMatrix, chunk::CsrRows};

use super::{
    failure::Failure,
    warnings::Warnings,
    wire::{self, WorkerReply, WorkerRequest},
};
use crate::{format::open_here, source::Source};

/// Maximum bytes of private memory for the process.
const MOST_MEMORY: u64 = 2 << 30;

/// Serves incoming requests, within limits that apply to the whole process.
///
/// # Errors
/// Limits that can't be set, or a pipe that breaks.
pub fn serve(requests: impl Read, replies: impl Write) -> Result<()> {
    let limits = setrlimit(Resource::Data, Rlimit { current: Some(MOST_MEMORY), maximum: Some(MOST_MEMORY) });
    let orphans = set_parent_process_death_signal(Some(Signal::KILL));
    for done in [limits, orphans] {
        done.map_err(|error| Error::Bug(format!("the process can't be limited: {error}")))?;
    }
    let (mut requests, mut replies) = (BufReader::new(requests), BufWriter::new(replies));
    let broken = |error: std::io::Error| Error::Bug(format!("the pipe broke: {error}"));
    let mut source = None;
    let mut spare = CsrRows::default();
    let warnings = Warnings::default();
    // This only fails if there is a subscriber already, which then receives the warnings.
    let _ = tracing::subscriber::set_global_default(warnings.clone());
    while let Some(request) = wire::receive_message(&mut requests).map_err(broken)? {
        match answer(&mut source, request, &mut spare) {
            Ok((reply, payloads)) => {
                let payloads: Vec<&[u8]> = match reply {
                    // These are sent without a copy.
                    WorkerReply::Expression => vec![
                        bytemuck::cast_slice(spare.row_pointers()),
                        bytemuck::cast_slice(spare.genes()),
                        bytemuck::cast_slice(spare.values()),
                    ],
                    _ => payloads.iter().map(Vec::as_slice).collect(),
                };
                wire::answer(&mut replies, &reply, warnings.take(), &payloads)
            }
            Err(error) => wire::answer(&mut replies, &WorkerReply::Failed(Failure::from(&error)), warnings.take(), &[]),
        }
        .map_err(broken)?;
    }
    Ok(())
}

fn answer(
    open: &mut Option<std::sync::Arc<dyn Source>>,
    request: WorkerRequest,
    spare: &mut CsrRows,
) -> Result<(WorkerReply, Vec<Vec<u8>>)> {
    let not_open = || Error::Bug("no file has been opened".into());
    Ok(match request {
        WorkerRequest::Open { path, choice } => {
            let source = open.insert(open_here(Path::new(OsStr::from_bytes(&path)), &choice)?);
            let obs = RecordBatch::new_empty(source.obs_schema());
            let in_place = source.in_place();
            let chunks = in_place.as_ref().map_or(Vec::new(), |found| bytemuck::cast_slice(&found.chunks).to_vec());
            let reply = WorkerReply::Opened {
                kind: source.kind().to_owned(),
                origin: source.origin().clone(),
                cells: source.cells(),
                nonzeros: source.nonzeros(),
                // The caller knows the path, and JSON can't represent every path.
                in_place: in_place.map(|found| Box::new(InPlaceMatrix { path: PathBuf::new(), ..found.matrix })),
                members: source.members().to_vec(),
            };
            (reply, vec![wire::table_bytes(source.var())?, wire::table_bytes(&obs)?, chunks])
        }
        WorkerRequest::Obs { cells, columns } => {
            let obs = open.as_ref().ok_or_else(not_open)?.obs(cells, &columns)?;
            (WorkerReply::Obs, vec![wire::table_bytes(&obs)?])
        }
        WorkerRequest::RangeEnd { first } => {
            (WorkerReply::RangeEnd { end: open.as_ref().ok_or_else(not_open)?.range_end(first)? }, Vec::new())
        }
        WorkerRequest::Expression { cells } => {
            *spare = open.as_ref().ok_or_else(not_open)?.expression(cells, std::mem::take(spare))?;
            (WorkerReply::Expression, Vec::new())
        }
    })
}
