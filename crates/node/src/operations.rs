//! The management plane's operations: carried out here, or by the owner of the volume they concern.
//!
//! Invariants
//! - An operation that needs the owner runs on the node that holds the volume's epoch; a node that gets
//!   one forwarded never forwards it again.
//! - Every operation may be repeated; what was half done is found and finished.

mod alerts;
mod capacity;
mod catalogs;
mod clones;
mod components;
mod conditions;
mod containers;
pub(crate) mod disks;
mod events;
mod everywhere;
mod figures;
mod groups;
mod joining;
mod kubernetes;
mod ledger;
mod lights;
mod log_copies;
mod logs;
mod members;
mod metrics;
mod once;
mod pages;
mod placement;
mod release;
mod resiliency;
mod settings;
mod snapshots;
mod space;
mod status;
mod tasks;
mod tokens;
mod users;
mod volumes;

pub use self::catalogs::{CatalogPlace, Moved};
pub(crate) use self::components::SaidMembers;
pub use self::joining::Signer;
pub(crate) use self::kubernetes::KnownClaims;
use self::ledger::wanted_space;
pub(crate) use self::log_copies::SaidLogs;
pub use self::logs::LogWindow;
pub(crate) use self::resiliency::Progress;
use self::snapshots::Part;
use crate::host::Host;
use crate::upkeep::mirror;
use crate::volumes::Refusal;
use api::{Answer, Asker, ErrorKind, Forwarded, Operation, OperationError};
use catalog::{CatalogError, SnapshotMarks};
use rpc::{Reply, Request, RpcError};
use std::rc::Rc;
use vocab::{NodeId, VolumeId};
use volume::{Volume, VolumeError};
use wire::{Lane, NodeReply, NodeRequest};
use world::{Caller, Duration, Time};

/// How long an owner is looked for before the operation fails.
const OWNER_PATIENCE: Duration = Duration::from_secs(20);
/// Patience with an owner that a detach is forwarded to: one that is stopped must not hold it up.
const DETACH_PATIENCE: Duration = Duration::from_secs(4);
/// How long an owner that holds its lease but does not answer is asked before a detach takes its volume.
const SEIZE_AFTER: Duration = Duration::from_secs(4);
/// Patience with a forwarded operation.
const FORWARD_PATIENCE: Duration = Duration::from_secs(60);
/// Pause between two attempts.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// Result of an operation.
pub(crate) type Result<T> = std::result::Result<T, OperationError>;

pub(crate) fn catalog_error(error: CatalogError) -> OperationError {
    let kind = match &error {
        CatalogError::NotFound { .. } => ErrorKind::NotFound,
        CatalogError::Exists { .. } | CatalogError::Taken(_) => ErrorKind::Exists,
        CatalogError::InUse { .. } => ErrorKind::InUse,
        CatalogError::OverQuota(_) => ErrorKind::NoSpace,
        CatalogError::Changed { .. } => ErrorKind::Changed,
        CatalogError::Refused(reason) if reason.contains("is not allowed") => ErrorKind::BadRequest,
        CatalogError::Refused(_) => ErrorKind::Refused,
        CatalogError::Damaged { .. } => ErrorKind::Failed,
        CatalogError::Kv(_) | CatalogError::StaleOwner { .. } | CatalogError::Contended => {
            ErrorKind::Unavailable
        }
    };
    OperationError::new(kind, error.to_string())
}

pub(crate) fn volume_error(error: VolumeError) -> OperationError {
    match error {
        VolumeError::Catalog(error) => catalog_error(error),
        VolumeError::Log(_)
        | VolumeError::Unavailable { .. }
        | VolumeError::OutOfReach { .. }
        | VolumeError::JournalFull { .. } => OperationError::unavailable(error.to_string()),
        VolumeError::Map(_) | VolumeError::DataMissing { .. } => {
            OperationError::failed(error.to_string())
        }
    }
}

