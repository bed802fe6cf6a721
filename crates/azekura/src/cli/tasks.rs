//! Verbs on tasks.

use clap::{Args, Subcommand};

/// Verbs on tasks.
#[derive(Clone, Debug, Subcommand)]
pub enum TaskVerb {
    /// Tasks, the newest first
    List(TaskListArgs),
    /// One task
    Show {
        /// Its id.
        id: u64,
    },
    /// Have a drain, a balance or a scrub stop: what it has moved stays moved
    Cancel {
        /// Its id.
        id: u64,
    },
    /// Show progress until tasks have ended; exit status 8 when one failed
    Watch {
        /// Their ids; nothing: all that are open now, with what begins meanwhile.
        ids: Vec<u64>,
    },
}

/// Arguments of `task list`.
#[derive(Clone, Debug, Args)]
pub struct TaskListArgs {
    /// Only these: open, or some of queued, running, succeeded, failed, cancelled, with commas between them.
    #[arg(long, value_name = "STATES")]
    pub status: Option<String>,
    /// Only tasks of this kind, such as volume-delete.
    #[arg(long)]
    pub kind: Option<String>,
    /// Only tasks about this, such as volume/db, node/node-3 or store/4.
    #[arg(long)]
    pub entity: Option<String>,
    /// Only the parts of this task.
    #[arg(long, value_name = "ID")]
    pub parent: Option<u64>,
    /// To go on: only those that come after this one.
    #[arg(long, value_name = "ID")]
    pub before: Option<u64>,
    /// By id, updated, status, kind, entity or node, with `-` in front from the other end [-id: the newest first].
    #[arg(long, value_name = "FIELD", allow_hyphen_values = true)]
    pub sort: Option<api::TaskSort>,
    /// Tasks at most, 1 to 1000.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub limit: u32,
}
