//! The claims of a Kubernetes cluster, as its API server tells of them.
//!
//! Five kinds of objects are watched: claims, persistent volumes, volume attachments, pods and storage classes. Of each only what is told of
//! claims is kept, and it is cut down to that as it arrives: lists come in pages, and pods without a claim are not kept at all.
//!
//! In memory: a few hundred bytes for each claim, persistent volume, attachment, and pod with a claim, of all drivers.
//!
//! Invariants
//! - Nothing is said to be seen before every kind was listed, nor while one of them cannot be watched.
//! - What is watched has no gap: a watch goes on from the version that the list, or the last event, named; when that is too old, everything is
//!   listed anew and replaces what was known.
//!
//! kube's own runtime has such watches too, with stores of whole objects and fifteen crates more; see docs/decisions/0016-dependencies.md.
//!
//! Read next: `seen/watch.rs`, `seen/rows.rs` (what is kept), `seen/join.rs` (which claims are ours; pure).

mod join;
mod quantity;
mod rows;
mod watch;

use crate::{NotConfigured, configure, not_configured};
use csi::claims::{ClaimSource, Seen, Unanswered};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::{StorageClass, VolumeAttachment};
use kube::Client;
use rows::View;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use watch::{Kind, keep};

/// Which Kubernetes cluster it is.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Identity {
    /// The uid of its namespace `kube-system`.
    uid: String,
    version: String,
    /// When it was asked.
    asked: Instant,
}

/// What is known.
#[derive(Default)]
struct State {
    view: View,
    identity: Option<Identity>,
    /// Why a kind is not seen, by its name.
    troubles: BTreeMap<&'static str, String>,
    /// Whether something is different from what was told last.
    changed: bool,
}

impl State {
    /// Whether there is something new to tell. A trouble is told when the next sign of life is due.
    fn is_new(&self) -> bool {
        self.changed && self.identity.is_some() && self.troubles.is_empty()
    }
}

/// What the watches write and the reporter reads.
#[derive(Default)]
struct Board {
    state: Mutex<State>,
    told: Condvar,
}

impl Board {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes something; whoever waits for it is woken.
    fn change(&self, apply: impl FnOnce(&mut State)) {
        let mut state = self.lock();
        apply(&mut state);
        if state.is_new() {
            self.told.notify_all();
        }
    }
}

/// The claims of a Kubernetes cluster, watched.
pub struct Claims {
    board: Arc<Board>,
}

impl Claims {
    /// Watches the cluster that `kubeconfig` names, or the one that this process runs in as a pod, for as long as the process runs.
    ///
    /// # Errors
    /// [`NotConfigured`] when neither is there or can be understood. Nobody is asked before it returns.
    pub fn watch(kubeconfig: Option<&Path>) -> Result<Self, NotConfigured> {
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_all().build().map_err(not_configured)?;
        let client = runtime.block_on(async {
            let mut config = configure(kubeconfig).await?;
            config.read_timeout = Some(watch::SILENCE_MAX);
            Client::try_from(config).map_err(not_configured)
        })?;
        let board = Arc::new(Board::default());
        for kind in [
            PersistentVolumeClaim::NAME,
            PersistentVolume::NAME,
            VolumeAttachment::NAME,
            Pod::NAME,
            StorageClass::NAME,
        ] {
            let unread = "they have not been read yet".to_owned();
            board.lock().troubles.insert(kind, unread);
        }
        let there = board.clone();
        let thread = std::thread::Builder::new().name("watch-claims".to_owned());
        let watch = move || {
            runtime.spawn(keep::<StorageClass>(client.clone(), there.clone()));
            runtime.spawn(keep::<PersistentVolume>(client.clone(), there.clone()));
            runtime.spawn(keep::<VolumeAttachment>(client.clone(), there.clone()));
            runtime.spawn(keep::<Pod>(client.clone(), there.clone()));
            runtime.block_on(keep::<PersistentVolumeClaim>(client, there));
        };
        thread.spawn(watch).map_err(not_configured)?;
        Ok(Self { board })
    }
}

impl ClaimSource for Claims {
    fn seen(&self) -> Result<Seen, Unanswered> {
        let mut state = self.board.lock();
        if let Some((kind, trouble)) = state.troubles.first_key_value() {
            return Err(Unanswered(format!("{kind} cannot be seen: {trouble}")));
        }
        let Some(identity) = &state.identity else {
            let text = "it is not known yet which Kubernetes cluster it is";
            return Err(Unanswered(text.to_owned()));
        };
        let seen = Seen {
            uid: identity.uid.clone(),
            version: identity.version.clone(),
            classes: join::classes(&state.view),
            claims: join::claims(&state.view),
        };
        state.changed = false;
        Ok(seen)
    }

    fn wait(&self, patience: Duration) {
        let waiting = |state: &mut State| !state.is_new();
        let outcome = self
            .board
            .told
            .wait_timeout_while(self.board.lock(), patience, waiting);
        drop(outcome);
    }
}
