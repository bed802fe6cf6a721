//! A certificate that opened a connection: whether it is still believed.

use crate::{Credentials, Loaded, fingerprint};
use rustls::pki_types::CertificateDer;
use std::sync::{Arc, Mutex, PoisonError};

/// What the one at the other end of a connection has shown.
pub struct Shown {
    chain: Vec<CertificateDer<'static>>,
    fingerprint: String,
    credentials: Arc<Credentials>,
    /// What was believed when it was looked at last.
    looked: Mutex<(Arc<Loaded>, bool)>,
}

impl Shown {
    /// What opened a connection to the owner of `credentials`. It was verified then, and is looked at again when they change.
    #[must_use]
    pub fn new(credentials: Arc<Credentials>, chain: &[CertificateDer<'_>]) -> Self {
        let chain: Vec<_> = chain.iter().map(|part| part.clone().into_owned()).collect();
        let now = credentials.last();
        let believed = now.believes(&chain);
        let first = chain.first();
        Self {
            fingerprint: first.map_or_else(String::new, |first| fingerprint(first)),
            chain,
            credentials,
            looked: Mutex::new((now, believed)),
        }
    }

    /// SHA-256 of the certificate, in hexadecimal digits; empty: there is none.
    #[must_use]
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// Whether the authorities that are believed now still stand for it. Looks at no files and computes only after a change,
    /// then for less than a millisecond.
    #[must_use]
    pub fn is_believed(&self) -> bool {
        let now = self.credentials.last();
        let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        if !Arc::ptr_eq(&looked.0, &now) {
            let believed = now.believes(&self.chain);
            *looked = (now, believed);
        }
        looked.1
    }
}
