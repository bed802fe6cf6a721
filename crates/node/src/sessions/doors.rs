//! Who may use a volume: by the catalog, and while that is away by what its owner remembers of it.
//!
//! Only the owner changes an attachment, in its own term, so what it remembers of this term is what the catalog has. A
//! client that served here before comes back by that memory alone: the loss of a connection, or of one answer, must not
//! stop its volume until the catalog is there again.
//!
//! Invariants
//! - By memory nobody is let in who had no session with this very volume in this term under the same generation.
//! - What is remembered never goes back to an older generation; it ends with the term.
//! - Memory never refuses for good: who is not remembered waits for the catalog.

use super::{Sessions, Wanted, admit};
use crate::host::Host;
use crate::options::bug;
use crate::volumes::Refusal;
use catalog::Attachment;
use std::rc::Rc;
use vocab::{AttachmentGeneration, Epoch, VolumeId};
use volume::Volume;
use wire::NodeError;
use world::Duration;

/// Patience with the catalog where memory can answer instead: less than a client waits for a session.
const CATALOG_PATIENCE: Duration = Duration::from_millis(500);

/// The attachment of a volume served here, as the term's owner knows it.
pub(super) struct Known {
    epoch: Epoch,
    attachment: Attachment,
}

/// What a session is let in to, and by which generation of the attachment that was decided.
pub(super) struct Admitted {
    pub(super) volume: Rc<Volume>,
    pub(super) read_only: bool,
    pub(super) generation: AttachmentGeneration,
}

impl Sessions {
    /// Remembers what the catalog says of a volume served here in this term.
    pub(super) fn remember(&self, id: VolumeId, epoch: Epoch, attachment: &Attachment) {
        let mut known = self.known.borrow_mut();
        let order = |known: &Known| (known.epoch, known.attachment.generation);
        if known
            .get(&id)
            .is_some_and(|known| order(known) > (epoch, attachment.generation))
        {
            return;
        }
        let attachment = attachment.clone();
        known.insert(id, Known { epoch, attachment });
    }

    /// Whether a client that was let in before in this term may come back: read-only or not, and the generation.
    fn returning(&self, volume: &Volume, wanted: &Wanted) -> Option<(bool, AttachmentGeneration)> {
        let newest = self.newest.borrow();
        let before = newest.get(&(volume.id(), wanted.client))?;
        if before.order.0 != wanted.attachment {
            return None;
        }
        let known = self.known.borrow();
        let known = known
            .get(&volume.id())
            .filter(|known| known.epoch == volume.epoch())?;
        let read_only = admit(volume.name(), &known.attachment, wanted).ok()?;
        Some((read_only, known.attachment.generation))
    }
}

impl Host {
    /// The volume that a client wants, served here, if it may use it.
    pub(super) async fn admitted(self: &Rc<Self>, wanted: &Wanted) -> Result<Admitted, NodeError> {
        let by_catalog = self.admitted_by_catalog(wanted);
        let Some(served) = self.volumes.named(&wanted.volume) else {
            return by_catalog.await;
        };
        let away = match self.world.timeout(CATALOG_PATIENCE, by_catalog).await {
            Ok(Err(away @ NodeError::Busy { .. })) => away,
            Ok(outcome) => return outcome,
            Err(_) => NodeError::Busy {
                reason: "the catalog does not answer".to_owned(),
            },
        };
        let returning = self.sessions.returning(&served, wanted);
        let (read_only, generation) = returning.ok_or(away)?;
        Ok(Admitted {
            volume: served,
            read_only,
            generation,
        })
    }

    async fn admitted_by_catalog(self: &Rc<Self>, wanted: &Wanted) -> Result<Admitted, NodeError> {
        let row = self.volume_row(&wanted.volume).await?;
        let volume = self.acquire(row.id).await?;
        // Read after the volume is ours: whoever changes the attachment from now on tells this node.
        let row = self
            .catalog
            .volume(row.id)
            .await
            .map_err(Refusal::from)?
            .row;
        let read_only = match bug!(self.options.faults, AdmitAnyGeneration) {
            true => wanted.read_only,
            false => admit(&row.name, &row.attachment, wanted)?,
        };
        self.sessions
            .remember(row.id, volume.epoch(), &row.attachment);
        Ok(Admitted {
            volume,
            read_only,
            generation: row.attachment.generation,
        })
    }
}
