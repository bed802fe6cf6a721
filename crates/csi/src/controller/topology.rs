//! Where volumes can be reached from: everywhere the cluster can be. A topology of ours has one segment, the cluster.

use crate::handle::Handles;
use crate::v1::{Topology, TopologyRequirement};
use tonic::Status;

/// Key of the segment.
const SEGMENT: &str = "csi.azekura.dev/cluster";

/// Where the volumes of a cluster can be reached from.
pub(crate) fn accessible(handles: &Handles) -> Topology {
    Topology {
        segments: [(SEGMENT.to_owned(), handles.cluster.clone())].into(),
    }
}

/// Whether a topology holds nodes of this cluster: it names nothing but the cluster.
pub(super) fn is_ours(topology: &Topology, handles: &Handles) -> bool {
    let ours = |(key, value): (&String, &String)| key == SEGMENT && *value == handles.cluster;
    topology.segments.iter().all(ours)
}

/// Checks that one of the requisite topologies can reach the cluster. What is preferred makes no difference: every
/// node of the cluster is as good.
///
/// # Errors
/// RESOURCE_EXHAUSTED, as the specification has it.
pub(super) fn check(
    requirement: Option<&TopologyRequirement>,
    handles: &Handles,
) -> Result<(), Status> {
    let requisite = requirement.map_or(&[][..], |requirement| &requirement.requisite);
    if requisite.is_empty() || requisite.iter().any(|one| is_ours(one, handles)) {
        return Ok(());
    }
    Err(Status::resource_exhausted(format!(
        "none of the requisite topologies reaches this cluster: its nodes have the segment {SEGMENT} = {}",
        handles.cluster
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_requisite_elsewhere_exhausts_the_resources() {
        let handles = Handles {
            cluster: "here".to_owned(),
        };
        let there = Handles {
            cluster: "there".to_owned(),
        };
        let requirement = |requisite| TopologyRequirement {
            requisite,
            preferred: vec![accessible(&there)],
        };
        assert!(check(None, &handles).is_ok());
        assert!(check(Some(&requirement(Vec::new())), &handles).is_ok());
        let both = vec![accessible(&there), accessible(&handles)];
        assert!(check(Some(&requirement(both)), &handles).is_ok());
        let refusal = check(Some(&requirement(vec![accessible(&there)])), &handles);
        let refusal = refusal.expect_err("refused");
        assert_eq!(refusal.code(), tonic::Code::ResourceExhausted);
    }
}
