//! Snapshots and what is made from them.

use super::driver::Driver;
use super::requests::*;
use csi::v1::*;
use tonic::Code;

#[test]
fn real_csi_snapshot_is_taken_once_listed_and_deleted_for_good() {
    let driver = Driver::new("csi-snapshot");
    let [volume, other] = ["pvc", "other"].map(|name| driver.volume(name, 64));
    let client = driver.controller();
    let request = CreateSnapshotRequest {
        source_volume_id: volume.clone(),
        name: "snap".to_owned(),
        secrets: secrets(),
        ..Default::default()
    };
    let taken = driver.at_once(|| {
        let (mut client, request) = (client.clone(), request.clone());
        async move { client.create_snapshot(request).await }
    });
    let taken = taken.snapshot.unwrap();
    assert_eq!((taken.size_bytes, taken.ready_to_use), (64 * MIB, true));
    assert_eq!(taken.source_volume_id, volume);
    assert_eq!(driver.snapshot(&volume, "snap").unwrap(), taken);
    let again = driver.snapshot(&other, "snap");
    assert_refused(again, Code::AlreadyExists, &["snap", &volume]);
    for (source, name, expected) in [
        ("elsewhere-v1", "x", Code::NotFound),
        ("", "x", Code::InvalidArgument),
        (&volume, "", Code::InvalidArgument),
    ] {
        assert_eq!(code(driver.snapshot(source, name)), expected);
    }
    let long = driver.snapshot(&other, &"é".repeat(126)).unwrap();
    let listed = list(&driver, 0, "", "");
    assert_eq!(listed, [taken.clone(), long]);
    assert_eq!(list(&driver, 0, &other, ""), listed[1..]);
    assert_eq!(list(&driver, 0, "", &taken.snapshot_id), listed[..1]);
    assert_eq!(list(&driver, 0, &other, &taken.snapshot_id), []);
    assert_eq!(list(&driver, 0, "elsewhere-v1", ""), []);
    assert_eq!(list(&driver, 0, "", "elsewhere-s1"), []);
    assert_eq!(list(&driver, 1, "", ""), listed);
    let get = |snapshot: &str| {
        let request = GetSnapshotRequest {
            snapshot_id: snapshot.to_owned(),
            ..Default::default()
        };
        driver.wait(driver.controller().get_snapshot(request))
    };
    assert_eq!(
        get(&taken.snapshot_id).unwrap().snapshot,
        Some(taken.clone())
    );
    driver.at_once(|| {
        let (mut client, snapshot_id) = (client.clone(), taken.snapshot_id.clone());
        let request = DeleteSnapshotRequest {
            snapshot_id,
            secrets: secrets(),
        };
        async move { client.delete_snapshot(request).await }
    });
    for handle in [&taken.snapshot_id, "elsewhere-s1"] {
        driver.delete_snapshot(handle).unwrap();
        assert_eq!(code(get(handle)), Code::NotFound);
    }
    assert_eq!(code(driver.delete_snapshot("")), Code::InvalidArgument);
    assert_eq!(code(get("")), Code::InvalidArgument);
    driver.assert_clean();
}

/// All pages.
fn list(driver: &Driver, max_entries: i32, volume: &str, snapshot: &str) -> Vec<Snapshot> {
    let mut request = ListSnapshotsRequest {
        max_entries,
        source_volume_id: volume.to_owned(),
        snapshot_id: snapshot.to_owned(),
        ..Default::default()
    };
    let mut all = Vec::new();
    loop {
        let asked = driver.wait(driver.controller().list_snapshots(request.clone()));
        let page = asked.unwrap();
        all.extend(page.entries.into_iter().filter_map(|entry| entry.snapshot));
        if page.next_token.is_empty() {
            return all;
        }
        request.starting_token = page.next_token;
    }
}

#[test]
fn real_csi_clone_is_never_smaller_than_its_source_and_outlives_it() {
    let driver = Driver::new("csi-clone");
    let volume = driver.volume("pvc", 64);
    let taken = driver.snapshot(&volume, "snap").unwrap().snapshot_id;
    let sources = [from_snapshot(&taken), from_volume(&volume)];
    let clone = |name: &str, mebibytes, source: &Option<VolumeContentSource>| {
        let mut request = wanted(name, mebibytes);
        request.volume_content_source = source.clone();
        driver.create(request)
    };
    let mut made = Vec::new();
    for (index, source) in sources.iter().enumerate() {
        let name = format!("clone-{index}");
        let small = clone(&name, 32, source);
        assert_refused(small, Code::OutOfRange, &["33554432", "67108864"]);
        let cloned = clone(&name, 96, source).unwrap();
        assert_eq!(cloned.capacity_bytes, 96 * MIB);
        assert_eq!(&cloned.content_source, source);
        assert_eq!(clone(&name, 96, source).unwrap(), cloned);
        let other = clone(&name, 96, &sources[1 - index]);
        assert_refused(other, Code::AlreadyExists, &[&name, "source"]);
        // Without a size it is that of the source.
        let mut request = wanted(&format!("same-{index}"), 0);
        request.volume_content_source = source.clone();
        let same = driver.create(request).unwrap();
        assert_eq!(same.capacity_bytes, 64 * MIB);
        made.extend([cloned.volume_id, same.volume_id]);
    }
    driver.delete_snapshot(&taken).unwrap();
    driver.delete(&volume).unwrap();
    let gone = clone("late", 64, &sources[0]);
    assert_refused(gone, Code::NotFound, &[&taken]);
    assert_eq!(code(clone("late", 64, &sources[1])), Code::NotFound);
    for clone in made {
        driver.delete(&clone).unwrap();
    }
    let listed = driver.wait(
        driver
            .controller()
            .list_volumes(ListVolumesRequest::default()),
    );
    assert_eq!(listed.unwrap().entries, []);
}
