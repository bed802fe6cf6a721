//! Accepting: handshakes beside each other, so that one that hangs holds nobody up.

use super::{HANDSHAKES_MAX, shake};
use futures_util::StreamExt;
use futures_util::future::select;
use futures_util::stream::FuturesUnordered;
use identity::Credentials;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::{Context, Poll};
use world::sync::Notify;
use world::{Address, Duration, Listener, LocalBoxFuture, NetError, Stream, Time, World};

/// Refused callers are told of at most so often: somebody who tries again and again does not fill the log.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// Callers that wait to be handed out; as many again wait in the kernel.
const READY_MAX: usize = 1024;

type Accepted = Result<Rc<dyn Stream>, NetError>;
type Shaking = LocalBoxFuture<'static, Result<Rc<dyn Stream>, String>>;

struct State {
    world: World,
    credentials: Arc<Credentials>,
    address: Address,
    /// Gone when the outer listener is dropped.
    listener: RefCell<Option<Rc<dyn Listener>>>,
    accepting: RefCell<Option<LocalBoxFuture<'static, Accepted>>>,
    shaking: RefCell<FuturesUnordered<Shaking>>,
    /// The connections of `shaking`, oldest first; those that are done are gone.
    under_way: RefCell<VecDeque<Weak<dyn Stream>>>,
    /// Those who have shown who they are, and why there will be no more.
    ready: RefCell<VecDeque<Accepted>>,
    /// `ready` has grown, has shrunk, or the listener is dropped.
    changed: Notify,
    told_at: Cell<Option<Time>>,
}

/// A listener that hands out those who have shown who they are.
pub(super) struct Doorkeeper(Rc<State>);

impl Doorkeeper {
    pub(super) fn new(
        world: World,
        credentials: Arc<Credentials>,
        listener: Rc<dyn Listener>,
    ) -> Self {
        let state = Rc::new(State {
            world: world.clone(),
            credentials,
            address: listener.address(),
            listener: RefCell::new(Some(listener)),
            accepting: RefCell::default(),
            shaking: RefCell::default(),
            under_way: RefCell::default(),
            ready: RefCell::default(),
            changed: Notify::default(),
            told_at: Cell::default(),
        });
        world.spawn(state.clone().keep());
        Self(state)
    }
}

impl Drop for Doorkeeper {
    fn drop(&mut self) {
        // The address is free from now on.
        self.0.accepting.take();
        self.0.listener.take();
        self.0.changed.notify_all();
    }
}

impl State {
    /// Accepts and shakes hands until the listener is dropped.
    async fn keep(self: Rc<Self>) {
        while self.listener.borrow().is_some() {
            let changed = std::pin::pin!(self.changed.notified());
            let working = poll_fn(|context| self.poll_work(context));
            select(changed, working).await;
        }
    }

    /// Never done: `changed` ends it.
    fn poll_work(&self, context: &mut Context<'_>) -> Poll<()> {
        while self.has_room() {
            let Some(listener) = self.listener.borrow().clone() else {
                return Poll::Pending;
            };
            let mut accepting = self.accepting.borrow_mut();
            let next = accepting.get_or_insert_with(|| listener.accept());
            let Poll::Ready(accepted) = next.as_mut().poll(context) else {
                break;
            };
            *accepting = None;
            match accepted {
                Ok(stream) => self.begin(stream),
                Err(error) => self.hand_out(Err(error)),
            }
        }
        // Where nobody is shaking hands, the accept above wakes this task.
        while let Poll::Ready(Some(shaken)) = self.shaking.borrow_mut().poll_next_unpin(context) {
            match shaken {
                Ok(stream) => self.hand_out(Ok(stream)),
                Err(reason) => self.tell(&reason),
            }
        }
        Poll::Pending
    }

    /// After a failure nothing is accepted until somebody has taken notice.
    fn has_room(&self) -> bool {
        let ready = self.ready.borrow();
        ready.len() < READY_MAX && !ready.back().is_some_and(Result::is_err)
    }

    fn hand_out(&self, accepted: Accepted) {
        self.ready.borrow_mut().push_back(accepted);
        self.changed.notify_all();
    }

    async fn accept(self: Rc<Self>) -> Accepted {
        loop {
            let changed = self.changed.notified();
            if let Some(accepted) = self.ready.borrow_mut().pop_front() {
                self.changed.notify_all();
                return accepted;
            }
            changed.await;
        }
    }

    fn begin(&self, stream: Rc<dyn Stream>) {
        let mut under_way = self.under_way.borrow_mut();
        under_way.retain(|stream| stream.strong_count() > 0);
        if under_way.len() >= HANDSHAKES_MAX
            && let Some(oldest) = under_way.pop_front().and_then(|oldest| oldest.upgrade())
        {
            oldest.close();
        }
        let (world, credentials) = (self.world.clone(), self.credentials.clone());
        under_way.push_back(Rc::downgrade(&stream));
        let shaking = async move { shake::answer(&world, credentials, stream).await };
        self.shaking.borrow().push(Box::pin(shaking));
    }

    fn tell(&self, reason: &str) {
        let now = self.world.now();
        let recent = |at: Time| now.since(at) < TELL_EVERY;
        if !self.told_at.get().is_some_and(recent) {
            self.told_at.set(Some(now));
            tracing::warn!(reason, address = %self.address, "a connection was refused");
        }
    }
}

impl Listener for Doorkeeper {
    fn accept(&self) -> LocalBoxFuture<'static, Accepted> {
        Box::pin(self.0.clone().accept())
    }

    fn address(&self) -> Address {
        self.0.address.clone()
    }
}
