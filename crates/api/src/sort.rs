//! Orders of lists, and the part of one that is asked for.
//!
//! An order is by one field, and of items that are equal in it by their place: what they are known by, which never changes for an
//! item. `-` in front turns the whole order round. A page goes on behind the item whose place is said, wherever that stands now.
//!
//! Invariants
//! - What exists throughout and keeps its field comes on one page, once, whatever comes and goes between them.
//! - A page costs one look at each item, and sorting those that are behind the last page.

use crate::error::OperationError;
use crate::query::LIMIT_MAX;
use std::fmt;

/// What a list is ordered by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    /// The field.
    pub field: &'static str,
    /// Whether that is the place of an item: then nothing else is compared.
    pub is_place: bool,
    /// Whether the greatest comes first.
    pub down: bool,
}

impl Order {
    /// That of a list when nothing is said.
    pub const PLACE: Self = Self {
        field: "",
        is_place: true,
        down: false,
    };

    /// That of a list whose places grow with time, when nothing is said: the newest first.
    pub const NEWEST: Self = Self {
        down: true,
        ..Self::PLACE
    };

    /// As it is written, of a list that has these fields, its place first.
    ///
    /// # Errors
    /// What can be written instead, for people.
    pub fn parse(text: &str, fields: &'static [&'static str]) -> Result<Self, String> {
        let (name, down) = match text.strip_prefix('-') {
            Some(name) => (name, true),
            None => (text, false),
        };
        let found = fields.iter().position(|field| *field == name);
        let place = found.ok_or_else(|| {
            let known = fields.join(", ");
            format!("`sort` of this list is one of {known}, with `-` in front for the other way round, and not `{text}`")
        })?;
        Ok(Self {
            field: fields[place],
            is_place: place == 0,
            down,
        })
    }
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.down { "-" } else { "" };
        write!(f, "{sign}{}", self.field)
    }
}

/// What an item has in a field.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// Nothing: before everything else.
    Nothing,
    /// A number, a size, a time.
    Number(u64),
    /// A name, a word.
    Text(String),
}

impl From<u64> for Key {
    fn from(number: u64) -> Self {
        Self::Number(number)
    }
}

impl From<&str> for Key {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl<T: Into<Key>> From<Option<T>> for Key {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Nothing, Into::into)
    }
}

/// Which part of a list, in which order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part<P> {
    /// The order.
    pub order: Order,
    /// Place of the last item of the page before.
    pub after: Option<P>,
    /// Items at most.
    pub limit: usize,
}

/// What is wrong with a limit, for people.
///
/// # Errors
/// [`ErrorKind::BadRequest`](crate::ErrorKind::BadRequest).
pub fn check_limit(limit: Option<u32>) -> Result<usize, OperationError> {
    match limit {
        Some(limit) if !(1..=LIMIT_MAX).contains(&limit) => Err(OperationError::bad_request(
            format!("`limit` is 1 to {LIMIT_MAX}"),
        )),
        Some(limit) => Ok(limit as usize),
        None => Ok(usize::MAX),
    }
}

impl<P: Ord> Part<P> {
    /// That part of `all` which is wanted. `place` tells items apart; `key` is what one has in the field that the order names.
    ///
    /// # Errors
    /// [`ErrorKind::BadRequest`](crate::ErrorKind::BadRequest): what the page is to go on after is gone, and the order needs it.
    pub fn of<T>(
        &self,
        all: Vec<T>,
        place: impl Fn(&T) -> P,
        key: impl Fn(&T, &str) -> Key,
        wants: impl Fn(&T) -> bool,
    ) -> Result<Vec<T>, OperationError> {
        let order = self.order;
        let field = |item: &T| match order.is_place {
            true => Key::Nothing,
            false => key(item, order.field),
        };
        let last = match &self.after {
            None => None,
            Some(after) if order.is_place => Some((Key::Nothing, after)),
            Some(after) => {
                let found = all.iter().find(|item| place(item) == *after);
                let gone = "`after`: the last item of the page before is not there any more: begin with the first page";
                let found = found.ok_or_else(|| OperationError::bad_request(gone))?;
                Some((field(found), after))
            }
        };
        let is_behind = |key: &Key, place: &P| {
            last.as_ref().is_none_or(|(last, after)| match order.down {
                true => (key, place) < (last, *after),
                false => (key, place) > (last, *after),
            })
        };
        let kept = all.into_iter().filter(|item| wants(item));
        let keyed = kept.map(|item| (field(&item), place(&item), item));
        let mut kept: Vec<(Key, P, T)> = keyed
            .filter(|(key, place, _)| is_behind(key, place))
            .collect();
        kept.sort_unstable_by(|one, other| {
            let order = (&one.0, &one.1).cmp(&(&other.0, &other.1));
            if self.order.down {
                order.reverse()
            } else {
                order
            }
        });
        kept.truncate(self.limit);
        Ok(kept.into_iter().map(|(.., item)| item).collect())
    }
}

