//! Requests that wait for long are told in the log, with what their volume waits for: one line per session, then one
//! a minute. Whoever looks for the reason of a stall finds it there without having been present.

use super::Session;
use crate::host::Host;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use volume::{Volume, VolumeStatus};
use world::{Duration, Time};

/// A request that takes longer is slow.
const SLOW: Duration = Duration::from_secs(5);
const INTERVAL: Duration = Duration::from_secs(2);
const TELL_INTERVAL: Duration = Duration::from_secs(60);

/// The requests of a session that run now.
#[derive(Default)]
pub(super) struct Clocks {
    /// When each began, and what it is, in the order in which they began.
    running: RefCell<BTreeMap<u64, (Time, &'static str)>>,
    last: Cell<u64>,
    told: Cell<Option<Time>>,
}

impl Clocks {
    /// A request begins; the number ends it.
    pub(super) fn begin(&self, now: Time, what: &'static str) -> u64 {
        self.last.set(self.last.get() + 1);
        let number = self.last.get();
        self.running.borrow_mut().insert(number, (now, what));
        number
    }

    pub(super) fn end(&self, number: u64) {
        self.running.borrow_mut().remove(&number);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.running.borrow().is_empty()
    }

    /// The oldest request, how long it runs, and how many there are, when that is to be told.
    fn slow(&self, now: Time) -> Option<(&'static str, Duration, usize)> {
        let running = self.running.borrow();
        let &(since, what) = running.values().next()?;
        let waited = now.since(since);
        let rests = |at: Time| now.since(at) < TELL_INTERVAL;
        if waited < SLOW || self.told.get().is_some_and(rests) {
            return None;
        }
        self.told.set(Some(now));
        Some((what, waited, running.len()))
    }
}

/// What a volume waits for, as far as it knows.
fn state_of(status: &VolumeStatus) -> String {
    let log = &status.log;
    let mut parts = vec![format!(
        "log at {} sent, {} committed, {} flushed, {} records to commit, {} bytes to drain",
        log.sent.0, log.committed.0, log.flushed.0, log.pending, status.undrained.0
    )];
    parts.extend(
        log.closing
            .then(|| "its segment is being closed".to_owned()),
    );
    parts.extend(log.waiting.clone());
    parts.extend(
        status
            .drain_problem
            .as_ref()
            .map(|problem| format!("draining: {problem}")),
    );
    for (store, written, flushed, trouble) in &log.progress {
        let trouble = trouble.as_deref().unwrap_or("well");
        parts.push(format!(
            "{store} at {} written, {} flushed: {trouble}",
            written.0, flushed.0
        ));
    }
    parts.join("; ")
}

fn tell(volume: &Volume, what: &str, waited: Duration, count: usize) {
    let state = state_of(&volume.status());
    tracing::warn!(
        volume = %volume.name(),
        request = what,
        waited_ms = u64::try_from(waited.as_millis()).unwrap_or(u64::MAX),
        running = count,
        "a request waits: {state}"
    );
}

/// Looks for slow requests for as long as the node runs.
pub(crate) async fn watch(host: Rc<Host>) {
    loop {
        host.world.sleep(INTERVAL).await;
        let sessions: Vec<Rc<Session>> = {
            let sessions = host.sessions.sessions.borrow();
            sessions.values().cloned().collect()
        };
        let now = host.world.now();
        for session in sessions {
            if let Some((what, waited, count)) = session.clocks.slow(now) {
                tell(&session.volume, what, waited, count);
            }
        }
    }
}
