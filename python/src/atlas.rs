//! An open atlas as a Python object.

use std::{
    collections::{HashMap, VecDeque},
    path::PathBuf,
    sync::Arc,
};

use arrow::datatypes::Schema;
use pyo3::prelude::*;
use reader::{
    atlas::{Access, Atlas as OpenAtlas},
    groups::Groups,
    split::{Split, SplitPart},
};
use runtime::Stop;
use schemas::{Error, Result, atlas::files, ids::ConditionId};
use storage::parquet_read;

use crate::{
    arrow_stream::{ArrowStream, RecordBatches},
    error::OrRaise,
    in_place::InPlace,
    wait::interruptible,
};

/// An atlas; `perturbine.open` opens one.
#[pyclass(frozen, subclass, module = "perturbine._native")]
pub(crate) struct Atlas {
    pub(crate) open: OpenAtlas,
    access: Access,
    /// Kept as long as the atlas is open.
    in_place: Option<Arc<InPlace>>,
}

/// A condition: name, dose label, perturbations with their doses, number of cells.
type DescribedCondition = (String, String, Vec<(String, f64)>, u64);

#[pymethods]
impl Atlas {
    #[new]
    #[pyo3(signature = (path, access="map", hdf5_reader=None))]
    fn new(py: Python<'_>, path: PathBuf, access: &str, hdf5_reader: Option<PathBuf>) -> PyResult<Self> {
        let access = access_named(access).or_raise(py)?;
        let stop = Stop::default();
        let of_file = stop.clone();
        interruptible(py, &stop, move || {
            let in_place =
                if path.is_file() { Some(Arc::new(InPlace::open(&path, hdf5_reader, &of_file)?)) } else { None };
            let folder = in_place.as_ref().map_or(path, |in_place| in_place.path());
            Ok(Self { open: OpenAtlas::open_with(folder, access)?, access, in_place })
        })
    }

    /// The atlas's folder; of a file that is read in place, the scratch folder with its labels.
    #[getter]
    fn path(&self) -> PathBuf {
        self.open.path().to_path_buf()
    }

