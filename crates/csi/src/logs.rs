//! Lines of this process, and of the attachments that it has made, are told to the cluster, so that one search finds what every part
//! of it did for a volume.
//!
//! Whoever logs puts a line into the [`Outbox`] and goes on. A thread takes what is there once a second and sends it.
//!
//! Invariants
//! - Logging never waits for the cluster, and nothing of the driver waits for this.
//! - The outbox takes [`OUTBOX_BYTES_MAX`] at most. The oldest lines give way and are counted; the cluster is told how many.
//! - What was not answered is sent again: the cluster keeps a line once.
//! - A report that is refused for what it says is given up and counted, so that it does not stand in the way of the next one.
//!
//! Lines are lost when the process is killed with some in hand: they are still in what it has written to standard error.

use crate::call::Call;
use crate::cluster::{ApiError, ApiOptions, Cluster};
use api::http::path;
use api::{
    ErrorKind, LogComponent, LogEntry, LogReport, LogReportAnswer, REPORT_LINES_BYTES_MAX,
    REPORT_LINES_MAX,
};
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Memory for lines that wait: some 5,000 of them.
const OUTBOX_BYTES_MAX: usize = 1 << 20;
/// What a line takes in memory beside its texts.
const LINE_BYTES: usize = 128;
/// What a field takes in memory beside its texts.
const FIELD_BYTES: usize = 64;
/// Pause between two looks at what is there.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Time for one report.
const PATIENCE: Duration = Duration::from_secs(10);
/// Longest pause after something failed; the first one lasts a second, and each is twice as long as the one before.
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// Pause after a refusal that lasts until somebody changes something.
const REFUSED_PAUSE: Duration = Duration::from_secs(120);

#[derive(Default)]
struct State {
    lines: VecDeque<LogEntry>,
    bytes: usize,
    lost: u64,
    /// Lines that were taken out and are neither told nor given up.
    in_hand: usize,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    told: Condvar,
}

/// Lines that wait to be told. Cheap to clone.
#[derive(Clone, Default)]
pub struct Outbox(Arc<Shared>);

fn size(line: &LogEntry) -> usize {
    let fields = line.fields.iter();
    let fields: usize = fields
        .map(|(name, value)| name.len() + value.len() + FIELD_BYTES)
        .sum();
    line.message.len() + line.target.len() + fields + LINE_BYTES
}

impl Outbox {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a line in; what is too long is cut.
    pub fn push(&self, line: LogEntry) {
        let line = line.bounded();
        let mut state = self.lock();
        state.bytes += size(&line);
        state.lines.push_back(line);
        while state.bytes > OUTBOX_BYTES_MAX {
            let oldest = state.lines.pop_front();
            let oldest = oldest.expect("what has bytes has a line");
            state.bytes -= size(&oldest);
            state.lost += 1;
        }
    }

    /// The lines that wait.
    #[must_use]
    pub fn waiting(&self) -> Vec<LogEntry> {
        self.lock().lines.iter().cloned().collect()
    }

    /// Waits until everything that is there is told or given up, for so long at most.
    pub fn settle(&self, patience: Duration) {
        let busy = |state: &mut State| state.in_hand > 0 || !state.lines.is_empty();
        let state = self.lock();
        let waited = self.0.told.wait_timeout_while(state, patience, busy);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    /// As many lines as one report takes.
    fn take(&self) -> Vec<LogEntry> {
        let mut state = self.lock();
        let (mut lines, mut bytes) = (Vec::new(), 0);
        while lines.len() < REPORT_LINES_MAX
            && let Some(line) = state.lines.front()
        {
            let text = serde_json::to_string(line).expect("lines are plain data with text keys");
            // With a separator.
            bytes += text.len() + 1;
            if bytes > REPORT_LINES_BYTES_MAX && !lines.is_empty() {
                break;
            }
            let mut line = state.lines.pop_front().expect("it was looked at");
            state.bytes -= size(&line);
            if bytes > REPORT_LINES_BYTES_MAX {
                // Message and target fit in any case: escaped they have six times their bytes at most.
                line.fields = [("cut".to_owned(), "its fields do not fit".to_owned())].into();
            }
            lines.push(line);
        }
        state.in_hand = lines.len();
        lines
    }

    /// What was in hand is told, or given up and lost.
    fn settled(&self, lost: u64) {
        let mut state = self.lock();
        state.in_hand = 0;
        state.lost += lost;
        drop(state);
        self.0.told.notify_all();
    }
}

/// The cluster, as far as it is told lines.
trait Ledger {
    fn tell(&self, report: &LogReport) -> Result<(), ApiError>;
}

impl Ledger for Cluster {
    fn tell(&self, report: &LogReport) -> Result<(), ApiError> {
        let call = Call::own(PATIENCE);
        let told: Result<LogReportAnswer, _> = self.ask(&call).post(&path(&["logs"]), report);
        told.map(drop)
    }
}

/// Sends what is in an outbox.
struct Teller<'a> {
    ledger: &'a dyn Ledger,
    outbox: &'a Outbox,
    /// The next report: it stays until it is answered.
    report: LogReport,
    pause: Duration,
    /// What was said last: said again only when it changes.
    said: Option<String>,
}

