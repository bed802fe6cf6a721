//! Cluster, containers, stores and groups in the catalog.

use crate::access::{Catalog, CatalogError, Transaction, Versioned};
use crate::rows::{ContainerRow, GroupRow, Row, StoreRow, VolumeRow, numbered};
use crate::volumes::check_name;
use std::collections::{BTreeMap, BTreeSet};
use vocab::{ContainerId, Generation, GroupId, StoreId};

fn container_name_key(name: &str) -> String {
    format!("container-name/{name}")
}

fn check_policy(row: &ContainerRow) -> Result<(), CatalogError> {
    if !(1..=3).contains(&row.replication_factor) {
        let given = row.replication_factor;
        return Err(CatalogError::Refused(format!(
            "replication factor {given} is not allowed: use 1, 2 or 3"
        )));
    }
    if row.copies_min == 0 || row.copies_min > row.replication_factor {
        return Err(CatalogError::Refused(format!(
            "minimum copies {} is not allowed: use 1 to {}",
            row.copies_min, row.replication_factor
        )));
    }
    assert!(
        !row.strict || row.copies_min == row.replication_factor,
        "strict means as many copies as are wanted"
    );
    Ok(())
}

impl Catalog {
    /// Creates a container; its id is given here.
    ///
    /// # Errors
    /// [`CatalogError::Exists`], [`CatalogError::Refused`], [`CatalogError::Contended`],
    /// [`CatalogError::Kv`].
    pub async fn create_container(
        &self,
        mut row: ContainerRow,
    ) -> Result<ContainerRow, CatalogError> {
        check_name("container", &row.name)?;
        check_policy(&row)?;
        let id = self.next_id("container").await?;
        row.id = ContainerId(u32::try_from(id).expect("fewer containers than 2^32"));
        let name = container_name_key(&row.name);
        let transaction = Transaction::new().create(&row).claim_name(name, id);
        match self.commit(transaction).await? {
            Some(_) => Ok(row),
            None => Err(CatalogError::Exists {
                kind: "container",
                name: row.name,
            }),
        }
    }

    /// The container of this id.
    ///
    /// # Errors
    /// [`CatalogError::NotFound`], [`CatalogError::Kv`], [`CatalogError::Damaged`].
    pub async fn container(
        &self,
        id: ContainerId,
    ) -> Result<Versioned<ContainerRow>, CatalogError> {
        let row = self
            .read(&numbered(ContainerRow::PREFIX, u64::from(id.0)))
            .await?;
        row.ok_or_else(|| CatalogError::NotFound {
            kind: "container",
            name: id.to_string(),
        })
    }

    /// The container of this name.
    ///
    /// # Errors
    /// As [`Catalog::container`].
    pub async fn container_named(
        &self,
        name: &str,
    ) -> Result<Versioned<ContainerRow>, CatalogError> {
        let missing = || CatalogError::NotFound {
            kind: "container",
            name: name.to_owned(),
        };
        let id = self
            .resolve(&container_name_key(name))
            .await?
            .ok_or_else(missing)?;
        let row = self.read(&numbered(ContainerRow::PREFIX, id)).await?;
        row.ok_or_else(missing)
    }

    /// Changes a container's policies. The replication factor cannot change while it has volumes.
    ///
    /// # Errors
    /// [`CatalogError::Refused`], [`CatalogError::NotFound`], [`CatalogError::Kv`].
    pub async fn set_container(
        &self,
        name: &str,
        mut change: impl FnMut(&mut ContainerRow),
    ) -> Result<ContainerRow, CatalogError> {
        let found = self.container_named(name).await?;
        let volumes = self.list::<VolumeRow>().await?;
        let in_use = volumes
            .iter()
            .any(|volume| volume.row.container == found.row.id);
        self.update("container", &found.row.key(), |row: &mut ContainerRow| {
            let before = row.clone();
            change(row);
            (row.id, row.name) = (before.id, before.name.clone());
            check_policy(row)?;
            if in_use && row.replication_factor != before.replication_factor {
                return Err(CatalogError::Refused(format!(
                    "container {} has volumes: its replication factor stays {}",
                    row.name, before.replication_factor
                )));
            }
            Ok(*row != before)
        })
        .await
    }

