//! Batches: what one journal write holds. Format: docs/formats/journal.md.

use crate::state::Meta;
use bytes::Bytes;
use vocab::{BLOCK_SIZE, Incarnation};
use wire::{RECORD_HEAD_BYTES, Record, RecordHead};
use world::{Buf, PAGE};

const MAGIC: &[u8; 4] = b"AZJB";
pub(crate) const VERSION: u16 = 1;
pub const FIXED_BYTES: usize = 64;
/// Bound of the header of a batch in pages; 16 pages hold the heads of 1,000 records.
pub const HEADER_PAGES_MAX: usize = 16;
/// Bound of the data of a batch in pages: 1 MiB keeps a write short enough not to delay the next one.
pub const DATA_PAGES_MAX: usize = 256;

/// One thing to write.
#[derive(Clone, Debug)]
pub enum Entry {
    /// A record.
    Record(Record),
    /// A live record again.
    Moved(Record),
    /// A redo entry, encoded.
    Meta(Vec<u8>),
}

impl Entry {
    /// A redo entry.
    pub fn meta(meta: &Meta) -> Self {
        Self::Meta(
            postcard::to_allocvec(meta).expect("redo entries hold nothing that cannot be encoded"),
        )
    }

    /// Bytes in the header.
    pub fn entry_bytes(&self) -> usize {
        match self {
            Self::Record(record) | Self::Moved(record) => {
                let inline = if is_paged(&record.head) {
                    0
                } else {
                    record.data.len()
                };
                1 + RECORD_HEAD_BYTES + inline
            }
            Self::Meta(encoded) => 1 + 4 + encoded.len(),
        }
    }

    /// Pages of data.
    pub fn data_pages(&self) -> usize {
        match self {
            Self::Record(record) | Self::Moved(record) if is_paged(&record.head) => {
                record.data.len() / PAGE
            }
            _ => 0,
        }
    }
}

/// Whether the record's data lies in pages of its own: so that blocks are written and read in place.
pub fn is_paged(head: &RecordHead) -> bool {
    head.kind == wire::RecordKind::Write
}

/// Header pages for so many bytes of entries.
pub fn header_pages(entry_bytes: usize) -> usize {
    (FIXED_BYTES + entry_bytes).div_ceil(PAGE)
}

/// What the fixed part says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHead {
    pub session: u64,
    pub batch: u64,
    pub at: u64,
    pub flushed: u64,
    pub incarnation: Incarnation,
    pub header_pages: usize,
    pub data_pages: usize,
    entry_bytes: usize,
    entries: usize,
}

impl BatchHead {
    /// Pages of the whole batch.
    pub fn pages(&self) -> u64 {
        (self.header_pages + self.data_pages) as u64
    }
}

/// Where the data of one record went: (pages from the batch's start, byte in the page); `None` without data.
pub type DataPlace = Option<(u64, u32)>;

