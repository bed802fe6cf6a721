//! The JSON forms that other programs rely on.

mod samples;

use crate::answer::Answer;
use crate::copies::MinCopies;
use crate::http;
use crate::operation::{
    ContainerChange, ContainerSpec, ErrorKind, GroupSnapshotSpec, Operation, OperationError,
    VolumeChange, VolumeSpec,
};
use crate::query::ListQuery;
use crate::token::{Scope, TokenAnswer, TokenSpec};
use crate::{Asker, Forwarded, VolumeAnswer};
use proptest::prelude::*;
use proptest::sample::Index;
use samples::every_operation;
use std::collections::BTreeMap;

fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("plain data")
}

#[test]
fn operation_has_its_name_in_json() {
    let resize = Operation::VolumeResize {
        name: "db".into(),
        size: 4096,
    };
    assert_eq!(
        json(&resize),
        r#"{"operation":"volume-resize","name":"db","size":4096}"#
    );
    assert!(json(&resize).contains(resize.name()));
}

#[test]
fn a_condition_is_an_operation_that_an_older_release_does_not_know() {
    let delete = Operation::ContainerDelete { name: "c".into() };
    let conditional = delete.clone().on_top_of(Some(7));
    assert_eq!(
        json(&conditional),
        r#"{"operation":"conditional","version":7,"change":{"operation":"container-delete","name":"c"}}"#
    );
    assert_eq!(conditional.name(), "container-delete");
    assert_eq!(
        (conditional.bare(), conditional.version()),
        (&delete, Some(7))
    );
    assert!(!conditional.takes_condition() && delete.takes_condition());
    assert_eq!(delete.clone().on_top_of(None), delete);
    let read: Operation = serde_json::from_str(&json(&conditional)).expect("as it was written");
    assert_eq!(read, conditional);
}

#[test]
fn container_set_says_only_what_changes() {
    let set = Operation::ContainerSet {
        name: "fast".into(),
        change: ContainerChange {
            min_copies: Some(MinCopies::Count(1)),
            ..ContainerChange::default()
        },
    };
    assert_eq!(
        json(&set),
        r#"{"operation":"container-set","name":"fast","min_copies":1}"#
    );
}

