//! Runs at one of whose calls to the disk something goes wrong, and what they leave.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Output, Stdio},
};

use serde_json::Value;

use super::{Home, Ran};

/// The output of a program: every file below a folder, including hidden ones, or the file itself; without timings.
pub type Tree = BTreeMap<PathBuf, Vec<u8>>;

/// Numbers that no two runs have in common.
const TIMES: [&str; 4] = ["cells_per_second", "seconds", "wait.data", "trained"];

pub fn tree(path: &Path) -> Tree {
    fn walk(path: &Path, root: &Path, found: &mut Tree) {
        if path.is_dir() {
            for entry in fs::read_dir(path).unwrap() {
                walk(&entry.unwrap().path(), root, found);
            }
        } else if path.exists() {
            let name = path.strip_prefix(root).unwrap().to_path_buf();
            let bytes = fs::read(path).unwrap();
            let bytes = if name.ends_with("pipeline.json") { Vec::new() } else { without_times(&name, bytes) };
            found.insert(name, bytes);
        }
    }
    let mut found = Tree::new();
    walk(path, path, &mut found);
    found
}

fn without_times(name: &Path, bytes: Vec<u8>) -> Vec<u8> {
    fn strip(value: &mut Value) {
        match value {
            Value::Object(fields) => {
                fields.retain(|key, _| !TIMES.contains(&key.as_str()));
                fields.values_mut().for_each(strip);
            }
            Value::Array(items) => items.iter_mut().for_each(strip),
            _ => {}
        }
    }
    let is = |end: &str| name.to_string_lossy().ends_with(end);
    if !is("history.jsonl") && !is("state.json") {
        return bytes;
    }
    let text = String::from_utf8(bytes).unwrap();
    let documents = serde_json::Deserializer::from_str(&text).into_iter::<Value>();
    let stripped = documents.map(|document| {
        let mut document = document.unwrap();
        strip(&mut document);
        // A checksum is of the times as well.
        if is("state.json") {
            document.as_object_mut().unwrap().remove("checksum");
        }
        document.to_string() + "\n"
    });
    stripped.collect::<String>().into_bytes()
}

#[track_caller]
pub fn same(found: &Tree, expected: &Tree, about: &str) {
    let names = |tree: &Tree| tree.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(found), names(expected), "{about}");
    for (name, bytes) in found {
        assert!(*bytes == expected[name], "{about}: {} differs", name.display());
    }
}

/// Visible names in a home, below which nothing is looked at.
pub fn visible(home: &Home) -> Vec<String> {
    let names = fs::read_dir(home.path("")).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| !name.starts_with('.')).collect();
    names.sort();
    names
}

/// Hidden names of what is in the making, anywhere in a home.
pub fn in_the_making(home: &Home) -> Vec<PathBuf> {
    let hidden = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().contains(".tmp-"));
    home.listing().into_iter().map(|(path, _)| path).filter(hidden).collect()
}

impl Home {
    /// A command in whose environment a fault is named, such as `kill@7`.
    pub fn run_with_fault(&self, line: &str, fault: &str) -> Ran {
        let output = self.command(line).env("PERTURBINE_FAULT", fault).output().unwrap();
        let Output { status, stdout, stderr } = output;
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Ran { code: status.code().unwrap_or(-1), stdout: text(stdout), stderr: text(stderr) }
    }

    /// The calls that a command makes to the disk, as `write PATH`, in their order.
    #[track_caller]
    pub fn disk_calls(&self, line: &str) -> Vec<String> {
        let log = self.path(".calls");
        let mut command = self.command(line);
        let output = command.env("PERTURBINE_DISK_LOG", &log).stdout(Stdio::null()).output().unwrap();
        assert!(output.status.success(), "{line}\n{}", String::from_utf8_lossy(&output.stderr));
        let text = fs::read_to_string(&log).unwrap();
        fs::remove_file(log).unwrap();
        text.lines().map(|line| line.split_once(' ').unwrap().1.to_owned()).collect()
    }
}

/// Numbers up to `last`: all where the environment says `PERTURBINE_LONG_TESTS`, else some, the first and the last among them.
pub fn some_of(last: usize, some: usize) -> Vec<usize> {
    let step = if super::long_tests() { 1 } else { last.div_ceil(some).max(1) };
    let mut numbers: Vec<usize> = (1..=last).step_by(step).collect();
    if numbers.last() != Some(&last) {
        numbers.push(last);
    }
    numbers
}
