//! A catalog made anew from what the stores' disks say, and from a backup when there is one. Pure: surveys in, rows out.
//! The argument is in docs/formats/notes.md.
//!
//! Invariants
//! - What was acknowledged and flushed is found again, or its volume is named as incomplete and stays offline.
//! - No id is used twice: counters, terms and generations jump ahead of everything that anybody can have seen.
//! - Nothing is decided while a store is missing that an operator did not name.
//! - No copy of a group counts as complete before it was compared.
//! - A store that an operator goes on without is waited for by nobody, but where it alone can hold something.
//!
//! Read next: `rebuild/volumes.rs`, `rebuild/groups.rs`.

mod groups;
mod volumes;

#[cfg(test)]
mod tests;

use catalog::dump::Rows;
use catalog::{
    COUNTERS, CatalogError, ClusterRow, GroupRow, IntentRow, LightRow, LineageRow, LogNote, Row,
    ScrubRow, SnapshotRow, StoreRow, Subject, VolumeRow, VolumeState, name_of,
};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use vocab::{Incarnation, Level, Levels, SnapshotId, StoreId, VolumeId};
use wire::{LOG_NOTES, NoteVersion, StoreSurvey, log_note_key};

/// Ids of each kind left out: more than can have been given out after the newest note.
pub const IDS_JUMP: u64 = 1 << 16;

/// What there is to make a catalog from.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// Name of the cluster.
    pub cluster: String,
    /// What the disks say.
    pub surveys: Vec<StoreSurvey>,
    /// A backup, which may be old.
    pub backup: Option<Rows>,
    /// Stores that an operator goes on without.
    pub without: BTreeSet<StoreId>,
    /// Volumes, by name or `volume-N`, and snapshots, `snapshot-N`, whose loss an operator has accepted.
    pub accepted: BTreeSet<String>,
    /// What the release knows that makes the catalog.
    pub levels: Levels,
}

/// Why no catalog can be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RebuildError {
    /// Disks of another cluster.
    #[error("{store} belongs to cluster {found}, not to {wanted}")]
    Foreign {
        /// Whose disks.
        store: StoreId,
        /// Its cluster.
        found: String,
        /// The one that was asked for.
        wanted: String,
    },
    /// One store was surveyed twice.
    #[error("{0} was given twice: is one of them a copy?")]
    Twice(StoreId),
    /// The disks were never told what the cluster is.
    #[error(
        "these disks do not say what the cluster was (they were last used by a release that did not note it): restore a \
         backup of the catalog with these disks instead"
    )]
    Unknown,
    /// The cluster is of another release.
    #[error(
        "the cluster was at level {level}, and this release knows level {levels}, so it would lose what it does not know: use the \
         release that ran here"
    )]
    Level {
        /// The cluster's.
        level: Level,
        /// What this release knows.
        levels: Levels,
    },
    /// Stores that the cluster had are missing.
    #[error(
        "{missing} of the cluster's stores are not here, and nothing is decided without them: add their disks or surveys; \
         if they are lost for good, say so with {flags}"
    )]
    Missing {
        /// Which, for people.
        missing: String,
        /// What to add to the command.
        flags: String,
    },
    /// There is data that nothing describes.
    #[error("{0}")]
    Unaccounted(String),
    /// A row or note does not decode.
    #[error(transparent)]
    Damaged(#[from] CatalogError),
}

/// A catalog to write.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rebuilt {
    /// Key and value of each row, names included.
    pub rows: BTreeMap<String, Vec<u8>>,
    /// Volumes that stay offline, with the reason.
    pub incomplete: Vec<(String, String)>,
    /// What else a person should know.
    pub remarks: Vec<String>,
    /// The moment up to which the catalog was noted, if it was.
    pub known_until: Option<NoteVersion>,
}

/// All sources, merged row by row; what is derived from them is added by the steps.
struct Merged<'a> {
    sources: &'a Sources,
    rows: BTreeMap<String, Value>,
    /// The newest moment of which some source has everything.
    until: NoteVersion,
    /// Newest note of each volume's log.
    logs: BTreeMap<VolumeId, LogNote>,
    /// Stores of which nothing is known, or whose log is lost.
    blind: BTreeSet<StoreId>,
    remarks: Vec<String>,
}

