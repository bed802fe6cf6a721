//! What the core may ask of a machine: disks, network, time, randomness, tasks.
//!
//! Core crates see nothing else of an operating system. `world-linux` implements the traits on io_uring
//! and TCP, `world-sim` on a seeded, faulty simulation in virtual time.
//!
//! Invariants
//! - Futures are `!Send`: a shard is one thread with one [`Executor`].
//! - Every future may be dropped at any time. A dropped I/O may or may not still happen; its buffers
//!   belong to the implementation until it has.
//! - No I/O happens on the caller's stack before the future is first polled, except that
//!   implementations may submit eagerly.
//!
//! Read next: `disk.rs`, `net.rs`, `exec.rs`, `sync.rs`, `blame.rs`.

pub mod blame;
mod buf;
mod caller;
mod disk;
mod exec;
mod net;
pub mod sync;
mod time;

pub use buf::{Buf, PAGE};
pub use caller::{Caller, Limits, Role};
pub use disk::{Disk, DiskError};
pub use exec::Executor;
pub use futures_util::future::LocalBoxFuture;
pub use net::{Address, Listener, Net, NetError, Stream};
pub use time::{Clock, Duration, Time};

use std::future::Future;
use std::rc::Rc;

/// Source of random numbers. Seeded in the simulator, the kernel's in production.
pub trait Rng {
    /// 64 uniformly random bits.
    fn next_u64(&self) -> u64;
}

/// Runs tasks on the caller's shard and heavy work beside it.
pub trait Spawn {
    /// Starts `task` on this shard. It is dropped without further notice when the node stops or crashes.
    fn spawn(&self, task: LocalBoxFuture<'static, ()>);

    /// Runs `work` off the shard (a thread pool; inline in the simulator) and resolves when it is done.
    /// For work above about 200 µs of CPU.
    fn offload(&self, work: Box<dyn FnOnce() + Send>) -> LocalBoxFuture<'static, ()>;
}

/// Everything a shard may ask of its machine. Cheap to clone.
#[derive(Clone)]
pub struct World {
    /// Time.
    pub clock: Rc<dyn Clock>,
    /// Randomness.
    pub rng: Rc<dyn Rng>,
    /// Tasks.
    pub tasks: Rc<dyn Spawn>,
    /// Connections.
    pub net: Rc<dyn Net>,
}

/// A deadline passed before the future it bounded was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("timed out")]
pub struct TimedOut;

impl World {
    /// Now, on the monotonic clock.
    #[must_use]
    pub fn now(&self) -> Time {
        self.clock.now()
    }

    /// Resolves after `duration`.
    pub fn sleep(&self, duration: Duration) -> LocalBoxFuture<'static, ()> {
        self.clock.sleep_until(self.now() + duration)
    }

    /// Starts a task on this shard.
    pub fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        self.tasks.spawn(Box::pin(task));
    }

    /// The output of `future`, or [`TimedOut`] when `duration` passes first; `future` is dropped then.
    ///
    /// # Errors
    /// [`TimedOut`]; whether a retry is safe depends on `future`.
    pub async fn timeout<F: Future>(
        &self,
        duration: Duration,
        future: F,
    ) -> Result<F::Output, TimedOut> {
        let future = std::pin::pin!(future);
        match futures_util::future::select(future, self.sleep(duration)).await {
            futures_util::future::Either::Left((output, _)) => Ok(output),
            futures_util::future::Either::Right(((), _)) => Err(TimedOut),
        }
    }

    /// The result of `work`, computed off the shard.
    ///
    /// # Panics
    /// When `work` panicked: the pool reports it by never storing a result.
    pub async fn offload<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let slot = std::sync::Arc::new(std::sync::Mutex::new(None));
        let sink = slot.clone();
        let subject = blame::subject();
        let store = move || {
            let value = blame::on_behalf(subject, work);
            *sink.lock().expect("no other holder can panic") = Some(value);
        };
        self.tasks.offload(Box::new(store)).await;
        let value = slot.lock().expect("the worker is done with it").take();
        value.expect("offload resolves only after the work has stored its result")
    }
}
