//! Gathering free space: extents of any size come and go until what is free lies in pieces that nothing fits into.
//!
//! The largest free run of a disk walks: the extents between it and the nearest other free run are written again at its
//! far end, and the space they leave joins both. As a run for the largest extent is always left free on a disk (see
//! `space.rs`), any extent can be moved, so that all free space of a disk can become one run.
//!
//! An extent is moved as one that is rewritten: bytes, flush, redo entry, and the old place is used again only when that
//! entry is flushed. A crash at any point leaves one whole copy that the index names.

use crate::GRANULE_BYTES;
use crate::extents::KEEP_BYTES;
use crate::space::Gap;
use crate::state::{Extent, Meta, Run};
use crate::store::Store;
use bytes::Bytes;
use futures_util::future::join_all;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::ops::Bound;
use vocab::ExtentId;
use wire::StoreError;
use world::sync::Notify;
use world::{Duration, Time};

/// What is being gathered.
#[derive(Default)]
pub(crate) struct Gathering {
    /// Granules in one run that are wanted; 0: nothing is.
    wanted: Cell<u32>,
    /// Nothing more could be moved: until then it is not tried again.
    pub rests_until: Cell<Time>,
    ended: Notify,
}

/// A disk is rewritten so many times at most for what is wanted now.
const PASSES_MAX: u64 = 4;
/// Extents looked at before others get a turn.
const LOOK_MAX: usize = 4096;

/// Pause after everything that could be moved was, in vain: damaged extents that wait for their repair are in the way, for instance.
const REST: Duration = Duration::from_secs(5);

/// Extents of one disk by their first granule.
type Places = BTreeMap<u32, (ExtentId, u32)>;

/// An extent on its way to another place of its disk.
struct Move {
    id: ExtentId,
    form: u32,
    bytes: u32,
    from: Run,
    to: Run,
}

impl Move {
    /// Whether the extent is what and where it was.
    fn is_of(&self, held: &Extent) -> bool {
        (held.run(), held.form, held.bytes) == (self.from, self.form, self.bytes)
    }
}

impl Store {
    /// Waits until a run of so many granules can be had, or nothing more can be gathered. The work goes on without the
    /// caller, for all that wait.
    pub(crate) async fn gather(&self, granules: u32) {
        let done = self.0.gathering.ended.notified();
        let wanted = &self.0.gathering.wanted;
        let idle = wanted.get() == 0;
        wanted.set(wanted.get().max(granules));
        if idle {
            let store = self.clone();
            self.0.world.spawn(async move {
                // A store that fails says so to the next request.
                let gathered = store.gather_all().await;
                if matches!(gathered, Ok(false)) {
                    let rests_until = store.0.world.now() + REST;
                    store.0.gathering.rests_until.set(rests_until);
                }
                store.0.gathering.wanted.set(0);
                store.0.gathering.ended.notify_all();
            });
        }
        done.await;
    }

    /// Whether extents are moved now.
    #[cfg(test)]
    pub(crate) fn is_gathering(&self) -> bool {
        self.0.gathering.wanted.get() > 0
    }

