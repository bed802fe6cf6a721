//! What every key-value store under the catalog must do. Each case uses keys of its own, so that all of
//! them may run against one store; only durations differ between stores.

use catalog::kv::{Change, Compare, Entry, Kv, KvError, LeaseId, Op, Outcome, Revision};
use catalog::{
    Catalog, CatalogError, Compression, ContainerRow, Expected, NewVolume, SyncPolicy, UserRow,
    VolumeLimits,
};
use futures_util::future::join_all;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use vocab::{ByteCount, ContainerId};
use world::{Duration, World};

/// Runs every case against `kv`, which may hold other keys but nothing under `conformance/`.
pub async fn run(kv: Rc<dyn Kv>, world: World) {
    reads_find_what_was_written(&*kv).await;
    transactions_are_all_or_nothing(&*kv).await;
    conditions_see_versions(&*kv).await;
    revisions_grow_only_with_changes(&*kv).await;
    ranges_are_paged_in_key_order(&*kv).await;
    a_snapshot_has_every_entry_at_one_revision(&*kv).await;
    values_of_all_sizes_survive(&*kv).await;
    out_of_bounds_is_refused(&*kv).await;
    concurrent_increments_all_count(&kv, &world).await;
    of_two_changes_on_top_of_one_version_one_is_made(&kv).await;
    creations_side_by_side_keep_to_the_quota_and_have_ids_of_their_own(&kv).await;
    a_watch_sees_every_change_in_order(&*kv, &world).await;
    a_watch_keeps_to_its_prefix_and_survives_a_dropped_wait(&*kv, &world).await;
    a_revoked_lease_takes_its_keys(&*kv).await;
    an_expired_lease_takes_its_keys(&*kv, &world).await;
    a_renewed_lease_keeps_its_keys(&*kv, &world).await;
    a_lease_lets_go_of_overwritten_keys(&*kv).await;
}

fn key(case: &str, rest: &str) -> String {
    format!("conformance/{case}/{rest}")
}

fn put(key: &str, value: &str) -> Op {
    Op::Put(key.to_owned(), value.as_bytes().to_vec())
}

/// Commits `changes`; the revision.
pub async fn commit(kv: &dyn Kv, changes: Vec<Op>) -> Revision {
    match kv.txn(Vec::new(), changes).await {
        Ok(Outcome::Committed(revision)) => revision,
        other => panic!("{other:?}"),
    }
}

async fn value(kv: &dyn Kv, key: &str) -> Option<String> {
    let entry = kv.get(key).await.expect("reachable")?;
    assert_eq!(entry.key, key);
    Some(String::from_utf8(entry.value).expect("written as text"))
}

async fn of_two_changes_on_top_of_one_version_one_is_made(kv: &Rc<dyn Kv>) {
    const NAME: &str = "conformance";
    let user = UserRow {
        name: NAME.to_owned(),
        role: "viewer".to_owned(),
        password: "first".to_owned(),
        created_ms: 1,
        generation: 1,
    };
    // Two processes.
    let (one, other) = (Catalog::new(kv.clone()), Catalog::new(kv.clone()));
    one.create_user(&user).await.expect("a new one");
    let set = async |catalog: &Catalog, version, password: &str| {
        let expected = Expected::new::<UserRow>("user", NAME, UserRow::key_of(NAME), version);
        let work = Box::pin(catalog.set_user(NAME, None, Some(password)));
        catalog.expecting(expected, work).await
    };
    for _ in 0..8 {
        let seen = other.user(NAME).await.expect("it is there");
        let version = other.version_of(&seen);
        let both = (set(&one, version, "one"), set(&other, version, "other"));
        let (first, second) = futures_util::future::join(both.0, both.1).await;
        let (done, refused) = match (first, second) {
            (Ok(done), Err(refused)) | (Err(refused), Ok(done)) => (done, refused),
            both => panic!("both or none: {both:?}"),
        };
        assert!(
            matches!(refused, CatalogError::Changed { kind: "user", .. }),
            "{refused:?}"
        );
        let found = one.user(NAME).await.expect("it is there");
        assert_eq!(found.row, done);
        assert_eq!(found.row.generation, seen.row.generation + 1);
        assert!(one.version_of(&found) > version);
    }
    one.delete_user(NAME).await.expect("it was there");
}

