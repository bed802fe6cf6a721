//! The one that signs the cluster's certificates.
//!
//! On disk: one file with the private key, the authority's certificate and, after a rotation, a cross certificate: the
//! new authority's key, signed by the old one. Whoever knows only the old authority believes the new one by it.

use crate::certificate::{Certificate, fingerprint, limit_uris, split, uri_of};
use crate::files::{read_private, write_private};
use crate::{IdentityError, NODE_NAME};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData,
    SanType,
};
use std::path::Path;
use std::time::{Duration, SystemTime};
use world::{Caller, Role};

/// Validity of an authority: rotate it sooner.
const AUTHORITY_DAYS: u32 = 3650;
/// Validity of a node's certificate; nodes renew after two thirds of it.
pub const NODE_DAYS: u32 = 90;
/// Validity of other certificates, unless said otherwise.
pub const CLIENT_DAYS: u32 = 365;
/// Clocks of a cluster may differ by so much.
const SKEW: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);
/// Addresses and host names of one node.
const HOSTS_MAX: usize = 8;
/// Containers and Kubernetes clusters that one certificate names: some 4 KiB with the longest names, sent with each connection.
const LIMITS_MAX: usize = 64;

/// An authority with its private key.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
    cross: Option<String>,
    fingerprint: String,
    name: String,
}

fn bad(error: rcgen::Error) -> IdentityError {
    IdentityError::odd("the cluster's authority", error)
}

fn named(common: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common);
    name
}

fn valid_for(params: &mut CertificateParams, duration: Duration) {
    let now = SystemTime::now();
    params.not_before = (now - SKEW).into();
    params.not_after = (now + duration).into();
}

fn authority_params(cluster: &str, key: &KeyPair) -> CertificateParams {
    let mut params = CertificateParams::default();
    // The name tells authorities of one cluster apart: chains are found by names.
    let mark = fingerprint(key.der_bytes());
    params.distinguished_name = named(&format!("Azekura {cluster} {}", &mark[..16]));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(1));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    valid_for(&mut params, DAY * AUTHORITY_DAYS);
    params
}

impl Authority {
    /// A new one, for a new cluster.
    ///
    /// # Errors
    /// When the kernel gives no randomness.
    pub fn make(cluster: &str) -> Result<Self, IdentityError> {
        let key = KeyPair::generate().map_err(bad)?;
        let params = authority_params(cluster, &key);
        let certificate = params.self_signed(&key).map_err(bad)?;
        Self::of(key, certificate.pem(), None)
    }

    /// A new one in the place of this, which vouches for it.
    ///
    /// # Errors
    /// As [`Authority::make`].
    pub fn successor(&self, cluster: &str) -> Result<Self, IdentityError> {
        let key = KeyPair::generate().map_err(bad)?;
        let params = authority_params(cluster, &key);
        let own = params.self_signed(&key).map_err(bad)?;
        let cross = params.signed_by(&key, &self.issuer).map_err(bad)?;
        Self::of(key, own.pem(), Some(cross.pem()))
    }

    fn of(key: KeyPair, certificate: String, cross: Option<String>) -> Result<Self, IdentityError> {
        let der = split("the authority", &certificate)?.remove(0);
        let issuer = Issuer::from_ca_cert_der(&der, key).map_err(bad)?;
        Ok(Self {
            issuer,
            certificate,
            cross,
            fingerprint: fingerprint(&der),
            name: Certificate::parse(&der)?.subject,
        })
    }

    /// Reads what [`Authority::to_pem`] wrote.
    ///
    /// # Errors
    /// [`IdentityError::Odd`].
    pub fn parse(pem: &str) -> Result<Self, IdentityError> {
        let key = KeyPair::from_pem(pem).map_err(bad)?;
        let blocks = blocks(pem);
        let own = blocks.first().ok_or_else(|| {
            IdentityError::odd(
                "the cluster's authority",
                "there is no certificate beside the key",
            )
        })?;
        let der = split("the authority", own)?.remove(0);
        let spki = key.subject_public_key_info();
        if !der.windows(spki.len()).any(|part| part == spki) {
            let problem = "the key and the certificate do not belong together";
            return Err(IdentityError::odd("the cluster's authority", problem));
        }
        Self::of(key, own.clone(), blocks.get(1).cloned())
    }

