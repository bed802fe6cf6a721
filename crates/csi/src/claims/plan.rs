//! What is sent: the difference between what the cluster knows and what is seen, in parts. Pure.

use super::{ClaimFacts, Seen, StorageClassFacts};
use api::KubernetesReport;
use api::kubernetes::{CLAIMS_AT_ONCE, CLASSES_MAX, REPORT_BYTES_MAX};
use std::collections::{BTreeMap, BTreeSet};

/// Bytes of the claims in one part, as JSON. With them go 200 uids of 253 bytes at most, which are 50 KiB.
const CLAIM_BYTES_MAX: usize = REPORT_BYTES_MAX - (128 << 10);
/// Bytes of the storage classes, as JSON, which go in a part of their own: what is beyond is left out.
const CLASS_BYTES_MAX: usize = REPORT_BYTES_MAX - (64 << 10);

/// What the cluster knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Known {
    /// Uid and version of the orchestrator, and the driver's; nothing: it has never been told.
    pub identity: Option<(String, String, String)>,
    /// Storage classes, by name.
    pub classes: Vec<StorageClassFacts>,
    /// A digest of every claim, by uid.
    pub claims: BTreeMap<String, u128>,
}

/// Tells claims apart that differ in anything. How long it is as JSON comes along.
fn digest(claim: &ClaimFacts) -> (u128, usize) {
    let text = serde_json::to_vec(claim).expect("plain data");
    (xxhash_rust::xxh3::xxh3_128(&text), text.len())
}

impl Known {
    /// Notes a claim that the cluster knows.
    pub fn note(&mut self, claim: &ClaimFacts) {
        self.claims.insert(claim.uid.clone(), digest(claim).0);
    }

    /// Notes what was told.
    pub fn apply(&mut self, report: &KubernetesReport) {
        self.identity = Some(identity_of(report));
        if let Some(classes) = &report.classes {
            self.classes.clone_from(classes);
        }
        for claim in &report.claims {
            self.note(claim);
        }
        for uid in &report.gone {
            self.claims.remove(uid);
        }
    }
}

fn identity_of(report: &KubernetesReport) -> (String, String, String) {
    let (uid, version) = (report.uid.clone(), report.version.clone());
    (uid, version, report.driver.clone())
}

/// The storage classes that can be told.
fn tellable(classes: Vec<StorageClassFacts>) -> Vec<StorageClassFacts> {
    let mut bytes = 0;
    let fits = |class: &StorageClassFacts| {
        bytes += serde_json::to_vec(class).expect("plain data").len();
        bytes <= CLASS_BYTES_MAX
    };
    let mut classes: Vec<_> = classes.into_iter().take_while(fits).collect();
    classes.truncate(CLASSES_MAX);
    classes
}

/// The parts of a difference, in the order they are sent in; none when there is no difference. With `alive` at least one.
pub(super) fn plan_reports(known: &Known, seen: Seen, alive: bool) -> Vec<KubernetesReport> {
    let empty = KubernetesReport {
        uid: seen.uid,
        version: seen.version,
        driver: env!("CARGO_PKG_VERSION").to_owned(),
        ..KubernetesReport::default()
    };
    let mut parts = Vec::new();
    let classes = tellable(seen.classes);
    if classes != known.classes {
        let classes = Some(classes);
        parts.push(KubernetesReport {
            classes,
            ..empty.clone()
        });
    }
    let there: BTreeSet<&str> = seen.claims.iter().map(|claim| claim.uid.as_str()).collect();
    let gone = known.claims.keys();
    let gone: Vec<String> = gone
        .filter(|uid| !there.contains(uid.as_str()))
        .cloned()
        .collect();
    // New ones come last: there may be more than are kept.
    let (mut changed, fresh): (Vec<_>, Vec<_>) =
        { seen.claims.into_iter() }.partition(|claim| known.claims.contains_key(&claim.uid));
    changed.extend(fresh);
    let mut told = split(known, changed).into_iter();
    let mut gone = gone.chunks(CLAIMS_AT_ONCE);
    loop {
        let (claims, gone) = match (told.next(), gone.next()) {
            (None, None) => break,
            (claims, gone) => (claims.unwrap_or_default(), gone.unwrap_or_default()),
        };
        parts.push(KubernetesReport {
            claims,
            gone: gone.to_vec(),
            ..empty.clone()
        });
    }
    let other = known.identity != Some(identity_of(&empty));
    if parts.is_empty() && (alive || other) {
        parts.push(empty);
    }
    parts
}

