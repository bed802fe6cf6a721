//! In which order volumes are opened here, and how many openings work at the same time.
//!
//! A takeover reads a log of up to 256 MiB and writes it anew, so a node that takes over hundreds of volumes at once would do none
//! of them soon. Most of the time an opening waits: for stores, and until reads of the owner before have ended. Only its work counts.
//!
//! Invariants
//! - At most so many openings work at a time as the options say; those of attached volumes come first, else who came first.
//! - Four times as many are under way, those that wait for stores included. One that waits for them counts for [`FRESH`] only, so that
//!   volumes without them keep no others back. One in its last rest, for the end of old reads, counts less
//!   ([`UNDER_WAY_ALL_EACH`]): those rests are as long for one as for hundreds, which must not wait for each other.
//! - A *suspect*, whose owners before ended while they opened it and nobody knows why, works while no other opening does, and of
//!   several suspects one is under way at a time. So a process that ends accuses one volume more than once at most. One in its last
//!   rest that the catalog does not name any more is not accused, and keeps no other suspect back.
//! - Nobody keeps the others back for longer than [`HELD_MAX`]: what takes longer counts no more.
//! - A place in the line is kept when whoever asked goes away.
//! - Whoever is next is woken, and nobody else: a change costs one look along the line, however many wait.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use vocab::VolumeId;
use volume::Turn;
use world::sync::Notify;
use world::{Duration, LocalBoxFuture, Time, World};

/// How long work counts. Three times as long as a recovery waits for stores.
const HELD_MAX: Duration = Duration::from_secs(30);
/// Openings under way for each one that may work, those in their last rest apart: some wait for stores.
const UNDER_WAY_EACH: usize = 4;
/// As many with those: with a work of 70 ms each, and a last rest of 2.2 s, all who may work are kept at it. More would be more
/// volumes that are fenced and not served, for little.
const UNDER_WAY_ALL_EACH: usize = 32;
/// How long one that is under way counts: longer than reads of the owner before are waited for.
const FRESH: Duration = Duration::from_secs(3);
/// How long whoever asks for a volume waits for its turn before it is told to ask again.
const PATIENCE: Duration = Duration::from_secs(2);

/// What is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wish {
    pub(super) volume: VolumeId,
    /// Whether it has clients.
    pub(super) attached: bool,
    /// Whether it may have ended the processes that opened it before.
    pub(super) suspect: bool,
}

/// An opening of a node.
#[cfg(feature = "bugs")]
#[derive(Clone, Copy, Debug)]
pub struct OpeningSeen {
    /// Its volume.
    pub volume: VolumeId,
    /// Since when it is under way, or waits for its first turn.
    pub since: Time,
    /// Whether it has had a turn.
    pub is_under_way: bool,
    /// Whether it may have ended the processes that opened it before.
    pub is_suspect: bool,
}

/// Where an opening stands: those without clients behind the others, each in the order in which they came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    idle: bool,
    ticket: u64,
}

/// Who waits for its turn.
struct Waiting {
    wish: Wish,
    since: Time,
    /// Told when it has its turn.
    told: Notify,
}

/// Openings of a node.
#[derive(Default)]
struct Line {
    tickets: u64,
    waiting: BTreeMap<Place, Waiting>,
    /// Where the openings of volumes stand.
    places: BTreeMap<VolumeId, Place>,
    /// Since when each works.
    working: BTreeMap<Place, (Wish, Time)>,
    /// Since when each is under way, to the end of its opening.
    under_way: BTreeMap<Place, (Wish, Time)>,
    /// Of those, the ones that have come to their last rest.
    settled: BTreeSet<Place>,
    /// Of those, the ones that the catalog does not name until they work again.
    cleared: BTreeSet<Place>,
}

fn counts(since: Time, now: Time) -> bool {
    now.since(since) < HELD_MAX
}

fn is_fresh(since: Time, now: Time) -> bool {
    now.since(since) < FRESH
}

impl Line {
    fn place(&mut self, wish: &Wish) -> Place {
        self.tickets += 1;
        let place = Place {
            idle: !wish.attached,
            ticket: self.tickets,
        };
        self.places.insert(wish.volume, place);
        place
    }

