//! The common interface of all opened formats: cells that can be read in any range, by many threads at once.

use std::{
    collections::{HashMap, HashSet},
    fmt::Debug,
    ops::Range,
    sync::Arc,
};

use arrays::text::as_text;
use arrow::{
    array::{ArrayRef, RecordBatch},
    datatypes::{DataType, Field, SchemaRef},
};
use schemas::{
    ByteSize, Error, Result,
    arrow::{NAME_IN_FILE, place_of_column},
    atlas::{InPlace, Origin},
    chunk::{Chunk, CsrRows},
    ids::CellIndex,
};
use serde::{Deserialize, Serialize};

/// Maximum number of genes, more than any organism or assay has. Each needs memory for a name and statistics,
/// however small the file that claims to have them.
pub(super) const MOST_GENES: u64 = 1 << 20;

/// A member of an AnnData object besides its matrix.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnnDataMember {
    /// Its place: `layers/counts`, `obsm/X_pca`, `raw/X`, `uns/log1p`, `obs/condition`.
    pub name: String,
    /// How it is stored: `dense`, `csr`, `csc`, `dataframe`, `column` or another encoding; empty for members of `uns`.
    pub form: String,
    /// The size of each dimension, if known.
    pub shape: Vec<u64>,
    /// The type of its values, if they have one.
    pub data_type: String,
    /// Its value, for texts that this program wrote.
    pub text: Option<String>,
}

/// A file or folder of cells whose structure has been checked.
pub trait Source: Debug + Send + Sync {
    /// The name of its format.
    fn kind(&self) -> &str;

    /// Its name in errors and in the manifest.
    fn origin(&self) -> &Origin;

    /// All files that it consists of.
    fn origins(&self) -> Vec<Origin> {
        vec![self.origin().clone()]
    }

    /// The file that a cell is in, and its row there.
    fn locate(&self, cell: u64) -> (String, u64) {
        (self.origin().path.clone(), cell)
    }

    /// The index among [`Source::origins`] of a cell's file.
    fn origin_of(&self, _cell: u64) -> usize {
        0
    }

    /// Number of cells.
    fn cells(&self) -> u64;

    /// Number of stored values, if it is known without reading them.
    fn nonzeros(&self) -> Option<u64>;

    /// Where the matrix is, if it can be read there by rows without this source.
    fn in_place(&self) -> Option<InPlace> {
        None
    }

    /// The annotations of each gene; the first column, `gene`, is its name.
    fn var(&self) -> &RecordBatch;

    /// The columns of `obs`; the first one, `cell`, is the cell's name.
    fn obs_schema(&self) -> SchemaRef;

    /// The other members of the file, if [`Choice::lists_members`](super::format::Choice) and the format has more.
    fn members(&self) -> &[AnnDataMember] {
        &[]
    }

    /// The annotations of some cells: these columns of [`Source::obs_schema`], in this order.
    ///
    /// # Errors
    /// A file that can't be read, or is invalid.
    fn obs(&self, cells: Range<u64>, columns: &[usize]) -> Result<RecordBatch>;

    /// The best end for a row range that starts at `first`: after [`RANGE_CELLS`](arrays::rows::RANGE_CELLS) cells or
    /// [`RANGE_ENTRIES`](arrays::rows::RANGE_ENTRIES) entries, but after at least one cell. Worker threads read
    /// one row range at a time.
    ///
    /// # Errors
    /// As for [`Source::obs`].
    fn range_end(&self, first: u64) -> Result<u64>;

    /// The expression of some cells; the memory of `spare` is reused.
    ///
    /// # Errors
    /// As for [`Source::obs`].
    fn expression(&self, cells: Range<u64>, spare: CsrRows) -> Result<CsrRows>;
}

/// A column of `frame` under the name that it has in an atlas: see [`column_name`].
pub(super) fn annotation((frame, index): (&str, &str), own: &str, others: &[&str], data_type: DataType) -> Field {
    let name = column_name((frame, index), own, others);
    let metadata = if name == own { HashMap::new() } else { HashMap::from([(NAME_IN_FILE.into(), own.into())]) };
    Field::new(name, data_type, true).with_metadata(metadata)
}

/// The name in an atlas of a column of `frame` (`obs` or `var`), where `index` (`cell` or `gene`) is the
/// column of names: the column's own name, or `obs_cell` if that is `cell`, with another `obs_` in front as
/// long as another column has that name.
fn column_name((frame, index): (&str, &str), own: &str, others: &[&str]) -> String {
    if own != index {
        return own.to_owned();
    }
    let mut name = format!("{frame}_{own}");
    while others.contains(&name.as_str()) {
        name = format!("{frame}_{name}");
    }
    name
}

