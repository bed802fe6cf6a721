//! A candidate that is approved announces its stores: from then on it takes part.

use crate::host::Host;
use crate::membership::{self, Part};
use std::rc::Rc;
use world::Duration;

/// Pause after the catalog failed.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

pub(crate) async fn run(host: Rc<Host>) {
    let mut waited = false;
    loop {
        let changed = host.members.changed.notified();
        if host.is_candidate() {
            waited = true;
            changed.await;
            continue;
        }
        // Also when it did not wait: it may have been approved between two steps of its start.
        match announce(&host).await {
            Ok(()) => break,
            Err(error) => {
                tracing::debug!(%error, "the stores are announced later");
                host.world.sleep(RETRY_PAUSE).await;
            }
        }
    }
    if waited {
        tracing::info!(node = %host.options.name, "approved: this node takes part");
    }
}

async fn announce(host: &Rc<Host>) -> Result<(), catalog::CatalogError> {
    for store in host.stores.all() {
        host.announce_store(&store).await?;
    }
    membership::refresh(host, &[Part::Stores]).await
}
