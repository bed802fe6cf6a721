//! Bytes and fields of the NBD protocol: constants, requests, option data, replies. All integers are
//! big-endian.
//!
//! Names follow the NBD project's doc/proto.md without the `NBD_` prefix. Parsers borrow from their
//! input and allocate nothing; encoders append to a [`BytesMut`].

use bytes::{BufMut, BytesMut};

/// First eight bytes of the server: `NBDMAGIC`.
pub const INIT_MAGIC: u64 = 0x4e42_444d_4147_4943;
/// Second eight bytes of the server and the start of every option: `IHAVEOPT`.
pub const OPTION_MAGIC: u64 = 0x4948_4156_454f_5054;
/// Start of every option reply.
pub const OPTION_REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;
/// Start of every request.
pub const REQUEST_MAGIC: u32 = 0x2560_9513;
/// Start of a simple reply.
pub const SIMPLE_REPLY_MAGIC: u32 = 0x6744_6698;
/// Start of a structured reply chunk.
pub const STRUCTURED_REPLY_MAGIC: u32 = 0x668e_33ef;

/// Longest string of the protocol ("Conventions").
pub const STRING_BYTES_MAX: usize = 4096;
/// Length of a request without payload.
pub const REQUEST_BYTES: usize = 28;
/// Length of an option without data.
pub const OPTION_BYTES: usize = 16;
/// Length of the client's flags.
pub const CLIENT_FLAGS_BYTES: usize = 4;

/// Handshake flags; client flags have the same values.
pub mod handshake_flag {
    /// Options other than `EXPORT_NAME` may be used.
    pub const FIXED_NEWSTYLE: u16 = 1;
    /// No padding after the answer to `EXPORT_NAME`.
    pub const NO_ZEROES: u16 = 2;
}

/// Transmission flags: what an export can do.
pub mod transmission_flag {
    #![allow(
        missing_docs,
        reason = "the names are those of doc/proto.md, Transmission flags"
    )]
    pub const HAS_FLAGS: u16 = 1;
    pub const READ_ONLY: u16 = 1 << 1;
    pub const SEND_FLUSH: u16 = 1 << 2;
    pub const SEND_FUA: u16 = 1 << 3;
    pub const SEND_TRIM: u16 = 1 << 5;
    pub const SEND_WRITE_ZEROES: u16 = 1 << 6;
    pub const SEND_DF: u16 = 1 << 7;
    pub const CAN_MULTI_CONN: u16 = 1 << 8;
    pub const SEND_CACHE: u16 = 1 << 10;
    pub const SEND_FAST_ZERO: u16 = 1 << 11;
}

/// Options.
pub mod option {
    #![allow(
        missing_docs,
        reason = "the names are those of doc/proto.md, Option types"
    )]
    pub const EXPORT_NAME: u32 = 1;
    pub const ABORT: u32 = 2;
    pub const LIST: u32 = 3;
    pub const INFO: u32 = 6;
    pub const GO: u32 = 7;
    pub const STRUCTURED_REPLY: u32 = 8;
    pub const LIST_META_CONTEXT: u32 = 9;
    pub const SET_META_CONTEXT: u32 = 10;
}

/// Types of option replies.
pub mod option_reply {
    #![allow(
        missing_docs,
        reason = "the names are those of doc/proto.md, Option reply types"
    )]
    pub const ACK: u32 = 1;
    pub const SERVER: u32 = 2;
    pub const INFO: u32 = 3;
    pub const META_CONTEXT: u32 = 4;
    pub const ERR_UNSUP: u32 = 0x8000_0001;
    pub const ERR_POLICY: u32 = 0x8000_0002;
    pub const ERR_INVALID: u32 = 0x8000_0003;
    pub const ERR_UNKNOWN: u32 = 0x8000_0006;
    pub const ERR_TOO_BIG: u32 = 0x8000_0009;
}

/// Information types of `INFO` and `GO`.
pub mod info {
    #![allow(
        missing_docs,
        reason = "the names are those of doc/proto.md, NBD_REP_INFO"
    )]
    pub const EXPORT: u16 = 0;
    pub const BLOCK_SIZE: u16 = 3;
}

