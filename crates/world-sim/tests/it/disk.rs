//! What a disk keeps, and what it does wrong.

use bytes::Bytes;
use std::cell::RefCell;
use std::future::Future;
use std::rc::Rc;
use world::{Disk, DiskError, Duration, PAGE};
use world_sim::{DiskFaults, Host, Options, Rot, SimDisk, Simulation};

const SECOND: Duration = Duration::from_secs(1);

fn page(fill: u8) -> Bytes {
    Bytes::from(vec![fill; PAGE])
}

fn machine(seed: u64) -> (Simulation, Host, SimDisk) {
    let sim = Simulation::new(seed, Options::default());
    let host = sim.host("a");
    let disk = host.add_disk("d", 64 << 20);
    (sim, host, disk)
}

/// Runs `task` on the host to its end.
fn run<T: 'static>(sim: &Simulation, host: &Host, task: impl Future<Output = T> + 'static) -> T {
    let result = Rc::new(RefCell::new(None));
    let sink = result.clone();
    host.spawn(async move {
        let value = task.await;
        *sink.borrow_mut() = Some(value);
    });
    let seen = result.clone();
    assert!(sim.run_until(|| seen.borrow().is_some(), 60 * SECOND));
    let value = result.borrow_mut().take();
    value.unwrap()
}

async fn write_all(disk: Rc<dyn Disk>, pages: std::ops::Range<u64>, fill: u8) {
    for at in pages {
        disk.write(at * PAGE as u64, page(fill)).await.unwrap();
    }
}

#[test]
fn reads_return_what_was_written_and_zeros_elsewhere() {
    let (sim, host, disk) = machine(1);
    let open = disk.open();
    let (written, beyond) = run(&sim, &host, async move {
        open.write(8192, Bytes::from(vec![7; 2 * PAGE]))
            .await
            .unwrap();
        let written = open.read(4096, 3 * PAGE).await.unwrap();
        (written, open.read(0, PAGE).await.unwrap())
    });
    assert!(world::Buf::is_aligned(&written));
    assert_eq!(&written[..PAGE], &page(0)[..]);
    assert_eq!(&written[PAGE..], &[7; 2 * PAGE][..]);
    assert_eq!(beyond, page(0));
    assert_eq!(disk.counters().pages_stored, 2);
}

#[test]
fn zeros_take_no_memory() {
    let (sim, host, disk) = machine(2);
    let open = disk.open();
    run(&sim, &host, async move {
        open.write(0, Bytes::from(vec![1; 1 << 20])).await.unwrap();
        open.write(0, Bytes::from(vec![0; 1 << 20])).await.unwrap();
        open.flush().await.unwrap();
    });
    let counters = disk.counters();
    assert_eq!((counters.pages_stored, counters.pages_unflushed), (0, 0));
}

#[test]
fn misaligned_and_outside_accesses_are_refused() {
    let (sim, host, disk) = machine(3);
    let open = disk.open();
    let results = run(&sim, &host, async move {
        [
            open.read(1, PAGE).await.err(),
            open.read(64 << 20, PAGE).await.err(),
            open.write(0, Bytes::from_static(b"short")).await.err(),
            open.read(u64::MAX - 4095, PAGE).await.err(),
        ]
    });
    for error in results {
        assert!(matches!(error, Some(DiskError::OutOfBounds { .. })));
    }
}

#[test]
fn flushed_writes_survive_every_power_loss() {
    for seed in 0..1000 {
        let (sim, host, disk) = machine(seed);
        let open = disk.open();
        run(&sim, &host, async move {
            write_all(open.clone(), 0..4, 1).await;
            open.flush().await.unwrap();
            write_all(open, 4..8, 2).await;
        });
        host.power_loss();
        host.restart();
        for at in 0..4 {
            assert_eq!(disk.peek(at * 4096, PAGE), page(1), "seed {seed} page {at}");
        }
        for at in 4..8 {
            let bytes = disk.peek(at * 4096, PAGE);
            assert!(bytes.iter().all(|byte| *byte == 0 || *byte == 2));
        }
        assert_eq!(disk.counters().pages_unflushed, 0);
    }
}

#[test]
fn what_a_loss_of_power_would_leave_is_what_flushes_cover() {
    let (sim, host, disk) = machine(1);
    let open = disk.open();
    run(&sim, &host, async move {
        write_all(open.clone(), 0..2, 1).await;
        open.flush().await.unwrap();
        write_all(open, 1..3, 2).await;
    });
    let (first, length) = (0, 3 * PAGE);
    assert_eq!(
        disk.peek(first, length),
        [page(1), page(2), page(2)].concat()
    );
    let durable = [page(1), page(1), page(0)].concat();
    assert_eq!(disk.peek_durable(first, length), durable);
    assert!(disk.is_durable(first, PAGE) && !disk.is_durable(first, length));
    // What a failed flush has given up stays so, whatever succeeds later.
    disk.lose_next_flush();
    let open = disk.open();
    run(&sim, &host, async move {
        assert!(open.flush().await.is_err());
        open.flush().await.unwrap();
    });
    assert_eq!(disk.peek_durable(first, length), durable);
}

