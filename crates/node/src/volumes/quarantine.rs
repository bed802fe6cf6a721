//! Volumes that end their owners are left alone for longer and longer, so that they do not take one node after the other along.
//!
//! Invariants
//! - Before a volume with a log is opened the catalog remembers the attempt, and which process makes it; afterwards it is
//!   forgotten. A process that ends meanwhile leaves it behind. While the opening only waits for the end of old reads, which is most
//!   of it, the catalog does not have it: hundreds wait so at a time, and nothing that ends the process is done for them.
//! - A process that ended by a panic on a volume's behalf says so when it starts again ([`LastWords`]), before it opens that
//!   volume. That volume is accused, and the attempts that this process left behind are taken back.
//! - What a process that runs has ended is taken back until the catalog knows: an outage of it makes no suspects.
//! - A process that ended without a word accuses whatever it was opening: all of them are suspects, which are opened one at a
//!   time from then on (`turns.rs`). So an innocent one is accused once, and cleared when it was opened. What was served accuses
//!   nobody: machines lose power, and people end processes.
//! - A volume with [`ENDS_MAX`] of either waits before the next node tries. Who served it for long since is forgotten.
//! - A person may end that ([`Host::end_quarantine`]). Openings that are under way stay, and a volume that ended processes without
//!   a word is opened alone.

use super::Refusal;
use super::turns::{OwnTurn, Wish};
use crate::events::Told;
use crate::host::Host;
use crate::options::bug;
use catalog::{CatalogError, Row, Severity, Transaction, Versioned, VolumeRow};
use curator::alerts::{QUARANTINED, RELEASED};
use serde::{Deserialize, Serialize};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use vocab::{NodeId, VolumeId};
use volume::{Turn, VolumeError};
use world::{Duration, LocalBoxFuture};

/// Ends of processes after which a volume is in quarantine.
const ENDS_MAX: u32 = 3;
/// Length of the first quarantine; doubled with every further end, up to [`QUARANTINE_MS_MAX`].
const QUARANTINE_MS: u64 = 30_000;
const QUARANTINE_MS_MAX: u64 = 600_000;
/// Attempts of which is known who made them; of those before only how many. More than there are nodes that open it at once.
const TRIED_MAX: usize = 8;
/// Rounds of reading and writing a row that others write, too.
const ROUNDS_MAX: u32 = 16;
/// Pause before the catalog is told once more.
const TELL_PAUSE: Duration = Duration::from_secs(1);
/// How long a node that stops takes its attempts back for.
const STOP_PATIENCE: Duration = Duration::from_secs(1);

/// What ended the process that ran here before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastWords {
    /// The volume on whose behalf it panicked.
    pub volume: VolumeId,
    /// When, Unix milliseconds.
    pub at_ms: u64,
    /// Which start of the node it was ([`Host::start_number`]); not known of one that ended as it began.
    pub start: Option<u64>,
    /// The panic's message and place.
    pub reason: String,
}

/// Who tries to open a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Attempt {
    node: NodeId,
    /// Which start of the node.
    start: u64,
    /// When it began, Unix milliseconds.
    at_ms: u64,
    /// Whether who opened the volume after it has found its process gone. That process may have its lease for a while yet, and
    /// whoever comes next may not have asked its machine.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    gone: bool,
}

impl Attempt {
    fn is_of(&self, other: &Self) -> bool {
        (self.node, self.start) == (other.node, other.start)
    }

    /// Whether the process made it that has said what ended it. One that ended before that, without a word, is another one.
    fn is_explained(&self, own: &Self, words: &LastWords) -> bool {
        let said = words.start.is_none_or(|start| start == self.start);
        said && self.node == own.node && self.start != own.start && self.at_ms <= words.at_ms
    }
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
    /// The newest of the attempts. A release of before did not say who made them.
    #[serde(default)]
    tried: Vec<Attempt>,
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
    /// So many attempts that ended their process, and panics.
    Counts(u32, u32),
    /// The volume is in quarantine.
    Quarantine,
}

/// Whether the process that made an attempt still runs, as far as is known.
type Runs<'a> = &'a dyn Fn(&Attempt) -> bool;

impl OpeningRow {
    fn blank(volume: VolumeId) -> Self {
        Self {
            volume,
            attempts: 0,
            at_ms: 0,
            panics: 0,
            panicked_ms: 0,
            tried: Vec::new(),
        }
    }

    /// Attempts of which is not known who made them.
    fn nameless(&self) -> u32 {
        let named = u32::try_from(self.tried.len()).unwrap_or(u32::MAX);
        self.attempts.saturating_sub(named)
    }

