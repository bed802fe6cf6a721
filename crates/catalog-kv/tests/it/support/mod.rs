//! What the tests of all backends share: a shard on real time, and the conformance suite.

pub mod conformance;
#[cfg(feature = "etcd")]
pub mod etcd;

use std::cell::Cell;
use std::future::Future;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Instant;
use world::{
    Address, Clock, Duration, Executor, Listener, LocalBoxFuture, Net, NetError, Rng, Spawn,
    Stream, Time, World,
};

/// Longest a test may run; etcd needs seconds to expire a lease.
const TEST_SECONDS_MAX: u64 = 120;

struct RealClock(Instant);

/// A timer: a thread that sleeps, then wakes.
#[derive(Default)]
struct Timer {
    done: bool,
    waker: Option<Waker>,
}

impl Clock for RealClock {
    fn now(&self) -> Time {
        Time(0) + self.0.elapsed()
    }

    fn sleep_until(&self, deadline: Time) -> LocalBoxFuture<'static, ()> {
        let timer = Arc::new(Mutex::new(Timer::default()));
        let remaining = deadline.since(self.now());
        let mut started = false;
        Box::pin(std::future::poll_fn(move |context: &mut Context<'_>| {
            let mut state = timer.lock().unwrap();
            if state.done {
                return Poll::Ready(());
            }
            state.waker = Some(context.waker().clone());
            drop(state);
            if !std::mem::replace(&mut started, true) {
                let timer = timer.clone();
                std::thread::spawn(move || {
                    std::thread::sleep(remaining);
                    let mut state = timer.lock().unwrap();
                    state.done = true;
                    state.waker.take().inspect(Waker::wake_by_ref);
                });
            }
            Poll::Pending
        }))
    }

    fn unix_ms(&self) -> u64 {
        0
    }
}

struct Counter(Cell<u64>);

impl Rng for Counter {
    fn next_u64(&self) -> u64 {
        self.0
            .set(self.0.get().wrapping_mul(6_364_136_223_846_793_005) + 1);
        self.0.get()
    }
}

struct Tasks(Rc<Executor>);

impl Spawn for Tasks {
    fn spawn(&self, task: LocalBoxFuture<'static, ()>) {
        self.0.spawn(task);
    }

    fn offload(&self, work: Box<dyn FnOnce() + Send>) -> LocalBoxFuture<'static, ()> {
        work();
        Box::pin(std::future::ready(()))
    }
}

struct NoNet;

fn no_net<T>() -> LocalBoxFuture<'static, Result<T, NetError>> {
    let error = NetError::Lost("tests of the catalog have no network".to_owned());
    Box::pin(async { Err(error) })
}

impl Net for NoNet {
    fn connect(&self, _: &Address) -> LocalBoxFuture<'static, Result<Rc<dyn Stream>, NetError>> {
        no_net()
    }

    fn listen(&self, _: &Address) -> LocalBoxFuture<'static, Result<Rc<dyn Listener>, NetError>> {
        no_net()
    }
}

/// Runs a test on a shard of its own: this thread, real time.
pub fn block_on<F: Future + 'static>(test: impl FnOnce(World) -> F) -> F::Output
where
    F::Output: 'static,
{
    let thread = std::thread::current();
    let executor = Rc::new(Executor::new(Box::new(move || thread.unpark())));
    let world = World {
        clock: Rc::new(RealClock(Instant::now())),
        rng: Rc::new(Counter(Cell::new(1))),
        tasks: Rc::new(Tasks(executor.clone())),
        net: Rc::new(NoNet),
    };
    let (done, mut result) = world::sync::promise();
    let future = test(world);
    executor.spawn(Box::pin(async move { done.fulfil(future.await) }));
    let started = Instant::now();
    loop {
        executor.run_ready(1_000);
        let mut context = Context::from_waker(Waker::noop());
        if let Poll::Ready(value) = std::pin::Pin::new(&mut result).poll(&mut context) {
            executor.clear();
            return value.expect("the test keeps its promise");
        }
        let seconds = started.elapsed().as_secs();
        assert!(seconds < TEST_SECONDS_MAX, "the test hangs");
        if !executor.has_ready() {
            std::thread::park_timeout(Duration::from_millis(200));
        }
    }
}

/// A directory that goes away with the test, under the system's temporary directory.
pub struct TempDir(pub std::path::PathBuf);

impl TempDir {
    pub fn new(name: &str) -> Self {
        let name = format!("catalog-kv-{name}-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let _absent = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _gone = std::fs::remove_dir_all(&self.0);
    }
}
