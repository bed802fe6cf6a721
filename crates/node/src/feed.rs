//! What changes in the cluster, as it changes: for pages that show it, so that none of them asks again and again.
//!
//! Rows of the catalog are followed by one watch of everything; what a row says is not kept, only that it changed. Health and
//! verdict are not in the catalog: they are looked at every second while somebody waits for changes.
//!
//! Invariants
//! - A change has the revision of the catalog that made it, as the catalog's own servers count (`Kv::recorded`), which is the
//!   same on every node: who goes on at another node with the revision it saw last misses nothing.
//! - The last [`KEPT_MAX`] changes are kept. Who was away for longer is told to read everything again.
//! - Nodes that serve no API follow nothing.

use crate::host::Host;
use crate::membership::{CATALOG_PATIENCE, RETRY_PAUSE};
use api::stream::{ChangeAnswer, ChangesAnswer};
use catalog::kv::{Change, KvError, Revision};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use world::Duration;
use world::sync::Notify;

/// Changes that are kept, of about 40 bytes: 64 s of 64 changes a second.
const KEPT_MAX: usize = 4096;
/// How long somebody waits for a change before hearing that there is none.
const WAIT_MAX: Duration = Duration::from_secs(15);
/// How often health and verdict are looked at while somebody waits.
const LOOK: Duration = Duration::from_secs(1);
/// Between the word for health and the number of the step.
const STEP_MARK: char = '-';
/// Changes that come together are told together.
const GATHER: Duration = Duration::from_millis(50);

/// What changed lately.
#[derive(Default)]
pub(crate) struct Feed {
    kept: RefCell<Kept>,
    changed: Notify,
}

#[derive(Default)]
struct Kept {
    /// Everything after this revision is in `changes`.
    from: Revision,
    newest: Revision,
    changes: VecDeque<(Revision, ChangeAnswer)>,
}

impl Kept {
    fn restart(&mut self, revision: Revision) {
        self.changes.clear();
        (self.from, self.newest) = (revision, revision);
    }

    fn push(&mut self, revision: Revision, change: Option<ChangeAnswer>) {
        self.newest = self.newest.max(revision);
        let Some(change) = change else { return };
        self.changes.push_back((revision, change));
        if self.changes.len() > KEPT_MAX
            && let Some((revision, _)) = self.changes.pop_front()
        {
            self.from = revision;
        }
    }

    /// What changed after a revision, each thing once; `None` when that is too long ago, or not of this catalog.
    fn since(&self, after: Revision) -> Option<Vec<ChangeAnswer>> {
        if after < self.from || after > self.newest {
            return None;
        }
        let newer = self.changes.iter().rev();
        let newer = newer.take_while(|(revision, _)| *revision > after);
        let mut changes: Vec<ChangeAnswer> = newer.map(|(_, change)| change.clone()).collect();
        // The last word on a thing counts; `rev` has it first.
        let mut seen = std::collections::BTreeSet::new();
        changes.retain(|change| seen.insert((change.kind.clone(), change.id)));
        changes.reverse();
        Some(changes)
    }
}

/// What a row is about; nothing for rows that no page shows.
fn describe(change: &Change) -> (Revision, Option<ChangeAnswer>) {
    let (key, revision, gone) = match change {
        Change::Put(entry) => (&entry.key, entry.version, false),
        Change::Deleted { key, revision } => (key, *revision, true),
    };
    let kinds = [
        ("intent/node/", "node", false),
        ("intent/store/", "store", false),
        ("alive/", "node", false),
        ("node/", "node", gone),
        ("store/", "store", gone),
        ("container/", "container", gone),
        ("volume/", "volume", gone),
        // Whether it is in quarantine.
        ("opening/", "volume", false),
        ("snapshot/", "snapshot", gone),
        ("group-snapshot/", "group-snapshot", gone),
        ("event/", "event", gone),
        ("task/", "task", gone),
        ("alert/", "alert", gone),
        ("alert-past/", "alert", true),
        ("alert-target/", "alert-target", false),
        ("alert-cursor/", "alert-target", false),
        // Replaced whenever one of its claims changes, and as a sign of life.
        ("kubernetes/", "kubernetes", false),
        ("claim/", "claims", false),
        ("group/", "placement", false),
        ("light/", "disk", false),
        ("user/", "user", false),
        ("session/", "session", false),
        ("token/", "token", false),
        ("audit/", "audit", false),
        ("audit-driver/", "audit", false),
        ("authority", "authority", false),
        ("certificate/", "authority", false),
    ];
    let found = kinds.iter().find_map(|(prefix, kind, gone)| {
        let rest = key.strip_prefix(prefix)?;
        // Groups change by the thousand while one thing happens, and others have names: that there is something is enough.
        let id = match *kind {
            "placement" | "alert-target" | "kubernetes" | "claims" | "authority" => 0,
            // Who they are is for administrators, who read it again.
            "user" | "session" | "token" | "audit" => 0,
            _ => rest.parse().ok()?,
        };
        Some(ChangeAnswer {
            kind: (*kind).to_owned(),
            id,
            gone: *gone,
        })
    });
    (revision, found)
}

