use super::*;
use futures_util::FutureExt;
use redb::StorageBackend;
use redb::backends::FileBackend;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use world::LocalBoxFuture;

/// A directory of the system's temporary one that goes away with the test.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Self {
        let name = format!("catalog-embedded-{name}-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let _absent = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self) -> PathBuf {
        self.0.join("catalog")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _gone = std::fs::remove_dir_all(&self.0);
    }
}

/// Waits for a reply of the database thread, which needs no shard.
fn wait<T>(mut future: LocalBoxFuture<'_, T>) -> T {
    for _ in 0..30_000 {
        if let Some(value) = (&mut future).now_or_never() {
            return value;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    panic!("the database thread does not reply");
}

fn put(key: &str, value: &str) -> Op {
    Op::Put(key.to_owned(), value.as_bytes().to_vec())
}

fn commit(kv: &EmbeddedKv, changes: Vec<Op>) -> Revision {
    match wait(kv.txn(vec![], changes)) {
        Ok(Outcome::Committed(revision)) => revision,
        other => panic!("{other:?}"),
    }
}

fn all(kv: &EmbeddedKv) -> Vec<Entry> {
    wait(kv.range("", None, 10_000)).expect("open").entries
}

/// What a crash leaves: the file as it is while the process lives. Its lock does not come along.
fn crash_copy(place: &Place, name: &str) -> PathBuf {
    let copy = place.0.join(name);
    std::fs::copy(place.file(), &copy).unwrap();
    copy
}

#[test]
fn everything_committed_survives_a_crash_and_revisions_go_on() {
    let place = Place::new("crash");
    let kv = EmbeddedKv::open(place.file()).expect("a new file");
    for index in 0..100 {
        commit(&kv, vec![put(&format!("row/{index}"), "x")]);
    }
    let last = commit(&kv, vec![Op::Delete("row/0".to_owned())]);
    let before = all(&kv);
    assert_eq!(before.len(), 99);
    let copy = crash_copy(&place, "crashed");
    for round in 1..4 {
        let kv = EmbeddedKv::open(&copy).expect("recovers");
        assert_eq!(all(&kv).len(), 98 + round);
        assert_eq!(all(&kv)[..1], before[..1]);
        let revision = commit(&kv, vec![put(&format!("zzz/{round}"), "x")]);
        assert_eq!(revision, last + round as u64);
    }
}

#[test]
fn a_crash_between_any_two_commits_keeps_exactly_the_committed_ones() {
    let place = Place::new("between");
    let kv = EmbeddedKv::open(place.file()).expect("a new file");
    for index in 0..20 {
        let revision = commit(&kv, vec![put("row", &index.to_string())]);
        let copy = EmbeddedKv::open(crash_copy(&place, "crashed")).expect("recovers");
        let entry = Entry {
            key: "row".to_owned(),
            value: index.to_string().into_bytes(),
            version: revision,
        };
        assert_eq!(all(&copy), [entry]);
    }
}

#[test]
fn leases_count_as_just_renewed_after_a_restart() {
    let place = Place::new("leases");
    let kv = EmbeddedKv::open(place.file()).expect("a new file");
    let lease = wait(kv.grant(Duration::from_secs(2))).expect("open");
    let leased = Op::PutLeased("alive".to_owned(), vec![], lease);
    let start = commit(&kv, vec![leased]);
    drop(kv);
    // Longer than the lease: time while closed does not count.
    std::thread::sleep(Duration::from_millis(2_100));
    let kv = EmbeddedKv::open(place.file()).expect("its own file");
    assert!(wait(kv.get("alive")).expect("open").is_some());
    wait(kv.renew(lease)).expect("counts as renewed");
    let other = wait(kv.grant(Duration::from_secs(9))).expect("open");
    assert!(other > lease, "lease ids are used once");
    let mut watch = kv.watch("", start);
    let gone = wait(watch.next()).expect("nothing has changed since");
    assert!(matches!(&gone[..], [Change::Deleted { key, .. }] if key == "alive"));
    drop((watch, kv));
    let kv = EmbeddedKv::open(place.file()).expect("its own file");
    assert_eq!(all(&kv), [], "the end of a lease is stored, too");
    assert_eq!(wait(kv.renew(lease)), Err(KvError::LeaseEnded));
}

#[test]
fn watches_from_before_a_restart_are_told_to_read_again() {
    let place = Place::new("watch");
    let kv = EmbeddedKv::open(place.file()).expect("a new file");
    let first = commit(&kv, vec![put("a", "1")]);
    let second = commit(&kv, vec![put("a", "2")]);
    drop(kv);
    let kv = EmbeddedKv::open(place.file()).expect("its own file");
    let lagging = wait(kv.watch("", first).next());
    assert_eq!(lagging, Err(KvError::Compacted(first)));
    let mut current = kv.watch("", second);
    commit(&kv, vec![put("a", "3")]);
    assert_eq!(wait(current.next()).map(|changes| changes.len()), Ok(1));
}

#[test]
fn an_idle_watch_is_not_ended_by_changes_elsewhere() {
    let place = Place::new("idle");
    let kv = EmbeddedKv::open(place.file()).expect("a new file");
    let start = commit(&kv, vec![put("other", "")]);
    let mut watch = kv.watch("mine/", start);
    let mut waiting = watch.next();
    assert!((&mut waiting).now_or_never().is_none());
    for round in 0..crate::state::HISTORY_CHANGES_MAX / 100 + 1 {
        let row = |index: usize| put(&format!("other/{index}"), &round.to_string());
        commit(&kv, (0..100).map(row).collect());
    }
    commit(&kv, vec![put("mine/a", "")]);
    assert_eq!(wait(waiting).map(|changes| changes.len()), Ok(1));
}

#[test]
fn concurrent_calls_share_commits() {
    let place = Place::new("group");
    let kv = EmbeddedKv::open(place.file()).expect("a new file");
    let started = std::time::Instant::now();
    let call = |index: usize| kv.txn(vec![], vec![put(&index.to_string(), "")]);
    let mut calls: Vec<_> = (0..2_000).map(call).collect();
    // The first poll sends.
    calls.retain_mut(|call| call.now_or_never().is_none());
    for call in calls {
        assert!(matches!(wait(call), Ok(Outcome::Committed(_))));
    }
    assert_eq!(all(&kv).len(), 2_000);
    assert!(
        started.elapsed() < Duration::from_secs(20),
        "one flush per call"
    );
}

#[test]
fn a_damaged_file_is_never_read_as_a_shorter_catalog() {
    let place = Place::new("damage");
    let kv = EmbeddedKv::open(place.file()).expect("a new file");
    for index in 0..300 {
        commit(&kv, vec![put(&format!("row/{index}"), &"v".repeat(100))]);
    }
    let whole = all(&kv);
    let crashed = std::fs::read(place.file()).unwrap();
    drop(kv);
    let closed = std::fs::read(place.file()).unwrap();
    for bytes in [crashed, closed] {
        flip_bits(&place, &bytes, &whole);
    }
}

/// Opens the file once for each of many flipped bits.
fn flip_bits(place: &Place, bytes: &[u8], whole: &[Entry]) {
    let mut refused = 0;
    for at in (0..bytes.len()).step_by(2_731) {
        let mut damaged = bytes.to_vec();
        damaged[at] ^= 0x40;
        let path = place.0.join("damaged");
        std::fs::write(&path, &damaged).unwrap();
        match EmbeddedKv::open(&path) {
            Ok(kv) => assert!(all(&kv) == whole, "byte {at}: damage went unnoticed"),
            Err(KvError::Damaged(reason)) => {
                assert!(reason.contains("damaged: ") && reason.contains("restore a backup"));
                refused += 1;
            }
            Err(other) => panic!("byte {at}: {other}"),
        }
    }
    assert!(refused > 3, "only {refused} of the flips hit something");
}

#[test]
fn files_that_are_no_catalog_are_refused() {
    let place = Place::new("foreign");
    let open = |bytes: &[u8]| {
        std::fs::write(place.file(), bytes).unwrap();
        EmbeddedKv::open(place.file()).map(drop)
    };
    for bytes in [&b"hello"[..], &[0; 8192], &[0xff; 70_000]] {
        let opened = open(bytes);
        assert!(matches!(opened, Err(KvError::Damaged(_))), "{opened:?}");
    }
    let missing = EmbeddedKv::open(place.0.join("none/catalog")).map(drop);
    assert!(
        matches!(missing, Err(KvError::Unavailable(_))),
        "{missing:?}"
    );
    std::fs::remove_file(place.file()).unwrap();
    let database = redb::Database::create(place.file()).unwrap();
    let write = database.begin_write().unwrap();
    let table: redb::TableDefinition<&[u8], u64> = redb::TableDefinition::new("meta");
    write
        .open_table(table)
        .unwrap()
        .insert(&b"format"[..], 2)
        .unwrap();
    write.commit().unwrap();
    drop(database);
    let Err(KvError::Damaged(reason)) = EmbeddedKv::open(place.file()).map(drop) else {
        panic!("a format of the future was opened");
    };
    assert!(reason.contains("format 2"), "{reason}");
}

/// A file on a disk that can be full.
#[derive(Debug)]
struct FullDisk(FileBackend, Arc<AtomicBool>);

impl FullDisk {
    fn check(&self) -> Result<(), std::io::Error> {
        if self.1.load(Ordering::Relaxed) {
            return Err(std::io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }
}

impl StorageBackend for FullDisk {
    fn len(&self) -> Result<u64, std::io::Error> {
        self.0.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), std::io::Error> {
        self.0.read(offset, out)
    }
    fn set_len(&self, len: u64) -> Result<(), std::io::Error> {
        self.check()?;
        self.0.set_len(len)
    }
    fn sync_data(&self) -> Result<(), std::io::Error> {
        self.check()?;
        self.0.sync_data()
    }
    fn write(&self, offset: u64, data: &[u8]) -> Result<(), std::io::Error> {
        self.check()?;
        self.0.write(offset, data)
    }
    fn close(&self) -> Result<(), std::io::Error> {
        self.0.close()
    }
}

#[test]
fn a_full_disk_fails_calls_until_there_is_room_again() {
    let place = Place::new("full");
    let full = Arc::new(AtomicBool::new(false));
    let (path, switch) = (place.file(), full.clone());
    let kv = EmbeddedKv::open_with(Box::new(move || {
        CatalogFile::open_with(&path, |builder| {
            let mut options = std::fs::OpenOptions::new();
            options.read(true).write(true).create(true).truncate(false);
            let file = FileBackend::new(options.open(&path)?)?;
            builder.create_with_backend(FullDisk(file, switch.clone()))
        })
    }));
    let kv = kv.expect("a new file");
    let lease = wait(kv.grant(Duration::from_secs(60))).expect("open");
    let before = commit(&kv, vec![put("a", "1")]);
    let mut watch = kv.watch("", before);
    assert!(watch.next().now_or_never().is_none());
    full.store(true, Ordering::Relaxed);
    let failed = wait(kv.txn(vec![], vec![put("a", "2")]));
    assert!(matches!(failed, Err(KvError::Unavailable(_))), "{failed:?}");
    let failed = wait(kv.get("a"));
    assert!(matches!(failed, Err(KvError::Unavailable(_))), "{failed:?}");
    full.store(false, Ordering::Relaxed);
    let read = (0..100).find_map(|_| {
        std::thread::sleep(Duration::from_millis(100));
        wait(kv.get("a")).ok()
    });
    let read = read.expect("reopened within ten seconds").expect("written");
    assert_eq!((read.value, read.version), (b"1".to_vec(), before));
    wait(kv.renew(lease)).expect("leases survive");
    let after = commit(&kv, vec![put("a", "3")]);
    assert!(after > before);
    match wait(watch.next()) {
        Ok(changes) => assert_eq!(changes.len(), 1, "only what was committed is seen"),
        other => panic!("{other:?}"),
    }
}
