//! The corpora of catalog rows and backups. Rows of every kind, as today's encoder writes them: each is read, written again, and
//! is the same; a field that a later release adds has a default that does not hide one of these.

use crate::access::{decode, encode};
use crate::dump::{self, DumpRow};
use crate::*;
use fuzz::{Target, target};
use serde_json::{Value, json};
use std::cell::RefCell;
use std::collections::BTreeSet;

/// What a release of level 1 keeps when it writes a row.
const LEVEL_1: &str = include_str!("fields/level-1.txt");

thread_local! {
    /// Fields of the rows that were written, each with its row's prefix.
    static WRITTEN: RefCell<BTreeSet<String>> = const { RefCell::new(BTreeSet::new()) };
}

/// Notes the paths of all fields; entries of lists are one.
fn note_fields(path: &str, value: &Value) {
    WRITTEN.with_borrow_mut(|written| written.insert(path.to_owned()));
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                note_fields(&format!("{path} {name}"), value);
            }
        }
        Value::Array(values) => values.iter().for_each(|value| note_fields(path, value)),
        _ => {}
    }
}

fn volume() -> Value {
    let extent = json!({"group": 3, "volume": 9, "epoch": 2, "counter": 5});
    let map = json!({"page": {"extent": extent, "frame": 7}, "height": 2, "mapped_blocks": 4096});
    json!({
        "id": 9, "name": "db", "container": 1, "lineage": 2, "size": 21_474_836_480_u64, "created_ms": 1, "owner": 3, "epoch": 2,
        "root": {"map": map, "position": 99, "floor": [2, 6]},
        "segments": [{
            "id": 4, "epoch": 2, "start": 100, "end": null, "replicas": [{"store": 1, "incarnation": u64::MAX}], "wanted": 2,
        }],
        "next_segment": 5,
        "attachment": {"generation": 4, "clients": ["h1"], "mode": "read-write", "granted": {"h1": 4}},
        "origin": {"volume": 8, "snapshot": 7}, "state": {"stopped": "why"}, "labels": {"app": "db"}, "description": "d",
        "limits": {"iops": 100, "bandwidth": 1_048_576}, "edited": 7,
    })
}

fn snapshot() -> Value {
    json!({
        "id": 7, "name": "daily", "volume": 9, "lineage": 2, "container": 1, "size": 4096, "created_ms": 1,
        "state": {"pending": 99}, "labels": {}, "group": "g1",
    })
}

fn alert() -> Value {
    json!({
        "id": 5, "severity": "warning", "kind": "store-full", "entity": "store/1", "cause": "é", "impact": "i", "remedy": "r",
        "raised_ms": 1, "seen_ms": 2, "by_hand": false, "acknowledged": {"by": "user a", "at_ms": 3, "note": null},
        "resolved": null,
    })
}

/// A row of the type is in the corpus: what is committed is read, and written again as it is.
fn holds<T: Row>(target: &Target, name: &str, row: &Value) {
    let committed = target.sample(name, row.to_string().as_bytes());
    let read = decode::<T>("row", &committed);
    let read = read.unwrap_or_else(|error| panic!("{name}: {error}"));
    let again: Value = serde_json::from_slice(&encode(&read)).expect("rows are JSON");
    let committed: Value = serde_json::from_slice(&committed).expect("rows are JSON");
    for (field, value) in committed.as_object().expect("rows are objects") {
        assert_eq!(again.get(field), Some(value), "field {field} of {name}");
    }
    assert!(!read.key().is_empty());
    note_fields(T::PREFIX, &again);
}

/// A release of a level drops what it does not know when it writes a row.
#[test]
fn fields_of_rows_are_of_a_level() {
    let target = target!("row");
    rows_of_the_cluster(&target);
    rows_of_volumes(&target);
    rows_of_operators(&target);
    rows_of_others(&target);
    let known: BTreeSet<&str> = LEVEL_1.lines().collect();
    let written = WRITTEN.take();
    let new = written.iter().filter(|path| !known.contains(path.as_str()));
    let new: Vec<&str> = new.map(String::as_str).collect();
    assert!(
        new.is_empty(),
        "releases of level 1 drop these fields when they write the row; a field that must stay needs a new level, and is written when \
         the cluster has it (docs/decisions/0048-levels.md): list it in crates/catalog/src/fields/level-N.txt, and in \
         docs/formats/catalog-rows.md what its absence means:\n{}",
        new.join("\n")
    );
}

