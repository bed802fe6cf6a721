//! `azekura support-bundle`: what a helper needs to know of the cluster and of this machine, in one archive.
//!
//! Invariants
//! - No token, password or private key is in it: whatever is taken, from files and from the API, goes through `scrub.rs`. The API gives
//!   none away, but people write them into labels, addresses and notes.
//! - No data of volumes is in it; their names, labels and sizes are.
//! - What could not be had is named in it, with the reason: a cluster that is broken has gaps.
//! - The archive is complete or not there.

mod scrub;

use crate::cli::{BundleArgs, Form, PreflightArgs};
use crate::output::{Done, render};
use crate::preflight;
use crate::remote::{Endpoint, Remote};
use anyhow::{Context, bail};
use api::http::PREFIX;
use flate2::Compression;
use flate2::write::GzEncoder;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// So much of the end of each log.
const LOG_BYTES_MAX: u64 = 16 << 20;
/// Largest configuration.
const CONFIG_BYTES_MAX: u64 = 1 << 20;
/// Answers of the API: name in the archive, and path.
const ANSWERS: [(&str, &str); 23] = [
    ("cluster", "/cluster"),
    ("status", "/status"),
    ("resiliency", "/resiliency"),
    ("space", "/space"),
    ("events", "/events?limit=500"),
    ("logs", "/logs?limit=2000"),
    ("tasks", "/tasks?limit=1000"),
    ("alerts", "/alerts?state=all&limit=800"),
    ("alert-targets", "/alert-targets"),
    ("kubernetes", "/kubernetes"),
    ("stores", "/stores"),
    ("groups", "/groups"),
    ("settings", "/settings"),
    ("disks", "/disks"),
    ("containers", "/containers"),
    ("volumes", "/volumes?limit=1000"),
    ("snapshots", "/snapshots?limit=1000"),
    ("group-snapshots", "/group-snapshots"),
    ("capacity-1", "/capacity?rf=1"),
    ("capacity-2", "/capacity?rf=2"),
    ("capacity-3", "/capacity?rf=3"),
    ("audit", "/audit?limit=1000"),
    ("audit-drivers", "/audit?limit=1000&drivers=true"),
];
/// Files of the kernel that describe the machine.
const KERNEL: [&str; 12] = [
    "/proc/version",
    "/proc/cmdline",
    "/proc/cpuinfo",
    "/proc/meminfo",
    "/proc/loadavg",
    "/proc/uptime",
    "/proc/mounts",
    "/proc/partitions",
    "/proc/diskstats",
    "/proc/pressure/io",
    "/proc/pressure/cpu",
    "/proc/pressure/memory",
];

/// An archive that is being made.
struct Bundle<W: Write> {
    archive: tar::Builder<W>,
    modified: u64,
    missing: Vec<String>,
    files: usize,
}

