//! Changed inputs: one to four changes of an input, some of them with pieces of another one.
//!
//! Changes are those that decoders stumble over: bits, lengths and counts at the ends of their ranges, what is cut off, what is there twice,
//! and a beginning whose end is another one's. Pure: the numbers decide.

use crate::Random;

/// Bound of a changed input, in bytes; longer ones are cut. A batch of the journal in tests has some 16 KiB.
pub const INPUT_BYTES_MAX: usize = 256 << 10;
/// Bound of a piece that is inserted, doubled or removed, in bytes.
const PIECE_BYTES_MAX: usize = 64;

/// An input made of `base`; `other` lends pieces.
pub fn mutate(random: &mut Random, base: &[u8], other: &[u8]) -> Vec<u8> {
    let mut bytes = base.to_vec();
    for _ in 0..=random.below(4) {
        change(random, &mut bytes, other);
        bytes.truncate(INPUT_BYTES_MAX);
    }
    bytes
}

fn change(random: &mut Random, bytes: &mut Vec<u8>, other: &[u8]) {
    let kind = random.below(12);
    if bytes.is_empty() && kind != 8 {
        bytes.extend_from_slice(other);
        return;
    }
    let at = place(random, bytes.len());
    match kind {
        0 | 1 => bytes[at] ^= 1 << random.below(8),
        2 => bytes[at] = random.number() as u8,
        3 | 4 => put_number(random, bytes, at),
        5 => bytes.truncate(at),
        6 => drop(bytes.drain(piece(random, at, bytes.len()))),
        7 => {
            let piece = bytes[piece(random, at, bytes.len())].to_vec();
            bytes.splice(at..at, piece);
        }
        8 => {
            let count = random.below(PIECE_BYTES_MAX);
            let at = at.min(bytes.len());
            bytes.splice(at..at, (0..count).map(|_| random.number() as u8));
        }
        9 => {
            let range = piece(random, at, bytes.len());
            bytes[range].fill(*random.pick(&[0, 0, 0xFF]));
        }
        10 => {
            bytes.truncate(at);
            let from = if random.below(2) == 0 {
                at
            } else {
                random.below(other.len())
            };
            bytes.extend_from_slice(other.get(from..).unwrap_or_default());
        }
        _ => {
            let range = piece(random, at, bytes.len().min(other.len()));
            bytes[range.clone()].copy_from_slice(&other[range]);
        }
    }
}

/// A place in the input; every second time among the first bytes, where lengths and kinds are.
fn place(random: &mut Random, length: usize) -> usize {
    let bound = if random.below(2) == 0 {
        length.min(PIECE_BYTES_MAX)
    } else {
        length
    };
    random.below(bound)
}

fn piece(random: &mut Random, at: usize, length: usize) -> std::ops::Range<usize> {
    let start = at.min(length);
    start..length.min(start + 1 + random.below(PIECE_BYTES_MAX))
}

/// Overwrites a number: of 1, 2, 4 or 8 bytes in either order, or a number in digits.
fn put_number(random: &mut Random, bytes: &mut Vec<u8>, at: usize) {
    if let Some(digits) = digits(bytes, at) {
        let number = random.pick(&[0, 1, 255, 65_536, 1 << 31, 1 << 32, 1 << 53, u64::MAX]);
        bytes.splice(digits, number.to_string().into_bytes());
        return;
    }
    let width = (1 << random.below(4)).min(bytes.len() - at);
    let length = bytes.len() as u64;
    let top = u64::MAX >> (64 - 8 * width);
    let mut old = [0; 8];
    old[..width].copy_from_slice(&bytes[at..at + width]);
    let old = u64::from_le_bytes(old);
    let numbers = [
        0,
        1,
        top,
        top - 1,
        top / 2,
        top / 2 + 1,
        length,
        length - at as u64,
    ];
    let number = match random.below(3) {
        0 => old.wrapping_add(1 + random.below(8) as u64),
        1 => old.wrapping_sub(1 + random.below(8) as u64),
        _ => *random.pick(&numbers),
    };
    let mut encoded = number.to_le_bytes();
    if random.below(4) == 0 {
        encoded[..width].reverse();
    }
    bytes[at..at + width].copy_from_slice(&encoded[..width]);
}

/// The run of decimal digits that `at` lies in.
fn digits(bytes: &[u8], at: usize) -> Option<std::ops::Range<usize>> {
    let is_digit = |byte: &&u8| byte.is_ascii_digit();
    let after = bytes[at..].iter().take_while(is_digit).count();
    let before = bytes[..at].iter().rev().take_while(is_digit).count();
    (after > 0).then(|| at - before..at + after)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_seed_changes_any_input_within_bounds() {
        let inputs: [&[u8]; 4] = [b"", b"x", b"{\"size\":4096}", &[7; 300]];
        let mut changed = 0;
        for seed in 0..20_000 {
            let mut random = Random::new(seed);
            let (base, other) = (*random.pick(&inputs), *random.pick(&inputs));
            let input = mutate(&mut random, base, other);
            assert!(input.len() <= base.len() + 4 * (other.len() + 2 * PIECE_BYTES_MAX));
            changed += usize::from(input != base);
        }
        assert!(changed > 15_000, "{changed}");
    }

    #[test]
    fn numbers_in_digits_are_exchanged_whole() {
        let mut bytes = b"size 4096 B".to_vec();
        assert_eq!(digits(&bytes, 6), Some(5..9));
        assert_eq!(digits(&bytes, 4), None);
        put_number(&mut Random::new(3), &mut bytes, 7);
        assert!(bytes.starts_with(b"size ") && bytes.ends_with(b" B"));
    }
}
