//! `deny.toml` without cargo-deny, which takes longer to build than all of the tests: licences, sources and banned
//! crates of everything that `Cargo.lock` resolves to, from what `cargo metadata` says. cargo-deny itself also reads
//! the texts of licences and reports duplicate versions.

use crate::process::cargo;
use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};

/// What this reads of `deny.toml`.
#[derive(Deserialize)]
struct Rules {
    graph: Graph,
    licenses: Licences,
    bans: Bans,
    sources: Sources,
}

#[derive(Deserialize)]
struct Graph {
    targets: Vec<String>,
}

#[derive(Deserialize)]
struct Licences {
    allow: Vec<String>,
}

#[derive(Deserialize)]
struct Bans {
    deny: Vec<Banned>,
}

#[derive(Deserialize)]
struct Banned {
    #[serde(rename = "crate")]
    name: String,
    reason: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Sources {
    allow_registry: Vec<String>,
}

/// A package, as `cargo metadata` describes it.
#[derive(Clone, Deserialize)]
struct Package {
    id: String,
    name: String,
    version: String,
    license: Option<String>,
    /// None for the packages of the workspace.
    source: Option<String>,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    resolve: Resolve,
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
}

/// What breaks the rules of `deny.toml`, a line each, and how many packages were looked at.
pub fn check() -> Result<(usize, Vec<String>)> {
    let text = std::fs::read_to_string("deny.toml").context("cannot read deny.toml")?;
    let rules: Rules = toml::from_str(&text).context("deny.toml is not what xtask reads of it")?;
    let mut packages = BTreeMap::new();
    for target in &rules.graph.targets {
        for package in resolved(target)? {
            packages.insert(package.id.clone(), package);
        }
    }
    let broken = packages
        .values()
        .flat_map(|package| rules.broken_by(package));
    Ok((packages.len(), broken.collect()))
}

/// The packages that a build for this target uses, with all features.
fn resolved(target: &str) -> Result<Vec<Package>> {
    let output = cargo()
        .args(["metadata", "--locked", "--all-features"])
        .args(["--format-version", "1", "--filter-platform", target])
        .output()
        .context("cannot run cargo metadata")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "cargo metadata failed: {said}");
    let metadata: Metadata = serde_json::from_slice(&output.stdout)
        .context("cargo metadata printed something else than packages")?;
    let used: BTreeSet<String> = metadata
        .resolve
        .nodes
        .into_iter()
        .map(|node| node.id)
        .collect();
    let packages = metadata.packages.into_iter();
    Ok(packages
        .filter(|package| used.contains(&package.id))
        .collect())
}

impl Rules {
    fn broken_by(&self, package: &Package) -> Vec<String> {
        let what = format!("{} {}", package.name, package.version);
        let mut broken = Vec::new();
        if let Some(banned) = self
            .bans
            .deny
            .iter()
            .find(|banned| banned.name == package.name)
        {
            broken.push(format!("{what} is banned: {}", banned.reason));
        }
        let Some(source) = &package.source else {
            return broken;
        };
        let is_known = |registry: &String| source.as_str() == format!("registry+{registry}");
        if !self.sources.allow_registry.iter().any(is_known) {
            broken.push(format!(
                "{what} comes from {source}, which deny.toml does not allow"
            ));
        }
        if let Err(why) = self.licensed(package.license.as_deref()) {
            broken.push(format!("{what}: {why}"));
        }
        broken
    }

    /// Whether one of the ways in which this licence may be taken is allowed.
    fn licensed(&self, licence: Option<&str>) -> Result<(), String> {
        let licence = licence.ok_or("it names no licence")?;
        let read = spdx::Expression::parse_mode(licence, spdx::ParseMode::LAX);
        let read = read.map_err(|why| format!("its licence cannot be read: {why}"))?;
        let is_allowed =
            |wanted: &spdx::LicenseReq| self.licenses.allow.contains(&wanted.to_string());
        match read.evaluate(is_allowed) {
            true => Ok(()),
            false => Err(format!("deny.toml does not allow its licence, {licence}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules() -> Rules {
        toml::from_str(
            "[graph]\ntargets = []\n[licenses]\nallow = [\"MIT\", \"Apache-2.0 WITH LLVM-exception\"]\n\
             [bans]\ndeny = [{ crate = \"openssl\", reason = \"rustls\" }]\n\
             [sources]\nallow-registry = [\"https://registry.example\"]\n",
        )
        .unwrap()
    }

    fn package(name: &str, license: Option<&str>, source: &str) -> Package {
        Package {
            id: name.to_owned(),
            name: name.to_owned(),
            version: "1.0.0".to_owned(),
            license: license.map(str::to_owned),
            source: Some(source.to_owned()),
        }
    }

    #[test]
    fn what_deny_toml_does_not_allow_is_named() {
        const FROM: &str = "registry+https://registry.example";
        let rules = rules();
        let broken = |package: &Package| rules.broken_by(package).len();
        for fine in [
            "MIT",
            "GPL-3.0 OR MIT",
            "MIT/GPL-2.0",
            "Apache-2.0 WITH LLVM-exception",
        ] {
            assert_eq!(broken(&package("a", Some(fine), FROM)), 0, "{fine}");
        }
        for bad in [
            "GPL-3.0-only",
            "MIT AND GPL-3.0-only",
            "Apache-2.0",
            "no licence at all",
        ] {
            assert_eq!(broken(&package("a", Some(bad), FROM)), 1, "{bad}");
        }
        assert_eq!(broken(&package("a", None, FROM)), 1);
        assert_eq!(broken(&package("openssl", Some("MIT"), FROM)), 1);
        assert_eq!(
            broken(&package("a", Some("MIT"), "git+https://elsewhere.example")),
            1
        );
    }

    #[test]
    fn packages_of_the_workspace_come_from_nowhere() {
        let own = Package {
            source: None,
            license: None,
            ..package("node", None, "")
        };
        assert!(rules().broken_by(&own).is_empty());
    }
}
