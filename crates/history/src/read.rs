//! Reading: the steps of some entities over a stretch of time, added up to steps of any length.

use crate::block::{self, Damaged, Entity, HEAD_BYTES, Name, Place, Tier};
use crate::chunk;
use crate::history::{History, coarse_step};
use crate::point::{GAUGES, Point};
use crate::shelf::Shelf;
use std::collections::BTreeMap;

/// Steps of one answer.
pub const POINTS_MAX: u64 = 2000;

/// What is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// Of what, together. Gauges are of use for one only: they are those of whatever came last.
    pub entities: Vec<Entity>,
    /// Unix seconds, a multiple of `step`.
    pub from: u64,
    /// Unix seconds, a multiple of `step`, after `from`.
    pub to: u64,
    /// Seconds, a multiple of the fine step; from the coarse step on coarse steps are read, where there are any.
    pub step: u64,
}

/// A step of an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bucket {
    /// Sums of counters and histograms; of gauges the highest.
    pub sum: Point,
    /// Seconds of one entity that something is known of; 0: nothing is known at all.
    pub seconds: u64,
    /// Gauges times seconds: by `seconds` they are the mean.
    pub levels: [u128; GAUGES],
}

/// An answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Series {
    /// Unix seconds up to which there are steps at all.
    pub through: u64,
    /// One for each step from `from` to `to`.
    pub buckets: Vec<Bucket>,
}

impl Bucket {
    /// Adds what another node says of the same step of the same things.
    pub fn add(&mut self, other: &Self) {
        for (own, more) in self.sum.counters.iter_mut().zip(&other.sum.counters) {
            *own = own.saturating_add(*more);
        }
        for (own, more) in self.sum.latency.iter_mut().zip(&other.sum.latency) {
            own.add(more);
        }
        for (own, more) in self.sum.gauges.iter_mut().zip(&other.sum.gauges) {
            own.max = own.max.max(more.max);
        }
        for (own, more) in self.levels.iter_mut().zip(&other.levels) {
            *own = own.saturating_add(*more);
        }
        self.seconds += other.seconds;
    }

    fn count(&mut self, point: &Point, seconds: u64) {
        self.seconds += seconds;
        for (index, level) in point.gauges.iter().enumerate() {
            let own = &mut self.sum.gauges[index];
            own.max = own.max.max(level.max);
            let weighed = u128::from(level.mean) * u128::from(seconds);
            self.levels[index] = self.levels[index].saturating_add(weighed);
        }
        if point.counters.iter().all(|&count| count == 0) {
            return;
        }
        for (own, more) in self.sum.counters.iter_mut().zip(&point.counters) {
            *own = own.saturating_add(*more);
        }
        for (own, more) in self.sum.latency.iter_mut().zip(&point.latency) {
            own.add(more);
        }
    }

    /// The mean of a gauge; nothing when nothing is known.
    #[must_use]
    pub fn mean(&self, gauge: usize) -> Option<u64> {
        let seconds = u128::from(self.seconds);
        let mean = self.levels[gauge].checked_div(seconds)?;
        Some(u64::try_from(mean).unwrap_or(u64::MAX))
    }
}

/// Where chunks come from.
enum Source {
    /// A block on the shelf.
    Kept(Name),
    /// A block that is being filled: chunks of the entities that are asked for.
    Open(Name, BTreeMap<Entity, Vec<u8>>),
}

impl Query {
    /// Whether it makes sense.
    fn is_sound(&self) -> bool {
        self.step > 0
            && self.step.is_multiple_of(Tier::Fine.step())
            && self.from.is_multiple_of(self.step)
            && self.to.is_multiple_of(self.step)
            && self.from < self.to
            && (self.to - self.from) / self.step <= POINTS_MAX
    }
}

impl History {
    /// Answers a query; nothing for one that makes no sense. Blocks that cannot be read are left out, and said.
    pub fn read(&self, query: &Query) -> Option<(Series, Vec<String>)> {
        if !query.is_sound() {
            return None;
        }
        let (sources, through) = self.sources(query);
        let count = (query.to - query.from) / query.step;
        let mut series = Series {
            through,
            buckets: vec![Bucket::default(); count as usize],
        };
        let mut complaints = Vec::new();
        for (source, until) in &sources {
            if let Err(reason) = self.add(query, source, until.clone(), &mut series) {
                complaints.push(reason);
            }
        }
        Some((series, complaints))
    }

