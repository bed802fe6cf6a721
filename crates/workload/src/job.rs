//! Loads in the manner of fio: a fixed number of lanes, each with one request at a time.
//!
//! Invariants
//! - No task per request: the lanes are futures of the caller's task, so a request costs two polls.
//! - All addresses are a function of the seed and of the order in which requests start.
//! - A job ends: by its count, by its duration, by a device that is gone, or after
//!   [`ERRORS_MAX`] errors.

use crate::histogram::Histogram;
use crate::pattern::{self, Content};
use crate::rng::Random;
use blockdev::{BlockDevice, BlockError, WriteMode};
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::{Either, LocalBoxFuture, select};
use futures_util::stream::{FuturesUnordered, StreamExt};
use std::cell::RefCell;
use std::rc::Rc;
use vocab::{BLOCK_BYTES, ByteCount, Lba};
use world::{Duration, Time, World};

/// A job that met more errors than this ends.
pub const ERRORS_MAX: u64 = 1000;
/// Requests in flight at most: each holds one request's memory.
pub const DEPTH_MAX: u32 = 4096;
/// Bytes of one request at most.
pub const REQUEST_BYTES_MAX: u64 = 16 << 20;
/// Ready-made requests of [`Payload::Reused`]: at most 64 times the request size is held.
const REUSED: u64 = 64;

/// What a job does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobKind {
    /// Sequential reads.
    Read,
    /// Sequential writes.
    Write,
    /// Reads at random addresses.
    RandRead,
    /// Writes at random addresses.
    RandWrite,
    /// Writes at random addresses, each followed by a flush; both are one operation.
    WriteFlush,
    /// Reads and writes at random addresses.
    Mixed {
        /// Share of reads, at most 100.
        read_percent: u8,
    },
}

/// When a job ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// After this many operations.
    Count(u64),
    /// When no operation was started for this long after the start; those in flight are finished.
    Duration(Duration),
}

/// What is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payload {
    /// Each block says what it is ([`pattern`]); about 0.5 µs of CPU per block.
    Stamped,
    /// One of 64 requests made beforehand: no CPU, but addresses repeat contents.
    Reused,
}

/// What is checked of the blocks that are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// Nothing.
    Nothing,
    /// Each block is zeros or was written for this address by a job with this seed.
    Stamps,
}

/// A load.
#[derive(Clone, Debug)]
pub struct JobSpec {
    /// What it does.
    pub kind: JobKind,
    /// Bytes of one request: whole blocks, at most [`REQUEST_BYTES_MAX`].
    pub block_bytes: u64,
    /// Requests in flight, 1 to [`DEPTH_MAX`].
    pub depth: u32,
    /// Where: first block, and bytes from there on. Empty means the whole device.
    pub span: (Lba, ByteCount),
    /// When it ends.
    pub limit: Limit,
    /// Share of zeros in what is written, at most 100.
    pub compressible_percent: u8,
    /// Whether writes ask for durability each.
    pub mode: WriteMode,
    /// What is written.
    pub payload: Payload,
    /// What is checked.
    pub check: Check,
    /// Addresses and contents.
    pub seed: u64,
}

impl JobSpec {
    /// 4 KiB requests, one at a time, over the whole device.
    #[must_use]
    pub fn new(kind: JobKind, limit: Limit, seed: u64) -> Self {
        Self {
            kind,
            block_bytes: BLOCK_BYTES,
            depth: 1,
            span: (Lba(0), ByteCount(0)),
            limit,
            compressible_percent: 0,
            mode: WriteMode::Buffered,
            payload: Payload::Stamped,
            check: Check::Nothing,
            seed,
        }
    }

    /// With requests of `bytes` and `depth` of them in flight.
    #[must_use]
    pub fn shape(mut self, bytes: u64, depth: u32) -> Self {
        self.block_bytes = bytes;
        self.depth = depth;
        self
    }
}

/// Why a job cannot run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JobError {
    /// The request size.
    #[error(
        "a request of {0} bytes is not 1 to {max} whole blocks of 4096 bytes",
        max = REQUEST_BYTES_MAX / BLOCK_BYTES
    )]
    RequestBytes(u64),
    /// The depth.
    #[error("{0} requests in flight are not within 1 to {DEPTH_MAX}")]
    Depth(u32),
    /// The span.
    #[error("{bytes} from {lba} do not hold a request within the device's {size}")]
    Span {
        /// First block.
        lba: Lba,
        /// Length.
        bytes: ByteCount,
        /// The device's size.
        size: ByteCount,
    },
    /// A percentage.
    #[error("{0} % is more than 100 %")]
    Percent(u8),
}

