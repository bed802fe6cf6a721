//! A block: the chunks of all entities over one stretch of time, as a file.
//!
//! ```text
//!  0  8  magic "AZKHIST\n"
//!  8  2  version: 1
//! 10  1  tier: 0 fine, 1 coarse
//! 11  1  0
//! 12  8  start, Unix seconds
//! 20  4  entries
//! 24  4  CRC32C of bytes 0..24 and the index
//! 28     index: entries of 21 bytes, by kind and id
//!          0  1  kind: 0 node, 1 store, 2 volume
//!          1  8  id
//!          9  4  offset of its chunk in the block
//!         13  4  length
//!         17  4  CRC32C of the chunk
//!        chunks
//! ```

use std::fmt;

const MAGIC: &[u8; 8] = b"AZKHIST\n";
const VERSION: u16 = 1;
/// Bytes before the index.
pub(crate) const HEAD_BYTES: usize = 28;
const ENTRY_BYTES: usize = 21;
/// Entities of a block: more than a node can own.
pub(crate) const ENTRIES_MAX: usize = 1 << 17;

/// Why bytes are not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Damaged {
    /// They end too early.
    #[error("it is cut off")]
    Short,
    /// Something in them makes no sense.
    #[error("{0} in it makes no sense")]
    Odd(&'static str),
    /// A checksum is wrong.
    #[error("its checksum is wrong")]
    Checksum,
    /// A newer release wrote it.
    #[error("it has format {0}, which a newer release writes")]
    Newer(u16),
}

/// How fine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tier {
    /// Steps of 15 s in blocks of an hour.
    Fine,
    /// Steps of 30 min in blocks of a day.
    Coarse,
}

impl Tier {
    /// Seconds of a step.
    #[must_use]
    pub const fn step(self) -> u64 {
        match self {
            Self::Fine => 15,
            Self::Coarse => 1800,
        }
    }

    /// Seconds of a block.
    #[must_use]
    pub const fn block(self) -> u64 {
        match self {
            Self::Fine => 3600,
            Self::Coarse => 86_400,
        }
    }

    /// Steps of a block.
    #[must_use]
    pub const fn steps(self) -> u32 {
        (self.block() / self.step()) as u32
    }
}

// A coarse step lies in one fine block, and both kinds of steps fill their blocks.
const _: () = assert!(Tier::Fine.block().is_multiple_of(Tier::Coarse.step()));
const _: () = assert!(Tier::Fine.block().is_multiple_of(Tier::Fine.step()));
const _: () = assert!(Tier::Coarse.block().is_multiple_of(Tier::Coarse.step()));
const _: () = assert!(Tier::Coarse.step().is_multiple_of(Tier::Fine.step()));

/// A block of one tier that begins at some time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name {
    /// How fine.
    pub tier: Tier,
    /// Unix seconds, a multiple of the tier's block.
    pub start: u64,
}

impl Name {
    /// The block that a moment lies in.
    #[must_use]
    pub fn at(tier: Tier, seconds: u64) -> Self {
        let start = seconds / tier.block() * tier.block();
        Self { tier, start }
    }

    /// Unix seconds at which it ends.
    #[must_use]
    pub fn end(self) -> u64 {
        self.start + self.tier.block()
    }

    /// The name that a text is, such as `fine-1764198000`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (tier, start) = text.split_once('-')?;
        let tier = match tier {
            "fine" => Tier::Fine,
            "coarse" => Tier::Coarse,
            _ => return None,
        };
        let name = Self::at(tier, start.parse().ok()?);
        (name.to_string() == text).then_some(name)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tier = match self.tier {
            Tier::Fine => "fine",
            Tier::Coarse => "coarse",
        };
        write!(f, "{tier}-{}", self.start)
    }
}

/// What figures are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Entity {
    /// A node: its process, and all volumes that it owns together.
    Node(u64),
    /// A store.
    Store(u64),
    /// A volume.
    Volume(u64),
}

impl Entity {
    fn parts(self) -> (u8, u64) {
        match self {
            Self::Node(id) => (0, id),
            Self::Store(id) => (1, id),
            Self::Volume(id) => (2, id),
        }
    }

