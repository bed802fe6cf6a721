//! Every copy is read now and then, also if nobody asks for it: what has rotted is made good while other copies are there.
//!
//! A record of a log that has rotted in one journal is made good by draining its volume: the owner has it in memory, or
//! takes it from the other replicas, and nobody needs the record once it is in the map.

mod cursor;

use self::cursor::Cursor;
use crate::events::Told;
use crate::host::Host;
use crate::tasks::{Carried, kind, new_task, store_subject};
use catalog::{GroupRow, Severity, TaskRow};
use std::rc::Rc;
use store::{Store, Verified};
use vocab::StoreId;
use wire::{ExtentInfo, StoreError, StoreReply, StoreRequest};
use world::{Duration, Time};

/// Entries of a listing read at a time.
const LIST_LIMIT: u32 = 200;
/// The first round begins so long after the start, unless rounds are closer than that.
const FIRST_PAUSE: Duration = Duration::from_secs(3600);
/// A round that was under way when the process before this one ended goes on so long after the start.
const RESUME_PAUSE: Duration = Duration::from_secs(60);
/// Longest time between two readings of a journal.
const JOURNAL_INTERVAL: Duration = Duration::from_secs(3600);
/// Bytes of a journal verified at a time.
const JOURNAL_BYTES: u64 = 1 << 20;
/// Patience with the drain of a volume.
const DRAIN_PATIENCE: Duration = Duration::from_secs(60);
/// A round that takes longer than this is a task, and that is told of its progress so often.
const TELL_INTERVAL: Duration = Duration::from_secs(15);
/// Pause while there are no groups.
const IDLE_PAUSE: Duration = Duration::from_secs(10);

/// One round over a store, as a task once it takes a while.
struct Round {
    store: StoreId,
    told: Time,
    task: Option<Carried>,
    read: u64,
    extents: u64,
}

impl Round {
    fn begin(host: &Host, store: &Store) -> Self {
        Self {
            store: store.id(),
            told: host.world.now(),
            task: None,
            read: 0,
            extents: store.status().extents,
        }
    }

    async fn on_read(&mut self, host: &Rc<Host>) {
        self.read += 1;
        let now = host.world.now();
        if now.since(self.told) < TELL_INTERVAL {
            return;
        }
        self.told = now;
        // Some come and go meanwhile.
        let (done, total) = (self.read, self.extents.max(self.read));
        let Some(task) = &self.task else {
            let subject = store_subject(self.store);
            let task = new_task(kind::SCRUB, subject.clone(), subject);
            let task = TaskRow {
                unit: "extents".to_owned(),
                done,
                total,
                message: "every copy is read".to_owned(),
                ..task
            };
            self.task = Some(host.carry(task).await);
            return;
        };
        task.is_at(done, total);
    }

    fn end(&self) {
        let Some(task) = &self.task else { return };
        let done: Result<(), StoreError> = Ok(());
        task.end(&done, &format!("{} extents were read", self.read));
    }
}

/// What scrubbing has found since the node started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScrubReport {
    /// Rounds over all extents of a store.
    pub rounds: u64,
    /// Extents read.
    pub extents: u64,
    /// Bytes read.
    pub bytes: u64,
    /// Copies that did not verify.
    pub damaged: u64,
    /// Those of them that were made good from another member.
    pub repaired: u64,
    /// Records of journals read.
    pub records: u64,
    /// Records that did not verify; their volumes were drained.
    pub damaged_records: u64,
}

/// Reads a local store's journal over and over, at the pace of the options.
pub(crate) async fn run_journal(host: Rc<Host>, store: StoreId) {
    let Some(store) = host.stores.get(store) else {
        return;
    };
    // Records do not lie there for long, so rounds are closer than those over extents.
    let interval = host.options.scrub.interval.min(JOURNAL_INTERVAL);
    loop {
        host.world.sleep(interval).await;
        let mut from = 0;
        while let Ok(found) = store.verify_journal(from, JOURNAL_BYTES).await {
            note(&host, |report| {
                report.records += found.records;
                report.damaged_records += found.damaged;
            });
            if found.damaged > 0 {
                drain(&host, &store, &found).await;
            }
            pause(&host, found.bytes).await;
            match found.next {
                Some(next) => from = next,
                None => break,
            }
        }
    }
}

/// Has the volumes drained that need damaged records.
async fn drain(host: &Rc<Host>, store: &Store, found: &Verified) {
    let (id, damaged) = (store.id().0, found.damaged);
    tracing::warn!(store = id, damaged, volumes = ?found.volumes, "records of the journal have rotted");
    let volumes: Vec<String> = found.volumes.iter().map(ToString::to_string).collect();
    let message = format!(
        "{damaged} records in the journal of store {id} have rotted: {} are drained, so that nobody needs them",
        volumes.join(", ")
    );
    let told = Told::new(
        Severity::Warning,
        "journal-rot",
        format!("store/{id}"),
        message,
    );
    host.tell(told.remedy("look at the health of its first disk"));
    for &volume in &found.volumes {
        let drained = host.drain_anywhere(volume);
        if host.world.timeout(DRAIN_PATIENCE, drained).await.is_err() {
            tracing::warn!(%volume, "not drained in time: its log is looked at again in the next round");
        }
    }
}

