//! Whether a device is blank: the proof that comes before every `mkfs`.
//!
//! `blkid` alone is no proof: it says the same of a device that is blank and of one that is not there, and knows
//! only what it knows. So both must hold: `blkid` finds nothing, and the places where file systems, partition tables,
//! volume managers and databases begin or end read as zeros: the first and the last MiB and the backup superblocks
//! between. An unwritten volume reads as zeros everywhere.

use crate::filesystem::{Found, probe};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use tonic::Status;

/// Bytes read at each end.
const END_BYTES: u64 = 1 << 20;
/// Bytes read at each place between.
const PLACE_BYTES: u64 = 64 << 10;
/// Where backups and second copies lie: ext4 (32768 and 98304 blocks of 4 KiB; 8193 and 24577 of 1 KiB), btrfs (64 MiB,
/// 256 GiB), F2FS, ZFS labels and GPT lie in the ends.
const PLACES: [u64; 6] = [
    8193 << 10,
    24577 << 10,
    64 << 20,
    32768 << 12,
    98304 << 12,
    256 << 30,
];

/// What a device holds.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Contents {
    /// Proven to be nothing.
    Blank,
    /// Something that `blkid` knows, by its name.
    Known(String),
    /// Something.
    Unknown(String),
}

/// Looks what is on a device.
///
/// # Errors
/// When it cannot be told: then it is not blank.
pub(crate) fn look(device: &Path) -> Result<Contents, Status> {
    match probe(device)? {
        Found::Known(kind) => Ok(Contents::Known(kind)),
        Found::Ambivalent => Ok(Contents::Unknown(
            "marks of several file systems or partition tables".to_owned(),
        )),
        Found::Nothing => match first_written(device) {
            Ok(None) => Ok(Contents::Blank),
            Ok(Some(offset)) => Ok(Contents::Unknown(format!("data at byte {offset}"))),
            Err(cause) => Err(Status::internal(format!(
                "cannot read {}: {cause}: it cannot be proven blank",
                device.display()
            ))),
        },
    }
}

/// The first place that does not read as zeros.
fn first_written(device: &Path) -> io::Result<Option<u64>> {
    let file = File::open(device)?;
    let size = size_of(&file)?;
    // A device that is not there yet, or no more, must not pass for a blank one.
    if size == 0 {
        return Err(io::Error::other("it has no size"));
    }
    let end = (size.saturating_sub(END_BYTES), END_BYTES);
    let places = PLACES.map(|offset| (offset.saturating_sub(4096), PLACE_BYTES));
    let mut chunk = vec![0_u8; usize::try_from(END_BYTES).expect("one MiB")];
    for (offset, length) in [(0, END_BYTES), end].into_iter().chain(places) {
        let length = length.min(size.saturating_sub(offset));
        let part = &mut chunk[..usize::try_from(length).expect("at most one MiB")];
        file.read_exact_at(part, offset)?;
        if let Some(at) = part.iter().position(|byte| *byte != 0) {
            return Ok(Some(offset + at as u64));
        }
    }
    Ok(None)
}

fn size_of(file: &File) -> io::Result<u64> {
    use std::io::{Seek, SeekFrom};
    let mut handle = file;
    handle.seek(SeekFrom::End(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written_at(size: u64, at: Option<u64>) -> Option<u64> {
        let name = format!("azekura-blank-{}-{size}-{at:?}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let file = File::create(&path).expect("writable");
        file.set_len(size).expect("sparse");
        if let Some(at) = at {
            file.write_all_at(&[1], at).expect("writable");
        }
        let found = first_written(&path).expect("readable");
        std::fs::remove_file(path).expect("ours");
        found
    }

    #[test]
    fn one_byte_at_the_places_that_matter_is_found() {
        for size in [4096, 3 << 20, 1 << 30] {
            assert_eq!(written_at(size, None), None);
            for at in [0, size / 4, size - 1] {
                let seen = at < END_BYTES || at >= size.saturating_sub(END_BYTES);
                assert_eq!(
                    written_at(size, Some(at)),
                    seen.then_some(at),
                    "{size} {at}"
                );
            }
        }
        assert!(written_at(1 << 30, Some(32768 << 12)).is_some());
    }

    #[test]
    fn nothing_is_not_blank() {
        assert!(first_written(Path::new("/no/such/device")).is_err());
    }
}