fn damaged(key: &str, reason: &dyn std::fmt::Display) -> CatalogError {
    CatalogError::Damaged {
        key: key.to_owned(),
        reason: reason.to_string(),
    }
}

/// Makes a catalog.
///
/// # Errors
/// [`RebuildError`].
pub fn rebuild(sources: &Sources) -> Result<Rebuilt, RebuildError> {
    check_identity(sources)?;
    let mut merged = merge(sources)?;
    let Some(mut cluster) = merged.get::<ClusterRow>("cluster")? else {
        return Err(RebuildError::Unknown);
    };
    if !sources.levels.know(cluster.level) {
        return Err(RebuildError::Level {
            level: cluster.level,
            levels: sources.levels,
        });
    }
    merged.find_blind()?;
    let mut rebuilt = Rebuilt {
        known_until: Some(merged.until),
        ..Rebuilt::default()
    };
    let found = volumes::find(&merged)?;
    rebuilt.incomplete.clone_from(&found.incomplete);
    merged.put_all(&found.volumes);
    merged.put_all(&found.snapshots);
    for gone in &found.gone {
        merged.rows.remove(gone);
    }
    merged.rebuild_lineages(&found.volumes, &found.snapshots)?;
    let groups: Vec<GroupRow> = groups::find(&merged)?;
    merged.put_all(&groups);
    merged.forget_gone(&groups, &found.volumes);
    merged.advance_counters(&groups)?;
    cluster.era = merged.until.term.max(cluster.era) + 1;
    merged.put(&cluster);
    rebuilt.remarks.append(&mut merged.remarks);
    for (key, value) in merged.rows {
        let bytes = value.to_string().into_bytes();
        if let Some((name, id)) = name_of(&key, &bytes)? {
            rebuilt.rows.insert(name, id.to_string().into_bytes());
        }
        rebuilt.rows.insert(key, bytes);
    }
    Ok(rebuilt)
}

fn check_identity(sources: &Sources) -> Result<(), RebuildError> {
    let mut seen = BTreeSet::new();
    for survey in &sources.surveys {
        if survey.cluster != sources.cluster {
            return Err(RebuildError::Foreign {
                store: survey.store,
                found: survey.cluster.clone(),
                wanted: sources.cluster.clone(),
            });
        }
        if !seen.insert(survey.store) {
            return Err(RebuildError::Twice(survey.store));
        }
    }
    Ok(())
}

/// The newest of each key. A key that the source with the newest moment lacks was deleted, unless it is newer than that.
fn merge(sources: &Sources) -> Result<Merged<'_>, RebuildError> {
    let mark = |survey: &StoreSurvey| {
        let mark = survey.notes.iter().find(|note| note.key == "synced");
        mark.map(|note| note.version)
    };
    let of_backup = |rows: &Rows| NoteVersion {
        term: rows.era,
        number: rows.revision,
    };
    let marks = sources.surveys.iter().filter_map(mark);
    let until = marks.chain(sources.backup.as_ref().map(of_backup)).max();
    let until = until.unwrap_or_default();
    let mut newest: BTreeMap<String, (NoteVersion, Value, bool)> = BTreeMap::new();
    let mut logs: BTreeMap<VolumeId, (NoteVersion, LogNote)> = BTreeMap::new();
    let mut add = |key: &str, version: NoteVersion, value: Value, whole: bool| {
        let entry = newest
            .entry(key.to_owned())
            .or_insert_with(|| (version, value.clone(), whole));
        if version > entry.0 {
            (entry.0, entry.1) = (version, value);
        }
        entry.2 |= whole;
    };
    for survey in &sources.surveys {
        let whole = mark(survey) == Some(until);
        for note in &survey.notes {
            let text = note.value.as_deref().unwrap_or_default();
            if note.key.starts_with(LOG_NOTES) {
                let log = LogNote::decode(text).map_err(|error| damaged(&note.key, &error))?;
                if note.key != log_note_key(log.volume) {
                    return Err(damaged(&note.key, &"it is about another volume").into());
                }
                let known = logs.get(&log.volume).map(|(version, _)| *version);
                if known.is_none_or(|known| known < note.version) {
                    logs.insert(log.volume, (note.version, log));
                }
            } else if note.key != "synced" {
                let value = serde_json::from_str(text);
                let value = value.map_err(|error| damaged(&note.key, &error))?;
                add(&note.key, note.version, value, whole);
            }
        }
    }
    if let Some(backup) = &sources.backup {
        let whole = of_backup(backup) == until;
        for row in &backup.rows {
            let version = NoteVersion {
                term: backup.era,
                number: row.revision,
            };
            add(&row.key, version, row.value.clone(), whole);
        }
    }
    let kept = newest
        .into_iter()
        .filter(|(_, (version, _, whole))| *whole || *version > until);
    Ok(Merged {
        sources,
        rows: kept.map(|(key, (_, value, _))| (key, value)).collect(),
        until,
        logs: logs.into_iter().map(|(id, (_, log))| (id, log)).collect(),
        blind: BTreeSet::new(),
        remarks: Vec::new(),
    })
}

