//! Azekura: the one binary and its verbs.
//!
//! `azekura node` puts a node together from its configuration (`config.rs`, `node.rs`); `azekura disk` works
//! on disks of this machine (`disk.rs`), and `azekura catalog` on the catalog itself (`catalog_verbs.rs`); `azekura csi` serves the CSI driver (`csi_verbs.rs`), whose devices are processes of
//! their own (`local.rs`, `launch.rs`); `azekura preflight` looks at this machine (`preflight.rs`); `azekura support-bundle` puts
//! answers of the API into a file (`bundle.rs`); `azekura attach` is a process of its own (`attach.rs`), and so is
//! the hidden `azekura bench` (`bench.rs`); a node that leads brings alerts to mail servers and webhooks (`courier.rs`); all other verbs are calls to a node's REST API (`verbs.rs`, `users.rs`, `remote.rs`), printed by `output.rs`.
//!
//! Exit status: [`exit_code`]; docs/operating/command-line.md has the table.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "the binary is where the operating system is"
)]

mod alerts;
mod attach;
mod audit;
mod authority;
mod bay;
mod bench;
mod bundle;
mod catalog_place;
mod catalog_verbs;
mod claims;
mod cli;
mod config;
#[cfg(test)]
mod config_tests;
mod courier;
#[cfg(test)]
mod coverage;
mod credentials;
mod csi_verbs;
mod disk;
mod disk_verbs;
mod events;
mod groups;
mod joining;
mod kept;
mod last_words;
mod launch;
mod light;
mod local;
mod log_window;
mod logs;
mod members;
mod node;
mod output;
mod preflight;
mod quantity;
#[cfg(test)]
mod quarantine_tests;
mod remote;
mod seat;
mod sessions;
mod settings;
mod shelf;
mod space;
mod tail;
mod tasks;
mod told_lines;
mod top;
mod usage;
mod users;
mod verbs;
mod watch;

use api::http::status_code;
use api::{ErrorKind, Problem};
use clap::{CommandFactory, Parser};
use cli::{Cli, ClusterVerb, DiskVerb, Form, NodeArgs, NodeVerb, Verb};
use output::document;
use remote::{Endpoint, Remote, RemoteError};
use std::io::Write;
use std::process::ExitCode;
use tasks::TaskFailed;
use verbs::Console;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let form = cli.output;
    match run(cli) {
        Ok(text) => match std::io::stdout().write_all(text.as_bytes()) {
            Ok(()) => ExitCode::SUCCESS,
            // The reader has seen enough (`azekura volume list | head`), or the disk is full.
            Err(_) => ExitCode::FAILURE,
        },
        Err(error) => {
            complain(&error, form);
            ExitCode::from(exit_code(&error))
        }
    }
}

/// A verb that cannot be carried out as it was written.
#[derive(Debug)]
pub struct Usage(pub String);

impl std::fmt::Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

/// What a shell is told of an error.
fn exit_code(error: &anyhow::Error) -> u8 {
    if error.is::<Usage>() {
        return 2;
    }
    if error.is::<TaskFailed>() {
        return 8;
    }
    let said = error.downcast_ref::<RemoteError>();
    match said.map(|said| said.to_operation_error().kind) {
        None | Some(ErrorKind::Failed) => 1,
        Some(ErrorKind::BadRequest) => 2,
        Some(ErrorKind::NotFound) => 3,
        Some(ErrorKind::Exists | ErrorKind::InUse | ErrorKind::Refused | ErrorKind::Changed) => 4,
        Some(ErrorKind::Unauthenticated | ErrorKind::Forbidden) => 5,
        Some(ErrorKind::Unavailable | ErrorKind::Throttled) => 6,
        Some(ErrorKind::NoSpace) => 7,
    }
}

