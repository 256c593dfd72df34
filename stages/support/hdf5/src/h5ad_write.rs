//! Writes `.h5ad` files that anndata and scanpy open, row by row.
//!
//! The file grows under a hidden name next to its target, and is renamed when it is complete, so a file with
//! the target's name is always whole.
//! Layout and attributes follow anndata's on-disk format (root `anndata` 0.1.0, `csr_matrix` 0.1.0, `dataframe` 0.2.0,
//! `categorical` 0.2.0, `string-array` 0.2.0).

mod dense;
mod frame;
mod vector;

use std::path::Path;

use arrays::place::ObjectPlace;
use hdf5_metno::File;
use schemas::{Error, Result, chunk::Chunk};
use storage::disk::StagedFile;

pub use self::{
    dense::{DenseFrame, DenseH5adWriter},
    frame::{H5adColumn, H5adKind},
};
use self::{
    frame::{ObsFrame, write_var},
    vector::{Encoding, Vector, encode},
};

/// Entries of the matrix that are compressed together: half a MiB, which fits into every reader's cache.
const MATRIX_CHUNK: usize = 128 << 10;

/// Rows of `obs` that are compressed together.
const ROW_CHUNK: usize = 16 << 10;

/// How a file is stored.
#[derive(Clone, Copy, Debug, Default)]
pub struct H5adWriteOptions {
    /// The gzip level, 0 to 9; `None`: uncompressed.
    pub gzip: Option<u8>,
    /// The number of cells, if it is known. If that many cells of all genes have at most 2³¹ − 1 entries, row pointers have 32 bits,
    /// like the indices: scipy and scanpy want matrices in memory to have both of one type. Otherwise they have 64.
    pub cells: Option<u64>,
}

impl H5adWriteOptions {
    /// Whether row pointers of 32 bits are enough for every matrix of these cells.
    fn is_narrow(&self, genes: usize) -> bool {
        let most = self.cells.and_then(|cells| cells.checked_mul(genes as u64));
        most.is_some_and(|most| i32::try_from(most).is_ok())
    }
}

/// A file that is being written; if dropped without [`finish`](Self::finish), it leaves nothing behind.
#[derive(Debug)]
pub struct H5adWriter {
    file: File,
    place: ObjectPlace,
    genes: usize,
    cells: u64,
    most_cells: Option<u64>,
    row_pointers: Vector,
    indices: Vector,
    data: Vector,
    obs: ObsFrame,
    staged: StagedFile,
}

impl H5adWriter {
    /// Starts a file with these genes and these columns of `obs`.
    ///
    /// # Errors
    /// A target that exists or that another process is writing, a gzip level over 9, a column whose name is taken
    /// or not allowed in HDF5, a folder that is not writable, a full disk.
    pub fn create(path: &Path, genes: &[String], columns: &[H5adColumn], options: H5adWriteOptions) -> Result<Self> {
        check(columns, options)?;
        let mut staged = StagedFile::create(path)?;
        staged.unlock();
        let place = ObjectPlace::root(staged.path());
        let begin = || -> hdf5_metno::Result<_> {
            let file = crate::create(staged.path())?;
            encode(&file, Encoding::Anndata)?;
            for name in ["layers", "obsm", "obsp", "uns", "varm", "varp"] {
                encode(&*file.create_group(name)?, Encoding::Dict)?;
            }
            write_var(&file, genes, options.gzip)?;
            let matrix = file.create_group("X")?;
            encode(&matrix, Encoding::CsrMatrix)?;
            let data = Vector::create::<f32>(&matrix, "data", MATRIX_CHUNK, options.gzip)?;
            let indices = Vector::create::<i32>(&matrix, "indices", MATRIX_CHUNK, options.gzip)?;
            let create = if options.is_narrow(genes.len()) { Vector::create::<i32> } else { Vector::create::<i64> };
            // HDF5 converts what is appended.
            let mut row_pointers = create(&matrix, "indptr", ROW_CHUNK, options.gzip)?;
            row_pointers.append(&[0_i64])?;
            let obs = ObsFrame::create(&file, columns, ROW_CHUNK, options.gzip)?;
            Ok((file, data, indices, row_pointers, obs))
        };
        let (file, data, indices, row_pointers, obs) = begin().map_err(|error| crate::unwritable(&place, error))?;
        let genes = genes.len();
        Ok(Self { file, place, genes, cells: 0, most_cells: options.cells, row_pointers, indices, data, obs, staged })
    }

