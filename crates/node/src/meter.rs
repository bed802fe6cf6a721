//! What clients do with the volumes that this node owns, counted where their sessions are served: whichever node or program a client
//! came through, each request is counted here, and once.
//!
//! A request costs some additions. A volume's meter begins at zero when its first session comes, and is forgotten once the volume
//! is served elsewhere and its last figures were recorded.

use crate::host::Host;
use history::{Counter, Histogram, Kind, Sample, class_of};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;
use vocab::{BLOCK_SIZE, ByteCount, VolumeId};
use wire::{NodeError, NodeRequest};
use world::Duration;

/// Meters of volumes that are served elsewhere, while nobody records: of about 1.2 KiB each.
const LEFT_MAX: usize = 1024;

/// What the machine says of the process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Processor time so far.
    pub cpu: Duration,
    /// Memory.
    pub resident: ByteCount,
}

/// The process that a node is.
pub trait Process: fmt::Debug {
    /// What it has used, if the machine says.
    fn usage(&self) -> Option<Usage>;
    /// Until when the certificate holds that browsers are shown, Unix milliseconds, as whoever called last was shown it; nothing: they
    /// are shown that of the cluster. Asks no file system.
    fn browser_certificate_until_ms(&self) -> Option<u64>;
}

/// A request of a client, as it is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// So many bytes.
    Read(u64),
    /// So many bytes.
    Write(u64),
    Flush,
    Trim,
    /// What is not I/O.
    Other,
}

impl Asked {
    /// What a request with a body of so many bytes is counted as.
    pub(crate) fn of(request: &NodeRequest, body: usize) -> Self {
        match request {
            NodeRequest::Read { blocks, .. } => Self::Read(u64::from(*blocks) * BLOCK_SIZE as u64),
            NodeRequest::Write { .. } => Self::Write(body as u64),
            NodeRequest::Flush { .. } => Self::Flush,
            NodeRequest::Unmap { .. } => Self::Trim,
            _ => Self::Other,
        }
    }
}

/// Counts requests.
#[derive(Debug)]
pub(crate) struct Meter(RefCell<Sample>);

impl Meter {
    fn new(run: u64) -> Self {
        let sample = Sample {
            run,
            ..Sample::default()
        };
        Self(RefCell::new(sample))
    }

    /// Counts a request that was answered. One that its client must bring to another owner was not served here.
    pub(crate) fn note(&self, asked: Asked, took: Duration, error: Option<&NodeError>) {
        let mut sample = self.0.borrow_mut();
        match error {
            Some(NodeError::NotOwner) => return,
            Some(_) => return sample.counters[Counter::Errors as usize] += 1,
            None => {}
        }
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let (done, bytes, timed) = match asked {
            Asked::Read(bytes) => (
                Counter::Reads,
                Some((Counter::ReadBytes, bytes)),
                Some((Counter::ReadMicros, Kind::Read)),
            ),
            Asked::Write(bytes) => (
                Counter::Writes,
                Some((Counter::WrittenBytes, bytes)),
                Some((Counter::WriteMicros, Kind::Write)),
            ),
            Asked::Flush => (
                Counter::Flushes,
                None,
                Some((Counter::FlushMicros, Kind::Flush)),
            ),
            Asked::Trim => (Counter::Trims, None, None),
            Asked::Other => return,
        };
        sample.counters[done as usize] += 1;
        if let Some((counter, bytes)) = bytes {
            sample.counters[counter as usize] += bytes;
        }
        if let Some((counter, kind)) = timed {
            sample.counters[counter as usize] += micros;
            sample.latency[kind as usize].0[class_of(micros)] += 1;
        }
    }

    /// What it shows.
    pub(crate) fn sample(&self) -> Sample {
        self.0.borrow().clone()
    }
}

/// The meters of a node.
#[derive(Debug, Default)]
pub(crate) struct Meters {
    volumes: RefCell<BTreeMap<VolumeId, Rc<Meter>>>,
    /// What volumes that are served elsewhere by now have had here.
    left: RefCell<Sample>,
    runs: std::cell::Cell<u64>,
}

