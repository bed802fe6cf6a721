//! Lights that show where disks are: switched by the node that has the disks, and told to all by a row of the catalog.
//!
//! How it fails: a light is switched before the catalog hears of it. While that does not answer pages are not told, and show what it is
//! when they read it again.

use super::disks::refused;
use super::{Result, catalog_error};
use crate::disks::DiskFacts;
use crate::host::Host;
use api::{Answer, DiskLight, OperationError};
use catalog::{LightRow, Transaction};
use std::rc::Rc;
use vocab::StoreId;

/// Why a disk cannot be made to show itself, and how else it is found.
fn without_light(id: StoreId, disks: &[DiskFacts]) -> String {
    let describe = |disk: &DiskFacts| match (&disk.model, &disk.serial) {
        (_, None) => format!("{} (no serial number known)", disk.path),
        (model, Some(serial)) => format!(
            "{} ({} with serial number {serial})",
            disk.path,
            model.as_deref().unwrap_or("a disk")
        ),
    };
    let disks: Vec<String> = disks.iter().map(describe).collect();
    format!(
        "no disk of {id} has a light that its node can switch, for the kernel knows no enclosure (SES) and no slot (NPEM) of it; \
         look for {}",
        disks.join(", ")
    )
}

impl Host {
    /// Switches the lights of disks of a store of this node.
    pub(super) async fn locate_disks(
        self: &Rc<Self>,
        id: StoreId,
        light: &DiskLight,
    ) -> Result<Answer> {
        let bay = self.bay()?;
        let mut disks = bay.list().await;
        disks.retain(|disk| disk.store == id.0);
        if let Some(path) = &light.path {
            let paths: Vec<&str> = disks.iter().map(|disk| disk.path.as_str()).collect();
            if !paths.contains(&path.as_str()) {
                return Err(OperationError::not_found(format!(
                    "{id} has no disk {path}: its disks are {}",
                    paths.join(", ")
                )));
            }
            disks.retain(|disk| disk.path == *path);
        }
        if disks.iter().all(|disk| disk.light.is_none()) {
            return Err(refused(without_light(id, &disks)));
        }
        let mut switched = Ok(());
        for disk in disks.into_iter().filter(|disk| disk.light.is_some()) {
            let path = disk.path.clone();
            switched = bay.light(disk.path, light.on).await;
            switched = switched.map_err(|reason| format!("{path}: {reason}"));
            if switched.is_err() {
                break;
            }
        }
        // Those before one that does not obey are other than before.
        if let Err(error) = self.tell_of_lights(id).await {
            tracing::debug!(store = %id, %error, "nobody is told of its lights");
        }
        switched.map_err(OperationError::failed)?;
        self.disks_of(id).await
    }

    /// Has the catalog say which lights of a store burn now.
    async fn tell_of_lights(&self, id: StoreId) -> Result<()> {
        let disks = self.bay()?.list().await;
        let lit = disks.into_iter().filter(|disk| disk.store == id.0);
        let lit = lit.filter(|disk| disk.light == Some(true));
        let row = LightRow {
            id,
            on: lit.map(|disk| disk.path).collect(),
            at_ms: self.world.clock.unix_ms(),
        };
        let told = self.catalog.commit(Transaction::new().put(&row)).await;
        told.map_err(catalog_error).map(|_| ())
    }
}
