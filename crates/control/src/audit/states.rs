//! What was there before a change, and what is there after it, as the audit log keeps it.
//!
//! Invariants
//! - Fields are chosen by name, kind by kind: what is added to an answer is not in the log until it is added here, and no secret is.
//! - What is kept of each is at most [`STATE_BYTES_MAX`] as JSON; what had to be left out is named in `cut`.

use api::{AlertOperation, Answer, DiskAnswer, KubernetesOperation, OpenSessionAnswer, Operation};
use serde::Serialize;
use serde_json::{Map, Value, json};

/// Bytes of what was before, and of what was asked for, at most. The whole log is [4096 entries](catalog::AUDIT_ROWS_MAX) of at most
/// 9 KiB: 36 MiB in a catalog that somebody fills on purpose, 2 MiB as a rule.
pub(super) const STATE_BYTES_MAX: usize = 4096;
/// Bytes that are kept of a text that is cut.
const TEXT_BYTES_KEPT: usize = 256;

const VOLUME: &[&str] = &[
    "id",
    "name",
    "container",
    "size",
    "state",
    "labels",
    "description",
    "iops_limit",
    "bandwidth_limit",
    "attachment",
    "origin",
    "task",
    "version",
];
const CONTAINER: &[&str] = &[
    "id",
    "name",
    "rf",
    "min_copies",
    "strict",
    "sync",
    "compression",
    "quota",
    "volumes",
    "version",
];
const MEMBER: &[&str] = &[
    "kind",
    "id",
    "node",
    "draining",
    "maintenance_until_ms",
    "candidate",
    "groups",
    "logs",
    "volumes",
    "removable",
    "task",
    "version",
];
const USER: &[&str] = &["name", "role", "created_ms", "sessions", "version"];
const TOKEN: &[&str] = &[
    "name",
    "scope",
    "user",
    "containers",
    "kubernetes",
    "all_containers",
    "created_ms",
    "version",
];
const TARGET: &[&str] = &[
    "name", "kind", "minimum", "address", "security", "own_ca", "signed", "user", "from", "to",
    "version",
];
const ALERT: &[&str] = &[
    "id",
    "kind",
    "entity",
    "severity",
    "state",
    "acknowledged",
    "resolved",
];
const SNAPSHOT: &[&str] = &[
    "id",
    "name",
    "volume",
    "volume_id",
    "size",
    "created_ms",
    "state",
    "labels",
    "group",
];
const GROUP_SNAPSHOT: &[&str] = &["id", "name", "created_ms", "ready"];
const TASK: &[&str] = &[
    "id",
    "kind",
    "entity",
    "status",
    "done",
    "total",
    "unit",
    "cancelled_by",
];
const KUBERNETES: &[&str] = &["name", "uid", "version", "driver", "claims", "volumes"];
const AUTHORITY: &[&str] = &["signer", "fingerprint", "believed", "task"];
const CATALOG: &[&str] = &["place", "supervised"];
const SESSION: &[&str] = &["id", "user", "created_ms", "expires_ms"];
const DISK: &[&str] = &["node", "store", "path", "size", "serial", "state", "light"];

/// The look that tells what is there before a change; nothing where there is nothing yet, or nothing that changes.
pub(crate) fn look(operation: &Operation) -> Option<Operation> {
    let glance = |volume: &String, snapshot: Option<&String>| Operation::Glance {
        volume: volume.clone(),
        snapshot: snapshot.cloned(),
    };
    Some(match operation.bare() {
        Operation::NodeSet { name, .. } | Operation::NodeRemove { name, .. } => {
            Operation::NodeShow { name: name.clone() }
        }
        Operation::StoreSet { id, .. }
        | Operation::StoreRemove { id, .. }
        | Operation::StoreScrub { id } => Operation::StoreShow { id: *id },
        Operation::VolumeSet { name, .. }
        | Operation::VolumeResize { name, .. }
        | Operation::VolumeDelete { name }
        | Operation::VolumeDrain { name }
        | Operation::VolumeRelease { name } => glance(name, None),
        Operation::VolumeRestore { volume, .. }
        | Operation::Attach { volume, .. }
        | Operation::Detach { volume, .. } => glance(volume, None),
        Operation::SnapshotDelete { volume, name } => glance(volume, Some(name)),
        Operation::GroupSnapshotDelete { id } => Operation::GroupSnapshotShow { id: id.clone() },
        Operation::ContainerSet { .. } | Operation::ContainerDelete { .. } => {
            Operation::ContainerList
        }
        Operation::UserSet { .. } | Operation::UserDelete { .. } => Operation::UserList,
        Operation::TokenDelete { .. } => Operation::TokenList,
        Operation::SessionEnd { user, .. } => Operation::SessionList { user: user.clone() },
        Operation::TaskCancel { id } => Operation::TaskShow { id: *id },
        Operation::DiskReplace { .. } | Operation::DiskLocate { .. } => Operation::DiskList,
        Operation::CatalogMove(_) => Operation::CatalogShow,
        Operation::AuthorityRotate | Operation::AuthorityRetire(_) => Operation::AuthorityShow,
        Operation::Alert(operation) => Operation::Alert(look_at_alerts(operation)?),
        Operation::Kubernetes(KubernetesOperation::Forget { name }) => {
            Operation::Kubernetes(KubernetesOperation::Show { name: name.clone() })
        }
        _ => return None,
    })
}

