//! Who may use a volume: one client that writes, one that reads, or any number that read.
//!
//! Every change grows the generation by one. A client's sessions carry the generation that let it in, which stays its
//! own while others join and leave; so a client that is detached is told from those that stay, and one that comes back from
//! its own past.

use crate::access::{Catalog, CatalogError};
use crate::rows::{Row, VolumeRow, numbered};
use crate::volumes::check_owner;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use vocab::{AttachmentGeneration, Epoch, VolumeId};

/// How a volume is attached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AttachmentMode {
    /// One client reads and writes.
    #[default]
    ReadWrite,
    /// Any number of clients read, nobody writes.
    ReadOnly,
    /// One client reads, nobody writes.
    ReadOnlyAlone,
}

/// Who may use a volume now. Apart from its owner.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// Grows with every change.
    pub generation: AttachmentGeneration,
    /// Names of the clients, in order; empty: open to any client that names no generation.
    #[serde(default)]
    pub clients: Vec<String>,
    /// What they may do.
    #[serde(default)]
    pub mode: AttachmentMode,
    /// The generation that let each client in. One that is missing here came with `generation`: rows of before.
    #[serde(default)]
    pub granted: BTreeMap<String, AttachmentGeneration>,
    /// Of the client that writes: the newest of its processes that a session was opened for, in the order in which they
    /// started; the owner lets no older one in. Missing: none was opened since it was attached, or a row of before.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub processes: BTreeMap<String, u64>,
}

/// Other clients hold the volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Who.
    pub clients: String,
}

impl Attachment {
    /// The generation that a client's sessions carry; `None`: it is not attached.
    #[must_use]
    pub fn granted_to(&self, client: &str) -> Option<AttachmentGeneration> {
        let attached = self.clients.iter().any(|name| name == client);
        attached.then(|| self.granted.get(client).copied().unwrap_or(self.generation))
    }

    /// Clients with the generation of each.
    #[must_use]
    pub fn grants(&self) -> BTreeMap<String, AttachmentGeneration> {
        let granted = |client: &String| Some((client.clone(), self.granted_to(client)?));
        self.clients.iter().filter_map(granted).collect()
    }

    /// Whether a session of this generation is one of a client that is attached.
    #[must_use]
    pub fn admits(&self, generation: AttachmentGeneration) -> bool {
        self.client_of(generation).is_some()
    }

    fn client_of(&self, generation: AttachmentGeneration) -> Option<&String> {
        let mut clients = self.clients.iter();
        clients.find(|client| self.granted_to(client) == Some(generation))
    }

    /// The client of this generation, if it writes: of those that read, an older process does no harm, and in rows of
    /// before several may have one generation.
    fn writer_of(&self, generation: AttachmentGeneration) -> Option<&String> {
        let writes = self.mode == AttachmentMode::ReadWrite;
        writes.then(|| self.client_of(generation))?
    }

    /// The newest process of the client of this generation that a session was opened for.
    #[must_use]
    pub fn newest_process(&self, generation: AttachmentGeneration) -> Option<u64> {
        let client = self.writer_of(generation)?;
        self.processes.get(client).copied()
    }

    /// Whether [`Self::note_process`] would change something.
    #[must_use]
    pub fn lacks_process(&self, generation: AttachmentGeneration, process: u64) -> bool {
        let writes = self.writer_of(generation).is_some();
        writes && self.newest_process(generation) < Some(process)
    }

    /// Notes that a process of the client of this generation comes; `false`: the client is not attached, or does not write, or
    /// that process or a newer one was noted before.
    pub fn note_process(&mut self, generation: AttachmentGeneration, process: u64) -> bool {
        let lacks = self.lacks_process(generation, process);
        if let Some(client) = self.writer_of(generation).filter(|_| lacks).cloned() {
            self.processes.insert(client, process);
        }
        lacks
    }

    fn next(
        &self,
        grants: BTreeMap<String, AttachmentGeneration>,
        mode: AttachmentMode,
    ) -> Attachment {
        let mut processes = self.processes.clone();
        processes.retain(|client, _| grants.get(client).copied() == self.granted_to(client));
        Self {
            generation: self.generation.next(),
            clients: grants.keys().cloned().collect(),
            mode,
            granted: grants,
            processes,
        }
    }