/// How far a job is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Operations finished, with and without success.
    pub operations: u64,
    /// Bytes read and written.
    pub bytes: u64,
    /// Operations that failed.
    pub errors: u64,
    /// Since the start.
    pub elapsed: Duration,
}

/// What a job measured.
#[derive(Clone, Debug, Default)]
pub struct JobReport {
    /// Operations that succeeded.
    pub operations: u64,
    /// Bytes they read and wrote.
    pub bytes: u64,
    /// From the first request to the last answer.
    pub elapsed: Duration,
    /// Latency of those that read.
    pub reads: Histogram,
    /// Latency of those that wrote.
    pub writes: Histogram,
    /// Operations that failed.
    pub errors: u64,
    /// Blocks that failed [`Check::Stamps`].
    pub corrupt_blocks: u64,
    /// The first error or damage, for a person.
    pub first_error: Option<String>,
}

impl JobReport {
    /// Latency of all operations.
    #[must_use]
    pub fn latency(&self) -> Histogram {
        let mut all = self.reads.clone();
        all.merge(&self.writes);
        all
    }

    /// Operations per second.
    #[must_use]
    pub fn per_second(&self) -> f64 {
        ratio(self.operations, self.elapsed)
    }

    /// Bytes per second.
    #[must_use]
    pub fn bytes_per_second(&self) -> f64 {
        ratio(self.bytes, self.elapsed)
    }
}

#[expect(clippy::cast_precision_loss, reason = "rates are for people")]
fn ratio(count: u64, elapsed: Duration) -> f64 {
    if elapsed.is_zero() {
        0.0
    } else {
        count as f64 / elapsed.as_secs_f64()
    }
}

/// The state that the lanes share.
struct Run {
    device: Rc<dyn BlockDevice>,
    world: World,
    spec: JobSpec,
    blocks: u32,
    /// Requests that fit into the span.
    places: u64,
    started: Time,
    state: RefCell<State>,
}

struct State {
    random: Random,
    issued: u64,
    stopped: bool,
    reused: Vec<Bytes>,
    report: JobReport,
}

/// One operation to do.
struct Operation {
    lba: Lba,
    version: u64,
    reads: bool,
}

/// Runs `spec` on `device` until its limit; `progress` is called about every second.
///
/// # Errors
/// [`JobError`] when the specification does not fit the device; nothing was done then. Failing
/// requests are counted in the report.
pub async fn run(
    world: &World,
    device: Rc<dyn BlockDevice>,
    spec: JobSpec,
    mut progress: impl FnMut(Progress),
) -> Result<JobReport, JobError> {
    let depth = spec.depth;
    let run = Rc::new(Run::new(world, device, spec)?);
    let mut lanes: FuturesUnordered<LocalBoxFuture<'static, ()>> = (0..depth)
        .map(|_| lane(run.clone()).boxed_local())
        .collect();
    let mut tick = world.sleep(Duration::from_secs(1));
    loop {
        match select(lanes.next(), tick).await {
            Either::Left((None, _)) => break,
            Either::Left((Some(()), rest)) => tick = rest,
            Either::Right(((), _)) => {
                progress(run.progress());
                tick = world.sleep(Duration::from_secs(1));
            }
        }
    }
    let mut report = std::mem::take(&mut run.state.borrow_mut().report);
    report.elapsed = world.now().since(run.started);
    Ok(report)
}

async fn lane(run: Rc<Run>) {
    while let Some(operation) = run.next() {
        let begun = run.world.now();
        let outcome = run.perform(&operation).await;
        run.on_done(&operation, run.world.now().since(begun), outcome);
    }
}

impl Run {
    fn new(world: &World, device: Rc<dyn BlockDevice>, spec: JobSpec) -> Result<Self, JobError> {
        let blocks = spec.block_bytes / BLOCK_BYTES;
        if blocks == 0
            || !spec.block_bytes.is_multiple_of(BLOCK_BYTES)
            || spec.block_bytes > REQUEST_BYTES_MAX
        {
            return Err(JobError::RequestBytes(spec.block_bytes));
        }
        if spec.depth == 0 || spec.depth > DEPTH_MAX {
            return Err(JobError::Depth(spec.depth));
        }
        let read_percent = match spec.kind {
            JobKind::Mixed { read_percent } => read_percent,
            _ => 0,
        };
        if let Some(percent) = [read_percent, spec.compressible_percent]
            .into_iter()
            .find(|percent| *percent > 100)
        {
            return Err(JobError::Percent(percent));
        }
        let size = device.size();
        let (lba, mut bytes) = spec.span;
        if bytes.0 == 0 {
            bytes = ByteCount((size.blocks().saturating_sub(lba.0)) * BLOCK_BYTES);
        }
        let inside = lba.0.checked_add(bytes.blocks()) <= Some(size.blocks());
        let places = bytes.blocks() / blocks;
        if !inside || places == 0 || lba.0 > size.blocks() {
            return Err(JobError::Span { lba, bytes, size });
        }
        let state = State {
            random: Random::new(spec.seed),
            issued: 0,
            stopped: false,
            reused: Vec::new(),
            report: JobReport::default(),
        };
        Ok(Self {
            device,
            world: world.clone(),
            blocks: u32::try_from(blocks).expect("at most REQUEST_BYTES_MAX"),
            places,
            started: world.now(),
            state: RefCell::new(state),
            spec,
        })
    }