/// Encodes a batch and says where the data of each entry lies.
pub fn encode(
    session: u64,
    incarnation: Incarnation,
    batch: u64,
    at: u64,
    flushed: u64,
    entries: &[Entry],
) -> (Bytes, Vec<DataPlace>) {
    let entry_bytes: usize = entries.iter().map(Entry::entry_bytes).sum();
    let data_pages: usize = entries.iter().map(Entry::data_pages).sum();
    let header_pages = header_pages(entry_bytes);
    assert!(
        header_pages <= HEADER_PAGES_MAX && data_pages <= DATA_PAGES_MAX,
        "batches are bounded"
    );
    let mut buf = Buf::zeroed((header_pages + data_pages) * PAGE);
    let mut places = Vec::with_capacity(entries.len());
    let (mut cursor, mut page) = (FIXED_BYTES, header_pages);
    for entry in entries {
        match entry {
            Entry::Record(record) | Entry::Moved(record) => {
                let (paged, moved) = (is_paged(&record.head), matches!(entry, Entry::Moved(_)));
                buf[cursor] = 1 + u8::from(!paged) + 2 * u8::from(moved);
                let head = cursor + 1;
                buf[head..head + RECORD_HEAD_BYTES].copy_from_slice(&record.head.to_bytes());
                cursor = head + RECORD_HEAD_BYTES;
                let data = &record.data;
                let start = if paged { page * PAGE } else { cursor };
                buf[start..start + data.len()].copy_from_slice(data);
                let place = ((start / PAGE) as u64, (start % PAGE) as u32);
                places.push((!data.is_empty()).then_some(place));
                if paged {
                    page += data.len() / PAGE;
                } else {
                    cursor += data.len();
                }
            }
            Entry::Meta(encoded) => {
                buf[cursor] = 5;
                let length = u32::try_from(encoded.len()).expect("bounded by the header");
                buf[cursor + 1..cursor + 5].copy_from_slice(&length.to_le_bytes());
                buf[cursor + 5..cursor + 5 + encoded.len()].copy_from_slice(encoded);
                cursor += 5 + encoded.len();
                places.push(None);
            }
        }
    }
    assert_eq!(
        (cursor, page),
        (FIXED_BYTES + entry_bytes, header_pages + data_pages)
    );
    buf[0..4].copy_from_slice(MAGIC);
    let numbers = [session, batch, at, flushed];
    for (number, slot) in numbers.iter().zip(buf[8..40].chunks_exact_mut(8)) {
        slot.copy_from_slice(&number.to_le_bytes());
    }
    buf[40..44].copy_from_slice(&(entry_bytes as u32).to_le_bytes());
    buf[44..48].copy_from_slice(&(entries.len() as u32).to_le_bytes());
    buf[48..50].copy_from_slice(&(header_pages as u16).to_le_bytes());
    buf[50..52].copy_from_slice(&VERSION.to_le_bytes());
    buf[52..56].copy_from_slice(&(data_pages as u32).to_le_bytes());
    buf[56..64].copy_from_slice(&incarnation.0.to_le_bytes());
    let crc = crate::header::page_crc(&buf[..header_pages * PAGE], 4);
    buf[4..8].copy_from_slice(&crc.to_le_bytes());
    (buf.freeze(), places)
}

/// Parses the fixed part of a header page; the checksum is not verified. `None`: not the page of a batch.
pub fn decode_head(page: &[u8]) -> Option<BatchHead> {
    let u32_at =
        |at: usize| u32::from_le_bytes([page[at], page[at + 1], page[at + 2], page[at + 3]]);
    let u64_at = |at: usize| u64::from(u32_at(at)) | u64::from(u32_at(at + 4)) << 32;
    if page.len() < PAGE || &page[0..4] != MAGIC {
        return None;
    }
    let head = BatchHead {
        session: u64_at(8),
        batch: u64_at(16),
        at: u64_at(24),
        flushed: u64_at(32),
        entry_bytes: u32_at(40) as usize,
        entries: u32_at(44) as usize,
        header_pages: usize::from(u16::from_le_bytes([page[48], page[49]])),
        data_pages: u32_at(52) as usize,
        incarnation: Incarnation(u64_at(56)),
    };
    let sound = (1..=HEADER_PAGES_MAX).contains(&head.header_pages)
        && head.data_pages <= DATA_PAGES_MAX
        && header_pages(head.entry_bytes) == head.header_pages
        && u16::from_le_bytes([page[50], page[51]]) == VERSION;
    sound.then_some(head)
}

/// Whether the checksum over the header pages holds.
pub fn header_is_sound(head: &BatchHead, bytes: &[u8]) -> bool {
    let end = head.header_pages * PAGE;
    let stored = u32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]);
    bytes.len() >= end && crate::header::page_crc(&bytes[..end], 4) == stored
}

/// A decoded entry with the place of its data.
pub type Decoded = (Entry, DataPlace);

