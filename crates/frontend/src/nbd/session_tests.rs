//! Requests out of bytes, replies into bytes.

use super::*;
use proptest::prelude::*;

const FACTS: Facts = Facts {
    size: 1 << 20,
    read_only: false,
};
const ALL: Negotiated = Negotiated {
    structured: true,
    block_status: true,
};

fn request(command: u16, flags: u16, offset: u64, length: u32) -> Request {
    Request {
        flags,
        command,
        cookie: 0x0102_0304_0506_0708,
        offset,
        length,
    }
}

fn encoded(request: &Request) -> Vec<u8> {
    let mut out = pdu::REQUEST_MAGIC.to_be_bytes().to_vec();
    out.extend(request.flags.to_be_bytes());
    out.extend(request.command.to_be_bytes());
    out.extend(request.cookie.to_be_bytes());
    out.extend(request.offset.to_be_bytes());
    out.extend(request.length.to_be_bytes());
    out
}

fn session(negotiated: Negotiated, bytes: &[u8]) -> Session {
    let mut session = Session::new(negotiated, Input::default());
    session.feed(Bytes::copy_from_slice(bytes));
    session
}

fn next(session: &mut Session) -> Event {
    session.next(FACTS, |_| true).unwrap()
}

#[test]
fn requests_come_out_whole_however_they_come_in() {
    let write = request(command::WRITE, command_flag::FUA, 512, 3);
    let read = request(command::READ, 0, 0, 512);
    let mut bytes = encoded(&write);
    bytes.extend(b"abc");
    bytes.extend(encoded(&read));
    for cut in 1..bytes.len() {
        let mut session = Session::new(ALL, Input::default());
        let mut events = Vec::new();
        for chunk in bytes.chunks(cut) {
            session.feed(Bytes::copy_from_slice(chunk));
            loop {
                match next(&mut session) {
                    Event::Read => break,
                    Event::Execute(request, payload) => events.push((request, payload.concat())),
                    other => panic!("{other:?}"),
                }
            }
        }
        assert_eq!(events, [(write, b"abc".to_vec()), (read, vec![])]);
    }
}

#[test]
fn requests_without_room_wait() {
    let read = request(command::READ, 0, 0, 4096);
    let mut session = session(ALL, &encoded(&read));
    let cost = cost(&read);
    assert_eq!(session.next(FACTS, |bytes| bytes < cost), Ok(Event::Wait));
    let admitted = session.next(FACTS, |bytes| bytes == cost);
    assert_eq!(admitted, Ok(Event::Execute(read, vec![])));
}

#[test]
fn a_wrong_magic_number_is_a_violation_and_disconnect_is_obeyed() {
    let mut rubbish = session(ALL, &[0; 28]);
    let result = rubbish.next(FACTS, |_| true);
    assert_eq!(result, Err(Violation::Magic("request")));
    let mut done = session(ALL, &encoded(&request(command::DISC, 0, 0, 0)));
    assert_eq!(done.next(FACTS, |_| false), Ok(Event::Disconnect));
}