    fn of(kind: u8, id: u64) -> Option<Self> {
        match kind {
            0 => Some(Self::Node(id)),
            1 => Some(Self::Store(id)),
            2 => Some(Self::Volume(id)),
            _ => None,
        }
    }
}

/// Where a chunk lies in its block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) entity: Entity,
    pub(crate) offset: u32,
    pub(crate) len: u32,
    crc: u32,
}

impl Place {
    /// Whether these are the bytes that were put there.
    pub(crate) fn verify(&self, chunk: &[u8]) -> Result<(), Damaged> {
        match chunk.len() == self.len as usize && crc32c::crc32c(chunk) == self.crc {
            true => Ok(()),
            false => Err(Damaged::Checksum),
        }
    }
}

/// A block of these chunks, which are in order.
pub(crate) fn encode<'a>(
    name: Name,
    chunks: impl ExactSizeIterator<Item = (Entity, Vec<u8>)> + 'a,
) -> Vec<u8> {
    let mut head = Vec::with_capacity(HEAD_BYTES);
    head.extend(MAGIC);
    head.extend(VERSION.to_le_bytes());
    head.extend([name.tier as u8, 0]);
    head.extend(name.start.to_le_bytes());
    head.extend((chunks.len() as u32).to_le_bytes());
    let begin = HEAD_BYTES + chunks.len() * ENTRY_BYTES;
    let (mut index, mut body) = (Vec::new(), Vec::new());
    for (entity, chunk) in chunks {
        let (kind, id) = entity.parts();
        index.push(kind);
        index.extend(id.to_le_bytes());
        index.extend(((begin + body.len()) as u32).to_le_bytes());
        index.extend((chunk.len() as u32).to_le_bytes());
        index.extend(crc32c::crc32c(&chunk).to_le_bytes());
        body.extend(chunk);
    }
    let crc = crc32c::crc32c_append(crc32c::crc32c(&head), &index);
    head.extend(crc.to_le_bytes());
    assert_eq!(head.len(), HEAD_BYTES, "as the table says");
    [head, index, body].concat()
}

fn number<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().expect("N bytes are N bytes")
}

/// Bytes of the head and the index, by the head.
pub(crate) fn index_end(name: Name, head: &[u8]) -> Result<usize, Damaged> {
    if head.len() < HEAD_BYTES {
        return Err(Damaged::Short);
    }
    if &head[..8] != MAGIC {
        return Err(Damaged::Odd("the beginning"));
    }
    let version = u16::from_le_bytes(number(head, 8));
    if version > VERSION {
        return Err(Damaged::Newer(version));
    }
    let start = u64::from_le_bytes(number(head, 12));
    if version == 0 || head[10] != name.tier as u8 || start != name.start {
        return Err(Damaged::Odd("its name"));
    }
    let entries = u32::from_le_bytes(number(head, 20)) as usize;
    if entries > ENTRIES_MAX {
        return Err(Damaged::Odd("the number of entries"));
    }
    Ok(HEAD_BYTES + entries * ENTRY_BYTES)
}

