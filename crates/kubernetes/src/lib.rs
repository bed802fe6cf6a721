//! Kubernetes as the orchestrator whose pods follow their volumes, and whose claims are told.
//!
//! It reads nodes, their leases, volume attachments, persistent volumes and pods, and changes four things: the taint
//! `node.kubernetes.io/out-of-service` of a node, pods that are let go, volume attachments that are let go, and events. Which rights that
//! takes is in `deploy/chart/azekura/templates/rbac.yaml`.
//!
//! Invariants
//! - A taint that somebody else has set is never changed or removed: this driver's has the value [`TAINT_VALUE`].
//! - A node's taints are written only if nobody has changed the node since they were read; a pod is deleted only if it is that very pod.
//! - What decides is read from the API server's store; the lists that are read every round may come from its cache.
//!
//! What concerns claims only looks, and is in `seen.rs`.
//!
//! Sources: Kubernetes documentation, "Node Shutdowns: Non-graceful node shutdown handling"; KEP-2268.
// Asking over the network is its work.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

mod claims;
mod seen;

pub use seen::Claims;

use claims::{attachments_on, meaning_of, used_by};
use csi::follow::{Attachment, Load, Mark, Orchestrator, Pod, Unanswered, Worker};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{self as core, Event, Node, PersistentVolume, Taint};
use k8s_openapi::api::storage::v1::VolumeAttachment;
use k8s_openapi::jiff::Timestamp;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;
use tokio::runtime::Runtime;

/// The taint that tells Kubernetes that a node is out of service.
pub const TAINT_KEY: &str = "node.kubernetes.io/out-of-service";
/// The value of the taints that this driver sets.
pub const TAINT_VALUE: &str = "azekura";
/// Where the kubelets renew the leases of their nodes.
const LEASES: &str = "kube-node-lease";
/// Where events of nodes are kept.
const EVENTS: &str = "default";
/// Longest wait for one answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why Kubernetes cannot be asked.
#[derive(Debug, thiserror::Error)]
#[error("cannot reach Kubernetes: {0}")]
pub struct NotConfigured(String);

/// A Kubernetes cluster.
pub struct Kubernetes {
    runtime: Runtime,
    client: Client,
}

fn not_configured(error: impl ToString) -> NotConfigured {
    NotConfigured(error.to_string())
}

fn refused(error: kube::Error) -> Unanswered {
    match error {
        kube::Error::Api(status) => Unanswered(format!(
            "Kubernetes refuses ({}): {}",
            status.code, status.message
        )),
        other => Unanswered(format!("Kubernetes does not answer: {other}")),
    }
}

/// How to reach the cluster that `kubeconfig` names, or the one that this process runs in as a pod.
async fn configure(kubeconfig: Option<&Path>) -> Result<Config, NotConfigured> {
    let mut config = match kubeconfig {
        Some(file) => {
            let read = Kubeconfig::read_from(file).map_err(not_configured)?;
            let options = KubeConfigOptions::default();
            let config = Config::from_custom_kubeconfig(read, &options).await;
            config.map_err(not_configured)?
        }
        None => Config::incluster().map_err(not_configured)?,
    };
    config.connect_timeout = Some(PATIENCE);
    Ok(config)
}

/// A list that may come from the API server's cache, which is cheap.
fn cached() -> ListParams {
    ListParams::default().match_any()
}

impl Kubernetes {
    /// The cluster that `kubeconfig` names, or the one that this process runs in as a pod.
    ///
    /// # Errors
    /// [`NotConfigured`] when neither is there or can be understood. Nobody is asked yet.
    pub fn new(kubeconfig: Option<&Path>) -> Result<Self, NotConfigured> {
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_all().build().map_err(not_configured)?;
        let client = runtime.block_on(async {
            let mut config = configure(kubeconfig).await?;
            config.read_timeout = Some(PATIENCE);
            Client::try_from(config).map_err(not_configured)
        })?;
        Ok(Self { runtime, client })
    }

    fn wait<T>(&self, asked: impl Future<Output = kube::Result<T>>) -> Result<T, Unanswered> {
        let patient = async { tokio::time::timeout(PATIENCE, asked).await };
        match self.runtime.block_on(patient) {
            Ok(answer) => answer.map_err(refused),
            Err(_) => Err(Unanswered(format!(
                "Kubernetes has not answered for {} s",
                PATIENCE.as_secs()
            ))),
        }
    }

