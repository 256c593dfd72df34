//! Arrow IPC: files (`.arrow`, Feather 2), whose footer lists the messages, and streams, walked over once.
//! The layout is that of <https://arrow.apache.org/docs/format/Columnar.html#ipc-file-format>.

use std::{fs::File, os::unix::fs::FileExt, path::Path, sync::Arc};

use arrow::{
    array::RecordBatch,
    buffer::Buffer,
    datatypes::SchemaRef,
    ipc::{
        Block, MessageHeader, MetadataVersion, Schema, convert::try_fb_to_schema, reader::FileDecoder, root_as_footer,
        root_as_message,
    },
};
use schemas::{Error, Result, numbers::to_usize};
use storage::parquet_read::decoded;

use super::part::{TablePart, unreadable};

/// Maximum size of the description of a batch; a file that claims more is damaged, and no memory is allocated
/// for it.
const MOST_METADATA: u32 = 1 << 26;
/// Limits for a buffer's unpacked size, in total and per stored byte, against decompression bombs: zstd packs
/// 128 KiB of one value into 4 bytes.
const MOST_UNPACKED: u64 = 1 << 30;
const MOST_UNPACKED_A_BYTE: u64 = 1 << 16;
/// The signature at the start and end of a file; a stream begins with its first message.
const FILE_MAGIC: &[u8] = b"ARROW1";
/// Length of the footer, and the magic.
const FILE_END: u64 = 10;
/// The start of a message, except in files before 2019.
const CONTINUATION: &[u8] = &[0xff; 4];

/// An open file and the positions of its messages.
#[derive(Clone, Debug)]
pub(super) struct Ipc {
    file: Arc<File>,
    schema: SchemaRef,
    version: MetadataVersion,
    dictionaries: Vec<Block>,
    batches: Vec<IpcRecordBatch>,
}

#[derive(Clone, Copy, Debug)]
struct IpcRecordBatch {
    block: Block,
    rows: u64,
    /// Number of dictionaries that it may need, counted from the first.
    dictionaries: usize,
}

impl Ipc {
    pub(super) fn open(file: File, path: &Path) -> Result<Self> {
        let length = file.metadata().map_err(Error::io("read", path))?.len();
        let bytes = FileBytes { file: &file, path, length };
        let is_file = length > FILE_END && bytes.at(0, 6)?.starts_with(FILE_MAGIC);
        let found = if is_file { of_file(&bytes)? } else { of_stream(&bytes)? };
        let IpcContent { schema, version, dictionaries, batches } = found;
        Ok(Self { file: Arc::new(file), schema, version, dictionaries, batches })
    }

    pub(super) fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    /// The record batches; the number of values in their lists is not known, only their size in bytes.
    pub(super) fn parts(&self) -> Vec<TablePart> {
        let part = |batch: &IpcRecordBatch| TablePart {
            rows: batch.rows,
            list_values: batch.block.bodyLength().unsigned_abs() / 8,
        };
        self.batches.iter().map(part).collect()
    }

    /// Some columns of a record batch, in this order.
    pub(super) fn read(&self, part: usize, columns: &[usize], path: &Path) -> Result<RecordBatch> {
        let batch = &self.batches[part];
        let mut decoder = FileDecoder::new(Arc::clone(&self.schema), self.version).with_projection(columns.to_vec());
        for block in &self.dictionaries[..batch.dictionaries] {
            let bytes = self.bytes_of(block, path)?;
            decoded(|| decoder.read_dictionary(block, &bytes)).map_err(|error| unreadable(path, &error))?;
        }
        let bytes = self.bytes_of(&batch.block, path)?;
        let read = decoded(|| decoder.read_record_batch(&batch.block, &bytes));
        let read = read.map_err(|error| unreadable(path, &error))?;
        read.ok_or_else(|| Error::Bug("a record batch is none".into()))
    }

    fn bytes_of(&self, block: &Block, path: &Path) -> Result<Buffer> {
        let bytes = block.bodyLength().unsigned_abs() + u64::from(block.metaDataLength().unsigned_abs());
        Ok(Buffer::from_vec(bytes_at(&self.file, path, block.offset().unsigned_abs(), bytes)?))
    }
}

/// The content of a file or stream.
struct IpcContent {
    schema: SchemaRef,
    version: MetadataVersion,
    dictionaries: Vec<Block>,
    batches: Vec<IpcRecordBatch>,
}

/// Reads the footer of a file.
fn of_file(bytes: &FileBytes<'_>) -> Result<IpcContent> {
    let end = bytes.length - FILE_END;
    let tail = bytes.at(end, FILE_END)?;
    let footer_length = u32::from_le_bytes([tail[0], tail[1], tail[2], tail[3]]);
    if !tail.ends_with(FILE_MAGIC) || footer_length > MOST_METADATA {
        return Err(bytes.damaged(end));
    }
    let start = end.checked_sub(footer_length.into()).ok_or_else(|| bytes.damaged(end))?;
    let footer = bytes.at(start, footer_length.into())?;
    let footer = root_as_footer(&footer).map_err(|_| bytes.damaged(start))?;
    let schema = footer.schema().ok_or_else(|| bytes.damaged(start))?;
    let mut found = IpcContent::new(bytes, schema, footer.version())?;
    let blocks = footer.dictionaries().into_iter().chain(footer.recordBatches()).flatten();
    for block in blocks {
        found.add(bytes, *block)?;
    }
    Ok(found)
}

