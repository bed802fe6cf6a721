//! What the operating system says of this process.

use identity::PublicCertificate;
use node::{Process, Usage};
use std::sync::Arc;
use std::time::Duration;
use vocab::ByteCount;

/// This process.
#[derive(Debug, Default)]
pub struct ThisProcess {
    /// What browsers are shown, where that is not the cluster's own certificate.
    pub public: Option<Arc<PublicCertificate>>,
}

impl Process for ThisProcess {
    fn usage(&self) -> Option<Usage> {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
        let seconds = u64::try_from(time.tv_sec).ok()?;
        let nanos = u32::try_from(time.tv_nsec).ok()?;
        let status = std::fs::read_to_string("/proc/self/status").ok()?;
        Some(Usage {
            cpu: Duration::new(seconds, nanos),
            resident: resident(&status)?,
        })
    }

    fn browser_certificate_until_ms(&self) -> Option<u64> {
        self.public.as_ref().map(|public| public.until_ms())
    }
}

/// Memory, as `/proc/PID/status` has it: `VmRSS:     1234 kB`.
fn resident(status: &str) -> Option<ByteCount> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let (count, unit) = line.trim().split_once(' ')?;
    let kibibytes: u64 = (unit.trim() == "kB").then(|| count.parse().ok())??;
    kibibytes.checked_mul(1024).map(ByteCount)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_has_used_something() {
        let usage = ThisProcess::default().usage().expect("Linux says it");
        assert!(
            usage.cpu > Duration::ZERO && usage.resident.0 > 1 << 20,
            "{usage:?}"
        );
        assert_eq!(
            resident("Name:\tx\nVmRSS:\t  12 kB\n"),
            Some(ByteCount(12 << 10))
        );
        assert_eq!(resident("VmRSS:\t12 pages\n"), None);
    }
}
