//! Commands, and tests themselves, on the stand-in.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::Value;
use stages::torch;
use tch::Cuda;

use crate::{
    stand_in,
    support::{Home, Ran, skipped},
};

/// Says to a test that it runs on the stand-in already.
const INSIDE: &str = "PERTURBINE_STANDIN_INSIDE";
const COUNTERS: &str = "PERTURBINE_STANDIN_COUNTERS";

/// The stand-in's folder of libraries; none, with a message, if set-up installed nothing.
fn libraries() -> Option<&'static Path> {
    let laid_out = Path::new(env!("CARGO_MANIFEST_DIR")).join(".libtorch").exists();
    match stand_in::folder() {
        Ok(folder) => Some(folder),
        Err(why) if laid_out => panic!("{why}: run `make setup`"),
        Err(why) => {
            skipped(&format!("there is no stand-in for CUDA: {why}"));
            None
        }
    }
}

/// A home in which commands find the stand-in's GPU.
pub struct Gpu {
    home: Home,
    libraries: &'static Path,
    settings: Vec<(String, String)>,
}

/// The stand-in's observations of a command.
#[derive(Debug)]
pub struct Seen(Value);

impl Gpu {
    /// A home with the atlas of `SIMULATE`; none if there is no stand-in.
    pub fn with_atlas() -> Option<Self> {
        libraries().map(|libraries| Self { home: Home::with_atlas(), libraries, settings: Vec::new() })
    }

    /// A home with another simulated atlas, `s.atlas`.
    pub fn with_simulated(flags: &str) -> Option<Self> {
        let libraries = libraries()?;
        let home = Home::new();
        home.json(&format!("simulate {flags} --out s.h5ad"));
        home.json("ingest s.h5ad --out s.atlas");
        Some(Self { home, libraries, settings: Vec::new() })
    }

    pub fn home(&self) -> &Home {
        &self.home
    }

    /// Commands from here on see this setting of the stand-in, in place of those before.
    pub fn set(&mut self, settings: &[(&str, &str)]) {
        let named = |(name, value): &(&str, &str)| (format!("PERTURBINE_STANDIN_{name}"), (*value).to_owned());
        self.settings = settings.iter().map(named).collect();
    }

    /// Runs a command with what it says, and what the stand-in saw.
    pub fn run(&self, line: &str) -> (Ran, Seen) {
        let summary = self.home.path("summary.json");
        let mut command = with_time_limit(&self.home.command(line));
        command.env("PERTURBINE_STANDIN_SUMMARY", &summary);
        on_stand_in(&mut command, self.libraries, &self.home.path("user"));
        command.envs(self.settings.iter().map(|(name, value)| (name, value)));
        let Output { status, stdout, stderr } = command.output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let ran = Ran { code: status.code().unwrap_or(-1), stdout: text(stdout), stderr: text(stderr) };
        // A process that ends at once, since its device was lost, writes none.
        let observed =
            fs::read_to_string(&summary).map_or(Value::Null, |summary| serde_json::from_str(&summary).unwrap());
        fs::remove_file(&summary).ok();
        (ran, Seen(observed))
    }

    /// The `--json` output of a command that succeeds, and the stand-in's observations, which must not include anything forbidden.
    #[track_caller]
    pub fn json(&self, line: &str) -> (Value, Seen) {
        let (ran, observed) = self.run(&format!("--json {line}"));
        assert_eq!(ran.code, 0, "perturbine {line}\n{}", ran.stderr);
        observed.is_clean(line);
        (serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {}", ran.stdout)), observed)
    }
}

/// The same command, ended after some minutes: one that waits for a device that is lost would wait forever.
fn with_time_limit(command: &Command) -> Command {
    let mut limited = Command::new("timeout");
    limited.arg("300").arg(command.get_program()).args(command.get_args());
    limited.current_dir(command.get_current_dir().unwrap());
    limited.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    limited
}

/// A command that finds the stand-in. Its own home, since libtorch keeps there what was compiled at run time.
fn on_stand_in(command: &mut Command, libraries: &Path, home: &Path) {
    fs::create_dir_all(home).unwrap();
    command.env("LD_LIBRARY_PATH", libraries).env("HOME", home).env_remove("PERTURBINE_LIBTORCH");
}

impl Seen {
    pub fn counter(&self, name: &str) -> u64 {
        self.0["counters"][name].as_u64().unwrap_or_else(|| panic!("there is no counter `{name}` in {self:?}"))
    }

    /// How often something happened, by its name.
    pub fn note(&self, name: &str) -> u64 {
        self.0["notes"][name].as_u64().unwrap_or(0)
    }

    pub fn graphs(&self) -> &[Value] {
        self.0["graphs"].as_array().unwrap()
    }

    /// Nothing was forbidden, missing or changed too early.
    #[track_caller]
    pub fn is_clean(&self, what: &str) {
        let notes = self.0["notes"].as_object().unwrap();
        let bad: Vec<_> = notes
            .iter()
            .filter(|(name, _)| ["forbidden", "missing", "race", "suspect"].iter().any(|bad| name.starts_with(bad)))
            .collect();
        assert!(bad.is_empty(), "{what}: {bad:?}");
    }
}

/// The stand-in's counters while this process runs.
pub struct Counters(PathBuf);

impl Counters {
    /// The current value of this counter.
    pub fn get(&self, counter: Counter) -> u64 {
        let bytes = fs::read(&self.0).unwrap();
        let at = counter as usize * 8;
        u64::from_ne_bytes(bytes[at..at + 8].try_into().unwrap())
    }
}

/// Those that tests read, in the order of `stand_in.h`.
#[derive(Clone, Copy, Debug)]
#[allow(dead_code, reason = "they count in order, whichever are read")]
pub enum Counter {
    Launches,
    GraphLaunches,
    ReplayedNodes,
    Waits,
    CopiesToDevice,
    CopiesToHost,
    CopiesOnDevice,
    Fills,
    Allocations,
    Frees,
    DeviceBytes,
    DevicePeak,
    PinnedBytes,
    PinnedPeak,
    Captures,
    Forbidden,
    Races,
    Streams,
    Events,
    Graphs,
}

/// Lets the rest of a test run in its own process, on the stand-in with these settings. There it returns the counters; here
/// nothing, after that process has passed the test.
#[track_caller]
pub fn inside(test: &str, settings: &[(&str, &str)]) -> Option<Counters> {
    if std::env::var_os(INSIDE).is_some() {
        torch::load_cuda().unwrap();
        assert!(Cuda::is_available(), "libtorch finds no device");
        return Some(Counters(std::env::var_os(COUNTERS).unwrap().into()));
    }
    let libraries = libraries()?;
    let scratch = tempfile::tempdir().unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([test, "--exact", "--nocapture"]).env(INSIDE, "1").env(COUNTERS, scratch.path().join("counters"));
    command.env("OMP_NUM_THREADS", "1");
    on_stand_in(&mut command, libraries, scratch.path());
    command.envs(settings.iter().map(|(name, value)| (format!("PERTURBINE_STANDIN_{name}"), value)));
    let Output { status, stdout, stderr } = command.output().unwrap();
    let (output, errors) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(status.success() && output.contains("1 passed"), "{test} on the stand-in: {status}\n{output}\n{errors}");
    None
}
