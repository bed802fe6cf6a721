//! Nodes that join, certificates that are renewed, authorities that follow each other.
//!
//! Only a node with the authority's file signs; the others ask all nodes that run until one does. A node that joins is a
//! candidate in the catalog before it has its certificate; what that means is in `host.rs` and `volumes.rs`.

use super::{Result, catalog_error, is_unavailable};
use crate::events::Told;
use crate::host::Host;
use crate::membership::{self, Part};
use crate::tasks::{kind, new_task};
use api::{
    Answer, AuthorityAnswer, ErrorKind, JoinAnswer, JoinTokenAnswer, JoinTokenSpec,
    NodeCertificateAnswer, Operation, OperationError,
};
use catalog::{
    AuthorityRow, CatalogError, CertificateRow, JoinTokenRow, Severity, Transaction, Versioned,
};
use std::fmt;
use std::rc::Rc;
use vocab::NodeId;
use world::{Caller, Role};

/// How long a token to join can be used, unless said otherwise.
const TTL_SECONDS: u64 = 3600;
/// And at most: a week.
const TTL_SECONDS_MAX: u64 = 7 * 24 * 3600;
/// Stores of one node.
const STORES_MAX: u32 = 64;
/// Longest name of a node.
const NAME_BYTES_MAX: usize = 63;
/// Addresses of APIs in a token.
const ADDRESSES_MAX: usize = 8;

/// The authority's key, on the nodes that have it.
pub trait Signer: fmt::Debug {
    /// SHA-256 of the authority's certificate, in hexadecimal digits.
    fn fingerprint(&self) -> String;

    /// Its certificate (PEM).
    fn certificate(&self) -> String;

    /// Its name, as certificates name who has signed them.
    fn name(&self) -> String;

    /// A certificate for a node, and what is needed to believe it (PEM).
    ///
    /// # Errors
    /// What is wrong with the request.
    fn sign_node(&self, name: &str, request: &str) -> std::result::Result<String, String>;

    /// Makes the next authority and keeps it beside this one: certificate, fingerprint and name.
    ///
    /// # Errors
    /// Why it cannot be made or kept.
    fn prepare(&self) -> std::result::Result<(String, String, String), String>;

    /// Makes the authority with this fingerprint the one that signs, if it is here. Whether it is.
    fn adopt(&self, fingerprint: &str) -> bool;
}

fn refused(reason: impl Into<String>) -> OperationError {
    OperationError::new(ErrorKind::Refused, reason)
}

fn no_signer() -> OperationError {
    OperationError::unavailable(
        "no node that runs has the authority's file: start one whose configuration names it (`tls.authority`)",
    )
}

fn check_name(name: &str) -> Result<()> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    match (1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(plain) {
        true => Ok(()),
        false => Err(OperationError::bad_request(format!(
            "`{name}` is not a name: use 1 to {NAME_BYTES_MAX} letters, digits, `-`, `_` and `.`"
        ))),
    }
}

impl Host {
    async fn authority_row(&self) -> Result<Versioned<AuthorityRow>> {
        let row = self.catalog.authority().await.map_err(catalog_error)?;
        row.ok_or_else(|| {
            refused(
                "this cluster has no authority: `azekura cluster init` makes one, and a node must have been started \
                 with it (`tls.authority`)",
            )
        })
    }

    pub(super) async fn create_join_token(
        &self,
        spec: JoinTokenSpec,
        hash: String,
    ) -> Result<Answer> {
        let seconds = spec.ttl_seconds.unwrap_or(TTL_SECONDS);
        if !(1..=TTL_SECONDS_MAX).contains(&seconds) {
            return Err(OperationError::bad_request(format!(
                "a token to join holds for 1 to {TTL_SECONDS_MAX} seconds"
            )));
        }
        self.catalog_table()?;
        let authority = self.authority_row().await?.row;
        let view = self.view();
        let alive = view
            .nodes
            .values()
            .filter(|row| view.alive.contains_key(&row.id));
        let apis = alive.filter_map(|row| row.api.as_deref()?.strip_prefix("https://"));
        let addresses: Vec<String> = apis.take(ADDRESSES_MAX).map(str::to_owned).collect();
        if addresses.is_empty() {
            return Err(refused(
                "no node serves the API over TLS: say `api` in a configuration",
            ));
        }
        let now_ms = self.world.clock.unix_ms();
        let expires_ms = now_ms + seconds * 1000;
        let row = JoinTokenRow { hash, expires_ms };
        let created = self.catalog.create_join_token(&row, now_ms).await;
        created.map_err(catalog_error)?;
        Ok(Answer::JoinToken(JoinTokenAnswer {
            token: None,
            fingerprint: authority.signer,
            addresses,
            expires_ms,
        }))
    }

