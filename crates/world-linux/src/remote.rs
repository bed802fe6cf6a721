//! Runs closures on a shard from other threads, e.g. from the control plane's tokio runtime.
//!
//! A handle carries closures to the shard and their results back. The shard's state never leaves its
//! thread: closures are given an `Rc` of it. Calls start in the order in which they were made.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::thread::ThreadId;
use world::{LocalBoxFuture, Spawn};

type Call<S> = Box<dyn FnOnce(Rc<S>) -> LocalBoxFuture<'static, ()> + Send>;

/// The shard has ended, or ended while the call was under way: the call may have happened in part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the shard that was asked has stopped")]
pub struct ShardGone;

struct Calls<S> {
    queue: VecDeque<Call<S>>,
    waker: Option<Waker>,
    closed: bool,
}

struct Mailbox<S> {
    calls: Mutex<Calls<S>>,
    owner: ThreadId,
}

impl<S> Mailbox<S> {
    fn calls(&self) -> MutexGuard<'_, Calls<S>> {
        self.calls
            .lock()
            .expect("no foreign code runs under this lock")
    }
}

/// A way to a shard whose state is `S`. Clones reach the same shard; it outlives them and they it.
pub struct RemoteHandle<S> {
    mailbox: Arc<Mailbox<S>>,
}

impl<S> Clone for RemoteHandle<S> {
    fn clone(&self) -> Self {
        Self {
            mailbox: self.mailbox.clone(),
        }
    }
}

impl<S: 'static> RemoteHandle<S> {
    /// Serves calls with a task of the calling shard.
    pub(crate) fn serve(tasks: &Rc<impl Spawn + 'static>, state: Rc<S>) -> Self {
        let mailbox = Arc::new(Mailbox {
            calls: Mutex::new(Calls {
                queue: VecDeque::new(),
                waker: None,
                closed: false,
            }),
            owner: std::thread::current().id(),
        });
        let server = Server {
            mailbox: mailbox.clone(),
            state,
            tasks: tasks.clone(),
        };
        tasks.spawn(Box::pin(server));
        Self { mailbox }
    }

    /// Runs `call` on the shard and its future to the end there.
    ///
    /// # Errors
    /// [`ShardGone`]; `call` was dropped on the calling thread then.
    pub fn spawn(
        &self,
        call: impl FnOnce(Rc<S>) -> LocalBoxFuture<'static, ()> + Send + 'static,
    ) -> Result<(), ShardGone> {
        let mut calls = self.mailbox.calls();
        if calls.closed {
            return Err(ShardGone);
        }
        calls.queue.push_back(Box::new(call));
        let waker = calls.waker.take();
        drop(calls);
        if let Some(waker) = waker {
            waker.wake();
        }
        Ok(())
    }

    /// The output of the future that `call` returns, computed on the shard. The call is sent at once,
    /// and goes on when the returned future is dropped.
    ///
    /// # Errors
    /// [`ShardGone`] when the shard ends first; whether a retry is safe depends on `call`.
    pub fn call<T: Send + 'static, F>(
        &self,
        call: F,
    ) -> impl Future<Output = Result<T, ShardGone>> + Send + 'static + use<S, T, F>
    where
        F: FnOnce(Rc<S>) -> LocalBoxFuture<'static, T> + Send + 'static,
    {
        self.send(call)
    }

    /// As [`RemoteHandle::call`], blocking the calling thread meanwhile.
    ///
    /// # Errors
    /// As [`RemoteHandle::call`].
    ///
    /// # Panics
    /// On the shard's own thread, where it could never return.
    pub fn call_blocking<T: Send + 'static>(
        &self,
        call: impl FnOnce(Rc<S>) -> LocalBoxFuture<'static, T> + Send + 'static,
    ) -> Result<T, ShardGone> {
        assert_ne!(
            std::thread::current().id(),
            self.mailbox.owner,
            "a shard cannot block on itself"
        );
        self.send(call).wait()
    }

    fn send<T: Send + 'static>(
        &self,
        call: impl FnOnce(Rc<S>) -> LocalBoxFuture<'static, T> + Send + 'static,
    ) -> Reply<T> {
        let shared = Arc::new(ReplyState {
            slot: Mutex::new(Slot {
                value: None,
                sender_gone: false,
                waker: None,
            }),
            changed: Condvar::new(),
        });
        let sender = Sender(shared.clone());
        // When the shard is gone the closure is dropped, and with it the sender: the reply says so.
        let _ = self.spawn(move |state| {
            Box::pin(async move {
                let value = call(state).await;
                sender.send(value);
            })
        });
        Reply(shared)
    }
}

/// The shard's end of a mailbox.
struct Server<S, P> {
    mailbox: Arc<Mailbox<S>>,
    state: Rc<S>,
    tasks: Rc<P>,
}

impl<S, P: Spawn> Future for Server<S, P> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let queue = {
            let mut calls = self.mailbox.calls();
            calls.waker = Some(context.waker().clone());
            std::mem::take(&mut calls.queue)
        };
        for call in queue {
            self.tasks.spawn(call(self.state.clone()));
        }
        Poll::Pending
    }
}

impl<S, P> Drop for Server<S, P> {
    fn drop(&mut self) {
        let dropped = {
            let mut calls = self.mailbox.calls();
            calls.closed = true;
            (std::mem::take(&mut calls.queue), calls.waker.take())
        };
        drop(dropped);
    }
}

struct Slot<T> {
    value: Option<T>,
    sender_gone: bool,
    waker: Option<Waker>,
}

struct ReplyState<T> {
    slot: Mutex<Slot<T>>,
    changed: Condvar,
}

impl<T> ReplyState<T> {
    fn slot(&self) -> MutexGuard<'_, Slot<T>> {
        self.slot
            .lock()
            .expect("no foreign code runs under this lock")
    }
}

struct Sender<T>(Arc<ReplyState<T>>);

impl<T> Sender<T> {
    fn send(self, value: T) {
        self.0.slot().value = Some(value);
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let waker = {
            let mut slot = self.0.slot();
            slot.sender_gone = true;
            slot.waker.take()
        };
        self.0.changed.notify_all();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

struct Reply<T>(Arc<ReplyState<T>>);

impl<T> Reply<T> {
    fn wait(self) -> Result<T, ShardGone> {
        let waiting = |slot: &mut Slot<T>| !slot.sender_gone;
        let slot = self.0.changed.wait_while(self.0.slot(), waiting);
        let value = slot
            .expect("no foreign code runs under this lock")
            .value
            .take();
        value.ok_or(ShardGone)
    }
}

impl<T> Future for Reply<T> {
    type Output = Result<T, ShardGone>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut slot = self.0.slot();
        if let Some(value) = slot.value.take() {
            return Poll::Ready(Ok(value));
        }
        if slot.sender_gone {
            return Poll::Ready(Err(ShardGone));
        }
        slot.waker = Some(context.waker().clone());
        Poll::Pending
    }
}
