//! What is known of cells besides their expression goes into the atlas: annotations as they are, labels as codes.

use std::sync::{Arc, Mutex, PoisonError};

use arrow::datatypes::SchemaRef;
use schemas::{
    ByteSize, Result,
    atlas::{FileEntry, files},
    conditions::{ConditionTable, Covariate},
};

use super::{census::ValueCensus, label::Labeller, piece::ReadPiece, records::Records};
use crate::{
    BoxError, Stage,
    disk::{HashedFile, StagedFolder},
    recycle::Pooled,
    write::ParquetFile,
};

/// Rows of successive cells.
#[derive(Debug)]
pub struct Rows(pub Pooled<Records>);

impl ByteSize for Rows {
    fn byte_size(&self) -> usize {
        self.0.byte_size()
    }
}

/// Rows and their codes, a record a row: the condition id, then the covariate codes.
#[derive(Debug)]
pub struct Labelled {
    /// The rows.
    pub rows: Rows,
    /// The codes.
    pub codes: Vec<u32>,
}

/// What was found on the way.
#[derive(Debug)]
pub struct Annotated {
    /// How many cells were kept.
    pub cells: u64,
    /// `labels.bin` as it was written.
    pub labels: FileEntry,
    /// The conditions.
    pub conditions: ConditionTable,
    /// How many cells each condition has.
    pub cells_of: Vec<u64>,
    /// The covariates.
    pub covariates: Vec<Covariate>,
    /// What was seen among the values.
    pub census: ValueCensus,
}

/// Where [`Annotate`] leaves what it found, once its stream is complete.
#[derive(Clone, Debug, Default)]
pub struct Findings(Arc<Mutex<Option<Annotated>>>);

impl Findings {
    /// What was found; none before the stream is complete.
    #[must_use]
    pub fn take(&self) -> Option<Annotated> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Writes `cells.parquet` and `labels.bin`, and passes the rows on.
#[derive(Debug)]
pub struct Annotate {
    files: Option<(ParquetFile, HashedFile, Labeller)>,
    cells: u64,
    census: ValueCensus,
    findings: Findings,
}

impl Annotate {
    /// Starts both files in the folder.
    ///
    /// # Errors
    /// Files that can't be created.
    pub fn new(folder: &StagedFolder, obs: SchemaRef, labeller: Labeller) -> Result<(Self, Findings)> {
        let cells = ParquetFile::create(&folder.file(files::CELLS), obs)?;
        let labels = HashedFile::create(folder.file(files::LABELS))?;
        let findings = Findings::default();
        let stage = Self {
            files: Some((cells, labels, labeller)),
            cells: 0,
            census: ValueCensus::default(),
            findings: findings.clone(),
        };
        Ok((stage, findings))
    }
}

impl Stage for Annotate {
    type In = ReadPiece;
    type Out = Labelled;

    fn push(&mut self, mut piece: ReadPiece, emit: &mut dyn FnMut(Labelled)) -> Result<(), BoxError> {
        let (cells, labels, labeller) = self.files.as_mut().ok_or("the stream has ended")?;
        let codes = labeller.codes(&piece.cells, &piece.obs)?;
        labels.append(bytemuck::cast_slice(&codes))?;
        cells.write(&piece.obs)?;
        self.census.merge(piece.census);
        piece.records.number_from(self.cells);
        self.cells += piece.cells.len() as u64;
        emit(Labelled { rows: Rows(piece.records), codes });
        Ok(())
    }

    fn finish(&mut self, _: &mut dyn FnMut(Labelled)) -> Result<(), BoxError> {
        let (cells, labels, labeller) = self.files.take().ok_or("the stream has ended")?;
        cells.finish()?;
        let (conditions, cells_of, covariates) = labeller.finish();
        let census = std::mem::take(&mut self.census);
        let found = Annotated { cells: self.cells, labels: labels.finish()?, conditions, cells_of, covariates, census };
        *self.findings.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(found);
        Ok(())
    }
}
