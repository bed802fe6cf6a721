//! Stores on simulated disks: crashes, power losses, rot.

use crate::{FormatOptions, Inspection, Options, Store, format, inspect};
use bytes::Bytes;
use codec::extent::{Builder, ExtentKind};
use futures_util::future::join_all;
use std::cell::RefCell;
use std::future::Future;
use std::rc::Rc;
use vocab::*;
use wire::*;
use world::{Disk, Duration, World};
use world_sim::{Host, Options as SimOptions, SimDisk, Simulation};

mod damage;
mod extents;
mod gather;
mod notes;
mod ring;
#[cfg(feature = "bugs")]
mod witness;

const VOLUME: VolumeId = VolumeId(1);
const SEGMENT: SegmentId = SegmentId(0);
const GROUP: GroupId = GroupId(7);

struct Machine {
    sim: Simulation,
    host: Host,
    disks: Vec<SimDisk>,
    boot: u8,
}

fn run<T: 'static>(sim: &Simulation, host: &Host, task: impl Future<Output = T> + 'static) -> T {
    let result = Rc::new(RefCell::new(None));
    let sink = result.clone();
    host.spawn(async move {
        let value = task.await;
        *sink.borrow_mut() = Some(value);
    });
    let seen = result.clone();
    assert!(
        sim.run_until(|| seen.borrow().is_some(), Duration::from_secs(600)),
        "it never ended"
    );
    let value = result.borrow_mut().take();
    value.unwrap()
}

impl Machine {
    fn new(seed: u64, disks: usize) -> Self {
        let sim = Simulation::new(seed, SimOptions::default());
        let host = sim.host("a");
        let disks = (0..disks)
            .map(|index| host.add_disk(&format!("d{index}"), 64 << 20))
            .collect();
        let machine = Self {
            sim,
            host,
            disks,
            boot: 1,
        };
        let (world, open) = (machine.host.world(), machine.open_disks());
        run(&machine.sim, &machine.host, async move {
            format(&world, &open, &options()).await.expect("formats");
        });
        machine
    }

    fn open_disks(&self) -> Vec<Rc<dyn Disk>> {
        self.disks.iter().map(SimDisk::open).collect()
    }

    fn open(&self) -> Store {
        self.try_open().expect("opens")
    }

    fn try_open(&self) -> Result<Store, crate::OpenError> {
        let (world, disks) = (self.host.world(), self.open_disks());
        let options = Options {
            boot_id: [self.boot; 16],
            ..Options::default()
        };
        run(&self.sim, &self.host, Store::open(world, disks, options))
    }

    fn crash(&mut self) -> Store {
        self.host.crash();
        self.host.restart();
        self.open()
    }

    fn power_loss(&mut self) -> Store {
        self.host.power_loss();
        self.host.restart();
        self.boot += 1;
        self.open()
    }

    fn ask(&self, store: &Store, request: StoreRequest) -> Result<StoreReply, StoreError> {
        self.send(store, request, Vec::new())
            .map(|(reply, _)| reply)
    }

    fn send(
        &self,
        store: &Store,
        request: StoreRequest,
        body: Vec<Bytes>,
    ) -> Result<(StoreReply, Bytes), StoreError> {
        let answer = store.handle(request, body);
        run(&self.sim, &self.host, async move {
            answer
                .await
                .map(|(reply, body)| (reply, Bytes::from(body.concat())))
        })
    }
}

fn options() -> FormatOptions {
    FormatOptions {
        cluster: "lab".to_owned(),
        store: StoreId(1),
        journal_bytes: Some(4 << 20),
    }
}

/// A chain of records for one segment.
struct Chain {
    volume: VolumeId,
    epoch: Epoch,
    segment: SegmentId,
    position: u64,
    crc: u32,
}

impl Chain {
    fn new(epoch: u64) -> Self {
        Self {
            volume: VOLUME,
            epoch: Epoch(epoch),
            segment: SEGMENT,
            position: 0,
            crc: 0,
        }
    }

