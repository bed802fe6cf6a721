//! How few copies writes go on with.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fmt;
use std::str::FromStr;

/// Copies below which writes stop. In JSON a number, or `"strict"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Value", into = "Value")]
pub enum MinCopies {
    /// So many.
    Count(u8),
    /// As many as are wanted: writes stop as soon as one is missing. Follows the replication factor.
    Strict,
}

/// What was given is neither a number nor `strict`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotCopies(String);

impl fmt::Display for NotCopies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} is no number of copies: use 1, 2, 3 or `strict`, which is as many as are wanted",
            self.0
        )
    }
}

impl std::error::Error for NotCopies {}

impl From<u8> for MinCopies {
    fn from(count: u8) -> Self {
        Self::Count(count)
    }
}

impl From<MinCopies> for Value {
    fn from(copies: MinCopies) -> Self {
        match copies {
            MinCopies::Count(count) => Self::from(count),
            MinCopies::Strict => Self::from("strict"),
        }
    }
}

impl TryFrom<Value> for MinCopies {
    type Error = NotCopies;

    fn try_from(given: Value) -> Result<Self, NotCopies> {
        match &given {
            Value::String(word) if word == "strict" => Ok(Self::Strict),
            Value::Number(number) => {
                let count = number.as_u64().and_then(|count| count.try_into().ok());
                count.map(Self::Count).ok_or(NotCopies(given.to_string()))
            }
            _ => Err(NotCopies(given.to_string())),
        }
    }
}

impl FromStr for MinCopies {
    type Err = NotCopies;

    /// `strict`, or a number from 1 to 3.
    fn from_str(text: &str) -> Result<Self, NotCopies> {
        match (text, text.parse()) {
            ("strict", _) => Ok(Self::Strict),
            (_, Ok(count @ 1..=3)) => Ok(Self::Count(count)),
            _ => Err(NotCopies(format!("`{text}`"))),
        }
    }
}

#[cfg(feature = "openapi")]
mod schema {
    use super::MinCopies;
    use utoipa::openapi::schema::{ObjectBuilder, OneOfBuilder, Schema, Type};
    use utoipa::{PartialSchema, ToSchema, openapi::RefOr};

    impl PartialSchema for MinCopies {
        fn schema() -> RefOr<Schema> {
            let count = ObjectBuilder::new()
                .schema_type(Type::Integer)
                .minimum(Some(1))
                .maximum(Some(3));
            let strict = ObjectBuilder::new()
                .schema_type(Type::String)
                .enum_values(Some(["strict"]));
            let either = OneOfBuilder::new()
                .item(count)
                .item(strict)
                .description(Some(
                    "Copies below which writes stop; `strict`: as many as are wanted",
                ));
            RefOr::T(Schema::OneOf(either.build()))
        }
    }

    impl ToSchema for MinCopies {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_are_a_number_or_strict() {
        let read = |text: &str| serde_json::from_str::<MinCopies>(text);
        assert_eq!(read("2").expect("a number"), MinCopies::Count(2));
        assert_eq!(read("\"strict\"").expect("a word"), MinCopies::Strict);
        for odd in ["-1", "256", "1.5", "\"2\"", "\"all\"", "null", "[]"] {
            let refused = read(odd).expect_err("it is neither").to_string();
            assert!(refused.contains("`strict`"), "{refused}");
        }
        for copies in [MinCopies::Count(3), MinCopies::Strict] {
            let text = serde_json::to_string(&copies).expect("plain data");
            assert_eq!(read(&text).expect("its own"), copies);
        }
        assert_eq!("strict".parse(), Ok(MinCopies::Strict));
        assert_eq!("1".parse(), Ok(MinCopies::Count(1)));
        for odd in ["0", "4", "two", ""] {
            assert!(odd.parse::<MinCopies>().is_err(), "{odd}");
        }
    }
}
