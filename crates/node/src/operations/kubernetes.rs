//! Kubernetes clusters and their claims: what drivers report, and the volumes here that belong to it.
//!
//! State in memory: the rows of claims and volumes that were read last, decoded. It is only a saving: whether they are as they were
//! is asked of the catalog each time.
//!
//! Invariants
//! - Only volumes that bear the label of a Kubernetes cluster are shown as its own, whatever handles are reported: who reports for one
//!   cluster learns nothing of the volumes of another.
//! - A claim has the volume that its handle names. One without a handle has the volume whose labels name it, unless these name another
//!   persistent volume: that is a claim of the same name which is no more.
//! - A volume whose labels name a claim that was not reported stands in the list for that claim.
//! - Claims are ordered by namespace, name and uid, and a page costs what is on it, beside one look at each claim and volume.

use super::{Result, catalog_error};
use crate::host::Host;
use api::kubernetes::{
    CLAIM_LABEL, CLAIM_NAMESPACE_LABEL, CLAIM_UNKNOWN, CLAIMS_LIMIT_MAX, ClaimAnswer, ClaimFacts,
    ClaimQuery, ClaimVolume, ClaimsAnswer, KUBERNETES_LABEL, KubernetesAnswer,
    KubernetesListAnswer, KubernetesOperation, KubernetesReport, PERSISTENT_VOLUME_LABEL, PodFacts,
    ReportedAnswer, SILENT_MS, StorageClassFacts,
};
use api::query::INTERNAL_LABEL;
use api::sort::{Key, Part};
use api::{Answer, OperationError};
use catalog::{
    ClaimRow, KnownRows, KubernetesClass, KubernetesNews, KubernetesPod, KubernetesRow, Row,
    Versioned, VolumeRow,
};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::rc::Rc;
use vocab::{BLOCK_BYTES, ContainerId, VolumeId};

/// Claims of all clusters that are kept decoded, of about 1 KiB: those of the cluster that was asked for last, and of others as far as
/// they fit.
const KEPT_MAX: usize = 40_000;
/// State of a claim that has a volume.
const BOUND: &str = "Bound";

/// Namespace, name and uid: where a claim is in the list.
type Place = (String, String, String);

/// Rows that were read last.
#[derive(Default)]
pub(crate) struct KnownClaims {
    clusters: RefCell<BTreeMap<String, Rc<Known>>>,
    volumes: RefCell<Rc<KnownRows<VolumeRow>>>,
}

/// What was reported of a cluster.
#[derive(Default)]
struct Known {
    /// Nothing: labels alone tell of it.
    row: Option<Versioned<KubernetesRow>>,
    rows: KnownRows<ClaimRow>,
    claims: BTreeMap<Place, Rc<ClaimRow>>,
    /// Volumes that handles name.
    held: BTreeSet<VolumeId>,
}

/// The volume that a handle names: `<id of this cluster>-v12`.
fn volume_of(cluster_id: &str, handle: &str) -> Option<VolumeId> {
    let number = handle.strip_prefix(cluster_id)?.strip_prefix("-v")?;
    number.parse().ok().map(VolumeId)
}

impl Known {
    fn new(row: Versioned<KubernetesRow>, rows: KnownRows<ClaimRow>, cluster_id: &str) -> Self {
        let place = |claim: &Rc<ClaimRow>| {
            let (namespace, name) = (claim.namespace.clone(), claim.name.clone());
            ((namespace, name, claim.uid.clone()), claim.clone())
        };
        let held = rows.rows().filter_map(|claim| {
            let handle = claim.handle.as_deref()?;
            volume_of(cluster_id, handle)
        });
        Self {
            claims: rows.rows().map(place).collect(),
            held: held.collect(),
            row: Some(row),
            rows,
        }
    }

    /// The claim that waits for a volume with these labels.
    fn waiting(&self, namespace: &str, name: &str, volume: &VolumeRow) -> Option<&ClaimRow> {
        let label = volume.labels.get(PERSISTENT_VOLUME_LABEL);
        let fits = |claim: &ClaimRow| {
            label.is_none_or(|label| {
                claim.persistent_volume.as_ref() == Some(label)
                    || label.strip_prefix("pvc-") == Some(claim.uid.as_str())
            })
        };
        let first = (namespace.to_owned(), name.to_owned(), String::new());
        let later = self.claims.range(first..).map(|(_, claim)| &**claim);
        let mut same = later.take_while(|claim| claim.namespace == namespace && claim.name == name);
        same.find(|claim| claim.handle.is_none() && fits(claim))
    }
}

