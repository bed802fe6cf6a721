//! `azekura preflight`: whether this machine can run a node, or hold volumes for pods, before anything is started.
//!
//! Invariants
//! - Nothing is changed without `--fix`, and with it only what is named: a kernel module is loaded, a Debian package installed.
//! - Disks are opened for reading and never written.
//! - A check that cannot be made says so; it does not count as passed.

mod machine;
mod node;

use crate::cli::{Form, PreflightArgs};
use crate::output::{Table, columns, render};
use anyhow::bail;
use serde::Serialize;
use std::io::Write;
use std::process::Command;

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// As it should be.
    Ok,
    /// Works, but worse than it could; or it could not be found out.
    Warning,
    /// Does not work.
    Failed,
}

/// What mends something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fix {
    /// A kernel module.
    Module(&'static str),
    /// A Debian package.
    Package(&'static str),
}

impl Fix {
    fn command(&self) -> (&'static str, Vec<&'static str>) {
        match self {
            Self::Module(name) => ("modprobe", vec![name]),
            Self::Package(name) => (
                "apt-get",
                vec!["install", "--yes", "--no-install-recommends", name],
            ),
        }
    }

    /// What a person types.
    fn text(&self) -> String {
        let (program, arguments) = self.command();
        format!("{program} {}", arguments.join(" "))
    }

    fn carry_out(&self) -> Result<(), String> {
        let (program, arguments) = self.command();
        let output = Command::new(program)
            .args(arguments)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .output()
            .map_err(|error| format!("cannot run {program}: {error}"))?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let last = said.lines().last().unwrap_or("it says nothing");
        Err(format!("`{}` failed: {last}", self.text()))
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What.
    pub what: String,
    /// How it is.
    pub state: State,
    /// What was found.
    pub found: String,
    /// What to do; empty when there is nothing to do.
    pub remedy: String,
    #[serde(skip)]
    fix: Option<Fix>,
}

impl Check {
    fn new(what: impl Into<String>, state: State, found: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            state,
            found: found.into(),
            remedy: String::new(),
            fix: None,
        }
    }

    fn ok(what: impl Into<String>, found: impl Into<String>) -> Self {
        Self::new(what, State::Ok, found)
    }

    fn warning(what: impl Into<String>, found: impl Into<String>) -> Self {
        Self::new(what, State::Warning, found)
    }

    fn failed(what: impl Into<String>, found: impl Into<String>) -> Self {
        Self::new(what, State::Failed, found)
    }

    fn remedy(mut self, text: impl Into<String>) -> Self {
        self.remedy = text.into();
        self
    }

    fn fix(mut self, fix: Fix) -> Self {
        self.remedy = fix.text();
        self.fix = Some(fix);
        self
    }
}

/// All checks.
#[derive(Debug, Serialize)]
pub struct Report {
    /// In the order in which they were made.
    pub checks: Vec<Check>,
}

impl Report {
    fn count(&self, state: State) -> usize {
        let same = |check: &&Check| check.state == state;
        self.checks.iter().filter(same).count()
    }
}

impl Table for Report {
    fn table(&self) -> String {
        let row = |check: &Check| {
            let state = match check.state {
                State::Ok => "ok",
                State::Warning => "warning",
                State::Failed => "FAILED",
            };
            let mut found = check.found.clone();
            if !check.remedy.is_empty() {
                found += &format!("; {}", check.remedy);
            }
            vec![check.what.clone(), state.to_owned(), found]
        };
        let rows: Vec<Vec<String>> = self.checks.iter().map(row).collect();
        columns(&["CHECK", "STATE", "FOUND"], &rows)
    }
}

/// `preflight`.
pub fn run(arguments: &PreflightArgs, form: Form) -> anyhow::Result<String> {
    let mut report = report(arguments)?;
    if arguments.fix && mend(&report) {
        report.checks = look(arguments)?;
    }
    let text = render(&report, form);
    let failed = report.count(State::Failed);
    if failed == 0 {
        return Ok(text);
    }
    // The reader wants to see what passed, too; the exit status is that of a failure.
    let _ = std::io::stdout().write_all(text.as_bytes());
    bail!(
        "{failed} of {} checks failed: see what to do beside each",
        report.checks.len()
    )
}

/// All checks that are asked for, without a change to anything.
///
/// # Errors
/// Those of the configuration file.
pub fn report(arguments: &PreflightArgs) -> anyhow::Result<Report> {
    let checks = look(arguments)?;
    Ok(Report { checks })
}

fn look(arguments: &PreflightArgs) -> anyhow::Result<Vec<Check>> {
    let mut checks = machine::general();
    if let Some(config) = &arguments.config {
        checks.extend(node::checks(config)?);
    }
    if arguments.attach || arguments.config.is_none() {
        checks.extend(machine::attaching());
    }
    Ok(checks)
}

/// Whether anything was done.
fn mend(report: &Report) -> bool {
    let mut fixes: Vec<&Fix> = Vec::new();
    for fix in report.checks.iter().filter_map(|check| check.fix.as_ref()) {
        if !fixes.contains(&fix) {
            fixes.push(fix);
        }
    }
    for fix in &fixes {
        eprintln!("azekura: {}", fix.text());
        if let Err(reason) = fix.carry_out() {
            eprintln!("azekura: {reason}");
        }
    }
    !fixes.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_check_says_what_to_type() {
        let check = Check::failed("mkfs.xfs", "is missing").fix(Fix::Package("xfsprogs"));
        let report = Report {
            checks: vec![Check::ok("kernel", "6.1"), check],
        };
        let table = report.table();
        assert!(table.contains("FAILED"), "{table}");
        assert!(
            table.contains("apt-get install --yes --no-install-recommends xfsprogs"),
            "{table}"
        );
        let json = render(&report, Form::Json);
        assert!(json.contains("\"state\": \"failed\""), "{json}");
        assert_eq!(report.count(State::Failed), 1);
    }

    #[test]
    fn a_fix_that_cannot_be_done_says_why() {
        let reason = Fix::Module("no-such-module-of-any-kernel").carry_out();
        assert!(reason.is_err_and(|reason| reason.contains("modprobe")));
    }
}
