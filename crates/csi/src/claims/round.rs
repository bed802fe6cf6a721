//! One look at what is seen, and what is sent of it.

use super::plan::{Known, plan_reports};
use super::{ClaimFacts, ClaimOptions, ClaimSource, Unanswered};
use crate::call::Call;
use crate::cluster::{ApiError, Cluster};
use api::http::{encode, path};
use api::kubernetes::CLAIMS_LIMIT_MAX;
use api::{ClaimsAnswer, ErrorKind, KubernetesAnswer, KubernetesReport, ReportedAnswer};
use std::time::{Duration, Instant};

/// Time for one call: a cluster in the middle of a takeover answers within that.
const PATIENCE: Duration = Duration::from_secs(30);
/// Pages of claims: with 1000 each, a million claims.
const PAGES_MAX: usize = 1000;
/// First pause after a failure: it doubles.
const PAUSE_MIN: Duration = Duration::from_secs(1);

/// The cluster, as far as it is told about claims.
pub(super) trait Ledger {
    /// What it knows.
    ///
    /// # Errors
    /// [`ApiError`].
    fn known(&self) -> Result<Known, ApiError>;

    /// Tells it; how many claims that were told it knows then. To repeat it is safe.
    ///
    /// # Errors
    /// [`ApiError`].
    fn tell(&self, report: &KubernetesReport) -> Result<u64, ApiError>;
}

/// The real one.
pub(super) struct Storage<'a> {
    pub cluster: &'a Cluster,
    pub name: &'a str,
}

impl Ledger for Storage<'_> {
    fn known(&self) -> Result<Known, ApiError> {
        let call = Call::own(PATIENCE);
        let shown = self
            .cluster
            .ask(&call)
            .get(&path(&["kubernetes", self.name]));
        let shown: KubernetesAnswer = match shown {
            Err(error) if error.kind() == Some(ErrorKind::NotFound) => return Ok(Known::default()),
            shown => shown?,
        };
        let mut known = Known {
            identity: identity_of(&shown),
            classes: shown.classes,
            ..Known::default()
        };
        let mut after = None;
        for _ in 0..PAGES_MAX {
            let page = self.page(after.as_deref())?;
            let facts = page.items.iter().filter_map(|claim| claim.facts());
            facts.for_each(|facts: ClaimFacts| known.note(&facts));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        Ok(known)
    }

    fn tell(&self, report: &KubernetesReport) -> Result<u64, ApiError> {
        let call = Call::own(PATIENCE);
        let place = path(&["kubernetes", self.name, "report"]);
        let told: ReportedAnswer = self.cluster.ask(&call).put(&place, report)?;
        Ok(told.claims)
    }
}

impl Storage<'_> {
    fn page(&self, after: Option<&str>) -> Result<ClaimsAnswer, ApiError> {
        let call = Call::own(PATIENCE);
        let mut place = path(&["kubernetes", self.name, "claims"]);
        place += &format!("?limit={CLAIMS_LIMIT_MAX}");
        if let Some(after) = after {
            place += "&after=";
            encode(after, &mut place);
        }
        self.cluster.ask(&call).get(&place)
    }
}

/// Uid and version of the orchestrator, and the driver's, once they were told.
fn identity_of(shown: &KubernetesAnswer) -> Option<(String, String, String)> {
    let (uid, version) = (shown.uid.clone()?, shown.version.clone()?);
    Some((uid, version, shown.driver.clone()?))
}

/// Why a round tells nothing, or not all.
#[derive(Debug, thiserror::Error)]
enum Held {
    #[error("{0}")]
    Orchestrator(#[from] Unanswered),
    /// Another Kubernetes cluster has the name.
    #[error(
        "{0}: give this Kubernetes cluster a name of its own with --kubernetes-cluster (in the chart, driver.kubernetes.cluster). If it was \
         installed anew and the claims of the old one are no longer wanted, forget those with `azekura kubernetes forget {1}`"
    )]
    Taken(String, String),
    /// The token is for another one.
    #[error(
        "{0}: make the driver's token with `azekura token create --scope csi --kubernetes {1}`, or give this Kubernetes cluster the name \
         that the token is for (in the chart, driver.kubernetes.cluster)"
    )]
    Forbidden(String, String),
    #[error("the storage cluster: {0}")]
    Storage(String),
}

