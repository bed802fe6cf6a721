//! Which claims are ours, and what is told of each. Pure.
//!
//! A claim is ours when its persistent volume is, or when it has none yet and its class, or the note of its provisioner, says that this driver is
//! to make one. A claim whose persistent volume is gone is judged like one that has none.

use super::rows::{ClaimRow, PodRow, View};
use csi::claims::{CLAIM_USERS_MAX, ClaimFacts, PodFacts, StorageClassFacts};
use std::collections::BTreeMap;

/// Storage classes of this driver, by name.
pub(super) fn classes(view: &View) -> Vec<StorageClassFacts> {
    view.classes.values().cloned().collect()
}

/// Claims of this driver, by namespace and name.
pub(super) fn claims(view: &View) -> Vec<ClaimFacts> {
    let pods = pods_by_claim(view);
    let nodes = nodes_by_volume(view);
    let ours = view.claims.iter().filter(|(_, claim)| is_ours(view, claim));
    let told = ours.filter_map(|(key, claim)| {
        let (namespace, name) = key.split_once('/')?;
        let volume = claim.volume.as_ref();
        let attached = volume.and_then(|volume| nodes.get(volume.as_str()));
        let volume = volume.and_then(|volume| view.volumes.get(volume));
        let (pods, pods_more) = pods.get(key).map(|pods| few(pods)).unwrap_or_default();
        Some(ClaimFacts {
            uid: claim.uid.clone(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            class: claim.class.clone(),
            status: claim.status.clone(),
            reason: reason(view, claim),
            requested: claim.requested,
            capacity: claim.capacity,
            access_modes: claim.access_modes.clone(),
            volume_mode: claim.volume_mode.clone(),
            reclaim_policy: volume.and_then(|volume| volume.reclaim_policy.clone()),
            persistent_volume: claim.volume.clone(),
            handle: volume.and_then(|volume| volume.handle.clone()),
            created_ms: claim.created_ms,
            pods,
            pods_more,
            attached: attached.cloned().unwrap_or_default(),
        })
    });
    told.collect()
}

fn is_ours(view: &View, claim: &ClaimRow) -> bool {
    let volume = claim.volume.as_ref();
    match volume.and_then(|volume| view.volumes.get(volume)) {
        Some(volume) => volume.handle.is_some(),
        None => {
            let class = claim.class.as_ref();
            claim.asks_us || class.is_some_and(|class| view.classes.contains_key(class))
        }
    }
}

/// Why a claim is pending, as far as its objects tell.
fn reason(view: &View, claim: &ClaimRow) -> Option<String> {
    if claim.status != "Pending" || claim.volume.is_some() {
        return None;
    }
    let class = view.classes.get(claim.class.as_ref()?)?;
    let waits = class.binding_mode == "WaitForFirstConsumer" && !claim.node_chosen;
    waits.then(|| {
        format!(
            "it waits for the first pod that uses it: its class {} binds claims then (WaitForFirstConsumer)",
            class.name
        )
    })
}

/// Pods by the key of each claim that they use, in order.
fn pods_by_claim(view: &View) -> BTreeMap<String, Vec<&PodFacts>> {
    let mut by_claim: BTreeMap<String, Vec<&PodFacts>> = BTreeMap::new();
    for (key, PodRow { facts, claims }) in &view.pods {
        let Some((namespace, _)) = key.split_once('/') else {
            continue;
        };
        for claim in claims {
            let claim = format!("{namespace}/{claim}");
            by_claim.entry(claim).or_default().push(facts);
        }
    }
    by_claim
}

/// Some of the pods, and how many more there are.
fn few(pods: &[&PodFacts]) -> (Vec<PodFacts>, u32) {
    let some = pods.iter().take(CLAIM_USERS_MAX).copied().cloned();
    let more = pods.len().saturating_sub(CLAIM_USERS_MAX);
    (some.collect(), u32::try_from(more).unwrap_or(u32::MAX))
}

/// Names of the nodes that each persistent volume is attached to, in order.
fn nodes_by_volume(view: &View) -> BTreeMap<&str, Vec<String>> {
    let mut by_volume: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for attachment in view.attachments.values() {
        let nodes = by_volume.entry(&attachment.volume).or_default();
        nodes.push(attachment.node.clone());
    }
    for nodes in by_volume.values_mut() {
        nodes.sort_unstable();
        nodes.truncate(CLAIM_USERS_MAX);
    }
    by_volume
}

#[cfg(test)]
mod tests {
    use super::super::rows::{AttachmentRow, VolumeRow};
    use super::*;

    fn class(name: &str, binding_mode: &str) -> (String, StorageClassFacts) {
        let facts = StorageClassFacts {
            name: name.to_owned(),
            binding_mode: binding_mode.to_owned(),
            ..StorageClassFacts::default()
        };
        (name.to_owned(), facts)
    }

    fn claim(status: &str, class: &str, volume: Option<&str>) -> ClaimRow {
        ClaimRow {
            uid: "u-1".to_owned(),
            status: status.to_owned(),
            class: Some(class.to_owned()),
            volume: volume.map(str::to_owned),
            ..ClaimRow::default()
        }
    }

    fn pod(name: &str, claim: &str) -> (String, PodRow) {
        let facts = PodFacts {
            name: name.to_owned(),
            phase: "Running".to_owned(),
            node: Some("a".to_owned()),
        };
        let claims = vec![claim.to_owned()];
        (format!("shop/{name}"), PodRow { facts, claims })
    }

    /// A view with one claim, `shop/data`, two classes of ours, a volume of ours, and one of somebody else.
    fn view(claim: ClaimRow) -> View {
        let ours = VolumeRow {
            handle: Some("h-1".to_owned()),
            reclaim_policy: Some("Delete".to_owned()),
        };
        View {
            claims: [("shop/data".to_owned(), claim)].into(),
            volumes: [
                ("ours".to_owned(), ours),
                ("theirs".to_owned(), VolumeRow::default()),
            ]
            .into(),
            classes: [
                class("fast", "Immediate"),
                class("late", "WaitForFirstConsumer"),
            ]
            .into(),
            ..View::default()
        }
    }

    #[test]
    fn a_claim_is_ours_by_its_volume_and_before_by_its_class() {
        let ours = |claim| !claims(&view(claim)).is_empty();
        assert!(ours(claim("Bound", "other", Some("ours"))));
        assert!(!ours(claim("Bound", "fast", Some("theirs"))));
        assert!(ours(claim("Pending", "fast", None)));
        assert!(!ours(claim("Pending", "other", None)));
        assert!(ours(claim("Lost", "fast", Some("gone"))));
        assert!(!ours(claim("Lost", "other", Some("gone"))));
        let noted = ClaimRow {
            asks_us: true,
            ..claim("Pending", "deleted", None)
        };
        assert!(ours(noted));
    }

    #[test]
    fn a_claim_has_its_volume_its_pods_and_the_nodes_it_is_attached_to() {
        let mut view = view(claim("Bound", "fast", Some("ours")));
        view.pods.extend([
            pod("db-0", "data"),
            pod("db-1", "data"),
            pod("web", "cache"),
        ]);
        for node in ["b", "a"] {
            let row = AttachmentRow {
                volume: "ours".to_owned(),
                node: node.to_owned(),
            };
            view.attachments.insert(format!("va-{node}"), row);
        }
        let told = claims(&view);
        let told = &told[0];
        assert_eq!(
            (told.namespace.as_str(), told.name.as_str()),
            ("shop", "data")
        );
        assert_eq!(told.handle.as_deref(), Some("h-1"));
        assert_eq!(told.reclaim_policy.as_deref(), Some("Delete"));
        let names: Vec<&str> = told.pods.iter().map(|pod| pod.name.as_str()).collect();
        assert_eq!(names, ["db-0", "db-1"]);
        assert_eq!(told.attached, ["a", "b"]);
        assert_eq!(told.reason, None);
    }

    #[test]
    fn of_many_pods_some_are_named_and_the_others_counted() {
        let mut view = view(claim("Bound", "fast", Some("ours")));
        view.pods
            .extend((10..40).map(|number| pod(&format!("web-{number}"), "data")));
        let told = claims(&view);
        assert_eq!(told[0].pods.len(), CLAIM_USERS_MAX);
        assert_eq!(told[0].pods_more, 14);
        assert_eq!(told[0].pods[0].name, "web-10");
    }

    #[test]
    fn a_claim_that_waits_for_a_pod_says_so() {
        let reason = |claim| claims(&view(claim))[0].reason.clone();
        let waits = reason(claim("Pending", "late", None)).expect("it waits");
        assert!(waits.contains("first pod"), "{waits}");
        let chosen = ClaimRow {
            node_chosen: true,
            ..claim("Pending", "late", None)
        };
        assert_eq!(reason(chosen), None);
        assert_eq!(reason(claim("Pending", "fast", None)), None);
    }
}
