//! What a node keeps of itself beside its configuration: stores that came, went or got other disks while it ran, where the
//! catalog has moved, and who keeps it.
//! Format: docs/formats/node-state.md.
//!
//! Invariants
//! - The configuration file is never written.
//! - What is kept of a store counts as long as the configuration says the same of it as it did then: whoever changes the
//!   configuration is obeyed.
//! - A file is replaced as a whole, and durable before anything is built on it.

use crate::config::{CatalogConfig, Config, ConfigError, DiskConfig, STORES_MAX, StoreConfig};
use anyhow::{Context, bail};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::collections::BTreeSet;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

/// Version of the files this release writes.
pub const VERSION: u32 = 1;
/// Of stores.
const STORES_FILE: &str = "stores.json";
/// Of where the catalog has moved.
const CATALOG_FILE: &str = "catalog.json";
/// Of the cluster's own etcd.
const ETCD_FILE: &str = "etcd.json";
/// Files are read whole; one with 64 stores of 64 disks is far below 1 MiB.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// A store whose disks are not those of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct KeptStore {
    id: u32,
    /// Its disks; none: it is not of this node any more.
    paths: Vec<PathBuf>,
    /// Its disks in the configuration when this was written; none: it was not there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    instead_of: Vec<PathBuf>,
}

/// A catalog that moves, or has moved, from a file to etcd.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptCatalog {
    /// Of the file that this is kept in.
    pub version: u32,
    /// The catalog's file in the configuration when this was written.
    pub from: PathBuf,
    /// URLs.
    pub endpoints: Vec<String>,
    /// Before every key.
    pub prefix: String,
    /// Whether it is there. If not, the two catalogs say how far it got.
    pub done: bool,
}

impl KeptCatalog {
    /// Where it moves.
    pub fn target(&self) -> CatalogConfig {
        CatalogConfig::Etcd {
            endpoints: self.endpoints.clone(),
            prefix: self.prefix.clone(),
        }
    }
}

/// What is known of the cluster's own etcd, and of the member of it that this node runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptEtcd {
    /// Of the file that this is kept in.
    pub version: u32,
    /// The endpoints of the configuration, or of a catalog that has moved, when this was written.
    pub instead_of: Vec<String>,
    /// Those that count now; none: those of the configuration.
    pub endpoints: Vec<String>,
    /// The id that all members share; 0: not known yet.
    pub cluster: u64,
    /// How often the catalog had been made anew when it was used last.
    pub era: u64,
    /// The member that was begun here.
    pub member: Option<KeptMember>,
}

/// A member of etcd that was begun here, whether its data is there or not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptMember {
    /// Its id; 0: it was the first, and has not said it yet.
    pub id: u64,
    /// Every member with its address for the others when this one began, as etcd wants it.
    pub initial: String,
    /// Tells this etcd from others.
    pub token: String,
    /// Whether it was the first.
    pub founded: bool,
}

/// What is kept of the cluster's own etcd.
///
/// # Errors
/// When it cannot be read.
pub fn etcd(folder: &Path) -> anyhow::Result<Option<KeptEtcd>> {
    read(folder, ETCD_FILE)
}

/// Keeps what is known of etcd. Durable when it returns.
///
/// # Errors
/// For people; what was kept before holds then.
pub fn keep_etcd(folder: &Path, kept: &KeptEtcd) -> anyhow::Result<()> {
    write(folder, ETCD_FILE, kept)
}

/// The catalog with the endpoints of etcd that count now. Pure.
fn endpoints_now(catalog: CatalogConfig, kept: Option<&KeptEtcd>) -> CatalogConfig {
    match (catalog, kept) {
        (CatalogConfig::Etcd { endpoints, prefix }, Some(kept))
            if kept.instead_of == endpoints && !kept.endpoints.is_empty() =>
        {
            CatalogConfig::Etcd {
                endpoints: kept.endpoints.clone(),
                prefix,
            }
        }
        (catalog, _) => catalog,
    }
}

/// What is kept of a move of the catalog.
///
/// # Errors
/// When it cannot be read.
pub fn catalog(folder: &Path) -> anyhow::Result<Option<KeptCatalog>> {
    read(folder, CATALOG_FILE)
}

/// Keeps a move of the catalog. Durable when it returns.
///
/// # Errors
/// For people; what was kept before holds then.
pub fn keep_catalog(folder: &Path, kept: &KeptCatalog) -> anyhow::Result<()> {
    write(folder, CATALOG_FILE, kept)
}

