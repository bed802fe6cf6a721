//! Users, sessions, the audit log and the feed of changes, on nodes that serve an API.

use crate::support::Cluster;
use api::{
    Answer, AuditEntry, AuditQuery, ErrorKind, OnceAnswer, OnceStep, Operation, OperationError,
    Scope, SessionAnswer, TokenAnswer, TokenSpec, UserRole,
};
use catalog_kv::memory::Outage;
use world::Duration;

/// Three nodes that serve an API and so follow users and sessions.
fn cluster(seed: u64) -> Cluster {
    Cluster::with_apis(seed, 3)
}

fn create(name: &str, role: UserRole) -> Operation {
    Operation::UserCreate {
        name: name.to_owned(),
        role,
        hash: format!("hash of {name}"),
    }
}

fn delete(name: &str) -> Operation {
    Operation::UserDelete {
        name: name.to_owned(),
    }
}

fn set(name: &str, role: Option<UserRole>, hash: Option<&str>) -> Operation {
    Operation::UserSet {
        name: name.to_owned(),
        role,
        hash: hash.map(str::to_owned),
    }
}

fn begin(user: &str, hash: &str) -> Operation {
    Operation::SessionCreate {
        user: user.to_owned(),
        password: format!("hash of {user}"),
        hash: hash.to_owned(),
    }
}

fn find(cluster: &Cluster, index: usize, hash: &str) -> Result<SessionAnswer, ErrorKind> {
    let hash = hash.to_owned();
    match cluster.try_operate(index, Operation::SessionFind { hash }) {
        Ok(Answer::Session(session)) => Ok(session),
        Ok(other) => panic!("not a session: {other:?}"),
        Err(error) => Err(error.kind),
    }
}

fn kind(result: Result<Answer, OperationError>) -> Option<ErrorKind> {
    result.err().map(|error| error.kind)
}

fn sleep(cluster: &Cluster, time: Duration) {
    let world = cluster.machines[0].host.world();
    cluster.run(0, async move { world.sleep(time).await });
}

#[test]
fn an_administrator_is_always_left() {
    let cluster = cluster(71);
    cluster.operate(0, create("ann", UserRole::Admin));
    let refused = Some(ErrorKind::Refused);
    assert_eq!(kind(cluster.try_operate(1, delete("ann"))), refused);
    let demoted = set("ann", Some(UserRole::Viewer), None);
    assert_eq!(kind(cluster.try_operate(1, demoted)), refused);
    let again = create("ann", UserRole::Viewer);
    assert_eq!(kind(cluster.try_operate(2, again)), Some(ErrorKind::Exists));
    cluster.operate(2, create("bob", UserRole::Admin));
    cluster.operate(1, delete("ann"));
    assert_eq!(kind(cluster.try_operate(0, delete("bob"))), refused);
}

#[test]
fn two_administrators_cannot_take_each_other_away_at_once() {
    let cluster = cluster(72);
    cluster.operate(0, create("ann", UserRole::Admin));
    cluster.operate(0, create("bob", UserRole::Admin));
    let (one, other) = (cluster.node(0), cluster.node(1));
    let both = cluster.run(0, async move {
        futures_util::future::join(one.operate(delete("ann")), other.operate(delete("bob"))).await
    });
    let done = usize::from(both.0.is_ok()) + usize::from(both.1.is_ok());
    assert_eq!(done, 1, "{both:?}");
}

