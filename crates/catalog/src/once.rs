//! Answers to changes that were asked for under a key, so that asking again is answered and not done twice.
//!
//! State: a table of [`SLOTS`] rows at most. A key has [`PROBES`] places in it, given by its digest; an answer stays for
//! [`KEPT_MS`] at least, and then until another key needs its place. So nothing has to be swept, and nothing grows.
//!
//! Invariants
//! - A change is begun under a key by one caller at a time: all places of the key are compared unchanged by the transaction that
//!   takes one of them.
//! - A change whose answer never came counts as running for [`RUNS_MS`], longer than anybody waits for it; then it may be begun again.
//!   Times are the wall clocks of nodes: they may differ by two minutes.
//!
//! Source: IETF draft-ietf-httpapi-idempotency-key-header-07.

use crate::access::{Catalog, CatalogError, Transaction, Versioned};
use crate::kv::Compare;
use crate::rows::{Row, numbered};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Rows at most, of about 1 KiB each: 16 MiB.
const SLOTS: u64 = 16_384;
/// Places of a key.
const PROBES: usize = 4;
/// Hexadecimal digits of a digest that give one place.
const PROBE_DIGITS: usize = 16;
/// An answer is kept for ten minutes.
const KEPT_MS: u64 = 10 * 60 * 1000;
/// A request is given up after two and a half minutes; the rest is for clocks of nodes that differ.
const RUNS_MS: u64 = 5 * 60 * 1000;
/// Rounds of compare-and-swap.
const ROUNDS_MAX: usize = 16;

/// A change that was begun under a key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OnceRow {
    /// Its place.
    pub slot: u64,
    /// Digest of who asked and of the key, in hexadecimal digits.
    pub digest: String,
    /// Digest of what was asked for.
    pub request: String,
    /// When it was begun, or answered: Unix milliseconds.
    pub at_ms: u64,
    /// The answer, once there is one, as the API's type in JSON.
    #[serde(default)]
    pub answer: Option<serde_json::Value>,
}

impl Row for OnceRow {
    const PREFIX: &'static str = "once/";
    fn key(&self) -> String {
        numbered(Self::PREFIX, self.slot)
    }
}

impl OnceRow {
    /// Whether its place may be taken.
    fn is_over(&self, now_ms: u64) -> bool {
        let age = now_ms.saturating_sub(self.at_ms);
        age >= if self.answer.is_some() {
            KEPT_MS
        } else {
            RUNS_MS
        }
    }
}

/// How a change under a key stands.
#[derive(Clone, Debug, PartialEq)]
pub enum Once {
    /// The caller carries it out.
    Begun,
    /// Somebody else does, and has no answer yet.
    Running,
    /// It was carried out: the answer.
    Answered(serde_json::Value),
    /// The key was used for something else.
    Other,
    /// All places of the key hold answers that are not ten minutes old.
    Crowded,
}

/// The places of a digest.
fn slots_of(digest: &str) -> BTreeSet<u64> {
    let part = |index: usize| digest.get(index * PROBE_DIGITS..(index + 1) * PROBE_DIGITS);
    let number = |text: &str| u64::from_str_radix(text, 16).ok();
    let parts = (0..PROBES).map_while(|index| part(index).and_then(number));
    parts.map(|number| number % SLOTS).collect()
}

impl Catalog {
    /// Begins a change under a key, unless it was begun before. After [`CatalogError::Kv`] it may count as begun: asked
    /// again, it is then [`Once::Running`] for a while.
    ///
    /// # Errors
    /// [`CatalogError::Refused`] for a digest that is none, [`CatalogError::Contended`], [`CatalogError::Kv`],
    /// [`CatalogError::Damaged`].
    pub async fn begin_once(
        &self,
        digest: &str,
        request: &str,
        now_ms: u64,
    ) -> Result<Once, CatalogError> {
        for _ in 0..ROUNDS_MAX {
            let places = self.places_of(digest).await?;
            let fresh = |slot: u64| OnceRow {
                slot,
                digest: digest.to_owned(),
                request: request.to_owned(),
                at_ms: now_ms,
                answer: None,
            };
            let own = |(_, found): &&Place| {
                found
                    .as_ref()
                    .is_some_and(|found| found.row.digest == digest)
            };
            let free =
                |(_, found): &&Place| found.as_ref().is_none_or(|found| found.row.is_over(now_ms));
            let taken = match places.iter().find(own) {
                Some((_, Some(found))) if found.row.request != request => return Ok(Once::Other),
                Some((slot, Some(found))) => match &found.row.answer {
                    Some(answer) => return Ok(Once::Answered(answer.clone())),
                    None if !found.row.is_over(now_ms) => return Ok(Once::Running),
                    None => *slot,
                },
                _ => match places.iter().find(free) {
                    Some((slot, _)) => *slot,
                    None => return Ok(Once::Crowded),
                },
            };
            let mut step = Transaction::new();
            for (slot, found) in &places {
                step = match (found, *slot == taken) {
                    (Some(found), true) => step.replace(found, &fresh(*slot)),
                    (None, true) => step.create(&fresh(*slot)),
                    (Some(found), false) => step.unchanged(found),
                    (None, false) => step.when(Compare::Absent(numbered(OnceRow::PREFIX, *slot))),
                };
            }
            if self.commit(step).await?.is_some() {
                return Ok(Once::Begun);
            }
        }
        Err(CatalogError::Contended)
    }

    /// Keeps the answer of a change that was begun; without one it may be begun again. Repeating it is safe.
    ///
    /// # Errors
    /// As [`Catalog::begin_once`].
    pub async fn end_once(
        &self,
        digest: &str,
        request: &str,
        answer: Option<&serde_json::Value>,
        now_ms: u64,
    ) -> Result<(), CatalogError> {
        for _ in 0..ROUNDS_MAX {
            let places = self.places_of(digest).await?;
            let mine = |row: &OnceRow| row.digest == digest && row.request == request;
            let mut found = places.iter().filter_map(|(_, found)| found.as_ref());
            let Some(found) = found.find(|found| mine(&found.row) && found.row.answer.is_none())
            else {
                return Ok(());
            };
            let step = match answer {
                Some(answer) => {
                    let mut row = found.row.clone();
                    row.at_ms = now_ms;
                    row.answer = Some(answer.clone());
                    Transaction::new().replace(found, &row)
                }
                None => Transaction::new().remove(found),
            };
            if self.commit(step).await?.is_some() {
                return Ok(());
            }
        }
        Err(CatalogError::Contended)
    }

    /// What is at the places of a key.
    async fn places_of(&self, digest: &str) -> Result<Vec<Place>, CatalogError> {
        let slots = slots_of(digest);
        if slots.is_empty() {
            return Err(CatalogError::Refused(format!("{digest:?} is no digest")));
        }
        let mut places = Vec::new();
        for slot in slots {
            let found = self.read(&numbered(OnceRow::PREFIX, slot)).await?;
            places.push((slot, found));
        }
        Ok(places)
    }
}

type Place = (u64, Option<Versioned<OnceRow>>);
