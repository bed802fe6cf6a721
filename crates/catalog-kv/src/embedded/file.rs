//! The file of the embedded catalog: three redb tables. docs/formats/catalog.md draws them.
//!
//! Invariants
//! - A commit is durable when [`CatalogFile::commit`] returns; it is there as a whole or not at all.
//! - The stored revision never goes back: commits have two phases, so that after a crash the file never
//!   has to guess which of two states was the newest.
//! - Opening verifies the checksum of every page (redb) and of every row (here); what does not verify is
//!   [`KvError::Damaged`], never a shorter catalog.

use crate::state::{State, Stored};
use catalog::kv::{KvError, LeaseId};
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use world::Time;

const META: TableDefinition<&[u8], u64> = TableDefinition::new("meta");
const LEASES: TableDefinition<u64, u64> = TableDefinition::new("leases");
const ENTRIES: TableDefinition<&[u8], &[u8]> = TableDefinition::new("entries");

const META_FORMAT: &[u8] = b"format";
const META_REVISION: &[u8] = b"revision";
const META_LEASE_NEXT: &[u8] = b"lease_next";
const FORMAT: u64 = 1;

/// Bytes of a row before its value: checksum, version, lease.
const ROW_HEADER_BYTES: usize = 4 + 8 + 8;
const _: () = assert!(ROW_HEADER_BYTES == 20);
/// The state machine holds every row in memory already; the cache only serves commits.
const CACHE_BYTES: usize = 16 << 20;

/// An open catalog file, locked against other processes.
pub(super) struct CatalogFile {
    database: Database,
    path: PathBuf,
}

fn row_checksum(key: &[u8], version_lease_value: &[u8]) -> u32 {
    let length = u32::try_from(key.len()).unwrap_or(u32::MAX);
    let sum = crc32c::crc32c(&length.to_le_bytes());
    crc32c::crc32c_append(crc32c::crc32c_append(sum, key), version_lease_value)
}

fn encode_row(key: &str, stored: &Stored) -> Vec<u8> {
    let mut row = vec![0; 4];
    row.extend_from_slice(&stored.version.to_le_bytes());
    row.extend_from_slice(&stored.lease.map_or(0, |lease| lease.0).to_le_bytes());
    row.extend_from_slice(&stored.value);
    let sum = row_checksum(key.as_bytes(), &row[4..]);
    row[..4].copy_from_slice(&sum.to_le_bytes());
    assert_eq!(row.len(), ROW_HEADER_BYTES + stored.value.len());
    row
}

fn decode_row(key: &[u8], row: &[u8]) -> Result<(String, Stored), String> {
    let name = String::from_utf8_lossy(key);
    let damaged = |what: &str| format!("row {name} {what}");
    let (sum, rest) = row.split_first_chunk().ok_or(damaged("is too short"))?;
    if u32::from_le_bytes(*sum) != row_checksum(key, rest) {
        return Err(damaged("does not match its checksum"));
    }
    let (version, rest) = rest.split_first_chunk().ok_or(damaged("is too short"))?;
    let (lease, value) = rest.split_first_chunk().ok_or(damaged("is too short"))?;
    let lease = u64::from_le_bytes(*lease);
    let stored = Stored {
        value: value.to_vec(),
        version: u64::from_le_bytes(*version),
        lease: (lease != 0).then_some(LeaseId(lease)),
    };
    let key = std::str::from_utf8(key).map_err(|_| damaged("has a key that is not UTF-8"))?;
    Ok((key.to_owned(), stored))
}

pub(super) fn damaged(path: &Path, reason: &str) -> KvError {
    KvError::Damaged(format!(
        "{}: {reason}. Keep a copy of the file, check the disk below it, and restore a backup of it",
        path.display()
    ))
}

/// What a failure of redb means for callers.
fn failure(path: &Path, error: redb::Error) -> KvError {
    match error {
        redb::Error::Io(error) if error.kind() == std::io::ErrorKind::InvalidData => {
            damaged(path, &format!("not a catalog file ({error})"))
        }
        redb::Error::Io(error) => KvError::Unavailable(format!(
            "{}: {error}; make room or repair the file system, calls are tried again by themselves",
            path.display()
        )),
        redb::Error::DatabaseAlreadyOpen | redb::Error::LockProtocolMismatch => {
            super::lock::refused(path)
        }
        redb::Error::Backend(_) | redb::Error::PreviousIo | redb::Error::DatabaseClosed => {
            KvError::Unavailable(format!("{}: {error}", path.display()))
        }
        error => damaged(path, &error.to_string()),
    }
}

