//! A new version of the tree from changed blocks: every changed leaf and the pages above it once.

use super::page::{Child, FANOUT, LEAF_BLOCKS, LeafRun, Page, span};
use super::{MapError, PageCache, check_level};
use crate::overlay::Slot;
use catalog::{MapRoot, PagePointer};
use futures_util::future::join_all;
use vocab::ExtentId;
use world::LocalBoxFuture;

/// A change of consecutive blocks. Changes of one update are sorted and do not overlap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapChange {
    /// First block.
    pub lba: u64,
    /// Blocks.
    pub blocks: u64,
    /// Where they lie now; `None` unmaps them.
    pub place: Option<(ExtentId, Slot)>,
}

/// Takes new pages and says where they will lie.
pub trait PageSink {
    /// Keeps a page. It need not be readable before the update is complete.
    fn push<'a>(&'a mut self, page: &'a [u8]) -> LocalBoxFuture<'a, Result<PagePointer, String>>;
}

/// Pages read at a time before an update, when they are not in memory.
const PREFETCH: usize = 32;

/// The root of the tree after `changes`. The caller makes the pages durable before it relies on the root.
/// Memory: the changed pages of one path plus the cache.
///
/// # Errors
/// [`MapError`]; pages pushed by then are garbage.
pub async fn update(
    cache: &PageCache,
    root: MapRoot,
    changes: &[MapChange],
    sink: &mut dyn PageSink,
) -> Result<MapRoot, MapError> {
    let Some(last) = changes.last() else {
        return Ok(root);
    };
    let end = last.lba + last.blocks;
    let mut level = root.height.max(1) - 1;
    let mut top: Option<PagePointer> = root.page;
    let mut top_mapped = root.mapped_blocks;
    // A taller root first, with the old one as its first child.
    while span(level) < end {
        if let Some(page) = top {
            let mapped = u32::try_from(top_mapped).unwrap_or(u32::MAX);
            let taller = Page::Inner(
                level + 1,
                vec![Child {
                    index: 0,
                    page,
                    mapped,
                }],
            );
            top = Some(push(cache, sink, taller).await?);
        }
        level += 1;
    }
    let (page, mapped) = apply(cache, sink, top, level, 0, changes).await?;
    top_mapped = mapped;
    let height = if page.is_some() { level + 1 } else { 0 };
    Ok(MapRoot {
        page,
        height,
        mapped_blocks: top_mapped,
    })
}

async fn push(
    cache: &PageCache,
    sink: &mut dyn PageSink,
    page: Page,
) -> Result<PagePointer, MapError> {
    let pointer = sink
        .push(&page.encode())
        .await
        .map_err(MapError::Unwritable)?;
    cache.insert(pointer, std::rc::Rc::new(page));
    Ok(pointer)
}

/// The new version of the page at `base`, or none when it became empty, and the blocks mapped below it.
fn apply<'a>(
    cache: &'a PageCache,
    sink: &'a mut dyn PageSink,
    old: Option<PagePointer>,
    level: u8,
    base: u64,
    changes: &'a [MapChange],
) -> LocalBoxFuture<'a, Result<(Option<PagePointer>, u64), MapError>> {
    Box::pin(async move {
        let page = match old {
            Some(pointer) => {
                let page = cache.page(pointer).await?;
                check_level(&page, level, pointer)?;
                Some(page)
            }
            None => None,
        };
        let new = if level == 0 {
            let old_runs = match page.as_deref() {
                Some(Page::Leaf(runs)) => runs.as_slice(),
                _ => &[],
            };
            Page::Leaf(merge_leaf(old_runs, base, changes))
        } else {
            let old_children = match page.as_deref() {
                Some(Page::Inner(_, children)) => children.as_slice(),
                _ => &[],
            };
            prefetch(cache, old_children, level, base, changes).await;
            let children = merge_inner(cache, sink, old_children, level, base, changes).await?;
            Page::Inner(level, children)
        };
        let mapped = new.mapped();
        let empty = match &new {
            Page::Leaf(runs) => runs.is_empty(),
            Page::Inner(_, children) => children.is_empty(),
        };
        #[cfg(feature = "bugs")]
        if let Some(pointer) = old.filter(|_| cache.shared.get()) {
            cache.insert(pointer, std::rc::Rc::new(new.clone()));
        }
        if empty {
            return Ok((None, 0));
        }
        Ok((Some(push(cache, sink, new).await?), mapped))
    })
}