fn refusal_error(refusal: Refusal) -> OperationError {
    match refusal {
        Refusal::Elsewhere(node) => {
            OperationError::unavailable(format!("the volume is served by {node}; try again"))
        }
        Refusal::NoVolume(name) => OperationError::not_found(format!("there is no volume {name}")),
        Refusal::Busy(reason) => OperationError::unavailable(reason),
        Refusal::Failed(reason) => OperationError::failed(reason),
    }
}

/// Name of the volume whose owner must carry the operation out.
fn owned_by(operation: &Operation) -> Option<&str> {
    match operation.bare() {
        Operation::VolumeSet { name, .. }
        | Operation::VolumeResize { name, .. }
        | Operation::VolumeDrain { name } => Some(name),
        Operation::VolumeRestore { volume, .. }
        | Operation::SnapshotCreate { volume, .. }
        | Operation::VolumePause { volume, .. }
        | Operation::VolumeResume { volume, .. }
        | Operation::SnapshotDiff {
            volume, to: None, ..
        }
        | Operation::Attach { volume, .. }
        | Operation::Detach { volume, .. } => Some(volume),
        _ => None,
    }
}

impl Host {
    /// Carries an operation out, here or on the node that can. Safe to repeat.
    ///
    /// # Errors
    /// [`OperationError`], with a message for people; [`ErrorKind::Unavailable`] says that a retry may
    /// succeed.
    pub async fn operate(self: &Rc<Self>, operation: Operation) -> Result<Answer> {
        let changes = self.options.describe_disks && mirror::changes_catalog(&operation);
        let answer = match owned_by(&operation) {
            Some(name) => self.at_owner(name, &operation).await,
            None => self.operate_anywhere(operation).await,
        };
        if changes && answer.is_ok() {
            self.noted().await;
        }
        answer
    }

    /// As [`Host::operate`], on somebody's behalf: tasks and lines of the log name the request.
    ///
    /// # Errors
    /// As [`Host::operate`].
    pub async fn operate_for(
        self: &Rc<Self>,
        asker: Asker,
        operation: Operation,
    ) -> Result<Answer> {
        let (host, asked) = (self.clone(), operation.clone());
        let work = async move { host.operate(asked).await };
        self.on_behalf(asker, &operation, work).await
    }

    /// An operation that another node forwarded: carried out here or refused.
    pub(crate) async fn operate_encoded(
        self: &Rc<Self>,
        operation: &[u8],
        caller: Option<&Caller>,
    ) -> Vec<u8> {
        let result = match serde_json::from_slice::<Forwarded>(operation) {
            Ok(Forwarded { asker, operation }) => match joining::may_forward(caller, &operation) {
                Ok(()) => {
                    let (host, asked) = (self.clone(), operation.clone());
                    let work = async move { host.operate_here(asked).await };
                    self.on_behalf(asker, &operation, work).await
                }
                Err(error) => Err(error),
            },
            Err(error) => Err(OperationError::bad_request(format!(
                "this node does not know the operation ({error}): are all nodes of one release?"
            ))),
        };
        serde_json::to_vec(&result).expect("answers are plain data with text keys")
    }

    async fn operate_here(self: &Rc<Self>, operation: Operation) -> Result<Answer> {
        if let Operation::VolumeDelete { name } = operation.bare() {
            return self.delete_volume_here(name, operation.version()).await;
        }
        match &operation {
            Operation::VolumeShow { name } => return self.show_volume_here(name).await,
            Operation::Space { lineage, lineages } => {
                return self.space_here(&wanted_space(*lineage, lineages)).await;
            }
            Operation::SettingList => return Ok(Answer::Settings(self.own_settings())),
            Operation::Alert(step) => return self.alerts_here(step.clone()).await,
            Operation::MetricsPart { .. } | Operation::Busiest(_) | Operation::LogsPart(_) => {
                return self.step_here(operation).await;
            }
            Operation::NodeJoin { .. }
            | Operation::CertificateRenew { .. }
            | Operation::AuthorityRotate => return self.sign_here(operation).await,
            Operation::StoreRemove { .. }
            | Operation::StoreScrub { .. }
            | Operation::DiskAdd(_)
            | Operation::DiskReplace { .. }
            | Operation::DiskLocate { .. }
            | Operation::DiskList => return self.disks_here(operation).await,
            _ => {}
        }
        let Some(name) = owned_by(&operation) else {
            return self.operate_anywhere(operation).await;
        };
        let volume = match self.at_hand(name, &operation) {
            Some(volume) => volume,
            None => {
                let id = self.volume_id(name).await?;
                self.acquire(id).await.map_err(refusal_error)?
            }
        };
        self.as_owner(&volume, &operation).await
    }

