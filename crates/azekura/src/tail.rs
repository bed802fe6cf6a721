//! New lines of the logs of this machine's attachments: `NAME.log` in their run directory, JSON as `azekura attach` writes it.
//!
//! The processes outlive the driver, and write to a file whether it runs or not. What was read is remembered in memory alone: a driver
//! that starts goes on with the lines of the last [`FIRST_MS`], of which the cluster keeps those once that it has.
//!
//! Invariants
//! - A look reads [`LOOK_BYTES_MAX`] at most, however much was written; the files take turns.
//! - A line that is not JSON (of a panic, or of a program that is older) is told as it is; one that is too long is cut by who keeps it.

use crate::log_window::now_ms;
use api::{LogComponent, LogEntry, LogLevel};
use csi::logs::Outbox;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

/// What is read of one file at a time: also the longest line.
const CHUNK_BYTES: usize = 64 << 10;
/// What is read of all files in one look.
const LOOK_BYTES_MAX: usize = 4 * CHUNK_BYTES;
/// Files that are followed: more than a machine has loop devices in use.
const FILES_MAX: usize = 4096;
/// How old lines may be that a driver finds when it starts.
const FIRST_MS: u64 = 120_000;

/// What was read of a file.
struct Place {
    inode: u64,
    offset: u64,
    /// What was there before the driver: where it ends.
    old_bytes: u64,
    /// Of older lines nothing is told, as far as they were there before the driver.
    from_ms: u64,
}

impl Place {
    /// The beginning of a file that nothing was read of, all of which is new.
    fn new(inode: u64) -> Self {
        Self {
            inode,
            offset: 0,
            old_bytes: 0,
            from_ms: 0,
        }
    }

    /// A file that was there before the driver.
    fn found(inode: u64, bytes: u64) -> Self {
        Self {
            inode,
            offset: bytes.saturating_sub(CHUNK_BYTES as u64),
            old_bytes: bytes,
            from_ms: now_ms().saturating_sub(FIRST_MS),
        }
    }

    /// How old a line may be that ends there: one that the driver saw coming is told whether it has a time or not.
    fn since_ms(&self, end: u64) -> u64 {
        match end < self.old_bytes {
            true => self.from_ms,
            false => 0,
        }
    }
}

struct State {
    folder: PathBuf,
    places: BTreeMap<String, Place>,
    /// The file that was read last: those behind it are next.
    last: String,
    /// Whether every file there was has been seen.
    began: bool,
}

/// Puts new lines into an outbox. Cheap to clone.
#[derive(Clone)]
pub struct Tail {
    state: Arc<Mutex<State>>,
    outbox: Outbox,
}

impl Tail {
    /// Of the attachments that are recorded in this folder.
    pub fn new(folder: PathBuf, outbox: Outbox) -> Self {
        let state = State {
            folder,
            places: BTreeMap::new(),
            last: String::new(),
            began: false,
        };
        Self {
            state: Arc::new(Mutex::new(state)),
            outbox,
        }
    }

    /// One look at all files. What cannot be read is looked at again in the next one.
    pub fn look(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let names = state.names();
        state.places.retain(|name, _| names.contains(name));
        let first = names.partition_point(|name| *name <= state.last);
        let mut left = LOOK_BYTES_MAX;
        for turn in 0..names.len() {
            let name = &names[(first + turn) % names.len()];
            if left < CHUNK_BYTES {
                break;
            }
            left -= state.read(name, &self.outbox).unwrap_or(0);
            state.last.clone_from(name);
        }
        // Files that come later are read from their beginning.
        state.began |= left >= CHUNK_BYTES;
    }

    /// Reads what is left of one file, which is to be removed or begun anew.
    pub fn finish(&self, name: &str) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        for _ in 0..LOOK_BYTES_MAX / CHUNK_BYTES {
            if !matches!(state.read(name, &self.outbox), Ok(1..)) {
                break;
            }
        }
        state.places.remove(name);
        // Its successor is new.
        state.places.insert(name.to_owned(), Place::new(0));
    }
}

