//! The crate table against what cargo read from the Cargo.toml files.

use super::Findings;
use crate::process;
use anyhow::{Context, Result};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};

const TABLE: &str = "xtask/crates.toml";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    forbidden_in_core: BTreeSet<String>,
    dev_everywhere: BTreeSet<String>,
    unsafe_allowed: BTreeSet<String>,
    #[serde(rename = "crate")]
    crates: BTreeMap<String, Rule>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    #[serde(default)]
    core: bool,
    uses: Option<BTreeSet<String>>,
    all_but: Option<BTreeSet<String>>,
    #[serde(default)]
    dev: BTreeSet<String>,
    #[serde(default)]
    may: BTreeSet<String>,
}

impl Rule {
    fn allows(&self, name: &str) -> bool {
        let named = self.uses.as_ref().is_some_and(|uses| uses.contains(name));
        named
            || self
                .all_but
                .as_ref()
                .is_some_and(|except| !except.contains(name))
    }
}

fn table() -> Result<Table> {
    let text = std::fs::read_to_string(TABLE).with_context(|| format!("cannot read {TABLE}"))?;
    toml::from_str(&text).with_context(|| format!("cannot understand {TABLE}"))
}

/// The crates that may contain `unsafe`.
pub fn unsafe_allowed() -> Result<BTreeSet<String>> {
    Ok(table()?.unsafe_allowed)
}

pub fn check(findings: &mut Findings) -> Result<()> {
    let table = table()?;
    let metadata = process::metadata()?;
    let packages = metadata["packages"]
        .as_array()
        .context("cargo metadata lists no packages")?;
    let names: BTreeSet<&str> = packages.iter().filter_map(|p| p["name"].as_str()).collect();
    for package in packages {
        check_package(&table, &names, package, findings);
    }
    for name in table
        .crates
        .keys()
        .filter(|name| !names.contains(name.as_str()))
    {
        findings.add(
            TABLE,
            0,
            format_args!("`{name}` is no crate of the workspace"),
        );
    }
    check_lock(findings)
}

fn check_package(
    table: &Table,
    names: &BTreeSet<&str>,
    package: &serde_json::Value,
    findings: &mut Findings,
) {
    let name = package["name"].as_str().unwrap_or_default();
    let folder = if name == "xtask" {
        "xtask".to_owned()
    } else {
        format!("crates/{name}")
    };
    let manifest = format!("{folder}/Cargo.toml");
    let at = package["manifest_path"].as_str().unwrap_or_default();
    if !at.ends_with(&manifest) {
        findings.add(
            &manifest,
            0,
            format_args!("the crate `{name}` must be in {folder}"),
        );
    }
    let Some(rule) = table.crates.get(name) else {
        findings.add(&manifest, 0, format_args!("`{name}` is missing in {TABLE}"));
        return;
    };
    let dependencies = package["dependencies"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    for dependency in dependencies {
        let used = dependency["name"].as_str().unwrap_or_default();
        let dev = dependency["kind"].as_str() == Some("dev");
        let for_tests = dev && (rule.dev.contains(used) || table.dev_everywhere.contains(used));
        if names.contains(used) && !for_tests && !rule.allows(used) {
            findings.add(
                &manifest,
                0,
                format_args!("`{name}` must not use `{used}`: see {TABLE}"),
            );
        }
        if rule.core && table.forbidden_in_core.contains(used) && !rule.may.contains(used) {
            let what = format_args!("a core crate runs on `world` alone and must not use `{used}`");
            findings.add(&manifest, 0, what);
        }
    }
}

/// Everything comes from crates.io, whatever mirror the developer's machine uses.
fn check_lock(findings: &mut Findings) -> Result<()> {
    let expected = "registry+https://github.com/rust-lang/crates.io-index";
    let text = std::fs::read_to_string("Cargo.lock").context("cannot read Cargo.lock")?;
    for (index, line) in text.lines().enumerate() {
        let source = line
            .strip_prefix("source = ")
            .map(|source| source.trim_matches('"'));
        if source.is_some_and(|source| source != expected) {
            findings.add(
                "Cargo.lock",
                index + 1,
                "a dependency does not come from crates.io",
            );
        }
    }
    Ok(())
}
