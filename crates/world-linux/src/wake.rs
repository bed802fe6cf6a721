//! Interrupts a shard's sleep from other threads, with at most one system call per sleep.
//!
//! The sleeper announces that it will sleep, checks its queues once more, then blocks. Wakers fill a
//! queue first and then look at the announcement, so one of the two always sees the other.

use rustix::event::{EventfdFlags, eventfd};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};

pub(crate) struct Wake {
    /// An event counter; readable when somebody woke the shard.
    pub(crate) event: OwnedFd,
    asleep: AtomicBool,
}

impl Wake {
    pub(crate) fn new(flags: EventfdFlags) -> rustix::io::Result<Self> {
        Ok(Self {
            event: eventfd(0, flags | EventfdFlags::CLOEXEC)?,
            asleep: AtomicBool::new(false),
        })
    }

    /// Called by any thread after it queued something for the shard.
    pub(crate) fn wake(&self) {
        if self.asleep.swap(false, Ordering::SeqCst) {
            // A full counter (2^64 - 2 unread wakes) is the only other failure, and wakes as well.
            let _ = rustix::io::write(&self.event, &1u64.to_ne_bytes());
        }
    }

    /// Called by the shard before it looks at its queues for the last time.
    pub(crate) fn announce_sleep(&self) {
        self.asleep.store(true, Ordering::SeqCst);
    }

    /// Called by the shard when it runs again.
    pub(crate) fn announce_awake(&self) {
        self.asleep.store(false, Ordering::SeqCst);
    }
}
