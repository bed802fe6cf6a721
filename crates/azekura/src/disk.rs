//! Disks of this machine: formatting them, looking at them, opening them for a node.
//!
//! Invariants
//! - Nothing is written to a disk that is not blank unless the person typed the exact words that name it.
//! - All disks are opened, for this process alone, and looked at before the first is written.

use crate::cli::{Form, FormatArgs};
use crate::config::{DiskConfig, StoreConfig};
use crate::output::{Table, columns, render};
use anyhow::{Context, anyhow, bail};
use serde::Serialize;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use store::{FormatOptions, Identity, Inspection};
use vocab::{ByteCount, StoreId};
use world::{Disk, DiskError, World};
use world_linux::disk::OpenFile;
use world_linux::{Machine, ShardOptions, disk};

/// What is on a disk.
#[derive(Debug, Serialize)]
pub struct DiskReport {
    /// Where it is.
    pub path: String,
    /// Its size in bytes.
    pub size: u64,
    /// `blank`, `store`, `newer` or `foreign`.
    pub content: &'static str,
    /// The content in words.
    pub description: String,
    /// The cluster its store belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// The id of its store.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub store: Option<u32>,
    /// The ids of the store's disks, in hexadecimal, in their order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub disks: Vec<String>,
}

impl Table for Vec<DiskReport> {
    fn table(&self) -> String {
        let row = |report: &DiskReport| {
            vec![
                report.path.clone(),
                ByteCount(report.size).to_string(),
                report.description.clone(),
            ]
        };
        let rows: Vec<_> = self.iter().map(row).collect();
        columns(&["DISK", "SIZE", "CONTENT"], &rows)
    }
}

/// `disk show`.
pub fn show(path: &Path, form: Form) -> anyhow::Result<String> {
    let path = path.to_owned();
    world_linux::run(ShardOptions::default(), move |_, machine| {
        Box::pin(async move {
            let disk = open(&machine, &path, true)?;
            let found = inspect(&disk, &path).await?;
            Ok(render(&vec![report(&path, disk.size(), &found)], form))
        })
    })?
}

/// `disk format`.
pub fn format(arguments: FormatArgs, form: Form) -> anyhow::Result<String> {
    world_linux::run(ShardOptions::default(), move |world, machine| {
        Box::pin(async move { format_all(&world, &machine, &arguments, form).await })
    })?
}

async fn format_all(
    world: &World,
    machine: &Machine,
    arguments: &FormatArgs,
    form: Form,
) -> anyhow::Result<String> {
    check_overrides(&arguments.paths, &arguments.overrides).map_err(anyhow::Error::msg)?;
    let options = FormatOptions {
        cluster: arguments.cluster.clone(),
        store: StoreId(arguments.store),
        journal_bytes: arguments.journal_size,
    };
    let found = look_for(&arguments.paths, arguments.create, false)?;
    let wanted = found.on(machine);
    // Before anything is made or erased: what is refused changes nothing.
    wanted.check_sizes(&arguments.paths, &options)?;
    for (path, disk) in arguments.paths.iter().zip(&wanted.disks) {
        let Some(disk) = disk else {
            continue;
        };
        let found = inspect(disk, path).await?;
        if !arguments.overrides.contains(&override_for(path)) {
            check_blank(path, &found).map_err(anyhow::Error::msg)?;
        }
    }
    make_files(&wanted.missing(&arguments.paths)).map_err(anyhow::Error::msg)?;
    let made = open_made(&wanted.missing(&arguments.paths), false)?;
    let disks = wanted.with(made, machine);
    for disk in &disks {
        store::erase(disk).await?;
    }
    let identity = store::format(world, &disks, &options).await?;
    let reports: Vec<DiskReport> = arguments
        .paths
        .iter()
        .zip(&disks)
        .map(|(path, disk)| report(path, disk.size(), &Inspection::Store(identity.clone())))
        .collect();
    Ok(render(&reports, form))
}