#[test]
fn a_session_counts_on_every_node_without_the_catalog_and_ends_everywhere() {
    let cluster = cluster(73);
    cluster.operate(0, create("ann", UserRole::Admin));
    cluster.operate(0, create("olga", UserRole::Operator));
    cluster.operate(0, begin("olga", "s1"));
    // Also where the watch has not told of it yet.
    for index in 0..3 {
        assert_eq!(
            find(&cluster, index, "s1").unwrap().user.as_deref(),
            Some("olga")
        );
    }
    assert_eq!(find(&cluster, 1, "none"), Err(ErrorKind::Unauthenticated));
    sleep(&cluster, Duration::from_secs(1));
    cluster.set_outage_of(2, Outage::Before);
    assert!(
        find(&cluster, 2, "s1").is_ok(),
        "what is known needs no catalog"
    );
    cluster.set_outage_of(2, Outage::None);
    // Another password ends it, at once where that was said and soon elsewhere.
    cluster.operate(1, set("olga", None, Some("another hash")));
    assert_eq!(find(&cluster, 1, "s1"), Err(ErrorKind::Unauthenticated));
    sleep(&cluster, Duration::from_secs(2));
    for index in [0, 2] {
        assert_eq!(find(&cluster, index, "s1"), Err(ErrorKind::Unauthenticated));
    }
    // A password that was compared before it changed begins nothing.
    let late = cluster.try_operate(0, begin("olga", "s2"));
    assert_eq!(kind(late), Some(ErrorKind::Unauthenticated));
    // A user made anew under the same name gets none of the old one's sessions.
    cluster.operate(0, create("vera", UserRole::Viewer));
    cluster.operate(0, begin("vera", "s3"));
    cluster.operate(0, delete("vera"));
    cluster.operate(0, create("vera", UserRole::Admin));
    sleep(&cluster, Duration::from_secs(2));
    for index in 0..3 {
        assert_eq!(find(&cluster, index, "s3"), Err(ErrorKind::Unauthenticated));
    }
}

#[test]
fn sessions_end_with_their_time_and_are_bounded() {
    let cluster = cluster(74);
    cluster.operate(0, create("ann", UserRole::Admin));
    for number in 0..catalog::SESSIONS_MAX + 3 {
        cluster.operate(0, begin("ann", &format!("s{number}")));
        sleep(&cluster, Duration::from_millis(10));
    }
    sleep(&cluster, Duration::from_secs(1));
    for (number, counts) in [(0, false), (2, false), (3, true), (18, true)] {
        assert_eq!(
            find(&cluster, 1, &format!("s{number}")).is_ok(),
            counts,
            "{number}"
        );
    }
    cluster.operate(2, Operation::SessionDelete { hash: "s3".into() });
    sleep(&cluster, Duration::from_secs(1));
    assert!(find(&cluster, 0, "s3").is_err());
}

/// As if it were the hash of the secret of a token of this name: 64 hexadecimal digits.
fn hash_of(name: &str) -> String {
    let digits: String = name.bytes().map(|byte| format!("{byte:02x}")).collect();
    format!("{digits:0>64}")
}

/// A token; a personal one, if a user is named.
fn token(name: &str, scope: Scope, user: Option<&str>) -> Operation {
    let spec = TokenSpec {
        name: name.to_owned(),
        scope,
        containers: Vec::new(),
        kubernetes: Vec::new(),
        all_containers: false,
        personal: user.is_some(),
    };
    Operation::TokenCreate {
        spec,
        hash: hash_of(name),
        user: user.map(str::to_owned),
    }
}

fn drop_token(name: &str, user: Option<&str>) -> Operation {
    Operation::TokenDelete {
        name: name.to_owned(),
        user: user.map(str::to_owned),
    }
}

/// What a token allows.
fn allowed(cluster: &Cluster, index: usize, name: &str) -> Result<Scope, ErrorKind> {
    let hash = hash_of(name);
    match cluster.try_operate(index, Operation::TokenFind { hash }) {
        Ok(Answer::Token(token)) => Ok(token.scope),
        Ok(other) => panic!("not a token: {other:?}"),
        Err(error) => Err(error.kind),
    }
}

fn tokens(cluster: &Cluster) -> Vec<TokenAnswer> {
    match cluster.operate(1, Operation::TokenList) {
        Answer::Tokens(tokens) => tokens,
        other => panic!("not tokens: {other:?}"),
    }
}

fn show_token(cluster: &Cluster, name: &str, user: Option<&str>) -> Result<TokenAnswer, ErrorKind> {
    let show = Operation::TokenShow {
        name: name.to_owned(),
        user: user.map(str::to_owned),
    };
    match cluster.try_operate(1, show) {
        Ok(Answer::Token(token)) => Ok(token),
        Ok(other) => panic!("not a token: {other:?}"),
        Err(error) => Err(error.kind),
    }
}

