//! Tokens: recorded, listed, found by the hash of their secret. The secret itself never comes here.

use super::{Result, catalog_error};
use crate::host::Host;
use api::{Answer, ErrorKind, OperationError, Scope, TokenAnswer, TokenSpec};
use catalog::{TokenRow, Versioned};

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

fn describe(row: &TokenRow) -> Option<TokenAnswer> {
    Some(TokenAnswer {
        name: row.name.clone(),
        scope: scope_of(&row.scope)?,
        containers: row.containers.clone(),
        kubernetes: row.kubernetes.clone(),
        created_ms: row.created_ms,
        token: None,
        version: None,
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

impl Host {
    pub(super) async fn create_token(&self, spec: TokenSpec, hash: String) -> Result<Answer> {
        let odd = |hint: &str| Err(OperationError::bad_request(hint));
        if hash.len() != HASH_DIGITS || !hash.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return odd("the hash of a token has 64 hexadecimal digits");
        }
        if spec.scope != Scope::Csi && !spec.containers.is_empty() {
            return odd("only a token of scope csi is limited to containers");
        }
        if spec.scope != Scope::Csi && !spec.kubernetes.is_empty() {
            return odd("only a token of scope csi is limited to Kubernetes clusters");
        }
        let row = TokenRow {
            name: spec.name,
            scope: spec.scope.to_string(),
            containers: spec.containers,
            kubernetes: spec.kubernetes,
            hash,
            created_ms: self.world.clock.unix_ms(),
        };
        self.catalog
            .create_token(&row)
            .await
            .map_err(catalog_error)?;
        let answer = describe(&row).expect("the scope was written by this function");
        let version = self.catalog.version_if_still(&row).await;
        Ok(Answer::Token(TokenAnswer { version, ..answer }))
    }

    async fn token_rows(&self) -> Result<Vec<TokenRow>> {
        let rows = self.catalog.list::<TokenRow>().await;
        let rows = rows.map_err(catalog_error)?.into_iter();
        Ok(rows.map(|found| found.row).collect())
    }

    pub(super) async fn list_tokens(&self) -> Result<Answer> {
        let rows = self.catalog.list::<TokenRow>().await;
        let rows = rows.map_err(catalog_error)?;
        let answer = |found: &Versioned<TokenRow>| {
            let version = Some(self.catalog.version_of(found));
            describe(&found.row).map(|answer| TokenAnswer { version, ..answer })
        };
        Ok(Answer::Tokens(rows.iter().filter_map(answer).collect()))
    }

    pub(super) async fn delete_token(&self, name: &str) -> Result<Answer> {
        self.catalog
            .delete_token(name)
            .await
            .map_err(catalog_error)?;
        Ok(Answer::Done)
    }

    /// Read from the catalog each time: a deleted token is refused at once.
    pub(super) async fn find_token(&self, hash: &str) -> Result<Answer> {
        let rows = self.token_rows().await?;
        let mut found = None;
        for row in &rows {
            if is_same(&row.hash, hash) {
                found = describe(row);
            }
        }
        let unknown = || OperationError::new(ErrorKind::Unauthenticated, "the token is not known");
        found.map(Answer::Token).ok_or_else(unknown)
    }
}
