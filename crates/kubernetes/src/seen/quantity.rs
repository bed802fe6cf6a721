//! Quantities of Kubernetes, as bytes.
//!
//! Source: Kubernetes, `apimachinery/pkg/api/resource/quantity.go`: the grammar in its comment.

/// Digits behind the point that count.
const FRACTION_DIGITS_MAX: usize = 9;

/// Bytes of a quantity such as `10Gi`, `1.5T`, `1e3` or `500M`, rounded up; `None`: it is not one, or negative. What is too large for 64 bits is
/// the largest number.
pub(super) fn bytes(text: &str) -> Option<u64> {
    let text = text.strip_prefix('+').unwrap_or(text);
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.');
    let (number, suffix) = text.split_at(end.unwrap_or(text.len()));
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return None;
    }
    let scale = Scale::parse(suffix)?;
    // Kubernetes keeps nothing finer.
    let fraction = fraction.get(..FRACTION_DIGITS_MAX).unwrap_or(fraction);
    let point = i32::try_from(fraction.len()).ok()?;
    let digits = format!("{whole}{fraction}");
    let digits = digits.trim_start_matches('0');
    if digits.is_empty() {
        return Some(0);
    }
    // What has more digits than 128 bits hold is more than there can be.
    let Ok(value) = digits.parse::<u128>() else {
        return Some(u64::MAX);
    };
    let value = value.saturating_mul(scale.factor);
    Some(shift(value, scale.tens.saturating_sub(point)))
}

/// What a suffix multiplies with: `factor` times ten to the power of `tens`.
struct Scale {
    factor: u128,
    tens: i32,
}

impl Scale {
    fn parse(suffix: &str) -> Option<Self> {
        let binary = |power: u32| Self {
            factor: 1 << (10 * power),
            tens: 0,
        };
        let decimal = |tens: i32| Self { factor: 1, tens };
        Some(match suffix {
            "" => decimal(0),
            "Ki" => binary(1),
            "Mi" => binary(2),
            "Gi" => binary(3),
            "Ti" => binary(4),
            "Pi" => binary(5),
            "Ei" => binary(6),
            "n" => decimal(-9),
            "u" => decimal(-6),
            "m" => decimal(-3),
            "k" => decimal(3),
            "M" => decimal(6),
            "G" => decimal(9),
            "T" => decimal(12),
            "P" => decimal(15),
            "E" => decimal(18),
            exponent => decimal(exponent.strip_prefix(['e', 'E'])?.parse().ok()?),
        })
    }
}

/// `value` times ten to the power of `tens`, rounded up.
fn shift(value: u128, tens: i32) -> u64 {
    let power = 10_u128.checked_pow(tens.unsigned_abs());
    let shifted = match (power, tens >= 0) {
        (Some(power), true) => value.saturating_mul(power),
        (Some(power), false) => value.div_ceil(power),
        (None, true) => u128::MAX,
        // Above nothing, if only just.
        (None, false) => 1,
    };
    u64::try_from(shifted).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_in_every_form_are_bytes() {
        for (text, expected) in [
            ("0", 0),
            ("128", 128),
            ("+5", 5),
            ("10Gi", 10 << 30),
            ("1.5Gi", 3 << 29),
            ("0.5Ki", 512),
            ("1Ei", 1 << 60),
            ("500M", 500_000_000),
            ("2k", 2000),
            ("1E", 1_000_000_000_000_000_000),
            ("1e3", 1000),
            ("1E3", 1000),
            ("12e+2", 1200),
            ("1500e-3", 2),
            ("1500m", 2),
            ("1n", 1),
            (".5M", 500_000),
            ("5.", 5),
            ("100E", u64::MAX),
            ("1e99", u64::MAX),
            ("1e-99", 1),
            ("0e99", 0),
        ] {
            assert_eq!(bytes(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_quantity_is_none() {
        for text in [
            "", ".", "-1", "Gi", "1 Gi", "1gi", "1KiB", "1..2", "1.2.3", "e3", "1e", "1ee3",
            "1e3Gi", "ten",
        ] {
            assert_eq!(bytes(text), None, "{text}");
        }
        assert_eq!(bytes(&"9".repeat(60)), Some(u64::MAX));
    }
}
