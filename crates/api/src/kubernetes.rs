//! Kubernetes clusters whose volumes are here, and their claims: what a driver reports, and what is shown of it.
//!
//! A report is told in parts, each of which may be repeated. Nothing that is reported decides anything about data.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Label of a volume that names the Kubernetes cluster it was made for.
pub const KUBERNETES_LABEL: &str = "csi.azekura.dev/kubernetes";
/// Label with the name of the claim a volume was made for.
pub const CLAIM_LABEL: &str = "csi.storage.k8s.io/pvc/name";
/// Label with the namespace of that claim.
pub const CLAIM_NAMESPACE_LABEL: &str = "csi.storage.k8s.io/pvc/namespace";
/// Label with the name of the persistent volume.
pub const PERSISTENT_VOLUME_LABEL: &str = "csi.storage.k8s.io/pv/name";

/// Claims of one report at most, and claims that are no more.
pub const CLAIMS_AT_ONCE: usize = 200;
/// Storage classes of a report at most.
pub const CLASSES_MAX: usize = 64;
/// Pods, and nodes it is attached to, of one claim at most.
pub const CLAIM_USERS_MAX: usize = 16;
/// Longest body of a report, in bytes: a reporter with more to tell tells it in more parts.
pub const REPORT_BYTES_MAX: usize = 512 << 10;
/// Longest name, in bytes.
pub const KUBERNETES_NAME_BYTES_MAX: usize = 253;
/// Longest message, and longest value of a parameter, in bytes.
pub const KUBERNETES_TEXT_BYTES_MAX: usize = 512;
/// A Kubernetes cluster counts as silent when its last report is older, in milliseconds.
pub const SILENT_MS: u64 = 3 * 60 * 1000;
/// Longest page of claims, and how long one is when nothing is said.
pub const CLAIMS_LIMIT_MAX: u32 = 1000;
/// State of a claim that only labels of volumes tell of.
pub const CLAIM_UNKNOWN: &str = "Unknown";

/// Longest word of Kubernetes such as a phase or an access mode, in bytes.
const WORD_BYTES_MAX: usize = 64;
/// Access modes of a claim: Kubernetes knows four.
const ACCESS_MODES_MAX: usize = 8;
/// Entries of a list in a class that are texts alone.
const TEXTS_MAX: usize = 32;
/// Parameters of a storage class.
const PARAMETERS_MAX: usize = 64;

/// What can be asked about Kubernetes clusters. Its JSON form has the field `kubernetes` with the name beside `operation`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    tag = "kubernetes",
    rename_all = "kebab-case",
    rename_all_fields = "snake_case"
)]
pub enum KubernetesOperation {
    /// Every Kubernetes cluster -> `Answer::KubernetesList`.
    List,
    /// One of them -> `Answer::Kubernetes`.
    Show {
        /// Its name.
        name: String,
    },
    /// Its claims -> `Answer::Claims`.
    Claims {
        /// Its name.
        name: String,
        /// Which.
        query: ClaimQuery,
    },
    /// What changed there -> `Answer::Reported`. A repeat changes nothing.
    Report {
        /// Its name.
        name: String,
        /// What.
        report: KubernetesReport,
    },
    /// Forgets what was reported; volumes stay -> `Answer::Done`.
    Forget {
        /// Its name.
        name: String,
    },
}

impl KubernetesOperation {
    /// Its name, for logs and metrics.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::List => "kubernetes-list",
            Self::Show { .. } => "kubernetes-show",
            Self::Claims { .. } => "kubernetes-claims",
            Self::Report { .. } => "kubernetes-report",
            Self::Forget { .. } => "kubernetes-forget",
        }
    }

    /// Whether it leaves everything as it was.
    #[must_use]
    pub fn looks(&self) -> bool {
        matches!(self, Self::List | Self::Show { .. } | Self::Claims { .. })
    }

    /// The Kubernetes cluster it is about, when it is about one.
    #[must_use]
    pub fn cluster(&self) -> Option<&str> {
        match self {
            Self::List => None,
            Self::Show { name }
            | Self::Claims { name, .. }
            | Self::Report { name, .. }
            | Self::Forget { name } => Some(name),
        }
    }
}