#[test]
fn unflushed_writes_are_kept_lost_or_torn_by_sectors() {
    let (mut kept, mut lost, mut torn) = (0, 0, 0);
    for seed in 0..300 {
        let (sim, host, disk) = machine(seed);
        let open = disk.open();
        run(&sim, &host, write_all(open, 0..8, 9));
        host.power_loss();
        for at in 0..8 {
            let bytes = disk.peek(at * 4096, PAGE);
            let sectors: Vec<bool> = bytes.chunks(512).map(|sector| sector[0] == 9).collect();
            assert!(
                bytes
                    .chunks(512)
                    .all(|one| one.iter().all(|byte| *byte == one[0]))
            );
            match sectors.iter().filter(|written| **written).count() {
                8 => kept += 1,
                0 => lost += 1,
                _ => torn += 1,
            }
        }
        let counters = sim.counters();
        assert_eq!(counters.power_losses, 1);
    }
    assert!(
        kept > 300 && lost > 300 && torn > 300,
        "{kept} {lost} {torn}"
    );
}

#[test]
fn a_write_that_finished_after_the_flush_was_submitted_is_not_covered() {
    let mut lost = false;
    for seed in 0..50 {
        let (sim, host, disk) = machine(seed);
        let open = disk.open();
        run(&sim, &host, async move {
            let both = futures_util::future::join(open.flush(), open.write(0, page(5)));
            let (flushed, written) = both.await;
            flushed.unwrap();
            written.unwrap();
        });
        assert_eq!(disk.counters().pages_unflushed, 1);
        host.power_loss();
        lost |= disk.peek(0, PAGE) == page(0);
    }
    assert!(lost);
}

#[test]
fn finished_writes_survive_a_process_crash_and_writes_in_flight_may() {
    let (mut none, mut all, mut part) = (0, 0, 0);
    for seed in 0..200 {
        let (sim, host, disk) = machine(seed);
        let open = disk.open();
        run(&sim, &host, write_all(open.clone(), 0..4, 3));
        host.spawn(async move {
            open.write(16384, Bytes::from(vec![4; 4 * PAGE]))
                .await
                .unwrap();
        });
        assert!(sim.run_until(|| disk.counters().in_flight == 1, SECOND));
        host.crash();
        host.restart();
        sim.run_for(SECOND);
        assert_eq!(disk.peek(0, 4 * PAGE), vec![3; 4 * PAGE]);
        let bytes = disk.peek(16384, 4 * PAGE);
        match bytes.iter().filter(|byte| **byte == 4).count() {
            0 => none += 1,
            len if len == 4 * PAGE => all += 1,
            _ => part += 1,
        }
    }
    assert!(none > 20 && all > 20 && part > 20, "{none} {all} {part}");
}

#[test]
fn process_crashes_do_not_make_writes_durable() {
    let mut lost = false;
    for seed in 0..50 {
        let (sim, host, disk) = machine(seed);
        run(&sim, &host, write_all(disk.open(), 0..1, 3));
        host.restart();
        host.power_loss();
        lost |= disk.peek(0, PAGE) == page(0);
    }
    assert!(lost);
}

#[test]
fn a_failed_flush_gives_its_data_up_for_good() {
    for seed in 0..50 {
        let (sim, host, disk) = machine(seed);
        let open = disk.open();
        disk.lose_next_flush();
        let first = run(&sim, &host, async move {
            write_all(open.clone(), 0..4, 1).await;
            let first = open.flush().await;
            open.flush().await.unwrap();
            assert_eq!(open.read(0, PAGE).await.unwrap(), page(1));
            write_all(open.clone(), 3..6, 2).await;
            open.flush().await.unwrap();
            first
        });
        let operation = match first {
            Err(DiskError::Io { operation, .. }) => operation,
            other => panic!("the flush returned {other:?}"),
        };
        assert_eq!(operation, "flush");
        host.power_loss();
        assert_eq!(disk.peek(0, 3 * PAGE), vec![0; 3 * PAGE]);
        assert_eq!(disk.peek(3 * 4096, 3 * PAGE), vec![2; 3 * PAGE]);
    }
}

