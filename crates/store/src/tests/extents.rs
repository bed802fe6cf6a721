//! Extents: restarts, compaction, rot, a full store.

use super::*;
use world::PAGE;
use world_sim::Rot;

#[test]
fn extents_read_back_survive_restarts_and_are_deleted_for_good() {
    let mut machine = Machine::new(10, 2);
    let store = machine.open();
    for counter in 1..=6 {
        put_extent(&machine, &store, counter, 40, counter % 2 == 0).expect("kept");
    }
    let delete = StoreRequest::DeleteExtents {
        group: GROUP,
        generation: Generation(1),
        ids: vec![extent_id(3)],
    };
    machine.ask(&store, delete).expect("deleted");
    let store = machine.crash();
    for counter in [1, 2, 4, 5, 6] {
        assert_eq!(
            read_extent(&machine, &store, counter),
            Ok(sealed(counter, 40))
        );
    }
    assert_eq!(read_extent(&machine, &store, 3), Err(StoreError::Absent));
    put_extent(&machine, &store, 3, 40, true).expect("ignored: it is deleted");
    assert_eq!(read_extent(&machine, &store, 3), Err(StoreError::Absent));
    assert_eq!(store.status().extents, 5);
}

#[test]
fn a_flushed_extent_survives_a_power_loss_and_an_unflushed_one_is_whole_or_absent() {
    for seed in 100..130 {
        let mut machine = Machine::new(seed, 1 + seed as usize % 2);
        let store = machine.open();
        put_extent(&machine, &store, 1, 64, false).expect("kept");
        machine
            .ask(&store, StoreRequest::FlushExtents)
            .expect("flushed");
        put_extent(&machine, &store, 2, 64, false).expect("kept");
        let store = machine.power_loss();
        assert_eq!(
            read_extent(&machine, &store, 1),
            Ok(sealed(1, 64)),
            "seed {seed}"
        );
        match read_extent(&machine, &store, 2) {
            Ok(bytes) => assert_eq!(bytes, sealed(2, 64)),
            Err(error) => assert_eq!(error, StoreError::Absent, "seed {seed}"),
        }
    }
}

#[test]
fn compaction_frees_space_and_survives() {
    let mut machine = Machine::new(11, 1);
    let store = machine.open();
    put_extent(&machine, &store, 1, 256, true).expect("kept");
    let used = store.status().used;
    let mut live = vec![0; 32];
    live[0] = 0b0110;
    let (id, generation) = (extent_id(1), Generation(1));
    machine
        .ask(
            &store,
            StoreRequest::CompactExtent {
                id,
                generation,
                form: 1,
                live,
            },
        )
        .expect("compacted");
    assert!(store.status().used.0 * 4 < used.0);
    let store = machine.power_loss();
    let read = |block, blocks| StoreRequest::ReadFrames {
        reads: vec![FrameRead {
            id: extent_id(1),
            frame: 0,
            first_block: block,
            blocks,
        }],
    };
    let (_, body) = machine.send(&store, read(1, 2), Vec::new()).expect("live");
    assert_eq!(body, vec![1; 2 * BLOCK_SIZE]);
    assert!(matches!(
        machine.send(&store, read(0, 1), Vec::new()),
        Err(StoreError::Damaged { .. })
    ));
}

#[test]
fn rot_is_noticed_and_a_new_put_heals_it() {
    let machine = Machine::new(12, 1);
    let store = machine.open();
    put_extent(&machine, &store, 1, 64, true).expect("kept");
    let image = run(&machine.sim, &machine.host, {
        let disk = machine.disks[0].open();
        async move { disk.read(0, 64 << 20).await.expect("reads") }
    });
    let magic = image
        .windows(4)
        .position(|bytes| bytes == b"AZX1")
        .expect("the extent");
    let disk = machine.disks[0].open();
    run(&machine.sim, &machine.host, async move {
        let at = (magic + 5 * BLOCK_SIZE) as u64;
        disk.write(at, vec![0xEE; BLOCK_SIZE].into())
            .await
            .expect("writes");
    });
    assert!(matches!(
        read_extent(&machine, &store, 1),
        Err(StoreError::Damaged { .. })
    ));
    put_extent(&machine, &store, 1, 64, true).expect("replaced");
    assert_eq!(read_extent(&machine, &store, 1), Ok(sealed(1, 64)));
}

/// Where the disk holds the newest sealed extent.
fn find_magic(machine: &Machine) -> u64 {
    let image = run(&machine.sim, &machine.host, {
        let disk = machine.disks[0].open();
        async move { disk.read(0, 64 << 20).await.expect("reads") }
    });
    let pages = image.chunks_exact(PAGE);
    let found = pages.rev().position(|page| page.starts_with(b"AZX1"));
    64 * (1 << 20) - (found.expect("the extent") as u64 + 1) * PAGE as u64
}