    fn forget(&mut self, place: Place, volume: VolumeId) {
        self.waiting.remove(&place);
        self.working.remove(&place);
        self.under_way.remove(&place);
        self.settled.remove(&place);
        self.cleared.remove(&place);
        if self.places.get(&volume) == Some(&place) {
            self.places.remove(&volume);
        }
    }

    /// The suspects that are under way, and would be accused if the process ended now.
    fn suspects_out(&self, now: Time) -> Vec<Place> {
        let suspects = self.under_way.iter().filter(|(_, (wish, _))| wish.suspect);
        let out = suspects.filter(|(_, (_, since))| counts(*since, now));
        let out = out.map(|(place, _)| *place);
        out.filter(|place| !self.cleared.contains(place)).collect()
    }

    /// Whether too many are under way for one that is not.
    fn is_crowded(&self, most: usize, now: Time) -> bool {
        let (mut busy, mut all) = (0, 0);
        let fresh = { self.under_way.iter() }.filter(|(_, (_, since))| is_fresh(*since, now));
        fresh.for_each(|(place, _)| {
            all += 1;
            busy += usize::from(!self.settled.contains(place));
        });
        busy >= most.saturating_mul(UNDER_WAY_EACH)
            || all >= most.saturating_mul(UNDER_WAY_ALL_EACH)
    }

    fn has_room(&self, wish: &Wish, most: usize, now: Time) -> bool {
        let work = self.working.values();
        let mut work = work.filter(|(_, since)| counts(*since, now));
        match wish.suspect {
            true => work.next().is_none(),
            false => {
                let (mut count, mut alone) = (0, false);
                work.for_each(|(other, _)| {
                    count += 1;
                    alone |= other.suspect;
                });
                count < most && !alone
            }
        }
    }

    /// The first of those that need not wait for another one to end. Who does is passed over.
    fn next(&self, most: usize, now: Time) -> Option<Place> {
        let out = self.suspects_out(now);
        let waits = |place: &Place, waiting: &Waiting| {
            waiting.wish.suspect && out.iter().any(|other| other != place)
        };
        if self.is_crowded(most, now) {
            let mut under_way = self.under_way.keys().copied();
            return under_way.find(|place| {
                let waiting = self.waiting.get(place);
                waiting.is_some_and(|waiting| !waits(place, waiting))
            });
        }
        let mut line = self.waiting.iter();
        let next = line.find(|(place, waiting)| !waits(place, waiting));
        next.map(|(place, _)| *place)
    }

    /// Lets the next one work, if there is one and there is room: whom to tell.
    fn begin(&mut self, most: usize, now: Time) -> Option<Notify> {
        let place = self.next(most, now)?;
        let wish = self.waiting.get(&place)?.wish;
        if !self.has_room(&wish, most, now) {
            return None;
        }
        let told = self.waiting.remove(&place)?.told;
        self.working.insert(place, (wish, now));
        self.cleared.remove(&place);
        self.under_way.entry(place).or_insert((wish, now));
        Some(told)
    }

    /// When the first of those that keep others back counts no more.
    fn expires(&self, now: Time) -> Option<Duration> {
        let all = || self.working.values().chain(self.under_way.values());
        let held = all().map(|(_, since)| *since + HELD_MAX);
        let fresh = self.under_way.values().map(|(_, since)| *since + FRESH);
        let until = held.chain(fresh).filter(|until| *until > now).min()?;
        Some(until.since(now))
    }

    /// Where this volume waits, and since when.
    fn waits(&self, volume: VolumeId) -> Option<(Place, Time)> {
        let place = *self.places.get(&volume)?;
        Some((place, self.waiting.get(&place)?.since))
    }

    /// How many are before the one at this place.
    fn before(&self, place: Place) -> usize {
        self.waiting.range(..place).count() + self.working.len()
    }
}

/// The line, and who waits in it.
pub(crate) struct Turns {
    world: World,
    most: usize,
    line: RefCell<Line>,
    /// The line is another one: the clock is set anew.
    changed: Notify,
    /// Whether the clock runs.
    is_timed: Cell<bool>,
}

