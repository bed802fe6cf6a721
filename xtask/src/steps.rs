//! `cargo xtask test`, `sim` and `fuzz`: one run that shows every failure.
//!
//! A step that fails does not end the run; the last line sums up what was counted, whatever happened before.
//! The steps, cheapest first: format, tidy, web pages, clippy, cargo-deny, chart, build, tests, browser, generated requests,
//! the scenarios of the demonstration, simulator seeds. Everything
//! is built once, for all packages together: a package by itself would want its dependencies with other features, built
//! again. So the pages come before, which the binary takes in. The seeds are played beside the tests, which mostly wait
//! for real programs.

use crate::cluster;
use crate::demo::Which;
use crate::driver;
use crate::packages;
use crate::process::{cargo, stream, target_directory};
use crate::tally::{self, Tally};
use anyhow::{Context, Result, bail};
use std::fs::{self, File};
use std::io::BufRead;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

/// Simulator seeds in `cargo xtask test`.
const SEEDS: u64 = 300;
/// Simulator seeds in `cargo xtask test --long`.
const SEEDS_LONG: u64 = 5_000;
/// Inputs per fuzz test in `cargo xtask test`; proptest reads it from the environment.
const FUZZ_CASES: u64 = 2_000;
/// Inputs per fuzz test in `cargo xtask test --long`.
const FUZZ_CASES_LONG: u64 = 100_000;
/// Generated requests for each operation of the API, besides those that try every bound once.
const API_EXAMPLES: u64 = 8;
/// The same with `--long`.
const API_EXAMPLES_LONG: u64 = 200;
/// What they are generated from: the same in every run.
const API_SEED: u64 = 1;
/// Seconds for one scenario of the demonstration: several times what it takes on a machine of two cores.
const DEMO_SECONDS_MAX: u32 = 300;
/// Where the CSI driver of that scenario keeps sockets, attachments and mounts.
const DEMO_RUN_FOLDER: &str = "/run/azekura-demo-test";
/// Names of fuzz tests: `fuzz_` at the start of the function's name.
const FUZZ_FILTER: &str = "test(/(^|::)fuzz_/)";

/// What `cargo xtask test` was asked for.
struct Request {
    long: bool,
    /// What did not run has failed.
    strict: bool,
    seeds: u64,
}

/// What a step found: the tests it counted, whether everything in it held, and whether it ran at all.
struct Found {
    tally: Tally,
    fine: bool,
    ran: bool,
}

impl Found {
    fn check(fine: bool) -> Self {
        Self::counted(Tally::default(), fine)
    }

    fn counted(tally: Tally, fine: bool) -> Self {
        Self {
            tally,
            fine,
            ran: true,
        }
    }

    fn not_run() -> Self {
        Self {
            tally: Tally::default(),
            fine: true,
            ran: false,
        }
    }
}

/// Runs every step and ends with the sum of tests and seeds.
pub fn test(arguments: &[String]) -> Result<bool> {
    let request = parse_test(arguments)?;
    let mut run = Run::default();
    run.step("packages", || {
        packages::ensure(packages::TEST);
        Ok(Found::check(true))
    });
    run.step("format", || {
        cargo_check(&["fmt", "--all", "--check", "--", "-l"])
    });
    run.step("tidy", || Ok(Found::check(crate::tidy::run(&[])?)));
    run.step("pages", pages);
    run.step("clippy", || {
        cargo_check(&[
            "clippy",
            "-q",
            "--keep-going",
            "--workspace",
            "--all-targets",
            "--",
            "-D",
            "warnings",
        ])
    });
    run.step("cargo-deny", deny);
    run.step("chart", || {
        let tally = crate::chart::check()?;
        let fine = tally.failed == 0;
        Ok(Found::counted(tally, fine))
    });
    run.step("build", build);
    let seeds = Seeds::start(request.seeds);
    run.step("tests", || run_tests(&request));
    run.step("browser", browser);
    run.step("API", || api(&request));
    run.step("demo, engine", || demo(Which::Engine, &[]));
    run.step("demo, one process", || {
        demo(Which::Engine, &["--without-etcd"])
    });
    run.step("demo, CSI", || demo(Which::Csi, &[]));
    run.step("simulator", || seeds?.finish());
    if request.long {
        run.step("soak", || {
            let fine = crate::soak::run(&["--minutes".into(), "10".into()])?;
            Ok(Found::check(fine))
        });
    }
    Ok(run.finish(request.strict))
}

