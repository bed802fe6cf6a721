//! A machine: its process (an executor per life), clock, randomness, disks and listeners.
//!
//! Invariants
//! - A life that has ended is never polled again; its tasks are dropped, its I/O never completes.
//! - The monotonic clock never goes back within a boot; it starts at a random value in each boot.
//! - Disks outlive lives. Only `power_loss` takes unflushed data from them.

use crate::completion::completion;
use crate::disk::{DiskState, SimDisk};
use crate::engine::{Core, Mark};
use crate::net::Backlog;
use crate::rng::SimRng;
use bytes::Bytes;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use world::{Clock, Executor, LocalBoxFuture, Spawn, Time, World};

/// The wall clock at virtual time zero: 2026-01-01T00:00:00Z.
const UNIX_MS_AT_START: i64 = 1_767_225_600_000;
const MILLION: i128 = 1_000_000;

/// One run of a host's process.
pub(crate) struct Life {
    pub(crate) host: Rc<HostState>,
    pub(crate) core: Rc<Core>,
    executor: Executor,
    alive: Cell<bool>,
    polling: Cell<bool>,
    rng: SimRng,
}

impl Life {
    pub(crate) fn is_alive(&self) -> bool {
        self.alive.get()
    }

    /// Resolves after `delay` nanoseconds of true time.
    pub(crate) fn pass(&self, delay: u64) -> impl Future<Output = ()> + 'static {
        let (done, waiting) = completion();
        self.core
            .call(delay, self.host.index, move || done.complete(()));
        waiting
    }
}

/// The local clock is `local + (true time - anchor) * rate / 1e6`.
#[derive(Clone, Copy)]
struct ClockRate {
    anchor: u64,
    local: u64,
    per_million: i128,
}

impl ClockRate {
    fn local(&self, now: u64) -> u64 {
        let elapsed = i128::from(now - self.anchor);
        self.local + (elapsed * self.per_million / MILLION) as u64
    }

    /// True nanoseconds from `now` until the local clock shows at least `deadline`.
    fn until(&self, now: u64, deadline: u64) -> u64 {
        let wanted = i128::from(deadline.saturating_sub(self.local(now)));
        let delay = (wanted * MILLION).div_euclid(self.per_million) + 1;
        u64::try_from(delay).unwrap_or(u64::MAX)
    }
}

pub(crate) struct HostState {
    pub(crate) name: String,
    pub(crate) index: u32,
    core: Rc<Core>,
    life: RefCell<Option<Rc<Life>>>,
    pub(crate) disks: RefCell<Vec<Rc<DiskState>>>,
    pub(crate) listeners: RefCell<BTreeMap<String, Rc<Backlog>>>,
    pub(crate) busy_until: Cell<u64>,
    pub(crate) polls_since_event: Cell<u64>,
    /// False between a power loss and the next restart: the network gets no answer at all.
    pub(crate) powered: Cell<bool>,
    paused: Cell<bool>,
    boot_id: Cell<u128>,
    clock: Cell<ClockRate>,
    unix_offset_ms: Cell<i64>,
    rng: SimRng,
}

impl HostState {
    pub(crate) fn new(core: &Rc<Core>, name: &str, index: u32) -> Rc<Self> {
        let host = Rc::new(Self {
            name: name.to_owned(),
            index,
            core: core.clone(),
            life: RefCell::default(),
            disks: RefCell::default(),
            listeners: RefCell::default(),
            busy_until: Cell::new(0),
            polls_since_event: Cell::new(0),
            powered: Cell::new(true),
            paused: Cell::new(false),
            boot_id: Cell::new(0),
            clock: Cell::new(ClockRate {
                anchor: 0,
                local: 0,
                per_million: MILLION,
            }),
            unix_offset_ms: Cell::new(0),
            rng: SimRng::named(core.seed, name),
        });
        host.boot();
        host.start_life();
        host
    }

    fn boot(&self) {
        let high = u128::from(self.rng.next_u64());
        self.boot_id
            .set((high << 64) | u128::from(self.rng.next_u64()));
        let mut clock = self.clock.get();
        clock.anchor = self.core.now();
        clock.local = self.rng.range(1_000_000..3_600_000_000_000);
        self.clock.set(clock);
    }

    fn start_life(self: &Rc<Self>) {
        let life = Life {
            host: self.clone(),
            core: self.core.clone(),
            executor: Executor::new(Box::new(|| {})),
            alive: Cell::new(true),
            polling: Cell::new(false),
            rng: self.rng.fork(),
        };
        self.paused.set(false);
        self.polls_since_event.set(0);
        *self.life.borrow_mut() = Some(Rc::new(life));
    }

    /// Ends the process: tasks are dropped, now or right after the poll that asked for it.
    pub(crate) fn end_life(&self) -> bool {
        let Some(life) = self.life.borrow_mut().take() else {
            return false;
        };
        life.alive.set(false);
        let listeners = std::mem::take(&mut *self.listeners.borrow_mut());
        if !life.polling.get() {
            life.executor.clear();
        }
        drop(listeners);
        true
    }

