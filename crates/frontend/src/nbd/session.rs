//! Transmission, sans-io: requests out of received bytes, and replies into bytes to send.
//!
//! Invariants
//! - The payload of a request that cannot succeed is skipped as it comes in, never kept.
//! - Every request but `DISC` gets exactly one reply; a structured reply ends with its only `DONE` chunk.
//! - Header bytes of consecutive replies without data share one piece of memory.

use super::PAYLOAD_BYTES_MAX;
use super::handshake::{Facts, Negotiated, Violation};
use super::input::Input;
use super::pdu::{self, ErrorCode, Request, chunk, command, command_flag};
use blockdev::BlockError;
use bytes::{BufMut, Bytes, BytesMut};
use std::borrow::Cow;

/// Why a request fails, as the client is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) code: ErrorCode,
    pub(crate) text: Cow<'static, str>,
}

impl Failure {
    pub(crate) fn new(code: ErrorCode, text: &'static str) -> Self {
        Self {
            code,
            text: text.into(),
        }
    }

    /// The device's failure of `command`.
    pub(crate) fn of_device(error: &BlockError, command: u16) -> Self {
        let code = match error {
            BlockError::OutOfRange { .. } => beyond_end(command),
            BlockError::ReadOnly => ErrorCode::NotPermitted,
            BlockError::NoSpace(_) => ErrorCode::NoSpace,
            BlockError::Gone(_) => ErrorCode::Shutdown,
            BlockError::Failed(_) => ErrorCode::Io,
        };
        Self {
            code,
            text: error.to_string().into(),
        }
    }
}

fn beyond_end(command: u16) -> ErrorCode {
    match command {
        command::WRITE | command::WRITE_ZEROES => ErrorCode::NoSpace,
        _ => ErrorCode::Invalid,
    }
}

/// Part of a sparse read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    Data { offset: u64, parts: Vec<Bytes> },
    Hole { offset: u64, len: u32 },
}

/// A run of bytes of one status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) len: u32,
    pub(crate) status: u32,
}

/// What a successful request gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Done,
    Data(Vec<Bytes>),
    /// At least one piece; structured replies only.
    Sparse(Vec<Piece>),
    /// At least one extent; structured replies only.
    Status(Vec<Extent>),
}

/// What the driver has to do next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// Feed more bytes.
    Read,
    /// Wait until the request that is next in line has room.
    Wait,
    /// Execute this and reply.
    Execute(Request, Vec<Bytes>),
    /// Reply this.
    Refuse(Request, Failure),
    /// No more requests: finish, then close.
    Disconnect,
}

/// The requests of one connection.
pub(crate) struct Session {
    input: Input,
    negotiated: Negotiated,
    /// A refused write, the bytes of its payload still to come, and why.
    refused: Option<(Request, usize, Failure)>,
}

impl Session {
    /// Goes on with what the handshake left over.
    pub(crate) fn new(negotiated: Negotiated, input: Input) -> Self {
        Self {
            input,
            negotiated,
            refused: None,
        }
    }

    /// Whether `READ` is answered by structured replies.
    pub(crate) fn structured(&self) -> bool {
        self.negotiated.structured
    }

    /// Bytes that were received and not yet handled.
    pub(crate) fn buffered(&self) -> usize {
        self.input.len()
    }

    /// Takes received bytes.
    pub(crate) fn feed(&mut self, chunk: Bytes) {
        self.input.push(chunk);
    }

    /// The next request, if it is complete and `admit` says that its cost in bytes fits.
    pub(crate) fn next(
        &mut self,
        facts: Facts,
        admit: impl FnOnce(u64) -> bool,
    ) -> Result<Event, Violation> {
        if let Some((request, left, failure)) = self.refused.take() {
            return Ok(self.refuse(request, left, failure));
        }
        let Some(bytes) = self.input.peek() else {
            return Ok(Event::Read);
        };
        let request = Request::parse(&bytes).ok_or(Violation::Magic("request"))?;
        if request.command == command::DISC {
            return Ok(Event::Disconnect);
        }
        if !admit(cost(&request)) {
            return Ok(Event::Wait);
        }
        let payload = match request.command {
            command::WRITE => request.length as usize,
            _ => 0,
        };
        if let Err(failure) = check(&request, facts, self.negotiated) {
            self.input.skip(pdu::REQUEST_BYTES);
            return Ok(self.refuse(request, payload, failure));
        }
        if self.input.len() < pdu::REQUEST_BYTES + payload {
            return Ok(Event::Read);
        }
        self.input.skip(pdu::REQUEST_BYTES);
        Ok(Event::Execute(request, self.input.take(payload)))
    }

