//! Taking volumes from a lost node, and those that cannot be taken.

use crate::call::Call;
use crate::cluster::{ApiError, Cluster};
use crate::handle::{Handles, volume_address};
use api::http::{Detach, path};
use api::{AttachmentAnswer, ErrorKind};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Time for all fences of one node in one round. What takes longer goes on meanwhile, and is asked for again later.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// Volumes that are fenced at the same time: one that cannot be must not use up the time of the others.
const PARALLEL: usize = 32;
/// How long after it was asked for a volume that could not be fenced is not tried again: rounds go on meanwhile for others. Longer than its
/// owner waits for requests that run.
const AGAIN_AFTER: Duration = Duration::from_secs(20);

/// What was not taken from a node, and why. An empty one says that everything was.
pub(super) struct Unfenced {
    pub handles: Handles,
    /// By volume.
    pub why: BTreeMap<u64, String>,
}

impl Unfenced {
    pub fn is_empty(&self) -> bool {
        self.why.is_empty()
    }

    /// Whether the volume of this handle is one of them, or may be: of a handle that is not known or not understood any may be meant.
    pub fn may_be(&self, handle: Option<&str>) -> bool {
        match handle.and_then(|handle| self.handles.parse_volume(handle)) {
            Some(volume) => self.why.contains_key(&volume),
            None => !self.is_empty(),
        }
    }
}

/// What came of fences of lost nodes' volumes, by node and volume. It says what is asked for again and when, not what is fenced: another
/// process may have begun a fence that has not come to an end.
#[derive(Default)]
pub(super) struct Fences {
    /// Those that did not come to an end. A volume whose attachment is gone already is among them for as long as the cluster has not
    /// said that nothing of the node runs there any more.
    failed: BTreeMap<(String, u64), Failure>,
    /// The generations of the attachments by which nothing of the node runs any more.
    done: BTreeMap<(String, u64), u64>,
}

/// A fence that did not come to an end.
pub(super) struct Failure {
    /// When it was asked for last; `None`: never, for others used up the time.
    asked: Option<Instant>,
    pub why: String,
}

/// What came of a fence: the generation of the attachment by which nothing of the node runs any more, if the volume is still there.
pub(super) type Outcome = Result<Option<u64>, Failure>;

impl Fences {
    /// Forgets what is not about one of these nodes.
    pub fn retain(&mut self, lost: &[String]) {
        self.failed.retain(|(name, _), _| lost.contains(name));
        self.done.retain(|(name, _), _| lost.contains(name));
    }

    /// Whether this process has seen to it that nothing of the node runs there, and the attachment, of this generation, is still what it was
    /// then.
    pub fn is_done(&self, name: &str, volume: u64, generation: Option<u64>) -> bool {
        let done = self.done.get(&(name.to_owned(), volume));
        done.is_some() && done.copied() == generation
    }

    fn of<'a>(&'a self, name: &'a str) -> impl Iterator<Item = (u64, &'a Failure)> {
        let all = self
            .failed
            .iter()
            .filter(move |((node, _), _)| node == name);
        all.map(|((_, volume), failure)| (*volume, failure))
    }

    /// The volumes of a node whose fences failed, whether they are to be tried again or not.
    pub fn failed_of(&self, name: &str) -> Vec<u64> {
        self.of(name).map(|(volume, _)| volume).collect()
    }

    /// Those of a node that are not to be tried again yet.
    pub fn of_late(&self, name: &str, now: Instant) -> BTreeMap<u64, String> {
        let late = |at: Instant| now.saturating_duration_since(at) < AGAIN_AFTER;
        let late = self.of(name).filter(|(_, one)| one.asked.is_some_and(late));
        late.map(|(volume, one)| (volume, one.why.clone()))
            .collect()
    }

    /// Volumes of a node in the order in which they are to be tried: those first whose fences never failed, then those that were asked for
    /// longest ago. So those that use up all of the time do not keep the others from being tried.
    pub fn in_order(&self, name: &str, volumes: BTreeSet<u64>) -> Vec<u64> {
        let mut volumes: Vec<u64> = volumes.into_iter().collect();
        volumes.sort_by_cached_key(|&volume| {
            let failed = self.failed.get(&(name.to_owned(), volume));
            (failed.and_then(|failed| failed.asked), volume)
        });
        volumes
    }

    /// Takes in what came of those that were tried.
    pub fn note(&mut self, name: &str, tried: &BTreeMap<u64, Outcome>) {
        for (&volume, outcome) in tried {
            let key = (name.to_owned(), volume);
            let before = self.failed.remove(&key);
            self.done.remove(&key);
            match outcome {
                Ok(Some(generation)) => {
                    self.done.insert(key, *generation);
                }
                Ok(None) => {}
                Err(failure) => {
                    let asked = failure.asked.or(before.and_then(|before| before.asked));
                    let why = failure.why.clone();
                    self.failed.insert(key, Failure { asked, why });
                }
            }
        }
    }
}

/// Takes volumes from a client, many at a time.
pub(super) fn fence_all(cluster: &Cluster, name: &str, volumes: &[u64]) -> BTreeMap<u64, Outcome> {
    let call = Call::own(PATIENCE);
    side_by_side(&call, volumes, |volume| fence(cluster, &call, name, volume))
}

