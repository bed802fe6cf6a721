//! Who holds a catalog file that cannot be opened.

use catalog::kv::KvError;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// The error for a file another process has open, naming the process when the kernel tells.
pub(super) fn refused(path: &Path) -> KvError {
    let who = holder(path).map_or("another process".to_owned(), |pid| {
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        format!("process {pid} ({})", name.trim())
    });
    KvError::Unavailable(format!(
        "{} is in use by {who}: the embedded catalog serves one process at a time. Stop that process, \
         or use an etcd catalog to run several",
        path.display()
    ))
}

/// The process that holds a lock on the file, from `/proc/locks`.
fn holder(path: &Path) -> Option<u32> {
    let inode = std::fs::metadata(path).ok()?.ino();
    let locks = std::fs::read_to_string("/proc/locks").ok()?;
    locks.lines().find_map(|line| holder_in(line, inode))
}

/// Parses one line such as `1: FLOCK  ADVISORY  WRITE 4242 fd:01:131 0 EOF`. Devices are not compared:
/// file systems with subvolumes report another one here than to `stat`.
fn holder_in(line: &str, inode: u64) -> Option<u32> {
    let mut fields = line.split_whitespace();
    let pid: u32 = fields.nth(4)?.parse().ok()?;
    let file = fields.next()?;
    let found: u64 = file.rsplit(':').next()?.parse().ok()?;
    (found == inode && pid > 0).then_some(pid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_holder_is_read_from_a_line_of_the_kernel() {
        let line = "1: FLOCK  ADVISORY  WRITE 4242 fd:01:131 0 EOF";
        assert_eq!(holder_in(line, 131), Some(4242));
        assert_eq!(holder_in(line, 132), None);
        assert_eq!(holder_in("1: -> nonsense", 131), None);
        assert_eq!(holder_in("", 0), None);
    }
}
