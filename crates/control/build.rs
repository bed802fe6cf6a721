//! Puts the built pages into the program: `ui/dist`, or the folder in `AZEKURA_UI_DIST`. Nothing is built here and no other
//! program is run; without files the server shows a page that says how to build them.

// A build script reads files and says what it found.
#![allow(clippy::disallowed_methods)]

use std::fmt::Write;
use std::path::{Path, PathBuf};

/// Files at most; a build of the pages has about a dozen.
const FILES_MAX: usize = 500;

fn main() {
    println!("cargo::rerun-if-env-changed=AZEKURA_UI_DIST");
    let here = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let dist = match std::env::var_os("AZEKURA_UI_DIST") {
        Some(folder) => PathBuf::from(folder),
        None => here.join("../../ui/dist"),
    };
    println!("cargo::rerun-if-changed={}", dist.display());
    let mut files = Vec::new();
    find(&dist, &mut files);
    files.sort();
    assert!(files.len() <= FILES_MAX, "{} is no build", dist.display());
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets it"));
    let mut code = "&[\n".to_owned();
    for (number, file) in files.iter().enumerate() {
        let name = file.strip_prefix(&dist).expect("it was found there");
        let name = name.to_str().expect("file names of the pages are text");
        // A copy: the pages may be built again while the compiler reads.
        let copy = format!("page-{number}");
        let copied = std::fs::copy(file, out.join(&copy));
        copied.expect("it was found a moment ago, and the output folder can be written");
        let there = format!("concat!(env!(\"OUT_DIR\"), \"/{copy}\")");
        writeln!(code, "    ({name:?}, include_bytes!({there})),").expect("it is a string");
    }
    code.push_str("]\n");
    std::fs::write(out.join("pages.rs"), code).expect("the output folder can be written");
}

/// Files below a folder, but for hidden ones. None when there is no such folder.
fn find(folder: &Path, files: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        let path = entry.path();
        let hidden = entry.file_name().to_string_lossy().starts_with('.');
        match path.is_dir() {
            _ if hidden => {}
            true => find(&path, files),
            false => files.push(path),
        }
    }
}
