//! Free space of the extent areas: best fit over contiguous runs of 64 KiB granules.

use crate::GRANULE_BYTES;
use crate::state::Run;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use vocab::ByteCount;

/// Granules of the largest extent.
pub(crate) const LARGEST: u64 = codec::extent::EXTENT_BYTES_MAX as u64 / GRANULE_BYTES;
/// Share of the space that is kept back, at least two extents: new data leaves twice as much free, drains and
/// repairs a quarter, so that journals can be emptied and compaction can always rewrite an extent.
const RESERVE_DIVISOR: u64 = 50;
const RESERVE_GRANULES_MIN: u64 = 2 * LARGEST;

/// On a disk of at least so many granules one run for the largest extent stays free: with it free space can be gathered. On a
/// smaller one it would be too large a part.
const GATHER_DISK_MIN: u32 = 8 * LARGEST as u32;

/// Who takes space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taker {
    /// A put: leaves a run for the largest extent on each disk.
    Put,
    /// What makes more space than it takes.
    Rewrite,
}

/// The largest free run of a disk and the granules between it and the free run next to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Gap {
    /// Whether that other run lies before the largest one.
    pub is_before: bool,
    hole: Range<u32>,
    between: Range<u32>,
}

impl Gap {
    /// Where the first extent to move ends (before the hole) or begins (behind it), and the same of its new place.
    pub fn start(&self) -> (u32, u32) {
        match self.is_before {
            true => (self.hole.start, self.hole.end),
            false => (self.hole.end, self.hole.start),
        }
    }

    /// The new place of the extent in `from`, which must touch `edge`, and where the next one goes on; `None` when it does not
    /// touch it, or the hole takes no more.
    pub fn step(&self, edge: u32, target: u32, from: Run) -> Option<((u32, u32), Run)> {
        let end = from.granule + from.granules;
        let touches = match self.is_before {
            true => end == edge && from.granule >= self.between.start,
            false => from.granule == edge && end <= self.between.end,
        };
        let place = match self.is_before {
            true => target.checked_sub(from.granules)?..target,
            false => target..target + from.granules,
        };
        if !touches || place.start < self.hole.start || place.end > self.hole.end {
            return None;
        }
        let to = Run {
            granule: place.start,
            ..from
        };
        let next = match self.is_before {
            true => (from.granule, place.start),
            false => (end, place.end),
        };
        Some((next, to))
    }
}

/// Granules kept back of so many.
pub(crate) fn reserve_of(granules: u64) -> u64 {
    (granules / RESERVE_DIVISOR).max(RESERVE_GRANULES_MIN)
}

/// Bytes of a store's `capacity` that clients' data leaves free, for drains, repair and compaction: a store that has less free
/// says that it is full.
#[must_use]
pub fn kept_back(capacity: ByteCount) -> ByteCount {
    let granules = capacity.0 / GRANULE_BYTES;
    ByteCount((LARGEST + 2 * reserve_of(granules)) * GRANULE_BYTES)
}

/// Free runs of one disk.
#[derive(Default)]
struct DiskSpace {
    granules: u32,
    free: u32,
    /// start -> length
    by_start: BTreeMap<u32, u32>,
    /// (length, start)
    by_length: BTreeSet<(u32, u32)>,
    /// While extents are moved: the largest free run and what will join it. Puts keep out of it.
    guarded: Option<Range<u32>>,
}

/// Free space of all disks.
#[derive(Default)]
pub struct Space {
    disks: Vec<DiskSpace>,
}

impl DiskSpace {
    fn insert(&mut self, start: u32, length: u32) {
        self.by_start.insert(start, length);
        self.by_length.insert((length, start));
    }

    fn remove(&mut self, start: u32, length: u32) {
        self.by_start.remove(&start);
        self.by_length.remove(&(length, start));
    }

    /// Takes [start, start + length) out of the free runs; `false` when it is not wholly free.
    fn occupy(&mut self, start: u32, length: u32) -> bool {
        if length == 0 || start.checked_add(length).is_none() {
            return false;
        }
        let Some((&run, &run_length)) = self.by_start.range(..=start).next_back() else {
            return false;
        };
        let (end, run_end) = (start + length, run + run_length);
        if end > run_end {
            return false;
        }
        self.remove(run, run_length);
        if run < start {
            self.insert(run, start - run);
        }
        if end < run_end {
            self.insert(end, run_end - end);
        }
        self.free -= length;
        true
    }

