//! What a run that did not end well leaves on this machine: mounts, devices and their processes.

use super::{NODE, attachments};
use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

/// Runs a command that must succeed and returns what it printed.
pub fn output(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("cannot start `{name}`"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{name}: {}", said.trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Takes away the mounts and devices below `folder`, and the folder.
pub fn clean(binary: &Path, folder: &Path) -> Result<()> {
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let attachments = attachments(folder);
    let ours = mounts
        .lines()
        .filter_map(|line| line.split(' ').nth(1))
        .filter(|point| Path::new(point).starts_with(folder))
        .filter(|point| !Path::new(point).starts_with(&attachments));
    let ours: Vec<&str> = ours.collect();
    for point in ours.iter().rev() {
        println!("    unmounting {point}, left by a run that did not end well");
        output(Command::new("umount").arg("-l").arg(point))?;
    }
    for entry in fs::read_dir(&attachments).into_iter().flatten() {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "json") {
            remove_attachment(binary, &path, &attachments)?;
        }
    }
    match fs::remove_dir_all(folder) {
        Err(cause) if cause.kind() != std::io::ErrorKind::NotFound => {
            Err(cause).with_context(|| format!("cannot delete {}", folder.display()))
        }
        _ => Ok(()),
    }
}

/// Ends an attachment whose cluster may be gone: its process is killed, then what that left is taken away.
fn remove_attachment(binary: &Path, record: &Path, attachments: &Path) -> Result<()> {
    let name = record.file_stem().unwrap_or_default().to_string_lossy();
    println!("    ending the attachment {name}, left by a run that did not end well");
    let text = fs::read_to_string(record)?;
    let state: serde_json::Value = serde_json::from_str(&text)?;
    let pid = state["pid"].as_u64().unwrap_or(0);
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    if String::from_utf8_lossy(&line).contains(&*attachments.to_string_lossy()) {
        output(Command::new("kill").args(["-KILL", &pid.to_string()]))?;
    }
    let mut detach = Command::new(binary);
    // Nobody listens at port 1: this machine alone is cleaned, whatever cluster is at the usual address.
    detach.args(["--api", "http://127.0.0.1:1", "detach", &name]);
    detach
        .args(["--client", NODE, "--run-dir"])
        .arg(attachments);
    // Says that no node answers, after the device and the mount are gone.
    let _ = output(&mut detach);
    Ok(())
}