/// Begins at the revision that the catalog is at, then follows it in the background.
pub(crate) async fn begin(host: &Rc<Host>) -> Result<(), KvError> {
    let revision = restart(host).await?;
    host.spawn(follow(host.clone(), revision));
    Ok(())
}

async fn restart(host: &Host) -> Result<Revision, KvError> {
    // Any read says which revision the catalog is at.
    let kv = host.catalog.kv();
    let page = kv.range("cluster", None, 1).await?;
    let recorded = kv.recorded(page.revision);
    host.feed.kept.borrow_mut().restart(recorded);
    host.feed.changed.notify_all();
    Ok(page.revision)
}

/// Follows the catalog for as long as the node runs.
async fn follow(host: Rc<Host>, mut revision: Revision) {
    loop {
        let kv = host.catalog.kv();
        let mut watch = kv.watch("", revision);
        // An error says that the catalog forgot where this was: everything is new then.
        while let Ok(changes) = watch.next().await {
            let mut kept = host.feed.kept.borrow_mut();
            for change in &changes {
                let (revision, change) = describe(change);
                kept.push(kv.recorded(revision), change);
            }
            drop(kept);
            host.feed.changed.notify_all();
        }
        loop {
            match host.world.timeout(CATALOG_PATIENCE, restart(&host)).await {
                Ok(Ok(at)) => {
                    revision = at;
                    break;
                }
                Ok(Err(_)) | Err(_) => host.world.sleep(RETRY_PAUSE).await,
            }
        }
    }
}

/// What is other in a mood than in one that was told. Pure.
fn news(before: &str, now: &str) -> Vec<ChangeAnswer> {
    let parts = |mood: &str| {
        let (health, step) = mood.split_once(STEP_MARK).unwrap_or((mood, ""));
        [health.to_owned(), step.to_owned()]
    };
    let kinds = ["health", "metrics"].into_iter();
    let pairs = kinds.zip(parts(before).into_iter().zip(parts(now)));
    let other = pairs.filter(|(_, (before, now))| before != now);
    let change = |(kind, _): (&str, _)| ChangeAnswer {
        kind: kind.to_owned(),
        id: 0,
        gone: false,
    };
    other.map(change).collect()
}

impl Feed {
    /// Another step of figures has been taken.
    pub(crate) fn on_sampled(&self) {
        self.changed.notify_all();
    }
}

impl Host {
    /// Health and verdict in a word that is another one when they change, and which step of figures was the last.
    fn mood(&self) -> String {
        let verdict = self.verdict();
        let view = self
            .members
            .look(|view| view.stores.keys().copied().collect::<Vec<_>>());
        let stores = view.into_iter().map(|id| (id, self.health.mood(id)));
        let text = format!(
            "{} {:?} {:?} {:?} {:?}",
            verdict.verdict,
            verdict.reasons,
            verdict.data,
            verdict.logs,
            stores.collect::<Vec<_>>()
        );
        let hash = xxhash_rust::xxh3::xxh3_64(text.as_bytes());
        format!("{hash:016x}{STEP_MARK}{}", self.upkeep.present.steps.get())
    }

    /// What changed after `after`, or since health was `mood`: at once when something did, else when something does, at the
    /// latest after a while with nothing. Without `after`: where the feed is now.
    pub(crate) async fn changes(self: &Rc<Self>, after: Option<u64>, mood: &str) -> ChangesAnswer {
        let Some(after) = after else {
            return ChangesAnswer {
                revision: self.feed.kept.borrow().newest,
                mood: self.mood(),
                ..ChangesAnswer::default()
            };
        };
        let until = self.world.now() + WAIT_MAX;
        loop {
            let changed = self.feed.changed.notified();
            // What is not heard in time is part of the next look.
            self.ask_logs_beside(LOOK).await;
            let answer = self.changes_now(after, mood);
            if answer.reset || !answer.changes.is_empty() || self.world.now() >= until {
                return answer;
            }
            if self.world.timeout(LOOK, changed).await.is_ok() {
                self.world.sleep(GATHER).await;
            }
        }
    }

