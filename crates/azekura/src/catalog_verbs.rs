//! `azekura catalog`: backups, rebuilds and moves of the catalog. docs/operating/catalog.md is for operators.
//!
//! Invariants
//! - Disks are only read here.
//! - A catalog is only ever written when it is empty, and none is left half made: until the last write no node starts with it.
//! - At every moment at most one of the two catalogs of a move lets a node start.

use crate::catalog_place::{open_catalog, open_etcd};
use crate::cli::{CatalogVerb, DisksArgs, Form};
use crate::config::{CatalogConfig, Config, TlsConfig};
use crate::disk;
use crate::output::{Table, bytes, columns, fields, render};
use crate::seat::Seat;
use crate::verbs::Console;
use anyhow::{Context, bail};
use api::http::path;
use api::{
    CatalogAnswer, CatalogBackupAnswer, CatalogMemberAnswer, CatalogMoveAnswer, CatalogSeatAnswer,
    CatalogTarget,
};
use catalog::dump::{BACKUP, DumpRow, Rows, open, seal};
use catalog::kv::Kv;
use catalog::{Catalog, ClusterRow, VolumeState};
use curator::rebuild::{Rebuilt, Sources, rebuild};
use identity::Credentials;
use serde::Serialize;
use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use vocab::Levels;
use vocab::StoreId;
use wire::StoreSurvey;
use world::World;
use world_linux::{Machine, ShardOptions};

/// Format of a survey.
const SURVEY: &str = "azekura-store-survey";
/// Files are read whole: 100,000 volumes with their snapshots are some 200 MB.
const FILE_BYTES_MAX: u64 = 4 << 30;

/// Patience with members of etcd that were just started.
const MEMBER_PATIENCE: Duration = Duration::from_secs(20);

/// What a verb that works on the catalog itself lacks.
const NO_NODE: &str = "say which catalog: --config FILE";

/// What was done.
#[derive(Debug, Serialize)]
struct Report {
    /// In a sentence.
    done: String,
    /// Rows written.
    rows: usize,
    /// Volumes that stay offline.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    incomplete: Vec<Incomplete>,
    /// What else matters.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    remarks: Vec<String>,
}

/// A volume that stays offline.
#[derive(Debug, Serialize)]
struct Incomplete {
    volume: String,
    reason: String,
}

impl Table for Report {
    fn table(&self) -> String {
        let mut text = format!("{}\n", self.done);
        for remark in &self.remarks {
            text += &format!("note: {remark}\n");
        }
        if self.incomplete.is_empty() {
            return text;
        }
        text += "\nThese volumes stay offline until their loss is accepted (azekura catalog accept VOLUME):\n";
        let row = |one: &Incomplete| vec![one.volume.clone(), one.reason.clone()];
        let rows: Vec<_> = self.incomplete.iter().map(row).collect();
        text + &columns(&["VOLUME", "REASON"], &rows)
    }
}

fn simple(done: String, rows: usize) -> Report {
    Report {
        done,
        rows,
        incomplete: Vec::new(),
        remarks: Vec::new(),
    }
}

impl Console<'_> {
    /// `catalog status`, `catalog backup` and `catalog move` of a running cluster.
    ///
    /// # Errors
    /// For people; nothing was changed then, or what was can be repeated.
    pub fn catalog(&self, verb: CatalogVerb) -> anyhow::Result<String> {
        let report = match verb {
            CatalogVerb::Backup { file, .. } => {
                let answer = self
                    .remote
                    .get::<CatalogBackupAnswer>(&path(&["catalog", "backup"]))?;
                // What is cut or changed on its way is no backup.
                let opened = open::<DumpRow>(BACKUP, &answer.text);
                opened.context("the answer is no backup")?;
                write_file(&file, &answer.text)?;
                let done = format!(
                    "{} rows of cluster {}, as of revision {}, are in {}",
                    answer.rows,
                    answer.cluster,
                    answer.revision,
                    file.display()
                );
                simple(done, usize::try_from(answer.rows)?)
            }
            CatalogVerb::Status => {
                let status = self.remote.get::<CatalogAnswer>(&path(&["catalog"]))?;
                return Ok(render(&status, self.form));
            }
            CatalogVerb::Move {
                to,
                supervised,
                prefix,
                ..
            } => {
                let target = CatalogTarget {
                    endpoints: to,
                    supervised,
                    prefix: format!("{}/", prefix.trim_end_matches('/')),
                };
                let moved = self
                    .remote
                    .post::<CatalogMoveAnswer>(&path(&["catalog", "move"]), &target)?;
                let done = format!(
                    "the catalog is in {} now: {} rows. Nobody was answered for {} ms. The node keeps that over a restart; put \
                     this into its configuration when it suits you, and into that of other nodes before they start:\n\n{}",
                    moved.place, moved.rows, moved.paused_ms, moved.table
                );
                simple(done, usize::try_from(moved.rows)?)
            }
            other => bail!("{other:?} needs --config"),
        };
        Ok(render(&report, self.form))
    }
}

