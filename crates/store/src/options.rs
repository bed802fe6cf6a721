//! Tunables of a store and, in test builds, deliberate bugs.

/// How a store behaves.
#[derive(Clone, Debug)]
pub struct Options {
    /// Boot id of the machine: another one means that it may have lost power.
    pub boot_id: [u8; 16],
    /// Memory for frame tables of extents, in bytes; 8 KiB per extent of raw data.
    pub header_cache_bytes: usize,
    /// Planted bugs; none outside the simulator.
    pub faults: Faults,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            boot_id: [0; 16],
            header_cache_bytes: 64 << 20,
            faults: Faults::default(),
        }
    }
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
    /// Promises are forgotten by a restart.
    ForgetPromise,
    /// Appends are acknowledged before they are written.
    AckBeforeWrite,
    /// Flushes do not reach the device.
    SkipFlush,
    /// What is on the device counts as flushed, whatever the owner asked for.
    FlushedAsWritten,
    /// Appends of older epochs are accepted.
    AcceptStaleEpoch,
    /// Accept an older generation of a group than the one promised.
    AcceptStaleGeneration,
    /// Extents are served without a look at their checksums, and readers trust them.
    SkipReadChecksum,
    /// A flush of the device that fails counts as done.
    IgnoreFlushError,
    /// New data may take the space that drains and rewrites need.
    SkipReserve,
    /// After a power loss tails are trusted.
    TrustAfterPowerLoss,
    /// The state is written only once the ring is full.
    LateCheckpoint,
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
