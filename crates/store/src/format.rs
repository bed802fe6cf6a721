//! Formatting disks and looking at what is on one.

use crate::header::{Area, CLUSTER_BYTES_MAX, DISKS_MAX, Header, HeaderDamage, Mark};
use crate::state::State;
use crate::{GRANULE_BYTES, checkpoint};
use std::rc::Rc;
use vocab::{DiskId, Incarnation, StoreId};
use world::{Buf, Disk, DiskError, PAGE, World};

/// Who a store is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Name of the cluster.
    pub cluster: String,
    /// The store.
    pub store: StoreId,
    /// Its life; 0 where the first disk was not looked at.
    pub incarnation: Incarnation,
    /// Its disks, in order.
    pub disks: Vec<DiskId>,
}

/// How to format a store.
#[derive(Clone, Debug)]
pub struct FormatOptions {
    /// Name of the cluster, 1 to 64 bytes.
    pub cluster: String,
    /// The store's id, unique in the cluster, not 0.
    pub store: StoreId,
    /// Size of the journal ring; `None`: an eighth of the first disk, 8 MiB to 1 GiB.
    pub journal_bytes: Option<u64>,
}

/// Why disks cannot be formatted. Nothing was written, except with `Disk`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// Options out of range.
    #[error("cannot format: {0}")]
    Options(String),
    /// A disk is too small.
    #[error("disk {index} has {bytes} bytes; it needs at least {needed}")]
    TooSmall {
        /// Which, counted from 0.
        index: usize,
        /// Its size.
        bytes: u64,
        /// What the journal, the state and a few extents need.
        needed: u64,
    },
    /// A disk failed; it must be formatted again.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

/// What is on a disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Inspection {
    /// Zeros where headers, file systems and partition tables start.
    Blank,
    /// A disk of a store.
    Store(Identity),
    /// A disk of a newer release's store.
    Newer {
        /// Its format version.
        version: u32,
    },
    /// Something else: a file system, a partition table, or unknown data. In words.
    Foreign(String),
}

const JOURNAL_BYTES_MIN: u64 = 4 << 20;
const JOURNAL_BYTES_MAX: u64 = 64 << 30;
const EXTENTS_BYTES_MIN: u64 = 8 << 20;
/// Pages of headers and marks.
pub(crate) const HEAD_BYTES: u64 = 4 * PAGE as u64;
/// Bytes zeroed by one write while formatting.
const ZERO_CHUNK: u64 = 1 << 20;

/// Room for the state: per 64 KiB of extents and per 4 KiB of journal a bounded number of bytes.
fn state_bytes(extent_bytes: u64, journal_bytes: u64) -> u64 {
    let bytes = extent_bytes / 1024 + journal_bytes / 16;
    bytes.max(1 << 20).next_multiple_of(GRANULE_BYTES)
}

fn plan(index: usize, sizes: &[u64], journal_bytes: u64) -> (Area, Area, Area) {
    let area = |offset, bytes| Area { offset, bytes };
    let size = sizes[index] / PAGE as u64 * PAGE as u64;
    let (state, journal) = if index == 0 {
        let state = area(HEAD_BYTES, state_bytes(sizes.iter().sum(), journal_bytes));
        let journal = area(state.offset + 2 * state.bytes, journal_bytes);
        (state, journal)
    } else {
        (Area::default(), Area::default())
    };
    let used = if index == 0 {
        journal.offset + journal.bytes
    } else {
        HEAD_BYTES
    };
    let start = used.next_multiple_of(GRANULE_BYTES);
    let extents = area(
        start,
        size.saturating_sub(start) / GRANULE_BYTES * GRANULE_BYTES,
    );
    (state, journal, extents)
}

/// Bytes at either end of a disk where file systems and partition tables have their signatures (the backup of a GPT takes
/// the last 33 sectors, btrfs starts at 64 KiB).
const SIGNATURE_BYTES: u64 = 1 << 20;

/// Makes a disk blank, as [`inspect`] and others see it. Durable when it returns; what lies between its ends stays.
///
/// # Errors
/// The disk failed; a retry is safe.
pub async fn erase(disk: &Rc<dyn Disk>) -> Result<(), DiskError> {
    let bytes = SIGNATURE_BYTES.min(disk.size());
    let zeros = Buf::zeroed(usize::try_from(bytes).expect("1 MiB")).freeze();
    disk.write(0, zeros.clone()).await?;
    disk.write(disk.size() - bytes, zeros).await?;
    disk.flush().await
}

