//! The SnapshotMetadata service: which blocks a snapshot holds, and which differ from an older one.
//!
//! Answers come from the cluster's diff in pages of exact ranges. A stream that breaks off is taken up again by its
//! caller, from the end of the last range he has.

use crate::call::{Call, stream};
use crate::cluster::{Asking, Cluster};
use crate::handle::{snapshot_address, volume_address};
use crate::v1::snapshot_metadata_server::SnapshotMetadata;
use crate::v1::*;
use api::http::path;
use api::{DiffAnswer, SnapshotAnswer};
use std::sync::Arc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

/// Ranges of one message, and of one page of the API, when the caller does not say.
const RANGES_DEFAULT: usize = 256;
/// Ranges of one message at most.
const RANGES_MAX: usize = 4096;
/// Largest block of the fixed style.
const BLOCK_BYTES_MAX: u64 = 1 << 20;

/// How ranges are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockStyle {
    /// As they are.
    Variable,
    /// As blocks of one length: the largest power of two up to 1 MiB that divides the volume.
    Fixed,
}

/// Serves the SnapshotMetadata.
pub(crate) struct MetadataService {
    pub cluster: Arc<Cluster>,
    pub style: BlockStyle,
}

#[tonic::async_trait]
impl SnapshotMetadata for MetadataService {
    type GetMetadataAllocatedStream = ReceiverStream<Result<GetMetadataAllocatedResponse, Status>>;
    type GetMetadataDeltaStream = ReceiverStream<Result<GetMetadataDeltaResponse, Status>>;

    async fn get_metadata_allocated(
        &self,
        request: Request<GetMetadataAllocatedRequest>,
    ) -> Result<Response<Self::GetMetadataAllocatedStream>, Status> {
        let (cluster, style) = (self.cluster.clone(), self.style);
        let work = move |call: &Call,
                         body: GetMetadataAllocatedRequest,
                         send: &mut dyn FnMut(_) -> bool| {
            let asked = Asked {
                base: None,
                target: &body.snapshot_id,
                offset: body.starting_offset,
                ranges: body.max_results,
            };
            asked.answer(cluster.ask(call), style, &mut |page| {
                send(GetMetadataAllocatedResponse {
                    block_metadata_type: page.style.into(),
                    volume_capacity_bytes: page.capacity,
                    block_metadata: page.ranges,
                })
            })
        };
        stream("GetMetadataAllocated", request, work).await
    }

    async fn get_metadata_delta(
        &self,
        request: Request<GetMetadataDeltaRequest>,
    ) -> Result<Response<Self::GetMetadataDeltaStream>, Status> {
        let (cluster, style) = (self.cluster.clone(), self.style);
        let work =
            move |call: &Call, body: GetMetadataDeltaRequest, send: &mut dyn FnMut(_) -> bool| {
                let asked = Asked {
                    base: Some(&body.base_snapshot_id),
                    target: &body.target_snapshot_id,
                    offset: body.starting_offset,
                    ranges: body.max_results,
                };
                asked.answer(cluster.ask(call), style, &mut |page| {
                    send(GetMetadataDeltaResponse {
                        block_metadata_type: page.style.into(),
                        volume_capacity_bytes: page.capacity,
                        block_metadata: page.ranges,
                    })
                })
            };
        stream("GetMetadataDelta", request, work).await
    }
}

/// A message of either stream.
struct Page {
    style: BlockMetadataType,
    capacity: i64,
    ranges: Vec<BlockMetadata>,
}

/// What a stream is to tell.
struct Asked<'a> {
    /// The older snapshot; nothing: an empty volume.
    base: Option<&'a str>,
    target: &'a str,
    offset: i64,
    ranges: i32,
}

impl Asked<'_> {
    /// Sends pages until there is no more, or nobody listens.
    fn answer(
        &self,
        cluster: Asking<'_>,
        style: BlockStyle,
        send: &mut dyn FnMut(Page) -> bool,
    ) -> Result<(), Status> {
        let handles = cluster.handles()?;
        let find = |field: &str, handle: &str| -> Result<SnapshotAnswer, Status> {
            let number = handles.snapshot_of(field, handle)?;
            Ok(cluster.get(&path(&["snapshots", &number.to_string()]))?)
        };
        let base = self
            .base
            .map(|base| find("base_snapshot_id", base))
            .transpose()?;
        let field = match self.base {
            Some(_) => "target_snapshot_id",
            None => "snapshot_id",
        };
        let target = find(field, self.target)?;
        if base
            .as_ref()
            .is_some_and(|base| base.volume_id != target.volume_id)
        {
            return Err(Status::invalid_argument(format!(
                "snapshots {} and {} are not of one volume: they cannot be compared",
                self.base.unwrap_or_default(),
                self.target
            )));
        }
        let offset = u64::try_from(self.offset)
            .ok()
            .filter(|offset| *offset <= target.size);
        let offset = offset.ok_or_else(|| {
            Status::out_of_range(format!(
                "starting_offset {} is not within the snapshot's {} bytes",
                self.offset, target.size
            ))
        })?;
        let ranges = self.ranges_of_message()?;
        let mut telling = Telling {
            block: match style {
                BlockStyle::Variable => None,
                BlockStyle::Fixed => Some(block_of(target.size)),
            },
            capacity: i64::try_from(target.size).unwrap_or(i64::MAX),
            ranges,
            told: offset,
            waiting: Vec::new(),
        };
        telling.tell(cluster, base.as_ref(), &target, offset, send)
    }

    fn ranges_of_message(&self) -> Result<usize, Status> {
        match usize::try_from(self.ranges) {
            Ok(0) => Ok(RANGES_DEFAULT),
            Ok(wanted) => Ok(wanted.min(RANGES_MAX)),
            Err(_) => Err(Status::invalid_argument(format!(
                "max_results is {}: use 0 or a number above",
                self.ranges
            ))),
        }
    }
}

