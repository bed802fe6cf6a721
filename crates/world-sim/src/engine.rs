//! Virtual time: an event heap ordered by (time, sequence), and the choice of who runs next.
//!
//! Invariants
//! - Everything that happens is a function of the seed: no addresses, no hash maps, no wall clock.
//! - Time advances only when no host can run a task now.
//! - No cell is borrowed while foreign code (a task, a scheduled call) runs.

use crate::counters::Counters;
use crate::disk::DiskState;
use crate::host::{HostState, Timer};
use crate::net::Fabric;
use crate::net::connection::Connection;
use crate::options::Options;
use crate::rng::SimRng;
use std::cell::{Cell, RefCell};
use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;
use xxhash_rust::xxh3::xxh3_64;

/// What is mixed into the event hash besides time; the numbers only have to differ.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Mark {
    Poll = 1,
    Timer,
    Call,
    DiskSubmit,
    DiskDone,
    Send,
    Deliver,
    Connect,
    Fault,
    Record,
}

pub(crate) enum Action {
    Timer(Rc<Timer>),
    Disk(Rc<DiskState>, u64),
    Deliver(Rc<Connection>, usize),
    Call(Box<dyn FnOnce()>),
}

struct Event {
    at: u64,
    sequence: u64,
    /// Index of the host it happens to; `u32::MAX` for the scenario.
    host: u32,
    action: Action,
}

impl Event {
    fn is_dead(&self) -> bool {
        matches!(&self.action, Action::Timer(timer) if timer.is_cancelled())
    }
}

impl PartialEq for Event {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}
impl Eq for Event {}
impl PartialOrd for Event {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Event {
    // Reversed: `BinaryHeap` yields its greatest element, we want the earliest event.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.sequence).cmp(&(self.at, self.sequence))
    }
}

/// Stands for `data` in the event hash. Long data is sampled in every sector: hashing all of it would be
/// a sixth of a run, and histories that differ elsewhere only soon differ in more.
pub(crate) fn fingerprint(data: &[u8]) -> u64 {
    if data.len() <= 240 {
        return xxh3_64(data);
    }
    let (head, tail) = (xxh3_64(&data[..120]), xxh3_64(&data[data.len() - 120..]));
    let mut hash = head ^ tail.rotate_left(1) ^ data.len() as u64;
    for sector in data.chunks_exact(512) {
        let sample = sector
            .first_chunk()
            .map_or(0, |word| u64::from_le_bytes(*word));
        hash = (hash ^ sample)
            .wrapping_mul(0x9E37_79B9_7F4A_7C15)
            .rotate_left(29);
    }
    hash
}

/// Nobody's host: events of the scenario itself.
pub(crate) const SCENARIO: u32 = u32::MAX;

pub(crate) struct Core {
    pub(crate) seed: u64,
    pub(crate) options: Options,
    pub(crate) rng: SimRng,
    pub(crate) scenario_rng: SimRng,
    pub(crate) hosts: RefCell<Vec<Rc<HostState>>>,
    pub(crate) fabric: Fabric,
    pub(crate) counters: RefCell<Counters>,
    now: Cell<u64>,
    sequence: Cell<u64>,
    hash: Cell<u64>,
    heap: RefCell<BinaryHeap<Event>>,
    dead_events: Cell<usize>,
    running: Cell<bool>,
}

enum Turn {
    /// This host can poll a task now.
    Run(Rc<HostState>),
    /// No host can before this moment (`u64::MAX`: none has a ready task).
    Wait(u64),
}

/// Names the seed when a run panics.
struct SeedGuard<'a>(&'a Core);

impl Drop for SeedGuard<'_> {
    fn drop(&mut self) {
        self.0.running.set(false);
        if std::thread::panicking() {
            let (seed, now) = (self.0.seed, self.0.now());
            eprintln!("simulation failed: seed {seed} ({seed:#x}), virtual time {now} ns");
        }
    }
}

impl Core {
    pub(crate) fn new(seed: u64, options: Options) -> Self {
        Self {
            seed,
            options,
            rng: SimRng::named(seed, "engine"),
            scenario_rng: SimRng::named(seed, "scenario"),
            hosts: RefCell::default(),
            fabric: Fabric::default(),
            counters: RefCell::default(),
            now: Cell::new(0),
            sequence: Cell::new(0),
            hash: Cell::new(seed),
            heap: RefCell::default(),
            dead_events: Cell::new(0),
            running: Cell::new(false),
        }
    }

    pub(crate) fn now(&self) -> u64 {
        self.now.get()
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hash.get()
    }

    pub(crate) fn count(&self, add: impl FnOnce(&mut Counters)) {
        add(&mut self.counters.borrow_mut());
    }

