//! Where the rounds over a store are, in the catalog: a process that starts again goes on with the round that was under way, and does
//! not begin one that is not due.
//!
//! A catalog that does not answer is no reason not to read: then the next process may read again what this one has read.

use crate::host::Host;
use catalog::{ScrubRow, Transaction};
use store::Store;
use vocab::{ExtentId, GroupId};
use world::{Duration, Time};

/// Pause between two notes of a round under way.
const NOTE_INTERVAL: Duration = Duration::from_secs(60);

/// See the head of this file.
pub(super) struct Cursor {
    row: ScrubRow,
    noted: Time,
}

impl Cursor {
    /// As the process before this one left it.
    pub(super) async fn read(host: &Host, store: &Store) -> Self {
        let fresh = ScrubRow {
            id: store.id(),
            incarnation: store.incarnation(),
            began_ms: 0,
            group: None,
            after: None,
            whole_ms: 0,
        };
        let key = ScrubRow::key_of(store.id());
        let read = host.catalog.read::<ScrubRow>(&key).await;
        let known = read.unwrap_or_else(|error| {
            tracing::debug!(%error, store = %store.id(), "scrubbing begins anew");
            None
        });
        let known = known.map(|found| found.row);
        let known = known.filter(|row| row.incarnation == fresh.incarnation);
        Self {
            row: known.unwrap_or(fresh),
            noted: host.world.now(),
        }
    }

    /// How long to wait until the next round is due, or goes on. `first`: so long nothing is read after the start of a process
    /// whose store was never read.
    pub(super) fn rest(&self, host: &Host, first: Duration) -> Duration {
        if self.row.began_ms == 0 {
            return first;
        }
        if self.row.group.is_some() {
            return Duration::ZERO;
        }
        // A clock that was set back makes the next round late by no more than an interval.
        let since = host.world.clock.unix_ms().saturating_sub(self.row.began_ms);
        let interval = host.options.scrub.interval;
        interval.saturating_sub(Duration::from_millis(since))
    }

    /// Begins a round, unless one is under way.
    pub(super) fn begin(&mut self, host: &Host) {
        if self.row.group.is_none() {
            self.row.began_ms = host.world.clock.unix_ms().max(1);
        }
    }

    /// Whether a group was read in the round under way.
    pub(super) fn is_past(&self, group: GroupId) -> bool {
        self.row.group.is_some_and(|at| group < at)
    }

    /// Where to go on in a group.
    pub(super) fn after(&self, group: GroupId) -> Option<ExtentId> {
        (self.row.group == Some(group)).then_some(self.row.after)?
    }

    /// So far everything is read.
    pub(super) async fn is_at(&mut self, host: &Host, group: GroupId, after: Option<ExtentId>) {
        (self.row.group, self.row.after) = (Some(group), after);
        if host.world.now().since(self.noted) >= NOTE_INTERVAL {
            self.note(host).await;
        }
    }

    /// The round is over.
    pub(super) async fn end(&mut self, host: &Host) {
        (self.row.group, self.row.after) = (None, None);
        self.row.whole_ms = host.world.clock.unix_ms();
        self.note(host).await;
    }

    async fn note(&mut self, host: &Host) {
        self.noted = host.world.now();
        let written = host.catalog.commit(Transaction::new().put(&self.row)).await;
        if let Err(error) = written {
            tracing::debug!(%error, store = %self.row.id, "how far scrubbing is is noted later");
        }
    }
}