fn rows_of_the_cluster(target: &Target) {
    holds::<ClusterRow>(
        target,
        "cluster",
        &json!({"id": "c0ffee", "name": "lab", "version": 1, "era": 2}),
    );
    // Without a version, so that releases that know no levels cannot read it.
    holds::<ClusterRow>(
        target,
        "cluster-of-level-2",
        &json!({"id": "c0ffee", "name": "lab", "level": 2, "era": 2}),
    );
    holds::<NodeRow>(
        target,
        "node",
        &json!({"id": 3, "name": "n3", "address": "10.0.0.3:7400", "nbd": "10.0.0.3:10809", "api": null}),
    );
    holds::<NodeRow>(
        target,
        "node-of-a-release",
        &json!({
            "id": 3, "name": "n3", "address": "10.0.0.3:7400", "nbd": null, "api": null, "release": "0.2.0",
            "levels": {"oldest": 1, "newest": 2},
        }),
    );
    holds::<SeatRow>(
        target,
        "seat",
        &json!({
            "id": 3, "client": "http://n3:2379", "peer": "http://n3:2380", "member": u64::MAX, "lost": false, "problem": "p",
            "quota": 8,
        }),
    );
    holds::<crate::ScrubRow>(
        target,
        "scrub",
        &json!({
            "id": 4, "incarnation": u64::MAX, "began_ms": 1, "group": 7,
            "after": {"group": 7, "volume": 9, "epoch": 2, "counter": 3}, "whole_ms": 2,
        }),
    );
    holds::<crate::LightRow>(
        target,
        "light",
        &json!({"id": 4, "on": ["/dev/sdb"], "at_ms": 1}),
    );
    holds::<EtcdRow>(target, "etcd", &json!({"cluster": u64::MAX}));
    holds::<AliveRow>(target, "alive", &json!({"id": 3, "start": 17}));
    holds::<StoreRow>(
        target,
        "store",
        &json!({"id": 1, "node": 3, "incarnation": u64::MAX, "session": 5, "capacity": 4096, "domains": ["r1", "z1"]}),
    );
    holds::<StoreRow>(
        target,
        "store-that-has-moved",
        &json!({
            "id": 1, "node": 3, "incarnation": u64::MAX, "session": 5, "capacity": 4096, "domains": ["r1", "z1"], "earlier": [2, 7],
        }),
    );
    holds::<SpaceRow>(
        target,
        "space",
        &json!({"factors": {"2": "protected"}, "stores": [1, 2]}),
    );
    holds::<IntentRow>(
        target,
        "intent",
        &json!({"subject": {"store": 1}, "draining": true, "maintenance_until_ms": 9, "candidate": false}),
    );
    holds::<JoinTokenRow>(
        target,
        "join-token",
        &json!({"hash": "ab", "expires_ms": 9}),
    );
    holds::<AuthorityRow>(
        target,
        "authority",
        &json!({"authorities": "pem", "signer": "pem", "signer_name": "s"}),
    );
    holds::<CertificateRow>(
        target,
        "certificate",
        &json!({"id": 3, "issuer": "s", "until_ms": 9}),
    );
}

fn rows_of_volumes(target: &Target) {
    holds::<VolumeRow>(target, "volume", &volume());
    let mut written_to = volume();
    written_to["attachment"]["processes"] = json!({"h1": 1_764_367_200_000_u64});
    holds::<VolumeRow>(target, "volume-with-process", &written_to);
    holds::<SnapshotRow>(target, "snapshot", &snapshot());
    holds::<ContainerRow>(
        target,
        "container",
        &json!({
            "id": 1, "name": "default", "replication_factor": 3, "copies_min": 2, "strict": true, "sync": "always",
            "compression": "off", "quota": 4096,
        }),
    );
    holds::<GroupRow>(
        target,
        "group",
        &json!({
            "id": 7, "generation": 2, "replication_factor": 2, "members": [1, 2], "filling": [2], "former": [3], "returning": [4],
        }),
    );
    holds::<GroupRow>(
        target,
        "group-that-moves",
        &json!({
            "id": 8, "generation": 3, "replication_factor": 2, "members": [1, 2, 3], "filling": [3], "former": [], "returning": [],
            "leaving": 1,
        }),
    );
    holds::<LineageRow>(
        target,
        "lineage",
        &json!({"id": 2, "volumes": [9], "snapshots": [7], "deleted": [8]}),
    );
    holds::<GroupSnapshotRow>(
        target,
        "group-snapshot",
        &json!({"id": 4, "name": "g1", "created_ms": 1, "volumes": [9], "snapshots": [7], "ready": true}),
    );
}

