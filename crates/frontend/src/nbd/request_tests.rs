//! Requests on devices, polled by hand.

use super::*;
use crate::nbd::range::Locks;
use blockdev::MemoryDevice;
use futures_util::FutureExt;
use proptest::prelude::*;
use std::cell::{Cell, RefCell};
use vocab::ByteCount;

const SIZE: usize = 16 * BLOCK_SIZE;

fn export(device: impl BlockDevice + 'static) -> Export {
    Export {
        device: Rc::new(device),
        locks: Locks::default().of("v"),
        sparse_read_bytes_min: u32::MAX,
        structured: true,
    }
}

fn memory() -> MemoryDevice {
    MemoryDevice::new(ByteCount(SIZE as u64))
}

fn request(command: u16, flags: u16, offset: usize, length: usize) -> Request {
    Request {
        flags,
        command,
        cookie: 1,
        offset: offset as u64,
        length: u32::try_from(length).unwrap(),
    }
}

fn run(export: &Export, request: Request, payload: Vec<Bytes>) -> Result<Outcome, Failure> {
    begin(export, &request, payload)
        .now_or_never()
        .expect("memory is ready at once")
}

fn read_at(export: &Export, offset: usize, length: usize) -> Vec<u8> {
    let result = run(export, request(command::READ, 0, offset, length), vec![]);
    match result.unwrap() {
        Outcome::Data(parts) => parts.concat(),
        other => panic!("{other:?}"),
    }
}

fn write_at(export: &Export, offset: usize, data: &[u8]) {
    let payload = vec![Bytes::copy_from_slice(data)];
    let result = run(
        export,
        request(command::WRITE, 0, offset, data.len()),
        payload,
    );
    assert_eq!(result, Ok(Outcome::Done));
}