/// Disks that a store is to be made of, before a shard uses them.
pub struct Found {
    files: Vec<Option<OpenFile>>,
    sizes: Vec<u64>,
}

impl Found {
    /// Used from now on by this shard.
    pub fn on(self, machine: &Machine) -> Wanted {
        let disks = self.files.into_iter();
        let disks = disks.map(|file| file.map(|file| file.on(machine)));
        Wanted {
            disks: disks.collect(),
            sizes: self.sizes,
        }
    }
}

/// Disks that a store is to be made of.
pub struct Wanted {
    /// Those that are there, opened, in the order of their paths.
    pub disks: Vec<Option<Rc<dyn Disk>>>,
    /// The size of each, in bytes, also of those that are to be made.
    sizes: Vec<u64>,
}

/// Opens the disks that are there. Nothing is made; where nothing is, `create` says how large a file is to be. Blocks, as
/// [`OpenFile::open`] does.
pub fn look_for(paths: &[PathBuf], create: Option<u64>, buffered: bool) -> anyhow::Result<Found> {
    let mut found = Found {
        files: Vec::new(),
        sizes: Vec::new(),
    };
    let mut places = BTreeSet::new();
    for path in paths {
        anyhow::ensure!(
            places.insert(place_of(path)),
            "{} is named twice: a store has each disk once",
            path.display()
        );
        let new = create.filter(|_| !path.exists());
        let file = match new {
            Some(_) if path.starts_with("/dev") => bail!(
                "{} does not exist, and a device is not created: correct the path",
                path.display()
            ),
            Some(_) => None,
            None => Some(open_file(path, buffered)?),
        };
        let size = new.or(file.as_ref().map(OpenFile::size));
        found.sizes.extend(size);
        found.files.push(file);
    }
    Ok(found)
}

/// Where a path leads, also when nothing is there yet.
fn place_of(path: &Path) -> PathBuf {
    let whole = path.canonicalize().ok();
    let of_folder = || {
        let folder = path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.unwrap_or(Path::new(".")).canonicalize().ok()?;
        Some(folder.join(path.file_name()?))
    };
    whole.or_else(of_folder).unwrap_or_else(|| path.to_owned())
}

impl Wanted {
    /// Refuses what a store cannot be made of.
    pub fn check_sizes(&self, paths: &[PathBuf], options: &FormatOptions) -> anyhow::Result<()> {
        store::check_format(&self.sizes, options).map_err(|error| match error {
            store::FormatError::TooSmall {
                index,
                bytes,
                needed,
            } => anyhow!(
                "{} has {bytes} bytes; as disk {} of a store it needs at least {needed}",
                paths[index].display(),
                index + 1
            ),
            other => other.into(),
        })
    }

    /// Files that are to be made, and their sizes.
    pub fn missing(&self, paths: &[PathBuf]) -> Vec<(PathBuf, u64)> {
        let all = paths.iter().zip(&self.disks).zip(&self.sizes);
        let missing = all.filter(|((_, disk), _)| disk.is_none());
        missing
            .map(|((path, _), bytes)| (path.clone(), *bytes))
            .collect()
    }

    /// All of them: those that were missing are `made`, in their order.
    pub fn with(self, made: Vec<OpenFile>, machine: &Machine) -> Vec<Rc<dyn Disk>> {
        let mut made = made.into_iter().map(|file| file.on(machine));
        let disks = self.disks.into_iter();
        disks
            .filter_map(|disk| disk.or_else(|| made.next()))
            .collect()
    }
}

/// Opens files that were made. Blocks, as [`OpenFile::open`] does.
pub fn open_made(files: &[(PathBuf, u64)], buffered: bool) -> anyhow::Result<Vec<OpenFile>> {
    let paths = files.iter().map(|(path, _)| path);
    paths.map(|path| open_file(path, buffered)).collect()
}

