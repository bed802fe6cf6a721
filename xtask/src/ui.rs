//! `cargo xtask ui`: builds the web pages, checks them, and walks them with a real browser against a real cluster.
//!
//! What is built lies in `ui/dist`, which the next build of the binary takes in. Node.js 20.19 or newer and npm are needed; without
//! them the checks are not run, and everything else goes on.

use crate::cluster::{self, Cluster, Plan};
use crate::nbd;
use crate::packages::{self, need};
use crate::process::{cargo, find_program, stream, target_directory};
use crate::rest;
use crate::tally::Tally;
use anyhow::{Context, Result, bail, ensure};
use serde_json::json;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Where the sources are.
pub const FOLDER: &str = "ui";
/// Bytes of all scripts, compressed, at most.
const SCRIPT_BYTES_MAX: u64 = 350_000;
/// The user that the browser logs in as.
const USER: &str = "browser";
/// The volume of the walk that is written to, so that there is something to draw.
const BUSY_VOLUME: &str = "web-root";
/// Pause between two of these writes.
const BUSY_PAUSE: Duration = Duration::from_millis(20);
/// Blocks that they go to, over and over.
const BUSY_BLOCKS: u64 = 1024;
/// Nodes at the start; one more joins.
const MEMBERS: usize = 3;
/// Size of each disk's file: the walk writes next to nothing.
const DISK_BYTES: u64 = 1 << 30;

/// `cargo xtask ui [test [--pictures DIR]]`.
pub fn run(arguments: &[String]) -> Result<bool> {
    match arguments {
        [] => {
            build()?;
            Ok(true)
        }
        [word] if word == "test" => test(None),
        [word, name, folder] if word == "test" && name == "--pictures" => {
            test(Some(Path::new(folder)))
        }
        _ => bail!("usage: cargo xtask ui [test [--pictures DIR]]"),
    }
}

/// Everything: the sources, a binary with them, and the walk.
fn test(pictures: Option<&Path>) -> Result<bool> {
    let mut tally = check()?;
    let status = cargo()
        .args(["build", "-q", "--package", "azekura"])
        .status()?;
    ensure!(status.success(), "the build failed: see above");
    tally.add(&walk(&target_directory()?.join("debug/azekura"), pictures)?);
    Ok(tally.failed == 0)
}

/// Whether there is a Node.js that is new enough.
pub fn available() -> bool {
    let output = Command::new("node").arg("--version").output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let text = text.unwrap_or_default();
    let mut parts = text.trim().trim_start_matches('v').split('.');
    let mut number = || parts.next().and_then(|part| part.parse::<u32>().ok());
    let version = (number().unwrap_or(0), number().unwrap_or(0));
    version >= (20, 19) && find_program("npm").is_some()
}

fn npm(arguments: &[&str]) -> Result<()> {
    let mut command = Command::new("npm");
    command.current_dir(FOLDER).args(arguments);
    let (fine, _) = stream(&mut command, |_| false)?;
    ensure!(fine, "`npm {}` failed in {FOLDER}", arguments.join(" "));
    Ok(())
}

/// What `package-lock.json` names, unless that is there.
fn install() -> Result<()> {
    ensure!(
        available(),
        "the pages need Node.js 20.19 or newer and npm: install them, or go on without pages"
    );
    let time = |path: &str| {
        let metadata = fs::metadata(Path::new(FOLDER).join(path));
        metadata.and_then(|metadata| metadata.modified()).ok()
    };
    let installed = time("node_modules/.package-lock.json");
    if installed.is_some() && installed >= time("package-lock.json") {
        return Ok(());
    }
    npm(&["ci", "--no-audit", "--no-fund"])
}

/// Builds the pages, and looks at what it became.
fn build() -> Result<()> {
    install()?;
    npm(&["run", "-s", "build"])?;
    let mut bytes = 0;
    for entry in fs::read_dir(Path::new(FOLDER).join("dist/assets"))? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().ends_with(".js.gz") {
            bytes += entry.metadata()?.len();
        }
    }
    println!("    scripts: {} kB compressed", bytes / 1000);
    ensure!(
        (1..=SCRIPT_BYTES_MAX).contains(&bytes),
        "the scripts have {bytes} bytes compressed; 1 to {SCRIPT_BYTES_MAX} are allowed"
    );
    Ok(())
}

/// Lint, types, unit tests, and build. Each that fails counts.
pub fn check() -> Result<Tally> {
    install()?;
    let mut tally = Tally::default();
    let mut count = |what: &str, result: Result<()>| match result {
        Ok(()) => tally.passed += 1,
        Err(error) => {
            println!("    {what}: {error:#}");
            tally.failed += 1;
        }
    };
    count("format, lint and types", npm(&["run", "-s", "check"]));
    count("unit tests", npm(&["run", "-s", "test"]));
    count("build", build());
    Ok(tally)
}

