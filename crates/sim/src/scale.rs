//! The scale model: the real planner and the real rows of a large cluster, without data.

use catalog::{GroupChange, GroupRow, StoreRow, VolumeRow, plan_groups, wanted_groups};
use curator::{GroupSizes, PlacementLimits, Standing, StoreFacts, plan};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use vocab::{ByteCount, Incarnation, NodeId, StoreId};

/// Copies of everything.
const COPIES: u8 = 2;
/// Memberships of a store: the default of `node::HostOptions`.
const GROUPS_PER_STORE: u32 = 32;
/// Every node reads groups and stores again after so long, should a watch have been lost: `RELOAD_AFTER` in
/// `node::membership`.
const RELOAD_SECONDS: usize = 10;
/// Rows of volumes that all nodes together read in a second at most, on average, where each looks at all of them now and then:
/// `ROWS_PER_SECOND_MAX` in `node::upkeep`.
const ROWS_PER_SECOND_MAX: u64 = 20_000;
/// The longest of the pauses between two such looks where there are few rows: those of `node::upkeep::logs`, in seconds.
const LOGS_SECONDS: f64 = 300.0;
/// Nodes of a rack.
const RACK: u32 = 20;
/// Bytes of a store.
const CAPACITY: u64 = 8 << 40;
/// How full the stores are.
const USED_PERCENT: u64 = 50;
/// Bytes per second that one member is filled with, assumed: one extent after the other, each read, sent, written and
/// flushed.
const FILL_BYTES_PER_SECOND: u64 = 100 << 20;
/// Bytes that clients of each node write per second, assumed.
const WRITTEN_BYTES_PER_SECOND: u64 = 200 << 20;

/// Runs the model and returns it as Markdown.
pub fn scale(nodes: u32, volumes: u64) -> String {
    let mut out = Report::default();
    let mut stores: Vec<StoreFacts> = (1..=nodes).map(store).collect();
    let count = wanted_groups(64, GROUPS_PER_STORE, stores.len(), COPIES);
    let (mut groups, took) = timed(|| plan_groups(&rows(&stores), COPIES, &[], count));
    out.row(
        "first plan of all groups (the product makes 64 at a time)",
        format!("{} groups, {}", groups.len(), text(took)),
    );
    let (_, _, moved) = settle(&mut groups, &stores, None);
    let (changes, took) = timed(|| {
        plan(
            &groups,
            &stores,
            &GroupSizes::new(),
            PlacementLimits::default(),
        )
    });
    assert!(changes.is_empty(), "a settled cluster rests");
    let settled = format!("{}; {moved} members moved before it rested", text(took));
    out.row("plan while nothing is to do", settled);
    lose(&mut out, &mut groups, &mut stores);
    add(&mut out, &mut groups, &mut stores, nodes);
    sizes(&mut out, &groups, &rows(&stores), volumes);
    transactions(&mut out, nodes);
    out.0
}

#[derive(Default)]
struct Report(String);

impl Report {
    fn row(&mut self, what: &str, figure: String) {
        if self.0.is_empty() {
            self.0.push_str("| what | figure |\n| --- | --- |\n");
        }
        self.0.push_str(&format!("| {what} | {figure} |\n"));
    }
}

fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let begin = Instant::now();
    let value = work();
    (value, begin.elapsed())
}

fn text(took: Duration) -> String {
    format!("{:.1} ms", took.as_secs_f64() * 1000.0)
}

fn store(id: u32) -> StoreFacts {
    StoreFacts {
        id: StoreId(id),
        node: NodeId(id),
        domains: vec![format!("rack-{}", id / RACK)],
        capacity: CAPACITY,
        standing: Standing::Present,
        has_room: true,
        is_full: false,
        free: CAPACITY,
    }
}

fn rows(stores: &[StoreFacts]) -> Vec<StoreRow> {
    let row = |facts: &StoreFacts| StoreRow {
        id: facts.id,
        node: facts.node,
        incarnation: Incarnation(1),
        session: 1,
        capacity: ByteCount(facts.capacity),
        domains: facts.domains.clone(),
        earlier: Vec::new(),
    };
    stores.iter().map(row).collect()
}

