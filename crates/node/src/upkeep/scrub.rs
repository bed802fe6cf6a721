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
use futures_util::future::{Either, select};
use std::rc::Rc;
use store::{Store, Verified};
use vocab::{GroupId, StoreId};
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
/// Between looks at whether a request beside this one has begun.
const BEGUN_PAUSE: Duration = Duration::from_millis(50);
/// Patience with the drain of a volume.
const DRAIN_PATIENCE: Duration = Duration::from_secs(60);
/// A round that takes longer than this is a task, and that is told of its progress so often.
const TELL_INTERVAL: Duration = Duration::from_secs(15);
/// Pause while there are no groups.
const IDLE_PAUSE: Duration = Duration::from_secs(10);

/// One round over a store, as a task once it takes a while, or because somebody asked for it.
struct Round {
    store: StoreId,
    begun: Time,
    told: Time,
    task: Option<Carried>,
    read: u64,
    extents: u64,
    damaged: u64,
    repaired: u64,
    /// Groups that were passed over, because their members changed meanwhile.
    passed_over: u64,
}

impl Round {
    fn begin(host: &Host, store: &Store) -> Self {
        Self {
            store: store.id(),
            begun: host.world.now(),
            told: host.world.now(),
            task: None,
            read: 0,
            extents: store.status().extents,
            damaged: 0,
            repaired: 0,
            passed_over: 0,
        }
    }

    async fn on_read(&mut self, host: &Rc<Host>, rot: Rot) {
        self.read += 1;
        self.damaged += u64::from(rot != Rot::None);
        self.repaired += u64::from(rot == Rot::Repaired);
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

    /// What it found, for people.
    fn found(&self) -> String {
        let mut said = format!("{} extents were read", self.read);
        if self.damaged > 0 {
            said += &format!(
                "; {} had rotted, {} of them were made good",
                self.damaged, self.repaired
            );
        }
        if self.passed_over > 0 {
            said += &format!(
                "; {} groups whose members changed meanwhile are left to the next round",
                self.passed_over
            );
        }
        said
    }

    fn end(&self, store: &Store) {
        let Some(task) = &self.task else { return };
        let done = match store.status().failed {
            Some(reason) => Err(format!("the store fails ({reason}): {}", self.found())),
            None if self.damaged > self.repaired || self.passed_over > 0 => Err(self.found()),
            None => Ok(()),
        };
        task.end(&done, &self.found());
    }
}

/// What was wrong with a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rot {
    None,
    Repaired,
    /// It cannot be made good now.
    Left,
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
        let mut round = Round::begin(&host, &store);
        if read_all(&host, &store, Some(&mut cursor), &mut round).await {
            cursor.end(&host).await;
        }
    }
}

impl Host {
    /// Reads every copy of the stores here once, at the pace of the options, besides the rounds; what has rotted is made good.
    /// For whoever cannot wait for them.
    pub async fn scrub_once(self: &Rc<Self>) {
        for store in self.stores.all() {
            let mut round = Round::begin(self, &store);
            read_all(self, &store, None, &mut round).await;
        }
    }

    /// Begins to read every copy of a store of this node, besides its rounds and at their pace, as a task of who asks now: its id. While
    /// it is read so already, the task of that. Nothing only where this host keeps no tasks.
    ///
    /// # Errors
    /// Why that store cannot be read, for people; or that no task can be kept now, so that nothing was begun.
    pub(crate) async fn begin_scrub(self: &Rc<Self>, id: StoreId) -> Result<Option<u64>, String> {
        let store = self.stores.get(id);
        let works = store.filter(|store| store.status().failed.is_none());
        let Some(store) = works else {
            return Err(format!(
                "store {} cannot be read now: `azekura store list` says why",
                id.0
            ));
        };
        let host = self.clone();
        let begun = self.to_the_end(async move { host.scrub_as_task(store).await });
        begun
            .await
            .unwrap_or_else(|| Err("the node is stopping: ask again when it is back".to_owned()))
    }