/// What changed in a Kubernetes cluster since the last report.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct KubernetesReport {
    /// The uid of its namespace `kube-system`: another one than before is refused, since two clusters would be mixed.
    pub uid: String,
    /// Version of Kubernetes, such as `v1.35.2`.
    pub version: String,
    /// Version of the driver.
    pub driver: String,
    /// Its storage classes with this driver, at most 64; absent: as before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub classes: Option<Vec<StorageClassFacts>>,
    /// Claims that are new or changed, at most 200.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub claims: Vec<ClaimFacts>,
    /// Uids of claims that are no more, at most 200.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gone: Vec<String>,
}

/// A storage class.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct StorageClassFacts {
    /// Its name.
    pub name: String,
    /// Whether claims without a class get it.
    #[serde(default)]
    pub default: bool,
    /// Its parameters, at most 64.
    #[serde(default)]
    pub parameters: BTreeMap<String, String>,
    /// `Delete` or `Retain`.
    #[serde(default)]
    pub reclaim_policy: String,
    /// `Immediate` or `WaitForFirstConsumer`.
    #[serde(default)]
    pub binding_mode: String,
    /// Whether claims may grow.
    #[serde(default)]
    pub expansion: bool,
    /// Options of its mounts, at most 32.
    #[serde(default)]
    pub mount_options: Vec<String>,
}

/// A claim, as Kubernetes tells of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ClaimFacts {
    /// Its uid.
    pub uid: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Name of its storage class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// `Pending`, `Bound`, `Lost` or `Terminating`.
    pub status: String,
    /// Why it is pending, where that is known; at most 512 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Bytes asked for.
    pub requested: u64,
    /// Bytes it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity: Option<u64>,
    /// Such as `ReadWriteOnce`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub access_modes: Vec<String>,
    /// `Filesystem` or `Block`.
    pub volume_mode: String,
    /// `Delete` or `Retain`, of its persistent volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reclaim_policy: Option<String>,
    /// Name of its persistent volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub persistent_volume: Option<String>,
    /// Handle of its volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handle: Option<String>,
    /// When it was created, Unix milliseconds.
    pub created_ms: u64,
    /// Pods that use it, at most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pods: Vec<PodFacts>,
    /// How many more there are.
    #[serde(default)]
    pub pods_more: u32,
    /// Names of the Kubernetes nodes its volume is attached to, at most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attached: Vec<String>,
}

/// A pod that uses a claim.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct PodFacts {
    /// Its name; its namespace is the claim's.
    pub name: String,
    /// Such as `Running`.
    pub phase: String,
    /// Name of the Kubernetes node it runs on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
}

/// What is wrong with a text, for people.
fn text_problem(field: &str, text: &str, bytes_max: usize) -> Option<String> {
    let length = text.len();
    (length > bytes_max)
        .then(|| format!("`{field}` has {length} bytes: at most {bytes_max} are allowed"))
}

/// The same of one that must be there.
fn name_problem(field: &str, text: &str) -> Option<String> {
    if text.is_empty() {
        return Some(format!("`{field}` is empty"));
    }
    let is_odd = text.chars().any(char::is_control);
    let odd = || is_odd.then(|| format!("`{field}` has control characters"));
    text_problem(field, text, KUBERNETES_NAME_BYTES_MAX).or_else(odd)
}

/// The same of a word of Kubernetes.
fn word_problem(field: &str, text: &str) -> Option<String> {
    name_problem(field, text).or_else(|| text_problem(field, text, WORD_BYTES_MAX))
}

/// The same of one that is part of a key.
fn part_problem(field: &str, text: &str) -> Option<String> {
    let slash = || text.contains('/');
    let odd = || slash().then(|| format!("`{field}` has a slash"));
    name_problem(field, text).or_else(odd)
}

/// The same of a list.
fn texts_problem<'a>(
    field: &str,
    mut texts: impl ExactSizeIterator<Item = &'a String>,
    many: usize,
) -> Option<String> {
    many_problem(field, texts.len(), many)
        .or_else(|| texts.find_map(|text| text_problem(field, text, KUBERNETES_NAME_BYTES_MAX)))
}

