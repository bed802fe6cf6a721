//! The simulator: whole clusters of the shipped core, driven and broken from one seed, and checked.
//!
//! A run (`run.rs`) draws a configuration from its seed (`config.rs`), starts a cluster (`cluster.rs`), and
//! plays acts: clients read and write (`clients.rs`), volumes are snapshotted, cloned, grown and deleted
//! (`manage.rs`), attached and detached (`attached.rs`), the pool fills up (`full.rs`), and disks and nodes come and go
//! (`operators.rs`, `moving.rs`) while things break (`faults.rs`). Between acts everything heals, the catalog may be lost and made anew (`rebuilding.rs`), and the checks of
//! `check.rs` hold the cluster against the invariants of ARCHITECTURE.md.
//!
//! Invariants
//! - The same seed gives the same event hash.
//! - A finding names the seed and the command that plays it again.
//! - Each planted bug of `bugs.rs` is found within a stated number of seeds.
//!
//! Read next: `run.rs`, `config.rs`, `check.rs`.

mod accounting;
mod apart;
mod attached;
mod bay;
mod bugs;
mod candidates;
mod check;
mod clients;
mod cluster;
mod config;
mod deadly;
mod diffs;
mod eyewitness;
mod faults;
mod fences;
mod flushes;
mod full;
mod manage;
mod moving;
mod operators;
mod others;
mod owners;
mod positions;
mod rebuilding;
mod releases;
mod run;
mod rush;
mod served;
mod turns;

/// A run allocates and frees all the time: with the C library's allocator it takes a fifth longer.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

pub use bugs::{FOUND_WITHIN, PLANTED, Planted, planted};
pub use run::{Finding, Outcome, first_to_find, play, play_control, play_watched};

/// Seeds that found something once; they are played on every run of the tests.
pub const CORPUS: &str = include_str!("../corpus.txt");

/// Seeds with a finding that is understood to be one and not mended yet. A run over many seeds counts them as
/// skipped and says so; `--seed N` plays them.
pub const OPEN: &str = include_str!("../open.txt");

/// The seeds of [`OPEN`].
#[must_use]
pub fn open_findings() -> Vec<u64> {
    numbers(OPEN)
}

/// The seeds of [`CORPUS`].
#[must_use]
pub fn corpus() -> Vec<u64> {
    numbers(CORPUS)
}

fn numbers(text: &str) -> Vec<u64> {
    let number = |line: &str| {
        line.split('#')
            .next()
            .and_then(|text| text.trim().parse().ok())
    };
    text.lines().filter_map(number).collect()
}