    /// Attempts that ended their process, and when the last of them began.
    fn ended(&self, runs: Runs<'_>) -> (u32, u64) {
        let nameless = self.nameless();
        let first = (nameless, if nameless > 0 { self.at_ms } else { 0 });
        let over = |attempt: &&Attempt| attempt.gone || !runs(attempt);
        let ended = self.tried.iter().filter(over);
        ended.fold(first, |(count, last), attempt| {
            (count.saturating_add(1), last.max(attempt.at_ms))
        })
    }

    /// Attempts that ended their process, for how long all ends keep the volume back, and until when.
    fn waits(&self, runs: Runs<'_>) -> (u32, u64, u64) {
        let (attempts, at_ms) = self.ended(runs);
        let waits = quarantine_ms(attempts.saturating_add(self.panics));
        let until_ms = at_ms.max(self.panicked_ms).saturating_add(waits);
        (attempts, waits, until_ms)
    }

    /// When the quarantine ends that the volume is in now. Pure.
    fn quarantined_until(&self, now_ms: u64, runs: Runs<'_>) -> Option<u64> {
        let quarantined = self.before(now_ms, runs) == Before::Quarantine;
        quarantined.then(|| self.waits(runs).2)
    }

    /// What counts when another attempt is made now. Wall clocks differ and jump, so one that says that more is left than the
    /// whole quarantine is not believed. Pure.
    fn before(&self, now_ms: u64, runs: Runs<'_>) -> Before {
        let (attempts, waits, until_ms) = self.waits(runs);
        // An end older than the longest quarantine has nothing to do with this attempt.
        if now_ms >= until_ms.saturating_add(QUARANTINE_MS_MAX) {
            return Before::Counts(0, 0);
        }
        let left = until_ms.saturating_sub(now_ms);
        match left == 0 || left > waits {
            true => Before::Counts(attempts, self.panics),
            false => Before::Quarantine,
        }
    }

    /// Leaves only attempts that are to stay; those of nobody known count as what `nameless` says.
    fn retain(&mut self, nameless: u32, stays: impl Fn(&Attempt) -> bool) {
        self.tried.retain(stays);
        let named = u32::try_from(self.tried.len()).unwrap_or(u32::MAX);
        self.attempts = nameless.saturating_add(named);
        if self.attempts == 0 {
            self.at_ms = 0;
        }
    }

    /// Nothing of what was counted counts any more; what goes on elsewhere does.
    fn clear(&mut self, runs: Runs<'_>) {
        self.retain(0, |attempt| !attempt.gone && runs(attempt));
    }

    /// Keeps for others who is known to be gone. That somebody has no lease they see for themselves.
    fn note_gone(&mut self, is_gone: Runs<'_>) {
        for attempt in &mut self.tried {
            attempt.gone |= is_gone(attempt);
        }
    }

    /// A person says that the cause is gone: what ended processes does not count any more, and what goes on stays. Whether it was this
    /// volume that ended those which said nothing is known as little as before, so one such end counts still, as of now: the volume
    /// is a suspect, until it has been opened. When the last panic was stays known: whoever tells of it once more is not counted again.
    fn release(&mut self, now_ms: u64, runs: Runs<'_>) {
        let (ended, _) = self.ended(runs);
        self.retain(ended.min(1), |attempt| !attempt.gone && runs(attempt));
        self.panics = 0;
        if ended > 0 {
            self.at_ms = now_ms;
        }
    }

    fn add(&mut self, attempt: Attempt) {
        self.retain(self.nameless(), |other| !other.is_of(&attempt));
        self.tried.push(attempt);
        self.attempts = self.attempts.saturating_add(1);
        self.at_ms = attempt.at_ms;
        let older = self.tried.len().saturating_sub(TRIED_MAX);
        self.tried.drain(..older);
    }

    /// Takes back what a process of `own`'s node left behind that has said what ended it.
    fn excuse(&mut self, own: &Attempt, words: &LastWords) {
        let nameless = self.nameless();
        self.retain(nameless, |attempt| !attempt.is_explained(own, words));
    }

    fn is_blank(&self) -> bool {
        self.attempts == 0 && self.panics == 0
    }
}

/// What a person types to end the quarantine of a volume.
pub(crate) fn release_command(name: &str) -> String {
    format!("azekura volume release {name}")
}

/// How long a volume waits after it has ended so many processes.
fn quarantine_ms(ends: u32) -> u64 {
    let Some(further) = ends.checked_sub(ENDS_MAX) else {
        return 0;
    };
    QUARANTINE_MS_MAX.min(QUARANTINE_MS << further.min(10))
}