/// Refuses a source in which two columns have the same name, and names those that have another one in an atlas.
///
/// # Errors
/// Two such columns of `obs` or `var`.
pub(super) fn check_names(source: &dyn Source) -> Result<()> {
    for (frame, schema) in [("obs", source.obs_schema()), ("var", source.var().schema())] {
        let mut seen = HashSet::new();
        if let Some(twice) = schema.fields().iter().find(|field| !seen.insert(field.name())) {
            let message = format!("{frame} has two columns called `{}`", twice.name());
            return Err(Error::data(&source.origin().path, message, "rename one of them"));
        }
        for field in schema.fields() {
            let Some(own) = field.metadata().get(NAME_IN_FILE) else { continue };
            let (path, name) = (&source.origin().path, field.name());
            tracing::warn!(
                "{path}: {frame} column `{own}` is called `{name}` in an atlas, where `{own}` is the index of {frame}"
            );
        }
    }
    Ok(())
}

/// The index of the column of a source's `obs` that is called `name` in its file.
///
/// # Errors
/// A column that does not exist.
pub fn column_index(source: &dyn Source, name: &str) -> Result<usize> {
    let schema = source.obs_schema();
    let known = || schema.fields().iter().map(|field| field.name().as_str());
    place_of_column(&schema, name).ok_or_else(|| Error::unknown("obs column", name, known()))
}

/// The name in an atlas of the column of a source's `obs` that is called `name` in its file.
///
/// # Errors
/// A column that does not exist.
pub fn name_in_atlas(source: &dyn Source, name: &str) -> Result<String> {
    Ok(source.obs_schema().field(column_index(source, name)?).name().clone())
}

/// An entire column of `obs`, in slices, as text; a missing value is null.
///
/// # Errors
/// A column that does not exist, or can't be read.
pub fn obs_column<'a>(source: &'a dyn Source, name: &str) -> Result<impl Iterator<Item = Result<ArrayRef>> + use<'a>> {
    const SLICE: u64 = 1 << 14;
    let column = column_index(source, name)?;
    let cells = source.cells();
    Ok((0..cells.div_ceil(SLICE)).map(move |slice| {
        let batch = source.obs(slice * SLICE..cells.min((slice + 1) * SLICE), &[column])?;
        as_text(batch.column(0)).map_err(|error| Error::Bug(error.to_string()))
    }))
}

/// A range of cells that is read at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowRange(pub Range<u64>);

impl ByteSize for RowRange {
    fn byte_size(&self) -> usize {
        0
    }
}

/// A source's row ranges, in order.
#[derive(Debug)]
pub struct RowRanges {
    source: Arc<dyn Source>,
    next: u64,
}

impl RowRanges {
    /// All row ranges of a source.
    #[must_use]
    pub fn new(source: Arc<dyn Source>) -> Self {
        Self { source, next: 0 }
    }
}

impl Iterator for RowRanges {
    type Item = Result<RowRange>;

    fn next(&mut self) -> Option<Self::Item> {
        let (first, cells) = (self.next, self.source.cells());
        if cells <= first {
            return None;
        }
        let row_range = self.source.range_end(first).map(|end| RowRange(first..end.clamp(first + 1, cells)));
        self.next = row_range.as_ref().map_or(cells, |row_range| row_range.0.end);
        Some(row_range)
    }
}

/// All cells of a source in order, with all their annotations. The stream ends after the first error.
pub fn chunks(source: Arc<dyn Source>) -> impl Iterator<Item = Result<Chunk>> + Send {
    let columns: Vec<usize> = (0..source.obs_schema().fields().len()).collect();
    let mut failed = false;
    RowRanges::new(Arc::clone(&source)).map_while(move |row_range| {
        let chunk = row_range.and_then(|RowRange(cells)| {
            let expression = source.expression(cells.clone(), CsrRows::default())?;
            let obs = source.obs(cells.clone(), &columns)?;
            Ok(Chunk { first: CellIndex(cells.start), expression, obs })
        });
        let ended = std::mem::replace(&mut failed, chunk.is_err());
        (!ended).then_some(chunk)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::CellsInMemory;

    #[test]
    fn no_two_columns_share_a_name() {
        let without_genes = |own: &str, others: &[&str]| column_name(("obs", "cell"), own, others);
        assert_eq!(without_genes("dose", &["cell", "dose"]), "dose");
        assert_eq!(without_genes("cell", &["cell", "dose"]), "obs_cell");
        assert_eq!(without_genes("cell", &["obs_cell", "cell", "obs_obs_cell"]), "obs_obs_obs_cell");
        let error = check_names(&CellsInMemory::without_genes(&[
            ("cell", vec!["c"]),
            ("note", vec!["x"]),
            ("note", vec!["y"]),
        ]));
        assert_eq!(error.expect_err("twice").to_string(), "a.h5ad: obs has two columns called `note`");
    }
}