impl<W: Write> Bundle<W> {
    fn new(out: W) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        Self {
            archive: tar::Builder::new(out),
            modified: now.map_or(0, |now| now.as_secs()),
            missing: Vec::new(),
            files: 0,
        }
    }

    fn add(&mut self, name: &str, content: &[u8]) -> std::io::Result<()> {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o600);
        header.set_mtime(self.modified);
        self.files += 1;
        let path = format!("azekura-support/{name}");
        self.archive.append_data(&mut header, path, content)
    }

    fn lacks(&mut self, name: &str, reason: impl std::fmt::Display) {
        self.missing.push(format!("{name}: {reason}\n"));
    }

    fn answers(&mut self, remote: &Remote) -> std::io::Result<()> {
        for (name, path) in ANSWERS {
            match remote.get::<serde_json::Value>(&format!("{PREFIX}{path}")) {
                Ok(answer) => self.answer(&format!("api/{name}.json"), answer)?,
                Err(error) => self.lacks(&format!("api/{name}"), error),
            }
        }
        Ok(())
    }

    /// An answer, without secrets.
    fn answer(&mut self, name: &str, mut answer: serde_json::Value) -> std::io::Result<()> {
        scrub::scrub_answer(&mut answer);
        let text = serde_json::to_string_pretty(&answer)? + "\n";
        self.add(name, text.as_bytes())
    }

    fn machine(&mut self) -> std::io::Result<()> {
        for path in KERNEL {
            match fs::read(path) {
                Ok(content) => {
                    let text = scrub::scrub(&String::from_utf8_lossy(&content));
                    self.add(&format!("machine{path}"), text.as_bytes())?;
                }
                Err(error) => self.lacks(path, error),
            }
        }
        let arguments = PreflightArgs {
            config: None,
            attach: true,
            fix: false,
        };
        match preflight::report(&arguments) {
            Ok(report) => {
                let text = render(&report, Form::Json);
                self.answer("machine/preflight.json", serde_json::from_str(&text)?)
            }
            Err(error) => {
                self.lacks("machine/preflight", format!("{error:#}"));
                Ok(())
            }
        }
    }

    /// The end of a text file, without secrets.
    fn text(&mut self, folder: &str, number: usize, path: &Path, most: u64) -> std::io::Result<()> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let name = format!("{folder}/{number}-{name}");
        match tail(path, most) {
            Ok(text) => self.add(&name, scrub::scrub(&text).as_bytes()),
            Err(error) => {
                self.lacks(&path.display().to_string(), error);
                Ok(())
            }
        }
    }

    /// Says what is in it, and ends it.
    fn finish(mut self) -> std::io::Result<(W, usize)> {
        let text = format!(
            "Azekura {}, support bundle.\n\napi/: answers of the cluster. machine/: the machine this was made on. config/, log/: \
             files that were named, without tokens, passwords and keys.\n\nMissing:\n{}",
            env!("CARGO_PKG_VERSION"),
            if self.missing.is_empty() {
                "nothing\n".to_owned()
            } else {
                self.missing.concat()
            }
        );
        self.add("README.txt", text.as_bytes())?;
        Ok((self.archive.into_inner()?, self.files))
    }
}

/// The end of a file as text.
fn tail(path: &Path, most: u64) -> std::io::Result<String> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(most)))?;
    let mut bytes = Vec::new();
    file.take(most).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// `support-bundle`.
pub fn run(endpoint: Endpoint<'_>, arguments: &BundleArgs, form: Form) -> anyhow::Result<String> {
    if arguments.out.exists() {
        bail!(
            "{} is there already: name another file with --out",
            arguments.out.display()
        );
    }
    let remote = Remote::new(endpoint)?;
    let mut unfinished = arguments.out.clone().into_os_string();
    unfinished.push(".part");
    let unfinished = Path::new(&unfinished);
    let made = make(&remote, arguments, unfinished);
    let (files, missing) = match made {
        Ok(made) => made,
        Err(error) => {
            let _ = fs::remove_file(unfinished);
            return Err(error);
        }
    };
    fs::rename(unfinished, &arguments.out)
        .with_context(|| format!("cannot rename {}", unfinished.display()))?;
    for line in &missing {
        eprint!("azekura: not in it: {line}");
    }
    let done = Done {
        done: format!("{} files are in {}", files, arguments.out.display()),
    };
    Ok(render(&done, form))
}

