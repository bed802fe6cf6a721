//! The calls and their times: one volume again and again, many volumes one after the other while all stay attached, and
//! many claims at once.

use super::CONTAINER;
use super::cost::Cost;
use super::results::{Crowd, Samples, Time};
use crate::bench::request::Request;
use crate::bench::stage;
use crate::driver::{Claim, Driver, Kind, Snapshot};
use crate::process::may_grow_ext4;
use anyhow::{Context, Result};
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

/// Size of a claim.
pub const VOLUME_BYTES: u64 = 20 << 30;
/// What it grows to.
const GROWN_BYTES: u64 = 25 << 30;
/// Lives of one volume with each file system.
const ROUNDS: usize = 11;
const ROUNDS_QUICK: usize = 5;
/// What claims ask for, in turns.
const KINDS: [Kind; 2] = [Kind::Ext4, Kind::Xfs];

/// Times of the whole life of a volume, when there is no other.
pub fn one(driver: &Driver, request: &Request) -> Result<Vec<Time>> {
    let rounds = if request.quick { ROUNDS_QUICK } else { ROUNDS };
    let mut samples = Samples::default();
    for round in 0..rounds * KINDS.len() {
        let claim = set_up(driver, &mut samples, round)?;
        let mut claims = [claim];
        copy_and_grow(driver, &mut samples, &mut claims)?;
        tear_down(driver, &mut samples, &claims[0])?;
    }
    Ok(samples.times(1))
}

/// The same with many volumes: each step is done for all of them before the next. `watch` looks at them when all are
/// attached.
pub fn many(
    driver: &Driver,
    request: &Request,
    watch: impl FnOnce(&[Claim]) -> Result<Cost>,
) -> Result<(Vec<Time>, Cost)> {
    let mut samples = Samples::default();
    let started = Instant::now();
    let claims = (0..request.volumes).map(|index| set_up(driver, &mut samples, index));
    let mut claims: Vec<Claim> = claims.collect::<Result<_>>()?;
    println!(
        "    {} claims mounted in {:.1} s, one after the other",
        claims.len(),
        started.elapsed().as_secs_f64()
    );
    let cost = watch(&claims)?;
    stage("snapshots, clones, growth");
    copy_and_grow(driver, &mut samples, &mut claims)?;
    stage("teardown");
    for claim in &claims {
        tear_down(driver, &mut samples, claim)?;
    }
    Ok((samples.times(request.volumes), cost))
}

/// How many work at once: the default of the attacher and of the resizer.
const AT_ONCE: usize = 10;

/// Half as many claims, [`AT_ONCE`] at a time, from nothing to mounted and then to nothing again.
pub fn at_once(driver: &Driver, request: &Request) -> Result<Crowd> {
    let count = request.volumes.div_ceil(2);
    let samples = Mutex::new(Samples::default());
    let started = Instant::now();
    let claims = each(count, |index| {
        let mut own = Samples::default();
        let claim = set_up(driver, &mut own, index)?;
        samples.lock().expect("nobody panics").join(own);
        Ok(claim)
    })?;
    let up = started.elapsed().as_secs_f64();
    let started = Instant::now();
    each(count, |index| {
        let mut own = Samples::default();
        tear_down(driver, &mut own, &claims[index])?;
        samples.lock().expect("nobody panics").join(own);
        Ok(())
    })?;
    let down = started.elapsed().as_secs_f64();
    println!("    {count} claims, {AT_ONCE} at once: mounted in {up:.1} s, gone in {down:.1} s");
    let times = samples.into_inner().expect("nobody panics").times(count);
    let whole = |time: &Time| time.what.starts_with("claim to") || time.what == "teardown";
    Ok(Crowd {
        at_once: AT_ONCE,
        claims: count,
        up_seconds: up,
        down_seconds: down,
        times: times.into_iter().filter(whole).collect(),
    })
}

