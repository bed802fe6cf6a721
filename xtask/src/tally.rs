//! Counts of tests, read from what the test runners print.

use std::fmt;

/// Tests and seeds by outcome.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub passed: u64,
    pub failed: u64,
    pub skipped: u64,
}

impl Tally {
    /// Adds what another runner counted.
    pub fn add(&mut self, other: &Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{} passed, {} failed, {} skipped",
            self.passed, self.failed, self.skipped
        )
    }
}

/// Reads `Summary [ 1.2s] 10/12 tests run: 8 passed (1 slow), 1 failed, 1 timed out, 2 skipped`.
/// Tests that a cancelled run did not start count as failed.
pub fn of_nextest(line: &str) -> Option<Tally> {
    let (head, counts) = line.split_once(':')?;
    let mut tally = Tally::default();
    for part in without_brackets(counts).split(',') {
        let part = part.trim();
        let (number, word) = part.split_once(' ')?;
        let number: u64 = number.parse().ok()?;
        match word.trim() {
            "passed" => tally.passed += number,
            "skipped" => tally.skipped += number,
            // failed, timed out, exec failed, and what later versions may add
            _ => tally.failed += number,
        }
    }
    let started = head.split(']').next_back()?.trim().split(' ').next()?;
    if let Some((run, all)) = started.split_once('/') {
        let missed = all.parse::<u64>().ok()?.saturating_sub(run.parse().ok()?);
        tally.failed += missed;
    }
    Some(tally)
}

/// Drops `(1 slow, 1 leaky)`: these tests are counted outside the brackets already.
fn without_brackets(text: &str) -> String {
    let mut depth = 0_u32;
    let mut kept = String::new();
    for character in text.chars() {
        match character {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ if depth == 0 => kept.push(character),
            _ => {}
        }
    }
    kept
}

/// Reads `test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; ...`.
pub fn of_libtest(line: &str) -> Tally {
    let number = |word: &str| number_before(line, word).unwrap_or(0);
    Tally {
        passed: number("passed"),
        failed: number("failed"),
        skipped: number("ignored"),
    }
}

/// Reads the simulator's last line: `300 seeds passed, 0 failed` in any wording that has a number, `passed` and
/// `failed` in this order.
pub fn of_seeds(line: &str) -> Option<Tally> {
    let passed = number_before(line, "passed")?;
    let failed = number_before(line, "failed")?;
    Some(Tally {
        passed,
        failed,
        skipped: number_before(line, "skipped").unwrap_or(0),
    })
}

/// The last number before the first `word`.
fn number_before(line: &str, word: &str) -> Option<u64> {
    let before = &line[..line.find(word)?];
    let words = before.split(|c: char| !c.is_ascii_alphanumeric());
    words.filter_map(|word| word.parse().ok()).next_back()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(passed: u64, failed: u64, skipped: u64) -> Tally {
        Tally {
            passed,
            failed,
            skipped,
        }
    }

    #[test]
    fn a_clean_summary_counts_what_passed() {
        let line = "     Summary [   0.123s] 10 tests run: 10 passed, 0 skipped";
        assert_eq!(of_nextest(line), Some(tally(10, 0, 0)));
    }

    #[test]
    fn timeouts_and_tests_that_never_started_count_as_failed() {
        let line = "Summary [ 1.2s] 10/12 tests run: 8 passed (1 slow, 1 leaky), 1 failed, \
                    1 timed out, 2 skipped";
        assert_eq!(of_nextest(line), Some(tally(8, 4, 2)));
    }

    #[test]
    fn libtest_lines_are_read() {
        let line = "test result: FAILED. 3 passed; 2 failed; 1 ignored; 0 measured; 0 filtered out";
        assert_eq!(of_libtest(line), tally(3, 2, 1));
    }

    #[test]
    fn seeds_are_read_in_either_wording() {
        assert_eq!(
            of_seeds("300 seeds passed, 2 seeds failed"),
            Some(tally(300, 2, 0))
        );
        assert_eq!(
            of_seeds("299 passed, 1 failed, 0 skipped"),
            Some(tally(299, 1, 0))
        );
        assert_eq!(of_seeds("seed 7: hash 1f"), None);
    }
}
