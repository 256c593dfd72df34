//! The architecture's rules that neither cargo nor clippy can keep (see clippy.toml), checked by reading the files.

#![allow(clippy::disallowed_methods, reason = "tests write files and start threads of their own")]
#![allow(clippy::unwrap_used, reason = "a test fails where it panics")]
#![allow(unreachable_pub, reason = "a test has no outside that its support could be private to")]

mod support {
    pub mod source;
}

use std::collections::BTreeMap;

use schemas::{Error, error::ExitCode};

use self::support::source::{Source, files, names, repository, sources};

/// Lines that break a rule, as `path:line: text`.
fn offences(sources: &[Source], breaks: impl Fn(&str) -> bool) -> Vec<String> {
    let lines = sources.iter().flat_map(|file| (1..).zip(file.text.lines()).map(|(at, line)| (&file.path, at, line)));
    lines.filter(|(.., line)| breaks(line)).map(|(path, at, line)| format!("{path}:{at}: {}", line.trim())).collect()
}

#[track_caller]
fn none(rule: &str, offences: &[String]) {
    assert!(offences.is_empty(), "{rule}:\n  {}", offences.join("\n  "));
}

/// The rooms that each room of `stages` uses outside its tests, as cargo keeps it: a room uses only rooms listed before it.
const ROOMS: &str = "\
stage:
storage:
model_card: storage
simd:
packed_rows:
statistics: simd
kernels: simd
shrinkage: kernels simd
torch: kernels stage storage
device_kernels: kernels torch
arrays: stage
hdf5: arrays storage
formats: arrays hdf5 stage storage
reader: arrays packed_rows simd stage statistics storage
encoder: reader stage storage
batcher: packed_rows reader simd stage
offset: shrinkage statistics torch
model: device_kernels kernels model_card offset simd stage storage torch
trainer: device_kernels model model_card offset reader shrinkage stage statistics storage torch
predictor: model model_card reader stage statistics storage torch
sink: hdf5 simd stage storage
ingest: arrays formats packed_rows reader stage statistics storage
evaluate: formats reader simd sink stage statistics storage
report: evaluate statistics
simulate: stage
";

#[test]
fn rooms_use_only_the_rooms_below_them() {
    let listed: Vec<&str> = ROOMS.lines().map(|line| line.split(':').next().unwrap()).collect();
    let found: String = listed
        .iter()
        .map(|room| {
            let path = ["stages", "stages/support"].map(|folder| format!("{folder}/{room}/Cargo.toml"));
            let path = path.iter().find(|path| repository().join(path).exists()).unwrap();
            let manifest = manifest(path);
            let dependencies = manifest["dependencies"].as_table().unwrap().keys();
            let mut used: Vec<&str> = dependencies.map(String::as_str).filter(|name| listed.contains(name)).collect();
            used.sort_unstable();
            format!("{room}: {}", used.join(" ")).trim_end().to_owned() + "\n"
        })
        .collect();
    assert_eq!(found, ROOMS, "the graph of the rooms changed; ARCHITECTURE.md and stages/README.md describe it");
    for (at, line) in ROOMS.lines().enumerate() {
        let used = line.split(':').nth(1).unwrap().split_whitespace();
        let above: Vec<&str> = used.filter(|room| !listed[..at].contains(room)).collect();
        assert!(above.is_empty(), "{line}: {above:?} are not below it");
    }
    let members = manifest("Cargo.toml");
    let members = members["workspace"]["members"].as_array().unwrap().iter().map(|member| member.as_str().unwrap());
    let rooms = members.filter(|member| member.starts_with("stages/")).count();
    assert_eq!(rooms, listed.len(), "every room is listed");
}

#[test]
fn schemas_and_the_runtime_use_no_room_but_stage_and_no_libtorch() {
    for path in ["schemas/Cargo.toml", "pipeline/runtime/Cargo.toml"] {
        let manifest = manifest(path);
        let rooms = ROOMS.lines().filter_map(|line| line.split(':').next()).filter(|room| *room != "stage");
        for foreign in rooms.chain(["stages", "perturbine", "tch", "torch-sys"]) {
            assert!(!manifest["dependencies"].as_table().unwrap().contains_key(foreign), "{path} depends on {foreign}");
        }
    }
}

