//! The NBD gateway: every volume is an export of its name, on every node.

use crate::host::Host;
use blockdev::BlockDevice;
use catalog::VolumeRow;
use frontend::nbd::{ExportName, Exports, OpenError};
use std::rc::Rc;
use wire::NodeError;
use world::LocalBoxFuture;

/// The volumes of the cluster as exports.
pub(crate) struct NodeExports(pub(crate) Rc<Host>);

impl Exports for NodeExports {
    fn list(&self) -> LocalBoxFuture<'static, Result<Vec<ExportName>, String>> {
        let host = self.0.clone();
        Box::pin(async move {
            let rows = host.catalog.list::<VolumeRow>().await;
            let rows = rows.map_err(|error| error.to_string())?;
            let export = |row: VolumeRow| ExportName {
                description: format!("{} volume", row.size),
                name: row.name,
            };
            Ok(rows.into_iter().map(|found| export(found.row)).collect())
        })
    }

    fn open(&self, name: &str) -> LocalBoxFuture<'static, Result<Rc<dyn BlockDevice>, OpenError>> {
        let (host, name) = (self.0.clone(), name.to_owned());
        Box::pin(async move {
            let opened = host.device(&name, false).await;
            opened.map_err(|error| match error {
                NodeError::NoVolume { .. } => OpenError::Unknown,
                NodeError::Busy { reason } => OpenError::Busy(reason),
                other => OpenError::Refused(other.to_string()),
            })
        })
    }

    fn closed(&self, device: Rc<dyn BlockDevice>) -> LocalBoxFuture<'static, ()> {
        // The device ends its session when the last handle goes.
        drop(device);
        Box::pin(std::future::ready(()))
    }
}
