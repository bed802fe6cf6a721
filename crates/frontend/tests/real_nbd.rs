//! The NBD clients that people use, against a server over a memory device on a real socket.
#![allow(
    clippy::unwrap_used,
    missing_docs,
    reason = "everything here is a test"
)]
#![allow(clippy::disallowed_methods, reason = "real programs need real files")]

mod support;

use blockdev::MemoryDevice;
use frontend::nbd::{Options, serve};
use std::future::Future;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::rc::Rc;
use support::{OfShelf, Shelf};
use vocab::ByteCount;
use world::{Address, World};
use world_linux::ShardOptions;

const SIZE_MIB: u64 = 64;

/// A running server and the programs that are pointed at it.
#[derive(Clone)]
struct Server {
    world: World,
    port: String,
}

/// Serves a memory device `v` while `test` runs; every device must be closed soon after.
fn with_server<F: Future<Output = ()> + 'static>(test: impl FnOnce(Server) -> F + 'static) {
    let main = |world: World, _| {
        Box::pin(async move {
            let shelf = Shelf::with("v", MemoryDevice::new(ByteCount::mib(SIZE_MIB)));
            let any_port = Address::from("127.0.0.1:0");
            let listener = world.net.listen(&any_port).await.unwrap();
            let port = listener.address().0.rsplit(':').next().unwrap().to_owned();
            let options = Options::default();
            let exports = Rc::new(OfShelf(shelf.clone()));
            let server = serve(world.clone(), listener, exports, options.clone());
            let (done, served) = world::sync::promise();
            world.spawn(async move {
                server.await;
                done.fulfil(());
            });
            test(Server {
                world: world.clone(),
                port,
            })
            .await;
            options.shutdown.request();
            served.await.expect("the server ends");
            assert_eq!(shelf.open_now(), 0);
            assert!(shelf.opened.get() > 0);
        }) as world::LocalBoxFuture<'static, ()>
    };
    world_linux::run(ShardOptions::default(), main).unwrap();
}

impl Server {
    fn uri(&self) -> String {
        format!("nbd://127.0.0.1:{}/v", self.port)
    }

    /// Runs a program of Debian package `package`; its standard output, or what went wrong.
    async fn run(&self, package: &str, program: &str, args: &[&str]) -> Result<String, String> {
        let mut command = Command::new("timeout");
        command
            .arg("120")
            .arg(program)
            .args(args)
            .stdin(Stdio::null());
        let output = self.world.offload(move || command.output()).await.unwrap();
        // 127 is `timeout`'s word for a program that does not exist.
        assert_ne!(
            output.status.code(),
            Some(127),
            "install Debian package {package}"
        );
        let out = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() {
            return Ok(out);
        }
        let error = String::from_utf8_lossy(&output.stderr);
        Err(format!(
            "{program} {args:?}: {}\n{out}{error}",
            output.status
        ))
    }

    async fn nbdinfo(&self, args: &[&str]) -> String {
        self.run("libnbd-bin", "nbdinfo", args).await.unwrap()
    }

    async fn nbdcopy(&self, args: &[&str]) {
        self.run("libnbd-bin", "nbdcopy", args).await.unwrap();
    }

    async fn qemu_img(&self, args: &[&str]) -> String {
        self.run("qemu-utils", "qemu-img", args).await.unwrap()
    }

    async fn qemu_io(&self, commands: &[&str]) -> String {
        let uri = self.uri();
        let mut args = vec!["-f", "raw"];
        commands
            .iter()
            .for_each(|command| args.extend(["-c", *command]));
        args.push(&uri);
        let out = self.run("qemu-utils", "qemu-io", &args).await.unwrap();
        assert!(!out.contains("rror") && !out.contains("failed"), "{out}");
        out
    }