/// Fences volumes in this order, many at a time; those for which no time is left are not asked for.
fn side_by_side(
    call: &Call,
    volumes: &[u64],
    fence: impl Fn(u64) -> Result<Option<u64>, ApiError> + Sync,
) -> BTreeMap<u64, Outcome> {
    let (next, outcomes) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    let work = || {
        while let Some(&volume) = volumes.get(next.fetch_add(1, Relaxed)) {
            let outcome = match call.left().is_zero() {
                true => Err(Failure {
                    asked: None,
                    why: "other volumes used up the time of this round".to_owned(),
                }),
                false => {
                    let asked = Some(Instant::now());
                    fence(volume).map_err(|error| Failure {
                        asked,
                        why: error.to_string(),
                    })
                }
            };
            let mut outcomes = outcomes.lock().unwrap_or_else(PoisonError::into_inner);
            outcomes.insert(volume, outcome);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..volumes.len().min(PARALLEL) {
            scope.spawn(work);
        }
    });
    outcomes
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner)
}

/// Takes a volume from a client, or waits for the end of what runs after it has been taken; returns when nothing of it runs any more.
fn fence(cluster: &Cluster, call: &Call, name: &str, volume: u64) -> Result<Option<u64>, ApiError> {
    let body = Detach {
        client: Some(name.to_owned()),
    };
    let there = path(&["volumes", &volume_address(volume), "detach"]);
    match cluster.ask(call).post(&there, &body) {
        Ok::<AttachmentAnswer, _>(now) => Ok(Some(now.generation)),
        Err(error) if error.kind() == Some(ErrorKind::NotFound) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_that_is_not_understood_may_be_any_volume_that_is_not_fenced() {
        let unfenced = |ids: &[u64]| Unfenced {
            handles: Handles {
                cluster: "c".to_owned(),
            },
            why: ids.iter().map(|id| (*id, String::new())).collect(),
        };
        let one = unfenced(&[2]);
        assert!(one.may_be(Some("c-v2")) && !one.may_be(Some("c-v1")));
        assert!(one.may_be(None) && one.may_be(Some("other-v1")));
        let none = unfenced(&[]);
        assert!(!none.may_be(Some("c-v2")) && !none.may_be(None));
    }

    fn failure(asked: Instant) -> Outcome {
        Err(Failure {
            asked: Some(asked),
            why: "no store".to_owned(),
        })
    }

    #[test]
    fn what_could_not_be_fenced_waits_before_it_is_asked_for_again() {
        let (start, mut fences) = (Instant::now(), Fences::default());
        let not_asked = Err(Failure {
            asked: None,
            why: String::new(),
        });
        let tried = [(1, failure(start)), (2, not_asked), (3, Ok(Some(7)))];
        fences.note("a", &BTreeMap::from(tried));
        let waits = |fences: &Fences, after| {
            let late = fences.of_late("a", start + after);
            late.into_keys().collect::<Vec<u64>>()
        };
        let almost = AGAIN_AFTER - Duration::from_millis(1);
        assert_eq!(waits(&fences, almost), [1]);
        assert!(waits(&fences, AGAIN_AFTER).is_empty());
        // Both are unfinished until the cluster says otherwise, also when they are attached to nobody any more.
        assert_eq!(fences.failed_of("a"), [1, 2]);
        assert!(fences.failed_of("b").is_empty());
        fences.note("a", &BTreeMap::from([(2, Ok(None))]));
        assert_eq!(fences.failed_of("a"), [1]);
        fences.retain(&["b".to_owned()]);
        assert!(fences.failed_of("a").is_empty());
    }

    #[test]
    fn a_fence_is_done_for_as_long_as_the_attachment_stays_what_it_was() {
        let mut fences = Fences::default();
        assert!(!fences.is_done("a", 3, None) && !fences.is_done("a", 3, Some(7)));
        fences.note("a", &BTreeMap::from([(3, Ok(Some(7)))]));
        assert!(fences.is_done("a", 3, Some(7)));
        assert!(!fences.is_done("a", 3, Some(8)) && !fences.is_done("a", 3, None));
        assert!(!fences.is_done("b", 3, Some(7)));
        fences.note("a", &BTreeMap::from([(3, failure(Instant::now()))]));
        assert!(!fences.is_done("a", 3, Some(7)), "it failed since");
    }

    #[test]
    fn volumes_that_use_up_all_of_the_time_do_not_keep_others_from_being_tried() {
        let mut fences = Fences::default();
        // One more than are asked for together in two rounds; the last one alone does not hang.
        let last = 2 * PARALLEL as u64 + 1;
        let mut rounds = 0;
        while !fences.is_done("a", last, Some(1)) {
            rounds += 1;
            assert!(rounds <= 10, "it is never asked for");
            let call = Call::own(Duration::from_millis(100));
            let tried = fences.in_order("a", (1..=last).collect());
            let outcomes = side_by_side(&call, &tried, |volume| match volume == last {
                true => Ok(Some(1)),
                false => {
                    std::thread::sleep(call.left());
                    Err(ApiError::Late("no answer".to_owned()))
                }
            });
            fences.note("a", &outcomes);
        }
    }
}
