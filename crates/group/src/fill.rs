//! Giving a member what it lacks: one extent after a bad read, or everything it missed while it was away or was no
//! member yet; and seeing that a former member holds nothing that members lack.
//!
//! A member lists others only after they have promised the group's present generation: what is put with an older one
//! is refused by them from then on, so that no list misses it.

use crate::options::bug;
use crate::pool::{Pool, PoolError, is_stale};
use bytes::Bytes;
use catalog::GroupRow;
use futures_util::future::join_all;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use vocab::{ExtentId, StoreId};
use wire::{CallError, ExtentInfo, StoreCall, StoreError, StoreReply, StoreRequest};
use world::Duration;

/// Longest rest after an extent: what took long may have waited for something else.
const REST_MAX: Duration = Duration::from_secs(2);
/// Extents copied at a time while nobody is disturbed: one is read while another is written and a third is flushed.
const LANES: usize = 4;
/// How long a lane waits before it looks whether fills may have all of the time again.
const LANE_PAUSE: Duration = Duration::from_millis(100);
/// A read that waits for its turn may take this many times as long as others.
const TURN_PATIENCE: u32 = 2;
/// Entries of a listing read at a time.
const LIST_LIMIT: u32 = 1000;

/// All of the time.
pub(crate) const SHARE_FULL: u32 = 1000;

/// What a fill did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FillReport {
    /// Extents copied to the member.
    pub copied: u64,
    /// Bytes copied.
    pub bytes: u64,
    /// Extents the member had and that were deleted while it was away.
    pub deleted: u64,
    /// Extents that no other member could give.
    pub failed: u64,
    /// Members that did not answer: the fill must be repeated when they do.
    pub silent: u64,
}

impl FillReport {
    /// Whether the member has everything now.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.silent == 0 && self.failed == 0
    }

    /// Adds what another fill did.
    pub fn add(&mut self, other: &FillReport) {
        self.copied += other.copied;
        self.bytes += other.bytes;
        self.deleted += other.deleted;
        self.failed += other.failed;
        self.silent += other.silent;
    }
}

/// What a store holds of a group.
type Listing = BTreeMap<ExtentId, ExtentInfo>;

impl Pool {
    /// Copies one extent to `member` from another member that has a good copy. Durable when it returns.
    ///
    /// # Errors
    /// [`PoolError::Unreachable`] when no other member can give it.
    pub async fn repair(&self, member: StoreId, id: ExtentId) -> Result<u64, PoolError> {
        let group = self
            .group(id.group)
            .ok_or(PoolError::NoGroup { copies: 0 })?;
        // A fill that outlasts the membership would bring a store that has left what nobody deletes there.
        if !group.members.contains(&member) {
            let reason = format!("{member} is no member of {}", group.id);
            return Err(PoolError::Unreachable { id, reason });
        }
        let mut reason = "it is the only member".to_owned();
        let incomplete = group.filling.iter().filter(|&&store| store != member);
        let complete = group.complete().filter(|&store| store != member);
        let sources: Vec<StoreId> = complete.chain(incomplete.copied()).collect();
        for &source in sources.iter().chain(&group.former) {
            match self.read_to_copy(source, id).await {
                Ok((StoreReply::Extent { form, missing }, sealed)) => {
                    let missing = missing
                        .into_iter()
                        .filter(|&store| store != member)
                        .collect();
                    return self.copy(&group, member, id, form, missing, sealed).await;
                }
                Ok((other, _)) => reason = format!("{source} answered {other:?}"),
                Err(error) => reason = error.to_string(),
            }
        }
        Err(PoolError::Unreachable { id, reason })
    }

    /// Reads an extent when the store's node has time for it. A node of the release before does not know the request.
    async fn read_to_copy(
        &self,
        source: StoreId,
        id: ExtentId,
    ) -> Result<(StoreReply, Bytes), CallError> {
        let patience = self.0.options.patience * TURN_PATIENCE;
        let request = StoreRequest::CopyExtent { id };
        match self.call_within(source, request.into(), patience).await {
            Err(CallError::Unreachable { .. }) => {
                let request = StoreRequest::ReadExtent { id };
                self.call(source, request.into()).await
            }
            answer => answer,
        }
    }

