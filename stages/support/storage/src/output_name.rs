//! Names of outputs: an ending that promises a format is kept, or refused.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use schemas::{Error, Result};

/// Endings that promise a format.
const FORMATS: [&str; 24] = [
    "arrow", "csv", "feather", "gz", "h5", "h5ad", "h5mu", "html", "htm", "json", "loom", "mtx", "npy", "npz",
    "parquet", "pdf", "pkl", "png", "pt", "svg", "tsv", "txt", "xlsx", "zarr",
];

/// Whether a name ends like that of a file in this format, in any case of letters.
#[must_use]
pub fn is_named(target: &Path, format: &str) -> bool {
    target.extension().is_some_and(|extension| extension.eq_ignore_ascii_case(format))
}

/// Refuses a name that promises a format other than those in which `flag` (as in `--out`) is written; a folder is written where
/// no name has such an ending.
///
/// # Errors
/// A name that ends in `.csv`, `.pdf` or the like.
pub fn check_name(flag: &str, target: &Path, formats: &[&str], may_be_folder: bool) -> Result<()> {
    let Some(promised) = FORMATS.into_iter().find(|format| is_named(target, format)) else { return Ok(()) };
    if formats.contains(&promised) {
        return Ok(());
    }
    let endings: Vec<String> = formats.iter().map(|format| format!(".{format}")).collect();
    let listed = match &endings[..] {
        [first @ .., last] if !first.is_empty() => format!("{} or {last}", first.join(", ")),
        few => few.concat(),
    };
    let instead = match (listed, may_be_folder) {
        (endings, _) if endings.is_empty() => format!("give {flag} the name of a folder"),
        (endings, true) => format!("give {flag} the name of a folder, or one that ends in {endings}"),
        (endings, false) => format!("give {flag} a name that ends in {endings}"),
    };
    let message =
        format!("{} is named like a file in another format (.{promised}), which is not written here", target.display());
    Err(Error::usage(message, instead))
}

/// The beginning of the hidden name beside an output under which its replacement is written.
const REPLACEMENT: &str = ".new-";

/// The hidden name beside an output under which its replacement is written.
#[must_use]
pub fn replacement_of(target: &Path) -> PathBuf {
    let mut hidden = OsString::from(REPLACEMENT);
    hidden.push(target.file_name().unwrap_or_default());
    target.with_file_name(hidden)
}

/// The output that is written under a name, as its user calls it.
#[must_use]
pub fn output_of(path: &Path) -> PathBuf {
    let name = path.file_name().and_then(|name| name.to_str());
    name.and_then(|name| name.strip_prefix(REPLACEMENT))
        .map_or_else(|| path.to_path_buf(), |name| path.with_file_name(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replacement_is_called_like_its_output() {
        let target = Path::new("folder/a.atlas");
        assert_eq!(output_of(&replacement_of(target)), target);
        assert_eq!(output_of(target), target);
    }

    #[test]
    fn an_ending_is_kept_or_refused_with_what_to_write() {
        let checked = |name: &str, formats: &[&str], may_be_folder| {
            check_name("--out", Path::new(name), formats, may_be_folder)
                .map_err(|error| error.hint().unwrap_or_default())
        };
        for name in ["kang.atlas", "predictions", "v1.2", "p.parquet", "p.H5AD"] {
            assert_eq!(checked(name, &["parquet", "h5ad"], true), Ok(()), "{name}");
        }
        let hint = checked("p.pdf", &["parquet", "h5ad"], true).expect_err("it is no prediction");
        assert_eq!(hint, "give --out the name of a folder, or one that ends in .parquet or .h5ad");
        assert_eq!(checked("i.parquet", &[], true).expect_err("a folder"), "give --out the name of a folder");
        assert_eq!(checked("r.csv", &["html"], false).expect_err("a page"), "give --out a name that ends in .html");
    }
}
