//! The whole way on a real kernel: FUSE, loop device, ext4. Needs root, /dev/fuse and /dev/loop-control.
#![allow(clippy::disallowed_methods)] // These tests are about real processes and real time.

use attach::{AttachError, AttachOptions, Detached, ShardBackend, Signals, Told};
use blockdev::{BlockDevice, MemoryDevice};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use vocab::ByteCount;

/// A directory of its own for each test, removed at its end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(test: &str) -> Self {
        let name = format!("azekura-{test}-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).expect("the temporary directory is writable");
        Self(path)
    }

    fn dir(&self, name: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::create_dir_all(&path).expect("ours");
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = attach::detach(&self.0.join("run"), "v");
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Runs a program and returns what it printed. `package` is what to install when it is missing.
#[track_caller]
fn run(package: &str, program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let output = output.unwrap_or_else(|error| {
        panic!("cannot run {program} ({error}): install Debian package {package}")
    });
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {text}{errors}"
    );
    text
}

fn text(path: &Path) -> &str {
    path.to_str().expect("paths of tests are UTF-8")
}

fn memory(mib: u64) -> ShardBackend {
    let options = world_linux::ShardOptions::default();
    let backend = ShardBackend::start(options, move |_| {
        let device: Rc<dyn BlockDevice> = Rc::new(MemoryDevice::new(ByteCount::mib(mib)));
        Box::pin(std::future::ready(Ok(device)))
    });
    backend.expect("a shard starts")
}

fn options(run_dir: &Path) -> AttachOptions {
    let mut options = AttachOptions::new("v");
    options.run_dir = run_dir.to_owned();
    options
}

/// An `attach-memory` process and the device it printed.
struct Server {
    child: Child,
    device: PathBuf,
}

impl Server {
    fn start(run_dir: &Path, grow_bytes: u64) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_attach-memory"))
            .args([text(run_dir), "v", "64"])
            .env("GROW_BYTES", grow_bytes.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .expect("cargo built it");
        let mut line = String::new();
        let output = child.stdout.take().expect("piped");
        BufReader::new(output)
            .read_line(&mut line)
            .expect("readable");
        assert!(line.starts_with("/dev/loop"), "{line:?}");
        let device = PathBuf::from(line.trim());
        Self { child, device }
    }

    fn kill(mut self) {
        self.child.kill().expect("it is ours");
        self.child.wait().expect("it is ours");
    }
}

fn backing_of(device: &Path) -> Option<String> {
    let name = device
        .file_name()
        .expect("a device")
        .to_str()
        .expect("ASCII");
    fs::read_to_string(format!("/sys/block/{name}/loop/backing_file")).ok()
}

/// Whether the device has no file, or another test's.
fn is_free(device: &Path, scratch: &Scratch) -> bool {
    let others = |file: String| file.contains("/azekura-") && !file.contains(text(&scratch.0));
    backing_of(device).is_none_or(others)
}

fn is_mounted(path: &Path) -> bool {
    let mounts = fs::read_to_string("/proc/self/mounts").expect("readable");
    mounts.contains(text(path))
}

