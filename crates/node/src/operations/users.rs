//! Users, sessions and the audit log. Passwords are hashed and compared, and secrets made, before operations come here.

use super::{Result, catalog_error};
use crate::host::Host;
use api::sort::{Key, Order, Part};
use api::users::{AUDIT_LIMIT_MAX, SESSION_ID_DIGITS};
use api::{
    Answer, AuditEntry, AuditQuery, AuditSort, ErrorKind, OpenSessionAnswer, OperationError,
    SessionAnswer, UserAnswer, UserCredential, UserRole,
};
use catalog::{AUDIT_ROWS_MAX, AuditLog, AuditRow, SessionRow, UserRow, Versioned};

/// How long a session counts.
const SESSION_MS: u64 = 12 * 3600 * 1000;
/// Entries of the audit log in an answer when nothing is said.
const AUDIT_LIMIT: u32 = 100;

pub(super) fn role_of(row: &UserRow) -> Result<UserRole> {
    UserRole::parse(&row.role).ok_or_else(|| {
        OperationError::failed(format!(
            "user {} has the role {}, which this release does not know: are all nodes of one release?",
            row.name, row.role
        ))
    })
}

fn describe_session(session: &SessionRow, user: &UserRow) -> Result<Answer> {
    Ok(Answer::Session(SessionAnswer {
        who: Some(format!("user {}", user.name)),
        user: Some(user.name.clone()),
        scope: Some(role_of(user)?.scope()),
        expires_ms: Some(session.expires_ms),
    }))
}

/// The id of a session, from the hash of its secret.
fn session_id(hash: &str) -> &str {
    hash.get(..SESSION_ID_DIGITS).unwrap_or(hash)
}

fn no_session() -> OperationError {
    let reason = "the session has ended: log in again";
    OperationError::new(ErrorKind::Unauthenticated, reason)
}

impl Host {
    fn now_ms(&self) -> u64 {
        self.world.clock.unix_ms()
    }

    async fn describe_user(&self, row: &UserRow, version: Option<u64>) -> Result<UserAnswer> {
        let sessions = self.catalog.list::<SessionRow>().await;
        self.describe_with(row, version, &sessions.map_err(catalog_error)?)
    }

    fn describe_with(
        &self,
        row: &UserRow,
        version: Option<u64>,
        sessions: &[Versioned<SessionRow>],
    ) -> Result<UserAnswer> {
        let now = self.now_ms();
        let open = sessions
            .iter()
            .filter(|session| session.row.counts(row, now));
        Ok(UserAnswer {
            name: row.name.clone(),
            role: role_of(row)?,
            created_ms: row.created_ms,
            sessions: open.count() as u32,
            version,
        })
    }

    pub(super) async fn create_user(
        &self,
        name: String,
        role: UserRole,
        password: String,
    ) -> Result<Answer> {
        let row = UserRow {
            name,
            role: role.to_string(),
            password,
            created_ms: self.now_ms(),
            generation: self.world.rng.next_u64() >> 1,
        };
        self.catalog
            .create_user(&row)
            .await
            .map_err(catalog_error)?;
        self.accounts.set_user(&row.name, Some(row.clone()));
        let version = self.catalog.version_if_still(&row).await;
        Ok(Answer::User(self.describe_user(&row, version).await?))
    }

    pub(super) async fn list_users(&self) -> Result<Answer> {
        let rows = self
            .catalog
            .list::<UserRow>()
            .await
            .map_err(catalog_error)?;
        let sessions = self.catalog.list::<SessionRow>().await;
        let sessions = sessions.map_err(catalog_error)?;
        let describe = |found: &Versioned<UserRow>| {
            let version = Some(self.catalog.version_of(found));
            self.describe_with(&found.row, version, &sessions)
        };
        let users: Result<Vec<UserAnswer>> = rows.iter().map(describe).collect();
        Ok(Answer::Users(users?))
    }

