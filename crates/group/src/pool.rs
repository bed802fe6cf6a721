//! Puts, flushes, deletes and listings over a group's members.

use crate::options::{PoolOptions, bug};
use bytes::Bytes;
use catalog::{GroupRow, SpaceRow};
use futures_util::future::join_all;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use vocab::{ExtentId, GroupId, IdMap, StoreId};
use wire::{
    CallError, ExtentInfo, Lane, StoreCall, StoreError, StoreReply, StoreRequest, Stores,
    occupied_by,
};
use world::sync::Notify;
use world::{Duration, Time, World};

/// Why an operation on extents failed. A retry is safe in every case.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PoolError {
    /// No group of this replication factor is known.
    #[error(
        "there is no placement group for {copies} copies: are there {copies} stores in distinct failure domains?"
    )]
    NoGroup {
        /// Copies asked for.
        copies: u8,
    },
    /// Too few members took the extent.
    #[error("{group} has {have} of at least {need} copies of {id}: {reason}")]
    NotEnoughCopies {
        /// The group.
        group: GroupId,
        /// The extent.
        id: ExtentId,
        /// Copies made.
        have: usize,
        /// Copies needed.
        need: usize,
        /// The last member's words.
        reason: String,
    },
    /// A member has no space left.
    #[error("{store} of {group} is full: delete data or add disks")]
    Full {
        /// The group.
        group: GroupId,
        /// The store.
        store: StoreId,
    },
    /// Every member answered, and none has it.
    #[error("{id} is on no member of its group")]
    Absent {
        /// The extent.
        id: ExtentId,
    },
    /// No member that has it answers.
    #[error("{id} cannot be read now: {reason}")]
    Unreachable {
        /// The extent.
        id: ExtentId,
        /// What the members said.
        reason: String,
    },
    /// A flush failed; what was put since the last one may be lost: put it again.
    #[error("{store} could not flush: {reason}")]
    NotFlushed {
        /// The store.
        store: StoreId,
        /// Its words.
        reason: String,
    },
}

pub(crate) struct Inner {
    pub(crate) world: World,
    pub(crate) stores: Rc<dyn Stores>,
    pub(crate) local: RefCell<Vec<StoreId>>,
    pub(crate) options: PoolOptions,
    groups: RefCell<BTreeMap<GroupId, GroupRow>>,
    shunned: RefCell<IdMap<StoreId, Time>>,
    pub(crate) repairs: Cell<u64>,
    full: RefCell<BTreeMap<StoreId, Full>>,
    pub(crate) protection: RefCell<SpaceRow>,
    /// Share of the time that fills take, in thousandths.
    pub(crate) fill_share: Cell<u32>,
    /// Extents that fills have copied.
    pub(crate) copied: Cell<u64>,
    /// A store promised a newer generation than the groups here have.
    outdated: Notify,
    /// The groups were set.
    renewed: Notify,
}

/// The extents of the cluster, as a node sees them. Cheap to clone.
#[derive(Clone)]
pub struct Pool(pub(crate) Rc<Inner>);

/// Copies that are not known durable: stores with the sessions in which they took puts. A store that
/// restarts between a put and its flush may have lost the put although the flush succeeds; its session
/// tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unflushed(pub(crate) BTreeMap<StoreId, BTreeSet<u64>>);

impl Unflushed {
    /// Adds what another put or several left unflushed.
    pub fn add(&mut self, other: &Unflushed) {
        for (&store, sessions) in &other.0 {
            self.0.entry(store).or_default().extend(sessions);
        }
    }

    /// Whether nothing waits for a flush.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A rewrite may take so many times as long as a put: it reads, writes and flushes on a disk that others keep busy, and
/// nobody waits for it but the space it frees.
const REWRITE_PATIENCE: u32 = 15;
/// How long a store's word that it is nearly full is taken for true; the next put after that asks again.
const CROWDED_FOR: Duration = Duration::from_secs(1);

/// What a store said of its space.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Full {
    /// It has said nothing else, and has taken nothing, since.
    since: Time,
    /// When it said so last.
    heard: Time,
}

