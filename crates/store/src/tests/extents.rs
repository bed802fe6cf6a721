//! Extents: restarts, compaction, rot, a full store.

use super::*;

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
