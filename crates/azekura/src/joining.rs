//! The verbs by which nodes join, and those on the authority.

use crate::cli::{CaVerb, Form, JoinArgs, JoinTokenVerb};
use crate::config::Config;
use crate::output::{Done, Table, columns, fields, render, time};
use crate::remote::{PROGRAM, RemoteError};
use crate::verbs::{Console, Shown};
use anyhow::{Context, bail};
use api::client::{Ask, Client, ClientError, Method, body_of};
use api::http::{PREFIX, path};
use api::{
    AuthorityAnswer, JoinAnswer, JoinRequest, JoinTokenAnswer, JoinTokenSpec, MemberAnswer,
    MemberChange, Retirement,
};
use identity::{JoinToken, KeyRequest, fingerprint, pinned_client, split};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Pause between two looks at a rotation.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);
/// Longest wait for a connection, and for an answer.
const CONNECT_MAX: Duration = Duration::from_secs(5);
const ANSWER_MAX: Duration = Duration::from_secs(60);

impl Console<'_> {
    /// `node token ...`.
    pub fn join_token(&self, verb: JoinTokenVerb) -> Shown {
        let JoinTokenVerb::Create { ttl } = verb;
        let spec = JoinTokenSpec {
            ttl_seconds: ttl.map(|ttl| ttl.as_secs()),
        };
        self.show::<JoinTokenAnswer>(self.remote.post(&path(&["join-tokens"]), &spec))
    }

    /// `node approve`.
    pub fn approve(&self, name: &str) -> Shown {
        let change = MemberChange {
            approved: Some(true),
            ..MemberChange::default()
        };
        self.show::<MemberAnswer>(self.remote.patch(&path(&["nodes", name]), &change))
    }

    /// `cluster ca ...`.
    pub fn authority(&self, verb: CaVerb) -> Shown {
        match verb {
            CaVerb::Show => self.show::<AuthorityAnswer>(self.authority_now()),
            CaVerb::Rotate { no_wait } => {
                let to = path(&["authority", "rotate"]);
                let begun: AuthorityAnswer = self.remote.post(&to, &serde_json::json!({}))?;
                match no_wait {
                    true => self.show(Ok(begun)),
                    false => self.show(self.wait_for_renewals(begun)),
                }
            }
            CaVerb::Retire { force } => {
                let to = path(&["authority", "retire"]);
                self.show::<AuthorityAnswer>(self.remote.post(&to, &Retirement { force }))
            }
        }
    }

    fn authority_now(&self) -> Result<AuthorityAnswer, RemoteError> {
        self.remote.get(&path(&["authority"]))
    }

    /// Says on standard error which nodes have not renewed, whenever that changes.
    fn wait_for_renewals(
        &self,
        mut answer: AuthorityAnswer,
    ) -> Result<AuthorityAnswer, RemoteError> {
        let mut said = String::new();
        loop {
            let behind = answer.nodes.iter().filter(|node| !node.current);
            let behind: Vec<&str> = behind.map(|node| node.node.as_str()).collect();
            if behind.is_empty() {
                return Ok(answer);
            }
            let left = behind.join(", ");
            if left != said {
                eprintln!("not yet renewed: {left}");
                said = left;
            }
            std::thread::sleep(LOOK_INTERVAL);
            answer = self.authority_now()?;
        }
    }
}

/// `node join`.
pub fn join(arguments: &JoinArgs, form: Form) -> anyhow::Result<String> {
    let config = &arguments.config;
    if config.exists() {
        bail!(
            "{} is there already: say another file with --config",
            config.display()
        );
    }
    let token: JoinToken = read_token(&arguments.token)?;
    let name = match &arguments.name {
        Some(name) => name.clone(),
        None => machine_name()?,
    };
    let folder = arguments.out.clone().unwrap_or_else(|| {
        let beside = config.parent().unwrap_or(Path::new(""));
        beside.join("credentials")
    });
    let folder = std::path::absolute(&folder)?;
    let key = KeyRequest::make()?;
    let request = JoinRequest {
        secret: token.secret.clone(),
        name: name.clone(),
        request: key.request.clone(),
        stores: u32::try_from(arguments.disks.len())?,
    };
    // Before the token is used up: what would be wrong with the configuration.
    let place = JoinAnswer {
        cluster: "cluster".to_owned(),
        catalog: "[catalog]\netcd = [\"http://127.0.0.1:2379\"]\n".to_owned(),
        stores: (1..=request.stores).collect(),
        supervised: true,
        ..JoinAnswer::default()
    };
    Config::parse(config, &configuration(arguments, &name, &folder, &place)?)?;
    let answer = ask(&token, &request)?;
    let believed = split("the authorities of the answer", &answer.authorities)?;
    if !believed
        .iter()
        .any(|shown| fingerprint(shown) == token.fingerprint)
    {
        bail!("the cluster does not believe the authority that the token names: make a new token");
    }
    key.store(&folder, &answer.certificate, &answer.authorities)?;
    let text = configuration(arguments, &name, &folder, &answer)?;
    Config::parse(config, &text)?;
    identity::write_public(config, &text)?;
    let done = Done {
        done: format!(
            "node {name} has joined cluster {}. Start it with\n\n    azekura node --config {}\n\nand let it take part \
             with\n\n    azekura node approve {name}",
            answer.cluster,
            config.display()
        ),
    };
    Ok(render(&done, form))
}

