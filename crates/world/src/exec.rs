//! The executor of one shard: a queue of ready tasks, polled in order on one thread.
//!
//! Used by both worlds. It never blocks: the world runs [`Executor::run_ready`], then waits for I/O or
//! time and wakes tasks. Wakers are `Send`, so a thread pool may wake a shard; `on_remote_wake` then
//! interrupts the shard's wait.

use crate::{LocalBoxFuture, blame};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Wake, Waker};

type TaskId = usize;

struct Ready {
    queue: VecDeque<(TaskId, u64)>,
}

struct TaskWaker {
    id: TaskId,
    generation: u64,
    queued: std::sync::atomic::AtomicBool,
    shared: Arc<Shared>,
}

struct Shared {
    ready: Mutex<Ready>,
    owner: std::thread::ThreadId,
    on_remote_wake: Box<dyn Fn() + Send + Sync>,
}

impl Shared {
    fn ready(&self) -> MutexGuard<'_, Ready> {
        self.ready
            .lock()
            .expect("no code that can panic runs under this lock")
    }
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        use std::sync::atomic::Ordering;
        if self.queued.swap(true, Ordering::AcqRel) {
            return;
        }
        self.shared
            .ready()
            .queue
            .push_back((self.id, self.generation));
        if std::thread::current().id() != self.shared.owner {
            (self.shared.on_remote_wake)();
        }
    }
}

struct Task {
    generation: u64,
    /// Absent while it is being polled.
    future: Option<LocalBoxFuture<'static, ()>>,
    /// On whose behalf it runs.
    subject: Option<u64>,
    waker: Arc<TaskWaker>,
}

/// Tasks of one shard. Created on the thread that runs it.
pub struct Executor {
    shared: Arc<Shared>,
    tasks: RefCell<Slots>,
}

#[derive(Default)]
struct Slots {
    slots: Vec<Option<Task>>,
    free: Vec<TaskId>,
    generation: u64,
}

impl Executor {
    /// An executor owned by the calling thread. `on_remote_wake` is called, on the waking thread, when
    /// another thread makes a task ready.
    #[must_use]
    pub fn new(on_remote_wake: Box<dyn Fn() + Send + Sync>) -> Self {
        let shared = Shared {
            ready: Mutex::new(Ready {
                queue: VecDeque::new(),
            }),
            owner: std::thread::current().id(),
            on_remote_wake,
        };
        Self {
            shared: Arc::new(shared),
            tasks: RefCell::default(),
        }
    }

    /// Adds a task and makes it ready.
    pub fn spawn(&self, future: LocalBoxFuture<'static, ()>) {
        let mut tasks = self.tasks.borrow_mut();
        tasks.generation += 1;
        let generation = tasks.generation;
        let id = tasks.free.pop().unwrap_or_else(|| {
            tasks.slots.push(None);
            tasks.slots.len() - 1
        });
        let waker = Arc::new(TaskWaker {
            id,
            generation,
            queued: std::sync::atomic::AtomicBool::new(true),
            shared: self.shared.clone(),
        });
        tasks.slots[id] = Some(Task {
            generation,
            future: Some(future),
            subject: blame::subject(),
            waker,
        });
        drop(tasks);
        self.shared.ready().queue.push_back((id, generation));
    }

    /// Polls at most `limit` ready tasks, the one at `pick(ready count)` each time; returns how many it polled.
    /// The simulator picks at random, production picks the oldest.
    pub fn run_ready_with(&self, limit: usize, mut pick: impl FnMut(usize) -> usize) -> usize {
        for polled in 0..limit {
            let next = {
                let mut ready = self.shared.ready();
                match ready.queue.len() {
                    0 => return polled,
                    1 => ready.queue.pop_front(),
                    count => {
                        let index = pick(count);
                        ready.queue.remove(index)
                    }
                }
            };
            if let Some((id, generation)) = next {
                self.poll(id, generation);
            }
        }
        limit
    }

    /// Polls at most `limit` ready tasks, oldest first; returns how many it polled.
    pub fn run_ready(&self, limit: usize) -> usize {
        self.run_ready_with(limit, |_| 0)
    }

    /// Whether a task waits to be polled.
    #[must_use]
    pub fn has_ready(&self) -> bool {
        !self.shared.ready().queue.is_empty()
    }

    /// Drops every task: what a crash does.
    pub fn clear(&self) {
        // Dropping a future may spawn or wake, so tasks are moved out before they are dropped.
        let slots = {
            let mut tasks = self.tasks.borrow_mut();
            tasks.free.clear();
            std::mem::take(&mut tasks.slots)
        };
        drop(slots);
        let spawned_by_destructors = {
            let mut tasks = self.tasks.borrow_mut();
            tasks.free.clear();
            std::mem::take(&mut tasks.slots)
        };
        drop(spawned_by_destructors);
        self.shared.ready().queue.clear();
    }

    fn poll(&self, id: TaskId, generation: u64) {
        use std::sync::atomic::Ordering;
        let (mut future, waker, subject) = {
            let mut tasks = self.tasks.borrow_mut();
            let Some(Some(task)) = tasks.slots.get_mut(id) else {
                return;
            };
            if task.generation != generation {
                return;
            }
            let Some(future) = task.future.take() else {
                return;
            };
            task.waker.queued.store(false, Ordering::Release);
            (future, task.waker.clone(), task.subject)
        };
        let waker = Waker::from(waker);
        let done = blame::on_behalf(subject, || {
            future.as_mut().poll(&mut Context::from_waker(&waker)) == Poll::Ready(())
        });
        if done {
            // The future is dropped before its slot is free: its destructor may spawn.
            drop(future);
            let mut tasks = self.tasks.borrow_mut();
            if matches!(tasks.slots.get(id), Some(Some(task)) if task.generation == generation) {
                tasks.slots[id] = None;
                tasks.free.push(id);
            }
            return;
        }
        let mut tasks = self.tasks.borrow_mut();
        if let Some(Some(task)) = tasks.slots.get_mut(id)
            && task.generation == generation
        {
            task.future = Some(future);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::rc::Rc;

    fn executor() -> Executor {
        Executor::new(Box::new(|| {}))
    }

    #[test]
    fn tasks_run_until_they_wait_and_again_when_woken() {
        let executor = executor();
        let signal = crate::sync::Notify::default();
        let count = Rc::new(Cell::new(0));
        let (waiter, counter) = (signal.clone(), count.clone());
        executor.spawn(Box::pin(async move {
            loop {
                waiter.notified().await;
                counter.set(counter.get() + 1);
            }
        }));
        executor.run_ready(100);
        assert_eq!(count.get(), 0);
        signal.notify_all();
        executor.run_ready(100);
        assert_eq!(count.get(), 1);
        executor.clear();
        signal.notify_all();
        executor.run_ready(100);
        assert_eq!(count.get(), 1);
    }

    #[test]
    fn a_waker_of_a_finished_task_does_not_poll_its_successor() {
        let executor = executor();
        let signal = crate::sync::Notify::default();
        let waiter = signal.clone();
        executor.spawn(Box::pin(async move { waiter.notified().await }));
        executor.run_ready(10);
        signal.notify_all();
        executor.run_ready(10);
        let polls = Rc::new(Cell::new(0));
        let counter = polls.clone();
        executor.spawn(Box::pin(std::future::poll_fn(move |_| {
            counter.set(counter.get() + 1);
            Poll::Pending
        })));
        signal.notify_all();
        executor.run_ready(10);
        assert_eq!(polls.get(), 1);
    }
}
