//! What becomes of single requests.

use crate::*;
use blockdev::{Allocation, BlockDevice, WriteMode};
use futures_util::future::join_all;
use vocab::{ByteCount, Lba};
use wire::NodeError;

#[test]
fn every_request_does_what_a_local_device_does() {
    let cluster = setup(1, 1000);
    let device = open(&cluster, SECOND);
    assert_eq!(device.size(), ByteCount(1000 * BLOCK_SIZE as u64));
    let data = run(&cluster, async move {
        let pieces = vec![filled(1, 2), filled(2, 1)];
        device.write(Lba(5), pieces, WriteMode::Fua).await.unwrap();
        device.unmap(Lba(6), 1).await.unwrap();
        device.flush().await.unwrap();
        let runs = device.allocation(Lba(4), 5).await.unwrap();
        let expected = [(1, false), (1, true), (1, false), (1, true), (1, false)];
        let expected = expected.map(|(blocks, mapped)| Allocation { blocks, mapped });
        assert_eq!(runs, expected);
        device.read(Lba(5), 3).await.unwrap().concat()
    });
    assert_eq!(data, [filled(1, 1), filled(0, 1), filled(2, 1)].concat());
    assert_eq!(cluster.volume.flushes.get(), 1);
}

#[test]
fn large_requests_are_cut_and_joined() {
    let cluster = setup(1, 5000);
    let device = open(&cluster, SECOND);
    // Pieces whose borders are not those of the cuts.
    let pieces: Vec<Bytes> = (0..10).map(|fill| filled(fill + 1, 130)).collect();
    let expected = pieces.concat();
    let data = run(&cluster, async move {
        let write = device.write(Lba(7), pieces, WriteMode::Buffered);
        write.await.unwrap();
        device.read(Lba(7), 1300).await.unwrap().concat()
    });
    assert!(data == expected);
    let blocks: Vec<u64> = cluster
        .volume
        .arrived
        .borrow()
        .iter()
        .map(|one| one.2)
        .collect();
    assert_eq!(blocks, [256, 256, 256, 256, 256, 20]);
}

#[test]
fn requests_beyond_the_end_fail_until_the_volume_has_grown() {
    let cluster = setup(1, 10);
    let device = open(&cluster, SECOND);
    let other = device.clone();
    let error = run(
        &cluster,
        async move { other.read(Lba(9), 2).await.unwrap_err() },
    );
    assert!(matches!(error, BlockError::OutOfRange { .. }));
    cluster.volume.size.set(20 * BLOCK_SIZE as u64);
    let other = device.clone();
    run(&cluster, async move {
        other.read(Lba(9), 2).await.unwrap();
        let odd = vec![Bytes::from_static(b"odd")];
        let error = other.write(Lba(0), odd, WriteMode::Fua).await.unwrap_err();
        assert!(matches!(error, BlockError::OutOfRange { .. }));
        let empty = other.read(Lba(0), 0).await.unwrap_err();
        assert!(matches!(empty, BlockError::OutOfRange { .. }));
        let wrapped = other.unmap(Lba(u64::MAX), 2).await.unwrap_err();
        assert!(matches!(wrapped, BlockError::OutOfRange { .. }));
    });
    assert_eq!(device.size().blocks(), 20);
    cluster.volume.size.set(30 * BLOCK_SIZE as u64);
    let other = device.clone();
    let info = run(&cluster, async move { other.refresh().await.unwrap() });
    assert_eq!((info.size.blocks(), device.info()), (30, info));
}

#[test]
fn a_read_only_device_refuses_writes_by_itself() {
    let cluster = setup(1, 10);
    let mut options = options(&cluster, SECOND);
    options.read_only = true;
    let device = try_open(&cluster, options).unwrap();
    run(&cluster, async move {
        let write = device.write(Lba(0), vec![filled(1, 1)], WriteMode::Fua);
        assert_eq!(write.await, Err(BlockError::ReadOnly));
        assert_eq!(device.unmap(Lba(0), 1).await, Err(BlockError::ReadOnly));
        device.read(Lba(0), 1).await.unwrap();
    });
    assert!(cluster.volume.arrived.borrow().is_empty());
}

