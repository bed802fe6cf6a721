//! How a node is started, and why it cannot be.

use crate::alerts::Courier;
use crate::disks::Bay;
use crate::meter::Process;
use crate::operations::{CatalogPlace, LogWindow, Signer};
use crate::upkeep::{EvenOptions, Keeper, Recording};
use crate::volumes::LastWords;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use vocab::{Level, Levels, StoreId};
use world::{Address, Disk, Duration};

/// Openings that work at the same time: each copies up to 256 MiB in pieces of 1 MiB, one after the other, so that so many have
/// 8 MiB under way, which fills a line of 10 Gbit/s with a round trip of 5 ms.
const OPENINGS_MAX: usize = 8;
/// As long as such an answer may take.
const PROBE_GOOD_FOR: Duration = Duration::from_millis(300);

/// How a node behaves.
#[derive(Clone, Debug)]
pub struct HostOptions {
    /// Name of the cluster: on every disk, in every greeting.
    pub cluster: String,
    /// Id of the cluster if this node is its first: to be drawn at random. A cluster that is there keeps its own.
    pub cluster_id: String,
    /// Unique name of this node.
    pub name: String,
    /// Where to serve nodes and clients.
    pub listen: Address,
    /// What to tell others, when it differs from the bound address.
    pub advertise: Option<Address>,
    /// Where to serve NBD; nowhere when absent.
    pub nbd_listen: Option<Address>,
    /// Where the API is served, for the catalog.
    pub api: Option<String>,
    /// Whether connections are encrypted and show who calls. New nodes wait until they are approved then.
    pub secured: bool,
    /// The authority's key, where it is.
    pub signer: Option<Rc<dyn Signer>>,
    /// Where the catalog is; nothing: no other process can reach it, and it does not move.
    pub catalog_place: Option<Rc<dyn CatalogPlace>>,
    /// The cluster's own etcd, if there may be one; nothing: members are not changed from here.
    pub keeper: Option<Rc<dyn Keeper>>,
    /// The disks of this machine; nothing: stores do not come and go while the node runs.
    pub bay: Option<Rc<dyn Bay>>,
    /// What the machine says of this process; nothing: it is not known.
    pub process: Option<Rc<dyn Process>>,
    /// Where figures are recorded; nothing: they are not. Off here: a product switches it on.
    pub recording: Option<Recording>,
    /// Stores that this node should have and whose disks cannot be used, with the reason.
    pub absent: BTreeMap<StoreId, String>,
    /// Labels of the enclosing failure domains, narrowest first (rack, zone).
    pub domains: Vec<String>,
    /// What the nodes of its release may say and write.
    pub levels: Levels,
    /// Time to live of the lease that says that this node lives; whole seconds.
    pub lease: Duration,
    /// How long another node must be without its lease before its volumes are taken over.
    pub suspicion: Duration,
    /// Volumes whose opening works at the same time, those that wait for stores not counted; `usize::MAX`: all, and what may have
    /// ended other nodes is not opened alone either.
    pub openings_max: usize,
    /// How long the answer of a machine that was asked whether an owner's process runs is good; zero: every volume asks for itself.
    pub probe_good_for: Duration,
    /// Volumes.
    pub volume: volume::Options,
    /// Stores.
    pub store: store::Options,
    /// Extents on the members of their groups.
    pub pool: group::PoolOptions,
    /// Journal of a store that is formatted at start; absent: the store's own rule.
    pub journal_bytes: Option<u64>,
    /// Placement groups per replication factor, at least.
    pub groups: u32,
    /// Memberships of each store in groups of one replication factor, at least.
    pub groups_per_store: u32,
    /// How long a store must be silent before its groups get other members.
    pub repair_delay: Duration,
    /// How many groups change members at a time.
    pub placement: curator::PlacementLimits,
    /// When the cluster stops taking new data.
    pub space: curator::SpaceLimits,
    /// Collection of garbage.
    pub collect: CollectOptions,
    /// Reading of copies that nobody asks for.
    pub scrub: ScrubOptions,
    /// Bound of decoded map pages in memory.
    pub pages_bytes: usize,
    /// How often a store that was written to draws a new session: disks that go back further than that are found out.
    pub session_interval: Duration,
    /// Pause between two looks at which volumes that nobody serves have a log with a copy on a lost store: all rows are read for it.
    pub lost_logs_interval: Duration,
    /// How long a gateway's request waits for an owner before it fails.
    pub patience: Duration,
    /// When a gateway doubts an owner that is silent, see `ClientOptions::doubt_after`.
    pub doubt_after: Duration,
    /// For the simulator.
    pub faults: Faults,
    /// For the simulator: a pass of fills keeps the order in which it began, whatever becomes more urgent meanwhile.
    pub fixed_fills: bool,
    /// Whether the disks are told of the catalog and of logs, so that a lost catalog can be made anew from them. Off here:
    /// a product switches it on.
    pub describe_disks: bool,
    /// Whether what happens is told in the catalog's log of events. Off here, as above.
    pub events: bool,
    /// Whether tasks tell of what takes time. Off here, as above.
    pub tasks: bool,
    /// How long a task is kept after its end.
    pub tasks_kept: Duration,
    /// Whether alerts are raised and resolved. Off here, as above.
    pub alerts: bool,
    /// Who brings alerts to those who shall hear of them; nothing: nobody.
    pub courier: Option<Rc<dyn Courier>>,
    /// The recent lines of this node's log; nothing: they are not kept.
    pub logs: Option<Arc<dyn LogWindow>>,
    /// How fills give way to clients; nothing: they do not. Off here, as above.
    pub pace: Option<curator::PaceOptions>,
    /// What ended the process that ran here before, if that was a panic on a volume's behalf.
    pub last_words: Option<LastWords>,
    /// Whether logs whose copies share a machine move to others as soon as there are some. Off here, as above.
    pub spread_logs: bool,
    /// When volumes go to nodes that serve few; nothing: they stay where they are. Off here, as above.
    pub even_owners: Option<EvenOptions>,
}

