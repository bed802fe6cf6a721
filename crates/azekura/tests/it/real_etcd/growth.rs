//! One member becomes three and five, a killed one comes back, a lost one is replaced.

use super::scene::{Scene, process_on};
use crate::support::cluster::wait_until;
use crate::support::process::signal;
use crate::support::{nbdcopy, noise};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

const MIB: usize = 1 << 20;

/// Writes and reads a volume over and over while members come and go.
struct Client {
    stop: Arc<AtomicBool>,
    rounds: Arc<AtomicU64>,
    thread: std::thread::JoinHandle<()>,
}

impl Client {
    fn begin(scene: &Scene, volume: &str) -> Self {
        let (stop, rounds) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU64::new(0)),
        );
        let (told, counted) = (stop.clone(), rounds.clone());
        let export = scene.node(0).export(volume);
        let (input, output) = (scene.directory.path("in"), scene.directory.path("out"));
        let thread = std::thread::spawn(move || {
            let text = |path: &std::path::Path| path.display().to_string();
            while !told.load(Relaxed) {
                let content = noise(counted.load(Relaxed) + 1, 2 * MIB);
                std::fs::write(&input, &content).unwrap();
                nbdcopy(&text(&input), &export);
                let _ = std::fs::remove_file(&output);
                nbdcopy(&export, &text(&output));
                let found = std::fs::read(&output).unwrap();
                assert!(found[..content.len()] == content[..], "other bytes");
                counted.fetch_add(1, Relaxed);
            }
        });
        Self {
            stop,
            rounds,
            thread,
        }
    }

    fn end(self) {
        let before = self.rounds.load(Relaxed);
        wait_until("the client goes on", || {
            self.rounds.load(Relaxed) > before + 1
        });
        self.stop.store(true, Relaxed);
        self.thread.join().unwrap();
    }
}

#[test]
fn real_supervised_etcd_grows_to_three_and_replaces_a_lost_member_under_load() {
    let mut scene = Scene::begin("etcd-growth");
    let node = scene.node(0);
    node.make_volume("8MiB");
    let client = Client::begin(&scene, "v");
    scene.found();
    scene.wait_for_members(0, &[0]);
    scene.join(4);
    scene.join(5);
    scene.wait_for_members(0, &[0, 1, 2]);
    let verdict = scene.node(2).ask(&["resiliency"]);
    let parts = verdict["components"].as_array().unwrap();
    let catalog = parts
        .iter()
        .find(|part| part["component"] == "catalog")
        .unwrap();
    assert_eq!(catalog["tolerates"], 1, "{catalog}");

    // A member's process is killed: its node starts it again.
    let data = scene.places[1].data.clone();
    let killed = process_on(&data).expect("it runs");
    signal(killed, "KILL");
    wait_until("another process runs", || {
        process_on(&data).is_some_and(|now| now != killed)
    });
    scene.wait_for_members(0, &[0, 1, 2]);

    // A node is lost for good: the fourth takes its member's place.
    scene.join(6);
    assert_eq!(
        scene.members(0),
        ["node-0", "node-1", "node-2"],
        "four are no better than three"
    );
    scene.kill(2);
    wait_until("the kernel ends its member", || {
        process_on(&scene.places[2].data).is_none()
    });
    std::fs::remove_dir_all(&scene.places[2].data).unwrap();
    scene.wait_for_members(0, &[0, 1, 3]);
    client.end();

    // The lost one comes back, without its data: it is no member, and knows where the catalog is now.
    scene.start(&[2]);
    assert_eq!(scene.members(2), ["node-0", "node-1", "node-3"]);
    wait_until("its seat is free", || {
        let status = scene.status(0);
        let seats = status["seats"].as_array().unwrap();
        let seat = seats.iter().find(|seat| seat["node"] == "node-2");
        seat.is_some_and(|seat| seat["state"] == "free")
    });
    // Everything stops and starts again, with configurations that name the first member only.
    for index in 0..4 {
        scene.kill(index);
    }
    scene.start(&[0, 1, 2, 3]);
    scene.wait_for_members(3, &[0, 1, 3]);
    // With a fifth node there are five.
    scene.join(7);
    scene.wait_for_members(4, &[0, 1, 2, 3, 4]);
}
