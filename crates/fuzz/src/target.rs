//! One decoder's corpus, and playing it.

use crate::Random;
use crate::memory::Peak;
use crate::mutate::mutate;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Address space that one input may take: far more than any message, far less than a length from damaged bytes.
pub const ADDRESS_SPACE_BYTES_MAX: u64 = 256 << 20;
/// Seconds that one input may take, on a machine that does other things, too.
pub const SECONDS_MAX: u64 = 10;
/// Rounds without `PROPTEST_CASES`, as proptest does.
const ROUNDS: u64 = 256;
/// Time for a round on average: slow decoders get fewer rounds. 2,000 rounds take 200 ms at most.
const ROUND_TIME: Duration = Duration::from_micros(100);

/// A decoder with its corpus; see the crate's documentation.
pub struct Target {
    name: &'static str,
    folder: PathBuf,
    round_time: Duration,
}

impl Target {
    /// The target `name` of the crate in `crate_folder`; [`crate::target!`] fills in the folder.
    #[must_use]
    pub fn new(crate_folder: &str, name: &'static str) -> Self {
        let folder = Path::new(crate_folder).join("corpus").join(name);
        Self {
            name,
            folder,
            round_time: ROUND_TIME,
        }
    }

    /// As much time for a round on average; for what is more than a decoder.
    #[must_use]
    pub fn round_time(self, round_time: Duration) -> Self {
        Self { round_time, ..self }
    }

    /// The committed sample `name`, which the encoder made as `encoded` when it was committed. The caller asserts that it decodes
    /// to the value that was encoded. An encoder that changes gets another sample; the old one stays.
    ///
    /// # Panics
    /// When there is no such file, unless `FUZZ_WRITE` is set: then it is written.
    pub fn sample(&self, name: &str, encoded: &[u8]) -> Vec<u8> {
        let path = self.folder.join(name);
        if let Ok(bytes) = fs::read(&path) {
            return bytes;
        }
        let path = path.display();
        assert!(
            std::env::var_os("FUZZ_WRITE").is_some(),
            "there is no {path}: run this test once with FUZZ_WRITE=1, and commit the file"
        );
        self.write(name, encoded)
            .unwrap_or_else(|error| panic!("cannot write {path}: {error}"));
        encoded.to_vec()
    }

    /// Plays the corpus, then as many changed inputs as rounds or time allow. `decode` gets the bytes and asserts what
    /// users of its value rely on.
    ///
    /// # Panics
    /// With a finding, or when the corpus is empty.
    pub fn play(&self, decode: impl Fn(&[u8])) {
        self.play_changed(decode, |bytes| bytes);
    }

    /// As [`Target::play`], with `seal` applied to every changed input with an even number: for what lies behind a checksum.
    ///
    /// # Panics
    /// With a finding, or when the corpus is empty.
    pub fn play_changed(&self, decode: impl Fn(&[u8]), seal: impl Fn(Vec<u8>) -> Vec<u8>) {
        let corpus = self.corpus();
        let asked = std::env::var("FUZZ_SEED").ok();
        let asked = asked.map(|seed| seed.parse().expect("FUZZ_SEED is a number"));
        let run = Run {
            target: self,
            seed: asked.unwrap_or_else(fresh_seed),
            keeps: asked.is_some(),
            peak: Peak::new(),
        };
        println!("fuzz target {}: FUZZ_SEED={}", self.name, run.seed);
        for (name, bytes) in &corpus {
            run.input(name, bytes, &decode);
        }
        let rounds = std::env::var("PROPTEST_CASES").ok();
        let rounds = rounds
            .and_then(|rounds| rounds.parse().ok())
            .unwrap_or(ROUNDS);
        let (started, limit) = (
            Instant::now(),
            self.round_time * rounds.try_into().unwrap_or(u32::MAX),
        );
        for round in 0..rounds {
            if started.elapsed() > limit && !run.keeps {
                break;
            }
            let mut random = Random::new(run.seed ^ round.wrapping_mul(0xD6E8_FEB8_6659_FD93));
            let (base, other) = (&random.pick(&corpus).1, &random.pick(&corpus).1);
            let mut bytes = mutate(&mut random, base, other);
            if round % 2 == 0 {
                bytes = seal(bytes);
            }
            run.input(&format!("round {round}"), &bytes, &decode);
        }
        if run.keeps {
            let _ = fs::remove_file(self.folder.join("last"));
        }
    }

    fn write(&self, name: &str, bytes: &[u8]) -> std::io::Result<PathBuf> {
        fs::create_dir_all(&self.folder)?;
        let path = self.folder.join(name);
        fs::write(&path, bytes)?;
        Ok(path)
    }

    /// All files with their names, in order.
    fn corpus(&self) -> Vec<(String, Vec<u8>)> {
        let folder = self.folder.display();
        let entries = fs::read_dir(&self.folder)
            .unwrap_or_else(|error| panic!("{folder}: {error}; a target has a corpus"));
        let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        files.sort();
        let file = |path: PathBuf| {
            let name = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            let bytes =
                fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            (name, bytes)
        };
        let corpus: Vec<_> = files.into_iter().map(file).collect();
        assert!(
            !corpus.is_empty(),
            "{folder} is empty: a target has a corpus"
        );
        corpus
    }
}