impl CatalogFile {
    /// Opens the file, or creates it in an existing directory, and verifies all of it.
    pub(super) fn open(path: &Path) -> Result<Self, KvError> {
        Self::open_with(path, |builder| builder.create(path))
    }

    pub(super) fn open_with(
        path: &Path,
        open: impl FnOnce(&redb::Builder) -> Result<Database, redb::DatabaseError>,
    ) -> Result<Self, KvError> {
        let mut builder = Database::builder();
        builder.set_cache_size(CACHE_BYTES);
        builder.set_check_integrity_on_open(true);
        let database = open(&builder).map_err(|error| failure(path, error.into()))?;
        let file = Self {
            database,
            path: path.to_owned(),
        };
        file.initialise().map_err(|error| failure(path, error))?;
        file.sync_directory()?;
        Ok(file)
    }

    /// Makes the file's name durable, too.
    fn sync_directory(&self) -> Result<(), KvError> {
        let parent = self
            .path
            .parent()
            .filter(|path| !path.as_os_str().is_empty());
        let directory = parent.unwrap_or(Path::new("."));
        let synced = std::fs::File::open(directory).and_then(|directory| directory.sync_all());
        synced.map_err(|error| failure(&self.path, error.into()))
    }

    /// Writes the tables of an empty catalog into a file without any.
    fn initialise(&self) -> Result<(), redb::Error> {
        let present = self.database.begin_read()?.list_tables()?.next().is_some();
        if present {
            return Ok(());
        }
        self.write(&State::new(), BTreeSet::new(), &BTreeSet::new())
    }

    /// Reads everything. Leases count as just renewed.
    pub(super) fn load(&self, now: Time) -> Result<State, KvError> {
        let loaded = self.try_load(now);
        match loaded.map_err(|error| failure(&self.path, error))? {
            Ok(state) => Ok(state),
            Err(reason) => Err(damaged(&self.path, &reason)),
        }
    }

    fn try_load(&self, now: Time) -> Result<Result<State, String>, redb::Error> {
        let read = self.database.begin_read()?;
        let meta = read.open_table(META)?;
        let value = |key| Ok::<_, redb::Error>(meta.get(key)?.map(|value| value.value()));
        let (format, revision, lease_next) = (
            value(META_FORMAT)?,
            value(META_REVISION)?,
            value(META_LEASE_NEXT)?,
        );
        if format != Some(FORMAT) {
            let format = format.map_or("no format".to_owned(), |format| format!("format {format}"));
            let known = format!("it has {format}, this version reads format {FORMAT}");
            return Ok(Err(known));
        }
        let (Some(revision @ 1..), Some(lease_next @ 1..)) = (revision, lease_next) else {
            return Ok(Err("its revision or lease counter is missing".to_owned()));
        };
        let mut state = State::restore(revision, lease_next);
        for row in read.open_table(LEASES)?.iter()? {
            let (id, ttl_seconds) = row?;
            let (id, ttl_seconds) = (id.value(), ttl_seconds.value());
            if id == 0 || id >= lease_next {
                return Ok(Err(format!("lease {id} was never granted")));
            }
            state.restore_lease(LeaseId(id), ttl_seconds, now);
        }
        for row in read.open_table(ENTRIES)?.iter()? {
            let (key, value) = row?;
            let (key, stored) = match decode_row(key.value(), value.value()) {
                Ok(row) => row,
                Err(reason) => return Ok(Err(reason)),
            };
            let name = key.clone();
            if !state.restore_entry(key, stored) {
                return Ok(Err(format!(
                    "row {name} is newer than the catalog, or bound to a lease that is not there"
                )));
            }
        }
        Ok(Ok(state))
    }

    /// Stores the present state of `keys` and `leases` and the counters, durably and at once.
    pub(super) fn commit(
        &self,
        state: &State,
        keys: BTreeSet<&str>,
        leases: &BTreeSet<LeaseId>,
    ) -> Result<(), KvError> {
        self.write(state, keys, leases)
            .map_err(|error| failure(&self.path, error))
    }

