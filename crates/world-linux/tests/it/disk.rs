//! Disks on real files, with both reactors.

use crate::both::{Scratch, both, on};
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::join_all;
use std::process::Command;
use std::rc::Rc;
use world::{Buf, Disk, DiskError, PAGE};
use world_linux::disk::{CreateError, OpenError, OpenOptions, create_file, open};
use world_linux::{Io, run};

const MIB: u64 = 1 << 20;

fn pattern(seed: u8, len: usize) -> Buf {
    let mut buf = Buf::zeroed(len);
    for (index, byte) in buf.iter_mut().enumerate() {
        *byte = (index as u8).wrapping_mul(31).wrapping_add(seed);
    }
    buf
}

#[test]
fn written_pages_are_read_back_also_after_reopening() {
    both(|_, machine| async move {
        let scratch = Scratch::new("round-trip");
        let disk = scratch.disk(&machine, 8 * MIB);
        assert_eq!(disk.size(), 8 * MIB);
        for (offset, len) in [
            (0, PAGE),
            (MIB, 1 << 20),
            (8 * MIB - 4096, PAGE),
            (12288, 3 * PAGE),
        ] {
            let data = pattern(offset as u8, len).freeze();
            disk.write(offset, data.clone()).await.unwrap();
            assert!(disk.read(offset, len).await.unwrap() == data);
        }
        let unaligned = pattern(9, PAGE + 1).freeze().slice(1..=PAGE);
        disk.write(4096, unaligned.clone()).await.unwrap();
        disk.flush().await.unwrap();
        drop(disk);
        let disk = open(&machine, &scratch.0, OpenOptions::default()).unwrap();
        let read = disk.read(4096, PAGE).await.unwrap();
        assert!(read == unaligned);
        assert!(Buf::is_aligned(&read));
    });
}

#[test]
fn accesses_outside_of_the_disk_or_between_pages_are_refused() {
    both(|_, machine| async move {
        let scratch = Scratch::new("bounds");
        let disk = scratch.disk(&machine, 4 * PAGE as u64);
        for (offset, len) in [
            (4 * 4096, PAGE),
            (3 * 4096, 2 * PAGE),
            (512, PAGE),
            (0, 512),
            (0, 0),
            (u64::MAX - 4095, PAGE),
        ] {
            let refused = DiskError::OutOfBounds { offset, len };
            assert_eq!(disk.read(offset, len).await, Err(refused.clone()));
            let data = Bytes::from(vec![0; len]);
            assert_eq!(disk.write(offset, data).await, Err(refused));
        }
    });
}

#[test]
fn a_thousand_operations_at_once_finish() {
    both(|_, machine| async move {
        let scratch = Scratch::new("many");
        let disk = scratch.disk(&machine, 4 * MIB);
        let page = |index: u64| pattern(index as u8, PAGE).freeze();
        let writes = (0..1024).map(|index| disk.write(index * 4096, page(index)));
        for result in join_all(writes).await {
            result.unwrap();
        }
        disk.flush().await.unwrap();
        let reads = join_all((0..1024).map(|index| disk.read(index * 4096, PAGE))).await;
        for (index, read) in reads.into_iter().enumerate() {
            assert!(read.unwrap() == page(index as u64));
        }
    });
}

#[test]
fn futures_dropped_in_flight_keep_their_memory_and_the_disk_works_on() {
    both(|world, machine| async move {
        let scratch = Scratch::new("dropped");
        let disk = scratch.disk(&machine, 4 * MIB);
        for round in 0..50u64 {
            for index in 0..16 {
                let offset = (round * 16 + index) % 1024 * 4096;
                let mut write = disk.write(offset, pattern(1, PAGE).freeze());
                assert!(write.as_mut().now_or_never().is_none());
                let mut read = disk.read(offset, PAGE);
                assert!(read.as_mut().now_or_never().is_none());
                if index % 4 == 0 {
                    let mut flush = disk.flush();
                    assert!(flush.as_mut().now_or_never().is_none());
                }
            }
            if round % 10 == 0 {
                world.sleep(std::time::Duration::from_millis(1)).await;
            }
        }
        let data = pattern(7, PAGE).freeze();
        disk.write(0, data.clone()).await.unwrap();
        disk.flush().await.unwrap();
        // A write dropped above may land after this one, never in part.
        let read = disk.read(0, PAGE).await.unwrap();
        assert!(read == data || read == pattern(1, PAGE).freeze());
        // And the shard ends while these are under way.
        for index in 0..100 {
            let write = disk.write(index * 4096, data.clone());
            world.spawn(async move { drop(write.await) });
        }
        world.sleep(std::time::Duration::ZERO).await;
    });
}

#[test]
fn a_disk_kept_beyond_its_shard_is_gone() {
    for io in [Io::Ring, Io::Threads] {
        let scratch = Scratch::new("gone");
        let path = scratch.0.clone();
        let disk: Rc<dyn Disk> = run(on(io), move |_, machine| {
            let scratch = Scratch(path);
            let disk = scratch.disk(&machine, MIB);
            Box::pin(async move { disk })
        })
        .unwrap();
        let read = disk.read(0, PAGE).now_or_never();
        assert_eq!(read, Some(Err(DiskError::Gone)));
        assert_eq!(disk.flush().now_or_never(), Some(Err(DiskError::Gone)));
    }
}