/// Makes files for disks. Blocks meanwhile. One that was made stays when a later one cannot be: it may be in use by then.
pub fn make_files(files: &[(PathBuf, u64)]) -> Result<(), String> {
    for (index, (path, bytes)) in files.iter().enumerate() {
        if let Err(error) = disk::create_file(path, *bytes) {
            let made: Vec<String> = { files[..index].iter() }
                .map(|(path, _)| path.display().to_string())
                .collect();
            return Err(match made.is_empty() {
                true => error.to_string(),
                false => format!(
                    "{error}; {} had been made before and stays: delete it, or go on with it",
                    made.join(", ")
                ),
            });
        }
    }
    Ok(())
}

/// Refuses words that fit none of the disks: whoever types them may mean another one.
pub fn check_overrides(paths: &[PathBuf], overrides: &[String]) -> Result<(), String> {
    let wanted: Vec<String> = paths.iter().map(|path| override_for(path)).collect();
    let Some(stray) = overrides.iter().find(|words| !wanted.contains(words)) else {
        return Ok(());
    };
    Err(format!(
        "--override '{stray}' fits none of the disks given: the words for the first are '{}'",
        wanted[0]
    ))
}

/// Refuses a disk on which something would be destroyed.
pub fn check_blank(path: &Path, found: &Inspection) -> Result<(), String> {
    match found {
        Inspection::Blank => Ok(()),
        _ => Err(format!(
            "{} is not blank: it holds {}. Formatting destroys that. If that is what you want, repeat \
             the command with --override '{}'",
            path.display(),
            describe(found),
            override_for(path)
        )),
    }
}

/// What a person must type to have the disk at `path` erased.
pub fn override_for(path: &Path) -> String {
    format!("erase {}", path.display())
}

/// Opens a disk for this process alone. Blocks the shard, as [`disk::open`] does.
pub fn open(machine: &Machine, path: &Path, buffered: bool) -> anyhow::Result<Rc<dyn Disk>> {
    Ok(open_file(path, buffered)?.on(machine))
}

fn open_file(path: &Path, buffered: bool) -> anyhow::Result<OpenFile> {
    let options = disk::OpenOptions {
        allow_buffered: buffered,
    };
    Ok(OpenFile::open(path, options)?)
}

/// Looks at a disk.
pub async fn inspect(disk: &Rc<dyn Disk>, path: &Path) -> anyhow::Result<Inspection> {
    let found = store::inspect(disk).await;
    found.with_context(|| format!("cannot read {}", path.display()))
}

fn describe(found: &Inspection) -> String {
    match found {
        Inspection::Blank => "nothing".to_owned(),
        Inspection::Store(identity) => {
            let (store, cluster) = (identity.store.0, &identity.cluster);
            match identity.disks.len() {
                1 => format!("store {store} of cluster {cluster}"),
                count => format!("one of the {count} disks of store {store} of cluster {cluster}"),
            }
        }
        Inspection::Newer { version } => {
            format!("a store of a newer release (disk format {version})")
        }
        Inspection::Foreign(what) => what.clone(),
    }
}

fn report(path: &Path, size: u64, found: &Inspection) -> DiskReport {
    let (content, identity) = match found {
        Inspection::Blank => ("blank", None),
        Inspection::Store(identity) => ("store", Some(identity)),
        Inspection::Newer { .. } => ("newer", None),
        Inspection::Foreign(_) => ("foreign", None),
    };
    let ids = |identity: &Identity| {
        let ids = identity.disks.iter();
        ids.map(|id| format!("{:016x}", id.0)).collect()
    };
    DiskReport {
        path: path.display().to_string(),
        size,
        content,
        description: describe(found),
        cluster: identity.map(|identity| identity.cluster.clone()),
        store: identity.map(|identity| identity.store.0),
        disks: identity.map(ids).unwrap_or_default(),
    }
}

/// The disks of a configured store.
pub enum Prepared {
    /// They can be used.
    Disks(Vec<Rc<dyn Disk>>),
    /// They are not there, do not work or are blank: dead ones, or new ones in their place.
    Dead(String),
}