    fn changes_now(&self, after: u64, mood: &str) -> ChangesAnswer {
        let now = self.mood();
        let kept = self.feed.kept.borrow();
        let since = kept.since(after);
        let mut answer = ChangesAnswer {
            revision: kept.newest,
            reset: since.is_none(),
            changes: since.unwrap_or_default(),
            mood: now,
        };
        answer.changes.extend(news(mood, &answer.mood));
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use catalog::kv::Entry;

    fn put(key: &str, version: Revision) -> Change {
        Change::Put(Entry {
            key: key.to_owned(),
            value: Vec::new(),
            version,
        })
    }

    fn push(kept: &mut Kept, change: &Change) {
        let (revision, change) = describe(change);
        kept.push(revision, change);
    }

    #[test]
    fn each_thing_is_told_once_and_its_last_word_counts() {
        let mut kept = Kept::default();
        kept.restart(10);
        push(&mut kept, &put("volume/00000000000000000007", 11));
        push(&mut kept, &put("counter/volume", 12));
        push(&mut kept, &put("alert-target/pager", 12));
        push(&mut kept, &put("kubernetes/prod", 12));
        push(&mut kept, &put("claim/prod/u-1", 12));
        push(&mut kept, &put("kubernetes/test", 12));
        push(&mut kept, &put("alerts", 13));
        push(&mut kept, &put("user/alice", 13));
        push(&mut kept, &put("user/bob", 13));
        push(&mut kept, &put("once/00000000000000000001", 13));
        push(&mut kept, &put("authority", 13));
        push(&mut kept, &put("certificate/00000000000000000003", 13));
        push(&mut kept, &put("alive/00000000000000000002", 14));
        let deleted = Change::Deleted {
            key: "volume/00000000000000000007".to_owned(),
            revision: 15,
        };
        push(&mut kept, &deleted);
        let told = |kept: &Kept, after| {
            let changes = kept.since(after)?.into_iter();
            Some(
                changes
                    .map(|one| (one.kind, one.id, one.gone))
                    .collect::<Vec<_>>(),
            )
        };
        let node = ("node".to_owned(), 2, false);
        let target = ("alert-target".to_owned(), 0, false);
        let volume = ("volume".to_owned(), 7, true);
        let kubernetes = ("kubernetes".to_owned(), 0, false);
        let claims = ("claims".to_owned(), 0, false);
        // In the order of their last words.
        let user = ("user".to_owned(), 0, false);
        let authority = ("authority".to_owned(), 0, false);
        let all = vec![
            target,
            claims,
            kubernetes,
            user,
            authority,
            node,
            volume.clone(),
        ];
        assert_eq!(told(&kept, 10), Some(all));
        assert_eq!(told(&kept, 14), Some(vec![volume]));
        assert_eq!(told(&kept, 15), Some(vec![]));
        assert_eq!(told(&kept, 9), None, "too long ago");
        assert_eq!(told(&kept, 16), None, "of a catalog that was not made anew");
    }

    #[test]
    fn a_quarantine_is_of_its_volume_and_a_light_of_its_store() {
        let mut kept = Kept::default();
        kept.restart(1);
        push(&mut kept, &put("opening/00000000000000000007", 2));
        push(&mut kept, &put("light/00000000000000000004", 3));
        let gone = |key: &str, revision| Change::Deleted {
            key: key.to_owned(),
            revision,
        };
        // What is noted of openings goes while the volume stays.
        push(&mut kept, &gone("opening/00000000000000000008", 4));
        let told = kept.since(1).expect("it is kept").into_iter();
        let told: Vec<_> = told.map(|one| (one.kind, one.id, one.gone)).collect();
        let volume = |id| ("volume".to_owned(), id, false);
        assert_eq!(told, [volume(7), ("disk".to_owned(), 4, false), volume(8)]);
    }

    #[test]
    fn health_and_figures_are_told_apart() {
        let kinds = |before: &str, now: &str| {
            let news = news(before, now).into_iter();
            news.map(|one| one.kind).collect::<Vec<_>>()
        };
        assert_eq!(kinds("a-1", "a-1"), Vec::<String>::new());
        assert_eq!(kinds("a-1", "a-2"), ["metrics"]);
        assert_eq!(kinds("a-1", "b-1"), ["health"]);
        assert_eq!(kinds("", "b-1"), ["health", "metrics"]);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut kept = Kept::default();
        kept.restart(1);
        for revision in 2..KEPT_MAX as u64 + 10 {
            push(&mut kept, &put("volume/00000000000000000007", revision));
        }
        assert_eq!(kept.changes.len(), KEPT_MAX);
        assert!(kept.since(8).is_none());
        assert!(kept.since(9).is_some());
    }
}
