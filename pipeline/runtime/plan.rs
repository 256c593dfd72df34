//! The memory of a pipeline, computed before anything runs.

use std::{fmt, num::NonZeroUsize};

use serde::Serialize;

/// How much an edge may hold. A single larger item passes alone, whatever the capacity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Capacity {
    /// Number of items: at least 1, at most 65 536.
    pub items: usize,
    /// Their bytes, as reported by [`ByteSize`](schemas::ByteSize).
    pub bytes: usize,
}

impl Capacity {
    /// Maximum number of items: the channel's slots are allocated up front.
    const MOST_ITEMS: usize = 1 << 16;

    /// The capacity of the edge behind a stage: at least one place per worker, because a worker without one is idle.
    pub(super) fn behind(self, workers: NonZeroUsize) -> Self {
        Self { items: self.items.max(workers.get()).min(Self::MOST_ITEMS), ..self }
    }
}

/// The graph of a pipeline: its stages in order, and the edges between them.
///
/// Memory held on edges never exceeds [`PipelinePlan::bytes`], except for one item larger than its edge; in addition, each thread may
/// hold one item.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PipelinePlan {
    /// The stages, from the source to the sink.
    pub nodes: Vec<StagePlan>,
    /// The edges; edge `i` leads from node `i` to node `i + 1`.
    pub edges: Vec<EdgePlan>,
}

/// A stage of the graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct StagePlan {
    /// The stage's name.
    pub name: &'static str,
    /// Number of threads that do its work.
    pub workers: NonZeroUsize,
}

/// An edge of the graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct EdgePlan {
    /// The stage that sends.
    pub from: &'static str,
    /// The stage that receives.
    pub to: &'static str,
    /// The edge's capacity.
    pub capacity: Capacity,
}

impl StagePlan {
    /// A stage on a single thread.
    pub(super) fn single(name: &'static str) -> Self {
        Self { name, workers: NonZeroUsize::MIN }
    }
}

impl PipelinePlan {
    /// Connects nodes: each node except the last sends over its own edge.
    pub(super) fn new(nodes: Vec<StagePlan>, capacities: impl IntoIterator<Item = Capacity>) -> Self {
        let pairs = nodes.iter().zip(nodes.iter().skip(1)).zip(capacities);
        let edges = pairs.map(|((from, to), capacity)| EdgePlan { from: from.name, to: to.name, capacity }).collect();
        Self { nodes, edges }
    }

    /// The sum of the edges' capacities, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.edges.iter().fold(0, |sum, edge| sum.saturating_add(edge.capacity.bytes))
    }
}

impl fmt::Display for PipelinePlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, StagePlan { name, workers }) in self.nodes.iter().enumerate() {
            let arrow = if i == 0 { "" } else { " -> " };
            match workers.get() {
                1 => write!(f, "{arrow}{name}")?,
                many => write!(f, "{arrow}{name} x{many}")?,
            }
        }
        writeln!(f)?;
        for EdgePlan { from, to, capacity } in &self.edges {
            let Capacity { items, bytes } = *capacity;
            writeln!(
                f,
                "  {:<28} {items:>6} items {:>12}",
                format!("{from} -> {to}"),
                FormattedBytes(bytes as u64).to_string()
            )?;
        }
        write!(f, "  {:<28} {:>6}       {:>12}", "in all", "", FormattedBytes(self.bytes() as u64).to_string())
    }
}

/// Formats a number of bytes in a suitable unit.
pub(super) struct FormattedBytes(pub(super) u64);

impl fmt::Display for FormattedBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
        if self.0 < 1024 {
            return write!(f, "{} B", self.0);
        }
        let mut amount = self.0 as f64 / 1024.0;
        let mut unit = 0;
        while amount >= 1024.0 && unit + 1 < UNITS.len() {
            amount /= 1024.0;
            unit += 1;
        }
        write!(f, "{amount:.1} {}", UNITS[unit])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_shown_in_the_unit_that_suits_them() {
        let shown = [0, 1023, 1536, 64 << 20, u64::MAX].map(|bytes| FormattedBytes(bytes).to_string());
        assert_eq!(shown, ["0 B", "1023 B", "1.5 KiB", "64.0 MiB", "16777216.0 TiB"]);
    }

    #[test]
    fn a_plan_lists_every_budget_and_their_sum() {
        let capacity = Capacity { items: 4, bytes: 1 << 20 };
        let workers = NonZeroUsize::new(3).expect("three");
        let nodes = vec![StagePlan::single("read"), StagePlan { name: "encode", workers }, StagePlan::single("train")];
        let plan = PipelinePlan::new(nodes, [capacity, capacity]);
        let shown = plan.to_string();
        let lines: Vec<Vec<&str>> = shown.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[0], ["read", "->", "encode", "x3", "->", "train"]);
        assert_eq!(lines[1], ["read", "->", "encode", "4", "items", "1.0", "MiB"]);
        assert_eq!(lines[2], ["encode", "->", "train", "4", "items", "1.0", "MiB"]);
        assert_eq!(lines[3], ["in", "all", "2.0", "MiB"]);
    }
}
