//! What processes used, read from `/proc`.

use std::fs;
use std::path::Path;

/// Clock ticks per second in `/proc/PID/stat`: fixed at 100 for user space on every Linux architecture in use.
const TICKS_PER_SECOND: u64 = 100;

/// Sums over some processes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// User and system time of all threads.
    pub cpu_us: u64,
    /// Bytes the processes caused to be sent to block devices.
    pub device_bytes: u64,
    /// Resident memory now.
    pub resident_bytes: u64,
}

impl Usage {
    /// Reads the sums now. A process that is gone counts as nothing.
    pub fn of(pids: &[u32]) -> Self {
        let mut sum = Self::default();
        for pid in pids {
            sum.cpu_us += cpu_us(*pid).unwrap_or(0);
            sum.device_bytes += field(&format!("/proc/{pid}/io"), "write_bytes:").unwrap_or(0);
            sum.resident_bytes +=
                field(&format!("/proc/{pid}/status"), "VmRSS:").unwrap_or(0) << 10;
        }
        sum
    }

    /// What was used since.
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            cpu_us: self.cpu_us.saturating_sub(earlier.cpu_us),
            device_bytes: self.device_bytes.saturating_sub(earlier.device_bytes),
            resident_bytes: self.resident_bytes,
        }
    }
}

/// Bytes of a process's memory that it would give back by ending: shared pages count by their share. 0 when it is gone.
pub fn proportional_bytes(pid: u32) -> u64 {
    field(&format!("/proc/{pid}/smaps_rollup"), "Pss:").unwrap_or(0) << 10
}

/// The 14th and 15th field; the second, the program's name, may contain spaces and brackets.
fn cpu_us(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let after_name = stat.rsplit_once(')')?.1;
    let mut fields = after_name.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some((user + system) * 1_000_000 / TICKS_PER_SECOND)
}

fn field(path: &str, name: &str) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    // `cancelled_write_bytes:` ends with another field's name.
    let line = text.lines().find(|line| line.starts_with(name))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// The machine, for the report; the disk is the one that `folder` is on.
pub fn machine(folder: &Path) -> Vec<(String, String)> {
    let read = |path: &str| {
        fs::read_to_string(path)
            .unwrap_or_default()
            .trim()
            .to_owned()
    };
    let info = read("/proc/cpuinfo");
    let model = info.lines().find(|line| line.starts_with("model name"));
    let model = model
        .and_then(|line| line.split_once(": "))
        .map_or("unknown", |pair| pair.1);
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let memory = field("/proc/meminfo", "MemTotal:").unwrap_or(0) >> 20;
    vec![
        ("processor".into(), format!("{cores} x {model}")),
        ("memory".into(), format!("{memory} GiB")),
        ("kernel".into(), read("/proc/sys/kernel/osrelease")),
        ("disk under everything".into(), disk(folder)),
    ]
}

/// File system and block device of a folder, from the longest mount point above it.
fn disk(folder: &Path) -> String {
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    let folder = folder.canonicalize().unwrap_or_default();
    let fields = mounts
        .lines()
        .map(|line| line.split(' ').collect::<Vec<_>>());
    let above = fields.filter(|fields| fields.len() > 2 && folder.starts_with(fields[1]));
    let Some(mount) = above.max_by_key(|fields| fields[1].len()) else {
        return "unknown".to_owned();
    };
    let device = mount[0].rsplit('/').next().unwrap_or_default();
    let read = |name: &str| {
        let text = fs::read_to_string(format!("/sys/class/block/{device}/{name}"));
        text.ok().map(|text| text.trim().to_owned())
    };
    let mut said = format!("{} on {}", mount[2], mount[0]);
    if let Some(sectors) = read("size").and_then(|text| text.parse::<u64>().ok()) {
        said.push_str(&format!(", {} GiB", sectors >> 21));
    }
    for (name, title) in [("device/model", "model"), ("queue/write_cache", "cache")] {
        if let Some(value) = read(name) {
            said.push_str(&format!(", {title} {value}"));
        }
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_used_something() {
        let usage = Usage::of(&[std::process::id()]);
        assert!(usage.resident_bytes > 1 << 20);
        assert!(cpu_us(std::process::id()).is_some());
    }

    #[test]
    fn machine_is_described() {
        let described = machine(Path::new("."));
        assert!(described.iter().all(|(_, value)| !value.is_empty()));
    }
}
