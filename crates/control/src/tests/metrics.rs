//! The endpoint's text: its names against the documents that rely on them, its size and time with many volumes.

use crate::metrics::render;
use api::{
    ActivityAnswer, AlertCountsAnswer, AlertKindFigures, CacheFigures, ClusterFigures,
    CollectionFigures, ComponentAnswer, ContainerFigures, DiskFigures, FiguresAnswer,
    LatencyFigures, NodeAnswer, ProcessFigures, ReductionFigures, ResiliencyAnswer, ScrubFigures,
    ServedFigures, SpaceAnswer, StoreAnswer, StoreFigures, VolumeFigures, VolumeReductionFigures,
};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// Of one scrape of a node with 1000 volumes, transfer and all.
const RENDER_MAX: Duration = Duration::from_millis(100);

fn latency() -> LatencyFigures {
    let counts = |first: u64| (first..first + 10).collect();
    LatencyFigures {
        reads: counts(1),
        writes: counts(2),
        flushes: counts(3),
    }
}

fn activity() -> ActivityAnswer {
    ActivityAnswer {
        reads: 55,
        writes: 65,
        flushes: 75,
        trims: 4,
        errors: 5,
        read_bytes: 6 << 20,
        written_bytes: 7 << 20,
        read_us: 1_500_000,
        write_us: 20,
        flush_us: 0,
    }
}

fn volume(id: u64) -> VolumeFigures {
    VolumeFigures {
        id,
        name: format!("pvc-{id:08x}-4f1c-49d7-b5b8-2f7d0c1b8a11"),
        container: "gold".to_owned(),
        size: 20 << 30,
        mapped: 5 << 30,
        served: Some(ServedFigures {
            undrained: 1 << 20,
            log_replicas: 2,
            activity: activity(),
            latency: latency(),
        }),
    }
}

/// A node that leads, with everything that there can be.
pub(super) fn figures(volumes: u64) -> FiguresAnswer {
    let one = 1;
    FiguresAnswer {
        node: "a \"quoted\" name".to_owned(),
        version: "0.1.0".to_owned(),
        process: Some(ProcessFigures {
            cpu_ms: 12_345,
            resident: 100 << 20,
        }),
        latency_bounds_us: (0..9).map(|power| 64 << (2 * power)).collect(),
        activity: activity(),
        latency: latency(),
        cache: CacheFigures {
            hits: 90,
            misses: 10,
            ..CacheFigures::default()
        },
        scrub: ScrubFigures::default(),
        stores: vec![StoreFigures {
            store: StoreAnswer {
                id: 3,
                node: 1,
                state: "ready".into(),
                used: 4096,
                ..StoreAnswer::default()
            },
            disks: vec![DiskFigures {
                reads: 1,
                micros: [70, 0, 0],
                latency: LatencyFigures {
                    reads: vec![0, 1, 0],
                    ..LatencyFigures::default()
                },
                ..DiskFigures::default()
            }],
        }],
        volumes: (1..=volumes).map(volume).collect(),
        cluster: Some(ClusterFigures {
            nodes: vec![NodeAnswer {
                name: "a \"quoted\" name".into(),
                alive: true,
                ..NodeAnswer::default()
            }],
            resiliency: ResiliencyAnswer {
                verdict: "ok".to_owned(),
                components: vec![ComponentAnswer::default(); one],
                space: vec![SpaceAnswer::default(); one],
                ..ResiliencyAnswer::default()
            },
            alerts: Some(vec![AlertKindFigures {
                kind: "space".to_owned(),
                open: AlertCountsAnswer {
                    critical: 1,
                    warning: 2,
                    info: 0,
                },
            }]),
            volumes: Some(volumes + 1),
            unserved: vec![VolumeFigures {
                name: "at-rest".to_owned(),
                served: None,
                ..volume(0)
            }],
            containers: vec![ContainerFigures {
                name: "gold".to_owned(),
                volumes: 2,
                quota: Some(1 << 40),
                ..ContainerFigures::default()
            }],
            reduction: Some(ReductionFigures::default()),
            volume_reductions: vec![VolumeReductionFigures {
                name: "alone".to_owned(),
                container: "gold".to_owned(),
                mapped: 8192,
                stored: 4096,
            }],
            collection: CollectionFigures::default(),
        }),
    }
}

/// Names of families in the text, in order.
fn families(text: &str) -> Vec<(String, String)> {
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let pair = |line: &str| {
        let (name, kind) = line.split_once(' ').unwrap();
        (name.to_owned(), kind.to_owned())
    };
    types.map(pair).collect()
}

/// Names of series that a text may ask for: those of histograms have three forms.
fn series_names(text: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for (name, kind) in families(text) {
        if kind == "histogram" {
            names.extend(["bucket", "sum", "count"].map(|end| format!("{name}_{end}")));
        } else {
            names.insert(name);
        }
    }
    names
}

/// Words of another document that are names of ours.
fn asked_for(text: &str) -> BTreeSet<String> {
    let words = text.split(|one: char| !(one.is_ascii_alphanumeric() || one == '_'));
    let ours = words.filter(|word| word.starts_with("azekura_"));
    ours.map(str::to_owned).collect()
}

fn repository(path: &str) -> String {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../../");
    std::fs::read_to_string(format!("{root}{path}")).unwrap()
}

