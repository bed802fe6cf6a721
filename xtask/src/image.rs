//! What a volume must contain, block by block, and the means to write and verify it through NBD.
//!
//! A block's content follows from its number, the image's tag and how often it was written, so one `u32` per block
//! is enough to know every byte. Blocks never written must read as zeros.

use crate::nbd::{Client, Reply};
use anyhow::{Context, Result, bail, ensure};
use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// Granularity of what is known.
pub const BLOCK: u64 = 4096;
/// Size of bulk requests.
const CHUNK: u64 = 256 << 10;
/// Bulk requests in flight: 4 MiB.
const WINDOW: usize = 16;

/// The expected content of a volume, a snapshot or a clone.
#[derive(Clone)]
pub struct Image {
    /// Version and tag of each block; version 0 is unwritten.
    blocks: Vec<(u32, u32)>,
}

/// A pseudo-random sequence (splitmix64): the demo is the same every time.
pub struct Sequence(pub u64);

impl Sequence {
    /// The next number.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = self.0;
        value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ (value >> 31)
    }
}

impl Image {
    /// An empty image.
    pub fn new(bytes: u64) -> Self {
        Self {
            blocks: vec![(0, 0); (bytes / BLOCK) as usize],
        }
    }

    /// Bytes of the image.
    pub fn bytes(&self) -> u64 {
        self.blocks.len() as u64 * BLOCK
    }

    /// Bytes in blocks that were written at least once.
    pub fn bytes_written(&self) -> u64 {
        self.blocks
            .iter()
            .filter(|(version, _)| *version > 0)
            .count() as u64
            * BLOCK
    }

    /// Gives a range its next content and returns it. `tag` tells images apart that share blocks.
    pub fn change(&mut self, offset: u64, bytes: u64, tag: u32) -> Vec<u8> {
        let first = offset / BLOCK;
        for block in first..first + bytes / BLOCK {
            let entry = &mut self.blocks[block as usize];
            *entry = (entry.0 + 1, tag);
        }
        self.content(offset, bytes)
    }

    fn content(&self, offset: u64, bytes: u64) -> Vec<u8> {
        let mut data = vec![0; bytes as usize];
        for (index, chunk) in data.chunks_exact_mut(BLOCK as usize).enumerate() {
            let block = offset / BLOCK + index as u64;
            let (version, tag) = self.blocks[block as usize];
            if version > 0 {
                fill(chunk, block, version, tag);
            }
        }
        data
    }

    /// Writes a range in large requests and flushes.
    pub fn write_bulk(
        &mut self,
        client: &mut Client,
        end: u64,
        tag: u32,
        title: &str,
    ) -> Result<()> {
        let mut progress = Progress::new(title, end);
        let mut offset = 0;
        while offset < end {
            if client.in_flight() >= WINDOW {
                client.receive()?;
            }
            let bytes = CHUNK.min(end - offset);
            client.send_write(offset, &self.change(offset, bytes, tag))?;
            offset += bytes;
            progress.show(offset);
        }
        while client.in_flight() > 0 {
            client.receive()?;
        }
        client.flush()?;
        progress.done();
        Ok(())
    }

    /// Overwrites `count` random runs of 4 to 64 KiB within the first `end` bytes, and flushes.
    pub fn write_random(
        &mut self,
        client: &mut Client,
        end: u64,
        count: u64,
        tag: u32,
    ) -> Result<u64> {
        let mut sequence = Sequence(u64::from(tag));
        let mut written = 0;
        for _ in 0..count {
            let bytes = BLOCK * (1 + sequence.draw() % 16);
            let offset = sequence.draw() % ((end - bytes) / BLOCK) * BLOCK;
            // Two writes of one block in flight have no order, so there is one at a time.
            drain(client)?;
            client.send_write(offset, &self.change(offset, bytes, tag))?;
            written += bytes;
        }
        drain(client)?;
        client.flush()?;
        Ok(written)
    }

