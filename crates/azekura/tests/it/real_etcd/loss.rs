//! Members that lose their data.

use super::scene::{Scene, process_on, verb};
use crate::support::cluster::wait_until;
use crate::support::{Node, nbdcopy, noise};

const MIB: usize = 1 << 20;

fn text(path: &std::path::Path) -> String {
    path.display().to_string()
}

#[test]
fn real_supervised_etcd_that_lost_everything_is_refused_and_rebuilt_from_the_disks() {
    let mut scene = Scene::begin("etcd-lost");
    let node = scene.node(0);
    node.make_volume("8MiB");
    let content = noise(7, 4 * MIB);
    let file = scene.directory.write("in", &content);
    nbdcopy(&text(&file), &scene.node(0).export("v"));
    scene.found();
    scene.join(4);
    scene.join(5);
    scene.wait_for_members(0, &[0, 1, 2]);

    // One member loses its data: it never speaks for it, and comes back as another one.
    let before = scene.status(0);
    scene.kill(1);
    std::fs::remove_dir_all(&scene.places[1].data).unwrap();
    scene.start(&[1]);
    scene.wait_for_members(0, &[0, 1, 2]);
    assert_ne!(before, scene.status(0));

    // All of them do.
    for index in 0..3 {
        scene.kill(index);
    }
    for place in &scene.places {
        wait_until("the kernel ends the member", || {
            process_on(&place.data).is_none()
        });
        std::fs::remove_dir_all(&place.data).unwrap();
    }
    let refused = Node::try_start(&scene.places[0].config)
        .err()
        .expect("it does not start");
    for part in ["is gone", "catalog rebuild", "never begun by a start"] {
        assert!(refused.contains(part), "{part}: {refused}");
    }
    assert!(!scene.places[0].data.exists(), "nothing is begun");

    let configs: Vec<String> = scene
        .places
        .iter()
        .map(|place| text(&place.config))
        .collect();
    let mut words = vec!["catalog", "rebuild"];
    for config in &configs {
        words.extend(["--config", config]);
    }
    let rebuilt = verb(&words).unwrap();
    assert!(rebuilt["rows"].as_u64() > Some(5), "{rebuilt}");
    scene.start(&[0, 1, 2]);
    scene.wait_for_members(2, &[0, 1, 2]);
    let out = scene.directory.path("out");
    nbdcopy(&scene.node(1).export("v"), &text(&out));
    let found = std::fs::read(&out).unwrap();
    assert!(found[..content.len()] == content[..], "other bytes");
}
