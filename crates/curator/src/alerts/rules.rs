//! One rule after the other: what is wrong, what follows from it, and what to do.
//!
//! Every kind is described in docs/operating/alerts.md. A rule says nothing of what is not known.

use super::{AlertFacts, NodeHealth, StoreHealth, WantedAlert};
use crate::{SpaceLimits, Standing};
use catalog::{AlertRow, EventRow, Severity, SpaceState};
use world::Duration;

/// A node must lack its lease for so long: one that is started again does not.
const LOST_AFTER: Duration = Duration::from_secs(4);
/// What may be over in a moment: a store that is asked again, a member of the catalog that starts.
const SILENT_AFTER: Duration = Duration::from_secs(15);
/// What takes its time when a failure is new: the plan of who takes a copy.
const PLAN_AFTER: Duration = Duration::from_secs(60);
/// Fills that make no progress for so long are stuck.
const STALLED_AFTER: Duration = Duration::from_secs(600);
/// A target that was not reached for so long is told of.
const TARGET_AFTER_MS: u64 = 60_000;
/// Percent of a quota from which on an alert is due, and below which it ends.
const QUOTA_PERCENT: u64 = 90;
const QUOTA_END_PERCENT: u64 = 85;
/// Certificates are renewed long before: so few days left are odd, and so few are urgent.
const CERTIFICATE_DAYS: u64 = 7;
const CERTIFICATE_DAYS_URGENT: u64 = 2;
const DAY_MS: u64 = 24 * 3600 * 1000;

fn alert(severity: Severity, kind: &'static str, entity: impl Into<String>) -> WantedAlert {
    WantedAlert {
        severity,
        kind,
        entity: entity.into(),
        cause: String::new(),
        impact: String::new(),
        remedy: String::new(),
        after: Duration::ZERO,
        by_hand: false,
    }
}

impl WantedAlert {
    fn cause(mut self, cause: impl Into<String>) -> Self {
        self.cause = cause.into();
        self
    }

    fn impact(mut self, impact: impl Into<String>) -> Self {
        self.impact = impact.into();
        self
    }

    fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = remedy.into();
        self
    }

    fn after(mut self, after: Duration) -> Self {
        self.after = after;
        self
    }
}

/// Whether an alert of this name is open: then its threshold is the lower one.
fn is_open(open: &[AlertRow], kind: &str, entity: &str) -> bool {
    open.iter().any(|row| row.name() == (kind, entity))
}

/// All alerts that the facts call for. `open`: those that are there. Pure.
#[must_use]
pub fn wanted(facts: &AlertFacts, open: &[AlertRow], limits: &SpaceLimits) -> Vec<WantedAlert> {
    let mut all = Vec::new();
    facts.nodes.iter().for_each(|one| node(one, &mut all));
    for one in &facts.stores {
        store(one, open, limits, &mut all);
    }
    copies(facts, &mut all);
    logs(facts, &mut all);
    space(facts, &mut all);
    catalog(facts, &mut all);
    for (name, until_ms) in &facts.certificates {
        all.extend(certificate(name, *until_ms, facts.now_ms));
    }
    volumes(facts, &mut all);
    quotas(facts, open, &mut all);
    targets(facts, &mut all);
    all
}

fn node(node: &NodeHealth, all: &mut Vec<WantedAlert>) {
    let name = &node.name;
    let entity = format!("node/{name}");
    if node.candidate {
        let wanted = alert(Severity::Info, "candidate-waiting", entity)
            .cause(format!("node {name} has joined and waits to be approved"))
            .impact("it serves nothing and its disks hold nothing until then")
            .remedy(format!(
                "`azekura node approve {name}` if it is the machine that you added, else `azekura node remove {name} --lost`"
            ));
        all.push(wanted);
    } else if !node.alive && !node.excused {
        let wanted = alert(Severity::Critical, "node-lost", entity)
            .cause(format!("node {name} does not hold its lease"))
            .impact("its volumes are served by other nodes; its copies of data are missing")
            .remedy(format!(
                "start it again; if it never comes back, `azekura node remove {name} --lost`; for planned work say \
                 `azekura node maintenance {name}` first"
            ))
            .after(LOST_AFTER);
        all.push(wanted);
    }
}