/// Does something for each index below `count`, [`AT_ONCE`] at a time; the outcomes are in the order of the indices.
fn each<T: Send>(count: usize, work: impl Fn(usize) -> Result<T> + Sync) -> Result<Vec<T>> {
    let next = AtomicUsize::new(0);
    let one = || -> Result<Vec<(usize, T)>> {
        let mut done = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::SeqCst);
            if index >= count {
                return Ok(done);
            }
            done.push((index, work(index)?));
        }
    };
    let mut outcomes = std::thread::scope(|scope| -> Result<Vec<(usize, T)>> {
        let workers: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(one)).collect();
        let mut all = Vec::new();
        for worker in workers {
            all.extend(worker.join().ok().context("a caller panicked")??);
        }
        Ok(all)
    })?;
    outcomes.sort_by_key(|(index, _)| *index);
    Ok(outcomes.into_iter().map(|(_, outcome)| outcome).collect())
}

/// From nothing to a file that is durable.
fn set_up(driver: &Driver, samples: &mut Samples, index: usize) -> Result<Claim> {
    let kind = KINDS[index % KINDS.len()];
    let mut claim = Claim::new(driver, &format!("claim-{index}"), kind, VOLUME_BYTES)?;
    let started = Instant::now();
    samples.run("CreateVolume", || claim.provision(driver, CONTAINER, None))?;
    let mounting = Instant::now();
    samples.run("ControllerPublishVolume", || claim.publish(driver))?;
    let stage = format!("NodeStageVolume with mkfs.{}", kind.name());
    samples.run(&stage, || claim.stage(driver))?;
    samples.run("NodePublishVolume", || claim.mount(driver))?;
    samples.add(
        &format!("publish, stage, publish, {}", kind.name()),
        mounting,
    );
    write_durably(&claim.target.join("file"))?;
    samples.add(
        &format!("claim to mounted and writable, {}", kind.name()),
        started,
    );
    Ok(claim)
}

fn write_durably(path: &Path) -> Result<()> {
    let write = || -> std::io::Result<()> {
        let mut file = File::create(path)?;
        file.write_all(&[7; 4096])?;
        file.sync_all()
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

/// A snapshot and a clone of each, then each grows while it is mounted.
fn copy_and_grow(driver: &Driver, samples: &mut Samples, claims: &mut [Claim]) -> Result<()> {
    let mut copies: Vec<(Snapshot, Claim)> = Vec::new();
    for claim in claims.iter() {
        let snapshot = samples.run("CreateSnapshot", || claim.snapshot(driver, "backup"))?;
        let mut clone = Claim::new(driver, "clone", claim.kind, VOLUME_BYTES)?;
        samples.run("CreateVolume from snapshot", || {
            clone.provision(driver, CONTAINER, Some(&snapshot))
        })?;
        copies.push((snapshot, clone));
    }
    for claim in claims.iter_mut() {
        // A mounted ext4 is left alone where this root may not grow it.
        if claim.kind == Kind::Xfs || may_grow_ext4() {
            let started = Instant::now();
            samples.run("ControllerExpandVolume", || {
                claim.expand(driver, GROWN_BYTES)
            })?;
            let follow = format!("NodeExpandVolume, {}", claim.kind.name());
            samples.run(&follow, || claim.follow(driver))?;
            samples.add(&format!("expand, {}", claim.kind.name()), started);
        }
    }
    for (snapshot, clone) in &copies {
        clone.delete(driver)?;
        samples.run("DeleteSnapshot", || snapshot.delete(driver))?;
    }
    Ok(())
}

/// From mounted to nothing.
fn tear_down(driver: &Driver, samples: &mut Samples, claim: &Claim) -> Result<()> {
    let started = Instant::now();
    samples.run("NodeUnpublishVolume", || claim.unmount(driver))?;
    samples.run("NodeUnstageVolume", || claim.unstage(driver))?;
    samples.run("ControllerUnpublishVolume", || claim.unpublish(driver))?;
    samples.run("DeleteVolume", || claim.delete(driver))?;
    samples.add("teardown", started);
    Ok(())
}