/// Text for standard output.
fn run(cli: Cli) -> anyhow::Result<String> {
    let endpoint = Endpoint {
        api: &cli.api,
        token_file: cli.token_file.as_deref(),
        credentials: cli.credentials.as_deref(),
    };
    if cli.watch {
        return watch::watch(endpoint, cli.clone());
    }
    let text = match cli.verb {
        Verb::Node(arguments) if arguments.verb.is_none() => {
            node::run(&arguments).map(|()| String::new())?
        }
        Verb::Node(NodeArgs {
            verb: Some(NodeVerb::Join(arguments)),
            ..
        }) => joining::join(&arguments, cli.output)?,
        Verb::Disk(DiskVerb::Format(arguments)) => disk::format(arguments, cli.output)?,
        Verb::Disk(DiskVerb::Show { path }) => disk::show(&path, cli.output)?,
        Verb::Catalog(verb) if !verb.asks_a_node() => catalog_verbs::run(verb, cli.output)?,
        Verb::Cluster(ClusterVerb::Init(arguments)) => credentials::init(&arguments, cli.output)?,
        Verb::Cluster(ClusterVerb::Credentials(verb)) => {
            credentials::credentials(verb, cli.output)?
        }
        Verb::Completion { shell } => completion(shell),
        Verb::Csi(verb) => csi_verbs::run(endpoint, verb).map(|()| String::new())?,
        Verb::Attach(arguments) => attach::attach(endpoint, &arguments, cli.output)?,
        Verb::Detach(arguments) => attach::detach(endpoint, &arguments, cli.output)?,
        Verb::AttachGuard(one) => {
            ::attach::stand_guard(&one.run_dir, &one.name).map(|()| String::new())?
        }
        Verb::Preflight(arguments) => preflight::run(&arguments, cli.output)?,
        Verb::SupportBundle(arguments) => bundle::run(endpoint, &arguments, cli.output)?,
        Verb::Bench(arguments) => bench::run(endpoint, &arguments, cli.output)?,
        verb => console(&Remote::new(endpoint)?, verb, cli.output)?,
    };
    Ok(text)
}

/// What a shell reads to complete verbs and options.
fn completion(shell: clap_complete::Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "azekura", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

/// Verbs that are one call to the API.
fn console(remote: &Remote, verb: Verb, form: Form) -> anyhow::Result<String> {
    let console = Console { remote, form };
    let verb = match verb {
        Verb::User(verb) => return console.user(verb),
        Verb::Session(verb) => return console.session(verb),
        Verb::Audit(arguments) => return Ok(console.audit(&arguments)?),
        Verb::Task(verb) => return console.task(verb),
        Verb::Alert(verb) => return console.alert(verb),
        other => other,
    };
    let shown = match verb {
        Verb::Container(verb) => console.container(verb),
        Verb::Volume(verb) => console.volume(verb),
        Verb::Snapshot(verb) => console.snapshot(verb),
        Verb::Clone(arguments) => console.clone_volume(arguments),
        Verb::Group(verb) => console.group(verb),
        Verb::Token(verb) => console.token(verb),
        Verb::Kubernetes(verb) => console.kubernetes(verb),
        Verb::Node(NodeArgs {
            verb: Some(verb), ..
        }) => match verb {
            NodeVerb::List => console.nodes(),
            NodeVerb::Member(verb) => console.member("nodes", verb),
            NodeVerb::Token(verb) => console.join_token(verb),
            NodeVerb::Approve { name } => console.approve(&name),
            NodeVerb::Join(_) => unreachable!("it is carried out here"),
        },
        Verb::Catalog(verb) => return console.catalog(verb),
        Verb::Disk(verb) => console.disk(verb),
        Verb::Store(verb) => console.store(verb),
        Verb::Resiliency => console.resiliency(),
        Verb::Space => console.space(),
        Verb::Events(arguments) => console.events(&arguments),
        Verb::Logs(arguments) => console.logs(&arguments),
        Verb::Metrics(verb) => console.metrics(&verb),
        Verb::Top(arguments) => console.top(&arguments),
        Verb::Status => console.status(),
        Verb::Cluster(ClusterVerb::Show) => console.cluster(),
        Verb::Cluster(ClusterVerb::Api) => console.document(),
        Verb::Cluster(ClusterVerb::Settings { page }) => console.settings(&page),
        Verb::Cluster(ClusterVerb::Ca(verb)) => console.authority(verb),
        Verb::Capacity(arguments) => console.capacity(&arguments),
        Verb::GroupSnapshot(verb) => console.group_snapshot(verb),
        other => unreachable!("{other:?} is no call to the API"),
    };
    Ok(shown?)
}

/// What programs are told of an error: the problem as the API has it, with its kind as `code`.
fn problem(error: &anyhow::Error) -> serde_json::Value {
    if let Some(said) = error.downcast_ref::<RemoteError>() {
        let said = said.to_operation_error();
        let problem = Problem::new(&said, status_code(said.kind));
        let mut fields = serde_json::json!(problem);
        fields["code"] = serde_json::json!(said.kind.name());
        fields["remedy"] = serde_json::json!(remedy(error));
        return fields;
    }
    let (code, remedy) = match (error.is::<Usage>(), error.is::<TaskFailed>()) {
        (true, _) => ("bad-request", "see `azekura VERB --help`"),
        (_, true) => (
            "task-failed",
            "look at the task with `azekura task show`, and at its log with `azekura logs --task`",
        ),
        _ => ("failed", "do what the message says, on this machine"),
    };
    let message = format!("{error:#}");
    serde_json::json!({"code": code, "kind": code, "message": message, "remedy": remedy})
}

/// What to do next about what a node refused; other messages say it themselves.
fn remedy(error: &anyhow::Error) -> Option<&'static str> {
    match error.downcast_ref::<RemoteError>()? {
        RemoteError::Unreachable { .. } => {
            Some("name a node that runs, or start the one there, and repeat the command")
        }
        said => Some(said.to_operation_error().kind.remedy()),
    }
}

