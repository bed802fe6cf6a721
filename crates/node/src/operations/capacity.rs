//! What can still be written under a policy.

use super::{Result, catalog_error};
use crate::host::Host;
use api::{Answer, CapacityAnswer, OperationError};
use catalog::{ContainerRow, SpaceState, VolumeRow};
use std::collections::BTreeMap;

/// Largest volume: `catalog`'s bound.
const VOLUME_BYTES_MAX: u64 = 512 << 40;

/// The most data that fits with `copies` copies in distinct domains with so many bytes each: the largest x
/// with sum(min(bytes, x)) >= copies * x. Pure.
///
/// No domain can hold more than one copy of anything, so it takes at most x; and any split that respects
/// that can be laid out. The difference of the two sides is concave in x and 0 at 0: bisection finds the end.
pub(super) fn plan_capacity(domains: &[u64], copies: u8) -> u64 {
    let copies = u128::from(copies.max(1));
    let fits = |data: u64| {
        let placed = domains.iter().map(|&bytes| u128::from(bytes.min(data)));
        placed.sum::<u128>() >= copies * u128::from(data)
    };
    let all: u128 = domains.iter().copied().map(u128::from).sum();
    let bound = u64::try_from(all / copies).unwrap_or(u64::MAX);
    let (mut fits_at, mut above) = (0, bound);
    if fits(above) {
        return above;
    }
    while above - fits_at > 1 {
        let middle = fits_at + (above - fits_at) / 2;
        match fits(middle) {
            true => fits_at = middle,
            false => above = middle,
        }
    }
    fits_at
}

impl Host {
    pub(super) async fn capacity(
        &self,
        container: Option<String>,
        rf: Option<u8>,
    ) -> Result<Answer> {
        let (copies, quota_left) = match (container, rf) {
            (Some(name), None) => {
                let row = self.catalog.container_named(&name).await;
                let row = row.map_err(catalog_error)?.row;
                (row.replication_factor, self.quota_left(&row).await?)
            }
            (None, Some(rf)) if (1..=3).contains(&rf) => (rf, u64::MAX),
            _ => {
                return Err(OperationError::bad_request(
                    "say either `container`, a name, or `rf`, 1 to 3",
                ));
            }
        };
        let (mut free, total) = self.domain_bytes(copies).await;
        if self.space_state(copies) == SpaceState::Protected {
            free.clear();
        }
        Ok(Answer::Capacity(CapacityAnswer {
            available: plan_capacity(&free, copies).min(quota_left),
            total: plan_capacity(&total, copies),
            volume_bytes_max: VOLUME_BYTES_MAX.min(quota_left / 4096 * 4096),
        }))
    }

    async fn quota_left(&self, container: &ContainerRow) -> Result<u64> {
        let Some(quota) = container.quota else {
            return Ok(u64::MAX);
        };
        let volumes = self.catalog.list::<VolumeRow>().await;
        let volumes = volumes.map_err(catalog_error)?;
        let inside = volumes.iter().map(|found| &found.row);
        let inside = inside.filter(|row| row.container == container.id);
        let given: u64 = inside.map(|row| row.size.0).sum();
        Ok(quota.0.saturating_sub(given))
    }

    /// Bytes that clients may still fill before the store takes nothing new.
    fn room_of(&self, status: &wire::StoreStatus) -> u64 {
        let kept_back = store::kept_back(status.capacity).0;
        let fillable = status.capacity.0.saturating_sub(kept_back);
        let limit = fillable / 100 * self.options.space.protect_percent;
        limit.saturating_sub(status.used.0)
    }

    /// Free and all bytes of the stores that answer, by the failure domain that so many copies are kept apart by.
    async fn domain_bytes(&self, copies: u8) -> (Vec<u64>, Vec<u64>) {
        let view = self.view();
        self.health.ask(view.stores.keys().copied().collect()).await;
        let apart = curator::Domains::new(&self.store_facts());
        let level = apart.level(copies);
        let mut domains: BTreeMap<curator::Domain, (u64, u64)> = BTreeMap::new();
        for row in view.stores.values() {
            let seen = self.health.seen(row.id);
            let seen = seen.filter(|seen| seen.silent.is_none());
            let Some(status) = seen.and_then(|seen| seen.status) else {
                continue;
            };
            let takes_nothing = view.space.stores.contains(&row.id);
            let free = match status.full || takes_nothing || status.failed.is_some() {
                true => 0,
                false => self.room_of(&status),
            };
            let sums = domains.entry(apart.of(row.id, level)).or_default();
            sums.0 += free;
            sums.1 += status.capacity.0;
        }
        domains.into_values().unzip()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn capacity_is_bounded_by_the_smaller_domains() {
        assert_eq!(plan_capacity(&[10, 10, 10], 3), 10);
        assert_eq!(plan_capacity(&[10, 10, 10], 2), 15);
        assert_eq!(plan_capacity(&[100, 10, 10], 2), 20);
        assert_eq!(plan_capacity(&[100, 10, 10], 1), 120);
        assert_eq!(plan_capacity(&[100], 2), 0);
        assert_eq!(plan_capacity(&[], 1), 0);
        assert_eq!(plan_capacity(&[u64::MAX; 3], 3), u64::MAX);
    }

    /// Puts one unit after the other into the domains with most room.
    fn place_one_by_one(mut domains: Vec<u64>, copies: usize) -> u64 {
        let mut placed = 0;
        loop {
            domains.sort_unstable_by(|one, other| other.cmp(one));
            if domains.len() < copies || domains[copies - 1] == 0 {
                return placed;
            }
            domains[..copies].iter_mut().for_each(|bytes| *bytes -= 1);
            placed += 1;
        }
    }

    proptest! {
        #[test]
        fn capacity_is_what_placing_one_by_one_reaches(
            domains in proptest::collection::vec(0_u64..60, 0..6),
            copies in 1_u8..=3,
        ) {
            // Units of one are placed greedily, which is optimal.
            let reached = place_one_by_one(domains.clone(), usize::from(copies));
            prop_assert_eq!(plan_capacity(&domains, copies), reached);
        }
    }
}
