//! `RemoteDevice`: the engine as a `BlockDevice`. Checks, cuts and joins requests.

use crate::engine::{Command, Engine, Running, backoff};
use crate::find::{Finder, Setback};
use crate::{ClientError, ClientOptions};
use blockdev::{Allocation, BlockDevice, BlockError, BlockFuture, WriteMode, check_range};
use bytes::Bytes;
use futures_util::future::join_all;
use std::rc::Rc;
use vocab::{BLOCK_SIZE, ByteCount, Lba};
use wire::{NodeReply, VolumeInfo};
use world::{Duration, World};

/// Largest read or write on the wire: small enough to share a connection with others.
const REQUEST_BLOCKS_MAX: u64 = (1 << 20) / BLOCK_SIZE as u64;

/// A volume over the network. Cheap to clone; the session ends when the last clone and the last request
/// are dropped.
#[derive(Clone)]
pub struct RemoteDevice(Rc<Guard>);

struct Guard(Rc<Engine>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.set_gone("closed");
    }
}

impl RemoteDevice {
    /// Finds the volume's owner and opens a session, trying for as long as `patience`.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn open(world: World, options: ClientOptions) -> Result<Self, ClientError> {
        let patience = options.patience;
        Self::open_within(world, options, patience).await
    }

    /// As [`Self::open`], with another patience than requests will have. An attempt that has begun is finished: up to 8 s more.
    ///
    /// # Errors
    /// As there.
    pub async fn open_within(
        world: World,
        options: ClientOptions,
        patience: Duration,
    ) -> Result<Self, ClientError> {
        let mut finder = Finder::new(world.clone(), options.clone());
        let deadline = world.now() + patience;
        let volume = || options.volume.clone();
        let mut failures = 0;
        let (session, info) = loop {
            let reason = match finder.attempt(failures).await {
                Ok(found) => break found,
                Err(Setback::NoVolume) => return Err(ClientError::NoVolume { name: volume() }),
                Err(Setback::Detached(reason) | Setback::Refused(reason)) => {
                    let volume = volume();
                    return Err(ClientError::Refused { volume, reason });
                }
                Err(Setback::Later(reason)) => reason,
            };
            if world.now() >= deadline {
                let volume = volume();
                return Err(ClientError::Unavailable { volume, reason });
            }
            failures += 1;
            if let Some(pause) = backoff(&world, failures) {
                let wake = (world.now() + pause).min(deadline);
                world.clock.sleep_until(wake).await;
            }
        };
        let engine = Engine::start(world, options, finder, session, info);
        Ok(Self(Rc::new(Guard(engine))))
    }

    /// What the owner said last.
    #[must_use]
    pub fn info(&self) -> VolumeInfo {
        self.0.0.info()
    }

    /// Asks the owner for the present size and state.
    ///
    /// # Errors
    /// As a read; a retry is safe.
    pub async fn refresh(&self) -> Result<VolumeInfo, BlockError> {
        let running = self.0.0.admit(Command::Refresh, Vec::new())?;
        match running.await? {
            (NodeReply::Opened { info, .. }, _) => {
                self.0.0.set_info(info.clone());
                Ok(info)
            }
            _ => Err(unexpected()),
        }
    }

    /// Ends the session; requests under way and later ones fail with [`BlockError::Gone`]. Waits for the owner's
    /// answer for at most 2 s.
    pub async fn close(&self) {
        self.0.0.close().await;
    }

    /// Checks a request against the size, asking for the present one when it does not fit.
    async fn check(&self, lba: Lba, blocks: u64) -> Result<(), BlockError> {
        if check_range(lba, blocks, self.size()).is_ok() {
            return Ok(());
        }
        if blocks > 0 {
            self.refresh().await?;
        }
        check_range(lba, blocks, self.size())
    }

    fn check_writable(&self) -> Result<(), BlockError> {
        if self.read_only() {
            return Err(BlockError::ReadOnly);
        }
        Ok(())
    }

    async fn read_blocks(&self, lba: Lba, blocks: u32) -> Result<Vec<Bytes>, BlockError> {
        self.check(lba, u64::from(blocks)).await?;
        let mut parts = Vec::with_capacity(1);
        for part in cut(lba, u64::from(blocks)) {
            let blocks = u32::try_from(part.1).expect("at most REQUEST_BLOCKS_MAX");
            let command = Command::Read {
                lba: part.0,
                blocks,
            };
            parts.push((blocks, self.0.0.admit(command, Vec::new())?));
        }
        let mut data = Vec::with_capacity(parts.len());
        for (blocks, running) in parts {
            let (_, body) = running.await?;
            if body.len() != blocks as usize * BLOCK_SIZE {
                let reason = format!("the owner sent {} bytes for {blocks} blocks", body.len());
                return Err(BlockError::Failed(reason));
            }
            data.push(body);
        }
        Ok(data)
    }

    async fn write_blocks(
        &self,
        lba: Lba,
        mut data: Vec<Bytes>,
        mode: WriteMode,
    ) -> Result<(), BlockError> {
        self.check_writable()?;
        let bytes = data.iter().map(Bytes::len).sum::<usize>();
        let blocks = bytes.div_ceil(BLOCK_SIZE) as u64;
        if !bytes.is_multiple_of(BLOCK_SIZE) {
            let size = self.size();
            return Err(BlockError::OutOfRange { lba, blocks, size });
        }
        self.check(lba, blocks).await?;
        let _range = self.0.0.writes.hold(lba.0..lba.0 + blocks).await;
        let fua = mode == WriteMode::Fua;
        if blocks <= REQUEST_BLOCKS_MAX {
            return done(self.0.0.admit(Command::Write { lba, fua }, data)?.await);
        }
        data.reverse();
        let mut parts = Vec::new();
        for (lba, blocks) in cut(lba, blocks) {
            let body = take_front(&mut data, blocks as usize * BLOCK_SIZE);
            parts.push(self.0.0.admit(Command::Write { lba, fua }, body)?);
        }
        finish_all(parts).await
    }

    async fn unmap_blocks(&self, lba: Lba, blocks: u64) -> Result<(), BlockError> {
        self.check_writable()?;
        self.check(lba, blocks).await?;
        let _range = self.0.0.writes.hold(lba.0..lba.0 + blocks).await;
        let command = Command::Unmap { lba, blocks };
        done(self.0.0.admit(command, Vec::new())?.await)
    }

    async fn runs(&self, lba: Lba, blocks: u64) -> Result<Vec<Allocation>, BlockError> {
        self.check(lba, blocks).await?;
        let command = Command::Allocation { lba, blocks };
        let (NodeReply::Allocation { runs }, _) = self.0.0.admit(command, Vec::new())?.await?
        else {
            return Err(unexpected());
        };
        let mut left = blocks;
        let mut found = Vec::with_capacity(runs.len());
        for (blocks, mapped) in runs {
            // Never trust a length: callers add them up.
            let blocks = blocks.min(left);
            left -= blocks;
            if blocks > 0 {
                found.push(Allocation { blocks, mapped });
            }
        }
        if found.is_empty() {
            return Err(unexpected());
        }
        Ok(found)
    }
}

