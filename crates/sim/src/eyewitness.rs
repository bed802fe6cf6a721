//! What is acknowledged, judged at that very moment and from outside of all hosts.
//!
//! Builds for the simulator call back where a flush, a durable write (invariant 2) or a put (invariant 5) is acknowledged. What a
//! replica has on its device is read from there (`store::Witness`), not asked of the store.

use crate::bay::SimBay;
use crate::cluster::rows;
use bytes::Bytes;
use catalog::{GroupRow, SegmentRow, VolumeRow};
use catalog_kv::memory::MemoryKv;
use group::Acknowledged;
use node::Host;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::{Rc, Weak};
use store::{Copy, DiskView, Reached, Store, Witness};
use vocab::{Epoch, Generation, GroupId, Incarnation, Position, SegmentId, StoreId, VolumeId};
use volume::{Volume, Watch};
use wire::Trust;
use world_sim::SimDisk;

/// Where a node is while it runs.
type Running = Rc<RefCell<Option<Rc<Host>>>>;

/// A node as it is seen from outside.
struct Seen {
    running: Running,
    bay: SimBay,
}

/// A replica of a segment in one life of its store.
type Replica = (StoreId, Incarnation, VolumeId, SegmentId, Epoch);

/// A store in one run, in a group.
type Member = (StoreId, u64, GroupId);

/// When each generation was first seen to be promised.
type Promises = BTreeMap<Generation, u64>;

/// Sees all nodes and the catalog, and what was wrong with what they acknowledged.
pub struct Eyewitness {
    nodes: Vec<Seen>,
    catalog: RefCell<MemoryKv>,
    /// Whether disks may damage or forget what was on them.
    lies: bool,
    journals: RefCell<BTreeMap<StoreId, Witness>>,
    /// How far each replica had acknowledged its segment.
    acknowledged: RefCell<BTreeMap<Replica, Position>>,
    /// Counts looks and puts.
    moment: Cell<u64>,
    /// The moments at which a store, in one run, was first seen to have promised a generation of a group.
    promised: RefCell<BTreeMap<Member, Promises>>,
    found: RefCell<Option<String>>,
}

/// The disk of a store's journal.
struct Outside(SimDisk);

impl DiskView for Outside {
    fn durable(&self, offset: u64, len: usize) -> Bytes {
        self.0.peek_durable(offset, len)
    }

    fn is_durable(&self, offset: u64, len: usize) -> bool {
        self.0.is_durable(offset, len)
    }
}

/// What nodes hold of it.
#[derive(Clone)]
struct Called(Weak<Eyewitness>);

impl Called {
    fn judge(&self, judge: impl Fn(&Eyewitness) -> Result<(), String>) {
        if let Some(witness) = self.0.upgrade()
            && let Err(what) = judge(&witness)
        {
            witness.found.borrow_mut().get_or_insert(what);
        }
    }
}

impl Watch for Called {
    fn on_durable(&self, volume: VolumeId, epoch: Epoch, position: Position) {
        self.judge(|witness| {
            let mut owned = witness.owned(volume, epoch);
            owned.try_for_each(|owned| witness.is_durable_everywhere(&owned, position))
        });
    }

    fn on_trim(&self, volume: VolumeId, epoch: Epoch, root: Position) {
        self.judge(|witness| {
            let mut owned = witness.owned(volume, epoch);
            owned.try_for_each(|owned| witness.root_is_found(&owned, root))
        });
    }

    fn on_taken(&self, _: VolumeId, _: Epoch) {}
}

impl group::Watch for Called {
    fn on_put_begins(&self) -> u64 {
        self.0.upgrade().map_or(0, |witness| witness.next_moment())
    }

    fn on_put(&self, put: &Acknowledged) {
        self.judge(|witness| {
            witness.none_took_what_it_had_refused(put)?;
            witness.put_everywhere(put)
        });
    }
}