    pub(super) async fn show_user(&self, name: &str) -> Result<Answer> {
        let found = self.catalog.user(name).await.map_err(catalog_error)?;
        let version = Some(self.catalog.version_of(&found));
        Ok(Answer::User(self.describe_user(&found.row, version).await?))
    }

    pub(super) async fn set_user(
        &self,
        name: &str,
        role: Option<UserRole>,
        password: Option<&str>,
    ) -> Result<Answer> {
        if role.is_none() && password.is_none() {
            return Err(OperationError::bad_request(
                "nothing is to change: give a role or a password",
            ));
        }
        let role = role.map(|role| role.to_string());
        let set = self.catalog.set_user(name, role.as_deref(), password);
        let row = set.await.map_err(catalog_error)?;
        self.accounts.set_user(name, Some(row.clone()));
        let version = self.catalog.version_if_still(&row).await;
        Ok(Answer::User(self.describe_user(&row, version).await?))
    }

    pub(super) async fn delete_user(&self, name: &str) -> Result<Answer> {
        self.catalog
            .delete_user(name)
            .await
            .map_err(catalog_error)?;
        self.accounts.set_user(name, None);
        Ok(Answer::Done)
    }

    pub(super) async fn find_user(&self, name: &str) -> Result<Answer> {
        let found = self.catalog.user(name).await.map_err(catalog_error)?.row;
        Ok(Answer::Credential(UserCredential {
            role: role_of(&found)?,
            name: found.name,
            password: found.password,
        }))
    }

    pub(super) async fn create_session(
        &self,
        user: &str,
        password: &str,
        hash: String,
    ) -> Result<Answer> {
        let found = self.catalog.user(user).await.map_err(catalog_error)?;
        // The password was compared a moment ago; another one, and it was compared in vain.
        if found.row.password != password {
            let reason = "the password was changed meanwhile: log in again";
            return Err(OperationError::new(ErrorKind::Unauthenticated, reason));
        }
        let now = self.now_ms();
        let row = SessionRow {
            hash,
            user: found.row.name.clone(),
            generation: found.row.generation,
            created_ms: now,
            expires_ms: now + SESSION_MS,
        };
        let begun = self.catalog.begin_session(&found, &row, now).await;
        begun.map_err(catalog_error)?;
        self.accounts.learn(row.clone(), found.row.clone());
        describe_session(&row, &found.row)
    }

    pub(super) async fn find_session(&self, hash: &str) -> Result<Answer> {
        let now = self.now_ms();
        if let Some((session, user)) = self.accounts.session(hash, now) {
            return describe_session(&session, &user);
        }
        let key = SessionRow::key_of(hash);
        let session = self.catalog.read::<SessionRow>(&key).await;
        let session = session.map_err(catalog_error)?;
        let session = session.ok_or_else(no_session)?.row;
        let key = UserRow::key_of(&session.user);
        let user = self.catalog.read::<UserRow>(&key).await;
        let user = user.map_err(catalog_error)?.ok_or_else(no_session)?.row;
        if !session.counts(&user, now) {
            return Err(no_session());
        }
        let answer = describe_session(&session, &user);
        self.accounts.learn(session, user);
        answer
    }

    pub(super) async fn delete_session(&self, hash: &str) -> Result<Answer> {
        self.catalog
            .end_session(hash)
            .await
            .map_err(catalog_error)?;
        self.accounts.forget(hash);
        Ok(Answer::Done)
    }

    /// Sessions that count, of one user or of all.
    async fn open_sessions(&self, user: Option<&str>) -> Result<Vec<SessionRow>> {
        let users = self.catalog.list::<UserRow>().await;
        let users = users.map_err(catalog_error)?;
        let sessions = self.catalog.list::<SessionRow>().await;
        let sessions = sessions.map_err(catalog_error)?;
        let now = self.now_ms();
        let counts = |session: &SessionRow| users.iter().any(|user| session.counts(&user.row, now));
        let rows = sessions.into_iter().map(|found| found.row);
        let wanted = rows.filter(|row| user.is_none_or(|user| user == row.user));
        Ok(wanted.filter(counts).collect())
    }

