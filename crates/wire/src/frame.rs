//! Framing: a fixed header, an encoded head, and a body of raw bytes.
//!
//! ```text
//!  0  u32  magic "AZK1"
//!  4  u16  protocol version
//!  6  u8   kind: 0 request, 1 reply, 2 hello
//!  7  u8   reserved, 0
//!  8  u64  request id, chosen by the caller, echoed by the reply
//! 16  u32  head bytes
//! 20  u32  body bytes
//! 24  u32  crc32c of the head
//! 28  u32  crc32c of header bytes 0..28
//! 32  head (postcard), body (raw)
//! ```
//! The body is not covered: log records and extent frames carry salted checksums of their own, which are
//! verified where they are used.

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};

/// First bytes of every frame, "AZK1" in little-endian order.
const MAGIC: u32 = u32::from_le_bytes(*b"AZK1");
/// Version this build speaks. A peer of another version is refused by name.
pub const PROTOCOL_VERSION: u16 = 1;
/// Upper bound of head plus body: one extent with its header plus slack.
pub const MESSAGE_BYTES_MAX: usize = 8 << 20;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameKind {
    /// Asks for something.
    Request,
    /// Answers the request of the same id.
    Reply,
    /// First frame in each direction of a connection: who I am.
    Hello,
}

/// The fixed header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// What it is.
    pub kind: FrameKind,
    /// Echoed by the reply.
    pub request_id: u64,
    /// Bytes of the encoded head.
    pub head_bytes: usize,
    /// Bytes of the body.
    pub body_bytes: usize,
    head_crc: u32,
}