/// Bandwidth: so long a pause that bytes per second come out right, whatever the read took.
async fn pause(host: &Host, bytes: u64) {
    let rate = host.options.scrub.bytes_per_second.max(1);
    let pause = bytes.saturating_mul(1_000_000) / rate;
    host.world.sleep(Duration::from_micros(pause)).await;
}

/// Reads a local store's copies over and over, at the pace of the options.
pub(crate) async fn run(host: Rc<Host>, store: StoreId) {
    let Some(store) = host.stores.get(store) else {
        return;
    };
    let mut cursor = Cursor::read(&host, &store).await;
    let first = host.options.scrub.interval.min(FIRST_PAUSE);
    let mut least = first.min(RESUME_PAUSE);
    loop {
        let rest = cursor.rest(&host, first).max(least);
        host.world.sleep(rest).await;
        least = IDLE_PAUSE;
        if read_all(&host, &store, Some(&mut cursor)).await {
            cursor.end(&host).await;
        }
    }
}

impl Host {
    /// Reads every copy of the stores here once, at the pace of the options, besides the rounds; what has rotted is made good.
    /// For whoever cannot wait for them.
    pub async fn scrub_once(self: &Rc<Self>) {
        for store in self.stores.all() {
            read_all(self, &store, None).await;
        }
    }
}

/// One round over a store, or what is left of it; whether there was anything to read.
async fn read_all(host: &Rc<Host>, store: &Store, mut cursor: Option<&mut Cursor>) -> bool {
    let mut groups: Vec<GroupRow> = host.members.look(|view| {
        let groups = view.groups.values();
        let ours = groups.filter(|group| group.members.contains(&store.id()));
        ours.cloned().collect()
    });
    if groups.is_empty() {
        return false;
    }
    groups.sort_by_key(|group| group.id);
    if let Some(cursor) = &mut cursor {
        cursor.begin(host);
    }
    let mut round = Round::begin(host, store);
    for group in &groups {
        let past = cursor
            .as_ref()
            .is_some_and(|cursor| cursor.is_past(group.id));
        if !past {
            scrub_group(host, store, group, &mut round, cursor.as_deref_mut()).await;
        }
    }
    round.end();
    note(host, |report| report.rounds += 1);
    true
}

fn note(host: &Host, change: impl FnOnce(&mut ScrubReport)) {
    let mut report = host.upkeep.scrubbed.get();
    change(&mut report);
    host.upkeep.scrubbed.set(report);
}

async fn scrub_group(
    host: &Rc<Host>,
    store: &Store,
    group: &GroupRow,
    round: &mut Round,
    mut cursor: Option<&mut Cursor>,
) {
    let mut after = cursor.as_ref().and_then(|cursor| cursor.after(group.id));
    loop {
        let (group, generation) = (group.id, group.generation);
        let request = StoreRequest::ListExtents {
            group,
            generation,
            after,
            limit: LIST_LIMIT,
            tombstones: false,
        };
        // A group that has other members meanwhile is read in the next round.
        let Ok((StoreReply::Extents { extents, more }, _)) =
            store.handle(request, Vec::new()).await
        else {
            return;
        };
        after = extents.last().map(|info| info.id).or(after);
        for info in &extents {
            scrub_extent(host, store, info).await;
            round.on_read(host).await;
            if let Some(cursor) = &mut cursor {
                cursor.is_at(host, group, Some(info.id)).await;
            }
        }
        if !more || extents.is_empty() {
            return;
        }
    }
}

async fn scrub_extent(host: &Rc<Host>, store: &Store, info: &ExtentInfo) {
    let request = StoreRequest::ReadExtent { id: info.id };
    let read = store.handle(request, Vec::new()).await;
    note(host, |report| {
        report.extents += 1;
        report.bytes += u64::from(info.bytes);
    });
    if let Err(StoreError::Damaged { what }) = read {
        note(host, |report| report.damaged += 1);
        tracing::warn!(store = %store.id(), extent = %info.id, what, "a copy has rotted");
        match host.pool.repair(store.id(), info.id).await {
            Ok(_) => {
                note(host, |report| report.repaired += 1);
                let message = format!(
                    "{} on store {} had rotted ({what}) and was made good",
                    info.id,
                    store.id().0
                );
                let entity = format!("store/{}", store.id().0);
                let told = Told::new(Severity::Warning, "rot-repaired", entity, message);
                host.tell(told.remedy("look at the health of its disks"));
            }
            Err(error) => {
                let message = format!(
                    "{} on store {} has rotted and cannot be made good now: {error}",
                    info.id,
                    store.id().0
                );
                let entity = format!("store/{}", store.id().0);
                let told = Told::new(Severity::Critical, "rot", entity, message);
                host.tell(told.remedy("bring the other members of its group back"));
                tracing::error!(store = %store.id(), extent = %info.id, %error, "it cannot be made good now");
            }
        }
    }
    pause(host, u64::from(info.bytes)).await;
}