impl Turns {
    /// Of a node where so many openings may work at the same time; `usize::MAX`: all, and no suspect alone.
    pub(crate) fn new(world: World, most: usize) -> Self {
        Self {
            world,
            most,
            line: RefCell::default(),
            changed: Notify::default(),
            is_timed: Cell::new(false),
        }
    }

    /// How many work, and how many wait.
    pub(crate) fn count(&self) -> (usize, usize) {
        let line = self.line.borrow();
        (line.working.len(), line.waiting.len())
    }

    #[cfg(feature = "bugs")]
    pub(crate) fn inspect(&self) -> Vec<OpeningSeen> {
        let line = self.line.borrow();
        let under_way = line
            .under_way
            .values()
            .map(|&(wish, since)| (wish, since, true));
        let waiting = line
            .waiting
            .iter()
            .filter(|(place, _)| !line.under_way.contains_key(place));
        let waiting = waiting.map(|(_, waiting)| (waiting.wish, waiting.since, false));
        let all = under_way.chain(waiting);
        all.map(|(wish, since, is_under_way)| OpeningSeen {
            volume: wish.volume,
            since,
            is_under_way,
            is_suspect: wish.suspect,
        })
        .collect()
    }

    pub(super) fn is_off(&self) -> bool {
        self.most == usize::MAX
    }

    /// Waits until it is this one's turn; whether it had to wait is known to [`OwnTurn::has_waited`].
    pub(super) async fn enter(self: &Rc<Self>, wish: Wish) -> OwnTurn {
        let place = self.line.borrow_mut().place(&wish);
        // Dropping it gives the place up, also while it waits.
        let mut turn = OwnTurn {
            turns: self.clone(),
            wish,
            place,
            has_waited: false,
        };
        turn.has_waited = self.wait(place, wish).await;
        turn
    }

    /// Whether it had to wait.
    async fn wait(self: &Rc<Self>, place: Place, wish: Wish) -> bool {
        if self.is_off() {
            return false;
        }
        let told = Notify::default();
        let waiting = Waiting {
            wish,
            since: self.world.now(),
            told: told.clone(),
        };
        self.line.borrow_mut().waiting.insert(place, waiting);
        self.admit();
        let mut has_waited = false;
        while self.line.borrow().waiting.contains_key(&place) {
            has_waited = true;
            told.notified().await;
        }
        has_waited
    }

    /// Tells those whose turn it is now.
    fn let_in(&self) {
        let now = self.world.now();
        loop {
            let next = self.line.borrow_mut().begin(self.most, now);
            let Some(told) = next else { break };
            told.notify_all();
        }
    }

    /// Something has changed: those whose turn it is now are told.
    fn admit(self: &Rc<Self>) {
        self.let_in();
        self.changed.notify_all();
        if !self.line.borrow().waiting.is_empty() && !self.is_timed.replace(true) {
            self.world.spawn(self.clone().watch_clock());
        }
    }

    /// Looks again when somebody counts no more, while anybody waits. It looks whatever woke it: the moment may have passed while the
    /// node was busy, and is not found again.
    async fn watch_clock(self: Rc<Self>) {
        loop {
            let changed = self.changed.notified();
            self.let_in();
            let expires = {
                let line = self.line.borrow();
                let expires = line.expires(self.world.now());
                expires.filter(|_| !line.waiting.is_empty())
            };
            let Some(left) = expires else { break };
            let _ = self.world.timeout(left, changed).await;
        }
        self.is_timed.set(false);
    }

    fn forget(self: &Rc<Self>, place: Place, volume: VolumeId) {
        self.line.borrow_mut().forget(place, volume);
        if !self.is_off() {
            self.admit();
        }
    }

    /// The catalog does not name this one any more. One that works already is named again.
    fn clear(self: &Rc<Self>, place: Place) {
        let mut line = self.line.borrow_mut();
        if !line.under_way.contains_key(&place) || line.working.contains_key(&place) {
            return;
        }
        line.cleared.insert(place);
        drop(line);
        self.admit();
    }

