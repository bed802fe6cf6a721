//! What clients may say in a handshake, and what they must not.

use super::*;
use crate::nbd::pdu::Reader;
use proptest::prelude::*;

fn client_flags() -> Vec<u8> {
    vec![0, 0, 0, 3]
}

fn option_bytes(option: u32, data: &[u8]) -> Vec<u8> {
    let mut out = pdu::OPTION_MAGIC.to_be_bytes().to_vec();
    out.extend(option.to_be_bytes());
    out.extend(u32::try_from(data.len()).unwrap().to_be_bytes());
    out.extend(data);
    out
}

fn string_bytes(text: &str) -> Vec<u8> {
    let mut out = u32::try_from(text.len()).unwrap().to_be_bytes().to_vec();
    out.extend(text.as_bytes());
    out
}

fn info_data(name: &str) -> Vec<u8> {
    let mut data = string_bytes(name);
    data.extend([0, 1, 0, 3]);
    data
}

fn context_data(name: &str, queries: &[&str]) -> Vec<u8> {
    let mut data = string_bytes(name);
    data.extend(u32::try_from(queries.len()).unwrap().to_be_bytes());
    queries
        .iter()
        .for_each(|query| data.extend(string_bytes(query)));
    data
}

/// A handshake past the greeting.
fn begun() -> Handshake {
    let mut handshake = Handshake::new();
    handshake.feed(client_flags().into());
    assert_eq!(handshake.next(), Ok(Step::Read));
    assert_eq!(handshake.output().len(), 18);
    handshake
}

/// The replies in the output: option, type and data.
fn replies(handshake: &mut Handshake) -> Vec<(u32, u32, Vec<u8>)> {
    let output = handshake.output();
    let mut reader = Reader(&output);
    let mut replies = Vec::new();
    while !reader.0.is_empty() {
        assert_eq!(reader.u64(), Some(pdu::OPTION_REPLY_MAGIC));
        let (option, reply, len) = (reader.u32(), reader.u32(), reader.u32());
        let data = reader.bytes(len.unwrap() as usize).unwrap().to_vec();
        replies.push((option.unwrap(), reply.unwrap(), data));
    }
    replies
}

fn say(handshake: &mut Handshake, option: u32, data: &[u8]) -> Result<Step, Violation> {
    handshake.feed(option_bytes(option, data).into());
    handshake.next()
}

const FACTS: Facts = Facts {
    size: 1 << 30,
    read_only: false,
};

#[test]
fn go_gives_size_flags_and_block_sizes() {
    let mut handshake = begun();
    assert_eq!(
        say(&mut handshake, option::STRUCTURED_REPLY, b""),
        Ok(Step::Read)
    );
    let contexts = context_data("v", &["base:allocation"]);
    assert_eq!(
        say(&mut handshake, option::SET_META_CONTEXT, &contexts),
        Ok(Step::Read)
    );
    let step = say(&mut handshake, option::GO, &info_data("v"));
    assert_eq!(step, Ok(open("v", Purpose::Go)));
    assert_eq!(handshake.opened(Purpose::Go, Ok(FACTS)), Ok(true));
    let replies = replies(&mut handshake);
    let kinds: Vec<(u32, u32)> = replies.iter().map(|reply| (reply.0, reply.1)).collect();
    let go = option::GO;
    assert_eq!(
        kinds,
        [
            (option::STRUCTURED_REPLY, option_reply::ACK),
            (option::SET_META_CONTEXT, option_reply::META_CONTEXT),
            (option::SET_META_CONTEXT, option_reply::ACK),
            (go, option_reply::INFO),
            (go, option_reply::INFO),
            (go, option_reply::ACK),
        ]
    );
    assert_eq!(
        replies[3].2,
        [0, 0, 0, 0, 0, 0, 64, 0, 0, 0, 0b1101, 0b1110_1101]
    );
    assert_eq!(replies[4].2, [0, 3, 0, 0, 2, 0, 0, 0, 16, 0, 2, 0, 0, 0]);
    let (negotiated, _) = handshake.finish("v");
    assert!(negotiated.structured && negotiated.block_status);
}

#[test]
fn contexts_of_another_export_do_not_count() {
    let mut handshake = begun();
    say(&mut handshake, option::STRUCTURED_REPLY, b"").unwrap();
    say(
        &mut handshake,
        option::SET_META_CONTEXT,
        &context_data("w", &["base:allocation"]),
    )
    .unwrap();
    let (negotiated, _) = handshake.finish("v");
    assert!(negotiated.structured && !negotiated.block_status);
}

#[test]
fn a_failing_selection_of_contexts_undoes_the_one_before() {
    let mut handshake = begun();
    say(&mut handshake, option::STRUCTURED_REPLY, b"").unwrap();
    say(
        &mut handshake,
        option::SET_META_CONTEXT,
        &context_data("v", &["base:allocation"]),
    )
    .unwrap();
    say(&mut handshake, option::SET_META_CONTEXT, b"rubbish").unwrap();
    assert_eq!(
        replies(&mut handshake).last().unwrap().1,
        option_reply::ERR_INVALID
    );
    assert!(!handshake.finish("v").0.block_status);
}

