//! Brings changes of alerts to whoever shall hear of them.
//!
//! The leader alone delivers. How far a target has been told is in the catalog, so that the next leader goes on from there. A change is
//! delivered at least once, and has an id by which a receiver knows it again.
//!
//! Invariants
//! - A target is told of changes in their order; one that is not reached holds up no other, and is tried again after a pause that
//!   doubles up to [`PAUSE_MAX_MS`].
//! - At most one delivery is under way to each target.
//! - The shard waits for no network here: a [`Courier`] has threads of its own.

use crate::host::Host;
use catalog::{
    AlertChangeRow, AlertCursorRow, AlertRow, AlertTargetRow, AlertTurn, CatalogError, Delivery,
};
use std::fmt;
use std::rc::Rc;
use world::{Duration, LocalBoxFuture};

/// Pause between two looks for what is to be delivered, when nobody says that there is something.
const LOOK: Duration = Duration::from_secs(2);
/// Changes delivered to a target before the others are looked at again.
const CHANGES_AT_ONCE: usize = 16;
/// Pause after a delivery failed; doubled with each that follows.
const PAUSE_MS: u64 = 5_000;
/// And at most.
const PAUSE_MAX_MS: u64 = 600_000;
/// What is open is told to an Alertmanager again after so long.
const REPEAT_MS: u64 = 60_000;
/// A courier that has not said anything for so long has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parcel {
    /// Name of the cluster.
    pub cluster: String,
    /// Its id: with that of a change the name of a delivery.
    pub cluster_id: String,
    /// Name of the node that delivers.
    pub node: String,
    /// Where its API and its pages are, when it serves them.
    pub api: Option<String>,
    /// Now, Unix milliseconds.
    pub now_ms: u64,
    /// What changed: one thing, but for an Alertmanager; nothing: a test, or what is open again.
    pub changes: Vec<AlertChangeRow>,
    /// What is open, for an Alertmanager.
    pub open: Vec<AlertRow>,
    /// Whether it is only to be seen that it arrives.
    pub test: bool,
}

/// Brings parcels to targets, in threads of its own.
pub trait Courier: fmt::Debug {
    /// Resolves once the target has taken the parcel.
    ///
    /// # Errors
    /// Why it has not, for people; no secret is part of it.
    fn deliver(
        &self,
        target: &AlertTargetRow,
        parcel: Parcel,
    ) -> LocalBoxFuture<'static, Result<(), String>>;
}

/// Where something is delivered, without what may be a secret: scheme, host and port. Pure.
pub(crate) fn origin(delivery: &Delivery) -> String {
    let url = match delivery {
        Delivery::Mail { server, .. } => return server.clone(),
        Delivery::Webhook { url, .. } | Delivery::Alertmanager { url, .. } => url,
    };
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    format!("{scheme}://{host}")
}

/// How long to wait after so many failures. Pure.
fn pause_ms(failures: u32) -> u64 {
    let doubled = PAUSE_MS.saturating_mul(1 << failures.saturating_sub(1).min(16));
    doubled.min(PAUSE_MAX_MS)
}

/// Whether a target wants to hear of a change: also of one that makes an alert matter too little, or it would wait for its end
/// forever. Pure.
fn concerns(target: &AlertTargetRow, change: &AlertChangeRow) -> bool {
    change.alert.severity.max(change.before) >= target.minimum
}

/// Delivers for as long as the node runs.
pub(crate) async fn run(host: Rc<Host>, courier: Rc<dyn Courier>) {
    loop {
        let changed = host.upkeep.alerts.changed.notified();
        // Whether something was said or not: both are a reason to look.
        let _ = host.world.timeout(LOOK, changed).await;
        if !host.upkeep.leading.get() {
            host.upkeep.alerts.unreached.borrow_mut().clear();
            continue;
        }
        if let Err(error) = look(&host, &courier).await {
            tracing::debug!(%error, "alerts are delivered later");
        }
    }
}

