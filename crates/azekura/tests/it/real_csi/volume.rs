//! Volumes at the controller: created, listed, looked at, changed, deleted; each also several times at once.

use super::driver::Driver;
use super::requests::*;
use csi::v1::volume_capability::access_mode::Mode;
use csi::v1::volume_capability::{AccessType, BlockVolume};
use csi::v1::*;
use std::collections::BTreeSet;
use tonic::Code;

#[test]
fn real_csi_volume_is_created_once_and_deleted_for_good() {
    let driver = Driver::new("csi-volume");
    for kind in ["controller", "node"] {
        let info = driver.identity(kind).get_plugin_info_of(&driver);
        assert_eq!(info.name, "csi.azekura.dev");
        assert_eq!(info.vendor_version, env!("CARGO_PKG_VERSION"));
    }
    let client = driver.controller();
    let created = driver.at_once(|| {
        let mut client = client.clone();
        async move { client.create_volume(wanted("pvc-1", 64)).await }
    });
    let created = created.volume.unwrap();
    assert_eq!(created.capacity_bytes, 64 * MIB);
    assert_eq!(driver.create(wanted("pvc-1", 64)).unwrap(), created);
    let other = driver.create(wanted("pvc-1", 65));
    assert_refused(other, Code::AlreadyExists, &["pvc-1", "size"]);
    let mut other = wanted("pvc-1", 64);
    other.volume_content_source = from_volume(&driver.volume("pvc-2", 64));
    let other = driver.create(other);
    assert_refused(other, Code::AlreadyExists, &["pvc-1", "source"]);
    let mut other = wanted("pvc-1", 64);
    other.parameters = [("replicationFactor".to_owned(), "3".to_owned())].into();
    let other = driver.create(other);
    assert_refused(other, Code::AlreadyExists, &["pvc-1", "container"]);
    for name in ["том-Ω", "神戸の倉", "volume-7", "a/b", &"y".repeat(253)] {
        let volume = driver.create(wanted(name, 8)).unwrap();
        assert_eq!(driver.create(wanted(name, 8)).unwrap(), volume);
        driver.delete(&volume.volume_id).unwrap();
    }
    driver.at_once(|| {
        let (mut client, volume_id) = (client.clone(), created.volume_id.clone());
        let request = DeleteVolumeRequest {
            volume_id,
            secrets: secrets(),
        };
        async move { client.delete_volume(request).await }
    });
    for handle in [&created.volume_id, "elsewhere-v1", "nonsense"] {
        driver.delete(handle).unwrap();
    }
    assert_eq!(code(driver.delete("")), Code::InvalidArgument);
    driver.assert_clean();
}