/// Commands.
pub mod command {
    #![allow(
        missing_docs,
        reason = "the names are those of doc/proto.md, Request types"
    )]
    pub const READ: u16 = 0;
    pub const WRITE: u16 = 1;
    pub const DISC: u16 = 2;
    pub const FLUSH: u16 = 3;
    pub const TRIM: u16 = 4;
    pub const CACHE: u16 = 5;
    pub const WRITE_ZEROES: u16 = 6;
    pub const BLOCK_STATUS: u16 = 7;
}

/// Command flags.
pub mod command_flag {
    #![allow(
        missing_docs,
        reason = "the names are those of doc/proto.md, Command flags"
    )]
    pub const FUA: u16 = 1;
    pub const NO_HOLE: u16 = 1 << 1;
    pub const DF: u16 = 1 << 2;
    pub const REQ_ONE: u16 = 1 << 3;
    pub const FAST_ZERO: u16 = 1 << 4;
}

/// Types of structured reply chunks.
pub mod chunk {
    #![allow(
        missing_docs,
        reason = "the names are those of doc/proto.md, Structured reply types"
    )]
    pub const FLAG_DONE: u16 = 1;
    pub const NONE: u16 = 0;
    pub const OFFSET_DATA: u16 = 1;
    pub const OFFSET_HOLE: u16 = 2;
    pub const BLOCK_STATUS: u16 = 5;
    pub const ERROR: u16 = (1 << 15) + 1;
}

/// Status of unmapped blocks in `base:allocation`: `STATE_HOLE | STATE_ZERO`.
pub const STATUS_UNMAPPED: u32 = 3;
/// Status of mapped blocks.
pub const STATUS_MAPPED: u32 = 0;

/// The only metadata context.
pub const BASE_ALLOCATION: &str = "base:allocation";
/// Its id.
pub const BASE_ALLOCATION_ID: u32 = 1;

/// Errors of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum ErrorCode {
    /// The export is read-only.
    NotPermitted = 1,
    /// The device failed.
    Io = 5,
    /// The request makes no sense.
    Invalid = 22,
    /// No space, or a write beyond the end.
    NoSpace = 28,
    /// Longer than the server is willing to serve.
    Overflow = 75,
    /// Not faster than a write.
    NotSupported = 95,
    /// The device is gone for good.
    Shutdown = 108,
}

/// A request without its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// See [`command_flag`].
    pub flags: u16,
    /// See [`command`].
    pub command: u16,
    /// Chosen by the client, repeated in the reply.
    pub cookie: u64,
    /// First byte.
    pub offset: u64,
    /// Bytes concerned.
    pub length: u32,
}

/// An option without its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OptionHeader {
    /// See [`option`].
    pub option: u32,
    /// Bytes of data that follow.
    pub length: u32,
}

/// Reads integers off the front of a slice; `None` when it is too short.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn bytes(&mut self, len: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(len)?;
        self.0 = tail;
        Some(head)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, tail) = self.0.split_first_chunk::<N>()?;
        self.0 = tail;
        Some(*head)
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    /// A string of the protocol, behind its 32-bit length.
    pub(crate) fn string(&mut self) -> Option<&'a str> {
        let len = usize::try_from(self.u32()?).ok()?;
        string(self.bytes(len)?)
    }
}

/// A string of the protocol: UTF-8 without NUL, at most [`STRING_BYTES_MAX`] long.
#[must_use]
pub fn string(bytes: &[u8]) -> Option<&str> {
    let fits = bytes.len() <= STRING_BYTES_MAX && !bytes.contains(&0);
    fits.then(|| std::str::from_utf8(bytes).ok()).flatten()
}

impl Request {
    /// Parses a request; `None` when the magic number is wrong, after which the stream is of no use.
    #[must_use]
    pub fn parse(bytes: &[u8; REQUEST_BYTES]) -> Option<Self> {
        let mut reader = Reader(bytes);
        if reader.u32()? != REQUEST_MAGIC {
            return None;
        }
        Some(Self {
            flags: reader.u16()?,
            command: reader.u16()?,
            cookie: reader.u64()?,
            offset: reader.u64()?,
            length: reader.u32()?,
        })
    }

