//! One request on a [`BlockDevice`]: bytes become blocks.
//!
//! Requests of whole blocks go straight to the device's future. Writes of parts of blocks read, change and
//! write back under [`Access::Modify`]; all other changes hold [`Access::Whole`].
//!
//! Callers have checked flags, lengths and range (`session::check`).

use super::input::Input;
use super::pdu::{ErrorCode, Request, STATUS_MAPPED, STATUS_UNMAPPED, command, command_flag};
use super::range::{Access, Guard, RangeLock};
use super::session::{Extent, Failure, Outcome, Piece};
use blockdev::{Allocation, BlockDevice, BlockError, BlockFuture, WriteMode};
use bytes::Bytes;
use futures_util::future::{LocalBoxFuture, try_join_all};
use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use vocab::{BLOCK_BYTES, BLOCK_SIZE, Lba};
use world::Buf;

/// Extents of one answer; the protocol allows 2^20.
const EXTENTS_MAX: usize = 1 << 16;
/// A read that would become more pieces than this is sent whole: each piece is a read of its own.
const PIECES_MAX: usize = 32;
/// Zeros are written in pieces of one static page, this many bytes at once.
const ZEROS_BYTES: u64 = 4 << 20;

static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// The device of one connection.
#[derive(Clone)]
pub(crate) struct Export {
    pub(crate) device: Rc<dyn BlockDevice>,
    pub(crate) locks: RangeLock,
    /// Reads of at least this many bytes may be answered with holes.
    pub(crate) sparse_read_bytes_min: u32,
    pub(crate) structured: bool,
}

/// A request on its way.
pub(crate) struct Work {
    command: u16,
    state: State,
}

enum State {
    /// Nothing to do.
    Done,
    Failed(Failure),
    /// Whole blocks are read, then the bytes outside of the request are cut off.
    Read(BlockFuture<Vec<Bytes>>, Range<usize>),
    Change(BlockFuture<()>, Option<Guard>),
    Steps(LocalBoxFuture<'static, Result<Outcome, BlockError>>),
}

impl Future for Work {
    type Output = Result<Outcome, Failure>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let result = match &mut self.state {
            State::Done => Ok(Outcome::Done),
            State::Failed(failure) => return Poll::Ready(Err(failure.clone())),
            State::Read(future, bytes) => match future.as_mut().poll(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(blocks) => blocks.map(|blocks| Outcome::Data(cut(blocks, bytes))),
            },
            State::Change(future, guard) => match future.as_mut().poll(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(result) => {
                    *guard = None;
                    result.map(|()| Outcome::Done)
                }
            },
            State::Steps(future) => match future.as_mut().poll(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(result) => result,
            },
        };
        Poll::Ready(result.map_err(|error| Failure::of_device(&error, self.command)))
    }
}

/// Prepares `request`; nothing happens before the work is polled.
pub(crate) fn begin(export: &Export, request: &Request, payload: Vec<Bytes>) -> Work {
    let fua = request.has(command_flag::FUA);
    let state = match request.command {
        command::FLUSH => State::Change(export.device.flush(), None),
        // Other commands with nothing to do are refused earlier.
        _ if request.length == 0 => match request.command {
            command::READ => State::Steps(Box::pin(std::future::ready(Ok(Outcome::Data(vec![]))))),
            _ => State::Done,
        },
        command::READ => read(export, request),
        command::WRITE => write(export, request.offset, payload, fua),
        command::TRIM => match Span::of(request).inner {
            None => State::Done,
            Some(blocks) => unmap(export, blocks, fua),
        },
        command::WRITE_ZEROES => write_zeroes(export, request),
        command::BLOCK_STATUS => State::Steps(Box::pin(status(export.clone(), *request))),
        command::CACHE => {
            let blocks = Span::of(request).outer;
            let read = read_blocks(&export.device, &blocks);
            State::Steps(Box::pin(async move { read.await.map(|_| Outcome::Done) }))
        }
        _ => State::Failed(Failure::new(ErrorCode::Invalid, "unknown command")),
    };
    Work {
        command: request.command,
        state,
    }
}

/// Bytes as blocks.
struct Span {
    bytes: Range<u64>,
    /// Blocks that are touched.
    outer: Range<u64>,
    /// Blocks that are covered wholly, if there are any.
    inner: Option<Range<u64>>,
}

