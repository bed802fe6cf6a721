//! Where blocks are kept.

use crate::block::Name;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};

/// Keeps blocks. Called off the shard, by one thread at a time that changes something and any that read.
pub trait Shelf: fmt::Debug + Send + Sync {
    /// Every block with its bytes.
    ///
    /// # Errors
    /// For people.
    fn list(&self) -> Result<Vec<(Name, u64)>, String>;

    /// Puts a block in the place of the one of that name, if there is one: after a crash one of the two is there, whole.
    ///
    /// # Errors
    /// For people; what was there before is there.
    fn write(&self, name: Name, bytes: &[u8]) -> Result<(), String>;

    /// Bytes of a block from `offset` on, at most `len`, fewer at its end; nothing when there is no such block.
    ///
    /// # Errors
    /// For people.
    fn read(&self, name: Name, offset: u64, len: usize) -> Result<Option<Vec<u8>>, String>;

    /// Removes a block, if it is there.
    ///
    /// # Errors
    /// For people.
    fn remove(&self, name: Name) -> Result<(), String>;
}

/// Blocks in memory: for nodes that are simulated.
#[derive(Default)]
pub struct MemoryShelf(Mutex<BTreeMap<Name, Vec<u8>>>);

impl fmt::Debug for MemoryShelf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryShelf").finish_non_exhaustive()
    }
}

impl MemoryShelf {
    fn blocks(&self) -> std::sync::MutexGuard<'_, BTreeMap<Name, Vec<u8>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shelf for MemoryShelf {
    fn list(&self) -> Result<Vec<(Name, u64)>, String> {
        let blocks = self.blocks();
        let sizes = blocks
            .iter()
            .map(|(name, bytes)| (*name, bytes.len() as u64));
        Ok(sizes.collect())
    }

    fn write(&self, name: Name, bytes: &[u8]) -> Result<(), String> {
        self.blocks().insert(name, bytes.to_vec());
        Ok(())
    }

    fn read(&self, name: Name, offset: u64, len: usize) -> Result<Option<Vec<u8>>, String> {
        let blocks = self.blocks();
        let Some(bytes) = blocks.get(&name) else {
            return Ok(None);
        };
        let from = usize::try_from(offset)
            .unwrap_or(usize::MAX)
            .min(bytes.len());
        let to = from.saturating_add(len).min(bytes.len());
        Ok(Some(bytes[from..to].to_vec()))
    }

    fn remove(&self, name: Name) -> Result<(), String> {
        self.blocks().remove(&name);
        Ok(())
    }
}
