//! The numbers of messages on the wire, pinned: nodes of two releases that follow each other talk to one another.
//!
//! A variant that is added is added to the end here, too. A field cannot be added to one that is there: that takes a new variant, which an
//! older node refuses without harm (docs/protocols/rpc.md).

use crate::{NodeError, NodeReply, NodeRequest, StoreError, StoreReply, StoreRequest};
use serde::Deserialize;
use serde::de::value::Error;
use serde::de::{Deserializer, Error as _, Visitor};
use serde::forward_to_deserialize_any;

/// Asks an enum for the names of its variants, in the order of their numbers.
struct Names<'a>(&'a mut Vec<&'static str>);

impl<'de> Deserializer<'de> for Names<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Error> {
        Err(Error::custom("not an enum"))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Error> {
        self.0.extend(variants);
        Err(Error::custom("the names are known"))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}

/// Names of the variants of an enum, in the order of their numbers.
pub fn names<T: for<'de> Deserialize<'de>>() -> String {
    let mut names = Vec::new();
    assert!(T::deserialize(Names(&mut names)).is_err());
    names.join(" ")
}

#[test]
fn numbers_of_messages_do_not_change() {
    assert_eq!(
        names::<StoreRequest>(),
        "Status Fence Append FlushLog ReadLog TrimLog DropLog Confirm PromiseGroup PutExtent FlushExtents ReadFrames \
         ReadExtent DeleteExtents CompactExtent ListExtents ClearMissing ListLogs ForgetTombstones LeaveGroup PutNotes \
         ListNotes GroupSizes CopyExtent"
    );
    assert_eq!(
        names::<StoreReply>(),
        "Done Status Fenced Appended Records Confirmed Frames Extent Extents Logs Kept Notes GroupSizes"
    );
    assert_eq!(
        names::<StoreError>(),
        "StaleEpoch StaleGeneration WrongIncarnation Gap Absent NoSegment Full JournalFull Damaged Failed BadRequest"
    );
    assert_eq!(
        names::<NodeRequest>(),
        "Locate Open Read Write Flush Unmap Allocation Refresh Close Operate"
    );
    assert_eq!(
        names::<NodeReply>(),
        "Done Located Opened Allocation Answer"
    );
    assert_eq!(
        names::<NodeError>(),
        "NoVolume NotOwner Busy Detached BadRequest NoSpace Failed"
    );
}
