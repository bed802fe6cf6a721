//! A value of one block with the write that made it and the reads that saw it.

use super::history::OpId;
use crate::pattern::Content;
use vocab::Lba;

/// Later than everything.
pub(super) const NEVER: u64 = u64::MAX;

/// What a block holds while a cluster is current.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value {
    /// What the device began with: zeros, or the snapshot it is a clone of.
    Base,
    /// Zeros, by an unmap.
    Zero,
    /// A write of this history.
    Written(u64),
    /// A block of the base that a crash image pinned to exactly this.
    Known(Content),
}

/// Times are ticks of the history's clock.
#[derive(Clone, Debug)]
pub(super) struct Cluster {
    /// `None` for what the device began with or was found with after a crash.
    pub op: Option<OpId>,
    pub value: Value,
    pub issued: u64,
    /// The latest start of the write and the reads: it was current at some time after this.
    pub start: u64,
    /// The earliest end of the write and the reads: it was current at some time before this.
    pub end: u64,
    /// When the write was acknowledged.
    pub acked: u64,
    /// When a failed operation was over: it happened before or not at all.
    pub settled: u64,
    /// Durable when acknowledged.
    pub fua: bool,
    /// In a frozen image: must be visible or overwritten.
    pub required: bool,
}

impl Cluster {
    /// What the device holds at `time`, without an operation.
    pub(super) fn found(value: Value, time: u64) -> Self {
        Self {
            op: None,
            value,
            issued: time,
            start: time,
            end: time,
            acked: time,
            settled: NEVER,
            fua: false,
            required: true,
        }
    }

    /// An operation that begins at `time`.
    pub(super) fn begun(op: OpId, value: Value, time: u64, fua: bool) -> Self {
        Self {
            op: Some(op),
            value,
            issued: time,
            start: time,
            end: NEVER,
            acked: NEVER,
            settled: NEVER,
            fua,
            required: false,
        }
    }

    /// The latest moment by which it had happened, if it ever does.
    pub(super) fn happened_by(&self) -> u64 {
        self.end.min(self.settled)
    }

    /// Whether `later` must have replaced this one.
    pub(super) fn precedes(&self, later: &Self) -> bool {
        self.happened_by() < later.start
    }

    /// The same, seen by a read from `begun` to `ended`.
    pub(super) fn seen(&self, begun: u64, ended: u64) -> Self {
        let mut seen = self.clone();
        seen.start = seen.start.max(begun);
        seen.end = self.happened_by().min(ended);
        seen
    }

    /// Whether no sequential order of the two is possible.
    pub(super) fn contradicts(&self, other: &Self) -> bool {
        self.end < other.start && other.end < self.start
    }

    /// Whether a crash cannot undo it, when a flush issued at `flushed` was the last acknowledged one.
    pub(super) fn durable(&self, flushed: u64) -> bool {
        self.acked < flushed || (self.acked != NEVER && (self.fua || self.op.is_none()))
    }

    /// Whether a block that holds this reads as `content`. `base` says what the base may read as.
    pub(super) fn explains(
        &self,
        content: Content,
        lba: Lba,
        seed: u64,
        base: impl FnOnce(Lba, Content) -> bool,
    ) -> bool {
        match self.value {
            Value::Base => base(lba, content),
            Value::Zero => content == Content::Zero,
            Value::Written(version) => content == Content::Written { seed, lba, version },
            Value::Known(known) => content == known,
        }
    }
}
