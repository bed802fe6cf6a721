//! Whether the process of an owner runs: its machine is asked, which refuses connections when it does not.
//!
//! Invariants
//! - A machine is asked once at a time, and its answer is good for a moment: clients of hundreds of volumes doubt the same owner together.
//! - One whose process is said to be gone and that renews its lease all the same, for as long as leases last, is not gone.

use crate::host::Host;
use std::cell::RefCell;
use std::collections::BTreeMap;
use vocab::NodeId;
use world::sync::Lock;
use world::{Address, Duration, NetError, Time};

/// Patience with the machine of an owner that is asked whether its process runs.
const PROBE_PATIENCE: Duration = Duration::from_millis(300);
/// So many leases after a node was found gone it must have lost its own, or it is not gone.
const LEASES_MAX: u32 = 3;
/// Pause before it is asked again: it may be starting.
const PROBE_PAUSE: Duration = Duration::from_millis(150);

/// What machines said, by node.
#[derive(Default)]
pub(super) struct Probes {
    /// Starts of nodes whose machine said that their process is gone, and when it said so first.
    believed_gone: RefCell<BTreeMap<NodeId, (u64, Time)>>,
    /// The start that was asked for last, when, and whether it was gone.
    said: RefCell<BTreeMap<NodeId, (u64, Time, bool)>>,
    locks: RefCell<BTreeMap<NodeId, Lock>>,
}

impl Probes {
    fn lock_of(&self, node: NodeId) -> Lock {
        self.locks.borrow_mut().entry(node).or_default().clone()
    }

    /// Since when this start of a node is believed to be gone.
    fn since(&self, node: NodeId, start: u64) -> Option<Time> {
        let believed = self.believed_gone.borrow();
        let (of, since) = believed.get(&node)?;
        (*of == start).then_some(*since)
    }

    /// Whether it was believed to be gone, and has its lease for too long since.
    fn is_refuted(&self, node: NodeId, start: u64, now: Time, lease: Duration) -> bool {
        let since = self.since(node, start);
        since.is_some_and(|since| now.since(since) > lease * LEASES_MAX)
    }

    /// Whether its machine said that this start of a node is gone, and nothing refutes it.
    pub(super) fn is_believed_gone(
        &self,
        node: NodeId,
        start: u64,
        now: Time,
        lease: Duration,
    ) -> bool {
        self.since(node, start).is_some() && !self.is_refuted(node, start, now, lease)
    }

    /// What its machine said a moment ago.
    fn said(&self, node: NodeId, start: u64, now: Time, good_for: Duration) -> Option<bool> {
        let said = self.said.borrow();
        let (of, at, gone) = said.get(&node)?;
        (*of == start && now.since(*at) < good_for).then_some(*gone)
    }

    fn note(&self, node: NodeId, start: u64, now: Time, gone: bool) {
        self.said.borrow_mut().insert(node, (start, now, gone));
        let mut believed = self.believed_gone.borrow_mut();
        let known = believed.get(&node).is_some_and(|(of, _)| *of == start);
        if gone && !known {
            believed.insert(node, (start, now));
        } else if !gone && known {
            // It was a filter, or a machine without room for a connection.
            believed.remove(&node);
        }
    }
}

impl Host {
    /// Whether a node's address refuses connections twice in a row. One that goes on renewing its lease all the same is
    /// not gone: a filter in between refuses, and two nodes must not take volumes from each other because of that.
    pub(super) async fn is_process_gone(&self, node: NodeId) -> bool {
        let Some(address) = self.address_of(node) else {
            return false;
        };
        let start = self
            .members
            .look(|view| view.alive.get(&node).map(|row| row.start));
        let start = start.unwrap_or_default();
        let probes = &self.volumes.probes;
        if probes.is_refuted(node, start, self.world.now(), self.options.lease) {
            return false;
        }
        let (lock, good_for) = (probes.lock_of(node), self.options.probe_good_for);
        let held = match good_for.is_zero() {
            true => None,
            false => Some(lock.lock().await),
        };
        if let Some(gone) = probes.said(node, start, self.world.now(), good_for) {
            return gone;
        }
        let gone = self.refuses(&address).await;
        probes.note(node, start, self.world.now(), gone);
        drop(held);
        gone
    }

    /// Whether a process is gone from this address.
    async fn refuses(&self, address: &Address) -> bool {
        for pause in [PROBE_PAUSE, Duration::ZERO] {
            let attempt = self.world.net.connect(address);
            match self.world.timeout(PROBE_PATIENCE, attempt).await {
                Ok(Err(NetError::Refused { .. })) => self.world.sleep(pause).await,
                Ok(Ok(stream)) => {
                    stream.close();
                    return false;
                }
                Ok(Err(_)) | Err(_) => return false,
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_good_for_a_moment_and_for_one_start() {
        let (probes, node) = (Probes::default(), NodeId(1));
        let (at, good_for) = (
            Time(0) + Duration::from_secs(10),
            Duration::from_millis(300),
        );
        probes.note(node, 7, at, false);
        assert_eq!(
            probes.said(node, 7, at + good_for / 2, good_for),
            Some(false)
        );
        assert_eq!(probes.said(node, 7, at + good_for, good_for), None);
        assert_eq!(probes.said(node, 8, at, good_for), None);
        assert_eq!(probes.said(NodeId(2), 7, at, good_for), None);
    }

    #[test]
    fn one_that_keeps_its_lease_is_not_believed_gone_for_ever() {
        let (probes, node, lease) = (Probes::default(), NodeId(1), Duration::from_secs(2));
        let at = Time(0) + Duration::from_secs(10);
        let believed = |start, now| probes.is_believed_gone(node, start, now, lease);
        probes.note(node, 7, at, false);
        assert!(!believed(7, at));
        probes.note(node, 7, at, true);
        assert!(believed(7, at + lease * LEASES_MAX) && !believed(8, at));
        // Said again it is no more true.
        let later = at + lease * (LEASES_MAX + 1);
        probes.note(node, 7, later, true);
        assert!(!believed(7, later));
        probes.note(node, 8, later, true);
        assert!(believed(8, later), "another start");
    }
}
