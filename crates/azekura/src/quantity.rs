//! Sizes and durations as people write them.
//!
//! A size is a number and a binary unit, `20GiB` or `1.5 TiB`, or plain bytes. `GB` is refused, because
//! one reader takes it for 10^9 bytes and the next for 2^30. A duration is `250ms`, `2s`, `10m` or `1h`.

use std::time::Duration;

const SIZE_UNITS: [(&str, u32); 7] = [
    ("B", 0),
    ("KiB", 10),
    ("MiB", 20),
    ("GiB", 30),
    ("TiB", 40),
    ("PiB", 50),
    ("EiB", 60),
];

/// The size in bytes.
///
/// # Errors
/// What is wrong with `text`, for a person.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let (number, unit) = split(text);
    let shift = match unit {
        "" => 0,
        _ => size_shift(text, unit)?,
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let odd = || format!("`{text}` is not a size: write a number and a unit, such as 20GiB");
    let whole: u64 = whole.parse().map_err(|_| odd())?;
    let tenths = match fraction {
        "" if number.contains('.') => return Err(odd()),
        "" => 0,
        digits if digits.len() <= 3 => {
            let scale = 10u64.pow(3 - u32::try_from(digits.len()).expect("at most 3"));
            digits.parse::<u64>().map_err(|_| odd())? * scale
        }
        _ => return Err(odd()),
    };
    let bytes = (u128::from(whole) << shift) + ((u128::from(tenths) << shift) / 1000);
    if tenths != 0 && shift == 0 {
        return Err(format!("`{text}` is not a whole number of bytes"));
    }
    u64::try_from(bytes).map_err(|_| format!("`{text}` is more than 16 EiB"))
}

fn size_shift(text: &str, unit: &str) -> Result<u32, String> {
    let exact = SIZE_UNITS.iter().find(|(name, _)| *name == unit);
    if let Some((_, shift)) = exact {
        return Ok(*shift);
    }
    let letter = unit.chars().next().map(|first| first.to_ascii_uppercase());
    let near = SIZE_UNITS
        .iter()
        .skip(1)
        .find(|(name, _)| name.chars().next() == letter);
    Err(match near {
        Some((name, _)) => format!("`{text}` has no known unit: for powers of two write {name}"),
        None => format!("`{text}` has no known unit: write B, KiB, MiB, GiB, TiB, PiB or EiB"),
    })
}

/// The duration.
///
/// # Errors
/// What is wrong with `text`, for a person.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = split(text);
    let milliseconds: u64 = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "" => return Err(format!("`{text}` has no unit: write ms, s, m or h")),
        _ => return Err(format!("`{text}` has no known unit: write ms, s, m or h")),
    };
    let count: u64 = number
        .parse()
        .map_err(|_| format!("`{text}` is not a duration: write a whole number and a unit"))?;
    let total = count.checked_mul(milliseconds);
    total
        .map(Duration::from_millis)
        .ok_or_else(|| format!("`{text}` is too long"))
}

/// Number and unit, without the space between them.
fn split(text: &str) -> (&str, &str) {
    let text = text.trim();
    let end = text
        .find(|character: char| !character.is_ascii_digit() && character != '.')
        .unwrap_or(text.len());
    (&text[..end], text[end..].trim_start())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_binary_units() {
        assert_eq!(parse_size("4096"), Ok(4096));
        assert_eq!(parse_size("20GiB"), Ok(20 << 30));
        assert_eq!(parse_size(" 4 MiB "), Ok(4 << 20));
        assert_eq!(parse_size("1.5KiB"), Ok(1536));
        assert_eq!(parse_size("0.125 TiB"), Ok(128 << 30));
        assert_eq!(parse_size("15EiB"), Ok(15 << 60));
    }

    #[test]
    fn odd_sizes_are_refused_with_a_reason() {
        for (text, words) in [
            ("", "is not a size"),
            ("GiB", "is not a size"),
            ("-1GiB", "no known unit"),
            ("1.GiB", "is not a size"),
            ("1.2.3GiB", "is not a size"),
            ("1.2345GiB", "is not a size"),
            ("1.5", "whole number of bytes"),
            ("20GB", "write GiB"),
            ("20g", "write GiB"),
            ("5 apples", "no known unit"),
            ("16EiB", "more than 16 EiB"),
            ("99999999999999999999", "is not a size"),
        ] {
            let error = parse_size(text).unwrap_err();
            assert!(error.contains(words), "{text}: {error}");
        }
    }

    #[test]
    fn durations_need_a_unit() {
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(parse_duration("2 s"), Ok(Duration::from_secs(2)));
        assert_eq!(parse_duration("1h"), Ok(Duration::from_secs(3600)));
        for text in ["", "2", "2 sec", "s", "1.5s", "99999999999999999h"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }
}
