//! A record of a volume's log: the same 64 bytes on the wire and in the journal. See docs/formats/journal.md.
//!
//! ```text
//!  0  u32  crc32c of bytes 4..64 and the data: salted, since those bytes hold volume, epoch, segment, position
//!  4  u32  crc of the record before it in the segment, 0 for the segment's first: the chain
//!  8  u64  volume
//! 16  u64  epoch
//! 24  u64  position
//! 32  u32  segment
//! 36  u8   kind   37 u8 flags (0)   38 u16 reserved (0)
//! 40  u64  lba (kind write, unmap, reference); snapshot id (barrier); 0 otherwise
//! 48  u32  blocks
//! 52  u32  data bytes
//! 56  u32  position - highest position known committed when written
//! 60  u32  position - highest position known flushed when written
//! ```

use bytes::Bytes;
use vocab::{BLOCK_SIZE, Epoch, Lba, Position, SegmentId, VolumeId};

/// Bytes of an encoded head.
pub const RECORD_HEAD_BYTES: usize = 64;

/// What a record does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordKind {
    /// `blocks` blocks of data at `lba`.
    Write,
    /// `blocks` blocks at `lba` read as zeros from now on and give their space back.
    Unmap,
    /// `blocks` blocks at `lba` lie in extents that the data names (journal bypass).
    Reference,
    /// Everything before belongs to the snapshot whose id is in `lba`.
    Barrier,
    /// The data is a volume root that covers the log up to a position inside it.
    Checkpoint,
}

impl RecordKind {
    fn number(self) -> u8 {
        match self {
            Self::Write => 1,
            Self::Unmap => 2,
            Self::Reference => 3,
            Self::Barrier => 4,
            Self::Checkpoint => 5,
        }
    }

    fn from_number(number: u8) -> Option<Self> {
        [
            Self::Write,
            Self::Unmap,
            Self::Reference,
            Self::Barrier,
            Self::Checkpoint,
        ]
        .into_iter()
        .find(|kind| kind.number() == number)
    }
}

/// The fixed part of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordHead {
    /// Checksum of everything else.
    pub crc: u32,
    /// Checksum of the record before it in its segment.
    pub previous_crc: u32,
    /// Whose log.
    pub volume: VolumeId,
    /// The owner's term.
    pub epoch: Epoch,
    /// Place in the volume's write order.
    pub position: Position,
    /// The segment it was appended to.
    pub segment: SegmentId,
    /// What it does.
    pub kind: RecordKind,
    /// Where.
    pub lba: Lba,
    /// How much.
    pub blocks: u32,
    /// Length of the data.
    pub data_bytes: u32,
    /// Highest position its writer knew committed.
    pub committed: Position,
    /// Highest position its writer knew flushed.
    pub flushed: Position,
}

/// Why bytes are not the record they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordDamage {
    /// Bytes are missing.
    #[error("record is cut short")]
    Short,
    /// The checksum does not match: torn, rotten, or of another place.
    #[error("record checksum does not match")]
    Checksum,
    /// The checksum matches, but a field makes no sense: written by a newer release.
    #[error("record has an unknown kind or impossible sizes; it was written by a newer release")]
    Unknown,
}

/// A record with its data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The fixed part.
    pub head: RecordHead,
    /// The data, `head.data_bytes` long.
    pub data: Bytes,
}

fn lag(position: Position, behind: Position) -> u32 {
    debug_assert!(behind <= position);
    u32::try_from(position.0.saturating_sub(behind.0)).unwrap_or(u32::MAX)
}

impl RecordHead {
    /// Encodes the head as it is, checksum included.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; RECORD_HEAD_BYTES] {
        let mut bytes = [0; RECORD_HEAD_BYTES];
        bytes[0..4].copy_from_slice(&self.crc.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.previous_crc.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.volume.0.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.epoch.0.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.position.0.to_le_bytes());
        bytes[32..36].copy_from_slice(&self.segment.0.to_le_bytes());
        bytes[36] = self.kind.number();
        bytes[40..48].copy_from_slice(&self.lba.0.to_le_bytes());
        bytes[48..52].copy_from_slice(&self.blocks.to_le_bytes());
        bytes[52..56].copy_from_slice(&self.data_bytes.to_le_bytes());
        bytes[56..60].copy_from_slice(&lag(self.position, self.committed).to_le_bytes());
        bytes[60..64].copy_from_slice(&lag(self.position, self.flushed).to_le_bytes());
        bytes
    }

    /// Sets `crc` to match the other fields and `data`.
    pub fn seal(&mut self, data: &[u8]) {
        self.crc = Self::checksum(&self.to_bytes(), data);
    }

    /// Checksum of an encoded head (its first four bytes are left out) and its data.
    #[must_use]
    pub fn checksum(head: &[u8; RECORD_HEAD_BYTES], data: &[u8]) -> u32 {
        crc32c::crc32c_append(crc32c::crc32c(&head[4..]), data)
    }

    /// Decodes a head without verifying it: the checksum covers the data too, see [`Record::verify`].
    ///
    /// # Errors
    /// [`RecordDamage::Unknown`] for a kind or sizes that no release wrote, or damaged bytes.
    pub fn from_bytes(bytes: &[u8; RECORD_HEAD_BYTES]) -> Result<Self, RecordDamage> {
        let u32_at = |at: usize| {
            u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        let u64_at = |at: usize| u64::from(u32_at(at)) | u64::from(u32_at(at + 4)) << 32;
        let position = Position(u64_at(24));
        let head = Self {
            crc: u32_at(0),
            previous_crc: u32_at(4),
            volume: VolumeId(u64_at(8)),
            epoch: Epoch(u64_at(16)),
            position,
            segment: SegmentId(u32_at(32)),
            kind: RecordKind::from_number(bytes[36]).ok_or(RecordDamage::Unknown)?,
            lba: Lba(u64_at(40)),
            blocks: u32_at(48),
            data_bytes: u32_at(52),
            committed: Position(position.0.saturating_sub(u64::from(u32_at(56)))),
            flushed: Position(position.0.saturating_sub(u64::from(u32_at(60)))),
        };
        let whole_blocks = u64::from(head.blocks) * BLOCK_SIZE as u64;
        let sizes_fit = match head.kind {
            RecordKind::Write => whole_blocks == u64::from(head.data_bytes) && head.blocks > 0,
            RecordKind::Unmap => head.data_bytes == 0,
            RecordKind::Barrier => head.data_bytes == 0 && head.blocks == 0,
            RecordKind::Reference | RecordKind::Checkpoint => {
                head.data_bytes as usize <= BLOCK_SIZE
            }
        };
        let fits =
            sizes_fit && bytes[37..40] == [0; 3] && head.lba.0.checked_add(whole_blocks).is_some();
        if fits {
            Ok(head)
        } else {
            Err(RecordDamage::Unknown)
        }
    }
}