    fn next(&mut self, blocks: usize) -> Record {
        self.position += 1;
        let data = vec![self.position as u8; blocks * BLOCK_SIZE];
        let kind = if blocks == 0 {
            RecordKind::Unmap
        } else {
            RecordKind::Write
        };
        let mut head = RecordHead {
            crc: 0,
            previous_crc: self.crc,
            volume: self.volume,
            epoch: self.epoch,
            position: Position(self.position),
            segment: self.segment,
            kind,
            lba: Lba(self.position),
            blocks: blocks.max(1) as u32,
            data_bytes: data.len() as u32,
            committed: Position(self.position - 1),
            flushed: Position(0),
        };
        head.seal(&data);
        self.crc = head.crc;
        Record {
            head,
            data: data.into(),
        }
    }
}

fn append(store: &Store, records: &[Record], durable: bool) -> (StoreRequest, Vec<Bytes>) {
    let head = records[0].head;
    let request = StoreRequest::Append {
        volume: head.volume,
        epoch: head.epoch,
        segment: head.segment,
        incarnation: store.incarnation(),
        count: records.len() as u32,
        durable,
    };
    (request, Record::encode_batch(records))
}

fn put(
    machine: &Machine,
    store: &Store,
    records: &[Record],
    durable: bool,
) -> Result<StoreReply, StoreError> {
    let (request, body) = append(store, records, durable);
    machine.send(store, request, body).map(|(reply, _)| reply)
}

fn fence(epoch: u64) -> StoreRequest {
    StoreRequest::Fence {
        volume: VOLUME,
        epoch: Epoch(epoch),
    }
}

fn tails(reply: StoreReply) -> (Trust, Vec<SegmentTail>) {
    match reply {
        StoreReply::Fenced {
            trust, segments, ..
        } => (trust, segments),
        other => panic!("{other:?}"),
    }
}

fn read_log(machine: &Machine, store: &Store, epoch: u64, from: u64) -> Vec<Record> {
    let request = StoreRequest::ReadLog {
        volume: VOLUME,
        epoch: Epoch(epoch),
        segment: SEGMENT,
        from: Position(from),
        bytes_max: 64 << 20,
    };
    match machine.send(store, request, Vec::new()).expect("reads") {
        (StoreReply::Records { count, .. }, body) => {
            Record::decode_batch(count as usize, &body).unwrap()
        }
        (other, _) => panic!("{other:?}"),
    }
}

fn extent_id(counter: u32) -> ExtentId {
    ExtentId {
        group: GROUP,
        volume: VOLUME,
        epoch: Epoch(1),
        counter,
    }
}

fn sealed(counter: u32, blocks: usize) -> Bytes {
    let mut builder = Builder::new(extent_id(counter), ExtentKind::Data);
    let block = vec![counter as u8; BLOCK_SIZE];
    for _ in 0..blocks / 4 {
        builder
            .push_blocks(&[&block, &block, &block, &block], false)
            .expect("fits");
    }
    builder.seal()
}

fn put_extent(
    machine: &Machine,
    store: &Store,
    counter: u32,
    blocks: usize,
    durable: bool,
) -> Result<StoreReply, StoreError> {
    let (id, generation) = (extent_id(counter), Generation(1));
    let request = StoreRequest::PutExtent {
        id,
        generation,
        form: 0,
        durable,
        reserved: false,
        missing: Vec::new(),
    };
    machine
        .send(store, request, vec![sealed(counter, blocks)])
        .map(|(reply, _)| reply)
}

fn read_extent(machine: &Machine, store: &Store, counter: u32) -> Result<Bytes, StoreError> {
    let request = StoreRequest::ReadExtent {
        id: extent_id(counter),
    };
    machine
        .send(store, request, Vec::new())
        .map(|(_, body)| body)
}

