//! Serving the router on a socket, plain or encrypted.
//!
//! Invariants
//! - What is open at a time is bounded ([`CONNECTIONS_MAX`]), and so are handshakes: who reaches the API takes no descriptor that
//!   stores, other nodes and clients need. The next callers wait in the kernel.
//!   No address has all of them ([`CONNECTIONS_EACH_MAX`]).
//! - A connection that says nothing at first for [`FIRST_MAX`], or on which later nothing moves for [`IDLE_MAX`], is closed.

use crate::auth::Transport;
use crate::{Auth, Backend, router};
use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use identity::{Credentials, PublicCertificate, Shown, caller_of};
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::Sleep;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use world::Caller;

/// Longest wait for requests that are being answered when the server is told to stop.
pub const STOP_SECONDS_MAX: u64 = 3;
/// Longest handshake.
const HANDSHAKE_MAX: Duration = Duration::from_secs(5);
/// Handshakes at a time; the next callers wait in the kernel.
const HANDSHAKES_MAX: usize = 256;
/// Connections at a time.
const CONNECTIONS_MAX: usize = 1024;
/// Of those from one address.
const CONNECTIONS_EACH_MAX: usize = 256;
/// So soon a new one must say something.
const FIRST_MAX: Duration = Duration::from_secs(10);
/// Nothing moves for so long: longer than the longest answer takes to begin.
const IDLE_MAX: Duration = Duration::from_secs(150);
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

    /// The fingerprint of its certificate; empty: it has shown none.
    pub(crate) fn certificate(&self) -> String {
        let shown = self.shown.as_ref();
        shown.map_or_else(String::new, |shown| shown.fingerprint().to_owned())
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
    /// Ends it when nothing moves.
    idle: Pin<Box<Sleep>>,
    _place: Place,
}

impl Connection {
    fn plain(stream: TcpStream, place: Place) -> Self {
        Self {
            talk: Box::new(stream),
            caller: None,
            shown: None,
            public: false,
            idle: Box::pin(tokio::time::sleep(FIRST_MAX)),
            _place: place,
        }
    }

    fn encrypted(stream: TlsStream<TcpStream>, certificates: Certificates, place: Place) -> Self {
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
            idle: Box::pin(tokio::time::sleep(FIRST_MAX)),
            _place: place,
        }
    }

    /// What was polled of what comes and goes, or an error where nothing has moved for too long.
    fn moved<T>(
        &mut self,
        context: &mut Context<'_>,
        polled: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            let until = tokio::time::Instant::now() + IDLE_MAX;
            self.idle.as_mut().reset(until);
        }
        self.bounded(context, polled)
    }

    /// The same of what moves nothing by itself.
    fn bounded<T>(
        &mut self,
        context: &mut Context<'_>,
        polled: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            return polled;
        }
        match self.idle.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.talk).poll_read(context, into);
        self.moved(context, polled)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.talk).poll_write(context, bytes);
        self.moved(context, polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.talk).poll_write_vectored(context, parts);
        self.moved(context, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.talk.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.talk).poll_flush(context);
        self.bounded(context, polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.talk).poll_shutdown(context);
        self.bounded(context, polled)
    }
}

/// How many connections each address has.
type Callers = Arc<Mutex<BTreeMap<IpAddr, usize>>>;

/// A connection's place among all, and among those of its address.
struct Place {
    from: IpAddr,
    callers: Callers,
    _one_of_all: OwnedSemaphorePermit,
}

impl Place {
    /// Nothing, when the address has all that it may have.
    fn take(from: IpAddr, callers: &Callers, one_of_all: OwnedSemaphorePermit) -> Option<Self> {
        let mut counts = callers.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(from).or_default();
        if *count >= CONNECTIONS_EACH_MAX {
            return None;
        }
        *count += 1;
        drop(counts);
        Some(Self {
            from,
            callers: callers.clone(),
            _one_of_all: one_of_all,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.callers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.from) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.from);
            }
        }
    }
}

/// The API's socket and who is shaking hands at it.
struct Door {
    listener: TcpListener,
    certificates: Option<Certificates>,
    shaking: JoinSet<Option<(Connection, SocketAddr)>>,
    places: Arc<Semaphore>,
    callers: Callers,
    /// Of the next connection.
    place: Option<OwnedSemaphorePermit>,
}

