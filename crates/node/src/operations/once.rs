//! Changes under idempotency keys: the catalog remembers their answers.

use super::{Result, catalog_error};
use crate::host::Host;
use api::{Answer, OnceAnswer};
use catalog::Once;

impl Host {
    pub(super) async fn begin_once(&self, digest: &str, request: &str) -> Result<Answer> {
        let now_ms = self.world.clock.unix_ms();
        let begun = self.catalog.begin_once(digest, request, now_ms).await;
        Ok(Answer::Once(match begun.map_err(catalog_error)? {
            Once::Begun => OnceAnswer::Begun,
            Once::Running => OnceAnswer::Running,
            Once::Answered(answer) => OnceAnswer::Answered(answer),
            Once::Other => OnceAnswer::Other,
            Once::Crowded => OnceAnswer::Crowded,
        }))
    }

    pub(super) async fn end_once(
        &self,
        digest: &str,
        request: &str,
        answer: Option<&serde_json::Value>,
    ) -> Result<Answer> {
        let now_ms = self.world.clock.unix_ms();
        let ended = self.catalog.end_once(digest, request, answer, now_ms);
        ended.await.map_err(catalog_error)?;
        Ok(Answer::Done)
    }
}
