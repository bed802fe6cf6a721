//! Where the catalog of this process is, and its move from a file to etcd while the process runs.
//!
//! Invariants
//! - The catalog in the file counts until the one in etcd is finished, and never after that: `Catalog::mark_moved` and
//!   `Filled::finish` in this order, and nothing is written to the file in between.
//! - What is kept in `catalog.json` before anything else lets the next start finish a move, or find that it came to nothing.

use crate::catalog_verbs::describe;
use crate::config::{CatalogConfig, Config};
use crate::kept::{self, KeptCatalog};
use crate::seat::Seat;
use anyhow::Context;
use catalog::dump::moved_to;
use catalog::kv::Kv;
use catalog::{Catalog, CatalogError, ClusterRow};
use catalog_kv::embedded::EmbeddedKv;
use catalog_kv::etcd::{EtcdKv, EtcdOptions, EtcdTls};
use catalog_kv::switch::SwitchKv;
use identity::Credentials;
use node::{CatalogPlace, Moved};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use vocab::Levels;
use world::{LocalBoxFuture, World};

/// Pause between two attempts to finish what must be finished.
const PAUSE: Duration = Duration::from_millis(200);
/// Key of the cluster's row.
const CLUSTER: &str = "cluster";

/// See the module's documentation.
#[derive(Clone)]
pub struct Place(Rc<Inner>);

struct Inner {
    world: World,
    cluster: String,
    levels: Levels,
    state: PathBuf,
    /// The file and the store that can be exchanged, if the catalog was in a file when the process started.
    file: Option<(PathBuf, SwitchKv)>,
    seat: Seat,
    credentials: Option<Arc<Credentials>>,
    now: RefCell<CatalogConfig>,
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Place").field(&self.0.now).finish()
    }
}

/// A catalog that was opened.
pub struct Opened {
    pub kv: Rc<dyn Kv>,
    /// If it is in etcd.
    pub client: Option<EtcdKv>,
}

/// A client of the etcd at these addresses.
///
/// # Errors
/// When one is no address, or wants certificates and there are none.
pub fn open_etcd(
    endpoints: &[String],
    prefix: &str,
    credentials: Option<&Arc<Credentials>>,
) -> anyhow::Result<EtcdKv> {
    let tls = credentials.cloned().map(|credentials| EtcdTls {
        shown: Arc::new(move || credentials.current().client.clone()),
        name: identity::NODE_NAME.to_owned(),
    });
    let kv = EtcdKv::connect(EtcdOptions {
        endpoints: endpoints.to_vec(),
        namespace: prefix.to_owned(),
        tls,
        ..EtcdOptions::default()
    });
    kv.context("etcd")
}

/// Opens the catalog that a configuration names.
///
/// # Errors
/// Why it cannot be opened.
pub fn open_catalog(
    config: &CatalogConfig,
    credentials: Option<&Arc<Credentials>>,
) -> anyhow::Result<Opened> {
    match config {
        CatalogConfig::Embedded(path) => {
            let kv = EmbeddedKv::open(path);
            let kv = kv.with_context(|| format!("catalog {}", path.display()))?;
            Ok(Opened {
                kv: Rc::new(kv),
                client: None,
            })
        }
        CatalogConfig::Etcd { endpoints, prefix } => {
            let kv = open_etcd(endpoints, prefix, credentials)?;
            Ok(Opened {
                kv: Rc::new(kv.clone()),
                client: Some(kv),
            })
        }
    }
}

