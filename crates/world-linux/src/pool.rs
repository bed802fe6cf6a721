//! A bounded pool of threads that are started when there is work and none is idle.
//!
//! Panics of a job are caught: its effects are missing, its caller is told, the thread goes on. Closing
//! drops jobs that have not started.

use std::collections::VecDeque;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::thread::JoinHandle;

pub(crate) type Job = Box<dyn FnOnce() + Send>;

struct State {
    jobs: VecDeque<Job>,
    idle: usize,
    threads: Vec<JoinHandle<()>>,
    closed: bool,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    threads_max: usize,
    name: &'static str,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("jobs run outside of this lock")
    }

    fn work(&self) {
        loop {
            let job = {
                let mut state = self.state();
                loop {
                    if let Some(job) = state.jobs.pop_front() {
                        break job;
                    }
                    if state.closed {
                        return;
                    }
                    state.idle += 1;
                    state = self.changed.wait(state).expect("jobs run outside of it");
                    state.idle -= 1;
                }
            };
            // The panic hook has printed the message; the job's owner sees a missing result.
            let _ = catch_unwind(AssertUnwindSafe(job));
        }
    }
}

/// Dropping it closes it without waiting; see [`Pool::join`].
pub(crate) struct Pool {
    shared: Arc<Shared>,
}

impl Pool {
    pub(crate) fn new(name: &'static str, threads_max: usize) -> Self {
        Self {
            shared: Arc::new(Shared {
                state: Mutex::new(State {
                    jobs: VecDeque::new(),
                    idle: 0,
                    threads: Vec::new(),
                    closed: false,
                }),
                changed: Condvar::new(),
                threads_max: threads_max.max(1),
                name,
            }),
        }
    }

    /// Queues `job`. When no thread can be started at all it runs on the caller's.
    pub(crate) fn run(&self, job: Job) {
        let mut state = self.shared.state();
        if state.closed {
            drop(state);
            drop(job);
            return;
        }
        state.jobs.push_back(job);
        if state.idle >= state.jobs.len() || state.threads.len() >= self.shared.threads_max {
            drop(state);
            self.shared.changed.notify_one();
            return;
        }
        let shared = self.shared.clone();
        let builder = std::thread::Builder::new().name(self.shared.name.to_owned());
        match builder.spawn(move || shared.work()) {
            Ok(thread) => state.threads.push(thread),
            Err(_) if state.threads.is_empty() => {
                let job = state.jobs.pop_back();
                drop(state);
                if let Some(job) = job {
                    let _ = catch_unwind(AssertUnwindSafe(job));
                }
            }
            Err(_) => {
                drop(state);
                self.shared.changed.notify_one();
            }
        }
    }

    fn close(&self) -> (VecDeque<Job>, Vec<JoinHandle<()>>) {
        let mut state = self.shared.state();
        state.closed = true;
        let taken = (
            std::mem::take(&mut state.jobs),
            std::mem::take(&mut state.threads),
        );
        drop(state);
        self.shared.changed.notify_all();
        taken
    }

    /// Drops what has not started and waits for what has.
    pub(crate) fn join(&self) {
        let (jobs, threads) = self.close();
        drop(jobs);
        for thread in threads {
            // Jobs' panics are caught, so a thread always ends well.
            let _ = thread.join();
        }
    }
}

impl Pool {
    /// Drops what has not started and lets what has end on its own.
    pub(crate) fn detach(&self) {
        drop(self.close());
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.detach();
    }
}

#[derive(Default)]
struct Progress {
    done: bool,
    waker: Option<Waker>,
}

/// Marks its job as done when it is dropped: after the job, its panic, or with the pool.
struct Finish(Arc<Mutex<Progress>>);

impl Drop for Finish {
    fn drop(&mut self) {
        let waker = {
            let mut progress = self.0.lock().expect("no code that can panic runs under it");
            progress.done = true;
            progress.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// Resolves when its job has ended. Dropping it does not stop the job.
pub(crate) struct Offloaded(Arc<Mutex<Progress>>);

impl Pool {
    /// Runs `work` on the pool.
    pub(crate) fn offload(&self, work: Job) -> Offloaded {
        let progress = Arc::<Mutex<Progress>>::default();
        let finish = Finish(progress.clone());
        self.run(Box::new(move || {
            let _finish = finish;
            work();
        }));
        Offloaded(progress)
    }
}

impl Future for Offloaded {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut progress = self.0.lock().expect("no code that can panic runs under it");
        if progress.done {
            return Poll::Ready(());
        }
        progress.waker = Some(context.waker().clone());
        Poll::Pending
    }
}
