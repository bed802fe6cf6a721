//! The corpora of messages, frames and batches: every variant of every message, as today's encoder writes it.

use crate::numbers::names;
use crate::*;
use bytes::Bytes;
use fuzz::{Target, target};
use serde::{Serialize, de::DeserializeOwned};
use std::fmt::Debug;
use vocab::*;

const ID: ExtentId = ExtentId {
    group: GroupId(7),
    volume: VolumeId(5),
    epoch: Epoch(3),
    counter: 4_000_000_000,
};
const VOLUME: VolumeId = VolumeId(5);
const EPOCH: Epoch = Epoch(3);
const SEGMENT: SegmentId = SegmentId(2);
const INCARNATION: Incarnation = Incarnation(0x1234_5678_9ABC_DEF1);
const GROUP: GroupId = GroupId(7);
const GENERATION: Generation = Generation(9);

fn version() -> NoteVersion {
    NoteVersion {
        term: 3,
        number: 14,
    }
}

/// Requests about logs.
fn log_requests() -> Vec<StoreRequest> {
    use StoreRequest as R;
    vec![
        R::Status,
        R::Fence {
            volume: VOLUME,
            epoch: EPOCH,
        },
        R::Append {
            volume: VOLUME,
            epoch: EPOCH,
            segment: SEGMENT,
            incarnation: INCARNATION,
            count: 300,
            durable: true,
        },
        R::FlushLog {
            volume: VOLUME,
            epoch: EPOCH,
            segment: SEGMENT,
            incarnation: INCARNATION,
            through: Position(1 << 40),
        },
        R::ReadLog {
            volume: VOLUME,
            epoch: EPOCH,
            segment: SEGMENT,
            from: Position(1 << 40),
            bytes_max: 1 << 20,
        },
        R::TrimLog {
            volume: VOLUME,
            epoch: EPOCH,
            through: Position(1 << 40),
        },
        R::DropLog {
            volume: VOLUME,
            epoch: EPOCH,
        },
        R::Confirm {
            volumes: vec![(VOLUME, EPOCH), (VolumeId(300), Epoch(u64::MAX))],
        },
        R::ListLogs {
            after: Some(VOLUME),
            limit: 1000,
        },
        R::PutNotes {
            notes: vec![
                Note {
                    key: "volume/5".to_owned(),
                    version: version(),
                    value: Some("{\"name\":\"db\"}".to_owned()),
                },
                Note {
                    key: "volume/6".to_owned(),
                    version: version(),
                    value: None,
                },
            ],
        },
        R::ListNotes {
            after: Some("volume/5".to_owned()),
            limit: 100,
        },
    ]
}

/// Requests about extents.
fn extent_requests() -> Vec<StoreRequest> {
    use StoreRequest as R;
    vec![
        R::PromiseGroup {
            group: GROUP,
            generation: GENERATION,
        },
        R::PutExtent {
            id: ID,
            generation: GENERATION,
            form: 2,
            durable: false,
            reserved: true,
            missing: vec![StoreId(1), StoreId(200)],
        },
        R::FlushExtents,
        R::ReadFrames {
            reads: vec![FrameRead {
                id: ID,
                frame: 254,
                first_block: 1,
                blocks: 3,
            }],
        },
        R::ReadExtent { id: ID },
        R::DeleteExtents {
            group: GROUP,
            generation: GENERATION,
            ids: vec![ID, ID],
        },
        R::CompactExtent {
            id: ID,
            generation: GENERATION,
            form: 3,
            live: vec![0xFF, 0, 0x55],
        },
        R::ListExtents {
            group: GROUP,
            generation: GENERATION,
            after: Some(ID),
            limit: 500,
            tombstones: true,
        },
        R::ClearMissing {
            group: GROUP,
            store: StoreId(3),
            ids: vec![ID],
        },
        R::ForgetTombstones {
            group: GROUP,
            ids: vec![ID],
        },
        R::LeaveGroup {
            group: GROUP,
            generation: GENERATION,
        },
        R::GroupSizes { after: Some(GROUP) },
        R::CopyExtent { id: ID },
    ]
}

