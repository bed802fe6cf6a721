//! The results as data and as Markdown, next to what must be reached.

use crate::bench::report::goals::{self, Goal};
use crate::bench::report::{header, line, row_of};
use serde::{Deserialize, Serialize};

/// The loss of one node, in seconds since its process was killed.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Loss {
    /// Until its store counted as lost.
    pub certain: f64,
    /// Until a group was being filled elsewhere.
    pub started: f64,
    /// Until every group had all of its copies again.
    pub whole: f64,
    /// Bytes that the lost store held.
    pub bytes: u64,
}

impl Loss {
    /// Bytes that were made again in a second.
    pub fn rate(&self) -> f64 {
        self.bytes as f64 / (self.whole - self.started).max(1e-9)
    }

    /// In one line.
    pub fn text(&self) -> String {
        format!(
            "lost for certain after {:.1} s, repair began {:.1} s later, {:.1} GiB made again in {:.1} s: {:.0} MiB/s",
            self.certain,
            self.started - self.certain,
            gib(self.bytes),
            self.whole - self.started,
            mib(self.rate())
        )
    }
}

/// How a store that was empty got its share.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Balance {
    /// Since its node was started.
    pub seconds: f64,
    /// By how much the store that differed most from the mean did so then.
    pub percent: f64,
}

impl Balance {
    /// In one line.
    pub fn text(&self) -> String {
        format!(
            "even after {:.1} s: the fill of no store differs from the mean by more than {:.1} %",
            self.seconds, self.percent
        )
    }
}

/// Everything of one run.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Results {
    pub machine: Vec<(String, String)>,
    /// Bytes of the volumes, all written.
    pub logical: u64,
    /// To which part of it the data of the larger volume is compressed; 0 and 1: not at all.
    pub shrink: u64,
    /// Bytes per second that the disk writes one after the other.
    pub disk: f64,
    /// What each node may read and write in a second, when it is less than the disk's.
    pub bound: Option<u64>,
    /// Nothing else happened.
    pub quiet: Loss,
    /// A volume was written to meanwhile.
    pub loaded: Loss,
    /// After a blank disk took the place of the lost one.
    pub balance: Balance,
    /// Writes per second of the load, and its 99th percentile in microseconds before the loss and during the repair.
    pub load: (u64, f64, f64),
}

fn gib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 30)
}

fn mib(bytes: f64) -> f64 {
    bytes / f64::from(1 << 20)
}

fn goals(results: &Results) -> Vec<Goal> {
    let at_most = |what: &str, must: f64, measured: f64, unit: &'static str| {
        Goal::at_most(what, (Some(must), None), Some(measured), unit)
    };
    let (_, before, during) = results.load;
    vec![
        at_most(
            "repair begins after the loss is certain",
            10.0,
            results.quiet.started - results.quiet.certain,
            " s",
        ),
        Goal::at_least(
            "repair / the disk's sequential rate, without load".to_owned(),
            Some(0.5),
            None,
            Some(results.quiet.rate() / results.disk.max(1.0)),
        ),
        at_most(
            "p99 of the load during the repair / before",
            3.0,
            during / before.max(1e-9),
            "",
        ),
        at_most(
            "difference from even after a node was added",
            5.0,
            results.balance.percent,
            " %",
        ),
    ]
}

/// The results as Markdown.
pub fn markdown(results: &Results) -> String {
    let mut out = String::new();
    for (name, value) in &results.machine {
        line(&mut out, &format!("- {name}: {value}"));
    }
    let disks = match results.bound {
        None => format!(
            "one disk, which writes {:.0} MiB/s one after the other",
            mib(results.disk)
        ),
        Some(_) => format!(
            "disks bounded to {:.0} MiB/s of reads and as many of writes each (shares of one disk)",
            mib(results.disk)
        ),
    };
    let part = match results.shrink {
        0 | 1 => String::new(),
        part => format!(", of which all but 1 GiB compresses to 1/{part}"),
    };
    let copies = format!(
        "- four nodes with a store each on {disks}; two copies of {:.0} GiB{part}",
        gib(results.logical)
    );
    line(&mut out, &copies);
    line(&mut out, "");
    goals::rows(&mut out, &goals(results));
    line(&mut out, "");
    header(
        &mut out,
        &[
            "a node is lost",
            "certain after s",
            "repair begins after s",
            "whole after s",
            "made again GiB",
            "MiB/s",
        ],
    );
    for (when, loss) in [
        ("nothing else happens", &results.quiet),
        ("under load", &results.loaded),
    ] {
        row_of(
            &mut out,
            &[
                when.to_owned(),
                format!("{:.1}", loss.certain),
                format!("{:.1}", loss.started),
                format!("{:.1}", loss.whole),
                format!("{:.1}", gib(loss.bytes)),
                format!("{:.0}", mib(loss.rate())),
            ],
        );
    }
    let (rate, before, during) = results.load;
    line(
        &mut out,
        &format!(
            "\nThe load: {rate} writes of 4 KiB a second, one after the other; 99 of 100 were answered within {before:.0} µs \
             before the loss and {during:.0} µs during the repair.\n\nA blank disk in the place of the lost one: {}.",
            results.balance.text()
        ),
    );
    out
}