/// Decodes the entries of a whole batch whose header is sound. Records are not verified. `None`: the entries
/// contradict the sizes, which a sound header rules out unless a newer release wrote it.
pub fn decode_entries(head: &BatchHead, bytes: &Bytes) -> Option<Vec<Decoded>> {
    if bytes.len() as u64 != head.pages() * PAGE as u64 {
        return None;
    }
    let end = FIXED_BYTES + head.entry_bytes;
    let (mut cursor, mut page) = (FIXED_BYTES, head.header_pages);
    let mut entries = Vec::with_capacity(head.entries.min(DATA_PAGES_MAX));
    while cursor < end {
        let tag = bytes[cursor];
        cursor += 1;
        if tag == 5 {
            let length = bytes.get(cursor..cursor + 4)?;
            let length = u32::from_le_bytes(length.try_into().ok()?) as usize;
            cursor += 4;
            let stop = cursor.checked_add(length).filter(|&stop| stop <= end)?;
            entries.push((Entry::Meta(bytes[cursor..stop].to_vec()), None));
            cursor = stop;
            continue;
        }
        if !(1..=4).contains(&tag) || cursor + RECORD_HEAD_BYTES > end {
            return None;
        }
        let record_head = &bytes[cursor..cursor + RECORD_HEAD_BYTES];
        let record_head = RecordHead::from_bytes(record_head.try_into().ok()?).ok()?;
        cursor += RECORD_HEAD_BYTES;
        let (paged, moved) = (tag % 2 == 1, tag > 2);
        let length = record_head.data_bytes as usize;
        if paged != is_paged(&record_head) || (paged && !length.is_multiple_of(BLOCK_SIZE)) {
            return None;
        }
        let start = if paged { page * PAGE } else { cursor };
        let stop = start.checked_add(length)?;
        if stop > if paged { bytes.len() } else { end } {
            return None;
        }
        let place = (length > 0).then_some(((start / PAGE) as u64, (start % PAGE) as u32));
        let record = Record {
            head: record_head,
            data: bytes.slice(start..stop),
        };
        entries.push((
            if moved {
                Entry::Moved(record)
            } else {
                Entry::Record(record)
            },
            place,
        ));
        if paged {
            page += length / PAGE;
        } else {
            cursor = stop;
        }
    }
    let complete = entries.len() == head.entries && page == head.header_pages + head.data_pages;
    complete.then_some(entries)
}

#[cfg(test)]
mod tests {
    use super::*;
    use fuzz::target;
    use proptest::prelude::*;
    use vocab::{Epoch, Lba, Position, SegmentId, VolumeId};
    use wire::RecordKind;

    fn record(kind: RecordKind, data: Vec<u8>) -> Record {
        let blocks = if kind == RecordKind::Write {
            (data.len() / BLOCK_SIZE) as u32
        } else {
            0
        };
        let mut head = RecordHead {
            crc: 0,
            previous_crc: 0,
            volume: VolumeId(1),
            epoch: Epoch(2),
            position: Position(3),
            segment: SegmentId(4),
            kind,
            lba: Lba(0),
            blocks,
            data_bytes: data.len() as u32,
            committed: Position(2),
            flushed: Position(1),
        };
        head.seal(&data);
        Record {
            head,
            data: data.into(),
        }
    }

    fn sample() -> (Bytes, Vec<Entry>) {
        let entries = vec![
            Entry::Record(record(RecordKind::Write, vec![7; 2 * BLOCK_SIZE])),
            Entry::meta(&Meta::Promise(VolumeId(1), Epoch(9))),
            Entry::Moved(record(RecordKind::Checkpoint, vec![5; 88])),
            Entry::Record(record(RecordKind::Barrier, Vec::new())),
            Entry::Moved(record(RecordKind::Write, vec![8; BLOCK_SIZE])),
        ];
        (encode(11, Incarnation(12), 13, 14, 10, &entries).0, entries)
    }

    #[test]
    fn a_batch_survives_its_encoding() {
        let (bytes, entries) = sample();
        let head = decode_head(&bytes).expect("ours");
        assert!(header_is_sound(&head, &bytes));
        assert_eq!(
            (
                head.session,
                head.batch,
                head.at,
                head.flushed,
                head.pages()
            ),
            (11, 13, 14, 10, 4)
        );
        let decoded = decode_entries(&head, &bytes).expect("sound");
        let (_, places) = encode(11, Incarnation(12), 13, 14, 10, &entries);
        for ((entry, place), (expected, at)) in decoded.iter().zip(entries.iter().zip(places)) {
            assert_eq!(*place, at);
            assert_eq!(format!("{entry:?}"), format!("{expected:?}"));
        }
    }

    /// Bytes of a batch, from the corpus: without the zeros at its end.
    fn pages(bytes: &[u8]) -> Bytes {
        let mut pages = bytes.to_vec();
        pages.resize(bytes.len().max(1).next_multiple_of(PAGE), 0);
        pages.into()
    }