/// Another one in every run, as proptest has it.
fn fresh_seed() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let time = since.map_or(0, |since| since.as_nanos() as u64);
    Random::new(time ^ u64::from(std::process::id()) << 32).number()
}

/// One run of a target.
struct Run<'a> {
    target: &'a Target,
    seed: u64,
    /// Whether each input is written before it is played.
    keeps: bool,
    peak: Peak,
}

impl Run<'_> {
    fn input(&self, name: &str, bytes: &[u8], decode: &impl Fn(&[u8])) {
        if self.keeps {
            let _ = self.target.write("last", bytes);
        }
        let (peak, started) = (self.peak.bytes(), Instant::now());
        let panicked = catch_unwind(AssertUnwindSafe(|| decode(bytes))).is_err();
        let taken = self.peak.bytes().saturating_sub(peak);
        let finding = if panicked {
            "panics".to_owned()
        } else if taken > ADDRESS_SPACE_BYTES_MAX {
            format!("takes {taken} bytes of memory")
        } else if started.elapsed() > Duration::from_secs(SECONDS_MAX) {
            format!("takes {:?}", started.elapsed())
        } else {
            return;
        };
        let hash = bytes.iter().fold(0xCBF2_9CE4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01B3)
        });
        let kept = match self.target.write(&format!("found-{hash:016x}"), bytes) {
            Ok(path) => format!(
                "the input is in {}: mend it and commit that",
                path.display()
            ),
            Err(error) => format!("the input cannot be written ({error}): {bytes:02x?}"),
        };
        panic!(
            "fuzz target {} {finding} with {name} of FUZZ_SEED={}; {kept}",
            self.target.name, self.seed
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::{Cell, RefCell};

    /// A target in a folder of its own, below the one cargo gives to tests' files.
    fn target(name: &'static str) -> (Target, PathBuf) {
        let folder = std::env::temp_dir().join(format!("fuzz-{name}-{}", std::process::id()));
        let target = Target::new(&folder.to_string_lossy(), name);
        target.write("one", b"{\"size\":4096}").expect("writes");
        target.write("two", &[7; 40]).expect("writes");
        (target, folder)
    }

    fn message(result: std::thread::Result<()>) -> String {
        let payload = result.expect_err("a finding");
        payload.downcast_ref::<String>().expect("a text").clone()
    }

    #[test]
    fn a_corpus_is_played_whole_and_then_changed() {
        let (target, folder) = target("whole");
        let (seen, sealed) = (RefCell::new(Vec::new()), Cell::new(0));
        target.play_changed(
            |bytes| seen.borrow_mut().push(bytes.to_vec()),
            |bytes| {
                sealed.set(sealed.get() + 1);
                bytes
            },
        );
        let seen = seen.into_inner();
        assert_eq!(seen[..2], [b"{\"size\":4096}".to_vec(), vec![7; 40]]);
        assert!(seen.len() > 50 && sealed.get() >= (seen.len() - 2) / 2);
        fs::remove_dir_all(folder).expect("is there");
    }

    #[test]
    fn a_panic_leaves_its_input_and_names_target_and_seed() {
        let (target, folder) = target("panic");
        let play = || target.play(|bytes| assert_ne!(bytes, [7; 40]));
        let said = message(catch_unwind(AssertUnwindSafe(play)));
        assert!(
            said.contains("panic panics with two of FUZZ_SEED="),
            "{said}"
        );
        let found = target.corpus();
        let found: Vec<_> = found
            .iter()
            .filter(|(name, _)| name.starts_with("found-"))
            .collect();
        assert!(found.len() == 1 && found[0].1 == [7; 40] && said.contains(&found[0].0));
        fs::remove_dir_all(folder).expect("is there");
    }

    #[test]
    fn memory_that_an_input_takes_is_a_finding() {
        let (target, folder) = target("memory");
        let play =
            || target.play(|_| drop(std::hint::black_box(Vec::<u8>::with_capacity(3 << 30))));
        let said = message(catch_unwind(AssertUnwindSafe(play)));
        assert!(said.contains("bytes of memory"), "{said}");
        fs::remove_dir_all(folder).expect("is there");
    }

    #[test]
    fn a_sample_that_is_missing_says_how_to_write_it() {
        let (target, folder) = target("missing");
        assert_eq!(target.sample("two", b"other"), [7; 40]);
        let missing = catch_unwind(AssertUnwindSafe(|| drop(target.sample("three", b"3"))));
        match std::env::var_os("FUZZ_WRITE") {
            Some(_) => assert_eq!(target.sample("three", b"4"), b"3"),
            None => assert!(message(missing).contains("FUZZ_WRITE=1")),
        }
        fs::remove_dir_all(folder).expect("is there");
    }
}