    /// How the matrix is read: `map` or `read`.
    #[getter]
    fn access(&self) -> &'static str {
        match self.access {
            Access::Map => "map",
            Access::Read => "read",
        }
    }

    /// Whether the matrix is read from its `.h5ad`, with labels in a scratch folder.
    #[getter]
    fn is_scratch(&self) -> bool {
        self.in_place.is_some()
    }

    /// Number of cells.
    #[getter]
    fn cells(&self) -> u64 {
        self.open.cells()
    }

    /// Number of non-zero values.
    #[getter]
    fn nonzeros(&self) -> u64 {
        self.open.manifest().nonzeros
    }

    /// `counts` or `continuous`.
    #[getter]
    fn values(&self) -> String {
        self.open.manifest().values.to_string()
    }

    /// The checksum by which models and predictions know the atlas.
    #[getter]
    fn checksum(&self) -> String {
        self.open.manifest().checksum.clone()
    }

    /// The names of the genes, in the order of columns.
    fn gene_names(&self) -> Vec<String> {
        self.open.genes().to_vec()
    }

    /// The places of genes with these names: of several genes with one name, the first mention means the first, and so on.
    fn gene_places(&self, py: Python<'_>, names: Vec<String>) -> PyResult<Vec<usize>> {
        let all = self.open.genes();
        let mut places: HashMap<&str, VecDeque<usize>> = HashMap::new();
        all.iter().enumerate().for_each(|(place, name)| places.entry(name).or_default().push_back(place));
        let place_of = |name: &String| {
            let place = places.get_mut(name.as_str()).and_then(VecDeque::pop_front);
            place.ok_or_else(|| match all.contains(name) {
                true => Error::usage(format!("gene `{name}` is given more often than there is"), "give each gene once"),
                false => Error::unknown("gene", name, all.iter().map(String::as_str)),
            })
        };
        names.iter().map(place_of).collect::<Result<_>>().or_raise(py)
    }

    /// The conditions, by their codes; the first is control.
    fn described_conditions(&self, py: Python<'_>) -> Vec<DescribedCondition> {
        py.detach(|| {
            let table = &self.open.manifest().conditions;
            let mut cells = vec![0; table.conditions().len()];
            for group in Groups::from_atlas(&self.open, None).all() {
                cells[group.condition.index()] += group.cells();
            }
            let described = |(id, cells): (usize, u64)| {
                let id = ConditionId::at(id);
                let parts = table.parts(id).map(|(part, dose)| (table.perturbations()[part.index()].clone(), dose));
                (table.name(id).to_owned(), table.dose_label(id), parts.collect(), cells)
            };
            cells.into_iter().enumerate().map(described).collect()
        })
    }

    /// The names of the perturbations, by their codes.
    fn perturbations(&self) -> Vec<String> {
        self.open.manifest().conditions.perturbations().to_vec()
    }

    /// The covariates, each with its values.
    fn covariate_values(&self) -> Vec<(String, Vec<String>)> {
        let covariates = self.open.manifest().covariates.iter();
        covariates.map(|covariate| (covariate.name.clone(), covariate.values.clone())).collect()
    }

    /// The columns of `obs` with the perturbation, the dose and the batch of each cell.
    fn keys(&self) -> (Option<String>, Option<String>, Option<String>) {
        let keys = &self.open.manifest().keys;
        (keys.perturbation.clone(), keys.dose.clone(), keys.batch.clone())
    }

    /// The names of the splits.
    fn split_names(&self) -> Vec<String> {
        Split::names(&self.open)
    }

    /// Number of cells for training, for validation, held out, and set apart as references.
    fn split_counts(&self, py: Python<'_>, name: &str) -> PyResult<[u64; 4]> {
        py.detach(|| {
            let counts = Split::read(&self.open, name)?.counts();
            let of = |part| counts.get(&part).copied().unwrap_or(0);
            Result::Ok([SplitPart::Train, SplitPart::Valid, SplitPart::Ood, SplitPart::Reference].map(of))
        })
        .or_raise(py)
    }

    /// The annotations of the cells; some columns, or all of them, in the order of the file.
    #[pyo3(signature = (columns=None))]
    fn obs(&self, py: Python<'_>, columns: Option<Vec<String>>) -> PyResult<ArrowStream> {
        py.detach(|| obs(&self.open, columns)).or_raise(py)
    }
}

fn access_named(name: &str) -> Result<Access> {
    match name {
        "map" => Ok(Access::Map),
        "read" => Ok(Access::Read),
        other => {
            Err(Error::usage(format!("`{other}` is not a kind of access"), "write access=\"map\" or access=\"read\""))
        }
    }
}

fn obs(atlas: &OpenAtlas, columns: Option<Vec<String>>) -> Result<ArrowStream> {
    let path = atlas.path().join(files::CELLS);
    let damaged = |what: String| Error::damaged(&path, what);
    let cells = parquet_read::parquet(atlas.table(files::CELLS)?).map_err(|error| damaged(error.to_string()))?;
    let all = cells.schema();
    let names: Vec<String> = match columns {
        None => all.fields().iter().map(|field| field.name().clone()).collect(),
        Some(columns) => columns.iter().map(|name| atlas.name_in_atlas(name)).collect::<Result<_>>()?,
    };
    let fields: Vec<_> = all.fields().iter().filter(|field| names.contains(field.name())).cloned().collect();
    let schema = Arc::new(Schema::new_with_metadata(fields, all.metadata().clone()));
    let atlas = atlas.clone();
    Ok(ArrowStream::new(schema, move || {
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let path = atlas.path().join(files::CELLS);
        let batches = atlas.obs(&names)?.map(move |batch| {
            batch.map_err(|error| Error::damaged(&path, error.to_string())).map_err(|error| error.into_arrow())
        });
        Ok(Box::new(batches) as RecordBatches)
    }))
}

/// Errors inside an Arrow stream.
trait IntoArrow {
    fn into_arrow(self) -> arrow::error::ArrowError;
}

impl IntoArrow for Error {
    fn into_arrow(self) -> arrow::error::ArrowError {
        arrow::error::ArrowError::ExternalError(Box::new(self))
    }
}
