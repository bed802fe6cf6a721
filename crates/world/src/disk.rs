//! A raw disk or a preallocated file, opened for direct I/O.

use crate::LocalBoxFuture;
use bytes::Bytes;

/// Why a disk operation failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DiskError {
    /// The device reported an error. After a failed write or flush the disk must be treated as failed.
    #[error("disk {operation} at byte {offset} failed: {reason}")]
    Io {
        /// `read`, `write` or `flush`.
        operation: &'static str,
        /// First byte of the operation.
        offset: u64,
        /// The operating system's words.
        reason: String,
    },
    /// Offset or length is not a multiple of the page size, or lies outside the device. A bug.
    #[error("disk access at byte {offset}, {len} bytes, is misaligned or outside of the device")]
    OutOfBounds {
        /// First byte of the operation.
        offset: u64,
        /// Bytes asked for.
        len: usize,
    },
    /// The device is gone, or the node is stopping.
    #[error("disk is gone")]
    Gone,
}

/// A block device. All offsets and lengths are multiples of [`crate::PAGE`] bytes.
///
/// Durability: a finished write is on the device (not in the page cache) but survives a power loss only
/// once a flush that was *submitted after the write finished* has succeeded. Concurrent operations are
/// unordered; a torn write may leave any subset of its 512-byte sectors.
pub trait Disk {
    /// Size in bytes, a multiple of [`crate::PAGE`].
    fn size(&self) -> u64;

    /// Reads exactly `len` bytes at `offset`.
    fn read(&self, offset: u64, len: usize) -> LocalBoxFuture<'static, Result<Bytes, DiskError>>;

    /// Writes `data` at `offset`. Memory from [`crate::Buf`] avoids a copy.
    fn write(&self, offset: u64, data: Bytes) -> LocalBoxFuture<'static, Result<(), DiskError>>;

    /// Makes every write that finished before the call durable. A failed flush must never be retried
    /// and then believed: the device may have dropped the data.
    fn flush(&self) -> LocalBoxFuture<'static, Result<(), DiskError>>;
}
