//! How a volume becomes a block device of this machine.
//!
//! The driver decides *when*; an [`Attach`] knows *how*. Whatever it is, the device must outlive the driver's
//! process and the cluster's: a workload's I/O waits, it does not fail, while either is away. So an implementation keeps
//! nothing that matters in this process, and tells what is there by looking.

use std::path::PathBuf;
use std::time::Instant;

/// A device to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Number of the volume: names the device on this machine.
    pub volume: u64,
    /// Name of the volume in the cluster.
    pub name: String,
    /// Name of the client that the attachment was given to.
    pub client: String,
    /// Generation of the attachment.
    pub generation: u64,
    /// Whether it may only be read.
    pub read_only: bool,
    /// Name of the cluster.
    pub cluster: String,
    /// Where the nodes of the cluster serve clients.
    pub nodes: Vec<String>,
    /// When nobody waits for it any more.
    pub deadline: Instant,
}

/// A device that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// The block device; absent while it is only being made, by an earlier request that lives or by one whose
    /// driver was killed.
    pub path: Option<PathBuf>,
    /// Generation of the attachment it uses.
    pub generation: u64,
    /// Whether writes are refused.
    pub read_only: bool,
    /// Whether whatever serves it lives. If not, the device fails all requests.
    pub alive: bool,
}

/// Why an implementation did not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum AttachRefusal {
    /// Somebody uses the device: it cannot be taken away.
    #[error("{0}")]
    InUse(String),
    /// The machine lacks something, and will until somebody provides it.
    #[error("{0}")]
    Impossible(String),
    /// Not now; worth another try.
    #[error("{0}")]
    Failed(String),
}

/// A way to make block devices of volumes. Its calls may block; it is called for one volume at a time, and for
/// several volumes at once.
pub trait Attach: Send + Sync + 'static {
    /// What StorageClass parameter `attach` calls it.
    fn name(&self) -> &'static str;

    /// The device of a volume; `None`: nothing of it is here.
    ///
    /// # Errors
    /// When it cannot be told.
    fn find(&self, volume: u64) -> Result<Option<Device>, AttachRefusal>;

    /// Makes the device. What a dead predecessor left behind is removed first.
    ///
    /// # Errors
    /// [`AttachRefusal`]; nothing is left behind then, or what the next call removes.
    fn attach(&self, wanted: &Wanted) -> Result<PathBuf, AttachRefusal>;

    /// Asks the device to follow the volume's size; it does so a little later.
    ///
    /// # Errors
    /// When it cannot be asked.
    fn refresh(&self, volume: u64) -> Result<(), AttachRefusal>;

    /// Makes everything durable and removes the device. Does nothing when there is none.
    ///
    /// # Errors
    /// [`AttachRefusal::InUse`]: nothing was changed.
    fn detach(&self, volume: u64) -> Result<(), AttachRefusal>;

    /// Bytes of memory that each attached volume keeps in use.
    fn memory_bytes(&self) -> u64;
}
