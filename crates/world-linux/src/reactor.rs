//! The operation table of a shard, over one of two ways to reach the kernel.
//!
//! State: one slot per operation, from its submission until both the kernel has answered and its owner
//! has taken the answer or has gone. A slot's number carries a generation, so a late cancellation can
//! never hit the slot's next user.
//!
//! Invariants
//! - A request's memory is not freed or moved between submission and the kernel's answer. What the
//!   kernel sees is behind a pointer of the request; the request itself may move.
//! - Wakers and requests are woken and dropped outside of all borrows: they run foreign code.

use crate::request::{Next, Request};
use crate::ring::Ring;
use crate::threads::Threads;
use crate::wake::Wake;
use rustix::io::Errno;
use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use world::Duration;

/// Generation in the upper, slot in the lower half.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key(pub(crate) u64);

impl Key {
    fn index(self) -> usize {
        (self.0 & 0xffff_ffff) as usize
    }

    fn generation(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

enum State {
    Free,
    /// The kernel works on it. Requests that are with the thread pool are `None` here.
    Pending {
        request: Option<Request>,
        waker: Option<Waker>,
        abandoned: bool,
    },
    Finished {
        request: Request,
        result: Result<usize, Errno>,
    },
}

struct Slot {
    generation: u32,
    state: State,
}

/// Operations under way.
#[derive(Default)]
pub(crate) struct Table {
    slots: Vec<Slot>,
    free: Vec<usize>,
    pending: usize,
    /// Wakers and requests to wake and drop once nothing is borrowed.
    wakers: Vec<Waker>,
    garbage: Vec<Request>,
    /// No operation is started any more, and those that may never end are not gone on with.
    pub(crate) closing: bool,
}

impl Table {
    pub(crate) fn insert(&mut self, request: Request) -> Key {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot {
                generation: 0,
                state: State::Free,
            });
            self.slots.len() - 1
        });
        let slot = &mut self.slots[index];
        slot.generation = slot.generation.wrapping_add(1) & 0x7fff_ffff;
        slot.state = State::Pending {
            request: Some(request),
            waker: None,
            abandoned: false,
        };
        self.pending += 1;
        Key(u64::from(slot.generation) << 32 | index as u64)
    }

    fn slot(&mut self, key: Key) -> Option<&mut Slot> {
        let slot = self.slots.get_mut(key.index())?;
        (slot.generation == key.generation()).then_some(slot)
    }

    /// The request of a pending operation.
    pub(crate) fn pending(&mut self, key: Key) -> Option<&mut Request> {
        match &mut self.slot(key)?.state {
            State::Pending { request, .. } => request.as_mut(),
            State::Free | State::Finished { .. } => None,
        }
    }

    /// Takes a pending operation's request away, to be given back to [`Table::finish`].
    pub(crate) fn take_request(&mut self, key: Key) -> Option<Request> {
        match &mut self.slot(key)?.state {
            State::Pending { request, .. } => request.take(),
            State::Free | State::Finished { .. } => None,
        }
    }

    /// The kernel is done with an operation. `request` unless it is in the table.
    pub(crate) fn finish(
        &mut self,
        key: Key,
        request: Option<Request>,
        result: Result<usize, Errno>,
    ) {
        let Some(slot) = self.slot(key) else {
            return;
        };
        let State::Pending {
            request: kept,
            waker,
            abandoned,
        } = std::mem::replace(&mut slot.state, State::Free)
        else {
            panic!("operation {key:?} finished twice");
        };
        let request = request.or(kept).expect("in the table or given back");
        if abandoned {
            self.garbage.push(request);
            self.free.push(key.index());
        } else {
            slot.state = State::Finished { request, result };
        }
        self.pending -= 1;
        self.wakers.extend(waker);
    }

    /// Takes the result of one of the ring's system calls; whether the operation needs another one.
    pub(crate) fn advance(&mut self, key: Key, result: Result<usize, Errno>) -> bool {
        let closing = self.closing;
        let Some(slot) = self.slot(key) else {
            return false;
        };
        let State::Pending {
            request: Some(request),
            abandoned,
            ..
        } = &mut slot.state
        else {
            return false;
        };
        match request.advance(result) {
            Next::Again => {
                let stop = *abandoned || closing && request.is_endless();
                if !stop {
                    return true;
                }
                self.finish(key, None, Err(Errno::CANCELED));
            }
            Next::Done(result) => self.finish(key, None, result),
        }
        false
    }
}

enum Backend {
    Ring(Box<Ring>),
    Threads(Box<Threads>),
}

/// See the module's documentation. Every method is called on the shard's thread.
pub(crate) struct Reactor {
    table: RefCell<Table>,
    backend: RefCell<Backend>,
}

impl Reactor {
    pub(crate) fn on_ring(ring: Ring) -> Self {
        Self::new(Backend::Ring(Box::new(ring)))
    }

    pub(crate) fn on_threads(threads: Threads) -> Self {
        Self::new(Backend::Threads(Box::new(threads)))
    }

    fn new(backend: Backend) -> Self {
        Self {
            table: RefCell::default(),
            backend: RefCell::new(backend),
        }
    }

    /// Whether this is the io_uring.
    pub(crate) fn is_ring(&self) -> bool {
        matches!(*self.backend.borrow(), Backend::Ring(_))
    }

    /// Flags for the sockets it is given: the ring waits inside of the kernel, epoll outside.
    pub(crate) fn socket_flags(&self) -> rustix::net::SocketFlags {
        match *self.backend.borrow() {
            Backend::Ring(_) => rustix::net::SocketFlags::empty(),
            Backend::Threads(_) => rustix::net::SocketFlags::NONBLOCK,
        }
    }

