//! Verbs that make certificates: they work where the authority's file is.

use crate::cli::{CredentialsArgs, CredentialsVerb, Form, InitArgs, LimitArgs};
use crate::output::{Done, Table, fields, render, time};
use anyhow::{Context, bail};
use identity::{Authority, CLIENT_DAYS, Credentials, KeyRequest, NODE_DAYS};
use serde::Serialize;
use std::path::Path;
use std::sync::Arc;
use world::{Caller, Limits, Role};

/// Name of the authority's file below the folder of `cluster init`.
const AUTHORITY_FILE: &str = "authority.pem";

/// `cluster init`.
pub fn init(arguments: &InitArgs, form: Form) -> anyhow::Result<String> {
    let dir = &arguments.dir;
    let file = dir.join(AUTHORITY_FILE);
    if file.exists() {
        bail!(
            "{} is there already: a second authority would lock out everybody whom the first one signed for. To \
             replace it use `azekura cluster ca rotate`",
            file.display()
        );
    }
    std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let authority = Authority::make(&arguments.cluster)?;
    let (node, admin) = (dir.join("node"), dir.join("admin"));
    let caller = Caller::new(Role::Node, &arguments.node);
    sign(&authority, &caller, NODE_DAYS, &node)?;
    let caller = Caller::new(Role::Admin, "admin");
    sign(&authority, &caller, CLIENT_DAYS, &admin)?;
    // Last: what is there without it can be made again.
    authority.write(&file)?;
    let done = Done {
        done: format!(
            "cluster {} has an authority. Keep a copy of {} where nobody else gets at it: whoever has it can make \
             himself a node.\n\nIn the configuration of node {}:\n\n    [tls]\n    credentials = \"{}\"\n    \
             authority = \"{}\"\n\nTo use the cluster:\n\n    export AZEKURA_CREDENTIALS={}",
            arguments.cluster,
            file.display(),
            arguments.node,
            node.display(),
            file.display(),
            admin.display()
        ),
    };
    Ok(render(&done, form))
}

fn sign(authority: &Authority, caller: &Caller, days: u32, folder: &Path) -> anyhow::Result<()> {
    let key = KeyRequest::make()?;
    let certificate = authority.sign(&key.request, caller, days)?;
    // Through a rotation the old authority is believed by the one it has signed.
    key.store(folder, &certificate, authority.certificate())?;
    Ok(())
}

/// `cluster credentials ...`.
pub fn credentials(verb: CredentialsVerb, form: Form) -> anyhow::Result<String> {
    match verb {
        CredentialsVerb::Create(arguments) => create(&arguments, form),
        CredentialsVerb::Show { folder } => show(&folder, form),
    }
}

fn create(arguments: &CredentialsArgs, form: Form) -> anyhow::Result<String> {
    let authority = Authority::read(&arguments.authority).context(
        "the authority's file cannot be used: run this where `azekura cluster init` ran",
    )?;
    let days = arguments.days.unwrap_or(match arguments.role {
        Role::Node => NODE_DAYS,
        _ => CLIENT_DAYS,
    });
    let caller = Caller {
        limits: Arc::new(limits_of(arguments.role, &arguments.limits)?),
        ..Caller::new(arguments.role, &arguments.name)
    };
    sign(&authority, &caller, days, &arguments.out)?;
    show(&arguments.out, form)
}

/// What credentials are limited to. Those of a driver are by something, or for everything because somebody has said so.
fn limits_of(role: Role, given: &LimitArgs) -> anyhow::Result<Limits> {
    let limits = Limits {
        containers: given.containers.clone(),
        kubernetes: given.kubernetes.clone(),
    };
    let said = given.all_containers || !limits.is_empty();
    match (role, said) {
        (Role::Csi, false) => bail!(
            "credentials of role csi need limits: say --container NAME, --kubernetes NAME, or both; or --all-containers, if \
             the driver is to reach every volume"
        ),
        (Role::Csi, true) | (_, false) => Ok(limits),
        (_, true) => bail!(
            "only credentials of role csi are limited to volumes: those of role {role} take no --container, --kubernetes and \
             --all-containers"
        ),
    }
}

/// What a folder of credentials says.
#[derive(Debug, Serialize)]
struct CredentialsReport {
    role: String,
    name: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    containers: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    kubernetes: Vec<String>,
    until_ms: u64,
    issuer: String,
}

impl Table for CredentialsReport {
    fn table(&self) -> String {
        let mut rows = vec![("role", self.role.clone()), ("name", self.name.clone())];
        if self.role == Role::Csi.name() {
            let names = |names: &[String]| match names.is_empty() {
                true => "all".to_owned(),
                false => names.join(", "),
            };
            rows.push(("containers", names(&self.containers)));
            rows.push(("kubernetes", names(&self.kubernetes)));
        }
        rows.push(("until", time(self.until_ms)));
        rows.push(("signed by", self.issuer.clone()));
        fields(&rows)
    }
}

fn show(folder: &Path, form: Form) -> anyhow::Result<String> {
    let loaded = Credentials::read(folder)?.last();
    let report = CredentialsReport {
        role: loaded.caller.role.to_string(),
        name: loaded.caller.name.clone(),
        containers: loaded.caller.limits.containers.clone(),
        kubernetes: loaded.caller.limits.kubernetes.clone(),
        until_ms: u64::try_from(loaded.until).unwrap_or(0) * 1000,
        issuer: loaded.issuer.clone(),
    };
    Ok(render(&report, form))
}