/// What is wrong with the length of a list.
fn many_problem(field: &str, there: usize, many: usize) -> Option<String> {
    (there > many).then(|| format!("`{field}` has {there} entries: at most {many} are allowed"))
}

impl KubernetesReport {
    /// What is wrong with it, for people: it names the field.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        let classes = self.classes.as_deref().unwrap_or_default();
        part_problem("uid", &self.uid)
            .or_else(|| name_problem("version", &self.version))
            .or_else(|| name_problem("driver", &self.driver))
            .or_else(|| many_problem("classes", classes.len(), CLASSES_MAX))
            .or_else(|| many_problem("claims", self.claims.len(), CLAIMS_AT_ONCE))
            .or_else(|| many_problem("gone", self.gone.len(), CLAIMS_AT_ONCE))
            .or_else(|| classes.iter().find_map(StorageClassFacts::problem))
            .or_else(|| self.claims.iter().find_map(ClaimFacts::problem))
            .or_else(|| self.gone.iter().find_map(|uid| part_problem("gone", uid)))
            .or_else(|| self.twice())
    }

    /// A uid that is named twice: which of both counts would be a guess.
    fn twice(&self) -> Option<String> {
        let claims = self.claims.iter().map(|claim| claim.uid.as_str());
        let mut uids: Vec<&str> = claims.chain(self.gone.iter().map(String::as_str)).collect();
        uids.sort_unstable();
        let same = uids.windows(2).find(|pair| pair[0] == pair[1])?;
        let uid = same[0];
        Some(format!("the claim {uid} is twice in `claims` and `gone`"))
    }
}

impl StorageClassFacts {
    fn problem(&self) -> Option<String> {
        let parameters = &self.parameters;
        let parameter = |(key, value): (&String, &String)| {
            name_problem("classes.parameters", key)
                .or_else(|| text_problem("classes.parameters", value, KUBERNETES_TEXT_BYTES_MAX))
        };
        let text = |field, text| text_problem(field, text, KUBERNETES_NAME_BYTES_MAX);
        name_problem("classes.name", &self.name)
            .or_else(|| many_problem("classes.parameters", parameters.len(), PARAMETERS_MAX))
            .or_else(|| parameters.iter().find_map(parameter))
            .or_else(|| text("classes.reclaim_policy", &self.reclaim_policy))
            .or_else(|| text("classes.binding_mode", &self.binding_mode))
            .or_else(|| {
                texts_problem(
                    "classes.mount_options",
                    self.mount_options.iter(),
                    TEXTS_MAX,
                )
            })
    }
}

impl ClaimFacts {
    fn problem(&self) -> Option<String> {
        self.names_problem().or_else(|| self.users_problem())
    }

    fn names_problem(&self) -> Option<String> {
        let name = KUBERNETES_NAME_BYTES_MAX;
        let option = |field, text: &Option<String>, bytes_max| {
            let text = text.as_deref();
            text.and_then(|text| text_problem(field, text, bytes_max))
        };
        part_problem("claims.uid", &self.uid)
            .or_else(|| part_problem("claims.namespace", &self.namespace))
            .or_else(|| part_problem("claims.name", &self.name))
            .or_else(|| word_problem("claims.status", &self.status))
            .or_else(|| word_problem("claims.volume_mode", &self.volume_mode))
            .or_else(|| option("claims.class", &self.class, name))
            .or_else(|| option("claims.reason", &self.reason, KUBERNETES_TEXT_BYTES_MAX))
            .or_else(|| {
                option(
                    "claims.reclaim_policy",
                    &self.reclaim_policy,
                    WORD_BYTES_MAX,
                )
            })
            .or_else(|| option("claims.persistent_volume", &self.persistent_volume, name))
            .or_else(|| option("claims.handle", &self.handle, name))
    }

