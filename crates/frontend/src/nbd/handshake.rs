//! The handshake, sans-io: from the greeting to the entry into transmission.
//!
//! ```text
//! greeting -> client flags -> option* -> transmission (GO, EXPORT_NAME) or the end (ABORT, violation)
//! ```
//!
//! The driver feeds received bytes, asks [`Handshake::next`] what to do, does it, and sends
//! [`Handshake::output`] after every step.
//!
//! Invariants
//! - Every option but a final one gets exactly one final reply before the next option is looked at.
//! - At most [`OPTION_DATA_BYTES_MAX`] of an option are kept; what is longer is skipped as it comes in.

use super::input::Input;
use super::pdu::{
    self, OptionHeader, handshake_flag, info, option, option_reply, transmission_flag,
};
use super::{BLOCK_BYTES_MIN, ExportName, OpenError, PAYLOAD_BYTES_MAX};
use bytes::{BufMut, Bytes, BytesMut};
use vocab::BLOCK_BYTES;

/// Options of one handshake. Clients send about ten.
const OPTIONS_MAX: u32 = 256;
/// Data of one known option: a name of 4 KiB and a few queries of as much.
const OPTION_DATA_BYTES_MAX: u32 = 64 << 10;
/// Data of unknown or oversized options of one handshake.
const SKIPPED_BYTES_MAX: u64 = 16 << 20;

/// A breach of the protocol that cannot be answered; the connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Violation {
    #[error("the client does not start its {0} with the magic number: not an NBD client")]
    Magic(&'static str),
    #[error("the client set handshake flags {0:#x} that the server did not offer")]
    ClientFlags(u32),
    #[error("the client sent more than {OPTIONS_MAX} options")]
    TooManyOptions,
    #[error("the client sent more than {SKIPPED_BYTES_MAX} bytes of options nobody knows")]
    TooMuchSkipped,
    #[error("the client asked with EXPORT_NAME, which cannot be answered: {0}")]
    ExportName(&'static str),
}

/// What the client gets once the export is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    Info,
    Go,
    ExportName,
}

/// What the driver has to do next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Feed more bytes.
    Read,
    /// Call [`Handshake::listed`].
    List,
    /// Open this export and call [`Handshake::opened`].
    Open { name: String, purpose: Purpose },
    /// Send the output and close.
    Abort,
}

/// What the handshake has to know about an open device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) size: u64,
    pub(crate) read_only: bool,
}

/// What client and server agreed on for transmission.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Negotiated {
    pub(crate) structured: bool,
    pub(crate) block_status: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    ClientFlags,
    Option,
    Data(OptionHeader),
    /// Bytes left to skip, and the answer when they are gone.
    Skip(OptionHeader, u32, u32),
}

/// See the module's description.
pub(crate) struct Handshake {
    state: State,
    input: Input,
    out: BytesMut,
    options: u32,
    skipped: u64,
    no_zeroes: bool,
    structured: bool,
    /// The export that `base:allocation` was selected for.
    contexts_of: Option<String>,
}

impl Handshake {
    /// Begins with the greeting in [`Handshake::output`].
    pub(crate) fn new() -> Self {
        let mut out = BytesMut::new();
        pdu::put_greeting(&mut out);
        Self {
            state: State::ClientFlags,
            input: Input::default(),
            out,
            options: 0,
            skipped: 0,
            no_zeroes: false,
            structured: false,
            contexts_of: None,
        }
    }

    /// Takes received bytes.
    pub(crate) fn feed(&mut self, chunk: Bytes) {
        self.input.push(chunk);
    }

    /// Bytes to send; empty when there are none.
    pub(crate) fn output(&mut self) -> Bytes {
        self.out.split().freeze()
    }

    /// Handles what was received until the driver has something to do.
    pub(crate) fn next(&mut self) -> Result<Step, Violation> {
        // Every round consumes received bytes or leaves.
        loop {
            match self.state {
                State::ClientFlags => match self.input.peek() {
                    None => return Ok(Step::Read),
                    Some(bytes) => self.on_client_flags(u32::from_be_bytes(bytes))?,
                },
                State::Option => match self.input.peek() {
                    None => return Ok(Step::Read),
                    Some(bytes) => self.on_header(&bytes)?,
                },
                State::Skip(header, left, reply) => {
                    let skipped = self.input.skip(left as usize);
                    let left = left - u32::try_from(skipped).expect("at most what was left");
                    self.state = State::Skip(header, left, reply);
                    if left > 0 {
                        return Ok(Step::Read);
                    }
                    self.state = State::Option;
                    self.refuse(header.option, reply, "");
                    if header.option == option::EXPORT_NAME {
                        return Err(Violation::ExportName("the name is too long"));
                    }
                }
                State::Data(header) => {
                    if self.input.len() < header.length as usize {
                        return Ok(Step::Read);
                    }
                    let data = self.input.take_contiguous(header.length as usize);
                    self.state = State::Option;
                    if let Some(step) = self.on_option(header.option, &data)? {
                        return Ok(step);
                    }
                }
            }
        }
    }

