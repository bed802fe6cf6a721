//! A volume whose opening panics, in real processes: each is this test's own program, started again.

use crate::{disk, last_words};
use ::node::{Host, HostOptions, StoreSpec};
use api::{Answer, ContainerSpec, Operation, VolumeSpec};
use catalog::kv::{Compare, Entry, Kv, KvFuture, KvMembers, LeaseId, Op, Outcome, Page, Watch};
use catalog_kv::embedded::EmbeddedKv;
use serde_json::Value;
use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::rc::Rc;
use world::sync::Notify;
use world::{Address, Clock, Duration, LocalBoxFuture, Time, World};
use world_linux::{Machine, ShardOptions};

const TEST: &str = "quarantine_tests::only_the_volume_that_panics_is_in_quarantine";
/// What a process that was started again is to do, and where.
const PART: &str = "AZEKURA_TEST_PART";
const FOLDER: &str = "AZEKURA_TEST_FOLDER";
const DISK_BYTES: u64 = 1 << 30;
/// Ends of its owners after which a volume is in quarantine.
const ENDS: u64 = 3;
/// For what must come about on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// What goes wrong in a process.
#[derive(Clone, Copy)]
enum Fault {
    /// The opening of the first volume panics, as soon as that of the second is under way.
    PanicWhileOpening(u64, u64),
}

/// The catalog, as openings see it that are not as they should be.
struct Faulty {
    inner: EmbeddedKv,
    fault: Cell<Option<Fault>>,
    beside: Rc<Cell<bool>>,
    changed: Notify,
}

impl Kv for Faulty {
    fn get(&self, key: &str) -> KvFuture<Option<Entry>> {
        self.inner.get(key)
    }

    fn range(&self, prefix: &str, after: Option<&str>, limit: usize) -> KvFuture<Page> {
        self.inner.range(prefix, after, limit)
    }

    fn snapshot(&self, prefix: &str) -> KvFuture<Page> {
        self.inner.snapshot(prefix)
    }

    fn txn(&self, compares: Vec<Compare>, changes: Vec<Op>) -> KvFuture<Outcome> {
        match (self.fault.get(), world::blame::subject()) {
            (Some(Fault::PanicWhileOpening(volume, _)), Some(subject)) if subject == volume => {
                let (beside, changed) = (self.beside.clone(), self.changed.clone());
                Box::pin(async move {
                    loop {
                        let change = changed.notified();
                        assert!(!beside.get(), "planted: the volume cannot be opened");
                        change.await;
                    }
                })
            }
            (Some(Fault::PanicWhileOpening(_, other)), Some(subject)) if subject == other => {
                self.beside.set(true);
                self.changed.notify_all();
                Box::pin(std::future::pending())
            }
            _ => self.inner.txn(compares, changes),
        }
    }

    fn watch(&self, prefix: &str, after: u64) -> Box<dyn Watch> {
        self.inner.watch(prefix, after)
    }

    fn grant(&self, ttl: Duration) -> KvFuture<LeaseId> {
        self.inner.grant(ttl)
    }

    fn renew(&self, lease: LeaseId) -> KvFuture<()> {
        self.inner.renew(lease)
    }

    fn revoke(&self, lease: LeaseId) -> KvFuture<()> {
        self.inner.revoke(lease)
    }

    fn members(&self) -> KvFuture<KvMembers> {
        self.inner.members()
    }
}

/// A clock on whose wall it stays the moment after the last words: a busy machine does not end a quarantine.
struct Stopped(Rc<dyn Clock>, u64);

impl Clock for Stopped {
    fn now(&self) -> Time {
        self.0.now()
    }

    fn sleep_until(&self, deadline: Time) -> LocalBoxFuture<'static, ()> {
        self.0.sleep_until(deadline)
    }

    fn unix_ms(&self) -> u64 {
        self.1
    }
}

fn options() -> HostOptions {
    let mut options = HostOptions::new("test", "a", Address("127.0.0.1:0".to_owned()));
    options.groups = 4;
    options.groups_per_store = 1;
    options.journal_bytes = Some(64 << 20);
    options.lease = Duration::from_secs(1);
    options.store.boot_id = world_linux::boot_id().unwrap();
    options
}

/// The node of this folder. A panic ends its process, as it does in the product.
async fn start(world: &World, machine: &Machine, folder: &Path) -> (Rc<Host>, Rc<Faulty>) {
    let mut options = options();
    let words = last_words::read(folder);
    options.last_words.clone_from(&words);
    last_words::listen(folder);
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        hook(panic);
        std::process::abort();
    }));
    let kv = Rc::new(Faulty {
        inner: EmbeddedKv::open(folder.join("catalog")).unwrap(),
        fault: Cell::new(None),
        beside: Rc::default(),
        changed: Notify::default(),
    });
    let disk = disk::open(machine, &folder.join("disk"), true).unwrap();
    let store = StoreSpec {
        id: None,
        disks: vec![disk],
    };
    let host = Host::start(world.clone(), kv.clone(), vec![store], options).await;
    let host = host.unwrap();
    if let Some(words) = words {
        let told = (world.clone(), host.clone(), folder.to_owned());
        world.spawn(last_words::forget_when_told(told.0, told.1, told.2, words));
    }
    (host, kv)
}

