//! A small blocking NBD client with several requests in flight. It shares nothing with the server under test.
//!
//! Fixed newstyle, `NBD_OPT_GO`, simple replies:
//! <https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md>.

use std::collections::BTreeMap;
use std::io::{BufReader, Error, ErrorKind, Read, Result, Write};
use std::net::TcpStream;
use std::time::Duration;

const MAGIC: u64 = 0x4e42_444d_4147_4943;
const OPTION_MAGIC: u64 = 0x4948_4156_454f_5054;
const OPTION_REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;
const REQUEST_MAGIC: u32 = 0x2560_9513;
const REPLY_MAGIC: u32 = 0x6744_6698;
const OPTION_GO: u32 = 7;
const REPLY_ACK: u32 = 1;
const COMMAND_READ: u16 = 0;
const COMMAND_WRITE: u16 = 1;
const COMMAND_FLUSH: u16 = 3;

/// One connection to one export.
pub struct Client {
    reader: BufReader<TcpStream>,
    writer: TcpStream,
    next_cookie: u64,
    /// Bytes that the reply to each request in flight carries.
    in_flight: BTreeMap<u64, usize>,
}

/// A finished request.
pub struct Reply {
    /// What the sending call returned.
    pub cookie: u64,
    /// What was read, or the error the server answered with.
    pub outcome: std::result::Result<Vec<u8>, u32>,
}

fn broken(what: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidData, what.into())
}

impl Client {
    /// Opens an export. An answer that takes longer than `patience` is an error.
    pub fn connect(address: &str, export: &str, patience: Duration) -> Result<Self> {
        let writer = TcpStream::connect(address)?;
        writer.set_nodelay(true)?;
        writer.set_read_timeout(Some(patience))?;
        writer.set_write_timeout(Some(patience))?;
        let mut client = Self {
            reader: BufReader::with_capacity(256 << 10, writer.try_clone()?),
            writer,
            next_cookie: 1,
            in_flight: BTreeMap::new(),
        };
        client.open(export)?;
        Ok(client)
    }

    /// Requests sent and not answered.
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    fn open(&mut self, export: &str) -> Result<()> {
        if self.read_u64()? != MAGIC || self.read_u64()? != OPTION_MAGIC {
            return Err(broken("not an NBD server of the newstyle"));
        }
        let flags = u16::from_be_bytes(self.read_array()?);
        self.writer.write_all(&u32::from(flags & 3).to_be_bytes())?;
        let name = u32::try_from(export.len()).expect("names are short");
        let mut request = Vec::new();
        request.extend(OPTION_MAGIC.to_be_bytes());
        request.extend(OPTION_GO.to_be_bytes());
        request.extend((name + 6).to_be_bytes());
        request.extend(name.to_be_bytes());
        request.extend(export.as_bytes());
        request.extend(0_u16.to_be_bytes());
        self.writer.write_all(&request)?;
        while self.option_reply()? != REPLY_ACK {}
        Ok(())
    }

    /// The kind of the next reply to the option.
    fn option_reply(&mut self) -> Result<u32> {
        if self.read_u64()? != OPTION_REPLY_MAGIC || self.read_u32()? != OPTION_GO {
            return Err(broken("not a reply to the option"));
        }
        let (kind, length) = (self.read_u32()?, self.read_u32()?);
        let mut body = Vec::new();
        let wanted = u64::from(length);
        (&mut self.reader).take(wanted).read_to_end(&mut body)?;
        if kind & (1 << 31) != 0 {
            let text = String::from_utf8_lossy(&body);
            return Err(broken(format!("the export is refused: {text}")));
        }
        Ok(kind)
    }

    /// Sends a read and returns its cookie.
    pub fn send_read(&mut self, offset: u64, bytes: u32) -> Result<u64> {
        self.send(COMMAND_READ, offset, bytes, &[], bytes as usize)
    }

    /// Sends a write and returns its cookie.
    pub fn send_write(&mut self, offset: u64, data: &[u8]) -> Result<u64> {
        let length = u32::try_from(data.len()).expect("requests are short");
        self.send(COMMAND_WRITE, offset, length, data, 0)
    }

    /// Sends a flush and returns its cookie.
    pub fn send_flush(&mut self) -> Result<u64> {
        self.send(COMMAND_FLUSH, 0, 0, &[], 0)
    }

    fn send(
        &mut self,
        command: u16,
        offset: u64,
        length: u32,
        data: &[u8],
        answer_bytes: usize,
    ) -> Result<u64> {
        let cookie = self.next_cookie;
        self.next_cookie += 1;
        let mut request = Vec::with_capacity(28 + data.len());
        request.extend(REQUEST_MAGIC.to_be_bytes());
        request.extend(0_u16.to_be_bytes());
        request.extend(command.to_be_bytes());
        request.extend(cookie.to_be_bytes());
        request.extend(offset.to_be_bytes());
        request.extend(length.to_be_bytes());
        request.extend(data);
        self.writer.write_all(&request)?;
        self.in_flight.insert(cookie, answer_bytes);
        Ok(cookie)
    }

    /// Waits for any reply.
    pub fn receive(&mut self) -> Result<Reply> {
        if self.read_u32()? != REPLY_MAGIC {
            return Err(broken("not a simple reply"));
        }
        let error = self.read_u32()?;
        let cookie = self.read_u64()?;
        let bytes = self.in_flight.remove(&cookie);
        let bytes = bytes.ok_or_else(|| broken("a reply to nothing that was asked"))?;
        if error != 0 {
            let outcome = Err(error);
            return Ok(Reply { cookie, outcome });
        }
        let mut data = vec![0; bytes];
        self.reader.read_exact(&mut data)?;
        let outcome = Ok(data);
        Ok(Reply { cookie, outcome })
    }

    fn read_array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        self.reader.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    fn read_u32(&mut self) -> Result<u32> {
        self.read_array().map(u32::from_be_bytes)
    }

    fn read_u64(&mut self) -> Result<u64> {
        self.read_array().map(u64::from_be_bytes)
    }
}