    /// Why whoever asks for this volume is not to wait any longer: it has waited for its turn for a while.
    pub(super) fn is_overdue(&self, volume: VolumeId) -> Option<String> {
        let line = self.line.borrow();
        let (place, since) = line.waits(volume)?;
        (self.world.now().since(since) >= PATIENCE).then(|| {
            let before = line.before(place);
            format!(
                "{volume} waits for its turn to be opened here, behind {before} others; it keeps its place: try again in a moment"
            )
        })
    }

    /// Resolves when [`Self::is_overdue`], or twice as long after it began to wait.
    pub(super) async fn overdue(&self, volume: VolumeId) -> String {
        if self.is_off() {
            return std::future::pending().await;
        }
        loop {
            if let Some(reason) = self.is_overdue(volume) {
                return reason;
            }
            let now = self.world.now();
            let since = self.line.borrow().waits(volume).map(|(_, since)| since);
            let until = since.unwrap_or(now) + PATIENCE;
            self.world.sleep(until.since(now)).await;
        }
    }
}

/// The turn of one opening; it ends when this is dropped.
pub(super) struct OwnTurn {
    turns: Rc<Turns>,
    wish: Wish,
    place: Place,
    has_waited: bool,
}

impl OwnTurn {
    /// Whether others were opened before it: what was read before that may not be true any more.
    pub(super) fn has_waited(&self) -> bool {
        self.has_waited
    }

    pub(super) fn is_for(&self, wish: &Wish) -> bool {
        self.wish == *wish
    }

    /// Is to be called when the catalog does not name this opening any more, which has come to its last rest.
    pub(super) fn clearance(&self) -> impl FnOnce() + use<> {
        let (turns, place) = (self.turns.clone(), self.place);
        move || turns.clear(place)
    }
}

impl Turn for OwnTurn {
    fn rest(&self) {
        if self
            .turns
            .line
            .borrow_mut()
            .working
            .remove(&self.place)
            .is_some()
        {
            self.turns.admit();
        }
    }

    fn settle(&self) {
        let mut line = self.turns.line.borrow_mut();
        if line.under_way.contains_key(&self.place) {
            line.settled.insert(self.place);
        }
        line.working.remove(&self.place);
        drop(line);
        if !self.turns.is_off() {
            self.turns.admit();
        }
    }

    fn resume(&self) -> LocalBoxFuture<'_, ()> {
        Box::pin(async move {
            let works = self.turns.line.borrow().working.contains_key(&self.place);
            if !works {
                self.turns.wait(self.place, self.wish).await;
            }
        })
    }
}