async fn create(host: &Rc<Host>) {
    let container: ContainerSpec = serde_json::from_str(r#"{"name":"c","rf":1}"#).unwrap();
    let made = host.operate(Operation::ContainerCreate(container)).await;
    made.unwrap();
    for name in ["v", "w"] {
        let spec = VolumeSpec {
            name: name.to_owned(),
            container: Some("c".to_owned()),
            size: Some(16 << 20),
            ..VolumeSpec::default()
        };
        let made = host.operate(Operation::VolumeCreate(spec)).await;
        assert!(matches!(made, Ok(Answer::Volume(_))), "{made:?}");
        // From now on it has a log.
        assert!(host.device(name, false).await.is_ok());
    }
}

async fn id_of(host: &Host, name: &str) -> u64 {
    let found = host.catalog().volume_named(name).await.unwrap();
    found.row.id.0
}

/// What the catalog knows of openings.
async fn openings(kv: &Faulty) -> Vec<Value> {
    let page = kv.range("opening/", None, 10).await.unwrap();
    let rows = page.entries.iter();
    rows.map(|entry| serde_json::from_slice(&entry.value).unwrap())
        .collect()
}

/// What one process does. It ends without a stop.
async fn play(part: String, world: World, machine: Machine, folder: PathBuf) {
    let mut world = world;
    if part == "look" {
        let words = last_words::read(&folder).expect("the process before said why it ended");
        world.clock = Rc::new(Stopped(world.clock.clone(), words.at_ms + 1));
    }
    let (host, kv) = start(&world, &machine, &folder).await;
    if part == "create" {
        create(&host).await;
        return;
    }
    let (v, w) = (id_of(&host, "v").await, id_of(&host, "w").await);
    if part == "die" {
        kv.fault.set(Some(Fault::PanicWhileOpening(v, w)));
        let _ = world.timeout(PATIENCE, open_both(&world, &host)).await;
        return;
    }
    let opened = host.device("w", false).await;
    assert!(
        opened.is_ok(),
        "a volume that was opened beside the other is innocent"
    );
    let refused = host.device("v", false).await.err();
    let refused = refused.expect("it ended its owner three times").to_string();
    assert!(refused.contains("is in quarantine"), "{refused}");
    let rows = openings(&kv).await;
    assert_eq!(rows.len(), 1, "{rows:?}");
    let counted = (&rows[0]["volume"], &rows[0]["panics"], &rows[0]["attempts"]);
    assert_eq!(counted, (&v.into(), &ENDS.into(), &0.into()));
}

/// Opens both volumes at the same time.
async fn open_both(world: &World, host: &Rc<Host>) {
    let (promise, opened) = world::sync::promise();
    let other = host.clone();
    world.spawn(async move {
        let _ = other.device("w", false).await;
        promise.fulfil(());
    });
    let _ = host.device("v", false).await;
    opened.await;
}

fn start_again(part: &str, folder: &Path) -> ExitStatus {
    let mut program = Command::new(std::env::current_exe().unwrap());
    program.args(["--exact", TEST, "--nocapture"]);
    program.env(PART, part).env(FOLDER, folder);
    program.status().unwrap()
}

#[test]
fn only_the_volume_that_panics_is_in_quarantine() {
    if let (Ok(part), Some(folder)) = (std::env::var(PART), std::env::var_os(FOLDER)) {
        let folder = PathBuf::from(folder);
        let run = world_linux::run(ShardOptions::default(), move |world, machine| {
            Box::pin(play(part, world, machine, folder))
        });
        return run.unwrap();
    }
    let name = format!("azekura-quarantine-{}", std::process::id());
    let folder = std::env::temp_dir().join(name);
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    let disk = std::fs::File::create(folder.join("disk")).unwrap();
    disk.set_len(DISK_BYTES).unwrap();
    drop(disk);
    assert!(start_again("create", &folder).success());
    let mut accused = Vec::new();
    for _ in 0..ENDS {
        assert!(!start_again("die", &folder).success(), "it panics");
        let words = last_words::read(&folder).expect("it says why");
        assert!(words.reason.contains("planted"), "{words:?}");
        accused.push(words.volume);
    }
    assert!(
        accused.iter().all(|volume| *volume == accused[0]),
        "{accused:?}"
    );
    assert!(start_again("look", &folder).success());
    std::fs::remove_dir_all(&folder).unwrap();
}
