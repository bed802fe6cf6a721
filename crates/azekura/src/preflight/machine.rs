//! What every node and every machine with attached volumes needs.

use super::{Check, Fix};
use rustix::process::{Resource, getrlimit};
use std::fs;
use std::path::Path;
use world_linux::{Io, ShardOptions};

/// io_uring has all that is used of it from this kernel on.
const KERNEL_LEAST: (u32, u32) = (5, 15);
/// Below this much memory a node with one volume under load may be killed by the kernel.
const MEMORY_LEAST: u64 = 1 << 30;
/// Files that a node with many clients has open.
const FILES_LEAST: u64 = 65_536;

/// Kernel, memory, processors, limits.
pub fn general() -> Vec<Check> {
    vec![
        kernel(),
        io_uring(),
        memory(),
        processors(),
        files(),
        root(),
    ]
}

/// What a machine needs on which volumes are attached and mounted.
pub fn attaching() -> Vec<Check> {
    let mut checks = vec![
        device("/dev/fuse", "fuse", "volumes are attached through FUSE"),
        device(
            "/dev/loop-control",
            "loop",
            "volumes appear as loop devices",
        ),
    ];
    let programs = [
        ("mount", "mount"),
        ("blkid", "util-linux"),
        ("mkfs.ext4", "e2fsprogs"),
        ("resize2fs", "e2fsprogs"),
        ("mkfs.xfs", "xfsprogs"),
        ("xfs_growfs", "xfsprogs"),
    ];
    checks.extend(programs.map(|(program, package)| installed(program, package)));
    checks
}

fn read(path: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    Some(text.trim().to_owned())
}

/// The first two numbers of a release.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|sign: char| !sign.is_ascii_digit());
    let mut next = || numbers.next()?.parse().ok();
    Some((next()?, next()?))
}

fn kernel() -> Check {
    let release = read("/proc/sys/kernel/osrelease").unwrap_or_default();
    let (major, minor) = KERNEL_LEAST;
    match version(&release) {
        Some(found) if found >= KERNEL_LEAST => Check::ok("kernel", release),
        Some(_) => Check::failed("kernel", release)
            .remedy(format!("a node needs Linux {major}.{minor} or newer")),
        None => Check::warning("kernel", format!("`{release}` is no release that is known")),
    }
}

fn io_uring() -> Check {
    let (what, remedy) = (
        "io_uring",
        "nodes use threads instead, at about half the speed; set kernel.io_uring_disabled=0, and allow it in the \
         container's seccomp profile",
    );
    match read("/proc/sys/kernel/io_uring_disabled").as_deref() {
        Some("2") => return Check::warning(what, "is forbidden by the kernel").remedy(remedy),
        Some("1") if !rustix::process::geteuid().is_root() => {
            return Check::warning(what, "is forbidden for users without rights").remedy(remedy);
        }
        _ => {}
    }
    let io = world_linux::run(ShardOptions::default(), |_, machine| {
        Box::pin(async move { machine.io() })
    });
    match io {
        Ok(Io::Ring) => Check::ok(what, "works"),
        Ok(_) => Check::warning(what, "is not granted").remedy(remedy),
        Err(error) => Check::failed(what, format!("no I/O can be done: {error}")),
    }
}

fn memory() -> Check {
    let text = read("/proc/meminfo").unwrap_or_default();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    let Some(bytes) = kib.map(|kib| kib * 1024) else {
        return Check::warning("memory", "/proc/meminfo does not say what is available");
    };
    let found = format!("{} available", vocab::ByteCount(bytes));
    match bytes >= MEMORY_LEAST {
        true => Check::ok("memory", found),
        false => Check::warning("memory", found)
            .remedy("a node under load takes up to 1 GiB for what is not drained yet"),
    }
}

fn processors() -> Check {
    let count = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    match count {
        1 => Check::warning("processors", "1")
            .remedy("a node, its clients and etcd share it: give the machine two or more"),
        count => Check::ok("processors", count.to_string()),
    }
}

fn files() -> Check {
    let limit = getrlimit(Resource::Nofile).maximum;
    match limit {
        None => Check::ok("open files", "no limit"),
        Some(limit) if limit >= FILES_LEAST => Check::ok("open files", format!("at most {limit}")),
        Some(limit) => Check::warning("open files", format!("at most {limit}")).remedy(format!(
            "write LimitNOFILE={FILES_LEAST} in the systemd unit, or run `ulimit -Hn {FILES_LEAST}` before the start"
        )),
    }
}

fn root() -> Check {
    match rustix::process::geteuid().is_root() {
        true => Check::ok("rights", "root"),
        false => Check::warning("rights", "not root")
            .remedy("attaching and mounting need root; a node needs the right to open its disks"),
    }
}

fn device(path: &str, module: &'static str, why: &str) -> Check {
    match Path::new(path).exists() {
        true => Check::ok(path, "is there"),
        false => Check::failed(path, format!("is missing: {why}")).fix(Fix::Module(module)),
    }
}

fn installed(program: &'static str, package: &'static str) -> Check {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<_> = std::env::split_paths(&path).collect();
    folders.extend(["/usr/sbin", "/sbin"].map(Into::into));
    let found = folders
        .into_iter()
        .map(|folder| folder.join(program))
        .find(|path| path.is_file());
    match found {
        Some(path) => Check::ok(program, path.display().to_string()),
        None => Check::failed(program, "is missing").fix(Fix::Package(package)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;

    #[test]
    fn releases_are_compared_as_numbers() {
        assert_eq!(version("6.18.44-cloud-amd64"), Some((6, 18)));
        assert_eq!(version("5.9"), Some((5, 9)));
        assert_eq!(version(""), None);
        assert!(version("5.9") < Some(KERNEL_LEAST) && version("10.0") > Some(KERNEL_LEAST));
    }

    #[test]
    fn what_is_missing_can_be_mended() {
        let check = installed("no-such-program", "e2fsprogs");
        assert_eq!(check.state, State::Failed);
        assert_eq!(check.fix, Some(Fix::Package("e2fsprogs")));
        let check = device("/dev/no-such-device", "fuse", "for a test");
        assert_eq!(check.fix, Some(Fix::Module("fuse")));
    }

    #[test]
    fn this_machine_is_looked_at() {
        let checks = general();
        assert_eq!(checks.len(), 6);
        assert!(checks.iter().all(|check| !check.found.is_empty()));
    }
}