fn store(store: &StoreHealth, open: &[AlertRow], limits: &SpaceLimits, all: &mut Vec<WantedAlert>) {
    let (id, node) = (store.id.0, &store.node);
    let entity = format!("store/{id}");
    if let Some(reason) = &store.failed {
        let wanted = alert(Severity::Critical, "store-failed", entity.clone())
            .cause(format!("store {id} of node {node} has failed: {reason}"))
            .impact("it answers nothing any more; its groups get other members")
            .remedy(format!(
                "replace its disk (`azekura disk replace`), or start node {node} again if the disk is sound"
            ));
        all.push(wanted);
    } else if store.standing == Standing::Lost {
        let wanted = alert(Severity::Critical, "store-lost", entity.clone())
            .cause(format!(
                "store {id} of node {node} does not answer and is replaced"
            ))
            .impact("its copies are made again on other stores, which takes space and time")
            .remedy(format!(
                "bring it back, replace its disks, or `azekura store remove {id} --lost`"
            ));
        all.push(wanted);
    } else if store.standing == Standing::Away && store.node_alive && !store.excused {
        let wanted = alert(Severity::Warning, "store-silent", entity.clone())
            .cause(format!(
                "store {id} does not answer although node {node} lives"
            ))
            .impact("its copies are missing; after the repair delay other stores take its place")
            .remedy(format!("look at the log of node {node} and at its disks"))
            .after(SILENT_AFTER);
        all.push(wanted);
    }
    all.extend(fill(store, entity, open, limits));
}

/// A store that fills up.
fn fill(
    store: &StoreHealth,
    entity: String,
    open: &[AlertRow],
    limits: &SpaceLimits,
) -> Option<WantedAlert> {
    const KIND: &str = "store-filling";
    let (id, node) = (store.id.0, &store.node);
    let begins = match is_open(open, KIND, &entity) {
        true => limits.warn_end_percent,
        false => limits.warn_percent,
    };
    let percent = store.fill.unwrap_or(0);
    let (severity, what, impact) = if store.full {
        let impact = "it takes nothing, not even repair; writes that need it fail";
        (Severity::Critical, "is full".to_owned(), impact)
    } else if store.protected {
        let impact = "it takes nothing new from clients; other stores do as long as they have room";
        (Severity::Warning, "is nearly full".to_owned(), impact)
    } else if percent >= begins {
        let impact = format!("from {} % on it takes nothing new", limits.protect_percent);
        let wanted = alert(Severity::Warning, KIND, entity)
            .cause(format!(
                "{percent} % of what clients may fill of store {id} (node {node}) is in use"
            ))
            .impact(impact)
            .remedy("delete data or snapshots, or add disks or nodes");
        return Some(wanted);
    } else {
        return None;
    };
    let wanted = alert(severity, KIND, entity)
        .cause(format!("store {id} of node {node} {what}"))
        .impact(impact)
        .remedy("delete data or snapshots, or add disks or nodes");
    Some(wanted)
}

