//! The way from the threads of the file system to a block device on its shard.
//!
//! Invariants
//! - Every [`Request`] is answered once: one that is dropped, because the shard has ended, is answered with
//!   [`BlockError::Gone`]. So no kernel thread waits for ever.
//! - The kernel bounds what is under way: `MAX_BACKGROUND` requests of at most 1 MiB.

use crate::service::Service;
use blockdev::{BlockDevice, BlockError};
use bytes::Bytes;
use std::cell::Cell;
use std::rc::Rc;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;
use vocab::ByteCount;
use world::sync::Notify;
use world::{LocalBoxFuture, World};
use world_linux::{RemoteHandle, ShardOptions};

/// What is asked of the device. Bytes, not blocks: the service does what is smaller than a block.
#[derive(Debug)]
pub enum Command {
    /// Up to `len` bytes at `offset`, less at the end of the device.
    Read {
        /// First byte.
        offset: u64,
        /// Bytes.
        len: u64,
    },
    /// Writes.
    Write {
        /// First byte.
        offset: u64,
        /// What is written.
        data: Bytes,
    },
    /// Zeroes and gives space back.
    Zero {
        /// First byte.
        offset: u64,
        /// Bytes.
        len: u64,
    },
    /// Makes durable.
    Flush,
    /// Size and mode.
    Describe,
}

/// What the device answered.
#[derive(Debug)]
pub enum Answer {
    /// To a read.
    Data(Vec<Bytes>),
    /// To a change.
    Done,
    /// To [`Command::Describe`].
    Description {
        /// Present size.
        size: ByteCount,
        /// Whether writes are refused.
        read_only: bool,
    },
}

/// Receives the answer; called once, on any thread.
pub type Reply = Box<dyn FnOnce(Result<Answer, BlockError>) + Send>;

/// A command and who waits for it.
pub struct Request {
    /// What to do.
    pub command: Command,
    reply: Option<Reply>,
}

impl Request {
    /// A request that is answered through `reply`.
    #[must_use]
    pub fn new(command: Command, reply: Reply) -> Self {
        Self {
            command,
            reply: Some(reply),
        }
    }

    /// Hands over the answer.
    pub fn answer(mut self, answer: Result<Answer, BlockError>) {
        if let Some(reply) = self.reply.take() {
            reply(answer);
        }
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        if let Some(reply) = self.reply.take() {
            reply(Err(BlockError::Gone("its shard has ended".to_owned())));
        }
    }
}

/// Where requests go.
pub trait Backend: Send + Sync + 'static {
    /// Starts a request. Must not block: the caller is the only reader of the kernel's queue.
    fn submit(&self, request: Request);
}

impl<B: Backend + ?Sized> Backend for std::sync::Arc<B> {
    fn submit(&self, request: Request) {
        (**self).submit(request);
    }
}

/// Asks and waits. For the thread that attaches, never for one that serves.
///
/// # Errors
/// The device's, and [`BlockError::Failed`] when `patience` passes first.
pub fn ask(
    backend: &dyn Backend,
    command: Command,
    patience: Duration,
) -> Result<Answer, BlockError> {
    let (sender, receiver) = mpsc::sync_channel(1);
    let reply = move |answer| {
        // The receiver is gone when it lost patience.
        let _ = sender.send(answer);
    };
    backend.submit(Request::new(command, Box::new(reply)));
    receiver.recv_timeout(patience).unwrap_or_else(|_| {
        let text = format!("no answer within {} s", patience.as_secs());
        Err(BlockError::Failed(text))
    })
}

/// Why a shard with a device could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The thread.
    #[error("cannot start the I/O thread: {0}")]
    Thread(#[source] std::io::Error),
    /// The shard.
    #[error(transparent)]
    Shard(#[from] world_linux::StartError),
    /// The device.
    #[error("cannot open the volume: {0}")]
    Device(String),
}

/// A block device on a shard of its own. Dropping it ends the shard and waits for that.
pub struct ShardBackend {
    remote: RemoteHandle<Shard>,
    thread: Option<JoinHandle<()>>,
}

/// What lives on the shard.
struct Shard {
    service: Rc<Service>,
    stopping: Cell<bool>,
    stop: Notify,
}

type Opened = Result<RemoteHandle<Shard>, StartError>;

impl ShardBackend {
    /// Starts a thread, makes it a shard and opens the device there.
    ///
    /// # Errors
    /// [`StartError`]; nothing is left running then.
    pub fn start<F>(options: ShardOptions, open: F) -> Result<Self, StartError>
    where
        F: FnOnce(World) -> LocalBoxFuture<'static, Result<Rc<dyn BlockDevice>, String>>
            + Send
            + 'static,
    {
        let (opened, outcome) = mpsc::channel::<Opened>();
        let thread = std::thread::Builder::new()
            .name("attach-shard".to_owned())
            .spawn(move || serve(options, open, &opened))
            .map_err(StartError::Thread)?;
        match outcome.recv() {
            Ok(Ok(remote)) => Ok(Self {
                remote,
                thread: Some(thread),
            }),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(StartError::Device("the I/O thread panicked".to_owned())),
        }
    }
}

fn serve<F>(options: ShardOptions, open: F, opened: &mpsc::Sender<Opened>)
where
    F: FnOnce(World) -> LocalBoxFuture<'static, Result<Rc<dyn BlockDevice>, String>> + 'static,
{
    let outcome = opened.clone();
    let run = world_linux::run(options, move |world, machine| {
        Box::pin(async move {
            let device = match open(world).await {
                Ok(device) => device,
                Err(reason) => {
                    let _ = outcome.send(Err(StartError::Device(reason)));
                    return;
                }
            };
            let shard = Rc::new(Shard {
                service: Rc::new(Service::new(device)),
                stopping: Cell::new(false),
                stop: Notify::default(),
            });
            let _ = outcome.send(Ok(machine.remote(shard.clone())));
            loop {
                let stop = shard.stop.notified();
                if shard.stopping.get() {
                    return;
                }
                stop.await;
            }
        })
    });
    if let Err(error) = run {
        let _ = opened.send(Err(StartError::Shard(error)));
    }
}

impl Backend for ShardBackend {
    fn submit(&self, request: Request) {
        // A shard that has ended drops the request, which answers it.
        let _ = self
            .remote
            .spawn(move |shard| shard.service.clone().handle(request));
    }
}

impl Drop for ShardBackend {
    fn drop(&mut self) {
        let stop = |shard: Rc<Shard>| -> LocalBoxFuture<'static, ()> {
            shard.stopping.set(true);
            shard.stop.notify_all();
            Box::pin(std::future::ready(()))
        };
        // A shard that has ended needs no telling.
        let _ = self.remote.spawn(stop);
        if let Some(thread) = self.thread.take() {
            // A panic of the shard was reported by its own thread.
            let _ = thread.join();
        }
    }
}
