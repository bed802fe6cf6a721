//! Serving the router on a socket, plain or encrypted.

use crate::auth::Transport;
use crate::{Auth, Backend, router};
use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use identity::{Credentials, PublicCertificate, Shown, caller_of};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
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

/// What an encrypted API shows.
#[derive(Clone)]
pub struct Certificates {
    /// To the cluster's clients, and to everybody if there is nothing else.
    pub own: Arc<Credentials>,
    /// To browsers that ask for a name it holds for.
    pub public: Option<Arc<PublicCertificate>>,
}

/// Who is at the other end of a connection.
#[derive(Clone)]
pub(crate) struct Peer {
    /// It was shown a certificate that browsers believe.
    pub(crate) public: bool,
    /// As its certificate says.
    caller: Option<Caller>,
    shown: Option<Arc<Shown>>,
    /// Where it is.
    pub(crate) from: IpAddr,
}

impl Peer {
    /// Who it is, as long as its certificate is believed.
    pub(crate) fn caller(&self) -> Option<Caller> {
        let believed = self.shown.as_ref().is_none_or(|shown| shown.is_believed());
        self.caller.clone().filter(|_| believed)
    }
}

/// A connection.
trait Talk: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Talk for T {}

/// A connection, and who is at its other end.
struct Connection {
    talk: Box<dyn Talk>,
    caller: Option<Caller>,
    shown: Option<Arc<Shown>>,
    public: bool,
}

impl Connection {
    fn plain(stream: TcpStream) -> Self {
        Self {
            talk: Box::new(stream),
            caller: None,
            shown: None,
            public: false,
        }
    }

    fn encrypted(stream: TlsStream<TcpStream>, certificates: Certificates) -> Self {
        let connection = stream.get_ref().1;
        let chain = connection.peer_certificates();
        // The chain was verified; one that says no role is nobody's.
        let caller = chain.and_then(|chain| caller_of(chain).ok());
        let shown = chain.map(|chain| Arc::new(Shown::new(certificates.own, chain)));
        let public = certificates.public;
        let public = public.is_some_and(|public| public.is_of(connection.server_name()));
        Self {
            caller,
            shown,
            public,
            talk: Box::new(stream),
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.talk).poll_read(context, into)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.talk).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.talk).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.talk.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.talk).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.talk).poll_shutdown(context)
    }
}

/// The API's socket and who is shaking hands at it.
struct Door {
    listener: TcpListener,
    certificates: Option<Certificates>,
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
        let Some(certificates) = self.certificates.clone() else {
            return Some((Connection::plain(stream), from));
        };
        let server = certificates.own.current().open_server.clone();
        let acceptor = TlsAcceptor::from(match &certificates.public {
            Some(public) => public.beside(&server),
            None => server,
        });
        self.shaking.spawn(async move {
            match tokio::time::timeout(HANDSHAKE_MAX, acceptor.accept(stream)).await {
                Ok(Ok(stream)) => Some((Connection::encrypted(stream, certificates), from)),
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
            public: stream.io().public,
            caller: stream.io().caller.clone(),
            shown: stream.io().shown.clone(),
            from: stream.remote_addr().ip(),
        }
    }
}

/// Serves the API on `listener`, encrypted when there are certificates, until `stop` resolves; requests in progress then get
/// [`STOP_SECONDS_MAX`] to finish.
///
/// # Errors
/// When the listening socket fails.
pub async fn serve(
    listener: TcpListener,
    backend: Arc<dyn Backend>,
    auth: Auth,
    certificates: Option<Certificates>,
    stop: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let (stopping, mut stopped) = watch::channel(false);
    let signal = async move {
        stop.await;
        // Nobody listening any more means that the server has ended by itself.
        let _ = stopping.send(true);
    };
    let transport = match certificates {
        Some(_) => Transport::Encrypted,
        None => Transport::Plain,
    };
    let door = Door {
        listener,
        certificates,
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
