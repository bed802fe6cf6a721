//! Arguments of the verbs on alerts.

use super::{IfVersion, TargetListArgs};
use crate::config::parse_name;
use clap::{Args, Subcommand, ValueEnum};
use std::path::PathBuf;

/// Verbs on alerts.
#[derive(Clone, Debug, Subcommand)]
pub enum AlertVerb {
    /// List what is wrong, or was
    List(AlertListArgs),
    /// Show one alert: cause, impact and remedy
    Show {
        /// Its id.
        id: u64,
    },
    /// Say that somebody has seen it
    Acknowledge(AlertNoteArgs),
    /// End an alert that does not end by itself
    Resolve(AlertNoteArgs),
    /// Who is told of alerts
    #[command(subcommand)]
    Target(TargetVerb),
}

/// Arguments of `alert list`.
#[derive(Clone, Debug, Args)]
pub struct AlertListArgs {
    /// Which ones.
    #[arg(long, value_enum, default_value_t = AlertStateName::Open)]
    pub state: AlertStateName,
    /// Only of this severity.
    #[arg(long, value_enum)]
    pub severity: Option<SeverityName>,
    /// Only of this kind, such as node-lost.
    #[arg(long)]
    pub kind: Option<String>,
    /// Only about this, such as node/node-3.
    #[arg(long)]
    pub entity: Option<String>,
    /// To go on: only those that come after this one.
    #[arg(long, value_name = "ID")]
    pub before: Option<u64>,
    /// By id, severity, state, kind, entity or seen, with `-` in front from the other end [-id: the newest first].
    #[arg(long, value_name = "FIELD", allow_hyphen_values = true)]
    pub sort: Option<api::AlertSort>,
    /// Alerts at most, 1 to 800.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=800))]
    pub limit: u32,
}

/// Which alerts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum AlertStateName {
    /// Those that are not over.
    Open,
    /// Those that are.
    Resolved,
    /// Both.
    All,
}

/// How much an alert matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SeverityName {
    /// Good to know.
    Info,
    /// A person should know.
    Warning,
    /// A person should act.
    Critical,
}

/// Arguments of `alert acknowledge` and `alert resolve`.
#[derive(Clone, Debug, Args)]
pub struct AlertNoteArgs {
    /// Its id.
    pub id: u64,
    /// For whoever reads it later.
    #[arg(long, value_name = "TEXT")]
    pub note: Option<String>,
}

/// Verbs on those who are told.
#[derive(Clone, Debug, Subcommand)]
pub enum TargetVerb {
    /// Tell somebody of what changes from now on
    #[command(subcommand)]
    Add(TargetAddVerb),
    /// List who is told, and how that goes
    List {
        /// Which part.
        #[command(flatten)]
        page: TargetListArgs,
    },
    /// Show one who is told, and how that goes
    Show {
        /// Its name.
        name: String,
    },
    /// Tell somebody no more
    Delete {
        /// Its name.
        name: String,
        /// What it is on top of.
        #[command(flatten)]
        on: IfVersion,
    },
    /// Send a test message, and wait until it is delivered
    Test {
        /// Its name.
        name: String,
    },
}

/// How somebody is told.
#[derive(Clone, Debug, Subcommand)]
pub enum TargetAddVerb {
    /// By a POST of JSON for each change
    Webhook {
        /// What every target has.
        #[command(flatten)]
        basics: TargetArgs,
        /// Where.
        #[command(flatten)]
        url: UrlArgs,
        /// File with the key of the signature, in its first line; `-`: standard input.
        #[arg(long, value_name = "FILE")]
        secret_file: Option<PathBuf>,
    },
    /// By a mail for each change
    Mail(MailArgs),
    /// By Prometheus' Alertmanager
    Alertmanager {
        /// What every target has.
        #[command(flatten)]
        basics: TargetArgs,
        /// Where; its API is below, at /api/v2.
        #[command(flatten)]
        url: UrlArgs,
        /// Who logs in.
        #[command(flatten)]
        login: LoginArgs,
    },
}

/// What every target has.
#[derive(Clone, Debug, Args)]
pub struct TargetArgs {
    /// Unique name.
    #[arg(value_parser = parse_name)]
    pub name: String,
    /// What matters less is not told.
    #[arg(long, value_enum, default_value_t = SeverityName::Info)]
    pub minimum: SeverityName,
    /// File with certificates (PEM) of whom to believe instead of those whom the system believes.
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
}

/// An address, which may be a secret.
#[derive(Clone, Debug, Args)]
#[group(required = true, multiple = false)]
pub struct UrlArgs {
    /// The address, http:// or https://.
    #[arg(long)]
    pub url: Option<String>,
    /// File with the address in its first line, where nobody else shall see it; `-`: standard input.
    #[arg(long, value_name = "FILE")]
    pub url_file: Option<PathBuf>,
}

/// Who logs in.
#[derive(Clone, Debug, Args)]
pub struct LoginArgs {
    /// Name of the user.
    #[arg(long, requires = "password_file")]
    pub user: Option<String>,
    /// File with the password in its first line; `-`: standard input.
    #[arg(long, value_name = "FILE", requires = "user")]
    pub password_file: Option<PathBuf>,
}

/// Arguments of `alert target add mail`.
#[derive(Clone, Debug, Args)]
pub struct MailArgs {
    /// What every target has.
    #[command(flatten)]
    pub basics: TargetArgs,
    /// The server, `host` or `host:port`.
    #[arg(long, value_name = "ADDRESS")]
    pub server: String,
    /// How the connection is encrypted.
    #[arg(long, value_enum, default_value_t = SecurityName::Starttls)]
    pub security: SecurityName,
    /// Who logs in.
    #[command(flatten)]
    pub login: LoginArgs,
    /// Address of the sender.
    #[arg(long, value_name = "MAIL")]
    pub from: String,
    /// Address of a receiver; may be repeated.
    #[arg(long, value_name = "MAIL", required = true)]
    pub to: Vec<String>,
}

/// How a connection to a mail server is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SecurityName {
    /// After STARTTLS, or not sent at all.
    Starttls,
    /// From the first byte on.
    Tls,
    /// Not: only without a password.
    None,
}
