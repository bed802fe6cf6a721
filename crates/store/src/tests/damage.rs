//! Whole stores that are damaged: each opens and says nothing but what was written, or refuses and says what to do.
//!
//! An input of the target is a script: a byte that picks the store, then damages of 12 bytes:
//!
//! ```text
//! 0 u8 what   1 u8 area   2 u16 page among those in use   4 u16 byte   6 u16 bytes   8 u8 value   9 u8 page to copy   10 u16 unused
//! ```
//! One damage of at most a page must be survived without a loss that nobody notices: the store opens, and either lives on another
//! incarnation or has its promises, its extents, and all records but those of the last batches, which look torn.

use super::*;
use fuzz::target;
use std::collections::BTreeMap;
use std::ops::Range;
use world::{Buf, PAGE};

const DISK_BYTES: u64 = 32 << 20;
const DAMAGE_BYTES: usize = 12;
/// Damages of one script.
const DAMAGES_MAX: usize = 16;
/// Records of the log: the last [`TAIL`] are in the last batches.
const RECORDS: u64 = 14;
const TAIL: u64 = 3;
/// What the log's owner had promised last.
const PROMISED: u64 = 5;
/// Extents that were durable and are not deleted, and one that is deleted.
const EXTENTS: [u32; 5] = [1, 3, 4, 5, 6];
const DELETED: u32 = 2;

/// Pages of a disk that are not all zero.
type Pages = BTreeMap<u64, Vec<u8>>;

/// What the disks of a store hold when it is opened.
#[derive(Clone)]
struct Image {
    disks: Vec<Pages>,
    boot: u8,
    incarnation: Incarnation,
}

fn machine(seed: u64, disks: usize, boot: u8) -> Machine {
    let sim = Simulation::new(seed, SimOptions::default());
    let host = sim.host("a");
    let disks = (0..disks).map(|index| host.add_disk(&format!("d{index}"), DISK_BYTES));
    let disks = disks.collect();
    Machine {
        sim,
        host,
        disks,
        boot,
    }
}

/// The records of the log, the same in every run.
fn records() -> Vec<Record> {
    let mut chain = Chain::new(3);
    (0..RECORDS as usize)
        .map(|index| chain.next(index % 3))
        .collect()
}

/// How a store ends before it is damaged.
#[derive(Clone, Copy, PartialEq)]
enum End {
    Killed,
    Closed,
    WithoutPower,
}

/// A store with a checkpoint, two sessions, a log in many batches, promises, notes, extents and a tombstone.
fn image(disks: usize, end: End) -> Image {
    let mut machine = machine(1, disks, 1);
    let (world, open) = (machine.host.world(), machine.open_disks());
    run(&machine.sim, &machine.host, async move {
        format(&world, &open, &options()).await.expect("formats");
    });
    let records = records();
    let append_all = |machine: &Machine, store: &Store, range: Range<usize>| {
        for record in &records[range] {
            put(machine, store, std::slice::from_ref(record), true).expect("accepted");
        }
    };
    let mut store = machine.open();
    machine.ask(&store, fence(3)).expect("promised");
    for counter in 1..=4 {
        put_extent(&machine, &store, counter, 16, true).expect("kept");
    }
    append_all(&machine, &store, 0..5);
    if end == End::Closed {
        let closing = store.clone();
        run(
            &machine.sim,
            &machine.host,
            async move { closing.close().await },
        );
    }
    store = machine.crash();
    let delete = StoreRequest::DeleteExtents {
        group: GROUP,
        generation: Generation(1),
        ids: vec![extent_id(DELETED)],
    };
    append_all(&machine, &store, 5..8);
    machine.ask(&store, delete).expect("deleted");
    for counter in 5..=6 {
        put_extent(&machine, &store, counter, 40, true).expect("kept");
    }
    append_all(&machine, &store, 8..(RECORDS - TAIL) as usize);
    // The owner of the term 3 appends to the end; who comes after it was promised in the catalog of another volume.
    let other = StoreRequest::Fence {
        volume: VolumeId(9),
        epoch: Epoch(PROMISED),
    };
    machine.ask(&store, other).expect("promised");
    append_all(
        &machine,
        &store,
        (RECORDS - TAIL) as usize..RECORDS as usize,
    );
    let incarnation = store.incarnation();
    if end == End::Closed {
        run(
            &machine.sim,
            &machine.host,
            async move { store.close().await },
        );
    }
    match end {
        End::WithoutPower => machine.host.power_loss(),
        End::Killed | End::Closed => machine.host.crash(),
    }
    machine.host.restart();
    machine.boot += u8::from(end == End::WithoutPower);
    let (open, boot) = (machine.open_disks(), machine.boot);
    let disks = run(&machine.sim, &machine.host, async move {
        let mut disks = Vec::new();
        for disk in open {
            disks.push(pages(&disk).await);
        }
        disks
    });
    Image {
        disks,
        boot,
        incarnation,
    }
}

