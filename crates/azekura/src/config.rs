//! The configuration file of a node.
//!
//! Every key is described in docs/operating/configuration.md. Reading checks everything that can be checked
//! without touching a disk or the network; an error names the file, the line and the key.
//!
//! Invariants
//! - A key that is not known is an error, never ignored.
//! - Paths in a [`Config`] are absolute or relative to the working directory: those in the file are
//!   relative to the file.

pub mod etcd;
mod place;
mod tls;

use self::etcd::{EtcdTable, SeatConfig, check_etcd};
use self::place::{key_at, line_of};
pub use self::tls::{TlsConfig, is_of_this_machine};
use self::tls::{TlsTable, check_tls, refuse_exposed_seat};
use crate::kept;
use crate::quantity::{parse_duration, parse_size};
use serde::Deserialize;
use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;
use toml::Spanned;

/// Stores of one node. Each has a journal and a share of one shard.
pub const STORES_MAX: usize = 64;
/// Disks of one store.
const DISKS_MAX: usize = 64;
/// Configuration files are read whole; one with 64 stores of 64 disks is far below 1 MiB.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// A checked configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// Name of the cluster.
    pub cluster: String,
    /// Name of the node.
    pub node: String,
    /// What its release knows. Not from the file.
    pub levels: vocab::Levels,
    /// Where to serve nodes and clients.
    pub listen: String,
    /// What to tell others, when it differs.
    pub advertise: Option<String>,
    /// Where to serve NBD.
    pub nbd: Option<String>,
    /// Where to serve the API.
    pub api: Option<String>,
    /// Who may use the API.
    pub api_auth: ApiAuth,
    /// File with the first user's password; nothing: it is printed.
    pub admin_password_file: Option<PathBuf>,
    /// Certificates; nothing: connections are plain, and either this machine's alone or meant to be.
    pub tls: Option<TlsConfig>,
    /// Failure domains, narrowest first.
    pub domains: Vec<String>,
    /// The catalog.
    pub catalog: CatalogConfig,
    /// The etcd of the catalog as the configuration says, before what is kept of its members; empty: it is no etcd.
    pub endpoints: Vec<String>,
    /// A seat for a member of the cluster's own etcd.
    pub seat: Option<SeatConfig>,
    /// Where the node keeps what it must know at its next start and the file does not say.
    pub state: PathBuf,
    /// Where the node keeps its history.
    pub history: HistoryConfig,
    /// The stores of the file.
    pub configured: Vec<StoreConfig>,
    /// The stores: those of the file, and what the node keeps of them.
    pub stores: Vec<StoreConfig>,
    /// Tunables.
    pub tuning: Tuning,
}

/// Who may use the API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ApiAuth {
    /// Not said: everybody on a loopback address; on another one the node does not start.
    Unsaid,
    /// Everybody.
    Open,
    /// Who has a token. The administrator's is in this file, which is made when it is missing.
    Token(PathBuf),
}

/// The history of figures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryConfig {
    /// Whether there is one.
    pub keep: bool,
    /// Its folder.
    pub folder: PathBuf,
    /// Bytes there at most.
    pub bytes_max: u64,
}

/// Which catalog.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CatalogConfig {
    /// In a file, for a cluster that is one process.
    Embedded(PathBuf),
    /// In etcd.
    Etcd {
        /// URLs.
        endpoints: Vec<String>,
        /// Before every key.
        prefix: String,
    },
}

/// A store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreConfig {
    /// Its id.
    pub id: u32,
    /// Size of its journal when it is created here.
    pub journal: Option<u64>,
    /// Its disks.
    pub disks: Vec<DiskConfig>,
}

/// A disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskConfig {
    /// A block device or a preallocated file.
    pub path: PathBuf,
    /// Make the file with this size when it is absent.
    pub create: Option<u64>,
    /// Accept a file system without direct I/O.
    pub buffered: bool,
}

