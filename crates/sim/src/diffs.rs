//! Invariant 6: what a diff does not name is equal in both states, and what it calls zeros is zeros.

use crate::check::within_bound;
use crate::cluster::Cluster;
use crate::manage::{Taken, operate};
use api::answer::{Answer, DiffRun};
use api::operation::Operation;
use workload::pattern::Content;
use world_sim::SimRng;

/// Bytes of a block.
const BLOCK: u64 = 4096;

/// Diffs between snapshots of the same volume, in the order they were taken, and from nothing to each.
///
/// # Errors
/// A difference that the diff does not have.
pub fn lead_from_one_to_the_next(
    cluster: &Cluster,
    rng: &SimRng,
    taken: &[Taken],
    images: &[Vec<Content>],
) -> Result<(), String> {
    for (at, (to, image)) in taken.iter().zip(images).enumerate() {
        let before = taken[..at].iter().zip(images);
        let mut before = before.filter(|(from, _)| from.volume == to.volume);
        let from = before.next_back();
        let from_name = from.map(|(from, _)| from.name.clone());
        let runs = diff_of(cluster, rng, to, from_name.clone())?;
        let old = |lba: usize| {
            let image = from.map(|(_, image)| image);
            image.map_or(Content::Zero, |image| {
                image.get(lba).copied().unwrap_or(Content::Zero)
            })
        };
        check(&runs, image, old).map_err(|what| {
            let (volume, name) = (&to.volume, &to.name);
            format!("the diff of {volume} from {from_name:?} to {name}: {what}")
        })?;
    }
    Ok(())
}

fn diff_of(
    cluster: &Cluster,
    rng: &SimRng,
    to: &Taken,
    from: Option<String>,
) -> Result<Vec<DiffRun>, String> {
    within_bound(cluster, "a diff", || {
        let operation = Operation::SnapshotDiff {
            volume: to.volume.clone(),
            from: from.clone(),
            to: Some(to.name.clone()),
            offset: 0,
            limit: None,
        };
        match operate(cluster, rng, operation) {
            Some(Ok(Answer::Diff(answer))) if answer.next.is_none() => Ok(answer.runs),
            other => Err(format!("{other:?}")),
        }
    })
}

fn check(runs: &[DiffRun], new: &[Content], old: impl Fn(usize) -> Content) -> Result<(), String> {
    for (lba, content) in new.iter().enumerate() {
        let offset = lba as u64 * BLOCK;
        let named = |run: &&DiffRun| (run.offset..run.offset + run.length).contains(&offset);
        match runs.iter().find(named) {
            None if *content != old(lba) => {
                return Err(format!("block {lba} differs and is not named"));
            }
            Some(run) if run.zero && *content != Content::Zero => {
                return Err(format!("block {lba} is called zeros and is not"));
            }
            _ => {}
        }
    }
    Ok(())
}
