//! The operations on one device and the values that each block may return.

use super::cluster::{Cluster, Value};
use super::image::{Image, Pin, Snapshot, base_admits};
use super::log::Log;
use super::violation::Violation;
use crate::pattern::{self, Content};
use blockdev::WriteMode;
use bytes::Bytes;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;
use vocab::Lba;

/// Values of all blocks that are kept at most: about 100 bytes each.
pub const VALUES_MAX: usize = 1 << 21;

/// An operation that changes the device, in issue order. The version of what a write writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct OpId(pub u64);

impl fmt::Display for OpId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "op-{}", self.0)
    }
}

/// What an operation does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Writes [`History::data`].
    Write {
        /// First block.
        lba: Lba,
        /// Length.
        blocks: u64,
        /// Durability.
        mode: WriteMode,
    },
    /// Unmaps.
    Unmap {
        /// First block.
        lba: Lba,
        /// Length.
        blocks: u64,
    },
    /// Flushes.
    Flush,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Write { lba, blocks, mode } => {
                let fua = if *mode == WriteMode::Fua { "FUA " } else { "" };
                write!(f, "{fua}write of {blocks} at {lba}")
            }
            Self::Unmap { lba, blocks } => write!(f, "unmap of {blocks} at {lba}"),
            Self::Flush => f.write_str("flush"),
        }
    }
}

impl Action {
    fn range(&self) -> std::ops::Range<u64> {
        match self {
            Self::Write { lba, blocks, .. } | Self::Unmap { lba, blocks } => lba.0..lba.0 + blocks,
            Self::Flush => 0..0,
        }
    }
}

/// A read that is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReadId(u64);

/// A snapshot that is being made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CutId(u64);

/// A read or cut under way: it began at its key.
struct Begun {
    lba: Lba,
    blocks: u64,
}

/// What was asked of a device, and what it may answer.
pub struct History {
    seed: u64,
    size: u64,
    now: u64,
    /// Blocks that are not listed hold the base.
    blocks: BTreeMap<u64, Vec<Cluster>>,
    values: usize,
    /// With more values than this, all blocks are pruned.
    crowded: usize,
    base: Option<Snapshot>,
    log: Rc<RefCell<Log>>,
    abandoned: Vec<OpId>,
    /// Reads and cuts under way, by the time they began.
    begun: BTreeMap<u64, Begun>,
    /// The latest issue time of an acknowledged flush.
    flushed: u64,
    crashed: bool,
}

impl History {
    /// Of an empty device of `blocks` blocks, whose writes carry `seed`; seeds of related devices must
    /// differ.
    #[must_use]
    pub fn new(seed: u64, blocks: u64) -> Self {
        Self {
            seed,
            size: blocks,
            now: 1,
            blocks: BTreeMap::new(),
            values: 0,
            crowded: 4096,
            base: None,
            log: Rc::default(),
            abandoned: Vec::new(),
            begun: BTreeMap::new(),
            flushed: 0,
            crashed: false,
        }
    }

    /// Of a clone of `snapshot`, or of a volume that was rolled back to it.
    #[must_use]
    pub fn clone_of(snapshot: &Snapshot, seed: u64, blocks: u64) -> Self {
        Self {
            base: Some(snapshot.clone()),
            ..Self::new(seed, blocks)
        }
    }

    /// Blocks of the device.
    #[must_use]
    pub fn blocks(&self) -> u64 {
        self.size
    }

    /// The device grew; new blocks are zeros.
    pub fn grow(&mut self, blocks: u64) {
        self.size = self.size.max(blocks);
    }

    /// Values kept; what [`VALUES_MAX`] bounds.
    #[must_use]
    pub fn values(&self) -> usize {
        self.values
    }

    fn tick(&mut self) -> u64 {
        assert!(!self.crashed, "after on_crash comes verify_image");
        self.now += 1;
        self.now
    }

