//! The extents that give the most space back for what their rewrite costs, in bounded memory.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use vocab::{BLOCK_BYTES, ExtentId};

/// An extent that is partly garbage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sparse {
    pub(crate) id: ExtentId,
    /// What it occupies on one member.
    pub(crate) bytes: u32,
    /// Blocks that must be copied, at most so many: compressed ones count as whole.
    pub(crate) live_blocks: u32,
}

impl Sparse {
    fn live_bytes(&self) -> u128 {
        u128::from(self.live_blocks) * u128::from(BLOCK_BYTES)
    }

    fn gain(&self) -> u128 {
        u128::from(self.bytes).saturating_sub(self.live_bytes())
    }
}

/// Greater: more bytes given back per byte copied.
impl Ord for Sparse {
    fn cmp(&self, other: &Self) -> Ordering {
        // gain / live of both, without a division; an extent without live blocks is better than any with some.
        let here = self.gain() * other.live_bytes().max(1);
        let there = other.gain() * self.live_bytes().max(1);
        let by_gain = here.cmp(&there).then(self.gain().cmp(&other.gain()));
        by_gain.then_with(|| other.id.cmp(&self.id))
    }
}

impl PartialOrd for Sparse {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The best of all that were offered.
pub(crate) struct Sparsest {
    /// The worst of those kept on top.
    kept: BinaryHeap<Reverse<Sparse>>,
    most: usize,
}

impl Sparsest {
    /// Keeps at most so many.
    pub(crate) fn new(most: usize) -> Self {
        Self {
            kept: BinaryHeap::new(),
            most,
        }
    }

    pub(crate) fn offer(&mut self, sparse: Sparse) {
        self.kept.push(Reverse(sparse));
        if self.kept.len() > self.most {
            self.kept.pop();
        }
    }

    pub(crate) fn into_best_first(self) -> Vec<Sparse> {
        let sorted = self.kept.into_sorted_vec();
        sorted.into_iter().map(|Reverse(sparse)| sparse).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vocab::{Epoch, GroupId, VolumeId};

    fn sparse(number: u32, bytes: u32, live_blocks: u32) -> Sparse {
        let id = ExtentId {
            group: GroupId(1),
            volume: VolumeId(1),
            epoch: Epoch(1),
            counter: number,
        };
        Sparse {
            id,
            bytes,
            live_blocks,
        }
    }

    #[test]
    fn the_most_garbage_per_copied_byte_comes_first() {
        let mut sparsest = Sparsest::new(3);
        let half = sparse(1, 4 << 20, 512);
        let small_half = sparse(2, 1 << 20, 128);
        let nearly_dead = sparse(3, 1 << 20, 2);
        let nearly_live = sparse(4, 4 << 20, 1000);
        let grown = sparse(5, 4096, 100);
        for offered in [nearly_live, half, grown, nearly_dead, small_half] {
            sparsest.offer(offered);
        }
        assert_eq!(sparsest.into_best_first(), [nearly_dead, half, small_half]);
    }
}
