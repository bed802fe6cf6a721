//! Free space in pieces.

use super::*;

/// Blocks of extents of one, two and four granules.
const SMALL: usize = 12;
const MIDDLE: usize = 28;
const LARGE: usize = 60;

fn put_request(counter: u32, blocks: usize) -> (StoreRequest, Vec<Bytes>) {
    let request = StoreRequest::PutExtent {
        id: extent_id(counter),
        generation: Generation(1),
        form: 0,
        durable: true,
        reserved: true,
        missing: Vec::new(),
    };
    (request, vec![sealed(counter, blocks)])
}

fn put_drained(
    machine: &Machine,
    store: &Store,
    counter: u32,
    blocks: usize,
) -> Result<(), StoreError> {
    let (request, body) = put_request(counter, blocks);
    machine.send(store, request, body).map(drop)
}

/// Fills a store with small and middle extents by turns and deletes the small ones; returns what is left, by counter.
fn fragment(machine: &Machine, store: &Store) -> Vec<u32> {
    let mut count = 0;
    loop {
        let blocks = [SMALL, MIDDLE][count as usize % 2];
        match put_drained(machine, store, count, blocks) {
            Ok(()) => count += 1,
            Err(error) => {
                assert_eq!(error, StoreError::Full);
                break;
            }
        }
    }
    let small: Vec<u32> = (0..count).step_by(2).collect();
    for part in small.chunks(500) {
        let delete = StoreRequest::DeleteExtents {
            group: GROUP,
            generation: Generation(1),
            ids: part.iter().map(|&counter| extent_id(counter)).collect(),
        };
        machine.ask(store, delete).expect("deleted");
    }
    let flushed = machine.ask(store, StoreRequest::FlushExtents);
    flushed.expect("the deletions outlast a power loss");
    (1..count).step_by(2).collect()
}

fn assert_held(machine: &Machine, store: &Store, held: &[(u32, usize)]) {
    for &(counter, blocks) in held {
        let read = read_extent(machine, store, counter);
        assert_eq!(read, Ok(sealed(counter, blocks)), "extent {counter}");
    }
}

#[test]
fn free_space_in_pieces_is_gathered_until_all_of_it_is_used() {
    for disks in [1, 2] {
        let mut machine = Machine::new(70, disks);
        let store = machine.open();
        let left = fragment(&machine, &store);
        let mut held: Vec<(u32, usize)> = left.iter().map(|&left| (left, MIDDLE)).collect();
        let pieces = store.status();
        let mut counter = 1_000_000;
        while put_drained(&machine, &store, counter, LARGE).is_ok() {
            held.push((counter, LARGE));
            counter += 1;
        }
        let status = store.status();
        let free = status.capacity.0 - status.used.0;
        // Two MiB for rewrites, or a run for the largest extent on each disk, and less than one more extent.
        let kept = (4 << 20) * disks as u64 + 4 * (64 << 10) * disks as u64;
        assert!(free <= kept, "{free} bytes of {status:?} were left free");
        assert!(counter > 1_000_000 && pieces.used.0 < status.used.0);
        assert_held(&machine, &store, &held);
        let store = machine.power_loss();
        assert_held(&machine, &store, &held);
    }
}

#[test]
fn a_power_loss_while_space_is_gathered_takes_nothing() {
    for seed in 0..40 {
        let mut machine = Machine::new(200 + seed, 1);
        let store = machine.open();
        let left = fragment(&machine, &store);
        let held: Vec<(u32, usize)> = left.iter().map(|&left| (left, MIDDLE)).collect();
        for counter in 0..4 {
            let (request, body) = put_request(1_000_000 + counter, LARGE);
            let answer = store.handle(request, body);
            machine.host.spawn(async move { drop(answer.await) });
        }
        let pause = Duration::from_micros(400 * seed);
        machine.sim.run_until(|| false, pause);
        let store = machine.power_loss();
        assert_held(&machine, &store, &held);
        put_drained(&machine, &store, 2_000_000, LARGE).expect("it goes on");
        assert_held(&machine, &store, &[(2_000_000, LARGE)]);
    }
}

/// Blocks of extents of 1, 2, 10, 32 and 64 granules.
const MIXED: [usize; 5] = [SMALL, MIDDLE, 152, 504, 1016];

#[test]
fn gathering_ends_whatever_lies_on_the_disk() {
    for seed in 0..12_u32 {
        let machine = Machine::new(300 + u64::from(seed), 1 + seed as usize % 2);
        let store = machine.open();
        let mut random = seed.wrapping_mul(0x9E37_79B9) | 1;
        let mut next = move |below: usize| {
            random ^= random << 13;
            random ^= random >> 17;
            random ^= random << 5;
            random as usize % below
        };
        let mut held: Vec<(u32, usize)> = Vec::new();
        for counter in 0..600 {
            let blocks = MIXED[next(MIXED.len())];
            if put_drained(&machine, &store, counter, blocks).is_ok() {
                held.push((counter, blocks));
            }
            // Some go again, so that what is free lies in pieces.
            if held.len() > 20 && next(3) == 0 {
                let (gone, _) = held.swap_remove(next(held.len()));
                let delete = StoreRequest::DeleteExtents {
                    group: GROUP,
                    generation: Generation(1),
                    ids: vec![extent_id(gone)],
                };
                machine.ask(&store, delete).expect("deleted");
            }
        }
        let at_rest = store.clone();
        let ended = machine
            .sim
            .run_until(move || !at_rest.is_gathering(), Duration::from_secs(60));
        assert!(ended, "seed {seed}: it goes on for ever");
        assert_held(&machine, &store, &held);
    }
}
