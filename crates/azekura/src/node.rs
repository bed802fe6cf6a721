//! `azekura node`: from a configuration to a serving node, and back to nothing when told to stop.
//!
//! Two threads matter: the calling one becomes the shard, where everything about volumes happens; another
//! runs tokio for the API server and the signals, and reaches the shard by calls only (`Bridge`).
//!
//! Invariants
//! - Nothing is served before everything is: `ready` is printed when the last listener is open.
//! - A stop answers the API's requests in progress, then gives the volumes up, then closes the stores
//!   cleanly. A second signal ends the process at once; that is as safe as a power cut.

use crate::authority::{self, FileSigner};
use crate::bay::MachineBay;
use crate::bench;
use crate::catalog_place;
use crate::cli::NodeArgs;
use crate::config::{ApiAuth, Config, TlsConfig, Tuning, is_of_this_machine};
use crate::disk::{self, Prepared};
use crate::last_words;
use crate::log_window::{Lines, WINDOW_BYTES, Window};
use crate::remote::secured;
use crate::seat::{self, Seat};
use crate::shelf::FolderShelf;
use crate::usage::ThisProcess;
use crate::users;
use ::node::{EvenOptions, Host, HostOptions, LastWords, Recording, StoreSpec};
use anyhow::{Context, anyhow};
use api::{Answer, Asker, Operation, OperationError};
use control::{Auth, Backend, BoxFuture, Certificates, Digest};
use identity::{Credentials, PublicCertificate};
use std::cell::Cell;
use std::io::Write;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use vocab::StoreId;
use world::sync::Notify;
use world::{Address, LocalBoxFuture, Role, World};
use world_linux::{Machine, RemoteHandle, ShardOptions};

/// Open files a node must be allowed: 128 disks, a few peers with two connections each, 64 API requests,
/// and some 3,000 sessions of clients.
const OPEN_FILES_MIN: u64 = 4096;
/// Longest wait for a clean stop; what is not done then is recovered as after a crash.
const STOP_SECONDS_MAX: u64 = 30;

/// Runs a node until it is told to stop.
///
/// # Errors
/// Why it does not start, or stopped by itself.
pub fn run(arguments: &NodeArgs) -> anyhow::Result<()> {
    let config = arguments.config.as_deref();
    let mut config = Config::read(config.context("say which configuration: --config FILE")?)?;
    config.levels = arguments.levels.unwrap_or(config.levels);
    let window = start_log(arguments.log_json);
    world_linux::check_open_files(OPEN_FILES_MIN)?;
    let api = config.api.as_deref().map(listen_api).transpose()?;
    let credentials = config.tls.as_ref().map(|tls| credentials(&config, tls));
    let credentials = credentials.transpose()?;
    let auth = match &api {
        Some(socket) => authentication(&config.api_auth, socket.bound, credentials.is_some())?,
        None => Auth::Open,
    };
    let public = config.tls.as_ref().and_then(|tls| tls.public.as_ref());
    let public = public.map(|(certificate, key)| PublicCertificate::read(certificate, key));
    let public = public
        .transpose()
        .context("cannot show browsers the certificate of [tls]")?;
    let bench = arguments.bench_socket.clone();
    let password_file = config.admin_password_file.clone();
    world_linux::run(ShardOptions::default(), move |world, machine| {
        Box::pin(async move {
            let api = api.map(|socket| Api {
                socket,
                auth,
                password_file,
                public,
            });
            serve(world, machine, config, credentials, api, bench, window).await
        })
    })?
}

/// Logs to standard error, and keeps what was logged last.
fn start_log(json: bool) -> Window {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let window = Window::new(WINDOW_BYTES);
    let lines = tracing_subscriber::registry()
        .with(filter)
        .with(Lines(window.clone()));
    let text = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    match json {
        true => lines.with(text.json()).init(),
        false => lines.with(text.with_ansi(false)).init(),
    }
    window
}

/// The API's socket and the URL others reach it at.
struct ApiSocket {
    listener: TcpListener,
    bound: SocketAddr,
}

/// The API: where it is served, and to whom.
struct Api {
    socket: ApiSocket,
    auth: Auth,
    password_file: Option<PathBuf>,
    public: Option<Arc<PublicCertificate>>,
}