/// A move came to nothing.
///
/// # Errors
/// For people; it is still kept then.
pub fn forget_catalog(folder: &Path) -> anyhow::Result<()> {
    let path = folder.join(CATALOG_FILE);
    let forget = || match std::fs::remove_file(&path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    };
    forget().with_context(|| format!("{} cannot be removed", path.display()))
}

/// The catalog of a configuration, or where it has moved since that was written. Pure.
fn catalog_now(configured: CatalogConfig, kept: Option<KeptCatalog>) -> CatalogConfig {
    match (&configured, kept) {
        (CatalogConfig::Embedded(path), Some(kept)) if kept.done && kept.from == *path => {
            kept.target()
        }
        _ => configured,
    }
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct StoresFile {
    version: u32,
    stores: Vec<KeptStore>,
}

/// Replaces the file `name` of the folder, which is made when it is missing.
pub fn write<T: Serialize>(folder: &Path, name: &str, content: &T) -> anyhow::Result<()> {
    let write = || -> std::io::Result<()> {
        std::fs::create_dir_all(folder)?;
        let beside = folder.join(format!("{name}.part"));
        let mut file = std::fs::File::create(&beside)?;
        let text = serde_json::to_string_pretty(content).map_err(std::io::Error::other)?;
        file.write_all(text.as_bytes())?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        std::fs::rename(&beside, folder.join(name))?;
        std::fs::File::open(folder)?.sync_all()?;
        // The folder itself may be new.
        let parent = folder
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty());
        std::fs::File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
    };
    write().with_context(|| {
        format!(
            "{} cannot be written, and without it a restart would forget this: say with `state` in the configuration \
             where the node may keep something",
            folder.join(name).display()
        )
    })
}