    fn on_client_flags(&mut self, flags: u32) -> Result<(), Violation> {
        let offered = handshake_flag::FIXED_NEWSTYLE | handshake_flag::NO_ZEROES;
        if flags & !u32::from(offered) != 0 {
            return Err(Violation::ClientFlags(flags));
        }
        self.no_zeroes = flags & u32::from(handshake_flag::NO_ZEROES) != 0;
        self.input.skip(pdu::CLIENT_FLAGS_BYTES);
        self.state = State::Option;
        Ok(())
    }

    fn on_header(&mut self, bytes: &[u8; pdu::OPTION_BYTES]) -> Result<(), Violation> {
        let header = OptionHeader::parse(bytes).ok_or(Violation::Magic("option"))?;
        self.input.skip(pdu::OPTION_BYTES);
        self.options += 1;
        if self.options > OPTIONS_MAX {
            return Err(Violation::TooManyOptions);
        }
        let known = matches!(
            header.option,
            option::EXPORT_NAME
                | option::ABORT
                | option::LIST
                | option::INFO
                | option::GO
                | option::STRUCTURED_REPLY
                | option::LIST_META_CONTEXT
                | option::SET_META_CONTEXT
        );
        if known && header.length <= OPTION_DATA_BYTES_MAX {
            self.state = State::Data(header);
            return Ok(());
        }
        self.skipped += u64::from(header.length);
        if self.skipped > SKIPPED_BYTES_MAX {
            return Err(Violation::TooMuchSkipped);
        }
        let reply = if known {
            option_reply::ERR_TOO_BIG
        } else {
            option_reply::ERR_UNSUP
        };
        self.state = State::Skip(header, header.length, reply);
        Ok(())
    }

    fn on_option(&mut self, option: u32, data: &[u8]) -> Result<Option<Step>, Violation> {
        let step = match option {
            option::EXPORT_NAME => {
                let name = pdu::string(data).ok_or(Violation::ExportName("the name is no text"))?;
                Some(open(name, Purpose::ExportName))
            }
            option::ABORT => {
                self.acknowledge(option);
                Some(Step::Abort)
            }
            option::LIST if data.is_empty() => Some(Step::List),
            option::STRUCTURED_REPLY if data.is_empty() => {
                self.structured = true;
                self.acknowledge(option);
                None
            }
            option::LIST | option::STRUCTURED_REPLY => {
                self.invalid(option, "this option has no data");
                None
            }
            option::INFO | option::GO => match pdu::parse_info(data) {
                Some(name) if option == option::GO => Some(open(name, Purpose::Go)),
                Some(name) => Some(open(name, Purpose::Info)),
                None => {
                    self.invalid(option, "the option's data does not parse");
                    None
                }
            },
            _ => {
                self.on_meta_contexts(option, data);
                None
            }
        };
        Ok(step)
    }

    fn on_meta_contexts(&mut self, option: u32, data: &[u8]) {
        let set = option == option::SET_META_CONTEXT;
        if set {
            self.contexts_of = None;
        }
        if !self.structured {
            return self.invalid(
                option,
                "metadata contexts need structured replies: ask for them first",
            );
        }
        let Some(asked) = pdu::parse_meta_contexts(data) else {
            return self.invalid(option, "the option's data does not parse");
        };
        let wildcard = !set && (asked.base || asked.queries == 0);
        if asked.base_allocation || wildcard {
            let name = pdu::BASE_ALLOCATION.as_bytes();
            let len = 4 + name.len();
            pdu::put_option_reply(&mut self.out, option, option_reply::META_CONTEXT, len);
            // The id is reserved in a listing.
            self.out
                .put_u32(if set { pdu::BASE_ALLOCATION_ID } else { 0 });
            self.out.put_slice(name);
            if set {
                self.contexts_of = Some(asked.name.to_owned());
            }
        }
        self.acknowledge(option);
    }

