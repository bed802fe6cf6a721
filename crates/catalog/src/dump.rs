//! Files of a catalog for people: backups, and surveys of stores. Format: docs/formats/backup.md.
//!
//! Lines of JSON: a header, one object per line, a trailer with the number of lines and the checksum of all bytes before it.
//! What was cut or changed is refused as a whole.

use crate::access::{Catalog, CatalogError, decode, encode};
use crate::kv::{Compare, Op, Outcome, Page, Revision};
use crate::notes::{is_noted, name_of};
use crate::rows::{ClusterRow, Row};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::collections::BTreeMap;
use vocab::{Level, Levels};

/// Version of the format this release writes.
const VERSION: u32 = 1;

/// What the first line says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Header {
    format: String,
    version: u32,
    cluster: String,
    /// Of a backup: the moment of the catalog.
    revision: u64,
}

/// What a file of ours holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened<T> {
    /// The cluster.
    pub cluster: String,
    /// Of a backup: the revision that it is as of.
    pub revision: u64,
    /// The lines.
    pub items: Vec<T>,
}

/// What the last line says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Trailer {
    lines: u64,
    crc32c: u32,
}

/// Why text is not a file of the wanted kind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DumpError {
    /// Something else.
    #[error("it is not a {wanted}: {reason}")]
    Foreign {
        /// The wanted format.
        wanted: &'static str,
        /// Why.
        reason: String,
    },
    /// Written by a newer release.
    #[error(
        "it has format version {0}, which is newer than this release: use the release that wrote it"
    )]
    Newer(u32),
    /// Cut or changed.
    #[error("it is damaged ({0}): use another copy")]
    Damaged(String),
}

/// A file of `items`, of a format and a cluster, as of a revision where that means something.
#[must_use]
pub fn seal<T: Serialize>(format: &str, cluster: &str, revision: u64, items: &[T]) -> String {
    let line = |value: &dyn Fn() -> serde_json::Result<String>| {
        value().expect("rows have string keys only") + "\n"
    };
    let header = Header {
        format: format.to_owned(),
        version: VERSION,
        cluster: cluster.to_owned(),
        revision,
    };
    let mut text = line(&|| serde_json::to_string(&header));
    for item in items {
        text += &line(&|| serde_json::to_string(item));
    }
    let trailer = Trailer {
        lines: items.len() as u64,
        crc32c: crc32c::crc32c(text.as_bytes()),
    };
    text += &line(&|| serde_json::to_string(&trailer));
    text
}

/// The cluster and the items of a file that [`seal`] made.
///
/// # Errors
/// [`DumpError`].
pub fn open<T: DeserializeOwned>(format: &'static str, text: &str) -> Result<Opened<T>, DumpError> {
    let foreign = |reason: String| DumpError::Foreign {
        wanted: format,
        reason,
    };
    let damaged = |reason: &str| DumpError::Damaged(reason.to_owned());
    let (first, _) = text
        .split_once('\n')
        .ok_or_else(|| foreign("it has no lines".to_owned()))?;
    let header: Header = serde_json::from_str(first).map_err(|error| foreign(error.to_string()))?;
    if header.format != format {
        return Err(foreign(format!("it is a {}", header.format)));
    }
    if header.version > VERSION {
        return Err(DumpError::Newer(header.version));
    }
    let body = text
        .strip_suffix('\n')
        .ok_or_else(|| damaged("its end is missing"))?;
    let at = body
        .rfind('\n')
        .ok_or_else(|| damaged("its end is missing"))?;
    let (sealed, last) = (&text[..=at], &body[at + 1..]);
    let trailer: Trailer = serde_json::from_str(last).map_err(|_| damaged("its end is missing"))?;
    if crc32c::crc32c(sealed.as_bytes()) != trailer.crc32c {
        return Err(damaged("its checksum does not match"));
    }
    let items: Vec<T> = sealed[first.len() + 1..]
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()
        .map_err(|error| damaged(&error.to_string()))?;
    if items.len() as u64 != trailer.lines {
        return Err(damaged("lines are missing"));
    }
    Ok(Opened {
        cluster: header.cluster,
        revision: header.revision,
        items,
    })
}

/// Format of a backup.
pub const BACKUP: &str = "azekura-catalog-backup";

/// A row of a backup.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DumpRow {
    /// Its key.
    pub key: String,
    /// The revision that wrote it.
    pub revision: u64,
    /// The row.
    pub value: serde_json::Value,
}

/// Rows at one revision.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rows {
    /// How often the catalog had been made anew.
    pub era: u64,
    /// The revision.
    pub revision: u64,
    /// The rows, in key order.
    pub rows: Vec<DumpRow>,
}