fn listen_api(address: &str) -> anyhow::Result<ApiSocket> {
    let listen = || {
        let found = address.to_socket_addrs()?;
        let addresses: Vec<SocketAddr> = found.collect();
        let listener = TcpListener::bind(&addresses[..])?;
        listener.set_nonblocking(true)?;
        let bound = listener.local_addr()?;
        Ok::<_, std::io::Error>(ApiSocket { listener, bound })
    };
    listen().with_context(|| {
        format!("cannot listen for the API on {address}: is another process using it?")
    })
}

/// This node's certificate, which must say that it is this node's.
fn credentials(config: &Config, tls: &TlsConfig) -> anyhow::Result<Arc<Credentials>> {
    let folder = tls.credentials.display();
    let credentials = Credentials::read(&tls.credentials);
    let credentials = credentials.with_context(|| {
        format!(
            "cannot use the credentials in {folder}: `azekura cluster init` or `azekura node join` makes them"
        )
    })?;
    let caller = &credentials.last().caller;
    if caller.role != Role::Node || caller.name != config.node {
        return Err(anyhow!(
            "the credentials in {folder} are those of {caller}, and this is node {}: correct `node` or \
             `tls.credentials`",
            config.node
        ));
    }
    Ok(credentials)
}

/// How requests are authenticated. The administrator's token is made when its file is missing. With certificates nobody needs
/// a token.
fn authentication(wanted: &ApiAuth, bound: SocketAddr, secured: bool) -> anyhow::Result<Auth> {
    match wanted {
        ApiAuth::Open => Ok(Auth::Open),
        ApiAuth::Unsaid if secured => Ok(Auth::Tokens { admin: None }),
        ApiAuth::Unsaid if bound.ip().is_loopback() => Ok(Auth::Local),
        ApiAuth::Unsaid => Err(anyhow!(
            "the API is to listen on {bound}, where others can reach it, and nothing says who may use it. Write\n\n    \
             [api_auth]\n    mode = \"token\"\n    admin_token_file = \"/etc/azekura/admin-token\"\n\n\
             or `mode = \"none\"` if everybody who reaches that address may do everything"
        )),
        ApiAuth::Token(path) => {
            let token = admin_token(path)
                .with_context(|| format!("the administrator's token in {}", path.display()))?;
            Ok(Auth::Tokens {
                admin: Some(Digest::of(&token)),
            })
        }
    }
}

/// The token in the file, which is made when it is not there: whole or not at all, and by one of several nodes that share it.
fn admin_token(path: &Path) -> anyhow::Result<String> {
    if let Some(token) = token_in(path)? {
        return Ok(token);
    }
    let (token, _) = control::make_token()?;
    static MADE: AtomicU64 = AtomicU64::new(0);
    let mut name = path.as_os_str().to_owned();
    let number = MADE.fetch_add(1, Ordering::Relaxed);
    name.push(format!(".{}-{number}", std::process::id()));
    let beside = PathBuf::from(name);
    let made = write_token(&beside, &token).and_then(|()| std::fs::hard_link(&beside, path));
    let _ = std::fs::remove_file(&beside);
    match made {
        Ok(()) => Ok(token),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            let theirs = token_in(path)?;
            theirs.context("it was made and removed again a moment ago: start the node again")
        }
        Err(error) => Err(error.into()),
    }
}

fn write_token(path: &Path, token: &str) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    // Left by a process of the same number that was killed.
    let _ = std::fs::remove_file(path);
    let mut options = std::fs::OpenOptions::new();
    let options = options.write(true).create_new(true).mode(0o600);
    let mut file = options.open(path)?;
    file.write_all(format!("{token}\n").as_bytes())?;
    file.sync_all()
}

