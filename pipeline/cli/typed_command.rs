//! The command line of this process, as it can be typed again.

use std::env;

use report::CommandRun;

/// The program that users start; a command about a model runs in another one.
const PROGRAM: &str = "perturbine";

/// The program and its arguments, quoted for a shell.
pub fn typed_command() -> CommandRun {
    let arguments = env::args_os().skip(1).map(|argument| quoted(&argument.to_string_lossy()));
    let line: Vec<String> = [PROGRAM.to_owned()].into_iter().chain(arguments).collect();
    let program = format!("{PROGRAM} {}", env!("CARGO_PKG_VERSION"));
    CommandRun { line: line.join(" "), program }
}

/// An argument in single quotes, where a shell would read it otherwise.
fn quoted(argument: &str) -> String {
    let is_plain = |one: char| one.is_alphanumeric() || "-_./=:,+@%".contains(one);
    match !argument.is_empty() && argument.chars().all(is_plain) {
        true => argument.to_owned(),
        false => format!("'{}'", argument.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_quoted_where_a_shell_needs_it() {
        assert_eq!(quoted("kang.model"), "kang.model");
        assert_eq!(quoted("cell_type=B cells"), "'cell_type=B cells'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
    }
}
