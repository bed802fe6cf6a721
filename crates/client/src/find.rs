//! Finds a volume's owner and opens a session on it.

use crate::ClientOptions;
use crate::engine::Session;
use rpc::{Hello, Peer, Reply, Request, RpcError};
use vocab::NodeId;
use wire::{NodeError, NodeReply, NodeRequest, SessionNumber, VolumeInfo};
use world::{Address, Duration, World};

/// First bound of waiting for an answer; a node that hangs must not cost more than that.
const WAIT_MIN: Duration = Duration::from_secs(1);
/// Doublings of it: up to 8 s, for owners that take over slowly.
const WAIT_DOUBLINGS_MAX: u32 = 3;
/// How long a node may take to say who serves a volume whose owner is silent: it may take it over meanwhile, and one that is
/// cut off as well must not use up the silence after which the connection is lost.
const LOOK_WAIT: Duration = Duration::from_secs(2);
/// Addresses remembered; far more nodes than are ever asked.
const NODES_MAX: usize = 1024;

/// Why an attempt brought no session.
#[derive(Debug)]
pub(crate) enum Setback {
    /// Final.
    NoVolume,
    /// Final.
    Detached(String),
    /// Every node refused the connection: another cluster or release. A person must look, but a retry is harmless.
    Refused(String),
    /// Worth another try.
    Later(String),
}

/// Remembers the nodes and counts the sessions.
pub(crate) struct Finder {
    world: World,
    options: ClientOptions,
    hello: Hello,
    client: u64,
    last_session: SessionNumber,
    learned: Vec<Address>,
    /// Where the last session was: asked last when it failed.
    last_owner: Option<Address>,
    /// Who knew of another owner than the silent one, or gave the volume away: asked first, once.
    guide: Option<Address>,
}

impl Finder {
    pub(crate) fn new(world: World, options: ClientOptions) -> Self {
        let client = match options.client {
            0 => world.rng.next_u64(),
            client => client,
        };
        Self {
            hello: Hello {
                cluster: options.cluster.clone(),
                node: NodeId(0),
                start: world.rng.next_u64(),
                levels: options.levels,
            },
            client,
            last_session: SessionNumber::before_first(world.clock.unix_ms()),
            learned: Vec::new(),
            last_owner: None,
            guide: None,
            world,
            options,
        }
    }

    /// One round over the nodes. `failures` in a row so far lengthen the waits.
    pub(crate) async fn attempt(
        &mut self,
        failures: u32,
    ) -> Result<(Session, VolumeInfo), Setback> {
        let wait = WAIT_MIN * (1 << failures.min(WAIT_DOUBLINGS_MAX));
        let mut refusals = Vec::new();
        let mut last = "no node is known".to_owned();
        let nodes = self.candidates();
        self.guide = None;
        let asked = nodes.len();
        for node in nodes {
            match self.ask(&node, wait).await {
                Ok(found) => return Ok(found),
                Err(Setback::Refused(reason)) => {
                    last.clone_from(&reason);
                    refusals.push(reason);
                }
                Err(Setback::Later(reason)) => last = reason,
                Err(setback) => return Err(setback),
            }
        }
        match refusals.pop() {
            Some(reason) if refusals.len() + 1 == asked => Err(Setback::Refused(reason)),
            _ => Err(Setback::Later(last)),
        }
    }

    /// The last owner has said that it is none any more: it knows best to whom it gave the volume, and whoever else is asked first
    /// might take it over.
    pub(crate) fn ask_last_owner_first(&mut self) {
        self.guide.clone_from(&self.last_owner);
    }

    /// Asks the nodes but a silent owner who serves the volume now; whoever is asked takes it over if nobody does. `None` when
    /// nobody answers.
    pub(crate) async fn look(&mut self, silent: &Address) -> Option<Address> {
        let mut others = self.candidates();
        others.retain(|node| node != silent);
        for node in others {
            let peer = self.peer(&node);
            let Ok(owner) = self.locate(&peer, LOOK_WAIT).await else {
                continue;
            };
            if owner != *silent {
                self.guide = Some(node);
            }
            return Some(owner);
        }
        None
    }

    /// Nodes in the order they are asked: the guide, learned ones, configured ones, the owner that failed.
    fn candidates(&self) -> Vec<Address> {
        let mut nodes: Vec<Address> = Vec::new();
        for node in self.options.nodes.iter().chain(&self.learned) {
            if !nodes.contains(node) {
                nodes.push(node.clone());
            }
        }
        nodes.sort_by_key(|node| {
            let failed = self.last_owner.as_ref() == Some(node);
            (
                self.guide.as_ref() != Some(node),
                failed,
                !self.learned.is_empty() && !self.learned.contains(node),
            )
        });
        nodes
    }

