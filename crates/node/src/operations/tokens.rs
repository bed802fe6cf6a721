//! Tokens: recorded, listed, found by the hash of their secret. The secret itself never comes here.
//!
//! Invariants
//! - A personal token allows what it was made for and what its user's role allows now, whichever is less.
//! - It counts while its user is there, in the catalog and not in what this node has heard of it.

use super::users::role_of;
use super::{Result, catalog_error};
use crate::host::Host;
use api::{Answer, ErrorKind, OperationError, Scope, TokenAnswer, TokenSpec, UserRole};
use catalog::{CatalogError, PERSONAL, Personal, TokenRow, UserRow, Versioned};

/// Hexadecimal digits of a hash of 256 bits.
const HASH_DIGITS: usize = 64;

fn scope_of(text: &str) -> Option<Scope> {
    [
        Scope::Admin,
        Scope::Operator,
        Scope::Viewer,
        Scope::Csi,
        Scope::Client,
    ]
    .into_iter()
    .find(|scope| scope.to_string() == text)
}

/// What a personal token allows now; nothing: it does not count.
fn personal_scope(whose: &Personal, user: &UserRow) -> Option<Scope> {
    if !whose.is_of(user) {
        return None;
    }
    let (most, now) = (UserRole::parse(&whose.role)?, UserRole::parse(&user.role)?);
    Some(most.min(now).scope())
}

/// What a row is, with that of the user whose it is; nothing: it does not count, or this release does not know its scope.
fn describe(row: &TokenRow, user: Option<&UserRow>) -> Option<TokenAnswer> {
    let scope = match &row.personal {
        Some(whose) => personal_scope(whose, user?)?,
        None => scope_of(&row.scope)?,
    };
    Some(TokenAnswer {
        name: row.name.clone(),
        scope,
        user: row.personal.as_ref().map(|whose| whose.user.clone()),
        containers: row.containers.clone(),
        kubernetes: row.kubernetes.clone(),
        all_containers: row.all_containers,
        created_ms: row.created_ms,
        token: None,
        version: None,
    })
}

/// What is wrong with the limits of a token that is wanted.
fn problem_of(spec: &TokenSpec) -> Option<&'static str> {
    let (containers, kubernetes) = (!spec.containers.is_empty(), !spec.kubernetes.is_empty());
    if spec.scope != Scope::Csi {
        return match (containers, kubernetes, spec.all_containers) {
            (true, _, _) => Some("only a token of scope csi is limited to containers"),
            (_, true, _) => Some("only a token of scope csi is limited to Kubernetes clusters"),
            (_, _, true) => {
                Some("only for a token of scope csi it is said that it is for all containers")
            }
            _ => None,
        };
    }
    match (containers, kubernetes, spec.all_containers) {
        (true, _, true) => Some("names containers and is to be for all of them: say one of both"),
        (false, false, false) => Some(
            "a token of scope csi needs limits: `containers`, `kubernetes` (the name that the driver is given by \
             --kubernetes-cluster), or both; or `all_containers`, if it is to reach every volume",
        ),
        _ => None,
    }
}

/// Whose a token is to be, if it may be what is asked for.
fn whose(spec: &TokenSpec, user: &UserRow) -> Result<Personal> {
    let Some(wanted) = UserRole::parse(&spec.scope.to_string()) else {
        return Err(OperationError::bad_request(format!(
            "a personal token has the scope viewer, operator or admin, as users have roles, and not {}",
            spec.scope
        )));
    };
    let may = role_of(user)?;
    if wanted > may {
        let message = format!(
            "user {} has the role {may}, and makes no personal token that allows more: ask for the scope {may} or less, or an \
             administrator for another role",
            user.name
        );
        return Err(OperationError::new(ErrorKind::Forbidden, message));
    }
    Ok(Personal {
        user: user.name.clone(),
        user_created_ms: user.created_ms,
        role: wanted.to_string(),
    })
}

/// Compares without a hint in the time it takes.
fn is_same(one: &str, other: &str) -> bool {
    let differs = one
        .bytes()
        .zip(other.bytes())
        .map(|(one, other)| one ^ other);
    one.len() == other.len() && differs.fold(0, |all, bits| all | bits) == 0
}

fn unknown() -> OperationError {
    OperationError::new(ErrorKind::Unauthenticated, "the token is not known")
}