fn make(
    remote: &Remote,
    arguments: &BundleArgs,
    path: &Path,
) -> anyhow::Result<(usize, Vec<String>)> {
    let file = File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("cannot make {}", path.display()))?;
    let mut bundle = Bundle::new(GzEncoder::new(file, Compression::default()));
    let filled = (|| {
        bundle.answers(remote)?;
        bundle.machine()?;
        for (number, config) in arguments.configs.iter().enumerate() {
            bundle.text("config", number + 1, config, CONFIG_BYTES_MAX)?;
        }
        for (number, log) in arguments.logs.iter().enumerate() {
            bundle.text("log", number + 1, log, LOG_BYTES_MAX)?;
        }
        let missing = bundle.missing.clone();
        let (gzip, files) = bundle.finish()?;
        gzip.finish()?.sync_all()?;
        Ok::<_, std::io::Error>((files, missing))
    })();
    filled.with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::read::GzDecoder;

    fn names(bytes: &[u8]) -> Vec<String> {
        let mut archive = tar::Archive::new(GzDecoder::new(bytes));
        let entries = archive.entries().expect("it is an archive");
        let name = |entry: std::io::Result<tar::Entry<'_, _>>| {
            let entry = entry.expect("it is whole");
            entry.path().expect("it has a name").display().to_string()
        };
        entries.map(name).collect()
    }

    #[test]
    fn what_is_missing_is_named() {
        let gzip = GzEncoder::new(Vec::new(), Compression::fast());
        let mut bundle = Bundle::new(gzip);
        bundle.add("api/status.json", b"{}").expect("memory");
        let nowhere = Path::new("/no/such/log");
        bundle.text("log", 1, nowhere, 10).expect("memory");
        bundle.machine().expect("memory");
        assert!(bundle.missing[0].contains("/no/such/log"));
        let (gzip, files) = bundle.finish().expect("memory");
        let names = names(&gzip.finish().expect("memory"));
        assert_eq!(names.len(), files);
        assert!(names.contains(&"azekura-support/machine/proc/meminfo".to_owned()));
        assert_eq!(
            names.last().map(String::as_str),
            Some("azekura-support/README.txt")
        );
    }

    /// Everything that is in an archive, as one text.
    fn content(bytes: &[u8]) -> String {
        let mut archive = tar::Archive::new(GzDecoder::new(bytes));
        let mut text = String::new();
        for entry in archive.entries().expect("it is an archive") {
            let mut entry = entry.expect("it is whole");
            entry.read_to_string(&mut text).expect("it is text");
        }
        text
    }

    #[test]
    fn no_secret_that_somebody_planted_is_in_it() {
        const PLANT: &str = "hush-4711";
        let planted = serde_json::json!({
            "status": {"nodes": [{"name": "n1", "api": format!("https://eve:{PLANT}@n1:7400")}]},
            "volumes": [{"name": "v", "description": format!("the password is {PLANT}"), "labels": {"secret": PLANT}}],
            "snapshots": [{"name": "s", "labels": {"api-token": PLANT}}],
            "alert-targets": [
                {"name": "hook", "address": format!("https://eve:{PLANT}@hook.test/{}?key={PLANT}", "a"), "signed": true},
                {"name": "mail", "user": "eve", "password": PLANT, "error": format!("535 smtp://eve:{PLANT}@mail refuses")},
            ],
            "alerts": [{"note": format!("azk_{PLANT} was lost"), "message": format!("see https://x/?t={PLANT}")}],
            "events": [{"message": format!("Authorization: Bearer {PLANT}")}],
            "tasks": [{"message": format!("http://u:{PLANT}@etcd:2379 does not answer")}],
            "kubernetes": [{"parameters": {"csi.storage.k8s.io/node-stage-secret": PLANT}}],
            "logs": {"lines": [{"message": "request", "fields": {"cookie": PLANT, "url": format!("http://a/b?c={PLANT}")}}]},
            "audit": [{"after": {"hash": PLANT, "endpoints": [format!("http://u:{PLANT}@e:2379")]}, "before": {"token": PLANT}}],
            "settings": [{"key": "smtp-password", "value": PLANT}],
        });
        let config = std::env::temp_dir().join(format!("azekura-planted-{}", std::process::id()));
        let text = format!(
            "[catalog]\netcd = [\"http://root:{PLANT}@e:2379\"]\nadmin_password = \"{PLANT}\"\nhook = \"https://h/x?k={PLANT}\"\n\
             token = \"azk_{PLANT}\"\n-----BEGIN PRIVATE KEY-----\n{PLANT}\n-----END PRIVATE KEY-----\n"
        );
        fs::write(&config, text).expect("a temporary file");
        let gzip = GzEncoder::new(Vec::new(), Compression::fast());
        let mut bundle = Bundle::new(gzip);
        for (name, answer) in planted.as_object().expect("an object") {
            let name = format!("api/{name}.json");
            bundle.answer(&name, answer.clone()).expect("memory");
        }
        bundle.text("config", 1, &config, 1 << 20).expect("memory");
        fs::remove_file(&config).expect("it was made here");
        let (gzip, _) = bundle.finish().expect("memory");
        let text = content(&gzip.finish().expect("memory"));
        let around = text.find(PLANT).map(|at| &text[at.saturating_sub(80)..at]);
        assert_eq!(around, None);
        for kept in ["hook.test", "etcd:2379", "\"eve\"", "535 smtp://"] {
            assert!(text.contains(kept), "{kept} not in {text}");
        }
    }

    #[test]
    fn only_the_end_of_a_log_is_taken() {
        let path = std::env::temp_dir().join(format!("azekura-bundle-{}", std::process::id()));
        fs::write(&path, "0123456789").expect("a temporary file");
        assert_eq!(tail(&path, 4).expect("it is there"), "6789");
        assert_eq!(tail(&path, 40).expect("it is there"), "0123456789");
        fs::remove_file(&path).expect("it was made here");
    }
}
