//! How many volumes a node opens at a time: each reads a log and copies it, and clients of all volumes of a lost node ask at
//! once.

use std::cell::Cell;
use std::rc::Rc;
use world::sync::Notify;
use world::{Duration, World};

/// Volumes that are opened at the same time.
const PARALLEL: usize = 16;
/// One that waits for stores that do not answer gives its turn back, or a few of them would keep all others waiting.
const TURN: Duration = Duration::from_secs(1);

/// Turns to open a volume.
#[derive(Clone, Default)]
pub(super) struct Turns(Rc<State>);

#[derive(Default)]
struct State {
    taken: Cell<usize>,
    given_back: Notify,
}

struct Turn(Rc<State>);

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.taken.set(self.0.taken.get() - 1);
        self.0.given_back.notify_all();
    }
}

impl Turns {
    async fn take(&self) -> Turn {
        loop {
            let given_back = self.0.given_back.notified();
            if self.0.taken.get() < PARALLEL {
                self.0.taken.set(self.0.taken.get() + 1);
                return Turn(self.0.clone());
            }
            given_back.await;
        }
    }

    /// Does the work once it is its turn, which ends with it or after a while.
    pub(super) async fn within<T>(&self, world: &World, work: impl Future<Output = T>) -> T {
        let turn = self.take().await;
        let mut work = std::pin::pin!(work);
        if let Ok(done) = world.timeout(TURN, work.as_mut()).await {
            return done;
        }
        drop(turn);
        work.await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[test]
    fn a_turn_is_waited_for_and_given_back_when_it_is_dropped() {
        let turns = Turns::default();
        let taken: Vec<Turn> = (0..PARALLEL)
            .map(|_| turns.take().now_or_never().expect("there is one"))
            .collect();
        assert!(turns.take().now_or_never().is_none());
        drop(taken);
        assert!(turns.take().now_or_never().is_some());
    }
}
