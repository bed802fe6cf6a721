//! `azekura csi controller` and `azekura csi node`.

use crate::cli::{Blocks, CsiArgs, CsiControllerArgs, CsiNodeArgs, CsiVerb, FollowArgs, Home};
use crate::launch;
use crate::local::{Host, Local};
use crate::log_window::{Keeper, Lines};
use crate::remote::Endpoint;
use crate::tail::Tail;
use anyhow::Context;
use api::{LogComponent, LogEntry, LogLineAnswer};
use csi::logs::Outbox;
use csi::{ApiOptions, BlockStyle, ControllerOptions, NodeOptions};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Threads for requests: each may wait for the cluster or a program. Idle ones end.
const REQUESTS_MAX: usize = 128;

/// Runs a verb until it is told to stop.
pub fn run(api: Endpoint<'_>, verb: CsiVerb) -> anyhow::Result<()> {
    match verb {
        CsiVerb::Controller(arguments) => controller(api, &arguments),
        CsiVerb::Node(arguments) => node(api, arguments),
        CsiVerb::Launch(arguments) => launch::launch(&arguments),
    }
}

fn options_of(api: Endpoint<'_>, shared: &CsiArgs) -> anyhow::Result<ApiOptions> {
    let urls = [api.api]
        .into_iter()
        .chain(shared.also.iter().map(String::as_str));
    // The first option may name several, as the environment does.
    let urls = urls.flat_map(|text| text.split(','));
    Ok(ApiOptions {
        endpoints: urls
            .filter(|url| !url.trim().is_empty())
            .map(|url| api.url(url))
            .collect(),
        token_file: api.token_file.map(Path::to_owned),
        credentials: api.credentials()?,
    })
}

/// How long a process that ends waits for its last lines to be told.
const LAST_LINES_MAX: Duration = Duration::from_secs(2);

/// Puts lines of this process where they wait to be told.
struct Posted {
    outbox: Outbox,
    component: LogComponent,
}

impl Keeper for Posted {
    fn push(&self, line: LogLineAnswer) {
        self.outbox.push(LogEntry {
            component: self.component,
            at_ms: line.at_ms,
            level: line.level,
            target: line.target,
            message: line.message,
            fields: line.fields,
        });
    }
}

/// Logs to standard error, and where lines wait to be told.
fn start_log(json: bool, component: LogComponent) -> Outbox {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env();
    let filter = filter.unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let outbox = Outbox::default();
    let posted = Posted {
        outbox: outbox.clone(),
        component,
    };
    let lines = tracing_subscriber::registry()
        .with(filter)
        .with(Lines(posted));
    let text = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    match json {
        true => lines.with(text.json()).init(),
        false => lines.with(text.with_ansi(false)).init(),
    }
    outbox
}

/// Tells lines for as long as this process runs.
fn tell_lines(
    api: &ApiOptions,
    host: String,
    component: LogComponent,
    outbox: &Outbox,
    look: impl FnMut() + Send + 'static,
) -> anyhow::Result<()> {
    let (api, outbox) = (api.clone(), outbox.clone());
    let tell = move || csi::logs::tell(api, host, component, &outbox, look);
    let thread = std::thread::Builder::new().name("tell-lines".to_owned());
    thread.spawn(tell).context("cannot start a thread")?;
    Ok(())
}

/// Name of the machine, or of the pod, that this process runs on: what its lines are marked with.
fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let good = |byte: char| byte.is_ascii_alphanumeric() || "-_.".contains(byte);
    let name: String = name
        .trim()
        .chars()
        .filter(|one| good(*one))
        .take(253)
        .collect();
    match name.is_empty() {
        true => "unnamed".to_owned(),
        false => name,
    }
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder
        .enable_all()
        .max_blocking_threads(REQUESTS_MAX)
        .build();
    runtime.context("cannot start the runtime")
}