/// The turn of an opening whose attempt the catalog has, but for its last rest.
pub(super) struct NotedTurn {
    host: Rc<Host>,
    volume: VolumeId,
    turn: OwnTurn,
    /// Whether the catalog has the attempt at all.
    is_noted: bool,
    /// Of one that rests for the last time: whether the attempt is still to be taken back. Shared with who does.
    is_due: RefCell<Option<Rc<Cell<bool>>>>,
}

impl NotedTurn {
    /// Nothing is taken back any more; whether anything was to be.
    fn keep(&self) -> bool {
        let due = self.is_due.take();
        due.is_some_and(|due| due.replace(false))
    }
}

impl Turn for NotedTurn {
    fn rest(&self) {
        self.turn.rest();
    }

    fn settle(&self) {
        self.turn.settle();
        if !self.is_noted || self.host.turns.is_off() {
            return;
        }
        let due = Rc::new(Cell::new(true));
        self.is_due.replace(Some(due.clone()));
        let (host, volume, clear) = (self.host.clone(), self.volume, self.turn.clearance());
        self.host.spawn(async move {
            let taken_back = host.take_back_if(volume, &|| due.get()).await;
            // It may have been named again meanwhile.
            if taken_back.is_ok() && due.get() {
                clear();
            }
        });
    }

    fn resume(&self) -> LocalBoxFuture<'_, ()> {
        Box::pin(async move {
            self.turn.resume().await;
            if self.keep()
                && let Err(error) = self.host.note_again(self.volume).await
            {
                // What follows needs the catalog as well.
                tracing::debug!(volume = self.volume.0, %error, "the end of an opening is not noted");
            }
        })
    }
}

impl Drop for NotedTurn {
    fn drop(&mut self) {
        self.keep();
    }
}

impl Host {
    /// Waits for the volume's turn, and notes in the catalog that it is being opened.
    pub(super) async fn begin_attempt(
        self: &Rc<Self>,
        row: &VolumeRow,
    ) -> Result<NotedTurn, Refusal> {
        let begun = self.note_attempt(row).await;
        if begun.is_err() && self.volumes.opening.borrow().contains(&row.id) {
            // It may be in the catalog all the same, from this time or the one before.
            self.take_back_later(row.id);
        }
        Ok(NotedTurn {
            host: self.clone(),
            volume: row.id,
            turn: begun?,
            is_noted: !row.segments.is_empty(),
            is_due: RefCell::default(),
        })
    }

    /// Notes an attempt that was taken back while it only waited.
    async fn note_again(&self, id: VolumeId) -> Result<(), CatalogError> {
        for _ in 0..ROUNDS_MAX {
            let found = self.opening_row(id).await?;
            // What is under way is taken back when the node stops, and after that nothing may come.
            if self.is_stopping() {
                return Ok(());
            }
            let mut opening = self.known_of(id, found.as_ref());
            if !bug!(self.options.faults, ForgetAttempts) {
                opening.add(self.attempt());
            }
            self.volumes.opening.borrow_mut().insert(id);
            if self.put_over(found, &opening).await? {
                return Ok(());
            }
        }
        Err(CatalogError::Contended)
    }

