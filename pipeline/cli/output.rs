//! Where a command writes: a name that is free, or one whose old output is replaced once the new one is complete.

use std::{
    collections::HashSet,
    fs,
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
};

use clap::Args;
use evaluate::card::Card;
use formats::format::{Choice, open};
use schemas::{atlas::files, model_files};
use sink::{Published, written::is_written};
use storage::{
    disk::{FolderLock, refuse_existing, remove_all, rename, replace_folder, write_new},
    output_name::{check_name, is_named, replacement_of},
    parquet_read::parquet,
    sealed::read_sealed,
};

use super::{
    args::ChoiceArgs,
    cache::{foreign_file, refuse_to_lose_entries},
    models::is_model,
};
use runtime::Stop;
use schemas::{Error, Result};

/// The mark of a page of this program.
const PAGE_MARK: &str = "<meta name=\"generator\" content=\"perturbine";
/// Columns of every table of curves.
const CURVE_COLUMNS: [&str; 5] = ["distance", "gene", "mean", "control", "change"];
/// Number of bytes at the beginning of a page in which the program is named.
const PAGE_BEGIN: u64 = 64 << 10;

/// Whether an output may be replaced
#[derive(Args, Clone, Copy, Debug)]
pub struct ForceArgs {
    /// Replace an existing output of the same kind; the old one stays until the new one is complete
    #[arg(long)]
    pub force: bool,
}

/// The kind of a command's output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputKind {
    /// A folder.
    Atlas,
    /// A folder.
    Model,
    /// A folder of Parquet files or one file, `.h5ad` included.
    Predictions,
    /// The same of long tables, `.csv` included.
    LongPredictions,
    /// The latents of cells: a folder of Parquet files or one file, `.csv` and `.h5ad` included.
    Latents,
    /// The same of a table of embeddings, without `.h5ad`.
    Embeddings,
    /// A `.parquet` or `.csv` file of curves.
    Curves,
    /// An `.html` file.
    Page,
    /// A `.json` file.
    Card,
    /// A simulated `.h5ad` file.
    Simulated,
}

