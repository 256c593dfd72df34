//! Failures as users and programs see them: text, or one JSON object on stderr.

use std::ffi::OsString;

use clap::error::ErrorKind;
use serde_json::{Value, json};

use super::show::{say, write_line};
use schemas::Error;

/// Prints the error, its causes, and its hint.
pub(super) fn report(error: &Error) {
    say(format_args!("error: {error}"));
    for cause in causes(error) {
        say(format_args!("  because: {cause}"));
    }
    if let Some(hint) = error.hint() {
        say(format_args!("  hint: {hint}"));
    }
}

/// Prints the same as one JSON object.
pub(super) fn report_as_json(error: &Error) {
    let code = error.exit_code() as u8;
    write_line(object(&error.to_string(), &causes(error), error.hint().as_deref(), code));
}

fn object(message: &str, because: &[String], hint: Option<&str>, code: u8) -> Value {
    json!({ "error": { "kind": kind_of(code), "message": message, "because": because, "hint": hint, "code": code } })
}

/// The kind of an error, by its exit code.
fn kind_of(code: u8) -> &'static str {
    match code {
        2 => "usage",
        28 => "no_space",
        65 => "data",
        66 => "missing_input",
        73 => "cant_create",
        74 => "io",
        75 => "stopped",
        _ => "bug",
    }
}

fn causes(error: &Error) -> Vec<String> {
    let mut causes = Vec::new();
    let mut cause = std::error::Error::source(error);
    while let Some(deeper) = cause {
        causes.push(deeper.to_string());
        cause = deeper.source();
    }
    causes
}

/// Prints what clap says about the arguments: help and version, or an error, as JSON if the arguments ask for it. Returns the exit code.
pub(super) fn report_arguments(error: &clap::Error) -> u8 {
    let code = u8::try_from(error.exit_code()).unwrap_or(u8::MAX);
    let is_help = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
    let wants_json = |argument: OsString| ["--json", "--progress=json"].iter().any(|flag| argument == *flag);
    let sends_events = || {
        let arguments: Vec<OsString> = std::env::args_os().collect();
        arguments.windows(2).any(|pair| pair[0] == "--progress" && pair[1] == "json")
    };
    if is_help || !(std::env::args_os().any(wants_json) || sends_events()) {
        // Only a stream that nobody reads makes this fail.
        let _ = error.print();
        return code;
    }
    let (message, hint) = parts(&error.render().to_string());
    write_line(object(&message, &[], hint.as_deref(), code));
    code
}

/// The message and the tip in what clap prints.
fn parts(text: &str) -> (String, Option<String>) {
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut paragraphs = text.trim().split("\n\n");
    let message = words(paragraphs.next().unwrap_or_default().trim_start_matches("error:"));
    let tip = paragraphs.find_map(|paragraph| paragraph.trim().strip_prefix("tip:").map(words));
    (message, tip.or_else(|| Some("--help shows the arguments".to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_of_clap_has_a_tip() {
        let text = "error: unexpected argument '--spilt' found\n\n  tip: a similar argument exists: '--split'\n\nUsage: perturbine train\n";
        let (message, hint) = parts(text);
        assert_eq!(message, "unexpected argument '--spilt' found");
        assert_eq!(hint.as_deref(), Some("a similar argument exists: '--split'"));
    }

    #[test]
    fn an_error_has_a_message_causes_a_hint_and_a_code() {
        let value = object("m", &["c".into()], None, 65);
        assert_eq!(
            value.to_string(),
            r#"{"error":{"kind":"data","message":"m","because":["c"],"hint":null,"code":65}}"#
        );
    }
}
