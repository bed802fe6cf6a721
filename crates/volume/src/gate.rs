//! What holds a volume's requests back before they reach the log: limits per second, and pauses.
//!
//! State in memory only: it ends with the owner's term.
//!
//! Invariants
//! - Over any span of time no more than one second's worth above the limit is let through; requests are let
//!   through in the order in which they came.
//! - While a pause holds no change is under way. A pause ends by itself [`PAUSE_MAX`] after it began, and
//!   whoever ends it learns whether it held until then: a group snapshot relies on nothing else.

use catalog::VolumeLimits;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use world::sync::Notify;
use world::{Duration, Time, World};

/// Longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// What may be done at once after a rest, in time at the limit.
const BURST_NS: u64 = 1_000_000_000;

/// One limit as the time at which everything let through so far is paid for (generic cell rate algorithm).
#[derive(Debug, Default)]
struct Meter(Cell<u64>);

impl Meter {
    /// Takes `amount` at `rate` per second; returns how long the request must wait.
    fn take(&self, now: Time, amount: u64, rate: u64) -> Duration {
        if rate == 0 || amount == 0 {
            return Duration::ZERO;
        }
        let cost = u128::from(amount) * 1_000_000_000 / u128::from(rate);
        let cost = u64::try_from(cost).unwrap_or(u64::MAX);
        // The rest before a request counts up to the burst. The request itself is paid for afterwards, so
        // that one larger than the burst passes, too.
        let paid = self.0.get().max(now.0);
        self.0.set(paid.saturating_add(cost));
        Duration::from_nanos((paid - now.0).saturating_sub(BURST_NS))
    }
}

/// See the head of this file.
pub(crate) struct Gate {
    limits: Cell<VolumeLimits>,
    operations: Meter,
    bytes: Meter,
    /// Names of pauses and when they end.
    pauses: RefCell<BTreeMap<String, Time>>,
    changes: Cell<u32>,
    changed: Notify,
}

/// A change under way.
pub(crate) struct Change<'a>(&'a Gate);

impl Drop for Change<'_> {
    fn drop(&mut self) {
        self.0.changes.set(self.0.changes.get() - 1);
        if self.0.changes.get() == 0 && !self.0.pauses.borrow().is_empty() {
            self.0.changed.notify_all();
        }
    }
}

impl Gate {
    pub(crate) fn new(limits: VolumeLimits) -> Self {
        Self {
            limits: Cell::new(limits),
            operations: Meter::default(),
            bytes: Meter::default(),
            pauses: RefCell::default(),
            changes: Cell::new(0),
            changed: Notify::default(),
        }
    }

    pub(crate) fn set_limits(&self, limits: VolumeLimits) {
        self.limits.set(limits);
    }

    /// Waits until the limits let one operation of so many bytes through.
    pub(crate) async fn meter(&self, world: &World, bytes: u64) {
        let limits = self.limits.get();
        if limits == VolumeLimits::default() {
            return;
        }
        let now = world.now();
        let operations = self.operations.take(now, 1, limits.iops);
        let wait = operations.max(self.bytes.take(now, bytes, limits.bandwidth));
        if wait > Duration::ZERO {
            world.sleep(wait).await;
        }
    }

    /// When the last pause ends, while there is one.
    fn paused_until(&self, now: Time) -> Option<Time> {
        let pauses = self.pauses.borrow();
        pauses.values().copied().filter(|&until| until > now).max()
    }

    /// Begins a change, once no pause holds.
    pub(crate) async fn begin_change(&self, world: &World) -> Change<'_> {
        loop {
            let changed = self.changed.notified();
            let now = world.now();
            let Some(until) = self.paused_until(now) else {
                self.changes.set(self.changes.get() + 1);
                return Change(self);
            };
            let _ = world.timeout(until.since(now), changed).await;
        }
    }

    /// Begins a pause, or finds the one of this name, and waits for the changes under way; whether it holds.
    pub(crate) async fn pause(&self, world: &World, name: &str) -> bool {
        let now = world.now();
        let until = {
            let mut pauses = self.pauses.borrow_mut();
            pauses.retain(|_, until| *until > now);
            *pauses.entry(name.to_owned()).or_insert(now + PAUSE_MAX)
        };
        loop {
            let changed = self.changed.notified();
            let now = world.now();
            if until <= now || self.pauses.borrow().get(name) != Some(&until) {
                return false;
            }
            if self.changes.get() == 0 {
                return true;
            }
            let _ = world.timeout(until.since(now), changed).await;
        }
    }

    /// Ends a pause; whether it held until now.
    pub(crate) fn resume(&self, now: Time, name: &str) -> bool {
        let ended = self.pauses.borrow_mut().remove(name);
        self.changed.notify_all();
        ended.is_some_and(|until| until > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn request_larger_than_the_burst_passes_and_is_paid_for_afterwards() {
        let meter = Meter::default();
        let now = Time(5_000_000_000);
        assert_eq!(meter.take(now, 4000, 1000), Duration::ZERO);
        assert_eq!(meter.take(now, 1, 1000), Duration::from_secs(3));
    }

    proptest! {
        #[test]
        fn what_passes_stays_within_rate_and_burst(
            rate in 1_u64..10_000,
            requests in proptest::collection::vec((0_u64..2_000_000_000, 1_u64..500), 1..60),
        ) {
            let meter = Meter::default();
            let (mut now, mut passed) = (0_u64, Vec::new());
            for (pause, amount) in requests {
                now += pause;
                let wait = meter.take(Time(now), amount, rate);
                passed.push((u128::from(now) + wait.as_nanos(), u128::from(amount)));
            }
            // Requests pass in order, and from any one to any later one no more than the rate gives, the
            // burst, and the last one itself.
            for (index, &(from, _)) in passed.iter().enumerate() {
                let mut sum = 0;
                for &(at, amount) in &passed[index..] {
                    prop_assert!(at >= from);
                    let allowed = (at - from + u128::from(BURST_NS)) * u128::from(rate) / 1_000_000_000;
                    prop_assert!(sum <= allowed + passed.len() as u128, "{sum} > {allowed}");
                    sum += amount;
                }
            }
        }
    }
}
