//! One look at all nodes, and what follows from it.

use super::judge::{Evidence, Heard, Unserved, evidence, suspects};
use super::{FollowOptions, Load, Mark, Orchestrator, Unanswered, Worker};
use crate::call::Call;
use crate::cluster::{ApiError, Cluster};
use crate::controller::read_rows;
use crate::handle::volume_address;
use api::http::{Detach, path};
use api::{AttachmentAnswer, ErrorKind, VolumeAnswer};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Time for what one round asks the cluster about one node: a detach waits for requests that run.
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

    /// Fences the node's volumes, marks it, lets go of its pods, and then of its volume attachments.
    fn let_go(&mut self, name: &str, marked: bool) -> Result<(), Held> {
        let call = Call::own(PATIENCE);
        let volumes = self.attached_to(&call, name)?;
        self.check_silent(&call, name, &volumes)?;
        let load = self.orchestrator.load(name)?;
        if volumes.is_empty() && load.attachments.is_empty() {
            self.bare.insert(name.to_owned(), Instant::now());
            return Ok(());
        }
        for volume in &volumes {
            self.fence(&call, name, volume.id)?;
        }
        if !volumes.is_empty() {
            let names: Vec<&str> = volumes.iter().map(|volume| volume.name.as_str()).collect();
            let text = format!(
                "the node is silent: its volumes were fenced ({})",
                names.join(", ")
            );
            tracing::warn!(node = name, "{text}");
            self.orchestrator.tell(name, "AzekuraFenced", &text);
        }
        self.mark(name, &load, marked)?;
        for pod in &load.pods {
            self.orchestrator.release(pod)?;
            tracing::warn!(
                node = name,
                namespace = pod.namespace,
                pod = pod.name,
                "a pod was let go"
            );
        }
        // Looked at anew: the attachments go when no pod is left that would ask for them again.
        let left = self.orchestrator.load(name)?;
        if left.pods.is_empty() {
            for attachment in &left.attachments {
                self.orchestrator.detach(attachment)?;
                tracing::warn!(node = name, attachment, "a volume attachment was let go");
            }
        }
        Ok(())
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

    /// The volumes that the cluster has given to a client.
    fn attached_to(&self, call: &Call, name: &str) -> Result<Vec<VolumeAnswer>, Held> {
        let asked = self.cluster.ask(call);
        let base = path(&["volumes"]);
        let (volumes, _) = read_rows(asked, &base, 0, None, |row: &VolumeAnswer| row.id)?;
        let attached = |volume: &VolumeAnswer| {
            let mut clients = volume.attachment.clients.iter();
            clients.any(|client| client == name)
        };
        Ok(volumes.into_iter().filter(attached).collect())
    }

    /// Whether none of the volumes hears the client, each asked now.
    fn check_silent(
        &mut self,
        call: &Call,
        name: &str,
        volumes: &[VolumeAnswer],
    ) -> Result<(), Held> {
        let mut all = Vec::new();
        for volume in volumes {
            let asked = self.cluster.ask(call);
            let shown = asked.get(&path(&["volumes", &volume_address(volume.id)]));
            let shown: VolumeAnswer = match shown {
                Err(error) if error.kind() == Some(ErrorKind::NotFound) => continue,
                shown => shown?,
            };
            // Of each, whatever the others say: their times run side by side.
            let unserved = self.unserved.note(&shown, Instant::now(), &self.options);
            all.push((shown, unserved));
        }
        for (shown, unserved) in all {
            match evidence(&shown, name, unserved, &self.options) {
                Evidence::Silent => {}
                Evidence::Heard => return Err(Held::Heard(shown.name)),
                Evidence::Unknown => return Err(Held::Unknown(shown.name)),
            }
        }
        Ok(())
    }

    /// Takes a volume from a client; returns when nothing of it runs any more.
    fn fence(&self, call: &Call, name: &str, volume: u64) -> Result<(), Held> {
        let body = Detach {
            client: Some(name.to_owned()),
        };
        let asked = self.cluster.ask(call);
        let fenced = asked.post(
            &path(&["volumes", &volume_address(volume), "detach"]),
            &body,
        );
        match fenced {
            Ok::<AttachmentAnswer, _>(_) => Ok(()),
            Err(error) if error.kind() == Some(ErrorKind::NotFound) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}
