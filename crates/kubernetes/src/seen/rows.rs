//! What is kept of the objects, and how it is cut out of them. Pure.

use super::quantity;
use super::watch::Kind;
use crate::claims::{claims_of, is_over, phase_of};
use csi::claims::{
    KUBERNETES_NAME_BYTES_MAX, KUBERNETES_TEXT_BYTES_MAX, PodFacts, StorageClassFacts,
};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::{StorageClass, VolumeAttachment};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::collections::BTreeMap;

/// What is kept of a kind, by namespace and name.
pub(super) type Rows<R> = BTreeMap<String, R>;

/// Everything that is kept.
#[derive(Debug, Default)]
pub(super) struct View {
    pub claims: Rows<ClaimRow>,
    pub volumes: Rows<VolumeRow>,
    /// Of this driver.
    pub attachments: Rows<AttachmentRow>,
    /// Those that use a claim.
    pub pods: Rows<PodRow>,
    /// Of this driver.
    pub classes: Rows<StorageClassFacts>,
}

/// A claim, of whatever driver.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ClaimRow {
    pub uid: String,
    pub class: Option<String>,
    /// As `kubectl get` has it.
    pub status: String,
    pub requested: u64,
    pub capacity: Option<u64>,
    pub access_modes: Vec<String>,
    pub volume_mode: String,
    /// Name of its persistent volume.
    pub volume: Option<String>,
    /// Whether this driver is to make its volume.
    pub asks_us: bool,
    /// Whether the scheduler has chosen the node of its first pod.
    pub node_chosen: bool,
    pub created_ms: u64,
}

/// A persistent volume.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct VolumeRow {
    /// Of this driver; nothing: another's.
    pub handle: Option<String>,
    pub reclaim_policy: Option<String>,
}

/// A volume attachment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct AttachmentRow {
    /// Name of the persistent volume.
    pub volume: String,
    pub node: String,
}

/// A pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct PodRow {
    pub facts: PodFacts,
    /// Names of the claims it uses.
    pub claims: Vec<String>,
}

/// The annotation with the provisioner that a claim is given to, and the older one.
const PROVISIONERS: [&str; 2] = [
    "volume.kubernetes.io/storage-provisioner",
    "volume.beta.kubernetes.io/storage-provisioner",
];
/// The annotation with the node that the scheduler has chosen.
const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
/// The annotation of the default class, and the older one.
const DEFAULTS: [&str; 2] = [
    "storageclass.kubernetes.io/is-default-class",
    "storageclass.beta.kubernetes.io/is-default-class",
];

/// A text in one line, cut to so many bytes.
fn line(text: &str, bytes_max: usize) -> String {
    let text: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    let mut end = text.len().min(bytes_max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

fn name(text: &str) -> String {
    line(text, KUBERNETES_NAME_BYTES_MAX)
}

fn annotation<'a>(metadata: &'a ObjectMeta, key: &str) -> Option<&'a str> {
    let annotations = metadata.annotations.as_ref()?;
    annotations.get(key).map(String::as_str)
}

fn created_ms(metadata: &ObjectMeta) -> u64 {
    let created = metadata.creation_timestamp.as_ref();
    let created = created.map(|time| time.0.as_millisecond());
    created.map_or(0, |time| u64::try_from(time).unwrap_or(0))
}

/// The size among quantities.
fn size(quantities: Option<&BTreeMap<String, Quantity>>) -> Option<u64> {
    quantity::bytes(&quantities?.get("storage")?.0)
}

fn filled(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty()).map(|text| name(&text))
}

impl Kind for PersistentVolumeClaim {
    const NAME: &'static str = "persistentvolumeclaims";
    type Row = ClaimRow;

    fn row(self) -> Option<ClaimRow> {
        let metadata = self.metadata;
        let spec = self.spec.unwrap_or_default();
        let status = self.status.unwrap_or_default();
        let resources = spec.resources.unwrap_or_default();
        let provisioner = PROVISIONERS
            .iter()
            .find_map(|key| annotation(&metadata, key));
        let phase = filled(status.phase).unwrap_or_else(|| "Pending".to_owned());
        Some(ClaimRow {
            status: match metadata.deletion_timestamp {
                Some(_) => "Terminating".to_owned(),
                None => phase,
            },
            class: filled(spec.storage_class_name),
            requested: size(resources.requests.as_ref()).unwrap_or(0),
            capacity: size(status.capacity.as_ref()),
            access_modes: spec.access_modes.unwrap_or_default(),
            volume_mode: filled(spec.volume_mode).unwrap_or_else(|| "Filesystem".to_owned()),
            volume: filled(spec.volume_name),
            asks_us: provisioner == Some(csi::DRIVER),
            node_chosen: annotation(&metadata, SELECTED_NODE).is_some(),
            created_ms: created_ms(&metadata),
            uid: metadata.uid?,
        })
    }

