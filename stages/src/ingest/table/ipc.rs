//! Arrow IPC files (`.arrow`, Feather 2) and streams: messages one after another, found by walking over them once.

use std::{fs::File, os::unix::fs::FileExt, path::Path, sync::Arc};

use arrow::{
    array::RecordBatch,
    buffer::Buffer,
    datatypes::SchemaRef,
    ipc::{Block, MessageHeader, MetadataVersion, convert::try_fb_to_schema, reader::FileDecoder, root_as_message},
};
use schemas::{Error, Result};

use super::file::{Part, unreadable};

/// More bytes than the description of any batch has; what says otherwise is damaged, and must not make us allocate.
const MOST_METADATA: u32 = 1 << 26;
/// What a file begins with; a stream begins with its first message.
const FILE_MAGIC: &[u8] = b"ARROW1\0\0";
const CONTINUATION: [u8; 4] = [0xff; 4];

/// An open file and where its messages lie.
#[derive(Clone, Debug)]
pub(super) struct Ipc {
    file: Arc<File>,
    schema: SchemaRef,
    version: MetadataVersion,
    dictionaries: Vec<Block>,
    batches: Vec<Batch>,
}

#[derive(Clone, Copy, Debug)]
struct Batch {
    block: Block,
    rows: u64,
    /// How many dictionaries stand before it.
    dictionaries: usize,
}

impl Ipc {
    pub(super) fn open(file: File, path: &Path) -> Result<Self> {
        let length = file.metadata().map_err(Error::io("read", path))?.len();
        let damaged = |at: u64| {
            let message =
                format!("is no Parquet file, and no Arrow file or one that is damaged or cut short at byte {at}");
            Error::data(path.display().to_string(), message, "write it again; of Feather only version 2 is read")
        };
        let start = bytes_at(&file, path, 0, 8.min(length))?;
        let mut at = if start == FILE_MAGIC { 8 } else { 0 };
        let mut schema = None;
        let (mut dictionaries, mut batches) = (Vec::new(), Vec::new());
        // A file may end without the message of no length that ends a stream.
        while at < length {
            let prefix = bytes_at(&file, path, at, 8).map_err(|_| damaged(at))?;
            // Some writers fill the file up to a round number before the first message.
            if schema.is_none() && 0 < at && prefix.iter().all(|byte| *byte == 0) {
                at += 8;
                continue;
            }
            let metadata = u32::from_le_bytes([prefix[4], prefix[5], prefix[6], prefix[7]]);
            if prefix[..4] != CONTINUATION || MOST_METADATA < metadata {
                return Err(damaged(at));
            }
            if metadata == 0 {
                break;
            }
            let bytes = bytes_at(&file, path, at + 8, metadata.into()).map_err(|_| damaged(at))?;
            let message = root_as_message(&bytes).map_err(|_| damaged(at))?;
            let body = u64::try_from(message.bodyLength()).map_err(|_| damaged(at))?;
            let next = (at + 8 + u64::from(metadata)).checked_add(body).filter(|next| *next <= length);
            let next = next.ok_or_else(|| damaged(at))?;
            let signed = |number: u64| i64::try_from(number).map_err(|_| damaged(at));
            let header = i32::try_from(metadata + 8).map_err(|_| damaged(at))?;
            let block = Block::new(signed(at)?, header, signed(body)?);
            match message.header_type() {
                MessageHeader::Schema => {
                    let found = message.header_as_schema().ok_or_else(|| damaged(at))?;
                    let found = try_fb_to_schema(found).map_err(|error| unreadable(path, &error))?;
                    schema.get_or_insert((Arc::new(found), message.version()));
                }
                MessageHeader::DictionaryBatch => {
                    let batch = message.header_as_dictionary_batch().and_then(|batch| batch.data());
                    check_buffers(batch, body).ok_or_else(|| damaged(at))?;
                    dictionaries.push(block);
                }
                MessageHeader::RecordBatch => {
                    let batch = message.header_as_record_batch();
                    check_buffers(batch, body).ok_or_else(|| damaged(at))?;
                    let rows = u64::try_from(batch.map_or(0, |batch| batch.length())).map_err(|_| damaged(at))?;
                    batches.push(Batch { block, rows, dictionaries: dictionaries.len() });
                }
                _ => return Err(damaged(at)),
            }
            at = next;
        }
        let (schema, version) = schema.ok_or_else(|| damaged(at))?;
        Ok(Self { file: Arc::new(file), schema, version, dictionaries, batches })
    }

    pub(super) fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    /// The record batches; of how many values their lists have no more is known than their bytes.
    pub(super) fn parts(&self) -> Vec<Part> {
        let part = |batch: &Batch| Part { rows: batch.rows, list_values: batch.block.bodyLength().unsigned_abs() / 8 };
        self.batches.iter().map(part).collect()
    }

    /// Some columns of a record batch, in this order.
    pub(super) fn read(&self, part: usize, columns: &[usize], path: &Path) -> Result<RecordBatch> {
        let batch = &self.batches[part];
        let mut decoder = FileDecoder::new(Arc::clone(&self.schema), self.version).with_projection(columns.to_vec());
        for block in &self.dictionaries[..batch.dictionaries] {
            let bytes = self.bytes_of(block, path)?;
            decoder.read_dictionary(block, &bytes).map_err(|error| unreadable(path, &error))?;
        }
        let bytes = self.bytes_of(&batch.block, path)?;
        let read = decoder.read_record_batch(&batch.block, &bytes).map_err(|error| unreadable(path, &error))?;
        read.ok_or_else(|| Error::Bug("a record batch is none".into()))
    }

    fn bytes_of(&self, block: &Block, path: &Path) -> Result<Buffer> {
        let bytes = block.bodyLength().unsigned_abs() + u64::from(block.metaDataLength().unsigned_abs());
        Ok(Buffer::from_vec(bytes_at(&self.file, path, block.offset().unsigned_abs(), bytes)?))
    }
}

/// None if a buffer lies outside the message's body: the decoder takes that on trust.
fn check_buffers(batch: Option<arrow::ipc::RecordBatch<'_>>, body: u64) -> Option<()> {
    let inside = |offset: i64, length: i64| {
        let end = u64::try_from(offset).ok()?.checked_add(u64::try_from(length).ok()?)?;
        (end <= body).then_some(())
    };
    batch?.buffers()?.iter().try_for_each(|buffer| inside(buffer.offset(), buffer.length()))
}

fn bytes_at(file: &File, path: &Path, at: u64, length: u64) -> Result<Vec<u8>> {
    let length = usize::try_from(length).map_err(|error| Error::Bug(error.to_string()))?;
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, at).map_err(Error::io("read", path))?;
    Ok(bytes)
}