    /// Skips what is there of `left` bytes of payload; the refusal is due when all of them were.
    fn refuse(&mut self, request: Request, left: usize, failure: Failure) -> Event {
        let left = left - self.input.skip(left);
        if left > 0 {
            self.refused = Some((request, left, failure));
            return Event::Read;
        }
        Event::Refuse(request, failure)
    }
}

/// Bytes of memory that a request may take until its reply is sent.
pub(crate) fn cost(request: &Request) -> u64 {
    // Headers, and the edges of a write of parts of blocks.
    const LEAST: u64 = 512;
    // An answer of 65,536 extents.
    const STATUS: u64 = 512 << 10;
    match request.command {
        command::READ | command::WRITE | command::CACHE => {
            LEAST + u64::from(request.length.min(PAYLOAD_BYTES_MAX))
        }
        command::BLOCK_STATUS => STATUS,
        _ => LEAST,
    }
}

/// Refuses what cannot succeed, before anything is done.
fn check(request: &Request, facts: Facts, negotiated: Negotiated) -> Result<(), Failure> {
    let allowed = match request.command {
        command::READ if negotiated.structured => command_flag::DF,
        command::READ | command::WRITE | command::FLUSH | command::TRIM | command::CACHE => 0,
        command::WRITE_ZEROES => command_flag::NO_HOLE | command_flag::FAST_ZERO,
        command::BLOCK_STATUS if negotiated.block_status => command_flag::REQ_ONE,
        command::BLOCK_STATUS => {
            let text = "no metadata context was selected for this export";
            return Err(Failure::new(ErrorCode::Invalid, text));
        }
        _ => return Err(Failure::new(ErrorCode::Invalid, "unknown command")),
    };
    if request.flags & !(allowed | command_flag::FUA) != 0 {
        let text = "a flag that the command does not have or that was not negotiated";
        return Err(Failure::new(ErrorCode::Invalid, text));
    }
    if request.command == command::FLUSH {
        return if request.offset == 0 && request.length == 0 {
            Ok(())
        } else {
            let text = "a flush has neither offset nor length";
            Err(Failure::new(ErrorCode::Invalid, text))
        };
    }
    check_extent(request, facts, negotiated)
}

fn check_extent(request: &Request, facts: Facts, negotiated: Negotiated) -> Result<(), Failure> {
    let writes = matches!(
        request.command,
        command::WRITE | command::WRITE_ZEROES | command::TRIM
    );
    if writes && facts.read_only {
        return Err(Failure::new(
            ErrorCode::NotPermitted,
            "the export is read-only",
        ));
    }
    if request.length > PAYLOAD_BYTES_MAX {
        let code = match request.command {
            command::READ if !negotiated.structured => Some(ErrorCode::Invalid),
            command::READ | command::CACHE => Some(ErrorCode::Overflow),
            command::WRITE => Some(ErrorCode::Invalid),
            _ => None,
        };
        if let Some(code) = code {
            return Err(Failure::new(
                code,
                "longer than the maximum payload of 32 MiB",
            ));
        }
    }
    if request.end().is_none_or(|end| end > facts.size) {
        let code = beyond_end(request.command);
        return Err(Failure::new(code, "beyond the end of the export"));
    }
    if request.command == command::BLOCK_STATUS && request.length == 0 {
        return Err(Failure::new(ErrorCode::Invalid, "the status of nothing"));
    }
    Ok(())
}

/// Replies that wait to be sent.
#[derive(Default)]
pub(crate) struct Replies {
    parts: Vec<Bytes>,
    /// Headers since the last piece of data.
    head: BytesMut,
    bytes: u64,
}