    /// Whether the client set `flag`.
    #[must_use]
    pub fn has(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }

    /// The byte after the last one; `None` when it does not fit in 64 bits.
    #[must_use]
    pub fn end(&self) -> Option<u64> {
        self.offset.checked_add(u64::from(self.length))
    }
}

impl OptionHeader {
    /// Parses an option's header; `None` when the magic number is wrong.
    #[must_use]
    pub fn parse(bytes: &[u8; OPTION_BYTES]) -> Option<Self> {
        let mut reader = Reader(bytes);
        if reader.u64()? != OPTION_MAGIC {
            return None;
        }
        Some(Self {
            option: reader.u32()?,
            length: reader.u32()?,
        })
    }
}

/// Parses the data of `INFO` and `GO`: the export's name. The information requests that follow are
/// checked for their number only: the answer does not depend on them.
#[must_use]
pub fn parse_info(data: &[u8]) -> Option<&str> {
    let mut reader = Reader(data);
    let name = reader.string()?;
    let requests = reader.u16()?;
    (reader.0.len() == usize::from(requests) * 2).then_some(name)
}

/// Data of the metadata context options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MetaContexts<'a> {
    /// The export's name.
    pub name: &'a str,
    /// Number of queries.
    pub queries: u32,
    /// Whether [`BASE_ALLOCATION`] was among them.
    pub base_allocation: bool,
    /// Whether the wildcard `base:` was among them.
    pub base: bool,
}

/// Parses the data of `SET_META_CONTEXT` and `LIST_META_CONTEXT`.
#[must_use]
pub fn parse_meta_contexts(data: &[u8]) -> Option<MetaContexts<'_>> {
    let mut reader = Reader(data);
    let name = reader.string()?;
    let queries = reader.u32()?;
    let mut parsed = MetaContexts {
        name,
        queries,
        base_allocation: false,
        base: false,
    };
    // Bounded by the data: every query takes at least the four bytes of its length.
    for _ in 0..queries {
        match reader.string()? {
            BASE_ALLOCATION => parsed.base_allocation = true,
            "base:" => parsed.base = true,
            _ => {}
        }
    }
    reader.0.is_empty().then_some(parsed)
}

/// The server's first words.
pub fn put_greeting(out: &mut BytesMut) {
    out.put_u64(INIT_MAGIC);
    out.put_u64(OPTION_MAGIC);
    out.put_u16(handshake_flag::FIXED_NEWSTYLE | handshake_flag::NO_ZEROES);
}

/// Header of an option reply with `len` bytes of data.
pub fn put_option_reply(out: &mut BytesMut, option: u32, reply: u32, len: usize) {
    let len = u32::try_from(len).expect("replies are made of strings of bounded length");
    out.put_u64(OPTION_REPLY_MAGIC);
    out.put_u32(option);
    out.put_u32(reply);
    out.put_u32(len);
}

/// An option reply whose data is text: errors.
pub fn put_option_text(out: &mut BytesMut, option: u32, reply: u32, text: &str) {
    let text = shorten(text);
    put_option_reply(out, option, reply, text.len());
    out.put_slice(text.as_bytes());
}

/// A simple reply; the data of a successful read follows.
pub fn put_simple_reply(out: &mut BytesMut, cookie: u64, error: u32) {
    out.put_u32(SIMPLE_REPLY_MAGIC);
    out.put_u32(error);
    out.put_u64(cookie);
}

/// Header of a structured reply chunk with `len` bytes of payload.
pub fn put_chunk(out: &mut BytesMut, flags: u16, kind: u16, cookie: u64, len: u32) {
    out.put_u32(STRUCTURED_REPLY_MAGIC);
    out.put_u16(flags);
    out.put_u16(kind);
    out.put_u64(cookie);
    out.put_u32(len);
}

