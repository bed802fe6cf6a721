//! What runs on the volumes: files that are written, synced, renamed and compared, and a database.

use super::Dice;
use crate::driver::output;
use crate::scenario::database::{self, Database, Session};
use anyhow::{Context, Result, ensure};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Files of one load.
const FILES: u64 = 64;
/// Largest of them.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// Rows after which the database grows no more; they are compared after every strike.
const ROWS_MAX: u64 = 200_000;

/// What the loads say while they run.
#[derive(Default)]
pub struct Pulse {
    stop: AtomicBool,
    longest_micros: AtomicU64,
    operations: AtomicU64,
    written: AtomicU64,
    /// When the operations that run began.
    running: Mutex<Vec<Instant>>,
    errors: Mutex<Vec<String>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pulse {
    fn begin(&self) -> Instant {
        let now = Instant::now();
        lock(&self.running).push(now);
        now
    }

    fn beat(&self, began: Instant, bytes: u64) {
        let mut running = lock(&self.running);
        if let Some(at) = running.iter().position(|other| *other == began) {
            running.swap_remove(at);
        }
        drop(running);
        let micros = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.longest_micros.fetch_max(micros, Ordering::Relaxed);
        self.operations.fetch_add(1, Ordering::Relaxed);
        self.written.fetch_add(bytes, Ordering::Relaxed);
    }

    /// The longest operation since the last call.
    pub fn take_longest(&self) -> Duration {
        Duration::from_micros(self.longest_micros.swap(0, Ordering::Relaxed))
    }

    /// Waits until no operation runs that began before now, or one has failed.
    pub fn settle(&self) {
        let asked = Instant::now();
        let waits = || lock(&self.running).iter().any(|began| *began < asked);
        while waits() && lock(&self.errors).is_empty() {
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Operations and bytes so far.
    pub fn totals(&self) -> (u64, u64) {
        let read = |value: &AtomicU64| value.load(Ordering::Relaxed);
        (read(&self.operations), read(&self.written))
    }

    /// Notes something that must not happen.
    pub fn fail(&self, what: String) {
        eprintln!("    WRONG: {what}");
        lock(&self.errors).push(what);
    }

    /// All of it.
    pub fn errors(&self) -> Vec<String> {
        lock(&self.errors).clone()
    }
}

/// A file that is known to be durable: its version, and its length.
type Durable = BTreeMap<u64, (u64, u64)>;

enum State {
    Files(Mutex<Durable>),
    Database(Mutex<(Session, u64)>),
}

/// Something that runs on a volume.
pub struct Load {
    name: String,
    folder: PathBuf,
    seed: u64,
    state: Arc<State>,
    pulse: Arc<Pulse>,
    thread: Option<JoinHandle<()>>,
    /// Ends after its session.
    server: Option<Database>,
}

impl Load {
    /// Files in a new folder.
    pub fn files(folder: &Path, seed: u64, pulse: &Arc<Pulse>) -> Result<Self> {
        fs::create_dir(folder)?;
        let state = Arc::new(State::Files(Mutex::default()));
        Ok(Self::new(folder, seed, state, pulse, None))
    }

    /// A database in a new folder.
    pub fn database(data: &Path, logs: &Path, sockets: &Path, pulse: &Arc<Pulse>) -> Result<Self> {
        database::install(data)?;
        let server = Database::start(data, "soak", logs, sockets)?;
        let mut session = server.session()?;
        session.prepare()?;
        let state = Arc::new(State::Database(Mutex::new((session, 0))));
        Ok(Self::new(data, 0, state, pulse, Some(server)))
    }

    fn new(
        folder: &Path,
        seed: u64,
        state: Arc<State>,
        pulse: &Arc<Pulse>,
        server: Option<Database>,
    ) -> Self {
        let name = folder.display().to_string();
        let (of_thread, beats) = (state.clone(), pulse.clone());
        let (path, label) = (folder.to_owned(), name.clone());
        let thread = std::thread::spawn(move || {
            let ended = match &*of_thread {
                State::Files(durable) => write_files(&path, seed, durable, &beats),
                State::Database(session) => insert_rows(session, &beats),
            };
            if let Err(error) = ended {
                beats.fail(format!("{label}: {error:#}"));
            }
        });
        Self {
            name,
            folder: folder.to_owned(),
            seed,
            state,
            pulse: pulse.clone(),
            thread: Some(thread),
            server,
        }
    }

    /// Where it runs.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Reads everything back from the volume, not from this machine's memory; how many bytes.
    pub fn verify(&self) -> Result<u64> {
        match &*self.state {
            State::Files(durable) => {
                let durable = lock(durable);
                output(Command::new("sync").arg("-f").arg(&self.folder))?;
                fs::write("/proc/sys/vm/drop_caches", "3")?;
                let mut bytes = 0;
                for (&file, &(version, length)) in &*durable {
                    compare(&self.folder, self.seed, file, version, length)?;
                    bytes += length;
                }
                Ok(bytes)
            }
            State::Database(session) => {
                let mut held = lock(session);
                let inserted = held.1;
                let count = held.0.verify()?;
                ensure!(
                    count >= inserted,
                    "{inserted} rows were committed, {count} are there"
                );
                Ok(count * 24)
            }
        }
    }

    /// Ends it after the operation that runs.
    pub fn stop(&mut self) {
        self.pulse.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            self.pulse.fail(format!("{}: a thread panicked", self.name));
        }
        if let Some(server) = self.server.take()
            && let Err(error) = server.stop()
        {
            self.pulse.fail(format!("{}: {error:#}", self.name));
        }
    }
}

/// Contents that differ from file to file and version to version and do not compress.
fn content(seed: u64, file: u64, version: u64, length: u64) -> Vec<u8> {
    let mut x = seed ^ file.rotate_left(32) ^ version.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut bytes = Vec::with_capacity(length as usize + 8);
    while (bytes.len() as u64) < length {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        bytes.extend(x.to_le_bytes());
    }
    bytes.truncate(length as usize);
    bytes
}

fn compare(folder: &Path, seed: u64, file: u64, version: u64, length: u64) -> Result<()> {
    let path = folder.join(format!("f{file}"));
    let found = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let expected = content(seed, file, version, length);
    let at = found
        .iter()
        .zip(&expected)
        .position(|(one, other)| one != other);
    ensure!(
        found == expected,
        "{} is not its version {version}: {} bytes of {length}, first difference at {at:?}",
        path.display(),
        found.len()
    );
    Ok(())
}

/// Each version is written beside the old one, made durable and renamed over it.
fn write_files(folder: &Path, seed: u64, durable: &Mutex<Durable>, pulse: &Pulse) -> Result<()> {
    let mut dice = Dice::new(seed);
    let mut version = 0;
    while !pulse.stop.load(Ordering::Relaxed) {
        let file = dice.below(FILES);
        version += 1;
        let length = 1 + dice.below(FILE_BYTES_MAX);
        {
            let mut durable = lock(durable);
            let began = pulse.begin();
            let (new, path) = (folder.join("new"), folder.join(format!("f{file}")));
            let mut handle = File::create(&new)?;
            handle.write_all(&content(seed, file, version, length))?;
            handle.sync_all()?;
            fs::rename(&new, &path)?;
            File::open(folder)?.sync_all()?;
            durable.insert(file, (version, length));
            pulse.beat(began, length);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

fn insert_rows(session: &Mutex<(Session, u64)>, pulse: &Pulse) -> Result<()> {
    while !pulse.stop.load(Ordering::Relaxed) {
        {
            let mut held = lock(session);
            if held.1 < ROWS_MAX {
                let began = pulse.begin();
                let next = held.1 + 1;
                held.0.insert(next)?;
                held.1 = next;
                pulse.beat(began, 24);
            }
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}