fn read_token(given: &str) -> anyhow::Result<JoinToken> {
    let text = match given {
        "-" => std::io::read_to_string(std::io::stdin()).context("cannot read standard input")?,
        text => text.to_owned(),
    };
    text.parse().map_err(anyhow::Error::msg)
}

fn machine_name() -> anyhow::Result<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname");
    let name = name.context("cannot tell this machine's name: say one with --name")?;
    crate::config::parse_name(name.trim()).map_err(anyhow::Error::msg)
}

/// Asks at the token's addresses, one after the other, until one answers.
fn ask(token: &JoinToken, request: &JoinRequest) -> anyhow::Result<JoinAnswer> {
    let pinned = pinned_client(&token.fingerprint)?;
    let client = Client::over(PROGRAM, CONNECT_MAX, identity::http::fixed(pinned));
    let mut reasons = Vec::new();
    for address in &token.addresses {
        let asked = client.ask(&Ask {
            server: &format!("https://{address}"),
            method: &Method::POST,
            path: &format!("{PREFIX}/join"),
            body: Some(&body_of(request)),
            token: None,
            request_id: None,
            patience: ANSWER_MAX,
        });
        match asked {
            Ok(answer) => return Ok(answer),
            Err(ClientError::Refused(error)) if error.kind != api::ErrorKind::Unavailable => {
                return Err(RemoteError::Refused(error).into());
            }
            Err(ClientError::Refused(error)) => reasons.push(format!("{address}: {error}")),
            Err(ClientError::Unreachable(reason) | ClientError::Odd(reason)) => {
                reasons.push(format!("{address}: {reason}"));
            }
        }
    }
    bail!("nobody lets this node join: {}", reasons.join("; "))
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

fn absolute(path: &Path) -> anyhow::Result<PathBuf> {
    std::path::absolute(path).context("cannot tell the working directory")
}

/// The configuration of the node.
fn configuration(
    arguments: &JoinArgs,
    name: &str,
    folder: &Path,
    answer: &JoinAnswer,
) -> anyhow::Result<String> {
    let mut text = String::new();
    let mut line = |key: &str, value: &str| {
        writeln!(text, "{key} = {}", quoted(value)).expect("a string takes everything");
    };
    line("cluster", &answer.cluster);
    line("node", name);
    line("listen", &arguments.listen);
    if let Some(advertise) = &arguments.advertise {
        line("advertise", advertise);
    }
    if let Some(nbd) = &arguments.nbd {
        line("nbd", nbd);
    }
    line("api", &arguments.serve_api);
    let folder = folder.to_str().context("the folder's name is not text")?;
    write!(
        text,
        "\n[tls]\ncredentials = {}\n\n{}",
        quoted(folder),
        answer.catalog
    )?;
    if answer.supervised && !arguments.no_etcd {
        text += "\n[etcd]\n";
        let addresses = [
            ("client", &arguments.etcd_client),
            ("peer", &arguments.etcd_peer),
        ];
        for (key, address) in addresses {
            if let Some(address) = address {
                writeln!(text, "{key} = {}", quoted(address))?;
            }
        }
    }
    for (disk, id) in arguments.disks.iter().zip(&answer.stores) {
        let disk = absolute(disk)?;
        let disk = disk.to_str().context("a disk's name is not text")?;
        write!(text, "\n[[store]]\nid = {id}\n")?;
        if let Some(journal) = arguments.journal {
            writeln!(text, "journal = \"{journal}\"")?;
        }
        write!(text, "\n[[store.disk]]\npath = {}\n", quoted(disk))?;
        if let Some(create) = arguments.create {
            writeln!(text, "create = \"{create}\"")?;
        }
    }
    Ok(text)
}

impl Table for JoinTokenAnswer {
    fn table(&self) -> String {
        let token = self.token.as_deref().unwrap_or("-");
        format!(
            "{token}\n\nIt lets one node join until {}:\n\n    azekura node join --token TOKEN --config \
             /etc/azekura/node.toml --advertise ADDRESS --disk PATH\n",
            time(self.expires_ms)
        )
    }
}

impl Table for AuthorityAnswer {
    fn table(&self) -> String {
        let mut text = fields(&[
            ("signs", self.signer.clone()),
            ("fingerprint", self.fingerprint.clone()),
            ("believed", self.believed.to_string()),
        ]);
        let rows: Vec<Vec<String>> = self
            .nodes
            .iter()
            .map(|node| {
                let renewed = if node.current { "yes" } else { "no" };
                vec![
                    node.node.clone(),
                    renewed.to_owned(),
                    time(node.until_ms),
                    node.issuer.clone(),
                ]
            })
            .collect();
        text += "\n";
        text += &columns(&["NODE", "CURRENT", "UNTIL", "SIGNED BY"], &rows);
        if self.believed > 1 {
            text += "\nA rotation is under way. Make new credentials for clients and people, give them out, then end it \
                     with `azekura cluster ca retire`.\n";
        }
        text
    }
}
