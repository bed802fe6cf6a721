//! The run directory: who is attached, and what a killed process left behind.
//!
//! ```text
//! NAME.lock   locked (flock) by the process that serves NAME, or is about to, for as long as it lives; shared by those
//!             who look, and by the guard of a dead process while it cleans up; never removed
//! NAME.json   process id, mount point, loop device; written before anything is made, removed last
//! NAME.mount  the mount point
//! ```
//!
//! Invariants
//! - Who holds the lock may change the other two, and whoever shares it may remove what a dead process had. The kernel
//!   releases the lock of a killed process, so a state without a locked lock is stale; process ids are never trusted for
//!   that. A guard shares it, so that nobody takes what it cleans up for a device that is served.
//! - The state names everything that exists: it is replaced by rename before the next thing is made.

use crate::attachment::is_recorded_device;
use crate::loop_device::BackingFile;
use rustix::fs::{FlockOperation, Mode, OFlags, flock, open};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// What is known of an attached volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// The process that serves it.
    pub pid: u32,
    /// The loop device, once there is one.
    pub device: Option<PathBuf>,
    /// What the loop device is made of, once it is mounted.
    pub backing: Option<BackingFile>,
    /// Where the file system is mounted.
    pub mount: PathBuf,
    /// Whether writes are refused.
    pub read_only: bool,
    /// Generation of the attachment it uses; 0: not said.
    #[serde(default)]
    pub generation: u64,
}

/// The files of one name in a run directory.
#[derive(Clone, Debug)]
pub struct Place {
    run_dir: PathBuf,
    name: String,
}

/// A name that cannot be a file's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} cannot name an attachment: use 1 to 128 of a-z, A-Z, 0-9, `-`, `_` and `.`, not first `.`"
)]
pub struct BadName(pub String);

/// The lock of a name, or a part in it; held until dropped.
#[derive(Debug)]
pub struct Owned {
    _lock: OwnedFd,
}

