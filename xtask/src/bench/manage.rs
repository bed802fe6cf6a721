//! `cargo xtask bench --manage`: what the API, the metrics and the pages take with 1,000 and with 10,000 volumes on three nodes.

mod results;

use super::idle::{self, Idle};
use super::request::Request;
use super::{FOLDER, stage, usage};
use crate::cluster::{self, Cluster, Node, Plan};
use crate::packages::{self, need};
use crate::process::{find_program, stream};
use crate::{rest, ui};
use anyhow::{Context, Result, ensure};
pub use results::{Results, Step, Times, markdown};
use serde_json::json;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// Volumes at each step.
const STEPS: [usize; 2] = [1000, 10_000];
/// And with `--quick`.
const STEPS_QUICK: [usize; 1] = [1000];
/// Size of each volume; nothing is written to them.
const VOLUME_BYTES: u64 = 1 << 30;
/// Size of each disk's file, of which next to nothing is written: there is room on it to note so many volumes.
const DISK_BYTES: u64 = 64 << 30;
/// Requests at a time while volumes are made.
const MAKERS: usize = 8;
/// How often each request is made.
const REQUESTS: usize = 51;
/// The user that the browser logs in as.
const USER: &str = "browser";
/// Requests that are measured: what it is called, and the path.
const ASKED: [(&str, &str); 6] = [
    ("the first 100 volumes", "/api/v1/volumes?limit=100"),
    ("a later page of 100", "/api/v1/volumes?limit=100&after=500"),
    ("all volumes", "/api/v1/volumes"),
    ("one volume", "/api/v1/volumes/many-00042"),
    ("the cluster's state", "/api/v1/status"),
    ("a scrape of the metrics", "/metrics"),
];

/// Measures, and writes the results.
pub fn run(request: &Request) -> Result<()> {
    ensure!(
        ui::available(),
        "the browser is driven by Node.js 20.19 or newer and npm: install them"
    );
    let needs = [need("chromium", "chromium"), need("etcd", "etcd-server")];
    let missing = packages::ensure(&needs);
    ensure!(missing.is_empty(), "{} is missing", missing.join(", "));
    // The binary takes the pages in.
    let pages = ui::check()?;
    ensure!(pages.failed == 0, "the pages have faults: see above");
    let binary = cluster::binary(request.binary.as_deref())?;
    stage("disks and processes");
    let plan = Plan {
        folder: request.folder.clone(),
        nodes: 3,
        disks: 3,
        disk_bytes: DISK_BYTES,
        etcd: true,
        prewritten: false,
        sparse: true,
        bench: false,
        tokens: true,
        tls: false,
        detached: false,
        given_disks: Vec::new(),
        network: None,
    };
    let cluster = Cluster::start(binary, plan)?;
    let results = measure(&cluster, request)?;
    cluster.remove()?;
    write(&results)
}

fn measure(cluster: &Cluster, request: &Request) -> Result<Results> {
    let api = cluster.any_api().context("no node runs")?;
    rest::post(api, "/containers", &json!({"name": "rf2", "rf": 2}))?;
    let password = ui::password()?;
    let user = json!({"name": USER, "role": "viewer", "password": password});
    rest::post(api, "/users", &user)?;
    cluster.wait_verdict("ok", Duration::from_secs(60))?;
    let mut results = Results {
        machine: usage::machine(&cluster.folder),
        empty: idle::watch(cluster, "without volumes", request.idle()),
        steps: Vec::new(),
    };
    let steps = if request.quick {
        &STEPS_QUICK[..]
    } else {
        &STEPS
    };
    let mut made = 0;
    for &volumes in steps {
        stage(&format!("{volumes} volumes"));
        let took = make(cluster, made..volumes)?;
        let created_per_second = (volumes - made) as f64 / took.as_secs_f64();
        made = volumes;
        let idle = idle::watch(cluster, "nobody looks", request.idle());
        let answers = ask(cluster)?;
        let (pages, open) = browse(cluster, &password, volumes, request)?;
        results.steps.push(Step {
            volumes,
            created_per_second,
            idle,
            open,
            answers,
            pages,
        });
    }
    Ok(results)
}