/// The schema of an order: every way of writing it.
#[cfg(feature = "openapi")]
pub(crate) fn schema_of(
    fields: &'static [&'static str],
) -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
    use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};
    let written = fields
        .iter()
        .flat_map(|field| [(*field).to_owned(), format!("-{field}")]);
    let text = ObjectBuilder::new()
        .schema_type(Type::String)
        .enum_values(Some(written));
    utoipa::openapi::RefOr::T(Schema::Object(text.build()))
}

/// Orders of lists, as they are written; the first field is an item's place.
macro_rules! orders {
    ($($(#[$doc:meta])* $name:ident: $($field:literal),+;)+) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name($crate::sort::Order);

        impl $name {
            /// What the list can be ordered by; the first is the place of an item.
            pub const FIELDS: &'static [&'static str] = &[$($field),+];

            /// The order.
            #[must_use]
            pub fn order(self) -> $crate::sort::Order {
                self.0
            }
        }

        impl std::str::FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                $crate::sort::Order::parse(text, Self::FIELDS).map(Self)
            }
        }

        impl TryFrom<String> for $name {
            type Error = String;

            fn try_from(text: String) -> Result<Self, String> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(sort: $name) -> Self {
                sort.0.to_string()
            }
        }

        #[cfg(feature = "openapi")]
        impl utoipa::PartialSchema for $name {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
                $crate::sort::schema_of(Self::FIELDS)
            }
        }

        #[cfg(feature = "openapi")]
        impl utoipa::ToSchema for $name {}
    )+};
}

pub(crate) use orders;

#[cfg(test)]
mod tests {
    use super::*;

    const FIELDS: &[&str] = &["id", "size"];

    fn page(sort: &str, limit: usize, after: Option<u64>) -> Result<Vec<u64>, OperationError> {
        let part = Part {
            order: Order::parse(sort, FIELDS).expect("known"),
            after,
            limit,
        };
        // Two of the same size.
        let all = vec![(3, 10_u64), (1, 30), (5, 10), (2, 20), (4, 40)];
        let kept = part.of(
            all,
            |one| one.0,
            |one, field| match field {
                "size" => Key::from(one.1),
                other => panic!("{other}"),
            },
            |one| one.0 != 4,
        );
        kept.map(|kept| kept.into_iter().map(|one| one.0).collect())
    }

    #[test]
    fn pages_follow_each_other_in_every_order() {
        for (sort, whole) in [
            ("id", vec![1, 2, 3, 5]),
            ("-id", vec![5, 3, 2, 1]),
            ("size", vec![3, 5, 2, 1]),
            ("-size", vec![1, 2, 5, 3]),
        ] {
            assert_eq!(page(sort, usize::MAX, None), Ok(whole.clone()), "{sort}");
            let mut found = Vec::new();
            while let Ok(one) = page(sort, 1, found.last().copied()) {
                if one.is_empty() {
                    break;
                }
                found.extend(one);
            }
            assert_eq!(found, whole, "{sort}");
        }
    }

    #[test]
    fn a_page_goes_on_after_what_is_gone_only_where_its_place_is_the_order() {
        assert_eq!(page("id", 9, Some(0)), Ok(vec![1, 2, 3, 5]));
        assert!(page("size", 9, Some(0)).is_err());
        // It does not pass the filter, and says where to go on all the same.
        assert_eq!(page("-size", 1, Some(4)), Ok(vec![1]));
    }

    #[test]
    fn an_order_is_read_as_it_is_written_and_another_is_told_what_there_is() {
        for text in ["id", "-id", "size", "-size"] {
            let order = Order::parse(text, FIELDS).expect("known");
            assert_eq!(order.to_string(), text);
            assert_eq!(order.is_place, text.ends_with("id"));
        }
        for odd in ["", "-", "--id", "name", "size "] {
            let refused = Order::parse(odd, FIELDS).expect_err("unknown");
            assert!(refused.contains("id, size"), "{refused}");
        }
        assert!(Key::Nothing < Key::from(0_u64) && Key::from(Some("a")) < Key::from("b"));
    }

    #[test]
    fn a_page_has_a_bound() {
        assert!(check_limit(Some(0)).is_err() && check_limit(Some(1001)).is_err());
        assert_eq!(check_limit(Some(1000)), Ok(1000));
        assert_eq!(check_limit(None), Ok(usize::MAX));
    }
}