impl Host {
    /// Records a token; a personal one of `user`, who has logged in, if there is one.
    pub(super) async fn create_token(
        &self,
        spec: TokenSpec,
        hash: String,
        user: Option<&str>,
    ) -> Result<Answer> {
        let odd = |hint: &str| Err(OperationError::bad_request(hint));
        if hash.len() != HASH_DIGITS || !hash.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return odd("the hash of a token has 64 hexadecimal digits");
        }
        if spec.personal != user.is_some() {
            return odd("a personal token, and no other, is that of a user who has logged in");
        }
        if let Some(problem) = problem_of(&spec) {
            return odd(problem);
        }
        let owner = match user {
            Some(user) => Some(self.catalog.user(user).await.map_err(catalog_error)?.row),
            None => None,
        };
        // The session counted by what is known here. A token must not outlive a user who was deleted or a password that was changed just now.
        if let Some(owner) = owner
            .as_ref()
            .filter(|owner| !self.accounts.is_current(owner))
        {
            let message = format!("user {} was changed a moment ago: log in again", owner.name);
            return Err(OperationError::new(ErrorKind::Unauthenticated, message));
        }
        let personal = owner
            .as_ref()
            .map(|owner| whose(&spec, owner))
            .transpose()?;
        let row = TokenRow {
            name: spec.name,
            scope: match &personal {
                Some(_) => PERSONAL.to_owned(),
                None => spec.scope.to_string(),
            },
            containers: spec.containers,
            kubernetes: spec.kubernetes,
            all_containers: spec.all_containers,
            hash,
            created_ms: self.world.clock.unix_ms(),
            personal,
        };
        self.record_token(&row, owner.as_ref())
            .await
            .map_err(catalog_error)?;
        let answer = describe(&row, owner.as_ref()).expect("the row was made of what is known");
        let version = self.catalog.version_if_still(&row).await;
        Ok(Answer::Token(TokenAnswer { version, ..answer }))
    }

    async fn record_token(
        &self,
        row: &TokenRow,
        owner: Option<&UserRow>,
    ) -> std::result::Result<(), CatalogError> {
        match owner {
            Some(owner) => self.catalog.create_personal_token(owner, row).await,
            None => self.catalog.create_token(row).await,
        }
    }

    async fn token_rows(&self) -> Result<Vec<TokenRow>> {
        let rows = self.catalog.list::<TokenRow>().await;
        let rows = rows.map_err(catalog_error)?.into_iter();
        Ok(rows.map(|found| found.row).collect())
    }

    /// Those that count.
    pub(super) async fn list_tokens(&self) -> Result<Answer> {
        let rows = self.catalog.list::<TokenRow>().await;
        let rows = rows.map_err(catalog_error)?;
        let users = self.catalog.list::<UserRow>().await;
        let users = users.map_err(catalog_error)?;
        let answer = |found: &Versioned<TokenRow>| {
            let is_whose = |user: &&Versioned<UserRow>| found.row.belongs_to(&user.row.name);
            let user = users.iter().find(is_whose).map(|user| &user.row);
            let version = Some(self.catalog.version_of(found));
            describe(&found.row, user).map(|answer| TokenAnswer { version, ..answer })
        };
        Ok(Answer::Tokens(rows.iter().filter_map(answer).collect()))
    }

    /// One that counts; for a user, if one is named, those of others are not there.
    pub(super) async fn show_token(&self, name: &str, of: Option<&str>) -> Result<Answer> {
        let found = self.catalog.token(name, of).await;
        let found = found.map_err(catalog_error)?;
        let user = self.user_of(&found.row).await?;
        let version = Some(self.catalog.version_of(&found));
        let answer = describe(&found.row, user.as_ref()).ok_or_else(|| {
            OperationError::not_found(format!(
                "token {name} does not count: its user is gone, or a newer release made it"
            ))
        })?;
        Ok(Answer::Token(TokenAnswer { version, ..answer }))
    }

    /// The user whose personal token it is, if he is there.
    async fn user_of(&self, row: &TokenRow) -> Result<Option<UserRow>> {
        let Some(whose) = &row.personal else {
            return Ok(None);
        };
        let key = UserRow::key_of(&whose.user);
        let found = self.catalog.read::<UserRow>(&key).await;
        Ok(found.map_err(catalog_error)?.map(|found| found.row))
    }

    pub(super) async fn delete_token(&self, name: &str, of: Option<&str>) -> Result<Answer> {
        self.catalog
            .delete_token(name, of)
            .await
            .map_err(catalog_error)?;
        Ok(Answer::Done)
    }

    /// Read from the catalog each time, with the user of a personal one: what is deleted or may less is so at once.
    pub(super) async fn find_token(&self, hash: &str) -> Result<Answer> {
        let rows = self.token_rows().await?;
        let mut found = None;
        for row in &rows {
            if is_same(&row.hash, hash) {
                found = Some(row);
            }
        }
        let row = found.ok_or_else(unknown)?;
        let user = self.user_of(row).await?;
        let answer = describe(row, user.as_ref()).ok_or_else(unknown)?;
        Ok(Answer::Token(answer))
    }
}
