//! The map: which block of a volume lies in which slot of which extent.
//!
//! A copy-on-write tree of pages in map extents. Leaves cover fixed 2 MiB ranges, inner pages 128 children,
//! so two versions of a tree have equal shapes and a page that both share is skipped by a comparison.
//!
//! Invariants
//! - A page that was put never changes; an update writes new pages from the changed leaves to the root.
//! - Every lookup decodes verified bytes only; damage is an error, never an unmapped block.
//! - An empty page does not exist: its parent has no child there.
//!
//! Read next: `page.rs`, `update.rs`, `walk.rs`.

mod page;
mod tally;
mod update;
mod walk;

pub use page::{LEAF_BLOCKS, Page, PageDamage, span};
pub use tally::{Referrer, Tally, tally};
pub use update::{MapChange, PageSink, update};
pub use walk::{DiffRun, Marks, diff, mark};

use crate::overlay::Slot;
use catalog::{MapRoot, PagePointer};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use vocab::{ExtentId, IdMap};
use world::LocalBoxFuture;

/// Why the map cannot be read or written. A retry is safe.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MapError {
    /// A page's extent cannot be read.
    #[error("map page {frame} of {extent} cannot be read: {reason}")]
    Unreadable {
        /// The extent.
        extent: ExtentId,
        /// The frame.
        frame: u16,
        /// Why.
        reason: String,
    },
    /// A page's bytes are verified and make no sense.
    #[error("map page {frame} of {extent}: {damage}")]
    Damaged {
        /// The extent.
        extent: ExtentId,
        /// The frame.
        frame: u16,
        /// What is wrong.
        #[source]
        damage: PageDamage,
    },
    /// New pages cannot be stored.
    #[error("map pages cannot be written: {0}")]
    Unwritable(String),
}

/// Reads frames that hold pages.
pub trait PageSource {
    /// The verified bytes of a page's frame.
    fn load(&self, page: PagePointer) -> LocalBoxFuture<'static, Result<bytes::Bytes, String>>;
}

/// Decoded pages in memory, bounded by bytes; shared by all volumes of a node.
pub struct PageCache {
    source: Rc<dyn PageSource>,
    pages: RefCell<IdMap<PagePointer, Cached>>,
    /// Order of insertion: eviction gives pages used since a second chance.
    order: RefCell<VecDeque<PagePointer>>,
    bytes: Cell<usize>,
    bytes_max: usize,
    hits: Cell<u64>,
    misses: Cell<u64>,
    /// For the simulator: an update changes the old page too.
    #[cfg(feature = "bugs")]
    shared: Cell<bool>,
}

struct Cached {
    page: Rc<Page>,
    used: Cell<bool>,
}

impl PageCache {
    /// An empty cache of at most `bytes_max` bytes of decoded pages.
    #[must_use]
    pub fn new(source: Rc<dyn PageSource>, bytes_max: usize) -> Rc<Self> {
        Rc::new(Self {
            source,
            pages: RefCell::default(),
            order: RefCell::default(),
            bytes: Cell::new(0),
            bytes_max,
            hits: Cell::new(0),
            misses: Cell::new(0),
            #[cfg(feature = "bugs")]
            shared: Cell::new(false),
        })
    }

    /// Plants [`Bug::SharePages`](crate::Bug::SharePages).
    #[cfg(feature = "bugs")]
    pub fn share_pages(&self) {
        self.shared.set(true);
    }

    /// Bytes of decoded pages now.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes.get()
    }

    /// Bytes of decoded pages at most.
    #[must_use]
    pub fn bytes_max(&self) -> usize {
        self.bytes_max
    }

    /// Pages that were asked for and were in memory, and those that had to be read, since the node started.
    #[must_use]
    pub fn lookups(&self) -> (u64, u64) {
        (self.hits.get(), self.misses.get())
    }

    /// The page if it is in memory.
    #[must_use]
    pub fn get(&self, pointer: PagePointer) -> Option<Rc<Page>> {
        let pages = self.pages.borrow();
        let cached = pages.get(&pointer)?;
        cached.used.set(true);
        Some(cached.page.clone())
    }

    /// The page, read if needed.
    ///
    /// # Errors
    /// [`MapError::Unreadable`], [`MapError::Damaged`].
    pub async fn page(&self, pointer: PagePointer) -> Result<Rc<Page>, MapError> {
        if let Some(page) = self.get(pointer) {
            self.hits.set(self.hits.get() + 1);
            return Ok(page);
        }
        self.misses.set(self.misses.get() + 1);
        let (extent, frame) = (pointer.extent, pointer.frame);
        let bytes = self.source.load(pointer).await;
        let bytes = bytes.map_err(|reason| MapError::Unreadable {
            extent,
            frame,
            reason,
        })?;
        let page = Page::decode(&bytes);
        let page = Rc::new(page.map_err(|damage| MapError::Damaged {
            extent,
            frame,
            damage,
        })?);
        self.insert(pointer, page.clone());
        Ok(page)
    }

    /// Keeps a page, for now.
    pub fn insert(&self, pointer: PagePointer, page: Rc<Page>) {
        let added = page.memory_bytes();
        let cached = Cached {
            page,
            used: Cell::new(false),
        };
        let replaced = self.pages.borrow_mut().insert(pointer, cached);
        let freed = match &replaced {
            Some(old) => old.page.memory_bytes(),
            None => {
                self.order.borrow_mut().push_back(pointer);
                0
            }
        };
        self.bytes.set(self.bytes.get() + added - freed);
        self.evict();
    }

    fn evict(&self) {
        let mut order = self.order.borrow_mut();
        let mut pages = self.pages.borrow_mut();
        while self.bytes.get() > self.bytes_max {
            let Some(oldest) = order.pop_front() else {
                return;
            };
            let Some(cached) = pages.get(&oldest) else {
                continue;
            };
            if cached.used.replace(false) {
                order.push_back(oldest);
                continue;
            }
            self.bytes
                .set(self.bytes.get() - cached.page.memory_bytes());
            pages.remove(&oldest);
        }
    }
}

