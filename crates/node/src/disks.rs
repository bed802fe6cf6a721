//! The disks of this machine as the node sees them: without an operating system.

use std::fmt;
use std::rc::Rc;
use vocab::StoreId;
use world::{Disk, LocalBoxFuture};

/// Disks that a store is to be made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DiskRequest {
    /// Block devices or files: all disks of the store.
    pub paths: Vec<String>,
    /// Make files of so many bytes where nothing is at a path.
    pub create: Option<u64>,
    /// Size of the journal that they are to have, in bytes; nothing: as the disks allow.
    pub journal: Option<u64>,
    /// The exact words that a refusal asked for, for disks whose content may be destroyed.
    pub overrides: Vec<String>,
}

/// Disks that were opened for a store.
pub struct FoundDisks {
    /// The disks, in the order of the request.
    pub disks: Vec<Rc<dyn Disk>>,
    /// Whether they are those of the store that was looked for: they are kept as they are.
    pub kept: bool,
}

/// What the machine says of a disk of a store of this node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DiskFacts {
    /// The store.
    pub store: u32,
    /// Where it is.
    pub path: String,
    /// Bytes, if it is there.
    pub size: Option<u64>,
    /// Its serial number, if the operating system says it.
    pub serial: Option<String>,
    /// Its model, if the operating system says it.
    pub model: Option<String>,
    /// Whether the light that shows where it is is on; nothing: it has none that can be switched.
    pub light: Option<bool>,
}

/// The disks of a machine, and the list of those that are stores of this node.
pub trait Bay: fmt::Debug {
    /// The disks of this node's stores, by store.
    fn list(&self) -> LocalBoxFuture<'static, Vec<DiskFacts>>;

    /// Opens disks for this process alone, makes files that are asked for, and looks at all of them. Nothing is written to
    /// what is there. Disks that are not blank are refused, unless they are all of the store `own`, or the request has the
    /// words for them.
    ///
    /// # Errors
    /// For people: which disk, why, and what to do.
    fn open(
        &self,
        request: DiskRequest,
        own: Option<StoreId>,
    ) -> LocalBoxFuture<'static, Result<FoundDisks, String>>;

    /// From now on, also after a restart, `store` is on these disks. Durable when it returns.
    ///
    /// # Errors
    /// Why that cannot be kept; what was kept before holds then.
    fn remember(
        &self,
        store: StoreId,
        paths: Vec<String>,
    ) -> LocalBoxFuture<'static, Result<(), String>>;

    /// From now on, also after a restart, `store` is not of this node. Durable when it returns.
    ///
    /// # Errors
    /// Why that cannot be kept; what was kept before holds then.
    fn forget(&self, store: StoreId) -> LocalBoxFuture<'static, Result<(), String>>;

    /// Where `store` is, as it is kept.
    fn paths_of(&self, store: StoreId) -> Vec<String>;

    /// Switches the light that shows where a disk is. Safe to repeat.
    ///
    /// # Errors
    /// For people: why that is not so now.
    fn light(&self, path: String, on: bool) -> LocalBoxFuture<'static, Result<(), String>>;
}