    fn write(
        &self,
        state: &State,
        keys: BTreeSet<&str>,
        leases: &BTreeSet<LeaseId>,
    ) -> Result<(), redb::Error> {
        let mut transaction = self.database.begin_write()?;
        transaction.set_two_phase_commit(true);
        {
            let mut table = transaction.open_table(ENTRIES)?;
            for key in keys {
                match state.stored(key) {
                    Some(stored) => {
                        table.insert(key.as_bytes(), encode_row(key, stored).as_slice())?;
                    }
                    None => drop(table.remove(key.as_bytes())?),
                }
            }
            let mut table = transaction.open_table(LEASES)?;
            for id in leases {
                match state.lease(*id) {
                    Some(lease) => drop(table.insert(id.0, lease.ttl_seconds)?),
                    None => drop(table.remove(id.0)?),
                }
            }
            let mut meta = transaction.open_table(META)?;
            let before = meta.insert(META_REVISION, state.revision())?;
            let before = before.map_or(0, |before| before.value());
            assert!(
                before <= state.revision(),
                "the stored revision never goes back"
            );
            meta.insert(META_LEASE_NEXT, state.lease_next())?;
            meta.insert(META_FORMAT, FORMAT)?;
        }
        transaction.commit()?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fuzz::target;
    use proptest::prelude::*;

    fn stored() -> Stored {
        Stored {
            value: b"value".to_vec(),
            version: 7,
            lease: Some(LeaseId(3)),
        }
    }

    #[test]
    fn a_row_survives_and_keeps_its_layout() {
        let row = encode_row("key", &stored());
        assert_eq!(row[4..], *b"\x07\0\0\0\0\0\0\0\x03\0\0\0\0\0\0\0value");
        assert_eq!(decode_row(b"key", &row), Ok(("key".to_owned(), stored())));
    }

    #[test]
    fn a_changed_short_or_misplaced_row_is_refused() {
        let row = encode_row("key", &stored());
        for index in 0..row.len() {
            let mut changed = row.clone();
            changed[index] ^= 0x10;
            assert!(decode_row(b"key", &changed).is_err());
            assert!(decode_row(b"key", &row[..index]).is_err());
        }
        assert!(decode_row(b"yek", &row).is_err());
    }

    #[test]
    fn fuzz_corpus_of_rows() {
        let target = target!("row");
        let forever = Stored {
            lease: None,
            version: u64::MAX,
            ..stored()
        };
        for (name, stored) in [("leased", stored()), ("forever", forever)] {
            let committed = target.sample(name, &encode_row("key", &stored));
            assert_eq!(
                decode_row(b"key", &committed),
                Ok(("key".to_owned(), stored))
            );
        }
        let cut = target.sample("cut", &encode_row("key", &stored())[..ROW_HEADER_BYTES - 1]);
        assert!(decode_row(b"key", &cut).is_err());
        let decode = |bytes: &[u8]| {
            if let Ok((name, stored)) = decode_row(b"key", bytes) {
                assert_eq!(encode_row(&name, &stored), bytes);
            }
        };
        target.play_changed(decode, |mut bytes| {
            if bytes.len() >= 4 {
                let sum = row_checksum(b"key", &bytes[4..]);
                bytes[..4].copy_from_slice(&sum.to_le_bytes());
            }
            bytes
        });
    }

    proptest! {
        #[test]
        fn fuzz_any_bytes_are_a_row_or_damage(
            key in proptest::collection::vec(any::<u8>(), 0..20),
            mut row in proptest::collection::vec(any::<u8>(), 0..80),
            seal: bool,
        ) {
            if seal && row.len() >= 4 {
                let sum = row_checksum(&key, &row[4..]);
                row[..4].copy_from_slice(&sum.to_le_bytes());
            }
            let decoded = decode_row(&key, &row);
            let whole = seal && row.len() >= ROW_HEADER_BYTES && std::str::from_utf8(&key).is_ok();
            prop_assert!(!whole || decoded.is_ok());
            if let Ok((name, stored)) = decoded {
                prop_assert_eq!(encode_row(&name, &stored), row);
            }
        }

        #[test]
        fn fuzz_flipped_bits_of_a_row_are_found(bit in 0_usize..25 * 8) {
            let mut row = encode_row("key", &stored());
            row[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(decode_row(b"key", &row).is_err());
        }
    }
}
