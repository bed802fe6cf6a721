//! `CLOCK_MONOTONIC` and the timers of one shard.
//!
//! Timers live in an ordered map: O(log n) to set, drop and fire, and the reactor sleeps until the first.
//! Equal deadlines fire in the order in which they were set.

use rustix::time::{ClockId, clock_gettime};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::SystemTime;
use world::{Clock, Duration, LocalBoxFuture, Time};

type TimerKey = (Time, u64);

/// Nanoseconds since boot, equal on all shards of a machine.
pub(crate) fn monotonic() -> Time {
    let time = clock_gettime(ClockId::Monotonic);
    let seconds = u64::try_from(time.tv_sec).expect("the machine has booted");
    let nanos = u64::try_from(time.tv_nsec).expect("never negative");
    Time(seconds * 1_000_000_000 + nanos)
}

#[derive(Default)]
pub(crate) struct Timers {
    waiting: RefCell<BTreeMap<TimerKey, Waker>>,
    next: Cell<u64>,
}

impl Timers {
    /// Wakes everyone whose deadline has passed.
    pub(crate) fn fire(&self) {
        if self.waiting.borrow().is_empty() {
            return;
        }
        let now = monotonic();
        loop {
            let waker = {
                let mut waiting = self.waiting.borrow_mut();
                match waiting.first_entry() {
                    Some(first) if first.key().0 <= now => first.remove(),
                    _ => return,
                }
            };
            waker.wake();
        }
    }

    /// How long the shard may sleep; `None` without timers.
    pub(crate) fn until_first(&self) -> Option<Duration> {
        let waiting = self.waiting.borrow();
        let ((deadline, _), _) = waiting.first_key_value()?;
        Some(deadline.since(monotonic()))
    }
}

/// The clock of one shard.
pub(crate) struct MonotonicClock(pub(crate) Rc<Timers>);

impl Clock for MonotonicClock {
    fn now(&self) -> Time {
        monotonic()
    }

    fn sleep_until(&self, deadline: Time) -> LocalBoxFuture<'static, ()> {
        Box::pin(Sleep {
            timers: self.0.clone(),
            deadline,
            key: None,
        })
    }

    fn unix_ms(&self) -> u64 {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        now.map_or(0, |since| since.as_millis() as u64)
    }
}

struct Sleep {
    timers: Rc<Timers>,
    deadline: Time,
    key: Option<TimerKey>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if monotonic() >= self.deadline {
            return Poll::Ready(());
        }
        let key = self.key.unwrap_or_else(|| {
            let number = self.timers.next.get();
            self.timers.next.set(number + 1);
            (self.deadline, number)
        });
        self.key = Some(key);
        let waker = context.waker().clone();
        let replaced = self.timers.waiting.borrow_mut().insert(key, waker);
        drop(replaced);
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            let removed = self.timers.waiting.borrow_mut().remove(&key);
            drop(removed);
        }
    }
}
