//! The bounds of [`catalog::kv::Kv`], held by every backend alike, so that nothing works on one machine
//! and fails in a cluster. etcd's own defaults are the strictest and set them.

use catalog::kv::{Compare, KvError, LeaseId, Op};
use std::collections::BTreeSet;
use world::Duration;

/// etcd refuses requests above 1.5 MiB.
pub(crate) const VALUE_BYTES_MAX: usize = 1 << 20;
/// All keys and values of one transaction: below etcd's 1.5 MiB with room for its framing.
pub(crate) const TXN_BYTES_MAX: usize = VALUE_BYTES_MAX + (256 << 10);
/// etcd's `--max-txn-ops`, which counts compares and changes apart.
pub(crate) const TXN_OPS_MAX: usize = 128;

/// What a change does, by key.
pub(crate) fn key_of(op: &Op) -> &str {
    match op {
        Op::Put(key, _) | Op::PutLeased(key, _, _) | Op::Delete(key) => key,
    }
}

/// The value a change writes and its lease; `None` for a deletion.
pub(crate) fn written(op: &Op) -> Option<(&[u8], Option<LeaseId>)> {
    match op {
        Op::Put(_, value) => Some((value, None)),
        Op::PutLeased(_, value, lease) => Some((value, Some(*lease))),
        Op::Delete(_) => None,
    }
}

fn refused(what: &str) -> KvError {
    KvError::Unavailable(format!(
        "the transaction was refused and changed nothing: {what}; repeating it will not help, \
         please report it"
    ))
}

/// Whether a transaction is within bounds.
pub(crate) fn check_txn(compares: &[Compare], changes: &[Op]) -> Result<(), KvError> {
    if compares.len() > TXN_OPS_MAX || changes.len() > TXN_OPS_MAX {
        return Err(refused(&format!(
            "{} compares and {} changes, at most {TXN_OPS_MAX} of each fit",
            compares.len(),
            changes.len()
        )));
    }
    let mut keys = BTreeSet::new();
    let mut bytes = 0_usize;
    for op in changes {
        let key = key_of(op);
        if key.is_empty() {
            return Err(refused("a key is empty"));
        }
        if !keys.insert(key) {
            return Err(refused(&format!("key {key} is changed twice")));
        }
        let value_bytes = written(op).map_or(0, |(value, _)| value.len());
        if value_bytes > VALUE_BYTES_MAX {
            return Err(refused(&format!(
                "the value of {key} has {value_bytes} bytes, at most {VALUE_BYTES_MAX} fit"
            )));
        }
        bytes += key.len() + value_bytes;
    }
    if bytes > TXN_BYTES_MAX {
        return Err(refused(&format!(
            "its keys and values have {bytes} bytes, at most {TXN_BYTES_MAX} fit"
        )));
    }
    Ok(())
}

/// A time to live in whole seconds, rounded up, at least 1.
pub(crate) fn ttl_seconds(ttl: Duration) -> u64 {
    let partial = u64::from(ttl.subsec_nanos() > 0);
    ttl.as_secs().saturating_add(partial).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transactions_out_of_bounds_are_refused() {
        let put = |key: &str, bytes: usize| Op::Put(key.to_owned(), vec![0; bytes]);
        assert!(check_txn(&[], &[put("a", VALUE_BYTES_MAX)]).is_ok());
        let many = (0..129).map(|index| put(&index.to_string(), 1)).collect();
        let absent = vec![Compare::Absent("a".to_owned()); 129];
        let cases: [(Vec<Compare>, Vec<Op>, &str); 6] = [
            (vec![], many, "129 changes"),
            (absent, vec![], "129 compares"),
            (vec![], vec![put("", 1)], "empty"),
            (
                vec![],
                vec![put("a", 1), Op::Delete("a".to_owned())],
                "twice",
            ),
            (
                vec![],
                vec![put("a", VALUE_BYTES_MAX + 1)],
                "the value of a",
            ),
            (
                vec![],
                vec![put("a", 1 << 20), put("b", 1 << 19)],
                "keys and values",
            ),
        ];
        for (compares, changes, what) in cases {
            let error = check_txn(&compares, &changes).expect_err(what);
            assert!(error.to_string().contains(what), "{error}");
        }
    }

    #[test]
    fn times_to_live_are_rounded_up_to_whole_seconds() {
        assert_eq!(ttl_seconds(Duration::ZERO), 1);
        assert_eq!(ttl_seconds(Duration::from_millis(1_500)), 2);
        assert_eq!(ttl_seconds(Duration::from_secs(7)), 7);
    }
}
