//! Idempotency keys: carried out once, answered as long as there is room, begun again when nothing came of it.

use super::tasks::run;
use catalog::Once;
use serde_json::json;

const MINUTE: u64 = 60_000;

fn digest(number: u64) -> String {
    format!(
        "{number:016x}{:016x}{:016x}{:016x}",
        number + 1,
        number + 2,
        number + 3
    )
}

#[test]
fn a_change_is_begun_once_and_answered_ever_after() {
    run(async |catalog| {
        let key = digest(7);
        let begin = async |request, now| catalog.begin_once(&key, request, now).await.unwrap();
        assert_eq!(begin("create", 0).await, Once::Begun);
        assert_eq!(begin("create", MINUTE).await, Once::Running);
        assert_eq!(begin("delete", MINUTE).await, Once::Other);
        let answer = json!({"volume": "a"});
        catalog
            .end_once(&key, "create", Some(&answer), MINUTE)
            .await
            .unwrap();
        assert_eq!(
            begin("create", 100 * MINUTE).await,
            Once::Answered(answer.clone())
        );
        // A late word of another end changes nothing.
        catalog
            .end_once(&key, "create", None, MINUTE)
            .await
            .unwrap();
        assert_eq!(begin("create", 100 * MINUTE).await, Once::Answered(answer));
    });
}

#[test]
fn what_came_to_nothing_may_be_begun_again() {
    run(async |catalog| {
        let key = digest(7);
        let begin = async |now| catalog.begin_once(&key, "create", now).await.unwrap();
        assert_eq!(begin(0).await, Once::Begun);
        catalog.end_once(&key, "create", None, 1).await.unwrap();
        assert_eq!(begin(2).await, Once::Begun);
        // Whoever carried it out is gone.
        assert_eq!(begin(4 * MINUTE).await, Once::Running);
        assert_eq!(begin(6 * MINUTE).await, Once::Begun);
        assert_eq!(begin(6 * MINUTE).await, Once::Running);
    });
}

#[test]
fn a_place_is_taken_from_the_old_and_never_from_the_young() {
    run(async |catalog| {
        // Five keys with the same four places.
        let key = |last: u64| {
            let slots = 16_384;
            format!(
                "{:016x}{:016x}{:016x}{:016x}",
                1,
                2 + slots,
                3,
                4 + last * slots
            )
        };
        let begin = async |last, now| catalog.begin_once(&key(last), "x", now).await.unwrap();
        for last in 0..4 {
            assert_eq!(begin(last, 0).await, Once::Begun);
            catalog
                .end_once(&key(last), "x", Some(&json!(last)), 0)
                .await
                .unwrap();
        }
        assert_eq!(begin(4, 9 * MINUTE).await, Once::Crowded);
        assert_eq!(begin(3, 9 * MINUTE).await, Once::Answered(json!(3)));
        assert_eq!(begin(4, 10 * MINUTE).await, Once::Begun);
        assert_eq!(begin(4, 10 * MINUTE).await, Once::Running);
        let kept = [begin(1, 10 * MINUTE).await, begin(2, 10 * MINUTE).await];
        assert_eq!(kept, [Once::Answered(json!(1)), Once::Answered(json!(2))]);
    });
}

#[test]
fn what_is_no_digest_is_refused() {
    run(async |catalog| {
        for text in [
            "",
            "zz",
            "\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}",
        ] {
            assert!(catalog.begin_once(text, "x", 0).await.is_err(), "{text}");
        }
    });
}
