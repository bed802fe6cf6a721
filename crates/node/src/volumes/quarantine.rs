//! Volumes that end their owners are left alone for longer and longer, so that they do not take one node after the other along.
//!
//! Invariants
//! - Before a volume with a log is opened the catalog remembers the attempt; afterwards it is forgotten. An opener that ended
//!   while it opened leaves it behind.
//! - A process that ended by a panic on a volume's behalf says so when it starts again ([`LastWords`]), before it opens that
//!   volume. A process that ended for any other reason accuses nobody: machines lose power, and people end processes.
//! - A volume with [`ENDS_MAX`] of either waits before the next node tries. Who served it for long since is forgotten.

use super::Refusal;
use crate::events::Told;
use crate::host::Host;
use catalog::{CatalogError, Row, Severity, Transaction, Versioned, VolumeRow};
use serde::{Deserialize, Serialize};
use std::rc::Rc;
use vocab::VolumeId;
use world::Duration;

/// Ends of processes after which a volume is in quarantine.
const ENDS_MAX: u32 = 3;
/// Length of the first quarantine; doubled with every further end, up to [`QUARANTINE_MS_MAX`].
const QUARANTINE_MS: u64 = 30_000;
const QUARANTINE_MS_MAX: u64 = 600_000;
/// Rounds of reading and writing a row that others write, too.
const ROUNDS_MAX: u32 = 16;
/// Pause before the catalog is told once more.
const TELL_PAUSE: Duration = Duration::from_secs(1);

/// What ended the process that ran here before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastWords {
    /// The volume on whose behalf it panicked.
    pub volume: VolumeId,
    /// When, Unix milliseconds.
    pub at_ms: u64,
    /// The panic's message and place.
    pub reason: String,
}

/// Nodes that ended while they opened or served a volume. It stays when the next one ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct OpeningRow {
    volume: VolumeId,
    /// Attempts in a row to open it that have not come to an end.
    attempts: u32,
    /// When the last one began, Unix milliseconds.
    at_ms: u64,
    /// Owners that panicked while they served it.
    #[serde(default)]
    panics: u32,
    /// When the last one did, Unix milliseconds.
    #[serde(default)]
    panicked_ms: u64,
}

impl Row for OpeningRow {
    const PREFIX: &'static str = "opening/";
    fn key(&self) -> String {
        opening_key(self.volume)
    }
}

fn opening_key(id: VolumeId) -> String {
    format!("{}{:020}", OpeningRow::PREFIX, id.0)
}

/// What counts of a row at a time.
#[derive(Debug, PartialEq, Eq)]
enum Before {
    /// So many attempts and panics.
    Counts(u32, u32),
    /// The volume is in quarantine.
    Quarantine,
}

impl OpeningRow {
    fn ends(&self) -> u32 {
        self.attempts.saturating_add(self.panics)
    }

    /// What counts when another attempt is made now. Wall clocks differ and jump, so one that says that more is left than the
    /// whole quarantine is not believed. Pure.
    fn before(&self, now_ms: u64) -> Before {
        let waits = quarantine_ms(self.ends());
        let until_ms = self.at_ms.max(self.panicked_ms).saturating_add(waits);
        // An end older than the longest quarantine has nothing to do with this attempt.
        if now_ms >= until_ms.saturating_add(QUARANTINE_MS_MAX) {
            return Before::Counts(0, 0);
        }
        let left = until_ms.saturating_sub(now_ms);
        match left == 0 || left > waits {
            true => Before::Counts(self.attempts, self.panics),
            false => Before::Quarantine,
        }
    }
}

/// How long a volume waits after it has ended so many processes.
fn quarantine_ms(ends: u32) -> u64 {
    let Some(further) = ends.checked_sub(ENDS_MAX) else {
        return 0;
    };
    QUARANTINE_MS_MAX.min(QUARANTINE_MS << further.min(10))
}

