//! CSR as other libraries take it: 32-bit row pointers and columns, and values as `f32`.

use schemas::{
    ByteSize, Error, Result,
    batch::{Expression, Genes, Values, count_to_f32},
    numbers::checked,
};

/// Rows of expression in 32-bit numbers.
#[derive(Debug, Default)]
pub(crate) struct WideRows {
    /// Where each row begins, and where the last one ends.
    pub(crate) row_pointers: Vec<i32>,
    /// The gene of each entry, ascending in each row.
    pub(crate) genes: Vec<i32>,
    /// The value of each entry.
    pub(crate) values: Vec<f32>,
}

impl WideRows {
    /// Replaces the content by these rows.
    ///
    /// # Errors
    /// More entries than 31 bits count.
    pub(crate) fn fill(&mut self, rows: &Expression) -> Result<()> {
        let last = rows.row_pointers.last().copied().unwrap_or(0);
        checked::<i32>(last, "the entries of a batch")?;
        // The last pointer is the largest, so all of them fit.
        refill(&mut self.row_pointers, rows.row_pointers.iter().map(|pointer| pointer.cast_signed()));
        match &rows.genes {
            Genes::U16(genes) => refill(&mut self.genes, genes.iter().map(|gene| i32::from(*gene))),
            // An atlas has fewer than 2³¹ genes, as its reader checks that they fit into a row.
            Genes::U32(genes) => refill(&mut self.genes, genes.iter().map(|gene| gene.cast_signed())),
        }
        match &rows.values {
            Values::U8(values) => refill(&mut self.values, values.iter().map(|value| f32::from(*value))),
            Values::U16(values) => refill(&mut self.values, values.iter().map(|value| f32::from(*value))),
            Values::U32(values) => refill(&mut self.values, values.iter().map(|value| count_to_f32(*value))),
            Values::F32(values) => refill(&mut self.values, values.iter().copied()),
        }
        if self.genes.len() == self.values.len() { Ok(()) } else { Err(Error::Bug("a gene without a value".into())) }
    }
}

fn refill<T>(list: &mut Vec<T>, items: impl Iterator<Item = T>) {
    list.clear();
    list.extend(items);
}

impl ByteSize for WideRows {
    fn byte_size(&self) -> usize {
        self.row_pointers.byte_size() + self.genes.byte_size() + self.values.byte_size()
    }
}
