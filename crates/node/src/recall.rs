//! A catalog that is empty, or an old copy, beside disks that were told of a newer one.
//!
//! Invariants
//! - Nothing is written to an empty catalog before the disks of the node that would begin it were looked at.
//! - No node starts with a catalog that is older than what its disks were told.
//!
//! What disks know is written by `upkeep::mirror` (docs/formats/notes.md).

use crate::options::{HostError, StoreSpec};
use crate::stores::LocalStores;
use crate::upkeep::mirror::SYNCED;
use catalog::{Catalog, CatalogError, ClusterRow, Row};
use vocab::StoreId;
use wire::{NoteVersion, StoreSurvey};

fn behind(store: StoreId, told: NoteVersion, found: NoteVersion) -> HostError {
    HostError::CatalogBehind {
        store,
        told_era: told.term,
        told: told.number,
        era: found.term,
        found: found.number,
    }
}

/// What a store was told of the catalog last.
fn told(survey: &StoreSurvey) -> Option<NoteVersion> {
    let synced = survey.notes.iter().find(|note| note.key == SYNCED);
    synced.map(|note| note.version)
}

/// Refuses to begin a catalog where disks were told of one. Disks are only read.
pub(crate) async fn check_empty(
    catalog: &Catalog,
    cluster: &str,
    specs: &[StoreSpec],
) -> Result<(), HostError> {
    if catalog
        .read::<ClusterRow>(ClusterRow::PREFIX)
        .await?
        .is_some()
    {
        return Ok(());
    }
    for spec in specs {
        // Blank disks, and such that cannot be read, know nothing; who opens them says what is wrong.
        let Ok(survey) = store::survey(spec.disks.clone()).await else {
            continue;
        };
        if let Some(told) = told(&survey)
            && survey.cluster == cluster
        {
            return Err(behind(survey.store, told, NoteVersion::default()));
        }
    }
    Ok(())
}

/// Refuses a catalog that is older than what the stores were told.
pub(crate) async fn check_age(catalog: &Catalog, stores: &LocalStores) -> Result<(), HostError> {
    let found = age(catalog).await?;
    for store in stores.all() {
        if let Some(told) = store.note_version(SYNCED)
            && told > found
        {
            return Err(behind(store.id(), told, found));
        }
    }
    Ok(())
}

/// How often the catalog was made anew, and its revision.
pub(crate) async fn age(catalog: &Catalog) -> Result<NoteVersion, CatalogError> {
    let page = catalog.kv().range("cluster", None, 1).await?;
    let row = page.entries.first();
    let row = row.and_then(|entry| serde_json::from_slice::<ClusterRow>(&entry.value).ok());
    Ok(NoteVersion {
        term: row.map_or(0, |row| row.era),
        number: catalog.kv().recorded(page.revision),
    })
}
