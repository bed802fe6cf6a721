//! A device whose answers are checked as they come.

use super::history::{Action, History, OpId, ReadId};
use super::violation::Violation;
use crate::pattern;
use blockdev::{BlockDevice, BlockError, WriteMode};
use std::cell::RefCell;
use std::rc::Rc;
use vocab::Lba;

/// Why a checked request did not succeed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// The device refused or failed: allowed.
    #[error(transparent)]
    Refused(#[from] BlockError),
    /// The device lied.
    #[error(transparent)]
    Violation(#[from] Violation),
}

/// A device and its history. Dropping a request's future abandons the operation.
#[derive(Clone)]
pub struct Checked {
    device: Rc<dyn BlockDevice>,
    history: Rc<RefCell<History>>,
}

/// Tells the history of an operation that nobody waited for.
struct Open {
    history: Rc<RefCell<History>>,
    op: Option<OpId>,
    read: Option<ReadId>,
}

impl Drop for Open {
    fn drop(&mut self) {
        // A crash ends everything that is under way by itself, and then drops the tasks.
        let Ok(mut history) = self.history.try_borrow_mut() else {
            return;
        };
        if let Some(op) = self.op.take() {
            history.abandon_if_under_way(op);
        }
        if let Some(read) = self.read.take() {
            history.on_read_failed(read);
        }
    }
}

impl Checked {
    /// Checks `device` against `history`.
    #[must_use]
    pub fn new(device: Rc<dyn BlockDevice>, history: Rc<RefCell<History>>) -> Self {
        Self { device, history }
    }

    /// The history, for crashes and snapshots.
    #[must_use]
    pub fn history(&self) -> &Rc<RefCell<History>> {
        &self.history
    }

    async fn change(&self, action: Action) -> Result<(), BlockError> {
        let op = self.history.borrow_mut().on_issue(action);
        let mut open = Open {
            history: self.history.clone(),
            op: Some(op),
            read: None,
        };
        let outcome = match action {
            Action::Write { lba, mode, .. } => {
                let data = self.history.borrow().data(op);
                self.device.write(lba, vec![data], mode).await
            }
            Action::Unmap { lba, blocks } => self.device.unmap(lba, blocks).await,
            Action::Flush => self.device.flush().await,
        };
        open.op = None;
        match &outcome {
            Ok(()) => self.history.borrow_mut().on_ack(op),
            Err(_) => self.history.borrow_mut().on_fail(op),
        }
        outcome
    }

    /// Writes a new version of `blocks` blocks.
    ///
    /// # Errors
    /// The device's.
    pub async fn write(&self, lba: Lba, blocks: u32, mode: WriteMode) -> Result<(), BlockError> {
        let blocks = u64::from(blocks);
        self.change(Action::Write { lba, blocks, mode }).await
    }

    /// Unmaps.
    ///
    /// # Errors
    /// The device's.
    pub async fn unmap(&self, lba: Lba, blocks: u64) -> Result<(), BlockError> {
        self.change(Action::Unmap { lba, blocks }).await
    }

    /// Flushes.
    ///
    /// # Errors
    /// The device's.
    pub async fn flush(&self) -> Result<(), BlockError> {
        self.change(Action::Flush).await
    }

    /// Reads and checks.
    ///
    /// # Errors
    /// The device's refusal, or what it did wrong.
    pub async fn read(&self, lba: Lba, blocks: u32) -> Result<(), Trouble> {
        let read = self.history.borrow_mut().begin_read(lba, blocks.into());
        let mut open = Open {
            history: self.history.clone(),
            op: None,
            read: Some(read),
        };
        let pieces = self.device.read(lba, blocks).await?;
        open.read = None;
        let contents = pattern::read_back_all(&pieces);
        Ok(self.history.borrow_mut().on_read(read, &contents)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use blockdev::{Allocation, BlockFuture, MemoryDevice};
    use bytes::Bytes;
    use futures_util::FutureExt;
    use vocab::ByteCount;

    /// Never answers writes.
    struct Hung(MemoryDevice);

    impl BlockDevice for Hung {
        fn size(&self) -> ByteCount {
            self.0.size()
        }
        fn read_only(&self) -> bool {
            false
        }
        fn read(&self, lba: Lba, blocks: u32) -> BlockFuture<Vec<Bytes>> {
            self.0.read(lba, blocks)
        }
        fn write(&self, _: Lba, _: Vec<Bytes>, _: WriteMode) -> BlockFuture<()> {
            Box::pin(std::future::pending())
        }
        fn flush(&self) -> BlockFuture<()> {
            self.0.flush()
        }
        fn unmap(&self, lba: Lba, blocks: u64) -> BlockFuture<()> {
            self.0.unmap(lba, blocks)
        }
        fn allocation(&self, lba: Lba, blocks: u64) -> BlockFuture<Vec<Allocation>> {
            self.0.allocation(lba, blocks)
        }
    }

    fn checked(device: Rc<dyn BlockDevice>) -> Checked {
        let blocks = device.size().blocks();
        Checked::new(device, Rc::new(RefCell::new(History::new(1, blocks))))
    }

    #[test]
    fn a_memory_device_passes_until_somebody_changes_it_behind_its_back() {
        let device = Rc::new(MemoryDevice::new(ByteCount::kib(64)));
        let checked = checked(device.clone());
        let (lba, mode) = (Lba(2), WriteMode::Buffered);
        assert_eq!(checked.write(lba, 3, mode).now_or_never(), Some(Ok(())));
        assert_eq!(checked.read(Lba(0), 16).now_or_never(), Some(Ok(())));
        assert_eq!(checked.unmap(Lba(3), 1).now_or_never(), Some(Ok(())));
        assert_eq!(checked.flush().now_or_never(), Some(Ok(())));
        assert_eq!(checked.read(Lba(0), 16).now_or_never(), Some(Ok(())));
        assert_eq!(device.unmap(Lba(2), 1).now_or_never(), Some(Ok(())));
        let outcome = checked.read(Lba(2), 1).now_or_never();
        assert!(matches!(outcome, Some(Err(Trouble::Violation(_)))));
        let outcome = checked.read(Lba(15), 1).now_or_never();
        assert_eq!(outcome, Some(Ok(())));
    }

    #[test]
    fn a_dropped_write_may_happen_later_but_not_after_a_takeover() {
        let memory = MemoryDevice::new(ByteCount::kib(64));
        let checked = checked(Rc::new(Hung(memory.clone())));
        let (lba, mode) = (Lba(2), WriteMode::Buffered);
        assert_eq!(checked.write(lba, 1, mode).now_or_never(), None);
        assert_eq!(checked.read(lba, 1).now_or_never(), Some(Ok(())));
        let landed = memory.write(lba, vec![pattern::fill(lba, 1, 1)], mode);
        assert_eq!(landed.now_or_never(), Some(Ok(())));
        assert_eq!(checked.read(lba, 1).now_or_never(), Some(Ok(())));
        assert_eq!(checked.write(Lba(3), 1, mode).now_or_never(), None);
        checked.history().borrow_mut().on_takeover();
        assert_eq!(checked.read(Lba(3), 1).now_or_never(), Some(Ok(())));
        let landed = memory.write(Lba(3), vec![pattern::fill(Lba(3), 2, 1)], mode);
        assert_eq!(landed.now_or_never(), Some(Ok(())));
        let outcome = checked.read(Lba(3), 1).now_or_never();
        assert!(matches!(outcome, Some(Err(Trouble::Violation(_)))));
    }
}
