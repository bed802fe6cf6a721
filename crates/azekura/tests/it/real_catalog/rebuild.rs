//! All of etcd's data is deleted, and the cluster goes on.

use super::{Contents, MIB, catalog, check, check_all, text, write};
use crate::support::cluster::Cluster;

/// Volumes, a snapshot, a clone, writes after them, and a takeover; what each volume holds.
fn story(cluster: &mut Cluster) -> Contents {
    let directory = &cluster.directory;
    let node = cluster.node(0);
    node.ask(&["container", "create", "c", "--rf", "2"]);
    for volume in ["a", "b"] {
        node.ask(&[
            "volume",
            "create",
            volume,
            "--container",
            "c",
            "--size",
            "32MiB",
        ]);
    }
    let old = write(directory, node, "a", 1, 12 * MIB);
    node.ask(&["snapshot", "create", "a", "s"]);
    write(directory, node, "a", 2, 12 * MIB);
    let b = write(directory, node, "b", 3, 5 * MIB);
    node.ask(&["clone", "a", "s", "c"]);
    let owner = cluster.owner("a", 0).unwrap();
    cluster.kill_nodes(&[owner]);
    let other = cluster.node((owner + 1) % 3);
    let a = write(&cluster.directory, other, "a", 4, 12 * MIB);
    cluster.start_nodes(&[owner]);
    let named = |name: &str, content| (name.to_owned(), content);
    vec![named("a", a), named("b", b), named("c", old)]
}

#[test]
fn real_cluster_goes_on_after_etcd_has_lost_everything() {
    let mut cluster = Cluster::start("catalog-rebuild");
    let contents = story(&mut cluster);
    let configs: Vec<String> = (0..3)
        .map(|index| text(&cluster.directory.path(&format!("node-{index}.toml"))))
        .collect();
    let from: Vec<&str> = configs
        .iter()
        .flat_map(|config| ["--config", config])
        .collect();
    for round in 0..2 {
        cluster.kill_nodes(&[0, 1, 2]);
        cluster.etcd.lose();
        cluster.etcd.restart();
        let refused = catalog(&[&["rebuild"], &from[..4]].concat()).unwrap_err();
        assert!(refused.contains("--without 3"), "{refused}");
        let report = catalog(&[&["rebuild"], &from[..]].concat()).unwrap();
        assert_eq!(report["incomplete"], serde_json::Value::Null, "{report}");
        let again = catalog(&[&["rebuild"], &from[..]].concat()).unwrap_err();
        assert!(again.contains("not empty"), "{again}");
        cluster.start_nodes(&[0, 1, 2]);
        let node = cluster.node(round);
        check_all(&cluster.directory, node, &contents);
        let snapshots = node.ask(&["snapshot", "list", "a"]);
        assert_eq!(snapshots.as_array().unwrap().len(), 1, "{snapshots}");
        // What the snapshot holds is what `c`, an older clone of it, does.
        let later = format!("later-{round}");
        node.ask(&["clone", "a", "s", &later]);
        let (_, old) = contents.iter().find(|(name, _)| name == "c").unwrap();
        check(&cluster.directory, node, &later, old);
    }
    // A disk is dead as well.
    cluster.kill_nodes(&[0, 1, 2]);
    std::fs::write(cluster.directory.path("disk-2"), "").unwrap();
    let all = [&["rebuild", "--dry-run"], &from[..]].concat();
    let refused = catalog(&all).unwrap_err();
    assert!(refused.contains("--without 3"), "{refused}");
    let report = catalog(&[&all[..], &["--without", "3"]].concat()).unwrap();
    let said = report["remarks"].to_string();
    // Which depends on whether the groups of the last catalog were compared before.
    let forgotten = said.contains("store-3 is forgotten");
    assert!(
        forgotten || said.contains("azekura disk remove 3 --lost"),
        "{said}"
    );
}

#[test]
fn real_old_backup_loses_nothing_that_was_written_since() {
    let mut cluster = Cluster::start("catalog-restore");
    let config = text(&cluster.directory.path("node-0.toml"));
    let backup = text(&cluster.directory.path("backup"));
    cluster
        .node(0)
        .ask(&["container", "create", "early", "--rf", "2"]);
    catalog(&["backup", &backup, "--config", &config]).unwrap();
    let refused = catalog(&["backup", &backup, "--config", &config]).unwrap_err();
    assert!(refused.contains("there already"), "{refused}");
    let contents = story(&mut cluster);
    cluster.kill_nodes(&[0, 1, 2]);
    cluster.etcd.lose();
    cluster.etcd.restart();
    let configs: Vec<String> = (0..3)
        .map(|index| text(&cluster.directory.path(&format!("node-{index}.toml"))))
        .collect();
    let surveyed = text(&cluster.directory.path("survey"));
    catalog(&["survey", &surveyed, "--config", &configs[2]]).unwrap();
    let from = [
        "--config",
        &configs[0],
        "--config",
        &configs[1],
        "--survey",
        &surveyed,
    ];
    let cut = cluster.directory.path("cut");
    let whole = std::fs::read_to_string(&backup).unwrap();
    std::fs::write(&cut, &whole[..whole.len() - 30]).unwrap();
    let refused = catalog(&[&["restore", &text(&cut)], &from[..]].concat()).unwrap_err();
    assert!(refused.contains("damaged"), "{refused}");
    let report = catalog(&[&["restore", &backup], &from[..]].concat()).unwrap();
    assert_eq!(report["incomplete"], serde_json::Value::Null, "{report}");
    cluster.start_nodes(&[0, 1, 2]);
    check_all(&cluster.directory, cluster.node(1), &contents);
}
