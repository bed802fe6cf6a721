//! What a node needs that is to run with a configuration: its disks, its ports, its catalog, its certificates.

use super::Check;
use crate::config::{CatalogConfig, Config, TlsConfig};
use crate::disk;
use anyhow::anyhow;
use std::io::ErrorKind;
use std::net::{TcpListener, TcpStream, ToSocketAddrs};
use std::path::Path;
use std::time::Duration;
use store::Inspection;
use world_linux::ShardOptions;

/// Patience with one connection.
const PATIENCE: Duration = Duration::from_secs(2);

/// All of them.
///
/// # Errors
/// Those of the configuration file, which nothing else makes sense without.
pub fn checks(path: &Path) -> anyhow::Result<Vec<Check>> {
    let config = Config::read(path).map_err(|error| anyhow!("{error}"))?;
    let mut checks = vec![Check::ok("configuration", path.display().to_string())];
    let listens = [
        ("listen", Some(&config.listen)),
        ("nbd", config.nbd.as_ref()),
        ("api", config.api.as_ref()),
    ];
    for (key, address) in listens {
        checks.extend(address.map(|address| port(key, address)));
    }
    for store in &config.stores {
        for disk in &store.disks {
            let wanted = (config.cluster.as_str(), store.id);
            checks.push(look_at_disk(&disk.path, disk.buffered, disk.create, wanted));
        }
    }
    match &config.catalog {
        CatalogConfig::Embedded(file) => checks.push(folder_of("catalog", file)),
        CatalogConfig::Etcd { endpoints, .. } => {
            checks.extend(endpoints.iter().map(|endpoint| reach(endpoint)));
        }
    }
    checks.push(folder_of("state", &config.state));
    checks.extend(config.tls.as_ref().map(certificate));
    Ok(checks)
}

fn port(key: &str, address: &str) -> Check {
    match TcpListener::bind(address) {
        Ok(_) => Check::ok(key, format!("{address} is free")),
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            Check::warning(key, format!("{address} is in use")).remedy(
                "if this node does not run already, end what listens there or name another port",
            )
        }
        Err(error) => Check::failed(key, format!("cannot listen on {address}: {error}"))
            .remedy("name an address of this machine"),
    }
}

/// A disk is blank, or of this store, or in use by a node that runs.
fn look_at_disk(path: &Path, buffered: bool, create: Option<u64>, wanted: (&str, u32)) -> Check {
    let what = format!("disk {}", path.display());
    if !path.exists() {
        return match create {
            Some(bytes) => Check::ok(
                what,
                format!("will be made with {}", vocab::ByteCount(bytes)),
            ),
            None => Check::failed(what, "is not there")
                .remedy("connect it, name another one, or have a file made with `create`"),
        };
    }
    let path = path.to_owned();
    let found = world_linux::run(ShardOptions::default(), move |_, machine| {
        Box::pin(async move {
            let disk = disk::open(&machine, &path, buffered)?;
            Ok::<_, anyhow::Error>((disk::inspect(&disk, &path).await?, disk.size()))
        })
    });
    let found = found.map_err(anyhow::Error::from).and_then(|found| found);
    let (cluster, store) = wanted;
    match found {
        Err(error) => Check::warning(what, format!("{error:#}"))
            .remedy("if the node runs, that is why; otherwise see who uses it"),
        Ok((Inspection::Blank, size)) => {
            Check::ok(what, format!("{}, blank", vocab::ByteCount(size)))
        }
        Ok((Inspection::Store(identity), size))
            if identity.cluster == cluster && identity.store.0 == store =>
        {
            let size = vocab::ByteCount(size);
            Check::ok(what, format!("{size}, store {store} of {cluster}"))
        }
        Ok((Inspection::Store(identity), _)) => Check::failed(
            what,
            format!(
                "belongs to store {} of {}",
                identity.store.0, identity.cluster
            ),
        )
        .remedy("name the right disk; `azekura disk format` erases one when told to"),
        Ok((Inspection::Newer { version }, _)) => {
            Check::failed(what, format!("is of a newer release (format {version})"))
                .remedy("update azekura")
        }
        Ok((Inspection::Foreign(content), _)) => Check::failed(what, format!("holds {content}"))
            .remedy("name the right disk; `azekura disk format` erases one when told to"),
    }
}

/// The folder of a file can be written to.
fn folder_of(what: &str, file: &Path) -> Check {
    let mut folder = file.parent().unwrap_or(Path::new("."));
    // What is not there is made; so the nearest folder that is there counts.
    while !folder.exists()
        && folder
            .parent()
            .is_some_and(|parent| parent != Path::new(""))
    {
        folder = folder.parent().unwrap_or(folder);
    }
    let found = folder.display().to_string();
    match rustix::fs::access(folder, rustix::fs::Access::WRITE_OK) {
        Ok(()) => Check::ok(what, format!("{found} can be written to")),
        Err(error) => Check::failed(what, format!("{found} cannot be written to: {error}"))
            .remedy("give the user of the node the right, or name another place"),
    }
}

fn reach(endpoint: &str) -> Check {
    let what = format!("etcd {endpoint}");
    let address = endpoint
        .split_once("://")
        .map_or(endpoint, |(_, rest)| rest);
    let address = address.trim_end_matches('/');
    let connected = address.to_socket_addrs().and_then(|mut found| {
        let first = found.next().ok_or(ErrorKind::NotFound)?;
        TcpStream::connect_timeout(&first, PATIENCE)
    });
    match connected {
        Ok(_) => Check::ok(what, "listens"),
        Err(error) => Check::failed(what, error.to_string())
            .remedy("start it, or see whether a firewall is between"),
    }
}

fn certificate(tls: &TlsConfig) -> Check {
    let what = format!("certificate in {}", tls.credentials.display());
    match identity::Credentials::read(&tls.credentials) {
        Ok(_) => Check::ok(what, "is one of the cluster"),
        Err(error) => Check::failed(what, error.to_string()).remedy(
            "`azekura node join`, or `azekura cluster credentials create` where the authority is",
        ),
    }
}
