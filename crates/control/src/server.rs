//! Serving the router on a socket, plain or encrypted.

use crate::auth::Transport;
use crate::{Auth, Backend, router};
use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use identity::{Credentials, caller_of};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use world::Caller;

/// Longest wait for requests that are being answered when the server is told to stop.
pub const STOP_SECONDS_MAX: u64 = 3;
/// Longest handshake.
const HANDSHAKE_MAX: Duration = Duration::from_secs(5);
/// Handshakes at a time; the next callers wait in the kernel.
const HANDSHAKES_MAX: usize = 256;
/// Pause after a failed accept: no descriptors are left, usually.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Who is at the other end of a connection.
#[derive(Clone)]
pub(crate) struct Peer {
    /// As its certificate says.
    pub(crate) caller: Option<Caller>,
    /// Where it is.
    pub(crate) from: IpAddr,
}

/// A connection.
trait Talk: AsyncRead + AsyncWrite + Send + Unpin {
    fn caller(&self) -> Option<Caller>;
}

impl Talk for TcpStream {
    fn caller(&self) -> Option<Caller> {
        None
    }
}

impl Talk for TlsStream<TcpStream> {
    fn caller(&self) -> Option<Caller> {
        // The chain was verified; one that says no role is nobody's.
        caller_of(self.get_ref().1.peer_certificates()?).ok()
    }
}

type Connection = Box<dyn Talk>;

/// The API's socket and who is shaking hands at it.
struct Door {
    listener: TcpListener,
    credentials: Option<Arc<Credentials>>,
    shaking: JoinSet<Option<(Connection, SocketAddr)>>,
}

impl Door {
    async fn next(&mut self) -> (Connection, SocketAddr) {
        loop {
            let room = self.shaking.len() < HANDSHAKES_MAX;
            tokio::select! {
                Some(shaken) = self.shaking.join_next() => {
                    if let Ok(Some(shaken)) = shaken {
                        return shaken;
                    }
                }
                accepted = self.listener.accept(), if room => match accepted {
                    Ok((stream, from)) => {
                        if let Some(plain) = self.begin(stream, from) {
                            return plain;
                        }
                    }
                    Err(error) => {
                        tracing::debug!(%error, "the API's socket gives no connection");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
    }

    /// Begins a handshake, unless connections are plain.
    fn begin(&mut self, stream: TcpStream, from: SocketAddr) -> Option<(Connection, SocketAddr)> {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "an API connection keeps Nagle's algorithm");
        }
        let Some(credentials) = &self.credentials else {
            return Some((Box::new(stream), from));
        };
        let acceptor = TlsAcceptor::from(credentials.current().open_server.clone());
        self.shaking.spawn(async move {
            match tokio::time::timeout(HANDSHAKE_MAX, acceptor.accept(stream)).await {
                Ok(Ok(stream)) => Some((Box::new(stream) as Connection, from)),
                Ok(Err(error)) => {
                    tracing::info!(%from, %error, "a connection to the API was refused");
                    None
                }
                Err(_) => None,
            }
        });
        None
    }
}

impl Listener for Door {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        self.next().await
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

impl Connected<IncomingStream<'_, Door>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Door>) -> Self {
        Self {
            caller: stream.io().caller(),
            from: stream.remote_addr().ip(),
        }
    }
}

/// Serves the API on `listener`, encrypted when there are credentials, until `stop` resolves; requests in progress then get
/// [`STOP_SECONDS_MAX`] to finish.
///
/// # Errors
/// When the listening socket fails.
pub async fn serve(
    listener: TcpListener,
    backend: Arc<dyn Backend>,
    auth: Auth,
    credentials: Option<Arc<Credentials>>,
    stop: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let (stopping, mut stopped) = watch::channel(false);
    let signal = async move {
        stop.await;
        // Nobody listening any more means that the server has ended by itself.
        let _ = stopping.send(true);
    };
    let transport = match credentials {
        Some(_) => Transport::Encrypted,
        None => Transport::Plain,
    };
    let door = Door {
        listener,
        credentials,
        shaking: JoinSet::new(),
    };
    let router = router(backend, auth, transport, stopped.clone())
        .into_make_service_with_connect_info::<Peer>();
    let server = axum::serve(door, router).with_graceful_shutdown(signal);
    let deadline = async move {
        if stopped.wait_for(|stopping| *stopping).await.is_err() {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(Duration::from_secs(STOP_SECONDS_MAX)).await;
    };
    let server = std::pin::pin!(server.into_future());
    match futures_util::future::select(server, std::pin::pin!(deadline)).await {
        futures_util::future::Either::Left((result, _)) => result,
        futures_util::future::Either::Right(((), _)) => Ok(()),
    }
}
