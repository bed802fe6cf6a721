//! Links between documents.

use super::Findings;
use anyhow::Result;
use std::path::{Path, PathBuf};

/// Every relative link in a Markdown file leads to a file or folder that exists.
pub fn check(paths: &[PathBuf], findings: &mut Findings) -> Result<()> {
    for path in paths
        .iter()
        .filter(|path| path.extension().is_some_and(|e| e == "md"))
    {
        let text = std::fs::read_to_string(path)?;
        let mut in_code = false;
        for (index, line) in text.lines().enumerate() {
            if line.trim_start().starts_with("```") {
                in_code = !in_code;
            }
            if !in_code {
                check_line(path, index + 1, line, findings);
            }
        }
    }
    Ok(())
}

fn check_line(path: &Path, number: usize, line: &str, findings: &mut Findings) {
    for target in links(line) {
        let file = target.split('#').next().unwrap_or_default();
        if file.is_empty() || target.contains("://") || target.starts_with("mailto:") {
            continue;
        }
        let folder = path.parent().unwrap_or(Path::new(""));
        if !folder.join(file).exists() {
            findings.add(
                path,
                number,
                format_args!("the link to `{target}` leads nowhere"),
            );
        }
    }
}

/// The targets of `[text](target)`.
fn links(line: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut rest = line;
    while let Some(at) = rest.find("](") {
        rest = &rest[at + 2..];
        let Some(end) = rest.find(')') else { break };
        found.push(rest[..end].split(' ').next().unwrap_or_default());
        rest = &rest[end..];
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_found_with_and_without_a_title() {
        assert_eq!(
            links("see [a](b.md) and [c](d.md#e \"title\")"),
            ["b.md", "d.md#e"]
        );
    }
}
