use super::*;
use fuzz::{Random, target};
use proptest::prelude::*;
use vocab::{Epoch, GroupId, VolumeId};

fn id() -> ExtentId {
    ExtentId {
        group: GroupId(3),
        volume: VolumeId(9),
        epoch: Epoch(2),
        counter: 77,
    }
}

fn random_block(seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..BLOCK_SIZE / 8).flat_map(|_| next()).collect()
}

fn text_block(seed: u64) -> Vec<u8> {
    format!("line {seed} of a very repetitive text\n")
        .bytes()
        .cycle()
        .take(BLOCK_SIZE)
        .collect()
}

/// Frames: 0 raw of 4, 1 compressed of 4, 2 raw of 1.
fn sample() -> (Bytes, Vec<Vec<u8>>) {
    let blocks: Vec<Vec<u8>> = (0..4)
        .map(random_block)
        .chain((4..8).map(text_block))
        .chain([random_block(8)])
        .collect();
    let mut builder = Builder::new(id(), ExtentKind::Data);
    for (index, frame) in blocks.chunks(FRAME_BLOCKS).enumerate() {
        let views: Vec<&[u8]> = frame.iter().map(|block| &block[..]).collect();
        assert_eq!(builder.push_blocks(&views, true), Some(index as u16));
    }
    (builder.seal(), blocks)
}

fn read(sealed: &Bytes, slot: usize) -> Result<Bytes, Damage> {
    let header = Header::parse(sealed)?;
    let (frame, block) = ((slot / FRAME_BLOCKS) as u16, slot % FRAME_BLOCKS);
    let descriptor = header.descriptor(frame)?;
    let range = descriptor
        .range(block, 1)
        .ok_or(Damage::NoFrame { frame })?;
    descriptor.decode(id(), frame, block, 1, &sealed.slice(range))
}

/// Extents that are small once the zeros at their end are left out: the padding of frames to pages.
fn small_extents() -> Vec<(&'static str, Bytes)> {
    let text = text_block(1);
    let mut data = Builder::new(id(), ExtentKind::Data);
    for blocks in [1, 2, 4] {
        data.push_blocks(&vec![&text[..]; blocks], true)
            .expect("room");
    }
    let data = data.seal();
    let mut map = Builder::new(id(), ExtentKind::Map);
    for size in 1..=9_usize {
        map.push_page(&vec![size as u8; size * 20]).expect("room");
    }
    let mut raw = Builder::new(id(), ExtentKind::Data);
    let mut block = vec![0; BLOCK_SIZE];
    block[..3].fill(7);
    raw.push_blocks(&[&block], false).expect("room");
    let compacted = compact(&data, &[0b0010_0001, 0b11], 1).expect("sound");
    vec![
        ("data", data),
        ("map", map.seal()),
        ("raw", raw.seal()),
        ("compacted", compacted),
    ]
}

/// An extent from the corpus.
fn padded(bytes: &[u8]) -> Bytes {
    let mut bytes = bytes.to_vec();
    bytes.resize(bytes.len().next_multiple_of(PAGE), 0);
    bytes.into()
}

fn short(bytes: &Bytes) -> &[u8] {
    let used = bytes.iter().rposition(|byte| *byte != 0).expect("a magic");
    &bytes[..used + 1]
}

/// Sets the checksum of a header.
fn sealed_again(mut bytes: Vec<u8>) -> Vec<u8> {
    let frames = bytes
        .get(36..40)
        .map(|count| count.try_into().expect("4 bytes"));
    let frames = u32::from_le_bytes(frames.unwrap_or_default()) as usize;
    if frames * Descriptor::BYTES + FIXED_BYTES <= bytes.len() {
        let crc = header_crc(&bytes, frames);
        bytes[60..64].copy_from_slice(&crc.to_le_bytes());
    }
    bytes
}

