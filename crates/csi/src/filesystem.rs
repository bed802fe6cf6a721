//! File systems on a device, made, checked, mounted and grown by their own programs.

use crate::capability::FileSystem;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use tonic::Status;

/// Bytes of a program's words in a message.
const SAID_BYTES_MAX: usize = 1024;

/// What `blkid` finds.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// A file system or partition table, by its name.
    Known(String),
    /// Signs of several.
    Ambivalent,
    /// No sign of anything, or no device: `blkid` does not tell which.
    Nothing,
}

/// Runs a program to its end.
fn run(program: &str, words: &[&str], path: &Path) -> Result<Output, Status> {
    let mut command = Command::new(program);
    command.args(words).arg(path).stdin(Stdio::null());
    command.env("LC_ALL", "C").output().map_err(|cause| {
        Status::internal(format!(
            "cannot run {program}: {cause}. Its package must be in the driver's image or on the machine: \
             util-linux, e2fsprogs, xfsprogs"
        ))
    })
}

/// The last words of a program, on one line.
fn said(output: &Output) -> String {
    let text = [&output.stderr[..], &output.stdout[..]].concat();
    let text = String::from_utf8_lossy(&text);
    let words: Vec<&str> = text.split_whitespace().collect();
    let mut line = words.join(" ");
    while line.len() > SAID_BYTES_MAX {
        line.pop();
    }
    line
}

fn failed(program: &str, path: &Path, output: &Output) -> Status {
    Status::internal(format!(
        "{program} of {} failed ({}): {}",
        path.display(),
        output.status,
        said(output)
    ))
}

/// What is on a device, without a cache and below all layers.
pub(crate) fn probe(device: &Path) -> Result<Found, Status> {
    let output = run("blkid", &["-p", "-o", "export"], device)?;
    match output.status.code() {
        Some(2) => Ok(Found::Nothing),
        Some(8) => Ok(Found::Ambivalent),
        Some(0) => {
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            let value = |key: &str| text.lines().find_map(|line| line.strip_prefix(key));
            let kind = value("TYPE=").or_else(|| value("PTTYPE="));
            Ok(Found::Known(kind.unwrap_or("something").to_owned()))
        }
        _ => Err(failed("blkid", device, &output)),
    }
}

/// Takes a block device for this process alone, as programs that change it and mounts do, and lets it go.
pub(crate) fn claim(device: &Path) -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let alone = i32::try_from(rustix::fs::OFlags::EXCL.bits()).map_err(io::Error::other)?;
    File::options()
        .read(true)
        .custom_flags(alone)
        .open(device)
        .map(drop)
}

/// Makes a file system on a device that is proven blank, or whose formatting was begun here.
///
/// Nothing is discarded: a new volume holds nothing. Inode tables stay unwritten until they are used.
pub(crate) fn make(device: &Path, kind: FileSystem) -> Result<(), Status> {
    let (program, words) = match kind {
        FileSystem::Ext4 => (
            "mkfs.ext4",
            &[
                "-q",
                "-F",
                "-m",
                "0",
                "-E",
                "nodiscard,lazy_itable_init=1,lazy_journal_init=1",
            ][..],
        ),
        FileSystem::Xfs => ("mkfs.xfs", &["-q", "-f", "-K"][..]),
    };
    let output = run(program, words, device)?;
    match output.status.success() {
        true => Ok(()),
        false => Err(failed(program, device, &output)),
    }
}

/// Replays the journal of an ext4 file system that is not mounted and mends what can be mended without asking. xfs does
/// both at the mount.
///
/// # Errors
/// FAILED_PRECONDITION when a person must look.
pub(crate) fn check(device: &Path, kind: FileSystem) -> Result<(), Status> {
    if kind == FileSystem::Xfs {
        return Ok(());
    }
    let output = run("e2fsck", &["-p"], device)?;
    match output.status.code() {
        // 1: errors mended. 2: and a reboot advised, for a root file system.
        Some(0..=3) => Ok(()),
        _ => Err(Status::failed_precondition(format!(
            "the file system on {} has errors that e2fsck does not mend by itself ({}). The volume is not \
             mounted; attach it by hand and run e2fsck on it, or restore a snapshot",
            device.display(),
            said(&output)
        ))),
    }
}