    /// Answers [`Step::List`].
    pub(crate) fn listed(&mut self, exports: Result<Vec<ExportName>, String>) {
        let exports = match exports {
            Ok(exports) => exports,
            Err(reason) => return self.refuse(option::LIST, option_reply::ERR_POLICY, &reason),
        };
        for export in &exports {
            let (name, description) = (export.name.as_bytes(), export.description.as_bytes());
            let max = pdu::STRING_BYTES_MAX;
            if name.len() > max || description.len() > max {
                continue;
            }
            let len = 4 + name.len() + description.len();
            pdu::put_option_reply(&mut self.out, option::LIST, option_reply::SERVER, len);
            self.out
                .put_u32(u32::try_from(name.len()).expect("at most 4096"));
            self.out.put_slice(name);
            self.out.put_slice(description);
        }
        self.acknowledge(option::LIST);
    }

    /// Answers [`Step::Open`]; true when transmission begins.
    pub(crate) fn opened(
        &mut self,
        purpose: Purpose,
        result: Result<Facts, OpenError>,
    ) -> Result<bool, Violation> {
        let option = match purpose {
            Purpose::Info => option::INFO,
            Purpose::Go => option::GO,
            Purpose::ExportName => return self.enter_by_name(result),
        };
        let facts = match result {
            Ok(facts) => facts,
            Err(error) => {
                let reply = match error {
                    OpenError::Unknown => option_reply::ERR_UNKNOWN,
                    OpenError::Busy(_) | OpenError::Refused(_) => option_reply::ERR_POLICY,
                };
                self.refuse(option, reply, &error.to_string());
                return Ok(false);
            }
        };
        let flags = self.transmission_flags(facts);
        pdu::put_option_reply(&mut self.out, option, option_reply::INFO, 12);
        self.out.put_u16(info::EXPORT);
        self.out.put_u64(facts.size);
        self.out.put_u16(flags);
        pdu::put_option_reply(&mut self.out, option, option_reply::INFO, 14);
        self.out.put_u16(info::BLOCK_SIZE);
        self.out.put_u32(BLOCK_BYTES_MIN);
        self.out.put_u32(u32::try_from(BLOCK_BYTES).expect("4096"));
        self.out.put_u32(PAYLOAD_BYTES_MAX);
        self.acknowledge(option);
        Ok(purpose == Purpose::Go)
    }

    fn enter_by_name(&mut self, result: Result<Facts, OpenError>) -> Result<bool, Violation> {
        let Ok(facts) = result else {
            return Err(Violation::ExportName("it cannot be opened"));
        };
        let flags = self.transmission_flags(facts);
        self.out.put_u64(facts.size);
        self.out.put_u16(flags);
        if !self.no_zeroes {
            self.out.put_bytes(0, 124);
        }
        Ok(true)
    }

    /// Ends the handshake for the export `name`: what was agreed on, and what was received beyond.
    pub(crate) fn finish(self, name: &str) -> (Negotiated, Input) {
        let negotiated = Negotiated {
            structured: self.structured,
            block_status: self.structured && self.contexts_of.as_deref() == Some(name),
        };
        (negotiated, self.input)
    }

    fn transmission_flags(&self, facts: Facts) -> u16 {
        use transmission_flag as flag;
        let mut flags = flag::HAS_FLAGS
            | flag::SEND_FLUSH
            | flag::SEND_FUA
            | flag::CAN_MULTI_CONN
            | flag::SEND_CACHE;
        flags |= if facts.read_only {
            flag::READ_ONLY
        } else {
            flag::SEND_TRIM | flag::SEND_WRITE_ZEROES | flag::SEND_FAST_ZERO
        };
        if self.structured {
            flags |= flag::SEND_DF;
        }
        flags
    }

    fn acknowledge(&mut self, option: u32) {
        pdu::put_option_reply(&mut self.out, option, option_reply::ACK, 0);
    }

    fn refuse(&mut self, option: u32, reply: u32, text: &str) {
        pdu::put_option_text(&mut self.out, option, reply, text);
    }

    fn invalid(&mut self, option: u32, text: &str) {
        self.refuse(option, option_reply::ERR_INVALID, text);
    }
}

fn open(name: &str, purpose: Purpose) -> Step {
    Step::Open {
        name: name.to_owned(),
        purpose,
    }
}

#[cfg(test)]
#[path = "handshake_tests.rs"]
mod tests;