/// Carries out a verb.
///
/// # Errors
/// For people; nothing was changed then, or what was can be repeated.
pub fn run(verb: CatalogVerb, form: Form) -> anyhow::Result<String> {
    let report = world_linux::run(ShardOptions::default(), move |world, machine| {
        Box::pin(async move {
            match verb {
                CatalogVerb::Backup { file, config } => {
                    backup(&world, &file, &config.context(NO_NODE)?).await
                }
                CatalogVerb::Survey { file, config } => survey(&machine, &file, &config).await,
                CatalogVerb::Rebuild { disks } => make_anew(&world, &machine, &disks, None).await,
                CatalogVerb::Restore { file, disks } => {
                    make_anew(&world, &machine, &disks, Some(&file)).await
                }
                CatalogVerb::Accept { volume, config } => accept(&world, &volume, &config).await,
                CatalogVerb::Status => bail!("{NO_NODE}"),
                CatalogVerb::Move {
                    supervised: true, ..
                } => {
                    bail!("the node founds its etcd itself: start it, and move without --config")
                }
                CatalogVerb::Move {
                    config, to, prefix, ..
                } => move_to(&world, &config.context(NO_NODE)?, to, prefix).await,
            }
        })
    })??;
    Ok(render(&report, form))
}

fn read_file(path: &Path) -> anyhow::Result<String> {
    let read = || {
        let bytes = std::fs::metadata(path)?.len();
        if bytes > FILE_BYTES_MAX {
            bail!("it has {bytes} bytes, more than any file of ours");
        }
        Ok(std::fs::read_to_string(path)?)
    };
    read().with_context(|| format!("cannot read {}", path.display()))
}

