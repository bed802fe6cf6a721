//! What is mounted where: read from `/proc/self/mountinfo`, changed with system calls.
//!
//! The kernel's table is the only record of mounts there is: nothing about them is written down.

use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Mounts on top of each other at one path, after which something else is wrong.
const LAYERS_MAX: usize = 16;

/// A line of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mount {
    /// Device of the file system, `major:minor`.
    pub device: String,
    /// What of the file system is mounted.
    pub root: String,
    /// Where.
    pub point: PathBuf,
    /// Options of the mount.
    pub options: Vec<String>,
    /// Type of the file system.
    pub kind: String,
    /// What it was mounted from.
    pub source: String,
    /// Options of the file system.
    pub inner: Vec<String>,
}

impl Mount {
    /// Whether this mount refuses writes, for itself or because its file system does.
    pub fn read_only(&self) -> bool {
        let refuses = |options: &[String]| options.iter().any(|option| option == "ro");
        refuses(&self.options) || refuses(&self.inner)
    }

    /// Whether the whole of the block device `device` (`major:minor`) is mounted here.
    pub fn is_of(&self, device: &str) -> bool {
        self.device == device && self.kind != "devtmpfs"
    }

    /// Whether the node of the block device, not its contents, is mounted here.
    pub fn is_node_of(&self, device: &Path) -> bool {
        let name = device.file_name().and_then(|name| name.to_str());
        let tail = name.map(|name| format!("/{name}"));
        matches!(self.kind.as_str(), "devtmpfs" | "tmpfs") && Some(&self.root) == tail.as_ref()
    }
}

/// All mounts, oldest first.
pub(crate) fn read() -> io::Result<Vec<Mount>> {
    let table = std::fs::read_to_string("/proc/self/mountinfo")?;
    Ok(table.lines().filter_map(parse).collect())
}

/// What is mounted at a path: the last of several is the one that is seen.
pub(crate) fn at(point: &Path) -> io::Result<Option<Mount>> {
    let mut mounts = read()?.into_iter().filter(|mount| mount.point == point);
    Ok(mounts.next_back())
}

/// A line of mountinfo, see proc(5).
fn parse(line: &str) -> Option<Mount> {
    let (own, file_system) = line.split_once(" - ")?;
    let mut own = own.split(' ').skip(2);
    let (device, root, point) = (own.next()?, own.next()?, own.next()?);
    let options = own.next()?;
    let mut file_system = file_system.split(' ');
    let (kind, source) = (file_system.next()?, file_system.next()?);
    let inner = file_system.next().unwrap_or_default();
    let list = |options: &str| options.split(',').map(str::to_owned).collect();
    Some(Mount {
        device: device.to_owned(),
        root: unescape(root),
        point: PathBuf::from(unescape(point)),
        options: list(options),
        kind: kind.to_owned(),
        source: unescape(source),
        inner: list(inner),
    })
}

/// Space, tab, newline and backslash are written as three octal digits.
fn unescape(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let digits = bytes.get(at + 1..at + 4);
        let digits = digits.filter(|_| bytes[at] == b'\\');
        let code = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        match code.and_then(|code| u8::from_str_radix(code, 8).ok()) {
            Some(byte) => {
                out.push(byte);
                at += 4;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// The number of a block device, as the table writes it.
pub(crate) fn number_of(device: &Path) -> io::Result<String> {
    let number = std::fs::metadata(device)?.rdev();
    let (major, minor) = (rustix::fs::major(number), rustix::fs::minor(number));
    Ok(format!("{major}:{minor}"))
}

/// Makes what is at `from` visible at `to`, with the flags of the mount it is taken from.
pub(crate) fn bind(from: &Path, to: &Path) -> io::Result<()> {
    Ok(rustix::mount::mount_bind(from, to)?)
}

/// Makes a bind mount refuse writes. It does not for a moment after it was made: what a workload sees must
/// not be made so, but taken from one that is.
pub(crate) fn make_read_only(point: &Path) -> io::Result<()> {
    let flags = MountFlags::BIND | MountFlags::RDONLY;
    Ok(rustix::mount::mount_remount(point, flags, c"")?)
}

/// How an unmount treats those who still use the mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Users {
    /// They are a reason to fail.
    Respect,
    /// They keep what they have open: for devices that fail all requests anyway.
    Ignore,
}

/// Removes every mount at a path. Nothing mounted there is fine.
pub(crate) fn unmount(point: &Path, users: Users) -> io::Result<()> {
    let flags = match users {
        Users::Respect => UnmountFlags::NOFOLLOW,
        Users::Ignore => UnmountFlags::NOFOLLOW | UnmountFlags::DETACH,
    };
    for _ in 0..LAYERS_MAX {
        if at(point)?.is_none() {
            return Ok(());
        }
        match rustix::mount::unmount(point, flags) {
            Ok(()) | Err(Errno::INVAL) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Err(Errno::LOOP.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use fuzz::target;
    use proptest::prelude::*;

    #[test]
    fn a_line_is_taken_apart() {
        let line = "36 35 7:3 / /var/lib/my\\040pod rw,noatime shared:1 master:2 - ext4 /dev/loop3 ro,errors=remount-ro";
        let mount = parse(line).expect("a line");
        assert_eq!(mount.point, Path::new("/var/lib/my pod"));
        assert!(mount.is_of("7:3") && mount.read_only());
        let node = "40 35 0:6 /loop3 /target rw - devtmpfs udev rw";
        let node = parse(node).expect("a line");
        assert!(
            node.is_node_of(Path::new("/dev/loop3")) && !node.is_node_of(Path::new("/dev/loop30"))
        );
        assert!(!node.is_of("0:6") && !node.read_only());
    }

    #[test]
    fn fuzz_corpus_of_lines() {
        let target = target!("mount");
        let lines = [
            "36 35 7:3 / /var/lib/my\\040pod rw,noatime shared:1 master:2 - ext4 /dev/loop3 ro,errors=remount-ro",
            "40 35 0:6 /loop3 /target rw - devtmpfs udev rw",
        ];
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        for (name, line) in ["ext4", "devtmpfs"].into_iter().zip(lines) {
            let committed = text(&target.sample(name, line.as_bytes()));
            let (now, then) = (
                parse(line).expect("a line"),
                parse(&committed).expect("a line"),
            );
            assert_eq!(
                (now.point.clone(), now.read_only()),
                (then.point.clone(), then.read_only())
            );
        }
        let cut = text(&target.sample("cut", &lines[0].as_bytes()[..40]));
        assert!(parse(&cut).is_none());
        target.play(|bytes| drop(parse(&text(bytes))));
    }

    #[test]
    fn this_process_sees_its_root() {
        let root = at(Path::new("/")).expect("readable");
        assert!(root.is_some());
        assert_eq!(at(Path::new("/no/such/place")).expect("readable"), None);
    }

    proptest! {
        #[test]
        fn fuzz_any_line_is_a_mount_or_not(line in any::<String>(), tail in "[0-7\\\\ -]{0,40}") {
            let _ = parse(&line);
            let _ = parse(&format!("1 2 3:4 {tail} - ext4 {tail}"));
        }
    }
}
