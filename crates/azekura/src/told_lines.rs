//! Lines that drivers told this node, in memory, beside its own.
//!
//! Each teller (a token or a certificate, and no other one of its name: `api::teller`) has lines and an allowance of its own, so that
//! none takes the place of another's.
//!
//! Invariants
//! - All of it takes [`TOLD_BYTES_MAX`] at most, what one told [`TELLER_BYTES_MAX`]; when there is too much in all, the one with the most
//!   loses its oldest line.
//! - One teller has [`RATE_BYTES`] a second kept, after [`BURST_BYTES`] at once, whatever machines it tells from.
//! - A line that was told before is kept once: who got no answer tells again.
//! - No line is newer than when it was told: who follows lines goes by the newest.

use crate::log_window::size;
use api::{LogEntry, LogLevel, LogLineAnswer, LogOrigin, LogReport};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

/// Memory for all of them: some 8,000.
const TOLD_BYTES_MAX: usize = 8 << 20;
/// Memory for those of one teller.
const TELLER_BYTES_MAX: usize = 2 << 20;
/// Tellers: as many as Kubernetes clusters. Of more the one that has been silent for longest is forgotten.
const TELLERS_MAX: usize = 64;
/// What one may tell in a second, in bytes of memory: some 130 lines.
const RATE_BYTES: u64 = 128 << 10;
/// What one may tell at once after a silence.
const BURST_BYTES: i64 = 1 << 20;
/// What the place of a line in the order and among those that are known takes.
const PLACE_BYTES: usize = 64;

struct Line {
    digest: u64,
    bytes: usize,
    line: Arc<LogLineAnswer>,
}

/// One token or certificate.
struct Teller {
    lines: VecDeque<Line>,
    known: BTreeSet<u64>,
    bytes: usize,
    /// What it may still tell now; below nothing after a report that was more.
    allowance: i64,
    told_ms: u64,
}

impl Teller {
    fn new(now_ms: u64) -> Self {
        Self {
            lines: VecDeque::new(),
            known: BTreeSet::new(),
            bytes: 0,
            allowance: BURST_BYTES,
            told_ms: now_ms,
        }
    }

    /// How long it has to wait, in seconds.
    fn refill(&mut self, now_ms: u64) -> Result<(), u64> {
        let passed = now_ms.saturating_sub(self.told_ms).min(3_600_000);
        let more = i64::try_from(passed * RATE_BYTES / 1000).unwrap_or(BURST_BYTES);
        self.allowance = self.allowance.saturating_add(more).min(BURST_BYTES);
        self.told_ms = now_ms;
        match self.allowance {
            1.. => Ok(()),
            debt => Err(debt.unsigned_abs() / RATE_BYTES + 1),
        }
    }

    fn push(&mut self, digest: u64, line: LogLineAnswer) {
        let bytes = size(&line) + PLACE_BYTES;
        self.bytes += bytes;
        self.known.insert(digest);
        let line = Arc::new(line);
        self.lines.push_back(Line {
            digest,
            bytes,
            line,
        });
        while self.bytes > TELLER_BYTES_MAX {
            self.forget_one();
        }
    }

    fn forget_one(&mut self) {
        let oldest = self.lines.pop_front();
        let oldest = oldest.expect("what has bytes has a line");
        self.bytes -= oldest.bytes;
        self.known.remove(&oldest.digest);
    }
}

/// See the head of this file.
#[derive(Default)]
pub struct Told {
    tellers: BTreeMap<String, Teller>,
}

/// What a line is known by.
fn digest(what: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    hasher.finish()
}

impl Told {
    /// All lines; in the order of nothing.
    pub fn lines(&self) -> Vec<Arc<LogLineAnswer>> {
        let all = self.tellers.values().flat_map(|one| &one.lines);
        all.map(|line| line.line.clone()).collect()
    }

