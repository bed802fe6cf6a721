//! The calls of sidecars and kubelet for one claim, each noted with the time it took.

use super::{CONTAINER, GIB, Scenario};
use crate::driver::{Claim, Kind, Snapshot};
use anyhow::{Context, Result};
use std::fs::File;
use std::io::Write;
use std::time::Instant;

impl Scenario {
    /// A claim of 20 GiB: made, given to this machine, formatted, mounted and written to.
    pub fn claim(&mut self, name: &str, kind: Kind) -> Result<Claim> {
        let started = Instant::now();
        let mut claim = Claim::new(&self.driver, name, kind, 20 * GIB)?;
        self.provision(&mut claim, None)?;
        self.mount(&mut claim)?;
        self.tasks.run("first file, made durable", name, || {
            write_first_file(&claim)
        })?;
        self.setup = started.elapsed();
        Ok(claim)
    }

    /// Creates the volume.
    pub fn provision(&mut self, claim: &mut Claim, from: Option<&Snapshot>) -> Result<()> {
        let name = claim.name.clone();
        let what = match from {
            Some(_) => "CreateVolume from snapshot",
            None => "CreateVolume",
        };
        let driver = &self.driver;
        self.tasks
            .run(what, &name, || claim.provision(driver, CONTAINER, from))
    }

    /// Gives the volume to this machine and mounts it; a blank one gets its file system on the way.
    pub fn mount(&mut self, claim: &mut Claim) -> Result<()> {
        let (driver, tasks) = (&self.driver, &mut self.tasks);
        let name = claim.name.clone();
        tasks.run("ControllerPublishVolume", &name, || claim.publish(driver))?;
        let what = format!("NodeStageVolume ({})", claim.kind.name());
        tasks.run(&what, &name, || claim.stage(driver))?;
        tasks.run("NodePublishVolume", &name, || claim.mount(driver))
    }

    /// Unmounts and gives the volume back.
    pub fn release(&mut self, claim: &Claim) -> Result<()> {
        let (driver, tasks, name) = (&self.driver, &mut self.tasks, &claim.name);
        tasks.run("NodeUnpublishVolume", name, || claim.unmount(driver))?;
        tasks.run("NodeUnstageVolume", name, || claim.unstage(driver))?;
        tasks.run("ControllerUnpublishVolume", name, || {
            claim.unpublish(driver)
        })
    }

    /// Deletes the volume.
    pub fn delete_volume(&mut self, claim: &Claim) -> Result<()> {
        let driver = &self.driver;
        self.tasks
            .run("DeleteVolume", &claim.name, || claim.delete(driver))
    }
}

fn write_first_file(claim: &Claim) -> Result<()> {
    let path = claim.target.join("first");
    let write = || -> std::io::Result<()> {
        let mut file = File::create(&path)?;
        file.write_all(b"mounted and writable\n")?;
        file.sync_all()?;
        std::fs::remove_file(&path)
    };
    write().with_context(|| format!("{} is not writable", claim.target.display()))
}
