//! The catalog is lost: it is made anew from the disks, and everything that was acknowledged is there.

use crate::support::*;
use api::{Answer, MemberChange, Operation, OperationError, SnapshotRef, VolumeSpec};
use blockdev::BlockDevice;
use catalog::{Catalog, VolumeState};
use catalog_kv::memory::MemoryKv;
use curator::rebuild::{Rebuilt, Sources, rebuild};
use std::collections::BTreeMap;
use std::rc::Rc;
use wire::StoreSurvey;
use world::{Disk, Duration};

/// What every block of every volume and snapshot is full of, as acknowledged.
#[derive(Clone, Default)]
struct Model {
    volumes: BTreeMap<String, BTreeMap<u64, u8>>,
    snapshots: BTreeMap<(String, String), BTreeMap<u64, u8>>,
}

struct Drill {
    cluster: Cluster,
    model: Model,
    fill: u8,
    catalogs: u8,
    /// Whether the machines lose power, and not only their processes.
    power: bool,
}

impl Drill {
    fn new(seed: u64) -> Self {
        Self::with_copies(seed, 2)
    }

    fn with_copies(seed: u64, copies: u8) -> Self {
        let drill = Self {
            cluster: Cluster::described(seed, 3),
            model: Model::default(),
            fill: 0,
            catalogs: 0,
            power: false,
        };
        drill.cluster.create_container("c", copies);
        drill
    }

    fn groups(&self) -> Vec<catalog::GroupRow> {
        let entries = self.cluster.kv.entries().into_iter();
        let groups = entries.filter(|entry| entry.key.starts_with("group/"));
        let row = |value: &[u8]| serde_json::from_slice(value).expect("a row");
        groups.map(|entry| row(&entry.value)).collect()
    }

    /// Waits until every group has so many members, each of which has everything.
    fn wait_until_whole(&self, members: usize) {
        let is_whole = |group: &catalog::GroupRow| {
            group.filling.is_empty() && group.former.is_empty() && group.members.len() == members
        };
        let all = || {
            let groups = self.groups();
            !groups.is_empty() && groups.iter().all(is_whole)
        };
        let whole = self.cluster.sim.run_until(all, Duration::from_secs(60));
        assert!(whole, "{:?}", self.groups());
    }

    fn create(&mut self, name: &str) {
        self.cluster.create_volume(0, name, 64 * MIB);
        self.model.volumes.insert(name.to_owned(), BTreeMap::new());
    }

    /// Writes every so many blocks, from any node.
    fn write(&mut self, node: usize, name: &str, step: u64, count: u64) {
        let device = self.cluster.device(node, name);
        for lba in (0..count).map(|index| index * step) {
            self.fill = self.fill % 250 + 1;
            self.cluster.write(node, &device, lba, self.fill);
            let blocks = self.model.volumes.get_mut(name).expect("created");
            blocks.insert(lba, self.fill);
        }
    }

    fn snapshot(&mut self, node: usize, volume: &str, name: &str) {
        let operation = Operation::SnapshotCreate {
            volume: volume.to_owned(),
            name: name.to_owned(),
            labels: BTreeMap::new(),
            group: None,
        };
        self.cluster.operate(node, operation);
        let blocks = self.model.volumes[volume].clone();
        let key = (volume.to_owned(), name.to_owned());
        self.model.snapshots.insert(key, blocks);
    }

    fn try_clone(
        &self,
        node: usize,
        volume: &str,
        snapshot: &str,
        name: &str,
    ) -> Result<Answer, OperationError> {
        let spec = VolumeSpec {
            name: name.to_owned(),
            from: Some(SnapshotRef {
                volume: volume.to_owned(),
                snapshot: Some(snapshot.to_owned()),
            }),
            ..VolumeSpec::default()
        };
        self.cluster
            .try_operate(node, Operation::VolumeCreate(spec))
    }

    fn clone_of(&mut self, node: usize, volume: &str, snapshot: &str, name: &str) {
        self.try_clone(node, volume, snapshot, name)
            .expect("cloned");
        let blocks = self.model.snapshots[&(volume.to_owned(), snapshot.to_owned())].clone();
        self.model.volumes.insert(name.to_owned(), blocks);
    }

