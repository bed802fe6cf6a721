//! Volumes that this node gives up because they are to be served elsewhere, or because it stops.
//!
//! Invariants
//! - A volume that need not go is given up only when it is drained, nothing is amiss, and the catalog has just taken a write: an outage of
//!   the catalog makes none of a volume that is served, unless it begins in the moment between that write and the next.
//! - Whoever asks for it here in the next moments is sent to the node that it was given to, until that one has failed or given it on.

use super::{BACKOFF, Failure, LEFT_FOR, Refusal};
use crate::host::Host;
use crate::options::bug;
use futures_util::future::join_all;
use rpc::{Reply, Request};
use std::rc::Rc;
use vocab::{NodeId, VolumeId};
use volume::Volume;
use wire::{Lane, NodeError, NodeReply, NodeRequest};
use world::Duration;

/// How long a volume that is handed over may drain first, and its next owner may take to open it.
const HAND_OVER_PATIENCE: Duration = Duration::from_secs(30);
/// How long the catalog may take to note that a volume is given up, or that it could.
const CATALOG_WORD: Duration = Duration::from_secs(1);

/// How long the catalog may take to note that all volumes of a node that stops are given up, however many there are.
const RELEASE_PATIENCE: Duration = Duration::from_secs(5);

/// Why a volume was not moved to another node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NotMoved {
    /// It stays here: it cannot be drained in time, or the catalog takes no note. Where that showed only when it was given up, it is
    /// opened here again.
    Stays(String),
    /// It is served here as before: something else is amiss by now.
    Restless,
    /// A third node has it: a client asked that one first.
    Overtaken(NodeId),
    /// It was not served by anybody, and is here now: it can be handed over next.
    Opened,
    /// It was given up, and the other node has not opened it. Whoever asks for it first does.
    Astray(String),
}

impl Host {
    /// The node that should serve a volume in place of this one, which drains: any that lives and does not, each for its
    /// share of the volumes.
    pub(super) fn successor(&self, id: VolumeId) -> Option<NodeId> {
        self.members.look(|view| {
            if !view.node_drains(self.id) {
                return None;
            }
            let alive = view.alive.keys().copied();
            let stays: Vec<NodeId> = alive.filter(|&node| view.takes_volumes(node)).collect();
            let turn = usize::try_from(id.0).unwrap_or(0);
            stays.get(turn % stays.len().max(1)).copied()
        })
    }

    /// Hands the volumes served here to other nodes: drained, so that those take over at once.
    pub(crate) async fn hand_over(&self) {
        for volume in self.volumes.all() {
            let id = volume.id();
            if self.successor(id).is_none() {
                return;
            }
            let _ = self.world.timeout(HAND_OVER_PATIENCE, volume.drain()).await;
            tracing::info!(volume = %volume.name(), "handed over: this node drains");
            self.release(&volume, None, CATALOG_WORD).await;
            self.sessions.end_volume(id, &NodeError::NotOwner);
        }
    }

    /// Hands a volume served here to a node that serves few: drained, so that what it takes over is little, and its clients wait for a
    /// moment only. As after any takeover they repeat what was not acknowledged. This node leaves it alone for a while. `is_calm` is
    /// asked once more when nothing but giving it up is left.
    ///
    /// # Errors
    /// [`NotMoved`].
    pub(crate) async fn hand_to(
        self: &Rc<Self>,
        volume: &Volume,
        to: NodeId,
        is_calm: impl Fn() -> bool,
    ) -> Result<(), NotMoved> {
        let id = volume.id();
        self.prepare_to_leave(volume)
            .await
            .map_err(NotMoved::Stays)?;
        if !is_calm() {
            return Err(NotMoved::Restless);
        }
        let refusal = Refusal::Elsewhere(to);
        let released = self.release(volume, Some(refusal), CATALOG_WORD).await;
        self.sessions.end_volume(id, &NodeError::NotOwner);
        if !released {
            // The row may name this node still, and then no other would serve it.
            self.volumes.failures.borrow_mut().remove(&id);
            let host = self.clone();
            self.spawn(async move {
                let _ = host.acquire(id).await;
            });
            return Err(NotMoved::Stays("the catalog was not told".to_owned()));
        }
        let opened = self.have_opened(volume.name().to_owned(), to).await;
        let Err(reason) = opened else {
            return Ok(());
        };
        // Whoever asks here first has it again.
        self.volumes.failures.borrow_mut().remove(&id);
        match self.overtaker(volume, to).await {
            Some(third) => Err(NotMoved::Overtaken(third)),
            None => Err(NotMoved::Astray(reason)),
        }
    }