#[test]
fn appended_records_survive_a_crash_and_are_trusted() {
    let mut machine = Machine::new(1, 1);
    let store = machine.open();
    let mut chain = Chain::new(1);
    let records: Vec<Record> = (0..20).map(|index| chain.next(index % 3)).collect();
    put(&machine, &store, &records[..10], false).expect("accepted");
    put(&machine, &store, &records[10..], false).expect("accepted");
    let store = machine.crash();
    let (trust, segments) = tails(machine.ask(&store, fence(2)).expect("fenced"));
    assert_eq!(
        (trust, segments[0].last, segments[0].committed),
        (Trust::Trusted, Position(20), Position(19))
    );
    assert_eq!(read_log(&machine, &store, 2, 1), records);
}

#[test]
fn flushed_records_survive_a_power_loss_and_tails_are_suspect() {
    let mut machine = Machine::new(2, 1);
    let store = machine.open();
    let mut chain = Chain::new(1);
    let records: Vec<Record> = (0..8).map(|_| chain.next(1)).collect();
    put(&machine, &store, &records, true).expect("accepted");
    let store = machine.power_loss();
    let (trust, segments) = tails(machine.ask(&store, fence(2)).expect("fenced"));
    assert_eq!((trust, segments[0].last), (Trust::Suspect, Position(8)));
    assert_eq!(read_log(&machine, &store, 2, 1), records);
    // The suspicion outlives a mere restart of the process.
    let store = machine.crash();
    assert_eq!(
        tails(machine.ask(&store, fence(3)).expect("fenced")).0,
        Trust::Suspect
    );
}

#[test]
fn flushes_that_many_volumes_ask_for_at_once_are_few_of_the_device() {
    let machine = Machine::new(61, 1);
    let store = machine.open();
    let ask = |volume| {
        let mut chain = Chain {
            volume: VolumeId(volume),
            ..Chain::new(1)
        };
        let (request, body) = append(&store, &[chain.next(1)], true);
        store.handle(request, body)
    };
    let asked: Vec<_> = (1..=32).map(ask).collect();
    let before = machine.sim.counters().disk_flushes;
    let answers = run(&machine.sim, &machine.host, join_all(asked));
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    // One for the batch that was under way when the others came, one for theirs, and at most one between them.
    let flushes = machine.sim.counters().disk_flushes - before;
    assert!((1..=3).contains(&flushes), "{flushes} flushes for 32");
}

#[test]
fn a_segment_takes_nothing_more_after_a_power_loss_and_the_next_one_does() {
    let mut machine = Machine::new(2, 1);
    let store = machine.open();
    let mut chain = Chain::new(1);
    let records: Vec<Record> = (0..4).map(|_| chain.next(1)).collect();
    put(&machine, &store, &records, true).expect("accepted");
    let store = machine.power_loss();
    // Neither what it has, which would count as written again, nor what follows.
    for record in [records[3].clone(), chain.next(1)] {
        let refused = put(&machine, &store, &[record], false);
        assert!(
            matches!(refused, Err(StoreError::Damaged { .. })),
            "{refused:?}"
        );
    }
    chain.segment = SegmentId(2);
    chain.crc = 0;
    put(&machine, &store, &[chain.next(1)], false).expect("accepted");
}

#[test]
fn a_clean_stop_is_trusted_after_another_boot() {
    let mut machine = Machine::new(3, 1);
    let store = machine.open();
    let mut chain = Chain::new(1);
    put(&machine, &store, &[chain.next(1)], false).expect("accepted");
    let closing = store.clone();
    run(
        &machine.sim,
        &machine.host,
        async move { closing.close().await },
    );
    assert!(matches!(
        machine.ask(&store, fence(2)),
        Err(StoreError::Failed { .. })
    ));
    let store = machine.power_loss();
    let (trust, segments) = tails(machine.ask(&store, fence(2)).expect("fenced"));
    assert_eq!((trust, segments[0].last), (Trust::Trusted, Position(1)));
}

