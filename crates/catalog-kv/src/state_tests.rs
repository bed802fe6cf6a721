use super::*;

fn put(state: &mut State, key: &str, value: &str) -> Revision {
    let op = Op::Put(key.to_owned(), value.as_bytes().to_vec());
    match state.txn(&[], vec![op]) {
        Ok(Outcome::Committed(revision)) => revision,
        other => panic!("{other:?}"),
    }
}

fn put_leased(state: &mut State, key: &str, lease: LeaseId) -> Result<Outcome, KvError> {
    let op = Op::PutLeased(key.to_owned(), Vec::new(), lease);
    state.txn(&[], vec![op])
}

#[test]
fn a_change_of_nothing_keeps_the_revision() {
    let mut state = State::new();
    let before = state.revision();
    let outcome = state.txn(&[], vec![Op::Delete("none".to_owned())]);
    assert_eq!(outcome, Ok(Outcome::Committed(before)));
    assert_eq!(state.txn(&[], vec![]), Ok(Outcome::Committed(before)));
}

#[test]
fn an_overwritten_key_leaves_its_lease() {
    let mut state = State::new();
    let lease = state.grant(Duration::from_secs(3), Time(0));
    put_leased(&mut state, "kept", lease).expect("the lease runs");
    put_leased(&mut state, "gone", lease).expect("the lease runs");
    put(&mut state, "kept", "for good");
    let before = state.revision();
    assert_eq!(state.expire(Time(0) + Duration::from_secs(3)), [lease]);
    assert_eq!(state.revision(), before + 1);
    assert!(state.get("kept").is_some());
    assert!(state.get("gone").is_none());
    assert_eq!(
        put_leased(&mut state, "late", lease),
        Err(KvError::LeaseEnded)
    );
    assert_eq!(state.renew(lease, Time(0)), Err(KvError::LeaseEnded));
}

#[test]
fn a_failed_condition_counts_before_an_ended_lease() {
    let mut state = State::new();
    put(&mut state, "taken", "");
    let op = Op::PutLeased("key".to_owned(), Vec::new(), LeaseId(77));
    let outcome = state.txn(&[Compare::Absent("taken".to_owned())], vec![op]);
    assert_eq!(outcome, Ok(Outcome::Conflict));
}

#[test]
fn a_renewed_lease_outlives_its_first_deadline() {
    let mut state = State::new();
    let lease = state.grant(Duration::from_secs(3), Time(0));
    let later = Time(0) + Duration::from_secs(2);
    state.renew(lease, later).expect("in time");
    assert_eq!(state.deadline_next(), Some(later + Duration::from_secs(3)));
    assert!(state.expire(Time(0) + Duration::from_secs(4)).is_empty());
}

#[test]
fn history_is_bounded_and_says_what_it_forgot() {
    let mut state = State::new();
    let first = put(&mut state, "a/0", "");
    for index in 0..HISTORY_CHANGES_MAX {
        put(&mut state, &format!("a/{index}"), "");
        state.trim();
    }
    assert_eq!(state.history.len(), HISTORY_CHANGES_MAX);
    assert_eq!(state.scan("a/", 0).map(drop), Err(KvError::Compacted(0)));
    let scan = state.scan("a/", first).expect("just kept");
    assert_eq!(scan.changes.len(), SCAN_CHANGES_MAX);
    assert_eq!(scan.through, first + SCAN_CHANGES_MAX as u64);
}

#[test]
fn large_rows_shorten_the_history() {
    let mut state = State::new();
    for _ in 0..80 {
        let op = Op::Put("a".to_owned(), vec![0; 1 << 20]);
        state.txn(&[], vec![op]).expect("no lease");
        state.trim();
    }
    assert!(state.history_bytes <= HISTORY_BYTES_MAX);
    assert!(state.history.len() >= 60);
    state.compact();
    assert_eq!(state.history_bytes, 0);
}

#[test]
fn one_revision_is_never_split() {
    let mut state = State::new();
    let lease = state.grant(Duration::from_secs(3), Time(0));
    for index in 0..SCAN_CHANGES_MAX + 500 {
        put_leased(&mut state, &format!("{index}"), lease).expect("the lease runs");
    }
    let before = state.revision();
    put(&mut state, "x", "");
    state.revoke(lease);
    let scan = state.scan("", before).expect("kept");
    assert_eq!(scan.changes.len(), SCAN_CHANGES_MAX + 501);
    assert_eq!(scan.through, state.revision());
}

#[test]
fn a_watch_of_the_future_waits_for_it() {
    let mut state = State::new();
    let ahead = state.revision() + 1;
    put(&mut state, "a", "1");
    let scan = state.scan("", ahead).expect("nothing forgotten");
    assert!(scan.changes.is_empty());
    let scan = state.scan("", ahead + 5).expect("nothing forgotten");
    assert_eq!(scan.through, ahead + 5);
}