/// Volumes by the Kubernetes cluster that their label names: one look at each. Pure.
fn by_cluster<'a>(
    volumes: impl Iterator<Item = &'a Rc<VolumeRow>>,
) -> BTreeMap<String, Vec<&'a Rc<VolumeRow>>> {
    let mut all: BTreeMap<String, Vec<&'a Rc<VolumeRow>>> = BTreeMap::new();
    for row in volumes {
        let is_shown = !row.labels.contains_key(INTERNAL_LABEL);
        let Some(name) = row.labels.get(KUBERNETES_LABEL).filter(|_| is_shown) else {
            continue;
        };
        match all.get_mut(name) {
            Some(own) => own.push(row),
            None => drop(all.insert(name.clone(), vec![row])),
        }
    }
    all
}

/// A cluster with its volumes.
struct Joined {
    known: Rc<Known>,
    volumes: BTreeMap<VolumeId, Rc<VolumeRow>>,
    /// Volumes of claims without a handle, by uid.
    by_label: BTreeMap<String, VolumeId>,
    /// Volumes of claims that were not reported, in order.
    loose: Vec<(Place, Rc<VolumeRow>)>,
}

/// An entry of the list.
enum Item<'a> {
    Claim(&'a Rc<ClaimRow>),
    Loose(&'a Place, &'a Rc<VolumeRow>),
}

impl Joined {
    fn new<'a>(
        name: &str,
        known: Rc<Known>,
        volumes: impl Iterator<Item = &'a Rc<VolumeRow>>,
    ) -> Self {
        let mut joined = Self {
            known,
            volumes: BTreeMap::new(),
            by_label: BTreeMap::new(),
            loose: Vec::new(),
        };
        for row in volumes {
            joined.take(name, row);
        }
        joined.loose.sort_by(|one, other| one.0.cmp(&other.0));
        joined
    }

    /// Takes a volume in, if it belongs here.
    fn take(&mut self, name: &str, row: &Rc<VolumeRow>) {
        let label = |key: &str| row.labels.get(key).map(String::as_str);
        if label(KUBERNETES_LABEL) != Some(name) || label(INTERNAL_LABEL).is_some() {
            return;
        }
        self.volumes.insert(row.id, row.clone());
        let held = self.known.held.contains(&row.id);
        let claim = label(CLAIM_NAMESPACE_LABEL).zip(label(CLAIM_LABEL));
        let Some((namespace, claim)) = claim.filter(|_| !held) else {
            return;
        };
        if let Some(waiting) = self.known.waiting(namespace, claim, row) {
            self.by_label.insert(waiting.uid.clone(), row.id);
            return;
        }
        let uid = format!("volume-{}", row.id.0);
        let place = (namespace.to_owned(), claim.to_owned(), uid);
        self.loose.push((place, row.clone()));
    }

    fn is_there(&self) -> bool {
        self.known.row.is_some() || !self.volumes.is_empty()
    }

    /// Everything behind a place, in order.
    fn behind(&self, after: Option<Place>) -> impl Iterator<Item = Item<'_>> {
        let first = self
            .loose
            .partition_point(|(place, _)| after.as_ref().is_some_and(|after| place <= after));
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut claims = self.known.claims.range((from, Bound::Unbounded)).peekable();
        let mut loose = self.loose[first..].iter().peekable();
        std::iter::from_fn(move || {
            let is_loose = match (claims.peek(), loose.peek()) {
                (Some((claim, _)), Some((place, _))) => place < *claim,
                (claim, _) => claim.is_none(),
            };
            match is_loose {
                true => loose.next().map(|(place, row)| Item::Loose(place, row)),
                false => claims.next().map(|(_, claim)| Item::Claim(claim)),
            }
        })
    }

    fn volume(&self, cluster_id: &str, item: &Item<'_>) -> Option<&Rc<VolumeRow>> {
        let claim = match item {
            Item::Loose(_, row) => return self.volumes.get(&row.id),
            Item::Claim(claim) => claim,
        };
        let id = match &claim.handle {
            Some(handle) => volume_of(cluster_id, handle),
            None => self.by_label.get(&claim.uid).copied(),
        };
        self.volumes.get(&id?)
    }
}