/// Why an extent is put: decides on the space it may use and on when it is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// New data that goes past the journal.
    Write,
    /// Draining: frees journals, so it may use reserved space. [`Pool::flush`] makes it durable.
    Drain,
    /// A lost or doubtful copy is made good, in reserved space, durable at once.
    Repair,
}

/// An extent on its way to several members.
struct Put {
    id: ExtentId,
    generation: vocab::Generation,
    form: u32,
    purpose: Purpose,
    sealed: Bytes,
}

impl Put {
    fn call(&self, missing: Vec<StoreId>) -> StoreCall {
        let request = StoreRequest::PutExtent {
            id: self.id,
            generation: self.generation,
            form: self.form,
            durable: self.purpose == Purpose::Repair,
            reserved: self.purpose != Purpose::Write,
            missing,
        };
        StoreCall {
            request,
            body: vec![self.sealed.clone()],
        }
    }
}

/// What became of a call to one member.
pub(crate) enum Told {
    Done(Option<u64>),
    Full,
    /// It has promised a newer generation: the members have changed.
    Stale,
    Failed(String),
}

impl Pool {
    /// A pool over `stores`; members in `local` are preferred.
    #[must_use]
    pub fn new(
        world: World,
        stores: Rc<dyn Stores>,
        local: Vec<StoreId>,
        options: PoolOptions,
    ) -> Self {
        Self(Rc::new(Inner {
            world,
            stores,
            local: RefCell::new(local),
            options,
            groups: RefCell::default(),
            shunned: RefCell::default(),
            repairs: Cell::new(0),
            full: RefCell::default(),
            protection: RefCell::default(),
            fill_share: Cell::new(crate::fill::SHARE_FULL),
            copied: Cell::new(0),
            outdated: Notify::default(),
            renewed: Notify::default(),
        }))
    }

    /// Takes over the groups as the catalog has them.
    pub fn set_groups(&self, groups: Vec<GroupRow>) {
        *self.0.groups.borrow_mut() = groups.into_iter().map(|group| (group.id, group)).collect();
        self.0.renewed.notify_all();
    }

    /// Until a store refuses a call because the groups known here are outdated: set them anew then.
    pub async fn outdated(&self) {
        self.0.outdated.notified().await;
    }

    /// The groups known here are outdated.
    pub(crate) fn newer_soon(&self) {
        self.0.outdated.notify_all();
    }

    /// Waits for a newer generation of a group than this one, within the pool's patience; whether there is one.
    pub(crate) async fn newer_than(&self, group: &GroupRow) -> bool {
        let waited = async {
            loop {
                let renewed = self.0.renewed.notified();
                let known = self.group(group.id);
                if known.is_some_and(|known| known.generation > group.generation) {
                    return;
                }
                self.0.outdated.notify_all();
                renewed.await;
            }
        };
        let patience = self.0.options.patience;
        self.0.world.timeout(patience, waited).await.is_ok()
    }

    /// Other stores are near from now on: these.
    pub fn set_local(&self, local: Vec<StoreId>) {
        *self.0.local.borrow_mut() = local;
    }

    /// The groups known.
    #[must_use]
    pub fn groups(&self) -> Vec<GroupRow> {
        self.0.groups.borrow().values().cloned().collect()
    }

    /// Whether a store said a moment ago that only the space kept back for draining and repair is left: no
    /// new data should be taken.
    #[must_use]
    pub fn is_crowded(&self) -> bool {
        self.crowded_for().is_some()
    }

    /// How long one of the stores that said so a moment ago has taken nothing. `None`: there is room.
    #[must_use]
    pub fn crowded_for(&self) -> Option<Duration> {
        let now = self.0.world.now();
        let full = self.0.full.borrow();
        let heard = full
            .values()
            .filter(|full| now.since(full.heard) < CROWDED_FOR);
        heard.map(|full| now.since(full.since)).max()
    }

    /// Whether a store has refused a put a moment ago, or said that it soon will.
    pub(crate) fn is_full(&self, store: StoreId) -> bool {
        let now = self.0.world.now();
        let full = self.0.full.borrow();
        full.get(&store)
            .is_some_and(|full| now.since(full.heard) < CROWDED_FOR)
    }

