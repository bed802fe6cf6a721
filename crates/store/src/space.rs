//! Free space of the extent areas: best fit over contiguous runs of 64 KiB granules.

use crate::GRANULE_BYTES;
use crate::state::Run;
use std::collections::{BTreeMap, BTreeSet};
use vocab::ByteCount;

/// Granules of the largest extent.
const LARGEST: u64 = codec::extent::EXTENT_BYTES_MAX as u64 / GRANULE_BYTES;
/// Share of the space that is kept back, at least two extents: new data leaves twice as much free, drains and
/// repairs a quarter, so that journals can be emptied and compaction can always rewrite an extent.
const RESERVE_DIVISOR: u64 = 50;
const RESERVE_GRANULES_MIN: u64 = 2 * LARGEST;

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

    /// The smallest free run that fits, on the disk with the most free space.
    pub fn allocate(&mut self, granules: u32) -> Option<Run> {
        let mut order: Vec<usize> = (0..self.disks.len()).collect();
        order.sort_by_key(|&disk| std::cmp::Reverse(self.disks[disk].free));
        for index in order {
            let disk = &mut self.disks[index];
            if let Some(&(_, start)) = disk.by_length.range((granules, 0)..).next() {
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
        let runs: Vec<Run> = (0..5).map(|_| space.allocate(2).expect("room")).collect();
        assert_eq!(space.allocate(1), None);
        for index in [0, 2, 4, 1, 3] {
            space.release(runs[index]);
        }
        assert_eq!(space.allocate(10).map(|run| run.granules), Some(10));
    }

    proptest! {
        #[test]
        fn runs_never_overlap_and_nothing_is_lost(steps in proptest::collection::vec((any::<bool>(), 1_u32..9), 1..200)) {
            let mut space = Space::new(&[64, 32]);
            let mut held: Vec<Run> = Vec::new();
            let mut used = [[false; 64]; 2];
            for (take, size) in steps {
                if take {
                    if let Some(run) = space.allocate(size) {
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