    /// Whether what is wanted is there now.
    async fn gather_all(&self) -> Result<bool, StoreError> {
        let wanted = self.0.gathering.wanted.get();
        let disks = self.0.space.borrow().disks_to_gather(wanted);
        for disk in disks {
            if self.gather_on(disk).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn gather_on(&self, disk: u8) -> Result<bool, StoreError> {
        let mut places = self.places(disk).await;
        let mut just_looked = true;
        let (mut pieces, granules) = self.0.space.borrow().pieces(disk);
        let mut budget = u64::from(granules) * PASSES_MAX;
        // Sides of the largest run on which something cannot be moved: to come back to one would be to walk to and fro.
        let mut blocked = [false; 2];
        loop {
            let wanted = self.0.gathering.wanted.get();
            if self.0.space.borrow().has_run(disk, wanted) {
                return Ok(true);
            }
            if !self.0.space.borrow().can_gather_on(disk, wanted) || budget == 0 {
                return Ok(false);
            }
            self.check_alive()?;
            self.durable(self.0.journal.formed_ticket()).await?;
            self.reclaim();
            let before = std::mem::replace(&mut pieces, self.0.space.borrow().pieces(disk).0);
            if pieces < before {
                blocked = [false; 2];
            }
            let mut gaps = self.0.space.borrow().gaps(disk);
            gaps.retain(|gap| !blocked[usize::from(gap.is_before)]);
            let mut moved = 0;
            for gap in gaps {
                moved = self.close_in(disk, &gap, &mut places).await?;
                if moved > 0 {
                    break;
                }
                blocked[usize::from(gap.is_before)] = true;
            }
            budget = budget.saturating_sub(moved);
            match (moved > 0, just_looked) {
                (true, _) => just_looked = false,
                // Others put and delete meanwhile.
                (false, false) => {
                    places = self.places(disk).await;
                    (just_looked, blocked) = (true, [false; 2]);
                }
                (false, true) => return Ok(false),
            }
        }
    }

    /// Where the extents of a disk lie.
    async fn places(&self, disk: u8) -> Places {
        let mut places = Places::new();
        let mut after = Bound::Unbounded;
        loop {
            let last = {
                let state = self.0.state.borrow();
                let part = state
                    .extents
                    .range((after, Bound::Unbounded))
                    .take(LOOK_MAX);
                let mut last = None;
                for (&id, extent) in part {
                    if extent.disk == disk {
                        let run = extent.run();
                        places.insert(run.granule, (id, run.granules));
                    }
                    last = Some(id);
                }
                last
            };
            let Some(last) = last else { return places };
            after = Bound::Excluded(last);
            self.0.world.sleep(Duration::ZERO).await;
        }
    }

    /// Moves extents between the largest free run and another one to the far end of the first, as many as it takes at a
    /// time; how many granules. What is not known there, because it came meanwhile or is damaged, stays in the way.
    async fn close_in(&self, disk: u8, gap: &Gap, places: &mut Places) -> Result<u64, StoreError> {
        self.room().await?;
        let moves = self.moves(disk, gap, places);
        if moves.is_empty() {
            return Ok(0);
        }
        self.0.space.borrow_mut().guard(disk, gap);
        let written = join_all(moves.iter().map(|step| self.write_at(step))).await;
        let flushed = self.flush_disk(usize::from(disk)).await;
        // Nothing may follow the batch that a clean mark names. No await from here to the entries.
        let goes_on = flushed.and_then(|()| self.check_alive());
        let (mut moved, mut ticket) = (0, 0);
        for (step, written) in moves.iter().zip(written) {
            places.remove(&step.from.granule);
            let entry = match matches!(written, Ok(true)) && goes_on.is_ok() {
                true => self.moved(step),
                false => None,
            };
            match entry {
                Some(entry) => {
                    ticket = self.record(&entry);
                    moved += u64::from(step.to.granules);
                    places.insert(step.to.granule, (step.id, step.to.granules));
                }
                None => self.0.space.borrow_mut().release(step.to),
            }
        }
        let durable = match (&goes_on, moved) {
            (Ok(()), 1..) => self.durable(ticket).await,
            _ => goes_on,
        };
        self.reclaim();
        self.0.space.borrow_mut().unguard(disk);
        durable.map(|()| moved)
    }

    /// The extents next to the largest free run, with their new places, which are taken. No await: what is free is so.
    fn moves(&self, disk: u8, gap: &Gap, places: &Places) -> Vec<Move> {
        let mut space = self.0.space.borrow_mut();
        let state = self.0.state.borrow();
        let (mut edge, mut target) = gap.start();
        let mut moves = Vec::new();
        loop {
            let place = match gap.is_before {
                true => places.range(..edge).next_back(),
                false => places.range(edge..).next(),
            };
            let Some((&granule, &(id, granules))) = place else {
                break;
            };
            let from = Run {
                disk,
                granule,
                granules,
            };
            let held = { state.extents.get(&id) }
                .filter(|held| held.run() == from && !self.0.bad.borrow().contains(&id));
            let Some((held, (next, to))) = held.zip(gap.step(edge, target, from)) else {
                break;
            };
            if !space.occupy(to) {
                break;
            }
            let (form, bytes) = (held.form, held.bytes);
            moves.push(Move {
                id,
                form,
                bytes,
                from,
                to,
            });
            (edge, target) = next;
        }
        moves
    }

    /// Writes an extent's bytes to its new place, not flushed; `false` when it is damaged or gone.
    async fn write_at(&self, step: &Move) -> Result<bool, StoreError> {
        let Ok((held, sealed)) = self.read_sealed(step.id).await else {
            return Ok(false);
        };
        if !step.is_of(&held) {
            return Ok(false);
        }
        self.write_run(step.to, sealed).await?;
        Ok(true)
    }

    /// Writes sealed bytes into a run that was allocated for them.
    pub(crate) async fn write_run(&self, run: Run, sealed: Bytes) -> Result<(), StoreError> {
        let (disk, bytes) = (usize::from(run.disk), sealed.len());
        debug_assert!(bytes as u64 <= u64::from(run.granules) * GRANULE_BYTES);
        let write = self.0.disks[disk].write(self.address(run), sealed);
        write.await.map_err(|error| self.fail(&error))?;
        self.check_alive()?;
        let progress = &self.0.progress[disk];
        progress.written.set(progress.written.get() + 1);
        let written = &self.0.extent_bytes_written;
        written.set(written.get() + bytes as u64);
        Ok(())
    }

    /// The redo entry of a move, unless the extent was deleted or rewritten meanwhile.
    fn moved(&self, step: &Move) -> Option<Meta> {
        let held = self.find(step.id).ok()?;
        if !step.is_of(&held) {
            return None;
        }
        let extent = Extent {
            granule: step.to.granule,
            ..held
        };
        self.grow_state(KEEP_BYTES);
        self.0.keeps.set(self.0.keeps.get() + 1);
        self.0.cache.borrow_mut().remove(step.id);
        Some(Meta::Keep(step.id, extent, true))
    }
}