/// Begins to deliver to every target that something is to be delivered to.
async fn look(host: &Rc<Host>, courier: &Rc<dyn Courier>) -> Result<(), CatalogError> {
    let targets = host.catalog.alert_targets().await?;
    let unreached = targets.iter().filter_map(|(row, cursor)| {
        let since = cursor.failing_ms?;
        let why = cursor.error.clone().unwrap_or_default();
        Some((row.name.clone(), since, why))
    });
    *host.upkeep.alerts.unreached.borrow_mut() = unreached.collect();
    if targets.is_empty() {
        return Ok(());
    }
    let head = host.catalog.alert_head().await?;
    let is_quiet = head.open.is_empty();
    let now_ms = host.world.clock.unix_ms();
    for (target, cursor) in targets {
        let repeats = matches!(target.delivery, Delivery::Alertmanager { .. }) && !is_quiet;
        let repeats = repeats
            && cursor
                .delivered_ms
                .is_none_or(|at| now_ms.saturating_sub(at) >= REPEAT_MS);
        let is_due = cursor.done < head.last_change || repeats;
        let free = host
            .upkeep
            .alerts
            .busy
            .borrow_mut()
            .insert(target.name.clone());
        if !free {
            continue;
        }
        if !is_due || cursor.next_ms > now_ms {
            host.upkeep.alerts.busy.borrow_mut().remove(&target.name);
            continue;
        }
        let (host, courier) = (host.clone(), courier.clone());
        host.clone().spawn(async move {
            let name = target.name.clone();
            if let Err(error) = tell(&host, &*courier, &target, cursor).await {
                tracing::debug!(to = name, %error, "how far a target was told is noted later");
            }
            host.upkeep.alerts.busy.borrow_mut().remove(&name);
        });
    }
    Ok(())
}

fn parcel(host: &Host) -> Parcel {
    Parcel {
        cluster: host.options.cluster.clone(),
        cluster_id: host.cluster_id.clone(),
        node: host.options.name.clone(),
        api: host.options.api.clone(),
        now_ms: host.world.clock.unix_ms(),
        changes: Vec::new(),
        open: Vec::new(),
        test: false,
    }
}

async fn hand_over(
    host: &Host,
    courier: &dyn Courier,
    target: &AlertTargetRow,
    parcel: Parcel,
) -> Result<(), String> {
    let delivery = courier.deliver(target, parcel);
    let late = |_| format!("no answer within {} s", PATIENCE.as_secs());
    host.world.timeout(PATIENCE, delivery).await.map_err(late)?
}

/// Tells one target of what it has not heard yet.
async fn tell(
    host: &Host,
    courier: &dyn Courier,
    target: &AlertTargetRow,
    mut cursor: AlertCursorRow,
) -> Result<(), CatalogError> {
    let changes = host
        .catalog
        .alert_changes(cursor.done, CHANGES_AT_ONCE)
        .await?;
    if let Some(first) = changes.first() {
        // What is not there any more was forgotten before the target could be reached.
        cursor.missed += first.id - cursor.done - 1;
        cursor.done = first.id - 1;
    }
    if let Delivery::Alertmanager { .. } = target.delivery {
        let last = changes.last().map_or(cursor.done, |change| change.id);
        let concerned = changes
            .into_iter()
            .filter(|change| concerns(target, change));
        let open = host.catalog.alerts_now().await?.open.into_iter();
        let parcel = Parcel {
            changes: concerned.collect(),
            open: open.filter(|row| row.severity >= target.minimum).collect(),
            ..parcel(host)
        };
        let nothing = parcel.changes.is_empty() && parcel.open.is_empty();
        let delivered = match nothing {
            true => Ok(()),
            false => hand_over(host, courier, target, parcel).await,
        };
        note(host, &mut cursor, last, delivered);
        return host.catalog.set_alert_cursor(&cursor).await;
    }
    let mut passed = cursor.done;
    for change in changes {
        let id = change.id;
        if concerns(target, &change) {
            let parcel = Parcel {
                changes: vec![change],
                ..parcel(host)
            };
            let delivered = hand_over(host, courier, target, parcel).await;
            let failed = delivered.is_err();
            cursor.done = passed;
            note(host, &mut cursor, id, delivered);
            // After each: the next leader shall not repeat more than the last.
            host.catalog.set_alert_cursor(&cursor).await?;
            if failed {
                return Ok(());
            }
        }
        passed = id;
    }
    if passed > cursor.done {
        cursor.done = passed;
        host.catalog.set_alert_cursor(&cursor).await?;
    }
    host.upkeep.alerts.on_changed();
    Ok(())
}

