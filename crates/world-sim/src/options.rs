//! How fast and how hostile the simulated machines are. The default is friendly: latencies vary, nothing fails.

use crate::rng::{SimRng, nanos};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use world::Duration;

/// A random delay: `base`, up to `jitter` more, and now and then up to `tail` on top.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Latency {
    /// The least delay.
    pub base: Duration,
    /// Uniformly random addition.
    pub jitter: Duration,
    /// Probability of a slow one.
    pub tail_chance: f64,
    /// Uniformly random addition of a slow one.
    pub tail: Duration,
}

impl Latency {
    /// `base` and `jitter` in microseconds, without a tail.
    #[must_use]
    pub const fn micros(base: u64, jitter: u64) -> Self {
        Self {
            base: Duration::from_micros(base),
            jitter: Duration::from_micros(jitter),
            tail_chance: 0.0,
            tail: Duration::ZERO,
        }
    }

    /// The same with a tail of up to `tail`, hit with probability `chance`.
    #[must_use]
    pub const fn with_tail(mut self, chance: f64, tail: Duration) -> Self {
        self.tail_chance = chance;
        self.tail = tail;
        self
    }

    /// One delay, in nanoseconds.
    pub(crate) fn draw(&self, rng: &SimRng) -> u64 {
        let mut delay = nanos(self.base) + rng.below(nanos(self.jitter) + 1);
        if rng.chance(self.tail_chance) {
            delay += rng.below(nanos(self.tail) + 1);
        }
        delay
    }
}

/// Speed of a disk.
#[derive(Clone, Debug)]
pub struct DiskOptions {
    /// Of a read.
    pub read: Latency,
    /// Of a write.
    pub write: Latency,
    /// Of a flush.
    pub flush: Latency,
    /// Transfer rate added to the latency.
    pub bytes_per_second: u64,
    /// Operations in service at once; 0 is unbounded.
    pub parallel: usize,
}

impl Default for DiskOptions {
    fn default() -> Self {
        let tail = Duration::from_millis(5);
        Self {
            read: Latency::micros(60, 40).with_tail(0.002, tail),
            write: Latency::micros(20, 30).with_tail(0.002, tail),
            flush: Latency::micros(80, 120).with_tail(0.005, tail),
            bytes_per_second: 2_000_000_000,
            parallel: 32,
        }
    }
}

/// Probabilities, per operation, of what a disk does wrong.
#[derive(Clone, Debug)]
pub struct DiskFaults {
    /// A read fails.
    pub read_error: f64,
    /// A write fails; any part of it may be on the disk.
    pub write_error: f64,
    /// A flush fails; what it should have made durable never will be, whatever later flushes say.
    pub flush_error: f64,
    /// A write succeeds and changes nothing.
    pub lost_write: f64,
    /// A write succeeds and lands on another page.
    pub misdirected_write: f64,
    /// A read succeeds with the bytes of another page.
    pub misdirected_read: f64,
    /// A written page gets a flipped bit.
    pub rot_on_write: f64,
    /// A write whose future was dropped happens partly or not at all.
    pub cancelled_write: f64,
    /// A page caught by a crash or power loss is torn sector by sector rather than kept or lost whole.
    /// Part of what the `Disk` contract allows, therefore on by default.
    pub torn_page: f64,
}

impl Default for DiskFaults {
    fn default() -> Self {
        Self {
            read_error: 0.0,
            write_error: 0.0,
            flush_error: 0.0,
            lost_write: 0.0,
            misdirected_write: 0.0,
            misdirected_read: 0.0,
            rot_on_write: 0.0,
            cancelled_write: 0.0,
            torn_page: 0.5,
        }
    }
}

