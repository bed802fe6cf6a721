//! When pods of a silent machine are let go, and above all when they are not: an API and an orchestrator that say what a test wants.

use super::fake::{Asked, Fake, Reply, cluster, refusal};
use api::{AttachmentAnswer, ClientAnswer, VolumeAnswer};
use csi::ApiOptions;
use csi::follow::{FollowOptions, Load, Mark, Orchestrator, Pod, Unanswered, Worker, follow};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// The machine that the volume is attached to.
const MACHINE: &str = "a";
/// Long after everything that follows from a silence has been done.
const LONG: Duration = Duration::from_millis(600);

/// An orchestrator whose nodes are all silent, but for those that `beats` names.
#[derive(Clone, Default)]
struct Scene {
    nodes: Vec<&'static str>,
    beats: Vec<&'static str>,
    foreign: usize,
    /// What was done, in order.
    done: Arc<Mutex<Vec<String>>>,
    /// Whether the volume has been taken from the machine.
    fenced: Arc<AtomicBool>,
}

impl Scene {
    fn note(&self, what: String) -> Result<(), Unanswered> {
        self.done.lock().unwrap().push(what);
        Ok(())
    }

    fn has(&self, what: &str) -> bool {
        self.done.lock().unwrap().iter().any(|done| done == what)
    }
}

impl Orchestrator for Scene {
    fn workers(&self) -> Result<Vec<Worker>, Unanswered> {
        static START: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(Instant::now);
        let beat = |name: &&str| match self.beats.contains(name) {
            true => START.elapsed().as_nanos().to_string(),
            false => "never again".to_owned(),
        };
        let worker = |name: &&'static str| Worker {
            name: (*name).to_owned(),
            beat: Some(beat(name)),
            ready: true,
            mark: match self.has("marked") {
                true if *name == MACHINE => Mark::Ours,
                _ => Mark::None,
            },
        };
        Ok(self.nodes.iter().map(worker).collect())
    }

    fn load(&self, worker: &str) -> Result<Load, Unanswered> {
        assert_eq!(worker, MACHINE, "nobody else is silent");
        let pod = Pod {
            namespace: "shop".to_owned(),
            name: "db-0".to_owned(),
            uid: "1".to_owned(),
        };
        let there = |gone: &str| !self.has(gone);
        Ok(Load {
            attachments: there("detached")
                .then(|| "va-1".to_owned())
                .into_iter()
                .collect(),
            pods: there("released").then_some(pod).into_iter().collect(),
            foreign: self.foreign,
        })
    }

    fn mark(&self, _: &str, out_of_service: bool) -> Result<bool, Unanswered> {
        self.note(if out_of_service { "marked" } else { "unmarked" }.to_owned())?;
        Ok(true)
    }

    fn release(&self, _: &Pod) -> Result<(), Unanswered> {
        assert!(self.fenced.load(Relaxed), "only what is fenced is let go");
        self.note("released".to_owned())
    }

    fn detach(&self, _: &str) -> Result<(), Unanswered> {
        self.note("detached".to_owned())
    }

    fn tell(&self, _: &str, _: &str, _: &str) {}
}

/// Plays a scene in which the volume says `clients` of the machine, and detaching it is answered by `detach`; what was done.
fn play(scene: Scene, clients: Vec<ClientAnswer>, detach: fn() -> Reply) -> Vec<String> {
    let fenced = scene.fenced.clone();
    let fake = Fake::start(move |asked: &Asked| {
        let attached = !fenced.load(Relaxed);
        let volume = VolumeAnswer {
            id: 1,
            name: "v".to_owned(),
            owner: Some(1),
            clients: clients.clone(),
            attachment: AttachmentAnswer {
                clients: attached.then(|| MACHINE.to_owned()).into_iter().collect(),
                ..AttachmentAnswer::default()
            },
            ..VolumeAnswer::default()
        };
        let volume = serde_json::to_value(volume).unwrap();
        match asked.path.as_str() {
            "/api/v1/cluster" => cluster(),
            "/api/v1/volumes/volume-1" => Reply::Json(200, volume),
            "/api/v1/volumes/volume-1/detach" => {
                let reply = detach();
                fenced.fetch_or(matches!(reply, Reply::Json(200, _)), Relaxed);
                reply
            }
            path if path.starts_with("/api/v1/volumes?") => {
                Reply::Json(200, serde_json::json!([volume]))
            }
            _ => refusal(404, "not-found"),
        }
    });
    let options = FollowOptions {
        lost_after: Duration::from_millis(50),
        silent_after: Duration::from_secs(15),
        return_after: Duration::from_secs(60),
        pause: Duration::from_millis(10),
    };
    let api = ApiOptions {
        endpoints: vec![fake.url.clone()],
        token_file: None,
        credentials: None,
    };
    let player = scene.clone();
    std::thread::spawn(move || follow(api, &player, options));
    let deadline = Instant::now() + LONG;
    while !scene.has("detached") && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(5));
    }
    let done = scene.done.lock().unwrap();
    done.clone()
}

fn scene() -> Scene {
    Scene {
        nodes: vec![MACHINE, "b", "c"],
        beats: vec!["b", "c"],
        ..Scene::default()
    }
}

fn heard(silent_ms: u64, heard: bool) -> Vec<ClientAnswer> {
    vec![ClientAnswer {
        name: MACHINE.to_owned(),
        sessions: 1,
        silent_ms,
        heard,
    }]
}

fn detached() -> Reply {
    Reply::Json(
        200,
        serde_json::to_value(AttachmentAnswer::default()).unwrap(),
    )
}

#[test]
fn a_silent_machine_is_marked_and_let_go_in_order() {
    let done = play(scene(), heard(20_000, true), detached);
    assert_eq!(done, ["marked", "released", "detached"]);
}

#[test]
fn a_machine_whose_volume_hears_it_is_left_alone() {
    assert!(play(scene(), heard(4_000, true), detached).is_empty());
}

#[test]
fn nothing_is_done_while_it_is_not_known_whether_a_volume_hears_its_machine() {
    assert!(
        play(scene(), vec![], detached).is_empty(),
        "its owner says nothing"
    );
    assert!(
        play(scene(), heard(4_000, false), detached).is_empty(),
        "a new owner has not listened for long"
    );
}

#[test]
fn nothing_is_let_go_that_is_not_fenced() {
    assert!(play(scene(), heard(20_000, true), || refusal(409, "refused")).is_empty());
}

#[test]
fn when_most_are_silent_it_is_this_process_that_is_cut_off() {
    let cut_off = Scene {
        beats: vec!["c"],
        ..scene()
    };
    assert!(play(cut_off, heard(20_000, true), detached).is_empty());
}

#[test]
fn a_machine_with_volumes_of_other_drivers_is_not_marked() {
    let foreign = Scene {
        foreign: 1,
        ..scene()
    };
    let done = play(foreign, heard(20_000, true), detached);
    assert_eq!(done, ["released", "detached"]);
}
