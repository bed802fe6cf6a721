//! Attaches memory: what the FUSE and loop path costs without a cluster behind it, and what the tests of this
//! crate kill.
//!
//! `attach-memory RUN_DIR NAME MIB [BLOCK_BYTES]`; it grows by `GROW_BYTES` (environment) once it is attached, and has a
//! guard when `GUARD` is there, which is `attach-memory guard -- RUN_DIR NAME`.

use attach::{AttachOptions, Attached, ShardBackend, Signals};
use blockdev::{Allocation, BlockDevice, BlockFuture, MemoryDevice, WriteMode};
use bytes::Bytes;
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use vocab::{ByteCount, Lba};

/// Memory whose visible size can be changed from outside.
struct Growing {
    memory: MemoryDevice,
    bytes: Arc<AtomicU64>,
}

impl BlockDevice for Growing {
    fn size(&self) -> ByteCount {
        ByteCount(self.bytes.load(Ordering::Relaxed))
    }
    fn read_only(&self) -> bool {
        false
    }
    fn read(&self, lba: Lba, blocks: u32) -> BlockFuture<Vec<Bytes>> {
        self.memory.read(lba, blocks)
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

struct Arguments {
    options: AttachOptions,
    size: ByteCount,
}

fn arguments() -> Option<Arguments> {
    let mut arguments = std::env::args().skip(1);
    let (run_dir, name) = (arguments.next()?, arguments.next()?);
    let size = ByteCount::mib(arguments.next()?.parse().ok()?);
    let mut options = AttachOptions::new(&name);
    options.run_dir = run_dir.into();
    if std::env::var_os("GUARD").is_some() {
        options.guard = vec!["guard".into()];
    }
    if let Some(block) = arguments.next() {
        options.block_bytes = block.parse().ok()?;
    }
    Some(Arguments { options, size })
}

fn serve(arguments: Arguments) -> Result<(), Box<dyn std::error::Error>> {
    let signals = Signals::install()?;
    for missing in attach::protect() {
        eprintln!("{missing}");
    }
    let bytes = Arc::new(AtomicU64::new(arguments.size.0));
    let shown = bytes.clone();
    let backend = ShardBackend::start(world_linux::ShardOptions::default(), move |_| {
        let memory = MemoryDevice::new(ByteCount::gib(1 << 20));
        let device: Rc<dyn BlockDevice> = Rc::new(Growing {
            memory,
            bytes: shown,
        });
        Box::pin(std::future::ready(Ok(device)))
    })?;
    let mut attached: Attached = attach::attach(arguments.options, backend)?;
    println!("{}", attached.device.display());
    for left in &attached.left_over {
        eprintln!("{} is still in use and fails all requests", left.display());
    }
    // A memory device has nobody else to make it grow, so it does on the first look.
    bytes.fetch_add(
        std::env::var("GROW_BYTES").map_or(0, |grow| grow.parse().unwrap_or(0)),
        Ordering::Relaxed,
    );
    attached.wait(&signals, |text| eprintln!("{text}"))?;
    Ok(attached.close()?)
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if let [verb, _, run_dir, name] = words.as_slice()
        && verb == "guard"
    {
        return match attach::stand_guard(run_dir.as_ref(), name) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        };
    }
    let Some(arguments) = arguments() else {
        eprintln!("usage: attach-memory RUN_DIR NAME MIB [BLOCK_BYTES]");
        return ExitCode::from(2);
    };
    match serve(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("attach-memory: {error}");
            ExitCode::FAILURE
        }
    }
}
