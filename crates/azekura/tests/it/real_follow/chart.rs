//! With the times that the chart gives: how long it takes from the loss of a machine, a storage node on it included, until its volume is
//! attached elsewhere. Meanwhile another machine's kubelet is silent as well, and that one's volume is in use.

use super::{Controller, LOST, attached_to, fill};
use crate::support::attached::Attached;
use crate::support::cluster::{Cluster, NODES};
use crate::support::kubernetes::Kubernetes;
use crate::support::noise;
use serde_json::json;
use std::io::Read;
use std::time::{Duration, Instant};

/// The machine whose kubelet is silent while its volume is in use.
const DEAF: &str = "second";
/// The machine that gets the volume.
const NEXT: &str = "third";
/// Within what it is promised to be attached elsewhere.
const PROMISED: Duration = Duration::from_secs(60);
/// How long the machine that lives is watched: many rounds longer than it takes to be lost.
const WATCHED: Duration = Duration::from_secs(45);

/// The arguments that the chart's default values make.
fn times_of_the_chart() -> Vec<String> {
    let values = include_str!("../../../../../deploy/chart/azekura/values.yaml");
    let lines = values
        .lines()
        .skip_while(|line| line.trim() != "followPods:");
    let lines: Vec<&str> = lines.map(str::trim).collect();
    let value = |key: &str| {
        let found = lines.iter().find_map(|line| line.strip_prefix(key));
        found.expect("the chart has it").trim_start_matches(": ")
    };
    assert_eq!(value("enabled"), "true");
    vec![
        format!("--lost-after={}", value("lostAfter")),
        format!("--return-after={}", value("returnAfter")),
    ]
}

/// When each step was seen first.
struct Steps {
    since: Instant,
    seen: Vec<(&'static str, Duration)>,
}

impl Steps {
    fn note(&mut self, what: &'static str, happened: bool) {
        if happened && !self.seen.iter().any(|(seen, _)| *seen == what) {
            self.seen.push((what, self.since.elapsed()));
        }
    }

    fn has(&self, what: &str) -> bool {
        self.seen.iter().any(|(seen, _)| *seen == what)
    }
}

const CLEARED: &str = "attachment cleared";
const ELSEWHERE: &str = "attached elsewhere";

/// Looks until Kubernetes has let go of the volume attachment.
fn watch(steps: &mut Steps, kubernetes: &Kubernetes, api: &str) {
    while !steps.has(CLEARED) {
        assert!(
            steps.since.elapsed() < PROMISED,
            "not within {PROMISED:?}: only {:?}, and {:?}",
            steps.seen,
            kubernetes.changes()
        );
        let changes = kubernetes.changes();
        let done = |what: &str| changes.iter().any(|change| change.what == what);
        let marked = done("node host tainted: azekura");
        let released = done("pod shop/db-0 deleted after 0 s");
        let cleared = done("volume attachment va-1 deleted");
        // Whatever was done was done to a fenced volume.
        steps.note("volume fenced", marked || attached_to(api) == "[]");
        steps.note("node out of service", marked);
        steps.note("pod let go", released);
        steps.note(CLEARED, cleared);
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Attaches the volume as the next machine and compares its content.
fn attach_elsewhere(cluster: &Cluster, through: usize, content: &[u8]) -> impl FnOnce() {
    let run_dir = cluster.directory.path("run-next");
    let run_dir = run_dir.to_str().unwrap().to_owned();
    let node = cluster.node(through);
    let attached = node.ask(&["attach", "v", "--client", NEXT, "--run-dir", &run_dir]);
    let device = attached["device"].as_str().unwrap();
    let mut read = vec![0; content.len()];
    let mut file = std::fs::File::open(device).unwrap();
    file.read_exact(&mut read).unwrap();
    assert!(read == content, "what the lost machine wrote is there");
    move || {
        node.ask(&["detach", "v", "--client", NEXT, "--run-dir", &run_dir]);
    }
}

/// A machine is lost with everything on it; the volume that it used is attached elsewhere, and its storage node served it.
#[test]
fn with_the_times_of_the_chart_a_lost_machines_volume_is_attached_elsewhere_within_60_s() {
    let mut cluster = Cluster::start("follow-chart");
    let node = cluster.node(0);
    node.make_volume("64MiB");
    node.ask(&[
        "volume",
        "create",
        "w",
        "--container",
        "c",
        "--size",
        "64MiB",
    ]);
    let lost = Attached::attach_as(LOST, &cluster.directory, node, "v");
    let used = Attached::attach_as(DEAF, &cluster.directory, node, "w");
    let content = noise(1, 4 << 20);
    lost.write(&content);
    let owner = cluster.owner("v", 0).expect("it is served");
    let through = (owner + 1) % NODES;
    let api = cluster.node(through).api.clone();
    let kubernetes = Kubernetes::start({
        let api = api.clone();
        move || attached_to(&api)
    });
    // So many that two silent ones are no reason to doubt oneself.
    fill(&kubernetes, &[LOST, DEAF, NEXT, "fourth", "fifth", "sixth"]);
    kubernetes.add("volumeattachments", "va-2", json!({
        "spec": {"attacher": "csi.azekura.dev", "nodeName": DEAF, "source": {"persistentVolumeName": "pv-2"}},
    }));
    let controller = Controller::start(&cluster, &kubernetes.kubeconfig(), &times_of_the_chart());
    super::wait_until("the controller has seen the nodes", || {
        kubernetes.lists("leases") > 0
    });

    kubernetes.silence(DEAF);
    kubernetes.silence(LOST);
    let mut steps = Steps {
        since: Instant::now(),
        seen: Vec::new(),
    };
    lost.kill();
    cluster.kill_nodes(&[owner]);
    watch(&mut steps, &kubernetes, &api);
    let detach = attach_elsewhere(&cluster, through, &content);
    steps.note(ELSEWHERE, true);
    for (what, after) in &steps.seen {
        println!("{:.1} s after the loss: {what}", after.as_secs_f64());
    }
    let (_, took) = steps.seen.last().unwrap();
    assert!(*took < PROMISED, "{took:?}");

    // Nothing was done to the machine that only its kubelet is silent of, and it can write.
    std::thread::sleep(WATCHED.saturating_sub(steps.since.elapsed()));
    assert!(
        controller.said("node second is silent, and is left as it is: its volume w still hears it")
    );
    let changes = kubernetes.changes();
    assert_eq!(changes.len(), 3, "{changes:?}");
    used.write(&content);
    detach();
    used.detach(cluster.node(through));
}