/// Claims that are new or different, so many together as one part may have.
fn split(known: &Known, claims: Vec<ClaimFacts>) -> Vec<Vec<ClaimFacts>> {
    let mut parts: Vec<Vec<ClaimFacts>> = Vec::new();
    let mut bytes = 0;
    for claim in claims {
        let (digest, length) = digest(&claim);
        if known.claims.get(&claim.uid) == Some(&digest) {
            continue;
        }
        bytes += length + 1;
        let fits =
            |part: &&mut Vec<ClaimFacts>| part.len() < CLAIMS_AT_ONCE && bytes <= CLAIM_BYTES_MAX;
        match parts.last_mut().filter(fits) {
            Some(part) => part.push(claim),
            None => {
                bytes = length + 1;
                parts.push(vec![claim]);
            }
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(number: usize) -> ClaimFacts {
        ClaimFacts {
            uid: format!("uid-{number}"),
            namespace: "shop".to_owned(),
            name: format!("data-{number}"),
            status: "Bound".to_owned(),
            volume_mode: "Filesystem".to_owned(),
            ..ClaimFacts::default()
        }
    }

    fn seen(claims: Vec<ClaimFacts>) -> Seen {
        Seen {
            uid: "k-1".to_owned(),
            version: "v1.35.2".to_owned(),
            classes: vec![StorageClassFacts {
                name: "fast".to_owned(),
                ..StorageClassFacts::default()
            }],
            claims,
        }
    }

    /// Sends all parts; whether each is one that the API takes.
    fn send(known: &mut Known, seen: Seen) -> Vec<KubernetesReport> {
        let parts = plan_reports(known, seen, false);
        for part in &parts {
            assert_eq!(part.problem(), None);
            assert!(serde_json::to_vec(part).expect("plain data").len() <= REPORT_BYTES_MAX);
            known.apply(part);
        }
        parts
    }

    #[test]
    fn everything_is_told_once_and_then_what_changes() {
        let mut known = Known::default();
        let all: Vec<ClaimFacts> = (0..450).map(claim).collect();
        let parts = send(&mut known, seen(all.clone()));
        let counts: Vec<usize> = parts.iter().map(|part| part.claims.len()).collect();
        assert_eq!(counts, [0, 200, 200, 50]);
        assert_eq!(
            parts.iter().filter(|part| part.classes.is_some()).count(),
            1
        );
        assert_eq!(send(&mut known, seen(all.clone())), []);

        let mut changed = all;
        changed.remove(7);
        changed[3].attached.push("worker-1".to_owned());
        let parts = send(&mut known, seen(changed));
        assert_eq!(parts.len(), 1);
        assert_eq!(parts[0].claims.len(), 1);
        assert_eq!(parts[0].claims[0].uid, "uid-3");
        assert_eq!(parts[0].gone, ["uid-7"]);
        assert_eq!(parts[0].classes, None);
    }

    #[test]
    fn more_that_are_gone_than_one_part_takes_are_told_in_several() {
        let mut known = Known::default();
        send(&mut known, seen((0..450).map(claim).collect()));
        let parts = send(&mut known, seen(vec![claim(900)]));
        let counts: Vec<usize> = parts.iter().map(|part| part.gone.len()).collect();
        assert_eq!(counts, [200, 200, 50]);
        assert_eq!(known.claims.len(), 1);
    }

    #[test]
    fn long_claims_make_more_parts() {
        let mut known = Known::default();
        let long = |number| ClaimFacts {
            attached: vec!["n".repeat(253); 16],
            ..claim(number)
        };
        let parts = send(&mut known, seen((0..200).map(long).collect()));
        assert!(parts.len() > 2, "{}", parts.len());
        assert_eq!(known.claims.len(), 200);
    }

    #[test]
    fn a_sign_of_life_is_empty_and_a_new_version_is_told() {
        let mut known = Known::default();
        send(&mut known, seen(vec![claim(1)]));
        let alive = plan_reports(&known, seen(vec![claim(1)]), true);
        assert_eq!(alive.len(), 1);
        assert!(alive[0].claims.is_empty() && alive[0].gone.is_empty());
        let newer = Seen {
            version: "v1.36.0".to_owned(),
            ..seen(vec![claim(1)])
        };
        let parts = plan_reports(&known, newer, false);
        assert_eq!(parts.len(), 1);
        assert_eq!(parts[0].version, "v1.36.0");
    }

    #[test]
    fn classes_beyond_what_is_allowed_are_left_out() {
        let class = |number: usize| StorageClassFacts {
            name: format!("class-{number:03}"),
            parameters: (0..64)
                .map(|key| (format!("key-{key}"), "v".repeat(400)))
                .collect(),
            ..StorageClassFacts::default()
        };
        let mut known = Known::default();
        let all = Seen {
            classes: (0..100).map(class).collect(),
            ..seen(Vec::new())
        };
        let parts = send(&mut known, all.clone());
        assert_eq!(parts.len(), 1);
        let told = known.classes.len();
        assert!((1..=CLASSES_MAX).contains(&told), "{told}");
        assert_eq!(send(&mut known, all), []);
    }
}
