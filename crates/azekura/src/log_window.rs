//! The recent lines of this process's log, in memory, for `GET /api/v1/logs`; and beside them, within bounds of their own, those that
//! drivers told it (`told_lines.rs`).
//!
//! Invariants
//! - Lines take about [`WINDOW_BYTES`] at most, whatever is logged: what the allocator needs besides is estimated.
//! - No line that was told takes the place of one of this process's own, or passes for one.
//! - Whoever looks holds the lock only to take references: logging never waits for a search.

use crate::told_lines::Told;
use ::node::LogWindow;
use api::{LogLevel, LogLineAnswer, LogReport, LogsAnswer, LogsPart};
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

/// Memory for lines: some 8,000 of them.
pub const WINDOW_BYTES: usize = 8 << 20;
/// Lines that are let go together.
const SEGMENT_LINES: usize = 256;
/// Longest value that is kept, in bytes.
const VALUE_BYTES_MAX: usize = 4096;
/// What a line takes besides its text: itself, the allocations of its texts, and the first node of the map of its fields, which
/// holds eleven.
const LINE_BYTES: usize = 800;
/// What a field takes besides its texts: their allocations, and a share of a further node.
const FIELD_BYTES: usize = 48;

/// The time in Unix milliseconds.
pub fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(0))
}

/// Lines that are complete.
struct Segment {
    lines: Vec<Arc<LogLineAnswer>>,
    bytes: usize,
}

struct State {
    closed: VecDeque<Arc<Segment>>,
    open: Vec<Arc<LogLineAnswer>>,
    open_bytes: usize,
    bytes: usize,
    number: u64,
    /// Since when every line is there.
    since_ms: u64,
    /// What others told.
    told: Told,
}

/// See the head of this file. Cheap to clone.
#[derive(Clone)]
pub struct Window {
    state: Arc<Mutex<State>>,
    bytes_max: usize,
}

impl fmt::Debug for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Window(..)")
    }
}

/// What a line takes in memory, about.
pub fn size(line: &LogLineAnswer) -> usize {
    let fields = line.fields.iter();
    let fields: usize = fields
        .map(|(name, value)| name.len() + value.len() + FIELD_BYTES)
        .sum();
    let origin = line.origin.as_ref();
    let origin = origin.map_or(0, |origin| origin.host.len() + origin.by.len());
    line.message.len() + line.target.len() + fields + origin + LINE_BYTES
}

impl Window {
    /// An empty one that takes so many bytes at most.
    pub fn new(bytes_max: usize) -> Self {
        let state = State {
            closed: VecDeque::new(),
            open: Vec::new(),
            open_bytes: 0,
            bytes: 0,
            number: 0,
            since_ms: now_ms(),
            told: Told::default(),
        };
        Self {
            state: Arc::new(Mutex::new(state)),
            bytes_max,
        }
    }
}

impl Keeper for Window {
    fn push(&self, mut line: LogLineAnswer) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.number += 1;
        line.number = state.number;
        let bytes = size(&line);
        state.open.push(Arc::new(line));
        state.open_bytes += bytes;
        state.bytes += bytes;
        if state.open.len() >= SEGMENT_LINES || state.open_bytes >= self.bytes_max / 4 {
            let segment = Segment {
                lines: std::mem::take(&mut state.open),
                bytes: std::mem::take(&mut state.open_bytes),
            };
            state.closed.push_back(Arc::new(segment));
        }
        while state.bytes > self.bytes_max {
            let Some(oldest) = state.closed.pop_front() else {
                return;
            };
            state.bytes -= oldest.bytes;
            let last = oldest.lines.last().map_or(0, |line| line.at_ms);
            state.since_ms = state.since_ms.max(last + 1);
        }
    }
}

impl LogWindow for Window {
    fn find(&self, part: &LogsPart) -> LogsAnswer {
        let (closed, open, told, since_ms) = {
            let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            let closed: Vec<Arc<Segment>> = state.closed.iter().cloned().collect();
            (
                closed,
                state.open.clone(),
                state.told.lines(),
                state.since_ms,
            )
        };
        let older = closed.iter().rev().flat_map(|one| one.lines.iter().rev());
        let mut wanted = open
            .iter()
            .rev()
            .chain(older)
            .filter(|line| part.wants(line));
        let newest = wanted.by_ref().take(part.limit as usize);
        let mut lines: Vec<&Arc<LogLineAnswer>> = newest.collect();
        lines.reverse();
        let mut more = wanted.next().is_some();
        let before = lines.len();
        lines.extend(told.iter().filter(|line| part.wants(line)));
        if lines.len() > before {
            // They come from other clocks, and later than they were written.
            lines.sort_by_key(|line| (line.at_ms, line.number));
            let over = lines.len().saturating_sub(part.limit as usize);
            more |= over > 0;
            lines.drain(..over);
        }
        let lines = lines.into_iter();
        LogsAnswer {
            lines: lines.map(|line| LogLineAnswer::clone(line)).collect(),
            more,
            since_ms,
            silent: Vec::new(),
        }
    }

