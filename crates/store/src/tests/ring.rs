//! The ring: wrapping, filling up, moving what is old.

use super::*;

#[test]
fn the_ring_wraps_many_times_while_the_log_is_trimmed() {
    let mut machine = Machine::new(7, 1);
    let store = machine.open();
    let mut chain = Chain::new(1);
    // 4 MiB of ring; 24 MiB of records.
    for _ in 0..300 {
        let records: Vec<Record> = (0..4).map(|_| chain.next(5)).collect();
        let mut answer = put(&machine, &store, &records, false);
        for _ in 0..100 {
            if answer != Err(StoreError::JournalFull) {
                break;
            }
            machine.sim.run_for(Duration::from_millis(5));
            answer = put(&machine, &store, &records, false);
        }
        answer.expect("there is room again after a checkpoint");
        let through = Position(chain.position - 8_u64.min(chain.position));
        machine
            .ask(
                &store,
                StoreRequest::TrimLog {
                    volume: VOLUME,
                    epoch: Epoch(1),
                    through,
                },
            )
            .expect("trims");
    }
    let store = machine.crash();
    let (_, segments) = tails(machine.ask(&store, fence(2)).expect("fenced"));
    assert_eq!(segments[0].last, Position(chain.position));
    assert_eq!(read_log(&machine, &store, 2, chain.position - 7).len(), 8);
}

#[test]
fn a_full_ring_refuses_appends_and_recovers_by_trimming() {
    let machine = Machine::new(8, 1);
    let store = machine.open();
    let mut chain = Chain::new(1);
    let refused = loop {
        let record = chain.next(16);
        match put(&machine, &store, &[record], false) {
            Ok(_) => assert!(chain.position < 200, "64 KiB records, 4 MiB ring"),
            Err(error) => break error,
        }
    };
    assert_eq!(refused, StoreError::JournalFull);
    machine.ask(&store, fence(1)).expect("metadata still fits");
    let through = Position(chain.position - 1);
    machine
        .ask(
            &store,
            StoreRequest::TrimLog {
                volume: VOLUME,
                epoch: Epoch(1),
                through,
            },
        )
        .expect("trims");
    machine.sim.run_for(Duration::from_millis(200));
    assert!(store.status().journal_used.0 < 1 << 20);
}

#[test]
fn a_pinned_record_is_moved_so_that_others_go_on() {
    let mut machine = Machine::new(9, 1);
    let store = machine.open();
    let mut pinned = Chain::new(1);
    pinned.segment = SegmentId(9);
    let keep = pinned.next(1);
    put(&machine, &store, std::slice::from_ref(&keep), false).expect("accepted");
    // Another volume's log runs over the ring many times.
    let mut crc = 0;
    for position in 1..=600_u64 {
        let mut chain = Chain {
            volume: VOLUME,
            epoch: Epoch(1),
            segment: SEGMENT,
            position: position - 1,
            crc,
        };
        let mut record = chain.next(8);
        record.head.volume = VolumeId(2);
        record.head.seal(&record.data);
        crc = record.head.crc;
        let (mut request, body) = append(&store, &[record], false);
        if let StoreRequest::Append { volume, .. } = &mut request {
            *volume = VolumeId(2);
        }
        let mut answer = machine.send(&store, request.clone(), body.clone());
        for _ in 0..200 {
            if answer != Err(StoreError::JournalFull) {
                break;
            }
            machine.sim.run_for(Duration::from_millis(5));
            answer = machine.send(&store, request.clone(), body.clone());
        }
        answer.expect("the pinned record does not wedge the ring");
        let trim = StoreRequest::TrimLog {
            volume: VolumeId(2),
            epoch: Epoch(1),
            through: Position(position),
        };
        machine.ask(&store, trim).expect("trims");
    }
    let store = machine.power_loss();
    let request = StoreRequest::ReadLog {
        volume: VOLUME,
        epoch: Epoch(1),
        segment: SegmentId(9),
        from: Position(1),
        bytes_max: 1,
    };
    let (_, body) = machine
        .send(&store, request, Vec::new())
        .expect("still there");
    assert_eq!(Record::decode_batch(1, &body).unwrap(), [keep]);
}

/// Fills the ring with records up to where appends are refused; nothing may be let go.
fn fill_with_records(machine: &Machine, store: &Store) -> Chain {
    let mut chain = Chain::new(1);
    for _ in 0..200 {
        match put(machine, store, &[chain.next(16)], false) {
            Ok(_) => {}
            Err(error) => {
                assert_eq!(error, StoreError::JournalFull);
                return chain;
            }
        }
    }
    panic!("a ring of 4 MiB takes 200 records of 64 KiB");
}

