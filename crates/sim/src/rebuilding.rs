//! The catalog is lost with everything in it, and made anew from the disks alone, as `azekura catalog rebuild` does.
//!
//! It happens between two acts, when clients are quiet and every copy is there: then nothing may be missing afterwards, and
//! the checks of the next act and of the end say whether it is. Some seeds have a backup of an earlier moment as one more source: what
//! was deleted or changed since must not come back.

use crate::cluster::{CLUSTER, Cluster};
use catalog::Catalog;
use catalog::dump::Rows;
use curator::rebuild::{Rebuilt, Sources, rebuild};
use std::rc::Rc;
use wire::StoreSurvey;
use world::Duration;
use world_sim::{SimDisk, SimRng};

/// Until every store is told of the catalog's newest rows; one that did not answer is left alone for 10 s.
const SETTLE: Duration = Duration::from_secs(20);
/// Longest time for one step; disks are small.
const LIMIT: Duration = Duration::from_secs(60);

/// Whether a seed loses its catalog after this act.
#[derive(Debug)]
pub struct Rebuilding {
    wanted: bool,
    rng: SimRng,
    /// For backups; none where none are made.
    backups: Option<SimRng>,
    backup: Option<Rows>,
}

impl Rebuilding {
    /// What a seed draws, apart from everything else. Runs with a bug are without backups, and keep their histories.
    pub fn draw(seed: u64, described: bool, planted: bool) -> Self {
        let rng = SimRng::named(seed, "rebuilding");
        let wanted = described && rng.chance(0.4);
        let backups = SimRng::named(seed, "backups");
        let made = wanted && !planted && backups.chance(0.5);
        Self {
            wanted,
            rng,
            backups: made.then_some(backups),
            backup: None,
        }
    }

    /// Makes a backup of the catalog as it is now, now and then; says so.
    pub fn back_up(&mut self, cluster: &Cluster) -> Option<String> {
        let rng = self.backups.as_ref()?;
        if !rng.chance(0.6) {
            return None;
        }
        let kv = cluster.kv.handle(cluster.client.world());
        let catalog = Catalog::new(Rc::new(kv));
        let dumped = cluster.run_on(&cluster.client, LIMIT, async move { catalog.dump().await });
        match dumped {
            Some(Ok(rows)) => {
                let said = format!("a backup of the catalog: {} rows", rows.rows.len());
                self.backup = Some(rows);
                Some(said)
            }
            other => Some(format!("no backup of the catalog: {other:?}")),
        }
    }

    /// The newest backup, which the catalog that is made next is made with.
    pub fn take_backup(&mut self) -> Option<Rows> {
        self.backup.take()
    }

    /// Whether it happens now.
    pub fn is_due(&self) -> bool {
        self.wanted && self.rng.chance(0.6)
    }
}

/// Loses it and makes it anew from the disks, and from a backup where there is one; says what came of it.
pub fn lose_catalog(cluster: &mut Cluster, backup: Option<Rows>) -> Result<String, String> {
    cluster.sim.run_for(SETTLE);
    for index in 0..cluster.nodes.len() {
        cluster.crash(index);
    }
    let surveys = survey_all(cluster)?;
    let sources = Sources {
        levels: crate::releases::ANY,
        cluster: CLUSTER.to_owned(),
        surveys,
        backup,
        ..Sources::default()
    };
    let with_backup = sources.backup.is_some();
    let rebuilt = rebuild(&sources).map_err(|error| format!("no catalog: {error}"))?;
    if let Some((what, reason)) = rebuilt.incomplete.first() {
        return Err(format!("{what} is incomplete after a rebuild: {reason}"));
    }
    cluster.forget_catalog();
    let rows = rebuilt.rows.len();
    fill(cluster, rebuilt)?;
    for index in 0..cluster.nodes.len() {
        cluster.restart(index);
    }
    Ok(format!(
        "the catalog was made anew: {rows} rows; with a backup: {with_backup}"
    ))
}

fn survey_all(cluster: &Cluster) -> Result<Vec<StoreSurvey>, String> {
    let mut surveys = Vec::new();
    for (index, node) in cluster.nodes.iter().enumerate() {
        node.machine.restart();
        for (_, disks) in node.bay.stores() {
            let disks = disks.iter().map(SimDisk::open).collect();
            let survey = cluster.run_on(&node.machine, LIMIT, store::survey(disks));
            let survey = survey.ok_or_else(|| format!("a survey of n{index} does not end"))?;
            surveys.push(survey.map_err(|error| format!("n{index}: {error}"))?);
        }
        node.machine.crash();
    }
    Ok(surveys)
}

fn fill(cluster: &Cluster, rebuilt: Rebuilt) -> Result<(), String> {
    let kv = cluster.kv.handle(cluster.client.world());
    let catalog = Catalog::new(Rc::new(kv));
    let filled = cluster.run_on(&cluster.client, LIMIT, async move {
        catalog.fill(&rebuilt.rows).await
    });
    match filled {
        Some(Ok(())) => Ok(()),
        other => Err(format!("the new catalog cannot be filled: {other:?}")),
    }
}
