//! Lines of a text file, plain or gzip, with any line endings.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read},
    ops::Range,
    path::{Path, PathBuf},
};

use flate2::bufread::MultiGzDecoder;
use memchr::memchr2;
use schemas::{Error, Result};

/// Bytes that are read at once, and the maximum length of a line: a longer one is not a line of such a file.
const READ_AT_ONCE: usize = 1 << 18;

/// A text file that is read line by line.
pub(super) struct LineReader {
    path: PathBuf,
    reader: Box<dyn Read>,
    buffer: Vec<u8>,
    /// The part of the buffer that has not been processed yet.
    waiting: Range<usize>,
    /// The current line.
    line: Range<usize>,
    number: u64,
    /// Whether the line ended with a carriage return, which a line feed may follow.
    returned: bool,
    at_end: bool,
}

impl LineReader {
    /// Opens a file, positioned before its first line; its first bytes show whether it is compressed.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(Error::io("open", path))?;
        let mut reader = BufReader::with_capacity(READ_AT_ONCE, file);
        let start = reader.fill_buf().map_err(Error::io("read", path))?;
        if start.starts_with(b"BZh") {
            return Err(Error::data(
                path.display().to_string(),
                "is compressed with bzip2, which is not supported",
                "decompress it once with bunzip2, or compress it with gzip",
            ));
        }
        let is_gzip = start.starts_with(&[0x1f, 0x8b]);
        Ok(Self {
            path: path.to_path_buf(),
            reader: if is_gzip { Box::new(MultiGzDecoder::new(reader)) } else { Box::new(reader) },
            buffer: vec![0; READ_AT_ONCE],
            waiting: 0..0,
            line: 0..0,
            number: 0,
            returned: false,
            at_end: false,
        })
    }

    /// The file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Moves to the next line; returns false after the last one.
    pub(super) fn advance(&mut self) -> Result<bool> {
        loop {
            if self.returned && !self.waiting.is_empty() {
                self.returned = false;
                self.waiting.start += usize::from(self.buffer[self.waiting.start] == b'\n');
            }
            let waiting = &self.buffer[self.waiting.clone()];
            let end = match memchr2(b'\n', b'\r', waiting) {
                Some(length) => self.waiting.start + length,
                None if !self.at_end => {
                    self.fill()?;
                    continue;
                }
                None if waiting.is_empty() => return Ok(false),
                None => self.waiting.end,
            };
            self.returned = end < self.waiting.end && self.buffer[end] == b'\r';
            self.line = self.waiting.start..end;
            self.waiting.start = self.waiting.end.min(end + 1);
            self.number += 1;
            return Ok(true);
        }
    }

    /// Moves to the next line that is not blank; returns false if there is none.
    pub(super) fn advance_to_text(&mut self) -> Result<bool> {
        while self.advance()? {
            if !self.bytes().trim_ascii_start().is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The current line, without its line ending.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.buffer[self.line.clone()]
    }

    /// An error about the current line.
    pub(super) fn error(&self, message: impl Into<String>, hint: &str) -> Error {
        Error::data(format!("{}, line {}", self.path.display(), self.number), message, hint)
    }

    fn fill(&mut self) -> Result<()> {
        self.buffer.copy_within(self.waiting.clone(), 0);
        self.waiting = 0..self.waiting.len();
        if self.waiting.end == self.buffer.len() {
            let message = format!("the next line has more than {READ_AT_ONCE} bytes");
            return Err(self.error(message, "check that this is the right file"));
        }
        match self.reader.read(&mut self.buffer[self.waiting.end..]) {
            Ok(read) => {
                self.at_end = read == 0;
                self.waiting.end += read;
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            // These are errors of the decompressor; those of the operating system have a number.
            Err(error) if error.raw_os_error().is_none() => Err(self.error(
                format!("the gzip stream is damaged or cut short after this line ({error})"),
                "restore the file from a copy, or download it again",
            )),
            Err(error) => Err(Error::io("read", &self.path)(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn lines(bytes: &[u8]) -> Vec<(u64, String)> {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        file.write_all(bytes).expect("written");
        let mut lines = LineReader::open(file.path()).expect("opened");
        let mut found = Vec::new();
        while lines.advance().expect("read") {
            found.push((lines.number, String::from_utf8_lossy(lines.bytes()).into_owned()));
        }
        found
    }

    #[test]
    fn lines_may_end_as_on_any_system_and_count_alike() {
        let expected: Vec<(u64, String)> = vec![(1, "a".into()), (2, String::new()), (3, "b c".into())];
        assert_eq!(lines(b"a\n\nb c\n"), expected);
        assert_eq!(lines(b"a\n\nb c"), expected);
        assert_eq!(lines(b"a\r\n\r\nb c\r\n"), expected);
        assert_eq!(lines(b"a\r\rb c\r"), expected);
        assert_eq!(lines(b""), []);
    }

    #[test]
    fn a_line_that_spans_two_reads_is_whole() {
        let long = "x".repeat(READ_AT_ONCE - 3);
        let text = format!("{long}\r\n{long}\n");
        assert_eq!(lines(text.as_bytes()), [(1, long.clone()), (2, long)]);
    }

    #[test]
    fn gzip_streams_one_after_another_are_one_text() {
        let member = |text: &str| {
            let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            gzip.write_all(text.as_bytes()).expect("compressed");
            gzip.finish().expect("finished")
        };
        let both = [member("a\nb"), member("c\n")].concat();
        assert_eq!(lines(&both), [(1, "a".into()), (2, "bc".into())]);
    }
}