/// Adds counters and histograms.
fn add(sum: &mut Sample, more: &Sample) {
    for (own, more) in sum.counters.iter_mut().zip(&more.counters) {
        *own += more;
    }
    for (own, more) in sum.latency.iter_mut().zip(&more.latency) {
        Histogram::add(own, more);
    }
}

impl Meters {
    /// The meter of a volume that is served here.
    fn of(&self, id: VolumeId) -> Rc<Meter> {
        let mut volumes = self.volumes.borrow_mut();
        let meter = volumes.entry(id).or_insert_with(|| {
            self.runs.set(self.runs.get() + 1);
            Rc::new(Meter::new(self.runs.get()))
        });
        meter.clone()
    }

    /// What a volume's meter shows; zeros when it has had no session.
    pub(crate) fn sample(&self, id: VolumeId) -> Sample {
        let volumes = self.volumes.borrow();
        volumes
            .get(&id)
            .map(|meter| meter.sample())
            .unwrap_or_default()
    }

    /// All that was served here since the process began.
    pub(crate) fn total(&self) -> Sample {
        let mut sum = self.left.borrow().clone();
        for meter in self.volumes.borrow().values() {
            add(&mut sum, &meter.0.borrow());
        }
        sum
    }

    /// Every meter that there is.
    pub(crate) fn ids(&self) -> Vec<VolumeId> {
        self.volumes.borrow().keys().copied().collect()
    }

    /// Forgets the meters of volumes that `serves` does not name; the sum keeps what they have shown.
    pub(crate) fn retain(&self, serves: impl Fn(VolumeId) -> bool) {
        let mut left = self.left.borrow_mut();
        self.volumes.borrow_mut().retain(|&id, meter| {
            let stays = serves(id);
            if !stays {
                add(&mut left, &meter.0.borrow());
            }
            stays
        });
    }
}

impl Host {
    /// What counts the requests of a session with a volume that is served here.
    pub(crate) fn meter_of(&self, id: VolumeId) -> Rc<Meter> {
        let meters = &self.upkeep.meters;
        // Who records forgets them, too, in time; nobody may record.
        if meters.volumes.borrow().len() > self.volumes.count() + LEFT_MAX {
            meters.retain(|id| self.volumes.get(id).is_some());
        }
        meters.of(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_by_kind_and_failed_ones_apart() {
        let meters = Meters::default();
        let meter = meters.of(VolumeId(7));
        let took = Duration::from_micros(100);
        meter.note(Asked::Read(4096), took, None);
        meter.note(Asked::Write(8192), took, None);
        meter.note(Asked::Write(4096), took, None);
        meter.note(Asked::Flush, took, None);
        meter.note(Asked::Trim, took, None);
        meter.note(Asked::Other, took, None);
        meter.note(Asked::Read(4096), took, Some(&NodeError::NotOwner));
        let full = NodeError::NoSpace {
            reason: String::new(),
        };
        meter.note(Asked::Write(4096), took, Some(&full));
        let sample = meters.sample(VolumeId(7));
        let count = |counter: Counter| sample.counters[counter as usize];
        assert_eq!([count(Counter::Reads), count(Counter::Writes)], [1, 2]);
        assert_eq!([count(Counter::Flushes), count(Counter::Trims)], [1, 1]);
        assert_eq!(count(Counter::Errors), 1);
        assert_eq!(count(Counter::ReadBytes), 4096);
        assert_eq!(count(Counter::WrittenBytes), 12_288);
        assert_eq!(count(Counter::WriteMicros), 200);
        let timed = sample.latency.map(|one| one.0[class_of(100)]);
        assert_eq!(timed, [1, 2, 1]);
    }

    #[test]
    fn what_volumes_had_here_stays_in_the_sum_when_they_leave() {
        let meters = Meters::default();
        for id in [1, 2] {
            let meter = meters.of(VolumeId(id));
            meter.note(Asked::Read(4096), Duration::ZERO, None);
        }
        meters.retain(|id| id == VolumeId(2));
        assert_eq!(meters.ids(), [VolumeId(2)]);
        assert_eq!(meters.total().counters[Counter::Reads as usize], 2);
        // One that comes back begins another run at zero.
        let again = meters.of(VolumeId(1)).sample();
        assert_eq!((again.run, again.counters[0]), (3, 0));
    }
}