    fn nodes(&self) -> Api<Node> {
        Api::all(self.client.clone())
    }

    fn pods(&self, namespace: &str) -> Api<core::Pod> {
        Api::namespaced(self.client.clone(), namespace)
    }

    fn attachments(&self) -> Api<VolumeAttachment> {
        Api::all(self.client.clone())
    }
}

/// The mark that a node bears.
fn mark_of(node: &Node) -> Mark {
    let spec = node.spec.as_ref();
    let mut taints = spec.and_then(|spec| {
        spec.taints
            .iter()
            .flatten()
            .find(|taint| taint.key == TAINT_KEY)
    });
    match taints.take().map(|taint| taint.value.as_deref()) {
        None => Mark::None,
        Some(Some(TAINT_VALUE)) => Mark::Ours,
        Some(_) => Mark::Others,
    }
}

fn is_ready(node: &Node) -> bool {
    let conditions = node
        .status
        .iter()
        .filter_map(|status| status.conditions.as_ref());
    let mut ready = conditions
        .flatten()
        .filter(|condition| condition.type_ == "Ready");
    ready
        .next()
        .is_some_and(|condition| condition.status == "True")
}

/// The taints of a node with this driver's mark, or without it; `None`: it is so already.
fn taints_after(node: &Node, out_of_service: bool) -> Option<Vec<Taint>> {
    let spec = node.spec.as_ref();
    let mut taints = spec
        .and_then(|spec| spec.taints.clone())
        .unwrap_or_default();
    match (mark_of(node), out_of_service) {
        (Mark::None, true) => taints.push(Taint {
            key: TAINT_KEY.to_owned(),
            value: Some(TAINT_VALUE.to_owned()),
            effect: "NoExecute".to_owned(),
            time_added: None,
        }),
        (Mark::Ours, false) => taints.retain(|taint| taint.key != TAINT_KEY),
        _ => return None,
    }
    Some(taints)
}

impl Orchestrator for Kubernetes {
    fn workers(&self) -> Result<Vec<Worker>, Unanswered> {
        let leases: Api<Lease> = Api::namespaced(self.client.clone(), LEASES);
        let leases = self.wait(leases.list(&cached()))?;
        let beat = |lease: Lease| {
            let renewed = lease.spec?.renew_time?;
            let text = serde_json::to_string(&renewed).ok()?;
            Some((lease.metadata.name?, text))
        };
        let beats: BTreeMap<String, String> = leases.items.into_iter().filter_map(beat).collect();
        let nodes = self.wait(self.nodes().list(&cached()))?;
        let worker = |node: Node| {
            let name = node.metadata.name.clone()?;
            Some(Worker {
                beat: beats.get(&name).cloned(),
                ready: is_ready(&node),
                mark: mark_of(&node),
                name,
            })
        };
        Ok(nodes.items.into_iter().filter_map(worker).collect())
    }

    fn load(&self, worker: &str) -> Result<Load, Unanswered> {
        let attachments = self.wait(self.attachments().list(&ListParams::default()))?;
        let on = attachments_on(attachments.items, worker);
        let volumes: Api<PersistentVolume> = Api::all(self.client.clone());
        let (mut claims, mut attachments) = (BTreeMap::new(), Vec::new());
        for (name, volume) in on.ours {
            let found = match &volume {
                Some(volume) => self.wait(volumes.get_opt(volume))?,
                None => None,
            };
            let (handle, claim) = found.map_or((None, None), meaning_of);
            claims.extend(claim.map(|claim| (claim, handle.clone())));
            attachments.push(Attachment {
                name,
                volume: handle,
            });
        }
        let all: Api<core::Pod> = Api::all(self.client.clone());
        let there = ListParams::default().fields(&format!("spec.nodeName={worker}"));
        let pods = match claims.is_empty() {
            true => Vec::new(),
            false => self.wait(all.list(&there))?.items,
        };
        let pod = |pod: core::Pod| {
            let volumes = used_by(&pod, &claims);
            Some(Pod {
                namespace: pod.metadata.namespace?,
                name: pod.metadata.name?,
                uid: pod.metadata.uid?,
                volumes: Some(volumes).filter(|volumes| !volumes.is_empty())?,
            })
        };
        Ok(Load {
            attachments,
            pods: pods.into_iter().filter_map(pod).collect(),
            foreign: on.foreign,
        })
    }

