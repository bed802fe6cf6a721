//! Parameters of StorageClasses and VolumeAttributesClasses: every known name, understood, refused because it is not
//! built, or accepted without effect and said so. Unknown names are refused.
//!
//! The names of the reference driver are accepted, so that its classes work after a change of the provisioner.
//! docs/protocols/csi.md has the table.

use crate::capability::FileSystem;
use api::{CompressionName, SyncName};
use std::collections::{BTreeMap, HashMap};
use tonic::Status;

/// Longest description: what the API takes in a label with room to spare.
const DESCRIPTION_BYTES_MAX: usize = 1024;
/// Prefix of what the sidecars add.
const SIDECAR: &str = "csi.storage.k8s.io/";

/// What may be changed while a volume is in use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mutable {
    pub description: Option<String>,
    /// Operations per second; 0: no limit.
    pub iops_limit: Option<u64>,
    /// Bytes per second; 0: no limit.
    pub bandwidth_limit: Option<u64>,
}

/// The parameters of a volume.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Parameters {
    /// The container it shall lie in; nothing: one of ours with these policies.
    pub container: Option<String>,
    pub file_system: Option<FileSystem>,
    pub rf: Option<u8>,
    pub compression: Option<CompressionName>,
    pub sync: Option<SyncName>,
    pub mutable: Mutable,
    /// Names of claim and volume, as the provisioner passes them.
    pub labels: BTreeMap<String, String>,
    /// What was accepted without effect, in words.
    pub notices: Vec<String>,
}

/// Refuses a value and says which ones are allowed.
fn wrong(key: &str, value: &str, allowed: &str) -> Status {
    Status::invalid_argument(format!(
        "parameter {key} cannot be {value:?}: use {allowed}"
    ))
}

/// Refuses what the driver may learn one day.
fn not_built(key: &str, value: &str, instead: &str) -> Status {
    Status::invalid_argument(format!(
        "parameter {key} = {value:?} asks for something that is not built yet: {instead}"
    ))
}

impl Parameters {
    /// Reads the parameters of a new volume; those of `mutable` win.
    ///
    /// # Errors
    /// INVALID_ARGUMENT, naming key, value and the values allowed.
    pub fn parse(
        parameters: &HashMap<String, String>,
        mutable: &HashMap<String, String>,
    ) -> Result<Self, Status> {
        let mut parsed = Self::default();
        // In order, so that of several mistakes the same one is always named.
        for (key, value) in parameters.iter().collect::<BTreeMap<_, _>>() {
            if !parsed.mutable.take(key, value)?
                && !parsed.take_policy(key, value)?
                && !parsed.take_of_reference(key, value)?
                && !parsed.take_of_sidecar(key, value)?
            {
                return Err(Status::invalid_argument(format!(
                    "parameter {key} is not known: see the parameters in docs/protocols/csi.md"
                )));
            }
        }
        let changes = Mutable::parse(mutable)?;
        let own = &mut parsed.mutable;
        own.description = changes.description.or(own.description.take());
        own.iops_limit = changes.iops_limit.or(own.iops_limit);
        own.bandwidth_limit = changes.bandwidth_limit.or(own.bandwidth_limit);
        Ok(parsed)
    }

