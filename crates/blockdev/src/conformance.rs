//! The promises of [`BlockDevice`], each as a check that every implementation passes.
//!
//! [`run`] takes a fresh, thin, writable device of at least [`BYTES_MIN`] and leaves data on it. It is
//! deterministic and needs no time or randomness; the caller drives its future.
//!
//! It does not check durability: only a crash can, which is the simulator's work.

use crate::{Allocation, BlockDevice, BlockError, WriteMode};
use bytes::{Bytes, BytesMut};
use futures_util::future::{join_all, join3};
use vocab::{BLOCK_SIZE, ByteCount, Lba};

/// The smallest device that the suite fits on.
pub const BYTES_MIN: ByteCount = ByteCount::mib(16);

/// A promise that was not kept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{check}: {detail}")]
pub struct Broken {
    /// The name of the check.
    pub check: &'static str,
    /// What was expected, and what happened.
    pub detail: String,
}

type Outcome = Result<(), String>;

/// Runs all checks in turn and stops at the first promise that is broken.
///
/// # Errors
/// [`Broken`].
pub async fn run(device: &dyn BlockDevice) -> Result<(), Broken> {
    let named = |check| move |detail| Broken { check, detail };
    shape(device).map_err(named("shape"))?;
    let zeros = fresh_blocks_are_zeros(device).await;
    zeros.map_err(named("fresh blocks are zeros"))?;
    let sizes = writes_of_all_sizes_read_back(device).await;
    sizes.map_err(named("writes of all sizes read back"))?;
    let pieces = pieces_are_one_write(device).await;
    pieces.map_err(named("pieces are one write"))?;
    let overlap = later_writes_win(device).await;
    overlap.map_err(named("later writes win"))?;
    let unmap = unmapped_blocks_are_zeros(device).await;
    unmap.map_err(named("unmapped blocks are zeros"))?;
    let runs = allocation_covers_the_range(device).await;
    runs.map_err(named("allocation covers the range"))?;
    let range = outside_is_refused(device).await;
    range.map_err(named("requests outside are refused"))?;
    let large = large_requests_work(device).await;
    large.map_err(named("large requests work"))?;
    let lazy = nothing_happens_before_the_first_poll(device).await;
    lazy.map_err(named("nothing happens before the first poll"))?;
    let concurrent = concurrent_writes_are_atomic_per_block(device).await;
    concurrent.map_err(named("concurrent writes are atomic per block"))
}

/// One block that no other (address, tag) shares.
fn block(lba: u64, tag: u64) -> [u8; BLOCK_SIZE] {
    let mut state = lba.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ tag.rotate_left(32) ^ 1;
    let mut bytes = [0; BLOCK_SIZE];
    for word in bytes.chunks_exact_mut(8) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        word.copy_from_slice(&state.to_le_bytes());
    }
    bytes
}

fn blocks(lba: u64, count: u64, tag: u64) -> Bytes {
    let mut bytes = BytesMut::new();
    for at in lba..lba + count {
        bytes.extend_from_slice(&block(at, tag));
    }
    bytes.freeze()
}

async fn write(device: &dyn BlockDevice, lba: u64, count: u64, tag: u64) -> Outcome {
    let data = vec![blocks(lba, count, tag)];
    let outcome = device.write(Lba(lba), data, WriteMode::Buffered).await;
    outcome.map_err(|error| format!("write of {count} blocks at {lba}: {error}"))
}

async fn read(device: &dyn BlockDevice, lba: u64, count: u64) -> Result<Vec<u8>, String> {
    let length = u32::try_from(count).map_err(|_| "a read is too long".to_owned())?;
    let pieces = device.read(Lba(lba), length).await;
    let pieces = pieces.map_err(|error| format!("read of {count} blocks at {lba}: {error}"))?;
    let bytes = pieces.concat();
    if bytes.len() as u64 == count * BLOCK_SIZE as u64 {
        Ok(bytes)
    } else {
        Err(format!(
            "read of {count} blocks at {lba} returned {} bytes",
            bytes.len()
        ))
    }
}

