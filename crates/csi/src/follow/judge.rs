//! Who is lost. Pure: time comes in as an argument.

use super::unfenced::PATIENCE;
use super::{FollowOptions, Worker};
use api::VolumeAnswer;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// When each node was heard, by this process's clock: what nodes write as their time is not compared with anything.
#[derive(Default)]
pub(super) struct Heard(BTreeMap<String, Beats>);

struct Beats {
    last: String,
    /// When `last` was seen first.
    at: Instant,
    /// Since when there has been no gap, and the orchestrator called it ready.
    steady_since: Option<Instant>,
}

impl Heard {
    /// Takes in what the orchestrator says now.
    pub fn note(&mut self, workers: &[Worker], now: Instant, options: &FollowOptions) {
        let named = |name: &str| workers.iter().any(|worker| worker.name == name);
        self.0.retain(|name, _| named(name));
        for worker in workers {
            let Some(beat) = &worker.beat else {
                self.0.remove(&worker.name);
                continue;
            };
            let beats = self.0.entry(worker.name.clone()).or_insert_with(|| Beats {
                last: beat.clone(),
                at: now,
                steady_since: None,
            });
            let fresh = beats.last != *beat;
            if now.duration_since(beats.at) >= options.lost_after || !worker.ready {
                beats.steady_since = None;
            }
            if fresh {
                beats.last.clone_from(beat);
                beats.at = now;
                if worker.ready {
                    beats.steady_since.get_or_insert(now);
                }
            }
        }
    }

    /// How long a node has been silent, at least; `None`: it has never given a sign of life, so its silence says nothing.
    pub fn silence(&self, worker: &str, now: Instant) -> Option<Duration> {
        let beats = self.0.get(worker)?;
        Some(now.duration_since(beats.at))
    }

    /// Whether a node has been heard without a gap for so long.
    pub fn is_steady(&self, worker: &str, now: Instant, during: Duration) -> bool {
        let since = self.0.get(worker).and_then(|beats| beats.steady_since);
        since.is_some_and(|since| now.duration_since(since) >= during)
    }
}

/// The nodes that are silent for too long; an error when they are so many that the silence is rather ours: more than one, and more
/// than a third.
pub(super) fn suspects<'a>(
    workers: &'a [Worker],
    heard: &Heard,
    now: Instant,
    options: &FollowOptions,
) -> Result<Vec<&'a Worker>, usize> {
    let silent = |worker: &&Worker| {
        let silence = heard.silence(&worker.name, now);
        silence.is_some_and(|silence| silence >= options.lost_after)
    };
    let silent: Vec<&Worker> = workers.iter().filter(silent).collect();
    match silent.len() > (workers.len() / 3).max(1) {
        true => Err(silent.len()),
        false => Ok(silent),
    }
}

/// What one volume says of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Evidence {
    /// Its owner has heard it lately.
    Heard,
    /// Its owner would have heard it, or nobody has served the volume for so long that it would have asked for it: also of one whose
    /// owner lives and cannot open it, for to fence it is to have that tried again.
    Silent,
    /// Not known: its owner does not answer, or has not served it for long enough.
    Unknown,
    /// Nobody will know: its owner is gone or the volume is in quarantine, and nobody else has opened it for so long. It is not taken
    /// from anybody, and is not waited for either.
    Mute,
}

/// Whether somebody is taken to serve a volume, `alive` being the nodes that live. One in quarantine keeps the owner that ended last, and
/// an owner that lives may not be able to open it: then it says so.
pub(super) fn is_served(volume: &VolumeAnswer, alive: &BTreeSet<u32>) -> bool {
    let owned = volume.owner.is_some_and(|owner| alive.contains(&owner));
    let answered = volume.activity.is_some() || !volume.clients.is_empty();
    answered || (owned && !volume.unserved && volume.quarantine_until_ms.is_none())
}

/// Since when nobody has served volumes, and when that was seen last, by this process's clock.
#[derive(Default)]
pub(super) struct Unserved(BTreeMap<u64, (Instant, Instant)>);

/// How far apart two looks at one volume may be, for what both see to be taken for what was between them: a round that fences volumes of
/// so many lost nodes must not have the next one begin anew.
pub(super) fn apart(options: &FollowOptions, lost: usize) -> Duration {
    options.silent_after + options.pause + PATIENCE * lost as u32
}

