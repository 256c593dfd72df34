//! An `.h5ad` read where it is: an atlas without a matrix, in a scratch folder.

use std::path::{Path, PathBuf};

use formats::format::{Choice, open};
use runtime::Stop;
use schemas::{Error, Result, atlas::Codec};
use storage::disk::ScratchFolder;

use flows::{
    Resources,
    ingesting::{IngestOptions, ingest},
};

use crate::process::Owned;

/// The folder of the atlas, which goes with this value.
pub(crate) struct InPlace(Owned<ScratchFolder>);

impl InPlace {
    /// Reads the annotations of a file, and where its matrix is; every value is looked at once. With the program `reader`, no byte of
    /// the file reaches libhdf5 in this process.
    ///
    /// # Errors
    /// A file that can't be read in place, whose labels can't be found, or that is not a file of cells.
    pub(crate) fn open(file: &Path, reader: Option<PathBuf>, stop: &Stop) -> Result<Self> {
        let folder = ScratchFolder::create()?;
        let source = open(file, &Choice { worker: reader, interrupt: stop.interrupt(), ..Choice::default() })?;
        let options = IngestOptions {
            codec: Codec::InPlace,
            shuffle: None,
            files: vec![std::path::absolute(file).map_err(Error::io("find", file))?],
            ..IngestOptions::default()
        };
        let resources = Resources { stop: stop.clone(), ..Resources::default() };
        ingest(source, &folder.path().join(ATLAS), &options, &resources).map_err(|error| with_remedy(error, file))?;
        Ok(Self(Owned::new(folder)))
    }

    /// The atlas's path.
    pub(crate) fn path(&self) -> PathBuf {
        self.0.path().join(ATLAS)
    }
}

/// The atlas's name in its folder.
const ATLAS: &str = "in-place.atlas";

/// The error, with the way that works for every file.
fn with_remedy(error: Error, file: &Path) -> Error {
    let remedy =
        "make an atlas of it: perturbine.ingest(file, out=\"NAME.atlas\"), where columns can be named, and open that";
    match error {
        Error::Usage { message, hint } => Error::usage(message, format!("{hint}; or {remedy}")),
        Error::Data { place, message, hint } => Error::data(place, message, format!("{hint}; or {remedy}")),
        Error::Unknown { .. } => Error::data(file.display().to_string(), error.to_string(), remedy),
        other => other,
    }
}
