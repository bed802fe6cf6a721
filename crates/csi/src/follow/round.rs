//! One look at all nodes, and what follows from it.

use super::judge::{Evidence, Heard, Unserved, apart, evidence, suspects};
use super::unfenced::{Fences, Outcome, Unfenced, fence_all};
use super::{FollowOptions, Load, Mark, Orchestrator, Unanswered, Worker};
use crate::call::Call;
use crate::cluster::{ApiError, Cluster};
use crate::controller::read_rows;
use crate::handle::{Handles, volume_address};
use api::http::path;
use api::{ClusterAnswer, ErrorKind, VolumeAnswer};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// Time for what one round asks the cluster about one node before it fences anything.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long a lost node that had nothing of this driver is not looked at again.
const NOTHING_THERE: Duration = Duration::from_secs(20);

/// Why a round leaves a node as it is.
#[derive(Debug, thiserror::Error)]
enum Held {
    #[error(transparent)]
    Orchestrator(#[from] Unanswered),
    #[error("the storage cluster: {0}")]
    Storage(String),
    #[error("its volume {0} still hears it")]
    Heard(String),
    #[error("it cannot be told whether its volume {0} still hears it")]
    Unknown(String),
}

impl From<ApiError> for Held {
    fn from(error: ApiError) -> Self {
        Self::Storage(error.to_string())
    }
}

/// Rounds over all nodes.
pub(super) struct Rounds<'a> {
    cluster: &'a Cluster,
    orchestrator: &'a dyn Orchestrator,
    options: FollowOptions,
    heard: Heard,
    unserved: Unserved,
    /// What was said last of each node: said again only when it changes.
    said: BTreeMap<String, String>,
    /// Lost nodes that had nothing, and when that was seen.
    bare: BTreeMap<String, Instant>,
    /// What came of fences.
    fences: Fences,
    /// How far apart two looks at one volume may be.
    apart: Duration,
    /// Of which volumes of each node that was said.
    kept: BTreeMap<String, Vec<String>>,
}

impl<'a> Rounds<'a> {
    pub fn new(
        cluster: &'a Cluster,
        orchestrator: &'a dyn Orchestrator,
        options: FollowOptions,
    ) -> Self {
        Self {
            cluster,
            orchestrator,
            options,
            heard: Heard::default(),
            unserved: Unserved::default(),
            said: BTreeMap::new(),
            bare: BTreeMap::new(),
            fences: Fences::default(),
            apart: apart(&options, 0),
            kept: BTreeMap::new(),
        }
    }

    fn say(&mut self, about: &str, text: String) {
        if self.said.get(about) != Some(&text) {
            tracing::warn!(node = about, "{text}");
            self.said.insert(about.to_owned(), text);
        }
    }

    /// One round. What fails is said and tried again in the next one.
    pub fn play(&mut self) {
        let workers = match self.orchestrator.workers() {
            Ok(workers) => workers,
            Err(error) => return self.say("", format!("nodes are not watched: {error}")),
        };
        let now = Instant::now();
        self.heard.note(&workers, now, &self.options);
        let lost: Vec<String> = match suspects(&workers, &self.heard, now, &self.options) {
            Ok(lost) => lost.iter().map(|worker| worker.name.clone()).collect(),
            Err(count) => {
                let text = format!(
                    "{count} of {} nodes are silent at once: nothing is done, for that may be the network here",
                    workers.len()
                );
                return self.say("", text);
            }
        };
        self.said.retain(|name, _| lost.contains(name));
        self.kept.retain(|name, _| lost.contains(name));
        self.fences.retain(&lost);
        self.apart = apart(&self.options, lost.len());
        self.bare
            .retain(|name, seen| lost.contains(name) && now.duration_since(*seen) < NOTHING_THERE);
        for name in lost
            .into_iter()
            .filter(|name| !self.bare.contains_key(name))
            .collect::<Vec<_>>()
        {
            let marked = workers
                .iter()
                .any(|worker| worker.name == name && worker.mark != Mark::None);
            if let Err(held) = self.let_go(&name, marked) {
                self.say(
                    &name,
                    format!("node {name} is silent, and is left as it is: {held}"),
                );
            }
        }
        let back = |worker: &&Worker| {
            let steady = self.options.return_after;
            worker.mark == Mark::Ours && self.heard.is_steady(&worker.name, now, steady)
        };
        for worker in workers.iter().filter(back) {
            self.take_back(&worker.name);
        }
    }

