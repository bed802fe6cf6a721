//! `sim`: plays seeds. See `cargo xtask sim`.

#![allow(clippy::disallowed_methods, reason = "seeds are played on all cores")]

mod many;
mod scale;

use many::many;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};

const USAGE: &str = "usage: sim --seed N | --seeds COUNT [--first N] | --corpus  [--bug NAME [--control]]\n       \
    sim calibrate\n       \
    sim scale [--nodes N] [--volumes N]";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(code) => code,
        Err(reason) => {
            eprintln!("sim: {reason}\n{USAGE}");
            ExitCode::from(2)
        }
    }
}

fn value(arguments: &[String], name: &str) -> Result<Option<u64>, String> {
    let Some(at) = arguments.iter().position(|argument| argument == name) else {
        return Ok(None);
    };
    let text = arguments
        .get(at + 1)
        .ok_or(format!("{name} needs a number"))?;
    text.parse()
        .map(Some)
        .map_err(|_| format!("{name} needs a number, not {text}"))
}

fn run(arguments: &[String]) -> Result<ExitCode, String> {
    if arguments.first().is_some_and(|verb| verb == "scale") {
        let nodes = value(arguments, "--nodes")?.unwrap_or(1000);
        let nodes = u32::try_from(nodes).map_err(|_| "--nodes is too large".to_owned())?;
        let volumes = value(arguments, "--volumes")?.unwrap_or(100_000);
        if nodes < 4 {
            return Err("--nodes must be at least 4".to_owned());
        }
        print!("{}", scale::scale(nodes, volumes));
        return Ok(ExitCode::SUCCESS);
    }
    if arguments.first().is_some_and(|verb| verb == "calibrate") {
        return Ok(calibrate());
    }
    let planted = arguments
        .iter()
        .position(|argument| argument == "--bug")
        .and_then(|at| arguments.get(at + 1));
    let planted = match planted {
        Some(name) => Some(sim::planted(name).ok_or(format!("no bug is called {name}"))?),
        None => None,
    };
    if let Some(seed) = value(arguments, "--seed")? {
        let control = arguments.iter().any(|argument| argument == "--control");
        log_if_asked();
        return match planted {
            // What the seed plays with the bug, without it.
            Some(bug) if control => Ok(tell(seed, sim::play_control(seed, bug))),
            None if control => Err("--control needs the bug that is left out".to_owned()),
            _ => Ok(tell(seed, sim::play(seed, planted))),
        };
    }
    if arguments.iter().any(|argument| argument == "--corpus") {
        return Ok(many(sim::corpus().into_iter(), planted));
    }
    let count = value(arguments, "--seeds")?.ok_or("say which seeds")?;
    let first = value(arguments, "--first")?.unwrap_or(1);
    Ok(many(first..first + count, planted))
}

/// Plays every planted bug on all cores and says which seed finds it.
fn calibrate() -> ExitCode {
    let count = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let next = AtomicUsize::new(0);
    let missed = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..count {
            scope.spawn(|| {
                while let Some((planted, likely)) =
                    sim::PLANTED.get(next.fetch_add(1, Ordering::Relaxed))
                {
                    let name = planted.name();
                    match sim::first_to_find(*planted, *likely) {
                        Some(seed) if seed == *likely => println!("{name}: {seed}"),
                        Some(seed) => println!("{name}: {seed}, not {likely} any more"),
                        None => {
                            missed.fetch_add(1, Ordering::Relaxed);
                            println!("{name}: not found within {} seeds", sim::FOUND_WITHIN);
                        }
                    }
                }
            });
        }
    });
    ExitCode::from(u8::from(missed.into_inner() > 0))
}

/// With `SIM_LOG=debug` (or any filter) a single seed is played with what the nodes log.
fn log_if_asked() {
    if let Ok(filter) = std::env::var("SIM_LOG") {
        tracing_subscriber::fmt()
            .with_env_filter(filter)
            .without_time()
            .with_ansi(false)
            .init();
    }
}

fn tell(seed: u64, played: Result<sim::Outcome, Box<sim::Finding>>) -> ExitCode {
    match played {
        Ok(outcome) => {
            outcome.trace.iter().for_each(|line| println!("{line}"));
            println!(
                "seed {seed}: {} requests in {:?}, hash {:016x}",
                outcome.requests, outcome.elapsed, outcome.hash
            );
            ExitCode::SUCCESS
        }
        Err(finding) => {
            finding.trace.iter().for_each(|line| println!("{line}"));
            println!("seed {seed}: {}", finding.what);
            ExitCode::FAILURE
        }
    }
}