async fn creations_side_by_side_keep_to_the_quota_and_have_ids_of_their_own(kv: &Rc<dyn Kv>) {
    let catalog = Catalog::new(kv.clone());
    // Two runs against one store.
    let run = catalog.next_id("conformance").await.expect("reachable");
    let container = ContainerRow {
        id: ContainerId(0),
        name: format!("small-{run}"),
        replication_factor: 2,
        copies_min: 1,
        strict: false,
        sync: SyncPolicy::Flush,
        compression: Compression::Lz4,
        quota: Some(ByteCount::mib(5)),
    };
    let made = catalog.create_container(container).await;
    let container = made.expect("reachable").id;
    let create = async |turn: u32| {
        let new = NewVolume {
            name: format!("side-{run}-{turn}"),
            container,
            size: ByteCount::mib(1),
            origin: None,
            created_ms: 1,
            labels: BTreeMap::new(),
            description: None,
            limits: VolumeLimits::default(),
        };
        Catalog::new(kv.clone()).create_volume(&new).await
    };
    let made = join_all((0..8).map(create)).await;
    let (made, refused): (Vec<_>, Vec<_>) = made.into_iter().partition(Result::is_ok);
    let ids: BTreeSet<_> = made.into_iter().flatten().map(|row| row.id).collect();
    assert_eq!(ids.len(), 5);
    let is_over = |refused| matches!(refused, Err(CatalogError::OverQuota(_)));
    assert!(refused.into_iter().all(is_over));

    // Of two processes, more than each has at hand.
    let processes = [Catalog::new(kv.clone()), Catalog::new(kv.clone())];
    let mut seen = BTreeSet::new();
    for turn in 0..40 {
        let id = processes[turn % 2].next_snapshot_id().await;
        assert!(seen.insert(id.expect("reachable")), "twice: {seen:?}");
    }
}

async fn a_snapshot_has_every_entry_at_one_revision(kv: &dyn Kv) {
    let names: Vec<String> = (0..1200)
        .map(|index| key("snapshot", &format!("{index:04}")))
        .collect();
    let mut revision = 0;
    for part in names.chunks(100) {
        revision = commit(kv, part.iter().map(|key| put(key, "x")).collect()).await;
    }
    let page = kv.snapshot(&key("snapshot", "")).await.expect("reachable");
    let found: Vec<&String> = page.entries.iter().map(|entry| &entry.key).collect();
    assert_eq!(found, names.iter().collect::<Vec<_>>());
    assert!(!page.more && page.revision >= revision);
    for part in names.chunks(100) {
        let delete = part.iter().map(|key| Op::Delete(key.clone()));
        commit(kv, delete.collect()).await;
    }
}

async fn reads_find_what_was_written(kv: &dyn Kv) {
    let key = key("read", "a");
    assert_eq!(kv.get(&key).await, Ok(None));
    let version = commit(kv, vec![put(&key, "one")]).await;
    let entry = Entry {
        key: key.clone(),
        value: b"one".to_vec(),
        version,
    };
    assert_eq!(kv.get(&key).await, Ok(Some(entry)));
    commit(kv, vec![put(&key, "two")]).await;
    assert_eq!(value(kv, &key).await.as_deref(), Some("two"));
    commit(kv, vec![Op::Delete(key.clone())]).await;
    assert_eq!(kv.get(&key).await, Ok(None));
}

async fn transactions_are_all_or_nothing(kv: &dyn Kv) {
    let (a, b, c) = (key("txn", "a"), key("txn", "b"), key("txn", "c"));
    let revision = commit(kv, vec![put(&a, "1"), put(&b, "1")]).await;
    for key in [&a, &b] {
        let entry = kv.get(key).await.expect("reachable").expect("written");
        assert_eq!(entry.version, revision, "all changes share the revision");
    }
    let compares = vec![
        Compare::Version(a.clone(), revision),
        Compare::Absent(b.clone()),
    ];
    let changes = vec![put(&a, "2"), Op::Delete(b.clone()), put(&c, "2")];
    assert_eq!(kv.txn(compares, changes).await, Ok(Outcome::Conflict));
    assert_eq!(value(kv, &a).await.as_deref(), Some("1"));
    assert_eq!(value(kv, &b).await.as_deref(), Some("1"));
    assert_eq!(value(kv, &c).await, None);
}

