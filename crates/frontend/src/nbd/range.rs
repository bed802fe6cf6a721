//! Locks of block ranges: a write of parts of blocks reads them first, and no other write of the same
//! blocks may come between.
//!
//! Invariants
//! - Whoever came first and overlaps goes first; two shared holders never exclude each other. So nobody
//!   starves, and while there are only shared holders nobody waits.
//! - Dropping a guard, or the future that waits for one, releases its place.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::ops::Range;
use std::rc::{Rc, Weak};
use world::sync::Notify;

/// The locks of all exports of a server, by export name. See [`super::Options::locks`].
#[derive(Clone, Default)]
pub struct Locks(Rc<RefCell<BTreeMap<String, Weak<State>>>>);

impl Locks {
    /// The locks of `name`, shared by everyone who asks while anyone has them.
    pub(crate) fn of(&self, name: &str) -> RangeLock {
        let mut all = self.0.borrow_mut();
        if let Some(state) = all.get(name).and_then(Weak::upgrade) {
            return RangeLock(state);
        }
        // As many entries as there are open exports remain.
        all.retain(|_, state| state.strong_count() > 0);
        let state = Rc::new(State::default());
        all.insert(name.to_owned(), Rc::downgrade(&state));
        RangeLock(state)
    }
}

/// What a holder does with its blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Overwrites whole blocks: others may do so at the same time.
    Whole,
    /// Reads, changes and writes back.
    Modify,
}

/// The locks of one export.
#[derive(Clone)]
pub(crate) struct RangeLock(Rc<State>);

#[derive(Default)]
struct State {
    /// Holders and waiters by ticket, in the order they came.
    entries: RefCell<BTreeMap<u64, Entry>>,
    next: Cell<u64>,
    modifying: Cell<usize>,
    changed: Notify,
}

struct Entry {
    blocks: Range<u64>,
    access: Access,
}

/// Holds blocks, or a place in the queue for them, until dropped.
pub(crate) struct Guard {
    state: Rc<State>,
    ticket: u64,
}

impl RangeLock {
    /// The blocks at once, or `None` when someone who came earlier excludes that.
    pub(crate) fn try_lock(&self, blocks: Range<u64>, access: Access) -> Option<Guard> {
        let guard = self.enter(blocks, access);
        guard.is_first().then_some(guard)
    }

    /// Waits for the blocks.
    pub(crate) async fn lock(&self, blocks: Range<u64>, access: Access) -> Guard {
        let guard = self.enter(blocks, access);
        loop {
            let changed = self.0.changed.notified();
            if guard.is_first() {
                return guard;
            }
            changed.await;
        }
    }

    fn enter(&self, blocks: Range<u64>, access: Access) -> Guard {
        let state = &self.0;
        let ticket = state.next.get();
        state.next.set(ticket + 1);
        if access == Access::Modify {
            state.modifying.set(state.modifying.get() + 1);
        }
        let entry = Entry { blocks, access };
        state.entries.borrow_mut().insert(ticket, entry);
        Guard {
            state: state.clone(),
            ticket,
        }
    }
}

impl Guard {
    /// Whether nobody who came earlier excludes this one.
    fn is_first(&self) -> bool {
        if self.state.modifying.get() == 0 {
            return true;
        }
        let entries = self.state.entries.borrow();
        let mine = &entries[&self.ticket];
        let excludes = |other: &Entry| {
            let overlaps =
                other.blocks.start < mine.blocks.end && mine.blocks.start < other.blocks.end;
            overlaps && (other.access == Access::Modify || mine.access == Access::Modify)
        };
        !entries
            .range(..self.ticket)
            .any(|(_, entry)| excludes(entry))
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let entry = self.state.entries.borrow_mut().remove(&self.ticket);
        let entry = entry.expect("only the guard removes its entry");
        // Someone waits only if a modifier is there, as its predecessor or as the waiter.
        if self.state.modifying.get() > 0 {
            if entry.access == Access::Modify {
                self.state.modifying.set(self.state.modifying.get() - 1);
            }
            self.state.changed.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Access::{Modify, Whole};
    use futures_util::FutureExt;

    #[test]
    fn whole_writes_exclude_only_modifiers() {
        let lock = Locks::default().of("v");
        let first = lock.try_lock(0..4, Whole).unwrap();
        let second = lock.try_lock(2..6, Whole).unwrap();
        assert!(lock.try_lock(3..4, Modify).is_none());
        assert!(lock.try_lock(6..7, Modify).is_some());
        drop(first);
        assert!(lock.try_lock(3..4, Modify).is_none());
        drop(second);
        let third = lock.try_lock(3..4, Modify).unwrap();
        assert!(lock.try_lock(0..8, Whole).is_none());
        drop(third);
        assert!(lock.try_lock(0..8, Whole).is_some());
    }

    #[test]
    fn who_came_first_goes_first() {
        let lock = Locks::default().of("v");
        let holder = lock.try_lock(0..1, Whole).unwrap();
        let mut modifier = Box::pin(lock.lock(0..1, Modify));
        assert!(modifier.as_mut().now_or_never().is_none());
        let mut late = Box::pin(lock.lock(0..1, Whole));
        assert!(late.as_mut().now_or_never().is_none());
        drop(holder);
        let held = modifier.now_or_never().unwrap();
        assert!(late.as_mut().now_or_never().is_none());
        drop(held);
        assert!(late.now_or_never().is_some());
    }

    #[test]
    fn dropped_waiters_hold_nobody_up() {
        let lock = Locks::default().of("v");
        let holder = lock.try_lock(0..1, Modify).unwrap();
        let mut waiter = Box::pin(lock.lock(0..2, Modify));
        assert!(waiter.as_mut().now_or_never().is_none());
        assert!(lock.try_lock(1..2, Whole).is_none());
        drop(waiter);
        assert!(lock.try_lock(1..2, Whole).is_some());
        drop(holder);
    }

    #[test]
    fn locks_are_shared_by_name_and_forgotten_after_use() {
        let locks = Locks::default();
        let (one, two, other) = (locks.of("a"), locks.of("a"), locks.of("b"));
        let held = one.try_lock(0..1, Modify).unwrap();
        assert!(two.try_lock(0..1, Whole).is_none());
        assert!(other.try_lock(0..1, Whole).is_some());
        drop((held, one, two, other));
        let _only = locks.of("c");
        assert_eq!(locks.0.borrow().len(), 1);
    }
}
