//! Writing the last results into docs/performance.md, each kind between two markers; all else there is written by people.

use super::report::{self, Results};
use super::{csi, encryption, manage, repair};
use anyhow::{Context, Result, ensure};
use serde::de::DeserializeOwned;
use std::fs;
use std::path::Path;

const DOCUMENT: &str = "docs/performance.md";

/// Two lines of the document.
struct Markers {
    begin: &'static str,
    end: &'static str,
}

const STORAGE: Markers = Markers {
    begin: "<!-- bench:begin: written by `cargo xtask bench --publish` -->",
    end: "<!-- bench:end -->",
};
/// Apart from the results it is compared with: a run without the peer leaves what was measured before.
const PEER: Markers = Markers {
    begin: "<!-- bench-peer:begin: written by `cargo xtask bench --peer ceph --publish` -->",
    end: "<!-- bench-peer:end -->",
};
const DRIVER: Markers = Markers {
    begin: "<!-- bench-csi:begin: written by `cargo xtask bench --csi --publish` -->",
    end: "<!-- bench-csi:end -->",
};
const REPAIR: Markers = Markers {
    begin: "<!-- bench-repair:begin: written by `cargo xtask bench --repair --publish` -->",
    end: "<!-- bench-repair:end -->",
};

const ENCRYPTION: Markers = Markers {
    begin: "<!-- bench-encryption:begin: written by `cargo xtask bench --encryption --publish` -->",
    end: "<!-- bench-encryption:end -->",
};

const MANAGE: Markers = Markers {
    begin: "<!-- bench-manage:begin: written by `cargo xtask bench --manage --publish` -->",
    end: "<!-- bench-manage:end -->",
};

/// Puts what there is of `results.json`, with `peer.json`, of `csi.json`, of `repair.json`, of `repair-bounded.json`, of `manage.json`
/// and of `encryption.json` in `folder` into the document.
pub fn publish(folder: &Path) -> Result<()> {
    let results: Option<Results> = read(&folder.join("results.json"))?;
    let driver: Option<csi::Results> = read(&folder.join("csi.json"))?;
    let losses = |bounded| -> Result<Option<repair::Results>> {
        let name = format!("{}.json", repair::name(bounded));
        read(&folder.join(name))
    };
    let losses = [losses(false)?, losses(true)?];
    let managed: Option<manage::Results> = read(&folder.join("manage.json"))?;
    let encrypted: Option<Results> = read(&folder.join("encryption.json"))?;
    ensure!(
        results.is_some()
            || encrypted.is_some()
            || driver.is_some()
            || losses.iter().any(Option::is_some)
            || managed.is_some(),
        "there is neither results.json nor csi.json, repair.json, manage.json or encryption.json in {}: run `cargo xtask bench` first",
        folder.display()
    );
    let mut text =
        fs::read_to_string(DOCUMENT).with_context(|| format!("cannot read {DOCUMENT}"))?;
    if let Some(results) = results {
        let section = format!("## Results\n\n{}", report::markdown(&results));
        text = STORAGE.replaced(&text, &section)?;
        if let Some(peer) = read(&folder.join("peer.json"))? {
            text = PEER.replaced(&text, &beside(&results, &peer))?;
        }
    }
    if let Some(driver) = driver {
        text = DRIVER.replaced(&text, &csi::markdown(&driver))?;
    }
    let losses: Vec<String> = losses.iter().flatten().map(repair::markdown).collect();
    if !losses.is_empty() {
        text = REPAIR.replaced(&text, &losses.join("\n"))?;
    }
    if let Some(managed) = managed {
        text = MANAGE.replaced(&text, &manage::markdown(&managed))?;
    }
    if let Some(encrypted) = encrypted {
        text = ENCRYPTION.replaced(&text, &encryption::markdown(&encrypted))?;
    }
    fs::write(DOCUMENT, text)?;
    println!("    {DOCUMENT} has the results");
    Ok(())
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
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

fn beside(results: &Results, peer: &Results) -> String {
    let mut out = "## Ceph on the same machine\n\nRates are of different runs, one after the other; each ratio is to the \
                   raw disk in its own run. CPU is that of the OSDs and of the nodes, during the job.\n\n"
        .to_owned();
    out.push_str(&report::comparison(results, peer));
    out.push_str("\nThe run with Ceph:\n\n");
    out.push_str(&report::markdown(peer));
    out
}

impl Markers {
    fn replaced(&self, text: &str, section: &str) -> Result<String> {
        let begin = text.find(self.begin);
        let end = text.find(self.end);
        let (begin, end) = begin.zip(end).with_context(|| {
            format!(
                "{DOCUMENT} lacks the lines `{}` and `{}`",
                self.begin, self.end
            )
        })?;
        let begin = begin + self.begin.len();
        ensure!(
            begin <= end,
            "the markers in {DOCUMENT} are in the wrong order"
        );
        Ok(format!("{}\n{section}\n{}", &text[..begin], &text[end..]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::report::tests::sample;

    #[test]
    fn only_what_is_between_the_markers_changes() {
        let text = format!("before\n{}\nold\n{}\nafter\n", STORAGE.begin, STORAGE.end);
        let once = STORAGE.replaced(&text, "new").expect("it has markers");
        let expected = format!("before\n{}\nnew\n{}\nafter\n", STORAGE.begin, STORAGE.end);
        assert_eq!(once, expected);
        let again = STORAGE.replaced(&once, "new");
        assert_eq!(again.expect("it still has them"), once);
        assert!(DRIVER.replaced(&text, "new").is_err());
    }

    #[test]
    fn the_document_has_the_markers() {
        let root = crate::process::workspace_root();
        let text = fs::read_to_string(root.join(DOCUMENT)).expect("the document is there");
        for markers in [STORAGE, PEER, DRIVER, REPAIR, ENCRYPTION, MANAGE] {
            markers.replaced(&text, "new").expect("it has markers");
        }
    }

    #[test]
    fn a_peer_is_shown_beside() {
        let both = beside(&sample(), &sample());
        assert!(both.contains("Ceph 3 / raw"));
    }
}
