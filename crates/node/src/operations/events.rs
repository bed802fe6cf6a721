//! What happened, for people and programs.

use super::{Result, catalog_error};
use crate::host::Host;
use api::{
    Answer, EVENTS_DEFAULT, EVENTS_LIMIT_MAX, EventAnswer, EventQuery, EventsAnswer, OperationError,
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

impl Host {
    pub(super) async fn list_events(&self, query: &EventQuery) -> Result<Answer> {
        let limit = query.limit.unwrap_or(EVENTS_DEFAULT);
        if !(1..=EVENTS_LIMIT_MAX).contains(&limit) {
            let hint = format!("`limit` of events is 1 to {EVENTS_LIMIT_MAX}");
            return Err(OperationError::bad_request(hint));
        }
        let rows = self.catalog.events(query.after, limit as usize).await;
        let rows = rows.map_err(catalog_error)?;
        let last = rows.last().map(|row| row.id);
        Ok(Answer::Events(EventsAnswer {
            events: rows.into_iter().map(describe).collect(),
            next: last.or(query.after).unwrap_or(0),
        }))
    }
}