    pub(crate) fn has_ready(&self) -> bool {
        if self.paused.get() {
            return false;
        }
        let life = self.life.borrow();
        life.as_ref().is_some_and(|life| life.executor.has_ready())
    }

    pub(crate) fn poll_one(&self, pick: impl FnMut(usize) -> usize) {
        let life = self.life.borrow().clone();
        let life = life.expect("only a host that is up has ready tasks");
        life.polling.set(true);
        life.executor.run_ready_with(1, pick);
        life.polling.set(false);
        if !life.alive.get() {
            life.executor.clear();
        }
    }

    fn local_now(&self) -> u64 {
        self.clock.get().local(self.core.now())
    }
}

/// A sleep in the event heap.
pub(crate) struct Timer {
    host: Rc<HostState>,
    /// On the host's clock.
    pub(crate) deadline: Time,
    fired: Cell<bool>,
    cancelled: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Timer {
    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancelled.get()
    }

    pub(crate) fn fire(self: Rc<Self>, core: &Core) {
        // The clock may have been slowed down since the timer was set.
        if self.host.local_now() < self.deadline.0 {
            return self.schedule(core);
        }
        core.count(|counters| counters.timers += 1);
        self.fired.set(true);
        let waker = self.waker.borrow_mut().take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn schedule(self: Rc<Self>, core: &Core) {
        let delay = self.host.clock.get().until(core.now(), self.deadline.0);
        let slack = core.options.timer.draw(&core.rng);
        let host = self.host.index;
        core.push(
            delay.saturating_add(slack),
            host,
            crate::engine::Action::Timer(self),
        );
    }
}

struct Sleep {
    life: Rc<Life>,
    deadline: Time,
    timer: Option<Rc<Timer>>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if let Some(timer) = &self.timer {
            if timer.fired.get() {
                return Poll::Ready(());
            }
            *timer.waker.borrow_mut() = Some(context.waker().clone());
            return Poll::Pending;
        }
        if self.life.host.local_now() >= self.deadline.0 {
            return Poll::Ready(());
        }
        let timer = Rc::new(Timer {
            host: self.life.host.clone(),
            deadline: self.deadline,
            fired: Cell::new(false),
            cancelled: Cell::new(false),
            waker: RefCell::new(Some(context.waker().clone())),
        });
        timer.clone().schedule(&self.life.core);
        self.timer = Some(timer);
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        let Some(timer) = self.timer.take() else {
            return;
        };
        if !timer.fired.get() {
            timer.cancelled.set(true);
            timer.waker.borrow_mut().take();
            self.life.core.on_timer_cancelled();
        }
    }
}

/// The `World` of one life.
pub(crate) struct LifeWorld(pub(crate) Rc<Life>);

impl Clock for LifeWorld {
    fn now(&self) -> Time {
        Time(self.0.host.local_now())
    }

    fn sleep_until(&self, deadline: Time) -> LocalBoxFuture<'static, ()> {
        Box::pin(Sleep {
            life: self.0.clone(),
            deadline,
            timer: None,
        })
    }

    fn unix_ms(&self) -> u64 {
        let true_ms = i64::try_from(self.0.core.now() / 1_000_000).unwrap_or(i64::MAX);
        let offset = self.0.host.unix_offset_ms.get();
        let now = UNIX_MS_AT_START
            .saturating_add(true_ms)
            .saturating_add(offset);
        now.max(0).unsigned_abs()
    }
}

impl world::Rng for LifeWorld {
    fn next_u64(&self) -> u64 {
        self.0.rng.next_u64()
    }
}

impl Spawn for LifeWorld {
    fn spawn(&self, task: LocalBoxFuture<'static, ()>) {
        if self.0.is_alive() {
            self.0.executor.spawn(task);
        }
    }

    fn offload(&self, work: Box<dyn FnOnce() + Send>) -> LocalBoxFuture<'static, ()> {
        let (done, waiting) = completion();
        let life = self.0.clone();
        let delay = life.core.options.offload.draw(&life.core.rng);
        self.0.core.call(delay, self.0.host.index, move || {
            if life.is_alive() {
                work();
                done.complete(());
            }
        });
        Box::pin(waiting)
    }
}

/// Handle of a simulated machine. Cheap to clone; survives the machine's crashes.
#[derive(Clone)]
pub struct Host {
    pub(crate) state: Rc<HostState>,
}

impl Host {
    fn core(&self) -> &Rc<Core> {
        &self.state.core
    }

    fn fault(&self, code: u64) {
        let index = u64::from(self.state.index);
        self.core().mark(Mark::Fault, code, index);
    }

    pub(crate) fn life(&self) -> Rc<Life> {
        let life = self.state.life.borrow().clone();
        life.unwrap_or_else(|| panic!("host {} is down: restart it first", self.state.name))
    }