impl Eyewitness {
    /// Of these nodes: the place of the running one, and its disks.
    pub fn new(nodes: Vec<(Running, SimBay)>, catalog: MemoryKv, lies: bool) -> Rc<Self> {
        let seen = |(running, bay)| Seen { running, bay };
        Rc::new(Self {
            nodes: nodes.into_iter().map(seen).collect(),
            catalog: RefCell::new(catalog),
            lies,
            journals: RefCell::default(),
            acknowledged: RefCell::default(),
            moment: Cell::new(0),
            promised: RefCell::default(),
            found: RefCell::default(),
        })
    }

    /// Another catalog takes the place of the one that was seen.
    pub fn set_catalog(&self, catalog: MemoryKv) {
        *self.catalog.borrow_mut() = catalog;
    }

    /// Nodes call it from now on. They do not keep it.
    pub fn attend(self: &Rc<Self>, options: &mut node::HostOptions) {
        let called = Called(Rc::downgrade(self));
        options.volume.witness = Some(volume::Witness(Rc::new(called.clone())));
        options.pool.witness = Some(group::Witness(Rc::new(called)));
    }

    /// Whether everything that was acknowledged was so, and is.
    ///
    /// # Errors
    /// What was not.
    pub fn look(&self) -> Result<(), String> {
        if let Some(what) = self.found.borrow().clone() {
            return Err(what);
        }
        for volume in self.hosts().flat_map(|host| host.volumes()) {
            let log = volume.status().log;
            self.is_durable_everywhere(&volume, log.flushed)?;
            self.none_calls_more_flushed(&volume, log.flush_asked)?;
            self.note_acknowledged(&volume);
        }
        self.note_promised();
        self.trusted_ones_lack_nothing()
    }

    fn next_moment(&self) -> u64 {
        self.moment.set(self.moment.get() + 1);
        self.moment.get()
    }

    fn note_promised(&self) {
        let now = self.next_moment();
        let groups = rows::<GroupRow>(&self.catalog.borrow());
        let mut promised = self.promised.borrow_mut();
        for store in self.hosts().flat_map(|host| host.stores()) {
            for group in &groups {
                let key = (store.id(), store.inspect_run(), group.id);
                let generation = store.inspect_generation(group.id);
                promised
                    .entry(key)
                    .or_default()
                    .entry(generation)
                    .or_insert(now);
            }
        }
    }

    /// What is put with an older generation than a store has promised is refused by it: a new member has listed it by then.
    fn none_took_what_it_had_refused(&self, put: &Acknowledged) -> Result<(), String> {
        let promised = self.promised.borrow();
        let taken = put.taken.iter();
        for (store, run) in taken.flat_map(|(store, runs)| runs.iter().map(move |run| (store, run)))
        {
            let seen = promised.get(&(*store, *run, put.id.group));
            let mut newer = seen
                .iter()
                .flat_map(|seen| seen.range(put.generation.next()..));
            if let Some((promised, _)) = newer.find(|&(_, &since)| since < put.began) {
                return Err(format!(
                    "{store} took {} with {:?} of its group, and had promised {promised:?} before it was put",
                    put.id, put.generation
                ));
            }
        }
        Ok(())
    }

    fn note_acknowledged(&self, volume: &Volume) {
        let log = volume.status().log;
        let row = self.row(volume);
        let segments = row.iter().flat_map(|row| &row.segments);
        let mut acknowledged = self.acknowledged.borrow_mut();
        for segment in segments.filter(|segment| segment.id == log.segment) {
            for replica in &segment.replicas {
                let progress = log.progress.iter();
                let written = progress.filter(|(store, ..)| *store == replica.store);
                let (store, life) = (replica.store, replica.incarnation);
                let key = (store, life, volume.id(), segment.id, segment.epoch);
                for (_, written, ..) in written.filter(|(_, written, ..)| *written >= segment.start)
                {
                    let known = acknowledged.entry(key).or_default();
                    *known = (*known).max(*written);
                }
            }
        }
    }

