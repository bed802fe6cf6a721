//! Byte requests on a device of blocks, on the device's shard.
//!
//! Invariants
//! - A change of part of a block reads it, changes it and writes it while no other change of that block is
//!   under way: the rest of an acknowledged write is never undone.
//! - Changes of whole blocks wait for nobody but such partial ones.

use crate::backend::{Answer, Command, Request};
use blockdev::{BlockDevice, BlockError, WriteMode};
use bytes::Bytes;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::ops::Range;
use std::rc::Rc;
use vocab::{BLOCK_BYTES, BLOCK_SIZE, Lba};
use world::sync::Notify;
use world::{Buf, LocalBoxFuture};

/// A device and the changes under way on it.
pub struct Service {
    device: Rc<dyn BlockDevice>,
    changes: Changes,
}

impl Service {
    /// Serves `device`.
    #[must_use]
    pub fn new(device: Rc<dyn BlockDevice>) -> Self {
        Self {
            device,
            changes: Changes::default(),
        }
    }

    /// Does what `request` asks and answers it.
    #[must_use]
    pub fn handle(self: Rc<Self>, mut request: Request) -> LocalBoxFuture<'static, ()> {
        Box::pin(async move {
            let command = std::mem::replace(&mut request.command, Command::Describe);
            let answer = self.perform(command).await;
            request.answer(answer);
        })
    }

    async fn perform(&self, command: Command) -> Result<Answer, BlockError> {
        match command {
            Command::Read { offset, len } => self.read(offset, len).await.map(Answer::Data),
            Command::Write { offset, data } => {
                self.write(offset, data).await.map(|()| Answer::Done)
            }
            Command::Zero { offset, len } => self.zero(offset, len).await.map(|()| Answer::Done),
            Command::Flush => self.device.flush().await.map(|()| Answer::Done),
            Command::Describe => {
                self.look_beyond_the_end().await;
                Ok(Answer::Description {
                    size: self.device.size(),
                    read_only: self.device.read_only(),
                })
            }
        }
    }

    /// A remote device learns that it grew when a request does not fit: this is one. That it still does not fit, or that
    /// the owner is away, is no news.
    async fn look_beyond_the_end(&self) {
        let end = vocab::Lba(self.device.size().0 / vocab::BLOCK_BYTES);
        let _ = self.device.read(end, 1).await;
    }

    async fn read(&self, offset: u64, len: u64) -> Result<Vec<Bytes>, BlockError> {
        let len = len.min(self.device.size().0.saturating_sub(offset));
        if len == 0 {
            return Ok(Vec::new());
        }
        let blocks = blocks_of(offset, len)?;
        let count = u32::try_from(blocks.end - blocks.start).map_err(|_| self.outside(&blocks))?;
        let pieces = self.device.read(Lba(blocks.start), count).await?;
        let skip = offset - blocks.start * BLOCK_BYTES;
        Ok(trim(pieces, skip, len))
    }

    async fn write(&self, offset: u64, data: Bytes) -> Result<(), BlockError> {
        if data.is_empty() {
            return Ok(());
        }
        let blocks = blocks_of(offset, data.len() as u64)?;
        self.inside(&blocks)?;
        if is_whole(offset, data.len() as u64) {
            let _change = self.changes.begin(blocks.clone(), Extent::Whole).await;
            return self.put(blocks.start, data).await;
        }
        let _change = self.changes.begin(blocks.clone(), Extent::Partial).await;
        self.patch(blocks, offset, &data).await
    }

    async fn zero(&self, offset: u64, len: u64) -> Result<(), BlockError> {
        let len = len.min(self.device.size().0.saturating_sub(offset));
        if len == 0 {
            return Ok(());
        }
        let blocks = blocks_of(offset, len)?;
        if is_whole(offset, len) {
            let _change = self.changes.begin(blocks.clone(), Extent::Whole).await;
            let count = blocks.end - blocks.start;
            return self.device.unmap(Lba(blocks.start), count).await;
        }
        let _change = self.changes.begin(blocks.clone(), Extent::Partial).await;
        let end = offset + len;
        let whole = offset.next_multiple_of(BLOCK_BYTES)..end / BLOCK_BYTES * BLOCK_BYTES;
        if whole.start < whole.end {
            let first = Lba(whole.start / BLOCK_BYTES);
            let count = (whole.end - whole.start) / BLOCK_BYTES;
            self.device.unmap(first, count).await?;
        }
        let zeros = [0; BLOCK_SIZE];
        let head = offset..end.min(whole.start);
        let tail = whole.end.max(head.end)..end;
        for edge in [head, tail] {
            if edge.start < edge.end {
                let len = edge.end - edge.start;
                let bytes = usize::try_from(len).expect("an edge is shorter than a block");
                let blocks = blocks_of(edge.start, len)?;
                self.patch(blocks, edge.start, &zeros[..bytes]).await?;
            }
        }
        Ok(())
    }

    /// Writes bytes that begin or end within a block. The caller holds the change.
    async fn patch(&self, blocks: Range<u64>, offset: u64, data: &[u8]) -> Result<(), BlockError> {
        let count = usize::try_from(blocks.end - blocks.start).expect("data fits in memory");
        let mut buf = Buf::zeroed(count * BLOCK_SIZE);
        let skip = usize::try_from(offset - blocks.start * BLOCK_BYTES).expect("within a block");
        let end = skip + data.len();
        if skip > 0 {
            self.fetch(blocks.start, &mut buf[..BLOCK_SIZE]).await?;
        }
        let tail_is_partial = !end.is_multiple_of(BLOCK_SIZE);
        if tail_is_partial && (count > 1 || skip == 0) {
            let last = (count - 1) * BLOCK_SIZE;
            self.fetch(blocks.end - 1, &mut buf[last..]).await?;
        }
        buf[skip..end].copy_from_slice(data);
        self.put(blocks.start, buf.freeze()).await
    }

    async fn fetch(&self, block: u64, into: &mut [u8]) -> Result<(), BlockError> {
        let pieces = self.device.read(Lba(block), 1).await?;
        let mut at = 0;
        for piece in pieces {
            let end = (at + piece.len()).min(into.len());
            into[at..end].copy_from_slice(&piece[..end - at]);
            at = end;
        }
        Ok(())
    }

    async fn put(&self, block: u64, data: Bytes) -> Result<(), BlockError> {
        let mode = WriteMode::Buffered;
        self.device.write(Lba(block), vec![data], mode).await
    }

    fn inside(&self, blocks: &Range<u64>) -> Result<(), BlockError> {
        let count = blocks.end - blocks.start;
        blockdev::check_range(Lba(blocks.start), count, self.device.size())
    }

    fn outside(&self, blocks: &Range<u64>) -> BlockError {
        BlockError::OutOfRange {
            lba: Lba(blocks.start),
            blocks: blocks.end - blocks.start,
            size: self.device.size(),
        }
    }
}

