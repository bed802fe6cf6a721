//! Fills give way to clients: once a second the pace follows from how long requests took.

use crate::health::Fitness;
use crate::host::Host;
use curator::{Pace, PaceOptions, Window};
use std::rc::Rc;
use world::Duration;

/// Length of a window.
const WINDOW: Duration = Duration::from_secs(1);

/// Sets the pool's pace, for as long as the node runs, and also while it has no store: it may be given one.
pub(crate) async fn run(host: Rc<Host>, options: PaceOptions) {
    let mut pace = Pace::default();
    let mut copied = host.pool.copied();
    loop {
        host.world.sleep(WINDOW).await;
        let (requests, p99) = host.upkeep.latency.take();
        let before = std::mem::replace(&mut copied, host.pool.copied());
        let window = Window {
            requests,
            p99,
            filling: copied > before,
            urgent: is_urgent(&host),
        };
        let share = pace.step(&window, &options);
        host.pool.set_fill_share(share);
    }
}

/// Whether a group could be lost with the next failure: one complete member of several answers.
fn is_urgent(host: &Host) -> bool {
    host.members.look(|view| {
        let mut groups = view
            .groups
            .values()
            .filter(|group| group.replication_factor > 1);
        groups.any(|group| {
            let answers = |store: &vocab::StoreId| host.health.fitness(*store) != Fitness::Unfit;
            group.complete().filter(answers).count() <= 1
        })
    })
}
