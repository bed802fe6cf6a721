use super::*;
use blockdev::{Allocation, BlockFuture, MemoryDevice};
use futures_util::FutureExt;
use vocab::ByteCount;

const SIZE: u64 = 64 * BLOCK_BYTES;

fn service() -> Service {
    Service::new(Rc::new(MemoryDevice::new(ByteCount(SIZE))))
}

fn now<T>(future: impl Future<Output = T>) -> T {
    future.now_or_never().expect("memory answers at once")
}

fn read(service: &Service, offset: u64, len: u64) -> Vec<u8> {
    now(service.read(offset, len)).expect("readable").concat()
}

#[test]
fn requests_of_any_alignment_equal_a_plain_array() {
    let service = service();
    let mut model = vec![0u8; usize::try_from(SIZE).expect("small")];
    let mut state = 1u64;
    let mut random = |bound: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % bound
    };
    for round in 0..2000u64 {
        let grain = [1, 512, 4096][usize::try_from(random(3)).expect("small")];
        let offset = random(SIZE / grain) * grain;
        let len = (1 + random(24 * 1024 / grain)) * grain;
        let len = len.min(SIZE - offset);
        let range =
            usize::try_from(offset).expect("small")..usize::try_from(offset + len).expect("small");
        match random(3) {
            0 => {
                model[range].fill(0);
                assert_eq!(now(service.zero(offset, len)), Ok(()));
            }
            1 => {
                let byte = u8::try_from(round % 251).expect("small") + 1;
                model[range.clone()].fill(byte);
                let data = Bytes::from(model[range].to_vec());
                assert_eq!(now(service.write(offset, data)), Ok(()));
            }
            _ => assert_eq!(read(&service, offset, len), model[range], "{offset}+{len}"),
        }
    }
    assert_eq!(read(&service, 0, SIZE), model);
}

#[test]
fn reads_end_with_the_device_and_writes_beyond_are_refused() {
    let service = service();
    assert_eq!(read(&service, SIZE - 100, 4096).len(), 100);
    assert_eq!(read(&service, SIZE, 4096).len(), 0);
    let data = Bytes::from(vec![1; 200]);
    let outcome = now(service.write(SIZE - 100, data));
    assert!(matches!(outcome, Err(BlockError::OutOfRange { .. })));
    assert_eq!(now(service.zero(SIZE - 100, 1 << 40)), Ok(()));
    let data = Bytes::from(vec![1; 2]);
    assert!(now(service.write(u64::MAX, data)).is_err());
}

#[test]
fn zeroing_whole_blocks_gives_their_space_back() {
    let memory = MemoryDevice::new(ByteCount(SIZE));
    let service = Service::new(Rc::new(memory.clone()));
    let data = Bytes::from(vec![7; 16 * BLOCK_SIZE]);
    assert_eq!(now(service.write(0, data)), Ok(()));
    assert_eq!(now(service.zero(100, 10 * BLOCK_BYTES)), Ok(()));
    let runs = now(memory.allocation(Lba(0), 16)).expect("in range");
    let mapped: Vec<u64> = runs.iter().map(|run| run.blocks).collect();
    assert_eq!(mapped, [1, 9, 6]);
}

/// Answers reads only when told to.
struct Gated {
    memory: MemoryDevice,
    gate: Notify,
    open: Rc<Cell<bool>>,
}

impl BlockDevice for Gated {
    fn size(&self) -> ByteCount {
        self.memory.size()
    }
    fn read_only(&self) -> bool {
        false
    }
    fn read(&self, lba: Lba, blocks: u32) -> BlockFuture<Vec<Bytes>> {
        let (memory, gate, open) = (self.memory.clone(), self.gate.clone(), self.open.clone());
        Box::pin(async move {
            let pieces = memory.read(lba, blocks).await;
            while !open.get() {
                gate.notified().await;
            }
            pieces
        })
    }
    fn write(&self, lba: Lba, data: Vec<Bytes>, mode: WriteMode) -> BlockFuture<()> {
        self.memory.write(lba, data, mode)
    }
    fn flush(&self) -> BlockFuture<()> {
        self.memory.flush()
    }
    fn unmap(&self, lba: Lba, blocks: u64) -> BlockFuture<()> {
        self.memory.unmap(lba, blocks)
    }
    fn allocation(&self, lba: Lba, blocks: u64) -> BlockFuture<Vec<Allocation>> {
        self.memory.allocation(lba, blocks)
    }
}

#[test]
fn a_partial_write_never_undoes_a_whole_one() {
    let (gate, open) = (Notify::default(), Rc::new(Cell::new(false)));
    let memory = MemoryDevice::new(ByteCount(SIZE));
    let service = Service::new(Rc::new(Gated {
        memory: memory.clone(),
        gate: gate.clone(),
        open: open.clone(),
    }));
    let sector = Bytes::from(vec![1; 512]);
    let block = Bytes::from(vec![2; BLOCK_SIZE]);
    let mut partial = Box::pin(service.write(512, sector));
    assert!(
        partial.as_mut().now_or_never().is_none(),
        "reads the old block"
    );
    let mut whole = Box::pin(service.write(0, block.clone()));
    assert!(
        whole.as_mut().now_or_never().is_none(),
        "waits for the partial write"
    );
    let mut elsewhere = Box::pin(service.write(BLOCK_BYTES, block.clone()));
    assert_eq!(elsewhere.as_mut().now_or_never(), Some(Ok(())));
    open.set(true);
    gate.notify_all();
    assert_eq!(partial.now_or_never(), Some(Ok(())));
    assert_eq!(whole.now_or_never(), Some(Ok(())));
    assert_eq!(read(&service, 0, BLOCK_BYTES), block);
}