    /// The attachment after `client` has attached; `None` when it already has. Readers join readers; otherwise the client
    /// must be the only one.
    ///
    /// # Errors
    /// [`Held`] by others.
    pub fn plan_attach(
        &self,
        client: &str,
        mode: AttachmentMode,
    ) -> Result<Option<Attachment>, Held> {
        if self.mode == mode && self.granted_to(client).is_some() {
            return Ok(None);
        }
        let joins = mode == AttachmentMode::ReadOnly && self.mode == mode;
        let mut others = self.clients.iter().filter(|name| *name != client);
        if !joins && others.next().is_some() {
            let clients = self.clients.join(", ");
            return Err(Held { clients });
        }
        let mut grants = if joins {
            self.grants()
        } else {
            BTreeMap::new()
        };
        grants.insert(client.to_owned(), self.generation.next());
        Ok(Some(self.next(grants, mode)))
    }

    /// The attachment after `client`, or everybody, has detached; `None` when nothing changes.
    #[must_use]
    pub fn plan_detach(&self, client: Option<&str>) -> Option<Attachment> {
        let mut grants = self.grants();
        grants.retain(|name, _| client.is_some_and(|client| name != client));
        if grants.len() == self.clients.len() {
            return None;
        }
        let mode = match grants.is_empty() {
            true => AttachmentMode::default(),
            false => self.mode,
        };
        Some(self.next(grants, mode))
    }
}

impl Catalog {
    /// Changes, as the volume's owner of term `epoch`, who may use it: `change` returns what it becomes, or nothing. The owner
    /// then ends the sessions that this does not admit; one that comes later reads the row before it lets anybody in. So
    /// an owner that was replaced may change nothing: its successor may have let sessions in by the row of before.
    ///
    /// # Errors
    /// `change`'s refusal, [`CatalogError::StaleOwner`], [`CatalogError::NotFound`], [`CatalogError::Kv`].
    pub async fn set_attachment(
        &self,
        id: VolumeId,
        epoch: Epoch,
        mut change: impl FnMut(&Attachment) -> Result<Option<Attachment>, CatalogError>,
    ) -> Result<VolumeRow, CatalogError> {
        let key = numbered(VolumeRow::PREFIX, id.0);
        self.update("volume", &key, |row: &mut VolumeRow| {
            check_owner(row, epoch)?;
            let Some(attachment) = change(&row.attachment)? else {
                return Ok(false);
            };
            assert_eq!(
                attachment.generation,
                row.attachment.generation.next(),
                "a change of an attachment has a generation of its own"
            );
            row.attachment = attachment;
            Ok(true)
        })
        .await
    }

