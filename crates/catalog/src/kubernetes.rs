//! What drivers report of the Kubernetes clusters that they serve: one row per cluster, one per claim.
//!
//! Invariants
//! - Whatever writes a claim replaces the cluster's row in the same transaction and compares it: `claims` is exact, no claim is
//!   without its cluster, no two clusters of one name are mixed, and whoever finds the cluster's row as it was knows its claims.
//! - A row that is as it was is not written; that something was reported is noted every [`REPORTED_STEP_MS`].
//! - A report may end in the middle: what it has told is right, and the rest is told again.
//! - At most [`KUBERNETES_MAX`] clusters with [`CLAIMS_MAX`] claims each.
//!
//! Nothing here is noted on disks or backed up: drivers tell it again.

use crate::access::{Catalog, CatalogError, Transaction, Versioned, decode};
use crate::kv::{Op, Page, Revision};
use crate::rows::Row;
use crate::volumes::check_name;
use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::rc::Rc;

/// Kubernetes clusters at most.
pub const KUBERNETES_MAX: usize = 64;
/// Claims of each at most, of some 600 bytes: 12 MB.
pub const CLAIMS_MAX: u64 = 20_000;
/// How often it is noted that something was reported.
pub const REPORTED_STEP_MS: u64 = 30_000;
/// Claims written or deleted by one transaction, beside the cluster's row.
const AT_ONCE: usize = 100;
const _: () = assert!(AT_ONCE < 128);
/// Rounds of compare-and-swap: two drivers report the same cluster through several nodes.
const ROUNDS_MAX: usize = 32;
/// Rounds of forgetting: every claim, and those lost to a driver that reports meanwhile.
const FORGET_ROUNDS_MAX: usize = CLAIMS_MAX as usize / AT_ONCE + ROUNDS_MAX;
/// Rows read by one range call.
const PAGE_ROWS: usize = 500;

/// A storage class.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KubernetesClass {
    /// Its name.
    pub name: String,
    /// Whether claims without a class get it.
    #[serde(default)]
    pub default: bool,
    /// Its parameters.
    #[serde(default)]
    pub parameters: BTreeMap<String, String>,
    /// `Delete` or `Retain`.
    #[serde(default)]
    pub reclaim_policy: String,
    /// `Immediate` or `WaitForFirstConsumer`.
    #[serde(default)]
    pub binding_mode: String,
    /// Whether claims may grow.
    #[serde(default)]
    pub expansion: bool,
    /// Options of its mounts.
    #[serde(default)]
    pub mount_options: Vec<String>,
}

/// A Kubernetes cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KubernetesRow {
    /// Its name.
    pub name: String,
    /// The uid of its namespace `kube-system`.
    pub uid: String,
    /// Its version.
    pub version: String,
    /// Version of the driver.
    pub driver: String,
    /// Storage classes with this driver.
    #[serde(default)]
    pub classes: Vec<KubernetesClass>,
    /// When something was reported last, Unix milliseconds, within [`REPORTED_STEP_MS`].
    #[serde(default)]
    pub reported_ms: u64,
    /// Its claims.
    #[serde(default)]
    pub claims: u64,
}

impl Row for KubernetesRow {
    const PREFIX: &'static str = "kubernetes/";
    fn key(&self) -> String {
        Self::key_of(&self.name)
    }
}

impl KubernetesRow {
    fn key_of(name: &str) -> String {
        format!("{}{name}", Self::PREFIX)
    }
}

/// A pod that uses a claim.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KubernetesPod {
    /// Its name.
    pub name: String,
    /// Such as `Running`.
    pub phase: String,
    /// The Kubernetes node it runs on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
}

