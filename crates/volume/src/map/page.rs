//! Pages of the map. See docs/formats/map-page.md.
//!
//! ```text
//! header   0 u32 magic "AZMP"   4 u8 version 1   5 u8 level   6 u16 entries   8 u16 extents   10 u16 zero
//! extents  24 bytes each
//! leaf     8 bytes an entry: u16 first block, u16 blocks, u16 index of the extent, u16 slot
//! inner    12 bytes an entry: u16 child index, u16 index of the extent, u16 frame, u16 zero, u32 mapped blocks
//! ```
//! The page's checksum is its frame's. Entries are sorted and do not overlap.

use crate::overlay::Slot;
use catalog::{MapRoot, PagePointer};
use vocab::{ExtentId, IdMap};

/// Blocks that one leaf covers: 2 MiB.
pub const LEAF_BLOCKS: u64 = 512;
/// Children of an inner page.
pub const FANOUT: u64 = 128;
/// Levels of pages at most; 512 blocks * 128^4 = 512 TiB.
pub const HEIGHT_MAX: u8 = MapRoot::HEIGHT_MAX;

const MAGIC: [u8; 4] = *b"AZMP";
const VERSION: u8 = 1;
const HEADER_BYTES: usize = 12;
const LEAF_ENTRY_BYTES: usize = 8;
const INNER_ENTRY_BYTES: usize = 12;

/// Blocks covered by a page of this level (0 = leaf).
#[must_use]
pub fn span(level: u8) -> u64 {
    LEAF_BLOCKS * FANOUT.pow(u32::from(level))
}

/// Consecutive blocks in consecutive slots of an extent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeafRun {
    /// First block, relative to the leaf.
    pub start: u16,
    /// Blocks; at least 1.
    pub blocks: u16,
    /// The extent.
    pub extent: ExtentId,
    /// Slot of the first block.
    pub slot: Slot,
}

/// A child of an inner page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Child {
    /// Which one, below [`FANOUT`].
    pub index: u16,
    /// Where it lies.
    pub page: PagePointer,
    /// Blocks mapped below it.
    pub mapped: u32,
}

/// A decoded page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Page {
    /// Level 0.
    Leaf(Vec<LeafRun>),
    /// Level 1 and up.
    Inner(u8, Vec<Child>),
}

/// Why bytes are not a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PageDamage {
    /// No page of this format.
    #[error("not a map page")]
    Magic,
    /// Written by a newer release.
    #[error("map page of version {0}, this release reads {VERSION}: upgrade")]
    Version(u8),
    /// A field out of range.
    #[error("malformed map page: {0}")]
    Malformed(&'static str),
}

/// Collects the extents a page names, each once.
#[derive(Default)]
struct Dictionary {
    extents: Vec<ExtentId>,
    index: IdMap<ExtentId, u16>,
}

impl Dictionary {
    fn index_of(&mut self, extent: ExtentId) -> u16 {
        // Neighbours mostly share their extent.
        if self.extents.last() == Some(&extent) {
            return (self.extents.len() - 1) as u16;
        }
        let next = u16::try_from(self.extents.len()).expect("at most 512 entries in a page");
        let index = *self.index.entry(extent).or_insert(next);
        if index == next {
            self.extents.push(extent);
        }
        index
    }
}

impl Page {
    /// 0 for a leaf.
    #[must_use]
    pub fn level(&self) -> u8 {
        match self {
            Self::Leaf(_) => 0,
            Self::Inner(level, _) => *level,
        }
    }

    /// Blocks mapped at and below this page.
    #[must_use]
    pub fn mapped(&self) -> u64 {
        match self {
            Self::Leaf(runs) => runs.iter().map(|run| u64::from(run.blocks)).sum(),
            Self::Inner(_, children) => children.iter().map(|child| u64::from(child.mapped)).sum(),
        }
    }