/// Reads the children that the changes touch, several at a time. Errors show when they are used.
async fn prefetch(
    cache: &PageCache,
    children: &[Child],
    level: u8,
    base: u64,
    changes: &[MapChange],
) {
    let child_span = span(level - 1);
    let touched = |child: &&Child| {
        let start = base + u64::from(child.index) * child_span;
        let first = changes.partition_point(|change| change.lba + change.blocks <= start);
        let touches = changes
            .get(first)
            .is_some_and(|change| change.lba < start + child_span);
        touches && cache.get(child.page).is_none()
    };
    let missing: Vec<PagePointer> = children
        .iter()
        .filter(touched)
        .map(|child| child.page)
        .collect();
    for chunk in missing.chunks(PREFETCH) {
        join_all(chunk.iter().map(|&page| cache.page(page))).await;
    }
}

/// Children after the changes. Changes may reach over the page's bounds on both sides: every level takes
/// only its part of them.
async fn merge_inner(
    cache: &PageCache,
    sink: &mut dyn PageSink,
    old: &[Child],
    level: u8,
    base: u64,
    changes: &[MapChange],
) -> Result<Vec<Child>, MapError> {
    let child_span = span(level - 1);
    let mut children = Vec::with_capacity(old.len().max(8));
    let mut old = old.iter().copied().peekable();
    let (mut index, mut first) = (0, 0);
    while index < FANOUT {
        let (start, end) = (base + index * child_span, base + (index + 1) * child_span);
        while changes
            .get(first)
            .is_some_and(|change| change.lba + change.blocks <= start)
        {
            first += 1;
        }
        let Some(change) = changes.get(first) else {
            break;
        };
        if change.lba >= end {
            index = (change.lba - base) / child_span;
            while let Some(child) = old.next_if(|child| u64::from(child.index) < index) {
                children.push(child);
            }
            continue;
        }
        let count = changes[first..].partition_point(|change| change.lba < end);
        let mine = &changes[first..first + count];
        let replaced = old.next_if(|child| u64::from(child.index) == index);
        // One change that unmaps all of it needs no look inside.
        let all_gone =
            change.place.is_none() && change.lba <= start && change.lba + change.blocks >= end;
        let maps_some = mine.iter().any(|change| change.place.is_some());
        if !all_gone && (replaced.is_some() || maps_some) {
            let old_page = replaced.map(|child| child.page);
            let (page, mapped) = apply(cache, sink, old_page, level - 1, start, mine).await?;
            if let Some(page) = page {
                let mapped = u32::try_from(mapped).unwrap_or(u32::MAX);
                children.push(Child {
                    index: index as u16,
                    page,
                    mapped,
                });
            }
        }
        index += 1;
    }
    children.extend(old);
    Ok(children)
}

/// Runs of a leaf after the changes that touch it.
fn merge_leaf(old: &[LeafRun], base: u64, changes: &[MapChange]) -> Vec<LeafRun> {
    let mut runs: Vec<LeafRun> = Vec::with_capacity(old.len() + changes.len());
    let mut old = old.iter().copied();
    let mut current = old.next();
    for change in changes {
        let from = change.lba.max(base);
        let until = (change.lba + change.blocks).min(base + LEAF_BLOCKS);
        if from >= until {
            continue;
        }
        let (start, end) = ((from - base) as u16, (until - base) as u16);
        while let Some(run) = current {
            let run_end = run.start + run.blocks;
            if run_end <= start {
                append(&mut runs, run);
                current = old.next();
                continue;
            }
            if run.start < start {
                append(
                    &mut runs,
                    LeafRun {
                        blocks: start - run.start,
                        ..run
                    },
                );
            }
            if run_end <= end {
                current = old.next();
                continue;
            }
            // It begins at or before the end of the change and goes on after it.
            let cut = end.max(run.start) - run.start;
            let slot = run.slot + cut;
            current = Some(LeafRun {
                start: run.start + cut,
                blocks: run.blocks - cut,
                slot,
                ..run
            });
            break;
        }
        if let Some((extent, slot)) = change.place {
            let slot = slot + (from - change.lba) as u16;
            append(
                &mut runs,
                LeafRun {
                    start,
                    blocks: end - start,
                    extent,
                    slot,
                },
            );
        }
    }
    while let Some(run) = current {
        append(&mut runs, run);
        current = old.next();
    }
    runs
}

/// Adds a run, joined with the one before where both continue.
fn append(runs: &mut Vec<LeafRun>, run: LeafRun) {
    if let Some(last) = runs.last_mut() {
        let continues = last.extent == run.extent
            && last.start + last.blocks == run.start
            && last.slot + last.blocks == run.slot;
        if continues {
            last.blocks += run.blocks;
            return;
        }
    }
    runs.push(run);
}
