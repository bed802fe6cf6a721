//! Arguments of the verbs on users and of the audit log.

use super::{IfVersion, UserListArgs};
use crate::config::parse_name;
use clap::{Args, Subcommand, ValueEnum};
use std::path::PathBuf;

/// Verbs on users.
#[derive(Clone, Debug, Subcommand)]
pub enum UserVerb {
    /// Make a user who can log in to the web pages
    Create {
        /// Unique name.
        #[arg(value_parser = parse_name)]
        name: String,
        /// What the user may do.
        #[arg(long, value_enum)]
        role: Role,
        /// The password.
        #[command(flatten)]
        password: PasswordArgs,
    },
    /// List users
    List {
        /// Which part.
        #[command(flatten)]
        page: UserListArgs,
    },
    /// Show one user; its version is in the JSON form
    Show {
        /// The name.
        name: String,
    },
    /// Give a user another password, which ends the user's sessions
    Passwd {
        /// The name.
        name: String,
        /// The password.
        #[command(flatten)]
        password: PasswordArgs,
        /// What it is on top of.
        #[command(flatten)]
        on: IfVersion,
    },
    /// Give a user another role, which ends the user's sessions
    SetRole {
        /// The name.
        name: String,
        /// What the user may do.
        #[arg(value_enum)]
        role: Role,
        /// What it is on top of.
        #[command(flatten)]
        on: IfVersion,
    },
    /// Delete a user, whose sessions end with that
    Delete {
        /// The name.
        name: String,
        /// What it is on top of.
        #[command(flatten)]
        on: IfVersion,
    },
}

/// Where a password comes from.
#[derive(Clone, Debug, Args)]
pub struct PasswordArgs {
    /// File with the password in its first line; `-`: standard input. Nothing: one is made and shown, this once.
    #[arg(long, value_name = "FILE")]
    pub password_file: Option<PathBuf>,
}

/// What a user may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Role {
    /// To look at everything but users, tokens and the audit log.
    Viewer,
    /// Everything but users, tokens, certificates and the removal of nodes and stores.
    Operator,
    /// Everything.
    Admin,
}

/// Verbs on the audit log.
#[derive(Clone, Debug, Subcommand)]
pub enum AuditVerb {
    /// List who has changed what, newest first
    List(AuditArgs),
    /// Show one entry: what was there before, and what was asked for
    Show {
        /// Its id.
        id: u64,
        /// Of what drivers did.
        #[arg(long)]
        drivers: bool,
    },
}

/// Arguments of `audit list`.
#[derive(Clone, Debug, Default, Args)]
pub struct AuditArgs {
    /// Entries at most, 1 to 1000.
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub limit: u32,
    /// Only entries before the one of this id; with --sort or a filter, those that come after it.
    #[arg(long, value_name = "ID")]
    pub before: Option<u64>,
    /// What drivers did, instead of what people did.
    #[arg(long)]
    pub drivers: bool,
    /// By id, who, operation, subject or outcome, with `-` in front from the other end [-id: the newest first].
    #[arg(long, value_name = "FIELD", allow_hyphen_values = true)]
    pub sort: Option<api::AuditSort>,
    /// Only what this one did, as in "user NAME".
    #[arg(long)]
    pub who: Option<String>,
    /// Only this operation, such as volume-delete.
    #[arg(long)]
    pub operation: Option<String>,
    /// Only what was about this, such as the name of a volume.
    #[arg(long)]
    pub subject: Option<String>,
    /// Only what came out so, such as done or forbidden.
    #[arg(long)]
    pub outcome: Option<String>,
}
