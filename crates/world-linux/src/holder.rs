//! Names who uses a disk, for error messages. Best effort: other users' processes may be hidden.

use rustix::fs::{Stat, major, minor};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Processes looked at; there are at most 4 Mi process ids.
const PROCESSES_MAX: usize = 100_000;

/// When nobody is seen to hold a device.
const UNSEEN: &str = "the kernel (a mount, RAID, LVM, loop or swap device?) or another process";
/// When a file's lock is gone by the time it is looked for, or is another container's.
const UNNAMED: &str = "another process";

/// Who holds the `flock` of the file.
pub(crate) fn of_lock(stat: &Stat) -> String {
    let device = stat.st_dev;
    let file = format!(
        "{:02x}:{:02x}:{}",
        major(device),
        minor(device),
        stat.st_ino
    );
    let locks = fs::read_to_string("/proc/locks").unwrap_or_default();
    // 1: FLOCK  ADVISORY  WRITE 4711 fe:00:131 0 EOF
    for line in locks.lines() {
        let mut words = line.split_whitespace().skip(1);
        let kind = words.next();
        let (pid, locked) = (words.nth(2), words.next());
        if kind == Some("FLOCK")
            && locked == Some(&file)
            && let Some(pid) = pid
        {
            return process(pid);
        }
    }
    UNNAMED.to_owned()
}

/// Who uses the block device.
pub(crate) fn of_device(path: &Path, stat: &Stat) -> String {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    for line in mounts.lines() {
        let mut words = line.split(' ');
        let (Some(source), Some(target)) = (words.next(), words.next()) else {
            continue;
        };
        let same = fs::metadata(source).is_ok_and(|source| source.rdev() == stat.st_rdev);
        if source.starts_with('/') && same {
            return format!("the file system mounted on {target}");
        }
    }
    let canonical = fs::canonicalize(path);
    let path = canonical.as_deref().unwrap_or(path);
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    for entry in processes.take(PROCESSES_MAX) {
        let name = entry.file_name();
        let Some(pid) = name.to_str().filter(|name| name.parse::<u32>().is_ok()) else {
            continue;
        };
        let descriptors = fs::read_dir(entry.path().join("fd")).into_iter().flatten();
        let mut targets = descriptors.flatten().map(|fd| fs::read_link(fd.path()));
        if targets.any(|target| target.is_ok_and(|target| target == path)) {
            return process(pid);
        }
    }
    UNSEEN.to_owned()
}

/// Whether a holder that was named here may be a process that has ended, whose disks the kernel has yet to
/// release. Such a process has no name any more, or is not seen at all.
pub(crate) fn may_be_gone(holder: &str) -> bool {
    let id = holder.strip_prefix("process ");
    [UNSEEN, UNNAMED].contains(&holder) || id.is_some_and(|id| id.parse::<u32>().is_ok())
}

fn process(pid: &str) -> String {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    match name.trim() {
        "" => format!("process {pid}"),
        name => format!("process {pid} ({name})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_holder_that_has_ended_is_waited_for() {
        let mut child = std::process::Command::new("true").spawn().expect("starts");
        let _ = child.wait();
        assert!(may_be_gone(&process(&child.id().to_string())));
        assert!(!may_be_gone(&process(&std::process::id().to_string())));
        assert!(!may_be_gone("the file system mounted on /srv"));
    }
}
