//! Cuts a byte stream into frames. Pure: chunks in, frames out.
//!
//! Invariants
//! - Any bytes give frames or an error; after an error nothing more is returned.
//! - Heads and bodies inside one chunk are slices of it. A body that spans chunks is copied once, into
//!   page-aligned memory.
//! - Memory held: the unread rest of one chunk, one incomplete header and head, and one body being assembled,
//!   at most [`wire::MESSAGE_BYTES_MAX`].

use bytes::{Buf as _, Bytes};
use std::collections::VecDeque;
use wire::{FrameError, FrameHeader};
use world::Buf;

/// A whole frame.
#[derive(Debug)]
pub struct Incoming {
    /// Kind, id and sizes.
    pub header: FrameHeader,
    /// Encoded head, to be decoded with [`FrameHeader::decode_head`].
    pub head: Bytes,
    /// Raw body.
    pub body: Bytes,
}

/// A body that spans chunks.
struct Assembly {
    header: FrameHeader,
    head: Bytes,
    body: Buf,
    filled: usize,
}

/// See the module's documentation.
#[derive(Default)]
pub struct FrameReader {
    chunks: VecDeque<Bytes>,
    buffered: usize,
    header: Option<FrameHeader>,
    assembly: Option<Assembly>,
    failed: Option<FrameError>,
}

impl FrameReader {
    /// Adds what the stream brought. Call [`FrameReader::next_frame`] until it returns `None` in between.
    pub fn push(&mut self, mut chunk: Bytes) {
        if let Some(assembly) = &mut self.assembly {
            // Nothing is buffered while a body is being assembled.
            let wanted = assembly.header.body_bytes - assembly.filled;
            let count = wanted.min(chunk.len());
            assembly.body[assembly.filled..assembly.filled + count]
                .copy_from_slice(&chunk[..count]);
            assembly.filled += count;
            chunk.advance(count);
        }
        if !chunk.is_empty() {
            self.buffered += chunk.len();
            self.chunks.push_back(chunk);
        }
    }

