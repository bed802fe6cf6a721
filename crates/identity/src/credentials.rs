//! What one member of the cluster, or one client of it, shows and believes.
//!
//! On disk: a folder of two files. `identity.pem` has the private key and the certificate with what is needed to believe
//! it; `ca.pem` has the authorities that are believed. Each is replaced in one step. In memory: what was read last
//! ([`Loaded`]), which connections that exist keep.

use crate::certificate::{Certificate, caller_of, fingerprint, split};
use crate::files::{failed, read, read_private, write_private, write_public};
use crate::{IdentityError, NODE_NAME, provider};
use rcgen::{CertificateParams, KeyPair};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::version::TLS13;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::SystemTime;
use world::Caller;

/// Name of the file with the private key and the certificate.
pub const IDENTITY_FILE: &str = "identity.pem";
/// Name of the file with the authorities that are believed.
pub const AUTHORITIES_FILE: &str = "ca.pem";

/// A new private key and the request to sign it.
pub struct KeyRequest {
    key: String,
    /// PKCS #10, PEM.
    pub request: String,
}

impl KeyRequest {
    /// Makes a key (ECDSA on P-256).
    ///
    /// # Errors
    /// When the kernel gives no randomness.
    pub fn make() -> Result<Self, IdentityError> {
        Self::make_for(&[])
    }

    /// As [`KeyRequest::make`], for a node that is reached at these addresses and host names by programs that compare them.
    ///
    /// # Errors
    /// As there, and when one of them is neither.
    pub fn make_for(hosts: &[String]) -> Result<Self, IdentityError> {
        let odd = |error: rcgen::Error| IdentityError::odd("a new private key", error);
        let key = KeyPair::generate().map_err(odd)?;
        let params = CertificateParams::new(hosts.to_vec()).map_err(odd)?;
        let request = params.serialize_request(&key);
        let request = request.and_then(|request| request.pem()).map_err(odd)?;
        Ok(Self {
            key: key.serialize_pem(),
            request,
        })
    }

    /// Writes the files of a folder: the key with its certificate, and the authorities to believe. The authorities first:
    /// a process that is killed in between believes more and shows the same.
    ///
    /// # Errors
    /// [`IdentityError`].
    pub fn store(
        self,
        folder: &Path,
        certificate: &str,
        authorities: &str,
    ) -> Result<(), IdentityError> {
        // Before anything is replaced: a certificate for another key would be found out at the next start only.
        load(&format!("{}{certificate}", self.key), authorities, folder)?;
        std::fs::create_dir_all(folder).map_err(failed(folder))?;
        write_public(&folder.join(AUTHORITIES_FILE), authorities)?;
        write_private(&folder.join(IDENTITY_FILE), &(self.key + certificate))
    }
}

/// What the files said when they were read.
pub struct Loaded {
    /// Whose they are.
    pub caller: Caller,
    /// From when on the certificate holds, Unix seconds.
    pub from: i64,
    /// Until when the certificate holds, Unix seconds.
    pub until: i64,
    /// Name of the authority that has signed it.
    pub issuer: String,
    /// Addresses and host names in it.
    pub hosts: Vec<String>,
    /// The authorities that are believed, PEM.
    pub authorities: String,
    /// To call nodes.
    pub client: Arc<ClientConfig>,
    /// To be called by members and clients: without a certificate there is no connection.
    pub server: Arc<ServerConfig>,
    /// To be called by anybody, who may show a certificate.
    pub open_server: Arc<ServerConfig>,
    pub(crate) verifier: Arc<dyn ClientCertVerifier>,
}

/// A folder of files, and what they said last.
pub struct Credentials {
    folder: PathBuf,
    state: RwLock<(Stamp, Arc<Loaded>)>,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Credentials({})", self.folder.display())
    }
}

/// Tells versions of the files apart.
type Stamp = [Option<(SystemTime, u64)>; 2];

fn stamp(folder: &Path) -> Stamp {
    use std::os::unix::fs::MetadataExt;
    [IDENTITY_FILE, AUTHORITIES_FILE].map(|name| {
        let found = std::fs::metadata(folder.join(name)).ok()?;
        Some((found.modified().ok()?, found.ino()))
    })
}

impl Credentials {
    /// Reads the files of a folder.
    ///
    /// # Errors
    /// [`IdentityError`].
    pub fn read(folder: &Path) -> Result<Arc<Self>, IdentityError> {
        let stamp = stamp(folder);
        let loaded = load_folder(folder)?;
        Ok(Arc::new(Self {
            folder: folder.to_owned(),
            state: RwLock::new((stamp, Arc::new(loaded))),
        }))
    }

    /// Where the files are.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What holds now: the files are read again when they have changed. Files that cannot be read are told of, and what
    /// was read before goes on to hold. Asks the file system: not for the thread of a shard.
    pub fn current(&self) -> Arc<Loaded> {
        let now = stamp(&self.folder);
        {
            let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
            if state.0 == now {
                return state.1.clone();
            }
        }
        let loaded = load_folder(&self.folder);
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        // Told once for each change.
        state.0 = now;
        match loaded {
            Ok(loaded) => state.1 = Arc::new(loaded),
            Err(error) => {
                tracing::warn!(%error, "changed credentials cannot be used; the old ones stay")
            }
        }
        state.1.clone()
    }

