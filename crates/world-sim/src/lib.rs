//! The `world` traits as a deterministic simulation: a whole cluster in one thread, on virtual time,
//! every choice from one seed.
//!
//! A [`Simulation`] holds [`Host`]s. A host has lives (its process), disks, a clock and listeners. The
//! scenario, outside of any host, lets time pass with [`Simulation::run_until`] and strikes.
//!
//! Faults (docs/simulator.md explains each)
//! - process: crash at any await, restart, power loss (any subset of unflushed sectors lost or torn, new
//!   boot id), pause, slow polls, late timers, clock drift, wall clock jumps;
//! - disk: errors, lost and lying flushes, lost, misdirected, torn, cancelled writes, misdirected reads, rot,
//!   rollback, swap, replacement, failure, hanging, slowness;
//! - network: partitions (one-way too), resets, refused and hanging connects, delay, limited rate, bit
//!   flips, pieces cut and merged, reordering across connections.
//!
//! Invariants
//! - Same seed, same scenario: same [`Simulation::event_hash`], however often and wherever it runs.
//! - Nothing reads the real clock, real randomness, an address in memory or an unordered map.
//! - With default options nothing happens that the `world` traits do not allow in fair weather.
//! - A task that spins without waiting for an event fails the run and names its host.
//!
//! It does not model: several shards per host, the page cache, routing between more than two hosts.
//!
//! Read next: `engine.rs`, `disk.rs`, `net/connection.rs`.

mod completion;
mod counters;
mod disk;
mod engine;
mod host;
mod net;
mod options;
mod rng;

pub use counters::Counters;
pub use disk::{DiskCounters, DiskSnapshot, Rot, SimDisk};
pub use host::Host;
pub use net::Link;
pub use options::{DiskFaults, DiskOptions, Latency, NetOptions, Options, Progress};
pub use rng::SimRng;

use engine::{Core, Mark, SCENARIO};
use host::HostState;
use rng::nanos;
use std::rc::Rc;
use world::{Duration, Time};

/// A simulated cluster. Cheap to clone; when the last handle is dropped, every host ends.
#[derive(Clone)]
pub struct Simulation {
    root: Rc<Root>,
}

struct Root(Rc<Core>);

impl Drop for Root {
    fn drop(&mut self) {
        // After a panic a destructor that panics again would abort and hide the seed.
        if !std::thread::panicking() {
            self.0.shut_down();
        }
    }
}

impl Simulation {
    /// An empty cluster at time zero.
    #[must_use]
    pub fn new(seed: u64, options: Options) -> Self {
        Self {
            root: Rc::new(Root(Rc::new(Core::new(seed, options)))),
        }
    }

    fn core(&self) -> &Rc<Core> {
        &self.root.0
    }

