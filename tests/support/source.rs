//! The repository as text: its files, and the types that they define.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Folders that hold nothing of ours; data and models that a user made lie where git ignores them.
const FOREIGN: [&str; 5] = [".git", ".libtorch", "target", "demo", "__pycache__"];

pub struct Source {
    /// Relative to the repository, with `/`.
    pub path: String,
    pub text: String,
}

pub fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every text file of the repository, sorted by path.
pub fn files() -> Vec<Source> {
    let mut found = Vec::new();
    collect(&repository(), &mut found);
    found.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(found.iter().any(|file| file.path == "pipeline/flows/lib.rs"), "the repository was not found");
    found
}

/// Rust sources below any of some folders; no folder but those of benchmarks and examples may be empty.
pub fn sources(folders: &[&str]) -> Vec<Source> {
    let below = |path: &str| folders.iter().any(|folder| path.starts_with(&format!("{folder}/")));
    let found: Vec<Source> =
        files().into_iter().filter(|file| file.path.ends_with(".rs") && below(&file.path)).collect();
    for folder in folders.iter().filter(|folder| !["benches", "examples"].contains(*folder)) {
        assert!(found.iter().any(|file| file.path.starts_with(folder)), "there is nothing in {folder}");
    }
    found
}

fn collect(folder: &Path, found: &mut Vec<Source>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            if !FOREIGN.contains(&name.as_str()) && !name.ends_with(".atlas") {
                collect(&path, found);
            }
        } else if let Ok(text) = fs::read_to_string(&path) {
            let path = path.strip_prefix(repository()).unwrap().to_string_lossy().replace('\\', "/");
            // In a worktree `.git` is a file.
            if path != ".git" {
                found.push(Source { path, text });
            }
        }
    }
}

impl Source {
    /// The text before the unit tests; nothing of a file of tests.
    pub fn product(&self) -> &str {
        let is_test = self.path.split('/').any(|part| ["tests", "tests.rs"].contains(&part));
        let product = self.text.split("\n#[cfg(test)]\nmod tests {").next().filter(|_| !is_test);
        product.unwrap_or_default()
    }

    /// The names of the types that the product's code defines, be it by `arguments!`.
    pub fn defined_types(&self) -> Vec<String> {
        let defined = |line: &str| {
            let item = line.trim_start();
            let item =
                item.strip_prefix("pub").map_or(item, |rest| rest.split_once(") ").map_or(rest, |(_, item)| item));
            let name = match names(item)[..] {
                // Where it is indented, a `type` is an item of a trait.
                ["type", name, ..] if !line.starts_with(' ') => name,
                ["struct" | "enum" | "trait" | "union", name, ..] => name,
                [name, ..] if item.ends_with("\" {") && item.contains(">, \"") => name,
                _ => return None,
            };
            name.starts_with(|first: char| first.is_ascii_uppercase()).then(|| name.to_owned())
        };
        self.product().lines().filter(|line| !line.trim_start().starts_with("//")).filter_map(defined).collect()
    }

    /// The module's own documentation.
    pub fn docs(&self) -> String {
        self.text.lines().filter(|line| line.starts_with("//!")).collect::<Vec<_>>().join("\n")
    }
}

/// The names of a line of code, whole: `tch::Device` has `tch` and `Device`.
pub fn names(line: &str) -> Vec<&str> {
    line.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_')
        .filter(|name| !name.is_empty())
        .collect()
}