    fn mark(&self, worker: &str, out_of_service: bool) -> Result<bool, Unanswered> {
        let nodes = self.nodes();
        let Some(node) = self.wait(nodes.get_opt(worker))? else {
            return Ok(false);
        };
        let Some(taints) = taints_after(&node, out_of_service) else {
            return Ok(false);
        };
        // The version makes Kubernetes refuse when the node has been changed meanwhile.
        let change = json!({
            "metadata": {"resourceVersion": node.metadata.resource_version},
            "spec": {"taints": taints},
        });
        self.wait(nodes.patch(worker, &PatchParams::default(), &Patch::Merge(change)))?;
        Ok(true)
    }

    fn release(&self, pod: &Pod) -> Result<(), Unanswered> {
        let this = DeleteParams {
            grace_period_seconds: Some(0),
            preconditions: Some(Preconditions {
                uid: Some(pod.uid.clone()),
                resource_version: None,
            }),
            ..DeleteParams::default()
        };
        gone(self.wait_for_deletion(self.pods(&pod.namespace).delete(&pod.name, &this)))
    }

    fn detach(&self, attachment: &str) -> Result<(), Unanswered> {
        let deletion = DeleteParams::default();
        gone(self.wait_for_deletion(self.attachments().delete(attachment, &deletion)))
    }

    fn tell(&self, worker: &str, reason: &str, message: &str) {
        let now = Timestamp::now().to_string();
        let event = json!({
            "metadata": {"generateName": "azekura-", "namespace": EVENTS},
            "involvedObject": {"apiVersion": "v1", "kind": "Node", "name": worker},
            "reason": reason, "message": message, "type": "Warning",
            "source": {"component": "csi.azekura.dev"},
            "firstTimestamp": now, "lastTimestamp": now, "count": 1,
        });
        let event: Event = match serde_json::from_value(event) {
            Ok(event) => event,
            Err(error) => return tracing::error!(%error, "an event is malformed"),
        };
        let events: Api<Event> = Api::namespaced(self.client.clone(), EVENTS);
        if let Err(error) = self.wait(events.create(&PostParams::default(), &event)) {
            tracing::warn!(%error, reason, "an event is not told");
        }
    }
}

/// What became of a deletion.
enum Deletion {
    Done,
    /// It was gone before, or is another one by now.
    Past,
}

impl Kubernetes {
    fn wait_for_deletion<T>(
        &self,
        asked: impl Future<Output = kube::Result<T>>,
    ) -> Result<Deletion, Unanswered> {
        self.wait(async {
            match asked.await {
                Err(kube::Error::Api(status)) if [404, 409].contains(&status.code) => {
                    Ok(Deletion::Past)
                }
                deleted => deleted.map(|_| Deletion::Done),
            }
        })
    }
}

fn gone(deletion: Result<Deletion, Unanswered>) -> Result<(), Unanswered> {
    deletion.map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(taints: serde_json::Value) -> Node {
        let node = json!({"metadata": {"name": "a"}, "spec": {"taints": taints},
            "status": {"conditions": [{"type": "Ready", "status": "True"}]}});
        serde_json::from_value(node).expect("a node")
    }

    #[test]
    fn the_mark_of_others_stays_theirs() {
        let theirs =
            node(json!([{"key": TAINT_KEY, "value": "nodeshutdown", "effect": "NoExecute"}]));
        assert_eq!(mark_of(&theirs), Mark::Others);
        assert_eq!(taints_after(&theirs, true), None);
        assert_eq!(taints_after(&theirs, false), None);
    }

    #[test]
    fn other_taints_of_a_node_stay() {
        let other = json!({"key": "dedicated", "value": "db", "effect": "NoSchedule"});
        let plain = node(json!([other]));
        assert!(is_ready(&plain));
        let marked = taints_after(&plain, true).expect("it changes");
        assert_eq!(marked.len(), 2);
        let marked = node(serde_json::to_value(&marked).expect("plain data"));
        assert_eq!(mark_of(&marked), Mark::Ours);
        assert_eq!(taints_after(&marked, true), None);
        let after = taints_after(&marked, false).expect("it changes");
        assert_eq!(
            serde_json::to_value(after).expect("plain data"),
            json!([other])
        );
    }
}
