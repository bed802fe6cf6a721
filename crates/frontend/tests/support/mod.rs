//! What the tests of whole servers share: exports of memory devices, and a small NBD client.
#![allow(dead_code, reason = "each test binary uses a part")]
#![allow(
    clippy::unwrap_used,
    missing_docs,
    reason = "everything here is for tests"
)]

use blockdev::{Allocation, BlockDevice, BlockError, BlockFuture, MemoryDevice, WriteMode};
use bytes::{Bytes, BytesMut};
use frontend::nbd::pdu::{self, command, option};
use frontend::nbd::{ExportName, Exports, OpenError};
use futures_util::future::LocalBoxFuture;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use vocab::{ByteCount, Lba};
use world::sync::Notify;
use world::{Address, NetError, Stream, World};

/// Exports by name; counts what is open.
#[derive(Default)]
pub struct Shelf {
    pub devices: RefCell<BTreeMap<String, Rc<dyn BlockDevice>>>,
    pub refusals: RefCell<BTreeMap<String, OpenError>>,
    pub opened: Cell<u32>,
    pub closed: Cell<u32>,
}

impl Shelf {
    pub fn with(name: &str, device: impl BlockDevice + 'static) -> Rc<Self> {
        let shelf = Self::default();
        let device: Rc<dyn BlockDevice> = Rc::new(device);
        shelf.devices.borrow_mut().insert(name.to_owned(), device);
        Rc::new(shelf)
    }

    pub fn open_now(&self) -> u32 {
        self.opened.get() - self.closed.get()
    }
}

/// The exports of a shelf.
pub struct OfShelf(pub Rc<Shelf>);

impl Exports for OfShelf {
    fn list(&self) -> LocalBoxFuture<'static, Result<Vec<ExportName>, String>> {
        let describe = |name: &String| ExportName {
            name: name.clone(),
            description: "in memory".to_owned(),
        };
        let names = self.0.devices.borrow().keys().map(describe).collect();
        Box::pin(std::future::ready(Ok(names)))
    }

    fn open(&self, name: &str) -> LocalBoxFuture<'static, Result<Rc<dyn BlockDevice>, OpenError>> {
        let refusal = self.0.refusals.borrow().get(name).cloned();
        let device = self.0.devices.borrow().get(name).cloned();
        let result = match (refusal, device) {
            (Some(error), _) => Err(error),
            (None, device) => device.ok_or(OpenError::Unknown),
        };
        let result = result.map(|device| Rc::new(Handle(device)) as Rc<dyn BlockDevice>);
        if result.is_ok() {
            self.0.opened.set(self.0.opened.get() + 1);
        }
        Box::pin(std::future::ready(result))
    }

    fn closed(&self, device: Rc<dyn BlockDevice>) -> LocalBoxFuture<'static, ()> {
        assert_eq!(
            Rc::strong_count(&device),
            1,
            "a request still holds the device"
        );
        self.0.closed.set(self.0.closed.get() + 1);
        Box::pin(std::future::ready(()))
    }
}

/// What one connection holds of a device.
struct Handle(Rc<dyn BlockDevice>);

impl BlockDevice for Handle {
    fn size(&self) -> ByteCount {
        self.0.size()
    }
    fn read_only(&self) -> bool {
        self.0.read_only()
    }
    fn read(&self, lba: Lba, blocks: u32) -> BlockFuture<Vec<Bytes>> {
        self.0.read(lba, blocks)
    }
    fn write(&self, lba: Lba, data: Vec<Bytes>, mode: WriteMode) -> BlockFuture<()> {
        self.0.write(lba, data, mode)
    }
    fn flush(&self) -> BlockFuture<()> {
        self.0.flush()
    }
    fn unmap(&self, lba: Lba, blocks: u64) -> BlockFuture<()> {
        self.0.unmap(lba, blocks)
    }
    fn allocation(&self, lba: Lba, blocks: u64) -> BlockFuture<Vec<Allocation>> {
        self.0.allocation(lba, blocks)
    }
}

/// Wraps a device: requests wait while the gate is shut, and fail or are refused as told.
pub struct Gated {
    pub inner: MemoryDevice,
    pub gate: Gate,
}

#[derive(Clone, Default)]
pub struct Gate(Rc<GateState>);

#[derive(Default)]
pub struct GateState {
    pub shut: Cell<bool>,
    pub read_only: Cell<bool>,
    pub error: RefCell<Option<BlockError>>,
    /// Requests that wait at the gate now.
    pub waiting: Cell<usize>,
    pub waiting_most: Cell<usize>,
    opened: Notify,
}

impl std::ops::Deref for Gate {
    type Target = GateState;
    fn deref(&self) -> &GateState {
        &self.0
    }
}

