//! Encrypted connections to etcd. What is shown and believed is asked for at every new connection, so certificates are
//! renewed without a restart.

use hyper_util::rt::TokioIo;
use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;
use tonic::transport::Uri;

/// What is shown and believed now. Called on the client's own thread: it may look at files.
pub type Shown = Arc<dyn Fn() -> Arc<ClientConfig> + Send + Sync>;

/// TLS to etcd.
#[derive(Clone)]
pub struct EtcdTls {
    /// What is shown and believed.
    pub shown: Shown,
    /// The name that every member's certificate carries, whatever its address is.
    pub name: String,
}

impl fmt::Debug for EtcdTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EtcdTls({})", self.name)
    }
}

impl EtcdTls {
    pub(super) fn connector(&self) -> Connector {
        Connector(self.clone())
    }
}

/// Opens connections.
#[derive(Clone)]
pub(super) struct Connector(EtcdTls);

impl tower_service::Service<Uri> for Connector {
    type Response = TokioIo<TlsStream<TcpStream>>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        let tls = self.0.clone();
        Box::pin(async move { connect(tls, to).await.map(TokioIo::new) })
    }
}

async fn connect(tls: EtcdTls, to: Uri) -> io::Result<TlsStream<TcpStream>> {
    let name = ServerName::try_from(tls.name.clone()).map_err(io::Error::other)?;
    let host = to.host().unwrap_or_default();
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let stream = TcpStream::connect((host, to.port_u16().unwrap_or(2379))).await?;
    stream.set_nodelay(true)?;
    let mut config = (*(tls.shown)()).clone();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    connector.connect(name, stream).await
}
