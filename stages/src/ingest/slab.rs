//! Chunks of any length become slabs of whole blocks, so that blocks can be packed on many threads.

use arrow::{array::RecordBatch, compute::concat_batches};
use schemas::{ByteSize, atlas::BLOCK_ROWS, chunk::Chunk, ids::CellIndex};

use crate::{BoxError, Stage};

/// Cells of a slab: 32 blocks.
const SLAB_ROWS: usize = 32 * BLOCK_ROWS as usize;

/// Successive cells, a whole number of blocks (but for the last slab).
#[derive(Clone, Debug)]
pub struct Slab {
    /// The first cell.
    pub first: CellIndex,
    /// Where each row starts among the entries: rows + 1 numbers.
    pub row_pointers: Vec<usize>,
    /// The gene of each entry.
    pub genes: Vec<u32>,
    /// The value of each entry.
    pub values: Vec<f32>,
    /// Annotations.
    pub obs: RecordBatch,
}

impl ByteSize for Slab {
    fn byte_size(&self) -> usize {
        self.row_pointers.byte_size() + self.genes.byte_size() + self.values.byte_size() + self.obs.byte_size()
    }
}

/// Cuts a stream of chunks into slabs.
#[derive(Debug, Default)]
pub struct CutSlabs {
    row_pointers: Vec<usize>,
    genes: Vec<u32>,
    values: Vec<f32>,
    obs: Vec<RecordBatch>,
    first: u64,
}

impl CutSlabs {
    fn rows(&self) -> usize {
        self.row_pointers.len().saturating_sub(1)
    }

    fn take(&mut self, chunk: &Chunk, rows: std::ops::Range<usize>) {
        if self.row_pointers.is_empty() {
            self.row_pointers.push(0);
        }
        let expression = &chunk.expression;
        let pointers = &expression.row_pointers()[rows.start..=rows.end];
        let entries = pointers[0] as usize..pointers[rows.len()] as usize;
        let shift = self.genes.len();
        self.row_pointers.extend(pointers[1..].iter().map(|pointer| *pointer as usize - entries.start + shift));
        self.genes.extend_from_slice(&expression.genes()[entries.clone()]);
        self.values.extend_from_slice(&expression.values()[entries]);
        self.obs.push(chunk.obs.slice(rows.start, rows.len()));
    }

    fn emit(&mut self, emit: &mut dyn FnMut(Slab)) -> Result<(), BoxError> {
        let obs = match self.obs.as_slice() {
            [] => return Ok(()),
            [whole] => whole.clone(),
            parts => concat_batches(&parts[0].schema(), parts)?,
        };
        let rows = self.rows();
        let slab = Slab {
            first: CellIndex(self.first),
            row_pointers: std::mem::take(&mut self.row_pointers),
            genes: std::mem::take(&mut self.genes),
            values: std::mem::take(&mut self.values),
            obs,
        };
        self.obs.clear();
        self.first += rows as u64;
        emit(slab);
        Ok(())
    }
}

impl Stage for CutSlabs {
    type In = Chunk;
    type Out = Slab;

    fn push(&mut self, chunk: Chunk, emit: &mut dyn FnMut(Slab)) -> Result<(), BoxError> {
        let mut taken = 0;
        while taken < chunk.expression.rows() {
            let rows = (SLAB_ROWS - self.rows()).min(chunk.expression.rows() - taken);
            self.take(&chunk, taken..taken + rows);
            taken += rows;
            if self.rows() == SLAB_ROWS {
                self.emit(emit)?;
            }
        }
        Ok(())
    }

    fn finish(&mut self, emit: &mut dyn FnMut(Slab)) -> Result<(), BoxError> {
        self.emit(emit)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::{
        array::StringArray,
        datatypes::{DataType, Field, Schema},
    };
    use schemas::chunk::CsrRows;

    use super::*;

    fn chunk(first: u64, rows: u32) -> Chunk {
        let pointers = (0..=rows).collect();
        let genes = (0..rows).collect();
        let values = (0..rows).map(|row| row as f32 + 1.0).collect();
        let names: Vec<String> = (0..u64::from(rows)).map(|row| format!("c{}", first + row)).collect();
        let schema = Schema::new(vec![Field::new("cell", DataType::Utf8, false)]);
        Chunk {
            first: CellIndex(first),
            expression: CsrRows::canonical(pointers, genes, values, rows.max(1)).expect("good rows"),
            obs: RecordBatch::try_new(Arc::new(schema), vec![Arc::new(StringArray::from(names))])
                .expect("a good batch"),
        }
    }

    #[test]
    fn chunks_of_any_length_become_slabs_of_whole_blocks_in_order() {
        let mut stage = CutSlabs::default();
        let mut slabs = Vec::new();
        let mut first = 0;
        for rows in [5000, 1, 700, 2048] {
            stage.push(chunk(first, rows), &mut |slab| slabs.push(slab)).expect("pushed");
            first += u64::from(rows);
        }
        stage.finish(&mut |slab| slabs.push(slab)).expect("finished");
        let rows: Vec<usize> = slabs.iter().map(|slab| slab.obs.num_rows()).collect();
        assert_eq!(rows, [1024, 1024, 1024, 1024, 1024, 1024, 1024, 581]);
        assert_eq!(slabs[3].first, CellIndex(3072));
        assert_eq!(slabs[2].row_pointers.last(), Some(&1024));
        // Row 904 of the fifth slab is the first row of the second chunk.
        let at = slabs[4].row_pointers[904];
        assert_eq!((slabs[4].genes[at], slabs[4].values[at]), (0, 1.0));
    }
}
