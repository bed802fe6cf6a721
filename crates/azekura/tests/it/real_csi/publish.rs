//! Who may use a volume: at the controller.

use super::driver::Driver;
use super::requests::*;
use csi::v1::volume_capability::access_mode::Mode;
use csi::v1::*;
use tonic::Code;

#[test]
fn real_csi_volume_is_published_to_one_node() {
    let driver = Driver::new("csi-publish");
    let volume = driver.volume("pvc", 64);
    let node = driver.node_id();
    let other = node.replace("worker", "other");
    let client = driver.controller();
    let published = driver.at_once(|| {
        let (mut client, request) = (client.clone(), driver.publish_request(&volume, &node));
        async move { client.controller_publish_volume(request).await }
    });
    let context = published.publish_context;
    assert_eq!(driver.publish(&volume, &node, false).unwrap(), context);
    let reading = driver.publish(&volume, &node, true);
    assert_refused(reading, Code::AlreadyExists, &["reading", "unpublish"]);
    let refused = driver.publish(&volume, &other, false);
    assert_refused(refused, Code::FailedPrecondition, &[&node]);
    let deleted = driver.delete(&volume);
    assert_refused(deleted, Code::FailedPrecondition, &["worker"]);
    // Another node does not have it: there is nothing to take away.
    driver.unpublish(&volume, &other).unwrap();
    assert_eq!(driver.publish(&volume, &node, false).unwrap(), context);
    driver.at_once(|| {
        let mut client = client.clone();
        let request = ControllerUnpublishVolumeRequest {
            volume_id: volume.clone(),
            node_id: node.clone(),
            secrets: secrets(),
        };
        async move { client.controller_unpublish_volume(request).await }
    });
    driver.unpublish(&volume, &node).unwrap();
    let again = driver.publish(&volume, &other, false).unwrap();
    assert_ne!(again, context);
    driver.unpublish(&volume, "").unwrap();
    driver.delete(&volume).unwrap();
    driver.unpublish(&volume, &node).unwrap();
    assert_eq!(code(driver.publish(&volume, &node, false)), Code::NotFound);
    driver.assert_clean();
}

#[test]
fn real_csi_publishing_refuses_what_is_not_of_this_cluster_or_cannot_be() {
    let driver = Driver::new("csi-foreign");
    let volume = driver.volume("pvc", 64);
    let node = driver.node_id();
    for (volume, node, expected) in [
        (volume.as_str(), "nobody", Code::NotFound),
        (&volume, "worker@elsewhere", Code::NotFound),
        (&volume, "", Code::InvalidArgument),
        ("elsewhere-v1", &node, Code::NotFound),
        ("", &node, Code::InvalidArgument),
    ] {
        let refused = driver.publish(volume, node, false);
        assert_eq!(code(refused), expected, "{volume:?} {node:?}");
    }
    let mut request = driver.publish_request(&volume, &node);
    request.volume_capability = Some(mount_as(Mode::MultiNodeMultiWriter, "ext4"));
    let shared = driver.wait(driver.controller().controller_publish_volume(request));
    assert_refused(shared, Code::InvalidArgument, &["MULTI_NODE_MULTI_WRITER"]);
    let mut request = driver.publish_request(&volume, &node);
    request.volume_capability = None;
    let nothing = driver.wait(driver.controller().controller_publish_volume(request));
    assert_eq!(code(nothing), Code::InvalidArgument);
    for (volume, node) in [("elsewhere-v1", &*node), (&volume, "worker@elsewhere")] {
        driver.unpublish(volume, node).unwrap();
    }
    assert_eq!(code(driver.unpublish("", &node)), Code::InvalidArgument);
    // Nothing was taken.
    let shown = driver.node.ask(&["volume", "show", "pvc"]);
    assert_eq!(shown["attachment"]["clients"], serde_json::json!([]));
}

#[test]
fn real_csi_volume_for_readers_is_published_for_reading() {
    let driver = Driver::new("csi-readers");
    let volume = driver.volume("pvc", 64);
    let node = driver.node_id();
    for mode in [Mode::MultiNodeReaderOnly, Mode::SingleNodeReaderOnly] {
        let publish = || {
            let mut request = driver.publish_request(&volume, &node);
            request.volume_capability = Some(mount_as(mode, "ext4"));
            let published = driver.wait(driver.controller().controller_publish_volume(request));
            published.unwrap().publish_context
        };
        let context = publish();
        assert_eq!(context["readOnly"], "true", "{mode:?}");
        assert_eq!(publish(), context);
        let writing = driver.publish(&volume, &node, false);
        assert_refused(writing, Code::AlreadyExists, &["reading", "writing"]);
        driver.unpublish(&volume, &node).unwrap();
    }
}
