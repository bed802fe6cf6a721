//! Which pods use which volumes. Pure.

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::storage::v1::VolumeAttachment;

/// Volume attachments of one node.
pub(crate) struct Attached {
    /// Those of this driver, by name.
    pub names: Vec<String>,
    /// The persistent volumes of these.
    pub volumes: Vec<String>,
    /// How many are of other drivers.
    pub foreign: usize,
}

/// Sorts out the attachments of a node.
pub(crate) fn attachments_on(all: Vec<VolumeAttachment>, node: &str) -> Attached {
    let mut attached = Attached {
        names: Vec::new(),
        volumes: Vec::new(),
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
        attached.names.extend(attachment.metadata.name);
        attached
            .volumes
            .extend(attachment.spec.source.persistent_volume_name);
    }
    attached
}

/// Whether a pod that is not over, and that another node can run instead, uses one of the claims (namespace and name).
///
/// Pods of a DaemonSet belong to their node, and so do those that the kubelet has from files.
pub(crate) fn uses_one_of(pod: &Pod, claims: &[(String, String)]) -> bool {
    let metadata = &pod.metadata;
    let owners = metadata.owner_references.iter().flatten();
    let bound = owners
        .into_iter()
        .any(|owner| ["DaemonSet", "Node"].contains(&owner.kind.as_str()));
    if bound || is_over(pod) {
        return false;
    }
    let Some(namespace) = &metadata.namespace else {
        return false;
    };
    let mut used = claims_of(pod);
    used.any(|claim| claims.contains(&(namespace.clone(), claim)))
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

    fn claims(namespace: &str, name: &str) -> Vec<(String, String)> {
        vec![(namespace.to_owned(), name.to_owned())]
    }

    #[test]
    fn a_pod_uses_claims_of_its_namespace_by_name_and_its_own() {
        let plain = pod(|_| ());
        assert!(uses_one_of(&plain, &claims("shop", "data-db-0")));
        assert!(uses_one_of(&plain, &claims("shop", "db-0-scratch")));
        assert!(!uses_one_of(&plain, &claims("other", "data-db-0")));
        assert!(!uses_one_of(&plain, &claims("shop", "config")));
    }

    #[test]
    fn pods_that_are_over_or_bound_to_their_node_stay() {
        let over = pod(|pod| pod["status"]["phase"] = json!("Succeeded"));
        assert!(!uses_one_of(&over, &claims("shop", "data-db-0")));
        let owner =
            json!([{"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "d", "uid": "2"}]);
        let bound = pod(|pod| pod["metadata"]["ownerReferences"] = owner);
        assert!(!uses_one_of(&bound, &claims("shop", "data-db-0")));
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
        assert_eq!(
            (on.names, on.volumes),
            (vec!["one".to_owned()], vec!["pv-one".to_owned()])
        );
        assert_eq!(on.foreign, 1);
    }
}
