//! Reads: the nearest healthy member first, then the others; every byte verified here again.

use crate::options::bug;
use crate::pool::{Pool, PoolError, is_stale};
use bytes::Bytes;
use catalog::GroupRow;
use codec::extent::Descriptor;
use std::collections::BTreeMap;
use vocab::{ExtentId, GroupId, StoreId};
use wire::{CallError, FramePiece, FrameRead, StoreError, StoreReply, StoreRequest};

/// Why one member could not answer for one piece.
enum Miss {
    /// Its copy is bad or not there: it needs a new one.
    Copy(String),
    /// It does not answer.
    Silent(String),
}

impl Pool {
    /// Decoded blocks (or the page) of each read, in order. Reads of one group go to one member in one call.
    ///
    /// # Errors
    /// [`PoolError::Absent`], [`PoolError::Unreachable`], for the first read that no member could answer.
    pub async fn read(&self, reads: Vec<FrameRead>) -> Result<Vec<Bytes>, PoolError> {
        if let [single] = reads[..] {
            let answers = self.read_group(single.id.group, &[(0, single)]).await?;
            return Ok(answers.into_iter().map(|(_, bytes)| bytes).collect());
        }
        let mut by_group: BTreeMap<GroupId, Vec<(usize, FrameRead)>> = BTreeMap::new();
        for (index, &read) in reads.iter().enumerate() {
            by_group
                .entry(read.id.group)
                .or_default()
                .push((index, read));
        }
        let groups = by_group
            .iter()
            .map(|(&group, reads)| self.read_group(group, reads));
        let mut answers = vec![Bytes::new(); reads.len()];
        for group in futures_util::future::join_all(groups).await {
            for (index, bytes) in group? {
                answers[index] = bytes;
            }
        }
        Ok(answers)
    }

    /// Stores in the order they are asked: members that hold everything, those that do not yet, former ones.
    fn read_order(&self, row: &GroupRow) -> Vec<StoreId> {
        let mut members = row.members.clone();
        members.sort_by_key(|member| {
            let remote = !self.0.local.borrow().contains(member);
            (
                self.is_shunned(*member),
                row.filling.contains(member),
                remote,
            )
        });
        members.extend(&row.former);
        members
    }

    async fn read_group(
        &self,
        group: GroupId,
        reads: &[(usize, FrameRead)],
    ) -> Result<Vec<(usize, Bytes)>, PoolError> {
        loop {
            let Some(row) = self.group(group) else {
                let id = reads.first().map(|(_, read)| read.id).unwrap_or_default();
                return Err(PoolError::Absent { id });
            };
            let answers = self.read_members(&row, reads).await;
            // Stores that have left the group have nothing of it, which proves nothing.
            let absent = matches!(answers, Err(PoolError::Absent { .. }));
            let outdated = absent && self.is_outdated(&row).await;
            if !outdated || !self.newer_than(&row).await {
                return answers;
            }
        }
    }

    /// Whether a member says that it has promised a newer generation.
    async fn is_outdated(&self, row: &GroupRow) -> bool {
        let known = self.group(row.id);
        if known.is_some_and(|known| known.generation > row.generation) {
            return true;
        }
        let (group, generation) = (row.id, row.generation);
        let ask = |&member: &StoreId| {
            self.call(
                member,
                StoreRequest::PromiseGroup { group, generation }.into(),
            )
        };
        let answers = futures_util::future::join_all(row.members.iter().map(ask)).await;
        answers.iter().any(is_stale)
    }

    async fn read_members(
        &self,
        row: &GroupRow,
        reads: &[(usize, FrameRead)],
    ) -> Result<Vec<(usize, Bytes)>, PoolError> {
        let mut answers = Vec::with_capacity(reads.len());
        let mut open: Vec<(usize, FrameRead)> = reads.to_vec();
        let mut bad_copies: Vec<(StoreId, ExtentId)> = Vec::new();
        let (mut silent, mut reason) = (false, String::new());
        for member in self.read_order(row) {
            let mut left = Vec::new();
            for ((index, read), result) in open.iter().zip(self.ask(member, &open).await) {
                match result {
                    Ok(bytes) => answers.push((*index, bytes)),
                    Err(miss) => {
                        left.push((*index, *read));
                        match miss {
                            Miss::Copy(why) => {
                                reason = why;
                                if row.members.contains(&member) {
                                    bad_copies.push((member, read.id));
                                }
                            }
                            Miss::Silent(why) => {
                                reason = why;
                                silent = true;
                            }
                        }
                    }
                }
            }
            open = left;
            if open.is_empty() {
                break;
            }
        }
        let Some(&(_, unanswered)) = open.first() else {
            self.repair_later(bad_copies);
            return Ok(answers);
        };
        let id = unanswered.id;
        let absent = !silent && reason == ABSENT && row.complete().next().is_some();
        Err(if absent {
            PoolError::Absent { id }
        } else {
            PoolError::Unreachable { id, reason }
        })
    }