#[test]
fn an_older_form_takes_the_place_of_a_rotten_newer_one() {
    let mut machine = Machine::new(17, 1);
    let store = machine.open();
    put_extent(&machine, &store, 1, 256, true).expect("kept");
    let mut live = vec![0; 32];
    live[0] = 0b0110;
    let compact = StoreRequest::CompactExtent {
        id: extent_id(1),
        generation: Generation(1),
        form: 3,
        live,
    };
    machine.ask(&store, compact).expect("compacted");
    let form = |store: &Store| {
        let request = StoreRequest::ReadExtent { id: extent_id(1) };
        let (reply, _) = machine.send(store, request, Vec::new())?;
        let StoreReply::Extent { form, .. } = reply else {
            panic!("an extent is answered with one");
        };
        Ok(form)
    };
    assert_eq!(form(&store), Ok(3));
    put_extent(&machine, &store, 1, 256, true).expect("ignored: a newer form is here");
    assert_eq!(form(&store), Ok(3));
    let at = find_magic(&machine);
    machine.disks[0].rot(at..at + 4096, Rot::Noise);
    let used = store.status().used;
    assert!(matches!(form(&store), Err(StoreError::Damaged { .. })) || form(&store) == Ok(0));
    put_extent(&machine, &store, 1, 256, true).expect("an older form is better than none");
    assert_eq!(read_extent(&machine, &store, 1), Ok(sealed(1, 256)));
    assert!(store.status().used > used);
    let store = machine.power_loss();
    assert_eq!(read_extent(&machine, &store, 1), Ok(sealed(1, 256)));
}

#[test]
fn a_place_that_cannot_be_read_costs_a_copy_and_not_the_store() {
    let mut machine = Machine::new(18, 1);
    let store = machine.open();
    put_extent(&machine, &store, 1, 64, true).expect("kept");
    put_extent(&machine, &store, 2, 64, true).expect("kept");
    let second = find_magic(&machine);
    let struck = machine.disks[0].fail_reads_somewhere(second..second + 4096);
    assert_eq!(struck, Some(second));
    let damaged = |counter| {
        let answer = read_extent(&machine, &store, counter);
        matches!(answer, Err(StoreError::Damaged { .. }))
    };
    let (lost, kept) = if damaged(1) { (1, 2) } else { (2, 1) };
    assert!(damaged(lost) && !damaged(kept));
    put_extent(&machine, &store, lost, 64, true).expect("replaced");
    for counter in [1, 2] {
        assert_eq!(
            read_extent(&machine, &store, counter),
            Ok(sealed(counter, 64))
        );
    }
    let store = machine.crash();
    assert_eq!(read_extent(&machine, &store, lost), Ok(sealed(lost, 64)));
}

#[test]
fn what_cannot_be_read_after_a_power_loss_stays_a_damaged_copy() {
    let mut machine = Machine::new(20, 1);
    let store = machine.open();
    put_extent(&machine, &store, 1, 64, false).expect("kept");
    machine
        .ask(&store, StoreRequest::FlushExtents)
        .expect("flushed");
    let at = find_magic(&machine);
    let struck = machine.disks[0].fail_reads_somewhere(at..at + 4096);
    assert_eq!(struck, Some(at));
    let store = machine.power_loss();
    assert_eq!(store.status().extents, 1);
    // Its header cannot be read: every try is a failed read, of one place.
    for _ in 0..100 {
        let answer = read_extent(&machine, &store, 1);
        assert!(
            matches!(answer, Err(StoreError::Damaged { .. })),
            "{answer:?}"
        );
    }
    put_extent(&machine, &store, 1, 64, true).expect("replaced");
    assert_eq!(read_extent(&machine, &store, 1), Ok(sealed(1, 64)));
}

#[test]
fn a_disk_that_reads_nothing_any_more_has_failed() {
    let machine = Machine::new(19, 1);
    let store = machine.open();
    for counter in 1..=40 {
        put_extent(&machine, &store, counter, 4, true).expect("kept");
    }
    machine.disks[0].set_failed(true);
    let failed = (1..=40).any(|counter| {
        matches!(
            read_extent(&machine, &store, counter),
            Err(StoreError::Failed { .. })
        )
    });
    assert!(failed);
}

#[test]
fn a_full_store_refuses_puts_and_serves_reads_and_deletes() {
    let machine = Machine::new(13, 1);
    let store = machine.open();
    let mut counter = 0;
    let refused = loop {
        counter += 1;
        match put_extent(&machine, &store, counter, 252, false) {
            Ok(_) => assert!(counter < 100, "1 MiB extents, under 60 MiB of room"),
            Err(error) => break error,
        }
    };
    assert_eq!(refused, StoreError::Full);
    assert!(store.status().full);
    assert_eq!(read_extent(&machine, &store, 1), Ok(sealed(1, 252)));
    let ids = (1..=10).map(extent_id).collect();
    machine
        .ask(
            &store,
            StoreRequest::DeleteExtents {
                group: GROUP,
                generation: Generation(1),
                ids,
            },
        )
        .expect("deletes");
    put_extent(&machine, &store, counter + 1, 252, false).expect("room again");
}