#[test]
fn fuzz_corpus_of_extents() {
    let target = target!("extent");
    for (name, extent) in small_extents() {
        let committed = padded(&target.sample(name, short(&extent)));
        assert_eq!(committed, extent, "{name}");
        let header = verify(&committed).expect("sound");
        assert_eq!(
            (header.id(), header.form()),
            (id(), u32::from(name == "compacted"))
        );
    }
    let (_, data) = small_extents().remove(0);
    let cut = padded(&target.sample("cut", &data[..FIXED_BYTES + 3 * Descriptor::BYTES]));
    assert!(Header::parse(&cut).is_ok() && verify(&cut).is_err());
    let decode = |bytes: &[u8]| {
        let bytes = padded(bytes);
        if let Ok(needed) = Header::bytes_needed(&bytes) {
            assert!(needed <= 4 << 20, "a header of {needed} bytes");
        }
        let Ok(header) = Header::parse(&bytes) else {
            return;
        };
        for frame in 0..header.frames() as u16 {
            let descriptor = header.descriptor(frame);
            let range = descriptor
                .as_ref()
                .ok()
                .and_then(|descriptor| descriptor.range(0, 4));
            if let (Ok(descriptor), Some(range)) = (descriptor, range)
                && range.end <= bytes.len()
            {
                let stored = bytes.slice(range);
                let verified = descriptor.verify(header.id(), frame, 0, 4, &stored);
                let decoded = descriptor.decode(header.id(), frame, 0, 4, &stored);
                assert!(
                    verified.is_ok() || decoded.is_err(),
                    "what decodes verifies"
                );
            }
        }
        let live = Random::new(bytes.len() as u64).number().to_le_bytes();
        if verify(&bytes).is_ok()
            && let Ok(compacted) = compact(&bytes, &live, header.form().saturating_add(1))
        {
            assert!(compacted.len() <= bytes.len());
            assert!(
                verify(&compacted).is_ok(),
                "compaction of a sound extent is sound"
            );
        }
        let _ = compact(&bytes, &live, 1);
    };
    target.play_changed(decode, sealed_again);
}

#[test]
fn fuzz_corpus_of_descriptors() {
    let target = target!("descriptor");
    for (name, extent) in small_extents() {
        let header = Header::parse(&extent).expect("sound");
        for frame in 0..header.frames().min(3) as u16 {
            let Ok(descriptor) = header.descriptor(frame) else {
                continue;
            };
            let committed = target.sample(&format!("{name}-{frame}"), &descriptor.to_bytes());
            assert_eq!(
                Descriptor::from_bytes(&committed),
                Ok(*descriptor),
                "{name}"
            );
        }
    }
    let (_, data) = small_extents().remove(0);
    target.play(|bytes| {
        if let Ok(descriptor) = Descriptor::from_bytes(bytes) {
            assert_eq!(
                Descriptor::from_bytes(&descriptor.to_bytes()),
                Ok(descriptor)
            );
            for (first, count) in [(0, 1), (0, 4), (3, 1), (2, 7), (usize::MAX, 1)] {
                let _ = descriptor.range(first, count);
                let _ = descriptor.decode(id(), 0, first, count, &data);
            }
        }
    });
}

#[test]
fn every_block_reads_back() {
    let (sealed, blocks) = sample();
    let header = verify(&sealed).expect("sound");
    assert_eq!((header.id(), header.form(), header.frames()), (id(), 0, 3));
    assert!(Buf::is_aligned(&sealed));
    assert!(header.descriptor(0).expect("there").is_raw());
    assert!(!header.descriptor(1).expect("there").is_raw());
    for (slot, block) in blocks.iter().enumerate() {
        assert_eq!(read(&sealed, slot).expect("good"), block[..], "slot {slot}");
    }
}

#[test]
fn a_flipped_bit_in_any_page_is_found() {
    let (sealed, _) = sample();
    for at in (0..sealed.len()).step_by(509) {
        let mut bytes = sealed.to_vec();
        bytes[at] ^= 4;
        assert!(verify(&Bytes::from(bytes)).is_err(), "byte {at}");
    }
}

#[test]
fn compaction_drops_dead_blocks_and_keeps_the_others_readable() {
    let (sealed, blocks) = sample();
    // Blocks 1 and 3 of frame 0 and one of the compressed frame are live; frame 2 is dead.
    let live = [0b0010_1010_u8, 0];
    let compacted = compact(&sealed, &live, 1).expect("sound");
    let header = verify(&compacted).expect("sound");
    assert_eq!(header.form(), 1);
    assert!(compacted.len() < sealed.len());
    for slot in [1, 3, 4, 5, 6, 7] {
        assert_eq!(
            read(&compacted, slot).expect("kept"),
            blocks[slot][..],
            "slot {slot}"
        );
    }
    assert_eq!(read(&compacted, 0), Err(Damage::NoFrame { frame: 0 }));
    assert_eq!(read(&compacted, 8), Err(Damage::Dropped { frame: 2 }));
    let again = compact(&compacted, &[0b1000, 0], 2).expect("sound");
    assert_eq!(read(&again, 3).expect("kept"), blocks[3][..]);
}

#[test]
fn an_extent_takes_255_full_frames() {
    let mut builder = Builder::with_room(id(), ExtentKind::Data, 255 * 4 * BLOCK_SIZE);
    let blocks: Vec<Vec<u8>> = (0..4).map(random_block).collect();
    let views: Vec<&[u8]> = blocks.iter().map(|block| &block[..]).collect();
    for _ in 0..255 {
        assert!(builder.push_blocks(&views, false).is_some());
    }
    assert_eq!(builder.push_blocks(&views, false), None);
    assert!(verify(&builder.seal()).is_ok());
}