    fn catalog_table(&self) -> Result<String> {
        self.present_catalog_table().ok_or_else(|| {
            refused("the catalog of this cluster is a file of one process (`catalog.embedded`): no other node can join")
        })
    }

    /// Carries out what needs the authority's key, here or where it is.
    pub(super) async fn at_signer(self: &Rc<Self>, operation: Operation) -> Result<Answer> {
        if !self.options.secured {
            return Err(refused(
                "this cluster has no certificates, and so no authority that signs any: see `tls` in docs/operating/security.md",
            ));
        }
        let mut last = no_signer();
        if self.options.signer.is_some() {
            match self.sign_here(operation.clone()).await {
                Err(error) if is_unavailable(&error) => last = error,
                result => return result,
            }
        }
        let others: Vec<NodeId> = self.members.look(|view| {
            let alive = view.alive.keys().copied();
            alive.filter(|&node| node != self.id).collect()
        });
        for node in others {
            match self.forward(node, &operation, &mut false).await {
                Err(error) if is_unavailable(&error) => last = error,
                result => return result,
            }
        }
        Err(last)
    }

    /// As [`Host::at_signer`], here or not at all.
    pub(super) async fn sign_here(self: &Rc<Self>, operation: Operation) -> Result<Answer> {
        match operation {
            Operation::NodeJoin {
                hash,
                name,
                request,
                stores,
            } => self.join_node(&hash, &name, &request, stores).await,
            Operation::CertificateRenew { name, request } => self.renew(&name, &request).await,
            Operation::AuthorityRotate => self.rotate_authority().await,
            other => Err(OperationError::failed(format!(
                "operation {} needs no signature; this is a bug",
                other.name()
            ))),
        }
    }

    /// The signer of this node, if it is the one that the catalog names.
    fn signer(&self, row: &AuthorityRow) -> Result<Rc<dyn Signer>> {
        let signer = self.options.signer.clone().ok_or_else(no_signer)?;
        match signer.fingerprint() == row.signer || signer.adopt(&row.signer) {
            true => Ok(signer),
            false => Err(OperationError::unavailable(format!(
                "the authority's file of node {} is not the one that signs since the last rotation: copy it from the node \
                 that has it",
                self.options.name
            ))),
        }
    }

    async fn join_node(
        &self,
        hash: &str,
        name: &str,
        request: &str,
        stores: u32,
    ) -> Result<Answer> {
        check_name(name)?;
        if stores > STORES_MAX {
            return Err(OperationError::bad_request(format!(
                "a node has at most {STORES_MAX} stores"
            )));
        }
        let authority = self.authority_row().await?.row;
        let signer = self.signer(&authority)?;
        let table = self.catalog_table()?;
        let token = self
            .catalog
            .join_token(hash, self.world.clock.unix_ms())
            .await;
        let token = token.map_err(|error| match error {
            CatalogError::NotFound { .. } => {
                OperationError::new(ErrorKind::Unauthenticated, error.to_string())
            }
            error => catalog_error(error),
        })?;
        membership::refresh(self, &[Part::Nodes])
            .await
            .map_err(catalog_error)?;
        if self
            .members
            .look(|view| view.nodes.values().any(|row| row.name == name))
        {
            let reason = format!(
                "there is a node {name} already: choose another name, or remove that one (`azekura node remove`)"
            );
            return Err(OperationError::new(ErrorKind::Exists, reason));
        }
        let signed = signer.sign_node(name, request);
        let certificate = signed.map_err(OperationError::bad_request)?;
        let id = membership::node_id(&self.catalog, name)
            .await
            .map_err(catalog_error)?;
        let ids = self.free_stores(stores).await?;
        if !self
            .catalog
            .admit(&token, id)
            .await
            .map_err(catalog_error)?
        {
            let reason = "the token to join was used by another node: make a new one";
            return Err(OperationError::new(ErrorKind::Unauthenticated, reason));
        }
        tracing::info!(node = name, %id, "joined as a candidate: `azekura node approve` lets it take part");
        let message = format!("node {name} has joined and waits to be approved");
        let told = Told::new(Severity::Info, "candidate", format!("node/{name}"), message);
        self.tell(told.remedy(format!("`azekura node approve {name}` lets it take part")));
        Ok(Answer::Joined(JoinAnswer {
            cluster: self.options.cluster.clone(),
            certificate,
            authorities: authority.authorities,
            catalog: table,
            supervised: self.upkeep.own_etcd.get() != 0,
            stores: ids,
        }))
    }