fn status() -> StoreStatus {
    StoreStatus {
        store: StoreId(3),
        incarnation: INCARNATION,
        trust: Trust::Suspect,
        capacity: ByteCount(1 << 40),
        used: ByteCount(1 << 39),
        journal_capacity: ByteCount(1 << 30),
        journal_used: ByteCount(1 << 20),
        full: false,
        extents: 131_072,
        written: ByteCount(1 << 42),
        flushes: 99,
        failed: Some("disk 1: I/O error".to_owned()),
    }
}

fn replies() -> Vec<StoreReply> {
    use StoreReply as R;
    vec![
        R::Done,
        R::Status(status()),
        R::Fenced {
            incarnation: INCARNATION,
            trust: Trust::Trusted,
            previous: Epoch(2),
            segments: vec![SegmentTail {
                segment: SEGMENT,
                epoch: EPOCH,
                first: Position(10),
                last: Position(1 << 40),
                committed: Position(300),
                flushed: Position(200),
            }],
        },
        R::Appended {
            written: Position(300),
            flushed: Position(200),
        },
        R::Records {
            count: 20,
            more: true,
        },
        R::Confirmed {
            promised: vec![EPOCH, Epoch(0)],
        },
        R::Frames {
            pieces: vec![FramePiece {
                descriptor: vec![1; 24],
                first_block: 2,
                bytes: 8192,
            }],
        },
        R::Extent {
            form: 2,
            missing: vec![StoreId(1)],
        },
        R::Extents {
            extents: vec![ExtentInfo {
                id: ID,
                form: 2,
                bytes: 4 << 20,
                tombstone: false,
                missing: vec![StoreId(2)],
            }],
            more: false,
        },
        R::Logs {
            volumes: vec![VOLUME, VolumeId(300)],
        },
        R::Kept {
            session: 0x8000_0000_0000_0001,
            full: true,
        },
        R::Notes {
            notes: vec![("volume/5".to_owned(), version())],
        },
        R::GroupSizes {
            groups: vec![(GROUP, 1 << 33)],
            more: true,
        },
    ]
}

fn errors() -> Vec<StoreError> {
    use StoreError as E;
    vec![
        E::StaleEpoch { promised: EPOCH },
        E::StaleGeneration {
            promised: GENERATION,
        },
        E::WrongIncarnation {
            actual: INCARNATION,
        },
        E::Gap {
            expected: Position(300),
        },
        E::Absent,
        E::NoSegment,
        E::Full,
        E::JournalFull,
        E::Damaged {
            what: "a block".to_owned(),
        },
        E::Failed {
            reason: "disk 0 is gone".to_owned(),
        },
        E::BadRequest {
            reason: "no records".to_owned(),
        },
    ]
}

fn node_requests() -> Vec<NodeRequest> {
    use NodeRequest as R;
    let (handle, lba) = (77, Lba(1 << 30));
    vec![
        R::Locate {
            volume: "lab/db".to_owned(),
        },
        R::Open {
            volume: "lab/db".to_owned(),
            client: u64::MAX,
            session: SessionNumber(3),
            attachment: AttachmentGeneration(4),
            read_only: true,
        },
        R::Read {
            handle,
            lba,
            blocks: 256,
        },
        R::Write {
            handle,
            lba,
            fua: true,
        },
        R::Flush { handle },
        R::Unmap {
            handle,
            lba,
            blocks: 1 << 40,
        },
        R::Allocation {
            handle,
            lba,
            blocks: 1 << 20,
        },
        R::Refresh { handle },
        R::Close { handle },
        R::Operate {
            operation: b"{\"grow\":{\"volume\":\"lab/db\"}}".to_vec(),
        },
    ]
}

