//! Levels: what the nodes of a cluster may say to each other and write, so that two releases run side by side.
//!
//! A release that adds something to a message, a disk or the catalog that the one before it cannot read has a new level, one
//! above. It still reads, and writes, what the level before had. The cluster has one level, which rises when all its nodes
//! know the next one, and never falls: what is new is written only from then on. See docs/decisions/0048.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A level. The first is 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Level(pub u16);

impl Default for Level {
    fn default() -> Self {
        Self(1)
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The levels that one release can keep to, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Levels {
    /// The one before, for as long as nodes of that release may run beside it.
    pub oldest: Level,
    /// Its own.
    pub newest: Level,
}

impl Levels {
    /// Those of this release.
    pub const OWN: Self = Self {
        oldest: Level(1),
        newest: Level(1),
    };
    /// Those of releases that did not say.
    pub const FIRST: Self = Self {
        oldest: Level(1),
        newest: Level(1),
    };

    /// Whether a release with these can keep to a level.
    #[must_use]
    pub fn know(self, level: Level) -> bool {
        (self.oldest..=self.newest).contains(&level)
    }

    /// Whether there is a level that both know.
    #[must_use]
    pub fn meet(self, other: Self) -> bool {
        self.oldest <= other.newest && other.oldest <= self.newest
    }
}

impl Default for Levels {
    fn default() -> Self {
        Self::FIRST
    }
}

impl fmt::Display for Levels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.oldest == self.newest {
            true => write!(f, "{}", self.newest),
            false => write!(f, "{} to {}", self.oldest, self.newest),
        }
    }
}

impl FromStr for Levels {
    type Err = String;

    /// `2` or `1-2`.
    fn from_str(text: &str) -> Result<Self, String> {
        let (oldest, newest) = text.split_once('-').unwrap_or((text, text));
        let number = |text: &str| match text.parse() {
            Ok(number @ 1..) => Ok(Level(number)),
            _ => Err(format!("`{text}` is no level: write 1 or 1-2")),
        };
        let levels = Self {
            oldest: number(oldest)?,
            newest: number(newest)?,
        };
        match levels.oldest <= levels.newest {
            true => Ok(levels),
            false => Err(format!("`{text}` ends before it begins")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn levels(text: &str) -> Levels {
        text.parse().expect(text)
    }

    #[test]
    fn releases_meet_when_they_know_one_level() {
        let cases = [
            ("1", "1", true),
            ("1", "1-2", true),
            ("1-2", "2-3", true),
            ("1", "2", false),
            ("1-2", "3-4", false),
        ];
        for (one, other, expected) in cases {
            assert_eq!(levels(one).meet(levels(other)), expected, "{one} {other}");
            assert_eq!(levels(other).meet(levels(one)), expected, "{other} {one}");
        }
        assert!(levels("1-2").know(Level(2)) && !levels("1-2").know(Level(3)));
        assert_eq!(levels("1-2").to_string(), "1 to 2");
        assert_eq!(levels("3").to_string(), "3");
    }

    #[test]
    fn a_release_reads_the_level_before_its_own() {
        let Levels { oldest, newest } = Levels::OWN;
        assert!(oldest <= newest && newest.0 - oldest.0 <= 1);
        assert!(
            newest == Level(1) || oldest < newest,
            "nobody could upgrade"
        );
    }

    #[test]
    fn what_is_no_level_is_refused() {
        for text in ["", "0", "2-1", "1-", "-1", "1-2-3", "x", "70000"] {
            assert!(text.parse::<Levels>().is_err(), "{text}");
        }
    }
}