    /// Mixes something that happened into the event hash.
    pub(crate) fn mark(&self, mark: Mark, first: u64, second: u64) {
        let mut hash = self.hash.get();
        for word in [mark as u64 ^ self.now.get().rotate_left(8), first, second] {
            hash = (hash ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            hash ^= hash >> 32;
        }
        self.hash.set(hash);
    }

    /// Schedules `action`, `delay` nanoseconds from now.
    pub(crate) fn push(&self, delay: u64, host: u32, action: Action) {
        let sequence = self.sequence.get();
        self.sequence.set(sequence + 1);
        let event = Event {
            at: self.now().saturating_add(delay),
            sequence,
            host,
            action,
        };
        self.heap.borrow_mut().push(event);
    }

    pub(crate) fn call(&self, delay: u64, host: u32, call: impl FnOnce() + 'static) {
        self.push(delay, host, Action::Call(Box::new(call)));
    }

    /// A timer in the heap was cancelled. Most timers are timeouts that never fire: without this the
    /// heap would hold every one of them until its time.
    pub(crate) fn on_timer_cancelled(&self) {
        let dead = self.dead_events.get() + 1;
        self.dead_events.set(dead);
        if dead > 1024 && dead * 2 > self.heap.borrow().len() {
            self.heap.borrow_mut().retain(|event| !event.is_dead());
            self.dead_events.set(0);
        }
    }

    /// Runs until `stop` says so (true) or until virtual time reaches `deadline` (false).
    pub(crate) fn drive(&self, deadline: u64, mut stop: impl FnMut() -> bool) -> bool {
        assert!(
            !self.running.replace(true),
            "the simulation is running already: a task cannot advance time"
        );
        let _guard = SeedGuard(self);
        // `u64::MAX` stands for never.
        let deadline = deadline.min(u64::MAX - 1);
        loop {
            if stop() {
                return true;
            }
            if !self.step(deadline) {
                return stop();
            }
        }
    }

    fn tell_progress(&self) {
        if let Some(progress) = &self.options.progress {
            progress.steps.fetch_add(1, Relaxed);
            progress.now.store(self.now(), Relaxed);
        }
    }

    /// One poll or one event; false when the next one is later than `deadline`, where time then stands.
    fn step(&self, deadline: u64) -> bool {
        self.tell_progress();
        loop {
            let earliest_poll = match self.next_turn() {
                Turn::Run(host) => {
                    self.poll(&host);
                    return true;
                }
                Turn::Wait(at) => at,
            };
            let next_event = self.next_event_at();
            let next = earliest_poll.min(next_event);
            if next > deadline {
                self.now.set(deadline.max(self.now()));
                return false;
            }
            self.now.set(next.max(self.now()));
            if next_event <= earliest_poll {
                self.run_event();
                return true;
            }
        }
    }

    /// Chooses among the hosts that have a ready task and are neither paused nor busy.
    fn next_turn(&self) -> Turn {
        let now = self.now();
        let mut earliest = u64::MAX;
        let mut candidates = 0;
        let mut chosen = None;
        let hosts = self.hosts.borrow();
        for host in hosts.iter().filter(|host| host.has_ready()) {
            let free_at = host.busy_until.get();
            if free_at > now {
                earliest = earliest.min(free_at);
                continue;
            }
            candidates += 1;
            // Reservoir sampling: each candidate is chosen with the same probability in one pass.
            let take = candidates == 1 || (self.options.shuffle && self.rng.below(candidates) == 0);
            if take {
                chosen = Some(host);
            }
        }
        chosen.map_or(Turn::Wait(earliest), |host| Turn::Run(host.clone()))
    }

    fn poll(&self, host: &Rc<HostState>) {
        let cost = self.options.poll.draw(&self.rng);
        host.busy_until.set(self.now() + cost);
        let polls = host.polls_since_event.get() + 1;
        host.polls_since_event.set(polls);
        assert!(
            polls <= self.options.polls_max,
            "host {} polled its tasks {polls} times without any event: a task spins",
            host.name
        );
        self.count(|counters| counters.polls += 1);
        self.mark(Mark::Poll, u64::from(host.index), 0);
        host.poll_one(|ready| {
            if self.options.shuffle {
                self.rng.index(ready)
            } else {
                0
            }
        });
    }

    fn next_event_at(&self) -> u64 {
        loop {
            let cancelled = {
                let mut heap = self.heap.borrow_mut();
                match heap.peek() {
                    None => return u64::MAX,
                    Some(event) if !event.is_dead() => return event.at,
                    Some(_) => heap.pop(),
                }
            };
            drop(cancelled);
            self.dead_events
                .set(self.dead_events.get().saturating_sub(1));
        }
    }

    fn run_event(&self) {
        let event = self.heap.borrow_mut().pop();
        let event = event.expect("the caller has seen it in the heap");
        self.count(|counters| counters.events += 1);
        if let Some(host) = self.hosts.borrow().get(event.host as usize) {
            host.polls_since_event.set(0);
        }
        let host = u64::from(event.host);
        match event.action {
            Action::Timer(timer) => {
                self.mark(Mark::Timer, host, timer.deadline.0);
                timer.fire(self);
            }
            Action::Disk(disk, operation) => disk.finish(operation),
            Action::Deliver(connection, sender) => connection.deliver(sender),
            Action::Call(call) => {
                self.mark(Mark::Call, host, event.sequence);
                call();
            }
        }
    }

    /// Ends every host and breaks the reference cycles, so that a dropped simulation frees its memory.
    pub(crate) fn shut_down(&self) {
        let hosts = std::mem::take(&mut *self.hosts.borrow_mut());
        for host in &hosts {
            host.end_life();
            host.disks.borrow_mut().clear();
        }
        self.fabric.clear();
        let events = std::mem::take(&mut *self.heap.borrow_mut());
        drop(events);
    }
}
