//! The repository as text: its files, and of Rust sources the code without comments and strings.

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
    assert!(found.iter().any(|file| file.path == "pipeline/flows.rs"), "the repository was not found");
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
    /// The code, line by line: comments are gone, strings and characters are empty.
    pub fn code(&self) -> Vec<String> {
        strip(&self.text).lines().map(str::to_owned).collect()
    }

    /// The code of the product: what stands before a file's tests, nothing of files that are tests.
    pub fn product_code(&self) -> Vec<String> {
        let is_test = self.path.split('/').any(|part| ["tests", "tests.rs"].contains(&part))
            || self.text.contains("#![cfg(test)]")
            || self.is_declared_as_a_test();
        let code = self.code();
        // Those in files of their own end nothing.
        let starts_tests = |pair: &[String]| pair[0].trim() == "#[cfg(test)]" && !pair[1].trim_end().ends_with(';');
        let tests = code.windows(2).position(starts_tests).unwrap_or(code.len());
        if is_test { Vec::new() } else { code[..tests].to_vec() }
    }

    /// The names of the types that the product's code defines, be it by `arguments!`.
    pub fn defined_types(&self) -> Vec<String> {
        let defined = |line: &String| {
            let item = line.trim_start();
            let item =
                item.strip_prefix("pub").map_or(item, |rest| rest.split_once(") ").map_or(rest, |(_, item)| item));
            let name = match names(item)[..] {
                // Where it is indented, a `type` is an item of a trait.
                ["type", name, ..] if !line.starts_with(' ') => name,
                ["struct" | "enum" | "trait" | "union", name, ..] => name,
                [name, ..] if item.contains(">, \"\" {") => name,
                _ => return None,
            };
            name.starts_with(|first: char| first.is_ascii_uppercase()).then(|| name.to_owned())
        };
        self.product_code().iter().filter_map(defined).collect()
    }

    /// Whether the module that holds this one says `#[cfg(test)] mod name;`.
    fn is_declared_as_a_test(&self) -> bool {
        let path = repository().join(&self.path);
        let (folder, stem) = (path.parent().unwrap(), path.file_stem().unwrap().to_string_lossy());
        let parents = [folder.join("mod.rs"), folder.join("lib.rs"), folder.with_extension("rs")];
        parents.iter().filter_map(|parent| fs::read_to_string(parent).ok()).any(|text| {
            let lines: Vec<&str> = text.lines().map(str::trim).collect();
            lines.windows(2).any(|pair| pair[0] == "#[cfg(test)]" && pair[1] == format!("mod {stem};"))
        })
    }

    /// The module's own documentation.
    pub fn docs(&self) -> String {
        self.text.lines().filter(|line| line.starts_with("//!")).collect::<Vec<_>>().join("\n")
    }
}

/// The words of a line of code: `BatchPlan::next_cell` has `batch`, `plan`, `next` and `cell`.
pub fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut before = ' ';
    for letter in line.chars() {
        let starts = letter.is_ascii_uppercase() && !before.is_ascii_uppercase();
        if starts || !letter.is_ascii_alphabetic() {
            words.push(String::new());
        }
        if letter.is_ascii_alphabetic() {
            words.last_mut().unwrap().push(letter.to_ascii_lowercase());
        }
        before = letter;
    }
    words.retain(|word| !word.is_empty());
    words
}

/// The names of a line of code, whole: `tch::Device` has `tch` and `Device`.
pub fn names(line: &str) -> Vec<&str> {
    line.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_')
        .filter(|name| !name.is_empty())
        .collect()
}

/// Rust text without its comments, its strings and characters emptied; line breaks stay where they were.
fn strip(text: &str) -> String {
    let letters: Vec<char> = text.chars().collect();
    let at = |index: usize| letters.get(index).copied().unwrap_or('\0');
    let mut out = String::new();
    let mut i = 0;
    while i < letters.len() {
        match (at(i), at(i + 1)) {
            ('/', '/') => {
                while i < letters.len() && at(i) != '\n' {
                    i += 1;
                }
            }
            ('/', '*') => {
                let mut depth = 0;
                loop {
                    match (at(i), at(i + 1)) {
                        ('/', '*') => (depth, i) = (depth + 1, i + 2),
                        ('*', '/') => (depth, i) = (depth - 1, i + 2),
                        (letter, _) => {
                            out.extend((letter == '\n').then_some('\n'));
                            i += 1;
                        }
                    }
                    if depth == 0 || letters.len() <= i {
                        break;
                    }
                }
            }
            ('r', '"' | '#') if !is_name(at(i.wrapping_sub(1))) || at(i.wrapping_sub(1)) == 'b' => {
                let hashes = letters[i + 1..].iter().take_while(|letter| **letter == '#').count();
                if at(i + 1 + hashes) != '"' {
                    out.push('r');
                    i += 1;
                    continue;
                }
                i += hashes + 2;
                while i < letters.len() && !(at(i) == '"' && (1..=hashes).all(|n| at(i + n) == '#')) {
                    out.extend((at(i) == '\n').then_some('\n'));
                    i += 1;
                }
                out.push_str("\"\"");
                i += 1 + hashes;
            }
            ('"', _) => {
                i += 1;
                while i < letters.len() && at(i) != '"' {
                    out.extend((at(i) == '\n').then_some('\n'));
                    i += if at(i) == '\\' && at(i + 1) != '\n' { 2 } else { 1 };
                }
                out.push_str("\"\"");
                i += 1;
            }
            ('\'', '\\') => {
                i += 3;
                while i < letters.len() && at(i) != '\'' {
                    i += 1;
                }
                out.push_str("''");
                i += 1;
            }
            ('\'', _) if at(i + 2) == '\'' => {
                out.push_str("''");
                i += 3;
            }
            (letter, _) => {
                out.push(letter);
                i += 1;
            }
        }
    }
    out
}

fn is_name(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || letter == '_'
}

#[test]
fn comments_and_strings_are_no_code() {
    let text = "let a = \"// {\\\"}\"; // tail\n/* x\n/* y */ */let b = r#\"\"z\"\"#;\nf('\"', '\\'', 'a, b\"\")";
    assert_eq!(strip(text), "let a = \"\"; \n\nlet b = \"\";\nf('', '', 'a, b\"\")");
    assert_eq!(words("BatchPlan::next_cell(XYZ2)"), ["batch", "plan", "next", "cell", "xyz"]);
    assert_eq!(names("use tch::{Device, no_grad};"), ["use", "tch", "Device", "no_grad"]);
}
