//! Opening a store: who it is, what it holds, and how far that can be believed.

use crate::counted::counted;
use crate::format::{read_header, read_mark};
use crate::gather::Gathering;
use crate::header::{Header, HeaderDamage, Mark, SESSIONS_KEPT};
use crate::journal::replay::{Replayed, replay};
use crate::journal::{Journal, Placed, Start};
use crate::options::{Options, bug};
use crate::space::Space;
use crate::state::{Extent, State};
use crate::store::{DiskProgress, Inner, Store};
use crate::{GRANULE_BYTES, checkpoint};
use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use vocab::{ExtentId, Incarnation};
use world::{Disk, DiskError, PAGE, World};

/// Why a store cannot be opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The disk is blank or holds something else.
    #[error("disk {index} is not a disk of Azekura: format it first, or name the right one")]
    Foreign {
        /// Which, as given.
        index: usize,
    },
    /// Both copies of the header are damaged.
    #[error("the header of disk {index} is damaged; its data may be recoverable, do not format it")]
    Damaged {
        /// Which, as given.
        index: usize,
    },
    /// Formatted by a newer release.
    #[error(
        "disk {index} has format version {version}, which is newer than this release: upgrade this node"
    )]
    Version {
        /// Which, as given.
        index: usize,
        /// Its version.
        version: u32,
    },
    /// The disks do not belong together.
    #[error("these disks are not one store: {0}")]
    Mixed(String),
    /// A disk is smaller than when it was formatted.
    #[error(
        "disk {index} has {actual} bytes, but {formatted} when it was formatted: it was truncated or is another one"
    )]
    Shrunk {
        /// Which, as given.
        index: usize,
        /// Its size now.
        actual: u64,
        /// Its size then.
        formatted: u64,
    },
    /// A disk failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The store failed while it was made ready.
    #[error("the store failed while opening: {0}")]
    Failed(String),
}

/// What the disks hold.
pub(crate) struct Loaded {
    pub(crate) state: State,
    checkpoint: u64,
    replayed: Replayed,
    pub(crate) amnesia: bool,
}

impl Store {
    /// Opens the store on `disks` (in any order): replays the journal, decides on trust, starts a new session.
    /// Everything that was found is durable when it returns.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn open(
        world: World,
        disks: Vec<Rc<dyn Disk>>,
        options: Options,
    ) -> Result<Self, OpenError> {
        let (disks, headers) = identify(disks).await?;
        let mark = read_mark(&disks[0]).await?;
        let mut loaded = load(&disks, &headers, mark.as_ref()).await?;
        let same_boot = mark
            .as_ref()
            .is_some_and(|mark| mark.clean || mark.boot_id == options.boot_id);
        if !same_boot && !bug!(options.faults, TrustAfterPowerLoss) {
            let logs = loaded.state.logs.values_mut();
            logs.flat_map(|log| log.segments.values_mut())
                .for_each(|segment| segment.suspect = true);
        }
        if bug!(options.faults, ForgetPromise) {
            loaded
                .state
                .logs
                .values_mut()
                .for_each(|log| log.promised = vocab::Epoch(0));
        }
        let session = world.rng.next_u64() | 1;
        if loaded.amnesia {
            let state = &mut loaded.state;
            state.incarnation = Incarnation(world.rng.next_u64() | 1);
            state.logs.clear();
            state.groups.clear();
        }
        let unflushed = if same_boot {
            Vec::new()
        } else {
            std::mem::take(&mut loaded.replayed.unflushed)
        };
        let store = assemble(world, disks, headers, options, loaded, mark, session);
        store.check_unflushed(&unflushed).await;
        store.make_ready().await.map_err(OpenError::Failed)?;
        store.0.world.spawn(store.clone().upkeep_forever());
        store.0.world.spawn(store.clone().move_forever());
        Ok(store)
    }

    /// After a power loss: entries may have survived their extents' bytes.
    async fn check_unflushed(&self, unflushed: &[(ExtentId, Extent)]) {
        for (id, extent) in unflushed {
            let current = self
                .0
                .state
                .borrow()
                .extents
                .get(id)
                .is_some_and(|held| held.run() == extent.run());
            if !current {
                continue;
            }
            let sound = self.read_sealed(*id).await.is_ok();
            if !sound && self.0.unreadable.borrow().contains(id) {
                // What it holds is not known: it stays, as a copy that is damaged.
                continue;
            }
            if !sound {
                self.0.state.borrow_mut().extents.remove(id);
                self.0.space.borrow_mut().release(extent.run());
            }
            self.0.bad.borrow_mut().remove(id);
        }
    }

    async fn make_ready(&self) -> Result<(), String> {
        let failed = |error: wire::StoreError| error.to_string();
        // What was replayed was written, but perhaps never flushed.
        for disk in &self.0.disks {
            disk.flush().await.map_err(|error| error.to_string())?;
        }
        self.begin_checkpoint().await.map_err(failed)?;
        self.write_mark(false, 0).await.map_err(failed)
    }
}