impl Catalog {
    /// All rows that names and leases do not follow from, as they were at one revision.
    ///
    /// # Errors
    /// [`CatalogError::Kv`], [`CatalogError::Damaged`].
    pub async fn dump(&self) -> Result<Rows, CatalogError> {
        let page = self.kv().snapshot("").await?;
        let mut dumped = Rows {
            revision: self.kv().recorded(page.revision),
            ..Rows::default()
        };
        for entry in page.entries {
            if !is_noted(&entry.key) {
                continue;
            }
            let value = serde_json::from_slice(&entry.value);
            let value: serde_json::Value = value.map_err(|error| CatalogError::Damaged {
                key: entry.key.clone(),
                reason: error.to_string(),
            })?;
            if entry.key == "cluster" {
                let row = serde_json::from_value::<ClusterRow>(value.clone());
                dumped.era = row.map_or(0, |row| row.era);
            }
            dumped.rows.push(DumpRow {
                key: entry.key,
                revision: self.kv().recorded(entry.version),
                value,
            });
        }
        Ok(dumped)
    }
}

/// Name in the cluster's row while a catalog is being filled: no node has it, so none starts with half of it.
const UNFINISHED: &str = "(a catalog that is being made)";
/// Rows written by one transaction.
const ROWS_AT_ONCE: usize = 100;

fn refused(what: &str) -> CatalogError {
    CatalogError::Refused(what.to_owned())
}

impl Catalog {
    /// Whether nothing is here, or only what [`Catalog::fill`] did not finish.
    ///
    /// # Errors
    /// [`CatalogError::Kv`].
    pub async fn is_vacant(&self) -> Result<bool, CatalogError> {
        let page = self.kv().snapshot("").await?;
        Ok(page.entries.is_empty() || unfinished(&page).is_some())
    }

    /// Fills an empty catalog with rows.
    ///
    /// # Errors
    /// As [`Catalog::begin_fill`].
    pub async fn fill(&self, rows: &BTreeMap<String, Vec<u8>>) -> Result<(), CatalogError> {
        self.begin_fill(rows).await?.finish().await
    }

    /// Writes rows into an empty catalog, but none that lets a node start: until [`Filled::finish`] the cluster's row names
    /// no cluster. One that was not finished is started over.
    ///
    /// # Errors
    /// [`CatalogError::Refused`] when something is there or somebody else fills it, too; [`CatalogError::Kv`].
    pub async fn begin_fill(
        &self,
        rows: &BTreeMap<String, Vec<u8>>,
    ) -> Result<Filled, CatalogError> {
        let kv = self.kv();
        let page = kv.snapshot("").await?;
        let marker = ClusterRow {
            id: String::new(),
            name: UNFINISHED.to_owned(),
            level: Level::default(),
            era: 0,
        };
        let cluster = rows.get(&marker.key());
        let cluster = cluster.ok_or_else(|| refused("the rows name no cluster"))?;
        let compare = match unfinished(&page) {
            Some(version) => Compare::Version(marker.key(), version),
            None if page.entries.is_empty() => Compare::Absent(marker.key()),
            None => {
                return Err(refused(
                    "the catalog is not empty: name an empty one, or another prefix in etcd",
                ));
            }
        };
        let mark = Op::Put(marker.key(), encode(&marker));
        let Outcome::Committed(marked) = kv.txn(vec![compare], vec![mark]).await? else {
            return Err(raced());
        };
        let left = page.entries.iter().map(|entry| &entry.key);
        let delete = left
            .filter(|key| **key != marker.key())
            .map(|key| Op::Delete(key.clone()));
        let put = rows
            .iter()
            .filter(|(key, _)| **key != marker.key())
            .map(|(key, value)| Op::Put(key.clone(), value.clone()));
        // Deletions first: no key is changed twice in one transaction.
        for changes in [delete.collect::<Vec<_>>(), put.collect()] {
            for part in changes.chunks(ROWS_AT_ONCE) {
                let unfinished = vec![Compare::Version(marker.key(), marked)];
                if kv.txn(unfinished, part.to_vec()).await? == Outcome::Conflict {
                    return Err(raced());
                }
            }
        }
        Ok(Filled {
            catalog: self.clone(),
            marked,
            cluster: cluster.clone(),
        })
    }

    /// Says in the cluster's row that the catalog has moved, so that no node of any release starts with it again.
    ///
    /// # Errors
    /// [`CatalogError::Refused`] when it has moved somewhere else; [`CatalogError::Kv`], [`CatalogError::Damaged`].
    pub async fn mark_moved(&self, to: &str) -> Result<(), CatalogError> {
        let name = format!("{MOVED}{to})");
        self.update("cluster", "cluster", |row: &mut ClusterRow| {
            if let Some(before) = moved_to(&row.name).filter(|before| *before != to) {
                return Err(CatalogError::Refused(format!(
                    "this catalog was moved to {before} before"
                )));
            }
            let changes = row.name != name;
            row.name.clone_from(&name);
            Ok(changes)
        })
        .await
        .map(drop)
    }
}

/// Start of the cluster's name in a catalog that has moved.
const MOVED: &str = "(moved to ";