impl State {
    /// Names of attachments with a log, in order.
    fn names(&self) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(&self.folder) else {
            return Vec::new();
        };
        let names = entries.filter_map(|entry| {
            let name = entry.ok()?.file_name().into_string().ok()?;
            Some(name.strip_suffix(".log")?.to_owned())
        });
        let mut names: Vec<String> = names.take(FILES_MAX).collect();
        names.sort();
        names
    }

    /// Reads the next lines of a file; how many bytes.
    fn read(&mut self, name: &str, outbox: &Outbox) -> io::Result<usize> {
        let file = File::open(self.folder.join(format!("{name}.log")))?;
        let about = file.metadata()?;
        let began = self.began;
        let place = self.places.entry(name.to_owned());
        let place = place.or_insert_with(|| match began {
            true => Place::new(about.ino()),
            false => Place::found(about.ino(), about.len()),
        });
        if place.inode != about.ino() || about.len() < place.offset {
            *place = Place::new(about.ino());
        }
        let mut chunk = vec![0; CHUNK_BYTES.min(left(about.len(), place.offset))];
        let read = file.read_at(&mut chunk, place.offset)?;
        chunk.truncate(read);
        let whole = match chunk.iter().rposition(|byte| *byte == b'\n') {
            Some(end) => end + 1,
            // It is not written to its end, unless it is longer than any.
            None if read < CHUNK_BYTES => 0,
            None => read,
        };
        let mut end = place.offset;
        for text in chunk[..whole].split(|byte| *byte == b'\n') {
            end += text.len() as u64;
            if let Some(line) = entry(name, text, place.since_ms(end)) {
                outbox.push(line);
            }
            // Behind the end of the line.
            end += 1;
        }
        place.offset += whole as u64;
        Ok(whole)
    }
}

fn left(length: u64, offset: u64) -> usize {
    usize::try_from(length.saturating_sub(offset)).unwrap_or(usize::MAX)
}

/// The line of a log; nothing: it is empty, or too old.
fn entry(name: &str, text: &[u8], from_ms: u64) -> Option<LogEntry> {
    let text = String::from_utf8_lossy(text);
    let text = text.trim();
    if text.is_empty() {
        return None;
    }
    let parsed = serde_json::from_str::<Map<String, Value>>(text).ok();
    let mut entry = match parsed.as_ref().and_then(parse) {
        Some(entry) => entry,
        // When it was written nothing says.
        None if from_ms > 0 => return None,
        None => plain(text, parsed.as_ref()),
    };
    // The process knows it by the name that the driver has for it, too.
    let volume = entry.fields.entry("volume".to_owned());
    volume.or_insert_with(|| name.to_owned());
    entry
        .fields
        .entry("attachment".to_owned())
        .or_insert_with(|| name.to_owned());
    (entry.at_ms >= from_ms).then_some(entry)
}

/// What is no line of a log: the error that ended the process, or what the language or a library printed.
fn plain(text: &str, parsed: Option<&Map<String, Value>>) -> LogEntry {
    let message = parsed.and_then(|fields| fields.get("message")?.as_str());
    LogEntry {
        component: LogComponent::Attach,
        at_ms: now_ms(),
        level: match message {
            Some(_) => LogLevel::Error,
            None => LogLevel::Warn,
        },
        target: "azekura::attach".to_owned(),
        message: message.unwrap_or(text).to_owned(),
        fields: BTreeMap::new(),
    }
}

/// A line as `tracing` writes it in JSON.
fn parse(line: &Map<String, Value>) -> Option<LogEntry> {
    let said = line.get("fields")?.as_object()?;
    let level = line.get("level")?.as_str()?.to_lowercase();
    let mut fields = BTreeMap::new();
    let spans = line.get("spans").and_then(Value::as_array);
    // What the line itself says counts more than the spans around it, the inner ones more than the outer ones.
    let around = spans
        .into_iter()
        .flatten()
        .rev()
        .filter_map(Value::as_object);
    let around = around.flatten().filter(|(name, _)| *name != "name");
    for (name, value) in said
        .iter()
        .filter(|(name, _)| *name != "message")
        .chain(around)
    {
        let value = match value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        fields.entry(name.clone()).or_insert(value);
    }
    let message = said.get("message").and_then(Value::as_str);
    Some(LogEntry {
        component: LogComponent::Attach,
        at_ms: unix_ms(line.get("timestamp")?.as_str()?)?,
        level: serde_json::from_value(Value::String(level)).ok()?,
        target: line.get("target")?.as_str()?.to_owned(),
        message: message.unwrap_or_default().to_owned(),
        fields,
    })
}