    /// Deletes an empty container.
    ///
    /// # Errors
    /// [`CatalogError::Refused`] while it has volumes, [`CatalogError::NotFound`],
    /// [`CatalogError::Contended`], [`CatalogError::Kv`].
    pub async fn delete_container(&self, name: &str) -> Result<(), CatalogError> {
        let container = self.container_named(name).await?;
        let volumes = self.list::<VolumeRow>().await?;
        if let Some(volume) = volumes
            .iter()
            .find(|volume| volume.row.container == container.row.id)
        {
            return Err(CatalogError::Refused(format!(
                "container {name} holds volume {}; delete its volumes first",
                volume.row.name
            )));
        }
        // A volume created meanwhile compared the container row unchanged, so it and this cannot both win
        // unless it came first; then the list above is read again on the next try.
        let transaction = Transaction::new()
            .remove(&container)
            .free_name(container_name_key(name));
        match self.commit(transaction).await? {
            Some(_) => Ok(()),
            None => Err(CatalogError::Contended),
        }
    }

    /// Records a store, new or with new facts.
    ///
    /// # Errors
    /// [`CatalogError::Kv`].
    pub async fn put_store(&self, row: &StoreRow) -> Result<(), CatalogError> {
        self.commit(Transaction::new().put(row)).await.map(|_| ())
    }

    /// Makes sure that at least `wanted` groups of `replication_factor` exist: what is missing is planned over the stores
    /// known now, those in `without` left out. Existing groups stay as they are. Returns all groups of that factor.
    ///
    /// # Errors
    /// [`CatalogError::Refused`] when there are fewer failure domains than copies,
    /// [`CatalogError::Contended`], [`CatalogError::Kv`].
    pub async fn ensure_groups(
        &self,
        replication_factor: u8,
        wanted: u32,
        without: &BTreeSet<StoreId>,
    ) -> Result<Vec<GroupRow>, CatalogError> {
        for _ in 0..GROUPS_MAX / GROUPS_AT_ONCE + 16 {
            let rows = self.list::<GroupRow>().await?;
            let present: Vec<GroupRow> = rows
                .into_iter()
                .map(|group| group.row)
                .filter(|group| group.replication_factor == replication_factor)
                .collect();
            let stores = self.list::<StoreRow>().await?;
            let stores = stores.into_iter().map(|store| store.row);
            let stores: Vec<StoreRow> = stores.filter(|row| !without.contains(&row.id)).collect();
            let wanted = wanted.min(GROUPS_MAX);
            let missing = wanted
                .saturating_sub(present.len() as u32)
                .min(GROUPS_AT_ONCE);
            if missing == 0 {
                return Ok(present);
            }
            let planned = plan_groups(&stores, replication_factor, &present, missing);
            if planned.is_empty() && !present.is_empty() {
                return Ok(present);
            }
            if planned.is_empty() {
                return Err(CatalogError::Refused(format!(
                    "{replication_factor} copies need as many stores in distinct failure domains; there are {} stores",
                    stores.len()
                )));
            }
            // Groups of one factor have ids of one range, so two planners collide and one of them starts again.
            let transaction = planned
                .iter()
                .fold(Transaction::new(), |txn, group| txn.create(group));
            if self.commit(transaction).await?.is_some() && missing < GROUPS_AT_ONCE {
                return Ok([present, planned].concat());
            }
        }
        Err(CatalogError::Contended)
    }
}

/// Groups created in one transaction: etcd takes 128 operations.
const GROUPS_AT_ONCE: u32 = 64;
/// Groups of one replication factor at most: ids of one factor are a range.
const GROUPS_MAX: u32 = 100_000;

/// How many groups so many stores should have: `least`, and enough for `per_store` memberships of each store, for a
/// rebuild reads from and writes to the other members of those.
#[must_use]
pub fn wanted_groups(least: u32, per_store: u32, stores: usize, copies: u8) -> u32 {
    let memberships = stores as u64 * u64::from(per_store);
    let enough = memberships.div_ceil(u64::from(copies.max(1)));
    least.max(enough.min(u64::from(GROUPS_MAX)) as u32)
}