    /// Notes what a store said of its space. One that took a put has made room since it was full: as long as that
    /// happens, waiting is not in vain.
    fn note_room(&self, store: StoreId, is_full: bool, has_taken: bool) {
        let now = self.0.world.now();
        let mut table = self.0.full.borrow_mut();
        if !is_full {
            table.remove(&store);
            return;
        }
        let said = table.entry(store).or_insert(Full {
            since: now,
            heard: now,
        });
        if has_taken || now.since(said.heard) >= CROWDED_FOR * 3 {
            // Or nobody knows what was in between.
            said.since = now;
        }
        said.heard = now;
    }

    /// Bad or missing copies put again by reads.
    #[must_use]
    pub fn repairs(&self) -> u64 {
        self.0.repairs.get()
    }

    pub(crate) fn group(&self, id: GroupId) -> Option<GroupRow> {
        self.0.groups.borrow().get(&id).cloned()
    }

    pub(crate) fn is_shunned(&self, store: StoreId) -> bool {
        let now = self.0.world.now();
        self.0
            .shunned
            .borrow()
            .get(&store)
            .is_some_and(|&until| until > now)
    }

    pub(crate) fn shun(&self, store: StoreId) {
        let until = self.0.world.now() + self.0.options.shun;
        self.0.shunned.borrow_mut().insert(store, until);
    }

    /// A group for a new extent: with all members healthy and not full, and one of them here, if there is such a group.
    ///
    /// # Errors
    /// [`PoolError::NoGroup`].
    pub fn choose_group(&self, replication_factor: u8, turn: u64) -> Result<GroupId, PoolError> {
        let groups = self.0.groups.borrow();
        let fitting = || {
            groups
                .values()
                .filter(|group| group.replication_factor == replication_factor)
        };
        let penalty = |group: &GroupRow| {
            let shunned = group
                .members
                .iter()
                .filter(|&&member| self.is_shunned(member))
                .count();
            let full = group
                .members
                .iter()
                .any(|&member| self.takes_nothing(member));
            let local = self.0.local.borrow();
            let local = group.members.iter().any(|member| local.contains(member));
            (shunned, full, !local)
        };
        let best = fitting().map(penalty).min().ok_or(PoolError::NoGroup {
            copies: replication_factor,
        })?;
        let candidates: Vec<GroupId> = fitting()
            .filter(|group| penalty(group) == best)
            .map(|group| group.id)
            .collect();
        Ok(candidates[(turn % candidates.len() as u64) as usize])
    }

    /// Calls one member, bounded by the pool's patience.
    pub(crate) async fn call(
        &self,
        store: StoreId,
        call: StoreCall,
    ) -> Result<(StoreReply, Bytes), CallError> {
        self.call_within(store, call, self.0.options.patience).await
    }

    pub(crate) async fn call_within(
        &self,
        store: StoreId,
        call: StoreCall,
        patience: Duration,
    ) -> Result<(StoreReply, Bytes), CallError> {
        let answer = self.0.stores.call(store, Lane::Bulk, call);
        match self.0.world.timeout(patience, answer).await {
            Ok(result) => result,
            Err(late) => Err(CallError::Unreachable {
                store,
                reason: late.to_string(),
            }),
        }
    }

    async fn tell(&self, store: StoreId, call: StoreCall) -> Told {
        let patience = match call.request {
            StoreRequest::CompactExtent { .. } => self.0.options.patience * REWRITE_PATIENCE,
            _ => self.0.options.patience,
        };
        match self.call_within(store, call, patience).await {
            Ok((StoreReply::Done, _)) => Told::Done(None),
            Ok((StoreReply::Kept { session, full }, _)) => {
                self.note_room(store, full, true);
                Told::Done(Some(session))
            }
            Ok((other, _)) => Told::Failed(format!("{store} answered {other:?}")),
            Err(CallError::Refused {
                error: StoreError::Full,
                ..
            }) => Told::Full,
            Err(CallError::Refused {
                error: StoreError::StaleGeneration { .. },
                ..
            }) => Told::Stale,
            Err(error) => {
                if matches!(error, CallError::Unreachable { .. })
                    || matches!(
                        error,
                        CallError::Refused {
                            error: StoreError::Failed { .. },
                            ..
                        }
                    )
                {
                    self.shun(store);
                }
                Told::Failed(error.to_string())
            }
        }
    }