#[test]
fn what_cannot_succeed_is_refused() {
    use ErrorCode::{Invalid, NoSpace, NotPermitted, Overflow};
    let plain = Negotiated::default();
    let read_only = Facts {
        read_only: true,
        ..FACTS
    };
    let (big, end) = (PAYLOAD_BYTES_MAX + 1, FACTS.size);
    let cases = [
        (request(99, 0, 0, 0), FACTS, ALL, Some(Invalid)),
        (
            request(command::READ, 1 << 5, 0, 512),
            FACTS,
            ALL,
            Some(Invalid),
        ),
        (
            request(command::READ, command_flag::DF, 0, 512),
            FACTS,
            plain,
            Some(Invalid),
        ),
        (
            request(command::READ, command_flag::DF, 0, 512),
            FACTS,
            ALL,
            None,
        ),
        (
            request(command::READ, command_flag::FUA, 0, 512),
            FACTS,
            plain,
            None,
        ),
        (
            request(command::WRITE, command_flag::NO_HOLE, 0, 0),
            FACTS,
            ALL,
            Some(Invalid),
        ),
        (request(command::FLUSH, 0, 1, 0), FACTS, ALL, Some(Invalid)),
        (
            request(command::FLUSH, command_flag::FUA, 0, 0),
            FACTS,
            ALL,
            None,
        ),
        (request(command::FLUSH, 0, 0, 0), read_only, ALL, None),
        (
            request(command::READ, 0, end - 1, 2),
            FACTS,
            ALL,
            Some(Invalid),
        ),
        (request(command::READ, 0, end, 0), FACTS, ALL, None),
        (
            request(command::READ, 0, u64::MAX, 2),
            FACTS,
            ALL,
            Some(Invalid),
        ),
        (request(command::TRIM, 0, end, 1), FACTS, ALL, Some(Invalid)),
        (
            request(command::CACHE, 0, end, 1),
            FACTS,
            ALL,
            Some(Invalid),
        ),
        (
            request(command::WRITE_ZEROES, 0, end, 1),
            FACTS,
            ALL,
            Some(NoSpace),
        ),
        (request(command::WRITE, 0, end, 0), FACTS, ALL, None),
        (
            request(command::WRITE, 0, 0, 0),
            read_only,
            ALL,
            Some(NotPermitted),
        ),
        (
            request(command::TRIM, 0, 0, 512),
            read_only,
            ALL,
            Some(NotPermitted),
        ),
        (
            request(command::WRITE_ZEROES, 0, 0, 512),
            read_only,
            ALL,
            Some(NotPermitted),
        ),
        (
            request(command::READ, 0, 0, big),
            FACTS,
            ALL,
            Some(Overflow),
        ),
        (
            request(command::READ, 0, 0, big),
            FACTS,
            plain,
            Some(Invalid),
        ),
        (
            request(command::CACHE, 0, 0, big),
            FACTS,
            plain,
            Some(Overflow),
        ),
        (
            request(command::BLOCK_STATUS, 0, 0, 512),
            FACTS,
            plain,
            Some(Invalid),
        ),
        (
            request(command::BLOCK_STATUS, command_flag::REQ_ONE, 0, 512),
            FACTS,
            ALL,
            None,
        ),
        (
            request(command::BLOCK_STATUS, 0, 0, 0),
            FACTS,
            ALL,
            Some(Invalid),
        ),
    ];
    for (request, facts, negotiated, expected) in cases {
        let mut session = session(negotiated, &encoded(&request));
        let refusal = match session.next(facts, |_| true).unwrap() {
            Event::Execute(executed, _) => {
                assert_eq!(executed, request);
                None
            }
            Event::Refuse(_, failure) => Some(failure.code),
            other => panic!("{other:?}"),
        };
        assert_eq!(refusal, expected, "{request:?}");
    }
}

#[test]
fn payloads_of_refused_writes_are_skipped_and_not_kept() {
    let cases = [
        (
            request(command::WRITE, 0, FACTS.size, 100_000),
            ErrorCode::NoSpace,
        ),
        (request(command::WRITE, 0, 0, u32::MAX), ErrorCode::Invalid),
        (
            request(command::WRITE, 1 << 9, 0, 100_000),
            ErrorCode::Invalid,
        ),
    ];
    for (request, code) in cases {
        let mut session = session(ALL, &encoded(&request));
        let mut left = request.length as usize;
        let chunk = Bytes::from(vec![7; 1 << 20]);
        while left > 0 {
            assert_eq!(next(&mut session), Event::Read);
            let part = left.min(chunk.len());
            session.feed(chunk.slice(..part));
            left -= part;
            assert!(session.buffered() <= chunk.len());
        }
        let Event::Refuse(refused, failure) = next(&mut session) else {
            panic!("{request:?} is not refused");
        };
        assert_eq!((refused, failure.code), (request, code));
        assert_eq!((next(&mut session), session.buffered()), (Event::Read, 0));
    }
}