async fn pages(disk: &Rc<dyn Disk>) -> Pages {
    let mut pages = Pages::new();
    for at in (0..DISK_BYTES).step_by(1 << 20) {
        let bytes = disk.read(at, 1 << 20).await.expect("reads");
        let numbered = (at / PAGE as u64..).zip(bytes.chunks_exact(PAGE));
        let used = numbered.filter(|(_, page)| page.iter().any(|byte| *byte != 0));
        pages.extend(used.map(|(number, page)| (number, page.to_vec())));
    }
    pages
}

impl Image {
    /// Puts the pages on new disks and opens them.
    fn open(&self) -> (Machine, Result<Store, crate::OpenError>) {
        // Another seed: an incarnation that is drawn must not be the old one.
        let machine = machine(2, self.disks.len(), self.boot);
        let (open, pages) = (machine.open_disks(), self.disks.clone());
        run(&machine.sim, &machine.host, async move {
            for (disk, pages) in open.iter().zip(&pages) {
                for (page, bytes) in pages {
                    let bytes = Buf::copy_of(bytes).freeze();
                    disk.write(page * PAGE as u64, bytes).await.expect("writes");
                }
                disk.flush().await.expect("flushes");
            }
        });
        let store = machine.try_open();
        (machine, store)
    }
}

/// One damage; see the module's documentation.
struct Damage<'a>(&'a [u8]);

impl Damage<'_> {
    fn number(&self, at: usize) -> usize {
        usize::from(u16::from_le_bytes([self.0[at], self.0[at + 1]]))
    }

    /// Pages of headers, marks, both states, the ring, extents, or anything; of the first disk but for extents.
    fn area(&self) -> Range<u64> {
        // 64 MiB / 1024 and less make a state of 1 MiB, the least; the ring has 4 MiB.
        let (state, ring, extents) = (4, 4 + 512, 4 + 512 + 1024);
        match self.0[1] % 6 {
            0 => 0..2,
            1 => 2..4,
            2 => state..ring,
            3 => ring..extents,
            4 => extents..DISK_BYTES / PAGE as u64,
            _ => 0..DISK_BYTES / PAGE as u64,
        }
    }

    /// Whether it concerns one page only.
    fn is_small(&self) -> bool {
        self.0[0] % 6 != 4
    }

    fn apply(&self, image: &mut Image) {
        let disks = image.disks.len();
        let pages = &mut image.disks[self.number(2) % disks];
        let used: Vec<u64> = pages.range(self.area()).map(|(page, _)| *page).collect();
        let Some(&page) = used.get(self.number(2) / disks % used.len().max(1)) else {
            return;
        };
        let start = self.number(4) % PAGE;
        let range = start..PAGE.min(start + self.number(6).max(1));
        let from = used[usize::from(self.0[9]) % used.len()];
        let copied = pages[&from].clone();
        let bytes = pages.get_mut(&page).expect("is used");
        match self.0[0] % 6 {
            0 => bytes[start] ^= 1 << (self.0[8] % 8),
            1 => bytes[range].fill(self.0[8]),
            2 => bytes[range.clone()].copy_from_slice(&copied[range]),
            3 => *bytes = copied,
            4 => pages.retain(|other, _| *other < page || *other >= self.area().end),
            _ => drop(pages.remove(&page)),
        }
    }
}

/// Opens a damaged store and looks at all it says.
fn play(images: &[Image], script: &[u8]) {
    let Some((which, script)) = script.split_first() else {
        return;
    };
    let mut image = images[usize::from(*which) % images.len()].clone();
    let damages = script
        .chunks_exact(DAMAGE_BYTES)
        .take(DAMAGES_MAX)
        .map(Damage);
    let damages: Vec<Damage> = damages.collect();
    for damage in &damages {
        damage.apply(&mut image);
    }
    let (machine, store) = image.open();
    let small = matches!(&damages[..], [] | [_]) && damages.iter().all(Damage::is_small);
    match store {
        Ok(store) => {
            let same = store.incarnation() == image.incarnation;
            let seen = look(&machine, &store);
            if small && same {
                check_nothing_is_lost(&machine, &store, &seen, &damages, image.boot > 1);
            }
            goes_on(machine, store, &seen);
        }
        Err(error) => {
            let said = error.to_string();
            let what_to_do = [
                "format it first",
                "do not format",
                "upgrade",
                "not one store",
            ];
            assert!(what_to_do.iter().any(|word| said.contains(word)), "{said}");
            assert!(!small, "one damaged page made it refuse: {said}");
        }
    }
}

