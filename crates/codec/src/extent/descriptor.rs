//! One frame's entry in the frame table: where it lies, how it is stored, its checksums.

use super::{Damage, FRAME_BLOCKS, PAGE_BYTES_MAX, salted_crc, u32_at};
use bytes::Bytes;
use std::ops::Range;
use vocab::{BLOCK_SIZE, ExtentId};

/// How the bytes of a frame are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Storage {
    Dropped,
    Raw,
    Lz4,
    Page,
}

/// How to find, verify and decode one frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptor {
    offset: u32,
    stored_bytes: u32,
    storage: Storage,
    blocks: u8,
    present: u8,
    plain_bytes: u32,
    crcs: [u32; FRAME_BLOCKS],
}

/// Blocks of a frame as bits.
const ALL_BLOCKS: u8 = (1 << FRAME_BLOCKS) - 1;

impl Descriptor {
    /// Bytes of an encoded descriptor.
    pub const BYTES: usize = 32;

    /// Stores `blocks` (1 to 4 of 4 KiB) as they are.
    pub(super) fn raw(id: ExtentId, frame: u16, blocks: &[&[u8]]) -> Self {
        let mut crcs = [0; FRAME_BLOCKS];
        for (index, block) in blocks.iter().enumerate() {
            crcs[index] = salted_crc(id, frame, index, block);
        }
        let count = blocks.len() as u8;
        Self {
            offset: 0,
            stored_bytes: (blocks.len() * BLOCK_SIZE) as u32,
            storage: Storage::Raw,
            blocks: count,
            present: ALL_BLOCKS >> (FRAME_BLOCKS as u8 - count),
            plain_bytes: 0,
            crcs,
        }
    }

    /// Stores `stored`, the LZ4 block of `blocks` blocks.
    pub(super) fn lz4(id: ExtentId, frame: u16, blocks: usize, stored: &[u8]) -> Self {
        let crcs = [salted_crc(id, frame, 0, stored), 0, 0, 0];
        Self {
            offset: 0,
            stored_bytes: stored.len() as u32,
            storage: Storage::Lz4,
            blocks: blocks as u8,
            present: 0,
            plain_bytes: (blocks * BLOCK_SIZE) as u32,
            crcs,
        }
    }

    /// Stores a map page.
    pub(super) fn page(id: ExtentId, frame: u16, page: &[u8]) -> Self {
        let crcs = [salted_crc(id, frame, 0, page), 0, 0, 0];
        let stored_bytes = page.len() as u32;
        let storage = Storage::Page;
        Self {
            offset: 0,
            stored_bytes,
            storage,
            blocks: 1,
            present: 0,
            plain_bytes: 0,
            crcs,
        }
    }

    /// The same frame, stored at `offset` from the header's first byte.
    pub(super) fn at(self, offset: usize) -> Self {
        let offset = if self.is_dropped() { 0 } else { offset as u32 };
        Self { offset, ..self }
    }