    pub(super) async fn list_sessions(&self, user: Option<&str>) -> Result<Answer> {
        let mut rows = self.open_sessions(user).await?;
        rows.sort_by_key(|row| std::cmp::Reverse((row.created_ms, row.hash.clone())));
        let describe = |row: SessionRow| OpenSessionAnswer {
            id: session_id(&row.hash).to_owned(),
            user: row.user,
            created_ms: row.created_ms,
            expires_ms: row.expires_ms,
            own: false,
        };
        Ok(Answer::Sessions(rows.into_iter().map(describe).collect()))
    }

    pub(super) async fn end_session(&self, id: &str, user: Option<&str>) -> Result<Answer> {
        let rows = self.open_sessions(user).await?;
        let found = rows.iter().find(|row| session_id(&row.hash) == id);
        let found = found.ok_or_else(|| {
            OperationError::not_found(format!(
                "there is no session {id}, or it has ended: `azekura session list` shows those that count"
            ))
        })?;
        self.delete_session(&found.hash).await
    }

    pub(super) async fn record_audit(&self, entries: Vec<AuditEntry>) -> Result<Answer> {
        let value = |entry| serde_json::to_value(entry).expect("entries are plain data");
        let (drivers, people): (Vec<_>, Vec<_>) =
            entries.into_iter().partition(|entry| entry.driver);
        for (log, entries) in [(AuditLog::People, people), (AuditLog::Drivers, drivers)] {
            let values: Vec<serde_json::Value> = entries.into_iter().map(value).collect();
            for batch in values.chunks(catalog::AUDIT_BATCH_MAX) {
                let appended = self.catalog.append_audit(log, batch).await;
                appended.map_err(catalog_error)?;
            }
        }
        Ok(Answer::Done)
    }

    pub(super) async fn list_audit(&self, query: AuditQuery) -> Result<Answer> {
        let limit = query.limit.unwrap_or(AUDIT_LIMIT);
        if !(1..=AUDIT_LIMIT_MAX).contains(&limit) {
            return Err(OperationError::bad_request(format!(
                "`limit` is 1 to {AUDIT_LIMIT_MAX}"
            )));
        }
        let log = match query.drivers {
            true => AuditLog::Drivers,
            false => AuditLog::People,
        };
        if query.is_selective() {
            return self.select_audit(log, &query, limit as usize).await;
        }
        let rows = self.catalog.audit(log, query.before, limit as usize).await;
        let rows = rows.map_err(catalog_error)?.into_iter();
        Ok(Answer::Audit(rows.map(audit_entry).collect()))
    }

    /// Entries that pass filters, in an order: all that are kept are read for it.
    async fn select_audit(
        &self,
        log: AuditLog,
        query: &AuditQuery,
        limit: usize,
    ) -> Result<Answer> {
        let rows = self.catalog.audit(log, None, AUDIT_ROWS_MAX as usize).await;
        let rows = rows.map_err(catalog_error)?.into_iter();
        let all = rows.map(audit_entry).collect();
        let part = Part {
            order: query.sort.map_or(Order::NEWEST, AuditSort::order),
            after: query.before,
            limit,
        };
        let kept = part.of(all, |entry| entry.id, audit_key, |entry| query.wants(entry));
        Ok(Answer::Audit(kept?))
    }
}

fn audit_entry(row: AuditRow) -> AuditEntry {
    AuditEntry {
        id: row.id,
        // Written by another release: what it knows more is left out, what it lacks is empty.
        ..serde_json::from_value(row.entry).unwrap_or_default()
    }
}

/// What an entry has in a field that the audit log can be ordered by.
fn audit_key(entry: &AuditEntry, field: &str) -> Key {
    match field {
        "who" => entry.who.as_str().into(),
        "operation" => entry.operation.as_str().into(),
        "subject" => entry.subject.as_str().into(),
        "outcome" => entry.outcome.as_str().into(),
        _ => Key::Nothing,
    }
}
