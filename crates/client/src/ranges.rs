//! Keeps writes that overlap from being in flight together.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Range;
use std::rc::Rc;
use world::sync::Notify;

/// Block ranges of writes in flight; disjoint.
#[derive(Clone, Default)]
pub(crate) struct Ranges(Rc<State>);

#[derive(Default)]
struct State {
    /// Start to end.
    held: RefCell<BTreeMap<u64, u64>>,
    freed: Notify,
}

/// Holds a range until dropped.
pub(crate) struct HeldRange {
    state: Rc<State>,
    start: u64,
}

impl Ranges {
    /// Waits until nothing held overlaps `range`, which must not be empty, and holds it.
    pub(crate) async fn hold(&self, range: Range<u64>) -> HeldRange {
        assert!(!range.is_empty(), "callers check for empty requests");
        loop {
            let freed = self.0.freed.notified();
            if let Some(held) = self.try_hold(&range) {
                return held;
            }
            freed.await;
        }
    }

    fn try_hold(&self, range: &Range<u64>) -> Option<HeldRange> {
        let mut held = self.0.held.borrow_mut();
        // Ranges are disjoint: the last one that starts before our end has the largest end among those.
        let before = held.range(..range.end).next_back();
        if before.is_some_and(|(_, end)| *end > range.start) {
            return None;
        }
        held.insert(range.start, range.end);
        Some(HeldRange {
            state: self.0.clone(),
            start: range.start,
        })
    }
}

impl Drop for HeldRange {
    fn drop(&mut self) {
        self.state.held.borrow_mut().remove(&self.start);
        self.state.freed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[test]
    fn overlapping_ranges_wait_and_disjoint_ones_do_not() {
        let ranges = Ranges::default();
        let first = ranges.hold(10..20).now_or_never().expect("free");
        assert!(ranges.hold(20..21).now_or_never().is_some());
        assert!(ranges.hold(0..10).now_or_never().is_some());
        for overlapping in [10..20, 0..11, 19..30, 12..13, 0..40] {
            assert!(ranges.hold(overlapping).now_or_never().is_none());
        }
        drop(first);
        assert!(ranges.hold(0..40).now_or_never().is_some());
    }
}
