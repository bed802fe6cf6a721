//! The disks of a simulated machine by name, and which of them are stores of its node: what the product keeps in a node's
//! configuration. It outlives every crash.

use node::{Bay, DiskFacts, DiskRequest, FoundDisks};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use vocab::StoreId;
use world::LocalBoxFuture;
use world_sim::SimDisk;

/// The disks of a machine and its stores.
#[derive(Clone, Default)]
pub struct SimBay(Rc<RefCell<Shelf>>);

#[derive(Default)]
struct Shelf {
    disks: BTreeMap<String, SimDisk>,
    kept: BTreeMap<StoreId, Vec<String>>,
}

impl std::fmt::Debug for SimBay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.0.borrow().kept)
    }
}

impl SimBay {
    /// These disks, and no store.
    pub fn new(disks: &[SimDisk]) -> Self {
        let by_name = disks
            .iter()
            .map(|disk| (disk.name().to_owned(), disk.clone()));
        let shelf = Shelf {
            disks: by_name.collect(),
            kept: BTreeMap::new(),
        };
        Self(Rc::new(RefCell::new(shelf)))
    }

    /// These disks are a store from now on.
    pub fn keep(&self, store: StoreId, disks: &[SimDisk]) {
        let names = disks.iter().map(|disk| disk.name().to_owned()).collect();
        self.0.borrow_mut().kept.insert(store, names);
    }

    /// Nothing is a store any more.
    pub fn forget_all(&self) {
        self.0.borrow_mut().kept.clear();
    }

    /// The stores with their disks, in the order of their ids.
    pub fn stores(&self) -> Vec<(StoreId, Vec<SimDisk>)> {
        let shelf = self.0.borrow();
        let disks = |names: &Vec<String>| {
            let disks = names.iter().filter_map(|name| shelf.disks.get(name));
            disks.cloned().collect()
        };
        let kept = shelf.kept.iter();
        kept.map(|(&store, names)| (store, disks(names))).collect()
    }

    /// The store that a disk belongs to.
    pub fn store_of(&self, disk: &str) -> Option<StoreId> {
        let shelf = self.0.borrow();
        let mut kept = shelf.kept.iter();
        let found = kept.find(|(_, names)| names.iter().any(|name| name == disk));
        found.map(|(&store, _)| store)
    }

    /// A disk that is no store's.
    pub fn spare(&self) -> Option<SimDisk> {
        let shelf = self.0.borrow();
        let mut disks = shelf.disks.iter();
        let spare = disks.find(|(name, _)| self.store_of(name).is_none());
        spare.map(|(_, disk)| disk.clone())
    }

    async fn look(self, request: DiskRequest, own: Option<StoreId>) -> Result<FoundDisks, String> {
        let (mut disks, mut kept) = (Vec::new(), 0);
        for path in &request.paths {
            let disk = self.0.borrow().disks.get(path).map(SimDisk::open);
            let disk = disk.ok_or_else(|| format!("{path} does not exist"))?;
            let found = store::inspect(&disk).await;
            match found.map_err(|error| error.to_string())? {
                store::Inspection::Blank => {}
                store::Inspection::Store(identity) if Some(identity.store) == own => kept += 1,
                _ => return Err(format!("{path} is not blank")),
            }
            disks.push(disk);
        }
        let kept = kept == disks.len();
        Ok(FoundDisks { disks, kept })
    }
}

impl Bay for SimBay {
    fn list(&self) -> LocalBoxFuture<'static, Vec<DiskFacts>> {
        let facts = |(store, disks): (StoreId, Vec<SimDisk>)| {
            let of_disk = move |disk: &SimDisk| DiskFacts {
                store: store.0,
                path: disk.name().to_owned(),
                size: Some(disk.size()),
                ..DiskFacts::default()
            };
            disks.iter().map(of_disk).collect::<Vec<_>>()
        };
        let list = self.stores().into_iter().flat_map(facts).collect();
        Box::pin(async move { list })
    }

    fn open(
        &self,
        request: DiskRequest,
        own: Option<StoreId>,
    ) -> LocalBoxFuture<'static, Result<FoundDisks, String>> {
        Box::pin(self.clone().look(request, own))
    }

    fn remember(
        &self,
        store: StoreId,
        paths: Vec<String>,
    ) -> LocalBoxFuture<'static, Result<(), String>> {
        self.0.borrow_mut().kept.insert(store, paths);
        Box::pin(async { Ok(()) })
    }

    fn forget(&self, store: StoreId) -> LocalBoxFuture<'static, Result<(), String>> {
        self.0.borrow_mut().kept.remove(&store);
        Box::pin(async { Ok(()) })
    }

    fn paths_of(&self, store: StoreId) -> Vec<String> {
        let shelf = self.0.borrow();
        shelf.kept.get(&store).cloned().unwrap_or_default()
    }

    fn light(&self, path: String, _on: bool) -> LocalBoxFuture<'static, Result<(), String>> {
        Box::pin(async move { Err(format!("{path} has no light")) })
    }
}