    fn wait(&self, time: Duration) {
        self.cluster.sim.run_for(time);
    }

    /// Everything dies, and with it the catalog.
    fn lose_the_catalog(&mut self) -> Vec<StoreSurvey> {
        for index in 0..3 {
            if self.power {
                self.cluster.machines[index].host.power_loss();
            }
            self.cluster.crash(index);
        }
        let surveys = (0..3).map(|index| {
            self.cluster.machines[index].host.restart();
            let disk = self.cluster.machines[index].disk.open();
            let surveyed = async move { store::survey(vec![disk as Rc<dyn Disk>]).await };
            self.cluster
                .run(index, surveyed)
                .expect("the disks can be read")
        });
        surveys.collect()
    }

    fn fill_catalog(&mut self, rebuilt: &Rebuilt) {
        self.catalogs += 1;
        let host = format!("catalog-{}", self.catalogs);
        let host = self.cluster.sim.host(&host);
        let kv = MemoryKv::new(host.world());
        let (catalog, rows) = (Catalog::new(Rc::new(kv.clone())), rebuilt.rows.clone());
        let filled = async move { catalog.fill(&rows).await };
        self.cluster.run(0, filled).expect("an empty catalog");
        self.cluster.kv = kv;
    }

    fn rebuild(&mut self) {
        let surveys = self.lose_the_catalog();
        let rebuilt = rebuild(&sources(surveys)).expect("rebuilt");
        assert_eq!(rebuilt.incomplete, Vec::new());
        self.fill_catalog(&rebuilt);
        for index in 0..3 {
            self.cluster.start(index);
        }
    }

    /// Every byte of every volume and snapshot.
    fn check(&mut self) {
        let model = self.model.clone();
        for (name, blocks) in &model.volumes {
            self.check_volume(name, blocks);
        }
        for ((volume, snapshot), blocks) in &model.snapshots {
            let name = format!("check-of-{snapshot}");
            self.try_clone(1, volume, snapshot, &name)
                .expect("its snapshot is there");
            self.check_volume(&name, blocks);
            self.cluster.operate(1, Operation::VolumeDelete { name });
        }
    }

    fn check_volume(&self, name: &str, blocks: &BTreeMap<u64, u8>) {
        let device: Rc<dyn BlockDevice> = self.cluster.device(2, name);
        let last = blocks.keys().next_back().copied().unwrap_or(0);
        for lba in 0..=last {
            let wanted = blocks.get(&lba).copied().unwrap_or(0);
            let found = self.cluster.read(2, &device, lba);
            assert_eq!(found, wanted, "block {lba} of {name}");
        }
    }
}

fn sources(surveys: Vec<StoreSurvey>) -> Sources {
    Sources {
        levels: vocab::Levels::OWN,
        cluster: "test".to_owned(),
        surveys,
        ..Sources::default()
    }
}

type Step = Box<dyn Fn(&mut Drill)>;

