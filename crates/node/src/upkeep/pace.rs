//! Fills give way to clients: once a second the pace follows from how long requests took, those of volumes owned here and
//! the appends of owners anywhere to the stores here. The slower of the two counts, for what is filled here and for what is read here
//! to fill others.

use crate::health::Fitness;
use crate::host::Host;
use curator::{Pace, PaceOptions, Window};
use std::rc::Rc;
use world::Duration;

/// Length of a window.
const WINDOW: Duration = Duration::from_secs(1);

/// Sets the pool's pace, for as long as the node runs, and also while it has no store: it may be given one.
pub(crate) async fn run(host: Rc<Host>, options: PaceOptions) {
    let (mut clients, mut appends) = (Pace::default(), Pace::default());
    let done = |host: &Host| host.pool.copied() + host.stores.demand.reads();
    let mut copied = done(&host);
    loop {
        host.world.sleep(WINDOW).await;
        let before = std::mem::replace(&mut copied, done(&host));
        let (filling, urgent) = (copied > before, is_urgent(&host));
        let window = |(requests, p99)| Window {
            requests,
            p99,
            filling,
            urgent,
        };
        let requested = clients.step(&window(host.upkeep.latency.take()), &options);
        let appended = appends.step(&window(host.stores.demand.appends.take()), &options);
        let share = requested.min(appended);
        host.pool.set_fill_share(share);
        host.stores.demand.set_share(share);
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