    fn rows(view: &mut View) -> &mut Rows<ClaimRow> {
        &mut view.claims
    }
}

impl Kind for PersistentVolume {
    const NAME: &'static str = "persistentvolumes";
    type Row = VolumeRow;

    fn row(self) -> Option<VolumeRow> {
        let spec = self.spec?;
        let ours = spec.csi.filter(|source| source.driver == csi::DRIVER);
        let handle = ours.map(|source| name(&source.volume_handle));
        Some(VolumeRow {
            reclaim_policy: spec
                .persistent_volume_reclaim_policy
                .filter(|_| handle.is_some()),
            handle,
        })
    }

    fn rows(view: &mut View) -> &mut Rows<VolumeRow> {
        &mut view.volumes
    }
}

impl Kind for VolumeAttachment {
    const NAME: &'static str = "volumeattachments";
    type Row = AttachmentRow;

    fn row(self) -> Option<AttachmentRow> {
        let spec = self.spec;
        if spec.attacher != csi::DRIVER {
            return None;
        }
        Some(AttachmentRow {
            volume: spec.source.persistent_volume_name?,
            node: spec.node_name,
        })
    }

    fn rows(view: &mut View) -> &mut Rows<AttachmentRow> {
        &mut view.attachments
    }
}

impl Kind for Pod {
    const NAME: &'static str = "pods";
    type Row = PodRow;

    fn row(self) -> Option<PodRow> {
        let mut claims: Vec<String> = claims_of(&self).collect();
        if claims.is_empty() || is_over(&self) {
            return None;
        }
        claims.sort_unstable();
        claims.dedup();
        let phase = match self.metadata.deletion_timestamp {
            Some(_) => "Terminating",
            None => phase_of(&self).unwrap_or("Pending"),
        };
        Some(PodRow {
            facts: PodFacts {
                phase: name(phase),
                node: filled(self.spec.and_then(|spec| spec.node_name)),
                name: self.metadata.name?,
            },
            claims,
        })
    }

    fn rows(view: &mut View) -> &mut Rows<PodRow> {
        &mut view.pods
    }
}

impl Kind for StorageClass {
    const NAME: &'static str = "storageclasses";
    type Row = StorageClassFacts;

    fn row(self) -> Option<StorageClassFacts> {
        if self.provisioner != csi::DRIVER {
            return None;
        }
        let default = DEFAULTS
            .iter()
            .any(|key| annotation(&self.metadata, key) == Some("true"));
        let parameters = self.parameters.unwrap_or_default();
        let parameter = |(key, value): (String, String)| {
            let value = line(&value, KUBERNETES_TEXT_BYTES_MAX);
            (name(&key), value)
        };
        let options = self.mount_options.unwrap_or_default();
        Some(StorageClassFacts {
            name: self.metadata.name?,
            default,
            parameters: parameters
                .into_iter()
                .take(PARAMETERS_MAX)
                .map(parameter)
                .collect(),
            reclaim_policy: self.reclaim_policy.unwrap_or_else(|| "Delete".to_owned()),
            binding_mode: self
                .volume_binding_mode
                .unwrap_or_else(|| "Immediate".to_owned()),
            expansion: self.allow_volume_expansion.unwrap_or(false),
            mount_options: options
                .iter()
                .take(OPTIONS_MAX)
                .map(|option| name(option))
                .collect(),
        })
    }

    fn rows(view: &mut View) -> &mut Rows<StorageClassFacts> {
        &mut view.classes
    }
}