fn look_at_alerts(operation: &AlertOperation) -> Option<AlertOperation> {
    match operation {
        AlertOperation::Acknowledge { id, .. } | AlertOperation::Resolve { id, .. } => {
            Some(AlertOperation::Show { id: *id })
        }
        AlertOperation::TargetDelete { .. } => Some(AlertOperation::TargetList),
        _ => None,
    }
}

/// What [`look`] found of the one thing that an operation is about.
pub(crate) fn before(operation: &Operation, answer: &Answer) -> Option<Value> {
    let operation = operation.bare();
    let found = match (operation, answer) {
        (
            Operation::ContainerSet { name, .. } | Operation::ContainerDelete { name },
            Answer::Containers(all),
        ) => chosen(all.iter().find(|one| one.name == *name)?, CONTAINER),
        (Operation::UserSet { name, .. } | Operation::UserDelete { name }, Answer::Users(all)) => {
            chosen(all.iter().find(|one| one.name == *name)?, USER)
        }
        (Operation::TokenDelete { name, .. }, Answer::Tokens(all)) => {
            chosen(all.iter().find(|one| one.name == *name)?, TOKEN)
        }
        (Operation::Alert(AlertOperation::TargetDelete { name }), Answer::AlertTargets(all)) => {
            chosen(all.iter().find(|one| one.name == *name)?, TARGET)
        }
        (Operation::SessionEnd { id, .. }, Answer::Sessions(all)) => {
            let is = |one: &&OpenSessionAnswer| one.id == *id;
            chosen(all.iter().find(is)?, SESSION)
        }
        (
            Operation::DiskReplace { store, .. } | Operation::DiskLocate { store, .. },
            Answer::Disks(all),
        ) => disks(all.iter().filter(|disk| disk.store == *store)),
        (_, answer) => state(answer)?,
    };
    Some(bounded(found))
}

/// What an answer says of the thing that was changed, for what comes after.
pub(super) fn state(answer: &Answer) -> Option<Map<String, Value>> {
    Some(match answer {
        Answer::Volume(value) => chosen(value, VOLUME),
        Answer::Container(value) => chosen(value, CONTAINER),
        Answer::Member(value) => chosen(value, MEMBER),
        Answer::User(value) => chosen(value, USER),
        Answer::Token(value) => chosen(value, TOKEN),
        Answer::AlertTarget(value) => chosen(value, TARGET),
        Answer::Alert(value) => chosen(value, ALERT),
        Answer::Snapshot(value) => chosen(value, SNAPSHOT),
        Answer::GroupSnapshot(value) => {
            let mut fields = chosen(value, GROUP_SNAPSHOT);
            let members = value.snapshots.iter().map(|one| json!(one.id));
            fields.insert("snapshots".to_owned(), members.collect());
            fields
        }
        Answer::Task(value) => chosen(value, TASK),
        Answer::Kubernetes(value) => chosen(value, KUBERNETES),
        Answer::Authority(value) => chosen(value, AUTHORITY),
        Answer::Catalog(value) => chosen(value, CATALOG),
        Answer::Disks(all) => disks(all.iter()),
        Answer::Attachment(value) => one("attachment", json!(value)),
        Answer::Started(value) => one("task", json!(value.task?)),
        _ => return None,
    })
}

fn one(name: &str, value: Value) -> Map<String, Value> {
    [(name.to_owned(), value)].into_iter().collect()
}

fn disks<'a>(all: impl Iterator<Item = &'a DiskAnswer>) -> Map<String, Value> {
    let each = all.map(|disk| Value::Object(chosen(disk, DISK)));
    one("disks", each.collect())
}

/// Some fields of a value, those that say something.
fn chosen(value: &impl Serialize, names: &[&str]) -> Map<String, Value> {
    let Ok(Value::Object(mut all)) = serde_json::to_value(value) else {
        return Map::new();
    };
    all.retain(|name, value| names.contains(&name.as_str()) && !value.is_null());
    all
}

