//! In which order volumes are opened on a node: those with clients before those without (architecture 3.3, item 1 of healing).
//!
//! Judged by what the catalog says of attachments and by which openings are seen to begin, not by the places that the node gives them.
//! Only where few may work at a time (`Config::openings`), which is where the order counts.

use crate::cluster::Cluster;
use catalog::VolumeRow;
use std::collections::BTreeMap;
use vocab::VolumeId;
use world::{Duration, Time};

/// An opening goes by a row that was read so long before it came into the line, at most: attachments that are younger do not count.
const ROW_AGE_MAX: Duration = Duration::from_secs(6);

/// What was seen of the openings of a node.
#[derive(Default)]
struct Line {
    /// Which start of the node it is.
    start: u64,
    /// When it was seen.
    at: Time,
    /// Since when those have waited that have had no turn yet, without suspects.
    waiting: BTreeMap<VolumeId, Time>,
    under_way: Vec<VolumeId>,
}

/// What was seen of turns.
#[derive(Default)]
pub struct Turns {
    /// Whether a volume has clients, and since when that is so.
    attached: BTreeMap<VolumeId, (bool, Time)>,
    lines: BTreeMap<usize, Line>,
}

impl Turns {
    /// Looks at all nodes.
    ///
    /// # Errors
    /// A volume without clients that overtook one with clients.
    pub fn observe(&mut self, cluster: &Cluster, volumes: &[VolumeRow]) -> Result<(), String> {
        if cluster.config.openings == usize::MAX {
            return Ok(());
        }
        let now = cluster.sim.now();
        for row in volumes {
            let is_attached = !row.attachment.clients.is_empty();
            // One without clients that was not there before had none before.
            let first = if is_attached { now } else { Time(0) };
            let seen = self.attached.entry(row.id).or_insert((is_attached, first));
            if seen.0 != is_attached {
                *seen = (is_attached, now);
            }
        }
        for (index, node) in cluster.nodes.iter().enumerate() {
            let Some(host) = node.running.borrow().clone() else {
                self.lines.remove(&index);
                continue;
            };
            let mut line = Line {
                start: host.start_number(),
                at: now,
                ..Line::default()
            };
            for opening in host.inspect_openings() {
                match opening.is_under_way {
                    true => line.under_way.push(opening.volume),
                    false if opening.is_suspect => {}
                    false => drop(line.waiting.insert(opening.volume, opening.since)),
                }
            }
            let before = self.lines.get(&index);
            if let Some(before) = before.filter(|before| before.start == line.start)
                && let Some((first, passed)) = self.overtaken(before, &line)
            {
                return Err(format!(
                    "n{index} opens {first}, which has no clients, before {passed}, which has and waits"
                ));
            }
            self.lines.insert(index, line);
        }
        Ok(())
    }

    /// Whether a volume has clients, or has none, for so long that an opening knew that came at `since`.
    fn is_known(&self, volume: VolumeId, is_attached: bool, since: Time) -> bool {
        let seen = self.attached.get(&volume);
        seen.is_some_and(|&(is, from)| is == is_attached && from + ROW_AGE_MAX <= since)
    }

    /// Which volume without clients has begun although one with clients has waited all the time.
    fn overtaken(&self, before: &Line, now: &Line) -> Option<(VolumeId, VolumeId)> {
        let begun = now.under_way.iter().copied();
        let mut begun = begun.filter(|volume| {
            let came = before.waiting.get(volume).copied().unwrap_or(before.at);
            !before.under_way.contains(volume) && self.is_known(*volume, false, came)
        });
        let first = begun.next()?;
        let waited = before.waiting.iter().find(|&(volume, since)| {
            now.waiting.get(volume) == Some(since) && self.is_known(*volume, true, *since)
        });
        waited.map(|(&passed, _)| (first, passed))
    }
}