impl Item<'_> {
    fn fits(&self, query: &ClaimQuery) -> bool {
        let (namespace, name, status) = match self {
            Self::Claim(claim) => (&claim.namespace, &claim.name, claim.status.as_str()),
            Self::Loose((namespace, name, _), _) => (namespace, name, CLAIM_UNKNOWN),
        };
        let is = |wanted: &Option<String>, text: &str| {
            wanted.as_deref().is_none_or(|wanted| wanted == text)
        };
        is(&query.namespace, namespace) && is(&query.name, name) && is(&query.status, status)
    }

    fn place(&self) -> Place {
        match self {
            Self::Claim(claim) => {
                let (namespace, name) = (claim.namespace.clone(), claim.name.clone());
                (namespace, name, claim.uid.clone())
            }
            Self::Loose(place, _) => (*place).clone(),
        }
    }

    /// What it has in a field that claims can be ordered by.
    fn key(&self, field: &str) -> Key {
        match (self, field) {
            (Self::Claim(claim), "name") => claim.name.as_str().into(),
            (Self::Loose((_, name, _), _), "name") => name.as_str().into(),
            (Self::Claim(claim), "status") => claim.status.as_str().into(),
            (Self::Loose(..), "status") => CLAIM_UNKNOWN.into(),
            (Self::Claim(claim), "class") => claim.class.as_deref().into(),
            (Self::Claim(claim), "requested") => claim.requested.into(),
            (Self::Claim(claim), "capacity") => claim.capacity.into(),
            (Self::Claim(claim), "created") => claim.created_ms.into(),
            _ => Key::Nothing,
        }
    }

    fn answer(&self) -> ClaimAnswer {
        match self {
            Self::Claim(claim) => ClaimAnswer::from(facts(claim)),
            Self::Loose((namespace, name, uid), row) => ClaimAnswer {
                key: format!("{namespace}/{name}/{uid}"),
                namespace: namespace.clone(),
                name: name.clone(),
                status: CLAIM_UNKNOWN.to_owned(),
                persistent_volume: row.labels.get(PERSISTENT_VOLUME_LABEL).cloned(),
                ..ClaimAnswer::default()
            },
        }
    }
}

fn facts(row: &ClaimRow) -> ClaimFacts {
    let pod = |pod: &KubernetesPod| PodFacts {
        name: pod.name.clone(),
        phase: pod.phase.clone(),
        node: pod.node.clone(),
    };
    ClaimFacts {
        uid: row.uid.clone(),
        namespace: row.namespace.clone(),
        name: row.name.clone(),
        class: row.class.clone(),
        status: row.status.clone(),
        reason: row.reason.clone(),
        requested: row.requested,
        capacity: row.capacity,
        access_modes: row.access_modes.clone(),
        volume_mode: row.volume_mode.clone(),
        reclaim_policy: row.reclaim_policy.clone(),
        persistent_volume: row.persistent_volume.clone(),
        handle: row.handle.clone(),
        created_ms: row.created_ms,
        pods: row.pods.iter().map(pod).collect(),
        pods_more: row.pods_more,
        attached: row.attached.clone(),
    }
}

fn claim_row(cluster: &str, facts: ClaimFacts) -> ClaimRow {
    let pod = |pod: PodFacts| KubernetesPod {
        name: pod.name,
        phase: pod.phase,
        node: pod.node,
    };
    ClaimRow {
        cluster: cluster.to_owned(),
        uid: facts.uid,
        namespace: facts.namespace,
        name: facts.name,
        class: facts.class,
        status: facts.status,
        reason: facts.reason,
        requested: facts.requested,
        capacity: facts.capacity,
        access_modes: facts.access_modes,
        volume_mode: facts.volume_mode,
        reclaim_policy: facts.reclaim_policy,
        persistent_volume: facts.persistent_volume,
        handle: facts.handle,
        created_ms: facts.created_ms,
        pods: facts.pods.into_iter().map(pod).collect(),
        pods_more: facts.pods_more,
        attached: facts.attached,
    }
}

fn class_row(facts: StorageClassFacts) -> KubernetesClass {
    KubernetesClass {
        name: facts.name,
        default: facts.default,
        parameters: facts.parameters,
        reclaim_policy: facts.reclaim_policy,
        binding_mode: facts.binding_mode,
        expansion: facts.expansion,
        mount_options: facts.mount_options,
    }
}

fn class_facts(row: &KubernetesClass) -> StorageClassFacts {
    let row = row.clone();
    StorageClassFacts {
        name: row.name,
        default: row.default,
        parameters: row.parameters,
        reclaim_policy: row.reclaim_policy,
        binding_mode: row.binding_mode,
        expansion: row.expansion,
        mount_options: row.mount_options,
    }
}

