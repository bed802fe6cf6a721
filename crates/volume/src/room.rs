//! Room for undrained data, shared by all volumes of a node.
//!
//! A volume may take more while what it holds is at most what is free (Choudhury and Hahne, "Dynamic Queue
//! Length Thresholds for Shared-Memory Packet Switches", 1998). So n busy volumes hold 1/(n+1) of the room
//! each, whoever came first, and the part that stays free lets the next one in at once; a single one may hold half.
//! Fixed shares would waste the room of idle volumes, and a plain bound would give all of it to the fastest writer.
//!
//! Invariants
//! - Admitted data never exceeds the bound, but for a single request that is larger than all of it.
//! - What a volume holds is given back when it is drained or dropped.
//!
//! What a takeover replays counts, but is not refused: it is there already. Whoever waits for room drains its
//! own volume; `Room::is_tight` lets the node drain those that hold room without writing.

use std::cell::Cell;
use std::rc::Rc;
use world::sync::{Notified, Notify};

/// The undrained bytes of a node. Shared by its volumes.
pub struct Room {
    bytes_max: Cell<u64>,
    used: Cell<u64>,
    freed: Notify,
}

impl Room {
    /// Room for so many bytes.
    #[must_use]
    pub fn new(bytes_max: u64) -> Rc<Self> {
        Rc::new(Self {
            bytes_max: Cell::new(bytes_max),
            used: Cell::new(0),
            freed: Notify::default(),
        })
    }

    /// There is so much room from now on. What is held stays held.
    pub fn set_max(&self, bytes_max: u64) {
        self.bytes_max.set(bytes_max);
        self.freed.notify_all();
    }

    /// Bytes of all volumes that are not drained.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.used.get()
    }

    /// Whether three quarters are taken: with all holders busy three of them are enough for that.
    #[must_use]
    pub fn is_tight(&self) -> bool {
        self.used.get() > self.bytes_max.get() / 4 * 3
    }

    /// Resolves when a volume gives room back after this call.
    pub(crate) fn freed(&self) -> Notified {
        self.freed.notified()
    }

    fn admits(&self, held: u64, bytes: u64) -> bool {
        let used = self.used.get();
        used == 0 || held.saturating_add(bytes) <= self.bytes_max.get().saturating_sub(used)
    }
}

/// What one volume holds of the room.
pub(crate) struct Share {
    room: Rc<Room>,
    bytes: Cell<u64>,
}

impl Share {
    pub(crate) fn new(room: Rc<Room>) -> Self {
        Self {
            room,
            bytes: Cell::new(0),
        }
    }

    /// Whether the volume may take so many bytes more.
    pub(crate) fn admits(&self, bytes: u64) -> bool {
        self.room.admits(self.bytes.get(), bytes)
    }

    /// The volume holds so many bytes now.
    pub(crate) fn set(&self, bytes: u64) {
        let others = self.room.used.get() - self.bytes.replace(bytes);
        self.room.used.set(others + bytes);
    }

    /// Tells those who wait that there is room again.
    pub(crate) fn notify_freed(&self) {
        self.room.freed.notify_all();
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.set(0);
        self.notify_freed();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    /// Lets every share take 1 MiB in turn until none may.
    fn fill(shares: &[Share]) {
        let mut moved = true;
        while moved {
            moved = false;
            for share in shares.iter().filter(|share| share.admits(MIB)) {
                share.set(share.bytes.get() + MIB);
                moved = true;
            }
        }
    }

    fn held(shares: &[Share]) -> Vec<u64> {
        shares.iter().map(|share| share.bytes.get() / MIB).collect()
    }

    #[test]
    fn busy_volumes_get_equal_shares_and_leave_one_for_the_next() {
        let room = Room::new(60 * MIB);
        let mut shares = vec![Share::new(room.clone())];
        fill(&shares);
        assert_eq!(held(&shares), [30]);
        shares.push(Share::new(room.clone()));
        fill(&shares);
        assert_eq!(held(&shares), [30, 15], "the second one is let in at once");
        shares[0].set(0);
        fill(&shares);
        assert_eq!(held(&shares), [18, 25], "what one drains is for both");
        assert!(room.used() <= 60 * MIB && !room.is_tight());
    }

    #[test]
    fn the_bound_holds_for_any_number_of_volumes() {
        let room = Room::new(64 * MIB);
        let mut shares = Vec::new();
        for _ in 0..100 {
            shares.push(Share::new(room.clone()));
            fill(&shares);
            assert!(room.used() <= 64 * MIB, "{} bytes are used", room.used());
        }
        assert!(room.is_tight());
        drop(shares);
        assert_eq!(room.used(), 0);
    }

    #[test]
    fn a_request_larger_than_the_room_is_let_in_alone() {
        let room = Room::new(MIB);
        let (one, other) = (Share::new(room.clone()), Share::new(room));
        assert!(one.admits(16 * MIB));
        one.set(16 * MIB);
        assert!(!other.admits(1) && !one.admits(1));
        one.set(0);
        assert!(other.admits(1));
    }
}
