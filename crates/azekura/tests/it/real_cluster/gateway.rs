//! Clients of an NBD gateway while nodes and etcd fail: two checked loads and two fios.

use super::fio::{Fio, Task};
use super::load::Load;
use super::scene::Scene;
use std::time::Duration;

/// Answers of each load before a strike, and between two events after it.
const ANSWERS: u64 = 400;

/// A scene with clients at work.
struct Clients {
    scene: Scene,
    loads: Vec<Load>,
    fios: Vec<Fio>,
    test: &'static str,
}

fn fio(scene: &Scene, name: &str, task: Task) -> Fio {
    let uri = scene.cluster.node(scene.gateway).export(name);
    Fio::over_nbd(&scene.cluster.directory.0, name, &uri, task)
}

impl Clients {
    fn start(test: &'static str) -> Self {
        let scene = Scene::start(test, &["log", "fio"]);
        let nbd = &scene.cluster.node(scene.gateway).nbd;
        let mut clients = Self {
            loads: vec![Load::start(nbd, "log-2", 2), Load::start(nbd, "log-3", 3)],
            fios: ["fio-2", "fio-3"]
                .map(|name| fio(&scene, name, Task::WriteAndVerify))
                .into(),
            scene,
            test,
        };
        clients.wait();
        clients
    }

    /// Waits until both loads got on.
    fn wait(&mut self) {
        for load in &mut self.loads {
            load.wait_for(ANSWERS);
        }
    }

    fn assert_fio_runs(&mut self) {
        self.fios.iter_mut().for_each(Fio::assert_running);
    }

    /// Waits for the end of all clients, every byte checked.
    fn finish(mut self) {
        for (load, rf) in self.loads.drain(..).zip([2, 3]) {
            let seen = load.finish();
            println!(
                "{}: RF{rf} volume, {} writes, {} reads, {} flushes; longest time without an answer {:.0} ms",
                self.test,
                seen.writes,
                seen.reads,
                seen.flushes,
                seen.stall.as_secs_f64() * 1000.0
            );
            if seen.unflushed > 0 {
                let count = seen.unflushed;
                println!("    when all were killed, {count} acknowledged writes were not flushed");
            }
            if seen.stragglers != (0, 0) {
                let (answered, refused) = seen.stragglers;
                println!(
                    "    through the stopped owner: {answered} requests answered, {refused} not"
                );
            }
        }
        for (fio, rf) in self.fios.drain(..).zip([2, 3]) {
            let longest = fio.finish().map(|longest| longest.as_secs_f64() * 1000.0);
            let longest = longest.map(|ms| format!("; longest write {ms:.0} ms"));
            let longest = longest.unwrap_or_default();
            println!("    fio on an RF{rf} volume: verified{longest}");
        }
    }
}

#[test]
fn real_gateway_goes_on_when_a_replica_is_killed_and_comes_back() {
    let mut clients = Clients::start("replica-killed");
    clients.assert_fio_runs();
    let replica = clients.scene.replica;
    clients.scene.cluster.kill_nodes(&[replica]);
    clients.wait();
    clients.scene.cluster.start_nodes(&[replica]);
    clients.wait();
    clients.finish();
}

#[test]
fn real_gateway_goes_on_when_the_owner_is_killed_and_comes_back() {
    let mut clients = Clients::start("owner-killed");
    clients.assert_fio_runs();
    let owner = clients.scene.owner;
    clients.scene.cluster.kill_nodes(&[owner]);
    clients.wait();
    clients.scene.wait_for_takeover("log-2");
    clients.scene.cluster.start_nodes(&[owner]);
    clients.wait();
    clients.finish();
}

#[test]
fn real_gateway_goes_on_while_etcd_is_dead_and_after_its_restart() {
    let mut clients = Clients::start("etcd-killed");
    clients.assert_fio_runs();
    clients.scene.cluster.etcd.kill();
    clients.wait();
    // A replica that is late for a moment: no other one can be taken now.
    let replica = clients.scene.cluster.node(clients.scene.replica);
    replica.signal("STOP");
    std::thread::sleep(Duration::from_millis(700));
    replica.signal("CONT");
    clients.wait();
    // Longer than the leases live: they are gone, or are renewed at the last moment, when etcd comes back.
    std::thread::sleep(Duration::from_secs(4));
    clients.wait();
    clients.scene.cluster.etcd.restart();
    clients.wait();
    clients.finish();
}

#[test]
fn real_restart_after_all_were_killed_finds_everything_flushed_in_order() {
    let mut clients = Clients::start("all-killed");
    for fio in clients.fios.drain(..) {
        fio.finish();
    }
    clients.wait();
    clients.scene.cluster.kill_nodes(&[0, 1, 2]);
    clients.scene.cluster.start_nodes(&[0, 1, 2]);
    let nbd = clients
        .scene
        .cluster
        .node(clients.scene.gateway)
        .nbd
        .clone();
    for load in &mut clients.loads {
        load.reopen(&nbd);
    }
    clients.fios = ["fio-2", "fio-3"]
        .map(|name| fio(&clients.scene, name, Task::Verify))
        .into();
    clients.wait();
    clients.finish();
}

#[test]
fn real_gateway_goes_on_when_a_replica_is_stopped_and_continued() {
    let mut clients = Clients::start("replica-stopped");
    clients.assert_fio_runs();
    let replica = clients.scene.replica;
    clients.scene.cluster.node(replica).signal("STOP");
    clients.wait();
    clients.scene.cluster.node(replica).signal("CONT");
    clients.wait();
    clients.finish();
}

#[test]
fn real_stopped_owner_serves_nothing_stale_and_acknowledges_nothing_when_it_continues() {
    let mut clients = Clients::start("owner-stopped");
    let owner = clients.scene.owner;
    let nbd = clients.scene.cluster.node(owner).nbd.clone();
    for load in &mut clients.loads {
        load.prepare(&nbd);
    }
    clients.assert_fio_runs();
    clients.scene.cluster.node(owner).signal("STOP");
    clients.wait();
    for volume in ["log-2", "log-3"] {
        clients.scene.wait_for_takeover(volume);
    }
    clients.wait();
    // These wait in the stopped process's sockets. What they ask for was overwritten since.
    for load in &mut clients.loads {
        load.straggle();
    }
    clients.wait();
    clients.scene.cluster.node(owner).signal("CONT");
    for load in &mut clients.loads {
        load.collect();
    }
    clients.wait();
    clients.finish();
}