    /// An operation begins. Call it before the device hears of it.
    ///
    /// # Panics
    /// When the range is outside of the device, or too many values are kept: flush more often.
    pub fn on_issue(&mut self, action: Action) -> OpId {
        let now = self.tick();
        let range = action.range();
        assert!(range.end <= self.size, "{action} is outside of the device");
        let op = self.log.borrow_mut().begin(action, now);
        let (value, fua) = match action {
            Action::Write { mode, .. } => (Value::Written(op.0), mode == WriteMode::Fua),
            Action::Unmap { .. } => (Value::Zero, false),
            Action::Flush => return op,
        };
        for lba in range {
            let clusters = self.blocks.entry(lba).or_insert_with(|| {
                self.values += 1;
                vec![Cluster::found(Value::Base, 0)]
            });
            clusters.push(Cluster::begun(op, value, now, fua));
            self.values += 1;
        }
        if self.values > self.crowded {
            self.prune_all();
        }
        op
    }

    /// Amortised: the values double between two calls.
    fn prune_all(&mut self) {
        let crowded = self
            .blocks
            .iter()
            .filter(|(_, clusters)| clusters.len() > 1);
        let crowded: Vec<u64> = crowded.map(|(lba, _)| *lba).collect();
        for lba in crowded {
            self.prune(lba);
        }
        let too_many = "too many values kept: flush more often";
        assert!(self.values <= VALUES_MAX, "{too_many}");
        self.crowded = (self.values * 2).max(4096);
    }

    /// What the write `op` must write.
    ///
    /// # Panics
    /// When `op` is not a write under way.
    #[must_use]
    pub fn data(&self, op: OpId) -> Bytes {
        let log = self.log.borrow();
        match log.get(op).map(|op| op.action) {
            Some(Action::Write { lba, blocks, .. }) => {
                let blocks = u32::try_from(blocks).expect("a request's length is 32 bits");
                pattern::fill_run(lba, blocks, op.0, self.seed, 0)
            }
            _ => panic!("{op} is not a write"),
        }
    }

    /// An operation succeeded. Call it as soon as the device said so.
    ///
    /// # Panics
    /// When it is not under way.
    pub fn on_ack(&mut self, op: OpId) {
        let now = self.tick();
        let ended = self.log.borrow_mut().end(op, now, "acked");
        if ended.action == Action::Flush {
            self.flushed = self.flushed.max(ended.issued);
        }
        self.each_cluster(op, ended.action, |cluster| {
            cluster.acked = now;
            cluster.end = cluster.end.min(now);
        });
    }

    /// An operation failed: it has happened, in any part, or never will.
    ///
    /// # Panics
    /// When it is not under way.
    pub fn on_fail(&mut self, op: OpId) {
        let now = self.tick();
        let ended = self.log.borrow_mut().end(op, now, "failed");
        self.each_cluster(op, ended.action, |cluster| {
            cluster.settled = cluster.settled.min(now);
        });
    }

    /// Nobody waits for an operation any more: it may happen until the next takeover or crash.
    ///
    /// # Panics
    /// When it is not under way.
    pub fn on_abandon(&mut self, op: OpId) {
        self.tick();
        self.log
            .borrow_mut()
            .get(op)
            .filter(|op| op.ended.is_none())
            .unwrap_or_else(|| panic!("{op} is not under way"));
        self.abandoned.push(op);
    }

    /// The same for an operation that a crash may have ended already.
    pub(super) fn abandon_if_under_way(&mut self, op: OpId) {
        let under_way = {
            let log = self.log.borrow();
            log.get(op).is_some_and(|op| op.ended.is_none())
        };
        if under_way && !self.crashed {
            self.on_abandon(op);
        }
    }

    fn each_cluster(&mut self, op: OpId, action: Action, mut change: impl FnMut(&mut Cluster)) {
        for lba in action.range() {
            let Some(clusters) = self.blocks.get_mut(&lba) else {
                continue;
            };
            let made = clusters.iter_mut().filter(|cluster| cluster.op == Some(op));
            made.for_each(&mut change);
            self.prune(lba);
        }
    }

    /// A read begins. Call it before the device hears of it.
    ///
    /// # Panics
    /// When the range is outside of the device.
    pub fn begin_read(&mut self, lba: Lba, blocks: u64) -> ReadId {
        assert!(lba.0 + blocks <= self.size, "a read outside of the device");
        let now = self.tick();
        self.begun.insert(now, Begun { lba, blocks });
        ReadId(now)
    }

