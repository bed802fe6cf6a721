//! What the cluster has said of its space: new data with so many copies is not taken, or not on these stores.
//!
//! It is told by whoever follows the catalog, so that no write asks there. Stores that say themselves that they are full are
//! another matter (`Pool::crowded_for`): that passes within moments while garbage is collected.

use crate::pool::Pool;
use catalog::{SpaceRow, SpaceState};
use vocab::StoreId;

impl Pool {
    /// Takes over what the catalog says of the space.
    pub fn set_protection(&self, row: SpaceRow) {
        *self.0.protection.borrow_mut() = row;
    }

    /// Whether clients' new data with so many copies is not taken.
    #[must_use]
    pub fn is_protected(&self, copies: u8) -> bool {
        self.0.protection.borrow().state(copies) == SpaceState::Protected
    }

    /// Whether new data should go elsewhere: the store is protected, or was full a moment ago.
    pub(crate) fn takes_nothing(&self, store: StoreId) -> bool {
        self.is_full(store) || self.0.protection.borrow().stores.contains(&store)
    }
}
