use super::*;
use futures_util::FutureExt;
use std::collections::BTreeMap;
use vocab::{Epoch, GroupId, VolumeId};

/// Pages in memory.
#[derive(Default)]
struct Shelf(RefCell<BTreeMap<PagePointer, Vec<u8>>>);

impl PageSource for Shelf {
    fn load(&self, page: PagePointer) -> LocalBoxFuture<'static, Result<bytes::Bytes, String>> {
        let found = self
            .0
            .borrow()
            .get(&page)
            .cloned()
            .ok_or("no such page".to_owned());
        Box::pin(std::future::ready(found.map(bytes::Bytes::from)))
    }
}

struct ShelfSink<'a>(&'a Shelf, u32);

impl PageSink for ShelfSink<'_> {
    fn push<'a>(&'a mut self, page: &'a [u8]) -> LocalBoxFuture<'a, Result<PagePointer, String>> {
        self.1 += 1;
        let pointer = PagePointer {
            extent: extent(1_000_000 + self.1),
            frame: 0,
        };
        self.0.0.borrow_mut().insert(pointer, page.to_vec());
        Box::pin(std::future::ready(Ok(pointer)))
    }
}

fn extent(counter: u32) -> ExtentId {
    ExtentId {
        group: GroupId(1),
        volume: VolumeId(1),
        epoch: Epoch(1),
        counter,
    }
}

struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

type Model = BTreeMap<u64, (ExtentId, Slot)>;

/// Sorted, disjoint changes within `span`, and the model after them.
fn random_changes(random: &mut Random, span: u64, model: &mut Model, round: u32) -> Vec<MapChange> {
    let mut changes = Vec::new();
    let mut at = random.below(span / 4);
    while at < span && changes.len() < 40 {
        let unmap = random.below(4) == 0;
        let blocks = if unmap {
            1 + random.below(span / 8)
        } else {
            1 + random.below(6)
        };
        let blocks = blocks.min(span - at);
        let place = (!unmap).then(|| {
            (
                extent(round * 100 + changes.len() as u32),
                random.below(900) as Slot,
            )
        });
        changes.push(MapChange {
            lba: at,
            blocks,
            place,
        });
        for index in 0..blocks {
            match place {
                Some((extent, slot)) => model.insert(at + index, (extent, slot + index as Slot)),
                None => model.remove(&(at + index)),
            };
        }
        at += blocks + random.below(span / 16);
    }
    changes
}

fn read_all(cache: &PageCache, root: MapRoot, span: u64) -> Model {
    let runs = lookup(cache, root, 0, span)
        .now_or_never()
        .expect("no waiting")
        .expect("readable");
    let mut model = Model::new();
    let mut at = 0;
    for run in runs {
        assert_eq!(run.lba, at);
        at += run.blocks;
        let Some((extent, slot)) = run.place else {
            continue;
        };
        for index in 0..run.blocks {
            model.insert(run.lba + index, (extent, slot + index as Slot));
        }
    }
    assert_eq!(at, span);
    model
}

#[test]
fn updates_equal_a_model_and_older_roots_stay_as_they_were() {
    for seed in 0..30 {
        let mut random = Random(seed);
        let shelf = Rc::new(Shelf::default());
        let cache = PageCache::new(shelf.clone(), 4096);
        let span = [600, 5_000, 70_000, 9_000_000][seed as usize % 4];
        let mut sink = ShelfSink(&shelf, 0);
        let (mut root, mut model) = (MapRoot::default(), Model::new());
        let mut versions = Vec::new();
        for round in 0..8 {
            let before = (root, model.clone());
            let changes = random_changes(&mut random, span, &mut model, round);
            let updated = update(&cache, root, &changes, &mut sink)
                .now_or_never()
                .expect("no waiting");
            root = updated.expect("updates");
            assert_eq!(root.mapped_blocks, model.len() as u64, "seed {seed}");
            versions.push(before);
        }
        assert_eq!(read_all(&cache, root, span), model, "seed {seed}");
        for (old_root, old_model) in &versions {
            assert_eq!(read_all(&cache, *old_root, span), *old_model, "seed {seed}");
            check_diff(&cache, (*old_root, old_model), (root, &model));
        }
        let mut marks = Marks::default();
        mark(&cache, root, &mut marks)
            .now_or_never()
            .expect("no waiting")
            .expect("readable");
        for (extent, slot) in model.values() {
            let bits = marks.live(extent).expect("marked");
            assert!(bits[usize::from(*slot) / 8] & (1 << (slot % 8)) != 0);
        }
    }
}