    /// A read failed or was dropped.
    pub fn on_read_failed(&mut self, read: ReadId) {
        self.begun.remove(&read.0);
    }

    /// A read returned `contents`. Call it as soon as it did.
    ///
    /// # Errors
    /// [`Violation`]: no sequential device could have answered all that it did.
    ///
    /// # Panics
    /// When the read is not under way.
    pub fn on_read(&mut self, read: ReadId, contents: &[Content]) -> Result<(), Violation> {
        let now = self.tick();
        let begun = self.begun.remove(&read.0);
        let begun = begun.expect("on_read is called once for each begin_read");
        if contents.len() as u64 != begun.blocks {
            return Err(Violation::Length {
                lba: begun.lba,
                asked: begun.blocks,
                returned: contents.len() as u64,
            });
        }
        for (offset, content) in (0u64..).zip(contents) {
            self.observe(begun.lba.plus(offset), *content, read.0, now)?;
        }
        Ok(())
    }

    fn observe(
        &mut self,
        lba: Lba,
        content: Content,
        begun: u64,
        ended: u64,
    ) -> Result<(), Violation> {
        let fresh = [Cluster::found(Value::Base, 0)];
        let clusters = self.blocks.get(&lba.0).map_or(&fresh[..], Vec::as_slice);
        let base = self.base.as_ref();
        let mut viable = Vec::new();
        let mut contradiction = None;
        for (index, cluster) in clusters.iter().enumerate() {
            let admits = |lba, content| base_admits(base, lba, content);
            if !cluster.explains(content, lba, self.seed, admits) {
                continue;
            }
            let seen = cluster.seen(begun, ended);
            let mut others = clusters.iter().enumerate();
            match others.find(|(at, other)| *at != index && seen.contradicts(other)) {
                Some((_, other)) => contradiction = Some((cluster, other)),
                None => viable.push(index),
            }
        }
        match (viable.as_slice(), contradiction) {
            ([only], _) => self.credit(lba, *only, content, begun, ended),
            ([], Some((returned, other))) => {
                let log = self.log.borrow();
                Err(Violation::Stale {
                    lba,
                    returned: log.describe_cluster(returned),
                    other: log.describe_cluster(other),
                    begun,
                    ended,
                })
            }
            ([], None) => {
                let log = self.log.borrow();
                Err(log.unexplained(lba, content, self.seed, clusters))
            }
            // Several explain zeros: to choose one could raise a false alarm later.
            (_, _) => Ok(()),
        }
    }

    fn credit(
        &mut self,
        lba: Lba,
        index: usize,
        content: Content,
        begun: u64,
        ended: u64,
    ) -> Result<(), Violation> {
        let is_base = match self.blocks.get_mut(&lba.0) {
            Some(clusters) => {
                clusters[index] = clusters[index].seen(begun, ended);
                clusters[index].value == Value::Base
            }
            None => true,
        };
        if let (true, Some(base)) = (is_base, &self.base) {
            base.observe_one(lba, content)?;
        }
        self.prune(lba.0);
        Ok(())
    }

    /// Forgets the values of a block that no later answer may hold.
    fn prune(&mut self, lba: u64) {
        let oldest = self.begun.keys().next().copied().unwrap_or(self.now + 1);
        let flushed = self.flushed;
        let Some(clusters) = self.blocks.get_mut(&lba) else {
            return;
        };
        let mut index = 0;
        while index < clusters.len() {
            let old = &clusters[index];
            let replaces = |(at, new): &(usize, &Cluster)| {
                let gone = old.precedes(new) && new.end < oldest && new.durable(flushed);
                gone && *at != index
            };
            match clusters.iter().enumerate().find(replaces) {
                Some((by, _)) => {
                    // What replaced it was current only after the last read of it had begun.
                    clusters[by].start = clusters[by].start.max(clusters[index].start);
                    clusters.remove(index);
                    self.values -= 1;
                    index = 0;
                }
                None => index += 1,
            }
        }
    }

    /// Another owner took over: nothing acknowledged may be lost, and abandoned operations were fenced off.
    /// Call it once the new owner serves.
    pub fn on_takeover(&mut self) {
        let now = self.tick();
        self.settle_abandoned(now);
    }

