//! How much address space the process has ever had: what a decoder reserves shows there, used or not.

use std::fs::File;
use std::os::unix::fs::FileExt;

/// Reads the peak again and again. Where there is no `/proc` it is always 0.
pub struct Peak(Option<File>);

impl Peak {
    pub fn new() -> Self {
        Self(File::open("/proc/self/status").ok())
    }

    /// Highest size of the address space so far, in bytes.
    pub fn bytes(&self) -> u64 {
        let mut text = [0; 4096];
        let read = self
            .0
            .as_ref()
            .and_then(|file| file.read_at(&mut text, 0).ok());
        let text = String::from_utf8_lossy(&text[..read.unwrap_or(0)]);
        let line = text.lines().find_map(|line| line.strip_prefix("VmPeak:"));
        let figure = line.and_then(|line| line.trim().strip_suffix(" kB"));
        figure
            .and_then(|figure| figure.parse::<u64>().ok())
            .unwrap_or(0)
            * 1024
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_reserved_is_seen() {
        let peak = Peak::new();
        let before = peak.bytes();
        let reserved: Vec<u8> = Vec::with_capacity(1 << 30);
        assert!(
            before > 0 && peak.bytes() >= before + (1 << 29),
            "{}",
            reserved.capacity()
        );
    }
}