    /// Ids that no store has.
    pub(super) async fn free_stores(&self, count: u32) -> Result<Vec<u32>> {
        let mut ids = Vec::new();
        while ids.len() < count as usize {
            let next = self.catalog.next_id("store").await.map_err(catalog_error)?;
            let id = u32::try_from(next).map_err(|_| refused("no ids for stores are left"))?;
            let taken = |id| view_has(self, id);
            if !taken(id) {
                ids.push(id);
            }
        }
        Ok(ids)
    }

    async fn renew(&self, name: &str, request: &str) -> Result<Answer> {
        let authority = self.authority_row().await?.row;
        let signer = self.signer(&authority)?;
        let certificate = signer.sign_node(name, request);
        tracing::info!(node = name, "has a new certificate");
        Ok(Answer::Joined(JoinAnswer {
            cluster: self.options.cluster.clone(),
            certificate: certificate.map_err(OperationError::bad_request)?,
            authorities: authority.authorities,
            ..JoinAnswer::default()
        }))
    }

    pub(super) async fn show_authority(&self) -> Result<Answer> {
        let authority = self.authority_row().await?.row;
        Ok(Answer::Authority(
            self.describe_authority(&authority).await?,
        ))
    }

    async fn describe_authority(&self, row: &AuthorityRow) -> Result<AuthorityAnswer> {
        let shown = self.catalog.list::<CertificateRow>().await;
        let shown = shown.map_err(catalog_error)?;
        let describe = |found: &Versioned<CertificateRow>| NodeCertificateAnswer {
            node: self.members.node_name(found.row.id),
            current: found.row.issuer == row.signer_name,
            issuer: found.row.issuer.clone(),
            until_ms: found.row.until_ms,
        };
        Ok(AuthorityAnswer {
            signer: row.signer_name.clone(),
            fingerprint: row.signer.clone(),
            believed: row.authorities.matches("BEGIN CERTIFICATE").count() as u32,
            authorities: row.authorities.clone(),
            nodes: shown.iter().map(describe).collect(),
            task: None,
        })
    }

    async fn rotate_authority(&self) -> Result<Answer> {
        let found = self.authority_row().await?;
        let signer = self.signer(&found.row)?;
        if found.row.authorities.matches("BEGIN CERTIFICATE").count() > 1 {
            return Err(refused(
                "a rotation is under way: `azekura cluster ca retire` ends it, `azekura cluster ca show` says what it \
                 waits for",
            ));
        }
        let (certificate, fingerprint, name) = signer.prepare().map_err(OperationError::failed)?;
        let row = AuthorityRow {
            authorities: found.row.authorities.clone() + &certificate,
            signer: fingerprint,
            signer_name: name,
        };
        self.replace_authority(&found, &row).await?;
        // A crash before this line is made good by the next signature.
        self.signer(&row)?;
        tracing::info!(signer = row.signer_name, "a new authority signs");
        let message = format!("{} signs certificates from now on", row.signer_name);
        self.tell(Told::new(
            Severity::Info,
            "authority-rotated",
            "cluster",
            message,
        ));
        let task = new_task(kind::AUTHORITY_ROTATE, "cluster", "cluster/0".to_owned());
        let task = self.begin_task(task).await;
        let answer = self.describe_authority(&row).await?;
        Ok(Answer::Authority(AuthorityAnswer { task, ..answer }))
    }

    pub(super) async fn retire_authority(&self, force: bool) -> Result<Answer> {
        let found = self.authority_row().await?;
        let known = self.describe_authority(&found.row).await?;
        let is_current = |name: &str| {
            let mut shown = known.nodes.iter();
            shown.any(|node| node.node == name && node.current)
        };
        membership::refresh(self, &[Part::Nodes])
            .await
            .map_err(catalog_error)?;
        let view = self.view();
        let names = view.nodes.values().map(|row| row.name.as_str());
        // One that has never said what it shows may show anything.
        let behind: Vec<&str> = names.filter(|name| !is_current(name)).collect();
        if !behind.is_empty() && !force {
            return Err(refused(format!(
                "these nodes still show certificates of the old authority: {}; start them and wait, or remove them, or \
                 lock them out with --force",
                behind.join(", ")
            )));
        }
        let signed = self.keep_signer(&found.row)?;
        let row = AuthorityRow {
            authorities: signed,
            ..found.row.clone()
        };
        self.replace_authority(&found, &row).await?;
        tracing::info!(
            signer = row.signer_name,
            "authorities that sign no more are dropped"
        );
        let message = format!("only certificates of {} are believed", row.signer_name);
        self.tell(Told::new(
            Severity::Info,
            "authority-retired",
            "cluster",
            message,
        ));
        Ok(Answer::Authority(self.describe_authority(&row).await?))
    }