#[test]
fn one_user_is_shown_as_in_the_list_and_changed_on_top_of_that() {
    let cluster = cluster(80);
    cluster.operate(0, create("ann", UserRole::Admin));
    cluster.operate(0, create("olga", UserRole::Viewer));
    cluster.operate(0, begin("olga", "s1"));
    let show = |name: &str| Operation::UserShow {
        name: name.to_owned(),
    };
    let Answer::User(shown) = cluster.operate(2, show("olga")) else {
        panic!("not a user");
    };
    let Answer::Users(listed) = cluster.operate(1, Operation::UserList) else {
        panic!("not users");
    };
    assert_eq!(shown, listed[1]);
    assert_eq!((shown.role, shown.sessions), (UserRole::Viewer, 1));
    let change = set("olga", Some(UserRole::Operator), None);
    cluster.operate(1, change.clone().on_top_of(shown.version));
    let stale = cluster.try_operate(1, change.on_top_of(shown.version));
    assert_eq!(kind(stale), Some(ErrorKind::Changed));
    let missing = cluster.try_operate(0, show("none"));
    assert_eq!(kind(missing), Some(ErrorKind::NotFound));
}

/// What is left of a personal token whose user is gone is in no list, and nobody sees it by its name.
#[test]
fn a_token_that_does_not_count_is_not_shown() {
    let cluster = cluster(81);
    cluster.operate(0, create("ann", UserRole::Admin));
    cluster.operate(0, create("olga", UserRole::Viewer));
    cluster.operate(0, token("script", Scope::Viewer, Some("olga")));
    assert!(show_token(&cluster, "script", None).is_ok());
    cluster.operate(0, delete("olga"));
    assert_eq!(
        show_token(&cluster, "script", None),
        Err(ErrorKind::NotFound)
    );
}

#[test]
fn a_personal_token_allows_no_more_than_its_user_may_now() {
    let cluster = cluster(78);
    cluster.operate(0, create("ann", UserRole::Admin));
    cluster.operate(0, create("olga", UserRole::Operator));
    let forbidden = Some(ErrorKind::Forbidden);
    let more = cluster.try_operate(0, token("more", Scope::Admin, Some("olga")));
    assert_eq!(kind(more), forbidden);
    for odd in [Scope::Csi, Scope::Client] {
        let odd = kind(cluster.try_operate(0, token("odd", odd, Some("olga"))));
        assert_eq!(odd, Some(ErrorKind::BadRequest));
    }
    cluster.operate(0, token("script", Scope::Operator, Some("olga")));
    cluster.operate(1, token("looks", Scope::Viewer, Some("olga")));
    cluster.operate(2, token("ci", Scope::Operator, None));
    assert_eq!(allowed(&cluster, 2, "script"), Ok(Scope::Operator));
    // Less with the role, at once and everywhere; with more, no more than it was made for.
    for (role, script) in [
        (UserRole::Viewer, Scope::Viewer),
        (UserRole::Admin, Scope::Operator),
    ] {
        cluster.operate(0, set("olga", Some(role), None));
        for index in 0..3 {
            assert_eq!(allowed(&cluster, index, "script"), Ok(script));
            assert_eq!(allowed(&cluster, index, "looks"), Ok(Scope::Viewer));
        }
        let listed = tokens(&cluster);
        let listed = listed.iter().find(|one| one.name == "script").unwrap();
        assert_eq!(
            (listed.scope, listed.user.as_deref()),
            (script, Some("olga"))
        );
        let shown = show_token(&cluster, "script", Some("olga"));
        assert_eq!(shown.as_ref(), Ok(listed), "one is shown as in the list");
        assert!(shown.is_ok_and(|one| one.version.is_some()));
    }
    for (name, of) in [
        ("ci", Some("olga")),
        ("script", Some("ann")),
        ("none", None),
    ] {
        let missing = show_token(&cluster, name, of);
        assert_eq!(missing, Err(ErrorKind::NotFound), "{name}");
    }
    let others = tokens(&cluster);
    let ci = others.iter().find(|one| one.name == "ci").unwrap();
    assert_eq!((ci.scope, &ci.user), (Scope::Operator, &None));
}

