//! Building an extent: frames are appended to page-aligned memory behind the room of the header.

use super::{
    Descriptor, EXTENT_BYTES_MAX, ExtentKind, FRAME_BLOCKS, FRAMES_MAX, Header, PAGE_BYTES_MAX,
    header_bytes,
};
use bytes::Bytes;
use std::borrow::Cow;
use vocab::{BLOCK_SIZE, ExtentId};
use world::{Buf, PAGE};

/// Room for the header: that of 255 frames, more than that grows into a copy at sealing.
const HEADER_ROOM: usize = 3 * PAGE;
/// Frames in a row that LZ4 could not make smaller, after which the extent counts as incompressible.
const MISSES: u32 = 16;
/// Of such an extent one frame in so many is tried nevertheless: what comes next may be of another kind.
const RETRY: u32 = 8;

/// An extent being filled.
pub struct Builder {
    id: ExtentId,
    kind: ExtentKind,
    memory: Buf,
    /// End of the stored bytes in `memory`; they start at [`HEADER_ROOM`].
    end: usize,
    frames: Vec<Descriptor>,
    /// Frames since the last one that was worth compressing.
    misses: u32,
}

impl Builder {
    /// An empty extent that grows as it is filled.
    #[must_use]
    pub fn new(id: ExtentId, kind: ExtentKind) -> Self {
        Self::with_room(id, kind, 16 * PAGE)
    }

    /// An empty extent with memory for `bytes` of frames, so that filling it copies nothing twice.
    #[must_use]
    pub fn with_room(id: ExtentId, kind: ExtentKind, bytes: usize) -> Self {
        let memory = Buf::zeroed(HEADER_ROOM + bytes.min(EXTENT_BYTES_MAX));
        Self {
            id,
            kind,
            memory,
            end: HEADER_ROOM,
            frames: Vec::new(),
            misses: 0,
        }
    }

    /// Adds a frame of 1 to 4 blocks of 4 KiB, compressed with LZ4 when asked and when that saves an eighth;
    /// returns its number, or `None` when the extent is full. After many frames that LZ4 made no smaller, few are tried.
    ///
    /// # Panics
    /// When there are no or too many blocks, or one is not 4 KiB long.
    pub fn push_blocks(&mut self, blocks: &[&[u8]], compress: bool) -> Option<u16> {
        assert!(
            (1..=FRAME_BLOCKS).contains(&blocks.len()),
            "{} blocks in one frame",
            blocks.len()
        );
        assert!(
            blocks.iter().all(|block| block.len() == BLOCK_SIZE),
            "blocks are 4 KiB"
        );
        let packed = if compress {
            self.compressed(blocks)
        } else {
            None
        };
        let frame = u16::try_from(self.frames.len()).ok()?;
        let Some(packed) = packed else {
            let start = self.reserve(blocks.len() * BLOCK_SIZE, PAGE)?;
            for (index, block) in blocks.iter().enumerate() {
                let at = start + index * BLOCK_SIZE;
                self.memory[at..at + BLOCK_SIZE].copy_from_slice(block);
            }
            return Some(self.add(start, Descriptor::raw(self.id, frame, blocks)));
        };
        let start = self.reserve(packed.len(), 1)?;
        self.memory[start..start + packed.len()].copy_from_slice(&packed);
        Some(self.add(
            start,
            Descriptor::lz4(self.id, frame, blocks.len(), &packed),
        ))
    }

    /// Adds a map page of 1 byte to 64 KiB; returns its frame number, or `None` when the extent is full.
    ///
    /// # Panics
    /// When the page is empty or too large.
    pub fn push_page(&mut self, page: &[u8]) -> Option<u16> {
        assert!(
            (1..=PAGE_BYTES_MAX).contains(&page.len()),
            "page of {} bytes",
            page.len()
        );
        let frame = u16::try_from(self.frames.len()).ok()?;
        let start = self.reserve(page.len(), 1)?;
        self.memory[start..start + page.len()].copy_from_slice(page);
        Some(self.add(start, Descriptor::page(self.id, frame, page)))
    }

