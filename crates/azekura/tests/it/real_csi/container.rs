//! The plugin in a container: its processes end with it, those of attachments do not.
//!
//! A host is made of namespaces, whose first process does nothing. A container on it shares the host's process ids, as
//! the DaemonSet's pods do, and has mounts and a control group of its own.

use super::driver::{Driver, Way, states};
use super::requests::*;
use crate::support::process::Process;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Where the unified hierarchy is mounted.
fn unified() -> Option<PathBuf> {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    let mut lines = mounts
        .lines()
        .map(|line| line.split(' ').collect::<Vec<_>>());
    let found = lines.find(|words| words.get(2) == Some(&"cgroup2"))?;
    Some(PathBuf::from(found[1]))
}

/// Namespaces that stand for a machine.
struct Host {
    _process: Process,
    /// Of its process 1, as the test sees it.
    first: u32,
    /// The folder of the test.
    folder: PathBuf,
}

impl Host {
    fn start(folder: &Path) -> Self {
        let mut command = Command::new("unshare");
        command.args(["--pid", "--fork", "--kill-child", "--mount", "--mount-proc"]);
        // The kubelet's folders are shared with the containers that ask for it.
        command.args([
            "sh",
            "-c",
            "mount --make-rshared / && echo up && exec sleep 600",
        ]);
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
        let mut child = child.expect("unshare (util-linux) runs");
        let mut up = [0; 3];
        child.stdout.as_mut().unwrap().read_exact(&mut up).unwrap();
        let children = format!("/proc/{0}/task/{0}/children", child.id());
        let first = std::fs::read_to_string(children).unwrap();
        Self {
            first: first.trim().parse().unwrap(),
            _process: Process::new(child),
            folder: folder.to_owned(),
        }
    }

    /// A path of the host, from outside.
    fn path(&self, inside: impl AsRef<Path>) -> PathBuf {
        let inside = inside.as_ref();
        let root = PathBuf::from(format!("/proc/{}/root", self.first));
        root.join(inside.strip_prefix("/").unwrap_or(inside))
    }

    /// Where something of the test is mounted there.
    fn mounts(&self) -> Vec<String> {
        let mounts = std::fs::read_to_string(format!("/proc/{}/mounts", self.first)).unwrap();
        let points = mounts.lines().filter_map(|line| line.split(' ').nth(1));
        let here = points.filter(|point| Path::new(point).starts_with(&self.folder));
        here.map(str::to_owned).collect()
    }
}

impl Drop for Host {
    /// What a failed test has left mounted goes while the process behind it lives: namespaces that end with a mounted
    /// file system wait for a device that ends with them.
    fn drop(&mut self) {
        let first = self.first.to_string();
        let points = self.mounts().into_iter().rev();
        for point in points.filter(|point| !point.contains("/run/")) {
            let words = ["--target", &first, "--mount", "umount", "-l", &point];
            let _ = Command::new("nsenter").args(words).status();
        }
    }
}

/// A control group that a container runs in; everything in it ends when it is dropped.
struct Container(PathBuf);

impl Container {
    fn new() -> Self {
        let name = format!("azekura-test-{}", std::process::id());
        let group = unified().expect("a unified hierarchy").join(name);
        std::fs::create_dir_all(&group).unwrap();
        Self(group)
    }

    /// Words that execute a program in the container, on a host.
    fn words(&self, host: &Host) -> Vec<String> {
        let first = host.first.to_string();
        let enter =
            "echo 0 > \"$0\" && exec unshare --cgroup --mount --propagation unchanged \"$@\"";
        let group = self.0.join("cgroup.procs");
        let nsenter = ["nsenter", "--target", &first, "--mount", "--pid"];
        let shell = ["sh", "-c", enter, group.to_str().unwrap()];
        nsenter
            .into_iter()
            .chain(shell)
            .map(str::to_owned)
            .collect()
    }

    fn processes(&self) -> usize {
        let listed = std::fs::read_to_string(self.0.join("cgroup.procs"));
        listed.unwrap_or_default().lines().count()
    }

    /// Ends it as a container runtime does.
    fn kill(&self) {
        std::fs::write(self.0.join("cgroup.kill"), "1").unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        while self.processes() > 0 {
            assert!(Instant::now() < deadline, "the container does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let _ = std::fs::write(self.0.join("cgroup.kill"), "1");
        for _ in 0..100 {
            if std::fs::remove_dir(&self.0).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

fn can_contain() -> bool {
    let able = can_attach() && unified().is_some();
    if !able {
        eprintln!("SKIPPED: a container needs a unified hierarchy of control groups");
    }
    able
}

#[test]
fn real_csi_attachment_lives_on_the_host_and_outlives_the_container_of_the_plugin() {
    if !can_contain() {
        return;
    }
    let mut driver = Driver::new("csi-host");
    let (host, container) = (Host::start(&driver.directory.0), Container::new());
    let (inside, programs) = (container.words(&host), driver.directory.path("bin"));
    let way = Way {
        inside: &inside,
        host_programs: Some(&programs),
        ..Way::default()
    };
    driver.kill_plugin();
    driver.start_plugin(way);
    let volume = driver.volume("pvc", 64);
    let node = driver.node_id();
    let context = driver.publish(&volume, &node, false).unwrap();
    driver.stage(&volume, &context, mount("ext4")).unwrap();
    driver.target(&volume, "target", mount("ext4")).unwrap();

    // Its program is a copy on the host; its mounts are the host's, its control group is its own.
    let (_, state) = states(&driver.directory.path("run"))
        .pop()
        .expect("attached");
    let process = host.path(format!("/proc/{}", state["pid"]));
    let program = std::fs::read_link(process.join("exe")).unwrap();
    assert!(program.starts_with(&programs), "{program:?}");
    let first = format!("/proc/{}/ns", host.first);
    for kind in ["mnt", "net", "cgroup"] {
        let own = std::fs::read_link(process.join("ns").join(kind)).unwrap();
        assert_eq!(
            own,
            std::fs::read_link(Path::new(&first).join(kind)).unwrap()
        );
    }
    let groups = std::fs::read_to_string(process.join("cgroup")).unwrap();
    let own = groups.lines().find(|line| line.starts_with("0::")).unwrap();
    assert!(own.ends_with("/azekura-attach/volume-1"), "{groups}");

    // The workload goes on while the container ends and another one comes.
    let target = host.path(driver.path("target"));
    let mut file = std::fs::File::create(target.join("file")).unwrap();
    file.write_all(b"before ").unwrap();
    file.sync_all().unwrap();
    assert!(container.processes() > 0);
    container.kill();
    driver.kill_plugin();
    file.write_all(b"after").unwrap();
    file.sync_all().unwrap();
    drop(file);
    driver.start_plugin(way);
    driver.stage(&volume, &context, mount("ext4")).unwrap();
    let kept = std::fs::read_to_string(target.join("file")).unwrap();
    assert_eq!(kept, "before after");
    driver.untarget(&volume, "target").unwrap();
    driver.unstage(&volume).unwrap();
    driver.unpublish(&volume, &node).unwrap();
    assert_eq!(host.mounts(), Vec::<String>::new());
    let group = unified().unwrap().join("azekura-attach/volume-1");
    assert!(!group.exists(), "{} is left", group.display());
    driver.assert_clean();
}