    async fn copy(
        &self,
        group: &GroupRow,
        member: StoreId,
        id: ExtentId,
        form: u32,
        missing: Vec<StoreId>,
        sealed: Bytes,
    ) -> Result<u64, PoolError> {
        let bytes = sealed.len() as u64;
        let generation = group.generation;
        let request = StoreRequest::PutExtent {
            id,
            generation,
            form,
            durable: true,
            reserved: true,
            missing,
        };
        let unreachable = |reason: String| PoolError::Unreachable { id, reason };
        match self
            .call(
                member,
                StoreCall {
                    request,
                    body: vec![sealed],
                },
            )
            .await
        {
            Ok((StoreReply::Kept { .. } | StoreReply::Done, _)) => {}
            Ok((other, _)) => return Err(unreachable(format!("{member} answered {other:?}"))),
            Err(error) => return Err(unreachable(error.to_string())),
        }
        let others = group.members.iter().filter(|&&other| other != member);
        let cleared = others.map(|&other| {
            let request = StoreRequest::ClearMissing {
                group: group.id,
                store: member,
                ids: vec![id],
            };
            self.call(other, request.into())
        });
        // A member that does not hear it repeats the work once, harmlessly.
        join_all(cleared).await;
        Ok(bytes)
    }

    async fn listing(&self, store: StoreId, group: &GroupRow) -> Option<Listing> {
        let mut listing = Listing::new();
        let mut after = None;
        loop {
            let request = StoreRequest::ListExtents {
                group: group.id,
                generation: group.generation,
                after,
                limit: LIST_LIMIT,
                tombstones: true,
            };
            let Ok((StoreReply::Extents { extents, more }, _)) =
                self.call(store, request.into()).await
            else {
                return None;
            };
            after = extents.last().map(|info| info.id).or(after);
            let empty = extents.is_empty();
            listing.extend(extents.into_iter().map(|info| (info.id, info)));
            if !more || empty {
                return Some(listing);
            }
        }
    }
}

/// Listings of others than the store that wants to know.
struct Others {
    /// Of members.
    members: Vec<(StoreId, Listing)>,
    /// Of former members.
    former: Vec<(StoreId, Listing)>,
    /// How many that were needed did not answer.
    silent: u64,
}

impl Pool {
    /// Fills take this share of the time from now on, in thousandths: after each extent they rest for the remainder.
    pub fn set_fill_share(&self, share: u32) {
        self.0.fill_share.set(share.clamp(1, SHARE_FULL));
    }

    /// Extents that fills have copied so far.
    #[must_use]
    pub fn copied(&self) -> u64 {
        self.0.copied.get()
    }

    async fn rest(&self, took: Duration) {
        let share = self.0.fill_share.get();
        if share < SHARE_FULL {
            let rest = took * (SHARE_FULL - share) / share;
            self.0.world.sleep(rest.min(REST_MAX)).await;
        }
    }

    /// Brings `store` up to date in a group it belongs to: copies what it lacks, deletes what was deleted. Only
    /// differences move. `answers` says which stores are worth asking. Repeat it while the report is not whole.
    pub async fn fill(
        &self,
        store: StoreId,
        group: &GroupRow,
        answers: &dyn Fn(StoreId) -> bool,
    ) -> FillReport {
        let mut report = FillReport::default();
        let changing = !group.filling.is_empty() || !group.former.is_empty();
        if changing && !self.promise(store, group).await {
            report.silent += 1;
            return report;
        }
        let Some(mut own) = self.listing(store, group).await else {
            report.silent += 1;
            return report;
        };
        let others = self.list_others(store, group, answers).await;
        report.silent += others.silent;
        let dead = self
            .delete_the_dead(store, group, &mut own, &others, &mut report)
            .await;
        let lacking = self.lacking(&own, others, &dead);
        self.copy_all(store, lacking, &mut report).await;
        report
    }

