//! TLS 1.3 over any network, both sides with certificates of the cluster.
//!
//! [`encrypt`] turns a [`World`] into one whose connections are encrypted; nothing above sees a difference but by
//! [`Stream::caller`]. Sans-io rustls: it turns bytes into bytes, the network below carries them.
//!
//! Invariants
//! - A stream is handed out only after a whole handshake, so its caller is known. One that shows no certificate of the
//!   cluster is never handed out.
//! - A handshake takes at most [`HANDSHAKE_MAX`], and its computations run on the offload pool. At most
//!   [`HANDSHAKES_MAX`] of a listener are under way; beyond them the oldest is given up, so callers that do nothing
//!   keep nobody out.
//! - Credentials are looked at for every new connection: changed files count from then on. Of a connection that exists
//!   [`Stream::is_believed`] says whether they still stand for what its caller has shown; that is computed on the shard, in less
//!   than a millisecond, once for each change of the files.
//! - The end of the bytes below is the end of the stream, with or without a closing alert: the frames above tell whether
//!   something is missing (docs/protocols/rpc.md).
//! - A dropped read loses nothing; a dropped write happens as a whole, as `net.rs` has it.
//!
//! It does not know what a role may do. Read next: `stream.rs`, `shake.rs`, `accept.rs`.

mod accept;
mod shake;
mod stream;

use accept::Doorkeeper;
use identity::Credentials;
use std::rc::Rc;
use std::sync::Arc;
use world::{Address, Duration, Listener, LocalBoxFuture, Net, NetError, Stream, World};

/// Longest handshake: two round trips and 1 ms of computing on each side, with much room.
pub const HANDSHAKE_MAX: Duration = Duration::from_secs(5);
/// Handshakes of one listener at a time: with 64 KiB each 32 MiB.
pub const HANDSHAKES_MAX: usize = 512;

/// `world`, with every connection encrypted but those of [`Net::listen_plain`].
#[must_use]
pub fn encrypt(world: &World, credentials: Arc<Credentials>) -> World {
    let net = TlsNet {
        world: world.clone(),
        credentials,
    };
    World {
        net: Rc::new(net),
        ..world.clone()
    }
}

/// An encrypted network over a plain one.
struct TlsNet {
    /// Its `net` is the plain one.
    world: World,
    credentials: Arc<Credentials>,
}

impl Net for TlsNet {
    fn connect(
        &self,
        address: &Address,
    ) -> LocalBoxFuture<'static, Result<Rc<dyn Stream>, NetError>> {
        let (world, address) = (self.world.clone(), address.clone());
        let credentials = self.credentials.clone();
        Box::pin(async move {
            let stream = world.net.connect(&address).await?;
            let shaken = shake::call(&world, credentials, stream).await;
            shaken.map_err(|reason| NetError::Untrusted {
                address: address.0,
                reason,
            })
        })
    }

    fn listen(
        &self,
        address: &Address,
    ) -> LocalBoxFuture<'static, Result<Rc<dyn Listener>, NetError>> {
        let (world, address) = (self.world.clone(), address.clone());
        let credentials = self.credentials.clone();
        Box::pin(async move {
            let listener = world.net.listen(&address).await?;
            let keeper = Doorkeeper::new(world, credentials, listener);
            Ok(Rc::new(keeper) as Rc<dyn Listener>)
        })
    }

    fn listen_plain(
        &self,
        address: &Address,
    ) -> LocalBoxFuture<'static, Result<Rc<dyn Listener>, NetError>> {
        self.world.net.listen_plain(address)
    }
}
