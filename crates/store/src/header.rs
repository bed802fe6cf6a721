//! Disk headers and marks. Format: docs/formats/disk-header.md.

use bytes::Bytes;
use vocab::{DiskId, Incarnation, StoreId};
use world::{Buf, PAGE};

/// Bound of the disks of one store.
pub const DISKS_MAX: usize = 8;
/// Bound of a cluster's name in bytes.
pub const CLUSTER_BYTES_MAX: usize = 64;
/// Sessions a mark remembers: more than a node that cannot join starts in a night, one page with room to spare.
pub const SESSIONS_KEPT: usize = 480;

const MAGIC: &[u8; 8] = b"AZEKURA1";
/// Byte of a mark behind its sessions.
const FIRST_CHECKPOINT_AT: usize = 56 + 8 * SESSIONS_KEPT;
const MARK_MAGIC: &[u8; 4] = b"AZMK";
/// Version of the disk format this release writes.
pub const VERSION: u32 = 1;

/// A range of bytes on a disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Area {
    /// First byte.
    pub offset: u64,
    /// Length.
    pub bytes: u64,
}

impl Area {
    fn end(self) -> Option<u64> {
        self.offset.checked_add(self.bytes)
    }
}

/// What a disk says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Name of the cluster.
    pub cluster: String,
    /// The store.
    pub store: StoreId,
    /// Place among the store's disks.
    pub index: usize,
    /// All disks of the store.
    pub disks: Vec<DiskId>,
    /// Size when it was formatted.
    pub disk_bytes: u64,
    /// First of the two state regions; the second follows it.
    pub state: Area,
    /// The journal ring.
    pub journal: Area,
    /// Room for extents.
    pub extents: Area,
}

/// Why a page is not a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderDamage {
    /// Something else, or nothing.
    Foreign,
    /// Of a newer release.
    Version(u32),
    /// Ours, but damaged.
    Damaged,
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

/// Checksum of a page with the four bytes at `field` taken as zero.
pub fn page_crc(page: &[u8], field: usize) -> u32 {
    let crc = crc32c::crc32c_append(crc32c::crc32c(&page[..field]), &[0; 4]);
    crc32c::crc32c_append(crc, &page[field + 4..])
}

impl Header {
    /// The header as a page.
    pub fn encode(&self) -> Bytes {
        let mut page = Buf::zeroed(PAGE);
        assert!(self.cluster.len() <= CLUSTER_BYTES_MAX && self.disks.len() <= DISKS_MAX);
        page[0..8].copy_from_slice(MAGIC);
        page[8..12].copy_from_slice(&VERSION.to_le_bytes());
        page[16..16 + self.cluster.len()].copy_from_slice(self.cluster.as_bytes());
        page[80..84].copy_from_slice(&self.store.0.to_le_bytes());
        page[84..86].copy_from_slice(&(self.index as u16).to_le_bytes());
        page[86..88].copy_from_slice(&(self.disks.len() as u16).to_le_bytes());
        for (disk, slot) in self.disks.iter().zip(page[88..].chunks_exact_mut(8)) {
            slot.copy_from_slice(&disk.0.to_le_bytes());
        }
        let numbers = [
            self.disk_bytes,
            self.state.offset,
            self.state.bytes,
            self.journal.offset,
            self.journal.bytes,
            self.extents.offset,
            self.extents.bytes,
        ];
        for (number, slot) in numbers.iter().zip(page[152..].chunks_exact_mut(8)) {
            slot.copy_from_slice(&number.to_le_bytes());
        }
        let crc = page_crc(&page, 12);
        page[12..16].copy_from_slice(&crc.to_le_bytes());
        page.freeze()
    }

