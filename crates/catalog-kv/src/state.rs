//! The state machine of a key-value store: entries, leases and a bounded history. Pure: it knows no
//! clock, no disk and no waiting. `memory` keeps it in one cell, `embedded` beside its file.
//!
//! Invariants
//! - The revision grows by one per transaction, revocation or expiry that changes something.
//! - `history` holds every change after revision `compacted`, in order, and never a part of a revision.
//! - `leases[l].keys` are exactly the keys whose entry names lease `l`.

use crate::limits::{ttl_seconds, written};
use catalog::kv::{Change, Compare, Entry, KvError, LeaseId, Op, Outcome, Page, Revision};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;
use world::{Duration, Time};

/// Changes kept for watches: minutes of a busy cluster, which writes tens of rows per second.
pub(crate) const HISTORY_CHANGES_MAX: usize = 10_000;
/// Bytes kept for watches, should the rows be large.
const HISTORY_BYTES_MAX: usize = 64 << 20;
/// Changes handed to a watch at once, unless one revision has more.
const SCAN_CHANGES_MAX: usize = 1_000;

/// A stored row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) value: Vec<u8>,
    pub(crate) version: Revision,
    pub(crate) lease: Option<LeaseId>,
}

/// A lease that has not ended.
#[derive(Clone, Debug)]
pub(crate) struct Lease {
    pub(crate) ttl_seconds: u64,
    deadline: Time,
    keys: BTreeSet<String>,
}

/// What a watch gets: changes under its prefix, and the revision up to which they are complete.
#[derive(Debug)]
pub(crate) struct Scan {
    pub(crate) changes: Vec<Change>,
    pub(crate) through: Revision,
}

/// See the head of this file.
pub(crate) struct State {
    revision: Revision,
    entries: BTreeMap<String, Stored>,
    leases: BTreeMap<LeaseId, Lease>,
    lease_next: u64,
    history: VecDeque<Change>,
    history_bytes: usize,
    compacted: Revision,
}

fn revision_of(change: &Change) -> Revision {
    match change {
        Change::Put(entry) => entry.version,
        Change::Deleted { revision, .. } => *revision,
    }
}

/// The key a change is about.
pub(crate) fn changed_key(change: &Change) -> &str {
    match change {
        Change::Put(entry) => &entry.key,
        Change::Deleted { key, .. } => key,
    }
}

fn bytes_of(change: &Change) -> usize {
    let value = match change {
        Change::Put(entry) => entry.value.len(),
        Change::Deleted { .. } => 0,
    };
    changed_key(change).len() + value + std::mem::size_of::<Change>()
}

impl State {
    /// An empty store at revision 1, as a new etcd is.
    pub(crate) fn new() -> Self {
        Self {
            compacted: 0,
            ..Self::restore(1, 1)
        }
    }

    /// A store as a restart finds it, with no rows yet: add them with `restore_lease`, `restore_entry`.
    pub(crate) fn restore(revision: Revision, lease_next: u64) -> Self {
        Self {
            revision,
            entries: BTreeMap::new(),
            leases: BTreeMap::new(),
            lease_next,
            history: VecDeque::new(),
            history_bytes: 0,
            compacted: revision,
        }
    }

    pub(crate) fn revision(&self) -> Revision {
        self.revision
    }

    #[cfg(feature = "embedded")]
    pub(crate) fn lease_next(&self) -> u64 {
        self.lease_next
    }

    #[cfg(feature = "embedded")]
    pub(crate) fn stored(&self, key: &str) -> Option<&Stored> {
        self.entries.get(key)
    }

    #[cfg(feature = "embedded")]
    pub(crate) fn lease(&self, lease: LeaseId) -> Option<&Lease> {
        self.leases.get(&lease)
    }

    pub(crate) fn get(&self, key: &str) -> Option<Entry> {
        self.entries.get(key).map(|stored| entry(key, stored))
    }

    pub(crate) fn range(&self, prefix: &str, after: Option<&str>, limit: usize) -> Page {
        let start = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        let mut rows = self
            .entries
            .range::<str, _>((start, Bound::Unbounded))
            .take_while(|(key, _)| key.starts_with(prefix));
        let entries = rows
            .by_ref()
            .take(limit)
            .map(|(key, stored)| entry(key, stored))
            .collect();
        Page {
            entries,
            more: rows.next().is_some(),
            revision: self.revision,
        }
    }

    fn holds(&self, compare: &Compare) -> bool {
        match compare {
            Compare::Version(key, version) => {
                (self.entries.get(key)).is_some_and(|stored| stored.version == *version)
            }
            Compare::Absent(key) => !self.entries.contains_key(key),
        }
    }

    /// Applies a transaction that is within bounds. Conditions count before leases: a transaction with
    /// both a failed condition and an ended lease conflicts.
    pub(crate) fn txn(
        &mut self,
        compares: &[Compare],
        changes: Vec<Op>,
    ) -> Result<Outcome, KvError> {
        if !compares.iter().all(|compare| self.holds(compare)) {
            return Ok(Outcome::Conflict);
        }
        for op in &changes {
            if let Some((_, Some(lease))) = written(op)
                && !self.leases.contains_key(&lease)
            {
                return Err(KvError::LeaseEnded);
            }
        }
        let revision = self.revision + 1;
        for op in changes {
            match op {
                Op::Put(key, value) => self.put(key, value, None, revision),
                Op::PutLeased(key, value, lease) => self.put(key, value, Some(lease), revision),
                Op::Delete(key) => self.delete(&key, revision),
            }
        }
        Ok(Outcome::Committed(self.revision))
    }