    /// Adds rows: their expression, their names (the first column of `obs`) and the columns that were given to
    /// [`create`](Self::create).
    ///
    /// # Errors
    /// A column that is missing, has another type or has unexpected nulls; a full disk.
    pub fn append(&mut self, chunk: &Chunk) -> Result<()> {
        let rows = &chunk.expression;
        if rows.rows() != chunk.obs.num_rows() {
            let message =
                format!("a chunk has {} rows of expression, but {} of obs", rows.rows(), chunk.obs.num_rows());
            return Err(Error::Bug(message));
        }
        if let Some(most) = self.most_cells
            && self.cells + rows.rows() as u64 > most
        {
            return Err(Error::Bug(format!("more than the {most} cells that were announced are to be written")));
        }
        let before = self.data.len() as u64;
        let signed = |number: u64| i64::try_from(number).map_err(|_| Error::Bug(format!("{number} entries")));
        let pointers = rows.row_pointers().iter().skip(1).map(|end| signed(before + u64::from(*end)));
        let pointers = pointers.collect::<Result<Vec<i64>>>()?;
        let indices = rows.genes().iter().map(|gene| match i32::try_from(*gene) {
            Ok(index) if (*gene as usize) < self.genes => Ok(index),
            _ => Err(Error::Bug(format!("gene {gene} of {} is to be written", self.genes))),
        });
        let indices = indices.collect::<Result<Vec<i32>>>()?;
        let failed = |error| crate::unwritable(&self.place, error);
        self.data.append(rows.values()).map_err(failed)?;
        self.indices.append(&indices).map_err(failed)?;
        self.row_pointers.append(&pointers).map_err(failed)?;
        self.obs.append(&chunk.obs, &self.place)?;
        self.cells += rows.rows() as u64;
        Ok(())
    }

    /// Number of rows added so far.
    #[must_use]
    pub fn cells(&self) -> u64 {
        self.cells
    }

    /// Completes the file and renames it to its target.
    ///
    /// # Errors
    /// A full disk, or a target that exists by now.
    pub fn finish(self) -> Result<()> {
        let Self { file, place, genes, cells, most_cells: _, obs, staged, row_pointers, indices, data } = self;
        let shape = [cells, genes as u64].map(u64::cast_signed);
        let complete = || -> hdf5_metno::Result<()> {
            obs.finish()?;
            file.group("X")?.new_attr_builder().with_data(&shape).create("shape")?;
            drop((row_pointers, indices, data));
            file.flush()?;
            file.close()
        };
        staged.write_by(|_| complete().map_err(|error| crate::unwritable(&place, error)))?;
        staged.commit()
    }
}

fn check(columns: &[H5adColumn], options: H5adWriteOptions) -> Result<()> {
    if options.gzip.is_some_and(|level| level > 9) {
        return Err(Error::usage("a gzip level is a number from 0 to 9", "1 is fastest, 9 is smallest"));
    }
    for (at, column) in columns.iter().enumerate() {
        let name = column.name.as_str();
        let taken = name == frame::INDEX || columns[..at].iter().any(|before| before.name == name);
        if taken || name.is_empty() || name == "." || name.contains(['/', '\0']) {
            let message = format!("`{name}` can't be the name of a column in an .h5ad file, or appears twice");
            return Err(Error::usage(message, "give the column another name"));
        }
    }
    Ok(())
}
