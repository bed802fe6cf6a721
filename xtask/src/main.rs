//! Project tasks: `cargo xtask test | tidy | sim | fuzz | fuzz-api | chart | demo | soak | ui | bench`.
//!
//! The same commands run on a laptop and in CI, and every one works from a fresh clone. Nothing here is part of
//! the product: `demo` and `bench` drive the shipped `azekura` binary from outside, through its configuration
//! file, its command line, NBD and the sockets of its CSI driver.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tasks run on the real machine: clock, files, processes and sockets"
)]

mod api_fuzz;
mod bench;
mod chart;
mod cluster;
mod demo;
mod driver;
mod image;
mod licences;
mod nbd;
mod packages;
mod process;
mod rest;
mod scenario;
mod soak;
mod source;
mod stall;
mod steps;
mod tally;
mod tidy;
mod ui;

use anyhow::{Result, bail};
use std::process::ExitCode;

const USAGE: &str = "\
cargo xtask test  [--long] [--strict] [--seeds N]
                                          everything CI checks (--strict: what cannot run has failed); ends with `N passed, N failed, N skipped`
cargo xtask tidy                           crate table, budgets, banned words, links in documents
cargo xtask sim   [--seed N | --seeds N [--first SEED]]   simulator seeds
cargo xtask sim scale [--nodes N] [--volumes N]           the planner and the catalog of a large cluster
cargo xtask fuzz  [--seconds N]            the fuzz tests again and again with fresh inputs
cargo xtask fuzz-api [--examples N] [--seed N]  a real node against its own OpenAPI document, with generated requests
cargo xtask chart [--write]                the Helm chart and the manifests rendered from it
cargo xtask ui    [test [--pictures DIR]]  the web pages: build them, or check and walk them with a browser
cargo xtask demo  [--scenario engine|csi] [--keep] [--dir DIR] [--without-etcd] [--binary FILE] [--quick]
                                              a database on a replicated volume that survives kill -9
cargo xtask soak  [--minutes N] [--seed N] [--dir DIR]  file systems and a database under random faults
cargo xtask bench [--help]                 raw disk, protocol ceiling and Azekura in one run";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs one task and says whether everything it checks held.
fn run(arguments: &[String]) -> Result<bool> {
    let Some((task, rest)) = arguments.split_first() else {
        println!("{USAGE}");
        return Ok(false);
    };
    std::env::set_current_dir(process::workspace_root())?;
    match task.as_str() {
        "test" => steps::test(rest),
        "tidy" => tidy::run(rest),
        "sim" => steps::sim(rest),
        "fuzz" => steps::fuzz(rest),
        "fuzz-api" => api_fuzz::run(rest),
        "chart" => chart::run(rest),
        "demo" => demo::run(rest),
        "bench" => bench::run(rest),
        "soak" => soak::run(rest),
        "ui" => ui::run(rest),
        "help" | "--help" | "-h" => {
            println!("{USAGE}");
            Ok(true)
        }
        other => bail!("there is no task `{other}`.\n{USAGE}"),
    }
}
