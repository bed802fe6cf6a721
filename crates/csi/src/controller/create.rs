//! CreateVolume, DeleteVolume and ValidateVolumeCapabilities.

use super::topology;
use super::view::{NAME_LABEL, SOURCE_LABEL, keep_name, view_volume};
use crate::call::Call;
use crate::capability::{Access, FileSystem, Usage};
use crate::cluster::{ApiError, Asking, Cluster};
use crate::handle::{Handles, snapshot_address, volume_address};
use crate::parameters::Parameters;
use crate::v1::validate_volume_capabilities_response::Confirmed;
use crate::v1::volume_content_source::Type as SourceType;
use crate::v1::*;
use api::http::path;
use api::{
    CompressionName, ContainerAnswer, ContainerSpec, ErrorKind, KUBERNETES_LABEL, SnapshotAnswer,
    SnapshotRef, SyncName, VolumeAnswer, VolumeSpec,
};
use std::collections::BTreeMap;
use tonic::Status;

/// Size of a volume when nothing is said.
const BYTES_DEFAULT: u64 = 1 << 30;
/// Sizes are multiples of it.
const BLOCK_BYTES: u64 = 4096;
/// Largest volume of the cluster.
const BYTES_MAX: u64 = 512 << 40;
/// Key in the volume context with the file system of the class.
pub(crate) const CONTEXT_FILE_SYSTEM: &str = "fsType";

/// Bounds of a size that a request gives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Range {
    /// At least; 0: nothing said.
    pub required: u64,
    /// At most; 0: nothing said.
    pub limit: u64,
}

impl Range {
    /// Reads a capacity range.
    pub fn parse(range: Option<&CapacityRange>) -> Result<Self, Status> {
        let Some(range) = range else {
            return Ok(Self::default());
        };
        let read = |field: &str, value: i64| {
            u64::try_from(value).map_err(|_| {
                Status::invalid_argument(format!("capacity_range.{field} is negative: {value}"))
            })
        };
        let required = read("required_bytes", range.required_bytes)?;
        let limit = read("limit_bytes", range.limit_bytes)?;
        if limit != 0 && limit < required {
            return Err(Status::out_of_range(format!(
                "capacity_range.limit_bytes {limit} is below required_bytes {required}"
            )));
        }
        if required > BYTES_MAX {
            return Err(Status::out_of_range(format!(
                "{required} bytes are more than the largest volume has: {BYTES_MAX}"
            )));
        }
        Ok(Self { required, limit })
    }

    /// The size of a volume of at least `least` bytes within the range.
    pub fn size(self, least: u64) -> Result<u64, Status> {
        let wanted = match (self.required, least, self.limit) {
            (0, 0, 0) => BYTES_DEFAULT,
            (0, 0, limit) => BYTES_DEFAULT.min(limit / BLOCK_BYTES * BLOCK_BYTES),
            // A copy of something is as large as that.
            (0, least, _) => least,
            (required, ..) => required.next_multiple_of(BLOCK_BYTES),
        };
        if wanted == 0 || (self.limit != 0 && wanted > self.limit) {
            return Err(Status::out_of_range(format!(
                "no size fits: at least {wanted} bytes in multiples of {BLOCK_BYTES} are needed, and \
                 capacity_range.limit_bytes is {}",
                self.limit
            )));
        }
        Ok(wanted)
    }

    /// Whether a volume that exists is what is asked for.
    fn allows(self, size: u64) -> bool {
        size >= self.required && (self.limit == 0 || size <= self.limit)
    }
}

/// What a new volume starts from.
enum Source {
    Snapshot(Box<SnapshotAnswer>),
    Volume(Box<VolumeAnswer>),
}

impl Source {
    fn size(&self) -> u64 {
        match self {
            Self::Snapshot(snapshot) => snapshot.size,
            Self::Volume(volume) => volume.size,
        }
    }

    fn handle(&self, handles: &Handles) -> String {
        match self {
            Self::Snapshot(snapshot) => handles.snapshot(snapshot.id),
            Self::Volume(volume) => handles.volume(volume.id),
        }
    }