impl Span {
    fn new(bytes: Range<u64>) -> Self {
        let outer = bytes.start / BLOCK_BYTES..bytes.end.div_ceil(BLOCK_BYTES);
        let inner = bytes.start.div_ceil(BLOCK_BYTES)..bytes.end / BLOCK_BYTES;
        Self {
            bytes,
            outer,
            inner: (inner.start < inner.end).then_some(inner),
        }
    }

    fn of(request: &Request) -> Self {
        Self::new(request.offset..request.offset + u64::from(request.length))
    }

    fn is_whole(&self) -> bool {
        self.inner.as_ref() == Some(&self.outer)
    }

    /// Where the bytes lie within the outer blocks.
    fn within(&self) -> Range<usize> {
        let first = self.outer.start * BLOCK_BYTES;
        let place = |byte: u64| usize::try_from(byte - first).expect("requests fit in memory");
        place(self.bytes.start)..place(self.bytes.end)
    }
}

fn read_blocks(device: &Rc<dyn BlockDevice>, blocks: &Range<u64>) -> BlockFuture<Vec<Bytes>> {
    let count = u32::try_from(blocks.end - blocks.start).expect("at most the maximum payload");
    device.read(Lba(blocks.start), count)
}

fn mode(fua: bool) -> WriteMode {
    if fua {
        WriteMode::Fua
    } else {
        WriteMode::Buffered
    }
}

fn read(export: &Export, request: &Request) -> State {
    let span = Span::of(request);
    let sparse = export.structured
        && !request.has(command_flag::DF)
        && request.length >= export.sparse_read_bytes_min
        && export.sparse_read_bytes_min < u32::MAX;
    if sparse {
        return State::Steps(Box::pin(read_sparse(export.clone(), span)));
    }
    let within = span.within();
    State::Read(read_blocks(&export.device, &span.outer), within)
}

/// The bytes `range` of `blocks`, without a copy.
fn cut(mut blocks: Vec<Bytes>, range: &Range<usize>) -> Vec<Bytes> {
    let total: usize = blocks.iter().map(Bytes::len).sum();
    assert!(
        range.end <= total,
        "the device returned {total} bytes, {range:?} were asked for"
    );
    if range.start == 0 && range.end == total {
        return blocks;
    }
    let mut at = 0;
    for piece in &mut blocks {
        let len = piece.len();
        let from = range.start.clamp(at, at + len) - at;
        let to = range.end.clamp(at, at + len) - at;
        *piece = piece.slice(from..to);
        at += len;
    }
    blocks.retain(|piece| !piece.is_empty());
    blocks
}

/// Asks what is mapped, then reads that only. A block that is written in between may be read as it was.
async fn read_sparse(export: Export, span: Span) -> Result<Outcome, BlockError> {
    let device = &export.device;
    let runs = runs(device, &span.outer).await?;
    if runs.iter().all(|run| run.mapped) || runs.len() > PIECES_MAX {
        let blocks = read_blocks(device, &span.outer).await?;
        return Ok(Outcome::Data(cut(blocks, &span.within())));
    }
    let mut pieces = Vec::with_capacity(runs.len());
    let mut next = span.outer.start;
    for run in runs {
        let blocks = next..next + run.blocks;
        next = blocks.end;
        let start = (blocks.start * BLOCK_BYTES).max(span.bytes.start);
        let end = (blocks.end * BLOCK_BYTES).min(span.bytes.end);
        pieces.push(read_piece(
            device.clone(),
            Span::new(start..end),
            run.mapped,
        ));
    }
    let pieces = try_join_all(pieces).await?;
    Ok(Outcome::Sparse(pieces))
}

async fn read_piece(
    device: Rc<dyn BlockDevice>,
    span: Span,
    mapped: bool,
) -> Result<Piece, BlockError> {
    let offset = span.bytes.start;
    if mapped {
        let parts = cut(read_blocks(&device, &span.outer).await?, &span.within());
        return Ok(Piece::Data { offset, parts });
    }
    let len = u32::try_from(span.bytes.end - offset).expect("at most the maximum payload");
    Ok(Piece::Hole { offset, len })
}