    /// Reads the file at `path`.
    ///
    /// # Errors
    /// [`IdentityError`].
    pub fn read(path: &Path) -> Result<Self, IdentityError> {
        Self::parse(&read_private(path)?)
    }

    /// Writes the file at `path`.
    ///
    /// # Errors
    /// [`IdentityError::File`].
    pub fn write(&self, path: &Path) -> Result<(), IdentityError> {
        write_private(path, &self.to_pem())
    }

    /// Everything of it, the private key included.
    #[must_use]
    pub fn to_pem(&self) -> String {
        let cross = self.cross.as_deref().unwrap_or_default();
        format!(
            "{}{}{cross}",
            self.issuer.key().serialize_pem(),
            self.certificate
        )
    }

    /// Its certificate.
    #[must_use]
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// Its name, as certificates name who has signed them.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// SHA-256 of its certificate, in hexadecimal digits.
    #[must_use]
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// Signs a request (PKCS #10, PEM). Of the names in the request a node gets its addresses and host names, at which its
    /// etcd is reached by others; all other names are not looked at. Its signature is, so that the asker has the key. Returns the certificate and what is needed to believe it.
    ///
    /// # Errors
    /// [`IdentityError::Odd`] when the request cannot be used.
    pub fn sign(&self, request: &str, caller: &Caller, days: u32) -> Result<String, IdentityError> {
        let odd = |error: rcgen::Error| IdentityError::odd("the request for a certificate", error);
        let request = CertificateSigningRequestParams::from_pem(request).map_err(odd)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = named(&caller.name);
        let uri = SanType::URI(uri_of(caller).try_into().map_err(odd)?);
        params.subject_alt_names = vec![uri];
        let limits: Vec<String> = limit_uris(&caller.limits).collect();
        if limits.len() > LIMITS_MAX {
            let problem = format!("it is limited to more than {LIMITS_MAX} names");
            return Err(IdentityError::odd("the request for a certificate", problem));
        }
        for limit in limits {
            let uri = SanType::URI(limit.try_into().map_err(odd)?);
            params.subject_alt_names.push(uri);
        }
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        if caller.role == Role::Node {
            let name = SanType::DnsName(NODE_NAME.try_into().map_err(odd)?);
            params.subject_alt_names.push(name);
            let asked = request.params.subject_alt_names.iter();
            let hosts = asked.filter(|name| is_host(name)).take(HOSTS_MAX);
            params.subject_alt_names.extend(hosts.cloned());
            params
                .extended_key_usages
                .push(ExtendedKeyUsagePurpose::ServerAuth);
        }
        params.use_authority_key_identifier_extension = true;
        valid_for(&mut params, DAY * days);
        let signed = params
            .signed_by(&request.public_key, &self.issuer)
            .map_err(odd)?;
        // The authority itself goes along: who joins knows its fingerprint only.
        let cross = self.cross.as_deref().unwrap_or_default();
        Ok(format!("{}{cross}{}", signed.pem(), self.certificate))
    }
}

/// Whether a name is an address or the name of one host.
fn is_host(name: &SanType) -> bool {
    match name {
        SanType::IpAddress(_) => true,
        SanType::DnsName(name) => !name.as_str().contains('*') && name.as_str() != NODE_NAME,
        _ => false,
    }
}

/// The certificates of a PEM text, each as one.
fn blocks(pem: &str) -> Vec<String> {
    const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
    let parts = pem.split(BEGIN).skip(1);
    parts
        .map(|part| format!("{BEGIN}{}\n", part.trim_end()))
        .collect()
}
