//! Extents: building, parsing, verifying, compacting. Format: docs/formats/extent.md.
//!
//! Invariants
//! - `decode` returns bytes only when their salted checksum matches.
//! - The same blocks in the same order seal to the same bytes on every machine.
//! - Compaction changes neither a frame's number nor a checksum.

mod build;
mod descriptor;

pub use build::Builder;
pub use descriptor::Descriptor;

use bytes::Bytes;
use vocab::{BLOCK_SIZE, ExtentId};
use world::{Buf, PAGE};

/// Blocks in a full frame: 16 KiB, small enough that reading one block of a compressed frame stays cheap.
pub const FRAME_BLOCKS: usize = 4;
/// Bound of a sealed extent.
pub const EXTENT_BYTES_MAX: usize = 4 << 20;
/// Bound of the frames in an extent.
pub const FRAMES_MAX: usize = 1024;
/// Bound of a map page.
pub const PAGE_BYTES_MAX: usize = 64 << 10;

const MAGIC: [u8; 4] = *b"AZX1";
const VERSION: u16 = 1;
const FIXED_BYTES: usize = 64;

/// What an extent holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExtentKind {
    /// Blocks of volumes.
    Data,
    /// Map pages.
    Map,
}

/// Why stored bytes are not the extent they should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// Not the start of an extent.
    #[error("not an extent")]
    Magic,
    /// Written by a newer release.
    #[error("extent format version {0} is newer than this release's {VERSION}: upgrade this node")]
    Version(u16),
    /// Bytes are missing.
    #[error("extent is cut short")]
    Short,
    /// A checksum does not match.
    #[error("checksum of {0} does not match")]
    Checksum(&'static str),
    /// Sizes or offsets are impossible although the checksum matches.
    #[error("extent header makes no sense: {0}")]
    Malformed(&'static str),
    /// There is no such frame or block.
    #[error("extent has no frame {frame} with the blocks asked for")]
    NoFrame {
        /// The frame.
        frame: u16,
    },
    /// A compaction dropped it, so no map refers to it any more.
    #[error("frame {frame} was dropped by compaction")]
    Dropped {
        /// The frame.
        frame: u16,
    },
    /// The checksum matches, but the bytes do not decompress: a bug of the writer.
    #[error("frame does not decompress")]
    Compression,
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// Header bytes of an extent of `frames` frames.
fn header_bytes(frames: usize) -> usize {
    (FIXED_BYTES + frames * Descriptor::BYTES).next_multiple_of(PAGE)
}

/// Checksum over a header and its frame table with the checksum's own field taken as zero.
fn header_crc(bytes: &[u8], frames: usize) -> u32 {
    let end = FIXED_BYTES + frames * Descriptor::BYTES;
    let crc = crc32c::crc32c_append(crc32c::crc32c(&bytes[..60]), &[0; 4]);
    crc32c::crc32c_append(crc, &bytes[FIXED_BYTES..end])
}

/// A verified header with its frame table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    id: ExtentId,
    kind: ExtentKind,
    form: u32,
    sealed_bytes: u32,
    frames: Vec<Descriptor>,
}

impl Header {
    /// Bytes of the first read that always tell [`Header::bytes_needed`].
    pub const PROBE_BYTES: usize = PAGE;

    /// How long the header is, from its first page; nothing is verified yet.
    ///
    /// # Errors
    /// [`Damage`] when this cannot be an extent.
    pub fn bytes_needed(probe: &[u8]) -> Result<usize, Damage> {
        if probe.len() < FIXED_BYTES {
            return Err(Damage::Short);
        }
        if probe[..4] != MAGIC {
            return Err(Damage::Magic);
        }
        let version = u16::from_le_bytes([probe[4], probe[5]]);
        if version != VERSION {
            return Err(Damage::Version(version));
        }
        let frames = u32_at(probe, 36) as usize;
        if frames == 0 || frames > FRAMES_MAX {
            return Err(Damage::Malformed("number of frames"));
        }
        Ok(header_bytes(frames))
    }

    /// Parses and verifies the header at the start of `bytes`.
    ///
    /// # Errors
    /// [`Damage`].
    pub fn parse(bytes: &[u8]) -> Result<Self, Damage> {
        let needed = Self::bytes_needed(bytes)?;
        if bytes.len() < needed {
            return Err(Damage::Short);
        }
        let frames = u32_at(bytes, 36) as usize;
        if header_crc(bytes, frames) != u32_at(bytes, 60) {
            return Err(Damage::Checksum("the extent header"));
        }
        let kind = match bytes[6] {
            1 => ExtentKind::Data,
            2 => ExtentKind::Map,
            _ => return Err(Damage::Malformed("kind")),
        };
        let sealed_bytes = u32_at(bytes, 40);
        let size = sealed_bytes as usize;
        if size < needed || size > EXTENT_BYTES_MAX || !size.is_multiple_of(PAGE) {
            return Err(Damage::Malformed("size"));
        }
        let id = bytes[8..32].try_into().expect("24 bytes");
        let table = bytes[FIXED_BYTES..]
            .chunks_exact(Descriptor::BYTES)
            .take(frames);
        let frames: Vec<Descriptor> = table
            .map(Descriptor::from_bytes)
            .collect::<Result<_, _>>()?;
        if !frames.iter().all(|frame| frame.lies_within(needed, size)) {
            return Err(Damage::Malformed("a frame lies outside of it"));
        }
        let form = u32_at(bytes, 32);
        Ok(Self {
            id: ExtentId::from_bytes(id),
            kind,
            form,
            sealed_bytes,
            frames,
        })
    }

    /// Name of the extent.
    #[must_use]
    pub fn id(&self) -> ExtentId {
        self.id
    }

    /// What it holds.
    #[must_use]
    pub fn kind(&self) -> ExtentKind {
        self.kind
    }

    /// How often it was compacted.
    #[must_use]
    pub fn form(&self) -> u32 {
        self.form
    }

    /// Bytes of the whole extent.
    #[must_use]
    pub fn sealed_bytes(&self) -> usize {
        self.sealed_bytes as usize
    }

    /// Bytes of the header itself.
    #[must_use]
    pub fn header_bytes(&self) -> usize {
        header_bytes(self.frames.len())
    }

    /// Number of frames, dropped ones included.
    #[must_use]
    pub fn frames(&self) -> usize {
        self.frames.len()
    }

    /// How to read a frame.
    ///
    /// # Errors
    /// [`Damage::NoFrame`], [`Damage::Dropped`].
    pub fn descriptor(&self, frame: u16) -> Result<&Descriptor, Damage> {
        let descriptor = self
            .frames
            .get(usize::from(frame))
            .ok_or(Damage::NoFrame { frame })?;
        if descriptor.is_dropped() {
            Err(Damage::Dropped { frame })
        } else {
            Ok(descriptor)
        }
    }

    /// Encodes the header for the given frames.
    fn encode(
        id: ExtentId,
        kind: ExtentKind,
        form: u32,
        sealed: usize,
        frames: &[Descriptor],
        out: &mut [u8],
    ) {
        assert!(out.len() == header_bytes(frames.len()) && sealed <= EXTENT_BYTES_MAX);
        let size = |count: usize| {
            u32::try_from(count)
                .expect("bounded by EXTENT_BYTES_MAX")
                .to_le_bytes()
        };
        out[0..4].copy_from_slice(&MAGIC);
        out[4..6].copy_from_slice(&VERSION.to_le_bytes());
        out[6] = match kind {
            ExtentKind::Data => 1,
            ExtentKind::Map => 2,
        };
        out[8..32].copy_from_slice(&id.to_bytes());
        out[32..36].copy_from_slice(&form.to_le_bytes());
        out[36..40].copy_from_slice(&size(frames.len()));
        out[40..44].copy_from_slice(&size(sealed));
        for (frame, slot) in frames
            .iter()
            .zip(out[FIXED_BYTES..].chunks_exact_mut(Descriptor::BYTES))
        {
            slot.copy_from_slice(&frame.to_bytes());
        }
        let crc = header_crc(out, frames.len());
        out[60..64].copy_from_slice(&crc.to_le_bytes());
    }
}

/// Verifies header, every frame and that all else is zeros; returns the header. So two copies of one form that
/// verify are the same bytes.
///
/// # Errors
/// [`Damage`].
pub fn verify(sealed: &Bytes) -> Result<Header, Damage> {
    let header = Header::parse(sealed)?;
    if sealed.len() != header.sealed_bytes() {
        return Err(Damage::Short);
    }
    let mut at = FIXED_BYTES + header.frames.len() * Descriptor::BYTES;
    for (index, frame) in header.frames.iter().enumerate() {
        let index = u16::try_from(index).expect("bounded by FRAMES_MAX");
        let range = frame.stored_range();
        frame.verify_stored(header.id, index, &sealed[range.clone()])?;
        if !frame.is_dropped() {
            check_padding(sealed, at, range.start)?;
            at = range.end;
        }
    }
    check_padding(sealed, at, sealed.len())?;
    Ok(header)
}

/// Between what checksums cover there are only zeros, and frames follow each other.
fn check_padding(sealed: &[u8], from: usize, to: usize) -> Result<(), Damage> {
    let Some(padding) = sealed.get(from..to) else {
        return Err(Damage::Malformed("frames overlap"));
    };
    if padding.iter().all(|&byte| byte == 0) {
        Ok(())
    } else {
        Err(Damage::Checksum("padding"))
    }
}

/// The next form of an extent: without the blocks whose bit (frame * 4 + block, least significant first) in
/// `live` is 0. Verifies what it keeps. An extent without live blocks keeps its header.
///
/// # Errors
/// [`Damage`] of the input.
pub fn compact(sealed: &Bytes, live: &[u8], form: u32) -> Result<Bytes, Damage> {
    let header = Header::parse(sealed)?;
    if sealed.len() != header.sealed_bytes() {
        return Err(Damage::Short);
    }
    let mut out = Buf::zeroed(sealed.len());
    let mut at = header.header_bytes();
    let mut frames = Vec::with_capacity(header.frames.len());
    for (index, frame) in header.frames.iter().enumerate() {
        let bit = |block: usize| {
            let bit = index * FRAME_BLOCKS + block;
            live.get(bit / 8)
                .is_some_and(|byte| byte >> (bit % 8) & 1 == 1)
        };
        let stored = &sealed[frame.stored_range()];
        let number = u16::try_from(index).expect("bounded by FRAMES_MAX");
        frame.verify_stored(header.id, number, stored)?;
        let mask = (0..FRAME_BLOCKS).fold(0, |mask, block| mask | u8::from(bit(block)) << block);
        let kept = frame.keep(mask);
        if kept.is_raw() {
            at = at.next_multiple_of(PAGE);
        }
        let start = at;
        for range in frame.kept_ranges(&kept) {
            let piece = &stored[range];
            if at + piece.len() > out.len() {
                return Err(Damage::Malformed("frames overlap"));
            }
            out[at..at + piece.len()].copy_from_slice(piece);
            at += piece.len();
        }
        frames.push(kept.at(start));
    }
    let sealed_bytes = at.next_multiple_of(PAGE);
    let head = header.header_bytes();
    Header::encode(
        header.id,
        header.kind,
        form,
        sealed_bytes,
        &frames,
        &mut out[..head],
    );
    Ok(out.freeze().slice(..sealed_bytes))
}

/// Salted checksum of a frame's block, or of a whole compressed frame or page (`block` 0).
fn salted_crc(id: ExtentId, frame: u16, block: usize, bytes: &[u8]) -> u32 {
    let mut salt = [0; ExtentId::BYTES + 4];
    salt[..ExtentId::BYTES].copy_from_slice(&id.to_bytes());
    salt[24..26].copy_from_slice(&frame.to_le_bytes());
    salt[26..28].copy_from_slice(&(block as u16).to_le_bytes());
    crc32c::crc32c_append(crc32c::crc32c(&salt), bytes)
}

const _: () = assert!(FIXED_BYTES + 255 * Descriptor::BYTES <= 3 * PAGE);
const _: () = assert!(255 * FRAME_BLOCKS * BLOCK_SIZE + 3 * PAGE <= EXTENT_BYTES_MAX);

#[cfg(test)]
mod tests;
