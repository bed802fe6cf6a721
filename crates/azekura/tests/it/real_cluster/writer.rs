//! The thread of a load: one connection, or two when an owner is going to be stopped, and one history.

use super::load::{Order, PATIENCE, Seen, Watched};
use crate::support::nbd::{Client, Reply};
use blockdev::WriteMode;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{Receiver, Sender, TryRecvError};
use std::time::Instant;
use vocab::Lba;
use workload::oracle::{Action, History, OpId, ReadId};
use workload::pattern::{Content, read_back};

/// Bytes of a block.
const BLOCK: usize = 4096;
/// Blocks of the volume that are used.
const BLOCKS: u64 = 4032;
/// Requests in flight.
const DEPTH: usize = 8;
/// Blocks at the start of the volume that only stragglers write, one each.
const STRAGGLERS: u64 = 8;
/// Blocks after these that are changed again and again: old copies of them are easy to catch.
const HOT: u64 = 8;
/// Blocks of a write that goes past the journal, and of a read of the whole volume.
const LONG: u64 = 96;
/// Requests between two flushes.
const FLUSH_EVERY: u64 = 48;

/// A request under way.
enum Asked {
    Change(OpId, Action),
    Read(ReadId),
}

/// How an answer fails the test.
type Checked<T = ()> = Result<T, String>;

/// One connection and what was asked on it.
struct Lane {
    client: Client,
    asked: BTreeMap<u64, Asked>,
}

impl Lane {
    fn open(nbd: &str, volume: &str) -> Checked<Self> {
        let client = Client::connect(nbd, volume, PATIENCE);
        let client = client.map_err(|error| format!("cannot open {volume} at {nbd}: {error}"))?;
        let asked = BTreeMap::new();
        Ok(Self { client, asked })
    }

    fn change(&mut self, history: &mut History, action: Action) -> std::io::Result<()> {
        let op = history.on_issue(action);
        let sent = match action {
            Action::Write { lba, .. } => {
                let data = history.data(op);
                self.client.send_write(lba.0 * BLOCK as u64, &data)
            }
            _ => self.client.send_flush(),
        };
        // An operation whose request was cut off stays under way until the crash ends it.
        self.asked.insert(sent?, Asked::Change(op, action));
        Ok(())
    }

    fn read(&mut self, history: &mut History, lba: u64, blocks: u64) -> std::io::Result<()> {
        let read = history.begin_read(Lba(lba), blocks);
        let bytes = u32::try_from(blocks * BLOCK as u64).expect("reads are short");
        let sent = self.client.send_read(lba * BLOCK as u64, bytes)?;
        self.asked.insert(sent, Asked::Read(read));
        Ok(())
    }
}

fn contents(data: &[u8]) -> Vec<Content> {
    data.chunks(BLOCK).map(read_back).collect()
}

fn write_action(lba: u64, blocks: u64) -> Action {
    Action::Write {
        lba: Lba(lba),
        blocks,
        mode: WriteMode::Buffered,
    }
}

/// How an answer, or its absence, is taken.
enum Trouble {
    /// The connection is gone.
    Cut(std::io::Error),
    /// The device lied or failed.
    Wrong(String),
}

impl From<std::io::Error> for Trouble {
    fn from(error: std::io::Error) -> Self {
        Self::Cut(error)
    }
}

impl Trouble {
    fn text(self) -> String {
        match self {
            Self::Cut(error) => format!("the connection is lost: {error}"),
            Self::Wrong(text) => text,
        }
    }
}

/// Everything about one volume.
pub struct Writer {
    history: History,
    lane: Lane,
    straggler: Option<Lane>,
    volume: String,
    watched: Arc<Watched>,
    last_answer: Instant,
    issued: u64,
    random: u64,
    /// Acknowledged writes since the last acknowledged flush.
    unflushed: u64,
    /// What the load saw so far.
    pub seen: Seen,
}

impl Writer {
    pub fn new(nbd: &str, volume: &str, seed: u64, watched: Arc<Watched>) -> Checked<Self> {
        Ok(Self {
            history: History::new(seed, BLOCKS),
            lane: Lane::open(nbd, volume)?,
            straggler: None,
            volume: volume.to_owned(),
            watched,
            last_answer: Instant::now(),
            issued: 0,
            random: seed,
            unflushed: 0,
            seen: Seen::default(),
        })
    }

