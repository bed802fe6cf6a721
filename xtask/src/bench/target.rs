//! Devices under test, and one run of one job on one of them.

use super::engine::Engine;
use super::fio::{self, Device, Job};
use super::report::Cell;
use super::request::Request;
use super::usage::Usage;
use crate::rest::{self, Api};
use anyhow::{Context, Result};
use serde_json::json;
use std::time::{Duration, Instant};

/// Pause before a job, for what the one before left to do.
const SETTLE: Duration = Duration::from_millis(300);

/// What makes the load.
pub enum Driver {
    /// fio on a device.
    Fio(Device),
    /// `azekura bench`.
    Engine(Engine),
}

/// A device under test and the processes that serve it.
pub struct Target {
    /// Name in the results.
    pub name: String,
    /// What makes the load.
    pub driver: Driver,
    /// The processes that serve it; none for the raw file.
    pub pids: Vec<u32>,
    /// Volume and API to ask for draining, for Azekura's volumes.
    pub drains: Option<(String, Api)>,
    /// The names of the jobs that are run; empty: all.
    pub jobs: Vec<&'static str>,
}

impl Target {
    fn runs(&self, job: &Job) -> bool {
        self.jobs.is_empty() || self.jobs.contains(&job.name)
    }

    /// Writes every block that is used once. Volumes of the engine are filled through NBD.
    pub fn fill(&self, bytes: u64) -> Result<()> {
        let Driver::Fio(device) = &self.driver else {
            return Ok(());
        };
        println!("    fill {}", self.name);
        fio::fill(device, bytes).with_context(|| format!("filling {}", self.name))?;
        self.drain().map(|_| ())
    }

    /// Has everything in the volume's log written into extents; returns the seconds it took.
    fn drain(&self) -> Result<Option<f64>> {
        let Some((volume, api)) = &self.drains else {
            return Ok(None);
        };
        let started = Instant::now();
        rest::post(api, &format!("/volumes/{volume}/drain"), &json!({}))?;
        Ok(Some(started.elapsed().as_secs_f64()))
    }

    fn run(&self, job: &Job, request: &Request) -> Result<Cell> {
        let seconds = request.seconds_of(job.length);
        let before = Usage::of(&self.pids);
        let (mut measured, client_cpu_us) = match &self.driver {
            Driver::Fio(device) => (fio::run(job, device, request.bytes, seconds)?, None),
            Driver::Engine(engine) => {
                let outcome = engine.run(job, request.bytes, seconds)?;
                (outcome.measured, outcome.client_cpu_us)
            }
        };
        let used = Usage::of(&self.pids).since(&before);
        let drained = if job.writes() { self.drain()? } else { None };
        let after = Usage::of(&self.pids).since(&before);
        if let Some(seconds) = drained.filter(|_| job.until_drained) {
            measured.seconds += seconds;
        }
        let mut cell = Cell::new(job, &self.name, measured);
        cell.drain_seconds = drained;
        cell.client_cpu_us_per_operation = client_cpu_us;
        let operations = measured.operations as f64;
        if !self.pids.is_empty() {
            cell.cpu_us_per_operation = Some(used.cpu_us as f64 / operations);
            let draining = after.cpu_us.saturating_sub(used.cpu_us) as f64;
            cell.drain_cpu_us_per_operation = drained.map(|_| draining / operations);
        }
        if job.writes() && after.device_bytes > 0 {
            let ratio = after.device_bytes as f64 / measured.bytes.max(1) as f64;
            cell.device_bytes_per_byte = Some(ratio);
        }
        Ok(cell)
    }
}

/// Runs every job on every device, the devices taking turns.
pub fn run_jobs(targets: &[Target], jobs: &[Job], request: &Request) -> Result<Vec<Cell>> {
    let mut cells = Vec::new();
    for job in jobs.iter().filter(|job| request.wants_job(job)) {
        super::stage(job.name);
        let targets: Vec<&Target> = targets.iter().filter(|target| target.runs(job)).collect();
        let mut runs: Vec<Vec<Cell>> = vec![Vec::new(); targets.len()];
        for _ in 0..request.runs {
            for (target, runs) in targets.iter().zip(&mut runs) {
                std::thread::sleep(SETTLE);
                let cell = target.run(job, request);
                runs.push(cell.with_context(|| format!("`{}` on {}", job.name, target.name))?);
            }
        }
        for cell in runs.into_iter().filter_map(Cell::median) {
            println!(
                "    {:<11} {:>9.0} /s  p50 {:>7.0} us  p99 {:>7.0} us",
                cell.device, cell.per_second, cell.p50_us, cell.p99_us
            );
            cells.push(cell);
        }
    }
    Ok(cells)
}