/// Starts three nodes of a binary with the pages in it, all connections encrypted, and one that wants to join; has a browser walk
/// their pages.
pub fn walk(binary: &Path, pictures: Option<&Path>) -> Result<Tally> {
    let needs = [need("chromium", "chromium"), need("etcd", "etcd-server")];
    let missing = packages::ensure(&needs);
    ensure!(missing.is_empty(), "{} is missing", missing.join(", "));
    let target = target_directory()?;
    let plan = Plan {
        folder: target.join("ui-walk"),
        nodes: MEMBERS,
        disks: MEMBERS,
        disk_bytes: DISK_BYTES,
        etcd: true,
        prewritten: false,
        sparse: false,
        bench: false,
        tokens: true,
        tls: true,
        detached: false,
        given_disks: Vec::new(),
        network: None,
    };
    let mut cluster = Cluster::start(binary.to_path_buf(), plan)?;
    cluster.wait_verdict("ok", Duration::from_secs(60))?;
    cluster.join_node(DISK_BYTES)?;
    let tally = walk_in(&cluster, pictures);
    if tally.as_ref().is_ok_and(|tally| tally.failed == 0) {
        cluster.remove()?;
    }
    tally
}

fn walk_in(cluster: &Cluster, pictures: Option<&Path>) -> Result<Tally> {
    let password = password()?;
    let spec = json!({"name": USER, "role": "admin", "password": password});
    let api = cluster.any_api().context("no node runs")?;
    rest::call(api, "POST", "/users", Some(&spec))?;
    let members = &cluster.nodes[..MEMBERS];
    let urls: Vec<String> = members.iter().map(|node| node.api.url()).collect();
    let chromium = find_program("chromium").context("chromium is missing")?;
    let last = members.last().and_then(cluster::Node::pid);
    let joins = cluster.nodes.last().context("a node joins")?;
    let etcd = cluster.etcd_port().context("etcd does not run")?;
    let mut command = Command::new("node");
    command
        .current_dir(FOLDER)
        .arg("browser/walk.mjs")
        .env("AZEKURA_URLS", urls.join(","))
        .env("AZEKURA_USER", USER)
        .env("AZEKURA_PASSWORD", password)
        .env("AZEKURA_CHROMIUM", chromium)
        .env("AZEKURA_JOINS", &joins.name)
        .env("AZEKURA_ETCD", format!("http://127.0.0.1:{etcd}"))
        .env("AZEKURA_LOSE", last.unwrap_or_default().to_string());
    // What failed can be looked at; without a folder of its own it lies with the cluster's.
    let folder = match pictures {
        Some(folder) => std::path::absolute(folder)?,
        None => cluster.folder.join("pictures"),
    };
    command.env("AZEKURA_PICTURES", folder);
    let over = AtomicBool::new(false);
    let (fine, lines) = std::thread::scope(|scope| {
        scope.spawn(|| keep_busy(&cluster.nodes[0].nbd, &over));
        let walked = stream(&mut command, |line| line.starts_with("browser: "));
        over.store(true, Ordering::Relaxed);
        walked
    })?;
    let mut tally = lines
        .last()
        .and_then(|line| counts(line))
        .unwrap_or_default();
    if !fine && tally.failed == 0 {
        tally.failed = 1;
    }
    Ok(tally)
}

/// Reads and writes one volume, once it is there, until the walk is over.
fn keep_busy(nbd: &str, over: &AtomicBool) {
    let patience = Duration::from_secs(60);
    let is_over = || over.load(Ordering::Relaxed);
    let block = [7_u8; 4096];
    while !is_over() {
        // Refused until the browser has made the volume.
        if let Ok(mut client) = nbd::Client::connect(nbd, BUSY_VOLUME, patience) {
            let mut work = |turn: u64| {
                let offset = turn % BUSY_BLOCKS * 4096;
                client.write(offset, &block)?;
                client.send_read(offset, block.len())?;
                client.receive()
            };
            let mut turn = 0;
            while !is_over() && work(turn).is_ok() {
                turn += 1;
                std::thread::sleep(BUSY_PAUSE);
            }
        }
        std::thread::sleep(BUSY_PAUSE * 10);
    }
}

/// Reads `browser: 12 passed, 0 failed`.
fn counts(line: &str) -> Option<Tally> {
    let (passed, failed) = line.strip_prefix("browser: ")?.split_once(" passed, ")?;
    Some(Tally {
        passed: passed.parse().ok()?,
        failed: failed.strip_suffix(" failed")?.parse().ok()?,
        skipped: 0,
    })
}

/// 122 random bits, for as long as the cluster runs.
pub fn password() -> Result<String> {
    let text = fs::read_to_string(PathBuf::from("/proc/sys/kernel/random/uuid"))?;
    Ok(text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_read_from_the_last_line() {
        let tally = counts("browser: 12 passed, 3 failed").expect("it is one");
        assert_eq!((tally.passed, tally.failed), (12, 3));
        assert_eq!(counts("browser: many passed, 3 failed"), None);
    }
}
