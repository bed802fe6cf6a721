//! Waiting between tasks of one shard. Nothing here crosses threads.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// Wakes tasks that wait for "something changed". A waiter checks its condition, waits, checks again; a
/// notification between creating [`Notify::notified`] and awaiting it is not lost.
#[derive(Clone, Default)]
pub struct Notify(Rc<NotifyState>);

#[derive(Default)]
struct NotifyState {
    round: Cell<u64>,
    wakers: RefCell<Vec<Waker>>,
}

impl Notify {
    /// Wakes everyone who waits now.
    pub fn notify_all(&self) {
        self.0.round.set(self.0.round.get() + 1);
        let wakers = std::mem::take(&mut *self.0.wakers.borrow_mut());
        for waker in wakers {
            waker.wake();
        }
    }

    /// Resolves at the first [`Notify::notify_all`] after this call.
    #[must_use]
    pub fn notified(&self) -> Notified {
        Notified {
            state: self.0.clone(),
            round: self.0.round.get(),
        }
    }
}

/// See [`Notify::notified`].
pub struct Notified {
    state: Rc<NotifyState>,
    round: u64,
}

impl Future for Notified {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.state.round.get() != self.round {
            return Poll::Ready(());
        }
        let mut wakers = self.state.wakers.borrow_mut();
        if !wakers.iter().any(|waker| waker.will_wake(context.waker())) {
            wakers.push(context.waker().clone());
        }
        Poll::Pending
    }
}

/// The sending half of a one-value channel.
pub struct Promise<T>(Rc<RefCell<Slot<T>>>);

/// The receiving half: `None` when the promise was dropped unfulfilled.
pub struct Outcome<T>(Rc<RefCell<Slot<T>>>);

struct Slot<T> {
    value: Option<T>,
    waker: Option<Waker>,
    sender_gone: bool,
}

/// A channel for one value.
#[must_use]
pub fn promise<T>() -> (Promise<T>, Outcome<T>) {
    let slot = Rc::new(RefCell::new(Slot {
        value: None,
        waker: None,
        sender_gone: false,
    }));
    (Promise(slot.clone()), Outcome(slot))
}

impl<T> Promise<T> {
    /// Hands over the value.
    pub fn fulfil(self, value: T) {
        self.0.borrow_mut().value = Some(value);
    }
}

impl<T> Drop for Promise<T> {
    fn drop(&mut self) {
        let waker = {
            let mut slot = self.0.borrow_mut();
            slot.sender_gone = true;
            slot.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<T> Future for Outcome<T> {
    type Output = Option<T>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<T>> {
        let mut slot = self.0.borrow_mut();
        if let Some(value) = slot.value.take() {
            return Poll::Ready(Some(value));
        }
        if slot.sender_gone {
            return Poll::Ready(None);
        }
        slot.waker = Some(context.waker().clone());
        Poll::Pending
    }
}

/// An unbounded queue between tasks of one shard; its users bound it by permits or windows.
pub struct Queue<T>(Rc<QueueState<T>>);

struct QueueState<T> {
    items: RefCell<VecDeque<T>>,
    closed: Cell<bool>,
    changed: Notify,
}

impl<T> Clone for Queue<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self(Rc::new(QueueState {
            items: RefCell::default(),
            closed: Cell::new(false),
            changed: Notify::default(),
        }))
    }
}

impl<T> Queue<T> {
    /// Adds an item; dropped when the queue is closed.
    pub fn push(&self, item: T) {
        if !self.0.closed.get() {
            self.0.items.borrow_mut().push_back(item);
            self.0.changed.notify_all();
        }
    }

    /// The oldest item, waiting for one; `None` once closed and empty.
    pub async fn pop(&self) -> Option<T> {
        loop {
            let changed = self.0.changed.notified();
            if let Some(item) = self.0.items.borrow_mut().pop_front() {
                return Some(item);
            }
            if self.0.closed.get() {
                return None;
            }
            changed.await;
        }
    }

    /// The oldest item, if there is one.
    #[must_use]
    pub fn try_pop(&self) -> Option<T> {
        self.0.items.borrow_mut().pop_front()
    }

    /// Refuses further items and lets waiters drain what is left.
    pub fn close(&self) {
        self.0.closed.set(true);
        self.0.changed.notify_all();
    }

    /// Whether [`Queue::close`] was called.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.0.closed.get()
    }

    /// Items waiting.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.items.borrow().len()
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A mutual exclusion that is held across awaits, first come first served.
#[derive(Clone, Default)]
pub struct Lock(Rc<LockState>);

#[derive(Default)]
struct LockState {
    next: Cell<u64>,
    serving: Cell<u64>,
    abandoned: RefCell<std::collections::BTreeSet<u64>>,
    changed: Notify,
}

/// Holds a [`Lock`] until dropped.
pub struct Held {
    state: Rc<LockState>,
    ticket: u64,
}

impl Lock {
    /// Waits for its turn.
    pub async fn lock(&self) -> Held {
        let ticket = self.0.next.get();
        self.0.next.set(ticket + 1);
        // Dropping the guard gives the turn on, also when this future is dropped while it waits.
        let held = Held {
            state: self.0.clone(),
            ticket,
        };
        loop {
            let changed = self.0.changed.notified();
            if self.0.serving.get() == ticket {
                return held;
            }
            changed.await;
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut abandoned = self.state.abandoned.borrow_mut();
        abandoned.insert(self.ticket);
        let mut serving = self.state.serving.get();
        while abandoned.remove(&serving) {
            serving += 1;
        }
        self.state.serving.set(serving);
        drop(abandoned);
        self.state.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[test]
    fn a_dropped_promise_resolves_to_none() {
        let (sender, receiver) = promise::<u8>();
        drop(sender);
        assert_eq!(receiver.now_or_never(), Some(None));
    }

    #[test]
    fn a_fulfilled_promise_gives_its_value() {
        let (sender, receiver) = promise();
        sender.fulfil(7);
        assert_eq!(receiver.now_or_never(), Some(Some(7)));
    }

    #[test]
    fn a_lock_passes_over_waiters_that_gave_up() {
        let lock = Lock::default();
        let first = lock.lock().now_or_never().expect("free");
        let mut second = Box::pin(lock.lock());
        assert!(second.as_mut().now_or_never().is_none());
        let mut third = Box::pin(lock.lock());
        assert!(third.as_mut().now_or_never().is_none());
        drop(second);
        drop(first);
        assert!(third.now_or_never().is_some());
    }
}
