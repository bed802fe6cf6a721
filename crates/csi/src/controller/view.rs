//! What the cluster has, in the words of the specification; names and pages.

use crate::handle::{Handles, require};
use crate::v1::volume_content_source::{SnapshotSource, Type as SourceType, VolumeSource};
use crate::v1::{Snapshot, Volume, VolumeCondition, VolumeContentSource};
use api::{SnapshotAnswer, VolumeAnswer};
use tonic::Status;

/// Label with the name that the orchestrator gave, when it cannot be the name in the cluster.
pub(crate) const NAME_LABEL: &str = "csi.azekura.dev/name";
/// Label with the handle of what a volume was made from.
pub(super) const SOURCE_LABEL: &str = "csi.azekura.dev/source";
/// Longest name: the specification wants 128 bytes at least.
const NAME_BYTES_MAX: usize = 253;
/// Rows of one call to the API when a caller asks for everything.
pub(super) const PAGE_ROWS: usize = 500;
/// Rows of one page at most, whatever the caller asks for: the API gives 1000, one of which tells of more pages.
const PAGE_ROWS_MAX: usize = 999;

/// A name as the cluster keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KeptName {
    /// In the cluster.
    pub name: String,
    /// The given name, when it is another.
    pub given: Option<String>,
}

/// What a name given by the orchestrator becomes in the cluster: itself, or, when it cannot be one there, a short name
/// made from it. Names of any script stay.
///
/// # Errors
/// INVALID_ARGUMENT when it is missing or too long.
pub(crate) fn keep_name(given: &str) -> Result<KeptName, Status> {
    let given = require("name", given)?;
    if given.len() > NAME_BYTES_MAX {
        return Err(Status::invalid_argument(format!(
            "name has {} bytes: at most {NAME_BYTES_MAX} are allowed",
            given.len()
        )));
    }
    let forbidden = |c: char| c.is_control() || c == '/';
    if !given.contains(forbidden) && !is_address(given) {
        return Ok(KeptName {
            name: given.to_owned(),
            given: None,
        });
    }
    let digest = xxhash_rust::xxh3::xxh3_128(given.as_bytes());
    Ok(KeptName {
        name: format!("csi-{digest:032x}"),
        given: Some(given.to_owned()),
    })
}

/// Whether the API would take it for the number of a volume or snapshot.
fn is_address(name: &str) -> bool {
    let rest = name.strip_prefix("volume-");
    let rest = rest.or_else(|| name.strip_prefix("snapshot-"));
    rest.is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit()))
}

/// How many rows a page may have; `None`: all.
///
/// # Errors
/// INVALID_ARGUMENT for negative numbers.
pub(crate) fn page_size(max_entries: i32) -> Result<Option<usize>, Status> {
    match usize::try_from(max_entries) {
        Ok(0) => Ok(None),
        Ok(wanted) => Ok(Some(wanted.min(PAGE_ROWS_MAX))),
        Err(_) => Err(Status::invalid_argument(format!(
            "max_entries is {max_entries}: use 0 for all, or the number of entries of a page"
        ))),
    }
}

/// The number a token stands for: that of the last row of the page before. 0: from the start.
///
/// # Errors
/// ABORTED, as the specification has it.
pub(crate) fn token_of(starting_token: &str) -> Result<u64, Status> {
    if starting_token.is_empty() {
        return Ok(0);
    }
    starting_token.parse().map_err(|_| {
        Status::aborted(format!(
            "starting_token {starting_token:?} is not one of this driver: start again without one"
        ))
    })
}

/// A size for the wire.
pub(crate) fn bytes(size: u64) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}

/// A volume.
pub(super) fn view_volume(volume: &VolumeAnswer, handles: &Handles) -> Volume {
    let source = volume.labels.get(SOURCE_LABEL);
    Volume {
        capacity_bytes: bytes(volume.size),
        volume_id: handles.volume(volume.id),
        volume_context: [].into(),
        content_source: source.and_then(|source| view_source(source, handles)),
        accessible_topology: vec![super::accessible(handles)],
    }
}

fn view_source(handle: &str, handles: &Handles) -> Option<VolumeContentSource> {
    let kind = if handles.parse_snapshot(handle).is_some() {
        SourceType::Snapshot(SnapshotSource {
            snapshot_id: handle.to_owned(),
        })
    } else {
        handles.parse_volume(handle)?;
        SourceType::Volume(VolumeSource {
            volume_id: handle.to_owned(),
        })
    };
    Some(VolumeContentSource { r#type: Some(kind) })
}

/// Whether something is wrong with a volume.
pub(super) fn view_condition(volume: &VolumeAnswer) -> VolumeCondition {
    let healthy = matches!(volume.state.as_str(), "ready" | "pending") && volume.reason.is_none();
    let message = match (healthy, &volume.reason) {
        (true, _) => "the volume is served with all its copies".to_owned(),
        (false, Some(reason)) => format!("{}: {reason}", volume.state),
        (false, None) => format!("the volume is {}", volume.state),
    };
    VolumeCondition {
        abnormal: !healthy,
        message,
    }
}

/// The nodes that may use a volume.
pub(super) fn view_nodes(volume: &VolumeAnswer, handles: &Handles) -> Vec<String> {
    let clients = volume.attachment.clients.iter();
    clients.map(|client| handles.node(client)).collect()
}

/// A snapshot. It can be used from the moment it exists: while its root is pending, the volume's owner serves it.
pub(crate) fn view_snapshot(snapshot: &SnapshotAnswer, handles: &Handles) -> Snapshot {
    Snapshot {
        size_bytes: bytes(snapshot.size),
        snapshot_id: handles.snapshot(snapshot.id),
        source_volume_id: handles.volume(snapshot.volume_id),
        creation_time: Some(timestamp(snapshot.created_ms)),
        ready_to_use: true,
        group_snapshot_id: match &snapshot.group {
            Some(group) => handles.group(group),
            None => String::new(),
        },
    }
}

/// Unix milliseconds for the wire.
pub(crate) fn timestamp(milliseconds: u64) -> prost_types::Timestamp {
    let seconds = i64::try_from(milliseconds / 1000).unwrap_or(i64::MAX);
    let nanos = i32::try_from(milliseconds % 1000 * 1_000_000).expect("less than a second");
    prost_types::Timestamp { seconds, nanos }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_any_script_stay_and_others_are_made_short() {
        for name in ["pvc-1", "Ω-том", "volume-", "volume-x1", &"x".repeat(253)] {
            assert_eq!(keep_name(name).expect("kept").name, name);
        }
        for name in ["volume-12", "snapshot-1", "a/b", "a\nb"] {
            let kept = keep_name(name).expect("kept");
            assert!(kept.name.starts_with("csi-"), "{kept:?}");
            assert_eq!(kept.given.as_deref(), Some(name));
            assert_eq!(kept, keep_name(name).expect("the same again"));
        }
        for name in ["", &"x".repeat(254)] {
            let refusal = keep_name(name).expect_err("refused");
            assert_eq!(refusal.code(), tonic::Code::InvalidArgument);
        }
    }

    #[test]
    fn tokens_of_others_are_aborted_and_negative_pages_are_invalid() {
        assert_eq!(token_of("").expect("the start"), 0);
        assert_eq!(token_of("17").expect("ours"), 17);
        assert_eq!(
            token_of("x").expect_err("not ours").code(),
            tonic::Code::Aborted
        );
        assert_eq!(page_size(0).expect("all"), None);
        assert_eq!(page_size(3).expect("three"), Some(3));
        assert_eq!(
            page_size(-1).expect_err("negative").code(),
            tonic::Code::InvalidArgument
        );
    }
}
