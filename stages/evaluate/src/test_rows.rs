//! The cells that are tested, in memory a few conditions at a time.

use std::{collections::HashMap, ops::ControlFlow, sync::Arc};

use reader::profiles::ExpressionRows;
use schemas::ByteSize;
use stage::{BoxError, Sink};
use statistics::{cell_rows::CellRows, compared::ComparedGenes, scale::Scale};

use crate::sampled::SampledCells;

/// The part of a group that a cell is in: of a condition its half; of controls its role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TestedPart {
    /// The first half of a condition's cells, reference controls, or all predicted cells.
    First,
    /// The second half of a condition's cells, or source controls.
    Second,
}

/// The place of a group's part among all of them.
#[must_use]
pub fn place_of(group: usize, part: TestedPart) -> usize {
    2 * group + part as usize
}

/// Cells with the place of the part that each is in.
#[derive(Clone, Debug, Default)]
pub struct TestRows {
    places: Vec<usize>,
    rows: CellRows,
}

impl TestRows {
    /// Adds a cell, given by its non-zero compared genes.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "stored and predicted values have no more than single precision"
    )]
    pub fn push(&mut self, place: usize, genes: &[u32], values: &[f64]) {
        self.places.push(place);
        self.rows.push(genes, values.iter().map(|value| *value as f32));
    }
}

impl ByteSize for TestRows {
    fn byte_size(&self) -> usize {
        8 * self.places.len() + self.rows.byte_size()
    }
}

/// Takes real cells out of rows of an atlas, as logarithms.
#[derive(Clone, Debug)]
pub struct ConvertTestRows {
    scale: Scale,
    compared: Arc<ComparedGenes>,
    sampled: Arc<SampledCells>,
}

impl ConvertTestRows {
    /// Takes the chosen cells, whose groups are [places](place_of); tests on the scale `pseudobulk` are by the logarithms of
    /// cells.
    #[must_use]
    pub fn new(scale: Scale, compared: Arc<ComparedGenes>, sampled: Arc<SampledCells>) -> Self {
        Self { scale: scale.of_tests(), compared, sampled }
    }

    /// The chosen cells of these rows.
    #[must_use]
    pub fn convert(&self, rows: &ExpressionRows) -> TestRows {
        let mut converted = TestRows::default();
        for (cell, (mut genes, mut values)) in rows.cells() {
            if let Some(place) = self.sampled.group(cell) {
                self.scale.convert_cell(&mut values);
                self.compared.keep(&mut genes, &mut values);
                converted.push(place, &genes, &values);
            }
        }
        converted
    }
}

/// Gathers the cells of each part.
#[derive(Debug, Default)]
pub struct GatherTestRows {
    parts: HashMap<usize, CellRows>,
}

impl Sink for GatherTestRows {
    type In = TestRows;
    type Summary = HashMap<usize, CellRows>;

    fn push(&mut self, rows: TestRows) -> Result<ControlFlow<()>, BoxError> {
        for (place, (genes, values)) in rows.places.iter().zip(rows.rows.all()) {
            self.parts.entry(*place).or_default().push(genes, values.iter().copied());
        }
        Ok(ControlFlow::Continue(()))
    }

    fn finish(self) -> Result<Self::Summary, BoxError> {
        Ok(self.parts)
    }
}
