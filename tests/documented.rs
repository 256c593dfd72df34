//! The pages for users are right: every command in a block marked `console` runs, page by page, in a folder of its own;
//! `docs/cli.md` has the program's help; links lead to pages and headings that exist.
//!
//! Commands on data that a clone lacks are in blocks marked `text` or `sh`, which nothing runs.

#![allow(clippy::disallowed_methods, reason = "tests write files and start threads of their own")]
#![allow(clippy::unwrap_used, reason = "a test fails where it panics")]
#![allow(unreachable_pub, reason = "a test has no outside that its support could be private to")]

#[path = "documented/recipes.rs"]
mod recipes;
mod support;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use self::support::Home;

/// A test for each page, so that they run beside each other.
macro_rules! pages {
    ($($name:ident: $page:literal,)*) => {
        const RUN: &[&str] = &[$($page),*];

        $(#[test]
        fn $name() {
            run($page);
        })*
    };
}

pages! {
    the_readme_runs: "README.md",
    the_page_from_cpa_tools_runs: "docs/from-cpa-tools.md",
    the_page_from_scanpy_runs: "docs/from-scanpy.md",
    the_page_of_inputs_runs: "docs/inputs.md",
    the_page_of_predictions_runs: "docs/predictions.md",
    the_page_of_training_runs: "docs/training.md",
}

#[test]
fn every_page_with_commands_is_run() {
    let with_commands: Vec<String> =
        pages().into_iter().filter(|page| !commands(page, &read(page)).is_empty()).collect();
    assert_eq!(with_commands, RUN);
}

#[test]
fn the_page_of_flags_is_the_help_of_the_program() {
    let page = read("docs/cli.md");
    let sections: Vec<(&str, &str)> = page.split("\n## perturbine").skip(1).map(titled).collect();
    let home = Home::new();
    let update = "scripts/cli_docs.py PERTURBINE > docs/cli.md takes a deliberate change over";
    for (command, text) in &sections {
        let output = home.command(&format!("{command} --help")).env_remove("COLUMNS").output().unwrap();
        let help = String::from_utf8(output.stdout).unwrap();
        assert_eq!(help.trim_end(), *text, "docs/cli.md has another help of `{command}`; {update}");
        for listed in listed(text) {
            let name = format!("{command} {listed}");
            let has = sections.iter().any(|(command, _)| *command == name.trim_start());
            assert!(has, "docs/cli.md lacks `{name}`; {update}");
        }
    }
    assert!(sections.first().is_some_and(|(command, _)| command.is_empty()), "docs/cli.md begins with the program");
}

#[test]
fn links_lead_to_pages_and_headings_that_exist() {
    let root = root();
    let mut broken = Vec::new();
    let others = ["ARCHITECTURE.md", "CHANGELOG.md", "benches/QUALITY.md", "benches/RESULTS.md"].map(str::to_owned);
    for page in pages().into_iter().chain(others) {
        let text = read(&page);
        for link in links(&text) {
            let (path, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = if path.is_empty() { root.join(&page) } else { root.join(&page).parent().unwrap().join(path) };
            let leads = target.exists() && (heading.is_empty() || headings(&target).contains(heading));
            if !leads {
                broken.push(format!("{page}: {link}"));
            }
        }
    }
    assert!(broken.is_empty(), "links that lead nowhere:\n{}", broken.join("\n"));
}

/// Runs a page's commands in order, in a folder that is empty at first.
#[track_caller]
fn run(page: &str) {
    let home = Home::new();
    for (line, words) in commands(page, &read(page)) {
        let output = home.command("").args(&words).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{page}:{line}: perturbine {} failed\n{stderr}", words.join(" "));
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_path_buf()
}

fn read(page: &str) -> String {
    fs::read_to_string(root().join(page)).unwrap()
}

/// The pages for users, by their paths in the repository, sorted.
fn pages() -> Vec<String> {
    let files = fs::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap().file_name());
    let names = files.map(|name| name.into_string().unwrap()).filter(|name| name.ends_with(".md"));
    let mut pages: Vec<String> = names.map(|name| format!("docs/{name}")).collect();
    pages.push("README.md".to_owned());
    pages.sort();
    pages
}

/// The commands of a page, as words behind `perturbine`, with their line numbers.
#[track_caller]
fn commands(page: &str, text: &str) -> Vec<(usize, Vec<String>)> {
    let (mut commands, mut fence) = (Vec::new(), None);
    for (at, line) in text.lines().enumerate() {
        let line = line.trim_start();
        match (fence, line.strip_prefix("```")) {
            (None, Some(language)) => fence = Some(language.trim()),
            (Some(_), Some(_)) => fence = None,
            (Some("console"), None) => {
                let Some(typed) = line.strip_prefix("$ ") else { continue };
                let command = typed.strip_prefix("perturbine ");
                let command = command.unwrap_or_else(|| panic!("{page}:{}: not a command of ours: {typed}", at + 1));
                commands.push((at + 1, words(command)));
            }
            _ => {}
        }
    }
    assert!(fence.is_none(), "{page}: a block is not closed");
    commands
}

/// The words of a command as a shell reads them; nothing else of a shell is understood.
#[track_caller]
fn words(command: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for sign in command.chars() {
        match (quote, sign) {
            (Some(open), _) if sign == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(sign);
                word = Some(word.unwrap_or_default());
            }
            (None, '|' | '>' | '<' | '&' | ';' | '$' | '`' | '\\' | '*' | '?' | '#') => {
                panic!("`{sign}` needs a shell, in: {command}")
            }
            (None, _) if sign.is_whitespace() => words.extend(word.take()),
            _ => word.get_or_insert_with(String::new).push(sign),
        }
    }
    assert!(quote.is_none(), "a quote is not closed, in: {command}");
    words.extend(word);
    words
}

/// A section's command and its block.
fn titled(section: &str) -> (&str, &str) {
    let (title, rest) = section.split_once('\n').unwrap();
    let (_, rest) = rest.split_once("```text\n").unwrap();
    let (text, _) = rest.split_once("\n```").unwrap();
    (title.trim(), text)
}

/// The commands that a help lists.
fn listed(help: &str) -> Vec<&str> {
    let lines = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let names = lines.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    names.filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help").collect()
}

/// The lines of a page outside its blocks.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut inside = false;
    text.lines().filter(move |line| {
        let is_fence = line.trim_start().starts_with("```");
        inside ^= is_fence;
        !inside && !is_fence
    })
}

/// The targets of links to files and headings here.
fn links(text: &str) -> Vec<&str> {
    let after = prose(text).flat_map(|line| line.split("](").skip(1));
    let targets = after.filter_map(|rest| rest.split_once(')').map(|(target, _)| target));
    targets.filter(|target| !target.contains("://") && !target.contains(' ')).collect()
}

/// The headings of a page, as links name them.
fn headings(page: &Path) -> BTreeSet<String> {
    let text = fs::read_to_string(page).unwrap_or_default();
    let titles = prose(&text).filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
    titles.map(anchor).collect()
}

/// A heading as a link names it: small letters and digits, with hyphens for blanks, and nothing else.
fn anchor(title: &str) -> String {
    let kept = title.chars().filter(|sign| sign.is_alphanumeric() || matches!(sign, ' ' | '-' | '_'));
    kept.flat_map(char::to_lowercase).map(|sign| if sign == ' ' { '-' } else { sign }).collect()
}