    async fn fio(&self, args: &[&str]) -> String {
        let uri = format!("--uri={}", self.uri());
        let mut all = vec!["--name=job", "--ioengine=nbd", &uri, "--thread"];
        all.extend(args);
        self.run("fio", "fio", &all).await.unwrap()
    }
}

/// A file of the test's own with data and holes.
fn image(name: &str) -> PathBuf {
    let path = scratch(name);
    let mut content = vec![0u8; usize::try_from(SIZE_MIB << 20).unwrap()];
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    for (index, block) in content.chunks_mut(4096).enumerate() {
        if index / 100 % 3 == 1 {
            continue;
        }
        for word in block.chunks_mut(8) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            word.copy_from_slice(&state.to_le_bytes());
        }
    }
    std::fs::write(&path, content).unwrap();
    path
}

fn scratch(name: &str) -> PathBuf {
    let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    std::fs::create_dir_all(&directory).unwrap();
    directory.join(format!("real-nbd-{}-{name}", std::process::id()))
}

#[test]
fn real_nbdinfo_understands_the_export() {
    with_server(|server| async move {
        let info = server.nbdinfo(&["--json", &server.uri()]).await;
        for expected in [
            r#""protocol": "newstyle-fixed""#,
            r#""structured": true"#,
            r#""export-size": 67108864"#,
            r#""base:allocation""#,
            r#""can_multi_conn": true"#,
            r#""can_fast_zero": true"#,
            r#""can_df": true"#,
            r#""can_fua": true"#,
            r#""can_trim": true"#,
            r#""can_zero": true"#,
            r#""can_cache": true"#,
            r#""can_flush": true"#,
            r#""is_read_only": false"#,
            r#""block_size_minimum": 512"#,
            r#""block_size_preferred": 4096"#,
            r#""block_size_maximum": 33554432"#,
        ] {
            assert!(info.contains(expected), "{expected} is not in {info}");
        }
        let root = format!("nbd://127.0.0.1:{}", server.port);
        let list = server.nbdinfo(&["--list", "--json", &root]).await;
        assert!(list.contains(r#""export-name": "v""#), "{list}");
        assert!(list.contains("in memory"), "{list}");
        let map = server.nbdinfo(&["--map", &server.uri()]).await;
        assert!(
            map.contains("67108864") && map.contains("hole,zero"),
            "{map}"
        );
        let unknown = format!("{root}/nothing");
        let error = server
            .run("libnbd-bin", "nbdinfo", &[&unknown])
            .await
            .unwrap_err();
        assert!(
            error.contains("No such file or directory for export"),
            "{error}"
        );
    });
}

#[test]
fn real_nbdcopy_copies_in_and_out() {
    with_server(|server| async move {
        let (source, target) = (image("copy-in"), scratch("copy-out"));
        let (from, to) = (source.to_str().unwrap(), target.to_str().unwrap());
        let uri = server.uri();
        for (upload, download) in [
            (&["--flush"][..], &[][..]),
            (
                &["--destination-is-zero", "--connections=1"],
                &["--no-extents"],
            ),
            (
                &["--request-size=33554432", "--allocated"],
                &["--request-size=33554432"],
            ),
            (&["--synchronous"], &["--synchronous"]),
        ] {
            server.nbdcopy(&[upload, &[from, &uri]].concat()).await;
            server.nbdcopy(&[download, &[&uri, to]].concat()).await;
            let same = std::fs::read(&source).unwrap() == std::fs::read(&target).unwrap();
            assert!(same, "{upload:?} {download:?}");
        }
        let map = server.nbdinfo(&["--map", "--totals", &uri]).await;
        assert!(map.contains("data"), "{map}");
        std::fs::remove_file(source).unwrap();
        std::fs::remove_file(target).unwrap();
    });
}

#[test]
fn real_qemu_img_converts_compares_and_maps() {
    with_server(|server| async move {
        let source = image("qemu");
        let (from, uri) = (source.to_str().unwrap(), server.uri());
        let info = server.qemu_img(&["info", &uri]).await;
        assert!(info.contains("64 MiB"), "{info}");
        let raw = ["convert", "-f", "raw", "-O", "raw", "-n"];
        server
            .qemu_img(&[&raw[..], &["-W", "-m", "16", from, &uri]].concat())
            .await;
        server
            .qemu_img(&["compare", "-f", "raw", "-F", "raw", from, &uri])
            .await;
        let map = server
            .qemu_img(&["map", "--output=json", "-f", "raw", &uri])
            .await;
        assert!(map.contains(r#""zero": true, "data": false"#), "{map}");
        let back = scratch("qemu-back.qcow2");
        let to = back.to_str().unwrap();
        server
            .qemu_img(&["convert", "-f", "raw", "-O", "qcow2", &uri, to])
            .await;
        server
            .qemu_img(&["compare", "-f", "raw", "-F", "qcow2", &uri, to])
            .await;
        std::fs::remove_file(source).unwrap();
        std::fs::remove_file(back).unwrap();
    });
}

#[test]
fn real_qemu_io_reads_what_it_wrote_at_any_offset() {
    with_server(|server| async move {
        let out = server
            .qemu_io(&[
                "write -P 1 0 1M",
                "write -P 2 512 512",
                "write -f -P 3 100 5000",
                "aio_write -P 4 8192 512",
                "aio_write -P 5 8704 512",
                "aio_write -P 6 9216 3072",
                "aio_flush",
                "flush",
                "read -P 1 0 100",
                "read -P 3 100 5000",
                "read -P 4 8192 512",
                "read -P 5 8704 512",
                "read -P 6 9216 3072",
                "write -z 20000 100000",
                "read -P 0 20000 100000",
                "read -P 1 120000 1000",
                "write -z -u 200k 64k",
                "discard 300k 64k",
                "read -P 0 200k 64k",
                "read -P 1 264k 36k",
                "read 67108352 512",
            ])
            .await;
        assert!(!out.contains("Pattern verification"), "{out}");
        let map = server.nbdinfo(&["--map", &server.uri()]).await;
        assert!(
            map.lines().filter(|line| line.contains("hole")).count() >= 3,
            "{map}"
        );
    });
}

#[test]
fn real_qemu_nbd_lists_the_exports() {
    with_server(|server| async move {
        let args = ["--list", "-b", "127.0.0.1", "-p", &server.port];
        let list = server.run("qemu-utils", "qemu-nbd", &args).await.unwrap();
        for expected in [
            "export: 'v'",
            "in memory",
            "multi",
            "fast-zero",
            "base:allocation",
        ] {
            assert!(list.contains(expected), "{expected} is not in {list}");
        }
    });
}

#[test]
fn real_fio_verify_finds_every_block_as_written() {
    with_server(|server| async move {
        let verify = ["--verify=crc32c", "--verify_fatal=1", "--do_verify=1"];
        for job in [
            &["--rw=randwrite", "--bs=4k", "--iodepth=32", "--size=64M"][..],
            // Neighbours in a block are written at the same time.
            &["--rw=write", "--bs=512", "--iodepth=64", "--size=4M"],
            &["--rw=randwrite", "--bs=1536", "--iodepth=16", "--size=8M"],
            &[
                "--rw=write",
                "--bs=1M",
                "--iodepth=16",
                "--size=64M",
                "--fsync=8",
            ],
            // Four connections, each with its part.
            &[
                "--rw=randrw",
                "--bs=16k",
                "--iodepth=16",
                "--size=16M",
                "--numjobs=4",
                "--offset_increment=16M",
                "--verify_backlog=64",
            ],
            &["--rw=randtrimwrite", "--bs=8k", "--iodepth=1", "--size=8M"],
        ] {
            let out = server.fio(&[job, &verify].concat()).await;
            assert!(out.contains("err= 0"), "{job:?}: {out}");
        }
    });
}