/// Speed and faults of the network.
#[derive(Clone, Debug)]
pub struct NetOptions {
    /// One way, between two hosts.
    pub latency: Latency,
    /// One way, within a host.
    pub loopback: Latency,
    /// Rate of one direction of one link; 0 is unbounded.
    pub bytes_per_second: u64,
    /// Bytes of one direction of one connection that are written and not yet read: both socket buffers.
    pub window_bytes: usize,
    /// Probability that a write arrives in two pieces at different times.
    pub split: f64,
    /// Probability that a read returns several arrived pieces as one.
    pub merge: f64,
    /// Probability, per write, that the connection is reset.
    pub reset: f64,
    /// Probability, per write, that a bit of it flips on the way (TCP's checksum lets some through).
    pub corrupt: f64,
    /// How long a connection attempt is repeated before it fails.
    pub connect_timeout: Duration,
    /// How long unacknowledged bytes are retransmitted before the sender's connection is lost.
    pub retransmit_timeout: Duration,
    /// The longest pause between two retransmissions.
    pub retransmit_pause: Duration,
    /// Connections that wait to be accepted by one listener.
    pub backlog: usize,
}

impl Default for NetOptions {
    fn default() -> Self {
        Self {
            latency: Latency::micros(50, 50).with_tail(0.002, Duration::from_millis(5)),
            loopback: Latency::micros(8, 8),
            bytes_per_second: 0,
            window_bytes: 1 << 20,
            split: 0.1,
            merge: 0.1,
            reset: 0.0,
            corrupt: 0.0,
            connect_timeout: Duration::from_secs(30),
            retransmit_timeout: Duration::from_secs(30),
            retransmit_pause: Duration::from_secs(1),
            backlog: 128,
        }
    }
}

/// Everything a simulation can be told before it starts.
#[derive(Clone, Debug)]
pub struct Options {
    /// Whether the seed picks among ready hosts and tasks; otherwise the oldest task of the first host runs.
    pub shuffle: bool,
    /// CPU time of one poll of a task. Keeps hosts from acting in lockstep.
    pub poll: Latency,
    /// How late a timer fires.
    pub timer: Latency,
    /// How long offloaded work takes.
    pub offload: Latency,
    /// Polls of one host without a single event for it before the run fails: a task spins.
    pub polls_max: u64,
    /// Speed of disks.
    pub disk: DiskOptions,
    /// What disks do wrong; may be changed disk by disk.
    pub disk_faults: DiskFaults,
    /// The network.
    pub net: NetOptions,
    /// Where a watchdog looks whether the run gets on.
    pub progress: Option<Arc<Progress>>,
}

/// How far a run is, for a watchdog on another thread: a task that loops without giving way stops both.
#[derive(Debug, Default)]
pub struct Progress {
    pub(crate) steps: AtomicU64,
    pub(crate) now: AtomicU64,
}

impl Progress {
    /// Polls and events so far.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.steps.load(Relaxed)
    }

    /// Virtual time in nanoseconds.
    #[must_use]
    pub fn now(&self) -> u64 {
        self.now.load(Relaxed)
    }
}

impl Default for Options {
    fn default() -> Self {
        let poll = Latency {
            base: Duration::from_nanos(200),
            jitter: Duration::from_nanos(1_800),
            tail_chance: 0.0,
            tail: Duration::ZERO,
        };
        Self {
            shuffle: true,
            poll,
            timer: Latency::micros(0, 20),
            offload: Latency::micros(50, 200),
            polls_max: 200_000,
            disk: DiskOptions::default(),
            disk_faults: DiskFaults::default(),
            net: NetOptions::default(),
            progress: None,
        }
    }
}

impl Options {
    /// Slow tails and broken connections, but disks that keep the `Disk` contract: what every correct
    /// cluster must shrug off.
    #[must_use]
    pub fn rough() -> Self {
        let mut options = Self::default();
        let tail = Duration::from_millis(200);
        options.poll = options.poll.with_tail(0.0005, Duration::from_millis(20));
        options.timer = options.timer.with_tail(0.001, Duration::from_millis(50));
        options.disk.write = options.disk.write.with_tail(0.003, tail);
        options.disk.flush = options.disk.flush.with_tail(0.01, tail);
        options.disk_faults.cancelled_write = 0.25;
        options.net.latency = options.net.latency.with_tail(0.005, tail);
        options.net.reset = 0.0005;
        options.net.split = 0.3;
        options
    }
}
