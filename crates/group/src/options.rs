//! How a pool behaves.

use world::Duration;

/// Tunables.
#[derive(Clone, Debug)]
pub struct PoolOptions {
    /// Patience with one put or read of an extent before the member counts as failed.
    pub patience: Duration,
    /// How long a member that failed is passed over.
    pub shun: Duration,
    /// A deliberate bug.
    #[cfg(feature = "bugs")]
    pub bug: Option<Bug>,
    /// Who is told of puts.
    #[cfg(feature = "bugs")]
    pub witness: Option<crate::Witness>,
}

impl Default for PoolOptions {
    fn default() -> Self {
        Self {
            patience: Duration::from_secs(2),
            shun: Duration::from_secs(2),
            #[cfg(feature = "bugs")]
            bug: None,
            #[cfg(feature = "bugs")]
            witness: None,
        }
    }
}

/// Deliberate bugs, for the simulator to find.
#[cfg(feature = "bugs")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// What a member sends of raw frames is believed without a look at the checksum.
    BelieveMembers,
    /// A former member empties itself without a look at the members, filled or not.
    LeaveUnchecked,
    /// A former member deletes what it holds, as if it were garbage.
    LeaveWithTombstones,
    /// A fill leaves one extent of three out.
    FillInPart,
    /// A member that is being filled does not ask former ones.
    ForgetFormer,
    /// Members that took a put are not told who did not.
    ForgetMissing,
}

/// Whether a deliberate bug is planted: constant false without the feature.
#[cfg(feature = "bugs")]
macro_rules! bug {
    ($options:expr, $name:ident) => {
        $options.bug == Some($crate::options::Bug::$name)
    };
}

/// Whether a deliberate bug is planted: constant false without the feature.
#[cfg(not(feature = "bugs"))]
macro_rules! bug {
    ($options:expr, $name:ident) => {{
        let _ = &$options;
        false
    }};
}

pub(crate) use bug;