    fn users_problem(&self) -> Option<String> {
        let pod = |pod: &PodFacts| {
            let node = pod.node.as_deref().unwrap_or_default();
            name_problem("claims.pods.name", &pod.name)
                .or_else(|| word_problem("claims.pods.phase", &pod.phase))
                .or_else(|| text_problem("claims.pods.node", node, KUBERNETES_NAME_BYTES_MAX))
        };
        let modes = self.access_modes.iter();
        many_problem("claims.access_modes", modes.len(), ACCESS_MODES_MAX)
            .or_else(|| {
                modes
                    .clone()
                    .find_map(|mode| word_problem("claims.access_modes", mode))
            })
            .or_else(|| many_problem("claims.pods", self.pods.len(), CLAIM_USERS_MAX))
            .or_else(|| self.pods.iter().find_map(pod))
            .or_else(|| texts_problem("claims.attached", self.attached.iter(), CLAIM_USERS_MAX))
    }
}

/// What is known after a report.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ReportedAnswer {
    /// Claims that were reported and are not gone.
    pub claims: u64,
}

/// A Kubernetes cluster whose volumes are here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct KubernetesAnswer {
    /// Its name.
    pub name: String,
    /// The uid of its namespace `kube-system`; absent: nothing was reported, labels alone tell of it.
    #[serde(default)]
    pub uid: Option<String>,
    /// Version of Kubernetes.
    #[serde(default)]
    pub version: Option<String>,
    /// Version of the driver.
    #[serde(default)]
    pub driver: Option<String>,
    /// When something was reported last, Unix milliseconds, within half a minute.
    #[serde(default)]
    pub reported_ms: Option<u64>,
    /// Whether nothing has been reported for three minutes, where something was reported before.
    #[serde(default)]
    pub silent: bool,
    /// Claims.
    #[serde(default)]
    pub claims: u64,
    /// Of these, those that are bound.
    #[serde(default)]
    pub bound: u64,
    /// Of these, those that were reported and are not bound.
    #[serde(default)]
    pub pending: u64,
    /// Volumes that bear its label, or that one of its claims has.
    #[serde(default)]
    pub volumes: u64,
    /// Their sizes together, in bytes.
    #[serde(default)]
    pub size: u64,
    /// What they hold together, in bytes.
    #[serde(default)]
    pub used: u64,
    /// Its storage classes with this driver.
    #[serde(default)]
    pub classes: Vec<StorageClassFacts>,
}

crate::sort::orders! {
    /// An order of claims.
    ClaimSort: "place", "name", "status", "class", "requested", "capacity", "created";
}

/// Query of a list of claims.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::IntoParams))]
#[serde(deny_unknown_fields)]
pub struct ClaimQuery {
    /// Claims in the answer at most, 1 to 1000; nothing: 1000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// Only claims behind this one, as `next` of the page before names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// Another order than that of `place`: namespace, name and uid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", param(inline))]
    pub sort: Option<ClaimSort>,
    /// Only of this namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Only of this name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Only of this state, such as `Pending`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// Only claims of this volume: its name, or `volume-` and its id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<String>,
    /// Only volumes of these containers are named; empty: of all. Set from a token, never by a client.
    #[serde(skip)]
    pub containers: Vec<String>,
}

impl ClaimQuery {
    /// What is wrong with it, for people.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        let limit = self.limit.unwrap_or(CLAIMS_LIMIT_MAX);
        if !(1..=CLAIMS_LIMIT_MAX).contains(&limit) {
            return Some(format!("`limit` is 1 to {CLAIMS_LIMIT_MAX}"));
        }
        let odd = self.after.is_some() && self.place().is_none();
        odd.then(|| {
            "`after` is written NAMESPACE/NAME/UID, as `next` of the page before".to_owned()
        })
    }

    /// What `after` names: namespace, name and uid.
    #[must_use]
    pub fn place(&self) -> Option<(&str, &str, &str)> {
        let (namespace, rest) = self.after.as_deref()?.split_once('/')?;
        let (name, uid) = rest.split_once('/')?;
        Some((namespace, name, uid))
    }
}

/// A volume that a claim has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ClaimVolume {
    /// Its id.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// Bytes it holds; absent while that is not known.
    #[serde(default)]
    pub used: Option<u64>,
    /// As of any volume: `ready`, `pending`, `deleting`, `stopped` or `incomplete`.
    pub state: String,
    /// Names of the clients it is attached to.
    #[serde(default)]
    pub clients: Vec<String>,
}