#[test]
fn every_family_is_described_and_every_described_one_is_there() {
    let text = render(&figures(2));
    let document = repository("docs/operating/metrics.md");
    let rows = document.lines().filter_map(|line| line.strip_prefix("| `"));
    let rows = rows.filter_map(|row| {
        let mut cells = row.split('|').map(|cell| cell.trim().trim_end_matches('`'));
        let name = cells.next().filter(|name| name.starts_with("azekura_"))?;
        Some((name.to_owned(), cells.next().unwrap().to_owned()))
    });
    let described: BTreeSet<(String, String)> = rows.collect();
    let there: BTreeSet<(String, String)> = families(&text).into_iter().collect();
    assert_eq!(described, there);
    assert_eq!(there.len(), families(&text).len(), "no family comes twice");
}

#[test]
fn dashboard_and_alert_rules_ask_for_what_is_there() {
    let there = series_names(&render(&figures(2)));
    for path in [
        "deploy/monitoring/grafana-dashboard.json",
        "deploy/monitoring/prometheus-rules.yaml",
    ] {
        let text = repository(path);
        if path.ends_with(".json") {
            let dashboard: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert!(dashboard["panels"].as_array().unwrap().len() > 8);
        }
        let asked = asked_for(&text);
        assert!(asked.len() > 5, "{path} asks for {asked:?}");
        let unknown: Vec<&String> = asked.difference(&there).collect();
        assert!(unknown.is_empty(), "{path} asks for {unknown:?}");
    }
}

#[test]
fn the_text_is_well_formed() {
    let text = render(&figures(3));
    let mut family = String::new();
    let mut seen = BTreeSet::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            family = rest.split(' ').next().unwrap().to_owned();
            continue;
        }
        if line.starts_with("# HELP ") {
            continue;
        }
        let (series, value) = line.rsplit_once(' ').unwrap();
        let name = series.split('{').next().unwrap();
        let rest = name
            .strip_prefix(&family)
            .unwrap_or_else(|| panic!("{line} is not of {family}"));
        assert!(["", "_bucket", "_sum", "_count"].contains(&rest), "{line}");
        assert!(value.parse::<f64>().is_ok(), "{line}");
        assert!(seen.insert(series.to_owned()), "{series} comes twice");
    }
}

#[test]
fn histograms_are_cumulated_and_in_seconds() {
    let text = render(&figures(1));
    let labels =
        "volume=\"pvc-00000001-4f1c-49d7-b5b8-2f7d0c1b8a11\",container=\"gold\",operation=\"read\"";
    for line in [
        format!("azekura_volume_latency_seconds_bucket{{{labels},le=\"0.000064\"}} 1"),
        format!("azekura_volume_latency_seconds_bucket{{{labels},le=\"4.194304\"}} 45"),
        format!("azekura_volume_latency_seconds_bucket{{{labels},le=\"+Inf\"}} 55"),
        format!("azekura_volume_latency_seconds_sum{{{labels}}} 1.500000"),
        format!("azekura_volume_latency_seconds_count{{{labels}}} 55"),
    ] {
        assert!(
            text.lines().any(|have| have == line),
            "{line} is not in\n{text}"
        );
    }
}

#[test]
fn disks_and_containers_have_histograms_of_their_own() {
    let text = render(&figures(3));
    let disk = "store=\"3\",node=\"a \\\"quoted\\\" name\",disk=\"0\",operation=\"read\"";
    let container = "container=\"gold\",node=\"a \\\"quoted\\\" name\",operation=\"read\"";
    for line in [
        format!("azekura_disk_latency_seconds_bucket{{{disk},le=\"0.000064\"}} 0"),
        format!("azekura_disk_latency_seconds_bucket{{{disk},le=\"0.000256\"}} 1"),
        format!("azekura_disk_latency_seconds_sum{{{disk}}} 0.000070"),
        format!("azekura_disk_latency_seconds_count{{{disk}}} 1"),
        // Three volumes with 55 reads each.
        format!("azekura_container_latency_seconds_count{{{container}}} 165"),
        format!("azekura_container_latency_seconds_sum{{{container}}} 4.500000"),
        "azekura_volume_walked_bytes{volume=\"alone\",container=\"gold\"} 8192".to_owned(),
        "azekura_volume_stored_bytes{volume=\"alone\",container=\"gold\"} 4096".to_owned(),
    ] {
        assert!(
            text.lines().any(|have| have == line),
            "{line} is not in\n{text}"
        );
    }
}

#[test]
fn a_scrape_of_1000_volumes_is_quick_and_more_have_no_series_of_their_own() {
    let state = figures(1000);
    let began = Instant::now();
    let text = render(&state);
    let took = began.elapsed();
    println!(
        "1000 volumes: {} lines, {} KiB, {took:?}",
        text.lines().count(),
        text.len() >> 10
    );
    assert!(took < RENDER_MAX, "{took:?}");
    let sizes = |text: &str| {
        let lines = text.lines();
        lines
            .filter(|line| line.starts_with("azekura_volume_size_bytes{"))
            .count()
    };
    assert_eq!(sizes(&text), 1000);
    let more = render(&figures(1500));
    assert_eq!(sizes(&more), 1000);
    let hidden = "azekura_node_volumes_not_shown{node=\"a \\\"quoted\\\" name\"} 500";
    assert!(more.lines().any(|line| line == hidden));
}

#[test]
fn a_node_that_does_not_lead_says_nothing_for_all() {
    let mut state = figures(2);
    state.cluster = None;
    let text = render(&state);
    for name in [
        "azekura_verdict",
        "azekura_node_alive",
        "azekura_volumes",
        "at-rest",
    ] {
        assert!(
            !asked_for(&text).contains(name) && !text.contains("at-rest"),
            "{name}"
        );
    }
}