fn parse_test(arguments: &[String]) -> Result<Request> {
    let mut request = Request {
        long: false,
        strict: false,
        seeds: 0,
    };
    let mut left = arguments.iter();
    while let Some(argument) = left.next() {
        match argument.as_str() {
            "--long" => request.long = true,
            "--strict" => request.strict = true,
            "--seeds" => request.seeds = number("--seeds", left.next())?,
            other => bail!("`cargo xtask test` does not know `{other}`"),
        }
    }
    if request.seeds == 0 {
        request.seeds = if request.long { SEEDS_LONG } else { SEEDS };
    }
    Ok(request)
}

fn number(name: &str, value: Option<&String>) -> Result<u64> {
    let value = value.with_context(|| format!("{name} needs a number"))?;
    value
        .parse()
        .with_context(|| format!("{name} needs a number, not `{value}`"))
}

/// The steps so far.
#[derive(Default)]
struct Run {
    tally: Tally,
    broken: Vec<String>,
    /// Steps that did not run.
    left_out: Vec<String>,
    count: u32,
    started: Option<Instant>,
}

impl Run {
    fn step(&mut self, name: &str, work: impl FnOnce() -> Result<Found>) {
        self.count += 1;
        let started = Instant::now();
        self.started.get_or_insert(started);
        println!("==> {} {name}", self.count);
        let found = work().unwrap_or_else(|error| {
            eprintln!("    {error:#}");
            Found::check(false)
        });
        let seconds = started.elapsed().as_secs_f64();
        let outcome = match (found.ran, found.fine) {
            (false, _) => "not run",
            (true, true) => "ok",
            (true, false) => "FAILED",
        };
        println!("    {name}: {outcome} ({seconds:.1} s)");
        if !found.fine {
            self.broken.push(name.to_owned());
        }
        if !found.ran {
            self.left_out.push(name.to_owned());
        }
        self.tally.add(&found.tally);
    }

    /// Prints the steps that did not run and those that failed, then the line CI reads. When it is `strict`, the first have failed.
    fn finish(mut self, strict: bool) -> bool {
        let seconds = self
            .started
            .map_or(0.0, |started| started.elapsed().as_secs_f64());
        println!("==> {} steps in {seconds:.0} s", self.count);
        if !self.left_out.is_empty() {
            println!("    steps that did not run: {}", self.left_out.join(", "));
        }
        if strict {
            self.broken.append(&mut self.left_out);
        }
        if !self.broken.is_empty() {
            println!("    failed steps: {}", self.broken.join(", "));
            // A step can fail without a failed test, as clippy does: the line must still show it.
            self.tally.failed = self.tally.failed.max(self.broken.len() as u64);
        }
        println!("{}", self.tally);
        self.broken.is_empty()
    }
}

fn cargo_check(arguments: &[&str]) -> Result<Found> {
    let (fine, _) = stream(cargo().args(arguments), |_| false)?;
    Ok(Found::check(fine))
}

/// The web pages: lint, types, unit tests, and what the binary takes in.
fn pages() -> Result<Found> {
    if !crate::ui::available() {
        println!("    Node.js 20.19 or newer and npm are missing: the web pages are not checked");
        return Ok(Found::not_run());
    }
    let tally = crate::ui::check()?;
    let fine = tally.failed == 0;
    Ok(Found::counted(tally, fine))
}

/// All test programs and binaries.
fn build() -> Result<Found> {
    let verb: &[&str] = match packages::ensure_nextest() {
        true => &["nextest", "run", "--cargo-quiet"],
        false => &["test", "-q", "--lib", "--bins", "--tests"],
    };
    cargo_check(&[verb, &["--workspace", "--no-run"]].concat())
}