/// What a store says it has.
struct Seen {
    extents: BTreeMap<u32, Result<Bytes, StoreError>>,
    last: u64,
}

/// Reads everything; what is served must be what was written.
fn look(machine: &Machine, store: &Store) -> Seen {
    let mut extents = BTreeMap::new();
    for counter in (1..=6).chain([77]) {
        let read = read_extent(machine, store, counter);
        if let Ok(bytes) = &read {
            let blocks = if counter > 4 { 40 } else { 16 };
            assert_eq!(*bytes, sealed(counter, blocks), "extent {counter}");
        }
        extents.insert(counter, read);
    }
    let records = records();
    let mut last = 0;
    if let Ok(reply) = machine.ask(store, fence(3)) {
        for tail in tails(reply).1 {
            assert_eq!((tail.segment, tail.epoch), (SEGMENT, Epoch(3)));
            last = tail.last.0;
            for record in read_log(machine, store, 3, tail.first.0) {
                let written = &records[record.head.position.0 as usize - 1];
                assert_eq!(record, *written);
            }
        }
    }
    Seen { extents, last }
}

/// After one small damage a store that claims to be the one it was has what it acknowledged.
fn check_nothing_is_lost(
    machine: &Machine,
    store: &Store,
    seen: &Seen,
    damages: &[Damage],
    power_lost: bool,
) {
    let stale = StoreRequest::Fence {
        volume: VolumeId(9),
        epoch: Epoch(PROMISED - 1),
    };
    let promised = Epoch(PROMISED);
    assert_eq!(
        machine.ask(store, stale),
        Err(StoreError::StaleEpoch { promised })
    );
    assert_eq!(seen.extents[&DELETED], Err(StoreError::Absent));
    let lies_in = |area| {
        let anywhere = 5;
        damages
            .iter()
            .any(|damage| [area, anywhere].contains(&(damage.0[1] % 6)))
    };
    let (ring, extents) = (3, 4);
    for counter in EXTENTS {
        // After a power loss what was not known flushed, and is not whole, counts as never put.
        let may_be_absent = power_lost && lies_in(extents);
        let absent = seen.extents[&counter] == Err(StoreError::Absent);
        assert!(!absent || may_be_absent, "extent {counter}");
    }
    if !lies_in(ring) {
        assert_eq!(
            seen.last, RECORDS,
            "no record is lost without damage in the ring"
        );
    }
}

/// The store takes new data and opens again, with what it had.
fn goes_on(mut machine: Machine, store: Store, seen: &Seen) {
    let segment = SegmentId(1);
    let mut chain = Chain::new(3);
    (chain.segment, chain.position) = (segment, RECORDS);
    let record = chain.next(1);
    // What comes after a lost record or a promise is refused, in words; nothing else is.
    let _ = put(&machine, &store, &[record], true);
    put_extent(&machine, &store, 77, 40, true).expect("kept");
    let closing = store.clone();
    run(
        &machine.sim,
        &machine.host,
        async move { closing.close().await },
    );
    drop(store);
    let store = machine.crash();
    assert_eq!(read_extent(&machine, &store, 77), Ok(sealed(77, 40)));
    for (counter, before) in &seen.extents {
        if before.is_ok() {
            assert_eq!(read_extent(&machine, &store, *counter), *before);
        }
    }
}

#[test]
fn fuzz_corpus_of_damaged_stores() {
    let images = [
        image(1, End::Killed),
        image(2, End::Closed),
        image(1, End::WithoutPower),
    ];
    let target = target!("damaged-store").round_time(std::time::Duration::from_millis(1));
    for (store, name) in ["killed", "closed", "power"].into_iter().enumerate() {
        target.sample(&format!("whole-{name}"), &[store as u8]);
        for (area, place) in ["header", "mark", "state", "ring", "extents"]
            .into_iter()
            .enumerate()
        {
            for (what, how) in ["flip", "fill", "splice", "page", "cut", "hole"]
                .into_iter()
                .enumerate()
            {
                let damage = [what as u8, area as u8, 2, 0, 40, 0, 200, 0, 0xA5, 1, 0, 0];
                let script = [&[store as u8][..], &damage].concat();
                target.sample(&format!("{name}-{place}-{how}"), &script);
            }
        }
    }
    target.play(|script| play(&images, script));
}