    async fn operate_anywhere(self: &Rc<Self>, operation: Operation) -> Result<Answer> {
        match operation {
            Operation::Status => self.status().await,
            Operation::ContainerCreate(spec) => self.create_container(spec).await,
            Operation::ContainerList => self.list_containers().await,
            Operation::ContainerShow { name } => self.show_container(&name).await,
            Operation::ContainerSet { name, change } => self.set_container(&name, &change).await,
            Operation::ContainerDelete { name } => self.delete_container(&name).await,
            Operation::VolumeCreate(spec) => self.create_volume(spec).await,
            Operation::Cluster => Ok(self.cluster()),
            Operation::Capacity { container, rf } => self.capacity(container, rf).await,
            Operation::Resiliency => self.resiliency().await,
            Operation::Space { lineage, lineages } => {
                self.space(&wanted_space(lineage, &lineages)).await
            }
            Operation::Events(query) => self.list_events(&query).await,
            Operation::Logs(query) => Box::pin(self.find_logs(&query)).await,
            Operation::LogReport { by, report } => Box::pin(self.keep_logs(by, report)).await,
            Operation::TaskList(query) => self.list_tasks(&query).await,
            Operation::TaskShow { id } => self.show_task(id).await,
            Operation::TaskCancel { id } => Box::pin(self.cancel_task(id)).await,
            Operation::Alert(operation) => self.alerts(operation).await,
            Operation::Kubernetes(operation) => Box::pin(self.kubernetes(operation)).await,
            Operation::Figures => self.figures().await,
            Operation::MetricsQuery(query) => self.query_metrics(&query).await,
            step @ (Operation::MetricsPart { .. } | Operation::LogsPart(_)) => {
                self.step_here(step).await
            }
            Operation::Busiest(query) => self.busiest(query).await,
            Operation::NodeShow { name } => self.show_node(&name).await,
            Operation::NodeSet { name, change } => self.set_node(&name, &change).await,
            Operation::NodeRemove { name, lost } => self.remove_node(&name, lost).await,
            Operation::StoreShow { id } => self.show_store(id).await,
            Operation::StoreSet { id, change } => self.set_store(id, &change).await,
            operation if operation.is_at_disks() => Box::pin(self.at_disks(operation)).await,
            Operation::DiskList => self.list_disks().await,
            Operation::CatalogShow => self.show_catalog().await,
            Operation::CatalogBackup => self.back_up_catalog().await,
            Operation::CatalogMove(target) => self.move_catalog(target).await,
            Operation::VolumeList(query) => self.list_volumes(&query).await,
            Operation::VolumeShow { name } => self.show_volume(&name).await,
            Operation::Glance { volume, snapshot } => self.glance(&volume, snapshot).await,
            Operation::VolumeDelete { name } => self.delete_volume(&name, None).await,
            Operation::SnapshotList(query) => self.list_snapshots(&query).await,
            Operation::SnapshotShow { id } => self.show_snapshot(id).await,
            Operation::SnapshotDelete { volume, name } => {
                self.delete_snapshot(&volume, &name).await
            }
            Operation::SnapshotDiff {
                volume,
                from,
                to,
                offset,
                limit,
            } => {
                let part = Part::new(offset, limit)?;
                self.diff_snapshots(&volume, from.as_deref(), to.as_deref(), part)
                    .await
            }
            Operation::GroupSnapshotCreate(spec) => {
                Box::pin(self.create_group_snapshot(spec)).await
            }
            Operation::GroupSnapshotList => self.list_group_snapshots().await,
            Operation::GroupSnapshotShow { id } => self.show_group_snapshot(&id).await,
            Operation::GroupSnapshotDelete { id } => self.delete_group_snapshot(&id).await,
            Operation::StoreList => Ok(self.list_stores().await),
            Operation::SettingList => self.list_settings().await,
            operation => Box::pin(self.operate_accounts(operation)).await,
        }
    }

