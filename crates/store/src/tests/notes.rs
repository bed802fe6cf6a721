//! Notes: what the disks say about the cluster.

use super::*;
use wire::{Note, NoteVersion, StoreSurvey};

fn note(key: &str, number: u64, value: Option<&str>) -> Note {
    Note {
        key: key.to_owned(),
        version: NoteVersion { term: 1, number },
        value: value.map(str::to_owned),
    }
}

fn value_of(survey: &StoreSurvey, key: &str) -> Option<String> {
    let found = survey.notes.iter().find(|note| note.key == key)?;
    found.value.clone()
}

impl Machine {
    fn survey(&self) -> StoreSurvey {
        let surveyed = crate::survey(self.open_disks());
        run(&self.sim, &self.host, surveyed).expect("the disks can be read")
    }

    fn put_notes(&self, store: &Store, notes: Vec<Note>) -> Result<StoreReply, StoreError> {
        self.ask(store, StoreRequest::PutNotes { notes })
    }
}

#[test]
fn the_newest_note_survives_a_power_loss_and_a_clean_stop() {
    let mut machine = Machine::new(40, 1);
    let store = machine.open();
    let (new, old) = (note("k", 2, Some("new")), note("k", 1, Some("old")));
    machine.put_notes(&store, vec![new]).expect("kept");
    machine.put_notes(&store, vec![old]).expect("passed over");
    machine
        .put_notes(&store, vec![note("gone", 1, Some("x"))])
        .expect("kept");
    machine
        .put_notes(&store, vec![note("gone", 2, None)])
        .expect("forgotten");
    let store = machine.power_loss();
    assert_eq!(store.note_version("k").map(|held| held.number), Some(2));
    run(&machine.sim, &machine.host, async move {
        store.close().await;
    });
    let survey = machine.survey();
    assert_eq!(value_of(&survey, "k").as_deref(), Some("new"));
    assert_eq!(value_of(&survey, "gone"), None);
}

#[test]
fn a_note_about_a_log_is_there_whenever_what_came_after_it_is() {
    for crash_after_us in [0, 50, 100, 200, 400, 800, 1600] {
        let mut machine = Machine::new(41, 1);
        let store = machine.open();
        let key = log_note_key(VOLUME);
        machine
            .put_notes(&store, vec![note(&key, 1, Some("first"))])
            .expect("written");
        let records = [Chain::new(1).next(1)];
        let append = put(&machine, &store, &records, false);
        append.expect("written");
        machine.sim.run_for(Duration::from_micros(crash_after_us));
        machine.power_loss();
        let survey = machine.survey();
        let held = survey.logs.iter().any(|log| !log.segments.is_empty());
        assert!(!held || value_of(&survey, &key).is_some());
    }
}

#[test]
fn a_dropped_log_takes_its_note_along() {
    let machine = Machine::new(42, 1);
    let store = machine.open();
    let key = log_note_key(VOLUME);
    machine
        .put_notes(&store, vec![note(&key, 1, Some("it"))])
        .expect("written");
    let drop = StoreRequest::DropLog {
        volume: VOLUME,
        epoch: Epoch(4),
    };
    machine.ask(&store, drop).expect("dropped");
    assert_eq!(store.note_version(&key), None);
}

#[test]
fn rows_are_refused_when_they_would_fill_the_state_and_logs_are_not() {
    let machine = Machine::new(43, 1);
    let store = machine.open();
    let large = "x".repeat(12 << 10);
    let mut refused = None;
    for index in 0..200 {
        let row = note(&format!("volume/{index}"), 1, Some(&large));
        if let Err(error) = machine.put_notes(&store, vec![row]) {
            refused = Some(error);
            break;
        }
    }
    assert_eq!(refused, Some(StoreError::Full));
    let key = log_note_key(VOLUME);
    machine
        .put_notes(&store, vec![note(&key, 1, Some("it"))])
        .expect("always taken");
    let too_large = note("k", 1, Some(&"x".repeat(17 << 10)));
    let refused = machine.put_notes(&store, vec![too_large]);
    assert!(matches!(refused, Err(StoreError::BadRequest { .. })));
}

#[test]
fn a_survey_changes_nothing_and_says_what_is_there() {
    let machine = Machine::new(44, 1);
    let store = machine.open();
    machine.ask(&store, fence(3)).expect("promised");
    let mut chain = Chain::new(3);
    let records = [chain.next(1), chain.next(1)];
    put(&machine, &store, &records, true).expect("written");
    let life = store.incarnation();
    machine.host.crash();
    machine.host.restart();
    let first = machine.survey();
    assert_eq!(first, machine.survey());
    assert_eq!((first.store, first.incarnation), (StoreId(1), life));
    let log = &first.logs[0];
    assert_eq!((log.volume, log.promised), (VOLUME, Epoch(3)));
    assert_eq!(log.segments[0].last, Position(2));
    let store = machine.open();
    assert_eq!(store.incarnation(), life);
}