    /// Reads everything and compares every byte.
    pub fn verify(&self, client: &mut Client, title: &str) -> Result<()> {
        ensure!(
            client.size() == self.bytes(),
            "{title} has {} bytes",
            client.size()
        );
        let mut progress = Progress::new(title, self.bytes());
        let mut pending = BTreeMap::new();
        let mut offset = 0;
        let mut compared = 0;
        while compared < self.bytes() {
            while offset < self.bytes() && pending.len() < WINDOW {
                let bytes = CHUNK.min(self.bytes() - offset);
                pending.insert(client.send_read(offset, bytes as usize)?, offset);
                offset += bytes;
            }
            let Reply { cookie, data } = client.receive()?;
            let at = pending.remove(&cookie).context("a reply to no read")?;
            self.compare(at, &data, title)?;
            compared += data.len() as u64;
            progress.show(compared);
        }
        progress.done();
        Ok(())
    }

    fn compare(&self, offset: u64, found: &[u8], title: &str) -> Result<()> {
        let expected = self.content(offset, found.len() as u64);
        if expected == found {
            return Ok(());
        }
        let wrong = expected
            .iter()
            .zip(found)
            .position(|(expected, found)| expected != found);
        let at = offset + wrong.unwrap_or(0) as u64;
        let (version, tag) = self.blocks[(at / BLOCK) as usize];
        bail!("{title}: byte {at} is wrong (expected version {version} of writer {tag})")
    }
}

fn drain(client: &mut Client) -> Result<()> {
    while client.in_flight() > 0 {
        client.receive()?;
    }
    Ok(())
}

fn fill(chunk: &mut [u8], block: u64, version: u32, tag: u32) {
    let seed = (u64::from(tag) << 56) ^ (u64::from(version) << 36) ^ block;
    let mut sequence = Sequence(seed);
    for word in chunk.chunks_exact_mut(8) {
        word.copy_from_slice(&sequence.draw().to_le_bytes());
    }
}

/// One line that grows on a terminal, and one line at the end elsewhere.
pub struct Progress {
    title: String,
    total: u64,
    started: Instant,
    shown: Instant,
    terminal: bool,
}

impl Progress {
    /// Starts at nothing.
    pub fn new(title: &str, total: u64) -> Self {
        let now = Instant::now();
        let terminal = std::io::stdout().is_terminal();
        Self {
            title: title.to_owned(),
            total,
            started: now,
            shown: now,
            terminal,
        }
    }

    /// Shows how far it is, ten times a second at most.
    pub fn show(&mut self, done: u64) {
        if !self.terminal || self.shown.elapsed() < Duration::from_millis(100) {
            return;
        }
        self.shown = Instant::now();
        print!(
            "\r    {:<34} {:>5} / {} MiB ",
            self.title,
            done >> 20,
            self.total >> 20
        );
        let _ = std::io::stdout().flush();
    }

    /// Prints the final line.
    pub fn done(self) {
        let seconds = self.started.elapsed().as_secs_f64();
        let rate = (self.total >> 20) as f64 / seconds.max(0.001);
        let start = if self.terminal { "\r" } else { "" };
        let mib = self.total >> 20;
        println!(
            "{start}    {:<34} {mib:>5} MiB in {seconds:.1} s ({rate:.0} MiB/s)",
            self.title
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_depends_on_block_version_and_tag() {
        let mut image = Image::new(4 * BLOCK);
        let first = image.change(0, 2 * BLOCK, 1);
        assert_ne!(first[..4096], first[4096..]);
        let second = image.change(0, 2 * BLOCK, 1);
        assert_ne!(first, second);
        let mut clone = image.clone();
        assert_ne!(clone.change(0, 2 * BLOCK, 2), image.change(0, 2 * BLOCK, 1));
    }

    #[test]
    fn a_wrong_byte_is_named_and_unwritten_blocks_are_zeros() {
        let mut image = Image::new(2 * BLOCK);
        let mut data = image.change(0, BLOCK, 1);
        data.resize(2 * BLOCK as usize, 0);
        assert!(image.compare(0, &data, "volume").is_ok());
        data[5000] = 1;
        let error = image
            .compare(0, &data, "volume")
            .expect_err("a byte is wrong")
            .to_string();
        assert!(error.contains("byte 5000"), "{error}");
    }
}
