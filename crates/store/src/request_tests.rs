//! A store that is asked anything: it answers, and goes on.

use crate::{FormatOptions, Options, Store, format};
use bytes::Bytes;
use futures_util::future::join_all;
use proptest::prelude::*;
use std::cell::Cell;
use std::rc::Rc;
use vocab::*;
use wire::*;
use world::{Disk, Duration};
use world_sim::{Options as SimOptions, Simulation};

/// Numbers where sums overflow, and small ones that meet each other.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![4 => 0_u64..4, 1 => any::<u64>(), 1 => u64::MAX - 2..=u64::MAX]
}

type Parts = (u8, [u64; 4], bool, Vec<u8>);

/// A request of any kind with numbers of any size.
fn request(store: &Store, (kind, [a, b, c, d], flag, bytes): &Parts) -> StoreRequest {
    use StoreRequest as R;
    let (volume, epoch, segment) = (VolumeId(*a), Epoch(*b), SegmentId(*c as u32));
    let (group, generation) = (GroupId(*a as u32), Generation(*b));
    let id = ExtentId {
        group,
        volume: VolumeId(*c),
        epoch: Epoch(*d),
        counter: *d as u32,
    };
    let incarnation = if *flag {
        store.incarnation()
    } else {
        Incarnation(*d)
    };
    let ids = vec![id; bytes.len() % 3];
    let limit = *d as u32;
    match kind % 22 {
        0 => R::Status,
        1 => R::Fence { volume, epoch },
        2 => R::Append {
            volume,
            epoch,
            segment,
            incarnation,
            count: *d as u32,
            durable: *flag,
        },
        3 => R::FlushLog {
            volume,
            epoch,
            segment,
            incarnation,
            through: Position(*d),
        },
        4 => R::ReadLog {
            volume,
            epoch,
            segment,
            from: Position(*d),
            bytes_max: limit,
        },
        5 => R::TrimLog {
            volume,
            epoch,
            through: Position(*d),
        },
        6 => R::DropLog { volume, epoch },
        7 => R::Confirm {
            volumes: vec![(volume, epoch)],
        },
        8 => R::PromiseGroup { group, generation },
        9 => R::PutExtent {
            id,
            generation,
            form: *d as u32,
            durable: *flag,
            reserved: *flag,
            missing: vec![StoreId(*c as u32); bytes.len() % 20],
        },
        10 => R::ReadFrames {
            reads: vec![FrameRead {
                id,
                frame: *c as u16,
                first_block: *d as u8,
                blocks: *b as u8,
            }],
        },
        11 => R::ReadExtent { id },
        12 => R::DeleteExtents {
            group,
            generation,
            ids,
        },
        13 => R::CompactExtent {
            id,
            generation,
            form: *d as u32,
            live: bytes.clone(),
        },
        14 => R::ListExtents {
            group,
            generation,
            after: flag.then_some(id),
            limit,
            tombstones: *flag,
        },
        15 => R::ListLogs {
            after: flag.then_some(volume),
            limit,
        },
        16 => R::ForgetTombstones { group, ids },
        17 => R::LeaveGroup { group, generation },
        18 => R::PutNotes {
            notes: vec![Note {
                key: format!("k{}", a % 3),
                version: NoteVersion {
                    term: *b,
                    number: *c,
                },
                value: flag.then(|| "x".repeat(bytes.len() * 300)),
            }],
        },
        19 => R::GroupSizes {
            after: flag.then_some(group),
        },
        20 => R::CopyExtent { id },
        _ => R::ListNotes {
            after: flag.then(|| format!("k{c}")),
            limit,
        },
    }
}

/// A body for it: records that fit an append, or the bytes.
fn body((kind, [a, b, c, d], flag, bytes): &Parts) -> Vec<Bytes> {
    if kind % 22 != 2 || !flag {
        return vec![Bytes::from(bytes.clone())];
    }
    let count = (*d as u32).min(3);
    let mut previous_crc = 0;
    let record = |index: u32| {
        let mut head = RecordHead {
            crc: 0,
            previous_crc,
            volume: VolumeId(*a),
            epoch: Epoch(*b),
            position: Position(d.saturating_add(u64::from(index))),
            segment: SegmentId(*c as u32),
            kind: RecordKind::Unmap,
            lba: Lba(0),
            blocks: 1,
            data_bytes: 0,
            committed: Position(0),
            flushed: Position(0),
        };
        head.seal(&[]);
        previous_crc = head.crc;
        Record {
            head,
            data: Bytes::new(),
        }
    };
    let records: Vec<Record> = (0..count).map(record).collect();
    Record::encode_batch(&records)
}

/// A case takes some 10 ms, most of it for disks: a thousand at most, whatever `PROPTEST_CASES` says.
fn cases() -> ProptestConfig {
    let asked = ProptestConfig::default();
    ProptestConfig {
        cases: asked.cases.min(1000),
        ..asked
    }
}

proptest! {
    #![proptest_config(cases())]
    #[test]
    fn fuzz_any_requests_are_answered_and_the_store_opens_again(
        parts in proptest::collection::vec(
            (any::<u8>(), [number(), number(), number(), number()], any::<bool>(), proptest::collection::vec(any::<u8>(), 0..80)),
            1..24,
        ),
    ) {
        let sim = Simulation::new(1, SimOptions::default());
        let host = sim.host("a");
        let disk = host.add_disk("d", 32 << 20);
        let done = Rc::new(Cell::new(false));
        let (world, disks, sink) = (host.world(), vec![disk.open() as Rc<dyn Disk>], done.clone());
        host.spawn(async move {
            let options = FormatOptions {
                cluster: "lab".to_owned(),
                store: StoreId(1),
                journal_bytes: Some(4 << 20),
            };
            format(&world, &disks, &options).await.expect("formats");
            for _ in 0..2 {
                let opened = Store::open(world.clone(), disks.clone(), Options::default()).await;
                let store = opened.expect("opens");
                let answers = parts.iter().map(|parts| store.handle(request(&store, parts), body(parts)));
                let _ = join_all(answers).await;
                let status = store.handle(StoreRequest::Status, Vec::new()).await;
                assert!(matches!(status, Ok((StoreReply::Status(status), _)) if status.failed.is_none()));
                store.close().await;
            }
            sink.set(true);
        });
        prop_assert!(sim.run_until(|| done.get(), Duration::from_secs(600)), "it never ended");
    }
}