    /// Bytes it takes in memory, about.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        64 + match self {
            Self::Leaf(runs) => runs.capacity() * size_of::<LeafRun>(),
            Self::Inner(_, children) => children.capacity() * size_of::<Child>(),
        }
    }

    /// Encodes the page.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut dictionary = Dictionary::default();
        let mut entries = Vec::new();
        let count = match self {
            Self::Leaf(runs) => {
                for run in runs {
                    let index = dictionary.index_of(run.extent);
                    for field in [run.start, run.blocks, index, run.slot] {
                        entries.extend_from_slice(&field.to_le_bytes());
                    }
                }
                runs.len()
            }
            Self::Inner(_, children) => {
                for child in children {
                    let index = dictionary.index_of(child.page.extent);
                    for field in [child.index, index, child.page.frame, 0] {
                        entries.extend_from_slice(&field.to_le_bytes());
                    }
                    entries.extend_from_slice(&child.mapped.to_le_bytes());
                }
                children.len()
            }
        };
        let capacity = HEADER_BYTES + dictionary.extents.len() * ExtentId::BYTES + entries.len();
        let mut bytes = Vec::with_capacity(capacity);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&[VERSION, self.level()]);
        bytes.extend_from_slice(
            &u16::try_from(count)
                .expect("at most 512 entries")
                .to_le_bytes(),
        );
        bytes.extend_from_slice(&(dictionary.extents.len() as u16).to_le_bytes());
        bytes.extend_from_slice(&[0, 0]);
        for extent in &dictionary.extents {
            bytes.extend_from_slice(&extent.to_bytes());
        }
        bytes.extend_from_slice(&entries);
        bytes
    }

    /// Decodes a page and checks every field.
    ///
    /// # Errors
    /// [`PageDamage`].
    pub fn decode(bytes: &[u8]) -> Result<Self, PageDamage> {
        let header = bytes.get(..HEADER_BYTES).ok_or(PageDamage::Magic)?;
        if header[..4] != MAGIC {
            return Err(PageDamage::Magic);
        }
        if header[4] != VERSION {
            return Err(PageDamage::Version(header[4]));
        }
        let level = header[5];
        let u16_of = |at: usize| usize::from(u16::from_le_bytes([header[at], header[at + 1]]));
        let (count, extents) = (u16_of(6), u16_of(8));
        let entry_bytes = if level == 0 {
            LEAF_ENTRY_BYTES
        } else {
            INNER_ENTRY_BYTES
        };
        let (extents_end, end) = {
            let extents_end = HEADER_BYTES + extents * ExtentId::BYTES;
            (extents_end, extents_end + count * entry_bytes)
        };
        // Frames may be padded.
        if end > bytes.len() || level >= HEIGHT_MAX {
            return Err(PageDamage::Malformed("cut short"));
        }
        let extent = |index: u16| {
            let at = HEADER_BYTES + usize::from(index) * ExtentId::BYTES;
            let known = usize::from(index) < extents;
            let found = known.then(|| {
                bytes[at..at + ExtentId::BYTES]
                    .try_into()
                    .expect("24 bytes")
            });
            found
                .map(ExtentId::from_bytes)
                .ok_or(PageDamage::Malformed("unknown extent"))
        };
        let entries = bytes[extents_end..end].chunks_exact(entry_bytes);
        if level == 0 {
            decode_leaf(entries, extent)
        } else {
            decode_inner(level, entries, extent)
        }
    }
}

fn field(entry: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([entry[at], entry[at + 1]])
}

fn decode_leaf<'a>(
    entries: impl Iterator<Item = &'a [u8]>,
    extent: impl Fn(u16) -> Result<ExtentId, PageDamage>,
) -> Result<Page, PageDamage> {
    let mut runs = Vec::new();
    let mut reached = 0u64;
    for entry in entries {
        let (start, blocks, slot) = (field(entry, 0), field(entry, 2), field(entry, 6));
        let in_order = u64::from(start) >= reached && blocks > 0;
        reached = u64::from(start) + u64::from(blocks);
        if !in_order || reached > LEAF_BLOCKS || slot.checked_add(blocks).is_none() {
            return Err(PageDamage::Malformed("leaf run out of order"));
        }
        runs.push(LeafRun {
            start,
            blocks,
            extent: extent(field(entry, 4))?,
            slot,
        });
    }
    Ok(Page::Leaf(runs))
}

fn decode_inner<'a>(
    level: u8,
    entries: impl Iterator<Item = &'a [u8]>,
    extent: impl Fn(u16) -> Result<ExtentId, PageDamage>,
) -> Result<Page, PageDamage> {
    let mut children: Vec<Child> = Vec::new();
    for entry in entries {
        let index = field(entry, 0);
        let after = children.last().is_none_or(|child| child.index < index);
        if !after || u64::from(index) >= FANOUT {
            return Err(PageDamage::Malformed("child out of order"));
        }
        let page = PagePointer {
            extent: extent(field(entry, 2))?,
            frame: field(entry, 4),
        };
        if page.frame >= PagePointer::FRAMES_MAX {
            return Err(PageDamage::Malformed("child in a frame no extent has"));
        }
        let mapped = u32::from_le_bytes([entry[8], entry[9], entry[10], entry[11]]);
        children.push(Child {
            index,
            page,
            mapped,
        });
    }
    Ok(Page::Inner(level, children))
}

#[cfg(test)]
mod tests {
    use super::*;
    use fuzz::target;
    use proptest::prelude::*;
    use vocab::{Epoch, GroupId, VolumeId};

    fn extent(counter: u32) -> ExtentId {
        ExtentId {
            group: GroupId(1),
            volume: VolumeId(1),
            epoch: Epoch(1),
            counter,
        }
    }