    /// Every client so far was fenced off: what it began has happened or never will, also where its answer is still on
    /// the way. Call it once the device's keeper has said so.
    pub fn on_fenced(&mut self) {
        let now = self.tick();
        self.settle_abandoned(now);
        let under_way = self.log.borrow().under_way();
        for op in under_way {
            let action = self.log.borrow().get(op).map(|op| op.action);
            let Some(action) = action else { continue };
            self.each_cluster(op, action, |cluster| {
                cluster.settled = cluster.settled.min(now);
            });
        }
    }

    fn settle_abandoned(&mut self, now: u64) {
        for op in std::mem::take(&mut self.abandoned) {
            let ended = self.log.borrow_mut().end(op, now, "abandoned, fenced off");
            self.each_cluster(op, ended.action, |cluster| cluster.settled = now);
        }
    }

    /// Everything lost its memory, the clients too: what was not flushed may be lost, operations and reads
    /// under way are over. [`History::verify_image`] comes next.
    pub fn on_crash(&mut self) {
        let now = self.tick();
        self.abandoned.clear();
        self.begun.clear();
        let under_way = self.log.borrow().under_way();
        for op in under_way {
            let ended = self.log.borrow_mut().end(op, now, "cut off by the crash");
            self.each_cluster(op, ended.action, |cluster| cluster.settled = now);
        }
        self.crashed = true;
    }

    /// Checks all that the device holds after [`History::on_crash`], before anything else is done to it;
    /// the history goes on from there.
    ///
    /// # Errors
    /// [`Violation`]: flushed data is missing, or the image is not a causal prefix of the issue order.
    ///
    /// # Panics
    /// When there was no crash.
    pub fn verify_image(&mut self, mut read: impl FnMut(Lba) -> Content) -> Result<(), Violation> {
        assert!(self.crashed, "verify_image follows on_crash");
        self.crashed = false;
        let flushed = self.flushed;
        let what = (
            "the image after the crash",
            "it was acknowledged and made durable before the crash",
        );
        let mut image = self.image(what, 0, |cluster| cluster.durable(flushed));
        for lba in 0..self.size {
            image.pin(lba, read(Lba(lba)))?;
        }
        image.settle()?;
        let now = self.tick();
        for (lba, clusters) in &mut self.blocks {
            let pin = &image.pins[lba];
            let value = match pin.choice {
                Some(index) if clusters[index].value == Value::Base => Value::Base,
                _ => Value::Known(pin.content),
            };
            *clusters = vec![Cluster::found(value, now)];
        }
        self.blocks
            .retain(|_, clusters| clusters[0].value != Value::Base);
        self.values = self.blocks.len();
        Ok(())
    }

    fn image(
        &self,
        (what, promise): (&'static str, &'static str),
        latest: u64,
        required: impl Fn(&Cluster) -> bool,
    ) -> Image {
        let mut blocks = self.blocks.clone();
        for cluster in blocks.values_mut().flatten() {
            cluster.required = required(cluster);
        }
        Image {
            what,
            promise,
            seed: self.seed,
            size: self.size,
            blocks,
            base: self.base.clone(),
            latest,
            latest_op: None,
            pins: BTreeMap::<u64, Pin>::new(),
            log: self.log.clone(),
        }
    }

    /// A snapshot begins to be made. Call it before the device hears of it.
    pub fn begin_cut(&mut self) -> CutId {
        let now = self.tick();
        let (lba, blocks) = (Lba(0), self.size);
        self.begun.insert(now, Begun { lba, blocks });
        CutId(now)
    }

    /// The snapshot was made. Call it as soon as the device said so.
    ///
    /// # Panics
    /// When the cut is not under way.
    pub fn end_cut(&mut self, cut: CutId) -> Snapshot {
        self.tick();
        let begun = self.begun.remove(&cut.0);
        let begun = begun.expect("end_cut is called once for each begin_cut");
        let what = (
            "the snapshot",
            "it had ended before the snapshot was asked for",
        );
        let mut image = self.image(what, cut.0, |cluster| cluster.end < cut.0);
        image.size = begun.blocks;
        Snapshot::new(image)
    }

    /// The snapshot was not made.
    pub fn on_cut_failed(&mut self, cut: CutId) {
        self.begun.remove(&cut.0);
    }
}
