//! Measures what the reactors cost: 4 KiB random I/O on a preallocated file, and echo round trips on
//! loopback. Prints one line per figure.
//!
//! `iops FILE [SECONDS] [ring|threads]`; FILE is created with 1 GiB when it does not exist. Compare with
//! `fio --name=x --filename=FILE --ioengine=io_uring --direct=1 --rw=randwrite --bs=4k --iodepth=32
//! --time_based --runtime=5`.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use bytes::Bytes;
use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::mpsc;
use world::{Buf, Disk, Duration, Stream, World};
use world_linux::disk::{OpenOptions, create_file, open};
use world_linux::{Io, ShardOptions, run};

const FILE_BYTES: u64 = 1 << 30;
const BLOCK: usize = 4096;

#[derive(Clone, Copy, Debug)]
enum Work {
    Write,
    Read,
    /// A write and a flush.
    Sync,
}

async fn one(disk: &Rc<dyn Disk>, offset: u64, work: Work, data: &Bytes) {
    match work {
        Work::Write => disk.write(offset, data.clone()).await.expect("write"),
        Work::Read => drop(disk.read(offset, BLOCK).await.expect("read")),
        Work::Sync => {
            disk.write(offset, data.clone()).await.expect("write");
            disk.flush().await.expect("flush");
        }
    }
}

/// Operations per second and processor time per operation in microseconds.
async fn measure<F: Future<Output = ()> + 'static>(
    world: &World,
    depth: usize,
    time: Duration,
    operation: impl Fn() -> F + Clone + 'static,
) -> (f64, f64) {
    let count = Rc::new(Cell::new(0u64));
    let processor = processor_time();
    let start = world.now();
    let end = start + time;
    let running = (0..depth).map(|_| {
        let (world, count, operation) = (world.clone(), count.clone(), operation.clone());
        let (done, finished) = world::sync::promise();
        world.clone().spawn(async move {
            while world.now() < end {
                operation().await;
                count.set(count.get() + 1);
            }
            done.fulfil(());
        });
        finished
    });
    for finished in running.collect::<Vec<_>>() {
        finished.await;
    }
    let seconds = world.now().since(start).as_secs_f64();
    let processor = (processor_time() - processor) * 1e6 / count.get() as f64;
    (count.get() as f64 / seconds, processor)
}

/// Of this thread, in seconds.
fn processor_time() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

async fn measure_disk(world: &World, disk: Rc<dyn Disk>, time: Duration) {
    let data = Buf::zeroed(BLOCK).freeze();
    // Written once, so that no extent is converted during the measurement.
    let chunk = Buf::zeroed(1 << 20).freeze();
    for offset in (0..FILE_BYTES).step_by(1 << 20) {
        disk.write(offset, chunk.clone()).await.expect("fill");
    }
    disk.flush().await.expect("flush");
    for work in [Work::Write, Work::Read, Work::Sync] {
        for depth in [1, 32] {
            let (disk, rng, data) = (disk.clone(), world.rng.clone(), data.clone());
            let operation = move || {
                let (disk, data) = (disk.clone(), data.clone());
                let offset = rng.next_u64() % (FILE_BYTES / BLOCK as u64) * BLOCK as u64;
                async move { one(&disk, offset, work, &data).await }
            };
            let (rate, cost) = measure(world, depth, time, operation).await;
            println!("disk {work:?} 4 KiB depth {depth}: {rate:.0}/s, {cost:.2} us cpu");
        }
    }
}

async fn echo(stream: Rc<dyn Stream>) {
    while let Ok(bytes) = stream.read().await {
        if bytes.is_empty() || stream.write(vec![bytes]).await.is_err() {
            return;
        }
    }
}

/// An echo server on a thread of its own.
fn start_server(io: Io, address: world::Address) -> world::Address {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let options = ShardOptions {
            io,
            ..ShardOptions::default()
        };
        run(options, |world, _| {
            Box::pin(async move {
                let listener = world.net.listen(&address).await.expect("listen");
                sender.send(listener.address()).expect("main waits");
                while let Ok(stream) = listener.accept().await {
                    world.spawn(echo(stream));
                }
            })
        })
    });
    receiver.recv().expect("the server listens")
}

async fn round_trip(stream: &Rc<dyn Stream>, message: &Bytes) {
    // Both at once: the sockets' buffers may be smaller than the message.
    let reading = async {
        let mut received = 0;
        while received < message.len() {
            let bytes = stream.read().await.expect("read");
            assert!(!bytes.is_empty(), "the server ended");
            received += bytes.len();
        }
    };
    let writing = stream.write(vec![message.clone()]);
    let (written, ()) = futures_util::future::join(writing, reading).await;
    written.expect("write");
}

async fn measure_net(world: &World, io: Io, time: Duration) {
    let path = std::env::temp_dir().join(format!("iops-{}", std::process::id()));
    let local = world::Address(format!("unix:{}", path.display()));
    for address in [world::Address::from("127.0.0.1:0"), local] {
        let bound = start_server(io, address);
        for (depth, len) in [(1, 64), (32, 64), (1, 4096), (32, 4096), (1, 1 << 20)] {
            let message = Bytes::from(vec![7; len]);
            let idle = world::sync::Queue::default();
            for _ in 0..depth {
                idle.push(world.net.connect(&bound).await.expect("connect"));
            }
            let operation = move || {
                let (idle, message) = (idle.clone(), message.clone());
                async move {
                    let stream = idle.pop().await.expect("never closed");
                    round_trip(&stream, &message).await;
                    idle.push(stream);
                }
            };
            let (rate, cost) = measure(world, depth, time, operation).await;
            println!("echo {bound} {len} B depth {depth}: {rate:.0}/s, {cost:.2} us cpu");
        }
    }
    let _ = std::fs::remove_file(path);
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let path = PathBuf::from(
        arguments
            .next()
            .expect("usage: iops FILE [SECONDS] [ring|threads]"),
    );
    let seconds = arguments
        .next()
        .map_or(3, |text| text.parse().expect("seconds"));
    let io = match arguments.next().as_deref() {
        None | Some("ring") => Io::Ring,
        Some("threads") => Io::Threads,
        Some(other) => panic!("{other} is neither ring nor threads"),
    };
    if !Path::new(&path).exists() {
        create_file(&path, FILE_BYTES).expect("create the file");
    }
    let options = ShardOptions {
        io,
        ..ShardOptions::default()
    };
    let time = Duration::from_secs(seconds);
    let started = run(options, move |world, machine| {
        Box::pin(async move {
            let disk = open(&machine, &path, OpenOptions::default()).expect("open the file");
            assert!(disk.size() >= FILE_BYTES, "the file has less than 1 GiB");
            println!("reactor {:?}", machine.io());
            measure_disk(&world, disk, time).await;
            measure_net(&world, io, time).await;
        })
    });
    started.expect("the shard starts");
}