/// Takes user and password out of every address in a text: `http://user:secret@host` is `http://***@host`.
fn without_logins(text: &str) -> String {
    let mut parts = text.split("://");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for rest in parts {
        let ends = |one: char| "/?#,;\"'<>".contains(one) || one.is_whitespace();
        let end = rest.find(ends).unwrap_or(rest.len());
        out.push_str("://");
        match rest[..end].rfind('@') {
            Some(at) => {
                out.push_str("***");
                out.push_str(&rest[at..]);
            }
            None => out.push_str(rest),
        }
    }
    out
}

fn redact(value: &mut Value) {
    match value {
        Value::String(text) => *text = without_logins(text),
        Value::Array(items) => items.iter_mut().for_each(redact),
        Value::Object(fields) => fields.values_mut().for_each(redact),
        _ => {}
    }
}

fn length(value: &Value) -> usize {
    value.to_string().len()
}

/// The beginning of a text that is too long; nothing, of anything else.
fn beginning(value: &Value) -> Option<Value> {
    let text = value.as_str()?;
    let end = (0..=TEXT_BYTES_KEPT.min(text.len())).rev();
    let end = end.into_iter().find(|end| text.is_char_boundary(*end))?;
    Some(json!(format!("{}...", &text[..end])))
}

/// Fields without logins in addresses, and no more of them than the log keeps: the longest are cut first, and named.
pub(super) fn bounded(fields: Map<String, Value>) -> Value {
    let mut whole = Value::Object(fields);
    redact(&mut whole);
    let mut cut: Vec<String> = Vec::new();
    while length(&whole) > STATE_BYTES_MAX {
        let Value::Object(fields) = &mut whole else {
            unreachable!("it is made of fields");
        };
        // Every round takes a field out, or shortens one that was not shortened before.
        let others = fields.iter().filter(|(name, _)| *name != "cut");
        let longest = others.max_by_key(|(_, value)| length(value));
        let Some(name) = longest.map(|(name, _)| name.clone()) else {
            break;
        };
        let kept = fields.get(&name).and_then(beginning);
        match kept.filter(|_| !cut.contains(&name)) {
            Some(kept) => fields.insert(name.clone(), kept),
            None => fields.remove(&name),
        };
        if !cut.contains(&name) {
            cut.push(name);
        }
        fields.insert("cut".to_owned(), json!(cut));
    }
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(value: Value) -> Map<String, Value> {
        match value {
            Value::Object(fields) => fields,
            _ => unreachable!("an object"),
        }
    }

    #[test]
    fn what_is_too_long_is_cut_and_says_so() {
        let long = "ü".repeat(4000);
        let labels: Map<String, Value> = (0..300)
            .map(|at| (format!("label-{at}"), json!("value")))
            .collect();
        let said = bounded(fields(
            json!({"name": "v", "description": long, "labels": labels, "size": 4096}),
        ));
        assert!(length(&said) <= STATE_BYTES_MAX, "{said}");
        assert_eq!((&said["name"], &said["size"]), (&json!("v"), &json!(4096)));
        assert_eq!(said["cut"], json!(["description", "labels"]));
        assert!(
            said["description"].as_str().unwrap().ends_with("ü..."),
            "{said}"
        );
        assert!(said.get("labels").is_none());
        let short = json!({"name": "v"});
        assert_eq!(bounded(fields(short.clone())), short);
    }

    #[test]
    fn addresses_lose_their_logins() {
        let said = bounded(fields(json!({
            "endpoints": ["https://root:hush@etcd:2379/x@y", "http://etcd:2379"], "note": "a@b"
        })));
        assert_eq!(
            said,
            json!({"endpoints": ["https://***@etcd:2379/x@y", "http://etcd:2379"], "note": "a@b"})
        );
        let second = "primary http://a/x, replica http://root:hush@b";
        assert_eq!(
            without_logins(second),
            "primary http://a/x, replica http://***@b"
        );
        let innocent = "see http://docs, mail a@b";
        assert_eq!(without_logins(innocent), innocent);
    }

    #[test]
    fn a_thing_that_is_not_in_a_list_was_not_there() {
        let delete = Operation::TokenDelete {
            name: "other".to_owned(),
            user: None,
        };
        let token = api::TokenAnswer {
            name: "t".to_owned(),
            scope: api::Scope::Csi,
            user: None,
            containers: Vec::new(),
            kubernetes: Vec::new(),
            all_containers: false,
            created_ms: 1,
            token: Some("azk_hush".to_owned()),
            version: None,
        };
        let answer = Answer::Tokens(vec![token]);
        assert_eq!(before(&delete, &answer), None);
        let delete = Operation::TokenDelete {
            name: "t".to_owned(),
            user: None,
        };
        let found = before(&delete, &answer).unwrap();
        assert_eq!(found["scope"], "csi");
        assert!(!found.to_string().contains("hush"), "{found}");
    }
}