fn node_replies() -> Vec<NodeReply> {
    use NodeReply as R;
    vec![
        R::Done,
        R::Located {
            owner: NodeId(2),
            address: "10.0.0.2:7400".to_owned(),
            nodes: vec!["10.0.0.1:7400".to_owned(), "[::1]:7400".to_owned()],
        },
        R::Opened {
            handle: 77,
            info: VolumeInfo {
                volume: VOLUME,
                size: ByteCount(1 << 40),
                read_only: false,
                attachment: AttachmentGeneration(4),
            },
        },
        R::Allocation {
            runs: vec![(512, true), (1 << 30, false)],
        },
        R::Answer {
            answer: b"{\"ok\":null}".to_vec(),
        },
    ]
}

fn node_errors() -> Vec<NodeError> {
    use NodeError as E;
    let reason = || "why".to_owned();
    vec![
        E::NoVolume {
            name: "lab/db".to_owned(),
        },
        E::NotOwner,
        E::Busy { reason: reason() },
        E::Detached { reason: reason() },
        E::BadRequest { reason: reason() },
        E::NoSpace { reason: reason() },
        E::Failed { reason: reason() },
    ]
}

/// Name of a variant, as `Debug` has it.
fn variant(value: &impl Debug) -> String {
    let text = format!("{value:?}");
    let end = text.find(|c: char| !c.is_alphanumeric());
    text[..end.unwrap_or(text.len())].to_owned()
}

/// Every variant has a sample in the corpus that decodes to what was encoded.
fn holds<T, M>(target: &Target, values: Vec<T>, message: impl Fn(T) -> M)
where
    T: Debug + DeserializeOwned,
    M: Serialize + DeserializeOwned + PartialEq + Debug,
{
    let mut missing = names::<T>();
    for value in values {
        let name = variant(&value);
        missing = missing.replacen(&name, "", 1);
        let message = message(value);
        let encoded = postcard::to_allocvec(&message).expect("plain data");
        let committed = target.sample(&name, &encoded);
        assert_eq!(postcard::from_bytes::<M>(&committed), Ok(message), "{name}");
    }
    assert_eq!(missing.trim(), "", "every variant has a sample");
}

/// What decodes is encoded again and is the same.
fn decode<M: Serialize + DeserializeOwned + PartialEq + Debug>(bytes: &[u8]) {
    if let Ok(message) = postcard::from_bytes::<M>(bytes) {
        let again = postcard::to_allocvec(&message).expect("plain data");
        assert!(
            again.len() <= bytes.len(),
            "no value is longer than its bytes"
        );
        assert_eq!(postcard::from_bytes::<M>(&again), Ok(message));
    }
}

#[test]
fn fuzz_corpus_of_store_requests() {
    let target = target!("store-request");
    let all = log_requests().into_iter().chain(extent_requests());
    holds(&target, all.collect(), |request| request);
    target.play(decode::<StoreRequest>);
}

#[test]
fn fuzz_corpus_of_store_replies() {
    type Answer = Result<StoreReply, StoreError>;
    let target = target!("store-reply");
    holds(&target, replies(), Answer::Ok);
    holds(&target, errors(), Answer::Err);
    target.play(decode::<Answer>);
}

#[test]
fn fuzz_corpus_of_node_requests() {
    let target = target!("node-request");
    holds(&target, node_requests(), |request| request);
    target.play(decode::<NodeRequest>);
}

#[test]
fn fuzz_corpus_of_node_replies() {
    type Answer = Result<NodeReply, NodeError>;
    let target = target!("node-reply");
    holds(&target, node_replies(), Answer::Ok);
    holds(&target, node_errors(), Answer::Err);
    target.play(decode::<Answer>);
}

fn record(position: u64, kind: RecordKind, data: &[u8]) -> Record {
    let mut head = RecordHead {
        crc: 0,
        previous_crc: 3,
        volume: VOLUME,
        epoch: EPOCH,
        position: Position(position),
        segment: SEGMENT,
        kind,
        lba: Lba(9),
        blocks: if kind == RecordKind::Barrier { 0 } else { 8 },
        data_bytes: data.len() as u32,
        committed: Position(position - 2),
        flushed: Position(position - 5),
    };
    head.seal(data);
    Record {
        head,
        data: Bytes::copy_from_slice(data),
    }
}