#[test]
fn errors_of_devices_have_protocol_values() {
    let text = || "why".to_owned();
    let range = BlockError::OutOfRange {
        lba: vocab::Lba(1),
        blocks: 1,
        size: vocab::ByteCount(4096),
    };
    let code = |error: &BlockError, command| Failure::of_device(error, command).code;
    assert_eq!(code(&range, command::WRITE), ErrorCode::NoSpace);
    assert_eq!(code(&range, command::READ), ErrorCode::Invalid);
    assert_eq!(
        code(&BlockError::ReadOnly, command::TRIM),
        ErrorCode::NotPermitted
    );
    assert_eq!(
        code(&BlockError::NoSpace(text()), command::WRITE),
        ErrorCode::NoSpace
    );
    assert_eq!(
        code(&BlockError::Gone(text()), command::READ),
        ErrorCode::Shutdown
    );
    assert_eq!(
        code(&BlockError::Failed(text()), command::READ),
        ErrorCode::Io
    );
}

fn sent(request: &Request, structured: bool, result: Result<Outcome, Failure>) -> Vec<u8> {
    let mut replies = Replies::default();
    replies.push(request, structured, result);
    let announced = replies.bytes();
    let (parts, bytes) = replies.take();
    let sent = parts.concat();
    assert_eq!((announced, bytes), (sent.len() as u64, sent.len() as u64));
    sent
}

const COOKIE: [u8; 8] = [1, 2, 3, 4, 5, 6, 7, 8];

#[test]
fn simple_replies_have_their_layout() {
    let read = request(command::READ, 0, 512, 3);
    let parts = vec![Bytes::from_static(b"ab"), Bytes::from_static(b"c")];
    let reply = sent(&read, false, Ok(Outcome::Data(parts)));
    let expected = [&[0x67, 0x44, 0x66, 0x98, 0, 0, 0, 0][..], &COOKIE, b"abc"].concat();
    assert_eq!(reply, expected);
    let failure = Failure::new(ErrorCode::NoSpace, "full");
    let reply = sent(&read, false, Err(failure));
    assert_eq!(
        reply,
        [&[0x67, 0x44, 0x66, 0x98, 0, 0, 0, 28][..], &COOKIE].concat()
    );
}

#[test]
fn structured_replies_have_their_layout() {
    let header = |flags: u8, kind: [u8; 2], len: u8| {
        let mut header = vec![0x66, 0x8e, 0x33, 0xef, 0, flags, kind[0], kind[1]];
        header.extend(COOKIE);
        header.extend([0, 0, 0, len]);
        header
    };
    let offset = |offset: u16| [&[0; 6][..], &offset.to_be_bytes()].concat();
    let read = request(command::READ, 0, 512, 3);
    let data = || vec![Bytes::from_static(b"abc")];
    let reply = sent(&read, true, Ok(Outcome::Data(data())));
    assert_eq!(
        reply,
        [header(1, [0, 1], 11), offset(512), b"abc".to_vec()].concat()
    );

    let hole = Piece::Hole {
        offset: 512,
        len: 9,
    };
    let piece = Piece::Data {
        offset: 521,
        parts: data(),
    };
    let reply = sent(&read, true, Ok(Outcome::Sparse(vec![hole, piece])));
    let expected = [
        header(0, [0, 2], 12),
        offset(512),
        vec![0, 0, 0, 9],
        header(1, [0, 1], 11),
        offset(521),
        b"abc".to_vec(),
    ];
    assert_eq!(reply, expected.concat());

    let extents = vec![Extent { len: 7, status: 3 }];
    let reply = sent(&read, true, Ok(Outcome::Status(extents)));
    let body = vec![0, 0, 0, 1, 0, 0, 0, 7, 0, 0, 0, 3];
    assert_eq!(reply, [header(1, [0, 5], 12), body].concat());

    let failure = Failure::new(ErrorCode::Io, "no");
    let reply = sent(&read, true, Err(failure));
    let body = vec![0, 0, 0, 5, 0, 2, b'n', b'o'];
    assert_eq!(reply, [header(1, [0x80, 1], 8), body].concat());

    let nothing = request(command::READ, 0, 512, 0);
    let reply = sent(&nothing, true, Ok(Outcome::Data(vec![])));
    assert_eq!(reply, header(1, [0, 0], 0));
}