/// Where a catalog has moved, by the name in its cluster's row.
#[must_use]
pub fn moved_to(name: &str) -> Option<&str> {
    name.strip_prefix(MOVED)?.strip_suffix(')')
}

/// A catalog that has all rows but the one that lets nodes start.
pub struct Filled {
    catalog: Catalog,
    marked: Revision,
    cluster: Vec<u8>,
}

impl Filled {
    /// Lets nodes start.
    ///
    /// # Errors
    /// [`CatalogError::Refused`] when somebody else fills it; [`CatalogError::Kv`].
    pub async fn finish(self) -> Result<(), CatalogError> {
        let key = "cluster".to_owned();
        let unfinished = vec![Compare::Version(key.clone(), self.marked)];
        let finish = vec![Op::Put(key, self.cluster)];
        match self.catalog.kv().txn(unfinished, finish).await? {
            Outcome::Committed(_) => Ok(()),
            Outcome::Conflict => Err(raced()),
        }
    }
}

fn raced() -> CatalogError {
    refused("somebody else writes into the catalog: start over")
}

impl Rows {
    /// What another catalog is filled with: the rows as they are, their names, and the next era.
    ///
    /// # Errors
    /// [`CatalogError::Damaged`], [`CatalogError::Refused`] when they name no cluster, or one that is not `cluster`.
    pub fn for_another(
        &self,
        cluster: &str,
        levels: Levels,
    ) -> Result<BTreeMap<String, Vec<u8>>, CatalogError> {
        let mut rows = BTreeMap::new();
        for row in &self.rows {
            let mut value = row.value.to_string().into_bytes();
            if row.key == "cluster" {
                let mut named: ClusterRow = decode(&row.key, &value)?;
                if named.name != cluster && moved_to(&named.name).is_none() {
                    return Err(CatalogError::Refused(format!(
                        "the catalog belongs to cluster {}, not to {cluster}",
                        named.name
                    )));
                }
                if !levels.know(named.level) {
                    return Err(CatalogError::Refused(format!(
                        "the catalog is of level {}, and this release knows level {levels}: use the release that ran there",
                        named.level
                    )));
                }
                cluster.clone_into(&mut named.name);
                named.era += 1;
                value = encode(&named);
            }
            if let Some((name, id)) = name_of(&row.key, &value)? {
                rows.insert(name, id.to_string().into_bytes());
            }
            rows.insert(row.key.clone(), value);
        }
        Ok(rows)
    }
}

/// The version of the marker of a catalog that was not finished.
fn unfinished(page: &Page) -> Option<Revision> {
    let cluster = page.entries.iter().find(|entry| entry.key == "cluster")?;
    let row: ClusterRow = serde_json::from_slice(&cluster.value).ok()?;
    (row.name == UNFINISHED).then_some(cluster.version)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rows() -> Vec<DumpRow> {
        let row = |index: u64| DumpRow {
            key: format!("volume/{index:020}"),
            revision: index + 1,
            value: serde_json::json!({"id": u64::MAX - index, "name": "é\n"}),
        };
        (0..4).map(row).collect()
    }

    #[test]
    fn a_backup_survives_its_file() {
        let text = seal(BACKUP, "lab", 7, &rows());
        let opened = open::<DumpRow>(BACKUP, &text).expect("a backup");
        assert_eq!((opened.cluster.as_str(), opened.revision), ("lab", 7));
        assert_eq!(opened.items, rows());
    }

    #[test]
    fn a_backup_of_the_future_is_named() {
        let text = seal(BACKUP, "lab", 7, &rows()).replace("\"version\":1", "\"version\":2");
        assert_eq!(open::<DumpRow>(BACKUP, &text), Err(DumpError::Newer(2)));
    }

    #[test]
    fn another_kind_of_file_is_refused_by_name() {
        let text = seal("azekura-store-survey", "lab", 0, &rows());
        let refused = open::<DumpRow>(BACKUP, &text).expect_err("another format");
        assert!(
            refused.to_string().contains("azekura-store-survey"),
            "{refused}"
        );
    }

    proptest! {
        #[test]
        fn fuzz_a_cut_or_changed_backup_is_refused(at: prop::sample::Index, bit in 0_u8..7, cut: bool) {
            let text = seal(BACKUP, "lab", 7, &rows());
            let mut bytes = text.clone().into_bytes();
            let at = at.index(bytes.len());
            if cut {
                bytes.truncate(at);
            } else {
                bytes[at] ^= 1 << bit;
            }
            if let Ok(changed) = String::from_utf8(bytes)
                && changed != text
                && let Ok(read) = open::<DumpRow>(BACKUP, &changed)
            {
                // Only what means the same: a different space or letter case of an escape in the last line.
                prop_assert_eq!(read.items, rows());
            }
        }

        #[test]
        fn fuzz_any_text_is_a_backup_or_refused(text in "\\PC*") {
            let _ = open::<DumpRow>(BACKUP, &text);
        }
    }
}
