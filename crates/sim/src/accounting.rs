//! Invariant 7, of space: what stores say is in use is what a walk over their indexes finds, whatever happened to them.

use crate::cluster::Cluster;

/// At any time: no space belongs to two extents, and nothing that is in an index counts as free.
pub fn nothing_in_use_is_free(cluster: &Cluster) -> Result<(), String> {
    for store in cluster.hosts().iter().flat_map(|host| host.stores()) {
        let (used, found) = store.inspect_space()?;
        if used < found {
            let id = store.id();
            return Err(format!(
                "{id} says that {used} are in use, and holds {found}"
            ));
        }
    }
    Ok(())
}

/// Once no put is under way: both are the same, so that nothing that nobody holds is kept from use.
pub fn all_use_is_known(cluster: &Cluster) -> Result<(), String> {
    for store in cluster.hosts().iter().flat_map(|host| host.stores()) {
        let (used, found) = store.inspect_space()?;
        if used != found {
            let id = store.id();
            return Err(format!(
                "{id} says that {used} are in use, and holds {found}"
            ));
        }
    }
    Ok(())
}
