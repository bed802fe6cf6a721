//! `azekura bench`: the engine without NBD, under the jobs of crate `workload`.
//!
//! For `cargo xtask bench`, and hidden from the help. `--through remote` is a client process of its own, as an
//! attachment is, without a block device. `--through owner` has the job run in the process that owns the volume,
//! beside everything that serves it; that process must have been started with `--bench-socket`. The socket is
//! a file of this machine, so that its folder's permissions say who may use it: a job overwrites the volume.
//!
//! One line of JSON each way on the socket: [`Job`], and [`Outcome`] or `{"error"}`.

use crate::cli::{BenchArgs, BenchKind, Form, Through};
use crate::output::{Table, render};
use crate::remote::{Endpoint, Remote, secured};
use ::node::Host;
use anyhow::{Context, anyhow, bail};
use api::http::{self, path};
use api::{AttachmentAnswer, StatusAnswer};
use blockdev::BlockDevice;
use client::{ClientOptions, RemoteDevice};
use serde::{Deserialize, Serialize};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;
use vocab::{AttachmentGeneration, ByteCount, Lba};
use workload::job::{self, JobKind, JobSpec, Limit};
use world::{Address, LocalBoxFuture, World};
use world_linux::ShardOptions;

/// How long the volume's owner may take to let the session in, and to answer any request.
const PATIENCE_SECONDS: u64 = 30;
/// Longest job line that is read.
const JOB_BYTES_MAX: u64 = 4096;
/// Longest job.
pub const JOB_SECONDS_MAX: u64 = 3600;

/// What to run on which volume.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Job {
    volume: String,
    kind: Kind,
    block_bytes: u64,
    depth: u32,
    span_bytes: u64,
    seconds: u64,
    compressible_percent: u8,
    seed: u64,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Kind {
    Read,
    Write,
    Randread,
    Randwrite,
    WriteFlush,
}

/// What a job measured.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Outcome {
    /// Operations that succeeded.
    pub operations: u64,
    /// Bytes they moved.
    pub bytes: u64,
    /// From the first request to the last answer.
    pub seconds: f64,
    /// Operations per second.
    pub per_second: f64,
    /// Median latency.
    pub p50_us: f64,
    /// Latency of all but the slowest hundredth.
    pub p99_us: f64,
    /// Operations that failed.
    pub errors: u64,
    /// The first of those errors.
    pub first_error: Option<String>,
    /// User and system time of the process that ran the job, from its first request to its last answer:
    /// of the client for `remote`, and of everything the owner did for `owner`.
    pub cpu_us: u64,
}

impl Table for Outcome {
    fn table(&self) -> String {
        format!(
            "{:.0} operations/s, p50 {:.0} us, p99 {:.0} us, {} errors, {:.1} us of CPU per operation\n",
            self.per_second,
            self.p50_us,
            self.p99_us,
            self.errors,
            self.cpu_us as f64 / self.operations.max(1) as f64
        )
    }
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Reply {
    Done(Outcome),
    Failed { error: String },
}

impl Job {
    fn new(arguments: &BenchArgs) -> Self {
        Self {
            volume: arguments.volume.clone(),
            kind: match arguments.job {
                BenchKind::Read => Kind::Read,
                BenchKind::Write => Kind::Write,
                BenchKind::Randread => Kind::Randread,
                BenchKind::Randwrite => Kind::Randwrite,
                BenchKind::WriteFlush => Kind::WriteFlush,
            },
            block_bytes: arguments.block_size,
            depth: arguments.depth,
            span_bytes: arguments.span,
            seconds: arguments.seconds,
            compressible_percent: arguments.compressible,
            seed: arguments.seed,
        }
    }