impl<'a> Teller<'a> {
    fn new(
        ledger: &'a dyn Ledger,
        outbox: &'a Outbox,
        host: String,
        component: LogComponent,
    ) -> Self {
        let report = LogReport {
            host,
            component,
            lines: Vec::new(),
            lost: 0,
        };
        Self {
            ledger,
            outbox,
            report,
            pause: LOOK_INTERVAL,
            said: None,
        }
    }

    /// Sends one report, if there is something; how long to wait then.
    fn play(&mut self) -> Duration {
        if self.report.lines.is_empty() {
            self.report.lines = self.outbox.take();
            // Not of one with lines that is sent again: what was lost meanwhile would make it another one, and be counted twice. That
            // can still happen to one whose lines were refused for what they say.
            self.report.lost += std::mem::take(&mut self.outbox.lock().lost);
        }
        if self.report.lines.is_empty() && self.report.lost == 0 {
            return LOOK_INTERVAL;
        }
        match self.ledger.tell(&self.report) {
            Ok(()) => {
                self.report.lines.clear();
                self.report.lost = 0;
                self.pause = LOOK_INTERVAL;
                self.outbox.settled(0);
                if self.said.take().is_some() {
                    tracing::info!("lines of the log are told again");
                }
                match self.outbox.lock().lines.is_empty() {
                    true => LOOK_INTERVAL,
                    false => Duration::ZERO,
                }
            }
            Err(error) => self.held(&error),
        }
    }

    fn held(&mut self, error: &ApiError) -> Duration {
        let text = format!("lines of the log are not told: {error}");
        if self.said.as_ref() != Some(&text) {
            tracing::warn!("{text}");
            self.said = Some(text);
        }
        if error.kind() == Some(ErrorKind::BadRequest) && !self.report.lines.is_empty() {
            // What it says is refused, today and tomorrow.
            let lost = self.report.lines.len() as u64;
            self.report.lines.clear();
            self.outbox.settled(lost);
            return self.next_pause();
        }
        match error.kind() {
            // A token for something else, or nodes of a release that take no lines.
            Some(
                ErrorKind::Forbidden
                | ErrorKind::Unauthenticated
                | ErrorKind::NotFound
                | ErrorKind::BadRequest
                | ErrorKind::Refused,
            ) => REFUSED_PAUSE,
            _ => self.next_pause(),
        }
    }

    fn next_pause(&mut self) -> Duration {
        let pause = self.pause;
        self.pause = (self.pause * 2).min(PAUSE_MAX);
        pause
    }
}

