//! Every 15 s: what everything shows is taken down, for the history and for whoever wants to know who is busy now.
//!
//! The samples are taken on the shard, some volumes at a time; what is kept of them, and where, is decided beside it.

use crate::host::Host;
use history::{
    Bounds, Counter, Entity, Gauge, Histogram, History, Kind, Point, Sample, Shelf, Tier,
};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use vocab::{BLOCK_BYTES, VolumeId};
use world::{Duration, Time};

/// Samples are taken so long after a step has ended: a clock that is a little slow must not say that it has not.
const MARGIN: Duration = Duration::from_millis(50);
/// Volumes sampled before others have their turn: some 2 µs each.
const BATCH: usize = 64;

/// Where the history goes.
#[derive(Clone, Debug)]
pub struct Recording {
    /// The place; nothing: only the present is known.
    pub shelf: Option<Arc<dyn Shelf>>,
    /// Bytes there at most.
    pub bytes_max: u64,
}

/// What clients did per second in the last step.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Rates {
    pub(crate) reads: f64,
    pub(crate) writes: f64,
    pub(crate) trims: f64,
    pub(crate) read_bytes: f64,
    pub(crate) written_bytes: f64,
    /// Of reads and writes, in microseconds.
    pub(crate) mean_us: Option<f64>,
    pub(crate) p99_us: Option<u64>,
    /// Percent of a core.
    pub(crate) cpu: f64,
}

impl Rates {
    /// Of what happened within so many seconds. Pure.
    fn of(point: &Point, seconds: f64) -> Self {
        let count = |counter: Counter| point.counters[counter as usize] as f64;
        let rate = |counter: Counter| count(counter) / seconds;
        let done = count(Counter::Reads) + count(Counter::Writes);
        let took = count(Counter::ReadMicros) + count(Counter::WriteMicros);
        let mut both: Histogram = point.latency[Kind::Read as usize];
        both.add(&point.latency[Kind::Write as usize]);
        Self {
            reads: rate(Counter::Reads),
            writes: rate(Counter::Writes),
            trims: rate(Counter::Trims),
            read_bytes: rate(Counter::ReadBytes),
            written_bytes: rate(Counter::WrittenBytes),
            mean_us: (done > 0.0).then(|| took / done),
            p99_us: both.quantile_us(990),
            cpu: rate(Counter::CpuMillis) / 10.0,
        }
    }
}

/// The last step.
#[derive(Default)]
pub(crate) struct Present {
    /// Steps taken since the start: another one is news.
    pub(crate) steps: Cell<u64>,
    /// End of the last step, Unix milliseconds.
    pub(crate) at_ms: Cell<u64>,
    pub(crate) rates: RefCell<BTreeMap<Entity, Rates>>,
    /// What was shown then, and when.
    before: RefCell<BTreeMap<Entity, Sample>>,
    taken: Cell<Option<Time>>,
    pub(crate) history: RefCell<Option<Arc<History>>>,
}

impl Present {
    /// Takes down samples: what happened since the ones before.
    fn take(&self, samples: &[(Entity, Sample)], now: Time, unix_ms: u64) {
        let since = self.taken.replace(Some(now));
        let long = since.map_or(Duration::ZERO, |since| now.since(since));
        let before = self.before.borrow();
        let mut rates = BTreeMap::new();
        // The first sample says nothing of how long it took.
        if long > Duration::ZERO {
            for (entity, sample) in samples {
                let point = sample.since(before.get(entity));
                rates.insert(*entity, Rates::of(&point, long.as_secs_f64()));
            }
        }
        drop(before);
        self.before.replace(samples.iter().cloned().collect());
        self.rates.replace(rates);
        self.at_ms.set(unix_ms);
        self.steps.set(self.steps.get() + 1);
    }
}

/// Records for as long as the node runs.
pub(crate) async fn run(host: Rc<Host>, recording: Recording) {
    if let Some(shelf) = recording.shelf {
        let bounds = Bounds {
            bytes_max: recording.bytes_max,
            ..Bounds::default()
        };
        let opened = host.world.offload(move || History::open(shelf, bounds));
        let (history, complaints) = opened.await;
        for reason in complaints {
            tracing::warn!(
                reason,
                "a part of the history cannot be read and is left out"
            );
        }
        say_gap(&host, history.through());
        host.upkeep.present.history.replace(Some(Arc::new(history)));
    }
    let mut complained = String::new();
    loop {
        let width = Tier::Fine.step() * 1000;
        let into = host.world.clock.unix_ms() % width;
        let wait = Duration::from_millis(width - into) + MARGIN;
        host.world.sleep(wait).await;
        if let Err(reason) = host.record().await
            && reason != complained
        {
            tracing::warn!(
                reason,
                "the history is not written; what happens now may be missing in it"
            );
            complained = reason;
        }
    }
}

/// What a stop or a kill has left out.
fn say_gap(host: &Host, through: Option<u64>) {
    let now = host.world.clock.unix_ms() / 1000;
    if let Some(through) = through {
        let missing = now.saturating_sub(through);
        tracing::info!(missing_seconds = missing, "the history goes on");
    }
}

