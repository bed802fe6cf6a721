//! What some seeds have beside their volumes: one with attachments, a filler, restores. All of it draws from sources of
//! its own, so that seeds without it keep their histories.

use crate::attached::Attached;
use crate::candidates;
use crate::check;
use crate::clients::Shared;
use crate::cluster::Cluster;
use crate::full::Filler;
use crate::manage::{Inventory, operate};
use crate::operators::Operators;
use api::operation::Operation;
use workload::oracle::History;
use world_sim::SimRng;

/// Writes to a restored volume carry this plus the number of the restore.
const RESTORED_SEED: u64 = 100_000;

/// The others.
pub struct Others {
    /// A volume with attachments.
    pub attached: Option<Attached>,
    /// Fills the pool.
    pub filler: Filler,
    /// Operators.
    pub operators: Operators,
    restores: SimRng,
    restored: u64,
    /// For the approval of candidates.
    approvals: SimRng,
}

impl Others {
    /// Of a seed; the volume is made later.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            attached: None,
            filler: Filler::new(seed),
            operators: Operators::new(seed),
            restores: SimRng::named(seed, "restores"),
            restored: 0,
            approvals: SimRng::named(seed, "approvals"),
        }
    }

    /// A step of each in the middle of an act.
    ///
    /// # Errors
    /// A right that was given twice.
    pub fn step(
        &mut self,
        cluster: &Cluster,
        shared: &Shared,
        said: &mut Vec<String>,
    ) -> Result<(), String> {
        if let Some(attached) = &mut self.attached {
            said.push(attached.step(cluster, shared)?);
        }
        if cluster.config.full {
            said.extend(self.filler.step(cluster, shared));
        }
        said.extend(self.operators.step(cluster));
        said.extend(candidates::approve(cluster, &self.approvals));
        Ok(())
    }

    /// Everything runs: operators want nothing any more, and nobody waits to be approved.
    ///
    /// # Errors
    /// When not within the bound.
    pub fn end_operations(&mut self, cluster: &Cluster) -> Result<(), String> {
        candidates::end(cluster, &self.approvals)?;
        self.operators.end(cluster)
    }

    /// Everything lost its power.
    pub fn black_out(&mut self) {
        if let Some(attached) = &mut self.attached {
            attached.subject.history.borrow_mut().on_crash();
            attached.forget_clients();
        }
    }

    /// After [`Others::black_out`], with everything well again.
    ///
    /// # Errors
    /// What is wrong.
    pub fn verify_after_blackout(&mut self, cluster: &Cluster) -> Result<(), String> {
        let Some(attached) = &mut self.attached else {
            return Ok(());
        };
        attached.end(cluster)?;
        check::verify_after_blackout(cluster, &attached.subject)
    }

    /// With everything well and nothing under way.
    ///
    /// # Errors
    /// What is wrong.
    pub fn verify_live(&mut self, cluster: &Cluster) -> Result<(), String> {
        let Some(attached) = &mut self.attached else {
            return Ok(());
        };
        attached.end(cluster)?;
        attached.subject.history.borrow_mut().on_takeover();
        check::verify_live(cluster, &attached.subject)
    }

    /// The name of the volume with attachments.
    #[must_use]
    pub fn volume(&self) -> Option<String> {
        let attached = self.attached.as_ref()?;
        Some(attached.subject.name.clone())
    }

    /// Sets a volume that nobody uses back to one of its snapshots, now and then, and reads all of it.
    ///
    /// # Errors
    /// When that does not succeed, or its contents are wrong then.
    pub fn restore(
        &mut self,
        cluster: &Cluster,
        inventory: &Inventory,
    ) -> Result<Option<String>, String> {
        if inventory.taken.is_empty() || !self.restores.chance(0.4) {
            return Ok(None);
        }
        let taken = self.restores.pick(&inventory.taken);
        let mut subjects = inventory.subjects.iter();
        let Some(subject) = subjects.find(|subject| subject.name == taken.volume) else {
            return Ok(None);
        };
        check::within_bound(cluster, "a restore", || {
            let operation = Operation::VolumeRestore {
                volume: taken.volume.clone(),
                snapshot: taken.name.clone(),
            };
            match operate(cluster, &self.restores, operation) {
                Some(Ok(_)) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })?;
        self.restored += 1;
        let blocks = subject.history.borrow().blocks();
        let history = History::clone_of(&taken.image, RESTORED_SEED + self.restored, blocks);
        *subject.history.borrow_mut() = history;
        check::verify_live(cluster, subject)?;
        Ok(Some(format!("restore {}@{}", taken.volume, taken.name)))
    }
}