#[test]
fn pages_read_back_and_many_small_ones_fit() {
    let mut builder = Builder::new(id(), ExtentKind::Map);
    for size in 1..=600_usize {
        assert!(builder.push_page(&vec![size as u8; size]).is_some());
    }
    let sealed = builder.seal();
    let header = verify(&sealed).expect("sound");
    let descriptor = header.descriptor(499).expect("there");
    let range = descriptor.range(0, 1).expect("there");
    let page = descriptor
        .decode(id(), 499, 0, 1, &sealed.slice(range))
        .expect("good");
    assert_eq!(page, vec![500_usize as u8; 500]);
}

#[test]
fn another_extents_bytes_do_not_validate() {
    let (sealed, _) = sample();
    let header = Header::parse(&sealed).expect("sound");
    let descriptor = header.descriptor(0).expect("there");
    let stored = sealed.slice(descriptor.range(0, 1).expect("there"));
    let other = ExtentId {
        counter: 78,
        ..id()
    };
    assert_eq!(
        descriptor.decode(other, 0, 0, 1, &stored),
        Err(Damage::Checksum("a block"))
    );
    assert_eq!(
        descriptor.decode(id(), 1, 0, 1, &stored),
        Err(Damage::Checksum("a block"))
    );
}

#[test]
fn a_version_from_the_future_is_named() {
    let (sealed, _) = sample();
    let mut bytes = sealed.to_vec();
    bytes[4] = 9;
    assert_eq!(Header::parse(&bytes), Err(Damage::Version(9)));
}

proptest! {
    #[test]
    fn fuzz_arbitrary_bytes_never_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..9000), magic: bool) {
        if magic && bytes.len() > 64 {
            bytes[..6].copy_from_slice(b"AZX1\x01\0");
            let frames = u32::from(bytes[36]) % 200 + 1;
            bytes[36..40].copy_from_slice(&frames.to_le_bytes());
            let need = FIXED_BYTES + frames as usize * Descriptor::BYTES;
            if bytes.len() >= need {
                let crc = header_crc(&bytes, frames as usize);
                bytes[60..64].copy_from_slice(&crc.to_le_bytes());
            }
        }
        let bytes = Bytes::from(bytes);
        let _ = verify(&bytes);
        let _ = compact(&bytes, &[1, 2, 3], 1);
        for chunk in bytes.chunks(Descriptor::BYTES) {
            if let Ok(descriptor) = Descriptor::from_bytes(chunk) {
                for first in 0..5 {
                    let _ = descriptor.range(first, 2);
                    let _ = descriptor.decode(id(), 0, first, 2, &bytes);
                }
            }
        }
    }

    #[test]
    fn fuzz_flipped_bits_are_found_or_harmless(at in 0_usize..40_000, bit in 0_u8..8) {
        let (sealed, blocks) = sample();
        let mut bytes = sealed.to_vec();
        let at = at % bytes.len();
        bytes[at] ^= 1 << bit;
        let damaged = Bytes::from(bytes);
        for (slot, block) in blocks.iter().enumerate() {
            if let Ok(read) = read(&damaged, slot) {
                prop_assert_eq!(&read[..], &block[..]);
            }
        }
    }
}

#[test]
fn numbers_whose_low_bytes_are_random_are_compressed() {
    let mut state = 1u64;
    let numbers = (0..BLOCK_SIZE / 8).flat_map(|_| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 44).to_le_bytes()
    });
    let block: Vec<u8> = numbers.collect();
    let mut builder = Builder::new(id(), ExtentKind::Data);
    assert_eq!(builder.push_blocks(&[&block], true), Some(0));
    let sealed = builder.seal();
    let header = Header::parse(&sealed).expect("good");
    let stored = header.descriptor(0).expect("a frame").stored_bytes();
    assert!(stored < BLOCK_SIZE * 3 / 4, "{stored} bytes");
    assert_eq!(read(&sealed, 0).expect("good"), block);
}

#[test]
fn data_that_can_be_compressed_is_found_behind_much_that_cannot() {
    // Sorted numbers: not random enough to be told by a glance, and LZ4 finds nothing in them.
    let numbers =
        |first: u32| (0..1024).flat_map(move |index| (first + index * 7919).to_le_bytes());
    let mut builder = Builder::new(id(), ExtentKind::Data);
    for frame in 0..64 {
        let block: Vec<u8> = numbers(frame << 20).collect();
        builder.push_blocks(&[&block], true).expect("room");
    }
    for frame in 0..64 {
        builder
            .push_blocks(&[&text_block(frame)], true)
            .expect("room");
    }
    let sealed = builder.seal();
    let header = Header::parse(&sealed).expect("good");
    let stored = |frame| header.descriptor(frame).expect("a frame").stored_bytes();
    assert!((0..64).all(|frame| stored(frame) == BLOCK_SIZE));
    let raw = (64..128)
        .filter(|&frame| stored(frame) == BLOCK_SIZE)
        .count();
    assert!(raw < 8, "{raw} frames were not tried");
}