/// Makes volumes, several at a time, spread over the nodes.
fn make(cluster: &Cluster, numbers: std::ops::Range<usize>) -> Result<Duration> {
    let began = Instant::now();
    let next = AtomicUsize::new(numbers.start);
    let maker = |node: &Node| -> Result<()> {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= numbers.end {
                return Ok(());
            }
            let body = json!({"name": name(number), "container": "rf2", "size": VOLUME_BYTES});
            rest::post(&node.api, "/volumes", &body)?;
        }
    };
    std::thread::scope(|scope| {
        let makers = (0..MAKERS).map(|index| {
            let node = &cluster.nodes[index % cluster.nodes.len()];
            scope.spawn(move || maker(node))
        });
        let makers: Vec<_> = makers.collect();
        for maker in makers {
            let made = maker.join();
            made.map_err(|_| anyhow::anyhow!("a thread that made volumes ended"))??;
        }
        Ok::<(), anyhow::Error>(())
    })?;
    let took = began.elapsed();
    println!(
        "    {} volumes made in {:.1} s",
        numbers.len(),
        took.as_secs_f64()
    );
    Ok(took)
}

fn name(number: usize) -> String {
    format!("many-{number:05}")
}

/// Each request, again and again, at the node that answers everything else as well.
fn ask(cluster: &Cluster) -> Result<Vec<Times>> {
    let api = cluster.any_api().context("no node runs")?;
    let mut answers = Vec::new();
    for (what, path) in ASKED {
        let (mut milliseconds, mut bytes) = (Vec::new(), 0);
        for turn in 0..=REQUESTS {
            let began = Instant::now();
            let text = rest::fetch(api, path)?;
            let took = began.elapsed();
            // The first one may fill a cache.
            if turn > 0 {
                milliseconds.push(took.as_secs_f64() * 1000.0);
            }
            bytes = text.len();
        }
        let times = Times::of(what, &milliseconds, bytes as u64);
        println!("    {}", times.text());
        answers.push(times);
    }
    Ok(answers)
}

/// Pages in a real browser, and what the nodes use while the home page is open.
fn browse(
    cluster: &Cluster,
    password: &str,
    volumes: usize,
    request: &Request,
) -> Result<(Vec<Times>, Idle)> {
    let urls: Vec<String> = cluster.nodes.iter().map(|node| node.api.url()).collect();
    let chromium = find_program("chromium").context("chromium is missing")?;
    let stay = request.idle() + Duration::from_secs(6);
    let mut command = Command::new("node");
    command
        .current_dir(ui::FOLDER)
        .arg("browser/many.mjs")
        .env("AZEKURA_URLS", urls.join(","))
        .env("AZEKURA_USER", USER)
        .env("AZEKURA_PASSWORD", password)
        .env("AZEKURA_CHROMIUM", chromium)
        .env("AZEKURA_LAST", name(volumes - 1))
        .env("AZEKURA_RUNS", request.runs.max(5).to_string())
        .env("AZEKURA_STAY_MS", stay.as_millis().to_string());
    let (staying, stays) = mpsc::channel();
    let staying = std::sync::Mutex::new(Some(staying));
    std::thread::scope(|scope| {
        let browser = scope.spawn(|| {
            let said = stream(&mut command, |line| {
                if line == "staying"
                    && let Ok(mut staying) = staying.lock()
                    && let Some(staying) = staying.take()
                {
                    let _ = staying.send(());
                }
                line.starts_with("page: ")
            });
            // Nobody waits for a browser that has failed.
            drop(staying.lock().map(|mut staying| staying.take()));
            said
        });
        let open = match stays.recv() {
            Ok(()) => Some(idle::watch(
                cluster,
                "the home page is open",
                request.idle(),
            )),
            Err(_) => None,
        };
        let said = browser.join();
        let (fine, lines) = said.map_err(|_| anyhow::anyhow!("the browser's thread ended"))??;
        ensure!(fine, "the browser's script failed: see above");
        let pages: Vec<Times> = lines.iter().filter_map(|line| Times::read(line)).collect();
        ensure!(
            pages.len() == 4,
            "the browser measured {} of 4",
            pages.len()
        );
        Ok((pages, open.context("the page did not stay open")?))
    })
}

fn write(results: &Results) -> Result<()> {
    fs::create_dir_all(FOLDER)?;
    let json = serde_json::to_string_pretty(results)?;
    fs::write(Path::new(FOLDER).join("manage.json"), json)?;
    let text = markdown(results);
    fs::write(Path::new(FOLDER).join("manage.md"), &text)?;
    println!("\n{text}");
    Ok(())
}