    /// Starts an operation.
    pub(crate) fn submit(self: &Rc<Self>, request: Request) -> Operation {
        let key = {
            let mut table = self.table.borrow_mut();
            let key = table.insert(request);
            if table.closing {
                table.finish(key, None, Err(Errno::CANCELED));
            } else {
                match &mut *self.backend.borrow_mut() {
                    Backend::Ring(ring) => ring.start(&mut table, key),
                    Backend::Threads(threads) => threads.start(&mut table, key),
                }
            }
            key
        };
        self.clean_up();
        Operation {
            reactor: self.clone(),
            key: Some(key),
        }
    }

    /// Hands over what was submitted and takes what has finished, after waiting up to `timeout` (for
    /// ever when absent) for something to finish or a wake from another thread.
    pub(crate) fn turn(&self, timeout: Option<Duration>) {
        {
            let mut table = self.table.borrow_mut();
            match &mut *self.backend.borrow_mut() {
                Backend::Ring(ring) => ring.turn(&mut table, timeout),
                Backend::Threads(threads) => threads.turn(&mut table, timeout),
            }
        }
        self.clean_up();
    }

    /// Whether another thread has left something that needs a turn now.
    pub(crate) fn has_remote_work(&self) -> bool {
        match &*self.backend.borrow() {
            Backend::Ring(_) => false,
            Backend::Threads(threads) => threads.has_completed(),
        }
    }

    fn abandon(&self, key: Key) {
        {
            let mut table = self.table.borrow_mut();
            let Some(slot) = table.slot(key) else {
                return;
            };
            match &mut slot.state {
                State::Free => {}
                State::Finished { .. } => {
                    let state = std::mem::replace(&mut slot.state, State::Free);
                    table.free.push(key.index());
                    if let State::Finished { request, .. } = state {
                        table.garbage.push(request);
                    }
                }
                State::Pending {
                    request,
                    waker,
                    abandoned,
                } => {
                    *abandoned = true;
                    let waker = waker.take();
                    let endless = request.as_ref().is_some_and(Request::is_endless);
                    table.wakers.extend(waker);
                    if endless {
                        self.cancel(&mut table, key);
                    }
                }
            }
        }
        self.clean_up();
    }

    fn cancel(&self, table: &mut Table, key: Key) {
        match &mut *self.backend.borrow_mut() {
            Backend::Ring(ring) => ring.cancel(table, key),
            Backend::Threads(threads) => threads.cancel(table, key),
        }
    }

    fn clean_up(&self) {
        // Waking and dropping may submit and abandon, which cleans up after itself.
        let (mut wakers, garbage) = {
            let mut table = self.table.borrow_mut();
            let wakers = std::mem::take(&mut table.wakers);
            (wakers, std::mem::take(&mut table.garbage))
        };
        drop(garbage);
        for waker in wakers.drain(..) {
            waker.wake();
        }
        let mut table = self.table.borrow_mut();
        if table.wakers.capacity() == 0 {
            table.wakers = wakers;
        }
    }

    /// Refuses further operations, cancels what would not end and waits for the rest.
    pub(crate) fn shut_down(self: &Rc<Self>, wake: &Wake) {
        {
            let mut table = self.table.borrow_mut();
            table.closing = true;
            for index in 0..table.slots.len() {
                let key = Key(u64::from(table.slots[index].generation) << 32 | index as u64);
                if table
                    .pending(key)
                    .is_some_and(|request| request.is_endless())
                {
                    self.cancel(&mut table, key);
                }
            }
        }
        // 60 s: disks answer or fail within 30 s by the kernel's own time limits.
        for _ in 0..600 {
            if self.table.borrow().pending == 0 {
                break;
            }
            wake.announce_sleep();
            let timeout = match self.has_remote_work() {
                true => Duration::ZERO,
                false => Duration::from_millis(100),
            };
            self.turn(Some(timeout));
        }
        if self.table.borrow().pending > 0 {
            // A device hangs. The kernel may yet write to this memory, so it is never freed.
            std::mem::forget(self.clone());
            return;
        }
        if let Backend::Threads(threads) = &mut *self.backend.borrow_mut() {
            threads.join();
        }
    }
}

/// An operation under way; resolves to the request and its result. When it is dropped, sockets'
/// operations are cancelled and disks' finish on their own.
pub(crate) struct Operation {
    reactor: Rc<Reactor>,
    key: Option<Key>,
}

impl Future for Operation {
    type Output = (Request, Result<usize, Errno>);

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let key = self.key.expect("not polled after it was ready");
        let mut table = self.reactor.table.borrow_mut();
        let slot = table.slot(key).expect("the slot is ours until now");
        if let State::Pending { waker, .. } = &mut slot.state {
            let new = context.waker();
            let kept = waker.as_ref().is_some_and(|waker| waker.will_wake(new));
            if !kept {
                let old = waker.replace(new.clone());
                drop(table);
                drop(old);
            }
            return Poll::Pending;
        }
        let state = std::mem::replace(&mut slot.state, State::Free);
        table.free.push(key.index());
        drop(table);
        self.key = None;
        match state {
            State::Finished { request, result } => Poll::Ready((request, result)),
            State::Free | State::Pending { .. } => unreachable!("the slot is ours until now"),
        }
    }
}

impl Drop for Operation {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            self.reactor.abandon(key);
        }
    }
}
