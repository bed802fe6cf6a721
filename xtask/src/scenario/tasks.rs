//! What was done and how long it took, and the volumes there are, as tables.

use crate::rest::{self, Api};
use anyhow::{Context, Result};
use std::time::{Duration, Instant};

/// One task that ended.
struct Task {
    what: String,
    entity: String,
    start: Duration,
    took: Duration,
}

/// All tasks so far, by their start.
pub struct Tasks {
    began: Instant,
    done: Vec<Task>,
}

impl Tasks {
    /// None yet.
    pub fn new() -> Self {
        Self {
            began: Instant::now(),
            done: Vec::new(),
        }
    }

    /// Does something and notes how long it took; the error says what was being done.
    pub fn run<T>(
        &mut self,
        what: &str,
        entity: &str,
        work: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        let started = Instant::now();
        let outcome = work().with_context(|| format!("{what} of {entity}"))?;
        let took = started.elapsed();
        println!(
            "    {what:<28} {entity:<18} {:>9.1} ms",
            took.as_secs_f64() * 1000.0
        );
        self.done.push(Task {
            what: what.to_owned(),
            entity: entity.to_owned(),
            start: started - self.began,
            took,
        });
        Ok(outcome)
    }

    /// Time since the first.
    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// Prints the tasks of one kind.
    pub fn print(&self, whats: &[&str]) {
        println!(
            "    {:<28} {:<18} {:>9} {:>12}",
            "TASK", "ENTITY", "START", "TOOK"
        );
        for task in &self.done {
            if whats.contains(&task.what.as_str()) {
                println!(
                    "    {:<28} {:<18} {:>7.1} s {:>9.1} ms",
                    task.what,
                    task.entity,
                    task.start.as_secs_f64(),
                    task.took.as_secs_f64() * 1000.0
                );
            }
        }
    }
}

/// Prints the volumes of the cluster and returns how many there are.
pub fn print_volumes(api: &Api) -> Result<usize> {
    let answer = rest::get(api, "/volumes")?;
    let volumes = answer
        .as_array()
        .context("the list of volumes is no array")?;
    println!(
        "    {:<42} {:<16} {:>8} {:<9}",
        "VOLUME", "CLAIM", "SIZE", "ATTACHED"
    );
    for volume in volumes {
        let text = |value: &serde_json::Value| value.as_str().unwrap_or("-").to_owned();
        let bytes = volume["size"].as_u64().context("a volume has no size")?;
        println!(
            "    {:<42} {:<16} {:>4} GiB {:<9}",
            text(&volume["name"]),
            text(&volume["labels"]["csi.storage.k8s.io/pvc/name"]),
            bytes >> 30,
            attached(volume)
        );
    }
    println!("    {} volumes", volumes.len());
    Ok(volumes.len())
}

fn attached(volume: &serde_json::Value) -> &'static str {
    let clients = volume["attachment"]["clients"]
        .as_array()
        .map_or(0, Vec::len);
    if clients > 0 { "yes" } else { "no" }
}