fn copies(facts: &AlertFacts, all: &mut Vec<WantedAlert>) {
    for data in &facts.data {
        let (copies, total) = (data.copies, data.groups);
        let entity = format!("copies/{copies}");
        if data.unavailable > 0 {
            let wanted = alert(Severity::Critical, "data-unavailable", entity.clone())
                .cause(format!(
                    "{} of {total} groups with {copies} copies have none that answers",
                    data.unavailable
                ))
                .impact("reads of what lies there wait or fail")
                .remedy(
                    "bring their stores back: `azekura resiliency` and `azekura status` name them",
                );
            all.push(wanted);
        }
        if data.degraded > 0 && copies > 1 {
            let beyond = data.tolerates == 0;
            let (severity, impact) = match beyond {
                true => (Severity::Critical, "the next loss may take data away"),
                false => (
                    Severity::Warning,
                    "fewer losses can be taken than the policy promises",
                ),
            };
            let wanted = alert(severity, "copies-missing", entity)
                .cause(format!(
                    "{} of {total} groups have fewer than {copies} copies",
                    data.degraded
                ))
                .impact(impact)
                .remedy("copies are made again by themselves where there is a store for them; bring lost nodes and stores back")
                .after(SILENT_AFTER);
            all.push(wanted);
        }
    }
    if facts.waiting > 0 {
        let wanted = alert(Severity::Warning, "repair-waiting", "cluster")
            .cause(format!(
                "{} groups lack a copy and there is no store to make it on",
                facts.waiting
            ))
            .impact("they stay short of copies")
            .remedy("add a store in another failure domain, or bring the lost one back")
            .after(PLAN_AFTER);
        all.push(wanted);
    }
    if facts.filling > 0 && facts.stalled >= STALLED_AFTER {
        let minutes = facts.stalled.as_secs() / 60;
        let wanted = alert(Severity::Warning, "repair-stalled", "cluster")
            .cause(format!(
                "{} members of groups are being filled, and none was finished for {minutes} minutes",
                facts.filling
            ))
            .impact("copies that are being made are still missing")
            .remedy("look for stores that are slow, full or silent: `azekura status`, `azekura top`");
        all.push(wanted);
    }
}

fn logs(facts: &AlertFacts, all: &mut Vec<WantedAlert>) {
    if let Some(problem) = &facts.logs {
        let (severity, impact) = match problem.critical {
            true => (
                Severity::Critical,
                "the next loss may take away what was written last, or has: those volumes wait for their stores",
            ),
            false => (
                Severity::Warning,
                "of what was written last fewer losses can be taken than the policy promises",
            ),
        };
        let wanted = alert(severity, "log-copies-missing", "logs")
            .cause(problem.reason.clone())
            .impact(impact)
            .remedy(problem.remedy.clone())
            .after(PLAN_AFTER);
        all.push(wanted);
    }
}

fn space(facts: &AlertFacts, all: &mut Vec<WantedAlert>) {
    for (copies, state, reason) in &facts.space {
        let (severity, impact) = match state {
            SpaceState::Ok => continue,
            SpaceState::Warning => (
                Severity::Warning,
                "a lost node may not be made good, and later new data is refused",
            ),
            SpaceState::Protected => (
                Severity::Critical,
                "new data is refused; reads, deletes, trims and repair go on",
            ),
        };
        let wanted = alert(severity, "space", format!("space/{copies}"))
            .cause(reason.clone())
            .impact(impact)
            .remedy("delete data or snapshots, or add disks or nodes");
        all.push(wanted);
    }
    if let Some(problem) = &facts.capacity {
        let wanted = alert(Severity::Warning, "capacity-short", "cluster")
            .cause(problem.reason.clone())
            .impact("after such a loss some copies cannot be made again")
            .remedy(problem.remedy.clone())
            .after(PLAN_AFTER);
        all.push(wanted);
    }
}

fn catalog(facts: &AlertFacts, all: &mut Vec<WantedAlert>) {
    if let Some(problem) = &facts.catalog {
        let (severity, impact) = match problem.critical {
            true => (
                Severity::Critical,
                "takeovers, snapshots and changes wait; reads and writes go on",
            ),
            false => (
                Severity::Warning,
                "the loss of another member may stop takeovers, snapshots and changes",
            ),
        };
        let wanted = alert(severity, "catalog-member", "catalog")
            .cause(problem.reason.clone())
            .impact(impact)
            .remedy(problem.remedy.clone())
            .after(SILENT_AFTER);
        all.push(wanted);
    }
}

fn certificate(node: &str, until_ms: u64, now_ms: u64) -> Option<WantedAlert> {
    let left = until_ms.saturating_sub(now_ms);
    if left >= CERTIFICATE_DAYS * DAY_MS {
        return None;
    }
    let severity = match left < CERTIFICATE_DAYS_URGENT * DAY_MS {
        true => Severity::Critical,
        false => Severity::Warning,
    };
    let cause = match left {
        0 => format!("the certificate of node {node} has expired"),
        _ => format!(
            "the certificate of node {node} ends in {} hours and was not renewed",
            left / 3_600_000
        ),
    };
    let wanted = alert(severity, "certificate-expiring", format!("node/{node}"))
        .cause(cause)
        .impact("without one nobody speaks to that node, and it takes no part")
        .remedy(
            "start a node that has the authority's file (`tls.authority`): nodes renew their certificates there by themselves; \
             `azekura cluster ca show` says more",
        );
    Some(wanted)
}