/// Whether disks of these sizes, in bytes, can be formatted so. Ask before [`erase`]: what is on a disk must not be lost for a
/// request that is refused.
///
/// # Errors
/// What [`format`] would refuse them with.
pub fn check_format(sizes: &[u64], options: &FormatOptions) -> Result<(), FormatError> {
    let journal_bytes = check_options(sizes, options)?;
    for (index, &bytes) in sizes.iter().enumerate() {
        check_size(index, bytes, plan(index, sizes, journal_bytes).2)?;
    }
    Ok(())
}

fn check_size(index: usize, bytes: u64, extents: Area) -> Result<(), FormatError> {
    let needed = extents.offset + EXTENTS_BYTES_MIN;
    let too_small = FormatError::TooSmall {
        index,
        bytes,
        needed,
    };
    if extents.bytes < EXTENTS_BYTES_MIN {
        return Err(too_small);
    }
    Ok(())
}

/// Makes a store of `disks`, whatever is on them: look with [`inspect`] first. Durable when it returns. The
/// journal is zeroed, so that its pages are allocated and no old byte is ever taken for a batch.
///
/// # Errors
/// [`FormatError`].
pub async fn format(
    world: &World,
    disks: &[Rc<dyn Disk>],
    options: &FormatOptions,
) -> Result<Identity, FormatError> {
    let sizes: Vec<u64> = disks.iter().map(|disk| disk.size()).collect();
    let journal_bytes = check_options(&sizes, options)?;
    let random = || world.rng.next_u64() | 1;
    let ids: Vec<DiskId> = disks.iter().map(|_| DiskId(random())).collect();
    let incarnation = Incarnation(random());
    let mut headers = Vec::new();
    for index in 0..disks.len() {
        let (state, journal, extents) = plan(index, &sizes, journal_bytes);
        check_size(index, sizes[index], extents)?;
        headers.push(Header {
            cluster: options.cluster.clone(),
            store: options.store,
            index,
            disks: ids.clone(),
            disk_bytes: sizes[index],
            state,
            journal,
            extents,
        });
    }
    write_all(disks, &headers, incarnation, random()).await?;
    let (cluster, store) = (options.cluster.clone(), options.store);
    Ok(Identity {
        cluster,
        store,
        incarnation,
        disks: ids,
    })
}

fn check_options(sizes: &[u64], options: &FormatOptions) -> Result<u64, FormatError> {
    let bad = |reason: String| Err(FormatError::Options(reason));
    if options.cluster.is_empty() || options.cluster.len() > CLUSTER_BYTES_MAX {
        return bad(format!(
            "the cluster's name must have 1 to {CLUSTER_BYTES_MAX} bytes"
        ));
    }
    if options.store.0 == 0 {
        return bad("store ids start at 1".to_owned());
    }
    if sizes.is_empty() || sizes.len() > DISKS_MAX {
        return bad(format!(
            "a store has 1 to {DISKS_MAX} disks, not {}",
            sizes.len()
        ));
    }
    let fitting = (sizes[0] / 8).clamp(8 << 20, 1 << 30);
    let journal = options
        .journal_bytes
        .unwrap_or(fitting)
        .next_multiple_of(GRANULE_BYTES);
    if !(JOURNAL_BYTES_MIN..=JOURNAL_BYTES_MAX).contains(&journal) {
        return bad(format!(
            "the journal must have 4 MiB to 64 GiB, not {journal} bytes"
        ));
    }
    Ok(journal)
}

async fn write_all(
    disks: &[Rc<dyn Disk>],
    headers: &[Header],
    incarnation: Incarnation,
    session: u64,
) -> Result<(), FormatError> {
    let first = &headers[0];
    // A crash while formatting must leave no header that looks whole: headers are written last.
    for disk in disks {
        disk.write(0, Buf::zeroed(HEAD_BYTES as usize).freeze())
            .await?;
        disk.flush().await?;
    }
    zero(
        &disks[0],
        first.state.offset,
        first.journal.offset + first.journal.bytes,
    )
    .await?;
    for (disk, header) in disks.iter().zip(headers) {
        // The first page of the extent area would otherwise be found by a scan for extents.
        zero(
            disk,
            header.extents.offset,
            header.extents.offset + GRANULE_BYTES,
        )
        .await?;
    }
    let state = State {
        incarnation,
        session,
        ..State::default()
    };
    checkpoint::write(&disks[0], first.state, 1, &state.encode()).await?;
    let mark = Mark {
        counter: 1,
        incarnation,
        boot_id: [0; 16],
        clean: true,
        last_batch: 0,
        sessions: vec![session],
        first_checkpoint: 1,
    };
    disks[0].write(2 * PAGE as u64, mark.encode()).await?;
    for disk in disks {
        disk.flush().await?;
    }
    for (disk, header) in disks.iter().zip(headers) {
        disk.write(0, header.encode()).await?;
        disk.write(PAGE as u64, header.encode()).await?;
        disk.flush().await?;
    }
    Ok(())
}