#[test]
fn rot_changes_stored_bytes_and_survives_a_power_loss() {
    let (sim, host, disk) = machine(4);
    let open = disk.open();
    run(&sim, &host, async move {
        write_all(open.clone(), 0..2, 1).await;
        open.flush().await.unwrap();
    });
    disk.rot(100..200, Rot::Bits(1));
    disk.rot(4096 + 512..4096 + 1024, Rot::Zeros);
    host.power_loss();
    let bytes = disk.peek(0, 2 * PAGE);
    let changed = |range: std::ops::Range<usize>| bytes[range].iter().filter(|b| **b != 1).count();
    assert_eq!((changed(0..4096), changed(100..200)), (1, 1));
    assert_eq!((changed(4096..8192), changed(4608..5120)), (512, 512));
    let offset = disk.rot_somewhere(0..64 << 20, Rot::Noise).unwrap();
    assert!(offset < 8192);
    assert!(disk.rot_somewhere(8192..64 << 20, Rot::Noise).is_none());
}

#[test]
fn writes_can_be_misdirected_lost_or_fail() {
    let (sim, host, disk) = machine(5);
    let open = disk.open();
    disk.misdirect_next_write(0..disk.size(), 40_960);
    disk.lose_next_write();
    let writer = open.clone();
    run(&sim, &host, async move { writer.write(0, page(1)).await }).unwrap();
    let writer = open.clone();
    run(
        &sim,
        &host,
        async move { writer.write(4096, page(2)).await },
    )
    .unwrap();
    assert_eq!(disk.peek(0, PAGE), page(0));
    assert_eq!(disk.peek(4096, PAGE), page(0));
    assert_eq!(disk.peek(40_960, PAGE), page(2));
    disk.fail_next_write();
    let result = run(&sim, &host, async move { open.write(0, page(3)).await });
    assert!(matches!(
        result,
        Err(DiskError::Io {
            operation: "write",
            ..
        })
    ));
    let counters = sim.counters();
    assert_eq!((counters.writes_misdirected, counters.writes_lost), (1, 1));
    assert_eq!(counters.disk_errors, 1);
}

#[test]
fn snapshots_roll_back_and_disks_are_replaced_and_swapped() {
    let (sim, host, disk) = machine(6);
    let other = host.add_disk("e", 64 << 20);
    run(&sim, &host, write_all(disk.open(), 0..1, 1));
    let snapshot = disk.snapshot();
    run(&sim, &host, write_all(disk.open(), 0..2, 2));
    run(&sim, &host, write_all(other.open(), 0..1, 7));
    disk.roll_back(&snapshot);
    assert_eq!(disk.peek(0, PAGE), page(1));
    assert_eq!(disk.peek(4096, PAGE), page(0));
    disk.swap(&other);
    assert_eq!(
        (disk.peek(0, PAGE), other.peek(0, PAGE)),
        (page(7), page(1))
    );
    disk.replace_blank();
    assert_eq!(disk.counters().pages_stored, 0);
}

#[test]
fn failed_hung_and_slow_disks() {
    let (sim, host, disk) = machine(7);
    let world = host.world();
    let open = disk.open();
    disk.set_failed(true);
    let reader = open.clone();
    assert!(run(&sim, &host, async move { reader.read(0, PAGE).await }).is_err());
    disk.set_failed(false);
    disk.set_hung(true);
    let (reader, clock) = (open.clone(), world.clone());
    let outcome = run(&sim, &host, async move {
        clock.timeout(10 * SECOND, reader.read(0, PAGE)).await
    });
    assert_eq!(outcome, Err(world::TimedOut));
    disk.set_hung(false);
    disk.set_slow(1000);
    let took = run(&sim, &host, async move {
        let start = world.now();
        open.read(0, PAGE).await.unwrap();
        world.now().since(start)
    });
    assert!(took > Duration::from_millis(50), "{took:?}");
}

#[test]
fn dice_throw_every_disk_fault() {
    let (sim, host, disk) = machine(8);
    disk.set_faults(DiskFaults {
        read_error: 0.05,
        write_error: 0.05,
        flush_error: 0.05,
        lost_write: 0.05,
        misdirected_write: 0.05,
        misdirected_read: 0.05,
        rot_on_write: 0.05,
        cancelled_write: 0.5,
        torn_page: 0.5,
    });
    let (open, world) = (disk.open(), host.world());
    run(&sim, &host, async move {
        for round in 0..2000_u64 {
            let offset = round % 64 * 4096;
            let write = open.write(offset, page(round as u8 | 1));
            let _ = world.timeout(Duration::from_micros(30), write).await;
            let _ = open.read(offset, PAGE).await;
            let _ = open.flush().await;
        }
    });
    let counters = sim.counters();
    for count in [
        counters.disk_errors,
        counters.flushes_lost,
        counters.writes_lost,
        counters.writes_misdirected,
        counters.reads_misdirected,
        counters.pages_rotten,
        counters.writes_cancelled,
        counters.pages_torn,
    ] {
        assert!(count > 0, "{counters:?}");
    }
}