fn complain(error: &anyhow::Error, form: Form) {
    match form {
        Form::Json | Form::JsonLine => eprintln!("{}", problem(error)),
        Form::Yaml => eprint!("{}", document(&problem(error))),
        Form::Table => {
            eprintln!("azekura: {error:#}");
            if let Some(remedy) = remedy(error) {
                eprintln!("What to do: {remedy}.");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::OperationError;

    #[test]
    fn every_kind_of_error_has_its_code_its_remedy_and_its_status() {
        let wanted = [3, 4, 4, 5, 5, 6, 4, 6, 4, 7, 1, 2];
        for (kind, status) in ErrorKind::ALL.into_iter().zip(wanted) {
            let said = RemoteError::Refused(OperationError::new(kind, "no volume x"));
            let error = anyhow::Error::from(said);
            assert_eq!(exit_code(&error), status, "{kind:?}");
            let problem = problem(&error);
            assert_eq!(problem["code"], kind.name());
            assert_eq!(problem["kind"], kind.name());
            assert_eq!(problem["remedy"], kind.remedy());
            assert_eq!(problem["message"], "no volume x");
            assert_eq!(problem["status"], status_code(kind));
        }
        let nobody = anyhow::Error::from(RemoteError::Unreachable {
            url: "http://127.0.0.1:1".to_owned(),
            reason: "refused".to_owned(),
        });
        let (status, told) = (exit_code(&nobody), problem(&nobody));
        assert_eq!((status, &told["code"]), (6, &"unavailable".into()));
        assert!(
            told["remedy"]
                .as_str()
                .is_some_and(|remedy| remedy.contains("a node that runs")),
            "{told}"
        );
        let local = anyhow::anyhow!("cannot read x");
        assert_eq!(
            (exit_code(&local), &problem(&local)["code"]),
            (1, &"failed".into())
        );
        let usage = anyhow::Error::from(Usage("no".to_owned()));
        assert_eq!(exit_code(&usage), 2);
        let failed = tasks::ended(&[api::TaskAnswer {
            status: "failed".to_owned(),
            ..api::TaskAnswer::default()
        }]);
        let failed = failed.unwrap_err();
        assert_eq!(exit_code(&failed), 8);
        assert_eq!(problem(&failed)["code"], "task-failed");
    }

    #[test]
    fn shells_learn_the_verbs() {
        for shell in [
            clap_complete::Shell::Bash,
            clap_complete::Shell::Zsh,
            clap_complete::Shell::Fish,
        ] {
            let script = completion(shell);
            for word in ["azekura", "volume", "snapshot", "logs", "token-file"] {
                assert!(script.contains(word), "{shell}: no {word}");
            }
        }
    }
}
