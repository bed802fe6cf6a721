//! What a node's process says when a panic or a fault of the processor on a volume's behalf ends it, for the next one to tell the
//! cluster.
//! Format: docs/formats/node-state.md.

use crate::kept;
use node::{Host, LastWords};
use serde::{Deserialize, Serialize};
use std::fmt::{self, Write};
use std::panic::PanicHookInfo;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};
use vocab::VolumeId;
use world::{Duration, World};
use world_linux::{Fault, listen_for_faults};

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
    /// Not in those of releases before, nor of a node that ended before it had begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    start: Option<u64>,
    reason: String,
}

/// Which start of the node this process is; zero before it has begun.
static START: AtomicU64 = AtomicU64::new(0);

/// From now on last words say which start of the node they are of.
pub fn began(host: &Host) {
    START.store(host.start_number(), Ordering::Relaxed);
}

/// From now on a panic, or a fault, on a volume's behalf leaves its words in the folder, beside what either does anyway. Of several
/// the last one counts.
pub fn listen(folder: &Path) {
    let made = std::fs::create_dir_all(folder);
    let listens =
        made.and_then(|()| listen_for_faults(&folder.join(FILE), &beside(folder), describe));
    if let Err(error) = listens {
        tracing::warn!(%error, "a fault that ends this process will accuse no volume");
    }
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

fn beside(folder: &Path) -> PathBuf {
    folder.join(format!("{FILE}.part"))
}

/// Words as [`Kept`] has them, without an allocation.
fn describe(text: &mut dyn Write, fault: &Fault) -> fmt::Result {
    let Fault {
        subject,
        at_ms,
        reason,
    } = fault;
    let version = kept::VERSION;
    write!(
        text,
        r#"{{"version":{version},"volume":{subject},"at_ms":{at_ms},"#
    )?;
    match START.load(Ordering::Relaxed) {
        0 => {}
        start => write!(text, r#""start":{start},"#)?,
    }
    // No character in it is another one in JSON.
    write!(text, r#""reason":"{reason}"}}"#)
}

fn write(folder: &Path, volume: u64, panic: &PanicHookInfo<'_>) -> anyhow::Result<()> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let words = Kept {
        version: kept::VERSION,
        volume,
        at_ms: u64::try_from(now.as_millis())?,
        start: Some(START.load(Ordering::Relaxed)).filter(|&start| start != 0),
        reason: panic.to_string().chars().take(REASON_MAX).collect(),
    };
    // Only the end of the process is to be survived, and a disk that hangs must not keep it from ending.
    let beside = beside(folder);
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
        start: words.start,
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

    const TEST: &str = "last_words::tests::a_fault_on_a_volumes_behalf_leaves_words_and_a_signal_that_was_sent_does_not";
    /// What a process that was started again is to do, and where.
    const PART: &str = "AZEKURA_TEST_FAULT";
    const FOLDER: &str = "AZEKURA_TEST_FAULT_FOLDER";

    /// Uses up the stack.
    fn descend(depth: u64) -> u64 {
        let deeper = std::hint::black_box([depth; 64]);
        match std::hint::black_box(depth) {
            u64::MAX => 0,
            depth => descend(depth + 1) + deeper[0],
        }
    }

    /// What goes wrong in a process of its own, on behalf of volume 7.
    fn go_wrong(part: &str) {
        listen(Path::new(&std::env::var_os(FOLDER).unwrap()));
        START.store(9, Ordering::Relaxed);
        let overflow = || drop(std::thread::spawn(|| descend(0)).join());
        match part {
            "overflow" => {
                let on_behalf = || world::blame::on_behalf(Some(7), || descend(0));
                let ended = std::thread::spawn(on_behalf).join();
                drop(ended);
            }
            "nobody" => overflow(),
            "sent" => world::blame::on_behalf(Some(7), || {
                let own = rustix::process::getpid();
                for _ in 0..3 {
                    // The second ends the process.
                    let _ = rustix::process::kill_process(own, rustix::process::Signal::SEGV);
                    std::thread::sleep(std::time::Duration::from_millis(100));
                }
            }),
            other => panic!("what is {other}?"),
        }
    }

    /// What such a process leaves behind.
    fn left_by(part: &str) -> Option<LastWords> {
        use std::os::unix::process::ExitStatusExt;
        let folder = folder(&format!("fault-{part}"));
        let program = std::env::current_exe().unwrap();
        let ended = std::process::Command::new(program)
            .args([TEST, "--exact"])
            .env(PART, part)
            .env(FOLDER, &folder)
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .status();
        let ended = ended.unwrap();
        assert!(
            ended.signal().is_some(),
            "{part}: a signal ends it: {ended}"
        );
        let words = read(&folder);
        std::fs::remove_dir_all(&folder).unwrap();
        words
    }

    #[test]
    fn a_fault_on_a_volumes_behalf_leaves_words_and_a_signal_that_was_sent_does_not() {
        if let Ok(part) = std::env::var(PART) {
            return go_wrong(&part);
        }
        let words = left_by("overflow").expect("the volume's stack was too small");
        assert_eq!((words.volume, words.start), (VolumeId(7), Some(9)));
        assert!(words.at_ms > 1_700_000_000_000, "{words:?}");
        assert!(words.reason.starts_with("SIGSEGV: "), "{words:?}");
        assert_eq!(left_by("nobody"), None, "nobody was worked for");
        assert_eq!(left_by("sent"), None, "somebody has sent it");
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
        assert_eq!(words.start, None, "no node has begun");
        assert!(words.reason.contains("on purpose"), "{words:?}");
        assert!(words.reason.contains("last_words.rs"), "{words:?}");
        assert_eq!(read(&folder).as_ref(), Some(&words), "until it is told");
        START.store(9, Ordering::Relaxed);
        assert!(std::panic::catch_unwind(panics).is_err());
        assert_eq!(read(&folder).and_then(|words| words.start), Some(9));
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
            start: None,
            reason: "panicked at a.rs:1:2:\n\u{e9}".to_owned(),
        };
        let text = serde_json::to_vec(&words).expect("plain data");
        let committed = target.sample("panic", &text);
        assert_eq!(serde_json::from_slice::<Kept>(&committed).ok(), Some(words));
        target.play(|bytes| drop(serde_json::from_slice::<Kept>(bytes)));
    }
}