/// Mounts a file system.
///
/// # Errors
/// INVALID_ARGUMENT when the options of the request are the likely reason; FAILED_PRECONDITION when the file system
/// is damaged.
pub(crate) fn mount(
    device: &Path,
    point: &Path,
    kind: FileSystem,
    flags: &[String],
    read_only: bool,
) -> Result<(), Status> {
    let mut options = vec![if read_only { "ro" } else { "rw" }.to_owned()];
    if kind == FileSystem::Xfs {
        // A clone has the identity of its origin, which may be mounted here too.
        options.push("nouuid".to_owned());
    }
    options.extend(flags.iter().cloned());
    let mut command = Command::new("mount");
    command.args(["-n", "-t", kind.name(), "-o", &options.join(",")]);
    command.arg("--").arg(device).arg(point);
    let output = command.stdin(Stdio::null()).env("LC_ALL", "C").output();
    let output = output.map_err(|cause| Status::internal(format!("cannot run mount: {cause}")))?;
    if output.status.success() {
        return Ok(());
    }
    let words = said(&output);
    let what = format!(
        "cannot mount {} ({kind}) at {} with {}: {words}",
        device.display(),
        point.display(),
        options.join(",")
    );
    let bad_option = words.contains("bad option") || words.contains("unknown mount option");
    if bad_option && !flags.is_empty() {
        return Err(Status::invalid_argument(format!(
            "{what}. Check the mount options of the request"
        )));
    }
    let hint = match (kind, read_only) {
        (_, true) => {
            "a file system that was not unmounted cannot be mounted for reading only: mount it once for writing"
        }
        (FileSystem::Xfs, _) => "`xfs_repair -n` on the attached device says what is wrong with it",
        (FileSystem::Ext4, _) => "`e2fsck -n` on the attached device says what is wrong with it",
    };
    Err(Status::failed_precondition(format!("{what}. {hint}")))
}

/// Lets a mounted file system fill its device. Does nothing when it does already.
pub(crate) fn grow(device: &Path, point: &Path, kind: FileSystem) -> Result<(), Status> {
    let device_bytes = device_bytes(device)
        .map_err(|cause| Status::internal(format!("cannot size {}: {cause}", device.display())))?;
    let own = filesystem_bytes(device, kind);
    let own = own
        .map_err(|cause| Status::internal(format!("cannot read {}: {cause}", device.display())))?;
    // Less than a block group or an allocation group of the smallest kind is not worth a program.
    if device_bytes.saturating_sub(own) < 1 << 16 {
        return Ok(());
    }
    let (program, output) = match kind {
        FileSystem::Ext4 => ("resize2fs", run("resize2fs", &[], device)?),
        FileSystem::Xfs => ("xfs_growfs", run("xfs_growfs", &["-d"], point)?),
    };
    match output.status.success() {
        true => Ok(()),
        false => Err(failed(program, device, &output)),
    }
}

/// Size of a block device as the kernel sees it.
pub(crate) fn device_bytes(device: &Path) -> io::Result<u64> {
    let name = device.file_name().unwrap_or_default();
    let place = Path::new("/sys/class/block").join(name).join("size");
    let sectors = std::fs::read_to_string(place)?;
    let sectors: u64 = sectors.trim().parse().map_err(io::Error::other)?;
    Ok(sectors * 512)
}

/// Size that the file system believes its device has, from its superblock.
fn filesystem_bytes(device: &Path, kind: FileSystem) -> io::Result<u64> {
    let file = File::open(device)?;
    let mut block = [0_u8; 2048];
    file.read_exact_at(&mut block, 0)?;
    let bytes = match kind {
        FileSystem::Ext4 => ext4_bytes(&block[1024..]),
        FileSystem::Xfs => xfs_bytes(&block),
    };
    bytes.ok_or_else(|| io::Error::other(format!("its superblock is not one of {kind}")))
}

fn field<const N: usize>(block: &[u8], at: usize) -> Option<[u8; N]> {
    block.get(at..at + N)?.try_into().ok()
}

/// `s_magic`, `s_log_block_size`, `s_blocks_count_lo`, `_hi`: Documentation/filesystems/ext4/super.rst.
fn ext4_bytes(superblock: &[u8]) -> Option<u64> {
    if field(superblock, 0x38)? != [0x53, 0xef] {
        return None;
    }
    let block = 1024_u64.checked_shl(u32::from_le_bytes(field(superblock, 0x18)?))?;
    let low = u64::from(u32::from_le_bytes(field(superblock, 0x4)?));
    let wide = u32::from_le_bytes(field(superblock, 0x60)?) & 0x80 != 0;
    let high = match wide {
        true => u64::from(u32::from_le_bytes(field(superblock, 0x150)?)),
        false => 0,
    };
    (high << 32 | low).checked_mul(block)
}

/// `sb_magicnum`, `sb_blocksize`, `sb_dblocks`: fs/xfs/libxfs/xfs_format.h.
fn xfs_bytes(superblock: &[u8]) -> Option<u64> {
    if field(superblock, 0)? != *b"XFSB" {
        return None;
    }
    let block = u64::from(u32::from_be_bytes(field(superblock, 4)?));
    u64::from_be_bytes(field(superblock, 8)?).checked_mul(block)
}