#[test]
fn every_operation_survives_json() {
    for operation in every_operation() {
        let text = json(&operation);
        let value: serde_json::Value = serde_json::from_str(&text).expect("plain data");
        let tag = value["operation"].as_str().expect("a tag");
        // Some are families, and a condition is about another one.
        let named = text.contains(&format!(r#""operation":"{}""#, operation.name()));
        assert!(named || operation.name().starts_with(tag), "{text}");
        let back: Operation = serde_json::from_str(&text).expect("reads back");
        assert_eq!(back, operation, "{text}");
    }
}

#[test]
fn spec_with_unknown_field_is_refused() {
    let error = serde_json::from_str::<ContainerSpec>(r#"{"name":"c","fr":2}"#).unwrap_err();
    assert!(error.to_string().contains("unknown field `fr`"), "{error}");
}

#[test]
fn default_minimum_of_copies_follows_the_replication_factor() {
    let spec = |rf| ContainerSpec {
        rf,
        ..serde_json::from_str(r#"{"name":"c"}"#).expect("a name is enough")
    };
    assert_eq!([1, 2, 3].map(|rf| spec(rf).copies_min()), [1, 1, 2]);
    let strict = |rf| ContainerSpec {
        min_copies: Some(MinCopies::Strict),
        ..spec(rf)
    };
    assert_eq!([1, 2, 3].map(|rf| strict(rf).copies_min()), [1, 2, 3]);
}

#[test]
fn answer_travels_whole_between_nodes_and_bare_over_http() {
    let answer = Answer::Volumes(Vec::new());
    assert_eq!(
        serde_json::to_string(&answer).expect("plain data"),
        r#"{"answer":"volumes","value":[]}"#
    );
    assert_eq!(answer.to_value().expect("plain data").to_string(), "[]");
    let done: Answer = serde_json::from_str(r#"{"answer":"done"}"#).expect("no value needed");
    assert_eq!(done.to_value().expect("plain data").to_string(), "{}");
}

#[test]
fn list_without_a_query_is_written_as_before() {
    let list = Operation::VolumeList(ListQuery::default());
    assert_eq!(json(&list), r#"{"operation":"volume-list"}"#);
}

#[test]
fn limit_of_null_is_taken_away_and_an_absent_one_stays() {
    let change = |text| serde_json::from_str::<VolumeChange>(text).expect("a change");
    assert_eq!(change(r#"{"iops_limit":null}"#).iops_limit, Some(0));
    assert_eq!(change("{}").iops_limit, None);
}

#[test]
fn lists_hide_what_is_internal() {
    let internal = BTreeMap::from([(crate::query::INTERNAL_LABEL.to_owned(), "clone".to_owned())]);
    assert!(!ListQuery::default().wants("s", &internal));
    let asked = ListQuery {
        label: Some("azekura.dev/internal=clone".to_owned()),
        ..ListQuery::default()
    };
    assert!(asked.wants("s", &internal));
    assert!(!asked.wants("s", &BTreeMap::new()));
    assert_eq!(asked.problem(), None);
}

#[test]
fn odd_queries_are_told_what_is_wrong() {
    let problem = |limit, label: Option<&str>| {
        let label = label.map(str::to_owned);
        let query = ListQuery {
            limit,
            label,
            ..ListQuery::default()
        };
        query.problem().expect("odd")
    };
    assert!(problem(Some(0), None).contains("1 to 1000"));
    assert!(problem(Some(1001), None).contains("1 to 1000"));
    assert!(problem(None, Some("key")).contains("KEY=VALUE"));
}

#[test]
fn secret_of_a_token_is_not_in_its_debug_form() {
    let token = TokenAnswer {
        name: "ci".to_owned(),
        scope: Scope::Csi,
        user: None,
        containers: Vec::new(),
        kubernetes: Vec::new(),
        all_containers: false,
        created_ms: 1,
        token: Some("azk_very-secret".to_owned()),
        version: None,
    };
    assert!(!format!("{token:?}").contains("secret"));
}

#[test]
fn error_is_kind_and_message() {
    let error = OperationError::new(ErrorKind::NoSpace, "quota of container c is used up");
    assert_eq!(
        serde_json::to_string(&error).expect("plain data"),
        r#"{"kind":"no-space","message":"quota of container c is used up"}"#
    );
    assert_eq!(http::status_code(error.kind), 409);
}

#[test]
fn names_in_paths_are_encoded() {
    assert_eq!(
        http::path(&["volumes", "a/b c", "resize"]),
        "/api/v1/volumes/a%2Fb%20c/resize"
    );
}

/// Decodes as everything the API and other nodes send; what decodes must survive its encoding.
fn decode_all(text: &[u8]) {
    fn one<T>(text: &[u8])
    where
        T: serde::de::DeserializeOwned + serde::Serialize + PartialEq + std::fmt::Debug,
    {
        if let Ok(value) = serde_json::from_slice::<T>(text) {
            let again = serde_json::to_vec(&value).expect("plain data");
            assert_eq!(
                serde_json::from_slice::<T>(&again).expect("reads back"),
                value
            );
        }
    }
    one::<Operation>(text);
    one::<Result<Answer, OperationError>>(text);
    one::<OperationError>(text);
    one::<Forwarded>(text);
    one::<ContainerSpec>(text);
    one::<ContainerChange>(text);
    one::<VolumeSpec>(text);
    one::<http::Resize>(text);
    one::<http::Restore>(text);
    one::<http::Attach>(text);
    one::<http::Detach>(text);
    one::<http::SnapshotName>(text);
    one::<http::DiffQuery>(text);
    one::<http::CapacityQuery>(text);
    one::<ListQuery>(text);
    one::<VolumeChange>(text);
    one::<GroupSnapshotSpec>(text);
    one::<TokenSpec>(text);
    one::<crate::MetricsQuery>(text);
    one::<crate::BusiestQuery>(text);
}

#[test]
fn fuzz_corpus_of_operations() {
    let target = fuzz::target!("operation");
    let mut seen = BTreeMap::<&str, u32>::new();
    for operation in every_operation() {
        // More than one example of some.
        let number = seen.entry(operation.name()).or_default();
        *number += 1;
        let name = format!("{}-{number}", operation.name());
        let committed = target.sample(&name, json(&operation).as_bytes());
        let read = serde_json::from_slice::<Operation>(&committed);
        assert_eq!(read.ok(), Some(operation), "{name}");
    }
    target.play(decode_all);
}

#[test]
fn fuzz_corpus_of_what_nodes_forward() {
    let target = fuzz::target!("forwarded");
    let asked = Forwarded {
        asker: Asker {
            who: "user eve".to_owned(),
            request: "request-1".to_owned(),
        },
        operation: Operation::VolumeDelete {
            name: "db".to_owned(),
        },
    };
    let committed = target.sample("volume-delete", json(&asked).as_bytes());
    assert_eq!(serde_json::from_slice(&committed).ok(), Some(asked));
    let volume = VolumeAnswer {
        id: 9,
        name: "db".to_owned(),
        ..VolumeAnswer::default()
    };
    let answers: [(&str, Result<Answer, OperationError>); 5] = [
        ("done", Ok(Answer::Done)),
        ("volume", Ok(Answer::Volume(volume.clone()))),
        ("volumes", Ok(Answer::Volumes(vec![volume]))),
        ("figures", Ok(Answer::Figures(Box::default()))),
        (
            "refused",
            Err(OperationError::not_found("there is no volume db")),
        ),
    ];
    for (name, answer) in answers {
        let committed = target.sample(name, json(&answer).as_bytes());
        assert_eq!(
            serde_json::from_slice(&committed).ok(),
            Some(answer),
            "{name}"
        );
    }
    target.play(decode_all);
}

proptest! {
    #[test]
    fn fuzz_any_bytes_are_a_message_or_an_error(text in proptest::collection::vec(any::<u8>(), 0..200)) {
        decode_all(&text);
    }

    #[test]
    fn fuzz_changed_operations_are_operations_or_errors(
        which in any::<Index>(),
        changes in proptest::collection::vec((any::<Index>(), 0x20_u8..0x7f), 1..4),
        cut in any::<Index>(),
        shorter: bool,
    ) {
        let operations = every_operation();
        let mut text = json(&operations[which.index(operations.len())]).into_bytes();
        for (at, with) in changes {
            let at = at.index(text.len());
            text[at] = with;
        }
        if shorter {
            text.truncate(cut.index(text.len()));
        }
        decode_all(&text);
    }

    #[test]
    fn fuzz_any_name_has_a_path_of_plain_characters(name in any::<String>()) {
        let path = http::path(&["volumes", &name]);
        prop_assert!(path.bytes().all(|byte| byte.is_ascii_graphic()));
        prop_assert_eq!(path.matches('/').count(), 4);
    }
}