#[test]
fn metadata_behind_old_records_never_fills_the_ring() {
    let machine = Machine::new(31, 1);
    let store = machine.open();
    let chain = fill_with_records(&machine, &store);
    // Far more than the pages left: what a drain does that fails and is repeated.
    for counter in 1..=600 {
        let answer = put_extent(&machine, &store, counter, 4, false);
        assert!(answer.is_ok(), "put {counter}: {answer:?}");
        let request = StoreRequest::DeleteExtents {
            group: GROUP,
            generation: Generation(1),
            ids: vec![extent_id(counter)],
        };
        machine.ask(&store, request).expect("deletes");
    }
    machine.ask(&store, fence(1)).expect("promises fit");
    let trim = StoreRequest::TrimLog {
        volume: VOLUME,
        epoch: Epoch(1),
        through: Position(chain.position - 1),
    };
    machine.ask(&store, trim).expect("trims");
    machine.sim.run_for(Duration::from_secs(1));
    assert!(store.status().journal_used.0 < 1 << 20);
}

#[test]
fn old_records_moved_in_a_tight_ring_survive_a_power_loss() {
    let mut machine = Machine::new(32, 1);
    let store = machine.open();
    let chain = fill_with_records(&machine, &store);
    for counter in 1..=300 {
        put_extent(&machine, &store, counter, 4, true).expect("put");
    }
    let store = machine.power_loss();
    let records = read_log(&machine, &store, 1, 1);
    let positions: Vec<u64> = records
        .iter()
        .map(|record| record.head.position.0)
        .collect();
    assert!(positions.len() > 1, "the first answer holds several");
    assert!(positions.windows(2).all(|pair| pair[1] == pair[0] + 1));
    assert!(chain.position > 40);
}

/// A ring that is full of live records up to a varied distance from its end, and tight.
fn tight_ring(lead: u64) -> (Machine, Store, Chain) {
    let machine = Machine::new(10 + lead, 1);
    let store = machine.open();
    let mut chain = Chain::new(1);
    for _ in 0..lead {
        put(&machine, &store, &[chain.next(8)], false).expect("there is room");
    }
    trim(&machine, &store, chain.position);
    machine.sim.run_for(Duration::from_millis(200));
    let refused = loop {
        let record = chain.next(30);
        if put(&machine, &store, std::slice::from_ref(&record), false).is_err() {
            break record;
        }
    };
    // Promises need room as well, and do not wait for it. A refused append asks for a checkpoint.
    for number in 0..200 {
        let request = StoreRequest::Fence {
            volume: VolumeId(100 + number),
            epoch: Epoch(1),
        };
        // Without waiting for the answer: a ring that is full to the last page has none until it is trimmed.
        let answer = store.handle(request, Vec::new());
        machine.host.spawn(async move { drop(answer.await) });
        machine.sim.run_for(Duration::from_millis(2));
        if put(&machine, &store, std::slice::from_ref(&refused), false).is_ok() {
            break;
        }
    }
    (machine, store, chain)
}

fn trim(machine: &Machine, store: &Store, through: u64) {
    let request = StoreRequest::TrimLog {
        volume: VOLUME,
        epoch: Epoch(1),
        through: Position(through),
    };
    machine.ask(store, request).expect("trims");
}

#[test]
fn records_that_wait_to_be_moved_do_not_hold_up_the_checkpoint_that_makes_room() {
    for lead in 0..60 {
        let (machine, store, chain) = tight_ring(lead);
        trim(&machine, &store, chain.position);
        machine.sim.run_for(Duration::from_secs(2));
        let used = store.status().journal_used.0;
        assert!(used <= 3 << 20, "{used} bytes in use after {lead} records");
    }
}

#[test]
fn a_checkpoint_that_was_refused_lets_in_what_comes_before_it_and_nothing_else() {
    let machine = Machine::new(32, 1);
    let store = machine.open();
    let mut chain = Chain::new(1);
    let refused = loop {
        let record = chain.next(8);
        if let Err(error) = put(&machine, &store, std::slice::from_ref(&record), false) {
            assert_eq!(error, StoreError::JournalFull);
            break record;
        }
        assert!(chain.position < 200, "32 KiB records, 4 MiB ring");
    };
    let again = || put(&machine, &store, std::slice::from_ref(&refused), false);
    machine.sim.run_for(Duration::from_secs(1));
    assert_eq!(again(), Err(StoreError::JournalFull), "nothing was let go");
    let mut checkpoint = chain.next(0);
    checkpoint.head.kind = RecordKind::Checkpoint;
    checkpoint.head.seal(&checkpoint.data);
    chain.crc = checkpoint.head.crc;
    let checkpoint = [checkpoint];
    let gap = put(&machine, &store, &checkpoint, true);
    assert!(matches!(gap, Err(StoreError::Gap { .. })), "{gap:?}");
    again().expect("the checkpoint needs it");
    put(&machine, &store, &checkpoint, true).expect("nothing is before it now");
    let behind = put(&machine, &store, &[chain.next(8)], false);
    assert_eq!(behind, Err(StoreError::JournalFull));
    let trim = StoreRequest::TrimLog {
        volume: VOLUME,
        epoch: Epoch(1),
        through: checkpoint[0].head.position,
    };
    machine.ask(&store, trim).expect("metadata still fits");
}
