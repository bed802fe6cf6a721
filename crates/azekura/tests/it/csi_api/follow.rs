//! When pods of a silent machine are let go, and above all when they are not: an API and an orchestrator that say what a test wants.

use super::fake::{Asked, Fake, Reply, cluster, refusal};
use api::{AttachmentAnswer, ClientAnswer, VolumeAnswer};
use csi::ApiOptions;
use csi::follow::follow;
use csi::follow::{Attachment, FollowOptions, Load, Mark, Orchestrator, Pod, Unanswered, Worker};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// The machine that the volumes are attached to. Volume N is used by pod `db-N` alone.
const MACHINE: &str = "a";
/// Long after everything that follows from a silence has been done.
const LONG: Duration = Duration::from_millis(600);

/// An orchestrator whose nodes are all silent, but for those that `beats` names.
#[derive(Clone, Default)]
struct Scene {
    nodes: Vec<&'static str>,
    beats: Vec<&'static str>,
    foreign: usize,
    /// How many volumes are attached to the machine, from 1 on.
    volumes: u64,
    /// Those of them that are in quarantine, so that nobody serves them.
    mute: BTreeSet<u64>,
    /// What was done, in order.
    done: Arc<Mutex<Vec<String>>>,
    /// What was told of the machine.
    told: Arc<Mutex<Vec<String>>>,
    /// The volumes that have been taken from the machine.
    fenced: Arc<Mutex<BTreeSet<u64>>>,
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
        // Noted, not asserted: this runs in a thread that nobody waits for.
        if worker != MACHINE {
            self.note(format!("looked at {worker}, which is not silent"))?;
        }
        let pod = |volume: u64| Pod {
            namespace: "shop".to_owned(),
            name: format!("db-{volume}"),
            uid: volume.to_string(),
            volumes: vec![Some(handle(volume))],
        };
        let attachment = |volume: u64| Attachment {
            name: format!("va-{volume}"),
            volume: Some(handle(volume)),
        };
        let there = |what: &str, volume: &u64| !self.has(&format!("{what} {volume}"));
        let all = 1..=self.volumes;
        let attached = all.clone().filter(|volume| there("detached", volume));
        Ok(Load {
            attachments: attached.map(attachment).collect(),
            pods: all
                .filter(|volume| there("released", volume))
                .map(pod)
                .collect(),
            foreign: self.foreign,
        })
    }

    fn mark(&self, _: &str, out_of_service: bool) -> Result<bool, Unanswered> {
        self.note(if out_of_service { "marked" } else { "unmarked" }.to_owned())?;
        Ok(true)
    }

    fn release(&self, pod: &Pod) -> Result<(), Unanswered> {
        let volume: u64 = pod.uid.parse().unwrap();
        let fenced = self.fenced.lock().unwrap().contains(&volume);
        match fenced {
            true => self.note(format!("released {volume}")),
            false => self.note(format!("released {volume} before it was fenced")),
        }
    }

    fn detach(&self, attachment: &str) -> Result<(), Unanswered> {
        self.note(format!("detached {}", attachment.replace("va-", "")))
    }

    fn tell(&self, _: &str, reason: &str, _: &str) {
        self.told.lock().unwrap().push(reason.to_owned());
    }
}

fn handle(volume: u64) -> String {
    format!("fake-v{volume}")
}

