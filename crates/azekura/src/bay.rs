//! The disks of this machine, for the node that runs on it: opening them, describing them, keeping which are its stores.

use crate::config::{DiskConfig, StoreConfig};
use crate::disk::{self, inspect};
use crate::kept;
use crate::light;
use node::{Bay, DiskFacts, DiskRequest, FoundDisks};
use std::cell::RefCell;
use std::fmt;
use std::fs::Metadata;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use store::{FormatOptions, Inspection};
use vocab::StoreId;
use world::{LocalBoxFuture, World};
use world_linux::Machine;

/// See the module's documentation.
#[derive(Clone)]
pub struct MachineBay(Rc<Inner>);

struct Inner {
    world: World,
    machine: Machine,
    cluster: String,
    /// Where the node keeps what its configuration does not say.
    state: PathBuf,
    /// As the file says.
    configured: Vec<StoreConfig>,
    /// As they are now.
    stores: RefCell<Vec<StoreConfig>>,
}

impl fmt::Debug for MachineBay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MachineBay")
            .field("state", &self.0.state)
            .finish_non_exhaustive()
    }
}

impl MachineBay {
    /// The bay of a node with these stores.
    pub fn new(world: World, machine: Machine, config: &crate::config::Config) -> Self {
        Self(Rc::new(Inner {
            world,
            machine,
            cluster: config.cluster.clone(),
            state: config.state.clone(),
            configured: config.configured.clone(),
            stores: RefCell::new(config.stores.clone()),
        }))
    }

    /// Keeps which disks a store is on.
    async fn keep(self, store: StoreId, paths: Vec<PathBuf>) -> Result<(), String> {
        let (state, configured) = (self.0.state.clone(), self.0.configured.clone());
        let keep = move || {
            let kept = kept::keep_store(&state, &configured, store.0, paths);
            kept.map_err(|error| format!("{error:#}"))
        };
        let stores = self.0.world.offload(keep).await?;
        *self.0.stores.borrow_mut() = stores;
        Ok(())
    }

    async fn open_disks(
        self,
        request: DiskRequest,
        own: Option<StoreId>,
    ) -> Result<FoundDisks, String> {
        let paths: Vec<PathBuf> = request.paths.iter().map(PathBuf::from).collect();
        disk::check_overrides(&paths, &request.overrides)?;
        if let Some(path) = paths.iter().find(|path| !path.is_absolute()) {
            return Err(format!(
                "{} is no absolute path: say where it is from /",
                path.display()
            ));
        }
        let buffered = self.is_buffered(own);
        let (looked, create) = (paths.clone(), request.create);
        // Beside the shard, which serves clients: a disk that a dead process still holds is tried for seconds.
        let look = move || disk::look_for(&looked, create, buffered);
        let found = self.0.world.offload(look).await;
        let wanted = found.map_err(|error| format!("{error:#}"))?;
        let wanted = wanted.on(&self.0.machine);
        let mut others = Vec::new();
        for (path, disk) in paths.iter().zip(&wanted.disks) {
            let Some(disk) = disk else {
                continue;
            };
            let found = inspect(disk, path).await;
            let found = found.map_err(|error| format!("{error:#}"))?;
            if !own.is_some_and(|own| self.is_of(&found, own))
                || request.overrides.contains(&disk::override_for(path))
            {
                others.push((path, found));
            }
        }
        let missing = wanted.missing(&paths);
        let known = paths.len() - missing.len() - others.len();
        if known == 0 {
            // Before anything is made: what is refused leaves nothing behind.
            let options = FormatOptions {
                cluster: self.0.cluster.clone(),
                store: own.unwrap_or(StoreId(1)),
                journal_bytes: request.journal,
            };
            let fits = wanted.check_sizes(&paths, &options);
            fits.map_err(|error| format!("{error:#}"))?;
        }
        for (path, found) in others {
            if !request.overrides.contains(&disk::override_for(path)) {
                disk::check_blank(path, &found)?;
            }
        }
        if known > 0 && known < paths.len() {
            return Err(format!(
                "{known} of the {} disks hold the store, the others do not: name all of its disks, or none of them",
                paths.len()
            ));
        }
        let make = move || {
            disk::make_files(&missing)?;
            disk::open_made(&missing, buffered).map_err(|error| format!("{error:#}"))
        };
        let made = self.0.world.offload(make).await?;
        Ok(FoundDisks {
            disks: wanted.with(made, &self.0.machine),
            kept: known > 0,
        })
    }

    fn is_of(&self, found: &Inspection, own: StoreId) -> bool {
        matches!(found, Inspection::Store(identity) if identity.store == own && identity.cluster == self.0.cluster)
    }

    /// Whether a store was allowed to be on a file system without direct I/O.
    fn is_buffered(&self, own: Option<StoreId>) -> bool {
        let stores = self.0.stores.borrow();
        let store = stores.iter().find(|store| Some(StoreId(store.id)) == own);
        store.is_some_and(|store| store.disks.iter().any(|disk| disk.buffered))
    }
}