    fn take_back(&self, name: &str) {
        match self.orchestrator.mark(name, false) {
            Ok(false) => {}
            Ok(true) => {
                let text = "the node is heard again: it is in service, with nothing of what it had";
                tracing::info!(node = name, "{text}");
                self.orchestrator.tell(name, "AzekuraInService", text);
            }
            Err(error) => tracing::warn!(node = name, %error, "its mark stays"),
        }
    }

    /// Fences the node's volumes, marks it, lets go of its pods, and then of its volume attachments. What cannot be fenced keeps the
    /// node from being marked, and the pods that use it from being let go.
    fn let_go(&mut self, name: &str, marked: bool) -> Result<(), Held> {
        let call = Call::own(PATIENCE);
        let cluster = self.cluster.ask(&call).overview()?;
        let (volumes, generations) = self.attached_to(&call, name)?;
        let mute = self.check_silent(&call, name, &volumes, &cluster)?;
        let load = self.orchestrator.load(name)?;
        if volumes.is_empty() && load.attachments.is_empty() {
            self.bare.insert(name.to_owned(), Instant::now());
            return Ok(());
        }
        let handles = Handles {
            cluster: cluster.id,
        };
        let named = load.attachments.iter();
        let named = named.filter_map(|one| handles.parse_volume(one.volume.as_deref()?));
        let named =
            named.filter(|id| !self.fences.is_done(name, *id, generations.get(id).copied()));
        // Also those that were taken from it already, by whomever: requests may still run, and to ask again is to wait for their end.
        let attached = volumes.iter().map(|volume| volume.id);
        let wanted: BTreeSet<u64> = attached.chain(named).collect();
        let unfenced = self.fence(name, wanted, mute, handles);
        self.tell_of_fences(name, &volumes, &unfenced);
        if unfenced.is_empty() {
            self.mark(name, &load, marked)?;
        }
        let free = |volume: &Option<String>| !unfenced.may_be(volume.as_deref());
        for pod in load.pods.iter().filter(|pod| pod.volumes.iter().all(free)) {
            self.orchestrator.release(pod)?;
            tracing::warn!(
                node = name,
                namespace = pod.namespace,
                pod = pod.name,
                "a pod was let go"
            );
        }
        // Looked at anew: an attachment goes when no pod is left that would ask for it again.
        let left = self.orchestrator.load(name)?;
        let goes = |volume: &Option<String>| free(volume) && !left.uses(volume.as_deref());
        for attachment in left.attachments.iter().filter(|one| goes(&one.volume)) {
            self.orchestrator.detach(&attachment.name)?;
            let attachment = &attachment.name;
            tracing::warn!(node = name, attachment, "a volume attachment was let go");
        }
        Ok(())
    }

    /// Takes the volumes from a node, also those of before whose fence did not come to an end, but for those that are `mute`, and those
    /// that were asked for in vain a moment ago; what was not taken.
    fn fence(
        &mut self,
        name: &str,
        mut wanted: BTreeSet<u64>,
        mute: BTreeMap<u64, String>,
        handles: Handles,
    ) -> Unfenced {
        let mut left = self.fences.of_late(name, Instant::now());
        left.extend(mute);
        wanted.extend(self.fences.failed_of(name));
        wanted.retain(|id| !left.contains_key(id));
        let tried = self.fences.in_order(name, wanted);
        let outcomes = fence_all(self.cluster, name, &tried);
        self.fences.note(name, &outcomes);
        let failed = |(id, outcome): (u64, Outcome)| Some((id, outcome.err()?.why));
        left.extend(outcomes.into_iter().filter_map(failed));
        Unfenced { handles, why: left }
    }