/// The catalog of a node that starts. A move that was interrupted is finished first.
///
/// # Errors
/// Why it cannot be opened.
pub async fn open(
    world: &World,
    config: &Config,
    seat: &Seat,
    credentials: Option<&Arc<Credentials>>,
) -> anyhow::Result<(Rc<dyn Kv>, Place)> {
    let mut now = config.catalog.clone();
    let mut opened = open_catalog(&now, credentials)?;
    let mut file = None;
    if let CatalogConfig::Embedded(path) = &config.catalog {
        match resume(config, path, opened.kv.clone(), seat, credentials).await? {
            Some((target, new)) => (now, opened) = (target, new),
            None => {
                // A move that came to nothing may have left a member.
                seat.stop();
                let switch = SwitchKv::new(opened.kv);
                opened.kv = Rc::new(switch.clone());
                file = Some((path.clone(), switch));
            }
        }
    } else if let Some(client) = &opened.client {
        seat.use_client(Some(client.clone()));
        seat.wait_for(client).await?;
    }
    seat.use_client(opened.client);
    let place = Place(Rc::new(Inner {
        world: world.clone(),
        cluster: config.cluster.clone(),
        levels: config.levels,
        state: config.state.clone(),
        file,
        seat: seat.clone(),
        credentials: credentials.cloned(),
        now: RefCell::new(now),
    }));
    Ok((opened.kv, place))
}

/// Finishes a move whose process ended, if it had got so far that the file must not be used any more.
async fn resume(
    config: &Config,
    path: &Path,
    old: Rc<dyn Kv>,
    seat: &Seat,
    credentials: Option<&Arc<Credentials>>,
) -> anyhow::Result<Option<(CatalogConfig, Opened)>> {
    let Some(kept) = kept::catalog(&config.state)?.filter(|kept| kept.from == path) else {
        return Ok(None);
    };
    let target = kept.target();
    let old = Catalog::new(old);
    let row = old.read::<ClusterRow>(CLUSTER).await?;
    let marked = row.is_some_and(|found| moved_to(&found.row.name) == Some(&describe(&target)));
    if !marked {
        kept::forget_catalog(&config.state)?;
        if seat.has_founded() {
            seat.abandon();
        }
        return Ok(None);
    }
    let opened = open_catalog(&target, credentials)?;
    if let Some(client) = &opened.client {
        seat.use_client(Some(client.clone()));
        seat.wait_for(client).await?;
    }
    let new = Catalog::new(opened.kv.clone());
    let finished = is_finished(&new, &config.cluster).await;
    if !finished.with_context(|| describe(&target))? {
        let rows = old
            .dump()
            .await?
            .for_another(&config.cluster, config.levels)?;
        let filled = new.fill(&rows).await;
        filled.with_context(|| describe(&target))?;
    }
    kept::keep_catalog(&config.state, &KeptCatalog { done: true, ..kept })?;
    tracing::info!(
        place = describe(&target),
        "the catalog has moved: the move is finished"
    );
    Ok(Some((target, opened)))
}

async fn is_finished(new: &Catalog, cluster: &str) -> Result<bool, CatalogError> {
    let row = new.read::<ClusterRow>(CLUSTER).await?;
    Ok(row.is_some_and(|found| found.row.name == cluster))
}

impl Inner {
    /// No endpoints: to an etcd of this node's own, which is founded for it.
    async fn move_to(&self, endpoints: Vec<String>, prefix: String) -> Result<Moved, String> {
        let Some((path, switch)) = &self.file else {
            return Err(
                "the catalog is no file of this process: only such a catalog is moved".into(),
            );
        };
        if let CatalogConfig::Etcd { .. } = &*self.now.borrow() {
            return Err("the catalog has moved already".into());
        }
        let for_people = |error: anyhow::Error| format!("{error:#}");
        let open = |endpoints: &[String]| open_etcd(endpoints, &prefix, self.credentials.as_ref());
        let founds = endpoints.is_empty();
        let (endpoints, kv) = match founds {
            true => {
                let found = self.seat.found(|client| open(&[client.to_owned()])).await;
                let (client, kv) = found.map_err(for_people)?;
                (vec![client], kv)
            }
            false => (endpoints.clone(), open(&endpoints).map_err(for_people)?),
        };
        let moved = self.exchange(path, switch, endpoints, prefix, &kv).await;
        match &moved {
            Ok(_) => self.seat.use_client(Some(kv)),
            Err(_) if founds => self.seat.abandon(),
            Err(_) => {}
        }
        moved
    }