    /// Operations on who may do what, on how the cluster trusts its members, and on where data is; the end of a quarantine, and what
    /// depends on a version.
    async fn operate_accounts(self: &Rc<Self>, operation: Operation) -> Result<Answer> {
        match operation {
            Operation::TokenCreate { spec, hash, user } => {
                self.create_token(spec, hash, user.as_deref()).await
            }
            Operation::TokenList => self.list_tokens().await,
            Operation::TokenShow { name, user } => self.show_token(&name, user.as_deref()).await,
            Operation::TokenDelete { name, user } => {
                self.delete_token(&name, user.as_deref()).await
            }
            Operation::TokenFind { hash } => self.find_token(&hash).await,
            Operation::UserCreate { name, role, hash } => self.create_user(name, role, hash).await,
            Operation::UserList => self.list_users().await,
            Operation::UserShow { name } => self.show_user(&name).await,
            Operation::GroupList => self.list_groups().await,
            Operation::GroupShow { id } => self.show_group(id).await,
            Operation::CloneList(query) => self.list_clones(&query).await,
            Operation::VolumeRelease { name } => self.release_volume(&name).await,
            Operation::Conditional { version, change } => {
                self.operate_conditionally(version, *change).await
            }
            Operation::UserSet { name, role, hash } => {
                self.set_user(&name, role, hash.as_deref()).await
            }
            Operation::UserDelete { name } => self.delete_user(&name).await,
            Operation::UserFind { name } => self.find_user(&name).await,
            Operation::SessionCreate {
                user,
                password,
                hash,
            } => self.create_session(&user, &password, hash).await,
            Operation::SessionFind { hash } => self.find_session(&hash).await,
            Operation::SessionDelete { hash } => self.delete_session(&hash).await,
            Operation::SessionList { user } => self.list_sessions(user.as_deref()).await,
            Operation::SessionEnd { id, user } => self.end_session(&id, user.as_deref()).await,
            Operation::Changes { after, mood } => {
                Ok(Answer::Changes(self.changes(after, &mood).await))
            }
            Operation::AuditRecord { entries } => self.record_audit(entries).await,
            Operation::Once(step) => self.once(step).await,
            Operation::AuditList(query) => self.list_audit(query).await,
            Operation::JoinTokenCreate { spec, hash } => self.create_join_token(spec, hash).await,
            Operation::NodeJoin { .. }
            | Operation::CertificateRenew { .. }
            | Operation::AuthorityRotate => Box::pin(self.at_signer(operation)).await,
            Operation::AuthorityShow => self.show_authority().await,
            Operation::AuthorityRetire(retirement) => self.retire_authority(retirement.force).await,
            other => Err(OperationError::failed(format!(
                "operation {} must go to the volume's owner; this is a bug",
                other.name()
            ))),
        }
    }

    async fn as_owner(
        self: &Rc<Self>,
        volume: &Rc<Volume>,
        operation: &Operation,
    ) -> Result<Answer> {
        match operation {
            Operation::Conditional { version, change } => {
                let work = Box::pin(self.as_owner(volume, change));
                self.on_top_of(*version, change, work).await
            }
            Operation::VolumeResize { size, .. } => self.resize_volume(volume, *size).await,
            Operation::VolumeDrain { .. } => self.drain_volume(volume).await,
            Operation::VolumeRestore { snapshot, .. } => {
                self.restore_volume(volume, snapshot).await
            }
            Operation::VolumeSet { change, .. } => self.set_volume(volume, change).await,
            Operation::VolumePause { pause, .. } => self.pause_volume(volume, pause).await,
            Operation::VolumeResume { pause, .. } => self.resume_volume(volume, pause),
            Operation::SnapshotCreate {
                name,
                labels,
                group,
                ..
            } => {
                let marks = SnapshotMarks {
                    labels: labels.clone(),
                    group: group.clone(),
                    // It outlives its volume, and is judged by this then.
                    inherited: vec![api::KUBERNETES_LABEL.to_owned()],
                };
                self.create_snapshot(volume, name, marks).await
            }
            Operation::SnapshotDiff {
                from,
                offset,
                limit,
                ..
            } => {
                let part = Part::new(*offset, *limit)?;
                self.diff_with_now(volume, from.as_deref(), part).await
            }
            Operation::Attach {
                client,
                read_only,
                shared,
                ..
            } => {
                let mode = volumes::attachment_mode(*read_only, *shared)?;
                self.attach(volume, client, mode).await
            }
            Operation::Detach { client, .. } => self.detach(volume, client.as_deref()).await,
            other => Err(OperationError::failed(format!(
                "operation {} does not need the volume's owner; this is a bug",
                other.name()
            ))),
        }
    }

