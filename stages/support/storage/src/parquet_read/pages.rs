//! The file from which a Parquet decoder reads pages: the header of each page is checked before it is
//! decoded, like the footer.

use std::{
    fs::File,
    io::{self, BufReader, Read, Seek},
    mem,
};

use bytes::Bytes;
use parquet::{
    errors::Result,
    file::reader::{ChunkReader, Length},
};

use super::footer::{MOST_DEPTH, RefusalReason, RemainingStructure};

/// Maximum size of a page's header, as for the reader of Arrow in C++.
const MOST_HEADER_BYTES: u64 = 16 << 20;
/// Maximum number of values without bytes in a header. No known field is a list of them.
const MOST_FREE: usize = 1 << 10;

/// A Parquet file.
#[derive(Debug)]
pub struct Pages(pub File);

impl Length for Pages {
    fn len(&self) -> u64 {
        self.0.len()
    }
}

impl ChunkReader for Pages {
    type T = PageHeaderReader;

    fn get_read(&self, start: u64) -> Result<Self::T> {
        Ok(PageHeaderReader { reader: self.0.get_read(start)?, start, has_begun: false })
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes> {
        self.0.get_bytes(start, length)
    }
}

/// A reader of a page's header, which is checked when its first byte is read. A decoder that has already read
/// the header creates another reader at the values, but reads nothing from it: it gets values through
/// [`ChunkReader::get_bytes`].
#[derive(Debug)]
pub struct PageHeaderReader {
    reader: BufReader<File>,
    start: u64,
    has_begun: bool,
}

impl PageHeaderReader {
    /// Checks the next header, and returns to its first byte.
    fn check(&mut self) -> io::Result<()> {
        let start = self.start;
        check(&mut self.reader).map_err(|what| io::Error::other(format!("page header at byte {start}: {what}")))?;
        let read = self.reader.stream_position()? - start;
        // In the reader's buffer, this costs nothing.
        self.reader.seek_relative(-read.cast_signed())
    }
}

impl Read for PageHeaderReader {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if !mem::replace(&mut self.has_begun, true) {
            self.check()?;
        }
        self.reader.read(into)
    }
}

/// Reads a page header to its end. One that is cut short is left to the decoder, which refuses it.
fn check(reader: impl Read) -> std::result::Result<(), RefusalReason> {
    let mut left = RemainingStructure { rest: reader.take(MOST_HEADER_BYTES), free: MOST_FREE, claims_too_much: false };
    match left.skip_struct(MOST_DEPTH) {
        None if left.claims_too_much => Err("it declares a list that is longer than it is".into()),
        None if left.rest.limit() == 0 => Err(format!("it is larger than {} MiB", MOST_HEADER_BYTES >> 20)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Write, sync::Arc, time::Instant};

    use arrow::array::{ArrayRef, Int64Array, RecordBatch};
    use parquet::arrow::ArrowWriter;

    use super::*;
    use crate::parquet_read::{Batches, parquet};

    /// The bytes of a file with one column of 100 numbers.
    fn numbers() -> Vec<u8> {
        let column: ArrayRef = Arc::new(Int64Array::from_iter_values(0..100));
        let batch = RecordBatch::try_from_iter([("number", column)]).expect("a column");
        let mut bytes = Vec::new();
        let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), None).expect("a writer");
        writer.write(&batch).expect("written");
        writer.close().expect("closed");
        bytes
    }

    fn rows_of(bytes: &[u8]) -> std::result::Result<usize, String> {
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(bytes).expect("written");
        file.rewind().expect("rewound");
        let batches = parquet(file).and_then(Batches::new).map_err(|error| error.to_string())?;
        let rows = batches.map(|batch| batch.map(|batch| batch.num_rows()));
        rows.sum::<std::result::Result<_, _>>().map_err(|error| error.to_string())
    }

    #[test]
    fn a_page_header_that_claims_too_much_is_refused_at_once() {
        let bytes = numbers();
        assert_eq!(rows_of(&bytes), Ok(100));
        // The first page follows the magic bytes; its header ends where the structure ends.
        let mut left = RemainingStructure { rest: &bytes[4..], free: 0, claims_too_much: false };
        left.skip_struct(MOST_DEPTH).expect("a header");
        let end = bytes.len() - left.rest.len() - 1;
        // An unknown field is a list (9) of 2^31 - 1 booleans (1).
        let hostile = [&bytes[..end], &[0xf9, 0xf1, 0xff, 0xff, 0xff, 0xff, 0x07], &bytes[end..]].concat();
        let start = Instant::now();
        let refused = rows_of(&hostile).expect_err("2^31 booleans");
        assert!(refused.contains("page header at byte 4: it declares a list that is longer"), "{refused}");
        assert!(start.elapsed().as_secs() < 5, "it was decoded");
    }

    #[test]
    fn a_page_header_may_have_a_size_up_to_a_limit() {
        // An unknown field is text (8) of these bytes.
        let header = |length: &[u8], bytes: u64| {
            let text = io::repeat(b'x').take(bytes);
            check([&[0x18], length].concat().as_slice().chain(text).chain(&[0][..]))
        };
        assert_eq!(header(&[0x80, 0x80, 0x40], 1 << 20), Ok(()));
        let refused = header(&[0x80, 0x80, 0x80, 0x10], 1 << 25).expect_err("32 MiB");
        assert_eq!(refused, "it is larger than 16 MiB");
        assert_eq!(check(&[0x18, 0x40][..]), Ok(()), "it is cut short");
    }
}
