//! What is remembered of operations: for acknowledgements, and for messages that name them.

use super::cluster::{Cluster, Value};
use super::history::{Action, OpId};
use super::violation::Violation;
use crate::pattern::Content;
use std::collections::BTreeMap;
use std::fmt::Write;
use vocab::Lba;

/// Finished operations that are remembered for messages: 65,536 of about 100 bytes.
const REMEMBERED_MAX: usize = 1 << 16;

/// One operation.
#[derive(Clone, Debug)]
pub(super) struct Op {
    pub action: Action,
    pub issued: u64,
    /// When it ended, and how.
    pub ended: Option<(u64, &'static str)>,
}

/// All operations that are under way, and the latest that are not.
#[derive(Default)]
pub(super) struct Log {
    ops: BTreeMap<OpId, Op>,
    last: u64,
}

impl Log {
    pub(super) fn begin(&mut self, action: Action, issued: u64) -> OpId {
        self.last += 1;
        let id = OpId(self.last);
        let op = Op {
            action,
            issued,
            ended: None,
        };
        self.ops.insert(id, op);
        id
    }

    /// Marks an operation as over and returns it.
    ///
    /// # Panics
    /// When it is over already or never began: a bug of the scenario.
    pub(super) fn end(&mut self, id: OpId, now: u64, how: &'static str) -> Op {
        let op = self.ops.get_mut(&id);
        let op = op.unwrap_or_else(|| panic!("{id} never began or ended long ago"));
        assert!(op.ended.is_none(), "{id} ended twice");
        op.ended = Some((now, how));
        let ended = op.clone();
        while self.ops.len() > REMEMBERED_MAX {
            let oldest = self.ops.iter().find(|(_, op)| op.ended.is_some());
            let Some(oldest) = oldest.map(|(id, _)| *id) else {
                break;
            };
            self.ops.remove(&oldest);
        }
        ended
    }

    pub(super) fn get(&self, id: OpId) -> Option<&Op> {
        self.ops.get(&id)
    }

    pub(super) fn under_way(&self) -> Vec<OpId> {
        let pending = self.ops.iter().filter(|(_, op)| op.ended.is_none());
        pending.map(|(id, _)| *id).collect()
    }

    /// An operation in words.
    pub(super) fn describe(&self, id: OpId) -> String {
        let Some(op) = self.ops.get(&id) else {
            return format!("{id} (long ago)");
        };
        let end = match op.ended {
            Some((at, how)) => format!("{how} t{at}"),
            None => "under way".to_owned(),
        };
        format!("{id} ({}, issued t{}, {end})", op.action, op.issued)
    }

    /// A cluster in words.
    pub(super) fn describe_cluster(&self, cluster: &Cluster) -> String {
        match (cluster.op, cluster.value) {
            (Some(op), Value::Written(version)) => {
                format!("version {version} of {}", self.describe(op))
            }
            (Some(op), _) => format!("zeros of {}", self.describe(op)),
            (None, Value::Base) => "what the device began with".to_owned(),
            (None, Value::Known(content)) => format!("{content}, found at t{}", cluster.issued),
            (None, Value::Zero) => format!("zeros, found at t{}", cluster.issued),
            (None, Value::Written(version)) => {
                format!("version {version}, found at t{}", cluster.issued)
            }
        }
    }

    fn describe_all(&self, clusters: &[Cluster]) -> String {
        let mut text = String::new();
        for cluster in clusters.iter().rev().take(8) {
            let separator = if text.is_empty() { "" } else { ", or " };
            let _ = write!(text, "{separator}{}", self.describe_cluster(cluster));
        }
        if text.is_empty() {
            text.push_str("zeros");
        }
        text
    }

    /// The violation of a block that holds what none of `clusters` explains.
    pub(super) fn unexplained(
        &self,
        lba: Lba,
        content: Content,
        seed: u64,
        clusters: &[Cluster],
    ) -> Violation {
        let admissible = self.describe_all(clusters);
        let reason = match content {
            Content::Foreign => None,
            Content::Zero => Some("its data vanished".to_owned()),
            Content::Written { lba: at, .. } if at != lba => None,
            Content::Written { seed: by, .. } if by != seed => {
                Some("another device's data, which this one never inherited".to_owned())
            }
            Content::Written { version, .. } if version > self.last => {
                Some("it was never issued".to_owned())
            }
            Content::Written { version, .. } => Some(format!(
                "{} was overwritten or lost before",
                self.describe(OpId(version))
            )),
        };
        match reason {
            Some(reason) => Violation::Unexplained {
                lba,
                content,
                reason,
                admissible,
            },
            None => Violation::Wrong {
                lba,
                content,
                admissible,
            },
        }
    }
}