impl Place {
    /// The place of `name`.
    ///
    /// # Errors
    /// [`BadName`].
    pub fn new(run_dir: &Path, name: &str) -> Result<Self, BadName> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        let fits = (1..=128).contains(&name.len()) && !name.starts_with('.');
        if !fits || !name.bytes().all(allowed) {
            return Err(BadName(name.to_owned()));
        }
        Ok(Self {
            run_dir: run_dir.to_owned(),
            name: name.to_owned(),
        })
    }

    fn file(&self, kind: &str) -> PathBuf {
        self.run_dir.join(format!("{}.{kind}", self.name))
    }

    /// Where the file system is mounted.
    #[must_use]
    pub fn mount(&self) -> PathBuf {
        self.file("mount")
    }

    /// Takes the lock; `None` while a living process has it. Makes the run directory.
    ///
    /// # Errors
    /// The operating system's.
    pub fn own(&self) -> io::Result<Option<Owned>> {
        fs::create_dir_all(&self.run_dir)?;
        let flags = OFlags::CREATE | OFlags::RDWR | OFlags::CLOEXEC;
        let lock = open(self.file("lock"), flags, Mode::RUSR | Mode::WUSR)?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Owned { _lock: lock })),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Shares the lock with others who do: until it is dropped nobody owns the name. `None` while a process does.
    ///
    /// # Errors
    /// The operating system's; `NotFound` when nobody has ever owned it.
    pub fn share(&self) -> io::Result<Option<Owned>> {
        let flags = OFlags::RDWR | OFlags::CLOEXEC;
        let lock = open(self.file("lock"), flags, Mode::empty())?;
        match flock(&lock, FlockOperation::NonBlockingLockShared) {
            Ok(()) => Ok(Some(Owned { _lock: lock })),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Whether a living process has the lock. Those who ask do not hinder each other.
    ///
    /// # Errors
    /// The operating system's.
    pub fn is_owned(&self) -> io::Result<bool> {
        match self.share() {
            Ok(shared) => Ok(shared.is_none()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// What is attached under this name; `None` when nothing is.
    ///
    /// # Errors
    /// The operating system's; a file that cannot be understood is `InvalidData`.
    pub fn load(&self) -> io::Result<Option<State>> {
        match fs::read(self.file("json")) {
            Ok(text) => Ok(Some(serde_json::from_slice(&text)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Replaces the state.
    ///
    /// # Errors
    /// The operating system's.
    pub fn store(&self, _owned: &Owned, state: &State) -> io::Result<()> {
        let text = serde_json::to_vec_pretty(state)?;
        fs::write(self.file("new"), text)?;
        fs::rename(self.file("new"), self.file("json"))
    }

    /// Forgets the state, and the mount point when nothing is mounted there.
    ///
    /// # Errors
    /// The operating system's.
    pub fn remove(&self, _owned: &Owned) -> io::Result<()> {
        for outcome in [
            fs::remove_dir(self.mount()),
            fs::remove_file(self.file("json")),
        ] {
            match outcome {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

/// One line of [`list`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Listed {
    /// Its name.
    pub name: String,
    /// What is known of it. A dead one has no device unless that is still its own: the number of one that was let go of may be
    /// somebody else's by now.
    pub state: State,
    /// Whether its process lives; if not, the next attach or detach of the name cleans up.
    pub alive: bool,
}

impl Listed {
    fn new(name: String, mut state: State, alive: bool) -> Self {
        if !alive && !is_recorded_device(&state) {
            state.device = None;
        }
        Self { name, state, alive }
    }
}

/// What there is of a name in a run directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// Nothing.
    Nothing,
    /// A living process has taken the name and made nothing yet.
    Begun,
    /// An attachment, whole or half-made, of a living or a dead process.
    There(Listed),
}

/// Looks for one name.
///
/// # Errors
/// The operating system's; a name that cannot be one is `InvalidInput`.
pub fn find(run_dir: &Path, name: &str) -> io::Result<Found> {
    let place = Place::new(run_dir, name);
    let place = place.map_err(|bad| io::Error::new(io::ErrorKind::InvalidInput, bad))?;
    // In this order: who gives the name up removes the state first.
    let alive = place.is_owned()?;
    Ok(match place.load()? {
        Some(state) => Found::There(Listed::new(place.name, state, alive)),
        None if alive => Found::Begun,
        None => Found::Nothing,
    })
}

/// All attachments of a run directory, by name. Files that are no states are passed over.
///
/// # Errors
/// The operating system's; a directory that does not exist is empty.
pub fn list(run_dir: &Path) -> io::Result<Vec<Listed>> {
    let entries = match fs::read_dir(run_dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut listed = Vec::new();
    for entry in entries {
        let file = entry?.file_name();
        let name = file.to_str().and_then(|file| file.strip_suffix(".json"));
        let Some(place) = name.and_then(|name| Place::new(run_dir, name).ok()) else {
            continue;
        };
        let alive = place.is_owned()?;
        if let Ok(Some(state)) = place.load() {
            listed.push(Listed::new(place.name, state, alive));
        }
    }
    listed.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(listed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use fuzz::target;
    use proptest::prelude::*;

    fn scratch(test: &str) -> PathBuf {
        let name = format!("azekura-attach-{test}-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).expect("the temporary directory is writable");
        path
    }

    fn state() -> State {
        State {
            pid: 7,
            device: None,
            backing: None,
            mount: PathBuf::from("/somewhere"),
            read_only: false,
            generation: 3,
        }
    }

    #[test]
    fn a_lock_has_one_owner_and_states_come_back() {
        let dir = scratch("lock");
        let place = Place::new(&dir, "v-1").expect("a good name");
        let owned = place.own().expect("writable").expect("free");
        assert!(place.own().expect("writable").is_none());
        assert_eq!(place.load().expect("readable"), None);
        place.store(&owned, &state()).expect("writable");
        let listed = list(&dir).expect("readable");
        assert_eq!((listed.len(), listed[0].alive), (1, true));
        assert_eq!(listed[0].state, state());
        drop(owned);
        assert!(!list(&dir).expect("readable")[0].alive);
        let owned = place.own().expect("writable").expect("free again");
        place.remove(&owned).expect("removable");
        assert_eq!(list(&dir).expect("readable"), []);
        fs::remove_dir_all(dir).expect("ours");
    }

    #[test]
    fn a_dead_record_names_no_device_that_is_somebody_elses_by_now() {
        let dir = scratch("stale");
        let place = Place::new(&dir, "v").expect("a good name");
        let owned = place.own().expect("writable").expect("free");
        let state = State {
            device: Some(PathBuf::from("/dev/loop0")),
            backing: Some(BackingFile {
                device: 1,
                inode: 2,
            }),
            mount: place.mount(),
            ..state()
        };
        place.store(&owned, &state).expect("writable");
        let device = || match find(&dir, "v").expect("readable") {
            Found::There(there) => there.state.device,
            found => panic!("{found:?}"),
        };
        assert_eq!(device(), state.device);
        drop(owned);
        assert_eq!(device(), None);
        assert_eq!(list(&dir).expect("readable")[0].state.device, None);
        // Who cleans up still learns of it, and looks whose it is himself.
        assert_eq!(place.load().expect("readable"), Some(state));
        fs::remove_dir_all(dir).expect("ours");
    }

    #[test]
    fn who_shares_a_lock_keeps_owners_away_and_is_not_taken_for_one() {
        let dir = scratch("shared");
        let place = Place::new(&dir, "v").expect("a good name");
        let kind = place.share().map_err(|error| error.kind());
        assert_eq!(kind.err(), Some(io::ErrorKind::NotFound));
        let owned = place.own().expect("writable").expect("free");
        assert!(place.share().expect("there").is_none());
        place.store(&owned, &state()).expect("writable");
        drop(owned);
        let guard = place.share().expect("there").expect("nobody owns it");
        assert!(place.share().expect("there").is_some());
        assert!(place.own().expect("writable").is_none());
        assert!(!list(&dir).expect("readable")[0].alive);
        place.remove(&guard).expect("removable");
        drop(guard);
        assert!(place.own().expect("writable").is_some());
        assert_eq!(find(&dir, "v").expect("readable"), Found::Nothing);
        fs::remove_dir_all(dir).expect("ours");
    }

    #[test]
    fn fuzz_corpus_of_states() {
        let target = target!("state");
        let decode = |bytes: &[u8]| serde_json::from_slice::<State>(bytes).ok();
        let whole = State {
            device: Some(PathBuf::from("/dev/loop7")),
            read_only: true,
            ..state()
        };
        for (name, state) in [("begun", state()), ("whole", whole)] {
            let encoded = serde_json::to_vec(&state).expect("plain data");
            assert_eq!(
                decode(&target.sample(name, &encoded)),
                Some(state),
                "{name}"
            );
        }
        // As an earlier release wrote it.
        let older =
            br#"{"pid":7,"device":null,"backing":null,"mount":"/somewhere","read_only":false}"#;
        let older = decode(&target.sample("without-generation", older));
        assert_eq!(
            older.map(|state| (state.pid, state.generation)),
            Some((7, 0))
        );
        target.play(|bytes| {
            if let Some(state) = decode(bytes) {
                let again = serde_json::to_vec(&state).expect("plain data");
                assert_eq!(decode(&again), Some(state));
            }
        });
    }

    proptest! {
        #[test]
        fn fuzz_any_text_is_a_state_or_an_error(
            text in proptest::collection::vec(any::<u8>(), 0..100),
            at in any::<proptest::sample::Index>(),
            with in 0x20_u8..0x7f,
        ) {
            let _ = serde_json::from_slice::<State>(&text);
            let mut changed = serde_json::to_vec(&state()).expect("plain data");
            let at = at.index(changed.len());
            changed[at] = with;
            if let Ok(state) = serde_json::from_slice::<State>(&changed) {
                prop_assert!(serde_json::to_vec(&state).is_ok());
            }
        }

        #[test]
        fn fuzz_any_name_stays_in_its_directory_or_is_refused(name in any::<String>()) {
            if let Ok(place) = Place::new(Path::new("/run/x"), &name) {
                let mount = place.mount();
                prop_assert_eq!(mount.parent(), Some(Path::new("/run/x")));
            }
        }
    }

    #[test]
    fn names_that_leave_the_directory_are_refused() {
        for name in ["", ".", "..", "../x", "a/b", "a\0", "ä", &"x".repeat(129)] {
            assert!(Place::new(Path::new("/run"), name).is_err(), "{name:?}");
        }
        assert!(Place::new(Path::new("/run"), "volume-1_a.b").is_ok());
    }

    #[test]
    fn a_missing_directory_lists_nothing_and_garbage_is_passed_over() {
        assert_eq!(list(Path::new("/nowhere/at/all")).expect("empty"), []);
        let dir = scratch("garbage");
        fs::write(dir.join("x.json"), "{").expect("writable");
        assert_eq!(list(&dir).expect("readable"), []);
        let place = Place::new(&dir, "x").expect("a good name");
        let kind = place.load().map_err(|error| error.kind());
        assert!(kind.is_err());
        fs::remove_dir_all(dir).expect("ours");
    }
}
