//! The reactor without io_uring: a thread pool for disks, epoll for sockets.
//!
//! Socket operations are tried at once; one that would block waits for an edge of its descriptor. The
//! descriptor joins the epoll set at its first wait and leaves it when it is closed, so a steady
//! connection costs one failed try and one `epoll_wait` per message.

use crate::pool::Pool;
use crate::reactor::{Key, Table};
use crate::request::{
    CALL_BYTES_MAX, DiskAction, DiskRequest, Next, Outgoing, PARTS_MAX, Request, SocketAction,
};
use crate::socket::Socket;
use crate::wake::Wake;
use rustix::event::Timespec;
use rustix::event::epoll::{self, Event, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, SocketFlags};
use std::collections::BTreeMap;
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{IntoRawFd, OwnedFd, RawFd};
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use world::Duration;

/// Events taken per turn.
const EVENTS_MAX: usize = 256;

/// The event counter among the descriptors.
const WAKE: u64 = u64::MAX;

type Completed = Vec<(Key, DiskRequest, Result<usize, Errno>)>;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    In,
    Out,
}

/// Operations that wait for one descriptor, which they keep open.
#[derive(Default)]
struct Waiting {
    reader: Option<Key>,
    writer: Option<Key>,
}

impl Waiting {
    fn key(&mut self, direction: Direction) -> &mut Option<Key> {
        match direction {
            Direction::In => &mut self.reader,
            Direction::Out => &mut self.writer,
        }
    }
}

pub(crate) struct Threads {
    epoll: OwnedFd,
    wake: Arc<Wake>,
    pool: Pool,
    completed: Arc<Mutex<Completed>>,
    waiting: BTreeMap<RawFd, Waiting>,
    events: Vec<Event>,
}

impl Threads {
    pub(crate) fn new(wake: Arc<Wake>, disk_threads: usize) -> rustix::io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(
            &epoll,
            &wake.event,
            EventData::new_u64(WAKE),
            EventFlags::IN,
        )?;
        Ok(Self {
            epoll,
            wake,
            pool: Pool::new("disk", disk_threads),
            completed: Arc::default(),
            waiting: BTreeMap::new(),
            events: Vec::with_capacity(EVENTS_MAX),
        })
    }

    pub(crate) fn start(&mut self, table: &mut Table, key: Key) {
        if matches!(table.pending(key), Some(Request::Disk(_))) {
            let Some(Request::Disk(mut disk)) = table.take_request(key) else {
                unreachable!("looked at just now");
            };
            let (completed, wake) = (self.completed.clone(), self.wake.clone());
            self.pool.run(Box::new(move || {
                let result = perform_disk(&mut disk);
                let mut completed = completed.lock().expect("pushes and takes cannot panic");
                completed.push((key, disk, result));
                drop(completed);
                wake.wake();
            }));
            return;
        }
        self.attempt(table, key);
    }

    /// Goes on with a socket's operation until it is done or would block.
    fn attempt(&mut self, table: &mut Table, key: Key) {
        let Some(Request::Socket(socket, action)) = table.pending(key) else {
            return;
        };
        let result = loop {
            match perform_socket(socket, action) {
                Err(Errno::AGAIN) => {
                    let (socket, direction) = (socket.clone(), direction(action));
                    match self.wait_for(&socket, direction, key) {
                        Ok(()) => return,
                        Err(error) => break Err(error),
                    }
                }
                result => match action.advance(result) {
                    Next::Again => {}
                    Next::Done(result) => break result,
                },
            }
        };
        table.finish(key, None, result);
    }

    fn wait_for(
        &mut self,
        socket: &Rc<Socket>,
        direction: Direction,
        key: Key,
    ) -> Result<(), Errno> {
        let raw = socket.raw();
        if !socket.registered.get() {
            let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
            let number = u64::try_from(raw).expect("open descriptors are not negative");
            epoll::add(&self.epoll, socket, EventData::new_u64(number), flags)?;
            socket.registered.set(true);
        }
        let slot = self.waiting.entry(raw).or_default().key(direction);
        assert!(slot.is_none(), "one reader and one writer per socket");
        *slot = Some(key);
        Ok(())
    }

    fn take_waiting(&mut self, raw: RawFd, direction: Direction) -> Option<Key> {
        let waiting = self.waiting.get_mut(&raw)?;
        let key = waiting.key(direction).take();
        if waiting.reader.is_none() && waiting.writer.is_none() {
            self.waiting.remove(&raw);
        }
        key
    }

    pub(crate) fn cancel(&mut self, table: &mut Table, key: Key) {
        let Some(Request::Socket(socket, action)) = table.pending(key) else {
            return;
        };
        let waiting = self.take_waiting(socket.raw(), direction(action));
        assert_eq!(waiting, Some(key), "a pending socket operation waits");
        table.finish(key, None, Err(Errno::CANCELED));
    }

    pub(crate) fn has_completed(&self) -> bool {
        let completed = self.completed.lock();
        !completed.expect("pushes and takes cannot panic").is_empty()
    }

    /// See `Reactor::turn`.
    pub(crate) fn turn(&mut self, table: &mut Table, timeout: Option<Duration>) {
        let timeout = timeout.map(|timeout| Timespec {
            tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(timeout.subsec_nanos()),
        });
        let mut events = std::mem::take(&mut self.events);
        let spare = rustix::buffer::spare_capacity(&mut events);
        match epoll::wait(&self.epoll, spare, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => panic!("epoll_wait failed: {error}"),
        }
        for event in events.drain(..) {
            self.on_event(table, event);
        }
        self.events = events;
        let completed = {
            let mut completed = self
                .completed
                .lock()
                .expect("pushes and takes cannot panic");
            std::mem::take(&mut *completed)
        };
        for (key, disk, result) in completed {
            table.finish(key, Some(Request::Disk(disk)), result);
        }
    }

    fn on_event(&mut self, table: &mut Table, event: Event) {
        let number = event.data.u64();
        if number == WAKE {
            let mut count = [0; 8];
            // It may have been read already: then there is nothing to clear.
            let _ = rustix::io::read(&self.wake.event, &mut count);
            return;
        }
        let raw = RawFd::try_from(number).expect("registered from a descriptor");
        let broken = EventFlags::HUP | EventFlags::ERR;
        let mut directions = Vec::with_capacity(2);
        let flags = event.flags;
        if flags.intersects(EventFlags::IN | EventFlags::RDHUP | broken) {
            directions.push(Direction::In);
        }
        if flags.intersects(EventFlags::OUT | broken) {
            directions.push(Direction::Out);
        }
        for direction in directions {
            if let Some(key) = self.take_waiting(raw, direction) {
                self.attempt(table, key);
            }
        }
    }

    /// Waits for the disk threads to end.
    pub(crate) fn join(&mut self) {
        self.pool.join();
    }
}

