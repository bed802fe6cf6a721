//! One search finds what every part did for a volume: the nodes, both processes of the driver, and the process of its device.

use super::driver::Driver;
use super::requests::{can_attach, mount};
use crate::support::cluster::wait_until;
use serde_json::Value;
use std::collections::BTreeSet;

fn lines(driver: &Driver, words: &[&str]) -> Vec<Value> {
    let mut all = vec!["logs", "--limit", "2000"];
    all.extend(words);
    let answer = driver.node.ask(&all);
    answer["lines"].as_array().expect("a list").clone()
}

/// Who says so: a component of the driver, or nothing for a node.
fn sayers(lines: &[Value], said: &str) -> BTreeSet<Option<String>> {
    let fits = |line: &&Value| {
        line["message"]
            .as_str()
            .is_some_and(|text| text.contains(said))
    };
    let of = |line: &Value| line["origin"]["component"].as_str().map(str::to_owned);
    lines.iter().filter(fits).map(of).collect()
}

#[test]
fn real_csi_a_volume_is_followed_through_all_components_by_one_search() {
    let mut driver = Driver::new("csi-logs");
    let volume = driver.volume("pvc", 64);
    let node = driver.node_id();
    let device = can_attach();
    if device {
        let context = driver.publish(&volume, &node, false).unwrap();
        driver.stage(&volume, &context, mount("ext4")).unwrap();
        // The device's process says so to its log while the plugin is away.
        driver.restart_plugin();
        driver.unstage(&volume).unwrap();
        driver.unpublish(&volume, &node).unwrap();
    }
    driver.delete(&volume).unwrap();
    let csi = |name: &str| Some(name.to_owned());
    // By the name of a volume that is gone.
    wait_until("every component has told", || {
        let found = lines(&driver, &["--volume", "pvc"]);
        let done = sayers(&found, "done");
        let nodes = sayers(&found, "deleted; its space comes back").contains(&None);
        let attached = sayers(&found, "the device is there");
        let detached = sayers(&found, "the device is gone");
        let here = done.contains(&csi("csi-node"))
            && attached.contains(&csi("attach"))
            && detached.contains(&csi("attach"));
        nodes && done.contains(&csi("csi-controller")) && (here || !device)
    });
    let found = lines(&driver, &["--volume", "pvc"]);
    let delete = found.iter().find(|line| {
        line["fields"]["operation"] == "DeleteVolume"
            && line["origin"]["component"] == "csi-controller"
    });
    let delete = delete.expect("the driver's own line");
    // The request of the driver is that of the node.
    let request = delete["fields"]["request"].as_str().expect("an id");
    let same = lines(&driver, &["--request", request]);
    assert!(sayers(&same, "done").len() >= 2, "{same:?}");
    // What was told is no node's, and is found by who said it.
    let own = lines(&driver, &["--node", "one"]);
    assert!(own.iter().all(|line| line["origin"].is_null()), "{own:?}");
    let told = lines(&driver, &["--text", "csi-controller"]);
    assert!(
        told.iter().any(|line| line["origin"]["by"].is_string()),
        "{told:?}"
    );
    if device {
        let of = |line: &&Value| line["origin"]["component"] == "attach";
        let words = "the device is there";
        let twice: Vec<&Value> = found
            .iter()
            .filter(of)
            .filter(|line| line["message"] == words)
            .collect();
        assert_eq!(
            twice.len(),
            1,
            "a plugin that starts again tells nothing twice: {twice:?}"
        );
        assert_eq!(twice[0]["origin"]["host"], "worker");
    }
}
