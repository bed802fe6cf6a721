//! Changes on top of a version: which row they are about, and where it is compared.
//!
//! The comparison is the catalog's ([`catalog::Expected`]), in the transaction that makes the change, on the node that makes it. A
//! condition travels to the owner of a volume inside the operation.

use super::members::{node_member, store_member};
use super::{Result, catalog_error};
use crate::host::Host;
use api::{AlertOperation, Answer, Operation as O, OperationError};
use catalog::{
    AlertTargetRow, ContainerRow, Expected, IntentRow, Row, TokenRow, UserRow, VolumeRow,
    VolumeState,
};
use std::rc::Rc;
use world::LocalBoxFuture;

/// An attempt before had no answer: whether it made the change is for the client to see.
pub(super) fn perhaps_changed_by_this(error: &OperationError) -> OperationError {
    OperationError::unavailable(format!(
        "{}; an attempt before had no answer, and it may have been this very request that changed it",
        error.message
    ))
}

impl Host {
    /// What a change is about, as somebody has seen it. A deletion that is under way goes on, whatever the version is.
    async fn expected(&self, version: u64, change: &O) -> Result<Expected> {
        Ok(match change {
            O::VolumeSet { name, .. }
            | O::VolumeDelete { name }
            | O::VolumeResize { name, .. }
            | O::VolumeRestore { volume: name, .. }
            | O::Attach { volume: name, .. }
            | O::Detach { volume: name, .. } => {
                let found = self.catalog.volume_named(name).await;
                let row = found.map_err(catalog_error)?.row;
                let expected = Expected::new::<VolumeRow>("volume", name, row.key(), version);
                let deletes = matches!(change, O::VolumeDelete { .. });
                match deletes && row.state == VolumeState::Deleting {
                    true => expected.begun(),
                    false => expected,
                }
            }
            O::ContainerSet { name, .. } | O::ContainerDelete { name } => {
                let found = self.catalog.container_named(name).await;
                let key = found.map_err(catalog_error)?.row.key();
                Expected::new::<ContainerRow>("container", name, key, version)
            }
            O::NodeSet { name, .. } => {
                let key = IntentRow::key_of(node_member(&self.view(), name)?.subject);
                Expected::new::<IntentRow>("node", name, key, version)
            }
            O::StoreSet { id, .. } => {
                let key = IntentRow::key_of(store_member(&self.view(), *id)?.subject);
                Expected::new::<IntentRow>("store", id.to_string(), key, version)
            }
            O::UserSet { name, .. } | O::UserDelete { name } => {
                self.catalog.user(name).await.map_err(catalog_error)?;
                Expected::new::<UserRow>("user", name, UserRow::key_of(name), version)
            }
            O::TokenDelete { name, user } => {
                let found = self.catalog.token(name, user.as_deref()).await;
                let key = found.map_err(catalog_error)?.row.key();
                Expected::new::<TokenRow>("token", name, key, version)
            }
            O::Alert(AlertOperation::TargetDelete { name }) => {
                let found = self.catalog.alert_target(name).await;
                found.map_err(catalog_error)?;
                let key = AlertTargetRow::key_of(name);
                Expected::new::<AlertTargetRow>("target", name, key, version)
            }
            other => {
                return Err(OperationError::bad_request(format!(
                    "{} cannot depend on a version",
                    other.name()
                )));
            }
        })
    }

    /// Has `work`, which carries `change` out, made on top of a version.
    pub(super) async fn on_top_of(
        &self,
        version: u64,
        change: &O,
        work: LocalBoxFuture<'_, Result<Answer>>,
    ) -> Result<Answer> {
        let expected = self.expected(version, change).await?;
        self.catalog.expecting(expected, work).await
    }

    /// A change that needs no owner of a volume, or finds it by itself.
    pub(super) async fn operate_conditionally(
        self: &Rc<Self>,
        version: u64,
        change: O,
    ) -> Result<Answer> {
        if let O::VolumeDelete { name } = &change {
            return self.delete_volume(name, Some(version)).await;
        }
        let work = Box::pin(self.operate_anywhere(change.clone()));
        self.on_top_of(version, &change, work).await
    }
}
