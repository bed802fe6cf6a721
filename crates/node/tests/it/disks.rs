//! Stores that come, go, die and get other disks while their node runs.

use crate::support::{Cluster, MIB};
use api::{
    Answer, DiskAnswer, DiskLight, DiskReplacement, DiskSpec, ErrorKind, MemberChange, Operation,
    ResiliencyAnswer,
};
use node::{Bay, DiskFacts, DiskRequest, FoundDisks, Host};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::{Rc, Weak};
use vocab::StoreId;
use world::{Duration, LocalBoxFuture};
use world_sim::SimDisk;

/// Disks by path, and the stores that are kept.
#[derive(Default)]
struct Shelf {
    disks: BTreeMap<String, SimDisk>,
    kept: BTreeMap<u32, Vec<String>>,
    /// Lights that there are, by path.
    lights: BTreeMap<String, bool>,
    /// The node, which has the disks of its open stores for itself.
    host: Weak<Host>,
}

impl Shelf {
    fn is_in_use(&self, path: &String) -> bool {
        let stores = self.host.upgrade().map(|host| host.stores());
        let mut open = stores.iter().flatten().map(|store| store.id().0);
        open.any(|id| self.kept.get(&id).is_some_and(|paths| paths.contains(path)))
    }
}

#[derive(Clone, Default)]
struct TestBay(Rc<RefCell<Shelf>>);

impl std::fmt::Debug for TestBay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TestBay")
    }
}

impl TestBay {
    async fn look(self, request: DiskRequest, own: Option<StoreId>) -> Result<FoundDisks, String> {
        let path = request.paths[0].clone();
        let disk = self.0.borrow().disks.get(&path).map(SimDisk::open);
        let disk = disk.ok_or_else(|| format!("{path} does not exist"))?;
        if self.0.borrow().is_in_use(&path) {
            return Err(format!("{path} is in use by this node"));
        }
        let found = store::inspect(&disk)
            .await
            .map_err(|error| error.to_string())?;
        let kept = match found {
            store::Inspection::Blank => false,
            store::Inspection::Store(identity) if Some(identity.store) == own => true,
            _ if request.overrides.contains(&path) => false,
            _ => return Err(format!("{path} is not blank")),
        };
        let disks = vec![disk];
        Ok(FoundDisks { disks, kept })
    }
}

impl Bay for TestBay {
    fn list(&self) -> LocalBoxFuture<'static, Vec<DiskFacts>> {
        let shelf = self.0.borrow();
        let facts = |(&store, paths): (&u32, &Vec<String>)| DiskFacts {
            store,
            path: paths[0].clone(),
            size: Some(1 << 30),
            light: shelf.lights.get(&paths[0]).copied(),
            ..DiskFacts::default()
        };
        let list: Vec<DiskFacts> = shelf.kept.iter().map(facts).collect();
        Box::pin(async move { list })
    }

    fn open(
        &self,
        request: DiskRequest,
        own: Option<StoreId>,
    ) -> LocalBoxFuture<'static, Result<FoundDisks, String>> {
        Box::pin(self.clone().look(request, own))
    }

    fn remember(
        &self,
        store: StoreId,
        paths: Vec<String>,
    ) -> LocalBoxFuture<'static, Result<(), String>> {
        self.0.borrow_mut().kept.insert(store.0, paths);
        Box::pin(async { Ok(()) })
    }

    fn forget(&self, store: StoreId) -> LocalBoxFuture<'static, Result<(), String>> {
        self.0.borrow_mut().kept.remove(&store.0);
        Box::pin(async { Ok(()) })
    }

    fn paths_of(&self, store: StoreId) -> Vec<String> {
        let shelf = self.0.borrow();
        shelf.kept.get(&store.0).cloned().unwrap_or_default()
    }

    fn light(&self, path: String, on: bool) -> LocalBoxFuture<'static, Result<(), String>> {
        self.0.borrow_mut().lights.insert(path, on);
        Box::pin(async { Ok(()) })
    }
}