#[test]
fn what_users_start_names_no_room_with_libtorch() {
    let with_libtorch = ["torch", "device_kernels", "offset", "model", "trainer", "predictor"];
    for path in ["pipeline/flows/Cargo.toml", "pipeline/cli/Cargo.toml"] {
        let manifest = manifest(path);
        for foreign in with_libtorch.iter().chain(&["stages", "perturbine", "tch", "torch-sys"]) {
            assert!(
                !manifest["dependencies"].as_table().unwrap().contains_key(*foreign),
                "{path} depends on {foreign}"
            );
        }
    }
}

#[test]
fn only_flows_say_which_stage_follows_which() {
    let elsewhere: Vec<Source> = sources(&["schemas", "stages", "pipeline"])
        .into_iter()
        .filter(|file| {
            !["flows", "models", "runtime"].iter().any(|of| file.path.starts_with(&format!("pipeline/{of}/")))
        })
        .collect();
    let joins = |line: &str| line.contains("Pipeline::from_source(") && !line.trim_start().starts_with("//");
    none("the order of stages stands in pipeline/flows/ and pipeline/models/", &offences(&elsewhere, joins));
}

#[test]
fn all_rooms_but_four_forbid_unsafe_code() {
    let rooms = sources(&["stages"]).into_iter().filter(|file| file.path.ends_with("/src/lib.rs"));
    let unsafe_rooms: Vec<String> =
        rooms.filter(|file| !file.text.contains("#![forbid(unsafe_code)]")).map(|file| file.path).collect();
    let expected = ["packed_rows", "simd", "storage", "torch"].map(|room| format!("stages/support/{room}/src/lib.rs"));
    assert_eq!(unsafe_rooms, expected);
}

#[test]
fn no_file_is_long_without_a_reason() {
    let all = sources(&["schemas", "stages", "pipeline", "tests", "examples", "benches"]);
    let long = all.iter().filter(|file| file.text.lines().count() > 400 && !file.docs().contains("long because"));
    let found: Vec<String> = long.map(|file| format!("{}: {} lines", file.path, file.text.lines().count())).collect();
    none("a file has 400 lines at most, or its docs tell that it is `long because` ..", &found);
}

/// Definitions of one thing in two places: a stand-in for what a build leaves out.
const STAND_INS: [&str; 1] = ["ModelCommand"];

#[test]
fn a_type_name_stands_for_one_thing() {
    let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for file in sources(&["schemas", "stages", "pipeline"]) {
        for name in file.defined_types() {
            places.entry(name).or_default().push(file.path.clone());
        }
    }
    assert!(places.len() > 500, "types are found");
    places.retain(|name, places| places.len() > 1 && !STAND_INS.contains(&name.as_str()));
    let found: Vec<String> = places.iter().map(|(name, places)| format!("{name}: {}", places.join(", "))).collect();
    none("two types have one name", &found);
}

#[test]
fn an_example_is_short() {
    let long = sources(&["examples"]).into_iter().filter(|file| file.text.lines().count() >= 80);
    none("an example has fewer than 80 lines", &long.map(|file| file.path).collect::<Vec<_>>());
}

#[test]
fn nothing_is_left_to_do() {
    let marks = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];
    let all: Vec<Source> = files().into_iter().filter(|file| file.path != "Cargo.lock").collect();
    let found = offences(&all, |line| names(line).iter().any(|name| marks.contains(name)));
    none("work that is left belongs to the issues", &found);
}

#[test]
fn no_code_is_commented_out() {
    let is_code = |line: &str| {
        let Some(comment) = line.trim_start().strip_prefix("// ") else { return false };
        let ends = [";", "{", "}", "},", ");"].iter().any(|end| comment.trim_end().ends_with(end));
        ends && ["(", " = ", "::", "=>"].iter().any(|sign| comment.contains(sign))
    };
    let all = sources(&["schemas", "stages", "pipeline", "tests", "examples", "benches"]);
    none("git remembers what was there", &offences(&all, is_code));
}

