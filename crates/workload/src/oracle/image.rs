//! Images of a moment: what a device holds after a crash of everything, and snapshots.
//!
//! An image is checked against the clusters that could be current at that moment. `latest` is T: the
//! latest issue time of an operation that is known to be visible. An operation must be in the image when it
//! was promised (`required`) or had ended before T: it came earlier in the write order than something
//! that is there. Each block that is learnt may move T, and T may exclude values of other blocks, so both
//! go on until nothing changes. T only grows and is one of finitely many times: it ends.

use super::cluster::Cluster;
use super::history::OpId;
use super::log::Log;
use super::violation::Violation;
use crate::pattern::Content;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use vocab::Lba;

/// A block of an image that has been read.
pub(super) struct Pin {
    pub content: Content,
    /// Its cluster, once only one explains it.
    pub choice: Option<usize>,
}

/// The admissible contents of one moment.
pub(super) struct Image {
    pub what: &'static str,
    /// Why the required operations must be there.
    pub promise: &'static str,
    pub seed: u64,
    pub size: u64,
    /// Blocks that are not listed hold the base.
    pub blocks: BTreeMap<u64, Vec<Cluster>>,
    pub base: Option<Snapshot>,
    pub latest: u64,
    /// The visible operation that `latest` comes from.
    pub latest_op: Option<OpId>,
    pub pins: BTreeMap<u64, Pin>,
    pub log: Rc<RefCell<Log>>,
}

impl Image {
    fn clusters(&self, lba: u64) -> Vec<Cluster> {
        let fresh = || vec![Cluster::found(super::cluster::Value::Base, 0)];
        self.blocks.get(&lba).cloned().unwrap_or_else(fresh)
    }

    /// Records what a block holds.
    pub(super) fn pin(&mut self, lba: u64, content: Content) -> Result<(), Violation> {
        if let Some(pin) = self.pins.get(&lba) {
            if pin.content == content {
                return Ok(());
            }
            return Err(Violation::Changed {
                lba: Lba(lba),
                first: pin.content,
                now: content,
            });
        }
        let pin = Pin {
            content,
            choice: None,
        };
        self.pins.insert(lba, pin);
        Ok(())
    }

    /// Checks one pinned block; true when it moved T.
    pub(super) fn check(&mut self, lba: u64) -> Result<bool, Violation> {
        let Some(pin) = self.pins.get(&lba) else {
            return Ok(false);
        };
        let content = pin.content;
        let clusters = self.clusters(lba);
        let mut viable: Vec<usize> = Vec::new();
        let mut excluded: Option<(usize, usize)> = None;
        for (index, cluster) in clusters.iter().enumerate() {
            if !cluster.explains(content, Lba(lba), self.seed, |lba, content| {
                base_admits(self.base.as_ref(), lba, content)
            }) {
                continue;
            }
            let replaced_by = |(at, other): &(usize, &Cluster)| {
                let must = other.required || other.end < self.latest;
                must && *at != index && cluster.precedes(other)
            };
            match clusters.iter().enumerate().find(replaced_by) {
                Some((other, _)) => excluded = Some((index, other)),
                None => viable.push(index),
            }
        }
        if viable.is_empty() {
            return Err(self.explain(lba, content, &clusters, excluded));
        }
        self.choose(lba, content, &clusters, &viable)
    }

    fn choose(
        &mut self,
        lba: u64,
        content: Content,
        clusters: &[Cluster],
        viable: &[usize],
    ) -> Result<bool, Violation> {
        if let [only] = viable {
            let base = clusters[*only].value == super::cluster::Value::Base;
            if let (true, Some(base)) = (base, &self.base) {
                base.observe_one(Lba(lba), content)?;
            }
            let pin = self.pins.get_mut(&lba).expect("the caller found it");
            pin.choice = Some(*only);
        }
        let earliest = viable.iter().map(|index| &clusters[*index]);
        let earliest = earliest.min_by_key(|cluster| cluster.issued);
        let earliest = earliest.expect("the caller checked that one is viable");
        if earliest.issued <= self.latest {
            return Ok(false);
        }
        self.latest = earliest.issued;
        self.latest_op = earliest.op;
        Ok(true)
    }

