//! HDF5 files are read in their own process: to the same rows, and whatever happens to that process.

use std::{
    ffi::OsStr,
    os::unix::{ffi::OsStrExt, fs::PermissionsExt},
    path::Path,
    process::{Command, Output},
    sync::Arc,
};

use schemas::error::ExitCode;
use stages::formats::{
    format::{Choice, open},
    source::{Source, chunks},
    worker::RemoteSource,
};

use crate::support::{Home, h5ad::h5ad};

const WORKER: &str = env!("CARGO_BIN_EXE_perturbine");

#[test]
fn another_process_reads_what_this_one_would_have_read() {
    let home = Home::new();
    h5ad(&home, "s.h5ad", |_| {});
    let path = home.path("s.h5ad");
    let here = open(&path, &Choice::default()).unwrap();
    let there = open(&path, &Choice { worker: Some(WORKER.into()), ..Choice::default() }).unwrap();
    assert_eq!(there.origin(), here.origin());
    assert_eq!((there.cells(), there.nonzeros(), there.var()), (here.cells(), here.nonzeros(), here.var()));
    assert_eq!(there.obs(7..9, &[2, 0]).unwrap(), here.obs(7..9, &[2, 0]).unwrap());
    let read = |source: Arc<dyn Source>| chunks(source).map(Result::unwrap).collect::<Vec<_>>();
    for (there, here) in read(there).into_iter().zip(read(here)) {
        assert_eq!((there.expression, there.obs), (here.expression, here.obs));
    }
}

#[test]
fn an_error_of_the_file_comes_back_with_its_words_and_its_mend() {
    let home = Home::new();
    std::fs::write(home.path("no.h5ad"), b"this is no HDF5 file, though it is long enough to hold a header").unwrap();
    h5ad(&home, "s.h5ad", |_| {});
    for (name, layer) in [("no.h5ad", None), ("s.h5ad", Some("counts".to_owned()))] {
        let path = home.path(name);
        let choice = Choice { layer, ..Choice::default() };
        let here = open(&path, &choice).unwrap_err();
        let there = open(&path, &Choice { worker: Some(WORKER.into()), ..choice }).unwrap_err();
        assert_eq!(there.to_string(), here.to_string());
        assert_eq!((there.exit_code(), there.hint()), (here.exit_code(), here.hint()));
    }
}

#[test]
fn a_process_that_dies_or_talks_nonsense_is_an_error_of_the_file() {
    let home = Home::new();
    h5ad(&home, "s.h5ad", |_| {});
    for program in ["/bin/false", "/bin/cat", "/bin/ls"] {
        let error = RemoteSource::open(Path::new(program), &home.path("s.h5ad"), &Choice::default()).unwrap_err();
        assert_eq!(error.exit_code(), ExitCode::Data, "{program}: {error}");
        assert!(error.to_string().contains("s.h5ad: the process that read it has died"), "{program}: {error}");
    }
}

#[test]
fn a_file_that_is_not_there_is_missing_and_not_damaged() {
    let home = Home::new();
    let error = RemoteSource::open(Path::new(WORKER), &home.path("nowhere.h5ad"), &Choice::default()).unwrap_err();
    assert_eq!(error.exit_code(), ExitCode::MissingInput, "{error}");
}

/// The exit code and the error of an `ingest` of `s.h5ad` whose worker runs these commands first.
fn ingest_with_worker(home: &Home, first: &str) -> (Option<i32>, String) {
    let folder = home.path("program");
    std::fs::create_dir(&folder).unwrap();
    let program = folder.join("perturbine-itself");
    if std::fs::hard_link(env!("CARGO_BIN_EXE_perturbine"), &program).is_err() {
        std::fs::copy(env!("CARGO_BIN_EXE_perturbine"), &program).unwrap();
    }
    write_program(&folder.join("perturbine"), &format!("#!/bin/sh\n{first}\nexec '{WORKER}' \"$@\"\n"));
    let mut command = Command::new(&program);
    command.args(["ingest", "s.h5ad", "--out", "s.atlas"]).current_dir(home.path("."));
    let Output { status, stderr, .. } = command.output().unwrap();
    std::fs::remove_dir_all(folder).unwrap();
    (status.code(), String::from_utf8(stderr).unwrap())
}