/// Whether it is the disk itself that cannot be used, and not what it was taken for.
fn is_dead(error: &anyhow::Error) -> bool {
    use disk::OpenError as E;
    let gone = |error: &E| {
        matches!(
            error,
            E::NotFound { .. } | E::Io { .. } | E::TooSmall { .. }
        )
    };
    error.downcast_ref::<E>().is_some_and(gone) || error.downcast_ref::<DiskError>().is_some()
}

/// Opens the disks of a configured store; formats them first when they are blank and the configuration
/// says that they may be created.
///
/// # Errors
/// When the disks hold something else, or another process has them.
pub async fn prepare(
    world: &World,
    machine: &Machine,
    cluster: &str,
    config: &StoreConfig,
) -> anyhow::Result<Prepared> {
    match open_configured(world, machine, cluster, config).await {
        Err(error) if is_dead(&error) => Ok(Prepared::Dead(format!("{error:#}"))),
        outcome => outcome,
    }
}

async fn open_configured(
    world: &World,
    machine: &Machine,
    cluster: &str,
    config: &StoreConfig,
) -> anyhow::Result<Prepared> {
    let mut disks = Vec::new();
    let mut blank = Vec::new();
    for one in &config.disks {
        if let Some(bytes) = one.create
            && !one.path.exists()
        {
            disk::create_file(&one.path, bytes)?;
            tracing::info!(path = %one.path.display(), bytes, "created");
        }
        let disk = open(machine, &one.path, one.buffered)?;
        let found = inspect(&disk, &one.path).await?;
        check_content(cluster, config.id, one, &found)?;
        if found == Inspection::Blank {
            blank.push(one);
        }
        disks.push(disk);
    }
    if blank.is_empty() {
        return Ok(Prepared::Disks(disks));
    }
    if let Some(one) = blank.iter().find(|one| one.create.is_none()) {
        return Ok(Prepared::Dead(format!(
            "{} is blank: prepare it with `azekura disk format --cluster {cluster} --store {} {}`, or correct \
             the path",
            one.path.display(),
            config.id,
            one.path.display()
        )));
    }
    if blank.len() < disks.len() {
        return Ok(Prepared::Dead(format!(
            "{} is blank but other disks of store {} are not: put the missing disk back, or start the store \
             over with `azekura disk format` on all of its disks (its data is filled in from other stores)",
            blank[0].path.display(),
            config.id
        )));
    }
    let options = FormatOptions {
        cluster: cluster.to_owned(),
        store: StoreId(config.id),
        journal_bytes: config.journal,
    };
    let identity = store::format(world, &disks, &options).await;
    let identity = identity.with_context(|| format!("store {}", config.id))?;
    tracing::info!(
        store = config.id,
        incarnation = identity.incarnation.0,
        "formatted"
    );
    Ok(Prepared::Disks(disks))
}

/// What the disks of a configured store say, read without changing them.
pub async fn survey(
    machine: &Machine,
    cluster: &str,
    config: &StoreConfig,
) -> anyhow::Result<wire::StoreSurvey> {
    let mut disks = Vec::new();
    for one in &config.disks {
        let disk = open(machine, &one.path, one.buffered)?;
        let found = inspect(&disk, &one.path).await?;
        check_content(cluster, config.id, one, &found)?;
        disks.push(disk);
    }
    let surveyed = store::survey(disks).await;
    surveyed.with_context(|| format!("store {}", config.id))
}

/// Refuses a disk that is not this store's.
fn check_content(
    cluster: &str,
    store: u32,
    config: &DiskConfig,
    found: &Inspection,
) -> anyhow::Result<()> {
    let good = match found {
        Inspection::Blank => true,
        Inspection::Store(identity) => identity.cluster == cluster && identity.store.0 == store,
        Inspection::Newer { .. } => bail!(
            "{} holds {}: install that release",
            config.path.display(),
            describe(found)
        ),
        Inspection::Foreign(_) => false,
    };
    match good {
        true => Ok(()),
        false => Err(anyhow!(
            "{} holds {}, but the configuration says store {store} of cluster {cluster}: correct the path, or \
             see `azekura disk format` if what is on it may go",
            config.path.display(),
            describe(found)
        )),
    }
}