impl Bay for MachineBay {
    fn list(&self) -> LocalBoxFuture<'static, Vec<DiskFacts>> {
        let inner = self.0.clone();
        Box::pin(async move {
            let stores = inner.stores.borrow().clone();
            let look = move || {
                let disks = stores.iter().flat_map(|store| {
                    let disks = store.disks.iter();
                    disks.map(move |disk| facts(store.id, disk))
                });
                disks.collect()
            };
            inner.world.offload(look).await
        })
    }

    fn open(
        &self,
        request: DiskRequest,
        own: Option<StoreId>,
    ) -> LocalBoxFuture<'static, Result<FoundDisks, String>> {
        Box::pin(self.clone().open_disks(request, own))
    }

    fn remember(
        &self,
        store: StoreId,
        paths: Vec<String>,
    ) -> LocalBoxFuture<'static, Result<(), String>> {
        let paths = paths.into_iter().map(PathBuf::from).collect();
        Box::pin(self.clone().keep(store, paths))
    }

    fn forget(&self, store: StoreId) -> LocalBoxFuture<'static, Result<(), String>> {
        Box::pin(self.clone().keep(store, Vec::new()))
    }

    fn paths_of(&self, store: StoreId) -> Vec<String> {
        let stores = self.0.stores.borrow();
        let found = stores.iter().find(|one| one.id == store.0);
        let disks = found.into_iter().flat_map(|store| &store.disks);
        disks.map(|disk| disk.path.display().to_string()).collect()
    }

    fn light(&self, path: String, on: bool) -> LocalBoxFuture<'static, Result<(), String>> {
        let world = self.0.world.clone();
        Box::pin(async move {
            let switch = move || {
                let metadata = std::fs::metadata(&path).ok();
                let device = metadata.as_ref().and_then(device_of);
                let file = device.and_then(|device| light::file_of(&whole_of(device)));
                let file = file.ok_or_else(|| format!("{path} has no light"))?;
                light::switch(&file, on)
            };
            world.offload(switch).await
        })
    }
}

/// The kernel's directory of a block device.
fn device_of(metadata: &Metadata) -> Option<PathBuf> {
    let (major, minor) = (
        rustix::fs::major(metadata.rdev()),
        rustix::fs::minor(metadata.rdev()),
    );
    let is_device = metadata.file_type().is_block_device();
    is_device.then(|| PathBuf::from(format!("/sys/dev/block/{major}:{minor}")))
}

/// That of the disk that it is, or that it is a partition of.
fn whole_of(device: PathBuf) -> PathBuf {
    match device.join("partition").exists() {
        true => device.join(".."),
        false => device,
    }
}

/// What the operating system says of a disk.
fn facts(store: u32, disk: &DiskConfig) -> DiskFacts {
    let mut facts = DiskFacts {
        store,
        path: disk.path.display().to_string(),
        ..DiskFacts::default()
    };
    let Ok(metadata) = std::fs::metadata(&disk.path) else {
        return facts;
    };
    let Some(device) = device_of(&metadata) else {
        facts.size = Some(metadata.len());
        return facts;
    };
    let sectors = word(&device.join("size")).and_then(|text| text.parse::<u64>().ok());
    facts.size = sectors.map(|sectors| sectors * 512);
    let whole = whole_of(device);
    facts.light = light::file_of(&whole).and_then(|file| light::is_on(&file));
    facts.model = word(&whole.join("device/model"));
    facts.serial = word(&whole.join("device/serial"))
        .or_else(|| word(&whole.join("serial")))
        .or_else(|| page_of_serial(&whole.join("device/vpd_pg80")));
    facts
}

fn word(path: &Path) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

/// The serial number in a SCSI disk's vital product data (SPC-4, page 80h): four bytes, then text.
fn page_of_serial(path: &Path) -> Option<String> {
    let bytes = std::fs::read(path).ok()?;
    let text = String::from_utf8_lossy(bytes.get(4..)?).trim().to_owned();
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use std::cell::Cell;
    use std::io::Read;
    use std::process::{Command, Stdio};
    use world_linux::ShardOptions;

    /// The program that took the lock has ended, and another one has its file: as of a killed node whose disk operations go on.
    #[test]
    fn a_node_serves_while_a_disk_is_tried_that_a_dead_process_holds() {
        let folder = std::env::temp_dir().join(format!("azekura-bay-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("disk");
        std::fs::write(&path, [0; 4096]).unwrap();
        let hold = "exec 9<>\"$1\"; flock -n 9; echo held; exec sleep 60";
        let mut holder = Command::new("sh");
        holder.args(["-c", hold, "sh"]).arg(&path);
        let mut holder = holder.stdout(Stdio::piped()).spawn().unwrap();
        let mut held = [0; 5];
        holder
            .stdout
            .as_mut()
            .unwrap()
            .read_exact(&mut held)
            .unwrap();
        let text = format!(
            "cluster = \"c\"\nnode = \"n\"\nlisten = \"127.0.0.1:0\"\n\n[catalog]\nembedded = \"catalog\"\n\n\
             [[store]]\nid = 1\n\n[[store.disk]]\npath = \"{}\"\nbuffered = true\n",
            path.display()
        );
        let config = Config::parse(&folder.join("node.toml"), &text).unwrap();
        let request = DiskRequest {
            paths: vec![path.display().to_string()],
            ..DiskRequest::default()
        };
        let (opened, served) = world_linux::run(ShardOptions::default(), move |world, machine| {
            Box::pin(async move {
                let served = Rc::new(Cell::new(0));
                let (clock, count) = (world.clone(), served.clone());
                world.spawn(async move {
                    loop {
                        clock.sleep(std::time::Duration::from_millis(1)).await;
                        count.set(count.get() + 1);
                    }
                });
                let bay = MachineBay::new(world, machine, &config);
                let opened = bay.open(request, Some(StoreId(1))).await;
                (opened.map(|found| found.kept), served.get())
            })
        })
        .unwrap();
        holder.kill().unwrap();
        holder.wait().unwrap();
        std::fs::remove_dir_all(&folder).unwrap();
        assert!(opened.unwrap_err().contains("in use"));
        // It was tried more often than that.
        assert!(served > 50, "other work was done {served} times");
    }
}
