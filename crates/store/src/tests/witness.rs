//! A witness tells what a loss of power would leave from what the store says it has.

use super::*;
use crate::{DiskView, Reached, Witness};

impl DiskView for SimDisk {
    fn durable(&self, offset: u64, len: usize) -> Bytes {
        self.peek_durable(offset, len)
    }

    fn is_durable(&self, offset: u64, len: usize) -> bool {
        SimDisk::is_durable(self, offset, len)
    }
}

fn reached(witness: &mut Witness, machine: &Machine, store: &Store) -> Option<Reached> {
    witness.follow(store, &machine.disks[0]);
    witness.reached(VOLUME, SEGMENT, Epoch(1))
}

fn through(last: u64, in_this_run: bool) -> Option<Reached> {
    let last = Position(last);
    Some(Reached { last, in_this_run })
}

#[test]
fn a_witness_counts_what_was_flushed_and_no_more() {
    let mut machine = Machine::new(31, 1);
    let store = machine.open();
    let mut witness = Witness::of(&store);
    let mut chain = Chain::new(1);
    put(&machine, &store, &[chain.next(1)], false).expect("accepted");
    assert_eq!(reached(&mut witness, &machine, &store), None);
    put(&machine, &store, &[chain.next(2), chain.next(0)], true).expect("accepted");
    assert_eq!(reached(&mut witness, &machine, &store), through(3, true));
    put(&machine, &store, &[chain.next(1)], false).expect("accepted");
    assert_eq!(reached(&mut witness, &machine, &store), through(3, true));

    // What was there when a store opens was flushed before it was open.
    let store = machine.crash();
    assert!(!witness.is_of(&store));
    let mut witness = Witness::of(&store);
    assert_eq!(reached(&mut witness, &machine, &store), through(4, false));
}

#[test]
fn a_witness_gets_over_a_batch_that_the_disk_has_damaged() {
    let machine = Machine::new(32, 1);
    let store = machine.open();
    let mut witness = Witness::of(&store);
    let mut chain = Chain::new(1);
    put(&machine, &store, &[chain.next(1)], true).expect("accepted");
    let journal = &store.0.headers[0].journal;
    let all = journal.offset..journal.offset + journal.bytes;
    machine.disks[0].rot(all, world_sim::Rot::Noise);
    assert_eq!(reached(&mut witness, &machine, &store), through(1, true));
    put(&machine, &store, &[chain.next(1)], false).expect("accepted");
    assert_eq!(reached(&mut witness, &machine, &store), through(1, true));
    put(&machine, &store, &[chain.next(1)], true).expect("accepted");
    assert_eq!(reached(&mut witness, &machine, &store), through(3, true));
}