    #[test]
    fn pages_survive_their_encoding() {
        let run = |at: u16| LeafRun {
            start: at * 2,
            blocks: 1,
            extent: extent(u32::from(at % 7)),
            slot: at,
        };
        let leaf = Page::Leaf((0..256).map(run).collect());
        assert_eq!(Page::decode(&leaf.encode()), Ok(leaf.clone()));
        assert_eq!(leaf.mapped(), 256);
        let child = |index: u16| Child {
            index,
            page: PagePointer {
                extent: extent(u32::from(index / 50)),
                frame: index,
            },
            mapped: 512,
        };
        let inner = Page::Inner(3, (0..128).map(child).collect());
        assert_eq!(Page::decode(&inner.encode()), Ok(inner));
    }

    fn leaf() -> Page {
        let run = |at: u16| LeafRun {
            start: at * 2,
            blocks: 1,
            extent: extent(u32::from(at % 7)),
            slot: at,
        };
        Page::Leaf((0..20).map(run).collect())
    }

    fn inner() -> Page {
        let child = |index: u16| Child {
            index,
            page: PagePointer {
                extent: extent(u32::from(index / 5)),
                frame: index,
            },
            mapped: 512,
        };
        Page::Inner(1, (0..20).map(child).collect())
    }

    /// What walks rely on without looking.
    fn is_safe(page: &Page, bytes: usize) -> bool {
        match page {
            Page::Leaf(runs) => {
                let inside = |run: &LeafRun| {
                    u64::from(run.start) + u64::from(run.blocks) <= LEAF_BLOCKS
                        && run.slot.checked_add(run.blocks).is_some()
                };
                runs.len() * LEAF_ENTRY_BYTES <= bytes && runs.iter().all(inside)
            }
            Page::Inner(level, children) => {
                let inside = |child: &Child| {
                    u64::from(child.index) < FANOUT && child.page.frame.checked_mul(4).is_some()
                };
                *level > 0
                    && *level < HEIGHT_MAX
                    && children.len() * INNER_ENTRY_BYTES <= bytes
                    && children.iter().all(inside)
            }
        }
    }

    #[test]
    fn fuzz_corpus_of_pages() {
        let target = target!("map-page");
        let whole = LeafRun {
            start: 0,
            blocks: LEAF_BLOCKS as u16,
            extent: extent(1),
            slot: 0,
        };
        let samples = [
            ("leaf", leaf()),
            ("inner", inner()),
            ("whole", Page::Leaf(vec![whole])),
            ("empty-leaf", Page::Leaf(Vec::new())),
            ("empty-inner", Page::Inner(HEIGHT_MAX - 1, Vec::new())),
        ];
        for (name, page) in samples {
            let committed = target.sample(name, &page.encode());
            assert_eq!(Page::decode(&committed), Ok(page), "{name}");
        }
        let mut newer = leaf().encode();
        newer[4] = VERSION + 1;
        let refused = Page::decode(&target.sample("newer", &newer));
        assert_eq!(refused, Err(PageDamage::Version(VERSION + 1)));
        let cut = target.sample("cut", &inner().encode()[..200]);
        assert_eq!(Page::decode(&cut), Err(PageDamage::Malformed("cut short")));
        target.play(|bytes| {
            if let Ok(page) = Page::decode(bytes) {
                assert!(is_safe(&page, bytes.len()));
                assert_eq!(Page::decode(&page.encode()), Ok(page));
            }
        });
    }

    proptest! {
        #[test]
        fn fuzz_any_bytes_are_a_page_or_refused(mut bytes in proptest::collection::vec(any::<u8>(), 0..400), level in 0_u8..7, entries in 0_u16..12, extents in 0_u16..5) {
            let _ = Page::decode(&bytes);
            if bytes.len() >= HEADER_BYTES {
                bytes[..4].copy_from_slice(&MAGIC);
                bytes[4..6].copy_from_slice(&[VERSION, level]);
                bytes[6..8].copy_from_slice(&entries.to_le_bytes());
                bytes[8..10].copy_from_slice(&extents.to_le_bytes());
            }
            if let Ok(page) = Page::decode(&bytes) {
                prop_assert!(is_safe(&page, bytes.len()));
            }
        }

        #[test]
        fn fuzz_changed_bytes_of_a_page_are_a_page_or_refused(
            changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..5),
            cut in any::<proptest::sample::Index>(),
            (of_inner, shorter) in any::<(bool, bool)>(),
        ) {
            let mut bytes = if of_inner { inner() } else { leaf() }.encode();
            for (at, value) in changes {
                let at = at.index(bytes.len());
                bytes[at] = value;
            }
            if shorter {
                bytes.truncate(cut.index(bytes.len()));
            }
            if let Ok(page) = Page::decode(&bytes) {
                prop_assert!(is_safe(&page, bytes.len()));
                prop_assert!(page.mapped() <= span(page.level()) || page.level() > 0);
            }
        }
    }
}