#[test]
fn personal_tokens_end_with_their_user_and_nobody_of_the_same_name_gets_them() {
    let cluster = cluster(79);
    cluster.operate(0, create("ann", UserRole::Admin));
    cluster.operate(0, create("olga", UserRole::Viewer));
    cluster.operate(0, token("script", Scope::Viewer, Some("olga")));
    cluster.operate(0, token("ci", Scope::Viewer, None));
    cluster.operate(1, delete("olga"));
    let gone = Err(ErrorKind::Unauthenticated);
    assert_eq!(allowed(&cluster, 2, "script"), gone);
    let nobody = cluster.try_operate(0, token("late", Scope::Viewer, Some("olga")));
    assert_eq!(kind(nobody), Some(ErrorKind::NotFound));
    cluster.operate(2, create("olga", UserRole::Admin));
    assert_eq!(allowed(&cluster, 0, "script"), gone);
    let left: Vec<String> = tokens(&cluster).into_iter().map(|one| one.name).collect();
    assert_eq!(left, ["ci"]);
    assert_eq!(allowed(&cluster, 0, "ci"), Ok(Scope::Viewer));
}

#[test]
fn a_token_that_was_left_behind_is_not_that_of_another_user_of_the_name() {
    let cluster = cluster(80);
    cluster.operate(0, create("olga", UserRole::Admin));
    // As a release that knows no personal tokens leaves it when it deletes the user.
    let row = catalog::TokenRow {
        name: "script".to_owned(),
        scope: catalog::PERSONAL.to_owned(),
        containers: Vec::new(),
        kubernetes: Vec::new(),
        all_containers: false,
        hash: hash_of("script"),
        created_ms: 1,
        personal: Some(catalog::Personal {
            user: "olga".to_owned(),
            user_created_ms: 1,
            role: "admin".to_owned(),
        }),
    };
    let node = cluster.node(0);
    cluster.run(0, async move {
        node.catalog().create_token(&row).await.unwrap()
    });
    assert_eq!(
        allowed(&cluster, 1, "script"),
        Err(ErrorKind::Unauthenticated)
    );
    assert!(tokens(&cluster).is_empty());
}

#[test]
fn a_user_deletes_no_token_of_others_and_has_so_many_at_most() {
    let cluster = cluster(81);
    cluster.operate(0, create("ann", UserRole::Admin));
    cluster.operate(0, create("olga", UserRole::Viewer));
    cluster.operate(0, token("anns", Scope::Viewer, Some("ann")));
    cluster.operate(0, token("ci", Scope::Viewer, None));
    let missing = Some(ErrorKind::NotFound);
    let seen = tokens(&cluster)[0].version.map(|seen| seen + 1);
    for name in ["anns", "ci", "none"] {
        let foreign = cluster.try_operate(1, drop_token(name, Some("olga")));
        assert_eq!(kind(foreign), missing, "{name}");
        let foreign = drop_token(name, Some("olga")).on_top_of(seen);
        assert_eq!(kind(cluster.try_operate(1, foreign)), missing, "{name}");
    }
    assert_eq!(allowed(&cluster, 0, "anns"), Ok(Scope::Viewer));
    for number in 0..catalog::PERSONAL_TOKENS_MAX {
        cluster.operate(0, token(&format!("t{number}"), Scope::Viewer, Some("olga")));
    }
    let again = cluster.try_operate(0, token("anns", Scope::Viewer, Some("olga")));
    assert_eq!(kind(again), Some(ErrorKind::Exists));
    let one_more = || token("t", Scope::Viewer, Some("olga"));
    let refused = kind(cluster.try_operate(0, one_more()));
    assert_eq!(refused, Some(ErrorKind::Refused));
    cluster.operate(2, drop_token("t0", Some("olga")));
    cluster.operate(2, one_more());
    // An administrator deletes any.
    cluster.operate(2, drop_token("t1", None));
    assert_eq!(allowed(&cluster, 0, "t1"), Err(ErrorKind::Unauthenticated));
}