/// Tunables; what is absent has the core's default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tuning {
    /// Time to live of the node's lease.
    pub lease: Option<Duration>,
    /// How long a node must be without its lease before its volumes are taken over.
    pub suspicion: Option<Duration>,
    /// How long a store must be silent before its groups get other members.
    pub repair_delay: Option<Duration>,
    /// From one reading of all copies to the next.
    pub scrub_interval: Option<Duration>,
    /// Bytes per second of each store that reading all copies takes.
    pub scrub_rate: Option<u64>,
    /// How long tasks are kept after their end.
    pub tasks_kept: Option<Duration>,
    /// Percent of the quiet latency above which fills give way to clients.
    pub repair_latency_percent: Option<u32>,
    /// Least share of the time that fills take beside clients, in percent.
    pub repair_floor_percent: Option<u32>,
    /// Percent in use from which on the verdict warns.
    pub space_warning_percent: Option<u32>,
    /// Percent in use from which on a store takes nothing new from clients.
    pub space_protect_percent: Option<u32>,
    /// Placement groups per replication factor.
    pub groups: Option<u32>,
    /// Undrained bytes at which draining starts.
    pub drain: Option<u64>,
    /// Undrained bytes at which writers wait.
    pub undrained_max: Option<u64>,
    /// Undrained bytes of all volumes of the node at which writers wait.
    pub undrained_node_max: Option<u64>,
    /// Bound of cached map pages.
    pub map_cache: Option<u64>,
    /// Pause between two looks for garbage.
    pub collect_interval: Option<Duration>,
    /// Share of the time that collecting may take.
    pub collect_percent: Option<u32>,
    /// How long a gateway's request waits for an owner.
    pub patience: Option<Duration>,
}

/// What is wrong with a configuration file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The file.
    pub file: PathBuf,
    /// The line, counted from 1, when the problem has one.
    pub line: Option<usize>,
    /// The key, such as `store[0].disk[1].create`; empty when the problem has none.
    pub key: String,
    /// What is wrong and what to write instead.
    pub problem: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        if !self.key.is_empty() {
            write!(f, ": {}", self.key)?;
        }
        write!(f, ": {}", self.problem)
    }
}

impl std::error::Error for ConfigError {}

