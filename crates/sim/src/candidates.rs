//! A node that joins waits to be approved: it gets nothing until then, and its share afterwards. In some seeds with a node that joins
//! late. Certificates, by which a product makes it a candidate, are not there: the catalog is told what it would be told.

use crate::check::within_bound;
use crate::cluster::{Cluster, rows};
use crate::manage::operate;
use api::MemberChange;
use api::operation::Operation;
use catalog::kv::Kv;
use catalog::{
    Catalog, CatalogError, GroupRow, IntentRow, StoreRow, Subject, Transaction, VolumeRow,
};
use std::rc::Rc;
use vocab::NodeId;
use world_sim::SimRng;

/// Attempts to give a node its id.
const ROUNDS_MAX: u32 = 16;

/// Makes a node a candidate that has not been started yet. Safe to repeat.
///
/// # Errors
/// The catalog's.
pub async fn admit(kv: Rc<dyn Kv>, name: &str) -> Result<(), CatalogError> {
    let catalog = Catalog::new(kv);
    let key = format!("node-name/{name}");
    for _ in 0..ROUNDS_MAX {
        if let Some(id) = catalog.resolve(&key).await? {
            let id = NodeId(u32::try_from(id).expect("a handful of nodes"));
            let waits = |intent: &mut IntentRow| intent.candidate = true;
            return catalog
                .change_intent(Subject::Node(id), waits)
                .await
                .map(drop);
        }
        let id = catalog.next_id("node").await?;
        let claim = Transaction::new().claim_name(key.clone(), id);
        catalog.commit(claim).await?;
    }
    Err(CatalogError::Contended)
}

fn candidates(cluster: &Cluster) -> Vec<NodeId> {
    let intents = rows::<IntentRow>(&cluster.kv).into_iter();
    let waits = intents.filter(|intent| intent.candidate);
    waits
        .filter_map(|intent| match intent.subject {
            Subject::Node(id) => Some(id),
            Subject::Store(_) => None,
        })
        .collect()
}

/// A candidate has no store that anybody could use, and serves no volume.
pub fn have_nothing(cluster: &Cluster) -> Result<(), String> {
    for id in candidates(cluster) {
        let stores = rows::<StoreRow>(&cluster.kv).into_iter();
        if let Some(store) = { stores }.find(|row| row.node == id) {
            return Err(format!(
                "{id} is not approved, and its {} takes part",
                store.id
            ));
        }
        let volumes = rows::<VolumeRow>(&cluster.kv).into_iter();
        if let Some(volume) = { volumes }.find(|row| row.owner == Some(id)) {
            return Err(format!("{id} is not approved, and owns {}", volume.name));
        }
    }
    Ok(())
}

/// Approves the nodes that wait and run, now and then; says what came of it.
pub fn approve(cluster: &Cluster, rng: &SimRng) -> Option<String> {
    let waiting = candidates(cluster);
    if waiting.is_empty() || !rng.chance(0.3) {
        return None;
    }
    let said = approve_all(cluster, rng, &waiting);
    Some(format!("{waiting:?} shall take part: {said:?}"))
}

fn approve_all(cluster: &Cluster, rng: &SimRng, waiting: &[NodeId]) -> Result<(), String> {
    for id in waiting {
        let runs = |index: &usize| {
            let host = cluster.nodes[*index].running.borrow().clone();
            host.is_some_and(|host| host.id() == *id)
        };
        let index = (0..cluster.nodes.len()).find(runs);
        let index = index.ok_or_else(|| format!("{id} does not run"))?;
        let change = MemberChange {
            approved: Some(true),
            ..MemberChange::default()
        };
        let name = format!("n{index}");
        match operate(cluster, rng, Operation::NodeSet { name, change }) {
            Some(Ok(_)) => {}
            other => return Err(format!("{other:?}")),
        }
    }
    Ok(())
}

/// Everything runs: all that wait are approved, and take part soon.
///
/// # Errors
/// When not within the bound.
pub fn end(cluster: &Cluster, rng: &SimRng) -> Result<(), String> {
    if !cluster.config.candidates {
        return Ok(());
    }
    within_bound(cluster, "approving candidates", || {
        approve_all(cluster, rng, &candidates(cluster))
    })?;
    within_bound(cluster, "taking part once approved", || {
        let known = rows::<StoreRow>(&cluster.kv);
        for (store, _) in cluster.nodes.iter().flat_map(|node| node.bay.stores()) {
            if !known.iter().any(|row| row.id == store) {
                return Err(format!("{store} does not take part"));
            }
        }
        Ok(())
    })
}

/// Every store holds something where there are two copies or more for each.
pub fn are_filled(cluster: &Cluster) -> Result<(), String> {
    if !cluster.config.candidates || cluster.config.full {
        return Ok(());
    }
    let (groups, stores) = (rows::<GroupRow>(&cluster.kv), rows::<StoreRow>(&cluster.kv));
    let copies: usize = groups.iter().map(|group| group.members.len()).sum();
    let holds = |row: &StoreRow| groups.iter().any(|group| group.members.contains(&row.id));
    match stores.iter().find(|row| !holds(row)) {
        Some(row) if copies >= 2 * stores.len() => Err(format!("{} holds no group", row.id)),
        _ => Ok(()),
    }
}