fn volumes(facts: &AlertFacts, all: &mut Vec<WantedAlert>) {
    for volume in &facts.volumes {
        let wanted = alert(Severity::Critical, "volume-stopped", volume.entity.clone())
            .cause(volume.reason.clone())
            .impact("nobody can read or write it")
            .remedy(volume.remedy.clone());
        all.push(wanted);
    }
}

fn quotas(facts: &AlertFacts, open: &[AlertRow], all: &mut Vec<WantedAlert>) {
    const KIND: &str = "quota-nearly-used";
    for container in facts.quotas.iter().filter(|container| container.quota > 0) {
        let name = &container.name;
        let entity = format!("container/{name}");
        let used = u128::from(container.provisioned) * 100 / u128::from(container.quota);
        let begins = match is_open(open, KIND, &entity) {
            true => QUOTA_END_PERCENT,
            false => QUOTA_PERCENT,
        };
        if used < u128::from(begins) {
            continue;
        }
        let wanted = alert(Severity::Warning, KIND, entity)
            .cause(format!(
                "volumes of container {name} promise {used} % of its quota"
            ))
            .impact(
                "volumes that would exceed it are refused; those that are there are not concerned",
            )
            .remedy(format!(
                "`azekura container set {name} --quota SIZE`, or delete volumes"
            ));
        all.push(wanted);
    }
}

fn targets(facts: &AlertFacts, all: &mut Vec<WantedAlert>) {
    for (name, since_ms, reason) in &facts.targets {
        let lasted = facts.now_ms.saturating_sub(*since_ms);
        if lasted < TARGET_AFTER_MS {
            continue;
        }
        let minutes = lasted / 60_000;
        let wanted = alert(Severity::Warning, "delivery-failed", format!("target/{name}"))
            .cause(format!(
                "target {name} has not been reached for {minutes} minutes: {reason}"
            ))
            .impact("alerts are not delivered there; those of the meantime follow once it is reached")
            .remedy(format!(
                "`azekura alert target test {name}` tries again at once; correct the target or what is behind it"
            ));
        all.push(wanted);
    }
}

/// The alert that an event calls for: what nothing else says any more a moment later. Pure.
#[must_use]
pub fn from_event(event: &EventRow) -> Option<WantedAlert> {
    let (severity, kind, impact, remedy) = match &*event.kind {
        "rot" => (
            Severity::Critical,
            "rot",
            "a copy is bad and could not be made good from another one",
            "restore what is concerned from a snapshot or a backup, and replace the disk; then resolve this alert",
        ),
        "rot-repaired" => (
            Severity::Warning,
            "rot-repaired",
            "nothing was lost: the copy was made good; the disk gave back other bytes than were written",
            "watch the disk, and replace it if this comes again; then resolve this alert",
        ),
        "journal-rot" => (
            Severity::Warning,
            "journal-rot",
            "nothing was lost: its volumes were written out; the disk gave back other bytes than were written",
            "watch the disk, and replace it if this comes again; then resolve this alert",
        ),
        "volume-quarantined" => (
            Severity::Critical,
            "volume-quarantined",
            "nobody can use the volume until the quarantine is over; the nodes that opened it ended",
            "report what those logs say; the release of the volume resolves this alert, or you do when it is served again",
        ),
        _ => return None,
    };
    let wanted = alert(severity, kind, event.entity.clone())
        .cause(event.message.clone())
        .impact(impact)
        .remedy(match &event.remedy {
            Some(own) => format!("{own}; {remedy}"),
            None => remedy.to_owned(),
        });
    Some(WantedAlert {
        by_hand: true,
        ..wanted
    })
}