async fn zero(disk: &Rc<dyn Disk>, from: u64, to: u64) -> Result<(), DiskError> {
    let mut at = from;
    while at < to {
        let bytes = ZERO_CHUNK.min(to - at);
        disk.write(at, Buf::zeroed(bytes as usize).freeze()).await?;
        at += bytes;
    }
    Ok(())
}

/// Reads a disk's header: either copy.
pub(crate) async fn read_header(
    disk: &Rc<dyn Disk>,
) -> Result<Result<Header, HeaderDamage>, DiskError> {
    let pages = disk.read(0, 2 * PAGE).await?;
    Ok(match Header::decode(&pages[..PAGE]) {
        Ok(header) => Ok(header),
        Err(first) => match (Header::decode(&pages[PAGE..]), first) {
            (Ok(header), _) => Ok(header),
            (Err(HeaderDamage::Foreign), damage) | (Err(damage), _) => Err(damage),
        },
    })
}

/// Reads a disk's newest mark.
pub(crate) async fn read_mark(disk: &Rc<dyn Disk>) -> Result<Option<Mark>, DiskError> {
    let pages = disk.read(2 * PAGE as u64, 2 * PAGE).await?;
    let marks = [Mark::decode(&pages[..PAGE]), Mark::decode(&pages[PAGE..])];
    Ok(marks.into_iter().flatten().max_by_key(|mark| mark.counter))
}

/// Says what is on a disk without changing it.
///
/// # Errors
/// [`DiskError`].
pub async fn inspect(disk: &Rc<dyn Disk>) -> Result<Inspection, DiskError> {
    if disk.size() < EXTENTS_BYTES_MIN {
        return Ok(Inspection::Foreign(format!(
            "only {} bytes: too small to use",
            disk.size()
        )));
    }
    match read_header(disk).await? {
        Ok(header) => {
            let mark = read_mark(disk).await?;
            let incarnation = mark.map_or(Incarnation(0), |mark| mark.incarnation);
            let (cluster, store, disks) = (header.cluster, header.store, header.disks);
            return Ok(Inspection::Store(Identity {
                cluster,
                store,
                incarnation,
                disks,
            }));
        }
        Err(HeaderDamage::Version(version)) => return Ok(Inspection::Newer { version }),
        Err(HeaderDamage::Damaged) => {
            let what = "a damaged disk header of Azekura: its data may be recoverable";
            return Ok(Inspection::Foreign(what.to_owned()));
        }
        Err(HeaderDamage::Foreign) => {}
    }
    let start = disk.read(0, 1 << 20).await?;
    let end = disk.read(disk.size() - (1 << 20), 1 << 20).await?;
    if start.iter().chain(end.iter()).all(|&byte| byte == 0) {
        return Ok(Inspection::Blank);
    }
    Ok(Inspection::Foreign(
        name_of(&start).unwrap_or("unknown data").to_owned(),
    ))
}

/// What well-known bytes at the start of a disk stand for.
fn name_of(start: &[u8]) -> Option<&'static str> {
    let known: [(usize, &[u8], &str); 11] = [
        (0x438, &[0x53, 0xEF], "an ext2, ext3 or ext4 file system"),
        (0, b"XFSB", "an XFS file system"),
        (0x10040, b"_BHRfS_M", "a btrfs file system"),
        (512, b"EFI PART", "a GPT partition table"),
        (4096, b"EFI PART", "a GPT partition table"),
        (3, b"NTFS    ", "an NTFS file system"),
        (512, b"LABELONE", "an LVM physical volume"),
        (0, b"LUKS\xBA\xBE", "an encrypted (LUKS) volume"),
        (4086, b"SWAPSPACE2", "swap space"),
        (0, b"bluestore block device", "a Ceph OSD"),
        (510, &[0x55, 0xAA], "a partition table or a boot sector"),
    ];
    let found = known
        .iter()
        .find(|(at, magic, _)| start[*at..].starts_with(magic));
    found.map(|(_, _, name)| *name)
}
