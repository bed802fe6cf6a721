//! What a process that the kernel writes through must be: never swapped out, never waiting for its own
//! writes, last to be killed for memory, and stopped only by request.

use nix::sys::signal::{SigSet, Signal};
use rustix::mm::MlockAllFlags;
use std::sync::mpsc;

/// Why the process was told something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// SIGTERM or SIGINT.
    Stop,
    /// SIGHUP: look whether the volume grew.
    Refresh,
}

/// Signals that the process waits for.
pub struct Signals {
    told: mpsc::Receiver<Told>,
    sender: mpsc::Sender<Told>,
}

/// Signals that tell an attachment something, and nothing to its guard.
pub(crate) fn waited_for() -> SigSet {
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        signals.add(signal);
    }
    signals
}

impl Signals {
    /// Blocks the signals in the calling thread, and in all threads it starts from now on; one thread waits
    /// for them. Call it first in `main`: a thread that exists already would be killed by them.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn install() -> std::io::Result<Self> {
        waited_for().thread_block()?;
        let (sender, told) = mpsc::channel();
        let to = sender.clone();
        std::thread::Builder::new()
            .name("attach-signals".to_owned())
            .spawn(move || {
                while let Ok(signal) = waited_for().wait() {
                    let event = match signal {
                        Signal::SIGHUP => Told::Refresh,
                        _ => Told::Stop,
                    };
                    if to.send(event).is_err() {
                        return;
                    }
                }
            })?;
        Ok(Self { told, sender })
    }

    /// Not signals, but what is sent through [`Signals::sender`].
    #[must_use]
    pub fn none() -> Self {
        let (sender, told) = mpsc::channel();
        Self { told, sender }
    }

    /// Another way to tell the process.
    #[must_use]
    pub fn sender(&self) -> mpsc::Sender<Told> {
        self.sender.clone()
    }

    /// The next one, or `None` after `patience`.
    pub(crate) fn wait(&self, patience: std::time::Duration) -> Option<Told> {
        self.told.recv_timeout(patience).ok()
    }
}

/// Protects the calling process and the threads it starts from now on. What is not permitted is left out and
/// returned, in words: attaching works without, but may deadlock under memory pressure.
///
/// Memory is locked from its first use on, not when it is reserved: a hundred processes would otherwise hold a hundred
/// times 24 MiB of stacks, buffers and code that none of them uses. What is used for the first time under memory pressure
/// is no worse off than what a request allocates: for an I/O flusher the kernel frees memory without waiting for writes.
#[must_use]
pub fn protect() -> Vec<String> {
    let mut missing = Vec::new();
    let lock = MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT;
    if let Err(error) = rustix::mm::mlockall(lock) {
        missing.push(format!(
            "memory may be swapped out ({error}): grant CAP_IPC_LOCK or raise `ulimit -l`"
        ));
    }
    // Without it an allocation of this process may wait for a write that it has to do itself.
    if let Err(error) = rustix::process::configure_io_flusher_behavior(true) {
        missing.push(format!(
            "the process is not marked as an I/O flusher ({error}): grant CAP_SYS_RESOURCE"
        ));
    }
    if let Err(error) = std::fs::write("/proc/self/oom_score_adj", "-1000") {
        missing.push(format!(
            "the process may be killed when memory runs out ({error}): grant CAP_SYS_RESOURCE"
        ));
    }
    missing
}