impl Door {
    async fn next(&mut self) -> (Connection, SocketAddr) {
        loop {
            let room = self.shaking.len() < HANDSHAKES_MAX;
            let places = self.places.clone();
            tokio::select! {
                Some(shaken) = self.shaking.join_next() => {
                    if let Ok(Some(shaken)) = shaken {
                        return shaken;
                    }
                }
                Ok(place) = places.acquire_owned(), if self.place.is_none() => self.place = Some(place),
                accepted = self.listener.accept(), if room && self.place.is_some() => match accepted {
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
        let place = Place::take(from.ip(), &self.callers, self.place.take()?)?;
        let Some(certificates) = self.certificates.clone() else {
            return Some((Connection::plain(stream, place), from));
        };
        let server = certificates.own.current().open_server.clone();
        let acceptor = TlsAcceptor::from(match &certificates.public {
            Some(public) => public.beside(&server),
            None => server,
        });
        self.shaking.spawn(async move {
            match tokio::time::timeout(HANDSHAKE_MAX, acceptor.accept(stream)).await {
                Ok(Ok(stream)) => Some((Connection::encrypted(stream, certificates, place), from)),
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
        places: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
        callers: Callers::default(),
        place: None,
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

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    fn door(listener: TcpListener, places: usize) -> Door {
        Door {
            listener,
            certificates: None,
            shaking: JoinSet::new(),
            places: Arc::new(Semaphore::new(places)),
            callers: Callers::default(),
            place: None,
        }
    }

    #[tokio::test]
    async fn no_more_than_so_many_are_open() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut door = door(listener, 2);
        let _callers = [
            TcpStream::connect(address).await.unwrap(),
            TcpStream::connect(address).await.unwrap(),
            TcpStream::connect(address).await.unwrap(),
        ];
        let one = door.next().await;
        let _two = door.next().await;
        let third = tokio::time::timeout(Duration::from_millis(200), door.next());
        assert!(third.await.is_err());
        drop(one);
        door.next().await;
    }

    #[tokio::test(start_paused = true)]
    async fn one_on_which_nothing_moves_is_closed() {
        let places = Arc::new(Semaphore::new(1));
        let (mut theirs, ours) = tokio::io::duplex(64);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (_caller, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        let place = places.acquire_owned().await.unwrap();
        let callers = Callers::default();
        let place = Place::take(address.ip(), &callers, place).unwrap();
        let mut connection = Connection::plain(accepted.unwrap().0, place);
        connection.talk = Box::new(ours);
        theirs.write_all(b"x").await.unwrap();
        let mut bytes = [0; 1];
        connection.read_exact(&mut bytes).await.unwrap();
        let began = tokio::time::Instant::now();
        tokio::spawn(async move {
            tokio::time::sleep(IDLE_MAX * 2 / 3).await;
            theirs.write_all(b"x").await.unwrap();
            tokio::time::sleep(IDLE_MAX * 2).await;
        });
        let mut bytes = [0; 2];
        let error = connection.read_exact(&mut bytes).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(began.elapsed() >= IDLE_MAX * 5 / 3);
        drop(connection);
        assert!(callers.lock().unwrap().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_says_nothing_is_closed_soon_and_no_address_has_all() {
        let places = Arc::new(Semaphore::new(CONNECTIONS_EACH_MAX + 2));
        let callers = Callers::default();
        let here = IpAddr::from([127, 0, 0, 1]);
        let take = async |from| {
            let place = places.clone().acquire_owned().await.unwrap();
            Place::take(from, &callers, place)
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (_caller, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        let place = take(here).await.unwrap();
        let mut connection = Connection::plain(accepted.unwrap().0, place);
        let (_theirs, ours) = tokio::io::duplex(64);
        connection.talk = Box::new(ours);
        let began = tokio::time::Instant::now();
        let error = connection.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!((FIRST_MAX..IDLE_MAX).contains(&began.elapsed()));
        let mut taken = Vec::new();
        for _ in 1..CONNECTIONS_EACH_MAX {
            taken.push(take(here).await.unwrap());
        }
        assert!(take(here).await.is_none());
        assert!(take(IpAddr::from([127, 0, 0, 2])).await.is_some());
        taken.pop();
        assert!(take(here).await.is_some());
    }
}