/// Another store may be made on them in the same process.
#[test]
fn a_store_that_has_failed_gives_its_disks_up_when_it_is_closed() {
    let machine = Machine::new(31, 1);
    let disks = machine.open_disks();
    let held = Rc::downgrade(&disks[0]);
    let opening = Store::open(machine.host.world(), disks, Options::default());
    let store = run(&machine.sim, &machine.host, opening).expect("opens");
    machine.disks[0].set_failed(true);
    put(&machine, &store, &[Chain::new(1).next(1)], true).expect_err("its disk has failed");
    assert!(store.status().failed.is_some());
    run(
        &machine.sim,
        &machine.host,
        async move { store.close().await },
    );
    machine.sim.run_for(Duration::from_secs(1));
    assert!(held.upgrade().is_none(), "somebody has it still");
}

#[test]
fn a_session_that_is_renewed_while_the_store_stops_leaves_the_clean_mark() {
    let mut machine = Machine::new(30, 1);
    let store = machine.open();
    put(&machine, &store, &[Chain::new(1).next(1)], false).expect("accepted");
    let (closing, renewing) = (store.clone(), store.clone());
    run(&machine.sim, &machine.host, async move {
        closing.close().await;
        assert_eq!(renewing.renew_session().await, Ok(None));
    });
    let store = machine.power_loss();
    let (trust, _) = tails(machine.ask(&store, fence(2)).expect("fenced"));
    assert_eq!(trust, Trust::Trusted);
}

#[test]
fn promises_hold_across_power_losses() {
    let mut machine = Machine::new(4, 1);
    let store = machine.open();
    machine.ask(&store, fence(5)).expect("fenced");
    let store = machine.power_loss();
    let mut chain = Chain::new(4);
    let refused = StoreError::StaleEpoch { promised: Epoch(5) };
    assert_eq!(
        put(&machine, &store, &[chain.next(1)], false),
        Err(refused.clone())
    );
    assert_eq!(machine.ask(&store, fence(4)), Err(refused));
}

#[test]
fn gaps_repeats_and_strangers_are_told_apart() {
    let machine = Machine::new(5, 1);
    let store = machine.open();
    let mut chain = Chain::new(1);
    let records: Vec<Record> = (0..5).map(|_| chain.next(1)).collect();
    assert_eq!(
        put(&machine, &store, &records[3..], false),
        Err(StoreError::NoSegment)
    );
    put(&machine, &store, &records[..2], false).expect("accepted");
    let gap = StoreError::Gap {
        expected: Position(3),
    };
    assert_eq!(put(&machine, &store, &records[3..], false), Err(gap));
    put(&machine, &store, &records, false).expect("repeats are passed over");
    let mut other = Chain::new(1);
    let mut stranger = other.next(1);
    stranger.head.lba = Lba(99);
    stranger.head.seal(&stranger.data);
    assert!(matches!(
        put(&machine, &store, &[stranger], false),
        Err(StoreError::BadRequest { .. })
    ));
    let mut torn = chain.next(1);
    torn.data = vec![0; BLOCK_SIZE].into();
    assert!(matches!(
        put(&machine, &store, &[torn], false),
        Err(StoreError::BadRequest { .. })
    ));
}

#[test]
fn requests_beyond_a_bound_are_refused_and_others_go_on() {
    let machine = Machine::new(6, 1);
    let store = machine.open();
    let refused = |outcome: Result<(StoreReply, Bytes), StoreError>| {
        assert!(
            matches!(outcome, Err(StoreError::BadRequest { .. })),
            "{outcome:?}"
        );
    };
    let (request, body) = append(&store, &[Chain::new(1).next(257)], false);
    refused(machine.send(&store, request, body));
    let mut last = Chain::new(1);
    last.position = u64::MAX - 1;
    let (request, body) = append(&store, &[last.next(1)], false);
    refused(machine.send(&store, request, body));
    let read = FrameRead {
        id: extent_id(1),
        frame: 0,
        first_block: 0,
        blocks: 0,
    };
    let reads = vec![read; 4097];
    refused(machine.send(&store, StoreRequest::ReadFrames { reads }, Vec::new()));
    let request = StoreRequest::PutExtent {
        id: extent_id(1),
        generation: Generation(1),
        form: 0,
        durable: false,
        reserved: false,
        missing: (0..17).map(StoreId).collect(),
    };
    refused(machine.send(&store, request, vec![sealed(1, 4)]));
    // The last group there can be is listed as any other.
    let request = StoreRequest::ListExtents {
        group: GroupId(u32::MAX),
        generation: Generation(1),
        after: None,
        limit: 10,
        tombstones: true,
    };
    assert!(machine.ask(&store, request).is_ok());
    let (request, body) = append(&store, &[Chain::new(1).next(256)], true);
    machine
        .send(&store, request, body)
        .expect("as large as allowed");
}

