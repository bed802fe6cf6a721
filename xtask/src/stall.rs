//! How long writes stand still when something dies: one write after another, the longest wait kept.

use crate::nbd::Client;
use anyhow::{Context, Result};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// What a run of writes saw.
pub struct Stall {
    /// Writes answered before the strike.
    pub before: u64,
    /// Writes answered after it.
    pub after: u64,
    /// The longest wait for an answer after it.
    pub longest: Duration,
}

/// Writes 4 KiB blocks from `next` one at a time for `lead`, calls `strike`, and goes on for `follow`; ends with a
/// flush. Every write must succeed.
///
/// `strike` runs in this thread and the writes in another, so that it hits in the middle of one.
pub fn measure(
    mut client: Client,
    next: &mut (dyn FnMut() -> (u64, Vec<u8>) + Send),
    lead: Duration,
    follow: Duration,
    strike: impl FnOnce() -> Result<()>,
) -> Result<Stall> {
    let (struck, notice) = mpsc::channel();
    std::thread::scope(|scope| {
        let writer = scope.spawn(move || write(&mut client, next, follow, &notice));
        std::thread::sleep(lead);
        let moment = Instant::now();
        let outcome = strike();
        // If the writer failed already, its error is the better one.
        let _ = struck.send(moment);
        let stall = writer
            .join()
            .ok()
            .context("the writing thread panicked")??;
        outcome.map(|()| stall)
    })
}

fn write(
    client: &mut Client,
    next: &mut (dyn FnMut() -> (u64, Vec<u8>) + Send),
    follow: Duration,
    notice: &mpsc::Receiver<Instant>,
) -> Result<Stall> {
    let mut stall = Stall {
        before: 0,
        after: 0,
        longest: Duration::ZERO,
    };
    let mut moment: Option<Instant> = None;
    loop {
        let (offset, data) = next();
        let started = Instant::now();
        client.write(offset, &data).context("a write failed")?;
        moment = moment.or_else(|| match notice.try_recv() {
            Ok(moment) => Some(moment),
            Err(mpsc::TryRecvError::Empty) => None,
            // Nobody will strike any more.
            Err(mpsc::TryRecvError::Disconnected) => Some(Instant::now()),
        });
        let Some(moment) = moment else {
            stall.before += 1;
            continue;
        };
        stall.after += 1;
        stall.longest = stall.longest.max(started.elapsed());
        // The stall itself does not count, so that there is I/O after it, however long it is.
        if moment.elapsed() > follow + stall.longest {
            client.flush().context("the flush at the end failed")?;
            return Ok(stall);
        }
    }
}