impl Host {
    /// Notes in the catalog that the volume is being opened; whether it did.
    pub(super) async fn remember_attempt(&self, row: &VolumeRow) -> Result<bool, Refusal> {
        if row.segments.is_empty() {
            return Ok(false);
        }
        let concerns = |words: &LastWords| words.volume == row.id;
        let own = self.volumes.last_words.borrow().clone().filter(concerns);
        if let Some(words) = own {
            self.accuse(&words).await?;
        }
        let now_ms = self.world.clock.unix_ms();
        for _ in 0..ROUNDS_MAX {
            let found = self.opening_row(row.id).await?;
            let (attempts, panics) = match found.as_ref().map(|found| found.row.before(now_ms)) {
                None => (0, 0),
                Some(Before::Counts(attempts, panics)) => (attempts, panics),
                Some(Before::Quarantine) => return Err(self.tell_of_quarantine(row)),
            };
            let opening = OpeningRow {
                volume: row.id,
                attempts: attempts + 1,
                at_ms: now_ms,
                panics,
                panicked_ms: found.as_ref().map_or(0, |found| found.row.panicked_ms),
            };
            if self.put_over(found, &opening).await? {
                return Ok(true);
            }
        }
        Err(CatalogError::Contended.into())
    }

    async fn opening_row(
        &self,
        id: VolumeId,
    ) -> Result<Option<Versioned<OpeningRow>>, CatalogError> {
        self.catalog.read(&opening_key(id)).await
    }

    /// Writes the row in the place of what was read; `false`: that has changed.
    async fn put_over(
        &self,
        found: Option<Versioned<OpeningRow>>,
        row: &OpeningRow,
    ) -> Result<bool, CatalogError> {
        let transaction = match found {
            Some(found) => Transaction::new().replace(&found, row),
            None => Transaction::new().create(row),
        };
        Ok(self.catalog.commit(transaction).await?.is_some())
    }

    fn tell_of_quarantine(&self, row: &VolumeRow) -> Refusal {
        let entity = format!("volume/{}", row.name);
        let message = format!(
            "volume {} is in quarantine: nodes that opened or served it ended while they did",
            row.name
        );
        let told = Told::new(Severity::Critical, "volume-quarantined", entity, message);
        self.tell(told.remedy("look at the logs of the nodes that ended"));
        Refusal::Busy(format!(
            "volume {} is in quarantine: the last {ENDS_MAX} nodes that opened or served it ended while they did; look \
             at their logs; it is tried again within {} minutes",
            row.name,
            QUARANTINE_MS_MAX / 60_000
        ))
    }

    /// The attempt has come to an end, and this process has not. Panics of those that served the volume before stay: whether
    /// this one gets further shows later.
    pub(super) async fn forget_attempt(&self, id: VolumeId) -> Result<(), CatalogError> {
        for _ in 0..ROUNDS_MAX {
            let Some(found) = self.opening_row(id).await? else {
                return Ok(());
            };
            let done = match found.row.panics > 0 {
                true => {
                    let row = OpeningRow {
                        attempts: 0,
                        at_ms: 0,
                        ..found.row.clone()
                    };
                    self.put_over(Some(found), &row).await?
                }
                false => {
                    let gone = Transaction::new().remove(&found);
                    self.catalog.commit(gone).await?.is_some()
                }
            };
            if done {
                return Ok(());
            }
        }
        Err(CatalogError::Contended)
    }

    /// Tells the catalog what ended the process before this one. What concerns a volume that this node opens first is told by
    /// that.
    pub(crate) async fn tell_last_words(self: Rc<Self>) {
        loop {
            let Some(words) = self.volumes.last_words.borrow().clone() else {
                return;
            };
            match self.accuse(&words).await {
                Ok(()) => return,
                Err(error) => tracing::debug!(%error, "why this node ended is told later"),
            }
            self.world.sleep(TELL_PAUSE).await;
        }
    }

    /// Whether the catalog knows what ended the process before this one; also when nothing is known of that.
    #[must_use]
    pub fn has_told_last_words(&self) -> bool {
        self.volumes.last_words.borrow().is_none()
    }

    /// The volume is gone, and what it ended with it.
    pub(crate) async fn forget_openings(&self, id: VolumeId) -> Result<(), CatalogError> {
        match self.opening_row(id).await? {
            Some(found) => {
                let gone = Transaction::new().remove(&found);
                self.catalog.commit(gone).await.map(drop)
            }
            None => Ok(()),
        }
    }

