//! Reading the journal's live records again, also when nobody needs them: what has rotted is found while other replicas
//! are there.

use crate::state::{Place, Slot};
use crate::store::Store;
use std::collections::BTreeSet;
use vocab::VolumeId;
use wire::StoreError;

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Records read.
    pub records: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Records that do not verify.
    pub damaged: u64,
    /// Whose they are.
    pub volumes: BTreeSet<VolumeId>,
    /// Where to go on; `None`: the end.
    pub next: Option<u64>,
}

impl Store {
    /// Reads live records from the ring's page `from` on, about `bytes_max` bytes of them, and verifies them. What is let go
    /// meanwhile does not count. Promises nothing and changes nothing; may be repeated at any time.
    ///
    /// # Errors
    /// [`StoreError::Failed`] when the disk is gone or reads nothing any more; a place that cannot be read is a damaged record.
    pub async fn verify_journal(&self, from: u64, bytes_max: u64) -> Result<Verified, StoreError> {
        let mut slots = self.live_from(from);
        let mut found = Verified::default();
        let mut bytes = 0;
        let fits = slots.iter().take_while(|(page, slot)| {
            let fits = bytes < bytes_max || *page == from;
            bytes += u64::from(slot.head.data_bytes);
            fits
        });
        let count = fits.count();
        found.next = slots.get(count).map(|(page, _)| *page);
        slots.truncate(count);
        for (_, slot) in slots {
            found.records += 1;
            found.bytes += u64::from(slot.head.data_bytes);
            match self.read_record(&slot).await {
                Ok(_) => {}
                Err(StoreError::Damaged { .. }) if self.is_live(&slot) => {
                    found.damaged += 1;
                    found.volumes.insert(slot.head.volume);
                }
                Err(StoreError::Damaged { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }

    /// Live records with data from a page on, in the order of the ring.
    fn live_from(&self, from: u64) -> Vec<(u64, Slot)> {
        let state = self.0.state.borrow();
        let segments = state.logs.values().flat_map(|log| log.segments.values());
        let slots = segments.flat_map(|segment| &segment.slots);
        let placed = slots.filter_map(|slot| Some((slot.place.page()?, *slot)));
        let mut slots: Vec<(u64, Slot)> = placed.filter(|(page, _)| *page >= from).collect();
        slots.sort_by_key(|(page, slot)| (*page, slot.head.position));
        slots
    }

    /// Whether a record lies where it did: its page may have been given to others while it was read.
    fn is_live(&self, slot: &Slot) -> bool {
        let state = self.0.state.borrow();
        let Some(log) = state.logs.get(&slot.head.volume) else {
            return false;
        };
        let at = |other: &Slot| match (other.place, slot.place) {
            (Place::At { page: one, .. }, Place::At { page: other, .. }) => one == other,
            _ => false,
        };
        let mut slots = log.segments.values().flat_map(|segment| &segment.slots);
        slots.any(|other| other.head == slot.head && at(other))
    }
}
