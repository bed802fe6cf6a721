//! A small blocking NBD client: fixed newstyle, `NBD_OPT_GO`, simple replies, several requests in flight.
//!
//! Just what the demo and the stall measurements need, so that they need no package. The protocol is
//! <https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md>. It is an independent second reader of the
//! protocol: nothing is shared with the server under test.

use anyhow::{Context, Result, bail, ensure};
use std::collections::BTreeMap;
use std::io::{BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

const MAGIC: u64 = 0x4e42_444d_4147_4943;
const OPTION_MAGIC: u64 = 0x4948_4156_454f_5054;
const OPTION_REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;
const REQUEST_MAGIC: u32 = 0x2560_9513;
const REPLY_MAGIC: u32 = 0x6744_6698;
const OPTION_GO: u32 = 7;
const REPLY_ACK: u32 = 1;
const REPLY_INFO: u32 = 3;
const INFO_EXPORT: u16 = 0;
const COMMAND_READ: u16 = 0;
const COMMAND_WRITE: u16 = 1;
const COMMAND_DISCONNECT: u16 = 2;
const COMMAND_FLUSH: u16 = 3;
/// Option replies before the acknowledgement; a server sends about four.
const OPTION_REPLIES_MAX: u32 = 64;
/// Longest option reply that is read.
const OPTION_REPLY_BYTES_MAX: u32 = 64 << 10;

/// One connection to one export.
pub struct Client {
    reader: BufReader<TcpStream>,
    writer: TcpStream,
    size: u64,
    next_cookie: u64,
    /// Bytes that the reply to each request in flight carries.
    in_flight: BTreeMap<u64, usize>,
}

/// A finished request.
pub struct Reply {
    /// What the sending call returned.
    pub cookie: u64,
    /// What was read; empty for other commands.
    pub data: Vec<u8>,
}

impl Client {
    /// Connects and opens an export. No single answer may take longer than `patience`.
    pub fn connect(address: &str, export: &str, patience: Duration) -> Result<Self> {
        let stream =
            TcpStream::connect(address).with_context(|| format!("cannot connect to {address}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(patience))?;
        stream.set_write_timeout(Some(patience))?;
        let reader = BufReader::with_capacity(256 << 10, stream.try_clone()?);
        let in_flight = BTreeMap::new();
        let mut client = Self {
            reader,
            writer: stream,
            size: 0,
            next_cookie: 1,
            in_flight,
        };
        client
            .greet()
            .with_context(|| format!("{address} does not greet like an NBD server"))?;
        client
            .open(export)
            .with_context(|| format!("{address} does not open `{export}`"))?;
        Ok(client)
    }

    /// Bytes of the export.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Requests sent and not answered.
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    fn greet(&mut self) -> Result<()> {
        ensure!(self.read_u64()? == MAGIC, "wrong magic number");
        ensure!(
            self.read_u64()? == OPTION_MAGIC,
            "not the newstyle handshake"
        );
        let flags = self.read_u16()?;
        ensure!(flags & 1 == 1, "the server is not `fixed newstyle`");
        // Fixed newstyle, and no zeroes when the server offers that.
        self.writer.write_all(&u32::from(flags & 3).to_be_bytes())?;
        Ok(())
    }

    fn open(&mut self, export: &str) -> Result<()> {
        let name = u32::try_from(export.len()).context("the export's name is too long")?;
        let mut request = Vec::new();
        request.extend(OPTION_MAGIC.to_be_bytes());
        request.extend(OPTION_GO.to_be_bytes());
        request.extend((name + 6).to_be_bytes());
        request.extend(name.to_be_bytes());
        request.extend(export.as_bytes());
        request.extend(0_u16.to_be_bytes());
        self.writer.write_all(&request)?;
        for _ in 0..OPTION_REPLIES_MAX {
            if self.read_option_reply()? {
                return Ok(());
            }
        }
        bail!("the server sends information without an end")
    }

    /// Reads one reply to `NBD_OPT_GO` and says whether it was the last.
    fn read_option_reply(&mut self) -> Result<bool> {
        ensure!(
            self.read_u64()? == OPTION_REPLY_MAGIC,
            "wrong magic number of an option reply"
        );
        ensure!(self.read_u32()? == OPTION_GO, "a reply to another option");
        let kind = self.read_u32()?;
        let length = self.read_u32()?;
        ensure!(
            length <= OPTION_REPLY_BYTES_MAX,
            "an option reply of {length} bytes"
        );
        let mut body = vec![0; length as usize];
        self.reader.read_exact(&mut body)?;
        if kind & (1 << 31) != 0 {
            bail!(
                "refused with error {}: {}",
                kind & 0xffff,
                String::from_utf8_lossy(&body)
            );
        }
        if kind == REPLY_INFO && body.len() >= 12 && body[..2] == INFO_EXPORT.to_be_bytes() {
            let size: [u8; 8] = body[2..10].try_into().expect("a slice of eight bytes");
            self.size = u64::from_be_bytes(size);
        }
        Ok(kind == REPLY_ACK)
    }

    /// Sends a read and returns its cookie.
    pub fn send_read(&mut self, offset: u64, bytes: usize) -> Result<u64> {
        self.send(COMMAND_READ, offset, bytes, &[], bytes)
    }

    /// Sends a write and returns its cookie.
    pub fn send_write(&mut self, offset: u64, data: &[u8]) -> Result<u64> {
        self.send(COMMAND_WRITE, offset, data.len(), data, 0)
    }

    fn send(
        &mut self,
        command: u16,
        offset: u64,
        length: usize,
        data: &[u8],
        answer_bytes: usize,
    ) -> Result<u64> {
        let cookie = self.next_cookie;
        self.next_cookie += 1;
        let length =
            u32::try_from(length).context("a request is longer than the protocol allows")?;
        let mut head = Vec::with_capacity(28 + data.len());
        head.extend(REQUEST_MAGIC.to_be_bytes());
        head.extend(0_u16.to_be_bytes());
        head.extend(command.to_be_bytes());
        head.extend(cookie.to_be_bytes());
        head.extend(offset.to_be_bytes());
        head.extend(length.to_be_bytes());
        head.extend(data);
        self.writer
            .write_all(&head)
            .context("the NBD server closed the connection")?;
        self.in_flight.insert(cookie, answer_bytes);
        Ok(cookie)
    }

    /// Waits for any reply. An error reply is an error.
    pub fn receive(&mut self) -> Result<Reply> {
        let magic = self.read_u32().context("no reply from the NBD server")?;
        ensure!(
            magic == REPLY_MAGIC,
            "wrong magic number {magic:#x} of a reply"
        );
        let error = self.read_u32()?;
        let cookie = self.read_u64()?;
        let bytes = self
            .in_flight
            .remove(&cookie)
            .context("a reply to nothing that was asked")?;
        ensure!(error == 0, "the NBD server answered with error {error}");
        let mut data = vec![0; bytes];
        self.reader.read_exact(&mut data)?;
        Ok(Reply { cookie, data })
    }

    /// Makes everything that was acknowledged durable. Nothing else may be in flight.
    pub fn flush(&mut self) -> Result<()> {
        self.send(COMMAND_FLUSH, 0, 0, &[], 0)?;
        self.receive().map(|_| ())
    }

    /// Writes and waits. Nothing else may be in flight.
    pub fn write(&mut self, offset: u64, data: &[u8]) -> Result<()> {
        self.send_write(offset, data)?;
        self.receive().map(|_| ())
    }

    fn read_u16(&mut self) -> Result<u16> {
        let mut bytes = [0; 2];
        self.reader.read_exact(&mut bytes)?;
        Ok(u16::from_be_bytes(bytes))
    }

    fn read_u32(&mut self) -> Result<u32> {
        let mut bytes = [0; 4];
        self.reader.read_exact(&mut bytes)?;
        Ok(u32::from_be_bytes(bytes))
    }

    fn read_u64(&mut self) -> Result<u64> {
        let mut bytes = [0; 8];
        self.reader.read_exact(&mut bytes)?;
        Ok(u64::from_be_bytes(bytes))
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.send(COMMAND_DISCONNECT, 0, 0, &[], 0);
    }
}

#[cfg(test)]
mod tests;