impl OutputKind {
    /// The formats of single files, and whether it may be a folder.
    fn formats(self) -> (&'static [&'static str], bool) {
        match self {
            Self::Atlas | Self::Model => (&[], true),
            Self::Predictions => (&["parquet", "h5ad"], true),
            Self::LongPredictions => (&["parquet", "csv"], true),
            Self::Latents => (&["parquet", "csv", "h5ad"], true),
            Self::Embeddings => (&["parquet", "csv"], true),
            Self::Curves => (&["parquet", "csv"], false),
            Self::Page => (&["html"], false),
            Self::Card => (&["json"], false),
            Self::Simulated => (&["h5ad"], false),
        }
    }

    /// Refuses a name that promises another format.
    pub fn check(self, flag: &str, target: &Path) -> Result<()> {
        let (formats, may_be_folder) = self.formats();
        check_name(flag, target, formats, may_be_folder).map_err(|error| match self.csv_instead() {
            Some(instead) if is_named(target, "csv") => {
                let hint = error.hint().unwrap_or_default();
                Error::usage(error.to_string(), format!("{hint}; {instead}"))
            }
            _ => error,
        })
    }

    /// Another way to CSV, of a kind that is not written as `.csv`.
    fn csv_instead(self) -> Option<&'static str> {
        match self {
            Self::Predictions => Some("--output changes and --layout long write .csv"),
            Self::Page => Some("`judge --csv` prints scores as CSV, and `report --tables FOLDER` writes all tables"),
            _ => None,
        }
    }

    /// Whether what is at a path is an output of this kind, made by this program.
    fn is_at(self, path: &Path) -> bool {
        let begins_with = |bytes: u64| {
            let mut text = Vec::new();
            let read = fs::File::open(path).and_then(|file| file.take(bytes).read_to_end(&mut text));
            read.map(|_| String::from_utf8_lossy(&text).into_owned()).unwrap_or_default()
        };
        match self {
            Self::Atlas => path.join(files::MANIFEST).exists(),
            Self::Model => is_model(path),
            Self::Predictions | Self::Latents if is_named(path, "h5ad") => is_predicted_h5ad(path),
            _ if is_named(path, "csv") => {
                self.csv_columns().iter().all(|name| csv_header(path).split(',').any(|column| column.trim() == *name))
            }
            Self::Predictions | Self::LongPredictions | Self::Latents | Self::Embeddings => is_written(path),
            Self::Curves => has_columns(path, &CURVE_COLUMNS),
            Self::Page => begins_with(PAGE_BEGIN).contains(PAGE_MARK),
            Self::Card => Card::read(path).is_ok(),
            Self::Simulated => false,
        }
    }

    /// Columns of every `.csv` file of this kind.
    fn csv_columns(self) -> &'static [&'static str] {
        match self {
            Self::Latents => &["cell", "condition", "dose", "basal_1"],
            Self::Embeddings => &["embedding_1"],
            Self::Curves => &CURVE_COLUMNS,
            _ => &["condition", "dose", "extrapolation", "gene"],
        }
    }

    /// Refuses to replace anything but an output of this kind.
    fn check_replaceable(self, target: &Path) -> Result<()> {
        if !self.is_at(target) {
            let message =
                format!("{} is not an output of this command, so --force does not replace it", target.display());
            return Err(Error::usage(message, "remove it first, or choose another name"));
        }
        self.refuse_to_lose(target)
    }

    /// Refuses to replace a folder that holds anything that a command did not write.
    fn refuse_to_lose(self, target: &Path) -> Result<()> {
        let foreign = match self {
            Self::Atlas => {
                refuse_to_lose_entries(target)?;
                return refuse_to_lose_splits(target);
            }
            Self::Model => foreign_file(target, &|name| model_files::ALL.contains(&name) || is_of_checkpoint(name))?,
            Self::Predictions | Self::LongPredictions | Self::Latents | Self::Embeddings if target.is_dir() => {
                let written: Published = read_sealed(&target.join(sink::MANIFEST))?;
                let files: HashSet<&str> = written.files.iter().map(|file| file.name.as_str()).collect();
                foreign_file(target, &|name| name == sink::MANIFEST || files.contains(name))?
            }
            _ => None,
        };
        match foreign {
            None => Ok(()),
            Some(path) => {
                let message = format!("{} would be lost when {} is replaced", path.display(), target.display());
                Err(Error::usage(message, "move it to another folder, or choose another name"))
            }
        }
    }
}

/// Whether a path holds a CSV table that a command about models wrote.
pub fn is_written_csv(path: &Path) -> bool {
    use OutputKind::{Curves, Embeddings, Latents, LongPredictions};
    is_named(path, "csv") && [LongPredictions, Latents, Embeddings, Curves].iter().any(|kind| kind.is_at(path))
}

/// Refuses to replace an atlas that has splits: they are part of it.
fn refuse_to_lose_splits(atlas: &Path) -> Result<()> {
    let Ok(entries) = std::fs::read_dir(atlas.join(files::SPLITS)) else { return Ok(()) };
    let mut names: Vec<String> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| is_named(path, "parquet"))
        .filter_map(|path| Some(path.file_stem()?.to_string_lossy().into_owned()))
        .collect();
    if names.is_empty() {
        return Ok(());
    }
    names.sort_unstable();
    let message = format!("{} has splits, which would be lost: {}", atlas.display(), names.join(", "));
    Err(Error::usage(message, "ingest under another name, or remove them first: perturbine split ATLAS --remove NAME"))
}

/// The name that stands for standard output.
pub const STANDARD_OUTPUT: &str = "-";

/// Whether an output goes to standard output.
#[must_use]
pub fn is_standard_stream(out: &Path) -> bool {
    out.as_os_str() == STANDARD_OUTPUT
}

/// The place of an output.
pub struct OutputPlace {
    kind: OutputKind,
    target: PathBuf,
    /// The hidden name beside it where the new output is written first, if it replaces another one.
    staged: Option<PathBuf>,
}