/// A claim.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ClaimAnswer {
    /// Its place in the list: `NAMESPACE/NAME/UID`. Where labels alone tell of it, `volume-` and an id are there instead of a uid.
    pub key: String,
    /// Its uid.
    #[serde(default)]
    pub uid: Option<String>,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Name of its storage class.
    #[serde(default)]
    pub class: Option<String>,
    /// `Pending`, `Bound`, `Lost`, `Terminating`; `Unknown` where labels alone tell of it.
    pub status: String,
    /// Why it is pending.
    #[serde(default)]
    pub reason: Option<String>,
    /// Bytes asked for; absent where labels alone tell of it.
    #[serde(default)]
    pub requested: Option<u64>,
    /// Bytes it has.
    #[serde(default)]
    pub capacity: Option<u64>,
    /// Such as `ReadWriteOnce`.
    #[serde(default)]
    pub access_modes: Vec<String>,
    /// `Filesystem` or `Block`.
    #[serde(default)]
    pub volume_mode: Option<String>,
    /// `Delete` or `Retain`.
    #[serde(default)]
    pub reclaim_policy: Option<String>,
    /// Name of its persistent volume.
    #[serde(default)]
    pub persistent_volume: Option<String>,
    /// Handle of its volume, as it was reported.
    #[serde(default)]
    pub handle: Option<String>,
    /// When it was created, Unix milliseconds.
    #[serde(default)]
    pub created_ms: Option<u64>,
    /// Pods that use it.
    #[serde(default)]
    pub pods: Vec<PodFacts>,
    /// How many more there are.
    #[serde(default)]
    pub pods_more: u32,
    /// Names of the Kubernetes nodes its volume is attached to.
    #[serde(default)]
    pub attached: Vec<String>,
    /// Whether it was reported; else labels of a volume tell of it.
    #[serde(default)]
    pub reported: bool,
    /// Its volume; absent: it has none here.
    #[serde(default)]
    pub volume: Option<ClaimVolume>,
}

impl ClaimAnswer {
    /// What was reported of it, for a reporter that compares; nothing: it was not reported.
    #[must_use]
    pub fn facts(&self) -> Option<ClaimFacts> {
        let uid = self.uid.clone().filter(|_| self.reported)?;
        Some(ClaimFacts {
            uid,
            namespace: self.namespace.clone(),
            name: self.name.clone(),
            class: self.class.clone(),
            status: self.status.clone(),
            reason: self.reason.clone(),
            requested: self.requested?,
            capacity: self.capacity,
            access_modes: self.access_modes.clone(),
            volume_mode: self.volume_mode.clone()?,
            reclaim_policy: self.reclaim_policy.clone(),
            persistent_volume: self.persistent_volume.clone(),
            handle: self.handle.clone(),
            created_ms: self.created_ms?,
            pods: self.pods.clone(),
            pods_more: self.pods_more,
            attached: self.attached.clone(),
        })
    }
}

impl From<ClaimFacts> for ClaimAnswer {
    fn from(facts: ClaimFacts) -> Self {
        Self {
            key: format!("{}/{}/{}", facts.namespace, facts.name, facts.uid),
            uid: Some(facts.uid),
            namespace: facts.namespace,
            name: facts.name,
            class: facts.class,
            status: facts.status,
            reason: facts.reason,
            requested: Some(facts.requested),
            capacity: facts.capacity,
            access_modes: facts.access_modes,
            volume_mode: Some(facts.volume_mode),
            reclaim_policy: facts.reclaim_policy,
            persistent_volume: facts.persistent_volume,
            handle: facts.handle,
            created_ms: Some(facts.created_ms),
            pods: facts.pods,
            pods_more: facts.pods_more,
            attached: facts.attached,
            reported: true,
            volume: None,
        }
    }
}

/// Claims by namespace, name and uid.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ClaimsAnswer {
    /// The claims.
    pub items: Vec<ClaimAnswer>,
    /// What to ask for with `after` to go on; nothing: there are no more.
    #[serde(default)]
    pub next: Option<String>,
}