async fn conditions_see_versions(kv: &dyn Kv) {
    let key = key("compare", "a");
    let absent = || vec![Compare::Absent(key.clone())];
    let at = |version| vec![Compare::Version(key.clone(), version)];
    assert_eq!(kv.txn(at(1), vec![]).await, Ok(Outcome::Conflict));
    let Ok(Outcome::Committed(first)) = kv.txn(absent(), vec![put(&key, "1")]).await else {
        panic!("the key was absent");
    };
    assert_eq!(kv.txn(absent(), vec![]).await, Ok(Outcome::Conflict));
    let Ok(Outcome::Committed(second)) = kv.txn(at(first), vec![put(&key, "2")]).await else {
        panic!("nobody else writes the key");
    };
    assert!(first < second);
    let late = kv.txn(at(first), vec![put(&key, "3")]).await;
    assert_eq!(late, Ok(Outcome::Conflict));
    commit(kv, vec![Op::Delete(key.clone())]).await;
    assert_eq!(kv.txn(at(second), vec![]).await, Ok(Outcome::Conflict));
    assert!(matches!(
        kv.txn(absent(), vec![]).await,
        Ok(Outcome::Committed(_))
    ));
}

async fn revisions_grow_only_with_changes(kv: &dyn Kv) {
    let key = key("revision", "a");
    let written = commit(kv, vec![put(&key, "1")]).await;
    assert!(written > 0);
    assert_eq!(commit(kv, vec![]).await, written);
    let absent = Op::Delete(self::key("revision", "none"));
    assert_eq!(commit(kv, vec![absent]).await, written);
    let page = kv.range(&key, None, 1).await.expect("reachable");
    assert_eq!(page.revision, written);
    assert!(commit(kv, vec![put(&key, "1")]).await > written);
}

async fn ranges_are_paged_in_key_order(kv: &dyn Kv) {
    let name = |index: u32| key("range", &format!("{index:02}"));
    let rows = (0..25).rev().map(|index| put(&name(index), "x")).collect();
    commit(kv, rows).await;
    let neighbours = ["range", "rangd/x", "range.", "range0", "range\u{10ffff}"];
    let neighbours = neighbours.map(|key| put(&format!("conformance/{key}"), "x"));
    commit(kv, neighbours.to_vec()).await;
    let prefix = key("range", "");
    let mut seen: Vec<String> = Vec::new();
    for round in 0..3 {
        let page = kv.range(&prefix, seen.last().map(String::as_str), 10).await;
        let page = page.expect("reachable");
        assert_eq!(page.more, round < 2);
        seen.extend(page.entries.into_iter().map(|entry| entry.key));
    }
    assert_eq!(seen, (0..25).map(name).collect::<Vec<_>>());
    let keys = |after: &'static str, limit| {
        let page = kv.range(&prefix, Some(after), limit);
        async move {
            let page = page.await.expect("reachable");
            (page.entries.len(), page.more)
        }
    };
    assert_eq!(keys("a", 3).await, (3, true), "before the prefix");
    assert_eq!(keys("zzz", 3).await, (0, false), "behind the prefix");
    assert_eq!(keys("conformance/range/23", 3).await, (1, false));
    assert_eq!(keys("conformance/range/23x", 3).await, (1, false));
    assert_eq!(keys("a", 0).await, (0, true));
    assert_eq!(keys("a", 25).await, (25, false));
}

async fn values_of_all_sizes_survive(kv: &dyn Kv) {
    let key = key("size", "a");
    for bytes in [0, 1, 4096, 1 << 20] {
        let value: Vec<u8> = (0..bytes).map(|index| (index % 251) as u8).collect();
        commit(kv, vec![Op::Put(key.clone(), value.clone())]).await;
        let entry = kv.get(&key).await.expect("reachable").expect("written");
        assert!(entry.value == value, "{bytes} bytes changed on the way");
    }
    let names: Vec<String> = (0..128)
        .map(|index| self::key("many", &index.to_string()))
        .collect();
    let compares = names.iter().cloned().map(Compare::Absent).collect();
    let changes = names.iter().map(|name| put(name, "x")).collect();
    let outcome = kv.txn(compares, changes).await;
    assert!(matches!(outcome, Ok(Outcome::Committed(_))), "{outcome:?}");
}