impl KnownClaims {
    fn keep(&self, name: &str, known: &Rc<Known>) {
        let mut clusters = self.clusters.borrow_mut();
        clusters.insert(name.to_owned(), known.clone());
        let all: usize = clusters.values().map(|known| known.claims.len()).sum();
        if all > KEPT_MAX {
            clusters.retain(|kept, _| kept == name);
        }
    }
}

impl Host {
    /// Carries out what is asked about Kubernetes clusters.
    pub(super) async fn kubernetes(&self, operation: KubernetesOperation) -> Result<Answer> {
        match operation {
            KubernetesOperation::List => self.list_kubernetes().await,
            KubernetesOperation::Show { name } => self.show_kubernetes(&name).await,
            KubernetesOperation::Claims { name, query } => self.list_claims(&name, &query).await,
            KubernetesOperation::Report { name, report } => {
                self.report_kubernetes(&name, report).await
            }
            KubernetesOperation::Forget { name } => {
                let forgotten = self.catalog.forget_kubernetes(&name).await;
                forgotten.map_err(catalog_error)?;
                Ok(Answer::Done)
            }
        }
    }

    async fn report_kubernetes(&self, name: &str, report: KubernetesReport) -> Result<Answer> {
        if let Some(problem) = report.problem() {
            return Err(OperationError::bad_request(problem));
        }
        let claims = report.claims.into_iter();
        let classes = report.classes;
        let news = KubernetesNews {
            name: name.to_owned(),
            uid: report.uid,
            version: report.version,
            driver: report.driver,
            classes: classes.map(|all| all.into_iter().map(class_row).collect()),
            claims: claims.map(|claim| claim_row(name, claim)).collect(),
            gone: report.gone,
            now_ms: self.world.clock.unix_ms(),
        };
        let taken = self.catalog.report_kubernetes(&news).await;
        let claims = taken.map_err(catalog_error)?;
        Ok(Answer::Reported(ReportedAnswer { claims }))
    }

    async fn show_kubernetes(&self, name: &str) -> Result<Answer> {
        let joined = self.joined(name, None).await?;
        Ok(Answer::Kubernetes(self.describe_kubernetes(name, &joined)))
    }

    async fn list_kubernetes(&self) -> Result<Answer> {
        let rows = self.catalog.list::<KubernetesRow>().await;
        let rows = rows.map_err(catalog_error)?.into_iter();
        let mut rows: BTreeMap<String, Versioned<KubernetesRow>> =
            rows.map(|found| (found.row.name.clone(), found)).collect();
        let volumes = self.known_volumes().await?;
        let mut all = by_cluster(volumes.rows());
        for name in rows.keys() {
            all.entry(name.clone()).or_default();
        }
        let mut items = Vec::new();
        for (name, volumes) in &all {
            let known = self.known_claims(name, rows.remove(name)).await?;
            let joined = Joined::new(name, known, volumes.iter().copied());
            items.push(self.describe_kubernetes(name, &joined));
        }
        Ok(Answer::KubernetesList(KubernetesListAnswer { items }))
    }