    async fn exchange(
        &self,
        path: &Path,
        switch: &SwitchKv,
        endpoints: Vec<String>,
        prefix: String,
        client: &EtcdKv,
    ) -> Result<Moved, String> {
        let kept = KeptCatalog {
            version: kept::VERSION,
            from: path.to_owned(),
            endpoints,
            prefix,
            done: false,
        };
        let target = kept.target();
        let place = describe(&target);
        let kv: Rc<dyn Kv> = Rc::new(client.clone());
        let new = Catalog::new(kv.clone());
        let vacant = new.is_vacant().await;
        if !vacant.map_err(|error| format!("{place}: {error}"))? {
            return Err(format!(
                "{place} is not empty: name an empty one, or another prefix"
            ));
        }
        self.keep(kept.clone()).await?;
        let began = self.world.now();
        let mut rows = 0;
        let world = self.world.clone();
        let pause = || -> LocalBoxFuture<'static, ()> { Box::pin(world.sleep(PAUSE)) };
        let exchanged = switch.exchange(pause, async |old| {
            rows = self.fill(&Catalog::new(old), &new, &place).await?;
            Ok::<_, CatalogError>(kv)
        });
        if let Err(error) = exchanged.await {
            let state = self.state.clone();
            let forget = move || kept::forget_catalog(&state).map_err(|error| format!("{error:#}"));
            if let Err(reason) = self.world.offload(forget).await {
                tracing::warn!(reason, "a move that came to nothing is still noted");
            }
            return Err(format!("{place}: {error}"));
        }
        let paused = self.world.now().since(began);
        *self.now.borrow_mut() = target;
        // The next start finds out by itself what is missing here.
        if let Err(reason) = self.keep(KeptCatalog { done: true, ..kept }).await {
            tracing::warn!(reason, "the next start looks at the old catalog first");
        }
        Ok(Moved {
            place,
            rows: rows as u64,
            paused_ms: u64::try_from(paused.as_millis()).unwrap_or(u64::MAX),
        })
    }

    async fn keep(&self, kept: KeptCatalog) -> Result<(), String> {
        let state = self.state.clone();
        let keep = move || kept::keep_catalog(&state, &kept).map_err(|error| format!("{error:#}"));
        self.world.offload(keep).await
    }

    /// Fills the new catalog; how many rows it has. Once the old one is marked it does not give up: what was asked for last
    /// may have happened.
    async fn fill(&self, old: &Catalog, new: &Catalog, place: &str) -> Result<usize, CatalogError> {
        let rows = old.dump().await?.for_another(&self.cluster, self.levels)?;
        let filled = new.begin_fill(&rows).await?;
        old.mark_moved(place).await?;
        let mut outcome = filled.finish().await;
        while let Err(error) = outcome {
            tracing::warn!(%error, "the move of the catalog waits for the new one");
            self.world.sleep(PAUSE).await;
            outcome = self.finish(new, &rows).await;
        }
        Ok(rows.len())
    }

    async fn finish(
        &self,
        new: &Catalog,
        rows: &BTreeMap<String, Vec<u8>>,
    ) -> Result<(), CatalogError> {
        match is_finished(new, &self.cluster).await? {
            true => Ok(()),
            false => new.fill(rows).await,
        }
    }
}

impl CatalogPlace for Place {
    /// An embedded catalog belongs to this process.
    fn table(&self) -> Option<String> {
        let now = self.0.now.borrow();
        let CatalogConfig::Etcd { endpoints, prefix } = &*now else {
            return None;
        };
        let quoted = |text: &String| toml::Value::String(text.clone()).to_string();
        let endpoints = &self.0.seat.endpoints().unwrap_or_else(|| endpoints.clone());
        let endpoints: Vec<String> = endpoints.iter().map(quoted).collect();
        Some(format!(
            "[catalog]\netcd = [{}]\nprefix = {}\n",
            endpoints.join(", "),
            quoted(prefix)
        ))
    }

    fn move_to(
        &self,
        endpoints: Vec<String>,
        prefix: String,
    ) -> LocalBoxFuture<'static, Result<Moved, String>> {
        let inner = self.0.clone();
        Box::pin(async move { inner.move_to(endpoints, prefix).await })
    }
}