/// The failure domain of each store at the widest level with at least `copies` of them: labels from the widest to the
/// narrowest, then nodes, then stores.
fn domains_of(stores: &[StoreRow], copies: u8) -> BTreeMap<StoreId, u64> {
    let by_label = |label: usize| {
        let (mut names, mut domains) = (BTreeMap::<&str, u64>::new(), BTreeMap::new());
        for store in stores {
            let fresh = (1 << 32) + names.len() as u64;
            let domain = match store.domains.get(label) {
                Some(name) => *names.entry(name).or_insert(fresh),
                None => u64::from(store.node.0),
            };
            domains.insert(store.id, domain);
        }
        domains
    };
    let enough = |domains: &BTreeMap<StoreId, u64>| {
        let distinct: BTreeSet<u64> = domains.values().copied().collect();
        distinct.len() >= usize::from(copies)
    };
    let labels = stores.iter().map(|store| store.domains.len()).max();
    let by_node = stores
        .iter()
        .map(|store| (store.id, u64::from(store.node.0)));
    let by_store = stores.iter().map(|store| (store.id, u64::from(store.id.0)));
    (0..labels.unwrap_or(0))
        .rev()
        .map(by_label)
        .chain([by_node.collect()])
        .find(enough)
        .unwrap_or_else(|| by_store.collect())
}

/// How often stores are members, and meet.
#[derive(Default)]
struct Loads {
    memberships: BTreeMap<StoreId, u32>,
    pairs: BTreeMap<(StoreId, StoreId), u32>,
}

impl Loads {
    fn add(&mut self, members: &[StoreId]) {
        for (at, &member) in members.iter().enumerate() {
            *self.memberships.entry(member).or_default() += 1;
            for &other in &members[..at] {
                *self.pairs.entry(pair(member, other)).or_default() += 1;
            }
        }
    }

    fn held(&self, store: StoreId) -> u32 {
        self.memberships.get(&store).copied().unwrap_or_default()
    }

    fn meetings(&self, store: StoreId, members: &[StoreId]) -> u32 {
        let met = |&member: &StoreId| self.pairs.get(&pair(member, store)).copied();
        members.iter().filter_map(met).sum()
    }
}

/// Plans `count` more groups of `copies` members each beside those that are present, in distinct failure domains of the
/// widest level that has enough of them. Pure. Every store gets the same number of memberships within one, and every pair
/// of domains meets, so that a rebuild reads from and writes to all of them. Empty when there are fewer stores than
/// copies.
#[must_use]
pub fn plan_groups(
    stores: &[StoreRow],
    copies: u8,
    present: &[GroupRow],
    count: u32,
) -> Vec<GroupRow> {
    let domains = domains_of(stores, copies);
    let mut loads = Loads::default();
    present.iter().for_each(|group| loads.add(&group.members));
    let range = u32::from(copies) * GROUPS_MAX;
    let first = present.iter().map(|group| group.id.0 - range + 1).max();
    let first = first.unwrap_or(0);
    let mut groups = Vec::new();
    for index in first..first + count {
        let mut members: Vec<StoreId> = Vec::new();
        while members.len() < usize::from(copies) {
            let free = |store: &&StoreRow| {
                let domain = domains[&store.id];
                members.iter().all(|member| domains[member] != domain)
            };
            let rank = |store: &&StoreRow| {
                let (held, meetings) = (loads.held(store.id), loads.meetings(store.id, &members));
                (held, meetings, store.id)
            };
            let Some(best) = stores.iter().filter(free).min_by_key(rank) else {
                return Vec::new();
            };
            members.push(best.id);
        }
        loads.add(&members);
        groups.push(GroupRow {
            id: GroupId(range + index),
            generation: Generation(1),
            replication_factor: copies,
            members,
            filling: Vec::new(),
            former: Vec::new(),
            returning: Vec::new(),
            leaving: None,
        });
    }
    groups
}

fn pair(a: StoreId, b: StoreId) -> (StoreId, StoreId) {
    (a.min(b), a.max(b))
}
