//! What the rules are asked with: the view, what the stores said last, the verdict, and what takes a walk over the catalog.

use super::is_excused;
use crate::ClusterView;
use crate::health::FAILED_DELAY;
use crate::host::Host;
use api::{ComponentAnswer, ResiliencyAnswer};
use catalog::{CatalogError, CertificateRow, NodeRow, StoreRow, Subject, VolumeRow, VolumeState};
use curator::Standing;
use curator::alerts::{AlertFacts, CopiesHealth, NodeHealth, Problem, QuotaUse, StoreHealth};
use std::collections::BTreeMap;
use vocab::{ContainerId, NodeId, StoreId};
use world::Duration;

/// What is not known without reading the catalog.
#[derive(Clone, Debug, Default)]
pub(super) struct Walked {
    volumes: Vec<Problem>,
    provisioned: BTreeMap<ContainerId, u64>,
    certificates: BTreeMap<NodeId, u64>,
}

/// Reads it.
pub(super) async fn walk(host: &Host) -> Result<Walked, CatalogError> {
    let mut walked = Walked::default();
    for found in host.catalog.list::<VolumeRow>().await? {
        let row = found.row;
        *walked.provisioned.entry(row.container).or_default() += row.size.0;
        walked.volumes.extend(stopped(&row));
    }
    for found in host.catalog.list::<CertificateRow>().await? {
        walked.certificates.insert(found.row.id, found.row.until_ms);
    }
    Ok(walked)
}

/// A volume that nobody can use. Pure.
fn stopped(row: &VolumeRow) -> Option<Problem> {
    let name = &row.name;
    let (reason, remedy) = match &row.state {
        VolumeState::Stopped(reason) => (
            format!("volume {name} is stopped: {reason}"),
            "bring the stores back that hold what is missing; it is opened again by itself when somebody asks for it".to_owned(),
        ),
        VolumeState::Incomplete(reason) => (
            format!("volume {name} is incomplete since the catalog was made anew: {reason}"),
            format!(
                "bring back what is missing and rebuild again, or accept what is there: `azekura catalog accept {name}`"
            ),
        ),
        VolumeState::Ready | VolumeState::Pending | VolumeState::Deleting => return None,
    };
    Some(Problem {
        entity: format!("volume/{name}"),
        reason,
        remedy,
        critical: true,
    })
}

/// Everything together.
pub(super) fn gather(host: &Host, walked: &Walked, stalled: Duration, now_ms: u64) -> AlertFacts {
    let view = host.view();
    let verdict = host.verdict();
    let name_of = |id: NodeId| {
        let row = view.nodes.get(&id);
        row.map_or_else(|| id.to_string(), |row| row.name.clone())
    };
    let certificates = walked.certificates.iter();
    // Of a node that was removed nobody wants one.
    let certificates = certificates.filter(|(id, _)| view.nodes.contains_key(id));
    let quotas = view.containers.values().filter_map(|row| {
        Some(QuotaUse {
            name: row.name.clone(),
            provisioned: walked.provisioned.get(&row.id).copied().unwrap_or(0),
            quota: row.quota?.0,
        })
    });
    AlertFacts {
        now_ms,
        nodes: view
            .nodes
            .values()
            .map(|row| node(row, &view, now_ms))
            .collect(),
        stores: stores(host, &view, now_ms),
        data: copies(&verdict),
        logs: problem(&verdict.components, "log"),
        waiting: verdict.repair.waiting,
        filling: verdict.repair.filling,
        stalled,
        capacity: problem(&verdict.components, "capacity"),
        space: space(&view, &verdict),
        catalog: problem(&verdict.components, "catalog"),
        certificates: certificates
            .map(|(&id, &until)| (name_of(id), until))
            .collect(),
        volumes: walked.volumes.clone(),
        quotas: quotas.collect(),
        targets: host.upkeep.alerts.unreached.borrow().clone(),
    }
}

fn node(row: &NodeRow, view: &ClusterView, now_ms: u64) -> NodeHealth {
    let intent = view.intents.get(&Subject::Node(row.id));
    NodeHealth {
        name: row.name.clone(),
        alive: view.alive.contains_key(&row.id),
        candidate: intent.is_some_and(|intent| intent.candidate),
        excused: intent.is_some_and(|intent| intent.maintenance_until_ms > now_ms),
    }
}

fn stores(host: &Host, view: &ClusterView, now_ms: u64) -> Vec<StoreHealth> {
    let standings: BTreeMap<StoreId, Standing> = host
        .store_facts()
        .into_iter()
        .map(|facts| (facts.id, facts.standing))
        .collect();
    let store = |row: &StoreRow| {
        let seen = host.health.seen(row.id);
        let answers = seen.as_ref().is_some_and(|seen| seen.silent.is_none());
        let silent = seen.as_ref().and_then(|seen| seen.silent.clone());
        let status = seen.and_then(|seen| seen.status);
        let failed = silent.or_else(|| status.as_ref()?.failed.clone());
        let node = view.nodes.get(&row.node);
        StoreHealth {
            id: row.id,
            node: node.map_or_else(|| row.node.to_string(), |node| node.name.clone()),
            node_alive: view.alive.contains_key(&row.node),
            excused: is_excused(view, row.id, now_ms),
            // What was never asked is not known to be away.
            standing: standings.get(&row.id).copied().unwrap_or(Standing::Present),
            failed: failed.filter(|_| host.health.failed_for(row.id) >= Some(FAILED_DELAY)),
            full: answers && status.as_ref().is_some_and(|status| status.full),
            protected: view.space.stores.contains(&row.id),
            fill: host.health.fill(row.id).filter(|_| answers),
        }
    };
    view.stores.values().map(store).collect()
}

fn copies(verdict: &ResiliencyAnswer) -> Vec<CopiesHealth> {
    let copies = |answer: &api::CopiesAnswer| CopiesHealth {
        copies: answer.rf,
        groups: answer.groups,
        degraded: answer.degraded,
        unavailable: answer.unavailable,
        tolerates: answer.tolerates,
    };
    verdict.data.iter().map(copies).collect()
}

fn space(view: &ClusterView, verdict: &ResiliencyAnswer) -> Vec<(u8, catalog::SpaceState, String)> {
    let one = |answer: &api::SpaceAnswer| {
        let reason = answer.reason.clone()?;
        Some((answer.rf, view.space.state(answer.rf), reason))
    };
    verdict.space.iter().filter_map(one).collect()
}

/// What is wrong with a part of the cluster.
fn problem(components: &[ComponentAnswer], name: &str) -> Option<Problem> {
    let mut wrong = components
        .iter()
        .filter(|part| part.component == name && part.state != "ok");
    let part = wrong.next()?;
    Some(Problem {
        entity: name.to_owned(),
        reason: part.reason.clone().unwrap_or_else(|| part.state.clone()),
        remedy: part
            .remedy
            .clone()
            .unwrap_or_else(|| "`azekura resiliency` says more".to_owned()),
        critical: part.state == "critical",
    })
}
