//! The leader says how full the cluster is: what follows from it is each node's.

use crate::host::Host;
use crate::membership::{self, Part};
use catalog::{CatalogError, SpaceRow};
use curator::{SpaceInventory, Standing};

/// Judges the space by what the stores said last, and writes the state when it has changed. For the leader.
pub(crate) async fn look(host: &Host) -> Result<(), CatalogError> {
    let before = host.members.look(|view| view.space.clone());
    let inventory = inventory(host);
    let after = host.upkeep.space.borrow_mut().judge(
        &before,
        &inventory,
        &host.options.space,
        host.world.now(),
    );
    if after == before {
        return Ok(());
    }
    if host.catalog.set_space(&before, &after).await? {
        say(&before, &after);
    }
    membership::refresh(host, &[Part::Space]).await
}

fn inventory(host: &Host) -> SpaceInventory {
    let facts = host.store_facts();
    let taking_part = facts
        .iter()
        .filter(|facts| facts.standing != Standing::Lost);
    let fills = taking_part.map(|facts| (facts.id, host.health.fill(facts.id)));
    SpaceInventory {
        fills: fills.collect(),
        resilient: host.resilient_percents(),
        groups: host
            .members
            .look(|view| view.groups.values().cloned().collect()),
        rounds_begun: host.upkeep.rounds_begun.get(),
        round_whole: host.upkeep.round_whole.get(),
    }
}

fn say(before: &SpaceRow, after: &SpaceRow) {
    for (copies, state) in &after.factors {
        if before.state(*copies) != *state {
            tracing::warn!(
                copies,
                state = state.name(),
                "the space runs out: delete data or snapshots, or add disks"
            );
        }
    }
    for copies in before.factors.keys() {
        if !after.factors.contains_key(copies) {
            tracing::info!(copies, "there is enough space again");
        }
    }
}