    /// Parses and verifies a header page.
    pub fn decode(page: &[u8]) -> Result<Self, HeaderDamage> {
        if page.len() < PAGE || &page[0..8] != MAGIC {
            return Err(HeaderDamage::Foreign);
        }
        if u32_at(page, 8) != VERSION {
            return Err(HeaderDamage::Version(u32_at(page, 8)));
        }
        if page_crc(&page[..PAGE], 12) != u32_at(page, 12) {
            return Err(HeaderDamage::Damaged);
        }
        let name = &page[16..16 + CLUSTER_BYTES_MAX];
        let name = &name[..name
            .iter()
            .position(|&byte| byte == 0)
            .unwrap_or(name.len())];
        let cluster = std::str::from_utf8(name)
            .map_err(|_| HeaderDamage::Damaged)?
            .to_owned();
        let index = usize::from(u16::from_le_bytes([page[84], page[85]]));
        let count = usize::from(u16::from_le_bytes([page[86], page[87]]));
        if count == 0 || count > DISKS_MAX || index >= count {
            return Err(HeaderDamage::Damaged);
        }
        let area = |at| Area {
            offset: u64_at(page, at),
            bytes: u64_at(page, at + 8),
        };
        let header = Self {
            cluster,
            store: StoreId(u32_at(page, 80)),
            index,
            disks: (0..count)
                .map(|disk| DiskId(u64_at(page, 88 + 8 * disk)))
                .collect(),
            disk_bytes: u64_at(page, 152),
            state: area(160),
            journal: area(176),
            extents: area(192),
        };
        if header.is_sound() {
            Ok(header)
        } else {
            Err(HeaderDamage::Damaged)
        }
    }

    fn is_sound(&self) -> bool {
        let page = PAGE as u64;
        let both_states = Area {
            bytes: self.state.bytes.saturating_mul(2),
            ..self.state
        };
        let areas = [both_states, self.journal, self.extents];
        let within = |area: &Area| {
            area.end().is_some_and(|end| end <= self.disk_bytes)
                && area.offset.is_multiple_of(page)
                && area.bytes.is_multiple_of(page)
        };
        // The first disk holds a state of at least one page behind its header, and a ring.
        let complete = self.index > 0 || (self.state.bytes > page && self.journal.bytes > 0);
        complete && areas.iter().all(within)
    }
}

/// Who had the store open last, and how it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The newer of two marks has the higher one.
    pub counter: u64,
    /// The store's life.
    pub incarnation: Incarnation,
    /// Boot of the machine.
    pub boot_id: [u8; 16],
    /// Stopped cleanly.
    pub clean: bool,
    /// Last journal batch at a clean stop.
    pub last_batch: u64,
    /// Newest first.
    pub sessions: Vec<u64>,
    /// Number of the checkpoint that the run which wrote the mark began with; 0: of a release that did not say.
    pub first_checkpoint: u64,
}

impl Mark {
    /// The mark as a page.
    pub fn encode(&self) -> Bytes {
        let mut page = Buf::zeroed(PAGE);
        page[0..4].copy_from_slice(MARK_MAGIC);
        page[8..16].copy_from_slice(&self.counter.to_le_bytes());
        page[16..24].copy_from_slice(&self.incarnation.0.to_le_bytes());
        page[24..40].copy_from_slice(&self.boot_id);
        page[40] = u8::from(self.clean);
        page[48..56].copy_from_slice(&self.last_batch.to_le_bytes());
        let slots = page[56..56 + 8 * SESSIONS_KEPT].chunks_exact_mut(8);
        for (session, slot) in self.sessions.iter().zip(slots) {
            slot.copy_from_slice(&session.to_le_bytes());
        }
        let first = FIRST_CHECKPOINT_AT..FIRST_CHECKPOINT_AT + 8;
        page[first].copy_from_slice(&self.first_checkpoint.to_le_bytes());
        let crc = page_crc(&page, 4);
        page[4..8].copy_from_slice(&crc.to_le_bytes());
        page.freeze()
    }