    fn reference(&self) -> SnapshotRef {
        match self {
            Self::Snapshot(snapshot) => SnapshotRef {
                volume: volume_address(snapshot.volume_id),
                snapshot: Some(snapshot_address(snapshot.id)),
            },
            Self::Volume(volume) => SnapshotRef {
                volume: volume_address(volume.id),
                snapshot: None,
            },
        }
    }
}

/// A request that is understood, and all that is needed to carry it out.
struct Plan {
    spec: VolumeSpec,
    range: Range,
    parameters: Parameters,
    handles: Handles,
}

/// `CreateVolume`.
pub(super) fn create(
    cluster: &Cluster,
    call: &Call,
    request: CreateVolumeRequest,
) -> Result<CreateVolumeResponse, Status> {
    let cluster = cluster.ask(call);
    let plan = plan(cluster, &request)?;
    for notice in &plan.parameters.notices {
        tracing::warn!(volume = plan.spec.name, request = call.id, "{notice}");
    }
    if let Some(container) = &plan.spec.container {
        check_container(cluster, container, &plan.parameters)?;
    }
    let created = cluster.post(&path(&["volumes"]), &plan.spec);
    let volume: VolumeAnswer = match created {
        Ok(volume) => volume,
        Err(error) if error.kind() == Some(ErrorKind::Exists) => existing(cluster, &plan)?,
        Err(error) => return Err(error.into()),
    };
    let mut view = view_volume(&volume, &plan.handles);
    if let Some(file_system) = plan.parameters.file_system {
        let entry = (
            CONTEXT_FILE_SYSTEM.to_owned(),
            file_system.name().to_owned(),
        );
        view.volume_context.extend([entry]);
    }
    Ok(CreateVolumeResponse { volume: Some(view) })
}

fn plan(cluster: Asking<'_>, request: &CreateVolumeRequest) -> Result<Plan, Status> {
    let kept = keep_name(&request.name)?;
    let accesses = Access::parse_all(&request.volume_capabilities)?;
    let parameters = Parameters::parse(&request.parameters, &request.mutable_parameters)?;
    let file_system = agree(&accesses, parameters.file_system)?;
    let range = Range::parse(request.capacity_range.as_ref())?;
    let handles = cluster.handles()?;
    topology::check(request.accessibility_requirements.as_ref(), &handles)?;
    let source = find_source(cluster, request.volume_content_source.as_ref(), &handles)?;
    let size = size_of(range, source.as_ref(), file_system)?;
    let container = match (&parameters.container, &source) {
        (Some(named), _) => Some(named.clone()),
        // Without a word about policies a copy stays where its source is.
        (None, Some(_)) if says_no_policy(&parameters) => None,
        (None, _) => Some(parameters.container_of_policies()),
    };
    let mut labels = parameters.labels.clone();
    let source_handle = source.as_ref().map(|source| source.handle(&handles));
    labels.extend(source_handle.map(|handle| (SOURCE_LABEL.to_owned(), handle)));
    labels.extend(kept.given.map(|given| (NAME_LABEL.to_owned(), given)));
    let kubernetes = cluster.kubernetes();
    labels.extend(kubernetes.map(|name| (KUBERNETES_LABEL.to_owned(), name.to_owned())));
    let spec = VolumeSpec {
        name: kept.name,
        container,
        size: Some(size),
        from: source.map(|source| source.reference()),
        labels,
        description: parameters.mutable.description.clone(),
        iops_limit: parameters.mutable.iops_limit,
        bandwidth_limit: parameters.mutable.bandwidth_limit,
    };
    Ok(Plan {
        spec,
        range,
        parameters,
        handles,
    })
}

fn says_no_policy(parameters: &Parameters) -> bool {
    parameters.rf.is_none() && parameters.sync.is_none() && parameters.compression.is_none()
}

/// The file system that capabilities and parameters agree on, for volumes that have one.
fn agree(accesses: &[Access], class: Option<FileSystem>) -> Result<Option<FileSystem>, Status> {
    let mut agreed: Option<FileSystem> = None;
    for access in accesses {
        let Usage::Mount { wanted, .. } = &access.usage else {
            return Ok(None);
        };
        let Some(wanted) = wanted.or(class) else {
            continue;
        };
        let other = class.or(agreed).filter(|other| *other != wanted);
        if let Some(other) = other {
            return Err(Status::invalid_argument(format!(
                "the request asks for two file systems at once, {other} and {wanted}: say one"
            )));
        }
        agreed = Some(wanted);
    }
    Ok(Some(agreed.unwrap_or(FileSystem::Ext4)))
}

