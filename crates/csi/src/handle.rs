//! Handles: how volumes, snapshots and nodes are called outside of the cluster.
//!
//! A handle names its cluster, so that one of another cluster is recognised: `<cluster>-v12` is volume 12,
//! `<cluster>-s7` snapshot 7, `<cluster>-g...` a group snapshot, `<name>@<cluster>` a node. Handles are opaque to
//! orchestrators and last for ever: a number is never used twice.

use std::fmt::Display;
use tonic::Status;

/// Longest accepted handle. Ours are far shorter.
const HANDLE_BYTES_MAX: usize = 256;
/// Longest name of a node: what a client of the cluster may be called.
const NODE_BYTES_MAX: usize = 253;

/// Whether a required text is there.
///
/// # Errors
/// INVALID_ARGUMENT naming `field` when it is empty or unreasonably long.
pub(crate) fn require<'a>(field: &str, text: &'a str) -> Result<&'a str, Status> {
    match text.len() {
        0 => Err(Status::invalid_argument(format!("{field} is missing"))),
        1..=HANDLE_BYTES_MAX => Ok(text),
        length => Err(Status::invalid_argument(format!(
            "{field} has {length} bytes: at most {HANDLE_BYTES_MAX} are allowed"
        ))),
    }
}

/// How the API addresses a volume by number.
pub(crate) fn volume_address(number: u64) -> String {
    format!("volume-{number}")
}

/// How the API addresses a snapshot by number, below its volume.
pub(crate) fn snapshot_address(number: u64) -> String {
    format!("snapshot-{number}")
}

/// Makes and reads the handles of one cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Handles {
    /// Id of the cluster.
    pub cluster: String,
}

impl Handles {
    /// Of a volume.
    pub fn volume(&self, number: u64) -> String {
        format!("{}-v{number}", self.cluster)
    }

    /// Of a snapshot.
    pub fn snapshot(&self, number: u64) -> String {
        format!("{}-s{number}", self.cluster)
    }

    /// Of a group snapshot.
    pub fn group(&self, id: impl Display) -> String {
        format!("{}-g{id}", self.cluster)
    }

    /// Of a node.
    pub fn node(&self, name: &str) -> String {
        format!("{name}@{}", self.cluster)
    }

    /// The volume of a handle; `None`: it cannot be one of this cluster.
    pub fn parse_volume(&self, handle: &str) -> Option<u64> {
        number(self.inside(handle, "-v")?)
    }

    /// The snapshot of a handle.
    pub fn parse_snapshot(&self, handle: &str) -> Option<u64> {
        number(self.inside(handle, "-s")?)
    }

    /// The group snapshot of a handle.
    pub fn parse_group<'a>(&self, handle: &'a str) -> Option<&'a str> {
        let id = self.inside(handle, "-g")?;
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        (!id.is_empty() && id.bytes().all(plain)).then_some(id)
    }

    /// The name of the node of a handle.
    pub fn parse_node<'a>(&self, handle: &'a str) -> Option<&'a str> {
        let name = handle.strip_suffix(&self.cluster)?.strip_suffix('@')?;
        (1..=NODE_BYTES_MAX).contains(&name.len()).then_some(name)
    }

    fn inside<'a>(&self, handle: &'a str, kind: &str) -> Option<&'a str> {
        handle.strip_prefix(&self.cluster)?.strip_prefix(kind)
    }

    /// The volume of a handle that a request names.
    ///
    /// # Errors
    /// INVALID_ARGUMENT when it is missing, NOT_FOUND when it is no handle of this cluster.
    pub fn volume_of(&self, handle: &str) -> Result<u64, Status> {
        let handle = require("volume_id", handle)?;
        self.parse_volume(handle).ok_or_else(|| {
            Status::not_found(format!(
                "volume {handle} does not exist in this cluster ({}): a volume of it is called {}",
                self.cluster,
                self.volume(1)
            ))
        })
    }

    /// The snapshot of a handle that a request names.
    ///
    /// # Errors
    /// As [`Handles::volume_of`].
    pub fn snapshot_of(&self, field: &str, handle: &str) -> Result<u64, Status> {
        let handle = require(field, handle)?;
        self.parse_snapshot(handle).ok_or_else(|| {
            Status::not_found(format!(
                "snapshot {handle} does not exist in this cluster ({}): a snapshot of it is called {}",
                self.cluster,
                self.snapshot(1)
            ))
        })
    }

    /// The group snapshot of a handle that a request names.
    ///
    /// # Errors
    /// As [`Handles::volume_of`].
    pub fn group_of<'a>(&self, handle: &'a str) -> Result<&'a str, Status> {
        let handle = require("group_snapshot_id", handle)?;
        self.parse_group(handle).ok_or_else(|| {
            Status::not_found(format!(
                "group snapshot {handle} does not exist in this cluster ({})",
                self.cluster
            ))
        })
    }
}

