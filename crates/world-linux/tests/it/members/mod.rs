//! A cluster's authority and those it signs for.

use identity::{Authority, CLIENT_DAYS, Credentials, KeyRequest, NODE_DAYS};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use world::{Caller, Role};

/// An authority and a folder that goes at the end.
pub struct Cluster {
    pub authority: Authority,
    folder: PathBuf,
}

impl Cluster {
    pub fn new(name: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("members-{name}-{}-{number}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        let authority = Authority::make("test").unwrap();
        Self { authority, folder }
    }

    pub fn node(&self, name: &str) -> Arc<Credentials> {
        self.signed_by(&self.authority, Role::Node, name, NODE_DAYS)
    }

    pub fn client(&self, role: Role, name: &str) -> Arc<Credentials> {
        self.signed_by(&self.authority, role, name, CLIENT_DAYS)
    }

    /// Credentials that believe this cluster's authority and are signed by any.
    pub fn signed_by(&self, by: &Authority, role: Role, name: &str, days: u32) -> Arc<Credentials> {
        let key = KeyRequest::make().unwrap();
        let caller = Caller::new(role, name.to_owned());
        let signed = by.sign(&key.request, &caller, days).unwrap();
        let folder = self.folder.join(format!("{role}-{name}"));
        key.store(&folder, &signed, self.authority.certificate())
            .unwrap();
        Credentials::read(&folder).unwrap()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