    /// The next whole frame, or `None` until more bytes are pushed.
    ///
    /// # Errors
    /// The stream is not, or no longer, one of frames; the same error is returned ever after.
    pub fn next_frame(&mut self) -> Result<Option<Incoming>, FrameError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let result = self.cut();
        if let Err(error) = &result {
            self.failed = Some(error.clone());
        }
        result
    }

    fn cut(&mut self) -> Result<Option<Incoming>, FrameError> {
        if self.assembly.is_some() {
            return Ok(self.finish_assembly());
        }
        let header = match self.header {
            Some(header) => header,
            None if self.buffered < FrameHeader::BYTES => return Ok(None),
            None => {
                let header = self.take_header()?;
                *self.header.insert(header)
            }
        };
        if self.buffered < header.head_bytes {
            return Ok(None);
        }
        let head = self.take(header.head_bytes);
        self.header = None;
        let at_hand = self.chunks.front().map_or(0, Bytes::len);
        if header.body_bytes <= at_hand {
            let body = self.take(header.body_bytes);
            return Ok(Some(Incoming { header, head, body }));
        }
        let mut assembly = Assembly {
            header,
            // The head must not pin a chunk for as long as the body takes.
            head: Bytes::copy_from_slice(&head),
            body: Buf::zeroed(header.body_bytes),
            filled: self.buffered.min(header.body_bytes),
        };
        let filled = assembly.filled;
        self.copy_out(&mut assembly.body[..filled]);
        self.assembly = Some(assembly);
        Ok(self.finish_assembly())
    }

    fn finish_assembly(&mut self) -> Option<Incoming> {
        let assembly = self
            .assembly
            .take_if(|assembly| assembly.filled == assembly.header.body_bytes)?;
        let Assembly {
            header, head, body, ..
        } = assembly;
        let body = body.freeze().slice(..header.body_bytes);
        Some(Incoming { header, head, body })
    }

    fn take_header(&mut self) -> Result<FrameHeader, FrameError> {
        let mut bytes = [0; FrameHeader::BYTES];
        self.copy_out(&mut bytes);
        FrameHeader::decode(&bytes)
    }

    /// Moves the first `target.len()` buffered bytes, which must be there.
    fn copy_out(&mut self, mut target: &mut [u8]) {
        self.buffered -= target.len();
        while !target.is_empty() {
            let chunk = self.chunks.front_mut().expect("callers checked `buffered`");
            let count = chunk.len().min(target.len());
            target[..count].copy_from_slice(&chunk[..count]);
            chunk.advance(count);
            target = &mut target[count..];
            if chunk.is_empty() {
                self.chunks.pop_front();
            }
        }
    }

    /// The first `count` buffered bytes, which must be there: a slice when they are contiguous.
    fn take(&mut self, count: usize) -> Bytes {
        if count == 0 {
            return Bytes::new();
        }
        let chunk = self.chunks.front_mut().expect("callers checked `buffered`");
        if chunk.len() < count {
            let mut copy = vec![0; count];
            self.copy_out(&mut copy);
            return copy.into();
        }
        self.buffered -= count;
        let taken = chunk.split_to(count);
        if chunk.is_empty() {
            self.chunks.pop_front();
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fuzz::target;
    use proptest::prelude::*;
    use wire::{Frame, FrameKind};

    fn encoded(messages: &[(String, Vec<u8>)]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (id, (head, body)) in messages.iter().enumerate() {
            let body = vec![Bytes::copy_from_slice(body)];
            for part in Frame::encode(FrameKind::Request, id as u64, head, body).parts {
                bytes.extend_from_slice(&part);
            }
        }
        bytes
    }

    fn drain(reader: &mut FrameReader, found: &mut Vec<(String, Vec<u8>)>) {
        while let Some(frame) = reader.next_frame().expect("valid") {
            assert_eq!(frame.header.request_id, found.len() as u64);
            let head = frame.header.decode_head(&frame.head).expect("valid");
            found.push((head, frame.body.to_vec()));
        }
    }

    #[test]
    fn a_body_inside_a_chunk_is_not_copied() {
        let stream = Bytes::from(encoded(&[("head".into(), vec![7; 5000])]));
        let mut reader = FrameReader::default();
        reader.push(stream.clone());
        let frame = reader.next_frame().expect("valid").expect("whole");
        let range = stream.as_ptr_range();
        assert!(range.contains(&frame.body.as_ptr()));
    }

    #[test]
    fn a_body_that_spans_chunks_is_page_aligned() {
        let stream = Bytes::from(encoded(&[("head".into(), vec![7; 8192])]));
        let mut reader = FrameReader::default();
        reader.push(stream.slice(..3000));
        assert!(reader.next_frame().expect("valid").is_none());
        reader.push(stream.slice(3000..));
        let frame = reader.next_frame().expect("valid").expect("whole");
        assert!(Buf::is_aligned(&frame.body));
        assert_eq!(&frame.body[..], &[7; 8192]);
    }

    /// Greeting, requests and replies, as one side of a connection sends them.
    fn conversation() -> Vec<(&'static str, FrameKind, Vec<u8>)> {
        use crate::message::{Greeting, Hello, Reply, Request};
        let head = |kind, head: &dyn Fn() -> Frame| (kind, head().parts.concat());
        let hello = Hello {
            cluster: "lab".to_owned(),
            node: vocab::NodeId(3),
            start: u64::MAX,
            levels: vocab::Levels::OWN,
        };
        let greeting = Greeting::new(hello, wire::Lane::Bulk);
        let store = Request::Store {
            store: vocab::StoreId(2),
            request: wire::StoreRequest::FlushExtents,
        };
        let node = Request::Node(wire::NodeRequest::Flush { handle: 7 });
        let failed = Reply::Node(Err(wire::NodeError::NotOwner));
        let answer = Reply::Store(Ok(wire::StoreReply::Done));
        let body = || vec![Bytes::from_static(&[7; 40])];
        let (ask, say, greet) = (FrameKind::Request, FrameKind::Reply, FrameKind::Hello);
        let frames = [
            (
                "hello",
                head(greet, &|| Frame::encode(greet, 0, &greeting, Vec::new())),
            ),
            // The one above is kept as a sample from before greetings ended with levels.
            (
                "hello-with-levels",
                head(greet, &|| Frame::encode(greet, 0, &greeting, Vec::new())),
            ),
            (
                "store",
                head(ask, &|| Frame::encode(ask, 1, &store, body())),
            ),
            (
                "node",
                head(ask, &|| Frame::encode(ask, 2, &node, Vec::new())),
            ),
            (
                "ping",
                head(ask, &|| Frame::encode(ask, 3, &Request::Ping, Vec::new())),
            ),
            (
                "done",
                head(say, &|| Frame::encode(say, 1, &answer, body())),
            ),
            (
                "error",
                head(say, &|| Frame::encode(say, 2, &failed, Vec::new())),
            ),
            (
                "pong",
                head(say, &|| Frame::encode(say, 3, &Reply::Pong, Vec::new())),
            ),
            (
                "refused",
                head(say, &|| {
                    Frame::encode(say, 4, &Reply::Refused("why".to_owned()), Vec::new())
                }),
            ),
        ];
        let frames = frames.into_iter();
        frames
            .map(|(name, (kind, bytes))| (name, kind, bytes))
            .collect()
    }

    /// Reads a stream in pieces; how many frames of which kind it holds.
    fn kinds(stream: &[u8]) -> Vec<FrameKind> {
        let (mut reader, mut kinds) = (FrameReader::default(), Vec::new());
        let cut = 1 + stream.len() % 61;
        for chunk in stream.chunks(cut) {
            reader.push(Bytes::copy_from_slice(chunk));
            while let Ok(Some(frame)) = reader.next_frame() {
                assert_eq!(frame.body.len(), frame.header.body_bytes);
                let known = match frame.header.kind {
                    FrameKind::Request => frame
                        .header
                        .decode_head::<crate::Request>(&frame.head)
                        .is_ok(),
                    FrameKind::Reply => frame
                        .header
                        .decode_head::<crate::Reply>(&frame.head)
                        .is_ok(),
                    FrameKind::Hello => {
                        let greeting = crate::message::Greeting::decode(&frame.header, &frame.head);
                        greeting.map(|greeting| greeting.lane()).is_ok()
                    }
                };
                kinds.extend(known.then_some(frame.header.kind));
            }
        }
        kinds
    }

    /// Sets the checksums of the first frame.
    fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
        if let Some(size) = bytes.get(16..20) {
            let size = u32::from_le_bytes(size.try_into().expect("4 bytes")) as usize;
            let end = bytes.len().min(FrameHeader::BYTES.saturating_add(size));
            let crc = bytes.get(FrameHeader::BYTES..end).map(crc32c::crc32c);
            if let Some(crc) = crc {
                bytes[24..28].copy_from_slice(&crc.to_le_bytes());
                let crc = crc32c::crc32c(&bytes[..28]);
                bytes[28..32].copy_from_slice(&crc.to_le_bytes());
            }
        }
        bytes
    }

    #[test]
    fn fuzz_corpus_of_streams() {
        let target = target!("stream");
        let (mut all, mut expected) = (Vec::new(), Vec::new());
        for (name, kind, bytes) in conversation() {
            assert_eq!(kinds(&target.sample(name, &bytes)), [kind], "{name}");
            if name != "hello-with-levels" {
                all.extend(bytes);
                expected.push(kind);
            }
        }
        assert_eq!(kinds(&target.sample("all", &all)), expected);
        target.sample("cut", &all[..all.len() - 1]);
        target.play_changed(|bytes| drop(kinds(bytes)), sealed);
    }

    proptest! {
        #[test]
        fn fuzz_frames_survive_any_chunking(
            messages in proptest::collection::vec(
                (".{0,40}", proptest::collection::vec(any::<u8>(), 0..300)), 0..12),
            cuts in proptest::collection::vec(1usize..200, 1..40),
        ) {
            let stream = Bytes::from(encoded(&messages));
            let mut reader = FrameReader::default();
            let mut found = Vec::new();
            let (mut at, mut cut) = (0, cuts.iter().cycle());
            while at < stream.len() {
                let end = stream.len().min(at + cut.next().expect("endless"));
                reader.push(stream.slice(at..end));
                // Not every chunk is followed by a look for frames.
                if end % 3 != 0 {
                    drain(&mut reader, &mut found);
                }
                at = end;
            }
            drain(&mut reader, &mut found);
            prop_assert_eq!(found, messages);
            prop_assert_eq!(reader.buffered, 0);
        }

        #[test]
        fn fuzz_any_stream_gives_frames_or_an_error(
            chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..100), 0..20),
            frames in proptest::collection::vec(
                (".{0,10}", proptest::collection::vec(any::<u8>(), 0..50)), 0..3),
            flip in any::<(bool, prop::sample::Index, u8)>(),
        ) {
            let mut stream = encoded(&frames);
            if flip.0 && !stream.is_empty() {
                let at = flip.1.index(stream.len());
                stream[at] ^= flip.2;
            }
            let mut reader = FrameReader::default();
            for chunk in std::iter::once(stream).chain(chunks) {
                reader.push(Bytes::from(chunk));
                while let Ok(Some(frame)) = reader.next_frame() {
                    let _ = frame.header.decode_head::<crate::Request>(&frame.head);
                    let _ = frame.header.decode_head::<crate::Reply>(&frame.head);
                    let _ = crate::message::Greeting::decode(&frame.header, &frame.head);
                }
            }
        }
    }
}
