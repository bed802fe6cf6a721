//! The Node service: what concerns this machine.
//!
//! No state is kept. Every operation looks at what is there (the device of the volume, the table of mounts, the blocks
//! of the device) and does what is missing, so that a plugin that was killed at any step goes on with the next
//! request. The way of a volume:
//!
//! ```text
//! stage:   device (Attach) -> blank? mkfs : check -> mount at the staging path -> grow -> group
//! publish: bind mount of the staging path, or of the device's node, at the target path
//! ```

mod expand;
mod publish;
mod stage;
mod stats;

use crate::attachment::{Attach, AttachRefusal, Device};
use crate::call::{Call, Pending, run};
use crate::cluster::Cluster;
use crate::controller::accessible;
use crate::filesystem::read_small;
use crate::handle::require;
use crate::v1::node_server::Node;
use crate::v1::node_service_capability::rpc::Type as Rpc;
use crate::v1::node_service_capability::{Rpc as Capability, Type};
use crate::v1::*;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use tonic::{Request, Response, Status};

/// Everything that works.
const CAPABILITIES: [Rpc; 6] = [
    Rpc::StageUnstageVolume,
    Rpc::GetVolumeStats,
    Rpc::ExpandVolume,
    Rpc::VolumeCondition,
    Rpc::SingleNodeMultiWriter,
    Rpc::VolumeMountGroup,
];
/// Share of the machine's memory that attached volumes may take: one part of this many.
const MEMORY_SHARE: u64 = 4;
/// Volumes of one machine at most, whatever its memory: minor numbers of loop devices.
const VOLUMES_MAX: u64 = 1 << 20;

/// What the operations of a node need.
pub(crate) struct Machine {
    pub cluster: Arc<Cluster>,
    pub attach: Box<dyn Attach>,
    /// Name of this machine.
    pub node: String,
    /// For mounts that exist for a moment.
    pub work_dir: PathBuf,
}

/// Serves the Node.
pub(crate) struct NodeService {
    pub machine: Arc<Machine>,
    pub pending: Arc<Pending>,
}

type Operation<Q, T> = fn(&Machine, &Call, Q) -> Result<T, Status>;

impl NodeService {
    async fn carry_out<Q: Send + 'static, T: Send + 'static>(
        &self,
        name: &'static str,
        volume: &str,
        request: Request<Q>,
        operation: Operation<Q, T>,
    ) -> Result<Response<T>, Status> {
        let machine = self.machine.clone();
        let work = move |call: &Call, body| operation(&machine, call, body);
        run(&self.pending, name, vec![volume.to_owned()], request, work).await
    }
}

#[tonic::async_trait]
impl Node for NodeService {
    async fn node_stage_volume(
        &self,
        request: Request<NodeStageVolumeRequest>,
    ) -> Result<Response<NodeStageVolumeResponse>, Status> {
        let volume = request.get_ref().volume_id.clone();
        self.carry_out("NodeStageVolume", &volume, request, stage::stage)
            .await
    }

    async fn node_unstage_volume(
        &self,
        request: Request<NodeUnstageVolumeRequest>,
    ) -> Result<Response<NodeUnstageVolumeResponse>, Status> {
        let volume = request.get_ref().volume_id.clone();
        self.carry_out("NodeUnstageVolume", &volume, request, stage::unstage)
            .await
    }

    async fn node_publish_volume(
        &self,
        request: Request<NodePublishVolumeRequest>,
    ) -> Result<Response<NodePublishVolumeResponse>, Status> {
        let volume = request.get_ref().volume_id.clone();
        self.carry_out("NodePublishVolume", &volume, request, publish::publish)
            .await
    }

    async fn node_unpublish_volume(
        &self,
        request: Request<NodeUnpublishVolumeRequest>,
    ) -> Result<Response<NodeUnpublishVolumeResponse>, Status> {
        let volume = request.get_ref().volume_id.clone();
        self.carry_out("NodeUnpublishVolume", &volume, request, publish::unpublish)
            .await
    }

    async fn node_get_volume_stats(
        &self,
        request: Request<NodeGetVolumeStatsRequest>,
    ) -> Result<Response<NodeGetVolumeStatsResponse>, Status> {
        let machine = self.machine.clone();
        let work = move |call: &Call, body| stats::stats(&machine, call, body);
        run(
            &self.pending,
            "NodeGetVolumeStats",
            Vec::new(),
            request,
            work,
        )
        .await
    }

    async fn node_expand_volume(
        &self,
        request: Request<NodeExpandVolumeRequest>,
    ) -> Result<Response<NodeExpandVolumeResponse>, Status> {
        let volume = request.get_ref().volume_id.clone();
        self.carry_out("NodeExpandVolume", &volume, request, expand::expand)
            .await
    }

