//! The pool is filled until it takes no more, while the file systems under load are frozen: what is refused then is the
//! filler's, and that of a file system that is there to be refused.

use super::crowded::Crowded;
use super::site::Site;
use crate::cluster::Cluster;
use crate::driver::output;
use crate::{nbd, rest};
use anyhow::{Context, Result, ensure};
use serde_json::json;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// The volume that takes what is left, and its container: one copy on every node, so that all fill alike.
const FILLER: &str = "filler";
/// Of the volume, more than there is.
const FILLER_BYTES: u64 = 64 << 30;
/// Written at a time.
const CHUNK: usize = 1 << 20;
/// Longest wait for one answer: writers wait for collection before they are refused.
const ANSWER_MAX: Duration = Duration::from_secs(180);
/// Longest time until a pool of some GiB is full.
const FULL_MAX: Duration = Duration::from_secs(600);
/// Longest wait until it has room again.
const ROOM_MAX: Duration = Duration::from_secs(300);
/// `ENOSPC` as NBD says it.
const NO_SPACE: &str = "error 28";

/// Frozen file systems; they go on when it goes out of scope.
struct Frozen<'a>(&'a [Site]);

impl<'a> Frozen<'a> {
    fn new(sites: &'a [Site]) -> Result<Self> {
        let frozen = Self(sites);
        for site in sites {
            output(Command::new("fsfreeze").arg("--freeze").arg(&site.mount))?;
        }
        Ok(frozen)
    }
}

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        for site in self.0 {
            let thawed = output(Command::new("fsfreeze").arg("--unfreeze").arg(&site.mount));
            if let Err(error) = thawed {
                eprintln!("    {}: {error:#}", site.mount.display());
            }
        }
    }
}

/// Fills, reads back, deletes, and waits for room; says what it did.
pub fn fill(cluster: &Cluster, sites: &[Site]) -> Result<String> {
    let mut crowded = Crowded::make(cluster, Path::new(super::RUN_FOLDER))?;
    let frozen = Frozen::new(sites)?;
    let began = Instant::now();
    let api = cluster.any_api().context("no node runs")?;
    let containers = rest::get(api, "/containers")?;
    let mut names = containers.as_array().into_iter().flatten();
    if !names.any(|container| container["name"] == FILLER) {
        let copies = cluster.nodes.len();
        rest::post(api, "/containers", &json!({"name": FILLER, "rf": copies}))?;
    }
    let body = json!({"name": FILLER, "container": FILLER, "size": FILLER_BYTES});
    rest::post(api, "/volumes", &body)?;
    let written = write_until_full(cluster, began)?;
    let took = began.elapsed();
    compare(cluster, written)?;
    let (files, refusal) = crowded.write_until_refused()?;
    rest::call(api, "DELETE", &format!("/volumes/{FILLER}"), None)?;
    cluster.wait_verdict("ok", ROOM_MAX)?;
    drop(frozen);
    crowded.compare(cluster)?;
    Ok(format!(
        "the pool is full after {} MiB and {took:.1?}, file systems under load are frozen; another one, told \"{refusal}\" after {files} files, \
         has them all; the filler is deleted",
        written >> 20
    ))
}

/// What the filler holds at an offset.
fn chunk(at: u64) -> Vec<u8> {
    let mut dice = super::Dice::new(at);
    let words = (0..CHUNK / 4).map(|_| dice.below(1 << 31) as u32);
    words.flat_map(u32::to_le_bytes).collect()
}

fn connect(cluster: &Cluster) -> Result<nbd::Client> {
    nbd::Client::connect(&cluster.nodes[0].nbd, FILLER, ANSWER_MAX)
}

/// Bytes that were taken before one was refused for want of space.
fn write_until_full(cluster: &Cluster, began: Instant) -> Result<u64> {
    let mut client = connect(cluster)?;
    let mut at = 0;
    loop {
        match client.write(at, &chunk(at)) {
            Ok(()) => at += CHUNK as u64,
            Err(error) => {
                let text = format!("{error:#}");
                ensure!(text.contains(NO_SPACE), "a full pool refuses with: {text}");
                ensure!(at > 0, "there was no room at all: {text}");
                return Ok(at);
            }
        }
        ensure!(
            began.elapsed() < FULL_MAX,
            "the pool is not full after {} MiB and {FULL_MAX:?}",
            at >> 20
        );
    }
}

/// A full pool still reads, and what it took is right.
fn compare(cluster: &Cluster, written: u64) -> Result<()> {
    let mut client = connect(cluster)?;
    client.flush()?;
    let step = (written / 64).next_multiple_of(CHUNK as u64);
    let mut at = 0;
    while at < written {
        client.send_read(at, CHUNK)?;
        ensure!(
            client.receive()?.data == chunk(at),
            "the filler is wrong at byte {at}"
        );
        at += step;
    }
    Ok(())
}