fn direction(action: &SocketAction) -> Direction {
    match action {
        SocketAction::Accept(_) | SocketAction::Receive(_) => Direction::In,
        SocketAction::Connect(_) | SocketAction::Send(_) => Direction::Out,
    }
}

fn perform_disk(disk: &mut DiskRequest) -> Result<usize, Errno> {
    loop {
        let offset = disk.offset + disk.done as u64;
        let done = disk.done;
        let result = match &mut disk.action {
            DiskAction::Read(buf) => {
                let end = buf.len().min(done + CALL_BYTES_MAX);
                rustix::io::pread(&disk.file, &mut buf[done..end], offset)
            }
            DiskAction::Write(data) => {
                let end = data.len().min(done + CALL_BYTES_MAX);
                rustix::io::pwrite(&disk.file, &data[done..end], offset)
            }
            DiskAction::Flush => rustix::fs::fdatasync(&disk.file).map(|()| 0),
        };
        if let Next::Done(result) = disk.advance(result) {
            return result;
        }
    }
}

/// One system call that does not block: `AGAIN` when the socket is not ready for it.
fn perform_socket(socket: &Socket, action: &mut SocketAction) -> Result<usize, Errno> {
    let count = match action {
        SocketAction::Accept(_) => {
            let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
            let accepted = rustix::net::accept_with(socket, flags)?;
            usize::try_from(accepted.into_raw_fd()).expect("descriptors are not negative")
        }
        SocketAction::Connect(address) => {
            match rustix::net::connect(socket, &**address) {
                Ok(()) => 0,
                // A second call reports how the first one has ended.
                Err(Errno::INPROGRESS | Errno::ALREADY) => return Err(Errno::AGAIN),
                // The queue of a local listener is full; nothing tells when it no longer is.
                Err(Errno::AGAIN) => return Err(Errno::BUSY),
                Err(error) => return Err(error),
            }
        }
        SocketAction::Receive(memory) => {
            let spare: &mut [MaybeUninit<u8>] = memory.spare_capacity_mut();
            let ((received, _), _) = rustix::net::recv(socket, spare, RecvFlags::empty())?;
            received.len()
        }
        SocketAction::Send(outgoing) => perform_send(socket, outgoing)?,
    };
    action.take(count);
    Ok(count)
}

fn perform_send(socket: &Socket, outgoing: &mut Outgoing) -> Result<usize, Errno> {
    if let [part] = outgoing.parts.make_contiguous() {
        return rustix::net::send(socket, part, SendFlags::NOSIGNAL);
    }
    let parts = outgoing.parts.iter().take(PARTS_MAX);
    let slices: Vec<IoSlice<'_>> = parts.map(|part| IoSlice::new(part)).collect();
    let mut nothing = SendAncillaryBuffer::default();
    rustix::net::sendmsg(socket, &slices, &mut nothing, SendFlags::NOSIGNAL)
}