impl Record {
    /// Verifies the checksum over head and data.
    ///
    /// # Errors
    /// [`RecordDamage::Short`] and [`RecordDamage::Checksum`].
    pub fn verify(&self) -> Result<(), RecordDamage> {
        if self.data.len() != self.head.data_bytes as usize {
            return Err(RecordDamage::Short);
        }
        if RecordHead::checksum(&self.head.to_bytes(), &self.data) != self.head.crc {
            return Err(RecordDamage::Checksum);
        }
        Ok(())
    }

    /// Pieces of a batch as a message body: all heads, then all data.
    #[must_use]
    pub fn encode_batch(records: &[Record]) -> Vec<Bytes> {
        let mut heads = Vec::with_capacity(records.len() * RECORD_HEAD_BYTES);
        for record in records {
            heads.extend_from_slice(&record.head.to_bytes());
        }
        let mut parts = Vec::with_capacity(1 + records.len());
        parts.push(Bytes::from(heads));
        parts.extend(records.iter().map(|record| record.data.clone()));
        parts
    }

    /// Splits a message body of `count` records, without verifying checksums; the data shares `body`.
    ///
    /// # Errors
    /// [`RecordDamage::Short`] and [`RecordDamage::Unknown`].
    pub fn decode_batch(count: usize, body: &Bytes) -> Result<Vec<Record>, RecordDamage> {
        let heads_bytes = count
            .checked_mul(RECORD_HEAD_BYTES)
            .ok_or(RecordDamage::Short)?;
        if body.len() < heads_bytes {
            return Err(RecordDamage::Short);
        }
        let mut records = Vec::with_capacity(count);
        let mut data_at = heads_bytes;
        for index in 0..count {
            let head = &body[index * RECORD_HEAD_BYTES..(index + 1) * RECORD_HEAD_BYTES];
            let head =
                RecordHead::from_bytes(head.try_into().expect("the slice is 64 bytes long"))?;
            let data_end = data_at + head.data_bytes as usize;
            if data_end > body.len() {
                return Err(RecordDamage::Short);
            }
            records.push(Record {
                head,
                data: body.slice(data_at..data_end),
            });
            data_at = data_end;
        }
        if data_at == body.len() {
            Ok(records)
        } else {
            Err(RecordDamage::Short)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record(position: u64, data: &'static [u8; BLOCK_SIZE]) -> Record {
        let mut head = RecordHead {
            crc: 0,
            previous_crc: 3,
            volume: VolumeId(1),
            epoch: Epoch(2),
            position: Position(position),
            segment: SegmentId(4),
            kind: RecordKind::Write,
            lba: Lba(9),
            blocks: 1,
            data_bytes: BLOCK_SIZE as u32,
            committed: Position(position - 2),
            flushed: Position(position - 5),
        };
        head.seal(data);
        Record {
            head,
            data: Bytes::from_static(data),
        }
    }

    fn joined(parts: &[Bytes]) -> Bytes {
        parts.concat().into()
    }

    #[test]
    fn a_batch_survives_its_encoding() {
        let records = vec![record(10, &[1; BLOCK_SIZE]), record(11, &[2; BLOCK_SIZE])];
        let decoded =
            Record::decode_batch(2, &joined(&Record::encode_batch(&records))).expect("valid");
        assert_eq!(decoded, records);
        assert!(decoded.iter().all(|record| record.verify().is_ok()));
    }

    #[test]
    fn a_record_of_another_place_does_not_verify() {
        let mut moved = record(10, &[1; BLOCK_SIZE]);
        moved.head.segment = SegmentId(5);
        assert_eq!(moved.verify(), Err(RecordDamage::Checksum));
    }

    proptest! {
        #[test]
        fn fuzz_any_batch_is_a_value_or_an_error(count in 0usize..5, body in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _ = Record::decode_batch(count, &body.into());
        }

        #[test]
        fn fuzz_a_flipped_bit_is_found(bit in 0usize..(64 * 8 + 4096 * 8)) {
            let bytes = joined(&Record::encode_batch(&[record(10, &[7; BLOCK_SIZE])]));
            let mut bytes = bytes.to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let found = match Record::decode_batch(1, &bytes.into()) {
                Ok(records) => records[0].verify().is_err(),
                Err(_) => true,
            };
            prop_assert!(found);
        }
    }
}
