//! What changes in the cluster, as events: told by the leader, so that it is told once.
//!
//! Every node notes who is alive: when the leader itself is lost, its successor tells of that. What happened within the
//! moments around a change of leaders may be told twice.

use crate::events::Told;
use crate::host::Host;
use catalog::{Severity, SpaceRow, SpaceState};
use curator::Standing;
use std::collections::BTreeMap;
use std::rc::Rc;
use vocab::{NodeId, StoreId};
use world::{Duration, Time};

/// Pause between two looks.
const INTERVAL: Duration = Duration::from_secs(2);
/// What the verdict rests on is asked for at every so many looks.
const CATALOG_LOOKS: u32 = 5;
/// So old a change may be when a new leader tells of it.
const RECENT: Duration = Duration::from_secs(20);

/// The cluster at one look.
#[derive(Clone, Debug, Default, PartialEq)]
struct Observed {
    /// Names, and which start of the node holds its lease.
    nodes: BTreeMap<NodeId, (String, Option<u64>)>,
    /// What only a leader knows.
    led: Option<Led>,
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Led {
    stores: BTreeMap<StoreId, Standing>,
    space: SpaceRow,
    filling: u32,
    verdict: String,
    reasons: Vec<String>,
}

/// Tells what changes, for as long as the node runs.
pub(crate) async fn run(host: Rc<Host>) {
    let mut before: Option<Observed> = None;
    let mut recent: Vec<(Time, Told)> = Vec::new();
    for look in 0_u32.. {
        host.world.sleep(INTERVAL).await;
        let leads = host.upkeep.leading.get();
        // A verdict is told of that is one.
        if leads && (look.is_multiple_of(CATALOG_LOOKS) || !host.knows_logs()) {
            host.ask_for_verdict().await;
        }
        let mut after = observe(&host, leads);
        keep_losses(before.as_ref(), &mut after);
        let now = host.world.now();
        if let Some(before) = &before {
            let told = differences(before, &after);
            recent.extend(told.into_iter().map(|told| (now, told)));
        }
        recent.retain(|(at, _)| now.since(*at) < RECENT);
        if leads {
            recent.drain(..).for_each(|(_, told)| host.tell(told));
        }
        before = Some(after);
    }
}

fn observe(host: &Host, leads: bool) -> Observed {
    let view = host.view();
    let nodes = view.nodes.values();
    let nodes = nodes.map(|row| {
        let start = view.alive.get(&row.id).map(|alive| alive.start);
        (row.id, (row.name.clone(), start))
    });
    let led = leads.then(|| {
        let facts = host.store_facts().into_iter();
        let verdict = host.verdict();
        Led {
            stores: facts.map(|facts| (facts.id, facts.standing)).collect(),
            space: view.space.clone(),
            filling: verdict.repair.filling,
            verdict: verdict.verdict,
            reasons: verdict.reasons,
        }
    });
    Observed {
        nodes: nodes.collect(),
        led,
    }
}

/// What happened between two looks. Pure.
fn differences(before: &Observed, after: &Observed) -> Vec<Told> {
    let mut told = Vec::new();
    for (id, (name, start)) in &after.nodes {
        let entity = format!("node/{name}");
        let known = before.nodes.get(id).map(|(_, start)| *start);
        let event = match (known, *start) {
            (Some(Some(_)), None) => Told::new(
                Severity::Critical,
                "node-lost",
                entity,
                format!("node {name} does not hold its lease any more"),
            )
            .remedy(
                "its volumes are taken over; bring it back, or remove it with `azekura node remove --lost`",
            ),
            (Some(Some(before)), Some(after)) if before != after => {
                let message = format!("node {name} was started again");
                Told::new(Severity::Warning, "node-restarted", entity, message)
            }
            (Some(None), Some(_)) => {
                let message = format!("node {name} is back");
                Told::new(Severity::Info, "node-returned", entity, message)
            }
            (None, Some(_)) => {
                let message = format!("node {name} is new");
                Told::new(Severity::Info, "node-joined", entity, message)
            }
            _ => continue,
        };
        told.push(event);
    }
    for (id, (name, _)) in &before.nodes {
        if !after.nodes.contains_key(id) {
            let entity = format!("node/{name}");
            told.push(Told::new(
                Severity::Info,
                "node-removed",
                entity,
                format!("node {name} is no member any more"),
            ));
        }
    }
    if let (Some(before), Some(after)) = (&before.led, &after.led) {
        stores(before, after, &mut told);
        space(&before.space, &after.space, &mut told);
        verdict(before, after, &mut told);
    }
    told
}

/// A store that was lost and has not answered yet is still the one that was lost, also when there is hope again.
fn keep_losses(before: Option<&Observed>, after: &mut Observed) {
    let before = before.and_then(|before| before.led.as_ref());
    let (Some(before), Some(after)) = (before, &mut after.led) else {
        return;
    };
    for (id, standing) in &mut after.stores {
        if *standing == Standing::Away && before.stores.get(id) == Some(&Standing::Lost) {
            *standing = Standing::Lost;
        }
    }
}

fn stores(before: &Led, after: &Led, told: &mut Vec<Told>) {
    for (id, standing) in &after.stores {
        let entity = format!("store/{}", id.0);
        match (before.stores.get(id), standing) {
            (Some(Standing::Lost), Standing::Present | Standing::Draining) => {
                let message = format!("store {} answers again", id.0);
                told.push(Told::new(Severity::Info, "store-returned", entity, message));
            }
            (Some(known), Standing::Lost) if *known != Standing::Lost => {
                let message = format!("store {} is lost: its groups get other members", id.0);
                told.push(
                    Told::new(Severity::Critical, "store-lost", entity, message).remedy(
                        "replace its disks, or remove it with `azekura store remove --lost`",
                    ),
                );
            }
            _ => {}
        }
    }
    match (before.filling, after.filling) {
        (0, 1..) => {
            let message = format!("{} members of groups are being filled", after.filling);
            told.push(Told::new(
                Severity::Info,
                "repair-begun",
                "cluster",
                message,
            ));
        }
        (1.., 0) => {
            let message = "every member of every group is filled";
            told.push(Told::new(
                Severity::Info,
                "repair-ended",
                "cluster",
                message,
            ));
        }
        _ => {}
    }
}

fn space(before: &SpaceRow, after: &SpaceRow, told: &mut Vec<Told>) {
    const REMEDY: &str = "delete data or snapshots, or add disks or nodes";
    for store in after.stores.difference(&before.stores) {
        let message = format!("store {} is nearly full and takes nothing new", store.0);
        let entity = format!("store/{}", store.0);
        told.push(Told::new(Severity::Warning, "store-protected", entity, message).remedy(REMEDY));
    }
    for store in before.stores.difference(&after.stores) {
        let message = format!("store {} takes new data again", store.0);
        let entity = format!("store/{}", store.0);
        told.push(Told::new(Severity::Info, "store-released", entity, message));
    }
    for copies in 1..=3 {
        let (was, is) = (before.state(copies), after.state(copies));
        if was == is {
            continue;
        }
        let entity = format!("space/{copies}");
        let message = match is {
            SpaceState::Ok => format!("there is enough space for {copies} copies again"),
            SpaceState::Warning => format!("the space for {copies} copies runs out"),
            SpaceState::Protected => format!("new data with {copies} copies is refused"),
        };
        told.push(match is {
            SpaceState::Ok => Told::new(Severity::Info, "space-ok", entity, message),
            SpaceState::Warning => {
                Told::new(Severity::Warning, "space-warning", entity, message).remedy(REMEDY)
            }
            SpaceState::Protected => {
                Told::new(Severity::Critical, "space-protected", entity, message).remedy(REMEDY)
            }
        });
    }
}

fn verdict(before: &Led, after: &Led, told: &mut Vec<Told>) {
    if before.verdict == after.verdict {
        return;
    }
    let severity = match &*after.verdict {
        "ok" => Severity::Info,
        "degraded" => Severity::Warning,
        _ => Severity::Critical,
    };
    let mut message = format!(
        "the verdict is {} (it was {})",
        after.verdict, before.verdict
    );
    if !after.reasons.is_empty() {
        message += &format!(": {}", after.reasons.join("; "));
    }
    let told_of = Told::new(severity, "verdict", "cluster", message);
    told.push(match severity {
        Severity::Info => told_of,
        _ => told_of.remedy("`azekura resiliency` says what to do"),
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn observed(alive: bool, verdict: &str, standing: Standing, filling: u32) -> Observed {
        let led = Led {
            stores: [(StoreId(4), standing)].into(),
            filling,
            verdict: verdict.to_owned(),
            ..Led::default()
        };
        Observed {
            nodes: [(NodeId(1), ("a".to_owned(), alive.then_some(7)))].into(),
            led: Some(led),
        }
    }

    fn kinds(before: &Observed, after: &Observed) -> Vec<&'static str> {
        let told = differences(before, after);
        told.into_iter().map(|told| told.kind).collect()
    }

    #[test]
    fn a_lost_store_stays_lost_until_it_answers() {
        let lost = observed(false, "critical", Standing::Lost, 3);
        let mut away = observed(true, "critical", Standing::Away, 3);
        keep_losses(Some(&lost), &mut away);
        let quiet = observed(true, "ok", Standing::Present, 0);
        assert!(kinds(&away, &quiet).contains(&"store-returned"));
    }

    #[test]
    fn what_changes_is_told_once_and_nothing_else() {
        let quiet = observed(true, "ok", Standing::Present, 0);
        let lost = observed(false, "critical", Standing::Lost, 3);
        assert!(kinds(&quiet, &quiet).is_empty());
        assert_eq!(
            kinds(&quiet, &lost),
            ["node-lost", "store-lost", "repair-begun", "verdict"]
        );
        assert!(kinds(&lost, &lost).is_empty());
        assert_eq!(
            kinds(&lost, &quiet),
            ["node-returned", "store-returned", "repair-ended", "verdict"]
        );
    }

    #[test]
    fn a_restart_between_two_looks_is_told() {
        let before = observed(true, "ok", Standing::Present, 0);
        let mut after = before.clone();
        after.nodes = [(NodeId(1), ("a".to_owned(), Some(8)))].into();
        assert_eq!(kinds(&before, &after), ["node-restarted"]);
    }

    #[test]
    fn a_new_leader_tells_only_what_it_saw_change() {
        let mut before = observed(true, "ok", Standing::Present, 0);
        before.led = None;
        let after = observed(false, "critical", Standing::Lost, 3);
        assert_eq!(kinds(&before, &after), ["node-lost"]);
    }

    #[test]
    fn the_states_of_the_space_are_told() {
        let with = |state| SpaceRow {
            factors: [(2, state)].into(),
            stores: [StoreId(4)].into(),
        };
        let between = |before: &SpaceRow, after: &SpaceRow| {
            let mut told = Vec::new();
            space(before, after, &mut told);
            told.into_iter().map(|told| told.kind).collect::<Vec<_>>()
        };
        let (none, warned) = (SpaceRow::default(), with(SpaceState::Warning));
        let protected = with(SpaceState::Protected);
        assert_eq!(
            between(&none, &warned),
            ["store-protected", "space-warning"]
        );
        assert_eq!(between(&warned, &protected), ["space-protected"]);
        assert_eq!(between(&protected, &none), ["store-released", "space-ok"]);
    }
}