    /// Number of frames so far.
    #[must_use]
    pub fn frames(&self) -> usize {
        self.frames.len()
    }

    /// The LZ4 block of `blocks`, when it is tried and worth it.
    fn compressed(&mut self, blocks: &[&[u8]]) -> Option<Vec<u8>> {
        let tried = self.misses < MISSES || self.misses.is_multiple_of(RETRY);
        let random = tried && blocks.iter().all(|block| looks_random(block));
        let packed = if tried && !random {
            compressed(blocks)
        } else {
            None
        };
        self.misses = if packed.is_some() { 0 } else { self.misses + 1 };
        packed
    }

    fn add(&mut self, start: usize, descriptor: Descriptor) -> u16 {
        self.end = start + descriptor.stored_bytes();
        self.frames.push(descriptor.at(start));
        (self.frames.len() - 1) as u16
    }

    /// Makes room for `bytes` at the next multiple of `align`; `None` when the extent would become too large.
    fn reserve(&mut self, bytes: usize, align: usize) -> Option<usize> {
        let start = self.end.next_multiple_of(align);
        let head = header_bytes(self.frames.len() + 1);
        let sealed = head + (start + bytes - HEADER_ROOM).next_multiple_of(PAGE);
        if self.frames.len() == FRAMES_MAX || sealed > EXTENT_BYTES_MAX {
            return None;
        }
        if start + bytes > self.memory.len() {
            let doubled = (2 * self.memory.len()).min(HEADER_ROOM + EXTENT_BYTES_MAX);
            let mut larger = Buf::zeroed(doubled.max(start + bytes));
            larger[..self.end].copy_from_slice(&self.memory[..self.end]);
            self.memory = larger;
        }
        Some(start)
    }

    /// The finished extent, form 0, in page-aligned memory.
    ///
    /// # Panics
    /// When it has no frames.
    #[must_use]
    pub fn seal(mut self) -> Bytes {
        assert!(!self.frames.is_empty(), "an extent has at least one frame");
        let head = header_bytes(self.frames.len());
        let stored = (self.end - HEADER_ROOM).next_multiple_of(PAGE);
        let sealed = head + stored;
        let frames: Vec<Descriptor> = self
            .frames
            .iter()
            .map(|frame| frame.at(frame.stored_range().start - HEADER_ROOM + head))
            .collect();
        if head > HEADER_ROOM {
            let mut larger = Buf::zeroed(sealed);
            larger[head..head + self.end - HEADER_ROOM]
                .copy_from_slice(&self.memory[HEADER_ROOM..self.end]);
            Header::encode(self.id, self.kind, 0, sealed, &frames, &mut larger[..head]);
            return larger.freeze();
        }
        let start = HEADER_ROOM - head;
        Header::encode(
            self.id,
            self.kind,
            0,
            sealed,
            &frames,
            &mut self.memory[start..HEADER_ROOM],
        );
        self.memory.freeze().slice(start..start + sealed)
    }
}

/// The LZ4 block of `blocks`, when it is at least an eighth smaller.
fn compressed(blocks: &[&[u8]]) -> Option<Vec<u8>> {
    let plain = match blocks {
        [one] => Cow::Borrowed(*one),
        more => Cow::Owned(more.concat()),
    };
    let packed = lz4_flex::block::compress(&plain);
    (packed.len() <= plain.len() - plain.len() / 8).then_some(packed)
}

/// Whether 316 bytes spread over a block have so many distinct values that LZ4 would find nothing: random
/// bytes have about 181, text and machine code under 130. Costs a tenth of an LZ4 attempt. Their distance is a prime, so that
/// numbers of 2, 4 or 8 bytes do not show only their lowest byte, which may be random where the others are zero.
fn looks_random(block: &[u8]) -> bool {
    let mut seen = [false; 256];
    for at in (0..block.len()).step_by(13) {
        seen[usize::from(block[at])] = true;
    }
    seen.iter().filter(|seen| **seen).count() > 145
}
