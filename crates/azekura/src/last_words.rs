//! What a node's process says when it panics on a volume's behalf, for the next one to tell the cluster.
//! Format: docs/formats/node-state.md.

use crate::kept;
use node::{Host, LastWords};
use serde::{Deserialize, Serialize};
use std::panic::PanicHookInfo;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{SystemTime, UNIX_EPOCH};
use vocab::VolumeId;
use world::{Duration, World};

const FILE: &str = "last-words.json";
/// Pause between two looks whether the catalog knows them.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
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

/// The words of the process before this one. They stay until the cluster knows them: a process may end before it has told anybody.
/// Words that cannot be read say nothing, and are removed.
pub fn read(folder: &Path) -> Option<LastWords> {
    let words = kept::read::<Kept>(folder, FILE).unwrap_or_else(|error| {
        tracing::warn!(%error, "what ended the process before this one cannot be read");
        let _ = std::fs::remove_file(folder.join(FILE));
        None
    });
    words.map(|words| LastWords {
        volume: VolumeId(words.volume),
        at_ms: words.at_ms,
        reason: words.reason,
    })
}

/// Removes these words as soon as the catalog has them. Told twice they count once.
pub async fn forget_when_told(world: World, host: Rc<Host>, folder: PathBuf, words: LastWords) {
    while !host.has_told_last_words() {
        world.sleep(LOOK_AGAIN).await;
    }
    // A panic since then has words of its own, and ends this process.
    if read(&folder) == Some(words) {
        let _ = std::fs::remove_file(folder.join(FILE));
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
    fn a_panic_on_a_volumes_behalf_leaves_words_that_stay() {
        let folder = folder("last-words");
        listen(&folder);
        let nobodys = std::panic::catch_unwind(|| panic!("nobody's"));
        assert!(nobodys.is_err());
        assert_eq!(read(&folder), None);
        let panics = || world::blame::on_behalf(Some(7), || panic!("on purpose"));
        assert!(std::panic::catch_unwind(panics).is_err());
        let words = read(&folder).expect("it panicked");
        assert_eq!(words.volume, VolumeId(7));
        assert!(words.reason.contains("on purpose"), "{words:?}");
        assert!(words.reason.contains("last_words.rs"), "{words:?}");
        assert_eq!(read(&folder).as_ref(), Some(&words), "until it is told");
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn words_that_cannot_be_read_are_no_reason_not_to_start() {
        let folder = folder("no-words");
        std::fs::create_dir_all(&folder).unwrap();
        for text in ["{", r#"{"version": 2}"#, r#"{"version": 1}"#] {
            std::fs::write(folder.join(FILE), text).unwrap();
            assert_eq!(read(&folder), None);
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