impl Host {
    /// Takes a sample of everything, and has it recorded.
    async fn record(self: &Rc<Self>) -> Result<(), String> {
        let samples = self.samples().await;
        let unix_ms = self.world.clock.unix_ms();
        self.upkeep
            .present
            .take(&samples, self.world.now(), unix_ms);
        self.upkeep
            .meters
            .retain(|id| self.volumes.get(id).is_some());
        self.feed.on_sampled();
        let history = self.upkeep.present.history.borrow().clone();
        let Some(history) = history else {
            return Ok(());
        };
        let record = move || history.record(unix_ms / 1000, samples);
        self.world.offload(record).await
    }

    /// What everything shows now.
    async fn samples(&self) -> Vec<(Entity, Sample)> {
        let mut samples = vec![(Entity::Node(u64::from(self.id.0)), self.node_sample())];
        for store in self.stores.all() {
            let entity = Entity::Store(u64::from(store.id().0));
            samples.push((entity, store_sample(&store)));
        }
        // Volumes that are served elsewhere by now, for the last time.
        let mut ids = self.upkeep.meters.ids();
        let served = self.volumes.served();
        ids.extend(served.iter().map(|(volume, _)| volume.id()));
        ids.sort_unstable();
        ids.dedup();
        for batch in ids.chunks(BATCH) {
            let one = |&id: &VolumeId| (Entity::Volume(id.0), self.volume_sample(id));
            samples.extend(batch.iter().map(one));
            self.world.sleep(Duration::ZERO).await;
        }
        samples
    }

    fn volume_sample(&self, id: VolumeId) -> Sample {
        let mut sample = self.upkeep.meters.sample(id);
        if let Some(volume) = self.volumes.get(id) {
            let status = volume.status();
            let mapped = status.root.map.mapped_blocks * BLOCK_BYTES;
            sample.gauges[Gauge::Space as usize] = mapped;
            sample.gauges[Gauge::Pending as usize] = status.undrained.0;
        }
        sample
    }

    /// The process, and all volumes together.
    fn node_sample(&self) -> Sample {
        let mut sample = self.upkeep.meters.total();
        sample.run = self.lease.start();
        let process = self.options.process.as_ref();
        if let Some(usage) = process.and_then(|process| process.usage()) {
            let cpu = u64::try_from(usage.cpu.as_millis()).unwrap_or(u64::MAX);
            sample.counters[Counter::CpuMillis as usize] = cpu;
            sample.gauges[Gauge::Space as usize] = usage.resident.0;
        }
        sample.gauges[Gauge::Pending as usize] = self.volumes.served().len() as u64;
        sample
    }

    /// Writes what is not written yet: the node stops.
    pub(crate) async fn keep_history(&self) {
        let history = self.upkeep.present.history.borrow().clone();
        let Some(history) = history else { return };
        let write = move || history.write();
        if let Err(reason) = self.world.offload(write).await {
            tracing::warn!(reason, "the last minutes of the history are lost");
        }
    }
}

fn store_sample(store: &store::Store) -> Sample {
    let mut sample = Sample::default();
    for disk in store.disk_figures() {
        let parts = [
            (Counter::Reads, disk.reads),
            (Counter::Writes, disk.writes),
            (Counter::Flushes, disk.flushes),
            (Counter::ReadBytes, disk.read_bytes),
            (Counter::WrittenBytes, disk.written_bytes),
        ];
        for (counter, count) in parts {
            sample.counters[counter as usize] += count;
        }
    }
    let status = store.status();
    sample.gauges[Gauge::Space as usize] = status.used.0;
    sample.gauges[Gauge::Pending as usize] = status.journal_used.0;
    sample.gauges[Gauge::Capacity as usize] = status.capacity.0;
    sample
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(reads: u64) -> Sample {
        let mut sample = Sample::default();
        sample.counters[Counter::Reads as usize] = reads;
        sample.counters[Counter::ReadBytes as usize] = reads * 4096;
        sample.counters[Counter::ReadMicros as usize] = reads * 200;
        sample.latency[Kind::Read as usize].0[history::class_of(200)] = reads;
        sample
    }

    #[test]
    fn rates_are_what_happened_by_how_long_it_took() {
        let present = Present::default();
        let db = Entity::Volume(7);
        let at = |seconds| Time(0) + Duration::from_secs(seconds);
        present.take(&[(db, sample(1000))], at(0), 1);
        assert!(present.rates.borrow().is_empty(), "nobody knows since when");
        present.take(&[(db, sample(1300))], at(15), 2);
        let rates = present.rates.borrow()[&db];
        assert_eq!((rates.reads, rates.read_bytes), (20.0, 81_920.0));
        assert_eq!(rates.mean_us, Some(200.0));
        assert!(rates.p99_us.is_some_and(|us| (192..=256).contains(&us)));
        // An idle one has rates of zero, and no latency.
        present.take(&[(db, sample(1300))], at(30), 3);
        assert_eq!(present.rates.borrow()[&db], Rates::default());
        assert_eq!((present.steps.get(), present.at_ms.get()), (3, 3));
    }
}
