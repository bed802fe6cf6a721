//! Who may use a volume: by the catalog, and while that is away by what its owner remembers of it.
//!
//! Only the owner changes an attachment, in its own term, so what it remembers of this term is what the catalog has. A
//! client that served here before comes back by that memory alone: the loss of a connection, or of one answer, must not
//! stop its volume until the catalog is there again.
//!
//! The first session of each process of an attached client that writes is noted in the row before it is let in, so that the owners to
//! come refuse the processes that it took the place of. Later sessions of that process need no write: whoever reads the
//! row finds it there.
//!
//! Invariants
//! - Nobody is let in to a volume that is outside of the limits of his certificate, nor does this node become its owner for him.
//! - By memory nobody is let in who had no session with this very volume in this term under the same generation, no process
//!   but the newest that the row names, and no certificate with limits other than those that were found to allow it: whose
//!   session it was is what the client says.
//! - What is remembered never goes back to an older generation; it ends with the term.
//! - Memory never refuses for good: who is not remembered waits for the catalog.

use super::{Newest, Sessions, Wanted, admit};
use crate::host::Host;
use crate::options::bug;
use crate::volumes::Refusal;
use api::KUBERNETES_LABEL;
use catalog::{Attachment, CatalogError, VolumeRow};
use std::collections::BTreeMap;
use std::rc::Rc;
use vocab::{AttachmentGeneration, Epoch, VolumeId};
use volume::Volume;
use wire::NodeError;
use world::{Duration, Limits};

/// Patience with the catalog where memory can answer instead: less than a client waits for a session.
const CATALOG_PATIENCE: Duration = Duration::from_millis(500);

/// Patience with the catalog where a process is to be noted: about as long as a client waits.
const NOTING_PATIENCE: Duration = Duration::from_secs(4);

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
        let mut attachment = attachment.clone();
        let order = |known: &Known| (known.epoch, known.attachment.generation);
        if let Some(known) = known.get(&id) {
            if order(known) > (epoch, attachment.generation) {
                return;
            }
            // Of the same generation an older row may be read later, and lack a process.
            for (client, process) in &known.attachment.processes {
                if let Some(generation) = attachment.granted_to(client) {
                    let same = known.attachment.granted_to(client) == Some(generation);
                    let _ = same && attachment.note_process(generation, *process);
                }
            }
        }
        known.insert(id, Known { epoch, attachment });
    }

    /// Whether a client that was let in before in this term may come back: read-only or not, and the generation.
    fn returning(&self, volume: &Volume, wanted: &Wanted) -> Option<(bool, AttachmentGeneration)> {
        let newest = self.newest.borrow();
        let before = newest.get(&(volume.id(), wanted.client))?;
        if before.order.0 != wanted.attachment || !is_as_limited(before, wanted) {
            return None;
        }
        let known = self.known.borrow();
        let known = known
            .get(&volume.id())
            .filter(|known| known.epoch == volume.epoch())?;
        if is_news(&known.attachment, wanted) {
            return None;
        }
        let read_only = admit(volume.name(), &known.attachment, wanted).ok()?;
        Some((read_only, known.attachment.generation))
    }
}

/// Whether the row does not name the process yet that wants a session.
fn is_news(attachment: &Attachment, wanted: &Wanted) -> bool {
    attachment.lacks_process(wanted.attachment, wanted.session.process())
}

/// Whether the volume is known to be within the limits of the certificate: it has none, or the session of before had the same.
fn is_as_limited(before: &Newest, wanted: &Wanted) -> bool {
    let limits = wanted.limits.as_ref();
    limits.is_none_or(|limits| limits.is_empty()) || before.limits.as_ref() == limits
}

/// Refuses a volume that a certificate is not for. Pure.
fn check_limits(
    limits: &Limits,
    volume: &str,
    labels: &BTreeMap<String, String>,
    container: &str,
) -> Result<(), NodeError> {
    let refuse = |allowed: &[String], what: &str, found: &str| {
        let reason = format!(
            "this certificate is limited to the {what} {}, and volume {volume} is of {found}",
            allowed.join(", ")
        );
        Err(NodeError::Detached { reason })
    };
    let names = |allowed: &[String], name: &str| allowed.iter().any(|one| one == name);
    if !limits.containers.is_empty() && !names(&limits.containers, container) {
        return refuse(&limits.containers, "containers", container);
    }
    let cluster = labels.get(KUBERNETES_LABEL).map(String::as_str);
    if !limits.kubernetes.is_empty() && !cluster.is_some_and(|one| names(&limits.kubernetes, one)) {
        let found = cluster.unwrap_or("none");
        return refuse(&limits.kubernetes, "Kubernetes clusters", found);
    }
    Ok(())
}

impl Host {
    /// The volume that a client wants, served here, if it may use it.
    pub(super) async fn admitted(self: &Rc<Self>, wanted: &Wanted) -> Result<Admitted, NodeError> {
        let Some(served) = self.volumes.named(&wanted.volume) else {
            return self.acquired(wanted).await;
        };
        let look = self.catalog.volume_named(&wanted.volume);
        match self.world.timeout(CATALOG_PATIENCE, look).await {
            Ok(Ok(found)) if found.row.id == served.id() => {
                self.let_in(served, found.row, wanted).await
            }
            // Another one has the name by now.
            Ok(Ok(_)) => self.acquired(wanted).await,
            Ok(Err(away @ CatalogError::Kv(_))) => self.let_back(served, wanted, away.to_string()),
            Ok(Err(error)) => Err(Refusal::from(error).into()),
            Err(_) => self.let_back(served, wanted, "the catalog does not answer".to_owned()),
        }
    }

