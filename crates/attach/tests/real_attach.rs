//! The whole way on a real kernel: FUSE, loop device, ext4. Needs root, /dev/fuse and /dev/loop-control.
#![allow(clippy::disallowed_methods)] // These tests are about real processes and real time.

use attach::{AttachError, AttachOptions, Detached, Found, ShardBackend, Signals, Told};
use blockdev::{BlockDevice, MemoryDevice};
use rustix::process::{Pid, Signal, kill_process};
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

    /// Ends the processes that a failed test has left, guards that it has stopped among them, and takes its mounts away.
    fn abandon(&self) {
        let ours = |id: &i32| {
            let line = fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line).contains(text(&self.0))
        };
        let entries = fs::read_dir("/proc").expect("readable").flatten();
        let ids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        for pid in ids.filter(ours).filter_map(Pid::from_raw) {
            let _ = kill_process(pid, Signal::KILL);
        }
        let mounts = fs::read_to_string("/proc/self/mounts").expect("readable");
        let points = mounts.lines().filter_map(|line| line.split(' ').nth(1));
        for point in points.filter(|point| Path::new(point).starts_with(&self.0)) {
            let _ = Command::new("umount").args(["-l", point]).status();
        }
    }

    fn dir(&self, name: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::create_dir_all(&path).expect("ours");
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.abandon();
        }
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
        Self::spawn(run_dir, &[("GROW_BYTES", &grow_bytes.to_string())])
    }

    /// One whose guard cleans up after it.
    fn guarded(run_dir: &Path) -> Self {
        Self::spawn(run_dir, &[("GUARD", "1")])
    }

    /// With a file open that nobody wants, as shells leave them.
    fn spawn(run_dir: &Path, environment: &[(&str, &str)]) -> Self {
        let program = env!("CARGO_BIN_EXE_attach-memory");
        let mut child = Command::new("sh")
            .args(["-c", "exec 9< /dev/null; exec \"$0\" \"$@\"", program])
            .args([text(run_dir), "v", "64"])
            .envs(environment.iter().copied())
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

    /// The process of its guard: its only child.
    fn guard(&self) -> Pid {
        let parent = self.child.id().to_string();
        let entries = fs::read_dir("/proc").expect("readable").flatten();
        let mut ids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let guard = ids.find(|id: &i32| {
            let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
            // State and parent follow the name, which is in parentheses.
            let after = stat.rsplit(')').next().unwrap_or_default();
            after.split_whitespace().nth(1) == Some(parent.as_str())
        });
        Pid::from_raw(guard.expect("it has a guard")).expect("no zero")
    }
}

/// Whether a process is gone, or dead and waiting for its new parent to notice.
fn has_ended(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
    stat.map_or(true, |stat| stat.contains(") Z "))
}

/// Whether a guard watches a living process: signals mean nothing to it.
fn blocks_signals(guard: Pid) -> bool {
    let status = fs::read_to_string(format!("/proc/{}/status", guard.as_raw_nonzero()));
    let status = status.expect("it lives");
    let mask = status.lines().find_map(|line| line.strip_prefix("SigBlk:"));
    mask.is_some_and(|mask| mask.contains(|digit: char| ('1'..='f').contains(&digit)))
}

