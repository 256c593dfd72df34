//! Gathers expression straight from the blocks into a recycled buffer: one copy.

use std::sync::Arc;

use schemas::{
    ByteSize,
    atlas::{GeneWidth, ValueWidth},
    batch::{BatchPlan, Expression, Genes, Labels, Values, count_to_f32},
};

use crate::{
    BoxError,
    atlas::Atlas,
    block::{GeneSlice, ValueSlice},
    encode::EncodedPlan,
    gene_subset::GeneSubset,
    read::PinnedPlan,
    recycle::{Pool, Pooled},
};

/// A minibatch.
#[derive(Debug)]
pub struct Batch {
    /// Its cells and its place in the order.
    pub plan: BatchPlan,
    /// What was done to its cells.
    pub labels: Labels,
    /// Their expression; the buffer is used again once this is dropped.
    pub expression: Pooled<Expression>,
}

impl ByteSize for Batch {
    fn byte_size(&self) -> usize {
        self.plan.byte_size() + self.labels.byte_size() + self.expression.byte_size()
    }
}

/// Gathers batches of an atlas.
#[derive(Clone, Debug)]
pub struct Gatherer {
    gene_width: GeneWidth,
    value_width: ValueWidth,
    subset: Option<Arc<GeneSubset>>,
    pool: Pool<Expression>,
}

impl Gatherer {
    /// A gatherer for an atlas's types.
    #[must_use]
    pub fn new(atlas: &Atlas) -> Self {
        let manifest = atlas.manifest();
        Self {
            gene_width: manifest.gene_width,
            value_width: manifest.value_width,
            subset: atlas.gene_subset().cloned(),
            pool: Pool::default(),
        }
    }

    /// Gathers the rows of an encoded plan.
    ///
    /// # Errors
    /// A block that is not as it was written.
    pub fn gather(&self, encoded: EncodedPlan) -> Result<Batch, BoxError> {
        let expression = self.rows(&encoded.pinned)?;
        Ok(Batch { plan: encoded.pinned.plan, labels: encoded.labels, expression })
    }

    /// Gathers the rows of a plan.
    ///
    /// # Errors
    /// A block that is not as it was written.
    pub fn rows(&self, pinned: &PinnedPlan) -> Result<Pooled<Expression>, BoxError> {
        let mut out = self.pool.take(|| self.empty());
        out.row_pointers.clear();
        out.row_pointers.push(0);
        let mut entries = 0;
        for (block, row) in &pinned.rows {
            entries += block.get()?.row_entries(*row as usize);
            out.row_pointers.push(u32::try_from(entries)?);
        }
        let Expression { genes, values, .. } = &mut *out;
        clear_and_reserve(genes, values, entries);
        for (block, row) in &pinned.rows {
            let (row_genes, row_values) = block.get()?.row(*row as usize);
            match (&mut *genes, row_genes) {
                (Genes::U16(out), GeneSlice::U16(row)) => out.extend_from_slice(row),
                (Genes::U32(out), GeneSlice::U32(row)) => out.extend_from_slice(row),
                _ => return Err("a block's gene ids are not as wide as its atlas's".into()),
            }
            append_values(values, row_values)?;
        }
        if let Some(subset) = &self.subset {
            subset.keep(&mut out);
        }
        Ok(out)
    }

    fn empty(&self) -> Expression {
        Expression {
            row_pointers: Vec::new(),
            genes: match self.gene_width {
                GeneWidth::U16 => Genes::U16(Vec::new()),
                GeneWidth::U32 => Genes::U32(Vec::new()),
            },
            values: match self.value_width {
                ValueWidth::U8 => Values::U8(Vec::new()),
                ValueWidth::U16 => Values::U16(Vec::new()),
                ValueWidth::U32 => Values::U32(Vec::new()),
                ValueWidth::F32 => Values::F32(Vec::new()),
            },
        }
    }
}

fn clear_and_reserve(genes: &mut Genes, values: &mut Values, entries: usize) {
    fn fresh<T>(list: &mut Vec<T>, entries: usize) {
        list.clear();
        list.reserve(entries);
    }
    match genes {
        Genes::U16(list) => fresh(list, entries),
        Genes::U32(list) => fresh(list, entries),
    }
    match values {
        Values::U8(list) => fresh(list, entries),
        Values::U16(list) => fresh(list, entries),
        Values::U32(list) => fresh(list, entries),
        Values::F32(list) => fresh(list, entries),
    }
}

/// Appends a row in the batch's width, which is at least as wide as the block's.
fn append_values(out: &mut Values, row: ValueSlice<'_>) -> Result<(), BoxError> {
    match (out, row) {
        (Values::U8(out), ValueSlice::U8(row)) => out.extend_from_slice(row),
        (Values::U16(out), ValueSlice::U16(row)) => out.extend_from_slice(row),
        (Values::U32(out), ValueSlice::U32(row)) => out.extend_from_slice(row),
        (Values::F32(out), ValueSlice::F32(row)) => out.extend_from_slice(row),
        (Values::U16(out), ValueSlice::U8(row)) => out.extend(row.iter().map(|value| u16::from(*value))),
        (Values::U32(out), ValueSlice::U8(row)) => out.extend(row.iter().map(|value| u32::from(*value))),
        (Values::U32(out), ValueSlice::U16(row)) => out.extend(row.iter().map(|value| u32::from(*value))),
        (Values::F32(out), ValueSlice::U8(row)) => out.extend(row.iter().map(|value| f32::from(*value))),
        (Values::F32(out), ValueSlice::U16(row)) => out.extend(row.iter().map(|value| f32::from(*value))),
        (Values::F32(out), ValueSlice::U32(row)) => out.extend(row.iter().map(|value| count_to_f32(*value))),
        _ => return Err("a block's values are wider than its atlas's".into()),
    }
    Ok(())
}
