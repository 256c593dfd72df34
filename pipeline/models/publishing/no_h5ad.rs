//! Replaces writing of `.h5ad` files if the library is built without HDF5.

use std::path::Path;

use schemas::{Error, Result};

use super::{Prediction, PredictionForm, WriteOptions, Written};

impl Prediction {
    pub(super) fn publish_h5ad(
        self,
        _: PredictionForm,
        _: &Path,
        _: &WriteOptions,
        _: bool,
        _: &str,
    ) -> Result<Written> {
        Err(Error::usage(
            "this program was built without HDF5",
            "leave --format parquet, or build with the feature hdf5",
        ))
    }
}