/// Deliberate bugs, which the simulator must catch; empty outside builds with the feature `bugs`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// The planted bug.
    #[cfg(feature = "bugs")]
    pub bug: Option<Bug>,
}

/// One deliberate bug.
#[cfg(feature = "bugs")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// A detach does not end sessions.
    KeepDetached,
    /// A newer session of a client does not end the older one.
    KeepOlder,
    /// Sessions of any attachment generation are let in.
    AdmitAnyGeneration,
    /// The newest process of an attached client is not noted for the owners to come.
    ForgetProcess,
    /// A node starts whatever the cluster's level is, and nobody who raises it counts a node that starts meanwhile.
    IgnoreLevel,
    /// A volume is given up in the catalog while it is served still.
    GiveUpServed,
    /// Openings have no bound.
    OpenAllAtOnce,
    /// Attempts to open a volume are not counted.
    ForgetAttempts,
    /// What may have ended a process is opened together with others, which are accused with it again.
    OpenSuspectsTogether,
    /// Nobody is told what ended the process before.
    ForgetLastWords,
    /// The stores of a candidate are announced.
    AnnounceCandidate,
    /// Copies of logs are kept apart by node, and it is ignored in which racks nodes are.
    IgnoreLogDomains,
    /// Openings have their turns in the order in which they came, those of attached volumes too.
    OpenInOrder,
}

/// Whether a deliberate bug is planted: constant false without the feature.
#[cfg(feature = "bugs")]
macro_rules! bug {
    ($faults:expr, $name:ident) => {
        $faults.bug == Some($crate::options::Bug::$name)
    };
}

/// Whether a deliberate bug is planted: constant false without the feature.
#[cfg(not(feature = "bugs"))]
macro_rules! bug {
    ($faults:expr, $name:ident) => {{
        let _ = &$faults;
        false
    }};
}

pub(crate) use bug;

impl HostOptions {
    /// Options for a node of this cluster and name that serves at `listen`, everything else by default. The cluster's id
    /// would be its name: one that others can confuse needs another.
    #[must_use]
    pub fn new(cluster: &str, name: &str, listen: Address) -> Self {
        Self {
            cluster: cluster.to_owned(),
            cluster_id: cluster.to_owned(),
            name: name.to_owned(),
            listen,
            advertise: None,
            nbd_listen: None,
            api: None,
            secured: false,
            signer: None,
            catalog_place: None,
            keeper: None,
            bay: None,
            process: None,
            recording: None,
            absent: BTreeMap::new(),
            domains: Vec::new(),
            levels: Levels::OWN,
            lease: Duration::from_secs(2),
            suspicion: Duration::from_secs(1),
            openings_max: OPENINGS_MAX,
            probe_good_for: PROBE_GOOD_FOR,
            volume: volume::Options::default(),
            store: store::Options::default(),
            pool: group::PoolOptions::default(),
            journal_bytes: None,
            groups: 64,
            groups_per_store: 32,
            repair_delay: Duration::from_secs(15),
            placement: curator::PlacementLimits::default(),
            space: curator::SpaceLimits::default(),
            collect: CollectOptions::default(),
            scrub: ScrubOptions::default(),
            pages_bytes: 64 << 20,
            session_interval: Duration::from_secs(30),
            lost_logs_interval: Duration::from_secs(60),
            patience: Duration::from_secs(600),
            doubt_after: client::DOUBT_AFTER,
            faults: Faults::default(),
            fixed_fills: false,
            describe_disks: false,
            events: false,
            tasks: false,
            tasks_kept: Duration::from_secs(7 * 24 * 3600),
            alerts: false,
            courier: None,
            logs: None,
            pace: None,
            last_words: None,
            spread_logs: false,
            even_owners: None,
        }
    }
}

