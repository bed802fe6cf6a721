//! Nodes with a small store and a seat each.

use crate::support::cluster::{lasting_address, wait_until};
use crate::support::{AZEKURA, Directory, Node};
use serde_json::Value;
use std::path::PathBuf;
use std::process::Command;

/// Size of a node's disk.
const DISK: &str = "384 MiB";

/// A node that may run, and its files.
pub struct Place {
    pub config: PathBuf,
    pub node: Option<Node>,
    /// Folder of its member's data.
    pub data: PathBuf,
    /// Address of its member for clients.
    pub client: String,
}

/// Nodes of one cluster. Ends with the test.
pub struct Scene {
    pub places: Vec<Place>,
    pub directory: Directory,
}

impl Scene {
    /// One node with a catalog in a file and three stores, as a single machine begins.
    pub fn begin(test: &str) -> Self {
        let mut scene = Self {
            places: Vec::new(),
            directory: Directory::new(test),
        };
        scene.add("embedded = \"catalog.redb\"", 1..4, "");
        scene
    }

    /// Starts one more node.
    pub fn add(&mut self, catalog: &str, stores: std::ops::Range<u32>, more: &str) {
        let index = self.places.len();
        let (client, peer) = (lasting_address(), lasting_address());
        let listen = lasting_address();
        let mut text = format!(
            "cluster = \"real\"\nnode = \"node-{index}\"\nlisten = \"{listen}\"\nnbd = \"127.0.0.1:0\"\n\
             api = \"127.0.0.1:0\"\n{more}\n[catalog]\n{catalog}\n\n[etcd]\nclient = \"{client}\"\npeer = \"{peer}\"\n\n\
             [tuning]\nrepair-delay = \"3s\"\n"
        );
        for id in stores {
            text += &format!(
                "\n[[store]]\nid = {id}\njournal = \"32 MiB\"\n\n[[store.disk]]\npath = \"disk-{id}\"\ncreate = \"{DISK}\"\n"
            );
        }
        let config = self.directory.write(&format!("node-{index}.toml"), text);
        let node = Node::start(&config);
        self.places.push(Place {
            data: self.directory.path(&format!("node-{index}.state/etcd")),
            config,
            node: Some(node),
            client,
        });
    }

    /// Adds lines to the table `[etcd]` of a node and starts it again.
    pub fn set_seat(&mut self, index: usize, lines: &str) {
        self.replace_in_config(index, "[etcd]\n", &format!("[etcd]\n{lines}"));
    }

    /// Starts a node again with a part of its configuration replaced.
    pub fn replace_in_config(&mut self, index: usize, from: &str, to: &str) {
        self.kill(index);
        let config = &self.places[index].config;
        let text = std::fs::read_to_string(config).unwrap();
        let changed = text.replace(from, to);
        assert_ne!(text, changed);
        std::fs::write(config, changed).unwrap();
        self.start(&[index]);
    }

    /// Gives the member of a node that does not run other addresses.
    pub fn set_addresses(&mut self, index: usize, client: &str, peer: &str) {
        let place = &mut self.places[index];
        let text = std::fs::read_to_string(&place.config).unwrap();
        let lines = text.lines().map(|line| match line.split_once(" = ") {
            Some(("client", _)) => format!("client = \"{client}\""),
            Some(("peer", _)) => format!("peer = \"{peer}\""),
            _ => line.to_owned(),
        });
        let changed: Vec<String> = lines.collect();
        assert_ne!(text.lines().collect::<Vec<_>>(), changed);
        std::fs::write(&place.config, changed.join("\n") + "\n").unwrap();
        client.clone_into(&mut place.client);
    }

    /// Adds a node with one store to a cluster whose catalog has moved.
    pub fn join(&mut self, store: u32) {
        let endpoint = format!("etcd = [\"http://{}\"]", self.places[0].client);
        self.add(&endpoint, store..store + 1, "");
    }

    pub fn node(&self, index: usize) -> &Node {
        self.places[index].node.as_ref().expect("it runs")
    }

    pub fn kill(&mut self, index: usize) {
        self.places[index].node.take().expect("it runs").kill();
    }

    /// Starts nodes again, all at once.
    pub fn start(&mut self, indices: &[usize]) {
        let starting: Vec<_> = indices
            .iter()
            .map(|&index| Node::launch(&self.places[index].config))
            .collect();
        for (&index, starting) in indices.iter().zip(starting) {
            self.places[index].node = Some(starting.ready().expect("it starts"));
        }
    }

    /// Moves the catalog to an etcd that the first node begins.
    pub fn found(&self) {
        let moved = self.node(0).ask(&["catalog", "move", "--supervised"]);
        assert!(moved["rows"].as_u64() > Some(3), "{moved}");
    }

    /// Names of the members that vote and answer, as a node sees it.
    pub fn members(&self, through: usize) -> Vec<String> {
        good(&self.status(through))
    }

    pub fn status(&self, through: usize) -> Value {
        self.node(through).ask(&["catalog", "status"])
    }

    pub fn wait_for_members(&self, through: usize, expected: &[usize]) {
        let expected: Vec<String> = expected
            .iter()
            .map(|index| format!("node-{index}"))
            .collect();
        // While members change, etcd does not answer for a moment; then they are not there yet.
        wait_until(&format!("the members are {expected:?}"), || {
            let status = self.node(through).try_ask(&["catalog", "status"]);
            let all = |status: &Value| status["members"].as_array().map_or(0, Vec::len);
            status.is_some_and(|status| good(&status) == expected && all(&status) == expected.len())
        });
    }
}

/// The process that has a data folder, if any.
pub fn process_on(data: &std::path::Path) -> Option<u64> {
    let processes = std::fs::read_dir("/proc").unwrap();
    let ids = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u64>().ok());
    let mut on = ids.filter(|id| {
        let line = std::fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
        let words: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
        let named = words.contains(&data.as_os_str().as_encoded_bytes());
        named && words.first().is_some_and(|first| first.ends_with(b"etcd"))
    });
    let found = on.next();
    assert!(on.next().is_none(), "two processes have {}", data.display());
    found
}

/// Runs a verb without a node; what it says.
pub fn verb(words: &[&str]) -> Result<Value, String> {
    let output = Command::new(AZEKURA)
        .args(words)
        .args(["-o", "json"])
        .output()
        .unwrap();
    match output.status.success() {
        true => Ok(serde_json::from_slice(&output.stdout).unwrap()),
        false => Err(String::from_utf8(output.stderr).unwrap()),
    }
}

/// Names of the members that vote and answer, sorted.
fn good(status: &Value) -> Vec<String> {
    let members = status["members"].as_array().unwrap().iter();
    let good = members.filter(|one| one["votes"] == true && one.get("problem").is_none());
    let mut names: Vec<String> = good
        .map(|one| one["name"].as_str().unwrap().to_owned())
        .collect();
    names.sort();
    names
}
