//! Files whose matrix is dense, like predictions: every row has a value for every gene.

use std::path::Path;

use arrays::place::ObjectPlace;
use arrow::array::RecordBatch;
use hdf5_metno::{Dataset, File, Group, types::VarLenUnicode};
use ndarray::ArrayView2;
use schemas::{Error, Result};
use storage::disk::StagedFile;

use super::{
    H5adColumn, H5adWriteOptions, ROW_CHUNK, check,
    frame::{ObsFrame, write_var},
    vector::{Encoding, encode, unicode},
};

/// Bytes of a dense matrix that are stored together: what fits into every reader's cache.
const CHUNK_BYTES: usize = 1 << 20;

/// A file of dense rows that is being written; if dropped without [`finish`](Self::finish), it leaves nothing
/// behind. Its memory does not grow with the number of rows, except for the distinct values of categorical
/// columns.
#[derive(Debug)]
pub struct DenseH5adWriter {
    file: File,
    place: ObjectPlace,
    /// `X`, followed by the layers and those in `obsm`.
    matrices: Vec<DenseMatrixWriter>,
    obs: ObsFrame,
    rows: usize,
    staged: StagedFile,
}

/// The content of a file besides its rows.
#[derive(Clone, Debug, Default)]
pub struct DenseFrame {
    /// The genes' names.
    pub genes: Vec<String>,
    /// Columns of `obs`.
    pub columns: Vec<H5adColumn>,
    /// Names of matrices besides `X`.
    pub layers: Vec<String>,
    /// Names of matrices in `obsm`, as wide as `X`.
    pub obsm: Vec<String>,
    /// A dictionary of texts in `uns`: its name, and pairs of a key and a text.
    pub uns_texts: Option<(String, Vec<(String, String)>)>,
}

impl DenseH5adWriter {
    /// Starts a file.
    ///
    /// # Errors
    /// A target that exists or that another process is writing, a gzip level over 9, a column whose name is taken
    /// or not allowed in HDF5, a folder that is not writable, a full disk.
    pub fn create(path: &Path, frame: &DenseFrame, options: H5adWriteOptions) -> Result<Self> {
        check(&frame.columns, options)?;
        let mut staged = StagedFile::create(path)?;
        staged.unlock();
        let place = ObjectPlace::root(staged.path());
        let begin = || -> hdf5_metno::Result<_> {
            let file = crate::create(staged.path())?;
            encode(&file, Encoding::Anndata)?;
            for name in ["obsp", "varm", "varp"] {
                encode(&*file.create_group(name)?, Encoding::Dict)?;
            }
            write_var(&file, &frame.genes, options.gzip)?;
            write_uns(&file, frame.uns_texts.as_ref())?;
            let mut matrices = vec![DenseMatrixWriter::create(&file, "X", frame.genes.len(), options.gzip)?];
            let layers = file.create_group("layers")?;
            encode(&layers, Encoding::Dict)?;
            for name in &frame.layers {
                matrices.push(DenseMatrixWriter::create(&layers, name, frame.genes.len(), options.gzip)?);
            }
            let obsm = file.create_group("obsm")?;
            encode(&obsm, Encoding::Dict)?;
            for name in &frame.obsm {
                matrices.push(DenseMatrixWriter::create(&obsm, name, frame.genes.len(), options.gzip)?);
            }
            let obs = ObsFrame::create(&file, &frame.columns, ROW_CHUNK, options.gzip)?;
            Ok((file, matrices, obs))
        };
        let (file, matrices, obs) = begin().map_err(|error| crate::unwritable(&place, error))?;
        Ok(Self { file, place, matrices, obs, rows: 0, staged })
    }

    /// Adds rows: their names (the first column of `obs`), the columns of the frame, and the values of `X`, of
    /// each layer and of each matrix in `obsm`, row-major.
    ///
    /// # Errors
    /// A column that is missing, has another type or has unexpected nulls; matrices of another shape; a full
    /// disk.
    pub fn append(&mut self, obs: &RecordBatch, matrices: &[&[f32]]) -> Result<()> {
        if matrices.len() != self.matrices.len() {
            return Err(Error::Bug(format!(
                "{} matrices are to be written, not {}",
                self.matrices.len(),
                matrices.len()
            )));
        }
        for (matrix, values) in self.matrices.iter().zip(matrices) {
            matrix.append(self.rows, obs.num_rows(), values).map_err(|error| crate::unwritable(&self.place, error))?;
        }
        self.obs.append(obs, &self.place)?;
        self.rows += obs.num_rows();
        Ok(())
    }

    /// Number of rows added so far.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Completes the file and renames it to its target.
    ///
    /// # Errors
    /// A full disk, or a target that exists by now.
    pub fn finish(self) -> Result<()> {
        let Self { file, place, matrices, obs, staged, .. } = self;
        let complete = || -> hdf5_metno::Result<()> {
            obs.finish()?;
            drop(matrices);
            file.flush()?;
            file.close()
        };
        staged.write_by(|_| complete().map_err(|error| crate::unwritable(&place, error)))?;
        staged.commit()
    }
}

fn write_uns(file: &File, uns_texts: Option<&(String, Vec<(String, String)>)>) -> hdf5_metno::Result<()> {
    let uns = file.create_group("uns")?;
    encode(&uns, Encoding::Dict)?;
    let Some((name, texts)) = uns_texts else { return Ok(()) };
    let group = uns.create_group(name)?;
    encode(&group, Encoding::Dict)?;
    for (key, text) in texts {
        let dataset = group.new_dataset::<VarLenUnicode>().obj_track_times(false).create(key.as_str())?;
        dataset.write_scalar(&unicode(text)?)?;
        encode(&dataset, Encoding::String)?;
    }
    Ok(())
}

/// A dense matrix that grows by rows.
#[derive(Debug)]
struct DenseMatrixWriter {
    dataset: Dataset,
    genes: usize,
}

impl DenseMatrixWriter {
    fn create(group: &Group, name: &str, genes: usize, gzip: Option<u8>) -> hdf5_metno::Result<Self> {
        let rows = (CHUNK_BYTES / size_of::<f32>() / genes.max(1)).max(1);
        let mut builder = group.new_dataset::<f32>().chunk((rows, genes.max(1))).obj_track_times(false);
        if let Some(level) = gzip {
            builder = builder.shuffle().deflate(level);
        }
        let dataset = builder.shape((0.., genes)).create(name)?;
        encode(&dataset, Encoding::Array)?;
        Ok(Self { dataset, genes })
    }

    fn append(&self, before: usize, rows: usize, values: &[f32]) -> hdf5_metno::Result<()> {
        let view = ArrayView2::from_shape((rows, self.genes), values)
            .map_err(|error| hdf5_metno::Error::Internal(error.to_string()))?;
        if rows == 0 {
            return Ok(());
        }
        self.dataset.resize((before + rows, self.genes))?;
        self.dataset.write_slice(view, (before..before + rows, ..))
    }
}
