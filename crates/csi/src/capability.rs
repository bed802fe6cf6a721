//! What a volume is going to be used for: the capabilities of a request, understood or refused.

use crate::v1::VolumeCapability;
use crate::v1::volume_capability::AccessType;
use crate::v1::volume_capability::access_mode::Mode;
use std::fmt;
use tonic::Status;

/// More mount options than any sensible class has.
const FLAGS_MAX: usize = 64;
/// mkfs.xfs refuses less.
const XFS_BYTES_MIN: u64 = 300 << 20;
/// Room for a journal and some inodes.
const EXT4_BYTES_MIN: u64 = 2 << 20;

/// A file system that the driver can make, check and grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FileSystem {
    Ext4,
    Xfs,
}

impl FileSystem {
    /// By its name in requests, of the kernel and of `blkid`.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "ext4" => Some(Self::Ext4),
            "xfs" => Some(Self::Xfs),
            _ => None,
        }
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
        }
    }

    /// The smallest device it can be made on.
    pub fn bytes_min(self) -> u64 {
        match self {
            Self::Ext4 => EXT4_BYTES_MIN,
            Self::Xfs => XFS_BYTES_MIN,
        }
    }
}

impl fmt::Display for FileSystem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How the workload sees the volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Usage {
    /// As a block device.
    Block,
    /// As a directory.
    Mount {
        /// Which file system; nothing: ext4 for new ones, any that is there.
        wanted: Option<FileSystem>,
        /// Mount options.
        flags: Vec<String>,
        /// The group that its files shall belong to.
        group: Option<u32>,
    },
}

/// From where the workloads use it, and for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sharing {
    /// One workload at a time, which may write.
    OneWriter,
    /// Any number of workloads of one node, which may write.
    NodeWriters,
    /// Workloads of one node, which may not write.
    NodeReaders,
    /// Workloads of any number of nodes, which may not write.
    Readers,
}

/// A capability that the driver has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Access {
    pub usage: Usage,
    pub sharing: Sharing,
}

impl Access {
    /// Whether nobody may write.
    pub fn read_only(&self) -> bool {
        matches!(self.sharing, Sharing::NodeReaders | Sharing::Readers)
    }

    /// Whether several nodes may have it at once.
    pub fn many_nodes(&self) -> bool {
        self.sharing == Sharing::Readers
    }

    /// Whether several targets on one node may have it at once.
    pub fn many_targets(&self) -> bool {
        matches!(self.sharing, Sharing::NodeWriters | Sharing::Readers)
    }

    /// Reads a capability.
    ///
    /// # Errors
    /// INVALID_ARGUMENT, naming what is not understood or cannot work.
    pub fn parse(capability: Option<&VolumeCapability>) -> Result<Self, Status> {
        let capability =
            capability.ok_or_else(|| Status::invalid_argument("volume_capability is missing"))?;
        let mode = capability.access_mode.as_ref();
        let mode = mode
            .ok_or_else(|| Status::invalid_argument("volume_capability.access_mode is missing"))?;
        let sharing = parse_mode(mode.mode)?;
        let usage = match &capability.access_type {
            None => {
                let what = "volume_capability says neither block nor mount";
                return Err(Status::invalid_argument(what));
            }
            Some(AccessType::Block(_)) => Usage::Block,
            Some(AccessType::Mount(mount)) => Usage::Mount {
                wanted: parse_fs_type(&mount.fs_type)?,
                flags: parse_flags(&mount.mount_flags)?,
                group: parse_group(&mount.volume_mount_group)?,
            },
        };
        Ok(Self { usage, sharing })
    }

    /// Reads all capabilities of a request.
    ///
    /// # Errors
    /// As [`Access::parse`]; when there is none; when a volume would be a block device and a file system at once.
    pub fn parse_all(capabilities: &[VolumeCapability]) -> Result<Vec<Self>, Status> {
        if capabilities.is_empty() {
            return Err(Status::invalid_argument("volume_capabilities are missing"));
        }
        let parsed = capabilities.iter().map(|one| Self::parse(Some(one)));
        let parsed: Vec<Self> = parsed.collect::<Result<_, _>>()?;
        let blocks = parsed.iter().filter(|one| one.usage == Usage::Block);
        match blocks.count() {
            count if count == 0 || count == parsed.len() => Ok(parsed),
            _ => Err(Status::invalid_argument(
                "volume_capabilities ask for a block device and a file system of one volume: ask for one of them",
            )),
        }
    }
}

fn parse_mode(mode: i32) -> Result<Sharing, Status> {
    match Mode::try_from(mode) {
        Ok(Mode::SingleNodeWriter | Mode::SingleNodeSingleWriter) => Ok(Sharing::OneWriter),
        Ok(Mode::SingleNodeMultiWriter) => Ok(Sharing::NodeWriters),
        Ok(Mode::SingleNodeReaderOnly) => Ok(Sharing::NodeReaders),
        Ok(Mode::MultiNodeReaderOnly) => Ok(Sharing::Readers),
        Ok(mode @ (Mode::MultiNodeSingleWriter | Mode::MultiNodeMultiWriter)) => {
            Err(Status::invalid_argument(format!(
                "access mode {} is not supported: a volume that somebody writes to is used by one node at a time \
                 (use ReadWriteOnce, ReadWriteOncePod or ReadOnlyMany)",
                mode.as_str_name()
            )))
        }
        Ok(Mode::Unknown) => Err(Status::invalid_argument("access mode is missing")),
        Err(_) => Err(Status::invalid_argument(format!(
            "access mode {mode} is not known to this driver"
        ))),
    }
}

