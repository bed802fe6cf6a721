//! The state's encoding, and what its decoder makes of other bytes.

use super::*;
use fuzz::target;
use proptest::prelude::*;
use vocab::Lba;
use wire::RecordKind;

fn head(position: u64, previous_crc: u32) -> RecordHead {
    let mut head = RecordHead {
        crc: 0,
        previous_crc,
        volume: VolumeId(5),
        epoch: Epoch(2),
        position: Position(position),
        segment: SegmentId(3),
        kind: RecordKind::Unmap,
        lba: Lba(9),
        blocks: 8,
        data_bytes: 0,
        committed: Position(position - 1),
        flushed: Position(position - 1),
    };
    head.seal(&[]);
    head
}

fn extent(counter: u32) -> ExtentId {
    ExtentId {
        group: GroupId(1),
        volume: VolumeId(5),
        epoch: Epoch(2),
        counter,
    }
}

/// A redo entry of every kind, with the name of its kind.
fn redo_entries() -> [(&'static str, Meta); 11] {
    let note = Note {
        key: "volume/7".to_owned(),
        version: NoteVersion { term: 1, number: 2 },
        value: Some("{}".to_owned()),
    };
    let kept = Extent {
        form: 1,
        disk: 0,
        granule: 4,
        bytes: 65536,
        missing: vec![StoreId(2)],
    };
    [
        ("promise", Meta::Promise(VolumeId(6), Epoch(4))),
        ("trim", Meta::Trim(VolumeId(5), Position(22))),
        ("drop", Meta::Drop(VolumeId(5), Epoch(9))),
        ("group", Meta::Group(GroupId(1), Generation(3))),
        ("keep", Meta::Keep(extent(1), kept.clone(), true)),
        ("delete", Meta::Delete(vec![extent(2), extent(3)])),
        ("forget", Meta::Forget(vec![extent(2)])),
        ("found", Meta::Found(StoreId(2), vec![extent(1)])),
        ("leave", Meta::Leave(GroupId(1))),
        ("note", Meta::Note(note)),
        ("mend", Meta::Mend(extent(1), kept)),
    ]
}

#[test]
fn fuzz_corpus_of_redo_entries() {
    let target = target!("redo-entry");
    for (index, (name, meta)) in redo_entries().into_iter().enumerate() {
        let encoded = postcard::to_allocvec(&meta).expect("plain data");
        assert_eq!(
            encoded[0] as usize, index,
            "every kind, in the order of their numbers"
        );
        let committed = target.sample(name, &encoded);
        let decoded = Meta::decode(&committed).expect("a redo entry");
        assert_eq!(format!("{decoded:?}"), format!("{meta:?}"), "{name}");
    }
    target.play(|bytes| {
        if let Some(meta) = Meta::decode(bytes) {
            let mut state = sample();
            state.apply(&meta);
            let once = state.clone();
            state.apply(&meta);
            assert_eq!(state, once, "a redo entry may be applied twice");
            assert_eq!(State::decode(&state.encode()), Some(once));
            use_up(state);
        }
    });
}

#[test]
fn fuzz_corpus_of_states() {
    let target = target!("state");
    for (name, state) in [("empty", State::default()), ("all-parts", sample())] {
        let committed = target.sample(name, &state.encode());
        assert_eq!(State::decode(&committed), Some(state), "{name}");
    }
    let whole = sample().encode();
    let cut = target.sample("cut", &whole[..whole.len() - 1]);
    assert_eq!(State::decode(&cut), None);
    target.play(|bytes| {
        if let Some(state) = State::decode(bytes) {
            assert_eq!(State::decode(&state.encode()).as_ref(), Some(&state));
            use_up(state);
        }
    });
}

/// A state with something in each of its parts.
fn sample() -> State {
    let mut state = State {
        incarnation: Incarnation(7),
        session: 11,
        replay_batch: 13,
        replay_at: 17,
        ..State::default()
    };
    let mut crc = 0;
    for position in 20..26 {
        let head = head(position, crc);
        crc = head.crc;
        let place = Place::At {
            page: position,
            offset: 0,
        };
        let slot = Slot {
            head,
            place,
            damaged: position == 24,
        };
        state.replay_record(slot, false);
    }
    state.apply(&Meta::Note(Note {
        key: "volume/7".to_owned(),
        version: NoteVersion { term: 1, number: 2 },
        value: Some("{}".to_owned()),
    }));
    let kept = Extent {
        form: 1,
        disk: 0,
        granule: 4,
        bytes: 65536,
        missing: vec![StoreId(2)],
    };
    for meta in [
        Meta::Promise(VolumeId(6), Epoch(4)),
        Meta::Group(GroupId(1), Generation(3)),
        Meta::Keep(extent(1), kept.clone(), false),
        Meta::Keep(extent(2), kept, false),
        Meta::Delete(vec![extent(2)]),
    ] {
        state.apply(&meta);
    }
    state
}

#[test]
fn a_state_survives_its_encoding() {
    assert_eq!(State::decode(&sample().encode()), Some(sample()));
}

/// Walks everything a store derives from a state when it opens.
fn use_up(mut state: State) {
    for log in state.logs.values_mut() {
        let through = log.segments.values().map(Segment::last_good).max();
        for segment in log.segments.values() {
            assert!(segment.next() >= segment.first);
        }
        log.trim(through.unwrap_or_default());
    }
    let mut space = crate::space::Space::new(&[64, 8]);
    state.extents.retain(|_, extent| space.occupy(extent.run()));
    for extent in state.extents.values() {
        space.release(extent.run());
    }
    assert_eq!(space.free(), 72, "occupied and released runs are the same");
    let _ = state.oldest_page();
}

#[test]
fn a_state_with_positions_at_the_end_of_u64_is_refused() {
    let mut state = sample();
    let log = state.logs.get_mut(&VolumeId(5)).expect("in the sample");
    let segment = log.segments.get_mut(&SegmentId(3)).expect("there");
    segment.slots.clear();
    segment.first = Position(u64::MAX);
    assert_eq!(State::decode(&state.encode()), None);
}

proptest! {
    #[test]
    fn fuzz_any_bytes_are_a_state_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        if let Some(state) = State::decode(&bytes) {
            use_up(state);
        }
    }

    #[test]
    fn fuzz_changed_bytes_of_a_state_are_a_state_or_none(
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<proptest::sample::Index>(),
        shorter: bool,
    ) {
        let mut bytes = sample().encode();
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if shorter {
            bytes.truncate(cut.index(bytes.len()));
        }
        if let Some(state) = State::decode(&bytes) {
            use_up(state);
        }
    }

    #[test]
    fn fuzz_any_bytes_are_a_redo_entry_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..200), tag in 0_u8..9) {
        for bytes in [bytes.clone(), [vec![tag], bytes].concat()] {
            if let Some(meta) = Meta::decode(&bytes) {
                let mut state = sample();
                state.apply(&meta);
                state.apply(&meta);
                use_up(state);
            }
        }
    }
}
