//! Surveys by hand, one case of the argument in docs/formats/notes.md each.

use super::*;
use catalog::{ContainerRow, MapRoot, SegmentReplica, SegmentRow, VolumeRoot};
use vocab::{
    ByteCount, ContainerId, Epoch, Generation, GroupId, LineageId, NodeId, Position, SegmentId,
};
use wire::{LogSurvey, Note, SegmentTail};

fn segment(id: u32, epoch: u64, start: u64, stores: &[u32]) -> SegmentRow {
    let replica = |&store| SegmentReplica {
        store: StoreId(store),
        incarnation: Incarnation(u64::from(store)),
    };
    SegmentRow {
        id: SegmentId(id),
        epoch: Epoch(epoch),
        start: Position(start),
        end: None,
        replicas: stores.iter().map(replica).collect(),
        wanted: 2,
    }
}

fn root(position: u64) -> VolumeRoot {
    VolumeRoot {
        map: MapRoot::default(),
        position: Position(position),
        floor: (Epoch(1), 1),
    }
}

fn volume(epoch: u64, position: u64, segments: Vec<SegmentRow>) -> VolumeRow {
    let text =
        r#"{"id":1,"name":"a","container":1,"lineage":1,"size":4096,"created_ms":1,"epoch":0}"#;
    let row: VolumeRow = serde_json::from_str(text).expect("a row");
    assert_eq!((row.lineage, row.size), (LineageId(1), ByteCount(4096)));
    VolumeRow {
        epoch: Epoch(epoch),
        root: root(position),
        segments,
        ..row
    }
}

fn note<T: Row>(number: u64, row: &T) -> Note {
    Note {
        key: row.key(),
        version: NoteVersion { term: 0, number },
        value: Some(serde_json::to_string(row).expect("a row")),
    }
}

fn log_note(epoch: u64, number: u64, position: u64, segments: Vec<SegmentRow>) -> Note {
    let log = LogNote {
        volume: VolumeId(1),
        epoch: Epoch(epoch),
        root: root(position),
        next_segment: SegmentId(9),
        segments,
        settled: Vec::new(),
    };
    Note {
        key: log_note_key(VolumeId(1)),
        version: NoteVersion {
            term: epoch,
            number,
        },
        value: Some(log.encode()),
    }
}