impl HostOptions {
    /// How many groups of this many copies so many stores should have.
    #[must_use]
    pub fn groups_for(&self, stores: usize, copies: u8) -> u32 {
        catalog::wanted_groups(self.groups, self.groups_per_store, stores, copies)
    }
}

/// When garbage is collected.
#[derive(Clone, Debug)]
pub struct CollectOptions {
    /// Pause between two looks for lineages that changed.
    pub interval: Duration,
    /// Share of the time that collecting may take, in percent: 10 means nine times as long a pause after
    /// each collection as it took.
    pub duty_percent: u32,
    /// Bounds of one collection.
    pub limits: curator::Limits,
}

impl Default for CollectOptions {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(30),
            duty_percent: 10,
            limits: curator::Limits::default(),
        }
    }
}

/// How often, and how fast, every copy is read.
#[derive(Clone, Copy, Debug)]
pub struct ScrubOptions {
    /// From the beginning of one round over a store to that of the next, at least.
    pub interval: Duration,
    /// Bytes read per second of each store.
    pub bytes_per_second: u64,
}

impl Default for ScrubOptions {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(7 * 24 * 3600),
            bytes_per_second: 8 << 20,
        }
    }
}

/// A store to run: all of its disks.
#[derive(Clone)]
pub struct StoreSpec {
    /// The id that blank disks are formatted with; absent: a new one from the catalog. Disks that replace lost
    /// ones get the id of the store they belonged to, and are filled again from its groups.
    pub id: Option<StoreId>,
    /// The disks. Blank ones are formatted.
    pub disks: Vec<Rc<dyn Disk>>,
}

/// Version of this release.
pub const RELEASE: &str = env!("CARGO_PKG_VERSION");

/// Why a node does not start.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// The catalog failed.
    #[error("the catalog cannot be used: {0}")]
    Catalog(#[from] catalog::CatalogError),
    /// The catalog belongs to another cluster.
    #[error(
        "the catalog belongs to cluster {found}, this node to {expected}: check the catalog's address and \
         the cluster's name in the configuration"
    )]
    WrongCluster {
        /// In the catalog.
        found: String,
        /// In the configuration.
        expected: String,
    },
    /// The cluster is of another release.
    #[error(
        "the cluster is at level {level}, and release {RELEASE} knows level {levels}: run the release that ran here, or, if \
         this one is newer, one between them first (docs/operating/upgrades.md)"
    )]
    Level {
        /// The cluster's.
        level: Level,
        /// What this release knows.
        levels: Levels,
    },
    /// The catalog is older than what the disks of this node were told.
    #[error(
        "the catalog (made anew {era} times, revision {found}) is older than what store {} was told of it (made anew {told_era} \
         times, revision {told}): it is empty, or an old copy. Bring back the right one, or stop all \
         nodes and make it anew from the disks (`azekura catalog rebuild`)",
        store.0
    )]
    CatalogBehind {
        /// A store of this node.
        store: StoreId,
        /// How often the catalog had been made anew when the store was told of it last.
        told_era: u64,
        /// Its revision then.
        told: u64,
        /// How often the catalog that is there was made anew.
        era: u64,
        /// Its revision.
        found: u64,
    },
    /// The catalog is somewhere else now.
    #[error("the catalog has moved to {to}: put that into [catalog] of the configuration")]
    Moved {
        /// Where.
        to: String,
    },
    /// A node of this name runs.
    #[error(
        "a node named {name} is running already: stop it, or give this one another name (after a crash its \
         lease ends within seconds)"
    )]
    NameInUse {
        /// The name.
        name: String,
    },
    /// An address cannot be listened on.
    #[error("{0}: is another process using it?")]
    Listen(#[from] world::NetError),
    /// The disks of a store cannot be used.
    #[error("store {index} of the configuration cannot be opened: {reason}")]
    Store {
        /// Which, counted from 1.
        index: usize,
        /// Why.
        reason: String,
    },
    /// A store of the configuration has disks that cannot be used, and the catalog does not know it as this node's.
    #[error("store {} of the configuration cannot be opened: {reason}", id.0)]
    StoreAbsent {
        /// Which.
        id: StoreId,
        /// Why.
        reason: String,
    },
    /// The catalog took too long.
    #[error("the catalog does not answer: is it running, and is its address right?")]
    CatalogSilent,
}