    /// The seed it was made from.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.core().seed
    }

    /// Adds a machine, powered and up. Its addresses are `name:port`.
    ///
    /// # Panics
    /// When the name is taken or contains a colon.
    #[must_use]
    pub fn host(&self, name: &str) -> Host {
        assert!(!name.contains(':'), "host name {name} contains a colon");
        let index = {
            let hosts = self.core().hosts.borrow();
            let taken = hosts.iter().any(|host| host.name == name);
            assert!(!taken, "there is a host {name} already");
            u32::try_from(hosts.len()).expect("hosts fit in memory")
        };
        let state = HostState::new(self.core(), name, index);
        self.core().hosts.borrow_mut().push(state.clone());
        Host { state }
    }

    /// All hosts in the order they were added.
    #[must_use]
    pub fn hosts(&self) -> Vec<Host> {
        let hosts = self.core().hosts.borrow();
        let handle = |state: &Rc<HostState>| Host {
            state: state.clone(),
        };
        hosts.iter().map(handle).collect()
    }

    /// Lets time pass until `condition` holds (true) or for `limit` (false). The condition is evaluated
    /// after every poll and every event: keep it cheap.
    ///
    /// # Panics
    /// When a task panics or spins, or when a task calls this. The seed is printed.
    pub fn run_until(&self, condition: impl FnMut() -> bool, limit: Duration) -> bool {
        let deadline = self.core().now().saturating_add(nanos(limit));
        self.core().drive(deadline, condition)
    }

    /// Lets `duration` of virtual time pass.
    ///
    /// # Panics
    /// As [`Simulation::run_until`].
    pub fn run_for(&self, duration: Duration) {
        self.run_until(|| false, duration);
    }

    /// Runs so many polls and events, fewer when nothing is left to happen within `limit`; to strike at
    /// any await.
    ///
    /// # Panics
    /// As [`Simulation::run_until`].
    pub fn run_steps(&self, steps: u64, limit: Duration) {
        let mut left = steps;
        let condition = || {
            let done = left == 0;
            left = left.saturating_sub(1);
            done
        };
        self.run_until(condition, limit);
    }

    /// Calls `action` when `delay` has passed: a fault in the middle of a run.
    pub fn after(&self, delay: Duration, action: impl FnOnce() + 'static) {
        self.core().call(nanos(delay), SCENARIO, action);
    }

    /// True time, which no host sees.
    #[must_use]
    pub fn now(&self) -> Time {
        Time(self.core().now())
    }

    /// A new random stream for the scenario; each call returns another one.
    #[must_use]
    pub fn rng(&self) -> SimRng {
        self.core().scenario_rng.fork()
    }

    /// A hash of everything that has happened: polls, timers, disk operations with their data, deliveries,
    /// faults and what the scenario recorded.
    #[must_use]
    pub fn event_hash(&self) -> u64 {
        self.core().hash()
    }

    /// Mixes an event of the scenario into the hash.
    pub fn record(&self, event: impl AsRef<[u8]>) {
        let hash = xxhash_rust::xxh3::xxh3_64(event.as_ref());
        self.core().mark(Mark::Record, hash, 0);
    }

    /// What has happened so far, by kind.
    #[must_use]
    pub fn counters(&self) -> Counters {
        *self.core().counters.borrow()
    }

    fn set_blocked(&self, from: &Host, to: &Host, blocked: bool) {
        let (from, to) = (from.state.index, to.state.index);
        if !self.core().fabric.set_blocked(from, to, blocked) {
            return;
        }
        let link = (u64::from(from) << 32) | u64::from(to);
        self.core().mark(Mark::Fault, 40 + u64::from(blocked), link);
        if blocked {
            self.core().count(|counters| counters.partitions += 1);
        } else {
            net::on_links_changed(self.core());
        }
    }

    /// Cuts one direction: bytes, acknowledgements and connection requests from `from` vanish before `to`.
    pub fn partition(&self, from: &Host, to: &Host) {
        self.set_blocked(from, to, true);
    }

    /// Cuts both directions between two hosts.
    pub fn partition_both(&self, one: &Host, other: &Host) {
        self.partition(one, other);
        self.partition(other, one);
    }

    /// Cuts a host off from every other one, in both directions.
    pub fn isolate(&self, host: &Host) {
        for other in self.hosts() {
            if other.state.index != host.state.index {
                self.partition_both(host, &other);
            }
        }
    }

    /// Ends [`Simulation::partition`] of this direction.
    pub fn heal(&self, from: &Host, to: &Host) {
        self.set_blocked(from, to, false);
    }

    /// Ends all partitions.
    pub fn heal_all(&self) {
        self.core().mark(Mark::Fault, 42, 0);
        self.core().fabric.unblock_all();
        net::on_links_changed(self.core());
    }

    /// Sets latency and rate of one direction.
    pub fn set_link(&self, from: &Host, to: &Host, link: Link) {
        self.core().mark(Mark::Fault, 43, 0);
        let (from, to) = (from.state.index, to.state.index);
        self.core().fabric.set_link(from, to, link);
    }
}
