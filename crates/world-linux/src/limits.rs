//! Facts and limits of the machine and the process.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::io;

/// The process may not open enough files.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "at most {allowed} open files are allowed but {needed} are needed: raise the hard limit with \
     LimitNOFILE={needed} in the systemd unit, or `ulimit -Hn {needed}` before the start"
)]
pub struct TooFewFiles {
    /// The hard limit.
    pub allowed: u64,
    /// What was asked for.
    pub needed: u64,
}

/// Raises the limit on open files as far as the process may, and returns it.
///
/// # Errors
/// [`TooFewFiles`] when that is less than `min`.
pub fn check_open_files(min: u64) -> Result<u64, TooFewFiles> {
    let limit = getrlimit(Resource::Nofile);
    let allowed = limit.maximum.unwrap_or(u64::MAX);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    let allowed = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => allowed,
        Err(_) => limit.current.unwrap_or(u64::MAX),
    };
    if allowed < min {
        return Err(TooFewFiles {
            allowed,
            needed: min,
        });
    }
    Ok(allowed)
}

/// Identifies this boot of the machine: it changes whenever unwritten memory may have been lost.
///
/// # Errors
/// When `/proc` is not mounted or holds nonsense.
pub fn boot_id() -> io::Result<[u8; 16]> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    parse_id(&text).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "boot_id is no UUID"))
}

fn parse_id(text: &str) -> Option<[u8; 16]> {
    let digits: Vec<u8> = text
        .trim()
        .chars()
        .filter(|&character| character != '-')
        .map(|character| {
            character
                .to_digit(16)
                .and_then(|digit| digit.try_into().ok())
        })
        .collect::<Option<_>>()?;
    let digits: [u8; 32] = digits.try_into().ok()?;
    let mut id = [0; 16];
    for (byte, pair) in id.iter_mut().zip(digits.as_chunks::<2>().0) {
        *byte = pair[0] << 4 | pair[1];
    }
    Some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boot_ids_are_uuids_and_stay_the_same() {
        assert_eq!(boot_id().unwrap(), boot_id().unwrap());
        let id = parse_id("00112233-4455-6677-8899-aabbccddeeff\n").unwrap();
        assert_eq!(id[..3], [0x00, 0x11, 0x22]);
        assert_eq!(id[15], 0xff);
        assert_eq!(parse_id("0011"), None);
        assert_eq!(parse_id("zz112233-4455-6677-8899-aabbccddeeff"), None);
    }

    #[test]
    fn the_limit_on_open_files_is_raised_or_explained() {
        let allowed = check_open_files(1).unwrap();
        let limit = getrlimit(Resource::Nofile);
        assert_eq!(limit.current, limit.maximum);
        assert_eq!(check_open_files(allowed), Ok(allowed));
        if allowed < u64::MAX {
            let error = check_open_files(allowed + 1).unwrap_err();
            assert_eq!(error.allowed, allowed);
            assert!(error.to_string().contains("LimitNOFILE="));
        }
    }
}