/// Reads the messages of a stream one after another. The final empty message may be missing.
fn of_stream(bytes: &FileBytes<'_>) -> Result<IpcContent> {
    let mut found: Option<IpcContent> = None;
    let mut at = 0;
    while at < bytes.length {
        let prefix = bytes.at(at, 8)?;
        let metadata = u32::from_le_bytes([prefix[4], prefix[5], prefix[6], prefix[7]]);
        if !prefix.starts_with(CONTINUATION) || metadata > MOST_METADATA {
            return Err(bytes.damaged(at));
        }
        if metadata == 0 {
            break;
        }
        let description = bytes.at(at + 8, metadata.into())?;
        let message = root_as_message(&description).map_err(|_| bytes.damaged(at))?;
        let header = i32::try_from(metadata + 8).map_err(|_| bytes.damaged(at))?;
        let offset = i64::try_from(at).map_err(|_| bytes.damaged(at))?;
        let block = Block::new(offset, header, message.bodyLength());
        match (&mut found, message.header_as_schema()) {
            (None, Some(schema)) => found = Some(IpcContent::new(bytes, schema, message.version())?),
            (Some(found), None) => found.add(bytes, block)?,
            _ => return Err(bytes.damaged(at)),
        }
        at = bytes.end_of(&block)?;
    }
    found.ok_or_else(|| bytes.damaged(at))
}

impl IpcContent {
    fn new(bytes: &FileBytes<'_>, schema: Schema<'_>, version: MetadataVersion) -> Result<Self> {
        let schema = decoded(|| try_fb_to_schema(schema)).map_err(|error| unreadable(bytes.path, &error))?;
        Ok(Self { schema: Arc::new(schema), version, dictionaries: Vec::new(), batches: Vec::new() })
    }

    /// Records a dictionary or a record batch, if it is inside the file.
    fn add(&mut self, bytes: &FileBytes<'_>, block: Block) -> Result<()> {
        let at = block.offset().unsigned_abs();
        let damaged = || bytes.damaged(at);
        bytes.end_of(&block)?;
        let prefix_and_description = bytes.at(at, block.metaDataLength().unsigned_abs().into())?;
        let prefix = if prefix_and_description.starts_with(CONTINUATION) { 8 } else { 4 };
        let description = prefix_and_description.get(prefix..).ok_or_else(damaged)?;
        let message = root_as_message(description).map_err(|_| damaged())?;
        match message.header_type() {
            MessageHeader::DictionaryBatch => {
                let batch = message.header_as_dictionary_batch().and_then(|batch| batch.data());
                check_buffers(batch, block, bytes).ok_or_else(damaged)?;
                self.dictionaries.push(block);
            }
            MessageHeader::RecordBatch => {
                let batch = message.header_as_record_batch();
                check_buffers(batch, block, bytes).ok_or_else(damaged)?;
                let rows = u64::try_from(batch.map_or(0, |batch| batch.length())).map_err(|_| damaged())?;
                self.batches.push(IpcRecordBatch { block, rows, dictionaries: self.dictionaries.len() });
            }
            _ => return Err(damaged()),
        }
        Ok(())
    }
}

/// Returns `None` if a buffer is outside the message's body, or claims to become larger than it can: the
/// decoder trusts both.
fn check_buffers(batch: Option<arrow::ipc::RecordBatch<'_>>, block: Block, bytes: &FileBytes<'_>) -> Option<()> {
    let batch = batch?;
    let body = block.offset().unsigned_abs() + u64::from(block.metaDataLength().unsigned_abs());
    let inside = |offset: i64, length: i64| {
        let (offset, length) = (u64::try_from(offset).ok()?, u64::try_from(length).ok()?);
        let end = offset.checked_add(length)?;
        if u64::try_from(block.bodyLength()).ok()? < end {
            return None;
        }
        if batch.compression().is_none() || length == 0 {
            return Some(());
        }
        // A buffer begins with its unpacked length; a negative one means that its bytes are stored uncompressed.
        let length_unpacked = i64::from_le_bytes(bytes.at(body + offset, 8).ok()?.try_into().ok()?);
        let most = MOST_UNPACKED.min(length.saturating_mul(MOST_UNPACKED_A_BYTE));
        let is_bomb = u64::try_from(length_unpacked).is_ok_and(|length_unpacked| most < length_unpacked);
        (!is_bomb).then_some(())
    };
    batch.buffers()?.iter().try_for_each(|buffer| inside(buffer.offset(), buffer.length()))
}

/// The bytes of a file whose length is known.
#[derive(Clone, Copy)]
struct FileBytes<'a> {
    file: &'a File,
    path: &'a Path,
    length: u64,
}

impl FileBytes<'_> {
    /// Some bytes, if the file has them.
    fn at(&self, offset: u64, length: u64) -> Result<Vec<u8>> {
        if offset.checked_add(length).is_none_or(|end| self.length < end) {
            return Err(self.damaged(offset));
        }
        bytes_at(self.file, self.path, offset, length)
    }

    /// The end of a message's body, if it is inside the file.
    fn end_of(&self, block: &Block) -> Result<u64> {
        let end = || {
            let offset = u64::try_from(block.offset()).ok()?;
            let metadata =
                u64::try_from(block.metaDataLength()).ok().filter(|length| *length <= MOST_METADATA.into())?;
            let body = u64::try_from(block.bodyLength()).ok()?;
            offset.checked_add(metadata)?.checked_add(body).filter(|end| *end <= self.length)
        };
        end().ok_or_else(|| self.damaged(block.offset().unsigned_abs()))
    }

    fn damaged(&self, at: u64) -> Error {
        let message =
            format!("is not a Parquet file, and is not an Arrow file or is damaged or cut short at byte {at}");
        Error::data(self.path.display().to_string(), message, "write it again; only version 2 of Feather is supported")
    }
}

fn bytes_at(file: &File, path: &Path, at: u64, length: u64) -> Result<Vec<u8>> {
    let length = to_usize(length);
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, at).map_err(Error::io("read", path))?;
    Ok(bytes)
}