    /// Encodes the descriptor, see docs/formats/extent.md.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[0..4].copy_from_slice(&self.offset.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.stored_bytes.to_le_bytes());
        bytes[8] = match self.storage {
            Storage::Dropped => 0,
            Storage::Raw => 1,
            Storage::Lz4 => 2,
            Storage::Page => 3,
        };
        bytes[9] = self.blocks;
        bytes[10] = self.present;
        bytes[12..16].copy_from_slice(&self.plain_bytes.to_le_bytes());
        for (crc, slot) in self.crcs.iter().zip(bytes[16..].chunks_exact_mut(4)) {
            slot.copy_from_slice(&crc.to_le_bytes());
        }
        bytes
    }

    /// Decodes a descriptor and checks that its sizes fit each other.
    ///
    /// # Errors
    /// [`Damage::Short`], [`Damage::Malformed`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Damage> {
        if bytes.len() != Self::BYTES {
            return Err(Damage::Short);
        }
        let storage = match bytes[8] {
            0 => Storage::Dropped,
            1 => Storage::Raw,
            2 => Storage::Lz4,
            3 => Storage::Page,
            _ => return Err(Damage::Malformed("frame storage")),
        };
        let mut crcs = [0; FRAME_BLOCKS];
        for (index, crc) in crcs.iter_mut().enumerate() {
            *crc = u32_at(bytes, 16 + 4 * index);
        }
        let descriptor = Self {
            offset: u32_at(bytes, 0),
            stored_bytes: u32_at(bytes, 4),
            storage,
            blocks: bytes[9],
            present: bytes[10],
            plain_bytes: u32_at(bytes, 12),
            crcs,
        };
        if descriptor.is_sound() {
            Ok(descriptor)
        } else {
            Err(Damage::Malformed("frame sizes"))
        }
    }

    fn is_sound(&self) -> bool {
        let blocks = usize::from(self.blocks);
        let (stored, plain) = (self.stored_bytes as usize, self.plain_bytes as usize);
        let fits = (1..=FRAME_BLOCKS).contains(&blocks);
        fits && match self.storage {
            Storage::Dropped => stored == 0 && self.present == 0,
            Storage::Raw => {
                let wrote = ALL_BLOCKS >> (FRAME_BLOCKS - blocks);
                let kept = self.present.count_ones() as usize;
                self.present != 0 && self.present & !wrote == 0 && stored == kept * BLOCK_SIZE
            }
            Storage::Lz4 => plain == blocks * BLOCK_SIZE && stored > 0 && stored < plain,
            Storage::Page => blocks == 1 && stored > 0 && stored <= PAGE_BYTES_MAX,
        }
    }

    /// Whether the stored bytes lie behind a header of `header` bytes within `sealed` bytes.
    pub(super) fn lies_within(&self, header: usize, sealed: usize) -> bool {
        let (start, stored) = (self.offset as usize, self.stored_bytes as usize);
        let aligned = self.storage != Storage::Raw || start.is_multiple_of(BLOCK_SIZE);
        self.is_dropped() || (aligned && start >= header && start + stored <= sealed)
    }

    /// Blocks the frame had when it was written; 1 for a page.
    #[must_use]
    pub fn blocks(&self) -> usize {
        usize::from(self.blocks)
    }

    /// Bytes it occupies.
    #[must_use]
    pub fn stored_bytes(&self) -> usize {
        self.stored_bytes as usize
    }

    /// Whether single blocks of it can be read.
    #[must_use]
    pub fn is_raw(&self) -> bool {
        self.storage == Storage::Raw
    }

    pub(super) fn is_dropped(&self) -> bool {
        self.storage == Storage::Dropped
    }

    /// Where the stored bytes lie in the sealed extent.
    #[must_use]
    pub fn stored_range(&self) -> Range<usize> {
        let start = self.offset as usize;
        start..start + self.stored_bytes as usize
    }

    /// Which bytes of the sealed extent hold `count` blocks from `first` on: exactly these of a raw frame,
    /// else the whole frame. `None` when the frame does not have them (any more).
    #[must_use]
    pub fn range(&self, first: usize, count: usize) -> Option<Range<usize>> {
        let end = first.checked_add(count)?;
        if count == 0 || end > self.blocks() || self.is_dropped() {
            return None;
        }
        if !self.is_raw() {
            return Some(self.stored_range());
        }
        if (first..end).any(|block| self.present >> block & 1 == 0) {
            return None;
        }
        let before = (self.present & ((1 << first) - 1)).count_ones() as usize;
        let start = self.offset as usize + before * BLOCK_SIZE;
        Some(start..start + count * BLOCK_SIZE)
    }

    /// Verifies `stored`, the bytes of [`Descriptor::range`] for the same blocks, and returns the plain
    /// blocks (a page: the whole page).
    ///
    /// # Errors
    /// [`Damage`]: the copy is bad.
    pub fn decode(
        &self,
        id: ExtentId,
        frame: u16,
        first: usize,
        count: usize,
        stored: &Bytes,
    ) -> Result<Bytes, Damage> {
        let range = self.range(first, count).ok_or(Damage::NoFrame { frame })?;
        if stored.len() != range.len() {
            return Err(Damage::Short);
        }
        if self.is_raw() {
            for (index, block) in stored.chunks_exact(BLOCK_SIZE).enumerate() {
                if salted_crc(id, frame, first + index, block) != self.crcs[first + index] {
                    return Err(Damage::Checksum("a block"));
                }
            }
            return Ok(stored.clone());
        }
        self.verify_stored(id, frame, stored)?;
        if self.storage == Storage::Page {
            return Ok(stored.clone());
        }
        let mut plain = vec![0; self.plain_bytes as usize];
        match lz4_flex::block::decompress_into(stored, &mut plain) {
            Ok(bytes) if bytes == plain.len() => {}
            Ok(_) | Err(_) => return Err(Damage::Compression),
        }
        Ok(Bytes::from(plain).slice(first * BLOCK_SIZE..(first + count) * BLOCK_SIZE))
    }

    /// As [`Descriptor::decode`] without decompressing: what a store does before it sends `stored`.
    ///
    /// # Errors
    /// [`Damage`]: the copy is bad.
    pub fn verify(
        &self,
        id: ExtentId,
        frame: u16,
        first: usize,
        count: usize,
        stored: &Bytes,
    ) -> Result<(), Damage> {
        if self.is_raw() {
            return self.decode(id, frame, first, count, stored).map(drop);
        }
        self.verify_stored(id, frame, stored)
    }

    /// Verifies all stored bytes of the frame.
    pub(super) fn verify_stored(
        &self,
        id: ExtentId,
        frame: u16,
        stored: &[u8],
    ) -> Result<(), Damage> {
        if stored.len() != self.stored_bytes() {
            return Err(Damage::Short);
        }
        let good = match self.storage {
            Storage::Dropped => true,
            Storage::Raw => self
                .present_blocks()
                .zip(stored.chunks_exact(BLOCK_SIZE))
                .all(|(block, bytes)| salted_crc(id, frame, block, bytes) == self.crcs[block]),
            Storage::Lz4 | Storage::Page => salted_crc(id, frame, 0, stored) == self.crcs[0],
        };
        if good {
            Ok(())
        } else {
            Err(Damage::Checksum("a frame"))
        }
    }

    fn present_blocks(&self) -> impl Iterator<Item = usize> + use<> {
        let present = self.present;
        (0..FRAME_BLOCKS).filter(move |block| present >> block & 1 == 1)
    }

    /// The frame after a compaction that keeps the blocks in `mask`.
    pub(super) fn keep(&self, mask: u8) -> Self {
        let dropped = Self {
            storage: Storage::Dropped,
            stored_bytes: 0,
            present: 0,
            plain_bytes: 0,
            ..*self
        };
        match self.storage {
            Storage::Raw if self.present & mask != 0 => {
                let present = self.present & mask;
                let stored_bytes = present.count_ones() * BLOCK_SIZE as u32;
                Self {
                    present,
                    stored_bytes,
                    ..*self
                }
            }
            Storage::Lz4 | Storage::Page if mask != 0 => *self,
            _ => dropped,
        }
    }

    /// Ranges within this frame's stored bytes that `kept`, its next form, still has.
    pub(super) fn kept_ranges(&self, kept: &Self) -> Vec<Range<usize>> {
        match kept.storage {
            Storage::Dropped => Vec::new(),
            Storage::Lz4 | Storage::Page => std::iter::once(0..self.stored_bytes()).collect(),
            Storage::Raw => {
                let stays = |(_, block): &(usize, usize)| kept.present >> block & 1 == 1;
                let range = |(index, _)| index * BLOCK_SIZE..(index + 1) * BLOCK_SIZE;
                self.present_blocks()
                    .enumerate()
                    .filter(stays)
                    .map(range)
                    .collect()
            }
        }
    }
}