/// A number as we write it: no sign, no leading zero.
fn number(text: &str) -> Option<u64> {
    let number: u64 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use fuzz::target;
    use proptest::prelude::*;

    fn handles() -> Handles {
        Handles {
            cluster: "c0ffee".to_owned(),
        }
    }

    #[test]
    fn handles_come_back_and_those_of_others_do_not() {
        let handles = handles();
        assert_eq!(handles.parse_volume(&handles.volume(12)), Some(12));
        assert_eq!(handles.parse_snapshot(&handles.snapshot(7)), Some(7));
        assert_eq!(handles.parse_group(&handles.group("9")), Some("9"));
        assert_eq!(handles.parse_node(&handles.node("w.1")), Some("w.1"));
        for odd in [
            "",
            "12",
            "c0ffee",
            "c0ffee-v",
            "c0ffee-v01",
            "c0ffee-v+1",
            "c0ffee-s1",
            "C0ffee-v1",
            "other-v1",
            "c0ffee-v18446744073709551616",
            "c0ffee-v1 ",
        ] {
            assert_eq!(handles.parse_volume(odd), None, "{odd:?}");
        }
        assert_eq!(handles.parse_node("@c0ffee"), None);
        assert_eq!(handles.parse_node("w@other"), None);
    }

    #[test]
    fn a_missing_handle_is_another_error_than_a_foreign_one() {
        let code = |handle: &str| {
            handles()
                .volume_of(handle)
                .err()
                .map(|status| status.code())
        };
        assert_eq!(code(""), Some(tonic::Code::InvalidArgument));
        assert_eq!(code(&"x".repeat(257)), Some(tonic::Code::InvalidArgument));
        assert_eq!(code("other-v1"), Some(tonic::Code::NotFound));
        assert_eq!(code("c0ffee-v1"), None);
    }

    #[test]
    fn fuzz_corpus_of_handles() {
        let (target, ours) = (target!("handle"), handles());
        let handle = |name, handle: String| {
            let committed = target.sample(name, handle.as_bytes());
            String::from_utf8(committed).expect("text")
        };
        assert_eq!(
            ours.parse_volume(&handle("volume", ours.volume(12))),
            Some(12)
        );
        assert_eq!(
            ours.parse_snapshot(&handle("snapshot", ours.snapshot(7))),
            Some(7)
        );
        assert_eq!(
            ours.parse_group(&handle("group", ours.group("9"))),
            Some("9")
        );
        assert_eq!(
            ours.parse_node(&handle("node", ours.node("w.1"))),
            Some("w.1")
        );
        let largest = ours.volume(u64::MAX);
        assert_eq!(
            ours.parse_volume(&handle("largest", largest)),
            Some(u64::MAX)
        );
        target.play(|bytes| {
            let text = String::from_utf8_lossy(bytes);
            if let Some(number) = ours.parse_volume(&text) {
                assert_eq!(ours.volume(number), text);
            }
            if let Some(number) = ours.parse_snapshot(&text) {
                assert_eq!(ours.snapshot(number), text);
            }
            let _ = (ours.parse_group(&text), ours.parse_node(&text));
            let _ = (ours.volume_of(&text).is_ok(), ours.group_of(&text).is_ok());
        });
    }

    proptest! {
        #[test]
        fn fuzz_any_text_is_a_handle_or_not(text in any::<String>()) {
            let handles = handles();
            let _ = (handles.parse_snapshot(&text), handles.parse_group(&text), handles.parse_node(&text));
            if let Some(number) = handles.parse_volume(&text) {
                prop_assert_eq!(handles.volume(number), text);
            }
        }
    }
}