    /// What a takeover believes: a store that calls itself trusted has all that it acknowledged. Where disks lie it cannot know.
    fn trusted_ones_lack_nothing(&self) -> Result<(), String> {
        if self.lies {
            return Ok(());
        }
        let acknowledged = self.acknowledged.borrow();
        let stores = self.hosts().flat_map(|host| host.stores());
        for store in stores.filter(|store| store.status().trust == Trust::Trusted) {
            let (id, life) = (store.id(), store.incarnation());
            let ours = acknowledged.iter();
            for (&(_, _, volume, segment, epoch), &written) in
                ours.filter(|((of, in_life, ..), _)| (*of, *in_life) == (id, life))
            {
                let tails = store.inspect_log(volume).into_iter();
                let mut same = tails.filter(|tail| (tail.segment, tail.epoch) == (segment, epoch));
                if let Some(tail) = same.find(|tail| tail.last < written) {
                    return Err(format!(
                        "{id} calls itself trusted, acknowledged {segment} of {volume} up to {written}, and has it up to {}",
                        tail.last
                    ));
                }
            }
        }
        Ok(())
    }

    fn hosts(&self) -> impl Iterator<Item = Rc<Host>> {
        let hosts = self.nodes.iter();
        hosts.filter_map(|node| node.running.borrow().clone())
    }

    /// A store that runs and has not failed, with its disks.
    fn store(&self, id: StoreId) -> Option<(Store, SimDisk)> {
        let mut found = self.nodes.iter().filter_map(|node| {
            let host = node.running.borrow().clone()?;
            let store = host.stores().into_iter().find(|store| store.id() == id)?;
            let disks = node
                .bay
                .stores()
                .into_iter()
                .find(|(kept, _)| *kept == id)?;
            let journal = disks.1.first()?.clone();
            store.status().failed.is_none().then_some((store, journal))
        });
        found.next()
    }

    /// The owner of a term, as long as no newer one is in the catalog.
    fn owned(&self, id: VolumeId, epoch: Epoch) -> impl Iterator<Item = Rc<Volume>> {
        let volumes = self.hosts().flat_map(|host| host.volumes());
        volumes.filter(move |volume| (volume.id(), volume.epoch()) == (id, epoch))
    }

    /// The row of a volume; none when a newer owner may have taken its log from this one.
    fn row(&self, volume: &Volume) -> Option<VolumeRow> {
        let mut rows = rows::<VolumeRow>(&self.catalog.borrow()).into_iter();
        rows.find(|row| row.id == volume.id() && row.epoch == volume.epoch())
    }

    /// No log is trimmed above a root that a takeover finds: in the catalog, or in a checkpoint record that is flushed.
    fn root_is_found(&self, volume: &Volume, root: Position) -> Result<(), String> {
        let Some(row) = self.row(volume) else {
            return Ok(());
        };
        if row.root.position >= root {
            return Ok(());
        }
        let replicas = row.segments.iter().flat_map(|segment| &segment.replicas);
        let mut newest = Position::ZERO;
        for replica in replicas {
            let store = self.store(replica.store).map(|(store, _)| store);
            let Some(store) = store.filter(|store| store.incarnation() == replica.incarnation)
            else {
                // It may be the one that has it.
                return Ok(());
            };
            newest = newest.max(store.inspect_checkpoint(volume.id()).unwrap_or_default());
        }
        if newest > root && volume.status().log.flushed > root {
            return Ok(());
        }
        Err(format!(
            "{} lets go of its log up to {root}, and a takeover would begin at {}",
            volume.name(),
            row.root.position
        ))
    }

    /// A recovery believes references up to where a replica calls itself flushed.
    fn none_calls_more_flushed(&self, volume: &Volume, asked: Position) -> Result<(), String> {
        for store in self.hosts().flat_map(|host| host.stores()) {
            let tails = store.inspect_log(volume.id()).into_iter();
            for tail in tails.filter(|tail| tail.epoch == volume.epoch()) {
                if tail.flushed > asked {
                    return Err(format!(
                        "{} calls {} flushed through {}, and its owner had it flushed through {asked}",
                        store.id(),
                        volume.name(),
                        tail.flushed
                    ));
                }
            }
        }
        Ok(())
    }

