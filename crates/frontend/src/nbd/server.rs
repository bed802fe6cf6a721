//! Accepts connections and sees each of them from the handshake to the closing of its device.

use super::connection::{Connection, End};
use super::handshake::{Facts, Handshake, Negotiated, Purpose, Step, Violation};
use super::input::Input;
use super::request::Export;
use super::{Exports, OpenError, Options};
use blockdev::BlockDevice;
use futures_util::future::{Either, select};
use std::cell::Cell;
use std::future::Future;
use std::pin::pin;
use std::rc::Rc;
use world::sync::Notify;
use world::{Duration, Listener, NetError, Stream, Time, World};

/// Failed accepts in a row after which the listener is given up; with the pause between them, ten seconds.
const ACCEPT_FAILURES_MAX: u32 = 100;
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves `exports` to everyone who connects, until [`Options::shutdown`] is requested or the listener
/// fails for good; returns when the last connection is over. Dropping the future only ends accepting.
pub async fn serve(
    world: World,
    listener: Rc<dyn Listener>,
    exports: Rc<dyn Exports>,
    options: Options,
) {
    let open = Open::default();
    let mut failures = 0;
    while failures < ACCEPT_FAILURES_MAX {
        let shutdown = pin!(options.shutdown.requested());
        let stream = match select(listener.accept(), shutdown).await {
            Either::Left((Ok(stream), _)) => stream,
            Either::Left((Err(error), _)) => {
                tracing::warn!(address = %listener.address(), %error, "NBD: accepting failed");
                failures += 1;
                world.sleep(ACCEPT_PAUSE).await;
                continue;
            }
            Either::Right(((), _)) => break,
        };
        failures = 0;
        if open.count.get() >= options.connections_max {
            tracing::warn!(max = options.connections_max, "NBD: too many connections");
            stream.close();
            continue;
        }
        let peer = Peer {
            world: world.clone(),
            stream,
            exports: exports.clone(),
            options: options.clone(),
        };
        let place = open.enter();
        world.spawn(async move {
            let end = peer.serve().await;
            tracing::debug!(%end, "NBD: connection over");
            drop(place);
        });
    }
    drop(listener);
    open.wait_for_none().await;
}

/// Counts the open connections.
#[derive(Clone, Default)]
struct Open {
    count: Rc<Cell<usize>>,
    changed: Notify,
}

struct Place(Open);

impl Open {
    fn enter(&self) -> Place {
        self.count.set(self.count.get() + 1);
        Place(self.clone())
    }

    async fn wait_for_none(&self) {
        loop {
            let changed = self.changed.notified();
            if self.count.get() == 0 {
                return;
            }
            changed.await;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.count.set(self.0.count.get() - 1);
        self.0.changed.notify_all();
    }
}

/// One client.
struct Peer {
    world: World,
    stream: Rc<dyn Stream>,
    exports: Rc<dyn Exports>,
    options: Options,
}

/// The export that the client chose last.
struct Opened {
    name: String,
    device: Rc<dyn BlockDevice>,
}

impl Peer {
    async fn serve(self) -> End {
        let mut opened = None;
        let end = self.converse(&mut opened).await;
        self.stream.close();
        self.close(opened).await;
        end
    }

    async fn close(&self, opened: Option<Opened>) {
        if let Some(opened) = opened {
            self.exports.closed(opened.device).await;
        }
    }

    /// The whole conversation; the device in `opened` is left to be closed.
    async fn converse(&self, opened: &mut Option<Opened>) -> End {
        let agreed = match self.shake_hands(opened).await {
            Ok(agreed) => agreed,
            Err(end) => return end,
        };
        let Some(Opened { name, device }) = opened else {
            unreachable!("a handshake succeeds only with an open export");
        };
        let export = Export {
            device: device.clone(),
            locks: self.options.locks.of(name),
            sparse_read_bytes_min: self.options.sparse_read_bytes_min,
            structured: agreed.0.structured,
        };
        let connection = Connection::new(self.stream.clone(), export, agreed, &self.options);
        connection.run(&self.world, &self.options).await
    }

    async fn shake_hands(&self, opened: &mut Option<Opened>) -> Result<(Negotiated, Input), End> {
        let deadline = self.world.now() + self.options.handshake_timeout;
        let mut handshake = Handshake::new();
        // The handshake bounds its options, the deadline everything else.
        loop {
            let step = handshake.next();
            let output = handshake.output();
            if !output.is_empty() && step.is_ok() {
                self.within(deadline, self.stream.write(vec![output]))
                    .await?;
            }
            match step? {
                Step::Read => {
                    let chunk = self.within(deadline, self.stream.read()).await?;
                    if chunk.is_empty() {
                        return Err(End::ClientGone);
                    }
                    handshake.feed(chunk);
                }
                Step::List => handshake.listed(self.exports.list().await),
                Step::Abort => return Err(End::Disconnected),
                Step::Open { name, purpose } => {
                    if self.open(&mut handshake, opened, &name, purpose).await? {
                        let output = handshake.output();
                        self.within(deadline, self.stream.write(vec![output]))
                            .await?;
                        return Ok(handshake.finish(&name));
                    }
                }
            }
        }
    }

    /// Opens `name` unless it is open, and answers; true when transmission begins.
    async fn open(
        &self,
        handshake: &mut Handshake,
        opened: &mut Option<Opened>,
        name: &str,
        purpose: Purpose,
    ) -> Result<bool, Violation> {
        let other = opened.take_if(|opened| opened.name != name);
        self.close(other).await;
        let mut result = Ok(());
        if opened.is_none() {
            match self.exports.open(name).await {
                Ok(device) => {
                    let name = name.to_owned();
                    *opened = Some(Opened { name, device });
                }
                Err(error) => result = Err(error),
            }
        }
        let facts = |opened: &Opened| Facts {
            size: opened.device.size().0,
            read_only: opened.device.read_only(),
        };
        let facts = opened.as_ref().map(facts);
        let result = result.and_then(|()| facts.ok_or(OpenError::Unknown));
        handshake.opened(purpose, result)
    }

    /// The outcome of `io`, unless the handshake's time is over or the server ends.
    async fn within<T>(
        &self,
        deadline: Time,
        io: impl Future<Output = Result<T, NetError>>,
    ) -> Result<T, End> {
        let left = deadline.since(self.world.now());
        let bounded = pin!(self.world.timeout(left, io));
        let shutdown = pin!(self.options.shutdown.requested());
        match select(bounded, shutdown).await {
            Either::Left((Ok(result), _)) => Ok(result?),
            Either::Left((Err(_), _)) => Err(End::HandshakeTimeout),
            Either::Right(((), _)) => Err(End::Shutdown),
        }
    }
}