#[test]
fn another_life_is_refused() {
    let machine = Machine::new(6, 1);
    let store = machine.open();
    let old = store.incarnation();
    let renewing = store.clone();
    run(&machine.sim, &machine.host, async move {
        renewing.renew_incarnation().await
    })
    .expect("renewed");
    let record = Chain::new(1).next(1);
    let (mut request, body) = append(&store, &[record], false);
    if let StoreRequest::Append { incarnation, .. } = &mut request {
        *incarnation = old;
    }
    let refused = StoreError::WrongIncarnation {
        actual: store.incarnation(),
    };
    assert_eq!(machine.send(&store, request, body), Err(refused));
}

#[test]
fn a_lost_state_is_rebuilt_from_the_disk_under_another_life() {
    let mut machine = Machine::new(14, 1);
    let store = machine.open();
    let life = store.incarnation();
    put_extent(&machine, &store, 1, 64, true).expect("kept");
    put_extent(&machine, &store, 2, 64, true).expect("kept");
    put(&machine, &store, &[Chain::new(1).next(1)], true).expect("accepted");
    let state = store.0.headers[0].state;
    let disk = machine.disks[0].open();
    run(&machine.sim, &machine.host, async move {
        for number in 0..2 {
            let at = state.offset + number * state.bytes;
            disk.write(at, vec![0; BLOCK_SIZE].into())
                .await
                .expect("writes");
        }
    });
    let store = machine.crash();
    assert_ne!(store.incarnation(), life);
    assert_eq!(read_extent(&machine, &store, 1), Ok(sealed(1, 64)));
    assert_eq!(read_extent(&machine, &store, 2), Ok(sealed(2, 64)));
    assert_eq!(
        tails(machine.ask(&store, fence(1)).expect("no promise is left")).1,
        []
    );
}

#[test]
fn a_rotten_batch_header_below_a_flush_means_amnesia() {
    let mut machine = Machine::new(15, 1);
    let store = machine.open();
    let (life, journal) = (store.incarnation(), store.0.headers[0].journal);
    let mut chain = Chain::new(1);
    let first = store.0.journal.next_batch().1;
    for _ in 0..6 {
        put(&machine, &store, &[chain.next(1)], true).expect("accepted");
    }
    let disk = machine.disks[0].open();
    run(&machine.sim, &machine.host, async move {
        let at = journal.offset + (first + 2) * BLOCK_SIZE as u64;
        disk.write(at, vec![1; BLOCK_SIZE].into())
            .await
            .expect("writes");
    });
    let store = machine.crash();
    assert_ne!(store.incarnation(), life);
}

#[test]
fn rotten_data_below_a_flush_ends_the_chain_there() {
    let mut machine = Machine::new(16, 1);
    let store = machine.open();
    let (life, journal) = (store.incarnation(), store.0.headers[0].journal);
    let mut chain = Chain::new(1);
    let first = store.0.journal.next_batch().1;
    for _ in 0..6 {
        put(&machine, &store, &[chain.next(1)], true).expect("accepted");
    }
    let disk = machine.disks[0].open();
    run(&machine.sim, &machine.host, async move {
        // Batches of two pages: header, data.
        let at = journal.offset + (first + 5) * BLOCK_SIZE as u64;
        disk.write(at, vec![1; BLOCK_SIZE].into())
            .await
            .expect("writes");
    });
    let store = machine.crash();
    assert_eq!(store.incarnation(), life);
    let (_, segments) = tails(machine.ask(&store, fence(2)).expect("fenced"));
    assert_eq!(
        (segments[0].first, segments[0].last),
        (Position(1), Position(2))
    );
}