#[test]
fn a_disk_is_opened_by_one_user_who_is_named() {
    both(|_, machine| async move {
        let scratch = Scratch::new("lock");
        let disk = scratch.disk(&machine, MIB);
        let again = open(&machine, &scratch.0, OpenOptions::default());
        let Err(OpenError::InUse { path, holder }) = again else {
            panic!("opened twice");
        };
        assert_eq!(path, scratch.0);
        let me = format!("process {} ", std::process::id());
        assert!(holder.starts_with(&me), "{holder}");
        drop(disk);
        open(&machine, &scratch.0, OpenOptions::default()).unwrap();
    });
}

#[test]
fn what_is_no_disk_is_refused_with_the_reason() {
    both(|_, machine| async move {
        let options = OpenOptions::default();
        let missing = Scratch::new("missing");
        let error = open(&machine, &missing.0, options).err().unwrap();
        assert!(matches!(error, OpenError::NotFound { .. }));
        for (path, kind) in [("/dev/null", "character device"), ("/dev", "directory")] {
            let error = open(&machine, path.as_ref(), options).err().unwrap();
            assert!(error.to_string().contains(kind), "{error}");
        }
        let small = Scratch::new("small");
        std::fs::write(&small.0, [0; 4095]).unwrap();
        let error = open(&machine, &small.0, options).err().unwrap();
        let bytes = 4095;
        let path = small.0.clone();
        assert_eq!(error, OpenError::TooSmall { path, bytes });
        std::fs::write(&small.0, [0; 3 * PAGE + 5]).unwrap();
        assert_eq!(open(&machine, &small.0, options).unwrap().size(), 3 * 4096);
    });
}

#[test]
fn disks_in_memory_need_permission() {
    both(|_, machine| async move {
        let scratch = Scratch::new("tmpfs");
        let name = scratch.0.file_name().unwrap();
        let scratch = Scratch(std::path::Path::new("/dev/shm").join(name));
        create_file(&scratch.0, MIB).unwrap();
        let refused = open(&machine, &scratch.0, OpenOptions::default());
        assert!(matches!(refused, Err(OpenError::Buffered { .. })));
        let options = OpenOptions {
            allow_buffered: true,
        };
        let disk = open(&machine, &scratch.0, options).unwrap();
        let data = pattern(3, 2 * PAGE).freeze();
        disk.write(4096, data.clone()).await.unwrap();
        disk.flush().await.unwrap();
        assert!(disk.read(4096, 2 * PAGE).await.unwrap() == data);
    });
}

#[test]
fn files_are_created_once_and_in_full() {
    let scratch = Scratch::new("create");
    create_file(&scratch.0, 10_000).unwrap();
    let metadata = std::fs::metadata(&scratch.0).unwrap();
    assert_eq!(metadata.len(), 12_288);
    let allocated = std::os::unix::fs::MetadataExt::blocks(&metadata) * 512;
    assert!(allocated >= 12_288);
    let path = scratch.0.clone();
    assert_eq!(
        create_file(&path, 1),
        Err(CreateError::Exists { path: path.clone() })
    );
    let huge = Scratch::new("huge");
    let refused = create_file(&huge.0, 1 << 43);
    assert!(
        matches!(refused, Err(CreateError::NoSpace { .. })),
        "{refused:?}"
    );
    assert!(!huge.0.exists());
    let nowhere = create_file("/nonexistent/disk".as_ref(), 1);
    assert!(matches!(nowhere, Err(CreateError::Io { .. })));
}

fn losetup(arguments: &[&str]) -> String {
    let output = Command::new("losetup").args(arguments).output();
    let output = output.expect("install Debian package mount (losetup) and run this as root");
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        output.status.success(),
        "losetup {arguments:?} (run this as root): {words}"
    );
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn real_block_devices_are_claimed_and_read_back() {
    let scratch = Scratch::new("loop");
    create_file(&scratch.0, 2 * MIB).unwrap();
    let device = losetup(&["--find", "--show", scratch.0.to_str().unwrap()]);
    struct Detach(String);
    impl Drop for Detach {
        fn drop(&mut self) {
            let _ = Command::new("losetup").args(["--detach", &self.0]).status();
        }
    }
    let detach = Detach(device.clone());
    both(move |_, machine| {
        let device = std::path::PathBuf::from(&device);
        async move {
            let disk = open(&machine, &device, OpenOptions::default()).unwrap();
            assert_eq!(disk.size(), 2 * MIB);
            let again = open(&machine, &device, OpenOptions::default());
            let Err(OpenError::InUse { holder, .. }) = again else {
                panic!("opened twice");
            };
            assert!(holder.contains(&std::process::id().to_string()), "{holder}");
            let data = pattern(5, PAGE).freeze();
            disk.write(MIB, data.clone()).await.unwrap();
            disk.flush().await.unwrap();
            assert!(disk.read(MIB, PAGE).await.unwrap() == data);
        }
    });
    drop(detach);
}