    fn keep(&self, by: &str, report: LogReport) -> Result<u64, u64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let State { told, number, .. } = &mut *state;
        told.keep(by, report, now_ms(), number)
    }
}

/// What a line or a span says of what it is about.
#[derive(Default)]
struct Said {
    message: String,
    fields: BTreeMap<String, String>,
}

impl Said {
    fn say(&mut self, field: &Field, mut value: String) {
        if value.len() > VALUE_BYTES_MAX {
            value.truncate(value.floor_char_boundary(VALUE_BYTES_MAX));
            value.push('…');
        }
        match field.name() {
            "message" => self.message = value,
            name => {
                self.fields.insert(name.to_owned(), value);
            }
        }
    }
}

impl Visit for Said {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.say(field, format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.say(field, value.to_owned());
    }
}

fn level(level: Level) -> LogLevel {
    match level {
        Level::ERROR => LogLevel::Error,
        Level::WARN => LogLevel::Warn,
        Level::INFO => LogLevel::Info,
        Level::DEBUG => LogLevel::Debug,
        Level::TRACE => LogLevel::Trace,
    }
}

/// Somebody who is given every line of this process.
pub trait Keeper: Send + Sync + 'static {
    /// Keeps it, or lets it go: whoever logs does not wait.
    fn push(&self, line: LogLineAnswer);
}

/// Gives every line, with the fields of the spans around it, to somebody.
pub struct Lines<K>(pub K);

