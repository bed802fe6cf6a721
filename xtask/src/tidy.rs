//! `cargo xtask tidy`: what the compiler does not check.
//!
//! - `xtask/crates.toml` is what Cargo.toml files say: who may depend on whom, what core crates must not use.
//! - A source file has a `//!` header of at most 40 lines and at most 800 lines without tests; a function's body has at
//!   most 70 lines. Files of tests are excepted from all three.
//! - No unfinished code, no ignored tests, no empty names such as those in `BANNED_NAMES`, no paths of a
//!   developer's machine, no dependency from anywhere but crates.io.
//! - Links between documents lead to files that exist.
//!
//! A finding is `file:line: what is wrong`; all of them are printed.

mod dependencies;
mod documents;
mod files;

use anyhow::{Result, ensure};
use std::path::{Path, PathBuf};

/// What is wrong, and where.
#[derive(Default)]
pub struct Findings(Vec<String>);

impl Findings {
    fn add(&mut self, place: impl AsRef<Path>, line: usize, what: impl std::fmt::Display) {
        let place = place.as_ref().display();
        self.0.push(if line == 0 {
            format!("{place}: {what}")
        } else {
            format!("{place}:{line}: {what}")
        });
    }
}

/// Runs all checks from the workspace's root and prints what they find.
pub fn run(arguments: &[String]) -> Result<bool> {
    ensure!(
        arguments.is_empty(),
        "`cargo xtask tidy` takes no arguments"
    );
    let mut findings = Findings::default();
    let paths = paths()?;
    dependencies::check(&mut findings)?;
    files::check(&paths, &mut findings)?;
    documents::check(&paths, &mut findings)?;
    for finding in &findings.0 {
        println!("    {finding}");
    }
    println!("    {} files, {} findings", paths.len(), findings.0.len());
    Ok(findings.0.is_empty())
}

/// Every file of the project, relative to its root: no build output, no version control.
fn paths() -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        let listed = if folder.as_os_str().is_empty() {
            Path::new(".")
        } else {
            &folder
        };
        for entry in std::fs::read_dir(listed)? {
            let entry = entry?;
            let name = entry.file_name();
            let path = folder.join(&name);
            if entry.file_type()?.is_dir() {
                let skipped = [".git", "target", "node_modules"];
                if !skipped.iter().any(|skip| name == *skip) {
                    folders.push(path);
                }
            } else {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}
