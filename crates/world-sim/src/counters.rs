//! What actually happened in a run: a scenario whose faults never struck has tested nothing.

/// Counts of events and of every kind of fault.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Timers, disk completions, deliveries and scheduled calls.
    pub events: u64,
    /// Polls of tasks.
    pub polls: u64,
    /// Timers fired.
    pub timers: u64,
    /// Disk reads finished.
    pub disk_reads: u64,
    /// Disk writes finished.
    pub disk_writes: u64,
    /// Disk flushes finished.
    pub disk_flushes: u64,
    /// Reads, writes and flushes that failed.
    pub disk_errors: u64,
    /// Flushes that failed and gave up their data for good.
    pub flushes_lost: u64,
    /// Flushes that succeeded without effect.
    pub flushes_ignored: u64,
    /// Writes that succeeded without effect.
    pub writes_lost: u64,
    /// Writes that landed elsewhere.
    pub writes_misdirected: u64,
    /// Reads of the wrong page.
    pub reads_misdirected: u64,
    /// Writes dropped by their task that did not happen in full.
    pub writes_cancelled: u64,
    /// Writes in flight at a crash.
    pub writes_interrupted: u64,
    /// Pages left with a mixture of sectors.
    pub pages_torn: u64,
    /// Pages of unflushed data lost whole at a power loss.
    pub pages_lost: u64,
    /// Pages that rotted.
    pub pages_rotten: u64,
    /// Disks replaced, rolled back or swapped.
    pub disks_exchanged: u64,
    /// Connections made.
    pub connections: u64,
    /// Connection attempts that failed.
    pub connects_failed: u64,
    /// Pieces of byte streams delivered.
    pub deliveries: u64,
    /// Sides of connections that were reset.
    pub resets: u64,
    /// Times a stream waited for a blocked link.
    pub stalls: u64,
    /// Connections lost to the retransmission timeout.
    pub retransmit_timeouts: u64,
    /// Writes with a bit flipped on the way.
    pub corruptions: u64,
    /// Links cut, one way each.
    pub partitions: u64,
    /// Process crashes.
    pub crashes: u64,
    /// Power losses.
    pub power_losses: u64,
    /// Restarts.
    pub restarts: u64,
    /// Pauses.
    pub pauses: u64,
    /// Changes of a clock's rate or wall time.
    pub clock_faults: u64,
}
