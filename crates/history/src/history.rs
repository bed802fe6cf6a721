//! Recording: a sample of everything each fine step, coarse steps made of fine ones, old blocks removed.
//!
//! State in memory: the last sample of every entity, and the block of each tier that is being filled. On the shelf: all blocks, the
//! ones being filled as they were at the last write.
//!
//! Invariants
//! - Time goes forward: a step that is recorded, or before one that is, is passed over, and what happened counts for the next.
//!   A clock that went back further than [`REWIND_MAX`] is believed: what lies after it is forgotten.
//! - The block being filled is written every [`WRITE_STEPS`] steps and when it is full: that much a kill may take.
//! - What is on the shelf has at most `bytes_max` bytes, but for the blocks being filled. Fine blocks go first.
//!
//! Calls take milliseconds and read and write files: they belong beside the shard.

use crate::block::{self, Damaged, ENTRIES_MAX, Entity, Name, Tier};
use crate::chunk::{self, Chunk};
use crate::point::{Point, Sample};
use crate::shelf::Shelf;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Fine steps between two writes of the block that is being filled: two minutes.
pub const WRITE_STEPS: u64 = 8;
/// Seconds that a clock may go back before it is believed.
const REWIND_MAX: u64 = 600;

/// How much is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Seconds of fine steps.
    pub fine_seconds: u64,
    /// Seconds of coarse steps.
    pub coarse_seconds: u64,
    /// Bytes on the shelf.
    pub bytes_max: u64,
}

impl Default for Bounds {
    /// A day, 90 days, and 512 MiB: 1,000 volumes that are busy all the time take 260 MB of fine and 240 MB of coarse steps, at about
    /// 45 and 55 bytes each.
    fn default() -> Self {
        Self {
            fine_seconds: 86_400,
            coarse_seconds: 90 * 86_400,
            bytes_max: 512 << 20,
        }
    }
}

/// A block that is being filled.
pub(crate) struct Open {
    pub(crate) name: Name,
    pub(crate) chunks: BTreeMap<Entity, Chunk>,
}

impl Open {
    fn new(name: Name) -> Self {
        Self {
            name,
            chunks: BTreeMap::new(),
        }
    }

    /// The start of the newest step in it.
    fn newest(&self) -> Option<u64> {
        let steps = self.chunks.values().map(Chunk::steps).max()?;
        let last = u64::from(steps.checked_sub(1)?);
        Some(self.name.start + last * self.name.tier.step())
    }

    fn push(&mut self, entity: Entity, at: u64, point: &Point) {
        // Beyond the bound the index would not be believed when it is read.
        if self.chunks.len() >= ENTRIES_MAX && !self.chunks.contains_key(&entity) {
            return;
        }
        let step = (at - self.name.start) / self.name.tier.step();
        let chunk = self.chunks.entry(entity).or_default();
        chunk.push(step as u32, point);
    }

    /// Forgets the steps from `at` on.
    fn cut(&mut self, at: u64) {
        let step = at.saturating_sub(self.name.start) / self.name.tier.step();
        let step = u32::try_from(step).unwrap_or(u32::MAX);
        for chunk in self.chunks.values_mut() {
            *chunk = chunk.before(step);
        }
        self.chunks.retain(|_, chunk| chunk.steps() > 0);
    }
}

pub(crate) struct State {
    bounds: Bounds,
    /// The last samples.
    before: BTreeMap<Entity, Sample>,
    /// Start of the last fine step that was recorded.
    pub(crate) last: Option<u64>,
    pub(crate) fine: Option<Open>,
    pub(crate) coarse: Option<Open>,
    /// What is on the shelf.
    pub(crate) sizes: BTreeMap<Name, u64>,
    /// Steps recorded since the last write.
    unwritten: u64,
}

/// The history of a node.
pub struct History {
    pub(crate) shelf: Arc<dyn Shelf>,
    state: Mutex<State>,
}

/// Start of the coarse step that a moment lies in.
pub(crate) fn coarse_step(seconds: u64) -> u64 {
    seconds / Tier::Coarse.step() * Tier::Coarse.step()
}

