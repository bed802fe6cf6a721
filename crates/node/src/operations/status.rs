//! The cluster at a glance.

use super::Result;
use crate::ClusterView;
use crate::health::Seen;
use crate::host::Host;
use api::{Answer, ClusterAnswer, ListQuery, NodeAnswer, StatusAnswer, StoreAnswer, VolumeAnswer};
use catalog::{StoreRow, Subject};
use curator::Standing;
use std::collections::BTreeMap;
use vocab::StoreId;
use wire::Trust;

/// Volumes that the state of the cluster lists; `GET /volumes` has all.
const VOLUMES_LISTED: usize = 100;

pub(super) fn describe(row: &StoreRow, seen: Option<Seen>) -> StoreAnswer {
    let mut answer = StoreAnswer {
        id: row.id.0,
        node: row.node.0,
        domains: row.domains.clone(),
        state: "unreachable".to_owned(),
        incarnation: row.incarnation.0,
        capacity: row.capacity.0,
        ..StoreAnswer::default()
    };
    let Some(seen) = seen else {
        answer.reason = Some("it has not been asked yet".to_owned());
        return answer;
    };
    if let Some(status) = &seen.status {
        let (state, reason) = match (&status.failed, status.full, status.trust) {
            (Some(reason), _, _) => ("failed", Some(reason.clone())),
            (None, true, _) => ("full", Some("delete data or add disks".to_owned())),
            (None, false, Trust::Suspect) => {
                let reason = "the machine may have lost power; what was flushed is there";
                ("suspect", Some(reason.to_owned()))
            }
            (None, false, Trust::Trusted) => ("ready", None),
        };
        answer.state = state.to_owned();
        answer.reason = reason;
        answer.incarnation = status.incarnation.0;
        answer.capacity = status.capacity.0;
        answer.used = status.used.0;
        answer.kept_back = store::kept_back(status.capacity).0;
        answer.journal_capacity = status.journal_capacity.0;
        answer.journal_used = status.journal_used.0;
        answer.extents = status.extents;
        answer.written = status.written.0;
        answer.flushes = status.flushes;
    }
    let says_failed = seen.says_failed();
    if let Some(silent) = seen.silent {
        answer.state = if says_failed { "failed" } else { "unreachable" }.to_owned();
        answer.reason = Some(silent);
    }
    answer
}

/// The word for what the plan makes of a store.
pub(super) fn word_of(standing: Standing) -> &'static str {
    match standing {
        Standing::Present => "present",
        Standing::Away => "away",
        Standing::Draining => "draining",
        Standing::Lost => "lost",
    }
}

/// What the plan makes of a store.
pub(super) fn place(
    mut answer: StoreAnswer,
    view: &ClusterView,
    standing: Standing,
) -> StoreAnswer {
    let store = StoreId(answer.id);
    if answer.state == "ready" && view.space.stores.contains(&store) {
        answer.state = "protected".to_owned();
        answer.reason = Some("it is nearly full and takes nothing new from clients".to_owned());
    }
    let groups = || view.groups.values();
    answer.standing = word_of(standing).to_owned();
    let intent = view.intents.get(&Subject::Store(store));
    answer.maintenance_until_ms = intent.map_or(0, |intent| intent.maintenance_until_ms);
    answer.groups = groups()
        .filter(|group| group.members.contains(&store))
        .count() as u32;
    answer.filling = groups()
        .filter(|group| group.filling.contains(&store))
        .count() as u32;
    answer.leaving = groups()
        .filter(|group| group.former.contains(&store))
        .count() as u32;
    answer
}

pub(super) fn nodes_of(view: &ClusterView) -> Vec<NodeAnswer> {
    let intent = |row: &catalog::NodeRow| view.intents.get(&Subject::Node(row.id));
    let node = |row: &catalog::NodeRow| NodeAnswer {
        draining: intent(row).is_some_and(|intent| intent.draining),
        maintenance_until_ms: intent(row).map_or(0, |intent| intent.maintenance_until_ms),
        candidate: intent(row).is_some_and(|intent| intent.candidate),
        id: row.id.0,
        name: row.name.clone(),
        address: row.address.clone(),
        nbd: row.nbd.clone(),
        api: row.api.clone(),
        release: row.release.clone(),
        level: row.levels.newest.0,
        alive: view.alive.contains_key(&row.id),
    };
    view.nodes.values().map(node).collect()
}

impl Host {
    /// The nodes as this one last heard of them; asks nobody.
    pub(super) fn cluster(&self) -> Answer {
        Answer::Cluster(ClusterAnswer {
            name: self.options.cluster.clone(),
            id: self.cluster_id.clone(),
            version: crate::RELEASE.to_owned(),
            level: self.level().0,
            nodes: nodes_of(&self.view()),
        })
    }

    pub(super) async fn list_stores(&self) -> Answer {
        Answer::Stores(self.store_answers(&self.view()).await)
    }

    /// What the plan makes of every store.
    pub(super) fn standings(&self) -> BTreeMap<StoreId, Standing> {
        let facts = self.store_facts().into_iter();
        facts.map(|facts| (facts.id, facts.standing)).collect()
    }

    /// Every store, asked now.
    async fn store_answers(&self, view: &ClusterView) -> Vec<StoreAnswer> {
        self.health.ask(view.stores.keys().copied().collect()).await;
        let standings = self.standings();
        let store = |row: &StoreRow| {
            let standing = standings.get(&row.id).copied().unwrap_or(Standing::Away);
            place(describe(row, self.health.seen(row.id)), view, standing)
        };
        view.stores.values().map(store).collect()
    }

    /// The first volumes, by name, and whether there are more.
    async fn some_volumes(&self) -> Result<(Vec<VolumeAnswer>, bool)> {
        let page = ListQuery {
            limit: Some(VOLUMES_LISTED as u32 + 1),
            ..ListQuery::default()
        };
        let mut volumes = self.volume_answers(&page).await?;
        let more = volumes.len() > VOLUMES_LISTED;
        volumes.truncate(VOLUMES_LISTED);
        volumes.sort_by(|one, other| one.name.cmp(&other.name));
        Ok((volumes, more))
    }

    pub(super) async fn status(&self) -> Result<Answer> {
        let view = self.view();
        let asked = futures_util::future::join(self.store_answers(&view), self.ask_for_verdict());
        let (stores, ()) = asked.await;
        let resiliency = self.verdict();
        let (volumes, more_volumes) = self.some_volumes().await?;
        Ok(Answer::Status(StatusAnswer {
            verdict: resiliency.verdict.clone(),
            reasons: resiliency.reasons.clone(),
            resiliency,
            alerts: self.alert_counts().await,
            cluster: self.options.cluster.clone(),
            node: self.id.0,
            cluster_id: self.cluster_id.clone(),
            encrypted: self.options.secured,
            nodes: nodes_of(&view),
            stores,
            volumes,
            more_volumes,
        }))
    }
}
