//! The cluster's authority on a node that signs, and this node's own certificate through its life.

use ::node::{Host, Signer};
use anyhow::Context;
use identity::{AUTHORITIES_FILE, Authority, Credentials, KeyRequest, Loaded, NODE_DAYS};
use std::cell::RefCell;
use std::fmt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use world::{Caller, Role, Time, World};

/// How often the authorities and this node's certificate are looked at: one row of the catalog.
const INTERVAL: Duration = Duration::from_secs(10);
/// How often it is told that a certificate cannot be renewed.
const TELL_EVERY: Duration = Duration::from_secs(3600);

/// The authority in a file. Its successor lies beside it until the catalog names it.
pub struct FileSigner {
    cluster: String,
    path: PathBuf,
    current: RefCell<Authority>,
}

impl fmt::Debug for FileSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FileSigner({})", self.path.display())
    }
}

impl FileSigner {
    /// Reads the file.
    pub fn read(cluster: &str, path: &Path) -> anyhow::Result<Self> {
        let read = Authority::read(path);
        let current = read.with_context(|| {
            format!(
                "cannot use the authority in {} (`tls.authority`)",
                path.display()
            )
        })?;
        Ok(Self {
            cluster: cluster.to_owned(),
            path: path.to_owned(),
            current: RefCell::new(current),
        })
    }

    fn next(&self) -> PathBuf {
        let mut next = self.path.clone().into_os_string();
        next.push(".next");
        next.into()
    }
}

impl Signer for FileSigner {
    fn fingerprint(&self) -> String {
        self.current.borrow().fingerprint().to_owned()
    }

    fn certificate(&self) -> String {
        self.current.borrow().certificate().to_owned()
    }

    fn name(&self) -> String {
        self.current.borrow().name().to_owned()
    }

    fn sign_node(&self, name: &str, request: &str) -> Result<String, String> {
        let caller = Caller::new(Role::Node, name.to_owned());
        let signed = self.current.borrow().sign(request, &caller, NODE_DAYS);
        signed.map_err(|error| error.to_string())
    }

    fn prepare(&self) -> Result<(String, String, String), String> {
        let make = || {
            let next = self.current.borrow().successor(&self.cluster)?;
            next.write(&self.next())?;
            Ok::<_, identity::IdentityError>(next)
        };
        let next = make().map_err(|error| error.to_string())?;
        let (certificate, fingerprint) = (next.certificate(), next.fingerprint());
        Ok((
            certificate.to_owned(),
            fingerprint.to_owned(),
            next.name().to_owned(),
        ))
    }

    fn adopt(&self, fingerprint: &str) -> bool {
        // The file itself may have been replaced, by hand or by a start that did not get further.
        for path in [self.path.clone(), self.next()] {
            let Ok(found) = Authority::read(&path) else {
                continue;
            };
            if found.fingerprint() != fingerprint {
                continue;
            }
            if path != self.path
                && let Err(error) = std::fs::rename(&path, &self.path)
            {
                tracing::warn!(%error, path = %path.display(), "the new authority stays in its first file");
            }
            self.current.replace(found);
            return true;
        }
        false
    }
}

/// What the credentials say of themselves.
#[derive(Clone, PartialEq, Eq)]
struct Shown {
    issuer: String,
    until: i64,
}

impl Shown {
    fn of(loaded: &Loaded) -> Self {
        Self {
            issuer: loaded.issuer.clone(),
            until: loaded.until,
        }
    }
}

/// Keeps this node's certificate and its authorities as the cluster wants them, for as long as the node runs. `hosts`: the
/// addresses that must be in it.
pub async fn keep(world: World, host: Rc<Host>, credentials: Arc<Credentials>, hosts: Vec<String>) {
    let mut noted: Option<Shown> = None;
    let mut told_at: Option<Time> = None;
    loop {
        if let Err(error) = look(&world, &host, &credentials, &hosts, &mut noted).await {
            let recent = told_at.is_some_and(|at| world.now().since(at) < TELL_EVERY);
            if !recent {
                told_at = Some(world.now());
                tracing::warn!(
                    error = format!("{error:#}"),
                    "this node's certificate is not kept"
                );
            }
        }
        world.sleep(INTERVAL).await;
    }
}

async fn look(
    world: &World,
    host: &Rc<Host>,
    credentials: &Arc<Credentials>,
    hosts: &[String],
    noted: &mut Option<Shown>,
) -> anyhow::Result<()> {
    let own = credentials.clone();
    let loaded = world.offload(move || own.current()).await;
    let wanted = host.authority().await?;
    if wanted.authorities != loaded.authorities {
        let (path, text) = (
            credentials.folder().join(AUTHORITIES_FILE),
            wanted.authorities.clone(),
        );
        let written = world
            .offload(move || identity::write_public(&path, &text))
            .await;
        written.context("the authorities cannot be written")?;
        tracing::info!("the authorities that are believed have changed");
    }
    let now = i64::try_from(world.clock.unix_ms() / 1000).unwrap_or(i64::MAX);
    if is_due(&loaded, &wanted.signer_name, hosts, now) {
        renew(world, host, credentials, hosts).await?;
    }
    let own = credentials.clone();
    let shown = Shown::of(&*world.offload(move || own.current()).await);
    if noted.as_ref() != Some(&shown) {
        let until_ms = u64::try_from(shown.until).unwrap_or(0) * 1000;
        host.note_certificate(&shown.issuer, until_ms).await?;
        *noted = Some(shown);
    }
    Ok(())
}

/// Whether a certificate should be renewed: another authority signs now, a third of its time is left, or an address is
/// missing.
fn is_due(loaded: &Loaded, signer: &str, hosts: &[String], now: i64) -> bool {
    let life = loaded.until.saturating_sub(loaded.from);
    let lacks = hosts.iter().any(|host| !loaded.hosts.contains(host));
    lacks || loaded.issuer != signer || loaded.until.saturating_sub(now) < life / 3
}

async fn renew(
    world: &World,
    host: &Rc<Host>,
    credentials: &Arc<Credentials>,
    hosts: &[String],
) -> anyhow::Result<()> {
    let hosts = hosts.to_vec();
    let key = world.offload(move || KeyRequest::make_for(&hosts)).await?;
    let answer = host.renew_certificate(key.request.clone()).await;
    let answer = answer.context("no new certificate")?;
    let folder = credentials.folder().to_owned();
    let stored =
        world.offload(move || key.store(&folder, &answer.certificate, &answer.authorities));
    stored.await.context("the new certificate cannot be kept")?;
    tracing::info!("this node has a new certificate");
    Ok(())
}
