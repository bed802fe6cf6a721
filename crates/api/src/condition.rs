//! Changes on top of a version that somebody has seen.
//!
//! What has no condition, and why: what creates has nothing to be on top of; a snapshot or group snapshot never changes, so that its id
//! says all; a node or store is removed only while nothing is on it, in several steps; disks, the authority and the catalog's place are
//! not rows of this kind; a drain of a volume changes nothing that people see, its release from quarantine nothing
//! that it is; alerts and tasks end by themselves.

use crate::alerts::AlertOperation;
use crate::answer::Answer;
use crate::operation::Operation;

impl Operation {
    /// What is to be done, without a condition.
    #[must_use]
    pub fn bare(&self) -> &Self {
        match self {
            Self::Conditional { change, .. } => change.bare(),
            other => other,
        }
    }

    /// The version that it is on top of, if any.
    #[must_use]
    pub fn version(&self) -> Option<u64> {
        match self {
            Self::Conditional { version, .. } => Some(*version),
            _ => None,
        }
    }

    /// The same on top of a version, if one is given.
    #[must_use]
    pub fn on_top_of(self, version: Option<u64>) -> Self {
        match version {
            Some(version) => Self::Conditional {
                version,
                change: Box::new(self),
            },
            None => self,
        }
    }

    /// Whether it changes one thing that has a version, in a way that can be made to depend on it.
    #[must_use]
    pub fn takes_condition(&self) -> bool {
        matches!(
            self,
            Self::ContainerSet { .. }
                | Self::ContainerDelete { .. }
                | Self::VolumeSet { .. }
                | Self::VolumeDelete { .. }
                | Self::VolumeResize { .. }
                | Self::VolumeRestore { .. }
                | Self::Attach { .. }
                | Self::Detach { .. }
                | Self::NodeSet { .. }
                | Self::StoreSet { .. }
                | Self::UserSet { .. }
                | Self::UserDelete { .. }
                | Self::TokenDelete { .. }
                | Self::Alert(AlertOperation::TargetDelete { .. })
        )
    }
}

impl Answer {
    /// The version of the one thing that is shown, if it has any.
    #[must_use]
    pub fn version(&self) -> Option<u64> {
        match self {
            Self::Container(value) => value.version,
            Self::Volume(value) => value.version,
            Self::Member(value) => value.version,
            Self::User(value) => value.version,
            Self::Token(value) => value.version,
            Self::AlertTarget(value) => value.version,
            _ => None,
        }
    }
}