fn parse_fs_type(text: &str) -> Result<Option<FileSystem>, Status> {
    match (text, FileSystem::parse(text)) {
        ("", _) => Ok(None),
        (_, Some(known)) => Ok(Some(known)),
        (_, None) => Err(Status::invalid_argument(format!(
            "file system {text:?} is not supported: use ext4 or xfs"
        ))),
    }
}

/// Options go to `mount` in one argument; what could be another argument or another option is refused.
fn parse_flags(flags: &[String]) -> Result<Vec<String>, Status> {
    if flags.len() > FLAGS_MAX {
        return Err(Status::invalid_argument(format!(
            "{} mount options: at most {FLAGS_MAX} are allowed",
            flags.len()
        )));
    }
    for flag in flags {
        refuse_context(flag)?;
        let odd = |c: char| c.is_whitespace() || c.is_control() || c == ',' || c == '\0';
        if flag.is_empty() || flag.contains(odd) {
            return Err(Status::invalid_argument(format!(
                "mount option {flag:?} is not one option: list each one alone, without commas and spaces"
            )));
        }
        let decided = [
            "bind",
            "rbind",
            "remount",
            "move",
            "loop",
            "offset",
            "sizelimit",
        ];
        if decided.contains(&flag.split('=').next().unwrap_or_default()) {
            return Err(Status::invalid_argument(format!(
                "mount option {flag:?} is not allowed: how a volume is mounted is the driver's business"
            )));
        }
    }
    Ok(flags.to_vec())
}

/// SELinux contexts. `mount` drops them without a word where it cannot see that the kernel has SELinux, as in most
/// containers, and then the workload may not read its own volume: so they are not promised.
fn refuse_context(flag: &str) -> Result<(), Status> {
    let contexts = ["context", "fscontext", "defcontext", "rootcontext"];
    match contexts.contains(&flag.split('=').next().unwrap_or_default()) {
        false => Ok(()),
        true => Err(Status::invalid_argument(format!(
            "mount option {flag:?} is not supported: leave SELinux labels to the container runtime \
             (seLinuxMount: false in the CSIDriver object)"
        ))),
    }
}

fn parse_group(text: &str) -> Result<Option<u32>, Status> {
    if text.is_empty() {
        return Ok(None);
    }
    // The last one means `no change` to the kernel.
    let number = text.parse().ok().filter(|group| *group != u32::MAX);
    number.map(Some).ok_or_else(|| {
        Status::invalid_argument(format!(
            "volume_mount_group {text:?} is not the number of a group"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v1::volume_capability::{AccessMode, BlockVolume, MountVolume};
    use tonic::Code;

    fn capability(mode: Mode, access: AccessType) -> VolumeCapability {
        VolumeCapability {
            access_type: Some(access),
            access_mode: Some(AccessMode { mode: mode.into() }),
        }
    }

    fn mount(fs_type: &str, flags: &[&str], group: &str) -> AccessType {
        AccessType::Mount(MountVolume {
            fs_type: fs_type.to_owned(),
            mount_flags: flags.iter().map(|&flag| flag.to_owned()).collect(),
            volume_mount_group: group.to_owned(),
        })
    }

    fn refused(capability: VolumeCapability) -> String {
        let refusal = Access::parse(Some(&capability)).expect_err("it is refused");
        assert_eq!(refusal.code(), Code::InvalidArgument);
        refusal.message().to_owned()
    }

    #[test]
    fn modes_say_who_may_use_a_volume() {
        for (mode, read_only, many) in [
            (Mode::SingleNodeWriter, false, false),
            (Mode::SingleNodeSingleWriter, false, false),
            (Mode::SingleNodeMultiWriter, false, true),
            (Mode::SingleNodeReaderOnly, true, false),
            (Mode::MultiNodeReaderOnly, true, true),
        ] {
            let access = Access::parse(Some(&capability(mode, mount("", &[], ""))));
            let access = access.expect("supported");
            assert_eq!(
                (access.read_only(), access.many_targets()),
                (read_only, many),
                "{mode:?}"
            );
        }
        for mode in [Mode::MultiNodeSingleWriter, Mode::MultiNodeMultiWriter] {
            let message = refused(capability(mode, AccessType::Block(BlockVolume {})));
            assert!(message.contains(mode.as_str_name()), "{message}");
        }
        refused(capability(Mode::Unknown, mount("", &[], "")));
    }

    #[test]
    fn what_is_not_understood_is_refused_by_name() {
        let with = |access| capability(Mode::SingleNodeWriter, access);
        assert!(refused(with(mount("btrfs", &[], ""))).contains("btrfs"));
        assert!(refused(with(mount("ext4", &["a,b"], ""))).contains("a,b"));
        assert!(refused(with(mount("ext4", &["loop=/dev/x"], ""))).contains("loop"));
        let context = "context=\"system_u:object_r:container_file_t:s0:c1,c2\"";
        assert!(refused(with(mount("ext4", &[context], ""))).contains("SELinux"));
        assert!(refused(with(mount("ext4", &[], "staff"))).contains("staff"));
        assert!(refused(with(mount("ext4", &[], "4294967295"))).contains("4294967295"));
        let nothing = Access::parse(None).expect_err("refused");
        assert_eq!(nothing.code(), Code::InvalidArgument);
        let both = [
            with(mount("", &[], "")),
            with(AccessType::Block(BlockVolume {})),
        ];
        let both = Access::parse_all(&both).expect_err("refused");
        assert!(both.message().contains("one of them"), "{both}");
    }
}