impl OutputPlace {
    /// The place for an output named by `flag`.
    ///
    /// # Errors
    /// A name that promises another format; one that is in use, unless `force` is given and what has it is of the same kind.
    pub fn new(flag: &str, target: &Path, kind: OutputKind, force: ForceArgs) -> Result<Self> {
        kind.check(flag, target)?;
        if !force.force || !target.exists() {
            return Ok(Self { kind, target: target.to_path_buf(), staged: None });
        }
        kind.check_replaceable(target)?;
        Ok(Self { kind, target: target.to_path_buf(), staged: Some(replacement_of(target)) })
    }

    /// The same, for a run that does not go on from what an interrupted one left under the hidden name.
    ///
    /// # Errors
    /// Another process that is writing there.
    pub fn afresh(self) -> Result<Self> {
        if let Some(staged) = self.staged.as_deref().filter(|staged| staged.exists()) {
            let _lock = staged.is_dir().then(|| FolderLock::take(staged)).transpose()?;
            remove_all(staged)?;
        }
        Ok(self)
    }

    /// Refuses a name that is in use, with `--force` as a way out where it would replace what is there.
    pub fn check_free(&self) -> Result<()> {
        refuse_existing(self.path()).map_err(|error| match error {
            Error::Usage { .. } if self.staged.is_none() && self.kind.is_at(&self.target) => {
                Error::usage(error.to_string(), "choose another name, or add --force, which replaces it")
            }
            other => other,
        })
    }

    /// The name to write to.
    pub fn path(&self) -> &Path {
        self.staged.as_deref().unwrap_or(&self.target)
    }

    /// Puts the complete output in the place of the old one, if there is an old one.
    ///
    /// # Errors
    /// Anything that came to be there while the new output was made, which stays beside it.
    pub fn take_place(&self) -> Result<()> {
        let Some(staged) = &self.staged else { return Ok(()) };
        if self.target.exists() {
            self.kind.check_replaceable(&self.target).map_err(|error| {
                let hint = format!("move it to another folder; the new output is complete in {}", staged.display());
                Error::usage(error.to_string(), hint)
            })?;
        }
        if !staged.is_dir() || !self.target.is_dir() {
            return rename(staged, &self.target);
        }
        let _lock = FolderLock::take(&self.target)?;
        replace_folder(staged, &self.target)
    }
}

/// Writes a page or card.
pub fn write_at(place: &OutputPlace, bytes: &[u8]) -> Result<()> {
    write_new(place.path(), bytes)?;
    place.take_place()
}

/// Whether this is the name of a checkpoint's file within a model's folder: `checkpoint/EPOCH-BATCH/FILE`.
fn is_of_checkpoint(name: &str) -> bool {
    let mut parts = name.split('/');
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let is_position =
        |text: &str| text.split_once('-').is_some_and(|(epoch, batch)| is_number(epoch) && is_number(batch));
    let is_state = |file: &str| file.ends_with(".json") || file.ends_with(".safetensors");
    parts.next() == Some(model_files::CHECKPOINTS)
        && parts.next().is_some_and(is_position)
        && parts.next().is_some_and(is_state)
        && parts.next().is_none()
}

/// Whether an `.h5ad` file has predictions of this program.
fn is_predicted_h5ad(path: &Path) -> bool {
    let choice = Choice { lists_members: true, ..ChoiceArgs::default().choice(&Stop::default()) };
    open(path, &choice).is_ok_and(|source| source.members().iter().any(|member| member.name == "uns/perturbine/output"))
}

/// Whether a Parquet file has these columns.
fn has_columns(path: &Path, names: &[&str]) -> bool {
    let schema = fs::File::open(path).ok().and_then(|file| parquet(file).ok());
    schema.is_some_and(|builder| names.iter().all(|name| builder.schema().field_with_name(name).is_ok()))
}

/// The first line of a file.
fn csv_header(path: &Path) -> String {
    let mut line = String::new();
    let read = fs::File::open(path).and_then(|file| BufReader::new(file.take(PAGE_BEGIN)).read_line(&mut line));
    if read.is_ok() { line } else { String::new() }
}

/// A page with the mark by which `--force` knows it.
pub fn marked(page: &str) -> String {
    page.replacen("<head>", &format!("<head>\n{PAGE_MARK} {}\">", env!("CARGO_PKG_VERSION")), 1)
}
