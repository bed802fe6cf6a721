//! A network namespace for each node, joined by a bridge in the namespace of this process, where etcd and clients are.
//!
//! What a node sends and what it is sent can be dropped apart, on the bridge, as by a cable or a switch that is broken:
//! the node itself sees nothing but silence.

use crate::driver::output;
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The bridge, and the beginning of the names of what is on it.
const BRIDGE: &str = "azekura0";
/// The table with the rules that drop.
const TABLE: &str = "azekura_cut";

/// What is dropped.
#[derive(Clone, Copy, Debug)]
pub enum Cut {
    /// Everything to and from a node.
    Node(usize),
    /// What a node sends.
    From(usize),
    /// What a node is sent.
    To(usize),
    /// What two nodes send each other.
    Between(usize, usize),
    /// Packets of a node to a port of this process's namespace, and their answers.
    Port(usize, u16),
}

/// The namespaces; they go when this is dropped.
pub struct Network {
    names: Vec<String>,
}

impl Network {
    /// Makes as many as there are nodes, in place of those of an earlier run. Needs root, and a namespace where the bridge
    /// disturbs nobody.
    ///
    /// # Errors
    /// Where `ip` cannot make bridges and namespaces.
    pub fn make(nodes: usize) -> Result<Self> {
        let mut network = Self { names: Vec::new() };
        ip(&["link", "add", BRIDGE, "type", "bridge"])?;
        let own = format!("{}/24", network.own());
        ip(&["address", "add", &own, "dev", BRIDGE])?;
        ip(&["link", "set", BRIDGE, "up"])?;
        for index in 0..nodes {
            network.add(index)?;
        }
        Ok(network)
    }

    fn add(&mut self, index: usize) -> Result<()> {
        let name = format!("azekura-node-{}", index + 1);
        let port = port_of(index);
        let address = format!("{}/24", self.host(index));
        if namespace(&name).exists() {
            ip(&["netns", "delete", &name])?;
        }
        ip(&["netns", "add", &name])?;
        self.names.push(name.clone());
        ip(&[
            "link", "add", &port, "type", "veth", "peer", "name", "eth0", "netns", &name,
        ])?;
        ip(&["link", "set", &port, "master", BRIDGE, "up"])?;
        let inside = |arguments: &[&str]| ip(&[&["-netns", &name], arguments].concat());
        inside(&["address", "add", &address, "dev", "eth0"])?;
        inside(&["link", "set", "eth0", "up"])?;
        inside(&["link", "set", "lo", "up"])
    }

    /// Address of this process's namespace.
    pub fn own(&self) -> String {
        "10.213.0.1".to_owned()
    }

    /// Address of a node.
    pub fn host(&self, index: usize) -> String {
        format!("10.213.0.{}", index + 11)
    }

    /// The same command, run where a node is. The process that it becomes has the id of the one that is started.
    ///
    /// # Errors
    /// Unless there is such a node.
    pub fn inside(&self, index: usize, program: &Path) -> Result<Command> {
        let name = self.names.get(index).context("a node without a network")?;
        let mut command = Command::new("nsenter");
        let entered = format!("--net={}", namespace(name).display());
        command.arg(entered).arg("--").arg(program);
        Ok(command)
    }

    /// Drops packets from now on.
    pub fn cut(&self, cut: Cut) -> Result<()> {
        let port = port_of;
        let both = |into: String, out: String| {
            format!(
                "chain from {{\ntype filter hook prerouting priority 0;\n{into}\n}}\n\
                 chain to {{\ntype filter hook postrouting priority 0;\n{out}\n}}\n"
            )
        };
        let sent = |index| format!("iifname {} drop", port(index));
        let received = |index| format!("oifname {} drop", port(index));
        let chains = match cut {
            Cut::Node(index) => both(sent(index), received(index)),
            Cut::From(index) => both(sent(index), String::new()),
            Cut::To(index) => both(String::new(), received(index)),
            Cut::Between(one, other) => format!(
                "chain through {{\ntype filter hook forward priority 0;\n\
                 iifname {one} oifname {other} drop\niifname {other} oifname {one} drop\n}}\n",
                one = port(one),
                other = port(other)
            ),
            Cut::Port(index, number) => both(
                format!("iifname {} tcp dport {number} drop", port(index)),
                format!("oifname {} tcp sport {number} drop", port(index)),
            ),
        };
        output(Command::new("nft").arg(format!("table bridge {TABLE} {{\n{chains}}}\n"))).map(drop)
    }

    /// Drops none any more.
    pub fn mend(&self) -> Result<()> {
        output(Command::new("nft").args(["delete", "table", "bridge", TABLE])).map(drop)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for name in &self.names {
            let _ = ip(&["netns", "delete", name]);
        }
    }
}

/// The bridge's end of a node's cable.
fn port_of(index: usize) -> String {
    format!("azekura-n{}", index + 1)
}

fn namespace(name: &str) -> PathBuf {
    Path::new("/run/netns").join(name)
}

fn ip(arguments: &[&str]) -> Result<()> {
    output(Command::new("ip").args(arguments)).map(drop)
}
