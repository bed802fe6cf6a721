//! Pods follow: when a worker node of the orchestrator is lost, its volumes are fenced and its pods are let go, so that they run elsewhere.
//!
//! An orchestrator does not do so by itself: it cannot know whether a silent node still writes, so it waits for a person. The
//! storage can know, because it can make sure that the node writes no more.
//!
//! Invariants
//! - Nothing is done to a node that renews its lease, nor to one of whose volumes a single one still hears it, nor to one of which an owner
//!   that lives does not say whether it does.
//! - A pod is let go only after every volume that it uses has been taken from its node, and the node is marked only after all of its
//!   volumes have: what may still run there writes to none of them. A volume that nobody can open holds back the pods that use it, and no
//!   others.
//! - Every round looks anew, and fences what is attached to the node in the cluster or in the orchestrator; what is kept says since when
//!   nodes and owners are silent, what is asked for again and when, and what was told. Every step may be repeated, be done by two processes
//!   at once, and be the last one of a process that is killed.
//! - When many nodes look lost at once it is more likely that this process is cut off: then nothing is done.
//!
//! Read next: `follow/judge.rs` (who is lost; pure), `follow/round.rs` (what is done), `follow/unfenced.rs`,
//! `docs/operating/kubernetes.md`.

mod judge;
mod round;
mod unfenced;

use std::time::Duration;

/// A worker node as the orchestrator sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Worker {
    /// Its name, which is that of the client its volumes are attached to.
    pub name: String,
    /// Changes with every sign of life that the orchestrator got of it; `None`: it has never given one.
    pub beat: Option<String>,
    /// Whether the orchestrator believes it to be ready.
    pub ready: bool,
    /// Whether it is marked as being out of service.
    pub mark: Mark,
}

/// The mark of a node that is out of service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mark {
    /// There is none.
    #[default]
    None,
    /// This driver has set it.
    Ours,
    /// Somebody else has set it, and it is his to remove.
    Others,
}

/// What the orchestrator has on a node that concerns this driver.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// This driver's volume attachments.
    pub attachments: Vec<Attachment>,
    /// Pods that use volumes of them.
    pub pods: Vec<Pod>,
    /// Volume attachments of other drivers: nothing is known of what they may still write.
    pub foreign: usize,
}

impl Load {
    /// Whether one of the pods uses a volume, or may: where a handle is not known any volume may be meant.
    pub(crate) fn uses(&self, volume: Option<&str>) -> bool {
        let same = |used: &Option<String>| match (used, volume) {
            (Some(used), Some(volume)) => used == volume,
            _ => true,
        };
        self.pods.iter().any(|pod| pod.volumes.iter().any(same))
    }
}

/// A volume attachment of this driver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// Its name.
    pub name: String,
    /// Handle of its volume; `None`: the orchestrator does not say.
    pub volume: Option<String>,
}

/// One pod, and no later one of its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its id.
    pub uid: String,
    /// Handles of the attached volumes of this driver that it uses; `None` for one of which the orchestrator does not say.
    pub volumes: Vec<Option<String>>,
}

/// Why the orchestrator did not do what it was asked. To repeat it is safe, and the next round does.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unanswered(pub String);

/// An orchestrator of pods. Its calls may block for a few seconds, and may be repeated.
pub trait Orchestrator: Send + 'static {
    /// All worker nodes.
    ///
    /// # Errors
    /// [`Unanswered`], like all of them.
    fn workers(&self) -> Result<Vec<Worker>, Unanswered>;

    /// What it has on a node, read from the orchestrator's own store and not from a copy of it.
    ///
    /// # Errors
    /// [`Unanswered`]
    fn load(&self, worker: &str) -> Result<Load, Unanswered>;

    /// Marks a node as being out of service, or takes this driver's mark away; nobody else's mark is touched. Whether that changed
    /// anything.
    ///
    /// # Errors
    /// [`Unanswered`]
    fn mark(&self, worker: &str, out_of_service: bool) -> Result<bool, Unanswered>;

    /// Lets go of a pod at once, without the word of its node.
    ///
    /// # Errors
    /// [`Unanswered`]
    fn release(&self, pod: &Pod) -> Result<(), Unanswered>;

    /// Lets go of a volume attachment: the orchestrator then asks the driver to take it away.
    ///
    /// # Errors
    /// [`Unanswered`]
    fn detach(&self, attachment: &str) -> Result<(), Unanswered>;

    /// Tells people who look at the node.
    fn tell(&self, worker: &str, reason: &str, message: &str);
}

/// When a node counts as lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FollowOptions {
    /// How long it has given the orchestrator no sign of life.
    pub lost_after: Duration,
    /// How long the owner of each of its volumes has not heard it. A client that lives is heard every five seconds.
    pub silent_after: Duration,
    /// How long a marked node must be ready and heard again before its mark is removed.
    pub return_after: Duration,
    /// Pause between two rounds.
    pub pause: Duration,
}

impl Default for FollowOptions {
    fn default() -> Self {
        Self {
            lost_after: Duration::from_secs(25),
            silent_after: Duration::from_secs(15),
            return_after: Duration::from_secs(30),
            pause: Duration::from_secs(2),
        }
    }
}

/// Shortest [`FollowOptions::silent_after`]: two signs of life of a client that has nothing to do, and some time to be late.
pub const SILENT_AFTER_MIN: Duration = Duration::from_secs(11);

/// Follows until the process ends. Blocks.
pub fn follow(
    api: crate::ApiOptions,
    orchestrator: &dyn Orchestrator,
    options: FollowOptions,
) -> ! {
    let cluster = crate::cluster::Cluster::new(api);
    let mut rounds = round::Rounds::new(&cluster, orchestrator, options);
    loop {
        rounds.play();
        std::thread::sleep(options.pause);
    }
}