    /// Asks one member for all reads at once; when one of them spoils the answer, one by one.
    async fn ask(&self, member: StoreId, reads: &[(usize, FrameRead)]) -> Vec<Result<Bytes, Miss>> {
        let wanted: Vec<FrameRead> = reads.iter().map(|(_, read)| *read).collect();
        match self.ask_all(member, &wanted).await {
            Ok(results) => results,
            Err(Miss::Silent(reason)) => wanted
                .iter()
                .map(|_| Err(Miss::Silent(reason.clone())))
                .collect(),
            Err(Miss::Copy(reason)) if wanted.len() == 1 => vec![Err(Miss::Copy(reason))],
            Err(Miss::Copy(_)) => {
                let mut results = Vec::with_capacity(wanted.len());
                for read in &wanted {
                    match self.ask_all(member, std::slice::from_ref(read)).await {
                        Ok(one) => results.extend(one),
                        Err(miss) => results.push(Err(miss)),
                    }
                }
                results
            }
        }
    }

    async fn ask_all(
        &self,
        member: StoreId,
        reads: &[FrameRead],
    ) -> Result<Vec<Result<Bytes, Miss>>, Miss> {
        let request = StoreRequest::ReadFrames {
            reads: reads.to_vec(),
        };
        let (pieces, body) = match self.call(member, request.into()).await {
            Ok((StoreReply::Frames { pieces }, body)) if pieces.len() == reads.len() => {
                (pieces, body)
            }
            Ok((other, _)) => return Err(Miss::Silent(format!("{member} answered {other:?}"))),
            Err(CallError::Refused {
                error: StoreError::Absent,
                ..
            }) => {
                return Err(Miss::Copy(ABSENT.to_owned()));
            }
            Err(CallError::Refused {
                error: StoreError::Damaged { what },
                ..
            }) => {
                return Err(Miss::Copy(format!("{member}: {what}")));
            }
            Err(error) => {
                self.shun(member);
                return Err(Miss::Silent(error.to_string()));
            }
        };
        let mut at = 0;
        let mut results = Vec::with_capacity(reads.len());
        for (read, piece) in reads.iter().zip(&pieces) {
            let end = at + piece.bytes as usize;
            if end > body.len() {
                return Err(Miss::Silent(format!("{member} sent less than it said")));
            }
            let stored = body.slice(at..end);
            let decoded = decode(read, piece, &stored);
            let decoded = match bug!(self.0.options, BelieveMembers) {
                true => decoded.or_else(|damage| believe(read, piece, stored, damage)),
                false => decoded,
            };
            results.push(decoded.map_err(Miss::Copy));
            at = end;
        }
        Ok(results)
    }

    /// Gives members with a bad copy a good one, in the background.
    fn repair_later(&self, mut bad: Vec<(StoreId, ExtentId)>) {
        bad.sort_unstable();
        bad.dedup();
        for (member, id) in bad {
            let pool = self.clone();
            self.0.world.spawn(async move {
                if pool.repair(member, id).await.is_ok() {
                    pool.0.repairs.set(pool.0.repairs.get() + 1);
                }
            });
        }
    }
}

/// What a member says that lacks an extent.
const ABSENT: &str = "not there";

/// The planted bug: raw blocks pass as they come.
fn believe(
    read: &FrameRead,
    piece: &FramePiece,
    stored: Bytes,
    damage: String,
) -> Result<Bytes, String> {
    let descriptor =
        Descriptor::from_bytes(&piece.descriptor).map_err(|error| error.to_string())?;
    let whole = stored.len() == usize::from(read.blocks) * vocab::BLOCK_SIZE;
    match descriptor.is_raw() && whole {
        true => Ok(stored),
        false => Err(damage),
    }
}

fn decode(read: &FrameRead, piece: &FramePiece, stored: &Bytes) -> Result<Bytes, String> {
    let descriptor =
        Descriptor::from_bytes(&piece.descriptor).map_err(|damage| damage.to_string())?;
    let (first, count) = (usize::from(read.first_block), usize::from(read.blocks));
    let count = if count == 0 {
        descriptor.blocks()
    } else {
        count
    };
    descriptor
        .decode(read.id, read.frame, first, count, stored)
        .map_err(|damage| format!("{} frame {}: {damage}", read.id, read.frame))
}
