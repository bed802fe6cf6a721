//! The table `etcd` of a configuration: a seat for a member of the cluster's own etcd.

use super::{FilePath, Problem, Size, TcpEndpoint, parse_tcp, size_between};
use serde::Deserialize;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use toml::Spanned;

/// What etcd's documentation advises as the most.
const QUOTA_BYTES_MAX: u64 = 8 << 30;
/// Enough for 100,000 volumes and an hour of changes.
const QUOTA_BYTES_MIN: u64 = 16 << 20;
const QUOTA_BYTES: u64 = 2 << 30;
/// Where etcd's clients and members expect it.
const CLIENT_PORT: u16 = 2379;
const PEER_PORT: u16 = 2380;

/// A seat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeatConfig {
    /// `host:port` at which clients reach the member.
    pub client: String,
    /// `host:port` at which other members reach it.
    pub peer: String,
    /// Where it listens, when it is not at that host.
    pub bind: Option<IpAddr>,
    /// The program.
    pub program: PathBuf,
    /// Its data.
    pub data: PathBuf,
    /// Bytes that it may keep.
    pub quota: u64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EtcdTable {
    client: Option<TcpEndpoint>,
    peer: Option<TcpEndpoint>,
    bind: Option<Spanned<String>>,
    program: Option<FilePath>,
    data: Option<FilePath>,
    quota: Option<Spanned<Size>>,
}

/// The host of an address, without brackets.
pub fn host_of(address: &str) -> &str {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    host.trim_start_matches('[').trim_end_matches(']')
}

/// Checks the table. `reached` is where others reach the node.
pub(super) fn check_etcd(
    table: Option<Spanned<EtcdTable>>,
    base: &Path,
    state: &Path,
    reached: &str,
) -> Result<Option<SeatConfig>, Problem> {
    let Some(table) = table else { return Ok(None) };
    let (span, table) = (table.span(), table.into_inner());
    let beside = |port: u16| {
        let host = reached.rsplit_once(':').map(|(host, _)| host);
        let address = host.map(|host| format!("{host}:{port}"));
        let usable = address.filter(|address| parse_tcp(address).is_ok());
        usable.ok_or_else(|| {
            let problem =
                "needs `client` and `peer`: where others reach etcd, such as \"10.0.0.1:2379\"";
            (span.clone(), problem.to_owned())
        })
    };
    let client = table
        .client
        .map_or_else(|| beside(CLIENT_PORT), |client| Ok(client.0))?;
    let peer = table
        .peer
        .map_or_else(|| beside(PEER_PORT), |peer| Ok(peer.0))?;
    if client == peer {
        let problem = "has the same address for `client` and `peer`: give them two ports";
        return Err((span, problem.to_owned()));
    }
    let bind = match table.bind {
        None => None,
        Some(text) => Some(text.get_ref().parse().map_err(|_| {
            let problem = format!(
                "`{}` is not an address: write one such as 0.0.0.0",
                text.get_ref()
            );
            (text.span(), problem)
        })?),
    };
    // etcd listens on addresses, not on names.
    let named = [&client, &peer]
        .into_iter()
        .find(|address| host_of(address).parse::<IpAddr>().is_err());
    if let (None, Some(named)) = (bind, named) {
        let problem = format!(
            "{named} is a name: say with `bind` at which address etcd listens, such as \"0.0.0.0\""
        );
        return Err((span, problem));
    }
    let quota = size_between(table.quota.as_ref(), QUOTA_BYTES_MIN, QUOTA_BYTES_MAX)?;
    let data = table.data.map(|path| base.join(path.0));
    Ok(Some(SeatConfig {
        client,
        peer,
        bind,
        program: table
            .program
            .map_or_else(|| PathBuf::from("etcd"), |program| program.0),
        data: data.unwrap_or_else(|| state.join("etcd")),
        quota: quota.unwrap_or(QUOTA_BYTES),
    }))
}