fn token_in(path: &Path) -> anyhow::Result<Option<String>> {
    match std::fs::read_to_string(path) {
        Ok(text) if is_token(text.trim()) => Ok(Some(text.trim().to_owned())),
        Ok(_) => anyhow::bail!(
            "it is not a token of azk_ and at least {TOKEN_CHARACTERS_MIN} letters and digits: remove the file, \
             and a new one is made"
        ),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Below 128 bits of hexadecimal digits a token can be guessed.
const TOKEN_CHARACTERS_MIN: usize = 32;

fn is_token(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let secret = text.strip_prefix(api::token::TOKEN_PREFIX);
    secret.is_some_and(|secret| secret.len() >= TOKEN_CHARACTERS_MIN && secret.bytes().all(plain))
}

/// The URL of the API for other machines: on every address, the advertised host stands for it.
fn api_url(bound: SocketAddr, advertise: Option<&str>, secured: bool) -> String {
    let host = match advertise.and_then(|address| address.rsplit_once(':')) {
        Some((host, _)) if bound.ip().is_unspecified() => host.to_owned(),
        _ => match bound {
            SocketAddr::V4(address) => address.ip().to_string(),
            SocketAddr::V6(address) => format!("[{}]", address.ip()),
        },
    };
    let scheme = if secured { "https" } else { "http" };
    format!("{scheme}://{host}:{}", bound.port())
}

fn options(config: &Config, api: Option<&ApiSocket>) -> anyhow::Result<HostOptions> {
    let listen = Address(config.listen.clone());
    let mut options = HostOptions::new(&config.cluster, &config.node, listen);
    options.advertise = config.advertise.clone().map(Address);
    options.nbd_listen = config.nbd.clone().map(Address);
    options.secured = config.tls.is_some();
    let url = |api: &ApiSocket| api_url(api.bound, config.advertise.as_deref(), options.secured);
    options.api = api.map(url);
    options.domains.clone_from(&config.domains);
    options.levels = config.levels;
    options.describe_disks = true;
    options.spread_logs = true;
    options.even_owners = Some(EvenOptions::default());
    options.events = true;
    options.tasks = true;
    options.alerts = true;
    options.courier = Some(Rc::new(crate::courier::Threads));
    options.pace = Some(pace(&config.tuning));
    options.space = space(&config.tuning);
    options.store.boot_id = world_linux::boot_id().context("cannot tell this boot from another")?;
    options.recording = Some(Recording {
        shelf: match config.history.keep {
            true => Some(Arc::new(FolderShelf::new(&config.history.folder))),
            false => None,
        },
        bytes_max: config.history.bytes_max,
    });
    tune(&mut options, &config.tuning)?;
    Ok(options)
}

/// How fills give way to clients. Where the next loss could take data they keep a fifth of the time, or more if that is asked
/// for.
fn pace(tuning: &Tuning) -> curator::PaceOptions {
    let default = curator::PaceOptions::default();
    let floor = tuning.repair_floor_percent;
    let floor = floor.map_or(default.floor, |percent| percent * curator::FULL / 100);
    let latency = tuning.repair_latency_percent.map(u64::from);
    curator::PaceOptions {
        latency_percent: latency.unwrap_or(default.latency_percent),
        floor,
        urgent_floor: default.urgent_floor.max(floor),
        ..default
    }
}

/// From when on space runs out; each state ends 5 percent below where it begins.
fn space(tuning: &Tuning) -> curator::SpaceLimits {
    let default = curator::SpaceLimits::default();
    let warn = tuning.space_warning_percent.map(u64::from);
    let protect = tuning.space_protect_percent.map(u64::from);
    curator::SpaceLimits {
        warn_percent: warn.unwrap_or(default.warn_percent),
        warn_end_percent: warn.map_or(default.warn_end_percent, |percent| percent - 5),
        protect_percent: protect.unwrap_or(default.protect_percent),
        release_percent: protect.map_or(default.release_percent, |percent| percent - 5),
        ..default
    }
}

fn tune(options: &mut HostOptions, tuning: &Tuning) -> anyhow::Result<()> {
    fn set<T: Copy>(place: &mut T, value: Option<T>) {
        if let Some(value) = value {
            *place = value;
        }
    }
    set(&mut options.lease, tuning.lease);
    set(&mut options.suspicion, tuning.suspicion);
    set(&mut options.repair_delay, tuning.repair_delay);
    set(&mut options.scrub.interval, tuning.scrub_interval);
    set(&mut options.tasks_kept, tuning.tasks_kept);
    set(&mut options.scrub.bytes_per_second, tuning.scrub_rate);
    set(&mut options.groups, tuning.groups);
    set(&mut options.volume.drain_bytes, tuning.drain);
    set(
        &mut options.volume.undrained_bytes_max,
        tuning.undrained_max,
    );
    set(
        &mut options.volume.undrained_node_bytes_max,
        tuning.undrained_node_max,
    );
    set(&mut options.collect.interval, tuning.collect_interval);
    set(&mut options.collect.duty_percent, tuning.collect_percent);
    set(&mut options.patience, tuning.patience);
    if let Some(bytes) = tuning.map_cache {
        options.pages_bytes = usize::try_from(bytes).context("tuning.map-cache is too large")?;
    }
    if options.volume.undrained_bytes_max <= options.volume.drain_bytes {
        return Err(anyhow!(
            "tuning.undrained-max ({} bytes) must be more than tuning.drain ({} bytes)",
            options.volume.undrained_bytes_max,
            options.volume.drain_bytes
        ));
    }
    Ok(())
}

/// The shard's side of the calls from the control thread.
struct Running {
    world: World,
    host: Rc<Host>,
    stop: Notify,
    stopping: Cell<bool>,
}

/// The disks of the configured stores; those that cannot be used are noted in the options.
async fn prepare(
    world: &World,
    machine: &Machine,
    config: &Config,
    options: &mut HostOptions,
) -> anyhow::Result<Vec<StoreSpec>> {
    let mut stores = Vec::new();
    for store in &config.stores {
        let id = StoreId(store.id);
        match disk::prepare(world, machine, &config.cluster, store).await? {
            Prepared::Disks(disks) => stores.push(StoreSpec {
                id: Some(id),
                disks,
            }),
            Prepared::Dead(reason) => drop(options.absent.insert(id, reason)),
        }
    }
    Ok(stores)
}

/// What a node's process does beside the node.
fn begin_tasks(
    world: &World,
    host: &Rc<Host>,
    config: &Config,
    words: Option<LastWords>,
    credentials: Option<Arc<Credentials>>,
    seat: &Seat,
) {
    world.spawn(trim_memory(world.clone(), host.clone()));
    last_words::began(host);
    if let Some(words) = words {
        let (told, folder) = (host.clone(), config.state.clone());
        let forgetting = last_words::forget_when_told(world.clone(), told, folder, words);
        world.spawn(forgetting);
    }
    if let Some(credentials) = credentials {
        let keeping = authority::keep(world.clone(), host.clone(), credentials, seat.hosts());
        world.spawn(keeping);
    }
    world.spawn(seat::follow(seat.clone(), host.clone()));
}

async fn serve(
    world: World,
    machine: Machine,
    config: Config,
    credentials: Option<Arc<Credentials>>,
    api: Option<Api>,
    bench: Option<PathBuf>,
    window: Window,
) -> anyhow::Result<()> {
    if credentials.is_none() {
        tracing::warn!(
            "connections are not encrypted and nobody is asked who he is: see `tls` in docs/operating/security.md"
        );
    }
    warn_of_open_nbd(&config);
    let world = secured(world, credentials.clone());
    if let Some(reason) = machine.why_threads() {
        tracing::warn!(%reason, "io_uring is not available: disks are slower through threads");
    }
    let mut options = options(&config, api.as_ref().map(|api| &api.socket))?;
    options.logs = Some(Arc::new(window));
    // What is measured is measured where it is.
    options.even_owners = options.even_owners.filter(|_| bench.is_none());
    let public = api.as_ref().and_then(|api| api.public.clone());
    options.process = Some(Rc::new(ThisProcess { public }));
    let words = last_words::read(&config.state);
    options.last_words.clone_from(&words);
    last_words::listen(&config.state);
    options.cluster_id = format!("{:016x}", world.rng.next_u64());
    if let Some(path) = config.tls.as_ref().and_then(|tls| tls.authority.as_deref()) {
        options.signer = Some(Rc::new(FileSigner::read(&config.cluster, path)?));
    }
    let seat = Seat::open(&world, &config)?;
    let (kv, place) = catalog_place::open(&world, &config, &seat, credentials.as_ref()).await?;
    options.catalog_place = Some(Rc::new(place));
    options.keeper = Some(Rc::new(seat.clone()));
    let stores = prepare(&world, &machine, &config, &mut options).await?;
    let bay = MachineBay::new(world.clone(), machine.clone(), &config);
    options.bay = Some(Rc::new(bay));
    let url = options.api.clone();
    let host = Host::start(world.clone(), kv, stores, options).await?;
    let running = Rc::new(Running {
        world: world.clone(),
        host: host.clone(),
        stop: Notify::default(),
        stopping: Cell::new(false),
    });
    begin_tasks(&world, &host, &config, words, credentials.clone(), &seat);
    let handle = machine.remote(running.clone());
    if let Some(socket) = bench {
        serve_bench(&socket, handle.clone())?;
    }
    let (stopped, is_stopped) = oneshot::channel();
    let control = std::thread::Builder::new()
        .name("control".to_owned())
        .spawn(move || control_thread(&handle, api, credentials, is_stopped))
        .context("cannot start a thread")?;
    say_ready(&config.node, url.as_deref(), &host);
    running.stopped().await;
    let stopping = host.stop();
    if world
        .timeout(Duration::from_secs(STOP_SECONDS_MAX), stopping)
        .await
        .is_err()
    {
        tracing::warn!(
            "the clean stop takes too long; what is missing is recovered at the next start"
        );
    }
    // The last calls to the catalog have been made.
    seat.use_client(None);
    seat.stop();
    // The thread not waiting for it any more is what the next line finds out.
    let _ = stopped.send(());
    control
        .join()
        .map_err(|_| anyhow!("the API server failed; see the message above"))?
}

/// Gives memory back after a burst of writes: when everything is drained, at most this often, if so much was undrained
/// meanwhile.
const TRIM_INTERVAL: Duration = Duration::from_secs(3);
const TRIM_BYTES_MIN: u64 = 16 << 20;

async fn trim_memory(world: World, host: Rc<Host>) {
    let mut most = 0;
    loop {
        world.sleep(TRIM_INTERVAL).await;
        let undrained = host.undrained_bytes();
        most = undrained.max(most);
        if undrained == 0 && most >= TRIM_BYTES_MIN {
            most = 0;
            world.offload(world_linux::trim_memory).await;
        }
    }
}

/// Runs the benchmark's jobs beside everything else on the shard.
fn serve_bench(socket: &Path, handle: RemoteHandle<Running>) -> anyhow::Result<()> {
    bench::serve(socket, move |job| {
        let call = |running: Rc<Running>| -> LocalBoxFuture<'static, _> {
            Box::pin(bench::on_owner(
                running.world.clone(),
                running.host.clone(),
                job,
            ))
        };
        handle.call_blocking(call)?
    })
}

impl Running {
    async fn stopped(&self) {
        loop {
            let changed = self.stop.notified();
            if self.stopping.get() {
                return;
            }
            changed.await;
        }
    }
}

/// NBD asks nobody who he is, also where everything else does.
fn warn_of_open_nbd(config: &Config) {
    let exposed = |address: &&String| !is_of_this_machine(address);
    if let Some(address) = config.nbd.as_ref().filter(exposed)
        && config.tls.is_some()
    {
        tracing::warn!(
            nbd = address,
            "other machines can reach NBD, which has no certificates: whoever does can read and change every volume. Keep `nbd` on a local \
             socket or 127.0.0.1"
        );
    }
}

/// One line for whoever started the process and waits until it serves.
fn say_ready(name: &str, api: Option<&str>, host: &Host) {
    let nbd = host
        .nbd_address()
        .map_or_else(|| "-".to_owned(), |address| address.0);
    let line = format!(
        "ready node={name} api={} nbd={nbd} address={}\n",
        api.unwrap_or("-"),
        host.address()
    );
    let mut out = std::io::stdout();
    if let Err(error) = out.write_all(line.as_bytes()).and_then(|()| out.flush()) {
        tracing::warn!(%error, "nobody reads standard output");
    }
}

/// Carries operations from tokio's thread to the shard.
struct Bridge(RemoteHandle<Running>);

impl Backend for Bridge {
    fn call(&self, operation: Operation) -> BoxFuture<'static, Result<Answer, OperationError>> {
        self.call_for(Asker::default(), operation)
    }

    fn call_for(
        &self,
        asker: Asker,
        operation: Operation,
    ) -> BoxFuture<'static, Result<Answer, OperationError>> {
        let call = self.0.call(move |running: Rc<Running>| {
            Box::pin(async move { running.host.operate_for(asker, operation).await })
        });
        Box::pin(async move {
            let stopping = |_| OperationError::unavailable("the node is stopping: ask another one");
            call.await.map_err(stopping)?
        })
    }
}