#[test]
fn a_record_that_rots_while_it_is_live_is_found_and_named() {
    let machine = Machine::new(19, 1);
    let store = machine.open();
    let journal = store.0.headers[0].journal;
    let mut chain = Chain::new(1);
    let first = store.0.journal.next_batch().1;
    for _ in 0..6 {
        put(&machine, &store, &[chain.next(1)], true).expect("accepted");
    }
    let verify = |from, bytes_max| {
        let store = store.clone();
        let verified = async move { store.verify_journal(from, bytes_max).await };
        run(&machine.sim, &machine.host, verified).expect("the disk is well")
    };
    let all = verify(0, u64::MAX);
    assert_eq!((all.records, all.damaged, all.next), (6, 0, None));
    // In parts, each record once.
    let (mut from, mut records) = (0, 0);
    loop {
        let part = verify(from, 1);
        records += part.records;
        match part.next {
            Some(next) => from = next,
            None => break,
        }
    }
    assert_eq!(records, 6);
    let disk = machine.disks[0].open();
    run(&machine.sim, &machine.host, async move {
        // Batches of two pages: header, data.
        let at = journal.offset + (first + 5) * BLOCK_SIZE as u64;
        let written = disk.write(at, vec![1; BLOCK_SIZE].into()).await;
        written.expect("writes");
    });
    let found = verify(0, u64::MAX);
    assert_eq!((found.records, found.damaged), (6, 1));
    assert_eq!(found.volumes, [VOLUME].into());
}

#[test]
fn a_failed_write_fails_the_store_for_good() {
    let machine = Machine::new(17, 1);
    let store = machine.open();
    machine.disks[0].set_failed(true);
    let mut chain = Chain::new(1);
    assert!(matches!(
        put(&machine, &store, &[chain.next(1)], false),
        Err(StoreError::Failed { .. })
    ));
    machine.disks[0].set_failed(false);
    assert!(matches!(
        machine.ask(&store, fence(2)),
        Err(StoreError::Failed { .. })
    ));
}

#[test]
fn disks_are_told_apart() {
    let machine = Machine::new(18, 2);
    let blank = machine.host.add_disk("blank", 64 << 20);
    let world = machine.host.world();
    let (disks, blank) = (machine.open_disks(), blank.open());
    run(&machine.sim, &machine.host, async move {
        assert_eq!(inspect(&blank).await, Ok(Inspection::Blank));
        let Ok(Inspection::Store(identity)) = inspect(&disks[1]).await else {
            panic!("a store")
        };
        assert_eq!(
            (identity.cluster.as_str(), identity.store),
            ("lab", StoreId(1))
        );
        let mut fake = vec![0; 8192];
        fake[0x438] = 0x53;
        fake[0x439] = 0xEF;
        blank.write(0, fake.into()).await.expect("writes");
        let Ok(Inspection::Foreign(what)) = inspect(&blank).await else {
            panic!("foreign")
        };
        assert!(what.contains("ext4"), "{what}");
        let opened = |disks: Vec<Rc<dyn Disk>>| open_with(world.clone(), disks);
        let error = opened(vec![disks[0].clone(), blank.clone()]).await;
        assert!(error.contains("disk 1 is not a disk of Azekura"), "{error}");
        let error = opened(vec![disks[0].clone()]).await;
        assert!(error.contains("1 of its 2 disks are missing"), "{error}");
        let error = opened(vec![disks[0].clone(), disks[0].clone()]).await;
        assert!(error.contains("given twice"), "{error}");
        assert_eq!(opened(vec![disks[1].clone(), disks[0].clone()]).await, "");
    });
}

