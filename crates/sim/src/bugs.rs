//! Deliberate bugs and within how many seeds the simulator finds each: the proof that its checks bite.

use curator::Limits;

/// A deliberate bug, by where it is planted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Planted {
    /// In volumes.
    Volume(volume::Bug),
    /// In stores.
    Store(store::Bug),
    /// In placement groups.
    Group(group::Bug),
    /// In nodes.
    Node(node::Bug),
    /// The plan forgets who leaves a group.
    PlanForgetsFormer,
    /// The plan ignores in which racks nodes are.
    PlanIgnoresRacks,
    /// Collection ignores what is in flight.
    CollectInFlight,
    /// Collection ignores snapshots.
    CollectSnapshots,
}

impl Planted {
    /// Its name on the command line.
    #[must_use]
    pub fn name(self) -> String {
        match self {
            Self::Volume(bug) => format!("volume-{bug:?}"),
            Self::Store(bug) => format!("store-{bug:?}"),
            Self::Group(bug) => format!("group-{bug:?}"),
            Self::Node(bug) => format!("node-{bug:?}"),
            Self::PlanForgetsFormer => "plan-forgets-former".to_owned(),
            Self::PlanIgnoresRacks => "plan-ignores-racks".to_owned(),
            Self::CollectInFlight => "collect-in-flight".to_owned(),
            Self::CollectSnapshots => "collect-snapshots".to_owned(),
        }
    }

    /// Whether it was planted before there were operators and a catalog with a temper.
    pub(crate) fn is_early(self) -> bool {
        let late = [
            Self::Node(node::Bug::ForgetProcess),
            Self::Node(node::Bug::IgnoreLevel),
            Self::Volume(volume::Bug::BelieveReferences),
            Self::Store(store::Bug::AcceptStaleGeneration),
        ];
        !late.contains(&self) && !self.is_newest()
    }

    /// Whether it was planted when openings had turns, nodes racks, and some volumes were deadly.
    pub(crate) fn is_newest(self) -> bool {
        NEWEST.contains(&self)
    }

    pub(crate) fn plant(self, host: &mut node::HostOptions) {
        match self {
            Self::Volume(bug) => host.volume.faults.bug = Some(bug),
            Self::Store(bug) => {
                host.store.faults.bug = Some(bug);
                if bug == store::Bug::SkipReadChecksum {
                    host.pool.bug = Some(group::Bug::BelieveMembers);
                }
                if bug == store::Bug::SkipReserve {
                    // Protection would keep the pool from ever needing what is missing.
                    host.space.protect_percent = u64::MAX;
                }
            }
            Self::Group(bug) => host.pool.bug = Some(bug),
            Self::Node(bug) => host.faults.bug = Some(bug),
            Self::PlanForgetsFormer => host.placement.forget_former = true,
            Self::PlanIgnoresRacks => host.placement.ignore_labels = true,
            Self::CollectInFlight | Self::CollectSnapshots => {
                let snapshots = self == Self::CollectSnapshots;
                let limits = host.collect.limits;
                host.collect.limits = Limits {
                    ignore_floors: !snapshots,
                    ignore_snapshots: snapshots,
                    ..limits
                };
            }
        }
    }
}

/// Bugs whose runs have everything that runs without a bug have.
const NEWEST: [Planted; 9] = [
    Planted::Node(node::Bug::GiveUpServed),
    Planted::Node(node::Bug::OpenAllAtOnce),
    Planted::Node(node::Bug::ForgetAttempts),
    Planted::Node(node::Bug::OpenSuspectsTogether),
    Planted::Node(node::Bug::ForgetLastWords),
    Planted::Node(node::Bug::AnnounceCandidate),
    Planted::PlanIgnoresRacks,
    Planted::Node(node::Bug::IgnoreLogDomains),
    Planted::Node(node::Bug::OpenInOrder),
];

/// Each bug of [`PLANTED`] is found by one of the seeds from 1 to this.
pub const FOUND_WITHIN: u64 = 200;