#[test]
fn tokens_that_are_made_at_once_are_counted_and_none_outlives_its_user() {
    let cluster = cluster(82);
    cluster.operate(0, create("ann", UserRole::Admin));
    cluster.operate(0, create("olga", UserRole::Viewer));
    for number in 1..catalog::PERSONAL_TOKENS_MAX {
        cluster.operate(0, token(&format!("t{number}"), Scope::Viewer, Some("olga")));
    }
    let make = |name| token(name, Scope::Viewer, Some("olga"));
    let (one, other) = (cluster.node(0), cluster.node(1));
    let both = cluster.run(0, async move {
        futures_util::future::join(one.operate(make("a")), other.operate(make("b"))).await
    });
    let made = usize::from(both.0.is_ok()) + usize::from(both.1.is_ok());
    assert_eq!(made, 1, "{both:?}");
    cluster.operate(0, drop_token("t1", None));
    let (one, other) = (cluster.node(0), cluster.node(1));
    let both = cluster.run(0, async move {
        futures_util::future::join(one.operate(make("c")), other.operate(delete("olga"))).await
    });
    assert!(both.1.is_ok(), "{both:?}");
    let node = cluster.node(2);
    let left = cluster.run(2, async move {
        let rows = node.catalog().list::<catalog::TokenRow>().await;
        rows.expect("the catalog answers").len()
    });
    assert_eq!(left, 0, "not even a row");
}

#[test]
fn a_change_under_a_key_is_begun_by_one_node_and_answered_by_all() {
    let cluster = cluster(76);
    let (digest, request) = ("0123456789abcdef".repeat(4), "create".to_owned());
    let begin = |index| {
        let (digest, request) = (digest.clone(), request.clone());
        let step = OnceStep::Begin { digest, request };
        match cluster.operate(index, Operation::Once(step)) {
            Answer::Once(stands) => stands,
            other => panic!("not how it stands: {other:?}"),
        }
    };
    assert_eq!(begin(0), OnceAnswer::Begun);
    assert_eq!(begin(1), OnceAnswer::Running);
    // The node that carries it out is never heard of again.
    (0..31).for_each(|_| sleep(&cluster, Duration::from_secs(10)));
    assert_eq!(begin(2), OnceAnswer::Begun);
    let answer = serde_json::to_value(Answer::Done).expect("an answer is JSON");
    let end = OnceStep::End {
        digest: digest.clone(),
        request: request.clone(),
        answer: Some(answer.clone()),
    };
    cluster.operate(2, Operation::Once(end));
    for index in 0..3 {
        assert_eq!(begin(index), OnceAnswer::Answered(answer.clone()));
    }
}

#[test]
fn the_audit_log_is_in_order_in_pages_and_bounded() {
    let cluster = cluster(75);
    let record = |cluster: &Cluster, index: usize, count: u64| {
        let entry = |at_ms| AuditEntry {
            at_ms,
            who: "user ann".to_owned(),
            ..AuditEntry::default()
        };
        let entries = (0..count).map(entry).collect();
        cluster.operate(index, Operation::AuditRecord { entries });
    };
    let list = |limit, before| {
        let query = AuditQuery {
            limit: Some(limit),
            before,
            ..AuditQuery::default()
        };
        match cluster.operate(1, Operation::AuditList(query)) {
            Answer::Audit(entries) => entries.iter().map(|entry| entry.id).collect::<Vec<_>>(),
            other => panic!("not entries: {other:?}"),
        }
    };
    assert_eq!(list(10, None), Vec::<u64>::new());
    for index in [0, 1, 2] {
        record(&cluster, index, 4);
    }
    assert_eq!(list(5, None), [12, 11, 10, 9, 8]);
    assert_eq!(list(5, Some(3)), [2, 1]);
    assert_eq!(list(5, Some(100)), [12, 11, 10, 9, 8]);
    assert_eq!(list(5, Some(1)), Vec::<u64>::new());
    let select = |sort: &str, before, who: &str| {
        let query = AuditQuery {
            limit: Some(2),
            before,
            sort: Some(sort.parse().expect("known")),
            who: Some(who.to_owned()),
            ..AuditQuery::default()
        };
        match cluster.operate(1, Operation::AuditList(query)) {
            Answer::Audit(entries) => entries.iter().map(|entry| entry.id).collect::<Vec<_>>(),
            other => panic!("not entries: {other:?}"),
        }
    };
    assert_eq!(select("id", None, "user ann"), [1, 2]);
    assert_eq!(select("-who", Some(12), "user ann"), [11, 10]);
    assert!(select("id", None, "user bob").is_empty());
    for _ in 0..=catalog::AUDIT_ROWS_MAX / 96 {
        record(&cluster, 0, 96);
    }
    let last = list(1, None)[0];
    let oldest = last - catalog::AUDIT_ROWS_MAX;
    assert!(last > catalog::AUDIT_ROWS_MAX, "{last}");
    assert_eq!(list(10, Some(oldest + 3)), [oldest + 2, oldest + 1]);
}