impl Merged<'_> {
    fn get<T: Row>(&self, key: &str) -> Result<Option<T>, CatalogError> {
        let row = self.rows.get(key).map(|value| {
            serde_json::from_value(value.clone()).map_err(|error| damaged(key, &error))
        });
        row.transpose()
    }

    fn list<T: Row>(&self) -> Result<Vec<T>, CatalogError> {
        let keys = self.rows.keys().filter(|key| key.starts_with(T::PREFIX));
        let rows = keys.map(|key| self.get(key));
        rows.filter_map(Result::transpose).collect()
    }

    fn put<T: Row>(&mut self, row: &T) {
        let value = serde_json::to_value(row).expect("rows have string keys only");
        self.rows.insert(row.key(), value);
    }

    fn put_all<T: Row>(&mut self, rows: &[T]) {
        rows.iter().for_each(|row| self.put(row));
    }

    /// Stores that the cluster had and that are not here, or that have lost their logs. Those that nobody named stop it.
    fn find_blind(&mut self) -> Result<(), RebuildError> {
        let surveyed: BTreeMap<StoreId, Incarnation> = self
            .sources
            .surveys
            .iter()
            .map(|survey| (survey.store, survey.incarnation))
            .collect();
        let mut expected: BTreeMap<StoreId, Option<Incarnation>> = BTreeMap::new();
        for log in self.logs.values() {
            let replicas = log.segments.iter().flat_map(|segment| &segment.replicas);
            expected.extend(replicas.map(|replica| (replica.store, None)));
        }
        for group in self.list::<GroupRow>()? {
            expected.extend(group.members.iter().map(|&member| (member, None)));
        }
        let rows = self.list::<StoreRow>()?;
        expected.extend(rows.iter().map(|row| (row.id, Some(row.incarnation))));
        let mut missing = Vec::new();
        for (store, life) in expected {
            match surveyed.get(&store) {
                Some(&found) if found.0 != 0 && life.is_none_or(|life| life == found) => continue,
                Some(_) => self.remarks.push(format!(
                    "{store} has started another life, or will: its logs and promises do not count"
                )),
                None if self.sources.without.contains(&store) => {}
                None => missing.push(store),
            }
            self.blind.insert(store);
        }
        if missing.is_empty() {
            return Ok(());
        }
        let names: Vec<String> = missing.iter().map(ToString::to_string).collect();
        let flags = missing.iter().map(|store| format!("--without {}", store.0));
        Err(RebuildError::Missing {
            missing: names.join(", "),
            flags: flags.collect::<Vec<_>>().join(" "),
        })
    }

    /// Stores that an operator goes on without.
    fn gone(&self) -> BTreeSet<StoreId> {
        let mut gone = self.sources.without.clone();
        for survey in &self.sources.surveys {
            gone.remove(&survey.store);
        }
        gone
    }

    /// Forgets the stores that are gone, but for those that a group or the log of a volume still names: they are waited for until a
    /// person removes them.
    fn forget_gone(&mut self, groups: &[GroupRow], volumes: &[VolumeRow]) {
        let in_groups = groups
            .iter()
            .flat_map(|group| group.members.iter().chain(&group.former));
        let mut named: BTreeSet<StoreId> = in_groups.copied().collect();
        let segments = volumes.iter().flat_map(|volume| &volume.segments);
        let replicas = segments.flat_map(|segment| &segment.replicas);
        named.extend(replicas.map(|replica| replica.store));
        for store in self.gone() {
            if named.contains(&store) {
                self.remarks.push(format!(
                    "{store} is not here, and groups or volumes need what it may hold: it stays in the list until its disks come \
                     back, or until `azekura disk remove {} --lost`",
                    store.0
                ));
                continue;
            }
            let rows = [
                StoreRow::key_of(store),
                ScrubRow::key_of(store),
                LightRow::key_of(store),
                IntentRow::key_of(Subject::Store(store)),
            ];
            let known = rows.map(|key| self.rows.remove(&key).is_some());
            let text = match known[0] {
                true => format!(
                    "{store} is forgotten: should its disks come back, it gives what the others lack, is emptied, and takes part anew"
                ),
                false => format!("{store} was named as lost, and the cluster did not have it"),
            };
            self.remarks.push(text);
        }
    }

    /// Lineages are what their volumes and snapshots say; who was deleted is remembered.
    fn rebuild_lineages(
        &mut self,
        volumes: &[VolumeRow],
        snapshots: &[SnapshotRow],
    ) -> Result<(), CatalogError> {
        let mut lineages: BTreeMap<_, LineageRow> = BTreeMap::new();
        for row in self.list::<LineageRow>()? {
            let mut deleted = row.deleted.clone();
            deleted.extend(&row.volumes);
            let bare = LineageRow {
                volumes: Vec::new(),
                snapshots: Vec::new(),
                deleted,
                ..row
            };
            lineages.insert(bare.id, bare);
        }
        let blank = |id| LineageRow {
            id,
            volumes: Vec::new(),
            snapshots: Vec::new(),
            deleted: Vec::new(),
        };
        for row in volumes {
            let lineage = lineages
                .entry(row.lineage)
                .or_insert_with(|| blank(row.lineage));
            lineage.volumes.push(row.id);
        }
        for row in snapshots {
            let lineage = lineages
                .entry(row.lineage)
                .or_insert_with(|| blank(row.lineage));
            lineage.snapshots.push(row.id);
        }
        for lineage in lineages.values_mut() {
            let present = lineage.volumes.clone();
            lineage.deleted.retain(|id| !present.contains(id));
            lineage.deleted.sort_unstable();
            lineage.deleted.dedup();
        }
        let lineages: Vec<LineageRow> = lineages.into_values().collect();
        self.put_all(&lineages);
        Ok(())
    }

    /// Counters jump ahead of everything that was given out.
    fn advance_counters(&mut self, groups: &[GroupRow]) -> Result<(), CatalogError> {
        let mut seen: BTreeMap<&str, u64> = BTreeMap::new();
        let mut note = |kind: &'static str, id: u64| {
            let last = seen.entry(kind).or_default();
            *last = (*last).max(id);
        };
        for survey in &self.sources.surveys {
            let logs = survey.logs.iter().map(|log| log.volume);
            let terms = survey.terms.iter().map(|(volume, _)| *volume);
            logs.chain(terms).for_each(|id| note("volume", id.0));
            note("store", u64::from(survey.store.0));
        }
        for kind in ["volume", "snapshot", "container", "node", "group-snapshot"] {
            let prefix = format!("{kind}/");
            let ids = self.rows.keys().filter_map(|key| {
                let number = key.strip_prefix(&prefix)?;
                number.parse::<u64>().ok()
            });
            ids.for_each(|id| note(kind, id));
        }
        let settled = self.logs.values().flat_map(|log| &log.settled);
        settled.for_each(|(SnapshotId(id), _)| note("snapshot", *id));
        note("form", u64::from(!groups.is_empty()));
        for (kind, last) in seen {
            let key = format!("{COUNTERS}{kind}");
            let known = self.rows.get(&key).and_then(Value::as_u64).unwrap_or(0);
            let jump = match kind {
                // These are numbers that people type, and few.
                "node" | "store" | "container" => 100,
                _ => IDS_JUMP,
            };
            self.rows.insert(key, Value::from(known.max(last) + jump));
        }
        Ok(())
    }

    fn is_accepted(&self, names: &[&str]) -> bool {
        names
            .iter()
            .any(|name| self.sources.accepted.contains(*name))
    }
}

/// The state of a volume whose row could not be proved.
fn incomplete(reason: &str) -> VolumeState {
    VolumeState::Incomplete(reason.to_owned())
}
