//! The help: options under headings, a workflow at the top, an example for each command.

use clap::{Arg, Command, CommandFactory};

use super::{command::Cli, screen};

/// Maximum width of the help.
const WIDEST: usize = 100;

/// The heading of the options that all commands have.
const GLOBAL: &str = "Global options";

/// The first lines of `perturbine --help`.
const WORKFLOW: &str = "\
Trains CPA on single-cell perturbation atlases out of core, and streams its
predictions.

From a file to a report:
  perturbine ingest kang.h5ad --out kang.atlas
  perturbine split kang.atlas --name b --hold-out cell_type=B,condition=stim
  perturbine train kang.atlas --split b --out kang.model
  perturbine predict kang.model kang.atlas --out kang.predictions
  perturbine evaluate kang.model kang.atlas
  perturbine report kang.model --out kang.html

Without data of your own, begin with:
  perturbine simulate --out s.h5ad

To look at what there is:
  perturbine inspect kang.h5ad                (an atlas, a model, predictions)
  perturbine explain train kang.atlas --out kang.model
  perturbine presets
  perturbine settings train";

/// An example for each command.
const EXAMPLES: [(&str, &str); 19] = [
    ("simulate", "perturbine simulate --cells 20000 --combos 10 --out s.h5ad"),
    ("ingest", "perturbine ingest kang.h5ad --control ctrl --out kang.atlas"),
    ("split", "perturbine split kang.atlas --name b --hold-out cell_type=B,condition=stim"),
    ("inspect", "perturbine inspect kang.atlas --statistics"),
    ("verify", "perturbine verify kang.atlas kang.model kang.predictions"),
    ("presets", "perturbine presets"),
    ("settings", "perturbine settings train.lr"),
    ("completions", "perturbine completions bash > perturbine.bash"),
    ("setup", "perturbine setup --cuda"),
    ("explain", "perturbine explain train kang.atlas --out kang.model"),
    ("train", "perturbine train kang.atlas --split b --genes 5000 --out kang.model"),
    ("predict", "perturbine predict kang.model kang.atlas --to condition=stim --out stim.h5ad"),
    ("embed", "perturbine embed kang.model kang.atlas --out latents.h5ad"),
    ("response", "perturbine response kang.model kang.atlas --condition stim --doses 0:1:0.25"),
    ("evaluate", "perturbine evaluate kang.model kang.atlas --wide"),
    ("judge", "perturbine judge scgpt.h5ad ours.parquet --truth kang.atlas --out judged.html"),
    ("crossval", "perturbine crossval kang.atlas --scheme leave-out:cell_type --seeds 5"),
    ("report", "perturbine report kang.model --out kang.html"),
    ("help", "perturbine help train"),
];

/// The heading of some options, in one command or (if it is empty) in all others.
struct HelpHeading {
    name: &'static str,
    command: &'static str,
    options: &'static [&'static str],
}

const fn heading(name: &'static str, command: &'static str, options: &'static [&'static str]) -> HelpHeading {
    HelpHeading { name, command, options }
}

