//! What is free in the extent areas, who may take it, and when it may be used again.

use crate::GRANULE_BYTES;
use crate::options::bug;
use crate::space::{LARGEST, Taker, reserve_of};
use crate::state::Run;
use crate::store::Store;
use vocab::{ByteCount, ExtentId};
use wire::StoreError;
use world::Duration;

/// How long a put waits for free space to be gathered; less than the patience of its caller.
const GATHER_PATIENCE: Duration = Duration::from_secs(1);

impl Store {
    /// Bytes that extents occupy.
    pub(crate) fn used_bytes(&self) -> u64 {
        let freed = self.0.freed.borrow();
        let waiting = freed.iter().map(|(_, run)| u64::from(run.granules));
        let space = self.0.space.borrow();
        (space.granules() - space.free() - waiting.sum::<u64>()) * GRANULE_BYTES
    }

    /// Bytes that extents occupy, and what a walk over the index finds: less while puts and rewrites are under way, never more.
    /// For checks.
    ///
    /// # Errors
    /// Two extents that share space.
    pub fn inspect_space(&self) -> Result<(ByteCount, ByteCount), String> {
        let state = self.0.state.borrow();
        let mut runs: Vec<(Run, ExtentId)> = state
            .extents
            .iter()
            .map(|(id, extent)| (extent.run(), *id))
            .collect();
        runs.sort_by_key(|(run, _)| (run.disk, run.granule));
        for pair in runs.windows(2) {
            let [(one, of_one), (next, of_next)] = pair else {
                continue;
            };
            if one.disk == next.disk && one.granule + one.granules > next.granule {
                return Err(format!(
                    "{of_one} and {of_next} share space on {}",
                    self.id()
                ));
            }
        }
        let granules: u64 = runs.iter().map(|(run, _)| u64::from(run.granules)).sum();
        Ok((
            ByteCount(self.used_bytes()),
            ByteCount(granules * GRANULE_BYTES),
        ))
    }

    /// Granules kept back.
    pub(crate) fn reserve(&self) -> u64 {
        if bug!(self.0.options.faults, SkipReserve) {
            return 0;
        }
        reserve_of(self.0.space.borrow().granules())
    }

    /// Whether puts are refused.
    pub(crate) fn is_full(&self) -> bool {
        let used = self.used_bytes() / GRANULE_BYTES;
        used + LARGEST + 2 * self.reserve() > self.0.space.borrow().granules()
            || self.state_is_full()
    }

    /// Where on its disk a run begins, in bytes.
    pub(crate) fn address(&self, run: Run) -> u64 {
        self.0.headers[usize::from(run.disk)].extents.offset
            + u64::from(run.granule) * GRANULE_BYTES
    }

    /// Gives back space whose freeing is durable.
    pub(crate) fn reclaim(&self) {
        let flushed = self.0.journal.flushed();
        let mut freed = self.0.freed.borrow_mut();
        while freed.front().is_some_and(|(ticket, _)| *ticket <= flushed) {
            let (_, run) = freed.pop_front().expect("looked at");
            self.0.space.borrow_mut().release(run);
        }
    }

    /// A run for so many bytes that leaves `reserve` granules free. When there is space, but only in pieces, it is gathered:
    /// the wait is bounded, and a later call finds what was gathered meanwhile.
    pub(crate) async fn allocate(&self, bytes: usize, reserve: u64) -> Result<Run, StoreError> {
        let granules = (bytes as u64).div_ceil(GRANULE_BYTES) as u32;
        // Rewrites make space, and take the last of it.
        let taker = match reserve {
            0 => Taker::Rewrite,
            _ => Taker::Put,
        };
        let taken = self.try_allocate(granules, reserve, taker).await?;
        if let Some(run) = taken {
            return Ok(run);
        }
        let enough = {
            let space = self.0.space.borrow();
            space.free() >= u64::from(granules) + reserve && space.can_gather(granules)
        };
        if !enough || self.0.world.now() < self.0.gathering.rests_until.get() {
            return Err(StoreError::Full);
        }
        let gathered = self.gather(granules);
        let waited = self.0.world.timeout(GATHER_PATIENCE, gathered).await;
        if waited.is_err() {
            return Err(StoreError::Full);
        }
        let taken = self.try_allocate(granules, reserve, taker).await?;
        taken.ok_or(StoreError::Full)
    }

    async fn try_allocate(
        &self,
        granules: u32,
        reserve: u64,
        taker: Taker,
    ) -> Result<Option<Run>, StoreError> {
        for attempt in 0..2 {
            self.reclaim();
            {
                let mut space = self.0.space.borrow_mut();
                if space.free() >= u64::from(granules) + reserve
                    && let Some(run) = space.allocate(granules, taker)
                {
                    return Ok(Some(run));
                }
            }
            if attempt == 0 && !self.0.freed.borrow().is_empty() {
                self.durable(self.0.journal.formed_ticket()).await?;
            }
        }
        Ok(None)
    }
}