    /// Puts a sealed extent on the members of its group. For a repair it is flushed when this returns; else
    /// [`Pool::flush`] must succeed before anything relies on it. Members that fail are recorded as missing
    /// it by the others.
    ///
    /// # Errors
    /// [`PoolError::Full`], [`PoolError::NotEnoughCopies`], [`PoolError::NoGroup`]. Copies that were made are
    /// garbage then.
    pub async fn put(
        &self,
        id: ExtentId,
        sealed: Bytes,
        form: u32,
        purpose: Purpose,
        copies_min: u8,
    ) -> Result<Unflushed, PoolError> {
        loop {
            let group = self
                .group(id.group)
                .ok_or(PoolError::NoGroup { copies: 0 })?;
            let put = Put {
                id,
                generation: group.generation,
                form,
                purpose,
                sealed: sealed.clone(),
            };
            if let Some(outcome) = self.put_to(&group, &put, copies_min).await {
                return outcome;
            }
            // Nothing relies on a copy that a former member took: all members get it now.
            if !self.newer_than(&group).await {
                let reason =
                    "its members have changed, and the catalog does not say to whom".to_owned();
                return Err(PoolError::NotEnoughCopies {
                    group: id.group,
                    id,
                    have: 0,
                    need: usize::from(copies_min),
                    reason,
                });
            }
        }
    }

    /// One attempt of [`Pool::put`]; `None` when the group has other members meanwhile.
    async fn put_to(
        &self,
        group: &GroupRow,
        put: &Put,
        copies_min: u8,
    ) -> Option<Result<Unflushed, PoolError>> {
        let (began, id) = (self.witness_of_begin(), put.id);
        let repair = put.purpose == Purpose::Repair;
        let (shunned, asked): (Vec<StoreId>, Vec<StoreId>) = group
            .members
            .iter()
            .partition(|&&member| self.is_shunned(member));
        let mut reason = "members failed a moment ago".to_owned();
        let need = usize::from(copies_min.max(1)).min(group.members.len());
        let too_few = |have: usize, reason: String| PoolError::NotEnoughCopies {
            group: id.group,
            id,
            have,
            need,
            reason,
        };
        if asked.len() < need {
            // Too few could take it: no copies that nobody will ever refer to.
            return Some(Err(too_few(0, reason)));
        }
        let mut missing = shunned;
        let told = self.tell_each(&asked, put, &missing).await;
        if any_stale(&told) {
            return None;
        }
        let (mut have, mut unflushed) = (Vec::new(), Unflushed::default());
        for (&member, told) in asked.iter().zip(told) {
            match told {
                Told::Done(session) => {
                    have.push(member);
                    unflushed.0.entry(member).or_default().extend(session);
                }
                Told::Full => {
                    self.note_room(member, true, false);
                    let (group, store) = (id.group, member);
                    if !repair {
                        return Some(Err(PoolError::Full { group, store }));
                    }
                    // What is made good elsewhere must not wait for this member's space.
                    reason = format!("{store} is full");
                    missing.push(member);
                }
                Told::Failed(why) => {
                    reason = why;
                    missing.push(member);
                }
                Told::Stale => missing.push(member),
            }
        }
        let mut noted = have.len();
        let some_lack_it = missing.len() + asked.len() > group.members.len();
        if noted >= need && some_lack_it && !bug!(self.0.options, ForgetMissing) {
            // Those that have it must know who does not, or the loss would never be repaired.
            let told = self.tell_each(&have, put, &missing).await;
            if any_stale(&told) {
                return None;
            }
            let done = |told: &&Told| matches!(told, Told::Done(_));
            noted = told.iter().filter(done).count();
        }
        if noted < need {
            return Some(Err(too_few(noted, reason)));
        }
        self.bear_witness((id, put.generation), began, &unflushed);
        // What a repair put is durable already.
        Some(Ok(match repair {
            true => Unflushed::default(),
            false => unflushed,
        }))
    }