/// Three nodes with a volume on two copies; the first has a bay with two spare disks.
fn cluster(seed: u64) -> (Cluster, TestBay) {
    with_bay(Cluster::new(seed, 3))
}

fn with_bay(cluster: Cluster) -> (Cluster, TestBay) {
    let bay = TestBay::default();
    let machine = &cluster.machines[0];
    let (first, name) = (machine.disk.clone(), "/ssd".to_owned());
    let store = cluster.node(0).stores()[0].id().0;
    {
        let mut shelf = bay.0.borrow_mut();
        shelf.disks.insert(name.clone(), first);
        shelf.kept.insert(store, vec![name]);
        for spare in ["b", "c"] {
            let disk = machine.host.add_disk(spare, 1 << 30);
            shelf.disks.insert(format!("/{spare}"), disk);
        }
    }
    restart(&cluster, &bay);
    cluster.create_container("c", 2);
    cluster.create_volume(0, "v", 64 * MIB);
    (cluster, bay)
}

fn restart(cluster: &Cluster, bay: &TestBay) {
    cluster.crash(0);
    cluster.machines[0].host.restart();
    let mut options = cluster.options_of(0);
    options.bay = Some(Rc::new(bay.clone()));
    // The test support opens the first disk alone: the others are as good as dead.
    let dead = |id: &u32| (StoreId(*id), "its disk does not answer".to_owned());
    options.absent = bay.0.borrow().kept.keys().skip(1).map(dead).collect();
    let host = cluster.try_start(0, options).expect("it starts again");
    bay.0.borrow_mut().host = Rc::downgrade(&host);
}

fn disks(answer: Answer) -> Vec<DiskAnswer> {
    match answer {
        Answer::Disks(disks) => disks,
        other => panic!("{other:?}"),
    }
}

fn list(cluster: &Cluster, asked: usize) -> Vec<DiskAnswer> {
    disks(cluster.operate(asked, Operation::DiskList))
}

fn add(path: &str) -> Operation {
    Operation::DiskAdd(DiskSpec {
        node: "a".to_owned(),
        paths: vec![path.to_owned()],
        ..DiskSpec::default()
    })
}

fn replace(store: u32, path: &str, lost: bool) -> Operation {
    Operation::DiskReplace {
        store,
        with: DiskReplacement {
            paths: vec![path.to_owned()],
            lost,
            ..DiskReplacement::default()
        },
    }
}

fn locate(store: u32, path: Option<&str>, on: bool) -> Operation {
    let path = path.map(str::to_owned);
    Operation::DiskLocate {
        store,
        light: DiskLight { path, on },
    }
}

fn drain(id: u32) -> Operation {
    Operation::StoreSet {
        id,
        change: MemberChange {
            draining: Some(true),
            ..MemberChange::default()
        },
    }
}

fn is_whole(host: &Host, copies: usize) -> bool {
    host.view()
        .groups
        .values()
        .all(|row| row.members.len() == copies && row.filling.is_empty() && row.former.is_empty())
}

fn until(cluster: &Cluster, what: &str, holds: impl Fn() -> bool) {
    let done = cluster.sim.run_until(holds, Duration::from_secs(600));
    assert!(done, "{what}: {:?}", cluster.node(0).view());
}

fn fill(cluster: &Cluster, from: u64, blocks: u64) {
    let device = cluster.device(0, "v");
    for block in from..from + blocks {
        cluster.write(0, &device, block * 3, block as u8 + 1);
    }
}

fn drain_volume(cluster: &Cluster) {
    let name = "v".to_owned();
    cluster.operate(0, Operation::VolumeDrain { name });
}

fn compare(cluster: &Cluster, blocks: u64) {
    let device = cluster.device(0, "v");
    for block in 0..blocks {
        assert_eq!(cluster.read(0, &device, block * 3), block as u8 + 1);
    }
}

