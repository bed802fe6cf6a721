//! Failure domains: which stores are lost together, by level, and at which level copies are kept apart.
//!
//! Level 0 is the store, 1 the node, 2 and up the labels of nodes, narrowest first: rack, zone.

use crate::placement::{Standing, StoreFacts};
use std::collections::{BTreeMap, BTreeSet};
use vocab::StoreId;

/// Copies at most.
const COPIES_MAX: usize = 3;
/// Level of the store.
pub const STORE_LEVEL: usize = 0;
/// Level of the node.
pub const NODE_LEVEL: usize = 1;

/// A failure domain: unlike those of other domains of the same level.
pub type Domain = u64;

/// The failure domains of all stores.
#[derive(Clone, Debug)]
pub struct Domains {
    /// By level.
    levels: Vec<BTreeMap<StoreId, Domain>>,
    /// The widest level at which the stores that count lie in at least so many domains, by copies.
    widest: [usize; COPIES_MAX + 1],
}

impl Domains {
    /// Of these stores. Those that are lost count for nothing.
    #[must_use]
    pub fn new<'a>(stores: impl IntoIterator<Item = &'a StoreFacts>) -> Self {
        let stores: Vec<&StoreFacts> = stores.into_iter().collect();
        let levels = levels_of(&stores);
        let widest = widest_of(&stores, &levels);
        Self { levels, widest }
    }

    /// How many levels there are: two, and one for each label that a node has.
    #[must_use]
    pub fn count(&self) -> usize {
        self.levels.len()
    }

    /// The domain of a store. One that is not known is a domain of its own.
    #[must_use]
    pub fn of(&self, store: StoreId, level: usize) -> Domain {
        let known = self.levels.get(level).and_then(|level| level.get(&store));
        known.copied().unwrap_or((1 << 48) + u64::from(store.0))
    }

    /// The level at which so many copies are kept apart.
    #[must_use]
    pub fn level(&self, copies: u8) -> usize {
        self.widest[usize::from(copies).min(COPIES_MAX)]
    }

    /// A planted bug: nothing wider than a node counts.
    #[cfg(feature = "bugs")]
    pub(crate) fn ignore_labels(&mut self) {
        let narrower = |level: &mut usize| *level = NODE_LEVEL.min(*level);
        self.widest.iter_mut().for_each(narrower);
    }
}

/// What people call a domain of a level.
#[must_use]
pub fn level_name(level: usize) -> String {
    match level {
        STORE_LEVEL => "store".to_owned(),
        NODE_LEVEL => "node".to_owned(),
        2 => "rack".to_owned(),
        3 => "zone".to_owned(),
        wider => format!("domain-{}", wider - 1),
    }
}

fn levels_of(stores: &[&StoreFacts]) -> Vec<BTreeMap<StoreId, Domain>> {
    let labels = stores.iter().map(|store| store.domains.len()).max();
    let by = |domain: fn(&StoreFacts) -> u32| {
        let pair = |store: &&StoreFacts| (store.id, u64::from(domain(store)));
        stores.iter().map(pair).collect()
    };
    let mut levels = vec![by(|store| store.id.0), by(|store| store.node.0)];
    for label in 0..labels.unwrap_or(0) {
        let (mut names, mut level) = (BTreeMap::<&str, Domain>::new(), BTreeMap::new());
        for store in stores {
            let fresh = (1 << 32) + names.len() as u64;
            let domain = match store.domains.get(label) {
                Some(name) => *names.entry(name).or_insert(fresh),
                None => u64::from(store.node.0),
            };
            level.insert(store.id, domain);
        }
        levels.push(level);
    }
    levels
}

/// For each number of copies the widest level with so many domains that are not lost.
fn widest_of(
    stores: &[&StoreFacts],
    levels: &[BTreeMap<StoreId, Domain>],
) -> [usize; COPIES_MAX + 1] {
    let counting: Vec<StoreId> = stores
        .iter()
        .filter(|store| store.standing != Standing::Lost)
        .map(|store| store.id)
        .collect();
    let distinct: Vec<usize> = levels
        .iter()
        .map(|level| {
            let all: BTreeSet<Domain> = counting.iter().map(|store| level[store]).collect();
            all.len()
        })
        .collect();
    std::array::from_fn(|copies| {
        let enough = |level: &usize| distinct[*level] >= copies;
        (0..levels.len()).rev().find(enough).unwrap_or(STORE_LEVEL)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use vocab::NodeId;

    fn store(id: u32, node: u32, labels: &[&str]) -> StoreFacts {
        StoreFacts {
            id: StoreId(id),
            node: NodeId(node),
            domains: labels.iter().map(|&label| label.to_owned()).collect(),
            capacity: 1,
            standing: Standing::Present,
            has_room: true,
            is_full: false,
            free: 1,
        }
    }

    #[test]
    fn copies_are_kept_apart_by_the_widest_domain_there_are_enough_of() {
        let mut stores = vec![
            store(1, 1, &["r1", "z1"]),
            store(2, 1, &["r1", "z1"]),
            store(3, 2, &["r1", "z1"]),
            store(4, 3, &["r2", "z1"]),
            store(5, 4, &["r3", "z2"]),
        ];
        let domains = Domains::new(&stores);
        let names = |domains: &Domains| [1, 2, 3].map(|rf| level_name(domains.level(rf)));
        assert_eq!(names(&domains), ["zone", "zone", "rack"]);
        assert_eq!(domains.count(), 4);
        assert_eq!(domains.of(StoreId(1), 2), domains.of(StoreId(3), 2));
        assert_ne!(domains.of(StoreId(1), 2), domains.of(StoreId(4), 2));
        stores[4].standing = Standing::Lost;
        assert_eq!(names(&Domains::new(&stores)), ["zone", "rack", "node"]);
        stores[3].standing = Standing::Draining;
        assert_eq!(names(&Domains::new(&stores)), ["zone", "rack", "node"]);
        let alone = Domains::new(&stores[..2]);
        assert_eq!(names(&alone), ["zone", "store", "store"]);
    }
}