/// Checks that each block holds what `tag` says: written with a tag, or zeros.
async fn holds(
    device: &dyn BlockDevice,
    lba: u64,
    count: u64,
    tag: impl Fn(u64) -> Option<u64>,
) -> Outcome {
    let bytes = read(device, lba, count).await?;
    for (at, found) in (lba..).zip(bytes.chunks(BLOCK_SIZE)) {
        let expected = tag(at).map_or([0; BLOCK_SIZE], |tag| block(at, tag));
        if found != expected {
            let expected = tag(at).map_or("zeros".to_owned(), |tag| format!("write {tag}"));
            let zero = found.iter().all(|byte| *byte == 0);
            let found = if zero { "zeros" } else { "other data" };
            return Err(format!("block {at} holds {found}, expected {expected}"));
        }
    }
    Ok(())
}

fn shape(device: &dyn BlockDevice) -> Outcome {
    let size = device.size();
    if device.read_only() {
        return Err("the device is read-only".to_owned());
    }
    if size < BYTES_MIN || !size.0.is_multiple_of(BLOCK_SIZE as u64) {
        return Err(format!(
            "{size} is not at least {BYTES_MIN} of whole blocks"
        ));
    }
    Ok(())
}

async fn fresh_blocks_are_zeros(device: &dyn BlockDevice) -> Outcome {
    let last = device.size().blocks() - 1;
    holds(device, 0, 64, |_| None).await?;
    holds(device, last, 1, |_| None).await
}

async fn writes_of_all_sizes_read_back(device: &dyn BlockDevice) -> Outcome {
    let mut lba = 1;
    for count in [
        1, 2, 3, 7, 8, 15, 16, 17, 31, 32, 33, 64, 127, 128, 129, 256,
    ] {
        write(device, lba, count, count).await?;
        holds(device, lba, count, |_| Some(count)).await?;
        lba += count;
    }
    let last = device.size().blocks() - 1;
    write(device, last, 1, 5).await?;
    holds(device, last, 1, |_| Some(5)).await?;
    let data = vec![blocks(0, 1, 6)];
    let fua = device.write(Lba(0), data, WriteMode::Fua).await;
    fua.map_err(|error| format!("FUA write: {error}"))?;
    holds(device, 0, 2, |at| Some(if at == 0 { 6 } else { 1 })).await?;
    device
        .flush()
        .await
        .map_err(|error| format!("flush: {error}"))
}

async fn pieces_are_one_write(device: &dyn BlockDevice) -> Outcome {
    let whole = blocks(1000, 12, 20);
    let cut = |from: usize, to: usize| whole.slice(from * BLOCK_SIZE..to * BLOCK_SIZE);
    let pieces = vec![cut(0, 1), cut(1, 4), cut(4, 4), cut(4, 11), cut(11, 12)];
    let outcome = device.write(Lba(1000), pieces, WriteMode::Buffered).await;
    outcome.map_err(|error| format!("write of five pieces: {error}"))?;
    holds(device, 1000, 12, |_| Some(20)).await
}

async fn later_writes_win(device: &dyn BlockDevice) -> Outcome {
    write(device, 1100, 32, 30).await?;
    write(device, 1108, 8, 31).await?;
    write(device, 1096, 8, 32).await?;
    write(device, 1110, 1, 33).await?;
    write(device, 1130, 10, 34).await?;
    let tag = |at| match at {
        1110 => 33,
        1108..1116 => 31,
        1096..1104 => 32,
        1130..1140 => 34,
        _ => 30,
    };
    holds(device, 1096, 44, |at| Some(tag(at))).await?;
    for at in [1103, 1104, 1109, 1110, 1129, 1130] {
        holds(device, at, 1, |at| Some(tag(at))).await?;
    }
    Ok(())
}

async fn unmap(device: &dyn BlockDevice, lba: u64, count: u64) -> Outcome {
    let outcome = device.unmap(Lba(lba), count).await;
    outcome.map_err(|error| format!("unmap of {count} blocks at {lba}: {error}"))
}

