//! The link between an operation in flight and the task that waits for it.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

struct Slot<T> {
    value: Option<T>,
    waker: Option<Waker>,
}

/// Held by the operation.
pub(crate) struct Done<T>(Rc<RefCell<Slot<T>>>);

/// Held by the task. Stays pending when the operation dies with its host.
pub(crate) struct Waiting<T>(Rc<RefCell<Slot<T>>>);

pub(crate) fn completion<T>() -> (Done<T>, Waiting<T>) {
    let slot = Rc::new(RefCell::new(Slot {
        value: None,
        waker: None,
    }));
    (Done(slot.clone()), Waiting(slot))
}

impl<T> Done<T> {
    /// Whether the task gave up waiting.
    pub(crate) fn is_abandoned(&self) -> bool {
        Rc::strong_count(&self.0) == 1
    }

    pub(crate) fn complete(self, value: T) {
        let waker = {
            let mut slot = self.0.borrow_mut();
            slot.value = Some(value);
            slot.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<T> Future for Waiting<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        let mut slot = self.0.borrow_mut();
        if let Some(value) = slot.value.take() {
            return Poll::Ready(value);
        }
        slot.waker = Some(context.waker().clone());
        Poll::Pending
    }
}
