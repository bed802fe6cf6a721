//! What a disk holds: the pages a read sees, and for pages written since the last flush everything that
//! a power loss may turn them back into.
//!
//! Invariants
//! - Memory is proportional to the pages that differ from zero; a page is shared by snapshots, not copied.
//! - A page without an entry in `unflushed` is durable as it is.
//! - After `flush(s)` no power loss can return what a write finished by `s` has replaced.

use crate::host::flip_one_bit;
use crate::rng::SimRng;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::ops::Range;
use world::PAGE;

/// The unit that a disk writes atomically.
pub(crate) const SECTOR: usize = 512;
/// Page versions kept per unflushed page. Dropping one only narrows what a power loss may choose from.
const VERSIONS_MAX: usize = 4;

static ZEROS: [u8; PAGE] = [0; PAGE];

/// A page; `None` is all zeros.
pub(crate) type Content = Option<Bytes>;

fn as_slice(content: &Content) -> &[u8] {
    content.as_ref().map_or(&ZEROS[..], |bytes| &bytes[..])
}

/// The pages of a write, copied: one live page must not pin the batch it came in, and buffers aligned for
/// direct I/O are worth twice their size to the allocator.
pub(crate) fn pages_of(data: &Bytes) -> impl Iterator<Item = Content> + '_ {
    let pages = data.chunks_exact(PAGE);
    pages.map(|page| (*page != ZEROS).then(|| Bytes::copy_from_slice(page)))
}

#[derive(Clone)]
struct Version {
    content: Content,
    /// Position of its write among all finished writes of the disk.
    sequence: u64,
    /// A failed flush gave it up: no later flush makes it durable.
    doomed: bool,
}

#[derive(Clone)]
struct Unflushed {
    durable: Content,
    versions: Vec<Version>,
}

/// How the disk's cache was doing when the power failed.
enum Survival {
    Nothing,
    Everything,
    /// Writes up to this one.
    Prefix(u64),
    /// Any page version, kept with this probability.
    Any(f64),
}

/// Pages that a power loss took or mixed.
#[derive(Default)]
pub(crate) struct Loss {
    pub(crate) lost: u64,
    pub(crate) torn: u64,
}

#[derive(Clone, Default)]
pub(crate) struct Image {
    current: BTreeMap<u64, Bytes>,
    unflushed: BTreeMap<u64, Unflushed>,
}

impl Image {
    pub(crate) fn pages(&self) -> u64 {
        self.current.len() as u64
    }

    pub(crate) fn unflushed_pages(&self) -> u64 {
        self.unflushed.len() as u64
    }

    fn get(&self, page: u64) -> Content {
        self.current.get(&page).cloned()
    }

    fn set(&mut self, page: u64, content: Content) {
        match content {
            Some(bytes) => self.current.insert(page, bytes),
            None => self.current.remove(&page),
        };
    }

    /// Reads whole pages from `page` on into zeroed memory.
    pub(crate) fn read(&self, page: u64, zeroed: &mut [u8]) {
        let count = (zeroed.len() / PAGE) as u64;
        for (at, bytes) in self.current.range(page..page + count) {
            let start = (at - page) as usize * PAGE;
            zeroed[start..start + PAGE].copy_from_slice(bytes);
        }
    }

    /// Reads whole pages from `page` on into zeroed memory, as they are if the cache is lost.
    pub(crate) fn read_durable(&self, page: u64, zeroed: &mut [u8]) {
        self.read(page, zeroed);
        let count = (zeroed.len() / PAGE) as u64;
        for (at, unflushed) in self.unflushed.range(page..page + count) {
            let start = (at - page) as usize * PAGE;
            zeroed[start..start + PAGE].copy_from_slice(as_slice(&unflushed.durable));
        }
    }

    /// Whether every page of `pages` is durable as it reads.
    pub(crate) fn is_durable(&self, pages: Range<u64>) -> bool {
        self.unflushed.range(pages).next().is_none()
    }

    pub(crate) fn write(&mut self, page: u64, content: Content, sequence: u64) {
        let durable = self.get(page);
        let unflushed = self.unflushed.entry(page).or_insert_with(|| Unflushed {
            durable,
            versions: Vec::with_capacity(1),
        });
        if unflushed.versions.len() == VERSIONS_MAX {
            unflushed.versions.remove(1);
        }
        unflushed.versions.push(Version {
            content: content.clone(),
            sequence,
            doomed: false,
        });
        self.set(page, content);
    }

    /// Writes a mixture of the old and the new sectors; whether it is a true mixture.
    pub(crate) fn write_torn(
        &mut self,
        page: u64,
        content: &Content,
        sequence: u64,
        rng: &SimRng,
    ) -> bool {
        let old = self.get(page);
        let torn = mix_sectors(rng, &[&old, content]);
        let mixed = torn != old && torn != *content;
        self.write(page, torn, sequence);
        mixed
    }

    /// Makes writes up to `sequence` durable, except those that a failed flush has given up.
    pub(crate) fn flush(&mut self, sequence: u64) {
        self.unflushed.retain(|_, page| {
            let covered = |version: &Version| version.sequence <= sequence && !version.doomed;
            if let Some(newest) = page.versions.iter().rposition(covered) {
                let mut covered = page.versions.drain(..=newest);
                let newest = covered.next_back().expect("rposition found it");
                page.durable = newest.content;
                drop(covered);
            }
            !page.versions.is_empty()
        });
    }

