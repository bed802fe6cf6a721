//! A certificate that somebody else has signed, for the programs that do not know this cluster's authority: browsers.
//!
//! Clients of the cluster ask for [`NODE_NAME`] whatever address they call, and are shown the cluster's certificate. Who asks for a
//! name that this one holds for is shown this one.

use crate::certificate::{Certificate, split};
use crate::files::{read, read_private};
use crate::{IdentityError, NODE_NAME, provider};
use rustls::ServerConfig;
use rustls::client::verify_server_name;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{SystemTime, UNIX_EPOCH};

/// From so many seconds before its end on, the log says that a certificate is about to end.
const ENDS_SOON: i64 = 14 * DAY;

/// Tells versions of the files apart.
type Stamp = [Option<(SystemTime, u64)>; 2];

const DAY: i64 = 24 * 3600;

/// What the files said.
struct Loaded {
    key: Arc<CertifiedKey>,
    /// Until when it holds, Unix seconds.
    until: i64,
    /// The last day on which the log was told that it ends, or has ended.
    told: AtomicI64,
}

/// Two files, the certificate with those between it and its authority, and the private key; and what they said last. They are read
/// again when they have changed.
pub struct PublicCertificate {
    chain: PathBuf,
    key: PathBuf,
    state: RwLock<(Stamp, Arc<Loaded>)>,
}

impl std::fmt::Debug for PublicCertificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PublicCertificate({})", self.chain.display())
    }
}

impl PublicCertificate {
    /// Reads the files.
    ///
    /// # Errors
    /// [`IdentityError`], also when the key is another certificate's. One that has ended is told of, and not shown.
    pub fn read(chain: &Path, key: &Path) -> Result<Arc<Self>, IdentityError> {
        let stamp = stamp(chain, key);
        let loaded = load(chain, key)?;
        Ok(Arc::new(Self {
            chain: chain.to_owned(),
            key: key.to_owned(),
            state: RwLock::new((stamp, Arc::new(loaded))),
        }))
    }

    /// What holds now, if anything does. Files that cannot be used are told of, and what was read before goes on to hold. Asks
    /// the file system: not for the thread of a shard.
    fn current(&self) -> Option<Arc<CertifiedKey>> {
        let loaded = self.latest();
        let left = loaded.until - unix_seconds();
        if left < ENDS_SOON {
            let today = unix_seconds() / DAY;
            if loaded.told.swap(today, Ordering::Relaxed) != today {
                let (file, days) = (self.chain.display(), left.max(0) / DAY);
                tracing::warn!(%file, days, "the certificate for browsers is about to end, or has ended: renew it");
            }
        }
        (left > 0).then(|| loaded.key.clone())
    }

    fn latest(&self) -> Arc<Loaded> {
        let now = stamp(&self.chain, &self.key);
        {
            let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
            if state.0 == now {
                return state.1.clone();
            }
        }
        let loaded = load(&self.chain, &self.key);
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        // Told once for each change.
        state.0 = now;
        match loaded {
            Ok(loaded) => state.1 = Arc::new(loaded),
            Err(error) => {
                tracing::warn!(%error, "a changed certificate cannot be used; the old one stays");
            }
        }
        state.1.clone()
    }

    /// The configuration, in which who asks for a name of this certificate is shown it.
    #[must_use]
    pub fn beside(&self, server: &ServerConfig) -> Arc<ServerConfig> {
        let mut server = server.clone();
        if let Some(public) = self.current() {
            let own = server.cert_resolver.clone();
            server.cert_resolver = Arc::new(ByName { public, own });
        }
        Arc::new(server)
    }

    /// When what was shown last ends, Unix milliseconds. Asks no file system: a renewed file counts once somebody was shown it.
    #[must_use]
    pub fn until_ms(&self) -> u64 {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        u64::try_from(state.1.until)
            .unwrap_or(0)
            .saturating_mul(1000)
    }

    /// Whether somebody who asked for this name was shown this certificate.
    #[must_use]
    pub fn is_of(&self, name: Option<&str>) -> bool {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        state.1.until > unix_seconds() && holds_for(&state.1.key, name)
    }
}

fn stamp(chain: &Path, key: &Path) -> Stamp {
    [chain, key].map(|path| {
        let found = std::fs::metadata(path).ok()?;
        Some((found.modified().ok()?, found.ino()))
    })
}

fn load(chain_file: &Path, key_file: &Path) -> Result<Loaded, IdentityError> {
    let what = chain_file.display().to_string();
    let chain = split(&what, &read(chain_file)?)?;
    let facts = Certificate::parse(&chain[0])?;
    let key = PrivateKeyDer::from_pem_slice(read_private(key_file)?.as_bytes());
    let odd = |error: &dyn std::fmt::Display| {
        IdentityError::odd(key_file.display().to_string(), error.to_string())
    };
    let key = key.map_err(|error| odd(&format!("no private key: {error}")))?;
    let key = CertifiedKey::from_der(chain, key, &provider());
    let key = key.map_err(|error| odd(&format!("not the key of {what}: {error}")))?;
    Ok(Loaded {
        key: Arc::new(key),
        until: facts.until,
        told: AtomicI64::new(0),
    })
}

fn unix_seconds() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| i64::try_from(now.as_secs()).unwrap_or(i64::MAX))
}

fn holds_for(key: &CertifiedKey, name: Option<&str>) -> bool {
    let holds = || {
        // Clients of the cluster are shown its own certificate, whatever the operator's says.
        let name = name.filter(|name| *name != NODE_NAME)?;
        let name = ServerName::try_from(name).ok()?;
        let certificate = ParsedCertificate::try_from(key.cert.first()?).ok()?;
        verify_server_name(&certificate, &name).ok()
    };
    holds().is_some()
}

/// Chooses by the name that is asked for.
#[derive(Debug)]
struct ByName {
    public: Arc<CertifiedKey>,
    own: Arc<dyn ResolvesServerCert>,
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        match holds_for(&self.public, hello.server_name()) {
            true => Some(self.public.clone()),
            false => self.own.resolve(hello),
        }
    }
}
