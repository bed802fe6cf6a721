//! The cluster's state as Prometheus text (exposition format 0.0.4).
//!
//! Gauges are read from one status answer per scrape, so that nothing is counted twice or goes stale. At
//! most [`VOLUMES_MAX`] volumes get series of their own.

use api::{ComponentAnswer, ResiliencyAnswer, SpaceAnswer, StatusAnswer};
use std::fmt::Write;

/// Volumes with series of their own: 1000 volumes make 4000 lines, about 300 KiB a scrape.
const VOLUMES_MAX: usize = 1000;

type Series = (String, u64);

/// `status` as text.
pub(crate) fn render(status: &StatusAnswer) -> String {
    let mut out = String::new();
    nodes(&mut out, status);
    stores(&mut out, status);
    resiliency(&mut out, &status.resiliency);
    volumes(&mut out, status);
    out
}

/// What the verdict rests on. Labels are bounded: three copies, three parts, three domains.
fn resiliency(out: &mut String, answer: &ResiliencyAnswer) {
    let verdict = ["ok", "degraded", "critical"].map(|verdict| {
        let labels = format!("verdict=\"{verdict}\"");
        (labels, u64::from(answer.verdict == verdict))
    });
    let help = "Which verdict holds now.";
    metric(out, "azekura_verdict", "gauge", help, verdict.into_iter());
    type Part = fn(&ComponentAnswer) -> u64;
    let fields: [(&str, &str, Part); 2] = [
        (
            "azekura_component_tolerates",
            "Failure domains of a part that may be lost now.",
            |part| u64::from(part.tolerates),
        ),
        (
            "azekura_component_ok",
            "Whether nothing is wrong with the part.",
            |part| u64::from(part.state == "ok"),
        ),
    ];
    for (name, help, field) in fields {
        let series = answer.components.iter().map(|part| {
            let rf = part.rf.map_or_else(String::new, |rf| rf.to_string());
            let labels = format!(
                "component=\"{}\",domain=\"{}\",rf=\"{rf}\"",
                part.component, part.domain
            );
            (labels, field(part))
        });
        metric(out, name, "gauge", help, series);
    }
    let one = |value: u64| std::iter::once((String::new(), value));
    let help = "Members of groups that are being filled.";
    metric(
        out,
        "azekura_repair_filling",
        "gauge",
        help,
        one(u64::from(answer.repair.filling)),
    );
    let eta = answer.repair.eta_seconds.map(|eta| (String::new(), eta));
    let help = "Seconds until the last is filled, when that can be told.";
    metric(
        out,
        "azekura_repair_eta_seconds",
        "gauge",
        help,
        eta.into_iter(),
    );
    space(out, answer);
}

fn space(out: &mut String, answer: &ResiliencyAnswer) {
    type Field = fn(&SpaceAnswer) -> Option<u64>;
    let fields: [(&str, &str, Field); 4] = [
        (
            "azekura_space_warning",
            "Whether the space for so many copies runs out.",
            |space| Some(u64::from(space.state != "ok")),
        ),
        (
            "azekura_space_protected",
            "Whether new data with so many copies is refused.",
            |space| Some(u64::from(space.state == "protected")),
        ),
        (
            "azekura_space_fill_percent",
            "Percent in use of what clients may fill, where there is most room.",
            |space| Some(space.fill_percent),
        ),
        (
            "azekura_space_resilient_percent",
            "Percent in use of the resilient capacity.",
            |space| space.resilient_percent,
        ),
    ];
    for (name, help, field) in fields {
        let spaces = answer.space.iter();
        let series =
            spaces.filter_map(|space| Some((format!("rf=\"{}\"", space.rf), field(space)?)));
        metric(out, name, "gauge", help, series);
    }
}

fn nodes(out: &mut String, status: &StatusAnswer) {
    let alive = status.nodes.iter().map(|node| {
        let labels = format!("node=\"{}\"", escape(&node.name));
        (labels, u64::from(node.alive))
    });
    metric(
        out,
        "azekura_node_alive",
        "gauge",
        "Whether the node's lease lives.",
        alive,
    );
}

fn stores(out: &mut String, status: &StatusAnswer) {
    type Field = fn(&api::StoreAnswer) -> u64;
    let fields: [(&str, &str, &str, Field); 8] = [
        (
            "azekura_store_ready",
            "gauge",
            "Whether the store serves without restriction.",
            |store| u64::from(store.state == "ready"),
        ),
        (
            "azekura_store_capacity_bytes",
            "gauge",
            "Bytes for extents.",
            |store| store.capacity,
        ),
        (
            "azekura_store_used_bytes",
            "gauge",
            "Bytes that extents occupy.",
            |store| store.used,
        ),
        (
            "azekura_store_journal_capacity_bytes",
            "gauge",
            "Size of the journal ring.",
            |store| store.journal_capacity,
        ),
        (
            "azekura_store_journal_used_bytes",
            "gauge",
            "Journal bytes still needed.",
            |store| store.journal_used,
        ),
        (
            "azekura_store_extents",
            "gauge",
            "Number of extents.",
            |store| store.extents,
        ),
        (
            "azekura_store_written_bytes_total",
            "counter",
            "Bytes written to the disks.",
            |store| store.written,
        ),
        (
            "azekura_store_flushes_total",
            "counter",
            "Device flushes.",
            |store| store.flushes,
        ),
    ];
    for (name, kind, help, field) in fields {
        let series = status.stores.iter().map(|store| {
            let labels = format!("store=\"{}\",node=\"{}\"", store.id, store.node);
            (labels, field(store))
        });
        metric(out, name, kind, help, series);
    }
}

fn volumes(out: &mut String, status: &StatusAnswer) {
    let count = status.volumes.len() as u64;
    metric(
        out,
        "azekura_volumes",
        "gauge",
        "Number of volumes.",
        std::iter::once((String::new(), count)),
    );
    type Field = fn(&api::VolumeAnswer) -> u64;
    let fields: [(&str, &str, Field); 4] = [
        (
            "azekura_volume_size_bytes",
            "Size of the volume.",
            |volume| volume.size,
        ),
        ("azekura_volume_mapped_bytes", "Bytes mapped.", |volume| {
            volume.mapped
        }),
        (
            "azekura_volume_undrained_bytes",
            "Bytes in the log only.",
            |volume| volume.undrained.unwrap_or(0),
        ),
        (
            "azekura_volume_log_replicas",
            "Copies of the open log segment.",
            |volume| volume.log.len() as u64,
        ),
    ];
    for (name, help, field) in fields {
        let series = status.volumes.iter().take(VOLUMES_MAX).map(|volume| {
            let labels = format!("volume=\"{}\"", escape(&volume.name));
            (labels, field(volume))
        });
        metric(out, name, "gauge", help, series);
    }
}

fn metric(
    out: &mut String,
    name: &str,
    kind: &str,
    help: &str,
    series: impl Iterator<Item = Series>,
) {
    const NEVER: &str = "writing to a String cannot fail";
    write!(out, "# HELP {name} {help}\n# TYPE {name} {kind}\n").expect(NEVER);
    for (labels, value) in series {
        match labels.is_empty() {
            true => writeln!(out, "{name} {value}").expect(NEVER),
            false => writeln!(out, "{name}{{{labels}}} {value}").expect(NEVER),
        }
    }
}

fn escape(label: &str) -> String {
    label
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}