/// What became of a delivery of everything up to `last`.
fn note(host: &Host, cursor: &mut AlertCursorRow, last: u64, delivered: Result<(), String>) {
    let now_ms = host.world.clock.unix_ms();
    match delivered {
        Ok(()) => {
            *cursor = AlertCursorRow {
                done: last,
                delivered_ms: Some(now_ms),
                failures: 0,
                failing_ms: None,
                error: None,
                next_ms: 0,
                ..cursor.clone()
            };
        }
        Err(error) => {
            tracing::warn!(to = cursor.name, error, "alerts are not delivered");
            cursor.failures = cursor.failures.saturating_add(1);
            cursor.failing_ms.get_or_insert(now_ms);
            cursor.error = Some(error.chars().take(catalog::TEXT_CHARS_MAX).collect());
            cursor.next_ms = now_ms.saturating_add(pause_ms(cursor.failures));
        }
    }
}

/// Sends a test message; what waits for a target that can be reached follows at once.
///
/// # Errors
/// Why it is not delivered.
pub(crate) async fn test(
    host: &Host,
    courier: &dyn Courier,
    target: &AlertTargetRow,
) -> Result<(), String> {
    let parcel = Parcel {
        test: true,
        ..parcel(host)
    };
    hand_over(host, courier, target, parcel).await?;
    let targets = host.catalog.alert_targets().await;
    let targets = targets.map_err(|error| error.to_string())?;
    let cursor = targets.into_iter().find(|(row, _)| row.name == target.name);
    if let Some((_, cursor)) = cursor {
        let cursor = AlertCursorRow {
            next_ms: 0,
            ..cursor
        };
        let set = host.catalog.set_alert_cursor(&cursor).await;
        set.map_err(|error| error.to_string())?;
    }
    host.upkeep.alerts.on_changed();
    Ok(())
}

impl Parcel {
    /// Alerts that have ended, or are another alert to an Alertmanager now, as they were; for which `endsAt` is in the past.
    #[must_use]
    pub fn ended(&self) -> Vec<AlertRow> {
        let ended = |change: &AlertChangeRow| {
            let is_other = change.before != change.alert.severity;
            let was = AlertRow {
                severity: change.before,
                ..change.alert.clone()
            };
            (change.turn == AlertTurn::Resolved || is_other).then_some(was)
        };
        self.changes.iter().filter_map(ended).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_their_bound() {
        let pauses: Vec<u64> = (1..10).map(pause_ms).collect();
        assert_eq!(pauses[..3], [5_000, 10_000, 20_000]);
        assert_eq!(pause_ms(u32::MAX), PAUSE_MAX_MS);
        assert!(pauses.is_sorted());
    }

    #[test]
    fn an_address_is_shown_without_what_may_be_a_key() {
        let webhook = |url: &str| {
            origin(&Delivery::Webhook {
                url: url.to_owned(),
                ca: None,
                secret: None,
            })
        };
        assert_eq!(
            webhook("https://hooks.test:8443/T0/B1?k=hush"),
            "https://hooks.test:8443"
        );
        assert_eq!(webhook("http://[::1]:9093"), "http://[::1]:9093");
    }
}
