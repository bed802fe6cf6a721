//! Files of keys and certificates, written so that a reader sees the old or the new one.

use crate::IdentityError;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// Files are small: an authority's bundle has a few certificates of 1 KiB.
const FILE_BYTES_MAX: u64 = 1 << 20;

pub(crate) fn failed(path: &Path) -> impl FnOnce(std::io::Error) -> IdentityError {
    let path = path.display().to_string();
    move |cause| IdentityError::File { path, cause }
}

/// Writes a file that only its owner can read, in one step.
///
/// # Errors
/// [`IdentityError::File`]; the old file is as it was, or the new one is complete.
pub fn write_private(path: &Path, text: &str) -> Result<(), IdentityError> {
    write(path, text, 0o600)
}

/// Writes a file that everybody can read, in one step.
///
/// # Errors
/// As [`write_private`].
pub fn write_public(path: &Path, text: &str) -> Result<(), IdentityError> {
    write(path, text, 0o644)
}

fn write(path: &Path, text: &str, mode: u32) -> Result<(), IdentityError> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let fresh = folder.join(name);
    let store = || {
        // What a killed process left may have other permissions.
        match std::fs::remove_file(&fresh) {
            Err(cause) if cause.kind() != std::io::ErrorKind::NotFound => return Err(cause),
            _ => {}
        }
        let mut options = OpenOptions::new();
        let mut file = options
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&fresh)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&fresh, path)?;
        File::open(folder)?.sync_all()
    };
    store().map_err(failed(path))
}

/// Reads a file that everybody may read.
pub(crate) fn read(path: &Path) -> Result<String, IdentityError> {
    let read = || {
        if std::fs::metadata(path)?.len() > FILE_BYTES_MAX {
            return Err(std::io::Error::other(
                "it is too large for a file of certificates",
            ));
        }
        std::fs::read_to_string(path)
    };
    read().map_err(failed(path))
}

/// Reads a file with a private key; one that everybody can read is refused.
pub(crate) fn read_private(path: &Path) -> Result<String, IdentityError> {
    let mode = std::fs::metadata(path)
        .map_err(failed(path))?
        .permissions()
        .mode();
    if mode & 0o007 != 0 {
        return Err(IdentityError::Readable {
            path: path.display().to_string(),
        });
    }
    read(path)
}
