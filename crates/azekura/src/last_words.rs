//! What a node's process says when it panics on a volume's behalf, for the next one to tell the cluster.
//! Format: docs/formats/node-state.md.

use crate::kept;
use node::LastWords;
use serde::{Deserialize, Serialize};
use std::panic::PanicHookInfo;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};
use vocab::VolumeId;

const FILE: &str = "last-words.json";
/// Characters of the reason that are kept.
const REASON_MAX: usize = 1000;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Kept {
    version: u32,
    volume: u64,
    at_ms: u64,
    reason: String,
}

/// From now on a panic on a volume's behalf leaves its words in the folder, beside what panics do anyway. Of several panics
/// the last one counts.
pub fn listen(folder: &Path) {
    let folder = folder.to_owned();
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        before(panic);
        if let Some(volume) = world::blame::subject() {
            // The process ends: whoever reads its log finds the panic there, too.
            let _ = write(&folder, volume, panic);
        }
    }));
}

fn write(folder: &Path, volume: u64, panic: &PanicHookInfo<'_>) -> anyhow::Result<()> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let words = Kept {
        version: kept::VERSION,
        volume,
        at_ms: u64::try_from(now.as_millis())?,
        reason: panic.to_string().chars().take(REASON_MAX).collect(),
    };
    // Only the end of the process is to be survived, and a disk that hangs must not keep it from ending.
    let beside = folder.join(format!("{FILE}.part"));
    std::fs::create_dir_all(folder)?;
    std::fs::write(&beside, serde_json::to_vec(&words)?)?;
    std::fs::rename(&beside, folder.join(FILE))?;
    Ok(())
}

/// The words of the process before this one, which are nobody else's from now on. Words that cannot be read say nothing.
pub fn take(folder: &Path) -> Option<LastWords> {
    let read = kept::read::<Kept>(folder, FILE);
    if !matches!(read, Ok(None)) {
        let file: PathBuf = folder.join(FILE);
        let _ = std::fs::remove_file(file);
    }
    match read {
        Ok(words) => words.map(|words| LastWords {
            volume: VolumeId(words.volume),
            at_ms: words.at_ms,
            reason: words.reason,
        }),
        Err(error) => {
            tracing::warn!(%error, "what ended the process before this one cannot be read");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fuzz::target;

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        folder
    }

    /// Tests run in processes of their own, so that the hook is nobody else's.
    #[test]
    fn a_panic_on_a_volumes_behalf_is_told_once() {
        let folder = folder("last-words");
        listen(&folder);
        let nobodys = std::panic::catch_unwind(|| panic!("nobody's"));
        assert!(nobodys.is_err());
        assert_eq!(take(&folder), None);
        let panics = || world::blame::on_behalf(Some(7), || panic!("on purpose"));
        assert!(std::panic::catch_unwind(panics).is_err());
        let words = take(&folder).expect("it panicked");
        assert_eq!(words.volume, VolumeId(7));
        assert!(words.reason.contains("on purpose"), "{words:?}");
        assert!(words.reason.contains("last_words.rs"), "{words:?}");
        assert_eq!(take(&folder), None, "told");
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn words_that_cannot_be_read_are_no_reason_not_to_start() {
        let folder = folder("no-words");
        std::fs::create_dir_all(&folder).unwrap();
        for text in ["{", r#"{"version": 2}"#, r#"{"version": 1}"#] {
            std::fs::write(folder.join(FILE), text).unwrap();
            assert_eq!(take(&folder), None);
            assert!(!folder.join(FILE).exists());
        }
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn fuzz_corpus_of_last_words() {
        let target = target!("last-words");
        let words = Kept {
            version: kept::VERSION,
            volume: u64::MAX,
            at_ms: 1_764_367_200_000,
            reason: "panicked at a.rs:1:2:\n\u{e9}".to_owned(),
        };
        let text = serde_json::to_vec(&words).expect("plain data");
        let committed = target.sample("panic", &text);
        assert_eq!(serde_json::from_slice::<Kept>(&committed).ok(), Some(words));
        target.play(|bytes| drop(serde_json::from_slice::<Kept>(bytes)));
    }
}
