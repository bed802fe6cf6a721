//! Tunables of a volume, with the arithmetic behind each default.

use world::Duration;

/// How a volume behaves. One value for all volumes of a node.
#[derive(Clone, Debug)]
pub struct Options {
    /// A slow replica: another one has acknowledged, this one has not for so long.
    pub ack_overdue: Duration,
    /// A dead replica, although the others are as slow.
    pub ack_lost: Duration,
    /// T of architecture 3.4: how long a replica's word that it promised nothing higher is good for reads.
    pub read_confirmation: Duration,
    /// Added to T before a new owner's first acknowledgement, for clocks that run at different rates.
    pub drift_allowance: Duration,
    /// How long recovery waits for replicas that do not answer before it decides without them.
    pub recovery_patience: Duration,
    /// How long recovery waits for a replica whose machine lives before it leaves the volume to a node that reaches it.
    pub reach_patience: Duration,
    /// Bytes of undrained data at which draining starts. Larger coalesces more overwrites and makes map
    /// checkpoints rarer: one checkpoint of random writes rewrites most leaves it touches.
    pub drain_bytes: u64,
    /// Bytes of undrained data at which writers wait. Also bounds what a takeover replays.
    pub undrained_bytes_max: u64,
    /// Bytes of undrained data of all volumes of the node. Half of it is for a single volume, see `room.rs`.
    pub undrained_node_bytes_max: u64,
    /// A log that has been quiet for so long is drained even when it is small.
    pub drain_idle: Duration,
    /// Runs of at least so many bytes bypass the journal.
    pub bypass_bytes: usize,
    /// Bound of one append message.
    pub append_bytes_max: usize,
    /// Bound of appends in flight to replicas; with 1 MiB messages four keep a 10 Gbit/s link busy over 3 ms.
    pub inflight_bytes_max: usize,
    /// How long a write waits for garbage to be collected before it fails for want of space, while a store stays full
    /// without a break: less than the 30 s after which block layers give up.
    pub space_patience: Duration,
    /// Drains between two refreshes of the catalog's root while the volume stays busy.
    pub publish_every: u32,
    /// After so long with fewer replicas than wanted the owner tries to get back to full width.
    pub widen_after: Duration,
    /// Whether owners note on the replicas of a log what it is, so that the catalog can be made anew from the disks. One more
    /// call before a segment is opened and before a log is trimmed. Off where nothing is told.
    pub describe_logs: bool,
    /// How a replica is given up and bugs are planted; all off outside the simulator.
    pub faults: Faults,
    /// Who is told of acknowledgements.
    #[cfg(feature = "bugs")]
    pub witness: Option<Witness>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            ack_overdue: Duration::from_millis(250),
            ack_lost: Duration::from_millis(2000),
            read_confirmation: Duration::from_secs(2),
            drift_allowance: Duration::from_millis(200),
            recovery_patience: Duration::from_secs(10),
            reach_patience: Duration::from_secs(2),
            drain_bytes: 128 << 20,
            undrained_bytes_max: 256 << 20,
            undrained_node_bytes_max: 1 << 30,
            drain_idle: Duration::from_secs(2),
            bypass_bytes: 256 << 10,
            append_bytes_max: 1 << 20,
            inflight_bytes_max: 4 << 20,
            space_patience: Duration::from_secs(25),
            publish_every: 2,
            widen_after: Duration::from_secs(2),
            describe_logs: false,
            faults: Faults::default(),
            #[cfg(feature = "bugs")]
            witness: None,
        }
    }
}

/// Is told what a volume relies on, at that moment, for the simulator's checks.
#[cfg(feature = "bugs")]
pub trait Watch {
    /// A flush or a durable write is acknowledged: everything up to the position survives a loss of power on every replica.
    fn on_durable(&self, volume: vocab::VolumeId, epoch: vocab::Epoch, position: vocab::Position);

    /// The log is let go of up to the position of a root that a takeover finds.
    fn on_trim(&self, volume: vocab::VolumeId, epoch: vocab::Epoch, root: vocab::Position);

    /// The volume is taken over in this term, and its log is read next. Called on the volume's behalf.
    fn on_taken(&self, volume: vocab::VolumeId, epoch: vocab::Epoch);
}

/// Who watches.
#[cfg(feature = "bugs")]
#[derive(Clone)]
pub struct Witness(pub std::rc::Rc<dyn Watch>);

#[cfg(feature = "bugs")]
impl std::fmt::Debug for Witness {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Witness")
    }
}

/// Deliberate bugs, which the simulator must catch. The enum is empty outside of builds with the feature
/// `bugs`, so that no such bug can be switched on in a product.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    #[cfg(feature = "bugs")]
    /// The planted bug.
    pub bug: Option<Bug>,
}

/// One deliberate bug.
#[cfg(feature = "bugs")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// A takeover does not fence the log replicas.
    SkipFence,
    /// A write is acknowledged when the first replica has it.
    AckFirstReplica,
    /// A flush does not ask the replicas.
    DropFlush,
    /// A new owner does not wait for the old one's read confirmations to run out.
    SkipTakeoverWait,
    /// Reads do not check the replicas' confirmations.
    SkipReadConfirmation,
    /// The log is trimmed before the checkpoint is flushed.
    TrimBeforeCheckpoint,
    /// Extents are not flushed before the map refers to them for good.
    SkipExtentFlush,
    /// Extent counters start over after a takeover in the same epoch number.
    ReuseExtentId,
    /// Draining coalesces across a snapshot's barrier.
    DrainAcrossBarrier,
    /// Recovery picks the shortest replica.
    RecoverShortest,
    /// Writes of an open segment are acknowledged before the catalog knows it.
    UnregisteredSegment,
    /// Unmaps in the overlay are lost by a drain.
    ForgetUnmap,
    /// References to extents that never became durable are believed in recovery.
    BelieveReferences,
    /// Records that were never acknowledged are left out of a segment change.
    DropInflight,
    /// A write changes pages in memory that snapshots and clones share.
    SharePages,
    /// A flush asks the first replica only.
    FlushFirstReplica,
    /// A write that is to be durable is acknowledged when it is committed.
    AckBeforeFlush,
    /// Writers do not wait while too much is undrained.
    NeverThrottle,
}

impl Faults {
    /// Whether the bug is planted.
    #[cfg(feature = "bugs")]
    #[must_use]
    pub fn has(self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }
}

/// Whether a deliberate bug is planted: constant false without the feature.
#[cfg(feature = "bugs")]
macro_rules! bug {
    ($options:expr, $name:ident) => {
        $options.faults.has($crate::options::Bug::$name)
    };
}

/// Whether a deliberate bug is planted: constant false without the feature.
#[cfg(not(feature = "bugs"))]
macro_rules! bug {
    ($options:expr, $name:ident) => {{
        let _ = &$options.faults;
        false
    }};
}

pub(crate) use bug;
