use super::*;
use crate::pattern::Content;
use blockdev::WriteMode;
use vocab::Lba;

mod model;

const SEED: u64 = 77;

fn write(history: &mut History, lba: u64, blocks: u64) -> OpId {
    let mode = WriteMode::Buffered;
    let lba = Lba(lba);
    history.on_issue(Action::Write { lba, blocks, mode })
}

fn written(history: &mut History, lba: u64) -> OpId {
    let op = write(history, lba, 1);
    history.on_ack(op);
    op
}

fn flush(history: &mut History) {
    let op = history.on_issue(Action::Flush);
    history.on_ack(op);
}

fn of(op: OpId, lba: u64) -> Content {
    Content::Written {
        seed: SEED,
        lba: Lba(lba),
        version: op.0,
    }
}

fn read(history: &mut History, lba: u64, content: Content) -> Result<(), Violation> {
    let read = history.begin_read(Lba(lba), 1);
    history.on_read(read, &[content])
}

#[track_caller]
fn says(outcome: Result<(), Violation>, words: &[&str]) {
    let text = outcome.expect_err("a violation").to_string();
    for word in words {
        assert!(text.contains(word), "{word:?} is not in {text:?}");
    }
}

#[test]
fn a_read_returns_the_last_acknowledged_write() {
    let mut history = History::new(SEED, 8);
    assert_eq!(read(&mut history, 3, Content::Zero), Ok(()));
    let first = written(&mut history, 3);
    let second = written(&mut history, 3);
    assert_eq!(read(&mut history, 3, of(second, 3)), Ok(()));
    says(
        read(&mut history, 3, of(first, 3)),
        &["lba-3 returned", "op-1 (write of 1 at lba-3", "op-2"],
    );
    says(
        read(&mut history, 3, Content::Zero),
        &["lba-3", "began with"],
    );
}

#[test]
fn a_read_during_a_write_may_return_either_but_never_goes_back() {
    let mut history = History::new(SEED, 8);
    let old = written(&mut history, 0);
    let new = write(&mut history, 0, 1);
    assert_eq!(read(&mut history, 0, of(old, 0)), Ok(()));
    assert_eq!(read(&mut history, 0, of(new, 0)), Ok(()));
    says(
        read(&mut history, 0, of(old, 0)),
        &["lba-0", "version 1", "version 2"],
    );
}

#[test]
fn a_failed_write_may_appear_but_not_vanish_once_seen() {
    let mut history = History::new(SEED, 8);
    let old = written(&mut history, 0);
    let failed = write(&mut history, 0, 1);
    history.on_fail(failed);
    assert_eq!(read(&mut history, 0, of(old, 0)), Ok(()));
    // It had happened before it failed, or not at all: a read after that said not.
    says(read(&mut history, 0, of(failed, 0)), &["failed t", "op-1"]);
    let mut history = History::new(SEED, 8);
    let failed = write(&mut history, 0, 1);
    history.on_fail(failed);
    assert_eq!(read(&mut history, 0, of(failed, 0)), Ok(()));
    says(read(&mut history, 0, Content::Zero), &["lba-0", "op-1"]);
}

#[test]
fn an_abandoned_write_may_happen_until_the_takeover() {
    let mut history = History::new(SEED, 8);
    let old = written(&mut history, 0);
    let late = write(&mut history, 0, 1);
    history.on_abandon(late);
    assert_eq!(read(&mut history, 0, of(old, 0)), Ok(()));
    let other = write(&mut history, 1, 1);
    history.on_abandon(other);
    assert_eq!(read(&mut history, 0, of(late, 0)), Ok(()));
    history.on_takeover();
    assert_eq!(read(&mut history, 1, Content::Zero), Ok(()));
    says(
        read(&mut history, 1, of(other, 1)),
        &["lba-1", "fenced off"],
    );
}