fn rows_of_operators(target: &Target) {
    holds::<AlertRow>(target, "alert", &alert());
    holds::<AlertChangeRow>(
        target,
        "alert-change",
        &json!({"id": 6, "turn": "raised", "at_ms": 1, "before": "info", "alert": alert()}),
    );
    let counts = json!({"critical": 1, "warning": 2, "info": 3});
    holds::<AlertHead>(
        target,
        "alert-head",
        &json!({"last": 5, "last_change": 6, "events": 7, "open": {"store/1": counts}}),
    );
    holds::<EventRow>(
        target,
        "event",
        &json!({
            "id": 8, "at_ms": 1, "severity": "critical", "kind": "k", "entity": "node/3", "message": "m", "remedy": "r",
            "node": "n3", "count": 2,
        }),
    );
    holds::<TaskRow>(
        target,
        "task",
        &json!({
            "id": 8, "kind": "rebuild", "entity": "store/1", "subject": "s", "status": "running", "done": 1, "total": 2,
            "unit": "bytes", "message": "m", "parent": 7, "queued_ms": 1, "started_ms": 2, "updated_ms": 3, "ended_ms": 0,
            "who": "a", "request": "q", "node": "n3", "run": 4, "lineage": 2, "cancel": "c",
        }),
    );
    holds::<TaskHead>(target, "task-head", &json!({"last": 8, "wishes": 1}));
    holds::<AuditRow>(
        target,
        "audit",
        &json!({"id": 3, "entry": {"who": "a", "what": [1, null]}}),
    );
    holds::<OnceRow>(
        target,
        "once",
        &json!({"slot": 3, "digest": "ab", "request": "q", "at_ms": 1, "answer": {"ok": true}}),
    );
    holds::<TokenRow>(
        target,
        "token",
        &json!({"name": "ci", "scope": "operate", "containers": ["a"], "kubernetes": ["k"], "hash": "ab", "created_ms": 1}),
    );
    let whose = json!({"user": "ann", "user_created_ms": 1, "role": "viewer"});
    holds::<TokenRow>(
        target,
        "token-of-a-user",
        &json!({
            "name": "laptop", "scope": "personal", "containers": [], "kubernetes": [], "hash": "cd", "created_ms": 2,
            "personal": whose,
        }),
    );
    holds::<UserRow>(
        target,
        "user",
        &json!({"name": "ann", "role": "admin", "password": "$argon2id$x", "created_ms": 1, "generation": 2}),
    );
    holds::<SessionRow>(
        target,
        "session",
        &json!({"hash": "ab", "user": "ann", "generation": 2, "created_ms": 1, "expires_ms": 9}),
    );
}

#[test]
fn a_token_of_a_release_that_did_not_ask_for_limits_has_none() {
    let row = json!({"name": "ci", "scope": "csi", "hash": "ab", "created_ms": 1});
    let row: TokenRow = serde_json::from_value(row).unwrap();
    assert!(row.containers.is_empty() && row.kubernetes.is_empty() && !row.all_containers);
    assert_eq!(row.personal, None, "and stands for itself");
}

fn rows_of_others(target: &Target) {
    let webhook =
        json!({"kind": "webhook", "url": "https://pager.test/", "ca": null, "secret": "hush"});
    let mail = json!({
        "kind": "mail", "server": "mail.test:587", "security": "starttls", "ca": null, "user": "u", "password": "p",
        "from": "a@b", "to": ["c@d"],
    });
    for (name, delivery) in [("target-webhook", webhook), ("target-mail", mail)] {
        let row =
            json!({"name": "pager", "delivery": delivery, "minimum": "warning", "created_ms": 1});
        holds::<AlertTargetRow>(target, name, &row);
    }
    holds::<AlertCursorRow>(
        target,
        "alert-cursor",
        &json!({
            "name": "pager", "created_ms": 1, "done": 2, "delivered_ms": 3, "failures": 4, "failing_ms": 5, "error": "e",
            "next_ms": 6, "missed": 7,
        }),
    );
    let class = json!({
        "name": "fast", "default": true, "parameters": {"a": "b"}, "reclaim_policy": "Delete", "binding_mode": "Immediate",
        "expansion": true, "mount_options": ["noatime"],
    });
    holds::<KubernetesRow>(
        target,
        "kubernetes",
        &json!({
            "name": "prod", "uid": "u", "version": "v1.33", "driver": "1", "classes": [class], "reported_ms": 1, "claims": 2,
        }),
    );
    holds::<ClaimRow>(
        target,
        "claim",
        &json!({
            "cluster": "prod", "uid": "u", "namespace": "shop", "name": "data", "class": "fast", "status": "Bound", "reason": "r",
            "requested": 1, "capacity": 2, "access_modes": ["ReadWriteOnce"], "volume_mode": "Block", "reclaim_policy": "Delete",
            "persistent_volume": "pv", "handle": "c0ffee-v9", "created_ms": 1,
            "pods": [{"name": "p", "phase": "Running", "node": "n3"}], "pods_more": 1, "attached": ["n3"],
        }),
    );
}