    /// Says what was fenced, and, once, what could not be.
    fn tell_of_fences(&mut self, name: &str, volumes: &[VolumeAnswer], unfenced: &Unfenced) {
        let fenced = volumes
            .iter()
            .filter(|volume| !unfenced.why.contains_key(&volume.id));
        let fenced: Vec<&str> = fenced.map(|volume| volume.name.as_str()).collect();
        if !fenced.is_empty() {
            let fenced = fenced.join(", ");
            let text = format!("the node is silent: its volumes were fenced ({fenced})");
            tracing::warn!(node = name, "{text}");
            self.orchestrator.tell(name, "AzekuraFenced", &text);
        }
        let called = |id: &u64| {
            let listed = volumes.iter().find(|volume| volume.id == *id);
            listed.map_or_else(|| volume_address(*id), |volume| volume.name.clone())
        };
        let kept: Vec<String> = unfenced.why.keys().map(called).collect();
        let before = self.kept.get(name).map_or(&[][..], Vec::as_slice);
        if before == kept {
            return;
        }
        for (volume, why) in kept.iter().zip(unfenced.why.values()) {
            tracing::warn!(
                node = name,
                volume,
                why,
                "a volume of a silent node cannot be fenced"
            );
        }
        if !kept.is_empty() {
            let text = format!(
                "the node is silent, and volumes of it cannot be fenced ({}): pods that use them stay, and it is not marked out of \
                 service; its other pods are let go",
                kept.join(", ")
            );
            self.orchestrator.tell(name, "AzekuraNotFenced", &text);
        }
        self.kept.insert(name.to_owned(), kept);
    }

    fn mark(&mut self, name: &str, load: &Load, marked: bool) -> Result<(), Held> {
        if marked {
            return Ok(());
        }
        if load.foreign > 0 {
            let text = format!(
                "node {name} has {} volumes of other drivers, of which it is not known whether it still writes to them: it is not \
                 marked out of service, only the pods with volumes of this driver are let go",
                load.foreign
            );
            self.say(name, text);
            return Ok(());
        }
        // The list of nodes may be older than the mark.
        if !self.orchestrator.mark(name, true)? {
            return Ok(());
        }
        let text = "the node is silent and its volumes are fenced: it was marked out of service, so that its pods run elsewhere";
        tracing::warn!(node = name, "{text}");
        self.orchestrator.tell(name, "AzekuraOutOfService", text);
        Ok(())
    }

    /// The volumes that the cluster has given to a client, and the generations of the attachments of all volumes.
    fn attached_to(
        &self,
        call: &Call,
        name: &str,
    ) -> Result<(Vec<VolumeAnswer>, BTreeMap<u64, u64>), Held> {
        let asked = self.cluster.ask(call);
        let base = path(&["volumes"]);
        let (volumes, _) = read_rows(asked, &base, 0, None, |row: &VolumeAnswer| row.id)?;
        let attached = |volume: &VolumeAnswer| {
            let mut clients = volume.attachment.clients.iter();
            clients.any(|client| client == name)
        };
        let generations = volumes.iter();
        let generations = generations.map(|volume| (volume.id, volume.attachment.generation));
        let generations = generations.collect();
        Ok((volumes.into_iter().filter(attached).collect(), generations))
    }

    /// Whether none of the volumes hears the client, each asked now; those of which nobody will know, and why.
    fn check_silent(
        &mut self,
        call: &Call,
        name: &str,
        volumes: &[VolumeAnswer],
        cluster: &ClusterAnswer,
    ) -> Result<BTreeMap<u64, String>, Held> {
        let alive = cluster.nodes.iter().filter(|node| node.alive);
        let alive: BTreeSet<u32> = alive.map(|node| node.id).collect();
        self.unserved.forget(Instant::now(), self.apart);
        let mut all = Vec::new();
        for volume in volumes {
            let asked = self.cluster.ask(call);
            let shown = asked.get(&path(&["volumes", &volume_address(volume.id)]));
            let shown: VolumeAnswer = match shown {
                Err(error) if error.kind() == Some(ErrorKind::NotFound) => continue,
                shown => shown?,
            };
            // Of each, whatever the others say: their times run side by side.
            let now = Instant::now();
            let unserved = self.unserved.note(&shown, &alive, now);
            all.push((shown, unserved));
        }
        let mut mute = BTreeMap::new();
        for (shown, unserved) in all {
            match evidence(&shown, name, unserved, &self.options) {
                Evidence::Silent => {}
                Evidence::Heard => return Err(Held::Heard(shown.name)),
                Evidence::Unknown => return Err(Held::Unknown(shown.name)),
                Evidence::Mute => {
                    let why = shown.reason.unwrap_or_else(|| {
                        "its owner is gone, and no other node can open it".to_owned()
                    });
                    mute.insert(shown.id, why);
                }
            }
        }
        Ok(mute)
    }
}