    async fn scrub_as_task(self: &Rc<Self>, store: Store) -> Result<Option<u64>, String> {
        let id = store.id();
        let known = || self.upkeep.scrubs.borrow().get(&id).copied();
        while let Some(task) = known() {
            if task.is_some() || !self.options.tasks {
                return Ok(task);
            }
            // Another request has begun it, and waits for the catalog: not for long, see `begin_task`.
            self.world.sleep(BEGUN_PAUSE).await;
        }
        // Before the catalog is waited for: another request may come meanwhile.
        self.upkeep.scrubs.borrow_mut().insert(id, None);
        let subject = store_subject(id);
        let task = TaskRow {
            unit: "extents".to_owned(),
            total: store.status().extents,
            message: "every copy is read".to_owned(),
            ..new_task(kind::STORE_SCRUB, subject.clone(), subject)
        };
        let carried = self.carry(task).await;
        let task = carried.id();
        if task.is_none() && self.options.tasks {
            self.upkeep.scrubs.borrow_mut().remove(&id);
            return Err(format!(
                "the catalog does not take a task for reading store {} now, so nothing was begun: ask again when it answers",
                id.0
            ));
        }
        self.upkeep.scrubs.borrow_mut().insert(id, task);
        let host = self.clone();
        self.spawn(self.still_on_behalf(async move {
            let round = Round {
                task: Some(carried),
                ..Round::begin(&host, &store)
            };
            read_until_wished(&host, &store, round, task).await;
            host.upkeep.scrubs.borrow_mut().remove(&id);
        }));
        Ok(task)
    }
}

/// One round that somebody asked for, until it is over or somebody wants it to stop.
async fn read_until_wished(host: &Rc<Host>, store: &Store, mut round: Round, task: Option<u64>) {
    let ended = {
        let reading = std::pin::pin!(read_all(host, store, None, &mut round));
        let wished = std::pin::pin!(host.wished(task));
        match select(reading, wished).await {
            Either::Left((was_there, _)) => Ok(was_there),
            Either::Right((who, _)) => Err(who),
        }
    };
    match (ended, &round.task) {
        (Err(who), Some(task)) => {
            task.cancelled(&format!("{who} cancelled it: {}", round.found()));
        }
        // It has no groups, so that there was nothing to read.
        (Ok(false), _) => round.end(store),
        _ => {}
    }
}

/// One round over a store, or what is left of it; whether there was anything to read.
async fn read_all(
    host: &Rc<Host>,
    store: &Store,
    mut cursor: Option<&mut Cursor>,
    round: &mut Round,
) -> bool {
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
    let mut passed_over = Vec::new();
    for group in &groups {
        let past = cursor
            .as_ref()
            .is_some_and(|cursor| cursor.is_past(group.id));
        if !past && !scrub_group(host, store, group, round, cursor.as_deref_mut()).await {
            passed_over.push(group.id);
        }
    }
    match cursor {
        Some(_) => scrub_late(host, store, passed_over, round).await,
        None => round.passed_over = passed_over.len() as u64,
    }
    round.end(store);
    note(host, |report| report.rounds += 1);
    true
}

/// Groups whose members changed while they were read, or that were being filled: read again, until the next round is due.
async fn scrub_late(host: &Rc<Host>, store: &Store, mut left: Vec<GroupId>, round: &mut Round) {
    let is_time = |round: &Round| host.world.now().since(round.begun) < host.options.scrub.interval;
    while !left.is_empty() && is_time(round) {
        host.world.sleep(IDLE_PAUSE).await;
        let mut again = Vec::new();
        for id in left {
            let group = host.members.look(|view| view.groups.get(&id).cloned());
            let Some(group) = group.filter(|group| group.members.contains(&store.id())) else {
                continue;
            };
            if !scrub_group(host, store, &group, round, None).await {
                again.push(id);
            }
        }
        left = again;
    }
}

fn note(host: &Host, change: impl FnOnce(&mut ScrubReport)) {
    let mut report = host.upkeep.scrubbed.get();
    change(&mut report);
    host.upkeep.scrubbed.set(report);
}

/// Reads a group's copies; whether all of them were there to be read.
async fn scrub_group(
    host: &Rc<Host>,
    store: &Store,
    group: &GroupRow,
    round: &mut Round,
    mut cursor: Option<&mut Cursor>,
) -> bool {
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
        // It may have other members meanwhile.
        let Ok((StoreReply::Extents { extents, more }, _)) =
            store.handle(request, Vec::new()).await
        else {
            return false;
        };
        after = extents.last().map(|info| info.id).or(after);
        for info in &extents {
            let rot = scrub_extent(host, store, info).await;
            round.on_read(host, rot).await;
            if let Some(cursor) = &mut cursor {
                cursor.is_at(host, group, Some(info.id)).await;
            }
        }
        if !more || extents.is_empty() {
            return true;
        }
    }
}

async fn scrub_extent(host: &Rc<Host>, store: &Store, info: &ExtentInfo) -> Rot {
    let mut rot = Rot::None;
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
                rot = Rot::Repaired;
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
                rot = Rot::Left;
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
    rot
}
