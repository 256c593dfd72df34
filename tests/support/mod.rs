//! Shared code of tests: the command line as a function, and atlases that are quickly made.

#![allow(dead_code, reason = "no test needs all of it")]

pub mod faults;
#[cfg(feature = "hdf5")]
pub mod h5ad;
pub mod parquet;
pub mod python;
#[cfg(feature = "torch")]
pub mod targets;
pub mod zarr;

use std::{
    collections::BTreeSet,
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use perturbine::{
    Resources,
    flows::ingesting::{IngestOptions, ingest},
};
use schemas::{atlas::Codec, chunk::Chunk};
use serde_json::Value;
use stages::{
    formats::memory::CellsInMemory,
    reader::atlas::Atlas,
    simulate::{SimulateSettings, Simulator},
};

/// A network that trains in a moment, with all that the original has.
pub const TINY: &str = "--preset cpa --set model.n_latent=8 --set model.n_hidden_encoder=16 --set model.n_layers_encoder=1 \
    --set model.n_hidden_decoder=16 --set model.n_layers_decoder=1 --set adversary.n_hidden_adv=8 \
    --set adversary.n_layers_adv=1 --set train.check_val_every_n_epoch=1 --batch-size 64 --seed 1 --device cpu";

/// The atlas of [`simulator`], as a command.
pub const SIMULATE: &str = "simulate --cells 600 --genes 60 --conditions 6 --combos 2 --cell-types 2 --doses 2 \
    --density 0.3 --out s.h5ad";

/// A folder in which commands are run; it goes away with the value.
pub struct Home(tempfile::TempDir);

/// The result of a command.
pub struct Ran {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Home {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// A folder with a simulated file, `s.h5ad`, and its atlas, `s.atlas`.
    pub fn with_atlas() -> Self {
        let home = Self::new();
        home.json(SIMULATE);
        home.json("ingest s.h5ad --out s.atlas");
        home
    }

    /// A folder with an atlas and a model, `m`, that has seen none of these cells.
    pub fn with_model(hold_out: &str) -> Self {
        let home = Self::with_atlas();
        home.json(&format!("train s.atlas --out m --hold-out {hold_out} --epochs 2 {TINY}"));
        home
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A command as it would be typed, ready to start.
    pub fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_perturbine"));
        // Threads of libtorch cost a tiny network more than they bring.
        command.args(line.split_whitespace()).current_dir(self.0.path()).env("OMP_NUM_THREADS", "1");
        command
    }

    pub fn run(&self, line: &str) -> Ran {
        let Output { status, stdout, stderr } = self.command(line).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Ran { code: status.code().unwrap_or(-1), stdout: text(stdout), stderr: text(stderr) }
    }

    /// The `--json` output of a command that succeeds.
    #[track_caller]
    pub fn json(&self, line: &str) -> Value {
        let ran = self.run(&format!("--json {line}"));
        assert_eq!(ran.code, 0, "perturbine {line}\n{}", ran.stderr);
        serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {}", ran.stdout))
    }

    /// The error of a command that is refused with this exit code and leaves no trace.
    #[track_caller]
    pub fn refused(&self, code: i32, line: &str) -> String {
        let before = self.listing();
        let Ran { code: found, stdout, stderr } = self.run(line);
        assert_eq!(found, code, "perturbine {line}\n{stderr}");
        assert!(!stderr.contains("panicked") && !stderr.contains("internal error"), "perturbine {line}\n{stderr}");
        assert_eq!(stdout, "", "perturbine {line}: results of a command that failed");
        let after = self.listing();
        let left: Vec<_> = after.symmetric_difference(&before).collect();
        assert!(left.is_empty(), "perturbine {line}: left behind, removed or changed {left:?}");
        stderr
    }

    /// Everything in the folder, hidden files too, with lengths.
    pub fn listing(&self) -> BTreeSet<(PathBuf, u64)> {
        fn walk(folder: &Path, root: &Path, found: &mut BTreeSet<(PathBuf, u64)>) {
            for entry in fs::read_dir(folder).into_iter().flatten().map(Result::unwrap) {
                // A running command may rename or remove a file in the meantime.
                let (Ok(metadata), path) = (entry.metadata(), entry.path()) else { continue };
                let name = path.strip_prefix(root).unwrap().to_path_buf();
                found.insert((name, if metadata.is_dir() { 0 } else { metadata.len() }));
                if metadata.is_dir() {
                    walk(&path, root, found);
                }
            }
        }
        let mut found = BTreeSet::new();
        walk(self.0.path(), self.0.path(), &mut found);
        found
    }

    /// Copies a folder, to be damaged.
    pub fn copy(&self, from: &Path, name: &str) -> PathBuf {
        fn copy(from: &Path, to: &Path) {
            fs::create_dir_all(to).unwrap();
            for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
                let to = to.join(entry.file_name());
                match entry.metadata().unwrap().is_dir() {
                    true => copy(&entry.path(), &to),
                    false => _ = fs::copy(entry.path(), to).unwrap(),
                }
            }
        }
        let to = self.path(name);
        copy(from, &to);
        to
    }
}

/// Tells what was not tested, and why, past the test harness that keeps the output of tests that pass.
pub fn skipped(why: &str) {
    std::io::stderr().write_all(format!("SKIPPED: {why}\n").as_bytes()).unwrap();
}

/// Checks that an error message has these parts.
#[track_caller]
pub fn says(stderr: &str, parts: &[&str]) {
    // With --json, an error is an object.
    let found = stderr.split_once("error: ").or_else(|| stderr.split_once(r#"{"error":"#));
    let (_, message) = found.unwrap_or_else(|| panic!("there is no error in: {stderr}"));
    for part in parts {
        assert!(message.contains(part), "`{part}` is not in: {message}");
    }
}

/// Cells of two types under four perturbations and two combinations of them, each at two doses.
pub fn simulator(cells: u64, sorted: bool) -> Simulator {
    let settings = SimulateSettings {
        cells,
        genes: 60,
        conditions: 6,
        combos: 2,
        cell_types: 2,
        doses: 2,
        density: 0.3,
        sorted,
        ..SimulateSettings::default()
    };
    Simulator::new(settings).unwrap()
}

/// Rows as an atlas, as they lie.
pub fn store(chunk: &Chunk, genes: &[String], out: &Path, codec: Codec) -> Atlas {
    ingest_chunk(chunk, genes, out, &IngestOptions { codec, shuffle: None, ..IngestOptions::default() })
}

/// Rows as an atlas.
pub fn ingest_chunk(chunk: &Chunk, genes: &[String], out: &Path, options: &IngestOptions) -> Atlas {
    let names = std::sync::Arc::new(arrow::array::StringArray::from_iter_values(genes)) as _;
    let var = arrow::array::RecordBatch::try_from_iter([("gene", names)]).unwrap();
    let source = CellsInMemory::new("test.h5ad", chunk.obs.clone(), var, chunk.expression.clone()).unwrap();
    ingest(std::sync::Arc::new(source), out, options, &Resources::default()).unwrap();
    Atlas::open(out).unwrap()
}

/// A simulated atlas, and the rows that it was made from.
pub fn atlas(home: &Home, name: &str, cells: u64, sorted: bool, codec: Codec) -> (Atlas, Chunk) {
    let simulator = simulator(cells, sorted);
    let chunk = simulator.chunk(0..cells).unwrap();
    (store(&chunk, simulator.genes(), &home.path(name), codec), chunk)
}

/// Rows as one dense, row-major matrix of `genes` columns, written over `out`: the naive way.
pub fn write_dense(rows: &schemas::batch::Expression, genes: usize, out: &mut Vec<f32>) {
    out.clear();
    out.resize(rows.rows() * genes, 0.0);
    rows.for_each(|row, gene, value| out[row * genes + gene] = value);
}

/// Tells how often something was tried, where the environment says `PERTURBINE_COUNTS`: docs/reliability.md has it from here.
pub fn counted(what: &str) {
    if std::env::var_os("PERTURBINE_COUNTS").is_some() {
        std::io::stderr().write_all(format!("COUNTED: {what}\n").as_bytes()).unwrap();
    }
}

/// Whether tests that take minutes are wanted: `make test-long` says so.
pub fn long_tests() -> bool {
    std::env::var_os("PERTURBINE_LONG_TESTS").is_some()
}