fn removable(cluster: &Cluster, id: u32) -> bool {
    match cluster.operate(0, Operation::StoreShow { id }) {
        Answer::Member(member) => member.removable,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_disk_is_added_drained_and_removed_while_a_volume_is_used() {
    let (cluster, bay) = cluster(501);
    fill(&cluster, 0, 20);
    // Asked of another node: the one with the disk does it.
    let added = disks(cluster.operate(1, add("/b")));
    assert_eq!(added.len(), 1, "{added:?}");
    let id = added[0].store;
    assert_eq!(
        (added[0].node.as_str(), added[0].path.as_str()),
        ("a", "/b")
    );
    assert_eq!(bay.0.borrow().kept[&id], ["/b"]);
    let again = cluster
        .try_operate(1, add("/b"))
        .expect_err("not blank any more");
    assert_eq!(again.kind, ErrorKind::Refused, "{again}");
    let takes = || {
        let view = cluster.node(0).view();
        view.groups
            .values()
            .any(|row| row.members.contains(&StoreId(id)))
    };
    until(&cluster, "it gets groups", takes);
    until(&cluster, "they are whole", || is_whole(&cluster.node(0), 2));
    fill(&cluster, 20, 20);
    let early = cluster.try_operate(2, Operation::StoreRemove { id, lost: false });
    assert_eq!(early.expect_err("it holds data").kind, ErrorKind::Refused);
    cluster.operate(2, drain(id));
    let mut empty = removable(&cluster, id);
    for _ in 0..600 {
        if empty {
            break;
        }
        let world = cluster.machines[0].host.world();
        cluster.run(0, async move { world.sleep(Duration::from_secs(1)).await });
        empty = removable(&cluster, id);
    }
    assert!(empty, "it is emptied");
    cluster.operate(2, Operation::StoreRemove { id, lost: false });
    assert_eq!(cluster.node(0).stores().len(), 1);
    assert!(!bay.0.borrow().kept.contains_key(&id));
    assert_eq!(list(&cluster, 1).len(), 3, "one disk of each node");
    fill(&cluster, 40, 5);
    compare(&cluster, 45);
}

#[test]
fn a_store_that_dies_leaves_the_others_of_its_node_alone_and_is_replaced() {
    let (cluster, bay) = cluster(502);
    let id = disks(cluster.operate(0, add("/b")))[0].store;
    until(&cluster, "it gets groups", || {
        let view = cluster.node(0).view();
        view.groups
            .values()
            .any(|row| row.members.contains(&StoreId(id)))
    });
    until(&cluster, "they are whole", || is_whole(&cluster.node(0), 2));
    fill(&cluster, 0, 20);
    let works = cluster.try_operate(0, replace(id, "/c", false));
    assert_eq!(works.expect_err("it works").kind, ErrorKind::Refused);
    bay.0.borrow().disks["/b"].set_failed(true);
    fill(&cluster, 20, 20);
    // Written out to all groups: now it is noticed, wherever the log is.
    drain_volume(&cluster);
    compare(&cluster, 40);
    let failed = |disk: &DiskAnswer| disk.store == id && disk.state == "failed";
    let listed = list(&cluster, 1);
    assert!(listed.iter().any(failed), "{listed:?}");
    let other = |disk: &DiskAnswer| disk.node == "a" && disk.store != id && disk.state == "ready";
    assert!(listed.iter().any(other), "{listed:?}");
    // A node that starts again goes on without it, too.
    restart(&cluster, &bay);
    fill(&cluster, 40, 5);
    let replaced = disks(cluster.operate(2, replace(id, "/c", false)));
    assert_eq!(replaced[0].path, "/c");
    assert_eq!(bay.0.borrow().kept[&id], ["/c"]);
    until(&cluster, "it is filled again", || {
        is_whole(&cluster.node(0), 2)
    });
    cluster.crash(1);
    compare(&cluster, 45);
}

#[test]
fn a_disk_that_did_not_work_at_the_start_is_taken_when_it_does() {
    let (cluster, bay) = cluster(504);
    let id = disks(cluster.operate(0, add("/b")))[0].store;
    until(&cluster, "it gets groups", || {
        let view = cluster.node(0).view();
        let mut groups = view.groups.values();
        groups.any(|row| row.members.contains(&StoreId(id)))
    });
    fill(&cluster, 0, 20);
    bay.0.borrow().disks["/b"].set_failed(true);
    restart(&cluster, &bay);
    fill(&cluster, 20, 20);
    assert_eq!(cluster.node(0).stores().len(), 1);
    bay.0.borrow().disks["/b"].set_failed(false);
    until(&cluster, "it is there again", || {
        cluster.node(0).stores().len() == 2 && is_whole(&cluster.node(0), 2)
    });
    compare(&cluster, 40);
}

fn has_groups(cluster: &Cluster, id: u32) -> bool {
    let view = cluster.node(0).view();
    let mut groups = view.groups.values();
    groups.any(|row| row.members.contains(&StoreId(id)))
}

/// One more store of the first node, with data on it, whose disk fails.
fn with_dead_disk(cluster: &Cluster, bay: &TestBay) -> u32 {
    let id = disks(cluster.operate(0, add("/b")))[0].store;
    until(cluster, "it gets groups", || has_groups(cluster, id));
    until(cluster, "they are whole", || is_whole(&cluster.node(0), 2));
    fill(cluster, 0, 20);
    bay.0.borrow().disks["/b"].set_failed(true);
    fill(cluster, 20, 20);
    drain_volume(cluster);
    id
}

#[test]
fn a_new_disk_at_the_path_of_a_failed_one_takes_its_place() {
    let (cluster, bay) = cluster(506);
    let id = with_dead_disk(&cluster, &bay);
    let other = cluster.machines[0].host.add_disk("d", 1 << 30);
    bay.0.borrow_mut().disks.insert("/b".to_owned(), other);
    let replaced = disks(cluster.operate(2, replace(id, "/b", false)));
    assert_eq!(replaced[0].path, "/b");
    until(&cluster, "it is filled again", || {
        has_groups(&cluster, id) && is_whole(&cluster.node(0), 2)
    });
    compare(&cluster, 40);
}

/// The other node leads, and hears from half of the disks of the only node beside it that they work.
#[test]
fn a_disk_that_its_node_reports_as_failed_is_replaced_soon_by_another_of_that_node() {
    let (cluster, bay) = with_bay(Cluster::new(507, 2));
    let id = with_dead_disk(&cluster, &bay);
    assert!(cluster.node(1).is_leading());
    let replaced = || {
        let view = cluster.node(1).view();
        let mut groups = view.groups.values();
        groups.all(|row| {
            row.members.len() == 2 && row.filling.is_empty() && !row.members.contains(&StoreId(id))
        })
    };
    // A store that nobody answers for while its node lives is waited for longer.
    let patience = 3 * cluster.options_of(0).repair_delay;
    let done = cluster.sim.run_until(replaced, patience);
    assert!(done, "{:?}", cluster.node(1).view().groups);
    cluster.crash(1);
    let kept = disks(cluster.operate(0, Operation::DiskList));
    let dead = kept.iter().find(|disk| disk.store == id);
    assert_eq!(dead.map(|disk| disk.state.as_str()), Some("failed"));
}

#[test]
fn a_cluster_with_a_dead_disk_that_was_replaced_gets_more_groups_as_it_grows() {
    let (mut cluster, bay) = with_bay(Cluster::with_options(508, 3, |options| {
        options.groups_per_store = 4
    }));
    let count = |cluster: &Cluster| cluster.node(0).view().groups.len();
    let id = with_dead_disk(&cluster, &bay);
    until(&cluster, "others take its place", || {
        !has_groups(&cluster, id)
    });
    let before = count(&cluster);
    cluster.operate(0, add("/c"));
    cluster.add_machine("e");
    cluster.start(3);
    until(&cluster, "there are more groups", || {
        count(&cluster) > before
    });
    assert!(!has_groups(&cluster, id), "none of them is on it");
    until(&cluster, "they are whole", || {
        let view = cluster.node(0).view();
        let mut groups = view.groups.values();
        groups.all(|row| row.members.len() == 2 && row.filling.is_empty())
    });
    compare(&cluster, 40);
}

#[test]
fn the_only_copy_is_not_given_up_without_a_word() {
    let (cluster, bay) = cluster(503);
    fill(&cluster, 0, 10);
    drain_volume(&cluster);
    let id = cluster.node(0).stores()[0].id().0;
    cluster.crash(1);
    cluster.crash(2);
    bay.0.borrow().disks["/ssd"].set_failed(true);
    let world = cluster.machines[0].host.world();
    cluster.run(0, async move { world.sleep(Duration::from_secs(5)).await });
    let refused = cluster.try_operate(0, replace(id, "/b", false));
    let refused = refused.expect_err("the other copies are away");
    assert_eq!(refused.kind, ErrorKind::Refused);
    assert!(refused.message.contains("--lost"), "{refused}");
    for index in [1, 2] {
        cluster.restart(index);
    }
    let mut replaced = cluster.try_operate(0, replace(id, "/b", false));
    for _ in 0..60 {
        if replaced.is_ok() {
            break;
        }
        let world = cluster.machines[0].host.world();
        cluster.run(0, async move { world.sleep(Duration::from_secs(1)).await });
        replaced = cluster.try_operate(0, replace(id, "/b", false));
    }
    replaced.expect("the others have everything");
    until(&cluster, "it is filled again", || {
        is_whole(&cluster.node(0), 2)
    });
    compare(&cluster, 10);
    let Answer::Resiliency(ResiliencyAnswer { data, .. }) =
        cluster.operate(0, Operation::Resiliency)
    else {
        panic!("not a verdict");
    };
    assert_eq!(data[0].unavailable, 0, "{data:?}");
}

/// From another node than the one that has the disk.
#[test]
fn a_disk_with_a_light_is_located_and_one_without_is_described() {
    let (cluster, bay) = cluster(31);
    let store = cluster.node(0).stores()[0].id().0;
    let refused = cluster.try_operate(1, locate(store, None, true));
    let refused = refused.expect_err("it has none");
    assert_eq!(refused.kind, ErrorKind::Refused);
    assert!(refused.message.contains("/ssd"), "{refused:?}");

    bay.0.borrow_mut().lights.insert("/ssd".to_owned(), false);
    let missing = cluster.try_operate(1, locate(store, Some("/other"), true));
    let missing = missing.expect_err("it is not of the store");
    assert_eq!(missing.kind, ErrorKind::NotFound);
    for on in [true, true, false] {
        let Answer::Disks(disks) = cluster.operate(1, locate(store, Some("/ssd"), on)) else {
            panic!("disks are answered");
        };
        assert_eq!(disks[0].light, Some(on));
        assert_eq!(bay.0.borrow().lights["/ssd"], on);
    }
}

#[test]
fn a_light_that_is_switched_is_told_on_every_node() {
    let (cluster, bay) = with_bay(Cluster::with_apis(32, 3));
    let store = cluster.node(0).stores()[0].id().0;
    bay.0.borrow_mut().lights.insert("/ssd".to_owned(), true);
    let changes = |after, mood: &str| {
        let mood = mood.to_owned();
        match cluster.operate(2, Operation::Changes { after, mood }) {
            Answer::Changes(changes) => changes,
            other => panic!("not changes: {other:?}"),
        }
    };
    // Off first: somebody else had switched it on.
    for on in [false, true, false] {
        cluster.sim.run_for(Duration::from_secs(2));
        let begin = changes(None, "");
        cluster.operate(1, locate(store, None, on));
        cluster.sim.run_for(Duration::from_secs(1));
        let told = changes(Some(begin.revision), &begin.mood).changes;
        let is = |change: &api::stream::ChangeAnswer| {
            (&*change.kind, change.id) == ("disk", store.into())
        };
        assert!(told.iter().any(is), "{on}: {told:?}");
    }
}