/// Reads the headers and puts the disks in order.
pub(crate) async fn identify(
    disks: Vec<Rc<dyn Disk>>,
) -> Result<(Vec<Rc<dyn Disk>>, Vec<Header>), OpenError> {
    let mut found: Vec<(Rc<dyn Disk>, Header)> = Vec::new();
    for (index, disk) in disks.into_iter().enumerate() {
        let header = read_header(&disk).await?.map_err(|damage| match damage {
            HeaderDamage::Foreign => OpenError::Foreign { index },
            HeaderDamage::Damaged => OpenError::Damaged { index },
            HeaderDamage::Version(version) => OpenError::Version { index, version },
        })?;
        let (actual, formatted) = (disk.size(), header.disk_bytes);
        if actual < formatted {
            return Err(OpenError::Shrunk {
                index,
                actual,
                formatted,
            });
        }
        found.push((disk, header));
    }
    found.sort_by_key(|(_, header)| header.index);
    let mixed = |reason: String| Err(OpenError::Mixed(reason));
    let Some((_, first)) = found.first() else {
        return mixed("no disk was given".to_owned());
    };
    for (place, (_, header)) in found.iter().enumerate() {
        if (&header.cluster, header.store) != (&first.cluster, first.store) {
            let (a, b) = (&first.cluster, &header.cluster);
            return mixed(format!(
                "{} of cluster {a} and {} of cluster {b}",
                first.store, header.store
            ));
        }
        if header.disks != first.disks || header.index != place {
            return mixed(
                "they were formatted at different times, or one is given twice".to_owned(),
            );
        }
    }
    if found.len() != first.disks.len() {
        return mixed(format!(
            "{} of its {} disks are missing",
            first.disks.len() - found.len(),
            first.disks.len()
        ));
    }
    Ok(found.into_iter().unzip())
}

pub(crate) async fn load(
    disks: &[Rc<dyn Disk>],
    headers: &[Header],
    mark: Option<&Mark>,
) -> Result<Loaded, OpenError> {
    // Older than what the last run began with: the newest one has rotted, and the older one lacks all that this run promised.
    let first = mark.map_or(0, |mark| mark.first_checkpoint);
    let found = checkpoint::read(&disks[0], headers[0].state).await?;
    let Some((checkpoint, mut state)) = found.filter(|(number, _)| *number >= first) else {
        let state = State {
            extents: scan(disks, headers).await?,
            ..State::default()
        };
        let replayed = Replayed {
            head: 0,
            next_batch: 1,
            rotten: true,
            unflushed: Vec::new(),
        };
        return Ok(Loaded {
            state,
            checkpoint: first,
            replayed,
            amnesia: true,
        });
    };
    state.replay_batch = state.replay_batch.max(1);
    let replayed = replay(&disks[0], headers[0].journal, &mut state).await?;
    let cut_short =
        mark.is_some_and(|mark| mark.clean && mark.last_batch + 1 != replayed.next_batch);
    let amnesia = replayed.rotten || mark.is_none() || cut_short;
    Ok(Loaded {
        state,
        checkpoint,
        replayed,
        amnesia,
    })
}

/// Finds extents without an index: by the header at the start of each granule.
async fn scan(
    disks: &[Rc<dyn Disk>],
    headers: &[Header],
) -> Result<std::collections::BTreeMap<ExtentId, Extent>, OpenError> {
    let mut extents = std::collections::BTreeMap::<ExtentId, Extent>::new();
    for (index, (disk, header)) in disks.iter().zip(headers).enumerate() {
        let granules = header.extents.bytes / GRANULE_BYTES;
        let mut granule = 0;
        while granule < granules {
            let at = header.extents.offset + granule * GRANULE_BYTES;
            let found = probe(disk, at, header.extents.offset + header.extents.bytes).await?;
            let Some((id, form, bytes)) = found else {
                granule += 1;
                continue;
            };
            let (disk, start) = (index as u8, granule as u32);
            let extent = Extent {
                form,
                disk,
                granule: start,
                bytes,
                missing: Vec::new(),
            };
            if extents.get(&id).is_none_or(|held| held.form <= form) {
                extents.insert(id, extent);
            }
            granule += u64::from(bytes).div_ceil(GRANULE_BYTES);
        }
    }
    Ok(extents)
}