    fn spec(&self) -> JobSpec {
        let kind = match self.kind {
            Kind::Read => JobKind::Read,
            Kind::Write => JobKind::Write,
            Kind::Randread => JobKind::RandRead,
            Kind::Randwrite => JobKind::RandWrite,
            Kind::WriteFlush => JobKind::WriteFlush,
        };
        let seconds = self.seconds.min(JOB_SECONDS_MAX);
        let limit = Limit::Duration(Duration::from_secs(seconds));
        let mut spec = JobSpec::new(kind, limit, self.seed).shape(self.block_bytes, self.depth);
        spec.span = (Lba(0), ByteCount(self.span_bytes));
        spec.compressible_percent = self.compressible_percent;
        spec
    }
}

/// `bench`.
pub fn run(api: Endpoint<'_>, arguments: &BenchArgs, form: Form) -> anyhow::Result<String> {
    let job = Job::new(arguments);
    let outcome = match arguments.through {
        Through::Remote => through_remote(api, &job)?,
        Through::Owner => {
            let socket = arguments.socket.as_deref();
            through_owner(
                socket.context(
                    "--through owner needs --socket FILE, as the owner's --bench-socket",
                )?,
                &job,
            )?
        }
    };
    Ok(render(&outcome, form))
}

async fn run_job(world: &World, device: Rc<dyn BlockDevice>, job: &Job) -> anyhow::Result<Outcome> {
    let before = cpu_us();
    let report = job::run(world, device, job.spec(), |_| {}).await?;
    let latency = report.latency();
    let us = |duration: Duration| duration.as_nanos() as f64 / 1000.0;
    let seconds = report.elapsed.as_secs_f64();
    Ok(Outcome {
        operations: report.operations,
        bytes: report.bytes,
        seconds,
        per_second: report.operations as f64 / seconds.max(1e-9),
        p50_us: us(latency.p50()),
        p99_us: us(latency.p99()),
        errors: report.errors,
        first_error: report.first_error,
        cpu_us: cpu_us().saturating_sub(before),
    })
}

/// User and system time of this process so far, from the scheduler's own clock: `/proc/self/stat` counts in
/// steps of 10 ms, which is too coarse for a job of a second.
fn cpu_us() -> u64 {
    let tasks = std::fs::read_dir("/proc/self/task");
    let of_task = |task: std::io::Result<std::fs::DirEntry>| -> Option<u64> {
        let text = std::fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<u64>().ok()
    };
    let nanoseconds: u64 = tasks.into_iter().flatten().filter_map(of_task).sum();
    nanoseconds / 1000
}

/// A session of its own: takes the right to use the volume, and gives it back.
fn through_remote(api: Endpoint<'_>, job: &Job) -> anyhow::Result<Outcome> {
    let remote = Remote::new(api)?;
    let client = format!("bench-{}", std::process::id());
    let wanted = http::Attach {
        client: client.clone(),
        read_only: false,
        shared: false,
    };
    let status: StatusAnswer = remote.get(&path(&["status"]))?;
    let granted: AttachmentAnswer =
        remote.post(&path(&["volumes", &job.volume, "attach"]), &wanted)?;
    let options = ClientOptions {
        cluster: status.cluster.clone(),
        nodes: status
            .nodes
            .iter()
            .filter(|node| node.alive)
            .map(|node| Address(node.address.clone()))
            .collect(),
        volume: job.volume.clone(),
        client: 0,
        attachment: AttachmentGeneration(granted.generation),
        read_only: false,
        levels: vocab::Levels::OWN,
        patience: Duration::from_secs(PATIENCE_SECONDS),
        doubt_after: client::DOUBT_AFTER,
    };
    let of_shard = job.clone();
    let credentials = api.credentials()?;
    let outcome = world_linux::run(ShardOptions::default(), move |world, _| {
        Box::pin(async move {
            let world = secured(world, credentials);
            let device = Rc::new(RemoteDevice::open(world.clone(), options).await?);
            let outcome = run_job(&world, device.clone(), &of_shard).await;
            device.close().await;
            outcome
        }) as LocalBoxFuture<'static, anyhow::Result<Outcome>>
    });
    let body = http::Detach {
        client: Some(client),
    };
    let given_back: Result<AttachmentAnswer, _> =
        remote.post(&path(&["volumes", &job.volume, "detach"]), &body);
    let outcome = outcome??;
    given_back.context("the job is done, but the volume stays attached")?;
    Ok(outcome)
}

/// Has the owner run the job.
fn through_owner(socket: &Path, job: &Job) -> anyhow::Result<Outcome> {
    let stream = UnixStream::connect(socket).with_context(|| {
        let socket = socket.display();
        format!("no node answers at {socket}: was the owner started with --bench-socket {socket}?")
    })?;
    stream.set_read_timeout(Some(Duration::from_secs(job.seconds + PATIENCE_SECONDS)))?;
    let line = serde_json::to_string(job).expect("plain data") + "\n";
    (&stream).write_all(line.as_bytes())?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer)?;
    match serde_json::from_str(&answer).context("the node answered something odd")? {
        Reply::Done(outcome) => Ok(outcome),
        Reply::Failed { error } => bail!("{error}"),
    }
}

/// Serves jobs on `socket` from a thread of its own, one after the other, until the process ends. `call` runs a
/// job on the shard.
pub fn serve(
    socket: &Path,
    call: impl Fn(Job) -> anyhow::Result<Outcome> + Send + 'static,
) -> anyhow::Result<()> {
    // What an earlier process left there is nobody's socket any more.
    let _ = std::fs::remove_file(socket);
    let listener = UnixListener::bind(socket)
        .with_context(|| format!("cannot listen on {}", socket.display()))?;
    std::thread::Builder::new()
        .name("bench".to_owned())
        .spawn(move || {
            for stream in listener.incoming() {
                let served = stream
                    .map_err(Into::into)
                    .and_then(|stream| serve_one(&stream, &call));
                if let Err(error) = served {
                    tracing::warn!(
                        error = format!("{error:#}"),
                        "a benchmark's connection failed"
                    );
                }
            }
        })
        .context("cannot start a thread")?;
    Ok(())
}

fn serve_one(
    stream: &UnixStream,
    call: &impl Fn(Job) -> anyhow::Result<Outcome>,
) -> anyhow::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(PATIENCE_SECONDS)))?;
    let mut line = String::new();
    BufReader::new(stream.take(JOB_BYTES_MAX)).read_line(&mut line)?;
    let job = serde_json::from_str(&line).context("a line that is no job");
    let reply = match job.and_then(call) {
        Ok(outcome) => Reply::Done(outcome),
        Err(error) => Reply::Failed {
            error: format!("{error:#}"),
        },
    };
    let line = serde_json::to_string(&reply).expect("plain data") + "\n";
    let mut stream = stream;
    stream.write_all(line.as_bytes())?;
    Ok(())
}

/// Runs a job on the own device of a volume that `host` owns.
pub async fn on_owner(world: World, host: Rc<Host>, job: Job) -> anyhow::Result<Outcome> {
    let device = host.local_device(&job.volume).ok_or_else(|| {
        anyhow!(
            "volume {} is not served by this node: use the socket of the one that owns it",
            job.volume
        )
    })?;
    run_job(&world, device, &job).await
}
