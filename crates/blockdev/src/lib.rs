//! `BlockDevice`: what every frontend serves and every volume is.
//!
//! Invariants
//! - Addresses and lengths are whole 4 KiB blocks; frontends do the read-modify-write of smaller requests.
//! - A write that was acknowledged is seen by every later read. Durability comes with `flush` or `Fua`.
//! - Concurrent requests that overlap take effect in some order, each block wholly from one of them.

#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
mod memory;

pub use memory::MemoryDevice;

use bytes::Bytes;
use futures_util::future::LocalBoxFuture;
use vocab::{ByteCount, Lba};

/// Durability of one write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteMode {
    /// Durable after the next flush.
    Buffered,
    /// Durable when acknowledged (force unit access).
    Fua,
}

/// A run of blocks that are all mapped or all unmapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allocation {
    /// Length of the run.
    pub blocks: u64,
    /// Whether data is stored; unmapped blocks read as zeros.
    pub mapped: bool,
}

/// Why a request failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BlockError {
    /// Outside of the device, empty, or not a whole number of blocks. A retry fails again.
    #[error("{blocks} blocks at {lba} are not within the device's {size}")]
    OutOfRange {
        /// First block.
        lba: Lba,
        /// Blocks asked for.
        blocks: u64,
        /// The device's size.
        size: ByteCount,
    },
    /// The device may only be read.
    #[error("the device is read-only")]
    ReadOnly,
    /// The pool, the container's quota or too few healthy stores do not allow the write. Reads go on.
    #[error("no space: {0}")]
    NoSpace(String),
    /// This handle lost the device: detached, fenced or closed. Final for the handle.
    #[error("the device is gone: {0}")]
    Gone(String),
    /// The data cannot be read or written now. A retry is safe.
    #[error("I/O error: {0}")]
    Failed(String),
}

/// Result of a request.
pub type BlockFuture<T> = LocalBoxFuture<'static, Result<T, BlockError>>;

/// A virtual disk of 4 KiB blocks. All methods take effect only when their future is polled; dropping a
/// future leaves the request done or not done.
pub trait BlockDevice {
    /// Present size, a whole number of blocks. May grow.
    fn size(&self) -> ByteCount;

    /// Whether writes are refused.
    fn read_only(&self) -> bool;

    /// Reads `blocks` blocks, as pieces whose lengths add up to them.
    fn read(&self, lba: Lba, blocks: u32) -> BlockFuture<Vec<Bytes>>;

    /// Writes `data`, a whole number of blocks in pieces of whole blocks.
    fn write(&self, lba: Lba, data: Vec<Bytes>, mode: WriteMode) -> BlockFuture<()>;

    /// Makes everything acknowledged before the call durable.
    fn flush(&self) -> BlockFuture<()>;

    /// Blocks read as zeros afterwards and give their space back: trim and write-zeroes alike.
    fn unmap(&self, lba: Lba, blocks: u64) -> BlockFuture<()>;

    /// Which blocks are mapped, from `lba` on; may cover less than asked, but at least one block.
    fn allocation(&self, lba: Lba, blocks: u64) -> BlockFuture<Vec<Allocation>>;
}

/// Checks a request against the device's size.
///
/// # Errors
/// [`BlockError::OutOfRange`].
pub fn check_range(lba: Lba, blocks: u64, size: ByteCount) -> Result<(), BlockError> {
    let fits = blocks > 0
        && lba
            .0
            .checked_add(blocks)
            .is_some_and(|end| end <= size.blocks());
    if fits {
        Ok(())
    } else {
        Err(BlockError::OutOfRange { lba, blocks, size })
    }
}