    /// Where and how the volume lies.
    fn take_policy(&mut self, key: &str, value: &str) -> Result<bool, Status> {
        match key {
            "storageContainer" => {
                let odd = value.is_empty() || value.len() > 253 || value.contains('/');
                if odd {
                    return Err(wrong(key, value, "the name of a container"));
                }
                self.container = Some(value.to_owned());
            }
            "replicationFactor" => match value {
                "2" => self.rf = Some(2),
                "3" => self.rf = Some(3),
                _ => return Err(wrong(key, value, "2 or 3")),
            },
            "compression" => match value {
                "lz4" => self.compression = Some(CompressionName::Lz4),
                "off" => self.compression = Some(CompressionName::Off),
                _ => return Err(wrong(key, value, "lz4 or off")),
            },
            "sync" => match value {
                "flush" => self.sync = Some(SyncName::Flush),
                "always" => self.sync = Some(SyncName::Always),
                _ => return Err(wrong(key, value, "flush or always")),
            },
            "attach" => match value {
                "auto" | "local" => {}
                "nvme-tcp" | "iscsi" => return Err(not_built(key, value, "use auto or local")),
                _ => return Err(wrong(key, value, "auto or local")),
            },
            "dedup" | "encryption" => match value {
                "off" => {}
                _ => return Err(not_built(key, value, "leave it out, or use off")),
            },
            "csi.storage.k8s.io/fstype" | "fsType" => {
                let known = FileSystem::parse(value);
                let known = known.ok_or_else(|| wrong(key, value, "ext4 or xfs"))?;
                if self.file_system.is_some_and(|other| other != known) {
                    return Err(wrong(key, value, "one file system, not two"));
                }
                self.file_system = Some(known);
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Names that the reference driver has.
    fn take_of_reference(&mut self, key: &str, value: &str) -> Result<bool, Status> {
        match key {
            "storageType" => match value {
                "NutanixVolumes" | "block" => {}
                "NutanixFiles" | "file" => {
                    return Err(not_built(key, value, "use block (or NutanixVolumes)"));
                }
                _ => return Err(wrong(key, value, "block or NutanixVolumes")),
            },
            "chapAuth" | "flashMode" | "whitelistIPMode" => match value {
                "DISABLED" => {}
                "ENABLED" => return Err(not_built(key, value, "leave it out, or use DISABLED")),
                _ => return Err(wrong(key, value, "DISABLED")),
            },
            "isSegmentedIscsiNetwork" => match value {
                "false" => {}
                "true" => return Err(not_built(key, value, "leave it out, or use \"false\"")),
                _ => return Err(wrong(key, value, "\"false\"")),
            },
            "whitelistIPAddr" | "nfsServer" | "nfsPath" | "dynamicProv" | "nfsServerName"
            | "squashType" => {
                return Err(not_built(key, value, "leave it out"));
            }
            "dataServiceEndPoint" | "isLVMVolume" | "numLVMDisks" | "hypervisorAttached" => {
                self.notices.push(without_effect(key, value)?);
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// What the provisioner passes on: names, which are kept as labels, and references to secrets, which it has
    /// resolved.
    fn take_of_sidecar(&mut self, key: &str, value: &str) -> Result<bool, Status> {
        let Some(rest) = key.strip_prefix(SIDECAR) else {
            return Ok(false);
        };
        match rest {
            "pvc/name" | "pvc/namespace" | "pv/name" => {
                self.labels.insert(key.to_owned(), value.to_owned());
                Ok(true)
            }
            _ => Ok(is_secret_reference(rest)),
        }
    }

    /// The container of ours that has these policies.
    pub fn container_of_policies(&self) -> String {
        let mut name = format!("csi-rf{}", self.rf.unwrap_or(2));
        if self.sync == Some(SyncName::Always) {
            name.push_str("-sync");
        }
        if self.compression == Some(CompressionName::Off) {
            name.push_str("-raw");
        }
        name
    }
}

fn is_secret_reference(rest: &str) -> bool {
    let owners = [
        "provisioner",
        "controller-publish",
        "node-stage",
        "node-publish",
        "controller-expand",
        "node-expand",
        "snapshotter",
        "snapshotter-list",
        "group-snapshotter",
        "controller-modify",
    ];
    let owner = rest.strip_suffix("-secret-name");
    let owner = owner.or_else(|| rest.strip_suffix("-secret-namespace"));
    owner.is_some_and(|owner| owners.contains(&owner))
}

/// Checks a value that changes nothing here.
fn without_effect(key: &str, value: &str) -> Result<String, Status> {
    let (good, allowed, why) = match key {
        "dataServiceEndPoint" => {
            let address = value.parse::<std::net::IpAddr>().is_ok();
            let socket = value.parse::<std::net::SocketAddr>().is_ok();
            (
                address || socket,
                "an address as ip or ip:port",
                "the driver finds the nodes of the cluster itself",
            )
        }
        "numLVMDisks" => {
            let count = value.parse::<u32>().is_ok_and(|count| count > 0);
            (
                count,
                "a number above 0",
                "every volume is spread over the pool",
            )
        }
        "isLVMVolume" => (
            is_bool(value),
            "\"true\" or \"false\"",
            "every volume is spread over the pool",
        ),
        _ => (
            is_bool(value),
            "\"true\" or \"false\"",
            "the node chooses how it attaches: see the parameter attach",
        ),
    };
    match good {
        true => Ok(format!("parameter {key} = {value} has no effect: {why}")),
        false => Err(wrong(key, value, allowed)),
    }
}

fn is_bool(value: &str) -> bool {
    matches!(value, "true" | "false")
}

impl Mutable {
    /// Reads parameters that may be changed.
    ///
    /// # Errors
    /// INVALID_ARGUMENT for every other one, and for wrong values.
    pub fn parse(parameters: &HashMap<String, String>) -> Result<Self, Status> {
        let mut parsed = Self::default();
        for (key, value) in parameters.iter().collect::<BTreeMap<_, _>>() {
            if !parsed.take(key, value)? {
                return Err(Status::invalid_argument(format!(
                    "parameter {key} cannot be changed while a volume exists: description, iopsLimit and \
                     bandwidthLimit can"
                )));
            }
        }
        Ok(parsed)
    }

    fn take(&mut self, key: &str, value: &str) -> Result<bool, Status> {
        match key {
            "description" => {
                if value.len() > DESCRIPTION_BYTES_MAX || value.contains(char::is_control) {
                    let allowed = "at most 1024 bytes in one line";
                    return Err(wrong(key, value, allowed));
                }
                self.description = Some(value.to_owned());
            }
            "iopsLimit" => {
                let allowed = "operations per second, or 0 for no limit";
                let number = value.parse().map_err(|_| wrong(key, value, allowed))?;
                self.iops_limit = Some(number);
            }
            "bandwidthLimit" => {
                let allowed = "bytes per second such as 100Mi, or 0 for no limit";
                let bytes = parse_quantity(value).ok_or_else(|| wrong(key, value, allowed))?;
                self.bandwidth_limit = Some(bytes);
            }
            _ => return Ok(false),
        }
        Ok(true)
    }
}

/// A whole number of bytes with one of the suffixes of Kubernetes.
fn parse_quantity(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit: u64 = match &text[digits.len()..] {
        "" => 1,
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        "Ti" => 1 << 40,
        "k" => 1_000,
        "M" => 1_000_000,
        "G" => 1_000_000_000,
        "T" => 1_000_000_000_000,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use fuzz::target;
    use proptest::prelude::*;

    fn map(pairs: &[(&str, &str)]) -> HashMap<String, String> {
        let owned = |&(key, value): &(&str, &str)| (key.to_owned(), value.to_owned());
        pairs.iter().map(owned).collect()
    }

    fn parse(pairs: &[(&str, &str)]) -> Result<Parameters, Status> {
        Parameters::parse(&map(pairs), &map(&[]))
    }

    #[test]
    fn a_class_of_the_reference_driver_is_understood() {
        let class = [
            ("storageType", "NutanixVolumes"),
            ("storageContainer", "default"),
            ("csi.storage.k8s.io/fstype", "xfs"),
            ("chapAuth", "DISABLED"),
            ("flashMode", "DISABLED"),
            ("isSegmentedIscsiNetwork", "false"),
            ("dataServiceEndPoint", "10.0.0.9:3260"),
            ("isLVMVolume", "true"),
            ("numLVMDisks", "4"),
            ("hypervisorAttached", "true"),
            ("csi.storage.k8s.io/provisioner-secret-name", "s"),
            ("csi.storage.k8s.io/node-publish-secret-namespace", "n"),
            ("csi.storage.k8s.io/pvc/name", "claim"),
        ];
        let parsed = parse(&class).expect("understood");
        assert_eq!(parsed.container.as_deref(), Some("default"));
        assert_eq!(parsed.file_system, Some(FileSystem::Xfs));
        assert_eq!(parsed.labels["csi.storage.k8s.io/pvc/name"], "claim");
        assert_eq!(parsed.notices.len(), 4);
    }

    #[test]
    fn what_is_not_built_or_not_known_is_refused_by_name() {
        for (key, value) in [
            ("storageType", "NutanixFiles"),
            ("storageType", "tape"),
            ("chapAuth", "ENABLED"),
            ("flashMode", "ENABLED"),
            ("flashMode", "maybe"),
            ("whitelistIPMode", "ENABLED"),
            ("whitelistIPAddr", "10.0.0.1"),
            ("isSegmentedIscsiNetwork", "true"),
            ("dataServiceEndPoint", "storage.example"),
            ("numLVMDisks", "0"),
            ("nfsServer", "10.0.0.1"),
            ("nfsPath", "/x"),
            ("dynamicProv", "ENABLED"),
            ("nfsServerName", "x"),
            ("squashType", "none"),
            ("replicationFactor", "1"),
            ("replicationFactor", "4"),
            ("attach", "iscsi"),
            ("attach", "nvme-tcp"),
            ("attach", "x"),
            ("compression", "gzip"),
            ("dedup", "on"),
            ("encryption", "aes"),
            ("sync", "never"),
            ("iopsLimit", "-1"),
            ("bandwidthLimit", "10MB"),
            ("bandwidthLimit", "99999999999Ti"),
            ("csi.storage.k8s.io/fstype", "ntfs"),
            ("csi.storage.k8s.io/unknown", "x"),
            ("Compression", "lz4"),
        ] {
            let refusal = parse(&[(key, value)]).expect_err(key);
            assert_eq!(refusal.code(), tonic::Code::InvalidArgument);
            assert!(refusal.message().contains(key), "{refusal}");
        }
    }

    #[test]
    fn policies_name_a_container() {
        for (pairs, name) in [
            (&[][..], "csi-rf2"),
            (
                &[
                    ("replicationFactor", "3"),
                    ("compression", "lz4"),
                    ("sync", "flush"),
                ],
                "csi-rf3",
            ),
            (
                &[("sync", "always"), ("compression", "off")],
                "csi-rf2-sync-raw",
            ),
        ] {
            assert_eq!(parse(pairs).expect("good").container_of_policies(), name);
        }
    }

    #[test]
    fn changes_win_over_parameters_and_are_few() {
        let class = map(&[("iopsLimit", "100"), ("bandwidthLimit", "1Mi")]);
        let parsed = Parameters::parse(&class, &map(&[("iopsLimit", "200")])).expect("good");
        assert_eq!(parsed.mutable.iops_limit, Some(200));
        assert_eq!(parsed.mutable.bandwidth_limit, Some(1 << 20));
        let refusal = Mutable::parse(&map(&[("sync", "always")])).expect_err("refused");
        assert!(refusal.message().contains("sync"), "{refusal}");
    }

    /// A line for each parameter: its key, `=`, its value.
    #[test]
    fn fuzz_corpus_of_parameters() {
        let target = target!("parameters");
        let parsed = |bytes: &[u8]| {
            let text = String::from_utf8_lossy(bytes);
            let pairs: Vec<_> = text
                .lines()
                .filter_map(|line| line.split_once('='))
                .collect();
            parse(&pairs)
        };
        let ours = "replicationFactor=3\ncompression=lz4\nsync=flush\niopsLimit=100\nbandwidthLimit=1Mi\nattach=nbd\n";
        let theirs = "storageType=NutanixVolumes\nstorageContainer=default\ncsi.storage.k8s.io/fstype=xfs\nchapAuth=DISABLED\n\
                      isLVMVolume=true\nnumLVMDisks=4\ncsi.storage.k8s.io/pvc/name=claim\n";
        let bad = "replicationFactor=4\nbandwidthLimit=99999999999Ti\n";
        let committed = target.sample("nutanix", theirs.as_bytes());
        assert_eq!(
            parsed(&committed).expect("understood").container.as_deref(),
            Some("default")
        );
        target.sample("ours", ours.as_bytes());
        assert!(parsed(&target.sample("bad", bad.as_bytes())).is_err());
        target.play(|bytes| {
            if let Err(refusal) = parsed(bytes) {
                assert!(!refusal.message().is_empty());
            }
        });
    }

    proptest! {
        #[test]
        fn fuzz_any_parameters_are_understood_or_refused(key in any::<String>(), value in any::<String>()) {
            let _ = parse(&[(&key, &value)]);
            let _ = parse(&[("bandwidthLimit", &value)]);
        }
    }
}