    /// What others hold and `own` does not, each once.
    fn lacking(
        &self,
        own: &Listing,
        others: Others,
        dead: &BTreeSet<ExtentId>,
    ) -> VecDeque<ExtentId> {
        let mut lacking = BTreeSet::new();
        let listings = others.members.into_iter().chain(others.former);
        for (id, info) in listings.flat_map(|(_, listing)| listing) {
            // A tombstone is newer knowledge than a copy elsewhere: only the collector makes them.
            let held = own.get(&id);
            let has = held.is_some_and(|held| held.tombstone || held.form >= info.form);
            if info.tombstone || has || dead.contains(&id) {
                continue;
            }
            if bug!(self.0.options, FillInPart) && id.counter.is_multiple_of(3) {
                continue;
            }
            lacking.insert(id);
        }
        lacking.into_iter().collect()
    }

    /// Copies extents to `store`, several at a time while fills have all of the time, else one after the other.
    async fn copy_all(&self, store: StoreId, lacking: VecDeque<ExtentId>, report: &mut FillReport) {
        let lacking = RefCell::new(lacking);
        let next = || lacking.borrow_mut().pop_front();
        let lane = async |number: usize| {
            let mut done = FillReport::default();
            loop {
                if number > 0 && self.0.fill_share.get() < SHARE_FULL {
                    if lacking.borrow().is_empty() {
                        return done;
                    }
                    self.0.world.sleep(LANE_PAUSE).await;
                    continue;
                }
                let Some(id) = next() else {
                    return done;
                };
                let began = self.0.world.now();
                let repaired = self.repair(store, id).await;
                self.rest(self.0.world.now().since(began)).await;
                match repaired {
                    Ok(bytes) => {
                        self.0.copied.set(self.0.copied.get() + 1);
                        done.copied += 1;
                        done.bytes += bytes;
                    }
                    Err(_) => done.failed += 1,
                }
            }
        };
        for done in join_all((0..LANES).map(lane)).await {
            report.add(&done);
        }
    }

    /// Deletes here what members have deleted; returns all of that.
    async fn delete_the_dead(
        &self,
        store: StoreId,
        group: &GroupRow,
        own: &mut Listing,
        others: &Others,
        report: &mut FillReport,
    ) -> BTreeSet<ExtentId> {
        let listed = others.members.iter().flat_map(|(_, listing)| listing);
        let dead = listed.filter(|(_, info)| info.tombstone);
        let dead: BTreeSet<ExtentId> = dead.map(|(&id, _)| id).collect();
        for &id in &dead {
            let held = own.get(&id).is_some_and(|held| !held.tombstone);
            if held && self.delete_at(store, group, id).await {
                report.deleted += 1;
                own.remove(&id);
            }
        }
        dead
    }

    /// What all others hold. Former members are needed only when no member has everything.
    async fn list_others(
        &self,
        store: StoreId,
        group: &GroupRow,
        answers: &dyn Fn(StoreId) -> bool,
    ) -> Others {
        let changing = !group.filling.is_empty() || !group.former.is_empty();
        let ask = async |other: StoreId| {
            if !answers(other) || (changing && !self.promise(other, group).await) {
                return None;
            }
            self.listing(other, group).await
        };
        let listed = async |stores: Vec<StoreId>| {
            let listings = join_all(stores.iter().map(|&other| ask(other))).await;
            stores.into_iter().zip(listings).collect::<Vec<_>>()
        };
        let members = group.members.iter().copied();
        let members = listed(members.filter(|&member| member != store).collect()).await;
        let former = match bug!(self.0.options, ForgetFormer) {
            true => Vec::new(),
            false => group.former.clone(),
        };
        let former = listed(former).await;
        let silent = |listed: &[(StoreId, Option<Listing>)], counts: &dyn Fn(StoreId) -> bool| {
            let silent = listed.iter().filter(|(_, listing)| listing.is_none());
            silent.filter(|(other, _)| counts(*other)).count() as u64
        };
        let complete = |other: StoreId| !group.filling.contains(&other);
        let alone = group.filling.contains(&store) && group.complete().next().is_none();
        let mut missed = silent(&members, &complete);
        if alone {
            missed = silent(&members, &|_| true) + silent(&former, &|_| true);
        }
        let answered = |listed: Vec<(StoreId, Option<Listing>)>| {
            let some = listed.into_iter();
            some.filter_map(|(other, listing)| Some((other, listing?)))
                .collect()
        };
        Others {
            members: answered(members),
            former: answered(former),
            silent: missed,
        }
    }

