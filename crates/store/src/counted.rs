//! A disk whose operations are counted as they begin: a few additions each, and nothing is kept of one.

use bytes::Bytes;
use std::cell::Cell;
use std::rc::Rc;
use world::{Disk, DiskError, LocalBoxFuture};

/// What was asked of a disk since the store was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskFigures {
    /// Reads.
    pub reads: u64,
    /// Writes.
    pub writes: u64,
    /// Flushes.
    pub flushes: u64,
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes written.
    pub written_bytes: u64,
}

/// Where a disk's figures are.
pub(crate) type Figures = Rc<Cell<DiskFigures>>;

/// See the head of this file.
pub(crate) struct Counted {
    disk: Rc<dyn Disk>,
    figures: Figures,
}

/// `disks`, counted, and where their figures are.
pub(crate) fn counted(disks: Vec<Rc<dyn Disk>>) -> (Vec<Rc<dyn Disk>>, Vec<Figures>) {
    let one = |disk: Rc<dyn Disk>| {
        let figures = Rc::new(Cell::new(DiskFigures::default()));
        let disk: Rc<dyn Disk> = Rc::new(Counted {
            disk,
            figures: figures.clone(),
        });
        (disk, figures)
    };
    disks.into_iter().map(one).unzip()
}

impl Counted {
    fn count(&self, change: impl FnOnce(&mut DiskFigures)) {
        let mut figures = self.figures.get();
        change(&mut figures);
        self.figures.set(figures);
    }
}

impl Disk for Counted {
    fn size(&self) -> u64 {
        self.disk.size()
    }

    fn read(&self, offset: u64, len: usize) -> LocalBoxFuture<'static, Result<Bytes, DiskError>> {
        self.count(|figures| {
            figures.reads += 1;
            figures.read_bytes += len as u64;
        });
        self.disk.read(offset, len)
    }

    fn write(&self, offset: u64, data: Bytes) -> LocalBoxFuture<'static, Result<(), DiskError>> {
        self.count(|figures| {
            figures.writes += 1;
            figures.written_bytes += data.len() as u64;
        });
        self.disk.write(offset, data)
    }

    fn flush(&self) -> LocalBoxFuture<'static, Result<(), DiskError>> {
        self.count(|figures| figures.flushes += 1);
        self.disk.flush()
    }
}