/// Why bytes are not a frame. The connection is unusable afterwards.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The peer does not speak this protocol.
    #[error("not a frame of this protocol: it starts with {0:#010x}")]
    Magic(u32),
    /// The peer is of another release.
    #[error(
        "the peer speaks protocol version {0}, this node {PROTOCOL_VERSION}: upgrade the older one"
    )]
    Version(u16),
    /// A checksum does not match.
    #[error("damaged frame: {0}")]
    Checksum(&'static str),
    /// Kind or sizes out of range.
    #[error("malformed frame: {0}")]
    Malformed(&'static str),
    /// The head does not decode.
    #[error("undecodable message: {0}")]
    Head(String),
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

impl FrameHeader {
    /// Bytes of the encoded header.
    pub const BYTES: usize = 32;

    /// Parses and verifies a header.
    ///
    /// # Errors
    /// Any [`FrameError`] but `Head`.
    pub fn decode(bytes: &[u8; Self::BYTES]) -> Result<Self, FrameError> {
        if u32_at(bytes, 0) != MAGIC {
            return Err(FrameError::Magic(u32_at(bytes, 0)));
        }
        let version = u16::from_le_bytes([bytes[4], bytes[5]]);
        if version != PROTOCOL_VERSION {
            return Err(FrameError::Version(version));
        }
        if crc32c::crc32c(&bytes[..28]) != u32_at(bytes, 28) {
            return Err(FrameError::Checksum("header"));
        }
        let kind = match bytes[6] {
            0 => FrameKind::Request,
            1 => FrameKind::Reply,
            2 => FrameKind::Hello,
            _ => return Err(FrameError::Malformed("unknown kind")),
        };
        let (head_bytes, body_bytes) = (u32_at(bytes, 16) as usize, u32_at(bytes, 20) as usize);
        if head_bytes + body_bytes > MESSAGE_BYTES_MAX {
            return Err(FrameError::Malformed("larger than any message"));
        }
        let request_id = u64::from(u32_at(bytes, 8)) | u64::from(u32_at(bytes, 12)) << 32;
        Ok(Self {
            kind,
            request_id,
            head_bytes,
            body_bytes,
            head_crc: u32_at(bytes, 24),
        })
    }

    fn encode(&self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[0..4].copy_from_slice(&MAGIC.to_le_bytes());
        bytes[4..6].copy_from_slice(&PROTOCOL_VERSION.to_le_bytes());
        bytes[6] = match self.kind {
            FrameKind::Request => 0,
            FrameKind::Reply => 1,
            FrameKind::Hello => 2,
        };
        bytes[8..16].copy_from_slice(&self.request_id.to_le_bytes());
        let size = |count: usize| u32::try_from(count).expect("bounded by MESSAGE_BYTES_MAX");
        bytes[16..20].copy_from_slice(&size(self.head_bytes).to_le_bytes());
        bytes[20..24].copy_from_slice(&size(self.body_bytes).to_le_bytes());
        bytes[24..28].copy_from_slice(&self.head_crc.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[..28]);
        bytes[28..32].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Decodes the head that followed this header.
    ///
    /// # Errors
    /// [`FrameError::Checksum`] and [`FrameError::Head`].
    pub fn decode_head<T: DeserializeOwned>(&self, head: &[u8]) -> Result<T, FrameError> {
        if head.len() != self.head_bytes || crc32c::crc32c(head) != self.head_crc {
            return Err(FrameError::Checksum("head"));
        }
        postcard::from_bytes(head).map_err(|error| FrameError::Head(error.to_string()))
    }
}

/// A frame ready to be sent: header and head in one piece, then the body's pieces.
pub struct Frame {
    /// Pieces in sending order.
    pub parts: Vec<Bytes>,
}

impl Frame {
    /// Encodes a message.
    ///
    /// # Panics
    /// When head and body exceed [`MESSAGE_BYTES_MAX`]: senders bound what they send.
    #[must_use]
    pub fn encode<T: Serialize>(
        kind: FrameKind,
        request_id: u64,
        head: &T,
        body: Vec<Bytes>,
    ) -> Self {
        let mut bytes = vec![0; FrameHeader::BYTES];
        bytes = postcard::to_extend(head, bytes)
            .expect("messages contain nothing that cannot be encoded");
        let head_bytes = bytes.len() - FrameHeader::BYTES;
        let body_bytes = body.iter().map(Bytes::len).sum::<usize>();
        assert!(
            head_bytes + body_bytes <= MESSAGE_BYTES_MAX,
            "message of {body_bytes} bytes"
        );
        let head_crc = crc32c::crc32c(&bytes[FrameHeader::BYTES..]);
        let header = FrameHeader {
            kind,
            request_id,
            head_bytes,
            body_bytes,
            head_crc,
        };
        bytes[..FrameHeader::BYTES].copy_from_slice(&header.encode());
        let mut parts = Vec::with_capacity(1 + body.len());
        parts.push(Bytes::from(bytes));
        parts.extend(body.into_iter().filter(|part| !part.is_empty()));
        Self { parts }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_frame_decodes_to_what_was_encoded() {
        let frame = Frame::encode(
            FrameKind::Reply,
            77,
            &(1u8, "two"),
            vec![Bytes::from_static(b"body")],
        );
        let header =
            FrameHeader::decode(frame.parts[0][..32].try_into().expect("32")).expect("valid");
        assert_eq!(
            (header.kind, header.request_id, header.body_bytes),
            (FrameKind::Reply, 77, 4)
        );
        let head: (u8, String) = header.decode_head(&frame.parts[0][32..]).expect("valid");
        assert_eq!(head, (1, "two".to_owned()));
    }

    proptest! {
        #[test]
        fn fuzz_any_header_is_a_value_or_an_error(bytes in any::<[u8; 32]>(), fix in any::<bool>()) {
            let mut bytes = bytes;
            if fix {
                bytes[..4].copy_from_slice(b"AZK1");
                bytes[4..6].copy_from_slice(&PROTOCOL_VERSION.to_le_bytes());
                let crc = crc32c::crc32c(&bytes[..28]);
                bytes[28..].copy_from_slice(&crc.to_le_bytes());
            }
            if let Ok(header) = FrameHeader::decode(&bytes) {
                prop_assert!(header.head_bytes + header.body_bytes <= MESSAGE_BYTES_MAX);
            }
        }

        #[test]
        fn fuzz_any_head_is_a_value_or_an_error(head in proptest::collection::vec(any::<u8>(), 0..256)) {
            let _ = postcard::from_bytes::<crate::StoreRequest>(&head);
            let _ = postcard::from_bytes::<Result<crate::StoreReply, crate::StoreError>>(&head);
            let _ = postcard::from_bytes::<crate::NodeRequest>(&head);
            let _ = postcard::from_bytes::<Result<crate::NodeReply, crate::NodeError>>(&head);
        }

        #[test]
        fn fuzz_changed_messages_are_values_or_errors(
            at in any::<prop::sample::Index>(),
            value: u8,
            lists in prop::collection::vec((any::<u64>(), any::<u64>()), 0..20),
        ) {
            use vocab::{Epoch, ExtentId, Generation, GroupId, VolumeId};
            let volumes = lists.iter().map(|&(volume, epoch)| (VolumeId(volume), Epoch(epoch))).collect();
            let id = |&(volume, epoch): &(u64, u64)| ExtentId {
                group: GroupId(7),
                volume: VolumeId(volume),
                epoch: Epoch(epoch),
                counter: 1,
            };
            let (group, generation) = (GroupId(7), Generation(2));
            let ids = lists.iter().map(id).collect();
            for request in [
                crate::StoreRequest::Confirm { volumes },
                crate::StoreRequest::DeleteExtents { group, generation, ids },
            ] {
                let mut bytes = postcard::to_allocvec(&request).expect("plain data");
                prop_assert_eq!(&postcard::from_bytes::<crate::StoreRequest>(&bytes), &Ok(request));
                let at = at.index(bytes.len());
                bytes[at] = value;
                // A longer list than there are bytes for must not be believed: it is refused after at most
                // what serde reserves ahead, 1 MiB.
                let _ = postcard::from_bytes::<crate::StoreRequest>(&bytes);
                let _ = postcard::from_bytes::<Result<crate::StoreReply, crate::StoreError>>(&bytes);
            }
        }
    }
}
