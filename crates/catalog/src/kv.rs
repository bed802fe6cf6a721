//! The small key-value store under the catalog: etcd, an embedded file, or memory.
//!
//! Invariants
//! - Transactions are linearizable; a committed one is durable before the future resolves.
//! - Revisions grow by at least one per committed transaction that changes something and never go back,
//!   also across restarts. A key's `version` is the revision that last wrote it.
//! - Keys bound to a lease vanish when the lease ends. After a restart of the embedded store every lease
//!   counts as just renewed.
//! - A watch delivers every change after its start revision, in order and at least once, or fails with
//!   [`KvError::Compacted`]; the watcher then reads everything again.

use world::{Duration, LocalBoxFuture};

/// A point in the store's history.
pub type Revision = u64;

/// Name of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId(pub u64);

/// Why a catalog operation failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KvError {
    /// The store cannot be reached or did not answer in time. A transaction may or may not have been
    /// committed: read before retrying.
    #[error("the catalog does not answer: {0}")]
    Unavailable(String),
    /// The lease has ended.
    #[error("the lease has ended")]
    LeaseEnded,
    /// The watch's start revision is no longer kept: list again and watch from there.
    #[error("the catalog no longer keeps revision {0}")]
    Compacted(Revision),
    /// Stored data is damaged.
    #[error("the catalog is damaged: {0}")]
    Damaged(String),
}

/// A key with its value and the revision that wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// The value.
    pub value: Vec<u8>,
    /// Revision of the transaction that wrote it; never 0.
    pub version: Revision,
}

/// A condition of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Compare {
    /// The key exists and was last written by this revision.
    Version(String, Revision),
    /// The key does not exist.
    Absent(String),
}

/// A change of a transaction. No key may be changed twice in one transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Writes a key that stays until it is deleted.
    Put(String, Vec<u8>),
    /// Writes a key that vanishes with the lease.
    PutLeased(String, Vec<u8>, LeaseId),
    /// Deletes a key; no error when it does not exist.
    Delete(String),
}

/// What became of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All changes are durable and share this revision.
    Committed(Revision),
    /// A condition did not hold; nothing changed.
    Conflict,
}

/// A page of [`Kv::range`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// Entries in key order.
    pub entries: Vec<Entry>,
    /// Whether entries follow.
    pub more: bool,
    /// The store's revision when the page was read.
    pub revision: Revision,
}

/// One change seen by a watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A key was written.
    Put(Entry),
    /// A key was deleted, or its lease ended.
    Deleted {
        /// The key.
        key: String,
        /// The revision that deleted it.
        revision: Revision,
    },
}

/// A stream of changes. Dropping it ends the watch.
pub trait Watch {
    /// The next changes, at least one, in order. Reconnects by itself; [`KvError::Unavailable`] is never
    /// returned.
    ///
    /// # Errors
    /// [`KvError::Compacted`]; the watch is over then.
    fn next(&mut self) -> LocalBoxFuture<'_, Result<Vec<Change>, KvError>>;
}

/// Result of a catalog call.
pub type KvFuture<T> = LocalBoxFuture<'static, Result<T, KvError>>;

/// A linearizable key-value store with leases and watches. Values are at most 1 MiB, a transaction has
/// at most 128 compares and 128 changes.
pub trait Kv {
    /// The entry of `key`.
    fn get(&self, key: &str) -> KvFuture<Option<Entry>>;

    /// Entries whose key starts with `prefix` and is greater than `after` (when given), in key order, at
    /// most `limit`.
    fn range(&self, prefix: &str, after: Option<&str>, limit: usize) -> KvFuture<Page>;

    /// Every entry whose key starts with `prefix`, as they were at one revision: that of the page.
    ///
    /// # Errors
    /// [`KvError::Compacted`] when the store forgot that revision meanwhile: try again.
    fn snapshot(&self, prefix: &str) -> KvFuture<Page>;

    /// Applies `changes` atomically if all `compares` hold.
    fn txn(&self, compares: Vec<Compare>, changes: Vec<Op>) -> KvFuture<Outcome>;

    /// Changes of keys under `prefix` after revision `after`.
    fn watch(&self, prefix: &str, after: Revision) -> Box<dyn Watch>;

