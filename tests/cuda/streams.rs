//! The order of a training's copies and steps on a GPU, from the stand-in's trace: which work waits for which.

use std::collections::HashMap;

use crate::gpu::Gpu;

/// The stream of work before the first step.
const DEFAULT_STREAM: u64 = 0;

/// The last work of each stream that some work follows, by stream: a number of pieces.
type Follows = HashMap<u64, usize>;

/// One copy of a batch, and the step that reads it.
#[derive(Debug)]
struct Copied {
    slot: String,
    stream: u64,
    /// The number of the copy among the work of its stream.
    number: usize,
    /// The work that the copy follows.
    follows: Follows,
    /// The number of the step among the work of its stream, and the work that it follows; none before the step.
    step: Option<(usize, Follows)>,
}

/// All that a trace shows of batches and steps.
#[derive(Debug, Default)]
struct Trace {
    streams: HashMap<u64, Follows>,
    events: HashMap<u64, Follows>,
    compute: u64,
    batches: Vec<Copied>,
    /// Copies to the device on the stream of steps.
    others: usize,
}

/// The number in a word such as `s3` or `e12`.
fn id(word: &str) -> u64 {
    word[1..].parse().unwrap_or_else(|_| panic!("`{word}` names no stream and no event"))
}

impl Trace {
    /// Reads the trace of a process whose steps all run on one stream.
    fn parse(text: &str) -> Self {
        let lines = || text.lines().map(|line| line.split(' ').skip(2).collect::<Vec<_>>());
        let compute = lines().find_map(|words| match words[..] {
            ["graph", _, "on", stream] => Some(id(stream)),
            _ => None,
        });
        let mut trace = Self { compute: compute.expect("steps were replayed"), ..Self::default() };
        lines().for_each(|words| trace.add(&words));
        trace
    }

    fn add(&mut self, words: &[&str]) {
        match *words {
            ["record", event, stream] => {
                self.events.insert(id(event), self.follows(id(stream)));
            }
            [stream, "awaits", event] => {
                let waits_for = self.events.get(&id(event)).cloned().unwrap_or_default();
                let follows = self.streams.entry(id(stream)).or_default();
                for (stream, number) in waits_for {
                    let known = follows.entry(stream).or_default();
                    *known = number.max(*known);
                }
            }
            ["copy", stream, _, "to", "device", "at", slot, ..] => {
                let stream = id(stream);
                let (number, follows) = self.work(stream);
                if stream == self.compute {
                    self.others += 1;
                } else if stream != DEFAULT_STREAM {
                    self.batches.push(Copied { slot: slot.to_owned(), stream, number, follows, step: None });
                }
            }
            ["graph", _, "on", stream] | ["launch", stream, "take_batch"] if id(stream) == self.compute => {
                let step = self.work(id(stream));
                if let Some(batch) = self.batches.last_mut() {
                    batch.step = Some(step);
                }
            }
            _ => {}
        }
    }

    fn follows(&self, stream: u64) -> Follows {
        self.streams.get(&stream).cloned().unwrap_or_default()
    }

    /// Adds a piece of work to a stream: its number, and the work that it follows.
    fn work(&mut self, stream: u64) -> (usize, Follows) {
        let follows = self.streams.entry(stream).or_default();
        let before = follows.clone();
        let number = follows.entry(stream).or_default();
        *number += 1;
        (*number, before)
    }
}

#[test]
fn a_batch_is_copied_while_the_previous_step_runs_and_not_before_its_slot_is_free() {
    let Some(mut gpu) = Gpu::with_simulated("--cells 2000 --genes 60 --conditions 6 --combos 2 --density 0.3") else {
        return;
    };
    let file = gpu.home().path("trace");
    gpu.set(&[("TRACE", file.to_str().unwrap())]);
    gpu.json("train s.atlas --out m --preset residual --epochs 5 --batch-size 64 --seed 1 --device cuda:0");
    let trace = Trace::parse(&std::fs::read_to_string(file).unwrap());
    let Trace { compute, batches, others, .. } = &trace;
    // 85% of the cells, in batches of 64, the last of them smaller.
    assert_eq!(batches.len(), 5 * 27, "each step has one copy");
    assert!(*others < batches.len(), "{others} copies on the stream of steps");
    let (mut last, mut reused) = (HashMap::new(), 0);
    for (at, batch) in batches.iter().enumerate() {
        let (_, step_follows) = batch.step.as_ref().unwrap_or_else(|| panic!("no step follows copy {at}"));
        assert!(step_follows.get(&batch.stream) >= Some(&batch.number), "step {at} does not wait for its batch");
        if let Some(earlier) = last.insert(batch.slot.clone(), at) {
            let end_of = |step: usize| batches[step].step.as_ref().unwrap().0;
            let copy_follows = batch.follows.get(compute).copied().unwrap_or(0);
            assert!(
                copy_follows >= end_of(earlier),
                "copy {at} does not wait for step {earlier}, which reads its slot"
            );
            assert!(copy_follows < end_of(at - 1), "copy {at} waits for step {}", at - 1);
            reused += 1;
        }
    }
    // Two slots for whole batches and two for the last ones, and as many again wherever a layout turned out too small.
    assert!(reused > 5 * 27 / 2, "only {reused} copies took a slot again");
}