    /// Invariant 2: what counts as flushed is on the device of every replica of the open segment, and of each closed one that is
    /// not drained on one at least: an owner closes a segment when a replica of it has failed.
    fn is_durable_everywhere(&self, volume: &Volume, flushed: Position) -> Result<(), String> {
        let status = volume.status();
        if flushed <= status.root.position {
            return Ok(());
        }
        let Some(row) = self.row(volume) else {
            return Ok(());
        };
        for segment in &row.segments {
            let through = segment.end.map_or(flushed, |end| {
                flushed.min(Position(end.0.saturating_sub(1)))
            });
            if through < segment.start || through <= status.root.position {
                continue;
            }
            let lacking = self.lacking(volume.id(), segment, through);
            let is_open = segment.id == status.log.segment;
            let enough = match is_open {
                true => lacking.is_empty(),
                false => lacking.len() < segment.replicas.len(),
            };
            if !enough {
                let (name, id) = (volume.name(), segment.id);
                return Err(format!(
                    "{name} is flushed through {through}, and of {id} a loss of power would leave: {}",
                    lacking.join(", ")
                ));
            }
        }
        Ok(())
    }

    /// Replicas of which a loss of power would leave less, with what it would.
    fn lacking(&self, volume: VolumeId, segment: &SegmentRow, through: Position) -> Vec<String> {
        let mut lacking = Vec::new();
        for replica in &segment.replicas {
            let Some((store, disk)) = self.store(replica.store) else {
                // What is on the disks of one that does not run is read when it does.
                continue;
            };
            if store.incarnation() != replica.incarnation {
                continue;
            }
            match self.reached(&store, disk, volume, segment) {
                Some(reached) if reached.last >= through => {}
                // Nothing tells a store that its disk has lost the end of the journal.
                Some(reached) if self.lies && !reached.in_this_run => {}
                Some(reached) => lacking.push(format!("{} on {}", reached.last, store.id())),
                None => lacking.push(format!("nothing on {}", store.id())),
            }
        }
        lacking
    }

    fn reached(
        &self,
        store: &Store,
        disk: SimDisk,
        volume: VolumeId,
        segment: &SegmentRow,
    ) -> Option<Reached> {
        let mut journals = self.journals.borrow_mut();
        let witness = journals.entry(store.id());
        let witness = witness.or_insert_with(|| Witness::of(store));
        if !witness.is_of(store) {
            *witness = Witness::of(store);
        }
        witness.follow(store, &Outside(disk));
        witness.reached(volume, segment.id, segment.epoch)
    }

    /// Invariant 5: every member that lacks an acknowledged extent is named by one that has it, or is being filled. What only former
    /// members took, or such that come back, was put where one copy is enough: they hand it over before they leave, or are listed.
    fn put_everywhere(&self, put: &Acknowledged) -> Result<(), String> {
        let rows = rows::<GroupRow>(&self.catalog.borrow());
        let Some(row) = rows.iter().find(|row| row.id == put.id.group) else {
            return Ok(());
        };
        let copies = row.members.iter().chain(&row.former);
        let copies = copies.filter_map(|&member| Some((member, self.store(member)?.0)));
        let copies: BTreeMap<StoreId, Store> = copies.collect();
        // What a store took may be gone with its run, and its word on who lacks it: the flush finds that out, and it is put again.
        let still_runs = |(id, runs): &(StoreId, Vec<u64>)| {
            let store = copies.get(id);
            store.is_some_and(|store| runs.iter().all(|&run| run == store.inspect_run()))
        };
        if !put.taken.iter().all(still_runs) {
            return Ok(());
        }
        let named = |member: StoreId| {
            copies
                .values()
                .any(|store| match store.inspect_copy(put.id) {
                    Copy::Held { missing } => missing.contains(&member),
                    Copy::Absent | Copy::Deleted => false,
                })
        };
        let took = |id: &StoreId| put.taken.iter().any(|(taker, _)| taker == id);
        let complete = row.members.iter().filter(|id| !row.filling.contains(id));
        if !complete.clone().any(took) {
            return Ok(());
        }
        for &member in complete {
            let Some(store) = copies.get(&member) else {
                continue;
            };
            if store.inspect_copy(put.id) == Copy::Absent && !named(member) {
                return Err(format!(
                    "{} is acknowledged, and {member} of {row:?} lacks it without a word; it was taken by {:?}",
                    put.id, put.taken
                ));
            }
        }
        Ok(())
    }
}
