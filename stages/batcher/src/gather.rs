//! Gathers expression directly from the blocks into a recycled buffer, with a single copy.

use std::{collections::VecDeque, sync::Arc};

use packed_rows::{InvalidRow, WideCount};
use reader::{
    atlas::Atlas,
    block::{Block, BlockView, place},
    block_cache::BlockCache,
    gene_subset::GeneSubset,
    row::{GeneSlice, PackedCell, RowBuffer, StoredRow, ValueSlice},
};
use schemas::{
    Result,
    atlas::{GeneWidth, ValueWidth},
    batch::{BatchPlan, Expression, Genes, Labels, Values, count_to_f32},
    ids::RowIndex,
};
use stage::{
    BoxError,
    batch::Batch,
    pool::{Pool, Pooled},
};

use crate::normalise::{Normalisation, Normaliser};

/// Gathers batches of an atlas.
#[derive(Clone, Debug)]
pub struct Gatherer {
    atlas: Atlas,
    cache: BlockCache,
    subset: Option<Arc<GeneSubset>>,
    pool: Pool<Expression>,
    normalisation: Normalisation,
    scratch: Pool<GatherScratch>,
}

/// Memory for the rows on their way.
#[derive(Debug)]
struct GatherScratch {
    normaliser: Normaliser,
    buffer: RowBuffer,
    wide: Vec<WideCount>,
}

impl Gatherer {
    /// A gatherer that caches blocks, if necessary, up to this many bytes.
    #[must_use]
    pub fn new(atlas: &Atlas, held_bytes: usize) -> Self {
        Self {
            atlas: atlas.clone(),
            cache: BlockCache::new(atlas.clone(), held_bytes),
            subset: atlas.gene_subset().cloned(),
            pool: Pool::default(),
            normalisation: Normalisation::None,
            scratch: Pool::default(),
        }
    }

    /// The same gatherer, with values normalised; then they are `f32`.
    #[must_use]
    pub fn normalised(self, normalisation: Normalisation) -> Self {
        Self { normalisation, scratch: Pool::default(), ..self }
    }

    /// Gathers the rows of a plan, and adds these labels.
    ///
    /// # Errors
    /// A damaged block.
    pub fn gather(&self, plan: BatchPlan, labels: Labels) -> Result<Batch, BoxError> {
        let expression = self.rows(&plan)?;
        Ok(Batch { plan, labels, expression })
    }

    /// Gathers the rows of a plan.
    ///
    /// # Errors
    /// A damaged block.
    pub fn rows(&self, plan: &BatchPlan) -> Result<Pooled<Expression>, BoxError> {
        let mut out = self.pool.take(|| self.empty());
        let Expression { row_pointers, genes, values } = &mut *out;
        row_pointers.clear();
        row_pointers.push(0);
        clear(genes, values, self.normalisation != Normalisation::None);
        let mut entries = 0;
        let mut scratch = self.scratch.take(|| GatherScratch {
            normaliser: Normaliser::new(self.normalisation),
            buffer: RowBuffer::default(),
            wide: Vec::new(),
        });
        let GatherScratch { normaliser, buffer, wide } = &mut *scratch;
        with_rows(&self.atlas, &self.cache, &plan.rows, |stored| {
            entries += stored.entries();
            row_pointers.push(u32::try_from(entries)?);
            // Small counts, as nearly all are, are decoded to where they stay.
            if let (StoredRow::Packed(PackedCell { row, has_counts: true, .. }), Genes::U16(ids), Values::U8(counts)) =
                (&stored, &mut *genes, &mut *values)
                && self.normalisation == Normalisation::None
            {
                wide.clear();
                row.append_counts(ids, counts, wide)?;
                if !wide.is_empty() {
                    put_wide(values, wide);
                }
                return Ok(());
            }
            let (row_genes, row_values) = stored.decoded(buffer)?;
            match (&mut *genes, row_genes) {
                (Genes::U16(out), GeneSlice::U16(row)) => out.extend_from_slice(row),
                (Genes::U32(out), GeneSlice::U32(row)) => out.extend_from_slice(row),
                _ => return Err("a block's gene ids are not as wide as its atlas's".into()),
            }
            append_values(values, normaliser.row(row_values));
            Ok(())
        })?;
        if let Some(subset) = &self.subset {
            subset.keep(&mut out);
        }
        Ok(out)
    }