/// Gives everything below a directory to a group, as the kubelet does: the group may do what the owner may, and
/// new files inherit it. The directory itself comes last: once it has the group, all below it has.
pub(crate) fn give_to_group(root: &Path, group: u32) -> io::Result<()> {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, lchown};
    let top = std::fs::metadata(root)?;
    if top.gid() == group && top.mode() & 0o2070 == 0o2070 {
        return Ok(());
    }
    let mut folders = vec![root.to_owned()];
    let mut below = 0;
    while below < folders.len() {
        for entry in std::fs::read_dir(&folders[below])? {
            let path = entry?.path();
            let about = std::fs::symlink_metadata(&path)?;
            if about.is_dir() {
                if about.dev() == top.dev() {
                    folders.push(path);
                }
                continue;
            }
            lchown(&path, None, Some(group))?;
            if about.is_file() {
                let mode = about.mode() | (about.mode() & 0o700) >> 3 | 0o060;
                std::fs::set_permissions(&path, PermissionsExt::from_mode(mode & 0o7777))?;
            }
        }
        below += 1;
    }
    for folder in folders.iter().rev() {
        let mode = std::fs::metadata(folder)?.mode() | 0o2070;
        chown(folder, None, Some(group))?;
        std::fs::set_permissions(folder, PermissionsExt::from_mode(mode & 0o7777))?;
    }
    Ok(())
}

/// A small file of the kernel.
pub(crate) fn read_small(path: &str) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(1 << 20).read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use fuzz::target;
    use proptest::prelude::*;

    fn ext4() -> [u8; 1024] {
        let mut ext4 = [0_u8; 1024];
        ext4[0x38..0x3a].copy_from_slice(&[0x53, 0xef]);
        ext4[0x18] = 2;
        ext4[0x4..0x8].copy_from_slice(&5000_u32.to_le_bytes());
        ext4
    }

    #[test]
    fn fuzz_corpus_of_superblocks() {
        let target = target!("superblock");
        let mut large = ext4();
        (large[0x60], large[0x150]) = (0x80, 1);
        let committed = target.sample("ext4", &ext4()[..0x160]);
        assert_eq!(ext4_bytes(&committed), ext4_bytes(&ext4()[..0x160]));
        target.sample("ext4-64bit", &large);
        let mut xfs = [0_u8; 64];
        xfs[..4].copy_from_slice(b"XFSB");
        xfs[4..8].copy_from_slice(&4096_u32.to_be_bytes());
        xfs[8..16].copy_from_slice(&7_u64.to_be_bytes());
        let committed = target.sample("xfs", &xfs);
        assert_eq!(xfs_bytes(&committed), xfs_bytes(&xfs));
        target.play(|bytes| {
            let _ = (ext4_bytes(bytes), xfs_bytes(bytes));
        });
    }

    #[test]
    fn sizes_are_read_from_superblocks() {
        let mut ext4 = ext4();
        assert_eq!(ext4_bytes(&ext4), Some(5000 * 4096));
        ext4[0x60] = 0x80;
        ext4[0x150] = 1;
        assert_eq!(ext4_bytes(&ext4), Some(((1 << 32) + 5000) * 4096));
        let mut xfs = [0_u8; 512];
        xfs[..4].copy_from_slice(b"XFSB");
        xfs[4..8].copy_from_slice(&4096_u32.to_be_bytes());
        xfs[8..16].copy_from_slice(&7_u64.to_be_bytes());
        assert_eq!(xfs_bytes(&xfs), Some(7 * 4096));
        assert_eq!(xfs_bytes(&ext4), None);
    }

    #[test]
    fn a_tree_is_given_to_a_group() {
        use std::os::unix::fs::MetadataExt;
        let name = format!("azekura-group-{}", std::process::id());
        let root = std::env::temp_dir().join(name);
        std::fs::create_dir_all(root.join("a/b")).expect("writable");
        std::fs::write(root.join("a/b/file"), "x").expect("writable");
        let own = std::fs::metadata(&root).expect("there").gid();
        give_to_group(&root, own).expect("our own group");
        let mode = |path: &str| std::fs::metadata(root.join(path)).expect("there").mode();
        assert_eq!(mode("a/b") & 0o2070, 0o2070);
        assert_eq!(mode("") & 0o2070, 0o2070);
        assert_eq!(mode("a/b/file") & 0o060, 0o060);
        std::fs::remove_dir_all(root).expect("ours");
    }

    proptest! {
        #[test]
        fn fuzz_any_superblock_has_a_size_or_not(bytes in proptest::collection::vec(any::<u8>(), 0..1100)) {
            let mut bytes = bytes;
            let _ = (ext4_bytes(&bytes), xfs_bytes(&bytes));
            if bytes.len() > 0x3a {
                bytes[0x38..0x3a].copy_from_slice(&[0x53, 0xef]);
                let _ = ext4_bytes(&bytes);
            }
        }
    }
}