/// One thing after the other; the catalog is lost right after the step of this number.
fn story(drill: &mut Drill, steps: usize) {
    let script: Vec<Step> = vec![
        Box::new(|drill| drill.create("a")),
        Box::new(|drill| drill.write(0, "a", 3, 40)),
        Box::new(|drill| drill.snapshot(0, "a", "s1")),
        Box::new(|drill| drill.write(1, "a", 2, 30)),
        Box::new(|drill| drill.wait(Duration::from_secs(5))),
        Box::new(|drill| drill.clone_of(1, "a", "s1", "b")),
        Box::new(|drill| drill.write(1, "b", 5, 20)),
        // A takeover, and segments that lose a replica.
        Box::new(|drill| {
            let owner = drill.cluster.owner(1, "a");
            drill.cluster.crash(owner);
            let other = (owner + 1) % 3;
            drill.write(other, "a", 1, 25);
            drill.write(other, "b", 1, 10);
            drill.cluster.restart(owner);
        }),
        Box::new(|drill| drill.snapshot(2, "a", "s2")),
        Box::new(|drill| {
            let resize = Operation::VolumeResize {
                name: "a".to_owned(),
                size: 128 * MIB,
            };
            drill.cluster.operate(0, resize);
        }),
        Box::new(|drill| drill.write(2, "a", 7, 30)),
        Box::new(|drill| {
            let name = "s1".to_owned();
            let volume = "a".to_owned();
            drill.wait(Duration::from_secs(4));
            drill
                .cluster
                .operate(0, Operation::SnapshotDelete { volume, name });
            drill
                .model
                .snapshots
                .remove(&("a".to_owned(), "s1".to_owned()));
        }),
        Box::new(|drill| drill.write(0, "b", 1, 12)),
        // Groups change their members.
        Box::new(|drill| {
            let change = MemberChange {
                draining: Some(true),
                ..MemberChange::default()
            };
            drill
                .cluster
                .operate(0, Operation::StoreSet { id: 2, change });
            drill.wait(Duration::from_millis(2500));
            drill.write(0, "a", 6, 20);
        }),
        Box::new(|drill| drill.wait(Duration::from_secs(6))),
    ];
    for step in script.iter().take(steps) {
        step(drill);
    }
}

#[test]
fn a_catalog_lost_at_any_moment_is_made_anew() {
    for steps in 1..=15 {
        let mut drill = Drill::new(300 + steps as u64);
        story(&mut drill, steps);
        drill.rebuild();
        drill.check();
        drill.write(0, "a", 1, 5);
        drill.check();
    }
}

#[test]
fn a_catalog_lost_together_with_all_power_is_made_anew() {
    for steps in 1..=15 {
        let mut drill = Drill::new(400 + steps as u64);
        drill.power = true;
        story(&mut drill, steps);
        // Some moment within the drain, the notes and the trims that follow.
        drill.wait(Duration::from_micros(steps as u64 * 7919 % 400_000));
        drill.rebuild();
        drill.check();
    }
}

#[test]
fn a_catalog_lost_twice_is_made_anew_twice() {
    let mut drill = Drill::new(330);
    story(&mut drill, 8);
    drill.rebuild();
    drill.check();
    drill.write(1, "a", 4, 20);
    drill.snapshot(1, "a", "later");
    drill.rebuild();
    drill.check();
    // No copy was trusted; all were compared and count again.
    drill.wait(Duration::from_secs(30));
    let kv = drill.cluster.kv.clone();
    let groups = kv.entries().into_iter();
    let groups = groups.filter(|entry| entry.key.starts_with("group/"));
    let groups: Vec<catalog::GroupRow> = groups
        .map(|entry| serde_json::from_slice(&entry.value).expect("a row"))
        .collect();
    assert!(!groups.is_empty());
    for group in groups {
        assert_eq!(
            (group.members.len(), group.filling.len()),
            (2, 0),
            "{group:?}"
        );
        assert_eq!(group.former, [], "{group:?}");
    }
    drill.rebuild();
    drill.check();
}

#[test]
fn nothing_is_decided_without_a_store_that_nobody_named() {
    let mut drill = Drill::new(340);
    story(&mut drill, 4);
    let mut surveys = drill.lose_the_catalog();
    let gone = surveys.remove(1).store;
    let refused = rebuild(&sources(surveys.clone())).expect_err("a store is missing");
    let text = refused.to_string();
    assert!(text.contains(&format!("--without {}", gone.0)), "{text}");
    let without = Sources {
        without: [gone].into(),
        ..sources(surveys.clone())
    };
    let rebuilt = rebuild(&without).expect("named");
    assert_eq!(
        rebuilt.incomplete.len(),
        1,
        "the store may hold writes alone"
    );
    let accepted = Sources {
        accepted: ["a".to_owned()].into(),
        ..without
    };
    let rebuilt = rebuild(&accepted).expect("named");
    assert_eq!(rebuilt.incomplete, Vec::new());
    drill.fill_catalog(&rebuilt);
    for index in [0, 2] {
        drill.cluster.start(index);
    }
    let blocks = drill.model.volumes["a"].clone();
    drill.check_volume("a", &blocks);
}

