//! Changes on top of a version: what counts as a change of a volume, and what a condition covers.

use super::tasks::run;
use catalog::{
    AlertTargetRow, Catalog, CatalogError, Compression, ContainerRow, Delivery, Expected,
    IntentRow, MapRoot, NewVolume, Row, Severity, Subject, SyncPolicy, TokenRow, Transaction,
    VolumeLimits, VolumeRoot, VolumeRow, VolumeState,
};
use std::collections::BTreeMap;
use vocab::{ByteCount, ContainerId, Epoch, NodeId, Position, VolumeId};

async fn with_container(catalog: &Catalog) -> ContainerRow {
    let row = ContainerRow {
        id: ContainerId(0),
        name: "c".to_owned(),
        replication_factor: 2,
        copies_min: 1,
        strict: false,
        sync: SyncPolicy::Flush,
        compression: Compression::Lz4,
        quota: None,
    };
    catalog.create_container(row).await.unwrap()
}

async fn with_volume(catalog: &Catalog) -> VolumeId {
    let container = catalog.container_named("c").await.unwrap().row.id;
    let new = NewVolume {
        name: "v".to_owned(),
        container,
        size: ByteCount::mib(1),
        origin: None,
        created_ms: 1,
        labels: BTreeMap::new(),
        description: None,
        limits: VolumeLimits::default(),
    };
    catalog.create_volume(&new).await.unwrap().id
}

async fn version(catalog: &Catalog, id: VolumeId) -> u64 {
    catalog.version_of(&catalog.volume(id).await.unwrap())
}

/// Sets a label on top of a version.
async fn label(
    catalog: &Catalog,
    id: VolumeId,
    version: u64,
    value: &str,
) -> Result<VolumeRow, CatalogError> {
    let key = catalog.volume(id).await?.row.key();
    let expected = Expected::new::<VolumeRow>("volume", "v", key, version);
    let set = |row: &mut VolumeRow| {
        let before = row.labels.insert("a".to_owned(), value.to_owned());
        before.as_deref() != Some(value)
    };
    let work = Box::pin(catalog.describe_volume(id, set));
    catalog.expecting(expected, work).await
}

fn is_changed<T: std::fmt::Debug>(result: Result<T, CatalogError>) -> bool {
    matches!(result, Err(CatalogError::Changed { .. }))
}

#[test]
fn owners_do_not_change_the_version_of_a_volume_and_people_do() {
    run(async |catalog| {
        with_container(&catalog).await;
        let id = with_volume(&catalog).await;
        let created = version(&catalog, id).await;
        catalog.take_over(id, Epoch(0), NodeId(1)).await.unwrap();
        let root = VolumeRoot {
            position: Position(7),
            map: MapRoot::default(),
            ..VolumeRoot::default()
        };
        catalog.publish_root(id, Epoch(1), root, &[]).await.unwrap();
        assert_eq!(version(&catalog, id).await, created);
        label(&catalog, id, created, "x").await.unwrap();
        let labelled = version(&catalog, id).await;
        assert!(labelled > created);
        assert!(is_changed(label(&catalog, id, created, "y").await));
        // What is there already is no change, and is refused on top of another version nevertheless.
        assert!(is_changed(label(&catalog, id, created, "x").await));
        label(&catalog, id, labelled, "x").await.unwrap();
        assert_eq!(version(&catalog, id).await, labelled);
        let size = ByteCount::mib(2);
        catalog.grow_volume(id, Epoch(1), size).await.unwrap();
        let grown = version(&catalog, id).await;
        assert!(grown > labelled);
        catalog.begin_delete(id).await.unwrap();
        assert!(version(&catalog, id).await > grown);
    });
}

#[test]
fn a_volume_of_an_older_release_gets_a_version_that_stays() {
    run(async |catalog| {
        with_container(&catalog).await;
        let id = with_volume(&catalog).await;
        let row = VolumeRow {
            edited: None,
            ..catalog.volume(id).await.unwrap().row
        };
        catalog.commit(Transaction::new().put(&row)).await.unwrap();
        let before = version(&catalog, id).await;
        catalog.take_over(id, Epoch(0), NodeId(1)).await.unwrap();
        assert_eq!(version(&catalog, id).await, before);
        label(&catalog, id, before, "x").await.unwrap();
        let after = version(&catalog, id).await;
        assert!(after > before);
        catalog.take_over(id, Epoch(1), NodeId(2)).await.unwrap();
        assert_eq!(version(&catalog, id).await, after);
    });
}

#[test]
fn a_volume_of_an_older_release_is_changed_by_people_first() {
    run(async |catalog| {
        with_container(&catalog).await;
        let id = with_volume(&catalog).await;
        let row = VolumeRow {
            edited: None,
            ..catalog.volume(id).await.unwrap().row
        };
        catalog.commit(Transaction::new().put(&row)).await.unwrap();
        let before = version(&catalog, id).await;
        label(&catalog, id, before, "x").await.unwrap();
        assert!(version(&catalog, id).await > before);
        assert!(is_changed(label(&catalog, id, before, "y").await));
    });
}