    /// Goes on until told to finish.
    pub fn run(&mut self, orders: &Receiver<Order>, done: &Sender<()>) -> Checked {
        loop {
            let outcome = match orders.try_recv() {
                Ok(Order::Finish) | Err(TryRecvError::Disconnected) => {
                    return self.finish().map_err(Trouble::text);
                }
                Ok(order) => self.obey(order).inspect(|()| {
                    let _ = done.send(());
                }),
                Err(TryRecvError::Empty) => self.step(),
            };
            match outcome {
                Ok(()) => {}
                Err(Trouble::Wrong(text)) => return Err(text),
                Err(Trouble::Cut(error)) => self.wait_for_restart(error, orders, done)?,
            }
        }
    }

    fn obey(&mut self, order: Order) -> Result<(), Trouble> {
        match order {
            Order::Prepare(nbd) => {
                let lane = Lane::open(&nbd, &self.volume).map_err(Trouble::Wrong)?;
                self.straggler = Some(lane);
                // Used once, so that it is known to work while its node does.
                self.straggle()?;
                self.collect()
            }
            Order::Straggle => self.straggle(),
            Order::Collect => self.collect(),
            Order::Reopen(_) => Err(Trouble::Wrong("the connection outlived its node".into())),
            Order::Finish => unreachable!("handled by the caller"),
        }
    }

    /// The gateway died with everything else. What it had in flight may have happened or not.
    fn wait_for_restart(
        &mut self,
        error: std::io::Error,
        orders: &Receiver<Order>,
        done: &Sender<()>,
    ) -> Checked {
        let text = Trouble::Cut(error).text();
        *self.watched.cut.lock().expect("nobody panics with it") = Some(text.clone());
        let Ok(Order::Reopen(nbd)) = orders.recv_timeout(PATIENCE * 2) else {
            return Err(text);
        };
        self.seen.unflushed = std::mem::take(&mut self.unflushed);
        self.history.on_crash();
        self.lane = Lane::open(&nbd, &self.volume)?;
        let image = self.read_everything().map_err(Trouble::text)?;
        let at = |lba: Lba| image[usize::try_from(lba.0).expect("a small volume")];
        let verified = self.history.verify_image(at);
        verified.map_err(|violation| violation.to_string())?;
        *self.watched.cut.lock().expect("nobody panics with it") = None;
        let _ = done.send(());
        Ok(())
    }

    fn draw(&mut self, bound: u64) -> u64 {
        // Splitmix64 (Steele et al., 2014).
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.random ^ (self.random >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        (mixed ^ (mixed >> 27)) % bound
    }

    /// Sends one request more, or receives an answer when enough are in flight.
    fn step(&mut self) -> Result<(), Trouble> {
        if self.lane.client.in_flight() >= DEPTH {
            return self.receive();
        }
        self.issued += 1;
        let first_free = STRAGGLERS + HOT;
        let anywhere = first_free + self.draw(BLOCKS - first_free - LONG);
        let hot = STRAGGLERS + self.draw(HOT);
        let (lane, history) = (&mut self.lane, &mut self.history);
        match self.issued % 16 {
            _ if self.issued.is_multiple_of(FLUSH_EVERY) => lane.change(history, Action::Flush)?,
            1 if self.issued % 96 == 1 => lane.change(history, write_action(anywhere, LONG))?,
            2 | 9 => lane.change(history, write_action(hot, 1))?,
            3 => lane.read(history, hot, 1)?,
            4 | 11 => lane.read(history, anywhere, 2)?,
            5 => lane.change(history, write_action(anywhere, 7))?,
            _ => lane.change(history, write_action(anywhere, 1))?,
        }
        Ok(())
    }

    fn receive(&mut self) -> Result<(), Trouble> {
        let reply = self.lane.client.receive()?;
        self.note_answer();
        let asked = self.lane.asked.remove(&reply.cookie);
        let asked = asked.expect("the client knows what it asked");
        let Reply { outcome, .. } = reply;
        match (asked, outcome) {
            (_, Err(code)) => Err(Trouble::Wrong(format!("answered with NBD error {code}"))),
            (Asked::Read(read), Ok(data)) => {
                self.seen.reads += 1;
                self.check_read(read, &data)
            }
            (Asked::Change(op, Action::Flush), Ok(_)) => {
                self.seen.flushes += 1;
                self.unflushed = 0;
                self.history.on_ack(op);
                Ok(())
            }
            (Asked::Change(op, _), Ok(_)) => {
                self.seen.writes += 1;
                self.unflushed += 1;
                self.history.on_ack(op);
                Ok(())
            }
        }
    }

    fn note_answer(&mut self) {
        self.seen.stall = self.seen.stall.max(self.last_answer.elapsed());
        self.last_answer = Instant::now();
        self.watched.answers.fetch_add(1, Relaxed);
    }

    fn check_read(&mut self, read: ReadId, data: &[u8]) -> Result<(), Trouble> {
        let checked = self.history.on_read(read, &contents(data));
        checked.map_err(|violation| Trouble::Wrong(violation.to_string()))
    }

    fn drain(&mut self) -> Result<(), Trouble> {
        while self.lane.client.in_flight() > 0 {
            self.receive()?;
        }
        Ok(())
    }
}

impl Writer {
    /// Reads the hot blocks and writes the own ones on the second connection. Nobody answers now, but what
    /// was sent will be read when the node goes on.
    fn straggle(&mut self) -> Result<(), Trouble> {
        let lane = self.straggler.as_mut();
        let lane = lane.ok_or_else(|| Trouble::Wrong("nothing was prepared".into()))?;
        for offset in 0..HOT {
            lane.read(&mut self.history, STRAGGLERS + offset, 1)?;
        }
        for lba in 0..STRAGGLERS {
            lane.change(&mut self.history, write_action(lba, 1))?;
        }
        lane.change(&mut self.history, Action::Flush)?;
        Ok(())
    }

