//! Monotonic time in nanoseconds.

use crate::LocalBoxFuture;
pub use std::time::Duration;

/// A moment on the node's monotonic clock, in nanoseconds since an arbitrary start. Moments of different
/// nodes or boots must not be compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(pub u64);

impl Time {
    /// The time since `earlier`, zero when it is later.
    #[must_use]
    pub fn since(self, earlier: Time) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl std::ops::Add<Duration> for Time {
    type Output = Time;
    fn add(self, duration: Duration) -> Time {
        Time(
            self.0
                .saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)),
        )
    }
}

/// Tells time.
pub trait Clock {
    /// Now. Never goes back on one node.
    fn now(&self) -> Time;

    /// Resolves at or after `deadline`.
    fn sleep_until(&self, deadline: Time) -> LocalBoxFuture<'static, ()>;

    /// Milliseconds since the Unix epoch, for people; may jump in either direction.
    fn unix_ms(&self) -> u64;
}