    /// The blocks to read, each with the times of it that count.
    fn sources(&self, query: &Query) -> (Vec<(Source, std::ops::Range<u64>)>, u64) {
        let state = self.state();
        let Some(last) = state.last else {
            return (Vec::new(), 0);
        };
        // Up to here coarse steps are whole; what came after is in fine ones.
        let coarse_until = match query.step >= Tier::Coarse.step() {
            true => coarse_step(last),
            false => 0,
        };
        let mut sources = Vec::new();
        for (tier, open) in [(Tier::Coarse, &state.coarse), (Tier::Fine, &state.fine)] {
            let range = match tier {
                Tier::Coarse => query.from..query.to.min(coarse_until),
                Tier::Fine => query.from.max(coarse_until)..query.to,
            };
            let overlaps = |name: &Name| name.start < range.end && name.end() > range.start;
            let is_open = |name: &Name| open.as_ref().is_some_and(|open| open.name == *name);
            let names = state.sizes.keys().filter(|name| name.tier == tier);
            let kept = names.filter(|name| overlaps(name) && !is_open(name));
            sources.extend(kept.map(|&name| (Source::Kept(name), range.clone())));
            if let Some(open) = open.as_ref().filter(|open| overlaps(&open.name)) {
                let chunk = |entity: &Entity| {
                    let chunk = open.chunks.get(entity)?;
                    Some((*entity, chunk.to_bytes()))
                };
                let chunks = query.entities.iter().filter_map(chunk).collect();
                sources.push((Source::Open(open.name, chunks), range.clone()));
            }
        }
        (sources, last + Tier::Fine.step())
    }

    /// Adds what a block has to the answer.
    fn add(
        &self,
        query: &Query,
        source: &Source,
        range: std::ops::Range<u64>,
        series: &mut Series,
    ) -> Result<(), String> {
        match source {
            Source::Open(name, chunks) => {
                for chunk in chunks.values() {
                    let added = add_chunk(query, *name, chunk, &range, series);
                    added.map_err(|damage| format!("block {name}: {damage}"))?;
                }
                Ok(())
            }
            Source::Kept(name) => {
                let failed = |damage: Damaged| format!("block {name}: {damage}");
                let Some(places) = places(&*self.shelf, *name)? else {
                    return Ok(());
                };
                for entity in &query.entities {
                    let found = places.binary_search_by_key(entity, |place| place.entity);
                    let Ok(at) = found else { continue };
                    let place = places[at];
                    let bytes =
                        self.shelf
                            .read(*name, u64::from(place.offset), place.len as usize)?;
                    let Some(bytes) = bytes else { return Ok(()) };
                    place.verify(&bytes).map_err(failed)?;
                    add_chunk(query, *name, &bytes, &range, series).map_err(failed)?;
                }
                Ok(())
            }
        }
    }
}

/// The index of a block; nothing when it has been removed meanwhile.
fn places(shelf: &dyn Shelf, name: Name) -> Result<Option<Vec<Place>>, String> {
    let failed = |damage: Damaged| format!("block {name}: {damage}");
    let Some(head) = shelf.read(name, 0, HEAD_BYTES)? else {
        return Ok(None);
    };
    let end = block::index_end(name, &head).map_err(failed)?;
    let Some(bytes) = shelf.read(name, 0, end)? else {
        return Ok(None);
    };
    block::index(name, &bytes).map(Some).map_err(failed)
}

fn add_chunk(
    query: &Query,
    name: Name,
    chunk: &[u8],
    range: &std::ops::Range<u64>,
    series: &mut Series,
) -> Result<(), Damaged> {
    let seconds = name.tier.step();
    let read = chunk::read(chunk, name.tier.steps(), &mut |step, point| {
        let at = name.start + u64::from(step) * seconds;
        if range.contains(&at) {
            let bucket = ((at - query.from) / query.step) as usize;
            series.buckets[bucket].count(point, seconds);
        }
    });
    read.map(drop)
}