fn unexpected() -> BlockError {
    BlockError::Failed("the owner gave an answer of another kind".to_owned())
}

fn done(answer: Result<(NodeReply, Bytes), BlockError>) -> Result<(), BlockError> {
    match answer? {
        (NodeReply::Done, _) => Ok(()),
        _ => Err(unexpected()),
    }
}

/// All parts end, also when one fails: the range must not be given free while others are in flight.
async fn finish_all(parts: Vec<Running>) -> Result<(), BlockError> {
    join_all(parts).await.into_iter().try_for_each(done)
}

/// Pieces of at most [`REQUEST_BLOCKS_MAX`].
fn cut(lba: Lba, blocks: u64) -> impl Iterator<Item = (Lba, u64)> {
    (0..blocks)
        .step_by(usize::try_from(REQUEST_BLOCKS_MAX).expect("small"))
        .map(move |at| (Lba(lba.0 + at), REQUEST_BLOCKS_MAX.min(blocks - at)))
}

/// Moves the first `bytes` bytes out of pieces that are in reverse order.
fn take_front(reversed: &mut Vec<Bytes>, mut bytes: usize) -> Vec<Bytes> {
    let mut taken = Vec::new();
    while bytes > 0 {
        let mut piece = reversed.pop().expect("the caller counted the bytes");
        if piece.len() > bytes {
            reversed.push(piece.split_off(bytes));
        }
        bytes -= piece.len();
        taken.push(piece);
    }
    taken
}

impl BlockDevice for RemoteDevice {
    fn size(&self) -> ByteCount {
        self.0.0.info().size
    }

    fn read_only(&self) -> bool {
        self.0.0.options.read_only || self.0.0.info().read_only
    }

    fn read(&self, lba: Lba, blocks: u32) -> BlockFuture<Vec<Bytes>> {
        let this = self.clone();
        Box::pin(async move { this.read_blocks(lba, blocks).await })
    }

    fn write(&self, lba: Lba, data: Vec<Bytes>, mode: WriteMode) -> BlockFuture<()> {
        let this = self.clone();
        Box::pin(async move { this.write_blocks(lba, data, mode).await })
    }

    fn flush(&self) -> BlockFuture<()> {
        let this = self.clone();
        Box::pin(async move { done(this.0.0.admit(Command::Flush, Vec::new())?.await) })
    }

    fn unmap(&self, lba: Lba, blocks: u64) -> BlockFuture<()> {
        let this = self.clone();
        Box::pin(async move { this.unmap_blocks(lba, blocks).await })
    }

    fn allocation(&self, lba: Lba, blocks: u64) -> BlockFuture<Vec<Allocation>> {
        let this = self.clone();
        Box::pin(async move { this.runs(lba, blocks).await })
    }
}