#[test]
fn errors_of_one_request_leave_the_others_alone() {
    let cluster = setup(1, 10);
    let device = open(&cluster, SECOND);
    let reason = || "because".to_owned();
    *cluster.volume.errors.borrow_mut() = vec![
        NodeError::BadRequest { reason: reason() },
        NodeError::Failed { reason: reason() },
        NodeError::NoSpace { reason: reason() },
    ];
    run(&cluster, async move {
        let write = || device.write(Lba(0), vec![filled(1, 1)], WriteMode::Fua);
        assert_eq!(write().await, Err(BlockError::NoSpace(reason())));
        assert_eq!(write().await, Err(BlockError::Failed(reason())));
        assert!(matches!(write().await, Err(BlockError::Failed(_))));
        assert_eq!(write().await, Ok(()));
    });
    assert_eq!(cluster.volume.opens.get(), 1);
}

#[test]
fn a_write_waits_for_one_in_flight_that_overlaps_it() {
    let cluster = setup(1, 100);
    let device = open(&cluster, SECOND);
    cluster.volume.held.set(true);
    let write = |lba, fill| device.write(Lba(lba), vec![filled(fill, 4)], WriteMode::Buffered);
    let writes = [write(0, 1), write(2, 2), write(8, 3)];
    let done = start(&cluster, join_all(writes));
    cluster.sim.run_for(SECOND);
    let arrived: Vec<u64> = cluster
        .volume
        .arrived
        .borrow()
        .iter()
        .map(|one| one.1)
        .collect();
    assert_eq!(arrived, [0, 8]);
    cluster.release();
    assert!(finish(&cluster, &done, SECOND).iter().all(Result::is_ok));
    assert_eq!((cluster.block(1)[0], cluster.block(2)[0]), (1, 2));
}

#[test]
fn an_unknown_volume_and_a_foreign_cluster_are_told_apart_at_once() {
    let cluster = setup(1, 10);
    let mut unknown = options(&cluster, FOREVER);
    unknown.volume = "w".into();
    let error = try_open(&cluster, unknown).err();
    assert_eq!(error, Some(ClientError::NoVolume { name: "w".into() }));
    let mut foreign = options(&cluster, FOREVER);
    foreign.cluster = "elsewhere".into();
    match try_open(&cluster, foreign).err() {
        Some(ClientError::Refused { reason, .. }) => assert!(reason.contains("elsewhere")),
        error => panic!("{error:?}"),
    }
    for node in 0..3 {
        cluster.stop(node, false);
    }
    let before = cluster.sim.now();
    let error = try_open(&cluster, options(&cluster, 3 * SECOND)).err();
    assert!(
        matches!(error, Some(ClientError::Unavailable { .. })),
        "{error:?}"
    );
    assert!(cluster.sim.now().since(before) < 12 * SECOND);
}

#[test]
fn a_closed_device_fails_its_requests_and_tells_the_owner() {
    let cluster = setup(1, 10);
    let device = open(&cluster, SECOND);
    cluster.volume.held.set(true);
    let read = start(&cluster, device.read(Lba(0), 1));
    cluster.sim.run_for(SECOND);
    let other = device.clone();
    start(&cluster, async move { other.close().await });
    let gone = finish(&cluster, &read, SECOND).unwrap_err();
    assert!(matches!(gone, BlockError::Gone(_)));
    let gone = run(&cluster, device.flush()).unwrap_err();
    assert!(matches!(gone, BlockError::Gone(_)));
    cluster.release();
    let closed = || cluster.volume.closed.get() == 1;
    assert!(cluster.sim.run_until(closed, 5 * SECOND));
}

#[test]
fn dropping_the_device_ends_its_session() {
    let cluster = setup(1, 10);
    let device = open(&cluster, SECOND);
    drop(device.read(Lba(0), 1));
    drop(device);
    let closed = || cluster.volume.closed.get() == 1;
    assert!(cluster.sim.run_until(closed, SECOND));
}