    /// Notes, as the volume's owner of term `epoch`, that a session is opened for this process of an attached client
    /// ([`Attachment::note_process`]). Durable when it returns, so that no owner to come lets an older one in. Idempotent.
    ///
    /// # Errors
    /// [`CatalogError::StaleOwner`], [`CatalogError::NotFound`], [`CatalogError::Kv`].
    pub async fn note_process(
        &self,
        id: VolumeId,
        epoch: Epoch,
        generation: AttachmentGeneration,
        process: u64,
    ) -> Result<VolumeRow, CatalogError> {
        self.update_as_owner(id, epoch, |row| {
            row.attachment.note_process(generation, process)
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::AttachmentMode::{ReadOnly, ReadOnlyAlone, ReadWrite};
    use super::*;
    use proptest::prelude::*;

    fn attached(steps: &[(&str, AttachmentMode)]) -> Attachment {
        let attach = |present: Attachment, (client, mode): &(&str, AttachmentMode)| {
            let planned = present.plan_attach(client, *mode).expect("it may");
            planned.unwrap_or(present)
        };
        steps.iter().fold(Attachment::default(), attach)
    }

    #[test]
    fn one_writer_or_one_reader_or_many_readers_may_attach() {
        let writer = attached(&[("a", ReadWrite)]);
        assert_eq!(writer.plan_attach("a", ReadWrite), Ok(None));
        for mode in [ReadWrite, ReadOnly, ReadOnlyAlone] {
            let held = writer.plan_attach("b", mode).expect_err("a writes");
            assert_eq!(held.clients, "a");
        }
        let alone = attached(&[("a", ReadOnlyAlone)]);
        for mode in [ReadWrite, ReadOnly, ReadOnlyAlone] {
            assert!(alone.plan_attach("b", mode).is_err(), "{mode:?}");
        }
        let readers = attached(&[("b", ReadOnly), ("a", ReadOnly)]);
        assert_eq!(readers.clients, ["a", "b"]);
        assert_eq!(readers.plan_attach("b", ReadOnly), Ok(None));
        assert!(readers.plan_attach("a", ReadWrite).is_err());
        assert!(readers.plan_attach("c", ReadOnlyAlone).is_err());
        let turned = attached(&[("a", ReadOnly), ("a", ReadWrite)]);
        assert_eq!((turned.mode, turned.clients.len()), (ReadWrite, 1));
    }

    #[test]
    fn readers_keep_their_generation_while_others_come_and_go() {
        let readers = attached(&[("a", ReadOnly), ("b", ReadOnly)]);
        let of = |attachment: &Attachment, client| attachment.granted_to(client).map(|own| own.0);
        assert_eq!((of(&readers, "a"), of(&readers, "b")), (Some(1), Some(2)));
        let left = readers.plan_detach(Some("a")).expect("a was there");
        assert_eq!((of(&left, "a"), of(&left, "b")), (None, Some(2)));
        assert_eq!(left.generation, AttachmentGeneration(3));
        assert!(!left.admits(AttachmentGeneration(1)));
        assert!(left.admits(AttachmentGeneration(2)));
        // It comes back as somebody else than the one that was sent away.
        let back = left.plan_attach("a", ReadOnly).expect("a reader");
        let back = back.expect("it was away");
        assert_eq!((of(&back, "a"), of(&back, "b")), (Some(4), Some(2)));
        assert!(!back.admits(AttachmentGeneration(1)));
    }

    #[test]
    fn detach_is_idempotent() {
        let both = attached(&[("a", ReadOnly), ("b", ReadOnly)]);
        assert_eq!(both.plan_detach(Some("c")), None);
        let nobody = both.plan_detach(None).expect("both leave");
        assert_eq!((nobody.mode, nobody.clients.len()), (ReadWrite, 0));
        assert_eq!(nobody.plan_detach(None), None);
        assert_eq!(nobody.plan_detach(Some("a")), None);
    }

    #[test]
    fn the_process_of_a_writer_is_known_until_it_leaves() {
        let mut writer = attached(&[("a", ReadWrite)]);
        let first = writer.granted_to("a").expect("attached");
        assert!(writer.lacks_process(first, 7) && writer.note_process(first, 7));
        assert!(!writer.note_process(first, 7), "noted before");
        assert!(!writer.note_process(first, 6), "there is a newer one");
        assert!(!writer.note_process(first.next(), 9), "nobody's");
        assert_eq!(writer.newest_process(first), Some(7));
        let left = writer.plan_detach(None).expect("it was there");
        assert!(left.processes.is_empty());
        let planned = left.plan_attach("a", ReadWrite).expect("nobody is there");
        let back = planned.expect("it was away");
        let again = back.granted_to("a").expect("attached");
        assert_eq!(
            (back.newest_process(first), back.newest_process(again)),
            (None, None)
        );
        // Another mode is another generation.
        let planned = writer.plan_attach("a", ReadOnly).expect("alone");
        assert!(planned.expect("another mode").processes.is_empty());
    }

    #[test]
    fn processes_of_readers_are_not_told_apart() {
        let row = r#"{"generation":7,"clients":["a","b"],"mode":"read-only"}"#;
        let mut readers: Attachment = serde_json::from_str(row).expect("it is read");
        let both = AttachmentGeneration(7);
        assert!(!readers.lacks_process(both, 1) && !readers.note_process(both, 1));
        assert_eq!(readers.newest_process(both), None);
    }

    #[test]
    fn rows_of_before_have_one_generation_for_all_clients() {
        let row = r#"{"generation":7,"clients":["a","b"],"mode":"read-only"}"#;
        let before: Attachment = serde_json::from_str(row).expect("it is read");
        assert!(before.admits(AttachmentGeneration(7)));
        assert!(!before.admits(AttachmentGeneration(6)));
        let left = before.plan_detach(Some("a")).expect("a was there");
        assert_eq!(left.granted_to("b"), Some(AttachmentGeneration(7)));
    }

    proptest! {
        /// Whatever happens: nobody writes beside another, no generation comes back, and who stays keeps his.
        #[test]
        fn generations_never_come_back(
            steps in proptest::collection::vec((0_usize..4, 0_usize..4), 0..40)
        ) {
            let mut now = Attachment::default();
            for (client, what) in steps {
                let client = ["a", "b", "c", "d"][client];
                let next = match [ReadWrite, ReadOnly, ReadOnlyAlone].get(what) {
                    Some(mode) => now.plan_attach(client, *mode).ok().flatten(),
                    None => now.plan_detach(Some(client)),
                };
                let Some(next) = next else { continue };
                prop_assert_eq!(next.generation, now.generation.next());
                prop_assert!(next.mode == ReadOnly || next.clients.len() <= 1);
                prop_assert_eq!(next.grants(), next.granted.clone());
                for (other, generation) in next.grants() {
                    if now.granted_to(&other) != Some(generation) {
                        prop_assert_eq!(other.as_str(), client);
                        prop_assert_eq!(generation, next.generation);
                    }
                }
                now = next;
            }
        }
    }
}