/// Done when the process is told to stop.
async fn stopped() {
    let mut terminate = signal(SignalKind::terminate()).expect("signals can be waited for");
    let mut interrupt = signal(SignalKind::interrupt()).expect("signals can be waited for");
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

fn controller(api: Endpoint<'_>, arguments: &CsiControllerArgs) -> anyhow::Result<()> {
    let component = LogComponent::CsiController;
    let outbox = start_log(arguments.shared.log_json, component);
    let options = ControllerOptions {
        socket: arguments.shared.endpoint.clone(),
        api: options_of(api, &arguments.shared)?,
        blocks: match arguments.metadata_blocks {
            Blocks::Variable => BlockStyle::Variable,
            Blocks::Fixed => BlockStyle::Fixed,
        },
        kubernetes: arguments.kubernetes_cluster.clone(),
    };
    tell_lines(&options.api, host_name(), component, &outbox, || {})?;
    let kubeconfig = arguments.kubeconfig.as_deref();
    if arguments.follow.follow_pods {
        follow_pods(&options.api, kubeconfig, &arguments.follow)?;
    }
    let cluster = arguments.kubernetes_cluster.as_ref();
    if let Some(cluster) = cluster.filter(|_| arguments.report_claims) {
        report_claims(&options.api, kubeconfig, cluster)?;
    }
    tracing::info!(socket = %options.socket.display(), "the CSI controller serves");
    let served = runtime()?.block_on(csi::serve_controller(options, stopped()));
    outbox.settle(LAST_LINES_MAX);
    Ok(served?)
}

/// Lets pods follow their volumes, for as long as this process runs.
fn follow_pods(
    api: &ApiOptions,
    kubeconfig: Option<&Path>,
    arguments: &FollowArgs,
) -> anyhow::Result<()> {
    let kubernetes = kubernetes::Kubernetes::new(kubeconfig)?;
    let options = csi::follow::FollowOptions {
        lost_after: arguments.lost_after,
        silent_after: arguments.silent_after,
        return_after: arguments.return_after,
        ..csi::follow::FollowOptions::default()
    };
    let api = api.clone();
    let thread = std::thread::Builder::new().name("follow-pods".to_owned());
    let follow = move || csi::follow::follow(api, &kubernetes, options);
    thread.spawn(follow).context("cannot start a thread")?;
    tracing::info!(lost_after = ?options.lost_after, "pods follow their volumes");
    Ok(())
}

/// Tells about claims, for as long as this process runs.
fn report_claims(api: &ApiOptions, kubeconfig: Option<&Path>, cluster: &str) -> anyhow::Result<()> {
    let claims = kubernetes::Claims::watch(kubeconfig)?;
    let (api, options) = (
        api.clone(),
        csi::claims::ClaimOptions::of(cluster.to_owned()),
    );
    let thread = std::thread::Builder::new().name("report-claims".to_owned());
    let report = move || csi::claims::report(api, &claims, options);
    thread.spawn(report).context("cannot start a thread")?;
    tracing::info!(cluster, "claims are reported");
    Ok(())
}

fn node(api: Endpoint<'_>, arguments: CsiNodeArgs) -> anyhow::Result<()> {
    let component = LogComponent::CsiNode;
    let outbox = start_log(arguments.shared.log_json, component);
    let tail = Tail::new(arguments.run_dir.clone(), outbox.clone());
    let host = match arguments.launch {
        Home::Host => true,
        Home::Here => false,
        Home::Auto => is_contained(),
    };
    let local = Local {
        credentials: api.credentials.map(Path::to_owned),
        run_dir: arguments.run_dir,
        host: host.then_some(Host {
            root: arguments.host_root,
            programs: arguments.host_bin,
        }),
        tail: tail.clone(),
    };
    if host && local.credentials.is_some() {
        follow_credentials(local.clone())?;
    }
    let options = NodeOptions {
        socket: arguments.shared.endpoint.clone(),
        api: options_of(api, &arguments.shared)?,
        node: arguments.node_id,
        work_dir: arguments.work_dir,
        attach: Box::new(local),
    };
    let look = move || tail.look();
    tell_lines(&options.api, options.node.clone(), component, &outbox, look)?;
    tracing::info!(socket = %options.socket.display(), host, "the CSI node serves");
    let served = runtime()?.block_on(csi::serve_node(options, stopped()));
    outbox.settle(LAST_LINES_MAX);
    Ok(served?)
}

/// How often the processes of attachments are given what has changed of the credentials.
const FOLLOW_INTERVAL: Duration = Duration::from_secs(60);

/// Hands changed credentials on to attachments that exist, for as long as this process runs.
fn follow_credentials(local: Local) -> anyhow::Result<()> {
    let follow = move || {
        loop {
            if let Err(refusal) = local.place_credentials() {
                tracing::warn!(?refusal, "attachments keep their old credentials");
            }
            std::thread::sleep(FOLLOW_INTERVAL);
        }
    };
    let thread = std::thread::Builder::new().name("credentials".to_owned());
    thread.spawn(follow).context("cannot start a thread")?;
    Ok(())
}

/// Whether this process sees other mounts than process 1.
fn is_contained() -> bool {
    let inode = |process: &str| {
        let about = std::fs::metadata(format!("/proc/{process}/ns/mnt"));
        about.map(|about| about.ino()).ok()
    };
    inode("1") != inode("self")
}