/// Reads a whole block; nothing when there is none.
fn load(shelf: &dyn Shelf, name: Name) -> Result<Option<Open>, String> {
    let Some(bytes) = shelf.read(name, 0, usize::MAX)? else {
        return Ok(None);
    };
    let parse = || -> Result<Open, Damaged> {
        let mut open = Open::new(name);
        for place in block::index(name, &bytes)? {
            let from = place.offset as usize;
            let chunk = bytes.get(from..from.saturating_add(place.len as usize));
            let chunk = chunk.ok_or(Damaged::Short)?;
            place.verify(chunk)?;
            let chunk = Chunk::from_bytes(chunk, name.tier.steps())?;
            open.chunks.insert(place.entity, chunk);
        }
        Ok(open)
    };
    parse()
        .map(Some)
        .map_err(|damage| format!("block {name}: {damage}"))
}

impl History {
    /// Goes on with what is on a shelf. What cannot be read of it is left out, and said.
    #[must_use]
    pub fn open(shelf: Arc<dyn Shelf>, bounds: Bounds) -> (Self, Vec<String>) {
        let mut complaints = Vec::new();
        let sizes = match shelf.list() {
            Ok(found) => found.into_iter().collect(),
            Err(reason) => {
                complaints.push(reason);
                BTreeMap::new()
            }
        };
        let mut state = State {
            bounds,
            before: BTreeMap::new(),
            last: None,
            fine: None,
            coarse: None,
            sizes,
            unwritten: 0,
        };
        for tier in [Tier::Fine, Tier::Coarse] {
            let mut names = state.sizes.keys().filter(|name| name.tier == tier);
            let Some(&name) = names.next_back() else {
                continue;
            };
            let open = match load(&*shelf, name) {
                Ok(open) => open,
                Err(reason) => {
                    complaints.push(reason);
                    None
                }
            };
            match tier {
                Tier::Fine => {
                    state.last = open.as_ref().and_then(Open::newest);
                    state.fine = open;
                }
                Tier::Coarse => state.coarse = open,
            }
        }
        let state = Mutex::new(state);
        (Self { shelf, state }, complaints)
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        // What a panic leaves behind is at worst a step that is missing for some.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Unix seconds up to which there are steps.
    #[must_use]
    pub fn through(&self) -> Option<u64> {
        self.state().last.map(|last| last + Tier::Fine.step())
    }

    /// Records what everything shows now: the fine step that ended last. Says what went wrong, if anything did; recording goes on.
    pub fn record(&self, now: u64, samples: Vec<(Entity, Sample)>) -> Result<(), String> {
        let width = Tier::Fine.step();
        let Some(step) = (now / width * width).checked_sub(width) else {
            return Ok(());
        };
        let mut state = self.state();
        let mut result = Ok(());
        if let Some(last) = state.last.filter(|&last| step <= last) {
            if last - step <= REWIND_MAX {
                return Ok(());
            }
            result = state.rewind(&*self.shelf, step);
        }
        result = result.and(state.end_coarse_step(&*self.shelf, step));
        result = result.and(state.turn_over(&*self.shelf, step));
        state.push(step, samples);
        state.unwritten += 1;
        if state.unwritten >= WRITE_STEPS {
            result = result.and(state.write(&*self.shelf, Tier::Fine));
            result = result.and(state.prune(&*self.shelf, now));
        }
        result
    }

    /// Writes what is not written yet: the node stops.
    ///
    /// # Errors
    /// For people.
    pub fn write(&self) -> Result<(), String> {
        self.state().write(&*self.shelf, Tier::Fine)
    }
}

impl State {
    fn open(&mut self, tier: Tier) -> &mut Option<Open> {
        match tier {
            Tier::Fine => &mut self.fine,
            Tier::Coarse => &mut self.coarse,
        }
    }

    fn push(&mut self, step: u64, samples: Vec<(Entity, Sample)>) {
        let name = Name::at(Tier::Fine, step);
        let open = self.fine.get_or_insert_with(|| Open::new(name));
        assert_eq!(open.name, name, "the block was turned over");
        for (entity, sample) in &samples {
            let point = sample.since(self.before.get(entity));
            open.push(*entity, step, &point);
        }
        // Who is not there any more is forgotten, and begins at zero if it comes again.
        self.before = samples.into_iter().collect();
        self.last = Some(step);
    }

    /// When `step` is the first of another coarse step, makes the last one of its fine steps.
    fn end_coarse_step(&mut self, shelf: &dyn Shelf, step: u64) -> Result<(), String> {
        let Some(begin) = self.last.map(coarse_step) else {
            return Ok(());
        };
        if coarse_step(step) <= begin {
            return Ok(());
        }
        let Some(fine) = &self.fine else {
            return Ok(());
        };
        let points = coarse_points(fine, begin);
        let name = Name::at(Tier::Coarse, begin);
        let mut result = Ok(());
        if self.coarse.as_ref().is_some_and(|open| open.name != name) {
            result = self.write(shelf, Tier::Coarse);
            self.coarse = None;
        }
        let open = self.coarse.get_or_insert_with(|| Open::new(name));
        // After a crash it may be there already.
        if open.newest().is_none_or(|newest| newest < begin) {
            for (entity, point) in &points {
                open.push(*entity, begin, point);
            }
            result = result.and(self.write(shelf, Tier::Coarse));
        }
        result
    }