impl Drop for OwnTurn {
    fn drop(&mut self) {
        self.turns.forget(self.place, self.wish.volume);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;
    use world_sim::{Options, Simulation};

    fn wish(volume: u64) -> Wish {
        Wish {
            volume: VolumeId(volume),
            attached: false,
            suspect: false,
        }
    }

    fn attached(volume: u64) -> Wish {
        Wish {
            attached: true,
            ..wish(volume)
        }
    }

    fn suspect(volume: u64) -> Wish {
        Wish {
            suspect: true,
            ..wish(volume)
        }
    }

    /// Openings that wait or work, by number.
    struct Openings {
        sim: Simulation,
        turns: Rc<Turns>,
        working: Rc<RefCell<BTreeMap<u64, OwnTurn>>>,
    }

    impl Openings {
        fn new(most: usize) -> (Self, world_sim::Host) {
            let sim = Simulation::new(1, Options::default());
            let host = sim.host("a");
            let turns = Rc::new(Turns::new(host.world(), most));
            let working = Rc::default();
            let openings = Self {
                sim,
                turns,
                working,
            };
            (openings, host)
        }

        fn enter(&self, host: &world_sim::Host, wish: Wish) {
            let (turns, working) = (self.turns.clone(), self.working.clone());
            host.spawn(async move {
                let turn = turns.enter(wish).await;
                working.borrow_mut().insert(wish.volume.0, turn);
            });
            self.settle();
        }

        fn settle(&self) {
            self.sim.run_for(Duration::from_millis(1));
        }

        fn end(&self, volume: u64) {
            let ended = self.working.borrow_mut().remove(&volume);
            assert!(ended.is_some(), "{volume} works");
            drop(ended);
            self.settle();
        }

        fn entered(&self) -> Vec<u64> {
            self.working.borrow().keys().copied().collect()
        }
    }

    #[test]
    fn so_many_work_at_a_time_and_attached_ones_come_first() {
        let (openings, host) = Openings::new(2);
        for wish in [wish(1), wish(2), wish(3), attached(4), wish(5), attached(6)] {
            openings.enter(&host, wish);
        }
        assert_eq!(openings.entered(), [1, 2]);
        openings.end(1);
        assert_eq!(openings.entered(), [2, 4]);
        openings.end(2);
        assert_eq!(openings.entered(), [4, 6]);
        openings.end(4);
        openings.end(6);
        assert_eq!(openings.entered(), [3, 5]);
    }

    #[test]
    fn who_counts_no_more_is_noticed_although_something_changes_in_that_moment() {
        let (openings, host) = Openings::new(2);
        let (turns, world) = (openings.turns.clone(), host.world());
        host.spawn(async move {
            world.sleep(HELD_MAX).await;
            turns.changed.notify_all();
        });
        openings.enter(&host, suspect(1));
        openings.enter(&host, wish(2));
        assert_eq!(openings.entered(), [1]);
        openings.sim.run_for(HELD_MAX * 2);
        assert_eq!(openings.entered(), [1, 2]);
    }

    #[test]
    fn who_only_waits_keeps_nobody_from_working() {
        let (openings, host) = Openings::new(1);
        openings.enter(&host, wish(1));
        openings.enter(&host, wish(2));
        assert_eq!(openings.entered(), [1]);
        openings.working.borrow()[&1].rest();
        openings.settle();
        assert_eq!(openings.entered(), [1, 2]);
        let first = openings.working.borrow_mut().remove(&1).unwrap();
        assert!(first.resume().now_or_never().is_none(), "another one works");
        openings.end(2);
        assert!(first.resume().now_or_never().is_some());
    }

    #[test]
    fn suspects_are_opened_one_at_a_time_and_work_alone() {
        let (openings, host) = Openings::new(8);
        openings.enter(&host, wish(1));
        for wish in [suspect(2), suspect(3), wish(4)] {
            openings.enter(&host, wish);
        }
        assert_eq!(openings.entered(), [1], "nobody overtakes a suspect");
        openings.end(1);
        assert_eq!(openings.entered(), [2]);
        // While it waits for its stores others work, but no suspect.
        openings.working.borrow()[&2].rest();
        openings.settle();
        assert_eq!(openings.entered(), [2, 4]);
        openings.end(4);
        assert_eq!(openings.entered(), [2]);
        openings.end(2);
        assert_eq!(openings.entered(), [3]);
    }

    #[test]
    fn a_suspect_that_nobody_could_accuse_keeps_no_other_one_back() {
        let (openings, host) = Openings::new(8);
        openings.enter(&host, suspect(1));
        openings.enter(&host, suspect(2));
        let first = openings.working.borrow_mut().remove(&1).unwrap();
        first.settle();
        openings.settle();
        assert!(
            openings.entered().is_empty(),
            "the catalog still names the first"
        );
        first.clearance()();
        openings.settle();
        assert_eq!(openings.entered(), [2]);
        // It would be named again: not while the other one is.
        let mut resumed = first.resume();
        assert!(resumed.as_mut().now_or_never().is_none());
        openings.working.borrow()[&2].rest();
        openings.settle();
        assert!(resumed.as_mut().now_or_never().is_none());
        openings.end(2);
        assert!(resumed.now_or_never().is_some());
        // Heard late: it works, and is named.
        first.clearance()();
        openings.enter(&host, suspect(3));
        first.rest();
        openings.settle();
        assert!(openings.entered().is_empty());
        drop(first);
        openings.settle();
        assert_eq!(openings.entered(), [3]);
    }

    #[test]
    fn not_too_many_are_under_way_and_one_that_waits_for_long_counts_no_more() {
        let (openings, host) = Openings::new(1);
        for volume in 1..=6 {
            openings.enter(&host, wish(volume));
            if let Some(turn) = openings.working.borrow().get(&volume) {
                turn.rest();
            }
        }
        assert_eq!(openings.entered(), [1, 2, 3, 4]);
        openings.end(2);
        assert_eq!(openings.entered(), [1, 3, 4, 5]);
        openings.working.borrow()[&5].rest();
        openings.settle();
        assert_eq!(openings.entered(), [1, 3, 4, 5], "the sixth waits");
        openings.sim.run_for(FRESH);
        assert_eq!(openings.entered(), [1, 3, 4, 5, 6]);
    }

    #[test]
    fn hundreds_rest_at_last_at_the_same_time() {
        const OPENINGS: u64 = 500;
        let (openings, host) = Openings::new(8);
        let (world, done) = (host.world(), Rc::new(Cell::new(0_u64)));
        let most = Rc::new(Cell::new(0));
        for volume in 0..OPENINGS {
            let (turns, world) = (openings.turns.clone(), world.clone());
            let (done, most) = (done.clone(), most.clone());
            host.spawn(async move {
                let turn = turns.enter(attached(volume)).await;
                world.sleep(Duration::from_millis(40)).await;
                most.set(turns.line.borrow().working.len().max(most.get()));
                turn.settle();
                world.sleep(Duration::from_millis(2200)).await;
                turn.resume().await;
                done.set(done.get() + 1);
            });
        }
        // The work of all, eight at a time, takes 2.5 s; the rest of the last ends 2.2 s after it.
        openings.sim.run_for(Duration::from_secs(7));
        assert_eq!((done.get(), most.get()), (OPENINGS, 8));
        let line = openings.turns.line.borrow();
        assert!(line.under_way.is_empty() && line.settled.is_empty() && line.places.is_empty());
    }

    #[test]
    fn whoever_is_next_is_told_and_nobody_else() {
        let (openings, host) = Openings::new(1);
        (1..=3).for_each(|volume| openings.enter(&host, wish(volume)));
        let told = {
            let line = openings.turns.line.borrow();
            let told = line.waiting.values().map(|waiting| waiting.told.notified());
            told.collect::<Vec<_>>()
        };
        openings.end(1);
        let told: Vec<bool> = told
            .into_iter()
            .map(|told| told.now_or_never().is_some())
            .collect();
        assert_eq!(told, [true, false]);
        assert_eq!(openings.entered(), [2]);
    }

    #[test]
    fn one_that_hangs_is_not_waited_for_for_ever() {
        let (openings, host) = Openings::new(1);
        openings.enter(&host, suspect(1));
        openings.enter(&host, suspect(2));
        openings.sim.run_for(HELD_MAX - Duration::from_secs(1));
        assert_eq!(openings.entered(), [1]);
        openings.sim.run_for(Duration::from_secs(2));
        assert_eq!(openings.entered(), [1, 2]);
    }

    #[test]
    fn who_asks_is_told_after_a_while_and_the_place_is_kept() {
        let (openings, host) = Openings::new(1);
        openings.enter(&host, wish(1));
        openings.enter(&host, wish(2));
        let told = Rc::new(RefCell::new(None));
        let (turns, sink) = (openings.turns.clone(), told.clone());
        host.spawn(async move {
            let reason = turns.overdue(VolumeId(2)).await;
            sink.borrow_mut().replace(reason);
        });
        openings.sim.run_for(PATIENCE / 2);
        assert_eq!(*told.borrow(), None);
        openings.sim.run_for(PATIENCE * 2);
        let reason = told.borrow_mut().take().expect("it has waited");
        assert!(reason.contains("behind 1 others"), "{reason}");
        openings.end(1);
        assert_eq!(openings.entered(), [2]);
        assert_eq!(openings.turns.is_overdue(VolumeId(2)), None);
    }

    #[test]
    fn without_a_bound_nobody_waits() {
        let (openings, host) = Openings::new(usize::MAX);
        for wish in [suspect(1), suspect(2), wish(3)] {
            openings.enter(&host, wish);
        }
        assert_eq!(openings.entered(), [1, 2, 3]);
        let turn = openings.working.borrow_mut().remove(&1).unwrap();
        turn.rest();
        assert!(turn.resume().now_or_never().is_some());
    }
}