    /// Finds or makes the owner and has it carry the operation out.
    pub(super) async fn at_owner(
        self: &Rc<Self>,
        name: &str,
        operation: &Operation,
    ) -> Result<Answer> {
        let began = self.world.now();
        let (mut unclear, mut again) = (false, false);
        if let Some(volume) = self.at_hand(name, operation) {
            let result = self.as_owner(&volume, operation).await;
            let missing = |error: &OperationError| error.kind == ErrorKind::NotFound;
            if !result
                .as_ref()
                .is_err_and(|error| is_unavailable(error) || missing(error))
            {
                return result;
            }
            again = result.as_ref().is_err_and(is_unavailable);
        }
        loop {
            let id = self.volume_id(name).await?;
            let result = match self.acquire(id).await {
                Ok(volume) => self.as_owner(&volume, operation).await,
                Err(Refusal::Elsewhere(node)) => {
                    let forwarded = self.forward(node, operation, &mut unclear).await;
                    let unreachable = forwarded.as_ref().is_err_and(is_unavailable);
                    if unreachable && self.may_seize(operation, began) {
                        self.seize(id, node).await;
                    }
                    forwarded
                }
                Err(refusal) => Err(refusal_error(refusal)),
            };
            match result {
                Err(error) if is_unavailable(&error) && self.within(began, OWNER_PATIENCE) => {
                    again = true;
                    self.world.sleep(RETRY_PAUSE).await;
                }
                Err(error) if error.kind == ErrorKind::Changed && (again || unclear) => {
                    return Err(conditions::perhaps_changed_by_this(&error));
                }
                Err(error) if error.kind == ErrorKind::Exists && unclear => {
                    return self.repeated(operation, error).await;
                }
                result => return result,
            }
        }
    }

    /// The volume of this name, if this node serves it: then the catalog need not be asked who does. It may have been deleted and
    /// made anew elsewhere, which its owner of before finds out with the first transaction.
    fn at_hand(&self, name: &str, operation: &Operation) -> Option<Rc<Volume>> {
        // A condition is compared with what is read here.
        let unconditional = operation.version().is_none();
        self.volumes.named(name).filter(|_| unconditional)
    }

    fn within(&self, began: Time, patience: Duration) -> bool {
        self.world.now().since(began) < patience
    }

    /// A detach must succeed although the owner does not answer: the epoch grows, and the old owner's
    /// sessions are fenced.
    fn may_seize(&self, operation: &Operation, began: Time) -> bool {
        matches!(operation.bare(), Operation::Detach { .. }) && !self.within(began, SEIZE_AFTER)
    }

    /// Makes this node the volume's owner in the catalog although `from` is, which holds its lease and does not answer.
    async fn seize(&self, id: VolumeId, from: NodeId) {
        let Ok(found) = self.catalog.volume(id).await else {
            return;
        };
        // Whoever has taken it over meanwhile, and be it this node, serves it: a newer term would end that.
        if found.row.owner == Some(from) {
            // The next attempt finds this node named as the owner, and opens the volume.
            let _ = self.catalog.take_over(id, found.row.epoch, self.id).await;
        }
    }