    /// Puts to each of `members`, saying who lacks the extent.
    async fn tell_each(&self, members: &[StoreId], put: &Put, missing: &[StoreId]) -> Vec<Told> {
        let told = members
            .iter()
            .map(|&member| self.tell(member, put.call(missing.to_vec())));
        join_all(told).await
    }

    /// Makes unflushed copies durable: one flush per store, shared with whoever else flushes it.
    ///
    /// # Errors
    /// [`PoolError::NotFlushed`] when a store that took a put does not flush, or may have lost the put since:
    /// put again what is not known durable.
    pub async fn flush(&self, unflushed: &Unflushed) -> Result<(), PoolError> {
        let stores: Vec<StoreId> = unflushed.0.keys().copied().collect();
        let told = stores
            .iter()
            .map(|&store| self.tell(store, StoreRequest::FlushExtents.into()));
        for (&store, told) in stores.iter().zip(join_all(told).await) {
            let sessions = &unflushed.0[&store];
            let reason = match told {
                Told::Done(Some(session)) if sessions.iter().all(|&put| put == session) => continue,
                Told::Done(_) => "it was restarted between the put and the flush".to_owned(),
                Told::Full | Told::Stale => "it has no space".to_owned(),
                Told::Failed(reason) => reason,
            };
            return Err(PoolError::NotFlushed { store, reason });
        }
        Ok(())
    }

    /// Reads an extent from a member that has it and puts it durably on all: for copies that may have been
    /// lost before they were flushed.
    ///
    /// # Errors
    /// [`PoolError::Absent`] when every member answered and none has it, [`PoolError::Unreachable`], and those
    /// of [`Pool::put`].
    pub async fn secure(&self, id: ExtentId, copies_min: u8) -> Result<(), PoolError> {
        let group = self
            .group(id.group)
            .ok_or(PoolError::NoGroup { copies: 0 })?;
        let mut silent = None;
        for &member in group.members.iter().chain(&group.former) {
            match self
                .call(member, StoreRequest::ReadExtent { id }.into())
                .await
            {
                Ok((StoreReply::Extent { form, .. }, sealed)) => {
                    return self
                        .put(id, sealed, form, Purpose::Repair, copies_min)
                        .await
                        .map(drop);
                }
                Err(CallError::Refused {
                    error: StoreError::Absent,
                    ..
                }) => {}
                Ok((other, _)) => silent = Some(format!("{member} answered {other:?}")),
                Err(error) => silent = Some(error.to_string()),
            }
        }
        match silent {
            Some(reason) => Err(PoolError::Unreachable { id, reason }),
            None => Err(PoolError::Absent { id }),
        }
    }

    /// Deletes extents of one group on every member that answers; the others learn it from tombstones.
    ///
    /// # Errors
    /// [`PoolError::NotEnoughCopies`] when no member answers.
    pub async fn delete(&self, group: GroupId, ids: Vec<ExtentId>) -> Result<(), PoolError> {
        let Some(row) = self.group(group) else {
            return Err(PoolError::NoGroup { copies: 0 });
        };
        let generation = row.generation;
        let request = StoreRequest::DeleteExtents {
            group,
            generation,
            ids: ids.clone(),
        };
        self.tell_all(&row, &request, ids.first().copied().unwrap_or_default())
            .await
    }

    /// Rewrites an extent as `form` without its dead blocks, on every member that answers. Members compute
    /// the same bytes; one that is absent keeps the older form, which reads as well.
    ///
    /// # Errors
    /// [`PoolError::NotEnoughCopies`] when no member answers.
    pub async fn compact(&self, id: ExtentId, form: u32, live: Vec<u8>) -> Result<(), PoolError> {
        let Some(row) = self.group(id.group) else {
            return Err(PoolError::NoGroup { copies: 0 });
        };
        let request = StoreRequest::CompactExtent {
            id,
            generation: row.generation,
            form,
            live,
        };
        self.tell_all(&row, &request, id).await
    }

