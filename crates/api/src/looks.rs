//! Which operations only look: one list, for whoever asks (who may, what the audit log says, what disks are told).

use crate::operation::Operation as O;

impl O {
    /// Whether it only looks, and so leaves everything as it was. Every operation is named here, so that a new one is not
    /// forgotten.
    #[must_use]
    pub fn looks(&self) -> bool {
        match self {
            O::Figures | O::MetricsQuery(_) | O::MetricsPart { .. } | O::Busiest(_) => true,
            O::TaskList(_) | O::TaskShow { .. } | O::Events(_) | O::Space { .. } => true,
            O::Alert(operation) => operation.looks(),
            O::Kubernetes(operation) => operation.looks(),
            O::GroupList | O::GroupShow { .. } | O::CloneList(_) => true,
            O::TokenShow { .. } | O::UserShow { .. } => true,
            O::TokenList | O::UserList | O::AuditList(_) | O::SessionList { .. } => true,
            O::Logs(_) | O::LogsPart(_) | O::SettingList | O::Glance { .. } => true,
            O::Status | O::Cluster => true,
            O::Capacity { .. }
            | O::Resiliency
            | O::NodeShow { .. }
            | O::StoreShow { .. }
            | O::StoreList
            | O::DiskList
            | O::CatalogShow
            | O::CatalogBackup
            | O::ContainerList
            | O::ContainerShow { .. }
            | O::VolumeList(_)
            | O::VolumeShow { .. }
            | O::SnapshotList(_)
            | O::SnapshotShow { .. }
            | O::SnapshotDiff { .. }
            | O::GroupSnapshotList
            | O::GroupSnapshotShow { .. }
            | O::AuthorityShow
            | O::TokenFind { .. }
            | O::UserFind { .. }
            | O::SessionFind { .. }
            | O::Changes { .. } => true,
            O::TaskCancel { .. } | O::StoreScrub { .. } | O::CatalogMove(_) => false,
            O::NodeSet { .. }
            | O::NodeRemove { .. }
            | O::StoreSet { .. }
            | O::StoreRemove { .. }
            | O::ContainerCreate(_)
            | O::ContainerSet { .. }
            | O::ContainerDelete { .. }
            | O::VolumeCreate(_)
            | O::VolumeSet { .. }
            | O::VolumePause { .. }
            | O::VolumeResume { .. }
            | O::VolumeDelete { .. }
            | O::VolumeResize { .. }
            | O::VolumeRestore { .. }
            | O::SnapshotCreate { .. }
            | O::SnapshotDelete { .. }
            | O::GroupSnapshotCreate(_)
            | O::GroupSnapshotDelete { .. }
            | O::NodeJoin { .. }
            | O::CertificateRenew { .. }
            | O::AuthorityRotate
            | O::AuthorityRetire(_)
            | O::SessionCreate { .. }
            | O::SessionEnd { .. }
            | O::SessionDelete { .. }
            | O::LogReport { .. } => false,
            O::VolumeDrain { .. } | O::VolumeRelease { .. } => false,
            O::TokenCreate { .. } | O::TokenDelete { .. } | O::JoinTokenCreate { .. } => false,
            O::UserCreate { .. } | O::UserSet { .. } | O::UserDelete { .. } => false,
            O::DiskAdd(_) | O::DiskReplace { .. } | O::DiskLocate { .. } => false,
            O::Conditional { change, .. } => change.looks(),
            O::AuditRecord { .. } | O::Once(_) | O::Attach { .. } | O::Detach { .. } => false,
        }
    }

    /// Whether the node that has the disks carries it out.
    #[must_use]
    pub fn is_at_disks(&self) -> bool {
        matches!(
            self,
            O::StoreRemove { .. }
                | O::StoreScrub { .. }
                | O::DiskAdd(_)
                | O::DiskReplace { .. }
                | O::DiskLocate { .. }
        )
    }
}