impl Unserved {
    /// Forgets volumes that have not been looked at for so long: somebody may have served them.
    pub fn forget(&mut self, now: Instant, apart: Duration) {
        self.0
            .retain(|_, (_, seen)| now.duration_since(*seen) < apart);
    }

    /// Takes in what is shown of a volume now; for how long nobody has served it, as far as this process has seen.
    pub fn note(&mut self, volume: &VolumeAnswer, alive: &BTreeSet<u32>, now: Instant) -> Duration {
        if is_served(volume, alive) {
            self.0.remove(&volume.id);
            return Duration::ZERO;
        }
        let (since, seen) = self.0.entry(volume.id).or_insert((now, now));
        *seen = now;
        now.duration_since(*since)
    }
}

/// What a volume, as it is shown, says of the client `name`; nobody has served it for `unserved`. A volume between two owners,
/// as after a restart of the first one, has heard nobody yet.
pub(super) fn evidence(
    volume: &VolumeAnswer,
    name: &str,
    unserved: Duration,
    options: &FollowOptions,
) -> Evidence {
    let Some(client) = volume.clients.iter().find(|client| client.name == name) else {
        // Of one whose owner is gone a client that lives asks in vain: that nobody opens it says nothing of the client.
        let gone = volume.owner.is_some() && !volume.unserved;
        let refused = gone || volume.quarantine_until_ms.is_some();
        return match (unserved < options.silent_after, refused) {
            (true, _) => Evidence::Unknown,
            (false, true) => Evidence::Mute,
            (false, false) => Evidence::Silent,
        };
    };
    let silence = Duration::from_millis(client.silent_ms);
    match (silence >= options.silent_after, client.heard) {
        (true, _) => Evidence::Silent,
        (false, true) => Evidence::Heard,
        (false, false) => Evidence::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::follow::Mark;
    use api::ClientAnswer;

    fn worker(name: &str, beat: u32) -> Worker {
        Worker {
            name: name.to_owned(),
            beat: Some(beat.to_string()),
            ready: true,
            mark: Mark::None,
        }
    }

    const OPTIONS: FollowOptions = FollowOptions {
        lost_after: Duration::from_secs(25),
        silent_after: Duration::from_secs(15),
        return_after: Duration::from_secs(30),
        pause: Duration::from_secs(2),
    };

    fn at(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    #[test]
    fn a_node_is_suspected_when_its_beat_has_not_changed_for_long_enough() {
        let (start, mut heard) = (Instant::now(), Heard::default());
        let mut names = |seconds: u64, beats: [u32; 4]| {
            let workers = ["a", "b", "c", "d"].iter().zip(beats);
            let workers: Vec<Worker> = workers.map(|(name, beat)| worker(name, beat)).collect();
            heard.note(&workers, at(start, seconds), &OPTIONS);
            let found = suspects(&workers, &heard, at(start, seconds), &OPTIONS);
            found.map(|found| {
                found
                    .iter()
                    .map(|worker| worker.name.clone())
                    .collect::<Vec<_>>()
            })
        };
        assert_eq!(names(0, [1, 1, 1, 1]), Ok(vec![]));
        assert_eq!(names(24, [1, 2, 2, 2]), Ok(vec![]));
        assert_eq!(names(25, [1, 2, 2, 2]), Ok(vec!["a".to_owned()]));
        // Two of four at once: rather ours.
        assert_eq!(names(49, [1, 2, 3, 3]), Err(2));
        assert_eq!(names(50, [2, 2, 3, 3]), Ok(vec!["b".to_owned()]));
    }

    #[test]
    fn a_node_that_never_gave_a_sign_of_life_is_not_judged() {
        let (start, mut heard) = (Instant::now(), Heard::default());
        let workers = [Worker {
            beat: None,
            ..worker("a", 0)
        }];
        heard.note(&workers, start, &OPTIONS);
        heard.note(&workers, at(start, 1000), &OPTIONS);
        assert_eq!(
            suspects(&workers, &heard, at(start, 1000), &OPTIONS),
            Ok(vec![])
        );
    }

    #[test]
    fn a_node_is_steady_only_without_a_gap_and_when_it_is_ready() {
        let (start, mut heard) = (Instant::now(), Heard::default());
        let mut steady = |seconds: u64, beat: u32, ready: bool| {
            let workers = [Worker {
                ready,
                ..worker("a", beat)
            }];
            heard.note(&workers, at(start, seconds), &OPTIONS);
            heard.is_steady("a", at(start, seconds), OPTIONS.return_after)
        };
        assert!(!steady(0, 1, true));
        assert!(!steady(10, 2, false));
        assert!(!steady(20, 3, true));
        assert!(!steady(40, 4, true));
        assert!(steady(50, 5, true));
        assert!(!steady(80, 5, true), "a gap");
        assert!(!steady(82, 6, true));
        assert!(!steady(100, 7, true));
        assert!(steady(112, 8, true));
    }

    #[test]
    fn a_volume_that_hears_its_client_speaks_for_it() {
        let client = |silent_ms, heard| ClientAnswer {
            name: "a".to_owned(),
            sessions: 0,
            silent_ms,
            heard,
        };
        let volume = |owner, clients| VolumeAnswer {
            owner,
            clients,
            ..VolumeAnswer::default()
        };
        let says = |volume: &VolumeAnswer| evidence(volume, "a", Duration::ZERO, &OPTIONS);
        assert_eq!(
            says(&volume(Some(1), vec![client(14_999, true)])),
            Evidence::Heard
        );
        assert_eq!(
            says(&volume(Some(1), vec![client(15_000, true)])),
            Evidence::Silent
        );
        assert_eq!(
            says(&volume(Some(1), vec![client(14_999, false)])),
            Evidence::Unknown
        );
        assert_eq!(
            says(&volume(Some(1), vec![client(15_000, false)])),
            Evidence::Silent
        );
        assert_eq!(says(&volume(Some(1), vec![])), Evidence::Unknown);
        assert_eq!(says(&volume(None, vec![])), Evidence::Unknown);
    }

    #[test]
    fn a_volume_that_nobody_serves_says_nothing_until_a_living_client_would_have_asked_for_it() {
        let (start, mut unserved) = (Instant::now(), Unserved::default());
        let mut says = |seconds: u64, owner: Option<u32>| {
            let volume = VolumeAnswer {
                id: 7,
                owner,
                ..VolumeAnswer::default()
            };
            let alive = BTreeSet::from([2]);
            unserved.forget(at(start, seconds), apart(&OPTIONS, 1));
            let since = unserved.note(&volume, &alive, at(start, seconds));
            evidence(&volume, "a", since, &OPTIONS)
        };
        assert_eq!(says(100, None), Evidence::Unknown);
        assert_eq!(says(114, None), Evidence::Unknown);
        assert_eq!(says(115, None), Evidence::Silent);
        assert_eq!(says(116, Some(2)), Evidence::Unknown);
        assert_eq!(says(117, None), Evidence::Unknown, "it counts anew");
        assert_eq!(says(131, None), Evidence::Unknown);
        assert_eq!(says(132, None), Evidence::Silent);
        assert_eq!(says(158, None), Evidence::Silent, "a round that fenced");
        assert_eq!(says(185, None), Evidence::Unknown, "nobody looked for long");
    }

    #[test]
    fn a_volume_that_cannot_be_opened_is_not_waited_for_and_one_whose_owner_lives_is() {
        let start = Instant::now();
        let says = |owner: Option<u32>, quarantine_until_ms: Option<u64>, unserved: bool| {
            let volume = VolumeAnswer {
                id: 7,
                owner,
                quarantine_until_ms,
                unserved,
                ..VolumeAnswer::default()
            };
            let (alive, mut unserved) = (BTreeSet::from([1]), Unserved::default());
            [0, 14, 15].map(|seconds| {
                let since = unserved.note(&volume, &alive, at(start, seconds));
                evidence(&volume, "a", since, &OPTIONS)
            })
        };
        let waited = [Evidence::Unknown, Evidence::Unknown, Evidence::Mute];
        assert_eq!(says(Some(2), None, false), waited, "its owner is gone");
        for unserved in [false, true] {
            assert_eq!(
                says(Some(1), Some(1), unserved),
                waited,
                "its owner lives, and may not open it"
            );
        }
        assert_eq!(says(None, Some(1), false), waited);
        assert_eq!(
            says(Some(1), None, false),
            [const { Evidence::Unknown }; 3],
            "its owner may hear the client"
        );
        assert_eq!(
            says(Some(1), None, true),
            [Evidence::Unknown, Evidence::Unknown, Evidence::Silent],
            "its owner lives, and cannot open it"
        );
    }
}
