//! Who is at the other end of a connection.

use std::fmt;
use std::str::FromStr;

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

/// Who calls, as a certificate of the cluster says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// What it may do.
    pub role: Role,
    /// Its name; a node's is that of its configuration.
    pub name: String,
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.role, self.name)
    }
}
