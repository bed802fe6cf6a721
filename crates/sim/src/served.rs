//! Invariant 8: what a store answers to a read passes its salted checksum, also when a copy has rotted.

use crate::check::{RECOVERY_LIMIT, listings, read_extent};
use crate::cluster::Cluster;
use codec::extent::{Descriptor, Header};
use std::collections::BTreeMap;
use vocab::{ExtentId, StoreId};
use wire::{FrameRead, StoreReply, StoreRequest};

/// Asks every store for every frame of every extent it holds.
pub fn only_sound_bytes_are_served(cluster: &Cluster) -> Result<(), String> {
    let mut holders: BTreeMap<ExtentId, Vec<StoreId>> = BTreeMap::new();
    for ((store, _), listing) in listings(cluster)? {
        for info in listing.into_values().filter(|info| !info.tombstone) {
            holders.entry(info.id).or_default().push(store);
        }
    }
    for (id, stores) in holders {
        let sealed = stores
            .iter()
            .find_map(|&store| read_extent(cluster, store, id));
        let header = sealed.and_then(|(_, sealed)| Header::parse(&sealed).ok());
        let frames = header.map_or(0, |header| header.frames());
        for &store in &stores {
            served_soundly(cluster, store, id, frames)?;
        }
    }
    Ok(())
}

fn served_soundly(
    cluster: &Cluster,
    store: StoreId,
    id: ExtentId,
    frames: usize,
) -> Result<(), String> {
    let whole = |frame: usize| FrameRead {
        id,
        frame: frame as u16,
        first_block: 0,
        blocks: 0,
    };
    for read in (0..frames).map(whole) {
        let request = StoreRequest::ReadFrames { reads: vec![read] };
        let Some((StoreReply::Frames { pieces }, body)) = ask(cluster, store, request) else {
            // It knows that its copy is bad, or has no such frame any more.
            continue;
        };
        let sound = pieces.first().is_some_and(|piece| {
            let descriptor = Descriptor::from_bytes(&piece.descriptor);
            descriptor.is_ok_and(|descriptor| {
                let blocks = descriptor.blocks();
                descriptor.verify(id, read.frame, 0, blocks, &body).is_ok()
            })
        });
        if !sound {
            let frame = read.frame;
            return Err(format!(
                "{store} serves frame {frame} of {id} with a checksum that fails"
            ));
        }
    }
    Ok(())
}

fn ask(
    cluster: &Cluster,
    id: StoreId,
    request: StoreRequest,
) -> Option<(StoreReply, bytes::Bytes)> {
    for node in &cluster.nodes {
        let host = node.running.borrow().clone()?;
        let Some(store) = host.stores().into_iter().find(|store| store.id() == id) else {
            continue;
        };
        let answer = store.handle(request, Vec::new());
        let (reply, body) = cluster
            .run_on(&node.machine, RECOVERY_LIMIT, answer)?
            .ok()?;
        return Some((reply, body.concat().into()));
    }
    None
}
