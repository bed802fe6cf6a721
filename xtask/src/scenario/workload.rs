//! What runs on the two mounts: rows are committed to the database, pages of a web tree are written and made durable.

use super::database::{Database, Session, body};
use anyhow::{Context, Result, ensure};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Pause between two writes: some hundred a second, as two small sites would have.
const PAUSE: Duration = Duration::from_millis(2);
/// Bytes of a page.
const PAGE_BYTES: usize = 16 << 10;
/// Pages in a folder of the tree.
const FOLDER_PAGES: u64 = 100;

/// What a thread tells of its writes.
#[derive(Default)]
pub struct Gauge {
    done: AtomicU64,
    longest_us: AtomicU64,
}

impl Gauge {
    fn add(&self, took: Duration) {
        self.done.fetch_add(1, Ordering::SeqCst);
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.longest_us.fetch_max(us, Ordering::SeqCst);
    }

    /// Writes acknowledged so far.
    pub fn done(&self) -> u64 {
        self.done.load(Ordering::SeqCst)
    }

    /// The longest write since the last call.
    pub fn take_longest(&self) -> Duration {
        Duration::from_micros(self.longest_us.swap(0, Ordering::SeqCst))
    }
}

/// The two threads.
pub struct Workload {
    pub rows: Arc<Gauge>,
    pub pages: Arc<Gauge>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Result<()>>>,
}

impl Workload {
    /// Starts both.
    pub fn start(database: &Database, tree: &Path) -> Result<Self> {
        let mut session = database.session()?;
        session.prepare()?;
        let mut workload = Self {
            rows: Arc::default(),
            pages: Arc::default(),
            stop: Arc::default(),
            threads: Vec::new(),
        };
        let tree = tree.to_owned();
        workload.spawn(workload.rows.clone(), move |id| insert(&mut session, id));
        workload.spawn(workload.pages.clone(), move |id| write_page(&tree, id));
        Ok(workload)
    }

    fn spawn(
        &mut self,
        gauge: Arc<Gauge>,
        mut write: impl FnMut(u64) -> Result<()> + Send + 'static,
    ) {
        let stop = self.stop.clone();
        self.threads.push(std::thread::spawn(move || {
            while !stop.load(Ordering::SeqCst) {
                let started = Instant::now();
                write(gauge.done() + 1)?;
                gauge.add(started.elapsed());
                std::thread::sleep(PAUSE);
            }
            Ok(())
        }));
    }

    /// Stops both; every write must have succeeded.
    pub fn stop(mut self) -> Result<(u64, u64)> {
        self.stop.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            thread.join().ok().context("a writing thread panicked")??;
        }
        Ok((self.rows.done(), self.pages.done()))
    }
}

impl Drop for Workload {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
    }
}

fn insert(session: &mut Session, id: u64) -> Result<()> {
    session.insert(id)
}

fn page_path(tree: &Path, id: u64) -> PathBuf {
    tree.join(format!("{}/{id}.html", id / FOLDER_PAGES))
}

fn page(id: u64) -> String {
    body(id).repeat(PAGE_BYTES / body(id).len())
}

/// Writes a page as careful programs do: beside its place, made durable, moved there.
fn write_page(tree: &Path, id: u64) -> Result<()> {
    let path = page_path(tree, id);
    let folder = path.parent().context("a page is in a folder")?;
    fs::create_dir_all(folder)?;
    let beside = folder.join(".new");
    let mut file = File::create(&beside)?;
    file.write_all(page(id).as_bytes())?;
    file.sync_all()?;
    fs::rename(beside, &path)?;
    File::open(folder)?.sync_all()?;
    Ok(())
}

/// Every page up to `count` must be there and right.
pub fn verify_pages(tree: &Path, count: u64) -> Result<()> {
    for id in 1..=count {
        let path = page_path(tree, id);
        let text =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        ensure!(
            text == page(id),
            "{} is not what was written",
            path.display()
        );
    }
    Ok(())
}
