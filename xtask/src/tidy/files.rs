//! Headers, budgets, banned words and names, places of `unsafe`.

use super::{Findings, dependencies};
use crate::source;
use anyhow::{Context, Result};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Lines of a file without tests.
const FILE_LINES_MAX: usize = 800;
/// Lines of a function's body.
const FUNCTION_LINES_MAX: usize = 70;
/// Lines of a file's `//!` header.
const HEADER_LINES_MAX: usize = 40;
/// Lines above an `unsafe` in which its argument must start.
const SAFETY_DISTANCE_MAX: usize = 12;
/// Words that say nothing as (part of) a module's name.
const BANNED_NAMES: [&str; 5] = ["common", "util", "helper", "misc", "manager"];
/// What defines a name that others use.
const DEFINITIONS: [&str; 5] = ["struct ", "enum ", "trait ", "mod ", "type "];
/// Code that is not finished or not run.
const BANNED_CODE: [&str; 3] = ["todo!", "unimplemented!", "#[ignore"];
/// A path of somebody's machine in any file; in two pieces so that this file passes.
const BANNED_PATHS: [&str; 2] = [concat!("/wo", "rk/"), concat!("/ho", "me/")];
/// Files in which machine paths are looked for.
const TEXT_FILES: [&str; 6] = ["rs", "md", "toml", "yaml", "sh", "json"];

pub fn check(paths: &[PathBuf], findings: &mut Findings) -> Result<()> {
    let unsafe_allowed = dependencies::unsafe_allowed()?;
    for path in paths {
        let extension = path
            .extension()
            .and_then(|extension| extension.to_str())
            .unwrap_or("");
        if extension == "rs" {
            check_name(path, findings);
        }
        if !TEXT_FILES.contains(&extension) && !path.starts_with(".ci") {
            continue;
        }
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("{} is no UTF-8 text", path.display()))?;
        check_words(path, &text, findings);
        if extension == "rs" {
            check_source(path, &text, &unsafe_allowed, findings);
        }
    }
    Ok(())
}

fn check_name(path: &Path, findings: &mut Findings) {
    for part in path.components() {
        let part = part.as_os_str().to_string_lossy();
        let words = part.trim_end_matches(".rs").split(['_', '-']);
        for word in words.map(|word| word.trim_end_matches('s')) {
            if BANNED_NAMES.contains(&word) {
                findings.add(
                    path,
                    0,
                    format_args!("`{word}` says nothing: name the thing"),
                );
            }
        }
    }
}

fn check_words(path: &Path, text: &str, findings: &mut Findings) {
    for (index, line) in text.lines().enumerate() {
        for banned in BANNED_PATHS {
            if line.contains(banned) {
                findings.add(
                    path,
                    index + 1,
                    format_args!("`{banned}` is a path of one machine"),
                );
            }
        }
    }
}

/// Whether the whole file is test code.
fn is_test_file(path: &Path) -> bool {
    path.components().any(|part| {
        let name = part.as_os_str().to_string_lossy();
        let name = name.trim_end_matches(".rs");
        name == "tests" || name == "benches" || name.ends_with("_tests")
    })
}

fn check_source(
    path: &Path,
    text: &str,
    unsafe_allowed: &BTreeSet<String>,
    findings: &mut Findings,
) {
    let masked = source::mask(text);
    check_header(path, text, findings);
    for banned in BANNED_CODE {
        for line in source::lines_with(&masked, banned) {
            findings.add(path, line, format_args!("`{banned}` must not be committed"));
        }
    }
    check_definitions(path, text, &masked, findings);
    check_unsafe(path, text, &masked, unsafe_allowed, findings);
    check_examples(path, text, findings);
    if is_test_file(path) {
        return;
    }
    let lines = source::lines_without_tests(&masked);
    if lines > FILE_LINES_MAX {
        let what = format_args!("{lines} lines without tests, {FILE_LINES_MAX} allowed: split it");
        findings.add(path, 0, what);
    }
    for function in source::functions(&masked) {
        if function.lines > FUNCTION_LINES_MAX && !function.in_test {
            let (name, lines) = (&function.name, function.lines);
            let what = format_args!("`{name}` has {lines} lines, {FUNCTION_LINES_MAX} allowed");
            findings.add(path, function.line, what);
        }
    }
}