/// A claim.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimRow {
    /// Name of its Kubernetes cluster.
    pub cluster: String,
    /// Its uid.
    pub uid: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its storage class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// `Pending`, `Bound`, `Lost` or `Terminating`.
    pub status: String,
    /// Why it is pending.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Bytes asked for.
    #[serde(default)]
    pub requested: u64,
    /// Bytes it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity: Option<u64>,
    /// Such as `ReadWriteOnce`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub access_modes: Vec<String>,
    /// `Filesystem` or `Block`.
    #[serde(default)]
    pub volume_mode: String,
    /// `Delete` or `Retain`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reclaim_policy: Option<String>,
    /// Its persistent volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub persistent_volume: Option<String>,
    /// Handle of its volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handle: Option<String>,
    /// When it was created, Unix milliseconds.
    #[serde(default)]
    pub created_ms: u64,
    /// Pods that use it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pods: Vec<KubernetesPod>,
    /// How many more there are.
    #[serde(default)]
    pub pods_more: u32,
    /// Kubernetes nodes that its volume is attached to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attached: Vec<String>,
}

impl Row for ClaimRow {
    const PREFIX: &'static str = "claim/";
    fn key(&self) -> String {
        Self::key_of(&self.cluster, &self.uid)
    }
}

impl ClaimRow {
    /// Prefix of the keys of all claims of a cluster.
    #[must_use]
    pub fn prefix_of(cluster: &str) -> String {
        format!("{}{cluster}/", Self::PREFIX)
    }

    fn key_of(cluster: &str, uid: &str) -> String {
        format!("{}{cluster}/{uid}", Self::PREFIX)
    }
}

/// What is reported of a cluster.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct KubernetesNews {
    /// Its name.
    pub name: String,
    /// The uid of its namespace `kube-system`.
    pub uid: String,
    /// Its version.
    pub version: String,
    /// Version of the driver.
    pub driver: String,
    /// Storage classes; nothing: as before.
    pub classes: Option<Vec<KubernetesClass>>,
    /// Claims that are new or changed, each of this cluster and named once.
    pub claims: Vec<ClaimRow>,
    /// Uids of claims that are no more.
    pub gone: Vec<String>,
    /// Now, Unix milliseconds.
    pub now_ms: u64,
}

/// What becomes of one claim.
#[derive(Clone, Copy)]
enum Step<'a> {
    Put(&'a ClaimRow),
    Forget(&'a str),
}

impl Step<'_> {
    fn key(&self, cluster: &str) -> String {
        match self {
            Self::Put(row) => row.key(),
            Self::Forget(uid) => ClaimRow::key_of(cluster, uid),
        }
    }
}

/// The cluster's row as a report leaves it.
fn reported(
    news: &KubernetesNews,
    before: Option<&KubernetesRow>,
) -> Result<KubernetesRow, CatalogError> {
    let before = before.cloned().unwrap_or_else(|| KubernetesRow {
        name: news.name.clone(),
        uid: news.uid.clone(),
        ..KubernetesRow::default()
    });
    if before.uid != news.uid {
        return Err(CatalogError::Taken(format!(
            "the name {} is used by another Kubernetes cluster, whose namespace kube-system has the uid {}, and this one's has {}: \
             give this one another name, or forget the other one if it is no more (`azekura kubernetes forget {}`)",
            news.name, before.uid, news.uid, news.name
        )));
    }
    Ok(KubernetesRow {
        version: news.version.clone(),
        driver: news.driver.clone(),
        classes: news.classes.clone().unwrap_or(before.classes),
        ..before
    })
}

