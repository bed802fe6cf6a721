//! Runs a test on both reactors.

use std::path::PathBuf;
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};
use world::{Disk, Duration, LocalBoxFuture, World};
use world_linux::disk::{OpenOptions, create_file, open};
use world_linux::{Io, Machine, ShardOptions, run};

/// Bounds every test.
const TEST_TIME_MAX: Duration = Duration::from_secs(60);

pub fn on(io: Io) -> ShardOptions {
    ShardOptions {
        io,
        ..ShardOptions::default()
    }
}

/// Runs `test` on a shard with the ring, then on one with threads.
pub fn both<F: Future<Output = ()> + 'static>(test: impl Fn(World, Machine) -> F) {
    for io in [Io::Ring, Io::Threads] {
        let started = run(on(io), |world, machine| {
            assert_eq!(machine.io(), io);
            let test = test(world.clone(), machine);
            Box::pin(async move {
                world
                    .timeout(TEST_TIME_MAX, test)
                    .await
                    .expect("a minute is enough");
            }) as LocalBoxFuture<'static, ()>
        });
        started.unwrap_or_else(|error| panic!("{io:?}: {error}"));
    }
}

/// A path that does not exist, removed at the end of the test.
pub struct Scratch(pub PathBuf);

impl Scratch {
    pub fn new(name: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{name}-{}-{number}", std::process::id());
        Self(PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name))
    }

    /// A disk of this size at this path.
    pub fn disk(&self, machine: &Machine, bytes: u64) -> Rc<dyn Disk> {
        create_file(&self.0, bytes).unwrap();
        open(machine, &self.0, OpenOptions::default()).unwrap()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}