/// Types and modules whose names say nothing.
fn check_definitions(path: &Path, text: &str, masked: &[u8], findings: &mut Findings) {
    let lines: Vec<&str> = text.lines().collect();
    for definition in DEFINITIONS {
        for line in source::lines_with(masked, definition) {
            let defined = lines[line - 1].split(definition).nth(1).unwrap_or("");
            let name = defined.split(|sign: char| !sign.is_ascii_alphanumeric() && sign != '_');
            let name = name.into_iter().next().unwrap_or("");
            if let Some(word) = words_of(name).find(|word| BANNED_NAMES.contains(&&**word)) {
                let what = format_args!("`{word}` in `{name}` says nothing: name the thing");
                findings.add(path, line, what);
            }
        }
    }
}

/// The words of a name, in lower case and without an `s` at the end: `VolumeManagers` has `volume` and `manager`.
fn words_of(name: &str) -> impl Iterator<Item = String> {
    let mut words = vec![String::new()];
    for sign in name.chars() {
        if sign == '_' || sign.is_ascii_uppercase() {
            words.push(String::new());
        }
        if let Some(word) = words.last_mut().filter(|_| sign != '_') {
            word.push(sign.to_ascii_lowercase());
        }
    }
    words
        .into_iter()
        .map(|word| word.trim_end_matches('s').to_owned())
}

fn check_header(path: &Path, text: &str, findings: &mut Findings) {
    let header = text
        .lines()
        .take_while(|line| line.starts_with("//!"))
        .count();
    if header == 0 && !is_test_file(path) {
        findings.add(
            path,
            1,
            "the file must start with a `//!` header that states its purpose",
        );
    } else if header > HEADER_LINES_MAX {
        let what = format_args!("the header has {header} lines, {HEADER_LINES_MAX} allowed");
        findings.add(path, 1, what);
    }
}

/// Examples in comments would be programs of their own, each linked for itself, and nobody runs them here: what an
/// example shows is a test. Blocks of text say what they are.
fn check_examples(path: &Path, text: &str, findings: &mut Findings) {
    let mut inside = false;
    for (index, line) in text.lines().enumerate() {
        let line = line.trim_start();
        let comment = line.strip_prefix("///").or(line.strip_prefix("//!"));
        let fence = comment.and_then(|comment| comment.trim_start().strip_prefix("```"));
        let Some(kind) = fence else { continue };
        if !inside && matches!(kind.trim(), "" | "rust" | "no_run" | "should_panic") {
            let what = "an example in a comment is not run: make it a test, or mark it ```text";
            findings.add(path, index + 1, what);
        }
        inside = !inside;
    }
}

/// `unsafe` stands only in crates that may have it, each with its argument.
fn check_unsafe(
    path: &Path,
    text: &str,
    masked: &[u8],
    allowed: &BTreeSet<String>,
    findings: &mut Findings,
) {
    let mut components = path
        .components()
        .map(|part| part.as_os_str().to_string_lossy());
    let in_crates = components.next().is_some_and(|first| first == "crates");
    let may = in_crates
        && components
            .next()
            .is_some_and(|name| allowed.contains(&*name));
    let lines: Vec<&str> = text.lines().collect();
    for wanted in ["unsafe {", "unsafe fn", "unsafe impl"] {
        for line in source::lines_with(masked, wanted) {
            if !may {
                findings.add(path, line, "`unsafe` belongs into world-linux or codec");
                continue;
            }
            let from = line.saturating_sub(SAFETY_DISTANCE_MAX);
            let above = &lines[from..line.min(lines.len())];
            if !above
                .iter()
                .any(|line| line.contains("SAFETY:") || line.contains("# Safety"))
            {
                findings.add(path, line, "`unsafe` needs a `// SAFETY:` argument");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_looked_at_word_by_word() {
        let words = |name| words_of(name).collect::<Vec<_>>();
        assert!(words("VolumeManagers").contains(&"manager".to_owned()));
        assert!(words("disk_util").contains(&"util".to_owned()));
        for name in ["Utilization", "Manages", "uncommon"] {
            let banned = |word: &String| BANNED_NAMES.contains(&&**word);
            assert!(!words(name).iter().any(banned), "{name}");
        }
    }
}