/// Every Kubernetes cluster, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct KubernetesListAnswer {
    /// They.
    pub items: Vec<KubernetesAnswer>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Operation;

    fn claim() -> ClaimFacts {
        ClaimFacts {
            uid: "u-1".to_owned(),
            namespace: "shop".to_owned(),
            name: "data-db-0".to_owned(),
            status: "Bound".to_owned(),
            requested: 1 << 30,
            volume_mode: "Filesystem".to_owned(),
            created_ms: 7,
            pods: vec![PodFacts {
                name: "db-0".to_owned(),
                phase: "Running".to_owned(),
                node: None,
            }],
            ..ClaimFacts::default()
        }
    }

    fn report() -> KubernetesReport {
        KubernetesReport {
            uid: "k-1".to_owned(),
            version: "v1.35.2".to_owned(),
            driver: "1.0.0".to_owned(),
            classes: Some(vec![StorageClassFacts {
                name: "fast".to_owned(),
                ..StorageClassFacts::default()
            }]),
            claims: vec![claim()],
            gone: vec!["u-2".to_owned()],
        }
    }

    #[test]
    fn operations_on_kubernetes_travel_as_they_are() {
        let name = || "prod".to_owned();
        let all = [
            KubernetesOperation::List,
            KubernetesOperation::Show { name: name() },
            KubernetesOperation::Claims {
                name: name(),
                query: ClaimQuery {
                    limit: Some(3),
                    status: Some("Pending".to_owned()),
                    ..ClaimQuery::default()
                },
            },
            KubernetesOperation::Report {
                name: name(),
                report: report(),
            },
            KubernetesOperation::Forget { name: name() },
        ];
        for one in all {
            let (name, looks) = (one.name(), one.looks());
            let operation = Operation::Kubernetes(one);
            assert_eq!((operation.name(), operation.looks()), (name, looks));
            let text = serde_json::to_string(&operation).expect("plain data");
            let read: Operation = serde_json::from_str(&text).expect(&text);
            assert_eq!(read, operation, "{text}");
        }
    }

    #[test]
    fn what_was_reported_is_answered_as_it_was() {
        assert_eq!(ClaimAnswer::from(claim()).facts(), Some(claim()));
        assert_eq!(ClaimAnswer::default().facts(), None);
    }

    #[test]
    fn a_report_out_of_bounds_names_the_field() {
        assert_eq!(report().problem(), None);
        let long = "x".repeat(KUBERNETES_TEXT_BYTES_MAX + 1);
        type Spoil = fn(&mut KubernetesReport, String);
        let cases: [(&str, Spoil); 8] = [
            ("`uid`", |report, _| report.uid.clear()),
            ("`version`", |report, long| report.version = long),
            ("`claims`", |report, _| {
                report.claims = vec![claim(); CLAIMS_AT_ONCE + 1];
            }),
            ("`claims.namespace`", |report, _| {
                report.claims[0].namespace = "a/b".to_owned();
            }),
            ("`claims.reason`", |report, long| {
                report.claims[0].reason = Some(long);
            }),
            ("`claims.pods`", |report, _| {
                let pod = report.claims[0].pods[0].clone();
                report.claims[0].pods = vec![pod; CLAIM_USERS_MAX + 1];
            }),
            ("`gone`", |report, _| report.gone.push(String::new())),
            ("u-1 is twice", |report, _| {
                report.gone.push("u-1".to_owned());
            }),
        ];
        for (field, change) in cases {
            let mut odd = report();
            change(&mut odd, long.clone());
            let problem = odd.problem().expect(field);
            assert!(problem.contains(field), "{problem}");
        }
    }

    #[test]
    fn a_place_in_the_list_has_three_parts() {
        let at = |after: &str| ClaimQuery {
            after: Some(after.to_owned()),
            ..ClaimQuery::default()
        };
        assert_eq!(at("a/b/c").place(), Some(("a", "b", "c")));
        assert_eq!(at("a/b/c").problem(), None);
        assert!(at("a/b").problem().is_some());
    }
}