    /// A lease that ends unless renewed within `ttl` (whole seconds, at least 1).
    fn grant(&self, ttl: Duration) -> KvFuture<LeaseId>;

    /// Renews a lease for its full time to live.
    ///
    /// # Errors
    /// [`KvError::LeaseEnded`] when it is too late.
    fn renew(&self, lease: LeaseId) -> KvFuture<()>;

    /// Ends a lease now and deletes its keys. No error when it has already ended.
    fn revoke(&self, lease: LeaseId) -> KvFuture<()>;

    /// Who keeps the store, and which of them answer. Not linearizable: it is answered without a majority, too. Bounded by
    /// about two seconds.
    fn members(&self) -> KvFuture<KvMembers>;

    /// A revision as other processes of the cluster and its disks know it. It differs only where the store was exchanged for
    /// another one since this process started.
    fn recorded(&self, revision: Revision) -> Revision {
        revision
    }
}

/// A process that keeps the store. What one that is part of this process, or does not answer, cannot say is 0 or empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KvMember {
    /// Its name.
    pub name: String,
    /// Why it does not count, when it does not.
    pub problem: Option<String>,
    /// Its id, never given twice.
    pub id: u64,
    /// Whether it has ever been started.
    pub started: bool,
    /// Where the others reach it.
    pub peers: Vec<String>,
    /// Where clients reach it.
    pub clients: Vec<String>,
    /// Its version.
    pub version: String,
    /// Whether it leads.
    pub leads: bool,
    /// Changes of the store that it has taken over.
    pub applied: u64,
    /// Bytes of its file.
    pub bytes: u64,
    /// Bytes of that in use.
    pub bytes_used: u64,
    /// What it warns of, such as `NOSPACE`.
    pub alarms: Vec<String>,
}

/// The processes that keep the store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KvMembers {
    /// Whether it is part of this process, or a file of it: it lives as long as this machine.
    pub embedded: bool,
    /// The id that its members share; 0: it has none.
    pub cluster: u64,
    /// Every member with a vote.
    pub members: Vec<KvMember>,
    /// Those that follow without a vote.
    pub learners: Vec<KvMember>,
    /// Ids that warn of too little space (`NOSPACE`) and are no members any more: nobody is there to end it.
    pub strays: Vec<u64>,
}

impl KvMembers {
    /// A store that is part of one process.
    #[must_use]
    pub fn embedded(name: &str) -> Self {
        let member = KvMember {
            name: name.to_owned(),
            started: true,
            ..KvMember::default()
        };
        Self {
            embedded: true,
            members: vec![member],
            ..Self::default()
        }
    }

    /// Members and learners.
    pub fn all(&self) -> impl Iterator<Item = &KvMember> {
        self.members.iter().chain(&self.learners)
    }

    /// Members that answer.
    #[must_use]
    pub fn alive(&self) -> usize {
        let members = self.members.iter();
        members.filter(|member| member.problem.is_none()).count()
    }

    /// So many must answer for anything to be written.
    #[must_use]
    pub fn quorum(&self) -> usize {
        self.members.len() / 2 + 1
    }

    /// How many more may be lost; `None`: too many are lost already.
    #[must_use]
    pub fn tolerates(&self) -> Option<usize> {
        self.alive().checked_sub(self.quorum())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(alive: usize, dead: usize) -> KvMembers {
        let member = |index: usize| KvMember {
            name: index.to_string(),
            problem: (index >= alive).then(|| "away".to_owned()),
            ..KvMember::default()
        };
        KvMembers {
            members: (0..alive + dead).map(member).collect(),
            ..KvMembers::default()
        }
    }

    #[test]
    fn a_majority_of_all_members_is_needed() {
        assert_eq!(members(1, 0).tolerates(), Some(0));
        assert_eq!(members(3, 0).tolerates(), Some(1));
        assert_eq!(members(2, 1).tolerates(), Some(0));
        assert_eq!(members(1, 2).tolerates(), None);
        assert_eq!(members(4, 1).tolerates(), Some(1));
        assert_eq!(members(2, 2).tolerates(), None);
        assert_eq!(KvMembers::embedded("file").tolerates(), Some(0));
    }
}
