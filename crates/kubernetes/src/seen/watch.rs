//! One kind of objects, listed and then watched.
//!
//! Source: Kubernetes documentation, "Kubernetes API Concepts": efficient detection of changes, retrieving large results sets in chunks.

use super::rows::{Rows, View};
use super::{Board, Identity};
use crate::refused;
use csi::claims::Unanswered;
use futures_util::StreamExt;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{ListParams, WatchEvent, WatchParams};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use std::fmt::Debug;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Objects of one page of a list: pods are some kilobytes each, and a page is in memory as a whole.
const PAGE: u32 = 250;
/// Longest wait for a page, or for the answer that begins a watch.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long one watch lasts, in seconds: then another one goes on where it ended.
const WATCH_SECONDS: u32 = 120;
/// A connection on which nothing came for so long is dead.
pub(super) const SILENCE_MAX: Duration = Duration::from_secs(WATCH_SECONDS as u64 + 15);
/// Pause after a failure: doubles up to the second.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// The cluster is not asked who it is more often than that.
const IDENTITY_AGE_MIN: Duration = Duration::from_secs(10);
/// The namespace that every cluster has, and whose uid tells it from all others.
const SYSTEM: &str = "kube-system";

/// A kind of objects that is watched.
pub(super) trait Kind:
    Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static
{
    /// In the plural, for people.
    const NAME: &'static str;
    /// What is kept of each.
    type Row: PartialEq + Send;

    /// What is kept of it; nothing: it is of no interest.
    fn row(self) -> Option<Self::Row>;

    /// Where it is kept.
    fn rows(view: &mut View) -> &mut Rows<Self::Row>;
}

/// Why a watch ended that should not have.
enum Broken {
    /// What it was to go on from is too old: all is listed again.
    Expired,
    Failed(Unanswered),
}

impl From<kube::Error> for Broken {
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) if status.code == 410 => Self::Expired,
            other => Self::Failed(refused(other)),
        }
    }
}

/// Waits for an answer, but not for ever.
async fn patient<T>(asked: impl Future<Output = kube::Result<T>>) -> Result<T, Broken> {
    match tokio::time::timeout(PATIENCE, asked).await {
        Ok(answer) => Ok(answer?),
        Err(_) => {
            let seconds = PATIENCE.as_secs();
            let text = format!("Kubernetes has not answered for {seconds} s");
            Err(Broken::Failed(Unanswered(text)))
        }
    }
}

/// Keeps one kind up to date until the process ends.
pub(super) async fn keep<K: Kind>(client: Client, board: Arc<Board>) {
    let mut pause = PAUSE_MIN;
    loop {
        let began = Instant::now();
        let Err(broken) = list_and_follow::<K>(&client, &board).await;
        if let Broken::Failed(error) = broken {
            let trouble = |state: &mut super::State| {
                state.troubles.insert(K::NAME, error.0);
            };
            board.change(trouble);
        }
        // One that has worked for a while fails for a new reason.
        if began.elapsed() > PAUSE_MAX {
            pause = PAUSE_MIN;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

async fn list_and_follow<K: Kind>(
    client: &Client,
    board: &Board,
) -> Result<std::convert::Infallible, Broken> {
    identify(client, board).await?;
    let api: Api<K> = Api::all(client.clone());
    let mut version = list(&api, board).await?;
    loop {
        let began = Instant::now();
        follow(&api, board, &mut version).await?;
        // A server that ends every watch at once is not asked in a circle.
        if began.elapsed() < PAUSE_MIN {
            tokio::time::sleep(PAUSE_MIN).await;
        }
    }
}

/// Asks which cluster it is, unless that was just asked.
async fn identify(client: &Client, board: &Board) -> Result<(), Broken> {
    let fresh = |identity: &Identity| identity.asked.elapsed() < IDENTITY_AGE_MIN;
    if board.lock().identity.as_ref().is_some_and(fresh) {
        return Ok(());
    }
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let system = patient(namespaces.get(SYSTEM)).await?;
    let info = patient(client.apiserver_version()).await?;
    let identity = Identity {
        uid: system.metadata.uid.unwrap_or_default(),
        version: info.git_version,
        asked: Instant::now(),
    };
    board.change(|state| {
        let same =
            |known: &Identity| (&known.uid, &known.version) == (&identity.uid, &identity.version);
        state.changed |= !state.identity.as_ref().is_some_and(same);
        state.identity = Some(identity);
    });
    Ok(())
}

/// Reads all of them, page by page; the version that a watch goes on from.
async fn list<K: Kind>(api: &Api<K>, board: &Board) -> Result<String, Broken> {
    let mut rows = Rows::new();
    let mut params = ListParams::default().limit(PAGE);
    loop {
        let page = patient(api.list(&params)).await?;
        for object in page.items {
            let key = key_of(&object);
            rows.extend(object.row().map(|row| (key, row)));
        }
        let more = page.metadata.continue_.filter(|token| !token.is_empty());
        let Some(token) = more else {
            board.change(|state| {
                let known = K::rows(&mut state.view);
                let same = *known == rows;
                *known = rows;
                state.changed |= !same;
            });
            return Ok(page.metadata.resource_version.unwrap_or_default());
        };
        params = params.continue_token(&token);
    }
}

/// Applies changes from `version` on, until the watch ends in good order.
async fn follow<K: Kind>(api: &Api<K>, board: &Board, version: &mut String) -> Result<(), Broken> {
    let params = WatchParams::default().timeout(WATCH_SECONDS);
    let events = patient(api.watch(&params, version)).await?;
    let mut events = pin!(events);
    board.change(|state| {
        // Whatever the reporter could not be told meanwhile is told now.
        state.changed |= state.troubles.remove(K::NAME).is_some();
    });
    while let Some(event) = events.next().await {
        match event? {
            WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                note(&object, version);
                put(board, object);
            }
            WatchEvent::Deleted(object) => {
                note(&object, version);
                let key = key_of(&object);
                board.change(|state| {
                    let gone = K::rows(&mut state.view).remove(&key).is_some();
                    state.changed |= gone;
                });
            }
            WatchEvent::Bookmark(mark) => *version = mark.metadata.resource_version,
            WatchEvent::Error(status) => return Err(kube::Error::Api(status).into()),
        }
    }
    Ok(())
}

/// Notes the version that an event brings: the next watch goes on from there.
fn note(object: &impl ResourceExt, version: &mut String) {
    if let Some(newer) = object.resource_version() {
        *version = newer;
    }
}

/// Notes an object that is new or changed.
fn put<K: Kind>(board: &Board, object: K) {
    let key = key_of(&object);
    let row = object.row();
    board.change(|state| {
        let rows = K::rows(&mut state.view);
        let differs = rows.get(&key) != row.as_ref();
        match row {
            Some(row) => rows.insert(key, row),
            None => rows.remove(&key),
        };
        state.changed |= differs;
    });
}

/// `namespace/name`, or the name alone of what has no namespace.
fn key_of(object: &impl Resource<DynamicType = ()>) -> String {
    let name = object.name_any();
    match object.namespace() {
        Some(namespace) => format!("{namespace}/{name}"),
        None => name,
    }
}