async fn unmapped_blocks_are_zeros(device: &dyn BlockDevice) -> Outcome {
    write(device, 1200, 40, 40).await?;
    unmap(device, 1210, 7).await?;
    let tag = |at| (!(1210..1217).contains(&at)).then_some(40);
    holds(device, 1200, 40, tag).await?;
    write(device, 1212, 1, 41).await?;
    holds(device, 1210, 4, |at| (at == 1212).then_some(41)).await?;
    // Unmapping what is unmapped, partly or wholly, changes nothing else.
    unmap(device, 1205, 10).await?;
    unmap(device, 1205, 10).await?;
    holds(device, 1200, 20, |at| {
        (!(1205..1217).contains(&at)).then_some(40)
    })
    .await?;
    // A request may be larger than any write.
    unmap(device, 1200, device.size().blocks() - 1200).await?;
    holds(device, 1200, 40, |_| None).await?;
    holds(device, device.size().blocks() - 1, 1, |_| None).await
}

/// All runs from `lba` to `lba + count`, asked for as often as it takes.
async fn runs(
    device: &dyn BlockDevice,
    lba: u64,
    count: u64,
) -> Result<Vec<(u64, Allocation)>, String> {
    let (mut at, end) = (lba, lba + count);
    let mut all = Vec::new();
    while at < end {
        let answer = device.allocation(Lba(at), end - at).await;
        let answer = answer.map_err(|error| format!("allocation at {at}: {error}"))?;
        let covered: u64 = answer.iter().map(|run| run.blocks).sum();
        if covered == 0 || covered > end - at || answer.iter().any(|run| run.blocks == 0) {
            return Err(format!(
                "allocation of {} blocks at {at} is {answer:?}",
                end - at
            ));
        }
        for run in answer {
            all.push((at, run));
            at += run.blocks;
        }
    }
    Ok(all)
}

async fn allocation_covers_the_range(device: &dyn BlockDevice) -> Outcome {
    let base = 1400;
    unmap(device, base, 200).await?;
    write(device, base + 10, 20, 50).await?;
    write(device, base + 50, 1, 51).await?;
    let written = |at: u64| (base + 10..base + 30).contains(&at) || at == base + 50;
    for (first, run) in runs(device, base, 200).await? {
        for at in first..first + run.blocks {
            // Space may be kept for blocks that are zeros, but data is never called unmapped.
            if written(at) && !run.mapped {
                return Err(format!("block {at} holds data and is called unmapped"));
            }
            if !written(at) && run.mapped {
                holds(device, at, 1, |_| None).await?;
            }
        }
    }
    let fresh = runs(device, base + 100, 100).await?;
    if fresh.iter().all(|(_, run)| run.mapped) {
        return Err("a device that was never written there calls it mapped: not thin".to_owned());
    }
    Ok(())
}

fn refused<T>(what: &str, outcome: Result<T, BlockError>) -> Outcome {
    match outcome {
        Err(BlockError::OutOfRange { .. }) => Ok(()),
        Err(other) => Err(format!("{what} failed otherwise: {other}")),
        Ok(_) => Err(format!("{what} was accepted")),
    }
}

async fn outside_is_refused(device: &dyn BlockDevice) -> Outcome {
    let end = device.size().blocks();
    write(device, end - 1, 1, 60).await?;
    refused("a read behind the end", device.read(Lba(end), 1).await)?;
    refused("a read across the end", device.read(Lba(end - 1), 2).await)?;
    refused("a read of nothing", device.read(Lba(0), 0).await)?;
    refused(
        "a read at the last address",
        device.read(Lba(u64::MAX), 2).await,
    )?;
    let two = vec![blocks(0, 2, 61)];
    let across = device.write(Lba(end - 1), two, WriteMode::Buffered).await;
    refused("a write across the end", across)?;
    let nothing = device.write(Lba(0), Vec::new(), WriteMode::Buffered).await;
    refused("a write of nothing", nothing)?;
    refused(
        "an unmap across the end",
        device.unmap(Lba(end - 1), 2).await,
    )?;
    refused("an unmap of nothing", device.unmap(Lba(0), 0).await)?;
    refused("an endless unmap", device.unmap(Lba(1), u64::MAX).await)?;
    refused(
        "allocation behind the end",
        device.allocation(Lba(end), 1).await,
    )?;
    holds(device, end - 1, 1, |_| Some(60)).await
}

async fn large_requests_work(device: &dyn BlockDevice) -> Outcome {
    for count in [1024, 2048] {
        write(device, 1601, count, count).await?;
        holds(device, 1601, count, |_| Some(count)).await?;
    }
    holds(device, 0, 1, |_| Some(6)).await
}