fn apply(groups: &mut [GroupRow], changes: &[GroupChange]) -> usize {
    let by_id: BTreeMap<_, _> = changes
        .iter()
        .map(|change| (change.group, change))
        .collect();
    let mut joined = 0;
    for row in groups {
        let Some(change) = by_id.get(&row.id) else {
            continue;
        };
        let joins = |store: &&StoreId| !row.members.contains(store);
        joined += change.members.iter().filter(joins).count();
        *row = change.applied_to(row);
    }
    joined
}

/// All fills end and former members that are there are emptied.
fn finish(groups: &mut [GroupRow], lost: Option<StoreId>) {
    for row in groups {
        row.filling.clear();
        row.returning.clear();
        row.former.retain(|store| Some(*store) == lost);
    }
}

/// Plans and fills until nothing is left; longest plan, plans, and members that joined.
fn settle(
    groups: &mut [GroupRow],
    stores: &[StoreFacts],
    lost: Option<StoreId>,
) -> (Duration, u64, usize) {
    let (mut longest, mut plans, mut joined) = (Duration::ZERO, 0, 0);
    loop {
        let (changes, took) = timed(|| {
            plan(
                groups,
                stores,
                &GroupSizes::new(),
                PlacementLimits::default(),
            )
        });
        longest = longest.max(took);
        if changes.is_empty() {
            return (longest, plans, joined);
        }
        plans += 1;
        joined += apply(groups, &changes);
        finish(groups, lost);
    }
}

fn lose(out: &mut Report, groups: &mut [GroupRow], stores: &mut [StoreFacts]) {
    let gone = stores.len() / 2;
    stores[gone].standing = Standing::Lost;
    let lost = stores[gone].id;
    let held = groups
        .iter()
        .filter(|row| row.members.contains(&lost))
        .count();
    let sources: std::collections::BTreeSet<StoreId> = groups
        .iter()
        .filter(|row| row.members.contains(&lost))
        .flat_map(|row| row.members.iter().copied().filter(|&member| member != lost))
        .collect();
    let (longest, plans, joined) = settle(groups, stores, Some(lost));
    let bytes = CAPACITY * USED_PERCENT / 100;
    let limits = PlacementLimits::default();
    let streams = held.min(limits.repairs_max).min(sources.len()) as u64;
    let seconds = bytes / (FILL_BYTES_PER_SECOND * streams.max(1));
    out.row(
        "a node is lost",
        format!(
            "{held} groups, {joined} members join, {plans} plans, longest {}",
            text(longest)
        ),
    );
    out.row(
        "its rebuild",
        format!(
            "{} TiB over {streams} stores at a time: {} min at {} MiB/s each",
            bytes >> 40,
            seconds / 60,
            FILL_BYTES_PER_SECOND >> 20
        ),
    );
}

fn add(out: &mut Report, groups: &mut [GroupRow], stores: &mut Vec<StoreFacts>, nodes: u32) {
    stores.push(store(nodes + 1));
    let share = groups.len() * usize::from(COPIES) / stores.len();
    let (longest, plans, joined) = settle(groups, stores, None);
    out.row(
        "a node is added",
        format!(
            "{joined} members join (its share is {share}), {plans} plans, longest {}",
            text(longest)
        ),
    );
}

/// What the catalog holds, and how long a leader takes to read it.
fn sizes(out: &mut Report, groups: &[GroupRow], stores: &[StoreRow], volumes: u64) {
    let of_groups: usize = groups.iter().map(|row| json(row).len()).sum();
    let of_stores: usize = stores.iter().map(|row| json(row).len()).sum();
    let rows: Vec<Vec<u8>> = (1..=volumes).map(|id| json(&volume(id))).collect();
    let of_volumes: usize = rows.iter().map(Vec::len).sum();
    let mib = |bytes: usize| bytes as f64 / f64::from(1 << 20);
    out.row(
        "catalog",
        format!(
            "{:.1} MiB: {:.1} of groups, {:.1} of stores, {:.1} of volumes",
            mib(of_groups + of_stores + of_volumes),
            mib(of_groups),
            mib(of_stores),
            mib(of_volumes)
        ),
    );
    let reloaded = (of_groups + of_stores) * stores.len() / RELOAD_SECONDS;
    out.row(
        "what all nodes together read of it to be sure",
        format!("{:.1} MiB/s", mib(reloaded)),
    );
    read_of_volumes(out, of_volumes as f64, volumes, stores.len());
    let (read, took) = timed(|| {
        let row = |bytes: &Vec<u8>| serde_json::from_slice::<VolumeRow>(bytes);
        rows.iter().filter_map(|bytes| row(bytes).ok()).count()
    });
    assert_eq!(read, rows.len(), "every row decodes");
    out.row("decoding every volume's row", text(took));
}