/// The largest power of two up to 1 MiB that divides a size.
fn block_of(size: u64) -> u64 {
    let divisor = 1_u64 << size.trailing_zeros().min(20);
    divisor.min(BLOCK_BYTES_MAX)
}

/// Turns ranges into messages.
struct Telling {
    block: Option<u64>,
    capacity: i64,
    ranges: usize,
    /// Everything below has been told or is not to be.
    told: u64,
    waiting: Vec<BlockMetadata>,
}

impl Telling {
    fn tell(
        &mut self,
        cluster: Asking<'_>,
        base: Option<&SnapshotAnswer>,
        target: &SnapshotAnswer,
        offset: u64,
        send: &mut dyn FnMut(Page) -> bool,
    ) -> Result<(), Status> {
        let from = base.map(|base| format!("&from={}", snapshot_address(base.id)));
        let from = from.unwrap_or_default();
        let place = path(&["volumes", &volume_address(target.volume_id), "diff"]);
        let to = snapshot_address(target.id);
        let mut next = Some(offset);
        while let Some(offset) = next {
            let query = format!("{place}?to={to}{from}&offset={offset}&limit={RANGES_DEFAULT}");
            let page: DiffAnswer = cluster.get(&query)?;
            // A page that does not go on would be asked for for ever.
            next = page.next.filter(|next| *next > offset);
            for run in &page.runs {
                // Of a snapshot alone, zeros are not data.
                if base.is_none() && run.zero {
                    continue;
                }
                if !self.add(run.offset, run.offset.saturating_add(run.length), send) {
                    return Ok(());
                }
            }
        }
        if !self.waiting.is_empty() {
            self.flush(send);
        }
        Ok(())
    }

    /// Adds a range; false when nobody listens any more.
    fn add(&mut self, start: u64, end: u64, send: &mut dyn FnMut(Page) -> bool) -> bool {
        let (mut start, end) = match self.block {
            None => (start.max(self.told), end),
            Some(block) => (
                (start / block * block).max(self.told / block * block),
                end.next_multiple_of(block),
            ),
        };
        if self.block.is_some() {
            // The last block of the range before may be the first one of this.
            start = start.max(self.last_end());
        }
        while start < end {
            let length = self.block.unwrap_or(end - start);
            self.waiting.push(BlockMetadata {
                byte_offset: i64::try_from(start).unwrap_or(i64::MAX),
                size_bytes: i64::try_from(length).unwrap_or(i64::MAX),
            });
            start += length;
            self.told = start;
            if self.waiting.len() >= self.ranges && !self.flush(send) {
                return false;
            }
        }
        true
    }

    /// The end of the last block told. Before the first one it is the start of the block of the offset.
    fn last_end(&self) -> u64 {
        let block = self.block.unwrap_or(1);
        self.told / block * block
    }

    fn flush(&mut self, send: &mut dyn FnMut(Page) -> bool) -> bool {
        let style = match self.block {
            None => BlockMetadataType::VariableLength,
            Some(_) => BlockMetadataType::FixedLength,
        };
        send(Page {
            style,
            capacity: self.capacity,
            ranges: std::mem::take(&mut self.waiting),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(block: Option<u64>, offset: u64, runs: &[(u64, u64)]) -> Vec<(i64, i64)> {
        let mut telling = Telling {
            block,
            capacity: 1 << 30,
            ranges: 2,
            told: offset,
            waiting: Vec::new(),
        };
        let mut all = Vec::new();
        let mut send = |page: Page| {
            assert!(page.ranges.len() <= 2);
            all.extend(
                page.ranges
                    .iter()
                    .map(|one| (one.byte_offset, one.size_bytes)),
            );
            true
        };
        for (start, end) in runs {
            assert!(telling.add(*start, *end, &mut send));
        }
        telling.flush(&mut send);
        all
    }

    #[test]
    fn ranges_are_told_as_they_are_or_in_blocks() {
        let runs = [(4096, 8192), (12288, 40960)];
        assert_eq!(told(None, 0, &runs), [(4096, 4096), (12288, 28672)]);
        assert_eq!(told(None, 16384, &[(12288, 40960)]), [(16384, 24576)]);
        let blocks = [(0, 16384), (16384, 16384), (32768, 16384)];
        assert_eq!(told(Some(16384), 0, &runs), blocks);
        assert_eq!(told(Some(16384), 20000, &runs[1..]), blocks[1..]);
    }

    #[test]
    fn blocks_divide_the_volume() {
        assert_eq!(block_of(10 << 30), 1 << 20);
        assert_eq!(block_of((1 << 30) + 4096), 4096);
    }
}
