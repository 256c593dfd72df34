//! Reads the HDF5 matrices of Cell Ranger and Space Ranger, in chunks of cells.
//!
//! ```text
//! since version 3   matrix/{barcodes, data, indices, indptr, shape}  matrix/features/{id, name, feature_type, genome, ..}
//! version 2         GENOME/{barcodes, data, indices, indptr, shape, genes, gene_names}, one group a genome
//! ```
//!
//! The matrix is stored as features × cells by columns, which is the same as cells × features by rows. Like
//! in scanpy, features other than gene expression are left out; for a probe set, its probes count as genes.

mod features;

use std::{ops::Range, path::Path, sync::Arc};

use arrays::{place::ObjectPlace, rows::Csr, sparse::gene_count};
use arrow::{
    array::{ArrayRef, RecordBatch, RecordBatchOptions},
    compute,
    datatypes::{DataType, Field, Schema, SchemaRef},
};
use hdf5_metno::{File, Group};
use schemas::{Error, Result, atlas::Origin, chunk::CsrRows, numbers::to_usize};

use self::features::{Features, vector};
use super::{
    anndata::sparse,
    choice::Choice,
    h5ad::{group::H5Group, values::DatasetValues},
    source::Source,
};

/// The group that holds the matrix since version 3.
const MATRIX: &str = "matrix";

/// An open 10x file, whose shape and names have been checked.
#[derive(Debug)]
pub struct TenXReader {
    origin: Origin,
    matrix: Csr,
    features: Features,
    obs_schema: SchemaRef,
    obs: Vec<DatasetValues>,
    cells: u64,
}

/// The names of the groups that hold a matrix in the form of 10x files.
pub(super) fn matrices(file: &File) -> Vec<String> {
    let holds_matrix = |name: &String| {
        file.group(name).is_ok_and(|group| {
            ["data", "indices", "indptr", "shape"].iter().all(|member| group.dataset(member).is_ok())
        })
    };
    file.member_names().unwrap_or_default().into_iter().filter(holds_matrix).collect()
}

impl TenXReader {
    /// Opens a file and checks its structure.
    ///
    /// # Errors
    /// A file that is missing, is not an HDF5 file or is cut short; names that are missing or do not match the
    /// matrix; several genomes of which none was chosen, or a genome that does not exist. The error names the
    /// object and how to fix it.
    pub fn open(path: &Path, choice: &Choice) -> Result<Self> {
        if choice.matrix() != "X" {
            let message = format!("{} is a 10x file, which has neither layers nor raw", path.display());
            return Err(Error::usage(message, "leave out --layer and --raw"));
        }
        let root = ObjectPlace::root(path);
        let file = hdf5::open_for_reading(path)?;
        let (name, genome) = choose(&matrices(&file), choice.genome.as_deref(), &root)?;
        let place = root.child(&name);
        let group = file.group(&name).map_err(|error| place.unreadable(error))?;
        let (cells, features) = shape(&group, &place)?;
        let matrix = sparse::csr(&H5Group::new(group.clone(), place.clone()), cells, features)?;
        let features = match group.group("features") {
            Ok(described) => Features::open(&described, &place.child("features"), genome, features)?,
            Err(_) => Features::of_version_2(&group, &place, features)?,
        };
        let mut fields = vec![Field::new("cell", DataType::Utf8, true)];
        let mut obs = vec![vector(&group, "barcodes", &place, cells)?];
        if group.link_exists("filtered_barcodes") {
            fields.push(Field::new("filtered_barcodes", DataType::Boolean, true));
            obs.push(vector(&group, "filtered_barcodes", &place, cells)?);
        }
        let bytes = std::fs::metadata(path).map_err(Error::io("read", path))?.len();
        let path = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let origin = Origin { path, bytes, matrix: choice.genome.clone().unwrap_or(name), ..Origin::default() };
        Ok(Self { origin, matrix, features, obs_schema: Arc::new(Schema::new(fields)), obs, cells })
    }
}

/// `var` has the columns `gene` (the symbol), `gene_id`, `feature_types` and `genome`, as far as they are in
/// the file, and the other annotations of its features. A cell's name is its barcode.
impl Source for TenXReader {
    fn kind(&self) -> &str {
        "10x"
    }

    fn origin(&self) -> &Origin {
        &self.origin
    }

    fn cells(&self) -> u64 {
        self.cells
    }

    fn nonzeros(&self) -> Option<u64> {
        self.features.are_all_kept().then(|| self.matrix.entries())
    }

    fn var(&self) -> &RecordBatch {
        self.features.var()
    }

    fn obs_schema(&self) -> SchemaRef {
        Arc::clone(&self.obs_schema)
    }

    fn obs(&self, cells: Range<u64>, columns: &[usize]) -> Result<RecordBatch> {
        let bug = |error: arrow::error::ArrowError| Error::Bug(error.to_string());
        let rows = to_usize(cells.start)..to_usize(cells.end);
        let schema = Arc::new(self.obs_schema.project(columns).map_err(bug)?);
        let arrays = columns.iter().zip(schema.fields()).map(|(column, field)| {
            compute::cast(&self.obs[*column].read(rows.clone())?, field.data_type()).map_err(bug)
        });
        let arrays: Vec<ArrayRef> = arrays.collect::<Result<_>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
        RecordBatch::try_new_with_options(schema, arrays, &options).map_err(bug)
    }

    fn range_end(&self, first: u64) -> Result<u64> {
        self.matrix.range_end(first)
    }

    fn expression(&self, cells: Range<u64>, spare: CsrRows) -> Result<CsrRows> {
        self.features.keep(self.matrix.read(cells, spare)?)
    }
}

/// The group whose matrix is read, and the genome to which its features are restricted.
fn choose<'a>(matrices: &[String], genome: Option<&'a str>, root: &ObjectPlace) -> Result<(String, Option<&'a str>)> {
    let known = || matrices.iter().map(String::as_str);
    match (matrices, genome) {
        ([], _) => Err(root.error("there is no matrix", "a 10x file has `matrix`, or one group per genome")),
        (several, genome) if several.iter().any(|name| name == MATRIX) => Ok((MATRIX.to_owned(), genome)),
        ([only], None) => Ok((only.clone(), None)),
        (several, None) => {
            let message = format!("holds a matrix for each of several genomes: {}", several.join(", "));
            Err(root.error(message, format!("choose one: --genome {}", several[0])))
        }
        (several, Some(genome)) if several.iter().any(|name| name == genome) => Ok((genome.to_owned(), None)),
        (_, Some(genome)) => Err(Error::unknown("genome", genome, known())),
    }
}

/// The number of cells and of features.
fn shape(group: &Group, place: &ObjectPlace) -> Result<(u64, u32)> {
    let place = place.child("shape");
    let dataset = group.dataset("shape").map_err(|error| place.unreadable(error))?;
    if dataset.size() != 2 {
        return Err(place.error("does not give the number of features and cells", "download the file again"));
    }
    let shape = dataset.read_raw::<i64>().map_err(|error| place.unreadable(error))?;
    match (u64::try_from(shape[0]), u64::try_from(shape[1])) {
        (Ok(features), Ok(cells)) => Ok((cells, gene_count(features, &place)?)),
        _ => Err(place.error(format!("is {shape:?}"), "check how the file was written")),
    }
}