/// Waits until something is so, for less time than it takes to give one volume up.
fn eventually(is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(8);
    while !is_so() {
        assert!(Instant::now() < deadline, "it has not happened");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The volume that a path of the API is about.
fn volume_of(path: &str) -> Option<u64> {
    let rest = path.strip_prefix("/api/v1/volumes/volume-")?;
    rest.trim_end_matches("/detach").parse().ok()
}

/// Plays a scene in which the volumes say `clients` of the machine, and detaching one is answered by `detach`; what was done.
fn play(scene: Scene, clients: Vec<ClientAnswer>, detach: fn(u64) -> Reply) -> Vec<String> {
    let (fenced, count) = (scene.fenced.clone(), scene.volumes);
    let (mute, all_served) = (scene.mute.clone(), scene.mute.is_empty());
    let fake = Fake::start(move |asked: &Asked| {
        let volume = |id: u64| {
            let attached = !fenced.lock().unwrap().contains(&id);
            let volume = VolumeAnswer {
                id,
                name: format!("v{id}"),
                owner: Some(1),
                clients: match mute.contains(&id) {
                    true => Vec::new(),
                    false => clients.clone(),
                },
                quarantine_until_ms: mute.contains(&id).then_some(1),
                attachment: AttachmentAnswer {
                    clients: attached.then(|| MACHINE.to_owned()).into_iter().collect(),
                    ..AttachmentAnswer::default()
                },
                ..VolumeAnswer::default()
            };
            serde_json::to_value(volume).unwrap()
        };
        match (asked.path.as_str(), volume_of(&asked.path)) {
            ("/api/v1/cluster", _) => cluster(),
            (path, Some(id)) if path.ends_with("/detach") => {
                let reply = detach(id);
                if matches!(reply, Reply::Json(200, _)) {
                    fenced.lock().unwrap().insert(id);
                }
                reply
            }
            (_, Some(id)) => Reply::Json(200, volume(id)),
            (path, _) if path.starts_with("/api/v1/volumes?") => {
                let all: Vec<_> = (1..=count).map(volume).collect();
                Reply::Json(200, serde_json::json!(all))
            }
            _ => refusal(404, "not-found"),
        }
    });
    let options = FollowOptions {
        lost_after: Duration::from_millis(50),
        silent_after: Duration::from_secs(if all_served { 15 } else { 1 }),
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
    let all_gone = || (1..=count).all(|volume| scene.has(&format!("detached {volume}")));
    while !all_gone() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(5));
    }
    let done = scene.done.lock().unwrap();
    done.clone()
}

fn scene() -> Scene {
    Scene {
        nodes: vec![MACHINE, "b", "c"],
        beats: vec!["b", "c"],
        volumes: 1,
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

fn detached(_: u64) -> Reply {
    Reply::Json(
        200,
        serde_json::to_value(AttachmentAnswer::default()).unwrap(),
    )
}

#[test]
fn a_silent_machine_is_marked_and_let_go_in_order() {
    let done = play(scene(), heard(20_000, true), detached);
    assert_eq!(done, ["marked", "released 1", "detached 1"]);
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
    let refused = |_: u64| refusal(409, "refused");
    assert!(play(scene(), heard(20_000, true), refused).is_empty());

    // One of two is fenced: what uses that alone goes, and the machine is not marked for the sake of the other one.
    let two = Scene {
        volumes: 2,
        ..scene()
    };
    let second = |volume: u64| match volume {
        1 => refusal(409, "refused"),
        _ => detached(volume),
    };
    play(two.clone(), heard(20_000, true), second);
    eventually(|| two.has("detached 2"));
    let done = two.done.lock().unwrap().clone();
    assert_eq!(done, ["released 2", "detached 2"]);
    let told = two.told.lock().unwrap().clone();
    assert_eq!(told, ["AzekuraFenced", "AzekuraNotFenced"], "each once");
}

#[test]
fn a_fence_that_another_process_has_begun_is_waited_for() {
    // The volume is attached to nobody any more, and its owner still waits for the end of what runs.
    let begun = Scene {
        fenced: Arc::new(Mutex::new([1].into())),
        ..scene()
    };
    let running = |_: u64| refusal(409, "refused");
    assert!(play(begun.clone(), heard(20_000, true), running).is_empty());
    let told = begun.told.lock().unwrap().clone();
    assert_eq!(told, ["AzekuraNotFenced"]);

    let begun = Scene {
        fenced: Arc::new(Mutex::new([1].into())),
        ..scene()
    };
    let done = play(begun, heard(20_000, true), detached);
    assert_eq!(done, ["marked", "released 1", "detached 1"]);
}

#[test]
fn a_volume_that_nobody_can_open_is_neither_waited_for_nor_asked_for() {
    let one_mute = Scene {
        volumes: 2,
        mute: [1].into(),
        ..scene()
    };
    play(one_mute.clone(), heard(20_000, true), detached);
    eventually(|| one_mute.has("detached 2"));
    let done = one_mute.done.lock().unwrap().clone();
    assert_eq!(done, ["released 2", "detached 2"]);
    assert_eq!(*one_mute.fenced.lock().unwrap(), BTreeSet::from([2]));
}

#[test]
fn volumes_that_wait_for_a_fence_do_not_keep_others_waiting() {
    // More of them than can be given up one after the other in the time of one round.
    let many = Scene {
        volumes: 4,
        ..scene()
    };
    let last = |volume: u64| match volume {
        4 => detached(volume),
        _ => refusal(503, "unavailable"),
    };
    // The first round ends when these are given up; the last one is fenced long before that.
    play(many.clone(), heard(20_000, true), last);
    eventually(|| *many.fenced.lock().unwrap() == BTreeSet::from([4]));
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
    assert_eq!(done, ["released 1", "detached 1"]);
}