/// Tells what is in the outbox until the process ends, and has `look` put into it what other processes wrote, once a second.
/// Blocks.
pub fn tell(
    api: ApiOptions,
    host: String,
    component: LogComponent,
    outbox: &Outbox,
    mut look: impl FnMut(),
) -> ! {
    let cluster = Cluster::new(api);
    let mut teller = Teller::new(&cluster, outbox, host, component);
    let mut due = Instant::now();
    loop {
        look();
        let now = Instant::now();
        if now >= due {
            due = now + teller.play();
        }
        std::thread::sleep(due.saturating_duration_since(now).min(LOOK_INTERVAL));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::{LogLevel, OperationError};
    use std::cell::RefCell;

    fn line(text: &str) -> LogEntry {
        LogEntry {
            component: LogComponent::CsiNode,
            at_ms: 5,
            level: LogLevel::Info,
            target: "csi::call".to_owned(),
            message: text.to_owned(),
            fields: [("volume".to_owned(), "volume-3".to_owned())].into(),
        }
    }

    /// A cluster that answers as it is told to.
    #[derive(Default)]
    struct Book {
        told: RefCell<Vec<LogReport>>,
        refusal: RefCell<Option<ErrorKind>>,
    }

    impl Ledger for Book {
        fn tell(&self, report: &LogReport) -> Result<(), ApiError> {
            assert_eq!(report.problem(), None);
            let body = serde_json::to_string(report).expect("plain data");
            assert!(body.len() <= api::http::BODY_BYTES_MAX, "{}", body.len());
            if let Some(kind) = *self.refusal.borrow() {
                return Err(ApiError::Refused(OperationError::new(kind, "no")));
            }
            self.told.borrow_mut().push(report.clone());
            Ok(())
        }
    }

    fn teller<'a>(book: &'a Book, outbox: &'a Outbox) -> Teller<'a> {
        Teller::new(book, outbox, "worker".to_owned(), LogComponent::CsiNode)
    }

    #[test]
    fn many_lines_are_told_in_reports_that_fit_and_in_order() {
        let (book, outbox) = (Book::default(), Outbox::default());
        let mut told = teller(&book, &outbox);
        assert_eq!(told.play(), LOOK_INTERVAL, "there is nothing");
        for number in 0..400 {
            outbox.push(line(&format!("{number} {}", "\u{1}".repeat(60))));
        }
        let mut enormous = line(&"\u{1}".repeat(100_000));
        let field = |number| (format!("f{number}"), "\u{1}".repeat(5000));
        enormous.fields = (0..40).map(field).collect();
        outbox.push(enormous);
        while told.play().is_zero() {}
        let reports = book.told.borrow();
        let texts = reports.iter().flat_map(|report| &report.lines);
        let texts: Vec<&str> = texts.map(|line| &*line.message).collect();
        assert_eq!(texts.len(), 401);
        assert!(texts[399].starts_with("399 ") && texts[400].ends_with('…'));
        assert!(reports.iter().all(|report| report.lost == 0));
    }

    #[test]
    fn what_finds_no_place_while_nobody_answers_is_counted() {
        let (book, outbox) = (Book::default(), Outbox::default());
        let mut told = teller(&book, &outbox);
        *book.refusal.borrow_mut() = Some(ErrorKind::Unavailable);
        outbox.push(line("first"));
        let pauses = [1, 2, 4, 8, 16, 30, 30].map(Duration::from_secs);
        for pause in pauses {
            assert_eq!(told.play(), pause);
        }
        let many = 20_000;
        for number in 0..many {
            outbox.push(line(&number.to_string()));
        }
        assert!(outbox.lock().bytes <= OUTBOX_BYTES_MAX);
        *book.refusal.borrow_mut() = None;
        while told.play().is_zero() {}
        let reports = book.told.borrow();
        assert_eq!(reports[0].lines[0].message, "first", "it was in hand");
        assert_eq!(reports[0].lost, 0, "it is what was sent before");
        let lost: u64 = reports.iter().map(|report| report.lost).sum();
        let there: usize = reports.iter().map(|report| report.lines.len()).sum();
        // What the teller says of itself goes to whoever listens to the log, not here.
        assert_eq!(lost + there as u64, many + 1);
        assert!(lost > 0 && there > 1000, "{lost} {there}");
    }

    #[test]
    fn a_report_that_is_refused_for_what_it_says_is_given_up() {
        let (book, outbox) = (Book::default(), Outbox::default());
        let mut told = teller(&book, &outbox);
        *book.refusal.borrow_mut() = Some(ErrorKind::BadRequest);
        outbox.push(line("odd"));
        assert_eq!(told.play(), LOOK_INTERVAL);
        assert_eq!(told.play(), REFUSED_PAUSE, "not even the count is taken");
        *book.refusal.borrow_mut() = None;
        outbox.push(line("good"));
        told.play();
        let reports = book.told.borrow();
        assert_eq!(
            (reports[0].lost, &*reports[0].lines[0].message),
            (1, "good")
        );
    }

    #[test]
    fn a_token_that_may_not_tell_is_tried_now_and_then() {
        let (book, outbox) = (Book::default(), Outbox::default());
        let mut told = teller(&book, &outbox);
        *book.refusal.borrow_mut() = Some(ErrorKind::Forbidden);
        outbox.push(line("mine"));
        assert_eq!(told.play(), REFUSED_PAUSE);
        assert!(told.said.as_ref().is_some_and(|said| said.contains("no")));
        outbox.settle(Duration::from_millis(1));
        assert_eq!(outbox.lock().in_hand, 1, "it waits for a better one");
        *book.refusal.borrow_mut() = None;
        told.play();
        assert_eq!((told.said.clone(), outbox.lock().in_hand), (None, 0));
        outbox.settle(Duration::from_secs(600));
    }
}
