//! Users and sessions as this node last heard of them, so that a request with a session asks nobody.
//!
//! Only nodes that serve the API follow them. What is not found here is looked for in the catalog: a session may have begun on
//! another node a moment ago.
//!
//! Invariants
//! - A session is believed while the user's row as known here has its generation; changes arrive by watches, within
//!   milliseconds, and everything is read again every ten seconds.
//! - While the catalog is out of reach what was known stays: whoever has logged in can look at the cluster then, too, and
//!   a session that is ended meanwhile elsewhere counts here until the catalog answers or its time is up.

use crate::host::Host;
use crate::membership::{CATALOG_PATIENCE, RELOAD_AFTER, RETRY_PAUSE, list};
use catalog::kv::Revision;
use catalog::{CatalogError, Row, SessionRow, UserRow};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

/// Both kinds of rows.
#[derive(Default)]
pub(crate) struct Accounts {
    users: RefCell<BTreeMap<String, UserRow>>,
    sessions: RefCell<BTreeMap<String, SessionRow>>,
    followed: Cell<bool>,
}

impl Accounts {
    /// The session with this hash and its user, if both are known here and it counts.
    pub(crate) fn session(&self, hash: &str, now_ms: u64) -> Option<(SessionRow, UserRow)> {
        if !self.followed.get() {
            return None;
        }
        let session = self.sessions.borrow().get(hash)?.clone();
        let user = self.users.borrow().get(&session.user)?.clone();
        session.counts(&user, now_ms).then_some((session, user))
    }

    /// Takes over what this node has just read or written itself.
    pub(crate) fn learn(&self, session: SessionRow, user: UserRow) {
        if self.followed.get() {
            self.users.borrow_mut().insert(user.name.clone(), user);
            let hash = session.hash.clone();
            self.sessions.borrow_mut().insert(hash, session);
        }
    }

    /// Whether the sessions of a user that count here are of this row: of the same user, with the same password and role.
    pub(crate) fn is_current(&self, user: &UserRow) -> bool {
        let users = self.users.borrow();
        let known = users.get(&user.name);
        let same = |known: &UserRow| {
            (known.created_ms, known.generation) == (user.created_ms, user.generation)
        };
        !self.followed.get() || known.is_some_and(same)
    }

    /// Forgets a session that this node has ended.
    pub(crate) fn forget(&self, hash: &str) {
        self.sessions.borrow_mut().remove(hash);
    }

    /// Takes over a user that this node has changed; nothing: deleted.
    pub(crate) fn set_user(&self, name: &str, row: Option<UserRow>) {
        let mut users = self.users.borrow_mut();
        match row {
            Some(row) => drop(users.insert(name.to_owned(), row)),
            None => drop(users.remove(name)),
        }
    }
}

/// Reads both kinds once, then keeps following them in the background.
pub(crate) async fn follow_all(host: &Rc<Host>) -> Result<(), CatalogError> {
    let users = load_users(host).await?;
    let sessions = load_sessions(host).await?;
    host.accounts.followed.set(true);
    host.spawn(follow(host.clone(), UserRow::PREFIX, users));
    host.spawn(follow(host.clone(), SessionRow::PREFIX, sessions));
    Ok(())
}

async fn load_users(host: &Host) -> Result<Revision, CatalogError> {
    let (rows, revision) = list::<UserRow>(host.catalog.kv()).await?;
    let rows = rows.into_iter().map(|row| (row.name.clone(), row));
    host.accounts.users.replace(rows.collect());
    Ok(revision)
}

async fn load_sessions(host: &Host) -> Result<Revision, CatalogError> {
    let (rows, revision) = list::<SessionRow>(host.catalog.kv()).await?;
    let rows = rows.into_iter().map(|row| (row.hash.clone(), row));
    host.accounts.sessions.replace(rows.collect());
    Ok(revision)
}

async fn follow(host: Rc<Host>, prefix: &'static str, mut revision: Revision) {
    loop {
        let mut watch = host.catalog.kv().watch(prefix, revision);
        loop {
            let next = host.world.timeout(RELOAD_AFTER, watch.next()).await;
            let compacted = matches!(next, Ok(Err(_)));
            let load = async {
                match prefix == UserRow::PREFIX {
                    true => load_users(&host).await,
                    false => load_sessions(&host).await,
                }
            };
            match host.world.timeout(CATALOG_PATIENCE, load).await {
                Ok(Ok(seen)) => revision = seen,
                Ok(Err(_)) | Err(_) => host.world.sleep(RETRY_PAUSE).await,
            }
            if compacted {
                break;
            }
        }
    }
}