async fn nothing_happens_before_the_first_poll(device: &dyn BlockDevice) -> Outcome {
    write(device, 3800, 1, 70).await?;
    drop(device.write(Lba(3800), vec![blocks(3800, 1, 71)], WriteMode::Buffered));
    drop(device.unmap(Lba(3800), 1));
    holds(device, 3800, 1, |_| Some(70)).await
}

async fn concurrent_writes_are_atomic_per_block(device: &dyn BlockDevice) -> Outcome {
    // Rounds of eight overlapping writes, an unmap and reads, all under way at once.
    for round in 0..4u64 {
        let tags: Vec<u64> = (0..8).map(|index| 100 + round * 8 + index).collect();
        let start = |tag: u64| 3900 + tag % 5;
        write(device, 3900, 16, 99).await?;
        let writes = tags.iter().map(|tag| write(device, start(*tag), 8, *tag));
        let reads = (0..4).map(|_| read(device, 3900, 16));
        let unmap = unmap(device, 3904, 2);
        let all = join3(join_all(writes), unmap, join_all(reads));
        let (written, unmapped, seen) = all.await;
        for outcome in written.into_iter().chain([unmapped]) {
            outcome?;
        }
        let settled = read(device, 3900, 16).await?;
        for image in seen.into_iter().chain([Ok(settled.clone())]) {
            whole_blocks(&image?, &tags, start)?;
        }
        if read(device, 3900, 16).await? != settled {
            return Err("blocks changed after all writes were acknowledged".to_owned());
        }
    }
    Ok(())
}

fn whole_blocks(image: &[u8], tags: &[u64], start: impl Fn(u64) -> u64) -> Outcome {
    for (at, found) in (3900u64..).zip(image.chunks(BLOCK_SIZE)) {
        let here = |tag: &&u64| (start(**tag)..start(**tag) + 8).contains(&at);
        let mut admissible = tags.iter().filter(here).map(|tag| block(at, *tag));
        let zeros = (3904..3906).contains(&at) && found.iter().all(|byte| *byte == 0);
        if !zeros && found != block(at, 99) && !admissible.any(|block| found == block) {
            return Err(format!("block {at} is not wholly from one write"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BlockFuture, MemoryDevice};
    use futures_util::FutureExt;

    fn outcome(device: &dyn BlockDevice) -> Result<(), Broken> {
        let outcome = run(device).now_or_never();
        outcome.expect("devices in memory answer at once")
    }

    #[test]
    fn the_device_in_memory_conforms() {
        assert_eq!(outcome(&MemoryDevice::new(BYTES_MIN)), Ok(()));
        assert_eq!(outcome(&MemoryDevice::new(ByteCount::gib(1 << 20))), Ok(()));
    }

    #[test]
    fn a_small_device_is_refused() {
        let small = outcome(&MemoryDevice::new(ByteCount::mib(8))).expect_err("too small");
        assert_eq!(small.check, "shape");
    }

    /// Forgets unmaps, as a device that only advises them would.
    struct Keeps(MemoryDevice);

    impl BlockDevice for Keeps {
        fn size(&self) -> ByteCount {
            self.0.size()
        }
        fn read_only(&self) -> bool {
            false
        }
        fn read(&self, lba: Lba, blocks: u32) -> BlockFuture<Vec<Bytes>> {
            self.0.read(lba, blocks)
        }
        fn write(&self, lba: Lba, data: Vec<Bytes>, mode: WriteMode) -> BlockFuture<()> {
            self.0.write(lba, data, mode)
        }
        fn flush(&self) -> BlockFuture<()> {
            self.0.flush()
        }
        fn unmap(&self, _: Lba, _: u64) -> BlockFuture<()> {
            Box::pin(std::future::ready(Ok(())))
        }
        fn allocation(&self, lba: Lba, blocks: u64) -> BlockFuture<Vec<Allocation>> {
            self.0.allocation(lba, blocks)
        }
    }

    #[test]
    fn a_device_that_ignores_unmap_is_caught() {
        let device = Keeps(MemoryDevice::new(BYTES_MIN));
        let broken = outcome(&device).expect_err("caught");
        let text = broken.to_string();
        assert_eq!(
            text,
            "unmapped blocks are zeros: block 1210 holds other data, expected zeros"
        );
    }
}