/// `text`, cut to what the protocol allows.
fn shorten(text: &str) -> &str {
    let mut end = text.len().min(STRING_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// A final error chunk with words for people.
pub fn put_error_chunk(out: &mut BytesMut, cookie: u64, code: ErrorCode, text: &str) {
    let text = shorten(text);
    let len = u16::try_from(text.len()).expect("shortened to less than 64 KiB");
    put_chunk(
        out,
        chunk::FLAG_DONE,
        chunk::ERROR,
        cookie,
        6 + u32::from(len),
    );
    out.put_u32(code as u32);
    out.put_u16(len);
    out.put_slice(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use fuzz::target;
    use proptest::prelude::*;

    #[test]
    fn error_text_is_cut_at_a_character() {
        let text = "é".repeat(4000);
        assert_eq!(shorten(&text).len(), STRING_BYTES_MAX);
        assert_eq!(shorten(&text[..8]), "éééé");
        let odd = format!("x{text}");
        assert_eq!(shorten(&odd).len(), STRING_BYTES_MAX - 1);
    }

    #[test]
    fn meta_context_queries_are_recognised() {
        let mut data = BytesMut::new();
        data.put_u32(1);
        data.put_slice(b"v");
        data.put_u32(2);
        for query in ["qemu:dirty-bitmap:", BASE_ALLOCATION] {
            data.put_u32(u32::try_from(query.len()).unwrap());
            data.put_slice(query.as_bytes());
        }
        let parsed = parse_meta_contexts(&data).unwrap();
        assert_eq!((parsed.name, parsed.queries), ("v", 2));
        assert!(parsed.base_allocation && !parsed.base);
        assert!(parse_meta_contexts(&data[..data.len() - 1]).is_none());
        data.put_u8(0);
        assert!(parse_meta_contexts(&data).is_none(), "trailing bytes");
    }

    #[test]
    fn strings_must_be_text_of_bounded_length() {
        assert!(string(&[0xff]).is_none());
        assert!(string(b"a\0b").is_none());
        assert!(string(&[b'a'; STRING_BYTES_MAX + 1]).is_none());
        assert_eq!(string(b""), Some(""));
    }

    #[test]
    fn fuzz_corpus_of_option_data() {
        let target = target!("nbd-option-data");
        let mut contexts = BytesMut::new();
        contexts.put_u32(1);
        contexts.put_slice(b"v");
        contexts.put_u32(2);
        for query in ["qemu:dirty-bitmap:", BASE_ALLOCATION] {
            contexts.put_u32(u32::try_from(query.len()).unwrap());
            contexts.put_slice(query.as_bytes());
        }
        let committed = target.sample("meta-contexts", &contexts);
        let parsed = parse_meta_contexts(&committed).expect("whole");
        assert_eq!(
            (parsed.name, parsed.queries, parsed.base_allocation),
            ("v", 2, true)
        );
        let info = [&[0, 0, 0, 3][..], b"vol", &[0, 2, 0, 0, 0, 3]].concat();
        assert!(parse_info(&target.sample("info", &info)).is_some());
        assert!(parse_info(&target.sample("info-cut", &info[..8])).is_none());
        assert_eq!(string(&target.sample("name", b"lab/db")), Some("lab/db"));
        target.play(|bytes| {
            let _ = parse_info(bytes);
            let _ = parse_meta_contexts(bytes);
            assert!(string(bytes).is_none_or(|text| text.len() <= STRING_BYTES_MAX));
        });
    }

    proptest! {
        #[test]
        fn fuzz_option_data_never_panics(data in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse_info(&data);
            let _ = parse_meta_contexts(&data);
            let _ = string(&data);
        }

        #[test]
        fn fuzz_headers_never_panic(
            request in any::<[u8; REQUEST_BYTES]>(),
            option in any::<[u8; OPTION_BYTES]>(),
        ) {
            let mut request = request;
            let _ = Request::parse(&request);
            request[..4].copy_from_slice(&REQUEST_MAGIC.to_be_bytes());
            prop_assert!(Request::parse(&request).is_some());
            let _ = OptionHeader::parse(&option);
        }
    }
}
