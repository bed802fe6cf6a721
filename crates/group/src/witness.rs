//! What is told of puts to whoever watches: the simulator, in its builds. In others nobody does, and all of this is nothing.

use crate::pool::{Pool, Unflushed};
#[cfg(feature = "bugs")]
use vocab::StoreId;
use vocab::{ExtentId, Generation};

/// A put that is being acknowledged.
#[cfg(feature = "bugs")]
#[derive(Clone, Debug)]
pub struct Acknowledged {
    /// The extent.
    pub id: ExtentId,
    /// The generation of the group that it was put with.
    pub generation: Generation,
    /// What [`Watch::on_put_begins`] said.
    pub began: u64,
    /// Members that took it, each with the runs in which it did.
    pub taken: Vec<(StoreId, Vec<u64>)>,
}

/// Is told of puts at that moment, for the simulator's checks.
#[cfg(feature = "bugs")]
pub trait Watch {
    /// Members are about to be asked; the moment.
    fn on_put_begins(&self) -> u64;

    /// A put is acknowledged.
    fn on_put(&self, put: &Acknowledged);
}

/// Who watches.
#[cfg(feature = "bugs")]
#[derive(Clone)]
pub struct Witness(pub std::rc::Rc<dyn Watch>);

#[cfg(feature = "bugs")]
impl std::fmt::Debug for Witness {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Witness")
    }
}

impl Pool {
    /// Members are about to be asked to take a put; the moment, for whoever watches.
    pub(crate) fn witness_of_begin(&self) -> u64 {
        #[cfg(feature = "bugs")]
        if let Some(witness) = &self.0.options.witness {
            return witness.0.on_put_begins();
        }
        0
    }

    /// A put with a generation of its group is being acknowledged for what these members took.
    pub(crate) fn bear_witness(
        &self,
        (id, generation): (ExtentId, Generation),
        began: u64,
        taken: &Unflushed,
    ) {
        #[cfg(feature = "bugs")]
        if let Some(witness) = &self.0.options.witness {
            let taken = taken.0.iter();
            let taken = taken.map(|(&store, runs)| (store, runs.iter().copied().collect()));
            witness.0.on_put(&Acknowledged {
                id,
                generation,
                began,
                taken: taken.collect(),
            });
        }
        let _ = (id, generation, began, taken);
    }
}
