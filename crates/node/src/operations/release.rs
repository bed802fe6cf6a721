//! Volumes in quarantine (`volumes/quarantine.rs`): what is said of them, and how a person ends it.

use super::{Result, catalog_error};
use crate::host::Host;
use crate::volumes::release_command;
use api::{Answer, ErrorKind, OperationError, VolumeAnswer};
use vocab::VolumeId;

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
        self.volume_answer(row.id).await
    }

    /// Adds whether a volume is in quarantine. One that is served is not: what its owners of before did counts for the next one.
    /// Nothing is said while the catalog says nothing.
    pub(super) async fn add_quarantine(&self, volume: &mut VolumeAnswer) {
        if volume.activity.is_some() {
            return;
        }
        let until = self.quarantined_until(VolumeId(volume.id)).await;
        volume.quarantine_until_ms = until.ok().flatten();
        if volume.quarantine_until_ms.is_some() && volume.state == "ready" {
            volume.reason = Some(format!(
                "it is in quarantine: nodes that opened or served it ended while they did; look at their logs; when the cause is \
                 gone, `{}` ends it at once",
                release_command(&volume.name)
            ));
        }
    }
}
