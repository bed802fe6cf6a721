//! Verbs on Kubernetes clusters.

use clap::{Args, Subcommand};

/// Verbs on Kubernetes clusters.
#[derive(Debug, Subcommand)]
pub enum KubernetesVerb {
    /// Kubernetes clusters that drivers report of, or that labels of volumes name
    List,
    /// One of them, with its storage classes
    Show {
        /// Its name.
        name: String,
    },
    /// Its claims, and the volumes they have
    Claims(ClaimArgs),
    /// Forget what was reported of one that is no more; its volumes stay
    Forget {
        /// Its name.
        name: String,
    },
}

/// Arguments of `kubernetes claims`.
#[derive(Debug, Args)]
pub struct ClaimArgs {
    /// Name of the Kubernetes cluster.
    pub name: String,
    /// Only claims of this namespace.
    #[arg(long, value_name = "NAME")]
    pub namespace: Option<String>,
    /// Only claims in this state, such as Pending.
    #[arg(long, value_name = "STATE")]
    pub status: Option<String>,
    /// Only the claim of this volume.
    #[arg(long, value_name = "NAME")]
    pub volume: Option<String>,
}
