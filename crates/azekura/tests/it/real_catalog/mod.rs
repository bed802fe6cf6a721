//! The catalog lost, backed up, restored and moved, with real processes and a real etcd on loopback.

mod moving;
mod online;
mod rebuild;

use crate::support::{AZEKURA, Directory, Node, nbdcopy, noise};
use serde_json::Value;
use std::path::Path;

const MIB: usize = 1 << 20;

/// What volumes hold, by name.
type Contents = Vec<(String, Vec<u8>)>;

/// Overwrites the start of a volume with bytes of its own.
fn write(directory: &Directory, node: &Node, volume: &str, seed: u64, bytes: usize) -> Vec<u8> {
    let content = noise(seed, bytes);
    let file = directory.write("in", &content);
    nbdcopy(&file.display().to_string(), &node.export(volume));
    content
}

/// Every byte of a volume; what was never written is zeros.
fn check(directory: &Directory, node: &Node, volume: &str, content: &[u8]) {
    let file = directory.path("out");
    let _ = std::fs::remove_file(&file);
    nbdcopy(&node.export(volume), &file.display().to_string());
    let found = std::fs::read(&file).unwrap();
    let (start, rest) = found.split_at(content.len());
    assert!(start == content, "{volume} has other bytes");
    assert!(
        rest.iter().all(|&byte| byte == 0),
        "{volume} has more bytes"
    );
}

fn check_all(directory: &Directory, node: &Node, contents: &Contents) {
    for (volume, content) in contents {
        check(directory, node, volume, content);
    }
}

/// Runs a verb that works without a node; its report.
fn catalog(words: &[&str]) -> Result<Value, String> {
    let mut command = std::process::Command::new(AZEKURA);
    let output = command
        .arg("catalog")
        .args(words)
        .args(["-o", "json"])
        .output()
        .unwrap();
    match output.status.success() {
        true => Ok(serde_json::from_slice(&output.stdout).unwrap()),
        false => Err(String::from_utf8(output.stderr).unwrap()),
    }
}

fn text(path: &Path) -> String {
    path.display().to_string()
}