impl Held {
    fn of(error: ApiError, options: &ClaimOptions) -> Self {
        match error {
            ApiError::Refused(error) if error.kind == ErrorKind::Exists => {
                Self::Taken(error.to_string(), options.cluster.clone())
            }
            ApiError::Refused(error) if error.kind == ErrorKind::Forbidden => {
                Self::Forbidden(error.to_string(), options.cluster.clone())
            }
            error => Self::Storage(error.to_string()),
        }
    }
}

/// When the next round is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// When something has changed, and after so long all the same.
    Change(Duration),
    /// After so long.
    Again(Duration),
}

/// Rounds over what is seen.
pub(super) struct Rounds<'a> {
    ledger: &'a dyn Ledger,
    source: &'a dyn ClaimSource,
    options: &'a ClaimOptions,
    /// What the cluster knows and when it was asked; nothing: to be asked.
    known: Option<(Known, Instant)>,
    /// When it was told something last.
    told: Option<Instant>,
    /// What was said last: said again only when it changes.
    said: Option<String>,
    pause: Duration,
}

impl<'a> Rounds<'a> {
    pub fn new(
        ledger: &'a dyn Ledger,
        source: &'a dyn ClaimSource,
        options: &'a ClaimOptions,
    ) -> Self {
        Self {
            ledger,
            source,
            options,
            known: None,
            told: None,
            said: None,
            pause: PAUSE_MIN,
        }
    }

    /// One round. What fails is said and tried again in the next one.
    pub fn play(&mut self, now: Instant) -> Next {
        let held = match self.tell(now) {
            Ok(()) => {
                self.pause = PAUSE_MIN;
                if self.said.take().is_some() {
                    tracing::info!(cluster = self.options.cluster, "claims are reported again");
                }
                return Next::Change(self.until_next(now));
            }
            Err(held) => held,
        };
        self.say(&held);
        let pause = match held {
            Held::Taken(..) => self.options.patience,
            // Each refusal is in the audit log: few of them are enough.
            Held::Forbidden(..) => self.options.compare,
            Held::Orchestrator(_) | Held::Storage(_) => self.pause,
        };
        self.pause = (self.pause * 2).min(self.options.patience);
        Next::Again(pause)
    }

    fn say(&mut self, held: &Held) {
        let text = format!("claims are not reported: {held}");
        if self.said.as_ref() == Some(&text) {
            return;
        }
        let cluster = &self.options.cluster;
        match held {
            Held::Taken(..) | Held::Forbidden(..) => tracing::error!(cluster, "{text}"),
            _ => tracing::warn!(cluster, "{text}"),
        }
        self.said = Some(text);
    }

    /// Until a sign of life is due, or a comparison.
    fn until_next(&self, now: Instant) -> Duration {
        let due = |last: Option<Instant>, interval: Duration| match last {
            Some(last) => (last + interval).saturating_duration_since(now),
            None => Duration::ZERO,
        };
        let compared = self.known.as_ref().map(|(_, asked)| *asked);
        due(self.told, self.options.alive).min(due(compared, self.options.compare))
    }