fn status_of(export: &Export, flags: u16, offset: usize, length: usize) -> Vec<(u32, u32)> {
    let result = run(
        export,
        request(command::BLOCK_STATUS, flags, offset, length),
        vec![],
    );
    match result.unwrap() {
        Outcome::Status(extents) => extents.iter().map(|e| (e.len, e.status)).collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn status_is_cut_to_the_request() {
    let export = export(memory());
    write_at(&export, 4096, &[1; 8192]);
    let all = status_of(&export, 0, 512, SIZE - 1024);
    assert_eq!(all, [(3584, 3), (8192, 0), (13 * 4096 - 512, 3)]);
    assert_eq!(
        status_of(&export, command_flag::REQ_ONE, 512, SIZE - 512),
        [(3584, 3)]
    );
    assert_eq!(
        status_of(&export, command_flag::REQ_ONE, 5000, 100),
        [(100, 0)]
    );
}

#[test]
fn trim_gives_back_whole_blocks_only() {
    let export = export(memory());
    write_at(&export, 0, &[1; SIZE]);
    let trim = |offset, length| run(&export, request(command::TRIM, 1, offset, length), vec![]);
    assert_eq!(trim(512, 4096), Ok(Outcome::Done));
    assert_eq!(status_of(&export, 0, 0, SIZE).len(), 1);
    assert_eq!(trim(512, 8192), Ok(Outcome::Done));
    assert_eq!(
        read_at(&export, 4095, 4098),
        [&[1][..], &[0; 4096], &[1]].concat()
    );
}

#[test]
fn zeroes_unmap_unless_holes_are_forbidden() {
    let export = export(memory());
    let zero = |flags, offset, length| {
        let zeroes = request(command::WRITE_ZEROES, flags, offset, length);
        run(&export, zeroes, vec![])
    };
    write_at(&export, 0, &[1; SIZE]);
    assert_eq!(zero(command_flag::FUA, 100, 12_000), Ok(Outcome::Done));
    assert_eq!(
        status_of(&export, 0, 0, SIZE),
        [(4096, 0), (4096, 3), (14 * 4096, 0)]
    );
    assert_eq!(
        read_at(&export, 99, 12_002),
        [&[1][..], &[0; 12_000], &[1]].concat()
    );
    assert_eq!(zero(command_flag::NO_HOLE, 0, SIZE), Ok(Outcome::Done));
    assert_eq!(status_of(&export, 0, 0, SIZE), [(16 * 4096, 0)]);
    assert_eq!(read_at(&export, 0, SIZE), [0; SIZE]);
}

#[test]
fn fast_zeroes_fail_when_they_would_be_writes() {
    let export = export(memory());
    write_at(&export, 0, &[1; SIZE]);
    let zero = |flags, length| {
        let flags = flags | command_flag::FAST_ZERO;
        let zeroes = request(command::WRITE_ZEROES, flags, 0, length);
        run(&export, zeroes, vec![]).map_err(|failure| failure.code)
    };
    assert_eq!(zero(0, 512), Err(ErrorCode::NotSupported));
    assert_eq!(
        zero(command_flag::NO_HOLE, 4096),
        Err(ErrorCode::NotSupported)
    );
    assert_eq!(read_at(&export, 0, SIZE), [1; SIZE]);
    assert_eq!(zero(0, SIZE), Ok(Outcome::Done));
    assert_eq!(read_at(&export, 0, SIZE), [0; SIZE]);
}

#[test]
fn zeros_of_any_length_are_written_in_bounded_steps() {
    let blocks = 3 * ZEROS_BYTES;
    let export = export(MemoryDevice::new(ByteCount(blocks)));
    let length = usize::try_from(blocks).unwrap() - 5;
    let zeroes = request(command::WRITE_ZEROES, command_flag::NO_HOLE, 3, length);
    assert_eq!(run(&export, zeroes, vec![]), Ok(Outcome::Done));
    assert_eq!(
        status_of(&export, 0, 0, length),
        [(u32::try_from(length).unwrap(), 0)]
    );
}

#[test]
fn nothing_is_done_for_requests_of_no_bytes() {
    let export = export(memory());
    for command in [
        command::WRITE,
        command::TRIM,
        command::WRITE_ZEROES,
        command::CACHE,
    ] {
        let result = run(&export, request(command, 0, SIZE, 0), vec![]);
        assert_eq!(result, Ok(Outcome::Done));
    }
    assert!(read_at(&export, SIZE, 0).is_empty());
    let cache = request(command::CACHE, 0, 1, SIZE - 1);
    assert_eq!(run(&export, cache, vec![]), Ok(Outcome::Done));
}

#[test]
fn sparse_reads_send_holes() {
    let mut export = export(memory());
    export.sparse_read_bytes_min = 8192;
    write_at(&export, 8192, &[5; 4096]);
    let sparse = run(&export, request(command::READ, 0, 512, 16_000), vec![]);
    let Ok(Outcome::Sparse(pieces)) = sparse else {
        panic!("{sparse:?}");
    };
    let hole = |offset, len| Piece::Hole { offset, len };
    assert_eq!(
        (&pieces[0], &pieces[2]),
        (&hole(512, 7680), &hole(12_288, 4224))
    );
    assert!(
        matches!(&pieces[1], Piece::Data { offset: 8192, parts } if parts.concat() == [5; 4096])
    );
    // Short reads and unfragmented ones are one piece, and so is what holds no hole.
    assert_eq!(read_at(&export, 0, 8191).len(), 8191);
    assert_eq!(read_at(&export, 8192, 4096), [5; 4096]);
    let whole = run(
        &export,
        request(command::READ, command_flag::DF, 0, SIZE),
        vec![],
    );
    assert!(matches!(whole, Ok(Outcome::Data(_))));
}

#[test]
fn payloads_keep_their_memory_where_blocks_are_whole() {
    let chunk = Bytes::from(vec![9; 10 * BLOCK_SIZE]);
    let aligned = vec![chunk.slice(1..4097), chunk.slice(..8192)];
    let kept = whole_blocks(aligned.clone());
    assert_eq!(kept[0].as_ptr(), aligned[0].as_ptr());
    let odd = vec![
        chunk.slice(..5 * BLOCK_SIZE + 7),
        chunk.slice(7..5 * BLOCK_SIZE),
    ];
    let pieces = whole_blocks(odd.clone());
    let lens: Vec<usize> = pieces
        .iter()
        .map(|piece| piece.len() / BLOCK_SIZE)
        .collect();
    assert_eq!(lens, [5, 1, 4]);
    assert_eq!(pieces[0].as_ptr(), odd[0].as_ptr());
    let many: Vec<Bytes> = (0..64).map(|_| chunk.slice(..1024)).collect();
    assert_eq!(whole_blocks(many).len(), 1);
}

/// A device whose reads wait until they are let go.
struct Gated {
    inner: MemoryDevice,
    gate: Rc<Gate>,
}

#[derive(Default)]
struct Gate {
    open: Cell<bool>,
    waits: world::sync::Notify,
    modes: RefCell<Vec<WriteMode>>,
    flushes: Cell<u32>,
}

impl BlockDevice for Gated {
    fn size(&self) -> ByteCount {
        self.inner.size()
    }
    fn read_only(&self) -> bool {
        false
    }
    fn read(&self, lba: Lba, blocks: u32) -> BlockFuture<Vec<Bytes>> {
        let (read, gate) = (self.inner.read(lba, blocks), self.gate.clone());
        Box::pin(async move {
            let result = read.await;
            while !gate.open.get() {
                gate.waits.notified().await;
            }
            result
        })
    }
    fn write(&self, lba: Lba, data: Vec<Bytes>, mode: WriteMode) -> BlockFuture<()> {
        self.gate.modes.borrow_mut().push(mode);
        self.inner.write(lba, data, mode)
    }
    fn flush(&self) -> BlockFuture<()> {
        self.gate.flushes.set(self.gate.flushes.get() + 1);
        self.inner.flush()
    }
    fn unmap(&self, lba: Lba, blocks: u64) -> BlockFuture<()> {
        self.inner.unmap(lba, blocks)
    }
    fn allocation(&self, lba: Lba, blocks: u64) -> BlockFuture<Vec<Allocation>> {
        self.inner.allocation(lba, blocks)
    }
}

fn gated() -> (Export, Rc<Gate>) {
    let gate = Rc::<Gate>::default();
    let inner = memory();
    let device = Gated {
        inner,
        gate: gate.clone(),
    };
    (export(device), gate)
}

#[test]
fn writes_to_parts_of_one_block_do_not_lose_each_other() {
    let (export, gate) = gated();
    let write = |offset, value: u8, len| {
        let payload = vec![Bytes::from(vec![value; len])];
        let mut work = begin(&export, &request(command::WRITE, 0, offset, len), payload);
        assert!((&mut work).now_or_never().is_none());
        work
    };
    let works = [
        write(0, 1, 512),
        write(512, 2, 512),
        write(0, 3, 4096),
        write(4000, 4, 96),
    ];
    gate.open.set(true);
    gate.waits.notify_all();
    for work in works {
        assert_eq!(work.now_or_never(), Some(Ok(Outcome::Done)));
    }
    let expected = [&[3; 4000][..], &[4; 96]].concat();
    assert_eq!(read_at(&export, 0, 4096), expected);
}

#[test]
fn a_dropped_partial_write_releases_its_blocks() {
    let (export, _gate) = gated();
    let payload = vec![Bytes::from_static(&[1; 512])];
    let mut stuck = begin(&export, &request(command::WRITE, 0, 0, 512), payload);
    assert!((&mut stuck).now_or_never().is_none());
    let whole = || {
        let payload = vec![Bytes::from_static(&[2; 4096])];
        begin(&export, &request(command::WRITE, 0, 0, 4096), payload)
    };
    assert!(whole().now_or_never().is_none());
    drop(stuck);
    assert!(whole().now_or_never().is_some());
}

#[test]
fn force_unit_access_reaches_the_device() {
    let (export, gate) = gated();
    gate.open.set(true);
    let fua = command_flag::FUA;
    for (flags, len) in [(fua, 4096), (0, 4096), (fua, 512)] {
        let payload = vec![Bytes::from(vec![1; len])];
        run(&export, request(command::WRITE, flags, 0, len), payload).unwrap();
    }
    let modes = [WriteMode::Fua, WriteMode::Buffered, WriteMode::Fua];
    assert_eq!(*gate.modes.borrow(), modes);
    for (command, flags) in [
        (command::TRIM, fua),
        (command::WRITE_ZEROES, fua),
        (command::WRITE_ZEROES, fua | command_flag::NO_HOLE),
        (command::FLUSH, 0),
        (command::TRIM, 0),
    ] {
        let len = if command == command::FLUSH { 0 } else { 4096 };
        run(&export, request(command, flags, 0, len), vec![]).unwrap();
    }
    assert_eq!(gate.flushes.get(), 4);
}

#[derive(Clone, Debug)]
enum Change {
    Write(usize, Vec<u8>, usize),
    Zero(usize, usize, bool),
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let place = || (0..SIZE, 1..3 * BLOCK_SIZE, any::<bool>());
    // Half of the places are whole blocks.
    let align = |(at, len, whole): (usize, usize, bool)| {
        let (at, len) = if whole {
            (
                at / BLOCK_SIZE * BLOCK_SIZE,
                len.next_multiple_of(BLOCK_SIZE),
            )
        } else {
            (at, len)
        };
        (at, len.min(SIZE - at))
    };
    let write = (place(), any::<u8>(), 1usize..9000).prop_map(move |(place, value, cut)| {
        let (at, len) = align(place);
        Change::Write(at, vec![value; len], cut)
    });
    let zero = (place(), any::<bool>()).prop_map(move |(place, no_hole)| {
        let (at, len) = align(place);
        Change::Zero(at, len, no_hole)
    });
    prop::collection::vec(prop_oneof![3 => write, 1 => zero], 1..20)
}

proptest! {
    #[test]
    fn any_bytes_written_are_the_bytes_read(
        changes in changes(),
        reads in prop::collection::vec((0..SIZE, 1..SIZE), 1..5),
    ) {
        let export = export(memory());
        let mut oracle = vec![0; SIZE];
        for change in changes {
            match change {
                Change::Write(at, data, cut) => {
                    oracle[at..at + data.len()].copy_from_slice(&data);
                    let payload = data.chunks(cut).map(Bytes::copy_from_slice).collect();
                    run(&export, request(command::WRITE, 0, at, data.len()), payload).unwrap();
                }
                Change::Zero(at, len, no_hole) => {
                    oracle[at..at + len].fill(0);
                    let flags = if no_hole { command_flag::NO_HOLE } else { 0 };
                    run(&export, request(command::WRITE_ZEROES, flags, at, len), vec![]).unwrap();
                }
            }
        }
        for (at, len) in reads {
            let len = len.min(SIZE - at);
            prop_assert!(read_at(&export, at, len) == oracle[at..at + len]);
        }
    }
}