/// A request that is refused, and why.
fn odd_volumes() -> Vec<(CreateVolumeRequest, Code, &'static [&'static str])> {
    let parameter = |key: &str, value: &str| {
        let mut request = wanted("odd", 64);
        request.parameters.insert(key.to_owned(), value.to_owned());
        request
    };
    let of = |capabilities: &[VolumeCapability]| CreateVolumeRequest {
        volume_capabilities: capabilities.to_vec(),
        ..wanted("odd", 64)
    };
    let range = |required_bytes, limit_bytes| CreateVolumeRequest {
        capacity_range: Some(CapacityRange {
            required_bytes,
            limit_bytes,
        }),
        ..wanted("odd", 64)
    };
    let elsewhere = Topology {
        segments: [("csi.azekura.dev/cluster".to_owned(), "other".to_owned())].into(),
    };
    let mut far = wanted("odd", 64);
    far.accessibility_requirements = Some(TopologyRequirement {
        requisite: vec![elsewhere],
        preferred: Vec::new(),
    });
    let mut nowhere = wanted("odd", 64);
    nowhere.volume_content_source = Some(VolumeContentSource { r#type: None });
    let sourced = |source| CreateVolumeRequest {
        volume_content_source: source,
        ..wanted("odd", 64)
    };
    let shared = capability(
        Mode::MultiNodeMultiWriter,
        AccessType::Block(BlockVolume {}),
    );
    vec![
        (wanted("", 64), Code::InvalidArgument, &["name"]),
        (
            wanted(&"x".repeat(254), 64),
            Code::InvalidArgument,
            &["254"],
        ),
        (
            parameter("flashMode", "ENABLED"),
            Code::InvalidArgument,
            &["flashMode"],
        ),
        (
            parameter("colour", "red"),
            Code::InvalidArgument,
            &["colour"],
        ),
        (
            parameter("iopsLimit", "many"),
            Code::InvalidArgument,
            &["iopsLimit", "many"],
        ),
        (
            parameter("storageContainer", "none"),
            Code::InvalidArgument,
            &["none"],
        ),
        (of(&[]), Code::InvalidArgument, &["volume_capabilities"]),
        (
            of(&[mount("ext4"), block()]),
            Code::InvalidArgument,
            &["one of them"],
        ),
        (
            of(&[shared]),
            Code::InvalidArgument,
            &["MULTI_NODE_MULTI_WRITER"],
        ),
        (of(&[mount("btrfs")]), Code::InvalidArgument, &["btrfs"]),
        (of(&[mount("xfs")]), Code::OutOfRange, &["xfs"]),
        (range(i64::MAX, 0), Code::OutOfRange, &["largest"]),
        (range(2 * MIB, MIB), Code::OutOfRange, &["limit_bytes"]),
        (range(-1, 0), Code::InvalidArgument, &["negative"]),
        (far, Code::ResourceExhausted, &["csi.azekura.dev/cluster"]),
        (nowhere, Code::InvalidArgument, &["volume_content_source"]),
        (
            sourced(from_volume("elsewhere-v1")),
            Code::NotFound,
            &["elsewhere-v1"],
        ),
        (
            sourced(from_snapshot("elsewhere-s1")),
            Code::NotFound,
            &["elsewhere-s1"],
        ),
        (
            sourced(from_snapshot("")),
            Code::InvalidArgument,
            &["snapshot_id"],
        ),
    ]
}

#[test]
fn real_csi_volume_that_cannot_be_is_refused_and_nothing_is_made() {
    let driver = Driver::new("csi-odd");
    for (request, code, words) in odd_volumes() {
        assert_refused(driver.create(request), code, words);
    }
    // A container with other policies than those asked for.
    driver
        .node
        .ask(&["container", "create", "two", "--rf", "2"]);
    let mut torn = wanted("odd", 64);
    let class = [("storageContainer", "two"), ("replicationFactor", "3")];
    torn.parameters = class
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into();
    let torn = driver.create(torn);
    assert_refused(torn, Code::InvalidArgument, &["replicationFactor", "two"]);
    let listed = driver.wait(
        driver
            .controller()
            .list_volumes(ListVolumesRequest::default()),
    );
    assert_eq!(listed.unwrap().entries, []);
}

#[test]
fn real_csi_volumes_are_listed_in_pages_with_their_nodes() {
    let driver = Driver::new("csi-list");
    let volumes = ["a", "b", "c"].map(|name| driver.volume(name, 8));
    let node = driver.node_id();
    driver.publish(&volumes[1], &node, false).unwrap();
    let list = |max_entries, starting_token: &str| {
        let request = ListVolumesRequest {
            max_entries,
            starting_token: starting_token.to_owned(),
        };
        driver.wait(driver.controller().list_volumes(request))
    };
    let (mut seen, mut token) = (Vec::new(), String::new());
    loop {
        let page = list(1, &token).unwrap();
        assert_eq!(page.entries.len(), 1);
        seen.extend(page.entries);
        // What is deleted between two pages does not disturb them.
        if seen.len() == 1 {
            driver.delete(&volumes[0]).unwrap();
        }
        token = page.next_token;
        if token.is_empty() {
            break;
        }
    }
    let handles = seen
        .iter()
        .map(|entry| entry.volume.as_ref().unwrap().volume_id.clone());
    assert_eq!(handles.collect::<Vec<_>>(), volumes);
    let status = seen[1].status.as_ref().unwrap();
    assert_eq!(status.published_node_ids, std::slice::from_ref(&node));
    assert!(!status.volume_condition.as_ref().unwrap().abnormal);
    assert_eq!(list(0, "").unwrap().entries, seen[1..]);
    assert_eq!(code(list(0, "token")), Code::Aborted);
    assert_eq!(code(list(-1, "")), Code::InvalidArgument);
    let get = |volume: &str| {
        let request = ControllerGetVolumeRequest {
            volume_id: volume.to_owned(),
        };
        driver.wait(driver.controller().controller_get_volume(request))
    };
    let shown = get(&volumes[1]).unwrap();
    assert_eq!(shown.volume, seen[1].volume);
    assert_eq!(shown.status.unwrap().published_node_ids, [node]);
    for (handle, expected) in [
        (volumes[0].as_str(), Code::NotFound),
        ("elsewhere-v1", Code::NotFound),
        ("", Code::InvalidArgument),
    ] {
        assert_eq!(code(get(handle)), expected, "{handle:?}");
    }
}

#[test]
fn real_csi_capabilities_are_confirmed_only_when_all_of_them_work() {
    let driver = Driver::new("csi-validate");
    let volume = driver.volume("pvc", 64);
    let validate = |volume: &str, capabilities: &[VolumeCapability]| {
        let request = ValidateVolumeCapabilitiesRequest {
            volume_id: volume.to_owned(),
            volume_capabilities: capabilities.to_vec(),
            secrets: secrets(),
            ..Default::default()
        };
        driver.wait(driver.controller().validate_volume_capabilities(request))
    };
    let good = [mount("ext4"), mount_as(Mode::MultiNodeReaderOnly, "")];
    let confirmed = validate(&volume, &good).unwrap().confirmed.unwrap();
    assert_eq!(confirmed.volume_capabilities, good);
    let shared = capability(
        Mode::MultiNodeMultiWriter,
        AccessType::Block(BlockVolume {}),
    );
    for (odd, word) in [(mount("xfs"), "xfs"), (shared, "MULTI_NODE_MULTI_WRITER")] {
        let answer = validate(&volume, &[odd]).unwrap();
        assert_eq!(answer.confirmed, None);
        assert!(answer.message.contains(word), "{}", answer.message);
    }
    assert_eq!(code(validate(&volume, &[])), Code::InvalidArgument);
    assert_eq!(code(validate("", &good)), Code::InvalidArgument);
    assert_eq!(code(validate("elsewhere-v1", &good)), Code::NotFound);
    driver.delete(&volume).unwrap();
    assert_eq!(code(validate(&volume, &good)), Code::NotFound);

    let known = |kind| driver.identity(kind).capabilities_of(&driver);
    assert_eq!(known("node"), known("controller"));
    let probe = |kind| driver.wait(driver.identity(kind).probe(ProbeRequest {}));
    for kind in ["node", "controller"] {
        assert_eq!(probe(kind).unwrap().ready, Some(true));
    }
}

#[test]
fn real_csi_volume_changes_what_is_named_and_nothing_else() {
    let driver = Driver::new("csi-modify");
    let mut request = wanted("pvc", 64);
    let first = [("iopsLimit", "500"), ("description", "of the shop")];
    request.mutable_parameters = map(&first);
    request.parameters = map(&[("csi.storage.k8s.io/pvc/name", "claim")]);
    let volume = driver.create(request).unwrap().volume_id;
    let modify = |volume: &str, parameters: &[(&str, &str)]| ControllerModifyVolumeRequest {
        volume_id: volume.to_owned(),
        mutable_parameters: map(parameters),
        secrets: secrets(),
    };
    let ask = |request| driver.wait(driver.controller().controller_modify_volume(request));
    let shown = || driver.node.ask(&["volume", "show", "pvc"]);
    assert_eq!(shown()["iops_limit"], 500);
    assert_eq!(shown()["labels"]["csi.storage.k8s.io/pvc/name"], "claim");
    let client = driver.controller();
    driver.at_once(|| {
        let mut client = client.clone();
        let request = modify(&volume, &[("bandwidthLimit", "10Mi")]);
        async move { client.controller_modify_volume(request).await }
    });
    let now = shown();
    assert_eq!(
        (&now["bandwidth_limit"], &now["iops_limit"]),
        (&10_485_760.into(), &500.into())
    );
    // One that is good and one that is not: neither is done.
    for odd in ["sync", "colour"] {
        let both = modify(&volume, &[("iopsLimit", "7"), (odd, "always")]);
        assert_refused(ask(both), Code::InvalidArgument, &[odd]);
    }
    assert_eq!(shown(), now);
    ask(modify(&volume, &[("iopsLimit", "0")])).unwrap();
    assert!(shown()["iops_limit"].is_null());
    assert_eq!(shown()["description"], "of the shop");
    let good = [("iopsLimit", "7")];
    assert_eq!(code(ask(modify("elsewhere-v1", &good))), Code::NotFound);
    assert_eq!(code(ask(modify("", &good))), Code::InvalidArgument);
    driver.delete(&volume).unwrap();
    assert_eq!(code(ask(modify(&volume, &good))), Code::NotFound);
}

fn map(pairs: &[(&str, &str)]) -> Context {
    let owned = |&(key, value): &(&str, &str)| (key.to_owned(), value.to_owned());
    pairs.iter().map(owned).collect()
}

#[test]
fn real_csi_volume_grows_and_never_shrinks_and_capacity_is_of_the_policy() {
    let driver = Driver::new("csi-expand");
    let volume = driver.volume("pvc", 64);
    let client = driver.controller();
    let range = |required_bytes, limit_bytes| ControllerExpandVolumeRequest {
        volume_id: volume.clone(),
        capacity_range: Some(CapacityRange {
            required_bytes,
            limit_bytes,
        }),
        secrets: secrets(),
        ..Default::default()
    };
    let grown = driver.at_once(|| {
        let mut client = client.clone();
        let request = range(96 * MIB - 5, 0);
        async move { client.controller_expand_volume(request).await }
    });
    assert_eq!(grown.capacity_bytes, 96 * MIB);
    assert_eq!(driver.expand(&volume, 10 * MIB).unwrap(), 96 * MIB);
    let ask = |request| driver.wait(driver.controller().controller_expand_volume(request));
    assert_refused(ask(range(0, 64 * MIB)), Code::OutOfRange, &["shrink"]);
    assert_eq!(code(ask(range(0, 0))), Code::InvalidArgument);
    assert_eq!(code(ask(range(i64::MAX, 0))), Code::OutOfRange);
    assert_eq!(code(driver.expand("elsewhere-v1", MIB)), Code::NotFound);
    assert_eq!(code(driver.expand("", MIB)), Code::InvalidArgument);

    let capacity = |parameters: &[(&str, &str)], topology| {
        let request = GetCapacityRequest {
            parameters: map(parameters),
            accessible_topology: topology,
            ..Default::default()
        };
        driver.wait(driver.controller().get_capacity(request))
    };
    let two = capacity(&[], None).unwrap();
    let three = capacity(&[("replicationFactor", "3")], None).unwrap();
    assert!(three.available_capacity > 0);
    // The same pool, divided by the number of copies.
    let ratio = two.available_capacity as f64 / three.available_capacity as f64;
    assert!((1.3..1.7).contains(&ratio), "{two:?} {three:?}");
    assert!(two.maximum_volume_size.unwrap() >= 1 << 40);
    let info = driver.wait(driver.plugin().node_get_info(NodeGetInfoRequest {}));
    let here = info.unwrap().accessible_topology;
    assert_eq!(
        capacity(&[], here).unwrap().available_capacity,
        two.available_capacity
    );
    let elsewhere = Topology {
        segments: map(&[("csi.azekura.dev/cluster", "other")]),
    };
    assert_eq!(
        capacity(&[], Some(elsewhere)).unwrap().available_capacity,
        0
    );
    assert_eq!(
        code(capacity(&[("colour", "red")], None)),
        Code::InvalidArgument
    );
    assert_eq!(
        code(capacity(&[("storageContainer", "none")], None)),
        Code::NotFound
    );
}

/// Answers of the Identity service.
trait Known {
    fn get_plugin_info_of(self, driver: &Driver) -> GetPluginInfoResponse;
    fn capabilities_of(self, driver: &Driver) -> BTreeSet<String>;
}

impl Known for csi::v1::identity_client::IdentityClient<tonic::transport::Channel> {
    fn get_plugin_info_of(mut self, driver: &Driver) -> GetPluginInfoResponse {
        driver
            .wait(self.get_plugin_info(GetPluginInfoRequest {}))
            .unwrap()
    }

    fn capabilities_of(mut self, driver: &Driver) -> BTreeSet<String> {
        let asked = self.get_plugin_capabilities(GetPluginCapabilitiesRequest {});
        let known = driver.wait(asked).unwrap().capabilities;
        known.iter().map(|one| format!("{one:?}")).collect()
    }
}