    /// The node that has a volume that was given up for another one, if that one did not even begin to open it: whoever does raises the
    /// epoch.
    async fn overtaker(&self, volume: &Volume, to: NodeId) -> Option<NodeId> {
        let read = self.catalog.volume(volume.id());
        let row = self.world.timeout(CATALOG_WORD, read).await.ok()?.ok()?.row;
        let owner = row.owner.filter(|owner| ![to, self.id].contains(owner));
        owner.filter(|_| row.epoch == volume.epoch().next())
    }

    /// Drains a volume that is to be given up, and makes sure that the catalog takes note of owners now: without it nobody could open the
    /// volume again, which is served well here.
    async fn prepare_to_leave(&self, volume: &Volume) -> Result<(), String> {
        match self.world.timeout(HAND_OVER_PATIENCE, volume.drain()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(error.to_string()),
            Err(_) => return Err("it is not drained in time".to_owned()),
        }
        // Written as it is: a catalog that is full, or without a majority, may still be read.
        let written = self
            .catalog
            .update_as_owner(volume.id(), volume.epoch(), |_| true);
        match self.world.timeout(CATALOG_WORD, written).await {
            Ok(Ok(row)) if row.owner == Some(self.id) => {}
            Ok(Ok(_)) => return Err("it is not this node's any more".to_owned()),
            Ok(Err(error)) => return Err(error.to_string()),
            Err(_) => return Err("the catalog does not answer in time".to_owned()),
        }
        match self.volumes.get(volume.id()) {
            Some(_) => Ok(()),
            None => Err("it is not served here any more".to_owned()),
        }
    }

    /// Has a node open a volume that nobody serves, before a client asks another one for it.
    async fn have_opened(&self, name: String, by: NodeId) -> Result<(), String> {
        let peer = self.remote.peer(by, Lane::Log);
        let peer = peer.ok_or("its address is not known here")?;
        let request = NodeRequest::Locate { volume: name };
        let call = peer.call(Request::Node(request), Vec::new());
        let answer = self.world.timeout(HAND_OVER_PATIENCE, call).await;
        let (reply, _) = answer
            .map_err(|_| "it does not answer in time".to_owned())?
            .map_err(|error| error.to_string())?;
        match reply {
            Reply::Node(Ok(NodeReply::Located { owner, .. })) if owner == by => Ok(()),
            Reply::Node(Ok(NodeReply::Located { owner, .. })) => {
                let owner = self.members.node_name(owner);
                Err(format!("{owner} serves it in its place"))
            }
            Reply::Node(Err(error)) => Err(error.to_string()),
            other => Err(format!("it gave an answer of another kind: {other:?}")),
        }
    }

    /// Gives up every volume, so that others need not wait for a suspicion. Without a catalog that takes note they do.
    pub(crate) async fn release_all(&self) {
        let volumes = self.volumes.all();
        let all = { volumes.iter() }.map(|volume| self.release(volume, None, RELEASE_PATIENCE));
        let told = join_all(all).await;
        let untold = told.iter().filter(|told| !**told).count();
        if untold > 0 {
            tracing::warn!(
                untold,
                "the catalog was not told of volumes that are given up"
            );
        }
    }

    /// Gives a volume up; whether the catalog knows. `left`: the answer to whoever asks for it here in the next moments.
    async fn release(&self, volume: &Volume, left: Option<Refusal>, patience: Duration) -> bool {
        let (id, epoch) = (volume.id(), volume.epoch());
        let too_late = bug!(self.options.faults, GiveUpServed);
        if !too_late {
            self.volumes.abandon(id);
        }
        if let Some(refusal) = left {
            let failure = Failure {
                pause: BACKOFF,
                until: self.world.now() + LEFT_FOR,
                refusal,
            };
            self.volumes.failures.borrow_mut().insert(id, failure);
        }
        let released = self.catalog.update_as_owner(id, epoch, |row| {
            row.owner = None;
            true
        });
        let released = self.world.timeout(patience, released).await;
        if too_late {
            self.volumes.abandon(id);
        }
        matches!(released, Ok(Ok(_)))
    }
}
