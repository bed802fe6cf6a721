//! What may be lost of the logs of volumes: from the segments of all rows, read when somebody asks and what is known is old.
//!
//! Rows say where copies are; whether they count is judged with what the stores said last, so a loss shows at once, and its
//! repair when the rows are read next.

use crate::host::Host;
use api::{ComponentAnswer, LogCopiesAnswer};
use catalog::VolumeRow;
use curator::{Answering, Domains, LogCopies, LogTally, Standing, StoreFacts, level_name};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use vocab::StoreId;
use world::sync::promise;
use world::{Duration, Time};

/// What the rows said is good for so long, and for more with each of them: reading 10,000 takes about 50 ms, every 25 s.
const AGE_MAX: Duration = Duration::from_secs(5);
const AGE_EACH: Duration = Duration::from_millis(2);
/// Patience with the catalog.
const PATIENCE: Duration = Duration::from_secs(2);

/// While the rows cannot be read, what they said before is believed for so many times as long as it was good for.
const BELIEVED_FOR: u32 = 4;

/// What the rows of volumes said, and when.
#[derive(Clone, Debug, Default)]
pub(crate) struct SaidLogs {
    /// When they were asked last.
    at: Time,
    good_for: Duration,
    /// What they said when they were read last; nothing before that.
    read: Option<ReadLogs>,
    /// Why they were not read the last time.
    problem: Option<String>,
}

/// What was read of all rows that can be read.
#[derive(Clone, Debug, Default)]
struct ReadLogs {
    at: Time,
    good_for: Duration,
    tally: LogTally,
    /// Keys of those that cannot.
    damaged: Vec<String>,
}

impl SaidLogs {
    /// Takes note that the rows could not be read.
    fn fail(&mut self, now: Time, problem: String) {
        (self.at, self.good_for) = (now, AGE_MAX);
        self.problem = Some(problem);
    }

    /// Why where logs lie is not known, or not of all.
    fn doubt(&self, now: Time) -> Option<String> {
        let is_old = |read: &ReadLogs| now.since(read.at) > read.good_for * BELIEVED_FOR;
        match (&self.read, &self.problem) {
            (None, problem) => Some(not_known(problem.as_deref())),
            (Some(read), Some(problem)) if is_old(read) => Some(not_known(Some(problem))),
            (Some(read), _) => {
                let first = read.damaged.first()?;
                let count = read.damaged.len();
                Some(format!(
                    "where the logs of {count} volumes lie is not known: their rows in the catalog cannot be read, as {first}"
                ))
            }
        }
    }
}

fn not_known(problem: Option<&str>) -> String {
    let problem = problem.unwrap_or("their rows are being read");
    format!("where the logs of volumes lie is not known: {problem}")
}

/// What may be lost of logs with so many copies, in domains of a level. Pure.
fn log_component(logs: &LogCopies, level: usize, have: usize) -> ComponentAnswer {
    let LogCopies {
        copies,
        volumes,
        degraded,
        unavailable,
        ..
    } = logs;
    let tolerates = logs.tolerates.get(level).copied().unwrap_or(0);
    let (name, apart) = (level_name(level), level_name(logs.level));
    let (state, reason, remedy) = if level > logs.level {
        let reason = format!("copies of logs are kept apart by {apart}");
        ("ok", Some(reason), None)
    } else if *unavailable > 0 {
        let reason = format!(
            "the logs of {unavailable} of {volumes} volumes have parts with no copy that answers"
        );
        (
            "critical",
            Some(reason),
            Some("bring their stores back".to_owned()),
        )
    } else if *degraded > 0 {
        let state = match is_bare(logs) {
            true => "critical",
            false => "degraded",
        };
        let reason =
            format!("the logs of {degraded} of {volumes} volumes have fewer than {copies} copies");
        let remedy = match have >= usize::from(*copies) {
            true => "nothing: their owners open them again on other stores; those that nobody serves are opened for it".to_owned(),
            false => format!("bring the stores back, or add {apart}s until there are {copies}"),
        };
        (state, Some(reason), Some(remedy))
    } else {
        ("ok", None, None)
    };
    ComponentAnswer {
        component: "log".to_owned(),
        rf: Some(*copies),
        domain: name,
        tolerates,
        state: state.to_owned(),
        reason,
        remedy,
    }
}

/// Whether the next loss may take a log away that wants more than one copy.
fn is_bare(logs: &LogCopies) -> bool {
    logs.copies > 1 && logs.tolerates.get(logs.level).copied().unwrap_or(0) == 0
}