#[test]
fn contexts_need_structured_replies_and_the_wildcard_only_lists() {
    let mut handshake = begun();
    let all = context_data("v", &["base:"]);
    say(&mut handshake, option::LIST_META_CONTEXT, &all).unwrap();
    assert_eq!(replies(&mut handshake)[0].1, option_reply::ERR_INVALID);
    say(&mut handshake, option::STRUCTURED_REPLY, b"").unwrap();
    replies(&mut handshake);
    for data in [&all, &context_data("v", &[])] {
        say(&mut handshake, option::LIST_META_CONTEXT, data).unwrap();
        assert_eq!(replies(&mut handshake)[0].2, b"\0\0\0\0base:allocation");
    }
    say(&mut handshake, option::SET_META_CONTEXT, &all).unwrap();
    let set = replies(&mut handshake);
    assert_eq!((set.len(), set[0].1), (1, option_reply::ACK));
}

#[test]
fn export_name_is_answered_without_a_header() {
    for (flags, len) in [(3u8, 10), (1, 134)] {
        let mut handshake = Handshake::new();
        handshake.output();
        handshake.feed(vec![0, 0, 0, flags].into());
        let step = say(&mut handshake, option::EXPORT_NAME, b"v");
        assert_eq!(step, Ok(open("v", Purpose::ExportName)));
        assert_eq!(handshake.opened(Purpose::ExportName, Ok(FACTS)), Ok(true));
        assert_eq!(handshake.output().len(), len);
    }
    let mut handshake = begun();
    say(&mut handshake, option::EXPORT_NAME, b"v").unwrap();
    let result = handshake.opened(Purpose::ExportName, Err(OpenError::Unknown));
    assert!(matches!(result, Err(Violation::ExportName(_))));
}

#[test]
fn lists_name_and_describe_exports() {
    let mut handshake = begun();
    assert_eq!(say(&mut handshake, option::LIST, b""), Ok(Step::List));
    let export = |name: &str| ExportName {
        name: name.to_owned(),
        description: "text".to_owned(),
    };
    handshake.listed(Ok(vec![export("a"), export(&"x".repeat(5000))]));
    let list = replies(&mut handshake);
    assert_eq!(list.len(), 2, "a name that is too long is left out");
    assert_eq!(list[0].2, b"\0\0\0\x01atext");
    say(&mut handshake, option::LIST, b"").unwrap();
    handshake.listed(Err("no quorum".to_owned()));
    assert_eq!(
        replies(&mut handshake),
        [(
            option::LIST,
            option_reply::ERR_POLICY,
            b"no quorum".to_vec()
        )]
    );
}

#[test]
fn exports_that_cannot_be_opened_are_explained() {
    let cases = [
        (OpenError::Unknown, option_reply::ERR_UNKNOWN),
        (OpenError::Busy("node-3".into()), option_reply::ERR_POLICY),
        (
            OpenError::Refused("fenced".into()),
            option_reply::ERR_POLICY,
        ),
    ];
    for (error, expected) in cases {
        let mut handshake = begun();
        say(&mut handshake, option::INFO, &info_data("v")).unwrap();
        assert_eq!(
            handshake.opened(Purpose::Info, Err(error.clone())),
            Ok(false)
        );
        let text = error.to_string().into_bytes();
        assert_eq!(replies(&mut handshake), [(option::INFO, expected, text)]);
        assert_eq!(handshake.next(), Ok(Step::Read));
    }
}

#[test]
fn options_that_are_malformed_or_unknown_are_refused_and_the_next_one_is_understood() {
    let mut long = info_data("v");
    long[3] = 200;
    let cases: [(u32, &[u8], u32); 8] = [
        (5, b"", option_reply::ERR_UNSUP),
        (11, b"", option_reply::ERR_UNSUP),
        (77, &[1; 5000], option_reply::ERR_UNSUP),
        (option::LIST, b"x", option_reply::ERR_INVALID),
        (option::STRUCTURED_REPLY, b"x", option_reply::ERR_INVALID),
        (option::GO, &long, option_reply::ERR_INVALID),
        (
            option::INFO,
            b"\0\0\0\x01\xff\0\0",
            option_reply::ERR_INVALID,
        ),
        (option::GO, &[0; 70_000], option_reply::ERR_TOO_BIG),
    ];
    let mut handshake = begun();
    for (option, data, expected) in cases {
        assert_eq!(say(&mut handshake, option, data), Ok(Step::Read));
        let replies = replies(&mut handshake);
        assert_eq!(
            (replies.len(), replies[0].0, replies[0].1),
            (1, option, expected)
        );
    }
    assert_eq!(
        say(&mut handshake, option::ABORT, b"ignored"),
        Ok(Step::Abort)
    );
    assert_eq!(replies(&mut handshake)[0].1, option_reply::ACK);
}

