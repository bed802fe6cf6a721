//! The cluster's level follows its nodes: the leader raises it when all of them know a higher one. Costs nothing while they do not.

use crate::events::Told;
use crate::host::Host;
use catalog::{CatalogError, Severity};
use std::rc::Rc;
use vocab::{Level, Levels};
use world::Duration;

/// Pause between two looks.
const INTERVAL: Duration = Duration::from_secs(5);

impl Host {
    /// What nodes may say to each other and write. Never above what the cluster's level is; behind it for seconds after a rise.
    pub fn level(&self) -> Level {
        self.upkeep.level.get()
    }

    /// What the release of this node knows.
    pub fn levels(&self) -> Levels {
        self.options.levels
    }
}

/// Looks for as long as the node runs.
pub(crate) async fn run(host: Rc<Host>) {
    loop {
        host.world.sleep(INTERVAL).await;
        if common(&host) <= Some(host.level()) {
            continue;
        }
        if let Err(error) = look(&host).await {
            tracing::debug!(%error, "the cluster's level is looked at later");
        }
    }
}

/// The highest level that all nodes know, as this one last heard of them.
fn common(host: &Host) -> Option<Level> {
    host.members.look(|view| {
        let nodes = view.nodes.values();
        nodes.map(|node| node.levels.newest).min()
    })
}

async fn look(host: &Host) -> Result<(), CatalogError> {
    let before = host.level();
    if host.leads().await?
        && let Some(level) = host.catalog.raise_level().await?
    {
        tracing::info!(%before, %level, "the cluster's level rises");
        let message = format!(
            "all nodes run releases that know level {level}, which is the cluster's from now on (it was {before}): releases that \
             do not know it cannot run here any more"
        );
        host.tell(Told::new(Severity::Info, "level-risen", "cluster", message));
    }
    let level = host.catalog.cluster().await?.row.level;
    let levels = host.levels();
    if levels.know(level) {
        host.upkeep.level.set(level);
    } else {
        // It was removed meanwhile, and does not come to life again.
        tracing::error!(%level, %levels, "the cluster has risen to a level that this release does not know: upgrade this node");
    }
    Ok(())
}