    /// Keeps lines, which get the next numbers; how many of them were not there.
    ///
    /// # Errors
    /// How many seconds the teller has to wait: nothing of the report is kept.
    pub fn keep(
        &mut self,
        by: &str,
        report: LogReport,
        now_ms: u64,
        number: &mut u64,
    ) -> Result<u64, u64> {
        let teller = self.teller(by, now_ms);
        teller.refill(now_ms)?;
        let LogReport {
            host,
            component,
            mut lines,
            lost,
        } = report;
        // The same line from the same program and machine.
        let same = |entry: &LogEntry| digest(&(&host, entry));
        let mut digests: Vec<u64> = lines.iter().map(same).collect();
        if lost > 0 {
            // Not by its time, which is another one when the report comes again; by what it came with, so that as many that are lost
            // later are another line.
            let lost_with = digest(&(&host, component, lost, &digests));
            digests.push(lost_with);
            lines.push(LogEntry {
                component,
                at_ms: now_ms,
                level: LogLevel::Warn,
                target: "csi::logs".to_owned(),
                message: format!("{lost} lines before this one were not told: there was no place for them while no node took any"),
                fields: BTreeMap::new(),
            });
        }
        let mut kept = 0;
        for (digest, entry) in digests.into_iter().zip(lines) {
            *number += 1;
            let line = line(by, &host, entry, now_ms, *number);
            teller.allowance -= i64::try_from(size(&line)).unwrap_or(BURST_BYTES);
            if !teller.known.contains(&digest) {
                teller.push(digest, line);
                kept += 1;
            }
        }
        self.trim();
        Ok(kept)
    }

    fn teller(&mut self, by: &str, now_ms: u64) -> &mut Teller {
        if !self.tellers.contains_key(by) && self.tellers.len() >= TELLERS_MAX {
            let silent = self.tellers.iter().min_by_key(|(_, one)| one.told_ms);
            let name = silent.map(|(name, _)| name.clone()).unwrap_or_default();
            self.tellers.remove(&name);
        }
        let teller = self.tellers.entry(by.to_owned());
        teller.or_insert_with(|| Teller::new(now_ms))
    }

    /// Lets the oldest lines go of who has the most, until all together is within the bound.
    fn trim(&mut self) {
        let mut bytes: usize = self.tellers.values().map(|one| one.bytes).sum();
        while bytes > TOLD_BYTES_MAX {
            let most = self.tellers.values_mut().max_by_key(|one| one.bytes);
            let most = most.expect("somebody has told what there is");
            bytes -= most.bytes;
            most.forget_one();
            bytes += most.bytes;
        }
    }
}

