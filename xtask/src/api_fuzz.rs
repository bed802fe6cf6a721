//! `cargo xtask fuzz-api`: requests generated from the OpenAPI document that a real node serves, sent to that node.
//!
//! schemathesis generates them: bounds and their neighbours, missing and odd values, wrong types, methods that are not there. No answer may be an
//! error of the server's, have a status or a form that the document does not tell of, or end the node. An administrator may do all
//! of it; a viewer and a driver ask for the same, fewer times, so that refusals are what the document says, too. It is a Python
//! package, fetched once into `target/tools`.

use crate::cluster::{Cluster, Plan};
use crate::process::{find_program, stream, target_directory};
use crate::rest::{self, Api};
use crate::tally::Tally;
use anyhow::{Context, Result, bail, ensure};
use serde_json::json;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const PACKAGE: &str = "schemathesis==4.32.5";
/// Starts the command line of the package wherever that was put.
const START: &str =
    "import sys; from schemathesis.cli import schemathesis; sys.exit(schemathesis())";
/// What is looked at in each answer.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,\
                      response_schema_conformance,response_headers_conformance,unsupported_method";
/// The stream of changes does not end.
const EXCLUDED: &str = "/stream$|/logs/follow$";
/// Seconds for one request: a probe of an address that nobody has takes some.
const REQUEST_SECONDS: u32 = 30;
/// Seconds for one round.
const ROUND_SECONDS: u32 = 600;
/// Names that requests of the first round use, so that they reach what is there.
const NAMES: &str = r#"
[[operations]]
include-path-regex = "^/api/v1/volumes/"
parameters = { "path.name" = "v", "path.snapshot" = "s" }

[[operations]]
include-path-regex = "^/api/v1/containers/"
parameters = { "path.name" = "c" }

[[operations]]
include-path-regex = "^/api/v1/nodes/"
parameters = { "path.name" = "node-1" }

[[operations]]
include-path-regex = "^/api/v1/(stores|disks)/"
parameters = { "path.id" = 2, "path.store" = 2 }

[[operations]]
include-path-regex = "^/api/v1/tasks/"
parameters = { "path.id" = 1 }

[[operations]]
include-path-regex = "^/api/v1/group-snapshots/"
parameters = { "path.id" = "GROUP" }

[[operations]]
include-path-regex = "^/api/v1/users/"
parameters = { "path.name" = "u" }
"#;
const DISK_BYTES: u64 = 1 << 30;
/// Scopes of those who may not do everything.
const LIMITED: [&str; 3] = ["viewer", "operator", "csi"];
/// They have one example of so many: most of what they ask for ends at the door.
const LIMITED_SHARE: u64 = 10;

/// `cargo xtask fuzz-api [--examples N] [--seed N]`.
pub fn run(arguments: &[String]) -> Result<bool> {
    let (mut examples, mut seed) = (50, 1);
    let mut left = arguments.iter();
    while let Some(name) = left.next() {
        let value = left.next().and_then(|value| value.parse().ok());
        let value = value.with_context(|| format!("{name} needs a number"))?;
        match name.as_str() {
            "--examples" => examples = value,
            "--seed" => seed = value,
            other => bail!("usage: cargo xtask fuzz-api [--examples N] [--seed N], not {other}"),
        }
    }
    let binary = crate::cluster::binary(None)?;
    let tally = fuzz(&binary, examples, seed)?;
    let tally = tally.context("python3 with pip is needed for schemathesis")?;
    Ok(tally.failed == 0)
}

/// All rounds against a node of this binary; nothing when there is no Python, or no package.
pub fn fuzz(binary: &Path, examples: u64, seed: u64) -> Result<Option<Tally>> {
    let Some(tool) = Tool::install()? else {
        return Ok(None);
    };
    let plan = Plan {
        folder: target_directory()?.join("api-fuzz"),
        nodes: 1,
        disks: 3,
        disk_bytes: DISK_BYTES,
        etcd: false,
        prewritten: false,
        sparse: false,
        bench: false,
        tokens: true,
        tls: false,
        detached: false,
        given_disks: Vec::new(),
        network: None,
    };
    let cluster = Cluster::start(binary.to_path_buf(), plan)?;
    let api = cluster.any_api().context("no node runs")?;
    let group = make_things(api)?;
    let names = cluster.folder.join("schemathesis.toml");
    fs::write(&names, NAMES.replace("GROUP", &group))?;
    let mut tally = Tally::default();
    for round in rounds(api, &names, (examples, seed), &cluster.folder)? {
        match tool.play(&round)? && answers(api) {
            true => tally.passed += 1,
            false => tally.failed += 1,
        }
    }
    if tally.failed == 0 {
        cluster.remove()?;
    } else {
        println!(
            "    the node's log and disks stay in {}",
            cluster.folder.display()
        );
    }
    Ok(Some(tally))
}

