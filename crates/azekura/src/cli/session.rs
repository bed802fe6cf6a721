//! Verbs on sessions: of people who log in with a password, here or in the web pages.

use super::SessionListArgs;
use clap::{Args, Subcommand};
use std::path::PathBuf;

/// Verbs on sessions.
#[derive(Clone, Debug, Subcommand)]
pub enum SessionVerb {
    /// Say who asks, and what that allows
    Show,
    /// Log in as a user, and keep the session in a file for --token-file
    Create(SessionCreateArgs),
    /// Log out: end the session that --token-file names
    Delete,
    /// List sessions that count: one's own, or as an administrator those of all users
    List {
        /// Which, and in which order.
        #[command(flatten)]
        page: SessionListArgs,
    },
    /// End a session: one's own, or as an administrator anybody's
    End {
        /// Its id, as `session list` shows it.
        id: String,
    },
    /// Change one's own password, which ends all of one's sessions
    Password(OwnPasswordArgs),
}

/// Arguments of `session create`.
#[derive(Clone, Debug, Args)]
pub struct SessionCreateArgs {
    /// Name of the user.
    pub user: String,
    /// File with the password in its first line; `-`: standard input.
    #[arg(long, value_name = "FILE")]
    pub password_file: PathBuf,
    /// The file to make, which only its owner can read; nothing may be there.
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
}

/// Arguments of `session password`.
#[derive(Clone, Debug, Args)]
pub struct OwnPasswordArgs {
    /// File with the present password in its first line; `-`: standard input.
    #[arg(long, value_name = "FILE")]
    pub current_file: PathBuf,
    /// File with the new password in its first line; `-`: standard input. Nothing: one is made and shown, this once.
    #[arg(long, value_name = "FILE")]
    pub password_file: Option<PathBuf>,
    /// Log in as this user for it, instead of with a session that --token-file names.
    #[arg(long, value_name = "NAME")]
    pub user: Option<String>,
}