/// The index of a block, from its first bytes up to [`index_end`].
pub(crate) fn index(name: Name, bytes: &[u8]) -> Result<Vec<Place>, Damaged> {
    let end = index_end(name, bytes)?;
    let bytes = bytes.get(..end).ok_or(Damaged::Short)?;
    let index = &bytes[HEAD_BYTES..];
    let crc = crc32c::crc32c_append(crc32c::crc32c(&bytes[..HEAD_BYTES - 4]), index);
    if u32::from_le_bytes(number(bytes, HEAD_BYTES - 4)) != crc {
        return Err(Damaged::Checksum);
    }
    let place = |entry: &[u8]| {
        let id = u64::from_le_bytes(number(entry, 1));
        Ok(Place {
            entity: Entity::of(entry[0], id).ok_or(Damaged::Odd("a kind"))?,
            offset: u32::from_le_bytes(number(entry, 9)),
            len: u32::from_le_bytes(number(entry, 13)),
            crc: u32::from_le_bytes(number(entry, 17)),
        })
    };
    let places: Result<Vec<Place>, Damaged> = index.chunks_exact(ENTRY_BYTES).map(place).collect();
    let places = places?;
    match places
        .windows(2)
        .all(|pair| pair[0].entity < pair[1].entity)
    {
        true => Ok(places),
        false => Err(Damaged::Odd("the order")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fuzz::target;
    use proptest::prelude::*;

    const NAME: Name = Name {
        tier: Tier::Coarse,
        start: 86_400,
    };

    fn block() -> Vec<u8> {
        let chunks = vec![
            (Entity::Node(1), b"one".to_vec()),
            (Entity::Volume(1), Vec::new()),
            (Entity::Volume(7), b"seven".to_vec()),
        ];
        encode(NAME, chunks.into_iter())
    }

    #[test]
    fn chunks_are_found_where_the_index_says() {
        let bytes = block();
        let places = index(NAME, &bytes).unwrap();
        let chunk = |place: &Place| &bytes[place.offset as usize..][..place.len as usize];
        let found: Vec<_> = places
            .iter()
            .map(|place| (place.entity, chunk(place)))
            .collect();
        let expected: [(Entity, &[u8]); 3] = [
            (Entity::Node(1), b"one"),
            (Entity::Volume(1), b""),
            (Entity::Volume(7), b"seven"),
        ];
        assert_eq!(found, expected);
        assert_eq!(places[2].verify(b"seven"), Ok(()));
        assert_eq!(places[2].verify(b"eleven"), Err(Damaged::Checksum));
    }

    #[test]
    fn another_name_or_a_newer_format_is_refused() {
        let mut bytes = block();
        let other = Name {
            start: 2 * 86_400,
            ..NAME
        };
        assert_eq!(index(other, &bytes), Err(Damaged::Odd("its name")));
        bytes[8] = 2;
        assert_eq!(index(NAME, &bytes), Err(Damaged::Newer(2)));
        assert_eq!(index(NAME, &bytes[..20]), Err(Damaged::Short));
    }

    #[test]
    fn names_are_read_as_they_are_written() {
        assert_eq!(Name::parse(&NAME.to_string()), Some(NAME));
        for odd in [
            "fine",
            "fine-1",
            "fine-+3600",
            "rough-3600",
            "coarse-3600",
            "fine-03600",
            "",
        ] {
            assert_eq!(Name::parse(odd), None, "{odd}");
        }
        assert_eq!(Name::at(Tier::Fine, 7300).start, 7200);
    }

    #[test]
    fn fuzz_corpus_of_blocks() {
        let target = target!("block");
        let committed = target.sample("three", &block());
        let expected = index(NAME, &block()).expect("ours");
        assert_eq!(index(NAME, &committed), Ok(expected));
        let empty = target.sample("empty", &encode(NAME, std::iter::empty()));
        assert_eq!(index(NAME, &empty).map(|places| places.len()), Ok(0));
        let mut newer = block();
        newer[8] = 2;
        let newer = target.sample("newer", &newer);
        assert_eq!(index(NAME, &newer), Err(Damaged::Newer(2)));
        let cut = target.sample("cut", &block()[..20]);
        assert_eq!(index(NAME, &cut), Err(Damaged::Short));
        let decode = |bytes: &[u8]| {
            for place in index(NAME, bytes).unwrap_or_default() {
                let start = place.offset as usize;
                if let Some(chunk) = bytes.get(start..start + place.len as usize) {
                    let _ = place.verify(chunk);
                }
            }
        };
        target.play(decode);
    }

    proptest! {
        #[test]
        fn fuzz_any_bytes_are_an_index_or_damage(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = index(NAME, &bytes);
        }

        #[test]
        fn fuzz_a_changed_block_is_found_out(at in 0..HEAD_BYTES + 3 * ENTRY_BYTES, bit in 0_u8..8) {
            let mut bytes = block();
            bytes[at] ^= 1 << bit;
            prop_assert!(index(NAME, &bytes).is_err());
        }
    }
}