    /// Counts the panic, once.
    async fn accuse(&self, words: &LastWords) -> Result<(), CatalogError> {
        let key = VolumeRow::key_of(words.volume);
        if self.catalog.read::<VolumeRow>(&key).await?.is_none() {
            self.volumes.last_words.borrow_mut().take();
            return Ok(());
        }
        for _ in 0..ROUNDS_MAX {
            let found = self.opening_row(words.volume).await?;
            let counted = |found: &Versioned<OpeningRow>| found.row.panicked_ms == words.at_ms;
            let row = accused(found.as_ref().map(|found| &found.row), words);
            if found.as_ref().is_some_and(counted) || self.put_over(found, &row).await? {
                self.volumes.last_words.borrow_mut().take();
                tracing::error!(
                    volume = words.volume.0,
                    reason = words.reason,
                    "the process before this one panicked while it served a volume"
                );
                return Ok(());
            }
        }
        Err(CatalogError::Contended)
    }
}

/// The row with one panic more. Pure.
fn accused(before: Option<&OpeningRow>, words: &LastWords) -> OpeningRow {
    let fresh = before.filter(|row| row.before(words.at_ms) != Before::Counts(0, 0));
    match fresh {
        Some(row) => OpeningRow {
            panics: row.panics.saturating_add(1),
            panicked_ms: row.panicked_ms.max(words.at_ms),
            ..row.clone()
        },
        None => OpeningRow {
            volume: words.volume,
            attempts: 0,
            at_ms: 0,
            panics: 1,
            panicked_ms: words.at_ms,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(attempts: u32, panics: u32) -> OpeningRow {
        OpeningRow {
            volume: VolumeId(1),
            attempts,
            at_ms: 1_000_000,
            panics,
            panicked_ms: 0,
        }
    }

    #[test]
    fn quarantine_needs_ends_and_a_clock_that_can_be_believed() {
        // Fewer than three wait for nothing, wherever the clock is.
        assert_eq!(row(2, 0).before(1_000_001), Before::Counts(2, 0));
        assert_eq!(row(1, 1).before(1), Before::Counts(1, 1));
        assert_eq!(row(3, 0).before(1_000_001), Before::Quarantine);
        assert_eq!(row(1, 2).before(1_029_999), Before::Quarantine);
        assert_eq!(row(3, 0).before(1_030_000), Before::Counts(3, 0));
        let back = row(3, 0).before(999_999);
        assert_eq!(back, Before::Counts(3, 0), "the clock went back");
        assert_eq!(row(3, 0).before(1_000_000 + 630_000), Before::Counts(0, 0));
        let later = OpeningRow {
            panicked_ms: 1_500_000,
            ..row(0, 3)
        };
        assert_eq!(later.before(1_529_999), Before::Quarantine);
        assert_eq!(later.before(1_530_000), Before::Counts(0, 3));
    }

    #[test]
    fn a_panic_counts_with_those_shortly_before_it() {
        let words = |at_ms| LastWords {
            volume: VolumeId(1),
            at_ms,
            reason: String::new(),
        };
        let first = accused(None, &words(1_000_000));
        assert_eq!((first.panics, first.ends()), (1, 1));
        let second = accused(Some(&first), &words(1_100_000));
        assert_eq!((second.panics, second.panicked_ms), (2, 1_100_000));
        let late = accused(Some(&second), &words(900_000));
        assert_eq!((late.panics, late.panicked_ms), (3, 1_100_000), "told late");
        let long_after = accused(Some(&second), &words(1_100_000 + QUARANTINE_MS_MAX));
        assert_eq!(long_after.panics, 1);
    }

    #[test]
    fn quarantine_starts_after_three_ends_and_grows_to_its_bound() {
        let waits: Vec<u64> = (0..6).map(quarantine_ms).collect();
        assert_eq!(waits, [0, 0, 0, 30_000, 60_000, 120_000]);
        assert_eq!(quarantine_ms(u32::MAX - 1), QUARANTINE_MS_MAX);
    }
}
