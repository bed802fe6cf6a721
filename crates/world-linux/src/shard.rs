//! One shard: the calling thread, its executor and its reactor.
//!
//! A turn polls ready tasks, fires timers, then hands what they submitted to the kernel in one system
//! call, which also waits when no task is ready.

use crate::clock::{MonotonicClock, Timers};
use crate::net::LinuxNet;
use crate::pool::Pool;
use crate::random::KernelRng;
use crate::reactor::Reactor;
use crate::remote::RemoteHandle;
use crate::ring::Ring;
use crate::threads::Threads;
use crate::wake::Wake;
use rustix::event::EventfdFlags;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use world::{Duration, Executor, LocalBoxFuture, Spawn, World};

/// Tasks polled between two looks at the kernel: at about 1 µs each, I/O waits 0.3 ms at most.
const POLLS_PER_TURN: usize = 256;

/// How a shard reaches disks and sockets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Io {
    /// io_uring where the kernel grants it, else threads.
    #[default]
    Auto,
    /// io_uring or nothing.
    Ring,
    /// Threads for disks, epoll for sockets.
    Threads,
}

/// What a shard is made of.
#[derive(Clone, Debug)]
pub struct ShardOptions {
    /// How disks and sockets are reached.
    pub io: Io,
    /// Threads for heavy computations and name look-ups, at least 1. They are started when needed.
    pub offload_threads: usize,
    /// Disk operations at a time with [`Io::Threads`].
    pub disk_threads: usize,
}

impl Default for ShardOptions {
    fn default() -> Self {
        let cores = std::thread::available_parallelism();
        Self {
            io: Io::Auto,
            offload_threads: cores.map_or(1, std::num::NonZero::get),
            disk_threads: 32,
        }
    }
}

/// Why a shard did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// io_uring was insisted on.
    #[error(
        "io_uring is not available: {reason}. Allow it (seccomp profile, \
             /proc/sys/kernel/io_uring_disabled) or choose the thread pool"
    )]
    NoRing {
        /// The operating system's words.
        reason: String,
    },
    /// Something every shard needs is missing.
    #[error("the shard cannot start: {reason}. Is a limit on open files or threads reached?")]
    Resources {
        /// The operating system's words.
        reason: String,
    },
}

/// Tasks of this shard and the pool beside it.
pub(crate) struct Tasks {
    executor: Executor,
    pool: Pool,
    stopped: Cell<bool>,
}

impl Spawn for Tasks {
    fn spawn(&self, task: LocalBoxFuture<'static, ()>) {
        if !self.stopped.get() {
            self.executor.spawn(task);
        }
    }

    fn offload(&self, work: Box<dyn FnOnce() + Send>) -> LocalBoxFuture<'static, ()> {
        Box::pin(self.pool.offload(work))
    }
}

/// What a real shard offers beyond [`World`]: disks and calls from other threads. Cheap to clone.
#[derive(Clone)]
pub struct Machine {
    pub(crate) reactor: Rc<Reactor>,
    tasks: Rc<Tasks>,
    why_threads: Option<Rc<str>>,
}

impl Machine {
    /// How this shard reaches disks and sockets: never [`Io::Auto`].
    #[must_use]
    pub fn io(&self) -> Io {
        match self.reactor.is_ring() {
            true => Io::Ring,
            false => Io::Threads,
        }
    }

    /// Why [`Io::Auto`] became threads, for the log.
    #[must_use]
    pub fn why_threads(&self) -> Option<&str> {
        self.why_threads.as_deref()
    }

    /// Lets other threads run closures on this shard with `state`, until the shard ends.
    #[must_use]
    pub fn remote<S: 'static>(&self, state: Rc<S>) -> RemoteHandle<S> {
        RemoteHandle::serve(&self.tasks, state)
    }
}

type Started = (Reactor, Arc<Wake>, Option<Rc<str>>);

fn start_threads(options: &ShardOptions, why: Option<Rc<str>>) -> Result<Started, StartError> {
    let start = || {
        let wake = Arc::new(Wake::new(EventfdFlags::NONBLOCK)?);
        let threads = Threads::new(wake.clone(), options.disk_threads)?;
        Ok((Reactor::on_threads(threads), wake, why))
    };
    start().map_err(|error: rustix::io::Errno| StartError::Resources {
        reason: error.to_string(),
    })
}

fn start_reactor(options: &ShardOptions) -> Result<Started, StartError> {
    if options.io == Io::Threads {
        return start_threads(options, None);
    }
    let wake = Wake::new(EventfdFlags::empty()).map_err(|error| StartError::Resources {
        reason: error.to_string(),
    })?;
    let wake = Arc::new(wake);
    match Ring::new(wake.clone()) {
        Ok(ring) => Ok((Reactor::on_ring(ring), wake, None)),
        Err(error) if options.io == Io::Ring => Err(StartError::NoRing {
            reason: error.to_string(),
        }),
        // EPERM and EACCES (seccomp, sysctl), ENOSYS (old kernel), ENOMEM (locked memory): whatever it
        // is, threads either work or report what is wrong with the machine.
        Err(error) => start_threads(options, Some(error.to_string().into())),
    }
}

/// Ends the shard, also when a task panics.
struct Running {
    tasks: Rc<Tasks>,
    reactor: Rc<Reactor>,
    wake: Arc<Wake>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.tasks.stopped.set(true);
        self.tasks.executor.clear();
        self.reactor.shut_down(&self.wake);
        self.tasks.pool.detach();
    }
}

/// Makes the calling thread a shard until the future of `main` resolves. Then the remaining tasks are
/// dropped, and it returns once no I/O is under way any more. Disks and connections kept beyond that
/// report that they are gone.
///
/// # Errors
/// [`StartError`], before `main` is called.
///
/// # Panics
/// When a task panics, after the same cleaning up.
pub fn run<T: 'static>(
    options: ShardOptions,
    main: impl FnOnce(World, Machine) -> LocalBoxFuture<'static, T>,
) -> Result<T, StartError> {
    let (reactor, wake, why_threads) = start_reactor(&options)?;
    let reactor = Rc::new(reactor);
    let waker = wake.clone();
    let tasks = Rc::new(Tasks {
        executor: Executor::new(Box::new(move || waker.wake())),
        pool: Pool::new("offload", options.offload_threads),
        stopped: Cell::new(false),
    });
    let running = Running {
        tasks: tasks.clone(),
        reactor: reactor.clone(),
        wake: wake.clone(),
    };
    let timers = Rc::new(Timers::default());
    let world = World {
        clock: Rc::new(MonotonicClock(timers.clone())),
        rng: Rc::new(KernelRng::default()),
        tasks: tasks.clone(),
        net: Rc::new(LinuxNet::new(reactor.clone(), &tasks, timers.clone())),
    };
    let machine = Machine {
        reactor: reactor.clone(),
        tasks: tasks.clone(),
        why_threads,
    };
    let output = Rc::new(RefCell::new(None));
    let sink = output.clone();
    let main = main(world, machine);
    tasks.spawn(Box::pin(async move {
        let value = main.await;
        *sink.borrow_mut() = Some(value);
    }));
    let value = loop {
        tasks.executor.run_ready(POLLS_PER_TURN);
        if let Some(value) = output.borrow_mut().take() {
            break value;
        }
        timers.fire();
        wake.announce_sleep();
        let busy = tasks.executor.has_ready() || reactor.has_remote_work();
        let timeout = match busy {
            true => Some(Duration::ZERO),
            false => timers.until_first(),
        };
        reactor.turn(timeout);
        wake.announce_awake();
    };
    drop(running);
    Ok(value)
}