/// Planted bugs, each with a seed that found it when this was last looked at (`cargo xtask sim calibrate`): it is played
/// first.
pub const PLANTED: &[(Planted, u64)] = &[
    (Planted::Volume(volume::Bug::AckFirstReplica), 2),
    (Planted::Volume(volume::Bug::ForgetUnmap), 1),
    (Planted::Volume(volume::Bug::DropFlush), 27),
    (Planted::Volume(volume::Bug::SkipReadConfirmation), 28),
    (Planted::Volume(volume::Bug::DropInflight), 4),
    (Planted::Volume(volume::Bug::UnregisteredSegment), 9),
    (Planted::Volume(volume::Bug::ReuseExtentId), 2),
    (Planted::Volume(volume::Bug::DrainAcrossBarrier), 5),
    (Planted::Volume(volume::Bug::SkipFence), 21),
    (Planted::Store(store::Bug::AcceptStaleEpoch), 8),
    (Planted::Store(store::Bug::SkipFlush), 5),
    (Planted::Volume(volume::Bug::SkipTakeoverWait), 8),
    (Planted::Volume(volume::Bug::SkipExtentFlush), 47),
    (Planted::Volume(volume::Bug::RecoverShortest), 55),
    (Planted::Store(store::Bug::ForgetPromise), 2),
    (Planted::Store(store::Bug::AckBeforeWrite), 5),
    (Planted::Store(store::Bug::SkipReadChecksum), 66),
    (Planted::Group(group::Bug::LeaveUnchecked), 47),
    (Planted::Group(group::Bug::LeaveWithTombstones), 14),
    (Planted::Group(group::Bug::FillInPart), 15),
    (Planted::Group(group::Bug::ForgetFormer), 20),
    (Planted::PlanForgetsFormer, 31),
    (Planted::CollectSnapshots, 5),
    (Planted::CollectInFlight, 2),
    (Planted::Node(node::Bug::KeepDetached), 5),
    (Planted::Node(node::Bug::KeepOlder), 5),
    (Planted::Node(node::Bug::AdmitAnyGeneration), 5),
    (Planted::Node(node::Bug::ForgetProcess), 99),
    (Planted::Node(node::Bug::IgnoreLevel), 1),
    (Planted::Store(store::Bug::IgnoreFlushError), 7),
    (Planted::Store(store::Bug::SkipReserve), 44),
    (Planted::Volume(volume::Bug::SharePages), 7),
    (Planted::Volume(volume::Bug::FlushFirstReplica), 2),
    (Planted::Volume(volume::Bug::AckBeforeFlush), 2),
    (Planted::Volume(volume::Bug::NeverThrottle), 7),
    (Planted::Store(store::Bug::LateCheckpoint), 8),
    (Planted::Group(group::Bug::ForgetMissing), 15),
    (Planted::Store(store::Bug::FlushedAsWritten), 3),
    (Planted::Volume(volume::Bug::TrimBeforeCheckpoint), 1),
    (Planted::Store(store::Bug::TrustAfterPowerLoss), 5),
    (Planted::Store(store::Bug::AcceptStaleGeneration), 19),
    (Planted::Node(node::Bug::GiveUpServed), 4),
    (Planted::Node(node::Bug::OpenAllAtOnce), 5),
    (Planted::Node(node::Bug::ForgetAttempts), 10),
    (Planted::Node(node::Bug::ForgetLastWords), 2),
    (Planted::Node(node::Bug::OpenSuspectsTogether), 183),
    (Planted::Node(node::Bug::AnnounceCandidate), 19),
    (Planted::PlanIgnoresRacks, 4),
    (Planted::Volume(volume::Bug::BelieveReferences), 47),
    (Planted::Node(node::Bug::IgnoreLogDomains), 55),
    (Planted::Node(node::Bug::OpenInOrder), 54),
];

/// Every bug that can be planted, caught reliably or not.
fn all() -> Vec<Planted> {
    use store::Bug as S;
    use volume::Bug as V;
    let volumes = [
        V::SkipFence,
        V::AckFirstReplica,
        V::DropFlush,
        V::SkipTakeoverWait,
        V::SkipReadConfirmation,
        V::TrimBeforeCheckpoint,
        V::SkipExtentFlush,
        V::ReuseExtentId,
        V::DrainAcrossBarrier,
        V::RecoverShortest,
        V::UnregisteredSegment,
        V::ForgetUnmap,
        V::BelieveReferences,
        V::DropInflight,
        V::SharePages,
        V::FlushFirstReplica,
        V::AckBeforeFlush,
        V::NeverThrottle,
    ];
    let stores = [
        S::ForgetPromise,
        S::AckBeforeWrite,
        S::SkipFlush,
        S::AcceptStaleEpoch,
        S::SkipReadChecksum,
        S::IgnoreFlushError,
        S::SkipReserve,
        S::TrustAfterPowerLoss,
        S::AcceptStaleGeneration,
        S::FlushedAsWritten,
        S::LateCheckpoint,
    ];
    let groups = [
        group::Bug::LeaveUnchecked,
        group::Bug::LeaveWithTombstones,
        group::Bug::FillInPart,
        group::Bug::ForgetFormer,
        group::Bug::ForgetMissing,
    ];
    let mut all: Vec<Planted> = volumes.into_iter().map(Planted::Volume).collect();
    all.extend(stores.into_iter().map(Planted::Store));
    all.extend(groups.into_iter().map(Planted::Group));
    let nodes = [
        node::Bug::KeepDetached,
        node::Bug::KeepOlder,
        node::Bug::AdmitAnyGeneration,
        node::Bug::ForgetProcess,
        node::Bug::IgnoreLevel,
    ];
    all.extend(nodes.into_iter().map(Planted::Node));
    all.extend([
        Planted::PlanForgetsFormer,
        Planted::CollectInFlight,
        Planted::CollectSnapshots,
    ]);
    all.extend(NEWEST);
    all
}

/// The bug of this name.
#[must_use]
pub fn planted(name: &str) -> Option<Planted> {
    all().into_iter().find(|planted| planted.name() == name)
}