async fn out_of_bounds_is_refused(kv: &dyn Kv) {
    let key = key("bounds", "a");
    let twice = vec![put(&key, "1"), put(&key, "2")];
    let large = vec![Op::Put(key.clone(), vec![0; (1 << 20) + 1])];
    for changes in [twice, large] {
        let refused = kv.txn(vec![], changes).await;
        assert!(
            matches!(refused, Err(KvError::Unavailable(_))),
            "{refused:?}"
        );
    }
    assert_eq!(kv.get(&key).await, Ok(None));
}

async fn concurrent_increments_all_count(kv: &Rc<dyn Kv>, world: &World) {
    const TASKS: u64 = 8;
    const ROUNDS: u64 = 10;
    let key = key("count", "a");
    commit(&**kv, vec![put(&key, "0")]).await;
    let finished = world::sync::Queue::default();
    for _ in 0..TASKS {
        let (kv, key, finished) = (kv.clone(), key.clone(), finished.clone());
        world.spawn(async move {
            for _ in 0..ROUNDS {
                increment(&*kv, &key).await;
            }
            finished.push(());
        });
    }
    for _ in 0..TASKS {
        finished.pop().await;
    }
    let count = value(&**kv, &key).await;
    assert_eq!(count, Some((TASKS * ROUNDS).to_string()));
}

async fn increment(kv: &dyn Kv, key: &str) {
    for _ in 0..1_000 {
        let entry = kv.get(key).await.expect("reachable").expect("written");
        let count: u64 = String::from_utf8(entry.value).unwrap().parse().unwrap();
        let compare = Compare::Version(key.to_owned(), entry.version);
        let change = put(key, &(count + 1).to_string());
        match kv.txn(vec![compare], vec![change]).await {
            Ok(Outcome::Committed(_)) => return,
            Ok(Outcome::Conflict) => {}
            Err(error) => panic!("{error}"),
        }
    }
    panic!("a lost round means that somebody else won one");
}

/// The next `count` changes of a watch.
pub async fn collect(
    watch: &mut Box<dyn catalog::kv::Watch>,
    world: &World,
    count: usize,
) -> Vec<Change> {
    let mut changes = Vec::new();
    while changes.len() < count {
        let next = world.timeout(Duration::from_secs(30), watch.next()).await;
        let next = next.expect("a change within 30 seconds");
        let next = next.expect("nothing is compacted");
        assert!(!next.is_empty());
        changes.extend(next);
    }
    changes
}

fn written(key: &str, value: &str, version: Revision) -> Change {
    Change::Put(Entry {
        key: key.to_owned(),
        value: value.as_bytes().to_vec(),
        version,
    })
}

fn deleted(key: &str, revision: Revision) -> Change {
    Change::Deleted {
        key: key.to_owned(),
        revision,
    }
}

async fn a_watch_sees_every_change_in_order(kv: &dyn Kv, world: &World) {
    let (a, b) = (key("watch", "a"), key("watch", "b"));
    let before = commit(kv, vec![put(&a, "0")]).await;
    let first = commit(kv, vec![put(&a, "1"), put(&b, "1")]).await;
    let mut watch = kv.watch(&key("watch", ""), before);
    let second = commit(kv, vec![Op::Delete(a.clone())]).await;
    let third = commit(kv, vec![put(&b, "3")]).await;
    let expected = [
        written(&a, "1", first),
        written(&b, "1", first),
        deleted(&a, second),
        written(&b, "3", third),
    ];
    assert_eq!(collect(&mut watch, world, 4).await, expected);
    let mut resumed = kv.watch(&key("watch", ""), first);
    assert_eq!(collect(&mut resumed, world, 2).await, expected[2..]);
    let fourth = commit(kv, vec![put(&a, "4")]).await;
    for watch in [&mut watch, &mut resumed] {
        assert_eq!(collect(watch, world, 1).await, [written(&a, "4", fourth)]);
    }
}

