//! Formats in HDF5 files, detected by content, since 10x matrices and others share a file extension.

use std::{path::Path, sync::Arc};

use arrays::place::ObjectPlace;
use hdf5_metno::types::VarLenUnicode;
use schemas::Result;

use super::{
    choice::{Choice, SourceFormat},
    h5ad,
    source::Source,
    tenx::{self, TenXReader},
    worker::RemoteSource,
};

/// Maximum number of members listed in an error.
const LISTED_MEMBERS: usize = 12;

/// The format of an HDF5 file.
///
/// # Errors
/// A file that is missing, is not an HDF5 file, or has other content.
pub(super) fn format_of(path: &Path) -> Result<SourceFormat> {
    let file = hdf5::open_for_reading(path)?;
    let place = ObjectPlace::root(path);
    if ["X", "obs", "var"].iter().any(|name| file.link_exists(name)) && !file.link_exists("mod") {
        return Ok(SourceFormat::H5ad);
    }
    if !tenx::matrices(&file).is_empty() {
        return Ok(SourceFormat::TenX);
    }
    if let Ok(modalities) = file.group("mod").and_then(|group| group.member_names()) {
        let message = format!("is a MuData file, which holds several data sets: {}", modalities.join(", "));
        let one = modalities.iter().find(|name| *name == "rna").or(modalities.first()).map_or("rna", String::as_str);
        let hint = format!("write one of them on its own: `mudata.read_h5mu(...).mod['{one}'].write_h5ad(...)`");
        return Err(place.error(message, hint));
    }
    let members = file.member_names().map_err(|error| place.unreadable(error))?;
    let mut listed = members[..members.len().min(LISTED_MEMBERS)].join(", ");
    match members.len() {
        0 => listed.push_str("nothing"),
        all if all > LISTED_MEMBERS => listed.push_str(&format!(" and {} more", all - LISTED_MEMBERS)),
        _ => {}
    }
    Err(place.error(
        format!("is neither an .h5ad file (`X`, `obs`, `var`) nor a 10x matrix; it holds {listed}"),
        "give an .h5ad file from anndata, or a feature-barcode matrix from Cell Ranger",
    ))
}

/// The layers of an `.h5ad` file.
///
/// # Errors
/// A missing file, or no HDF5 file.
pub(super) fn layers_of(path: &Path) -> Result<Vec<String>> {
    let file = hdf5::open_for_reading(path)?;
    if !file.link_exists("layers") {
        return Ok(Vec::new());
    }
    let place = ObjectPlace::root(path).child("layers");
    file.group("layers").and_then(|group| group.member_names()).map_err(|error| place.unreadable(error))
}

/// A text of a dictionary in `uns`, if it is there and `scanpy.pp.log1p` has not changed the matrix since.
///
/// # Errors
/// A damaged file.
pub(super) fn text_in_uns(path: &Path, dictionary: &str, key: &str) -> Result<Option<String>> {
    let file = hdf5::open_for_reading(path)?;
    if file.link_exists("uns/log1p") {
        return Ok(None);
    }
    let name = format!("uns/{dictionary}/{key}");
    let Ok(dataset) = file.dataset(&name) else { return Ok(None) };
    Ok(dataset.read_scalar::<VarLenUnicode>().ok().map(|text| text.to_string()))
}

/// Opens an `.h5ad` file.
pub(super) fn open_h5ad(path: &Path, choice: &Choice) -> Result<Arc<dyn Source>> {
    Ok(Arc::new(h5ad::open(path, choice)?))
}

/// Opens a 10x matrix.
pub(super) fn open_tenx(path: &Path, choice: &Choice) -> Result<Arc<dyn Source>> {
    Ok(Arc::new(TenXReader::open(path, choice)?))
}

/// Opens a file of either format through a worker process.
pub(super) fn open_remote(worker: &Path, path: &Path, choice: &Choice) -> Result<Arc<dyn Source>> {
    Ok(Arc::new(RemoteSource::open(worker, path, choice)?))
}
