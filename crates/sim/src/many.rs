//! Many seeds on all cores, findings as they come, and a watchdog: a task that loops without giving way would
//! otherwise hold up the whole run without a word.

use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use world_sim::Progress;

/// A run that makes no step for so long never will.
const STUCK_AFTER: Duration = Duration::from_secs(60);
/// Pause between two looks of the watchdog.
const LOOK: Duration = Duration::from_millis(200);

/// What one thread does.
enum Worker {
    Plays(Played),
    /// It will never come back.
    Stuck,
    Done,
}

/// A seed that is being played.
struct Played {
    seed: u64,
    progress: Arc<Progress>,
    steps: u64,
    /// When the last step was seen.
    since: Instant,
}

struct Board<I> {
    seeds: I,
    workers: Vec<Worker>,
    tally: Tally,
}

/// Plays seeds on all cores and prints findings as they come.
pub fn many(
    seeds: impl Iterator<Item = u64> + Send + 'static,
    planted: Option<sim::Planted>,
) -> ExitCode {
    let count = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let board = Arc::new(Mutex::new(Board {
        seeds,
        workers: (0..count).map(|_| Worker::Done).collect(),
        tally: Tally::default(),
    }));
    // Not a scope: a thread that is stuck cannot be waited for.
    let threads = (0..count).map(|index| {
        let board = board.clone();
        std::thread::spawn(move || work(&board, index, planted))
    });
    let threads: Vec<_> = threads.collect();
    loop {
        std::thread::sleep(LOOK);
        let mut board = board.lock().unwrap_or_else(PoisonError::into_inner);
        watch(&mut board);
        let stuck = |index: usize| matches!(board.workers[index], Worker::Stuck);
        let over = |(index, thread): (usize, &std::thread::JoinHandle<()>)| {
            thread.is_finished() || stuck(index)
        };
        if threads.iter().enumerate().all(over) {
            return board.tally.print();
        }
    }
}

fn work<I: Iterator<Item = u64>>(
    board: &Mutex<Board<I>>,
    index: usize,
    planted: Option<sim::Planted>,
) {
    let open = sim::open_findings();
    let lock = || board.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        let progress = Arc::new(Progress::default());
        let seed = {
            let mut board = lock();
            let Some(seed) = board.seeds.next() else {
                board.workers[index] = Worker::Done;
                return;
            };
            if planted.is_none() && open.contains(&seed) {
                board.tally.skipped += 1;
                continue;
            }
            board.workers[index] = Worker::Plays(Played {
                seed,
                progress: progress.clone(),
                steps: 0,
                since: Instant::now(),
            });
            seed
        };
        let played = sim::play_watched(seed, planted, Some(progress));
        lock().tally.add(played);
    }
}

/// Counts runs that do not get on as findings.
fn watch<I>(board: &mut Board<I>) {
    for worker in &mut board.workers {
        let Worker::Plays(played) = worker else {
            continue;
        };
        let steps = played.progress.steps();
        if steps != played.steps {
            (played.steps, played.since) = (steps, Instant::now());
        } else if played.since.elapsed() >= STUCK_AFTER {
            let what = format!(
                "a task loops without giving way: no step for {} s after {steps} of them, at {:.3} s",
                STUCK_AFTER.as_secs(),
                played.progress.now() as f64 / 1e9
            );
            let seed = played.seed;
            let trace = Vec::new();
            board
                .tally
                .add(Err(Box::new(sim::Finding { seed, what, trace })));
            *worker = Worker::Stuck;
        }
    }
}

struct Tally {
    began: Instant,
    passed: u64,
    failed: u64,
    skipped: u64,
    requests: u64,
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            began: Instant::now(),
            passed: 0,
            failed: 0,
            skipped: 0,
            requests: 0,
        }
    }
}

impl Tally {
    fn add(&mut self, played: Result<sim::Outcome, Box<sim::Finding>>) {
        match played {
            Ok(outcome) => {
                self.passed += 1;
                self.requests += outcome.requests;
            }
            Err(finding) => {
                self.failed += 1;
                let seed = finding.seed;
                println!(
                    "seed {seed}: {}\n  play it again: cargo xtask sim --seed {seed}",
                    finding.what
                );
            }
        }
        let played = self.passed + self.failed;
        if played.is_multiple_of(25) {
            eprintln!("{played} seeds played, {} findings", self.failed);
        }
    }

    fn print(&self) -> ExitCode {
        if self.skipped > 0 {
            println!(
                "{} seeds were skipped: crates/sim/open.txt says why",
                self.skipped
            );
        }
        let seconds = self.began.elapsed().as_secs();
        // A run at idle priority takes as long as the others leave it; what it costs is told beside it.
        let cost = processor_seconds().map_or_else(String::new, |spent| {
            format!(", {spent} s of processor time")
        });
        println!("{} requests in {seconds} s{cost}", self.requests);
        println!(
            "{} passed, {} failed, {} skipped",
            self.passed, self.failed, self.skipped
        );
        if self.failed == 0 {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        }
    }
}

/// Processor time of this process, user and system (`proc_pid_stat(5)`, whose unit is a hundredth of a second on Linux).
fn processor_seconds() -> Option<u64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The name of the program, in parentheses, may have spaces.
    let (_, fields) = stat.rsplit_once(") ")?;
    let ticks = { fields.split(' ').skip(11).take(2) }.map(str::parse::<u64>);
    Some(ticks.sum::<Result<u64, _>>().ok()? / 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_without_a_step_for_long_is_a_finding() {
        let playing = |since: Instant, steps: u64| {
            Worker::Plays(Played {
                seed: 1,
                progress: Arc::default(),
                steps,
                since,
            })
        };
        let long_ago = Instant::now().checked_sub(STUCK_AFTER);
        let long_ago = long_ago.expect("the machine runs for longer");
        let mut board = Board {
            seeds: (),
            workers: vec![
                playing(long_ago, 0),
                playing(Instant::now(), 0),
                // It has made steps since it was looked at.
                playing(long_ago, 7),
            ],
            tally: Tally::default(),
        };
        watch(&mut board);
        assert!(matches!(board.workers[0], Worker::Stuck));
        assert!(matches!(board.workers[1], Worker::Plays(_)));
        assert!(matches!(board.workers[2], Worker::Plays(_)));
        watch(&mut board);
        assert_eq!(
            board.tally.failed, 1,
            "the one that is stuck is counted once"
        );
    }
}
