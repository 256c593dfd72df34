//! The pages for users are right: every command in a block marked `console` runs, page by page, in a folder of its own, or is
//! refused with the printed error, and prints the lines below it where these are the same on any machine; `docs/cli.md` has the program's help; links lead to pages and headings that exist.
//!
//! Recipes run on files of their layouts. Commands that need a GPU, a cluster or a build with faults are in blocks marked `text` or
//! `sh`, which nothing runs. `python/tests/test_documented.py` runs the blocks of Python, `tests/outside_crate.rs` those of Rust.

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

const README: &str = "README.md";
/// Pages whose commands use the files of README's.
const AFTER_README: [&str; 4] = ["docs/errors.md", "docs/memory.md", "docs/other-programs.md", "docs/scale.md"];

/// A command of a page.
struct PrintedCommand {
    line: usize,
    /// The words behind `perturbine`.
    words: Vec<String>,
    /// The lines that the page shows below it.
    shown: Vec<String>,
}

impl PrintedCommand {
    fn is_refused(&self) -> bool {
        self.shown.iter().any(|line| line.starts_with("error: "))
    }

    /// Whether its output is the same on any machine; scores and speeds of models are not.
    fn is_the_same_everywhere(&self) -> bool {
        self.is_refused() || ["simulate", "ingest", "split", "inspect"].contains(&self.words[0].as_str())
    }
}

/// A test for each page, so that they run beside each other.
macro_rules! pages {
    ($($name:ident: $page:expr,)*) => {
        const RUN: &[&str] = &[$($page),*];

        $(#[test]
        fn $name() {
            run($page);
        })*
    };
}

pages! {
    the_readme_runs: README,
    the_page_of_errors_runs: "docs/errors.md",
    the_page_from_cpa_tools_runs: "docs/from-cpa-tools.md",
    the_page_from_scanpy_runs: "docs/from-scanpy.md",
    the_page_of_inputs_runs: "docs/inputs.md",
    the_page_of_memory_runs: "docs/memory.md",
    the_page_about_other_programs_runs: "docs/other-programs.md",
    the_page_of_predictions_runs: "docs/predictions.md",
    the_page_of_scale_runs: "docs/scale.md",
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
    if AFTER_README.contains(&page) {
        run_in(&home, README);
    }
    run_in(&home, page);
}

#[track_caller]
fn run_in(home: &Home, page: &str) {
    for command in commands(page, &read(page)) {
        let output = home.command("").args(&command.words).output().unwrap();
        let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        let place = format!("{page}:{}: perturbine {}", command.line, command.words.join(" "));
        assert_eq!(output.status.success(), !command.is_refused(), "{place} does not do what is printed\n{stderr}");
        if command.is_the_same_everywhere() {
            let printed: Vec<&str> = stdout.lines().chain(stderr.lines()).map(str::trim_start).collect();
            let is_printed = |shown: &&String| printed.iter().any(|line| agrees(line, shown));
            let missing: Vec<&String> = command.shown.iter().filter(|shown| !is_printed(shown)).collect();
            assert!(missing.is_empty(), "{place} does not print {missing:#?}\n{stdout}\n{stderr}");
        }
    }
}

/// Whether a printed line is the shown one, in which `…` is any text.
fn agrees(printed: &str, shown: &str) -> bool {
    let mut pieces = shown.split('…');
    let Some(mut rest) = pieces.next().and_then(|first| printed.strip_prefix(first)) else { return false };
    for piece in pieces {
        let Some(at) = rest.find(piece) else { return false };
        rest = &rest[at + piece.len()..];
    }
    rest.is_empty() || shown.ends_with('…')
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

/// The commands of a page.
#[track_caller]
fn commands(page: &str, text: &str) -> Vec<PrintedCommand> {
    let (mut commands, mut fence) = (Vec::<PrintedCommand>::new(), None);
    for (at, line) in text.lines().enumerate() {
        let line = line.trim_start();
        match (fence, line.strip_prefix("```")) {
            (None, Some(language)) => fence = Some(language.trim()),
            (Some(_), Some(_)) => fence = None,
            (Some("console"), None) => {
                let Some(typed) = line.strip_prefix("$ ") else {
                    if let Some(last) = commands.last_mut().filter(|_| !line.is_empty()) {
                        last.shown.push(line.to_owned());
                    }
                    continue;
                };
                let command = typed.strip_prefix("perturbine ");
                let command = command.unwrap_or_else(|| panic!("{page}:{}: not a command of ours: {typed}", at + 1));
                commands.push(PrintedCommand { line: at + 1, words: words(command), shown: Vec::new() });
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