fn find_source(
    cluster: Asking<'_>,
    source: Option<&VolumeContentSource>,
    handles: &Handles,
) -> Result<Option<Source>, Status> {
    let Some(source) = source else {
        return Ok(None);
    };
    match &source.r#type {
        None => Err(Status::invalid_argument(
            "volume_content_source names neither a snapshot nor a volume",
        )),
        Some(SourceType::Snapshot(source)) => {
            let number = handles.snapshot_of("snapshot_id", &source.snapshot_id)?;
            let found = cluster.get(&path(&["snapshots", &number.to_string()]));
            let found = found.map_err(|error| no_source("snapshot", &source.snapshot_id, error))?;
            Ok(Some(Source::Snapshot(found)))
        }
        Some(SourceType::Volume(source)) => {
            let number = handles.volume_of(&source.volume_id)?;
            let found = cluster.get(&path(&["volumes", &volume_address(number)]));
            let found = found.map_err(|error| no_source("volume", &source.volume_id, error))?;
            Ok(Some(Source::Volume(found)))
        }
    }
}

fn no_source(kind: &str, handle: &str, error: ApiError) -> Status {
    match error.kind() {
        Some(ErrorKind::NotFound) => Status::not_found(format!(
            "{kind} {handle}, from which the volume shall start, does not exist: choose another source"
        )),
        _ => error.into(),
    }
}

fn size_of(
    range: Range,
    source: Option<&Source>,
    file_system: Option<FileSystem>,
) -> Result<u64, Status> {
    let origin = source.map_or(0, Source::size);
    if range.required != 0 && range.required < origin {
        return Err(Status::out_of_range(format!(
            "{} bytes are less than what the volume shall start from has: {origin}",
            range.required
        )));
    }
    let size = range.size(origin)?;
    match file_system {
        Some(made) if size < made.bytes_min() => Err(Status::out_of_range(format!(
            "{size} bytes are too few for {made}: it needs {}",
            made.bytes_min()
        ))),
        _ => Ok(size),
    }
}