fn check_diff(cache: &PageCache, older: (MapRoot, &Model), newer: (MapRoot, &Model)) {
    let mut from = 0;
    let mut differing = BTreeMap::new();
    loop {
        let step = diff(cache, older.0, newer.0, from, 5)
            .now_or_never()
            .expect("no waiting");
        let (runs, next) = step.expect("readable");
        for run in runs {
            for lba in run.lba..run.lba + run.blocks {
                assert!(
                    differing.insert(lba, run.mapped).is_none(),
                    "each block once"
                );
            }
        }
        match next {
            Some(next) => from = next,
            None => break,
        }
    }
    let all: std::collections::BTreeSet<u64> =
        older.1.keys().chain(newer.1.keys()).copied().collect();
    for lba in all {
        let changed = older.1.get(&lba) != newer.1.get(&lba);
        assert_eq!(
            differing.get(&lba).copied(),
            changed.then(|| newer.1.contains_key(&lba)),
            "block {lba}"
        );
    }
}

#[test]
fn what_roots_share_is_what_their_models_share() {
    for seed in 100..130 {
        let mut random = Random(seed);
        let shelf = Rc::new(Shelf::default());
        let cache = PageCache::new(shelf.clone(), 4096);
        let span = [600, 5_000, 70_000, 9_000_000][seed as usize % 4];
        let mut sink = ShelfSink(&shelf, 0);
        let mut step = |root, model: &mut Model, round| {
            let changes = random_changes(&mut random, span, model, round);
            let updated = update(&cache, root, &changes, &mut sink);
            updated
                .now_or_never()
                .expect("no waiting")
                .expect("updates")
        };
        let (mut root, mut model) = (MapRoot::default(), Model::new());
        let mut roots = Vec::new();
        for round in 0..6 {
            root = step(root, &mut model, round);
            roots.push((root, model.clone()));
        }
        // Two clones of an old one, of which one changes nothing.
        let (old, mut changed) = roots[2].clone();
        roots.push((step(old, &mut changed, 50), changed));
        roots.push(roots[2].clone());
        roots.push((MapRoot::default(), Model::new()));
        let maps: Vec<MapRoot> = roots.iter().map(|(root, _)| *root).collect();
        let tally = tally(&cache, &maps).now_or_never().expect("no waiting");
        compare_tally(&tally.expect("readable"), &roots, seed);
    }
}

/// Against sets of places.
fn compare_tally(tally: &Tally, roots: &[(MapRoot, Model)], seed: u64) {
    let mut users: BTreeMap<(ExtentId, Slot), Vec<usize>> = BTreeMap::new();
    let mut extents: BTreeMap<ExtentId, std::collections::BTreeSet<usize>> = BTreeMap::new();
    for (index, (_, model)) in roots.iter().enumerate() {
        for &(extent, slot) in model.values() {
            users.entry((extent, slot)).or_default().push(index);
            extents.entry(extent).or_default().insert(index);
        }
    }
    assert_eq!(tally.distinct_blocks(), users.len() as u64, "seed {seed}");
    for index in 0..roots.len() {
        let alone = users.values().filter(|users| **users == [index]).count();
        assert_eq!(
            tally.exclusive_blocks(index),
            alone as u64,
            "seed {seed}, root {index}"
        );
    }
    for (extent, users) in extents {
        let expected = match users.first() {
            Some(&only) if users.len() == 1 => Referrer::One(only),
            _ => Referrer::Many,
        };
        assert_eq!(
            tally.referrer(&extent),
            Some(expected),
            "seed {seed}, {extent}"
        );
    }
}
