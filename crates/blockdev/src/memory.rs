//! A device in memory: the oracle of tests and the ceiling of benchmarks.

use crate::{Allocation, BlockDevice, BlockError, BlockFuture, WriteMode, check_range};
use bytes::Bytes;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use vocab::{BLOCK_SIZE, ByteCount, Lba};

/// Blocks of memory, thin: what was never written costs nothing and reads as zeros.
#[derive(Clone)]
pub struct MemoryDevice {
    size: ByteCount,
    blocks: Rc<RefCell<BTreeMap<u64, Bytes>>>,
}

static ZEROS: [u8; BLOCK_SIZE] = [0; BLOCK_SIZE];

impl MemoryDevice {
    /// An empty device of `size`, rounded down to whole blocks.
    #[must_use]
    pub fn new(size: ByteCount) -> Self {
        Self {
            size: ByteCount(size.blocks() * BLOCK_SIZE as u64),
            blocks: Rc::default(),
        }
    }
}

/// Done at the first poll, as the trait demands.
fn done<T: 'static>(work: impl FnOnce() -> Result<T, BlockError> + 'static) -> BlockFuture<T> {
    Box::pin(async move { work() })
}

impl BlockDevice for MemoryDevice {
    fn size(&self) -> ByteCount {
        self.size
    }

    fn read_only(&self) -> bool {
        false
    }

    fn read(&self, lba: Lba, blocks: u32) -> BlockFuture<Vec<Bytes>> {
        let (size, stored) = (self.size, self.blocks.clone());
        done(move || {
            check_range(lba, u64::from(blocks), size)?;
            let stored = stored.borrow();
            let block = |index| {
                stored
                    .get(&index)
                    .cloned()
                    .unwrap_or(Bytes::from_static(&ZEROS))
            };
            Ok((lba.0..lba.0 + u64::from(blocks)).map(block).collect())
        })
    }

    fn write(&self, lba: Lba, data: Vec<Bytes>, _mode: WriteMode) -> BlockFuture<()> {
        let (size, stored) = (self.size, self.blocks.clone());
        done(move || {
            let blocks = data.iter().map(Bytes::len).sum::<usize>() / BLOCK_SIZE;
            check_range(lba, blocks as u64, size)?;
            let mut stored = stored.borrow_mut();
            let mut at = lba.0;
            for piece in data {
                for offset in (0..piece.len()).step_by(BLOCK_SIZE) {
                    stored.insert(at, piece.slice(offset..offset + BLOCK_SIZE));
                    at += 1;
                }
            }
            Ok(())
        })
    }

    fn flush(&self) -> BlockFuture<()> {
        done(|| Ok(()))
    }

    fn unmap(&self, lba: Lba, blocks: u64) -> BlockFuture<()> {
        let (size, stored) = (self.size, self.blocks.clone());
        done(move || {
            check_range(lba, blocks, size)?;
            let mut stored = stored.borrow_mut();
            let doomed: Vec<u64> = stored
                .range(lba.0..lba.0 + blocks)
                .map(|(at, _)| *at)
                .collect();
            for at in doomed {
                stored.remove(&at);
            }
            Ok(())
        })
    }

    fn allocation(&self, lba: Lba, blocks: u64) -> BlockFuture<Vec<Allocation>> {
        let (size, stored) = (self.size, self.blocks.clone());
        done(move || {
            check_range(lba, blocks, size)?;
            let stored = stored.borrow();
            let mut runs: Vec<Allocation> = Vec::new();
            let mut at = lba.0;
            for (&mapped, _) in stored.range(lba.0..lba.0 + blocks) {
                if mapped > at {
                    runs.push(Allocation {
                        blocks: mapped - at,
                        mapped: false,
                    });
                }
                match runs.last_mut() {
                    Some(run) if run.mapped && mapped == at => run.blocks += 1,
                    _ => runs.push(Allocation {
                        blocks: 1,
                        mapped: true,
                    }),
                }
                at = mapped + 1;
            }
            if at < lba.0 + blocks {
                runs.push(Allocation {
                    blocks: lba.0 + blocks - at,
                    mapped: false,
                });
            }
            Ok(runs)
        })
    }
}