/// Memory for headers is taken in steps of this many bytes.
const HEAD_BYTES: usize = 16 << 10;

impl Replies {
    /// Appends the reply to `request`.
    pub(crate) fn push(
        &mut self,
        request: &Request,
        structured: bool,
        result: Result<Outcome, Failure>,
    ) {
        let start = self.head.len();
        if self.head.capacity() - start < pdu::REQUEST_BYTES {
            self.head.reserve(HEAD_BYTES);
        }
        match result {
            Err(failure) if structured => {
                pdu::put_error_chunk(&mut self.head, request.cookie, failure.code, &failure.text);
            }
            Err(failure) => {
                pdu::put_simple_reply(&mut self.head, request.cookie, failure.code as u32);
            }
            Ok(Outcome::Data(parts)) if structured && request.length > 0 => {
                self.put_data(request.cookie, request.offset, parts, true);
            }
            Ok(Outcome::Data(parts)) if !structured => {
                pdu::put_simple_reply(&mut self.head, request.cookie, 0);
                self.put_parts(parts);
            }
            Ok(Outcome::Data(_)) => {
                pdu::put_chunk(
                    &mut self.head,
                    chunk::FLAG_DONE,
                    chunk::NONE,
                    request.cookie,
                    0,
                );
            }
            Ok(Outcome::Sparse(pieces)) => self.put_pieces(request.cookie, pieces),
            Ok(Outcome::Status(extents)) => self.put_status(request.cookie, &extents),
            Ok(Outcome::Done) => pdu::put_simple_reply(&mut self.head, request.cookie, 0),
        }
    }

    fn put_pieces(&mut self, cookie: u64, pieces: Vec<Piece>) {
        let last = pieces.len() - 1;
        for (index, piece) in pieces.into_iter().enumerate() {
            let done = index == last;
            match piece {
                Piece::Data { offset, parts } => self.put_data(cookie, offset, parts, done),
                Piece::Hole { offset, len } => {
                    let flags = if done { chunk::FLAG_DONE } else { 0 };
                    pdu::put_chunk(&mut self.head, flags, chunk::OFFSET_HOLE, cookie, 12);
                    self.head.put_u64(offset);
                    self.head.put_u32(len);
                }
            }
        }
    }

    fn put_data(&mut self, cookie: u64, offset: u64, parts: Vec<Bytes>, done: bool) {
        let len: usize = parts.iter().map(Bytes::len).sum();
        let len = u32::try_from(len).expect("at most the maximum payload");
        let flags = if done { chunk::FLAG_DONE } else { 0 };
        pdu::put_chunk(&mut self.head, flags, chunk::OFFSET_DATA, cookie, 8 + len);
        self.head.put_u64(offset);
        self.put_parts(parts);
    }

    fn put_status(&mut self, cookie: u64, extents: &[Extent]) {
        let len = u32::try_from(4 + 8 * extents.len()).expect("at most 65,536 extents");
        pdu::put_chunk(
            &mut self.head,
            chunk::FLAG_DONE,
            chunk::BLOCK_STATUS,
            cookie,
            len,
        );
        self.head.put_u32(pdu::BASE_ALLOCATION_ID);
        for extent in extents {
            self.head.put_u32(extent.len);
            self.head.put_u32(extent.status);
        }
    }

    fn put_parts(&mut self, parts: Vec<Bytes>) {
        self.seal();
        for part in parts {
            self.bytes += part.len() as u64;
            self.parts.push(part);
        }
    }

    fn seal(&mut self) {
        if !self.head.is_empty() {
            self.bytes += self.head.len() as u64;
            self.parts.push(self.head.split().freeze());
        }
    }

    /// Bytes that wait.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes + self.head.len() as u64
    }

    /// Everything that waits, and its length; nothing waits afterwards.
    pub(crate) fn take(&mut self) -> (Vec<Bytes>, u64) {
        self.seal();
        (
            std::mem::take(&mut self.parts),
            std::mem::take(&mut self.bytes),
        )
    }
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
