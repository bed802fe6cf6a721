//! Copying what recovery found into a new segment, on as many stores as the policy wants.

use super::Found;
use crate::change::Change;
use crate::log::Copies;
use crate::volume::{Context, VolumeError};
use catalog::{CatalogError, SegmentReplica, SegmentRow, VolumeRow};
use futures_util::future::join_all;
use std::collections::BTreeSet;
use vocab::{Position, StoreId};
use wire::{
    CallError, Lane, Record, RecordHead, RecordKind, StoreCall, StoreError, StoreReply,
    StoreRequest,
};
use world::{Duration, Time};

/// Bound of one append message.
const APPEND_BYTES: usize = 1 << 20;
/// Patience with one append or flush; stores that take longer are left out.
const APPEND_PATIENCE: Duration = Duration::from_secs(5);
/// Attempts with ever fewer stores before the caller is told.
const ROUNDS_MAX: usize = 10;
const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// The new segment, flushed on all of its replicas, not yet in the catalog.
pub(super) struct Copied {
    pub(super) segment: SegmentRow,
    pub(super) last_crc: u32,
    pub(super) confirmed_at: Time,
}

/// Writes the found records into a segment of the new epoch.
pub(super) async fn copy_log(
    context: &Context,
    row: &VolumeRow,
    copies: Copies,
    found: &Found,
) -> Result<Copied, VolumeError> {
    let mut left_out: BTreeSet<StoreId> = BTreeSet::new();
    let mut reason = String::new();
    for _ in 0..ROUNDS_MAX {
        let mut stores = context.placement.log_stores(row.id, row.next_segment);
        stores.retain(|store| !left_out.contains(store));
        stores.truncate(usize::from(copies.wanted));
        if stores.len() < usize::from(copies.least.max(1)) {
            if reason.is_empty() {
                reason = format!(
                    "{} stores for its log answer, at least {} are needed",
                    stores.len(),
                    copies.least
                );
            }
            left_out.clear();
            context.world.sleep(RETRY_PAUSE).await;
            continue;
        }
        let began = context.world.now();
        let results = join_all(
            stores
                .iter()
                .map(|&store| copy_to(context, row, found, store)),
        )
        .await;
        let mut replicas = Vec::new();
        let mut last_crc = 0;
        for (store, result) in stores.iter().zip(results) {
            match result {
                Ok((replica, crc)) => {
                    replicas.push(replica);
                    last_crc = crc;
                }
                Err(VolumeError::Unavailable { reason: why, .. }) => {
                    reason = why;
                    left_out.insert(*store);
                }
                Err(error) => return Err(error),
            }
        }
        if replicas.len() == stores.len() {
            let segment = SegmentRow {
                id: row.next_segment,
                epoch: row.epoch,
                start: found.root.position.next(),
                end: None,
                replicas,
                wanted: copies.wanted,
            };
            return Ok(Copied {
                segment,
                last_crc,
                confirmed_at: began,
            });
        }
    }
    Err(VolumeError::Unavailable {
        volume: row.id,
        reason,
    })
}

async fn copy_to(
    context: &Context,
    row: &VolumeRow,
    found: &Found,
    store: StoreId,
) -> Result<(SegmentReplica, u32), VolumeError> {
    let fence = StoreRequest::Fence {
        volume: row.id,
        epoch: row.epoch,
    };
    let (reply, _) = call(context, row, store, fence.into()).await?;
    let StoreReply::Fenced { incarnation, .. } = reply else {
        return Err(unexpected(row, store, &reply));
    };
    let mut last_crc = 0;
    let mut rest = &found.records[..];
    while !rest.is_empty() {
        let (batch, count) = next_batch(row, found.root.position, rest, &mut last_crc);
        rest = &rest[count..];
        let request = StoreRequest::Append {
            volume: row.id,
            epoch: row.epoch,
            segment: row.next_segment,
            incarnation,
            count: u32::try_from(count).expect("bounded by APPEND_BYTES"),
            durable: rest.is_empty(),
        };
        let append = StoreCall {
            request,
            body: Record::encode_batch(&batch),
        };
        let (reply, _) = call(context, row, store, append).await?;
        let last = batch
            .last()
            .map_or(Position::ZERO, |record| record.head.position);
        match reply {
            StoreReply::Appended { written, flushed }
                if written >= last && (!rest.is_empty() || flushed >= last) => {}
            other => return Err(unexpected(row, store, &other)),
        }
    }
    Ok((SegmentReplica { store, incarnation }, last_crc))
}

/// Records of the next message, chained on `last_crc`, and how many of `rest` they are.
fn next_batch(
    row: &VolumeRow,
    before: Position,
    rest: &[(Position, Change)],
    last_crc: &mut u32,
) -> (Vec<Record>, usize) {
    let mut batch = Vec::new();
    let mut bytes = 0;
    for (position, change) in rest {
        bytes += change.data_bytes() + wire::RECORD_HEAD_BYTES;
        if bytes > APPEND_BYTES && !batch.is_empty() {
            break;
        }
        let record = change.to_record(RecordHead {
            crc: 0,
            previous_crc: *last_crc,
            volume: row.id,
            epoch: row.epoch,
            position: *position,
            segment: row.next_segment,
            kind: RecordKind::Unmap,
            lba: vocab::Lba(0),
            blocks: 0,
            data_bytes: 0,
            // Nothing counts as committed in the new segment before the catalog knows it.
            committed: before,
            flushed: before,
        });
        *last_crc = record.head.crc;
        batch.push(record);
    }
    let count = batch.len();
    (batch, count)
}

async fn call(
    context: &Context,
    row: &VolumeRow,
    store: StoreId,
    call: StoreCall,
) -> Result<(StoreReply, bytes::Bytes), VolumeError> {
    let answer = context
        .world
        .timeout(APPEND_PATIENCE, context.stores.call(store, Lane::Log, call))
        .await;
    match answer {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(CallError::Refused {
            error: StoreError::StaleEpoch { promised },
            ..
        })) => Err(CatalogError::StaleOwner { current: promised }.into()),
        Ok(Err(CallError::Refused {
            error: StoreError::JournalFull,
            ..
        })) => Err(VolumeError::JournalFull {
            volume: row.id,
            store,
        }),
        Ok(Err(error)) => Err(unavailable(row, error.to_string())),
        Err(_) => Err(unavailable(row, format!("{store} does not answer"))),
    }
}

fn unavailable(row: &VolumeRow, reason: String) -> VolumeError {
    VolumeError::Unavailable {
        volume: row.id,
        reason,
    }
}

fn unexpected(row: &VolumeRow, store: StoreId, reply: &StoreReply) -> VolumeError {
    unavailable(row, format!("{store} answered {reply:?}"))
}
