//! Verbs on Kubernetes clusters.

use super::KubernetesListArgs;
use clap::{Args, Subcommand};

/// Verbs on Kubernetes clusters.
#[derive(Clone, Debug, Subcommand)]
pub enum KubernetesVerb {
    /// Kubernetes clusters that drivers report of, or that labels of volumes name
    List {
        /// Which, and in which order.
        #[command(flatten)]
        page: KubernetesListArgs,
    },
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
#[derive(Clone, Debug, Args)]
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
    /// Only claims of this name.
    #[arg(long = "name", value_name = "NAME", id = "claim")]
    pub claim: Option<String>,
    /// By place (namespace, name and uid), name, status, class, requested, capacity or created, with `-` in front from the other end.
    #[arg(long, value_name = "FIELD", allow_hyphen_values = true)]
    pub sort: Option<api::ClaimSort>,
    /// Claims at most, 1 to 1000; nothing: all.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub limit: Option<u32>,
    /// Only claims after this one: what the page before says comes next.
    #[arg(long, value_name = "KEY")]
    pub after: Option<String>,
}