/// The blocks that bytes `offset` to `offset + len` touch.
fn blocks_of(offset: u64, len: u64) -> Result<Range<u64>, BlockError> {
    let end = offset.checked_add(len);
    let end = end.ok_or_else(|| BlockError::Failed("a request beyond 2^64 bytes".to_owned()))?;
    Ok(offset / BLOCK_BYTES..end.div_ceil(BLOCK_BYTES))
}

fn is_whole(offset: u64, len: u64) -> bool {
    offset.is_multiple_of(BLOCK_BYTES) && len.is_multiple_of(BLOCK_BYTES)
}

/// `len` bytes of `pieces` after the first `skip`.
fn trim(pieces: Vec<Bytes>, skip: u64, len: u64) -> Vec<Bytes> {
    let mut skip = usize::try_from(skip).expect("within a block");
    let mut left = usize::try_from(len).expect("data fits in memory");
    let mut trimmed = Vec::with_capacity(pieces.len());
    for piece in pieces {
        let from = skip.min(piece.len());
        skip -= from;
        let to = (from + left).min(piece.len());
        left -= to - from;
        if from < to {
            trimmed.push(piece.slice(from..to));
        }
    }
    trimmed
}

type Begun = (Range<u64>, Extent);

#[derive(Clone, Copy, PartialEq)]
enum Extent {
    Whole,
    Partial,
}

/// Changes under way or waiting, by arrival. A change waits for earlier ones that touch its blocks when
/// either is partial: first come, first served, so nobody starves and nothing deadlocks.
#[derive(Default)]
struct Changes {
    begun: RefCell<BTreeMap<u64, Begun>>,
    next: Cell<u64>,
    ended: Notify,
}

struct Change<'a> {
    changes: &'a Changes,
    ticket: u64,
}

impl Changes {
    async fn begin(&self, blocks: Range<u64>, extent: Extent) -> Change<'_> {
        let ticket = self.next.get();
        self.next.set(ticket + 1);
        self.begun
            .borrow_mut()
            .insert(ticket, (blocks.clone(), extent));
        let change = Change {
            changes: self,
            ticket,
        };
        loop {
            let ended = self.ended.notified();
            let must_wait = self
                .begun
                .borrow()
                .range(..ticket)
                .any(|(_, (other, its))| {
                    let touches = other.start < blocks.end && blocks.start < other.end;
                    touches && (extent == Extent::Partial || *its == Extent::Partial)
                });
            if !must_wait {
                return change;
            }
            ended.await;
        }
    }
}

impl Drop for Change<'_> {
    fn drop(&mut self) {
        self.changes.begun.borrow_mut().remove(&self.ticket);
        self.changes.ended.notify_all();
    }
}

#[cfg(test)]
mod tests;