impl<S, K> Layer<S> for Lines<K>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    K: Keeper,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if let Some(span) = context.span(id) {
            let mut said = Said::default();
            attributes.record(&mut said);
            span.extensions_mut().insert(said);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(said) = span.extensions_mut().get_mut::<Said>()
        {
            values.record(said);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut said = Said::default();
        event.record(&mut said);
        // What the line itself says counts more than the spans around it, the inner ones more than the outer ones. What a span
        // has nothing of it does not hide.
        for span in context.event_scope(event).into_iter().flatten() {
            if let Some(around) = span.extensions().get::<Said>() {
                for (name, value) in around.fields.iter().filter(|(_, value)| !value.is_empty()) {
                    let field = said.fields.entry(name.clone());
                    field.or_insert_with(|| value.clone());
                }
            }
        }
        let metadata = event.metadata();
        self.0.push(LogLineAnswer {
            node: String::new(),
            number: 0,
            at_ms: now_ms(),
            level: level(*metadata.level()),
            target: metadata.target().to_owned(),
            message: said.message,
            fields: said.fields,
            origin: None,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing_subscriber::layer::SubscriberExt;

    fn all() -> LogsPart {
        LogsPart {
            limit: 2000,
            told: true,
            ..LogsPart::default()
        }
    }

    #[test]
    fn a_line_has_the_fields_of_the_spans_around_it() {
        let window = Window::new(WINDOW_BYTES);
        let subscriber = tracing_subscriber::registry().with(Lines(window.clone()));
        tracing::subscriber::with_default(subscriber, || {
            let outer = tracing::info_span!("outer", request = "r1", volume = "db", who = "");
            let _outer = outer.enter();
            let inner =
                tracing::info_span!("inner", volume = "volume-3", count = tracing::field::Empty);
            let _inner = inner.enter();
            inner.record("count", 7);
            tracing::warn!(error = %"it broke", task = 4_u64, "not {}", "opened");
        });
        let found = window.find(&all());
        let [line] = &found.lines[..] else {
            panic!("{found:?}");
        };
        assert_eq!(
            (&*line.message, line.level, line.number),
            ("not opened", LogLevel::Warn, 1)
        );
        assert!(line.target.ends_with("log_window::tests"), "{line:?}");
        let fields: Vec<_> = line
            .fields
            .iter()
            .map(|(name, value)| (&**name, &**value))
            .collect();
        let wanted = [
            ("count", "7"),
            ("error", "it broke"),
            ("request", "r1"),
            ("task", "4"),
            ("volume", "volume-3"),
        ];
        assert_eq!(fields, wanted);
    }

    #[test]
    fn the_oldest_lines_give_way_and_that_is_said() {
        let window = Window::new(64 << 10);
        let began = window.find(&all()).since_ms;
        let line = |text: &str| LogLineAnswer {
            node: String::new(),
            number: 0,
            at_ms: began + 10,
            level: LogLevel::Info,
            target: "t".to_owned(),
            message: text.to_owned(),
            fields: BTreeMap::new(),
            origin: None,
        };
        for _ in 0..1000 {
            window.push(line("short"));
        }
        let found = window.find(&all());
        assert!(
            found.lines.len() < 100 && found.lines.len() > 50,
            "{}",
            found.lines.len()
        );
        assert_eq!(found.lines.last().map(|line| line.number), Some(1000));
        assert_eq!(found.since_ms, began + 11, "older ones are gone");
        let few = window.find(&LogsPart { limit: 3, ..all() });
        assert!(few.more && few.lines.len() == 3);
        assert_eq!(few.lines[0].number, 998, "the newest, oldest first");
        let state = window.state.lock().unwrap();
        assert!(state.bytes <= 64 << 10);
    }

    #[test]
    fn what_was_told_is_among_the_lines_and_takes_none_of_their_places() {
        let window = Window::new(64 << 10);
        let now = window.find(&all()).since_ms;
        let own = |at_ms| LogLineAnswer {
            node: String::new(),
            number: 0,
            at_ms,
            level: LogLevel::Info,
            target: "t".to_owned(),
            message: "own".to_owned(),
            fields: BTreeMap::new(),
            origin: None,
        };
        window.push(own(now - 30));
        window.push(own(now - 10));
        let told = |number: u64| api::LogEntry {
            component: api::LogComponent::Attach,
            at_ms: now - 20,
            level: LogLevel::Info,
            target: "client".to_owned(),
            message: format!("told {number}"),
            fields: BTreeMap::new(),
        };
        for batch in 0..40 {
            let report = LogReport {
                host: "w".to_owned(),
                component: api::LogComponent::CsiNode,
                lines: (0..50).map(|one| told(batch * 50 + one)).collect(),
                lost: 0,
            };
            let _ = window.keep("token t", report);
        }
        let found = window.find(&all()).lines;
        let count = |text: &str| found.iter().filter(|line| line.message == text).count();
        assert_eq!(count("own"), 2);
        assert!(found.len() > 100, "{}", found.len());
        assert!(found.is_sorted_by_key(|line| line.at_ms));
        let few = window.find(&LogsPart { limit: 2, ..all() });
        let texts: Vec<&str> = few.lines.iter().map(|line| &*line.message).collect();
        assert!(few.more && texts[1] == "own" && texts[0].starts_with("told"));
        let own = window.find(&LogsPart { own: true, ..all() });
        assert_eq!(own.lines.len(), 2);
        let older = window.find(&LogsPart {
            told: false,
            ..all()
        });
        assert_eq!(older.lines.len(), 2, "who knows no other lines gets none");
    }

    #[test]
    fn who_told_a_line_and_from_where_counts_for_its_size() {
        let own = LogLineAnswer {
            node: String::new(),
            number: 0,
            at_ms: 1,
            level: LogLevel::Info,
            target: "t".to_owned(),
            message: "m".to_owned(),
            fields: BTreeMap::new(),
            origin: None,
        };
        let told = LogLineAnswer {
            origin: Some(api::LogOrigin {
                component: api::LogComponent::Attach,
                host: "h".repeat(253),
                by: "token t".to_owned(),
            }),
            ..own.clone()
        };
        assert_eq!(size(&told) - size(&own), 253 + "token t".len());
    }

    #[test]
    fn one_enormous_value_is_cut() {
        let window = Window::new(WINDOW_BYTES);
        let subscriber = tracing_subscriber::registry().with(Lines(window.clone()));
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(list = "ä".repeat(10_000), "much");
        });
        let value = &window.find(&all()).lines[0].fields["list"];
        assert!(value.len() <= VALUE_BYTES_MAX + 3 && value.ends_with('…'));
    }
}