/// The content of the file `name` of the folder; nothing when it is not there.
pub fn read<T: DeserializeOwned>(folder: &Path, name: &str) -> anyhow::Result<Option<T>> {
    let path = folder.join(name);
    let read = || {
        let bytes = match std::fs::metadata(&path) {
            Ok(metadata) => metadata.len(),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        if bytes > FILE_BYTES_MAX {
            bail!("it has {bytes} bytes, more than any file of ours");
        }
        let value: serde_json::Value = serde_json::from_slice(&std::fs::read(&path)?)?;
        match value.get("version").and_then(serde_json::Value::as_u64) {
            Some(version) if version <= u64::from(VERSION) => {
                Ok(Some(serde_json::from_value(value)?))
            }
            Some(version) => bail!("it is of version {version}: use the release that wrote it"),
            None => bail!("it has no version"),
        }
    };
    read().with_context(|| format!("{} cannot be used", path.display()))
}

fn paths_of(store: &StoreConfig) -> Vec<PathBuf> {
    store.disks.iter().map(|disk| disk.path.clone()).collect()
}

fn disks_at(paths: &[PathBuf], buffered: bool) -> Vec<DiskConfig> {
    let disk = |path: &PathBuf| DiskConfig {
        path: path.clone(),
        create: None,
        buffered,
    };
    paths.iter().map(disk).collect()
}

/// The stores of a configuration, with what is kept of them. Pure.
fn merge(configured: &[StoreConfig], kept: &[KeptStore]) -> Vec<StoreConfig> {
    let mut stores = configured.to_vec();
    for one in kept {
        match stores.iter_mut().find(|store| store.id == one.id) {
            Some(store) if paths_of(store) == one.instead_of => {
                let buffered = store.disks.iter().any(|disk| disk.buffered);
                store.disks = disks_at(&one.paths, buffered);
            }
            Some(_) => {}
            None => stores.push(StoreConfig {
                id: one.id,
                journal: None,
                disks: disks_at(&one.paths, false),
            }),
        }
    }
    stores.retain(|store| !store.disks.is_empty());
    stores
}

fn check(stores: &[StoreConfig]) -> anyhow::Result<()> {
    let mut paths = BTreeSet::new();
    for path in stores.iter().flat_map(paths_of) {
        if !paths.insert(path.clone()) {
            bail!(
                "disk {} belongs to two stores: one of the configuration, and one that was added or replaced while the \
                 node ran",
                path.display()
            );
        }
    }
    if stores.len() > STORES_MAX {
        bail!("one node has at most {STORES_MAX} stores");
    }
    Ok(())
}

fn read_stores(folder: &Path) -> anyhow::Result<Vec<KeptStore>> {
    let file = read::<StoresFile>(folder, STORES_FILE)?;
    Ok(file.unwrap_or_default().stores)
}

/// Completes a configuration that was just read with what the node keeps.
///
/// # Errors
/// When what is kept cannot be read, or does not go together with the configuration.
pub fn complete(mut config: Config, file: &Path) -> Result<Config, ConfigError> {
    let merged = read_stores(&config.state).and_then(|kept| {
        let stores = merge(&config.configured, &kept);
        check(&stores)?;
        Ok(stores)
    });
    let wrong = |error: anyhow::Error| ConfigError {
        file: file.to_owned(),
        line: None,
        key: String::new(),
        problem: format!("{error:#}"),
    };
    config.stores = merged.map_err(wrong)?;
    let kept = catalog(&config.state).map_err(wrong)?;
    config.catalog = catalog_now(config.catalog, kept);
    if let CatalogConfig::Etcd { endpoints, .. } = &config.catalog {
        config.endpoints.clone_from(endpoints);
    }
    let kept = etcd(&config.state).map_err(wrong)?;
    config.catalog = endpoints_now(config.catalog, kept.as_ref());
    Ok(config)
}

/// Keeps that a store is on these disks, or on none.
///
/// # Errors
/// For people; what was kept before holds then.
pub fn keep_store(
    folder: &Path,
    configured: &[StoreConfig],
    id: u32,
    paths: Vec<PathBuf>,
) -> anyhow::Result<Vec<StoreConfig>> {
    let mut kept = read_stores(folder)?;
    kept.retain(|store| store.id != id);
    let before = configured.iter().find(|store| store.id == id);
    let instead_of = before.map(paths_of).unwrap_or_default();
    if paths != instead_of {
        kept.push(KeptStore {
            id,
            paths,
            instead_of,
        });
    }
    let stores = merge(configured, &kept);
    check(&stores)?;
    let file = StoresFile {
        version: VERSION,
        stores: kept,
    };
    write(folder, STORES_FILE, &file)?;
    Ok(stores)
}

#[cfg(test)]
mod tests {
    use super::*;
    use fuzz::target;
    use proptest::prelude::*;

    fn store(id: u32, path: &str) -> StoreConfig {
        StoreConfig {
            id,
            journal: None,
            disks: disks_at(&[PathBuf::from(path)], false),
        }
    }

    fn kept(id: u32, paths: &[&str], instead_of: &[&str]) -> KeptStore {
        let list = |paths: &[&str]| paths.iter().map(PathBuf::from).collect();
        KeptStore {
            id,
            paths: list(paths),
            instead_of: list(instead_of),
        }
    }

    fn shown(stores: &[StoreConfig]) -> Vec<(u32, String)> {
        let show = |store: &StoreConfig| (store.id, store.disks[0].path.display().to_string());
        stores.iter().map(show).collect()
    }

    #[test]
    fn what_is_kept_counts_until_the_configuration_says_something_else() {
        let configured = [store(1, "/a"), store(2, "/b"), store(3, "/c")];
        let kept = [
            kept(1, &["/new"], &["/a"]),
            kept(2, &[], &["/b"]),
            kept(3, &["/late"], &["/before"]),
            kept(4, &["/d"], &[]),
        ];
        let merged = shown(&merge(&configured, &kept));
        let expected = [(1, "/new"), (3, "/c"), (4, "/d")];
        assert_eq!(merged, expected.map(|(id, path)| (id, path.to_owned())));
    }

    #[test]
    fn a_moved_catalog_counts_until_the_configuration_says_something_else() {
        let file = |path: &str| CatalogConfig::Embedded(PathBuf::from(path));
        let kept = |done| KeptCatalog {
            version: VERSION,
            from: PathBuf::from("/catalog"),
            endpoints: vec!["http://e:2379".to_owned()],
            prefix: "/p/".to_owned(),
            done,
        };
        let moved = kept(true).target();
        assert_eq!(catalog_now(file("/catalog"), Some(kept(true))), moved);
        assert_eq!(
            catalog_now(file("/other"), Some(kept(true))),
            file("/other")
        );
        assert_eq!(
            catalog_now(file("/catalog"), Some(kept(false))),
            file("/catalog")
        );
        assert_eq!(catalog_now(file("/catalog"), None), file("/catalog"));
    }

    #[test]
    fn endpoints_of_members_count_until_the_configuration_says_something_else() {
        let etcd = |endpoint: &str| CatalogConfig::Etcd {
            endpoints: vec![endpoint.to_owned()],
            prefix: "/p/".to_owned(),
        };
        let kept = KeptEtcd {
            version: VERSION,
            instead_of: vec!["http://old:1".to_owned()],
            endpoints: vec!["http://now:1".to_owned()],
            ..KeptEtcd::default()
        };
        let now = |endpoint| endpoints_now(etcd(endpoint), Some(&kept));
        assert_eq!(now("http://old:1"), etcd("http://now:1"));
        assert_eq!(now("http://other:1"), etcd("http://other:1"));
        let none = KeptEtcd::default();
        assert_eq!(
            endpoints_now(etcd("http://old:1"), Some(&none)),
            etcd("http://old:1")
        );
        let file = CatalogConfig::Embedded(PathBuf::from("/catalog"));
        assert_eq!(endpoints_now(file.clone(), Some(&kept)), file);
    }

    #[test]
    fn a_disk_is_not_used_twice() {
        let merged = merge(&[store(1, "/a")], &[kept(2, &["/a"], &[])]);
        assert!(check(&merged).unwrap_err().to_string().contains("/a"));
    }

    #[test]
    fn files_of_the_future_and_damaged_ones_are_named() {
        let folder = std::env::temp_dir().join(format!("kept-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        let configured = [store(1, "/a")];
        let added = keep_store(&folder, &configured, 2, vec![PathBuf::from("/b")]).unwrap();
        assert_eq!(shown(&added).len(), 2);
        let removed = keep_store(&folder, &configured, 1, Vec::new()).unwrap();
        assert_eq!(shown(&removed), [(2, "/b".to_owned())]);
        assert_eq!(read_stores(&folder).unwrap().len(), 2);
        for text in [r#"{"version": 2, "stores": []}"#, "{}", "[", ""] {
            std::fs::write(folder.join(STORES_FILE), text).unwrap();
            let error = format!("{:#}", read_stores(&folder).unwrap_err());
            assert!(error.contains("stores.json cannot be used"), "{error}");
        }
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn fuzz_corpus_of_kept_files() {
        let target = target!("kept");
        let stores = StoresFile {
            version: VERSION,
            stores: vec![kept(2, &["/a", "/b"], &["/c"]), kept(3, &[], &[])],
        };
        let catalog = KeptCatalog {
            version: VERSION,
            from: PathBuf::from("/catalog"),
            endpoints: vec!["http://e:2379".to_owned()],
            prefix: "/p/".to_owned(),
            done: true,
        };
        let member = KeptMember {
            id: u64::MAX,
            initial: "n1=http://10.0.0.1:7402".to_owned(),
            token: "t".to_owned(),
            founded: true,
        };
        let etcd = KeptEtcd {
            version: VERSION,
            cluster: 9,
            member: Some(member),
            ..KeptEtcd::default()
        };
        let json = |value: serde_json::Result<String>| value.expect("plain data").into_bytes();
        let committed = target.sample("stores", &json(serde_json::to_string(&stores)));
        let read: StoresFile = serde_json::from_slice(&committed).expect("reads");
        assert_eq!((read.version, read.stores), (stores.version, stores.stores));
        let committed = target.sample("catalog", &json(serde_json::to_string(&catalog)));
        assert_eq!(
            serde_json::from_slice::<KeptCatalog>(&committed).ok(),
            Some(catalog)
        );
        let committed = target.sample("etcd", &json(serde_json::to_string(&etcd)));
        assert_eq!(
            serde_json::from_slice::<KeptEtcd>(&committed).ok(),
            Some(etcd)
        );
        target.play(|bytes| {
            let _ = serde_json::from_slice::<StoresFile>(bytes);
            let _ = serde_json::from_slice::<KeptCatalog>(bytes);
            let _ = serde_json::from_slice::<KeptEtcd>(bytes);
        });
    }

    proptest! {
        #[test]
        fn fuzz_any_text_is_kept_stores_or_refused(text in "\\PC*") {
            let _ = serde_json::from_str::<StoresFile>(&text);
            let _ = serde_json::from_str::<KeptEtcd>(&text);
        }
    }
}