#[test]
fn a_condition_ends_with_the_change_and_covers_all_of_it() {
    run(async |catalog| {
        with_container(&catalog).await;
        let id = with_volume(&catalog).await;
        let key = catalog.volume(id).await.unwrap().row.key();
        let deletion = async |version| {
            let expected = Expected::new::<VolumeRow>("volume", "v", key.clone(), version);
            let work = Box::pin(async {
                catalog.begin_delete(id).await?;
                catalog.remove_volume(id).await
            });
            catalog.expecting(expected, work).await
        };
        let seen = version(&catalog, id).await;
        assert!(is_changed(deletion(seen + 1).await));
        assert_eq!(version(&catalog, id).await, seen, "nothing half-made");
        deletion(seen).await.unwrap();
        assert!(catalog.volume(id).await.is_err());
    });
}

#[test]
fn a_deletion_that_was_begun_goes_on_with_the_same_volume_only() {
    run(async |catalog| {
        with_container(&catalog).await;
        let id = with_volume(&catalog).await;
        let key = catalog.volume(id).await.unwrap().row.key();
        let seen = version(&catalog, id).await;
        let begun = || Expected::new::<VolumeRow>("volume", "v", key.clone(), seen).begun();
        catalog.begin_delete(id).await.unwrap();
        let work = Box::pin(catalog.remove_volume(id));
        catalog.expecting(begun(), work).await.unwrap();
        // The name was given to another one meanwhile.
        let other = with_volume(&catalog).await;
        let work = Box::pin(catalog.begin_delete(other));
        assert!(is_changed(catalog.expecting(begun(), work).await));
        let left = catalog.volume(other).await.unwrap().row;
        assert_eq!(left.state, VolumeState::Ready);
    });
}

#[test]
fn another_thing_of_the_same_name_is_not_changed() {
    run(async |catalog| {
        let row = with_container(&catalog).await;
        let seen = catalog.container_named("c").await.unwrap();
        let version = catalog.version_of(&seen);
        catalog.delete_container("c").await.unwrap();
        with_container(&catalog).await;
        let expected = Expected::new::<ContainerRow>("container", "c", row.key(), version);
        let work = Box::pin(catalog.set_container("c", |row| row.copies_min = 2));
        assert!(is_changed(catalog.expecting(expected, work).await));
        let expected = Expected::new::<ContainerRow>("container", "c", row.key(), version);
        let work = Box::pin(catalog.delete_container("c"));
        assert!(is_changed(catalog.expecting(expected, work).await));
        let left = catalog.container_named("c").await.unwrap().row;
        assert_eq!(left.copies_min, 1);
    });
}

#[test]
fn what_was_never_wanted_has_version_0() {
    run(async |catalog| {
        let subject = Subject::Node(NodeId(1));
        let drain = async |version, draining| {
            let key = IntentRow::key_of(subject);
            let expected = Expected::new::<IntentRow>("node", "n", key, version);
            let set = |row: &mut IntentRow| row.draining = draining;
            let work = Box::pin(catalog.change_intent(subject, set));
            catalog.expecting(expected, work).await
        };
        assert!(is_changed(drain(1, true).await));
        drain(0, true).await.unwrap();
        assert!(is_changed(drain(0, false).await));
        // A row that is written blindly is compared all the same.
        let blind = async |version| {
            let key = IntentRow::key_of(subject);
            let expected = Expected::new::<IntentRow>("node", "n", key, version);
            let row = IntentRow::none(subject);
            let work = Box::pin(catalog.commit(Transaction::new().put(&row)));
            catalog.expecting(expected, work).await
        };
        assert!(is_changed(blind(0).await));
        let key = IntentRow::key_of(subject);
        let found = catalog.read::<IntentRow>(&key).await.unwrap().unwrap();
        let set = blind(catalog.version_of(&found)).await.unwrap();
        assert!(set.is_some());
        assert!(!catalog.intent(subject).await.unwrap().draining);
    });
}

#[test]
fn tokens_and_targets_are_deleted_on_top_of_their_version() {
    run(async |catalog| {
        let token = TokenRow {
            name: "t".to_owned(),
            scope: "viewer".to_owned(),
            containers: Vec::new(),
            kubernetes: Vec::new(),
            all_containers: false,
            hash: "00".to_owned(),
            created_ms: 1,
            personal: None,
        };
        catalog.create_token(&token).await.unwrap();
        let seen = catalog.version_if_still(&token).await.unwrap();
        let delete = async |version| {
            let expected = Expected::new::<TokenRow>("token", "t", token.key(), version);
            let work = Box::pin(catalog.delete_token("t", None));
            catalog.expecting(expected, work).await
        };
        assert!(is_changed(delete(seen - 1).await));
        delete(seen).await.unwrap();
        assert_eq!(catalog.version_if_still(&token).await, None);
        let target = AlertTargetRow {
            name: "p".to_owned(),
            delivery: Delivery::Webhook {
                url: "https://p.test/".to_owned(),
                ca: None,
                secret: None,
            },
            minimum: Severity::Info,
            created_ms: 1,
        };
        catalog.create_alert_target(&target).await.unwrap();
        let seen = catalog.version_if_still(&target).await.unwrap();
        let delete = async |version| {
            let expected = Expected::new::<AlertTargetRow>("target", "p", target.key(), version);
            let work = Box::pin(catalog.delete_alert_target("p"));
            catalog.expecting(expected, work).await
        };
        assert!(is_changed(delete(seen + 1).await));
        delete(seen).await.unwrap();
    });
}