    /// A flush of everything up to `sequence` failed: none of it becomes durable any more.
    pub(crate) fn doom(&mut self, sequence: u64) {
        let pages = self.unflushed.values_mut();
        let versions = pages.flat_map(|page| page.versions.iter_mut());
        for version in versions.filter(|version| version.sequence <= sequence) {
            version.doomed = true;
        }
    }

    /// Decides sector by sector what of the unflushed writes is still there, or that all of it is or none, as `ordered`; all of it is
    /// durable then.
    pub(crate) fn lose_power(
        &mut self,
        rng: &SimRng,
        torn_page: f64,
        ordered: Option<bool>,
    ) -> Loss {
        let newest = self.unflushed.values().flat_map(|page| &page.versions);
        let newest = newest.map(|version| version.sequence).max().unwrap_or(0);
        let survival = match (ordered, rng.below(8)) {
            (Some(false), _) | (None, 0) => Survival::Nothing,
            (Some(true), _) | (None, 1) => Survival::Everything,
            (None, 2 | 3) => Survival::Prefix(newest.saturating_sub(rng.below(64))),
            (None, _) => Survival::Any(*rng.pick(&[0.1, 0.5, 0.9])),
        };
        let mut loss = Loss::default();
        for (page, unflushed) in std::mem::take(&mut self.unflushed) {
            let last_written = self.get(page);
            let content = survivor(&survival, &unflushed, rng, torn_page, &mut loss);
            loss.lost += u64::from(content == unflushed.durable && content != last_written);
            self.set(page, content);
        }
        loss
    }

    /// Damages what is stored, wherever it is stored.
    pub(crate) fn damage(
        &mut self,
        page: u64,
        within: Range<usize>,
        rng: &SimRng,
        mut damage: impl FnMut(&SimRng, &mut [u8]),
    ) {
        let mut bytes = as_slice(&self.get(page)).to_vec();
        let before = bytes.clone();
        damage(rng, &mut bytes[within]);
        let changed = |content: &Content| -> Content {
            // The same bits flip in every version, so that a power loss does not undo the damage.
            let sources = as_slice(content).iter().zip(&before).zip(&bytes);
            let rotten: Vec<u8> = sources.map(|((old, was), is)| old ^ was ^ is).collect();
            Some(Bytes::from(rotten))
        };
        if let Some(unflushed) = self.unflushed.get_mut(&page) {
            unflushed.durable = changed(&unflushed.durable);
            for version in &mut unflushed.versions {
                version.content = changed(&version.content);
            }
        }
        self.set(page, Some(Bytes::from(bytes)));
    }

    /// Flips one bit of a page that holds something; false when there is none.
    pub(crate) fn flip_bit(&mut self, page: u64, rng: &SimRng) -> bool {
        let Some(bytes) = self.current.get(&page) else {
            return false;
        };
        let flipped = flip_one_bit(rng, bytes);
        if let Some(unflushed) = self.unflushed.get_mut(&page)
            && let Some(newest) = unflushed.versions.last_mut()
        {
            newest.content = Some(flipped.clone());
        }
        self.set(page, Some(flipped));
        true
    }

    /// The pages that hold something, within `pages`.
    pub(crate) fn stored(&self, pages: Range<u64>) -> Vec<u64> {
        self.current.range(pages).map(|(page, _)| *page).collect()
    }
}

fn survivor(
    survival: &Survival,
    page: &Unflushed,
    rng: &SimRng,
    torn_page: f64,
    loss: &mut Loss,
) -> Content {
    let alive: Vec<&Version> = page.versions.iter().filter(|one| !one.doomed).collect();
    let newest = match survival {
        Survival::Nothing => None,
        Survival::Everything => alive.last().copied(),
        Survival::Prefix(end) => alive.iter().rfind(|one| one.sequence <= *end).copied(),
        Survival::Any(keep) if rng.chance(torn_page) => {
            // A cache writes sectors back at any time, so older versions of a sector may be what is left.
            let mut choices = vec![&page.durable];
            choices.extend(alive.iter().map(|version| &version.content));
            if rng.chance(*keep) {
                choices.drain(..choices.len().saturating_sub(2));
            }
            let content = mix_sectors(rng, &choices);
            loss.torn += u64::from(choices.iter().all(|choice| **choice != content));
            return content;
        }
        Survival::Any(keep) if rng.chance(*keep) => alive.last().copied(),
        Survival::Any(_) if alive.is_empty() || rng.chance(0.5) => None,
        Survival::Any(_) => Some(*rng.pick(&alive)),
    };
    newest.map_or_else(|| page.durable.clone(), |version| version.content.clone())
}

/// Each sector from a random one of `choices`.
fn mix_sectors(rng: &SimRng, choices: &[&Content]) -> Content {
    let mut page = ZEROS.to_vec();
    for start in (0..PAGE).step_by(SECTOR) {
        let range = start..start + SECTOR;
        page[range.clone()].copy_from_slice(&as_slice(choices[rng.index(choices.len())])[range]);
    }
    (page[..] != ZEROS[..]).then(|| Bytes::from(page))
}
