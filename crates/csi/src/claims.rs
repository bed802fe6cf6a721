//! Claims are told: what an orchestrator says of the claims on this driver's volumes reaches the cluster, for people who look for storage by
//! claim.
//!
//! What is seen is compared with what the cluster knows, and the difference is sent, in parts. The cluster is asked what it knows at the start
//! and again from time to time; in between this process remembers what it told.
//!
//! Invariants
//! - Nothing that is told decides anything about data: a report that is lost, late, or told by two processes at once does no harm.
//! - Nothing is told while the orchestrator is not seen as a whole: a list that is half read would make claims look gone.
//! - A process that is killed at any time leaves nothing behind; the next one sends the difference.
//! - Whatever fails is said once and tried again; the process goes on.
//!
//! It keeps 16 bytes and the uid of each claim between two rounds.
//!
//! Read next: `claims/plan.rs` (what is sent; pure), `claims/round.rs` (when), docs/decisions/0042-kubernetes-seen-through-the-driver.md.

mod plan;
mod round;

pub use crate::follow::Unanswered;
pub use api::kubernetes::{
    CLAIM_USERS_MAX, CLASSES_MAX, KUBERNETES_NAME_BYTES_MAX, KUBERNETES_TEXT_BYTES_MAX,
};
pub use api::{ClaimFacts, PodFacts, StorageClassFacts};

use crate::cluster::Cluster;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// What an orchestrator has, as far as it concerns this driver.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// What tells it from every other orchestrator: the uid of its namespace `kube-system`.
    pub uid: String,
    /// Its version.
    pub version: String,
    /// Storage classes with this driver, by name.
    pub classes: Vec<StorageClassFacts>,
    /// Claims with volumes of this driver, or that wait for one.
    pub claims: Vec<ClaimFacts>,
}

/// Somebody who sees claims.
pub trait ClaimSource: Send + 'static {
    /// What is there now. Costs time and memory in proportion to the claims.
    ///
    /// # Errors
    /// [`Unanswered`] while not all of it is seen.
    fn seen(&self) -> Result<Seen, Unanswered>;

    /// Waits until something has changed since the last [`ClaimSource::seen`], or can be seen for the first time; `patience` at most.
    fn wait(&self, patience: Duration);
}

/// When claims are told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimOptions {
    /// Name of the Kubernetes cluster.
    pub cluster: String,
    /// Shortest time between two differences that are sent.
    pub pause: Duration,
    /// How long more changes are waited for after a first one.
    pub gather: Duration,
    /// Longest time without a report: one without changes is a sign of life.
    pub alive: Duration,
    /// How often the cluster is asked anew what it knows.
    pub compare: Duration,
    /// Longest pause after something failed; the first one lasts a second.
    pub patience: Duration,
}

impl ClaimOptions {
    /// The usual times.
    #[must_use]
    pub fn of(cluster: String) -> Self {
        Self {
            cluster,
            pause: Duration::from_secs(2),
            gather: Duration::from_millis(200),
            alive: Duration::from_secs(60),
            compare: Duration::from_secs(600),
            patience: Duration::from_secs(60),
        }
    }
}

/// Tells claims until the process ends. Blocks.
pub fn report(api: crate::ApiOptions, source: &dyn ClaimSource, options: ClaimOptions) -> ! {
    let cluster = Cluster::new(api);
    let ledger = round::Storage {
        cluster: &cluster,
        name: &options.cluster,
    };
    let mut rounds = round::Rounds::new(&ledger, source, &options);
    // The first lists of a large orchestrator take a while.
    source.wait(options.patience);
    loop {
        let began = Instant::now();
        match rounds.play(began) {
            round::Next::Again(pause) => sleep(pause),
            round::Next::Change(patience) => {
                source.wait(patience);
                sleep(
                    options
                        .gather
                        .max(options.pause.saturating_sub(began.elapsed())),
                );
            }
        }
    }
}
