//! Who is at the other end of a connection.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// What a certificate of the cluster allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// To be a node: everything between nodes.
    Node,
    /// Everything in the API, and volumes.
    Admin,
    /// To look at everything in the API.
    Viewer,
    /// What the CSI driver needs of the API, and volumes.
    Csi,
    /// To attach volumes.
    Client,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 5] = [
        Self::Node,
        Self::Admin,
        Self::Viewer,
        Self::Csi,
        Self::Client,
    ];

    /// Its name in certificates and commands.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Admin => "admin",
            Self::Viewer => "viewer",
            Self::Csi => "csi",
            Self::Client => "client",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|role| role.name() == text);
        found.ok_or_else(|| {
            format!("{text:?} is not a role: use node, admin, viewer, csi or client")
        })
    }
}

/// Volumes that somebody is limited to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Names of their containers; empty: all.
    pub containers: Vec<String>,
    /// Names of the Kubernetes clusters that they were made for, as their labels say; empty: all.
    pub kubernetes: Vec<String>,
}

impl Limits {
    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.containers.is_empty() && self.kubernetes.is_empty()
    }
}

/// Who calls, as a certificate of the cluster says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// What it may do.
    pub role: Role,
    /// Its name; a node's is that of its configuration.
    pub name: String,
    /// The volumes with which it may; shared, as every request has its caller.
    pub limits: Arc<Limits>,
}

impl Caller {
    /// Somebody without limits.
    #[must_use]
    pub fn new(role: Role, name: impl Into<String>) -> Self {
        Self {
            role,
            name: name.into(),
            limits: Arc::default(),
        }
    }
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.role, self.name)
    }
}