    async fn note_attempt(self: &Rc<Self>, row: &VolumeRow) -> Result<OwnTurn, Refusal> {
        let mut wish = Wish {
            volume: row.id,
            attached: !row.attachment.clients.is_empty() && !bug!(self.options.faults, OpenInOrder),
            suspect: false,
        };
        if row.segments.is_empty() {
            return self.turn_for(row, wish).await;
        }
        let concerns = |words: &LastWords| words.volume == row.id;
        let own = self.volumes.last_words.borrow().clone().filter(concerns);
        if let Some(words) = own {
            self.tell_words(&words).await?;
        }
        let mut turn: Option<OwnTurn> = None;
        for _ in 0..ROUNDS_MAX {
            let found = self.opening_row(row.id).await?;
            let mut opening = self.known_of(row.id, found.as_ref());
            let attempt = self.attempt();
            let runs = |attempt: &Attempt| self.runs(attempt);
            wish.suspect = match opening.before(attempt.at_ms, &runs) {
                Before::Counts(0, 0) => {
                    opening.clear(&runs);
                    opening.panics = 0;
                    false
                }
                Before::Counts(attempts, _) => {
                    attempts > 0 && !bug!(self.options.faults, OpenSuspectsTogether)
                }
                Before::Quarantine => return Err(self.quarantined(row, found).await),
            };
            // Its place is given up before another one is taken.
            turn = turn.take().filter(|turn| turn.is_for(&wish));
            if turn.is_none() {
                let entered = self.turn_for(row, wish).await?;
                let has_waited = entered.has_waited();
                turn = Some(entered);
                if has_waited {
                    continue;
                }
            }
            if self.is_stopping() {
                return Err(Refusal::Busy("the node stops".to_owned()));
            }
            opening.note_gone(&|attempt| self.is_gone(attempt));
            if !bug!(self.options.faults, ForgetAttempts) {
                opening.add(attempt);
            }
            // Before the catalog has it: a node that stops must not overlook one whose answer is under way, or never came.
            self.volumes.opening.borrow_mut().insert(row.id);
            self.volumes.ended.borrow_mut().remove(&row.id);
            match self.put_over(found, &opening).await {
                Ok(true) => return turn.ok_or_else(|| CatalogError::Contended.into()),
                Ok(false) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(CatalogError::Contended.into())
    }

    /// The refusal of one that is in quarantine. What is known here of who runs is kept for others first: a node that takes an ended process
    /// for running would say that there is no quarantine to end.
    async fn quarantined(&self, row: &VolumeRow, found: Option<Versioned<OpeningRow>>) -> Refusal {
        if let Some(found) = found {
            let mut opening = found.row.clone();
            opening.note_gone(&|attempt| self.is_gone(attempt));
            if opening != found.row
                && let Err(error) = self.put_over(Some(found), &opening).await
            {
                tracing::debug!(volume = %row.name, %error, "who ended is known here alone");
            }
        }
        self.tell_of_quarantine(row)
    }

    /// The volume's turn, if it may still be opened here then.
    async fn turn_for(&self, row: &VolumeRow, wish: Wish) -> Result<OwnTurn, Refusal> {
        let turn = self.turns.enter(wish).await;
        if turn.has_waited() {
            if self.is_stopping() {
                return Err(Refusal::Busy("the node stops".to_owned()));
            }
            if let Some(reason) = self.lease.why_out() {
                return Err(Refusal::Busy(reason));
            }
            // Its owner may be back: the opening itself finds out only if somebody has taken it over.
            self.may_serve_now(row).await?;
        }
        Ok(turn)
    }

    /// An attempt of this process that begins now.
    fn attempt(&self) -> Attempt {
        Attempt {
            node: self.id,
            start: self.lease.start(),
            at_ms: self.world.clock.unix_ms(),
            gone: false,
        }
    }

    /// Whether the process that made the attempt has its lease, and its machine has not said that it is gone.
    fn runs(&self, attempt: &Attempt) -> bool {
        let (node, start) = (attempt.node, attempt.start);
        if node == self.id {
            return start == self.lease.start();
        }
        let alive = |start| {
            self.members
                .look(|view| view.alive.get(&node).is_some_and(|row| row.start == start))
        };
        alive(start) && !self.is_gone(attempt)
    }

    /// Whether the process that made the attempt ended for certain: it was this node's before, or its machine has said so.
    fn is_gone(&self, attempt: &Attempt) -> bool {
        let (node, start) = (attempt.node, attempt.start);
        if node == self.id {
            return start != self.lease.start();
        }
        let (probes, now) = (&self.volumes.probes, self.world.now());
        probes.is_believed_gone(node, start, now, self.options.lease)
    }

    /// What counts of a row here: without what the process before this one explains.
    fn known_of(&self, id: VolumeId, found: Option<&Versioned<OpeningRow>>) -> OpeningRow {
        let mut known = found.map_or_else(|| OpeningRow::blank(id), |found| found.row.clone());
        let own = self.attempt();
        // Whoever says so of this process is wrong.
        known
            .tried
            .iter_mut()
            .filter(|attempt| attempt.is_of(&own))
            .for_each(|attempt| attempt.gone = false);
        if let Some(words) = &*self.volumes.last_words.borrow() {
            known.excuse(&self.attempt(), words);
        }
        known
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
        let told = Told::new(Severity::Critical, QUARANTINED, entity, message);
        self.tell(told.remedy(format!(
            "look at the logs of the nodes that ended; when the cause is gone, `{}` ends the quarantine at once",
            release_command(&row.name)
        )));
        Refusal::Busy(format!(
            "volume {} is in quarantine: the last {ENDS_MAX} nodes that opened or served it ended while they did; look \
             at their logs; it is tried again within {} minutes, or at once after `{}`",
            row.name,
            QUARANTINE_MS_MAX / 60_000,
            release_command(&row.name)
        ))
    }

    /// When the quarantine ends that a volume is in now, Unix milliseconds.
    pub(crate) async fn quarantined_until(
        &self,
        id: VolumeId,
    ) -> Result<Option<u64>, CatalogError> {
        let Some(found) = self.opening_row(id).await? else {
            return Ok(None);
        };
        let now_ms = self.world.clock.unix_ms();
        let runs = |attempt: &Attempt| self.runs(attempt);
        Ok(found.row.quarantined_until(now_ms, &runs))
    }

    /// The same of all volumes that are in one. One read of the catalog, of volumes that are being opened or have ended processes.
    pub(crate) async fn quarantines(&self) -> Result<BTreeMap<VolumeId, u64>, CatalogError> {
        let rows = self.catalog.list::<OpeningRow>().await?;
        let now_ms = self.world.clock.unix_ms();
        let runs = |attempt: &Attempt| self.runs(attempt);
        let until = |found: &Versioned<OpeningRow>| {
            let until_ms = found.row.quarantined_until(now_ms, &runs)?;
            Some((found.row.volume, until_ms))
        };
        Ok(rows.iter().filter_map(until).collect())
    }

    /// Ends a volume's quarantine before its time; whether it was in one. Other nodes hear of it when they look at the row again,
    /// within [`BACKOFF_MAX`](super::BACKOFF_MAX).
    pub(crate) async fn end_quarantine(&self, row: &VolumeRow) -> Result<bool, CatalogError> {
        for _ in 0..ROUNDS_MAX {
            let Some(found) = self.opening_row(row.id).await? else {
                return Ok(false);
            };
            let now_ms = self.world.clock.unix_ms();
            let runs = |attempt: &Attempt| self.runs(attempt);
            if found.row.before(now_ms, &runs) != Before::Quarantine {
                return Ok(false);
            }
            let mut opening = found.row.clone();
            opening.release(now_ms, &runs);
            if self.put_over(Some(found), &opening).await? {
                self.volumes.forget_busy(row.id);
                self.tell_of_release(row);
                return Ok(true);
            }
        }
        Err(CatalogError::Contended)
    }

    fn tell_of_release(&self, row: &VolumeRow) {
        tracing::info!(volume = %row.name, "released from quarantine");
        let entity = format!("volume/{}", row.name);
        let message = format!(
            "volume {} was released from quarantine by hand: any node may open it",
            row.name
        );
        self.tell(Told::new(Severity::Info, RELEASED, entity, message));
    }

    /// The attempt has come to an end, and this process has not: the volume is no suspect any more, unless it was not looked at
    /// at all. Panics of those that served it before stay: whether this one gets further shows later.
    pub(super) async fn end_attempt<T>(
        self: &Rc<Self>,
        row: &VolumeRow,
        opened: &Result<T, VolumeError>,
    ) {
        let own = self.attempt();
        let runs = |attempt: &Attempt| !attempt.is_of(&own) && self.runs(attempt);
        let ended = match opened {
            _ if row.segments.is_empty() => Ok(()),
            Err(VolumeError::Catalog(_)) => self.take_back(row.id).await,
            Ok(_) | Err(_) => self.change(row.id, |opening| opening.clear(&runs)).await,
        };
        self.volumes.opening.borrow_mut().remove(&row.id);
        if let Err(error) = ended {
            tracing::debug!(volume = %row.name, %error, "the attempt to open it stays in the catalog for now");
            self.take_back_later(row.id);
        }
    }

    /// An attempt that has come to an end must not accuse the volume when this process ends much later: the catalog is told until it
    /// knows, or until the volume is opened once more.
    fn take_back_later(self: &Rc<Self>, id: VolumeId) {
        self.volumes.opening.borrow_mut().remove(&id);
        self.volumes.ended.borrow_mut().insert(id);
        if !self.volumes.takes_back.replace(true) {
            self.spawn(self.clone().take_ended_back());
        }
    }

    async fn take_ended_back(self: Rc<Self>) {
        loop {
            self.world.sleep(TELL_PAUSE).await;
            let ended = self.volumes.ended.borrow().clone();
            if ended.is_empty() {
                break;
            }
            for id in ended {
                let is_over = || self.volumes.ended.borrow().contains(&id);
                if self.take_back_if(id, &is_over).await.is_err() {
                    break;
                }
                self.volumes.ended.borrow_mut().remove(&id);
            }
        }
        self.volumes.takes_back.set(false);
    }

    /// As if this process had never tried.
    async fn take_back(&self, id: VolumeId) -> Result<(), CatalogError> {
        self.take_back_if(id, &|| true).await
    }

    /// As [`Self::take_back`], if it is to be still when the row has been read.
    async fn take_back_if(
        &self,
        id: VolumeId,
        is_due: &dyn Fn() -> bool,
    ) -> Result<(), CatalogError> {
        let own = self.attempt();
        let change = |opening: &mut OpeningRow| {
            if is_due() {
                opening.retain(opening.nameless(), |attempt| !attempt.is_of(&own));
            }
        };
        self.change(id, change).await
    }

    /// Takes back all attempts that are under way: the node stops, and that is nobody's fault.
    pub(crate) async fn take_attempts_back(&self) {
        let mut opening = self.volumes.opening.take();
        opening.append(&mut self.volumes.ended.take());
        if opening.is_empty() {
            return;
        }
        let all = opening.into_iter().map(|id| self.take_back(id));
        let all = futures_util::future::join_all(all);
        let _ = self.world.timeout(STOP_PATIENCE, all).await;
    }

    /// Changes what is known of openings of a volume; a row that says nothing is removed.
    async fn change(
        &self,
        id: VolumeId,
        change: impl Fn(&mut OpeningRow),
    ) -> Result<(), CatalogError> {
        for _ in 0..ROUNDS_MAX {
            let Some(found) = self.opening_row(id).await? else {
                return Ok(());
            };
            let mut row = found.row.clone();
            change(&mut row);
            let done = match row.is_blank() {
                true => {
                    let gone = Transaction::new().remove(&found);
                    self.catalog.commit(gone).await?.is_some()
                }
                false if row == found.row => true,
                false => self.put_over(Some(found), &row).await?,
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
            match self.tell_words(&words).await {
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

    /// Tells the catalog which volume ended the process before this one, and that all others are innocent of it.
    async fn tell_words(&self, words: &LastWords) -> Result<(), CatalogError> {
        let key = VolumeRow::key_of(words.volume);
        if self.catalog.read::<VolumeRow>(&key).await?.is_some() {
            self.accuse(words).await?;
        }
        let own = self.attempt();
        for found in self.catalog.list::<OpeningRow>().await? {
            let mut tried = found.row.tried.iter();
            if tried.any(|attempt| attempt.is_explained(&own, words)) {
                let excuse = |row: &mut OpeningRow| row.excuse(&own, words);
                self.change(found.row.volume, excuse).await?;
            }
        }
        self.volumes.last_words.borrow_mut().take();
        Ok(())
    }

    /// Counts the panic, once.
    async fn accuse(&self, words: &LastWords) -> Result<(), CatalogError> {
        for _ in 0..ROUNDS_MAX {
            let found = self.opening_row(words.volume).await?;
            let counted = |found: &Versioned<OpeningRow>| found.row.panicked_ms == words.at_ms;
            let known = self.known_of(words.volume, found.as_ref());
            let row = accused(known, words, &|attempt| self.runs(attempt));
            if found.as_ref().is_some_and(counted) || self.put_over(found, &row).await? {
                tracing::error!(
                    volume = words.volume.0,
                    reason = words.reason,
                    "the process before this one panicked while it opened or served a volume"
                );
                return Ok(());
            }
        }
        Err(CatalogError::Contended)
    }
}

/// The row with one panic more. Pure.
fn accused(mut row: OpeningRow, words: &LastWords, runs: Runs<'_>) -> OpeningRow {
    if row.before(words.at_ms, runs) == Before::Counts(0, 0) {
        row.clear(runs);
        (row.panics, row.panicked_ms) = (0, 0);
    }
    row.panics = row.panics.saturating_add(1);
    row.panicked_ms = row.panicked_ms.max(words.at_ms);
    row
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(attempts: u32, panics: u32) -> OpeningRow {
        OpeningRow {
            attempts,
            at_ms: 1_000_000,
            panics,
            ..OpeningRow::blank(VolumeId(1))
        }
    }

    fn attempt(node: u32, start: u64) -> Attempt {
        Attempt {
            node: NodeId(node),
            start,
            at_ms: 1_000_000,
            gone: false,
        }
    }

    fn words(at_ms: u64) -> LastWords {
        LastWords {
            volume: VolumeId(1),
            at_ms,
            start: None,
            reason: String::new(),
        }
    }

    /// Every process of the attempts has ended.
    fn none(_: &Attempt) -> bool {
        false
    }

    #[test]
    fn quarantine_needs_ends_and_a_clock_that_can_be_believed() {
        let before = |row: OpeningRow, now_ms| row.before(now_ms, &none);
        // Fewer than three wait for nothing, wherever the clock is.
        assert_eq!(before(row(2, 0), 1_000_001), Before::Counts(2, 0));
        assert_eq!(before(row(1, 1), 1), Before::Counts(1, 1));
        assert_eq!(before(row(3, 0), 1_000_001), Before::Quarantine);
        assert_eq!(before(row(1, 2), 1_029_999), Before::Quarantine);
        assert_eq!(before(row(3, 0), 1_030_000), Before::Counts(3, 0));
        let back = before(row(3, 0), 999_999);
        assert_eq!(back, Before::Counts(3, 0), "the clock went back");
        let late = before(row(3, 0), 1_000_000 + 630_000);
        assert_eq!(late, Before::Counts(0, 0));
        let later = OpeningRow {
            panicked_ms: 1_500_000,
            ..row(0, 3)
        };
        assert_eq!(before(later.clone(), 1_529_999), Before::Quarantine);
        assert_eq!(before(later, 1_530_000), Before::Counts(0, 3));
    }

    #[test]
    fn who_was_found_gone_counts_for_those_who_take_it_for_running() {
        let all = |_: &Attempt| true;
        let mut opening = OpeningRow::blank(VolumeId(1));
        opening.add(attempt(1, 1));
        assert_eq!(opening.before(1_000_001, &all), Before::Counts(0, 0));
        opening.note_gone(&all);
        opening.add(attempt(2, 2));
        assert_eq!(opening.before(1_000_001, &all), Before::Counts(1, 0));
        opening.clear(&all);
        assert_eq!(
            (opening.attempts, &*opening.tried),
            (1, &[attempt(2, 2)][..])
        );
    }

    /// As for rows of the crate `catalog` (decision 48): releases of level 1 drop what they do not know when they write the row. What
    /// `gone` says is then known to nobody until the lease of that process has ended.
    #[test]
    fn the_fields_of_the_row_are_those_of_level_1() {
        let mut whole = OpeningRow::blank(VolumeId(1));
        whole.add(attempt(1, 1));
        whole.note_gone(&|_| true);
        let value = serde_json::to_value(&whole).expect("plain data");
        let names = |value: &serde_json::Value| {
            let fields = value.as_object().expect("an object");
            fields.keys().cloned().collect::<Vec<_>>().join(" ")
        };
        assert_eq!(
            names(&value),
            "at_ms attempts panicked_ms panics tried volume"
        );
        assert_eq!(names(&value["tried"][0]), "at_ms gone node start");
    }

    #[test]
    fn a_panic_counts_with_those_shortly_before_it() {
        let accused = |row, at_ms| accused(row, &words(at_ms), &none);
        let first = accused(OpeningRow::blank(VolumeId(1)), 1_000_000);
        assert_eq!((first.panics, first.attempts), (1, 0));
        let second = accused(first, 1_100_000);
        assert_eq!((second.panics, second.panicked_ms), (2, 1_100_000));
        let late = accused(second.clone(), 900_000);
        assert_eq!((late.panics, late.panicked_ms), (3, 1_100_000), "told late");
        let long_after = accused(second, 1_100_000 + QUARANTINE_MS_MAX);
        assert_eq!(long_after.panics, 1);
    }

    #[test]
    fn quarantine_starts_after_three_ends_and_grows_to_its_bound() {
        let waits: Vec<u64> = (0..6).map(quarantine_ms).collect();
        assert_eq!(waits, [0, 0, 0, 30_000, 60_000, 120_000]);
        assert_eq!(quarantine_ms(u32::MAX - 1), QUARANTINE_MS_MAX);
    }

    #[test]
    fn attempts_of_processes_that_run_accuse_nobody() {
        let mut opening = row(1, 0);
        opening.add(attempt(1, 7));
        opening.add(attempt(2, 8));
        assert_eq!(opening.attempts, 3, "what a release of before counts");
        let first_runs = |attempt: &Attempt| attempt.node == NodeId(1);
        assert_eq!(opening.before(1_000_001, &first_runs), Before::Counts(2, 0));
        assert_eq!(opening.before(1_000_001, &none), Before::Quarantine);
        // The second is opened, and the volume is no suspect; the first one goes on.
        opening.clear(&first_runs);
        assert_eq!(opening.tried, [attempt(1, 7)]);
        assert_eq!(opening.attempts, 1);
        opening.clear(&none);
        assert!(opening.is_blank());
    }

    #[test]
    fn a_release_leaves_what_goes_on_and_one_end_without_a_word() {
        let mut opening = OpeningRow {
            panicked_ms: 1_000_000,
            ..row(1, 2)
        };
        opening.add(attempt(1, 7));
        opening.add(attempt(2, 8));
        let first_runs = |attempt: &Attempt| attempt.node == NodeId(1);
        let until = |opening: &OpeningRow| opening.quarantined_until(1_000_002, &first_runs);
        // One that nobody is known of, that of the second node, and two panics.
        assert_eq!(until(&opening), Some(1_060_000));
        opening.release(1_000_001, &first_runs);
        assert_eq!(until(&opening), None);
        assert_eq!(opening.tried, [attempt(1, 7)]);
        assert_eq!(opening.before(1_000_002, &first_runs), Before::Counts(1, 0));
        // That of the first node counts when its process ends as well.
        assert_eq!(opening.before(1_000_002, &none), Before::Counts(2, 0));
        assert_eq!(opening.panicked_ms, 1_000_000, "it is not counted again");
        // It counts as of now, however long ago the others were.
        let later = 1_000_001 + QUARANTINE_MS_MAX - 1;
        assert_eq!(opening.before(later, &first_runs), Before::Counts(1, 0));
        let told_late = accused(opening.clone(), &words(1_000_001), &first_runs);
        assert_eq!(told_late.panics, 1);
        // It is opened.
        opening.clear(&none);
        assert!(opening.is_blank());
    }

    #[test]
    fn a_volume_that_only_panicked_is_innocent_after_its_release() {
        let mut opening = OpeningRow {
            panicked_ms: 1_000_000,
            ..row(0, 3)
        };
        assert_eq!(opening.quarantined_until(1_000_001, &none), Some(1_030_000));
        opening.release(1_000_001, &none);
        assert_eq!(opening.before(1_000_002, &none), Before::Counts(0, 0));
        assert!(opening.is_blank());
    }

    #[test]
    fn a_process_that_tries_again_counts_once() {
        let mut opening = OpeningRow::blank(VolumeId(1));
        opening.add(attempt(1, 7));
        opening.add(attempt(1, 7));
        assert_eq!((opening.attempts, opening.tried.len()), (1, 1));
        opening.add(attempt(1, 9));
        assert_eq!(opening.attempts, 2, "another start of the same node");
    }

    #[test]
    fn only_so_many_attempts_have_names_and_all_count() {
        let mut opening = OpeningRow::blank(VolumeId(1));
        (0..20).for_each(|start| opening.add(attempt(1, start)));
        assert_eq!((opening.attempts, opening.tried.len()), (20, TRIED_MAX));
        assert_eq!(opening.ended(&none), (20, 1_000_000));
        opening.retain(opening.nameless(), |attempt| attempt.start != 19);
        assert_eq!(opening.attempts, 19);
    }

    #[test]
    fn last_words_explain_what_the_process_before_left_behind() {
        let left = |later: Attempt| {
            let mut opening = OpeningRow::blank(VolumeId(2));
            opening.add(attempt(1, 7));
            opening.add(attempt(2, 8));
            opening.add(later);
            opening
        };
        let later = Attempt {
            at_ms: 1_000_002,
            ..attempt(1, 9)
        };
        let mut opening = left(later);
        opening.excuse(&attempt(1, 10), &words(1_000_001));
        // That of another node stays, and that of a process that ended later and said nothing.
        assert_eq!(opening.tried, [attempt(2, 8), later]);
        assert_eq!(opening.attempts, 2);
        // Of a start that is known no other one is excused.
        let said = LastWords {
            start: Some(9),
            ..words(1_000_002)
        };
        let mut opening = left(later);
        opening.excuse(&attempt(1, 10), &said);
        assert_eq!(opening.tried, [attempt(1, 7), attempt(2, 8)]);
        // The process that says so is not concerned.
        let mut opening = left(attempt(1, 10));
        opening.excuse(&attempt(1, 10), &words(1_000_001));
        assert_eq!(opening.tried, [attempt(2, 8), attempt(1, 10)]);
    }

    #[test]
    fn rows_of_the_release_before_are_read() {
        let text = r#"{"volume":7,"attempts":2,"at_ms":1000000}"#;
        let row: OpeningRow = serde_json::from_str(text).unwrap();
        assert_eq!((row.nameless(), row.panics), (2, 0));
        assert_eq!(row.ended(&none), (2, 1_000_000));
    }
}