impl Gate {
    pub fn open(&self) {
        self.shut.set(false);
        self.opened.notify_all();
    }

    fn through<T: 'static>(&self, future: BlockFuture<T>) -> BlockFuture<T> {
        struct Waiting(Gate);
        impl Drop for Waiting {
            fn drop(&mut self) {
                self.0.waiting.set(self.0.waiting.get() - 1);
            }
        }
        let gate = self.clone();
        Box::pin(async move {
            gate.waiting.set(gate.waiting.get() + 1);
            gate.waiting_most
                .set(gate.waiting_most.get().max(gate.waiting.get()));
            let _waiting = Waiting(gate.clone());
            while gate.shut.get() {
                gate.opened.notified().await;
            }
            if let Some(error) = gate.error.borrow().clone() {
                return Err(error);
            }
            future.await
        })
    }
}

impl BlockDevice for Gated {
    fn size(&self) -> ByteCount {
        self.inner.size()
    }
    fn read_only(&self) -> bool {
        self.gate.read_only.get()
    }
    fn read(&self, lba: Lba, blocks: u32) -> BlockFuture<Vec<Bytes>> {
        self.gate.through(self.inner.read(lba, blocks))
    }
    fn write(&self, lba: Lba, data: Vec<Bytes>, mode: WriteMode) -> BlockFuture<()> {
        let inner = self.inner.clone();
        self.gate
            .through(Box::pin(async move { inner.write(lba, data, mode).await }))
    }
    fn flush(&self) -> BlockFuture<()> {
        self.gate.through(self.inner.flush())
    }
    fn unmap(&self, lba: Lba, blocks: u64) -> BlockFuture<()> {
        let inner = self.inner.clone();
        self.gate
            .through(Box::pin(async move { inner.unmap(lba, blocks).await }))
    }
    fn allocation(&self, lba: Lba, blocks: u64) -> BlockFuture<Vec<Allocation>> {
        self.gate.through(self.inner.allocation(lba, blocks))
    }
}

/// A reply of transmission.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    Simple {
        cookie: u64,
        error: u32,
    },
    Chunk {
        cookie: u64,
        done: bool,
        kind: u16,
        payload: Bytes,
    },
}

/// A client over any stream. It trusts nothing to be on time or in order.
pub struct Client {
    stream: Rc<dyn Stream>,
    received: BytesMut,
    pub size: u64,
    pub flags: u16,
}

impl Client {
    /// Connects and gets past the greeting.
    pub async fn connect(world: &World, address: &Address) -> Result<Self, NetError> {
        let stream = world.net.connect(address).await?;
        let mut client = Self {
            stream,
            received: BytesMut::new(),
            size: 0,
            flags: 0,
        };
        let greeting = client.bytes(18).await?;
        assert_eq!(greeting[..16], *b"NBDMAGICIHAVEOPT");
        client.send(vec![0, 0, 0, 3]).await?;
        Ok(client)
    }

    /// Connects to an export with structured replies and block status.
    pub async fn open(world: &World, address: &Address, name: &str) -> Result<Self, NetError> {
        let mut client = Self::connect(world, address).await?;
        client.option(option::STRUCTURED_REPLY, &[]).await?;
        let mut contexts = string(name);
        contexts.extend([0, 0, 0, 1]);
        contexts.extend(string(pdu::BASE_ALLOCATION));
        client.option(option::SET_META_CONTEXT, &contexts).await?;
        client.go(name).await?;
        Ok(client)
    }

    /// Enters transmission.
    pub async fn go(&mut self, name: &str) -> Result<(), NetError> {
        let mut data = string(name);
        data.extend([0, 0]);
        for (kind, data) in self.option(option::GO, &data).await? {
            assert!(kind < 1 << 31, "GO was refused: {kind:#x}");
            if kind == 3 && data[..2] == [0, 0] {
                self.size = u64::from_be_bytes(data[2..10].try_into().unwrap());
                self.flags = u16::from_be_bytes(data[10..].try_into().unwrap());
            }
        }
        Ok(())
    }

    /// Sends an option; its replies up to the final one.
    pub async fn option(
        &mut self,
        option: u32,
        data: &[u8],
    ) -> Result<Vec<(u32, Bytes)>, NetError> {
        let mut message = pdu::OPTION_MAGIC.to_be_bytes().to_vec();
        message.extend(option.to_be_bytes());
        message.extend(u32::try_from(data.len()).unwrap().to_be_bytes());
        message.extend(data);
        self.send(message).await?;
        let mut replies = Vec::new();
        loop {
            let header = self.bytes(20).await?;
            assert_eq!(header[..8], pdu::OPTION_REPLY_MAGIC.to_be_bytes());
            assert_eq!(header[8..12], option.to_be_bytes());
            let kind = u32::from_be_bytes(header[12..16].try_into().unwrap());
            let len = u32::from_be_bytes(header[16..].try_into().unwrap());
            let data = self.bytes(len as usize).await?;
            replies.push((kind, data));
            if kind == 1 || kind >= 1 << 31 {
                return Ok(replies);
            }
        }
    }