/// A store is lost together with the catalog; later its disk is found.
fn goes_on_without_a_store(copies: u8) {
    let mut drill = Drill::with_copies(360 + u64::from(copies), copies);
    story(&mut drill, 4);
    let mut surveys = drill.lose_the_catalog();
    let gone = surveys.remove(1).store;
    let without = Sources {
        without: [gone].into(),
        accepted: ["a".to_owned()].into(),
        ..sources(surveys)
    };
    let rebuilt = rebuild(&without).expect("named");
    assert_eq!(rebuilt.incomplete, Vec::new());
    drill.fill_catalog(&rebuilt);
    for index in [0, 2] {
        drill.cluster.start(index);
    }
    drill.wait_until_whole(2);
    for group in drill.groups() {
        assert!(!group.members.contains(&gone), "{group:?}");
    }
    let blocks = drill.model.volumes["a"].clone();
    drill.check_volume("a", &blocks);
    // Its disk is found after all: it takes part like a new one.
    drill.cluster.start(1);
    drill.wait(Duration::from_secs(5));
    drill.wait_until_whole(usize::from(copies));
    drill.write(1, "a", 5, 10);
    drill.check();
}

#[test]
fn groups_of_two_copies_are_whole_again_without_a_store_that_is_lost() {
    goes_on_without_a_store(2);
}

#[test]
fn groups_of_three_copies_on_three_stores_are_whole_again_without_one_of_them() {
    goes_on_without_a_store(3);
}

#[test]
fn an_incomplete_volume_stays_offline() {
    let mut drill = Drill::new(350);
    story(&mut drill, 4);
    let surveys = drill.lose_the_catalog();
    let mut rebuilt = rebuild(&sources(surveys)).expect("rebuilt");
    for (key, value) in &mut rebuilt.rows {
        if key.starts_with("volume/") {
            let mut row: catalog::VolumeRow = serde_json::from_slice(value).expect("a row");
            row.state = VolumeState::Incomplete("a test says so".to_owned());
            *value = serde_json::to_vec(&row).expect("a row");
        }
    }
    drill.fill_catalog(&rebuilt);
    for index in 0..3 {
        drill.cluster.start(index);
    }
    let node = drill.cluster.node(0);
    let refused = drill.cluster.run(0, async move {
        node.device("a", false)
            .await
            .map(drop)
            .map_err(|error| error.to_string())
    });
    let text = refused.expect_err("it is offline");
    assert!(text.contains("azekura catalog accept a"), "{text}");
}

/// A service manager starts nodes again and again; none may begin an empty cluster on disks that hold one.
#[test]
fn disks_that_were_told_of_a_catalog_begin_no_other_and_take_no_old_copy() {
    let mut drill = Drill::new(77);
    drill.create("v");
    drill.write(1, "v", 3, 40);
    drill.wait(Duration::from_secs(20));
    let old = drill.cluster.kv.clone();
    let surveys = drill.lose_the_catalog();
    let host = drill.cluster.sim.host("empty");
    drill.cluster.kv = MemoryKv::new(host.world());
    let refused = drill.cluster.try_start(0, drill.cluster.options_of(0));
    let refused = refused.err().expect("an empty catalog").to_string();
    assert!(refused.contains("older than what store 1"), "{refused}");
    assert!(drill.cluster.kv.entries().is_empty(), "nothing was begun");
    let rebuilt = rebuild(&sources(surveys)).expect("rebuilt");
    drill.fill_catalog(&rebuilt);
    for index in 0..3 {
        drill.cluster.start(index);
    }
    drill.wait(Duration::from_secs(20));
    // The old one is found again, and a node is started with it.
    drill.cluster.crash(2);
    drill.cluster.machines[2].host.restart();
    let new = std::mem::replace(&mut drill.cluster.kv, old);
    let refused = drill.cluster.try_start(2, drill.cluster.options_of(2));
    let refused = refused.err().expect("an old catalog").to_string();
    assert!(refused.contains("made anew 0 times"), "{refused}");
    drill.cluster.kv = new;
    drill.cluster.crash(2);
    drill.cluster.restart(2);
    drill.check();
}