#[test]
fn replies_without_data_share_a_piece_of_memory() {
    let mut replies = Replies::default();
    let write = request(command::WRITE, 0, 0, 512);
    (0..500).for_each(|_| replies.push(&write, true, Ok(Outcome::Done)));
    let (parts, bytes) = replies.take();
    assert_eq!((parts.len(), bytes), (1, 500 * 16));
    assert_eq!((replies.take().0.len(), replies.bytes()), (0, 0));
}

#[test]
fn fuzz_corpus_of_requests() {
    let target = fuzz::target!("nbd-request");
    let mut all = Vec::new();
    let commands = [
        ("read", command::READ, 512),
        ("write", command::WRITE, 512),
        ("flush", command::FLUSH, 0),
        ("trim", command::TRIM, 4096),
        ("write-zeroes", command::WRITE_ZEROES, 4096),
        ("block-status", command::BLOCK_STATUS, 4096),
        ("disconnect", command::DISC, 0),
    ];
    for (name, command, len) in commands {
        let mut bytes = encoded(&request(command, 0, 0, len));
        if command == command::WRITE {
            bytes.extend([5; 512]);
        }
        let committed = target.sample(name, &bytes);
        assert_eq!(committed, bytes, "{name}");
        all.extend(bytes);
    }
    target.sample("all", &all);
    target.play(|bytes| {
        let (structured, cut) = (bytes.len() % 2 == 0, 1 + bytes.len() % 57);
        let chunks = bytes.chunks(cut).map(<[u8]>::to_vec).collect();
        drive(structured, structured, chunks).expect("it never panics and keeps little");
    });
}

proptest! {
    #[test]
    fn fuzz_arbitrary_requests_never_panic_and_keep_little(
        chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..90), 0..20),
        plausible in prop::collection::vec(
            (0u16..10, any::<u8>(), any::<u64>(), any::<u32>(), 0u8..60),
            0..20,
        ),
        structured in any::<bool>(),
        block_status in any::<bool>(),
    ) {
        let headers = plausible.into_iter().map(|(command, flags, offset, length, shift)| {
            encoded(&request(command, flags.into(), offset >> shift, length >> (shift % 32)))
        });
        drive(structured, block_status, headers.chain(chunks).collect())?;
    }
}

fn drive(structured: bool, block_status: bool, chunks: Vec<Vec<u8>>) -> Result<(), TestCaseError> {
    let negotiated = Negotiated {
        structured,
        block_status,
    };
    let mut session = Session::new(negotiated, Input::default());
    let mut replies = Replies::default();
    for chunk in chunks {
        session.feed(chunk.into());
        for _ in 0..100 {
            match session.next(FACTS, |_| true) {
                Ok(Event::Read | Event::Wait) => break,
                Ok(Event::Disconnect) | Err(_) => return Ok(()),
                Ok(Event::Refuse(request, failure)) => {
                    replies.push(&request, structured, Err(failure));
                }
                Ok(Event::Execute(request, payload)) => {
                    let len: usize = payload.iter().map(Bytes::len).sum();
                    prop_assert!(len <= PAYLOAD_BYTES_MAX as usize);
                    prop_assert!(request.end().unwrap() <= FACTS.size);
                    replies.push(&request, structured, Ok(Outcome::Done));
                }
            }
        }
        prop_assert!(session.buffered() <= PAYLOAD_BYTES_MAX as usize + 128);
    }
    Ok(())
}
