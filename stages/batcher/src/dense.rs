//! Rows as dense `f32`: each row is assembled in the fastest cache and written once.

use reader::{
    atlas::Atlas,
    block_cache::BlockCache,
    row::{GeneSlice, RowBuffer, ValueSlice},
};
use schemas::{
    ByteSize,
    batch::{BatchPlan, CacheLine, DenseRows, count_to_f32},
    ids::ConditionId,
};
use stage::{
    BoxError,
    pool::{Pool, Pooled},
};

use crate::{
    gather::with_rows,
    normalise::{Normalisation, Normaliser},
};

/// A minibatch of dense rows.
#[derive(Debug)]
pub struct DenseBatch {
    /// Its cells and its position in the order.
    pub plan: BatchPlan,
    /// The condition of each cell, by its id in the atlas.
    pub conditions: Vec<ConditionId>,
    /// Their expression; the buffer is recycled when the batch is dropped.
    pub expression: Pooled<DenseRows>,
}

impl ByteSize for DenseBatch {
    fn byte_size(&self) -> usize {
        self.plan.byte_size() + self.conditions.byte_size() + self.expression.byte_size()
    }
}

/// Makes dense batches of an atlas, with its visible genes.
#[derive(Clone, Debug)]
pub struct Densifier {
    atlas: Atlas,
    cache: BlockCache,
    rows: Pool<DenseRows>,
    scratch: Pool<(DenseRow, RowBuffer, Normaliser)>,
    normalisation: Normalisation,
}

/// The row being assembled: all zero between rows. Any 16-bit id is a valid index, so ids need no check.
#[derive(Debug)]
struct DenseRow(Vec<CacheLine>);

/// Number of floats of that row if ids have 16 bits.
const NARROW: usize = 1 << 16;

impl Densifier {
    /// A densifier that caches blocks, if necessary, up to this many bytes.
    #[must_use]
    pub fn new(atlas: &Atlas, held_bytes: usize) -> Self {
        Self {
            atlas: atlas.clone(),
            cache: BlockCache::new(atlas.clone(), held_bytes),
            rows: Pool::default(),
            scratch: Pool::default(),
            normalisation: Normalisation::None,
        }
    }

    /// The same densifier, with values normalised.
    #[must_use]
    pub fn normalised(self, normalisation: Normalisation) -> Self {
        Self { normalisation, scratch: Pool::default(), ..self }
    }

    /// Makes the batch of a plan.
    ///
    /// # Errors
    /// A damaged block.
    pub fn densify(&self, plan: BatchPlan) -> Result<DenseBatch, BoxError> {
        let expression = self.rows(&plan)?;
        let conditions = plan.cells.iter().map(|cell| self.atlas.condition(*cell)).collect();
        Ok(DenseBatch { plan, conditions, expression })
    }

    /// Makes the rows of a plan.
    ///
    /// # Errors
    /// A damaged block.
    pub fn rows(&self, plan: &BatchPlan) -> Result<Pooled<DenseRows>, BoxError> {
        let genes = self.atlas.manifest().genes as usize;
        let mut expression = self.rows.take(DenseRows::default);
        expression.resize(plan.rows.len(), self.atlas.genes().len());
        let zeros = || DenseRow(vec![CacheLine::default(); genes.max(NARROW).div_ceil(16)]);
        let mut scratch = self.scratch.take(|| (zeros(), RowBuffer::default(), Normaliser::new(self.normalisation)));
        {
            let mut out = expression.rows_mut();
            let (row, buffer, normaliser) = &mut *scratch;
            with_rows(&self.atlas, &self.cache, &plan.rows, |stored| {
                let (genes, values) = stored.decoded(buffer)?;
                let values = normaliser.row(values);
                match (out.next(), self.atlas.gene_subset()) {
                    (Some(out), None) => row.write(genes, values, out),
                    (Some(out), Some(subset)) => subset.write_dense(genes, values, bytemuck::cast_slice_mut(out)),
                    (None, _) => {}
                }
                Ok(())
            })?;
        }
        simd::fence();
        Ok(expression)
    }
}

impl DenseRow {
    fn write(&mut self, genes: GeneSlice<'_>, values: ValueSlice<'_>, out: &mut [CacheLine]) {
        match genes {
            GeneSlice::U16(genes) => self.write_of(genes, values, out),
            GeneSlice::U32(genes) => self.write_of(genes, values, out),
        }
    }

    fn write_of<G: ScatterIndex>(&mut self, genes: &[G], values: ValueSlice<'_>, out: &mut [CacheLine]) {
        let row: &mut [f32] = bytemuck::cast_slice_mut(&mut self.0);
        match values {
            ValueSlice::U8(values) => scatter_counts(row, genes, values),
            ValueSlice::U16(values) => G::scatter(row, genes, values.iter().map(|value| f32::from(*value))),
            ValueSlice::U32(values) => G::scatter(row, genes, values.iter().map(|value| count_to_f32(*value))),
            ValueSlice::F32(values) => G::scatter(row, genes, values.iter().copied()),
        }
        simd::stream(&mut self.0[..out.len()], out);
    }
}

/// Number of counts converted at once: as many as vector instructions process.
const TOGETHER: usize = 16;

/// Writes small counts, as nearly all are.
fn scatter_counts<G: ScatterIndex>(row: &mut [f32], genes: &[G], counts: &[u8]) {
    let (whole, rest) = counts.as_chunks::<TOGETHER>();
    let (genes_of_whole, genes_of_rest) = genes.split_at(counts.len() - rest.len());
    for (genes, counts) in genes_of_whole.chunks_exact(TOGETHER).zip(whole) {
        G::scatter(row, genes, counts.map(f32::from).into_iter());
    }
    G::scatter(row, genes_of_rest, rest.iter().map(|count| f32::from(*count)));
}

/// A gene id as an index into a row.
trait ScatterIndex: Copy {
    fn scatter(row: &mut [f32], genes: &[Self], values: impl Iterator<Item = f32>);
}

impl ScatterIndex for u16 {
    fn scatter(row: &mut [f32], genes: &[Self], values: impl Iterator<Item = f32>) {
        // An array of 2^16 elements needs no bounds checks.
        if let Some(row) = row.first_chunk_mut::<NARROW>() {
            genes.iter().zip(values).for_each(|(gene, value)| row[usize::from(*gene)] = value);
        }
    }
}

impl ScatterIndex for u32 {
    fn scatter(row: &mut [f32], genes: &[Self], values: impl Iterator<Item = f32>) {
        genes.iter().zip(values).for_each(|(gene, value)| row[*gene as usize] = value);
    }
}