/// Reads the bytes as a row of each kind; what is read is the same when it is written and read again.
fn decode_all(bytes: &[u8]) {
    fn one<T: Row>(bytes: &[u8]) {
        if let Ok(row) = decode::<T>("row", bytes) {
            let again = encode(&row);
            let read = decode::<T>("row", &again).expect("what was written is read");
            assert_eq!(encode(&read), again);
        }
    }
    macro_rules! each {
        ($($row:ty),*) => { $(one::<$row>(bytes);)* };
    }
    each!(
        crate::ScrubRow,
        crate::LightRow,
        ClusterRow,
        NodeRow,
        SeatRow,
        EtcdRow,
        AliveRow,
        StoreRow,
        SpaceRow,
        IntentRow
    );
    each!(
        JoinTokenRow,
        AuthorityRow,
        CertificateRow,
        SnapshotRow,
        ContainerRow,
        GroupRow,
        LineageRow
    );
    each!(
        GroupSnapshotRow,
        AlertRow,
        AlertChangeRow,
        AlertHead,
        EventRow,
        TaskRow,
        TaskHead
    );
    each!(
        AuditRow,
        OnceRow,
        TokenRow,
        UserRow,
        SessionRow,
        AlertTargetRow,
        AlertCursorRow
    );
    each!(KubernetesRow, ClaimRow, VolumeRow);
    if let Ok(row) = decode::<VolumeRow>("row", bytes) {
        assert!(row.root.map.is_sound());
    }
}

#[test]
fn fuzz_corpus_of_rows() {
    let target = target!("row").round_time(std::time::Duration::from_micros(200));
    rows_of_the_cluster(&target);
    rows_of_volumes(&target);
    rows_of_operators(&target);
    rows_of_others(&target);
    let cut = target.sample("cut", &volume().to_string().as_bytes()[..100]);
    assert!(decode::<VolumeRow>("row", &cut).is_err());
    target.play(decode_all);
}

#[test]
fn fuzz_corpus_of_backups() {
    let target = target!("backup");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let rows: Vec<DumpRow> = [("volume/9", volume()), ("snapshot/7", snapshot())]
        .into_iter()
        .map(|(key, value)| DumpRow {
            key: key.to_owned(),
            revision: 5,
            value,
        })
        .collect();
    for (name, rows) in [("two", rows), ("empty", Vec::new())] {
        let sealed = dump::seal(dump::BACKUP, "lab", 7, &rows);
        let committed = text(&target.sample(name, sealed.as_bytes()));
        let opened = dump::open::<DumpRow>(dump::BACKUP, &committed).expect("a backup");
        assert_eq!(
            (opened.cluster.as_str(), opened.revision, opened.items),
            ("lab", 7, rows)
        );
    }
    let newer = dump::seal::<DumpRow>(dump::BACKUP, "lab", 7, &[])
        .replace("\"version\":1", "\"version\":2");
    let newer = text(&target.sample("newer", newer.as_bytes()));
    assert!(dump::open::<DumpRow>(dump::BACKUP, &newer).is_err());
    let decode = |bytes: &[u8]| {
        if let Ok(opened) = dump::open::<DumpRow>(dump::BACKUP, &text(bytes)) {
            let again = dump::seal(
                dump::BACKUP,
                &opened.cluster,
                opened.revision,
                &opened.items,
            );
            assert_eq!(dump::open::<DumpRow>(dump::BACKUP, &again), Ok(opened));
        }
    };
    // The last line again, to fit the others.
    target.play_changed(decode, |bytes| {
        let lines: Vec<&[u8]> = bytes.split_inclusive(|byte| *byte == b'\n').collect();
        let count = lines.len().saturating_sub(1);
        let mut sealed = lines[..count].concat();
        let last = json!({"lines": count.saturating_sub(1), "crc32c": crc32c::crc32c(&sealed)});
        sealed.extend_from_slice(format!("{last}\n").as_bytes());
        sealed
    });
}

#[test]
fn fuzz_corpus_of_notes_of_logs() {
    let target = target!("log-note");
    let row: VolumeRow = serde_json::from_value(volume()).expect("a volume");
    let whole = LogNote {
        volume: row.id,
        epoch: row.epoch,
        root: row.root,
        segments: row.segments,
        next_segment: row.next_segment,
        settled: vec![(vocab::SnapshotId(7), row.root.map)],
    };
    let new = LogNote {
        segments: Vec::new(),
        settled: Vec::new(),
        ..whole.clone()
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    for (name, note) in [("whole", whole), ("new", new)] {
        let committed = target.sample(name, note.encode().as_bytes());
        assert_eq!(LogNote::decode(&text(&committed)), Ok(note), "{name}");
    }
    target.play(|bytes| {
        if let Ok(note) = LogNote::decode(&text(bytes)) {
            assert_eq!(LogNote::decode(&note.encode()), Ok(note));
        }
    });
}
