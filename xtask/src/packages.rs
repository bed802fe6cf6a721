//! Debian packages and cargo tools that tests, demo and benchmark use.
//!
//! A missing package is installed when this runs as root and `apt-get` exists; otherwise the exact command is
//! printed and the task goes on: the tests that need the program then fail with the same advice.

use crate::process::{cargo, find_program, is_root};
use std::process::{Command, Stdio};

/// A program and the Debian package that has it.
#[derive(Clone, Copy)]
pub struct Need {
    program: &'static str,
    package: &'static str,
}

/// A program and its package.
pub const fn need(program: &'static str, package: &'static str) -> Need {
    Need { program, package }
}

/// etcd alone: all that the demo uses.
pub const DEMO: &[Need] = &[need("etcd", "etcd-server")];

/// The database of the demo's scenario.
pub const SCENARIO: &[Need] = &[need("mariadbd", "mariadb-server")];

/// What the node's part of the CSI driver runs: file systems.
pub const MOUNT: &[Need] = &[
    need("mkfs.ext4", "e2fsprogs"),
    need("resize2fs", "e2fsprogs"),
    need("mkfs.xfs", "xfsprogs"),
    need("blkid", "util-linux"),
    need("mount", "mount"),
];

/// What the tests that start real programs use.
pub const TEST: &[Need] = &[
    need("fio", "fio"),
    need("etcd", "etcd-server"),
    need("nbdkit", "nbdkit"),
    need("nbdinfo", "libnbd-bin"),
    need("qemu-img", "qemu-utils"),
    need("jq", "jq"),
    need("mkfs.ext4", "e2fsprogs"),
    need("mkfs.xfs", "xfsprogs"),
    need("blkid", "util-linux"),
    need("mount", "mount"),
];

/// What the soak test uses beside the database and file systems.
pub const SOAK: &[Need] = &[
    need("etcd", "etcd-server"),
    need("nft", "nftables"),
    need("ip", "iproute2"),
    need("unshare", "util-linux"),
    need("fsfreeze", "util-linux"),
    need("nbdkit", "nbdkit"),
    need("nbdfuse", "libnbd-bin"),
];

/// What the benchmark uses.
pub const BENCH: &[Need] = &[
    need("fio", "fio"),
    need("etcd", "etcd-server"),
    need("nbdkit", "nbdkit"),
];

/// The version of the test runner that CI uses.
const NEXTEST: &str = "cargo-nextest@0.9.143";
/// The version of the dependency checker that CI uses.
pub const DENY: &str = "cargo-deny@0.20.2";

/// Installs what is missing if it may, and returns the packages that are still missing.
pub fn ensure(needs: &[Need]) -> Vec<&'static str> {
    let missing = missing(needs);
    if missing.is_empty() {
        return missing;
    }
    let list = missing.join(" ");
    if !is_root() || find_program("apt-get").is_none() {
        println!("    missing Debian packages: {list}");
        println!("    install them with: sudo apt-get install --no-install-recommends {list}");
        return missing;
    }
    println!("    installing Debian packages: {list}");
    if !apt_install(&missing) {
        println!("    the list of packages may be old: apt-get update, then once more");
        apt_get(&["update", "-q"]);
        apt_install(&missing);
    }
    let left = self::missing(needs);
    if !left.is_empty() {
        println!("    could not be installed: {}", left.join(" "));
    }
    left
}

fn missing(needs: &[Need]) -> Vec<&'static str> {
    let absent = needs
        .iter()
        .filter(|need| find_program(need.program).is_none());
    let mut packages: Vec<&'static str> = absent.map(|need| need.package).collect();
    packages.dedup();
    packages
}

fn apt_install(packages: &[&str]) -> bool {
    let mut arguments = vec!["install", "-q", "-y", "--no-install-recommends"];
    arguments.extend(packages);
    apt_get(&arguments)
}

/// `RUNLEVEL=1` keeps packages from starting their services: etcd must not take its port on this machine.
fn apt_get(arguments: &[&str]) -> bool {
    let mut command = Command::new("apt-get");
    command
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .env("RUNLEVEL", "1");
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Whether `cargo nextest` can be used, after trying to install it.
pub fn ensure_nextest() -> bool {
    if find_cargo_tool("nextest") {
        return true;
    }
    println!("    cargo-nextest is missing: cargo install --locked {NEXTEST}");
    let installed = cargo().args(["install", "--locked", NEXTEST]).status();
    installed.is_ok_and(|status| status.success()) && find_cargo_tool("nextest")
}

/// Whether a cargo subcommand exists.
pub fn find_cargo_tool(name: &str) -> bool {
    let mut command = cargo();
    command.args([name, "--version"]).stdin(Stdio::null());
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