    /// Whatever the second connection answers must fit what the first one has seen; to refuse or to cut
    /// off is allowed.
    fn collect(&mut self) -> Result<(), Trouble> {
        let lane = self.straggler.take();
        let mut lane = lane.ok_or_else(|| Trouble::Wrong("nothing was prepared".into()))?;
        while lane.client.in_flight() > 0 {
            let Ok(reply) = lane.client.receive() else {
                break;
            };
            let asked = lane.asked.remove(&reply.cookie);
            let asked = asked.expect("the client knows what it asked");
            match (asked, reply.outcome) {
                (Asked::Read(read), Ok(data)) => self.check_read(read, &data)?,
                (Asked::Change(op, _), Ok(_)) => self.history.on_ack(op),
                (asked, Err(_)) => {
                    self.seen.stragglers.1 += 1;
                    match asked {
                        Asked::Read(read) => self.history.on_read_failed(read),
                        Asked::Change(op, _) => self.history.on_fail(op),
                    }
                    continue;
                }
            }
            self.seen.stragglers.0 += 1;
        }
        for asked in std::mem::take(&mut lane.asked).into_values() {
            self.seen.stragglers.1 += 1;
            match asked {
                Asked::Read(read) => self.history.on_read_failed(read),
                // It was not acknowledged, and may still happen.
                Asked::Change(op, _) => self.history.on_abandon(op),
            }
        }
        self.straggler = Some(lane);
        // The first connection was not listened to meanwhile.
        self.last_answer = Instant::now();
        self.drain()?;
        self.compare_everything()
    }

    /// Checks every block against the history, while nothing is in flight.
    fn compare_everything(&mut self) -> Result<(), Trouble> {
        for lba in (0..BLOCKS).step_by(LONG as usize) {
            self.lane.read(&mut self.history, lba, LONG)?;
            self.receive()?;
        }
        Ok(())
    }

    /// Every block, without a word to the history.
    fn read_everything(&mut self) -> Result<Vec<Content>, Trouble> {
        let mut image = Vec::new();
        for lba in (0..BLOCKS).step_by(LONG as usize) {
            let bytes = u32::try_from(LONG).expect("small") * BLOCK as u32;
            self.lane.client.send_read(lba * BLOCK as u64, bytes)?;
            let data = self.lane.client.receive()?.outcome;
            self.note_answer();
            let data = data.map_err(|code| Trouble::Wrong(format!("NBD error {code}")))?;
            image.extend(contents(&data));
        }
        Ok(image)
    }

    fn finish(&mut self) -> Result<(), Trouble> {
        self.drain()?;
        self.lane.change(&mut self.history, Action::Flush)?;
        self.receive()?;
        self.compare_everything()
    }
}