    fn empty(&self) -> Expression {
        Expression {
            row_pointers: Vec::new(),
            genes: match self.atlas.manifest().gene_width {
                GeneWidth::U16 => Genes::U16(Vec::new()),
                GeneWidth::U32 => Genes::U32(Vec::new()),
            },
            values: Values::U8(Vec::new()),
        }
    }
}

/// Empties a batch. Its values start as narrow as possible, unless all of them will be floats.
fn clear(genes: &mut Genes, values: &mut Values, keeps_floats: bool) {
    match genes {
        Genes::U16(list) => list.clear(),
        Genes::U32(list) => list.clear(),
    }
    match values {
        Values::U8(list) => list.clear(),
        Values::F32(list) if keeps_floats => list.clear(),
        wide => *wide = Values::U8(Vec::new()),
    }
}

/// How many rows before it is needed memory is asked for.
const ROWS_AHEAD: usize = 8;

/// A row on its way.
enum Located<'a> {
    /// A row of a mapped block.
    Mapped(BlockView<'a>, usize),
    /// The row itself.
    Found(StoredRow<'a>),
    /// A row of a block in memory.
    Held(Arc<Block>, usize),
}

/// Calls `f` with each row, in order.
pub(crate) fn with_rows(
    atlas: &Atlas,
    cache: &BlockCache,
    rows: &[RowIndex],
    mut f: impl FnMut(StoredRow<'_>) -> Result<(), BoxError>,
) -> Result<(), BoxError> {
    let block_rows = atlas.manifest().block_rows;
    let named =
        |row: RowIndex| move |error: BoxError| if error.is::<InvalidRow>() { atlas.bad_row(row).into() } else { error };
    // Rows are far apart, and reaching one takes three dependent memory accesses: the block's position, the row's position in
    // the block, the entries. Each is asked for some rows before it is needed, so that the processor waits for several at once.
    let entry_of = |row: &RowIndex| atlas.prefetch_entry(place(*row, block_rows).0);
    rows.iter().take(ROWS_AHEAD).for_each(entry_of);
    let (mut blocks, mut found) = (VecDeque::with_capacity(ROWS_AHEAD + 1), VecDeque::with_capacity(ROWS_AHEAD + 1));
    for step in 0..rows.len() + 2 * ROWS_AHEAD {
        rows.get(step + ROWS_AHEAD).into_iter().for_each(entry_of);
        if let Some(row) = rows.get(step) {
            let (block, place) = place(*row, block_rows);
            let located = match atlas.mapped_block(block)? {
                Some(block) => {
                    simd::prefetch(block.position_of(place));
                    Located::Mapped(block, place)
                }
                None => Located::Held(cache.get(block)?, place),
            };
            blocks.push_back((located, *row));
        }
        if ROWS_AHEAD <= step
            && let Some((located, row)) = blocks.pop_front()
        {
            let located = match located {
                Located::Mapped(block, place) => {
                    let stored = block.row(place).map_err(|_| atlas.bad_row(row))?;
                    stored.prefetch();
                    Located::Found(stored)
                }
                other => other,
            };
            found.push_back((located, row));
        }
        if 2 * ROWS_AHEAD <= step
            && let Some((located, row)) = found.pop_front()
        {
            match located {
                Located::Found(stored) => f(stored),
                Located::Held(block, place) => block.view().row(place).map_err(BoxError::from).and_then(&mut f),
                Located::Mapped(block, place) => block.row(place).map_err(BoxError::from).and_then(&mut f),
            }
            .map_err(named(row))?;
        }
    }
    Ok(atlas.check_maps()?)
}

/// Puts counts of 255 or more in their places.
fn put_wide(values: &mut Values, wide: &[WideCount]) {
    let width = width_for(wide.iter().map(|wide| wide.count).max().unwrap_or(0));
    if width_of(values) < width {
        *values = widened(values, width);
    }
    #[expect(clippy::cast_possible_truncation, reason = "the batch is as wide as the widest count")]
    for WideCount { entry, count } in wide {
        match values {
            Values::U8(list) => list[*entry] = *count as u8,
            Values::U16(list) => list[*entry] = *count as u16,
            Values::U32(list) => list[*entry] = *count,
            Values::F32(list) => list[*entry] = count_to_f32(*count),
        }
    }
}

/// Appends a row. The batch becomes as wide as its widest value, and no wider, so that a few large counts do
/// not widen every batch of an atlas.
fn append_values(out: &mut Values, row: ValueSlice<'_>) {
    let width = narrowest(row);
    if width_of(out) < width {
        *out = widened(out, width);
    }
    #[expect(clippy::cast_possible_truncation, reason = "the batch is as wide as the row's widest value")]
    match (out, row) {
        (Values::U8(out), ValueSlice::U8(row)) => out.extend_from_slice(row),
        (Values::U8(out), ValueSlice::U16(row)) => out.extend(row.iter().map(|value| *value as u8)),
        (Values::U8(out), ValueSlice::U32(row)) => out.extend(row.iter().map(|value| *value as u8)),
        (Values::U16(out), ValueSlice::U8(row)) => out.extend(row.iter().map(|value| u16::from(*value))),
        (Values::U16(out), ValueSlice::U16(row)) => out.extend_from_slice(row),
        (Values::U16(out), ValueSlice::U32(row)) => out.extend(row.iter().map(|value| *value as u16)),
        (Values::U32(out), ValueSlice::U8(row)) => out.extend(row.iter().map(|value| u32::from(*value))),
        (Values::U32(out), ValueSlice::U16(row)) => out.extend(row.iter().map(|value| u32::from(*value))),
        (Values::U32(out), ValueSlice::U32(row)) => out.extend_from_slice(row),
        (Values::F32(out), ValueSlice::U8(row)) => out.extend(row.iter().map(|value| f32::from(*value))),
        (Values::F32(out), ValueSlice::U16(row)) => out.extend(row.iter().map(|value| f32::from(*value))),
        (Values::F32(out), ValueSlice::U32(row)) => out.extend(row.iter().map(|value| count_to_f32(*value))),
        (Values::F32(out), ValueSlice::F32(row)) => out.extend_from_slice(row),
        // A row of f32 has made its batch f32 just above.
        (Values::U8(_) | Values::U16(_) | Values::U32(_), ValueSlice::F32(_)) => {}
    }
}

/// The narrowest width for a row's values; a block is as wide as its widest row.
fn narrowest(row: ValueSlice<'_>) -> ValueWidth {
    let largest = match row {
        ValueSlice::U8(_) => 0,
        ValueSlice::U16(row) => row.iter().copied().max().map_or(0, u32::from),
        ValueSlice::U32(row) => row.iter().copied().max().unwrap_or(0),
        ValueSlice::F32(_) => return ValueWidth::F32,
    };
    width_for(largest)
}

/// The narrowest width for counts up to this one.
fn width_for(largest: u32) -> ValueWidth {
    match largest {
        0..=0xff => ValueWidth::U8,
        0x100..=0xffff => ValueWidth::U16,
        _ => ValueWidth::U32,
    }
}

fn width_of(values: &Values) -> ValueWidth {
    match values {
        Values::U8(_) => ValueWidth::U8,
        Values::U16(_) => ValueWidth::U16,
        Values::U32(_) => ValueWidth::U32,
        Values::F32(_) => ValueWidth::F32,
    }
}

/// The same values in a wider type, with the same capacity.
fn widened(values: &Values, width: ValueWidth) -> Values {
    fn with_room<T>(values: impl Iterator<Item = T>, room: usize) -> Vec<T> {
        let mut list = Vec::with_capacity(room);
        list.extend(values);
        list
    }
    let room = match values {
        Values::U8(list) => list.capacity(),
        Values::U16(list) => list.capacity(),
        Values::U32(list) => list.capacity(),
        Values::F32(list) => list.capacity(),
    };
    match (values, width) {
        (Values::U8(list), ValueWidth::U16) => Values::U16(with_room(list.iter().map(|value| u16::from(*value)), room)),
        (Values::U8(list), ValueWidth::U32) => Values::U32(with_room(list.iter().map(|value| u32::from(*value)), room)),
        (Values::U16(list), ValueWidth::U32) => {
            Values::U32(with_room(list.iter().map(|value| u32::from(*value)), room))
        }
        (Values::U8(list), ValueWidth::F32) => Values::F32(with_room(list.iter().map(|value| f32::from(*value)), room)),
        (Values::U16(list), ValueWidth::F32) => {
            Values::F32(with_room(list.iter().map(|value| f32::from(*value)), room))
        }
        (Values::U32(list), ValueWidth::F32) => {
            Values::F32(with_room(list.iter().map(|value| count_to_f32(*value)), room))
        }
        (values, _) => values.clone(),
    }
}