/// The allocation of `blocks`, in runs that differ from their neighbours and cover exactly them. What the
/// device does not say counts as mapped.
async fn runs(
    device: &Rc<dyn BlockDevice>,
    blocks: &Range<u64>,
) -> Result<Vec<Allocation>, BlockError> {
    let mut missing = blocks.end - blocks.start;
    let told = device.allocation(Lba(blocks.start), missing).await?;
    let mut runs: Vec<Allocation> = Vec::new();
    let rest = Allocation {
        blocks: missing,
        mapped: true,
    };
    for run in told.into_iter().chain([rest]) {
        let len = run.blocks.min(missing);
        missing -= len;
        match runs.last_mut() {
            _ if len == 0 => {}
            Some(last) if last.mapped == run.mapped => last.blocks += len,
            _ => runs.push(Allocation { blocks: len, ..run }),
        }
    }
    Ok(runs)
}

async fn status(export: Export, request: Request) -> Result<Outcome, BlockError> {
    let span = Span::of(&request);
    let blocks = span.outer.end - span.outer.start;
    let told = export
        .device
        .allocation(Lba(span.outer.start), blocks)
        .await?;
    let mut extents: Vec<Extent> = Vec::new();
    let (mut at, mut block) = (span.bytes.start, span.outer.start);
    for run in told {
        block = block.saturating_add(run.blocks);
        let end = block.saturating_mul(BLOCK_BYTES).min(span.bytes.end);
        if end <= at {
            continue;
        }
        let len = u32::try_from(end - at).expect("within the request, whose length has 32 bits");
        let status = if run.mapped {
            STATUS_MAPPED
        } else {
            STATUS_UNMAPPED
        };
        let count = extents.len();
        match extents.last_mut() {
            Some(last) if last.status == status => last.len += len,
            Some(_) if count == EXTENTS_MAX || request.has(command_flag::REQ_ONE) => break,
            _ => extents.push(Extent { len, status }),
        }
        at = end;
    }
    if extents.is_empty() {
        // The device owes at least one block; status 0 is always a safe answer.
        let (len, status) = (request.length, STATUS_MAPPED);
        extents.push(Extent { len, status });
    }
    Ok(Outcome::Status(extents))
}

fn write(export: &Export, offset: u64, payload: Vec<Bytes>, fua: bool) -> State {
    let len: usize = payload.iter().map(Bytes::len).sum();
    let span = Span::new(offset..offset + len as u64);
    let (device, locks) = (export.device.clone(), export.locks.clone());
    if !span.is_whole() {
        return State::Steps(Box::pin(async move {
            let _held = locks.lock(span.outer.clone(), Access::Modify).await;
            overwrite(&device, span, payload, mode(fua)).await?;
            Ok(Outcome::Done)
        }));
    }
    if let Some(guard) = locks.try_lock(span.outer.clone(), Access::Whole) {
        let data = whole_blocks(payload);
        return State::Change(
            device.write(Lba(span.outer.start), data, mode(fua)),
            Some(guard),
        );
    }
    State::Steps(Box::pin(async move {
        let _held = locks.lock(span.outer.clone(), Access::Whole).await;
        let data = whole_blocks(payload);
        device.write(Lba(span.outer.start), data, mode(fua)).await?;
        Ok(Outcome::Done)
    }))
}

/// Cuts `payload` into pieces of whole blocks. A block that straddles pieces is copied; many small pieces
/// are copied into one.
fn whole_blocks(payload: Vec<Bytes>) -> Vec<Bytes> {
    if payload
        .iter()
        .all(|piece| piece.len().is_multiple_of(BLOCK_SIZE))
    {
        return payload;
    }
    let total: usize = payload.iter().map(Bytes::len).sum();
    let small = payload.len() > total.div_ceil(4 * BLOCK_SIZE);
    let mut input = Input::from(payload);
    if small {
        return vec![copied(&mut input, total)];
    }
    let mut pieces = Vec::new();
    while input.len() > 0 {
        let front = input.front_len();
        let whole = front - front % BLOCK_SIZE;
        if whole > 0 {
            pieces.extend(input.take(whole));
        } else {
            pieces.push(copied(&mut input, BLOCK_SIZE));
        }
    }
    pieces
}

fn copied(input: &mut Input, len: usize) -> Bytes {
    let mut buf = Buf::zeroed(len);
    input.copy_to(&mut buf[..len]);
    buf.freeze()
}