#[test]
fn blocks_that_were_never_written_so_are_refused() {
    let mut history = History::new(SEED, 8);
    let op = written(&mut history, 0);
    says(
        read(&mut history, 0, Content::Foreign),
        &["lba-0", "no writer"],
    );
    says(
        read(&mut history, 1, of(op, 0)),
        &["lba-1", "version 1 of lba-0"],
    );
    says(read(&mut history, 1, of(OpId(9), 1)), &["never issued"]);
    let content = Content::Written {
        seed: 5,
        lba: Lba(1),
        version: 1,
    };
    says(read(&mut history, 1, content), &["another device"]);
    let id = history.begin_read(Lba(0), 2);
    says(
        history.on_read(id, &[of(op, 0)]),
        &["2 blocks", "returned 1"],
    );
}

#[test]
fn zeros_need_an_unmap_or_a_fresh_block() {
    let mut history = History::new(SEED, 8);
    written(&mut history, 2);
    says(read(&mut history, 2, Content::Zero), &["lba-2"]);
    let lba = Lba(0);
    let unmap = history.on_issue(Action::Unmap { lba, blocks: 8 });
    assert_eq!(read(&mut history, 2, Content::Zero), Ok(()));
    history.on_ack(unmap);
    assert_eq!(read(&mut history, 2, Content::Zero), Ok(()));
    says(
        read(&mut history, 2, of(OpId(1), 2)),
        &["unmap of 8 at lba-0"],
    );
}

fn crash(history: &mut History, image: &[Content]) -> Result<(), Violation> {
    history.on_crash();
    history.verify_image(|lba| image[usize::try_from(lba.0).expect("small")])
}

#[test]
fn a_crash_may_lose_the_end_of_the_issue_order_but_nothing_flushed() {
    let begin = || {
        let mut history = History::new(SEED, 2);
        let (a, b) = (written(&mut history, 0), written(&mut history, 1));
        flush(&mut history);
        let (c, d) = (written(&mut history, 0), written(&mut history, 1));
        (history, of(a, 0), of(b, 1), of(c, 0), of(d, 1))
    };
    let (mut history, a, b, c, d) = begin();
    assert_eq!(crash(&mut history, &[a, b]), Ok(()));
    assert_eq!(read(&mut history, 0, a), Ok(()));
    says(read(&mut history, 0, c), &["lba-0", "overwritten or lost"]);
    let (mut history, ..) = begin();
    assert_eq!(crash(&mut history, &[c, b]), Ok(()));
    let (mut history, ..) = begin();
    assert_eq!(crash(&mut history, &[c, d]), Ok(()));
    let (mut history, ..) = begin();
    says(
        crash(&mut history, &[a, d]),
        &[
            "lba-0 holds version 1",
            "version 4 of op-4",
            "before op-5",
            "is there",
        ],
    );
    let (mut history, ..) = begin();
    says(
        crash(&mut history, &[Content::Zero, b]),
        &[
            "lba-0",
            "vanished",
            "may hold version 4 of op-4",
            "version 1 of op-1",
        ],
    );
}

#[test]
fn a_fua_write_survives_without_a_flush_and_with_all_before_it() {
    let begin = || {
        let mut history = History::new(SEED, 2);
        let plain = written(&mut history, 0);
        let (lba, blocks, mode) = (Lba(1), 1, WriteMode::Fua);
        let fua = history.on_issue(Action::Write { lba, blocks, mode });
        history.on_ack(fua);
        (history, of(plain, 0), of(fua, 1))
    };
    let (mut history, plain, fua) = begin();
    assert_eq!(crash(&mut history, &[plain, fua]), Ok(()));
    let (mut history, plain, _) = begin();
    says(
        crash(&mut history, &[plain, Content::Zero]),
        &["lba-1", "FUA write"],
    );
    let (mut history, _, fua) = begin();
    says(
        crash(&mut history, &[Content::Zero, fua]),
        &["lba-0", "op-1", "before op-2"],
    );
}

#[test]
fn concurrent_writes_survive_a_crash_in_any_combination() {
    let begin = || {
        let mut history = History::new(SEED, 2);
        let (a, b) = (write(&mut history, 0, 1), write(&mut history, 1, 1));
        history.on_ack(a);
        history.on_ack(b);
        (history, of(a, 0), of(b, 1))
    };
    for (first, second) in [(true, true), (true, false), (false, true), (false, false)] {
        let (mut history, a, b) = begin();
        let pick = |there, content| if there { content } else { Content::Zero };
        assert_eq!(
            crash(&mut history, &[pick(first, a), pick(second, b)]),
            Ok(())
        );
    }
}

