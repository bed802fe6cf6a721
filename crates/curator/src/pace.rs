//! How fast copies are made beside clients: pure, from how long their requests take.
//!
//! Additive increase, multiplicative decrease, as congestion control does it: the share of the time that filling takes is
//! halved whenever the 99th percentile of a window is above a multiple of its quiet value, and grows step by step while
//! it is not. Without clients it is full at once.
//!
//! Invariants
//! - The share is never below the floor: repair always gets on. Where the next loss could take data, the floor is higher.
//! - The quiet value is learned only while nothing is filled.

use world::Duration;

/// A share of the time in thousandths.
pub type Share = u32;
/// All of it.
pub const FULL: Share = 1000;

/// Tunables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PaceOptions {
    /// Filling backs off when the 99th percentile is above so many percent of the quiet value.
    pub latency_percent: u64,
    /// Least share.
    pub floor: Share,
    /// The same while a group could be lost with the next failure.
    pub urgent_floor: Share,
    /// What a window without a reason to back off adds.
    pub step: Share,
    /// A quiet value below this counts as this: small ones are noise.
    pub quiet_min: Duration,
    /// Requests of a window from which on its percentile means something.
    pub requests_min: u64,
}

impl Default for PaceOptions {
    fn default() -> Self {
        Self {
            latency_percent: 200,
            floor: 100,
            urgent_floor: 200,
            step: 100,
            quiet_min: Duration::from_millis(1),
            requests_min: 20,
        }
    }
}

/// What clients saw during a window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Window {
    /// Requests that ended.
    pub requests: u64,
    /// Their 99th percentile.
    pub p99: Duration,
    /// Whether anything was filled meanwhile.
    pub filling: bool,
    /// Whether a group could be lost with the next failure.
    pub urgent: bool,
}

/// The controller.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    share: Share,
    quiet: Option<Duration>,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            share: FULL,
            quiet: None,
        }
    }
}

impl Pace {
    /// The share that follows a window.
    pub fn step(&mut self, window: &Window, options: &PaceOptions) -> Share {
        let floor = match window.urgent {
            true => options.urgent_floor,
            false => options.floor,
        };
        let tells = window.requests >= options.requests_min;
        if !tells {
            // Nobody is there to be disturbed, or too few to tell.
            self.share = if window.requests == 0 {
                FULL
            } else {
                self.share.saturating_add(options.step)
            };
        } else if !window.filling {
            self.learn(window.p99);
            self.share = self.share.saturating_add(options.step);
        } else {
            // Filling began before clients did: what is seen now is the best that is known.
            let quiet = *self.quiet.get_or_insert(window.p99);
            let quiet = quiet.max(options.quiet_min).as_micros();
            let limit = quiet.saturating_mul(u128::from(options.latency_percent)) / 100;
            self.share = match window.p99.as_micros() > limit {
                true => self.share / 2,
                false => self.share.saturating_add(options.step),
            };
        }
        self.share = self.share.clamp(floor.min(FULL), FULL);
        self.share
    }

    /// An eighth of the way towards what was seen, so that one odd window changes little.
    fn learn(&mut self, seen: Duration) {
        self.quiet = Some(match self.quiet {
            None => seen,
            Some(quiet) => (quiet * 7 + seen) / 8,
        });
    }

    /// The present share.
    #[must_use]
    pub fn share(&self) -> Share {
        self.share
    }

    /// The pause that follows work which took so long.
    #[must_use]
    pub fn rest(&self, took: Duration) -> Duration {
        took * (FULL - self.share) / self.share.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    fn window(p99: u64, filling: bool) -> Window {
        Window {
            requests: 1000,
            p99: MS(p99),
            filling,
            urgent: false,
        }
    }

    fn learned(quiet: u64) -> Pace {
        let mut pace = Pace::default();
        for _ in 0..50 {
            pace.step(&window(quiet, false), &PaceOptions::default());
        }
        pace
    }

    #[test]
    fn filling_backs_off_above_twice_the_quiet_latency_and_comes_back() {
        let options = PaceOptions::default();
        let mut pace = learned(4);
        assert_eq!(pace.step(&window(8, true), &options), FULL);
        assert_eq!(pace.step(&window(9, true), &options), 500);
        assert_eq!(pace.step(&window(50, true), &options), 250);
        assert_eq!(pace.step(&window(5, true), &options), 350);
        assert_eq!(pace.rest(MS(35)), MS(65));
    }

    #[test]
    fn filling_never_stops_and_urgent_filling_keeps_a_fifth() {
        let options = PaceOptions::default();
        let mut pace = learned(4);
        for _ in 0..20 {
            pace.step(&window(500, true), &options);
        }
        assert_eq!(pace.share(), options.floor);
        let urgent = Window {
            urgent: true,
            ..window(500, true)
        };
        assert_eq!(pace.step(&urgent, &options), options.urgent_floor);
    }

    #[test]
    fn an_idle_node_fills_at_full_speed_at_once() {
        let options = PaceOptions::default();
        let mut pace = learned(4);
        for _ in 0..20 {
            pace.step(&window(500, true), &options);
        }
        let idle = Window {
            filling: true,
            ..Window::default()
        };
        assert_eq!(pace.step(&idle, &options), FULL);
        assert_eq!(pace.rest(MS(35)), Duration::ZERO);
    }

    #[test]
    fn the_quiet_value_is_not_learned_from_what_filling_causes() {
        let options = PaceOptions::default();
        let mut pace = learned(4);
        for _ in 0..100 {
            pace.step(&window(40, true), &options);
        }
        // Otherwise 40 ms would be the new normal.
        assert_eq!(pace.step(&window(40, true), &options), options.floor);
        // Small values are noise.
        let mut pace = learned(0);
        assert_eq!(pace.step(&window(2, true), &options), FULL);
        assert_eq!(pace.step(&window(3, true), &options), 500);
    }

    #[test]
    fn the_share_stays_within_its_bounds() {
        let options = PaceOptions::default();
        let mut state = 1_u64;
        let mut below = |bound: u64| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 33) % bound
        };
        let mut pace = Pace::default();
        for _ in 0..10_000 {
            let window = Window {
                requests: below(40),
                p99: MS(below(10_000)),
                filling: below(2) == 0,
                urgent: below(4) == 0,
            };
            let share = pace.step(&window, &options);
            let floor = match window.urgent {
                true => options.urgent_floor,
                false => options.floor,
            };
            assert!((floor..=FULL).contains(&share));
        }
    }
}