    fn largest(&self) -> u32 {
        self.by_length.last().map_or(0, |&(length, _)| length)
    }

    /// The granules of the run that a put must leave, if there is one.
    fn hole(&self) -> u32 {
        let has_one = self.guarded.is_some() || u64::from(self.largest()) >= LARGEST;
        match self.granules >= GATHER_DISK_MIN && has_one {
            true => LARGEST as u32,
            false => 0,
        }
    }

    fn can_gather(&self, granules: u32) -> bool {
        self.free >= self.hole() + granules
    }

    /// Start of the smallest free run that fits and that `taker` may take from.
    fn fitting(&self, granules: u32, taker: Taker) -> Option<u32> {
        let mut fitting = self.by_length.range((granules, 0)..);
        if let (Some(guarded), Taker::Put) = (&self.guarded, taker) {
            let outside = fitting.find(|(_, start)| !guarded.contains(start));
            return outside.map(|&(_, start)| start);
        }
        let &(length, start) = fitting.next()?;
        let mut largest = self.by_length.iter().rev();
        let is_largest = largest.next() == Some(&(length, start));
        let second = largest.next().map_or(0, |&(length, _)| length);
        let left = match is_largest {
            true => second.max(length - granules),
            false => self.largest(),
        };
        (taker == Taker::Rewrite || left >= self.hole()).then_some(start)
    }

    /// From the largest free run to its neighbours, the nearest first.
    fn gaps(&self) -> Vec<Gap> {
        let Some(&(length, start)) = self.by_length.last() else {
            return Vec::new();
        };
        let hole = start..start + length;
        let before = self.by_start.range(..start).next_back();
        let before = before.map(|(&other, &length)| Gap {
            is_before: true,
            hole: hole.clone(),
            between: other + length..start,
        });
        let behind = self.by_start.range(hole.end..).next();
        let behind = behind.map(|(&other, _)| Gap {
            is_before: false,
            hole: hole.clone(),
            between: hole.end..other,
        });
        let mut gaps: Vec<Gap> = before.into_iter().chain(behind).collect();
        gaps.sort_by_key(|gap| gap.between.len());
        gaps
    }

    fn release(&mut self, start: u32, length: u32) {
        let (mut from, mut to) = (start, start + length);
        if let Some((&before, &before_length)) = self.by_start.range(..start).next_back() {
            assert!(before + before_length <= start, "space is freed once");
            if before + before_length == start {
                self.remove(before, before_length);
                from = before;
            }
        }
        if let Some((&after, &after_length)) = self.by_start.range(start..).next() {
            assert!(after >= to, "space is freed once");
            if after == to {
                self.remove(after, after_length);
                to = after + after_length;
            }
        }
        self.insert(from, to - from);
        self.free += length;
    }
}

impl Space {
    /// All free; `granules` of each disk.
    pub fn new(granules: &[u32]) -> Self {
        let disk = |&granules: &u32| {
            let mut disk = DiskSpace {
                granules,
                free: granules,
                ..DiskSpace::default()
            };
            if granules > 0 {
                disk.insert(0, granules);
            }
            disk
        };
        Self {
            disks: granules.iter().map(disk).collect(),
        }
    }

    /// Marks a run as used while the index is loaded; `false` when it lies outside or is used already.
    pub fn occupy(&mut self, run: Run) -> bool {
        self.disks
            .get_mut(usize::from(run.disk))
            .is_some_and(|disk| disk.occupy(run.granule, run.granules))
    }

    /// The smallest free run that fits, on the disk with the most free space that `taker` may take it from.
    pub(crate) fn allocate(&mut self, granules: u32, taker: Taker) -> Option<Run> {
        let mut order: Vec<usize> = (0..self.disks.len()).collect();
        order.sort_by_key(|&disk| std::cmp::Reverse(self.disks[disk].free));
        for index in order {
            let disk = &mut self.disks[index];
            if let Some(start) = disk.fitting(granules, taker) {
                let taken = disk.occupy(start, granules);
                assert!(taken, "a listed run is free");
                return Some(Run {
                    disk: index as u8,
                    granule: start,
                    granules,
                });
            }
        }
        None
    }