    /// Has a store promise the group's generation; whether it has.
    async fn promise(&self, store: StoreId, group: &GroupRow) -> bool {
        let (group, generation) = (group.id, group.generation);
        let request = StoreRequest::PromiseGroup { group, generation };
        let answer = self.call(store, request.into()).await;
        if is_stale(&answer) {
            self.newer_soon();
        }
        answer.is_ok()
    }

    /// Empties a former member when every member holds what it holds, and gives them what they lack; whether it is empty.
    /// Repeat it until then.
    pub async fn leave(&self, former: StoreId, group: &GroupRow) -> bool {
        let unfilled = !group.filling.is_empty() && !bug!(self.0.options, LeaveUnchecked);
        // Without a member nobody has what it holds.
        let lonely = group.members.is_empty();
        if unfilled || lonely || !self.promise(former, group).await {
            return false;
        }
        let Some(held) = self.listing(former, group).await else {
            return false;
        };
        let mut listings = Vec::new();
        for &member in &group.members {
            match self.listing(member, group).await {
                Some(listing) => listings.push(listing),
                None => return false,
            }
        }
        // A newer member never heard of what was deleted before it joined.
        let is_dead = |listing: &Listing, id| listing.get(id).is_some_and(|info| info.tombstone);
        let dead = |id| listings.iter().any(|listing| is_dead(listing, id));
        let everywhere = |id| listings.iter().all(|listing| listing.contains_key(id));
        let live = held.values().filter(|info| !info.tombstone);
        let needed: Vec<&ExtentInfo> = live
            .filter(|info| !everywhere(&info.id) && !dead(&info.id))
            .collect();
        if !bug!(self.0.options, LeaveUnchecked) {
            let mut lost = true;
            for info in &needed {
                lost &= !bug!(self.0.options, ForgetFormer)
                    && self.hand_over(former, group, info, &listings).await;
            }
            if !lost {
                return false;
            }
        }
        if bug!(self.0.options, LeaveWithTombstones) {
            for &id in held.keys() {
                self.delete_at(former, group, id).await;
            }
            return true;
        }
        let (group, generation) = (group.id, group.generation);
        let request = StoreRequest::LeaveGroup { group, generation };
        self.call(former, request.into()).await.is_ok()
    }

    /// Members that were complete did not ask a former one: a put that reached it alone is known to nobody else, and the
    /// collector looks at members only. So it gives them what it has. Returns whether there is nothing to give: the copy
    /// is damaged, no member has another, and nobody was told that the put succeeded with fewer.
    async fn hand_over(
        &self,
        former: StoreId,
        group: &GroupRow,
        info: &ExtentInfo,
        listings: &[Listing],
    ) -> bool {
        let request = StoreRequest::ReadExtent { id: info.id };
        let read = self.call(former, request.into()).await;
        let damaged = matches!(
            read,
            Err(CallError::Refused {
                error: StoreError::Damaged { .. },
                ..
            })
        );
        let nowhere = listings.iter().all(|held| !held.contains_key(&info.id));
        if damaged && nowhere && info.missing.is_empty() {
            return true;
        }
        for (&member, held) in group.members.iter().zip(listings) {
            if !held.contains_key(&info.id) {
                // The next round sees whether it arrived.
                let _ = self.repair(member, info.id).await;
            }
        }
        false
    }

    async fn delete_at(&self, store: StoreId, group: &GroupRow, id: ExtentId) -> bool {
        let (group, generation) = (group.id, group.generation);
        let request = StoreRequest::DeleteExtents {
            group,
            generation,
            ids: vec![id],
        };
        self.call(store, request.into()).await.is_ok()
    }
}