/// Writes `payload` over `span`; blocks that it covers in part keep the rest. Callers hold the blocks.
async fn overwrite(
    device: &Rc<dyn BlockDevice>,
    span: Span,
    payload: Vec<Bytes>,
    mode: WriteMode,
) -> Result<(), BlockError> {
    let mut input = Input::from(payload);
    let within = span.within();
    let count = usize::try_from(span.outer.end - span.outer.start).expect("fits in memory");
    let end_of_last = within.end - (count - 1) * BLOCK_SIZE;
    let mut pieces = Vec::new();
    let mut middle = 0..count;
    if within.start > 0 || (count == 1 && end_of_last < BLOCK_SIZE) {
        middle.start = 1;
        let end = within.end.min(BLOCK_SIZE);
        pieces.push(patched(device, span.outer.start, within.start..end, &mut input).await?);
    }
    let mut tail = None;
    if end_of_last < BLOCK_SIZE && middle.start < middle.end {
        middle.end -= 1;
        tail = Some(span.outer.end - 1);
    }
    pieces.extend(whole_blocks(input.take(middle.len() * BLOCK_SIZE)));
    if let Some(block) = tail {
        pieces.push(patched(device, block, 0..end_of_last, &mut input).await?);
    }
    device.write(Lba(span.outer.start), pieces, mode).await
}

/// The block with `range` of it replaced by the front of `input`.
async fn patched(
    device: &Rc<dyn BlockDevice>,
    block: u64,
    range: Range<usize>,
    input: &mut Input,
) -> Result<Bytes, BlockError> {
    let old = device.read(Lba(block), 1).await?;
    let mut buf = Buf::zeroed(BLOCK_SIZE);
    Input::from(old).copy_to(&mut buf);
    input.copy_to(&mut buf[range]);
    Ok(buf.freeze())
}

fn unmap(export: &Export, blocks: Range<u64>, fua: bool) -> State {
    let (device, locks) = (export.device.clone(), export.locks.clone());
    if !fua && let Some(guard) = locks.try_lock(blocks.clone(), Access::Whole) {
        let count = blocks.end - blocks.start;
        return State::Change(device.unmap(Lba(blocks.start), count), Some(guard));
    }
    State::Steps(Box::pin(async move {
        let _held = locks.lock(blocks.clone(), Access::Whole).await;
        device
            .unmap(Lba(blocks.start), blocks.end - blocks.start)
            .await?;
        if fua {
            device.flush().await?;
        }
        Ok(Outcome::Done)
    }))
}

fn write_zeroes(export: &Export, request: &Request) -> State {
    let span = Span::of(request);
    let fua = request.has(command_flag::FUA);
    let no_hole = request.has(command_flag::NO_HOLE);
    if request.has(command_flag::FAST_ZERO) && (no_hole || span.inner.is_none()) {
        let text = "zeroing this is no faster than writing zeros";
        return State::Failed(Failure::new(ErrorCode::NotSupported, text));
    }
    if span.is_whole() && !no_hole {
        return unmap(export, span.outer, fua);
    }
    let (device, locks) = (export.device.clone(), export.locks.clone());
    State::Steps(Box::pin(async move {
        let access = if span.is_whole() {
            Access::Whole
        } else {
            Access::Modify
        };
        let _held = locks.lock(span.outer.clone(), access).await;
        match span.inner {
            Some(inner) if !no_hole => {
                let hole = inner.start * BLOCK_BYTES..inner.end * BLOCK_BYTES;
                overwrite_with_zeros(&device, span.bytes.start..hole.start).await?;
                device
                    .unmap(Lba(inner.start), inner.end - inner.start)
                    .await?;
                overwrite_with_zeros(&device, hole.end..span.bytes.end).await?;
            }
            _ => overwrite_with_zeros(&device, span.bytes).await?,
        }
        if fua {
            device.flush().await?;
        }
        Ok(Outcome::Done)
    }))
}

/// Real zeros, so that the blocks are mapped.
async fn overwrite_with_zeros(
    device: &Rc<dyn BlockDevice>,
    bytes: Range<u64>,
) -> Result<(), BlockError> {
    let mut at = bytes.start;
    while at < bytes.end {
        // Up to a block boundary, so that only the ends of the whole are partial blocks.
        let next = (at / BLOCK_BYTES * BLOCK_BYTES + ZEROS_BYTES).min(bytes.end);
        let mut left = usize::try_from(next - at).expect("at most ZEROS_BYTES");
        let mut payload = Vec::with_capacity(left.div_ceil(ZEROS.len()));
        while left > 0 {
            let part = left.min(ZEROS.len());
            payload.push(Bytes::from_static(&ZEROS[..part]));
            left -= part;
        }
        overwrite(device, Span::new(at..next), payload, WriteMode::Buffered).await?;
        at = next;
    }
    Ok(())
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