/// Waits for what another process does, for 30 s.
#[track_caller]
fn wait_until(what: &str, condition: impl Fn() -> bool) {
    for _ in 0..1500 {
        if condition() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    panic!("not within 30 s: {what}");
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
fn real_a_killed_process_is_cleaned_up_after_by_its_guard() {
    let scratch = Scratch::new("guarded");
    let run_dir = scratch.dir("run");
    let server = Server::guarded(&run_dir);
    let (device, guard) = (server.device.clone(), server.guard());
    wait_until("the guard stands", || blocks_signals(guard));
    let about = |pid: i32, name: &str| PathBuf::from(format!("/proc/{pid}/{name}"));
    let starter = Pid::from_child(&server.child).as_raw_nonzero().get();
    let guards = guard.as_raw_nonzero().get();
    assert!(about(starter, "fd/9").exists() && !about(guards, "fd/9").exists());
    let folder = fs::read_link(about(guards, "cwd")).expect("it lives");
    assert_eq!(folder, Path::new("/"));
    // What is meant for the process must not end the guard before it.
    kill_process(guard, Signal::TERM).expect("it is ours");
    server.kill();
    let nothing = || attach::find(&run_dir, "v").expect("readable") == Found::Nothing;
    wait_until("the record is removed", nothing);
    assert!(is_free(&device, &scratch));
    assert!(!is_mounted(&run_dir) && !run_dir.join("v.mount").exists());
    wait_until("the guard ends", || has_ended(guard));
    let again = attach::attach(options(&run_dir), memory(16)).expect("attached");
    again.close().expect("nobody uses it");
}

#[test]
fn real_a_guard_leaves_the_users_mount_and_frees_the_device_with_it() {
    let scratch = Scratch::new("used");
    let (run_dir, target) = (scratch.dir("run"), scratch.dir("target"));
    let server = Server::guarded(&run_dir);
    let device = server.device.clone();
    run("e2fsprogs", "mkfs.ext4", &["-q", text(&device)]);
    run("mount", "mount", &[text(&device), text(&target)]);
    server.kill();
    wait_until("the file system is unmounted", || !is_mounted(&run_dir));
    // Who looks still learns of the device that fails.
    assert!(is_mounted(&target));
    let listed = attach::list(&run_dir).expect("readable");
    assert_eq!(listed[0].state.device.as_ref(), Some(&device));
    assert!(!listed[0].alive);
    run("mount", "umount", &[text(&target)]);
    assert!(is_free(&device, &scratch));
    let nothing = || attach::find(&run_dir, "v").expect("readable") == Found::Nothing;
    wait_until("the record is removed", nothing);
}

/// The next device of that number would be behind the node.
#[test]
fn real_a_guard_keeps_the_number_of_a_device_whose_node_is_mounted() {
    let scratch = Scratch::new("node");
    let run_dir = scratch.dir("run");
    let server = Server::guarded(&run_dir);
    let (device, guard) = (server.device.clone(), server.guard());
    let target = scratch.0.join("target");
    fs::write(&target, "").expect("writable");
    run("mount", "mount", &["--bind", text(&device), text(&target)]);
    wait_until("the guard stands", || blocks_signals(guard));
    server.kill();
    wait_until("the guard has looked", || !blocks_signals(guard));
    assert!(!is_free(&device, &scratch));
    assert!(!attach::list(&run_dir).expect("readable")[0].alive);
    run("mount", "umount", &[text(&target)]);
    let nothing = || attach::find(&run_dir, "v").expect("readable") == Found::Nothing;
    wait_until("the record is removed", nothing);
    assert!(is_free(&device, &scratch) && !is_mounted(&run_dir));
}

#[test]
fn real_a_guard_that_is_late_leaves_a_newer_attachment_alone() {
    let scratch = Scratch::new("late");
    let run_dir = scratch.dir("run");
    let server = Server::guarded(&run_dir);
    let guard = server.guard();
    kill_process(guard, Signal::STOP).expect("it is ours");
    server.kill();
    let newer = Server::guarded(&run_dir);
    kill_process(guard, Signal::CONT).expect("it is ours");
    wait_until("the guard ends", || has_ended(guard));
    let found = attach::find(&run_dir, "v").expect("readable");
    let Found::There(there) = &found else {
        panic!("{found:?}");
    };
    assert!(there.alive && there.state.device.as_ref() == Some(&newer.device));
    let read = fs::read(&newer.device).expect("it is served");
    assert_eq!(read.len(), 64 << 20);
    let guard = newer.guard();
    let outcome = attach::detach(&run_dir, "v").expect("nobody uses it");
    assert_eq!(outcome, Detached::Stopped);
    wait_until("the guard ends with its process", || has_ended(guard));
}

#[test]
fn real_a_server_that_hangs_keeps_no_other_device_from_being_cleaned() {
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
    let pid = Pid::from_child(&server.child);
    let mut seen = size();
    for _ in 0..100 {
        if seen.trim() != (64 << 20).to_string() {
            break;
        }
        kill_process(pid, Signal::HUP).expect("it is ours");
        std::thread::sleep(std::time::Duration::from_millis(50));
        seen = size();
    }
    assert_eq!(seen.trim(), (96 << 20).to_string());
    let outcome = attach::detach(&run_dir, "v").expect("nobody uses it");
    assert_eq!(outcome, Detached::Stopped);
}