/// Unix milliseconds of a time such as `2026-11-27T09:12:04.120345Z` (RFC 3339, in UTC as `tracing` writes it).
fn unix_ms(text: &str) -> Option<u64> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let numbers = |text: &str, mark: char| -> Option<[u64; 3]> {
        let parts: Option<Vec<u64>> = text.split(mark).map(|part| part.parse().ok()).collect();
        parts?.try_into().ok()
    };
    let [year, month, day] = numbers(date, '-')?;
    let (time, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let [hour, minute, second] = numbers(time, ':')?;
    let good = (1970..=9999).contains(&year) && (1..=12).contains(&month);
    if !good || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let thousandths: u64 = format!("{fraction:0<3}").get(..3)?.parse().ok()?;
    // Days since 1 March of year 0, whose leap day is the last day of a year (Hinnant, chrono-compatible low-level date algorithms).
    let (year, month) = match month {
        1 | 2 => (year - 1, month + 9),
        _ => (year, month - 3),
    };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1;
    let seconds = (days - 719_468) * 86_400 + hour * 3600 + minute * 60 + second;
    Some(seconds * 1000 + thousandths)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::io::Write;

    struct Folder(PathBuf);

    impl Folder {
        fn new(test: &str) -> Self {
            let name = format!("azekura-tail-{test}-{}", std::process::id());
            let folder = std::env::temp_dir().join(name);
            std::fs::create_dir_all(&folder).expect("a folder");
            Self(folder)
        }

        fn write(&self, name: &str, text: &str) {
            let mut options = File::options();
            let file = options.create(true).append(true);
            let file = file.open(self.0.join(format!("{name}.log")));
            file.expect("a file")
                .write_all(text.as_bytes())
                .expect("room");
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn line(at: &str, text: &str) -> String {
        format!(
            "{{\"timestamp\":\"{at}\",\"level\":\"INFO\",\"fields\":{{\"message\":\"{text}\",\"count\":7}},\"target\":\"client\",\
             \"span\":{{\"volume\":\"db\",\"name\":\"attachment\"}},\"spans\":[{{\"volume\":\"outer\",\"x\":\"y\",\"name\":\"o\"}},\
             {{\"volume\":\"db\",\"name\":\"attachment\"}}]}}\n"
        )
    }

    fn texts(outbox: &Outbox) -> Vec<String> {
        let lines = outbox.waiting().into_iter();
        lines.map(|line| line.message).collect()
    }

    const LATER: &str = "2100-01-01T00:00:00.5Z";

    #[test]
    fn times_of_lines_are_read() {
        for (text, expected) in [
            ("1970-01-01T00:00:00Z", Some(0)),
            ("2026-11-23T17:59:15.007123Z", Some(1_795_456_755_007)),
            ("2024-02-29T23:59:59.9Z", Some(1_709_251_199_900)),
            ("2000-03-01T00:00:00Z", Some(951_868_800_000)),
            ("2026-11-23 17:59:15Z", None),
            ("2026-13-01T00:00:00Z", None),
            ("2026-11-23T17:59:15.ä7Z", None),
            ("", None),
        ] {
            assert_eq!(unix_ms(text), expected, "{text}");
        }
    }

    #[test]
    fn a_line_has_the_fields_of_its_spans_and_names_the_attachment() {
        let text = line("2026-11-23T17:59:15.007Z", "opened");
        let found = entry("volume-3", text.as_bytes(), 0).expect("a line");
        assert_eq!(found.at_ms, 1_795_456_755_007);
        assert_eq!((&*found.message, found.level), ("opened", LogLevel::Info));
        let fields: Vec<_> = found
            .fields
            .iter()
            .map(|(name, value)| (&**name, &**value))
            .collect();
        let wanted = [
            ("attachment", "volume-3"),
            ("count", "7"),
            ("volume", "db"),
            ("x", "y"),
        ];
        assert_eq!(fields, wanted);
        let panic = entry("volume-3", b"thread 'main' panicked", 0).expect("a line");
        assert_eq!(
            (panic.level, &*panic.fields["volume"]),
            (LogLevel::Warn, "volume-3")
        );
        let error = entry("v", br#"{"code":"failed","message":"no device"}"#, 0).expect("a line");
        assert_eq!(
            (error.level, &*error.message),
            (LogLevel::Error, "no device")
        );
        assert_eq!(
            entry("v", b"thread 'main' panicked", 5),
            None,
            "it may be old"
        );
        assert_eq!(entry("v", b"  ", 0), None);
    }

    #[test]
    fn a_driver_that_starts_tells_new_lines_and_goes_on_where_it_was() {
        let folder = Folder::new("starts");
        folder.write("volume-1", &line("2001-01-01T00:00:00Z", "old"));
        folder.write("volume-1", &line(LATER, "recent"));
        let outbox = Outbox::default();
        let tail = Tail::new(folder.0.clone(), outbox.clone());
        tail.look();
        assert_eq!(texts(&outbox), ["recent"]);
        folder.write("volume-1", &line(LATER, "next"));
        let half = line(LATER, "half");
        let (begin, end) = half.split_at(30);
        folder.write("volume-1", begin);
        folder.write("volume-2", &line("2001-01-01T00:00:00Z", "a new file"));
        tail.look();
        // The files take turns.
        let found: BTreeSet<String> = texts(&outbox).into_iter().collect();
        let wanted = ["recent", "next", "a new file"].map(str::to_owned);
        assert_eq!(found, wanted.into());
        folder.write("volume-1", end);
        tail.look();
        tail.look();
        assert_eq!(texts(&outbox).last().map(String::as_str), Some("half"));
        assert_eq!(texts(&outbox).len(), 4);
    }

    #[test]
    fn the_panic_of_an_attachment_that_ran_before_the_driver_is_told() {
        let folder = Folder::new("panic");
        folder.write("volume-1", "an old panic\n");
        folder.write("volume-1", &line(LATER, "recent"));
        folder.write("volume-1", "half of");
        let outbox = Outbox::default();
        let tail = Tail::new(folder.0.clone(), outbox.clone());
        tail.look();
        assert_eq!(texts(&outbox), ["recent"]);
        let error = r#"{"code":"failed","message":"no device"}"#;
        folder.write("volume-1", &format!(" a panic\n{error}\n"));
        tail.look();
        assert_eq!(texts(&outbox), ["recent", "half of a panic", "no device"]);
    }

    #[test]
    fn the_last_words_of_an_attachment_are_told_and_the_next_one_begins_anew() {
        let folder = Folder::new("finish");
        let outbox = Outbox::default();
        let tail = Tail::new(folder.0.clone(), outbox.clone());
        tail.look();
        folder.write("volume-1", &line(LATER, "the device is gone"));
        tail.finish("volume-1");
        assert_eq!(texts(&outbox), ["the device is gone"]);
        // Written anew, and longer than before: the same inode may come again.
        File::create(folder.0.join("volume-1.log")).expect("a file");
        folder.write("volume-1", &line(LATER, "the device is there again"));
        tail.look();
        assert_eq!(texts(&outbox).len(), 2);
        tail.finish("no such");
    }

    #[test]
    fn one_file_that_is_written_without_end_leaves_others_their_turn() {
        let folder = Folder::new("turns");
        let outbox = Outbox::default();
        let tail = Tail::new(folder.0.clone(), outbox.clone());
        tail.look();
        let long = "x".repeat(10 * CHUNK_BYTES);
        for name in ["a", "b", "c", "d", "e"] {
            folder.write(name, &long);
        }
        folder.write("f", &line(LATER, "short"));
        tail.look();
        assert_eq!(outbox.waiting().len(), 4, "the bound of a look");
        tail.look();
        assert!(texts(&outbox).contains(&"short".to_owned()));
    }
}