    async fn list_claims(&self, name: &str, query: &ClaimQuery) -> Result<Answer> {
        if let Some(problem) = query.problem() {
            return Err(OperationError::bad_request(problem));
        }
        let wanted = match &query.volume {
            Some(volume) => Some(self.volume_id(volume).await?),
            None => None,
        };
        let containers = self.containers_of(&query.containers).await?;
        let joined = self.joined(name, containers.as_ref()).await?;
        let limit = query.limit.unwrap_or(CLAIMS_LIMIT_MAX) as usize;
        let after = query
            .place()
            .map(|(namespace, name, uid)| (namespace.to_owned(), name.to_owned(), uid.to_owned()));
        let volume = |item: &Item<'_>| joined.volume(&self.cluster_id, item);
        let wants = |item: &Item<'_>| {
            let has = |wanted| volume(item).map(|row| row.id) == Some(wanted);
            item.fits(query) && wanted.is_none_or(has)
        };
        let items: Vec<Item<'_>> = match query.sort {
            None => {
                let behind = joined.behind(after).filter(wants);
                behind.take(limit.saturating_add(1)).collect()
            }
            Some(sort) => {
                let part = Part {
                    order: sort.order(),
                    after,
                    limit: limit.saturating_add(1),
                };
                let all = joined.behind(None).collect();
                part.of(all, Item::place, Item::key, wants)?
            }
        };
        let more = items.len() > limit;
        let describe = |item: Item<'_>| ClaimAnswer {
            volume: volume(&item).map(|row| self.claim_volume(row)),
            ..item.answer()
        };
        let items: Vec<ClaimAnswer> = items.into_iter().take(limit).map(describe).collect();
        let last = items.last().filter(|_| more);
        Ok(Answer::Claims(ClaimsAnswer {
            next: last.map(|last| last.key.clone()),
            items,
        }))
    }

    /// A cluster with its volumes, of these containers where that is said.
    async fn joined(
        &self,
        name: &str,
        containers: Option<&BTreeSet<ContainerId>>,
    ) -> Result<Joined> {
        let row = self.catalog.kubernetes(name).await;
        let known = self.known_claims(name, row.map_err(catalog_error)?).await?;
        let volumes = self.known_volumes().await?;
        let inside = |row: &&Rc<VolumeRow>| {
            containers.is_none_or(|containers| containers.contains(&row.container))
        };
        let joined = Joined::new(name, known, volumes.rows().filter(inside));
        match joined.is_there() {
            true => Ok(joined),
            false => Err(OperationError::not_found(format!(
                "there is no Kubernetes cluster {name}: nobody has reported of it, and no volume has the label \
                 {KUBERNETES_LABEL}={name}"
            ))),
        }
    }

    /// The claims of a cluster whose row was just read.
    async fn known_claims(
        &self,
        name: &str,
        row: Option<Versioned<KubernetesRow>>,
    ) -> Result<Rc<Known>> {
        let Some(row) = row else {
            self.claims.clusters.borrow_mut().remove(name);
            return Ok(Rc::default());
        };
        let known = self.claims.clusters.borrow().get(name).cloned();
        let known = known.unwrap_or_default();
        if known.row.as_ref() == Some(&row) {
            return Ok(known);
        }
        let prefix = ClaimRow::prefix_of(name);
        let rows = known.rows.refreshed(&self.catalog, &prefix).await;
        let rows = rows.map_err(catalog_error)?;
        let fresh = Rc::new(Known::new(row, rows, &self.cluster_id));
        self.claims.keep(name, &fresh);
        Ok(fresh)
    }

    pub(super) async fn known_volumes(&self) -> Result<Rc<KnownRows<VolumeRow>>> {
        let known = self.claims.volumes.borrow().clone();
        let rows = known.refreshed(&self.catalog, VolumeRow::PREFIX).await;
        let rows = Rc::new(rows.map_err(catalog_error)?);
        self.claims.volumes.replace(rows.clone());
        Ok(rows)
    }

    /// Bytes that a volume maps, as far as this node knows.
    fn mapped_bytes(&self, row: &VolumeRow) -> u64 {
        let own = self.volumes.get(row.id).map(|volume| volume.status());
        let map = own.map_or(row.root.map, |status| status.root.map);
        map.mapped_blocks * BLOCK_BYTES
    }

    fn claim_volume(&self, row: &VolumeRow) -> ClaimVolume {
        ClaimVolume {
            id: row.id.0,
            name: row.name.clone(),
            size: row.size.0,
            used: Some(self.mapped_bytes(row)),
            state: super::volumes::state_of(row).0.to_owned(),
            clients: row.attachment.clients.clone(),
        }
    }

    fn describe_kubernetes(&self, name: &str, joined: &Joined) -> KubernetesAnswer {
        let known = &joined.known;
        let claims = known.claims.values();
        let bound = claims.filter(|claim| claim.status == BOUND).count() as u64;
        let reported = known.claims.len() as u64;
        let volumes = joined.volumes.values();
        let mut answer = KubernetesAnswer {
            name: name.to_owned(),
            claims: reported + joined.loose.len() as u64,
            bound,
            pending: reported - bound,
            volumes: joined.volumes.len() as u64,
            size: volumes.clone().map(|row| row.size.0).sum(),
            used: volumes.map(|row| self.mapped_bytes(row)).sum(),
            ..KubernetesAnswer::default()
        };
        if let Some(Versioned { row, .. }) = &known.row {
            let since = self.world.clock.unix_ms().saturating_sub(row.reported_ms);
            answer.uid = Some(row.uid.clone());
            answer.version = Some(row.version.clone());
            answer.driver = Some(row.driver.clone());
            answer.reported_ms = Some(row.reported_ms);
            answer.silent = since > SILENT_MS;
            answer.classes = row.classes.iter().map(class_facts).collect();
        }
        answer
    }
}