    /// The next operation, or `None` when the job is over.
    fn next(&self) -> Option<Operation> {
        let mut state = self.state.borrow_mut();
        let over = match self.spec.limit {
            Limit::Count(count) => state.issued >= count,
            Limit::Duration(duration) => self.world.now().since(self.started) >= duration,
        };
        if over || state.stopped {
            return None;
        }
        state.issued += 1;
        let sequential = (state.issued - 1) % self.places;
        let reads = match self.spec.kind {
            JobKind::Read | JobKind::RandRead => true,
            JobKind::Write | JobKind::RandWrite | JobKind::WriteFlush => false,
            JobKind::Mixed { read_percent } => state.random.below(100) < u64::from(read_percent),
        };
        let place = match self.spec.kind {
            JobKind::Read | JobKind::Write => sequential,
            _ => state.random.below(self.places),
        };
        Some(Operation {
            lba: self.spec.span.0.plus(place * u64::from(self.blocks)),
            version: state.issued,
            reads,
        })
    }

    async fn perform(&self, operation: &Operation) -> Result<(), BlockError> {
        if operation.reads {
            let pieces = self.device.read(operation.lba, self.blocks).await?;
            self.check(operation, &pieces);
            return Ok(());
        }
        let data = self.payload(operation);
        self.device
            .write(operation.lba, vec![data], self.spec.mode)
            .await?;
        if self.spec.kind == JobKind::WriteFlush {
            self.device.flush().await?;
        }
        Ok(())
    }

    fn payload(&self, operation: &Operation) -> Bytes {
        let fill = |version| {
            let (spec, lba) = (&self.spec, operation.lba);
            pattern::fill_run(
                lba,
                self.blocks,
                version,
                spec.seed,
                spec.compressible_percent,
            )
        };
        if self.spec.payload == Payload::Stamped {
            return fill(operation.version);
        }
        let mut state = self.state.borrow_mut();
        if (state.reused.len() as u64) < REUSED {
            let made = fill(operation.version);
            state.reused.push(made);
        }
        let index = operation.version % state.reused.len() as u64;
        state.reused[usize::try_from(index).expect("below 64")].clone()
    }

    fn check(&self, operation: &Operation, pieces: &[Bytes]) {
        if self.spec.check == Check::Nothing {
            return;
        }
        let contents = pattern::read_back_all(pieces);
        let mut state = self.state.borrow_mut();
        for (offset, content) in (0u64..).zip(&contents) {
            let wanted = operation.lba.plus(offset);
            let fits = match content {
                Content::Zero => true,
                Content::Written { seed, lba, .. } => *seed == self.spec.seed && *lba == wanted,
                Content::Foreign => false,
            };
            if !fits {
                state.report.corrupt_blocks += 1;
                let found = || format!("{wanted} holds {content}");
                state.report.first_error.get_or_insert_with(found);
            }
        }
        let missing = u64::from(self.blocks).saturating_sub(contents.len() as u64);
        state.report.corrupt_blocks += missing;
    }

    fn on_done(&self, operation: &Operation, took: Duration, outcome: Result<(), BlockError>) {
        let mut state = self.state.borrow_mut();
        match outcome {
            Ok(()) => {
                state.report.operations += 1;
                state.report.bytes += u64::from(self.blocks) * BLOCK_BYTES;
                let latencies = if operation.reads {
                    &mut state.report.reads
                } else {
                    &mut state.report.writes
                };
                latencies.record(took);
            }
            Err(error) => {
                state.report.errors += 1;
                let gone = matches!(error, BlockError::Gone(_));
                state.stopped |= gone || state.report.errors >= ERRORS_MAX;
                let verb = if operation.reads { "read" } else { "write" };
                let found = || format!("{verb} at {}: {error}", operation.lba);
                state.report.first_error.get_or_insert_with(found);
            }
        }
    }

    fn progress(&self) -> Progress {
        let state = self.state.borrow();
        Progress {
            operations: state.report.operations + state.report.errors,
            bytes: state.report.bytes,
            errors: state.report.errors,
            elapsed: self.world.now().since(self.started),
        }
    }
}

#[cfg(test)]
mod tests;