/// Consecutive blocks that lie in consecutive slots, or are not mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapRun {
    /// First block.
    pub lba: u64,
    /// Blocks; at least 1.
    pub blocks: u64,
    /// Extent and slot of the first one.
    pub place: Option<(ExtentId, Slot)>,
}

/// Looks up `blocks` blocks from `lba` on; the runs cover exactly them, in order.
///
/// # Errors
/// [`MapError`].
pub async fn lookup(
    cache: &PageCache,
    root: MapRoot,
    lba: u64,
    blocks: u64,
) -> Result<Vec<MapRun>, MapError> {
    let mut runs = Vec::new();
    let end = lba + blocks;
    let mut at = lba;
    while at < end {
        let (leaf, leaf_start, leaf_end) = leaf_of(cache, root, at).await?;
        let until = end.min(leaf_end);
        match leaf {
            None => push(
                &mut runs,
                MapRun {
                    lba: at,
                    blocks: until - at,
                    place: None,
                },
            ),
            Some(page) => {
                let Page::Leaf(entries) = &*page else {
                    unreachable!("leaf_of ends at a leaf")
                };
                leaf_runs(entries, leaf_start, at, until, &mut runs);
            }
        }
        at = until;
    }
    Ok(runs)
}

fn push(runs: &mut Vec<MapRun>, run: MapRun) {
    match (runs.last_mut(), run.place) {
        (Some(last), None) if last.place.is_none() => last.blocks += run.blocks,
        _ => runs.push(run),
    }
}

fn leaf_runs(
    entries: &[page::LeafRun],
    leaf_start: u64,
    from: u64,
    until: u64,
    runs: &mut Vec<MapRun>,
) {
    let mut at = from;
    let first =
        entries.partition_point(|run| leaf_start + u64::from(run.start + run.blocks) <= from);
    for run in &entries[first..] {
        let start = leaf_start + u64::from(run.start);
        let end = start + u64::from(run.blocks);
        if start >= until {
            break;
        }
        if start > at {
            push(
                runs,
                MapRun {
                    lba: at,
                    blocks: start - at,
                    place: None,
                },
            );
            at = start;
        }
        let stop = end.min(until);
        let slot = run.slot + u16::try_from(at - start).expect("inside the run");
        push(
            runs,
            MapRun {
                lba: at,
                blocks: stop - at,
                place: Some((run.extent, slot)),
            },
        );
        at = stop;
    }
    if at < until {
        push(
            runs,
            MapRun {
                lba: at,
                blocks: until - at,
                place: None,
            },
        );
    }
}

/// The leaf that covers a block, if it exists, and the range over which that answer holds.
async fn leaf_of(
    cache: &PageCache,
    root: MapRoot,
    lba: u64,
) -> Result<(Option<Rc<Page>>, u64, u64), MapError> {
    let Some(mut pointer) = root.page else {
        return Ok((None, 0, u64::MAX));
    };
    let mut level = root.height - 1;
    if lba >= span(level) {
        return Ok((None, span(level), u64::MAX));
    }
    loop {
        let page = cache.page(pointer).await?;
        check_level(&page, level, pointer)?;
        let Page::Inner(_, children) = &*page else {
            let start = lba - lba % LEAF_BLOCKS;
            return Ok((Some(page), start, start + LEAF_BLOCKS));
        };
        let child_span = span(level - 1);
        let index = lba / child_span % page::FANOUT;
        let start = lba - lba % child_span;
        match children.binary_search_by_key(&index, |child| u64::from(child.index)) {
            Ok(found) => pointer = children[found].page,
            Err(_) => return Ok((None, start, start + child_span)),
        }
        level -= 1;
    }
}

/// A page of another level than its parent says is damage, although its bytes are what was written.
fn check_level(page: &Page, level: u8, pointer: PagePointer) -> Result<(), MapError> {
    if page.level() == level {
        return Ok(());
    }
    let damage = PageDamage::Malformed("page of another level than its parent says");
    Err(MapError::Damaged {
        extent: pointer.extent,
        frame: pointer.frame,
        damage,
    })
}

#[cfg(test)]
mod tests;