    /// Ends the fine block when `step` lies in another one.
    fn turn_over(&mut self, shelf: &dyn Shelf, step: u64) -> Result<(), String> {
        let name = Name::at(Tier::Fine, step);
        if self.fine.as_ref().is_none_or(|open| open.name == name) {
            return Ok(());
        }
        let result = self.write(shelf, Tier::Fine);
        self.fine = None;
        result
    }

    fn write(&mut self, shelf: &dyn Shelf, tier: Tier) -> Result<(), String> {
        if tier == Tier::Fine {
            // Also when it fails: the disk may be full for long, and each try costs.
            self.unwritten = 0;
        }
        let Some(open) = self.open(tier).as_ref() else {
            return Ok(());
        };
        let name = open.name;
        let chunks = open.chunks.iter();
        let bytes = block::encode(
            name,
            chunks.map(|(entity, chunk)| (*entity, chunk.to_bytes())),
        );
        shelf.write(name, &bytes)?;
        self.sizes.insert(name, bytes.len() as u64);
        Ok(())
    }

    /// Removes what is too old, and the oldest of what is too much.
    fn prune(&mut self, shelf: &dyn Shelf, now: u64) -> Result<(), String> {
        let bounds = self.bounds;
        let kept = |name: &Name| {
            let seconds = match name.tier {
                Tier::Fine => bounds.fine_seconds,
                Tier::Coarse => bounds.coarse_seconds,
            };
            name.end().saturating_add(seconds) > now
        };
        let is_open =
            |open: &Option<Open>, name: &Name| open.as_ref().is_some_and(|open| open.name == *name);
        // Fine ones first, the oldest first: the order of names.
        let full = self
            .sizes
            .iter()
            .filter(|(name, _)| !is_open(&self.fine, name) && !is_open(&self.coarse, name));
        let mut total: u64 = self.sizes.values().sum();
        let mut going = Vec::new();
        for (&name, &size) in full {
            if !kept(&name) || total > bounds.bytes_max {
                total -= size;
                going.push(name);
            }
        }
        self.remove(shelf, &going)
    }

    fn remove(&mut self, shelf: &dyn Shelf, names: &[Name]) -> Result<(), String> {
        for &name in names {
            shelf.remove(name)?;
            self.sizes.remove(&name);
        }
        Ok(())
    }

    /// Forgets what lies at or after `step`: the clock went back.
    fn rewind(&mut self, shelf: &dyn Shelf, step: u64) -> Result<(), String> {
        let later: Vec<Name> = self
            .sizes
            .keys()
            .copied()
            .filter(|name| name.start > step)
            .collect();
        let mut result = self.remove(shelf, &later);
        for (tier, at) in [(Tier::Fine, step), (Tier::Coarse, coarse_step(step))] {
            let name = Name::at(tier, at);
            let held = self.open(tier).take().filter(|open| open.name == name);
            let open = match held {
                Some(open) => Ok(Some(open)),
                None => load(shelf, name),
            };
            match open {
                Ok(open) => *self.open(tier) = open,
                Err(reason) => result = result.and(Err(reason)),
            }
            if let Some(open) = self.open(tier) {
                open.cut(at);
            }
        }
        self.last = self.fine.as_ref().and_then(Open::newest);
        result
    }
}

/// The coarse step at `begin` of everything that has fine steps in it.
fn coarse_points(fine: &Open, begin: u64) -> Vec<(Entity, Point)> {
    let end = begin + Tier::Coarse.step();
    let point = |(entity, chunk): (&Entity, &Chunk)| {
        let mut points = Vec::new();
        let visited = chunk::read(&chunk.to_bytes(), u32::MAX, &mut |step, point| {
            let at = fine.name.start + u64::from(step) * Tier::Fine.step();
            if (begin..end).contains(&at) {
                points.push(point.clone());
            }
        });
        visited.expect("these bytes were written here, or checked when they were read");
        (!points.is_empty()).then(|| (*entity, Point::merged(&points)))
    };
    fine.chunks.iter().filter_map(point).collect()
}
