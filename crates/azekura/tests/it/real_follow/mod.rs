//! A machine with an attached volume is lost: its volume is fenced, its pod is let go, another machine gets the volume. Real nodes,
//! a real attached device, and an API of Kubernetes that remembers what was done to it. Needs root, /dev/fuse and loop devices.

mod chart;

use crate::support::attached::Attached;
use crate::support::cluster::{Cluster, azekura_ok, wait_until};
use crate::support::kubernetes::{Change, Kubernetes};
use crate::support::process::{Process, signal};
use crate::support::{AZEKURA, noise};
use serde_json::json;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The machine that is lost is the one that the tests attach as.
const LOST: &str = "host";

/// The controller, which follows.
struct Controller {
    _process: Process,
    log: PathBuf,
}

impl Controller {
    /// With these arguments, which say when a machine is lost.
    fn start(cluster: &Cluster, kubeconfig: &str, times: &[String]) -> Self {
        let path = |name: &str| cluster.directory.path(name);
        let log = path("controller.log");
        let api: Vec<&str> = (0..3)
            .map(|index| cluster.node(index).api.as_str())
            .collect();
        let child = Command::new(AZEKURA)
            .args(["csi", "controller", "--api", &api.join(","), "--endpoint"])
            .arg(path("controller.sock"))
            .arg("--follow-pods")
            .args(times)
            .arg("--kubeconfig")
            .arg(cluster.directory.write("kubeconfig", kubeconfig))
            .stdin(Stdio::null())
            .stderr(std::fs::File::create(&log).unwrap())
            .spawn();
        Self {
            _process: Process::new(child.unwrap()),
            log,
        }
    }

    fn said(&self, what: &str) -> bool {
        std::fs::read_to_string(&self.log).unwrap().contains(what)
    }
}

/// What Kubernetes knows: these nodes, a pod with a claim and one without on the one that will be lost.
fn fill(kubernetes: &Kubernetes, nodes: &[&str]) {
    for name in nodes {
        kubernetes.add_node(name);
    }
    kubernetes.add("volumeattachments", "va-1", json!({
        "spec": {"attacher": "csi.azekura.dev", "nodeName": LOST, "source": {"persistentVolumeName": "pv-1"}},
    }));
    kubernetes.add(
        "persistentvolumes",
        "pv-1",
        json!({
            "spec": {"claimRef": {"namespace": "shop", "name": "data"}},
        }),
    );
    kubernetes.add(
        "pods",
        "db-0",
        json!({
            "metadata": {"namespace": "shop", "uid": "uid-of-db-0"},
            "spec": {"nodeName": LOST, "containers": [],
                "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]},
        }),
    );
    kubernetes.add(
        "pods",
        "web",
        json!({
            "metadata": {"namespace": "shop", "uid": "uid-of-web"},
            "spec": {"nodeName": LOST, "containers": []},
        }),
    );
}

/// Whom the volume is attached to, as the cluster says.
fn attached_to(api: &str) -> String {
    let shown = azekura_ok(&["volume", "show", "v", "-o", "json", "--api", api]);
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
    shown["attachment"]["clients"].to_string()
}

#[test]
fn pods_of_a_lost_machine_are_let_go_when_its_volumes_are_fenced() {
    let cluster = Cluster::start("follow");
    let node = cluster.node(0);
    node.make_volume("64MiB");
    let volume = Attached::attach(&cluster.directory, node, "v");
    let content = noise(1, 4 << 20);
    volume.write(&content);
    let api = node.api.clone();
    let kubernetes = Kubernetes::start(move || attached_to(&api));
    fill(&kubernetes, &[LOST, "second", "third"]);
    let times = ["--lost-after=6s", "--silent-after=11s", "--return-after=4s"].map(str::to_owned);
    let controller = Controller::start(&cluster, &kubernetes.kubeconfig(), &times);

    // The machine's kubelet is cut off, but its volume is in use.
    kubernetes.silence(LOST);
    wait_until("the controller sees it", || {
        controller.said("its volume v still hears it")
    });
    std::thread::sleep(Duration::from_secs(12));
    assert_eq!(
        kubernetes.changes(),
        [],
        "a machine whose volume is in use is left alone"
    );

    // The machine is lost.
    let lost = Instant::now();
    signal(volume.pid, "KILL");
    wait_until("its pod and volume attachment are let go", || {
        kubernetes
            .changes()
            .iter()
            .any(|change| change.what == "volume attachment va-1 deleted")
    });
    println!(
        "from the loss to the volume attachment's end: {:.1} s",
        lost.elapsed().as_secs_f64()
    );
    let what: Vec<String> = kubernetes
        .changes()
        .iter()
        .map(|change| change.what.clone())
        .collect();
    let expected = [
        "node host tainted: azekura",
        "pod shop/db-0 deleted after 0 s",
        "volume attachment va-1 deleted",
    ];
    assert_eq!(what, expected);
    let fenced = |change: &Change| change.attached == "[]";
    assert!(
        kubernetes.changes().iter().all(fenced),
        "the volume was fenced before: {:?}",
        kubernetes.changes()
    );

    // It runs elsewhere, with what was written.
    let run_dir = cluster.directory.path("run-second");
    let run_dir = run_dir.to_str().unwrap();
    let elsewhere = node.ask(&["attach", "v", "--client", "second", "--run-dir", run_dir]);
    let device = elsewhere["device"].as_str().unwrap();
    let mut read = vec![0; content.len()];
    std::io::Read::read_exact(&mut std::fs::File::open(device).unwrap(), &mut read).unwrap();
    assert!(read == content, "what the lost machine wrote is there");
    node.ask(&["detach", "v", "--client", "second", "--run-dir", run_dir]);

    // The machine comes back.
    kubernetes.wake(LOST);
    wait_until("its mark is gone", || {
        kubernetes
            .changes()
            .iter()
            .any(|change| change.what == "node host tainted: nothing")
    });
    let told = ["AzekuraFenced", "AzekuraOutOfService", "AzekuraInService"];
    wait_until("events say so", || kubernetes.reasons() == told);
}