    async fn acquired(self: &Rc<Self>, wanted: &Wanted) -> Result<Admitted, NodeError> {
        let row = self.volume_row(&wanted.volume).await?;
        self.check_row(&row, wanted.limits.as_deref()).await?;
        let volume = self.acquire(row.id).await?;
        let read = self.catalog.volume(row.id).await;
        let row = read.map_err(Refusal::from)?.row;
        self.let_in(volume, row, wanted).await
    }

    /// Refuses a volume that is outside of the limits of a certificate.
    pub(crate) async fn check_row(
        &self,
        row: &VolumeRow,
        limits: Option<&Limits>,
    ) -> Result<(), NodeError> {
        let Some(limits) = limits.filter(|limits| !limits.is_empty()) else {
            return Ok(());
        };
        let container = self.catalog.container(row.container).await;
        let container = container.map_err(Refusal::from)?.row.name;
        check_limits(limits, &row.name, &row.labels, &container)
    }

    /// By a row that was read after the volume was ours: whoever changes the attachment from then on tells this node.
    async fn let_in(
        &self,
        volume: Rc<Volume>,
        mut row: VolumeRow,
        wanted: &Wanted,
    ) -> Result<Admitted, NodeError> {
        self.check_row(&row, wanted.limits.as_deref()).await?;
        if admit(&row.name, &row.attachment, wanted).is_ok() && is_news(&row.attachment, wanted) {
            row = self.note_process(&volume, row, wanted).await?;
        }
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

    /// The row, with the process that wants a session: it may have changed since it was read.
    async fn note_process(
        &self,
        volume: &Volume,
        row: VolumeRow,
        wanted: &Wanted,
    ) -> Result<VolumeRow, NodeError> {
        if bug!(self.options.faults, ForgetProcess) {
            return Ok(row);
        }
        let (generation, process) = (wanted.attachment, wanted.session.process());
        let noting = self
            .catalog
            .note_process(row.id, volume.epoch(), generation, process);
        match self.world.timeout(NOTING_PATIENCE, noting).await {
            Ok(Ok(row)) => Ok(row),
            Ok(Err(CatalogError::StaleOwner { .. })) => {
                volume.superseded();
                self.drop_lost();
                Err(NodeError::NotOwner)
            }
            Ok(Err(error)) => Err(Refusal::from(error).into()),
            Err(_) => Err(NodeError::Busy {
                reason: "the catalog does not answer".to_owned(),
            }),
        }
    }

    /// Without the catalog, which is away for this reason.
    fn let_back(
        &self,
        volume: Rc<Volume>,
        wanted: &Wanted,
        away: String,
    ) -> Result<Admitted, NodeError> {
        let returning = self.sessions.returning(&volume, wanted);
        let (read_only, generation) = returning.ok_or(NodeError::Busy { reason: away })?;
        Ok(Admitted {
            volume,
            read_only,
            generation,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use wire::SessionNumber;

    #[test]
    fn without_the_catalog_a_client_comes_back_with_the_limits_it_was_let_in_with() {
        let limits = |container: &str| {
            let containers = vec![container.to_owned()];
            Arc::new(Limits {
                containers,
                kubernetes: Vec::new(),
            })
        };
        let (gold, silver, none) = (limits("gold"), limits("silver"), Arc::default());
        let (gold, silver, none) = (Some(&gold), Some(&silver), Some(&none));
        let comes_back = |before: Option<&Arc<Limits>>, now: Option<&Arc<Limits>>| {
            let wanted = Wanted {
                volume: "v".to_owned(),
                client: 7,
                session: SessionNumber(1),
                attachment: AttachmentGeneration(1),
                read_only: false,
                limits: now.cloned(),
            };
            let before = Newest {
                order: (wanted.attachment, wanted.session),
                ticket: 1,
                limits: before.cloned(),
            };
            is_as_limited(&before, &wanted)
        };
        assert!(comes_back(gold, Some(&limits("gold"))));
        // The same client by its own word.
        assert!(!comes_back(gold, silver));
        assert!(!comes_back(none, silver) && !comes_back(None, silver));
        for before in [gold, none, None] {
            assert!(comes_back(before, none) && comes_back(before, None));
        }
    }

    #[test]
    fn a_limited_certificate_opens_its_own_volumes_only() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let may = |containers: &[&str], kubernetes: &[&str], cluster: Option<&str>| {
            let limits = Limits {
                containers: names(containers),
                kubernetes: names(kubernetes),
            };
            let label = cluster.map(|name| (KUBERNETES_LABEL.to_owned(), name.to_owned()));
            check_limits(&limits, "v", &label.into_iter().collect(), "gold")
        };
        for cluster in [None, Some("prod"), Some("test")] {
            assert_eq!(may(&[], &[], cluster), Ok(()));
            assert_eq!(may(&["silver", "gold"], &[], cluster), Ok(()));
            assert!(may(&["silver"], &[], cluster).is_err());
        }
        assert_eq!(may(&["gold"], &["prod"], Some("prod")), Ok(()));
        assert!(may(&["silver"], &["prod"], Some("prod")).is_err());
        assert!(may(&[], &["prod"], Some("test")).is_err());
        let refused = may(&[], &["prod"], None);
        // Final: the client must not go on asking.
        assert!(
            matches!(&refused, Err(NodeError::Detached { reason }) if reason.contains("prod, and volume v is of none")),
            "{refused:?}"
        );
    }
}
