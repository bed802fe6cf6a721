//! The history of a node as files in a folder.
//!
//! A block is written beside its file and put in its place when it is on the disk: after a crash one of the two is there, whole.
//! Other files in the folder are left alone.

use history::{Name, Shelf};
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// What a file is called while it is written.
const UNFINISHED: &str = ".new";

/// A folder with blocks.
#[derive(Debug)]
pub struct FolderShelf(PathBuf);

impl FolderShelf {
    /// The blocks in a folder, which is made when the first one is written.
    pub fn new(folder: &Path) -> Self {
        Self(folder.to_owned())
    }

    fn path(&self, name: Name) -> PathBuf {
        self.0.join(name.to_string())
    }

    fn explain(&self, what: &str, name: Name) -> impl FnOnce(io::Error) -> String {
        let path = self.path(name);
        let what = what.to_owned();
        move |cause| format!("cannot {what} {}: {cause}", path.display())
    }
}

impl Shelf for FolderShelf {
    fn list(&self) -> Result<Vec<(Name, u64)>, String> {
        let explain = |cause| format!("cannot read the folder {}: {cause}", self.0.display());
        let entries = match fs::read_dir(&self.0) {
            Err(cause) if cause.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(explain)?,
        };
        let mut found = Vec::new();
        for entry in entries {
            let entry = entry.map_err(explain)?;
            let text = entry.file_name().to_string_lossy().into_owned();
            if let Some(unfinished) = text.strip_suffix(UNFINISHED)
                && Name::parse(unfinished).is_some()
            {
                // A crash left it; nobody reads it.
                let _ = fs::remove_file(entry.path());
            } else if let Some(name) = Name::parse(&text) {
                found.push((name, entry.metadata().map_err(explain)?.len()));
            }
        }
        Ok(found)
    }

    fn write(&self, name: Name, bytes: &[u8]) -> Result<(), String> {
        let write = || -> io::Result<()> {
            fs::create_dir_all(&self.0)?;
            let path = self.path(name);
            let beside = self.0.join(format!("{name}{UNFINISHED}"));
            let mut file = File::create(&beside)?;
            file.write_all(bytes)?;
            file.sync_data()?;
            fs::rename(&beside, &path)
        };
        write().map_err(self.explain("write", name))
    }

    fn read(&self, name: Name, offset: u64, len: usize) -> Result<Option<Vec<u8>>, String> {
        let read = || -> io::Result<Vec<u8>> {
            let file = File::open(self.path(name))?;
            let rest = file.metadata()?.len().saturating_sub(offset);
            let len = usize::try_from(rest).unwrap_or(usize::MAX).min(len);
            let mut bytes = vec![0; len];
            file.read_exact_at(&mut bytes, offset)?;
            Ok(bytes)
        };
        match read() {
            Err(cause) if cause.kind() == ErrorKind::NotFound => Ok(None),
            read => read.map(Some).map_err(self.explain("read", name)),
        }
    }

    fn remove(&self, name: Name) -> Result<(), String> {
        match fs::remove_file(self.path(name)) {
            Err(cause) if cause.kind() == ErrorKind::NotFound => Ok(()),
            removed => removed.map_err(self.explain("remove", name)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use history::Tier;

    fn folder(what: &str) -> PathBuf {
        let name = format!("azekura-shelf-{what}-{}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        let _ = fs::remove_dir_all(&folder);
        folder
    }

    #[test]
    fn blocks_are_kept_replaced_read_in_part_and_removed() {
        let folder = folder("blocks");
        let shelf = FolderShelf::new(&folder);
        let name = Name::at(Tier::Fine, 7200);
        assert_eq!(shelf.list(), Ok(Vec::new()));
        assert_eq!(shelf.read(name, 0, 9), Ok(None));
        shelf.write(name, b"first").unwrap();
        shelf.write(name, b"second").unwrap();
        assert_eq!(shelf.list(), Ok(vec![(name, 6)]));
        assert_eq!(shelf.read(name, 2, 3), Ok(Some(b"con".to_vec())));
        assert_eq!(shelf.read(name, 4, 99), Ok(Some(b"nd".to_vec())));
        assert_eq!(shelf.read(name, 99, 1), Ok(Some(Vec::new())));
        fs::write(folder.join("fine-3600.new"), b"half").unwrap();
        fs::write(folder.join("notes"), b"somebody's").unwrap();
        assert_eq!(shelf.list(), Ok(vec![(name, 6)]));
        assert!(!folder.join("fine-3600.new").exists() && folder.join("notes").exists());
        shelf.remove(name).unwrap();
        shelf.remove(name).unwrap();
        assert_eq!(shelf.list(), Ok(Vec::new()));
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn what_goes_wrong_names_the_file() {
        let folder = folder("file");
        fs::write(&folder, b"in the way").unwrap();
        let shelf = FolderShelf::new(&folder);
        let name = Name::at(Tier::Coarse, 0);
        let error = shelf.write(name, b"x").unwrap_err();
        assert!(error.contains("coarse-0"), "{error}");
        assert!(shelf.list().unwrap_err().contains("cannot read the folder"));
        fs::remove_file(&folder).unwrap();
    }
}
