//! One value from another thread to a future of a shard. Futures of a shard are `!Send`, their wakers are
//! not: the sender stores the value and wakes the task.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

struct Slot<T> {
    value: Option<T>,
    waker: Option<Waker>,
    sender_gone: bool,
}

fn lock<T>(slot: &Mutex<Slot<T>>) -> MutexGuard<'_, Slot<T>> {
    slot.lock()
        .expect("no code that can panic runs under this lock")
}

/// The sending half; dropping it unused resolves the receiver to `None`.
pub(crate) struct Sender<T>(Arc<Mutex<Slot<T>>>);

/// The receiving half.
pub(crate) struct Receiver<T>(Arc<Mutex<Slot<T>>>);

/// A channel for one value.
pub(crate) fn channel<T: Send>() -> (Sender<T>, Receiver<T>) {
    let slot = Arc::new(Mutex::new(Slot {
        value: None,
        waker: None,
        sender_gone: false,
    }));
    (Sender(slot.clone()), Receiver(slot))
}

impl<T> Sender<T> {
    /// Hands over the value.
    pub(crate) fn send(self, value: T) {
        lock(&self.0).value = Some(value);
        // Dropping `self` wakes the receiver.
    }

    /// Whether nobody waits any more.
    #[cfg(any(feature = "embedded", test))]
    pub(crate) fn is_abandoned(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let waker = {
            let mut slot = lock(&self.0);
            slot.sender_gone = true;
            slot.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<T> Future for Receiver<T> {
    type Output = Option<T>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<T>> {
        let mut slot = lock(&self.0);
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

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[test]
    fn a_value_from_another_thread_wakes_the_receiver() {
        let (sender, receiver) = channel();
        let thread = std::thread::spawn(move || sender.send(7));
        let value = wait(receiver);
        assert_eq!(value, Some(7));
        thread.join().expect("it only sends");
    }

    /// Parks the thread until the future is done.
    fn wait<T>(mut receiver: Receiver<T>) -> Option<T> {
        struct Unpark(std::thread::Thread);
        impl std::task::Wake for Unpark {
            fn wake(self: Arc<Self>) {
                self.0.unpark();
            }
        }
        let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
        for _ in 0..1_000 {
            let mut context = Context::from_waker(&waker);
            if let Poll::Ready(value) = receiver.poll_unpin(&mut context) {
                return value;
            }
            std::thread::park_timeout(std::time::Duration::from_secs(1));
        }
        panic!("nobody replied");
    }

    #[test]
    fn a_dropped_sender_resolves_to_none_and_a_dropped_receiver_is_noticed() {
        let (sender, receiver) = channel::<u8>();
        assert!(!sender.is_abandoned());
        drop(sender);
        assert_eq!(receiver.now_or_never(), Some(None));
        let (sender, receiver) = channel::<u8>();
        drop(receiver);
        assert!(sender.is_abandoned());
    }
}