    /// Whether a disk has so many granules free beyond the run that it keeps.
    pub(crate) fn can_gather(&self, granules: u32) -> bool {
        self.disks.iter().any(|disk| disk.can_gather(granules))
    }

    /// Whether that disk has.
    pub(crate) fn can_gather_on(&self, disk: u8, granules: u32) -> bool {
        self.disks[usize::from(disk)].can_gather(granules)
    }

    /// Disks that have, the most free space first.
    pub(crate) fn disks_to_gather(&self, granules: u32) -> Vec<u8> {
        let mut order: Vec<u8> = (0..self.disks.len()).map(|disk| disk as u8).collect();
        order.retain(|&disk| self.can_gather_on(disk, granules));
        order.sort_by_key(|&disk| std::cmp::Reverse(self.disks[usize::from(disk)].free));
        order
    }

    /// Whether a put of so many granules finds a run on this disk.
    pub(crate) fn has_run(&self, disk: u8, granules: u32) -> bool {
        let disk = &self.disks[usize::from(disk)];
        disk.fitting(granules, Taker::Put).is_some()
    }

    /// How many free runs a disk has, and its granules.
    pub(crate) fn pieces(&self, disk: u8) -> (usize, u32) {
        let disk = &self.disks[usize::from(disk)];
        (disk.by_start.len(), disk.granules)
    }

    /// Keeps puts out of the largest free run of a disk and what lies before the other one, until [`Space::unguard`].
    pub(crate) fn guard(&mut self, disk: u8, gap: &Gap) {
        let start = gap.hole.start.min(gap.between.start);
        let end = gap.hole.end.max(gap.between.end);
        self.disks[usize::from(disk)].guarded = Some(start..end);
    }

    /// Lets puts in again.
    pub(crate) fn unguard(&mut self, disk: u8) {
        self.disks[usize::from(disk)].guarded = None;
    }

    /// What lies between the largest free run of a disk and its neighbours, the nearest first.
    pub(crate) fn gaps(&self, disk: u8) -> Vec<Gap> {
        self.disks[usize::from(disk)].gaps()
    }

    /// Gives a run back.
    pub fn release(&mut self, run: Run) {
        self.disks[usize::from(run.disk)].release(run.granule, run.granules);
    }

    /// Granules of all disks.
    pub fn granules(&self) -> u64 {
        self.disks.iter().map(|disk| u64::from(disk.granules)).sum()
    }

    /// Free granules of all disks.
    pub fn free(&self) -> u64 {
        self.disks.iter().map(|disk| u64::from(disk.free)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn freed_neighbours_merge() {
        let mut space = Space::new(&[10]);
        let runs: Vec<Run> = (0..5)
            .map(|_| space.allocate(2, Taker::Put).expect("room"))
            .collect();
        assert_eq!(space.allocate(1, Taker::Put), None);
        for index in [0, 2, 4, 1, 3] {
            space.release(runs[index]);
        }
        assert_eq!(
            space.allocate(10, Taker::Put).map(|run| run.granules),
            Some(10)
        );
    }

    proptest! {
        #[test]
        fn runs_never_overlap_and_nothing_is_lost(steps in proptest::collection::vec((any::<bool>(), 1_u32..9), 1..200)) {
            let mut space = Space::new(&[64, 32]);
            let mut held: Vec<Run> = Vec::new();
            let mut used = [[false; 64]; 2];
            for (take, size) in steps {
                if take {
                    if let Some(run) = space.allocate(size, Taker::Put) {
                        for granule in run.granule..run.granule + run.granules {
                            let cell = &mut used[usize::from(run.disk)][granule as usize];
                            prop_assert!(!*cell);
                            *cell = true;
                        }
                        held.push(run);
                    }
                } else if !held.is_empty() {
                    let run = held.swap_remove(size as usize % held.len());
                    for granule in run.granule..run.granule + run.granules {
                        used[usize::from(run.disk)][granule as usize] = false;
                    }
                    space.release(run);
                }
                let count = used.iter().flatten().filter(|cell| **cell).count() as u64;
                prop_assert_eq!(space.free(), space.granules() - count);
            }
        }
    }
}
