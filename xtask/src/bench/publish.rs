//! Writing the last results into docs/performance.md, between two markers; all else there is written by people.

use super::report::{self, Results};
use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::Path;

const DOCUMENT: &str = "docs/performance.md";
const BEGIN: &str = "<!-- bench:begin: written by `cargo xtask bench --publish` -->";
const END: &str = "<!-- bench:end -->";

/// Puts `results.json` and, where it is, `peer.json` of `folder` into the document.
pub fn publish(folder: &Path) -> Result<()> {
    let results = read(&folder.join("results.json"))?.with_context(|| {
        format!(
            "there is no results.json in {}: run `cargo xtask bench` first",
            folder.display()
        )
    })?;
    let peer = read(&folder.join("peer.json"))?;
    let text = fs::read_to_string(DOCUMENT).with_context(|| format!("cannot read {DOCUMENT}"))?;
    fs::write(
        DOCUMENT,
        replaced(&text, &section(&results, peer.as_ref()))?,
    )?;
    println!("    {DOCUMENT} has the results");
    Ok(())
}

fn read(path: &Path) -> Result<Option<Results>> {
    let Ok(text) = fs::read_to_string(path) else {
        return Ok(None);
    };
    let results = serde_json::from_str(&text);
    results.map(Some).with_context(|| {
        format!(
            "{} is of another version: run the benchmark again",
            path.display()
        )
    })
}

fn section(results: &Results, peer: Option<&Results>) -> String {
    let mut out = format!("## Results\n\n{}", report::markdown(results));
    match peer {
        None => out.push_str("\n## Ceph on the same machine\n\nNot measured.\n"),
        Some(peer) => {
            out.push_str("\n## Ceph on the same machine\n\n");
            out.push_str(
                "Rates are of different runs, one after the other; each ratio is to the raw disk in its own run. \
                 CPU is that of the OSDs and of the nodes, during the job.\n\n",
            );
            out.push_str(&report::comparison(results, peer));
            out.push_str("\nThe run with Ceph:\n\n");
            out.push_str(&report::markdown(peer));
        }
    }
    out
}

fn replaced(text: &str, section: &str) -> Result<String> {
    let begin = text.find(BEGIN);
    let end = text.find(END);
    let (begin, end) = begin
        .zip(end)
        .with_context(|| format!("{DOCUMENT} lacks the lines `{BEGIN}` and `{END}`"))?;
    let begin = begin + BEGIN.len();
    ensure!(
        begin <= end,
        "the markers in {DOCUMENT} are in the wrong order"
    );
    Ok(format!("{}\n{section}\n{}", &text[..begin], &text[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::report::tests::sample;

    #[test]
    fn only_what_is_between_the_markers_changes() {
        let text = format!("before\n{BEGIN}\nold\n{END}\nafter\n");
        let once = replaced(&text, "new").expect("it has markers");
        assert_eq!(once, format!("before\n{BEGIN}\nnew\n{END}\nafter\n"));
        assert_eq!(replaced(&once, "new").expect("it still has them"), once);
        assert!(replaced("no markers", "new").is_err());
    }

    #[test]
    fn the_document_has_the_markers() {
        let root = crate::process::workspace_root();
        let text = fs::read_to_string(root.join(DOCUMENT)).expect("the document is there");
        replaced(&text, "new").expect("it has markers");
    }

    #[test]
    fn a_peer_is_shown_beside() {
        let alone = section(&sample(), None);
        assert!(alone.contains("Not measured."));
        let both = section(&sample(), Some(&sample()));
        assert!(both.contains("Ceph 3 / raw"));
    }
}