#[test]
fn nothing_tells_where_it_was_written() {
    let homes = ["home", "root", "Users", "work", "mnt"].map(|name| format!("/{name}/"));
    let hosts = [
        "github.com",
        "keepachangelog.com",
        "semver.org",
        "www.w3.org",
        "doi.org",
        "docs.rs",
        "crates.io",
        "www.apache.org",
        "arrow.apache.org",
        "parquet.apache.org",
        "www.rfc-editor.org",
        "localhost",
        "127.0.0.1",
    ];
    let mut found = Vec::new();
    for file in files().iter().filter(|file| file.path != "Cargo.lock") {
        for (at, line) in file.text.lines().enumerate() {
            let starts = |path: &String| {
                line.match_indices(path.as_str()).any(|(at, _)| {
                    // Inside a relative path a name stands before the slash; before an absolute one there is none.
                    !line[..at].ends_with(|before: char| before.is_alphanumeric() || "._-}*)".contains(before))
                })
            };
            let foreign_host = line.split("://").skip(1).any(|rest| {
                let host: String = rest.chars().take_while(|c| c.is_alphanumeric() || ".-".contains(*c)).collect();
                host.contains('.') && !hosts.contains(&host.as_str())
            });
            if homes.iter().any(starts) || foreign_host {
                found.push(format!("{}:{}: {}", file.path, at + 1, line.trim()));
            }
        }
    }
    none("paths are relative, hosts are public", &found);
}

fn manifest(path: &str) -> toml::Table {
    std::fs::read_to_string(repository().join(path)).unwrap().parse().unwrap()
}

#[test]
fn faults_can_be_asked_for_in_tests_alone() {
    let root = manifest("Cargo.toml");
    for (path, features) in
        [("Cargo.toml", &root["features"]), ("stages/Cargo.toml", &manifest("stages/Cargo.toml")["features"])]
    {
        assert!(features.get("faults").is_some(), "{path}");
        let default: Vec<&str> =
            features["default"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
        assert!(!default.contains(&"faults"), "{path}: the released program has no faults on request");
    }
    let of_tests = root["dev-dependencies"]["stages"]["features"].as_array().unwrap();
    assert!(of_tests.iter().any(|name| name.as_str() == Some("faults")), "tests have");
}

#[test]
fn every_member_keeps_the_lints_of_the_workspace() {
    let root = manifest("Cargo.toml");
    let members = root["workspace"]["members"].as_array().unwrap().iter().map(|member| member.as_str().unwrap());
    let manifests = members.map(|member| format!("{member}/Cargo.toml")).chain(["Cargo.toml".to_owned()]);
    for path in manifests {
        let lints = manifest(&path).get("lints").and_then(|lints| lints.get("workspace")?.as_bool());
        assert_eq!(lints, Some(true), "{path} does not say [lints] workspace = true");
    }
    let lints = &root["workspace"]["lints"];
    for lint in ["missing_docs", "unreachable_pub", "unsafe_code"] {
        assert_eq!(lints["rust"][lint].as_str(), Some("deny"), "{lint}");
    }
    let clippy = ["allow_attributes_without_reason", "cast_possible_truncation", "dbg_macro", "print_stderr"];
    for lint in clippy.into_iter().chain(["print_stdout", "todo", "unwrap_used"]) {
        assert_eq!(lints["clippy"][lint].as_str(), Some("deny"), "{lint}");
    }
    assert_eq!(lints["clippy"]["all"]["level"].as_str(), Some("deny"));
}

#[test]
fn libraries_print_nothing() {
    let lifted =
        sources(&["schemas", "stages", "pipeline"]).into_iter().filter(|file| file.product().contains("print_std"));
    let lifted: Vec<String> = lifted.map(|file| file.path).collect();
    assert!(
        lifted.is_empty(),
        "{lifted:?}: what is written to stdout and stderr goes through pipeline/cli/show.rs, where a failure is not a panic"
    );
}

#[test]
fn exit_codes_are_those_that_scripts_rely_on() {
    let codes = [
        (ExitCode::Usage, 2),
        (ExitCode::NoSpace, 28),
        (ExitCode::Data, 65),
        (ExitCode::MissingInput, 66),
        (ExitCode::Bug, 70),
        (ExitCode::CantCreate, 73),
        (ExitCode::Io, 74),
        (ExitCode::Stopped, 75),
    ];
    for (code, number) in codes {
        assert_eq!(code as u8, number, "{code:?}");
    }
    let refused = std::io::ErrorKind::PermissionDenied;
    assert_eq!(Error::io("create", "out")(refused.into()).exit_code(), ExitCode::CantCreate);
    assert_eq!(Error::io("read", "in")(refused.into()).exit_code(), ExitCode::Io);
    assert_eq!(Error::io("open", "in")(std::io::ErrorKind::NotFound.into()).exit_code(), ExitCode::MissingInput);
    assert_eq!(Error::unknown("key", "a", []).exit_code(), ExitCode::Data);
    assert_eq!(Error::damaged("a", "cut short").exit_code(), ExitCode::Data);
}
