//! The two regions that hold the state in turn. Format: docs/formats/store-state.md.

use crate::header::{Area, page_crc};
use crate::state::State;
use std::rc::Rc;
use world::{Buf, Disk, DiskError, PAGE};

const MAGIC: &[u8; 4] = b"AZST";
pub(crate) const VERSION: u32 = 1;
/// Bytes of one write of a region.
const CHUNK_BYTES: usize = 1 << 20;

/// Bytes of encoded state that a region can hold.
pub fn capacity(state: Area) -> u64 {
    state.bytes - PAGE as u64
}

fn region(state: Area, number: u64) -> u64 {
    state.offset + (number % 2) * state.bytes
}

/// Writes checkpoint `number` to its region and flushes the disk.
///
/// # Panics
/// When the state exceeds [`capacity`]: the store refuses what would make it grow so far.
pub async fn write(
    disk: &Rc<dyn Disk>,
    area: Area,
    number: u64,
    encoded: &[u8],
) -> Result<u64, DiskError> {
    assert!(
        encoded.len() as u64 <= capacity(area),
        "the state outgrew its region"
    );
    let start = region(area, number);
    for (index, chunk) in encoded.chunks(CHUNK_BYTES).enumerate() {
        let at = start + (PAGE + index * CHUNK_BYTES) as u64;
        disk.write(at, Buf::copy_of(chunk).freeze()).await?;
    }
    // The header goes last: a torn region has the header of an older checkpoint, whose checksum fails.
    let mut head = Buf::zeroed(PAGE);
    head[0..4].copy_from_slice(MAGIC);
    head[8..16].copy_from_slice(&number.to_le_bytes());
    head[16..24].copy_from_slice(&(encoded.len() as u64).to_le_bytes());
    head[24..28].copy_from_slice(&crc32c::crc32c(encoded).to_le_bytes());
    head[28..32].copy_from_slice(&VERSION.to_le_bytes());
    let crc = page_crc(&head, 4);
    head[4..8].copy_from_slice(&crc.to_le_bytes());
    disk.write(start, head.freeze()).await?;
    disk.flush().await?;
    Ok((PAGE + encoded.len().next_multiple_of(PAGE)) as u64)
}

struct Found {
    number: u64,
    bytes: u64,
    crc: u32,
}

fn decode_head(page: &[u8], area: Area) -> Option<Found> {
    let u32_at =
        |at: usize| u32::from_le_bytes([page[at], page[at + 1], page[at + 2], page[at + 3]]);
    let u64_at = |at: usize| u64::from(u32_at(at)) | u64::from(u32_at(at + 4)) << 32;
    let whole =
        page.len() >= PAGE && &page[0..4] == MAGIC && page_crc(&page[..PAGE], 4) == u32_at(4);
    let found = Found {
        number: whole.then(|| u64_at(8))?,
        bytes: u64_at(16),
        crc: u32_at(24),
    };
    (u32_at(28) == VERSION && found.bytes <= capacity(area)).then_some(found)
}

/// The newest valid state with its checkpoint number; `None` when both regions are damaged. A newest region
/// that was torn by a crash is no damage: the older one with its journal is complete.
pub async fn read(disk: &Rc<dyn Disk>, area: Area) -> Result<Option<(u64, State)>, DiskError> {
    let mut found: Vec<(Found, u64)> = Vec::new();
    for number in 0..2 {
        let start = region(area, number);
        let head = disk.read(start, PAGE).await?;
        found.extend(decode_head(&head, area).map(|head| (head, start)));
    }
    found.sort_by_key(|(head, _)| std::cmp::Reverse(head.number));
    for (head, start) in found {
        let mut encoded = Vec::with_capacity(head.bytes as usize);
        while (encoded.len() as u64) < head.bytes {
            let left = (head.bytes as usize - encoded.len()).min(CHUNK_BYTES);
            let at = start + (PAGE + encoded.len()) as u64;
            let chunk = disk.read(at, left.next_multiple_of(PAGE)).await?;
            encoded.extend_from_slice(&chunk[..left]);
        }
        if crc32c::crc32c(&encoded) == head.crc
            && let Some(state) = State::decode(&encoded)
        {
            return Ok(Some((head.number, state)));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use fuzz::target;
    use proptest::prelude::*;

    const AREA: Area = Area {
        offset: 16384,
        bytes: 1 << 20,
    };

    fn sealed(page: &mut [u8]) {
        page[0..4].copy_from_slice(MAGIC);
        let crc = page_crc(&page[..PAGE], 4);
        page[4..8].copy_from_slice(&crc.to_le_bytes());
    }

    /// A header of a region: its number, bytes and checksum of the state.
    fn region_header(number: u64, bytes: u64, crc: u32) -> Vec<u8> {
        let mut page = vec![0; PAGE];
        page[8..16].copy_from_slice(&number.to_le_bytes());
        page[16..24].copy_from_slice(&bytes.to_le_bytes());
        page[24..28].copy_from_slice(&crc.to_le_bytes());
        page[28..32].copy_from_slice(&VERSION.to_le_bytes());
        sealed(&mut page);
        page
    }

    #[test]
    fn fuzz_corpus_of_region_headers() {
        let decode = |bytes: &[u8]| {
            let mut page = bytes.to_vec();
            page.resize(PAGE, 0);
            let found = decode_head(&page, AREA)?;
            assert!(found.bytes <= capacity(AREA));
            Some((found.number, found.bytes, found.crc))
        };
        let target = target!("region-header");
        for (name, bytes) in [("empty", 0), ("full", capacity(AREA))] {
            let committed = target.sample(name, &region_header(7, bytes, 0x1234_5678)[..32]);
            assert_eq!(decode(&committed), Some((7, bytes, 0x1234_5678)), "{name}");
        }
        let larger = region_header(7, capacity(AREA) + 1, 1);
        assert_eq!(decode(&target.sample("larger", &larger[..32])), None);
        let seal = |mut bytes: Vec<u8>| {
            bytes.resize(PAGE, 0);
            sealed(&mut bytes);
            bytes
        };
        let play = |bytes: &[u8]| {
            let _ = decode(bytes);
        };
        target.play_changed(play, seal);
    }

    proptest! {
        #[test]
        fn fuzz_any_region_header_is_one_that_fits_or_none(
            mut page in proptest::collection::vec(any::<u8>(), PAGE - 1..PAGE + 2),
            version in 0_u32..3,
            bytes in prop_oneof![any::<u64>(), 0_u64..3 << 20],
            seal: bool,
        ) {
            if seal && page.len() >= PAGE {
                page[16..24].copy_from_slice(&bytes.to_le_bytes());
                page[28..32].copy_from_slice(&version.to_le_bytes());
                sealed(&mut page);
            }
            let expected = seal && page.len() >= PAGE && version == VERSION && bytes <= capacity(AREA);
            // What is read next is as long as the header says: it must never exceed the region.
            prop_assert_eq!(decode_head(&page, AREA).map(|head| head.bytes), expected.then_some(bytes));
        }

        #[test]
        fn fuzz_flipped_bits_of_a_region_header_are_found(bit in 0_usize..PAGE * 8) {
            let mut page = vec![0; PAGE];
            page[28..32].copy_from_slice(&VERSION.to_le_bytes());
            sealed(&mut page);
            prop_assert!(decode_head(&page, AREA).is_some());
            page[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(decode_head(&page, AREA).is_none());
        }
    }
}