    /// Asks the node that serves a volume, or another one that can, to carry the operation out.
    pub(crate) async fn forward(
        &self,
        node: NodeId,
        operation: &Operation,
        unclear: &mut bool,
    ) -> Result<Answer> {
        let patience = match operation.bare() {
            Operation::Detach { .. } => DETACH_PATIENCE,
            _ => FORWARD_PATIENCE,
        };
        let answer = self.ask_node(node, operation, patience, unclear).await;
        answer.unwrap_or_else(|reason| {
            let name = self.members.node_name(node);
            Err(OperationError::unavailable(format!(
                "node {name} serves the volume and {reason}"
            )))
        })
    }

    /// What a node answers to an operation that it carries out itself; the error says why it does not answer.
    async fn ask_node(
        &self,
        node: NodeId,
        operation: &Operation,
        patience: Duration,
        unclear: &mut bool,
    ) -> std::result::Result<Result<Answer>, String> {
        let Some(peer) = self.remote.peer(node, Lane::Log) else {
            return Err("its address is not known here yet".to_owned());
        };
        let forwarded = Forwarded {
            asker: self.askers.now(),
            operation: operation.clone(),
        };
        let encoded = serde_json::to_vec(&forwarded).expect("operations are plain data");
        let request = NodeRequest::Operate { operation: encoded };
        let call = peer.call(Request::Node(request), Vec::new());
        let answer = match self.world.timeout(patience, call).await {
            Ok(Ok((Reply::Node(Ok(NodeReply::Answer { answer })), _))) => answer,
            Ok(Ok((Reply::Node(Err(error)), _))) => return Err(error.to_string()),
            Ok(Ok((Reply::Refused(reason), _))) => return Err(reason),
            Ok(Ok(_)) => return Err("gave an answer of another kind".to_owned()),
            Ok(Err(error)) => {
                *unclear |= matches!(error, RpcError::Lost { .. } | RpcError::Closed { .. });
                return Err(format!("does not answer: {error}"));
            }
            Err(_) => {
                *unclear = true;
                return Err("does not answer in time".to_owned());
            }
        };
        serde_json::from_slice::<Result<Answer>>(&answer)
            .map_err(|error| format!("gave an answer that makes no sense here ({error})"))
    }

    /// An attempt whose answer was lost has done it.
    async fn repeated(&self, operation: &Operation, error: OperationError) -> Result<Answer> {
        match operation {
            Operation::SnapshotCreate { volume, name, .. } => {
                self.find_snapshot(volume, name).await
            }
            _ => Err(error),
        }
    }

    /// Drains a volume, wherever it is served.
    pub(crate) async fn drain_anywhere(self: &Rc<Self>, id: VolumeId) {
        let Ok(row) = self.catalog.volume(id).await else {
            return;
        };
        let name = row.row.name;
        match self.acquire(id).await {
            Ok(volume) => drop(volume.drain().await),
            Err(Refusal::Elsewhere(node)) => {
                let drain = Operation::VolumeDrain { name };
                // A step of what somebody asked for, which has a task: there is none of this.
                let nobody = Asker {
                    who: String::new(),
                    ..self.askers.now()
                };
                let (host, asked) = (self.clone(), drain.clone());
                let work = async move { host.forward(node, &asked, &mut false).await };
                let _ = self.on_behalf(nobody, &drain, work).await;
            }
            Err(_) => {}
        }
    }

    /// The id of a volume, by its name or, for one that is deleted and has snapshots, as `volume-12`.
    pub(crate) async fn volume_id(&self, name: &str) -> Result<VolumeId> {
        match self.catalog.volume_named(name).await {
            Ok(found) => Ok(found.row.id),
            Err(error @ CatalogError::NotFound { .. }) => {
                let number = name
                    .strip_prefix("volume-")
                    .and_then(|text| text.parse().ok());
                number.map(VolumeId).ok_or_else(|| catalog_error(error))
            }
            Err(error) => Err(catalog_error(error)),
        }
    }
}

fn is_unavailable(error: &OperationError) -> bool {
    error.kind == ErrorKind::Unavailable
}
