//! Arguments of commands whose work can be divided into shards, and of the command that publishes these.

use std::path::{Path, PathBuf};

use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches, error::ErrorKind, value_parser};
use schemas::{Error, Result};
use sink::{Shard, shards::refuse_one_file};

use super::{EmbedArgs, PredictArgs, crossval::CrossvalArgs};

/// How work is divided into shards
#[derive(Args, Debug)]
pub struct ShardArgs {
    /// Show what would be written and its number of units, and write nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Show the checksum of the plan and its number of units, which shards divide among them, and write nothing
    #[arg(long, conflicts_with = "dry_run")]
    pub plan_only: bool,
    /// Write one shard of the output, from 0/n to n-1/n; --commit publishes them once all are written. A shard that is complete
    /// already is not written again
    #[arg(long, value_name = "i/n")]
    pub(super) shard: Option<String>,
    /// Write the shard to a folder of its own, which may be moved to another machine; --commit OUT --from FOLDER... publishes them
    #[arg(long, value_name = "FOLDER", requires = "shard")]
    pub shard_out: Option<PathBuf>,
}

impl ShardArgs {
    /// The shard to write.
    ///
    /// # Errors
    /// Text that is not a shard.
    pub fn shard(&self) -> Result<Option<Shard>> {
        self.shard.as_deref().map(Shard::parse).transpose()
    }

    /// Whether it goes to a folder of its own.
    #[must_use]
    pub fn is_portable(&self) -> bool {
        self.shard_out.is_some()
    }

    /// Whether nothing is to be written.
    #[must_use]
    pub fn only_shows(&self) -> bool {
        self.dry_run || self.plan_only
    }

    /// Refuses shards of a single file.
    ///
    /// # Errors
    /// An output whose name ends in `.parquet`.
    pub fn check(&self, out: Option<&Path>) -> Result<()> {
        match (&self.shard, out) {
            (Some(_), Some(out)) => refuse_one_file(out),
            _ => Ok(()),
        }
    }

    /// Where to write: the folder of the shard, or the output.
    ///
    /// # Errors
    /// An output that is missing.
    pub fn place<'a>(&'a self, out: Option<&'a Path>) -> Result<&'a Path> {
        let missing = || Error::usage("--out is missing", "name the folder or file to write");
        self.shard_out.as_deref().or(out).ok_or_else(missing)
    }
}

/// Arguments of a command with [`ShardArgs`].
pub trait Shardable: Args {
    /// Its arguments without flags, in order.
    const PLACES: &'static [&'static str];
}

impl Shardable for PredictArgs {
    const PLACES: &'static [&'static str] = &["model", "atlas"];
}

impl Shardable for EmbedArgs {
    const PLACES: &'static [&'static str] = &["model", "atlas"];
}

impl Shardable for CrossvalArgs {
    const PLACES: &'static [&'static str] = &["atlas"];
}

/// A command, or the publication of what was written in shards.
#[derive(Debug)]
pub enum ShardedCommand<A> {
    /// The command.
    Run(Box<A>),
    /// The publication of shards: of those beside the folder `out`, or of `portable` ones.
    Commit {
        /// The folder to publish.
        out: PathBuf,
        /// The folders of portable shards.
        portable: Vec<PathBuf>,
    },
}

const COMMIT: &str = "commit";
const FROM: &str = "from";
/// Arguments after a model and an atlas. A shell makes a list of a pattern after `--from`: the second and third shard are read as
/// model and atlas, and all others as these.
const MORE: &str = "more";

impl<A: Shardable> Args for ShardedCommand<A> {
    fn augment_args(command: Command) -> Command {
        let commit = Arg::new(COMMIT)
            .long(COMMIT)
            .value_name("PATH")
            .value_parser(value_parser!(PathBuf))
            .conflicts_with_all(["plan_only", "dry_run", "shard"])
            .help(
                "Check and publish PATH once all of its shards are written; takes no model or atlas. --from names shards that \
                 --shard-out wrote",
            );
        let more = Arg::new(MORE).num_args(0..).hide(true).value_parser(value_parser!(PathBuf));
        let command = A::augment_args(command);
        let has = |name: &str| command.get_arguments().any(|argument| argument.get_id() == name);
        let (has_from, has_force) = (has(FROM), has("force"));
        let mut command = command.mut_args(|argument| match argument.get_id().as_str() {
            FROM => argument.action(ArgAction::Append).help(
                "Cells to start from, as in 'condition=ctrl,cell_type=B' [default: the controls of each covariate combination]. \
                 With --commit, folders that --shard-out wrote; repeatable",
            ),
            "shard" if has_force => argument.conflicts_with("force"),
            _ if argument.is_required_set() => argument.required(false).required_unless_present(COMMIT),
            _ => argument,
        });
        if !has_from {
            let from = Arg::new(FROM).long(FROM).value_name("FOLDER").action(ArgAction::Append).requires(COMMIT);
            command = command.arg(from.help("With --commit, folders that --shard-out wrote; repeatable"));
        }
        command.args([commit, more])
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl<A: Shardable> FromArgMatches for ShardedCommand<A> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let refused = |message: String| Err(clap::Error::raw(ErrorKind::ArgumentConflict, message));
        let more = matches.get_many::<PathBuf>(MORE).into_iter().flatten();
        let from: Vec<&String> = matches.get_many(FROM).into_iter().flatten().collect();
        let Some(out) = matches.get_one::<PathBuf>(COMMIT) else {
            return match (more.into_iter().next(), &from[..]) {
                (Some(more), _) => {
                    refused(format!("unexpected argument '{}': {} are enough", more.display(), A::PLACES.join(" and ")))
                }
                (None, [_, _, ..]) => refused("--from is given twice; only --commit takes several".to_owned()),
                _ => Ok(Self::Run(Box::new(A::from_arg_matches(matches)?))),
            };
        };
        let places = A::PLACES.iter().filter_map(|name| matches.get_one::<PathBuf>(name)).chain(more);
        let portable: Vec<PathBuf> = from.iter().map(PathBuf::from).chain(places.cloned()).collect();
        if from.is_empty() && !portable.is_empty() {
            return refused("--commit takes no model or atlas; name shards after --from".to_owned());
        }
        Ok(Self::Commit { out: out.clone(), portable })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}