fn line(by: &str, host: &str, entry: LogEntry, now_ms: u64, number: u64) -> LogLineAnswer {
    LogLineAnswer {
        node: String::new(),
        number,
        at_ms: entry.at_ms.min(now_ms),
        level: entry.level,
        target: entry.target,
        message: entry.message,
        fields: entry.fields,
        origin: Some(LogOrigin {
            component: entry.component,
            host: host.to_owned(),
            by: by.to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::LogComponent;

    const NOW: u64 = 1_000_000;

    fn entry(text: &str) -> LogEntry {
        LogEntry {
            component: LogComponent::Attach,
            at_ms: 500,
            level: LogLevel::Info,
            target: "client".to_owned(),
            message: text.to_owned(),
            fields: BTreeMap::new(),
        }
    }

    fn report(lines: Vec<LogEntry>) -> LogReport {
        LogReport {
            host: "w".to_owned(),
            component: LogComponent::CsiNode,
            lines,
            lost: 0,
        }
    }

    fn of(told: &Told, by: &str) -> Vec<String> {
        let lines = told.lines().into_iter();
        let lines = lines.filter(|line| line.origin.as_ref().is_some_and(|one| one.by == by));
        lines.map(|line| line.message.clone()).collect()
    }

    #[test]
    fn a_repeated_report_is_kept_once_and_another_machine_says_the_same() {
        let (mut told, mut number) = (Told::default(), 7);
        let lines = vec![entry("a"), entry("b")];
        assert_eq!(
            told.keep("t", report(lines.clone()), NOW, &mut number),
            Ok(2)
        );
        assert_eq!(
            told.keep("t", report(lines.clone()), NOW, &mut number),
            Ok(0)
        );
        let elsewhere = LogReport {
            host: "x".to_owned(),
            ..report(lines)
        };
        assert_eq!(told.keep("t", elsewhere, NOW, &mut number), Ok(2));
        let numbers: BTreeSet<u64> = told.lines().iter().map(|line| line.number).collect();
        assert_eq!(numbers.len(), 4);
        assert!(numbers.iter().all(|number| *number > 7));
    }

    #[test]
    fn a_line_from_the_future_is_of_now_and_lost_ones_are_a_line() {
        let (mut told, mut number) = (Told::default(), 0);
        let future = LogEntry {
            at_ms: u64::MAX,
            ..entry("later")
        };
        let report = LogReport {
            lost: 12,
            ..report(vec![future])
        };
        assert_eq!(told.keep("t", report, NOW, &mut number), Ok(2));
        let lines = told.lines();
        assert!(lines.iter().all(|line| line.at_ms == NOW));
        let lost = lines
            .iter()
            .find(|line| line.message.starts_with("12 lines"));
        let origin = lost.and_then(|line| line.origin.as_ref());
        assert_eq!(origin.map(|one| one.component), Some(LogComponent::CsiNode));
    }

    #[test]
    fn lines_that_were_lost_are_counted_once_however_often_the_report_comes() {
        let (mut told, mut number) = (Told::default(), 0);
        let lost = |text: &str| LogReport {
            lost: 12,
            ..report(vec![entry(text)])
        };
        assert_eq!(told.keep("t", lost("a"), NOW, &mut number), Ok(2));
        assert_eq!(told.keep("t", lost("a"), NOW + 5000, &mut number), Ok(0));
        // As many that were lost later.
        assert_eq!(told.keep("t", lost("b"), NOW + 9000, &mut number), Ok(2));
        let mut texts = of(&told, "t");
        texts.retain(|text| text.starts_with("12 lines"));
        assert_eq!(texts.len(), 2);
    }

    #[test]
    fn who_tells_too_much_waits_and_others_do_not() {
        let (mut told, mut number) = (Told::default(), 0);
        let mut sent = 0;
        let wait = loop {
            let lines = (0..256)
                .map(|one| entry(&format!("{sent} {one}")))
                .collect();
            match told.keep("loud", report(lines), NOW, &mut number) {
                Ok(_) => sent += 256,
                Err(wait) => break wait,
            }
            assert!(sent < 10_000, "no bound");
        };
        assert!((1..10).contains(&wait), "{wait}");
        assert!(
            told.keep("calm", report(vec![entry("a")]), NOW, &mut number)
                .is_ok()
        );
        let later = NOW + wait * 1000;
        assert!(
            told.keep("loud", report(vec![entry("a")]), later, &mut number)
                .is_ok()
        );
    }

    #[test]
    fn nobody_takes_the_places_of_others_and_memory_is_bounded() {
        let (mut told, mut number) = (Told::default(), 0);
        let small = |teller: usize| report(vec![entry(&format!("of {teller}"))]);
        for teller in 0..8 {
            told.keep(&format!("t{teller}"), small(teller), NOW, &mut number)
                .expect("little");
        }
        let long = "x".repeat(4000);
        for round in 0..100_u64 {
            for teller in ["a", "b", "c", "d", "e", "f"] {
                let lines = (0..100)
                    .map(|one| entry(&format!("{round} {one} {long}")))
                    .collect();
                let now = NOW + round * 10_000;
                told.keep(teller, report(lines), now, &mut number)
                    .expect("slow enough");
            }
        }
        let bytes: usize = told.tellers.values().map(|one| one.bytes).sum();
        assert!(
            bytes <= TOLD_BYTES_MAX && bytes > TOLD_BYTES_MAX / 2,
            "{bytes}"
        );
        assert!(
            told.tellers
                .values()
                .all(|one| one.bytes <= TELLER_BYTES_MAX)
        );
        assert!(
            told.tellers
                .values()
                .all(|one| one.known.len() == one.lines.len())
        );
        for teller in 0..8 {
            assert_eq!(of(&told, &format!("t{teller}")), [format!("of {teller}")]);
        }
        for teller in 8..200 {
            told.keep(
                &format!("t{teller}"),
                small(teller),
                NOW + teller as u64,
                &mut number,
            )
            .expect("little");
        }
        assert_eq!(told.tellers.len(), TELLERS_MAX);
        assert!(told.tellers.contains_key("f"), "it spoke last");
    }
}