    async fn replace_authority(
        &self,
        found: &Versioned<AuthorityRow>,
        row: &AuthorityRow,
    ) -> Result<()> {
        let change = Transaction::new().replace(found, row);
        let committed = self.catalog.commit(change).await.map_err(catalog_error)?;
        committed.map(drop).ok_or_else(|| {
            OperationError::unavailable("the authorities have just been changed: try again")
        })
    }

    /// The certificate of the one that signs: the last of those that are believed.
    fn keep_signer(&self, row: &AuthorityRow) -> Result<String> {
        const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
        let last = row
            .authorities
            .rfind(BEGIN)
            .map(|at| row.authorities[at..].to_owned());
        last.ok_or_else(|| OperationError::failed("the catalog names no authority"))
    }

    /// The authorities as the catalog has them now; those of this node's signer, where there are none.
    ///
    /// # Errors
    /// [`OperationError`], when the catalog fails or nobody has ever signed.
    pub async fn authority(&self) -> Result<AuthorityRow> {
        if let Some(signer) = &self.options.signer
            && self
                .catalog
                .authority()
                .await
                .map_err(catalog_error)?
                .is_none()
        {
            let row = AuthorityRow {
                authorities: signer.certificate(),
                signer: signer.fingerprint(),
                signer_name: signer.name(),
            };
            let create = Transaction::new().create(&row);
            self.catalog.commit(create).await.map_err(catalog_error)?;
        }
        Ok(self.authority_row().await?.row)
    }

    /// Has a request of this node signed.
    ///
    /// # Errors
    /// [`OperationError`]; a retry is safe.
    pub async fn renew_certificate(self: &Rc<Self>, request: String) -> Result<JoinAnswer> {
        let name = self.options.name.clone();
        match self
            .at_signer(Operation::CertificateRenew { name, request })
            .await?
        {
            Answer::Joined(answer) => Ok(answer),
            _ => Err(OperationError::failed(
                "a renewal was answered by something else",
            )),
        }
    }

    /// Tells the cluster which certificate this node shows.
    ///
    /// # Errors
    /// [`OperationError`].
    pub async fn note_certificate(&self, issuer: &str, until_ms: u64) -> Result<()> {
        let row = CertificateRow {
            id: self.id,
            issuer: issuer.to_owned(),
            until_ms,
        };
        let noted = self.catalog.commit(Transaction::new().put(&row)).await;
        noted.map(drop).map_err(catalog_error)
    }
}

fn view_has(host: &Host, store: u32) -> bool {
    host.members
        .look(|view| view.stores.contains_key(&vocab::StoreId(store)))
}

/// Whether a caller may have an operation carried out that it forwards: a node renews its own certificate only.
pub(super) fn may_forward(caller: Option<&Caller>, operation: &Operation) -> Result<()> {
    let name = match operation.bare() {
        Operation::CertificateRenew { name, .. } => name,
        // Every node has the catalog for them itself: nobody has a reason to ask another one.
        Operation::UserFind { .. }
        | Operation::UserCreate { .. }
        | Operation::UserSet { .. }
        | Operation::SessionCreate { .. }
        | Operation::AuditRecord { .. }
        | Operation::Once(_) => {
            return Err(OperationError::new(
                ErrorKind::Forbidden,
                format!("{} is never asked of another node", operation.name()),
            ));
        }
        _ => return Ok(()),
    };
    match caller {
        Some(caller) if caller.role == Role::Node && caller.name == *name => Ok(()),
        _ => Err(OperationError::new(
            ErrorKind::Forbidden,
            format!("only node {name} itself has its certificate renewed"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_renews_its_own_certificate_only() {
        let renew = Operation::CertificateRenew {
            name: "a".to_owned(),
            request: String::new(),
        };
        let caller = |role, name: &str| Caller::new(role, name.to_owned());
        assert_eq!(may_forward(Some(&caller(Role::Node, "a")), &renew), Ok(()));
        assert!(may_forward(Some(&caller(Role::Node, "b")), &renew).is_err());
        assert!(may_forward(Some(&caller(Role::Admin, "a")), &renew).is_err());
        assert!(may_forward(None, &renew).is_err());
        assert_eq!(may_forward(None, &Operation::Status), Ok(()));
        let find = Operation::UserFind {
            name: "admin".to_owned(),
        };
        assert!(may_forward(Some(&caller(Role::Node, "a")), &find).is_err());
    }
}
