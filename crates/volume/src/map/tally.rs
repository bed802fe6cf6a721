//! Which of several roots refers to what: what only one of them has, and what they share.
//!
//! Blocks are compared by where they lie, so a page that was rewritten beside unchanged entries shares those. Pages that
//! several roots reach are read twice at most, however many roots there are.

use super::page::Page;
use super::{MapError, PageCache, check_level};
use catalog::{MapRoot, PagePointer};
use std::collections::BTreeMap;
use vocab::{ExtentId, IdMap};

/// Who refers to an extent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Referrer {
    /// The root with this index alone.
    One(usize),
    /// Several.
    Many,
}

/// What is known of an extent: bit = frame * 4 + block, as in [`super::Marks`].
struct Use {
    referrer: Referrer,
    seen: Vec<u8>,
    many: Vec<u8>,
}

/// A page that some root reaches.
#[derive(Clone, Copy)]
struct Reached {
    first: usize,
    level: u8,
    shared: bool,
}

/// What was found.
#[derive(Default)]
pub struct Tally {
    extents: BTreeMap<ExtentId, Use>,
    pages: IdMap<PagePointer, Reached>,
    exclusive: Vec<u64>,
    distinct: u64,
}

/// The bits of a run that are set already; all of them are afterwards.
fn set(bits: &mut Vec<u8>, first: u16, count: u16) -> u64 {
    let end = usize::from(first) + usize::from(count);
    if bits.len() * 8 < end {
        bits.resize(end.div_ceil(8), 0);
    }
    let mut known = 0;
    for bit in usize::from(first)..end {
        known += u64::from(bits[bit / 8] >> (bit % 8) & 1);
        bits[bit / 8] |= 1 << (bit % 8);
    }
    known
}

fn is_set(bits: &[u8], bit: usize) -> bool {
    bits.get(bit / 8)
        .is_some_and(|byte| byte >> (bit % 8) & 1 == 1)
}

impl Tally {
    /// The root of this index refers to a run of blocks; how many of them none did before.
    fn refer(&mut self, extent: ExtentId, first: u16, count: u16, root: usize) -> u64 {
        let found = self.extents.entry(extent).or_insert_with(|| Use {
            referrer: Referrer::One(root),
            seen: Vec::new(),
            many: Vec::new(),
        });
        if found.referrer != Referrer::One(root) {
            found.referrer = Referrer::Many;
        }
        for bit in usize::from(first)..usize::from(first) + usize::from(count) {
            if is_set(&found.seen, bit) {
                set(&mut found.many, bit as u16, 1);
            }
        }
        u64::from(count) - set(&mut found.seen, first, count)
    }

    /// Several roots refer to a run of blocks.
    fn share(&mut self, extent: ExtentId, first: u16, count: u16) {
        // A page above it was followed when it was seen first.
        if let Some(found) = self.extents.get_mut(&extent) {
            found.referrer = Referrer::Many;
            set(&mut found.many, first, count);
        }
    }

    /// Who refers to an extent; `None`: nobody.
    #[must_use]
    pub fn referrer(&self, extent: &ExtentId) -> Option<Referrer> {
        self.extents.get(extent).map(|found| found.referrer)
    }

    /// Blocks of data that only the root with this index maps.
    #[must_use]
    pub fn exclusive_blocks(&self, root: usize) -> u64 {
        self.exclusive.get(root).copied().unwrap_or(0)
    }

    /// Blocks of data that any of them maps, each counted once.
    #[must_use]
    pub fn distinct_blocks(&self) -> u64 {
        self.distinct
    }
}

/// Compares what `roots` refer to. Cost: reads every page that they reach, those that several reach twice, and the leaves
/// of the others once more. Memory: two bitmaps of at most 2 KiB per extent, 48 bytes per page.
///
/// # Errors
/// [`MapError`]; a retry is safe.
pub async fn tally(cache: &PageCache, roots: &[MapRoot]) -> Result<Tally, MapError> {
    let mut tally = Tally {
        exclusive: vec![0; roots.len()],
        ..Tally::default()
    };
    for (index, root) in roots.iter().enumerate() {
        reach(cache, *root, index, &mut tally).await?;
    }
    spread(cache, &mut tally).await?;
    let alone = tally.pages.iter();
    let alone = alone.filter(|(_, reached)| !reached.shared && reached.level == 0);
    let mut alone: Vec<(PagePointer, usize)> = alone
        .map(|(&pointer, reached)| (pointer, reached.first))
        .collect();
    alone.sort_unstable_by_key(|(pointer, _)| (pointer.extent, pointer.frame));
    for (pointer, root) in alone {
        let page = cache.page(pointer).await?;
        let Page::Leaf(runs) = &*page else { continue };
        for run in runs {
            let many = tally.extents.get(&run.extent).map(|found| &found.many);
            let slots = usize::from(run.slot)..usize::from(run.slot) + usize::from(run.blocks);
            let only = slots.filter(|&slot| !many.is_some_and(|many| is_set(many, slot)));
            tally.exclusive[root] += only.count() as u64;
        }
    }
    Ok(tally)
}

/// Everything that one root reaches and no root before it did.
async fn reach(
    cache: &PageCache,
    root: MapRoot,
    index: usize,
    tally: &mut Tally,
) -> Result<(), MapError> {
    let mut stack: Vec<(PagePointer, u8)> = Vec::new();
    stack.extend(root.page.map(|page| (page, root.height - 1)));
    while let Some((pointer, level)) = stack.pop() {
        if let Some(reached) = tally.pages.get_mut(&pointer) {
            if reached.first != index {
                reached.shared = true;
                tally.share(pointer.extent, pointer.frame * 4, 1);
            }
            continue;
        }
        let reached = Reached {
            first: index,
            level,
            shared: false,
        };
        tally.pages.insert(pointer, reached);
        tally.refer(pointer.extent, pointer.frame * 4, 1, index);
        let page = cache.page(pointer).await?;
        check_level(&page, level, pointer)?;
        match &*page {
            Page::Leaf(runs) => {
                for run in runs {
                    tally.distinct += tally.refer(run.extent, run.slot, run.blocks, index);
                }
            }
            Page::Inner(_, children) => {
                stack.extend(children.iter().map(|child| (child.page, level - 1)));
            }
        }
    }
    Ok(())
}

/// What lies below a page that several roots reach, they share.
async fn spread(cache: &PageCache, tally: &mut Tally) -> Result<(), MapError> {
    let shared = tally.pages.iter().filter(|(_, reached)| reached.shared);
    let mut stack: Vec<(PagePointer, u8)> = shared
        .map(|(&pointer, reached)| (pointer, reached.level))
        .collect();
    // Higher ones first, so that what lies below them is not visited from each of them.
    stack.sort_unstable_by_key(|(pointer, level)| (*level, pointer.extent, pointer.frame));
    while let Some((pointer, level)) = stack.pop() {
        let page = cache.page(pointer).await?;
        match &*page {
            Page::Leaf(runs) => {
                for run in runs {
                    tally.share(run.extent, run.slot, run.blocks);
                }
            }
            Page::Inner(_, children) => {
                for child in children {
                    let Some(reached) = tally.pages.get_mut(&child.page) else {
                        continue;
                    };
                    if !std::mem::replace(&mut reached.shared, true) {
                        tally.share(child.page.extent, child.page.frame * 4, 1);
                        stack.push((child.page, level - 1));
                    }
                }
            }
        }
    }
    Ok(())
}