/// A browser walks the pages of the binary that was built.
fn browser() -> Result<Found> {
    if !crate::ui::available() {
        return Ok(Found::not_run());
    }
    let tally = crate::ui::walk(&target_directory()?.join("debug/azekura"), None)?;
    let fine = tally.failed == 0;
    Ok(Found::counted(tally, fine))
}

/// Generated requests against a real node, by its own document.
fn api(request: &Request) -> Result<Found> {
    let examples = if request.long {
        API_EXAMPLES_LONG
    } else {
        API_EXAMPLES
    };
    let binary = target_directory()?.join("debug/azekura");
    match crate::api_fuzz::fuzz(&binary, examples, API_SEED)? {
        Some(tally) => {
            let fine = tally.failed == 0;
            Ok(Found::counted(tally, fine))
        }
        None => Ok(Found::not_run()),
    }
}

/// A scenario of the demonstration with the binary that was built. It is a process of its own, which `timeout` ends with its
/// process group. Attachments are in sessions of their own, and mounts are no processes: what a run that was not fine has left is
/// taken away here; its logs stay.
fn demo(which: Which, more: &[&str]) -> Result<Found> {
    if let Some(reason) = crate::demo::obstacle(which) {
        println!("    it cannot run: {reason}");
        return Ok(Found::not_run());
    }
    let target = target_directory()?;
    let mut command = Command::new("timeout");
    command.args(["--kill-after=15", &DEMO_SECONDS_MAX.to_string()]);
    command.arg(target.join("debug/xtask"));
    command.args(["demo", "--quick", "--scenario", which.name(), "--binary"]);
    let (binary, folder) = (target.join("debug/azekura"), target.join("demo-test"));
    command.arg(&binary).arg("--dir").arg(&folder);
    command.args(["--run-dir", DEMO_RUN_FOLDER]).args(more);
    let (fine, _) = stream(&mut command, |_| false)?;
    if !fine {
        cluster::end_noted(&folder)?;
        driver::clean(&binary, Path::new(DEMO_RUN_FOLDER))?;
    }
    let tally = Tally {
        passed: u64::from(fine),
        failed: u64::from(!fine),
        skipped: 0,
    };
    Ok(Found::counted(tally, fine))
}

/// Licences, sources and banned crates. Building cargo-deny takes longer than all of the tests, so it is not installed
/// here: where it is missing, its rules are read and checked without it.
fn deny() -> Result<Found> {
    if !packages::find_cargo_tool("deny") {
        let (packages, broken) = crate::licences::check()?;
        for line in &broken {
            println!("    {line}");
        }
        println!(
            "    {packages} packages against deny.toml (cargo-deny is missing, which looks closer: cargo install --locked {})",
            packages::DENY
        );
        return Ok(Found::check(broken.is_empty()));
    }
    cargo_check(&[
        "deny",
        "--log-level",
        "error",
        "check",
        "bans",
        "licenses",
        "sources",
    ])
}

/// All tests of the workspace; the fuzz tests apart, with more inputs.
fn run_tests(request: &Request) -> Result<Found> {
    if !packages::ensure_nextest() {
        println!(
            "    cargo-nextest cannot be installed: `cargo test` runs instead, without time limits"
        );
        return libtest(&[
            "test",
            "--workspace",
            "--lib",
            "--bins",
            "--tests",
            "--no-fail-fast",
        ]);
    }
    let cases = if request.long {
        FUZZ_CASES_LONG
    } else {
        FUZZ_CASES
    };
    let profile = if request.long { "long" } else { "default" };
    let main = nextest(profile, &format!("not {FUZZ_FILTER}"), None)?;
    println!("    fuzz tests, {cases} inputs each");
    let fuzz = nextest(profile, FUZZ_FILTER, Some(cases))?;
    // What a run filters out counts as skipped in its summary; the two filters cover everything.
    let mut tally = main.tally.clone();
    tally.skipped = main
        .tally
        .skipped
        .saturating_sub(fuzz.tally.passed + fuzz.tally.failed);
    tally.passed += fuzz.tally.passed;
    tally.failed += fuzz.tally.failed;
    Ok(Found::counted(tally, main.fine && fuzz.fine))
}