    pub async fn send(&self, bytes: Vec<u8>) -> Result<(), NetError> {
        self.stream.write(vec![bytes.into()]).await
    }

    /// Sends a request.
    pub async fn request(
        &self,
        (command, flags): (u16, u16),
        cookie: u64,
        (offset, length): (u64, u32),
        payload: &[u8],
    ) -> Result<(), NetError> {
        let mut message = pdu::REQUEST_MAGIC.to_be_bytes().to_vec();
        message.extend(flags.to_be_bytes());
        message.extend(command.to_be_bytes());
        message.extend(cookie.to_be_bytes());
        message.extend(offset.to_be_bytes());
        message.extend(length.to_be_bytes());
        message.extend(payload);
        self.send(message).await
    }

    /// The next reply, for clients with structured replies.
    pub async fn reply(&mut self) -> Result<Reply, NetError> {
        let magic = self.bytes(4).await?;
        if magic[..] == pdu::SIMPLE_REPLY_MAGIC.to_be_bytes() {
            let rest = self.bytes(12).await?;
            return Ok(Reply::Simple {
                error: u32::from_be_bytes(rest[..4].try_into().unwrap()),
                cookie: u64::from_be_bytes(rest[4..].try_into().unwrap()),
            });
        }
        assert_eq!(magic[..], pdu::STRUCTURED_REPLY_MAGIC.to_be_bytes());
        let rest = self.bytes(16).await?;
        let len = u32::from_be_bytes(rest[12..].try_into().unwrap());
        Ok(Reply::Chunk {
            done: rest[1] & 1 == 1,
            kind: u16::from_be_bytes(rest[2..4].try_into().unwrap()),
            cookie: u64::from_be_bytes(rest[4..12].try_into().unwrap()),
            payload: self.bytes(len as usize).await?,
        })
    }

    /// The error of the next reply, zero for success.
    pub async fn outcome(&mut self) -> Result<u32, NetError> {
        Ok(match self.reply().await? {
            Reply::Simple { error, .. } => error,
            Reply::Chunk { kind, payload, .. } if kind >= 1 << 15 => {
                u32::from_be_bytes(payload[..4].try_into().unwrap())
            }
            Reply::Chunk { .. } => 0,
        })
    }

    pub async fn write(&mut self, offset: u64, data: &[u8]) -> Result<u32, NetError> {
        let len = u32::try_from(data.len()).unwrap();
        self.request((command::WRITE, 0), 1, (offset, len), data)
            .await?;
        self.outcome().await
    }

    /// Reads, with holes filled in.
    pub async fn read(&mut self, offset: u64, len: u32) -> Result<Vec<u8>, NetError> {
        self.request((command::READ, 0), 2, (offset, len), &[])
            .await?;
        let mut data = vec![0xee; len as usize];
        loop {
            let Reply::Chunk {
                done,
                kind,
                payload,
                ..
            } = self.reply().await?
            else {
                panic!("a simple reply to a structured read");
            };
            assert!(kind == 1 || kind == 2, "read failed: {payload:?}");
            let at = u64::from_be_bytes(payload[..8].try_into().unwrap()) - offset;
            let at = usize::try_from(at).unwrap();
            if kind == 1 {
                data[at..at + payload.len() - 8].copy_from_slice(&payload[8..]);
            } else {
                let len = u32::from_be_bytes(payload[8..].try_into().unwrap());
                data[at..at + len as usize].fill(0);
            }
            if done {
                return Ok(data);
            }
        }
    }

    /// Exactly `len` bytes.
    pub async fn bytes(&mut self, len: usize) -> Result<Bytes, NetError> {
        while self.received.len() < len {
            let chunk = self.stream.read().await?;
            if chunk.is_empty() {
                return Err(NetError::Lost("the server closed".to_owned()));
            }
            self.received.extend_from_slice(&chunk);
        }
        Ok(self.received.split_to(len).freeze())
    }

    pub fn close(&self) {
        self.stream.close();
    }
}

pub fn string(text: &str) -> Vec<u8> {
    let mut out = u32::try_from(text.len()).unwrap().to_be_bytes().to_vec();
    out.extend(text.as_bytes());
    out
}
