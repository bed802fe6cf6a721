//! What must be reached and what the design aims at, next to what was measured.

use super::{Results, header, line, row_of};
use crate::bench::fio::{JOBS, Job};
use crate::bench::times::Times;

/// One figure and its bounds.
pub struct Goal {
    what: String,
    must: Option<f64>,
    target: Option<f64>,
    measured: Option<f64>,
    unit: &'static str,
    /// Whether less is better.
    at_most: bool,
}

impl Goal {
    /// More is better.
    pub fn at_least(
        what: String,
        must: Option<f64>,
        target: Option<f64>,
        measured: Option<f64>,
    ) -> Self {
        Self {
            what,
            must,
            target,
            measured,
            unit: "",
            at_most: false,
        }
    }

    /// Less is better.
    pub fn at_most(
        what: &str,
        (must, target): (Option<f64>, Option<f64>),
        measured: Option<f64>,
        unit: &'static str,
    ) -> Self {
        Self {
            what: what.to_owned(),
            must,
            target,
            measured,
            unit,
            at_most: true,
        }
    }

    fn bound(&self, bound: Option<f64>) -> String {
        let sign = if self.at_most { "<= " } else { ">= " };
        bound.map_or("-".to_owned(), |bound| {
            format!("{sign}{bound}{}", self.unit)
        })
    }

    fn verdict(&self) -> &'static str {
        let Some(measured) = self.measured else {
            return "not measured";
        };
        let holds = |bound: f64| match self.at_most {
            true => measured <= bound,
            false => measured >= bound,
        };
        match (self.must.map(holds), self.target.map(holds)) {
            (Some(false), _) => "missed",
            (_, Some(true)) => "target reached",
            (Some(true), Some(false)) => "reached, target missed",
            (Some(true), None) => "reached",
            (None, _) => "target missed",
        }
    }
}

/// One row for each goal that is not a ratio of the first table, and for each that must be reached.
pub fn table(out: &mut String, results: &Results) {
    line(out, "\n### Goals\n");
    rows(out, &goals(results));
}

/// A table of goals.
pub fn rows(out: &mut String, goals: &[Goal]) {
    header(out, &["figure", "must be", "target", "measured", "verdict"]);
    for goal in goals {
        let measured = match goal.measured {
            None => "-".to_owned(),
            Some(value) if value < 10.0 => format!("{value:.2}{}", goal.unit),
            Some(value) => format!("{value:.0}{}", goal.unit),
        };
        row_of(
            out,
            &[
                goal.what.clone(),
                goal.bound(goal.must),
                goal.bound(goal.target),
                measured,
                goal.verdict().to_owned(),
            ],
        );
    }
}

fn goals(results: &Results) -> Vec<Goal> {
    let mut goals = Vec::new();
    for job in &JOBS {
        goals.extend(ratios(results, job));
    }
    let burst = &JOBS[4];
    for device in ["rf2", "rf3"] {
        let cell = results.cell(burst, device);
        let cpu = cell.and_then(|cell| cell.cpu_us_per_operation);
        let what = format!(
            "CPU of all nodes for each operation, {}, {}",
            burst.name,
            device.to_uppercase()
        );
        goals.push(Goal::at_most(&what, (None, Some(25.0)), cpu, " us"));
    }
    goals.extend(times(results));
    let find = |words: &str| {
        let mut idle = results.idle.iter();
        idle.find(|idle| idle.when.contains(words))
    };
    let cpu = find("volumes attached").map(|idle| idle.cpu_percent.1);
    goals.push(Goal::at_most(
        "CPU of the busiest node with 100 idle volumes attached",
        (None, Some(1.0)),
        cpu,
        " %",
    ));
    for when in ["after the start", "after all jobs"] {
        let resident = find(when).map(|idle| idle.resident_mib.1);
        let what = format!("resident memory of the largest idle node, {when}");
        goals.push(Goal::at_most(&what, (None, Some(150.0)), resident, " MiB"));
    }
    goals
}

/// What a job must reach, through NBD and without.
fn ratios(results: &Results, job: &Job) -> Vec<Goal> {
    let mut goals = Vec::new();
    let both = |(rf2, rf3): (f64, f64)| [("rf2", rf2), ("rf3", rf3)];
    let targets = both(job.targets);
    for ((device, must), (_, target)) in job.floors.map(both).into_iter().flatten().zip(targets) {
        let what = format!("{}, {} / raw", job.name, device.to_uppercase());
        let measured = results.ratio(job, device);
        goals.push(Goal::at_least(what, Some(must), Some(target), measured));
    }
    for (device, must) in job.floors_engine.map(both).into_iter().flatten() {
        let what = format!("{}, {} / raw without NBD", job.name, device.to_uppercase());
        let ways = ["owner", "remote"].map(|way| results.ratio(job, &format!("{device}-{way}")));
        let measured = ways.into_iter().flatten().reduce(f64::max);
        goals.push(Goal::at_least(what, Some(must), None, measured));
    }
    goals
}

/// The slowest of the volume sizes.
fn times(results: &Results) -> Vec<Goal> {
    let slowest = |of: fn(&Times) -> f64| results.times.iter().map(of).reduce(f64::max);
    let row = |what: &str, bounds: (Option<f64>, Option<f64>), of: fn(&Times) -> f64| {
        Goal::at_most(what, bounds, slowest(of), " ms")
    };
    vec![
        row("snapshot", (Some(10.0), Some(10.0)), |times| {
            times.snapshot_ms
        }),
        row("clone", (Some(10.0), Some(10.0)), |times| times.clone_ms),
        row("create volume", (None, Some(50.0)), |times| times.create_ms),
        row(
            "replica lost: longest write",
            (Some(1000.0), Some(500.0)),
            |times| times.replica_loss_ms,
        ),
        row(
            "owner lost: longest write",
            (Some(10_000.0), Some(10_000.0)),
            |times| times.owner_loss_ms,
        ),
    ]
}