fn nextest(profile: &str, filter: &str, cases: Option<u64>) -> Result<Found> {
    let mut command = cargo();
    command.args([
        "nextest",
        "run",
        "--workspace",
        "--color",
        "never",
        "--no-tests",
        "pass",
    ]);
    command.args(["--cargo-quiet", "--profile", profile, "-E", filter]);
    if let Some(cases) = cases {
        command.env("PROPTEST_CASES", cases.to_string());
    }
    let (fine, lines) = stream(&mut command, |line| {
        line.trim_start().starts_with("Summary [")
    })?;
    let tally = lines
        .last()
        .and_then(|line| tally::of_nextest(line))
        .unwrap_or_default();
    Ok(Found::counted(tally, fine))
}

fn libtest(arguments: &[&str]) -> Result<Found> {
    let (fine, lines) = stream(cargo().args(arguments), |line| {
        line.starts_with("test result:")
    })?;
    let mut tally = Tally::default();
    for line in &lines {
        tally.add(&tally::of_libtest(line));
    }
    Ok(Found::counted(tally, fine))
}

/// Runs the simulator's binary. The development profile is optimised enough for it and is already built.
fn run_seeds(arguments: &[String]) -> Result<Found> {
    let mut command = cargo();
    command
        .args(["run", "-q", "--package", "sim", "--bin", "sim", "--"])
        .args(arguments);
    let (fine, lines) = stream(&mut command, |line| tally::of_seeds(line).is_some())?;
    let mut tally = lines
        .last()
        .and_then(|line| tally::of_seeds(line))
        .unwrap_or_default();
    if !fine && tally.failed == 0 {
        tally.failed = 1;
    }
    Ok(Found::counted(tally, fine))
}

/// A run of many seeds beside the tests, at the lowest priority: it needs nothing but processor time.
struct Seeds {
    child: Child,
    /// What it prints.
    output: PathBuf,
}

impl Seeds {
    fn start(seeds: u64) -> Result<Self> {
        let folder = target_directory()?;
        let output = folder.join("seeds.txt");
        let file = File::create(&output)?;
        // Idle priority, not only a low one: a store that waits for a core is late, and counts as slow.
        let mut command = Command::new("chrt");
        command.args(["--idle", "0"]).arg(folder.join("debug/sim"));
        command.args(["--seeds", &seeds.to_string()]);
        command.stdin(Stdio::null()).stderr(file.try_clone()?);
        let child = command.stdout(file).spawn();
        let child = child.context("cannot start the simulator")?;
        Ok(Self { child, output })
    }

    /// Waits for it and prints what it said.
    fn finish(mut self) -> Result<Found> {
        let fine = self.child.wait()?.success();
        let text = fs::read(&self.output)?;
        let mut tally = Tally::default();
        for line in text.lines() {
            let line = line?;
            println!("    {line}");
            if let Some(found) = tally::of_seeds(&line) {
                tally = found;
            }
        }
        if !fine && tally.failed == 0 {
            tally.failed = 1;
        }
        Ok(Found::counted(tally, fine))
    }
}

impl Drop for Seeds {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `cargo xtask sim`: the arguments go to the simulator as they are.
pub fn sim(arguments: &[String]) -> Result<bool> {
    Ok(run_seeds(arguments)?.fine)
}

/// `cargo xtask fuzz`: rounds of the fuzz tests until the time is up; at least one.
pub fn fuzz(arguments: &[String]) -> Result<bool> {
    let seconds = match arguments {
        [] => 60,
        [name, value] if name == "--seconds" => number(name, Some(value))?,
        _ => bail!("usage: cargo xtask fuzz [--seconds N]"),
    };
    anyhow::ensure!(
        packages::ensure_nextest(),
        "cargo-nextest is needed and cannot be installed"
    );
    let started = Instant::now();
    let mut run = Run::default();
    // One round takes at least the milliseconds of starting the tests, so the clock bounds the loop.
    loop {
        run.step("fuzz tests", || {
            let mut found = nextest("long", FUZZ_FILTER, Some(FUZZ_CASES))?;
            found.tally.skipped = 0;
            Ok(found)
        });
        if started.elapsed().as_secs() >= seconds || !run.broken.is_empty() {
            return Ok(run.finish(false));
        }
    }
}
