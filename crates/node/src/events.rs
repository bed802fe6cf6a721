//! What this node has to tell: kept for a moment, joined where it repeats, and written to the catalog's log.
//!
//! Nothing waits for it. While the catalog is away events wait here, so many as fit; how many did not is told afterwards.

use crate::host::Host;
use catalog::{EVENTS_AT_ONCE, EventRow, Severity, TEXT_CHARS_MAX};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use world::Duration;
use world::sync::Notify;

/// Events that wait at most: about 256 KiB.
const QUEUE_MAX: usize = 256;
/// Of one kind so many wait one by one: a node with a thousand volumes that is lost must not take the whole log.
const KIND_MAX: usize = 16;
/// Events within this time are written together, and at most one append follows another after it.
const GATHER: Duration = Duration::from_secs(1);
/// Pause after the catalog failed.
const RETRY_PAUSE: Duration = Duration::from_secs(2);

/// What happened, before it has a number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) severity: Severity,
    pub(crate) kind: &'static str,
    pub(crate) entity: String,
    pub(crate) message: String,
    pub(crate) remedy: Option<String>,
}

impl Told {
    pub(crate) fn new(
        severity: Severity,
        kind: &'static str,
        entity: impl Into<String>,
        message: impl Into<String>,
    ) -> Self {
        Self {
            severity,
            kind,
            entity: entity.into(),
            message: message.into(),
            remedy: None,
        }
    }

    pub(crate) fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }
}

/// Events on their way to the catalog.
#[derive(Default)]
pub(crate) struct Events {
    queue: RefCell<VecDeque<EventRow>>,
    lost: Cell<u64>,
    wake: Notify,
}

fn bounded(text: String) -> String {
    match text.char_indices().nth(TEXT_CHARS_MAX) {
        Some((end, _)) => text[..end].to_owned(),
        None => text,
    }
}

impl Events {
    fn push(&self, row: EventRow) {
        let mut queue = self.queue.borrow_mut();
        let of_kind = |known: &&EventRow| known.kind == row.kind;
        let many = queue.iter().filter(of_kind).count() >= KIND_MAX;
        let same =
            |known: &&mut EventRow| known.kind == row.kind && (many || known.entity == row.entity);
        if let Some(known) = queue.iter_mut().rev().find(same) {
            let count = known.count.saturating_add(1);
            *known = EventRow { count, ..row };
        } else if queue.len() < QUEUE_MAX {
            queue.push_back(row);
        } else {
            self.lost.set(self.lost.get() + 1);
        }
        self.wake.notify_all();
    }

    /// The oldest ones, which stay until [`Events::written`].
    fn batch(&self) -> Vec<EventRow> {
        let queue = self.queue.borrow();
        queue.iter().take(EVENTS_AT_ONCE).cloned().collect()
    }

    /// Forgets what was written; what was joined to it meanwhile stays.
    fn written(&self, batch: &[EventRow]) {
        self.queue.borrow_mut().retain(|row| !batch.contains(row));
    }
}

impl Host {
    /// Tells the cluster what happened. Cheap, never fails, and nothing waits for it.
    pub(crate) fn tell(&self, told: Told) {
        if !self.options.events {
            return;
        }
        self.upkeep.events.push(EventRow {
            id: 0,
            at_ms: self.world.clock.unix_ms(),
            severity: told.severity,
            kind: told.kind.to_owned(),
            entity: told.entity,
            message: bounded(told.message),
            remedy: told.remedy.map(bounded),
            node: self.options.name.clone(),
            count: 1,
        });
    }
}

/// Writes what was told, for as long as the node runs.
pub(crate) async fn run(host: Rc<Host>) {
    loop {
        let wake = host.upkeep.events.wake.notified();
        if host.upkeep.events.batch().is_empty() {
            wake.await;
        }
        host.world.sleep(GATHER).await;
        let batch = host.upkeep.events.batch();
        match host.catalog.append_events(&batch).await {
            Ok(()) => {
                host.upkeep.events.written(&batch);
                let lost = host.upkeep.events.lost.replace(0);
                if lost > 0 {
                    let message =
                        format!("{lost} events were not written: too many at once, or no catalog");
                    let entity = format!("node/{}", host.options.name);
                    host.tell(Told::new(Severity::Warning, "events-lost", entity, message));
                }
            }
            Err(error) => {
                tracing::debug!(%error, "events are written later");
                host.world.sleep(RETRY_PAUSE).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(kind: &str, entity: &str, message: &str) -> EventRow {
        EventRow {
            id: 0,
            at_ms: 1,
            severity: Severity::Info,
            kind: kind.to_owned(),
            entity: entity.to_owned(),
            message: message.to_owned(),
            remedy: None,
            node: "a".to_owned(),
            count: 1,
        }
    }

    #[test]
    fn repeated_events_are_joined_and_the_queue_is_bounded() {
        let events = Events::default();
        events.push(row("rot", "store/1", "first"));
        events.push(row("rot", "store/1", "second"));
        let batch = events.batch();
        assert_eq!((batch.len(), batch[0].count), (1, 2));
        assert_eq!(batch[0].message, "second");
        for number in 0..1000 {
            events.push(row("takeover", &format!("volume/{number}"), "more"));
        }
        let batch = events.batch();
        assert_eq!(batch.len(), 1 + KIND_MAX);
        assert_eq!(
            (&*batch[KIND_MAX].entity, batch[KIND_MAX].count),
            ("volume/999", 985)
        );
        for number in 0..2 * QUEUE_MAX {
            events.push(row(&number.to_string(), "cluster", "more"));
        }
        assert_eq!(events.queue.borrow().len(), QUEUE_MAX);
        assert_eq!(events.lost.get() as usize, QUEUE_MAX + 1 + KIND_MAX);
    }

    #[test]
    fn what_is_joined_during_a_write_is_not_forgotten() {
        let events = Events::default();
        events.push(row("rot", "store/1", "first"));
        events.push(row("lost", "node/a", "gone"));
        let batch = events.batch();
        events.push(row("rot", "store/1", "again"));
        events.written(&batch);
        let left = events.batch();
        assert_eq!((left.len(), &*left[0].message), (1, "again"));
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        assert_eq!(bounded("é".repeat(2000)).chars().count(), TEXT_CHARS_MAX);
        assert_eq!(bounded("short".to_owned()), "short");
    }
}