#[test]
fn a_snapshot_holds_one_moment_between_call_and_return() {
    let mut history = History::new(SEED, 3);
    let before = written(&mut history, 0);
    let during = write(&mut history, 1, 1);
    let cut = history.begin_cut();
    history.on_ack(during);
    let causal = written(&mut history, 2);
    let snapshot = history.end_cut(cut);
    let after = written(&mut history, 0);
    says(
        snapshot.on_read(Lba(0), &[of(after, 0)]),
        &["lba-0", "op-4"],
    );

    let image = |zero: Content, one: Content, two: Content| {
        let mut history = History::new(SEED, 3);
        written(&mut history, 0);
        let during = write(&mut history, 1, 1);
        let cut = history.begin_cut();
        history.on_ack(during);
        written(&mut history, 2);
        let snapshot = history.end_cut(cut);
        snapshot.on_read(Lba(0), &[zero, one, two])
    };
    let (a, b, c, zero) = (of(before, 0), of(during, 1), of(causal, 2), Content::Zero);
    assert_eq!(image(a, b, c), Ok(()));
    assert_eq!(image(a, b, zero), Ok(()));
    assert_eq!(image(a, zero, zero), Ok(()));
    says(image(zero, b, c), &["lba-0", "ended before the snapshot"]);
    says(image(a, zero, c), &["lba-1", "op-2", "before op-3"]);
}

#[test]
fn a_snapshot_and_its_clones_agree_for_ever() {
    let mut history = History::new(SEED, 2);
    let op = write(&mut history, 0, 1);
    let cut = history.begin_cut();
    history.on_ack(op);
    let snapshot = history.end_cut(cut);
    let mut clone = History::clone_of(&snapshot, 78, 3);
    assert_eq!(read(&mut clone, 2, Content::Zero), Ok(()));
    assert_eq!(read(&mut clone, 0, of(op, 0)), Ok(()));
    says(
        snapshot.on_read(Lba(0), &[Content::Zero]),
        &["lba-0", "version 1", "before"],
    );
    let own = written(&mut clone, 0);
    says(read(&mut clone, 0, of(op, 0)), &["lba-0", "version 1"]);
    let content = Content::Written {
        seed: 78,
        lba: Lba(0),
        version: own.0,
    };
    assert_eq!(read(&mut clone, 0, content), Ok(()));
    says(read(&mut history, 0, content), &["another device"]);
    assert_eq!(
        crash(&mut clone, &[of(op, 0), Content::Zero, Content::Zero]),
        Ok(())
    );
    assert_eq!(read(&mut clone, 0, of(op, 0)), Ok(()));
}

#[test]
fn values_are_forgotten_once_they_are_overwritten_durably() {
    let mut history = History::new(SEED, 4);
    for round in 0..20_000u64 {
        written(&mut history, round % 4);
        if round % 16 == 0 {
            flush(&mut history);
        }
    }
    assert!(history.values() < 32, "{} values", history.values());
}

#[test]
fn a_write_of_a_client_that_was_fenced_off_cannot_land_later() {
    let mut history = History::new(SEED, 8);
    let old = written(&mut history, 3);
    let early = write(&mut history, 3, 1);
    history.on_fenced();
    // It may have happened before the fence, also when its answer comes after it.
    let mut happened = read(&mut history, 3, of(early, 3));
    assert_eq!(happened, Ok(()));
    history.on_ack(early);
    happened = read(&mut history, 3, of(early, 3));
    assert_eq!(happened, Ok(()));
    says(
        read(&mut history, 3, of(old, 3)),
        &["lba-3 returned", "op-1"],
    );

    let late = write(&mut history, 5, 1);
    history.on_fenced();
    assert_eq!(read(&mut history, 5, Content::Zero), Ok(()));
    says(read(&mut history, 5, of(late, 5)), &["lba-5 returned"]);
    history.on_fail(late);
    says(read(&mut history, 5, of(late, 5)), &["lba-5 returned"]);
}