    fn sealed(bytes: Vec<u8>) -> Vec<u8> {
        let mut bytes = pages(&bytes).to_vec();
        let header = usize::from(u16::from_le_bytes([bytes[48], bytes[49]])).max(1) * PAGE;
        let header = header.min(bytes.len());
        let crc = crate::header::page_crc(&bytes[..header], 4);
        bytes[4..8].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// As replay does it: the head, the checksum, then what is in it. Places lie within the batch.
    fn decode(bytes: &[u8]) -> Option<Vec<Decoded>> {
        let bytes = pages(bytes);
        let head = decode_head(&bytes)?;
        let whole = bytes.len() as u64 >= head.pages() * PAGE as u64;
        if !whole || !header_is_sound(&head, &bytes) {
            return None;
        }
        let bytes = bytes.slice(..head.pages() as usize * PAGE);
        let entries = decode_entries(&head, &bytes)?;
        for (entry, place) in &entries {
            if let (Entry::Record(record) | Entry::Moved(record), Some((page, at))) = (entry, place)
            {
                let start = *page as usize * PAGE + *at as usize;
                assert_eq!(bytes[start..start + record.data.len()], record.data);
            }
        }
        Some(entries)
    }

    #[test]
    fn fuzz_corpus_of_batches() {
        let target = target!("batch");
        let (_, entries) = sample();
        let inline = entries[1..4].to_vec();
        let block = record(RecordKind::Write, vec![0; BLOCK_SIZE]);
        let block = vec![Entry::Record(block), entries[1].clone()];
        for (name, entries) in [("inline", inline), ("block", block), ("empty", Vec::new())] {
            let (whole, places) = encode(11, Incarnation(12), 13, 14, 10, &entries);
            let end = whole
                .iter()
                .rposition(|byte| *byte != 0)
                .expect("it has a magic")
                + 1;
            // Zeros at the end are left out, but never a whole page of data.
            let end = end.max(whole.len() - PAGE + 1);
            let committed = target.sample(name, &whole[..end]);
            let head = decode_head(&pages(&committed)).expect("a batch");
            assert_eq!(
                (head.session, head.batch, head.at, head.flushed),
                (11, 13, 14, 10)
            );
            let decoded = decode(&committed).expect("sound");
            let expected: Vec<Decoded> = entries.into_iter().zip(places).collect();
            assert_eq!(format!("{decoded:?}"), format!("{expected:?}"), "{name}");
        }
        target.play_changed(|bytes| drop(decode(bytes)), sealed);
    }

    proptest! {
        #[test]
        fn fuzz_flipped_bits_are_found(at in 0_usize..4 * PAGE, bit in 0_u8..8) {
            let (bytes, _) = sample();
            let mut bytes = bytes.to_vec();
            bytes[at] ^= 1 << bit;
            let bytes = Bytes::from(bytes);
            let Some(head) = decode_head(&bytes) else { return Ok(()) };
            if header_is_sound(&head, &bytes) {
                let entries = decode_entries(&head, &bytes).expect("header is intact");
                let damaged = entries.iter().filter(|(entry, _)| match entry {
                    Entry::Record(record) | Entry::Moved(record) => record.verify().is_err(),
                    Entry::Meta(_) => false,
                });
                prop_assert_eq!(damaged.count(), 1);
            }
        }

        #[test]
        fn fuzz_arbitrary_batches_never_panic(mut bytes in proptest::collection::vec(any::<u8>(), PAGE..3 * PAGE), entry_bytes in 0_u32..5000, data in 0_u32..2) {
            bytes.truncate(bytes.len() / PAGE * PAGE);
            bytes[0..4].copy_from_slice(MAGIC);
            bytes[40..44].copy_from_slice(&entry_bytes.to_le_bytes());
            bytes[48..50].copy_from_slice(&(header_pages(entry_bytes as usize) as u16).to_le_bytes());
            bytes[50..52].copy_from_slice(&VERSION.to_le_bytes());
            bytes[52..56].copy_from_slice(&data.to_le_bytes());
            let bytes = Bytes::from(bytes);
            if let Some(head) = decode_head(&bytes) {
                let _ = header_is_sound(&head, &bytes);
                let _ = decode_entries(&head, &bytes);
            }
        }
    }
}
