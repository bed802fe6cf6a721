//! Operators and the planner move groups between stores in the middle of an act.

use crate::cluster::Cluster;
use crate::manage::operate;
use api::MemberChange;
use api::operation::Operation;
use world::Duration;
use world_sim::SimRng;

/// How placement is drawn for a run.
#[derive(Clone, Copy, Debug)]
pub struct Moving {
    /// How long a store must be silent before its groups get other members.
    pub repair_delay: Duration,
    /// Whether nodes are drained now and then.
    pub drains: bool,
    /// Whether the last node is not there at first, and joins in the middle of an act or at its end.
    pub joins: bool,
}

impl Moving {
    /// What a seed draws, apart from everything else.
    pub fn draw(seed: u64) -> Self {
        let rng = SimRng::named(seed, "moving");
        let delays = [
            Duration::from_millis(200),
            Duration::from_secs(1),
            Duration::from_secs(3),
            Duration::from_secs(15),
        ];
        Self {
            repair_delay: *rng.pick(&delays),
            drains: rng.chance(0.4),
            joins: SimRng::named(seed, "joining").chance(0.4),
        }
    }
}

/// Drains a node, or ends that; says what it did. Refusals are in order.
pub fn toggle_drain(cluster: &Cluster, rng: &SimRng) -> String {
    let index = rng.index(cluster.nodes.len());
    let drains = rng.chance(0.6);
    let said = format!("drain of n{index}: {drains}");
    match set_drain(cluster, rng, index, drains) {
        Some(Ok(())) => said,
        other => format!("{said}: {other:?}"),
    }
}

fn set_drain(
    cluster: &Cluster,
    rng: &SimRng,
    index: usize,
    drains: bool,
) -> Option<Result<(), String>> {
    let operation = Operation::NodeSet {
        name: format!("n{index}"),
        change: MemberChange {
            draining: Some(drains),
            maintenance_minutes: None,
            ..MemberChange::default()
        },
    };
    operate(cluster, rng, operation).map(|answer| answer.map(drop))
}

/// Ends all drains.
pub fn end_drains(cluster: &Cluster, rng: &SimRng) -> Result<(), String> {
    for index in 0..cluster.nodes.len() {
        match set_drain(cluster, rng, index, false) {
            Some(Ok(())) => {}
            other => return Err(format!("the drain of n{index} does not end: {other:?}")),
        }
    }
    Ok(())
}