#[test]
fn real_ext4_lives_on_an_attached_volume() {
    let scratch = Scratch::new("ext4");
    let (run_dir, target) = (scratch.dir("run"), scratch.dir("target"));
    let attached = attach::attach(options(&run_dir), memory(256)).expect("attached");
    let device = attached.device.clone();
    let listed = attach::list(&run_dir).expect("readable");
    assert_eq!(listed[0].state.device.as_ref(), Some(&device));
    assert!(listed[0].alive);
    run("e2fsprogs", "mkfs.ext4", &["-q", text(&device)]);
    run("mount", "mount", &[text(&device), text(&target)]);
    let content: Vec<u8> = (0..3_000_000u32).flat_map(u32::to_le_bytes).collect();
    fs::write(target.join("data"), &content).expect("writable");
    run("util-linux", "fstrim", &["-v", text(&target)]);
    // A device with a mounted file system is not taken away.
    let busy = attach::detach(&run_dir, "v").expect_err("in use");
    assert!(matches!(busy, AttachError::InUse { .. }), "{busy}");
    run("mount", "umount", &[text(&target)]);
    run("e2fsprogs", "fsck.ext4", &["-f", "-n", text(&device)]);
    run(
        "mount",
        "mount",
        &["-o", "ro", text(&device), text(&target)],
    );
    let back = fs::read(target.join("data")).expect("readable");
    assert!(back == content, "the file changed");
    run("mount", "umount", &[text(&target)]);
    attached.close().expect("nobody uses it");
    assert!(is_free(&device, &scratch));
    assert!(!is_mounted(&run_dir));
    assert_eq!(attach::list(&run_dir).expect("readable"), []);
}

#[test]
fn real_direct_io_and_sectors_read_back_what_was_written() {
    let scratch = Scratch::new("direct");
    let run_dir = scratch.dir("run");
    let mut options = options(&run_dir);
    options.block_bytes = 512;
    let attached = attach::attach(options, memory(64)).expect("attached");
    let device = attached.device.clone();
    let source = scratch.0.join("source");
    let content: Vec<u8> = (0..500_000u32).flat_map(u32::to_le_bytes).collect();
    let content = &content[..512 * 3903];
    fs::write(&source, content).expect("writable");
    for (block, seek) in [("512", 7), ("4096", 1000), ("1M", 20)] {
        let bytes = match block {
            "1M" => 1 << 20,
            size => size.parse::<usize>().expect("a number"),
        };
        let count = content.len() / bytes;
        let whole = count * bytes;
        let (input, output) = (
            format!("if={}", text(&source)),
            format!("of={}", text(&device)),
        );
        let (size, count) = (format!("bs={block}"), format!("count={count}"));
        let at = format!("seek={seek}");
        let flags = ["oflag=direct", "conv=fsync", "status=none"];
        let mut arguments = vec![input.as_str(), &output, &size, &count, &at];
        arguments.extend(flags);
        run("coreutils", "dd", &arguments);
        let copy = scratch.0.join("copy");
        let (input, output) = (
            format!("if={}", text(&device)),
            format!("of={}", text(&copy)),
        );
        let at = format!("skip={seek}");
        let arguments = [
            input.as_str(),
            &output,
            &size,
            &count,
            &at,
            "iflag=direct",
            "status=none",
        ];
        run("coreutils", "dd", &arguments);
        assert!(
            fs::read(&copy).expect("readable") == content[..whole],
            "blocks of {block}"
        );
    }
    attached.close().expect("nobody uses it");
    assert!(is_free(&device, &scratch));
}

#[test]
fn real_a_second_attach_of_a_name_is_refused() {
    let scratch = Scratch::new("twice");
    let run_dir = scratch.dir("run");
    let mut attached = attach::attach(options(&run_dir), memory(16)).expect("attached");
    let second = attach::attach(options(&run_dir), memory(16))
        .err()
        .expect("refused");
    let words = second.to_string();
    assert!(words.contains("attached already") && words.contains(text(&attached.device)));
    // Told to stop, it waits for nobody.
    let signals = Signals::none();
    signals.sender().send(Told::Stop).expect("it listens");
    attached.wait(&signals, |_| ()).expect("nobody uses it");
    attached.close().expect("nobody uses it");
}

#[test]
fn real_detach_stops_the_process_and_releases_everything() {
    let scratch = Scratch::new("detach");
    let run_dir = scratch.dir("run");
    let mut server = Server::start(&run_dir, 0);
    let device = server.device.clone();
    assert!(!is_free(&device, &scratch));
    let outcome = attach::detach(&run_dir, "v").expect("nobody uses it");
    assert_eq!(outcome, Detached::Stopped);
    assert!(server.child.wait().expect("ours").success());
    assert!(is_free(&device, &scratch));
    assert!(!is_mounted(&run_dir));
    let again = attach::detach(&run_dir, "v").expect_err("gone");
    assert!(matches!(again, AttachError::NotAttached(_)));
}