/// Makes sure that the container exists and has the policies that the parameters name.
fn check_container(cluster: Asking<'_>, name: &str, parameters: &Parameters) -> Result<(), Status> {
    if let Some(container) = find_container(cluster, name)? {
        return compare_container(&container, parameters);
    }
    if parameters.container.is_some() {
        return Err(Status::invalid_argument(format!(
            "parameter storageContainer = {name:?}: there is no such container; create it with \
             `azekura container create {name}`, or leave the parameter out"
        )));
    }
    let spec = ContainerSpec {
        name: name.to_owned(),
        rf: parameters.rf.unwrap_or(2),
        min_copies: None,
        sync: parameters.sync.unwrap_or_default(),
        compression: parameters.compression.unwrap_or_default(),
        quota: None,
    };
    match cluster.post::<ContainerAnswer>(&path(&["containers"]), &spec) {
        Ok(_) => Ok(()),
        // Another request was faster.
        Err(error) if error.kind() == Some(ErrorKind::Exists) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// The container of this name.
pub(super) fn find_container(
    cluster: Asking<'_>,
    name: &str,
) -> Result<Option<ContainerAnswer>, ApiError> {
    let containers: Vec<ContainerAnswer> = cluster.get(&path(&["containers"]))?;
    Ok(containers
        .into_iter()
        .find(|container| container.name == name))
}

fn compare_container(container: &ContainerAnswer, parameters: &Parameters) -> Result<(), Status> {
    let sync = parameters.sync.map(|sync| match sync {
        SyncName::Flush => "flush",
        SyncName::Always => "always",
    });
    let compression = parameters.compression.map(|compression| match compression {
        CompressionName::Lz4 => "lz4",
        CompressionName::Off => "off",
    });
    let rf = parameters.rf.map(|rf| rf.to_string());
    for (key, asked, has) in [
        (
            "replicationFactor",
            rf.as_deref(),
            &*container.rf.to_string(),
        ),
        ("sync", sync, &container.sync),
        ("compression", compression, &container.compression),
    ] {
        if let Some(asked) = asked.filter(|asked| *asked != has) {
            return Err(Status::invalid_argument(format!(
                "parameter {key} = {asked} contradicts container {}, whose volumes have {has}: leave one of \
                 the two out",
                container.name
            )));
        }
    }
    Ok(())
}

/// The volume that has the name already, if it is what the request asks for.
fn existing(cluster: Asking<'_>, plan: &Plan) -> Result<VolumeAnswer, Status> {
    let spec = &plan.spec;
    let found = cluster.get(&path(&["volumes", &spec.name]));
    let volume: VolumeAnswer = found.map_err(|error| match error.kind() {
        Some(ErrorKind::NotFound) => Status::aborted(format!(
            "the volume {} that had this name is just being deleted; repeat the request",
            spec.name
        )),
        _ => error.into(),
    })?;
    let differs = |what: &str, has: &str, asked: &str| {
        Err(Status::already_exists(format!(
            "volume {} exists with another {what}: it has {has}, asked for is {asked}",
            spec.name
        )))
    };
    if volume.state == "deleting" {
        let what = format!(
            "volume {} is just being deleted; repeat the request",
            spec.name
        );
        return Err(Status::aborted(what));
    }
    if !plan.range.allows(volume.size) {
        let asked = format!("{} to {}", plan.range.required, plan.range.limit);
        return differs("size", &volume.size.to_string(), &asked);
    }
    if let Some(container) = spec
        .container
        .as_ref()
        .filter(|name| **name != volume.container)
    {
        return differs("container", &volume.container, container);
    }
    check_kubernetes(&volume, spec)?;
    for key in [SOURCE_LABEL, NAME_LABEL] {
        let text = |labels: &BTreeMap<String, String>| labels.get(key).cloned().unwrap_or_default();
        let (has, asked) = (text(&volume.labels), text(&spec.labels));
        if has != asked {
            let kind = if key == SOURCE_LABEL {
                "source"
            } else {
                "name"
            };
            return differs(kind, &format!("{has:?}"), &format!("{asked:?}"));
        }
    }
    Ok(volume)
}

/// Refuses a volume of another Kubernetes cluster. One that an earlier driver made bears no name of any.
fn check_kubernetes(volume: &VolumeAnswer, spec: &VolumeSpec) -> Result<(), Status> {
    let label = |labels: &BTreeMap<String, String>| labels.get(KUBERNETES_LABEL).cloned();
    match (label(&volume.labels), label(&spec.labels)) {
        (Some(has), Some(asked)) if has != asked => Err(Status::already_exists(format!(
            "volume {} exists and was made for the Kubernetes cluster {has:?}, not for {asked:?}",
            spec.name
        ))),
        _ => Ok(()),
    }
}

/// `DeleteVolume`.
pub(super) fn delete(
    cluster: &Cluster,
    call: &Call,
    request: DeleteVolumeRequest,
) -> Result<DeleteVolumeResponse, Status> {
    let handle = crate::handle::require("volume_id", &request.volume_id)?;
    let cluster = cluster.ask(call);
    // What cannot be a volume of this cluster is not there.
    let Some(number) = cluster.handles()?.parse_volume(handle) else {
        return Ok(DeleteVolumeResponse {});
    };
    match cluster.delete(&path(&["volumes", &volume_address(number)])) {
        Err(error) if error.kind() != Some(ErrorKind::NotFound) => Err(error.into()),
        _ => Ok(DeleteVolumeResponse {}),
    }
}

/// `ValidateVolumeCapabilities`.
pub(super) fn validate(
    cluster: &Cluster,
    call: &Call,
    request: ValidateVolumeCapabilitiesRequest,
) -> Result<ValidateVolumeCapabilitiesResponse, Status> {
    let cluster = cluster.ask(call);
    crate::handle::require("volume_id", &request.volume_id)?;
    if request.volume_capabilities.is_empty() {
        return Err(Status::invalid_argument("volume_capabilities are missing"));
    }
    let number = cluster.handles()?.volume_of(&request.volume_id)?;
    let volume: VolumeAnswer = cluster.get(&path(&["volumes", &volume_address(number)]))?;
    let checked = Access::parse_all(&request.volume_capabilities).and_then(|accesses| {
        let parameters = Parameters::parse(&request.parameters, &request.mutable_parameters)?;
        let made = agree(&accesses, parameters.file_system)?;
        size_of(
            Range {
                required: volume.size,
                limit: 0,
            },
            None,
            made,
        )
    });
    Ok(match checked {
        Ok(_) => ValidateVolumeCapabilitiesResponse {
            confirmed: Some(Confirmed {
                volume_context: request.volume_context,
                volume_capabilities: request.volume_capabilities,
                parameters: request.parameters,
                mutable_parameters: request.mutable_parameters,
            }),
            message: String::new(),
        },
        Err(refusal) => ValidateVolumeCapabilitiesResponse {
            confirmed: None,
            message: refusal.message().to_owned(),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic::Code;

    fn range(required_bytes: i64, limit_bytes: i64) -> Result<Range, Status> {
        Range::parse(Some(&CapacityRange {
            required_bytes,
            limit_bytes,
        }))
    }

    #[test]
    fn sizes_are_rounded_up_within_their_limits() {
        let size =
            |required, limit, least| range(required, limit).and_then(|range| range.size(least));
        assert_eq!(size(0, 0, 0).expect("default"), 1 << 30);
        assert_eq!(size(0, 10_000, 0).expect("below the limit"), 8192);
        assert_eq!(size(1, 0, 0).expect("rounded"), 4096);
        assert_eq!(size(0, 0, 5 << 20).expect("the source's"), 5 << 20);
        assert_eq!(size(0, 0, 5 << 30).expect("the source's"), 5 << 30);
        for (required, limit) in [(5000, 5000), (0, 100), (10, 5), (i64::MAX, 0)] {
            let refusal = size(required, limit, 0).expect_err("refused");
            assert_eq!(refusal.code(), Code::OutOfRange, "{required} {limit}");
        }
        assert_eq!(
            range(-1, 0).expect_err("refused").code(),
            Code::InvalidArgument
        );
    }

    #[test]
    fn a_volume_of_another_kubernetes_cluster_is_refused_and_one_of_none_is_not() {
        let labels = |name: Option<&str>| -> BTreeMap<String, String> {
            let label = name.map(|name| (KUBERNETES_LABEL.to_owned(), name.to_owned()));
            label.into_iter().collect()
        };
        let check = |has, asked| {
            let volume = VolumeAnswer {
                labels: labels(has),
                ..VolumeAnswer::default()
            };
            let spec = VolumeSpec {
                labels: labels(asked),
                ..VolumeSpec::default()
            };
            check_kubernetes(&volume, &spec)
        };
        for (has, asked) in [
            (None, Some("prod")),
            (Some("prod"), Some("prod")),
            (Some("prod"), None),
            (None, None),
        ] {
            assert!(check(has, asked).is_ok(), "{has:?} {asked:?}");
        }
        let refusal = check(Some("prod"), Some("test")).expect_err("refused");
        assert_eq!(refusal.code(), Code::AlreadyExists);
        assert!(refusal.message().contains("prod"), "{refusal}");
    }

    #[test]
    fn two_file_systems_are_refused_by_name() {
        let mount = |wanted| Access {
            usage: Usage::Mount {
                wanted,
                flags: Vec::new(),
                group: None,
            },
            sharing: crate::capability::Sharing::OneWriter,
        };
        let (ext4, xfs) = (Some(FileSystem::Ext4), Some(FileSystem::Xfs));
        assert_eq!(agree(&[mount(None)], None).expect("agreed"), ext4);
        assert_eq!(agree(&[mount(None)], xfs).expect("agreed"), xfs);
        for (accesses, class) in [
            (vec![mount(ext4)], xfs),
            (vec![mount(ext4), mount(xfs)], None),
        ] {
            let refusal = agree(&accesses, class).expect_err("refused");
            assert!(refusal.message().contains("ext4") && refusal.message().contains("xfs"));
        }
    }
}