/// Serves the API until a signal arrives, then has the shard stop, and waits until it has (`stopped`
/// resolves) or a second signal ends the process. Begins the stop by itself when the API fails.
fn control_thread(
    handle: &RemoteHandle<Running>,
    api: Option<Api>,
    credentials: Option<Arc<Credentials>>,
    stopped: oneshot::Receiver<()>,
) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let control = async |handle: &RemoteHandle<Running>| {
        let served = serve_api(handle, api, credentials).await;
        if let Err(error) = &served {
            tracing::error!(error = format!("{error:#}"), "the node stops");
        }
        tell_to_stop(handle);
        // An error is the sender being dropped: the shard has ended too.
        let _ended = stopped.await;
        served
    };
    match runtime {
        Ok(runtime) => runtime.block_on(control(handle)),
        Err(error) => {
            tell_to_stop(handle);
            Err(anyhow!(error).context("cannot start the API server"))
        }
    }
}

fn tell_to_stop(handle: &RemoteHandle<Running>) {
    // The shard being gone already is what was wanted.
    let _ = handle.spawn(|running| {
        Box::pin(async move {
            running.stopping.set(true);
            running.stop.notify_all();
        })
    });
}

async fn serve_api(
    handle: &RemoteHandle<Running>,
    api: Option<Api>,
    credentials: Option<Arc<Credentials>>,
) -> anyhow::Result<()> {
    let terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    let interrupt = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;
    let (first, heard) = oneshot::channel();
    tokio::spawn(watch_signals(terminate, interrupt, first));
    let Some(api) = api else {
        let _told = heard.await;
        return Ok(());
    };
    let listener = tokio::net::TcpListener::from_std(api.socket.listener)?;
    let backend = Arc::new(Bridge(handle.clone()));
    if !matches!(api.auth, Auth::Open | Auth::Local) {
        users::first(&*backend, api.password_file.as_deref()).await;
    }
    let stop = async move {
        let _told = heard.await;
    };
    let certificates = credentials.map(|own| Certificates {
        own,
        public: api.public,
    });
    control::serve(listener, backend, api.auth, certificates, stop)
        .await
        .context("the API's socket failed")
}

