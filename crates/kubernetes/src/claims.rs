//! Which pods use which volumes. Pure.

use k8s_openapi::api::core::v1::{PersistentVolume, Pod};
use k8s_openapi::api::storage::v1::VolumeAttachment;
use std::collections::BTreeMap;

/// A claim: its namespace and its name.
pub(crate) type Claim = (String, String);

/// Volume attachments of one node.
pub(crate) struct Attached {
    /// Those of this driver: their names, and their persistent volumes.
    pub ours: Vec<(String, Option<String>)>,
    /// How many are of other drivers.
    pub foreign: usize,
}

/// Sorts out the attachments of a node.
pub(crate) fn attachments_on(all: Vec<VolumeAttachment>, node: &str) -> Attached {
    let mut attached = Attached {
        ours: Vec::new(),
        foreign: 0,
    };
    let here = all
        .into_iter()
        .filter(|attachment| attachment.spec.node_name == node);
    for attachment in here {
        if attachment.spec.attacher != csi::DRIVER {
            attached.foreign += 1;
            continue;
        }
        let volume = attachment.spec.source.persistent_volume_name;
        attached
            .ours
            .extend(attachment.metadata.name.map(|name| (name, volume)));
    }
    attached
}

/// The handle of a persistent volume, and the claim that it is bound to.
pub(crate) fn meaning_of(volume: PersistentVolume) -> (Option<String>, Option<Claim>) {
    let Some(spec) = volume.spec else {
        return (None, None);
    };
    let claim = spec.claim_ref;
    let claim = claim.and_then(|claim| Some((claim.namespace?, claim.name?)));
    (spec.csi.map(|csi| csi.volume_handle), claim)
}

/// Those of the claims' handles that a pod uses which is not over, and which another node can run instead; `None` stands for a handle that
/// is not known.
///
/// Pods of a DaemonSet belong to their node, and so do those that the kubelet has from files.
pub(crate) fn used_by(pod: &Pod, claims: &BTreeMap<Claim, Option<String>>) -> Vec<Option<String>> {
    let metadata = &pod.metadata;
    let owners = metadata.owner_references.iter().flatten();
    let bound = owners
        .into_iter()
        .any(|owner| ["DaemonSet", "Node"].contains(&owner.kind.as_str()));
    let Some(namespace) = metadata
        .namespace
        .as_ref()
        .filter(|_| !bound && !is_over(pod))
    else {
        return Vec::new();
    };
    let used = claims_of(pod);
    used.filter_map(|claim| claims.get(&(namespace.clone(), claim)).cloned())
        .collect()
}

/// The phase of a pod.
pub(crate) fn phase_of(pod: &Pod) -> Option<&str> {
    pod.status.as_ref()?.phase.as_deref()
}

/// Whether a pod has ended, and uses nothing any more.
pub(crate) fn is_over(pod: &Pod) -> bool {
    matches!(phase_of(pod), Some("Succeeded" | "Failed"))
}

/// The claims of its namespace that a pod names.
pub(crate) fn claims_of(pod: &Pod) -> impl Iterator<Item = String> + '_ {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let volumes = pod.spec.iter().flat_map(|spec| &spec.volumes).flatten();
    volumes.filter_map(move |volume| {
        let named = volume.persistent_volume_claim.as_ref();
        let named = named.map(|claim| claim.claim_name.clone());
        // An ephemeral volume's claim is called after the pod and the volume.
        let own = volume.ephemeral.as_ref();
        named.or_else(|| own.map(|_| format!("{name}-{}", volume.name)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(change: impl FnOnce(&mut serde_json::Value)) -> Pod {
        let mut pod = json!({
            "metadata": {"namespace": "shop", "name": "db-0", "uid": "1"},
            "spec": {"containers": [], "volumes": [
                {"name": "config", "configMap": {"name": "db"}},
                {"name": "data", "persistentVolumeClaim": {"claimName": "data-db-0"}},
                {"name": "scratch", "ephemeral": {}},
            ]},
            "status": {"phase": "Running"},
        });
        change(&mut pod);
        serde_json::from_value(pod).expect("a pod")
    }

    fn claims(namespace: &str, name: &str) -> BTreeMap<Claim, Option<String>> {
        let claim = (namespace.to_owned(), name.to_owned());
        BTreeMap::from([(claim, Some(name.to_owned()))])
    }

    fn used(pod: &Pod, namespace: &str, name: &str) -> bool {
        let found = used_by(pod, &claims(namespace, name));
        assert!(found.is_empty() || found == [Some(name.to_owned())]);
        !found.is_empty()
    }

    #[test]
    fn a_pod_uses_claims_of_its_namespace_by_name_and_its_own() {
        let plain = pod(|_| ());
        assert!(used(&plain, "shop", "data-db-0"));
        assert!(used(&plain, "shop", "db-0-scratch"));
        assert!(!used(&plain, "other", "data-db-0"));
        assert!(!used(&plain, "shop", "config"));
    }

    #[test]
    fn pods_that_are_over_or_bound_to_their_node_stay() {
        let over = pod(|pod| pod["status"]["phase"] = json!("Succeeded"));
        assert!(!used(&over, "shop", "data-db-0"));
        let owner =
            json!([{"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "d", "uid": "2"}]);
        let bound = pod(|pod| pod["metadata"]["ownerReferences"] = owner);
        assert!(!used(&bound, "shop", "data-db-0"));
    }

    #[test]
    fn a_persistent_volume_tells_its_handle_and_its_claim() {
        let volume = |spec: serde_json::Value| {
            let volume = json!({"metadata": {"name": "pv"}, "spec": spec});
            meaning_of(serde_json::from_value(volume).expect("a volume"))
        };
        let claim = json!({"namespace": "shop", "name": "data"});
        let csi = json!({"driver": csi::DRIVER, "volumeHandle": "c-v1"});
        let (shop, handle) = (("shop".to_owned(), "data".to_owned()), "c-v1".to_owned());
        assert_eq!(
            volume(json!({"claimRef": claim, "csi": csi})),
            (Some(handle), Some(shop.clone()))
        );
        assert_eq!(volume(json!({"claimRef": claim})), (None, Some(shop)));
        assert_eq!(volume(json!({})), (None, None));
    }

    #[test]
    fn attachments_are_counted_by_driver_and_node() {
        let attachment = |name: &str, attacher: &str, node: &str| {
            let attachment = json!({"metadata": {"name": name}, "spec": {"attacher": attacher, "nodeName": node,
                "source": {"persistentVolumeName": format!("pv-{name}")}}});
            serde_json::from_value::<VolumeAttachment>(attachment).expect("an attachment")
        };
        let all = vec![
            attachment("one", csi::DRIVER, "a"),
            attachment("two", csi::DRIVER, "b"),
            attachment("three", "other.driver", "a"),
        ];
        let on = attachments_on(all, "a");
        assert_eq!(on.ours, [("one".to_owned(), Some("pv-one".to_owned()))]);
        assert_eq!(on.foreign, 1);
    }
}