/// Why the verdict is not `ok`, for people.
pub(super) fn reasons(logs: &[LogCopies]) -> Vec<String> {
    let one = |logs: &LogCopies| {
        let LogCopies {
            copies, volumes, ..
        } = logs;
        match (logs.unavailable, logs.degraded) {
            (0, 0) => None,
            (0, short) => Some(format!(
                "the logs of {short} of {volumes} volumes have fewer than {copies} copies"
            )),
            (none, _) => Some(format!(
                "the logs of {none} of {volumes} volumes with {copies} copies have parts with none that answers: bring their \
                 stores back"
            )),
        }
    };
    logs.iter().filter_map(one).collect()
}

/// What may be lost of logs, by copies and level, the widest first.
pub(super) fn components(
    logs: &[LogCopies],
    apart: &Domains,
    stores: &BTreeMap<StoreId, StoreFacts>,
) -> Vec<ComponentAnswer> {
    let present = |level| {
        let present = stores.values();
        let present = present.filter(|facts| facts.standing == Standing::Present);
        let domains: BTreeSet<_> = present.map(|facts| apart.of(facts.id, level)).collect();
        domains.len()
    };
    let mut all = Vec::new();
    for logs in logs {
        let have = present(logs.level);
        let levels = (0..apart.count()).rev();
        all.extend(levels.map(|level| log_component(logs, level, have)));
    }
    all
}

pub(super) fn answer(logs: &LogCopies) -> LogCopiesAnswer {
    let tolerates = logs.tolerates.get(logs.level).copied().unwrap_or(0);
    LogCopiesAnswer {
        rf: logs.copies,
        domain: level_name(logs.level),
        volumes: logs.volumes,
        degraded: logs.degraded,
        unavailable: logs.unavailable,
        tolerates: u8::try_from(tolerates).unwrap_or(u8::MAX),
    }
}

impl Host {
    /// Reads where the logs of all volumes lie, unless that was read a moment ago. Without the catalog what is known stays for a while, and
    /// the verdict says then that it is known no more.
    pub(crate) async fn ask_logs(&self) {
        let lock = self.upkeep.asking_logs.clone();
        let held = lock.lock().await;
        let now = self.world.now();
        let is_good = |said: &SaidLogs| now.since(said.at) < said.good_for;
        if self.upkeep.logs.borrow().as_ref().is_some_and(is_good) {
            return;
        }
        let rows = self.catalog.list_sound::<VolumeRow>();
        let problem = match self.world.timeout(PATIENCE, rows).await {
            Ok(Ok((rows, damaged))) => {
                self.note_logs(rows.iter().map(|found| &found.row), damaged);
                return;
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => "the catalog does not answer in time".to_owned(),
        };
        // Those who wait for their turn do not wait for a catalog that is away, one after the other.
        let mut said = self.upkeep.logs.borrow_mut();
        said.get_or_insert_default().fail(self.world.now(), problem);
        drop(held);
    }

    /// As [`Self::ask_logs`], in a task of its own, which goes on when whoever asks goes away; waited for only while nothing is known.
    pub(crate) async fn ask_logs_beside(self: &Rc<Self>, patience: Duration) {
        let (promise, asked) = promise();
        if !self.upkeep.asks_logs.replace(true) {
            let host = self.clone();
            self.spawn(async move {
                host.ask_logs().await;
                host.upkeep.asks_logs.set(false);
                promise.fulfil(());
            });
        }
        if !self.knows_logs() {
            let _ = self.world.timeout(patience, asked).await;
        }
    }

    /// Whether where logs lie was read.
    pub(crate) fn knows_logs(&self) -> bool {
        let said = self.upkeep.logs.borrow();
        said.as_ref().is_some_and(|said| said.read.is_some())
    }

    /// Why the verdict on logs is none, or not of all.
    pub(super) fn doubts_on_logs(&self) -> Option<String> {
        let said = self.upkeep.logs.borrow();
        match &*said {
            Some(said) => said.doubt(self.world.now()),
            None => Some(not_known(None)),
        }
    }

    /// Takes note of rows that were read anyway: all of them but `damaged` ones.
    pub(crate) fn note_logs<'a>(
        &self,
        rows: impl ExactSizeIterator<Item = &'a VolumeRow>,
        damaged: Vec<String>,
    ) {
        let count = u32::try_from(rows.len()).unwrap_or(u32::MAX);
        let (at, good_for) = (self.world.now(), AGE_MAX + AGE_EACH * count);
        let read = ReadLogs {
            at,
            good_for,
            tally: LogTally::of(rows),
            damaged,
        };
        let said = SaidLogs {
            at,
            good_for,
            read: Some(read),
            problem: None,
        };
        *self.upkeep.logs.borrow_mut() = Some(said);
    }