macro_rules! checked {
    ($(#[$doc:meta])* $name:ident($inner:ty), $parse:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Deserialize)]
        #[serde(try_from = "String")]
        struct $name($inner);

        impl TryFrom<String> for $name {
            type Error = String;

            fn try_from(text: String) -> Result<Self, String> {
                let parse: fn(&str) -> Result<$inner, String> = $parse;
                parse(&text).map(Self)
            }
        }
    };
}

checked!(
    /// Bytes.
    Size(u64),
    parse_size
);
checked!(
    /// A time span.
    Span(Duration),
    parse_duration
);
checked!(
    /// A cluster, a node or a failure domain.
    Name(String),
    parse_name
);
checked!(
    /// `host:port`, or `unix:/path`.
    Endpoint(String),
    parse_endpoint
);
checked!(
    /// `host:port`.
    TcpEndpoint(String),
    parse_tcp
);
checked!(
    /// An etcd server.
    Url(String),
    parse_url
);
checked!(
    /// A path that says something.
    FilePath(PathBuf),
    parse_path
);

/// A cluster's, node's or failure domain's name.
///
/// # Errors
/// What is wrong with `text`.
pub fn parse_name(text: &str) -> Result<String, String> {
    let good =
        |character: char| character.is_ascii_alphanumeric() || matches!(character, '-' | '_' | '.');
    match !text.is_empty() && text.len() <= 63 && text.chars().all(good) {
        true => Ok(text.to_owned()),
        false => Err(format!(
            "`{text}` is not a name: use 1 to 63 letters, digits, `-`, `_` and `.`"
        )),
    }
}

fn parse_tcp(text: &str) -> Result<String, String> {
    let odd = || format!("`{text}` is not an address: write host:port, such as 127.0.0.1:7401");
    let (host, port) = text.rsplit_once(':').ok_or_else(odd)?;
    let bracketed = host.starts_with('[') && host.ends_with(']');
    let plain = !host.is_empty() && !host.contains([':', '/', ' ', '[', ']']);
    let port_good = port.parse::<u16>().is_ok() && !port.starts_with('+');
    match (bracketed || plain) && port_good {
        true => Ok(text.to_owned()),
        false => Err(odd()),
    }
}

fn parse_endpoint(text: &str) -> Result<String, String> {
    match text.strip_prefix("unix:") {
        Some(path) if path.starts_with('/') => Ok(text.to_owned()),
        Some(_) => Err(format!(
            "`{text}` is not a local socket: write unix:/absolute/path"
        )),
        None => parse_tcp(text),
    }
}

fn parse_url(text: &str) -> Result<String, String> {
    let odd = || {
        format!("`{text}` is not an etcd server: write http://host:port, or https:// with `tls`")
    };
    let rest = text.strip_prefix("http://");
    let rest = rest
        .or_else(|| text.strip_prefix("https://"))
        .ok_or_else(odd)?;
    parse_tcp(rest.strip_suffix('/').unwrap_or(rest)).map_err(|_| odd())?;
    Ok(text.to_owned())
}

fn parse_path(text: &str) -> Result<PathBuf, String> {
    match text.is_empty() || text.contains('\0') {
        true => Err("a path is needed here".to_owned()),
        false => Ok(PathBuf::from(text)),
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileTable {
    cluster: Name,
    node: Name,
    listen: Spanned<Endpoint>,
    advertise: Option<Endpoint>,
    nbd: Option<Spanned<Endpoint>>,
    api: Option<Spanned<TcpEndpoint>>,
    api_auth: Option<Spanned<ApiAuthTable>>,
    #[serde(default)]
    login: LoginTable,
    tls: Option<Spanned<TlsTable>>,
    #[serde(default)]
    domains: Vec<Name>,
    state: Option<FilePath>,
    #[serde(default)]
    history: HistoryTable,
    catalog: Spanned<CatalogTable>,
    etcd: Option<Spanned<EtcdTable>>,
    #[serde(default)]
    store: Vec<Spanned<StoreTable>>,
    #[serde(default)]
    tuning: TuningTable,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ApiAuthTable {
    mode: ApiAuthMode,
    admin_token_file: Option<FilePath>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct LoginTable {
    admin_password_file: Option<FilePath>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct HistoryTable {
    keep: Option<bool>,
    folder: Option<FilePath>,
    size: Option<Spanned<Size>>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum ApiAuthMode {
    None,
    Token,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CatalogTable {
    embedded: Option<FilePath>,
    etcd: Option<Spanned<Vec<Url>>>,
    prefix: Option<Spanned<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoreTable {
    id: Spanned<u32>,
    journal: Option<Size>,
    #[serde(default)]
    disk: Vec<DiskTable>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct DiskTable {
    path: Spanned<FilePath>,
    create: Option<Spanned<Size>>,
    #[serde(default)]
    buffered: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct TuningTable {
    lease: Option<Spanned<Span>>,
    suspicion: Option<Spanned<Span>>,
    repair_delay: Option<Spanned<Span>>,
    scrub_interval: Option<Spanned<Span>>,
    scrub_rate: Option<Spanned<Size>>,
    tasks_kept: Option<Spanned<Span>>,
    repair_latency_percent: Option<Spanned<u32>>,
    repair_floor_percent: Option<Spanned<u32>>,
    space_warning_percent: Option<Spanned<u32>>,
    space_protect_percent: Option<Spanned<u32>>,
    groups: Option<Spanned<u32>>,
    drain: Option<Spanned<Size>>,
    undrained_max: Option<Spanned<Size>>,
    undrained_node_max: Option<Spanned<Size>>,
    map_cache: Option<Spanned<Size>>,
    collect_interval: Option<Spanned<Span>>,
    collect_percent: Option<Spanned<u32>>,
    patience: Option<Spanned<Span>>,
}

/// A problem and where in the text it is.
type Problem = (Range<usize>, String);

impl Config {
    /// Reads and checks the file at `path`, and what its node keeps beside it.
    ///
    /// # Errors
    /// The first problem found.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let fail = |problem| ConfigError {
            file: path.to_owned(),
            line: None,
            key: String::new(),
            problem,
        };
        let metadata =
            std::fs::metadata(path).map_err(|cause| fail(format!("cannot be read: {cause}")))?;
        if metadata.len() > FILE_BYTES_MAX {
            return Err(fail(format!(
                "is larger than {FILE_BYTES_MAX} bytes: is it a configuration file?"
            )));
        }
        let text = std::fs::read_to_string(path)
            .map_err(|cause| fail(format!("cannot be read: {cause}")))?;
        kept::complete(Self::parse(path, &text)?, path)
    }

    /// Checks `text`, which came from the file at `path`.
    ///
    /// # Errors
    /// The first problem found.
    pub fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let error = |span: Range<usize>, problem: String| ConfigError {
            file: path.to_owned(),
            line: Some(line_of(text, span.start)),
            key: key_at(text, &span),
            problem,
        };
        let table: FileTable = toml::from_str(text).map_err(|cause| {
            let span = cause.span().unwrap_or(0..0);
            error(span, cause.message().to_owned())
        })?;
        let base = path.parent().unwrap_or(Path::new(""));
        let beside = path.with_extension("state");
        check(table, base, &beside).map_err(|(span, problem)| error(span, problem))
    }
}

fn check(table: FileTable, base: &Path, beside: &Path) -> Result<Config, Problem> {
    let listen = table.listen.get_ref().0.clone();
    let everywhere = ["0.0.0.0:", "[::]:"]
        .iter()
        .any(|any| listen.starts_with(any));
    if everywhere && table.advertise.is_none() {
        let problem = "listens on every address: say with `advertise` which one others can reach";
        return Err((table.listen.span(), problem.to_owned()));
    }
    let unsaid = table.tls.is_none();
    let nbd = table.nbd.as_ref();
    let addresses = [
        Some((&table.listen.get_ref().0, table.listen.span())),
        table.api.as_ref().map(|api| (&api.get_ref().0, api.span())),
        nbd.map(|nbd| (&nbd.get_ref().0, nbd.span())),
    ];
    let tls = check_tls(table.tls, base, addresses.into_iter().flatten())?;
    let catalog = check_catalog(table.catalog, base, tls.is_some())?;
    let stores = check_stores(table.store, base)?;
    let state = table.state.map(|path| base.join(path.0));
    let state = state.unwrap_or_else(|| beside.to_owned());
    let history = check_history(table.history, base, &state)?;
    let advertised = table.advertise.as_ref();
    let reached = advertised.map_or(&listen, |advertise| &advertise.0);
    let seat_at = table.etcd.as_ref().map(Spanned::span);
    let seat = check_etcd(table.etcd, base, &state, reached)?;
    if let (true, Some(seat), Some(seat_at)) = (unsaid, &seat, seat_at) {
        refuse_exposed_seat(seat, seat_at)?;
    }
    let endpoints = match &catalog {
        CatalogConfig::Embedded(_) => Vec::new(),
        CatalogConfig::Etcd { endpoints, .. } => endpoints.clone(),
    };
    Ok(Config {
        levels: vocab::Levels::OWN,
        cluster: table.cluster.0,
        node: table.node.0,
        listen,
        advertise: table.advertise.map(|advertise| advertise.0),
        nbd: table.nbd.map(|nbd| nbd.into_inner().0),
        api: table.api.map(|api| api.into_inner().0),
        api_auth: check_api_auth(table.api_auth, base)?,
        admin_password_file: table
            .login
            .admin_password_file
            .map(|path| base.join(path.0)),
        tls,
        domains: table.domains.into_iter().map(|domain| domain.0).collect(),
        catalog,
        endpoints,
        seat,
        state,
        history,
        configured: stores.clone(),
        stores,
        tuning: check_tuning(&table.tuning)?,
    })
}

fn check_history(table: HistoryTable, base: &Path, state: &Path) -> Result<HistoryConfig, Problem> {
    let folder = table.folder.map(|path| base.join(path.0));
    let size = size_between(table.size.as_ref(), 16 << 20, 1 << 40)?;
    Ok(HistoryConfig {
        keep: table.keep.unwrap_or(true),
        folder: folder.unwrap_or_else(|| state.join("history")),
        bytes_max: size.unwrap_or(history::Bounds::default().bytes_max),
    })
}

fn check_api_auth(table: Option<Spanned<ApiAuthTable>>, base: &Path) -> Result<ApiAuth, Problem> {
    let Some(table) = table else {
        return Ok(ApiAuth::Unsaid);
    };
    let span = table.span();
    let table = table.into_inner();
    match (table.mode, table.admin_token_file) {
        (ApiAuthMode::None, None) => Ok(ApiAuth::Open),
        (ApiAuthMode::Token, Some(path)) => Ok(ApiAuth::Token(base.join(path.0))),
        (ApiAuthMode::None, Some(_)) => {
            let problem = "has `admin_token_file` although mode is \"none\": remove one of them";
            Err((span, problem.to_owned()))
        }
        (ApiAuthMode::Token, None) => {
            let problem =
                "needs `admin_token_file`: where the administrator's token is, or is to be made";
            Err((span, problem.to_owned()))
        }
    }
}

fn check_catalog(
    table: Spanned<CatalogTable>,
    base: &Path,
    tls: bool,
) -> Result<CatalogConfig, Problem> {
    let span = table.span();
    let table = table.into_inner();
    match (table.embedded, table.etcd) {
        (Some(path), None) => match table.prefix {
            Some(prefix) => {
                let problem =
                    "goes with `etcd` only: remove it, an embedded catalog has its own file";
                Err((prefix.span(), problem.to_owned()))
            }
            None => Ok(CatalogConfig::Embedded(base.join(path.0))),
        },
        (None, Some(endpoints)) => {
            if endpoints.get_ref().is_empty() {
                let problem = "needs at least one server, such as [\"http://127.0.0.1:2379\"]";
                return Err((endpoints.span(), problem.to_owned()));
            }
            let prefix = check_prefix(table.prefix)?;
            let encrypted = endpoints
                .get_ref()
                .iter()
                .any(|url| url.0.starts_with("https:"));
            if encrypted && !tls {
                let problem =
                    "has https:// and there is no [tls]: this node has no certificate to show";
                return Err((endpoints.span(), problem.to_owned()));
            }
            let endpoints = endpoints
                .into_inner()
                .into_iter()
                .map(|url| url.0)
                .collect();
            Ok(CatalogConfig::Etcd { endpoints, prefix })
        }
        (Some(_), Some(_)) => Err((
            span,
            "has both `embedded` and `etcd`: keep one of them".to_owned(),
        )),
        (None, None) => Err((
            span,
            "needs `embedded` (a path; the cluster is this process) or `etcd` (a list of URLs)"
                .to_owned(),
        )),
    }
}

fn check_prefix(prefix: Option<Spanned<String>>) -> Result<String, Problem> {
    let Some(prefix) = prefix else {
        return Ok("/azekura/".to_owned());
    };
    let span = prefix.span();
    let text = prefix.into_inner();
    let good = |character: char| {
        character.is_ascii_alphanumeric() || matches!(character, '-' | '_' | '.' | '/')
    };
    match text.len() > 1 && text.starts_with('/') && text.len() <= 128 && text.chars().all(good) {
        true => Ok(format!("{}/", text.trim_end_matches('/'))),
        false => Err((
            span,
            format!("`{text}` is not a prefix: write something like /azekura/"),
        )),
    }
}

fn check_stores(
    tables: Vec<Spanned<StoreTable>>,
    base: &Path,
) -> Result<Vec<StoreConfig>, Problem> {
    let mut ids = BTreeSet::new();
    let mut paths = BTreeSet::new();
    let mut stores = Vec::new();
    for table in tables {
        let span = table.span();
        let table = table.into_inner();
        if stores.len() == STORES_MAX {
            return Err((span, format!("one node has at most {STORES_MAX} stores")));
        }
        let id = *table.id.get_ref();
        if id == 0 {
            return Err((table.id.span(), "counts from 1".to_owned()));
        }
        if !ids.insert(id) {
            let problem = format!("{id} is used twice: every store of a cluster has its own id");
            return Err((table.id.span(), problem));
        }
        if table.disk.is_empty() || table.disk.len() > DISKS_MAX {
            let problem = format!("a store needs 1 to {DISKS_MAX} disks: add [[store.disk]]");
            return Err((span, problem));
        }
        let mut disks = Vec::new();
        for disk in table.disk {
            disks.push(check_disk(disk, base, &mut paths)?);
        }
        let journal = table.journal.map(|size| size.0);
        stores.push(StoreConfig { id, journal, disks });
    }
    Ok(stores)
}

fn check_disk(
    table: DiskTable,
    base: &Path,
    paths: &mut BTreeSet<PathBuf>,
) -> Result<DiskConfig, Problem> {
    let span = table.path.span();
    let path = base.join(&table.path.get_ref().0);
    if !paths.insert(path.clone()) {
        let problem = format!("{} is used twice", path.display());
        return Err((span, problem));
    }
    let create = table.create.map(|size| (size.span(), size.get_ref().0));
    if let Some((span, _)) = &create
        && path.starts_with("/dev")
    {
        let problem = format!(
            "a device is not created here: remove this key and use `azekura disk format {}`",
            path.display()
        );
        return Err((span.clone(), problem));
    }
    if let Some((span, bytes)) = &create
        && bytes % 4096 != 0
    {
        return Err((
            span.clone(),
            format!("{bytes} bytes are not a multiple of 4096"),
        ));
    }
    Ok(DiskConfig {
        path,
        create: create.map(|(_, bytes)| bytes),
        buffered: table.buffered,
    })
}

fn check_tuning(table: &TuningTable) -> Result<Tuning, Problem> {
    let second = Duration::from_secs(1);
    let tuning = Tuning {
        lease: span_between(table.lease.as_ref(), second, 60 * second)?,
        suspicion: span_between(table.suspicion.as_ref(), second / 10, 600 * second)?,
        repair_delay: span_between(table.repair_delay.as_ref(), second, 86_400 * second)?,
        scrub_interval: span_between(
            table.scrub_interval.as_ref(),
            60 * second,
            8760 * 3600 * second,
        )?,
        scrub_rate: size_between(table.scrub_rate.as_ref(), 1 << 16, 1 << 40)?,
        tasks_kept: span_between(
            table.tasks_kept.as_ref(),
            Duration::from_secs(60),
            Duration::from_secs(366 * 24 * 3600),
        )?,
        repair_latency_percent: count_between(table.repair_latency_percent.as_ref(), 100, 10_000)?,
        repair_floor_percent: count_between(table.repair_floor_percent.as_ref(), 1, 100)?,
        space_warning_percent: count_between(table.space_warning_percent.as_ref(), 10, 99)?,
        space_protect_percent: count_between(table.space_protect_percent.as_ref(), 50, 99)?,
        groups: count_between(table.groups.as_ref(), 1, 1024)?,
        drain: size_between(table.drain.as_ref(), 1 << 20, 1 << 40)?,
        undrained_max: size_between(table.undrained_max.as_ref(), 4 << 20, 1 << 40)?,
        undrained_node_max: size_between(table.undrained_node_max.as_ref(), 8 << 20, 1 << 40)?,
        map_cache: size_between(table.map_cache.as_ref(), 1 << 20, 1 << 40)?,
        collect_interval: span_between(table.collect_interval.as_ref(), second, 86_400 * second)?,
        collect_percent: count_between(table.collect_percent.as_ref(), 1, 100)?,
        patience: span_between(table.patience.as_ref(), second, 86_400 * second)?,
    };
    if let Some(lease) = &table.lease
        && lease.get_ref().0.subsec_nanos() != 0
    {
        return Err((lease.span(), "must be whole seconds".to_owned()));
    }
    if let (Some(drain), Some(max)) = (tuning.drain, &table.undrained_max)
        && max.get_ref().0 <= drain
    {
        return Err((max.span(), "must be more than `drain`".to_owned()));
    }
    Ok(tuning)
}

fn span_between(
    value: Option<&Spanned<Span>>,
    min: Duration,
    max: Duration,
) -> Result<Option<Duration>, Problem> {
    let Some(value) = value else { return Ok(None) };
    let given = value.get_ref().0;
    match (min..=max).contains(&given) {
        true => Ok(Some(given)),
        false => Err((value.span(), format!("must be {min:?} to {max:?}"))),
    }
}

fn size_between(value: Option<&Spanned<Size>>, min: u64, max: u64) -> Result<Option<u64>, Problem> {
    let Some(value) = value else { return Ok(None) };
    let given = value.get_ref().0;
    match (min..=max).contains(&given) {
        true => Ok(Some(given)),
        false => {
            let (min, max) = (vocab::ByteCount(min), vocab::ByteCount(max));
            Err((value.span(), format!("must be {min} to {max}")))
        }
    }
}

fn count_between(value: Option<&Spanned<u32>>, min: u32, max: u32) -> Result<Option<u32>, Problem> {
    let Some(value) = value else { return Ok(None) };
    let given = *value.get_ref();
    match (min..=max).contains(&given) {
        true => Ok(Some(given)),
        false => Err((value.span(), format!("must be {min} to {max}"))),
    }
}
