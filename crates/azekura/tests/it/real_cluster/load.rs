//! Writes, reads and flushes through NBD, eight in flight, every answer checked by the oracle of `workload`:
//! reads are linearizable, an image after a crash is a prefix that holds everything flushed.
//!
//! A load runs in a thread of its own and takes orders over a channel, because the history of the oracle
//! belongs to one thread. It counts answers and keeps the longest time without one.

use super::writer::Writer;
use crate::support::cluster::wait_until;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// A request that has no answer after this long is lost.
pub const PATIENCE: Duration = Duration::from_secs(45);

/// What a load is told.
pub enum Order {
    /// Open a second connection, through the node that will be stopped.
    Prepare(String),
    /// Send requests on the second connection that nobody answers now.
    Straggle,
    /// Receive their answers.
    Collect,
    /// Everything was killed: check what is there through this address, and go on.
    Reopen(String),
    /// Flush, check every block, and end.
    Finish,
}

/// What a load saw.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Writes that were acknowledged.
    pub writes: u64,
    /// Flushes that were.
    pub flushes: u64,
    /// Reads that were answered.
    pub reads: u64,
    /// The longest time without any answer.
    pub stall: Duration,
    /// Acknowledged writes after the last acknowledged flush, when everything was killed.
    pub unflushed: u64,
    /// Requests of the stopped owner's client: answered well, and refused or cut off.
    pub stragglers: (u64, u64),
}

/// What the test sees of a running load.
#[derive(Default)]
pub struct Watched {
    /// Answers so far.
    pub answers: AtomicU64,
    /// Why the connection is lost.
    pub cut: Mutex<Option<String>>,
}

/// A running load.
pub struct Load {
    orders: Sender<Order>,
    done: Receiver<()>,
    watched: Arc<Watched>,
    thread: Option<JoinHandle<Result<Seen, String>>>,
    volume: String,
}

impl Load {
    /// Starts on an empty volume.
    pub fn start(nbd: &str, volume: &str, seed: u64) -> Self {
        let (orders, receiver) = mpsc::channel();
        let (sender, done) = mpsc::channel();
        let watched = Arc::new(Watched::default());
        let (nbd, name, shared) = (nbd.to_owned(), volume.to_owned(), watched.clone());
        let thread = std::thread::spawn(move || {
            let mut writer = Writer::new(&nbd, &name, seed, shared)?;
            writer.run(&receiver, &sender)?;
            Ok(writer.seen)
        });
        Self {
            orders,
            done,
            watched,
            thread: Some(thread),
            volume: volume.to_owned(),
        }
    }

    /// Waits until `more` further requests were answered.
    pub fn wait_for(&mut self, more: u64) {
        let target = self.watched.answers.load(Relaxed) + more;
        let volume = self.volume.clone();
        wait_until(&format!("{more} answers of volume {volume}"), || {
            let cut = self.watched.cut.lock().unwrap().take();
            assert!(cut.is_none(), "volume {volume}: {}", cut.unwrap());
            if self.thread.as_ref().is_none_or(JoinHandle::is_finished) {
                self.end();
                panic!("the load of volume {volume} ended");
            }
            self.watched.answers.load(Relaxed) >= target
        });
    }

    /// What it saw; it must have ended well.
    fn end(&mut self) -> Seen {
        let thread = self.thread.take().expect("a load ends once");
        let ended = thread.join().expect("the load does not panic");
        ended.unwrap_or_else(|error| panic!("volume {}: {error}", self.volume))
    }

    /// Sends an order and waits until it is carried out.
    fn order(&mut self, order: Order) {
        let sent = self.orders.send(order).is_ok();
        if !sent || self.done.recv_timeout(PATIENCE * 2).is_err() {
            self.end();
            panic!("the load of volume {} did not obey", self.volume);
        }
    }

    /// Opens a second connection.
    pub fn prepare(&mut self, nbd: &str) {
        self.order(Order::Prepare(nbd.to_owned()));
    }

    /// Sends requests on the second connection, without waiting for answers.
    pub fn straggle(&mut self) {
        self.order(Order::Straggle);
    }

    /// Waits for the answers of the second connection and checks them.
    pub fn collect(&mut self) {
        self.order(Order::Collect);
    }

    /// After all nodes were killed and restarted: checks every block, and goes on.
    pub fn reopen(&mut self, nbd: &str) {
        self.order(Order::Reopen(nbd.to_owned()));
    }

    /// Flushes, checks every block and ends.
    pub fn finish(mut self) -> Seen {
        let _ = self.orders.send(Order::Finish);
        self.end()
    }
}