/// Everything that a part of a report writes; `None`: nothing.
fn transaction(
    news: &KubernetesNews,
    cluster: Option<&Versioned<KubernetesRow>>,
    claims: &[(Step<'_>, Option<ClaimRow>)],
) -> Result<Option<Transaction>, CatalogError> {
    let mut row = reported(news, cluster.map(|found| &found.row))?;
    let mut change = Transaction::new();
    let before = row.claims;
    let mut written = false;
    for (step, known) in claims {
        change = match (step, known) {
            (Step::Put(claim), known) if known.as_ref() != Some(*claim) => {
                row.claims += u64::from(known.is_none());
                change.put(*claim)
            }
            (Step::Forget(_), Some(known)) => {
                row.claims = row.claims.saturating_sub(1);
                change.write(Op::Delete(known.key()))
            }
            _ => continue,
        };
        written = true;
    }
    if row.claims > CLAIMS_MAX.max(before) {
        return Err(CatalogError::Refused(format!(
            "Kubernetes cluster {} has more than {CLAIMS_MAX} claims, and no more are kept: those that were told before are shown",
            news.name
        )));
    }
    let is_same = cluster.is_some_and(|found| found.row == row);
    // A clock that was far ahead once does not count for ever.
    let is_noted = news.now_ms.abs_diff(row.reported_ms) < REPORTED_STEP_MS;
    if is_same && is_noted && !written {
        return Ok(None);
    }
    row.reported_ms = news.now_ms;
    Ok(Some(match cluster {
        Some(found) => change.replace(found, &row),
        None => change.create(&row),
    }))
}

impl Catalog {
    /// Takes over what is reported of a Kubernetes cluster. May be repeated.
    ///
    /// # Errors
    /// [`CatalogError::Taken`] by a cluster of another uid; [`CatalogError::Refused`] for a bad name, or too many clusters or claims,
    /// when parts of the report may have been taken over; [`CatalogError::Contended`], [`CatalogError::Kv`],
    /// [`CatalogError::Damaged`].
    pub async fn report_kubernetes(&self, news: &KubernetesNews) -> Result<u64, CatalogError> {
        check_name("Kubernetes cluster", &news.name)?;
        // Those that are gone make room.
        let gone = news.gone.iter().map(|uid| Step::Forget(uid));
        let steps: Vec<Step<'_>> = gone.chain(news.claims.iter().map(Step::Put)).collect();
        let mut parts = steps.chunks(AT_ONCE);
        // A report of nothing says that somebody is there.
        self.report_part(news, parts.next().unwrap_or_default())
            .await?;
        for part in parts {
            self.report_part(news, part).await?;
        }
        let cluster = self.kubernetes(&news.name).await?;
        Ok(cluster.map_or(0, |found| found.row.claims))
    }

    async fn report_part(
        &self,
        news: &KubernetesNews,
        part: &[Step<'_>],
    ) -> Result<(), CatalogError> {
        for _ in 0..ROUNDS_MAX {
            let key = KubernetesRow::key_of(&news.name);
            let cluster = self.read::<KubernetesRow>(&key).await?;
            if cluster.is_none() {
                self.check_kubernetes_room().await?;
            }
            // Read after the cluster's row, which whoever changes them replaces.
            let claims = self.known_claims(&news.name, part).await?;
            let Some(change) = transaction(news, cluster.as_ref(), &claims)? else {
                return Ok(());
            };
            if self.commit(change).await?.is_some() {
                return Ok(());
            }
        }
        Err(CatalogError::Contended)
    }

    /// Each step with the claim as it is now.
    async fn known_claims<'a>(
        &self,
        cluster: &str,
        part: &[Step<'a>],
    ) -> Result<Vec<(Step<'a>, Option<ClaimRow>)>, CatalogError> {
        let one = async |step: Step<'a>| {
            let found = self.read::<ClaimRow>(&step.key(cluster)).await?;
            Ok((step, found.map(|found| found.row)))
        };
        let all = join_all(part.iter().map(|step| one(*step))).await;
        all.into_iter().collect()
    }

    async fn check_kubernetes_room(&self) -> Result<(), CatalogError> {
        let page = self.kubernetes_page(KubernetesRow::PREFIX, None).await?;
        if page.entries.len() < KUBERNETES_MAX {
            return Ok(());
        }
        Err(CatalogError::Refused(format!(
            "there are {KUBERNETES_MAX} Kubernetes clusters already: forget one that is no more (`azekura kubernetes forget`)"
        )))
    }

    async fn kubernetes_page(
        &self,
        prefix: &str,
        after: Option<&str>,
    ) -> Result<Page, CatalogError> {
        Ok(self.kv().range(prefix, after, PAGE_ROWS).await?)
    }

    /// The Kubernetes cluster of this name, where something was reported.
    ///
    /// # Errors
    /// [`CatalogError::Kv`], [`CatalogError::Damaged`].
    pub async fn kubernetes(
        &self,
        name: &str,
    ) -> Result<Option<Versioned<KubernetesRow>>, CatalogError> {
        self.read(&KubernetesRow::key_of(name)).await
    }

    /// Forgets a Kubernetes cluster: its claims first, so that one of which some are left can be forgotten again.
    ///
    /// # Errors
    /// [`CatalogError::NotFound`], [`CatalogError::Contended`], [`CatalogError::Kv`], [`CatalogError::Damaged`].
    pub async fn forget_kubernetes(&self, name: &str) -> Result<(), CatalogError> {
        let mut forgotten = false;
        for _ in 0..FORGET_ROUNDS_MAX {
            let Some(found) = self.kubernetes(name).await? else {
                if forgotten {
                    return Ok(());
                }
                return Err(CatalogError::NotFound {
                    kind: "Kubernetes cluster of which something was reported, named",
                    name: name.to_owned(),
                });
            };
            let page = self.kv().range(&ClaimRow::prefix_of(name), None, AT_ONCE);
            let entries = page.await?.entries;
            let is_last = entries.is_empty();
            let change = match is_last {
                true => Transaction::new().remove(&found),
                false => {
                    let mut row = found.row.clone();
                    row.claims = row.claims.saturating_sub(entries.len() as u64);
                    let change = Transaction::new().replace(&found, &row);
                    let keys = entries.into_iter().map(|entry| Op::Delete(entry.key));
                    keys.fold(change, Transaction::write)
                }
            };
            let done = self.commit(change).await?.is_some();
            if done && is_last {
                return Ok(());
            }
            forgotten |= done;
        }
        Err(CatalogError::Contended)
    }
}

/// Rows that were read, so that only those which changed since are decoded again.
#[derive(Clone)]
pub struct KnownRows<T>(BTreeMap<String, (Revision, Rc<T>)>);

impl<T> Default for KnownRows<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<T: Row> KnownRows<T> {
    /// The rows, in key order.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = &Rc<T>> {
        self.0.values().map(|(_, row)| row)
    }

    /// The same with their versions.
    pub fn versioned(&self) -> impl Iterator<Item = Versioned<Rc<T>>> + '_ {
        self.0.values().map(|(version, row)| Versioned {
            row: row.clone(),
            version: *version,
        })
    }

    /// All rows under a prefix as they are now. Not one point in time when there are more than 500.
    ///
    /// # Errors
    /// [`CatalogError::Kv`], [`CatalogError::Damaged`].
    pub async fn refreshed(&self, catalog: &Catalog, prefix: &str) -> Result<Self, CatalogError> {
        let mut rows = BTreeMap::new();
        let mut after: Option<String> = None;
        loop {
            let page = catalog.kubernetes_page(prefix, after.as_deref()).await?;
            after = page.entries.last().map(|last| last.key.clone());
            for entry in page.entries {
                let known = self.0.get(&entry.key);
                let known = known.filter(|(version, _)| *version == entry.version);
                let row = match known {
                    Some((_, row)) => row.clone(),
                    None => Rc::new(decode(&entry.key, &entry.value)?),
                };
                rows.insert(entry.key, (entry.version, row));
            }
            if !page.more || after.is_none() {
                return Ok(Self(rows));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::encode;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn fuzz_rows_of_kubernetes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = decode::<KubernetesRow>("kubernetes/a", &bytes);
            let _ = decode::<ClaimRow>("claim/a/b", &bytes);
        }
    }

    #[test]
    fn rows_are_read_as_they_were_written_and_an_older_one_with_defaults() {
        let row = ClaimRow {
            cluster: "prod".to_owned(),
            uid: "u-1".to_owned(),
            namespace: "shop".to_owned(),
            name: "data".to_owned(),
            status: "Bound".to_owned(),
            pods: vec![KubernetesPod::default()],
            ..ClaimRow::default()
        };
        assert_eq!(row.key(), "claim/prod/u-1");
        let read: ClaimRow = decode(&row.key(), &encode(&row)).expect("as it was written");
        assert_eq!(read, row);
        let text = br#"{"name":"prod","uid":"k","version":"v1","driver":"1"}"#;
        let read: KubernetesRow = decode("kubernetes/prod", text).expect("with defaults");
        assert_eq!((read.claims, read.reported_ms), (0, 0));
    }
}