/// What nodes read of all volumes' rows, of so many bytes: while all is even, and when a node is lost. Each has one store.
fn read_of_volumes(out: &mut Report, bytes: f64, volumes: u64, nodes: usize) {
    let all = bytes * nodes as f64 / f64::from(1 << 20);
    let paid = (volumes * nodes as u64) as f64 / ROWS_PER_SECOND_MAX as f64;
    let even = node::EvenOptions::default().interval.as_secs_f64();
    let looks = [
        (even, "to even volumes out"),
        (LOGS_SECONDS, "to tidy logs"),
    ];
    for (interval, what) in looks {
        let pause = interval + paid;
        out.row(
            &format!("what all nodes together read of volumes {what}"),
            format!(
                "{:.1} MiB/s: each reads all of them every {pause:.0} s",
                all / pause
            ),
        );
    }
    out.row(
        "what all nodes together read of volumes when one is lost",
        format!("{:.1} GiB, twice", all / 1024.0),
    );
}

/// A root goes to the catalog once in so many drains, and a drain takes so many bytes, or what is there when the volume rests.
fn transactions(out: &mut Report, nodes: u32) {
    let options = volume::Options::default();
    let bytes = options.drain_bytes * u64::from(options.publish_every);
    let written = WRITTEN_BYTES_PER_SECOND * u64::from(nodes);
    out.row(
        "roots told to the catalog",
        format!(
            "one for {} MiB that a volume writes: {} per second when the clients of every node write {} MiB/s",
            bytes >> 20,
            written / bytes,
            WRITTEN_BYTES_PER_SECOND >> 20
        ),
    );
    // As `world::Duration` of the node's options: a keepalive every third of a lease.
    let lease = node::HostOptions::new("", "", world::Address(String::new())).lease;
    let per_second = f64::from(nodes) * 3.0 / lease.as_secs_f64();
    out.row(
        "keepalives of leases",
        format!("{per_second:.0} per second"),
    );
}

fn json<T: serde::Serialize>(row: &T) -> Vec<u8> {
    serde_json::to_vec(row).expect("rows have string keys only")
}

/// A volume as one in Kubernetes looks: a name from a claim, labels, a log of two replicas.
fn volume(id: u64) -> VolumeRow {
    let text = format!(
        r#"{{"id":{id},"name":"pvc-{id:08x}-7c2e-4f0e-9d4d-0123456789ab","container":1,"lineage":{id},
        "size":21474836480,"created_ms":1795623914654,"owner":{owner},"epoch":3,
        "root":{{"map":{{"page":{{"extent":{{"group":200001,"volume":{id},"epoch":3,"counter":77}},"frame":3}},
        "height":2,"mapped_blocks":500000}},"position":123456,"floor":[3,78]}},
        "segments":[{{"id":4,"epoch":3,"start":123000,"replicas":[{{"store":{owner},"incarnation":7149708346333499515}},
        {{"store":9,"incarnation":15978742400440455705}}],"wanted":2}}],"next_segment":5,
        "attachment":{{"generation":2,"clients":["node-{owner}"],"mode":"read-write"}},
        "labels":{{"csi.storage.k8s.io/pvc/name":"data-{id}","csi.storage.k8s.io/pvc/namespace":"default",
        "csi.storage.k8s.io/pv/name":"pvc-{id:08x}"}}}}"#,
        owner = id % 1000 + 1
    );
    serde_json::from_str(&text).expect("a row as the catalog has it")
}