#[test]
fn what_cannot_be_answered_ends_the_handshake() {
    let mut handshake = Handshake::new();
    handshake.feed(vec![0, 0, 0, 4].into());
    assert_eq!(handshake.next(), Err(Violation::ClientFlags(4)));

    let mut handshake = begun();
    handshake.feed(vec![b'x'; 16].into());
    assert_eq!(handshake.next(), Err(Violation::Magic("option")));

    let mut handshake = begun();
    let mut header = option_bytes(99, b"");
    header[12..].copy_from_slice(&u32::MAX.to_be_bytes());
    handshake.feed(header.into());
    assert_eq!(handshake.next(), Err(Violation::TooMuchSkipped));

    let mut handshake = begun();
    for _ in 0..OPTIONS_MAX {
        assert_eq!(say(&mut handshake, 99, b""), Ok(Step::Read));
    }
    assert_eq!(say(&mut handshake, 99, b""), Err(Violation::TooManyOptions));
}

#[test]
fn bytes_beyond_the_handshake_are_kept_for_transmission() {
    let mut handshake = begun();
    let mut bytes = option_bytes(option::GO, &info_data("v"));
    bytes.extend(b"request");
    handshake.feed(bytes.into());
    handshake.next().unwrap();
    handshake.opened(Purpose::Go, Ok(FACTS)).unwrap();
    assert_eq!(handshake.finish("v").1.len(), 7);
}

/// What a client sends, from its flags on; in pieces of a length that the last byte says.
#[test]
fn fuzz_corpus_of_handshakes() {
    let target = fuzz::target!("nbd-handshake");
    let options: [(&str, u32, Vec<u8>); 6] = [
        ("go", option::GO, info_data("v")),
        ("info", option::INFO, info_data("vv")),
        ("list", option::LIST, Vec::new()),
        ("structured", option::STRUCTURED_REPLY, Vec::new()),
        ("abort", option::ABORT, Vec::new()),
        ("unknown", 99, vec![7; 30]),
    ];
    let mut all = client_flags();
    for (name, option, data) in options {
        let bytes = option_bytes(option, &data);
        target.sample(name, &[client_flags(), bytes.clone()].concat());
        if option != option::GO {
            all.extend(bytes);
        }
    }
    target.sample("all", &all);
    let mut lie = [client_flags(), option_bytes(99, b"")].concat();
    let end = lie.len();
    lie[end - 4..].copy_from_slice(&u32::MAX.to_be_bytes());
    target.sample("lie", &lie);
    target.play(|bytes| {
        let cut = bytes.last().map_or(1, |last| 1 + usize::from(*last) % 40);
        let chunks = bytes.chunks(cut).map(<[u8]>::to_vec).collect();
        drive(false, chunks).expect("it never panics and keeps little");
    });
}

proptest! {
    #[test]
    fn fuzz_handshakes_of_arbitrary_bytes_never_panic_and_keep_little(
        flags in any::<bool>(),
        chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 0..20),
    ) {
        drive(flags, chunks)?;
    }

    #[test]
    fn fuzz_handshakes_of_plausible_options_never_panic_and_keep_little(
        options in prop::collection::vec((0u32..12, 0usize..40, any::<u32>(), any::<[u8; 40]>()), 0..20),
        lie in 0usize..40,
        cut in 1usize..50,
    ) {
        let mut bytes = client_flags();
        for (index, (option, len, number, data)) in options.iter().enumerate() {
            let mut data = data.to_vec();
            // Small lengths are more interesting than random ones.
            data[..4].copy_from_slice(&(number % 48).to_be_bytes());
            let mut encoded = option_bytes(*option, &data[..*len]);
            if index == lie {
                encoded[12..16].copy_from_slice(&number.to_be_bytes());
            }
            bytes.extend(encoded);
        }
        drive(false, bytes.chunks(cut).map(<[u8]>::to_vec).collect())?;
    }
}

fn drive(flags: bool, chunks: Vec<Vec<u8>>) -> Result<(), TestCaseError> {
    let mut handshake = Handshake::new();
    if flags {
        handshake.feed(client_flags().into());
    }
    for chunk in chunks {
        handshake.feed(chunk.into());
        loop {
            match handshake.next() {
                Ok(Step::Read) => break,
                Ok(Step::List) => handshake.listed(Ok(vec![])),
                Ok(Step::Abort) | Err(_) => return Ok(()),
                Ok(Step::Open { purpose, name }) => {
                    let result = match name.len() % 2 {
                        0 => Ok(FACTS),
                        _ => Err(OpenError::Unknown),
                    };
                    if handshake.opened(purpose, result) != Ok(false) {
                        return Ok(());
                    }
                }
            }
        }
        prop_assert!(handshake.input.len() <= OPTION_DATA_BYTES_MAX as usize + 64);
        prop_assert!(handshake.output().len() <= 64 << 10);
    }
    Ok(())
}