    /// What was read last, without a look at the files.
    pub fn last(&self) -> Arc<Loaded> {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        state.1.clone()
    }
}

fn load_folder(folder: &Path) -> Result<Loaded, IdentityError> {
    let identity = read_private(&folder.join(IDENTITY_FILE))?;
    let authorities = read(&folder.join(AUTHORITIES_FILE))?;
    load(&identity, &authorities, folder)
}

fn load(identity: &str, authorities: &str, folder: &Path) -> Result<Loaded, IdentityError> {
    let what = folder.join(IDENTITY_FILE).display().to_string();
    let chain = split(&what, identity)?;
    let caller = caller_of(&chain)?;
    let own = Certificate::parse(&chain[0])?;
    let key = || {
        let key = PrivateKeyDer::from_pem_slice(identity.as_bytes());
        key.map_err(|error| IdentityError::odd(&what, format!("no private key: {error}")))
    };
    let odd = |error: rustls::Error| IdentityError::odd(&what, error);
    let roots = roots(&folder.join(AUTHORITIES_FILE), authorities)?;
    let provider = provider();
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&TLS13])
        .map_err(odd)?;
    let mut client = builder
        .with_root_certificates(roots.clone())
        .with_client_auth_cert(chain.clone(), key()?)
        .map_err(odd)?;
    client.resumption = Resumption::disabled();
    let verifier = |demands: bool| {
        let verifier = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone());
        let verifier = match demands {
            true => verifier,
            false => verifier.allow_unauthenticated(),
        };
        let built = verifier.build();
        built.map_err(|error| IdentityError::odd(&what, error))
    };
    let demanding = verifier(true)?;
    let server = |verifier: Arc<dyn ClientCertVerifier>| {
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&TLS13])
            .map_err(odd)?;
        let server = builder.with_client_cert_verifier(verifier);
        let mut server = server
            .with_single_cert(chain.clone(), key()?)
            .map_err(odd)?;
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = 0;
        Ok::<_, IdentityError>(Arc::new(server))
    };
    Ok(Loaded {
        caller,
        from: own.from,
        until: own.until,
        issuer: own.issuer,
        hosts: own.hosts,
        authorities: authorities.to_owned(),
        client: Arc::new(client),
        server: server(demanding.clone())?,
        open_server: server(verifier(false)?)?,
        verifier: demanding,
    })
}

fn roots(path: &Path, pem: &str) -> Result<Arc<RootCertStore>, IdentityError> {
    let what = path.display().to_string();
    let mut roots = RootCertStore::empty();
    for authority in split(&what, pem)? {
        roots
            .add(authority)
            .map_err(|error| IdentityError::odd(&what, error))?;
    }
    Ok(Arc::new(roots))
}

/// To call a node of a cluster of which no more than the fingerprint of its authority is known. The node shows the
/// authority's certificate beside its own.
///
/// # Errors
/// When the cryptography cannot be set up.
pub fn pinned_client(fingerprint: &str) -> Result<Arc<ClientConfig>, IdentityError> {
    let odd = |error: rustls::Error| IdentityError::odd("TLS", error);
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(odd)?;
    let pin = Pin(fingerprint.to_owned());
    let mut client = builder
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(pin))
        .with_no_client_auth();
    client.resumption = Resumption::disabled();
    Ok(Arc::new(client))
}

/// Believes the authority with this fingerprint.
#[derive(Debug)]
struct Pin(String);

impl ServerCertVerifier for Pin {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let other = || {
            rustls::Error::General(
                "it belongs to another cluster than the token: make a new token, or check its addresses"
                    .to_owned(),
            )
        };
        let mut shown = intermediates.iter();
        let pinned = shown
            .find(|shown| fingerprint(shown) == self.0)
            .ok_or_else(other)?;
        let mut roots = RootCertStore::empty();
        roots.add(pinned.clone().into_owned())?;
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider());
        let verifier = verifier.build();
        let verifier = verifier.map_err(|error| rustls::Error::General(error.to_string()))?;
        verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp, now)
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General(
            "TLS 1.2 is not spoken here".to_owned(),
        ))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &provider().signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// The name that clients ask for.
pub(crate) fn node_name() -> ServerName<'static> {
    ServerName::try_from(NODE_NAME).expect("a constant that is a name")
}

impl Loaded {
    /// Begins to call a node.
    ///
    /// # Errors
    /// When the cryptography cannot be set up.
    pub fn call(&self) -> Result<rustls::ClientConnection, rustls::Error> {
        rustls::ClientConnection::new(self.client.clone(), node_name())
    }

    /// Whether who shows this chain, its own certificate first, is let in now.
    #[must_use]
    pub fn believes(&self, chain: &[CertificateDer<'_>]) -> bool {
        let Some((own, between)) = chain.split_first() else {
            return false;
        };
        let verified = self
            .verifier
            .verify_client_cert(own, between, UnixTime::now());
        verified.is_ok()
    }

    /// Begins to be called by somebody of the cluster.
    ///
    /// # Errors
    /// When the cryptography cannot be set up.
    pub fn answer(&self) -> Result<rustls::ServerConnection, rustls::Error> {
        rustls::ServerConnection::new(self.server.clone())
    }
}