async fn probe(
    disk: &Rc<dyn Disk>,
    at: u64,
    end: u64,
) -> Result<Option<(ExtentId, u32, u32)>, DiskError> {
    use codec::extent::Header as ExtentHeader;
    let first = disk.read(at, PAGE).await?;
    let Ok(needed) = ExtentHeader::bytes_needed(&first) else {
        return Ok(None);
    };
    if at + needed as u64 > end {
        return Ok(None);
    }
    let bytes = disk.read(at, needed).await?;
    let Ok(header) = ExtentHeader::parse(&bytes) else {
        return Ok(None);
    };
    if at + header.sealed_bytes() as u64 > end {
        return Ok(None);
    }
    // Deleted and older bytes look the same: only an extent that is whole counts, and the group's members
    // tell which are deleted.
    let sealed = disk.read(at, header.sealed_bytes()).await?;
    let whole = codec::extent::verify(&sealed).is_ok();
    Ok(whole.then(|| (header.id(), header.form(), header.sealed_bytes() as u32)))
}

fn assemble(
    world: World,
    disks: Vec<Rc<dyn Disk>>,
    headers: Vec<Header>,
    options: Options,
    loaded: Loaded,
    mark: Option<Mark>,
    session: u64,
) -> Store {
    let (mut state, checkpoint, replayed) = (loaded.state, loaded.checkpoint, loaded.replayed);
    let granules: Vec<u32> = headers
        .iter()
        .map(|header| (header.extents.bytes / GRANULE_BYTES) as u32)
        .collect();
    let mut space = Space::new(&granules);
    // Overlapping entries cannot be told apart without reading them; reads will, and fetch good copies.
    state.extents.retain(|_, extent| space.occupy(extent.run()));
    state.session = session;
    let start = Start {
        session,
        incarnation: state.incarnation,
        next_batch: replayed.next_batch,
        head: replayed.head,
        tail: state
            .oldest_page()
            .unwrap_or(replayed.head)
            .min(replayed.head),
    };
    let faults = options.faults;
    let (disks, figures) = counted(disks, &world.clock);
    let area = headers[0].journal;
    let journal = Journal::new(world.clone(), disks[0].clone(), area, start, faults);
    let mut sessions = vec![session];
    sessions.extend(mark.iter().flat_map(|mark| mark.sessions.iter().copied()));
    sessions.truncate(SESSIONS_KEPT);
    let inner = Rc::new(Inner {
        world,
        progress: disks.iter().map(|_| DiskProgress::default()).collect(),
        disks,
        figures,
        headers,
        options,
        session,
        sessions: RefCell::new(sessions),
        session_batch: Cell::new(start.next_batch),
        mark_counter: Cell::new(mark.map_or(0, |mark| mark.counter)),
        state: RefCell::new(state),
        journal,
        gathering: Gathering::default(),
        notes_refused: Cell::default(),
        space: RefCell::new(space),
        freed: RefCell::default(),
        bad: RefCell::default(),
        unreadable: RefCell::default(),
        unread: Cell::default(),
        cache: RefCell::default(),
        checkpoint: Cell::new(checkpoint),
        first_checkpoint: Cell::new(checkpoint),
        checkpoint_lock: world::sync::Lock::default(),
        checkpoint_page: Cell::new(start.head),
        state_bytes: Cell::new(0),
        state_growth: Cell::new(0),
        keeps: Cell::new(0),
        upkeep: world::sync::Notify::default(),
        noted: world::sync::Notify::default(),
        room: world::sync::Notify::default(),
        checkpoint_forced: Cell::new(false),
        closed: Cell::new(false),
        extent_bytes_written: Cell::new(0),
        data_flushes: Cell::new(0),
    });
    let placed: Weak<dyn Placed> = Rc::<Inner>::downgrade(&inner);
    inner.journal.on_placed(placed);
    Store(inner)
}