    async fn tell_all(
        &self,
        row: &GroupRow,
        request: &StoreRequest,
        id: ExtentId,
    ) -> Result<(), PoolError> {
        let told = row
            .members
            .iter()
            .map(|&member| self.tell(member, request.clone().into()));
        let told = join_all(told).await;
        let stale = any_stale(&told);
        if !stale && told.iter().any(|told| matches!(told, Told::Done(_))) {
            return Ok(());
        }
        if stale {
            self.0.outdated.notify_all();
        }
        let reason = told.into_iter().find_map(|told| match told {
            Told::Failed(reason) => Some(reason),
            Told::Stale => Some("its members have changed".to_owned()),
            Told::Done(_) | Told::Full => None,
        });
        let reason = reason.unwrap_or_else(|| "no space to rewrite it".to_owned());
        Err(PoolError::NotEnoughCopies {
            group: row.id,
            id,
            have: 0,
            need: 1,
            reason,
        })
    }

    /// Extents of a group after `after`, merged over the members that answer, at most `limit`; whether more
    /// follow. An extent is listed with its newest form, and with what all of its copies occupy on members that answer.
    ///
    /// # Errors
    /// [`PoolError::NotEnoughCopies`] when a member does not answer: a listing for collection must be whole.
    pub async fn list(
        &self,
        group: GroupId,
        after: Option<ExtentId>,
        limit: u32,
    ) -> Result<(Vec<Listed>, bool), PoolError> {
        let Some(row) = self.group(group) else {
            return Err(PoolError::NoGroup { copies: 0 });
        };
        let request = StoreRequest::ListExtents {
            group,
            generation: row.generation,
            after,
            limit,
            tombstones: false,
        };
        let pages = row
            .members
            .iter()
            .map(|&member| self.call(member, request.clone().into()));
        let mut merged: BTreeMap<ExtentId, Listed> = BTreeMap::new();
        let (mut answered, mut more, mut upto) = (0, false, None::<ExtentId>);
        for (&member, page) in row.members.iter().zip(join_all(pages).await) {
            if is_stale(&page) {
                self.0.outdated.notify_all();
                answered = 0;
                break;
            }
            let Ok((
                StoreReply::Extents {
                    extents,
                    more: page_more,
                },
                _,
            )) = page
            else {
                continue;
            };
            answered += 1;
            if page_more && let Some(last) = extents.last() {
                more = true;
                upto = Some(upto.map_or(last.id, |upto| upto.min(last.id)));
            }
            for info in extents {
                Listed::merge(&mut merged, member, info);
            }
        }
        if answered == 0 {
            let (id, reason) = (
                ExtentId::default(),
                "no member answers, or they have changed".to_owned(),
            );
            return Err(PoolError::NotEnoughCopies {
                group,
                id,
                have: 0,
                need: 1,
                reason,
            });
        }
        let within = |id: &ExtentId| upto.is_none_or(|upto| *id <= upto);
        Ok((
            merged
                .into_values()
                .filter(|listed| within(&listed.info.id))
                .collect(),
            more,
        ))
    }
}

/// An extent as the members of its group list it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its newest form.
    pub info: ExtentInfo,
    /// Bytes that each of its copies occupies, and where.
    pub copies: Vec<(StoreId, u64)>,
}

impl Listed {
    /// Bytes that all copies occupy.
    #[must_use]
    pub fn occupied(&self) -> u64 {
        self.copies.iter().map(|(_, bytes)| bytes).sum()
    }

    fn merge(merged: &mut BTreeMap<ExtentId, Self>, member: StoreId, info: ExtentInfo) {
        let copy = (member, occupied_by(info.bytes));
        match merged.get_mut(&info.id) {
            None => {
                let copies = vec![copy];
                merged.insert(info.id, Self { info, copies });
            }
            Some(known) => {
                known.copies.push(copy);
                if known.info.form < info.form {
                    known.info = info;
                }
            }
        }
    }
}

fn any_stale(told: &[Told]) -> bool {
    told.iter().any(|told| matches!(told, Told::Stale))
}

/// Whether a store refused because it promised a newer generation.
pub(crate) fn is_stale<T>(answer: &Result<T, CallError>) -> bool {
    matches!(
        answer,
        Err(CallError::Refused {
            error: StoreError::StaleGeneration { .. },
            ..
        })
    )
}