async fn a_watch_keeps_to_its_prefix_and_survives_a_dropped_wait(kv: &dyn Kv, world: &World) {
    let inside = key("prefix", "a");
    let start = commit(kv, vec![put(&key("prefiw", "a"), "x")]).await;
    let mut watch = kv.watch(&key("prefix", ""), start);
    let short = Duration::from_millis(50);
    assert!(world.timeout(short, watch.next()).await.is_err());
    commit(kv, vec![put(&key("prefix0", "a"), "x")]).await;
    assert!(world.timeout(short, watch.next()).await.is_err());
    let revision = commit(kv, vec![put(&inside, "y")]).await;
    let seen = collect(&mut watch, world, 1).await;
    assert_eq!(seen, [written(&inside, "y", revision)]);
}

async fn grant(kv: &dyn Kv, seconds: u64) -> LeaseId {
    let lease = kv.grant(Duration::from_secs(seconds)).await;
    lease.expect("reachable")
}

fn leased(key: &str, lease: LeaseId) -> Op {
    Op::PutLeased(key.to_owned(), b"alive".to_vec(), lease)
}

async fn a_revoked_lease_takes_its_keys(kv: &dyn Kv) {
    let (a, b) = (key("revoke", "a"), key("revoke", "b"));
    let lease = grant(kv, 60).await;
    let other = grant(kv, 60).await;
    assert_ne!(lease, other);
    commit(kv, vec![leased(&a, lease), leased(&b, other)]).await;
    kv.revoke(lease).await.expect("reachable");
    assert_eq!(kv.get(&a).await, Ok(None));
    assert!(value(kv, &b).await.is_some());
    kv.revoke(lease).await.expect("no error when it has ended");
    assert_eq!(kv.renew(lease).await, Err(KvError::LeaseEnded));
    let late = kv.txn(vec![], vec![put(&b, "no"), leased(&a, lease)]).await;
    assert_eq!(late, Err(KvError::LeaseEnded));
    assert_eq!(value(kv, &b).await.as_deref(), Some("alive"));
    let never = kv.renew(LeaseId(1 << 40)).await;
    assert_eq!(never, Err(KvError::LeaseEnded));
    let conflict = kv
        .txn(vec![Compare::Absent(b.clone())], vec![leased(&a, lease)])
        .await;
    assert_eq!(conflict, Ok(Outcome::Conflict));
    kv.revoke(other).await.expect("reachable");
}

async fn an_expired_lease_takes_its_keys(kv: &dyn Kv, world: &World) {
    let (a, b) = (key("expire", "a"), key("expire", "b"));
    let lease = grant(kv, 1).await;
    let start = commit(kv, vec![leased(&a, lease), leased(&b, lease)]).await;
    let mut watch = kv.watch(&key("expire", ""), start);
    let granted_at = world.now();
    let mut gone = Vec::new();
    for change in collect(&mut watch, world, 2).await {
        let Change::Deleted { key, revision } = change else {
            panic!("{change:?}");
        };
        assert!(revision > start);
        gone.push(key);
    }
    assert_eq!(gone, [a, b]);
    assert!(world.now().since(granted_at) >= Duration::from_millis(900));
    assert_eq!(kv.renew(lease).await, Err(KvError::LeaseEnded));
}

async fn a_renewed_lease_keeps_its_keys(kv: &dyn Kv, world: &World) {
    let key = key("renew", "a");
    let lease = grant(kv, 2).await;
    commit(kv, vec![leased(&key, lease)]).await;
    for _ in 0..5 {
        world.sleep(Duration::from_millis(700)).await;
        kv.renew(lease).await.expect("in time");
    }
    assert!(
        value(kv, &key).await.is_some(),
        "3.5 s after a grant of 2 s"
    );
    kv.revoke(lease).await.expect("reachable");
}

async fn a_lease_lets_go_of_overwritten_keys(kv: &dyn Kv) {
    let (kept, moved) = (key("detach", "kept"), key("detach", "moved"));
    let (first, second) = (grant(kv, 60).await, grant(kv, 60).await);
    commit(kv, vec![leased(&kept, first), leased(&moved, first)]).await;
    commit(kv, vec![put(&kept, "for good"), leased(&moved, second)]).await;
    kv.revoke(first).await.expect("reachable");
    assert_eq!(value(kv, &kept).await.as_deref(), Some("for good"));
    assert_eq!(value(kv, &moved).await.as_deref(), Some("alive"));
    kv.revoke(second).await.expect("reachable");
    assert_eq!(value(kv, &moved).await, None);
}