    /// Its name, the first part of its addresses.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.state.name
    }

    /// The world of the current life.
    ///
    /// # Panics
    /// When the host is down.
    #[must_use]
    pub fn world(&self) -> World {
        let world = Rc::new(LifeWorld(self.life()));
        World {
            clock: world.clone(),
            rng: world.clone(),
            tasks: world.clone(),
            net: world,
        }
    }

    /// Starts a task in the current life.
    ///
    /// # Panics
    /// When the host is down.
    pub fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        self.life().executor.spawn(Box::pin(task));
    }

    /// Whether its process runs (or is paused).
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.state.life.borrow().is_some()
    }

    /// Whether its process is paused.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.state.paused.get()
    }

    /// The kernel's boot id: new after every power loss.
    #[must_use]
    pub fn boot_id(&self) -> u128 {
        self.state.boot_id.get()
    }

    /// kill -9. Tasks are dropped. Finished writes are on the disks; each one in flight happens, happens in
    /// part or not at all. The kernel closes the connections: peers see an end or a reset, links permitting.
    pub fn crash(&self) {
        if !self.is_up() {
            return;
        }
        self.fault(1);
        self.core().count(|counters| counters.crashes += 1);
        self.stop(false);
    }

    /// The power fails: like [`Host::crash`], but no connection says goodbye, disks lose any subset of the
    /// sectors that no flush covers, and the next life has a new boot id. Also possible while it is down.
    pub fn power_loss(&self) {
        self.fault(2);
        self.core().count(|counters| counters.power_losses += 1);
        self.state.powered.set(false);
        self.stop(true);
        let disks = self.state.disks.borrow().clone();
        for disk in disks {
            disk.lose_power();
        }
    }

    fn stop(&self, power: bool) {
        // Connections and operations go first: what tasks do in their destructors must reach nobody.
        let disks = self.state.disks.borrow().clone();
        for disk in disks {
            disk.interrupt();
        }
        crate::net::crash(self.core(), &self.state, power);
        self.state.end_life();
    }

    /// Starts a new life (after a [`Host::crash`] if it is up). The caller spawns its tasks.
    pub fn restart(&self) {
        self.crash();
        self.fault(3);
        self.core().count(|counters| counters.restarts += 1);
        if !self.state.powered.replace(true) {
            self.state.boot();
        }
        self.state.start_life();
        crate::net::on_links_changed(self.core());
    }

    /// SIGSTOP: no task is polled; time, disks and the kernel's side of the network go on.
    pub fn pause(&self) {
        self.fault(4);
        self.core().count(|counters| counters.pauses += 1);
        self.state.paused.set(true);
    }

    /// SIGCONT.
    pub fn resume(&self) {
        self.fault(5);
        self.state.paused.set(false);
    }

    /// Makes its monotonic clock run faster (or, negative, slower) by this many parts per million.
    ///
    /// # Panics
    /// When the clock would stand still or go back.
    pub fn set_clock_drift(&self, parts_per_million: i32) {
        assert!(parts_per_million > -1_000_000, "clocks never go back");
        self.fault(6);
        self.core().count(|counters| counters.clock_faults += 1);
        let clock = ClockRate {
            anchor: self.core().now(),
            local: self.state.local_now(),
            per_million: MILLION + i128::from(parts_per_million),
        };
        self.state.clock.set(clock);
    }

    /// Moves its wall clock by so many milliseconds. The monotonic clock does not notice.
    pub fn jump_wall_clock(&self, milliseconds: i64) {
        self.fault(7);
        self.core().count(|counters| counters.clock_faults += 1);
        let offset = self.state.unix_offset_ms.get();
        self.state
            .unix_offset_ms
            .set(offset.saturating_add(milliseconds));
    }

    /// Adds a blank disk.
    ///
    /// # Panics
    /// When `bytes` is not a multiple of the page size.
    #[must_use]
    pub fn add_disk(&self, name: &str, bytes: u64) -> SimDisk {
        let state = DiskState::new(self.core(), &self.state, name, bytes);
        self.state.disks.borrow_mut().push(state.clone());
        SimDisk {
            state,
            host: self.clone(),
        }
    }

    /// Its disks, in the order they were added.
    #[must_use]
    pub fn disks(&self) -> Vec<SimDisk> {
        let disks = self.state.disks.borrow();
        let handle = |state: &Rc<DiskState>| SimDisk {
            state: state.clone(),
            host: self.clone(),
        };
        disks.iter().map(handle).collect()
    }
}

/// A copy of `bytes` with one random bit flipped.
pub(crate) fn flip_one_bit(rng: &SimRng, bytes: &[u8]) -> Bytes {
    let mut copy = bytes.to_vec();
    let bit = rng.index(copy.len() * 8);
    if let Some(byte) = copy.get_mut(bit / 8) {
        *byte ^= 1 << (bit % 8);
    }
    Bytes::from(copy)
}
