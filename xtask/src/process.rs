//! Running other programs: found on PATH, streamed line by line, stopped by process id.

use anyhow::{Context, Result};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The folder of the workspace's `Cargo.toml`.
pub fn workspace_root() -> PathBuf {
    let xtask = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().map(Path::to_path_buf).unwrap_or(xtask)
}

/// `cargo` as the one that runs this task.
pub fn cargo() -> Command {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    Command::new(program)
}

/// Where a program is: PATH, then the folders for system programs a user's PATH often lacks.
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    let mut folders = std::env::split_paths(&path).chain(system);
    folders.find_map(|folder| {
        let candidate = folder.join(name);
        candidate.is_file().then_some(candidate)
    })
}

/// The effective user id, read from `/proc` to need no library.
pub fn is_root() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("Uid:"));
    line.and_then(|line| line.split_whitespace().nth(2)) == Some("0")
}

/// Runs a command with both outputs passed through as they come, and returns whether it succeeded with the
/// lines that `keep` wanted.
pub fn stream(
    command: &mut Command,
    keep: impl Fn(&str) -> bool + Sync,
) -> Result<(bool, Vec<String>)> {
    let name = command.get_program().to_string_lossy().into_owned();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start `{name}`"))?;
    let stdout = child.stdout.take().context("stdout was piped")?;
    let stderr = child.stderr.take().context("stderr was piped")?;
    let keep = &keep;
    let (mut kept, more) = std::thread::scope(|scope| {
        let errors = scope.spawn(move || forward(stderr, std::io::stderr(), keep));
        let output = forward(stdout, std::io::stdout(), keep);
        (output, errors.join().unwrap_or_default())
    });
    kept.extend(more);
    let status = child
        .wait()
        .with_context(|| format!("cannot wait for `{name}`"))?;
    Ok((status.success(), kept))
}

fn forward(
    from: impl std::io::Read,
    mut to: impl Write,
    keep: &(impl Fn(&str) -> bool + Sync),
) -> Vec<String> {
    let mut kept = Vec::new();
    let mut reader = BufReader::new(from);
    let mut line = Vec::new();
    loop {
        line.clear();
        match reader.read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return kept,
            Ok(_) => {}
        }
        let _ = to.write_all(&line);
        let text = String::from_utf8_lossy(&line);
        if keep(text.trim_end()) {
            kept.push(text.trim_end().to_owned());
        }
    }
}

/// Where cargo puts what it builds.
pub fn target_directory() -> Result<PathBuf> {
    let metadata = metadata()?;
    let directory = metadata["target_directory"]
        .as_str()
        .context("cargo metadata names no target")?;
    Ok(PathBuf::from(directory))
}

/// `cargo metadata` of the workspace's own packages.
pub fn metadata() -> Result<serde_json::Value> {
    let output = cargo()
        .args([
            "metadata",
            "--no-deps",
            "--offline",
            "--format-version",
            "1",
        ])
        .stderr(Stdio::inherit())
        .output()
        .context("cannot run cargo metadata")?;
    anyhow::ensure!(
        output.status.success(),
        "cargo metadata failed: see its message above"
    );
    serde_json::from_slice(&output.stdout)
        .context("cargo metadata printed something else than JSON")
}

/// Whether a mounted ext4 may be grown: that takes CAP_SYS_RESOURCE, which root in a container often lacks.
pub fn may_grow_ext4() -> bool {
    has_capability(24)
}

/// Whether this process may mount and unmount: that takes CAP_SYS_ADMIN, which root in a container often lacks.
pub fn may_mount() -> bool {
    has_capability(21)
}

/// Whether a capability is in effect, by its number in `capability.h`.
fn has_capability(number: u32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let bits = line.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok());
    bits.is_some_and(|bits| (bits >> number) & 1 != 0)
}
