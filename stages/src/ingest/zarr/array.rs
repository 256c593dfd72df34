//! An array of a store: one or two dimensions, read by rows.

use std::{ops::Range, path::PathBuf};

use schemas::Result;

use super::{
    chunk::Chunks,
    codecs::Decoded,
    element::{Element, Fill},
    metadata::ArrayMetadata,
};
use crate::{ingest::anndata::group::Gaps, place::Place};

/// An array whose chunks are read as they are asked for.
#[derive(Debug)]
pub(super) struct Array {
    pub(super) place: Place,
    pub(super) element: Element,
    pub(super) dimensions: usize,
    pub(super) rows: u64,
    /// 1 of a vector.
    pub(super) columns: u64,
    fill: Fill,
    gaps: Gaps,
    chunks: Chunks,
}

/// Some values of a row or of several, as they lie in a chunk.
pub(super) enum Run<'a> {
    /// Bytes of numbers, flags or texts of fixed length.
    Bytes(&'a [u8]),
    /// A text.
    Text(&'a [u8]),
    /// The fill value, so many times.
    Fill(&'a Fill, u64),
}

impl Array {
    pub(super) fn new(folder: PathBuf, place: Place, metadata: ArrayMetadata, gaps: Gaps) -> Result<Self> {
        let ArrayMetadata { shape, element, fill, keys, codecs, .. } = metadata;
        let (rows, columns) = match *shape.as_slice() {
            [rows] => (rows, 1),
            [rows, columns] => (rows, columns),
            _ => {
                let message = format!("has {} dimensions, where 1 or 2 are known", shape.len());
                return Err(place.error(message, "check how the store was written"));
            }
        };
        let values: u64 = codecs.chunk.shape.iter().product();
        // Texts are seldom longer than this.
        let bytes = values.saturating_mul(element.stored_bytes().unwrap_or(32) as u64);
        let chunks = Chunks::new(folder, place.clone(), keys, codecs, columns, bytes);
        Ok(Self { place, element, dimensions: shape.len(), rows, columns, fill, gaps, chunks })
    }

    /// Shows the values of some rows, one run after another.
    ///
    /// # Errors
    /// Rows that there are not, chunks that are damaged or lost.
    pub(super) fn for_each(&self, rows: Range<u64>, mut show: impl FnMut(Run) -> Result<()>) -> Result<()> {
        if rows.end < rows.start || self.rows < rows.end {
            let message = format!("rows {} to {} were asked for, of {}", rows.start, rows.end, self.rows);
            return Err(self.place.error(message, "the store may be damaged; write it again"));
        }
        if self.columns == 0 {
            return Ok(());
        }
        let chunk_rows = self.chunks.rows();
        let mut row = rows.start;
        while row < rows.end {
            let (band, first) = (row / chunk_rows, row % chunk_rows);
            let count = (rows.end - row).min(chunk_rows - first);
            self.show_band(band, first..first + count, &mut show)?;
            row += count;
        }
        Ok(())
    }

    /// Some rows of the chunks that stand beside one another.
    fn show_band(&self, band: u64, rows: Range<u64>, show: &mut impl FnMut(Run) -> Result<()>) -> Result<()> {
        let chunk_columns = self.chunks.columns();
        if self.chunks.across == 1 && chunk_columns == self.columns {
            let chunk = self.chunks.get(band, 0)?;
            return self.show_part(&chunk, band, 0, rows.start * chunk_columns..rows.end * chunk_columns, show);
        }
        let beside = (0..self.chunks.across).map(|column| self.chunks.get(band, column)).collect::<Result<Vec<_>>>()?;
        for row in rows {
            let mut left = self.columns;
            for (column, chunk) in (0..).zip(&beside) {
                let (start, width) = (row * chunk_columns, left.min(chunk_columns));
                self.show_part(chunk, band, column, start..start + width, show)?;
                left -= width;
            }
        }
        Ok(())
    }

    fn show_part(
        &self,
        chunk: &Option<Decoded>,
        band: u64,
        column: u64,
        values: Range<u64>,
        show: &mut impl FnMut(Run) -> Result<()>,
    ) -> Result<()> {
        let part = crate::ingest::anndata::index(values.start)?..crate::ingest::anndata::index(values.end)?;
        match chunk {
            Some(Decoded::Bytes(bytes)) => {
                // Halves are widened.
                let bytes_each =
                    self.element.number().map_or(self.element.stored_bytes(), |number| Some(number.bytes()));
                let bytes_each = bytes_each.unwrap_or_default();
                show(Run::Bytes(bytes.get(part.start * bytes_each..part.end * bytes_each).unwrap_or_default()))
            }
            Some(Decoded::Texts { text, ends }) => {
                for at in part {
                    let start = if at == 0 { 0 } else { ends.get(at - 1).copied().unwrap_or_default() };
                    let end = ends.get(at).copied().unwrap_or(start);
                    show(Run::Text(text.get(start..end).unwrap_or_default()))?;
                }
                Ok(())
            }
            None if self.gaps == Gaps::Lost => Err(self.chunks.lost(band, column)),
            None => show(Run::Fill(&self.fill, values.end - values.start)),
        }
    }
}