fn write_program(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o755)).unwrap();
}

#[test]
fn a_disk_that_is_full_for_the_process_ends_the_command_with_its_own_code() {
    let home = Home::new();
    // The rows of a square matrix may as well be its columns, which the process writes to a scratch file.
    home.json("simulate --cells 60 --genes 60 --conditions 4 --cell-types 2 --out s.h5ad");
    let mut bytes = std::fs::read(home.path("s.h5ad")).unwrap();
    let encoding = bytes.windows(10).position(|bytes| bytes == b"csr_matrix").unwrap();
    bytes[encoding + 2] = b'c';
    std::fs::write(home.path("s.h5ad"), bytes).unwrap();
    // Its first call to the disk creates a folder, the third one writes.
    for (call, action) in [(1, "create"), (3, "write")] {
        let (code, message) = ingest_with_worker(&home, &format!("export PERTURBINE_FAULT=full@{call}"));
        assert_eq!(code, Some(28), "{message}");
        assert!(message.contains(&format!("can't {action} ")) && message.contains("/perturbine-"), "{message}");
        assert!(!home.path("s.atlas").exists());
    }
    assert_eq!(ingest_with_worker(&home, "").0, Some(0));
}

#[test]
fn a_file_that_is_gone_when_the_process_opens_it_is_missing() {
    let home = Home::new();
    h5ad(&home, "s.h5ad", |_| {});
    let (code, message) = ingest_with_worker(&home, "rm s.h5ad");
    assert_eq!(code, Some(66), "{message}");
    assert!(message.contains("s.h5ad"), "{message}");
}

#[test]
fn a_path_that_is_not_utf_8_is_read_and_published_like_any_other() {
    let home = Home::new();
    h5ad(&home, "s.h5ad", |_| {});
    let name = OsStr::from_bytes(b"s\xff.h5ad");
    std::fs::rename(home.path("s.h5ad"), home.path(".").join(name)).unwrap();
    for (line, code) in [("ingest --out s.atlas", 0), ("inspect", 0), ("ingest --in-place --out n.atlas", 2)] {
        let ran = home.command(line).arg(name).output().unwrap();
        let message = String::from_utf8_lossy(&ran.stderr);
        assert_eq!(ran.status.code(), Some(code), "{line}: {message}");
    }
    let out = OsStr::from_bytes(b"out\xff");
    for line in ["split s.atlas --scheme random:0.5 --name n", "verify s.atlas"] {
        assert_eq!(home.run(line).code, 0, "{line}");
    }
    std::fs::rename(home.path("s.atlas"), home.path(".").join(out)).unwrap();
    for line in ["split --scheme random:0.5 --name m", "verify"] {
        let ran = home.command(line).arg(out).output().unwrap();
        assert_eq!(ran.status.code(), Some(0), "{line}: {}", String::from_utf8_lossy(&ran.stderr));
    }
}

#[test]
fn what_the_other_process_warns_of_is_told() {
    let home = Home::new();
    h5ad(&home, "s.h5ad", |_| {});
    // Columns of a kind that nobody knows.
    let mut bytes = std::fs::read(home.path("s.h5ad")).unwrap();
    let places: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at..].starts_with(b"categorical")).collect();
    assert!(!places.is_empty());
    for at in places {
        bytes[at + 8] = b'x';
    }
    std::fs::write(home.path("odd.h5ad"), bytes).unwrap();
    let ran = home.run("inspect odd.h5ad");
    let warning = "obs: column `condition` has an unsupported type and is left out";
    assert!(ran.code == 0 && ran.stderr.contains(warning), "{}", ran.stderr);
}

#[test]
fn a_process_that_has_much_to_say_before_it_dies_is_not_waited_for() {
    let home = Home::new();
    h5ad(&home, "s.h5ad", |_| {});
    let program = home.path("talkative");
    let script = "#!/bin/sh\nyes 'there is much to say' | head -n 20000 >&2\necho 'the last word' >&2\nexit 3\n";
    write_program(&program, script);
    let error = RemoteSource::open(&program, &home.path("s.h5ad"), &Choice::default()).unwrap_err().to_string();
    assert!(error.contains("has died (exit status: 3; it said: the last word)"), "{error}");
}