    fn tell(&mut self, now: Instant) -> Result<(), Held> {
        let seen = self.source.seen()?;
        let old = |asked: Instant| now.duration_since(asked) >= self.options.compare;
        if self.known.as_ref().is_none_or(|(_, asked)| old(*asked)) {
            let known = self.ledger.known();
            let known = known.map_err(|error| Held::of(error, self.options))?;
            self.known = Some((known, now));
        }
        let alive = self
            .told
            .is_none_or(|told| now.duration_since(told) >= self.options.alive);
        let Some((known, _)) = &mut self.known else {
            return Ok(());
        };
        let (mut there, mut beyond) = (None, None);
        for mut part in plan_reports(known, seen, alive) {
            let mut count = self.ledger.tell(&part);
            if let Err(error) = &count
                && error.kind() == Some(ErrorKind::Refused)
            {
                // There are more claims than are kept: the rest is told all the same, and that somebody is here.
                beyond = Some(error.to_string());
                part.claims.clear();
                count = self.ledger.tell(&part);
            }
            there = Some(count.map_err(|error| Held::of(error, self.options))?);
            let (claims, gone) = (part.claims.len(), part.gone.len());
            tracing::debug!(claims, gone, "a report was sent");
            known.apply(&part);
            self.told = Some(now);
        }
        if let Some(reason) = beyond {
            return Err(Held::Storage(reason));
        }
        // Somebody has made it forget what it was told, or another reporter sees something else.
        if there.is_some_and(|there| there != known.claims.len() as u64) && alive {
            self.known = None;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::Seen;
    use super::*;
    use api::OperationError;
    use api::kubernetes::CLAIMS_AT_ONCE;
    use std::sync::{Arc, Mutex};

    /// A cluster that keeps what it is told.
    #[derive(Default)]
    struct Book {
        known: Mutex<Known>,
        parts: Mutex<Vec<KubernetesReport>>,
        asked: Mutex<usize>,
        refusal: Mutex<Option<ErrorKind>>,
        /// Claims that it keeps at most.
        claims_max: Mutex<Option<usize>>,
    }

    impl Book {
        fn refuse(&self) -> Result<(), ApiError> {
            match *self.refusal.lock().expect("not poisoned") {
                Some(kind) => Err(ApiError::Refused(OperationError::new(kind, "no"))),
                None => Ok(()),
            }
        }

        fn parts(&self) -> Vec<KubernetesReport> {
            std::mem::take(&mut *self.parts.lock().expect("not poisoned"))
        }
    }

    impl Ledger for Book {
        fn known(&self) -> Result<Known, ApiError> {
            self.refuse()?;
            *self.asked.lock().expect("not poisoned") += 1;
            Ok(self.known.lock().expect("not poisoned").clone())
        }

        fn tell(&self, report: &KubernetesReport) -> Result<u64, ApiError> {
            self.refuse()?;
            let mut known = self.known.lock().expect("not poisoned");
            let mut after = known.clone();
            after.apply(report);
            let claims_max = *self.claims_max.lock().expect("not poisoned");
            if claims_max.is_some_and(|many| after.claims.len() > many) {
                let full = OperationError::new(ErrorKind::Refused, "full");
                return Err(ApiError::Refused(full));
            }
            *known = after;
            self.parts
                .lock()
                .expect("not poisoned")
                .push(report.clone());
            Ok(known.claims.len() as u64)
        }
    }

    #[derive(Clone, Default)]
    struct Eyes(Arc<Mutex<Option<Seen>>>);

    impl ClaimSource for Eyes {
        fn seen(&self) -> Result<Seen, Unanswered> {
            let seen = self.0.lock().expect("not poisoned").clone();
            seen.ok_or_else(|| Unanswered("it is not there".to_owned()))
        }

        fn wait(&self, _: Duration) {}
    }

    impl Eyes {
        fn show(&self, names: &[&str]) {
            let claim = |name: &&str| ClaimFacts {
                uid: format!("uid-of-{name}"),
                name: (*name).to_owned(),
                ..ClaimFacts::default()
            };
            *self.0.lock().expect("not poisoned") = Some(Seen {
                uid: "k-1".to_owned(),
                version: "v1".to_owned(),
                claims: names.iter().map(claim).collect(),
                ..Seen::default()
            });
        }
    }

    fn options() -> ClaimOptions {
        ClaimOptions::of("prod".to_owned())
    }

    #[test]
    fn a_reporter_that_starts_again_sends_the_difference() {
        let (book, eyes, options, now) =
            (Book::default(), Eyes::default(), options(), Instant::now());
        eyes.show(&["a", "b"]);
        let next = Rounds::new(&book, &eyes, &options).play(now);
        assert_eq!(next, Next::Change(options.alive));
        assert_eq!(book.parts()[0].claims.len(), 2);

        eyes.show(&["b", "c"]);
        Rounds::new(&book, &eyes, &options).play(now);
        let parts = book.parts();
        assert_eq!(parts.len(), 1);
        assert_eq!(parts[0].claims[0].name, "c");
        assert_eq!(parts[0].gone, ["uid-of-a"]);
    }

    #[test]
    fn a_sign_of_life_comes_every_minute_and_a_comparison_every_ten() {
        let (book, eyes, options, start) =
            (Book::default(), Eyes::default(), options(), Instant::now());
        eyes.show(&["a"]);
        let mut rounds = Rounds::new(&book, &eyes, &options);
        let (mut now, mut signs) = (start, 0);
        while now < start + Duration::from_secs(605) {
            let Next::Change(wait) = rounds.play(now) else {
                panic!("nothing fails");
            };
            signs += book.parts().len();
            now += wait;
        }
        assert_eq!(signs, 11);
        assert_eq!(*book.asked.lock().expect("not poisoned"), 2);
        assert_eq!(
            rounds.play(now - Duration::from_secs(1)),
            Next::Change(Duration::from_secs(1)),
            "nothing is sent in between"
        );
        assert_eq!(book.parts(), []);
    }

    #[test]
    fn what_fails_is_tried_again_later_and_later() {
        let (book, eyes, options, now) =
            (Book::default(), Eyes::default(), options(), Instant::now());
        let mut rounds = Rounds::new(&book, &eyes, &options);
        let pauses = [1, 2, 4, 8, 16, 32, 60, 60].map(Duration::from_secs);
        for pause in pauses {
            assert_eq!(rounds.play(now), Next::Again(pause));
        }
        eyes.show(&["a"]);
        assert_eq!(rounds.play(now), Next::Change(options.alive));
        *book.refusal.lock().expect("not poisoned") = Some(ErrorKind::Unavailable);
        eyes.show(&["b"]);
        assert_eq!(rounds.play(now), Next::Again(PAUSE_MIN));
        assert!(rounds.said.as_ref().is_some_and(|said| said.contains("no")));
        *book.refusal.lock().expect("not poisoned") = None;
        rounds.play(now);
        assert_eq!(rounds.said, None);
        assert_eq!(
            book.known.lock().expect("not poisoned").claims.len(),
            1,
            "a is gone and b is there"
        );
    }

    #[test]
    fn a_name_that_another_cluster_has_is_tried_every_minute() {
        let (book, eyes, options, now) =
            (Book::default(), Eyes::default(), options(), Instant::now());
        eyes.show(&["a"]);
        *book.refusal.lock().expect("not poisoned") = Some(ErrorKind::Exists);
        let mut rounds = Rounds::new(&book, &eyes, &options);
        assert_eq!(rounds.play(now), Next::Again(options.patience));
        let said = rounds.said.clone().expect("it is said");
        assert!(said.contains("driver.kubernetes.cluster"), "{said}");
        *book.refusal.lock().expect("not poisoned") = Some(ErrorKind::Forbidden);
        assert_eq!(rounds.play(now), Next::Again(options.compare));
        let said = rounds.said.clone().expect("it is said");
        assert!(said.contains("--kubernetes prod"), "{said}");
    }

    #[test]
    fn a_cluster_that_has_forgotten_is_told_everything_anew() {
        let (book, eyes, options, now) =
            (Book::default(), Eyes::default(), options(), Instant::now());
        eyes.show(&["a", "b"]);
        let mut rounds = Rounds::new(&book, &eyes, &options);
        rounds.play(now);
        *book.known.lock().expect("not poisoned") = Known::default();
        let later = now + options.alive;
        assert_eq!(rounds.play(later), Next::Change(Duration::ZERO));
        rounds.play(later);
        assert_eq!(book.known.lock().expect("not poisoned").claims.len(), 2);
    }

    #[test]
    fn beyond_the_bound_the_rest_is_told_and_that_somebody_is_there() {
        let (book, eyes, options, now) =
            (Book::default(), Eyes::default(), options(), Instant::now());
        eyes.show(&["a", "b"]);
        let mut rounds = Rounds::new(&book, &eyes, &options);
        rounds.play(now);
        book.parts();
        *book.claims_max.lock().expect("not poisoned") = Some(2);
        let many: Vec<String> = (0..CLAIMS_AT_ONCE)
            .map(|number| format!("n{number}"))
            .collect();
        let mut names: Vec<&str> = many.iter().map(String::as_str).collect();
        // One of those that are known is gone.
        names.insert(0, "b");
        eyes.show(&names);
        assert_eq!(rounds.play(now), Next::Again(PAUSE_MIN));
        let parts = book.parts();
        assert_eq!(parts.len(), 1);
        assert_eq!(parts[0].gone, ["uid-of-a"]);
        assert!(parts[0].claims.is_empty());
        assert!(
            rounds
                .said
                .as_ref()
                .is_some_and(|said| said.contains("full"))
        );
    }
}
