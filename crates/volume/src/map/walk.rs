//! Walking whole trees: what they refer to (collection), and how two of them differ (snapshot diff).

use super::page::{Child, LEAF_BLOCKS, LeafRun, Page, span};
use super::{MapError, PageCache, check_level};
use catalog::{MapRoot, PagePointer};
use std::collections::BTreeMap;
use vocab::{ExtentId, IdSet};
use world::LocalBoxFuture;

/// Blocks and pages that some root refers to, as a bitmap per extent: bit = frame * 4 + block.
#[derive(Default)]
pub struct Marks {
    extents: BTreeMap<ExtentId, Vec<u8>>,
    seen: IdSet<PagePointer>,
}

impl Marks {
    fn set(&mut self, extent: ExtentId, first: u16, count: u16) {
        let bits = self.extents.entry(extent).or_default();
        let end = usize::from(first) + usize::from(count);
        if bits.len() * 8 < end {
            bits.resize(end.div_ceil(8), 0);
        }
        for bit in usize::from(first)..end {
            bits[bit / 8] |= 1 << (bit % 8);
        }
    }

    /// The bitmap of an extent; `None` when nothing refers to it.
    #[must_use]
    pub fn live(&self, extent: &ExtentId) -> Option<&[u8]> {
        self.extents.get(extent).map(Vec::as_slice)
    }

    /// Extents that something refers to.
    #[must_use]
    pub fn extents(&self) -> usize {
        self.extents.len()
    }

    /// Blocks (a page counts as one) that something refers to in an extent.
    #[must_use]
    pub fn live_blocks(&self, extent: &ExtentId) -> u32 {
        self.live(extent)
            .map_or(0, |bits| bits.iter().map(|byte| byte.count_ones()).sum())
    }
}

/// Marks everything that `root` refers to; subtrees marked before are skipped.
/// Cost: reads every page not yet seen. Memory: a bitmap of at most 2 KiB per extent, 32 bytes per page.
///
/// # Errors
/// [`MapError`]: the marks are incomplete then and nothing may be collected by them.
pub async fn mark(cache: &PageCache, root: MapRoot, marks: &mut Marks) -> Result<(), MapError> {
    let mut stack: Vec<(PagePointer, u8)> = Vec::new();
    stack.extend(root.page.map(|page| (page, root.height - 1)));
    while let Some((pointer, level)) = stack.pop() {
        if !marks.seen.insert(pointer) {
            continue;
        }
        marks.set(pointer.extent, pointer.frame * 4, 1);
        let page = cache.page(pointer).await?;
        check_level(&page, level, pointer)?;
        match &*page {
            Page::Leaf(runs) => runs
                .iter()
                .for_each(|run| marks.set(run.extent, run.slot, run.blocks)),
            Page::Inner(_, children) => {
                stack.extend(children.iter().map(|child| (child.page, level - 1)));
            }
        }
    }
    Ok(())
}

/// A range in which two maps differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiffRun {
    /// First block.
    pub lba: u64,
    /// Blocks.
    pub blocks: u64,
    /// Whether the newer map has data there.
    pub mapped: bool,
}

/// Ranges in which `newer` may read differently from `older`, in order, from block `from` on; at most about
/// `limit` of them, and where to go on. Subtrees that both share are skipped unread.
///
/// # Errors
/// [`MapError`].
pub async fn diff(
    cache: &PageCache,
    older: MapRoot,
    newer: MapRoot,
    from: u64,
    limit: usize,
) -> Result<(Vec<DiffRun>, Option<u64>), MapError> {
    let level = older.height.max(newer.height).max(1) - 1;
    let mut walk = Diff {
        cache,
        from,
        limit,
        runs: Vec::new(),
        stopped: None,
    };
    let sides = [older, newer].map(|root| root.page.map(|page| (page, root.height - 1)));
    walk.compare(sides[0], sides[1], level, 0).await?;
    Ok((walk.runs, walk.stopped))
}

type Side = Option<(PagePointer, u8)>;

struct Diff<'a> {
    cache: &'a PageCache,
    from: u64,
    limit: usize,
    runs: Vec<DiffRun>,
    stopped: Option<u64>,
}

impl Diff<'_> {
    fn compare(
        &mut self,
        older: Side,
        newer: Side,
        level: u8,
        base: u64,
    ) -> LocalBoxFuture<'_, Result<(), MapError>> {
        Box::pin(async move {
            if older == newer || self.stopped.is_some() || base + span(level) <= self.from {
                return Ok(());
            }
            if self.runs.len() >= self.limit {
                self.stopped = Some(base);
                return Ok(());
            }
            if level == 0 {
                let (old, new) = (self.leaf(older).await?, self.leaf(newer).await?);
                self.compare_leaves(&old, &new, base);
                return Ok(());
            }
            let old = self.children(older, level).await?;
            let new = self.children(newer, level).await?;
            let indexes: std::collections::BTreeSet<u16> =
                old.iter().chain(&new).map(|(index, _)| *index).collect();
            let find = |side: &[(u16, (PagePointer, u8))], index: u16| {
                side.iter()
                    .find(|(at, _)| *at == index)
                    .map(|(_, child)| *child)
            };
            for index in indexes {
                let start = base + u64::from(index) * span(level - 1);
                self.compare(find(&old, index), find(&new, index), level - 1, start)
                    .await?;
            }
            Ok(())
        })
    }

    /// Children at `level`; a root that is lower than the walk stands as the first child.
    async fn children(
        &self,
        side: Side,
        level: u8,
    ) -> Result<Vec<(u16, (PagePointer, u8))>, MapError> {
        let Some((pointer, at)) = side else {
            return Ok(Vec::new());
        };
        if at < level {
            return Ok(vec![(0, (pointer, at))]);
        }
        let page = self.cache.page(pointer).await?;
        check_level(&page, level, pointer)?;
        let Page::Inner(_, children) = &*page else {
            return Ok(Vec::new());
        };
        Ok(children
            .iter()
            .map(|child: &Child| (child.index, (child.page, level - 1)))
            .collect())
    }

    async fn leaf(&self, side: Side) -> Result<Vec<LeafRun>, MapError> {
        let Some((pointer, _)) = side else {
            return Ok(Vec::new());
        };
        let page = self.cache.page(pointer).await?;
        check_level(&page, 0, pointer)?;
        match &*page {
            Page::Leaf(runs) => Ok(runs.clone()),
            Page::Inner(..) => Ok(Vec::new()),
        }
    }

    fn compare_leaves(&mut self, old: &[LeafRun], new: &[LeafRun], base: u64) {
        let places = |runs: &[LeafRun]| {
            let mut places = vec![None; LEAF_BLOCKS as usize];
            for run in runs {
                for index in 0..run.blocks {
                    places[usize::from(run.start + index)] = Some((run.extent, run.slot + index));
                }
            }
            places
        };
        for (index, (old, new)) in places(old).into_iter().zip(places(new)).enumerate() {
            let lba = base + index as u64;
            if old == new || lba < self.from {
                continue;
            }
            match self.runs.last_mut() {
                Some(run) if run.lba + run.blocks == lba && run.mapped == new.is_some() => {
                    run.blocks += 1
                }
                _ => self.runs.push(DiffRun {
                    lba,
                    blocks: 1,
                    mapped: new.is_some(),
                }),
            }
        }
    }
}
