//! The protocol of the pipes: a length followed by that many bytes of JSON; in replies, also any number of
//! payloads, each preceded by its length.
//!
//! ```text
//! u64 | JSON | u64 count | (u64 | bytes) × count        lengths are little-endian
//! ```

use std::{
    io::{self, Cursor, Read, Write},
    ops::Range,
};

use arrow::{
    array::RecordBatch,
    ipc::{reader::StreamReader, writer::StreamWriter},
};
use schemas::{
    Error, Result,
    atlas::{InPlaceMatrix, Origin},
    chunk::CsrRows,
};
use serde::{Deserialize, Serialize};

use super::failure::Failure;
use crate::{choice::Choice, source::AnnDataMember};

/// A request.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum WorkerRequest {
    /// Open a file; the first request, and the only one of its kind.
    Open {
        /// The bytes of the file's path, which may not be UTF-8.
        path: Vec<u8>,
        /// The matrix to read.
        choice: Choice,
    },
    /// [`Source::obs`](super::Source::obs).
    Obs {
        /// The range of cells.
        cells: Range<u64>,
        /// The indices of the columns.
        columns: Vec<usize>,
    },
    /// [`Source::range_end`](super::Source::range_end).
    RangeEnd {
        /// The first cell.
        first: u64,
    },
    /// [`Source::expression`](super::Source::expression).
    Expression {
        /// The range of cells.
        cells: Range<u64>,
    },
}

/// A reply.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum WorkerReply {
    /// The file is open; payloads: `var`, an empty `obs`, and the chunks of a matrix that can be read in place.
    Opened {
        /// The name of its format.
        kind: String,
        /// Its name in errors.
        origin: Origin,
        /// Number of cells.
        cells: u64,
        /// Number of stored values.
        nonzeros: Option<u64>,
        /// Where the matrix is, if it can be read in place.
        in_place: Option<Box<InPlaceMatrix>>,
        /// The other members, if they were asked for.
        members: Vec<AnnDataMember>,
    },
    /// Payload: the annotations.
    Obs,
    /// The end of a row range.
    RangeEnd {
        /// The first cell after the row range.
        end: u64,
    },
    /// Payloads: row pointers, genes, values.
    Expression,
    /// The request failed.
    Failed(Failure),
}

/// A reply, and the warnings since the previous one.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Answer<R> {
    pub(super) reply: R,
    pub(super) warnings: Vec<String>,
}

/// A reply and its payloads.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) reply: WorkerReply,
    pub(super) warnings: Vec<String>,
    pub(super) payloads: Vec<Vec<u8>>,
}

pub(super) fn send(out: &mut impl Write, message: &impl Serialize) -> io::Result<()> {
    let text = serde_json::to_vec(message)?;
    out.write_all(&(text.len() as u64).to_le_bytes())?;
    out.write_all(&text)?;
    out.flush()
}

/// The next message; `None` if the other side has closed the pipe.
pub(super) fn receive_message<T: for<'a> Deserialize<'a>>(from: &mut impl Read) -> io::Result<Option<T>> {
    let mut length = [0; 8];
    match from.read_exact(&mut length) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    }
    let text = bytes(from, u64::from_le_bytes(length))?;
    Ok(Some(serde_json::from_slice(&text)?))
}

pub(super) fn answer(
    out: &mut impl Write,
    reply: &WorkerReply,
    warnings: Vec<String>,
    payloads: &[&[u8]],
) -> io::Result<()> {
    send(out, &Answer { reply, warnings })?;
    out.write_all(&(payloads.len() as u64).to_le_bytes())?;
    for payload in payloads {
        out.write_all(&(payload.len() as u64).to_le_bytes())?;
        out.write_all(payload)?;
    }
    out.flush()
}

pub(super) fn receive(from: &mut impl Read) -> io::Result<Frame> {
    let Answer { reply, warnings } = receive_message(from)?.ok_or(io::ErrorKind::UnexpectedEof)?;
    let mut payloads = Vec::new();
    for _ in 0..number(from)? {
        let length = number(from)?;
        payloads.push(bytes(from, length)?);
    }
    Ok(Frame { reply, warnings, payloads })
}

fn number(from: &mut impl Read) -> io::Result<u64> {
    let mut number = [0; 8];
    from.read_exact(&mut number)?;
    Ok(u64::from_le_bytes(number))
}

/// Reads this many bytes; memory grows with the bytes that arrive, not with the announced length.
fn bytes(from: &mut impl Read, length: u64) -> io::Result<Vec<u8>> {
    let mut found = Vec::new();
    from.take(length).read_to_end(&mut found)?;
    if found.len() as u64 == length { Ok(found) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

/// A table as the bytes of a payload.
pub(super) fn table_bytes(table: &RecordBatch) -> Result<Vec<u8>> {
    let bug = |error: arrow::error::ArrowError| Error::Bug(error.to_string());
    let mut writer = StreamWriter::try_new(Vec::new(), &table.schema()).map_err(bug)?;
    writer.write(table).map_err(bug)?;
    writer.into_inner().map_err(bug)
}

/// The table in a payload.
pub(super) fn table(payload: &[u8]) -> Result<RecordBatch> {
    let bug = |error: arrow::error::ArrowError| Error::Bug(error.to_string());
    let mut reader = StreamReader::try_new(Cursor::new(payload), None).map_err(bug)?;
    reader.next().ok_or_else(|| Error::Bug("a table without rows to it".into()))?.map_err(bug)
}

/// The rows in three payloads.
pub(super) fn rows(payloads: &[Vec<u8>], spare: CsrRows, genes: u32) -> Result<CsrRows> {
    let [pointers, ids, values] = payloads else { return Err(unexpected()) };
    let (mut row_pointers, mut row_genes, mut row_values) = spare.into_parts();
    row_pointers.extend(pointers.as_chunks::<4>().0.iter().map(|bytes| u32::from_le_bytes(*bytes)));
    row_genes.extend(ids.as_chunks::<4>().0.iter().map(|bytes| u32::from_le_bytes(*bytes)));
    row_values.extend(values.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)));
    CsrRows::canonical(row_pointers, row_genes, row_values, genes).map_err(|_| unexpected())
}

/// The error about a reply that does not follow the protocol.
pub(super) fn unexpected() -> Error {
    Error::Bug("the process that reads the file gave an unexpected answer".into())
}
