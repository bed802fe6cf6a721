//! An owner that owes an answer and is silent: whether it is still the owner.
//!
//! A machine that is cut off without a word keeps its connections; they are given up after five silent seconds, when
//! another node may have served the volume for three. So an owner that owes an answer is asked for a sign of life early,
//! and when it gives none, the other nodes are asked who serves the volume now.
//!
//! Invariants
//! - A session is left only for another owner: one that is merely slow, or cut off from this client alone, is waited for
//!   until its connection is lost.
//! - Leaving it is losing its connection, in everything that follows: the peer is closed first, so that no answer of it
//!   can arrive for what is sent again. What protects the volume from the old owner is the epoch, as ever.
//! - Nothing is asked while nothing is owed.

use crate::engine::Engine;
use crate::find::Finder;
use rpc::{Peer, Request};
use wire::SessionNumber;
use world::{Duration, Time, TimedOut};

/// A session whose owner owes an answer.
struct Owing {
    number: SessionNumber,
    peer: Peer,
    /// Since when it has said nothing while it owed one.
    quiet_since: Time,
}

impl Engine {
    /// Watches the session until it was left for another owner. Never resolves otherwise.
    pub(crate) async fn watch(&self, finder: &mut Finder) {
        let mut looks = 0_u32;
        loop {
            let owes = self.owes.notified();
            let Some(owing) = self.owing() else {
                self.watched.set(false);
                looks = 0;
                owes.await;
                continue;
            };
            let due = owing.quiet_since + self.options.doubt_after;
            if self.world.now() < due {
                let woken = self.world.clock.sleep_until(due);
                drop(owing);
                looks = 0;
                woken.await;
                continue;
            }
            if self.is_silent(&owing).await && self.is_left(&owing, finder).await {
                return;
            }
            // Looked at again after a while: its silence may be what makes another node take over.
            self.world.sleep(self.pause_after(looks)).await;
            looks = looks.saturating_add(1);
        }
    }

    /// Pause after so many looks before this one. Clients of hundreds of volumes doubt the same owner at the same time: they must not go on
    /// asking the same nodes at the same time.
    fn pause_after(&self, looks: u32) -> Duration {
        let pause = self.options.doubt_after * (1 << looks.min(DOUBLINGS_MAX));
        let jitter = u32::try_from(768 + self.world.rng.next_u64() % 512).expect("below 1280");
        pause * jitter / 1024
    }

    fn owing(&self) -> Option<Owing> {
        let (session, oldest) = self.oldest_owed()?;
        let heard = session.1.heard_at().unwrap_or(Time(0));
        Some(Owing {
            number: session.0,
            quiet_since: oldest.max(heard),
            peer: session.1,
        })
    }

    /// Asks for a sign of life. Anything that arrives is one: the answer may be behind others.
    async fn is_silent(&self, owing: &Owing) -> bool {
        let asked = self.world.now();
        let pong = owing.peer.call(Request::Ping, Vec::new());
        let answered = self.world.timeout(self.options.doubt_after, pong).await;
        matches!(answered, Err(TimedOut)) && owing.is_silent_since(asked)
    }

    /// Asks the others, and leaves the session if another node serves the volume.
    async fn is_left(&self, owing: &Owing, finder: &mut Finder) -> bool {
        let asked = self.world.now();
        let owner = owing.peer.address();
        let found = finder.look(owner).await;
        let heir = found.filter(|found| found != owner && owing.is_silent_since(asked));
        let Some(heir) = heir else {
            return false;
        };
        let reason = format!("{owner} says nothing, and {heir} serves the volume now");
        self.on_session_failed(owing.number, reason);
        true
    }
}

impl Owing {
    fn is_silent_since(&self, then: Time) -> bool {
        self.peer.heard_at().is_none_or(|heard| heard <= then)
    }
}

/// Doublings of the pause between two looks: an owner that is cut off is left a second later for it, at most.
const DOUBLINGS_MAX: u32 = 1;

/// Silence of an owner that owes an answer, after which it is asked for a sign of life: longer than a disk or a busy
/// network takes, so that next to nothing is asked in vain.
pub const DOUBT_AFTER: Duration = Duration::from_millis(500);
