//! Changes under idempotency keys: the catalog remembers their answers.

use super::{Result, catalog_error};
use crate::host::Host;
use api::{Answer, OnceAnswer, OnceStep};
use catalog::Once;

impl Host {
    pub(super) async fn once(&self, step: OnceStep) -> Result<Answer> {
        let now_ms = self.world.clock.unix_ms();
        let (digest, request, answer) = match step {
            OnceStep::Begin { digest, request } => {
                let begun = self.catalog.begin_once(&digest, &request, now_ms).await;
                return begun.map(told).map_err(catalog_error);
            }
            OnceStep::End {
                digest,
                request,
                answer,
            } => (digest, request, answer),
        };
        let ended = self
            .catalog
            .end_once(&digest, &request, answer.as_ref(), now_ms);
        ended.await.map_err(catalog_error)?;
        Ok(Answer::Done)
    }
}

fn told(begun: Once) -> Answer {
    Answer::Once(match begun {
        Once::Begun => OnceAnswer::Begun,
        Once::Running => OnceAnswer::Running,
        Once::Answered(answer) => OnceAnswer::Answered(answer),
        Once::Other => OnceAnswer::Other,
        Once::Crowded => OnceAnswer::Crowded,
    })
}