/// A container, volumes, a snapshot, a user, and a group snapshot, whose id it returns.
fn make_things(api: &Api) -> Result<String> {
    rest::post(api, "/containers", &json!({"name": "c", "rf": 2}))?;
    for name in ["v", "w"] {
        let spec = json!({"name": name, "container": "c", "size": 64 << 20});
        rest::post(api, "/volumes", &spec)?;
    }
    rest::post(api, "/volumes/v/snapshots", &json!({"name": "s"}))?;
    let user = json!({"name": "u", "role": "viewer", "password": "a password of u"});
    rest::post(api, "/users", &user)?;
    let group = json!({"name": "g", "volumes": ["v", "w"]});
    let group = rest::post(api, "/group-snapshots", &group)?;
    let id = group["id"].as_str();
    let id = id.with_context(|| format!("a group snapshot has no id: {group}"))?;
    Ok(id.to_owned())
}

/// What is asked for, and by whom.
fn rounds<'a>(
    api: &'a Api,
    names: &'a PathBuf,
    (examples, seed): (u64, u64),
    folder: &'a Path,
) -> Result<Vec<Round<'a>>> {
    let file = api.token_file.as_ref();
    let file = file.context("the API asks for no token")?;
    let admin = fs::read_to_string(file)?.trim().to_owned();
    let round = |token: String, names| Round {
        api,
        token,
        phases: "coverage,fuzzing",
        examples,
        seed,
        names,
        folder,
    };
    // First what is there, and is to stay; then whatever names come up, deletions among the rest.
    let mut rounds = vec![round(admin.clone(), Some(names))];
    for scope in LIMITED {
        rounds.push(Round {
            phases: "fuzzing",
            examples: examples.div_ceil(LIMITED_SHARE),
            ..round(token(api, scope)?, Some(names))
        });
    }
    rounds.push(round(admin, None));
    Ok(rounds)
}

/// A new token of a scope.
fn token(api: &Api, scope: &str) -> Result<String> {
    let mut spec = json!({"name": format!("fuzz-{scope}"), "scope": scope});
    if scope == "csi" {
        spec["all_containers"] = json!(true);
    }
    let made = rest::post(api, "/tokens", &spec)?;
    let token = made["token"].as_str().context("there is no token")?;
    Ok(token.to_owned())
}

/// Whether the node still works.
fn answers(api: &Api) -> bool {
    let status = rest::get(api, "/status");
    if let Err(error) = &status {
        println!("    the node does not answer any more: {error:#}");
    }
    status.is_ok()
}

struct Round<'a> {
    api: &'a Api,
    token: String,
    phases: &'a str,
    examples: u64,
    seed: u64,
    names: Option<&'a PathBuf>,
    folder: &'a Path,
}

/// The package, where it was put.
struct Tool {
    python: PathBuf,
    packages: PathBuf,
}

impl Tool {
    fn install() -> Result<Option<Self>> {
        let Some(python) = find_program("python3") else {
            println!("    python3 is missing: the API is not fuzzed");
            return Ok(None);
        };
        let packages = target_directory()?.join("tools/schemathesis");
        let complete = packages.join("complete");
        if fs::read_to_string(&complete).is_ok_and(|text| text == PACKAGE) {
            return Ok(Some(Self { python, packages }));
        }
        println!("    fetching {PACKAGE}, once");
        fs::create_dir_all(&packages)?;
        let mut pip = Command::new(&python);
        pip.args(["-m", "pip", "install", "--quiet", "--upgrade", "--target"]);
        let status = pip.arg(&packages).arg(PACKAGE).status()?;
        if !status.success() {
            println!("    {PACKAGE} cannot be installed: the API is not fuzzed");
            return Ok(None);
        }
        fs::write(complete, PACKAGE)?;
        Ok(Some(Self { python, packages }))
    }

    /// Whether every answer was as the document says.
    fn play(&self, round: &Round<'_>) -> Result<bool> {
        let url = format!("{}/api/v1/openapi.json", round.api.url());
        let mut command = Command::new("timeout");
        command.arg(ROUND_SECONDS.to_string()).arg(&self.python);
        command
            .args(["-c", START])
            .env("PYTHONPATH", &self.packages);
        // It keeps what it has tried where it runs.
        command.current_dir(round.folder);
        if let Some(names) = round.names {
            command.arg("--config-file").arg(names);
        }
        command.args(["run", &url, "--phases", round.phases, "--no-color"]);
        let header = format!("Authorization: Bearer {}", round.token);
        command.args(["--header", &header]);
        command.args(["--checks", CHECKS, "--exclude-path-regex", EXCLUDED]);
        if round.names.is_some() {
            command.args(["--exclude-method", "DELETE"]);
        }
        command.args(["--continue-on-failure", "--warnings", "off"]);
        command.args(["--seed", &round.seed.to_string()]);
        command.args(["--max-examples", &round.examples.to_string()]);
        command.args(["--request-timeout", &REQUEST_SECONDS.to_string()]);
        let said = |line: &str| line.contains(" generated");
        let (fine, lines) = stream(&mut command, said)?;
        ensure!(
            !lines.is_empty(),
            "schemathesis has sent nothing: see above"
        );
        Ok(fine)
    }
}