/// A byte for the count, then the body of the message. Whether checksums hold is asked of every record.
fn decode_batch(bytes: &[u8]) -> Option<Vec<Record>> {
    let (count, body) = bytes.split_first()?;
    let body = Bytes::copy_from_slice(body);
    let records = Record::decode_batch(usize::from(*count), &body).ok()?;
    for record in &records {
        let _ = record.verify();
        assert_eq!(record.data.len(), record.head.data_bytes as usize);
    }
    let again = Record::encode_batch(&records).concat().into();
    assert_eq!(
        Record::decode_batch(records.len(), &again).as_ref(),
        Ok(&records)
    );
    Some(records)
}

#[test]
fn fuzz_corpus_of_batches() {
    let target = target!("batch");
    let records = vec![
        record(10, RecordKind::Unmap, &[]),
        record(11, RecordKind::Reference, &[5; 56]),
        record(12, RecordKind::Barrier, &[]),
        record(13, RecordKind::Checkpoint, &[6; 88]),
    ];
    for (name, records) in [("kinds", records), ("empty", Vec::new())] {
        let mut encoded = Record::encode_batch(&records).concat();
        encoded.insert(0, records.len() as u8);
        let committed = target.sample(name, &encoded);
        assert_eq!(decode_batch(&committed), Some(records), "{name}");
    }
    // A record of a whole block is longer than a corpus likes: its head alone, the block's bytes cut off.
    let whole = record(14, RecordKind::Write, &[7; 8 * BLOCK_SIZE]);
    let cut = [&[1][..], &whole.head.to_bytes(), &[7; 9]].concat();
    assert_eq!(decode_batch(&target.sample("cut", &cut)), None);
    target.play(|bytes| drop(decode_batch(bytes)));
}

/// Header, head and body of a frame, if it is whole.
fn decode_frame(bytes: &[u8]) -> Option<(FrameHeader, StoreRequest, usize)> {
    let (header, rest) = bytes.split_first_chunk::<{ FrameHeader::BYTES }>()?;
    let header = FrameHeader::decode(header).ok()?;
    assert!(header.head_bytes + header.body_bytes <= MESSAGE_BYTES_MAX);
    let head = rest.get(..header.head_bytes)?;
    let request = header.decode_head(head).ok()?;
    Some((header, request, rest.len() - head.len()))
}

/// Sets both checksums of a frame.
fn seal_frame(mut bytes: Vec<u8>) -> Vec<u8> {
    if bytes.len() >= FrameHeader::BYTES {
        let head = u32::from_le_bytes(bytes[16..20].try_into().expect("4 bytes")) as usize;
        let end = FrameHeader::BYTES.saturating_add(head).min(bytes.len());
        let crc = crc32c::crc32c(&bytes[FrameHeader::BYTES..end]);
        bytes[24..28].copy_from_slice(&crc.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[..28]);
        bytes[28..32].copy_from_slice(&crc.to_le_bytes());
    }
    bytes
}

#[test]
fn fuzz_corpus_of_frames() {
    let target = target!("frame");
    for (index, request) in log_requests().into_iter().enumerate() {
        let body = vec![Bytes::from(vec![index as u8; index])];
        let frame = Frame::encode(FrameKind::Request, index as u64, &request, body);
        let name = format!("request-{}", variant(&request));
        let committed = target.sample(&name, &frame.parts.concat());
        let (header, head, body_bytes) = decode_frame(&committed).expect("a frame");
        assert_eq!(
            (header.kind, header.request_id, header.body_bytes, head),
            (FrameKind::Request, index as u64, body_bytes, request)
        );
    }
    let hello = Frame::encode(FrameKind::Hello, 0, &("lab", 1, 2, false), Vec::new());
    let hello = hello.parts.concat();
    assert_eq!(
        decode_frame(&target.sample("hello-cut", &hello[..36])),
        None
    );
    let mut version = hello.clone();
    version[4] = 9;
    assert_eq!(decode_frame(&target.sample("newer", &version)), None);
    target.play_changed(|bytes| drop(decode_frame(bytes)), seal_frame);
}
