//! Replaces writing of `.h5ad` files if the library is built without HDF5.

use std::path::Path;

use arrow::{array::RecordBatch, datatypes::SchemaRef};
use schemas::{Error, Result, conditions::ConditionTable};
use stages::sink::Published;

use crate::runtime::Pipeline;

pub(super) fn write_h5ad(_: &SchemaRef, _: Pipeline<RecordBatch>, _: &ConditionTable, _: &Path) -> Result<Published> {
    Err(Error::usage(
        "this program was built without HDF5",
        "give --out a name that does not end in .h5ad, or build with the feature hdf5",
    ))
}
