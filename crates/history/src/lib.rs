//! What a node remembers of its own figures: recent series in fine steps for a day, in coarse ones for 90 days.
//!
//! Pure: time comes in as numbers, and bytes go to a [`Shelf`], which the binary puts into files. The format is
//! docs/formats/history.md.
//!
//! Invariants
//! - Counters are kept as what happened in a step, gauges as mean and highest value, latencies as histograms. A coarse step is made
//!   of fine ones and of nothing else; percentiles come from merged histograms and are never averaged.
//! - A counter that went back began anew: what it shows then has happened since.
//! - Blocks are replaced as a whole. What is lost by a kill is what was not written yet, [`history::WRITE_STEPS`] fine steps at most.
//! - A block that is damaged is left out, not guessed at.
//!
//! It does not know what an entity is called or who may ask. Read next: `history.rs`, `chunk.rs`, `block.rs`.

mod block;
mod chunk;
mod history;
mod latency;
mod point;
mod read;
mod shelf;
#[cfg(test)]
mod tests;

pub use block::{Damaged, Entity, Name, Tier};
pub use history::{Bounds, History, WRITE_STEPS};
pub use latency::{CLASSES, Histogram, class_of, end_us};
pub use point::{COUNTERS, Counter, GAUGES, Gauge, Kind, LATENCIES, Level, Point, Sample};
pub use read::{Bucket, POINTS_MAX, Query, Series};
pub use shelf::{MemoryShelf, Shelf};
