//! Shards, the plan to which they belong, and their records.

use std::collections::BTreeMap;

use schemas::{Error, Result};
use serde::{Deserialize, Serialize};

use super::PublishedFile;

/// One of several shares of the work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shard {
    pub(super) index: usize,
    pub(super) of: usize,
}

impl Shard {
    /// Shard `index` (from 0) of `of`.
    ///
    /// # Errors
    /// An index that is not below `of`.
    pub fn new(index: usize, of: usize) -> Result<Self> {
        match index < of {
            true => Ok(Self { index, of }),
            false => Err(Error::usage(
                format!("shard {index}/{of} does not exist"),
                format!("shards count from 0: 0/{of} to {}/{of}", of.saturating_sub(1)),
            )),
        }
    }

    /// Reads `0/4`.
    ///
    /// # Errors
    /// Text that does not consist of two numbers, the first less than the second.
    pub fn parse(text: &str) -> Result<Self> {
        let bad =
            || Error::usage(format!("`{text}` is not a shard"), "write 0/4 for the first of four, 3/4 for the last");
        let (index, of) = text.split_once('/').ok_or_else(bad)?;
        let number = |text: &str| text.trim().parse::<usize>().map_err(|_| bad());
        let of = number(of)?;
        if of == 0 {
            return Err(bad());
        }
        Self::new(number(index)?, of)
    }

    /// The shard's number, from 0.
    #[must_use]
    pub fn index(self) -> usize {
        self.index
    }

    /// Number of shards.
    #[must_use]
    pub fn count(self) -> usize {
        self.of
    }

    /// Whether a part of the plan belongs to this shard.
    #[must_use]
    pub fn has(self, part: usize) -> bool {
        part % self.of == self.index
    }
}

impl std::fmt::Display for Shard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.index, self.of)
    }
}

/// The plan to which shards belong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardPlan {
    /// Its checksum: equal plans make equal files.
    pub plan: String,
    /// The command that writes the shards, and publishes them with `--commit`.
    #[serde(default = "predict")]
    pub command: String,
    /// A description for people.
    pub about: String,
    /// Where machines may differ, by name: model, atlas, program version, output.
    pub made_from: BTreeMap<String, String>,
}

impl ShardPlan {
    /// How another plan differs from this one.
    pub(super) fn differences(&self, other: &Self) -> String {
        if self.command != other.command {
            return format!("it is of `{}`, not of `{}`", other.command, self.command);
        }
        let differing = self.made_from.iter().filter_map(|(name, ours)| {
            let theirs = other.made_from.get(name).map_or("nothing", String::as_str);
            (theirs != ours).then(|| format!("the {name} is {theirs}, not {ours}"))
        });
        match differing.collect::<Vec<_>>()[..] {
            [] => "flags that choose what is predicted differ, or the split".to_owned(),
            ref differing => differing.join(", "),
        }
    }
}

/// The command of shards of versions that wrote no others.
fn predict() -> String {
    "predict".to_owned()
}

/// The record of a complete shard.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ShardRecord {
    pub(super) shard: Shard,
    #[serde(flatten)]
    pub(super) plan: ShardPlan,
    pub(super) files: Vec<PublishedFile>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_count_from_nought() {
        assert_eq!(Shard::parse("0/4").expect("a shard").to_string(), "0/4");
        assert_eq!(Shard::parse("3/4").expect("a shard").to_string(), "3/4");
        for wrong in ["4/4", "1", "a/2", "0/0", "-1/2", ""] {
            Shard::parse(wrong).expect_err(wrong);
        }
    }

    #[test]
    fn each_part_is_one_shards() {
        let shards: Vec<Shard> = (0..3).map(|index| Shard::new(index, 3).expect("a shard")).collect();
        for part in 0..20 {
            assert_eq!(shards.iter().filter(|shard| shard.has(part)).count(), 1);
        }
    }
}