    /// The verdict on logs by what rows and stores said last; nothing before the rows were read.
    pub(super) fn log_copies(
        &self,
        apart: &Domains,
        stores: &BTreeMap<StoreId, StoreFacts>,
    ) -> Vec<LogCopies> {
        let answers = |store: &StoreId| {
            let facts = stores.get(store);
            facts.is_some_and(super::resiliency::answers)
        };
        let answering: Answering = self.members.look(|view| {
            let rows = view.stores.values().filter(|row| answers(&row.id));
            rows.map(|row| (row.id, row.incarnation)).collect()
        });
        let said = self.upkeep.logs.borrow();
        let read = said.as_ref().and_then(|said| said.read.as_ref());
        read.map(|read| read.tally.judge(&answering, apart))
            .unwrap_or_default()
    }
}

/// Whether any log is in danger.
pub(super) fn are_critical(logs: &[LogCopies]) -> bool {
    logs.iter()
        .any(|logs| logs.unavailable > 0 || (logs.degraded > 0 && is_bare(logs)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use curator::NODE_LEVEL;

    fn logs(degraded: u32, unavailable: u32, tolerates: u32) -> LogCopies {
        LogCopies {
            copies: 2,
            level: NODE_LEVEL,
            volumes: 5,
            degraded,
            unavailable,
            tolerates: vec![tolerates, tolerates, 0],
        }
    }

    #[test]
    fn a_log_with_one_copy_left_is_critical_and_says_what_to_do() {
        let quiet = logs(0, 0, 1);
        assert_eq!(log_component(&quiet, NODE_LEVEL, 3).state, "ok");
        assert!(!are_critical(&[quiet]));
        let bare = logs(2, 0, 0);
        let part = log_component(&bare, NODE_LEVEL, 3);
        assert_eq!((&*part.state, part.tolerates), ("critical", 0));
        assert!(part.reason.unwrap().contains("2 of 5"));
        assert!(part.remedy.unwrap().starts_with("nothing"));
        let alone = log_component(&bare, NODE_LEVEL, 1).remedy.unwrap();
        assert!(alone.contains("add nodes until there are 2"), "{alone}");
        assert!(are_critical(&[bare]));
        assert!(are_critical(&[logs(1, 1, 0)]));
    }

    #[test]
    fn what_was_never_read_or_long_ago_is_not_known() {
        let begin = Time(0) + Duration::from_secs(100);
        let mut said = SaidLogs::default();
        assert!(said.doubt(begin).is_some(), "never read");
        said.fail(begin, "on purpose".to_owned());
        let doubt = said.doubt(begin).expect("still not");
        assert!(doubt.ends_with("not known: on purpose"), "{doubt}");
        said.problem = None;
        said.read = Some(ReadLogs {
            at: begin,
            good_for: AGE_MAX,
            ..ReadLogs::default()
        });
        let late = begin + AGE_MAX * (BELIEVED_FOR + 1);
        assert_eq!(said.doubt(late), None, "nobody asked since");
        said.fail(late, "on purpose".to_owned());
        assert_eq!(said.doubt(begin + AGE_MAX * BELIEVED_FOR), None);
        assert!(said.doubt(late).is_some(), "it is older than it may be");
    }

    #[test]
    fn a_row_that_cannot_be_read_is_told() {
        let said = SaidLogs {
            read: Some(ReadLogs {
                damaged: vec!["volume/7".to_owned()],
                ..ReadLogs::default()
            }),
            ..SaidLogs::default()
        };
        let doubt = said.doubt(Time(0)).expect("one is damaged");
        assert!(
            doubt.contains("1 volumes") && doubt.ends_with("volume/7"),
            "{doubt}"
        );
    }

    #[test]
    fn logs_in_one_rack_are_no_fault() {
        let part = log_component(&logs(0, 0, 1), NODE_LEVEL + 1, 3);
        assert_eq!((&*part.state, part.tolerates), ("ok", 0));
        assert!(part.reason.unwrap().contains("by node"));
    }
}
