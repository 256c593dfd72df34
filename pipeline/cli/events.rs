//! Prints events of the libraries on stderr: warnings always, more with `-v`.

use std::fmt::Write;

use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
};

use super::show::say_as;
use flows::trace::Trace;

/// Prints events up to a level, and passes spans to a trace.
struct Printer(Level, Option<Trace>);

/// Starts printing events; spans are recorded in `trace`.
pub(crate) fn subscribe(verbose: u8, quiet: bool, trace: Option<Trace>) {
    let level = match (quiet, verbose) {
        (true, _) => Level::ERROR,
        (false, 0) => Level::WARN,
        (false, 1) => Level::INFO,
        (false, 2) => Level::DEBUG,
        (false, _) => Level::TRACE,
    };
    // This only fails if there is a subscriber already, and nothing before this sets one.
    let _ = tracing::subscriber::set_global_default(Printer(level, trace));
}

impl Subscriber for Printer {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        match metadata.is_event() {
            true => *metadata.level() <= self.0,
            false => self.1.as_ref().is_some_and(|trace| trace.enabled(metadata)),
        }
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        self.1.as_ref().map_or(Id::from_u64(1), |trace| trace.new_span(span))
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut text = EventText(String::new());
        event.record(&mut text);
        say_as(&event.metadata().level().as_str().to_lowercase(), text.0);
    }

    fn enter(&self, span: &Id) {
        if let Some(trace) = &self.1 {
            trace.enter(span);
        }
    }

    fn exit(&self, span: &Id) {
        if let Some(trace) = &self.1 {
            trace.exit(span);
        }
    }
}

struct EventText(String);

impl Visit for EventText {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        let separator = if self.0.is_empty() { "" } else { " " };
        let written = match field.name() {
            "message" => write!(self.0, "{separator}{value:?}"),
            name => write!(self.0, "{separator}{name}={value:?}"),
        };
        debug_assert!(written.is_ok(), "a string takes any text");
    }
}
