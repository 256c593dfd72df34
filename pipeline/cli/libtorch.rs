//! Where libtorch is: in the folder that the user names, where it was linked from, in the active Python environment, or in
//! the user's cache.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use schemas::{Error, Result};

/// The environment variable that names libtorch's folder of libraries.
const VARIABLE: &str = "PERTURBINE_LIBTORCH";
/// The version that this program works with: libtorch keeps no binary interface between versions.
pub(crate) const VERSION: &str = "2.11";
/// The library that every program with libtorch needs.
const LIBRARY: &str = "libtorch_cpu.so";
/// Where the system's loader looks for libraries first.
pub(crate) const SEARCH_PATH: &str = "LD_LIBRARY_PATH";

/// The folder to search for libtorch's libraries, or `None` if the system's loader is asked to look in one already.
///
/// # Errors
/// A folder of the user's without libtorch, or no libtorch anywhere.
pub(crate) fn folder(linked: Option<&str>) -> Result<Option<PathBuf>> {
    if let Some(named) = env::var_os(VARIABLE).map(PathBuf::from) {
        if has_library(&named) && !is_of_another_pytorch(&named) {
            return Ok(Some(named));
        }
        if has_library(&named) {
            let message = format!("{VARIABLE} is {}, which belongs to another PyTorch than {VERSION}", named.display());
            return Err(Error::usage(message, "name the folder `lib` of libtorch 2.11"));
        }
        let message = format!("{VARIABLE} is {}, where there is no {LIBRARY}", named.display());
        return Err(Error::usage(message, "name the folder `lib` of libtorch 2.11"));
    }
    if is_searched() {
        return Ok(None);
    }
    let environments = ["VIRTUAL_ENV", "CONDA_PREFIX"].iter().filter_map(env::var_os).map(PathBuf::from);
    let installed = environments.filter_map(|root| of_environment(&root)).chain(cache());
    let mut all = linked.map(PathBuf::from).into_iter().chain(beside_this()).chain(installed);
    let found = all.find(|folder| has_library(folder));
    found.map(Some).ok_or_else(|| {
        let message = format!("libtorch {VERSION} was not found, and commands about models need it");
        let hint = format!(
            "run `perturbine setup`, which fetches it, or set {VARIABLE} to the folder of its libraries, such as torch/lib of PyTorch {VERSION}"
        );
        Error::usage(message, hint)
    })
}

fn has_library(folder: &Path) -> bool {
    folder.join(LIBRARY).exists()
}

/// Whether the system's loader is asked to look in a folder with libtorch; one that belongs to another PyTorch is passed over.
fn is_searched() -> bool {
    let path = env::var_os(SEARCH_PATH).unwrap_or_default();
    env::split_paths(&path).any(|folder| has_library(&folder) && !is_of_another_pytorch(&folder))
}

/// Whether a folder of libraries lies in a PyTorch that states another version.
fn is_of_another_pytorch(folder: &Path) -> bool {
    folder.parent().is_some_and(|torch| torch.join("version.py").exists() && !is_right_version(torch))
}

/// Where libtorch is beside this program, as in a distribution.
fn beside_this() -> Option<PathBuf> {
    Some(env::current_exe().ok()?.parent()?.join("../lib/torch/lib"))
}

/// The libraries of PyTorch in a Python environment, if it is of the right version.
fn of_environment(root: &Path) -> Option<PathBuf> {
    let versions = fs::read_dir(root.join("lib")).ok()?;
    let packages = versions.flatten().map(|version| version.path().join("site-packages/torch"));
    packages.filter(|torch| is_right_version(torch)).map(|torch| torch.join("lib")).next()
}

/// Whether `version.py` of a PyTorch states the right version.
fn is_right_version(torch: &Path) -> bool {
    states_version(&fs::read_to_string(torch.join("version.py")).unwrap_or_default())
}

fn states_version(text: &str) -> bool {
    text.lines().any(|line| line.starts_with("__version__") && line.contains(&format!("'{VERSION}.")))
}

/// The libraries that `perturbine setup` put into the user's cache.
fn cache() -> Option<PathBuf> {
    Some(cache_folder()?.join("torch/lib"))
}

/// The folder of this version of libtorch in the user's cache.
pub(crate) fn cache_folder() -> Option<PathBuf> {
    let caches = env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let caches = caches.or_else(|| env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")))?;
    Some(caches.join("perturbine").join(format!("libtorch-{VERSION}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pytorch_counts_only_with_the_right_version() {
        assert!(states_version("__all__ = []\n__version__ = '2.11.0+cu130'\ndebug = False\n"));
        assert!(!states_version("__version__ = '2.15.0+cpu'\n"));
        assert!(!states_version("__version__ = '2.1.1'\n"));
        assert!(!states_version(""));
    }
}