    fn put(&mut self, key: String, value: Vec<u8>, lease: Option<LeaseId>, revision: Revision) {
        self.unbind(&key);
        if let Some(lease) = lease {
            let lease = self.leases.get_mut(&lease);
            let lease = lease.expect("the transaction has checked its leases");
            lease.keys.insert(key.clone());
        }
        let stored = Stored {
            value,
            version: revision,
            lease,
        };
        self.record(Change::Put(entry(&key, &stored)), revision);
        self.entries.insert(key, stored);
    }

    fn delete(&mut self, key: &str, revision: Revision) {
        self.unbind(key);
        if self.entries.remove(key).is_some() {
            let key = key.to_owned();
            self.record(Change::Deleted { key, revision }, revision);
        }
    }

    /// Takes a key away from the lease that holds it.
    fn unbind(&mut self, key: &str) {
        let holder = self.entries.get(key).and_then(|stored| stored.lease);
        if let Some(lease) = holder.and_then(|holder| self.leases.get_mut(&holder)) {
            assert!(lease.keys.remove(key), "a bound key is listed by its lease");
        }
    }

    fn record(&mut self, change: Change, revision: Revision) {
        assert!(revision == self.revision || revision == self.revision + 1);
        self.revision = revision;
        self.history_bytes += bytes_of(&change);
        self.history.push_back(change);
    }
}

fn entry(key: &str, stored: &Stored) -> Entry {
    Entry {
        key: key.to_owned(),
        value: stored.value.clone(),
        version: stored.version,
    }
}

/// Leases.
impl State {
    pub(crate) fn grant(&mut self, ttl: Duration, now: Time) -> LeaseId {
        let id = LeaseId(self.lease_next);
        self.lease_next += 1;
        self.restore_lease(id, ttl_seconds(ttl), now);
        id
    }

    /// Adds a lease that counts as just renewed.
    pub(crate) fn restore_lease(&mut self, id: LeaseId, ttl_seconds: u64, now: Time) {
        assert!(id.0 < self.lease_next, "lease ids are used once");
        let lease = Lease {
            ttl_seconds,
            deadline: now + Duration::from_secs(ttl_seconds),
            keys: BTreeSet::new(),
        };
        self.leases.insert(id, lease);
    }

    pub(crate) fn renew(&mut self, lease: LeaseId, now: Time) -> Result<(), KvError> {
        let lease = self.leases.get_mut(&lease).ok_or(KvError::LeaseEnded)?;
        lease.deadline = now + Duration::from_secs(lease.ttl_seconds);
        Ok(())
    }

    /// Ends a lease and deletes its keys in one revision.
    pub(crate) fn revoke(&mut self, lease: LeaseId) {
        let Some(ended) = self.leases.remove(&lease) else {
            return;
        };
        let revision = self.revision + 1;
        for key in ended.keys {
            let stored = self.entries.remove(&key);
            assert_eq!(stored.and_then(|stored| stored.lease), Some(lease));
            self.record(Change::Deleted { key, revision }, revision);
        }
    }

    /// Ends the leases whose time is up and returns them.
    pub(crate) fn expire(&mut self, now: Time) -> Vec<LeaseId> {
        let late = |(id, lease): (&LeaseId, &Lease)| (lease.deadline <= now).then_some(*id);
        let ended: Vec<LeaseId> = self.leases.iter().filter_map(late).collect();
        for lease in &ended {
            self.revoke(*lease);
        }
        ended
    }

    /// When the next lease ends unless renewed.
    pub(crate) fn deadline_next(&self) -> Option<Time> {
        self.leases.values().map(|lease| lease.deadline).min()
    }
}

/// Restart and history.
impl State {
    /// Adds a row a restart found. `false` when it contradicts what is known: its lease does not exist, or
    /// it is newer than the store.
    #[cfg(feature = "embedded")]
    #[must_use]
    pub(crate) fn restore_entry(&mut self, key: String, stored: Stored) -> bool {
        if stored.version == 0 || stored.version > self.revision {
            return false;
        }
        if let Some(lease) = stored.lease {
            let Some(lease) = self.leases.get_mut(&lease) else {
                return false;
            };
            lease.keys.insert(key.clone());
        }
        self.entries.insert(key, stored).is_none()
    }

    /// The changes under `prefix` after revision `after`, as many as fit one delivery.
    pub(crate) fn scan(&self, prefix: &str, after: Revision) -> Result<Scan, KvError> {
        if after < self.compacted {
            return Err(KvError::Compacted(after));
        }
        let mut changes: Vec<Change> = Vec::new();
        let mut through = after.max(self.revision);
        for change in self.changes_after(after) {
            let revision = revision_of(change);
            let started = changes.last().map(revision_of) == Some(revision);
            if changes.len() >= SCAN_CHANGES_MAX && !started {
                through = revision - 1;
                break;
            }
            if changed_key(change).starts_with(prefix) {
                changes.push(change.clone());
            }
        }
        Ok(Scan { changes, through })
    }

    /// Every kept change after revision `after`, oldest first.
    pub(crate) fn changes_after(&self, after: Revision) -> impl Iterator<Item = &Change> {
        let start = (self.history).partition_point(|change| revision_of(change) <= after);
        self.history.iter().skip(start)
    }

    /// Forgets the oldest revisions above the bounds of the history.
    pub(crate) fn trim(&mut self) {
        while self.history.len() > HISTORY_CHANGES_MAX || self.history_bytes > HISTORY_BYTES_MAX {
            let Some(oldest) = self.history.front() else {
                return;
            };
            self.compacted = revision_of(oldest);
            while let Some(change) = self.history.front()
                && revision_of(change) == self.compacted
            {
                self.history_bytes -= bytes_of(change);
                self.history.pop_front();
            }
        }
    }

    /// Forgets all history.
    pub(crate) fn compact(&mut self) {
        self.history.clear();
        self.history_bytes = 0;
        self.compacted = self.revision;
    }
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