    /// Asks one node for the owner, and the owner for a session.
    async fn ask(
        &mut self,
        node: &Address,
        wait: Duration,
    ) -> Result<(Session, VolumeInfo), Setback> {
        let peer = self.peer(node);
        let owner = self.locate(&peer, wait).await?;
        let peer = if owner == *node {
            peer
        } else {
            self.peer(&owner)
        };
        self.last_owner = Some(owner);
        self.open(peer, wait).await
    }

    /// The owner, as a node tells; its list of nodes is kept.
    async fn locate(&mut self, peer: &Peer, wait: Duration) -> Result<Address, Setback> {
        let volume = self.options.volume.clone();
        let request = NodeRequest::Locate { volume };
        let NodeReply::Located { address, nodes, .. } = self.call(peer, request, wait).await?
        else {
            let node = peer.address();
            return Err(Setback::Later(format!(
                "{node} gave an answer of another kind"
            )));
        };
        self.learned = nodes.into_iter().take(NODES_MAX).map(Address).collect();
        Ok(Address(address))
    }

    async fn open(&mut self, peer: Peer, wait: Duration) -> Result<(Session, VolumeInfo), Setback> {
        // Counted also when the answer is lost: the owner may have seen it.
        self.last_session = self.last_session.next();
        let number = self.last_session;
        let request = NodeRequest::Open {
            volume: self.options.volume.clone(),
            client: self.client,
            session: number,
            attachment: self.options.attachment,
            read_only: self.options.read_only,
        };
        match self.call(&peer, request, wait).await? {
            NodeReply::Opened { handle, info } => {
                let session = Session {
                    number,
                    peer,
                    handle,
                };
                Ok((session, info))
            }
            _ => {
                let reason = format!("{} gave an answer of another kind", peer.address());
                Err(Setback::Later(reason))
            }
        }
    }

    fn peer(&self, address: &Address) -> Peer {
        Peer::single_use(self.world.clone(), address.clone(), self.hello.clone())
    }

    async fn call(
        &self,
        peer: &Peer,
        request: NodeRequest,
        wait: Duration,
    ) -> Result<NodeReply, Setback> {
        let call = peer.call(Request::Node(request), Vec::new());
        let address = peer.address();
        match self.world.timeout(wait, call).await {
            Err(_) => Err(Setback::Later(format!(
                "{address} did not answer within {wait:?}"
            ))),
            Ok(Ok((Reply::Node(Ok(reply)), _))) => Ok(reply),
            Ok(Ok((Reply::Node(Err(NodeError::NoVolume { .. })), _))) => Err(Setback::NoVolume),
            Ok(Ok((Reply::Node(Err(error @ NodeError::Detached { .. })), _))) => {
                Err(Setback::Detached(error.to_string()))
            }
            Ok(Ok((Reply::Node(Err(error)), _))) => {
                Err(Setback::Later(format!("{address}: {error}")))
            }
            Ok(Ok((Reply::Refused(reason), _))) => {
                Err(Setback::Refused(format!("{address}: {reason}")))
            }
            Ok(Ok(_)) => Err(Setback::Later(format!(
                "{address} gave an answer of another kind"
            ))),
            Ok(Err(error @ RpcError::Refused { .. })) => Err(Setback::Refused(error.to_string())),
            Ok(Err(error)) => Err(Setback::Later(error.to_string())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vocab::AttachmentGeneration;
    use world_sim::{Options, Simulation};

    #[test]
    fn an_owner_that_gave_the_volume_away_is_asked_first_and_one_that_failed_last() {
        let sim = Simulation::new(1, Options::default());
        let nodes: Vec<Address> = ["a", "b", "c"].map(|name| Address(name.to_owned())).into();
        let options = ClientOptions {
            cluster: "test".into(),
            nodes: nodes.clone(),
            volume: "v".into(),
            client: 1,
            attachment: AttachmentGeneration(0),
            read_only: false,
            levels: vocab::Levels::OWN,
            patience: Duration::MAX,
            doubt_after: crate::DOUBT_AFTER,
        };
        let mut finder = Finder::new(sim.host("client").world(), options);
        finder.last_owner = Some(nodes[1].clone());
        let order = |finder: &Finder| {
            finder
                .candidates()
                .iter()
                .map(|node| node.0.clone())
                .collect::<String>()
        };
        assert_eq!(order(&finder), "acb");
        finder.ask_last_owner_first();
        assert_eq!(order(&finder), "bac");
    }
}