    async fn node_get_capabilities(
        &self,
        _: Request<NodeGetCapabilitiesRequest>,
    ) -> Result<Response<NodeGetCapabilitiesResponse>, Status> {
        let capability = |kind: &Rpc| NodeServiceCapability {
            r#type: Some(Type::Rpc(Capability {
                r#type: (*kind).into(),
            })),
        };
        Ok(Response::new(NodeGetCapabilitiesResponse {
            capabilities: CAPABILITIES.iter().map(capability).collect(),
        }))
    }

    async fn node_get_info(
        &self,
        request: Request<NodeGetInfoRequest>,
    ) -> Result<Response<NodeGetInfoResponse>, Status> {
        let machine = self.machine.clone();
        let work = move |call: &Call, _| info(&machine, call);
        run(&self.pending, "NodeGetInfo", Vec::new(), request, work).await
    }
}

fn info(machine: &Machine, call: &Call) -> Result<NodeGetInfoResponse, Status> {
    let handles = machine.cluster.ask(call).handles()?;
    Ok(NodeGetInfoResponse {
        node_id: handles.node(&machine.node),
        max_volumes_per_node: volumes_max(machine.attach.memory_bytes()),
        accessible_topology: Some(accessible(&handles)),
    })
}

/// How many volumes this machine takes: what a quarter of its memory holds, and no more than the kernel has loop
/// devices. With 24 MiB each, 16 GiB of memory make 170 volumes.
fn volumes_max(volume_bytes: u64) -> i64 {
    let memory = read_small("/proc/meminfo").ok();
    let memory = memory.as_deref().and_then(memory_bytes).unwrap_or(1 << 30);
    let by_memory = memory / MEMORY_SHARE / volume_bytes.max(1);
    let loops = read_small("/sys/module/loop/parameters/max_loop").ok();
    let loops = loops.and_then(|text| text.trim().parse::<u64>().ok());
    // 0 is no bound of its own. A number above is how many exist at the start; more are made when they are asked for.
    let by_loops = loops
        .filter(|loops| *loops > 0)
        .unwrap_or(VOLUMES_MAX)
        .max(256);
    i64::try_from(by_memory.min(by_loops).clamp(1, VOLUMES_MAX)).expect("at most 2^20")
}

fn memory_bytes(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

impl Machine {
    /// The number of the volume of a request.
    fn volume_of(&self, call: &Call, handle: &str) -> Result<u64, Status> {
        require("volume_id", handle)?;
        self.cluster.ask(call).handles()?.volume_of(handle)
    }

    /// The device of a volume, if there is one and it has been made.
    fn device_of(&self, volume: u64) -> Result<Option<(PathBuf, Device)>, Status> {
        let device = self.attach.find(volume).map_err(refusal)?;
        Ok(device.and_then(|device| Some((device.path.clone()?, device))))
    }
}

/// The code of a refusal of an attachment.
fn refusal(refusal: AttachRefusal) -> Status {
    match refusal {
        AttachRefusal::InUse(text) | AttachRefusal::Impossible(text) => {
            Status::failed_precondition(text)
        }
        AttachRefusal::Failed(text) => Status::internal(text),
    }
}

/// The path of a request at which a volume is looked for: one that nothing can be mounted at is one where the volume is
/// not, which the specification wants to be told from a missing path.
fn given_path<'a>(field: &str, text: &'a str) -> Result<&'a Path, Status> {
    match text.is_empty() {
        false => Ok(Path::new(text)),
        true => Err(Status::invalid_argument(format!("{field} is missing"))),
    }
}

/// The path of a request at which something is made or removed: absolute, without steps up.
fn path_of<'a>(field: &str, text: &'a str) -> Result<&'a Path, Status> {
    let path = given_path(field, text)?;
    let plain = |part: Component<'_>| matches!(part, Component::RootDir | Component::Normal(_));
    match path.is_absolute() && path.components().all(plain) && path.parent().is_some() {
        true => Ok(path),
        false => Err(Status::invalid_argument(format!(
            "{field} {text:?} is not an absolute path without `..`"
        ))),
    }
}

/// An error of the operating system at a path.
fn trouble(action: &str, path: &Path, cause: &std::io::Error) -> Status {
    let text = format!("cannot {action} {}: {cause}", path.display());
    match cause.kind() {
        std::io::ErrorKind::ResourceBusy => Status::failed_precondition(format!(
            "{text}. Something still uses it: `fuser -m` on that path says what"
        )),
        _ => Status::internal(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_bounds_the_number_of_volumes() {
        let text = "MemTotal:       16384000 kB\nMemFree: 1 kB\n";
        assert_eq!(memory_bytes(text), Some(16_384_000 * 1024));
        assert_eq!(memory_bytes("nothing"), None);
        assert!(volumes_max(24 << 20) >= 1);
        assert_eq!(volumes_max(u64::MAX), 1);
    }

    #[test]
    fn paths_that_lead_elsewhere_are_refused() {
        assert!(path_of("p", "/var/lib/x").is_ok());
        for odd in ["", "x", "/", "/a/../b", "../a"] {
            let refusal = path_of("p", odd).expect_err("refused");
            assert_eq!(refusal.code(), tonic::Code::InvalidArgument, "{odd:?}");
        }
    }
}
