//! Copies are in different failure domains: in different racks where there are enough of them, else on different nodes.

use crate::cluster::{Cluster, rows};
use catalog::{GroupRow, StoreRow};
use std::collections::BTreeSet;

/// Of a store, as the catalog has it.
type DomainOf = fn(&StoreRow) -> String;

/// The widest first.
const LEVELS: [(&str, DomainOf); 2] = [("rack", rack_of), ("node", node_of)];

fn rack_of(row: &StoreRow) -> String {
    let label = row.domains.first().cloned();
    label.unwrap_or_else(|| node_of(row))
}

fn node_of(row: &StoreRow) -> String {
    format!("node {}", row.node.0)
}

/// Holds once everything runs and nothing moves. Not asked where the pool is filled up: there a domain may have no room.
pub fn copies_are_apart(cluster: &Cluster) -> Result<(), String> {
    if !cluster.config.is_newest() || cluster.config.full {
        return Ok(());
    }
    let stores = rows::<StoreRow>(&cluster.kv);
    for group in rows::<GroupRow>(&cluster.kv) {
        let copies = usize::from(group.replication_factor);
        let enough = |(_, domain): &&(&str, DomainOf)| {
            let all: BTreeSet<String> = stores.iter().map(domain).collect();
            all.len() >= copies
        };
        let Some((level, domain)) = LEVELS.iter().find(enough) else {
            continue;
        };
        let inside = stores.iter().filter(|row| group.members.contains(&row.id));
        let apart: BTreeSet<String> = inside.map(domain).collect();
        if apart.len() < group.members.len() {
            return Err(format!(
                "{} has its copies on {:?}, which are in {apart:?}: there are enough of each {level} to keep them apart",
                group.id, group.members
            ));
        }
    }
    Ok(())
}
