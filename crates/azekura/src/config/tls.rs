//! The table `tls` of a configuration, and what is refused without it: addresses that others reach and that do not encrypt.

use super::etcd::{SeatConfig, host_of};
use super::{FilePath, Problem};
use serde::Deserialize;
use std::net::IpAddr;
use std::ops::Range;
use std::path::{Path, PathBuf};
use toml::Spanned;

/// Certificates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsConfig {
    /// The folder with this node's key and certificate and the authorities that are believed.
    pub credentials: PathBuf,
    /// The file of the cluster's authority, if this node signs.
    pub authority: Option<PathBuf>,
    /// What browsers are shown: a certificate with those between it and its authority, and its key.
    pub public: Option<(PathBuf, PathBuf)>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TlsTable {
    #[serde(default)]
    mode: TlsMode,
    credentials: Option<FilePath>,
    authority: Option<FilePath>,
    certificate: Option<Spanned<FilePath>>,
    key: Option<Spanned<FilePath>>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum TlsMode {
    #[default]
    On,
    Off,
}

/// Checks the table. Without it all `addresses` (`listen`, `api`, `nbd`) must be of this machine alone: that connections are plain is
/// never what somebody gets who has not thought of it.
pub(super) fn check_tls<'a>(
    table: Option<Spanned<TlsTable>>,
    base: &Path,
    addresses: impl Iterator<Item = (&'a String, Range<usize>)>,
) -> Result<Option<TlsConfig>, Problem> {
    let Some(table) = table else {
        for (address, span) in addresses {
            refuse_exposed(address, span)?;
        }
        return Ok(None);
    };
    let (span, table) = (table.span(), table.into_inner());
    match table.mode {
        TlsMode::On => check_certificates(table, span, base).map(Some),
        TlsMode::Off => check_off(&table, span).map(|()| None),
    }
}

fn check_off(table: &TlsTable, span: Range<usize>) -> Result<(), Problem> {
    let paths = [&table.credentials, &table.authority];
    let public = [&table.certificate, &table.key];
    match paths.iter().all(|path| path.is_none()) && public.iter().all(|path| path.is_none()) {
        true => Ok(()),
        false => {
            let problem = "has certificates although mode is \"off\": remove them or `mode`";
            Err((span, problem.to_owned()))
        }
    }
}

fn check_certificates(
    table: TlsTable,
    span: Range<usize>,
    base: &Path,
) -> Result<TlsConfig, Problem> {
    let Some(credentials) = table.credentials else {
        let problem = "needs `credentials`: the folder that `azekura cluster init` or `azekura node join` has made for \
                       this node, or `mode = \"off\"` for connections that anybody can read";
        return Err((span, problem.to_owned()));
    };
    let public = match (table.certificate, table.key) {
        (None, None) => None,
        (Some(certificate), Some(key)) => Some((
            base.join(certificate.into_inner().0),
            base.join(key.into_inner().0),
        )),
        (Some(alone), None) => {
            let problem = "needs `key` beside it: the file of the certificate's private key";
            return Err((alone.span(), problem.to_owned()));
        }
        (None, Some(alone)) => {
            let problem = "needs `certificate` beside it: the file of the certificate, and of those between it and its \
                           authority";
            return Err((alone.span(), problem.to_owned()));
        }
    };
    Ok(TlsConfig {
        credentials: base.join(credentials.0),
        authority: table.authority.map(|path| base.join(path.0)),
        public,
    })
}

/// Whether only this machine reaches an address. A name is not looked up: whom it leads to may change.
pub fn is_of_this_machine(address: &str) -> bool {
    if address.starts_with("unix:") {
        return true;
    }
    let host = host_of(address);
    let loopback = |address: IpAddr| address.to_canonical().is_loopback();
    host.eq_ignore_ascii_case("localhost") || host.parse().is_ok_and(loopback)
}

fn refuse_exposed(address: &str, span: Range<usize>) -> Result<(), Problem> {
    match is_of_this_machine(address) {
        true => Ok(()),
        false => refuse(address, span),
    }
}

fn refuse(address: &str, span: Range<usize>) -> Result<(), Problem> {
    let problem = format!(
        "other machines can reach {address}, and without [tls] whoever does could read and change every volume. Make \
         certificates, with `azekura cluster init` for the first node of a cluster and with `azekura node join --token` for \
         every other, and name them in [tls]; or listen on 127.0.0.1; or write `[tls]` with `mode = \"off\"` if nobody else \
         is on that network"
    );
    Err((span, problem))
}

/// The same of the etcd that the node may run: without certificates whoever reaches it changes the catalog.
pub(super) fn refuse_exposed_seat(seat: &SeatConfig, span: Range<usize>) -> Result<(), Problem> {
    let bound = seat.bind.filter(|bind| !bind.to_canonical().is_loopback());
    let addresses = [&seat.client, &seat.peer].map(String::as_str);
    let reached = addresses
        .iter()
        .find(|address| !is_of_this_machine(address));
    match (bound, reached) {
        (Some(bound), _) => refuse(&bound.to_string(), span),
        (None, Some(reached)) => refuse(reached, span),
        (None, None) => Ok(()),
    }
}
