//! What happened, for people and programs.

use super::{Result, catalog_error};
use crate::host::Host;
use api::sort::{Key, Order, Part};
use api::{
    Answer, EVENTS_DEFAULT, EVENTS_LIMIT_MAX, EventAnswer, EventQuery, EventSort, EventsAnswer,
    OperationError,
};
use catalog::EventRow;

fn describe(row: EventRow) -> EventAnswer {
    EventAnswer {
        id: row.id,
        at_ms: row.at_ms,
        severity: row.severity.name().to_owned(),
        kind: row.kind,
        entity: row.entity,
        message: row.message,
        remedy: row.remedy,
        node: row.node,
        count: row.count,
    }
}

/// What an event has in a field that events can be ordered by.
fn key_of(event: &EventAnswer, field: &str) -> Key {
    match field {
        "severity" => match event.severity.as_str() {
            "info" => Key::Number(0),
            "warning" => Key::Number(1),
            _ => Key::Number(2),
        },
        "kind" => event.kind.as_str().into(),
        "entity" => event.entity.as_str().into(),
        "node" => event.node.as_str().into(),
        _ => Key::Nothing,
    }
}

impl Host {
    pub(super) async fn list_events(&self, query: &EventQuery) -> Result<Answer> {
        let limit = query.limit.unwrap_or(EVENTS_DEFAULT);
        if !(1..=EVENTS_LIMIT_MAX).contains(&limit) {
            let hint = format!("`limit` of events is 1 to {EVENTS_LIMIT_MAX}");
            return Err(OperationError::bad_request(hint));
        }
        if query.is_selective() {
            return self.select_events(query, limit as usize).await;
        }
        let rows = self.catalog.events(query.after, limit as usize).await;
        let rows = rows.map_err(catalog_error)?;
        let last = rows.last().map(|row| row.id);
        Ok(Answer::Events(EventsAnswer {
            events: rows.into_iter().map(describe).collect(),
            next: last.or(query.after).unwrap_or(0),
        }))
    }

    /// Events that pass filters, in an order: all that are kept are read for it.
    async fn select_events(&self, query: &EventQuery, limit: usize) -> Result<Answer> {
        let rows = self.catalog.list::<EventRow>().await;
        let rows = rows.map_err(catalog_error)?.into_iter();
        let all = rows.map(|found| describe(found.row)).collect();
        // Without either, the newest ones, and of these the oldest first, as where nothing is filtered.
        let newest = query.sort.is_none() && query.after.is_none();
        let usual = if newest { Order::NEWEST } else { Order::PLACE };
        let part = Part {
            order: query.sort.map_or(usual, EventSort::order),
            after: query.after,
            limit,
        };
        let mut events = part.of(all, |event| event.id, key_of, |event| query.wants(event))?;
        if newest {
            events.reverse();
        }
        let last = events.last().map(|event| event.id);
        Ok(Answer::Events(EventsAnswer {
            next: last.or(query.after).unwrap_or(0),
            events,
        }))
    }
}
