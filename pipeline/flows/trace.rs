//! Timelines of stages, item by item, in the format of Chrome's and Perfetto's viewers.
//!
//! A [`Trace`] listens to the runtime's `tracing` spans. If libtorch profiled a device at the same time, its events are added to
//! the same file, on the same timeline.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    fmt,
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use schemas::{
    Error, Result,
    numbers::{saturating, to_usize},
};
use serde_json::{Value, json};
use storage::disk::write_atomically;
use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
};

/// Names of the spans of a stage and of one of its items, as given by the runtime.
const STAGE: &str = "stage";
const ITEM: &str = "item";
/// The id of every item's span: it is entered in the place where it is created, so it carries no data.
const ITEM_ID: u64 = 1;
/// The first id of stages.
const FIRST_STAGE_ID: u64 = 2;
/// The process id shown for stages; libtorch's events have the real one.
const STAGES_PROCESS: u32 = u32::MAX;

/// Records when stages work on items. Clones record to the same place.
#[derive(Clone)]
pub struct Trace(Arc<TraceLog>);

struct TraceLog {
    started: Instant,
    /// Start of the recording, in nanoseconds since 1970.
    started_at: u64,
    stages: Mutex<Vec<String>>,
    items: Mutex<Vec<WorkSpan>>,
    threads: AtomicU64,
}

/// A stage's work on one item; times are nanoseconds since the start.
struct WorkSpan {
    stage: usize,
    thread: u64,
    begun: u64,
    ended: u64,
}

/// The current state of a thread.
#[derive(Default)]
struct ThreadState {
    thread: Option<u64>,
    stages: Vec<usize>,
    begun: Vec<u64>,
}

thread_local! {
    static HERE: RefCell<ThreadState> = RefCell::default();
}

impl Default for Trace {
    fn default() -> Self {
        Self::start()
    }
}

impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trace").finish_non_exhaustive()
    }
}

impl Trace {
    /// Starts recording, once this is the subscriber of `tracing` or a part of it.
    #[must_use]
    pub fn start() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(Arc::new(TraceLog {
            started: Instant::now(),
            started_at: saturating(now.as_nanos()),
            stages: Mutex::default(),
            items: Mutex::default(),
            threads: AtomicU64::new(0),
        }))
    }

    /// Writes the events so far. `beside` is a file written by libtorch's profiler, whose events are included.
    ///
    /// # Errors
    /// A file that can't be read or written.
    pub fn write(&self, path: &Path, beside: Option<&Path>) -> Result<()> {
        let mut trace = match beside {
            Some(beside) => {
                let text = std::fs::read(beside).map_err(Error::io("read", beside))?;
                serde_json::from_slice(&text).map_err(|error| Error::damaged(beside, error.to_string()))?
            }
            None => json!({ "traceEvents": [] }),
        };
        // Times in the file are microseconds from a base, which the file gives in nanoseconds since 1970.
        let base = trace["baseTimeNanoseconds"].as_u64().unwrap_or(0);
        trace["displayTimeUnit"] = json!("ms");
        if let Some(events) = trace["traceEvents"].as_array_mut() {
            events.extend(self.events(base));
        }
        let text = serde_json::to_vec(&trace).map_err(|error| Error::Bug(error.to_string()))?;
        write_atomically(path, &text)
    }

    fn events(&self, base: u64) -> Vec<Value> {
        let (stages, items) = (locked(&self.0.stages), locked(&self.0.items));
        let named = |what: &str, thread: u64, name: &str| json!({ "ph": "M", "name": what, "pid": STAGES_PROCESS, "tid": thread, "args": { "name": name } });
        let name_of = |stage: usize| stages.get(stage).map_or("", String::as_str);
        // A thread belongs to one stage, or to the caller, which may drive several sinks in turn: it is named after
        // the last one.
        let threads: BTreeMap<u64, usize> = items.iter().map(|item| (item.thread, item.stage)).collect();
        let mut events = vec![named("process_name", 0, "stages")];
        events.extend(threads.iter().map(|(thread, stage)| named("thread_name", *thread, name_of(*stage))));
        #[expect(clippy::cast_precision_loss, reason = "a microsecond's thousandths are not told apart after years")]
        let microseconds = |nanoseconds: u64| nanoseconds as f64 / 1000.0;
        events.extend(items.iter().map(|item| {
            let begun = (self.0.started_at + item.begun).saturating_sub(base);
            json!({
                "ph": "X",
                "cat": "stage",
                "name": name_of(item.stage),
                "pid": STAGES_PROCESS,
                "tid": item.thread,
                "ts": microseconds(begun),
                "dur": microseconds(item.ended - item.begun),
            })
        }));
        events
    }

    fn now(&self) -> u64 {
        saturating(self.0.started.elapsed().as_nanos())
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Subscriber for Trace {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_span() && [STAGE, ITEM].contains(&metadata.name())
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        if span.metadata().name() == ITEM {
            return Id::from_u64(ITEM_ID);
        }
        let mut name = Name(String::new());
        span.record(&mut name);
        let mut stages = locked(&self.0.stages);
        stages.push(name.0);
        Id::from_u64(FIRST_STAGE_ID + stages.len() as u64 - 1)
    }

    fn enter(&self, span: &Id) {
        HERE.with_borrow_mut(|here| match span.into_u64() {
            ITEM_ID => here.begun.push(self.now()),
            stage => here.stages.push(to_usize(stage - FIRST_STAGE_ID)),
        });
    }

    fn exit(&self, span: &Id) {
        HERE.with_borrow_mut(|here| match span.into_u64() {
            ITEM_ID => {
                let thread = *here.thread.get_or_insert_with(|| 1 + self.0.threads.fetch_add(1, Ordering::Relaxed));
                if let (Some(begun), Some(stage)) = (here.begun.pop(), here.stages.last()) {
                    locked(&self.0.items).push(WorkSpan { stage: *stage, thread, begun, ended: self.now() });
                }
            }
            _ => {
                here.stages.pop();
            }
        });
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, _: &Event<'_>) {}
}

/// The value of a span's field `name`.
struct Name(String);

impl Visit for Name {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "name" {
            value.clone_into(&mut self.0);
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "name" {
            self.0 = format!("{value:?}");
        }
    }
}