async fn open_with(world: World, disks: Vec<Rc<dyn Disk>>) -> String {
    match Store::open(world, disks, Options::default()).await {
        Ok(_) => String::new(),
        Err(error) => error.to_string(),
    }
}

/// Random appends, flushes, trims and crashes at any await; what was acknowledged must be there.
#[test]
fn whatever_was_acknowledged_is_there_after_a_crash_at_any_moment() {
    for seed in 0..60_u64 {
        let mut machine = Machine::new(1000 + seed, 1);
        let mut store = machine.open();
        let mut chain = Chain::new(1);
        let mut step = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let mut random = move |bound: u64| {
            step ^= step << 13;
            step ^= step >> 7;
            step ^= step << 17;
            step % bound
        };
        for epoch in 1..6_u64 {
            chain = Chain {
                volume: VOLUME,
                epoch: Epoch(epoch),
                segment: SegmentId(epoch as u32),
                position: chain.position,
                crc: 0,
            };
            let acked = Rc::new(RefCell::new((0_u64, 0_u64)));
            for _ in 0..random(40) + 3 {
                let records: Vec<Record> = (0..random(4) + 1)
                    .map(|_| chain.next(random(3) as usize))
                    .collect();
                let durable = random(5) == 0;
                let (request, body) = append(&store, &records, durable);
                let (answer, sink, last) =
                    (store.handle(request, body), acked.clone(), chain.position);
                machine.host.spawn(async move {
                    if answer.await.is_ok() {
                        let mut acked = sink.borrow_mut();
                        acked.0 = acked.0.max(last);
                        acked.1 = if durable { acked.1.max(last) } else { acked.1 };
                    }
                });
                machine.sim.run_steps(random(30), Duration::from_secs(1));
            }
            let (written, flushed) = *acked.borrow();
            let power = random(2) == 0;
            store = if power {
                machine.power_loss()
            } else {
                machine.crash()
            };
            let (trust, segments) = tails(machine.ask(&store, fence(epoch + 1)).expect("fenced"));
            let held = segments
                .iter()
                .find(|tail| tail.segment == SegmentId(epoch as u32));
            let last = held.map_or(0, |tail| tail.last.0);
            let floor = if power { flushed } else { written };
            assert!(
                last >= floor,
                "seed {seed}: {last} of {floor}, power loss: {power}"
            );
            assert!(!power || held.is_none() || trust == Trust::Suspect);
            chain.position = chain.position.max(last);
            let trim = StoreRequest::TrimLog {
                volume: VOLUME,
                epoch: Epoch(epoch + 1),
                through: Position(last),
            };
            machine.ask(&store, trim).expect("trims");
        }
    }
}

#[test]
fn only_what_the_owner_had_flushed_counts_as_flushed() {
    let mut machine = Machine::new(18, 1);
    let store = machine.open();
    let mut chain = Chain::new(1);
    let records: Vec<Record> = (0..6).map(|_| chain.next(1)).collect();
    put(&machine, &store, &records, false).expect("accepted");
    let flush = StoreRequest::FlushLog {
        volume: VOLUME,
        epoch: Epoch(1),
        segment: SEGMENT,
        incarnation: store.incarnation(),
        through: Position(4),
    };
    machine.ask(&store, flush).expect("flushed");
    let flushed = |machine: &Machine, store: &Store, epoch| {
        let (_, segments) = tails(machine.ask(store, fence(epoch)).expect("fenced"));
        (segments[0].last, segments[0].flushed)
    };
    // The others are on the device as well, but the extents that they may refer to need not be.
    let expected = (Position(6), Position(4));
    assert_eq!(flushed(&machine, &store, 1), expected);
    let clean = store.clone();
    run(&machine.sim, &machine.host, async move {
        clean.checkpoint().await
    })
    .expect("saved");
    let store = machine.power_loss();
    assert_eq!(flushed(&machine, &store, 2), expected);
}