/// Reports the first signal and obeys the second at once.
async fn watch_signals(mut terminate: Signal, mut interrupt: Signal, first: oneshot::Sender<()>) {
    let name = next_signal(&mut terminate, &mut interrupt).await;
    tracing::info!(signal = name, "stopping");
    // Nobody waits for it when the API has failed: the node is stopping then.
    let _ = first.send(());
    let name = next_signal(&mut terminate, &mut interrupt).await;
    tracing::warn!(
        signal = name,
        "ending at once; the next start recovers as after a crash"
    );
    std::process::exit(1);
}

async fn next_signal(terminate: &mut Signal, interrupt: &mut Signal) -> &'static str {
    tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_that_start_at_once_make_one_token() {
        let folder = std::env::temp_dir().join(format!("azekura-token-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("admin-token");
        let start = |_| {
            let path = path.clone();
            std::thread::spawn(move || admin_token(&path).unwrap())
        };
        let started: Vec<_> = (0..8).map(start).collect();
        let tokens: Vec<String> = started.into_iter().map(|one| one.join().unwrap()).collect();
        assert!(tokens.iter().all(|token| *token == tokens[0]));
        assert_eq!(admin_token(&path).unwrap(), tokens[0]);
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1);
        std::fs::write(&path, "short").unwrap();
        assert!(
            admin_token(&path)
                .unwrap_err()
                .to_string()
                .contains("remove the file")
        );
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