    /// Checks all pinned blocks until nothing changes.
    pub(super) fn settle(&mut self) -> Result<(), Violation> {
        let pinned: Vec<u64> = self.pins.keys().copied().collect();
        loop {
            let mut moved = false;
            for lba in &pinned {
                moved |= self.check(*lba)?;
            }
            if !moved {
                return Ok(());
            }
        }
    }

    fn explain(
        &self,
        lba: u64,
        content: Content,
        clusters: &[Cluster],
        excluded: Option<(usize, usize)>,
    ) -> Violation {
        let log = self.log.borrow();
        let Some((found, lost)) = excluded else {
            return log.unexplained(Lba(lba), content, self.seed, clusters);
        };
        let reason = if clusters[lost].required {
            self.promise.to_owned()
        } else if let Some(op) = self.latest_op {
            format!(
                "it had ended before {} began, which is there",
                log.describe(op)
            )
        } else {
            "it had ended before the image was taken".to_owned()
        };
        Violation::Lost {
            what: self.what,
            lba: Lba(lba),
            found: log.describe_cluster(&clusters[found]),
            lost: log.describe_cluster(&clusters[lost]),
            reason,
        }
    }

    fn observe(&mut self, lba: Lba, content: Content) -> Result<(), Violation> {
        if lba.0 >= self.size {
            let expected = Content::Zero;
            return if content == expected {
                Ok(())
            } else {
                Err(self.log.borrow().unexplained(lba, content, self.seed, &[]))
            };
        }
        self.pin(lba.0, content)?;
        if self.check(lba.0)? {
            self.settle()?;
        }
        Ok(())
    }

    /// Whether a block may hold `content`, given what is known so far.
    fn admits(&self, lba: Lba, content: Content) -> bool {
        if lba.0 >= self.size {
            return content == Content::Zero;
        }
        if let Some(pin) = self.pins.get(&lba.0) {
            return pin.content == content;
        }
        let clusters = self.clusters(lba.0);
        let explains = |cluster: &Cluster| {
            cluster.explains(content, lba, self.seed, |lba, content| {
                base_admits(self.base.as_ref(), lba, content)
            })
        };
        clusters.iter().any(explains)
    }
}

/// Whether the base of a device, a snapshot or nothing, may read as `content`.
pub(super) fn base_admits(base: Option<&Snapshot>, lba: Lba, content: Content) -> bool {
    match base {
        Some(snapshot) => snapshot.image.borrow().admits(lba, content),
        None => content == Content::Zero,
    }
}

/// What a snapshot may hold. Operations that ended before its call began are in it, those that began
/// after it returned are not, and concurrent ones may be, but the same at each read. Cheap to
/// clone: all clones learn together, also through clones of the volume.
#[derive(Clone)]
pub struct Snapshot {
    pub(super) image: Rc<RefCell<Image>>,
}

impl Snapshot {
    pub(super) fn new(image: Image) -> Self {
        Self {
            image: Rc::new(RefCell::new(image)),
        }
    }

    pub(super) fn observe_one(&self, lba: Lba, content: Content) -> Result<(), Violation> {
        self.image.borrow_mut().observe(lba, content)
    }

    /// Blocks it covers.
    #[must_use]
    pub fn blocks(&self) -> u64 {
        self.image.borrow().size
    }

    /// Checks what a read of the snapshot, or of the base of a clone, returned.
    ///
    /// # Errors
    /// [`Violation`].
    pub fn on_read(&self, lba: Lba, contents: &[Content]) -> Result<(), Violation> {
        for (offset, content) in (0u64..).zip(contents) {
            self.observe_one(lba.plus(offset), *content)?;
        }
        Ok(())
    }

    /// Checks all of it.
    ///
    /// # Errors
    /// [`Violation`].
    pub fn verify_image(&self, mut read: impl FnMut(Lba) -> Content) -> Result<(), Violation> {
        let mut image = self.image.borrow_mut();
        for lba in 0..image.size {
            image.pin(lba, read(Lba(lba)))?;
        }
        image.settle()
    }
}
