//! The measurements of a run, by edge.

use std::{fmt, time::Duration};

use serde::{Serialize, Serializer};

use super::{
    limiter::EdgeMeasurements,
    plan::{EdgePlan, FormattedBytes, PipelinePlan},
};

/// The measurements of a run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The edges, from the source to the sink.
    pub edges: Vec<EdgeReport>,
    /// The time from the start of the run to this report.
    #[serde(rename = "wall_seconds", serialize_with = "as_seconds")]
    pub wall: Duration,
}

/// The measurements of one edge.
#[derive(Clone, Debug, Serialize)]
pub struct EdgeReport {
    /// The stage that sends.
    pub from: &'static str,
    /// The stage that receives.
    pub to: &'static str,
    /// Items that were received.
    pub items: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Peak of the bytes held, including reservations of a parallel map.
    pub peak_bytes: usize,
    /// Total time that senders waited for space: long if the edge is full.
    #[serde(rename = "waited_for_room_seconds", serialize_with = "as_seconds")]
    pub waited_for_room: Duration,
    /// Total time that the receiver waited for items: long if the edge is empty.
    #[serde(rename = "waited_for_items_seconds", serialize_with = "as_seconds")]
    pub waited_for_items: Duration,
}

impl Report {
    pub(super) fn new(plan: &PipelinePlan, measured: impl Iterator<Item = EdgeMeasurements>, wall: Duration) -> Self {
        let edges = plan.edges.iter().zip(measured).map(|(edge, measured)| EdgeReport::new(edge, measured)).collect();
        Self { edges, wall }
    }

    /// The bottleneck: the stage after a full edge and before an empty one.
    ///
    /// `None` if nobody waited.
    #[must_use]
    pub fn slow_stage(&self) -> Option<&'static str> {
        // Before the source and after the sink, there is neither a full nor an empty edge.
        let before = [0.0].into_iter().chain(self.edges.iter().map(EdgeReport::fullness));
        let after = self.edges.iter().map(EdgeReport::fullness).chain([0.0]);
        let slowness = before.zip(after).map(|(before, after)| before - after);
        let first = self.edges.iter().map(|edge| edge.from).take(1);
        let names = first.chain(self.edges.iter().map(|edge| edge.to));
        let (slowness, slowest) = slowness.zip(names).max_by(|a, b| a.0.total_cmp(&b.0))?;
        (slowness > 0.0).then_some(slowest)
    }
}

impl EdgeReport {
    fn new(edge: &EdgePlan, measured: EdgeMeasurements) -> Self {
        let EdgeMeasurements { items, bytes, peak_bytes, waited_for_room, waited_for_items } = measured;
        Self { from: edge.from, to: edge.to, items, bytes, peak_bytes, waited_for_room, waited_for_items }
    }

    /// Seconds spent full minus seconds spent empty.
    fn fullness(&self) -> f64 {
        self.waited_for_room.as_secs_f64() - self.waited_for_items.as_secs_f64()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [edge, items, bytes, peak, room, waited] =
            ["edge", "items", "bytes", "peak", "waited for room", "waited for items"];
        writeln!(f, "{edge:<28} {items:>10} {bytes:>12} {peak:>12} {room:>16} {waited:>17}")?;
        for edge in &self.edges {
            let (name, items) = (format!("{} -> {}", edge.from, edge.to), edge.items);
            let (bytes, peak) =
                (FormattedBytes(edge.bytes).to_string(), FormattedBytes(edge.peak_bytes as u64).to_string());
            let (room, waited) = (edge.waited_for_room.as_secs_f64(), edge.waited_for_items.as_secs_f64());
            writeln!(f, "{name:<28} {items:>10} {bytes:>12} {peak:>12} {room:>14.3} s {waited:>15.3} s")?;
        }
        write!(f, "{:.3} s in all", self.wall.as_secs_f64())?;
        match self.slow_stage() {
            Some(stage) => write!(f, "; the slow stage is {stage}"),
            None => Ok(()),
        }
    }
}

fn as_seconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An edge with this many seconds of waiting, for space and for items.
    fn edge(from: &'static str, to: &'static str, [room, items]: [u64; 2]) -> EdgeReport {
        let [waited_for_room, waited_for_items] = [room, items].map(Duration::from_secs);
        EdgeReport { from, to, items: 3, bytes: 3072, peak_bytes: 1024, waited_for_room, waited_for_items }
    }

    fn report(read_encode: [u64; 2], encode_train: [u64; 2]) -> Report {
        let edges = vec![edge("read", "encode", read_encode), edge("encode", "train", encode_train)];
        Report { edges, wall: Duration::from_secs(10) }
    }

    #[test]
    fn the_slow_stage_is_the_one_after_a_full_edge_and_before_an_empty_one() {
        assert_eq!(report([0, 9], [0, 9]).slow_stage(), Some("read"));
        assert_eq!(report([9, 0], [0, 9]).slow_stage(), Some("encode"));
        assert_eq!(report([9, 0], [9, 0]).slow_stage(), Some("train"));
        assert_eq!(report([0, 0], [0, 0]).slow_stage(), None);
    }

    #[test]
    fn a_report_is_a_table_with_a_line_for_each_edge() {
        let shown = report([9, 0], [0, 9]).to_string();
        let lines: Vec<&str> = shown.lines().collect();
        let words: Vec<&str> = lines[1].split_whitespace().collect();
        assert_eq!(words, ["read", "->", "encode", "3", "3.0", "KiB", "1.0", "KiB", "9.000", "s", "0.000", "s"]);
        assert_eq!(lines[3], "10.000 s in all; the slow stage is encode");
    }

    #[test]
    fn a_report_is_written_in_seconds() {
        let written = serde_json::to_value(report([9, 0], [0, 9])).expect("a report is plain data");
        assert_eq!(written["wall_seconds"], 10.0);
        assert_eq!(written["edges"][0]["waited_for_room_seconds"], 9.0);
        assert_eq!(written["edges"][1]["to"], "train");
    }
}