const HEADINGS: [HelpHeading; 23] = [
    heading("Cells and genes", "simulate", &["cells", "genes", "cell_types", "batches", "density", "sorted", "seed"]),
    heading("Perturbations", "simulate", &["conditions", "combos", "interactions", "interaction", "doses"]),
    heading("Split", "split", &["name", "remove", "hold_out", "scheme", "from_obs", "valid", "reference", "seed"]),
    heading("Predicted conditions", "predict", &["to", "unseen", "unseen_covariate", "batch", "samples", "seed"]),
    heading("Predicted numbers", "predict", &["output", "layout", "genes", "top", "library", "output_scale"]),
    heading("Predicted conditions", "response", &["condition", "doses", "genes"]),
    heading("Output", "embed", &["from"]),
    heading("Output", "crossval", &["from"]),
    heading("Scores", "judge", &["values", "target_sum", "scores"]),
    heading("Labels", "judge", &["perturbation", "dose"]),
    heading("Split", "ingest", &["split"]),
    heading("Folds", "crossval", &["scheme", "seeds", "seed", "split_seed"]),
    heading("Split", "", &["split", "hold_out", "on", "truth", "scheme"]),
    heading(
        "Input",
        "",
        &[
            "layer",
            "raw",
            "genome",
            "obs_columns",
            "genes_table",
            "list_start",
            "join",
            "gene_id",
            "file_key",
            "values",
            "on_bad_values",
            "missing_genes",
            "predictions",
        ],
    ),
    heading("Labels", "", &["perturbation", "no_perturbation", "control", "dose", "covariates", "batch", "delimiter"]),
    heading(
        "Cells",
        "",
        &["filter", "drop_label", "min_cells", "from", "matching", "no_control", "cells_per_condition"],
    ),
    heading("Model", "", &["genes", "genes_keep", "preset", "config", "set", "epochs", "batch_size", "seed", "resume"]),
    heading("Scores", "", &["scale", "readout"]),
    heading("What to embed", "", &["of"]),
    heading("Atlas", "", &["storage", "compress", "no_shuffle", "shuffle_seed", "in_place"]),
    heading(
        "Output",
        "",
        &[
            "out",
            "figures",
            "tables",
            "force",
            "format",
            "precision",
            "partition_by",
            "controls",
            "max_bytes",
            "file_size",
            "shard",
            "shard_out",
            "commit",
            "dry_run",
            "plan_only",
            "card",
            "gzip",
            "statistics",
        ],
    ),
    heading("Device", "", &["device", "cuda", "log_memory", "profile"]),
    heading(GLOBAL, "", &["help", "version"]),
];

/// The command line with its help.
pub(super) fn command() -> Command {
    let width = screen::width().min(WIDEST);
    with_headings(Cli::command()).mut_subcommands(with_example).long_about(WORKFLOW).term_width(width)
}

fn with_example(command: Command) -> Command {
    match EXAMPLES.iter().find(|(of, _)| *of == command.get_name()) {
        Some((_, example)) => command.after_help(format!("Example:\n  {example}")),
        None => command,
    }
}

fn with_headings(command: Command) -> Command {
    let name = command.get_name().to_owned();
    command.mut_args(|argument| with_heading(argument, &name)).mut_subcommands(with_headings)
}

fn with_heading(argument: Arg, command: &str) -> Arg {
    if argument.is_positional() {
        return argument;
    }
    // A negative number is a value, which its own message refuses; by default, it is taken for an unknown option.
    let takes_values = argument.get_action().takes_values();
    let argument = if takes_values { argument.allow_negative_numbers(true) } else { argument };
    if argument.is_global_set() {
        return argument.help_heading(GLOBAL);
    }
    let id = argument.get_id().as_str().to_owned();
    let found = |of: &str| HEADINGS.iter().find(|one| one.command == of && one.options.contains(&id.as_str()));
    match found(command).or_else(|| found("")) {
        Some(heading) => argument.help_heading(heading.name),
        None => argument,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn every_command(command: &Command, found: &mut Vec<Command>) {
        found.push(command.clone());
        command.get_subcommands().for_each(|nested| every_command(nested, found));
    }

    #[test]
    fn every_option_has_a_heading_and_every_command_an_example() {
        let mut commands = Vec::new();
        every_command(&command(), &mut commands);
        for command in &commands {
            for option in command.get_arguments().filter(|argument| !argument.is_positional()) {
                assert!(option.get_help_heading().is_some(), "{}: --{}", command.get_name(), option.get_id());
            }
        }
        for nested in command().get_subcommands() {
            let name = nested.get_name();
            assert!(EXAMPLES.iter().any(|(of, _)| *of == name), "`{name}` has no example");
        }
    }

    #[test]
    fn examples_are_accepted() {
        let names: Vec<String> = command().get_subcommands().map(|nested| nested.get_name().to_owned()).collect();
        let of_workflow =
            WORKFLOW.lines().filter_map(|line| line.strip_prefix("  ")).map(|line| line.split("  ").next());
        let all = EXAMPLES.iter().filter(|(name, _)| names.iter().any(|known| known == name));
        for example in all.map(|(_, example)| *example).chain(of_workflow.flatten()) {
            let words = example.split(" >").next().unwrap_or_default().split_whitespace();
            let is_of_model = |name: &str| !names.iter().any(|known| known == name);
            if example.split_whitespace().nth(1).is_some_and(is_of_model) {
                continue;
            }
            let parsed = command().try_get_matches_from(words);
            assert!(parsed.is_ok(), "{example}: {}", parsed.expect_err("it is refused"));
        }
    }
}