#[test]
fn real_the_next_attach_cleans_up_after_a_killed_process() {
    let scratch = Scratch::new("killed");
    let run_dir = scratch.dir("run");
    let server = Server::start(&run_dir, 0);
    let device = server.device.clone();
    server.kill();
    assert!(is_mounted(&run_dir) && !is_free(&device, &scratch));
    assert!(!attach::list(&run_dir).expect("readable")[0].alive);
    let attached = attach::attach(options(&run_dir), memory(16)).expect("cleaned and attached");
    assert_eq!(attached.left_over, Vec::<PathBuf>::new());
    let read = fs::read(&attached.device).expect("readable");
    assert_eq!(read.len(), 16 << 20);
    let new = attached.device.clone();
    attached.close().expect("nobody uses it");
    assert!(is_free(&device, &scratch) && is_free(&new, &scratch));
    assert!(!is_mounted(&run_dir));
}

#[test]
fn real_detach_cleans_up_after_a_killed_process_with_a_mounted_file_system() {
    let scratch = Scratch::new("mounted");
    let (run_dir, target) = (scratch.dir("run"), scratch.dir("target"));
    let server = Server::start(&run_dir, 0);
    let device = server.device.clone();
    run("e2fsprogs", "mkfs.ext4", &["-q", text(&device)]);
    run("mount", "mount", &[text(&device), text(&target)]);
    server.kill();
    let outcome = attach::detach(&run_dir, "v").expect("cleaned");
    let in_use = vec![device.clone()];
    assert_eq!(outcome, Detached::Cleaned { in_use });
    run("mount", "umount", &[text(&target)]);
    assert!(is_free(&device, &scratch));
    assert!(!is_mounted(&run_dir));
}

#[test]
fn real_a_server_that_hangs_keeps_no_other_device_from_being_cleaned() {
    use rustix::process::{Pid, Signal, kill_process};
    let (hung, beside) = (Scratch::new("hung"), Scratch::new("beside"));
    let server = Server::start(&hung.dir("run"), 0);
    let pid = Pid::from_child(&server.child);
    let run_dir = beside.dir("run");
    Server::start(&run_dir, 0).kill();
    kill_process(pid, Signal::STOP).expect("it is ours");
    let (sender, outcome) = std::sync::mpsc::channel();
    std::thread::spawn(move || sender.send(attach::detach(&run_dir, "v")));
    let outcome = outcome.recv_timeout(std::time::Duration::from_secs(20));
    // Whatever came of it, the server must go on to be detached itself.
    kill_process(pid, Signal::CONT).expect("it is ours");
    let outcome = outcome.expect("it waits for nobody else's server");
    let in_use = Vec::new();
    assert_eq!(outcome.expect("cleaned"), Detached::Cleaned { in_use });
}

#[test]
fn real_the_device_grows_with_its_volume() {
    let scratch = Scratch::new("grow");
    let run_dir = scratch.dir("run");
    let server = Server::start(&run_dir, 32 << 20);
    let size = || {
        run(
            "util-linux",
            "blockdev",
            &["--getsize64", text(&server.device)],
        )
    };
    let pid = rustix::process::Pid::from_child(&server.child);
    let mut seen = size();
    for _ in 0..100 {
        if seen.trim() != (64 << 20).to_string() {
            break;
        }
        rustix::process::kill_process(pid, rustix::process::Signal::HUP).expect("it is ours");
        std::thread::sleep(std::time::Duration::from_millis(50));
        seen = size();
    }
    assert_eq!(seen.trim(), (96 << 20).to_string());
    let outcome = attach::detach(&run_dir, "v").expect("nobody uses it");
    assert_eq!(outcome, Detached::Stopped);
}