/// A store with the rows of the cluster, synced at revision 10.
fn survey(store: u32, notes: Vec<Note>) -> StoreSurvey {
    let container: ContainerRow =
        serde_json::from_str(r#"{"id":1,"name":"c","replication_factor":2,"copies_min":1}"#)
            .expect("a row");
    assert_eq!(container.id, ContainerId(1));
    let cluster = ClusterRow {
        id: "drawn".to_owned(),
        name: "lab".to_owned(),
        level: vocab::Levels::OWN.newest,
        era: 0,
    };
    let synced = Note {
        key: "synced".to_owned(),
        version: NoteVersion {
            term: 0,
            number: 10,
        },
        value: Some("true".to_owned()),
    };
    let mut all = vec![note(1, &cluster), note(2, &container), synced];
    all.extend(notes);
    StoreSurvey {
        cluster: "lab".to_owned(),
        store: StoreId(store),
        incarnation: Incarnation(u64::from(store)),
        session: 1,
        capacity: 1,
        notes: all,
        logs: Vec::new(),
        groups: Vec::new(),
        terms: Vec::new(),
    }
}

fn log(promised: u64, trimmed: u64, tails: &[(u32, u64)]) -> LogSurvey {
    let tail = |&(segment, epoch)| SegmentTail {
        segment: SegmentId(segment),
        epoch: Epoch(epoch),
        first: Position(1),
        last: Position(5),
        committed: Position(5),
        flushed: Position(5),
    };
    LogSurvey {
        volume: VolumeId(1),
        promised: Epoch(promised),
        trimmed: Position(trimmed),
        segments: tails.iter().map(tail).collect(),
    }
}

fn sources(surveys: Vec<StoreSurvey>) -> Sources {
    Sources {
        levels: vocab::Levels::OWN,
        cluster: "lab".to_owned(),
        surveys,
        ..Sources::default()
    }
}

fn rebuilt_volume(rebuilt: &Rebuilt) -> VolumeRow {
    let bytes = &rebuilt.rows["volume/00000000000000000001"];
    serde_json::from_slice(bytes).expect("a row")
}

#[test]
fn the_owners_note_of_a_later_segment_counts() {
    let seen = VolumeRow {
        edited: Some(7),
        ..volume(3, 0, vec![segment(1, 3, 1, &[1, 2])])
    };
    let row = note(10, &seen);
    let newer = log_note(3, 4, 2, vec![segment(2, 3, 3, &[2])]);
    let older = log_note(3, 2, 0, vec![segment(1, 3, 1, &[1, 2])]);
    let one = survey(1, vec![row.clone(), older]);
    let two = survey(2, vec![row, newer]);
    let rebuilt = rebuild(&sources(vec![one, two])).expect("rebuilt");
    let volume = rebuilt_volume(&rebuilt);
    assert_eq!(volume.segments, [segment(2, 3, 3, &[2])]);
    assert_eq!(volume.root.position, Position(2));
    assert_eq!(volume.state, VolumeState::Ready);
    assert_eq!(
        volume.edited, None,
        "its version is that of the new catalog"
    );
}

#[test]
fn a_takeover_that_registered_nothing_keeps_the_rows_segments() {
    let row = note(10, &volume(4, 0, vec![segment(2, 3, 3, &[1, 2])]));
    // Its segment 3 was noted, and the next term came first.
    let late = log_note(3, 9, 4, vec![segment(3, 3, 9, &[1])]);
    let one = survey(1, vec![row.clone(), late]);
    let rebuilt = rebuild(&sources(vec![one, survey(2, vec![row])])).expect("rebuilt");
    let volume = rebuilt_volume(&rebuilt);
    assert_eq!(volume.segments, [segment(2, 3, 3, &[1, 2])]);
    assert_eq!(volume.root.position, Position(4), "a root stays a root");
}

#[test]
fn terms_and_counters_are_ahead_of_everything_seen() {
    let row = note(10, &volume(3, 0, vec![segment(1, 3, 1, &[1, 2])]));
    let mut one = survey(
        1,
        vec![
            row.clone(),
            log_note(3, 1, 0, vec![segment(1, 3, 1, &[1, 2])]),
        ],
    );
    one.logs = vec![log(70, 0, &[(1, 3)])];
    one.terms = vec![(VolumeId(1), Epoch(80)), (VolumeId(500), Epoch(1))];
    let rebuilt = rebuild(&sources(vec![one, survey(2, vec![row])])).expect("rebuilt");
    assert!(rebuilt_volume(&rebuilt).epoch > Epoch(80));
    let counter = std::str::from_utf8(&rebuilt.rows["counter/volume"]).expect("a number");
    assert!(counter.parse::<u64>().expect("a number") > 500);
    let cluster: ClusterRow = serde_json::from_slice(&rebuilt.rows["cluster"]).expect("a row");
    assert_eq!(cluster.era, 1);
}

#[test]
fn a_catalog_of_a_level_that_is_not_known_is_not_made() {
    let row = note(10, &volume(3, 2, vec![segment(1, 3, 1, &[1])]));
    let mut given = sources(vec![survey(1, vec![row])]);
    given.levels = "2-3".parse().expect("levels");
    let refused = rebuild(&given);
    assert!(
        matches!(
            refused,
            Err(RebuildError::Level {
                level: vocab::Level(1),
                ..
            })
        ),
        "{refused:?}"
    );
    given.levels = "1-2".parse().expect("levels");
    assert!(rebuild(&given).is_ok());
}

#[test]
fn records_that_were_let_go_above_the_known_root_make_a_volume_incomplete() {
    let row = note(10, &volume(3, 2, vec![segment(1, 3, 1, &[1])]));
    let mut one = survey(1, vec![row]);
    one.logs = vec![log(3, 4, &[(1, 3)])];
    let rebuilt = rebuild(&sources(vec![one.clone()])).expect("rebuilt");
    assert_eq!(rebuilt.incomplete.len(), 1, "{rebuilt:?}");
    assert!(matches!(
        rebuilt_volume(&rebuilt).state,
        VolumeState::Incomplete(_)
    ));
    let accepted = Sources {
        accepted: ["a".to_owned()].into(),
        ..sources(vec![one])
    };
    let rebuilt = rebuild(&accepted).expect("rebuilt");
    assert_eq!(rebuilt_volume(&rebuilt).state, VolumeState::Ready);
}

#[test]
fn a_segment_that_no_note_names_makes_a_volume_incomplete_on_disks_of_before_notes() {
    let mut one = survey(1, Vec::new());
    one.notes.clear();
    one.logs = vec![log(4, 0, &[(1, 3), (2, 4)])];
    let unknown = rebuild(&sources(vec![one.clone()]));
    assert_eq!(unknown, Err(RebuildError::Unknown));
    let mut rows: Vec<catalog::dump::DumpRow> = Vec::new();
    let old = volume(3, 0, vec![segment(1, 3, 1, &[1])]);
    for note in survey(1, vec![note(9, &old)]).notes {
        if note.key != "synced" {
            rows.push(catalog::dump::DumpRow {
                key: note.key,
                revision: note.version.number,
                value: serde_json::from_str(&note.value.expect("a row")).expect("JSON"),
            });
        }
    }
    let with_backup = Sources {
        backup: Some(Rows {
            era: 0,
            revision: 9,
            rows,
        }),
        ..sources(vec![one])
    };
    let rebuilt = rebuild(&with_backup).expect("rebuilt");
    let (name, reason) = &rebuilt.incomplete[0];
    assert_eq!(name, "a");
    assert!(reason.contains("segment-2"), "{reason}");
}

#[test]
fn a_log_of_nobody_stops_the_rebuild_until_it_is_named() {
    let mut one = survey(1, vec![log_note(3, 1, 0, vec![segment(1, 3, 1, &[1])])]);
    one.logs = vec![log(3, 0, &[(1, 3)])];
    let refused = rebuild(&sources(vec![one.clone()])).expect_err("nothing describes it");
    assert!(refused.to_string().contains("--accept-loss volume-N"));
    let accepted = Sources {
        accepted: ["volume-1".to_owned()].into(),
        ..sources(vec![one])
    };
    let rebuilt = rebuild(&accepted).expect("named");
    assert!(!rebuilt.rows.contains_key("volume/00000000000000000001"));
}

#[test]
fn a_deleted_row_stays_deleted_and_a_newer_one_is_kept() {
    let gone = note(5, &volume(0, 0, Vec::new()));
    let mut stale = survey(1, vec![gone.clone()]);
    stale.notes.iter_mut().for_each(|note| {
        if note.key == "synced" {
            note.version.number = 6;
        }
    });
    let current = survey(2, Vec::new());
    let rebuilt = rebuild(&sources(vec![stale.clone(), current.clone()])).expect("rebuilt");
    assert!(!rebuilt.rows.contains_key("volume/00000000000000000001"));
    stale.notes.push(Note {
        version: NoteVersion {
            term: 0,
            number: 11,
        },
        ..gone
    });
    let rebuilt = rebuild(&sources(vec![stale, current])).expect("rebuilt");
    assert!(rebuilt.rows.contains_key("volume/00000000000000000001"));
}

#[test]
fn disks_of_another_cluster_and_copies_are_refused() {
    let mut foreign = survey(1, Vec::new());
    foreign.cluster = "other".to_owned();
    let refused = rebuild(&sources(vec![foreign]));
    assert!(matches!(refused, Err(RebuildError::Foreign { .. })));
    let twice = vec![survey(1, Vec::new()), survey(1, Vec::new())];
    assert_eq!(
        rebuild(&sources(twice)),
        Err(RebuildError::Twice(StoreId(1)))
    );
}

fn group(factor: u32, members: &[u32]) -> GroupRow {
    GroupRow {
        id: GroupId(factor * 100_000 + 1),
        generation: Generation(3),
        replication_factor: u8::try_from(factor).expect("small"),
        members: members.iter().copied().map(StoreId).collect(),
        filling: Vec::new(),
        former: Vec::new(),
        returning: Vec::new(),
        leaving: None,
    }
}

/// Store 2 is lost; store 1 has the rows of it, of volume `a`, and of these groups.
fn without_two(groups: &[GroupRow]) -> Sources {
    let store = StoreRow {
        id: StoreId(2),
        node: NodeId(2),
        incarnation: Incarnation(2),
        session: 0,
        capacity: ByteCount(1),
        domains: Vec::new(),
        earlier: Vec::new(),
    };
    let row = volume(5, 0, vec![segment(1, 5, 1, &[1, 2])]);
    let mut rows = vec![note(3, &row), note(4, &store)];
    rows.extend(groups.iter().map(|group| note(5, group)));
    Sources {
        without: [StoreId(2)].into(),
        accepted: ["a".to_owned()].into(),
        ..sources(vec![survey(1, rows)])
    }
}

fn rebuilt_group(rebuilt: &Rebuilt, like: &GroupRow) -> GroupRow {
    serde_json::from_slice(&rebuilt.rows[&like.key()]).expect("a row")
}

#[test]
fn a_store_that_is_gone_is_waited_for_by_no_group_and_no_log() {
    let pair = GroupRow {
        former: vec![StoreId(2)],
        ..group(2, &[1, 3])
    };
    let mut two = without_two(&[pair.clone(), group(3, &[1, 2])]);
    two.without.insert(StoreId(3));
    let rebuilt = rebuild(&two).expect("named");
    for like in [&pair, &group(3, &[1, 2])] {
        let found = rebuilt_group(&rebuilt, like);
        assert_eq!(found.members, [StoreId(1)]);
        assert_eq!(found.filling, [StoreId(1)]);
        assert_eq!(found.former, []);
    }
    let row = rebuilt_volume(&rebuilt);
    let replicas = row.segments[0].replicas.iter();
    let stores: Vec<StoreId> = replicas.map(|replica| replica.store).collect();
    assert_eq!(stores, [StoreId(1)]);
    let key = StoreRow::key_of(StoreId(2));
    assert!(!rebuilt.rows.contains_key(&key), "nobody names it");
}

#[test]
fn what_a_store_that_is_gone_held_alone_is_waited_for() {
    let alone = group(1, &[2]);
    let rebuilt = rebuild(&without_two(std::slice::from_ref(&alone))).expect("named");
    assert_eq!(rebuilt_group(&rebuilt, &alone).members, [StoreId(2)]);
    let key = StoreRow::key_of(StoreId(2));
    assert!(rebuilt.rows.contains_key(&key));
    let text = rebuilt.remarks.join(" ");
    assert!(text.contains("azekura disk remove 2 --lost"), "{text}");
}

#[test]
fn what_only_a_store_that_is_gone_had_whole_may_be_lost() {
    let half = GroupRow {
        filling: vec![StoreId(1)],
        ..group(2, &[1, 2])
    };
    let named = Sources {
        accepted: BTreeSet::new(),
        ..without_two(&[half])
    };
    let rebuilt = rebuild(&named).expect("named");
    let (_, reason) = &rebuilt.incomplete[0];
    assert!(reason.contains("a group of 2 copies"), "{reason}");
}

/// Why volume `a` stays offline, when this group is there and nothing was accepted; empty: it does not.
fn reasons_with(group: GroupRow) -> String {
    let named = Sources {
        accepted: BTreeSet::new(),
        ..without_two(&[group])
    };
    let rebuilt = rebuild(&named).expect("named");
    let reasons = rebuilt.incomplete.into_iter().map(|(_, reason)| reason);
    reasons.collect::<Vec<_>>().join("; ")
}

#[test]
fn what_only_a_holder_had_before_anything_was_compared_may_be_lost() {
    // As an earlier rebuild left it.
    let uncompared = GroupRow {
        filling: vec![StoreId(1)],
        former: vec![StoreId(2)],
        ..group(2, &[1])
    };
    let reasons = reasons_with(uncompared.clone());
    assert!(reasons.contains("a group of 2 copies"), "{reasons}");
    // A member that was compared with it has all of it.
    let compared = GroupRow {
        filling: Vec::new(),
        ..uncompared
    };
    let reasons = reasons_with(compared);
    assert!(!reasons.contains("a group of 2 copies"), "{reasons}");
}

#[test]
fn a_former_member_that_is_here_stands_for_no_complete_one() {
    let part = GroupRow {
        filling: vec![StoreId(3)],
        former: vec![StoreId(1)],
        ..group(2, &[2, 3])
    };
    let mut two = without_two(&[part]);
    two.accepted.clear();
    two.surveys.push(survey(3, Vec::new()));
    let rebuilt = rebuild(&two).expect("named");
    let (_, reason) = &rebuilt.incomplete[0];
    assert!(reason.contains("a group of 2 copies"), "{reason}");
}

#[test]
fn a_store_that_a_log_waits_for_stays_in_the_list() {
    let key = StoreRow::key_of(StoreId(2));
    let light = LightRow {
        id: StoreId(2),
        on: Vec::new(),
        at_ms: 1,
    };
    // All copies of its log were there, and nobody accepts that loss.
    let mut two = without_two(&[group(2, &[1, 2])]);
    two.accepted.clear();
    let alone = volume(5, 0, vec![segment(1, 5, 1, &[2])]);
    two.surveys[0].notes.push(note(6, &alone));
    two.surveys[0].notes.push(note(6, &light));
    let rebuilt = rebuild(&two).expect("named");
    assert_eq!(rebuilt.incomplete.len(), 1);
    assert!(rebuilt.rows.contains_key(&key), "{:?}", rebuilt.remarks);
    // Accepted, the volume has a log without a copy that is there: that waits, too.
    two.accepted.insert("a".to_owned());
    let rebuilt = rebuild(&two).expect("named");
    assert!(rebuilt.rows.contains_key(&key), "{:?}", rebuilt.remarks);
    let text = rebuilt.remarks.join(" ");
    assert!(text.contains("azekura disk remove 2 --lost"), "{text}");
    // With a copy elsewhere nothing waits, and nothing of the store is left.
    let both = volume(5, 0, vec![segment(1, 5, 1, &[1, 2])]);
    two.surveys[0].notes.push(note(7, &both));
    let rebuilt = rebuild(&two).expect("named");
    assert!(!rebuilt.rows.contains_key(&key), "{:?}", rebuilt.remarks);
    assert!(!rebuilt.rows.contains_key(&light.key()));
}
