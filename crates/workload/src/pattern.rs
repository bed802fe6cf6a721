//! Block contents that describe themselves.
//!
//! ```text
//! byte  0  8   magic
//!       8  8   seed of the writer, little-endian like all that follows
//!      16  8   block address
//!      24  8   version
//!      32  8   xxh3 of bytes 0..32 and 40..4096
//!      40      random bytes that depend on the four values, then zeros (the compressible part)
//! ```
//!
//! Invariants
//! - A block of zeros is never a written one, and no two (seed, address, version) share their bytes.
//! - A torn, mixed or damaged block is [`Content::Foreign`].

use crate::rng::Random;
use bytes::Bytes;
use std::fmt;
use vocab::{BLOCK_SIZE, Lba};
use world::Buf;
use xxhash_rust::xxh3::xxh3_64_with_seed;

const MAGIC: u64 = u64::from_le_bytes(*b"azekuraP");
const HEADER: usize = 40;
/// Bytes of a block that follow its header.
const BODY: usize = BLOCK_SIZE - HEADER;

/// What a block holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Content {
    /// Zeros: never written, or unmapped.
    Zero,
    /// Made by [`fill`].
    Written {
        /// The writer.
        seed: u64,
        /// Where it was to be written.
        lba: Lba,
        /// The writer's counter.
        version: u64,
    },
    /// Anything else: damage, a mixture of blocks, or another program's data.
    Foreign,
}

impl fmt::Display for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Zero => f.write_str("zeros"),
            Self::Written { seed, lba, version } => {
                write!(f, "version {version} of {lba} by writer {seed:#x}")
            }
            Self::Foreign => f.write_str("bytes that no writer wrote"),
        }
    }
}

/// One incompressible block.
#[must_use]
pub fn fill(lba: Lba, version: u64, seed: u64) -> Bytes {
    fill_run(lba, 1, version, seed, 0)
}

/// `blocks` consecutive blocks of one version in one aligned piece of memory, of which
/// `compressible_percent` (at most 100) are zeros.
#[must_use]
pub fn fill_run(lba: Lba, blocks: u32, version: u64, seed: u64, compressible_percent: u8) -> Bytes {
    let mut buf = Buf::zeroed(blocks as usize * BLOCK_SIZE);
    for (index, block) in (0u64..).zip(buf.chunks_exact_mut(BLOCK_SIZE)) {
        stamp(block, lba.plus(index), version, seed, compressible_percent);
    }
    buf.freeze()
}

/// Writes the pattern into `block`, which is one block of zeros.
fn stamp(block: &mut [u8], lba: Lba, version: u64, seed: u64, compressible_percent: u8) {
    let words = [MAGIC, seed, lba.0, version];
    for (place, word) in block.chunks_exact_mut(8).zip(words) {
        place.copy_from_slice(&word.to_le_bytes());
    }
    let percent = usize::from(compressible_percent.min(100));
    let random_bytes = (BODY * (100 - percent) / 100).next_multiple_of(8).min(BODY);
    let mut random = Random::new(seed ^ lba.0.rotate_left(20) ^ version.rotate_left(40));
    for place in block[HEADER..HEADER + random_bytes].chunks_exact_mut(8) {
        place.copy_from_slice(&random.next().to_le_bytes());
    }
    let sum = checksum(block);
    block[32..HEADER].copy_from_slice(&sum.to_le_bytes());
}

fn checksum(block: &[u8]) -> u64 {
    let header = xxh3_64_with_seed(&block[..32], MAGIC);
    xxh3_64_with_seed(&block[HEADER..], header)
}

/// What `block` holds. Anything but exactly one block is [`Content::Foreign`].
#[must_use]
pub fn read_back(block: &[u8]) -> Content {
    if block.len() != BLOCK_SIZE {
        return Content::Foreign;
    }
    let word = |index: usize| {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&block[index * 8..index * 8 + 8]);
        u64::from_le_bytes(bytes)
    };
    if word(0) == MAGIC && word(4) == checksum(block) {
        return Content::Written {
            seed: word(1),
            lba: Lba(word(2)),
            version: word(3),
        };
    }
    if block.iter().all(|byte| *byte == 0) {
        Content::Zero
    } else {
        Content::Foreign
    }
}

/// What every block of `pieces`, whole blocks each, holds.
#[must_use]
pub fn read_back_all(pieces: &[Bytes]) -> Vec<Content> {
    let blocks = pieces.iter().flat_map(|piece| piece.chunks(BLOCK_SIZE));
    blocks.map(read_back).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filled_block_says_what_it_is() {
        for percent in [0, 50, 99, 100] {
            let run = fill_run(Lba(7), 3, 9, 11, percent);
            let expected: Vec<Content> = (7..10)
                .map(|lba| Content::Written {
                    seed: 11,
                    lba: Lba(lba),
                    version: 9,
                })
                .collect();
            assert_eq!(read_back_all(&[run]), expected);
        }
    }

    #[test]
    fn damage_and_mixtures_are_foreign_and_zeros_are_zero() {
        let old = fill(Lba(1), 1, 5);
        let new = fill(Lba(1), 2, 5);
        let mut torn = new[..512].to_vec();
        torn.extend_from_slice(&old[512..]);
        assert_eq!(read_back(&torn), Content::Foreign);
        let mut flipped = new.to_vec();
        flipped[4095] ^= 1;
        assert_eq!(read_back(&flipped), Content::Foreign);
        assert_eq!(read_back(&[0; BLOCK_SIZE]), Content::Zero);
        assert_eq!(read_back(&new[..512]), Content::Foreign);
    }

    #[test]
    fn the_compressible_share_is_zeros() {
        let block = fill_run(Lba(0), 1, 1, 1, 75);
        let zeros = block.iter().filter(|byte| **byte == 0).count();
        assert!((3000..3200).contains(&zeros), "{zeros} zeros");
    }
}