    /// Parses and verifies a mark; `None` when it is none.
    pub fn decode(page: &[u8]) -> Option<Self> {
        let whole = page.len() >= PAGE && &page[0..4] == MARK_MAGIC;
        if !whole || page_crc(&page[..PAGE], 4) != u32_at(page, 4) {
            return None;
        }
        let sessions = (0..SESSIONS_KEPT).map(|index| u64_at(page, 56 + 8 * index));
        Some(Self {
            counter: u64_at(page, 8),
            incarnation: Incarnation(u64_at(page, 16)),
            boot_id: page[24..40].try_into().expect("16 bytes"),
            clean: page[40] == 1,
            last_batch: u64_at(page, 48),
            sessions: sessions.take_while(|&session| session != 0).collect(),
            first_checkpoint: u64_at(page, FIRST_CHECKPOINT_AT),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fuzz::target;
    use proptest::prelude::*;

    /// A store that finds a batch or a state of a version it does not know takes it for damage. It must not get that far.
    #[test]
    fn the_headers_version_stands_for_all_that_is_on_the_disk() {
        let formats = (
            u32::from(crate::journal::batch::VERSION),
            crate::checkpoint::VERSION,
        );
        assert_eq!(
            (VERSION, formats),
            (1, (1, 1)),
            "raise the header's version with those of the journal and the state, and these figures with it"
        );
    }

    fn header() -> Header {
        let area = |offset, bytes| Area { offset, bytes };
        Header {
            cluster: "lab".to_owned(),
            store: StoreId(3),
            index: 1,
            disks: vec![DiskId(7), DiskId(8)],
            disk_bytes: 1 << 30,
            state: area(16384, 1 << 20),
            journal: area(4 << 20, 64 << 20),
            extents: area(128 << 20, 512 << 20),
        }
    }

    #[test]
    fn a_header_survives_its_encoding() {
        assert_eq!(Header::decode(&header().encode()), Ok(header()));
    }

    #[test]
    fn a_header_of_the_future_is_named() {
        let mut page = header().encode().to_vec();
        page[8] = 2;
        assert_eq!(Header::decode(&page), Err(HeaderDamage::Version(2)));
    }

    fn mark() -> Mark {
        Mark {
            counter: 4,
            incarnation: Incarnation(5),
            boot_id: [9; 16],
            clean: true,
            last_batch: 77,
            sessions: vec![1, 2, 3],
            first_checkpoint: 6,
        }
    }

    #[test]
    fn a_mark_survives_its_encoding() {
        assert_eq!(Mark::decode(&mark().encode()), Some(mark()));
    }

    /// A page without the zeros at its end, as it is in the corpus.
    fn short(page: &[u8]) -> &[u8] {
        let used = page.iter().rposition(|byte| *byte != 0);
        &page[..used.map_or(0, |last| last + 1)]
    }

    fn page(bytes: &[u8]) -> Vec<u8> {
        let mut page = bytes.to_vec();
        page.resize(PAGE, 0);
        page
    }

    fn sealed(bytes: Vec<u8>, field: usize) -> Vec<u8> {
        let mut page = page(&bytes);
        let crc = page_crc(&page, field);
        page[field..field + 4].copy_from_slice(&crc.to_le_bytes());
        page
    }

    /// What an open relies on: areas within the disk, and a place among the disks.
    fn use_up(bytes: &[u8]) {
        let Ok(header) = Header::decode(&page(bytes)) else {
            return;
        };
        assert!(header.index < header.disks.len() && header.disks.len() <= DISKS_MAX);
        let both = header.state.offset + 2 * header.state.bytes;
        let extents = header.extents.offset + header.extents.bytes;
        assert!(both.max(extents) <= header.disk_bytes);
        assert!(header.journal.offset + header.journal.bytes <= header.disk_bytes);
        assert_eq!(Header::decode(&header.encode()), Ok(header));
    }

    #[test]
    fn fuzz_corpus_of_headers() {
        let target = target!("header");
        let second = header();
        let area = |offset, bytes| Area { offset, bytes };
        let first = Header {
            cluster: "x".repeat(CLUSTER_BYTES_MAX),
            index: 0,
            disks: (1..=DISKS_MAX as u64).map(DiskId).collect(),
            state: area(16384, 1 << 20),
            journal: area(4 << 20, 64 << 20),
            ..header()
        };
        for (name, header) in [("first", first), ("second", second)] {
            let committed = target.sample(name, short(&header.encode()));
            assert_eq!(Header::decode(&page(&committed)), Ok(header), "{name}");
        }
        let mut newer = header().encode().to_vec();
        newer[8] = 2;
        let newer = target.sample("newer", short(&newer));
        assert_eq!(Header::decode(&page(&newer)), Err(HeaderDamage::Version(2)));
        let cut = target.sample("cut", &header().encode()[..150]);
        assert_eq!(Header::decode(&page(&cut)), Err(HeaderDamage::Damaged));
        target.play_changed(use_up, |bytes| sealed(bytes, 12));
    }

    #[test]
    fn fuzz_corpus_of_marks() {
        let target = target!("mark");
        let many = Mark {
            sessions: (1..=40).collect(),
            clean: false,
            ..mark()
        };
        let older = Mark {
            first_checkpoint: 0,
            ..mark()
        };
        for (name, mark) in [("clean", mark()), ("many", many), ("older", older)] {
            let committed = target.sample(name, short(&mark.encode()));
            assert_eq!(Mark::decode(&page(&committed)), Some(mark), "{name}");
        }
        let decode = |bytes: &[u8]| {
            if let Some(mark) = Mark::decode(&page(bytes)) {
                assert!(mark.sessions.len() <= SESSIONS_KEPT);
                assert_eq!(Mark::decode(&mark.encode()), Some(mark));
            }
        };
        target.play_changed(decode, |bytes| sealed(bytes, 4));
    }

    proptest! {
        #[test]
        fn fuzz_flipped_bits_are_found(bit in 0_usize..PAGE * 8) {
            let mut page = header().encode().to_vec();
            page[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(Header::decode(&page).is_err());
        }

        #[test]
        fn fuzz_arbitrary_pages_never_panic(mut page in proptest::collection::vec(any::<u8>(), PAGE), fix: bool) {
            if fix {
                page[0..8].copy_from_slice(MAGIC);
                page[8..12].copy_from_slice(&VERSION.to_le_bytes());
                let crc = page_crc(&page, 12);
                page[12..16].copy_from_slice(&crc.to_le_bytes());
            }
            let _ = Header::decode(&page);
            let _ = Mark::decode(&page);
            let mut mark = page.clone();
            mark[0..4].copy_from_slice(MARK_MAGIC);
            let crc = page_crc(&mark, 4);
            mark[4..8].copy_from_slice(&crc.to_le_bytes());
            let mark = Mark::decode(&mark).expect("any sealed page is a mark");
            prop_assert!(mark.sessions.len() <= SESSIONS_KEPT);
        }

        #[test]
        fn fuzz_sealed_headers_have_areas_that_can_be_used(at in 80_usize..208, value: u8, index in 0_u16..2) {
            let mut page = header().encode().to_vec();
            page[84..86].copy_from_slice(&index.to_le_bytes());
            page[at] = value;
            let crc = page_crc(&page, 12);
            page[12..16].copy_from_slice(&crc.to_le_bytes());
            if let Ok(header) = Header::decode(&page) {
                let states = header.state.offset + 2 * header.state.bytes;
                prop_assert!(states.max(header.journal.offset + header.journal.bytes) <= header.disk_bytes);
                prop_assert!(header.index > 0 || header.journal.bytes > 0);
                prop_assert!(header.index > 0 || crate::checkpoint::capacity(header.state) > 0);
            }
        }

        #[test]
        fn fuzz_flipped_bits_of_a_mark_are_found(bit in 0_usize..PAGE * 8) {
            let mut page = mark().encode().to_vec();
            page[bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(Mark::decode(&page), None);
        }
    }
}