/// Parameters and mount options of a class, as many as the API takes.
const PARAMETERS_MAX: usize = 64;
const OPTIONS_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn row<K: Kind>(object: Value) -> Option<K::Row> {
        serde_json::from_value::<K>(object)
            .expect("an object")
            .row()
    }

    #[test]
    fn a_claim_is_cut_down_to_what_is_told() {
        let claim = row::<PersistentVolumeClaim>(json!({
            "metadata": {"namespace": "shop", "name": "data", "uid": "u-1", "creationTimestamp": "2026-01-01T00:00:01Z",
                "annotations": {PROVISIONERS[0]: csi::DRIVER, SELECTED_NODE: "a"}},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "10Gi"}}, "storageClassName": "fast",
                "volumeMode": "Block", "volumeName": "pv-1"},
            "status": {"phase": "Bound", "capacity": {"storage": "12Gi"}},
        }));
        let expected = ClaimRow {
            uid: "u-1".to_owned(),
            class: Some("fast".to_owned()),
            status: "Bound".to_owned(),
            requested: 10 << 30,
            capacity: Some(12 << 30),
            access_modes: vec!["ReadWriteOnce".to_owned()],
            volume_mode: "Block".to_owned(),
            volume: Some("pv-1".to_owned()),
            asks_us: true,
            node_chosen: true,
            created_ms: 1_767_225_601_000,
        };
        assert_eq!(claim, Some(expected));
    }

    #[test]
    fn a_claim_that_says_little_is_pending_and_one_that_is_deleted_is_leaving() {
        let bare = json!({"metadata": {"uid": "u-1"}, "spec": {"volumeName": ""}});
        let bare = row::<PersistentVolumeClaim>(bare).expect("a claim");
        assert_eq!((bare.status.as_str(), bare.volume), ("Pending", None));
        assert_eq!(bare.volume_mode, "Filesystem");
        let leaving = row::<PersistentVolumeClaim>(json!({
            "metadata": {"uid": "u-1", "deletionTimestamp": "2026-01-01T00:00:01Z"}, "status": {"phase": "Bound"},
        }));
        assert_eq!(leaving.expect("a claim").status, "Terminating");
    }

    #[test]
    fn what_other_drivers_have_is_not_kept() {
        let volume = |driver: &str| {
            row::<PersistentVolume>(json!({"spec": {"persistentVolumeReclaimPolicy": "Retain",
                "csi": {"driver": driver, "volumeHandle": "h"}}}))
        };
        let ours = volume(csi::DRIVER).expect("a volume");
        assert_eq!(ours.handle.as_deref(), Some("h"));
        assert_eq!(ours.reclaim_policy.as_deref(), Some("Retain"));
        assert_eq!(volume("other"), Some(VolumeRow::default()));
        let attachment = |driver: &str| {
            row::<VolumeAttachment>(
                json!({"spec": {"attacher": driver, "nodeName": "a", "source": {"persistentVolumeName": "pv-1"}}}),
            )
        };
        assert!(attachment(csi::DRIVER).is_some());
        assert_eq!(attachment("other"), None);
        let class = json!({"metadata": {"name": "c"}, "provisioner": "other"});
        assert_eq!(row::<StorageClass>(class), None);
    }

    #[test]
    fn pods_without_claims_and_those_that_are_over_are_not_kept() {
        let pod = |volumes: Value, phase: &str| {
            row::<Pod>(
                json!({"metadata": {"name": "db-0"}, "spec": {"containers": [], "nodeName": "a", "volumes": volumes},
                "status": {"phase": phase}}),
            )
        };
        let uses = json!([{"name": "d", "persistentVolumeClaim": {"claimName": "data"}}, {"name": "s", "ephemeral": {}}]);
        let kept = pod(uses.clone(), "Running").expect("it uses claims");
        assert_eq!(kept.claims, ["data", "db-0-s"]);
        assert_eq!(kept.facts.node.as_deref(), Some("a"));
        assert_eq!(pod(uses, "Succeeded"), None);
        assert_eq!(pod(json!([]), "Running"), None);
    }

    #[test]
    fn texts_of_classes_become_lines_that_are_not_too_long() {
        let class = row::<StorageClass>(json!({
            "metadata": {"name": "fast", "annotations": {DEFAULTS[0]: "true"}}, "provisioner": csi::DRIVER,
            "parameters": {"description": format!("a\nb{}", "ä".repeat(400))}, "allowVolumeExpansion": true,
        }));
        let class = class.expect("a class");
        assert!(class.default && class.expansion);
        assert_eq!(class.reclaim_policy, "Delete");
        let text = &class.parameters["description"];
        assert!(text.starts_with("a b") && text.len() <= KUBERNETES_TEXT_BYTES_MAX);
    }
}