/// Writes a file that is there as a whole or not at all.
fn write_file(path: &Path, text: &str) -> anyhow::Result<()> {
    let write = || {
        if path.exists() {
            bail!("something is there already; name another file");
        }
        let mut beside = path.as_os_str().to_owned();
        beside.push(".part");
        let beside = Path::new(&beside);
        let mut file = std::fs::File::create(beside)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(beside, path)?;
        let parent = path
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty());
        std::fs::File::open(parent.unwrap_or(Path::new(".")))?.sync_all()?;
        Ok(())
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

/// A catalog that a verb works on. Its member of etcd, if it had to be started for that, ends with it.
struct Reached {
    catalog: Catalog,
    seat: Seat,
}

fn credentials(config: &Config) -> anyhow::Result<Option<Arc<Credentials>>> {
    let read = |tls: &TlsConfig| Credentials::read(&tls.credentials);
    Ok(config.tls.as_ref().map(read).transpose()?)
}

/// The catalog of a configuration, which must exist.
async fn present_catalog(world: &World, config: &Config) -> anyhow::Result<Reached> {
    if let CatalogConfig::Embedded(path) = &config.catalog
        && !path.exists()
    {
        bail!("there is no catalog at {}", path.display());
    }
    let opened = open_catalog(&config.catalog, credentials(config)?.as_ref())?;
    let seat = Seat::new(world, config)?;
    if let Some(client) = &opened.client
        && client.get("cluster").await.is_err()
    {
        // The node of this configuration is stopped, most likely, and its member with it.
        seat.use_client(Some(client.clone()));
        seat.resume()?;
        let waited = world.timeout(MEMBER_PATIENCE, seat.wait_for(client)).await;
        waited.context("no majority of etcd's members answers: start their nodes")??;
    }
    Ok(Reached {
        catalog: Catalog::new(opened.kv),
        seat,
    })
}

/// Where a catalog is made anew: what the configuration names, or an etcd that is founded at this node's seat when no member
/// of the one of before answers.
async fn empty_catalog(world: &World, config: &Config) -> anyhow::Result<Reached> {
    let credentials = credentials(config)?;
    let opened = open_catalog(&config.catalog, credentials.as_ref())?;
    let seat = Seat::new(world, config)?;
    if let (Some(client), CatalogConfig::Etcd { prefix, .. }) = (&opened.client, &config.catalog)
        && seat.knows_own_etcd()
        && client.clusters().await?.is_empty()
    {
        let open = |client: &str| open_etcd(&[client.to_owned()], prefix, credentials.as_ref());
        let (_, founded) = seat.found(open).await?;
        return Ok(Reached {
            catalog: Catalog::new(Rc::new(founded)),
            seat,
        });
    }
    Ok(Reached {
        catalog: Catalog::new(opened.kv),
        seat,
    })
}

async fn backup(world: &World, file: &Path, config: &Path) -> anyhow::Result<Report> {
    let config = Config::read(config)?;
    let dumped = present_catalog(world, &config)
        .await?
        .catalog
        .dump()
        .await?;
    let cluster = dumped.rows.iter().find(|row| row.key == "cluster");
    let cluster = cluster.context("the catalog is empty: there is nothing to back up")?;
    let name = serde_json::from_value::<ClusterRow>(cluster.value.clone())?.name;
    if name != config.cluster {
        bail!(
            "the catalog belongs to cluster {name}, the configuration to {}",
            config.cluster
        );
    }
    write_file(file, &seal(BACKUP, &name, dumped.revision, &dumped.rows))?;
    let done = format!(
        "{} rows of cluster {name}, as of revision {}, are in {}",
        dumped.rows.len(),
        dumped.revision,
        file.display()
    );
    Ok(simple(done, dumped.rows.len()))
}

/// The rows of a backup.
fn read_backup(file: &Path, cluster: &str) -> anyhow::Result<Rows> {
    let text = read_file(file)?;
    let read = open::<DumpRow>(BACKUP, &text);
    let backup = read.with_context(|| file.display().to_string())?;
    if backup.cluster != cluster {
        let (file, found) = (file.display(), backup.cluster);
        bail!("{file} is of cluster {found}, the configuration of {cluster}");
    }
    let row = backup.items.iter().find(|row| row.key == "cluster");
    let row = row.and_then(|row| serde_json::from_value::<ClusterRow>(row.value.clone()).ok());
    Ok(Rows {
        era: row.map_or(0, |row| row.era),
        revision: backup.revision,
        rows: backup.items,
    })
}

/// What the stores of this machine say. Those that an operator goes on without are not asked: their disks may be dead, or blank.
async fn survey_stores(
    machine: &Machine,
    config: &Config,
    without: &BTreeSet<StoreId>,
) -> anyhow::Result<Vec<StoreSurvey>> {
    let mut surveys = Vec::new();
    let wanted = config.stores.iter();
    for store in wanted.filter(|store| !without.contains(&StoreId(store.id))) {
        let surveyed = disk::survey(machine, &config.cluster, store).await;
        surveys.push(surveyed.with_context(|| {
            let id = store.id;
            format!(
                "store {id} cannot be read (if it is lost for good, say so with --without {id})"
            )
        })?);
    }
    Ok(surveys)
}

/// A store that cannot be read is left out: whoever rebuilds has to say what becomes of it.
async fn survey(machine: &Machine, file: &Path, config: &Path) -> anyhow::Result<Report> {
    let config = Config::read(config)?;
    let (mut surveys, mut remarks) = (Vec::new(), Vec::new());
    for store in &config.stores {
        match disk::survey(machine, &config.cluster, store).await {
            Ok(surveyed) => surveys.push(surveyed),
            Err(error) => remarks.push(format!(
                "store {} is not in it, for it cannot be read: {error:#}",
                store.id
            )),
        }
    }
    if surveys.is_empty() {
        match remarks.is_empty() {
            true => bail!("this node has no stores"),
            false => bail!("no store can be read: {}", remarks.join("; ")),
        }
    }
    write_file(file, &seal(SURVEY, &config.cluster, 0, &surveys))?;
    let done = format!("what {} stores say is in {}", surveys.len(), file.display());
    Ok(Report {
        remarks,
        ..simple(done, 0)
    })
}

async fn sources(
    machine: &Machine,
    disks: &DisksArgs,
    backup: Option<&Path>,
) -> anyhow::Result<(Config, Sources)> {
    let mut configs = Vec::new();
    for path in &disks.configs {
        configs.push(Config::read(path)?);
    }
    let first = configs[0].clone();
    let without: BTreeSet<StoreId> = disks.without.iter().copied().map(StoreId).collect();
    let mut surveys = Vec::new();
    for config in &configs {
        if config.cluster != first.cluster {
            bail!(
                "the configurations are of two clusters: {} and {}",
                first.cluster,
                config.cluster
            );
        }
        surveys.extend(survey_stores(machine, config, &without).await?);
    }
    for path in &disks.surveys {
        let text = read_file(path)?;
        let read = open::<StoreSurvey>(SURVEY, &text);
        surveys.extend(read.with_context(|| path.display().to_string())?.items);
    }
    surveys.retain(|survey: &StoreSurvey| !without.contains(&survey.store));
    let sources = Sources {
        levels: Levels::OWN,
        cluster: first.cluster.clone(),
        surveys,
        backup: backup
            .map(|file| read_backup(file, &first.cluster))
            .transpose()?,
        without,
        accepted: disks.accept_loss.iter().cloned().collect::<BTreeSet<_>>(),
    };
    Ok((first, sources))
}

async fn make_anew(
    world: &World,
    machine: &Machine,
    disks: &DisksArgs,
    backup: Option<&Path>,
) -> anyhow::Result<Report> {
    let (config, sources) = sources(machine, disks, backup).await?;
    let rebuilt = rebuild(&sources)?;
    let stores = sources.surveys.len();
    let verb = match disks.dry_run {
        true => "would be",
        false => {
            let reached = empty_catalog(world, &config).await?;
            let filled = reached.catalog.fill(&rebuilt.rows).await;
            if filled.is_err() && reached.seat.has_founded() {
                reached.seat.abandon();
            }
            filled.with_context(|| describe(&config.catalog))?;
            "is"
        }
    };
    let done = format!(
        "the catalog of cluster {} {verb} made anew from {stores} stores{}: {} rows. Start all nodes now",
        config.cluster,
        backup.map_or("", |_| " and a backup"),
        rebuilt.rows.len()
    );
    Ok(report(done, rebuilt))
}

fn report(done: String, rebuilt: Rebuilt) -> Report {
    let incomplete = rebuilt.incomplete.into_iter();
    Report {
        done,
        rows: rebuilt.rows.len(),
        incomplete: incomplete
            .map(|(volume, reason)| Incomplete { volume, reason })
            .collect(),
        remarks: rebuilt.remarks,
    }
}

impl Table for CatalogAnswer {
    fn table(&self) -> String {
        let keeper = match (self.place.as_str(), self.supervised) {
            ("etcd", true) => "etcd, run by the nodes",
            ("etcd", false) => "etcd, run by others",
            _ => "a file of one process",
        };
        let mut text = fields(&[("kept in", keeper.to_owned())]);
        if self.place != "etcd" {
            return text;
        }
        let row = |member: &CatalogMemberAnswer| {
            let role = match (member.leads, member.votes) {
                (true, _) => "leader",
                (false, true) => "member",
                (false, false) => "learner",
            };
            let alarms = member.alarms.join(",");
            vec![
                member.name.clone(),
                role.to_owned(),
                member.address.clone().unwrap_or_else(|| "-".to_owned()),
                member.version.clone().unwrap_or_else(|| "-".to_owned()),
                bytes(member.bytes),
                bytes(member.bytes_used),
                member
                    .behind
                    .map_or_else(|| "-".to_owned(), |behind| behind.to_string()),
                if alarms.is_empty() {
                    "-".to_owned()
                } else {
                    alarms
                },
                member.problem.clone().unwrap_or_default(),
            ]
        };
        let rows: Vec<Vec<String>> = self.members.iter().map(row).collect();
        text += "\n";
        let head = [
            "MEMBER", "ROLE", "ADDRESS", "VERSION", "SIZE", "USED", "BEHIND", "ALARMS", "PROBLEM",
        ];
        text += &columns(&head, &rows);
        if !self.seats.is_empty() {
            let row = |seat: &CatalogSeatAnswer| {
                vec![
                    seat.node.clone(),
                    seat.client.clone(),
                    seat.peer.clone(),
                    seat.state.clone(),
                    seat.problem.clone().unwrap_or_default(),
                ]
            };
            let rows: Vec<Vec<String>> = self.seats.iter().map(row).collect();
            text += "\n";
            text += &columns(
                &["SEAT OF", "CLIENTS", "MEMBERS", "STATE", "PROBLEM"],
                &rows,
            );
        }
        text
    }
}

/// Names a catalog for people.
pub fn describe(catalog: &CatalogConfig) -> String {
    match catalog {
        CatalogConfig::Embedded(path) => format!("catalog {}", path.display()),
        CatalogConfig::Etcd { endpoints, prefix } => {
            format!("{}, prefix {prefix}", endpoints.join(","))
        }
    }
}

async fn accept(world: &World, volume: &str, config: &Path) -> anyhow::Result<Report> {
    let reached = present_catalog(world, &Config::read(config)?).await?;
    let catalog = &reached.catalog;
    let level = catalog.cluster().await?.row.level;
    if !Levels::OWN.know(level) {
        bail!(
            "the cluster is at level {level}, and this release knows level {}: use the release that runs there",
            Levels::OWN
        );
    }
    let id = catalog.volume_named(volume).await?.row.id;
    let mut reason = None;
    let change = |row: &mut catalog::VolumeRow| {
        let VolumeState::Incomplete(why) = &row.state else {
            return false;
        };
        reason = Some(why.clone());
        row.state = VolumeState::Ready;
        true
    };
    catalog.describe_volume(id, change).await?;
    let Some(reason) = reason else {
        bail!("volume {volume} is not incomplete: there is nothing to accept");
    };
    let done = format!("volume {volume} is used as it is from now on, although {reason}");
    Ok(simple(done, 1))
}

async fn move_to(
    world: &World,
    config: &Path,
    endpoints: Vec<String>,
    prefix: String,
) -> anyhow::Result<Report> {
    let config = Config::read(config)?;
    if !matches!(config.catalog, CatalogConfig::Embedded(_)) {
        bail!("the configuration names no catalog in a file: only such a catalog is moved");
    }
    let target = CatalogConfig::Etcd { endpoints, prefix };
    let old = present_catalog(world, &config).await?.catalog;
    let new = open_catalog(&target, credentials(&config)?.as_ref())?;
    let new = Catalog::new(new.kv);
    let rows = old
        .dump()
        .await?
        .for_another(&config.cluster, config.levels)?;
    let place = describe(&target);
    let filled = new.begin_fill(&rows).await;
    let filled = filled.with_context(|| place.clone())?;
    // From here on neither lets a node start; a move that stops here is repeated.
    old.mark_moved(&place).await?;
    filled.finish().await.with_context(|| place.clone())?;
    let done = format!(
        "the catalog of cluster {} is in {place} now: {} rows. Put that into [catalog] of the configuration and start \
         the node; {} says that it has moved",
        config.cluster,
        rows.len(),
        describe(&config.catalog)
    );
    Ok(simple(done, rows.len()))
}
