//! Volumes in quarantine (`volumes/quarantine.rs`): what is said of them, and how a person ends it.

use super::volumes::SHOW_PATIENCE;
use super::{Result, catalog_error};
use crate::host::Host;
use crate::volumes::release_command;
use api::{Answer, ErrorKind, Operation, OperationError, VolumeAnswer};
use curator::alerts::QUARANTINED;
use futures_util::future::join_all;
use vocab::{NodeId, VolumeId};

/// Volumes of a list whose owners are asked, all at once.
const ASKED_MAX: usize = 32;
/// What is noted at an alert that a release resolves.
const RELEASE_NOTE: &str = "the volume was released from quarantine";

impl Host {
    /// Ends the quarantine of a volume whose cause is gone. It is opened by whoever asks for it next, on whichever node. Repeated, it
    /// changes nothing.
    pub(super) async fn release_volume(&self, name: &str) -> Result<Answer> {
        let found = self.catalog.volume_named(name).await;
        let row = found.map_err(catalog_error)?.row;
        if !self.end_quarantine(&row).await.map_err(catalog_error)? {
            return Err(OperationError::new(
                ErrorKind::Refused,
                format!(
                    "volume {} is not in quarantine, and nothing was changed: if it is not served, `azekura volume show {}` and \
                     the alerts say why",
                    row.name, row.name
                ),
            ));
        }
        self.resolve_quarantine(&row.name).await;
        self.volume_answer(row.id).await
    }

    /// Resolves the alert of a quarantine that a person has ended. Where that fails the leader does it, a few seconds later, for the
    /// event says so as well.
    async fn resolve_quarantine(&self, volume: &str) {
        let entity = format!("volume/{volume}");
        let by = self.askers.now().who;
        let resolved = self.resolve_named(QUARANTINED, &entity, &by, RELEASE_NOTE);
        if let Err(error) = resolved.await {
            tracing::debug!(volume, %error, "the alert of its quarantine is resolved later");
        }
    }

    /// Adds whether a volume is in quarantine. One that is served is not: what its owners of before did counts for the next one.
    /// Nothing is said while the catalog says nothing.
    pub(super) async fn add_quarantine(&self, volume: &mut VolumeAnswer) {
        if volume.activity.is_some() {
            return;
        }
        let until = self.quarantined_until(VolumeId(volume.id)).await;
        if let Some(until_ms) = until.ok().flatten() {
            say(volume, until_ms);
        }
    }

    /// The same of the volumes of a list. Owners are asked only for those that the catalog has in quarantine, at most
    /// [`ASKED_MAX`] of them: that of more is told as the catalog has it.
    pub(super) async fn add_quarantines(&self, volumes: &mut [VolumeAnswer]) {
        if volumes.is_empty() {
            return;
        }
        let Ok(quarantines) = self.quarantines().await else {
            return;
        };
        let found = volumes.iter_mut().filter_map(|volume| {
            let until_ms = *quarantines.get(&VolumeId(volume.id))?;
            Some((volume, until_ms))
        });
        let found = found.enumerate();
        let asked = found.map(|(number, (volume, until_ms))| async move {
            if number >= ASKED_MAX || !self.is_served(volume).await {
                say(volume, until_ms);
            }
        });
        join_all(asked).await;
    }

    /// Whether this node serves the volume, or its owner says that it does.
    async fn is_served(&self, volume: &VolumeAnswer) -> bool {
        if self.volumes.get(VolumeId(volume.id)).is_some() {
            return true;
        }
        let owner = volume.owner.map(NodeId);
        let Some(owner) = owner.filter(|&owner| owner != self.id && self.members.serves(owner))
        else {
            return false;
        };
        let show = Operation::VolumeShow {
            name: volume.name.clone(),
        };
        let mut unclear = false;
        let asked = self.forward(owner, &show, &mut unclear);
        match self.world.timeout(SHOW_PATIENCE, asked).await {
            Ok(Ok(Answer::Volume(shown))) => shown.activity.is_some(),
            _ => false,
        }
    }
}

/// Says of a volume that it is in quarantine.
fn say(volume: &mut VolumeAnswer, until_ms: u64) {
    volume.quarantine_until_ms = Some(until_ms);
    if volume.state == "ready" {
        volume.reason = Some(format!(
            "it is in quarantine: nodes that opened or served it ended while they did; look at their logs; when the cause is \
             gone, `{}` ends it at once",
            release_command(&volume.name)
        ));
    }
}