#[test]
fn what_drivers_do_pushes_nothing_out_that_people_did() {
    let cluster = cluster(77);
    let record = |driver: bool, count: u64| {
        let entry = |at_ms| AuditEntry {
            at_ms,
            driver,
            ..AuditEntry::default()
        };
        let entries = (0..count).map(entry).collect();
        cluster.operate(0, Operation::AuditRecord { entries });
    };
    let list = |drivers| {
        let query = AuditQuery {
            limit: Some(1000),
            before: None,
            drivers,
            ..AuditQuery::default()
        };
        match cluster.operate(1, Operation::AuditList(query)) {
            Answer::Audit(entries) => entries,
            other => panic!("not entries: {other:?}"),
        }
    };
    record(false, 2);
    for _ in 0..=catalog::AUDIT_ROWS_MAX / 96 {
        record(true, 96);
    }
    let people: Vec<u64> = list(false).iter().map(|entry| entry.id).collect();
    assert_eq!(people, [2, 1]);
    let drivers = list(true);
    assert!(drivers.iter().all(|entry| entry.driver));
    assert!(drivers[0].id > catalog::AUDIT_ROWS_MAX, "{:?}", drivers[0]);
    record(false, 1);
    assert_eq!(list(false)[0].id, 3, "ids of their own");
}

#[test]
fn the_feed_tells_what_changed_with_the_same_revisions_on_every_node() {
    let cluster = cluster(76);
    let ask = |index, after, mood: &str| {
        let mood = mood.to_owned();
        match cluster.operate(index, Operation::Changes { after, mood }) {
            Answer::Changes(changes) => changes,
            other => panic!("not changes: {other:?}"),
        }
    };
    // Nodes that started later know nothing of before: the first one has to hear of them.
    sleep(&cluster, Duration::from_secs(1));
    let begin = ask(0, None, "");
    cluster.create_container("c", 2);
    let volume = cluster.create_volume(1, "v", 1 << 20);
    sleep(&cluster, Duration::from_secs(1));
    for index in 0..3 {
        let told = ask(index, Some(begin.revision), &begin.mood);
        assert!(!told.reset, "{index}: {begin:?} {told:?}");
        let has = |kind: &str, id| {
            let is = |change: &api::stream::ChangeAnswer| change.kind == kind && change.id == id;
            told.changes.iter().any(is)
        };
        assert!(has("volume", volume.id), "{told:?}");
        assert!(has("container", 1), "{told:?}");
    }
    let now = ask(2, None, "");
    let name = "v".to_owned();
    cluster.operate(0, Operation::VolumeDelete { name });
    let told = ask(2, Some(now.revision), &now.mood);
    let gone = told.changes.iter().find(|change| change.kind == "volume");
    assert!(gone.is_some(), "{told:?}");
    assert!(ask(1, Some(u64::MAX), "").reset, "of another catalog");
}
